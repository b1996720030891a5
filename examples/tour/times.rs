//! The last chapter: how long calls take, over each medium.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::{Netref, Result};
use tokio::sync::oneshot;

use crate::screen::Screen;
use crate::stage::Stage;
use crate::wires::Wire;
use crate::workshop::{Sheet, Workshop};

/// How long each figure is measured for.
const TIME: Duration = Duration::from_millis(250);

/// Calls that are under way at once.
const IN_FLIGHT: u32 = 256;

/// Bytes that are sent there and back, and how many on a line of 92 kB/s.
const BODY: usize = 1 << 20;
const SMALL_BODY: usize = 16 << 10;

pub(crate) async fn chapter(
    screen: &Screen,
    stages: &[Stage],
    wires: &[Wire],
    absent: &[String],
) -> Result<()> {
    screen.chapter("Times")?;
    let mut table = format!(
        "{:<10}{:>14}{:>16}{:>18}{:>16}",
        "medium", "async call", "blocking call", "256 in flight", "echo"
    );
    let joined = stages.iter().map(|stage| (stage.medium(), &stage.workshop));
    let wired = wires.iter().map(|wire| (wire.medium, &wire.workshop));
    for (medium, workshop) in joined.chain(wired) {
        let bytes = if medium == "serial" { SMALL_BODY } else { BODY };
        let [alone, blocking, together, echo] = measure(workshop, bytes).await?;
        let rate = 2.0 * bytes as f64 / echo.as_secs_f64() / 1e6;
        table.push_str(&format!(
            "\n{medium:<10}{:>14}{:>16}{:>18}{:>16}",
            text(alone),
            text(blocking),
            format!("{} each", text(together)),
            if rate < 10.0 {
                format!("{rate:.2} MB/s")
            } else {
                format!("{rate:.0} MB/s")
            },
        ));
    }
    screen.block(table)?;
    for sentence in absent {
        screen.fact("not shown", sentence)?;
    }
    let here = here()?;
    screen.say(
        "Round trips between the two processes: the median of those that fit into a quarter of a second.",
    )?;
    screen.say(format!(
        "A call of a local object through the same kind of netref takes {here:.1} ns."
    ))?;
    if cfg!(debug_assertions) {
        screen.say("This is a debug build: `cargo run --release --example tour` shows what it can do.")?;
    }
    Ok(())
}

/// An awaited call, a blocking one, one of many at once, and one with a large body.
async fn measure(workshop: &Netref<dyn Workshop>, bytes: usize) -> Result<[Duration; 4]> {
    let alone = median(|| workshop.call().nothing()).await?;

    let (send, blocking) = oneshot::channel();
    let on_thread = workshop.clone();
    std::thread::spawn(move || send.send(blocking_median(&on_thread)));
    let blocking = blocking.await??;

    let together = median(|| {
        let calls: Vec<_> = (0..IN_FLIGHT)
            .map(|_| workshop.call().nothing().start())
            .collect();
        async {
            for call in calls {
                call.await?;
            }
            Ok(())
        }
    })
    .await?;

    let body = Bytes::from(vec![7; bytes]);
    let echo = median(|| workshop.call().echo(body.clone())).await?;
    Ok([alone, blocking, together / IN_FLIGHT, echo])
}

/// The median of how long `run` takes.
async fn median<T, F: Future<Output = Result<T>>>(run: impl Fn() -> F) -> Result<Duration> {
    run().await?; // to warm up
    let mut times = Times::default();
    while times.go_on() {
        let start = Instant::now();
        run().await?;
        times.add(start);
    }
    Ok(times.median())
}

/// The same of a blocking call, from a thread of no runtime.
fn blocking_median(workshop: &Netref<dyn Workshop>) -> Result<Duration> {
    workshop.blocking().nothing()?;
    let mut times = Times::default();
    while times.go_on() {
        let start = Instant::now();
        workshop.blocking().nothing()?;
        times.add(start);
    }
    Ok(times.median())
}

/// How long a call of a local object takes, in nanoseconds.
fn here() -> Result<f64> {
    const CALLS: u32 = 1_000_000;
    let local: Netref<dyn Sheet> = Netref::of(Blank);
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(&local).text()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS))
}

/// A local object.
struct Blank;

impl Sheet for Blank {
    fn text(&self) -> Result<String> {
        Ok(String::new())
    }
}

#[derive(Default)]
struct Times {
    all: Vec<Duration>,
    sum: Duration,
}

impl Times {
    fn go_on(&self) -> bool {
        self.sum < TIME
    }

    fn add(&mut self, start: Instant) {
        let time = start.elapsed();
        self.sum += time;
        self.all.push(time);
    }

    fn median(mut self) -> Duration {
        self.all.sort_unstable();
        self.all.get(self.all.len() / 2).copied().unwrap_or_default()
    }
}

fn text(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{:.1} ms", micros / 1e3)
    }
}
