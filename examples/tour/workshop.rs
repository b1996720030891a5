//! What the two processes know of each other: traits, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use farref::file::File;
use farref::{Netref, Result, Stream, remote};

use crate::directory::Directory;

/// What the far side shows first.
#[remote]
pub(crate) trait Workshop {
    /// The number of its process.
    fn process(&self) -> Result<u32>;

    /// A directory of its own.
    fn library(&self) -> Result<Netref<dyn Directory>>;

    /// A checksum of all that is below `directory`; `progress` hears of each file.
    fn checksum(&self, directory: Netref<dyn Directory>, progress: Netref<dyn Progress>) -> Result<u64>;

    /// Takes that long. If it is given up before, the journal is told.
    async fn wait(&self, time: Duration, journal: Netref<dyn Journal>) -> Result<()>;

    /// Whether an object that is passed to the far side is one of its own.
    fn owns(&self, directory: Netref<dyn Directory>) -> Result<bool>;

    /// Takes an object in ...
    fn keep(&self, directory: Netref<dyn Directory>) -> Result<()>;

    /// ... and gives it back.
    fn give_back(&self) -> Result<Netref<dyn Directory>>;

    /// Reads a file of the caller's; how many bytes there are in it.
    fn fetch(&self, from: Netref<dyn Directory>, name: &str) -> Result<u64>;

    /// A file of the library's, to be read.
    fn open(&self, path: &str) -> Result<Netref<dyn File>>;

    /// Counts from zero for as long as anybody reads, then tells the journal how far it has got.
    async fn ticks(&self, journal: Netref<dyn Journal>) -> Result<Stream<u64>>;

    /// A new object, which tells the journal when it is freed.
    fn sheet(&self, text: &str, journal: Netref<dyn Journal>) -> Result<Netref<dyn Sheet>>;

    /// Divides, and panics where that cannot be.
    fn divide(&self, dividend: u64, divisor: u64) -> Result<u64>;

    /// Does nothing: for measuring.
    async fn nothing(&self) -> Result<()>;

    /// Gives back what it gets: for measuring.
    async fn echo(&self, body: Bytes) -> Result<Bytes>;
}

/// A sheet of paper.
#[remote]
pub(crate) trait Sheet {
    /// What is written on it.
    fn text(&self) -> Result<String>;
}

/// Hears how a long job gets on.
#[remote(closure)]
pub(crate) trait Progress {
    /// A file is done.
    fn file(&self, name: &str, done: u64, of: u64) -> Result<()>;
}

/// Hears what happens on the far side.
#[remote]
pub(crate) trait Journal {
    /// Something happened.
    fn note(&self, what: &str) -> Result<()>;
}
