//! What wakes a driver when a time has come: one thread of the process keeps the times of all connections.
//!
//! A runtime's own timer would do as well. But a runtime that has any arms one of the kernel's whenever it falls asleep,
//! which for lone calls is once per call on each side, and a twentieth of what they take.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use farref_framing::Nanos;

use crate::clock::{self, NEVER};
use crate::lock::lock;

/// Wakes one task, when the earliest time has come that it was set to.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    set: Option<Set>,
    /// Whether it was set since it was last found to have rung.
    is_awaited: bool,
}

#[derive(Debug)]
struct Set {
    number: u64,
    /// When it rings; [`NEVER`] once it has.
    at: Arc<AtomicU64>,
}

impl Timer {
    /// When it rings; [`NEVER`] if it is not set.
    pub(crate) fn at(&self) -> Nanos {
        self.set
            .as_ref()
            .map_or(NEVER, |set| set.at.load(Ordering::Acquire))
    }

    /// Whether it has rung since it was last asked.
    pub(crate) fn has_rung(&mut self) -> bool {
        let has_rung = self.is_awaited && self.at() == NEVER;
        self.is_awaited &= !has_rung;
        has_rung
    }

    /// Rings at `at`, and no more at the time that it was set to before. `waker` is of the task that owns this, always the
    /// same.
    ///
    /// # Errors
    ///
    /// The system has no thread for the clock.
    pub(crate) fn set(&mut self, at: Nanos, waker: &Waker) -> std::io::Result<()> {
        let mut times = lock(&CLOCK.times);
        if !times.runs {
            let thread = std::thread::Builder::new().name("farref-clock".to_owned());
            thread.spawn(|| CLOCK.run())?;
            times.runs = true;
        }
        let timer = self.set.get_or_insert_with(|| {
            times.timers = times.timers.wrapping_add(1);
            Set {
                number: times.timers,
                at: Arc::new(AtomicU64::new(NEVER)),
            }
        });
        let at = at.min(NEVER - 1);
        let before = timer.at.swap(at, Ordering::AcqRel);
        let ring = times.due.remove(&(before, timer.number)).unwrap_or_else(|| Ring {
            at: Arc::clone(&timer.at),
            waker: waker.clone(),
        });
        times.due.insert((at, timer.number), ring);
        self.is_awaited = true;
        let is_earlier = at < times.sleeps_until;
        drop(times);
        if is_earlier {
            CLOCK.earlier.notify_one();
        }
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let at = self.at();
        if let Some(timer) = self.set.as_ref().filter(|_| at != NEVER) {
            let ring = lock(&CLOCK.times).due.remove(&(at, timer.number));
            // Outside the lock: it may be the last that holds a task.
            drop(ring);
        }
    }
}

static CLOCK: Clock = Clock {
    times: Mutex::new(Times {
        due: BTreeMap::new(),
        timers: 0,
        sleeps_until: 0,
        runs: false,
    }),
    earlier: Condvar::new(),
};

struct Clock {
    times: Mutex<Times>,
    earlier: Condvar,
}

struct Times {
    /// By time and by number of the timer.
    due: BTreeMap<(Nanos, u64), Ring>,
    /// How many timers there have been.
    timers: u64,
    /// When the thread wakes up by itself, or 0 while it is awake.
    sleeps_until: Nanos,
    /// Whether there is a thread.
    runs: bool,
}

struct Ring {
    at: Arc<AtomicU64>,
    waker: Waker,
}

impl Clock {
    fn run(&self) {
        let mut rings = Vec::new();
        let mut times = lock(&self.times);
        loop {
            let now = clock::now();
            while let Some(first) = times.due.first_entry()
                && first.key().0 <= now
            {
                let ring = first.remove();
                ring.at.store(NEVER, Ordering::Release);
                rings.push(ring.waker);
            }
            if !rings.is_empty() {
                drop(times);
                // Who is woken may set a timer.
                for waker in rings.drain(..) {
                    // Others depend on this thread as well.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
                }
                times = lock(&self.times);
                continue;
            }
            let next = times.due.first_key_value().map_or(NEVER, |((at, _), _)| *at);
            times.sleeps_until = next;
            let left = Duration::from_nanos(next.saturating_sub(now));
            (times, _) = self
                .earlier
                .wait_timeout(times, left)
                .unwrap_or_else(PoisonError::into_inner);
            times.sleeps_until = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::task::Wake;

    use super::*;

    /// Says to two that it was woken: a clock that never rings leaves the test hanging.
    struct Bell(Barrier);

    impl Bell {
        fn new() -> Arc<Self> {
            Arc::new(Self(Barrier::new(2)))
        }

        fn wait(&self) {
            self.0.wait();
        }
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.wait();
        }
    }

    fn in_ms(ms: u64) -> Nanos {
        clock::after(Duration::from_millis(ms))
    }

    const LATE: u64 = 1 << 30;

    #[test]
    fn it_rings_once_and_not_before_its_time() {
        let (bell, mut timer) = (Bell::new(), Timer::default());
        assert!(timer.at() == NEVER && !timer.has_rung());
        let at = in_ms(2);
        timer.set(at, &Arc::clone(&bell).into()).unwrap();
        bell.wait();
        assert!(clock::now() >= at);
        assert_eq!(timer.at(), NEVER);
        assert!(timer.has_rung() && !timer.has_rung());
    }

    #[test]
    fn it_rings_at_the_time_that_it_was_last_set_to() {
        let (bell, mut timer) = (Bell::new(), Timer::default());
        let waker = Arc::clone(&bell).into();
        timer.set(in_ms(LATE), &waker).unwrap();
        let soon = in_ms(2);
        timer.set(soon, &waker).unwrap();
        bell.wait();
        assert!(timer.has_rung());
        let far = in_ms(LATE);
        timer.set(far, &waker).unwrap();
        assert_eq!(timer.at(), far);
        assert!(!timer.has_rung());
    }

    #[test]
    fn the_earlier_of_two_rings_first_though_it_was_set_last() {
        let bells = [Bell::new(), Bell::new()];
        let mut timers = [Timer::default(), Timer::default()];
        timers[0].set(in_ms(LATE), &Arc::clone(&bells[0]).into()).unwrap();
        timers[1].set(in_ms(1), &Arc::clone(&bells[1]).into()).unwrap();
        bells[1].wait();
        assert!(timers[1].has_rung() && !timers[0].has_rung());
    }

    #[test]
    fn a_dropped_timer_lets_go_of_its_task() {
        let (bell, mut timer) = (Bell::new(), Timer::default());
        timer.set(in_ms(LATE), &Arc::clone(&bell).into()).unwrap();
        timer.set(in_ms(2 * LATE), &Arc::clone(&bell).into()).unwrap();
        drop(timer);
        assert_eq!(Arc::strong_count(&bell), 1);
    }

    #[test]
    fn a_time_that_has_passed_rings_at_once() {
        let (bell, mut timer) = (Bell::new(), Timer::default());
        timer.set(0, &Arc::clone(&bell).into()).unwrap();
        bell.wait();
        assert!(timer.has_rung());
    }
}
