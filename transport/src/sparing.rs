//! Lines in a log that peers cause: so few that nobody fills it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets the first lines of a while through and counts the others; the next line that comes through tells how many those were.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use farref_transport::Sparing;
///
/// let refusals = Sparing::new(2, Duration::from_secs(60));
/// let now = Instant::now();
/// let lines: Vec<_> = (0..10).map(|_| refusals.line(now, 1)).collect();
/// assert_eq!(lines[..3], [Some(0), Some(0), None]);
/// assert_eq!(refusals.line(now + Duration::from_secs(60), 1), Some(8));
/// ```
#[derive(Debug)]
pub struct Sparing {
    most: u32,
    per: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the while began, if there was one.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Sparing {
    /// Lets `most` lines through in each while of the length `per`.
    #[must_use]
    pub const fn new(most: u32, per: Duration) -> Self {
        Self {
            most,
            per,
            state: Mutex::new(State {
                since: None,
                lines: 0,
                left_out: 0,
            }),
        }
    }

    /// How many lines were left out since the last one, if one may be written `now`. It stands for `count` of them: that many are
    /// left out if it may not.
    pub fn line(&self, now: Instant, count: u64) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since| now.saturating_duration_since(since) >= self.per;
        if state.since.is_none_or(is_over) {
            state.since = Some(now);
            state.lines = 0;
        }
        if state.lines >= self.most {
            state.left_out = state.left_out.saturating_add(count);
            return None;
        }
        state.lines = state.lines.saturating_add(1);
        Some(std::mem::take(&mut state.left_out))
    }
}

/// Writes a warning about somebody who was turned away, with `write`, unless there are too many: 64 a minute of all who come to
/// this process. Further ones are counted, and the next one is told how many were left out.
pub fn warn_of_stranger(write: impl FnOnce(Option<u64>)) {
    static STRANGERS: Sparing = Sparing::new(64, Duration::from_secs(60));
    if let Some(left_out) = STRANGERS.line(Instant::now(), 1) {
        write((left_out > 0).then_some(left_out));
    }
}
