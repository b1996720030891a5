//! What an exchange writes to, and what waits when that takes no more.

use std::collections::VecDeque;

use bytes::Bytes;
use farref_framing::{LaneId, LinkError, Misuse};

use crate::protocol::BodyRef;

/// Where messages go: a link, or a queue in tests.
pub trait Wire {
    /// Takes one message, behind all before it, and returns the lane of its body if that goes by itself.
    ///
    /// # Errors
    ///
    /// Nothing was taken: there is no room for now, or the wire is closed.
    fn submit(&mut self, head: &[u8], body: BodyRef<'_>) -> Result<Option<LaneId>, LinkError>;

    /// Gives up a body of ours that is going out.
    fn reset_lane(&mut self, lane: LaneId);

    /// Tells the peer that a body of its own is not wanted.
    fn stop_lane(&mut self, lane: LaneId);

    /// A number that grows with every message taken.
    fn position(&self) -> u64;

    /// Whether everything up to a position was handed out to be written: if not, the peer can't have got it.
    fn is_transmitted(&self, position: u64) -> bool;

    /// Whether so much waits for the peer that no new calls should be made.
    fn is_congested(&self) -> bool;
}

/// Messages for which the wire had no room, in order.
///
/// It has none if the peer does not read what it asked for; then only returns and what frees references are still
/// written, and they are bounded by what the peer has asked and holds.
///
/// Most wires have room for all: then it takes no more than a word.
#[derive(Debug, Default)]
pub(super) struct Outbox(Option<Box<Backlog>>);

/// # Invariant
///
/// `bytes` is what the held messages take together.
#[derive(Debug, Default)]
struct Backlog {
    held: VecDeque<Held>,
    bytes: u64,
}

/// What a held message takes beside its bytes, nearly.
pub(super) const HELD: u64 = 128;

#[derive(Debug)]
struct Held {
    head: Bytes,
    body: Bytes,
    of: Of,
}

impl Held {
    fn weight(&self) -> u64 {
        let bytes = self.head.len().saturating_add(self.body.len());
        HELD.saturating_add(bytes as u64)
    }
}

/// Whose a message is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    /// Nobody's.
    None,
    /// It is that call of ours.
    Question(u64),
    /// It is the return of a call of the peer's, which is under way until the wire has it: the peer cannot make more of them
    /// than it has read returns.
    Answer { depth: u16, bytes: u64 },
    /// It acknowledges the flush of that call of the peer's, which is open until the wire has it: for the same reason.
    Flush(u64),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The wire has it.
    Taken(Option<LaneId>),
    /// It waits here.
    Held,
    /// Nobody will ever write it: the wire is closed.
    Lost,
}

impl Outbox {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|backlog| backlog.held.is_empty())
    }

    /// What waits, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |backlog| backlog.bytes)
    }

    /// Writes a message, or keeps it until there is room.
    #[inline]
    pub(super) fn write(&mut self, wire: &mut dyn Wire, head: &[u8], body: BodyRef<'_>, of: Of) -> Written {
        if self.is_empty() {
            match wire.submit(head, body) {
                Ok(lane) => return Written::Taken(lane),
                Err(LinkError::Misuse(Misuse::Backlog | Misuse::Lanes)) => {}
                Err(_) => return Written::Lost,
            }
        }
        let held = Held {
            head: Bytes::copy_from_slice(head),
            body: to_bytes(body),
            of,
        };
        let backlog = self.0.get_or_insert_default();
        backlog.bytes = backlog.bytes.saturating_add(held.weight());
        backlog.held.push_back(held);
        Written::Held
    }

    /// Writes what there is room for. For each message: whose it is, its body's lane, and where it ends on the wire.
    pub(super) fn flush(&mut self, wire: &mut dyn Wire, mut sent: impl FnMut(Of, Option<LaneId>, u64)) {
        let Some(backlog) = &mut self.0 else {
            return;
        };
        while let Some(held) = backlog.held.front() {
            let (weight, Held { head, body, of }) = (held.weight(), held);
            let taken = wire.submit(head, BodyRef::Rope(std::slice::from_ref(body)));
            match taken {
                Ok(lane) => sent(*of, lane, wire.position()),
                Err(LinkError::Misuse(Misuse::Backlog | Misuse::Lanes)) => return,
                Err(_) => {}
            }
            backlog.bytes = backlog.bytes.saturating_sub(weight);
            backlog.held.pop_front();
        }
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        self.0.take_if(|backlog| backlog.held.is_empty());
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The length of a body.
#[inline]
pub(super) fn len(body: BodyRef<'_>) -> u64 {
    match body {
        BodyRef::Slice(bytes) => bytes.len() as u64,
        BodyRef::Rope(pieces) => len_of_all(pieces),
    }
}

#[inline(never)]
fn len_of_all(pieces: &[Bytes]) -> u64 {
    pieces
        .iter()
        .fold(0, |sum, piece| sum.saturating_add(piece.len() as u64))
}

/// The body in one piece of its own.
pub(super) fn to_bytes(body: BodyRef<'_>) -> Bytes {
    match body {
        BodyRef::Slice(bytes) => Bytes::copy_from_slice(bytes),
        BodyRef::Rope([only]) => only.clone(),
        BodyRef::Rope(pieces) => pieces.concat().into(),
    }
}
