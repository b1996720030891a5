//! The peer's calls: arrived, waiting for their target, running, answered, finished with (PROTOCOL.md § 7).

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};
use farref_framing::Nanos;

use super::answers::{Answer, Kept, Queued, Stage, resolve};
use super::deadlines::Timed;
use super::references::{Described, Purpose};
use super::rules::Rule;
use super::wire::{self, Of, Written};
use super::{Exchange, Happening, LEAST_MESSAGE, Wire, limit};
use crate::body;
use crate::message::{Descriptor, Message, Returning, Verdict, error_bytes};
use crate::protocol::{
    BodyRef, CancelReason, Event, Handles, Incoming, IncomingTarget, Outgoing, Refs, Reply,
};

/// An acknowledgement of a flush that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    flush: u64,
    answer: u64,
    /// Calls of ours before this one must have gone, if they are at least this deep.
    behind: u64,
    depth: u16,
}

impl<H: Handles> Exchange<H> {
    /// Answers a call of the peer's. A second answer is ignored.
    pub fn answer(&mut self, answer: u64, reply: Reply<'_, H>, wire: &mut dyn Wire) {
        match reply {
            Reply::Value {
                failure,
                shape,
                body,
                refs,
            } => self.conclude_value(answer, failure, shape, body, refs, wire),
            Reply::Error { error, started } => self.conclude_error(answer, error, started, wire),
        }
        self.settle(wire);
    }

    fn conclude_value(
        &mut self,
        number: u64,
        failure: Option<Error>,
        shape: u32,
        body: BodyRef<'_>,
        refs: Refs<Outgoing<H>>,
        wire: &mut dyn Wire,
    ) {
        let answer = self.answers.get(number).filter(|answer| !answer.is_over());
        let Some(one_way) = answer.map(|answer| answer.one_way) else {
            return self.discard_outgoing(refs);
        };
        if one_way {
            self.discard_outgoing(refs);
            self.conclude_bare(number, failure, 0, BodyRef::Slice(&[]), wire);
        } else if refs.is_empty() {
            self.conclude_bare(number, failure, shape, body, wire);
        } else {
            self.conclude_with(number, failure, shape, body, refs, wire);
        }
    }

    /// Ends a call with a result without references.
    #[inline]
    fn conclude_bare(
        &mut self,
        number: u64,
        failure: Option<Error>,
        shape: u32,
        body: BodyRef<'_>,
        wire: &mut dyn Wire,
    ) {
        match self.write_result(number, failure.as_ref(), shape, body, &[], wire) {
            Ok(written) => self.conclude(number, failure, Refs::new(), written, wire),
            Err(error) => self.conclude_error(number, error, true, wire),
        }
    }

    /// Ends a call with a result with references.
    #[inline(never)]
    fn conclude_with(
        &mut self,
        number: u64,
        failure: Option<Error>,
        shape: u32,
        body: BodyRef<'_>,
        refs: Refs<Outgoing<H>>,
        wire: &mut dyn Wire,
    ) {
        let described = match self.describe_result(number, refs) {
            Ok(described) => described,
            Err(error) => return self.conclude_error(number, error, true, wire),
        };
        match self.write_result(
            number,
            failure.as_ref(),
            shape,
            body,
            &described.descriptors,
            wire,
        ) {
            Ok(written) => self.conclude(number, failure, described.kept, written, wire),
            Err(error) => {
                self.take_back(described);
                self.conclude_error(number, error, true, wire);
            }
        }
    }

    /// Writes what a method returned: its value, or its error value if it failed.
    #[inline]
    fn write_result(
        &mut self,
        number: u64,
        failure: Option<&Error>,
        shape: u32,
        body: BodyRef<'_>,
        descriptors: &[Descriptor],
        wire: &mut dyn Wire,
    ) -> Result<Written, Error> {
        let returning = Returning {
            call: number,
            verdict: if failure.is_some() {
                Verdict::Failed
            } else {
                Verdict::Value
            },
            shape,
            descriptors,
            streams: &[],
        };
        self.write_return(&returning, body, wire)
    }

    /// Counts the references of a result.
    fn describe_result(&mut self, number: u64, refs: Refs<Outgoing<H>>) -> Result<Described<H>, Error> {
        let most = self.peer.map_or(0, |peer| peer.references);
        if refs.len() as u64 > most {
            self.discard_outgoing(refs);
            return Err(limit("too many references in one result", most));
        }
        if self.trace.is_some() {
            self.trace_result(number);
        }
        let is_last = self.answers.get(number).is_none_or(|answer| answer.no_pipeline);
        let purpose = if is_last {
            Purpose::LastResult
        } else {
            Purpose::Result
        };
        self.describe(refs, purpose)
    }

    /// Ends a call with a failure of the call itself.
    #[inline(never)]
    pub(super) fn conclude_error(&mut self, number: u64, error: Error, started: bool, wire: &mut dyn Wire) {
        if self.answers.get(number).is_none_or(Answer::is_over) {
            return;
        }
        let returning = Returning {
            call: number,
            verdict: Verdict::Fault { started },
            shape: 0,
            descriptors: &[],
            streams: &[],
        };
        let room = self.room().max(LEAST_MESSAGE).min(self.max_message);
        let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(64);
        let body = error_bytes(&error, room);
        // It fits by its making: a peer takes messages of at least 1 KiB.
        let written = self.write_return(&returning, BodyRef::Rope(&[body]), wire);
        let written = written.unwrap_or(Written::Lost);
        self.conclude(number, Some(error), Refs::new(), written, wire);
    }

    /// How many bytes of results may still wait for the wire.
    fn room(&self) -> u64 {
        self.config.max_unread.saturating_sub(self.outbox.bytes())
    }

    /// Writes a return, unless it is longer than the peer accepts, or too much waits already for the peer to read it.
    fn write_return(
        &mut self,
        returning: &Returning<'_>,
        body: BodyRef<'_>,
        wire: &mut dyn Wire,
    ) -> Result<Written, Error> {
        self.write_owed(wire);
        let of = self
            .answers
            .get(returning.call)
            .map_or(Of::None, |answer| Of::Answer {
                depth: answer.depth,
                bytes: answer.bytes,
            });
        returning.encode(self.empty_head());
        let len = (self.head.len() as u64).saturating_add(wire::len(body));
        if len > self.max_message {
            return Err(limit(
                "the result is longer than the peer accepts, in bytes",
                self.max_message,
            ));
        }
        let is_fault = matches!(returning.verdict, Verdict::Fault { .. });
        if !self.outbox.is_empty() && !is_fault && len > self.room() {
            return Err(limit(
                "the peer does not read the results that wait for it, in bytes",
                self.config.max_unread,
            ));
        }
        Ok(self.outbox.write(wire, &self.head, body, of))
    }

    /// The return is written: what was held for the call is let go, and calls on its result go on.
    fn conclude(
        &mut self,
        number: u64,
        failure: Option<Error>,
        kept: Refs<Kept<H>>,
        written: Written,
        wire: &mut dyn Wire,
    ) {
        let Some(answer) = self.answers.get_mut(number) else {
            return;
        };
        if written != Written::Held {
            self.served.give(answer.depth, answer.bytes);
        }
        let timed = answer.deadline.take().is_some();
        let lane = answer.lane.take();
        let queued = answer.take_queued();
        if answer.no_pipeline && answer.queue.is_empty() {
            self.answers.forget(number);
        } else {
            answer.stage = Stage::Returned(failure.map_or(Ok(kept), Err));
            if !answer.queue.is_empty() {
                self.settling.push(number);
            }
        }
        if timed {
            self.lift_deadline();
        }
        if let Some(lane) = lane {
            self.bodies.remove(&lane);
            wire.stop_lane(lane);
        }
        if let Some(queued) = queued {
            self.leave_queue(queued.parent, number);
            self.discard_received(queued.request.refs);
        }
    }

    fn leave_queue(&mut self, parent: u64, number: u64) {
        let Some(parent_answer) = self.answers.get_mut(parent) else {
            return;
        };
        // Numbers ascend, as calls queue in the order in which they came.
        if let Ok(at) = parent_answer.queue.binary_search(&number) {
            parent_answer.queue.remove(at);
            self.settling.push(parent);
        }
    }

    /// Puts a call on the result of another into the queue of that.
    pub(super) fn enqueue(&mut self, number: u64, mut queued: Queued<H>) {
        let parent = queued.parent;
        let body = &mut queued.request.body;
        *body = body.take().map(body::apart);
        let Some(answer) = self.answers.get_mut(number) else {
            return;
        };
        answer.stage = Stage::Queued(Box::new(queued));
        if let Some(parent_answer) = self.answers.get_mut(parent) {
            parent_answer.queue.push_back(number);
            self.settling.push(parent);
        }
    }

    /// Lets queues go on whose calls have returned. Calls that fail by it may let others go on: no recursion, as a
    /// peer may make calls on calls without end.
    #[inline]
    pub(super) fn settle(&mut self, wire: &mut dyn Wire) {
        while let Some(parent) = self.settling.pop() {
            self.advance(parent, wire);
        }
    }

    #[inline(never)]
    fn advance(&mut self, parent: u64, wire: &mut dyn Wire) {
        loop {
            let Some(answer) = self.answers.get(parent) else {
                return;
            };
            let Stage::Returned(result) = &answer.stage else {
                return;
            };
            let Some(number) = answer.queue.front().copied() else {
                break;
            };
            let Some(Stage::Queued(queued)) = self.answers.get(number).map(|answer| &answer.stage) else {
                self.pop_queue(parent);
                continue;
            };
            let target = resolve(result, queued.slot);
            // Who passes a call on needs all of it; what is behind it waits, to stay behind it.
            if matches!(target, Ok(IncomingTarget::Import(_))) && queued.request.body.is_none() {
                return;
            }
            self.pop_queue(parent);
            match target {
                Ok(target) => self.run_queued(number, target),
                Err(error) => self.conclude_error(number, error, false, wire),
            }
        }
        let Some(answer) = self.answers.get_mut(parent) else {
            return;
        };
        if let Some(flush) = answer.flush
            && !std::mem::replace(&mut answer.passing, true)
        {
            self.happenings.push_back(Happening::Passed {
                flush,
                answer: parent,
            });
        }
        if answer.finished || answer.no_pipeline {
            self.forget_answer(parent);
        }
    }

    fn pop_queue(&mut self, parent: u64) {
        if let Some(answer) = self.answers.get_mut(parent) {
            answer.queue.pop_front();
        }
    }

    fn run_queued(&mut self, number: u64, target: IncomingTarget<H>) {
        let Some(answer) = self.answers.get_mut(number) else {
            return;
        };
        if let Stage::Queued(queued) = std::mem::replace(&mut answer.stage, Stage::Running) {
            self.dispatch(Incoming {
                answer: number,
                target,
                request: queued.request,
            });
        }
    }

    /// Hands a call to the engine.
    #[inline]
    pub(super) fn dispatch(&mut self, incoming: Incoming<H>) {
        if self.calls.capacity() == 0 {
            self.make_room_for_one();
        }
        self.calls.push_back(incoming);
        self.happenings.push_back(Happening::Call);
    }

    /// Most connections never have two calls at once.
    #[cold]
    #[inline(never)]
    fn make_room_for_one(&mut self) {
        self.calls.reserve_exact(1);
    }

    /// The arguments of a call are complete.
    pub(super) fn arguments(&mut self, number: u64, body: Bytes, wire: &mut dyn Wire) {
        let Some(answer) = self.answers.get_mut(number) else {
            return;
        };
        answer.lane = None;
        match &mut answer.stage {
            Stage::Queued(queued) => {
                queued.request.body = Some(body);
                self.settling.push(queued.parent);
                self.settle(wire);
            }
            Stage::Running => self.push_event(Event::Body {
                answer: number,
                body,
                refs: Refs::new(),
            }),
            Stage::Returned(_) => {}
        }
    }

    /// The peer gave a call up.
    pub(super) fn cancelled(&mut self, number: u64, reason: CancelReason, wire: &mut dyn Wire) {
        let kind = match reason {
            CancelReason::Deadline => ErrorKind::Deadline,
            CancelReason::Dropped | CancelReason::Upstream | CancelReason::Shutdown => ErrorKind::Cancelled,
        };
        self.give_up(number, reason, kind, wire);
    }

    /// The time of a call of the peer's is over.
    pub(super) fn expire_answer(&mut self, number: u64, wire: &mut dyn Wire) {
        if let Some(answer) = self.answers.get_mut(number) {
            answer.deadline = None;
        }
        self.give_up(number, CancelReason::Deadline, ErrorKind::Deadline, wire);
    }

    fn give_up(&mut self, number: u64, reason: CancelReason, kind: ErrorKind, wire: &mut dyn Wire) {
        let Some(answer) = self.answers.get(number) else {
            return;
        };
        let started = match &answer.stage {
            Stage::Queued(_) if !self.rules.hold(Rule::CancelReachesQueues) => return,
            Stage::Queued(_) => false,
            // It goes on, and is answered in its time.
            Stage::Running if answer.detached => return,
            Stage::Running => {
                let started = answer.lane.is_none();
                self.push_event(Event::Cancelled {
                    answer: number,
                    reason,
                });
                started
            }
            Stage::Returned(_) => return,
        };
        self.conclude_error(number, kind.into(), started, wire);
    }

    /// Sets the time after which a call of the peer's is given up.
    pub(super) fn set_answer_deadline(&mut self, number: u64, deadline: Nanos) {
        if let Some(answer) = self.answers.get_mut(number)
            && !answer.detached
        {
            answer.deadline = Some(deadline);
            self.deadlines.set(deadline, Timed::Answer(number));
        }
    }

    /// All calls on a result that came before the flush are on their way: tells the peer, behind those of them that
    /// are passed on and wait for its own limits.
    ///
    /// Those are deeper than the call itself, as who passes a call on nests it. The acknowledgement waits for none
    /// that is not, as such a one may wait for whoever waits for the acknowledgement.
    #[inline(never)]
    pub(super) fn acknowledge(&mut self, flush: u64, answer: u64, wire: &mut dyn Wire) {
        let Some(of) = self.answers.get(answer) else {
            return;
        };
        let depth = if self.rules.hold(Rule::AckPastShallower) {
            of.depth.saturating_add(1)
        } else {
            0
        };
        let behind = if self.rules.hold(Rule::AckBehindWaiting) {
            self.questions.waiting.now()
        } else {
            0
        };
        self.acks.queue().push_back(Ack {
            flush,
            answer,
            behind,
            depth,
        });
        self.write_due_acks(wire);
    }

    #[inline]
    pub(super) fn write_due_acks(&mut self, wire: &mut dyn Wire) {
        if !self.acks.is_empty() {
            self.write_acks(wire);
        }
    }

    #[inline(never)]
    fn write_acks(&mut self, wire: &mut dyn Wire) {
        let waiting = &self.questions.waiting;
        let mut due = Vec::new();
        self.acks.queue().retain(|ack| {
            let is_due = waiting.have_gone(ack.depth, ack.behind);
            if is_due {
                due.push((ack.flush, ack.answer));
            }
            !is_due
        });
        for (flush, answer) in due {
            if self.answers.get(answer).is_none() {
                continue;
            }
            let written = self.write_of(wire, &Message::FlushAck { flush }, Of::Flush(answer));
            if written != Written::Held
                && let Some(answer) = self.answers.get_mut(answer)
            {
                answer.flushed();
            }
        }
    }

    /// Drops a result on which nothing will be called any more.
    pub(super) fn forget_answer(&mut self, number: u64) {
        if let Some(answer) = self.answers.remove(number)
            && let Stage::Returned(Ok(kept)) = answer.stage
        {
            self.discard_kept(kept);
        }
    }
}
