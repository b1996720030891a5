//! What outlives a carrier: the name of a session, the proof that it is ours, and where each lane goes on
//! (PROTOCOL.md § 4).
//!
//! Bytes are numbered and kept by the lanes themselves; here is what two sides tell each other about that when they
//! meet again, and why they believe it.

mod keys;
mod offsets;
mod resume;

use std::fmt;

pub(crate) use keys::{Binding, Secrets, SessionKey};
pub(crate) use offsets::{Offsets, Progress};
pub(crate) use resume::{Attach, Greeted, Rejected};
pub use resume::{RejectCode, Rejection, ResumeRequest, Tombstone};

/// Name of a session: unguessable, and of no use without its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The session with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(6) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// A session as one side keeps it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) key: SessionKey,
    /// Number of the newest carrier: the highest that this side has asked for or granted (PROTOCOL.md § 4.5).
    pub(crate) epoch: u64,
}
