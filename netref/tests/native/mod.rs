//! What tests of native connections have in common.

use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink};
use farref_netref::{Config, Connection, Parts, Peer, Root};
use farref_transport::StreamCarrier;

/// One side of a connection over `carrier`; who listens stays, whether or not anybody holds it.
pub(crate) async fn side(carrier: StreamCarrier, role: Role, root: Root, config: Config) -> Connection {
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.keep_open = role == Role::Listener;
    parts.guard = guard;
    let link = LinkConfig::new(role, [role as u8; 16], [role as u8; 32]);
    Connection::native(|now| Box::new(StreamLink::new(link, now)), parts, root, config)
}
