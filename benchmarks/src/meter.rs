//! What is counted: operations, the time each took, the CPU time and the allocations of both processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::Result;
use crate::allocator;
use crate::client::Server;

/// One thing that is done over and over.
pub(crate) trait Operation: Send {
    fn run(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// As how many operations one run counts.
    fn weight(&self) -> u64 {
        1
    }

    /// How many of them are done one after another, rather than at once.
    fn steps(&self) -> u64 {
        1
    }
}

/// What a measurement found, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Both processes at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    here: Status,
    there: Status,
    /// Time that all CPUs of the machine together were busy.
    busy: Duration,
    /// How many CPUs that are.
    cpus: u32,
}

/// One process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Bytes allocated, since counting began.
    pub(crate) live: i64,
    pub(crate) allocations: u64,
    /// Resident memory that is nobody else's.
    pub(crate) resident: u64,
}

impl Status {
    pub(crate) fn now() -> Self {
        let allocator::Count { live, allocations } = allocator::count();
        Self {
            cpu: cpu_time(),
            live,
            allocations,
            resident: resident(),
        }
    }
}

impl Moment {
    pub(crate) fn now(server: &mut Server) -> Result<Self> {
        let there = server.status()?;
        let (busy, cpus) = busy();
        Ok(Self {
            at: Instant::now(),
            here: Status::now(),
            there,
            busy,
            cpus,
        })
    }

    /// Adds what `operations` took since `begun`.
    fn since(self, begun: Self, operations: u64, figures: &mut Figures) {
        let each = |total: Duration| total.as_secs_f64() * 1e6 / operations.max(1) as f64;
        let elapsed = self.at - begun.at;
        let (here, there) = (self.here.cpu - begun.here.cpu, self.there.cpu - begun.there.cpu);
        let others = self.busy.saturating_sub(begun.busy).saturating_sub(here + there);
        let cpus = f64::from(self.cpus);
        figures.insert("rate".into(), operations as f64 / elapsed.as_secs_f64());
        figures.insert("cpu".into(), each(here + there));
        figures.insert("cpu-client".into(), each(here));
        figures.insert("cpu-server".into(), each(there));
        figures.insert(
            "others".into(),
            others.as_secs_f64() / (elapsed.as_secs_f64() * cpus),
        );
    }

    /// Adds what `operations` allocated since `begun`.
    fn allocated(self, begun: Self, operations: u64, figures: &mut Figures) {
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / operations.max(1) as f64;
        figures.insert(
            "allocations-client".into(),
            each(begun.here.allocations, self.here.allocations),
        );
        figures.insert(
            "allocations-server".into(),
            each(begun.there.allocations, self.there.allocations),
        );
    }

    /// How many bytes more each process has allocated, and has in memory, than at `begun`.
    pub(crate) fn grown(self, begun: Self) -> [f64; 4] {
        let difference = |before: u64, after: u64| after as f64 - before as f64;
        [
            (self.here.live - begun.here.live) as f64,
            (self.there.live - begun.there.live) as f64,
            difference(begun.here.resident, self.here.resident),
            difference(begun.there.resident, self.there.resident),
        ]
    }
}

/// Runs `operation` again and again, alone.
pub(crate) async fn one_at_a_time(
    server: &mut Server,
    duration: Duration,
    mut operation: impl Operation,
) -> Result<Figures> {
    let warm = Instant::now() + duration / 5;
    while Instant::now() < warm {
        operation.run().await?;
    }
    let mut times = Histogram::new();
    let mut operations = 0;
    let begun = Moment::now(server)?;
    let mut last = Instant::now();
    let end = last + duration;
    while last < end {
        operation.run().await?;
        let now = Instant::now();
        times.add(now - last);
        last = now;
        operations += operation.weight();
    }
    let ended = Moment::now(server)?;
    let mut figures = Figures::new();
    ended.since(begun, operations, &mut figures);
    times.describe(operation.steps(), &mut figures);

    let (mut counted, until) = (0, Instant::now() + duration / 10);
    server.count(true)?;
    let begun = Moment::now(server)?;
    while counted == 0 || (counted < 1000 && Instant::now() < until) {
        operation.run().await?;
        counted += operation.weight();
    }
    Moment::now(server)?.allocated(begun, counted, &mut figures);
    server.count(false)?;
    Ok(figures)
}

/// What the callers of [`many_at_once`] do at the moment.
#[repr(u8)]
enum Phase {
    WarmUp,
    Timed,
    Counted,
    Over,
}

/// Runs `number` of `operation` at a time, each in a task of its own.
pub(crate) async fn many_at_once<O: Operation + Clone + 'static>(
    server: &mut Server,
    duration: Duration,
    number: usize,
    operation: O,
) -> Result<Figures> {
    /// Every so many operations are timed: reading the clock costs as much as a tenth of one.
    const SAMPLE: u64 = 16;

    let phase = Arc::new(AtomicU8::new(Phase::WarmUp as u8));
    let callers: Vec<_> = (0..number)
        .map(|_| {
            let (phase, mut operation) = (Arc::clone(&phase), operation.clone());
            tokio::spawn(async move {
                let (mut times, mut operations) = (Histogram::new(), [0; 3]);
                for turn in 0_u64.. {
                    let started = turn.is_multiple_of(SAMPLE).then(Instant::now);
                    operation.run().await?;
                    let phase = phase.load(Ordering::Relaxed);
                    if phase == Phase::Over as u8 {
                        break;
                    }
                    operations[usize::from(phase)] += 1;
                    if let Some(started) = started {
                        times.add(started.elapsed());
                    }
                }
                Result::Ok((times, operations))
            })
        })
        .collect();
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

/// How often operations took how long: 32 steps for each doubling, so within 3 percent.
struct Histogram(Vec<u64>);

impl Histogram {
    const STEPS: u32 = 32;

    fn new() -> Self {
        Self(vec![0; (Self::STEPS * 40) as usize])
    }

    fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos())
            .unwrap_or(u64::MAX)
            .max(u64::from(Self::STEPS));
        let doublings = nanos.ilog2() - Self::STEPS.ilog2();
        let step = (nanos >> doublings) as u32 - Self::STEPS;
        let at = ((doublings * Self::STEPS + step) as usize).min(self.0.len() - 1);
        self.0[at] += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (sum, its) in self.0.iter_mut().zip(&other.0) {
            *sum += its;
        }
    }

    /// The time within which that share of all operations was done, in microseconds.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share).ceil();
        let mut seen = 0.0;
        for (at, count) in (0_u32..).zip(&self.0) {
            seen += *count as f64;
            if seen >= wanted {
                let (doublings, step) = (at / Self::STEPS, at % Self::STEPS);
                return f64::from(Self::STEPS + step) * 2_f64.powi(doublings as i32) / 1e3;
            }
        }
        f64::NAN
    }

    fn describe(&self, steps: u64, figures: &mut Figures) {
        figures.insert("p50".into(), self.quantile(0.5) / steps as f64);
        figures.insert("p99".into(), self.quantile(0.99) / steps as f64);
    }
}

/// User and system time of this process.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Anonymous resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// How long all CPUs together were busy since the machine started, in steps of 10 ms, and how many they are.
fn busy() -> (Duration, u32) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or_default()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = ticks
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4) && *at < 8)
        .map(|(_, ticks)| ticks);
    let cpus = stat
        .lines()
        .skip(1)
        .filter(|line| line.starts_with("cpu"))
        .count();
    (
        Duration::from_millis(busy.sum::<u64>() * 10),
        u32::try_from(cpus).unwrap_or(1).max(1),
    )
}
