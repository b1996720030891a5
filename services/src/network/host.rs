//! The machine whose network it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farref_netref::stream::Sink;
use farref_netref::{ByteStream, Netref, Peer, Result as CallResult, Stream, caller, remote};
use tokio::net::TcpListener;

use super::forward::LocalListener;
use super::link::{Link, Socket};
use super::{Connected, Incoming, Listening, Network, NetworkRules, Target};
use crate::denied::denied;
use crate::file::Failure;
use crate::places::{Place, Places};

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
    Netref::of(Machine {
        connections: Arc::new(Places::new(rules.connections)),
        listeners: Places::new(rules.listeners),
        rules,
    })
}

struct Machine {
    rules: NetworkRules,
    connections: Arc<Places>,
    listeners: Places,
}

#[remote]
impl Network for Machine {
    async fn connect(&self, target: Target, bytes: ByteStream) -> Result<Connected, Failure> {
        if !self.rules.may_connect(&target) {
            return Err(denied(format!(
                "no rule allows this peer to connect to `{target}`"
            )));
        }
        let caller = caller().map(|caller| caller.peer());
        let place = self.connections.enter(caller.as_deref());
        let place = place.ok_or_else(|| too_many(self.rules.connections, "connections"))?;
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
        let caller = caller().map(|caller| caller.peer());
        let place = self.listeners.enter(caller.as_deref());
        let place = place.ok_or_else(|| too_many(self.rules.listeners, "listeners"))?;
        let failed = |error: io::Error| {
            let text = format!("cannot listen at `{at}`: {error}");
            io::Error::new(error.kind(), text)
        };
        let listener = listen(&at).await.map_err(failed)?;
        let address = listener.address().map_err(failed)?.unwrap_or_else(|| at.clone());
        let door = Door {
            listener,
            places: Arc::clone(&self.connections),
            caller,
        };
        let accepting = Accepting {
            next: door.next(),
            _place: place,
        };
        Ok(Listening {
            address,
            connections: Stream::fallible(accepting),
        })
    }
}

fn too_many(most: usize, what: &str) -> Failure {
    let text = format!("{most} {what} may be open, half of them of one peer: that many are");
    io::Error::new(io::ErrorKind::QuotaExceeded, text).into()
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

type Accepted = Pin<Box<dyn Future<Output = (Door, Incoming)> + Send>>;

/// Connections as they come in. The listener is in the future, and is closed with it.
struct Accepting {
    next: Accepted,
    _place: Place,
}

impl futures_core::Stream for Accepting {
    type Item = CallResult<Incoming>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CallResult<Incoming>>> {
        let (door, incoming) = ready!(self.next.as_mut().poll(context));
        self.next = door.next();
        Poll::Ready(Some(Ok(incoming)))
    }
}

/// Where connections come in, and for whom.
struct Door {
    listener: LocalListener,
    places: Arc<Places>,
    caller: Option<Arc<Peer>>,
}

impl Door {
    /// Accepts a connection, and tells of it once there is a place for it.
    fn next(self) -> Accepted {
        Box::pin(async move {
            let (socket, peer) = self.listener.accept().await;
            // Not before: whoever only listens would hold a place of those who connect.
            let place = self.places.wait(self.caller.as_deref()).await;
            let link = Link::new(socket, place);
            let bytes = link.received();
            let (reply, sent) = Sink::new();
            drop(tokio::spawn(link.send(sent)));
            (self, Incoming { peer, bytes, reply })
        })
    }
}

/// How long is waited after an accept that failed, as for want of descriptors.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
