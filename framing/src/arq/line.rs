//! One end of a lossy line, without IO (PROTOCOL.md chapter 11).
//!
//! Bytes of the line, bytes of the stream and the time go in; frames, bytes of the stream and the next timeout come
//! out. Knows how two ends find each other and notice that one is gone; the frames between are sent again by
//! `sending`, and put in order by `receiving`.

mod receiving;
mod sending;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::receiving::{Piece, Receiving};
use self::sending::{Numbered, Sending};
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
/// How long what was written may take to arrive after everything was dropped, beside its time on the line.
const LINGER: Nanos = 3_000_000_000;

/// One end.
#[derive(Debug)]
pub(super) struct Line {
    config: Config,
    nonce: Nonce,
    began: Nanos,
    peer: Option<Hello>,
    /// The peer is known to know this side.
    is_open: bool,
    failure: Option<Failure>,

    sending: Sending,
    receiving: Receiving,

    syn_at: Nanos,
    syn_ack_due: bool,
    reset_due: bool,
    last_heard: Nanos,
    ask_at: Nanos,

    partial: Vec<u8>,
    is_overlong: bool,
    stats: Stats,
}

/// What both sides take: the lower of what each has said.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// Most bytes of payload in a frame.
    payload: usize,
    /// Most frames under way.
    window: u8,
    /// How long a full frame is on the line.
    frame_time: Nanos,
}

impl Terms {
    fn of(config: &Config, peer: Option<&Hello>) -> Self {
        let peers = peer.map_or((usize::MAX, u8::MAX), |peer| (peer.payload.into(), peer.window));
        Self {
            payload: config.payload.min(peers.0),
            window: config.window.min(peers.1),
            frame_time: frame_time(config),
        }
    }
}

impl Line {
    pub(super) fn new(config: Config, nonce: Nonce, now: Nanos) -> Self {
        let config = config.within_limits();
        let terms = Terms::of(&config, None);
        Self {
            nonce,
            began: now,
            peer: None,
            is_open: false,
            failure: None,
            sending: Sending::new(terms),
            receiving: Receiving::new(terms),
            syn_at: now,
            syn_ack_due: false,
            reset_due: false,
            last_heard: now,
            ask_at: now,
            partial: Vec::new(),
            is_overlong: false,
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

    pub(super) fn stats(&self) -> Stats {
        Stats {
            frames_again: self.sending.again(),
            round_trip: self.sending.round_trip(),
            ..self.stats
        }
    }

    fn terms(&self) -> Terms {
        Terms::of(&self.config, self.peer.as_ref())
    }

    /// Most bytes of payload in a frame: what both sides take.
    pub(super) fn payload(&self) -> usize {
        self.terms().payload
    }

    /// How long what was written may take to arrive once nobody is left here: a window, and each frame twice.
    pub(super) fn linger(&self) -> Nanos {
        let Terms {
            window, frame_time, ..
        } = self.terms();
        let time = frame_time.saturating_mul(u64::from(window));
        time.saturating_mul(2).saturating_add(LINGER)
    }

    /// How many bytes of the stream are taken now.
    pub(super) fn write_room(&self) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        self.sending.write_room()
    }

    /// Takes bytes of the stream, and says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..self.write_room()).unwrap_or(bytes);
        self.sending.write(taken);
        taken.len()
    }

    /// Ends the stream behind what was written.
    pub(super) fn close(&mut self) {
        self.sending.close();
    }

    /// Whether the peer has everything, the end included.
    pub(super) fn is_closed(&self) -> bool {
        self.sending.is_closed()
    }

    /// Whether the peer has ended its stream, and everything before that was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.receiving.is_at_end()
    }

    /// Bytes that are kept, of either direction.
    pub(super) fn kept(&self) -> usize {
        let kept = [self.sending.kept(), self.receiving.kept(), self.partial.len()];
        kept.into_iter().sum()
    }

    pub(super) fn has_input(&self) -> bool {
        self.receiving.has_input()
    }

    /// Bytes of the stream, in order.
    pub(super) fn read(&mut self, into: &mut BytesMut, most: usize) -> usize {
        self.receiving.read(into, most)
    }

    /// Gives up: the peer is told, and nothing more is taken.
    pub(super) fn abandon(&mut self) {
        self.give_up(Failure::Abandoned);
    }

    fn give_up(&mut self, failure: Failure) {
        self.reset_due |= self.is_open && self.failure.is_none();
        self.fail(failure);
    }

    /// The carrier below is gone.
    pub(super) fn break_off(&mut self, failure: Failure) {
        self.fail(failure);
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
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
        self.stats.bytes_heard = self
            .stats
            .bytes_heard
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
            if std::mem::take(&mut self.is_overlong) {
                self.stats.bad_frames = self.stats.bad_frames.saturating_add(1);
            } else if !stuffed.is_empty() {
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
            // No sign of life: the other side may be deaf.
            Frame::Syn(hello) => self.handle_hello(hello, None, now),
            Frame::SynAck(hello, heard) => self.handle_hello(hello, Some(*heard), now),
            _ => {
                // Whoever sums with this side's nonce has heard it.
                self.open(now);
                self.hears(now);
                self.handle_open(frame, now);
            }
        }
    }

    /// The other side is there, and hears this one.
    fn hears(&mut self, now: Nanos) {
        self.last_heard = now;
        self.ask_at = now.saturating_add(ASK_AFTER);
    }

    fn handle_hello(&mut self, hello: &Hello, heard: Option<Nonce>, now: Nanos) {
        if hello.nonce == self.nonce {
            return self.fail(Failure::Echo);
        }
        if hello.version != VERSION {
            return self.fail(Failure::Version(hello.version));
        }
        if !hello.is_within_limits() {
            return;
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
                self.open(now);
                // It may wait for a word of ours.
                self.receiving.owe_at_once();
            }
            Some(_) => {}
        }
    }

    fn open(&mut self, now: Nanos) {
        if !self.is_open {
            self.is_open = true;
            let terms = self.terms();
            self.sending.open(terms);
            self.receiving.open(terms);
            self.hears(now);
        }
    }

    fn handle_open(&mut self, frame: &Frame<'_>, now: Nanos) {
        match frame {
            Frame::Data { seq, ack, payload } => {
                self.sending.acknowledged(*ack, 0, now);
                if payload.len() <= self.payload() {
                    let piece = Piece::Data(Bytes::copy_from_slice(payload));
                    self.receiving.came(*seq, piece, now);
                }
            }
            Frame::Fin { seq, ack } => {
                self.sending.acknowledged(*ack, 0, now);
                self.receiving.came(*seq, Piece::End, now);
            }
            Frame::Ack { ack, behind } => self.sending.acknowledged(*ack, *behind, now),
            Frame::Poll { ack, behind } => {
                self.sending.acknowledged(*ack, *behind, now);
                self.receiving.answer();
            }
            Frame::Reset => self.fail(Failure::Reset),
            Frame::Syn(_) | Frame::SynAck(..) => {}
        }
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
        let count = u64::try_from(out.len().saturating_sub(began)).unwrap_or(u64::MAX);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(count.saturating_add(1));
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
        if self.receiving.owes_apart() {
            return self.put_ack(out, false);
        }
        if let Some(Numbered { seq, payload }) = self.sending.poll_frame(now) {
            let (ack, tag) = (self.receiving.ack(), self.tag_out());
            match &payload {
                Some(payload) => Frame::Data { seq, ack, payload }.encode(tag, out),
                None => Frame::Fin { seq, ack }.encode(tag, out),
            }
            // It does not say what came behind a gap.
            if !self.receiving.has_gap() {
                self.receiving.has_acknowledged();
            }
            return;
        }
        if self.receiving.owes(now) {
            return self.put_ack(out, false);
        }
        let waits_for_room = self.sending.waits_for_room();
        if now >= self.ask_at && (waits_for_room || now.saturating_sub(self.last_heard) >= ASK_AFTER) {
            self.ask_at = now.saturating_add(if waits_for_room {
                self.sending.rto().max(ASK_EVERY / 4)
            } else {
                ASK_EVERY
            });
            self.put_ack(out, true);
        }
    }

    fn put_ack(&mut self, out: &mut Vec<u8>, asks: bool) {
        let (ack, behind): (Ack, u32) = (self.receiving.ack(), self.receiving.behind());
        self.receiving.has_acknowledged();
        let frame = if asks {
            Frame::Poll { ack, behind }
        } else {
            Frame::Ack { ack, behind }
        };
        frame.encode(self.tag_out(), out);
    }

    /// Notices what has taken too long.
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
            // The other direction may still work.
            return self.give_up(Failure::Silent);
        }
        self.sending.handle_timeout(now);
    }

    fn why_not_open(&self) -> Failure {
        if self.stats.bytes_heard == 0 {
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
            self.sending.timeout(),
            self.receiving.timeout(),
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
