//! One end of a lossy line, without IO (PROTOCOL.md chapter 11).
//!
//! Bytes of the line, bytes of the stream and the time go in; frames, bytes of the stream and the next timeout come
//! out. A line is not a network: it keeps what it carries in order, so a frame is lost as soon as one that was sent
//! after it has come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Ack, Frame, Hello, MAX_PAYLOAD, MAX_STUFFED, Nonce, Tag, VERSION};
use super::{Config, Failure, Stats, cobs};
use crate::link::{Nanos, Role};

/// Bytes of a frame beside its payload: header, sum, stuffing, zero.
const AROUND: u64 = 4 + 4 + 2 + 1;
/// How often "Is somebody there?" is said.
const SYN_EVERY: Nanos = 250_000_000;
/// Silence after which the other side is asked for a sign of life, and how often.
const ASK_AFTER: Nanos = 2_000_000_000;
const ASK_EVERY: Nanos = 1_000_000_000;
/// Longest time until something lost is sent again.
const MAX_RTO: Nanos = 2_000_000_000;
/// What adapters and drivers may add to the time on the line, until it was measured.
const LATENCY: Nanos = 20_000_000;
/// Longest time for which what came is not acknowledged.
const ACK_DELAY: Nanos = 20_000_000;
/// How long what was written may take to arrive after everything was dropped, beside its time on the line.
const LINGER: Nanos = 3_000_000_000;
/// Frames that came, after which it is acknowledged at once.
const ACK_AFTER: u32 = 2;

/// One end.
///
/// # Invariants
///
/// `flight` holds the frames `base .. next`; the first of them is not acknowledged. `ahead` holds frames behind
/// `expected`, within the window.
#[derive(Debug)]
pub(super) struct Line {
    config: Config,
    nonce: Nonce,
    began: Nanos,
    peer: Option<Hello>,
    /// The peer is known to know this side.
    is_open: bool,
    failure: Option<Failure>,

    outgoing: BytesMut,
    flight: VecDeque<Flying>,
    base: u64,
    next: u64,
    /// The first frame that the peer has no room for.
    room_until: u64,
    /// Number of the next transmission.
    transmissions: u64,
    fin: Fin,
    rto: Nanos,
    rto_at: Option<Nanos>,
    round_trip: Option<(Nanos, Nanos)>,

    expected: u64,
    ahead: BTreeMap<u64, Piece>,
    incoming: BytesMut,
    has_peer_ended: bool,
    owed: u32,
    ack_at: Option<Nanos>,
    ack_now: bool,
    syn_at: Nanos,
    syn_ack_due: bool,
    reset_due: bool,
    last_heard: Nanos,
    ask_at: Nanos,

    partial: Vec<u8>,
    is_overlong: bool,
    heard_bytes: u64,
    stats: Stats,
}

/// A frame that was sent and not acknowledged.
#[derive(Debug)]
struct Flying {
    /// Nothing for the end.
    payload: Option<Bytes>,
    sent_at: Nanos,
    /// Number of its last transmission.
    transmission: u64,
    tries: u32,
    has_come: bool,
    is_lost: bool,
}

/// What came out of turn.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

/// How far this side's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    No,
    Wanted,
    Sent,
    Heard,
}

impl Line {
    pub(super) fn new(config: Config, nonce: Nonce, now: Nanos) -> Self {
        let config = config.within_limits();
        let frames = u64::from(config.window);
        let rto = frame_time(&config)
            .saturating_mul(frames)
            .saturating_add(LATENCY.saturating_mul(2));
        Self {
            nonce,
            began: now,
            peer: None,
            is_open: false,
            failure: None,
            outgoing: BytesMut::new(),
            flight: VecDeque::new(),
            base: 0,
            next: 0,
            room_until: 0,
            transmissions: 0,
            fin: Fin::No,
            rto: rto.saturating_add(rto / 2).min(MAX_RTO),
            rto_at: None,
            round_trip: None,
            expected: 0,
            ahead: BTreeMap::new(),
            incoming: BytesMut::new(),
            has_peer_ended: false,
            owed: 0,
            ack_at: None,
            ack_now: false,
            syn_at: now,
            syn_ack_due: false,
            reset_due: false,
            last_heard: now,
            ask_at: now,
            partial: Vec::new(),
            is_overlong: false,
            heard_bytes: 0,
            stats: Stats::default(),
            config,
        }
    }

    /// Which side this is, once the other is there.
    pub(super) fn role(&self) -> Option<Role> {
        let peer = self.peer.as_ref().filter(|_| self.is_open)?;
        let wish = wish_of(self.config.role);
        let dials = if wish == peer.wish {
            self.nonce > peer.nonce
        } else {
            wish == 1
        };
        Some(if dials { Role::Dialer } else { Role::Listener })
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(super) const fn stats(&self) -> Stats {
        self.stats
    }

    /// How long what was written may take to arrive once nobody is left here: a window, and each frame twice.
    pub(super) fn linger(&self) -> Nanos {
        let window = frame_time(&self.config).saturating_mul(u64::from(self.window()));
        window.saturating_mul(2).saturating_add(LINGER)
    }

    /// Bytes of payload in a frame: what both sides take.
    pub(super) fn payload(&self) -> usize {
        let peers = self.peer.map_or(usize::MAX, |peer| usize::from(peer.payload));
        self.config.payload.min(peers)
    }

    fn window(&self) -> u8 {
        self.config
            .window
            .min(self.peer.map_or(u8::MAX, |peer| peer.window))
    }

    /// How many bytes of the stream are taken now. Little is kept: what is urgent must not wait behind much.
    pub(super) fn write_room(&self) -> usize {
        if self.fin != Fin::No || self.failure.is_some() {
            return 0;
        }
        self.payload().saturating_sub(self.outgoing.len())
    }

    /// Takes bytes of the stream, and says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..self.write_room()).unwrap_or(bytes);
        self.outgoing.extend_from_slice(taken);
        taken.len()
    }

    /// Ends the stream behind what was written.
    pub(super) fn close(&mut self) {
        if self.fin == Fin::No {
            self.fin = Fin::Wanted;
        }
    }

    /// Whether the peer has everything, the end included.
    pub(super) fn is_closed(&self) -> bool {
        self.fin == Fin::Heard
    }

    /// Whether the peer has ended its stream, and everything before that was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_peer_ended && self.incoming.is_empty()
    }

    /// Bytes that are kept, of either direction.
    pub(super) fn kept(&self) -> usize {
        let flying: usize = self
            .flight
            .iter()
            .filter_map(|flying| flying.payload.as_ref())
            .map(Bytes::len)
            .sum();
        let ahead = |piece: &Piece| {
            if let Piece::Data(bytes) = piece {
                bytes.len()
            } else {
                0
            }
        };
        let ahead: usize = self.ahead.values().map(ahead).sum();
        [
            flying,
            ahead,
            self.incoming.len(),
            self.outgoing.len(),
            self.partial.len(),
        ]
        .into_iter()
        .sum()
    }

    pub(super) fn has_input(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Bytes of the stream, in order.
    pub(super) fn read(&mut self, into: &mut BytesMut, most: usize) -> usize {
        let had_room = self.room();
        let count = most.min(self.incoming.len());
        into.extend_from_slice(&self.incoming.split_to(count));
        // A sender that waits for room is told of it.
        self.ack_now |= self.is_open && had_room == 0 && self.room() > 0;
        count
    }

    /// Gives up: the peer is told, and nothing more is taken.
    pub(super) fn abandon(&mut self) {
        self.reset_due = self.is_open && self.failure.is_none();
        self.fail(Failure::Abandoned);
    }

    /// The carrier below is gone.
    pub(super) fn break_off(&mut self, failure: Failure) {
        self.fail(failure);
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Frames that there is room for behind `expected`.
    fn room(&self) -> u8 {
        let payload = self.payload().max(1);
        let most = payload
            .saturating_mul(usize::from(self.window()))
            .saturating_mul(2);
        let frames = most
            .saturating_sub(self.incoming.len())
            .checked_div(payload)
            .unwrap_or(0);
        u8::try_from(frames).unwrap_or(u8::MAX).min(self.window())
    }

    fn ack(&self) -> Ack {
        Ack {
            next: low(self.expected),
            room: self.room(),
        }
    }

    /// Which of the frames behind the missing one have come.
    fn behind(&self) -> u32 {
        let bit = |seq: &u64| {
            seq.checked_sub(self.expected.saturating_add(1))
                .filter(|bit| *bit < 32)
        };
        self.ahead
            .keys()
            .filter_map(bit)
            .fold(0, |bits, bit| bits | 1 << bit)
    }

    fn tag_out(&self) -> Option<Tag> {
        self.peer.map(|peer| Tag(self.nonce, peer.nonce))
    }

    fn tag_in(&self) -> Option<Tag> {
        self.peer.map(|peer| Tag(peer.nonce, self.nonce))
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            wish: wish_of(self.config.role),
            nonce: self.nonce,
            payload: u16::try_from(self.config.payload).unwrap_or(u16::MAX),
            window: self.config.window,
        }
    }
}

/// What came.
impl Line {
    /// Takes bytes of the line.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8], now: Nanos) {
        self.heard_bytes = self
            .heard_bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut rest = bytes;
        while self.failure.is_none() {
            let Some(zero) = rest.iter().position(|byte| *byte == 0) else {
                self.keep(rest);
                return;
            };
            let (piece, behind) = rest.split_at(zero);
            rest = behind.get(1..).unwrap_or_default();
            self.keep(piece);
            let stuffed = std::mem::take(&mut self.partial);
            if !std::mem::take(&mut self.is_overlong) && !stuffed.is_empty() {
                self.handle_stuffed(&stuffed, now);
            }
            // Its memory is used again.
            self.partial = stuffed;
            self.partial.clear();
        }
    }

    /// Keeps the beginning of a frame, up to the length that a frame may have.
    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_STUFFED.saturating_sub(self.partial.len());
        self.is_overlong |= piece.len() > room;
        self.partial.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }

    fn handle_stuffed(&mut self, stuffed: &[u8], now: Nanos) {
        let bytes = cobs::unstuff(stuffed).and_then(|bytes| frame::check(bytes, self.tag_in()));
        match bytes.as_deref().and_then(frame::decode) {
            Some(frame) => self.handle_frame(&frame, now),
            None => self.stats.bad_frames = self.stats.bad_frames.saturating_add(1),
        }
    }

    fn handle_frame(&mut self, frame: &Frame<'_>, now: Nanos) {
        self.stats.frames_heard = self.stats.frames_heard.saturating_add(1);
        match frame {
            Frame::Syn(hello) => self.handle_hello(hello, None),
            Frame::SynAck(hello, heard) => self.handle_hello(hello, Some(*heard)),
            _ => {
                // Whoever sums with this side's nonce has heard it.
                self.open(now);
                self.handle_open(frame, now);
            }
        }
        self.last_heard = now;
        self.ask_at = now.saturating_add(ASK_AFTER);
    }

    fn handle_hello(&mut self, hello: &Hello, heard: Option<Nonce>) {
        if hello.nonce == self.nonce {
            return self.fail(Failure::Echo);
        }
        if hello.version != VERSION {
            return self.fail(Failure::Version(hello.version));
        }
        if self.is_open {
            let is_new = self.peer.is_none_or(|peer| peer.nonce != hello.nonce);
            match (is_new, heard) {
                (true, None) => self.fail(Failure::Restarted),
                // It has not heard our answer yet.
                (false, None) => self.syn_ack_due = true,
                // An answer to an earlier word of this side is no news.
                (_, Some(_)) => {}
            }
            return;
        }
        match heard {
            None => {
                self.peer = Some(*hello);
                self.syn_ack_due = true;
            }
            Some(heard) if heard == self.nonce => {
                self.peer = Some(*hello);
                self.open(self.last_heard);
                // It may wait for a word of ours.
                self.ack_now = true;
            }
            Some(_) => {}
        }
    }

    fn open(&mut self, now: Nanos) {
        if !self.is_open {
            self.is_open = true;
            self.room_until = self.base.saturating_add(u64::from(self.window()));
            self.ask_at = now.saturating_add(ASK_AFTER);
        }
    }

    fn handle_open(&mut self, frame: &Frame<'_>, now: Nanos) {
        match frame {
            Frame::Data { seq, ack, payload } => {
                self.acknowledged(*ack, 0, now);
                if payload.len() <= self.config.payload {
                    self.came(*seq, Piece::Data(Bytes::copy_from_slice(payload)), now);
                }
            }
            Frame::Fin { seq, ack } => {
                self.acknowledged(*ack, 0, now);
                self.came(*seq, Piece::End, now);
            }
            Frame::Ack { ack, behind } => self.acknowledged(*ack, *behind, now),
            Frame::Poll { ack, behind } => {
                self.acknowledged(*ack, *behind, now);
                self.ack_now = true;
            }
            Frame::Reset => self.fail(Failure::Reset),
            Frame::Syn(_) | Frame::SynAck(..) => {}
        }
    }

    /// Takes a frame of the peer's in its turn, and those that waited for it.
    fn came(&mut self, seq: u8, piece: Piece, now: Nanos) {
        let offset = seq.wrapping_sub(low(self.expected));
        if offset >= self.window() || self.has_peer_ended {
            // It came before; the peer has not heard that.
            self.ack_now = true;
            return;
        }
        if offset >= self.room() {
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
                }
            }
        }
        self.owed = self.owed.saturating_add(1);
        self.ack_now |= self.owed >= ACK_AFTER || !self.ahead.is_empty();
        let delay = frame_time(&self.config).saturating_mul(2).min(ACK_DELAY);
        self.ack_at.get_or_insert(now.saturating_add(delay));
    }

    /// Takes what the peer says has come.
    fn acknowledged(&mut self, ack: Ack, behind: u32, now: Nanos) {
        let came = u64::from(ack.next.wrapping_sub(low(self.base)));
        if came > self.next.saturating_sub(self.base) {
            return; // of long ago
        }
        let upto = self.base.saturating_add(came);
        self.room_until = self.room_until.max(upto.saturating_add(u64::from(ack.room)));
        let mut newest = None;
        for _ in 0..came {
            let Some(flying) = self.flight.pop_front() else {
                break;
            };
            self.base = self.base.saturating_add(1);
            newest = newest.max(Some(flying.transmission));
            if flying.tries == 1 && !flying.has_come {
                self.measure(now.saturating_sub(flying.sent_at));
            }
            if flying.payload.is_none() {
                self.fin = Fin::Heard;
            }
        }
        for (index, flying) in self.flight.iter_mut().enumerate().skip(1) {
            if index <= 32 && behind >> (index.saturating_sub(1)) & 1 == 1 {
                flying.has_come = true;
                flying.is_lost = false;
                newest = newest.max(Some(flying.transmission));
            }
        }
        // The line keeps the order: what was sent before something that has come, and has not come, is lost.
        if let Some(newest) = newest {
            for flying in &mut self.flight {
                flying.is_lost |= !flying.has_come && flying.transmission < newest;
            }
        }
        if came > 0 {
            self.rto = self.measured_rto();
            self.rto_at = None;
        }
        if self.rto_at.is_none() && !self.flight.is_empty() {
            self.rto_at = Some(now.saturating_add(self.rto));
        }
        if self.flight.is_empty() {
            self.rto_at = None;
        }
    }

    /// Jacobson's estimate; only of frames that were sent once (Karn).
    fn measure(&mut self, sample: Nanos) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(sample);
                let mean = mean.saturating_mul(7).saturating_add(sample) / 8;
                (mean, deviation.saturating_mul(3).saturating_add(off) / 4)
            }
        });
        self.stats.round_trip = self.round_trip.map(|(mean, _)| Duration::from_nanos(mean));
    }

    fn measured_rto(&self) -> Nanos {
        let Some((mean, deviation)) = self.round_trip else {
            return self.rto;
        };
        let frames = frame_time(&self.config).saturating_mul(2);
        let spread = deviation.saturating_mul(4).max(frames).saturating_add(5_000_000);
        mean.saturating_add(spread).min(MAX_RTO)
    }
}

/// What is to be said.
impl Line {
    /// Appends the next frame for the line, if there is one; false if not. At most one, since what is urgent may come.
    pub(super) fn poll_transmit(&mut self, out: &mut Vec<u8>, now: Nanos) -> bool {
        // A zero ends what noise has begun.
        out.push(0);
        let began = out.len();
        self.put_frame(out, now);
        if out.len() == began {
            out.pop();
            return false;
        }
        self.stats.frames_sent = self.stats.frames_sent.saturating_add(1);
        true
    }

    fn put_frame(&mut self, out: &mut Vec<u8>, now: Nanos) {
        if self.failure.is_some() {
            if std::mem::take(&mut self.reset_due) {
                Frame::Reset.encode(self.tag_out(), out);
            }
            return;
        }
        if std::mem::take(&mut self.syn_ack_due)
            && let Some(peer) = self.peer
        {
            self.syn_at = now.saturating_add(SYN_EVERY);
            return Frame::SynAck(self.hello(), peer.nonce).encode(None, out);
        }
        if !self.is_open {
            if now >= self.syn_at {
                self.syn_at = now.saturating_add(SYN_EVERY);
                Frame::Syn(self.hello()).encode(None, out);
            }
            return;
        }
        if self.ack_now && !self.ahead.is_empty() {
            return self.put_ack(out, false);
        }
        if self.put_again(out, now) || self.put_new(out, now) {
            return;
        }
        if self.ack_now || self.ack_at.is_some_and(|at| at <= now) {
            return self.put_ack(out, false);
        }
        let waits_for_room = !self.outgoing.is_empty() && self.flight.is_empty();
        if now >= self.ask_at && (waits_for_room || now.saturating_sub(self.last_heard) >= ASK_AFTER) {
            self.ask_at = now.saturating_add(if waits_for_room {
                self.rto.max(ASK_EVERY / 4)
            } else {
                ASK_EVERY
            });
            self.put_ack(out, true);
        }
    }

    fn put_ack(&mut self, out: &mut Vec<u8>, asks: bool) {
        let (ack, behind) = (self.ack(), self.behind());
        self.has_acknowledged();
        let frame = if asks {
            Frame::Poll { ack, behind }
        } else {
            Frame::Ack { ack, behind }
        };
        frame.encode(self.tag_out(), out);
    }

    fn has_acknowledged(&mut self) {
        (self.owed, self.ack_at, self.ack_now) = (0, None, false);
    }

    /// Sends the first frame again that is lost.
    fn put_again(&mut self, out: &mut Vec<u8>, now: Nanos) -> bool {
        let Some(at) = self.flight.iter().position(|flying| flying.is_lost) else {
            return false;
        };
        self.stats.frames_again = self.stats.frames_again.saturating_add(1);
        self.put_flying(at, out, now);
        true
    }

    /// Sends what was not sent yet, if the peer has room.
    fn put_new(&mut self, out: &mut Vec<u8>, now: Nanos) -> bool {
        let is_full = self.flight.len() >= usize::from(self.window()) || self.next >= self.room_until;
        let payload = if is_full {
            return false;
        } else if !self.outgoing.is_empty() {
            let len = self.outgoing.len().min(self.payload());
            Some(self.outgoing.split_to(len).freeze())
        } else if self.fin == Fin::Wanted {
            self.fin = Fin::Sent;
            None
        } else {
            return false;
        };
        self.next = self.next.saturating_add(1);
        self.flight.push_back(Flying {
            payload,
            sent_at: now,
            transmission: 0,
            tries: 0,
            has_come: false,
            is_lost: false,
        });
        self.put_flying(self.flight.len().saturating_sub(1), out, now);
        true
    }

    fn put_flying(&mut self, at: usize, out: &mut Vec<u8>, now: Nanos) {
        let (ack, tag) = (self.ack(), self.tag_out());
        let seq = low(self.base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)));
        let transmission = self.transmissions;
        self.transmissions = transmission.saturating_add(1);
        let Some(flying) = self.flight.get_mut(at) else {
            return;
        };
        flying.sent_at = now;
        flying.transmission = transmission;
        flying.tries = flying.tries.saturating_add(1);
        flying.is_lost = false;
        match &flying.payload {
            Some(payload) => Frame::Data { seq, ack, payload }.encode(tag, out),
            None => Frame::Fin { seq, ack }.encode(tag, out),
        }
        self.rto_at.get_or_insert(now.saturating_add(self.rto));
        if self.ahead.is_empty() {
            self.has_acknowledged();
        }
    }

    /// Whether a frame is ready for the line.
    pub(super) fn handle_timeout(&mut self, now: Nanos) {
        if self.failure.is_some() {
            return;
        }
        if !self.is_open {
            let waited = now.saturating_sub(self.began);
            if self
                .config
                .patience
                .is_some_and(|patience| waited >= nanos(patience))
            {
                self.fail(self.why_not_open());
            }
            return;
        }
        if now.saturating_sub(self.last_heard) >= nanos(self.config.silence) {
            return self.fail(Failure::Silent);
        }
        if self.rto_at.is_some_and(|at| at <= now) {
            // The answer to the first will tell of the others.
            if let Some(first) = self.flight.iter_mut().find(|flying| !flying.has_come) {
                first.is_lost = true;
            }
            self.rto = self.rto.saturating_mul(2).min(MAX_RTO);
            self.rto_at = Some(now.saturating_add(self.rto));
        }
    }

    fn why_not_open(&self) -> Failure {
        if self.heard_bytes == 0 {
            Failure::NothingHeard
        } else if self.stats.frames_heard == 0 {
            Failure::Nonsense
        } else {
            Failure::NotAnswered
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit) is next wanted.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        if self.failure.is_some() {
            return None;
        }
        if !self.is_open {
            let end = self
                .config
                .patience
                .map(|patience| self.began.saturating_add(nanos(patience)));
            return Some(end.map_or(self.syn_at, |end| end.min(self.syn_at)));
        }
        let dead = self.last_heard.saturating_add(nanos(self.config.silence));
        [
            self.rto_at,
            self.ack_at,
            Some(self.ask_at.max(self.last_heard)),
            Some(dead),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

const fn low(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

const fn wish_of(role: Role) -> u8 {
    match role {
        Role::Dialer => 1,
        Role::Listener => 2,
    }
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// How long a full frame is on the line.
fn frame_time(config: &Config) -> Nanos {
    let payload = u64::try_from(config.payload.min(MAX_PAYLOAD)).unwrap_or(u64::MAX);
    let bytes = payload.saturating_add(AROUND);
    bytes
        .saturating_mul(1_000_000_000)
        .checked_div(config.bytes_per_second.max(1))
        .unwrap_or(0)
}
