//! How long empty calls take while a large transfer goes on over the same connection, and what they leave of its speed.

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
    let alone = speed(&mut sender, |since| since >= duration / 2).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let transfers = tokio::spawn(async move { speed(&mut sender, |_| until.load(Ordering::Relaxed)).await });
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
    let transfer = transfers.await??;
    let mut figures = Figures::new();
    ended.since(begun, calls, &mut figures);
    times.describe(1, &mut figures);
    figures.insert("max".into(), most.as_secs_f64() * 1e6);
    figures.insert("transfer".into(), transfer);
    figures.insert("alone".into(), alone);
    figures.insert("share".into(), transfer / alone);
    Ok(figures)
}

/// Megabytes per second of transfers one after another, until it is enough: told how long they have gone on.
async fn speed<C: Client>(sender: &mut C, is_enough: impl Fn(Duration) -> bool) -> Result<f64> {
    let (started, mut bytes) = (Instant::now(), 0);
    while bytes == 0 || !is_enough(started.elapsed()) {
        sender.upload(TRANSFER).await?;
        bytes += TRANSFER;
    }
    Ok(bytes as f64 / started.elapsed().as_secs_f64() / 1e6)
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
