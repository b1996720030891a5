//! Servers: listeners, limits, and an end that loses nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{RejectCode, Rejection, Role};
use farref_netref::{Config, Connection, RemoteTrait, Status};
use farref_transport::{AcceptError, Address, Carrier, ListenError, Listener, Media, PerSource, Place};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::connect::IntoAddress;
use crate::dependable::dependable;
use crate::establish::{Heard, Opened, Returning, Wanted};
use crate::protect::{Admitted, Protection, Trust};
use crate::service::{Fixed, Service, Share};
use crate::sessions::Sessions;
use crate::source::source;

/// Shows `object` to everybody who connects to `address`, for as long as the future is polled.
///
/// # Errors
///
/// The address is none, or cannot be listened on.
///
/// # Cancel safety
///
/// Dropping the future stops the server and closes its connections.
pub async fn serve<T: ?Sized + RemoteTrait>(address: impl IntoAddress, object: impl Share<T>) -> Result<()> {
    let server = Server::new(Fixed::new(object));
    server.listen(address).await?;
    server.closed().await;
    Ok(())
}

/// A server: any number of listeners in front of one service.
///
/// It serves from the first [`listen`](Self::listen) on, on tasks of the runtime, until it is
/// [shut down](Self::shutdown) or dropped; dropping closes its connections at once.
pub struct Server {
    shared: Arc<Shared>,
    accepting: Mutex<JoinSet<()>>,
    stop: watch::Sender<Stop>,
}

/// Whether a server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// It takes nobody in any more. Who is in already may end what is under way.
    Drain,
    /// Connections are closed as they are.
    Now,
}

struct Shared {
    service: Box<dyn Service>,
    config: Config,
    limits: ServerLimits,
    media: Media,
    trust: Mutex<Option<Trust>>,
    connections: Mutex<BTreeMap<u64, Connection>>,
    sessions: Sessions,
    /// Connections that are being set up.
    opening: AtomicU64,
    sources: PerSource,
    accepted: AtomicU64,
    refused: AtomicU64,
    next: AtomicU64,
    /// Listeners since the start, and those of them that cannot accept any more.
    listeners: AtomicU64,
    broken: AtomicU64,
    changed: Notify,
}

/// Bounds of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once; more are closed as they come. Default 1,024, at least 1.
    pub connections: usize,
    /// Connections that have not introduced themselves yet, at once. Default 512, at least 1.
    pub opening: u64,
    /// Those of them that one address of a network may have: one IPv4 address, or the first 64 bits of an IPv6 one.
    /// Default 128, at least 1.
    pub opening_per_source: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            opening: 512,
            opening_per_source: 128,
        }
    }
}

/// Numbers of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that are being set up.
    pub opening: u64,
    /// Carriers accepted since the start.
    pub accepted: u64,
    /// Of these, those that were turned away: by a limit, by the service, or since they spoke something else.
    pub refused: u64,
}

impl Server {
    /// A server for `service`, with default settings, limits and media; it does not listen yet.
    #[must_use]
    pub fn new(service: impl Service) -> Self {
        Self::with(
            service,
            Config::default(),
            ServerLimits::default(),
            Media::standard(),
        )
    }

    /// A server that shows `object` to everybody.
    #[must_use]
    pub fn of<T: ?Sized + RemoteTrait>(object: impl Share<T>) -> Self {
        Self::new(Fixed::new(object))
    }

    /// A server with these settings, limits and media.
    #[must_use]
    pub fn with(service: impl Service, config: Config, limits: ServerLimits, media: Media) -> Self {
        let per_source = usize::try_from(limits.opening_per_source).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            service: Box::new(service),
            config,
            limits,
            media,
            trust: Mutex::default(),
            connections: Mutex::default(),
            sessions: Sessions::default(),
            opening: AtomicU64::new(0),
            sources: PerSource::new(usize::MAX, per_source),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            next: AtomicU64::new(0),
            listeners: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            changed: Notify::new(),
        });
        Self {
            shared,
            accepting: Mutex::default(),
            stop: watch::channel(Stop::No).0,
        }
    }

    /// Proves and demands this of peers, at addresses that ask for encryption, from the next
    /// [`listen`](Self::listen) on. Default: by the files of the user, see [`keys`](crate::keys).
    #[cfg(feature = "noise")]
    #[must_use]
    pub fn trust(self, trust: Trust) -> Self {
        *lock(&self.shared.trust) = Some(trust);
        self
    }

    /// Listens at `address` as well; where to dial to get here, with the real port if the system chose it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] if the address is none, or asks for encryption in a build without;
    /// [`ErrorKind::Misuse`] if it needs keys that cannot be used; [`ErrorKind::Unsupported`] for a medium that this build or system
    /// lacks; [`ErrorKind::Carrier`] if it cannot be listened on; [`ErrorKind::Misuse`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the address alone.
    pub async fn listen(&self, address: impl IntoAddress) -> Result<Address> {
        let address = address.into_address()?;
        if *self.stop.borrow() != Stop::No {
            return Err(Error::new(ErrorKind::Misuse, "the server was shut down"));
        }
        let trust = lock(&self.shared.trust).clone();
        let protection = Protection::of(&address, trust).await?;
        let media = protection.media(self.shared.media.clone());
        let bare = protection.bare(&address);
        let listener = media.listen(&bare).await.map_err(listen_error)?;
        let local = protection.full(listener.local_addresses().into_iter().next().unwrap_or(bare));
        self.shared.listeners.fetch_add(1, Ordering::Relaxed);
        let accept = accept(
            Arc::clone(&self.shared),
            listener,
            protection,
            self.stop.subscribe(),
        );
        lock(&self.accepting).spawn(accept);
        Ok(local)
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.connections).values().cloned().collect()
    }

    /// Numbers.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        let shared = &self.shared;
        // Against the way of a carrier, so that none is missed on its way from one number to the next.
        let refused = shared.refused.load(Ordering::Acquire);
        let accepted = shared.accepted.load(Ordering::Acquire);
        let opening = shared.opening.load(Ordering::Acquire);
        let connections = lock(&shared.connections).len();
        ServerStats {
            connections,
            opening,
            accepted,
            refused,
        }
    }

    /// Stops accepting, tells the peers to make no further calls, lets those under way end for at most `grace`,
    /// then closes every connection in order. A peer that has lost its carrier is not waited for: it finds nobody to
    /// come back to.
    ///
    /// # Cancel safety
    ///
    /// Nothing is accepted any more; dropping the server closes what is left.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.send_replace(Stop::Drain);
        let mut accepting = std::mem::take(&mut *lock(&self.accepting));
        // With them go the listeners: their addresses are free afterwards.
        while accepting.join_next().await.is_some() {}
        let drained = async {
            // Those that are being set up turn back, or are open a moment later.
            self.wait_for(|stats| stats.opening == 0).await;
            let connections = self.connections();
            for connection in &connections {
                connection.drain();
            }
            for connection in &connections {
                // Nobody comes back any more. Cancel-safe: both only wait.
                tokio::select! {
                    () = connection.drained() => {}
                    () = loss(connection) => {}
                }
            }
        };
        // Whoever is not done within the grace is cut off below.
        let _ = tokio::time::timeout(grace, drained).await;
        let connections = self.connections();
        // All at once: a peer that does not answer holds up no other.
        for connection in &connections {
            connection.start_close();
        }
        for connection in &connections {
            connection.closed().await;
        }
    }

    /// Waits until the server has stopped accepting: by a shutdown elsewhere, or since no listener is left.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        let mut stopped = self.stop.subscribe();
        let shared = &self.shared;
        let deserted = self.wait_for(|_| {
            let broken = shared.broken.load(Ordering::Relaxed);
            broken > 0 && broken == shared.listeners.load(Ordering::Relaxed)
        });
        tokio::select! {
            // The sender lives as long as the server: an error cannot come.
            () = stop_of(&mut stopped) => {}
            _ = deserted => {}
        }
    }

    /// Waits until `met` holds of the numbers.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for(&self, mut met: impl FnMut(&ServerStats) -> bool) -> ServerStats {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let stats = self.stats();
            if met(&stats) {
                return stats;
            }
            changed.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Now);
        for connection in self.connections() {
            connection.start_close();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Accepts until the server stops. Never waits for a peer.
async fn accept(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    protection: Protection,
    mut stop: watch::Receiver<Stop>,
) {
    loop {
        // Cancel-safe: a carrier that was about to be accepted is closed with the listener.
        let accepted = tokio::select! {
            biased;
            () = stop_of(&mut stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(carrier) => take(&shared, carrier, &protection, &stop),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "could not accept; going on");
                // Cancel-safe: nothing is under way.
                tokio::select! {
                    () = stop_of(&mut stop) => return,
                    () = tokio::time::sleep(error.pause()) => {}
                }
            }
            Err(error) => {
                // The one carrier of standard input and output is over: that is as it should be.
                if matches!(&error, AcceptError::Broken(why) if why.kind() == io::ErrorKind::UnexpectedEof) {
                    tracing::debug!(%error, "the last carrier is over");
                } else {
                    tracing::error!(%error, "cannot accept any more");
                }
                shared.broken.fetch_add(1, Ordering::Relaxed);
                shared.changed.notify_waiters();
                return;
            }
        }
    }
}

/// Takes a carrier in, if the limits allow.
fn take(shared: &Arc<Shared>, carrier: Carrier, protection: &Protection, stop: &watch::Receiver<Stop>) {
    let opening = shared.opening.load(Ordering::Relaxed);
    let limits = &shared.limits;
    let from = source(carrier.info());
    let place = from.map(|from| shared.sources.enter(from));
    let is_one_too_many = matches!(place, Some(None)) || opening >= limits.opening.max(1);
    if is_one_too_many {
        shared.accepted.fetch_add(1, Ordering::Release);
        shared.refused.fetch_add(1, Ordering::Release);
        tracing::warn!(
            opening,
            ?from,
            "too many connections are being set up: one was turned away"
        );
        shared.changed.notify_waiters();
        return;
    }
    shared.opening.fetch_add(1, Ordering::Release);
    shared.accepted.fetch_add(1, Ordering::Release);
    shared.changed.notify_waiters();
    tokio::spawn(attend(
        Arc::clone(shared),
        carrier,
        place.flatten(),
        protection.clone(),
        stop.clone(),
    ));
}

/// One connection from its carrier to its end.
async fn attend(
    shared: Arc<Shared>,
    carrier: Carrier,
    place: Option<Place>,
    protection: Protection,
    mut stop: watch::Receiver<Stop>,
) {
    let opening = (Opening(&shared), place);
    let known = match set_up(&shared, carrier, &protection, &mut stop).await {
        Ok(Some(known)) => known,
        Ok(None) => return, // the session's own task goes on
        Err(error) => {
            shared.refused.fetch_add(1, Ordering::Release);
            tracing::warn!(%error, "a connection was turned away");
            return;
        }
    };
    let connection = known.1.clone();
    let Some(open) = Open::new(known) else {
        shared.refused.fetch_add(1, Ordering::Release);
        tracing::warn!("too many connections: one was turned away when it was set up");
        return;
    };
    drop(opening);
    if *stop.borrow() == Stop::Now {
        connection.start_close();
    }
    let peer = connection.peer();
    tracing::debug!(%peer, "connected");
    shared.service.connected(&connection);
    let reason = connection.closed().await;
    tracing::debug!(%peer, %reason, "disconnected");
    drop(open);
    shared.service.disconnected(&peer, &reason);
}

/// A connection whose peer has introduced itself; none if the peer went on with the session of another.
async fn set_up<'a>(
    shared: &'a Shared,
    carrier: Carrier,
    protection: &Protection,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Option<Known<'a>>> {
    let was_stopped = || Error::new(ErrorKind::Denied, "the server is being shut down");
    // On a line the other side may not be there for days: that is no peer that is slow.
    let found = tokio::select! {
        biased;
        () = stop_of(stop) => return Err(was_stopped()),
        found = dependable(carrier, Role::Listener, None) => found,
    };
    let (carrier, role) = found?;
    let setup = shared.config.setup_timeout;
    let is_silent = |_| Error::new(ErrorKind::Incompatible, format!("it was silent for {setup:?}"));
    let by = tokio::time::Instant::now() + setup;
    let established = tokio::time::timeout_at(by, async {
        let carrier = protection.apply(carrier, role, None).await?;
        let admitted = protection.admit(carrier.info()).await;
        let opened = Opened::new(carrier, role, admitted.is_ok()).await?;
        match opened.hear(&shared.config).await? {
            Wanted::Connection(heard) => let_in(shared, protection, heard, admitted).await.map(Some),
            Wanted::Session(returning) => let_go_on(shared, returning, admitted).await.map(|()| None),
        }
    });
    // Cancel-safe: nothing of the peer's has been handled.
    let known = tokio::select! {
        biased;
        () = stop_of(stop) => return Err(was_stopped()),
        established = established => established.map_err(is_silent)??,
    };
    let Some(known) = known else {
        return Ok(None);
    };
    let connection = &known.1;
    let introduced = async {
        // Cancel-safe: it only waits.
        tokio::select! {
            biased;
            introduced = connection.established() => return introduced,
            () = stop_of(stop) => {}
        }
        connection.drain();
        // No call of its is taken from here on; if one was, it is in, and is answered.
        let now = tokio::time::timeout(Duration::ZERO, connection.established());
        now.await.unwrap_or_else(|_| Err(was_stopped()))
    };
    let introduced = tokio::time::timeout_at(by, introduced).await;
    introduced.map_err(is_silent).and_then(|introduced| introduced)?;
    Ok(Some(known))
}

/// A connection for a peer that has introduced itself, if there is room and the service lets it in.
async fn let_in<'a>(
    shared: &'a Shared,
    protection: &Protection,
    heard: Heard,
    admitted: Result<Admitted>,
) -> Result<Known<'a>> {
    let let_in = admitted.and_then(|admitted| {
        let root = protection.root(&*shared.service, heard.peer(), &admitted)?;
        // Last: whoever is not let in pushes nobody out.
        if make_room(shared) {
            return Ok((root, admitted));
        }
        let text = "the server has as many connections as it may have";
        Err(Error::new(ErrorKind::Denied, text))
    });
    match let_in {
        Ok((root, admitted)) => {
            let connection = heard.accept(root, shared.config.clone());
            Ok(Known::new(shared, connection, admitted))
        }
        Err(error) => {
            heard.refuse(&error, &shared.config).await;
            Err(error)
        }
    }
}

/// Lets a peer go on with its session, if that is its own and the peer may still come in.
async fn let_go_on(shared: &Shared, returning: Returning, admitted: Result<Admitted>) -> Result<()> {
    let found = match admitted {
        Ok(admitted) => {
            let evidence = &returning.opened.info.peer;
            shared.sessions.find(&returning.request, evidence, &admitted)
        }
        Err(_) => Err(Rejection::new(RejectCode::Denied)),
    };
    match found {
        Ok(connection) => returning.go_on(&connection, &shared.config).await,
        Err(rejection) => Err(returning.reject(rejection, &shared.config).await),
    }
}

/// Whether there is room for another connection: one that has lost its carrier makes room for one that has one.
fn make_room(shared: &Shared) -> bool {
    let closed = {
        let mut connections = lock(&shared.connections);
        if connections.len() < shared.limits.connections.max(1) {
            return true;
        }
        let mut all = connections.iter();
        let down = all.find(|(_, connection)| matches!(connection.status(), Status::Down(_)));
        down.map(|(number, _)| *number)
            .and_then(|number| connections.remove(&number))
    };
    if let Some(connection) = &closed {
        connection.start_close();
    }
    closed.is_some()
}

/// Waits until a connection has lost its carrier.
async fn loss(connection: &Connection) {
    let mut watch = connection.watch();
    while watch.next().await == Status::Up {}
}

/// Waits until the server stops.
async fn stop_of(stop: &mut watch::Receiver<Stop>) {
    // An error means that the server is gone.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

/// A connection to which its peer can come back: from the moment when it was let in, as its carrier may be lost before
/// it has said another word.
struct Known<'a>(&'a Shared, Connection);

impl<'a> Known<'a> {
    fn new(shared: &'a Shared, connection: Connection, admitted: Admitted) -> Self {
        shared.sessions.add(&connection, admitted);
        Self(shared, connection)
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.1.start_close();
        self.0.sessions.remove(&self.1);
        self.0.changed.notify_waiters();
    }
}

/// Counts a connection that is open, also when the service panics.
struct Open<'a>(u64, Known<'a>);

impl<'a> Open<'a> {
    /// None if there are as many as there may be: they can have been set up at once.
    fn new(known: Known<'a>) -> Option<Self> {
        let shared = known.0;
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = lock(&shared.connections);
        if connections.len() >= shared.limits.connections.max(1) {
            drop(connections);
            return None;
        }
        connections.insert(number, known.1.clone());
        drop(connections);
        Some(Self(number, known))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Self(number, Known(shared, _)) = self;
        lock(&shared.connections).remove(number);
    }
}

/// Counts a connection that is being set up.
struct Opening<'a>(&'a Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

fn listen_error(error: ListenError) -> Error {
    let kind = match &error {
        ListenError::Unsupported { .. } => ErrorKind::Unsupported,
        ListenError::NotEncrypted { .. } => ErrorKind::Address,
        _ => ErrorKind::Carrier,
    };
    Error::new(kind, error.to_string())
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
