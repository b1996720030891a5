//! The half of a carrier that reads, into one buffer for each stream.

use std::fmt;
use std::io::{self, ErrorKind, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use farref_transport::{BoxFuture, ByteRx, Descriptor, Muxed};

use super::placement::Placement;
use crate::link::StreamKey;

/// Spare room that a read begins with: most connections have little to say.
const READ_LEAST: usize = 512;
/// How often that is doubled at most.
const DOUBLINGS: u8 = 7;
/// After so many reads in a row that leave nearly all of it there is less: before a large message often come a credit, an
/// acknowledgement, or both.
const SHORT_READS: u8 = 4;
/// Spare room that reads grow to while they fill it, in bytes.
pub const READ_MOST: usize = READ_LEAST << DOUBLINGS;
/// Longest block that is read at once, in bytes, about: a message may be a part of one.
pub const BLOCK_MOST: usize = 4 * READ_MOST;
/// Most streams of the peer's that are read at once: every lane that the limits admit, and some that end.
const STREAMS: usize = 1280;

/// The half of a carrier that reads.
pub struct Inlet {
    main: Source,
    /// The streams beside the main one, if the carrier has any.
    lanes: Option<Box<LanesIn>>,
}

/// What [`Inlet::try_read`] has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadFrom {
    /// The stream whose [`buffer`](Inlet::buffer) has grown, or some of whose bytes were [placed](Inlet::placement).
    pub stream: StreamKey,
    /// Nothing follows on it.
    pub end: bool,
    /// Bytes that were read.
    pub len: usize,
}

impl Inlet {
    pub(super) fn new(main: Box<dyn ByteRx>, muxed: Option<Arc<dyn Muxed>>) -> Self {
        Self {
            main: Source::new(main),
            lanes: muxed.map(|muxed| Box::new(LanesIn::new(muxed))),
        }
    }

    /// Reads once what is there, and tells for which stream. `None` once the main stream has ended: then nothing
    /// more comes.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](ErrorKind::WouldBlock) if there is nothing now. Any other: the carrier is lost.
    pub fn try_read(&mut self) -> io::Result<Option<ReadFrom>> {
        if let Some(lanes) = &mut self.lanes {
            return lanes.try_read(&mut self.main);
        }
        if self.main.ended {
            return Ok(None);
        }
        let len = self.main.read()?;
        Ok(Some(self.main.read_from(StreamKey::MAIN, len)))
    }

    /// [`try_read`](Self::try_read) where there is something, else a promise to wake: for whoever reads in a loop.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<ReadFrom>>> {
        if self.lanes.is_none() && !self.main.ended {
            let len = ready!(self.main.poll_read(cx))?;
            return Poll::Ready(Ok(Some(self.main.read_from(StreamKey::MAIN, len))));
        }
        loop {
            match self.try_read() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            ready!(self.poll_readable(cx))?;
        }
    }

    /// Ready when [`try_read`](Self::try_read) may make progress, has reached the end, or fails.
    ///
    /// # Errors
    ///
    /// If readiness can't be had any more.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let main = if self.main.ended {
            Poll::Ready(Ok(()))
        } else {
            self.main.rx.poll_readable(cx)
        };
        match &mut self.lanes {
            Some(lanes) if main.is_pending() => lanes.poll_readable(cx),
            _ => main,
        }
    }

    /// The bytes of `stream` that were read and not consumed. Empty for a stream that is gone.
    pub fn buffer(&mut self, stream: StreamKey) -> &mut BytesMut {
        match &mut self.lanes {
            Some(lanes) if stream != StreamKey::MAIN => lanes.buffer(stream),
            _ => &mut self.main.buffer,
        }
    }

    /// What a link has lent, if it has.
    #[inline]
    pub fn lent(&mut self) -> Option<&mut Placement> {
        Some(&mut self.main.placement).filter(|placement| placement.is_lent())
    }

    /// Where the next bytes of the main stream belong, for the link to tell. `None` where they can only be read into the buffer.
    pub fn placement(&mut self) -> Option<&mut Placement> {
        (self.lanes.is_none() && self.main.rx.is_read_vectored()).then_some(&mut self.main.placement)
    }

    /// Takes the carrier out of the reactor, for a thread that reads and waits by itself; see
    /// [`ByteRx::leave_reactor`]. `None` where not all that comes comes by one descriptor.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn Descriptor>>> {
        if self.lanes.is_some() || self.main.ended {
            return Ok(None);
        }
        self.main.rx.leave_reactor()
    }

    /// [`try_read`](Self::try_read), but a carrier that has left the reactor waits for a moment; see
    /// [`ByteRx::read_soon`].
    ///
    /// # Errors
    ///
    /// As for [`try_read`](Self::try_read).
    pub fn read_soon(&mut self) -> io::Result<Option<ReadFrom>> {
        if self.lanes.is_some() || self.main.ended {
            return self.try_read();
        }
        let len = self.main.read_soon()?;
        Ok(Some(self.main.read_from(StreamKey::MAIN, len)))
    }

    /// Brings the carrier back to the reactor, if it has left that.
    ///
    /// # Errors
    ///
    /// The carrier is lost.
    pub fn join_reactor(&mut self) -> io::Result<()> {
        self.main.rx.join_reactor()
    }

    /// Nothing has come for a while: gives back memory until something does.
    pub fn rest(&mut self) {
        self.main.rest();
        if let Some(lanes) = &mut self.lanes {
            lanes.sources.iter_mut().for_each(|(_, source)| source.rest());
        }
    }

    /// A descriptor on which a thread may wait without the runtime, if all that comes comes there.
    #[must_use]
    pub fn descriptor(&self) -> Option<&dyn Descriptor> {
        if self.lanes.is_none() {
            self.main.rx.descriptor()
        } else {
            None
        }
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("native", &self.lanes.is_some())
            .finish_non_exhaustive()
    }
}

/// One stream that is read.
struct Source {
    rx: Box<dyn ByteRx>,
    buffer: BytesMut,
    /// Where what comes next belongs, if not there.
    placement: Placement,
    /// Spare room for the next read is [`READ_LEAST`], so often doubled: once more when a read fills it, once less when some in
    /// a row leave nearly all of it.
    doublings: u8,
    /// How many in a row have.
    short: u8,
    ended: bool,
}

impl Source {
    fn new(rx: Box<dyn ByteRx>) -> Self {
        Self {
            rx,
            buffer: BytesMut::new(),
            placement: Placement::default(),
            doublings: 0,
            short: 0,
            ended: false,
        }
    }

    /// Reads once; 0 at the end.
    fn read(&mut self) -> io::Result<usize> {
        let placed = self.read_placed(|rx, bufs| Poll::Ready(rx.try_read_vectored(bufs)));
        if let Some(Poll::Ready(read)) = placed {
            return read;
        }
        let spare = self.reserve();
        let n = self.rx.try_read(&mut self.buffer)?;
        Ok(self.note(n, spare))
    }

    /// [`read`](Self::read), after a moment's wait if need be.
    fn read_soon(&mut self) -> io::Result<usize> {
        if self.placement.is_lent() {
            match self.read() {
                // What comes during the wait is taken by way of the buffer.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
        let spare = self.reserve();
        let n = self.rx.read_soon(&mut self.buffer)?;
        Ok(self.note(n, spare))
    }

    /// [`read`](Self::read), or a promise to wake.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(placed) = self.read_placed(|rx, bufs| rx.poll_read_vectored(cx, bufs)) {
            return placed;
        }
        if self.buffer.capacity() == 0 {
            ready!(self.rx.poll_readable(cx))?;
        }
        let spare = self.reserve();
        let n = ready!(self.rx.poll_read(cx, &mut self.buffer))?;
        Poll::Ready(Ok(self.note(n, spare)))
    }

    /// Reads what comes to where it belongs, if that is known.
    #[inline]
    fn read_placed(
        &mut self,
        read: impl FnOnce(&mut dyn ByteRx, &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Option<Poll<io::Result<usize>>> {
        let rx = &mut *self.rx;
        let placed = self.placement.read(&mut self.buffer, |bufs| read(rx, bufs))?;
        if let Poll::Ready(Ok(n)) = placed {
            self.ended = n == 0;
        }
        Some(placed)
    }

    /// What is told of a read of `len` bytes.
    const fn read_from(&self, stream: StreamKey, len: usize) -> ReadFrom {
        ReadFrom {
            stream,
            end: self.ended,
            len,
        }
    }

    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.release();
            self.doublings = 0;
        }
        self.placement.rest();
        self.rx.rest();
    }

    /// Spare room for the next read.
    const fn want(&self) -> usize {
        READ_LEAST << self.doublings
    }

    /// Makes room for the next read, and says how much there is.
    fn reserve(&mut self) -> usize {
        let want = self.want();
        if self.buffer.is_empty() && self.buffer.capacity() > want << 1 {
            self.release(); // the torrent is over
        }
        let spare = self.buffer.capacity().saturating_sub(self.buffer.len());
        if spare < want >> 1 {
            self.buffer.reserve(want);
        }
        self.buffer.capacity().saturating_sub(self.buffer.len())
    }

    #[cold]
    fn release(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Learns from a read of `n` bytes into `spare`.
    fn note(&mut self, n: usize, spare: usize) -> usize {
        if n >= spare {
            self.doublings = self.doublings.saturating_add(1).min(DOUBLINGS);
        }
        self.short = if n < self.want() >> 4 {
            self.short.saturating_add(1)
        } else {
            0
        };
        if self.short == SHORT_READS {
            self.doublings = self.doublings.saturating_sub(1);
            self.short = 0;
        }
        self.ended = n == 0;
        n
    }
}

/// The streams that the peer opened beside the main one.
struct LanesIn {
    muxed: Arc<dyn Muxed>,
    sources: Vec<(StreamKey, Source)>,
    /// Number of the next stream.
    next: u64,
    /// Where the search for something to read begins.
    turn: usize,
    /// The main stream was read last: the others come first.
    main_last: bool,
    accepting: Option<BoxFuture<'static, io::Result<Box<dyn ByteRx>>>>,
    /// No more streams will come.
    closed: bool,
    /// Stands for the buffer of a stream that is gone.
    gone: BytesMut,
}

impl LanesIn {
    fn new(muxed: Arc<dyn Muxed>) -> Self {
        Self {
            muxed,
            sources: Vec::new(),
            next: 1,
            turn: 0,
            main_last: false,
            accepting: None,
            closed: false,
            gone: BytesMut::new(),
        }
    }

    fn try_read(&mut self, main: &mut Source) -> io::Result<Option<ReadFrom>> {
        self.sources.retain(|(_, source)| !source.ended);
        if self.main_last
            && let Some(read) = self.read_any()
        {
            self.main_last = false;
            return Ok(Some(read));
        }
        if main.ended {
            return Ok(self.read_any());
        }
        match main.read() {
            Ok(len) => {
                self.main_last = true;
                Ok(Some(main.read_from(StreamKey::MAIN, len)))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.read_any().map(Some).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Reads one of the streams, in turn. One that fails was given up by the peer, which says so elsewhere: it is
    /// reported as lost. If the carrier has failed, the main stream says so.
    fn read_any(&mut self) -> Option<ReadFrom> {
        for step in 0..self.sources.len() {
            let at = self
                .turn
                .saturating_add(step)
                .checked_rem(self.sources.len())
                .unwrap_or(0);
            let Some((stream, source)) = self.sources.get_mut(at) else {
                continue;
            };
            if source.ended {
                continue;
            }
            match source.read() {
                Ok(len) => {
                    self.turn = at.saturating_add(1);
                    return Some(source.read_from(*stream, len));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    source.ended = true;
                    return Some(ReadFrom {
                        stream: stream.lost(),
                        end: true,
                        len: 0,
                    });
                }
            }
        }
        None
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.accept(cx);
        let mut ready = false;
        for (_, source) in &mut self.sources {
            ready |= source.ended || source.rx.poll_readable(cx).is_ready();
        }
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Takes the streams that the peer has opened.
    fn accept(&mut self, cx: &mut Context<'_>) {
        while !self.closed && self.sources.len() < STREAMS {
            let muxed = &self.muxed;
            let accepting = self.accepting.get_or_insert_with(|| {
                let muxed = Arc::clone(muxed);
                Box::pin(async move { muxed.accept_uni().await })
            });
            match accepting.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(rx)) => {
                    self.sources.push((StreamKey::new(self.next), Source::new(rx)));
                    self.next = self.next.saturating_add(1);
                }
                Poll::Ready(Err(_)) => self.closed = true,
            }
            self.accepting = None;
        }
    }

    fn buffer(&mut self, stream: StreamKey) -> &mut BytesMut {
        match self.sources.iter_mut().find(|(key, _)| *key == stream) {
            Some((_, source)) => &mut source.buffer,
            None => {
                self.gone.clear();
                &mut self.gone
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::task::Waker;

    use farref_transport::memory;

    use super::*;

    /// Between two large messages, credits and acknowledgements halved it again and again.
    #[test]
    fn a_few_short_reads_leave_the_room_that_long_ones_need() {
        let (near, mut far) = memory::pair(4 * READ_MOST);
        let mut source = Source::new(near.rx);
        let mut read = |source: &mut Source, len: usize| {
            far.tx.try_write(&[IoSlice::new(&vec![1; len])]).unwrap();
            while source.buffer.len() < len {
                source.read().unwrap();
            }
            source.buffer.clear();
        };
        read(&mut source, 3 * READ_MOST);
        assert_eq!(source.want(), READ_MOST);
        for _ in 0..3 {
            (0..3).for_each(|_| read(&mut source, 8));
            assert_eq!(source.want(), READ_MOST);
            read(&mut source, READ_MOST);
        }
        (0..100).for_each(|_| read(&mut source, 8));
        assert_eq!(source.want(), READ_LEAST);
    }

    #[test]
    fn a_stream_that_rests_has_no_buffer_until_something_comes() {
        let (near, mut far) = memory::pair(1024);
        let mut inlet = Inlet::new(near.rx, None);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(inlet.poll_read(&mut context).is_pending());
            assert_eq!(inlet.buffer(StreamKey::MAIN).capacity(), 0);
            far.tx.try_write(&[IoSlice::new(b"half a frame")]).unwrap();
            assert!(inlet.poll_read(&mut context).is_ready());
            inlet.rest();
            let buffer = inlet.buffer(StreamKey::MAIN);
            assert_eq!(&buffer[..], b"half a frame", "what was not handled stays");
            buffer.clear();
            inlet.rest();
        }
    }
}
