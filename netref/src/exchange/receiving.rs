//! Messages of the peer, each with what it does (PROTOCOL.md § 5).

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{LaneId, Nanos};

use super::answers::{Answer, Queued, Stage};
use super::credit::{Allowance, weight};
use super::deadlines::Timed;
use super::questions::{Parts, Slot, depth};
use super::references::{gone, promised};
use super::rules::Rule;
use super::wire::HELD;
use super::{Breach, Exchange, Inbound, MAX_HOPS, Wire};
use crate::message::{
    Call, Descriptor, Hello, Kind, Message, Operation, Return, SHAPES, Target, Verdict, name_of, read_error,
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
        let Inbound {
            bytes: mut body,
            bulk,
        } = inbound;
        let references = self.config.max_references;
        match Kind::of(&body) {
            Kind::Call => {
                let call = Call::take(&mut body, references)?;
                self.check_body(&body, bulk)?;
                self.handle_call(call, body, bulk, factory, now, wire)?;
            }
            Kind::Return => {
                let returned = Return::take(&mut body, references)?;
                self.check_body(&body, bulk)?;
                self.handle_return(returned, body, bulk, factory, wire)?;
                self.admit(now, wire);
            }
            Kind::Other => {
                let message = Message::decode(&mut body, references)?;
                self.handle_other(message, body, bulk, factory, now, wire)?;
            }
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
    fn handle_other(
        &mut self,
        message: Message<'static>,
        body: Bytes,
        bulk: Option<(LaneId, u64)>,
        factory: &dyn Factory<H>,
        now: Nanos,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
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

    fn handle_call(
        &mut self,
        call: Call<'static>,
        body: Bytes,
        bulk: Option<(LaneId, u64)>,
        factory: &dyn Factory<H>,
        now: Nanos,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        let Call {
            call: number,
            target,
            operation,
            mut options,
            time_left,
            mut descriptors,
            streams,
            ..
        } = call;
        let due = self.answers.next();
        if number != due {
            return Err(Breach::CallNumber { call: number, due });
        }
        if let Target::Answer { call: parent, .. } = target
            && parent > number
        {
            return Err(Breach::UnknownCall { call: parent });
        }
        if let Target::Export(export) = target
            && !self.exports.was_given(export)
        {
            return Err(Breach::UnknownExport { export });
        }
        let depth = depth(&options);
        // Those that are too deep are under way as the deepest: nothing is kept for each depth that there might be.
        let counted = depth.min(self.config.max_depth);
        let name = match &operation {
            Operation::Known(op) => name_of(op),
            Operation::Unknown(_) => "",
        };
        let are_broken = descriptors.iter().map(|of| matches!(of, Descriptor::Broken(_)));
        let bytes = weight(bulk.map_or(body.len() as u64, |(_, len)| len), name, are_broken);
        let lent = descriptors
            .iter()
            .filter(|of| matches!(of, Descriptor::Borrowed(_)))
            .count();
        let swamped = self.admit_answer(counted, depth != counted, bytes, lent)?;
        let has_promises = descriptors
            .iter()
            .any(|of| matches!(of, Descriptor::Answer { .. }));
        self.answers
            .push(Answer::new(&options, counted, bytes, bulk.map(|(lane, _)| lane)));
        if let Some((lane, _)) = bulk {
            self.bodies.insert(lane, Timed::Answer(number));
        }
        if let Operation::Known(op) = &operation {
            let export = match target {
                Target::Export(export) => Some(export),
                Target::Answer { .. } => None,
            };
            self.trace_origin(op, export);
            self.trace_answer(number, op, export);
        }

        let refused = match &operation {
            _ if swamped => Some(ErrorKind::Overloaded.into()),
            _ if has_promises => Some(promised()),
            _ if !streams.is_empty() => Some(no_streams()),
            _ if depth != counted => Some(too_deep(self.config.max_depth)),
            _ if options.hops > MAX_HOPS && self.rules.hold(Rule::HopLimit) => Some(too_many_hops()),
            Operation::Unknown(unknown) => Some(Error::new(
                ErrorKind::Unimplemented,
                format!("operation {} is not known on this side", unknown.code),
            )),
            Operation::Known(_) => None,
        };
        if refused.is_some() {
            // What is lent ends with the return: nobody is left who could keep it.
            descriptors.retain(|of| !matches!(of, Descriptor::Borrowed(_)));
        }
        let refs = self.take_in(descriptors, true, factory, wire)?;
        let op = match operation {
            Operation::Known(op) if refused.is_none() => op.into_owned(),
            _ => {
                self.discard_received(refs);
                let error = refused.unwrap_or_else(|| ErrorKind::Unimplemented.into());
                self.conclude_error(number, error, false, wire);
                return Ok(());
            }
        };
        options.deadline = time_left.map(|time_left| now.saturating_add(time_left));
        self.set_answer_deadline(number, options.deadline);
        let request = Box::new(Request {
            op,
            options,
            body: if bulk.is_some() { None } else { Some(body) },
            plain: None,
            refs,
        });
        self.direct(number, target, request, wire);
        Ok(())
    }

    /// Counts a call of the peer's, which lends so many references, against our limits. Whether it is too much to be served,
    /// though admitted.
    fn admit_answer(
        &mut self,
        depth: u16,
        is_too_deep: bool,
        bytes: u64,
        lent: usize,
    ) -> Result<bool, Breach> {
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
        let retained = (lent as u64).saturating_mul(HELD);
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

    fn handle_return(
        &mut self,
        returned: Return,
        body: Bytes,
        bulk: Option<(LaneId, u64)>,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<(), Breach> {
        let Return {
            call,
            verdict,
            shape,
            descriptors,
            streams,
        } = returned;
        let number = self
            .questions
            .sent
            .remove(call)
            .ok_or(Breach::UnknownCall { call })?;
        let has_promises = descriptors
            .iter()
            .any(|of| matches!(of, Descriptor::Answer { .. }));
        let is_wanted = self
            .questions
            .table
            .get(number)
            .is_some_and(|of| matches!(of.outcome, Slot::Empty));
        let descriptors = if is_wanted || self.rules.hold(Rule::LateResultReleased) {
            descriptors
        } else {
            Refs::new()
        };
        // Counted even if nobody wants them: dropping them gives them back.
        self.trace_returned(number);
        let refs = self.take_in(descriptors, false, factory, wire)?;
        self.returned(number, wire);

        let unread = if has_promises {
            Some(promised())
        } else if streams.is_empty() {
            None
        } else {
            Some(no_streams())
        };
        match bulk {
            Some((lane, _)) if !is_wanted || unread.is_some() => wire.stop_lane(lane),
            Some((lane, _)) => {
                self.bodies.insert(lane, Timed::Question(number));
                if let Some(question) = self.questions.table.get_mut(number) {
                    question.outcome = Slot::Incoming(Box::new(Parts {
                        lane,
                        verdict,
                        shape,
                        refs,
                    }));
                }
                return Ok(());
            }
            None => {}
        }
        let outcome = match unread {
            Some(error) => {
                self.discard_received(refs);
                Outcome::Error(error)
            }
            None if !is_wanted => Outcome::Value {
                failed: false,
                shape,
                body,
                refs,
                writer: None,
            },
            None => outcome(verdict, shape, body, refs),
        };
        if let Some(outcome) = self.with_its_shape(number, outcome, wire) {
            self.complete(number, outcome);
        }
        // One that is wanted is done when it is taken.
        if !is_wanted {
            self.end_if_done(number);
        }
        Ok(())
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
                    let outcome = outcome(verdict, shape, body, refs);
                    if let Some(outcome) = self.with_its_shape(question, outcome, wire) {
                        self.complete(question, outcome);
                    }
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

fn no_streams() -> Error {
    Error::new(ErrorKind::Unimplemented, "streams are not known on this side")
}

fn too_deep(limit: u16) -> Error {
    Error::new(
        ErrorKind::Loop,
        format!("calls are nested more than {limit} deep"),
    )
}

fn too_many_hops() -> Error {
    Error::new(
        ErrorKind::Loop,
        format!("the call has crossed more than {MAX_HOPS} connections"),
    )
}
