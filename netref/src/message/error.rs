//! What can be wrong with the bytes of a message.

use std::fmt;

use farref_framing::varint::VarintError;

/// Why bytes are no message. The peer's bug, or an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The message ends too early.
    Truncated,
    /// Bytes follow the message.
    Trailing {
        /// How many.
        bytes: u64,
    },
    /// A number is not a varint in its shortest form.
    Varint(VarintError),
    /// A number is larger than its field allows.
    TooLarge {
        /// The number.
        number: u64,
    },
    /// A text is not UTF-8.
    NotText,
    /// A kind of message that does not exist.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A kind of descriptor that does not exist.
    UnknownDescriptor {
        /// The kind.
        kind: u8,
    },
    /// A mark of a call or a return that does not exist.
    UnknownMark {
        /// All marks of the message.
        marks: u64,
    },
    /// More descriptors than we declared to take.
    TooManyReferences {
        /// How many.
        count: u64,
    },
    /// An error that can't be read.
    BadError,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a message ends too early"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow a message"),
            Self::Varint(error) => error.fmt(f),
            Self::TooLarge { number } => write!(f, "{number} is too large for its field"),
            Self::NotText => f.write_str("a text is not UTF-8"),
            Self::UnknownKind { kind } => write!(f, "a message of unknown kind {kind:#04x}"),
            Self::UnknownDescriptor { kind } => write!(f, "a descriptor of unknown kind {kind:#04x}"),
            Self::UnknownMark { marks } => write!(f, "an unknown mark among {marks:#x}"),
            Self::TooManyReferences { count } => write!(f, "{count} references in one message"),
            Self::BadError => f.write_str("an error that cannot be read"),
        }
    }
}

impl std::error::Error for MessageError {}
