//! Asking a registry, and being in one.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::{Brine, BrineError};
use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::BoxFuture;
use farref_transport::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::PORT;
use super::packet::{MOST, Reply, Request};
use crate::names::Resolver;

/// Asks a registry, over UDP or TCP.
///
/// As a [`Resolver`], it tells [`Connect`](crate::Connect) where the servers of a name are.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    way: Way,
    timeout: Duration,
    repeat: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    /// A packet to whoever hears it.
    Broadcast(SocketAddr),
    Udp(Arc<str>, u16),
    Tcp(Arc<str>, u16),
}

impl RegistryClient {
    /// Asks all registries on the local network, by broadcast to 255.255.255.255, port 18811.
    #[must_use]
    pub const fn broadcast() -> Self {
        Self::broadcast_to(SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), PORT))
    }

    /// Asks all registries that hear a broadcast to this address, such as 10.0.0.255, and port.
    #[must_use]
    pub const fn broadcast_to(address: SocketAddr) -> Self {
        Self::by(Way::Broadcast(address))
    }

    /// Asks the registry on this host (a name, or an address without brackets), by UDP. Its port is mostly [`PORT`].
    #[must_use]
    pub fn udp(host: impl Into<String>, port: u16) -> Self {
        Self::by(Way::Udp(host.into().into(), port))
    }

    /// Asks the registry on this host (a name, or an address without brackets), by TCP. Its port is mostly [`PORT`].
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::by(Way::Tcp(host.into().into(), port))
    }

    const fn by(way: Way) -> Self {
        Self {
            way,
            timeout: TIMEOUT,
            repeat: REPEAT,
        }
    }

    /// Waits so long for a registry to answer. Default 2 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Registers again so often what is [registered](Self::register). Default 60 s; registries forget after 240 s.
    #[must_use]
    pub const fn repeat(mut self, repeat: Duration) -> Self {
        self.repeat = repeat;
        self
    }

    /// Where the servers of this name are, as addresses that can be dialled; none if there is none. A registry knows
    /// no more of a server than host and port: one that speaks TLS is dialled by another address.
    ///
    /// By broadcast, the first registry that knows a server is believed, and none that knows none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`] if no registry answers in time; [`ErrorKind::Incompatible`] if what answers is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn discover(&self, name: &str) -> Result<Vec<Address>> {
        let request = Request::Query(name.to_owned());
        let servers = self
            .ask(&request, Reply::servers, |servers| !servers.is_empty())
            .await?;
        let address = |(host, port): (String, u16)| {
            let is_v6 = host.contains(':');
            let host = if is_v6 {
                format!("[{}]", host.replacen('%', "%25", 1))
            } else {
                host
            };
            format!("rpyc://{host}:{port}").parse().ok()
        };
        Ok(servers.into_iter().filter_map(address).collect())
    }

    /// All names that the registry knows; `None` if it does not tell that.
    ///
    /// # Errors
    ///
    /// As for [`discover`](Self::discover).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn list(&self) -> Result<Option<Vec<String>>> {
        self.ask(&Request::List(None), Reply::names, Option::is_some)
            .await
    }

    /// The names of servers on this host; `None` if the registry does not tell that.
    ///
    /// # Errors
    ///
    /// As for [`discover`](Self::discover).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    pub async fn list_at(&self, host: IpAddr) -> Result<Option<Vec<String>>> {
        let request = Request::List(Some(host.to_string()));
        self.ask(&request, Reply::names, Option::is_some).await
    }

    /// Makes it known that a server at this port of this host has these names, and again every 60 s for as long as what
    /// comes back is kept. The host is known by the address that our packets come from.
    ///
    /// That it fails later is logged, and tried again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`] if no registry answers in time, which it does not either if it has no room;
    /// [`ErrorKind::Incompatible`] if what answers is none; [`ErrorKind::Misuse`] if the names take more than 1,500
    /// bytes, or the port is 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up; the registry may keep the names until it forgets them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as everything here.
    pub async fn register<S: Into<String>>(
        &self,
        names: impl IntoIterator<Item = S>,
        port: u16,
    ) -> Result<Registered> {
        let names = names.into_iter().map(Into::into).collect();
        let request = Request::Register(names, port);
        if port == 0 || request.encode().len() > MOST {
            let text = "a server is registered by its port, and by names that fit into 1500 bytes";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        self.register_once(&request).await?;
        let (end, ended) = oneshot::channel();
        let keeping = tokio::spawn(keep(self.clone(), request, port, ended));
        Ok(Registered { end, keeping })
    }

    /// Makes it known that no server is at this port any more. A [`Registered`] that is dropped does so by itself.
    ///
    /// # Errors
    ///
    /// As for [`discover`](Self::discover).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up; the registry may have been told.
    pub async fn unregister(&self, port: u16) -> Result<()> {
        self.ask(
            &Request::Unregister(port),
            |reply| Reply::is_done(&reply).then_some(()),
            |()| true,
        )
        .await
    }

    async fn register_once(&self, request: &Request) -> Result<()> {
        self.ask(request, |reply| Reply::is_done(&reply).then_some(()), |()| true)
            .await
    }

    /// What a registry replies. Of a broadcast, replies that are none or do not satisfy are passed over as long as there
    /// is time; then the last of them counts.
    async fn ask<T>(
        &self,
        request: &Request,
        understand: impl Fn(Brine) -> Option<T>,
        satisfies: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let packet = request.encode();
        let understood = |reply: &Bytes| {
            let value = Reply::decode(reply).map_err(|error| self.unlike(&error.to_string()))?;
            understand(value).ok_or_else(|| self.unlike("it replies to another question"))
        };
        match &self.way {
            Way::Udp(host, port) => {
                understood(&self.in_time(by_udp(host, *port, &packet, self.timeout)).await?)
            }
            Way::Tcp(host, port) => understood(&self.in_time(by_tcp(host, *port, &packet)).await?),
            Way::Broadcast(to) => {
                let until = Instant::now() + self.timeout;
                let socket = broadcast(*to, &packet)
                    .await
                    .map_err(|error| self.broken(&error))?;
                let mut last = None;
                while let Ok(reply) = timeout_at(until, one_of(&socket, to.port())).await {
                    let reply = reply.map_err(|error| self.broken(&error))?;
                    // Whoever is on the network may answer.
                    let Ok(reply) = understood(&reply) else { continue };
                    if satisfies(&reply) {
                        return Ok(reply);
                    }
                    last = Some(reply);
                }
                last.ok_or_else(|| self.silent())
            }
        }
    }

    async fn in_time(&self, replying: impl Future<Output = std::io::Result<Bytes>>) -> Result<Bytes> {
        match timeout(self.timeout, replying).await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(self.silent()),
            Ok(reply) => reply.map_err(|error| self.broken(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Error {
        let text = format!("no registry answered {} within {:?}", self.place(), self.timeout);
        Error::new(ErrorKind::Carrier, text)
    }

    fn broken(&self, error: &std::io::Error) -> Error {
        let text = format!("no registry could be asked {}: {error}", self.place());
        Error::new(ErrorKind::Carrier, text)
    }

    fn unlike(&self, why: &str) -> Error {
        let text = format!("what answers {} is no registry: {why}", self.place());
        Error::new(ErrorKind::Incompatible, text)
    }
}

impl Resolver for RegistryClient {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Address>>> {
        Box::pin(async move {
            match self.discover(name).await {
                // Where no registry is, others may know the name.
                Err(error) if matches!(self.way, Way::Broadcast(_)) && error.kind() == ErrorKind::Carrier => {
                    tracing::debug!(%error, "no names of servers that speak RPyC");
                    Ok(Vec::new())
                }
                found => found,
            }
        })
    }

    fn place(&self) -> String {
        match &self.way {
            Way::Broadcast(to) => format!("by broadcast to {to}"),
            Way::Udp(host, port) => format!("at {host}, UDP port {port}"),
            Way::Tcp(host, port) => format!("at {host}, TCP port {port}"),
        }
    }
}

/// Names that are registered until this is dropped.
#[derive(Debug)]
#[must_use = "it is registered for as long as this is kept"]
pub struct Registered {
    end: oneshot::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Registered {
    /// Takes the names back, and waits until the registry knows, or does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not wait any longer; the names are taken back.
    pub async fn end(self) {
        drop(self.end);
        // It fails only if the runtime ends.
        let _ = self.keeping.await;
    }
}

/// Registers again and again, until `ended` is over, and then takes it back.
async fn keep(client: RegistryClient, request: Request, port: u16, mut ended: oneshot::Receiver<()>) {
    loop {
        // Cancel-safe: a request that is cut off is made up for by the last one.
        let again = async {
            sleep(client.repeat).await;
            if let Err(error) = client.register_once(&request).await {
                tracing::warn!(%error, "a server could not be registered again");
            }
        };
        tokio::select! {
            _ = &mut ended => break,
            () = again => {}
        }
    }
    if let Err(error) = client.unregister(port).await {
        tracing::debug!(%error, "a registry forgets a server by itself");
    }
}

/// The reply of one host, from the first of its addresses that gives one; each has an equal share of the time.
async fn by_udp(host: &str, port: u16, packet: &[u8], patience: Duration) -> std::io::Result<Bytes> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    first_reply(&found, packet, patience).await
}

/// A host may have addresses that its registry does not listen at: Python's knows IPv4 alone, unless it is told.
async fn first_reply(found: &[SocketAddr], packet: &[u8], patience: Duration) -> std::io::Result<Bytes> {
    let share = patience / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let mut failed = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for to in found {
        match timeout(share, reply_of(*to, packet)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => failed = error,
            Err(elapsed) => failed = elapsed.into(),
        }
    }
    Err(failed)
}

/// What one address replies. It is taken from nobody else, and whether nobody listens there is told at once.
async fn reply_of(to: SocketAddr, packet: &[u8]) -> std::io::Result<Bytes> {
    let socket = UdpSocket::bind(any(to)).await?;
    socket.connect(to).await?;
    socket.send(packet).await?;
    let mut into = BytesMut::with_capacity(LONGEST);
    socket.recv_buf(&mut into).await?;
    Ok(into.freeze())
}

async fn by_tcp(host: &str, port: u16, packet: &[u8]) -> std::io::Result<Bytes> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(packet).await?;
    let mut into = BytesMut::with_capacity(LONGEST);
    loop {
        let is_over = stream.read_buf(&mut into).await? == 0;
        let is_cut = matches!(
            Reply::decode(&into.clone().freeze()),
            Err(BrineError::Truncated { .. })
        );
        if is_over && into.is_empty() {
            let text = "it gave no reply, which is its answer where it has no room or does not understand";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
        }
        if is_over || !is_cut || into.len() >= LONGEST {
            return Ok(into.freeze());
        }
    }
}

/// Sends a packet to all, and gives the socket that replies come to.
async fn broadcast(to: SocketAddr, packet: &[u8]) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any(to)).await?;
    socket.set_broadcast(to.is_ipv4())?;
    socket.send_to(packet, to).await?;
    Ok(socket)
}

/// The next packet that comes from the port of registries.
async fn one_of(socket: &UdpSocket, port: u16) -> std::io::Result<Bytes> {
    loop {
        let mut into = BytesMut::with_capacity(LONGEST);
        let (_, from) = socket.recv_buf_from(&mut into).await?;
        if from.port() == port {
            return Ok(into.freeze());
        }
    }
}

/// Any address of the family, and any port.
const fn any(to: SocketAddr) -> SocketAddr {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

/// How long a registry may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often a server is registered again.
const REPEAT: Duration = Duration::from_secs(60);

/// The most that is taken of a reply, in bytes: Python's registry sends more than [`MOST`] by UDP.
const LONGEST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// As `localhost` is where it is `::1` first, and the registry is Python's.
    #[tokio::test]
    async fn an_address_at_which_no_registry_answers_hides_no_other() {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let registry = crate::rpyc::registry::Registry::new();
        let serving = registry.serve_udp(loopback).await.unwrap();
        let silent = UdpSocket::bind(loopback).await.unwrap();
        let unused = UdpSocket::bind(loopback).await.unwrap().local_addr().unwrap();
        let packet = Request::Query("FOO".into()).encode();
        let found = [unused, silent.local_addr().unwrap(), serving.local_address()];
        let reply = first_reply(&found, &packet, Duration::from_secs(1))
            .await
            .unwrap();
        assert_eq!(Reply::servers(Reply::decode(&reply).unwrap()), Some(Vec::new()));
        let error = first_reply(&found[1..2], &packet, Duration::from_millis(10)).await;
        assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }
}
