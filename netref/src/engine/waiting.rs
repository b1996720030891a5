//! Threads that wait for the outcome of a call, and run the callbacks of its chain meanwhile.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use farref_boxing::ErrorKind;

use crate::chain;
use crate::clock;
use crate::context;
use crate::engine::core::Core;
use crate::engine::lead::{Leader, Led};
use crate::lock::lock;
use crate::pool::{self, Pool};
use crate::protocol::{CancelReason, Chain, Protocol};
use crate::remote::{Conduit, EngineHandles, Outcome};
use crate::waiter::{ThreadWaiter, Waiter, Woken};

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Runs `wait` while this thread is known as waiting in `chain`: it is given the callbacks of that.
    pub(super) fn waiting_in<R>(
        self: &Arc<Self>,
        chain: Option<Chain>,
        wait: impl FnOnce(&crate::sync::Arc<ThreadWaiter>) -> R,
    ) -> R {
        with_thread(|thread| {
            let registered = chain.map(|chain| chain::register(chain, thread));
            if let Some(chain) = chain {
                self.dispatch.hand_over(chain, thread);
            }
            let result = wait(thread);
            drop(registered);
            for job in thread.take_jobs() {
                self.run_on_pool(None, None, job);
            }
            result
        })
    }

    /// Waits for the outcome of a call on this thread, and runs the callbacks of its chain.
    fn wait_here(
        self: &Arc<Self>,
        number: u64,
        thread: &crate::sync::Arc<ThreadWaiter>,
        patience: Option<Duration>,
        leader: Option<Leader<'_, P>>,
    ) -> Option<Outcome> {
        let until = patience.map(clock::after).map(clock::instant);
        let outcome = || {
            if context::is_cancelled() {
                self.drop_call(number, CancelReason::Upstream);
                return Some(Outcome::Error(ErrorKind::Cancelled.into()));
            }
            let waiter = &mut || Waiter::Thread(crate::sync::Arc::clone(thread));
            match self.poll_outcome(number, waiter) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            }
        };
        // Whoever reads by itself is not woken, but looks.
        let led = || {
            let is_ready = context::is_cancelled() || lock(&self.state).protocol.is_ready(number);
            is_ready.then(&outcome).flatten()
        };
        if let Some(leader) = leader
            && let Led::Done(outcome) = leader.drive(Some(thread), led)
        {
            return Some(outcome);
        }
        loop {
            if let Some(outcome) = outcome() {
                return Some(outcome);
            }
            match thread.wait(until) {
                Woken::Notified => {}
                Woken::Job(job) => job(),
                Woken::TimedOut => return None,
            }
        }
    }

    /// [`wait_here`](Self::wait_here), woken also when the call that is served here is given up. The call is cancelled
    /// then at once, though this thread may be busy with a callback: what that waits for may be cancelled by it.
    pub(super) fn wait_watched(
        self: &Arc<Self>,
        number: u64,
        thread: &crate::sync::Arc<ThreadWaiter>,
        patience: Option<Duration>,
        leader: Option<Leader<'_, P>>,
    ) -> Option<Outcome> {
        let serving = context::serving();
        if let Some((conduit, answer)) = &serving {
            let conduit_of_call = self.anchor() as Arc<dyn Conduit>;
            conduit.wake_on_cancel(
                *answer,
                Some((crate::sync::Arc::clone(thread), conduit_of_call, number)),
            );
        }
        let outcome = self.wait_here(number, thread, patience, leader);
        if let Some((conduit, answer)) = &serving {
            conduit.wake_on_cancel(*answer, None);
        }
        outcome
    }
}

/// Runs `run` with a waiter of this thread; nested calls get one each.
fn with_thread<R>(run: impl FnOnce(&crate::sync::Arc<ThreadWaiter>) -> R) -> R {
    thread_local! {
        static POOL: Pool<crate::sync::Arc<ThreadWaiter>> = const { Pool::new() };
    }
    let thread = pool::take(&POOL).unwrap_or_default();
    let result = run(&thread);
    pool::put(&POOL, thread);
    result
}
