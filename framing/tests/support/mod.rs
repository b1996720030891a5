//! Two links, and carriers between them that can be cut. Nothing here sleeps; time is turned by hand.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use farref_framing::{
    Batch, Body, Inlet, LaneId, Limits, Link, LinkConfig, LinkError, LinkEvent, Message, Nanos, NativeLink,
    Outlet, ReadFrom, Role, StreamKey, StreamLink, open,
};
use farref_transport::memory::{self, Cutter};
use farref_transport::{Carrier, CarrierInfo, Guard};

/// How the carrier has streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Stream,
    Native,
}

pub const FORMS: [Form; 2] = [Form::Stream, Form::Native];

impl Form {
    pub fn link(self, config: LinkConfig) -> Box<dyn Link> {
        match self {
            Self::Stream => Box::new(StreamLink::new(config, 0)),
            Self::Native => Box::new(NativeLink::new(config, 0)),
        }
    }

    pub fn over(self, core: farref_framing::Core) -> Box<dyn Link> {
        match self {
            Self::Stream => Box::new(StreamLink::over(core)),
            Self::Native => Box::new(NativeLink::over(core)),
        }
    }

    pub fn carriers(self, buffer: usize) -> (Carrier, Carrier, Cutter) {
        match self {
            Self::Stream => {
                let (near, far, cutter) = memory::cuttable_pair(buffer);
                (near.into(), far.into(), cutter)
            }
            Self::Native => {
                let (near, far, cutter) = memory::cuttable_muxed_pair(buffer);
                (Carrier::Muxed(near), Carrier::Muxed(far), cutter)
            }
        }
    }
}

/// A configuration; `salt` stands for all that is random.
pub fn config(role: Role, session: bool, salt: u8) -> LinkConfig {
    let mut config = LinkConfig::new(role, [salt; 16], [salt; 32]);
    config.session = session;
    config
}

/// The defaults, with a change.
pub fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

type Opening = Pin<Box<dyn Future<Output = io::Result<(Inlet, Outlet, CarrierInfo, Guard)>>>>;

/// One end of a carrier, taken apart as soon as that is possible.
pub enum End {
    Opening(Opening),
    Open(Box<(Inlet, Outlet)>),
}

impl End {
    pub fn new(carrier: Carrier, role: Role) -> Self {
        Self::Opening(Box::pin(open(carrier, role)))
    }

    fn halves(&mut self) -> io::Result<Option<(&mut Inlet, &mut Outlet)>> {
        if let Self::Opening(opening) = self {
            match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return Ok(None),
                Poll::Ready(opened) => {
                    let (inlet, outlet, _, _) = opened?;
                    *self = Self::Open(Box::new((inlet, outlet)));
                }
            }
        }
        match self {
            Self::Open(halves) => Ok(Some((&mut halves.0, &mut halves.1))),
            Self::Opening(_) => Ok(None),
        }
    }
}

/// What stops a side.
#[derive(Debug)]
pub enum Trouble {
    Carrier(io::Error),
    Link(LinkError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Carrier(error)
    }
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// Hands a link what was read, and has it tell where more of it belongs, as a driver does.
pub fn hand_over(
    link: &mut dyn Link,
    inlet: &mut Inlet,
    read: ReadFrom,
    now: Nanos,
) -> Result<(), LinkError> {
    if let Some(lent) = inlet.lent() {
        link.handle_placed(lent, now)?;
    }
    let input = inlet.buffer(read.stream);
    link.handle_bytes(read.stream, input, read.end, now)?;
    if input.is_empty()
        && let Some(placement) = inlet.placement()
    {
        link.place(placement);
    }
    Ok(())
}

/// A link, the end of its carrier, and what it has told.
pub struct Side {
    pub link: Box<dyn Link>,
    pub end: Option<End>,
    pub batch: Batch,
    pub heard: Heard,
}

impl Side {
    pub fn new(link: Box<dyn Link>, end: End) -> Self {
        Self {
            link,
            end: Some(end),
            batch: Batch::new(),
            heard: Heard::default(),
        }
    }

    /// Writes and reads once what goes without waiting. True if anything did.
    pub fn turn(&mut self, now: Nanos) -> Result<bool, Trouble> {
        let Some(end) = &mut self.end else {
            return Ok(false);
        };
        let Some((inlet, outlet)) = end.halves()? else {
            return Ok(false);
        };
        let mut moved = self.link.poll_transmit(&mut self.batch, now);
        let before = self.batch.len();
        if !self.batch.is_empty() {
            outlet.write(&mut self.batch)?;
            moved |= self.batch.len() != before || self.batch.is_empty();
        }
        let cx = &mut Context::from_waker(Waker::noop());
        if outlet.is_buffering() {
            let _ = outlet.poll_flush(cx);
        }
        let _ = inlet.poll_readable(cx);
        match inlet.try_read() {
            Ok(Some(read)) => {
                moved = true;
                hand_over(&mut *self.link, inlet, read, now)?;
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        self.heard.take(&mut *self.link);
        Ok(moved)
    }

    /// The carrier is gone.
    pub fn detach(&mut self, now: Nanos) -> Result<(), LinkError> {
        self.end = None;
        self.batch.clear();
        self.link.detach(now)
    }
}

/// Everything a link has told, sorted.
#[derive(Debug, Default)]
pub struct Heard {
    pub messages: Vec<Message>,
    pub bodies: Vec<(LaneId, Bytes)>,
    pub others: Vec<LinkEvent>,
}

impl Heard {
    pub fn take(&mut self, link: &mut dyn Link) {
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Message(message) => self.messages.push(message),
                LinkEvent::BulkDone { lane, body } => {
                    let named = |message: &Message| message.bulk.is_some_and(|bulk| bulk.lane == lane);
                    assert!(self.messages.iter().any(named), "a body before its message");
                    self.bodies.push((lane, body));
                }
                other => self.others.push(other),
            }
        }
    }

    /// The messages with their bodies, in order; `None` if a body is not there yet.
    pub fn whole(&self) -> Option<Vec<Vec<u8>>> {
        self.messages
            .iter()
            .map(|message| {
                let mut whole = message.bytes.to_vec();
                if let Some(bulk) = message.bulk {
                    let mut bodies = self.bodies.iter().filter(|(lane, _)| *lane == bulk.lane);
                    let (_, body) = bodies.next()?;
                    assert!(bodies.next().is_none(), "a body came twice");
                    assert_eq!(body.len() as u64, bulk.len);
                    whole.extend_from_slice(body);
                }
                Some(whole)
            })
            .collect()
    }
}

/// Takes turns until neither side moves.
pub fn run(a: &mut Side, b: &mut Side, now: Nanos) -> Result<(), Trouble> {
    loop {
        let moved = a.turn(now)?;
        if !(b.turn(now)? || moved) {
            return Ok(());
        }
    }
}

/// Two links over byte streams, introduced to each other.
pub struct Pair {
    pub dialer: Box<dyn Link>,
    pub listener: Box<dyn Link>,
}

impl Pair {
    pub fn new(session: bool, limits: &Limits) -> Self {
        let link = |role, salt| {
            let mut config = config(role, session, salt);
            config.limits = limits.clone();
            Form::Stream.link(config)
        };
        let mut pair = Self {
            dialer: link(Role::Dialer, 1),
            listener: link(Role::Listener, 2),
        };
        pair.settle(0);
        assert!(matches!(pair.dialer.poll_event(), Some(LinkEvent::Opened(_))));
        assert!(matches!(pair.listener.poll_event(), Some(LinkEvent::Opened(_))));
        pair
    }

    /// Passes bytes until there are none.
    pub fn settle(&mut self, now: Nanos) {
        while pass(&mut *self.dialer, &mut *self.listener, now)
            | pass(&mut *self.listener, &mut *self.dialer, now)
        {}
    }
}

/// What a link writes next.
pub fn written(link: &mut dyn Link, now: Nanos) -> Vec<u8> {
    let mut batch = Batch::new();
    link.poll_transmit(&mut batch, now);
    batch.to_vec(StreamKey::MAIN)
}

/// Reads `bytes`, all of which must be whole frames, but for those of large bodies, which are taken in parts.
pub fn reads(link: &mut dyn Link, bytes: &[u8], now: Nanos) -> Result<(), LinkError> {
    let mut input = BytesMut::from(bytes);
    link.handle_bytes(StreamKey::MAIN, &mut input, false, now)?;
    assert!(input.is_empty(), "a partial frame is left");
    Ok(())
}

/// Passes one batch; false if there was none.
pub fn pass(from: &mut dyn Link, to: &mut dyn Link, now: Nanos) -> bool {
    let bytes = written(from, now);
    reads(to, &bytes, now).unwrap();
    !bytes.is_empty()
}

/// Bytes that differ from place to place.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at + seed) * 31 % 251) as u8).collect()
}

/// Submits `head` with `body`.
pub fn submit(link: &mut dyn Link, head: &[u8], body: &[u8]) -> Option<LaneId> {
    link.submit(head, Body::Slice(body)).unwrap()
}

/// A frame.
pub fn frame(kind: u8, lane: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    farref_framing::varint::put(&mut out, lane);
    farref_framing::varint::put(&mut out, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

/// The frames in `bytes`: kind, lane, payload.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, u64, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some((kind, mut rest)) = bytes.split_first() {
        let lane = farref_framing::varint::take(&mut rest).unwrap();
        let len = farref_framing::varint::take(&mut rest).unwrap() as usize;
        all.push((*kind, lane, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    all
}
