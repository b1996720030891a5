//! What links do: carry messages and bodies, and break.

use farref_boxing::{Certainty, Error, ErrorKind};

use super::super::answers::Answer;
use super::super::stand_in::Line;
use super::oracle::{Checked, Violation, need};
use super::world::{End, World};
use crate::message::{Message, Return, Verdict};

impl World {
    /// Gives up bodies that are not sent any more, or not wanted any more.
    pub(super) fn move_lanes(&mut self) {
        for end in 0..self.ends.len() {
            let peer = self.ends[end].peer;
            let stopped = std::mem::take(&mut self.ends[end].wire.stopped);
            self.ends[peer].bodies.retain(|(lane, _)| !stopped.contains(lane));
            self.ends[peer].unwanted.extend(stopped);
            let End {
                wire,
                bodies,
                given_up,
                ..
            } = &mut self.ends[end];
            for lane in wire.reset.drain(..) {
                given_up.insert(lane);
                bodies
                    .iter_mut()
                    .filter(|(other, _)| *other == lane)
                    .for_each(|(_, body)| *body = None);
            }
        }
    }

    /// Writes a message of an end. Whether there was one.
    pub(super) fn transmit(&mut self, end: usize) -> bool {
        self.move_lanes();
        let Some(line) = self.ends[end].wire.queue.pop_front() else {
            return false;
        };
        self.ends[end].wire.written += 1;
        self.ends[end].flying.push_back(line);
        true
    }

    /// Receives a message of the peer's. Whether there was one.
    pub(super) fn receive(&mut self, end: usize) -> Checked<bool> {
        let peer = self.ends[end].peer;
        let flying = &mut self.ends[peer].flying;
        let overtakes = self.plan.overtaking
            && flying.len() > 1
            && flying[1].head.first() == Some(&0x06)
            && self.random.one_in(2);
        let Some(line) = flying.remove(usize::from(overtakes)) else {
            return Ok(false);
        };
        self.spy(end, &line)?;
        let End {
            exchange,
            wire,
            marks,
            received,
            ..
        } = &mut self.ends[end];
        *received += 1;
        let handled = exchange.handle_message(line.inbound(), marks, self.now, wire);
        handled.map_err(|breach| Violation("I1", format!("{breach}")))?;
        if let Ok(Message::Cancel { call, .. }) = Message::decode(&mut line.head.clone(), u32::MAX) {
            let is_over = exchange.answers.get(call).is_none_or(Answer::is_over);
            need(is_over, "I5", || {
                format!("call {call} of end {peer} goes on after its cancel")
            })?;
        }
        if let Some((lane, body)) = line.bulk {
            self.move_lanes();
            let from = &mut self.ends[peer];
            if !from.unwanted.contains(&lane) {
                let body = if from.given_up.contains(&lane) {
                    None
                } else {
                    Some(body)
                };
                from.bodies.push((lane, body));
            }
        }
        Ok(true)
    }

    /// Receives a body of the peer's. Whether there was one.
    pub(super) fn receive_body(&mut self, end: usize) -> bool {
        self.move_lanes();
        let peer = self.ends[end].peer;
        let Some(index) = self.random.index(self.ends[peer].bodies.len()) else {
            return false;
        };
        let (lane, body) = self.ends[peer].bodies.swap_remove(index);
        let End { exchange, wire, .. } = &mut self.ends[end];
        match body {
            Some(body) => exchange.handle_body(lane, body, wire),
            None => exchange.handle_reset(lane, wire),
        }
        true
    }

    /// Notes what a message means to the oracle.
    pub(super) fn spy(&mut self, end: usize, line: &Line) -> Checked {
        let mut rest = line.head.clone();
        match Message::decode(&mut rest, u32::MAX) {
            Ok(Message::Call(call)) => {
                let body = line.bulk.as_ref().map_or(&rest[..], |(_, body)| body);
                let number = u64::from_le_bytes(*body.first_chunk().expect("arguments begin with a number"));
                self.ends[end].arrived.insert(call.call, number as usize);
            }
            Ok(Message::Return(Return {
                call,
                verdict: Verdict::Fault { started: false },
                ..
            })) => {
                let peer = self.ends[end].peer;
                let call = self.ends[peer].arrived[&call];
                self.oracle.not_run(call, "a fault before its start")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells an end of references that were dropped. Whether there were any.
    pub(super) fn release(&mut self, end: usize, most: usize) -> bool {
        let End {
            exchange,
            wire,
            marks,
            ..
        } = &mut self.ends[end];
        let mut dropped = marks.dropped.lock().unwrap();
        let most = most.min(dropped.len());
        let now: Vec<_> = dropped.drain(..most).collect();
        drop(dropped);
        for (import, generation) in &now {
            exchange.release(*import, *generation);
        }
        exchange.flush(self.now, wire);
        !now.is_empty()
    }

    pub(super) fn tick(&mut self) {
        self.now += 1 + self.random.below(5);
        for End { exchange, wire, .. } in &mut self.ends {
            exchange.handle_timeout(self.now, wire);
        }
    }

    /// Loses a connection for good.
    pub(super) fn sever(&mut self, end: usize) {
        let pair = [end, self.ends[end].peer];
        let received = pair.map(|end| self.ends[self.ends[end].peer].received);
        let tells = self.random.one_in(2);
        for (end, received) in pair.into_iter().zip(received) {
            let error = Error::new(
                ErrorKind::Disconnected(Certainty::Unknown),
                "the connection was lost",
            );
            let End {
                exchange,
                wire,
                flying,
                bodies,
                severed,
                ..
            } = &mut self.ends[end];
            exchange.sever(&error, tells.then_some(received), wire);
            wire.closed = true;
            wire.queue.clear();
            flying.clear();
            bodies.clear();
            *severed = true;
        }
    }

    /// Loses a connection while a result waits for its flush, and uses that result at once if it is given out.
    pub(super) fn sever_flushing(&mut self, end: usize) -> Checked {
        let End {
            process, exchange, ..
        } = &self.ends[end];
        let (process, mut waiting) = (*process, exchange.flushes.values().copied().collect::<Vec<_>>());
        waiting.sort_unstable();
        self.sever(end);
        for number in waiting {
            let calls = &self.processes[process].calls;
            if let Some(index) = calls
                .iter()
                .position(|call| (call.end, call.number) == (end, number))
            {
                self.poll(process, index)?;
                self.call(process)?;
            }
        }
        Ok(())
    }
}
