//! What goes to the peer: messages on lane 0, bodies and streams on lanes of their own (PROTOCOL.md § 3.3 to 3.5).
//!
//! Knows the peer's limits and credits, and which lane may send its next fragment. Forms frames of nothing.

mod turns;

use std::collections::BTreeMap;

use bytes::Bytes;
use farref_transport::Class;

use crate::error::{Breach, LinkError, Misuse};
use crate::event::LinkEvent;
use crate::lanes::buffer::{SendBuffer, length};
use crate::lanes::incoming::Events;
use crate::lanes::queue::Queue;
use crate::lanes::reader::put_prefix;
use crate::lanes::schedule::Schedule;
use crate::limits::{BULK_FROM, Limits, MIN_NAMED};
use crate::link::{Body, LaneId};
use crate::preface::Declared;
use crate::session::{Offsets, Progress};

pub(crate) use turns::Turn;

/// The lanes of ours.
///
/// # Invariant
///
/// `lanes` holds every lane that was opened and that the peer has not called done; `active` of them have sent a byte
/// or an end. A lane that has something to send, and credit for it, is in `schedule` or in `parked`, and its `queued`
/// is set; no other lane's is. `kept` and `unsent` are the sums over `lanes`.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) messages: SendBuffer,
    lanes: BTreeMap<u64, Lane>,
    next: u64,
    active: u32,
    schedule: Schedule,
    /// Lanes that wait until fewer are under way.
    parked: Queue<u64>,
    kept: u64,
    unsent: u64,
    /// Lanes whose reset is to be told.
    pub(crate) resets: Queue<u64>,
    retain: bool,
    limits: Bounds,
    peer: Option<Declared>,
    /// The longest message submitted before the peer was known.
    early: u64,
}

/// Bounds of our own.
#[derive(Debug)]
struct Bounds {
    fragment: usize,
    message: u64,
    backlog: u64,
    /// Most bytes sent and kept.
    retained: u64,
    /// The same for lanes beside lane 0; and unsent messages from which on no new calls should be started.
    retained_lanes: u64,
}

#[derive(Debug)]
struct Lane {
    class: Class,
    buffer: SendBuffer,
    credit: u64,
    finish: Finish,
    /// The end or the reset was sent on this carrier.
    finish_sent: bool,
    active: bool,
    queued: bool,
    /// Something of it was sent on this carrier.
    begun: bool,
    /// It carries a body: nobody writes to it.
    body: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    Open,
    End,
    Reset(u64),
}

impl Outgoing {
    pub(crate) fn new(limits: &Limits, retain: bool) -> Self {
        Self {
            messages: SendBuffer::new(retain),
            lanes: BTreeMap::new(),
            next: 1,
            active: 0,
            schedule: Schedule::default(),
            parked: Queue::default(),
            kept: 0,
            unsent: 0,
            resets: Queue::default(),
            retain,
            limits: Bounds {
                fragment: limits.fragment,
                message: limits.message,
                backlog: limits.backlog,
                retained: limits.retained,
                retained_lanes: limits.retained.saturating_sub(limits.reserve),
            },
            peer: None,
            early: 0,
        }
    }

    /// The peer is known: its limits hold from here on.
    ///
    /// # Errors
    ///
    /// The longest message so far, and what the peer accepts, if that is less.
    pub(crate) fn open(&mut self, peer: Declared) -> Result<(), (u64, u64)> {
        if self.early > peer.message {
            return Err((self.early, peer.message));
        }
        self.peer = Some(peer);
        self.limits.fragment = self.limits.fragment.min(peer.fragment);
        for lane in self.lanes.values_mut() {
            lane.credit = peer.first_credit;
        }
        self.requeue();
        Ok(())
    }

    /// The carrier takes so many bytes in one frame: what is longer goes on a lane of its own, also if the one before took more.
    pub(crate) fn suit(&mut self, fragment: usize) {
        self.limits.fragment = fragment;
    }

    /// There will be no session: nothing is kept.
    pub(crate) fn stop_retaining(&mut self) {
        self.retain = false;
        self.messages.stop_retaining();
        for lane in self.lanes.values_mut() {
            lane.buffer.stop_retaining();
        }
        self.kept = 0;
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        self.messages.rest();
        self.schedule.rest();
        self.parked.rest();
        self.resets.rest();
    }

    /// Queues a message. Its body goes on a lane of its own if both together are longer than a fragment.
    #[inline]
    pub(crate) fn submit(&mut self, head: &[u8], body: Body<'_>) -> Result<Option<LaneId>, LinkError> {
        let total = head.len().saturating_add(body.len());
        if total > self.limits.fragment || self.peer.is_none() {
            return self.submit_any(head, body, total);
        }
        self.check_backlog(total)?;
        self.put_message(head, body, total);
        Ok(None)
    }

    fn put_message(&mut self, head: &[u8], body: Body<'_>, total: usize) {
        self.messages.append_with(|tail| {
            put_prefix(tail, total, None);
            tail.extend_from_slice(head);
            if let Body::Slice(bytes) = body {
                tail.extend_from_slice(bytes);
            }
        });
        if let Body::Rope(pieces) = body {
            self.messages.push_all(pieces);
        }
    }

    fn submit_any(&mut self, head: &[u8], body: Body<'_>, total: usize) -> Result<Option<LaneId>, LinkError> {
        let len = length(total);
        let limit = self.message_limit();
        if len > limit {
            return Err(Misuse::MessageTooLong { len, limit }.into());
        }
        self.check_backlog(total)?;
        let lane = if total <= self.limits.fragment || body.is_empty() {
            self.put_message(head, body, total);
            None
        } else {
            Some(self.put_bulk(head, body)?)
        };
        if self.peer.is_none() {
            self.early = self.early.max(len);
        }
        Ok(lane)
    }

    fn put_bulk(&mut self, head: &[u8], body: Body<'_>) -> Result<LaneId, LinkError> {
        let len = length(body.len());
        let first_credit = self.peer.map_or(0, |peer| peer.first_credit);
        let class = if len > first_credit.min(BULK_FROM) {
            Class::Bulk
        } else {
            Class::Normal
        };
        let number = self.new_lane(class, true)?;
        self.messages.append_with(|tail| {
            put_prefix(tail, head.len(), Some((number, len)));
            tail.extend_from_slice(head);
        });
        if let Some(lane) = self.lanes.get_mut(&number) {
            match body {
                Body::Slice(bytes) => lane.buffer.push(Bytes::copy_from_slice(bytes)),
                Body::Rope(pieces) => lane.buffer.push_all(pieces),
            }
            lane.finish = Finish::End;
        }
        self.unsent = self.unsent.saturating_add(len);
        self.enqueue(number);
        Ok(LaneId::new(number))
    }

    #[inline]
    fn check_backlog(&self, more: usize) -> Result<(), LinkError> {
        if self.backlog().saturating_add(length(more)) > self.limits.backlog {
            return Err(Misuse::Backlog.into());
        }
        Ok(())
    }

    /// The longest message that may be submitted: one that is more than is kept for the peer would wait for ever.
    pub(crate) fn message_limit(&self) -> u64 {
        let accepted = self.peer.map_or(self.limits.message, |peer| peer.message);
        accepted.min(self.limits.backlog)
    }

    /// Bytes kept for the peer, sent or not.
    #[inline]
    fn backlog(&self) -> u64 {
        let messages = self.messages.end().saturating_sub(self.messages.start());
        messages.saturating_add(self.kept).saturating_add(self.unsent)
    }

    /// Whether no new calls should be started.
    pub(crate) fn is_congested(&self) -> bool {
        let messages = self.messages.end().saturating_sub(self.messages.start());
        messages > self.limits.retained_lanes || self.backlog() > self.limits.backlog >> 1
    }

    /// Drops all bytes: none is sent any more, and none again.
    pub(crate) fn discard_all(&mut self) {
        self.messages.discard();
        for lane in self.lanes.values_mut() {
            lane.buffer.discard();
        }
        (self.kept, self.unsent) = (0, 0);
    }

    /// Bytes sent and kept.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.saturating_add(self.messages.kept())
    }

    /// Bytes not sent yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.saturating_add(self.messages.unsent())
    }

    /// Lanes that are not done.
    pub(crate) fn open_lanes(&self) -> usize {
        self.lanes.len()
    }

    fn new_lane(&mut self, class: Class, body: bool) -> Result<u64, Misuse> {
        let named = self.peer.map_or(MIN_NAMED, |peer| peer.named);
        if length(self.lanes.len()) >= u64::from(named) {
            return Err(Misuse::Lanes);
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        let lane = Lane {
            class,
            buffer: SendBuffer::new(self.retain),
            credit: self.peer.map_or(0, |peer| peer.first_credit),
            finish: Finish::Open,
            finish_sent: false,
            active: false,
            queued: false,
            begun: false,
            body,
        };
        self.lanes.insert(number, lane);
        Ok(number)
    }

    /// Opens a stream lane.
    pub(crate) fn open_lane(&mut self, class: Class) -> Result<LaneId, LinkError> {
        Ok(LaneId::new(self.new_lane(class, false)?))
    }

    /// Queues bytes on a stream lane.
    pub(crate) fn write(&mut self, lane: LaneId, bytes: Bytes) -> Result<(), LinkError> {
        self.check_backlog(bytes.len())?;
        match self.lanes.get_mut(&lane.number()) {
            Some(open) if open.finish == Finish::Open => {
                self.unsent = self.unsent.saturating_add(length(bytes.len()));
                open.buffer.push(bytes);
                self.enqueue(lane.number());
                Ok(())
            }
            _ => Err(Misuse::UnknownLane(lane).into()),
        }
    }

    /// How many more bytes the credit of a stream lane covers.
    pub(crate) fn room(&self, lane: LaneId) -> u64 {
        match self.lanes.get(&lane.number()) {
            Some(open) if open.finish == Finish::Open => open.credit.saturating_sub(open.buffer.end()),
            _ => 0,
        }
    }

    /// Ends a stream lane.
    pub(crate) fn end(&mut self, lane: LaneId) {
        if let Some(open) = self.lanes.get_mut(&lane.number())
            && open.finish == Finish::Open
        {
            open.finish = Finish::End;
            self.enqueue(lane.number());
        }
    }

    /// Gives up a lane, unless all of it was sent.
    pub(crate) fn reset(&mut self, lane: LaneId, code: u64) {
        if let Some(open) = self.lanes.get_mut(&lane.number())
            && !open.finish_sent
            && !matches!(open.finish, Finish::Reset(_))
        {
            open.finish = Finish::Reset(code);
            self.discard(lane.number());
            self.resets.push_back(lane.number());
        }
    }

    /// Drops the bytes of a lane.
    fn discard(&mut self, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number) {
            self.kept = self.kept.saturating_sub(lane.buffer.kept());
            self.unsent = self.unsent.saturating_sub(lane.buffer.unsent());
            lane.buffer.discard();
        }
    }

    /// The peer does not want a lane.
    pub(crate) fn stopped(&mut self, number: u64, code: u64, events: &mut Events) -> Result<(), Breach> {
        let Some(lane) = self.known(number)? else {
            return Ok(());
        };
        if matches!(lane.finish, Finish::Reset(_)) {
            return Ok(());
        }
        // an end that is under way is enough for the peer; should it get lost, the reset is sent instead
        let told = lane.finish_sent;
        lane.finish = Finish::Reset(code);
        self.discard(number);
        if !told {
            self.resets.push_back(number);
        }
        events.push_back(LinkEvent::LaneStopped {
            lane: LaneId::new(number),
            code,
        });
        Ok(())
    }

    /// The reset that is to be told next: lane, class, code, and whether anything of it was sent on this carrier.
    pub(crate) fn next_reset(&mut self) -> Option<(u64, Class, u64, bool)> {
        while let Some(number) = self.resets.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&number)
                && let Finish::Reset(code) = lane.finish
                && !lane.finish_sent
            {
                lane.finish_sent = true;
                return Some((number, lane.class, code, lane.begun));
            }
        }
        None
    }

    /// A lane of ours that is not done; `None` for one that is.
    fn known(&mut self, number: u64) -> Result<Option<&mut Lane>, Breach> {
        if number == 0 || number >= self.next {
            return Err(Breach::UnknownLane {
                lane: LaneId::new(number),
            });
        }
        Ok(self.lanes.get_mut(&number))
    }

    /// The peer grants more.
    pub(crate) fn credit(&mut self, number: u64, upto: u64, events: &mut Events) -> Result<(), Breach> {
        if let Some(lane) = self.known(number)?
            && upto > lane.credit
        {
            lane.credit = upto;
            if !lane.body {
                events.push_back(LinkEvent::LaneCredit {
                    lane: LaneId::new(number),
                    upto,
                });
            }
            self.enqueue(number);
        }
        Ok(())
    }

    /// The peer has received a lane up to here.
    pub(crate) fn acknowledged(&mut self, number: u64, upto: u64) -> Result<(), Breach> {
        let beyond = Breach::Offset {
            lane: LaneId::new(number),
            offset: upto,
        };
        if number == 0 {
            if upto > self.messages.sent() {
                return Err(beyond);
            }
            self.messages.acknowledge(upto);
            return Ok(());
        }
        let Some(lane) = self.known(number)? else {
            return Ok(());
        };
        if upto > lane.buffer.sent() {
            return Err(beyond);
        }
        let before = lane.buffer.kept();
        lane.buffer.acknowledge(upto);
        let freed = before.saturating_sub(lane.buffer.kept());
        self.kept = self.kept.saturating_sub(freed);
        Ok(())
    }

    /// The peer is done with a lane.
    pub(crate) fn done(&mut self, number: u64) -> Result<(), Breach> {
        let Some(lane) = self.known(number)? else {
            return Ok(());
        };
        if !lane.finish_sent {
            return Err(Breach::UnknownLane {
                lane: LaneId::new(number),
            });
        }
        self.remove(number);
        Ok(())
    }

    fn remove(&mut self, number: u64) {
        self.discard(number);
        if self.lanes.remove(&number).is_some_and(|lane| lane.active) {
            self.active = self.active.saturating_sub(1);
            self.unpark();
        }
    }

    /// Whether everything was sent.
    pub(crate) fn is_drained(&self) -> bool {
        let drained =
            |lane: &Lane| lane.finish_sent || (lane.finish == Finish::Open && lane.buffer.unsent() == 0);
        self.messages.unsent() == 0 && self.lanes.values().all(drained)
    }

    /// Whether what the peer says it has received can be gone on from.
    pub(crate) fn admits(&self, offsets: &Offsets) -> bool {
        let covers = |buffer: &SendBuffer, at| (buffer.start()..=buffer.sent()).contains(&at);
        covers(&self.messages, offsets.messages)
            && offsets.highest < self.next
            && self
                .lanes
                .iter()
                .all(|(number, lane)| match (offsets.lane(*number), lane.finish) {
                    (Progress::Done, finish) => lane.finish_sent && finish != Finish::Open,
                    (Progress::At(_), Finish::Reset(_)) => true,
                    (Progress::At(at), _) => covers(&lane.buffer, at),
                })
    }

    /// Goes on from what the peer has received, which [`admits`](Self::admits) has approved, on a new carrier.
    pub(crate) fn rewind(&mut self, offsets: &Offsets) {
        self.messages.rewind(offsets.messages);
        self.resets.clear();
        let numbers: Vec<u64> = self.lanes.keys().copied().collect();
        for number in numbers {
            match offsets.lane(number) {
                Progress::Done => self.remove(number),
                Progress::At(at) => {
                    if let Some(lane) = self.lanes.get_mut(&number) {
                        lane.begun = false;
                        lane.finish_sent = false;
                        if matches!(lane.finish, Finish::Reset(_)) {
                            self.resets.push_back(number);
                        } else {
                            lane.buffer.rewind(at);
                        }
                    }
                }
            }
        }
        self.kept = 0;
        self.unsent = self
            .lanes
            .values()
            .map(|lane| lane.buffer.unsent())
            .fold(0, u64::saturating_add);
        self.requeue();
    }
}
