//! Forwarding: connections of one side that go on at the other.

use std::fmt;
use std::io;
use std::sync::Arc;

use farref_netref::{Error, Netref};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::host::PAUSE;
use super::link::{Link, Socket};
use super::{Connected, Incoming, Network, Target};
use crate::file::Failure;

/// Connects everybody who connects to `listener` with `target` over there, as `ssh -L` does.
///
/// It goes on until the [`Forwarding`] is dropped; `report` is told of each connection that could not be made, or broke.
///
/// ```no_run
/// # use farref_netref::Netref;
/// # use farref_services::network::{self, Network, Target};
/// # async fn example(network: Netref<dyn Network>) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let target = Target::tcp("intranet", 80);
/// let forwarding = network::forward_local(listener, &network, target, |trouble| eprintln!("{trouble}"));
/// tokio::signal::ctrl_c().await?;
/// drop(forwarding); // all its connections are closed
/// # Ok(())
/// # }
/// ```
#[must_use = "it ends when it is dropped"]
pub fn forward_local(
    listener: impl Into<LocalListener>,
    network: &Netref<dyn Network>,
    target: Target,
    report: impl Fn(Trouble) + Send + Sync + 'static,
) -> Forwarding {
    let (network, lost) = (network.clone(), network.lost());
    accepted(listener.into(), lost, report, move |socket| {
        let (network, target) = (network.clone(), target.clone());
        async move {
            let to = target.clone();
            let passed = pass_on(Link::new(socket, None), &network, target).await;
            passed.map_err(|failure| (Some(to), failure))
        }
    })
}

/// Connects everybody who connects to `at` over there with `target` here, as `ssh -R` does.
///
/// It goes on until the [`Forwarding`] is dropped, whose [`address`](Forwarding::address) tells the port that was chosen;
/// `report` is told of each connection that could not be made, or broke.
///
/// # Errors
///
/// Those of [`Network::listen`].
///
/// # Cancel safety
///
/// Nobody listens any more.
pub async fn forward_remote(
    network: &Netref<dyn Network>,
    at: Target,
    target: Target,
    report: impl Fn(Trouble) + Send + Sync + 'static,
) -> Result<Forwarding, Failure> {
    let mut listening = network.call().listen(at).await?;
    let report = Arc::new(report);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = listening.connections.next() => incoming,
                Some(_) = connections.join_next() => continue,
            };
            match incoming {
                Some(Ok(incoming)) => {
                    let (target, report) = (target.clone(), Arc::clone(&report));
                    connections.spawn(async move {
                        let peer = incoming.peer.clone();
                        if let Err(failure) = answer(incoming, &target).await {
                            report(Trouble::new(peer, Some(target), failure));
                        }
                    });
                }
                Some(Err(error)) => {
                    report(Trouble::new(None, Some(target), error.into()));
                    break;
                }
                None => break,
            }
        }
        while connections.join_next().await.is_some() {}
    });
    Ok(Forwarding {
        address: Some(listening.address),
        task,
    })
}

/// Runs until it is dropped: then nobody listens any more, and its connections are closed.
#[derive(Debug)]
pub struct Forwarding {
    address: Option<Target>,
    task: JoinHandle<()>,
}

impl Forwarding {
    /// Where it takes connections, if that has a name.
    #[must_use]
    pub const fn address(&self) -> Option<&Target> {
        self.address.as_ref()
    }

    /// Waits until it ends by itself, as the connection to the machine over there is lost for good.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ended(&mut self) {
        // It is told by its end alone.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that could not be made, or broke.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trouble {
    /// Who had connected, as far as that is told.
    pub peer: Option<Target>,
    /// Where to, if that was known already.
    pub target: Option<Target>,
    /// What is wrong.
    pub failure: Failure,
}

impl Trouble {
    pub(super) const fn new(peer: Option<Target>, target: Option<Target>, failure: Failure) -> Self {
        Self {
            peer,
            target,
            failure,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection")?;
        if let Some(peer) = &self.peer {
            write!(f, " from {peer}")?;
        }
        if let Some(target) = &self.target {
            write!(f, " to {target}")?;
        }
        write!(f, ": {}", self.failure)
    }
}

/// Takes connections of this machine: a `TcpListener` or `UnixListener` of tokio's.
#[derive(Debug)]
pub struct LocalListener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Option<Path>),
}

/// The path of a socket that was made here, and goes with it.
#[cfg(unix)]
#[derive(Debug)]
struct Path(String);

#[cfg(unix)]
impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl From<TcpListener> for LocalListener {
    fn from(listener: TcpListener) -> Self {
        let kind = Kind::Tcp(listener);
        Self { kind }
    }
}

#[cfg(unix)]
impl From<UnixListener> for LocalListener {
    fn from(listener: UnixListener) -> Self {
        let kind = Kind::Unix(listener, None);
        Self { kind }
    }
}

impl LocalListener {
    /// One whose path is removed with it.
    #[cfg(unix)]
    pub(super) fn unix_at(listener: UnixListener, path: &str) -> Self {
        let kind = Kind::Unix(listener, Some(Path(path.to_owned())));
        Self { kind }
    }

    /// Where it listens; nothing if its path is known to others alone.
    pub(super) fn address(&self) -> io::Result<Option<Target>> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().map(|address| Some(address.into())),
            #[cfg(unix)]
            Kind::Unix(_, path) => Ok(path.as_ref().map(|Path(path)| Target::unix(path.as_str()))),
        }
    }

    /// The next connection. What fails for want of something is tried again.
    pub(super) async fn accept(&self) -> (Socket, Option<Target>) {
        loop {
            let accepted = match &self.kind {
                Kind::Tcp(listener) => {
                    let accepted = listener.accept().await;
                    accepted.map(|(stream, peer)| (stream.into(), Some(peer.into())))
                }
                #[cfg(unix)]
                Kind::Unix(listener, _) => listener.accept().await.map(|(stream, _)| (stream.into(), None)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Why a connection failed, and where it was to go, if that is known.
pub(super) type Failed = (Option<Target>, Failure);

/// Passes on with `pass` what is accepted, until the machine over there is `lost`.
pub(super) fn accepted<F: Future<Output = Result<(), Failed>> + Send + 'static>(
    listener: LocalListener,
    lost: impl Future<Output = Error> + Send + 'static,
    report: impl Fn(Trouble) + Send + Sync + 'static,
    pass: impl Fn(Socket) -> F + Send + 'static,
) -> Forwarding {
    let address = listener.address().ok().flatten();
    let report = Arc::new(report);
    let places = Arc::new(Semaphore::new(MOST));
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let mut lost = std::pin::pin!(lost);
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, (socket, peer)) = tokio::select! {
                accepted = accept => accepted,
                Some(_) = connections.join_next() => continue,
                _ = &mut lost => break,
            };
            let (passing, report) = (pass(socket), Arc::clone(&report));
            connections.spawn(async move {
                if let Err((target, failure)) = passing.await {
                    report(Trouble::new(peer, target, failure));
                }
                drop(place);
            });
        }
        // Nobody else is accepted while these end.
        drop(listener);
        while connections.join_next().await.is_some() {}
    });
    Forwarding { address, task }
}

/// Connections of one forwarding at a time; others wait to be accepted.
const MOST: usize = 512;

/// Connects `link` with `target` over there, up to the end of both directions.
async fn pass_on(link: Arc<Link>, network: &Netref<dyn Network>, target: Target) -> Result<(), Failure> {
    let Connected { bytes, .. } = network.call().connect(target, link.received()).await?;
    Ok(link.join(bytes).await?)
}

/// Connects what came in over there with `target` here.
async fn answer(incoming: Incoming, target: &Target) -> Result<(), Failure> {
    let (socket, _) = Socket::connect(target).await?;
    let link = Link::new(socket, None);
    incoming.reply.send(link.received()).await?;
    Ok(link.join(incoming.bytes).await?)
}
