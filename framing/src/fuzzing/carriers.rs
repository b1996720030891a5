//! Two honest links in a session, and carriers that bring any pieces of what was written, and are lost at any byte.
//!
//! Beside each link stands what it was asked to say: the other one hears each message once and in order, with the whole of
//! its body unless that was given up; and when carriers are lost no more, nothing is left over on either side.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use super::session::Input;
use crate::event::LinkEvent;
use crate::limits::MIN_FRAGMENT;
use crate::link::{AttachConfig, Body, LaneId, Link, LinkConfig, Nanos, Role, StreamKey};
use crate::{Batch, Limits, Misuse, StreamLink};

/// Carriers at most: each has a nonce of its own.
const CARRIERS: u8 = 100;
/// Messages of each side at most.
const SAID: usize = 60;
/// So long at most do acknowledgements wait.
const DELAY: Nanos = 1_000_000_000;

/// Two links under any schedule.
pub(super) fn carriers(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(input.byte());
    while !input.0.is_empty() {
        match input.byte() % 12 {
            0 => world.meet(&mut input),
            1 | 2 => world.dialer.say(&mut input, world.scale),
            3 | 4 => world.listener.say(&mut input, world.scale),
            5..=7 => _ = world.pass_up(usize::from(input.byte()).saturating_mul(world.scale)),
            8 | 9 => _ = world.pass_down(usize::from(input.byte()).saturating_mul(world.scale)),
            10 => world.give_up(&mut input),
            _ => world.wait(Nanos::from(input.byte()) << 20),
        }
    }
    world.settle();
}

/// A link, what it was asked to say, and what of the other's it has heard.
struct Side {
    link: Box<dyn Link>,
    /// What was written and has not come yet.
    wire: BytesMut,
    /// What has come and was not taken yet.
    input: BytesMut,
    /// Bodies that were said, by message, with their lanes.
    said: Vec<(usize, Option<LaneId>)>,
    heard: usize,
    /// Messages of the other side whose bodies are under way, by lane.
    awaited: BTreeMap<u64, usize>,
}

/// # Invariant
///
/// While there is a `fresh` link it stands where the next carrier ends, and nothing comes from the listener's.
struct World {
    dialer: Side,
    listener: Side,
    fresh: Option<StreamLink>,
    carriers: u8,
    limits: Limits,
    /// How long bodies and pieces are.
    scale: usize,
    now: Nanos,
}

/// The body of the message with this number, if it is so long.
fn body(number: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from(at.wrapping_add(number) % 251).unwrap_or(0);
    (0..len).map(byte).collect()
}

fn link(role: Role, salt: u8, limits: Limits) -> StreamLink {
    let mut config = LinkConfig::new(role, [salt; 16], [salt; 32]);
    config.session = true;
    config.limits = limits;
    StreamLink::new(config, 0)
}

impl Side {
    fn new(link: StreamLink) -> Self {
        Self {
            link: Box::new(link),
            wire: BytesMut::new(),
            input: BytesMut::new(),
            said: Vec::new(),
            heard: 0,
            awaited: BTreeMap::new(),
        }
    }

    /// The next bytes that come over, `most` of them.
    fn writes(&mut self, most: usize, now: Nanos) -> BytesMut {
        let mut batch = Batch::new();
        if self.wire.is_empty() && self.link.poll_transmit(&mut batch, now) {
            self.wire.extend_from_slice(&batch.to_vec(StreamKey::MAIN));
        }
        self.wire.split_to(most.min(self.wire.len()))
    }

    fn say(&mut self, input: &mut Input<'_>, scale: usize) {
        let number = self.said.len();
        let len = match input.byte() {
            byte @ ..64 => usize::from(byte),
            byte => usize::from(byte).saturating_mul(scale),
        };
        let head = u32::try_from(number).unwrap_or(0).to_le_bytes();
        if number < SAID {
            match self.link.submit(&head, Body::Slice(&body(number, len))) {
                Ok(lane) => self.said.push((len, lane)),
                Err(error) => assert_eq!(error, Misuse::Lanes.into()),
            }
        }
    }

    /// Takes what has come, and hears what `other` has said.
    fn take(&mut self, other: &Self, now: Nanos) {
        let handled = self
            .link
            .handle_bytes(StreamKey::MAIN, &mut self.input, false, now);
        assert_eq!(handled, Ok(()), "nothing is wrong with that");
        while let Some(event) = self.link.poll_event() {
            match event {
                LinkEvent::Message(mut message) => {
                    let number = usize::try_from(message.bytes.get_u32_le()).unwrap_or(usize::MAX);
                    assert_eq!(number, self.heard, "each message once and in order");
                    self.heard = self.heard.saturating_add(1);
                    let said = other.said.get(number).copied();
                    assert_eq!(
                        said.map(|(_, lane)| lane),
                        Some(message.bulk.map(|bulk| bulk.lane))
                    );
                    match message.bulk {
                        Some(bulk) => drop(self.awaited.insert(bulk.lane.number(), number)),
                        None => other.check(number, &message.bytes),
                    }
                }
                LinkEvent::BulkDone { lane, body } => {
                    let number = self.awaited.remove(&lane.number());
                    other.check(number.unwrap_or(usize::MAX), &body);
                }
                LinkEvent::LaneReset { lane, .. } => {
                    assert!(
                        self.awaited.remove(&lane.number()).is_some(),
                        "nobody waits for it"
                    );
                }
                _ => {}
            }
        }
    }

    fn check(&self, number: usize, heard: &[u8]) {
        let len = self.said.get(number).map(|(len, _)| *len);
        assert_eq!(len, Some(heard.len()), "message {number}");
        assert!(heard == body(number, heard.len()), "message {number}");
    }
}

impl World {
    /// Opens a session.
    fn new(mode: u8) -> Self {
        let (fragment, first_credit, scale) = if mode & 1 == 0 {
            (MIN_FRAGMENT, 1 << 10, 16)
        } else {
            (16 << 10, 64 << 10, 1 << 10)
        };
        let limits = Limits {
            fragment,
            first_credit,
            message: 1 << 20,
            lanes: 4,
            receive_pool: 0, // as much as one message
            retained: 0,     // the least
            // Nobody is silent for too long, and nobody comes too late.
            idle: std::time::Duration::ZERO,
            resume_window: std::time::Duration::MAX,
            handshake: std::time::Duration::MAX,
            ..Limits::default()
        }
        .legal();
        let mut world = Self {
            dialer: Side::new(link(Role::Dialer, 1, limits.clone())),
            listener: Side::new(link(Role::Listener, 2, limits.clone())),
            fresh: None,
            carriers: 2,
            limits,
            scale,
            now: 0,
        };
        while world.pass_up(usize::MAX) | world.pass_down(usize::MAX) {}
        assert!(world.dialer.link.session().is_some() && world.listener.link.session().is_some());
        world
    }

    /// The dialer loses its carrier, as the listener may or may not notice, and dials again.
    fn meet(&mut self, input: &mut Input<'_>) {
        if self.carriers == CARRIERS {
            return;
        }
        self.carriers = self.carriers.saturating_add(1);
        let choices = input.byte();
        let sides = [
            Some(&mut self.dialer),
            (choices & 1 == 0).then_some(&mut self.listener),
        ];
        for side in sides.into_iter().flatten() {
            assert_eq!(side.link.detach(self.now), Ok(()));
        }
        for side in [&mut self.dialer, &mut self.listener] {
            side.wire.clear();
            side.input.clear();
        }
        let fragment = usize::from(choices >> 1).saturating_mul(self.scale);
        let mut config = AttachConfig::new([self.carriers; 16]);
        config.fragment = Some(fragment);
        assert_eq!(self.dialer.link.attach(config, self.now), Ok(()));
        let limits = Limits {
            fragment: usize::from(input.byte()).saturating_mul(self.scale),
            ..self.limits.clone()
        };
        self.fresh = Some(link(Role::Listener, self.carriers.wrapping_add(CARRIERS), limits));
    }

    /// Brings `most` bytes from the dialer to where the carrier ends. False if there were none.
    fn pass_up(&mut self, most: usize) -> bool {
        let bytes = self.dialer.writes(most, self.now);
        let listener = &mut self.listener;
        listener.input.extend_from_slice(&bytes);
        if let Some(mut fresh) = self.fresh.take() {
            let handled = fresh.handle_bytes(StreamKey::MAIN, &mut listener.input, false, self.now);
            assert_eq!(handled, Ok(()));
            let Some(LinkEvent::ResumeRequested(request)) = fresh.poll_event() else {
                self.fresh = Some(fresh);
                return !bytes.is_empty();
            };
            assert_eq!(listener.link.resume(*request, self.now), Ok(()));
        }
        listener.take(&self.dialer, self.now);
        !bytes.is_empty()
    }

    /// Brings `most` bytes from the listener to the dialer. False if there were none.
    fn pass_down(&mut self, most: usize) -> bool {
        if self.fresh.is_some() {
            return false;
        }
        let bytes = self.listener.writes(most, self.now);
        self.dialer.input.extend_from_slice(&bytes);
        self.dialer.take(&self.listener, self.now);
        !bytes.is_empty()
    }

    /// A body is given up, by who says it or by who hears it.
    fn give_up(&mut self, input: &mut Input<'_>) {
        let (choices, at) = (input.byte(), usize::from(input.byte()));
        let side = if choices & 1 == 0 {
            &mut self.dialer
        } else {
            &mut self.listener
        };
        if choices & 2 == 0 {
            if let Some((_, Some(lane))) = side.said.get(at) {
                side.link.reset_lane(*lane, 1);
            }
        } else if let Some(lane) = side.awaited.keys().nth(at).copied() {
            side.awaited.remove(&lane);
            side.link.stop_lane(LaneId::new(lane), 1);
        }
    }

    fn wait(&mut self, time: Nanos) {
        self.now = self.now.saturating_add(time);
        for side in [&mut self.dialer, &mut self.listener] {
            assert_eq!(side.link.handle_timeout(self.now), Ok(()));
        }
    }

    /// The carrier is not lost any more: everything comes.
    fn settle(&mut self) {
        for _ in 0..3 {
            while self.pass_up(usize::MAX) | self.pass_down(usize::MAX) {}
            self.wait(DELAY);
        }
        for (side, other) in [(&self.dialer, &self.listener), (&self.listener, &self.dialer)] {
            assert_eq!(side.heard, other.said.len(), "each message");
            assert!(side.awaited.is_empty(), "each body: {:?}", side.awaited);
            let stats = side.link.stats();
            let left = (stats.lanes_out, stats.lanes_in, stats.retained, stats.unsent);
            assert_eq!(left, (0, 0, 0, 0));
        }
    }
}
