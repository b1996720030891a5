//! The exchange: calls and references of one session, without IO.
//!
//! ```text
//!   call, answer, drop_call, release          poll_outcome, poll_event
//!            │                                        ▲
//!            ▼                                        │
//!   questions: our calls      exports: our objects that the peer may call
//!   answers: the peer's       imports: the peer's objects that we may call
//!            │                                        ▲
//!            ▼                                        │
//!          Wire (messages in one order)        handle_message, handle_body
//! ```
//!
//! Messages change the tables in the order of the wire and before anything is dispatched. What follows comes out as
//! events, in that order too; an outcome can be taken only when every event before it was taken, so nobody learns
//! of a result before the calls that came ahead of it are on their way to their objects.
//!
//! Read [`Exchange`] first; then `calling` and `serving`, the two halves of a call; `references`, what is counted;
//! `receiving`, message by message; `ending`. The tables are in `exports`, `imports`, `questions` and `answers`.
//! PROTOCOL.md chapters 5 to 8 are what they implement.

mod answers;
mod breach;
mod calling;
mod credit;
mod deadlines;
mod ending;
mod exports;
#[doc(hidden)]
pub mod fuzzing;
mod imports;
#[cfg(any(test, fuzzing))]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests and the fuzzer alone use this"
)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests use all of it"))]
mod model;
mod questions;
mod receiving;
mod references;
mod rules;
mod serving;
mod shapes;
mod shelves;
#[cfg_attr(
    not(any(test, fuzzing)),
    expect(dead_code, reason = "the tests use all of it")
)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;
mod trace;
mod waiting;
mod window;
mod wire;

use std::collections::VecDeque;

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};
use farref_framing::{LaneId, Nanos};

use crate::message::{self, Hello, Message, PeerLimits, VERSION};
use crate::protocol::{BodyRef, Event, Handles, Incoming, Outgoing, TableStats};
use crate::sparse::{SparseMap, SparseQueue};
use answers::Answer;
use deadlines::{Deadlines, Timed};
use exports::Exports;
use imports::Imports;
use questions::Questions;
use window::Window;
use wire::{Of, Outbox, Written};

pub use breach::Breach;
pub(crate) use shapes::{LONGEST, described};
pub use wire::Wire;

/// Most connections that a call may cross (PROTOCOL.md § 7.7).
pub const MAX_HOPS: u8 = 32;

/// Fewest bytes of a message that every peer takes; what is assumed until the link knows better.
const LEAST_MESSAGE: u64 = 1024;

/// Room for a message that waits in each half of what may: one that the wire has no room for is no reason to refuse calls.
const LEAST_UNREAD: u64 = 2 * LEAST_MESSAGE;

/// Room for events, for calls among them, and for bytes of a head, that is kept when it is not needed.
const MANY_EVENTS: usize = 512;
const MANY_CALLS: usize = 256;
const LONG_HEAD: usize = 4096;

/// What this side accepts of the peer, and how it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeConfig {
    /// Calls of the peer's that may be under way at once. Default 16,384, at least 1.
    pub max_calls: u64,
    /// Bytes of arguments of the peer's calls that may be under way at once, with names; each reference counted as 32, or as
    /// 4096 if it is broken. Default 64 MiB.
    pub max_call_bytes: u64,
    /// Objects that may be held in either direction, and results of the peer's calls that are kept for calls on
    /// them. Default 1,048,576, at least 1.
    pub max_objects: u64,
    /// How deep calls may be nested. Default 256.
    pub max_depth: u16,
    /// References in one message. Default 131,072.
    pub max_references: u32,
    /// What may wait because the wire takes no more, in bytes. Default 256 MiB, at least 2 KiB.
    pub max_unread: u64,
    /// The peer may hold so many objects of this side before it is told of, once. Default never.
    pub warn_at_exports: u64,
    /// Whether types are described to the peer, and asked of it, where both sides have different ones. Default true.
    pub tells_shapes: bool,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            max_calls: 16_384,
            max_call_bytes: 64 << 20,
            max_objects: 1 << 20,
            max_depth: 256,
            max_references: 1 << 17,
            max_unread: 256 << 20,
            warn_at_exports: u64::MAX,
            tells_shapes: true,
        }
    }
}

/// A message that came.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "what a link yields, without its types")]
pub struct Inbound {
    /// The head, and the body right behind it unless that comes by itself.
    pub bytes: Bytes,
    /// The lane on which the body comes, and its length.
    pub bulk: Option<(LaneId, u64)>,
}

/// Calls and references of one session, without IO: see the [module](self).
///
/// # Invariant
///
/// Every table changes in the step in which the message that changes the peer's mirror of it is written or read.
/// Handles of the engine are dropped inside only where that runs no code of the user's: objects leave as
/// [`Event::Unexported`].
pub struct Exchange<H: Handles> {
    config: ExchangeConfig,
    /// What the peer accepts, once it has introduced itself.
    peer: Option<PeerLimits>,
    /// Longest message that the peer accepts.
    max_message: u64,
    exports: Exports<H>,
    imports: Imports<H>,
    questions: Questions<H>,
    answers: Window<Answer<H>>,
    /// What the peer's calls have under way.
    served: credit::Credit,
    /// Copies to give back with the next message.
    releases: Vec<(u64, u64)>,
    /// Calls that the peer is told with the next message to be finished.
    finished: Vec<u64>,
    /// They go even if nothing else does.
    finish_now: bool,
    /// Bodies that come in by themselves, and whose they are.
    bodies: SparseMap<LaneId, Timed>,
    /// Flushes that were not acknowledged, and the calls that wait for them.
    flushes: SparseMap<u64, u64>,
    next_flush: u64,
    /// The peer is told that no further calls come once those that wait for its limits have gone.
    drain_due: bool,
    /// Acknowledgements that wait for calls which wait for the peer's limits.
    acks: SparseQueue<serving::Ack>,
    deadlines: Deadlines,
    shapes: shapes::ShapeTable,
    happenings: VecDeque<Happening<H>>,
    /// What each [`Happening::Call`] is, in the same order.
    calls: VecDeque<Incoming<H>>,
    /// Answers whose queues can go on.
    settling: Vec<u64>,
    outbox: Outbox,
    /// Memory for the head of the next message.
    head: Vec<u8>,
    over: bool,
    rules: rules::Rules,
    /// Nothing while nobody asked for it.
    trace: Option<Box<trace::Trace>>,
}

/// Something that takes effect in its turn among the events: small, as most are outcomes and there may be many.
enum Happening<H: Handles> {
    /// The next of the calls is for the engine.
    Call,
    /// An object is let go.
    Unexported(H::Object),
    /// For the engine, and rare.
    Event(Box<Event<H>>),
    /// The outcome of a call of ours may be taken, or is to be flushed first.
    Outcome(u64),
    /// Everything called on a result was handed on: the peer may be told.
    Passed { flush: u64, answer: u64 },
}

impl<H: Handles> Exchange<H> {
    /// A session that shows `root`, and says so at once.
    pub fn new(config: ExchangeConfig, root: Outgoing<H>, wire: &mut dyn Wire) -> Self {
        let mut exchange = Self {
            // And the place of the root, if there is none.
            exports: Exports::with_room_for(config.max_objects.saturating_add(1)),
            config: ExchangeConfig {
                max_unread: config.max_unread.max(LEAST_UNREAD),
                ..config
            },
            peer: None,
            max_message: LEAST_MESSAGE,
            imports: Imports::new(),
            questions: Questions::new(),
            answers: Window::starting_at(1),
            served: credit::Credit::default(),
            releases: Vec::new(),
            finished: Vec::new(),
            finish_now: false,
            bodies: SparseMap::default(),
            flushes: SparseMap::default(),
            next_flush: 1,
            drain_due: false,
            acks: SparseQueue::default(),
            deadlines: Deadlines::default(),
            shapes: shapes::ShapeTable::default(),
            happenings: VecDeque::new(),
            calls: VecDeque::new(),
            settling: Vec::new(),
            outbox: Outbox::default(),
            head: Vec::new(),
            over: false,
            rules: rules::Rules::default(),
            trace: None,
        };
        let root = exchange.hand_out_root(root);
        let config = &exchange.config;
        let hello = Hello {
            version: VERSION,
            limits: PeerLimits {
                calls: config.max_calls,
                call_bytes: config.max_call_bytes,
                objects: config.max_objects,
                depth: config.max_depth.into(),
                references: config.max_references.into(),
                streams: 0,
            },
            features: if config.tells_shapes { message::SHAPES } else { 0 },
            root,
            // People know each other by addresses and keys.
            name: String::new(),
        };
        exchange.write(wire, &Message::Hello(hello));
        exchange
    }

    /// The peer accepts messages of that many bytes.
    pub fn set_max_message(&mut self, bytes: u64) {
        self.max_message = bytes;
    }

    /// Tells the peer that no further calls come but those that wait for its limits, and asks for none.
    pub fn drain(&mut self, wire: &mut dyn Wire) {
        self.drain_due = !self.over;
        self.write_due_drain(wire);
    }

    fn write_due_drain(&mut self, wire: &mut dyn Wire) {
        if self.drain_due && self.questions.waiting.is_empty() {
            self.drain_due = false;
            self.write(wire, &Message::Drain);
        }
    }

    /// The next event, in the order of the wire.
    pub fn poll_event(&mut self, wire: &mut dyn Wire) -> Option<Event<H>> {
        while let Some(happening) = self.happenings.pop_front() {
            match happening {
                Happening::Outcome(question) => {
                    if let Some(waiter) = self.show(question, wire) {
                        return Some(Event::Ready(waiter));
                    }
                }
                Happening::Call => return self.calls.pop_front().map(Event::Call),
                Happening::Unexported(object) => return Some(Event::Unexported(object)),
                Happening::Event(event) => return Some(*event),
                Happening::Passed { flush, answer } => self.acknowledge(flush, answer, wire),
            }
        }
        if self.happenings.capacity() > MANY_EVENTS || self.calls.capacity() > MANY_CALLS {
            self.shrink();
        }
        None
    }

    /// After a burst, its memory is not kept.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self) {
        self.happenings.shrink_to(MANY_EVENTS);
        self.calls.shrink_to(MANY_CALLS);
    }

    /// Whether [`poll_event`](Self::poll_event) has something to do.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.happenings.is_empty()
    }

    /// Adds an event from below, in its turn.
    pub fn push_event(&mut self, event: Event<H>) {
        self.happenings.push_back(Happening::Event(Box::new(event)));
    }

    /// Gives up calls whose time is over.
    pub fn handle_timeout(&mut self, now: Nanos, wire: &mut dyn Wire) {
        self.tell_time(now);
        while let Some((at, timed)) = self.deadlines.pop_due(now) {
            if !self.is_set(at, timed) {
                self.deadlines.was_lifted();
                continue;
            }
            match timed {
                Timed::Question(question) => self.expire_question(question, wire),
                Timed::Answer(answer) => self.expire_answer(answer, wire),
            }
        }
        self.settle(wire);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.deadlines.next()
    }

    /// Whether [`flush`](Self::flush) has something to write.
    #[must_use]
    pub fn wants_flush(&self, wire: &dyn Wire) -> bool {
        !self.releases.is_empty()
            || self.finish_now
            || !self.outbox.is_empty()
            || (!self.questions.waiting.is_empty() && !wire.is_congested() && self.can_admit())
            || (self.drain_due && self.questions.waiting.is_empty())
    }

    /// Whether something waits to go along with the next message that is not worth one of its own: that calls are finished.
    #[must_use]
    pub fn has_unhurried(&self) -> bool {
        !self.finished.is_empty() && !self.finish_now
    }

    /// It has waited long enough: [`flush`](Self::flush) writes it.
    pub fn hurry(&mut self) {
        self.finish_now = !self.finished.is_empty();
    }

    /// Writes what was put off: releases, what the wire had no room for, calls that waited for that room.
    pub fn flush(&mut self, now: Nanos, wire: &mut dyn Wire) {
        self.tell_time(now);
        self.write_out(wire);
        self.admit(now, wire);
        self.write_due_drain(wire);
    }

    /// Writes what was put off and must not be lost.
    pub fn write_out(&mut self, wire: &mut dyn Wire) {
        if !self.outbox.is_empty() {
            self.flush_outbox(wire);
        }
        self.write_owed(wire);
    }

    /// Nothing has come for a while: gives back memory that is of use only while something comes or goes.
    pub fn rest(&mut self) {
        self.happenings.shrink_to_fit();
        self.calls.shrink_to_fit();
        self.settling.shrink_to_fit();
        self.releases.shrink_to_fit();
        self.finished.shrink_to_fit();
        self.acks.rest();
        self.bodies.rest();
        self.flushes.rest();
        self.head = Vec::new();
        self.outbox.rest();
        self.deadlines.rest();
        self.answers.rest();
        self.served.rest();
        self.questions.rest();
    }

    /// Sizes of the tables.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        TableStats {
            exports: self.exports.len(),
            imports: self.imports.len(),
            calls: self.questions.table.len(),
            answers: self.answers.len(),
            running: self.served.calls(),
        }
    }

    /// Writes a message without a body, behind what is owed.
    fn write(&mut self, wire: &mut dyn Wire, message: &Message<'_>) {
        self.write_of(wire, message, Of::None);
    }

    /// The same of a message that is somebody's.
    fn write_of(&mut self, wire: &mut dyn Wire, message: &Message<'_>, of: Of) -> Written {
        self.write_owed(wire);
        self.encode(message);
        self.outbox.write(wire, &self.head, BodyRef::Slice(&[]), of)
    }

    /// Encodes a message into `head`.
    fn encode(&mut self, message: &Message<'_>) {
        message.encode(self.empty_head());
    }

    /// Room for a message.
    #[inline]
    fn empty_head(&mut self) -> &mut Vec<u8> {
        self.head.clear();
        self.head.shrink_to(LONG_HEAD);
        &mut self.head
    }

    fn flush_outbox(&mut self, wire: &mut dyn Wire) {
        let (table, served, answers) = (&mut self.questions.table, &mut self.served, &mut self.answers);
        self.outbox.flush(wire, |of, lane, position| match of {
            Of::None => {}
            Of::Question(question) => {
                if let Some(question) = table.get_mut(question) {
                    question.lane = lane;
                    question.position = Some(position);
                }
            }
            Of::Answer { depth, bytes } => served.give(depth, bytes),
            Of::Flush(answer) => {
                if let Some(answer) = answers.get_mut(answer) {
                    answer.flushed();
                }
            }
        });
    }

    /// Whether the call still has this deadline.
    fn is_set(&self, at: Nanos, timed: Timed) -> bool {
        is_set(&self.questions, &self.answers, at, timed)
    }

    /// A call that had a deadline is over.
    fn lift_deadline(&mut self) {
        let (questions, answers) = (&self.questions, &self.answers);
        self.deadlines
            .lift(|at, timed| is_set(questions, answers, at, timed));
    }
}

fn is_set<H: Handles>(
    questions: &Questions<H>,
    answers: &Window<Answer<H>>,
    at: Nanos,
    timed: Timed,
) -> bool {
    let deadline = match timed {
        Timed::Question(question) => questions
            .table
            .get(question)
            .and_then(|question| question.deadline),
        Timed::Answer(answer) => answers.get(answer).and_then(|answer| answer.deadline),
    };
    deadline == Some(at)
}

/// A limit was met.
#[cold]
fn limit(what: &'static str, limit: u64) -> Error {
    Error::new(ErrorKind::Limit, format!("{what}: the limit is {limit}"))
}

impl<H: Handles> std::fmt::Debug for Exchange<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("stats", &self.stats())
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}
