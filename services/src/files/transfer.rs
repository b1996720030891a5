//! Copying files and trees from one place to another, wherever these are: as a program that copies needs it.
//!
//! ```text
//!   Netref<dyn Files> ── read_from ──▶ counted here ──▶ write_from ── Netref<dyn Files>
//!        (from)             hash                           hash            (to)
//!                              └────────── the same? ───────┘
//! ```
//!
//! What is on this machine is a [`FilesRoot`](super::FilesRoot) like any other, so this is upload, download, and copying
//! from one far machine to another. A large file is written beside its place as `.NAME.farref-part` and moved there once it
//! is whole; a copy that was cut off goes on where it was, if what is there is what it should be. Small files are copied
//! several at once.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::Result as CallResult;
use farref_netref::{ByteStream, Netref};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::path::is_part;
use super::{Attributes, Digest, Entry, Files, Kind, Metadata};
use crate::file::Failure;

/// A copy to be made.
///
/// ```no_run
/// use farref_services::file::Failure;
/// use farref_services::files::{Files, FilesRoot, Step, Transfer};
/// # use farref_netref::Netref;
///
/// # async fn example(far: Netref<dyn Files>) -> Result<(), Failure> {
/// let here = FilesRoot::machine().share();
/// let report = Transfer::new(far, here)
///     .progress(|step| {
///         if let Step::Started { path, len, .. } = step {
///             println!("{path}: {len} bytes");
///         }
///     })
///     .tree("/logs", "/tmp/logs")
///     .await?;
/// println!("{} files, {} failed", report.files, report.failed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transfer(Arc<Job>);

#[derive(Clone)]
struct Job {
    from: Netref<dyn Files>,
    to: Netref<dyn Files>,
    resumes: bool,
    at_once: usize,
    tell: Arc<Tell>,
}

type Tell = dyn Fn(Step<'_>) + Send + Sync;

/// How a copy goes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A file is begun, or gone on with.
    Started {
        /// Where it comes from.
        path: &'a str,
        /// Its length.
        len: u64,
        /// How much of it is there already.
        done: u64,
    },
    /// So many bytes more of a file have gone by.
    Bytes {
        /// Where it comes from.
        path: &'a str,
        /// How many.
        count: u64,
    },
    /// A file is there, as it should be.
    Finished {
        /// Where it comes from.
        path: &'a str,
    },
    /// A file was there already, as long and as old as it should be.
    Skipped {
        /// Where it comes from.
        path: &'a str,
        /// Its length.
        len: u64,
    },
    /// A file was not copied; the others are.
    Failed {
        /// Where it comes from.
        path: &'a str,
        /// Why.
        failure: &'a Failure,
    },
}

/// What a copy has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Files that were copied.
    pub files: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes that were copied.
    pub bytes: u64,
    /// Bytes of partial files that were there already.
    pub resumed: u64,
    /// What could not be copied.
    pub failed: u64,
    /// The first hundred of that, by where it should have come from.
    pub failures: Vec<(String, Failure)>,
}

/// Files up to this length cross as one message.
const SMALL: u64 = 128 << 10;
/// Large files that are copied at once.
const STREAMS: usize = 2;
/// Files that are copied at once, unless the program says otherwise.
const AT_ONCE: usize = 32;
/// Failures that are reported one by one.
const REPORTED: usize = 100;
/// Directories whose attributes are kept until they are filled.
const DIRECTORIES: usize = 1 << 16;

impl Transfer {
    /// A copy from one tree to another. By default, it goes on with what is there: partial files whose beginning has the right
    /// hash, and whole ones that are as long and as old as they should be.
    #[must_use]
    pub fn new(from: Netref<dyn Files>, to: Netref<dyn Files>) -> Self {
        Self(Arc::new(Job {
            from,
            to,
            resumes: true,
            at_once: AT_ONCE,
            tell: Arc::new(|_| {}),
        }))
    }

    /// Tells `tell` how it goes, from several tasks: it must not wait.
    #[must_use]
    pub fn progress(mut self, tell: impl Fn(Step<'_>) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).tell = Arc::new(tell);
        self
    }

    /// Copies everything anew, whatever is there.
    #[must_use]
    pub fn anew(mut self) -> Self {
        Arc::make_mut(&mut self.0).resumes = false;
        self
    }

    /// Copies so many files at once, at least 1. Default 32.
    #[must_use]
    pub fn at_once(mut self, files: usize) -> Self {
        Arc::make_mut(&mut self.0).at_once = files.clamp(1, 1024);
        self
    }

    /// Copies one file to the path `to`, with its permissions and the time of its last change.
    ///
    /// # Errors
    ///
    /// It cannot be read or written, or is out of reach; [`InvalidData`](std::io::ErrorKind::InvalidData): what arrived is
    /// not what was sent. What was copied of it stays, to be gone on with.
    ///
    /// # Cancel safety
    ///
    /// What was copied of it stays, to be gone on with.
    pub async fn file(&self, from: &str, to: &str) -> Result<Report, Failure> {
        let sums = Sums::default();
        let found = self.0.from.stat(from).await?;
        match found.kind {
            Kind::File => self.0.file(from, to, &found, &sums).await?,
            Kind::Directory => {
                return Err(failure(
                    std::io::ErrorKind::IsADirectory,
                    from,
                    "it is a directory",
                ));
            }
            Kind::Link | Kind::Other => {
                return Err(failure(std::io::ErrorKind::Unsupported, from, "it is no file"));
            }
        }
        Ok(sums.report())
    }

    /// Copies a directory and what is below it to the path `to`, which is made if it is not there. Links are copied as
    /// links. What cannot be copied is reported, and the rest copied; so is what other copies have left, and what `from`
    /// lists that cannot be there. Nothing is written anywhere but below `to`: links there lead nowhere for this.
    ///
    /// Where both are on this machine, `to` may be below `from`, and is left out. Otherwise it must not be: the copy would be
    /// copied as well.
    ///
    /// # Errors
    ///
    /// `from` cannot be walked, `to` cannot be made, or one of them is out of reach.
    ///
    /// # Cancel safety
    ///
    /// What was copied stays, to be gone on with.
    pub async fn tree(&self, from: &str, to: &str) -> Result<Report, Failure> {
        let job = &self.0;
        let sums = Arc::<Sums>::default();
        let top = job.from.stat(from).await?;
        let mut entries = job.from.walk(from, u32::MAX).await?;
        let mut directories = vec![(to.to_owned(), top)];
        job.to.make_dir(to, true).await?;
        // Within this machine it can be told whether one is in the other.
        let own = match job.from.is_local() && job.to.is_local() {
            true => job.to.stat(to).await?.identity,
            false => None,
        };
        // Paths below these have nowhere to go.
        let mut missing = BTreeSet::new();
        // Those below any other that is not among these were not listed by whoever plays fair.
        let mut made = HashSet::new();
        // Those of which nothing was listed: they are empty, or what is in them is not for us.
        let mut barren = BTreeSet::new();
        let room = Arc::new(Semaphore::new(job.at_once));
        let streams = Arc::new(Semaphore::new(STREAMS));
        let mut copies = JoinSet::new();
        while let Some(entry) = entries.next().await {
            if let Some(failure) = sums.lost.get() {
                return Err(failure.clone());
            }
            let entry = entry?;
            while copies.try_join_next().is_some() {}
            let (source, target) = (join(from, &entry.path), join(to, &entry.path));
            if parents(&entry.path).any(|parent| missing.contains(parent)) {
                continue;
            }
            if let Err(failure) = check_listed(&source, &entry.path, &made) {
                job.failed(&source, failure, &sums)?;
                continue;
            }
            if let Some((parent, _)) = entry.path.rsplit_once('/') {
                barren.remove(parent);
            }
            if own.is_some() && entry.metadata.identity == own {
                let text = "it is the copy, which is not copied into itself";
                let failure = failure(std::io::ErrorKind::InvalidInput, &source, text);
                missing.insert(entry.path);
                job.failed(&source, failure, &sums)?;
                continue;
            }
            if entry.metadata.kind == Kind::Directory {
                match job.directory(&target).await {
                    Ok(()) => {
                        Sums::add(&sums.directories, 1);
                        if directories.len() < DIRECTORIES {
                            directories.push((target, entry.metadata));
                        }
                        barren.insert(entry.path.clone());
                        made.insert(entry.path);
                    }
                    Err(failure) => {
                        missing.insert(entry.path);
                        job.failed(&source, failure, &sums)?;
                    }
                }
                continue;
            }
            let permit = Arc::clone(&room).acquire_owned().await;
            let (job, sums, streams) = (Arc::clone(job), Arc::clone(&sums), Arc::clone(&streams));
            copies.spawn(async move {
                let _permit = permit;
                let stream = match entry.metadata.len > SMALL {
                    true => streams.acquire().await.ok(),
                    false => None,
                };
                let copied = job.entry(&source, &target, &entry, &sums).await;
                drop(stream);
                job.note(&source, copied, &sums);
            });
        }
        for path in barren {
            let permit = Arc::clone(&room).acquire_owned().await;
            let (job, sums, source) = (Arc::clone(job), Arc::clone(&sums), join(from, &path));
            copies.spawn(async move {
                let _permit = permit;
                job.note(&source, job.look_into(&source).await, &sums);
            });
        }
        while copies.join_next().await.is_some() {}
        if let Some(failure) = sums.lost.get() {
            return Err(failure.clone());
        }
        // From below: to fill a directory changes it.
        for (path, found) in directories.iter().rev() {
            if let Err(failure) = job.to.set_attributes(path, attributes(found)).await {
                job.failed(path, failure, &sums)?;
            }
        }
        Ok(sums.report())
    }
}

impl Job {
    /// Notes a failure.
    ///
    /// # Errors
    ///
    /// One side is out of reach: nothing else will go better.
    fn failed(&self, path: &str, failure: Failure, sums: &Sums) -> Result<(), Failure> {
        (self.tell)(Step::Failed {
            path,
            failure: &failure,
        });
        Sums::add(&sums.failed, 1);
        let is_out_of_reach = failure.kind() == std::io::ErrorKind::BrokenPipe;
        let mut failures = sums.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < REPORTED {
            failures.push((path.to_owned(), failure.clone()));
        }
        match is_out_of_reach {
            true => Err(failure),
            false => Ok(()),
        }
    }

    /// Notes what came of a part; what ends it for the rest as well is kept.
    fn note(&self, path: &str, done: Result<(), Failure>, sums: &Sums) {
        if let Err(failure) = done
            && let Err(failure) = self.failed(path, failure, sums)
        {
            _ = sums.lost.set(failure);
        }
    }

    /// Whether a directory can be listed.
    async fn look_into(&self, path: &str) -> Result<(), Failure> {
        let mut entries = self.from.list(path).await?;
        match entries.next().await {
            Some(Err(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn entry(&self, from: &str, to: &str, entry: &Entry, sums: &Sums) -> Result<(), Failure> {
        match (entry.metadata.kind, &entry.target) {
            (Kind::File, _) => self.file(from, to, &entry.metadata, sums).await,
            (Kind::Link, Some(target)) => {
                self.link(target, to).await?;
                Sums::add(&sums.links, 1);
                Ok(())
            }
            _ => {
                let text = "a device, a named pipe or a socket is not copied";
                Err(failure(std::io::ErrorKind::Unsupported, from, text))
            }
        }
    }

    /// Makes a directory, if there is none. A link to one is none.
    async fn directory(&self, to: &str) -> Result<(), Failure> {
        match self.to.make_dir(to, false).await {
            Err(there) if there.kind() == std::io::ErrorKind::AlreadyExists => {
                match self.to.link_stat(to).await?.kind {
                    Kind::Directory => Ok(()),
                    _ => Err(there),
                }
            }
            other => other,
        }
    }

    async fn link(&self, target: &str, to: &str) -> Result<(), Failure> {
        match self.to.link(target, to).await {
            Err(failure) if failure.kind() == std::io::ErrorKind::AlreadyExists => {
                if self.to.read_link(to).await.is_ok_and(|there| there == target) {
                    return Ok(());
                }
                let part = part_of(to);
                if let Err(failure) = self.to.remove(&part, false).await
                    && failure.kind() != std::io::ErrorKind::NotFound
                {
                    return Err(failure);
                }
                self.to.link(target, &part).await?;
                // Not in place of a directory, whose files may be on their way.
                let moved = self.to.rename(&part, to).await;
                if moved.is_err() {
                    _ = self.to.remove(&part, false).await;
                }
                moved
            }
            other => other,
        }
    }

    async fn file(&self, from: &str, to: &str, found: &Metadata, sums: &Sums) -> Result<(), Failure> {
        let copied = if found.len <= SMALL {
            self.small(from, to, found, sums).await
        } else {
            self.large(from, to, found, sums).await
        };
        match copied? {
            Copied::Now => {
                Sums::add(&sums.files, 1);
                (self.tell)(Step::Finished { path: from });
            }
            Copied::Before => {
                Sums::add(&sums.skipped, 1);
                (self.tell)(Step::Skipped {
                    path: from,
                    len: found.len,
                });
            }
        }
        Ok(())
    }

    /// Whether `to` is there already, by its length and age.
    async fn is_there(&self, to: &str, found: &Metadata) -> bool {
        let there = match self.resumes {
            true => self.to.link_stat(to).await.ok(),
            false => None,
        };
        there.is_some_and(|there| {
            there.kind == Kind::File
                && there.len == found.len
                && there.modified.is_some()
                && there.modified == found.modified
        })
    }

    /// By one message: what is asked of the same side is asked at once.
    async fn small(&self, from: &str, to: &str, found: &Metadata, sums: &Sums) -> Result<Copied, Failure> {
        let len = u32::try_from(SMALL).unwrap_or(u32::MAX).saturating_add(1);
        let hash = async {
            // What is read here need not be compared to itself.
            match self.from.is_local() {
                true => Ok(None),
                false => self.from.hash(from, 0, None).await.map(Some),
            }
        };
        let (is_there, bytes, told) =
            tokio::join!(self.is_there(to, found), self.from.read(from, 0, len), hash);
        if is_there {
            return Ok(Copied::Before);
        }
        let bytes = bytes?;
        let count = bytes.len() as u64;
        if count > SMALL {
            // It has grown.
            return self.large(from, to, found, sums).await;
        }
        (self.tell)(Step::Started {
            path: from,
            len: found.len,
            done: 0,
        });
        let read = super::tree::digest(count, &blake3::hash(&bytes));
        if told?.is_some_and(|told| told != read) {
            return Err(mismatch(from));
        }
        let written = self.to.write(to, bytes, attributes(found)).await?;
        if written != read {
            return Err(mismatch(from));
        }
        (self.tell)(Step::Bytes { path: from, count });
        Sums::add(&sums.bytes, count);
        Ok(Copied::Now)
    }

    async fn large(&self, from: &str, to: &str, found: &Metadata, sums: &Sums) -> Result<Copied, Failure> {
        let part = part_of(to);
        let (is_there, at) = tokio::join!(self.is_there(to, found), self.go_on_at(from, &part, found.len));
        if is_there {
            return Ok(Copied::Before);
        }
        let at = at?;
        (self.tell)(Step::Started {
            path: from,
            len: found.len,
            done: at,
        });
        Sums::add(&sums.resumed, at);
        let mut content = self.from.read_from(from, at).await?;
        let bytes = ByteStream::pieces(Counted {
            bytes: content.bytes,
            path: from.to_owned(),
            tell: Arc::clone(&self.tell),
        });
        // It may take as long as it likes.
        let write = self.to.call().write_from(&part, at, bytes);
        let written: Digest = write.timeout(Duration::MAX).await?;
        let Some(read) = content.digest.next().await else {
            return Err(mismatch(from));
        };
        if read? != written {
            // None of it is what it should be.
            self.to.remove(&part, false).await?;
            return Err(mismatch(from));
        }
        self.to.replace(&part, to, attributes(found)).await?;
        Sums::add(&sums.bytes, written.len);
        Ok(Copied::Now)
    }

    /// How much of a file is in its part already.
    async fn go_on_at(&self, from: &str, part: &str, len: u64) -> Result<u64, Failure> {
        let there = match self.to.link_stat(part).await {
            Ok(there) => there,
            Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(failure) => return Err(failure),
        };
        if there.kind != Kind::File {
            self.to.remove(part, false).await?;
            return Ok(0);
        }
        if !self.resumes || there.len == 0 || there.len > len {
            return Ok(0);
        }
        let (source, target) = tokio::join!(
            self.from
                .call()
                .hash(from, 0, Some(there.len))
                .timeout(Duration::MAX),
            self.to
                .call()
                .hash(part, 0, Some(there.len))
                .timeout(Duration::MAX),
        );
        Ok(if source? == target? { there.len } else { 0 })
    }
}

/// Whether a file had to be copied.
enum Copied {
    Now,
    Before,
}

/// Where a file is written until it is whole.
fn part_of(path: &str) -> String {
    let (parent, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(parent, name)| (parent, name));
    let slash = if path.contains('/') { "/" } else { "" };
    // A name has 255 bytes at most.
    match name.len() < 200 {
        true => format!("{parent}{slash}.{name}.farref-part"),
        false => {
            let hash = blake3::hash(name.as_bytes()).to_hex();
            format!("{parent}{slash}.{hash}.farref-part")
        }
    }
}

fn join(parent: &str, path: &str) -> String {
    match parent.is_empty() || parent.ends_with('/') {
        true => format!("{parent}{path}"),
        false => format!("{parent}/{path}"),
    }
}

/// Whether a path that was listed can be that of something to be copied: below a directory that was `made`, or the top.
fn check_listed(source: &str, path: &str, made: &HashSet<String>) -> Result<(), Failure> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") || (path != name && !made.contains(parent)) {
        let text = "it is listed where nothing can be";
        return Err(failure(std::io::ErrorKind::InvalidData, source, text));
    }
    if is_part(OsStr::new(name)) {
        let text = "it is what another copy has left";
        return Err(failure(std::io::ErrorKind::Unsupported, source, text));
    }
    Ok(())
}

/// The directories above a path.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

fn attributes(found: &Metadata) -> Attributes {
    Attributes {
        mode: Some(found.mode & 0o777),
        modified: found.modified,
        accessed: None,
    }
}

fn failure(kind: std::io::ErrorKind, path: &str, text: &str) -> Failure {
    std::io::Error::new(kind, format!("{path}: {text}")).into()
}

fn mismatch(path: &str) -> Failure {
    let text = "what arrived is not what was sent: the file changes, or the way is unsafe";
    failure(std::io::ErrorKind::InvalidData, path, text)
}

/// Bytes that are told of as they go by.
struct Counted {
    bytes: ByteStream,
    path: String,
    tell: Arc<Tell>,
}

impl futures_core::Stream for Counted {
    type Item = CallResult<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CallResult<Bytes>>> {
        let piece = ready!(Pin::new(&mut self.bytes).poll_next(context));
        if let Some(Ok(piece)) = &piece {
            (self.tell)(Step::Bytes {
                path: &self.path,
                count: piece.len() as u64,
            });
        }
        Poll::Ready(piece)
    }
}

/// What a report will say.
#[derive(Default)]
struct Sums {
    files: AtomicU64,
    skipped: AtomicU64,
    directories: AtomicU64,
    links: AtomicU64,
    bytes: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<(String, Failure)>>,
    /// One side is out of reach.
    lost: OnceLock<Failure>,
}

impl Sums {
    fn add(to: &AtomicU64, count: u64) {
        to.fetch_add(count, Ordering::Relaxed);
    }

    fn report(&self) -> Report {
        let sum = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Report {
            files: sum(&self.files),
            skipped: sum(&self.skipped),
            directories: sum(&self.directories),
            links: sum(&self.links),
            bytes: sum(&self.bytes),
            resumed: sum(&self.resumed),
            failed: sum(&self.failed),
            failures: std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer")
            .field("from", &self.0.from)
            .field("to", &self.0.to)
            .field("resumes", &self.0.resumes)
            .finish_non_exhaustive()
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
