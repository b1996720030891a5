//! Our calls that wait for the peer's limits, and when they go out (PROTOCOL.md § 8.2).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use farref_framing::Nanos;

use super::calling::Admitted;
use super::credit::Allowance;
use super::questions::Progress;
use super::rules::Rule;
use super::{Exchange, Wire};
use crate::protocol::{BodyRef, CallOptions, Handles, Op, Outcome, Outgoing, Refs, Target};

impl<H: Handles> Exchange<H> {
    /// Whether the peer's limits admit a call.
    pub(super) fn admits(&self, depth: u16, bytes: u64) -> bool {
        let (credit, allowance) = (&self.questions.credit, self.allowance());
        if self.rules.hold(Rule::OneOfEachDepth) {
            credit.admits(depth, bytes, allowance)
        } else {
            credit.fits(bytes, allowance)
        }
    }

    /// What the peer takes of our calls.
    fn allowance(&self) -> Allowance {
        self.peer
            .map_or(Allowance { calls: 0, bytes: 0 }, |peer| Allowance {
                calls: peer.calls,
                bytes: peer.call_bytes,
            })
    }

    /// Whether a waiting call could be sent if the wire had room.
    pub(super) fn can_admit(&self) -> bool {
        self.next_admitted().is_some()
    }

    /// The next waiting call that the peer's limits admit, deepest first.
    fn next_admitted(&self) -> Option<u64> {
        let admitted = |number: &u64| {
            let question = self.questions.table.get(*number);
            question.is_none_or(|question| self.admits(question.depth, question.bytes))
        };
        self.questions
            .waiting
            .firsts()
            .map(|(_, number)| number)
            .find(admitted)
    }

    /// Whether calls of ours wait for the peer's limits, or for room on the wire.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.questions.waiting.is_empty()
    }

    /// Sends the waiting calls that are admitted.
    #[inline]
    pub(super) fn admit(&mut self, now: Nanos, wire: &mut dyn Wire) {
        if !self.questions.waiting.is_empty() {
            self.admit_waiting(now, wire);
        }
        self.write_due_acks(wire);
    }

    #[inline(never)]
    fn admit_waiting(&mut self, now: Nanos, wire: &mut dyn Wire) {
        while !self.questions.waiting.is_empty() && !wire.is_congested() && self.outbox.is_empty() {
            let Some(number) = self.next_admitted() else { break };
            let Some(call) = self.stop_waiting(number) else {
                break;
            };
            let Waiting {
                target,
                op,
                options,
                body,
                refs,
                ..
            } = *call;
            let pieces = std::slice::from_ref(&body);
            // It will be sent below, or is over: either way nobody waits for it to be sent.
            if let Some(question) = self.questions.table.get_mut(number) {
                question.progress = Progress::Sent;
            }
            let call = Admitted {
                question: number,
                target,
                op: &op,
                options: &options,
                body: BodyRef::Rope(pieces),
                now,
            };
            let sent = self.transmit(&call, refs, wire);
            if let Some(parent) = self.parent(number) {
                self.was_unsent(parent, wire);
            }
            if let Err(error) = sent {
                self.leave_wire(number, wire);
                self.complete(number, Outcome::Error(error));
            }
        }
    }

    /// The call on whose result another one is made.
    pub(super) fn parent(&self, number: u64) -> Option<u64> {
        self.questions.table.get(number)?.parent
    }

    /// A call on the result of `parent` waits no longer to be sent.
    pub(super) fn was_unsent(&mut self, parent: u64, wire: &mut dyn Wire) {
        if let Some(parent) = self.questions.table.get_mut(parent) {
            parent.unsent = parent.unsent.saturating_sub(1);
        }
        self.flush_if_needed(parent, wire);
        self.end_if_done(parent);
    }

    /// Takes a call out of the waiting list.
    pub(super) fn stop_waiting(&mut self, number: u64) -> Option<Box<Waiting<H>>> {
        let question = self.questions.table.get_mut(number)?;
        match std::mem::replace(&mut question.progress, Progress::Returned) {
            Progress::Waiting(call) => {
                self.questions.waiting.remove(call.place);
                Some(call)
            }
            other => {
                question.progress = other;
                None
            }
        }
    }

    /// Forgets a call that was not sent. The call on whose result it was made, if there is one.
    pub(super) fn withdraw(&mut self, call: u64, wire: &mut dyn Wire) -> Option<u64> {
        let waiting = self.stop_waiting(call)?;
        self.discard_outgoing(waiting.refs);
        let question = self.questions.table.remove(call)?;
        let parent = question.parent?;
        let of = self.questions.table.get_mut(parent)?;
        of.children = of.children.saturating_sub(1);
        self.was_unsent(parent, wire);
        Some(parent)
    }
}

/// A call that was not sent.
pub(super) struct Waiting<H: Handles> {
    pub(super) target: Target,
    pub(super) op: Op,
    pub(super) options: CallOptions,
    pub(super) body: Bytes,
    pub(super) refs: Refs<Outgoing<H>>,
    pub(super) place: Place,
}

/// The place of a waiting call: deepest first, and among those in the order in which they were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    depth: Reverse<u16>,
    serial: u64,
}

/// Calls that wait for the peer's limits: one queue for each depth, as calls of one depth must not hold up those
/// that are deeper (PROTOCOL.md § 8.2).
#[derive(Debug, Default)]
pub(super) struct WaitingList {
    calls: BTreeMap<Place, u64>,
    next: u64,
}

impl WaitingList {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A new place at the end of the queue of `depth`.
    pub(super) const fn place(&mut self, depth: u16) -> Place {
        let serial = self.next;
        self.next = serial.wrapping_add(1);
        Place {
            depth: Reverse(depth),
            serial,
        }
    }

    /// A place right behind those of the queue that `other` is in.
    pub(super) const fn place_behind(&mut self, other: Place) -> Place {
        self.place(other.depth.0)
    }

    pub(super) fn insert(&mut self, place: Place, question: u64) {
        self.calls.insert(place, question);
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.calls.remove(&place);
    }

    /// Whether calls of `depth` wait.
    pub(super) fn has(&self, depth: u16) -> bool {
        let depth = Reverse(depth);
        let all = Place { depth, serial: 0 }..=Place {
            depth,
            serial: u64::MAX,
        };
        !self.calls.is_empty() && self.calls.range(all).next().is_some()
    }

    /// The first call of each queue, deepest queue first.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        let mut after = Bound::Unbounded;
        std::iter::from_fn(move || {
            let (place, question) = self.calls.range((after, Bound::Unbounded)).next()?;
            after = Bound::Excluded(Place {
                serial: u64::MAX,
                ..*place
            });
            Some((*place, *question))
        })
    }

    /// Every call that comes from now on has at least this serial number.
    pub(super) const fn now(&self) -> u64 {
        self.next
    }

    /// Whether all calls of at least that depth and before that serial number have gone.
    pub(super) fn have_gone(&self, depth: u16, serial: u64) -> bool {
        let mut queues = self.firsts().take_while(|(place, _)| place.depth.0 >= depth);
        queues.all(|(place, _)| place.serial >= serial)
    }

    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }
}
