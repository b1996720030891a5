//! Calls of ours: what is asked of a Python object becomes requests, and replies become outcomes.
//!
//! Reading order: here, `plan` (what is asked, in the words of Python), `sending`, `iterating`, `describing`.

mod describing;
mod iterating;
mod plan;
mod sending;

use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc as brine;
use farref_boxing::{Encoder, Error, ErrorKind, Reference, Result, Value, decode, to_value};
use farref_framing::Nanos;

use super::data::NOT_IMPLEMENTED;
use super::exception::Exception;
use super::fetch::Goal;
use super::link::{Graves, Link, unshare};
use super::wire::{Kind, Threads, handler, label, other_than};
use super::{PeerRoot, Rpyc, tuple};
use crate::object::{Description, InterfaceDescription, MethodDescription};
use crate::protocol::{BodyRef, CallStart, Chain, Event, Op, Ordering, Outgoing, Received, Refs, Target};
use crate::references;
use crate::remote::{EngineHandles, Import};
use crate::waiter::Waiter;

use self::plan::{is_named, plan};

pub(super) use self::describing::Describing;
pub(super) use self::iterating::{Cursor, Iterating};
pub(super) use self::plan::{How, Plan};

/// How a call of ours ended.
pub(super) type Outcome = crate::protocol::Outcome<EngineHandles>;

/// A call of ours.
#[derive(Debug)]
pub(super) struct Call {
    outcome: Option<Outcome>,
    waiter: Option<Waiter>,
    deadline: Option<Nanos>,
    /// The number of the request that it waits for.
    request: Option<u64>,
    pub(super) chain: Option<Chain>,
    /// Calls on what it will return, each with the reference in it that it is made on.
    piped: Vec<(u32, u64, Plan)>,
    /// Nobody waits for it but what is piped.
    is_forgotten: bool,
}

impl Call {
    pub(super) const fn is_over(&self) -> bool {
        self.outcome.is_some()
    }
}

/// What a reply is for.
#[derive(Debug)]
pub(super) enum Pending {
    /// Nobody.
    Nothing,
    /// The peer's root: for the engine, or for calls that wait for it.
    Root,
    /// A sign of life, asked for at that time.
    Ping(Nanos),
    /// A call of ours.
    Call { call: u64, how: How },
    /// A step of an iteration.
    Iterate(Box<Iterating>),
    /// A part of what an object can do.
    Describe(Box<Describing>),
    /// A step of a fetch.
    Fetch {
        fetch: u64,
        node: u64,
        step: super::fetch::Step,
    },
}

impl Pending {
    /// The call of ours that waits for that reply alone.
    fn call(&self) -> Option<u64> {
        match self {
            Self::Call { call, .. } => Some(*call),
            Self::Iterate(iterating) => Some(iterating.call),
            Self::Describe(describing) => Some(describing.call),
            Self::Nothing | Self::Root | Self::Ping(_) | Self::Fetch { .. } => None,
        }
    }
}

/// A request that waits until it is known how the peer speaks, or for its root.
#[derive(Debug)]
pub(super) enum Queued {
    Call { call: u64, import: u64, plan: Plan },
    Ping(Nanos),
}

impl Queued {
    pub(super) const fn call(&self) -> Option<u64> {
        match self {
            Self::Call { call, .. } => Some(*call),
            Self::Ping(_) => None,
        }
    }
}

impl Rpyc {
    /// Makes a call.
    pub(super) fn begin(&mut self, start: CallStart<'_, EngineHandles>) -> Result<u64, Error> {
        let references = start
            .refs
            .into_iter()
            .map(|outgoing| reference(outgoing, &self.graves))
            .collect::<Vec<_>>();
        let plan = plan(start.op, &flat(start.body), &references, start.options.fetch)?;
        self.last_call = self.last_call.wrapping_add(1);
        let call = self.last_call;
        let known = Call {
            outcome: None,
            waiter: None,
            deadline: start.options.deadline,
            request: None,
            chain: start.options.chain,
            piped: Vec::new(),
            is_forgotten: false,
        };
        match start.target {
            Target::Import(import) => {
                if self.is_closing || self.is_over {
                    let kind = ErrorKind::Disconnected(farref_boxing::Certainty::NotSent);
                    return Err(Error::new(kind, "the connection is closing"));
                }
                self.calls.insert(call, known);
                if let Err(error) = self.set_out(call, import, plan) {
                    self.calls.remove(&call);
                    return Err(error);
                }
            }
            Target::Answer { call: of, slot } => {
                let gone = || Error::new(ErrorKind::Broken, "the call that this one waits for is over");
                let before = self.calls.get_mut(&of).ok_or_else(gone)?;
                match &before.outcome {
                    None => {
                        before.piped.push((slot, call, plan));
                        self.calls.insert(call, known);
                    }
                    Some(outcome) => {
                        let import = referred(outcome, slot)?;
                        self.calls.insert(call, known);
                        if let Err(error) = self.set_out(call, import.id(), plan) {
                            self.calls.remove(&call);
                            return Err(error);
                        }
                    }
                }
            }
        }
        // What needed no request is over already.
        match self.calls.get_mut(&call) {
            Some(known) if !known.is_over() => known.waiter = start.waiter.take(),
            _ => return Ok(call),
        }
        if let Some(deadline) = start.options.deadline {
            self.deadlines.insert((deadline, call));
        }
        if start.options.chain.is_some() {
            self.chained.insert(call);
        }
        Ok(call)
    }

    /// Sends what is to be done, or keeps it until it can be sent.
    fn set_out(&mut self, call: u64, import: u64, plan: Plan) -> Result<(), Error> {
        if self.generation.is_none() || !self.is_known(import) {
            self.queued.push_back(Queued::Call { call, import, plan });
            self.ask_for_root_if_wanted();
            return Ok(());
        }
        self.execute(call, import, plan)
    }

    /// Whether it is known what the peer calls it.
    fn is_known(&self, import: u64) -> bool {
        !matches!(self.root, PeerRoot::Promised { number, .. } if number == import)
    }

    /// Asks for the root if calls wait for it.
    fn ask_for_root_if_wanted(&mut self) {
        if let PeerRoot::Promised { number, asked: false } = self.root
            && self.generation.is_some()
            && self
                .queued
                .iter()
                .any(|queued| matches!(queued, Queued::Call { import, .. } if *import == number))
        {
            self.ask_for_root();
        }
    }

    pub(super) fn ask_for_root(&mut self) {
        if let PeerRoot::Promised { asked, .. } = &mut self.root {
            *asked = true;
        }
        self.send_plain(handler::GETROOT, &[], Pending::Root);
    }

    /// Sends what waited, as far as it can be sent.
    pub(super) fn send_queued(&mut self) {
        for queued in std::mem::take(&mut self.queued) {
            match queued {
                Queued::Ping(asked) => self.send_ping(asked),
                Queued::Call { call, import, plan } => {
                    if !self.calls.contains_key(&call) {
                        continue;
                    }
                    if let Err(error) = self.set_out(call, import, plan) {
                        self.finish(call, Err(error));
                    }
                }
            }
        }
    }

    /// The peer has told its root, or that there is none.
    fn rooted(&mut self, root: Result<Value>) {
        let found = root.and_then(|value| match link(&value) {
            Some(Link::Import(proxy)) => Ok(Arc::clone(proxy)),
            _ => Err(Error::new(ErrorKind::Malformed, "the peer's root is no object")),
        });
        match std::mem::replace(&mut self.root, PeerRoot::Known) {
            PeerRoot::Promised { number, .. } => {
                match found {
                    Ok(proxy) => self.imports.keep_promise(number, proxy),
                    Err(error) => {
                        self.fail_queued(number, &error);
                        return;
                    }
                }
                self.send_queued();
            }
            _ => self.events.push_back(Event::Opened(match found {
                Ok(proxy) => Received::Import(proxy),
                Err(error) => Received::Broken(error),
            })),
        }
    }

    fn fail_queued(&mut self, import: u64, error: &Error) {
        let queued = std::mem::take(&mut self.queued);
        let (failed, left): (Vec<Queued>, _) = queued
            .into_iter()
            .partition(|queued| matches!(queued, Queued::Call { import: of, .. } if *of == import));
        self.queued = left.into();
        for call in failed.iter().filter_map(Queued::call) {
            self.finish(call, Err(error.clone()));
        }
    }

    /// Does what is to be done with an object.
    fn execute(&mut self, call: u64, import: u64, plan: Plan) -> Result<(), Error> {
        let (handler, arguments, how) = match plan {
            Plan::Request {
                handler,
                arguments,
                how,
            } => (handler, arguments, how),
            Plan::Method {
                name,
                positional,
                named,
                fetch,
            } => {
                let how = How::Value { fetch };
                let is_function = self
                    .imports
                    .pack(import)
                    .is_some_and(|pack| is_function(&pack.name));
                if is_function && !name.starts_with("__") {
                    (handler::CALL, vec![positional, named], how)
                } else {
                    (handler::CALLATTR, vec![Value::Str(name), positional, named], how)
                }
            }
            Plan::Equal(other) => {
                let same = matches!(link(&other), Some(Link::Import(proxy)) if proxy.id() == import);
                let arguments = vec![other, "__eq__".into()];
                (handler::CMP, arguments, How::Equal { same })
            }
            Plan::Iterate { from, most } => return self.iterate(call, import, from, most),
            Plan::Describe => return self.describe(call, import),
            Plan::Copy => return self.copy(call, import),
            Plan::Is(name) => {
                let is = self
                    .imports
                    .pack(import)
                    .is_some_and(|pack| is_named(&pack.name, &name));
                self.finish(call, Ok(Value::Bool(is)));
                return Ok(());
            }
        };
        self.send(handler, import, &arguments, Pending::Call { call, how })
    }

    /// A reply came.
    pub(super) fn replied(&mut self, number: Option<u64>, result: Result<Value>) {
        let pending = number.and_then(|number| self.pending.remove(&number));
        match pending {
            // To a request that was not made: as Python does, nothing.
            None | Some(Pending::Nothing) => self.discard(result.ok()),
            Some(Pending::Root) => self.rooted(result),
            Some(Pending::Ping(asked)) => {
                self.events.push_back(Event::Pong(self.now.saturating_sub(asked)));
            }
            Some(Pending::Call { call, how }) => self.conclude(call, how, result),
            Some(Pending::Iterate(iterating)) => self.iterated(*iterating, result),
            Some(Pending::Describe(describing)) => self.described(*describing, result),
            Some(Pending::Fetch { fetch, node, step }) => self.fetched(fetch, node, step, result),
        }
    }

    fn conclude(&mut self, call: u64, how: How, result: Result<Value>) {
        let told = match (how, result) {
            (_, Err(error)) => Err(error),
            (How::Value { fetch: 0 }, Ok(value)) => Ok(value),
            (How::Value { fetch }, Ok(value)) => {
                return self.fetch(value, fetch, Goal::Call(call));
            }
            (How::Nothing, Ok(value)) => {
                self.discard(value);
                Ok(Value::Null)
            }
            (How::Equal { same }, Ok(value)) => Ok(Value::Bool(truth(&value).unwrap_or(same))),
            (How::Order(ordering), Ok(value)) => truth(&value).map(Value::Bool).ok_or_else(|| {
                let text = format!("'{ordering}' not supported between these");
                Exception::new("TypeError", [text]).into_error()
            }),
            #[expect(
                clippy::cast_sign_loss,
                clippy::cast_possible_truncation,
                reason = "its bits are what counts"
            )]
            (How::Hash, Ok(value)) => Ok(value.as_i128().map_or(value, |number| (number as u64).into())),
        };
        self.finish(call, told);
    }

    /// A call is over, and so is what is piped to it and cannot be made: as long as that chain may be, nothing is nested here.
    pub(super) fn finish(&mut self, call: u64, result: Result<Value>) {
        let mut over = vec![(call, result)];
        while let Some((call, result)) = over.pop() {
            self.finish_one(call, result, &mut over);
        }
    }

    fn finish_one(&mut self, call: u64, result: Result<Value>, over: &mut Vec<(u64, Result<Value>)>) {
        let Some(known) = self.calls.get_mut(&call) else {
            return self.discard(result.ok());
        };
        if known.is_over() {
            return self.discard(result.ok());
        }
        self.chained.remove(&call);
        let outcome = result.and_then(encode).unwrap_or_else(Outcome::Error);
        let piped = std::mem::take(&mut known.piped);
        if let Some(deadline) = known.deadline {
            self.deadlines.remove(&(deadline, call));
        }
        let targets: Vec<_> = piped
            .into_iter()
            .map(|(slot, call, plan)| (referred(&outcome, slot), call, plan))
            .collect();
        self.events.extend(known.waiter.take().map(Event::Ready));
        if known.is_forgotten {
            self.calls.remove(&call);
            self.discard(outcome);
        } else {
            known.outcome = Some(outcome);
        }
        for (target, call, plan) in targets {
            let begun = target.and_then(|target| self.set_out(call, target.id(), plan));
            if let Err(error) = begun {
                over.push((call, Err(error)));
            }
        }
    }

    pub(super) fn take_outcome(
        &mut self,
        call: u64,
        waiter: &mut dyn FnMut(Option<Waiter>) -> Waiter,
    ) -> Poll<Outcome> {
        let Some(known) = self.calls.get_mut(&call) else {
            let error = Error::new(ErrorKind::Misuse, "the outcome of the call was taken");
            return Poll::Ready(Outcome::Error(error));
        };
        if let Some(outcome) = known.outcome.take() {
            self.calls.remove(&call);
            return Poll::Ready(outcome);
        }
        let before = known.waiter.take();
        known.waiter = Some(waiter(before));
        Poll::Pending
    }

    /// Nobody waits for a call any more. The peer is not told: there is no way to.
    pub(super) fn forget(&mut self, call: u64) -> Option<Waiter> {
        let known = self.calls.get_mut(&call)?;
        let waiter = known.waiter.take();
        if !known.piped.is_empty() && !known.is_over() {
            known.is_forgotten = true;
            return waiter;
        }
        let known = self.calls.remove(&call)?;
        self.chained.remove(&call);
        if let Some(deadline) = known.deadline {
            self.deadlines.remove(&(deadline, call));
        }
        if let Some(outcome) = known.outcome {
            self.discard(outcome);
        }
        self.wait_no_more(call, known.request);
        waiter
    }

    /// A call of ours has its deadline.
    pub(super) fn expire(&mut self, call: u64) {
        let request = self.calls.get(&call).and_then(|call| call.request);
        self.finish(call, Err(ErrorKind::Deadline.into()));
        self.wait_no_more(call, request);
    }

    /// What the peer will say to a call is not waited for any more, as it may say nothing. Replies to what nobody asked are
    /// passed over, and what is in them is given back.
    fn wait_no_more(&mut self, call: u64, request: Option<u64>) {
        self.queued.retain(|queued| queued.call() != Some(call));
        self.drop_fetch_for(call);
        if let Some(pending) = request.and_then(|request| self.pending.remove(&request)) {
            self.discard(pending);
        }
    }

    pub(super) fn put_box(
        &mut self,
        value: &Value,
        handed: &mut Vec<u64>,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let Self { exports, imports, .. } = self;
        exports.put_box(value, imports, handed, out)
    }

    /// What was not sent after all.
    pub(super) fn take_back(&mut self, handed: &[u64]) {
        for number in handed {
            if let Some(link) = self.exports.give_back(*number, 1) {
                self.discard(link);
            }
        }
    }
}

/// What was encoded, in one piece.
pub(super) fn flat(body: BodyRef<'_>) -> Bytes {
    match body {
        BodyRef::Slice(slice) => Bytes::copy_from_slice(slice),
        BodyRef::Rope([one]) => one.clone(),
        BodyRef::Rope(pieces) => pieces.concat().into(),
    }
}

/// What the engine wants sent, as a reference in a value.
pub(super) fn reference(outgoing: Outgoing<EngineHandles>, graves: &Graves) -> Reference {
    match Link::outgoing(outgoing, graves) {
        Some(link) => Arc::new(link),
        None => Arc::new(()),
    }
}

/// What a value is a reference to.
pub(super) fn link(value: &Value) -> Option<&Link> {
    value.as_reference().and_then(Link::of)
}

/// A value with links, as the engine takes it.
pub(super) fn encode(value: Value) -> Result<Outcome, Error> {
    let (body, refs) = encoded(&unshare(value)?)?;
    Ok(Outcome::Value {
        failed: false,
        shape: 0,
        body,
        refs,
        writer: None,
    })
}

/// Bytes and references of something with links in it.
pub(super) fn encoded(
    value: &impl serde::Serialize,
) -> Result<(Bytes, Refs<Received<EngineHandles>>), Error> {
    let mut encoder: Box<Encoder> = crate::encoders::take();
    let result = encoder.encode(value).map(|()| {
        let body = encoder.body().to_bytes();
        let refs = encoder
            .take_references()
            .map(|reference| Link::of(&reference).map_or(Received::Null, Link::received))
            .collect();
        (body, refs)
    });
    crate::encoders::put(encoder);
    result.map_err(Error::from)
}

/// The object in an outcome that a call is piped to.
fn referred(outcome: &Outcome, slot: u32) -> Result<Arc<Import>, Error> {
    match outcome {
        Outcome::Error(error) => {
            let text = "the call that this one waits for failed";
            Err(Error::new(ErrorKind::Broken, format!("{text}: {error:#}")))
        }
        Outcome::Value { refs, .. } => {
            let received = usize::try_from(slot).ok().and_then(|slot| refs.get(slot));
            match received {
                Some(Received::Import(proxy)) => Ok(Arc::clone(proxy)),
                Some(Received::Broken(error)) => Err(error.clone()),
                Some(Received::Home(_)) => {
                    let text = "the result is an object of this side: await it before it is called";
                    Err(Error::new(ErrorKind::Unsupported, text))
                }
                Some(Received::Null) | None => Err(Error::new(
                    ErrorKind::Broken,
                    "the result is no object that can be called",
                )),
            }
        }
    }
}

/// Whether Python found something true; nothing if it does not know.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Record(record) if record.type_name() == NOT_IMPLEMENTED => None,
        Value::Null => Some(false),
        Value::Int(number) => Some(*number != 0),
        Value::Float(number) => Some(*number != 0.0),
        Value::Str(text) => Some(!text.is_empty()),
        _ => Some(true),
    }
}

fn is_function(name: &str) -> bool {
    matches!(
        name,
        "builtins.function" | "builtins.method" | "builtins.builtin_function_or_method" | "functools.partial"
    )
}

/// The number of the thread that a call of ours is made by, as peers are told that bind threads.
pub(super) const fn own_thread(call: u64) -> u64 {
    OWN_THREAD.wrapping_add(call)
}

/// Looks like the number of a thread, and is none of the peer's.
pub(super) const OWN_THREAD: u64 = 0x6661_0000_0000;
