//! Bodies of fuzz targets; also run as property tests.

use bytes::Bytes;
use farref_boxing::{DecodeLimits, Error, ErrorKind, Shape, decode};
use farref_framing::LaneId;

use super::stand_in::{Lines, Marks, Numbers, Thing};
use super::{Exchange, ExchangeConfig, Inbound};
use crate::message::{Descriptor, Handed, Hello, Message, PeerLimits, SHAPES};
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Event, Op, Outgoing, Received, Refs, Reply, ResultShapes,
    Target,
};

/// A hostile peer: `data` says what it sends, and what this side does meanwhile.
///
/// # Panics
///
/// If something is wrong: then a table is not empty at the end, or larger than its limit.
pub fn exchange(data: &[u8]) {
    let mut script = Script(data);
    let mut table = Table::new(script.byte() & 1 == 0);
    while !script.0.is_empty() {
        if !table.step(&mut script) {
            break;
        }
        table.assert_bounded();
    }
    table.end();
}

/// Two or three processes with an exchange for each connection between them, under an oracle that sees them all: `data`
/// says what happens.
///
/// # Panics
///
/// If an invariant is violated.
#[cfg(any(test, fuzzing))]
pub fn schedule(data: &[u8]) {
    super::model::fuzz(data);
}

/// Bytes that say what happens.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = rest;
        bytes
    }
}

const MOST: u8 = 8;

/// One side, and what it has at hand.
struct Table {
    exchange: Exchange<Numbers>,
    wire: Lines,
    marks: Marks,
    calls: Vec<u64>,
    answers: Vec<u64>,
    held: Vec<Received<Numbers>>,
    now: u64,
}

impl Table {
    fn new(greeted: bool) -> Self {
        let config = ExchangeConfig {
            warn_at_exports: 8,
            max_calls: MOST.into(),
            max_call_bytes: 1000,
            max_objects: MOST.into(),
            max_depth: 4,
            max_references: 4,
            max_unread: 1000,
            tells_shapes: true,
        };
        let mut wire = Lines::parting_at(100);
        let marks = Marks::default();
        let mut exchange = Exchange::new(config, Thing::new(0).handed(1, false), &mut wire);
        exchange.set_max_message(1 << 16);
        let (calls, answers, held) = (Vec::new(), Vec::new(), Vec::new());
        let mut table = Self {
            exchange,
            wire,
            marks,
            calls,
            answers,
            held,
            now: 0,
        };
        if greeted {
            let limit = MOST.into();
            let limits = PeerLimits {
                calls: limit,
                call_bytes: 1000,
                objects: limit,
                depth: 4,
                references: 4,
                streams: 0,
            };
            let root = Descriptor::Owned(Handed {
                export: 0,
                object: 0,
                interface: 1,
            });
            let hello = Hello {
                version: 1,
                limits,
                features: SHAPES,
                root,
                name: String::new(),
            };
            let mut head = Vec::new();
            Message::Hello(hello).encode(&mut head);
            table.receive(head.into(), None);
        }
        table
    }

    /// Does one thing. False if the session is over.
    fn step(&mut self, script: &mut Script<'_>) -> bool {
        let what = script.byte();
        let lane = LaneId::new((what & 7).into());
        match what >> 3 {
            0..12 => return self.receive(Bytes::copy_from_slice(script.bytes()), None),
            14 => return self.shape(script),
            12..14 => {
                let bytes = Bytes::copy_from_slice(script.bytes());
                return self.receive(bytes, Some((lane, script.byte().into())));
            }
            15 => self
                .exchange
                .handle_body(lane, Bytes::copy_from_slice(script.bytes()), &mut self.wire),
            16 => self.exchange.handle_reset(lane, &mut self.wire),
            17..20 => self.take_events(),
            20..23 => self.answer(what, script),
            23..26 => self.call(what, script),
            26 => self.poll(what),
            27 => {
                if let Some(call) = pick(&mut self.calls, what) {
                    self.exchange
                        .drop_call(call, CancelReason::Dropped, &mut self.wire);
                }
            }
            28 => drop(pick(&mut self.held, what)),
            29 => self.release(),
            30 => {
                self.now = self.now.saturating_add(script.byte().into());
                self.exchange.handle_timeout(self.now, &mut self.wire);
            }
            _ => {
                self.wire.full = what & 1 == 0;
                self.wire.congested = what & 2 == 0;
                self.exchange.flush(self.now, &mut self.wire);
            }
        }
        true
    }

    fn receive(&mut self, bytes: Bytes, bulk: Option<(LaneId, u64)>) -> bool {
        let inbound = Inbound { bytes, bulk };
        self.exchange
            .handle_message(inbound, &self.marks, self.now, &mut self.wire)
            .is_ok()
    }

    /// A type is asked for or told, by one of the two.
    fn shape(&mut self, script: &mut Script<'_>) -> bool {
        let what = script.byte();
        let (shape, description) = plain(what);
        let mut message = Vec::new();
        match what >> 6 {
            0 => {
                self.exchange.shape(shape, &mut self.wire);
                return true;
            }
            1 => Message::GetShape { shape }.encode(&mut message),
            2 => {
                Message::Shape { shape }.encode(&mut message);
                message.extend(description);
            }
            _ => Message::Shape { shape }.encode(&mut message),
        }
        self.receive(message.into(), None)
    }

    fn take_events(&mut self) {
        while let Some(event) = self.exchange.poll_event(&mut self.wire) {
            match event {
                Event::Call(incoming) => {
                    self.answers.push(incoming.answer);
                    self.held.extend(incoming.request.refs);
                }
                Event::Cancelled { answer, .. } => self.answers.retain(|other| *other != answer),
                Event::Opened(root) => self.held.push(root),
                Event::ShapeWanted(shape) => {
                    let description = [(shape & 15) as u8, 0];
                    let description = (shape & 16 == 0).then_some(&description[..]);
                    self.exchange.tell_shape(shape, description, &mut self.wire);
                }
                _ => {}
            }
        }
    }

    fn references(&self, script: &mut Script<'_>) -> Refs<Outgoing<Numbers>> {
        let count = script.byte() & 3;
        let one = |_| match script.byte() {
            what @ 0..128 => Thing::new((what & 3).into()).handed((what >> 6).into(), what & 4 == 0),
            what => match self.held.get(usize::from(what & 7)) {
                Some(Received::Import(mark)) => mark.home(),
                Some(Received::Home(thing)) => thing.handed(1, false),
                _ => Outgoing::Null,
            },
        };
        (0..count).map(one).collect()
    }

    fn answer(&mut self, what: u8, script: &mut Script<'_>) {
        let Some(answer) = pick(&mut self.answers, what) else {
            return;
        };
        let refs = self.references(script);
        let reply = if what & 1 == 0 {
            Reply::Value {
                failure: (what & 2 == 0).then(|| ErrorKind::Remote.into()),
                shape: 0,
                body: BodyRef::Slice(script.bytes()),
                refs,
            }
        } else {
            Reply::Error {
                error: ErrorKind::Failed.into(),
                started: true,
            }
        };
        self.exchange.answer(answer, reply, &mut self.wire);
    }

    fn call(&mut self, what: u8, script: &mut Script<'_>) {
        let target = match self.calls.get(usize::from(what & 7)) {
            Some(call) if what & 1 == 0 => Target::Answer {
                call: *call,
                slot: (what & 3).into(),
            },
            _ => Target::Import(0),
        };
        let flags = script.byte();
        let options = CallOptions {
            no_pipeline: flags & 1 == 0,
            one_way: flags & 6 == 0,
            deadline: (flags & 8 == 0).then(|| self.now.saturating_add(flags.into())),
            results: ResultShapes {
                value: plain(flags).0,
                failure: 0,
            },
            ..CallOptions::default()
        };
        let refs = self.references(script);
        let body = BodyRef::Slice(script.bytes());
        let start = CallStart {
            target,
            op: &Op::Len,
            options: &options,
            body,
            refs,
            waiter: &mut None,
        };
        if let Ok(call) = self.exchange.call(start, self.now, &mut self.wire) {
            self.calls.push(call);
        }
    }

    fn poll(&mut self, what: u8) {
        let Some(call) = pick(&mut self.calls, what) else {
            return;
        };
        let is_ready = self.exchange.is_ready(call);
        let polled = self.exchange.poll_outcome(call, &mut self.wire, &mut |_| call);
        assert_eq!(
            polled.is_ready(),
            is_ready,
            "an outcome that is ready can be taken"
        );
        if polled.is_pending() {
            self.calls.push(call);
        }
    }

    fn release(&mut self) {
        let dropped = std::mem::take(
            &mut *self
                .marks
                .dropped
                .lock()
                .unwrap_or_else(|dropped| dropped.into_inner()),
        );
        for (import, generation) in dropped {
            self.exchange.release(import, generation);
        }
    }

    fn assert_bounded(&self) {
        let most = usize::from(MOST);
        let stats = self.exchange.stats();
        assert!(stats.exports <= most && stats.imports <= most, "{stats:?}");
        assert!(stats.answers <= 2 * most, "{stats:?}");
    }

    fn end(mut self) {
        let error = Error::from(ErrorKind::Malformed);
        self.exchange.sever(&error, None, &self.wire);
        self.take_events();
        for call in std::mem::take(&mut self.calls) {
            assert!(self.exchange.is_ready(call), "every call ends");
            assert!(
                self.exchange
                    .poll_outcome(call, &mut self.wire, &mut |_| call)
                    .is_ready()
            );
        }
        let stats = self.exchange.stats();
        assert_eq!(
            (stats.exports, stats.imports, stats.calls, stats.answers),
            (0, 0, 0, 0)
        );
    }
}

/// The fingerprint and the description of one of the types without a name.
pub(super) fn plain(what: u8) -> (u32, [u8; 2]) {
    let description = [what & 15, 0];
    let shape = decode::<Shape>(
        &Bytes::copy_from_slice(&description),
        &[],
        &DecodeLimits::default(),
    );
    (shape.map_or(0, |shape| shape.fingerprint()), description)
}

/// Takes one of several out.
fn pick<T>(from: &mut Vec<T>, what: u8) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    let index = usize::from(what).checked_rem(from.len())?;
    Some(from.swap_remove(index))
}
