//! The two halves of an open port.
//!
//! Neither ever waits for the line: a port is not flushed, not drained, and nothing asks its modem lines.
//! The writing half gives the driver little at a time, and a timer tells when it may give more.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::io::{Errno, retry_on_intr};
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::{hung_up, is_hang_up};
use super::pace::Pacer;
use super::port::Port;
use super::settings::Settings;
use crate::carrier::{ByteRx, ByteTx};
use crate::io::reserve_some;
use crate::stack;

/// A driver holds so many bytes.
const HELD: usize = 4096;

/// Takes a port apart. Needs the timer of a runtime.
pub(super) fn halves(port: Port, settings: &Settings) -> (SerialRx, SerialTx) {
    let port = Arc::new(port);
    let now = Instant::now();
    let tx = SerialTx {
        port: Arc::clone(&port),
        pacer: Pacer::new(settings.rate(), settings.most_queued(), now),
        timer: Box::pin(sleep_until(now)),
        is_full: false,
        is_closed: false,
    };
    (SerialRx { port }, tx)
}

/// The reading half of a port.
pub(super) struct SerialRx {
    port: Arc<Port>,
}

impl ByteRx for SerialRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if self.port.is_gone() {
            return Err(hung_up());
        }
        reserve_some(into);
        match retry_on_intr(|| stack::read::<HELD>(self.port.fd(), into)) {
            // A line has no end: reads of a terminal say so after a hang-up, again and again.
            Ok(0) => Err(self.port.hang_up()),
            Err(errno) if is_hang_up(errno) => Err(self.port.hang_up()),
            read => Ok(read?),
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.port.is_gone() {
            return Poll::Ready(Ok(()));
        }
        self.port.poll_readable(cx)
    }
}

/// The writing half of a port.
pub(super) struct SerialTx {
    port: Arc<Port>,
    pacer: Pacer,
    /// Runs out when there may be room again; made once, as only a runtime makes timers.
    timer: Pin<Box<Sleep>>,
    /// Whether the driver took nothing the last time, though its queue is short: the peer stopped the line.
    is_full: bool,
    is_closed: bool,
}

impl ByteTx for SerialTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.port.is_gone() {
            return Err(hung_up());
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let room = self.pacer.room(self.port.queued(), Instant::now());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match retry_on_intr(|| write(self.port.fd(), bufs, room)) {
            Ok(0) | Err(Errno::AGAIN) => {
                self.is_full = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            Ok(count) => {
                self.pacer.wrote(count, Instant::now());
                Ok(count)
            }
            Err(errno) if is_hang_up(errno) => Err(self.port.hang_up()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed || self.port.is_gone() {
            return Poll::Ready(Ok(()));
        }
        if self.is_full {
            ready!(self.port.poll_writable(cx))?;
            self.is_full = false;
        }
        loop {
            let now = Instant::now();
            let Some(wait) = self.pacer.wait(self.port.queued(), now) else {
                return Poll::Ready(Ok(()));
            };
            self.timer.as_mut().reset(now + wait);
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// A line has no end that the peer could see: it is free for others once both halves are dropped.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for SerialTx {
    fn drop(&mut self) {
        if !self.port.is_gone() {
            Arc::clone(&self.port).linger(self.pacer.idle_at());
        }
    }
}

/// Writes at most `room` bytes from the front of `bufs`.
fn write(fd: &OwnedFd, bufs: &[IoSlice<'_>], room: usize) -> rustix::io::Result<usize> {
    let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
    if let (Some(one), None) = (filled.next(), filled.next()) {
        return rustix::io::write(fd, one.get(..room).unwrap_or(one));
    }
    // Terminals take slices one at a time. Few bytes are copied: there is never much room.
    let mut together = BytesMut::new();
    for buf in bufs {
        let left = room - together.len();
        together.extend_from_slice(buf.get(..left).unwrap_or(buf));
    }
    rustix::io::write(fd, &together)
}
