//! Framing's face to the layers above: what a link takes, what it yields, and the words for both.
//!
//! Only types and the trait; the work is done in [`StreamLink`](crate::StreamLink) and
//! [`NativeLink`](crate::NativeLink).

use std::fmt;

use bytes::{Bytes, BytesMut};
use farref_transport::Class;

use crate::batch::Batch;
use crate::core::Core;
use crate::error::LinkError;
use crate::io::Placement;

use crate::limits::Limits;
use crate::session::{Rejection, ResumeRequest, SessionId, Tombstone};

pub use crate::event::{Bulk, CloseReason, LinkEvent, LinkStats, Message, Negotiated};

/// Time in a core: nanoseconds since an arbitrary origin, never going back.
pub type Nanos = u64;

/// Which side of a carrier this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a carrier has two ends")]
pub enum Role {
    /// This side dialled. It speaks first, and it is the one that resumes.
    Dialer,
    /// This side listened.
    Listener,
}

/// Number of a lane. Each direction counts its own from 1; 0 is the lane of messages.
///
/// Whose lane is meant is told by the method or event: one that writes means ours, one that reads the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(u64);

impl LaneId {
    /// The lane of messages.
    pub const MESSAGES: Self = Self(0);

    /// The lane with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a stream of a carrier, between a link and the halves of its carrier.
///
/// Streams that are read and streams that are written are numbered apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    number: u64,
    /// The peer gave the stream up: nothing more comes of it.
    lost: bool,
}

impl StreamKey {
    /// The only stream of a byte stream; the stream of lane 0 among native streams.
    pub const MAIN: Self = Self::new(0);

    /// The stream with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number, lost: false }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// Tells a link that this stream will bring nothing more, and no end either.
    #[must_use]
    pub const fn lost(self) -> Self {
        Self { lost: true, ..self }
    }

    pub(crate) const fn is_lost(self) -> bool {
        self.lost
    }

    pub(crate) const fn found(self) -> Self {
        Self { lost: false, ..self }
    }
}

/// How a link is made.
#[derive(Clone)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Which side this is.
    pub role: Role,
    /// Whether bytes are kept until acknowledged, so that the session outlives its carrier. Used if both want it.
    ///
    /// Default false.
    pub session: bool,
    /// Fresh random bytes, for this carrier alone.
    pub nonce: [u8; 16],
    /// Fresh random bytes, for this session alone, from a source fit for keys.
    pub secret: [u8; 32],
    /// The bounds.
    pub limits: Limits,
    /// What only the two ends of this carrier share, if it is encrypted. Resumption is bound to it.
    ///
    /// Default `None`.
    pub channel_binding: Option<[u8; 32]>,
}

impl LinkConfig {
    /// The defaults for one side; `nonce` and `secret` are fresh random bytes.
    #[must_use]
    pub fn new(role: Role, nonce: [u8; 16], secret: [u8; 32]) -> Self {
        Self {
            role,
            session: false,
            nonce,
            secret,
            limits: Limits::default(),
            channel_binding: None,
        }
    }
}

impl fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkConfig")
            .field("role", &self.role)
            .field("session", &self.session)
            .field("limits", &self.limits)
            .finish_non_exhaustive() // the secret stays out of logs
    }
}

/// A new carrier for a session, on the side that dials.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttachConfig {
    /// Fresh random bytes, for this carrier alone.
    pub nonce: [u8; 16],
    /// What only the two ends of this carrier share, if it is encrypted. Default `None`.
    pub channel_binding: Option<[u8; 32]>,
    /// Most bytes of payload in one frame on this carrier. Default: that of the session's limits.
    pub fragment: Option<usize>,
}

impl AttachConfig {
    /// The defaults; `nonce` is fresh random bytes.
    #[must_use]
    pub const fn new(nonce: [u8; 16]) -> Self {
        Self {
            nonce,
            channel_binding: None,
            fragment: None,
        }
    }
}

/// The body of a message about to be sent.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::exhaustive_enums,
    reason = "one contiguous piece or several, there is no third"
)]
pub enum Body<'a> {
    /// One contiguous piece. It is copied, once.
    Slice(&'a [u8]),
    /// Several pieces, in order. Those of 4 KiB and more are shared rather than copied.
    Rope(&'a [Bytes]),
}

impl Body<'_> {
    /// Nothing.
    pub const EMPTY: Self = Self::Slice(&[]);

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Slice(bytes) => bytes.len(),
            Self::Rope(pieces) => pieces.iter().map(Bytes::len).fold(0, usize::saturating_add),
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes to messages on lanes, and back: framing as the layers above see it.
///
/// A link is a state machine without IO. Every method works on memory only and is quick; whoever owns the link
/// calls it under one lock. After an error from one of the `handle_` methods nothing more comes out but, from
/// [`poll_transmit`](Self::poll_transmit), the last words for the peer.
///
/// The caller takes all events after each `handle_` method: there are never more than the bytes just read hold.
///
/// # From carrier to carrier
///
/// With a session, an error of kind [`Carrier`](LinkError::Carrier), or one of the carrier itself, is not the end:
/// [`detach`](Self::detach), and empty the batch. The dialer dials again, [`attach`](Self::attach)es, and drives the
/// new carrier. The listener drives a fresh link on every carrier it accepts; if that tells
/// [`ResumeRequested`](LinkEvent::ResumeRequested), it stops reading there, finds the session by its id, makes sure
/// that the peer is the same, stops reading the old carrier, hands the request to [`resume`](Self::resume) of the
/// session's link and the new carrier's halves to whoever drives that, and drops the fresh link.
pub trait Link: Send + 'static {
    /// Queues one message on lane 0 and returns the lane of its body if that goes as bulk: if head and body
    /// together are longer than one fragment. The head keeps its place on lane 0 either way.
    ///
    /// # Errors
    ///
    /// [`Misuse`](LinkError::Misuse) if the message is longer than the peer accepts, if too much waits already, or
    /// if the link is closed. Nothing was queued then.
    fn submit(&mut self, head: &[u8], body: Body<'_>) -> Result<Option<LaneId>, LinkError>;

    /// Opens a stream lane of ours. The peer learns its number from a message that names it, and accepts it.
    ///
    /// # Errors
    ///
    /// [`Misuse`](LinkError::Misuse) if as many lanes are open as the peer allows, or if the link is closed.
    fn open_lane(&mut self, class: Class) -> Result<LaneId, LinkError>;

    /// Queues bytes on a stream lane of ours.
    ///
    /// # Errors
    ///
    /// [`Misuse`](LinkError::Misuse) if the lane is ended, reset, stopped or was never opened, or if too much
    /// waits already.
    fn write_lane(&mut self, lane: LaneId, bytes: Bytes) -> Result<(), LinkError>;

    /// How many more bytes the peer's credit covers on a stream lane of ours; 0 for a lane that is gone.
    fn lane_room(&self, lane: LaneId) -> u64;

    /// Ends a stream lane of ours behind what was written. Without effect on one that is gone.
    fn end_lane(&mut self, lane: LaneId);

    /// Gives up a lane of ours, a body included: what is unsent is dropped. Without effect on one that is gone.
    fn reset_lane(&mut self, lane: LaneId, code: u64);

    /// Accepts a stream lane of the peer's, named by a message, and grants it `upto` bytes if that is more than
    /// its first credit. What came already is the next event.
    ///
    /// # Errors
    ///
    /// [`Misbehaved`](LinkError::Misbehaved) if the peer can't have opened that lane, or has named it before.
    fn accept_lane(&mut self, lane: LaneId, upto: u64) -> Result<(), LinkError>;

    /// Grants an accepted lane of the peer's more: an absolute offset. Less than before is without effect, and so
    /// is a lane that is gone.
    fn grant(&mut self, lane: LaneId, upto: u64);

    /// Tells the peer that a lane of its own, a body or an accepted stream, is not wanted; nothing more is heard
    /// of it. Without effect on one that is gone.
    fn stop_lane(&mut self, lane: LaneId, code: u64);

    /// Whether a ping waits for its answer: the time that comes with that tells the round trip.
    fn awaits_pong(&self) -> bool;

    /// The next event, in the order of the wire.
    fn poll_event(&mut self) -> Option<LinkEvent>;

    /// Whether [`poll_transmit`](Self::poll_transmit) would put something into an empty batch.
    fn wants_write(&self) -> bool;

    /// Moves what is to be written next into `batch`, about 64 KiB at most: control frames, then lane 0, then
    /// the other lanes by class. False if there was nothing.
    ///
    /// A batch that is not written completely may be offered again: what is urgent is then put before the first
    /// bulk fragment in it that has not begun, and nothing else is added.
    fn poll_transmit(&mut self, batch: &mut Batch, now: Nanos) -> bool;

    /// Consumes frames of `input`, which came on `stream`, and leaves there what cannot be taken before more of it has come.
    /// `end`: nothing follows on this stream.
    ///
    /// # Errors
    ///
    /// Every kind but [`Misuse`](LinkError::Misuse): the carrier is over, and with a session only
    /// [`Carrier`](LinkError::Carrier) leaves hope.
    fn handle_bytes(
        &mut self,
        stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        now: Nanos,
    ) -> Result<(), LinkError>;

    /// Takes back the room that [`place`](Self::place) has lent, and what was read there. Before [`handle_bytes`](Self::handle_bytes)
    /// of the main stream, where [something is lent](crate::Inlet::lent).
    ///
    /// # Errors
    ///
    /// As for [`handle_bytes`](Self::handle_bytes).
    fn handle_placed(&mut self, placement: &mut Placement, now: Nanos) -> Result<(), LinkError> {
        let _ = (placement, now);
        Ok(())
    }

    /// Lends the room for what comes next on the main stream, if it will most likely belong to a body: all that was read must
    /// have been consumed. By default nothing, and all goes by way of `input`.
    fn place(&mut self, placement: &mut Placement) {
        let _ = placement;
    }

    /// Does what is due. Calling it early is harmless.
    ///
    /// # Errors
    ///
    /// [`Carrier`](LinkError::Carrier) if the peer is silent for too long, [`Session`](LinkError::Session) if no
    /// new carrier came in time.
    fn handle_timeout(&mut self, now: Nanos) -> Result<(), LinkError>;

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted. Moves later with traffic: a timer need not be
    /// set anew for that, only when this is earlier than it.
    fn poll_timeout(&self) -> Option<Nanos>;

    /// Nothing has come for a while: gives back memory that is of use only while something comes or goes.
    fn rest(&mut self);

    /// Asks the peer for a sign of life; [`LinkEvent::Pong`] follows. If 16 are waiting already, their answers
    /// must do.
    fn ping(&mut self, now: Nanos);

    /// Closes. An orderly end goes out behind all that was submitted, any other at once and instead of it.
    fn close(&mut self, reason: CloseReason);

    /// Sends nothing more of what was submitted and not handed out yet: the layer above has said that it was not sent.
    /// A close goes out still, and at once.
    fn abandon(&mut self);

    /// Whether the close is in a batch: when that is written, the carrier may be closed.
    fn is_finished(&self) -> bool;

    /// Offset on lane 0 behind the last message submitted.
    fn position(&self) -> u64;

    /// Whether all of lane 0 up to `position` was handed out to be written. If not, the peer can't have got a
    /// message that ends there.
    fn is_transmitted(&self, position: u64) -> bool;

    /// Whether the peer has acknowledged all of lane 0 up to `position`. Without a session: never.
    fn is_acknowledged(&self, position: u64) -> bool;

    /// Whether no new calls should be started, since too much waits for the peer, or since there is no carrier;
    /// returns and releases may.
    fn is_congested(&self) -> bool;

    /// The session, once the peer is known, if both wanted one.
    fn session(&self) -> Option<SessionId>;

    /// Number of the carrier that the session is on, from 1. Bytes of an earlier carrier must not be handed in:
    /// compare under the lock.
    fn epoch(&self) -> u64;

    /// The carrier is gone. With a session everything is kept for the next one.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoSession`](crate::Misuse::NoSession): nothing can be resumed; the link is over.
    fn detach(&mut self, now: Nanos) -> Result<(), LinkError>;

    /// Goes on over a new carrier that this side dialled: preface and RESUME are sent first, everything else
    /// after the answer, and [`LinkEvent::Resumed`] tells that it came.
    ///
    /// # Errors
    ///
    /// [`Misuse`](LinkError::Misuse) if there is no session, if this side is the listener, or if there still is a
    /// carrier.
    fn attach(&mut self, config: AttachConfig, now: Nanos) -> Result<(), LinkError>;

    /// Goes on over a new carrier that the dialer has asked to resume on. An old carrier counts as gone from here
    /// on; the caller has made sure that the peer's evidence is that of the session.
    ///
    /// # Errors
    ///
    /// Why not, to be handed to [`reject`](Self::reject) of the link that brought the request. Nothing has changed
    /// then.
    fn resume(&mut self, request: ResumeRequest, now: Nanos) -> Result<(), Rejection>;

    /// Refuses the request that this fresh link brought, and closes.
    fn reject(&mut self, rejection: Rejection);

    /// What is left of a session that is over: enough to tell a returning dialer what was received.
    fn tombstone(&self) -> Option<Tombstone>;

    /// Takes the state that does not depend on the form of the carrier, to go on in the other form. What the old
    /// carrier brought in part is lost with it: detach first.
    fn into_core(self: Box<Self>) -> Core;

    /// Numbers.
    fn stats(&self) -> LinkStats;
}

/// Implements [`Link`] for a form of link that has a `core` and says with `put`, `take` and `forget` how its lanes
/// travel.
macro_rules! link_over_core {
    ($link:ty) => {
        impl $crate::link::Link for $link {
            #[inline]
            fn submit(
                &mut self,
                head: &[u8],
                body: $crate::link::Body<'_>,
            ) -> Result<Option<$crate::link::LaneId>, $crate::LinkError> {
                self.core.submit(head, body)
            }

            fn open_lane(
                &mut self,
                class: farref_transport::Class,
            ) -> Result<$crate::link::LaneId, $crate::LinkError> {
                self.core.open_lane(class)
            }

            fn write_lane(
                &mut self,
                lane: $crate::link::LaneId,
                bytes: bytes::Bytes,
            ) -> Result<(), $crate::LinkError> {
                self.core.write_lane(lane, bytes)
            }

            fn lane_room(&self, lane: $crate::link::LaneId) -> u64 {
                self.core.lane_room(lane)
            }

            fn end_lane(&mut self, lane: $crate::link::LaneId) {
                self.core.end_lane(lane);
            }

            fn reset_lane(&mut self, lane: $crate::link::LaneId, code: u64) {
                self.core.reset_lane(lane, code);
            }

            fn accept_lane(
                &mut self,
                lane: $crate::link::LaneId,
                upto: u64,
            ) -> Result<(), $crate::LinkError> {
                self.core.accept_lane(lane, upto)
            }

            fn grant(&mut self, lane: $crate::link::LaneId, upto: u64) {
                self.core.grant(lane, upto);
            }

            fn stop_lane(&mut self, lane: $crate::link::LaneId, code: u64) {
                self.core.stop_lane(lane, code);
            }

            #[inline]
            fn awaits_pong(&self) -> bool {
                self.core.awaits_pong()
            }

            #[inline]
            fn poll_event(&mut self) -> Option<$crate::LinkEvent> {
                self.core.poll_event()
            }

            #[inline]
            fn wants_write(&self) -> bool {
                self.core.wants_write()
            }

            #[inline]
            fn poll_transmit(&mut self, batch: &mut $crate::Batch, now: $crate::link::Nanos) -> bool {
                self.put(batch, now)
            }

            fn handle_bytes(
                &mut self,
                stream: $crate::link::StreamKey,
                input: &mut bytes::BytesMut,
                end: bool,
                now: $crate::link::Nanos,
            ) -> Result<(), $crate::LinkError> {
                self.take(stream, input, end, now)
            }

            fn handle_placed(
                &mut self,
                placement: &mut $crate::Placement,
                now: $crate::link::Nanos,
            ) -> Result<(), $crate::LinkError> {
                self.core.handle_placed(placement, now)
            }

            fn place(&mut self, placement: &mut $crate::Placement) {
                if Self::IS_FRAMED {
                    self.core.place(placement);
                }
            }

            fn handle_timeout(&mut self, now: $crate::link::Nanos) -> Result<(), $crate::LinkError> {
                self.core.handle_timeout(now)
            }

            fn poll_timeout(&self) -> Option<$crate::link::Nanos> {
                self.core.poll_timeout()
            }

            fn rest(&mut self) {
                self.core.rest();
            }

            fn ping(&mut self, now: $crate::link::Nanos) {
                self.core.ping(now);
            }

            fn close(&mut self, reason: $crate::CloseReason) {
                self.core.close(reason);
            }

            fn abandon(&mut self) {
                self.core.abandon();
            }

            fn is_finished(&self) -> bool {
                self.core.is_finished()
            }

            fn position(&self) -> u64 {
                self.core.position()
            }

            fn is_transmitted(&self, position: u64) -> bool {
                self.core.is_transmitted(position)
            }

            fn is_acknowledged(&self, position: u64) -> bool {
                self.core.is_acknowledged(position)
            }

            fn is_congested(&self) -> bool {
                self.core.is_congested()
            }

            fn session(&self) -> Option<$crate::SessionId> {
                self.core.session()
            }

            fn epoch(&self) -> u64 {
                self.core.epoch()
            }

            fn detach(&mut self, now: $crate::link::Nanos) -> Result<(), $crate::LinkError> {
                self.forget();
                self.core.detach(now)
            }

            fn attach(
                &mut self,
                config: $crate::link::AttachConfig,
                now: $crate::link::Nanos,
            ) -> Result<(), $crate::LinkError> {
                self.core.attach(config, now)
            }

            fn resume(
                &mut self,
                request: $crate::ResumeRequest,
                now: $crate::link::Nanos,
            ) -> Result<(), $crate::Rejection> {
                self.core.resume(request, now)?;
                self.forget();
                Ok(())
            }

            fn reject(&mut self, rejection: $crate::Rejection) {
                self.core.reject(rejection);
            }

            fn tombstone(&self) -> Option<$crate::Tombstone> {
                self.core.tombstone()
            }

            fn into_core(self: Box<Self>) -> $crate::Core {
                self.core
            }

            fn stats(&self) -> $crate::LinkStats {
                self.core.stats()
            }
        }
    };
}
pub(crate) use link_over_core;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_does_not_show_its_secret() {
        let shown = format!("{:?}", LinkConfig::new(Role::Dialer, [1; 16], [0xee; 32]));
        assert!(!shown.contains("238") && !shown.contains("secret"), "{shown}");
    }
}
