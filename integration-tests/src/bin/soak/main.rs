//! A long life in short: calls without end over sessions that are cut every second and move from medium to medium.
//!
//!     cargo run --release -p farref-integration-tests --bin soak -- --minutes 10 --seed 7
//!
//! Client and server live in this process. Every call is numbered and executed exactly once, in order. A line now and
//! then tells calls, cuts, memory and what the tables hold. In the end all tables must be empty and memory flat; the
//! exit code is 1 if a call was lost, repeated or overtaken, if anything is left, or if memory has grown.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests alone use this"
)]

mod calls;
mod memory;
mod roaming;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farref_integration_tests::media::runtime;
use farref_integration_tests::rough::Random;
use tokio::time::{interval, sleep_until};

use calls::{Book, Caller, Tally};
use memory::Memory;
use roaming::{House, Roamer};

const USAGE: &str =
    "soak [--minutes N | --seconds N] [--seed N] [--rate CALLS_PER_MINUTE] [--between-cuts MILLISECONDS]";

/// Callers of each session.
const CALLERS: u64 = 4;
/// After so long without a single call, something hangs: a session would have given up before.
const PATIENCE: Duration = Duration::from_secs(90);

struct Plan {
    length: Duration,
    seed: u64,
    /// Calls in a minute, of all sessions together.
    rate: u64,
    between_cuts: Duration,
}

impl Plan {
    fn from_arguments() -> Option<Self> {
        let mut plan = Self {
            length: Duration::from_secs(60),
            seed: 42,
            rate: 1_000_000,
            between_cuts: Duration::from_secs(1),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let number: u64 = arguments.next()?.parse().ok()?;
            match name.as_str() {
                "--minutes" => plan.length = Duration::from_secs(60 * number),
                "--seconds" => plan.length = Duration::from_secs(number),
                "--seed" => plan.seed = number,
                "--rate" => plan.rate = number,
                "--between-cuts" => plan.between_cuts = Duration::from_millis(number),
                _ => return None,
            }
        }
        Some(plan)
    }
}

fn main() -> ExitCode {
    let Some(plan) = Plan::from_arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!(
        "{:?} with seed {}: {} calls a minute, a cut of each session every {:?}",
        plan.length, plan.seed, plan.rate, plan.between_cuts
    );
    match runtime().block_on(soak(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("seed {}: {fault}", plan.seed);
            ExitCode::FAILURE
        }
    }
}

/// Everything, from the first call to empty tables. What is wrong.
async fn soak(plan: &Plan) -> Result<(), String> {
    let tally = Arc::<Tally>::default();
    let house = House::new(Book::new(&tally)).await;
    let roamers = house.roamers().await;
    println!("{} sessions", roamers.len());
    let begun = Instant::now();
    let end = begun + plan.length;
    let callers = roamers.len() as u64 * CALLERS;
    let mut calling = tokio::task::JoinSet::new();
    for (at, roamer) in roamers.iter().enumerate() {
        for number in 0..CALLERS {
            let seed = plan.seed * 1000 + at as u64 * CALLERS + number;
            let (random, rate) = (Random::new(seed), plan.rate / callers);
            let caller = Caller::new(roamer.book.clone(), &tally, random, rate, roamer.most_bulk());
            calling.spawn(caller.call_until(end));
        }
    }

    let mut memory = Memory::default();
    {
        let mut random = Random::new(plan.seed);
        let mut cutting = interval(plan.between_cuts);
        let mut sampling = interval(Duration::from_secs(1));
        let mut reporting =
            interval((plan.length / 20).clamp(Duration::from_secs(1), Duration::from_secs(15)));
        let over = sleep_until(end.into());
        tokio::pin!(over);
        // All of them are cancel-safe, and what is done when one is due does not wait.
        loop {
            tokio::select! {
                biased;
                () = &mut over => break,
                _ = cutting.tick() => roamers.iter().for_each(|roamer| roamer.cut(&mut random)),
                _ = sampling.tick() => {
                    memory.sample();
                    if tally.is_stalled(PATIENCE) {
                        break;
                    }
                }
                _ = reporting.tick() => report(begun, &tally, &roamers, &house, &memory),
            }
        }
    }

    let ended = async {
        while let Some(caller) = calling.join_next().await {
            caller.map_err(|error| format!("a caller failed: {error}"))??;
        }
        Ok::<_, String>(())
    };
    tokio::select! {
        ended = ended => ended?,
        () = tally.stalled(PATIENCE) => {
            report(begun, &tally, &roamers, &house, &memory);
            return Err(format!("no call returned within {PATIENCE:?}"));
        }
    }
    report(begun, &tally, &roamers, &house, &memory);
    tally.check()?;
    house.at_rest(&roamers).await?;
    drop(roamers);
    house.left().await?;
    println!("all tables are empty");
    memory.check()
}

fn report(begun: Instant, tally: &Tally, roamers: &[Roamer], house: &House, memory: &Memory) {
    let seconds = begun.elapsed().as_secs_f64();
    let calls = tally.made();
    let sum = |of: fn(&Roamer) -> u64| roamers.iter().map(of).sum::<u64>();
    let held: usize = roamers.iter().map(Roamer::held).sum();
    println!(
        "{seconds:5.0} s: {calls} calls ({:.0} a minute), {} cuts, {} carriers, {memory}, tables {held} here and {} there",
        calls as f64 * 60.0 / seconds.max(1.0),
        sum(Roamer::cuts),
        sum(Roamer::carriers),
        house.held(),
    );
}
