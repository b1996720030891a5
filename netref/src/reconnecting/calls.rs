//! The calls of a root that is found again: each is kept until it is over, and made again where that repeats nothing.
//!
//! Whoever makes a call or asks for its outcome marks it as busy and leaves the lock for that, so that nothing of a
//! connection's, and nothing of the user's, runs under it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use farref_boxing::{Certainty, Encoder, Error, ErrorKind, Reference};
use farref_framing::Nanos;
use tokio::sync::{Notify, oneshot};

use crate::chain;
use crate::clock;
use crate::config::Config;
use crate::connection::{Connection, Status};
use crate::context;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{CallOptions, CancelReason, Op, Target};
use crate::remote::{Blocked, Conduit, Import, Outcome, Remote};
use crate::runtime;
use crate::waiter::ThreadWaiter;

/// What the netrefs of such a root call through, over one connection after the other.
pub(super) struct Calls {
    this: Weak<Self>,
    table: Mutex<Table>,
    /// Woken when there is something for whoever looks after the connections, and when the status changes.
    pub(super) changed: Arc<Notify>,
    peer: Arc<Peer>,
    config: Config,
    /// Dropped with this: nobody calls any more.
    _in_use: oneshot::Sender<()>,
}

struct Table {
    /// By their numbers, which ascend in the order in which they were started.
    calls: BTreeMap<u64, Entry>,
    next: u64,
    root: Arc<Import>,
    connection: Connection,
    /// How many connections there were: the number of the latest.
    connections: u64,
    stage: Stage,
    status: Status,
    /// How often the status has changed.
    changes: u64,
}

/// What becomes of calls that are made now.
enum Stage {
    /// They are made on the root.
    Through,
    /// They wait for a root.
    Without,
    /// They fail: there will be none any more.
    Over(Error),
}

struct Entry {
    /// What is called on is another one of these, not of a connection.
    target: Target,
    /// `None` while it is being made.
    request: Option<Box<Request>>,
    place: Place,
    waker: Option<Waker>,
    /// An earlier attempt may have run: whatever becomes of later ones.
    unsure: Option<Error>,
    /// Nobody wants it, but calls on what it returns.
    is_unwanted: bool,
}

/// A call, as often as it may have to be made.
struct Request {
    op: Op,
    options: CallOptions,
    encoder: Encoder,
    references: Vec<Reference>,
}

enum Place {
    /// Waits for a root; what it failed with if it was made before.
    Queued(Option<Error>),
    /// Being made, or asked for its outcome; where it is, if it was made.
    Busy(Option<Sent>),
    Sent(Sent),
    Over(Outcome),
}

/// Where a call is made.
type Way = (Arc<dyn Conduit>, Target);

/// Where a call is.
#[derive(Clone)]
struct Sent {
    conduit: Arc<dyn Conduit>,
    number: u64,
    /// Number of the connection.
    connection: u64,
}

impl Calls {
    pub(super) fn new(
        root: Arc<Import>,
        connection: Connection,
        config: Config,
        in_use: oneshot::Sender<()>,
    ) -> Arc<Self> {
        let peer = connection.peer();
        let table = Table {
            calls: BTreeMap::new(),
            next: 0,
            root,
            connection,
            connections: 1,
            stage: Stage::Through,
            status: Status::Up,
            changes: 0,
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            table: Mutex::new(table),
            changed: Arc::default(),
            peer,
            config,
            _in_use: in_use,
        })
    }

    /// The connection that there is, or was last, and how many there were.
    pub(super) fn connection(&self) -> (Connection, u64) {
        let table = lock(&self.table);
        (table.connection.clone(), table.connections)
    }

    pub(super) fn root(&self) -> Arc<Import> {
        Arc::clone(&lock(&self.table).root)
    }

    /// Whether there will be no further connection.
    pub(super) fn is_over(&self) -> bool {
        matches!(lock(&self.table).stage, Stage::Over(_))
    }

    pub(super) fn status(&self) -> (Status, u64) {
        let table = lock(&self.table);
        (table.status.clone(), table.changes)
    }

    pub(super) fn set_status(&self, status: Status) {
        {
            let mut table = lock(&self.table);
            let is_early = status == Status::Up && !matches!(table.stage, Stage::Through);
            if table.status == status || is_early || matches!(table.stage, Stage::Over(_)) {
                return;
            }
            table.set_status(status);
        }
        self.changed.notify_waiters();
    }

    /// The connection is over: takes the outcomes of all calls that were made on it, and keeps those that may be
    /// made again.
    pub(super) async fn lost(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before looking: a call that is let go of after the look is not missed.
            changed.as_mut().enable();
            let (lost, is_busy) = {
                let mut table = lock(&self.table);
                if matches!(table.stage, Stage::Through) {
                    table.stage = Stage::Without;
                }
                table.take_sent()
            };
            if lost.is_empty() && !is_busy {
                return;
            }
            for (call, sent) in lost {
                let mut context = Context::from_waker(Waker::noop());
                let outcome = sent.conduit.poll_outcome(sent.number, &mut context);
                let waker = self.looked(call, sent, outcome);
                waker.into_iter().for_each(Waker::wake);
            }
            if is_busy {
                // Nobody is at a call for longer than it takes to look.
                changed.await;
            }
        }
    }

    /// Goes on over another connection: makes the calls that have waited, in their order.
    pub(super) fn restored(&self, root: Arc<Import>, connection: Connection) {
        let before = {
            let mut table = lock(&self.table);
            if matches!(table.stage, Stage::Over(_)) {
                return;
            }
            table.connections = table.connections.saturating_add(1);
            let root = std::mem::replace(&mut table.root, root);
            (root, std::mem::replace(&mut table.connection, connection))
        };
        drop(before);
        let mut last = None;
        loop {
            let next = {
                let mut table = lock(&self.table);
                let next = table.next_queued(last);
                // One that could not be sent waits again: this connection is about to end.
                if next.is_none() && matches!(table.stage, Stage::Without) && !table.has_queued() {
                    table.stage = Stage::Through;
                    table.set_status(Status::Up);
                }
                next
            };
            let Some(call) = next else { break };
            self.make(call);
            last = Some(call);
        }
        self.drop_unwanted();
        self.changed.notify_waiters();
    }

    /// There will be no further connection, for this reason: what waits for one fails.
    pub(super) fn end(&self, error: &Error) {
        let mut failed = Vec::new();
        {
            let mut table = lock(&self.table);
            if matches!(table.stage, Stage::Over(_)) {
                return;
            }
            table.set_status(Status::Over(error.clone()));
            table.stage = Stage::Over(error.clone());
            for entry in table.calls.values_mut() {
                if let Place::Queued(before) = &mut entry.place {
                    // Why there is no connection says more than why there was none before.
                    let before = before.take().filter(|before| !is_not_sent(before));
                    let error = before.unwrap_or_else(|| not_sent(error));
                    failed.push(entry.finish(Outcome::Error(error)));
                }
            }
        }
        failed.into_iter().flatten().for_each(Waker::wake);
        self.drop_unwanted();
        self.changed.notify_waiters();
    }

    /// Fails what has waited for too long; when the next call will have.
    pub(super) fn expire(&self) -> Option<Nanos> {
        let now = clock::now();
        let mut next: Option<Nanos> = None;
        let mut late = Vec::new();
        for entry in lock(&self.table).calls.values_mut() {
            let Some(deadline) = entry.waits_until() else {
                continue;
            };
            if deadline <= now {
                late.push(entry.finish(Outcome::Error(ErrorKind::Deadline.into())));
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        late.into_iter().flatten().for_each(Waker::wake);
        next
    }

    /// Makes a call that was marked as busy.
    fn make(&self, call: u64) {
        // Gone already if it was dropped meanwhile.
        let (mut request, place, connection) = {
            let mut table = lock(&self.table);
            let Some(entry) = table.calls.get_mut(&call) else {
                return;
            };
            let target = entry.target;
            let Some(request) = entry.request.take() else {
                return;
            };
            (request, table.resolve(target), table.connections)
        };
        let begun = match &place {
            Ok(Some((conduit, target))) => {
                request
                    .encoder
                    .references()
                    .extend(request.references.iter().cloned());
                let options = request.options.clone();
                conduit.begin(*target, &request.op, options, &mut request.encoder)
            }
            Ok(None) => Err(is_without()),
            Err(error) => Err(error.clone()),
        };
        let sent = match (&place, &begun) {
            (Ok(Some((conduit, _))), Ok(number)) => Some(Sent {
                conduit: Arc::clone(conduit),
                number: *number,
                connection,
            }),
            _ => None,
        };
        let mut request = Some(request);
        let (waker, is_gone) = {
            let mut table = lock(&self.table);
            let waits = self.may_wait(&table);
            match table.calls.get_mut(&call) {
                None => (None, true),
                Some(entry) => {
                    entry.request = request.take();
                    let waker = match (&sent, begun) {
                        (Some(sent), _) => {
                            entry.place = Place::Sent(sent.clone());
                            entry.waker.take()
                        }
                        (None, Err(error)) if waits && place.is_ok() && is_not_sent(&error) => {
                            entry.queue(error);
                            None
                        }
                        (None, Err(error)) => entry.finish(Outcome::Error(error)),
                        (None, Ok(_)) => None,
                    };
                    (waker, false)
                }
            }
        };
        waker.into_iter().for_each(Waker::wake);
        if let (true, Some(sent)) = (is_gone, sent) {
            sent.conduit.drop_call(sent.number, CancelReason::Dropped);
        }
        self.changed.notify_waiters();
    }

    /// What was found of a call that was marked as busy; the waker of whoever should look at it.
    fn looked(&self, call: u64, sent: Sent, outcome: Poll<Outcome>) -> Option<Waker> {
        let (waker, is_gone, is_missed) = {
            let mut table = lock(&self.table);
            let is_lost = table.is_lost(&sent);
            let may_wait = self.may_wait(&table);
            let is_missed = !matches!(table.stage, Stage::Through);
            match table.calls.get_mut(&call) {
                None => (None, true, is_missed),
                Some(entry) => {
                    let waker = match outcome {
                        Poll::Pending => {
                            entry.place = Place::Sent(sent.clone());
                            entry.waker.take()
                        }
                        Poll::Ready(outcome) => match entry.may_be_repeated(&outcome) {
                            Some(error) if is_lost && may_wait => {
                                entry.queue(error);
                                None
                            }
                            _ => entry.finish(outcome),
                        },
                    };
                    (waker, false, is_missed || is_lost)
                }
            }
        };
        if is_gone {
            sent.conduit.drop_call(sent.number, CancelReason::Dropped);
        }
        if is_missed {
            self.changed.notify_waiters();
        }
        waker
    }

    fn may_wait(&self, table: &Table) -> bool {
        self.config.wait_while_down && !matches!(table.stage, Stage::Over(_))
    }

    /// Drops what nobody wants and nothing depends on.
    fn drop_unwanted(&self) {
        let mut dropped = Vec::new();
        {
            let mut table = lock(&self.table);
            let unwanted = table.calls.iter().filter(|(_, entry)| entry.is_unwanted);
            let unwanted: Vec<u64> = unwanted.map(|(call, _)| *call).collect();
            for call in unwanted {
                if !table.is_depended_on(call) {
                    dropped.extend(table.calls.remove(&call));
                }
            }
        }
        for entry in dropped {
            if let Place::Sent(sent) = &entry.place {
                sent.conduit.drop_call(sent.number, CancelReason::Dropped);
            }
        }
    }

    /// A call with the arguments in `encoder`, in the context of whoever makes it.
    fn request(&self, op: &Op, mut options: CallOptions, encoder: &mut Encoder) -> Box<Request> {
        let default = || self.config.call_timeout.map(clock::after);
        let own = options.deadline.or_else(default).filter(|own| *own != Nanos::MAX);
        options.deadline = [own, context::deadline()].into_iter().flatten().min();
        options.chain = options.chain.or_else(|| context::chain().map(chain::nested));
        let references = encoder.take_references().collect();
        Box::new(Request {
            op: op.clone(),
            options,
            encoder: std::mem::take(encoder),
            references,
        })
    }

    /// Makes a call, or has it wait for a connection.
    fn start(&self, target: Target, request: Box<Request>) -> Result<u64, Error> {
        let (call, goes_now) = {
            let mut table = lock(&self.table);
            let goes_now = match &table.stage {
                Stage::Over(error) => return Err(not_sent(error)),
                Stage::Without if !self.config.wait_while_down => return Err(is_without()),
                Stage::Without => false,
                Stage::Through => true,
            };
            if table.calls.len() >= usize::try_from(self.config.max_calls).unwrap_or(usize::MAX) {
                let text = "too many calls wait for the connection to come back";
                return Err(Error::new(ErrorKind::Overloaded, text));
            }
            let call = table.next;
            table.next = call.wrapping_add(1);
            let entry = Entry {
                target,
                request: Some(request),
                place: if goes_now {
                    Place::Busy(None)
                } else {
                    Place::Queued(None)
                },
                waker: None,
                unsure: None,
                is_unwanted: false,
            };
            table.calls.insert(call, entry);
            (call, goes_now)
        };
        if goes_now {
            self.make(call);
        } else {
            self.changed.notify_waiters();
        }
        Ok(call)
    }

    /// Waits on this thread for `call`, which is cancelled when the call that is served here is given up.
    fn wait_on(&self, call: u64, thread: &Arc<ThreadWaiter>, patience: Option<Duration>) -> Option<Outcome> {
        let serving = context::serving();
        if let (Some((conduit, answer)), Some(this)) = (&serving, self.this.upgrade()) {
            conduit.wake_on_cancel(*answer, Some((Arc::clone(thread), this, call)));
        }
        let outcome = std::future::poll_fn(|context| self.poll_outcome(call, context));
        let outcome = place::run(thread, patience, outcome);
        if let Some((conduit, answer)) = &serving {
            conduit.wake_on_cancel(*answer, None);
        }
        outcome
    }
}

impl Table {
    fn set_status(&mut self, status: Status) {
        self.status = status;
        self.changes = self.changes.wrapping_add(1);
    }

    fn is_lost(&self, sent: &Sent) -> bool {
        sent.connection != self.connections || self.connection.is_closed()
    }

    /// The calls that are on a connection, now marked as busy, and whether others are at some already.
    fn take_sent(&mut self) -> (Vec<(u64, Sent)>, bool) {
        let mut taken = Vec::new();
        let mut is_busy = false;
        for (call, entry) in &mut self.calls {
            match &entry.place {
                Place::Sent(sent) => {
                    let sent = sent.clone();
                    entry.place = Place::Busy(Some(sent.clone()));
                    taken.push((*call, sent));
                }
                Place::Busy(_) => is_busy = true,
                Place::Queued(_) | Place::Over(_) => {}
            }
        }
        (taken, is_busy)
    }

    fn has_queued(&self) -> bool {
        let mut entries = self.calls.values();
        entries.any(|entry| matches!(entry.place, Place::Queued(_)))
    }

    /// The first call after `last` that waits, now marked as busy.
    fn next_queued(&mut self, last: Option<u64>) -> Option<u64> {
        if !matches!(self.stage, Stage::Without) {
            return None;
        }
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut after = self.calls.range_mut((from, Bound::Unbounded));
        let (call, entry) = after.find(|(_, entry)| matches!(entry.place, Place::Queued(_)))?;
        entry.place = Place::Busy(None);
        Some(*call)
    }

    /// Where a call goes now; `None` if the call that it is made on waits itself.
    fn resolve(&self, target: Target) -> Result<Option<Way>, Error> {
        let (call, slot) = match target {
            Target::Import(_) => {
                let root = (Arc::clone(self.root.conduit()), self.root.target());
                return Ok(Some(root));
            }
            Target::Answer { call, slot } => (call, slot),
        };
        match self.calls.get(&call).map(|entry| &entry.place) {
            Some(Place::Sent(sent) | Place::Busy(Some(sent))) if sent.connection == self.connections => {
                let target = Target::Answer {
                    call: sent.number,
                    slot,
                };
                Ok(Some((Arc::clone(&sent.conduit), target)))
            }
            Some(Place::Queued(_) | Place::Busy(None)) => Ok(None),
            _ => Err(Error::new(ErrorKind::Broken, "the call before it was cut off")),
        }
    }

    /// Whether a call that is yet to be made is made on what `call` returns.
    fn is_depended_on(&self, call: u64) -> bool {
        let mut entries = self.calls.values();
        entries.any(|entry| {
            let is_to_be_made = matches!(entry.place, Place::Queued(_) | Place::Busy(None));
            is_to_be_made && matches!(entry.target, Target::Answer { call: on, .. } if on == call)
        })
    }
}

impl Entry {
    /// Why the call failed, if it may be made again.
    fn may_be_repeated(&self, outcome: &Outcome) -> Option<Error> {
        let Outcome::Error(error) = outcome else {
            return None;
        };
        let is_idempotent = || {
            self.request
                .as_ref()
                .is_some_and(|request| request.options.idempotent)
        };
        let may_be = match error.kind() {
            ErrorKind::Disconnected(Certainty::NotSent | Certainty::NotExecuted) => true,
            ErrorKind::Disconnected(Certainty::Unknown) => is_idempotent(),
            _ => false,
        };
        may_be.then(|| error.clone())
    }

    /// It waits for a connection, since it failed with `error`.
    fn queue(&mut self, error: Error) {
        let is_unsure = error.kind() == ErrorKind::Disconnected(Certainty::Unknown);
        if is_unsure && self.unsure.is_none() {
            self.unsure = Some(error.clone());
        }
        self.place = Place::Queued(Some(error));
    }

    /// It is over; whom to wake.
    fn finish(&mut self, outcome: Outcome) -> Option<Waker> {
        let is_cut_off =
            matches!(&outcome, Outcome::Error(error) if matches!(error.kind(), ErrorKind::Disconnected(_)));
        let unsure = self.unsure.take().filter(|_| is_cut_off);
        self.place = Place::Over(unsure.map_or(outcome, Outcome::Error));
        self.waker.take()
    }

    /// Until when it waits for a connection, if it does.
    fn waits_until(&self) -> Option<Nanos> {
        let waits = matches!(self.place, Place::Queued(_));
        let request = self.request.as_ref().filter(|_| waits)?;
        request.options.deadline
    }
}

/// Who waits for the end is told.
impl Drop for Calls {
    fn drop(&mut self) {
        self.changed.notify_waiters();
    }
}

impl Conduit for Calls {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.start(target, self.request(op, options, encoder))
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        options.blocking = true;
        options.no_pipeline = true;
        let chain = chain::next();
        options.chain = Some(chain);
        place::wait_in(Some(chain), |thread| {
            let call = self.begin(target, op, options, encoder)?;
            let outcome = self.wait_on(call, thread, None);
            Ok(outcome.unwrap_or_else(|| Outcome::Error(ErrorKind::Deadline.into())))
        })?
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        let (before, sent) = {
            let mut table = lock(&self.table);
            let Some(entry) = table.calls.get_mut(&call) else {
                return Poll::Ready(Outcome::Error(ErrorKind::Cancelled.into()));
            };
            let before = entry.waker.replace(context.waker().clone());
            let sent = match &entry.place {
                Place::Sent(sent) => Some(sent.clone()),
                Place::Queued(_) | Place::Busy(_) | Place::Over(_) => None,
            };
            if let Some(sent) = &sent {
                entry.place = Place::Busy(Some(sent.clone()));
            }
            (before, sent)
        };
        drop(before);
        if let Some(sent) = sent {
            let outcome = sent.conduit.poll_outcome(sent.number, context);
            drop(self.looked(call, sent, outcome));
        }
        let taken = {
            let mut table = lock(&self.table);
            let is_over = matches!(
                table.calls.get(&call),
                Some(Entry {
                    place: Place::Over(_),
                    ..
                })
            );
            if is_over { table.calls.remove(&call) } else { None }
        };
        match taken {
            Some(Entry {
                place: Place::Over(outcome),
                ..
            }) => Poll::Ready(outcome),
            _ => Poll::Pending,
        }
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        place::wait_in(context::chain(), |thread| self.wait_on(call, thread, patience))
    }

    fn is_ready(&self, call: u64) -> bool {
        let sent = match lock(&self.table).calls.get(&call).map(|entry| &entry.place) {
            Some(Place::Sent(sent) | Place::Busy(Some(sent))) => sent.clone(),
            Some(Place::Queued(_) | Place::Busy(None)) => return false,
            Some(Place::Over(_)) | None => return true,
        };
        sent.conduit.is_ready(sent.number)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        let dropped = {
            let mut table = lock(&self.table);
            if table.is_depended_on(call) {
                if let Some(entry) = table.calls.get_mut(&call) {
                    entry.is_unwanted = true;
                }
                None
            } else {
                table.calls.remove(&call)
            }
        };
        if let Some(Entry {
            place: Place::Sent(sent),
            ..
        }) = &dropped
        {
            sent.conduit.drop_call(sent.number, reason);
        }
        let was_on_another = matches!(
            &dropped,
            Some(Entry {
                target: Target::Answer { .. },
                ..
            })
        );
        drop(dropped);
        if was_on_another {
            self.drop_unwanted();
        }
    }

    fn forward(self: Arc<Self>, target: Target, options: CallOptions, invocation: Invocation) {
        let Invocation {
            conduit: back,
            answer,
            op,
            body,
            references,
            ..
        } = invocation;
        let request = Box::new(Request {
            op,
            options: CallOptions {
                no_pipeline: false,
                ..options
            },
            encoder: Encoder::of(body),
            references,
        });
        match self.start(target, request) {
            Ok(call) => {
                back.drop_on_cancel(answer, Some((Arc::clone(&self) as Arc<dyn Conduit>, call)));
                runtime::handle().spawn(async move {
                    let outcome = std::future::poll_fn(|context| self.poll_outcome(call, context)).await;
                    back.drop_on_cancel(answer, None);
                    back.answer_outcome(answer, outcome);
                });
            }
            Err(error) => back.answer_error(answer, error, false),
        }
    }

    // Nothing is held, and nobody calls, by way of this: each connection has a conduit of its own for that.

    fn release(&self, _import: u64, _generation: u32) {}

    fn answer_value(&self, _answer: u64, _failure: Option<Error>, _shape: u32, _encoder: &mut Encoder) {}

    fn answer_error(&self, _answer: u64, _error: Error, _started: bool) {}

    fn answer_outcome(&self, _answer: u64, _outcome: Outcome) {}

    fn wake_on_cancel(&self, _answer: u64, _blocked: Option<Blocked>) {}

    fn drop_on_cancel(&self, _answer: u64, _passed_on: Option<(Arc<dyn Conduit>, u64)>) {}

    fn is_cancelled(&self, _answer: u64) -> bool {
        false
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    fn lost(&self) -> crate::call::BoxFuture<'static, Error> {
        let (this, changes) = (Weak::clone(&self.this), Arc::clone(&self.changed));
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(changes.notified());
                // Registered before looking: a change after the look is not missed.
                changed.as_mut().enable();
                let Some(calls) = this.upgrade() else {
                    let kind = ErrorKind::Disconnected(Certainty::NotSent);
                    return Error::new(kind, "nobody uses the connection any more");
                };
                if let Stage::Over(error) = &lock(&calls.table).stage {
                    return error.clone();
                }
                drop(calls);
                changed.await;
            }
        })
    }
}

fn is_not_sent(error: &Error) -> bool {
    error.kind() == ErrorKind::Disconnected(Certainty::NotSent)
}

fn not_sent(error: &Error) -> Error {
    let kind = ErrorKind::Disconnected(Certainty::NotSent);
    Error::new(
        kind,
        format!("the connection will not come back: {}", error.message()),
    )
}

fn is_without() -> Error {
    let kind = ErrorKind::Disconnected(Certainty::NotSent);
    Error::new(kind, "there is no connection for now")
}
