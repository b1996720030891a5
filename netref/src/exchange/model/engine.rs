//! What the engine does: hands events on in order, passes calls on, and their outcomes back.

use std::sync::Arc;
use std::task::Poll;

use farref_boxing::ErrorKind;

use super::super::MAX_HOPS;
use super::super::stand_in::{Mark, Numbers};
use super::oracle::{Checked, Violation, need};
use super::world::{End, Forwarded, Pending, Running, World, body, held, outgoing};
use crate::protocol::{
    CallOptions, Chain, Event, Incoming, IncomingTarget, Outcome, Outgoing, Refs, Request, Target,
};

impl World {
    /// Handles one event of an end. Whether there was one.
    pub(super) fn handle_event(&mut self, end: usize) -> Checked<bool> {
        let End {
            exchange,
            wire,
            process,
            ..
        } = &mut self.ends[end];
        let process = *process;
        let Some(event) = exchange.poll_event(wire) else {
            return Ok(false);
        };
        match event {
            Event::Opened(root) => {
                let Some(root) = held(root)? else { return Ok(true) };
                let lineage = self.oracle.lineage(Some(self.ends[end].peer + 1));
                self.processes[process].pool.push((root, lineage));
            }
            Event::Call(incoming) => self.incoming(end, incoming)?,
            Event::Body {
                answer, body: came, ..
            } => {
                let call = self.ends[end].arrived[&answer];
                need(came == body(call, came.len() > 64), "I5", || {
                    format!("call {call} has the arguments of another")
                })?;
                let mut running = self.processes[process].running.iter_mut();
                let Some(run) = running.find(|run| run.end == end && run.answer == answer) else {
                    let what = format!("arguments come for call {call}, which is over");
                    return Err(Violation("I5", what));
                };
                run.complete = true;
                self.oracle.run(call)?;
            }
            Event::Cancelled { answer, .. } => self.cancelled(end, answer),
            Event::Ready(number) => {
                let calls = &self.processes[process].calls;
                if let Some(index) = calls
                    .iter()
                    .position(|call| call.end == end && call.number == number)
                {
                    self.poll(process, index)?;
                } else if let Some(index) = self
                    .forwarded
                    .iter()
                    .position(|call| call.end == end && call.number == number)
                {
                    self.pass_back(index)?;
                }
            }
            Event::Unexported(thing) => drop(thing),
            Event::ShapeCame(_)
            | Event::ShapeWanted(_)
            | Event::Pong(_)
            | Event::Crowded { .. }
            | Event::Draining
            | Event::Resumed
            | Event::Closed(_) => {}
        }
        Ok(true)
    }

    pub(super) fn incoming(&mut self, end: usize, incoming: Incoming<Numbers>) -> Checked {
        let call = self.ends[end].arrived[&incoming.answer];
        if let Some(came) = &incoming.request.body {
            let is_bulk = came.len() > 64;
            need(*came == body(call, is_bulk), "I5", || {
                format!("call {call} has the arguments of another")
            })?;
        }
        match &incoming.target {
            IncomingTarget::Object { object, .. } if object.far.is_none() => {
                self.oracle.deliver(call, object.number)?;
                let complete = incoming.request.body.is_some();
                if complete {
                    self.oracle.run(call)?;
                }
                let process = self.ends[end].process;
                let Incoming { answer, request, .. } = incoming;
                let Request { refs, options, .. } = *request;
                let (chain, waits) = (options.chain, false);
                self.keep(process, call, false, refs)?;
                self.processes[process].running.push(Running {
                    end,
                    answer,
                    call,
                    complete,
                    chain,
                    waits,
                });
                Ok(())
            }
            IncomingTarget::Object { object, .. } => {
                let mark = object.far.clone();
                mark.map_or(Ok(()), |mark| self.forward(end, &mark, incoming))
            }
            IncomingTarget::Import(mark) => {
                let mark = Arc::clone(mark);
                self.forward(end, &mark, incoming)
            }
            IncomingTarget::Broken(_) => Err(Violation("I5", "a broken call comes out".into())),
        }
    }

    /// Passes a call on.
    pub(super) fn forward(&mut self, end: usize, mark: &Arc<Mark>, incoming: Incoming<Numbers>) -> Checked {
        let call = self.ends[end].arrived[&incoming.answer];
        let Incoming { answer, request, .. } = incoming;
        let Request {
            options, body, refs, ..
        } = *request;
        if options.hops >= MAX_HOPS {
            self.answer_error(end, answer, ErrorKind::Loop.into(), false);
            return Ok(());
        }
        let mut passed = Refs::new();
        for received in refs {
            passed.push(match held(received)? {
                Some(held) => outgoing(mark.side, &held, false),
                None => Outgoing::Null,
            });
        }
        // Whoever waits for the call waits for this one: it is nested in it.
        let chain = options.chain.unwrap_or(Chain::new(call as u128, 0));
        let options = CallOptions {
            hops: options.hops + 1,
            chain: Some(Chain::new(chain.id(), chain.depth + 1)),
            no_pipeline: false,
            ..options
        };
        let target = Target::Import(mark.imported.id);
        // Who passes a call on gets it whole.
        let Some(body) = body else {
            return Err(Violation(
                "I5",
                format!("call {call} is to be passed on in pieces"),
            ));
        };
        match self.submit(mark.side, target, &options, &body, passed) {
            Ok(number) => {
                let back = (end, answer);
                let hold = Arc::clone(mark);
                self.forwarded.push(Forwarded {
                    end: mark.side,
                    number,
                    back,
                    call,
                    _hold: hold,
                });
                self.pass_back(self.forwarded.len() - 1)
            }
            Err(error) => {
                self.answer_error(end, answer, error, false);
                Ok(())
            }
        }
    }

    /// Passes an outcome back, if it is there.
    pub(super) fn pass_back(&mut self, index: usize) -> Checked {
        let Forwarded {
            end,
            number,
            back,
            call,
            ..
        } = self.forwarded[index];
        let Poll::Ready(outcome) = self.poll_outcome(end, number) else {
            return Ok(());
        };
        let done = self.forwarded.swap_remove(index);
        match outcome {
            Outcome::Error(error) => self.answer_error(back.0, back.1, error, true),
            Outcome::Value { body, refs, .. } => {
                self.oracle.succeeded(call)?;
                let mut passed = Refs::new();
                for received in refs {
                    passed.push(match held(received)? {
                        Some(held) => outgoing(back.0, &held, false),
                        None => Outgoing::Null,
                    });
                }
                self.answer(back.0, back.1, &body, passed);
            }
        }
        drop(done);
        Ok(())
    }

    /// A call of the peer's was given up: its method is dropped, or the call that it was passed on as.
    pub(super) fn cancelled(&mut self, end: usize, answer: u64) {
        let process = self.ends[end].process;
        let running = &mut self.processes[process].running;
        if let Some(index) = running
            .iter()
            .position(|run| run.end == end && run.answer == answer)
        {
            running.swap_remove(index);
            let calls = &mut self.processes[process].calls;
            if let Some(index) = calls.iter().position(|call| call.caller == Some((end, answer))) {
                let Pending { end, number, .. } = calls.swap_remove(index);
                self.drop_call(end, number);
            }
        }
        let passed_on = self.forwarded.iter().position(|call| call.back == (end, answer));
        if let Some(index) = passed_on {
            let Forwarded { end, number, .. } = self.forwarded.swap_remove(index);
            self.drop_call(end, number);
        }
    }
}
