//! What is wrong with an address, where, and what would be right.

use std::error::Error;
use std::fmt;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    pub(super) position: usize,
    pub(super) problem: AddressProblem,
    pub(super) nearest: Box<str>,
}

impl AddressError {
    /// The byte where the problem begins.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What the problem is.
    #[must_use]
    pub const fn problem(&self) -> AddressProblem {
        self.problem
    }

    /// The nearest text that is an address.
    #[must_use]
    pub fn nearest(&self) -> &str {
        &self.nearest
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            problem,
            nearest,
        } = self;
        write!(
            f,
            "{problem} at byte {position}: the nearest valid address is `{nearest}`"
        )
    }
}

impl Error for AddressError {}

/// What can be wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressProblem {
    /// There is nothing.
    Empty,
    /// It has more than 4096 bytes, or would be displayed with more.
    TooLong,
    /// White space or a control character, which must be written `%XX`.
    Unprintable,
    /// A bare `!`, which is kept for chains of addresses and must be written `%21`.
    Reserved,
    /// There is no `SCHEME:` in front.
    MissingScheme,
    /// No medium has this scheme.
    UnknownScheme,
    /// A prefix that is neither `noise+`, nor `plain+`, nor `rpyc+`.
    UnknownSecurity,
    /// A second prefix, or one before a scheme that brings its own security.
    UnexpectedSecurity,
    /// RPyC is not spoken over this medium.
    UnexpectedDialect,
    /// The scheme needs `//HOST`.
    MissingAuthority,
    /// The scheme takes no `//`.
    UnexpectedAuthority,
    /// A `USER@` that the scheme does not take, or that is no account name. Passwords have no place
    /// in an address.
    BadUser,
    /// There is no host.
    MissingHost,
    /// It is neither a host name, nor an IPv4 address, nor an IPv6 address in brackets.
    BadHost,
    /// The scheme needs a port.
    MissingPort,
    /// The port is not a number up to 65535.
    BadPort,
    /// Something behind the host or the scheme that has no place there.
    UnexpectedText,
    /// There is no path or name.
    MissingName,
    /// A `%` without two hexadecimal digits, or `%00`.
    BadEscape,
    /// What the escapes say is not UTF-8.
    NotText,
    /// The scheme has no option of this name.
    UnknownOption,
    /// The option is there already.
    RepeatedOption,
    /// The option needs a value.
    MissingValue,
    /// The option has no such value.
    BadValue,
    /// The key of the peer is not `ed25519.` and 52 digits of base32.
    BadKey,
    /// A key to prove, but nothing to prove it with: a `plain` carrier, or a peer that speaks RPyC.
    PlainKey,
}

impl fmt::Display for AddressProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty address",
            Self::TooLong => "an address of more than 4096 bytes",
            Self::Unprintable => "an unescaped space or control character",
            Self::Reserved => "an unescaped `!`",
            Self::MissingScheme => "no scheme",
            Self::UnknownScheme => "an unknown scheme",
            Self::UnknownSecurity => "an unknown prefix",
            Self::UnexpectedSecurity => "one prefix too many",
            Self::UnexpectedDialect => "a scheme over which RPyC is not spoken",
            Self::MissingAuthority => "no `//HOST`",
            Self::UnexpectedAuthority => "an unexpected `//`",
            Self::BadUser => "a wrong user",
            Self::MissingHost => "no host",
            Self::BadHost => "a wrong host",
            Self::MissingPort => "no port",
            Self::BadPort => "a wrong port",
            Self::UnexpectedText => "unexpected text",
            Self::MissingName => "no path or name",
            Self::BadEscape => "a wrong escape",
            Self::NotText => "bytes that are not UTF-8",
            Self::UnknownOption => "an unknown option",
            Self::RepeatedOption => "an option given twice",
            Self::MissingValue => "an option without a value",
            Self::BadValue => "a wrong value",
            Self::BadKey => "a wrong peer key",
            Self::PlainKey => "a peer key that nothing can prove: no `plain` carrier, nor RPyC",
        })
    }
}
