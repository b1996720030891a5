//! What an address demands of the carrier that it leads to: encryption, and proof of who is at the other end.

use std::time::SystemTime;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{Role, noise};
use farref_netref::{Peer, Root};
use farref_transport::address::PeerKey;
use farref_transport::{Address, Carrier, CarrierInfo, Media, PeerEvidence, Security};

use crate::service::Service;
use crate::source::source_exactly;

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
    pub(crate) fn of(address: &Address, trust: Option<&Trust>) -> Result<Self> {
        let trust = || trust.cloned().map_or_else(Trust::of_user, Ok);
        let is_network = address.scheme() == "tcp";
        if address.scheme() == "quic" {
            return trust().map(Self::Medium);
        }
        let asked = address.security() == Some(Security::Noise) || address.peer_key().is_some();
        if asked || (is_network && address.security().is_none()) {
            return trust().map(Self::Noise);
        }
        Ok(Self::None)
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

    /// Whether the peer that answered is the one that was meant.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: it is not, or nobody can tell.
    pub(crate) async fn check_answer(&self, info: &CarrierInfo, address: &Address) -> Result<()> {
        let (Self::Medium(trust) | Self::Noise(trust)) = self else {
            return Ok(());
        };
        let Some(key) = key_of(info) else { return Ok(()) };
        if address.peer_key().is_some() {
            return Ok(()); // checked in the handshake
        }
        let (known, address) = (trust.known.clone(), address.clone());
        // It reads a file, and may ask a person.
        let checked = tokio::task::spawn_blocking(move || known.check(&address, &key)).await;
        checked.map_err(|error| Error::new(ErrorKind::Panicked, error.to_string()))?
    }

    /// What `service` shows to the peer that came in, if its key lets it in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`]: it is not let in. The message is for the peer; this side finds more in its log. Or what
    /// the service says.
    pub(crate) fn root(&self, service: &dyn Service, info: &CarrierInfo, peer: &Peer) -> Result<Root> {
        let (Self::Medium(trust) | Self::Noise(trust)) = self else {
            return service.root(peer);
        };
        // Who has the shared secret and no key of its own is let in by that.
        let Some(key) = key_of(info) else {
            return service.root(peer);
        };
        match trust
            .authorized
            .check(&key, source_exactly(info), SystemTime::now())
        {
            Ok(grant) => service.granted(peer, &grant),
            Err(error) => {
                tracing::warn!(%peer, "{error}");
                let text = format!(
                    "the listener does not let in {key}, which is the key of this process: whoever runs it can add \
                     that to its authorized_peers"
                );
                Err(Error::new(ErrorKind::Denied, text))
            }
        }
    }
}

fn key_of(info: &CarrierInfo) -> Option<PeerKey> {
    match info.peer {
        PeerEvidence::Key(key) => Some(PeerKey::new(key)),
        _ => None,
    }
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
