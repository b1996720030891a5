//! What a program logs, read from afar.

mod ring;

use std::collections::BTreeMap;

use farref_netref::{Result, Stream, remote};
use serde::{Deserialize, Serialize};

use crate::files::Time;

pub use ring::LogRing;

/// What a program has logged, as far as it is kept, and what it logs.
#[remote(name = "farref.Logs")]
pub trait Logs {
    /// The last records that `filter` lets through, the oldest of them first; `most` of them at most.
    #[reads]
    async fn recent(&self, filter: LogFilter, most: u32) -> Result<Vec<LogRecord>>;

    /// Records behind the one with the number `after` that are kept, and those to come; 0 for all, `None` for those to
    /// come alone. Whoever reads too slowly misses some: their numbers are missing.
    #[reads]
    async fn follow(&self, filter: LogFilter, after: Option<u64>) -> Result<Stream<LogRecord>>;
}

/// Something that was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct LogRecord {
    /// Its number; they begin at 1 and have no gaps.
    pub number: u64,
    /// When it was logged.
    pub time: Time,
    /// How grave it is.
    pub level: Level,
    /// Where it comes from: a module, as a rule.
    pub target: String,
    /// What it says.
    pub message: String,
    /// What else it says, by name.
    pub fields: BTreeMap<String, String>,
}

/// How grave a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "as many as `tracing` has")]
pub enum Level {
    /// For whoever looks for a mistake in the code.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// For whoever wants to know what goes on.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something went wrong.
    Error,
}

/// Which records are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct LogFilter {
    /// Those at least that grave; all, if there is none.
    pub level: Option<Level>,
    /// Those whose target is one of these or below it, as in `farref` and `farref::server`; all, if there are none.
    pub targets: Vec<String>,
}

impl LogFilter {
    /// Whether it lets a record through.
    #[must_use]
    pub fn matches(&self, level: Level, target: &str) -> bool {
        let is_below = |wanted: &String| {
            let rest = target.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.level.is_none_or(|least| level >= least)
            && (self.targets.is_empty() || self.targets.iter().any(is_below))
    }
}
