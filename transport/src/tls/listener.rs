//! Letting peers in: handshakes run beside each other, bounded in all and per address.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::socket::Socket;
use super::{HANDSHAKE, binding, info};
use crate::address::Address;
use crate::carrier::{BoxFuture, Carrier, StreamCarrier};
use crate::error::AcceptError;
use crate::medium::Listener;
use crate::per_source::{PerSource, Place};
use crate::socket::accept_error;
use crate::sparing::warn_of_stranger;
use crate::tcp;

/// Handshakes at once, in all; more peers wait in the system's queue.
const HALF_OPEN: usize = 512;

/// Those of one address (of IPv6: its first 64 bits); more are turned away.
const HALF_OPEN_PER_SOURCE: usize = 128;

/// Listens on sockets until it is dropped.
pub(super) struct Listening {
    sockets: tcp::Listening,
    acceptor: TlsAcceptor,
    proves_peers: bool,
    half_open: PerSource,
    /// Handshakes under way, and those that are done and not yet accepted. End with the listener.
    handshakes: JoinSet<io::Result<Carrier>>,
}

impl Listening {
    /// `proves_peers` says whether peers must prove who they are.
    pub(super) fn new(sockets: tcp::Listening, config: ServerConfig, proves_peers: bool) -> Self {
        Self {
            sockets,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            proves_peers,
            half_open: PerSource::new(HALF_OPEN, HALF_OPEN_PER_SOURCE),
            handshakes: JoinSet::new(),
        }
    }

    fn poll_carrier(&mut self, cx: &mut Context<'_>) -> Poll<Result<Carrier, AcceptError>> {
        loop {
            // What fails in a handshake fails for its peer alone.
            while let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(cx) {
                if let Ok(Ok(carrier)) = done {
                    return Poll::Ready(Ok(carrier));
                }
            }
            if self.handshakes.len() >= HALF_OPEN {
                return Poll::Pending;
            }
            match self.sockets.poll_accept(cx) {
                Poll::Ready(Ok((stream, remote))) => self.begin(stream, remote),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(accept_error(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, remote: SocketAddr) {
        let Some(place) = self.half_open.enter(remote.ip()) else {
            return;
        };
        let local = stream.local_addr().ok();
        // It fails only if the connection has ended meanwhile.
        if self.sockets.set_options(&stream).is_err() {
            return;
        }
        let stream = Socket::new(stream, self.sockets.acknowledges());
        let (acceptor, proves_peers) = (self.acceptor.clone(), self.proves_peers);
        self.handshakes.spawn(async move {
            let done = handshake(stream, [local, Some(remote)], acceptor, proves_peers, place).await;
            done.inspect_err(|error| match error.get_ref() {
                // Nobody else tells that a certificate has run out, or is missing.
                Some(why) if why.is::<rustls::Error>() => {
                    warn_of_stranger(|left_out| {
                        tracing::warn!(%remote, %error, left_out, "a peer was turned away by TLS");
                    });
                }
                _ => tracing::debug!(%remote, %error, "a peer did not end its handshake"),
            })
        });
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe: a carrier leaves the set in the poll in which this future is ready.
        Box::pin(poll_fn(|cx| self.poll_carrier(cx)))
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.sockets.bound().map(Address::ssl).collect()
    }
}

/// One handshake; the addresses are our end and the peer's.
async fn handshake(
    stream: Socket,
    [local, remote]: [Option<SocketAddr>; 2],
    acceptor: TlsAcceptor,
    proves_peers: bool,
    _place: Place,
) -> io::Result<Carrier> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let state = &stream.get_ref().1;
    let binding = binding(state, |out, label| state.export_keying_material(out, label, None));
    let mut info = info(state, proves_peers, binding);
    let address = |end| Address::ssl(tcp::canonical(end));
    (info.local, info.remote) = (local.map(address), remote.map(address));
    Ok(StreamCarrier::from_io(stream, info).into())
}
