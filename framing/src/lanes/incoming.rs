//! What comes from the peer: lane 0 to messages, the other lanes to bodies and streams (PROTOCOL.md § 3.3 to 3.5).
//!
//! Knows offsets, credits and which lane belongs to what. It says what should be told to the peer
//! ([`Note`]) and leaves the telling to others.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::buffer::{length, size};
use super::filling::Filling;
use super::queue::Queue;
use super::reader::Reader;
use super::spare::Spare;
use crate::error::Breach;
use crate::event::{LinkEvent, Message};
use crate::io::PLACE_LEAST;
use crate::limits::Limits;
use crate::link::LaneId;
use crate::session::Offsets;

/// Events on their way up.
pub(crate) type Events = VecDeque<LinkEvent>;

/// Something the peer should be told about a lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    Credit { lane: u64, upto: u64 },
    Stop { lane: u64, code: u64 },
    Done { lane: u64 },
}

/// The lanes of the peer's.
///
/// # Invariant
///
/// `lanes` holds every lane from 1 to `highest` that is not done. With those of which the peer was not told yet that they
/// are, which are `dones`, they are at most `named`; `active` of them have brought a byte or an end, at most `at_once`.
/// `pool` and what the lanes hold of it are together `receive_pool`. `unacked` is how many bytes were received since they
/// were last acknowledged, over all lanes.
#[derive(Debug)]
pub(crate) struct Incoming {
    reader: Reader,
    /// Bytes received on lane 0.
    messages: u64,
    /// Bytes acknowledged on lane 0.
    acked: u64,
    unacked: u64,
    /// Lanes that have brought bytes since the last acknowledgement.
    fresh: Queue<u64>,
    lanes: BTreeMap<u64, Lane>,
    highest: u64,
    active: u32,
    /// What is left for bodies beyond their first credit.
    pool: u64,
    /// Bodies that have begun and wait for their share of the pool, first come first served.
    waiting: Queue<u64>,
    at_once: u32,
    named: u32,
    first_credit: u64,
    /// Memory of bodies that came before.
    pub(crate) spare: Spare,
    /// What the peer should be told.
    pub(crate) notes: Queue<Note>,
    /// How many of them tell that a lane is done.
    pub(crate) dones: usize,
}

#[derive(Debug)]
struct Lane {
    received: u64,
    granted: u64,
    acked: u64,
    /// What it holds of the pool.
    pooled: u64,
    active: bool,
    state: State,
}

/// What a lane of the peer's is for.
#[derive(Debug)]
enum State {
    /// No message has named it yet: its bytes wait, within its first credit.
    Held { bytes: BytesMut, end: Option<End> },
    /// The body of a message.
    Body {
        len: u64,
        filling: Filling,
        whole: Option<Bytes>,
    },
    /// A stream that was accepted.
    Stream,
    /// Not wanted: what comes is dropped until the peer has understood.
    Unwanted { code: u64 },
}

/// Bytes of a lane that have come.
enum Piece {
    Apart(Bytes),
    /// In the room that the body had lent: so many at its beginning.
    InPlace(BytesMut, usize),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Apart(bytes) => bytes.len(),
            Self::InPlace(_, came) => *came,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Apart(bytes) => bytes,
            Self::InPlace(mut room, came) => room.split_to(came.min(room.len())).freeze(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Reset(u64),
}

impl Incoming {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            reader: Reader::new(limits.message),
            messages: 0,
            acked: 0,
            unacked: 0,
            fresh: Queue::default(),
            lanes: BTreeMap::new(),
            highest: 0,
            active: 0,
            pool: limits.receive_pool,
            waiting: Queue::default(),
            at_once: limits.lanes,
            named: limits.named,
            first_credit: limits.first_credit,
            spare: Spare::default(),
            notes: Queue::default(),
            dones: 0,
        }
    }

    /// Bytes received on lane 0.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        self.fresh.rest();
        self.waiting.rest();
        self.notes.rest();
    }

    /// Lanes that are not done.
    pub(crate) fn open(&self) -> usize {
        self.lanes.len()
    }

    /// Whether `lane` was here and is done.
    pub(crate) fn is_done(&self, lane: u64) -> bool {
        lane <= self.highest && !self.lanes.contains_key(&lane)
    }

    /// Offset up to which a lane may be sent.
    pub(crate) fn granted(&self, lane: u64) -> u64 {
        self.lanes
            .get(&lane)
            .map_or(self.first_credit, |lane| lane.granted)
    }

    /// How far `lane` was received.
    pub(crate) fn received(&self, lane: u64) -> u64 {
        self.lanes.get(&lane).map_or(0, |lane| lane.received)
    }

    /// Bytes of lane 0: returns how many messages they complete.
    #[inline]
    pub(crate) fn read_messages(&mut self, mut payload: Bytes, events: &mut Events) -> Result<u64, Breach> {
        let n = length(payload.len());
        self.messages = self.messages.saturating_add(n);
        self.unacked = self.unacked.saturating_add(n);
        let mut count = 0_u64;
        while let Some(bytes) = self.reader.next_short(&mut payload) {
            count = count.saturating_add(1);
            events.push_back(LinkEvent::Message(Message::inline(bytes)));
        }
        if payload.is_empty() {
            return Ok(count);
        }
        let others = self.read_others(payload, events)?;
        Ok(count.saturating_add(others))
    }

    /// Reads messages of any form.
    #[inline(never)]
    fn read_others(&mut self, mut payload: Bytes, events: &mut Events) -> Result<u64, Breach> {
        let mut count = 0_u64;
        while let Some(message) = self.reader.next(&mut payload)? {
            count = count.saturating_add(1);
            let bulk = message.bulk;
            events.push_back(LinkEvent::Message(message));
            if let Some(bulk) = bulk {
                self.name(bulk.lane.number(), bulk.len, events)?;
            }
        }
        Ok(count)
    }

    /// The lane with this number, made known if it is new.
    fn lane(&mut self, number: u64) -> Result<&mut Lane, Breach> {
        let lane = LaneId::new(number);
        if number > self.highest {
            let fresh = number.saturating_sub(self.highest);
            let named = length(self.lanes.len().saturating_add(self.dones));
            if fresh.saturating_add(named) > u64::from(self.named) {
                return Err(Breach::TooManyLanes {
                    lane,
                    limit: self.named,
                });
            }
            for between in self.highest.saturating_add(1)..=number {
                self.lanes.insert(between, Lane::new(self.first_credit));
            }
            self.highest = number;
        }
        self.lanes.get_mut(&number).ok_or(Breach::UnknownLane { lane })
    }

    /// Makes it known, and under way: at the first byte or the end of it.
    fn activate(&mut self, number: u64) -> Result<(), Breach> {
        let (active, limit) = (self.active, self.at_once);
        let lane = self.lane(number)?;
        if lane.active {
            return Ok(());
        }
        if active >= limit {
            return Err(Breach::TooManyLanes {
                lane: LaneId::new(number),
                limit,
            });
        }
        lane.active = true;
        self.active = active.saturating_add(1);
        self.ask_pool(number);
        Ok(())
    }

    /// Whether the `n` bytes of a frame are better taken in parts: they are put together with others in any case.
    pub(crate) fn takes_parts(&self, number: u64, n: usize) -> bool {
        let lane = self.lanes.get(&number);
        lane.is_some_and(|lane| matches!(lane.state, State::Body { len, .. } if len > length(n)))
    }

    /// Lends the room behind what has come of a body, for what may come next to be read there, and says how much of the body is
    /// still to come. `None` if that is not worth it.
    pub(crate) fn lend(&mut self, number: u64) -> Option<(BytesMut, usize)> {
        let lane = self.lanes.get_mut(&number)?;
        let State::Body { len, filling, .. } = &mut lane.state else {
            return None;
        };
        // Room for what was not granted would be room that the peer has for the asking.
        let most = lane.granted.min(*len);
        let may_come = size(most.saturating_sub(lane.received));
        if may_come < PLACE_LEAST || lane.received == 0 {
            return None;
        }
        filling.grow(PLACE_LEAST, size(most), size(self.first_credit));
        Some((filling.lend(), size(len.saturating_sub(lane.received))))
    }

    /// Takes back the room that was lent, in which nothing has come.
    pub(crate) fn give_back(&mut self, number: u64, room: BytesMut) {
        if let Some(lane) = self.lanes.get_mut(&number)
            && let State::Body { filling, .. } = &mut lane.state
        {
            filling.take_back(room, 0);
        }
    }

    /// The next `came` bytes of a body, at the beginning of the room that was lent for them.
    pub(crate) fn placed(
        &mut self,
        number: u64,
        room: BytesMut,
        came: usize,
        events: &mut Events,
    ) -> Result<(), Breach> {
        self.take(number, Piece::InPlace(room, came), events)
    }

    /// The next bytes of a lane beside lane 0.
    pub(crate) fn data(&mut self, number: u64, bytes: Bytes, events: &mut Events) -> Result<(), Breach> {
        self.take(number, Piece::Apart(bytes), events)
    }

    fn take(&mut self, number: u64, piece: Piece, events: &mut Events) -> Result<(), Breach> {
        let id = LaneId::new(number);
        let n = length(piece.len());
        self.activate(number)?;
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Err(Breach::UnknownLane { lane: id });
        };
        let upto = lane.received.saturating_add(n);
        if upto > lane.granted {
            return Err(Breach::CreditExceeded {
                lane: id,
                upto,
                granted: lane.granted,
            });
        }
        match &mut lane.state {
            State::Held {
                bytes: held,
                end: None,
            } => held.extend_from_slice(&piece.into_bytes()),
            State::Held { end: Some(_), .. } => return Err(Breach::UnknownLane { lane: id }),
            State::Body { len, filling, whole } => {
                let len = *len;
                if upto > len {
                    return Err(Breach::BodyLength {
                        lane: id,
                        announced: len,
                        received: upto,
                    });
                }
                match piece {
                    Piece::InPlace(room, came) => filling.take_back(room, came),
                    Piece::Apart(bytes) if n == len => *whole = Some(bytes),
                    Piece::Apart(bytes) => {
                        let (len, unasked) = (size(len), size(self.first_credit));
                        if filling.is_bare()
                            && let Some(memory) = self.spare.take(len)
                        {
                            filling.begin_in(memory);
                        }
                        filling.grow(bytes.len(), len, unasked);
                        filling.put(&bytes);
                    }
                }
            }
            State::Stream => events.push_back(LinkEvent::LaneData {
                lane: id,
                bytes: piece.into_bytes(),
                end: false,
            }),
            State::Unwanted { .. } => {}
        }
        let first = lane.acked == lane.received;
        lane.received = upto;
        self.unacked = self.unacked.saturating_add(n);
        if first {
            self.fresh.push_back(number);
        }
        Ok(())
    }

    /// The end of a lane. That of one that waits for its name may come again after a resume.
    pub(crate) fn end(&mut self, number: u64, events: &mut Events) -> Result<(), Breach> {
        let id = LaneId::new(number);
        self.activate(number)?;
        let Some(lane) = self.lanes.get_mut(&number) else {
            return Err(Breach::UnknownLane { lane: id });
        };
        match &mut lane.state {
            State::Held { end, .. } => {
                *end = (*end).or(Some(End::Complete));
                return Ok(());
            }
            State::Body { len, filling, whole } => {
                if lane.received != *len {
                    let (announced, received) = (*len, lane.received);
                    return Err(Breach::BodyLength {
                        lane: id,
                        announced,
                        received,
                    });
                }
                let body = whole.take().unwrap_or_else(|| {
                    let (body, memory) = std::mem::take(filling).finish();
                    self.spare.put(&body, memory);
                    body
                });
                events.push_back(LinkEvent::BulkDone { lane: id, body });
            }
            State::Stream => {
                events.push_back(LinkEvent::LaneData {
                    lane: id,
                    bytes: Bytes::new(),
                    end: true,
                });
            }
            State::Unwanted { .. } => {}
        }
        self.finish(number);
        Ok(())
    }

    /// The peer has given up a lane.
    pub(crate) fn reset(&mut self, number: u64, code: u64, events: &mut Events) -> Result<(), Breach> {
        let lane = self.lane(number)?; // it need not have been under way
        match &mut lane.state {
            State::Held { bytes, end } => {
                *bytes = BytesMut::new();
                *end = Some(End::Reset(code));
                return Ok(());
            }
            State::Body { .. } | State::Stream => {
                events.push_back(LinkEvent::LaneReset {
                    lane: LaneId::new(number),
                    code,
                });
            }
            State::Unwanted { .. } => {}
        }
        self.finish(number);
        Ok(())
    }

    /// A message has named `number` as the lane of its body of `len` bytes.
    fn name(&mut self, number: u64, len: u64, events: &mut Events) -> Result<(), Breach> {
        let id = LaneId::new(number);
        let lane = self.lane(number)?;
        let State::Held { bytes, end } = &mut lane.state else {
            return Err(Breach::LaneNamedTwice { lane: id });
        };
        let (bytes, end) = (std::mem::take(bytes), *end);
        if lane.received > len {
            return Err(Breach::BodyLength {
                lane: id,
                announced: len,
                received: lane.received,
            });
        }
        lane.state = State::Body {
            len,
            filling: Filling::of(bytes),
            whole: None,
        };
        match end {
            Some(End::Complete) => self.end(number, events),
            Some(End::Reset(code)) => self.reset(number, code, events),
            None => {
                self.ask_pool(number);
                Ok(())
            }
        }
    }

    /// Has a body that needs more than it was granted wait for its share of the pool, if it has begun: one that has not might
    /// wait for the place of one that waits for the pool.
    fn ask_pool(&mut self, number: u64) {
        let wants_more = |lane: &Lane| matches!(lane.state, State::Body { len, .. } if len > lane.granted);
        let lane = self.lanes.get(&number);
        if lane.is_some_and(|lane| lane.active && wants_more(lane)) {
            self.waiting.push_back(number);
            self.share_pool();
        }
    }

    /// Grants waiting bodies all they need, in turn, while the pool has it. Each is granted the whole of its body at once, so
    /// that it can be finished.
    fn share_pool(&mut self) {
        while let Some(number) = self.waiting.front().copied() {
            if let Some(lane) = self.lanes.get_mut(&number)
                && let State::Body { len, .. } = lane.state
            {
                let more = len.saturating_sub(lane.granted);
                if more > self.pool {
                    return;
                }
                self.pool = self.pool.saturating_sub(more);
                lane.pooled = more;
                lane.granted = len;
                self.notes.push_back(Note::Credit {
                    lane: number,
                    upto: len,
                });
            }
            self.waiting.pop_front();
        }
    }

    /// Forgets a lane that is done.
    fn finish(&mut self, number: u64) {
        let Some(lane) = self.lanes.remove(&number) else {
            return;
        };
        if lane.active {
            self.active = self.active.saturating_sub(1);
        }
        self.unacked = self
            .unacked
            .saturating_sub(lane.received.saturating_sub(lane.acked));
        self.fresh.retain(|fresh| *fresh != number);
        self.notes.push_back(Note::Done { lane: number });
        self.dones = self.dones.saturating_add(1);
        self.return_pool(number, lane.pooled);
    }

    /// A lane needs nothing of the pool any more, of which it has `pooled`.
    fn return_pool(&mut self, number: u64, pooled: u64) {
        if pooled == 0 {
            self.waiting.retain(|waiting| *waiting != number);
        }
        self.pool = self.pool.saturating_add(pooled);
        self.share_pool();
    }

    /// A stream lane is wanted.
    pub(crate) fn accept(&mut self, number: u64, upto: u64, events: &mut Events) -> Result<(), Breach> {
        let id = LaneId::new(number);
        if number == 0 {
            return Err(Breach::UnknownLane { lane: id });
        }
        let lane = self.lane(number)?;
        let State::Held { bytes, end } = &mut lane.state else {
            return Err(Breach::LaneNamedTwice { lane: id });
        };
        let (bytes, end) = (std::mem::take(bytes).freeze(), *end);
        lane.state = State::Stream;
        if !bytes.is_empty() && !matches!(end, Some(End::Reset(_))) {
            events.push_back(LinkEvent::LaneData {
                lane: id,
                bytes,
                end: false,
            });
        }
        match end {
            Some(End::Complete) => self.end(number, events),
            Some(End::Reset(code)) => self.reset(number, code, events),
            None => {
                self.grant(number, upto);
                Ok(())
            }
        }
    }

    /// An accepted stream lane may be sent up to `upto`.
    pub(crate) fn grant(&mut self, number: u64, upto: u64) {
        if let Some(lane) = self.lanes.get_mut(&number)
            && matches!(lane.state, State::Stream)
            && upto > lane.granted
        {
            lane.granted = upto;
            self.note_credit(number, upto);
        }
    }

    fn note_credit(&mut self, number: u64, granted: u64) {
        for note in self.notes.iter_mut() {
            if let Note::Credit { lane, upto } = note
                && *lane == number
            {
                *upto = granted;
                return;
            }
        }
        self.notes.push_back(Note::Credit {
            lane: number,
            upto: granted,
        });
    }

    /// A lane is not wanted any more.
    pub(crate) fn stop(&mut self, number: u64, code: u64) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        if !matches!(lane.state, State::Body { .. } | State::Stream) {
            return;
        }
        lane.state = State::Unwanted { code };
        let pooled = std::mem::take(&mut lane.pooled);
        self.notes.push_back(Note::Stop { lane: number, code });
        self.return_pool(number, pooled);
    }

    /// Bytes received since they were last acknowledged.
    pub(crate) fn unacked(&self) -> u64 {
        self.unacked
    }

    /// Whether the body on this lane needs no more credit than its first.
    pub(crate) fn is_granted(&self, number: u64) -> bool {
        let lane = self.lanes.get(&number);
        lane.is_some_and(|lane| lane.granted == self.first_credit)
    }

    /// What is to be acknowledged now, which then counts as acknowledged: lanes and offsets.
    pub(crate) fn acknowledge(&mut self, mut ack: impl FnMut(u64, u64)) {
        if self.acked != self.messages {
            self.acked = self.messages;
            ack(0, self.messages);
        }
        while let Some(number) = self.fresh.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.acked = lane.received;
                ack(number, lane.received);
            }
        }
        self.unacked = 0;
    }

    /// How far everything was received.
    pub(crate) fn offsets(&self) -> Offsets {
        Offsets {
            messages: self.messages,
            highest: self.highest,
            open: self
                .lanes
                .iter()
                .map(|(number, lane)| (*number, lane.received))
                .collect(),
        }
    }

    /// The peer knows the offsets and nothing else: what was said without being numbered is said again.
    pub(crate) fn resumed(&mut self) {
        self.notes.clear();
        self.dones = 0;
        for (number, lane) in &self.lanes {
            match lane.state {
                State::Unwanted { code } => self.notes.push_back(Note::Stop { lane: *number, code }),
                _ if lane.granted > self.first_credit => {
                    self.notes.push_back(Note::Credit {
                        lane: *number,
                        upto: lane.granted,
                    });
                }
                _ => {}
            }
        }
        self.acknowledge(|_, _| {});
    }
}

impl Lane {
    fn new(first_credit: u64) -> Self {
        Self {
            received: 0,
            granted: first_credit,
            acked: 0,
            pooled: 0,
            active: false,
            state: State::Held {
                bytes: BytesMut::new(),
                end: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            lanes: 2,
            named: 4,
            first_credit: 1024,
            message: 8192,
            receive_pool: 8192,
            ..Limits::default()
        }
    }

    fn lane(number: u64) -> LaneId {
        LaneId::new(number)
    }

    fn named(number: u64, len: u64) -> Bytes {
        let mut out = BytesMut::new();
        super::super::reader::put_prefix(&mut out, 0, Some((number, len)));
        out.freeze()
    }

    fn message(number: u64, len: u64) -> LinkEvent {
        LinkEvent::Message(crate::event::Message::with_bulk(Bytes::new(), lane(number), len))
    }

    #[test]
    fn a_body_that_comes_before_its_name_waits_for_it() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming
            .data(1, Bytes::from_static(b"body"), &mut events)
            .unwrap();
        incoming.end(1, &mut events).unwrap();
        incoming.end(1, &mut events).unwrap(); // again, after a resume
        assert!(events.is_empty());
        incoming.read_messages(named(1, 4), &mut events).unwrap();
        let body = Bytes::from_static(b"body");
        assert_eq!(
            events,
            [message(1, 4), LinkEvent::BulkDone { lane: lane(1), body }]
        );
        assert!(incoming.is_done(1) && incoming.notes == [Note::Done { lane: 1 }]);
    }

    #[test]
    fn a_body_in_one_piece_is_not_copied() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        let body = Bytes::from(vec![3; 1000]);
        incoming.read_messages(named(1, 1000), &mut events).unwrap();
        incoming.data(1, body.clone(), &mut events).unwrap();
        incoming.end(1, &mut events).unwrap();
        assert!(
            matches!(&events[1], LinkEvent::BulkDone { body: done, .. } if done.as_ptr() == body.as_ptr())
        );
    }

    #[test]
    fn the_first_bytes_make_room_for_what_may_come_unasked_and_no_more() {
        let room = |incoming: &Incoming, number| match &incoming.lanes[&number].state {
            State::Body { filling, .. } => filling.capacity(),
            other => panic!("{other:?}"),
        };
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.read_messages(named(1, 700), &mut events).unwrap();
        incoming.read_messages(named(2, 5120), &mut events).unwrap();
        assert_eq!(room(&incoming, 1), 0, "what is announced makes no room");
        for number in [1, 2] {
            incoming
                .data(number, Bytes::from(vec![0; 500]), &mut events)
                .unwrap();
        }
        assert_eq!((room(&incoming, 1), room(&incoming, 2)), (700, 1024));
        for _ in 0..3 {
            incoming.data(2, Bytes::from(vec![0; 500]), &mut events).unwrap();
        }
        assert!(
            (2000..=2048).contains(&room(&incoming, 2)),
            "{}",
            room(&incoming, 2)
        );
    }

    /// A peer that announced much, and had been granted little, had room made for twice of that.
    #[test]
    fn room_is_lent_for_what_was_granted_only() {
        let granted = 64 * 1024;
        let limits = Limits {
            first_credit: granted,
            receive_pool: 0,
            ..Limits::default()
        };
        let (mut incoming, mut events) = (Incoming::new(&limits), Events::new());
        incoming.read_messages(named(1, 1 << 20), &mut events).unwrap();
        assert!(incoming.lend(1).is_none(), "nothing of it has come");
        let piece = 9000;
        let mut came = 0;
        while came + piece as u64 <= granted {
            incoming
                .data(1, Bytes::from(vec![0; piece]), &mut events)
                .unwrap();
            came += piece as u64;
            let lent = incoming.lend(1);
            assert_eq!(lent.is_some(), granted - came >= PLACE_LEAST as u64, "{came}");
            if let Some((room, rest)) = lent {
                assert_eq!(came + room.capacity() as u64, granted);
                assert_eq!(came + rest as u64, 1 << 20);
                incoming.give_back(1, room);
            }
        }
        let rest = vec![0; size(granted - came)];
        incoming.data(1, Bytes::from(rest), &mut events).unwrap();
        assert!(incoming.lend(1).is_none());
    }

    #[test]
    fn more_than_granted_is_refused() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.data(1, Bytes::from(vec![0; 1024]), &mut events).unwrap();
        let breach = Breach::CreditExceeded {
            lane: lane(1),
            upto: 1025,
            granted: 1024,
        };
        assert_eq!(
            incoming.data(1, Bytes::from_static(b"x"), &mut events),
            Err(breach)
        );
        incoming.accept(1, 1025, &mut events).unwrap();
        assert_eq!(incoming.notes, [Note::Credit { lane: 1, upto: 1025 }]);
        assert_eq!(incoming.data(1, Bytes::from_static(b"x"), &mut events), Ok(()));
        incoming.grant(1, 2000);
        incoming.grant(1, 1500);
        assert_eq!(incoming.notes, [Note::Credit { lane: 1, upto: 2000 }]);
    }

    #[test]
    fn bodies_get_the_whole_of_what_they_need_from_the_pool_in_turn() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        for number in 1..=3 {
            incoming.read_messages(named(number, 5120), &mut events).unwrap();
        }
        let begin = |incoming: &mut Incoming, number| {
            incoming
                .data(number, Bytes::from_static(b"x"), &mut Events::new())
                .unwrap();
        };
        begin(&mut incoming, 1);
        begin(&mut incoming, 2);
        let credit = |lane| Note::Credit { lane, upto: 5120 };
        assert_eq!(incoming.notes, [credit(1), credit(2)]); // 2 x 4096
        incoming.stop(1, 7);
        let stop = Note::Stop { lane: 1, code: 7 };
        assert_eq!(incoming.notes, [credit(1), credit(2), stop]);
        incoming
            .data(1, Bytes::from_static(b"late"), &mut events)
            .unwrap();
        incoming.reset(1, 7, &mut events).unwrap();
        begin(&mut incoming, 3);
        let done = Note::Done { lane: 1 };
        assert_eq!(incoming.notes, [credit(1), credit(2), stop, done, credit(3)]);
        assert_eq!(events.len(), 3, "nothing is heard of a lane that is not wanted");
        assert!(incoming.is_done(1));
        incoming.stop(2, 0);
        incoming.stop(3, 0);
        assert_eq!(incoming.pool, 8192);
    }

    /// Bodies that had not begun held all of the pool, and waited for the places of those that had, which waited for the
    /// pool: for ever.
    #[test]
    fn a_body_that_has_not_begun_takes_nothing_of_the_pool() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        for number in 1..=4 {
            incoming.read_messages(named(number, 5120), &mut events).unwrap();
        }
        assert_eq!((incoming.pool, incoming.notes.len()), (8192, 0));
        for number in [3, 4] {
            incoming
                .data(number, Bytes::from(vec![0; 1024]), &mut events)
                .unwrap();
            incoming
                .data(number, Bytes::from(vec![0; 4096]), &mut events)
                .unwrap();
        }
    }

    /// Behind one that waited for the pool, they stayed in the queue for it when they were given up: a peer made that ever
    /// longer.
    #[test]
    fn a_body_that_is_given_up_waits_for_the_pool_no_more() {
        let limits = Limits { lanes: 3, ..limits() };
        let (mut incoming, mut events) = (Incoming::new(&limits), Events::new());
        let mut begin = |incoming: &mut Incoming, number| {
            incoming.read_messages(named(number, 8192), &mut events).unwrap();
            incoming
                .data(number, Bytes::from_static(b"x"), &mut events)
                .unwrap();
        };
        begin(&mut incoming, 1);
        begin(&mut incoming, 2);
        for (number, is_unwanted) in [(3, false), (4, true)] {
            begin(&mut incoming, number);
            assert_eq!(incoming.waiting, [2, number]);
            if is_unwanted {
                incoming.stop(number, 0);
            } else {
                incoming.reset(number, 0, &mut Events::new()).unwrap();
            }
            assert_eq!(incoming.waiting, [2]);
        }
    }

    #[test]
    fn a_finished_body_returns_what_it_held() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.read_messages(named(1, 8192), &mut events).unwrap();
        for _ in 0..8 {
            incoming.data(1, Bytes::from(vec![0; 1024]), &mut events).unwrap();
            assert_eq!(incoming.pool, 1024);
        }
        incoming.end(1, &mut events).unwrap();
        assert_eq!((incoming.pool, incoming.active), (8192, 0));
        assert!(
            incoming.fresh.is_empty(),
            "nothing of it is acknowledged any more"
        );
    }

    #[test]
    fn a_body_of_another_length_is_refused() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.read_messages(named(1, 4), &mut events).unwrap();
        let breach = |received| {
            Err(Breach::BodyLength {
                lane: lane(1),
                announced: 4,
                received,
            })
        };
        assert_eq!(
            incoming.data(1, Bytes::from_static(b"bodyx"), &mut events),
            breach(5)
        );
        incoming.data(1, Bytes::from_static(b"bod"), &mut events).unwrap();
        assert_eq!(incoming.end(1, &mut events), breach(3));
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming
            .data(1, Bytes::from_static(b"bodyx"), &mut events)
            .unwrap();
        assert_eq!(
            incoming.read_messages(named(1, 4), &mut events),
            breach(5).map(|()| 0)
        );
    }

    #[test]
    fn lanes_are_named_once() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.read_messages(named(1, 4), &mut events).unwrap();
        let twice = Breach::LaneNamedTwice { lane: lane(1) };
        assert_eq!(
            incoming.read_messages(named(1, 4), &mut events),
            Err(twice.clone())
        );
        assert_eq!(incoming.accept(1, 0, &mut events), Err(twice));
        incoming.reset(1, 0, &mut events).unwrap();
        let gone = Err(Breach::UnknownLane { lane: lane(1) });
        assert_eq!(incoming.read_messages(named(1, 4), &mut events).map(|_| ()), gone);
        assert_eq!(incoming.data(1, Bytes::from_static(b"x"), &mut events), gone);
        assert_eq!(
            incoming.accept(0, 0, &mut events),
            Err(Breach::UnknownLane { lane: lane(0) })
        );
    }

    #[test]
    fn more_lanes_than_declared_are_refused() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.data(3, Bytes::from_static(b"x"), &mut events).unwrap();
        incoming.data(1, Bytes::from_static(b"x"), &mut events).unwrap();
        let at_once = Breach::TooManyLanes {
            lane: lane(2),
            limit: 2,
        };
        assert_eq!(
            incoming.data(2, Bytes::from_static(b"x"), &mut events),
            Err(at_once)
        );
        let named_lanes = |lane| Breach::TooManyLanes { lane, limit: 4 };
        assert_eq!(incoming.accept(5, 0, &mut events), Err(named_lanes(lane(5))));
        assert_eq!(
            incoming.accept(u64::MAX, 0, &mut events),
            Err(named_lanes(lane(u64::MAX)))
        );
        assert_eq!(incoming.open(), 3);
    }

    /// Whoever gave up one body after the other, and read nothing, had without end to be told that they are done.
    #[test]
    fn a_lane_counts_until_the_peer_is_told_that_it_is_done() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        for number in 1..=4 {
            incoming.read_messages(named(number, 9), &mut events).unwrap();
            incoming.reset(number, 0, &mut events).unwrap();
        }
        assert_eq!(incoming.open(), 0);
        let fifth = named(5, 9);
        let breach = Breach::TooManyLanes {
            lane: lane(5),
            limit: 4,
        };
        assert_eq!(incoming.read_messages(fifth.clone(), &mut events), Err(breach));
        incoming.notes.clear();
        incoming.dones = 0;
        assert_eq!(incoming.read_messages(fifth, &mut events), Ok(1));
    }

    #[test]
    fn a_reset_before_the_name_is_told_behind_it() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.data(1, Bytes::from_static(b"x"), &mut events).unwrap();
        incoming.reset(1, 9, &mut events).unwrap();
        assert!(events.is_empty() && !incoming.is_done(1));
        incoming.read_messages(named(1, 4), &mut events).unwrap();
        assert_eq!(
            events,
            [
                message(1, 4),
                LinkEvent::LaneReset {
                    lane: lane(1),
                    code: 9
                }
            ]
        );
    }

    #[test]
    fn what_was_received_is_acknowledged_once() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming
            .read_messages(Bytes::from_static(&[2, 1]), &mut events)
            .unwrap();
        incoming.data(2, Bytes::from_static(b"abc"), &mut events).unwrap();
        incoming.data(2, Bytes::from_static(b"d"), &mut events).unwrap();
        assert_eq!(incoming.unacked(), 6);
        let mut acks = Vec::new();
        incoming.acknowledge(|lane, upto| acks.push((lane, upto)));
        incoming.acknowledge(|lane, upto| acks.push((lane, upto)));
        assert_eq!(acks, [(0, 2), (2, 4)]);
        assert_eq!(incoming.unacked(), 0);
        let offsets = Offsets {
            messages: 2,
            highest: 2,
            open: vec![(1, 0), (2, 4)],
        };
        assert_eq!(incoming.offsets(), offsets);
    }

    #[test]
    fn after_a_resume_what_is_not_numbered_is_said_again() {
        let (mut incoming, mut events) = (Incoming::new(&limits()), Events::new());
        incoming.read_messages(named(1, 4096), &mut events).unwrap();
        incoming.read_messages(named(2, 4096), &mut events).unwrap();
        incoming.read_messages(named(3, 4), &mut events).unwrap();
        for number in [1, 2] {
            incoming
                .data(number, Bytes::from_static(b"x"), &mut events)
                .unwrap();
        }
        incoming.stop(2, 5);
        incoming.resumed();
        assert_eq!(
            incoming.notes,
            [
                Note::Credit { lane: 1, upto: 4096 },
                Note::Stop { lane: 2, code: 5 }
            ]
        );
    }
}
