//! Places that the peers of a program share, so that none takes those of all.
//!
//! Knows who counts as one peer; what a place is for is for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use farref_netref::Peer;
use farref_transport::PeerEvidence;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places, of which one peer may have half, and this process all.
///
/// Whoever has proved the same key, certificate or account is one peer, over however many connections.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    most_of_one: usize,
    /// Those that each peer has left; who holds none is not kept.
    of: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A place, for as long as it is kept.
pub(crate) struct Place {
    _of_one: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(most)),
            most_of_one: most.div_ceil(2),
            of: Mutex::default(),
        }
    }

    /// A place for `peer`, if there is one.
    pub(crate) fn enter(&self, peer: Option<&Peer>) -> Option<Place> {
        let own = peer.map(|peer| self.of(peer).try_acquire_owned());
        Some(Place {
            _of_one: own.transpose().ok()?,
            _of_all: Arc::clone(&self.all).try_acquire_owned().ok()?,
        })
    }

    /// A place for `peer`, once there is one; none if there can be none any more.
    ///
    /// # Cancel safety
    ///
    /// Safe: its turn is lost.
    pub(crate) async fn wait(&self, peer: Option<&Peer>) -> Option<Place> {
        let of_one = match peer {
            Some(peer) => Some(self.of(peer).acquire_owned().await.ok()?),
            None => None,
        };
        Some(Place {
            _of_one: of_one,
            _of_all: Arc::clone(&self.all).acquire_owned().await.ok()?,
        })
    }

    fn of(&self, peer: &Peer) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let who = who(peer);
        if let Some(known) = of.get(&who).and_then(Weak::upgrade) {
            return known;
        }
        of.retain(|_, semaphore| semaphore.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(self.most_of_one));
        of.insert(who, Arc::downgrade(&fresh));
        fresh
    }
}

/// Who has proved nothing is another peer with each connection.
fn who(peer: &Peer) -> String {
    match &peer.evidence {
        PeerEvidence::None => peer.to_string(),
        PeerEvidence::Unix { uid, .. } => format!("uid {uid}"),
        evidence => evidence.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(evidence: PeerEvidence) -> Peer {
        Peer::new("mem", None, evidence)
    }

    /// One peer took all, and no other got any.
    #[tokio::test]
    async fn a_peer_has_half_of_the_places_over_all_its_connections() {
        let places = Places::new(5);
        let (one, other) = (peer(PeerEvidence::Key([1; 32])), peer(PeerEvidence::Key([2; 32])));
        let again = peer(PeerEvidence::Key([1; 32]));
        let mut taken = vec![
            places.enter(Some(&one)).unwrap(),
            places.wait(Some(&again)).await.unwrap(),
            places.enter(Some(&one)).unwrap(),
        ];
        assert!(places.enter(Some(&again)).is_none());
        taken.push(places.enter(Some(&other)).unwrap());
        taken.push(places.enter(None).unwrap());
        assert!(places.enter(Some(&other)).is_none() && places.enter(None).is_none());
        taken.clear();
        let all: Vec<_> = (0..5).map(|_| places.enter(None).unwrap()).collect();
        drop(all);
        places.enter(Some(&other)).unwrap();
        assert_eq!(places.of.lock().unwrap().len(), 1, "who holds none is forgotten");
    }
}
