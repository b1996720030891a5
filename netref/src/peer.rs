//! Who is at the other end, as far as the carrier can tell.

use std::fmt;

use farref_framing::PeerEvidence;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The medium of the carrier: `tcp`, `unix`, `mem`, ...
    pub medium: &'static str,
    /// The address at the other end, if it has one.
    pub address: Option<String>,
    /// What the carrier proves about who it is.
    pub evidence: PeerEvidence,
}

impl Peer {
    /// A peer known by its carrier.
    #[must_use]
    pub const fn new(medium: &'static str, address: Option<String>, evidence: PeerEvidence) -> Self {
        Self {
            medium,
            address,
            evidence,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => f.write_str(address)?,
            None => write!(f, "a {} peer", self.medium)?,
        }
        match &self.evidence {
            PeerEvidence::None => Ok(()),
            evidence => write!(f, " ({evidence})"),
        }
    }
}
