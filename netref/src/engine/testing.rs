//! What the tests of several parts share: a connection that nobody drives.

use std::sync::Arc;

use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink, open};
use farref_transport::StreamCarrier;

use crate::clock;
use crate::config::Config;
use crate::connection::Parts;
use crate::engine::core::Core;
use crate::native::Native;
use crate::peer::Peer;
use crate::protocol::Outgoing;
use crate::remote::EngineHandles;

/// The protocol that it speaks.
pub(super) type Spoken = Native<EngineHandles>;

/// A connection over `carrier`, without a driver.
pub(super) async fn undriven(carrier: StreamCarrier, role: Role) -> Arc<Core<Spoken>> {
    let (inlet, outlet, _, guard) = open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.guard = guard;
    let (config, now) = (Config::default(), clock::now());
    let link = StreamLink::new(LinkConfig::new(role, [1; 16], [1; 32]), now);
    let native = Native::new(Box::new(link), &config, Outgoing::Null, now);
    Core::new(native, parts, false, config.into())
}
