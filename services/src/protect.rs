//! What an address demands of the carrier that it leads to: encryption, and proof of who is at the other end.

use std::sync::Arc;
use std::time::SystemTime;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{Role, noise};
use farref_netref::{Peer, Root};
use farref_transport::address::PeerKey;
use farref_transport::{Address, Carrier, CarrierInfo, Dialect, Media, Security, warn_of_stranger};
use tokio::sync::Semaphore;

use crate::keys::{Grant, KnownPeers};
use crate::service::Service;
use crate::source::{Visitor, key_of};

pub(crate) use crate::keys::Trust;

/// How the carriers of one address are protected.
#[derive(Debug, Clone)]
pub(crate) enum Protection {
    /// By nothing beyond what the medium does by itself.
    None,
    /// By the medium, which proves keys.
    Medium(Trust),
    /// By Noise.
    Noise(Trust),
}

impl Protection {
    /// What `address` demands; `trust` is what was given for it.
    ///
    /// # Errors
    ///
    /// Keys are needed and there are none.
    pub(crate) async fn of(address: &Address, trust: Option<Trust>) -> Result<Self> {
        if address.dialect() == Dialect::Rpyc {
            return match address.peer_key() {
                None => Ok(Self::None),
                Some(_) => {
                    let text = "RPyC proves no keys: leave the key out, and go by `rpyc+ssl` or `rpyc+ssh`";
                    Err(Error::new(ErrorKind::Misuse, text))
                }
            };
        }
        let is_network = address.scheme() == "tcp";
        let asked = address.security() == Some(Security::Noise) || address.peer_key().is_some();
        let by = if address.scheme() == "quic" {
            Self::Medium
        } else if asked || (is_network && address.security().is_none()) {
            Self::Noise
        } else {
            return Ok(Self::None);
        };
        let trust = match trust {
            Some(trust) => trust,
            None => beside(Trust::of_user).await?,
        };
        let protection = by(trust);
        if let Self::Medium(trust) = &protection
            && trust.psk.is_some()
        {
            let text = "QUIC cannot demand a shared secret: use `tcp`, or keys alone";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        Ok(protection)
    }

    /// Nothing is demanded.
    #[cfg(all(unix, feature = "activation"))]
    pub(crate) const fn none() -> Self {
        Self::None
    }

    /// The address as the medium gets it: encryption is not its affair.
    pub(crate) fn bare(&self, address: &Address) -> Address {
        match self {
            Self::Noise(_) => address.clone().with_security(Some(Security::Plain)),
            _ => address.clone(),
        }
    }

    /// A bare address as others are to dial it.
    pub(crate) fn full(&self, bare: Address) -> Address {
        let Self::Noise(trust) = self else { return bare };
        let implied = bare.scheme() == "tcp";
        let address = bare.with_security(if implied { None } else { Some(Security::Noise) });
        match &trust.identity {
            Some(identity) => address.with_peer_key(identity.public()),
            None => address,
        }
    }

    /// The media that it takes: those that prove keys need one.
    pub(crate) fn media(&self, media: Media) -> Media {
        #[cfg(feature = "quic")]
        if let Self::Medium(Trust {
            identity: Some(identity),
            ..
        }) = self
            && !media.schemes().any(|scheme| scheme == "quic")
        {
            return media.with(farref_transport::quic::Quic::new(identity.clone()));
        }
        media
    }

    /// Encrypts a carrier, if that is how it is protected. `address` is what was dialled.
    ///
    /// # Errors
    ///
    /// By whose turn it is: see [`noise::Error`].
    pub(crate) async fn apply(
        &self,
        carrier: Carrier,
        role: Role,
        address: Option<&Address>,
    ) -> Result<Carrier> {
        let Self::Noise(trust) = self else {
            return Ok(carrier);
        };
        let Carrier::Stream(mut stream) = carrier else {
            let text = "a medium with streams of its own cannot be encrypted with Noise";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let pinned = address.and_then(Address::peer_key).copied();
        let config = trust.noise(pinned).ok_or_else(|| {
            let text = "encryption needs an identity or a shared secret on this side";
            Error::new(ErrorKind::Misuse, text)
        })?;
        let implied = stream.info.medium == "tcp";
        let shown = |bare: Address| bare.with_security(if implied { None } else { Some(Security::Noise) });
        stream.info.local = stream.info.local.map(shown);
        stream.info.remote = address.cloned().or(stream.info.remote.map(shown));
        let secured = noise::secure(stream, role, config).await.map_err(noise_error)?;
        if let (Some(key), Some(of)) = (key_of(&secured.carrier.info), secured.peer_static)
            && role == Role::Dialer
        {
            trust.remember(key, of);
        }
        Ok(secured.carrier.into())
    }

    /// Whether the peer that answered is the one that was meant. What comes back is to be remembered when the peer has
    /// introduced itself: a shared secret is proved by that alone, and nobody without it is to be believed later.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: it is not, or nobody can tell.
    pub(crate) async fn check_answer(
        &self,
        info: &CarrierInfo,
        address: &Address,
    ) -> Result<Option<Newcomer>> {
        let (Self::Medium(trust) | Self::Noise(trust)) = self else {
            return Ok(None);
        };
        let Some(key) = key_of(info) else {
            return match address.peer_key() {
                // Who shares the secret is believed by that, but for a key somebody must answer.
                None if self.is_by_secret() => Ok(None),
                _ => Err(keyless()),
            };
        };
        let (known, address) = (trust.known.clone(), address.clone());
        let is_certain = !self.is_by_secret();
        // It reads a file, and may ask a person.
        beside(move || {
            if is_certain {
                known.check(&address, &key).map(|()| None)
            } else {
                let is_new = known.look(&address, &key)?;
                Ok(is_new.then_some(Newcomer { known, address, key }))
            }
        })
        .await
    }

    /// Whether the peer that came in is let in by its key, and with which options.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: it is not. The message is for the peer; this side finds more in its log.
    pub(crate) async fn admit(&self, visitor: &Visitor) -> Result<Admitted> {
        let (Self::Medium(trust) | Self::Noise(trust)) = self else {
            return Ok(None);
        };
        let Some(key) = visitor.key else {
            return if self.is_by_secret() {
                Ok(None)
            } else {
                Err(keyless())
            };
        };
        let (authorized, from) = (trust.authorized.clone(), visitor.source);
        let check = move || authorized.check(&key, from, SystemTime::now());
        let checked = if trust.authorized.is_a_file() {
            let _turn = CHECKS.acquire().await;
            beside(check).await
        } else {
            check()
        };
        checked.map(|grant| Some(Arc::new(grant))).map_err(|error| {
            warn_of_stranger(|left_out| tracing::warn!(from = visitor.source.map(tracing::field::display), left_out, "{error}"));
            let text = format!(
                "the listener does not let in {key}, which is the key of this process: whoever runs it can add that \
                 to its authorized_peers"
            );
            Error::new(ErrorKind::Denied, text)
        })
    }

    /// What `service` shows to the peer that was admitted.
    ///
    /// # Errors
    ///
    /// What the service says.
    pub(crate) fn root(&self, service: &dyn Service, peer: &Peer, admitted: &Admitted) -> Result<Root> {
        match admitted {
            Some(grant) => service.granted(peer, grant),
            None => service.root(peer),
        }
    }

    /// Whether a peer may have no key of its own, since it has shown that it knows the shared secret.
    const fn is_by_secret(&self) -> bool {
        matches!(self, Self::Noise(trust) if trust.psk.is_some())
    }
}

/// A peer whose key was accepted, and is not remembered yet.
pub(crate) struct Newcomer {
    known: KnownPeers,
    address: Address,
    key: PeerKey,
}

impl Newcomer {
    /// Remembers it: it has introduced itself.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) async fn remember(self) -> Result<()> {
        beside(move || self.known.remember(&self.address, &self.key)).await
    }
}

/// The options of the key that lets a peer in; none where that takes no key.
pub(crate) type Admitted = Option<Arc<Grant>>;

/// Whether a peer that was let in with the rights `before` may keep what it got by them, now that it would have others.
/// What it got without a key needs none.
pub(crate) fn may_keep(before: &Admitted, now: &Admitted) -> bool {
    let rights = |grant: &Arc<Grant>| (grant.services.clone(), grant.is_read_only);
    before.is_none() || before.as_ref().map(rights) == now.as_ref().map(rights)
}

/// So many peers are looked up in files at once: others wait, and leave threads to calls.
static CHECKS: Semaphore = Semaphore::const_new(4);

/// Runs what may wait for a file beside the tasks of the runtime.
async fn beside<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(run).await;
    done.map_err(|error| Error::new(ErrorKind::Panicked, error.to_string()))?
}

fn keyless() -> Error {
    Error::new(ErrorKind::Denied, "the peer has proved no key")
}

fn noise_error(error: noise::Error) -> Error {
    use noise::Error as E;
    let kind = match &error {
        E::Untrusted { .. } | E::Unauthentic { .. } | E::Refused => ErrorKind::Denied,
        E::Misuse(_) => ErrorKind::Misuse,
        E::Carrier(_) => ErrorKind::Carrier,
        _ => ErrorKind::Incompatible,
    };
    Error::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_keeps_what_it_got_if_it_would_get_the_same_rights_now() {
        let with = |services: &[&str], is_read_only, comment: &str| {
            Some(Arc::new(Grant {
                services: services.iter().map(|&service| service.to_owned()).collect(),
                is_read_only,
                comment: comment.to_owned(),
                ..Grant::default()
            }))
        };
        let before = with(&["files"], true, "");
        assert!(may_keep(&before, &before) && may_keep(&before, &with(&["files"], true, "the laptop")));
        assert!(!may_keep(&before, &with(&["files"], false, "")));
        assert!(!may_keep(&before, &with(&["shell"], true, "")));
        assert!(!may_keep(&before, &Some(Arc::default())), "all services");
        assert!(!may_keep(&before, &None));
        assert!(
            may_keep(&None, &None) && may_keep(&None, &before),
            "it needed no key for that"
        );
    }
}
