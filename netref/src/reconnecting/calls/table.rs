//! The table of the calls of a root that is found again: where each of them is, and what becomes of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Waker;

use farref_boxing::{Certainty, Encoder, Error, ErrorKind, Reference};
use farref_framing::Nanos;

use crate::connection::{Connection, Status};
use crate::protocol::{CallOptions, Op, Target};
use crate::remote::{Conduit, Import, Outcome, Remote};

pub(super) struct Table {
    /// By their numbers, which ascend in the order in which they were started.
    pub(super) calls: BTreeMap<u64, Entry>,
    pub(super) next: u64,
    pub(super) root: Arc<Import>,
    pub(super) connection: Connection,
    /// How many connections there were: the number of the latest.
    pub(super) connections: u64,
    pub(super) stage: Stage,
    pub(super) status: Status,
    /// How often the status has changed.
    pub(super) changes: u64,
}

/// What becomes of calls that are made now.
pub(super) enum Stage {
    /// They are made on the root.
    Through,
    /// They wait for a root.
    Without,
    /// They fail: there will be none any more.
    Over(Error),
}

pub(super) struct Entry {
    /// What is called on is another one of these, not of a connection.
    pub(super) target: Target,
    /// `None` while it is being made.
    pub(super) request: Option<Box<Request>>,
    pub(super) place: Place,
    pub(super) waker: Option<Waker>,
    /// How it was cut off before: of all attempts the one that leaves most open.
    pub(super) cut_off: Option<Error>,
    /// Nobody wants it, but calls on what it returns.
    pub(super) is_unwanted: bool,
}

/// A call, as often as it may have to be made.
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) options: CallOptions,
    pub(super) encoder: Encoder,
    pub(super) references: Vec<Reference>,
    /// Where it came from, if it is passed on.
    pub(super) back: Option<Arc<dyn Conduit>>,
}

pub(super) enum Place {
    /// Waits for a root.
    Queued,
    /// Being made, or asked for its outcome; where it is, if it was made.
    Busy(Option<Sent>),
    Sent(Sent),
    Over(Outcome),
}

/// Where a call is made.
pub(super) type Way = (Arc<dyn Conduit>, Target);

/// Where a call is: on the connection that there is, or was last. None is left on one before, once that is lost.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) conduit: Arc<dyn Conduit>,
    pub(super) number: u64,
}

impl Table {
    pub(super) fn set_status(&mut self, status: Status) {
        self.status = status;
        self.changes = self.changes.wrapping_add(1);
    }

    /// The calls that are on a connection, now marked as busy, and whether others are at some already.
    pub(super) fn take_sent(&mut self) -> (Vec<(u64, Sent)>, bool) {
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
                Place::Queued | Place::Over(_) => {}
            }
        }
        (taken, is_busy)
    }

    pub(super) fn has_queued(&self) -> bool {
        let mut entries = self.calls.values();
        entries.any(|entry| matches!(entry.place, Place::Queued))
    }

    /// The first call after `last` that waits, now marked as busy.
    pub(super) fn next_queued(&mut self, last: Option<u64>) -> Option<u64> {
        if !matches!(self.stage, Stage::Without) {
            return None;
        }
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut after = self.calls.range_mut((from, Bound::Unbounded));
        let (call, entry) = after.find(|(_, entry)| matches!(entry.place, Place::Queued))?;
        entry.place = Place::Busy(None);
        Some(*call)
    }

    /// Where a call goes now; `None` if the call that it is made on waits itself.
    pub(super) fn resolve(&self, target: Target) -> Result<Option<Way>, Error> {
        let (call, slot) = match target {
            Target::Import(_) => {
                let root = (Arc::clone(self.root.conduit()), self.root.target());
                return Ok(Some(root));
            }
            Target::Answer { call, slot } => (call, slot),
        };
        match self.calls.get(&call).map(|entry| &entry.place) {
            Some(Place::Sent(sent) | Place::Busy(Some(sent))) => {
                let target = Target::Answer {
                    call: sent.number,
                    slot,
                };
                Ok(Some((Arc::clone(&sent.conduit), target)))
            }
            Some(Place::Queued | Place::Busy(None)) => Ok(None),
            Some(Place::Over(_)) | None => {
                Err(Error::new(ErrorKind::Broken, "the call before it was cut off"))
            }
        }
    }

    /// Whether a call that is yet to be made is made on what `call` returns.
    pub(super) fn is_depended_on(&self, call: u64) -> bool {
        let mut entries = self.calls.values();
        entries.any(|entry| {
            let is_to_be_made = matches!(entry.place, Place::Queued | Place::Busy(None));
            is_to_be_made && matches!(entry.target, Target::Answer { call: on, .. } if on == call)
        })
    }
}

impl Entry {
    /// Why the call failed, if it may be made again.
    pub(super) fn may_be_repeated(&self, outcome: &Outcome) -> Option<Error> {
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
    pub(super) fn queue(&mut self, error: Error) {
        let before = self.cut_off.take();
        self.cut_off = Some(less_certain(before, error));
        self.place = Place::Queued;
    }

    /// It is over; whom to wake.
    pub(super) fn finish(&mut self, outcome: Outcome) -> Option<Waker> {
        let before = self.cut_off.take();
        self.place = Place::Over(match outcome {
            Outcome::Error(error) if error.certainty().is_some() => {
                Outcome::Error(less_certain(before, error))
            }
            outcome => outcome,
        });
        self.waker.take()
    }

    /// Until when it waits for a connection, if it does.
    pub(super) fn waits_until(&self) -> Option<Nanos> {
        let waits = matches!(self.place, Place::Queued);
        let request = self.request.as_ref().filter(|_| waits)?;
        request.options.deadline
    }
}

/// How a call was cut off all in all: as the attempt was that leaves most open, else as the last.
fn less_certain(before: Option<Error>, last: Error) -> Error {
    let open = |error: &Error| match error.certainty() {
        Some(Certainty::Unknown) => 2,
        Some(Certainty::NotExecuted) => 1,
        Some(Certainty::NotSent) | None => 0,
    };
    before.filter(|before| open(before) > open(&last)).unwrap_or(last)
}
