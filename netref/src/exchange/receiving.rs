//! Messages of the peer, each with what it does (PROTOCOL.md § 5).

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{LaneId, Nanos};

use super::answers::{Answer, Queued, Stage};
use super::calling::nested_too_deep;
use super::credit::{Allowance, weight, weight_of_reference};
use super::deadlines::Timed;
use super::questions::{Parts, Slot, depth};
use super::references::{gone, promised};
use super::rules::Rule;
use super::wire::HELD;
use super::{Breach, Exchange, Inbound, MAX_HOPS, Wire};
use crate::message::{
    Call, Descriptor, Hello, Kind, Message, Operation, Return, SHAPES, Target, UnknownOperation, Verdict,
    name_of, read_error,
};
use crate::protocol::{Event, Factory, Handles, Incoming, IncomingTarget, Outcome, Received, Refs, Request};
use bytes::Bytes;

impl<H: Handles> Exchange<H> {
    /// A message came.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol: the session is over, and nothing more should be handed in.
    pub fn handle_message(
        &mut self,
        inbound: Inbound,
        factory: &dyn Factory<H>,
        now: Nanos,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        if self.over {
            return Ok(());
        }
        self.tell_time(now);
        match Kind::of(&inbound.bytes) {
            Kind::Call => self.handle_call(inbound, factory, now, wire)?,
            Kind::Return => {
                self.handle_return(inbound, factory, wire)?;
                self.admit(now, wire);
            }
            Kind::Other => self.handle_other(inbound, factory, now, wire)?,
        }
        self.settle(wire);
        Ok(())
    }

    /// Whether a call or a return may come now, with that body.
    fn check_body(&self, body: &Bytes, bulk: Option<(LaneId, u64)>) -> Result<(), Breach> {
        if bulk.is_some() && !body.is_empty() {
            return Err(Breach::UnexpectedBody);
        }
        if self.peer.is_none() {
            return Err(Breach::NoHello);
        }
        Ok(())
    }

    /// Anything but a call or a return.
    #[inline(never)]
    fn handle_other(
        &mut self,
        inbound: Inbound,
        factory: &dyn Factory<H>,
        now: Nanos,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        let Inbound {
            bytes: mut body,
            bulk,
        } = inbound;
        let message = Message::decode(&mut body, self.config.max_references)?;
        let is_ignored = matches!(message, Message::Reserved { .. });
        match bulk {
            Some((lane, _)) if is_ignored => wire.stop_lane(lane),
            Some(_) => return Err(Breach::UnexpectedBody),
            None => {}
        }
        if self.peer.is_none() && !matches!(message, Message::Hello(_)) && !is_ignored {
            return Err(Breach::NoHello);
        }
        match message {
            Message::Finish { call } => self.handle_finish(call)?,
            Message::Release { exports } => {
                for (export, copies) in exports.iter() {
                    if let Some(object) = self.exports.give_back(*export, *copies)? {
                        self.discard_object(object);
                    }
                }
            }
            Message::Cancel { call, reason } => {
                if !self.answers.was_given(call) {
                    return Err(Breach::UnknownCall { call });
                }
                // One that has returned meanwhile is gone, or ignores it.
                self.cancelled(call, reason, wire);
            }
            Message::Retain { export } => self.exports.retain(export)?,
            Message::Flush { flush, call } => self.handle_flush(flush, call, wire)?,
            Message::FlushAck { flush } => {
                let question = self
                    .flushes
                    .remove(&flush)
                    .ok_or(Breach::UnknownFlush { flush })?;
                self.flushed(question);
            }
            Message::CallCredit { calls, bytes } => {
                if let Some(peer) = &mut self.peer {
                    peer.calls = peer.calls.max(calls);
                    peer.call_bytes = peer.call_bytes.max(bytes);
                }
                self.admit(now, wire);
            }
            Message::Hello(hello) => self.handle_hello(hello, factory, wire)?,
            Message::Drain => self.push_event(Event::Draining),
            Message::Abort { code, text } => {
                self.push_event(Event::Closed(farref_framing::CloseReason::new(code, text)));
            }
            Message::GetShape { shape } => self.handle_get_shape(shape)?,
            Message::Shape { shape } => self.handle_shape(shape, body)?,
            // Calls to a revoked object fail over there; what is reserved is never asked for. The others do not come here.
            Message::Revoked { .. } | Message::Reserved { .. } | Message::Call(_) | Message::Return(_) => {}
        }
        Ok(())
    }

    fn handle_hello(
        &mut self,
        hello: Hello,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        if self.peer.is_some() {
            return Err(Breach::SecondHello);
        }
        let hosted = !matches!(hello.root, Descriptor::Home { .. } | Descriptor::Answer { .. });
        if hello.version == 0 || !hosted {
            return Err(Breach::BadHello);
        }
        self.peer = Some(hello.limits);
        self.shapes.peer_tells = self.config.tells_shapes && hello.features & SHAPES != 0;
        let root = self.take_in(Refs::from_iter([hello.root]), false, factory, wire)?;
        let root = root.into_iter().next().unwrap_or(Received::Null);
        self.push_event(Event::Opened(root));
        Ok(())
    }

    #[inline(never)]
    fn handle_call(
        &mut self,
        inbound: Inbound,
        factory: &dyn Factory<H>,
        now: Nanos,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        let Inbound {
            bytes: mut body,
            bulk,
        } = inbound;
        let (mut call, read) = Call::take(&mut body, self.config.max_references);
        read?;
        self.check_body(&body, bulk)?;
        let (number, due) = (call.call, self.answers.next());
        if number != due {
            return Err(Breach::CallNumber { call: number, due });
        }
        match call.target {
            Target::Answer { call, .. } if call > number => return Err(Breach::UnknownCall { call }),
            Target::Export(export) if !self.exports.was_given(export) => {
                return Err(Breach::UnknownExport { export });
            }
            Target::Answer { .. } | Target::Export(_) => {}
        }
        let depth = depth(&call.options);
        // Those that are too deep are under way as the deepest: nothing is kept for each depth that there might be.
        let counted = depth.min(self.config.max_depth);
        let name = match &call.operation {
            Operation::Known(op) => name_of(op),
            Operation::Unknown(_) => "",
        };
        let among = Among::of(&call.descriptors);
        let (lane, len) = match bulk {
            Some((lane, len)) => (Some(lane), len),
            None => (None, body.len() as u64),
        };
        let bytes = weight(len, name).saturating_add(among.weight);
        let swamped = self.admit_answer(counted, depth != counted, bytes, among.lent)?;
        self.answers
            .push_with(|| Answer::new(&call.options, counted, bytes, lane));
        if let Some(lane) = lane {
            self.bodies.insert(lane, Timed::Answer(number));
        }
        if let Operation::Known(op) = &call.operation
            && self.trace.is_some()
        {
            self.trace_answer(number, op, call.target);
        }
        let served = if swamped {
            Err(Refusal::Overloaded)
        } else if among.has_promises {
            Err(Refusal::Promises)
        } else if !call.streams.is_empty() {
            Err(Refusal::Streams)
        } else if depth != counted {
            Err(Refusal::Depth(self.config.max_depth))
        } else if call.options.hops > MAX_HOPS && self.rules.hold(Rule::HopLimit) {
            Err(Refusal::Hops)
        } else {
            match call.operation {
                Operation::Known(op) => Ok(op.into_owned()),
                Operation::Unknown(UnknownOperation { code }) => Err(Refusal::Operation(code)),
            }
        };
        let op = match served {
            Ok(op) => op,
            Err(refusal) => return self.refuse(number, refusal, call.descriptors, factory, wire),
        };
        let refs = self.take_in(call.descriptors, true, factory, wire)?;
        if let Some(time_left) = call.time_left {
            let deadline = factory.exactly(now).saturating_add(time_left);
            call.options.deadline = Some(deadline);
            self.set_answer_deadline(number, deadline);
        }
        let request = Box::new(Request {
            op,
            options: call.options,
            body: lane.is_none().then_some(body),
            plain: None,
            refs,
        });
        self.direct(number, call.target, request, wire);
        Ok(())
    }

    /// Answers a call that is not going to be served. Its references are counted all the same.
    #[cold]
    #[inline(never)]
    fn refuse(
        &mut self,
        number: u64,
        refusal: Refusal,
        mut descriptors: Refs<Descriptor>,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        // What is lent ends with the return: nobody is left who could keep it.
        descriptors.retain(|of| !matches!(of, Descriptor::Borrowed(_)));
        let refs = self.take_in(descriptors, true, factory, wire)?;
        self.discard_received(refs);
        self.conclude_error(number, refusal.into_error(), false, wire);
        Ok(())
    }

    /// Counts a call of the peer's, which lends so many references, against our limits. Whether it is too much to be served,
    /// though admitted.
    fn admit_answer(&mut self, depth: u16, is_too_deep: bool, bytes: u64, lent: u64) -> Result<bool, Breach> {
        let (calls, most) = (self.config.max_calls.max(1), self.config.max_call_bytes);
        let allowance = Allowance { calls, bytes: most };
        let is_admitted = if is_too_deep {
            self.served.fits(bytes, allowance)
        } else {
            self.served.admits(depth, bytes, allowance)
        };
        if !is_admitted {
            return Err(Breach::TooManyCalls { calls, bytes: most });
        }
        let limit = self.config.max_objects.max(1);
        // Calls under way, and results kept.
        if self.answers.len() as u64 >= limit.saturating_add(calls) {
            return Err(Breach::TooManyObjects { limit });
        }
        let before = self.served.bytes();
        self.served.take(depth, bytes);
        // The second half is for the results of those that are under way. Each lent reference would be retained.
        let retained = lent.saturating_mul(HELD);
        let unread = self.outbox.bytes();
        let is_deaf = unread != 0 && unread.saturating_add(retained) > self.config.max_unread / 2;
        Ok(is_deaf || (before != 0 && self.served.bytes() > most.saturating_mul(2)))
    }

    /// Finds the object that a call is made on, or the queue that it waits in.
    #[inline]
    fn direct(&mut self, number: u64, target: Target, request: Box<Request<H>>, wire: &mut dyn Wire) {
        let error = match target {
            Target::Export(export) => match self.exports.get(export) {
                Some(entry) => {
                    let (object, interface) = (entry.object.clone(), entry.interface);
                    let target = IncomingTarget::Object {
                        object,
                        export,
                        interface,
                    };
                    return self.dispatch(Incoming {
                        answer: number,
                        target,
                        request,
                    });
                }
                None => gone(),
            },
            Target::Answer { call, .. } if call == number => {
                Error::new(ErrorKind::Loop, "the call is made on its own result")
            }
            Target::Answer { call: parent, slot } => match self.answers.get(parent) {
                Some(answer) if !answer.no_pipeline && !answer.finished => {
                    return self.enqueue(
                        number,
                        Queued {
                            parent,
                            slot,
                            request,
                        },
                    );
                }
                _ => Error::new(
                    ErrorKind::Broken,
                    "the result that the call was made on is not kept",
                ),
            },
        };
        self.discard_received(request.refs);
        self.conclude_error(number, error, false, wire);
    }

    #[inline(never)]
    fn handle_return(
        &mut self,
        inbound: Inbound,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        let Inbound {
            bytes: mut body,
            bulk,
        } = inbound;
        let (returned, read) = Return::take(&mut body, self.config.max_references);
        read?;
        let Return {
            call,
            verdict,
            shape,
            mut descriptors,
            streams,
        } = returned;
        self.check_body(&body, bulk)?;
        let number = self
            .questions
            .sent
            .remove(call)
            .ok_or(Breach::UnknownCall { call })?;
        let question = self.questions.table.get(number);
        let is_wanted = question.is_some_and(|of| matches!(of.outcome, Slot::Empty));
        if !is_wanted && !self.rules.hold(Rule::LateResultReleased) {
            descriptors.clear();
        }
        let unread = if descriptors.is_empty() && streams.is_empty() {
            None
        } else {
            unreadable(&descriptors, &streams)
        };
        // Counted even if nobody wants them: dropping them gives them back.
        if self.trace.is_some() {
            self.trace_returned(number);
        }
        let refs = self.take_in(descriptors, false, factory, wire)?;
        self.returned(number, wire);
        if let Some((lane, _)) = bulk {
            if is_wanted && unread.is_none() {
                self.await_body(number, lane, verdict, shape, refs);
                return Ok(());
            }
            wire.stop_lane(lane);
        }
        let outcome = match unread {
            Some(error) => {
                self.discard_received(refs);
                Outcome::Error(error)
            }
            None => outcome(verdict, shape, body, refs),
        };
        self.came(number, outcome, wire);
        // One that is wanted is done when it is taken.
        if !is_wanted {
            self.end_if_done(number);
        }
        Ok(())
    }

    /// The body of a result comes by itself.
    #[inline(never)]
    fn await_body(
        &mut self,
        question: u64,
        lane: LaneId,
        verdict: Verdict,
        shape: u32,
        refs: Refs<Received<H>>,
    ) {
        self.bodies.insert(lane, Timed::Question(question));
        if let Some(question) = self.questions.table.get_mut(question) {
            question.outcome = Slot::Incoming(Box::new(Parts {
                lane,
                verdict,
                shape,
                refs,
            }));
        }
    }

    fn handle_finish(&mut self, call: u64) -> Result<(), Breach> {
        let answer = self.answers.get_mut(call).ok_or(Breach::UnknownCall { call })?;
        if !answer.is_over() || answer.finished || answer.flush.is_some() {
            return Err(Breach::WrongTime { call });
        }
        answer.finished = true;
        if answer.queue.is_empty() {
            self.forget_answer(call);
        }
        Ok(())
    }

    fn handle_flush(&mut self, flush: u64, call: u64, wire: &mut dyn Wire) -> Result<(), Breach> {
        let answer = self.answers.get_mut(call).ok_or(Breach::UnknownCall { call })?;
        if !matches!(answer.stage, Stage::Returned(_)) || answer.finished || answer.flush.is_some() {
            return Err(Breach::WrongTime { call });
        }
        answer.flush = Some(flush);
        if self.rules.hold(Rule::AckBehindCalls) {
            self.settling.push(call);
        } else {
            self.acknowledge(flush, call, wire);
        }
        Ok(())
    }

    /// The whole body of an earlier message came.
    pub fn handle_body(&mut self, lane: LaneId, body: Bytes, wire: &mut dyn Wire) {
        match self.bodies.remove(&lane) {
            Some(Timed::Answer(answer)) => self.arguments(answer, body, wire),
            Some(Timed::Question(question)) => {
                if let Some(parts) = self.take_parts(question) {
                    let Parts {
                        verdict, shape, refs, ..
                    } = parts;
                    self.came(question, outcome(verdict, shape, body, refs), wire);
                }
            }
            None => {}
        }
    }

    /// The peer gave up the body of an earlier message.
    pub fn handle_reset(&mut self, lane: LaneId, wire: &mut dyn Wire) {
        match self.bodies.remove(&lane) {
            Some(Timed::Answer(answer)) => {
                if let Some(answer) = self.answers.get_mut(answer) {
                    answer.lane = None;
                }
                let is_running = self
                    .answers
                    .get(answer)
                    .is_some_and(|answer| matches!(answer.stage, Stage::Running));
                if is_running {
                    let reason = crate::protocol::CancelReason::Dropped;
                    self.push_event(Event::Cancelled { answer, reason });
                }
                let error = Error::new(ErrorKind::Cancelled, "the caller gave up sending the arguments");
                self.conclude_error(answer, error, false, wire);
                self.settle(wire);
            }
            Some(Timed::Question(question)) => {
                if let Some(parts) = self.take_parts(question) {
                    self.discard_received(parts.refs);
                    let error = Error::new(ErrorKind::Broken, "the peer gave up sending the result");
                    self.complete(question, Outcome::Error(error));
                }
            }
            None => {}
        }
    }

    fn take_parts(&mut self, question: u64) -> Option<Parts<H>> {
        let question = self.questions.table.get_mut(question)?;
        match std::mem::replace(&mut question.outcome, Slot::Empty) {
            Slot::Incoming(parts) => Some(*parts),
            other => {
                question.outcome = other;
                None
            }
        }
    }
}

/// What a return says.
fn outcome<H: Handles>(verdict: Verdict, shape: u32, body: Bytes, refs: Refs<Received<H>>) -> Outcome<H> {
    match verdict {
        Verdict::Value => Outcome::Value {
            failed: false,
            shape,
            body,
            refs,
            writer: None,
        },
        Verdict::Failed => Outcome::Value {
            failed: true,
            shape,
            body,
            refs,
            writer: None,
        },
        Verdict::Fault { started } => {
            let error = read_error(&body).unwrap_or_else(|| {
                Error::new(ErrorKind::Malformed, "the peer answered with an unreadable error")
            });
            Outcome::Error(match error.kind() {
                // The call was lost further on; that it was not started is proven.
                ErrorKind::Disconnected(_) if !started => {
                    error.with_kind(ErrorKind::Disconnected(Certainty::NotExecuted))
                }
                _ => error,
            })
        }
    }
}

/// What the references of a message come to.
#[derive(Default)]
struct Among {
    weight: u64,
    lent: u64,
    /// Results that are not there yet.
    has_promises: bool,
}

impl Among {
    #[inline]
    fn of(descriptors: &[Descriptor]) -> Self {
        if descriptors.is_empty() {
            Self::default()
        } else {
            Self::of_some(descriptors)
        }
    }

    #[inline(never)]
    fn of_some(descriptors: &[Descriptor]) -> Self {
        let mut among = Self::default();
        for descriptor in descriptors {
            let is_broken = matches!(descriptor, Descriptor::Broken(_));
            among.weight = among.weight.saturating_add(weight_of_reference(is_broken));
            among.lent += u64::from(matches!(descriptor, Descriptor::Borrowed(_)));
            among.has_promises |= matches!(descriptor, Descriptor::Answer { .. });
        }
        among
    }
}

/// Why a call is not served, whatever it is made on.
enum Refusal {
    Overloaded,
    Promises,
    Streams,
    Depth(u16),
    Hops,
    Operation(u8),
}

impl Refusal {
    fn into_error(self) -> Error {
        match self {
            Self::Overloaded => ErrorKind::Overloaded.into(),
            Self::Promises => promised(),
            Self::Streams => no_streams(),
            Self::Depth(most) => nested_too_deep(most.into()),
            Self::Hops => Error::new(
                ErrorKind::Loop,
                format!("the call has crossed more than {MAX_HOPS} connections"),
            ),
            Self::Operation(code) => Error::new(
                ErrorKind::Unimplemented,
                format!("operation {code} is not known on this side"),
            ),
        }
    }
}

/// Why a result with these references and streams cannot be read, if so.
#[inline(never)]
fn unreadable(descriptors: &[Descriptor], streams: &Bytes) -> Option<Error> {
    if Among::of(descriptors).has_promises {
        Some(promised())
    } else if streams.is_empty() {
        None
    } else {
        Some(no_streams())
    }
}

fn no_streams() -> Error {
    Error::new(ErrorKind::Unimplemented, "streams are not known on this side")
}
