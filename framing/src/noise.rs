//! Encryption and proof of who is who, over any byte stream (PROTOCOL.md chapter 10).
//!
//! ```text
//!   dialer                                      listener
//!   hello, message 1   --------------------->                     the dialer's hello is the prologue
//!                      <---------------------   hello, message 2  proof of the listener's key, hash of both hellos
//!   message 3          --------------------->                     proof of the dialer's key
//!   records            <-------------------->   records           the link's preface is the first
//! ```
//!
//! A layer below the link: [`secure`] makes an encrypted carrier of a carrier, and whatever runs over it, prefaces
//! included, is in its records. So there is nothing to downgrade above; what is in the clear below, the hellos, is
//! hashed into the handshake.
//!
//! Knows the handshakes (snow carries them out), the records, and how an Ed25519 identity vouches for the X25519 key
//! that Noise wants. Whether a proved key is trusted is for the layers above, but for a key that was pinned.

mod handshake;
mod hello;
mod record;

use std::fmt;
use std::io;

use bytes::BytesMut;
use farref_transport::address::PeerKey;
use farref_transport::{Identity, PeerEvidence, StreamCarrier};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::link::Role;
use crate::preface::Foreign;

use self::handshake::Exchange;
use self::record::{Cipher, NoiseRx, NoiseTx};

/// How a side encrypts, and who it is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// Who this side is. Without one it proves nothing but that it has the [`psk`](Self::psk).
    ///
    /// Default `None`.
    pub identity: Option<Identity>,
    /// The key that the peer must have. Default: any that it proves to have.
    pub pinned: Option<PeerKey>,
    /// The X25519 key that the peer had before, as [`Secured::peer_static`] told it: saves a round trip (pattern IK).
    /// Looked at by the dialer alone, together with `pinned`. If the peer has another by now, nothing is lost.
    ///
    /// Default `None`.
    pub peer_static: Option<[u8; 32]>,
    /// A secret that both sides share, beside their keys or, for devices without any, instead of them.
    ///
    /// Default `None`.
    pub psk: Option<Psk>,
    /// The cipher that the dialer proposes; a listener takes both. Default: the faster one of this processor.
    pub suite: Suite,
}

impl Config {
    /// Encrypts as `identity`.
    #[must_use]
    pub fn of(identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            ..Self::default()
        }
    }

    /// Encrypts as nobody, for whoever has the same secret.
    #[must_use]
    pub fn of_psk(psk: Psk) -> Self {
        Self {
            psk: Some(psk),
            ..Self::default()
        }
    }

    /// The pattern that this side expects of a dialer that knows nothing of it.
    fn pattern(&self) -> Result<Pattern, Error> {
        match (&self.identity, &self.psk) {
            (Some(_), None) => Ok(Pattern::Xx),
            (Some(_), Some(_)) => Ok(Pattern::XxPsk3),
            (None, Some(_)) => Ok(Pattern::NnPsk0),
            (None, None) => Err(Error::Unready),
        }
    }
}

/// The patterns of the handshake, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Xx = 1,
    Ik = 2,
    XxPsk3 = 3,
    NnPsk0 = 4,
}

impl Pattern {
    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Xx),
            2 => Some(Self::Ik),
            3 => Some(Self::XxPsk3),
            4 => Some(Self::NnPsk0),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Xx => "XX",
            Self::Ik => "IK",
            Self::XxPsk3 => "XXpsk3",
            Self::NnPsk0 => "NNpsk0",
        }
    }
}

/// A cipher and a hash, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suite {
    /// AES-256-GCM and SHA-256: the faster one where the processor has AES.
    AesGcm = 1,
    /// ChaCha20-Poly1305 and BLAKE2s: the faster one elsewhere.
    ChaChaPoly = 2,
}

impl Suite {
    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::AesGcm),
            2 => Some(Self::ChaChaPoly),
            _ => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::AesGcm => "AESGCM_SHA256",
            Self::ChaChaPoly => "ChaChaPoly_BLAKE2s",
        }
    }
}

impl Default for Suite {
    fn default() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        let has_aes = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::AesGcm } else { Self::ChaChaPoly }
    }
}

/// A secret of 32 random bytes that both sides share. A typed password is none: it can be guessed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; 32]);

impl Psk {
    /// The secret of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk")
    }
}

/// An encrypted carrier.
#[derive(Debug)]
#[non_exhaustive]
pub struct Secured {
    /// The carrier. Its facts tell the peer's key and the channel binding.
    pub carrier: StreamCarrier,
    /// The peer's X25519 key, for [`Config::peer_static`] the next time.
    pub peer_static: Option<[u8; 32]>,
}

/// Agrees on keys over `carrier` and returns an encrypted one.
///
/// How long that may take is the caller's affair: a peer that says nothing is waited for. At most 2 KiB are read of
/// a peer before it has proved anything.
///
/// # Errors
///
/// By whose turn it is: see [`Error`]. The peer learns no more than that it did not work.
///
/// # Cancel safety
///
/// Dropping the future drops the carrier.
pub async fn secure(carrier: StreamCarrier, role: Role, config: Config) -> Result<Secured, Error> {
    let StreamCarrier {
        rx,
        tx,
        mut info,
        guard,
    } = carrier;
    let mut exchange = Exchange::new(rx, tx);
    let agreed = match role {
        Role::Dialer => exchange.dial(&config).await?,
        Role::Listener => exchange.listen(&config).await?,
    };
    let (rx, tx, rest) = exchange.into_parts();
    let (ours, theirs) = agreed.keys;
    let suited = usize::try_from(info.fragment_hint).unwrap_or(usize::MAX);
    let tx = NoiseTx::new(tx, Cipher::new(agreed.suite, *ours)?, suited);
    let rx = NoiseRx::new(rx, Cipher::new(agreed.suite, *theirs)?, rest);
    info.confidential = true;
    info.channel_binding = Some(agreed.binding);
    if let Some(key) = agreed.peer {
        info.peer = PeerEvidence::Key(*key.as_bytes());
    }
    let mut carrier = StreamCarrier::new(rx, tx, info);
    carrier.guard = guard;
    Ok(Secured {
        carrier,
        peer_static: agreed.peer_static,
    })
}

/// Why a carrier could not be encrypted.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// This side has neither an identity nor a shared secret.
    Unready,
    /// The peer has another key than it must have: somebody else answers there, or it was set up anew.
    WrongKey {
        /// The key that it must have.
        expected: PeerKey,
        /// The key that it has.
        found: PeerKey,
    },
    /// The listener does not encrypt.
    NotHere,
    /// The dialer does not encrypt. It was told that it must.
    PeerIsPlain,
    /// The peer speaks something else. It was told so in its own words.
    Foreign(Foreign),
    /// The peer speaks another version.
    Version(u8),
    /// The two sides are set up differently: one expects a shared secret, or an identity, and the other has none.
    Setup {
        /// What this side is set up for.
        ours: &'static str,
        /// What the other side is set up for.
        theirs: &'static str,
    },
    /// The peer does not prove what it claims: another shared secret, or somebody in between.
    Failed,
    /// The peer does not keep to the protocol.
    Malformed,
    /// The carrier broke.
    Carrier(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unready => f.write_str("encryption needs an identity or a shared secret on this side"),
            Self::WrongKey { expected, found } => write!(
                f,
                "the peer has the key {found} and not {expected}: somebody else answers there, or it was set up anew"
            ),
            Self::NotHere => f.write_str(
                "the listener does not encrypt: dial with `plain+` if that is meant, or have it listen without",
            ),
            Self::PeerIsPlain => f.write_str("the dialer does not encrypt, and was told that it must"),
            Self::Foreign(foreign) => write!(f, "the peer does not speak farref, but {foreign}"),
            Self::Version(version) => write!(f, "the peer encrypts by version {version}, and this side by 1"),
            Self::Setup { ours, theirs } => write!(
                f,
                "this side is set up for Noise {ours} and the other for {theirs}: both need the shared secret, or neither"
            ),
            Self::Failed => f.write_str(
                "the handshake failed: the shared secrets differ, or somebody on the way has changed it",
            ),
            Self::Malformed => f.write_str("the peer does not keep to the handshake"),
            Self::Carrier(error) => write!(f, "the carrier broke in the handshake: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Carrier(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Carrier(error)
    }
}

impl From<snow::Error> for Error {
    fn from(_: snow::Error) -> Self {
        Self::Failed
    }
}

/// What is left of a carrier when the handshake is done.
type Parts = (
    Box<dyn farref_transport::ByteRx>,
    Box<dyn farref_transport::ByteTx>,
    BytesMut,
);

#[cfg(test)]
mod tests;
