//! The futures in which methods are served, for reuse: a call that is answered at once allocates none in the steady state.

use std::future::Future;

use tokio_util::sync::ReusableBoxFuture;

use crate::pool::{self, Pool};

/// A method that serves a call, with the reading of its arguments and its answer.
pub(crate) type ServedFuture = ReusableBoxFuture<'static, ()>;

/// Longest future that is kept, in bytes.
const LARGEST: usize = 4 << 10;

thread_local! {
    /// Those that are over: their memory is that of the next.
    static POOL: Pool<ServedFuture> = const { Pool::new() };
}

/// `future` in memory that another one has left.
pub(crate) fn take(future: impl Future<Output = ()> + Send + 'static) -> ServedFuture {
    match pool::take(&POOL) {
        Some(mut served) => {
            served.set(future);
            served
        }
        None => ReusableBoxFuture::new(future),
    }
}

/// Keeps the memory of a future that is over, unless it had large arguments.
pub(crate) fn put(mut over: ServedFuture) {
    if size_of_val(&*over.get_pin()) <= LARGEST {
        pool::put(&POOL, over);
    }
}
