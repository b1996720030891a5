//! The sessions of a server: which dialer comes back, and to what.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farref_framing::{PeerEvidence, RejectCode, Rejection, ResumeRequest, SessionId, Tombstone};
use farref_netref::Connection;

use crate::protect::{Admitted, may_keep};

/// How long it is known what was received in a session that is over (PROTOCOL.md § 4.7).
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Of so many sessions, the latest ones.
const TOMBSTONES: usize = 1024;

/// Sessions by their names.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    alive: BTreeMap<SessionId, (Connection, Admitted)>,
    over: Over,
}

/// What is remembered of sessions that are over, and since when.
#[derive(Default)]
struct Over(VecDeque<(Instant, Tombstone)>);

impl Sessions {
    /// `connection` may be gone back to, if it has a session, by a peer that is let in with the same rights.
    pub(crate) fn add(&self, connection: &Connection, admitted: Admitted) {
        if let Some(session) = connection.session() {
            self.lock().alive.insert(session, (connection.clone(), admitted));
        }
    }

    /// `connection` is over, or about to be: what it has received is remembered if it receives nothing more.
    pub(crate) fn remove(&self, connection: &Connection) {
        let Some(session) = connection.session() else {
            return;
        };
        let tombstone = connection.is_closed().then(|| connection.tombstone()).flatten();
        let mut table = self.lock();
        table.alive.remove(&session);
        if let Some(tombstone) = tombstone {
            table.over.remember(tombstone, Instant::now());
        }
    }

    /// The connection that a dialer which shows `evidence`, and is let in by it, wants to go on with.
    ///
    /// # Errors
    ///
    /// What to tell it.
    pub(crate) fn find(
        &self,
        request: &ResumeRequest,
        evidence: &PeerEvidence,
        admitted: &Admitted,
    ) -> Result<Connection, Rejection> {
        let mut table = self.lock();
        if let Some((connection, before)) = table.alive.get(&request.session()) {
            return if !succeeds(&connection.peer().evidence, evidence) {
                Err(Rejection::new(RejectCode::NotYours))
            } else if !may_keep(before, admitted) {
                Err(Rejection::new(RejectCode::Denied))
            } else {
                Ok(connection.clone())
            };
        }
        let found = table.over.find(request.session(), Instant::now());
        let unknown = Rejection::new(RejectCode::Unknown);
        Err(found.map_or(unknown, |tombstone| tombstone.reject(request)))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Over {
    fn remember(&mut self, tombstone: Tombstone, now: Instant) {
        if self.0.len() >= TOMBSTONES {
            self.0.pop_front();
        }
        self.0.push_back((now, tombstone));
    }

    fn find(&mut self, session: SessionId, now: Instant) -> Option<&Tombstone> {
        self.0
            .retain(|(since, _)| now.saturating_duration_since(*since) < REMEMBERED);
        let mut over = self.0.iter().map(|(_, tombstone)| tombstone);
        over.find(|tombstone| tombstone.session() == session)
    }
}

/// Whether a peer that was known by `before` is believed to be the same with `now`, given that it knows the key of the
/// session. A proved key stays; whoever had none may come back with one, over a medium that proves it.
pub(crate) fn succeeds(before: &PeerEvidence, now: &PeerEvidence) -> bool {
    match (before, now) {
        (PeerEvidence::Key(before), PeerEvidence::Key(now)) => before == now,
        (PeerEvidence::Key(_), _) => false,
        (_, PeerEvidence::Key(_)) => true,
        // It may be another process, never another account.
        (PeerEvidence::Unix { uid: before, .. }, PeerEvidence::Unix { uid: now, .. }) => before == now,
        (before, now) => before == now,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::sync::Arc;

    use bytes::BytesMut;
    use farref_framing::{AttachConfig, Batch, Link, LinkConfig, LinkEvent, Role, StreamKey, StreamLink};
    use farref_netref::{Config, Parts, Peer, Root};
    use farref_transport::StreamCarrier;

    use super::*;
    use crate::keys::Grant;

    fn link(role: Role, salt: u8) -> StreamLink {
        let mut config = LinkConfig::new(role, [salt; 16], [salt; 32]);
        config.session = true;
        StreamLink::new(config, 0)
    }

    fn written(link: &mut StreamLink) -> BytesMut {
        let mut batch = Batch::new();
        link.poll_transmit(&mut batch, 0);
        BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..])
    }

    fn pass(from: &mut StreamLink, to: &mut StreamLink) {
        let mut input = written(from);
        to.handle_bytes(StreamKey::MAIN, &mut input, false, 0).unwrap();
    }

    /// What is left of a session that two links have begun.
    fn tombstone(salt: u8) -> Tombstone {
        let mut links = [link(Role::Dialer, salt), link(Role::Listener, salt + 100)];
        for turn in 0..4 {
            let [from, to] = &mut links;
            pass(from, to);
            links.reverse();
            assert!(turn < 3 || links[0].session().is_some());
        }
        links[0].tombstone().unwrap()
    }

    #[test]
    fn what_was_received_is_remembered_for_an_hour_of_the_latest_sessions() {
        let (first, second) = (tombstone(1), tombstone(2));
        let (now, mut over) = (Instant::now(), Over::default());
        assert!(over.find(first.session(), now).is_none());
        over.remember(first.clone(), now);
        let late = now + REMEMBERED - Duration::from_nanos(1);
        assert!(over.find(second.session(), late).is_none(), "another one");
        assert!(over.find(first.session(), late).is_some());
        assert!(over.find(first.session(), now + REMEMBERED).is_none());
        assert!(over.0.is_empty(), "nor is it kept");
        over.remember(first.clone(), now);
        for _ in 0..TOMBSTONES {
            assert!(over.find(first.session(), now).is_some());
            over.remember(second.clone(), now);
        }
        assert!(over.find(first.session(), now).is_none());
        assert_eq!(over.0.len(), TOMBSTONES);
    }

    async fn side(carrier: StreamCarrier, role: Role) -> Connection {
        let (inlet, outlet, _, _) = farref_framing::open(carrier.into(), role).await.unwrap();
        let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
        parts.keep_open = true;
        let link = Box::new(link(role, role as u8));
        Connection::native(|_| link, parts, Root::NONE, Config::default())
    }

    /// A server that served for long held all connections that it ever had.
    #[tokio::test]
    async fn what_is_over_is_gone_but_for_what_it_has_received() {
        let (a, b) = farref_transport::memory::pair(1 << 12);
        let (server, client) = (side(a, Role::Listener).await, side(b, Role::Dialer).await);
        server.established().await.unwrap();
        let session = server.session().unwrap();
        let sessions = Sessions::default();
        sessions.add(&server, None);
        assert!(sessions.lock().alive.contains_key(&session));
        sessions.remove(&server);
        {
            let mut table = sessions.lock();
            let found = table.over.find(session, Instant::now());
            assert!(found.is_none(), "it may receive more yet");
        }
        sessions.add(&server, None);
        client.close().await;
        server.closed().await;
        sessions.remove(&server);
        let mut table = sessions.lock();
        assert!(table.alive.is_empty());
        assert!(table.over.find(session, Instant::now()).is_some());
    }

    /// Begins a session over `carrier`, and asks to go on with it over another.
    async fn comes_back(mut carrier: StreamCarrier) -> ResumeRequest {
        let mut dialer = link(Role::Dialer, 9);
        while dialer.session().is_none() {
            let says = written(&mut dialer);
            let count = carrier.tx.try_write(&[IoSlice::new(&says)]).unwrap();
            assert_eq!(count, says.len());
            let mut input = BytesMut::with_capacity(1 << 12);
            poll_fn(|context| carrier.rx.poll_read(context, &mut input))
                .await
                .unwrap();
            dialer
                .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
                .unwrap();
        }
        dialer.detach(0).unwrap();
        dialer.attach(AttachConfig::new([10; 16]), 0).unwrap();
        let mut fresh = link(Role::Listener, 11);
        pass(&mut dialer, &mut fresh);
        match fresh.poll_event() {
            Some(LinkEvent::ResumeRequested(request)) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn who_may_no_longer_what_it_might_does_not_go_on() {
        let (near, far) = farref_transport::memory::pair(1 << 12);
        let server = side(near, Role::Listener).await;
        let request = comes_back(far).await;
        assert_eq!(server.session(), Some(request.session()));
        let may = |service: &str| {
            Some(Arc::new(Grant {
                services: vec![service.to_owned()],
                ..Grant::default()
            }))
        };
        let sessions = Sessions::default();
        sessions.add(&server, may("files"));
        let find = |admitted| sessions.find(&request, &PeerEvidence::None, &admitted).map(drop);
        assert_eq!(find(may("files")), Ok(()));
        assert_eq!(find(may("shell")), Err(Rejection::new(RejectCode::Denied)));
        assert_eq!(find(None), Err(Rejection::new(RejectCode::Denied)));
    }

    #[test]
    fn a_key_stays_and_an_account_too_but_a_key_may_be_added() {
        let key = |byte| PeerEvidence::Key([byte; 32]);
        let account = |uid, pid| PeerEvidence::Unix {
            uid,
            gid: 1,
            pid: Some(pid),
        };
        let none = PeerEvidence::None;
        for (before, now) in [
            (key(1), key(1)),
            (none.clone(), none.clone()),
            (none.clone(), key(1)),
            (account(1, 7), account(1, 8)),
            (account(1, 7), key(1)),
        ] {
            assert!(succeeds(&before, &now), "{before:?} {now:?}");
        }
        for (before, now) in [
            (key(1), key(2)),
            (key(1), none.clone()),
            (key(1), account(1, 7)),
            (account(1, 7), account(2, 7)),
            (account(1, 7), none.clone()),
            (none.clone(), account(1, 7)),
        ] {
            assert!(!succeeds(&before, &now), "{before:?} {now:?}");
        }
    }
}
