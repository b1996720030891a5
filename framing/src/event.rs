//! What a link tells: messages and bodies, what became of lanes and carriers, and how it ended.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::MAX_CLOSE_TEXT;
use crate::link::LaneId;
use crate::session::{ResumeRequest, SessionId};

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The head, and the body right behind it unless that comes as [`bulk`](Self::bulk).
    pub bytes: Bytes,
    /// Where the body comes from, if it is not in `bytes`: [`LinkEvent::BulkDone`] brings it.
    pub bulk: Option<Bulk>,
}

/// A body that comes on a lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bulk {
    /// The lane.
    pub lane: LaneId,
    /// Length of the body, in bytes, as announced; within [`Limits::message`](crate::Limits::message).
    pub len: u64,
}

impl Message {
    pub(crate) const fn inline(bytes: Bytes) -> Self {
        Self { bytes, bulk: None }
    }

    pub(crate) const fn with_bulk(bytes: Bytes, lane: LaneId, len: u64) -> Self {
        Self {
            bytes,
            bulk: Some(Bulk { lane, len }),
        }
    }
}

/// What a link has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The peer is known, and what was agreed with it. Once, before anything else.
    Opened(Negotiated),
    /// The dialer of this fresh carrier goes on with a session. Find it, give it the request with
    /// [`Link::resume`](crate::Link::resume) and the carrier; or [`reject`](crate::Link::reject) it. Nothing else comes from this link.
    ResumeRequested(Box<ResumeRequest>),
    /// The next message, in the order in which the peer submitted them.
    Message(Message),
    /// The whole body of an earlier message.
    BulkDone {
        /// Its lane.
        lane: LaneId,
        /// The body.
        body: Bytes,
    },
    /// The next bytes of an accepted stream lane.
    LaneData {
        /// The lane.
        lane: LaneId,
        /// The bytes; may be none at the end.
        bytes: Bytes,
        /// Nothing follows on this lane.
        end: bool,
    },
    /// The peer gave up a lane of its own: the body of an earlier message, or an accepted stream lane. Nothing
    /// follows on it.
    LaneReset {
        /// The lane.
        lane: LaneId,
        /// The peer's reason.
        code: u64,
    },
    /// The peer does not want a lane of ours; it was reset.
    LaneStopped {
        /// The lane.
        lane: LaneId,
        /// The peer's reason.
        code: u64,
    },
    /// The peer grants more on a stream lane of ours.
    LaneCredit {
        /// The lane.
        lane: LaneId,
        /// Offset up to which it may be written.
        upto: u64,
    },
    /// The answer to a ping.
    Pong {
        /// The round trip.
        rtt: Duration,
    },
    /// The session goes on over a new carrier.
    Resumed {
        /// How long the peer has been without one: messages that follow may have waited for that long.
        down: Duration,
    },
    /// The peer has closed; nothing follows.
    PeerClosing(CloseReason),
}

/// What two sides have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// Version of the protocol.
    pub version: u8,
    /// The session, if there is one: it can be resumed under this name.
    pub session: Option<SessionId>,
    /// How long the session outlives a carrier.
    pub resume_window: Duration,
    /// Most bytes of payload in one frame.
    pub fragment: usize,
    /// Largest message that the peer accepts.
    pub message: u64,
}

/// Why a link is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReason {
    /// Number of the reason; 0 is an orderly end.
    pub code: u64,
    /// A short text for people, at most 256 bytes.
    pub text: String,
}

impl CloseReason {
    /// Code of an orderly end: all that was submitted is written first.
    pub const DONE: u64 = 0;
    /// Code of a breach of the protocol.
    pub const BREACH: u64 = 1;
    /// Code of a disagreement about the protocol.
    pub const MISMATCH: u64 = 2;
    /// Code of a failure of the side that closes.
    pub const FAILED: u64 = 3;
    /// Code of a listener that does not let the dialer in.
    pub const DENIED: u64 = 4;
    /// First of the codes that are free for the layers above.
    pub const FREE: u64 = 64;

    /// An orderly end.
    #[must_use]
    pub const fn done() -> Self {
        Self {
            code: Self::DONE,
            text: String::new(),
        }
    }

    /// A reason with a text, which is cut to 256 bytes.
    #[must_use]
    pub fn new(code: u64, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_CLOSE_TEXT));
        Self { code, text }
    }

    /// Whether this is an orderly end.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.code == Self::DONE
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.code {
            Self::DONE => "closed",
            Self::BREACH => "closed for a breach of the protocol",
            Self::MISMATCH => "closed for a disagreement about the protocol",
            Self::FAILED => "closed after a failure",
            Self::DENIED => "not let in",
            _ => "closed by the application",
        };
        f.write_str(what)?;
        if self.text.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.text.escape_debug())
        }
    }
}

/// Numbers of a link since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Bytes handed out to be written, frames and all.
    pub bytes_sent: u64,
    /// Bytes consumed, frames and all.
    pub bytes_received: u64,
    /// Messages submitted.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Lanes of ours that are not done, lane 0 aside.
    pub lanes_out: usize,
    /// Lanes of the peer's that are not done, lane 0 aside.
    pub lanes_in: usize,
    /// Bytes sent and kept until they are acknowledged.
    pub retained: u64,
    /// Bytes submitted and not yet sent.
    pub unsent: u64,
    /// Carriers that the session has had.
    pub carriers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_letter_and_shown_without_control_characters() {
        let reason = CloseReason::new(3, "ä".repeat(200));
        assert_eq!(reason.text.len(), 256);
        assert_eq!(
            CloseReason::new(1, "a\u{1b}[2J").to_string(),
            "closed for a breach of the protocol: a\\u{1b}[2J"
        );
        assert_eq!(CloseReason::done().to_string(), "closed");
    }
}
