//! The way of a carrier into the server: accepted, set up, let in or let go on with its session, and served to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::rpyc::frame_by_frame;
use farref_framing::{RejectCode, Rejection, Role};
use farref_netref::rpyc::Rpyc;
use farref_netref::{Config, Connection, Peer, Root, Status};
use farref_transport::{AcceptError, Carrier, Dialect, Listener, PerSource, Place, warn_of_stranger};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::limits::Counted;
use super::{Entry, Shared, Stop, Visit, lock, stop_of, withdraw};
use crate::dependable::dependable;
use crate::establish::{Heard, Opened, Returning, Wanted};
use crate::monitor::CountedCalls;
use crate::protect::{Admitted, Protection};
use crate::source::{Visitor, source};

/// What is spoken at an address, and what it demands of who comes.
pub(super) struct Entrance {
    pub(super) dialect: Dialect,
    pub(super) protection: Protection,
}

/// Accepts until the server stops. Never waits for a peer.
pub(super) async fn accept(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    entrance: Arc<Entrance>,
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
            Ok(carrier) => take(&shared, carrier, &entrance, &stop),
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
fn take(shared: &Arc<Shared>, carrier: Carrier, entrance: &Arc<Entrance>, stop: &watch::Receiver<Stop>) {
    let opening = shared.opening.load(Ordering::Relaxed);
    let limits = &shared.limits;
    let from = source(carrier.info());
    let place = from.map(|from| shared.sources.enter(from));
    let is_one_too_many = matches!(place, Some(None)) || opening >= limits.opening.max(1);
    if is_one_too_many {
        shared.accepted.fetch_add(1, Ordering::Release);
        shared.refused.fetch_add(1, Ordering::Release);
        warn_of_stranger(|left_out| {
            let text = "too many connections are being set up: one was turned away";
            tracing::warn!(
                opening,
                from = from.map(tracing::field::display),
                left_out,
                "{text}"
            );
        });
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
        Arc::clone(entrance),
        stop.clone(),
    ));
}

/// One connection from its carrier to where its peer is in, and has been told of.
async fn attend(
    shared: Arc<Shared>,
    carrier: Carrier,
    place: Option<Place>,
    entrance: Arc<Entrance>,
    mut stop: watch::Receiver<Stop>,
) {
    let opening = (Opening(&shared), place);
    let known = match set_up(&shared, carrier, &entrance, &mut stop).await {
        Ok(Some(known)) => known,
        Ok(None) => return, // the session's own task goes on
        Err(error) => {
            shared.refused.fetch_add(1, Ordering::Release);
            warn_of_stranger(|left_out| tracing::warn!(%error, left_out, "a connection was turned away"));
            return;
        }
    };
    let entry = Arc::clone(&known.entry);
    let Entry {
        connection, visit, ..
    } = &*entry;
    let Some(open) = Open::new(known) else {
        shared.refused.fetch_add(1, Ordering::Release);
        warn_of_stranger(|left_out| {
            let text = "too many connections: one was turned away when it was set up";
            tracing::warn!(left_out, "{text}");
        });
        return;
    };
    drop(opening);
    if *stop.borrow() == Stop::Now {
        connection.start_close();
    }
    if shared.reloads.load(Ordering::Acquire) != visit.as_of && !visit.holds().await {
        withdraw(connection);
    }
    let peer = connection.peer();
    tracing::debug!(%peer, "connected");
    shared.service.connected(connection);
    // No task waits for that: there may be very many connections.
    connection.on_closed(move |reason| see_out(open, &peer, &reason));
}

/// A connection is over.
fn see_out(open: Open, peer: &Peer, reason: &Error) {
    if reason.kind() == ErrorKind::Malformed {
        peer.warn(|left_out| tracing::warn!(%peer, %reason, left_out, "disconnected"));
    } else {
        tracing::debug!(%peer, %reason, "disconnected");
    }
    let shared = Arc::clone(&open.1.shared);
    drop(open);
    shared.service.disconnected(peer, reason);
}

/// A connection whose peer has introduced itself; none if the peer went on with the session of another.
async fn set_up(
    shared: &Arc<Shared>,
    carrier: Carrier,
    entrance: &Arc<Entrance>,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Option<Known>> {
    let Entrance { dialect, protection } = &**entrance;
    let was_stopped = || Error::new(ErrorKind::Denied, "the server is being shut down");
    // On a line the other side may not be there for days: that is no peer that is slow.
    let found = tokio::select! {
        biased;
        () = stop_of(stop) => return Err(was_stopped()),
        found = dependable(carrier, Role::Listener, None) => found,
    };
    let (carrier, role) = found?;
    let config = shared.config();
    let setup = config.setup_timeout;
    let is_silent = |_| Error::new(ErrorKind::Incompatible, format!("it was silent for {setup:?}"));
    let by = tokio::time::Instant::now() + setup;
    let established = tokio::time::timeout_at(by, async {
        let carrier = protection.apply(carrier, role, None).await?;
        let visitor = Visitor::of(carrier.info());
        let as_of = shared.reloads.load(Ordering::Acquire);
        let admitted = protection.admit(&visitor).await;
        let carrier = if *dialect == Dialect::Rpyc {
            frame_by_frame(carrier)
        } else {
            carrier
        };
        let opened = Opened::new(carrier, role, admitted.is_ok()).await?;
        let visit = |admitted| Visit {
            visitor,
            entrance: Arc::clone(entrance),
            admitted,
            as_of,
            calls: lock(&shared.monitoring)
                .as_ref()
                .map(|monitoring| CountedCalls::new(monitoring.counts())),
        };
        if *dialect == Dialect::Rpyc {
            return let_in_rpyc(shared, opened, admitted.map(visit)?).map(Some);
        }
        match opened.hear(&config).await? {
            Wanted::Connection(heard) => let_in(shared, heard, admitted.map(visit)).await.map(Some),
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
    let connection = &known.entry.connection;
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
async fn let_in(shared: &Arc<Shared>, heard: Heard, visit: Result<Visit>) -> Result<Known> {
    let let_in = visit.and_then(|visit| Ok((root_for(shared, heard.peer(), &visit)?, visit)));
    match let_in {
        Ok((root, visit)) => {
            let connection = heard.accept(root, shared.config());
            Ok(Known::new(shared, connection, visit, None))
        }
        Err(error) => {
            heard.refuse(&error, &shared.config).await;
            Err(error)
        }
    }
}

/// A connection for a peer that speaks RPyC. Such a peer introduces itself by nothing, and may be silent for as long as it
/// likes: it counts as one that has.
///
/// One that is not inside a call reads nothing, so calls of it end by themselves after [`PATIENCE`] if nobody says otherwise. It
/// calls and waits in turn, so a thread of its own serves it best.
fn let_in_rpyc(shared: &Arc<Shared>, opened: Opened, visit: Visit) -> Result<Known> {
    let mut config = Config::clone(&shared.config());
    config.call_timeout.get_or_insert(PATIENCE);
    let thread = Arc::clone(&shared.python_threads).try_acquire_owned().ok();
    config.own_thread |= thread.is_some();
    let root = root_for(shared, &opened.peer, &visit)?;
    let shows_root = root.clone().into_object().is_some();
    let connection = opened.speak(Rpyc::accept(root, &config), shows_root, config);
    let connection = connection.inspect_err(|_| shared.count_out())?;
    Ok(Known::new(shared, connection, visit, thread))
}

/// How long a call of a peer that speaks RPyC may take: as long as Python gives its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a peer is shown that is let in now, and is counted in.
///
/// # Errors
///
/// The service does not let it in, or there is no room.
fn root_for(shared: &Shared, peer: &Peer, visit: &Visit) -> Result<Root> {
    let Visit {
        visitor,
        entrance,
        admitted,
        calls,
        ..
    } = visit;
    let mut root = entrance.protection.root(&*shared.service, peer, admitted)?;
    if let Some(calls) = &shared.calls {
        root = root.guarded(Counted(Arc::clone(calls)));
    }
    if let Some(calls) = calls {
        root = root.guarded(calls.guard());
    }
    // Last is what makes room: whoever is not let in pushes nobody out.
    shared.count_in()?;
    make_room(shared, visitor.source).inspect_err(|_| shared.count_out())?;
    Ok(root)
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

/// Makes room for another connection: one that has lost its carrier makes room for one that has one.
///
/// # Errors
///
/// There is none.
fn make_room(shared: &Shared, source: Option<IpAddr>) -> Result<()> {
    let closed = {
        let mut connections = lock(&shared.connections);
        let Some(crowd) = crowd(shared, &connections, source) else {
            return Ok(());
        };
        let mut all = connections.iter();
        let down =
            all.find(|(_, entry)| crowd.has(entry) && matches!(entry.connection.status(), Status::Down(_)));
        let number = down.map(|(number, _)| *number).ok_or_else(|| crowd.error())?;
        connections.remove(&number)
    };
    if let Some(entry) = &closed {
        entry.connection.start_close();
    }
    Ok(())
}

/// Who takes all the room that there is.
enum Crowd {
    All,
    /// Those of one source.
    Of(IpAddr),
}

impl Crowd {
    fn has(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Of(source) => entry.visit.visitor.source.map(PerSource::source_of) == Some(*source),
        }
    }

    fn error(&self) -> Error {
        let text = match self {
            Self::All => "the server has as many connections as it may have",
            Self::Of(_) => "the server has as many connections from this address as it may have",
        };
        Error::new(ErrorKind::Denied, text)
    }
}

/// Who leaves no room for another connection from `source`; `None` if there is room.
fn crowd(shared: &Shared, connections: &BTreeMap<u64, Arc<Entry>>, source: Option<IpAddr>) -> Option<Crowd> {
    if let Some(source) = source.map(PerSource::source_of) {
        let crowd = Crowd::Of(source);
        let count = connections.values().filter(|entry| crowd.has(entry)).count();
        if count >= shared.limits.connections_per_source.max(1) {
            return Some(crowd);
        }
    }
    (connections.len() >= shared.limits.connections.max(1)).then_some(Crowd::All)
}

/// A connection to which its peer can come back: from the moment when it was let in, as its carrier may be lost before
/// it has said another word.
struct Known {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    /// Whether its peer has introduced itself in time, and there was still room.
    is_open: bool,
    /// It has one of the threads for peers in Python.
    thread: Option<OwnedSemaphorePermit>,
}

impl Known {
    fn new(
        shared: &Arc<Shared>,
        connection: Connection,
        visit: Visit,
        thread: Option<OwnedSemaphorePermit>,
    ) -> Self {
        shared.sessions.add(&connection, visit.admitted.clone());
        Self {
            shared: Arc::clone(shared),
            entry: Arc::new(Entry {
                connection,
                since: Instant::now(),
                visit,
            }),
            is_open: false,
            thread,
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.entry.connection.start_close();
        self.shared.sessions.remove(&self.entry.connection);
        if !self.is_open {
            self.shared.count_out();
        }
        self.shared.changed.notify_waiters();
    }
}

/// Counts a connection that is open, also when the service panics.
struct Open(u64, Known);

impl Open {
    /// None if there are as many as there may be: they can have been set up at once.
    fn new(mut known: Known) -> Option<Self> {
        let shared = Arc::clone(&known.shared);
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = lock(&shared.connections);
        if crowd(&shared, &connections, known.entry.visit.visitor.source).is_some() {
            drop(connections);
            return None;
        }
        connections.insert(number, Arc::clone(&known.entry));
        known.is_open = true;
        drop(connections);
        Some(Self(number, known))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self(number, known) = self;
        // Before it is off the list: whoever comes then may have it.
        drop(known.thread.take());
        lock(&known.shared.connections).remove(number);
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
