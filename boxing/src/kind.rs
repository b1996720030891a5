//! Whose turn it is after a failure.

use std::fmt;

/// What sort of failure it is, by who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A method of this side failed in its own way. Its caller's turn.
    Failed,
    /// The method ran over there and failed in its own way: see the message. The caller's turn.
    Remote,
    /// The method panicked; everything else goes on. A bug of whoever wrote the method.
    Panicked,
    /// The call was given up by its caller.
    Cancelled,
    /// The time for the call was over before its result was there. The caller's turn: allow more, or do without.
    Deadline,
    /// The service does not allow this. The turn of whoever sets its policy.
    Denied,
    /// The reference was taken back by whoever gave it. The caller's turn: ask for another.
    Revoked,
    /// A limit was met that will be met again. Do less, or raise the limit.
    Limit,
    /// There is too much to do just now. Try again later.
    Overloaded,
    /// The object has no such method: nothing ran. One of the two programs is older.
    Unimplemented,
    /// The method takes or returns other types over there: nothing ran. One of the two programs is older.
    SchemaMismatch,
    /// A result depends on itself, or a call passed through too many hops.
    Loop,
    /// The object is called while it is busy with the call that this one is a part of, and allows one at a time.
    Reentrant,
    /// The reference leads nowhere: what should have brought it failed. The cause says why.
    Broken,
    /// The connection is lost for good. Dial again; whether to call again is for the [`Certainty`] to say.
    Disconnected(Certainty),
    /// This thread must not wait, as it is the one to bring the result: use `.call()` and await it.
    WouldBlock,
    /// The peer does not keep to the protocol: a bug over there or an attack. Do not try again.
    Malformed,
    /// The peer keeps to another protocol or version. One of the two programs is older.
    Incompatible,
    /// No carrier could be had, or it failed before there was a connection. Dial again.
    Carrier,
    /// The address cannot be understood. The turn of whoever wrote it.
    Address,
    /// This build or platform cannot do it.
    Unsupported,
    /// A bug in this program.
    Misuse,
}

/// Whether a method ran whose call was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a caller has to decide for each, and there is no fourth"
)]
pub enum Certainty {
    /// It did not: the call was not sent. Calling again is safe.
    NotSent,
    /// It did not, although the call was sent. Calling again is safe.
    NotExecuted,
    /// It may have. Calling again is safe only if doing it twice is.
    Unknown,
}

impl ErrorKind {
    /// The number on the wire (PROTOCOL.md § 9.8). A number is never given to another kind.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Failed => 1,
            Self::Remote => 2,
            Self::Panicked => 3,
            Self::Cancelled => 4,
            Self::Deadline => 5,
            Self::Denied => 6,
            Self::Revoked => 7,
            Self::Limit => 8,
            Self::Overloaded => 9,
            Self::Unimplemented => 10,
            Self::SchemaMismatch => 11,
            Self::Loop => 12,
            Self::Reentrant => 13,
            Self::Broken => 14,
            Self::Disconnected(Certainty::NotSent) => 15,
            Self::Disconnected(Certainty::NotExecuted) => 16,
            Self::Disconnected(Certainty::Unknown) => 17,
            Self::WouldBlock => 18,
            Self::Malformed => 19,
            Self::Incompatible => 20,
            Self::Carrier => 21,
            Self::Address => 22,
            Self::Unsupported => 23,
            Self::Misuse => 24,
        }
    }

    /// The kind with that number; one that is not known here is a failure over there.
    pub(crate) const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Failed,
            3 => Self::Panicked,
            4 => Self::Cancelled,
            5 => Self::Deadline,
            6 => Self::Denied,
            7 => Self::Revoked,
            8 => Self::Limit,
            9 => Self::Overloaded,
            10 => Self::Unimplemented,
            11 => Self::SchemaMismatch,
            12 => Self::Loop,
            13 => Self::Reentrant,
            14 => Self::Broken,
            15 => Self::Disconnected(Certainty::NotSent),
            16 => Self::Disconnected(Certainty::NotExecuted),
            17 => Self::Disconnected(Certainty::Unknown),
            18 => Self::WouldBlock,
            19 => Self::Malformed,
            20 => Self::Incompatible,
            21 => Self::Carrier,
            22 => Self::Address,
            23 => Self::Unsupported,
            24 => Self::Misuse,
            _ => Self::Remote,
        }
    }

    /// The kind in words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Failed => "the method failed",
            Self::Remote => "the remote method failed",
            Self::Panicked => "the method panicked",
            Self::Cancelled => "the call was cancelled",
            Self::Deadline => "the call took too long",
            Self::Denied => "not allowed",
            Self::Revoked => "the reference was taken back",
            Self::Limit => "a limit was met",
            Self::Overloaded => "too busy just now",
            Self::Unimplemented => "the object has no such method",
            Self::SchemaMismatch => "the two sides have different types for this",
            Self::Loop => "the call goes round in circles",
            Self::Reentrant => "the object is busy with the call that this one is a part of",
            Self::Broken => "the reference leads nowhere",
            Self::Disconnected(Certainty::NotSent) => "the connection is lost, and the call was not sent",
            Self::Disconnected(Certainty::NotExecuted) => {
                "the connection is lost, and the method did not run"
            }
            Self::Disconnected(Certainty::Unknown) => "the connection is lost, and the method may have run",
            Self::WouldBlock => "this thread must not wait for a call: use `.call()` and await it",
            Self::Malformed => "the peer does not keep to the protocol",
            Self::Incompatible => "the peer keeps to another protocol or version",
            Self::Carrier => "there is no carrier",
            Self::Address => "the address cannot be understood",
            Self::Unsupported => "this build or platform cannot do it",
            Self::Misuse => "a bug in this program",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
