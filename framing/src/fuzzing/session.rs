//! A peer that has a session with a link, knows its key, and says what it likes when they meet again.
//!
//! Beside the link stands what it was asked to say, by offset: whatever the peer claims to have received, the link goes
//! on with exactly the byte that follows, or ends the session. What the peer says counts its messages, so that one that
//! is lost or handed on twice is noticed.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::event::LinkEvent;
use crate::frame::{Header, HeaderBytes, Kind};
use crate::lanes::reader::put_prefix;
use crate::limits::MAX_FRAGMENT;
use crate::link::{AttachConfig, Body, Link, LinkConfig, Nanos, Role, StreamKey};
use crate::preface::{Declared, Preface};
use crate::session::{Attach, Binding, Greeted, Offsets, ResumeRequest, Secrets, Session, SessionKey};
use crate::{Batch, Limits, Misuse, NativeLink, StreamLink, Tombstone, varint};

/// Bytes of each of the peer's messages, with their prefix.
const MESSAGE: u64 = 5;
/// Messages that the link is asked to say at most, and bytes of each.
const SAID: (usize, usize) = (40, 4000);

/// A link in a session, and a hostile peer.
pub(super) fn session(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let Some(mut world) = World::new(mode) else { return };
    while !input.0.is_empty() && world.goes_on {
        match input.byte() % 10 {
            0 => world.cut(),
            1 | 2 => world.meet(&mut input),
            3 | 4 => world.submit(&mut input),
            5 => world.speak(&mut input),
            6 => world.acknowledge(&mut input),
            7 => world.credit(&mut input),
            8 => world.wait(&mut input),
            _ => world.garble(&mut input),
        }
        world.listen();
    }
}

/// The choices that the fuzzer makes.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number near `near`, or any.
    fn number(&mut self, near: u64) -> u64 {
        match self.byte() {
            ..128 => near,
            byte @ 128..192 => near.saturating_sub(u64::from(byte & 63)),
            byte @ 192..224 => near.saturating_add(u64::from(byte & 31)),
            byte @ 224..240 => u64::from(byte & 15),
            _ => u64::from_le_bytes([(); 8].map(|()| self.byte())),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte() % 80).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }
}

/// A lane of the link's.
#[derive(Default)]
struct Lane {
    /// All that it was asked to say.
    asked: Vec<u8>,
    /// The next byte that must come on this carrier.
    at: u64,
    /// The most that ever came.
    most: u64,
    /// What the peer has acknowledged: nothing before is kept.
    acked: u64,
    /// It was given up, or the peer called it done.
    is_over: bool,
    /// Its own stream on this carrier has begun, if carriers have such.
    is_flowing: bool,
}

struct World {
    role: Role,
    link: Box<dyn Link>,
    session: Session,
    messages: Lane,
    lanes: BTreeMap<u64, Lane>,
    submitted: usize,
    /// Bytes of the peer's lane 0 that the link has taken, and messages that it has handed on.
    taken: u64,
    counted: u64,
    is_up: bool,
    /// Nothing was said on this carrier that might be a breach.
    is_honest: bool,
    /// No garbage was said, which might have been messages, or have given up lanes.
    is_known: bool,
    carrier: u8,
    now: Nanos,
    goes_on: bool,
}

fn limits() -> Limits {
    Limits {
        fragment: 240, // what is longer goes on a lane of its own
        message: 1 << 16,
        lanes: 4,
        first_credit: 2048,
        retained: 256 << 10,
        ..Limits::default()
    }
    .legal()
}

fn config(role: Role, salt: u8) -> LinkConfig {
    let mut config = LinkConfig::new(role, [salt; 16], [salt; 32]);
    config.session = true;
    config.limits = limits();
    config
}

/// What a link writes on its main stream.
fn written(link: &mut dyn Link, now: Nanos) -> Vec<u8> {
    let (mut batch, mut bytes) = (Batch::new(), Vec::new());
    while link.poll_transmit(&mut batch, now) {
        assert!(batch.len() < 1 << 20, "a batch is bounded");
        bytes.extend_from_slice(&batch.to_vec(StreamKey::MAIN));
        batch.clear();
    }
    bytes
}

fn preface_of(bytes: &[u8]) -> Option<usize> {
    let (_, len) = Preface::decode(bytes).ok()??;
    Some(len)
}

fn frame(kind: Kind, lane: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = HeaderBytes::new(kind, lane, payload.len()).as_slice().to_vec();
    out.extend_from_slice(payload);
    out
}

/// Changes bits of one byte.
fn change(bytes: &mut [u8], at: u8, bits: u8) {
    let at = usize::from(at).checked_rem(bytes.len());
    if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
        *byte ^= bits;
    }
}

fn numbered(kind: Kind, lane: u64, number: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    varint::put(&mut payload, number);
    frame(kind, lane, &payload)
}

impl World {
    /// Opens a session.
    fn new(mode: u8) -> Option<Self> {
        let role = if mode & 1 == 0 {
            Role::Dialer
        } else {
            Role::Listener
        };
        let other = opposite(role);
        let mut link: Box<dyn Link> = if mode & 2 == 0 {
            Box::new(StreamLink::new(config(role, 1), 0))
        } else {
            Box::new(NativeLink::new(config(role, 1), 0))
        };
        let mut peer = StreamLink::new(config(other, 2), 0);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let bytes = written(&mut peer, 0);
            theirs.extend_from_slice(&bytes);
            link.handle_bytes(StreamKey::MAIN, &mut BytesMut::from(&bytes[..]), false, 0)
                .ok()?;
            let bytes = written(&mut *link, 0);
            ours.extend_from_slice(&bytes);
            peer.handle_bytes(StreamKey::MAIN, &mut BytesMut::from(&bytes[..]), false, 0)
                .ok()?;
        }
        let (ours, theirs) = (
            ours.get(..preface_of(&ours)?)?,
            theirs.get(..preface_of(&theirs)?)?,
        );
        let secrets = Secrets {
            ours: [2; 32],
            theirs: [1; 32],
        };
        let (key, id) = SessionKey::derive(other, &secrets, &binding(role, ours, theirs));
        assert_eq!(link.session(), Some(id));
        Some(Self {
            role,
            link,
            session: Session { id, key, epoch: 1 },
            messages: Lane::default(),
            lanes: BTreeMap::new(),
            submitted: 0,
            taken: 0,
            counted: 0,
            is_up: true,
            is_honest: true,
            is_known: true,
            carrier: 2,
            now: 0,
            goes_on: true,
        })
    }

    /// The carrier is lost.
    fn cut(&mut self) {
        self.goes_on = self.link.detach(self.now).is_ok();
        self.is_up = false;
    }

    /// The two meet on another carrier.
    fn meet(&mut self, input: &mut Input<'_>) {
        self.carrier = self.carrier.saturating_add(1);
        if self.carrier == u8::MAX {
            return self.goes_on = false;
        }
        match self.role {
            Role::Dialer => self.is_dialled(input),
            Role::Listener => self.dials(input),
        }
    }

    fn preface(&self) -> Vec<u8> {
        let preface = Preface {
            role: opposite(self.role),
            session: true,
            resuming: self.role == Role::Listener,
            nonce: [self.carrier; 16],
            declared: Declared::from(&limits()),
        };
        let mut out = Vec::new();
        preface.encode(&mut out);
        out
    }

    /// What the peer claims to have received.
    fn claim(&self, input: &mut Input<'_>) -> Offsets {
        let mut offsets = Offsets {
            messages: input.number(self.messages.at),
            ..Offsets::default()
        };
        for (number, lane) in &self.lanes {
            if lane.most > 0 || lane.is_over {
                offsets.highest = *number;
            }
        }
        offsets.highest = input.number(offsets.highest);
        for (number, lane) in self.lanes.range(..=offsets.highest) {
            let is_listed = !lane.is_over ^ (input.byte() > 230);
            if is_listed {
                offsets.open.push((*number, input.number(lane.at)));
            }
        }
        offsets
    }

    /// The link dials; the peer answers.
    fn is_dialled(&mut self, input: &mut Input<'_>) {
        let attached = self.link.attach(
            AttachConfig::new([200_u8.wrapping_add(self.carrier); 16]),
            self.now,
        );
        if attached.is_err() {
            return; // it is up, or over
        }
        self.is_honest = true;
        let epoch = self.link.epoch();
        assert!(
            epoch > self.session.epoch,
            "every attempt has an epoch of its own"
        );
        self.session.epoch = epoch;
        let flight = self.written();
        let (dialer, rest) = flight.split_at(preface_of(&flight).unwrap_or(0));
        let preface = self.preface();
        let carrier = Greeted {
            binding: Binding::new(dialer, &preface, None),
            preface: Vec::new(),
            fragment: 0,
            accepts: 0,
        };
        let binding = carrier.binding;
        let frames = frames(rest);
        let [(Some(Kind::Resume), 0, payload)] = &frames[..] else {
            unreachable!("a preface and RESUME, and nothing else: {frames:?}");
        };
        let request = ResumeRequest::read(payload, carrier);
        let Ok(request) = request else {
            unreachable!("{request:?}");
        };
        assert!(request.is_proven(&self.session.key));
        self.check_taken(&request.attach);
        let claim = self.claim(input);
        let mut answer = Attach {
            epoch,
            down: input.number(0),
            offsets: claim.clone(),
        };
        let choice = input.byte();
        let mut said = preface;
        said.extend_from_slice(&match choice {
            ..160 => frame(Kind::Resumed, 0, &answer.resumed(&self.session, &binding)),
            160..176 => {
                answer.epoch = input.number(epoch);
                frame(Kind::Resumed, 0, &answer.resumed(&self.session, &binding))
            }
            176..192 => {
                let mut payload = answer.resumed(&self.session, &binding);
                change(&mut payload, input.byte(), input.byte());
                frame(Kind::Resumed, 0, &payload)
            }
            192..208 => {
                let received = input.number(self.messages.at);
                let rejection = Tombstone::new(&self.session, received).reject(&request);
                frame(Kind::Reject, 0, &rejection.encode())
            }
            208..224 => frame(Kind::Reject, 0, &input.bytes()),
            224..232 => frame(Kind::SessionNew, 0, &[9; 32]),
            232..248 => input.bytes(),
            _ => Vec::new(), // nothing but a preface
        });
        let carriers = self.link.stats().carriers;
        self.give(&said);
        if self.link.stats().carriers != carriers {
            assert!(choice < 192, "only RESUMED makes a session go on");
            self.agreed(&claim);
        }
    }

    /// The peer dials; the link answers, or refuses.
    fn dials(&mut self, input: &mut Input<'_>) {
        let claim = self.claim(input);
        let attach = Attach {
            epoch: input.number(self.session.epoch.saturating_add(1)),
            down: input.number(0),
            offsets: claim.clone(),
        };
        let mut said = self.preface();
        let dialer = said.clone();
        let mut payload = attach.resume(&self.session, &Binding::new(&said, &[], None));
        let is_changed = input.byte() > 230;
        if is_changed {
            change(&mut payload, input.byte(), input.byte() | 1);
        }
        said.extend_from_slice(&frame(Kind::Resume, 0, &payload));
        let mut fresh = StreamLink::new(
            config(Role::Listener, 200_u8.wrapping_add(self.carrier)),
            self.now,
        );
        let input = &mut BytesMut::from(&said[..]);
        let read = fresh.handle_bytes(StreamKey::MAIN, input, false, self.now);
        let Some(LinkEvent::ResumeRequested(request)) = fresh.poll_event() else {
            assert!(is_changed || read.is_err() || claim != Offsets::default());
            return;
        };
        // Where the old carrier looks alive, what is on its way there is lost.
        match self.link.resume(*request, self.now) {
            Ok(()) => {
                assert!(!is_changed && attach.epoch > self.session.epoch);
                self.session.epoch = attach.epoch;
                self.is_honest = true;
                self.agreed(&claim);
                self.is_answered(&dialer);
            }
            Err(rejection) => {
                fresh.reject(rejection);
                written(&mut fresh, self.now);
            }
        }
    }

    /// The link's answer to a dialer with this preface.
    fn is_answered(&mut self, dialer: &[u8]) {
        let flight = self.written();
        let (listener, rest) = flight.split_at(preface_of(&flight).unwrap_or(0));
        let all = frames(rest);
        let Some(((Some(Kind::Resumed), 0, payload), more)) = all.split_first() else {
            unreachable!("RESUMED comes first: {all:?}");
        };
        let binding = Binding::new(dialer, listener, None);
        let told = Attach::read_resumed(payload, &self.session, &binding);
        let Ok(Some(told)) = told else {
            unreachable!("{told:?}");
        };
        assert_eq!(told.epoch, self.session.epoch);
        self.check_taken(&told);
        for (kind, lane, payload) in more {
            self.hear(*kind, *lane, payload);
        }
    }

    /// The link tells how much it has of the peer's messages.
    fn check_taken(&self, told: &Attach) {
        let is_true = told.offsets.messages == self.taken;
        assert!(is_true || !self.is_known, "every byte once: {told:?}");
    }

    /// The link has taken a claim for good, and goes on from there.
    fn agreed(&mut self, claim: &Offsets) {
        use crate::session::Progress;
        self.is_up = true;
        let allotted = self.lanes.last_key_value().map_or(0, |(number, _)| *number);
        assert!(claim.highest <= allotted, "that lane was never allotted");
        self.messages.go_on(claim.messages);
        if !self.is_known {
            return;
        }
        for (number, lane) in &mut self.lanes {
            lane.is_flowing = false;
            match claim.lane(*number) {
                Progress::Done => {
                    let all = u64::try_from(lane.asked.len()).unwrap_or(0);
                    assert!(lane.is_over || lane.most == all, "who is done has got all of it");
                    lane.is_over = true;
                }
                Progress::At(at) if !lane.is_over => lane.go_on(at),
                Progress::At(_) => {}
            }
        }
    }

    /// Hands bytes to the link, which takes all of them if they are honest: they are whole frames.
    fn give(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        let handled = self
            .link
            .handle_bytes(StreamKey::MAIN, &mut input, false, self.now);
        self.take_events();
        if handled.is_err() {
            self.is_up = false;
            self.is_honest = false;
            // What is no loss of a carrier is the end of the session.
            let goes_on = self.link.detach(self.now).is_ok();
            let is_loss = matches!(handled, Err(crate::LinkError::Carrier(_)));
            assert!(!goes_on || is_loss || matches!(handled, Err(crate::LinkError::Misuse(_))));
            self.goes_on = goes_on;
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.link.poll_event() {
            if let LinkEvent::Message(message) = event
                && self.is_known
            {
                let count = u32::try_from(self.counted).unwrap_or(0).to_le_bytes();
                assert_eq!(message.bytes, &count[..], "every message once and in order");
                self.counted = self.counted.saturating_add(1);
            }
        }
    }

    /// The link is asked to say something.
    fn submit(&mut self, input: &mut Input<'_>) {
        let (most, longest) = SAID;
        if self.submitted >= most {
            return;
        }
        self.submitted = self.submitted.saturating_add(1);
        let head = [input.byte(); 3];
        let len = usize::from(input.byte()).saturating_mul(40).min(longest);
        let salt = input.byte();
        let body: Vec<u8> = (0..len)
            .map(|at| salt.wrapping_add(u8::try_from(at % 251).unwrap_or(0)))
            .collect();
        let lane = match self.link.submit(&head, Body::Slice(&body)) {
            Ok(lane) => lane,
            Err(error) => {
                let is_room = matches!(error, crate::LinkError::Misuse(Misuse::Backlog | Misuse::Lanes));
                assert!(is_room || !self.is_up || !self.is_honest, "{error}");
                return;
            }
        };
        let asked = &mut self.messages.asked;
        if let Some(lane) = lane {
            let apart = Some((lane.number(), u64::try_from(len).unwrap_or(0)));
            put_prefix(asked, head.len(), apart);
            asked.extend_from_slice(&head);
            let apart = Lane {
                asked: body,
                ..Lane::default()
            };
            self.lanes.insert(lane.number(), apart);
        } else {
            put_prefix(asked, head.len().saturating_add(len), None);
            asked.extend_from_slice(&head);
            asked.extend_from_slice(&body);
        }
    }

    /// The peer says a few bytes more of its messages.
    fn speak(&mut self, input: &mut Input<'_>) {
        if !self.is_up || !self.is_honest || !self.is_known {
            return;
        }
        let len = u64::from(input.byte() % 32).saturating_add(1);
        let end = self.taken.saturating_add(len);
        let byte = |at: u64| {
            let count = (at / MESSAGE).to_le_bytes();
            match usize::try_from(at % MESSAGE).unwrap_or(0).checked_sub(1) {
                None => 8, // the head, and all of it: four bytes
                Some(at) => count.get(at).copied().unwrap_or(0),
            }
        };
        let payload: Vec<u8> = (self.taken..end).map(byte).collect();
        self.taken = end;
        self.give(&frame(Kind::Data, 0, &payload));
        assert!(self.is_honest, "nothing is wrong with that");
        assert_eq!(self.counted, self.taken / MESSAGE);
    }

    fn acknowledge(&mut self, input: &mut Input<'_>) {
        if !self.is_up {
            return;
        }
        let upto = input.number(self.messages.at);
        if upto > self.messages.at {
            self.is_honest = false;
        } else {
            self.messages.acked = self.messages.acked.max(upto);
        }
        self.give(&numbered(Kind::Ack, 0, upto));
    }

    fn credit(&mut self, input: &mut Input<'_>) {
        if !self.is_up {
            return;
        }
        let lane = input.number(1);
        let upto = input.number(4096);
        self.is_honest &= self.lanes.contains_key(&lane);
        self.give(&numbered(Kind::Credit, lane, upto));
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        self.now = self.now.saturating_add(u64::from(input.byte()) << 28);
        if self.link.handle_timeout(self.now).is_err() {
            self.cut();
        }
    }

    /// Anything at all.
    fn garble(&mut self, input: &mut Input<'_>) {
        if self.is_up {
            (self.is_honest, self.is_known) = (false, false);
            let bytes = input.bytes();
            self.give(&bytes);
        }
    }

    /// What the link writes on its main stream; what it writes on others is heard at once.
    fn written(&mut self) -> Vec<u8> {
        let (mut batch, mut bytes) = (Batch::new(), Vec::new());
        while self.link.poll_transmit(&mut batch, self.now) {
            assert!(batch.len() < 1 << 20, "a batch is bounded");
            bytes.extend_from_slice(&batch.to_vec(StreamKey::MAIN));
            for (number, lane) in &mut self.lanes {
                let own = batch.to_vec(StreamKey::new(*number));
                assert!(own.is_empty() || self.is_up, "nothing goes without a carrier");
                if self.is_known {
                    lane.hear_stream(*number, &own);
                }
            }
            batch.clear();
        }
        bytes
    }

    /// Hears what the link says now.
    fn listen(&mut self) {
        let bytes = self.written();
        if self.is_up && self.goes_on {
            for (kind, lane, payload) in frames(&bytes) {
                self.hear(kind, lane, &payload);
            }
        } else if self.goes_on {
            assert!(bytes.is_empty(), "nothing goes without a carrier");
        }
        let stats = self.link.stats();
        assert!(stats.retained <= limits().retained.saturating_add(1 << 17));
        assert!(stats.retained.saturating_add(stats.unsent) <= limits().backlog);
        assert!(stats.lanes_in <= 1024 && stats.lanes_out <= SAID.0);
    }

    fn hear(&mut self, kind: Option<Kind>, lane: u64, payload: &[u8]) {
        match (kind, lane) {
            (Some(Kind::Data), 0) => self.messages.hear(payload),
            _ if !self.is_known => {}
            (Some(Kind::Data), _) => {
                let Some(lane) = self.lanes.get_mut(&lane) else {
                    unreachable!("lane {lane} was not asked for");
                };
                lane.hear(payload);
            }
            (Some(Kind::LaneReset), _) => {
                if let Some(lane) = self.lanes.get_mut(&lane) {
                    lane.is_over = true;
                }
            }
            (Some(Kind::LaneEnd), _) => {
                if let Some(lane) = self.lanes.get(&lane) {
                    assert_eq!(lane.at, u64::try_from(lane.asked.len()).unwrap_or(0), "all of it");
                }
            }
            _ => {}
        }
    }
}

impl Lane {
    /// The next bytes on this carrier.
    fn hear(&mut self, bytes: &[u8]) {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let asked = self.asked.get(at..at.saturating_add(bytes.len()));
        assert!(asked == Some(bytes), "these are not the bytes at {at}");
        self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        self.most = self.most.max(self.at);
    }

    /// The next bytes of its own stream, which tells at first where it begins.
    fn hear_stream(&mut self, number: u64, bytes: &[u8]) {
        let mut rest = bytes;
        if !bytes.is_empty() && !std::mem::replace(&mut self.is_flowing, true) {
            let (kind, more) = rest.split_first().unwrap_or((&0, &[]));
            rest = more;
            let (lane, at) = (varint::take(&mut rest), varint::take(&mut rest));
            assert_eq!((*kind, lane, at), (1, Ok(number), Ok(self.at)));
        }
        self.hear(rest);
    }

    /// The link has agreed that the peer has so much.
    fn go_on(&mut self, at: u64) {
        assert!(
            self.acked <= at && at <= self.most,
            "{at} was never sent, or is gone"
        );
        self.at = at;
        self.most = at; // what was sent beyond is unsent again
        self.acked = at;
    }
}

const fn opposite(role: Role) -> Role {
    match role {
        Role::Dialer => Role::Listener,
        Role::Listener => Role::Dialer,
    }
}

fn binding(role: Role, ours: &[u8], theirs: &[u8]) -> Binding {
    match role {
        Role::Dialer => Binding::new(ours, theirs, None),
        Role::Listener => Binding::new(theirs, ours, None),
    }
}

/// The frames that a link has written.
fn frames(bytes: &[u8]) -> Vec<(Option<Kind>, u64, Bytes)> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Ok(Some((header, at))) = Header::decode(rest, MAX_FRAGMENT) {
        let end = at.saturating_add(header.len);
        let payload = rest.get(at..end).unwrap_or_default();
        all.push((header.kind, header.lane, Bytes::copy_from_slice(payload)));
        rest = rest.get(end..).unwrap_or_default();
    }
    assert!(rest.is_empty(), "whole frames");
    all
}
