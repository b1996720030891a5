//! What a child writes, at the pace of who reads it.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref_netref::Result;
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::child::Child;

/// A pipe that the child writes to, or the terminal that it runs on.
pub(super) struct Output {
    /// Tokio asks nothing of what it calls a pipe but that it can be watched. Nothing once that has ended.
    pipe: Option<Receiver>,
    room: BytesMut,
    child: Arc<Child>,
    progress: Arc<Progress>,
    /// Ready when the child has ended, once.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// How far an output was passed on.
pub(super) struct Progress(watch::Sender<Passed>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// Nobody reads it, so nobody waits for it either.
    Unread,
    /// There may be something in it.
    Some,
    /// All that the child wrote is on its way.
    All,
}

impl Output {
    /// Reads `fd`, which nobody else does. Within a runtime.
    pub(super) fn new(fd: OwnedFd, child: &Arc<Child>) -> io::Result<(Self, Arc<Progress>)> {
        set_nonblocking(&fd)?;
        let progress = Arc::new(Progress(watch::Sender::new(Passed::Unread)));
        let mut ended = child.ended();
        let output = Self {
            pipe: Some(Receiver::from_owned_fd_unchecked(fd)?),
            room: BytesMut::new(),
            child: Arc::clone(child),
            progress: Arc::clone(&progress),
            ended: Some(Box::pin(async move {
                // It ends by being dropped otherwise.
                let _ = ended.wait_for(Option::is_some).await;
            })),
        };
        Ok((output, progress))
    }

    /// Reads what is there. The end of a terminal is an error of input.
    fn poll_pipe(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(pipe) = &self.pipe else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        loop {
            ready!(pipe.poll_read_ready(context))?;
            if self.room.capacity() < LEAST {
                self.room.reserve(PIECE);
            }
            // Not by the way on which a short read tells the reactor that nothing is left: of a terminal that is not true.
            match pipe.try_read_buf(&mut self.room) {
                Ok(_) => return Poll::Ready(Ok(self.room.split().freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    return Poll::Ready(Ok(Bytes::new()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// There is nothing to read just now.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(ended) = &mut self.ended else {
            return Poll::Ready(());
        };
        ready!(ended.as_mut().poll(context));
        self.ended = None;
        Poll::Ready(())
    }

    fn close(&mut self) {
        if self.pipe.take().is_some() {
            self.progress.0.send_replace(Passed::All);
            self.child.output_ended();
        }
    }
}

impl futures_core::Stream for Output {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        let read = match this.poll_pipe(context) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                let mut passed = Passed::Some;
                if this.poll_ended(context).is_ready() {
                    // What it wrote last may have come since.
                    match this.poll_pipe(context) {
                        Poll::Ready(Ok(piece)) if !piece.is_empty() => {
                            return Poll::Ready(Some(Ok(piece)));
                        }
                        Poll::Ready(_) => {
                            this.close();
                            return Poll::Ready(None);
                        }
                        // Whoever else has the pipe may go on writing.
                        Poll::Pending => passed = Passed::All,
                    }
                }
                this.progress.0.send_if_modified(|before| {
                    let is_news = *before != passed;
                    *before = passed;
                    is_news
                });
                return Poll::Pending;
            }
        };
        Poll::Ready(match read {
            Ok(piece) if !piece.is_empty() => Some(Ok(piece)),
            Ok(_) => {
                this.close();
                None
            }
            Err(error) => {
                this.close();
                Some(Err(error.into()))
            }
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.close();
    }
}

impl Progress {
    /// Waits until what the child wrote is on its way to whoever reads it, or it is clear that they take their time.
    pub(super) async fn passed_on(&self) {
        let mut passed = self.0.subscribe();
        let all = passed.wait_for(|passed| *passed != Passed::Some);
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

/// The flag is of the open file, which nobody else has.
pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// As much as a pipe holds.
const PIECE: usize = 64 << 10;

/// With less room than that, more is made.
const LEAST: usize = 4 << 10;

/// How long the end of a child is held back for a reader that pauses.
const PATIENCE: Duration = Duration::from_secs(1);
