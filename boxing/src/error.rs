//! What can be wrong with a value or with the bytes of one.

use std::fmt;

use crate::ErrorKind;

/// Why a value could not be encoded, or bytes could not be decoded.
///
/// The first group is the peer's doing, the last one this program's; [`kind`](Self::kind) tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The body ends before the value does.
    Truncated {
        /// Bytes that the next part of the value takes.
        needed: u64,
        /// Bytes that are there.
        left: u64,
    },
    /// The value ends before the body does.
    Trailing {
        /// Bytes behind the value.
        bytes: u64,
    },
    /// Values are nested more deeply than [`DecodeLimits::depth`](crate::DecodeLimits::depth).
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// A sequence or map announces more elements than the body can hold, or
    /// [`DecodeLimits::zero_sized`](crate::DecodeLimits::zero_sized) allows.
    TooManyItems {
        /// The count announced.
        announced: u64,
    },
    /// The value would take more memory than [`DecodeLimits::memory`](crate::DecodeLimits::memory) allows.
    TooMuchMemory {
        /// The limit for this body, in bytes.
        limit: u64,
    },
    /// A boolean or the tag of an option is neither 0 nor 1.
    InvalidTag {
        /// The byte.
        found: u8,
    },
    /// A [`Value`](crate::Value) begins with a byte that begins none.
    UnknownTag {
        /// The byte.
        found: u8,
    },
    /// A [`Value`](crate::Value) names a form of records that was not described.
    UnknownForm {
        /// The number of the form.
        index: u64,
    },
    /// A part of a [`Value`](crate::Value) is not in its shortest form.
    NotShortest,
    /// An integer is not what its first byte says, or does not fit its type.
    InvalidInteger,
    /// A character is not a Unicode scalar value.
    InvalidChar,
    /// A string is not UTF-8.
    InvalidUtf8 {
        /// How many of its bytes are.
        valid: u64,
    },
    /// The type refuses the value, in its own words.
    Invalid(Box<str>),

    /// A sequence or map does not say how long it is before it is written.
    UnknownLength,
    /// The type wants to be told what comes next (`#[serde(flatten)]`, `#[serde(untagged)]` and their like), which
    /// these bytes do not say.
    NotSelfDescribing,
    /// The value refuses to be encoded, in its own words.
    Refused(Box<str>),
}

impl CodecError {
    /// Whose turn it is: [`ErrorKind::Malformed`] or [`ErrorKind::Misuse`].
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownLength | Self::NotSelfDescribing | Self::Refused(_) => ErrorKind::Misuse,
            _ => ErrorKind::Malformed,
        }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => {
                write!(
                    f,
                    "the body ends too early: {needed} more bytes are needed, {left} are left"
                )
            }
            Self::Trailing { bytes } => write!(f, "{bytes} bytes follow the value"),
            Self::TooDeep { limit } => write!(f, "more than {limit} levels of nesting"),
            Self::TooManyItems { announced } => {
                write!(
                    f,
                    "{announced} elements are announced, more than the body can hold"
                )
            }
            Self::TooMuchMemory { limit } => {
                write!(f, "the value would take more than {limit} bytes of memory")
            }
            Self::InvalidTag { found } => write!(f, "the tag {found} is neither 0 nor 1"),
            Self::UnknownTag { found } => write!(f, "no value begins with the byte {found}"),
            Self::UnknownForm { index } => write!(f, "the form {index} of records is not described"),
            Self::NotShortest => f.write_str("a part of a value is not in its shortest form"),
            Self::InvalidInteger => f.write_str("an integer is out of range or not encoded as one"),
            Self::InvalidChar => f.write_str("a character is not a Unicode scalar value"),
            Self::InvalidUtf8 { valid } => write!(f, "a string is not UTF-8 after its first {valid} bytes"),
            Self::Invalid(text) | Self::Refused(text) => f.write_str(text),
            Self::UnknownLength => {
                f.write_str("a sequence or map does not know its length before it is written")
            }
            Self::NotSelfDescribing => f.write_str(
                "the type needs a self-describing format (flatten, untagged, tagged or skipped fields)",
            ),
        }
    }
}

impl std::error::Error for CodecError {}

/// What was read: a failure is a pointer, so that numbers come back in registers and nothing is moved around them.
pub(crate) type Decoded<T> = Result<T, Box<CodecError>>;

impl From<Box<CodecError>> for CodecError {
    fn from(error: Box<CodecError>) -> Self {
        *error
    }
}

impl serde::de::Error for Box<CodecError> {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        CodecError::custom(message).into()
    }
}

impl serde::de::Error for CodecError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Invalid(message.to_string().into())
    }
}
