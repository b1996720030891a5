//! loom's primitives, in the place of those of `src/sync.rs`.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64};
pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// loom's macro, for initial values that are constant as well.
macro_rules! loom_thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
    };
}
pub(crate) use loom_thread_local as thread_local;

use std::sync::PoisonError;
use std::time::Duration;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait_timeout<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    left: Duration,
) -> MutexGuard<'a, T> {
    condvar
        .wait_timeout(guard, left)
        .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard)
}
