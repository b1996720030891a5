//! The objects that servers make for clients, counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static OBJECTS: AtomicU64 = AtomicU64::new(0);

/// How many objects there are in this process.
pub(crate) fn objects() -> u64 {
    OBJECTS.load(Ordering::SeqCst)
}

/// An object as a program would have one, with the two counters of its `Arc`.
pub(crate) const SIZE: usize = size_of::<Made>() + 2 * size_of::<AtomicUsize>();

pub(crate) struct Made {
    _state: u64,
}

impl Made {
    pub(crate) fn new() -> Self {
        Self {
            _state: OBJECTS.fetch_add(1, Ordering::SeqCst),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        OBJECTS.fetch_sub(1, Ordering::SeqCst);
    }
}
