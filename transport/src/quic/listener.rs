//! Letting peers in: handshakes run beside each other, bounded in all and per address.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Endpoint, Incoming};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::info;
use super::streams::QuicMuxed;
use crate::address::{Address, PeerKey};
use crate::carrier::{BoxFuture, Carrier};
use crate::error::AcceptError;
use crate::medium::Listener;
use crate::per_source::{PerSource, Place};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once, in all and from one address (of IPv6: its first 64 bits).
const HALF_OPEN: usize = 512;
const HALF_OPEN_PER_SOURCE: usize = 128;
/// From so many on, peers must prove their addresses first, which costs a round trip and no memory.
const RETRY_ABOVE: usize = 64;
/// Connections that are done and not yet accepted.
const BACKLOG: usize = 64;

/// Listens on endpoints until it is dropped.
pub(super) struct Listening {
    endpoints: Vec<Endpoint>,
    key: PeerKey,
    done: mpsc::Receiver<Carrier>,
    /// Ends with the listener.
    _accepting: JoinSet<()>,
}

impl Listening {
    pub(super) fn start(endpoints: Vec<Endpoint>, key: PeerKey) -> Self {
        let (carriers, done) = mpsc::channel(BACKLOG);
        let half_open = PerSource::new(HALF_OPEN, HALF_OPEN_PER_SOURCE);
        let mut accepting = JoinSet::new();
        for endpoint in &endpoints {
            accepting.spawn(accept(endpoint.clone(), half_open.clone(), carriers.clone()));
        }
        Self {
            endpoints,
            key,
            done,
            _accepting: accepting,
        }
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe, as the channel is.
        Box::pin(async {
            let carrier = self.done.recv().await;
            carrier.ok_or_else(|| AcceptError::Broken(std::io::ErrorKind::NotConnected.into()))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        let local = |endpoint: &Endpoint| endpoint.local_addr().ok();
        let addresses = self.endpoints.iter().filter_map(local);
        addresses
            .map(|address| Address::quic(address).with_peer_key(self.key))
            .collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            // Connections that are open go on; new ones are refused.
            endpoint.set_server_config(None);
        }
    }
}

/// Takes handshakes in as they come.
async fn accept(endpoint: Endpoint, half_open: PerSource, carriers: mpsc::Sender<Carrier>) {
    let mut handshakes = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while handshakes.try_join_next().is_some() {}
        let from = incoming.remote_address();
        let Some(place) = half_open.enter(from.ip()) else {
            incoming.ignore();
            continue;
        };
        if !incoming.remote_address_validated() && half_open.taken() > RETRY_ABOVE {
            // It fails for a peer that has done so already, which cannot be here.
            let _ = incoming.retry();
            continue;
        }
        handshakes.spawn(handshake(
            incoming,
            endpoint.local_addr().ok(),
            place,
            carriers.clone(),
        ));
    }
}

/// One handshake; what fails here fails for the peer alone.
async fn handshake(
    incoming: Incoming,
    local: Option<SocketAddr>,
    place: Place,
    carriers: mpsc::Sender<Carrier>,
) {
    let connecting = async {
        let connection = incoming.await.ok()?;
        let mut info = info(&connection).ok()?;
        info.local = local.map(Address::quic);
        info.remote = Some(Address::quic(canonical(connection.remote_address())));
        Some(Carrier::Muxed(Box::new(QuicMuxed::new(connection, info))))
    };
    if let Ok(Some(carrier)) = tokio::time::timeout(HANDSHAKE, connecting).await {
        // It fails if the listener is gone.
        let _ = carriers.send(carrier).await;
    }
    drop(place);
}

/// A peer that came by IPv4 to a socket of both families is shown as one that came by IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
