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

    /// The longest that there is: a hundred ticks a second.
    const TICK: Nanos = 10_000_000;

    pub(super) fn soon() -> Nanos {
        static ORIGIN: OnceLock<(Instant, Nanos)> = OnceLock::new();
        let look = Instant::now_without_cache_update;
        let (origin, at) = ORIGIN.get_or_init(|| (look(), super::now().saturating_add(TICK)));
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

/// A time that is not before now, and after it by two ticks of the system's at most, 20 ms.
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
    fn soon_is_not_before_now_and_follows_it_closely() {
        for _ in 0..100_000 {
            let (before, soon) = (now(), soon());
            assert!(before <= soon, "{before} {soon}");
            assert!(soon.saturating_sub(now()) <= 20_000_000);
        }
    }
}
