//! Where a thread may wait for a call, and where it must not.
//!
//! | the calling thread | what a blocking call does |
//! |---|---|
//! | has no runtime | waits |
//! | runs a blocking method for a peer | waits; its place in the pool is not given to anybody else |
//! | is a worker of a multi-thread runtime | hands its tasks to another thread, then waits |
//! | reads a connection (an async method polled in order, or after a callback) | gives the reading away first, then the same |
//! | was spawned by `spawn_blocking` of a multi-thread runtime | waits |
//! | is a current-thread runtime, in a `LocalSet`, or was spawned by `spawn_blocking` of such a runtime | an error at once that names `.call()` |
//!
//! The last row is the only one where waiting could wait for ever: nobody else runs the tasks of that thread.
//! (tokio does not tell the threads of `spawn_blocking` from the one that runs a current-thread runtime.)

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use farref_boxing::{Error, ErrorKind};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::clock;
use crate::protocol::Chain;
use crate::waiter::{ThreadWaiter, Woken};

thread_local! {
    /// Whether this thread runs a blocking method. Scoped to the method: `block_in_place` turns threads of the
    /// pool into workers, and a mark left behind would follow.
    static ON_POOL: Cell<bool> = const { Cell::new(false) };
}

/// How a thread may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By sleeping.
    Plain,
    /// By sleeping, after its tasks were handed to another thread.
    Worker,
    /// Not at all.
    Nowhere,
}

fn place() -> Place {
    if ON_POOL.get() {
        return Place::Plain;
    }
    match Handle::try_current() {
        Err(_) => Place::Plain,
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => Place::Worker,
        Ok(_) => Place::Nowhere,
    }
}

/// Marks this thread as one of the pool while `method` runs.
pub(crate) fn on_pool<R>(method: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON_POOL.set(self.0);
        }
    }
    let _restore = Restore(ON_POOL.replace(true));
    method()
}

/// Whether this thread may wait at all.
///
/// # Errors
///
/// [`ErrorKind::WouldBlock`]: it is the only thread that could bring the answer.
pub(crate) fn check() -> Result<(), Error> {
    if place() == Place::Nowhere {
        Err(would_block())
    } else {
        Ok(())
    }
}

/// Runs `wait`, which sleeps, as the place demands. The reading of a connection is given away first, if this
/// thread has it.
///
/// # Errors
///
/// [`ErrorKind::WouldBlock`]: this thread must not wait, and `wait` was not run.
pub(crate) fn sleep<R>(wait: impl FnOnce() -> R) -> Result<R, Error> {
    match place() {
        Place::Plain => {
            crate::role::give_away();
            Ok(wait())
        }
        Place::Worker => {
            crate::role::give_away();
            let mut wait = Some(wait);
            // Inside a `LocalSet` tokio refuses by a panic, and offers no way to ask first.
            let waited = catch_unwind(AssertUnwindSafe(|| {
                tokio::task::block_in_place(|| wait.take().map(|wait| catch_unwind(AssertUnwindSafe(wait))))
            }));
            match waited {
                Ok(Some(Ok(result))) => Ok(result),
                Ok(Some(Err(panic))) => std::panic::resume_unwind(panic),
                Ok(None) | Err(_) => Err(would_block()),
            }
        }
        Place::Nowhere => Err(would_block()),
    }
}

fn would_block() -> Error {
    Error::new(
        ErrorKind::WouldBlock,
        "a blocking call here would stop the only thread that can bring its answer: \
         use `.call().method(..).await`, or a multi-thread runtime",
    )
}

/// Waits for a future on this thread, which runs the callbacks of its own chain of calls meanwhile.
///
/// # Errors
///
/// [`ErrorKind::WouldBlock`]: this thread must not wait.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Error> {
    let mut future = std::pin::pin!(future);
    wait_in(crate::context::chain(), |thread| {
        loop {
            // Without a deadline it is not given up.
            if let Some(result) = run(thread, None, future.as_mut()) {
                return result;
            }
        }
    })
}

/// Runs `wait` while this thread is known as waiting in `chain`: it is given the callbacks of that.
///
/// # Errors
///
/// [`ErrorKind::WouldBlock`]: this thread must not wait, and `wait` was not run.
pub(crate) fn wait_in<R>(
    chain: Option<Chain>,
    wait: impl FnOnce(&Arc<ThreadWaiter>) -> R,
) -> Result<R, Error> {
    sleep(|| {
        let thread = Arc::<ThreadWaiter>::default();
        let registered = chain.map(|chain| crate::chain::register(chain, &thread));
        let result = wait(&thread);
        drop(registered);
        for job in thread.take_jobs() {
            drop(crate::runtime::spawn_blocking(job));
        }
        result
    })
}

/// Polls `future` on this thread until it is ready, and runs what `thread` is given meanwhile; `None` if that takes
/// longer than `patience`.
pub(crate) fn run<F: Future>(
    thread: &Arc<ThreadWaiter>,
    patience: Option<Duration>,
    future: F,
) -> Option<F::Output> {
    struct Notify(Arc<ThreadWaiter>);
    impl Wake for Notify {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }
    let until = patience.map(|patience| clock::instant(clock::after(patience)));
    let waker = Arc::new(Notify(Arc::clone(thread))).into();
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    // Local async methods may use tokio: give them a runtime where the thread has none.
    let _in_runtime = Handle::try_current()
        .is_err()
        .then(|| crate::runtime::background().enter());
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        match thread.wait(until) {
            Woken::Job(job) => job(),
            Woken::Notified => {}
            Woken::TimedOut => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_thread_may_wait() {
        assert_eq!(place(), Place::Plain);
        assert_eq!(block_on(async { 7 }).unwrap(), 7);
    }

    #[test]
    fn a_worker_hands_its_tasks_on() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let seen = runtime.block_on(async {
            tokio::spawn(async { (place(), block_on(async { 7 }).unwrap()) })
                .await
                .unwrap()
        });
        assert_eq!(seen, (Place::Worker, 7));
    }

    #[test]
    fn a_current_thread_runtime_is_refused_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(async { block_on(async {}).unwrap_err() });
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains(".call()"), "{error}");
    }

    #[test]
    fn a_local_set_is_refused_at_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        let error = local.block_on(&runtime, async { block_on(async {}).unwrap_err() });
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_thread_of_spawn_blocking_is_taken_for_its_runtime() {
        let waited = || tokio::task::spawn_blocking(|| block_on(async { 7 }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(async { waited().await.unwrap().unwrap() }), 7);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(async { waited().await.unwrap().unwrap_err() });
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_blocking_method_on_a_current_thread_runtime_may_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(async {
            tokio::task::spawn_blocking(|| on_pool(|| block_on(async { 7 }).unwrap()))
                .await
                .unwrap()
        });
        assert_eq!(seen, 7);
    }

    #[test]
    fn a_panic_while_waiting_goes_on_as_a_panic() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let failed = runtime.block_on(async {
            tokio::spawn(async { sleep(|| panic!("in the wait")) })
                .await
                .unwrap_err()
        });
        assert!(failed.is_panic());
    }
}
