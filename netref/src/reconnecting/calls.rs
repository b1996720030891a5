//! The calls of a root that is found again: each is kept until it is over, and made again where that repeats nothing.
//!
//! Whoever makes a call or asks for its outcome marks it as busy and leaves the lock for that, so that nothing of a
//! connection's, and nothing of the user's, runs under it.

mod conduit;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use farref_boxing::{Certainty, Encoder, Error, ErrorKind};
use farref_framing::Nanos;
use tokio::sync::{Notify, oneshot};

use crate::chain;
use crate::clock;
use crate::config::Config;
use crate::connection::{Connection, Status};
use crate::context;
use crate::lock::lock;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{CallOptions, CancelReason, Op, Target};
use crate::remote::{Conduit, Import, Outcome, Remote};
use crate::waiter::ThreadWaiter;

use table::{Entry, Place, Request, Sent, Stage, Table};

/// What the netrefs of such a root call through, over one connection after the other.
pub(super) struct Calls {
    this: Weak<Self>,
    table: Mutex<Table>,
    /// Woken when there is something for whoever looks after the connections, and when the status changes.
    pub(super) changed: Arc<Notify>,
    peer: Arc<Peer>,
    is_by_name: bool,
    config: Config,
    /// Dropped with this: nobody calls any more.
    _in_use: oneshot::Sender<()>,
}

impl Calls {
    pub(super) fn new(
        root: Arc<Import>,
        connection: Connection,
        config: Config,
        in_use: oneshot::Sender<()>,
    ) -> Arc<Self> {
        let peer = connection.peer();
        let is_by_name = Remote::conduit(&*root).is_by_name();
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
            is_by_name,
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
                if let Place::Queued = entry.place {
                    failed.push(entry.finish(Outcome::Error(not_sent(error))));
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
        let (mut request, place) = {
            let mut table = lock(&self.table);
            let Some(entry) = table.calls.get_mut(&call) else {
                return;
            };
            let target = entry.target;
            let Some(request) = entry.request.take() else {
                return;
            };
            (request, table.resolve(target))
        };
        let begun = match &place {
            Ok(Some((conduit, target))) => {
                request
                    .encoder
                    .references()
                    .extend(request.references.iter().cloned());
                let options = request.options.clone();
                if let (Op::Method { shape, .. }, Some(back)) = (&request.op, &request.back) {
                    conduit.passes(*shape, back);
                }
                conduit.begin(*target, &request.op, options, &mut request.encoder)
            }
            Ok(None) => Err(is_without()),
            Err(error) => Err(error.clone()),
        };
        let sent = match (&place, &begun) {
            (Ok(Some((conduit, _))), Ok(number)) => Some(Sent {
                conduit: Arc::clone(conduit),
                number: *number,
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
                        (None, Err(error)) if waits && is_not_sent(&error) => {
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
        if let Poll::Ready(Outcome::Value { shape, .. }) = &outcome {
            let back = {
                let table = lock(&self.table);
                let request = table.calls.get(&call).and_then(|entry| entry.request.as_ref());
                request.and_then(|request| request.back.clone())
            };
            if let Some(back) = back {
                back.passes(*shape, &sent.conduit);
            }
        }
        let (waker, is_gone, is_missed) = {
            let mut table = lock(&self.table);
            let is_lost = table.connection.is_closed();
            let may_wait = self.may_wait(&table);
            let is_missed = !matches!(table.stage, Stage::Through);
            match table.calls.get_mut(&call) {
                None => (None, true, is_missed),
                Some(entry) => {
                    let waker = match outcome {
                        Poll::Pending => {
                            entry.place = Place::Sent(sent.clone());
                            entry.waker.clone()
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
        // Of its own it may have the last moment, for ever: kept, or the connection would put its default there.
        let own = options.deadline.or_else(default);
        options.deadline = [own, context::deadline()].into_iter().flatten().min();
        options.chain = options.chain.or_else(|| context::chain().map(chain::nested));
        let references = encoder.take_references().collect();
        Box::new(Request {
            op: op.clone(),
            options,
            encoder: std::mem::take(encoder),
            references,
            back: None,
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
                    Place::Queued
                },
                waker: None,
                cut_off: None,
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
            if conduit.is_cancelled(*answer) {
                self.drop_call(call, CancelReason::Upstream); // that was before, and wakes nobody
            }
        }
        let outcome = std::future::poll_fn(|context| self.poll_outcome(call, context));
        let outcome = place::run(thread, patience, outcome);
        if let Some((conduit, answer)) = &serving {
            conduit.wake_on_cancel(*answer, None);
        }
        outcome
    }
}

/// Who waits for the end is told.
impl Drop for Calls {
    fn drop(&mut self) {
        self.changed.notify_waiters();
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

#[cfg(test)]
pub(super) mod tests;
