//! The machine whose network it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farref_netref::stream::Sink;
use farref_netref::{ByteStream, Netref, Result as CallResult, Stream, remote};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::forward::LocalListener;
use super::link::{Link, Socket};
use super::{Connected, Incoming, Listening, Network, NetworkRules, Target};
use crate::denied::denied;
use crate::file::Failure;

/// Shares the network of this machine, as far as `rules` allow.
///
/// ```
/// # fn main() -> Result<(), farref_services::file::Failure> {
/// use farref_services::network::{self, NetworkRules};
///
/// let database_alone = network::share(NetworkRules::nothing().connect("localhost:5432")?);
/// # drop(database_alone);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn share(rules: NetworkRules) -> Netref<dyn Network> {
    let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
    Netref::of(Machine {
        connections: places(rules.connections),
        listeners: places(rules.listeners),
        rules,
    })
}

struct Machine {
    rules: NetworkRules,
    connections: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
}

#[remote]
impl Network for Machine {
    async fn connect(&self, target: Target, bytes: ByteStream) -> Result<Connected, Failure> {
        if !self.rules.may_connect(&target) {
            return Err(denied(format!(
                "no rule allows this peer to connect to `{target}`"
            )));
        }
        let place = place(&self.connections, self.rules.connections, "connections")?;
        let (socket, peer) = Socket::connect(&target).await.map_err(|error| {
            let text = format!("cannot connect to `{target}`: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let link = Link::new(socket, Some(place));
        let received = link.received();
        drop(tokio::spawn(link.send(bytes)));
        Ok(Connected {
            bytes: received,
            peer,
        })
    }

    async fn listen(&self, at: Target) -> Result<Listening, Failure> {
        if !self.rules.may_listen(&at) {
            return Err(denied(format!("no rule allows this peer to listen at `{at}`")));
        }
        let place = place(&self.listeners, self.rules.listeners, "listeners")?;
        let failed = |error: io::Error| {
            let text = format!("cannot listen at `{at}`: {error}");
            io::Error::new(error.kind(), text)
        };
        let listener = listen(&at).await.map_err(failed)?;
        let address = listener.address().map_err(failed)?.unwrap_or_else(|| at.clone());
        let accepting = Accepting {
            next: accept(listener, Arc::clone(&self.connections)),
            _place: place,
        };
        Ok(Listening {
            address,
            connections: Stream::fallible(accepting),
        })
    }
}

fn place(places: &Arc<Semaphore>, count: usize, what: &str) -> Result<OwnedSemaphorePermit, Failure> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let text = format!("{count} {what} are open already, as many as may");
        io::Error::new(io::ErrorKind::QuotaExceeded, text).into()
    })
}

async fn listen(at: &Target) -> io::Result<LocalListener> {
    match at {
        Target::Tcp { host, port } => Ok(TcpListener::bind((&**host, *port)).await?.into()),
        #[cfg(unix)]
        Target::Unix { path } => {
            let listener = tokio::net::UnixListener::bind(path)?;
            Ok(LocalListener::unix_at(listener, path))
        }
        #[cfg(not(unix))]
        Target::Unix { .. } => Err(super::link::no_unix()),
    }
}

type Accepted = Pin<Box<dyn Future<Output = (LocalListener, Arc<Semaphore>, Incoming)> + Send>>;

/// Connections as they come in. The listener is in the future, and is closed with it.
struct Accepting {
    next: Accepted,
    _place: OwnedSemaphorePermit,
}

impl futures_core::Stream for Accepting {
    type Item = CallResult<Incoming>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CallResult<Incoming>>> {
        let (listener, places, incoming) = ready!(self.next.as_mut().poll(context));
        self.next = accept(listener, places);
        Poll::Ready(Some(Ok(incoming)))
    }
}

/// Accepts a connection, and tells of it once there is a place for it.
fn accept(listener: LocalListener, places: Arc<Semaphore>) -> Accepted {
    Box::pin(async move {
        let (socket, peer) = listener.accept().await;
        // Not before: whoever only listens would hold a place of those who connect.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        let link = Link::new(socket, place);
        let bytes = link.received();
        let (reply, sent) = Sink::new();
        drop(tokio::spawn(link.send(sent)));
        let incoming = Incoming { peer, bytes, reply };
        (listener, places, incoming)
    })
}

/// How long is waited after an accept that failed, as for want of descriptors.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
