//! Files, and whatever else reads and writes, used from afar by code that was written for local ones.
//!
//! ```text
//!   std::fs::File, Read, Write, Seek ── share, seekable, .. ──▶ Netref<dyn File>        the side that has it
//!                                                                      │
//!   existing code ◀── Read, Write, Seek, BufRead ── Blocking ◀── Handle ┘               the side that uses it
//!                 ◀── tokio's twins of them ──────────────────── Handle
//! ```
//!
//! A [`Handle`] keeps its own position, reads ahead and writes behind: small reads and writes cost no round trip. So a
//! reader of CSV or gzip runs over it as it is.
//!
//! ```
//! # extern crate farref_netref as farref;
//! use std::io::{BufRead, Cursor};
//!
//! use farref::{Netref, Result};
//! use farref_services::file::{self, File, Handle};
//!
//! # fn main() -> Result<()> {
//! // Over there: anything that can be read and sought.
//! let notes: Netref<dyn File> = file::read_only(Cursor::new("first\nsecond\n"));
//! // Over here: as a file of this side.
//! let lines: Vec<_> = Handle::new(notes).blocking().lines().collect::<Result<_, _>>()?;
//! assert_eq!(lines, ["first", "second"]);
//! # Ok(())
//! # }
//! ```
//!
//! For bytes that go one way only, as a whole, a [`ByteStream`](farref_netref::ByteStream) does with less.

mod blocking;
mod handle;
mod host;

use std::fmt;
use std::io;

use ::bytes::Bytes;
use farref_netref::remote;
use serde::{Deserialize, Serialize};

pub(crate) use host::held;

pub use blocking::Blocking;
pub use handle::Handle;
pub use host::{async_duplex, async_seekable, duplex, read_only, reader, seekable, share, writer};

/// Most bytes that one call reads, whatever it asks for.
const MOST: u32 = 4 << 20;

/// A file, or anything else that reads and writes. What it cannot do fails as [`Unsupported`](io::ErrorKind::Unsupported).
///
/// `*_at` leave alone the position, at which [`read`](Self::read) and [`write`](Self::write) go on one after the other, also
/// if they are started without waiting for the one before.
#[remote(name = "farref.File")]
#[expect(
    clippy::len_without_is_empty,
    reason = "asking for the length costs a round trip"
)]
pub trait File {
    /// Reads `len` bytes, at most 4 MiB, or up to the end: less than was asked for is the end.
    #[reads]
    async fn read_at(&self, at: u64, len: u32) -> Result<Bytes, Failure>;

    /// Writes all of `bytes`.
    async fn write_at(&self, at: u64, bytes: Bytes) -> Result<(), Failure>;

    /// Reads what is there, up to `len` bytes and 4 MiB, and waits for the first; nothing is the end.
    #[reads]
    async fn read(&self, len: u32) -> Result<Bytes, Failure>;

    /// Writes all of `bytes`.
    async fn write(&self, bytes: Bytes) -> Result<(), Failure>;

    /// Moves the position; where to.
    #[reads]
    async fn seek(&self, to: Whence) -> Result<u64, Failure>;

    /// The length of the whole.
    #[reads]
    async fn len(&self) -> Result<u64, Failure>;

    /// Cuts it off, or fills it up with zeros.
    async fn set_len(&self, len: u64) -> Result<(), Failure>;

    /// Passes on what was written.
    #[reads]
    async fn flush(&self) -> Result<(), Failure>;

    /// Returns when what was written is on the disk.
    #[reads]
    async fn sync(&self) -> Result<(), Failure>;
}

/// From where a position is counted: [`std::io::SeekFrom`], as it crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "as many as std has")]
pub enum Whence {
    /// From the beginning.
    Start(u64),
    /// From the end.
    End(i64),
    /// From where it is.
    Current(i64),
}

impl From<io::SeekFrom> for Whence {
    fn from(from: io::SeekFrom) -> Self {
        match from {
            io::SeekFrom::Start(at) => Self::Start(at),
            io::SeekFrom::End(offset) => Self::End(offset),
            io::SeekFrom::Current(offset) => Self::Current(offset),
        }
    }
}

impl From<Whence> for io::SeekFrom {
    fn from(whence: Whence) -> Self {
        match whence {
            Whence::Start(at) => Self::Start(at),
            Whence::End(offset) => Self::End(offset),
            Whence::Current(offset) => Self::Current(offset),
        }
    }
}

/// What reading or writing failed with: an [`io::Error`] as it crosses, with its kind and its words. A call that failed
/// itself has the nearest kind there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    kind: u8,
    text: String,
}

/// The kinds that cross, by their numbers, which begin at 1 (PROTOCOL.md § 14.4). Others cross as
/// [`Other`](io::ErrorKind::Other).
const KINDS: [io::ErrorKind; 28] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::NotConnected,
    io::ErrorKind::AddrInUse,
    io::ErrorKind::AddrNotAvailable,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::WouldBlock,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::TimedOut,
    io::ErrorKind::WriteZero,
    io::ErrorKind::Interrupted,
    io::ErrorKind::Unsupported,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::OutOfMemory,
    io::ErrorKind::NotADirectory,
    io::ErrorKind::IsADirectory,
    io::ErrorKind::ReadOnlyFilesystem,
    io::ErrorKind::StorageFull,
    io::ErrorKind::NotSeekable,
    io::ErrorKind::QuotaExceeded,
    io::ErrorKind::FileTooLarge,
    io::ErrorKind::ResourceBusy,
    io::ErrorKind::Deadlock,
];

impl Failure {
    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        let at = usize::from(self.kind).checked_sub(1);
        at.and_then(|at| KINDS.get(at))
            .copied()
            .unwrap_or(io::ErrorKind::Other)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let at = KINDS.iter().position(|kind| *kind == error.kind());
        let number = at.and_then(|at| u8::try_from(at + 1).ok());
        Self {
            kind: number.unwrap_or_default(),
            text: error.to_string(),
        }
    }
}

impl From<farref_boxing::Error> for Failure {
    fn from(error: farref_boxing::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind(), failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_error_crosses() {
        for kind in KINDS {
            assert_eq!(io::Error::from(Failure::from(io::Error::from(kind))).kind(), kind);
        }
        let other = Failure {
            kind: 200,
            text: String::new(),
        };
        assert_eq!(other.kind(), io::ErrorKind::Other);
    }
}
