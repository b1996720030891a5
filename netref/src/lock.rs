//! One way to lock: a panic of somebody else while holding the lock does not spread.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whether or not another holder panicked: what is guarded here is valid between any two statements.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
