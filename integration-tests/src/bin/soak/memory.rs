//! How much memory this process takes, and whether that is flat.

use std::fmt;

/// What the kernel said, once a second.
#[derive(Default)]
pub(crate) struct Memory(Vec<u64>);

/// Fewer samples say nothing about what grows slowly.
const ENOUGH: usize = 120;

impl Memory {
    pub(crate) fn sample(&mut self) {
        self.0.extend(resident());
    }

    /// Flat: after the first fifth, in which pools fill up, the most of the last third is no more than a twentieth and
    /// 2 MiB above the most of the first third. Within a third it goes up and down, as bulk comes and goes.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.0.len() < ENOUGH {
            println!("memory is not judged: {} samples are too few", self.0.len());
            return Ok(());
        }
        let (_, settled) = self.0.split_at(self.0.len() / 5);
        let third = settled.len() / 3;
        let most = |of: &[u64]| of.iter().copied().max().unwrap_or_default();
        let (early, late) = (most(&settled[..third]), most(&settled[settled.len() - third..]));
        if late > early + early / 20 + (2 << 20) {
            return Err(format!("memory grew from {} to {}", Mib(early), Mib(late)));
        }
        println!("memory is flat: at most {} early, {} late", Mib(early), Mib(late));
        Ok(())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.last() {
            Some(bytes) => Mib(*bytes).fmt(f),
            None => f.write_str("memory unknown"),
        }
    }
}

struct Mib(u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// Bytes of this process that are in memory, where there is `/proc`.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}
