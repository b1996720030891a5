//! The half of a line that receives: frames put in order, and what is owed for them (PROTOCOL.md § 11.4, § 11.5).

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Nanos, Terms, low};
use crate::arq::frame::Ack;

/// Longest time for which what came is not acknowledged.
const ACK_DELAY: Nanos = 20_000_000;
/// Frames that came, after which it is acknowledged at once.
const ACK_AFTER: u32 = 2;

/// What has come, until it is read.
///
/// # Invariants
///
/// `ahead` holds frames behind `expected`, within the window. `expected` and [`room`](Self::room) together never go
/// back: what the peer was told it may send is taken.
#[derive(Debug)]
pub(super) struct Receiving {
    terms: Terms,
    expected: u64,
    ahead: BTreeMap<u64, Piece>,
    incoming: BytesMut,
    has_peer_ended: bool,
    /// Frames that came and were not acknowledged.
    owed: u32,
    ack_at: Option<Nanos>,
    ack_now: bool,
    /// The peer has asked whether it is heard.
    was_asked: bool,
}

/// What came in a frame.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End,
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

impl Receiving {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            expected: 0,
            ahead: BTreeMap::new(),
            incoming: BytesMut::new(),
            has_peer_ended: false,
            owed: 0,
            ack_at: None,
            ack_now: false,
            was_asked: false,
        }
    }

    /// Both sides are there, on these terms.
    pub(super) fn open(&mut self, terms: Terms) {
        self.terms = terms;
    }

    pub(super) fn has_input(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Whether the peer has ended its stream, and everything before that was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_peer_ended && self.incoming.is_empty()
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        let ahead: usize = self.ahead.values().map(Piece::len).sum();
        ahead.saturating_add(self.incoming.len())
    }

    /// Bytes of the stream, in order.
    pub(super) fn read(&mut self, into: &mut BytesMut, most: usize) -> usize {
        let had_room = self.room();
        let count = most.min(self.incoming.len());
        into.extend_from_slice(&self.incoming.split_to(count));
        // A sender that waits for room is told of it.
        self.ack_now |= had_room == 0 && self.room() > 0;
        count
    }

    /// Frames that there is room for behind `expected`.
    fn room(&self) -> u8 {
        let payload = self.terms.payload.max(1);
        let most = payload
            .saturating_mul(usize::from(self.terms.window))
            .saturating_mul(2);
        let frames = most
            .saturating_sub(self.incoming.len())
            .checked_div(payload)
            .unwrap_or(0);
        u8::try_from(frames).unwrap_or(u8::MAX).min(self.terms.window)
    }

    pub(super) fn ack(&self) -> Ack {
        Ack {
            next: low(self.expected),
            room: self.room(),
        }
    }

    /// Which of the frames behind the missing one have come.
    pub(super) fn behind(&self) -> u32 {
        let bit = |seq: &u64| {
            seq.checked_sub(self.expected.saturating_add(1))
                .filter(|bit| *bit < 32)
        };
        self.ahead
            .keys()
            .filter_map(bit)
            .fold(0, |bits, bit| bits | 1 << bit)
    }

    /// Whether something is missing, of which the peer must hear even if it is sent data.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Acknowledges at the next opportunity.
    pub(super) fn owe_at_once(&mut self) {
        self.ack_now = true;
    }

    /// Answers the peer that asks whether it is heard.
    pub(super) fn answer(&mut self) {
        (self.ack_now, self.was_asked) = (true, true);
    }

    /// Whether an acknowledgement is due in a frame of its own: data would not say what has come behind a gap, and on a line
    /// on which hardly any long frame comes a short one is the answer that does.
    pub(super) fn owes_apart(&self) -> bool {
        self.ack_now && (self.was_asked || self.has_gap())
    }

    pub(super) fn owes(&self, now: Nanos) -> bool {
        self.ack_now || self.ack_at.is_some_and(|at| at <= now)
    }

    /// When an acknowledgement is due.
    pub(super) const fn timeout(&self) -> Option<Nanos> {
        self.ack_at
    }

    pub(super) fn has_acknowledged(&mut self) {
        (self.owed, self.ack_at) = (0, None);
        (self.ack_now, self.was_asked) = (false, false);
    }

    /// Takes a frame of the peer's in its turn, and those that waited for it.
    pub(super) fn came(&mut self, seq: u8, piece: Piece, now: Nanos) {
        let offset = seq.wrapping_sub(low(self.expected));
        // It came before, and the peer has not heard that; or there is no room for it.
        if self.has_peer_ended || offset >= self.room() {
            self.ack_now = true;
            return;
        }
        let number = self.expected.saturating_add(u64::from(offset));
        self.ahead.insert(number, piece);
        if offset > 0 {
            self.ack_now = true;
            return;
        }
        while let Some(piece) = self.ahead.remove(&self.expected) {
            self.expected = self.expected.saturating_add(1);
            match piece {
                Piece::Data(bytes) => self.incoming.extend_from_slice(&bytes),
                Piece::End => {
                    self.has_peer_ended = true;
                    self.ack_now = true;
                    // Nothing comes behind the end (PROTOCOL.md § 11.2).
                    self.ahead.clear();
                }
            }
        }
        self.owed = self.owed.saturating_add(1);
        self.ack_now |= self.owed >= ACK_AFTER || !self.ahead.is_empty();
        let delay = self.terms.frame_time.saturating_mul(2).min(ACK_DELAY);
        self.ack_at.get_or_insert(now.saturating_add(delay));
    }
}
