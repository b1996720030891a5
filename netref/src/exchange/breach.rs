//! What the peer did that it must not do.

use std::fmt;

use farref_boxing::{Error, ErrorKind};

use crate::message::MessageError;

/// How the peer broke the protocol: its bug, or an attack. The session is over (PROTOCOL.md § 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// Bytes that are no message.
    Message(MessageError),
    /// A message before the hello.
    NoHello,
    /// A second hello.
    SecondHello,
    /// A version that does not exist, or a root that the peer does not host.
    BadHello,
    /// A call whose number is not the next one.
    CallNumber {
        /// The number.
        call: u64,
        /// The one that was due.
        due: u64,
    },
    /// A call that was never made, or a message about a call that cannot be any more.
    UnknownCall {
        /// The call.
        call: u64,
    },
    /// A message about a call that is not far enough, or too far, for it.
    WrongTime {
        /// The call.
        call: u64,
    },
    /// An export that was never handed out, or is held no more.
    UnknownExport {
        /// The export.
        export: u64,
    },
    /// More copies given back than are held.
    TooManyReleased {
        /// The export.
        export: u64,
        /// Copies given back.
        copies: u64,
        /// Copies held.
        held: u64,
    },
    /// A reference retained that no call under way lends.
    NotLent {
        /// The export.
        export: u64,
    },
    /// A reference lent where only calls lend.
    LentByReturn,
    /// An export described in two ways.
    Contradiction {
        /// The export.
        export: u64,
    },
    /// A flush that was not asked for.
    UnknownFlush {
        /// The flush.
        flush: u64,
    },
    /// The description of a type that was not asked for.
    UnknownShape {
        /// Its fingerprint.
        shape: u32,
    },
    /// More questions for types than one session may have.
    TooManyQuestions {
        /// How many it may have.
        limit: u32,
    },
    /// A body of its own for a message that has none.
    UnexpectedBody,
    /// More calls or arguments under way than we declared to take.
    TooManyCalls {
        /// Calls under way that we take.
        calls: u64,
        /// Bytes of arguments under way that we take.
        bytes: u64,
    },
    /// More references held, or results kept, than we declared.
    TooManyObjects {
        /// What we declared.
        limit: u64,
    },
}

impl From<MessageError> for Breach {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl Breach {
    /// The error that ends the session.
    #[must_use]
    pub fn into_error(self) -> Error {
        Error::wrap(ErrorKind::Malformed, self)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer broke the protocol: ")?;
        match self {
            Self::Message(error) => error.fmt(f),
            Self::NoHello => f.write_str("a message before the hello"),
            Self::SecondHello => f.write_str("a second hello"),
            Self::BadHello => f.write_str("a hello that makes no sense"),
            Self::CallNumber { call, due } => write!(f, "call {call} where {due} was due"),
            Self::UnknownCall { call } => write!(f, "there is no call {call}"),
            Self::WrongTime { call } => write!(f, "a message that call {call} is not ready for"),
            Self::UnknownExport { export } => write!(f, "there is no export {export}"),
            Self::TooManyReleased { export, copies, held } => {
                write!(
                    f,
                    "{copies} copies of export {export} came back where {held} are held"
                )
            }
            Self::NotLent { export } => write!(f, "export {export} is not lent"),
            Self::LentByReturn => f.write_str("a return lends a reference"),
            Self::Contradiction { export } => write!(f, "two descriptions of export {export}"),
            Self::UnknownFlush { flush } => write!(f, "there is no flush {flush}"),
            Self::UnknownShape { shape } => write!(f, "the shape {shape:#010x} was not asked for"),
            Self::TooManyQuestions { limit } => {
                write!(f, "more than {limit} questions for shapes in one session")
            }
            Self::UnexpectedBody => f.write_str("a body for a message that has none"),
            Self::TooManyCalls { calls, bytes } => {
                write!(f, "more than {calls} calls or {bytes} bytes of arguments at once")
            }
            Self::TooManyObjects { limit } => write!(f, "more than {limit} references at once"),
        }
    }
}

impl std::error::Error for Breach {}
