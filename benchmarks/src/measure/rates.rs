//! Operations per second, how long each takes, and what it costs: one at a time, or many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::histogram::Histogram;
use crate::measure::Work;
use crate::meter::{Figures, Moment};

/// Allocations are counted over so many operations, if there is time for them: to count takes twenty by itself.
const COUNTED: u64 = 20_000;

/// Does `work` again and again, alone.
pub(super) async fn alone<C: Client>(
    server: &mut Server,
    duration: Duration,
    mut work: Work<C>,
) -> Result<Figures> {
    let warm = Instant::now() + duration / 5;
    while Instant::now() < warm {
        work.run().await?;
    }
    let mut times = Histogram::new();
    let mut operations = 0;
    let begun = Moment::now(server)?;
    let mut last = Instant::now();
    let end = last + duration;
    while last < end {
        work.run().await?;
        let now = Instant::now();
        times.add(now - last);
        last = now;
        operations += work.weight();
    }
    let ended = Moment::now(server)?;
    let mut figures = Figures::new();
    ended.since(begun, operations, &mut figures);
    times.describe(work.steps(), &mut figures);

    let (mut counted, until) = (0, Instant::now() + duration / 2);
    server.count(true)?;
    let begun = Moment::now(server)?;
    while counted == 0 || (counted < COUNTED && Instant::now() < until) {
        work.run().await?;
        counted += work.weight();
    }
    Moment::now(server)?.allocated(begun, counted, &mut figures);
    server.count(false)?;
    Ok(figures)
}

/// What the callers of [`at_once`] do at the moment.
#[repr(u8)]
enum Phase {
    WarmUp,
    Timed,
    Counted,
    Over,
}

/// Does `work` that many times at once, each in a task of its own.
pub(super) async fn at_once<C: Client>(
    server: &mut Server,
    duration: Duration,
    number: usize,
    mut work: Work<C>,
) -> Result<Figures> {
    /// Every so many operations are timed: reading the clock costs as much as a tenth of one.
    const SAMPLE: u64 = 16;

    let phase = Arc::new(AtomicU8::new(Phase::WarmUp as u8));
    let mut callers = Vec::with_capacity(number);
    for _ in 0..number {
        let (phase, mut work) = (Arc::clone(&phase), work.another().await?);
        callers.push(tokio::spawn(async move {
            let (mut times, mut operations) = (Histogram::new(), [0; 3]);
            for turn in 0_u64.. {
                let started = turn.is_multiple_of(SAMPLE).then(Instant::now);
                work.run().await?;
                let phase = phase.load(Ordering::Relaxed);
                if phase == Phase::Over as u8 {
                    break;
                }
                operations[usize::from(phase)] += 1;
                if let Some(started) = started.filter(|_| phase == Phase::Timed as u8) {
                    times.add(started.elapsed());
                }
            }
            Result::Ok((times, operations))
        }));
    }
    let enter = |next: Phase| phase.store(next as u8, Ordering::Relaxed);
    tokio::time::sleep(duration / 5).await;
    let begun = Moment::now(server)?;
    enter(Phase::Timed);
    tokio::time::sleep(duration).await;
    let ended = Moment::now(server)?;
    server.count(true)?;
    let counted_from = Moment::now(server)?;
    enter(Phase::Counted);
    tokio::time::sleep(duration / 20).await;
    let counted_to = Moment::now(server)?;
    enter(Phase::Over);
    server.count(false)?;

    let (mut times, mut operations) = (Histogram::new(), [0; 3]);
    for caller in callers {
        let (its_times, its_operations) = caller.await??;
        times.merge(&its_times);
        for (sum, its) in operations.iter_mut().zip(its_operations) {
            *sum += its;
        }
    }
    let mut figures = Figures::new();
    ended.since(begun, operations[Phase::Timed as usize], &mut figures);
    counted_to.allocated(counted_from, operations[Phase::Counted as usize], &mut figures);
    times.describe(1, &mut figures);
    Ok(figures)
}
