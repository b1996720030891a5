//! Memory of the last long body that was encoded, for the next one: whoever sends such bodies again and again needs no fresh
//! memory, which would have to grow, and whose pages the system would have to clear.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::bytes::Bytes;

/// A longer body is rare, and would keep much: 1 MiB, and a little for what a mebibyte comes with.
const MOST: usize = (1 << 20) + (4 << 10);

/// That of the process, and for as long. Threads that encode long bodies at the same time take fresh memory, as does whoever comes
/// while it is in use: so it is bounded, whatever is sent.
pub(crate) static SPARE: Spare = Spare::new();

/// # Invariant
///
/// A body in it is at most [`MOST`] long, and its memory at most twice as long as it is, for it may be held for long. It is done with
/// if nobody else has a handle.
pub(crate) struct Spare(Mutex<Option<Bytes>>);

impl Spare {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empty memory for `len` bytes, if there is some that is done with.
    pub(crate) fn take(&self, len: usize) -> Option<Vec<u8>> {
        let body = self
            .lock()
            .take_if(|body| body.len() >= len && body.is_unique())?;
        let mut memory = body.try_into_mut().ok()?;
        memory.clear();
        Some(memory.into())
    }

    /// A body is about to be handed out, in memory of `capacity`. The one before is given up: whoever has it may keep it for long.
    pub(crate) fn put(&self, body: &Bytes, capacity: usize) {
        if body.len() > MOST || capacity > body.len().saturating_mul(2) {
            return;
        }
        let before = self.lock().replace(body.clone());
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(len: usize) -> Bytes {
        Bytes::from(vec![1; len])
    }

    #[test]
    fn memory_is_used_again_once_its_body_is_done_with() {
        let spare = Spare::new();
        assert!(spare.take(1).is_none());
        let handed_out = body(1000);
        let at = handed_out.as_ptr();
        spare.put(&handed_out, 1000);
        let piece = handed_out.slice(7..9);
        drop(handed_out);
        assert!(spare.take(1000).is_none(), "a piece of it is in use");
        drop(piece);
        assert!(spare.take(1001).is_none());
        let memory = spare.take(1000).unwrap();
        assert_eq!((memory.as_ptr(), memory.len()), (at, 0));
        assert!(memory.capacity() >= 1000 && spare.take(0).is_none());
    }

    #[test]
    fn what_is_kept_is_the_last_body_that_fits_its_memory_and_is_not_too_long() {
        let spare = Spare::new();
        let held = body(1000);
        spare.put(&held, 1000);
        spare.put(&body(2000), 4000);
        spare.put(&body(3000), 6001);
        spare.put(&body(MOST + 1), MOST + 1);
        let memory = spare.take(1).unwrap();
        assert!((2000..3000).contains(&memory.capacity()), "{}", memory.capacity());
        spare.put(&body(MOST), MOST);
        assert!(spare.take(MOST).is_some());
    }
}
