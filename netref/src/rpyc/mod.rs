//! RPyC, the protocol of Python's remote objects, as one that this engine speaks.
//!
//! ```text
//!  Object, Netref                      Python
//!   │ by name, with values              │ attributes, calls, special methods
//!   ▼                                   ▼
//!  calling  ── requests ──►   wire   ── requests ──►  serving ──► events: calls of objects here
//!  fetch    ◄── replies ──  (frames) ◄── replies ──   face, data: what Python sees of them
//!   │                                   │
//!  imports: what is theirs             exports: what is ours
//! ```
//!
//! A peer in Python knows no interfaces: it is called by name, and its values say what they are. Whatever is simple and
//! immutable in Python goes by value, everything else by reference, lists and dictionaries too. So the result of a typed
//! call is fetched, piece by piece, before it is read (`fetch`), and what a typed method takes as well; and lists, maps and
//! structs of this side are served to Python as its own kind (`data`).
//!
//! Python objects are [`Object`](crate::Object)s, and [`Object::cast`](crate::Object::cast) makes a typed netref of one.
//! Objects of this side look to Python as its own do (`face`): attributes, methods with keywords, `len`, iteration, `str`,
//! `dir`, documentation, exceptions of the classes that fit. Nothing else of them can be reached.
//!
//! Both generations of the wire are spoken: RPyC 4.1 to 5.3, and 6. Reading order: `wire` (messages), `packs` (names of
//! objects), `link` and `exports`, `imports` (the tables), `calling`, `fetch`, `serving`, `face`, `data` and `growth`,
//! `exception`.

mod bound;
mod calling;
mod data;
mod exception;
mod exports;
mod face;
mod fetch;
mod growth;
mod imports;
mod link;
mod packs;
mod serving;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::BrineLimits;
use farref_boxing::{Certainty, Error, ErrorKind, Value};
use farref_framing::rpyc::{FrameLimits, take_frame};
use farref_framing::{Batch, CloseReason, Nanos, StreamKey};
use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::connection::Root;
use crate::hosted::Exported;
use crate::invocation::{Dispatched, Invocation};
use crate::protocol::{
    CallStart, CancelReason, Event, Factory, Protocol, Received, Reply, TableStats, Tables, Timing, Traffic,
};
use crate::remote::EngineHandles;
use crate::waiter::Waiter;

use self::calling::{Call, Pending, Queued};
use self::exports::Exports;
use self::fetch::Fetch;
use self::growth::Growth;
use self::imports::Imports;
use self::link::{Graves, Link, Object};
use self::serving::{Answer, Asker};
use self::wire::{Head, Kind, Message, Threads, broken, handler, malformed};

pub use self::exception::Exception;
pub use self::wire::{Generation, OtherGeneration};

/// RPyC over a byte stream, for [`Connection::over`](crate::Connection::over).
pub struct Rpyc {
    is_dialer: bool,
    generation: Option<Generation>,
    /// Both sides name the threads that messages are for.
    bound: bool,
    limits: Limits,
    exports: Exports,
    imports: Imports,
    growth: Growth,
    events: VecDeque<Event<EngineHandles>>,
    /// Objects to be dropped outside the lock.
    graves: Graves,
    out: BytesMut,
    /// Calls of ours, by number.
    calls: FxHashMap<u64, Call>,
    /// What the replies to our requests are for, by the number of the request.
    pending: FxHashMap<u64, Pending>,
    /// Requests that cannot be sent yet.
    queued: VecDeque<Queued>,
    /// Calls of the peer's, by number.
    answers: FxHashMap<u64, Answer>,
    /// Bytes of the arguments of these.
    answering: usize,
    /// Held once more by each request that waits for elements which others have asked for: so they are counted.
    parked: Arc<()>,
    fetches: FxHashMap<u64, Fetch>,
    cursors: Vec<calling::Cursor>,
    /// The peer's root.
    root: PeerRoot,
    releases: VecDeque<(packs::Pack, u64)>,
    deadlines: BTreeSet<(Nanos, u64)>,
    /// Calls of ours that are a part of a chain and not over.
    chained: BTreeSet<u64>,
    /// When something came last, once it is timed.
    now: Nanos,
    /// A round trip was asked for: nothing else is measured.
    is_timed: bool,
    last_call: u64,
    last_request: u64,
    last_answer: u64,
    last_fetch: u64,
    /// We have said goodbye, or the peer has: nothing more is sent.
    is_closing: bool,
    is_over: bool,
    traffic: Traffic,
}

/// What is known of the peer's root.
#[derive(Debug, Default)]
enum PeerRoot {
    /// Nobody has asked for it.
    #[default]
    Unasked,
    /// It is promised under this number; the peer was asked, or will be when somebody calls it.
    Promised { number: u64, asked: bool },
    /// It was asked for, and nobody waits for it but the engine.
    Known,
}

/// What a peer may make this side keep.
#[derive(Debug, Clone)]
struct Limits {
    frame: FrameLimits,
    brine: BrineLimits,
    calls: usize,
    call_bytes: usize,
    objects: usize,
    /// Bytes that wait for the peer to take them.
    unsent: usize,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let bytes = size(config.max_call_bytes);
        // A frame is to RPyC what a large body is to farref: the default is the same.
        let most = size(config.limits.receive_pool);
        let brine = BrineLimits::default();
        Self {
            frame: FrameLimits {
                payload: most,
                inflated: most,
            },
            brine: BrineLimits {
                items: brine.items.min(most / BYTES_OF_A_VALUE),
                ..brine
            },
            calls: usize::try_from(config.max_calls).unwrap_or(usize::MAX).max(1),
            call_bytes: bytes,
            objects: usize::try_from(config.max_objects).unwrap_or(usize::MAX).max(1),
            unsent: size(config.limits.backlog).min(UNSENT),
        }
    }
}

/// So many bytes of a payload there are for each value in it, at least, as it takes more than one in memory.
const BYTES_OF_A_VALUE: usize = 32;

/// The most bytes that may wait for the peer to take them.
const UNSENT: usize = 64 << 20;

impl Rpyc {
    /// The side that dialled: it shows `root` to a peer that asks for it, and asks for the peer's at once.
    ///
    /// The first to speak has to know how: if the peer speaks the other generation, the connection fails with an error that
    /// has [`OtherGeneration`] in it.
    #[must_use]
    pub fn dial(root: Root, generation: Generation, config: &Config) -> Self {
        let mut rpyc = Self::new(root, config);
        rpyc.is_dialer = true;
        rpyc.generation = Some(generation);
        rpyc
    }

    /// The side that was dialled: it shows `root`, and finds out by the first message how the peer speaks. The peer's root
    /// is asked for when it is called.
    #[must_use]
    pub fn accept(root: Root, config: &Config) -> Self {
        Self::new(root, config)
    }

    /// Names the threads that messages are for, which Python does if it is told to `bind_threads`; without, the side that
    /// was dialled finds that out.
    #[must_use]
    pub const fn binding_threads(mut self) -> Self {
        self.bound = true;
        self
    }

    fn new(root: Root, config: &Config) -> Self {
        let limits = Limits::from(config);
        let graves = Graves::default();
        let root = root.into_object().map(|root| Object::of(root, &graves));
        Self {
            is_dialer: false,
            generation: None,
            bound: false,
            graves,
            exports: Exports::new(root, limits.objects),
            limits,
            imports: Imports::default(),
            growth: Growth::default(),
            events: VecDeque::new(),
            out: BytesMut::new(),
            calls: FxHashMap::default(),
            pending: FxHashMap::default(),
            queued: VecDeque::new(),
            answers: FxHashMap::default(),
            answering: 0,
            parked: Arc::default(),
            fetches: FxHashMap::default(),
            cursors: Vec::new(),
            root: PeerRoot::default(),
            releases: VecDeque::new(),
            deadlines: BTreeSet::new(),
            chained: BTreeSet::new(),
            now: 0,
            is_timed: false,
            last_call: 0,
            last_request: 0,
            last_answer: 0,
            last_fetch: 0,
            is_closing: false,
            is_over: false,
            traffic: Traffic {
                carriers: 1,
                ..Traffic::default()
            },
        }
    }

    /// The peer's root has been asked for, or will be: the engine can hand it out.
    fn introduce(&mut self, factory: &dyn Factory<EngineHandles>) {
        if !matches!(self.root, PeerRoot::Unasked) {
            return;
        }
        if self.is_dialer {
            self.root = PeerRoot::Known;
            return self.ask_for_root();
        }
        let proxy = self.imports.promise(factory);
        self.root = PeerRoot::Promised {
            number: proxy.id(),
            asked: false,
        };
        self.events.push_back(Event::Opened(Received::Import(proxy)));
    }

    /// One whole payload came.
    fn handle(&mut self, mut payload: Bytes, factory: &dyn Factory<EngineHandles>) -> Result<(), Error> {
        // As Python does: it says nothing.
        if payload.is_empty() {
            return Ok(());
        }
        self.recognise(&payload)?;
        let bytes = payload.len();
        let generation = self.generation.unwrap_or(Generation::Six);
        let message = wire::read(&mut payload, generation, self.bound, &self.limits.brine)?;
        self.traffic.messages_received = self.traffic.messages_received.saturating_add(1);
        let Message {
            head,
            threads,
            mut content,
        } = message;
        match head {
            Head::Request(number) => {
                let asker = Asker {
                    number,
                    threads,
                    bytes,
                };
                self.requested(&asker, content, factory)
            }
            Head::Reply(number) => {
                let (value, error) = self.unbox(&mut content, factory)?;
                let outcome = match error {
                    None => Ok(value),
                    Some(exception) => Err(exception.into_error()),
                };
                self.replied(number, outcome);
                Ok(())
            }
            Head::Exception(number) => {
                let exception = Exception::read(content.value().map_err(malformed)?);
                self.replied(number, Err(exception.into_error()));
                Ok(())
            }
        }
    }

    /// Finds out how the peer speaks, or that it speaks otherwise than it was spoken to.
    fn recognise(&mut self, payload: &[u8]) -> Result<(), Error> {
        if self.traffic.messages_received > 0 {
            return Ok(());
        }
        let Some((speaks, bound)) = wire::recognise(payload) else {
            let text = "the peer does not speak RPyC 4.1 to 6";
            return Err(Error::new(ErrorKind::Incompatible, text));
        };
        match self.generation {
            Some(known) if known != speaks => {
                return Err(Error::wrap(ErrorKind::Incompatible, OtherGeneration { speaks }));
            }
            Some(_) if self.bound != bound => {
                let text = if bound {
                    "the peer binds threads: say `bind-threads` in the address"
                } else {
                    "the peer does not bind threads: leave `bind-threads` out of the address"
                };
                return Err(Error::new(ErrorKind::Incompatible, text));
            }
            Some(_) => {}
            None => {
                self.generation = Some(speaks);
                self.bound = bound;
                self.send_queued();
            }
        }
        Ok(())
    }

    /// Writes a message: its number by `number`, what it says by `content`. Nothing of it is left if that cannot be.
    fn write(
        &mut self,
        kind: Kind,
        number: impl FnOnce(&mut BytesMut),
        threads: Option<Threads>,
        content: impl FnOnce(&mut Exports, &Imports, &mut BytesMut) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.is_closing || self.is_over {
            return Ok(());
        }
        let generation = self.generation.unwrap_or(Generation::Six);
        let Self {
            exports,
            imports,
            out,
            ..
        } = self;
        wire::write(out, generation, threads, kind, number, |out| {
            content(exports, imports, out)
        })?;
        self.traffic.messages_sent = self.traffic.messages_sent.saturating_add(1);
        Ok(())
    }

    /// Drops something where it may run code of the user's: by the engine.
    fn discard(&mut self, garbage: impl Send + 'static) {
        let garbage: Arc<dyn Exported> = Arc::new(Garbage(Mutex::new(garbage)));
        self.events.push_back(Event::Unexported(garbage));
    }

    /// What was received is given back, when that does not hold up a call: a reply to a release in front of one waits for
    /// an acknowledgement over TCP.
    fn may_release(&self) -> bool {
        self.pending.is_empty() || self.releases.len() >= MANY_RELEASES
    }

    fn send_releases(&mut self) {
        while self.generation.is_some()
            && self.may_release()
            && let Some((pack, copies)) = self.releases.pop_front()
        {
            self.send_release(&pack, copies);
        }
    }
}

impl Protocol<EngineHandles> for Rpyc {
    fn is_by_name(&self) -> bool {
        true
    }

    fn timing(&self) -> Timing {
        if self.is_timed {
            Timing::Exact
        } else {
            Timing::Untimed
        }
    }

    fn handle_bytes(
        &mut self,
        _stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        factory: &dyn Factory<EngineHandles>,
        now: Nanos,
    ) -> Result<(), Error> {
        self.now = now;
        self.introduce(factory);
        let before = input.len();
        while let Some(payload) =
            take_frame(input, &self.limits.frame).map_err(|error| Error::wrap(ErrorKind::Malformed, error))?
        {
            self.handle(payload, factory)?;
            // They count, too, while the carrier takes nothing.
            if self.releases.len() >= MANY_RELEASES {
                self.send_releases();
            }
            if self.out.len() > self.limits.unsent {
                let text = format!(
                    "the peer takes nothing of {} KiB that it was sent",
                    self.limits.unsent >> 10
                );
                return Err(Error::new(ErrorKind::Limit, text));
            }
            if self.is_over {
                break;
            }
        }
        let taken = u64::try_from(before.saturating_sub(input.len())).unwrap_or_default();
        self.traffic.bytes_received = self.traffic.bytes_received.saturating_add(taken);
        if end && !input.is_empty() && !self.is_over {
            return Err(broken("the beginning of a message, and no more"));
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Nanos) -> Result<(), Error> {
        while let Some((due, call)) = self.deadlines.first().copied() {
            if due > now {
                break;
            }
            self.deadlines.pop_first();
            self.expire(call);
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    fn poll_transmit(&mut self, batch: &mut Batch, _now: Nanos) -> bool {
        self.send_releases();
        if self.out.is_empty() {
            return false;
        }
        let many = self.out.len().min(AT_ONCE);
        if many <= COPIED {
            // Small messages are copied, and their room is used again, from its beginning.
            batch.put(&self.out);
            self.out.clear();
        } else {
            batch.put_bytes(self.out.split_to(many).freeze());
        }
        let sent = u64::try_from(many).unwrap_or_default();
        self.traffic.bytes_sent = self.traffic.bytes_sent.saturating_add(sent);
        true
    }

    fn wants_write(&self) -> bool {
        !self.out.is_empty() || (!self.releases.is_empty() && self.generation.is_some() && self.may_release())
    }

    fn poll_event(&mut self) -> Option<Event<EngineHandles>> {
        let event = self.events.pop_front();
        event.or_else(|| self.graves.next().map(Event::Unexported))
    }

    fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.graves.is_empty()
    }

    fn call(&mut self, start: CallStart<'_, EngineHandles>, _now: Nanos) -> Result<u64, Error> {
        self.begin(start)
    }

    fn poll_outcome(
        &mut self,
        call: u64,
        waiter: &mut dyn FnMut(Option<Waiter>) -> Waiter,
    ) -> Poll<calling::Outcome> {
        self.take_outcome(call, waiter)
    }

    fn is_ready(&self, call: u64) -> bool {
        self.calls.get(&call).is_none_or(Call::is_over)
    }

    fn drop_call(&mut self, call: u64, _reason: CancelReason) -> Option<Waiter> {
        self.forget(call)
    }

    fn failure(error: Error) -> Error {
        Error::wrap(error.kind(), Exception::of(&error))
    }

    fn answer(&mut self, answer: u64, reply: Reply<'_, EngineHandles>) {
        self.answered(answer, reply);
    }

    fn answer_plain(&mut self, answer: u64, value: Value) -> Result<(), Value> {
        self.told(answer, value);
        Ok(())
    }

    fn release(&mut self, import: u64, generation: u32) {
        if let Some(given_back) = self.imports.give_back(import, generation) {
            self.releases.push_back(given_back);
        }
        self.cursors.retain(|cursor| !cursor.is_of(import));
    }

    fn rest(&mut self) {
        self.events.shrink_to_fit();
        self.queued.shrink_to_fit();
        self.releases.shrink_to_fit();
        self.calls.shrink_to_fit();
        self.pending.shrink_to_fit();
        self.answers.shrink_to_fit();
        self.fetches.shrink_to_fit();
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
    }

    fn ping(&mut self, now: Nanos) {
        self.send_ping(now);
    }

    fn drain(&mut self) {
        // There is no way to tell a peer.
    }

    fn is_told_to_drain(&self) -> bool {
        false
    }

    fn close(&mut self, _reason: CloseReason) {
        if self.generation.is_some() {
            self.send_plain(handler::CLOSE, &[], Pending::Nothing);
        }
        self.is_closing = true;
    }

    fn sever(&mut self, error: &Error) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let certainty = match error.certainty() {
            Some(_) => ErrorKind::Disconnected(Certainty::Unknown),
            None => error.kind(),
        };
        let unsent: Vec<u64> = self.queued.drain(..).filter_map(|queued| queued.call()).collect();
        for call in unsent {
            let kind = ErrorKind::Disconnected(Certainty::NotSent);
            self.finish(call, Err(error.clone().with_kind(kind)));
        }
        let waiting: Vec<u64> = self.calls.keys().copied().collect();
        for call in waiting {
            self.finish(call, Err(error.clone().with_kind(certainty)));
        }
        for answer in self.answers.keys() {
            self.events.push_back(Event::Cancelled {
                answer: *answer,
                reason: CancelReason::Shutdown,
            });
        }
        let pending = (
            std::mem::take(&mut self.pending),
            std::mem::take(&mut self.answers),
            std::mem::take(&mut self.fetches),
            std::mem::take(&mut self.cursors),
        );
        let held: Vec<Arc<Link>> = self.exports.clear().collect();
        self.discard((pending, held, self.growth.untangle()));
        self.imports.clear();
        self.releases.clear();
        self.deadlines.clear();
        self.chained.clear();
    }

    fn stats(&self) -> TableStats {
        TableStats {
            exports: self.exports.len(),
            imports: self.imports.len(),
            calls: self.calls.len(),
            answers: self.answers.len(),
            running: self.answers.len(),
        }
    }

    fn tables(&self, most: usize) -> Tables<EngineHandles> {
        Tables {
            exports: self.exports.all().take(most).collect(),
            imports: self.imports.all().take(most).collect(),
            ..Tables::default()
        }
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl std::fmt::Debug for Rpyc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpyc")
            .field("generation", &self.generation)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Something that is to be dropped outside the connection's lock, in the form in which the engine takes such.
struct Garbage<T>(Mutex<T>);

impl<T: Send + 'static> Exported for Garbage<T> {
    fn interface_id(&self) -> u64 {
        0
    }

    fn interface(&self) -> Option<&'static crate::interface::Interface> {
        None
    }

    fn dispatch(&self, invocation: Invocation) -> Dispatched {
        invocation.fail(ErrorKind::Broken.into(), false);
        Dispatched::Done
    }

    fn key(&self) -> usize {
        0
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn std::any::Any>> {
        None
    }
}

/// So much is handed to the carrier at once.
const AT_ONCE: usize = 64 << 10;
/// Up to so much is copied rather than shared.
const COPIED: usize = 8 << 10;
/// So many releases are not held back any more.
const MANY_RELEASES: usize = 64;

/// A value that is a tuple.
fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Tuple(items.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine asks for events for as long as there are graves.
    #[test]
    fn graves_are_empty_once_what_was_in_them_is_taken() {
        let graves = Graves::default();
        for _ in 0..2 {
            drop(Object::of(Arc::new(Garbage(Mutex::new(()))), &graves));
        }
        for left in [1, 0] {
            assert!(!graves.is_empty());
            assert!(graves.next().is_some());
            assert_eq!(graves.is_empty(), left == 0);
        }
        assert!(graves.next().is_none());
    }

    /// Whoever had asked for something long once kept as much of this side's memory as long as it was there.
    #[test]
    fn at_rest_there_is_no_memory_of_a_long_answer() {
        let mut rpyc = Rpyc::accept(Root::NONE, &Config::default());
        let mut batch = Batch::new();
        for len in [1 << 20, 1] {
            let content = |_: &mut Exports, _: &Imports, out: &mut BytesMut| {
                out.extend_from_slice(&vec![7; len]);
                Ok(())
            };
            rpyc.write(Kind::Reply, |_| {}, None, content).unwrap();
            while rpyc.poll_transmit(&mut batch, 0) {
                batch.clear();
            }
        }
        assert!(rpyc.out.capacity() >= 1 << 20, "{}", rpyc.out.capacity());
        rpyc.rest();
        assert_eq!(rpyc.out.capacity(), 0);
    }
}
