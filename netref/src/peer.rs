//! Who is at the other end, as far as the carrier can tell.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use farref_framing::{PeerEvidence, Sparing};

/// The other end of a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peer {
    /// The medium of the carrier: `tcp`, `unix`, `mem`, ...
    pub medium: &'static str,
    /// The address at the other end, if it has one.
    pub address: Option<String>,
    /// What the carrier proves about who it is.
    pub evidence: PeerEvidence,
    /// Made with the first one.
    warnings: OnceLock<Arc<Sparing>>,
}

/// Warnings a minute that one peer can cause.
const WARNINGS: u32 = 16;

/// Warnings a minute that all peers can cause together, however often each comes back.
const WARNINGS_OF_ALL: u32 = 256;

const MINUTE: Duration = Duration::from_secs(60);

impl Peer {
    /// A peer known by its carrier.
    #[must_use]
    pub fn new(medium: &'static str, mut address: Option<String>, evidence: PeerEvidence) -> Self {
        // It is kept for as long as the connection.
        address.as_mut().into_iter().for_each(String::shrink_to_fit);
        Self {
            medium,
            address,
            evidence,
            warnings: OnceLock::new(),
        }
    }

    /// Writes a warning that this peer has caused to the log with `write`, unless there are too many: 16 a minute of one
    /// connection, 256 of all in this process. Further ones are counted, and the next one is told how many were left out.
    pub fn warn(&self, write: impl FnOnce(Option<u64>)) {
        static ALL: Sparing = Sparing::new(WARNINGS_OF_ALL, MINUTE);
        let now = Instant::now();
        let warnings = self
            .warnings
            .get_or_init(|| Arc::new(Sparing::new(WARNINGS, MINUTE)));
        let Some(own) = warnings.line(now, 1) else {
            return;
        };
        let Some(all) = ALL.line(now, own.saturating_add(1)) else {
            return;
        };
        let left_out = own.saturating_add(all);
        write((left_out > 0).then_some(left_out));
    }
}

/// Warnings do not count.
impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (self.medium, &self.address, &self.evidence) == (other.medium, &other.address, &other.evidence)
    }
}

impl Eq for Peer {}

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
