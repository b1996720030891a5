//! The runtime that tasks are started on: the caller's own, or one behind the scenes for programs without.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The runtime of the calling thread, else the one behind the scenes.
///
/// # Panics
///
/// If the system gives no threads to a program that has no runtime of its own.
#[must_use]
pub fn handle() -> Handle {
    Handle::try_current().unwrap_or_else(|_| background().clone())
}

/// The runtime behind the scenes: one worker, started when it is first asked for.
///
/// # Panics
///
/// If the system gives it no thread.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "a program whose system has no thread left cannot go on"
)]
pub fn background() -> &'static Handle {
    static BACKGROUND: OnceLock<Runtime> = OnceLock::new();
    let runtime = BACKGROUND.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("farref")
            .enable_all()
            .build()
            .expect("the system gives no thread for farref's runtime")
    });
    runtime.handle()
}

/// Runs a blocking method of a local object off the calling task.
pub(crate) fn spawn_blocking<R: Send + 'static>(
    method: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    handle().spawn_blocking(move || crate::place::on_pool(method))
}
