//! The peer's calls on their way to the methods: in order where order was promised, at once where not.
//!
//! An export has a *mailbox* only while something in it waits: for arguments that are still coming, or for a
//! method that runs alone. Otherwise a call goes straight to its method, and nothing is looked up or allocated.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};
use rustc_hash::FxHashMap;

use crate::call::BoxFuture;
use crate::chain;
use crate::context::{self, Serving};
use crate::engine::core::Core;
use crate::interface::Method;
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::panics;
use crate::place;
use crate::protocol::{CancelReason, Incoming, IncomingTarget, Protocol};
use crate::remote::{Conduit, EngineHandles, Remote};
use crate::waiter::{Job, ThreadWaiter};

/// What runs and what waits on the serving side of one connection.
pub(crate) struct Dispatch {
    state: Mutex<Running>,
    max_blocking: usize,
}

#[derive(Default)]
struct Running {
    /// Calls whose method runs or waits for its turn, and can be given up.
    calls: FxHashMap<u64, Arc<Cancel>>,
    /// Exports with something that waits.
    mailboxes: FxHashMap<u64, Mailbox>,
    /// Calls whose arguments are still coming, and the export whose mailbox they wait in.
    bodies: FxHashMap<u64, u64>,
    /// Blocking methods that run.
    blocking: usize,
    /// Blocking methods whose turn has not come, each with its call if it has one.
    queue: VecDeque<(Option<u64>, Job)>,
}

/// Calls to one export, in order.
///
/// # Invariant
///
/// While `busy`, somebody runs the call before the first of the queue, and will look at the queue afterwards.
#[derive(Default)]
struct Mailbox {
    busy: bool,
    queue: VecDeque<Incoming<EngineHandles>>,
}

/// How a running call is given up.
#[derive(Default)]
pub(crate) struct Cancel {
    given_up: AtomicBool,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    task: Option<Waker>,
    thread: Option<crate::sync::Arc<ThreadWaiter>>,
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
}

impl Cancel {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        let Watchers { task, thread, passed_on } = std::mem::take(&mut *lock(&self.watchers));
        if let Some(task) = task {
            task.wake();
        }
        if let Some(thread) = thread {
            thread.notify();
        }
        if let Some((conduit, number)) = passed_on {
            conduit.drop_call(number, CancelReason::Upstream);
        }
    }
}

/// Whether the next call of the mailbox may go on.
#[derive(PartialEq, Eq)]
enum Next {
    /// At once.
    Go,
    /// When this one is over: it will see to that.
    Wait,
}

impl Dispatch {
    pub(crate) fn new(max_blocking: usize) -> Self {
        Self { state: Mutex::default(), max_blocking }
    }

    pub(crate) fn is_cancelled(&self, answer: u64) -> bool {
        lock(&self.state).calls.get(&answer).is_some_and(|cancel| cancel.is_given_up())
    }

    pub(crate) fn wake_on_cancel(&self, answer: u64, thread: Option<crate::sync::Arc<ThreadWaiter>>) {
        let cancel = lock(&self.state).calls.get(&answer).cloned();
        if let Some(cancel) = cancel {
            let replaced = std::mem::replace(&mut lock(&cancel.watchers).thread, thread);
            drop(replaced);
        }
    }

    pub(crate) fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        let mut state = lock(&self.state);
        if passed_on.is_none() {
            drop(state.calls.remove(&answer));
            return;
        }
        let cancel = Arc::clone(state.calls.entry(answer).or_default());
        drop(state);
        lock(&cancel.watchers).passed_on = passed_on;
    }

    /// Notes that the method of `answer` is about to run.
    fn enter(&self, answer: u64) -> Arc<Cancel> {
        Arc::clone(lock(&self.state).calls.entry(answer).or_default())
    }

    fn leave(&self, answer: u64) {
        let ended = lock(&self.state).calls.remove(&answer);
        drop(ended);
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// A call came.
    pub(crate) fn deliver(self: &Arc<Self>, incoming: Incoming<EngineHandles>) {
        let export = match &incoming.target {
            IncomingTarget::Object { export, .. } => *export,
            IncomingTarget::Import(_) | IncomingTarget::Broken(_) => {
                self.run(incoming);
                return;
            }
        };
        {
            let mut state = lock(&self.dispatch.state);
            if incoming.body.is_none() {
                state.bodies.insert(incoming.answer, export);
            }
            if let Some(mailbox) = state.mailboxes.get_mut(&export) {
                return mailbox.queue.push_back(incoming);
            }
            if incoming.body.is_none() {
                return state.mailboxes.entry(export).or_default().queue.push_back(incoming);
            }
        }
        // A method that runs alone makes the mailbox busy by itself.
        self.run(incoming);
    }

    /// The arguments of a call are there.
    pub(crate) fn body_arrived(self: &Arc<Self>, answer: u64, body: Bytes) {
        let export = {
            let mut state = lock(&self.dispatch.state);
            let Some(export) = state.bodies.remove(&answer) else { return };
            let Some(mailbox) = state.mailboxes.get_mut(&export) else { return };
            if let Some(waiting) = mailbox.queue.iter_mut().find(|incoming| incoming.answer == answer) {
                waiting.body = Some(body);
            }
            export
        };
        self.drain(export);
    }

    /// A call was given up.
    pub(crate) fn give_up(self: &Arc<Self>, answer: u64) {
        let (cancel, waiting, queued, export) = {
            let mut state = lock(&self.dispatch.state);
            let cancel = state.calls.get(&answer).cloned();
            let export = state.bodies.remove(&answer);
            let mut waiting = None;
            for mailbox in state.mailboxes.values_mut() {
                if let Some(at) = mailbox.queue.iter().position(|incoming| incoming.answer == answer) {
                    waiting = mailbox.queue.remove(at);
                }
            }
            let queued = state.queue.iter().position(|(call, _)| *call == Some(answer));
            let queued = queued.and_then(|at| state.queue.remove(at));
            (cancel, waiting, queued, export)
        };
        drop(waiting);
        if let Some(cancel) = cancel {
            cancel.give_up();
        }
        // Out of the queue at once, so that calls which are given up cannot pile up in it: it sees that it was
        // given up, and does not run.
        if let Some((_, job)) = queued {
            job();
        }
        // What waited behind the arguments that will never come goes on.
        if let Some(export) = export {
            self.drain(export);
        }
    }

    /// Runs what can be run of a mailbox, in order; one thread at a time does.
    fn drain(self: &Arc<Self>, export: u64) {
        loop {
            let incoming = {
                let mut state = lock(&self.dispatch.state);
                let Some(mailbox) = state.mailboxes.get_mut(&export) else { return };
                if mailbox.busy {
                    return;
                }
                match mailbox.queue.front() {
                    None => {
                        state.mailboxes.remove(&export);
                        return;
                    }
                    Some(first) if first.body.is_none() => return,
                    Some(_) => {
                        mailbox.busy = true;
                        mailbox.queue.pop_front()
                    }
                }
            };
            if let Some(incoming) = incoming
                && self.run(incoming) == Next::Wait
            {
                return;
            }
            self.not_busy(export);
        }
    }

    fn not_busy(&self, export: u64) {
        if let Some(mailbox) = lock(&self.dispatch.state).mailboxes.get_mut(&export) {
            mailbox.busy = false;
        }
    }

    /// Hands a call to its method.
    fn run(self: &Arc<Self>, incoming: Incoming<EngineHandles>) -> Next {
        let Incoming { answer, target, op, options, body, refs } = incoming;
        let conduit: Arc<dyn Conduit> = self.anchor();
        let serving = Serving {
            conduit: Arc::clone(&conduit),
            answer,
            chain: options.chain,
            deadline: options.deadline,
            hops: options.hops,
        };
        let how = How { answer, awaited: options.blocking, export: None };
        let invocation = Invocation::new(conduit, answer, op, options, body.unwrap_or_default(), refs);
        match target {
            IncomingTarget::Broken(error) => {
                invocation.fail(error, false);
                Next::Go
            }
            IncomingTarget::Import(remote) => {
                let remote: Arc<dyn Remote> = remote;
                drop(crate::relay::forward(&remote, None, invocation));
                Next::Go
            }
            IncomingTarget::Object { object, export, .. } => {
                let dispatched = object.dispatch(invocation);
                let how = How { export: Some(export), ..how };
                match dispatched {
                    Dispatched::Async(future, method) => self.run_async(future, method, serving, how),
                    Dispatched::Blocking(job, method) => self.run_blocking(job, method, serving, how),
                    Dispatched::Done => Next::Go,
                }
            }
        }
    }

    /// Polls an async method for the first time, in order, and spawns it if it waits.
    fn run_async(
        self: &Arc<Self>,
        future: BoxFuture<'static, ()>,
        method: &'static Method,
        serving: Serving,
        how: How,
    ) -> Next {
        let mut served = Served {
            core: Arc::clone(self),
            future: Some(future),
            serving: Some(serving),
            cancel: None,
            answer: how.answer,
            alone_on: None,
        };
        if !method.manners.spawned && served.step(&mut Context::from_waker(Waker::noop())).is_ready() {
            return Next::Go;
        }
        served.cancel = Some(self.dispatch.enter(how.answer));
        let next = if method.manners.serial { self.occupy(how.export) } else { None };
        served.alone_on = next;
        // The task polls it again at once, with a waker of its own.
        self.runtime.spawn(served);
        if next.is_some() { Next::Wait } else { Next::Go }
    }

    /// Runs a blocking method on a thread that may wait.
    fn run_blocking(
        self: &Arc<Self>,
        job: Job,
        method: &'static Method,
        serving: Serving,
        how: How,
    ) -> Next {
        let How { answer, awaited, export } = how;
        if method.manners.inline {
            let mut serving = Some(serving);
            if let Err(error) = context::serve(&mut serving, || panics::guard(job)) {
                self.answer_panic(answer, error);
            }
            return Next::Go;
        }
        let chain = serving.chain;
        let alone = method.manners.serial || !(awaited || method.manners.concurrent);
        let alone_on = if alone { self.occupy(export) } else { None };
        drop(self.dispatch.enter(answer));
        let core = Arc::clone(self);
        let run: Job = Box::new(move || {
            // Given up before its turn came: it never runs, and was answered already.
            if !core.dispatch.is_cancelled(answer) {
                let mut serving = Some(serving);
                let ran = context::serve(&mut serving, || place::on_pool(|| panics::guard(job)));
                if let Err(error) = ran {
                    core.answer_panic(answer, error);
                }
            }
            core.dispatch.leave(answer);
            if let Some(export) = alone_on {
                core.not_busy(export);
                core.drain(export);
            }
        });
        let run = match chain {
            // Back on the thread that waits for this very chain, if it is here.
            Some(chain) if awaited => chain::hand_to_waiting_thread(chain, run).err(),
            _ => Some(run),
        };
        if let Some(run) = run {
            self.run_on_pool(Some(answer), run);
        }
        if alone_on.is_some() { Next::Wait } else { Next::Go }
    }

    /// Makes the mailbox of an export busy: what comes waits until the call is over.
    fn occupy(&self, export: Option<u64>) -> Option<u64> {
        let export = export?;
        lock(&self.dispatch.state).mailboxes.entry(export).or_default().busy = true;
        Some(export)
    }

    fn answer_panic(self: &Arc<Self>, answer: u64, error: Error) {
        let conduit = self.anchor();
        tracing::warn!(peer = %self.peer, panic = %error, "a method panicked");
        conduit.answer_error(answer, error, true);
    }

    /// Runs `job` on a thread of the pool; if all of this peer's are taken, when one is free.
    pub(crate) fn run_on_pool(self: &Arc<Self>, call: Option<u64>, job: Job) {
        {
            let mut state = lock(&self.dispatch.state);
            if state.blocking >= self.dispatch.max_blocking {
                return state.queue.push_back((call, job));
            }
            state.blocking = state.blocking.saturating_add(1);
        }
        let core = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let mut next = Some(job);
            while let Some(job) = next {
                job();
                let mut state = lock(&core.dispatch.state);
                next = state.queue.pop_front().map(|(_, job)| job);
                if next.is_none() {
                    state.blocking = state.blocking.saturating_sub(1);
                }
            }
        });
    }
}

/// How a call is to be run.
struct How {
    answer: u64,
    /// The caller is blocked until it returns.
    awaited: bool,
    export: Option<u64>,
}

/// An async method that is being served.
struct Served<P: Protocol<EngineHandles>> {
    core: Arc<Core<P>>,
    future: Option<BoxFuture<'static, ()>>,
    serving: Option<Serving>,
    /// Set once it waits: from then on it can be given up.
    cancel: Option<Arc<Cancel>>,
    answer: u64,
    /// The export whose mailbox waits for the end.
    alone_on: Option<u64>,
}

impl<P: Protocol<EngineHandles>> Served<P> {
    fn step(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        let polled = context::serve(&mut self.serving, || panics::guard(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(error) => self.core.answer_panic(self.answer, error),
        }
        self.future = None;
        Poll::Ready(())
    }
}

impl<P: Protocol<EngineHandles>> Future for Served<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Some(cancel) = &this.cancel {
            let mut watchers = lock(&cancel.watchers);
            if !watchers.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
                watchers.task = Some(context.waker().clone());
            }
            drop(watchers);
            if cancel.is_given_up() {
                // Dropping the method's future is how it is cancelled; its own calls are cancelled with it.
                let dropped = this.future.take();
                // What its destructors still have to tell others is not cut short by a deadline that has passed.
                if let Some(serving) = &mut this.serving {
                    serving.deadline = None;
                }
                let ended = context::serve(&mut this.serving, || panics::guard(|| drop(dropped)));
                if let Err(error) = ended {
                    tracing::warn!(peer = %this.core.peer, panic = %error, "a cancelled method panicked");
                }
                return Poll::Ready(());
            }
        }
        this.step(context)
    }
}

impl<P: Protocol<EngineHandles>> Drop for Served<P> {
    fn drop(&mut self) {
        if self.cancel.is_some() {
            self.core.dispatch.leave(self.answer);
            // A runtime that is shut down drops its tasks: whoever waits for them should hear of it.
            if self.future.is_some() {
                let conduit = self.core.anchor();
                conduit.answer_error(
                    self.answer,
                    Error::new(ErrorKind::Cancelled, "the serving side is shutting down"),
                    true,
                );
            }
        }
        if let Some(export) = self.alone_on {
            self.core.not_busy(export);
            self.core.drain(export);
        }
    }
}
