//! Who this side is, whom it believes, and whom it lets in, in one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use farref_boxing::Result;
use farref_framing::noise::{self, Psk};
use farref_transport::Identity;
use farref_transport::address::PeerKey;

use super::{Authorized, KeyStore, KnownPeers, Policy};

/// What this side proves and what it demands, on carriers whose ends are proved by keys: QUIC, and whatever is
/// encrypted with Noise.
#[derive(Clone)]
pub struct Trust {
    pub(crate) identity: Option<Identity>,
    pub(crate) known: KnownPeers,
    pub(crate) authorized: Authorized,
    pub(crate) psk: Option<Psk>,
    /// The X25519 keys of peers that were dialled: the next time one message is enough.
    seen: Arc<Mutex<HashMap<PeerKey, [u8; 32]>>>,
}

/// So many peers are remembered for the next time.
const SEEN: usize = 1024;

impl Trust {
    /// This side is `identity`. It believes only peers that an address pins, and lets nobody in.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            known: KnownPeers::none(),
            authorized: Authorized::keys([]),
            psk: None,
            seen: Arc::default(),
        }
    }

    /// This side is nobody in particular, and believes and lets in whoever has the same secret: for devices without
    /// keys of their own.
    #[must_use]
    pub fn of_psk(psk: Psk) -> Self {
        Self {
            identity: None,
            known: KnownPeers::none(),
            authorized: Authorized::keys([]),
            psk: Some(psk),
            seen: Arc::default(),
        }
    }

    /// By the files of the user that this process runs as, with [`Policy::Strict`].
    ///
    /// # Errors
    ///
    /// As for [`KeyStore::of_user`] and [`KeyStore::identity`].
    pub fn of_user() -> Result<Self> {
        Self::of_store(&KeyStore::of_user()?, Policy::Strict)
    }

    /// By the files in `store`.
    ///
    /// # Errors
    ///
    /// As for [`KeyStore::identity`].
    pub fn of_store(store: &KeyStore, policy: Policy) -> Result<Self> {
        let trust = Self::new(store.identity()?);
        Ok(trust
            .knowing(store.known_peers(policy))
            .authorizing(store.authorized_peers()))
    }

    /// Believes these peers when dialling.
    #[must_use]
    pub fn knowing(mut self, known: KnownPeers) -> Self {
        self.known = known;
        self
    }

    /// Lets these peers in when listening.
    #[must_use]
    pub fn authorizing(mut self, authorized: Authorized) -> Self {
        self.authorized = authorized;
        self
    }

    /// Demands of every peer, on top of its key, that it has this secret. QUIC cannot, and is refused.
    #[must_use]
    pub fn sharing(mut self, psk: Psk) -> Self {
        self.psk = Some(psk);
        self
    }

    /// Who this side is.
    #[must_use]
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// How a carrier is encrypted, towards the peer with the key `expected` or any; `None` if this side has neither
    /// an identity nor a secret.
    pub(crate) fn noise(&self, expected: Option<PeerKey>) -> Option<noise::Config> {
        let mut config = match (&self.identity, &self.psk) {
            (Some(identity), _) => noise::Config::new(identity.clone()),
            (None, Some(psk)) => noise::Config::shared(psk.clone()),
            (None, None) => return None,
        };
        config.psk.clone_from(&self.psk);
        config.expected = expected;
        config.peer_static = expected.and_then(|key| self.seen(&key));
        Some(config)
    }

    fn seen(&self, peer: &PeerKey) -> Option<[u8; 32]> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(peer)
            .copied()
    }

    pub(crate) fn remember(&self, peer: PeerKey, of: [u8; 32]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN && !seen.contains_key(&peer) {
            seen.clear();
        }
        seen.insert(peer, of);
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("identity", &self.identity)
            .field("known", &self.known)
            .field("authorized", &self.authorized)
            .field("psk", &self.psk)
            .finish_non_exhaustive()
    }
}
