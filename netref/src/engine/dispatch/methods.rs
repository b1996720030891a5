//! Methods that run: async ones, polled by whoever reads and then by a task, and blocking ones, on a pool of threads.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use farref_boxing::{Error, ErrorKind};

use super::cancel::Cancel;
use super::kept::Kept;
use super::{Dispatch, Next, Slot};
use crate::chain;
use crate::context::{self, Serving};
use crate::engine::core::Core;
use crate::interface::Method;
use crate::lock::lock;
use crate::panics;
use crate::place;
use crate::protocol::{Chain, Protocol};
use crate::remote::{Conduit, EngineHandles};
use crate::served::{self, ServedFuture};
use crate::waiter::{Job, ThreadWaiter};

/// A blocking method whose turn has not come.
pub(super) struct Turn {
    /// Its call, if it can be given up.
    pub(super) call: Option<u64>,
    chain: Option<Chain>,
    pub(super) job: Job,
}

/// How a call is to be run.
pub(super) struct How {
    /// The caller is blocked until it returns.
    pub(super) awaited: bool,
    /// The mailbox that is busy meanwhile if it runs alone.
    pub(super) slot: Slot,
}

impl Dispatch {
    /// Gives a thread that waits in `chain` the methods of that chain whose turn has not come.
    pub(crate) fn hand_over(&self, chain: Chain, thread: &crate::sync::Arc<ThreadWaiter>) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            return;
        }
        let is_of_chain = |turn: &Turn| turn.chain.is_some_and(|of| of.id() == chain.id());
        let queue = std::mem::take(state.queue.queue());
        let (handed, left): (VecDeque<Turn>, _) = queue.into_iter().partition(is_of_chain);
        *state.queue.queue() = left;
        for turn in handed {
            thread.push(turn.job);
        }
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Polls an async method for the first time, in order. If it waits, it is kept, or spawned.
    pub(super) fn run_async(
        self: &Arc<Self>,
        mut future: ServedFuture,
        method: &'static Method,
        mut serving: Serving,
        how: How,
        kept: Option<&mut Kept<P>>,
    ) -> Next {
        let alone = method.manners.serial;
        if alone {
            // Before the first poll: it may block, and then somebody else reads the calls that come meanwhile.
            self.occupy(how.slot, &mut serving, true);
        }
        let answer = serving.answer;
        let mut serving = Some(serving);
        let is_over = !method.manners.spawned && {
            let context = &mut Context::from_waker(Waker::noop());
            self.poll_method(&mut future, &mut serving, answer, context)
                .is_ready()
        };
        if is_over {
            served::put(future);
            self.left(answer);
            return if alone { Next::Freed(how.slot) } else { Next::Go };
        }
        // Whoever has it from here on polls it again at once, with a waker.
        let served = Served::new(self, future, (answer, serving), alone.then_some(how.slot));
        match kept {
            Some(kept) if !method.manners.spawned => kept.keep(served),
            _ => served.spawn(),
        }
        if alone { Next::Wait(how.slot) } else { Next::Go }
    }

    /// Polls an async method as the call that is being served. One that panics is answered, and over.
    fn poll_method(
        self: &Arc<Self>,
        future: &mut ServedFuture,
        serving: &mut Option<Serving>,
        answer: u64,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let polled = context::serve(serving, || panics::guard(|| future.poll(context)));
        polled.unwrap_or_else(|error| {
            self.answer_panic(answer, error);
            Poll::Ready(())
        })
    }

    /// Runs a blocking method on a thread that may wait.
    pub(super) fn run_blocking(
        self: &Arc<Self>,
        job: Job,
        method: &'static Method,
        mut serving: Serving,
        how: How,
    ) -> Next {
        let How { awaited, slot } = how;
        let answer = serving.answer;
        if method.manners.inline {
            let mut serving = Some(serving);
            if let Err(error) = context::serve(&mut serving, || panics::guard(job)) {
                self.answer_panic(answer, error);
            }
            self.left(answer);
            return Next::Go;
        }
        let chain = serving.chain;
        let alone = method.manners.serial || !(awaited || method.manners.concurrent);
        if alone {
            self.occupy(slot, &mut serving, method.manners.serial);
        }
        drop(self.dispatch.enter(answer));
        let core = Arc::clone(self);
        let run: Job = Box::new(move || {
            if core.dispatch.is_cancelled(answer) {
                // Given up before its turn came: it never runs, and was answered already.
                core.discard(job);
            } else {
                let mut serving = Some(serving);
                let ran = context::serve(&mut serving, || place::on_pool(|| panics::guard(job)));
                if let Err(error) = ran {
                    core.answer_panic(answer, error);
                }
            }
            core.dispatch.leave(answer);
            if alone {
                core.not_busy(slot);
                core.drain(slot);
            }
        });
        let run = match chain {
            // Back on the thread that waits for this very chain, if it is here.
            Some(chain) if awaited => chain::hand_to_waiting_thread(chain, run).err(),
            _ => Some(run),
        };
        if let Some(run) = run {
            self.run_on_pool(Some(answer), chain, run);
        }
        if alone { Next::Wait(slot) } else { Next::Go }
    }

    /// Makes a mailbox busy: what comes waits until the call is over. Calls that the method makes are known by its
    /// chain, which it gets here if it has none.
    fn occupy(&self, slot: Slot, serving: &mut Serving, serial: bool) {
        let chain = serving.chain.get_or_insert_with(chain::fresh).id();
        let mut state = lock(&self.dispatch.state);
        let mailbox = self.dispatch.mailbox(&mut state, slot);
        mailbox.busy = true;
        mailbox.alone = Some((chain, serial));
    }

    /// A method is over that was run by whoever reads, or would have: it can be given up no more, if it could at all.
    fn left(&self, answer: u64) {
        if !self.is_driven_here() {
            self.dispatch.leave(answer);
        }
    }

    fn answer_panic(self: &Arc<Self>, answer: u64, error: Error) {
        let conduit = self.anchor();
        let peer = &self.peer;
        peer.warn(|left_out| tracing::warn!(%peer, panic = %error, left_out, "a method panicked"));
        conduit.answer_error(answer, error, true);
    }

    /// Runs `job` on a thread of the pool. If all of this peer's are taken: on the thread that waits for its chain,
    /// as that may be one of them; else when one is free.
    pub(crate) fn run_on_pool(self: &Arc<Self>, call: Option<u64>, chain: Option<Chain>, job: Job) {
        {
            let mut state = lock(&self.dispatch.state);
            if state.blocking as usize >= self.config.max_blocking.max(1) {
                // Under the lock: a thread that begins to wait looks at the queue afterwards.
                let stranded = match chain {
                    Some(chain) => chain::hand_to_waiting_thread(chain, job).err(),
                    None => Some(job),
                };
                if let Some(job) = stranded {
                    state.queue.queue().push_back(Turn { call, chain, job });
                }
                return;
            }
            state.blocking = state.blocking.saturating_add(1);
        }
        let core = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let mut next = Some(job);
            while let Some(job) = next {
                job();
                let mut state = lock(&core.dispatch.state);
                next = state.queue.pop_front().map(|turn| turn.job);
                if next.is_none() {
                    state.blocking = state.blocking.saturating_sub(1);
                }
            }
        });
    }
}

/// An async method that was polled and waits, or is to run by itself.
pub(super) struct Served<P: Protocol<EngineHandles>> {
    pub(super) core: Arc<Core<P>>,
    future: Option<ServedFuture>,
    serving: Option<Serving>,
    /// It can be given up.
    cancel: Arc<Cancel>,
    answer: u64,
    /// The mailbox that waits for the end.
    alone_on: Option<Slot>,
}

impl<P: Protocol<EngineHandles>> Served<P> {
    /// From here on it can be given up.
    pub(super) fn new(
        core: &Arc<Core<P>>,
        future: ServedFuture,
        (answer, serving): (u64, Option<Serving>),
        alone_on: Option<Slot>,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            future: Some(future),
            serving,
            cancel: core.dispatch.enter(answer),
            answer,
            alone_on,
        }
    }

    /// Gives it a task of its own.
    pub(super) fn spawn(self) {
        let runtime = self.core.runtime.clone();
        runtime.spawn(self);
    }
}

impl<P: Protocol<EngineHandles>> Future for Served<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut watchers = lock(&this.cancel.watchers);
        if !watchers
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(context.waker()))
        {
            watchers.task = Some(context.waker().clone());
        }
        drop(watchers);
        if this.cancel.is_given_up() {
            // Dropping the method's future is how it is cancelled; its own calls are cancelled with it.
            let dropped = this.future.take();
            // What its destructors still have to tell others is not cut short by a deadline that has passed.
            if let Some(serving) = &mut this.serving {
                serving.deadline = None;
            }
            let ended = context::serve(&mut this.serving, || panics::guard(|| drop(dropped)));
            if let Err(error) = ended {
                let peer = &this.core.peer;
                peer.warn(|left_out| {
                    tracing::warn!(%peer, panic = %error, left_out, "a cancelled method panicked");
                });
            }
            return Poll::Ready(());
        }
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        let polled = this
            .core
            .poll_method(future, &mut this.serving, this.answer, context);
        if polled.is_ready()
            && let Some(future) = this.future.take()
        {
            served::put(future);
        }
        polled
    }
}

impl<P: Protocol<EngineHandles>> Drop for Served<P> {
    fn drop(&mut self) {
        self.core.dispatch.leave(self.answer);
        // A runtime that is shut down drops its tasks: whoever waits for them should hear of it. What is behind it is not
        // run, as it would be dropped at once; the connection ends, and gives it up.
        if self.future.is_some() {
            self.alone_on = None;
            let conduit = self.core.anchor();
            conduit.answer_error(
                self.answer,
                Error::new(ErrorKind::Cancelled, "the serving side is shutting down"),
                true,
            );
        }
        if let Some(slot) = self.alone_on {
            self.core.not_busy(slot);
            self.core.drain(slot);
        }
    }
}
