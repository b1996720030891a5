//! The reading role: who reads a connection and polls its async methods in order.
//!
//! The role is a token with a number. Whoever drives holds the number that was current when it began; giving the
//! role away makes a new number and a new driver, and the old one notices and leaves. So a method that blocks
//! while it is being polled by the driver stops nobody but itself.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU64, thread_local};

/// The token of one connection.
#[derive(Debug, Default)]
pub(crate) struct Role {
    current: AtomicU64,
}

impl Role {
    /// Whether the driver with that number still holds the role.
    pub(crate) fn is_held_by(&self, number: u64) -> bool {
        self.current.load(Ordering::Acquire) == number
    }

    /// Takes the role from the driver with that number; the number of its successor, or `None` if it was taken
    /// already.
    pub(crate) fn pass_on(&self, from: u64) -> Option<u64> {
        let next = from.wrapping_add(1);
        self.current
            .compare_exchange(from, next, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| next)
    }
}

/// A connection that can be driven by somebody else.
pub(crate) trait Driven: Send + Sync {
    /// Starts another driver in place of the one with that number.
    fn pass_on(self: Arc<Self>, from: u64);
    /// A name to compare.
    fn address(&self) -> usize;
}

thread_local! {
    /// The connection that this thread drives at this moment.
    static DRIVING: RefCell<Option<(Arc<dyn Driven>, u64)>> = const { RefCell::new(None) };
}

/// Notes that this thread drives `connection` while `run` runs.
pub(crate) fn driving<R>(connection: Arc<dyn Driven>, number: u64, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<(Arc<dyn Driven>, u64)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            let ended = DRIVING.with(|driving| driving.replace(before));
            drop(ended);
        }
    }
    let _restore = Restore(DRIVING.with(|driving| driving.replace(Some((connection, number)))));
    run()
}

/// Gives the reading away, if this thread has it: it is about to sleep.
pub(crate) fn give_away() {
    let taken = DRIVING.with(|driving| driving.replace(None));
    if let Some((connection, number)) = taken {
        connection.pass_on(number);
    }
}

/// Whether this thread drives the connection with that address: then it will flush by itself.
pub(crate) fn is_driving(address: usize) -> bool {
    DRIVING.with(|driving| {
        driving
            .borrow()
            .as_ref()
            .is_some_and(|(connection, _)| connection.address() == address)
    })
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
}
