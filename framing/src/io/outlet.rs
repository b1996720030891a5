//! The half of a carrier that writes, from batches.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use farref_transport::{BoxFuture, ByteTx, Class, Descriptor, Muxed};

use crate::batch::{Batch, Piece};
use crate::link::StreamKey;

/// Most pieces handed to one write: a batch of bodies has up to 17 fragments, each behind its header, and a message before
/// them.
const SLICES: usize = 36;

/// The half of a carrier that writes.
pub struct Outlet {
    main: Box<dyn ByteTx>,
    /// The streams beside the main one, if the carrier has any.
    lanes: Option<Box<LanesOut>>,
}

/// How far a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all or not all")]
pub enum Written {
    /// All of it.
    All,
    /// The carrier takes no more now: wait with [`Outlet::poll_writable`], and offer the batch to the link again
    /// before the next write, so that what is urgent overtakes what has not begun.
    Blocked,
}

impl Outlet {
    pub(super) fn new(main: Box<dyn ByteTx>, muxed: Option<Arc<dyn Muxed>>) -> Self {
        Self {
            main,
            lanes: muxed.map(|muxed| Box::new(LanesOut::new(muxed))),
        }
    }

    /// There has been nothing to write for a while: gives back memory until there is.
    pub fn rest(&mut self) {
        self.main.rest();
    }

    /// Writes what the carrier takes now.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn write(&mut self, batch: &mut Batch) -> io::Result<Written> {
        if let Some(lanes) = &mut self.lanes {
            return lanes.write(&mut *self.main, batch);
        }
        while !batch.is_empty() {
            let written = match batch.only() {
                Some(bytes) => self.main.try_write(&[IoSlice::new(bytes)]),
                None => write_pieces(&mut *self.main, batch),
            };
            match taken(written)? {
                Some(n) => batch.advance(n),
                None => return Ok(Written::Blocked),
            }
        }
        Ok(Written::All)
    }

    /// Ready when [`write`](Self::write) may make progress after it was blocked, or fails.
    ///
    /// # Errors
    ///
    /// If readiness can't be had any more.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lanes {
            Some(lanes) => lanes.poll_writable(&mut *self.main, cx),
            None => self.main.poll_writable(cx),
        }
    }

    /// Whether written bytes, or the end of a stream, may still be inside: then
    /// [`poll_flush`](Self::poll_flush) must be driven until it is ready.
    #[must_use]
    pub fn is_buffering(&self) -> bool {
        self.main.is_buffering() || self.lanes.as_ref().is_some_and(|lanes| lanes.is_buffering())
    }

    /// Passes on what is inside.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(lanes) = &mut self.lanes {
            ready!(lanes.poll_flush(cx));
        }
        self.main.poll_flush(cx)
    }

    /// Passes on what is inside, then ends this direction.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(lanes) = &mut self.lanes {
            ready!(lanes.poll_flush(cx));
        }
        self.main.poll_close(cx)
    }

    /// A descriptor on which a thread may wait without the runtime, if all that goes goes there.
    #[must_use]
    pub fn descriptor(&self) -> Option<&dyn Descriptor> {
        if self.lanes.is_none() {
            self.main.descriptor()
        } else {
            None
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("native", &self.lanes.is_some())
            .finish_non_exhaustive()
    }
}

/// The streams that we opened beside the main one.
struct LanesOut {
    muxed: Arc<dyn Muxed>,
    sinks: BTreeMap<StreamKey, Sink>,
    /// Streams that are ended and still have something inside.
    ending: Vec<Box<dyn ByteTx>>,
    /// The streams that took no more in the last write.
    blocked: Vec<StreamKey>,
}

/// One stream that is written.
enum Sink {
    Opening(BoxFuture<'static, io::Result<Box<dyn ByteTx>>>),
    Open(Box<dyn ByteTx>),
    /// The peer does not read it any more, and says so elsewhere.
    Gone,
}

impl LanesOut {
    fn new(muxed: Arc<dyn Muxed>) -> Self {
        Self {
            muxed,
            sinks: BTreeMap::new(),
            ending: Vec::new(),
            blocked: Vec::new(),
        }
    }

    /// Writes every stream as far as it goes; one that takes no more does not hold up the others.
    #[inline(never)]
    fn write(&mut self, main: &mut dyn ByteTx, batch: &mut Batch) -> io::Result<Written> {
        self.blocked.clear();
        let mut at = 0_usize;
        while let Some(segment) = batch.segment(at) {
            let stream = segment.stream;
            if self.blocked.contains(&stream) {
                at = at.saturating_add(1);
                continue;
            }
            let written = if stream == StreamKey::MAIN {
                write_some(main, batch.bytes(segment))?
            } else {
                let sink = Self::sink(&self.muxed, &mut self.sinks, stream, segment.class);
                match (&segment.piece, sink) {
                    (_, Sink::Opening(_)) => None,
                    (Piece::Copied { .. } | Piece::Shared(_), sink) => sink.write(batch.bytes(segment)),
                    (Piece::End, _) => {
                        self.end(stream);
                        Some(0)
                    }
                    (Piece::Reset(code), sink) => {
                        if let Sink::Open(tx) = sink {
                            tx.reset(*code);
                        }
                        self.sinks.remove(&stream);
                        Some(0)
                    }
                }
            };
            match written {
                Some(n) => batch.advance_at(at, n),
                None => {
                    self.blocked.push(stream);
                    at = at.saturating_add(1);
                }
            }
        }
        Ok(if batch.is_empty() {
            Written::All
        } else {
            Written::Blocked
        })
    }

    /// The stream, opened if this is the first that is heard of it.
    fn sink<'a>(
        muxed: &Arc<dyn Muxed>,
        sinks: &'a mut BTreeMap<StreamKey, Sink>,
        stream: StreamKey,
        class: Class,
    ) -> &'a mut Sink {
        let sink = sinks.entry(stream).or_insert_with(|| {
            let muxed = Arc::clone(muxed);
            Sink::Opening(Box::pin(async move { muxed.open_uni(class).await }))
        });
        let _ = sink.poll_open(&mut Context::from_waker(Waker::noop()));
        sink
    }

    fn end(&mut self, stream: StreamKey) {
        if let Some(Sink::Open(mut tx)) = self.sinks.remove(&stream)
            && tx
                .poll_close(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        {
            self.ending.push(tx);
        }
    }

    fn poll_writable(&mut self, main: &mut dyn ByteTx, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ready = self.blocked.is_empty();
        for stream in &self.blocked {
            if *stream == StreamKey::MAIN {
                match main.poll_writable(cx) {
                    Poll::Ready(Ok(())) => ready = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
                continue;
            }
            ready |= match self.sinks.get_mut(stream) {
                Some(Sink::Open(tx)) => tx.poll_writable(cx).is_ready(),
                Some(sink) => sink.poll_open(cx).is_ready(),
                None => true,
            };
        }
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn is_buffering(&self) -> bool {
        let buffers = |sink: &Sink| matches!(sink, Sink::Open(tx) if tx.is_buffering());
        !self.ending.is_empty() || self.sinks.values().any(buffers)
    }

    /// Passes on what is inside the streams. One that fails is not the carrier's failure.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ending.retain_mut(|tx| tx.poll_close(cx).is_pending());
        let mut pending = !self.ending.is_empty();
        for sink in self.sinks.values_mut() {
            if let Sink::Open(tx) = sink {
                pending |= tx.poll_flush(cx).is_pending();
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Sink {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Opening(opening) = self {
            *self = match ready!(opening.as_mut().poll(cx)) {
                Ok(tx) => Self::Open(tx),
                Err(_) => Self::Gone, // if the carrier has failed, the main stream says so
            };
        }
        Poll::Ready(())
    }

    /// How many of `bytes` were taken, or `None` if the stream takes no more now.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Opening(_) => None,
            Self::Gone => Some(bytes.len()),
            Self::Open(tx) => write_some(&mut **tx, bytes).unwrap_or_else(|_| {
                *self = Self::Gone;
                Some(bytes.len())
            }),
        }
    }
}

/// How many of `bytes`, which are some, were taken, or `None` if the stream takes no more now.
fn write_some(tx: &mut dyn ByteTx, bytes: &[u8]) -> io::Result<Option<usize>> {
    taken(tx.try_write(&[IoSlice::new(bytes)]))
}

/// Writes what there is in several pieces. Apart, as most batches have one, and the room for many takes much of the stack.
#[inline(never)]
fn write_pieces(tx: &mut dyn ByteTx, batch: &Batch) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let filled = batch.slices(&mut slices);
    tx.try_write(slices.get(..filled).unwrap_or_default())
}

/// How many bytes were taken of some, or `None` if no more are taken now.
#[inline]
fn taken(written: io::Result<usize>) -> io::Result<Option<usize>> {
    match written {
        Ok(n @ 1..) => Ok(Some(n)),
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Err(error) => none_taken(error),
    }
}

#[cold]
fn none_taken(error: io::Error) -> io::Result<Option<usize>> {
    if error.kind() == ErrorKind::WouldBlock {
        Ok(None)
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::limits::Limits;

    /// Takes everything, and counts how often.
    struct Counting(Arc<AtomicUsize>);

    impl ByteTx for Counting {
        fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(pieces.iter().map(|piece| piece.len()).sum())
        }

        fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The last fragment had a write of its own, which woke the peer once more.
    #[test]
    fn a_full_batch_of_a_body_is_one_write() {
        let mut batch = Batch::new();
        batch.put(b"the message");
        let fragment = Bytes::from(vec![1; Limits::default().fragment]);
        while batch.has_room_for_bodies() {
            batch.begin_yielding();
            batch.put(b"the header");
            batch.put_bytes(fragment.clone());
        }
        let writes = Arc::new(AtomicUsize::new(0));
        let mut outlet = Outlet::new(Box::new(Counting(Arc::clone(&writes))), None);
        assert_eq!(outlet.write(&mut batch).unwrap(), Written::All);
        assert_eq!(writes.load(Ordering::Relaxed), 1);
    }
}
