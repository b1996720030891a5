//! Calls that this process makes of an object which it has behind a guard: through the same dispatch as those of a peer.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use farref_boxing::{Encoder, Error, ErrorKind, Reference};
use farref_framing::{Nanos, PeerEvidence};
use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;

use super::membrane::Guarded;
use crate::call::BoxFuture;
use crate::chain;
use crate::clock;
use crate::context;
use crate::hosted::{Exported, Handle};
use crate::interface::Interface;
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::panics;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{CallOptions, CancelReason, Op, PeerShape, Received, Target};
use crate::references;
use crate::relay;
use crate::remote::{Blocked, Conduit, EngineHandles, Outcome, Remote};
use crate::runtime;
use crate::trace;

/// What leads to one guarded object, and to what its calls return.
pub(super) struct Local {
    this: Weak<Self>,
    object: Weak<Guarded>,
    /// The connection that leads on to it, if it is far after all.
    beyond: Option<Arc<dyn Conduit>>,
    /// Nobody here knows what the object is handed out as, and its own peer knows no interfaces.
    is_by_name: bool,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    last: u64,
    open: FxHashMap<u64, Open>,
}

/// A call that is not over, or whose outcome was not taken.
#[derive(Default)]
struct Open {
    outcome: Option<Outcome>,
    /// Who waits for it.
    waker: Option<Waker>,
    /// What is to be called on its result.
    pipes: Vec<Piped>,
    detached: bool,
    /// Nobody wants the outcome any more.
    given_up: bool,
    task: Option<AbortHandle>,
    blocked: Option<Blocked>,
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
    /// What ends it at its deadline.
    timer: Option<Timer>,
}

/// A task that waits for a deadline, as long as the call does.
struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is done for a call.
struct Running {
    task: Option<AbortHandle>,
    blocked: Option<Blocked>,
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
}

impl Running {
    /// Stops it; whether it was passed on, and is not answered by itself then.
    fn stop(self) -> bool {
        if let Some(task) = self.task {
            task.abort();
        }
        if let Some((thread, conduit, number)) = self.blocked {
            thread.notify();
            conduit.drop_call(number, CancelReason::Upstream);
        }
        let was_passed_on = self.passed_on.is_some();
        if let Some((conduit, number)) = self.passed_on {
            conduit.drop_call(number, CancelReason::Upstream);
        }
        was_passed_on
    }
}

/// A call of the result of another one.
struct Piped {
    number: u64,
    slot: u32,
    invocation: Invocation,
}

/// Who runs what has to be done for a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A task, or a thread for blocking methods.
    Others,
    /// This thread, which waits for the outcome.
    Us,
}

impl Local {
    pub(super) fn leading_to(
        object: Weak<Guarded>,
        beyond: Option<Arc<dyn Conduit>>,
        interface: Option<&'static Interface>,
    ) -> Arc<dyn Conduit> {
        let is_by_name = interface.is_none() && beyond.as_ref().is_some_and(|beyond| beyond.is_by_name());
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            object,
            beyond,
            is_by_name,
            calls: Mutex::default(),
        })
    }

    fn change<R>(&self, call: u64, change: impl FnOnce(&mut Open) -> R) -> Option<R> {
        lock(&self.calls).open.get_mut(&call).map(change)
    }

    /// Makes a call, and gives its number.
    fn make(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
        by: By,
    ) -> Result<u64, Error> {
        let gone = || Error::new(ErrorKind::Misuse, "the guarded object is gone");
        let this = self.this.upgrade().ok_or_else(gone)?;
        // As with any call that leaves: where the object is far, they go on with it.
        let own = options.deadline.filter(|own| *own != Nanos::MAX);
        options.deadline = [own, context::deadline()].into_iter().flatten().min();
        options.chain = options.chain.or_else(|| context::chain().map(chain::nested));
        options.trace = options.trace.or_else(trace::on_wire);
        let number = {
            let mut calls = lock(&self.calls);
            calls.last = calls.last.wrapping_add(1);
            let number = calls.last;
            let open = Open {
                detached: options.detached,
                ..Open::default()
            };
            calls.open.insert(number, open);
            number
        };
        if let Some(deadline) = options.deadline {
            this.limit(number, deadline);
        }
        let invocation = Invocation::here(Arc::clone(&this) as _, number, op.clone(), options, encoder);
        match target {
            Target::Import(_) => match self.object.upgrade() {
                Some(object) => this.run(object.dispatch(invocation), number, by),
                None => self.settle(number, Outcome::Error(gone())),
            },
            Target::Answer { call, slot } => this.pipe(call, slot, number, invocation, by),
        }
        Ok(number)
    }

    /// Calls what `call` returns, as soon as that is there.
    fn pipe(self: &Arc<Self>, call: u64, slot: u32, number: u64, invocation: Invocation, by: By) {
        let mut piped = Some(Piped {
            number,
            slot,
            invocation,
        });
        let ready = self.change(call, |open| match &open.outcome {
            Some(outcome) => Some(result(outcome, slot)),
            None => {
                open.pipes.extend(piped.take());
                None
            }
        });
        let gone = || Err(Error::new(ErrorKind::Misuse, "the result of that call was taken"));
        match ready {
            Some(None) => {}
            ready => {
                let target = ready.flatten().unwrap_or_else(gone);
                if let Some(piped) = piped {
                    self.call_result(target, piped, by);
                }
            }
        }
    }

    fn call_result(
        self: &Arc<Self>,
        target: Result<Received<EngineHandles>, Error>,
        Piped {
            number, invocation, ..
        }: Piped,
        by: By,
    ) {
        let dispatched = match target {
            Ok(Received::Home(object)) => object.dispatch(invocation),
            Ok(Received::Import(import)) => relay::forward(&(import as Arc<dyn Remote>), None, invocation),
            Ok(Received::Broken(error)) | Err(error) => {
                invocation.fail(error, false);
                Dispatched::Done
            }
            Ok(Received::Null) => {
                let text = "the call returned no object to call";
                invocation.fail(Error::new(ErrorKind::Broken, text), false);
                Dispatched::Done
            }
        };
        self.run(dispatched, number, by);
    }

    /// Does what has to be done for a call.
    fn run(self: &Arc<Self>, dispatched: Dispatched, number: u64, by: By) {
        match (dispatched, by) {
            (Dispatched::Done, _) => {}
            (Dispatched::Unread(..), _) => {
                let text = "it cannot be told what the arguments look like";
                self.settle(
                    number,
                    Outcome::Error(Error::new(ErrorKind::SchemaMismatch, text)),
                );
            }
            (Dispatched::Async(mut future, _), By::Us) => {
                // It is over with the method, or with its outcome: its deadline may bring that.
                let over = poll_fn(|context| {
                    let ran = panics::guard(|| future.poll(context));
                    match ran {
                        Ok(Poll::Pending) if self.waits(number, context) => Poll::Pending,
                        Ok(_) => Poll::Ready(Ok(())),
                        Err(error) => Poll::Ready(Err(error)),
                    }
                });
                let ran = place::block_on(over).flatten();
                self.answered(number, ran);
            }
            (Dispatched::Blocking(job, _), By::Us) => {
                let ran = panics::guard(job);
                self.answered(number, ran);
            }
            (Dispatched::Async(mut future, _), By::Others) => {
                let runtime = runtime::handle();
                let _in_runtime = runtime.enter();
                // Calls begin in the order in which they are made.
                let first = panics::guard(|| future.poll(&mut Context::from_waker(Waker::noop())));
                let first = match first {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(())) => Some(Ok(())),
                    Err(error) => Some(Err(error)),
                };
                if let Some(ran) = first {
                    return self.answered(number, ran);
                }
                let this = Arc::clone(self);
                let task = runtime.spawn(async move {
                    future.await;
                    this.answered(number, Ok(()));
                });
                self.watch(number, task);
            }
            (Dispatched::Blocking(job, _), By::Others) => {
                let this = Arc::clone(self);
                let job = move || {
                    let ran = panics::guard(job);
                    this.answered(number, ran);
                };
                self.watch(number, runtime::spawn_blocking(job));
            }
        }
    }

    /// Sees to it that a task that panics answers, and that it ends when the call is given up.
    fn watch(self: &Arc<Self>, number: u64, task: tokio::task::JoinHandle<()>) {
        let abort = task.abort_handle();
        let given_up = self.change(number, |open| {
            open.task = Some(abort);
            open.given_up && !open.detached
        });
        if given_up == Some(true) {
            task.abort();
        }
        let this = Arc::clone(self);
        runtime::handle().spawn(async move {
            if let Err(error) = task.await {
                this.answered(number, Err(crate::call::join_error(error)));
            }
        });
    }

    /// A method has run, and should have answered; one that was passed on answers later.
    fn answered(&self, number: u64, ran: Result<(), Error>) {
        let text = || Error::new(ErrorKind::Cancelled, "the object gave no answer");
        let error = ran.err().unwrap_or_else(text);
        let is_open = self.change(number, |open| open.outcome.is_none() && open.passed_on.is_none());
        if is_open == Some(true) {
            self.settle(number, Outcome::Error(error));
        }
    }

    /// Ends a call at its deadline.
    fn limit(self: &Arc<Self>, number: u64, deadline: Nanos) {
        let this = Arc::downgrade(self);
        let left = Duration::from_nanos(deadline.saturating_sub(clock::now()));
        let timer = runtime::handle().spawn(async move {
            tokio::time::sleep(left).await;
            if let Some(this) = this.upgrade() {
                let running = this.running(number);
                // First, or the end of what is stopped is taken for the outcome.
                this.settle(number, Outcome::Error(ErrorKind::Deadline.into()));
                if let Some(running) = running {
                    running.stop();
                }
            }
        });
        let timer = Timer(timer.abort_handle());
        self.change(number, |open| open.timer = Some(timer));
    }

    /// What is done for a call, to be stopped; nothing if it goes on whoever waits.
    fn running(&self, number: u64) -> Option<Running> {
        let running = self.change(number, |open| {
            (!open.detached).then(|| Running {
                task: open.task.take(),
                blocked: open.blocked.take(),
                passed_on: open.passed_on.take(),
            })
        });
        running.flatten()
    }

    /// Whether there is no outcome yet; when there is, the task is woken.
    fn waits(&self, call: u64, context: &Context<'_>) -> bool {
        let mut replaced = Some(context.waker().clone());
        let waits = self.change(call, |open| {
            std::mem::swap(&mut open.waker, &mut replaced);
            open.outcome.is_none()
        });
        // Outside the lock: with a waker may go whatever it has kept.
        drop(replaced);
        waits == Some(true)
    }

    /// Keeps the first outcome of a call, and goes on with what waits for it.
    fn settle(&self, number: u64, outcome: Outcome) {
        let (waker, pipes, late) = {
            let mut calls = lock(&self.calls);
            let Some(open) = calls.open.get_mut(&number) else {
                return;
            };
            if open.outcome.is_some() {
                return;
            }
            let pipes: Vec<_> = std::mem::take(&mut open.pipes)
                .into_iter()
                .map(|piped| (result(&outcome, piped.slot), piped))
                .collect();
            let waker = open.waker.take();
            open.outcome = Some(outcome);
            let is_late = open.given_up;
            (waker, pipes, is_late.then(|| calls.open.remove(&number)))
        };
        drop(late);
        if let Some(this) = self.this.upgrade() {
            for (target, piped) in pipes {
                this.call_result(target, piped, By::Others);
            }
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self, call: u64) -> Option<Outcome> {
        let open = {
            let mut calls = lock(&self.calls);
            calls.open.get(&call)?.outcome.as_ref()?;
            calls.open.remove(&call)?
        };
        open.outcome
    }
}

/// The object that a call on a result goes to.
fn result(outcome: &Outcome, slot: u32) -> Result<Received<EngineHandles>, Error> {
    match outcome {
        Outcome::Value {
            failed: false, refs, ..
        } => {
            let at = usize::try_from(slot).ok().and_then(|slot| refs.get(slot));
            Ok(at.cloned().unwrap_or(Received::Null))
        }
        Outcome::Value { .. } => Err(Error::new(ErrorKind::Broken, "the call returned an error")),
        Outcome::Error(error) => Err(error.clone()),
    }
}

/// What was encoded for a caller of this process, as it reads it.
fn received(reference: &Reference) -> Received<EngineHandles> {
    match Handle::of(reference) {
        Some(Handle::Local(object)) => Received::Home(Arc::clone(object)),
        Some(Handle::Remote(remote, interface)) => Received::Home(references::handed_on(remote, *interface)),
        Some(Handle::Broken(error)) => Received::Broken(error.clone()),
        Some(Handle::Null) | None => Received::Null,
    }
}

impl Conduit for Local {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.make(target, op, options, encoder, By::Others)
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        let call = self.make(target, op, options, encoder, By::Us)?;
        match self.take(call) {
            Some(outcome) => Ok(outcome),
            None => place::block_on(poll_fn(|context| self.poll_outcome(call, context))),
        }
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.take(call) {
            return Poll::Ready(outcome);
        }
        if self.waits(call, context) {
            return Poll::Pending;
        }
        // It came in between.
        let outcome = self.take(call);
        Poll::Ready(outcome.unwrap_or_else(|| Outcome::Error(ErrorKind::Cancelled.into())))
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        let outcome = poll_fn(|context| self.poll_outcome(call, context));
        match patience {
            None => place::block_on(outcome).map(Some),
            Some(patience) => place::block_on(async { tokio::time::timeout(patience, outcome).await.ok() }),
        }
    }

    fn is_ready(&self, call: u64) -> bool {
        self.change(call, |open| open.outcome.is_some()).unwrap_or(true)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        let (goes_on, over) = {
            let mut calls = lock(&self.calls);
            let Some(open) = calls.open.get_mut(&call) else {
                return;
            };
            open.given_up = true;
            // Somebody else may want it to go on.
            let goes_on = open.outcome.is_some() || !open.pipes.is_empty();
            let is_over = open.outcome.is_some();
            (goes_on, is_over.then(|| calls.open.remove(&call)))
        };
        drop(over);
        if !goes_on && self.running(call).is_some_and(Running::stop) {
            self.settle(call, Outcome::Error(cancelled(reason)));
        }
    }

    fn release(&self, _import: u64, _generation: u32) {}

    fn answer_value(&self, answer: u64, failure: Option<Error>, shape: u32, encoder: &mut Encoder) {
        let outcome = Outcome::Value {
            failed: failure.is_some(),
            shape,
            body: encoder.body().to_bytes(),
            refs: encoder.references().iter().map(received).collect(),
            writer: None,
        };
        encoder.references().clear();
        self.settle(answer, outcome);
    }

    fn answer_error(&self, answer: u64, error: Error, _started: bool) {
        self.settle(answer, Outcome::Error(error));
    }

    fn answer_outcome(&self, answer: u64, outcome: Outcome) {
        self.settle(answer, outcome);
    }

    fn forward(self: Arc<Self>, target: Target, options: CallOptions, invocation: Invocation) {
        // Whoever hands it on hands on the guarded object itself.
        let _ = (target, options);
        let text = "a guarded object is not called through what calls it here";
        invocation.fail(Error::new(ErrorKind::Misuse, text), false);
    }

    fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        let replaced = self.change(answer, |open| std::mem::replace(&mut open.blocked, blocked));
        drop(replaced);
    }

    fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        let given_up = self.change(answer, |open| {
            let is_given_up = open.given_up && !open.detached && open.pipes.is_empty();
            open.passed_on.clone_from(&passed_on);
            is_given_up
        });
        if let (Some(true), Some((conduit, number))) = (given_up, passed_on) {
            conduit.drop_call(number, CancelReason::Upstream);
        }
    }

    fn is_cancelled(&self, answer: u64) -> bool {
        self.change(answer, |open| open.given_up && !open.detached)
            .unwrap_or(true)
    }

    fn shape(&self, fingerprint: u32) -> PeerShape {
        let beyond = self.beyond.as_ref();
        beyond.map_or(PeerShape::Unknown, |conduit| conduit.shape(fingerprint))
    }

    fn when_shape(&self, fingerprint: u32, tell: crate::remote::TellShape) {
        match &self.beyond {
            Some(conduit) => conduit.when_shape(fingerprint, tell),
            None => tell(None),
        }
    }

    fn is_by_name(&self) -> bool {
        self.is_by_name
    }

    fn peer(&self) -> &Arc<Peer> {
        match &self.beyond {
            Some(conduit) => conduit.peer(),
            None => here(),
        }
    }

    fn caller(&self) -> &Arc<Peer> {
        here()
    }

    fn lost(&self) -> BoxFuture<'static, Error> {
        match &self.beyond {
            Some(conduit) => conduit.lost(),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// Whoever calls what this process has.
fn here() -> &'static Arc<Peer> {
    static HERE: OnceLock<Arc<Peer>> = OnceLock::new();
    HERE.get_or_init(|| Arc::new(Peer::new("this process", None, PeerEvidence::None)))
}

fn cancelled(reason: CancelReason) -> Error {
    match reason {
        CancelReason::Deadline => ErrorKind::Deadline.into(),
        _ => ErrorKind::Cancelled.into(),
    }
}
