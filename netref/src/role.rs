//! The reading role: who reads a connection and polls its async methods in order.
//!
//! The role is a token with a number. Whoever drives holds the number that was current when it began; giving the
//! role away makes a new number and a new driver, and the old one notices and leaves. So a method that blocks
//! while it is being polled by the driver stops nobody but itself.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::signal::Signal;
use crate::sync::{AtomicU64, thread_local};

/// The token of one connection: a number, and what its holder does.
///
/// The driver is a task. While it sleeps a thread may take the role from it, and *lead*: it reads what it waits for by
/// itself. It leaves the role *parked* between one call and its next, so that nobody is woken for that; the driver takes
/// it back when that lasts.
#[derive(Debug, Default)]
pub(crate) struct Role {
    current: AtomicU64,
}

/// The driver handles something.
const AWAKE: u64 = 0;
/// The driver waits.
const ASLEEP: u64 = 1;
/// A thread has it.
const LED: u64 = 2;
/// No one has it: a thread will come back for it, or the driver will.
const PARKED: u64 = 3;
/// A thread has it, and gives it back in any case: the driver does not look after it.
const UNWATCHED: u64 = 4;
const BITS: u32 = 3;
const STATES: u64 = (1 << BITS) - 1;

/// What a driver finds when it wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It has the role.
    Drives,
    /// A thread has it, or has parked it.
    Led,
    /// It has a successor.
    Gone,
}

impl Role {
    /// Whether the driver with that number still holds the role, or lends it to a thread.
    pub(crate) fn is_held_by(&self, number: u64) -> bool {
        self.current.load(Ordering::Acquire) >> BITS == number
    }

    /// Takes the role from the driver with that number, or from the thread that it was lent to; the number of its
    /// successor, or `None` if it was taken already.
    pub(crate) fn pass_on(&self, from: u64) -> Option<u64> {
        let next = from.wrapping_add(1);
        for state in [AWAKE, LED, UNWATCHED] {
            if self.change(from, state, next, AWAKE) {
                return Some(next);
            }
        }
        None
    }

    /// The driver wakes up.
    pub(crate) fn wake(&self, number: u64) -> Woken {
        let current = self.current.load(Ordering::Acquire);
        let state = current & STATES;
        if current >> BITS != number {
            Woken::Gone
        } else if state == AWAKE || (state == ASLEEP && self.change(number, ASLEEP, number, AWAKE)) {
            Woken::Drives
        } else {
            // Taken at this moment by a thread, which may have passed it on since.
            if self.is_held_by(number) {
                Woken::Led
            } else {
                Woken::Gone
            }
        }
    }

    /// The driver goes to sleep: a thread may lead.
    pub(crate) fn sleep(&self, number: u64) {
        self.change(number, AWAKE, number, ASLEEP);
    }

    /// A thread takes the role, while the driver sleeps or it is parked; its number.
    pub(crate) fn take(&self) -> Option<u64> {
        let current = self.current.load(Ordering::Acquire);
        let (number, state) = (current >> BITS, current & STATES);
        ((state == ASLEEP || state == PARKED) && self.change(number, state, number, LED)).then_some(number)
    }

    /// Whether a thread could take the role.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self.current.load(Ordering::Acquire) & STATES, ASLEEP | PARKED)
    }

    /// Whether a thread has the role.
    pub(crate) fn is_led(&self) -> bool {
        matches!(self.current.load(Ordering::Acquire) & STATES, LED | UNWATCHED)
    }

    /// The driver looks no more after the thread that leads: that will give the role back to it. False if none leads.
    pub(crate) fn unwatch(&self, number: u64) -> bool {
        self.change(number, LED, number, UNWATCHED)
            || self.current.load(Ordering::Acquire) == (number << BITS | UNWATCHED)
    }

    /// Whether the role waits for a thread to come back for it.
    pub(crate) fn is_parked(&self) -> bool {
        self.current.load(Ordering::Acquire) & STATES == PARKED
    }

    /// The thread that leads leaves the role where it finds it again. From here on a wish is for the driver, which
    /// `recalls` reaches. False if nobody would look after it: then it is to be given back.
    pub(crate) fn park(&self, number: u64, signal: &Signal, recalls: &Waker) -> bool {
        // While it is still this thread's: the next one that leads may come at once, and the bell is its own then.
        signal.give_to(recalls);
        let is_parked = self.change(number, LED, number, PARKED);
        // A driver that was recalled before that has found a thread that leads, and sleeps again.
        if signal.is_asked_by_now() {
            recalls.wake_by_ref();
        }
        is_parked
    }

    /// The thread that leads gives the role back to the driver, which is to be woken.
    pub(crate) fn hand_back(&self, number: u64) {
        // In this order: the driver may stop to look after it in between.
        let _ = self.change(number, LED, number, ASLEEP) || self.change(number, UNWATCHED, number, ASLEEP);
    }

    /// The driver takes the parked role back.
    pub(crate) fn take_back(&self, number: u64) -> bool {
        self.change(number, PARKED, number, AWAKE)
    }

    fn change(&self, number: u64, state: u64, next: u64, then: u64) -> bool {
        let (from, to) = (number << BITS | state, next << BITS | then);
        self.current
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A connection that can be driven by somebody else.
pub(crate) trait Driven: Send + Sync {
    /// Starts another driver in place of the one with that number.
    fn pass_on(self: Arc<Self>, from: u64);
}

/// A connection, and the number under which this thread drives it.
type Driving = Option<(Arc<dyn Driven>, u64)>;

thread_local! {
    /// The connection that this thread drives at this moment.
    static DRIVING: RefCell<Driving> = const { RefCell::new(None) };
}

thread_local! {
    /// Where it is in memory, or 0: asked for several times in each call.
    static DRIVEN: Cell<usize> = const { Cell::new(0) };
}

/// From here on this thread drives another connection, or none; the one before.
fn drive(connection: Driving) -> Driving {
    let address = |(connection, _): &(Arc<dyn Driven>, u64)| Arc::as_ptr(connection).addr();
    DRIVEN.with(|driven| driven.set(connection.as_ref().map_or(0, address)));
    DRIVING.with(|driving| driving.replace(connection))
}

/// Notes that this thread drives `connection` while `run` runs.
pub(crate) fn driving<R>(connection: Arc<dyn Driven>, number: u64, run: impl FnOnce() -> R) -> R {
    struct Restore(Driving);
    impl Drop for Restore {
        fn drop(&mut self) {
            let ended = drive(self.0.take());
            drop(ended);
        }
    }
    let _restore = Restore(drive(Some((connection, number))));
    run()
}

/// Gives the reading away, if this thread has it: it is about to sleep.
pub(crate) fn give_away() {
    if let Some((connection, number)) = drive(None) {
        connection.pass_on(number);
    }
}

/// Whether this thread drives the connection with that address: then it will flush by itself.
#[inline]
pub(crate) fn is_driving(address: usize) -> bool {
    DRIVEN.with(Cell::get) == address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_passes_from_one_driver_to_one_other() {
        let role = Role::default();
        assert!(role.is_held_by(0));
        assert_eq!(role.pass_on(0), Some(1));
        assert_eq!(
            role.pass_on(0),
            None,
            "a driver that has left has nothing to give"
        );
        assert!(role.is_held_by(1));
    }

    #[test]
    fn a_thread_borrows_the_role_while_the_driver_sleeps() {
        let role = Role::default();
        assert_eq!(role.take(), None, "the driver is awake");
        role.sleep(0);
        assert_eq!(role.take(), Some(0));
        assert_eq!(role.take(), None, "one at a time");
        assert_eq!(role.wake(0), Woken::Led);
        assert!(!role.take_back(0), "not from a thread that leads");
        assert!(role.park(0, &Signal::default(), Waker::noop()));
        assert_eq!(role.wake(0), Woken::Led);
        assert_eq!(role.take(), Some(0), "parked for whoever calls next");
        assert!(role.park(0, &Signal::default(), Waker::noop()));
        assert!(role.take_back(0));
        assert_eq!(role.wake(0), Woken::Drives);
        role.sleep(0);
        assert_eq!(role.take(), Some(0));
        role.hand_back(0);
        assert_eq!(role.wake(0), Woken::Drives);
    }

    #[test]
    fn a_role_that_nobody_looks_after_is_given_back() {
        let (role, signal) = (Role::default(), Signal::default());
        assert!(!role.unwatch(0), "the driver has it");
        role.sleep(0);
        role.take().unwrap();
        assert!(role.unwatch(0) && role.unwatch(0) && role.is_led());
        assert!(!role.unwatch(1));
        assert_eq!(role.wake(0), Woken::Led);
        assert_eq!(role.take(), None);
        assert!(!role.park(0, &signal, Waker::noop()) && !role.is_parked());
        role.hand_back(0);
        assert_eq!(role.wake(0), Woken::Drives);

        role.sleep(0);
        role.take().unwrap();
        assert!(role.unwatch(0));
        assert_eq!(role.pass_on(0), Some(1));
        assert!(!role.unwatch(0));
    }

    #[test]
    fn a_thread_that_leads_can_pass_the_role_on_to_another_driver() {
        let role = Role::default();
        role.sleep(0);
        role.take().unwrap();
        assert_eq!(role.pass_on(0), Some(1));
        assert!(!role.park(0, &Signal::default(), Waker::noop()));
        role.hand_back(0);
        assert_eq!(role.wake(1), Woken::Drives, "it has nothing to give any more");
        assert_eq!(role.wake(0), Woken::Gone);
        role.sleep(1);
        role.sleep(0);
        assert_eq!(role.take(), Some(1));
    }
}
