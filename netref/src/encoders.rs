//! Encoders for reuse: a call allocates none in the steady state.

use std::cell::RefCell;

use farref_boxing::Encoder;

/// Encoders kept per thread; more than that are freed.
const KEPT: usize = 8;

thread_local! {
    /// Boxed: a call that owns one is moved about.
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is reused")]
    static POOL: RefCell<Vec<Box<Encoder>>> = const { RefCell::new(Vec::new()) };
}

/// An empty encoder.
pub(crate) fn take() -> Box<Encoder> {
    POOL.try_with(|pool| pool.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Gives an encoder back. It may have come from another thread.
pub(crate) fn put(mut encoder: Box<Encoder>) {
    encoder.clear();
    // The thread may be ending: then the encoder is freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < KEPT {
            pool.push(encoder);
        }
    });
}
