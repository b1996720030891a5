//! Why a link fails, arranged by whose turn it is. Facts and numbers; the words are in `Display`.

use std::fmt;

use crate::link::LaneId;
use crate::preface::Foreign;
use crate::session::RejectCode;
use crate::varint::VarintError;

/// Why a link, or one request to it, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer broke the protocol: its bug, or an attack. The link and its session are over; do not retry.
    Misbehaved(Breach),
    /// Both sides are right and cannot agree. Change one of them.
    Incompatible(Mismatch),
    /// The carrier is lost. Resume the session over another one, or dial again.
    Carrier(Loss),
    /// The session is over. Dial again; what was under way is lost.
    Session(SessionEnd),
    /// A bug in this program, or a bound it has set itself. Nothing was done.
    Misuse(Misuse),
}

/// What the peer did that it must not do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// A number is not a varint.
    Varint(VarintError),
    /// The preface announces more than 1024 bytes.
    PrefaceTooLong {
        /// Its whole length.
        len: usize,
    },
    /// A field of the preface has no legal value.
    PrefaceField {
        /// Type of the field.
        field: u8,
    },
    /// A frame of a kind that does not exist.
    UnknownFrame {
        /// Its kind.
        kind: u8,
    },
    /// A frame is longer than agreed.
    FrameTooLong {
        /// Its kind.
        kind: u8,
        /// Its announced length.
        len: u64,
        /// The longest agreed.
        limit: usize,
    },
    /// The payload of a frame does not have the form of its kind.
    FrameForm {
        /// Its kind.
        kind: u8,
    },
    /// A frame that may not come now, or not on this lane.
    Unexpected {
        /// Its kind.
        kind: u8,
    },
    /// A message is longer than we declared.
    MessageTooLong {
        /// Its announced length.
        len: u64,
        /// What we declared.
        limit: u64,
    },
    /// More lanes at once than we declared.
    TooManyLanes {
        /// The lane that was too much.
        lane: LaneId,
        /// What we declared.
        limit: u32,
    },
    /// A lane that does not exist, or does no longer.
    UnknownLane {
        /// Its number.
        lane: LaneId,
    },
    /// A lane was named twice.
    LaneNamedTwice {
        /// Its number.
        lane: LaneId,
    },
    /// More bytes on a lane than were granted.
    CreditExceeded {
        /// Its number.
        lane: LaneId,
        /// Offset after the bytes that came.
        upto: u64,
        /// What was granted.
        granted: u64,
    },
    /// A body is not as long as announced.
    BodyLength {
        /// Its lane.
        lane: LaneId,
        /// What was announced.
        announced: u64,
        /// What came.
        received: u64,
    },
    /// An acknowledgement or a resume speaks of bytes that were never sent, or are no longer kept.
    Offset {
        /// The lane.
        lane: LaneId,
        /// The offset given.
        offset: u64,
    },
    /// More pings than may wait for their answers.
    TooManyPings,
    /// Bytes after the peer has closed.
    AfterClose,
}

/// What the two sides cannot agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
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
        /// Type of the preface field.
        field: u8,
    },
    /// The peer demands encryption.
    Encryption,
    /// Both sides have dialled, or both have listened.
    SameRole,
    /// The peer is this very side: the line is looped back.
    Oneself,
    /// A message submitted before the peer was known is longer than the peer accepts.
    EarlyMessage {
        /// Its length.
        len: u64,
        /// What the peer declared.
        limit: u64,
    },
}

/// How a carrier was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The bytes ended before the peer had closed.
    Ended,
    /// Nothing was heard for too long.
    Silent,
    /// The peer did not introduce itself in time.
    Handshake,
    /// Something answered that is no peer, where a session was to go on.
    Foreign(Foreign),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The peer refused to resume.
    Rejected {
        /// Why.
        code: RejectCode,
        /// How much of our lane 0 it had received, if it still knows: what lies beyond was certainly not executed.
        received: Option<u64>,
    },
    /// The peer could not prove that it is the one the session was made with.
    Forged,
    /// No new carrier came within the resume window.
    Expired,
}

/// What this program may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// The message is longer than the peer accepts, or than [`Limits::backlog`](crate::Limits::backlog).
    MessageTooLong {
        /// Its length.
        len: u64,
        /// The lower of the two.
        limit: u64,
    },
    /// As much is kept for the peer as [`Limits::backlog`](crate::Limits::backlog) allows.
    Backlog,
    /// As many lanes are named as the peer allows.
    Lanes,
    /// The lane is not there to be written, or not there to be read.
    UnknownLane(LaneId),
    /// The link is closed.
    Closed,
    /// There is no session to resume, or this side is not the one that resumes.
    NoSession,
    /// The link still has its carrier.
    Attached,
    /// A byte stream has one stream only.
    Stream(u64),
}

impl From<Breach> for LinkError {
    #[cold]
    fn from(breach: Breach) -> Self {
        Self::Misbehaved(breach)
    }
}

impl From<VarintError> for Breach {
    #[cold]
    fn from(error: VarintError) -> Self {
        Self::Varint(error)
    }
}

impl From<Mismatch> for LinkError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Incompatible(mismatch)
    }
}

impl From<Loss> for LinkError {
    fn from(loss: Loss) -> Self {
        Self::Carrier(loss)
    }
}

impl From<SessionEnd> for LinkError {
    fn from(end: SessionEnd) -> Self {
        Self::Session(end)
    }
}

impl From<Misuse> for LinkError {
    #[cold]
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misbehaved(breach) => write!(f, "the peer broke the protocol: {breach}"),
            Self::Incompatible(mismatch) => mismatch.fmt(f),
            Self::Carrier(loss) => loss.fmt(f),
            Self::Session(end) => end.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varint(error) => error.fmt(f),
            Self::PrefaceTooLong { len } => write!(f, "a preface of {len} bytes"),
            Self::PrefaceField { field } => write!(f, "no legal value in preface field {field:#04x}"),
            Self::UnknownFrame { kind } => write!(f, "a frame of unknown kind {kind:#04x}"),
            Self::FrameTooLong { kind, len, limit } => {
                write!(
                    f,
                    "a frame of kind {kind:#04x} with {len} bytes where {limit} are agreed"
                )
            }
            Self::FrameForm { kind } => write!(f, "a malformed frame of kind {kind:#04x}"),
            Self::Unexpected { kind } => write!(f, "a frame of kind {kind:#04x} where none may be"),
            Self::MessageTooLong { len, limit } => {
                write!(f, "a message of {len} bytes where {limit} are accepted")
            }
            Self::TooManyLanes { lane, limit } => {
                write!(f, "lane {lane} is one too many: {limit} are accepted")
            }
            Self::UnknownLane { lane } => write!(f, "lane {lane} is not open"),
            Self::LaneNamedTwice { lane } => write!(f, "lane {lane} was named twice"),
            Self::CreditExceeded { lane, upto, granted } => {
                write!(f, "{upto} bytes on lane {lane} where {granted} are granted")
            }
            Self::BodyLength {
                lane,
                announced,
                received,
            } => {
                write!(
                    f,
                    "{received} bytes on lane {lane} where {announced} were announced"
                )
            }
            Self::Offset { lane, offset } => write!(f, "offset {offset} of lane {lane} is out of place"),
            Self::TooManyPings => f.write_str("too many pings at once"),
            Self::AfterClose => f.write_str("bytes after the close"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(foreign) => write!(f, "the peer does not speak farref but {foreign}"),
            Self::Version { theirs, ours } => write!(
                f,
                "the peer speaks versions {} to {} and this side {} to {}",
                theirs.0, theirs.1, ours.0, ours.1
            ),
            Self::Demand { field } => write!(f, "the peer demands preface field {field:#04x}, unknown here"),
            Self::Encryption => f.write_str("the peer demands encryption: have both sides do so, or neither"),
            Self::SameRole => f.write_str("both sides have dialled, or both have listened"),
            Self::Oneself => f.write_str("the peer is this very side: the line is looped back"),
            Self::EarlyMessage { len, limit } => {
                write!(
                    f,
                    "a message of {len} bytes was submitted and the peer accepts {limit}"
                )
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the carrier ended before the peer had closed",
            Self::Silent => "nothing was heard from the peer for too long",
            Self::Handshake => "the peer did not introduce itself in time",
            Self::Foreign(foreign) => {
                return write!(f, "what answered does not speak farref but {foreign}");
            }
        })
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { code, .. } => write!(f, "the peer refused to resume the session: {code}"),
            Self::Forged => f.write_str("the peer could not prove that the session is its own"),
            Self::Expired => f.write_str("the session was not resumed in time"),
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageTooLong { len, limit } => {
                write!(
                    f,
                    "a message of {len} bytes is more than the {limit} that may be sent"
                )
            }
            Self::Backlog => f.write_str("too many bytes wait for the peer"),
            Self::Lanes => f.write_str("too many bodies wait for the peer"),
            Self::UnknownLane(lane) => write!(f, "lane {lane} is not open"),
            Self::Closed => f.write_str("the link is closed"),
            Self::NoSession => f.write_str("there is no session to resume"),
            Self::Attached => f.write_str("the link still has its carrier"),
            Self::Stream(stream) => write!(f, "a byte stream has no stream {stream}"),
        }
    }
}

impl std::error::Error for LinkError {}
impl std::error::Error for Breach {}
impl std::error::Error for Mismatch {}
impl std::error::Error for Loss {}
impl std::error::Error for SessionEnd {}
impl std::error::Error for Misuse {}
