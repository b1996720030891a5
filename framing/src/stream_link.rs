//! The link over a carrier that is one byte stream: every lane travels in frames (PROTOCOL.md § 3.1).

use bytes::BytesMut;
use farref_transport::Class;

use crate::batch::Batch;
use crate::core::Core;
use crate::core::transmit::PutLanes;
use crate::error::{LinkError, Misuse};
use crate::frame::{HeaderBytes, Kind};
use crate::lanes::outgoing::Turn;
use crate::link::{LinkConfig, Nanos, StreamKey};

/// A link over one byte stream.
///
/// ```
/// use bytes::BytesMut;
/// use farref_framing::{Batch, Body, Link, LinkConfig, LinkEvent, Role, StreamKey, StreamLink};
///
/// let mut dialer = StreamLink::new(LinkConfig::new(Role::Dialer, [1; 16], [2; 32]), 0);
/// let mut listener = StreamLink::new(LinkConfig::new(Role::Listener, [3; 16], [4; 32]), 0);
/// dialer.submit(b"hello, ", Body::Slice(b"world"))?;
///
/// let mut batch = Batch::new();
/// dialer.poll_transmit(&mut batch, 0); // a driver writes it to its carrier
/// let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
/// listener.handle_bytes(StreamKey::MAIN, &mut input, false, 0)?;
///
/// assert!(matches!(listener.poll_event(), Some(LinkEvent::Opened(_))));
/// let Some(LinkEvent::Message(message)) = listener.poll_event() else { unreachable!() };
/// assert_eq!(message.bytes, "hello, world");
/// # Ok::<_, farref_framing::LinkError>(())
/// ```
#[derive(Debug)]
pub struct StreamLink {
    core: Core,
}

impl StreamLink {
    /// Bodies travel in frames of the main stream.
    const IS_FRAMED: bool = true;

    /// A link over a fresh carrier.
    #[must_use]
    pub fn new(config: LinkConfig, now: Nanos) -> Self {
        Self {
            core: Core::new(config, now),
        }
    }

    /// Goes on, over byte streams, with what a link of any form has left.
    #[must_use]
    pub fn over(core: Core) -> Self {
        Self { core }
    }

    fn put(&mut self, batch: &mut Batch, now: Nanos) -> bool {
        self.core.poll_transmit(&mut Framed, batch, now)
    }

    fn take(
        &mut self,
        stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        now: Nanos,
    ) -> Result<(), LinkError> {
        if stream != StreamKey::MAIN {
            return Err(Misuse::Stream(stream.number()).into());
        }
        self.core.handle_main(input, end, true, now)
    }

    fn forget(&mut self) {}
}

crate::link::link_over_core!(StreamLink);

/// Lanes in frames.
struct Framed;

impl PutLanes for Framed {
    fn put_turn(&mut self, turn: Turn<'_>, batch: &mut Batch) {
        let (lane, end) = (turn.lane, turn.end);
        if turn.len != 0 {
            batch.put(HeaderBytes::new(Kind::Data, lane, turn.len).as_slice());
            turn.transmit(batch, StreamKey::MAIN);
        }
        if end {
            batch.put(HeaderBytes::new(Kind::LaneEnd, lane, 0).as_slice());
        }
    }

    fn put_reset(&mut self, _: u64, _: Class, _: u64, _: &mut Batch) {}
}
