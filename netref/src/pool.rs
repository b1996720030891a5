//! What a thread keeps for reuse: [`Pool`].

use std::cell::RefCell;
use std::thread::LocalKey;

/// More than that are freed.
const KEPT: usize = 8;

/// A few things that one thread has left over, to be kept in a `thread_local!`. They may have come from other threads.
pub(crate) struct Pool<T>(RefCell<Vec<T>>);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }
}

/// One of them, if there is any.
pub(crate) fn take<T>(pool: &'static LocalKey<Pool<T>>) -> Option<T> {
    pool.try_with(|pool| pool.0.borrow_mut().pop()).ok().flatten()
}

/// Keeps `left`, unless there are enough, or the thread is ending: then it is freed.
pub(crate) fn put<T>(pool: &'static LocalKey<Pool<T>>, left: T) {
    let _ = pool.try_with(|pool| {
        let mut pool = pool.0.borrow_mut();
        if pool.len() < KEPT {
            pool.push(left);
        }
    });
}
