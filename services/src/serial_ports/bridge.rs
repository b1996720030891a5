//! A port over there as a terminal of this machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use farref_netref::stream::Sender;
use farref_netref::{ByteStream, Netref};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::{SerialPorts, Settings};
use crate::file::Failure;

/// Makes a terminal of this machine that is a port over there, for any program that uses serial ports.
///
/// Speed and the like are those of `settings`, whatever the program sets. What comes in before it opens the terminal is
/// there when it does, some thousand bytes of it.
///
/// # Errors
///
/// Those of [`SerialPorts::open`]; there are no terminals left.
///
/// # Cancel safety
///
/// The port is closed.
pub async fn bridge(
    ports: &Netref<dyn SerialPorts>,
    name: &str,
    settings: Settings,
) -> Result<Bridge, Failure> {
    let (ours, theirs, path) = open()?;
    let reads = pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?;
    let writes = pipe::Sender::from_owned_fd_unchecked(ours)?;
    let (sender, bytes) = ByteStream::channel(1);
    let received = ports.call().open(name.to_owned(), settings, bytes).await?;
    let task = tokio::spawn(async move {
        tokio::select! {
            sent = send(reads, sender) => sent,
            written = write(writes, received) => written,
        }
    });
    Ok(Bridge {
        path,
        task,
        _theirs: theirs,
    })
}

/// A terminal that is a port over there, until this is dropped.
#[derive(Debug)]
pub struct Bridge {
    path: PathBuf,
    task: JoinHandle<io::Result<()>>,
    /// Kept open: a terminal that nobody has open hangs up.
    _theirs: OwnedFd,
}

impl Bridge {
    /// What a program opens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until it ends by itself, and says why: the port is gone, or the connection to its machine lost for good.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ended(&mut self) -> io::Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error.into(),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A terminal of bytes: our side, theirs, and its path.
fn open() -> io::Result<(OwnedFd, OwnedFd, PathBuf)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    // That it is not inherited can be said at once on some systems only.
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let path = ptsname(&ours, Vec::new())?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(&path, flags, Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    let flags = rustix::fs::fcntl_getfl(ours.as_fd())?;
    rustix::fs::fcntl_setfl(ours.as_fd(), flags | OFlags::NONBLOCK)?;
    Ok((ours, theirs, path))
}

/// What the program writes.
async fn send(reads: pipe::Receiver, mut sender: Sender<Bytes>) -> io::Result<()> {
    let mut room = BytesMut::new();
    loop {
        reads.readable().await?;
        room.reserve(PIECE);
        match reads.try_read_buf(&mut room) {
            Ok(0) => return Ok(()),
            Ok(_) => sender.send(room.split().freeze()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the program reads.
async fn write(writes: pipe::Sender, mut received: ByteStream) -> io::Result<()> {
    while let Some(piece) = received.next().await {
        let piece = piece?;
        let mut rest = &*piece;
        while !rest.is_empty() {
            match writes.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => writes.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Bytes that are read at a time, at most.
const PIECE: usize = 4 << 10;
