//! The process's clock, as the cores see it: nanoseconds since the first time anybody asked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use farref_framing::Nanos;

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Now, as links and protocols of this process are told the time.
#[must_use]
pub fn now() -> Nanos {
    nanos(origin().elapsed())
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
