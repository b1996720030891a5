//! Which of the lanes beside lane 0 goes next, and how much of it.

use farref_transport::Class;

use super::{Finish, Lane, Outgoing};
use crate::batch::Batch;
use crate::lanes::buffer::{SendBuffer, length, size};
use crate::link::StreamKey;

/// The lane whose turn it is, and what of it goes now.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) lane: u64,
    pub(crate) class: Class,
    /// Offset of the first byte.
    pub(crate) offset: u64,
    /// How many bytes; may be none at the end.
    pub(crate) len: usize,
    /// The lane ends behind them.
    pub(crate) end: bool,
    /// Nothing of the lane was sent on this carrier yet.
    pub(crate) first: bool,
    buffer: &'a mut SendBuffer,
}

impl Turn<'_> {
    /// Hands out the bytes.
    pub(crate) fn transmit(self, batch: &mut Batch, stream: StreamKey) {
        self.buffer.transmit(self.len, batch, stream, self.class);
    }
}

impl Outgoing {
    /// Lets one more lane that waits for a place have its turn.
    pub(super) fn unpark(&mut self) {
        while let Some(number) = self.parked.pop_front() {
            let Some(lane) = self.lanes.get_mut(&number) else {
                continue;
            };
            if lane.is_ready() {
                return self.schedule.add(lane.class, number);
            }
            lane.queued = false;
        }
    }

    /// Puts a lane where its turn can come, if it has anything to send.
    pub(super) fn enqueue(&mut self, number: u64) {
        let at_once = self.peer.map_or(0, |peer| peer.lanes);
        if let Some(lane) = self.lanes.get_mut(&number)
            && !lane.queued
            && lane.is_ready()
        {
            lane.queued = true;
            if lane.active || self.active < at_once {
                self.schedule.add(lane.class, number);
            } else {
                self.parked.push_back(number);
            }
        }
    }

    pub(super) fn requeue(&mut self) {
        self.schedule.clear();
        self.parked.clear();
        for lane in self.lanes.values_mut() {
            lane.queued = false;
        }
        // lanes under way first, for they need no further place
        let mut numbers: Vec<(bool, u64)> = self
            .lanes
            .iter()
            .map(|(number, lane)| (!lane.active, *number))
            .collect();
        numbers.sort_unstable();
        for (_, number) in numbers {
            self.enqueue(number);
        }
    }

    /// Whether another fragment of lane 0 may be sent.
    #[inline]
    pub(crate) fn may_send_messages(&self) -> bool {
        self.messages.unsent() != 0 && (!self.retain || self.kept() < self.limits.retained)
    }

    /// Whether some other lane has something to send, and credit for it.
    pub(crate) fn has_turns(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// Whether some other lane may send.
    pub(crate) fn may_send_lanes(&self) -> bool {
        self.has_turns() && (!self.retain || self.kept() < self.limits.retained_lanes)
    }

    /// The next fragment of the lanes beside lane 0.
    pub(crate) fn next_turn(&mut self, fragment: usize) -> Option<Turn<'_>> {
        let peer = self.peer?;
        let number = loop {
            if !self.may_send_lanes() {
                return None;
            }
            let number = self.schedule.take(fragment)?;
            let Some(lane) = self.lanes.get_mut(&number) else {
                self.unpark();
                continue;
            };
            if !lane.is_ready() {
                lane.queued = false;
                self.unpark();
            } else if lane.active {
                break number;
            } else if self.active < peer.lanes {
                lane.active = true;
                self.active = self.active.saturating_add(1);
                break number;
            } else {
                self.parked.push_back(number);
            }
        };
        let lane = self.lanes.get_mut(&number)?;
        let offset = lane.buffer.sent();
        let unsent = lane.buffer.unsent();
        let len = length(fragment)
            .min(unsent)
            .min(lane.credit.saturating_sub(offset));
        let end = len == unsent && lane.finish == Finish::End;
        let more = len < unsent && offset.saturating_add(len) < lane.credit;
        lane.finish_sent |= end;
        lane.queued = more;
        let first = !std::mem::replace(&mut lane.begun, true);
        self.unsent = self.unsent.saturating_sub(len);
        if self.retain {
            self.kept = self.kept.saturating_add(len);
        }
        self.schedule.charge(size(len));
        if more {
            self.schedule.add(lane.class, number);
        }
        let (class, len) = (lane.class, size(len));
        Some(Turn {
            lane: number,
            class,
            offset,
            len,
            end,
            first,
            buffer: &mut lane.buffer,
        })
    }
}

impl Lane {
    /// Whether it has something to send, and credit for it.
    fn is_ready(&self) -> bool {
        match self.finish {
            Finish::Reset(_) => false,
            Finish::End if self.buffer.unsent() == 0 => !self.finish_sent,
            _ => self.buffer.unsent() != 0 && self.buffer.sent() < self.credit,
        }
    }
}
