//! A registry that others ask, over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::BrineError;
use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::PerSource;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::packet::{MOST, Request};
use super::table::Table;

/// A registry: knows which servers have which names. Clones share what is known.
#[derive(Debug, Clone)]
pub struct Registry {
    table: Arc<Mutex<Table>>,
}

/// Bounds of a [`Registry`]. Who wants more gets no reply, which says to a Python server that it is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryLimits {
    /// Names that a server may have. Default 64.
    pub names: usize,
    /// Servers, counted once for each of their names. Default 8,192.
    pub servers: usize,
    /// Those of them on one host: one IPv4 address, or the first 64 bits of an IPv6 one. Default 1,024.
    pub servers_per_host: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            names: 64,
            servers: 8192,
            servers_per_host: 1024,
        }
    }
}

impl Registry {
    /// A registry that knows nobody yet, forgets servers after 240 s, and tells nobody all names.
    #[must_use]
    pub fn new() -> Self {
        let table = Table::new(FORGET_AFTER, RegistryLimits::default());
        Self {
            table: Arc::new(Mutex::new(table)),
        }
    }

    /// Forgets servers that were not registered again for so long. Default 240 s; Python's servers register every 60 s.
    #[must_use]
    pub fn forget_after(self, forget_after: Duration) -> Self {
        self.with(|table| table.forget_after = forget_after)
    }

    /// Tells whoever asks all names that there are.
    #[must_use]
    pub fn listing(self) -> Self {
        self.with(|table| table.is_listing = true)
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(self, limits: RegistryLimits) -> Self {
        self.with(|table| table.limits = limits)
    }

    fn with(self, change: impl FnOnce(&mut Table)) -> Self {
        change(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner));
        self
    }

    /// Answers by UDP at `at` until what comes back is dropped; port 0 leaves the choice to the system. Broadcasts are
    /// heard at the unspecified address (`0.0.0.0`).
    ///
    /// UDP shows nobody's address for sure, and an answer may be longer than its question: not for a port that the
    /// Internet reaches.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`]: nobody can listen there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn serve_udp(&self, at: SocketAddr) -> Result<Serving> {
        let socket = UdpSocket::bind(at).await.map_err(|error| broken(at, &error))?;
        let local = socket.local_addr().map_err(|error| broken(at, &error))?;
        Ok(Serving::start(local, answer_packets(self.clone(), socket)))
    }

    /// Answers by TCP at `at` until what comes back is dropped; port 0 leaves the choice to the system. A connection is
    /// for one request, which may take 5 s; there are at most 256, and 32 of one address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`]: nobody can listen there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn serve_tcp(&self, at: SocketAddr) -> Result<Serving> {
        let listener = TcpListener::bind(at).await.map_err(|error| broken(at, &error))?;
        let local = listener.local_addr().map_err(|error| broken(at, &error))?;
        Ok(Serving::start(local, answer_connections(self.clone(), listener)))
    }

    /// What there is to say to a packet that came from `from`, if anything.
    ///
    /// # Errors
    ///
    /// It is no value.
    fn answer(&self, packet: &Bytes, from: IpAddr) -> Result<Option<Bytes>, BrineError> {
        let Some(request) = Request::decode(packet)? else {
            return Ok(None);
        };
        tracing::debug!(%from, ?request, "a registry is asked");
        let now = Instant::now().into_std();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(table.handle(request, from, now).map(|reply| reply.encode()))
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

/// A registry that is asked, until this is dropped.
#[derive(Debug)]
#[must_use = "nobody is answered any more when this is dropped"]
pub struct Serving {
    local: SocketAddr,
    /// Ends when it is dropped.
    _task: JoinSet<()>,
}

impl Serving {
    fn start(local: SocketAddr, answering: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut task = JoinSet::new();
        task.spawn(answering);
        Self { local, _task: task }
    }

    /// Where it is asked; a port that was left to the system is the real one.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }
}

async fn answer_packets(registry: Registry, socket: UdpSocket) {
    // One byte more than a request may have shows what is longer.
    let mut into = vec![0; MOST + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut into).await {
            Ok(received) => received,
            // What a network says about an answer of ours, or a system that has no memory.
            Err(error) => {
                tracing::debug!(%error, "a registry could not receive");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(packet) = into.get(..length).filter(|packet| packet.len() <= MOST) else {
            continue;
        };
        if let Ok(Some(reply)) = registry.answer(&Bytes::copy_from_slice(packet), from.ip()) {
            // Who does not get it asks again.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn answer_connections(registry: Registry, listener: TcpListener) {
    let places = PerSource::new(CONNECTIONS, CONNECTIONS_PER_SOURCE);
    let mut answering = JoinSet::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a registry could not accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        while answering.try_join_next().is_some() {}
        let Some(place) = places.enter(from.ip()) else {
            continue;
        };
        let registry = registry.clone();
        answering.spawn(async move {
            let _place = place;
            // What fails here fails for the peer alone.
            let _ = timeout(PATIENCE, answer_one(&registry, stream, from.ip())).await;
        });
    }
}

/// Answers the one request of a connection.
async fn answer_one(registry: &Registry, mut stream: TcpStream, from: IpAddr) -> std::io::Result<()> {
    let mut packet = BytesMut::with_capacity(MOST);
    loop {
        let is_over = stream.read_buf(&mut packet).await? == 0;
        if packet.len() > MOST {
            return Ok(());
        }
        match registry.answer(&packet.clone().freeze(), from) {
            Ok(None) => return Ok(()),
            Ok(Some(reply)) => {
                stream.write_all(&reply).await?;
                return stream.shutdown().await;
            }
            Err(BrineError::Truncated { .. }) if !is_over => {}
            Err(_) => return Ok(()),
        }
    }
}

fn broken(at: SocketAddr, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Carrier,
        format!("no registry can be asked at {at}: {error}"),
    )
}

/// How long a server is known that is not registered again.
const FORGET_AFTER: Duration = Duration::from_secs(240);

/// How long the request of a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections at once, in all and of one address (of IPv6: its first 64 bits).
const CONNECTIONS: usize = 256;
const CONNECTIONS_PER_SOURCE: usize = 32;

/// How long to wait after an error of the system, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);
