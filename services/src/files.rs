//! A tree of files, used from afar.
//!
//! ```text
//!   FilesRoot::at("/srv/data").read_only() ──▶ Netref<dyn Files>     the side that has the files
//!                                                    │
//!       open ── Netref<dyn File> ── Handle ──────────┤               the side that uses them
//!       read_from, write_from ── ByteStream ─────────┤
//!       list, walk, watch ── Stream<..> ─────────────┘
//! ```
//!
//! # Paths
//!
//! Paths are text, their parts divided by `/`, from the root of what is shown: `/logs/today` and `logs/today` are the same,
//! and so are ``, `.` and `/`. `..` leads to the directory above and never out of the root.
//!
//! Names that are not UTF-8 are shown with `\xHH` for each byte that is not part of it, and a backslash as `\\`; paths are
//! read in the same way. So every name can be shown and given back. Only bytes from `\x80` on can be written like that:
//! there is one way to write a `/`.

mod follow;
mod hosted;
mod path;
mod remove;
mod transfer;
mod tree;
mod walk;
#[cfg_attr(not(target_os = "linux"), path = "files/no_watch.rs")]
mod watch;

use std::time::{Duration, SystemTime};

use ::bytes::Bytes;
use farref_netref::{ByteStream, Netref, Stream, remote};
use serde::{Deserialize, Serialize};

use crate::file::{Failure, File};

pub use hosted::FilesRoot;
pub use transfer::{Report, Step, Transfer};

/// A tree of files.
///
/// Methods fail with the kind of error that the system gives. Reaching out of what is shown, and writing where that is not
/// granted, fail as [`PermissionDenied`](std::io::ErrorKind::PermissionDenied) and
/// [`ReadOnlyFilesystem`](std::io::ErrorKind::ReadOnlyFilesystem).
#[remote(name = "farref.Files")]
pub trait Files {
    /// Opens a file. Anything but files and directories, such as a device or a named pipe, is not opened. Reads only if
    /// `mode` does.
    async fn open(&self, path: &str, mode: OpenMode) -> Result<Netref<dyn File>, Failure>;

    /// What is in a directory, in no order.
    #[reads]
    async fn list(&self, path: &str) -> Result<Stream<Entry>, Failure>;

    /// What is under a directory, each directory before what is in it, with paths from there on; links are not followed.
    /// `depth` is how many levels are shown, 1 for those that [`list`](Self::list) shows; more than 128 there must not be.
    #[reads]
    async fn walk(&self, path: &str, depth: u32) -> Result<Stream<Entry>, Failure>;

    /// What is known of a file, or of what a link leads to.
    #[reads]
    async fn stat(&self, path: &str) -> Result<Metadata, Failure>;

    /// What is known of a file, or of a link itself.
    #[reads]
    async fn link_stat(&self, path: &str) -> Result<Metadata, Failure>;

    /// Where a symbolic link leads to, as it says.
    #[reads]
    async fn read_link(&self, path: &str) -> Result<String, Failure>;

    /// The path without links and `..`.
    #[reads]
    async fn canonical(&self, path: &str) -> Result<String, Failure>;

    /// Reads `len` bytes of a file, at most 4 MiB, or up to its end.
    #[reads]
    async fn read(&self, path: &str, at: u64, len: u32) -> Result<Bytes, Failure>;

    /// A file from a position on, and what it was by number and hash once it was read to its end.
    #[reads]
    async fn read_from(&self, path: &str, at: u64) -> Result<Content, Failure>;

    /// The lines that a file ends with, and what is written to it from then on, without an end: also when it is put aside
    /// and begun anew under its name, as logs are.
    #[reads]
    async fn follow(&self, path: &str, lines: u32) -> Result<ByteStream, Failure>;

    /// The BLAKE3 hash of `len` bytes, or up to the end.
    #[reads]
    async fn hash(&self, path: &str, at: u64, len: Option<u64>) -> Result<Digest, Failure>;

    /// How much room there is where a path leads.
    #[reads]
    async fn space(&self, path: &str) -> Result<Space, Failure>;

    /// What changes at a path, and with `is_recursive` in all that is below it, from now on.
    #[reads]
    async fn watch(&self, path: &str, is_recursive: bool) -> Result<Stream<Change>, Failure>;

    /// Whether nothing can be written by way of this.
    #[reads]
    async fn is_read_only(&self) -> Result<bool, Failure>;

    /// Writes a whole file, at most what fits a message. It is there at once and as a whole, in place of what was there, and
    /// with its permissions unless `attributes` have others.
    async fn write(&self, path: &str, bytes: Bytes, attributes: Attributes) -> Result<Digest, Failure>;

    /// Writes what comes to a file from a position on, where it is cut off before; what was written, by number and hash.
    /// From 0 on, the file is made if it is not there; a link is not followed. What came before a failure stays written.
    ///
    /// A file that is shorter than `at` is [`InvalidInput`](std::io::ErrorKind::InvalidInput). Where two write one file, the
    /// first fails as [`ResourceBusy`](std::io::ErrorKind::ResourceBusy). A file named `.NAME.farref-part` is made as its
    /// owner's alone.
    async fn write_from(&self, path: &str, at: u64, bytes: ByteStream) -> Result<Digest, Failure>;

    /// Gives a file these attributes and puts it at another path, at once and in place of what was there.
    async fn replace(&self, from: &str, to: &str, attributes: Attributes) -> Result<(), Failure>;

    /// Copies a file with its permissions, without sending it; how many bytes that were.
    async fn copy(&self, from: &str, to: &str) -> Result<u64, Failure>;

    /// Gives a file another path. A file that was there is replaced.
    async fn rename(&self, from: &str, to: &str) -> Result<(), Failure>;

    /// Removes a file or a link, or a directory: one that is empty, and others if it `is_recursive`. Links are removed
    /// themselves.
    async fn remove(&self, path: &str, is_recursive: bool) -> Result<(), Failure>;

    /// Makes a directory. With `has_parents`, those above it that are missing as well; then it may be there already.
    async fn make_dir(&self, path: &str, has_parents: bool) -> Result<(), Failure>;

    /// Makes a symbolic link at `path` that leads to `target`. Where not all of the machine is shown,
    /// [`PermissionDenied`](std::io::ErrorKind::PermissionDenied) if it may lead out: with `..` behind a name, which may be a
    /// link as well.
    async fn link(&self, target: &str, path: &str) -> Result<(), Failure>;

    /// Changes attributes of a file, or of what a link leads to.
    async fn set_attributes(&self, path: &str, attributes: Attributes) -> Result<(), Failure>;
}

/// How a file is opened: as by [`std::fs::OpenOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "as std has them")]
#[expect(clippy::exhaustive_structs, reason = "as many as std has")]
pub struct OpenMode {
    /// To be read.
    pub read: bool,
    /// To be written.
    pub write: bool,
    /// Whatever is written goes to the end.
    pub append: bool,
    /// Emptied first.
    pub truncate: bool,
    /// Made if it is not there.
    pub create: bool,
    /// Made, and it is an error if it is there.
    pub create_new: bool,
}

impl OpenMode {
    /// To be read.
    pub const READ: Self = Self {
        read: true,
        write: false,
        append: false,
        truncate: false,
        create: false,
        create_new: false,
    };

    /// To be read and written, and made if it is not there.
    pub const EDIT: Self = Self {
        write: true,
        create: true,
        ..Self::READ
    };

    /// To be written anew, and made if it is not there.
    pub const CREATE: Self = Self {
        read: false,
        truncate: true,
        ..Self::EDIT
    };

    /// Whether nothing is written, made or cut off.
    #[must_use]
    pub const fn only_reads(self) -> bool {
        !(self.write || self.append || self.truncate || self.create || self.create_new)
    }
}

/// What there is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Entry {
    /// Its path, from where the listing began.
    pub path: String,
    /// What is known of it, or of a link itself.
    pub metadata: Metadata,
    /// Where a symbolic link leads to, as it says.
    pub target: Option<String>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes in it.
    pub len: u64,
    /// Permissions: the last twelve bits of a Unix mode. Where there are none, `0o444` or `0o666`.
    pub mode: u32,
    /// When it was written last.
    pub modified: Option<Time>,
    /// When it was read last.
    pub accessed: Option<Time>,
    /// When it was made.
    pub created: Option<Time>,
    /// Whose it is: a user and a group, where there are numbers for them.
    pub owner: Option<(u32, u32)>,
    /// By which two names can be known to be of one file: device and inode, where there are any.
    pub identity: Option<(u64, u64)>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "`Other` is the rest")]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a named pipe, a socket.
    Other,
}

/// A point in time, from the beginning of 1970 on (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "there is no more to it")]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// What is left of a second; less than 1,000,000,000.
    pub nanos: u32,
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self {
                seconds: whole(since.as_secs()),
                nanos: since.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self {
                        seconds: whole(before.as_secs()).saturating_neg(),
                        nanos: 0,
                    },
                    nanos => Self {
                        seconds: whole(before.as_secs()).saturating_neg().saturating_sub(1),
                        nanos: 1_000_000_000_u32.saturating_sub(nanos),
                    },
                }
            }
        }
    }
}

impl Time {
    /// The same for std; `None` if that has no such time.
    #[must_use]
    pub fn to_system(self) -> Option<SystemTime> {
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        whole?.checked_add(Duration::from_nanos(self.nanos.into()))
    }
}

/// What can be changed of a file; what is not there stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Attributes {
    /// Permissions: the last nine bits of a Unix mode. Elsewhere, whether it can be written is what counts.
    pub mode: Option<u32>,
    /// When it was written last.
    pub modified: Option<Time>,
    /// When it was read last.
    pub accessed: Option<Time>,
}

/// What is read from a file.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Content {
    /// The bytes.
    pub bytes: ByteStream,
    /// What they were, once they were all read; one item.
    pub digest: Stream<Digest>,
}

/// Bytes by their number and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Digest {
    /// How many they are.
    pub len: u64,
    /// Their BLAKE3 hash, as 64 hexadecimal digits.
    pub hash: String,
}

/// Room for files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Space {
    /// With what is used.
    pub total: u64,
    /// Without it.
    pub free: u64,
    /// What this user may use of that.
    pub available: u64,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// It is there now.
    Created(String),
    /// Its content or attributes are others.
    Modified(String),
    /// It is gone.
    Removed(String),
    /// It has another path; both are below what is watched.
    Renamed {
        /// The path that it had.
        from: String,
        /// The one that it has.
        to: String,
    },
    /// More changed than was read in time: look again.
    Overflow,
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
