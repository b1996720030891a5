//! The side that uses the file.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use farref_netref::{Call, Netref};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use super::host::moved;
use super::{Blocking, Failure, File};

/// A far file as tokio's `AsyncRead`, `AsyncBufRead`, `AsyncWrite` and `AsyncSeek`, and by way of
/// [`blocking`](Self::blocking) as those of `std::io`.
///
/// It has a position of its own. Up to 1 MiB is read ahead once it is read from one position on, and up to 1 MiB of what was
/// written is on its way. What a write failed with is told by a later write, flush or read, at the latest by the flush:
/// as with a [`BufWriter`](std::io::BufWriter), flush before it is dropped.
///
/// # Cancel safety
///
/// Reading and seeking may be given up at any time; nothing is lost.
pub struct Handle {
    file: Netref<dyn File>,
    has_positions: bool,
    /// Where the next byte is read or written.
    at: u64,
    reading: Reading,
    writing: Writing,
    seeking: Option<Seeking>,
}

/// What was read, and is being read.
///
/// # Invariant
///
/// `piece` begins at the position; the pulls follow it without a gap, and `asked` is where the last of them ends.
#[derive(Default)]
struct Reading {
    piece: Bytes,
    pulls: VecDeque<(u32, Call<Result<Bytes, Failure>>)>,
    asked: u64,
    /// Bytes of the next pull, or 0 for the first.
    share: u32,
    /// Pulls that may be under way, or 0 for the first.
    most: usize,
}

/// What is to be written, and is being written.
///
/// # Invariant
///
/// `gathered` ends at the position, if there is any.
#[derive(Default)]
struct Writing {
    gathered: BytesMut,
    calls: VecDeque<Call<Result<(), Failure>>>,
    flushing: Option<Call<Result<(), Failure>>>,
    /// Something was written since the last flush.
    is_dirty: bool,
}

enum Seeking {
    /// To here, once that is known to be no nonsense.
    To(u64),
    /// So far from the end, which is asked for.
    FromEnd(i64, Option<Call<Result<u64, Failure>>>),
}

/// What is read first; it doubles from there.
const FIRST: u32 = 32 << 10;
/// Bytes of one call, at most: with what is around them they fit what may be sent without asking (PROTOCOL.md § 3.4).
const SHARE: u32 = 252 << 10;
/// Calls under way, at most.
const CALLS: usize = 4;

impl Handle {
    /// Uses a file with positions, from its beginning.
    #[must_use]
    pub fn new(file: Netref<dyn File>) -> Self {
        Self::with(file, true)
    }

    /// Uses what has no positions, such as a pipe: what was read ahead is gone for others, and it cannot be sought.
    #[must_use]
    pub fn sequential(file: Netref<dyn File>) -> Self {
        Self::with(file, false)
    }

    fn with(file: Netref<dyn File>, has_positions: bool) -> Self {
        Self {
            file,
            has_positions,
            at: 0,
            reading: Reading::default(),
            writing: Writing::default(),
            seeking: None,
        }
    }

    /// The same for threads, which wait; see [`place`](farref_netref::place) for where they may.
    #[must_use]
    pub const fn blocking(self) -> Blocking {
        Blocking(self)
    }

    /// The far file.
    #[must_use]
    pub const fn file(&self) -> &Netref<dyn File> {
        &self.file
    }

    /// The length of the whole, with what was written here.
    ///
    /// # Errors
    ///
    /// The file has no length, or is out of reach; a write failed.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn len(&mut self) -> io::Result<u64> {
        std::future::poll_fn(|context| self.poll_written(context)).await?;
        Ok(self.file.call().len().await?)
    }

    /// Cuts the file off, or fills it up with zeros. The position stays.
    ///
    /// # Errors
    ///
    /// The file cannot, or is out of reach; a write failed.
    ///
    /// # Cancel safety
    ///
    /// It may be done or not.
    pub async fn set_len(&mut self, len: u64) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_written(context)).await?;
        if self.has_positions {
            self.forget_read();
        }
        Ok(self.file.call().set_len(len).await?)
    }

    /// Returns when what was written is on the disk over there.
    ///
    /// # Errors
    ///
    /// A write failed, or the file is out of reach.
    ///
    /// # Cancel safety
    ///
    /// It may be done or not.
    pub async fn sync(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_written(context)).await?;
        Ok(self.file.call().sync().await?)
    }

    /// What was read and not used.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.reading.piece
    }

    /// Waits until something was read, or there is no more.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.reading.piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.has_positions {
            // What is read was written before.
            ready!(self.poll_written(context))?;
        } else {
            self.send();
        }
        let reading = &mut self.reading;
        if reading.pulls.is_empty() {
            reading.asked = self.at;
        }
        reading.share = reading.share.max(FIRST);
        while reading.pulls.len() < reading.most.max(1) {
            let (len, calls) = (reading.share, self.file.call());
            let pull = if self.has_positions {
                calls.read_at(reading.asked, len)
            } else {
                // It may be silent for as long as it likes.
                calls.read(len).timeout(Duration::MAX)
            };
            reading.pulls.push_back((len, pull.start()));
            reading.asked = reading.asked.saturating_add(len.into());
        }
        let Some((len, pull)) = reading.pulls.front_mut() else {
            return Poll::Ready(Ok(()));
        };
        let len = *len as usize;
        let read = ready!(Pin::new(pull).poll(context));
        reading.pulls.pop_front();
        match read {
            Ok(piece) if !piece.is_empty() => {
                reading.share = reading.share.saturating_mul(2).min(SHARE);
                reading.most = (reading.most.max(1) * 2).min(CALLS);
                if self.has_positions && piece.len() != len {
                    // The end: what was asked for behind it does not follow.
                    reading.pulls.clear();
                }
                reading.piece = piece;
                Poll::Ready(Ok(()))
            }
            // The end, or a failure: whoever asks again looks again.
            other => {
                // Without positions, what is under way behind it is not read a second time.
                if self.has_positions {
                    self.forget_read();
                }
                Poll::Ready(other.map(drop).map_err(io::Error::from))
            }
        }
    }

    pub(super) fn use_up(&mut self, count: usize) {
        let count = count.min(self.reading.piece.len());
        self.reading.piece.advance(count);
        self.at = self.at.saturating_add(count as u64);
    }

    /// Goes to another position.
    fn go(&mut self, to: u64) {
        let ahead = to
            .checked_sub(self.at)
            .and_then(|ahead| usize::try_from(ahead).ok());
        match ahead {
            Some(0) => {}
            Some(ahead) if ahead <= self.reading.piece.len() => self.reading.piece.advance(ahead),
            _ => {
                self.send();
                self.forget_read();
            }
        }
        self.at = to;
    }

    fn forget_read(&mut self) {
        // Calls that are dropped are given up over there.
        self.reading = Reading::default();
    }

    /// Whether so many bytes more can be written without sending any, or waiting.
    pub(super) fn only_gathers(&self, len: usize) -> bool {
        let gathered = self.writing.gathered.len().saturating_add(len);
        gathered < SHARE as usize && self.writing.calls.len() < CALLS
    }

    /// Takes in what is to be written.
    pub(super) fn gather(&mut self, bytes: &[u8]) {
        if self.has_positions {
            // What was read may be what is written now.
            self.forget_read();
        }
        self.writing.gathered.extend_from_slice(bytes);
        self.at = self.at.saturating_add(bytes.len() as u64);
    }

    /// Sends what was gathered.
    fn send(&mut self) {
        let writing = &mut self.writing;
        if writing.gathered.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut writing.gathered).freeze();
        let calls = self.file.call();
        let write = if self.has_positions {
            calls.write_at(self.at.saturating_sub(bytes.len() as u64), bytes)
        } else {
            calls.write(bytes).timeout(Duration::MAX)
        };
        writing.calls.push_back(write.start());
        writing.is_dirty = true;
    }

    /// Waits until so many writes are under way at most.
    fn poll_writes(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.writing.calls.len() > most {
            let Some(write) = self.writing.calls.front_mut() else {
                break;
            };
            let written = ready!(Pin::new(write).poll(context));
            self.writing.calls.pop_front();
            written?;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until all is written.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send();
        self.poll_writes(0, context)
    }

    fn poll_seek(&mut self, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        match &mut self.seeking {
            None => {}
            Some(Seeking::To(to)) => {
                let to = *to;
                self.seeking = None;
                self.go(to);
            }
            Some(Seeking::FromEnd(..)) => {
                ready!(self.poll_written(context))?;
                if let Some(Seeking::FromEnd(offset, len)) = &mut self.seeking {
                    let len = len.get_or_insert_with(|| self.file.call().len().start());
                    let len = ready!(Pin::new(len).poll(context));
                    let to = len.map_err(io::Error::from).and_then(|len| moved(len, *offset));
                    self.seeking = None;
                    self.go(to?);
                }
            }
        }
        Poll::Ready(Ok(self.at))
    }
}

impl AsyncRead for Handle {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_fill(context))?;
        let piece = this.buffered();
        let count = piece.len().min(into.remaining());
        into.put_slice(piece.get(..count).unwrap_or_default());
        this.use_up(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Handle {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(context))?;
        Poll::Ready(Ok(this.buffered()))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        self.get_mut().use_up(count);
    }
}

impl AsyncWrite for Handle {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_writes(CALLS - 1, context))?;
        let room = (SHARE as usize).saturating_sub(this.writing.gathered.len());
        let some = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        this.gather(some);
        if this.writing.gathered.len() >= SHARE as usize {
            this.send();
        }
        Poll::Ready(Ok(some.len()))
    }

    /// Waits until all is written, and was passed on over there.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_written(context))?;
        if std::mem::take(&mut this.writing.is_dirty) {
            this.writing.flushing = Some(this.file.call().flush().start());
        }
        if let Some(flush) = &mut this.writing.flushing {
            let flushed = ready!(Pin::new(flush).poll(context));
            this.writing.flushing = None;
            flushed?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl AsyncSeek for Handle {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        if !this.has_positions {
            return Err(io::ErrorKind::NotSeekable.into());
        }
        this.seeking = Some(match to {
            SeekFrom::Start(to) => Seeking::To(to),
            SeekFrom::Current(offset) => Seeking::To(moved(this.at, offset)?),
            SeekFrom::End(offset) => Seeking::FromEnd(offset, None),
        });
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        self.get_mut().poll_seek(context)
    }
}

/// What was written is written, though nobody is told how that went.
impl Drop for Handle {
    fn drop(&mut self) {
        self.send();
        for write in self.writing.calls.drain(..) {
            write.detach();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("file", &self.file)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
