//! Encoders for reuse: a call allocates none in the steady state.

use farref_boxing::Encoder;

use crate::pool::{self, Pool};

thread_local! {
    /// Boxed: a call that owns one is moved about.
    static POOL: Pool<Box<Encoder>> = const { Pool::new() };
}

/// An empty encoder.
pub(crate) fn take() -> Box<Encoder> {
    pool::take(&POOL).unwrap_or_default()
}

/// Gives an encoder back. It may have come from another thread.
pub(crate) fn put(mut encoder: Box<Encoder>) {
    encoder.clear();
    pool::put(&POOL, encoder);
}
