//! Our calls: started, waiting for the peer's limits, sent, returned, taken or given up (PROTOCOL.md § 7).

use std::borrow::Cow;
use std::task::Poll;

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::Nanos;

use super::credit::{weight, weight_of_reference};
use super::deadlines::Timed;
use super::questions::{Parts, Progress, Question, Slot, depth};
use super::references::Purpose;
use super::rules::Rule;
use super::waiting::{Place, Waiting};
use super::wire::{self, Of, Written};
use super::{Exchange, Wire, limit};
use crate::message::{self, Calling, Descriptor, MAX_NAME, Message, Operation, name_of};
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Handles, Op, Outcome, Outgoing, Refs, Target,
};

/// A call of ours that the peer's limits admit, without its references.
#[derive(Clone, Copy)]
pub(super) struct Admitted<'a> {
    pub(super) question: u64,
    pub(super) target: Target,
    pub(super) op: &'a Op,
    pub(super) options: &'a CallOptions,
    pub(super) body: BodyRef<'a>,
    pub(super) now: Nanos,
}

impl<H: Handles> Exchange<H> {
    /// Makes a call and returns its number. A call that the peer's limits do not admit yet waits inside.
    ///
    /// # Errors
    ///
    /// The call can't be made: nothing was sent, and its references were not counted.
    pub fn call(&mut self, start: CallStart<'_, H>, now: Nanos, wire: &mut dyn Wire) -> Result<u64, Error> {
        let CallStart {
            target,
            op,
            options,
            body,
            refs,
            waiter,
        } = start;
        let parent = match self.check(target, op, options, refs.len(), now) {
            Ok(parent) => parent,
            Err(error) => {
                self.discard_outgoing(refs);
                return Err(error);
            }
        };
        let mut bytes = weight(wire::len(body), name_of(op));
        for outgoing in &refs {
            let is_broken = matches!(outgoing, Outgoing::Broken(_));
            bytes = bytes.saturating_add(weight_of_reference(is_broken));
        }
        let depth = depth(options);
        let number = self.questions.table.insert_with(|| Question {
            waiter: waiter.take(),
            ..Question::new(options, bytes, parent)
        });
        let Some(number) = number else {
            self.discard_outgoing(refs);
            return Err(limit("too many calls", u32::MAX.into()));
        };
        self.tell_time(now);
        if self.trace.is_some() {
            self.trace_call(number, op, target);
        }
        let behind = parent.and_then(|parent| match &self.questions.table.get(parent)?.progress {
            Progress::Waiting(waiting) => Some(waiting.place),
            Progress::Sent | Progress::Returned => None,
        });
        let must_wait = behind.is_some()
            || self.questions.waiting.has(depth)
            || !self.admits(depth, bytes)
            || (depth == 0 && (wire.is_congested() || !self.outbox.is_empty()));
        let call = Admitted {
            question: number,
            target,
            op,
            options,
            body,
            now,
        };
        if must_wait {
            self.put_off(&call, refs, behind);
        } else if let Err(error) = self.transmit(&call, refs, wire) {
            // Not to be dropped here.
            let question = self.questions.table.remove(number);
            *waiter = question.and_then(|question| question.waiter);
            return Err(error);
        }
        if let Some(parent) = parent.and_then(|parent| self.questions.table.get_mut(parent)) {
            parent.children = parent.children.saturating_add(1);
            parent.unsent = parent.unsent.saturating_add(u32::from(must_wait));
            if let Target::Answer { slot, .. } = target
                && (slot == 0 || self.rules.hold(Rule::EverySlotFlushed))
            {
                parent.piped.insert(slot);
            }
        }
        if let Some(deadline) = options.deadline {
            self.deadlines.set(deadline, Timed::Question(number));
        }
        Ok(number)
    }

    /// Makes a call wait, for the one before it or for the peer's limits.
    #[inline(never)]
    fn put_off(&mut self, call: &Admitted<'_>, refs: Refs<Outgoing<H>>, behind: Option<Place>) {
        let waiting = &mut self.questions.waiting;
        let place = match behind {
            Some(parent) => waiting.place_behind(parent),
            None => waiting.place(depth(call.options)),
        };
        waiting.insert(place, call.question);
        if let Some(question) = self.questions.table.get_mut(call.question) {
            question.progress = Progress::Waiting(Box::new(Waiting {
                target: call.target,
                op: call.op.clone(),
                options: call.options.clone(),
                body: wire::to_bytes(call.body),
                refs,
                place,
            }));
        }
    }

    /// Whether a call can be made, and the call on whose result it is made.
    fn check(
        &self,
        target: Target,
        op: &Op,
        options: &CallOptions,
        references: usize,
        now: Nanos,
    ) -> Result<Option<u64>, Error> {
        if self.over {
            return Err(lost(Certainty::NotSent));
        }
        let Some(peer) = &self.peer else {
            return Err(misuse("the peer has not introduced itself yet"));
        };
        if options.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ErrorKind::Deadline.into());
        }
        if u64::from(depth(options)) > peer.depth {
            return Err(nested_too_deep(peer.depth));
        }
        if name_of(op).len() > MAX_NAME {
            return Err(limit("a name is too long, in bytes", MAX_NAME as u64));
        }
        if references as u64 > peer.references {
            return Err(limit("too many references in one call", peer.references));
        }
        if !(options.no_pipeline || options.one_way) && self.questions.kept >= peer.objects {
            return Err(limit("too many results are kept by the peer", peer.objects));
        }
        match target {
            Target::Import(_) => Ok(None),
            Target::Answer { call, .. } => self.check_parent(call).map(Some),
        }
    }

    /// Whether something can be called on the result of a call, which comes back.
    #[inline(never)]
    fn check_parent(&self, call: u64) -> Result<u64, Error> {
        match self.questions.table.get(call) {
            Some(parent) if parent.no_pipeline => Err(misuse(
                "nothing can be called on the result of a call made without pipes",
            )),
            Some(parent) if parent.is_wanted() && parent.cancel_sent => Err(given_up()),
            Some(parent) if parent.is_wanted() => Ok(call),
            _ => Err(misuse(
                "the result of the call that this one is made on was taken: start what is called on it first",
            )),
        }
    }

    /// Writes a call that is admitted.
    #[inline]
    pub(super) fn transmit(
        &mut self,
        call: &Admitted<'_>,
        refs: Refs<Outgoing<H>>,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        if refs.is_empty() {
            self.send(call, &[], wire)
        } else {
            self.transmit_with(call, refs, wire)
        }
    }

    /// The same with references.
    #[inline(never)]
    fn transmit_with(
        &mut self,
        call: &Admitted<'_>,
        refs: Refs<Outgoing<H>>,
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        if self.trace.is_some() {
            self.trace_origin(call.op, None);
        }
        let described = self.describe(refs, Purpose::Arguments)?;
        if let Err(error) = self.send(call, &described.descriptors, wire) {
            self.take_back(described);
            return Err(error);
        }
        if let Some(question) = self.questions.table.get_mut(call.question) {
            question.pins = described.pins;
        }
        Ok(())
    }

    #[inline(never)]
    fn send(
        &mut self,
        call: &Admitted<'_>,
        descriptors: &[Descriptor],
        wire: &mut dyn Wire,
    ) -> Result<(), Error> {
        let Admitted {
            question,
            target,
            op,
            options,
            body,
            now,
        } = *call;
        let target = self.addressee(target)?;
        self.write_owed(wire);
        let number = self.questions.sent.next();
        let calling = Calling {
            call: number,
            target,
            operation: &Operation::Known(Cow::Borrowed(op)),
            options,
            time_left: options.deadline.map(|deadline| deadline.saturating_sub(now)),
            priority: None,
            descriptors,
            streams: &[],
        };
        calling.encode(self.empty_head());
        if (self.head.len() as u64).saturating_add(wire::len(body)) > self.max_message {
            return Err(limit(
                "the arguments are longer than the peer accepts, in bytes",
                self.max_message,
            ));
        }
        let (lane, position) = match self.outbox.write(wire, &self.head, body, Of::Question(question)) {
            Written::Taken(lane) => (lane, Some(wire.position())),
            Written::Held => (None, None),
            Written::Lost => return Err(lost(Certainty::NotSent)),
        };
        self.questions.sent.push(question);
        if let Some(question) = self.questions.table.get_mut(question) {
            self.questions.credit.take(question.depth, question.bytes);
            question.number = number;
            question.lane = lane;
            question.position = position;
            if !question.no_pipeline {
                self.questions.kept = self.questions.kept.saturating_add(1);
            }
        }
        Ok(())
    }

    fn addressee(&self, target: Target) -> Result<message::Target, Error> {
        match target {
            Target::Import(export) => Ok(message::Target::Export(export)),
            Target::Answer { call, slot } => match self.questions.table.get(call) {
                Some(parent) if parent.number != 0 => Ok(message::Target::Answer {
                    call: parent.number,
                    slot,
                }),
                _ => Err(given_up()),
            },
        }
    }

    /// A call is no longer on the wire, or never was: nothing depends on it over there.
    #[inline]
    pub(super) fn leave_wire(&mut self, number: u64, wire: &mut dyn Wire) {
        let Some(question) = self.questions.table.get_mut(number) else {
            return;
        };
        question.progress = Progress::Returned;
        question.lane = None;
        if question.parent.is_some() || !question.pins.is_empty() {
            self.let_go(number, wire);
        }
    }

    /// Lets go what a call holds while it is on the wire: what it lends, and the call on whose result it was made.
    #[inline(never)]
    fn let_go(&mut self, number: u64, wire: &mut dyn Wire) {
        let Some(question) = self.questions.table.get_mut(number) else {
            return;
        };
        let parent = question.parent.take();
        let pins = std::mem::take(&mut question.pins);
        self.unpin(pins);
        if let Some(parent) = parent {
            if let Some(parent) = self.questions.table.get_mut(parent) {
                parent.children = parent.children.saturating_sub(1);
            }
            self.cancel_if_idle(parent, wire);
        }
    }

    /// A call of ours has returned: takes it off the wire.
    pub(super) fn returned(&mut self, number: u64, wire: &mut dyn Wire) {
        if let Some(question) = self.questions.table.get(number) {
            self.questions.credit.give(question.depth, question.bytes);
        }
        self.leave_wire(number, wire);
    }

    /// The outcome is there; it can be taken when all before it was handed on.
    pub(super) fn complete(&mut self, number: u64, outcome: Outcome<H>) {
        let Some(question) = self.questions.table.get_mut(number) else {
            return self.discard_outcome(outcome);
        };
        if matches!(question.outcome, Slot::Empty | Slot::Incoming(_)) {
            question.outcome = Slot::Full(outcome);
            let timed = question.deadline.take().is_some();
            self.happenings.push_back(super::Happening::Outcome(number));
            if !self.rules.hold(Rule::OutcomeInTurn) {
                question.visible = true;
            }
            if timed {
                self.lift_deadline();
            }
        } else {
            self.discard_outcome(outcome);
        }
    }

    /// All before the outcome was handed on: whoever waits for it, if it can be taken.
    pub(super) fn show(&mut self, number: u64, wire: &mut dyn Wire) -> Option<H::Waiter> {
        let mut question = self.questions.table.get_mut(number)?;
        question.visible = true;
        if question.needs_flush() {
            self.flush_question(number, wire);
            question = self.questions.table.get_mut(number)?;
        }
        if question.is_ready() {
            question.waiter.take()
        } else {
            None
        }
    }

    /// Asks the peer to say when the calls on a result that lives here are on their way back.
    #[inline]
    pub(super) fn flush_if_needed(&mut self, number: u64, wire: &mut dyn Wire) {
        let question = self.questions.table.get(number);
        if question.is_some_and(Question::needs_flush) {
            self.flush_question(number, wire);
        }
    }

    #[cold]
    #[inline(never)]
    fn flush_question(&mut self, number: u64, wire: &mut dyn Wire) {
        let Some(question) = self.questions.table.get_mut(number) else {
            return;
        };
        if self.over || question.flushing || !question.visible {
            return;
        }
        // Behind all calls on it, also those that wait for the peer's limits.
        if question.unsent > 0 && self.rules.hold(Rule::FlushBehindWaiting) {
            return;
        }
        question.piped.clear();
        if !self.rules.hold(Rule::AwaitFlush) {
            return;
        }
        question.flushing = true;
        let (call, flush) = (question.number, self.next_flush);
        self.next_flush = flush.wrapping_add(1);
        self.flushes.insert(flush, number);
        self.write(wire, &Message::Flush { flush, call });
    }

    /// The calls on a result have come back.
    pub(super) fn flushed(&mut self, number: u64) {
        let Some(question) = self.questions.table.get_mut(number) else {
            return;
        };
        question.flushing = false;
        // Those calls are events ahead of this one.
        question.visible = false;
        if question.is_wanted() {
            self.happenings.push_back(super::Happening::Outcome(number));
        }
        self.end_if_done(number);
    }

    /// The outcome of `call`, once: then the call is consumed. Until then what `waiter` makes is kept, and comes
    /// back in [`Event::Ready`](crate::protocol::Event::Ready); it is given the one that was kept before.
    pub fn poll_outcome(
        &mut self,
        call: u64,
        wire: &mut dyn Wire,
        waiter: &mut dyn FnMut(Option<H::Waiter>) -> H::Waiter,
    ) -> Poll<Outcome<H>> {
        self.flush_if_needed(call, wire);
        let Some(question) = self.questions.table.get_mut(call) else {
            return Poll::Ready(Outcome::Error(misuse("the outcome of a call is given out once")));
        };
        if question.is_ready()
            && let Slot::Full(outcome) = std::mem::replace(&mut question.outcome, Slot::Taken)
        {
            let ready = Poll::Ready(outcome);
            self.end_if_done(call);
            return ready;
        }
        let before = question.waiter.take();
        question.waiter = Some(waiter(before));
        Poll::Pending
    }

    /// Whether the outcome of `call` is there.
    #[must_use]
    pub fn is_ready(&self, call: u64) -> bool {
        self.questions.table.get(call).is_none_or(Question::is_ready)
    }

    /// The handle of `call` is gone without its outcome: cancels the call when nothing depends on it any more. Who
    /// waited for it comes back.
    pub fn drop_call(&mut self, call: u64, reason: CancelReason, wire: &mut dyn Wire) -> Option<H::Waiter> {
        let question = self.questions.table.get_mut(call)?;
        question.reason = reason;
        let waiter = question.waiter.take();
        let timed = question.deadline.take().is_some();
        match std::mem::replace(&mut question.outcome, Slot::Taken) {
            Slot::Full(outcome) => self.discard_outcome(outcome),
            Slot::Incoming(parts) => self.stop_incoming(*parts, wire),
            Slot::Unread(outcome) => self.discard_outcome(*outcome),
            Slot::Empty | Slot::Taken => {}
        }
        if timed {
            self.lift_deadline();
        }
        self.cancel_if_idle(call, wire);
        waiter
    }

    fn stop_incoming(&mut self, parts: Parts<H>, wire: &mut dyn Wire) {
        self.bodies.remove(&parts.lane);
        wire.stop_lane(parts.lane);
        self.discard_received(parts.refs);
    }

    /// Cancels a call that nobody wants and nothing depends on, and then perhaps the one that it was made on.
    fn cancel_if_idle(&mut self, call: u64, wire: &mut dyn Wire) {
        let mut next = Some(call);
        while let Some(call) = next.take() {
            let Some(question) = self.questions.table.get_mut(call) else {
                return;
            };
            let depended_on = question.children > 0 && self.rules.hold(Rule::CancelWithoutChildren);
            if question.is_wanted() || depended_on {
                return;
            }
            match question.progress {
                Progress::Returned => self.end_if_done(call),
                Progress::Sent => {
                    let reason = question.reason;
                    self.cancel(call, reason, wire);
                }
                Progress::Waiting(_) => next = self.withdraw(call, wire),
            }
        }
    }

    /// Tells the peer that a call is given up.
    fn cancel(&mut self, call: u64, reason: CancelReason, wire: &mut dyn Wire) {
        let Some(question) = self.questions.table.get_mut(call) else {
            return;
        };
        if self.over || std::mem::replace(&mut question.cancel_sent, true) {
            return;
        }
        let (number, lane) = (question.number, question.lane.take());
        if !self.rules.hold(Rule::PinUntilReturn) {
            let pins = std::mem::take(&mut question.pins);
            self.unpin(pins);
        }
        self.write(wire, &Message::Cancel { call: number, reason });
        if let Some(lane) = lane {
            wire.reset_lane(lane);
        }
    }

    /// The time of a call of ours is over.
    pub(super) fn expire_question(&mut self, call: u64, wire: &mut dyn Wire) {
        let Some(question) = self.questions.table.get_mut(call) else {
            return;
        };
        question.deadline = None;
        if let Slot::Incoming(_) = question.outcome
            && let Slot::Incoming(parts) = std::mem::replace(&mut question.outcome, Slot::Empty)
        {
            self.stop_incoming(*parts, wire);
        }
        if let Some(outcome) = self.take_unread(call) {
            self.discard_outcome(outcome);
        }
        if let Some(waiting) = self.stop_waiting(call) {
            self.discard_outgoing(waiting.refs);
            if let Some(parent) = self.parent(call) {
                self.was_unsent(parent, wire);
            }
            self.leave_wire(call, wire);
        } else if !self.questions.table.get(call).is_some_and(Question::is_over) {
            self.cancel(call, CancelReason::Deadline, wire);
        }
        self.complete(call, Outcome::Error(ErrorKind::Deadline.into()));
        self.end_if_done(call);
    }

    /// Forgets a call about which nothing is left to be said, and tells the peer so if it keeps the result.
    pub(super) fn end_if_done(&mut self, call: u64) {
        let Some(question) = self.questions.table.get(call) else {
            return;
        };
        let is_flushing = question.flushing && self.rules.hold(Rule::FinishAfterFlush);
        if question.is_wanted() || !question.is_over() || is_flushing || question.unsent > 0 {
            return;
        }
        let (number, kept) = (question.number, question.number != 0 && !question.no_pipeline);
        self.questions.table.forget(call);
        if kept {
            self.questions.kept = self.questions.kept.saturating_sub(1);
            if !self.over && self.rules.hold(Rule::Finish) {
                self.finished.push(number);
            }
        }
    }
}

#[cold]
fn misuse(what: &'static str) -> Error {
    Error::new(ErrorKind::Misuse, what)
}

#[cold]
pub(super) fn nested_too_deep(most: u64) -> Error {
    Error::new(ErrorKind::Loop, format!("calls are nested more than {most} deep"))
}

#[cold]
fn given_up() -> Error {
    Error::new(
        ErrorKind::Broken,
        "the call whose result this one is made on was given up",
    )
}

/// The failure of a call that was cut off.
#[cold]
pub(super) fn lost(certainty: Certainty) -> Error {
    ErrorKind::Disconnected(certainty).into()
}
