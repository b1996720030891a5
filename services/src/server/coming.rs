//! The way of a carrier into the server: accepted, set up, let in or let go on with its session, and served to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{RejectCode, Rejection, Role};
use farref_netref::{Connection, Status};
use farref_transport::{AcceptError, Carrier, Listener, Place};
use tokio::sync::watch;

use super::{Shared, Stop, lock, stop_of};
use crate::dependable::dependable;
use crate::establish::{Heard, Opened, Returning, Wanted};
use crate::protect::{Admitted, Protection};
use crate::source::{Visitor, source};

/// Accepts until the server stops. Never waits for a peer.
pub(super) async fn accept(
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
        let admitted = protection.admit(&Visitor::of(carrier.info())).await;
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
