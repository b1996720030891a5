//! The process's clock, as the cores see it: nanoseconds since the first time anybody asked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use farref_framing::Nanos;

/// A clock that is read in a quarter of the time, where there is one: it goes on at each tick of the system's only.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod coarse {
    use std::sync::OnceLock;

    use coarsetime::Instant;
    use farref_framing::Nanos;

    /// Twice the longest tick that there is, of a hundredth of a second: a busy system is late with it.
    const AHEAD: Nanos = 20_000_000;
    /// The two clocks were read at the same time if no more has passed meanwhile.
    const SAME: Nanos = 1_000_000;

    pub(super) fn soon() -> Nanos {
        static ORIGIN: OnceLock<(Instant, Nanos)> = OnceLock::new();
        let look = Instant::now_without_cache_update;
        let (origin, at) = ORIGIN.get_or_init(|| {
            loop {
                let (before, origin, after) = (super::now(), look(), super::now());
                if after.saturating_sub(before) < SAME {
                    return (origin, before.saturating_add(AHEAD));
                }
            }
        });
        at.saturating_add(look().duration_since(*origin).as_nanos())
    }
}

/// No time at all: none is later.
pub(crate) const NEVER: Nanos = Nanos::MAX;

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Now, as links and protocols of this process are told the time.
#[must_use]
pub fn now() -> Nanos {
    nanos(origin().elapsed())
}

/// A time that is hardly ever before now, and some 30 ms after it at most.
pub(crate) fn soon() -> Nanos {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return coarse::soon();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return now();
}

/// The point in time that lies `patience` ahead.
pub(crate) fn after(patience: Duration) -> Nanos {
    now().saturating_add(nanos(patience))
}

/// The instant of a point in time.
pub(crate) fn instant(at: Nanos) -> Instant {
    let origin = origin();
    origin.checked_add(Duration::from_nanos(at)).unwrap_or(origin)
}

/// A duration; more than 584 years count as 584 years.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_is_about_now() {
        for _ in 0..100_000 {
            let (before, soon, after) = (now(), soon(), now());
            let a_while = 1_000_000_000;
            assert!(before.saturating_sub(soon) < a_while && soon.saturating_sub(after) < a_while);
        }
    }
}
