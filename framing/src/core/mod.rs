//! What a link is, apart from how its carrier has streams: phase, lanes, session, signs of life.
//!
//! [`receive`] takes frames in, [`transmit`] puts frames out, [`attach`] goes from carrier to carrier. The two forms
//! of link add how the lanes beside lane 0 travel.

mod attach;
mod receive;
pub(crate) mod transmit;

use std::num::NonZeroU32;

use bytes::Bytes;
use farref_transport::Class;

use crate::error::{LinkError, Loss, Misuse, SessionEnd};
use crate::event::{CloseReason, LinkEvent, LinkStats};
use crate::lanes::buffer::size;
use crate::lanes::incoming::{Events, Incoming};
use crate::lanes::outgoing::Outgoing;
use crate::link::{Body, LaneId, LinkConfig, Nanos, Role};
use crate::preface::{Declared, Preface};
use crate::pulse::{Pulse, earlier, nanos};
use crate::session::{Binding, Session, SessionId, Tombstone};

/// The state of a link that does not depend on the form of its carrier.
///
/// Outside this crate it can only be carried from one form of link to the other, while it is detached
/// ([`StreamLink::over`](crate::StreamLink::over), [`NativeLink::over`](crate::NativeLink::over)).
///
/// # Invariant
///
/// In phase `Open` the peer's limits are known to `out`. `resuming` is set from the wish to go on with
/// a session until both sides have agreed to, and nothing of any lane is sent meanwhile.
#[derive(Debug)]
pub struct Core {
    role: Role,
    /// Our limits, as they are declared to the peer.
    limits: Declared,
    /// How long the peer may take until the link is open.
    handshake: Nanos,
    phase: Phase,
    resuming: bool,
    membership: Membership,
    carrier: CarrierState,
    out: Outgoing,
    inc: Incoming,
    pulse: Pulse,
    events: Events,
    closing: Option<Box<CloseReason>>,
    peer_closed: bool,
    /// Nobody waits for what was not sent.
    abandoned: bool,
    /// The last bytes are in a batch: nothing more goes out.
    finished: bool,
    /// Nothing is to be written but messages and acknowledgements: not a greeting or a close, nothing of other lanes or
    /// about them, no sign of life. Found out by whoever has written all else, and no longer known once
    /// [stirred](Self::stir).
    calm: bool,
    counts: Counts,
}

/// What a link counts.
#[derive(Debug, Default)]
struct Counts {
    bytes_sent: u64,
    bytes_received: u64,
    messages_sent: u64,
    messages_received: u64,
    carriers: u64,
}

/// How far a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The peer's preface is awaited.
    Greeting,
    /// The peer's session frame is awaited.
    Joining,
    /// Everything flows.
    Open,
    /// The dialer wants to go on with a session, which is not ours to decide.
    Asked,
    /// There is no carrier.
    Detached,
    /// Nothing more comes or goes, except last words.
    Over,
}

/// What there is of a session.
#[derive(Debug)]
enum Membership {
    Off,
    /// Wanted here; the secret is what we bring.
    Wanted {
        secret: Secret,
    },
    On(Session),
}

/// A secret that stays out of logs.
struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is true of the present carrier only.
#[derive(Debug)]
struct CarrierState {
    /// What both sides are known by, until they have agreed.
    introduction: Option<Box<Introduction>>,
    /// What goes out before anything else.
    greeting: Vec<u8>,
    /// Most bytes of payload that we take in one frame.
    accepts: usize,
    /// Most bytes of payload that we send in one frame.
    fragment: usize,
    /// When the carrier began.
    since: Nanos,
    /// When the session lost its last carrier.
    down_since: Nanos,
    /// A SESSION_NEW may come although there will be no session.
    ignore_new: bool,
    /// A frame of a body of which a part was taken.
    begun: Option<Begun>,
}

/// What of a frame is still to come.
#[derive(Debug, Clone, Copy)]
struct Begun {
    lane: u64,
    left: NonZeroU32,
    /// Bytes of payload in all, or of those of that body that went before if it is the last and shorter.
    len: u32,
}

impl Begun {
    /// A frame of `lane` with `len` bytes of payload, of which `left` are still to come. `None` if it is complete.
    fn new(lane: u64, len: usize, left: usize) -> Option<Self> {
        Some(Self {
            lane,
            left: NonZeroU32::new(u32::try_from(left).ok()?)?,
            len: u32::try_from(len).ok()?,
        })
    }

    /// How much is still to come.
    const fn left(self) -> usize {
        self.left.get() as usize
    }

    /// The same after `n` bytes more.
    fn without(self, n: usize) -> Option<Self> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let left = NonZeroU32::new(self.left.get().saturating_sub(n))?;
        Some(Self { left, ..self })
    }
}

/// How the sides introduce themselves over one carrier.
#[derive(Debug)]
struct Introduction {
    nonce: [u8; 16],
    channel_binding: Option<[u8; 32]>,
    /// Our preface, as it goes or went over this carrier.
    preface: Vec<u8>,
    /// Both prefaces, once the peer's is there.
    binding: Option<Binding>,
}

impl Introduction {
    fn new(nonce: [u8; 16], channel_binding: Option<[u8; 32]>) -> Box<Self> {
        Box::new(Self {
            nonce,
            channel_binding,
            preface: Vec::new(),
            binding: None,
        })
    }
}

impl CarrierState {
    /// Our preface, while the sides have not agreed.
    fn preface(&self) -> &[u8] {
        self.introduction.as_ref().map_or(&[], |ours| &ours.preface)
    }

    fn binding(&self) -> Option<&Binding> {
        self.introduction.as_ref()?.binding.as_ref()
    }
}

impl Core {
    pub(crate) fn new(config: LinkConfig, now: Nanos) -> Self {
        let limits = config.limits.legal();
        let membership = if config.session {
            Membership::Wanted {
                secret: Secret(config.secret),
            }
        } else {
            Membership::Off
        };
        let mut core = Self {
            role: config.role,
            phase: Phase::Greeting,
            resuming: false,
            membership,
            carrier: CarrierState {
                introduction: Some(Introduction::new(config.nonce, config.channel_binding)),
                greeting: Vec::new(),
                accepts: limits.fragment,
                fragment: limits.fragment,
                since: now,
                down_since: now,
                ignore_new: false,
                begun: None,
            },
            out: Outgoing::new(&limits, config.session),
            inc: Incoming::new(&limits),
            pulse: Pulse::new(&limits, now),
            events: Events::with_capacity(2),
            closing: None,
            peer_closed: false,
            abandoned: false,
            finished: false,
            calm: false,
            counts: Counts {
                carriers: 1,
                ..Counts::default()
            },
            handshake: nanos(limits.handshake),
            limits: Declared::from(&limits),
        };
        core.write_preface();
        if core.role == Role::Dialer {
            core.carrier.greeting = core.carrier.preface().to_vec();
            if let Membership::Wanted { secret } = &core.membership {
                let secret = secret.0;
                core.greet(crate::frame::Kind::SessionNew, &secret);
            }
        }
        core
    }

    /// Makes our preface for this carrier.
    fn write_preface(&mut self) {
        let Some(ours) = &mut self.carrier.introduction else {
            return;
        };
        let preface = Preface {
            role: self.role,
            session: !matches!(self.membership, Membership::Off),
            resuming: self.resuming,
            nonce: ours.nonce,
            declared: Declared {
                fragment: self.carrier.accepts,
                ..self.limits
            },
        };
        ours.preface.clear();
        preface.encode(&mut ours.preface);
    }

    #[inline]
    pub(crate) fn submit(&mut self, head: &[u8], body: Body<'_>) -> Result<Option<LaneId>, LinkError> {
        self.check_open()?;
        let lane = self.out.submit(head, body)?;
        self.calm &= lane.is_none();
        self.counts.messages_sent = self.counts.messages_sent.saturating_add(1);
        Ok(lane)
    }

    /// Something else than messages may be to be written from here on.
    fn stir(&mut self) {
        self.calm = false;
    }

    #[inline]
    fn check_open(&self) -> Result<(), LinkError> {
        if self.phase == Phase::Over || self.closing.is_some() {
            return Err(Misuse::Closed.into());
        }
        Ok(())
    }

    pub(crate) fn open_lane(&mut self, class: Class) -> Result<LaneId, LinkError> {
        self.check_open()?;
        self.out.open_lane(class)
    }

    pub(crate) fn write_lane(&mut self, lane: LaneId, bytes: Bytes) -> Result<(), LinkError> {
        self.stir();
        self.check_open()?;
        self.out.write(lane, bytes)
    }

    pub(crate) fn lane_room(&self, lane: LaneId) -> u64 {
        self.out.room(lane)
    }

    pub(crate) fn end_lane(&mut self, lane: LaneId) {
        self.stir();
        self.out.end(lane);
    }

    pub(crate) fn reset_lane(&mut self, lane: LaneId, code: u64) {
        self.stir();
        self.out.reset(lane, code);
    }

    pub(crate) fn accept_lane(&mut self, lane: LaneId, upto: u64) -> Result<(), LinkError> {
        self.stir();
        self.inc
            .accept(lane.number(), upto, &mut self.events)
            .map_err(|breach| self.fail(breach.into()))
    }

    pub(crate) fn grant(&mut self, lane: LaneId, upto: u64) {
        self.stir();
        self.inc.grant(lane.number(), upto);
    }

    pub(crate) fn stop_lane(&mut self, lane: LaneId, code: u64) {
        self.stir();
        self.inc.stop(lane.number(), code);
    }

    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    #[inline]
    pub(crate) fn awaits_pong(&self) -> bool {
        self.pulse.awaits_pong()
    }

    pub(crate) fn ping(&mut self, now: Nanos) {
        self.stir();
        self.pulse.ping(now);
    }

    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.stir();
        if self.phase == Phase::Over || self.closing.as_ref().is_some_and(|closing| !closing.is_done()) {
            return;
        }
        // a listener that has not spoken has nothing to close, and a lost carrier nobody to tell
        let unheard = self.resuming
            || matches!(self.phase, Phase::Detached | Phase::Asked)
            || (self.phase == Phase::Greeting && self.role == Role::Listener);
        if unheard {
            self.phase = Phase::Over;
            self.finished = true;
        }
        self.closing = Some(Box::new(reason));
    }

    /// What was not sent is not sent any more, but for a close. Nothing of it is kept: the peer may be slow to take that.
    pub(crate) fn abandon(&mut self) {
        self.stir();
        self.abandoned = true;
        self.out.discard_all();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(crate) fn position(&self) -> u64 {
        self.out.messages.end()
    }

    pub(crate) fn is_transmitted(&self, position: u64) -> bool {
        self.out.messages.sent() >= position
    }

    pub(crate) fn is_acknowledged(&self, position: u64) -> bool {
        matches!(self.membership, Membership::On(_)) && self.out.messages.start() >= position
    }

    pub(crate) fn is_congested(&self) -> bool {
        // What waits above can still be taken back; what waits here will be sent.
        self.phase == Phase::Detached || self.resuming || self.out.is_congested()
    }

    fn joined(&self) -> Option<&Session> {
        match &self.membership {
            Membership::On(session) => Some(session),
            Membership::Off | Membership::Wanted { .. } => None,
        }
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        self.joined().map(|session| session.id)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.joined().map_or(1, |session| session.epoch)
    }

    pub(crate) fn tombstone(&self) -> Option<Tombstone> {
        self.joined()
            .map(|session| Tombstone::new(session, self.inc.messages()))
    }

    pub(crate) fn stats(&self) -> LinkStats {
        LinkStats {
            lanes_out: self.out.open_lanes(),
            lanes_in: self.inc.open(),
            retained: self.out.kept(),
            unsent: self.out.unsent(),
            bytes_sent: self.counts.bytes_sent,
            bytes_received: self.counts.bytes_received,
            messages_sent: self.counts.messages_sent,
            messages_received: self.counts.messages_received,
            carriers: self.counts.carriers,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Nanos) -> Result<(), LinkError> {
        self.stir();
        if self.expiry().is_some_and(|end| now >= end) {
            return Err(self.fail(SessionEnd::Expired.into()));
        }
        match self.phase {
            Phase::Open => {
                self.inc.spare.tidy(now);
                self.pulse.handle_timeout(now)
            }
            Phase::Greeting | Phase::Joining | Phase::Asked if now >= self.handshake_end() => {
                Err(Loss::Handshake.into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Nanos> {
        if self.phase == Phase::Open {
            earlier(self.pulse.poll_timeout(), self.inc.spare.poll_timeout())
        } else {
            self.poll_agreement()
        }
    }

    /// When both sides must have agreed.
    #[cold]
    fn poll_agreement(&self) -> Option<Nanos> {
        let waits = matches!(self.phase, Phase::Greeting | Phase::Joining | Phase::Asked);
        earlier(waits.then(|| self.handshake_end()), self.expiry())
    }

    /// Nothing has come for a while.
    pub(crate) fn rest(&mut self) {
        self.events.shrink_to_fit();
        self.out.rest();
        self.inc.rest();
        self.pulse.rest();
    }

    /// When the peer must have introduced itself.
    fn handshake_end(&self) -> Nanos {
        self.carrier.since.saturating_add(self.handshake)
    }

    /// When the session ends if no carrier is agreed on.
    fn expiry(&self) -> Option<Nanos> {
        let waits = self.phase != Phase::Over && (self.phase == Phase::Detached || self.resuming);
        (waits && self.joined().is_some()).then(|| {
            self.carrier
                .down_since
                .saturating_add(nanos(self.limits.resume_window))
        })
    }

    /// Bytes came on a stream beside the main one.
    pub(crate) fn heard(&mut self, now: Nanos) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Over | Phase::Detached) {
            return Err(Misuse::Closed.into());
        }
        self.pulse.heard(now);
        Ok(())
    }

    /// Whether everything flows.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Lanes, and bytes of each, that the peer may send before it hears from us.
    pub(crate) fn unasked(&self) -> (usize, usize) {
        (size(u64::from(self.limits.lanes)), size(self.limits.first_credit))
    }

    /// Offset up to which the peer may send a lane of its own.
    pub(crate) fn granted(&self, lane: u64) -> u64 {
        self.inc.granted(lane)
    }

    /// Whether a lane of the peer's was here and is done.
    pub(crate) fn is_done(&self, lane: u64) -> bool {
        self.inc.is_done(lane)
    }

    /// How far a lane of the peer's was received.
    pub(crate) fn received(&self, lane: u64) -> u64 {
        self.inc.received(lane)
    }
}
