//! The sessions of a server: which dialer comes back, and to what.

use std::collections::{HashMap, VecDeque};
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
    alive: HashMap<SessionId, (Connection, Admitted)>,
    over: VecDeque<(Instant, Tombstone)>,
}

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
            if table.over.len() >= TOMBSTONES {
                table.over.pop_front();
            }
            table.over.push_back((Instant::now(), tombstone));
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
        table.over.retain(|(since, _)| since.elapsed() < REMEMBERED);
        let mut over = table.over.iter();
        let found = over.find(|(_, tombstone)| tombstone.session() == request.session());
        Err(
            found.map_or(Rejection::new(RejectCode::Unknown), |(_, tombstone)| {
                tombstone.reject(request)
            }),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::*;

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
