//! `farref ping`: is it there, and how far away.

use std::time::{Duration, Instant};

use clap::Args;
use farref::Value;

use crate::context::{Global, duration, name_of};
use crate::failure::{Code, Failure, Outcome};
use crate::interrupts::Interrupts;
use crate::output::{Out, map, time};

/// Ask a peer for signs of life, and measure the round trips.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref ping tcp://rig7:7000
  farref ping -c 100 -i 10ms serial:/dev/ttyUSB0?baud=921600
  farref ping -c 1 -q tcp://rig7:7000 && echo up
  farref ping --json tcp://rig7:7000 | jq .rtt_us")]
pub(crate) struct Ping {
    /// Where to dial
    address: String,
    /// How often
    #[arg(short, long, default_value_t = 4)]
    count: u32,
    /// From one to the next
    #[arg(short, long, default_value = "1s", value_parser = duration)]
    interval: Duration,
}

impl Ping {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let start = Instant::now();
        let connection = global.connect(&self.address).await?;
        let connecting = start.elapsed();
        // Whoever has read that it answers may end it.
        let mut interrupts = Interrupts::listen()?;
        let mut out = Out::new(global);
        let name = name_of(&connection.peer());
        out.note(&format!("{name} answers after {}", time(connecting)))?;
        out.flush()?;
        let mut times = Vec::new();
        let mut ticks = tokio::time::interval(self.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ended = None;
        for number in 1..=self.count {
            // Both can be given up: nothing is lost. Ctrl-C ends it with the summary.
            let answer = tokio::select! {
                answer = async {
                    ticks.tick().await;
                    match global.limit() {
                        Some(limit) => tokio::time::timeout(limit, connection.ping()).await.ok(),
                        None => Some(connection.ping().await),
                    }
                } => answer,
                () = interrupts.next() => break,
            };
            match answer {
                Some(Ok(trip)) => {
                    times.push(trip);
                    if global.json {
                        out.json(&map([("number", number.into()), ("rtt_us", micros(trip))]))?;
                    } else {
                        out.note(&format!("{number}: {}", time(trip)))?;
                    }
                }
                Some(Err(error)) => {
                    ended = Some(Failure::of("the connection was lost", &error));
                    break;
                }
                None => out.note(&format!("{number}: no answer within {}", time(global.timeout)))?,
            }
            out.flush()?;
        }
        if !global.json {
            self.summary(&mut out, &name, &times, start.elapsed())?;
        }
        out.finish()?;
        connection.close().await;
        match ended {
            Some(failure) => Err(failure),
            None if times.is_empty() && self.count > 0 => {
                Err(Failure::new(Code::TimedOut, "there was no answer"))
            }
            None => Ok(()),
        }
    }

    fn summary(&self, out: &mut Out, name: &str, times: &[Duration], took: Duration) -> std::io::Result<()> {
        out.note(&format!("--- {name} ---"))?;
        out.note(&format!(
            "{} asked, {} answered, in {}",
            self.count,
            times.len(),
            time(took)
        ))?;
        let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) else {
            return Ok(());
        };
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
        let mean = times.iter().sum::<Duration>() / count;
        let spread = times
            .iter()
            .map(|time| (time.as_secs_f64() - mean.as_secs_f64()).powi(2))
            .sum::<f64>()
            / f64::from(count);
        out.note(&format!(
            "round trip: least {}, mean {}, most {}, deviation {}",
            time(*least),
            time(mean),
            time(*most),
            time(Duration::from_secs_f64(spread.sqrt()))
        ))
    }
}

/// A time in microseconds, for programs.
pub(crate) fn micros(of: Duration) -> Value {
    Value::from((of.as_secs_f64() * 1e7).round() / 10.0)
}
