//! Why a carrier could not be encrypted, and why an encrypted one failed. Facts; the words are in `Display`.
//!
//! Arranged by whose turn it is. The peer never learns more than that the handshake failed.

use std::fmt;
use std::io;

use farref_transport::address::PeerKey;

use super::hello::Pattern;
use crate::preface::Foreign;

/// Why [`secure`](super::secure) failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol: its bug, or an attack. Do not retry.
    Misbehaved(Breach),
    /// Both sides are right and cannot agree. Change one of them.
    Incompatible(Mismatch),
    /// The peer proved another key than the pinned one: an impostor, or its key has changed. Find out which before the
    /// pin is changed. Nothing about this side was told.
    Untrusted {
        /// The pinned key.
        expected: PeerKey,
        /// The key that was proved.
        proved: PeerKey,
    },
    /// A message can't be opened: it was altered on the way, or the pre-shared keys differ. Compare the keys.
    Unauthentic {
        /// Its number in the handshake, from 1.
        message: u8,
        /// Whether the pattern has a pre-shared key.
        psk: bool,
    },
    /// The peer gave the handshake up and says no more than that: why is in its log.
    Refused,
    /// The carrier is lost. Dial again.
    Carrier(io::Error),
    /// A bug in this program, or in its configuration. Nothing was sent.
    Misuse(Misuse),
}

/// What the peer did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// A hello announces more than 1024 bytes.
    HelloTooLong {
        /// Its whole length.
        len: usize,
    },
    /// A field of a hello has no legal form.
    HelloField {
        /// Type of the field.
        field: u8,
    },
    /// A hello that does not follow from those before it.
    HelloOutOfPlace,
    /// A message of the handshake has another length than its pattern says.
    MessageLength {
        /// Its number, from 1.
        message: u8,
        /// Its announced length.
        len: usize,
    },
    /// A public key that makes every secret known to all.
    WeakKey {
        /// Number of the message with it.
        message: u8,
    },
    /// An identity that is not proved for the static key of the handshake.
    Proof,
    /// The peer has seen another greeting than this side: somebody altered it.
    Greeting,
}

/// What the two sides cannot agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The peer speaks farref, but does not encrypt.
    Plain,
    /// The peer speaks another protocol.
    Foreign(Foreign),
    /// No version in common.
    Version {
        /// Lowest and highest version of the peer.
        theirs: (u8, u8),
        /// Lowest and highest version here.
        ours: (u8, u8),
    },
    /// The peer demands something that is not known here.
    Demand {
        /// Type of the field of its hello.
        field: u8,
    },
    /// No pattern that both are set up for: only one side has a pre-shared key, or an identity.
    Pattern {
        /// What the peer wants, if it is known here.
        theirs: Option<Pattern>,
        /// What this side wants.
        ours: Pattern,
    },
    /// No suite in common.
    Suite,
    /// Both sides have dialled, or both have listened.
    SameRole,
}

/// What this program may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// Neither an identity nor a pre-shared key.
    NoKey,
    /// No suite.
    NoSuite,
    /// The peer's key is pinned, but without an identity here none is proved there.
    PinWithoutIdentity,
    /// The carrier may lose or alter bytes.
    Unreliable,
    /// The cryptographic library refuses to begin; it has no reason to today.
    Library,
}

/// Why an encrypted carrier failed, within the [`io::Error`] of its reading half. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes ended before the peer had ended them: somebody may have cut off the rest.
    /// Its kind is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    Cut,
    /// A record was altered, repeated, left out, or is none: an attack, or a bug.
    /// Its kind is [`InvalidData`](io::ErrorKind::InvalidData).
    Unauthentic {
        /// Its number in this direction, from 0.
        record: u64,
    },
    /// The peer refused the end of the handshake; it says no more than that.
    /// Its kind is [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    Refused,
    /// There are no more numbers for records, in this direction. Its kind is [`Other`](io::ErrorKind::Other).
    Exhausted,
}

impl RecordError {
    /// The one within `error`, if there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::Cut => io::ErrorKind::UnexpectedEof,
            RecordError::Unauthentic { .. } => io::ErrorKind::InvalidData,
            RecordError::Refused => io::ErrorKind::PermissionDenied,
            RecordError::Exhausted => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<Breach> for Error {
    fn from(breach: Breach) -> Self {
        Self::Misbehaved(breach)
    }
}

impl From<Mismatch> for Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::Incompatible(mismatch)
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Carrier(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misbehaved(breach) => write!(f, "the peer broke the protocol of encryption: {breach}"),
            Self::Incompatible(mismatch) => mismatch.fmt(f),
            Self::Untrusted { expected, proved } => write!(
                f,
                "the peer has the key {proved} and not {expected}: somebody else answers there, or it was set up anew"
            ),
            Self::Unauthentic { message, psk: false } => {
                write!(f, "message {message} of the handshake was altered on the way")
            }
            Self::Unauthentic { message, psk: true } => write!(
                f,
                "message {message} of the handshake was altered on the way, or the pre-shared keys differ"
            ),
            Self::Refused => f.write_str("the peer refused the handshake; its log tells why"),
            Self::Carrier(_) => f.write_str("the carrier was lost during the handshake"),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HelloTooLong { len } => write!(f, "a hello of {len} bytes"),
            Self::HelloField { field } => write!(f, "no legal value in hello field {field:#04x}"),
            Self::HelloOutOfPlace => f.write_str("a hello that does not follow from those before it"),
            Self::MessageLength { message, len } => {
                write!(f, "message {message} of the handshake with {len} bytes")
            }
            Self::WeakKey { message } => write!(f, "a weak key in message {message} of the handshake"),
            Self::Proof => f.write_str("an identity without a proof"),
            Self::Greeting => f.write_str("the greeting was altered on the way"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("the peer does not encrypt: have both sides do so, or neither, with `plain+` in both addresses"),
            Self::Foreign(foreign) => write!(f, "the peer does not speak farref but {foreign}"),
            Self::Version { theirs, ours } => write!(
                f,
                "the peer encrypts by versions {} to {} and this side by {} to {}",
                theirs.0, theirs.1, ours.0, ours.1
            ),
            Self::Demand { field } => write!(f, "the peer demands hello field {field:#04x}, unknown here"),
            Self::Pattern {
                theirs: Some(theirs),
                ours,
            } => write!(f, "the peer is set up for {theirs} and this side for {ours}"),
            Self::Pattern { theirs: None, ours } => {
                write!(
                    f,
                    "the peer is set up for a pattern unknown here and this side for {ours}"
                )
            }
            Self::Suite => f.write_str("the peer has no cipher in common with this side"),
            Self::SameRole => f.write_str("both sides have dialled, or both have listened"),
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "encryption needs an identity or a pre-shared key",
            Self::NoSuite => "encryption needs a cipher",
            Self::PinWithoutIdentity => "a pinned key needs an identity on this side as well",
            Self::Unreliable => "the carrier may lose or alter bytes, which encryption can't bear",
            Self::Library => "the cryptographic library refuses to begin",
        })
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("cut off: the end was not authenticated"),
            Self::Unauthentic { record } => write!(f, "encrypted record {record} is not what the peer sent"),
            Self::Refused => f.write_str("the peer refused the end of the handshake; its log tells why"),
            Self::Exhausted => f.write_str("no number is left for another encrypted record"),
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

impl std::error::Error for Breach {}
impl std::error::Error for Mismatch {}
impl std::error::Error for Misuse {}
impl std::error::Error for RecordError {}
