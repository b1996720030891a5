//! What is counted: the time, the CPU time, the memory and the allocations of both processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::Result;
use crate::allocator;
use crate::client::Server;

/// What a measurement found, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// Both processes at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    pub(crate) here: Status,
    pub(crate) there: Status,
    /// Time that all CPUs of the machine together were busy.
    busy: Duration,
    /// How many CPUs that are.
    cpus: u32,
}

/// One process at one moment.
#[derive(Debug, Clone, Copy, Default)]
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
    pub(crate) fn since(self, begun: Self, operations: u64, figures: &mut Figures) {
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
            100.0 * others.as_secs_f64() / (elapsed.as_secs_f64() * cpus),
        );
    }

    /// Adds what `operations` allocated since `begun`.
    pub(crate) fn allocated(self, begun: Self, operations: u64, figures: &mut Figures) {
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

    /// Adds how many bytes more each process has allocated, and has in memory, than at `begun`, for each of so many.
    pub(crate) fn grown(self, begun: Self, number: usize, figures: &mut Figures) {
        let each = |before: i64, after: i64| (after - before) as f64 / number as f64;
        let (here, there) = (self.here, self.there);
        figures.insert("client".into(), each(begun.here.live, here.live));
        figures.insert("server".into(), each(begun.there.live, there.live));
        figures.insert(
            "resident-client".into(),
            each(begun.here.resident.cast_signed(), here.resident.cast_signed()),
        );
        figures.insert(
            "resident-server".into(),
            each(begun.there.resident.cast_signed(), there.resident.cast_signed()),
        );
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
