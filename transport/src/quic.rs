//! QUIC: many streams between two hosts, encrypted, each end proved by its key.
//!
//! Knows how to reach a host by all its addresses, how to let peers in without waiting for slow ones, and how the
//! keys of both ends are proved: as raw public keys (RFC 7250), the same that prove them elsewhere. Whether an
//! unpinned key is to be trusted is decided above; it is in [`CarrierInfo::peer`].
//!
//! | option       | default | meaning                                                              |
//! |--------------|---------|----------------------------------------------------------------------|
//! | `bind=`      | any     | the local IP address to dial from                                    |
//! | `idle=`      | 30 s    | silence after which the connection counts as lost                    |
//! | `keepalive=` | 10 s    | silence after which a sign of life is sent                           |
//! | `migrate=`   | 1       | whether peers may change their addresses (listening)                 |
//!
//! Each dial has a UDP socket of its own. A dial fails after [`PATIENCE`] where nothing answers: UDP tells nobody
//! that nobody listens, and some networks do not let it through.

mod listener;
mod runtime;
#[cfg(unix)]
mod socket;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod together;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, TransportConfig, VarInt};
use socket2::{Domain, Socket, Type};

use crate::address::{Address, Host, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, PeerEvidence};
use crate::error::{DialError, ListenError};
use crate::identity::Identity;
use crate::medium::{Listener, Transport};
use crate::resolve::{bind_all, first_to_answer, interleaved, resolve};

use self::listener::Listening;
use self::runtime::OnTokio;
use self::streams::QuicMuxed;

/// How long an address may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The medium `quic`, for whoever has this identity.
#[derive(Clone, Debug)]
pub struct Quic {
    identity: Identity,
}

impl Quic {
    /// QUIC, at both ends of which this process proves to be `identity`.
    ///
    /// ```
    /// use farref_transport::quic::Quic;
    /// use farref_transport::{Identity, Media};
    ///
    /// let media = Media::standard().with(Quic::new(Identity::generate()?));
    /// assert!(media.schemes().any(|scheme| scheme == "quic"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity }
    }

    async fn connect(&self, to: SocketAddr, options: Options, pinned: Pinned) -> io::Result<Connected> {
        let (config, peers) = tls::client(&self.identity, pinned).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::new(options.transport()));
        let any = if to.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let socket = UdpSocket::bind((options.bind.unwrap_or(any), 0))?;
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            socket,
            Arc::new(OnTokio::dialling()),
        )?;
        let connecting = endpoint
            .connect_with(config, to, tls::SERVER_NAME)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => Ok(Connected::Yes(endpoint, connection)),
            Ok(Err(error)) => match peers.wrong_key() {
                Some(found) => Ok(Connected::WrongKey(found)),
                None => Err(refused(error)),
            },
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "nothing answered within {PATIENCE:?}: is somebody listening, and is UDP let through?"
                ),
            )),
        }
    }
}

/// The key that the peer must have, if that is known.
type Pinned = Option<crate::address::PeerKey>;

/// What became of a dial that was answered.
enum Connected {
    Yes(Endpoint, quinn::Connection),
    WrongKey(crate::address::PeerKey),
}

/// Why a handshake failed, by whose turn it is.
fn refused(error: quinn::ConnectionError) -> io::Error {
    use quinn::ConnectionError as E;
    let kind = match &error {
        E::TimedOut => io::ErrorKind::TimedOut,
        E::ConnectionClosed(_) | E::ApplicationClosed(_) | E::Reset => io::ErrorKind::ConnectionRefused,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Transport for Quic {
    fn schemes(&self) -> &'static [&'static str] {
        &["quic"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let failed = |source| DialError::from_io(address, source);
            check_runtime().map_err(failed)?;
            let (host, port) = host_and_port(address).map_err(failed)?;
            if port == 0 {
                return Err(failed(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "port 0 cannot be dialled",
                )));
            }
            let options = Options::of(address);
            let unresolved = |source| DialError::Unresolved {
                address: Box::new(address.clone()),
                source,
            };
            let addresses = interleaved(resolve(host, port).await.map_err(unresolved)?, options.bind);
            let pinned = address.peer_key().copied();
            let connect = |to| -> BoxFuture<'_, _> { Box::pin(self.connect(to, options, pinned)) };
            match first_to_answer(addresses, connect).await.map_err(failed)? {
                Connected::Yes(endpoint, connection) => {
                    let mut info = info(&connection).map_err(failed)?;
                    info.local = endpoint.local_addr().ok().map(Address::quic);
                    info.remote = Some(address.clone());
                    Ok(Carrier::Muxed(Box::new(QuicMuxed::new(connection, info))))
                }
                Connected::WrongKey(found) => Err(DialError::WrongKey {
                    address: Box::new(address.clone()),
                    found,
                }),
            }
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let failed = |source| ListenError::from_io(address, source);
            check_runtime().map_err(failed)?;
            let (host, port) = host_and_port(address).map_err(failed)?;
            let wrong = |source| ListenError::Address {
                address: Box::new(address.clone()),
                source,
            };
            let addresses = resolve(host, port).await.map_err(wrong)?;
            let config = Options::of(address).server(&self.identity).map_err(failed)?;
            let endpoints = bind_all(&addresses, |at| bind(at, &config)).map_err(failed)?;
            Ok(Box::new(Listening::start(endpoints, self.identity.public())) as Box<dyn Listener>)
        })
    }
}

/// What the options of an address say.
#[derive(Clone, Copy, Debug)]
struct Options {
    bind: Option<IpAddr>,
    idle: Duration,
    keepalive: Duration,
    migrate: bool,
}

impl Options {
    fn of(address: &Address) -> Self {
        Self {
            bind: address.option("bind").and_then(|bind| bind.parse().ok()),
            idle: address.duration("idle").unwrap_or(IDLE).min(LONGEST),
            keepalive: address.duration("keepalive").unwrap_or(KEEPALIVE).min(LONGEST),
            migrate: address.option("migrate").is_none() || address.is_set("migrate"),
        }
    }

    fn transport(self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let idle = VarInt::try_from(u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX));
        config
            .max_idle_timeout(Some(idle.unwrap_or(VarInt::MAX).into()))
            .keep_alive_interval(Some(self.keepalive))
            .max_concurrent_bidi_streams(VarInt::from_u32(BOTH_WAYS))
            .max_concurrent_uni_streams(VarInt::from_u32(ONE_WAY))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(WINDOW))
            .send_window(u64::from(WINDOW) * 2)
            .datagram_receive_buffer_size(None);
        config
    }

    fn server(self, identity: &Identity) -> io::Result<quinn::ServerConfig> {
        let tls = tls::server(identity).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = self.transport();
        transport.receive_window(VarInt::from_u32(FIRST_WINDOW));
        config
            .transport_config(Arc::new(transport))
            .migration(self.migrate)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER * 64);
        Ok(config)
    }
}

/// What is known of a connection whose handshake is done.
fn info(connection: &quinn::Connection) -> io::Result<CarrierInfo> {
    let key = tls::peer_key(connection.peer_identity())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the peer proved no key"))?;
    let mut binding = [0; 32];
    connection
        .export_keying_material(&mut binding, tls::BINDING_LABEL, b"")
        .map_err(|_| io::Error::other("the handshake gives no channel binding"))?;
    let mut info = CarrierInfo::new("quic");
    info.confidential = true;
    info.may_be_lost = true;
    info.peer = PeerEvidence::Key(*key.as_bytes());
    info.channel_binding = Some(binding);
    Ok(info)
}

fn host_and_port(address: &Address) -> io::Result<(&Host, u16)> {
    match address.target() {
        Target::Quic { host, port } => Ok((host, *port)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of QUIC",
        )),
    }
}

fn check_runtime() -> io::Result<()> {
    tokio::runtime::Handle::try_current()
        .map(drop)
        .map_err(|_| io::Error::other("QUIC needs a tokio runtime"))
}

/// An endpoint that listens, and its port.
fn bind(address: SocketAddr, config: &quinn::ServerConfig) -> io::Result<(Endpoint, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        // `[::]` is every address, of both families, on every system.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    let port = socket.local_addr()?.port();
    let (ours, runtime) = (EndpointConfig::default(), Arc::new(OnTokio::listening()));
    Ok((Endpoint::new(ours, Some(config.clone()), socket, runtime)?, port))
}

const IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Longer is for ever.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Streams both ways that a peer may have: lane 0 is one.
const BOTH_WAYS: u32 = 4;
/// Streams that a peer may write at once: as many as it may have lanes under way.
const ONE_WAY: u32 = 1024;
/// What a peer may send on one stream before it is read: enough for 1 Gbit/s at a round trip of 30 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same for all streams together. What is sent and not acknowledged may be twice as much: the peer's window binds
/// first, so that no bulk keeps what is urgent from being written.
const WINDOW: u32 = 16 << 20;
/// The same for a peer that dialled and is not let in yet: anybody can make a key, and prove it. It is enough for all
/// that a dialer may send ahead (PROTOCOL.md § 2.5).
const FIRST_WINDOW: u32 = 128 << 10;
/// Handshakes that wait to be looked at, and what each may send meanwhile.
const MAX_INCOMING: usize = 1024;
const INCOMING_BUFFER: u64 = 16 << 10;
