//! What programs do: call, pipe, await, nest, cancel, drop, answer.

use std::task::Poll;

use farref_boxing::{Error, ErrorKind};

use super::super::stand_in::{Numbers, OP};
use super::oracle::{Checked, Passed, Violation, need};
use super::world::{End, Held, Pending, Running, World, body, held, outgoing, result};
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Chain, Outcome, Outgoing, Received, Refs, Reply, Target,
};

impl World {
    pub(super) fn make_object(&mut self, process: usize) {
        let thing = self.thing();
        let lineage = self.oracle.lineage(Some(thing.number));
        self.processes[process].pool.push((Held::Near(thing), lineage));
    }

    pub(super) fn drop_reference(&mut self, process: usize) {
        let pool = &mut self.processes[process].pool;
        if let Some(index) = self.random.index(pool.len()) {
            drop(pool.swap_remove(index));
        }
    }

    /// Calls something that is held.
    pub(super) fn call(&mut self, process: usize) -> Checked {
        let Some((held, lineage)) = self.pick(process) else {
            return Ok(());
        };
        let call = self.oracle.start(lineage);
        match held {
            Held::Near(thing) => {
                self.oracle.deliver(call, thing.number)?;
                self.oracle.run(call)
            }
            Held::Far(mark) => {
                self.start(
                    process,
                    mark.side,
                    Target::Import(mark.imported.id),
                    call,
                    None,
                    None,
                )?;
                Ok(())
            }
        }
    }

    /// A method that runs calls back, or on, and waits for it.
    pub(super) fn nest(&mut self, process: usize) -> Checked {
        let Some(index) = self.pick_done(process) else {
            return Ok(());
        };
        let Running {
            end,
            answer,
            chain,
            call,
            ..
        } = self.processes[process].running[index];
        let Some((Held::Far(mark), lineage)) = self.pick(process) else {
            return Ok(());
        };
        let chain = chain.unwrap_or(Chain::new(call as u128, 0));
        if chain.depth >= 12 {
            return Ok(());
        }
        let chain = Chain::new(chain.id(), chain.depth + 1);
        // A nested call may overtake calls that wait for limits: then it is in no order with them.
        let lineage = if self.plan.tight {
            self.oracle.lineage(self.oracle.lineages[lineage].object)
        } else {
            lineage
        };
        let call = self.oracle.start(lineage);
        let target = Target::Import(mark.imported.id);
        if self.start(process, mark.side, target, call, Some(chain), Some((end, answer)))? {
            self.processes[process].running[index].waits = true;
            let made = self.processes[process].calls.len() - 1;
            self.poll(process, made)?;
        }
        Ok(())
    }

    /// Calls what a call will return.
    pub(super) fn pipe(&mut self, process: usize) -> Checked {
        let pipes: Vec<_> = self.processes[process]
            .calls
            .iter()
            .filter(|call| call.has_pipes)
            .collect();
        let Some(index) = self.random.index(pipes.len()) else {
            return Ok(());
        };
        // Of schedules about references that come home: mostly several calls on one of them.
        let homing = self.plan.homing && self.random.one_in(2);
        let index = if homing { pipes.len() - 1 } else { index };
        let Pending {
            end,
            number,
            call,
            chain,
            ..
        } = *pipes[index];
        let slot = if homing { 0 } else { self.random.below(2) as usize };
        let lineage = self.oracle.calls[call].fields[slot];
        let call = self.oracle.start(lineage);
        // In the chain of what it is made on.
        self.start(
            process,
            end,
            Target::Answer {
                call: number,
                slot: slot as u32,
            },
            call,
            chain,
            None,
        )?;
        Ok(())
    }

    /// Starts a call. Whether it could be made.
    pub(super) fn start(
        &mut self,
        process: usize,
        end: usize,
        target: Target,
        call: usize,
        chain: Option<Chain>,
        caller: Option<(usize, u64)>,
    ) -> Checked<bool> {
        let mut refs = Refs::new();
        for slot in 0..self.random.below(3) as usize {
            if let Some((held, lineage)) = self.pick(process) {
                self.oracle.pass(call, false, slot, lineage);
                let lent = self.random.one_in(3);
                refs.push(outgoing(end, &held, lent));
            } else {
                refs.push(Outgoing::Null);
            }
        }
        let options = CallOptions {
            no_pipeline: self.random.one_in(4),
            chain,
            deadline: self
                .random
                .one_in(12)
                .then(|| self.now + 1 + self.random.below(30)),
            ..CallOptions::default()
        };
        let body = body(call, self.random.one_in(6));
        match self.submit(end, target, &options, &body, refs) {
            Ok(number) => {
                let has_pipes = !options.no_pipeline;
                self.processes[process].calls.push(Pending {
                    end,
                    number,
                    call,
                    has_pipes,
                    caller,
                    chain,
                });
                Ok(true)
            }
            Err(error) => {
                // What it is made on may be lost, or past its deadline.
                let may_fail = self.ends[end].severed || error.kind() == ErrorKind::Broken;
                need(may_fail, "I5", || format!("a call cannot be made: {error:?}"))?;
                self.oracle.not_run(call, "an error at once")?;
                Ok(false)
            }
        }
    }

    pub(super) fn submit(
        &mut self,
        end: usize,
        target: Target,
        options: &CallOptions,
        body: &[u8],
        refs: Refs<Outgoing<Numbers>>,
    ) -> Result<u64, Error> {
        let start = CallStart {
            target,
            op: &OP,
            options,
            body: BodyRef::Slice(body),
            refs,
            waiter: &mut None,
        };
        let End { exchange, wire, .. } = &mut self.ends[end];
        exchange.call(start, self.now, wire)
    }

    /// Awaits a call.
    pub(super) fn await_call(&mut self, process: usize) -> Checked {
        match self.random.index(self.processes[process].calls.len()) {
            Some(index) => self.poll(process, index),
            None => Ok(()),
        }
    }

    pub(super) fn poll(&mut self, process: usize, index: usize) -> Checked {
        let Pending {
            end,
            number,
            call,
            caller,
            chain,
            ..
        } = self.processes[process].calls[index];
        let ready = self.ends[end].exchange.is_ready(number);
        let Poll::Ready(outcome) = self.poll_outcome(end, number) else {
            return need(!ready, "I5", || {
                format!("call {call} is ready and has no outcome")
            });
        };
        need(ready, "I5", || {
            format!("call {call} has an outcome and was not ready")
        })?;
        self.processes[process].calls.swap_remove(index);
        self.go_on(process, caller);
        self.finish(process, call, chain.is_some(), outcome)
    }

    /// A method need not wait any more.
    pub(super) fn go_on(&mut self, process: usize, caller: Option<(usize, u64)>) {
        let Some((end, answer)) = caller else { return };
        let mut running = self.processes[process].running.iter_mut();
        if let Some(run) = running.find(|run| run.end == end && run.answer == answer) {
            run.waits = false;
        }
    }

    pub(super) fn poll_outcome(&mut self, end: usize, number: u64) -> Poll<Outcome<Numbers>> {
        let End { exchange, wire, .. } = &mut self.ends[end];
        exchange.poll_outcome(number, wire, &mut |_| number)
    }

    pub(super) fn finish(
        &mut self,
        process: usize,
        call: usize,
        nested: bool,
        outcome: Outcome<Numbers>,
    ) -> Checked {
        match outcome {
            Outcome::Error(error) => self.oracle.failed(call, &error),
            Outcome::Value { body, refs, .. } => {
                need(body[..] == result(call)[..], "I5", || {
                    format!("call {call} has the result of another")
                })?;
                self.oracle.succeeded(call)?;
                if nested && self.plan.tight {
                    // What was called on the result may wait for limits, and be overtaken by calls less deep.
                    let object = |slot| Some(self.oracle.passed(call, true, slot)?.object);
                    let objects = [object(0), object(1)];
                    self.oracle.calls[call].fields = objects.map(|object| self.oracle.lineage(object));
                }
                self.keep(process, call, true, refs)
            }
        }
    }

    /// Puts the references of a message into the pool.
    pub(super) fn keep(
        &mut self,
        process: usize,
        call: usize,
        returns: bool,
        refs: Refs<Received<Numbers>>,
    ) -> Checked {
        for (slot, received) in refs.into_iter().enumerate() {
            let Some(held) = held(received)? else { continue };
            let Some(Passed { after, object }) = self.oracle.passed(call, returns, slot).cloned() else {
                return Err(Violation(
                    "I7",
                    format!("call {call} brings a reference in slot {slot} from nowhere"),
                ));
            };
            if let Held::Near(thing) = &held {
                need(thing.number == object, "I7", || {
                    format!("object {object} comes home as {}", thing.number)
                })?;
            }
            let lineage = if returns {
                self.oracle.calls[call].fields[slot]
            } else {
                self.oracle.lineage(Some(object))
            };
            let of = &mut self.oracle.lineages[lineage];
            let known = *of.object.get_or_insert(object);
            need(known == object, "I7", || {
                format!("slot {slot} of call {call} is {object} and was {known}")
            })?;
            of.after.extend(after);
            self.processes[process].pool.push((held, lineage));
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, process: usize) {
        let calls = &self.processes[process].calls;
        let waits = |call: &Pending| {
            self.ends[call.end]
                .exchange
                .flushes
                .values()
                .any(|of| *of == call.number)
        };
        let chosen = match calls.iter().position(waits) {
            Some(flushing) if self.random.one_in(3) => Some(flushing),
            _ => self.random.index(calls.len()),
        };
        if let Some(index) = chosen {
            let Pending {
                end, number, caller, ..
            } = self.processes[process].calls.swap_remove(index);
            self.drop_call(end, number);
            self.go_on(process, caller);
        }
    }

    pub(super) fn drop_call(&mut self, end: usize, number: u64) {
        let End { exchange, wire, .. } = &mut self.ends[end];
        exchange.drop_call(number, CancelReason::Dropped, wire);
    }

    /// A method that runs comes to its end.
    pub(super) fn reply(&mut self, process: usize) -> Checked {
        let Some(index) = self.pick_done(process) else {
            return Ok(());
        };
        let Running {
            end, answer, call, ..
        } = self.processes[process].running.swap_remove(index);
        if self.random.one_in(10) {
            self.answer_error(end, answer, ErrorKind::Failed.into(), true);
            return Ok(());
        }
        let mut refs = Refs::new();
        for slot in 0..2 {
            let picked = if self.random.one_in(4) {
                None
            } else {
                self.pick_result(process, end)
            };
            let Some((held, lineage)) = picked else {
                refs.push(Outgoing::Null);
                continue;
            };
            self.oracle.pass(call, true, slot, lineage);
            refs.push(outgoing(end, &held, false));
        }
        let body = result(call);
        self.answer(end, answer, &body, refs);
        Ok(())
    }

    pub(super) fn answer(&mut self, end: usize, answer: u64, body: &[u8], refs: Refs<Outgoing<Numbers>>) {
        let reply = Reply::Value {
            failure: None,
            shape: 0,
            body: BodyRef::Slice(body),
            refs,
        };
        let End { exchange, wire, .. } = &mut self.ends[end];
        exchange.answer(answer, reply, wire);
    }

    pub(super) fn answer_error(&mut self, end: usize, answer: u64, error: Error, started: bool) {
        let End { exchange, wire, .. } = &mut self.ends[end];
        exchange.answer(answer, Reply::Error { error, started }, wire);
    }

    pub(super) fn pick_done(&mut self, process: usize) -> Option<usize> {
        let running = &self.processes[process].running;
        let done: Vec<_> = (0..running.len())
            .filter(|index| running[*index].is_done())
            .collect();
        self.random.index(done.len()).map(|index| done[index])
    }

    pub(super) fn pick(&mut self, process: usize) -> Option<(Held, usize)> {
        let pool = &self.processes[process].pool;
        if self.plan.homing && self.random.one_in(2) {
            return pool.last().cloned();
        }
        let index = self.random.index(pool.len())?;
        Some(pool[index].clone())
    }

    /// Something to return over a connection: of schedules about references that come home, mostly one.
    pub(super) fn pick_result(&mut self, process: usize, end: usize) -> Option<(Held, usize)> {
        let pool = &self.processes[process].pool;
        let is_home = |(held, _): &&(Held, usize)| matches!(held, Held::Far(mark) if mark.side == end);
        match pool.iter().rev().find(is_home) {
            Some(home) if self.plan.homing && !self.random.one_in(4) => Some(home.clone()),
            _ => self.pick(process),
        }
    }
}
