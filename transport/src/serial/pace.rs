//! How much more may be given to the driver of a port now.
//!
//! Knows the clock and the rate of the line; asks nobody. Some drivers count what they have not sent yet,
//! some (pseudo terminals) say none whatever they hold: so what the line cannot have sent by now counts as
//! waiting too.

use std::time::Duration;

use tokio::time::Instant;

/// Keeps the queue of a driver short.
///
/// # Invariant
///
/// Never more than `most` bytes are ahead of the line, by the clock and by the driver's own count.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes per second; at least 1.
    rate: u64,
    most: usize,
    /// When the line has sent what it was given, by the clock.
    idle_at: Instant,
}

impl Pacer {
    pub(super) const fn new(rate: u64, most: usize, now: Instant) -> Self {
        Self {
            rate,
            most,
            idle_at: now,
        }
    }

    /// When the line has sent what it was given, if nothing stops it.
    pub(super) const fn idle_at(&self) -> Instant {
        self.idle_at
    }

    /// How many bytes may be written when the driver counts `queued`: none until half of what may wait
    /// has gone, so that a long message is not written in crumbs.
    pub(super) fn room(&self, queued: usize, now: Instant) -> usize {
        let ahead = self.ahead(queued, now);
        if ahead <= self.most / 2 {
            self.most - ahead
        } else {
            0
        }
    }

    /// How long it takes until there is room, if there is none: a guess, at least a millisecond.
    pub(super) fn wait(&self, queued: usize, now: Instant) -> Option<Duration> {
        let excess = self.ahead(queued, now).checked_sub(self.most / 2)?;
        (excess > 0).then(|| self.time(excess).max(SHORTEST))
    }

    /// `count` bytes were written.
    pub(super) fn wrote(&mut self, count: usize, now: Instant) {
        self.idle_at = self.idle_at.max(now) + self.time(count);
    }

    fn ahead(&self, queued: usize, now: Instant) -> usize {
        let left = self.idle_at.saturating_duration_since(now).as_nanos();
        let clocked = (left * u128::from(self.rate)).div_ceil(SECOND);
        queued.max(usize::try_from(clocked).unwrap_or(usize::MAX))
    }

    fn time(&self, bytes: usize) -> Duration {
        let nanoseconds = (bytes as u128 * SECOND).div_ceil(u128::from(self.rate.max(1)));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

const SECOND: u128 = 1_000_000_000;

/// A timer cannot do less.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A driver that counts nothing.
    const SILENT: usize = 0;

    #[test]
    fn what_the_line_has_not_sent_by_now_is_waiting() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut pacer = Pacer::new(1000, 100, begun);
        assert_eq!(pacer.room(SILENT, begun), 100);
        pacer.wrote(100, begun);
        assert_eq!(pacer.room(SILENT, begun), 0);
        assert_eq!(pacer.wait(SILENT, begun), Some(Duration::from_millis(50)));
        assert_eq!(pacer.room(SILENT, at(49)), 0);
        assert_eq!(pacer.room(SILENT, at(50)), 50);
        assert_eq!(pacer.wait(SILENT, at(50)), None);
        assert_eq!(pacer.room(SILENT, at(1000)), 100);
        assert_eq!(pacer.idle_at(), at(100));
    }

    #[test]
    fn a_driver_that_is_slower_than_the_clock_is_believed() {
        let begun = Instant::now();
        let mut pacer = Pacer::new(1000, 100, begun);
        pacer.wrote(100, begun);
        let later = begun + Duration::from_secs(1);
        assert_eq!(pacer.room(100, later), 0);
        assert_eq!(pacer.wait(100, later), Some(Duration::from_millis(50)));
        assert_eq!(pacer.room(50, later), 50);
        assert_eq!(pacer.room(usize::MAX, later), 0);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(3600);
        let mut pacer = Pacer::new(1000, 100, begun);
        assert_eq!(pacer.room(SILENT, later), 100);
        pacer.wrote(100, later);
        assert_eq!(pacer.room(SILENT, later), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_more_than_the_most_is_ever_ahead_and_the_line_never_starves(
            rate in 1..100_000_000_u64,
            most in 2..10_000_usize,
            pauses in prop::collection::vec(0..50_u64, 1..200),
        ) {
            let begun = Instant::now();
            let mut now = begun;
            let mut pacer = Pacer::new(rate, most, begun);
            let mut given = 0_u128;
            for pause in pauses {
                now += Duration::from_millis(pause);
                let room = pacer.room(SILENT, now);
                prop_assert!((room == 0) == pacer.wait(SILENT, now).is_some());
                pacer.wrote(room, now);
                given += room as u128;
                let sent = (now - begun).as_nanos() * u128::from(rate) / SECOND;
                prop_assert!(given <= sent + most as u128);
                prop_assert!(pacer.room(SILENT, now) == 0);
            }
        }
    }
}
