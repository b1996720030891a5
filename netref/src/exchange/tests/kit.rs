//! Two exchanges and two queues between them, turned by hand.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};

pub(super) use super::super::stand_in::{INTERFACE, OP};
use super::super::stand_in::{Line, Lines, Mark, Marks, Numbers, Thing};
use super::super::{Breach, Exchange, ExchangeConfig};
use crate::message::Message;
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Event, Incoming, IncomingTarget, Op, Outcome, Outgoing,
    Received, Refs, Reply, Target,
};

/// Options of a call on whose result others may be made.
pub(super) fn piped() -> CallOptions {
    CallOptions::default()
}

/// Options of a call that is awaited at once.
pub(super) fn plain() -> CallOptions {
    CallOptions {
        no_pipeline: true,
        ..CallOptions::default()
    }
}

/// One side.
pub(super) struct Side {
    pub(super) exchange: Exchange<Numbers>,
    pub(super) wire: Lines,
    pub(super) marks: Marks,
    pub(super) root: Arc<Thing>,
    /// The other side's root.
    pub(super) peer: Option<Arc<Mark>>,
    pub(super) now: u64,
}

/// Two sides that have introduced themselves.
pub(super) struct Pair {
    pub(super) a: Side,
    pub(super) b: Side,
}

impl Side {
    pub(super) fn new(side: usize, config: ExchangeConfig) -> Self {
        let root = Thing::new(side);
        let mut wire = Lines::parting_at(1000);
        let mut exchange = Exchange::new(config, root.handed(INTERFACE, false), &mut wire);
        exchange.set_max_message(1 << 20);
        let marks = Marks {
            side,
            ..Marks::default()
        };
        Self {
            exchange,
            wire,
            marks,
            root,
            peer: None,
            now: 0,
        }
    }

    /// Tells the exchange of proxies that died.
    pub(super) fn take_drops(&mut self) {
        for (import, generation) in std::mem::take(&mut *self.marks.dropped.lock().unwrap()) {
            self.exchange.release(import, generation);
        }
        self.exchange.flush(self.now, &mut self.wire);
    }

    /// Handles one message, with its body if it has one of its own.
    pub(super) fn receive(&mut self, line: &Line) -> Result<(), Breach> {
        self.receive_head(line)?;
        if let Some((lane, body)) = &line.bulk {
            self.exchange.handle_body(*lane, body.clone(), &mut self.wire);
        }
        Ok(())
    }

    pub(super) fn receive_head(&mut self, line: &Line) -> Result<(), Breach> {
        self.exchange
            .handle_message(line.inbound(), &self.marks, self.now, &mut self.wire)
    }

    pub(super) fn receive_message(&mut self, message: &Message<'_>, body: &[u8]) -> Result<(), Breach> {
        let mut head = Vec::new();
        message.encode(&mut head);
        head.extend_from_slice(body);
        self.receive(&Line {
            head: head.into(),
            bulk: None,
        })
    }

    pub(super) fn events(&mut self) -> Vec<Event<Numbers>> {
        std::iter::from_fn(|| self.exchange.poll_event(&mut self.wire)).collect()
    }

    /// The calls among the events.
    pub(super) fn calls(&mut self) -> Vec<Incoming<Numbers>> {
        let calls = self.events().into_iter().filter_map(|event| match event {
            Event::Call(incoming) => Some(incoming),
            _ => None,
        });
        calls.collect()
    }

    /// The one call among the events.
    pub(super) fn one_call(&mut self) -> Incoming<Numbers> {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    pub(super) fn try_call(
        &mut self,
        target: Target,
        options: &CallOptions,
        body: &[u8],
        refs: impl IntoIterator<Item = Outgoing<Numbers>>,
    ) -> Result<u64, Error> {
        self.try_op(&OP, target, options, body, refs)
    }

    pub(super) fn try_op(
        &mut self,
        op: &Op,
        target: Target,
        options: &CallOptions,
        body: &[u8],
        refs: impl IntoIterator<Item = Outgoing<Numbers>>,
    ) -> Result<u64, Error> {
        let refs = refs.into_iter().collect();
        let start = CallStart {
            target,
            op,
            options,
            body: BodyRef::Slice(body),
            refs,
            waiter: &mut None,
        };
        self.exchange.call(start, self.now, &mut self.wire)
    }

    /// A call of the other side's root.
    pub(super) fn call_root(
        &mut self,
        options: &CallOptions,
        refs: impl IntoIterator<Item = Outgoing<Numbers>>,
    ) -> u64 {
        self.try_call(Target::Import(0), options, b"args", refs).unwrap()
    }

    pub(super) fn call_result(&mut self, call: u64, slot: u32) -> u64 {
        self.try_call(Target::Answer { call, slot }, &plain(), b"piped", [])
            .unwrap()
    }

    pub(super) fn answer(&mut self, answer: u64, refs: impl IntoIterator<Item = Outgoing<Numbers>>) {
        self.answer_with(answer, b"result", refs);
    }

    pub(super) fn answer_with(
        &mut self,
        answer: u64,
        body: &[u8],
        refs: impl IntoIterator<Item = Outgoing<Numbers>>,
    ) {
        let refs = refs.into_iter().collect();
        let reply = Reply::Value {
            failure: None,
            shape: 9,
            body: BodyRef::Slice(body),
            refs,
        };
        self.exchange.answer(answer, reply, &mut self.wire);
    }

    pub(super) fn fail(&mut self, answer: u64, kind: ErrorKind) {
        let reply = Reply::Error {
            error: kind.into(),
            started: true,
        };
        self.exchange.answer(answer, reply, &mut self.wire);
    }

    pub(super) fn drop_call(&mut self, call: u64) {
        self.exchange
            .drop_call(call, CancelReason::Dropped, &mut self.wire);
    }

    pub(super) fn poll(&mut self, call: u64) -> Poll<Outcome<Numbers>> {
        self.exchange.poll_outcome(call, &mut self.wire, &mut |_| call)
    }

    /// The outcome, which must be there.
    pub(super) fn outcome(&mut self, call: u64) -> Outcome<Numbers> {
        match self.poll(call) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("no outcome of {call} yet"),
        }
    }

    pub(super) fn error(&mut self, call: u64) -> Error {
        match self.outcome(call) {
            Outcome::Error(error) => error,
            Outcome::Value { .. } => panic!("call {call} succeeded"),
        }
    }

    pub(super) fn refs(&mut self, call: u64) -> Refs<Received<Numbers>> {
        match self.outcome(call) {
            Outcome::Value { refs, .. } => refs,
            Outcome::Error(error) => panic!("call {call} failed: {error:?}"),
        }
    }

    /// What is on the way to the other side.
    pub(super) fn sent(&self) -> Vec<Message<'static>> {
        let read = |line: &Line| Message::decode(&mut line.head.clone(), u32::MAX).unwrap();
        self.wire.queue.iter().map(read).collect()
    }

    /// What is on the way to the other side, with what has waited to go along.
    pub(super) fn sent_at_last(&mut self) -> Vec<Message<'static>> {
        self.exchange.flush(self.now, &mut self.wire);
        self.sent()
    }

    /// Takes what is on the way to the other side.
    pub(super) fn take_sent(&mut self) -> Vec<Message<'static>> {
        let sent = self.sent();
        self.wire.queue.clear();
        sent
    }

    pub(super) fn tables(&self) -> (usize, usize, usize, usize) {
        let stats = self.exchange.stats();
        (stats.exports, stats.imports, stats.calls, stats.answers)
    }
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(ExchangeConfig::default(), ExchangeConfig::default())
    }

    pub(super) fn with(a: ExchangeConfig, b: ExchangeConfig) -> Self {
        let mut pair = Self {
            a: Side::new(0, a),
            b: Side::new(1, b),
        };
        pair.turn();
        for side in [&mut pair.a, &mut pair.b] {
            let root = side.events().into_iter().find_map(|event| match event {
                Event::Opened(Received::Import(root)) => Some(root),
                _ => None,
            });
            side.peer = root;
        }
        pair
    }

    /// Moves what is on the way to b.
    pub(super) fn b_reads(&mut self) {
        while let Some(line) = self.a.wire.queue.pop_front() {
            self.a.wire.written += 1;
            self.b.receive(&line).unwrap();
        }
    }

    /// Moves what is on the way to a.
    pub(super) fn a_reads(&mut self) {
        while let Some(line) = self.b.wire.queue.pop_front() {
            self.b.wire.written += 1;
            self.a.receive(&line).unwrap();
        }
    }

    /// Moves all that is on the way, until nothing is.
    pub(super) fn turn(&mut self) {
        loop {
            self.a.take_drops();
            self.b.take_drops();
            if self.a.wire.queue.is_empty() && self.b.wire.queue.is_empty() {
                return;
            }
            self.b_reads();
            self.a_reads();
        }
    }

    /// A call of b's root that b has read: its number there and here.
    pub(super) fn call_b(
        &mut self,
        options: &CallOptions,
        refs: impl IntoIterator<Item = Outgoing<Numbers>>,
    ) -> (u64, Incoming<Numbers>) {
        let call = self.a.call_root(options, refs);
        self.b_reads();
        (call, self.b.one_call())
    }

    /// An object of b's that a holds.
    pub(super) fn object_of_b(&mut self, number: usize) -> (Arc<Thing>, Arc<Mark>) {
        let thing = Thing::new(number);
        let (call, incoming) = self.call_b(&plain(), []);
        self.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
        self.a_reads();
        self.a.events();
        let proxy = import(&self.a.refs(call)[0]);
        (thing, proxy)
    }

    /// Nothing is left but the roots.
    pub(super) fn assert_empty(&mut self) {
        self.turn();
        self.a.events();
        self.b.events();
        self.turn();
        assert_eq!((self.a.tables(), self.b.tables()), ((1, 1, 0, 0), (1, 1, 0, 0)));
    }
}

pub(super) fn import(received: &Received<Numbers>) -> Arc<Mark> {
    match received {
        Received::Import(proxy) => Arc::clone(proxy),
        other => panic!("{other:?} is no import"),
    }
}

pub(super) fn home(received: &Received<Numbers>) -> Arc<Thing> {
    match received {
        Received::Home(thing) => Arc::clone(thing),
        other => panic!("{other:?} has not come home"),
    }
}

pub(super) fn object(target: &IncomingTarget<Numbers>) -> (usize, u64) {
    match target {
        IncomingTarget::Object { object, export, .. } => (object.number, *export),
        other => panic!("{other:?} is no object"),
    }
}

pub(super) fn body(outcome: &Outcome<Numbers>) -> Bytes {
    match outcome {
        Outcome::Value { body, .. } => body.clone(),
        Outcome::Error(error) => panic!("{error:?}"),
    }
}
