//! What can be wrong with the bytes of a value.

use std::fmt;

use crate::ErrorKind;

/// Why bytes are not a value, or not the one that was expected.
///
/// All of it is the doing of whoever wrote the bytes. Python ends the connection then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrineError {
    /// The bytes end before the value does.
    Truncated {
        /// Bytes that what comes next takes at least.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// No value begins with this byte.
    UnknownTag {
        /// The byte.
        found: u8,
    },
    /// A value of another type is expected in this place.
    Unexpected {
        /// What is expected, in one or two words.
        expected: &'static str,
        /// The tag of what is there.
        found: u8,
    },
    /// A tuple does not have as many items as it must in this place.
    WrongCount {
        /// How many it must have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// Values are nested more deeply than [`BrineLimits::depth`](super::BrineLimits::depth).
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// There are more values than [`BrineLimits::items`](super::BrineLimits::items).
    TooManyItems {
        /// The limit.
        limit: usize,
    },
    /// An integer has more digits than [`BrineLimits::digits`](super::BrineLimits::digits).
    TooManyDigits {
        /// How many it has.
        digits: usize,
        /// The limit.
        limit: usize,
    },
    /// What should be an integer is not one in decimal.
    InvalidInteger,
    /// An integer does not fit into the type that is expected in this place.
    IntegerRange,
    /// Text is not UTF-8, or holds a surrogate.
    InvalidUtf8 {
        /// How many of its bytes are.
        valid: usize,
    },
}

impl BrineError {
    /// Whose turn it is: always [`ErrorKind::Malformed`].
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Malformed
    }
}

impl fmt::Display for BrineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => write!(
                f,
                "a brine value ends too early: {needed} more bytes are needed, {left} are left"
            ),
            Self::UnknownTag { found } => write!(f, "no brine value begins with the byte {found:#04x}"),
            Self::Unexpected { expected, found } => {
                write!(f, "{expected} is expected where a value with tag {found:#04x} is")
            }
            Self::WrongCount { expected, found } => {
                write!(f, "a tuple of {expected} is expected where one of {found} is")
            }
            Self::TooDeep { limit } => write!(f, "more than {limit} levels of nesting in a brine value"),
            Self::TooManyItems { limit } => write!(f, "more than {limit} values in a brine value"),
            Self::TooManyDigits { digits, limit } => {
                write!(f, "an integer of {digits} digits where {limit} are accepted")
            }
            Self::InvalidInteger => f.write_str("an integer is not written in decimal"),
            Self::IntegerRange => f.write_str("an integer is out of range"),
            Self::InvalidUtf8 { valid } => write!(f, "text is not UTF-8 after its first {valid} bytes"),
        }
    }
}

impl std::error::Error for BrineError {}
