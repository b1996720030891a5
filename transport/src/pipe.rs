//! Byte streams over a descriptor of any kind: a pipe, a socket, a terminal, a file.
//!
//! Knows which kinds the reactor can watch, and that "do not wait" is a flag of the open file, which
//! other processes may share: what was inherited is opened anew where that works, and put back as it was
//! where not. Whose descriptor it is and what the bytes mean is for others.
//!
//! | kind                | readiness                     | inherited                             |
//! |---------------------|-------------------------------|---------------------------------------|
//! | pipe, FIFO          | the reactor                   | opened anew (Linux), else put back    |
//! | terminal            | the reactor; hang-up is the end | as a pipe                           |
//! | socket              | the reactor                   | put back                              |
//! | file, `/dev/null`   | always: it is read and written in place | left alone                  |

#[cfg(feature = "stdio")]
mod adopt;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "stdio")]
pub(crate) use adopt::{Access, PutBack, adopt};
use bytes::BytesMut;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::carrier::{ByteRx, ByteTx};
use crate::descriptor::{Alarm, Descriptor, wait_readable, wait_writable};
use crate::io::reserve_some;
use crate::stack;

/// Makes a descriptor that nobody else shares one that does not wait.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    Ok(fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// The reactor belongs to a runtime; without one tokio panics.
pub(crate) fn check_runtime() -> io::Result<()> {
    tokio::runtime::Handle::try_current()
        .map(drop)
        .map_err(io::Error::other)
}

/// The reading half.
pub(crate) struct PipeRx {
    source: Source,
    kind: Kind,
}

enum Source {
    /// Tokio asks nothing of what it calls a pipe but that it can be watched.
    Watched(Receiver),
    Direct(OwnedFd),
}

impl PipeRx {
    /// Reads from `fd`, which does not wait if its kind can be watched. Within a runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = Kind::of(&fd)?;
        let source = if is_watched(&fd)? {
            Source::Watched(Receiver::from_owned_fd_unchecked(fd)?)
        } else {
            Source::Direct(fd)
        };
        Ok(Self { source, kind })
    }
}

impl AsFd for PipeRx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Watched(pipe) => pipe.as_fd(),
            Source::Direct(fd) => fd.as_fd(),
        }
    }
}

impl ByteRx for PipeRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        let read = retry(|| match &self.source {
            // The reactor is only as fresh as its last turn: whom it has not called ready is asked itself.
            Source::Watched(pipe) if pipe.try_io(|| Ok(())).is_ok() => pipe.try_read_buf(into),
            _ => read(self.as_fd(), into),
        });
        self.kind.read_of(read)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        reserve_some(into);
        match &mut self.source {
            // Tokio knows by a read that did not fill the buffer that nothing is left. A terminal hands
            // out one line at a time, so there that would be wrong.
            Source::Watched(pipe) if self.kind != Kind::Terminal => {
                tokio_util::io::poll_read_buf(Pin::new(pipe), cx, into)
            }
            _ => loop {
                match self.try_read(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
                std::task::ready!(self.poll_readable(cx))?;
            },
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.source {
            Source::Watched(pipe) => pipe.poll_read_ready(cx),
            Source::Direct(_) => Poll::Ready(Ok(())),
        }
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        Some(self)
    }
}

impl Descriptor for PipeRx {
    fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
        wait_readable(self, alarm, timeout)
    }

    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait_writable(self, timeout)
    }
}

/// The writing half. Closing it closes the descriptor; a socket is shut down first.
pub(crate) struct PipeTx {
    /// None once closed.
    sink: Option<Sink>,
    kind: Kind,
}

enum Sink {
    Watched(Sender),
    Direct(OwnedFd),
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Watched(pipe) => pipe.as_fd(),
            Self::Direct(fd) => fd.as_fd(),
        }
    }
}

impl PipeTx {
    /// Writes to `fd`, which does not wait if its kind can be watched. Within a runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = Kind::of(&fd)?;
        let sink = if is_watched(&fd)? {
            Sink::Watched(Sender::from_owned_fd_unchecked(fd)?)
        } else {
            Sink::Direct(fd)
        };
        Ok(Self {
            sink: Some(sink),
            kind,
        })
    }

    fn close(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        if self.kind == Kind::Socket {
            // The other half may hold the same socket. That the peer was faster is no error.
            let _ = rustix::net::shutdown(&sink, rustix::net::Shutdown::Write);
        }
    }
}

impl ByteTx for PipeTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(sink) = &self.sink else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let written = retry(|| match sink {
            // Inside, so that the reactor hears of a pipe that is full.
            Sink::Watched(pipe) if pipe.try_io(|| Ok(())).is_ok() => pipe.try_io(|| write(pipe, bufs)),
            _ => write(sink, bufs),
        });
        self.kind.write_of(written)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.sink {
            Some(Sink::Watched(pipe)) => pipe.poll_write_ready(cx),
            Some(Sink::Direct(_)) | None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        Some(self)
    }
}

impl Descriptor for PipeTx {
    fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
        self.sink
            .as_ref()
            .map_or(Ok(true), |sink| wait_readable(sink, alarm, timeout))
    }

    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.sink
            .as_ref()
            .map_or(Ok(true), |sink| wait_writable(sink, timeout))
    }
}

impl Drop for PipeTx {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a descriptor is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipe,
    Socket,
    Terminal,
    /// A file, a disk, `/dev/null`.
    Other,
}

impl Kind {
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        Ok(match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Fifo => Self::Pipe,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice if std::io::IsTerminal::is_terminal(&fd.as_fd()) => Self::Terminal,
            _ => Self::Other,
        })
    }

    /// A terminal that hung up says so by an error of input, others by the end.
    fn read_of(self, read: io::Result<usize>) -> io::Result<usize> {
        match read {
            Err(error) if self == Self::Terminal && is(&error, Errno::IO) => Ok(0),
            read => read,
        }
    }

    /// As for `read_of`.
    fn write_of(self, written: io::Result<usize>) -> io::Result<usize> {
        match written {
            Err(error) if self == Self::Terminal && is(&error, Errno::IO) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

/// Whether the reactor can watch `fd`. Files are always ready, and it refuses them; of the devices only
/// the system knows which.
fn is_watched(fd: &OwnedFd) -> io::Result<bool> {
    match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Fifo | FileType::Socket => Ok(true),
        FileType::CharacterDevice => match Receiver::from_owned_fd_unchecked(fd.try_clone()?) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error),
        },
        _ => Ok(false),
    }
}

/// Reads, whatever the reactor knows. What comes is mostly an answer or two; whoever has more to say is seen by the
/// reactor.
fn read(fd: impl AsFd, into: &mut BytesMut) -> io::Result<usize> {
    Ok(stack::read::<{ 16 * 1024 }>(fd, into)?)
}

/// Writes, whatever the reactor knows.
fn write(fd: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    // More than that at once is an error on every system.
    const MOST: usize = 1024;
    if let [one] = bufs {
        return Ok(rustix::io::write(fd, one)?);
    }
    Ok(rustix::io::writev(fd, bufs.get(..MOST).unwrap_or(bufs))?)
}

/// Again, when a signal came in between.
fn retry(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

#[cfg(test)]
#[cfg(feature = "stdio")]
mod tests;
