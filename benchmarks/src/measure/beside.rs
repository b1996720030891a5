//! How long empty calls take while a large transfer goes on over the same connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::histogram::Histogram;
use crate::meter::{Figures, Moment};
use crate::workload::TRANSFER;

/// A call is due every so often. It is timed from then, also if the one before it was not back yet.
const EVERY: Duration = Duration::from_millis(1);

pub(super) async fn beside<C: Client>(
    mut client: C,
    duration: Duration,
    server: &mut Server,
) -> Result<Figures> {
    for _ in 0..100 {
        client.null().await?;
    }
    let mut sender = client.another().await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let transfers = tokio::spawn(async move {
        let (started, mut bytes) = (Instant::now(), 0);
        while bytes == 0 || !until.load(Ordering::Relaxed) {
            sender.upload(TRANSFER).await?;
            bytes += TRANSFER;
        }
        Result::Ok((bytes, started.elapsed()))
    });
    let mut times = Histogram::new();
    let (mut calls, mut most) = (0, Duration::ZERO);
    let begun = Moment::now(server)?;
    let (started, mut timetable) = (Instant::now(), timetable());
    // At least as long as one transfer takes.
    while started.elapsed() < duration || !transfers.is_finished() {
        is_over.store(started.elapsed() >= duration, Ordering::Relaxed);
        let due = timetable.recv().await.ok_or("there is no timetable")?;
        client.null().await?;
        let time = due.elapsed();
        times.add(time);
        most = most.max(time);
        calls += 1;
    }
    let ended = Moment::now(server)?;
    let (bytes, took) = transfers.await??;
    let mut figures = Figures::new();
    ended.since(begun, calls, &mut figures);
    times.describe(1, &mut figures);
    figures.insert("max".into(), most.as_secs_f64() * 1e6);
    figures.insert("transfer".into(), bytes as f64 / took.as_secs_f64() / 1e6);
    Ok(figures)
}

/// When calls are due, told in time. Timers of the runtime would be late by up to a millisecond.
fn timetable() -> UnboundedReceiver<Instant> {
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        let mut due = Instant::now();
        while tell.send(due).is_ok() {
            due += EVERY;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    told
}
