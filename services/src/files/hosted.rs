//! The side that has the files: calls, limits, and what is refused.

use std::fs::File as StdFile;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};
use farref_netref::stream::Sender;
use farref_netref::{ByteStream, Netref, Peer, Stream, remote};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tree::{Links, Tree, digest, go, read_piece, write_on};
use super::{Attributes, Change, Content, Digest, Entry, Files, Metadata, OpenMode, Space, follow, watch};
use crate::file::{self, Failure, File};

/// A tree of files to be shown: what it begins with, and whether it may be changed.
///
/// ```no_run
/// use farref_services::files::FilesRoot;
///
/// # fn main() -> Result<(), farref_netref::Error> {
/// let files = FilesRoot::at("/srv/data").read_only().share();
/// # Ok(())
/// # }
/// ```
///
/// Nothing outside of the directory can be reached by way of it: not by `..`, not by links, whoever makes them and
/// whenever. Links that lead outside are shown as what they are and not followed. What cannot be told from the inside is
/// inside: hard links, and what is mounted below it. Where peers may write, whoever else works in the directory minds its
/// links: one that may lead outside is not made, but a link that is moved leads elsewhere.
#[derive(Debug, Clone)]
pub struct FilesRoot {
    tree: Arc<Tree>,
    is_read_only: bool,
    open_files: usize,
}

impl FilesRoot {
    /// The directory `path` and what is below it. It is looked for when it is first used.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::of(Tree::at(path.into()))
    }

    /// All files of the machine, as far as this process may use them: for full trust.
    #[must_use]
    pub fn machine() -> Self {
        Self::of(Tree::whole())
    }

    fn of(tree: Tree) -> Self {
        Self {
            tree: Arc::new(tree),
            is_read_only: false,
            open_files: 256,
        }
    }

    /// Lets nothing be changed.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// How many files, listings and the like whoever has it may have open at once. Default 256, at least 1.
    #[must_use]
    pub const fn open_files(mut self, count: usize) -> Self {
        self.open_files = if count == 0 { 1 } else { count };
        self
    }

    /// Shares it. The limits are those of what is returned, also if it is passed on.
    #[must_use]
    pub fn share(&self) -> Netref<dyn Files> {
        Netref::of(Hosted {
            tree: Arc::clone(&self.tree),
            is_read_only: self.is_read_only,
            open_files: self.open_files,
            open: Arc::new(Semaphore::new(self.open_files.min(Semaphore::MAX_PERMITS))),
            work: Work(Arc::new(Semaphore::new(AT_ONCE))),
        })
    }
}

/// So many threads work for one root at once: a slow disk does not take them all.
const AT_ONCE: usize = 32;
/// What is read at a time: with what is around it, it fits what may be sent without asking (PROTOCOL.md § 3.4).
const PIECE: usize = 252 << 10;
/// Entries that are looked up at a time, and that may wait to be read.
const ENTRIES: usize = 128;
/// Most bytes that [`Files::read`] gives.
const MOST: u32 = 4 << 20;

#[derive(Debug)]
struct Hosted {
    tree: Arc<Tree>,
    is_read_only: bool,
    open_files: usize,
    open: Arc<Semaphore>,
    work: Work,
}

/// Runs what may block.
#[derive(Debug, Clone)]
pub(super) struct Work(Arc<Semaphore>);

impl Work {
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let permit = Arc::clone(&self.0)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        // What was started is ended, and counts until then, whoever has lost interest.
        let job = tokio::task::spawn_blocking(move || {
            let done = job();
            drop(permit);
            done
        });
        job.await.map_err(io::Error::from)?
    }
}

/// A method that runs, and for whom.
struct Request {
    method: &'static str,
    path: String,
    peer: Option<Arc<Peer>>,
}

impl Request {
    fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.into(),
            peer: farref_netref::caller().map(|caller| caller.peer()),
        }
    }

    /// What it fails with: the path is named, and what was refused is logged.
    fn failed(self, error: io::Error) -> Failure {
        let is_ours = error.raw_os_error().is_none();
        let kind = error.kind();
        if is_ours
            && matches!(
                kind,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            )
        {
            // A path is the peer's: it is no line of its own in a log, and not longer than one.
            let path: String = self.path.chars().take(200).collect();
            let method = self.method;
            match &self.peer {
                Some(peer) => peer.warn(|left_out| {
                    tracing::warn!(%peer, method, ?path, %error, left_out, "files: refused");
                }),
                None => tracing::warn!(method, ?path, %error, "files: refused"),
            }
        }
        io::Error::new(kind, format!("{}: {error}", self.path)).into()
    }
}

impl Hosted {
    /// Runs `job` on a thread that may block.
    async fn run<R: Send + 'static>(
        &self,
        method: &'static str,
        path: &str,
        job: impl FnOnce(&Tree) -> io::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        let request = Request::new(method, path);
        let tree = Arc::clone(&self.tree);
        let done = self.work.run(move || job(&tree)).await;
        done.map_err(|error| request.failed(error))
    }

    /// The same for what writes.
    async fn change<R: Send + 'static>(
        &self,
        method: &'static str,
        path: &str,
        job: impl FnOnce(&Tree) -> io::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        self.check_writable(method, path)?;
        self.run(method, path, job).await
    }

    fn check_writable(&self, method: &'static str, path: &str) -> Result<(), Failure> {
        if !self.is_read_only {
            return Ok(());
        }
        let error = io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            format!("these files are shown to be read only, and `{method}` writes"),
        );
        Err(Request::new(method, path).failed(error))
    }

    /// Room for one more open file.
    fn hold(&self, method: &'static str, path: &str) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.open).try_acquire_owned().map_err(|_| {
            let error = io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} files are open already, which is the limit", self.open_files),
            );
            Request::new(method, path).failed(error)
        })
    }

    /// Sends what `entries` gives.
    fn send<I>(&self, entries: I, hold: OwnedSemaphorePermit) -> Stream<Entry>
    where
        I: Iterator<Item = io::Result<Entry>> + Send + 'static,
    {
        let (sender, stream) = Stream::channel(ENTRIES);
        tokio::spawn(send_entries(self.work.clone(), entries, sender, hold));
        stream
    }

    async fn entries(&self, method: &'static str, path: &str, depth: u32) -> Result<Stream<Entry>, Failure> {
        let (hold, from) = (self.hold(method, path)?, path.to_owned());
        let entries = self
            .run(method, path, move |tree| tree.walk(&from, depth))
            .await?;
        Ok(self.send(entries, hold))
    }
}

async fn send_entries<I>(work: Work, entries: I, mut sender: Sender<Entry>, hold: OwnedSemaphorePermit)
where
    I: Iterator<Item = io::Result<Entry>> + Send + 'static,
{
    let mut rest = Some(entries);
    while let Some(mut entries) = rest.take() {
        let batch = work.run(move || {
            let batch: Vec<_> = entries.by_ref().take(ENTRIES).collect();
            Ok((batch, entries))
        });
        let Ok((batch, entries)) = batch.await else { return };
        if batch.len() == ENTRIES {
            rest = Some(entries);
        }
        for entry in batch {
            match entry {
                Ok(entry) => {
                    if sender.send(entry).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    _ = sender.fail(stream_error(error)).await;
                    return;
                }
            }
        }
    }
    drop(hold);
}

/// What a stream ends with.
pub(super) fn stream_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Failed,
    };
    Error::wrap(kind, error)
}

/// Reads a file to its end, piece by piece; one is read while the one before is sent.
async fn send_content(
    work: Work,
    mut file: StdFile,
    mut pieces: Sender<Bytes>,
    mut digests: Sender<Digest>,
    hold: OwnedSemaphorePermit,
) {
    let (mut hasher, mut len) = (blake3::Hasher::new(), 0_u64);
    loop {
        let read = work.run(move || {
            let piece = read_piece(&mut file, PIECE)?;
            hasher.update(&piece);
            Ok((file, hasher, piece))
        });
        let piece = match read.await {
            Ok((same_file, same_hasher, piece)) => {
                (file, hasher) = (same_file, same_hasher);
                piece
            }
            Err(error) => {
                _ = pieces.fail(stream_error(error)).await;
                return;
            }
        };
        len = len.saturating_add(piece.len() as u64);
        let is_last = piece.len() < PIECE;
        if !piece.is_empty() && pieces.send(piece.into()).await.is_err() {
            return;
        }
        if is_last {
            break;
        }
    }
    // The file is closed, and may be opened again, as soon as it was read.
    drop((file, hold, pieces));
    _ = digests.send(digest(len, &hasher.finalize())).await;
}

/// Writes what comes; one piece is written while the next is on its way.
async fn write_content(
    work: &Work,
    mut file: StdFile,
    at: u64,
    mut bytes: ByteStream,
) -> Result<Digest, Failure> {
    let (mut hasher, mut len) = (blake3::Hasher::new(), 0_u64);
    let mut next = bytes.next().await;
    while let Some(piece) = next {
        let piece = piece?;
        let end = at.saturating_add(len);
        len = len.saturating_add(piece.len() as u64);
        let write = work.run(move || {
            write_on(&mut file, end, &piece)?;
            hasher.update(&piece);
            Ok((file, hasher))
        });
        let (coming, written) = tokio::join!(bytes.next(), write);
        (file, hasher) = written?;
        next = coming;
    }
    Ok(digest(len, &hasher.finalize()))
}

/// Hashes `len` bytes of a file, or up to its end.
async fn hash_range(work: &Work, mut file: StdFile, len: Option<u64>) -> Result<Digest, Failure> {
    let (mut hasher, mut done) = (blake3::Hasher::new(), 0_u64);
    loop {
        let left = len.map_or(u64::MAX, |len| len.saturating_sub(done));
        // Not all at once: whoever gives up is heard in between.
        let most = left.min(HASHED);
        let hash = work.run(move || {
            let hashed = io::copy(&mut io::Read::by_ref(&mut file).take(most), &mut hasher)?;
            Ok((file, hasher, hashed))
        });
        let hashed;
        (file, hasher, hashed) = hash.await?;
        done = done.saturating_add(hashed);
        if hashed < most || most == 0 {
            return Ok(digest(done, &hasher.finalize()));
        }
    }
}

/// So many bytes are hashed by one piece of work.
const HASHED: u64 = 16 << 20;

#[remote]
impl Files for Hosted {
    async fn open(&self, path: &str, mode: OpenMode) -> Result<Netref<dyn File>, Failure> {
        if !mode.only_reads() {
            self.check_writable("open", path)?;
        }
        let (hold, at) = (self.hold("open", path)?, path.to_owned());
        let file = self.run("open", path, move |tree| tree.open(&at, mode, Links::Follow));
        Ok(file::held(
            file.await?,
            mode.read,
            mode.write || mode.append,
            hold,
        ))
    }

    async fn list(&self, path: &str) -> Result<Stream<Entry>, Failure> {
        self.entries("list", path, 1).await
    }

    async fn walk(&self, path: &str, depth: u32) -> Result<Stream<Entry>, Failure> {
        self.entries("walk", path, depth).await
    }

    async fn stat(&self, path: &str) -> Result<Metadata, Failure> {
        let at = path.to_owned();
        self.run("stat", path, move |tree| tree.stat(&at, Links::Follow))
            .await
    }

    async fn link_stat(&self, path: &str) -> Result<Metadata, Failure> {
        let at = path.to_owned();
        self.run("link_stat", path, move |tree| tree.stat(&at, Links::Stay))
            .await
    }

    async fn read_link(&self, path: &str) -> Result<String, Failure> {
        let at = path.to_owned();
        self.run("read_link", path, move |tree| tree.read_link(&at)).await
    }

    async fn canonical(&self, path: &str) -> Result<String, Failure> {
        let at = path.to_owned();
        self.run("canonical", path, move |tree| tree.canonical(&at)).await
    }

    async fn read(&self, path: &str, at: u64, len: u32) -> Result<Bytes, Failure> {
        let (_hold, from) = (self.hold("read", path)?, path.to_owned());
        self.run("read", path, move |tree| {
            let mut file = tree.open(&from, OpenMode::READ, Links::Follow)?;
            // No more room is made than is needed.
            let there = file.metadata()?.len().saturating_sub(at);
            go(&mut file, at)?;
            let len = len.min(MOST);
            let likely = usize::try_from(there.min(len.into())).unwrap_or_default();
            let mut bytes = Vec::with_capacity(likely);
            io::Read::read_to_end(&mut io::Read::take(file, len.into()), &mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn read_from(&self, path: &str, at: u64) -> Result<Content, Failure> {
        let (hold, from) = (self.hold("read_from", path)?, path.to_owned());
        let file = self.run("read_from", path, move |tree| {
            let mut file = tree.open(&from, OpenMode::READ, Links::Follow)?;
            go(&mut file, at)?;
            Ok(file)
        });
        let file = file.await?;
        let (pieces, bytes) = ByteStream::channel(2);
        let (digests, digest) = Stream::channel(1);
        tokio::spawn(send_content(self.work.clone(), file, pieces, digests, hold));
        Ok(Content { bytes, digest })
    }

    async fn follow(&self, path: &str, lines: u32) -> Result<ByteStream, Failure> {
        let hold = self.hold("follow", path)?;
        let (at, tree) = (path.to_owned(), Arc::clone(&self.tree));
        let tail = self
            .run("follow", path, move |_| follow::Tail::open(tree, at, lines))
            .await?;
        let (sender, bytes) = ByteStream::channel(2);
        tokio::spawn(follow::send(self.work.clone(), tail, sender, hold));
        Ok(bytes)
    }

    async fn hash(&self, path: &str, at: u64, len: Option<u64>) -> Result<Digest, Failure> {
        let (_hold, from) = (self.hold("hash", path)?, path.to_owned());
        let file = self.run("hash", path, move |tree| {
            let mut file = tree.open(&from, OpenMode::READ, Links::Follow)?;
            go(&mut file, at)?;
            Ok(file)
        });
        hash_range(&self.work, file.await?, len).await
    }

    async fn space(&self, path: &str) -> Result<Space, Failure> {
        let at = path.to_owned();
        self.run("space", path, move |tree| tree.space(&at)).await
    }

    async fn watch(&self, path: &str, is_recursive: bool) -> Result<Stream<Change>, Failure> {
        let hold = self.hold("watch", path)?;
        let (at, tree) = (path.to_owned(), Arc::clone(&self.tree));
        let watch = self.run("watch", path, move |_| watch::Watch::new(tree, &at, is_recursive));
        let (sender, changes) = Stream::channel(ENTRIES);
        watch.await?.send(self.work.clone(), sender, hold)?;
        Ok(changes)
    }

    async fn is_read_only(&self) -> Result<bool, Failure> {
        Ok(self.is_read_only)
    }

    async fn write(&self, path: &str, bytes: Bytes, attributes: Attributes) -> Result<Digest, Failure> {
        let at = path.to_owned();
        self.change("write", path, move |tree| tree.write(&at, &bytes, &attributes))
            .await
    }

    async fn write_from(&self, path: &str, at: u64, bytes: ByteStream) -> Result<Digest, Failure> {
        self.check_writable("write_from", path)?;
        let (_hold, to) = (self.hold("write_from", path)?, path.to_owned());
        let file = self.run("write_from", path, move |tree| tree.open_at(&to, at));
        write_content(&self.work, file.await?, at, bytes).await
    }

    async fn replace(&self, from: &str, to: &str, attributes: Attributes) -> Result<(), Failure> {
        let (source, target) = (from.to_owned(), to.to_owned());
        self.change("replace", to, move |tree| {
            tree.replace(&source, &target, &attributes)
        })
        .await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<u64, Failure> {
        let (source, target) = (from.to_owned(), to.to_owned());
        self.change("copy", from, move |tree| tree.copy(&source, &target))
            .await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let (source, target) = (from.to_owned(), to.to_owned());
        self.change("rename", from, move |tree| tree.rename(&source, &target))
            .await
    }

    async fn remove(&self, path: &str, is_recursive: bool) -> Result<(), Failure> {
        let at = path.to_owned();
        self.change("remove", path, move |tree| tree.remove(&at, is_recursive))
            .await
    }

    async fn make_dir(&self, path: &str, has_parents: bool) -> Result<(), Failure> {
        let at = path.to_owned();
        self.change("make_dir", path, move |tree| tree.make_dir(&at, has_parents))
            .await
    }

    async fn link(&self, target: &str, path: &str) -> Result<(), Failure> {
        let (at, target) = (path.to_owned(), target.to_owned());
        self.change("link", path, move |tree| tree.link(&target, &at))
            .await
    }

    async fn set_attributes(&self, path: &str, attributes: Attributes) -> Result<(), Failure> {
        let at = path.to_owned();
        self.change("set_attributes", path, move |tree| {
            tree.set_attributes(&at, &attributes)
        })
        .await
    }
}
