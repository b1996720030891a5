//! The seam between the engine and what is spoken on the wire.
//!
//! A [`Protocol`] is a state machine without IO: bytes and commands go in, bytes and events come out, time is
//! passed in. The native exchange ([`Native`](crate::native::Native)) is one; Python's RPyC will be another; a
//! toy one in the tests proves that nothing native leaks through. The engine owns the carrier, the threads and
//! the user's objects, and knows none of the bytes.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use farref_boxing::{Error, ErrorKind, Shape, Value};
use farref_framing::{
    AttachConfig, Batch, CloseReason, Nanos, Placement, RejectCode, Rejection, ResumeRequest, SessionId,
    StreamKey, Tombstone,
};
use smallvec::SmallVec;

pub use crate::invocation::Plain;

/// The kinds of handle that a protocol keeps for its engine, without looking inside.
///
/// The engine's own are [`EngineHandles`](crate::EngineHandles); model tests use plain numbers.
pub trait Handles: Clone + fmt::Debug + Sized + 'static {
    /// A hosted object, as exports hold it.
    type Object: Clone + fmt::Debug + Send + 'static;
    /// A strong handle on an import. Dropping the last one enqueues a release and does nothing else.
    type Proxy: Clone + fmt::Debug + Send + 'static;
    /// A weak handle on an import.
    type WeakProxy: Send + 'static;
    /// Whoever waits for a call: woken by the engine, outside every lock.
    type Waiter: fmt::Debug + Send + 'static;

    /// The weak handle of `proxy`.
    fn downgrade(proxy: &Self::Proxy) -> Self::WeakProxy;
    /// The strong handle, while there is one.
    fn upgrade(weak: &Self::WeakProxy) -> Option<Self::Proxy>;
    /// Identity of the object: equal keys are the same object while it lives. It is asked often, and never changes.
    fn key(object: &Self::Object) -> usize;
    /// What the import is known by.
    fn imported(proxy: &Self::Proxy) -> Imported;
}

/// Makes proxies for imports; lent to the protocol while it reads.
pub trait Factory<H: Handles> {
    /// A new proxy for `import`.
    fn proxy(&self, import: Imported) -> H::Proxy;

    /// The time to the nanosecond, where the protocol was told it roughly. Default: as it was told.
    fn exactly(&self, told: Nanos) -> Nanos {
        told
    }
}

/// What an import is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The peer's number for what it exported.
    pub id: u64,
    /// Which of the successive proxies of this import this is (PROTOCOL.md § 6.3).
    pub generation: u32,
    /// The peer's number for the object behind it: equal numbers are the same object.
    pub object: u64,
    /// The interface as handed out.
    pub interface: u64,
}

/// A reference about to be written.
#[derive(Debug, Clone)]
#[expect(
    clippy::exhaustive_enums,
    reason = "every protocol must say how it writes each of them"
)]
pub enum Outgoing<H: Handles> {
    /// No reference.
    Null,
    /// A reference that is broken, and why.
    Broken(Error),
    /// An object hosted here.
    Local {
        /// The object.
        object: H::Object,
        /// The interface as handed out.
        interface: u64,
        /// Lent for the length of the call rather than counted.
        lent: bool,
    },
    /// An import of this very connection: it goes home.
    Home {
        /// Keeps the import from being released before the message is written.
        proxy: H::Proxy,
        /// The peer's export.
        id: u64,
    },
}

/// A reference that was read.
#[derive(Debug, Clone)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the engine must say what it does with each of them"
)]
pub enum Received<H: Handles> {
    /// No reference.
    Null,
    /// A broken reference, and why.
    Broken(Error),
    /// An object of the peer.
    Import(H::Proxy),
    /// An object of ours that came home.
    Home(H::Object),
}

/// References of one message; most have none, few have more than one.
pub type Refs<R> = SmallVec<[R; 1]>;

/// What is to be done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Calls a method by its number.
    Method {
        /// Interface that declares the method.
        interface: u64,
        /// Number of the method in it.
        method: u32,
        /// Fingerprint of the writer's argument types.
        shape: u32,
    },
    /// Calls a method by its name.
    Named(String),
    /// Reads a property.
    Get(String),
    /// Writes a property.
    Set(String),
    /// Deletes a property.
    Delete(String),
    /// Reads an element.
    Index,
    /// Number of elements.
    Len,
    /// Compares with another value.
    Compare,
    /// Hashes the object.
    Hash,
    /// The object as text.
    Text,
    /// Next batch of an iteration.
    Iterate,
    /// Enters a context.
    Enter,
    /// Leaves a context.
    Exit,
    /// Whether the object is an instance of a class.
    IsInstance(String),
    /// Interfaces, methods and documentation of the object.
    Describe,
    /// A copy of the object, by value.
    Copy,
    /// Calls the object itself.
    Invoke,
    /// Writes an element.
    SetIndex,
    /// Deletes an element.
    DeleteIndex,
    /// The object as text for programmers.
    Repr,
    /// Whether the object stands so to another value.
    Order(Ordering),
}

/// How one value may stand to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are no others")]
pub enum Ordering {
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// As it would be written in a program.
impl fmt::Display for Ordering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        })
    }
}

/// As it would be written in a program.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method { method, .. } => write!(f, "method {method:#010x}"),
            Self::Named(name) => f.write_str(name),
            Self::Get(name) => write!(f, "get {name}"),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Delete(name) => write!(f, "delete {name}"),
            Self::Index => f.write_str("index"),
            Self::Len => f.write_str("length"),
            Self::Compare => f.write_str("compare"),
            Self::Hash => f.write_str("hash"),
            Self::Text => f.write_str("text"),
            Self::Iterate => f.write_str("iterate"),
            Self::Enter => f.write_str("enter"),
            Self::Exit => f.write_str("exit"),
            Self::IsInstance(class) => write!(f, "is instance of {class}"),
            Self::Describe => f.write_str("describe"),
            Self::Copy => f.write_str("copy"),
            Self::Invoke => f.write_str("invoke"),
            Self::SetIndex => f.write_str("set index"),
            Self::DeleteIndex => f.write_str("delete index"),
            Self::Repr => f.write_str("repr"),
            Self::Order(ordering) => ordering.fmt(f),
        }
    }
}

/// How a call is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Nothing will be called on the result before it is there: the callee keeps nothing after its return.
    pub no_pipeline: bool,
    /// Nobody waits for the result.
    pub one_way: bool,
    /// May be repeated if it is not known whether it ran.
    pub idempotent: bool,
    /// Goes on when the caller has gone.
    pub detached: bool,
    /// The caller is blocked until the call returns.
    pub blocking: bool,
    /// Others follow in a moment: the engine had better write them together. No protocol tells the peer.
    pub followed: bool,
    /// When the caller gives up.
    pub deadline: Option<Nanos>,
    /// The chain of nested calls that this one belongs to.
    pub chain: Option<Chain>,
    /// How many connections the call has crossed.
    pub hops: u8,
    /// Trace context (W3C), passed on unread. Few calls have one, and all are moved about.
    pub trace: Option<Box<[u8; 25]>>,
    /// What the result is going to be read as. Nobody else hears of it.
    pub results: ResultShapes,
    /// How many levels of containers in the result are wanted by value, where the peer hands out containers by
    /// reference: 0 is none, 255 is all. The native protocol has no such containers, and does not tell the peer.
    pub fetch: u8,
}

/// Fingerprints of the types as which the result of a call is going to be read; 0 for whatever it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the two results that a method has"
)]
pub struct ResultShapes {
    /// What the method returns when it succeeds.
    pub value: u32,
    /// Its own error value.
    pub failure: u32,
}

/// What is known of a type of the peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "either it is there, or it will be, or it will not"
)]
pub enum PeerShape {
    /// What it looks like.
    Known(Arc<Shape>),
    /// The peer was asked: [`Event::ShapeCame`] says that there is an answer.
    Asked,
    /// The peer does not tell.
    Unknown,
}

/// A chain of nested calls: one logical thread over all processes it passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Bytes, as a number of that size would have to begin at a multiple of 16: chains are moved about with every call.
    id: [u8; 16],
    /// How deep this call is nested in it.
    pub depth: u16,
}

impl Chain {
    /// A place in the chain of that name, which nobody can guess.
    #[must_use]
    pub const fn new(id: u128, depth: u16) -> Self {
        Self {
            id: id.to_le_bytes(),
            depth,
        }
    }

    /// The name of the chain.
    #[must_use]
    pub const fn id(self) -> u128 {
        u128::from_le_bytes(self.id)
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these two are all that the exchange knows"
)]
pub enum Target {
    /// An import, by the peer's number.
    Import(u64),
    /// What a call of ours will return.
    Answer {
        /// That call.
        call: u64,
        /// Which of the references in its result.
        slot: u32,
    },
}

/// An encoded value about to be written.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::exhaustive_enums,
    reason = "one contiguous piece or several, there is no third"
)]
pub enum BodyRef<'a> {
    /// One contiguous piece, copied.
    Slice(&'a [u8]),
    /// Several pieces, shared rather than copied.
    Rope(&'a [Bytes]),
}

/// A call about to be made.
#[derive(Debug)]
pub struct CallStart<'a, H: Handles> {
    /// Where it goes.
    pub target: Target,
    /// What is to be done.
    pub op: &'a Op,
    /// How.
    pub options: &'a CallOptions,
    /// The arguments.
    pub body: BodyRef<'a>,
    /// The references among them.
    pub refs: Refs<Outgoing<H>>,
    /// Who is going to wait for the outcome, if somebody is. A protocol may take it, once the call is made, and keeps it as
    /// one that [`poll_outcome`](Protocol::poll_outcome) has made; one that does not is asked by that.
    pub waiter: &'a mut Option<H::Waiter>,
}

/// How a call of ours ended.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the contract: a call ends in exactly one of these"
)]
pub enum Outcome<H: Handles> {
    /// The method's own result, or its own error value.
    Value {
        /// Whether it is the error value.
        failed: bool,
        /// Fingerprint of the writer's type.
        shape: u32,
        /// The encoded value.
        body: Bytes,
        /// The references in it.
        refs: Refs<Received<H>>,
        /// What the writer's type looks like, if it is another than the one that was expected.
        writer: Option<Arc<Shape>>,
    },
    /// The call itself failed.
    Error(Error),
}

/// How a call of the peer's is answered.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the contract: a call is answered by exactly one of these"
)]
pub enum Reply<'a, H: Handles> {
    /// The method's own result, or its own error value.
    Value {
        /// If it is the error value: the same as an error, which is what calls on the result fail because of. Of a call by
        /// name it is the error itself, with what it was made of.
        failure: Option<Error>,
        /// Fingerprint of our type.
        shape: u32,
        /// The encoded value.
        body: BodyRef<'a>,
        /// The references in it.
        refs: Refs<Outgoing<H>>,
    },
    /// The call itself failed.
    Error {
        /// How.
        error: Error,
        /// Whether the method was started: `false` proves that it never ran.
        started: bool,
    },
}

/// A call of the peer's.
#[derive(Debug)]
pub struct Incoming<H: Handles> {
    /// The peer's number for the call: how to answer it.
    pub answer: u64,
    /// What it is made on.
    pub target: IncomingTarget<H>,
    /// What is asked. It stays where it is: a call goes through many hands.
    pub request: Box<Request<H>>,
}

/// What a call of the peer's asks for.
#[derive(Debug)]
pub struct Request<H: Handles> {
    /// What is to be done.
    pub op: Op,
    /// How; the deadline is in our own time.
    pub options: CallOptions,
    /// The encoded arguments; `None` until [`Event::Body`] brings them.
    pub body: Option<Bytes>,
    /// The arguments of a call by name as the values that they are, with no references among them; the body is empty then.
    pub plain: Option<Box<Plain>>,
    /// The references among them.
    pub refs: Refs<Received<H>>,
}

/// What a call of the peer's is made on.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the engine must say what it does with each of them"
)]
pub enum IncomingTarget<H: Handles> {
    /// An object hosted here, and the interface under which it was handed out.
    Object {
        /// The object.
        object: H::Object,
        /// Its export: calls to one export keep their order.
        export: u64,
        /// The interface as handed out.
        interface: u64,
    },
    /// A pipelined call whose target turned out to live with the peer: it is forwarded there.
    Import(H::Proxy),
    /// There is no object to call.
    Broken(Error),
}

/// What the engine has to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<H: Handles> {
    /// The peer has introduced itself: this is its root, if it shows one.
    Opened(Received<H>),
    /// The peer calls.
    Call(Incoming<H>),
    /// The arguments of a call that came without them.
    Body {
        /// The call.
        answer: u64,
        /// The encoded arguments.
        body: Bytes,
        /// The references that came with them, behind those that came with the call.
        refs: Refs<Received<H>>,
    },
    /// The peer (or its deadline) gave a call up; no reply is due, but one is allowed.
    Cancelled {
        /// The call.
        answer: u64,
        /// Why.
        reason: CancelReason,
    },
    /// A call of ours is over (or can go on): wake this one.
    Ready(H::Waiter),
    /// An object that nobody over there holds any more, to be dropped outside the lock.
    Unexported(H::Object),
    /// The peer holds more objects of this side than is likely to be meant; told once.
    Crowded {
        /// How many.
        exports: u64,
    },
    /// What a type of the peer's looks like is known now, or that it never will be.
    ShapeCame(u32),
    /// The peer asks what a type of ours looks like.
    ShapeWanted(u32),
    /// The answer to a ping: the round trip.
    Pong(Nanos),
    /// The session goes on over another carrier.
    Resumed,
    /// The peer will make no further calls and asks us to make none.
    Draining,
    /// The other end has closed in order.
    Closed(CloseReason),
}

/// Why a call was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// Its handle was dropped.
    Dropped,
    /// Its deadline passed.
    Deadline,
    /// The call it was made for was given up.
    Upstream,
    /// The caller is shutting down.
    Shutdown,
}

/// A method, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what the wire says")]
pub struct MethodId {
    /// The interface that declares it.
    pub interface: u64,
    /// Its number there.
    pub method: u32,
}

/// An object that one side holds of the other's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Held<H: Handles> {
    /// The number under which it was exported.
    pub number: u64,
    /// The interface as handed out.
    pub interface: u64,
    /// Copies that are held, and calls that lend it.
    pub copies: u64,
    /// The object, if it lives here.
    pub object: Option<H::Object>,
    /// Since when, if that was noted.
    pub since: Option<Nanos>,
    /// When it was last called or handed out, if that was noted.
    pub used: Option<Nanos>,
    /// The method in whose arguments or result it was handed out first.
    pub origin: Option<MethodId>,
    /// The export to which it was passed, if it lives with the peer.
    pub with: Option<u64>,
}

impl<H: Handles> Held<H> {
    /// What every table knows.
    pub(crate) const fn new(number: u64, interface: u64, copies: u64, object: Option<H::Object>) -> Self {
        Self {
            number,
            interface,
            copies,
            object,
            since: None,
            used: None,
            origin: None,
            with: None,
        }
    }
}

/// A call that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Underway {
    /// Its number.
    pub number: u64,
    /// What is called.
    pub method: Option<MethodId>,
    /// The number of the object that it is made on, unless that is the result of another call.
    pub target: Option<u64>,
    /// When it began.
    pub since: Nanos,
}

/// What is in a connection's tables.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tables<H: Handles> {
    /// Objects of ours that the peer holds.
    pub exports: Vec<Held<H>>,
    /// Objects of the peer's that we hold.
    pub imports: Vec<Held<H>>,
    /// Calls of ours, if they are noted.
    pub calls: Vec<Underway>,
    /// Calls of the peer's, if they are noted.
    pub answers: Vec<Underway>,
}

impl<H: Handles> Default for Tables<H> {
    fn default() -> Self {
        Self {
            exports: Vec::new(),
            imports: Vec::new(),
            calls: Vec::new(),
            answers: Vec::new(),
        }
    }
}

/// Numbers of a connection's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Objects of ours that the peer holds, the root included.
    pub exports: usize,
    /// Objects of the peer's that we hold, its root included.
    pub imports: usize,
    /// Calls of ours whose outcome was not taken.
    pub calls: usize,
    /// Calls of the peer's that are not over.
    pub answers: usize,
    /// Those of them that are not answered.
    pub running: usize,
}

/// What has gone over the wire, since the connection was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes handed to carriers, frames and all.
    pub bytes_sent: u64,
    /// Bytes that carriers brought, frames and all.
    pub bytes_received: u64,
    /// Messages for the peer.
    pub messages_sent: u64,
    /// Messages of the peer's.
    pub messages_received: u64,
    /// Carriers that the connection has had.
    pub carriers: u64,
}

/// How exactly a protocol has to be told the time: to look at the clock takes as long as a part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all that a clock can be asked for")]
pub enum Timing {
    /// Not at all: 0 will do.
    Untimed,
    /// To some 30 ms, and hardly ever too early.
    Rough,
    /// To the nanosecond.
    Exact,
}

/// A protocol of remote objects, without IO.
///
/// Every method is quick, takes memory only, and is called under the connection's lock: no user code, no waker
/// and no system call runs inside.
pub trait Protocol<H: Handles>: Send + 'static {
    /// How exactly it has to be told the time now with what comes and with what goes. Default: exactly.
    fn timing(&self) -> Timing {
        Timing::Exact
    }

    /// Consumes what it can of `input`, which came on `stream`; a partial rest stays there for the next time.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol, or speaks another: the connection is over.
    fn handle_bytes(
        &mut self,
        stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        factory: &dyn Factory<H>,
        now: Nanos,
    ) -> Result<(), Error>;

    /// Takes back the room that [`place`](Self::place) has lent, and what was read there, which comes before what
    /// [`handle_bytes`](Self::handle_bytes) gets of the main stream.
    ///
    /// # Errors
    ///
    /// As for [`handle_bytes`](Self::handle_bytes).
    fn handle_placed(&mut self, placement: &mut Placement, now: Nanos) -> Result<(), Error> {
        let _ = (placement, now);
        Ok(())
    }

    /// Lends the room for what comes next on the main stream, if it knows where that belongs: all that was read is consumed.
    /// Default: it does not.
    fn place(&mut self, placement: &mut Placement) {
        let _ = placement;
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// The peer is silent for too long: the connection is over.
    fn handle_timeout(&mut self, now: Nanos) -> Result<(), Error>;

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    fn poll_timeout(&self) -> Option<Nanos>;

    /// Takes what is to be written next, at most about 64 KiB; false if there is nothing.
    fn poll_transmit(&mut self, batch: &mut Batch, now: Nanos) -> bool;

    /// Whether there is something to write.
    fn wants_write(&self) -> bool;

    /// Whether something waits for the next message to go along with, that is not worth writing by itself. After a few
    /// milliseconds at most the engine calls [`hurry`](Self::hurry). Default: never.
    fn has_unhurried(&self) -> bool {
        false
    }

    /// What is in no hurry has waited long enough: it is something to write from here on. Default: there is nothing such.
    fn hurry(&mut self) {}

    /// The next thing for the engine to do, in the order of the wire.
    fn poll_event(&mut self) -> Option<Event<H>>;

    /// Whether the peer knows no interfaces: it is called by name, and both sides write values that say what they are.
    /// Asked once. Default: it knows them.
    fn is_by_name(&self) -> bool {
        false
    }

    /// Whether there is an event. Commands make some too: an answer, for one, lets the calls on its result go on.
    fn has_events(&self) -> bool {
        false
    }

    /// Makes a call and returns its number. A call that the peer's limits do not admit yet waits inside. The time is told if
    /// the call has a deadline or holdings are tracked; else it is 0.
    ///
    /// # Errors
    ///
    /// The call can't be made: nothing was sent.
    fn call(&mut self, start: CallStart<'_, H>, now: Nanos) -> Result<u64, Error>;

    /// The outcome of `call`, once: then the call is consumed. Until then what `waiter` makes is kept, and comes
    /// back in [`Event::Ready`]; it is given the one that was kept before, which must not be dropped under the lock.
    fn poll_outcome(
        &mut self,
        call: u64,
        waiter: &mut dyn FnMut(Option<H::Waiter>) -> H::Waiter,
    ) -> Poll<Outcome<H>>;

    /// Whether the outcome of `call` is there.
    fn is_ready(&self, call: u64) -> bool;

    /// The handle of `call` is gone without its outcome: cancels the call when nothing depends on it any more. Who
    /// waited for it comes back, not to be dropped under the lock.
    fn drop_call(&mut self, call: u64, reason: CancelReason) -> Option<H::Waiter>;

    /// A failure as [`answer`](Self::answer) takes it. It is called without a lock: what an error says may be told by code of
    /// the user's, which a protocol that needs its words runs here. Default: as it is.
    #[must_use]
    fn failure(error: Error) -> Error
    where
        Self: Sized,
    {
        error
    }

    /// Answers a call of the peer's. A second answer is ignored.
    fn answer(&mut self, answer: u64, reply: Reply<'_, H>);

    /// Answers a call of the peer's with a value that has no references in it. Asked of protocols that are by name alone, which
    /// write values in a way of their own. Default: the value comes back, and is to be encoded.
    ///
    /// # Errors
    ///
    /// The value, which was not taken.
    fn answer_plain(&mut self, answer: u64, value: Value) -> Result<(), Value> {
        let _ = answer;
        Err(value)
    }

    /// The last handle on a proxy of `import` is gone.
    fn release(&mut self, import: u64, generation: u32);

    /// What the peer's type of that fingerprint looks like; asks the peer if it can be asked. Default: it cannot.
    fn shape(&mut self, fingerprint: u32) -> PeerShape {
        let _ = fingerprint;
        PeerShape::Unknown
    }

    /// Answers [`Event::ShapeWanted`]. Default: nobody asks.
    fn tell_shape(&mut self, fingerprint: u32, description: Option<&[u8]>) {
        let _ = (fingerprint, description);
    }

    /// Nothing has come for a while: gives back memory that is of use only while something comes or goes. Default: none.
    fn rest(&mut self) {}

    /// Asks for a sign of life; [`Event::Pong`] brings the round trip.
    fn ping(&mut self, now: Nanos);

    /// Tells the peer that no further calls are wanted.
    fn drain(&mut self);

    /// Whether a peer can be told that, and says when it makes none: default true. One that cannot is not waited for.
    fn is_told_to_drain(&self) -> bool {
        true
    }

    /// Closes in order: what was submitted is still written.
    fn close(&mut self, reason: CloseReason);

    /// The carrier is lost for good, or the connection was closed: every call ends, every reference breaks.
    fn sever(&mut self, error: &Error);

    /// The carrier is gone: true if everything is kept for another one, never after a [`close`](Self::close) by either
    /// side. Default: nothing is.
    fn detach(&mut self, now: Nanos) -> bool {
        let _ = now;
        false
    }

    /// Goes on over a carrier that this side dialled, of native streams if `native`; [`Event::Resumed`] tells that the
    /// peer agrees. Called after [`detach`](Self::detach).
    ///
    /// # Errors
    ///
    /// There is nothing to go on with. Default: always.
    fn attach(&mut self, config: AttachConfig, native: bool, now: Nanos) -> Result<(), Error> {
        let _ = (config, native, now);
        Err(Error::new(ErrorKind::Misuse, "this protocol keeps no sessions"))
    }

    /// Goes on over a carrier whose dialer has asked to; the present one, if there is one, is given up.
    ///
    /// # Errors
    ///
    /// What to tell the dialer; then nothing has changed. Default: always.
    fn resume(&mut self, request: ResumeRequest, native: bool, now: Nanos) -> Result<(), Rejection> {
        let _ = (request, native, now);
        Err(Rejection::new(RejectCode::Unsupported))
    }

    /// The session, if the connection outlives its carrier. Default: there is none.
    fn session(&self) -> Option<SessionId> {
        None
    }

    /// What is left of a session that is over. Default: nothing.
    fn tombstone(&self) -> Option<Tombstone> {
        None
    }

    /// Sizes of the tables.
    fn stats(&self) -> TableStats;

    /// Notes from now on where references come from, and when they are used. Default: nothing is noted.
    fn track(&mut self) {}

    /// What is in the tables, at most so many rows of each. Default: nothing is told.
    fn tables(&self, most: usize) -> Tables<H> {
        let _ = most;
        Tables::default()
    }

    /// What has gone over the wire. Default: not counted.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
