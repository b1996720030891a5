//! The halves of an encrypted carrier: plain bytes on one side, records on the other (PROTOCOL.md § 10.6).
//!
//! Knows where records begin and end, what is on the way, and how a direction ends. One write becomes one record if it
//! is not long; the text is copied once, into the buffer where it is sealed, or out of the one where it was opened.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use farref_transport::{ByteRx, ByteTx, Descriptor};

use super::error::RecordError;
use super::handshake::record_header;
use super::key::{OpenKey, SealKey, TAG};
use crate::io::READ_MOST;

/// Most bytes of text that are sealed as one record: a fragment of the default size, its header, and a little.
///
/// A whole record must be there before it is opened, so that longer ones come later; and a cipher gains little by them.
const TEXT_MOST: usize = 17 * 1024;
/// Records that are sealed at a time while the carrier takes all. Two: over a socket, one costs a sixth of the
/// throughput, and four a third.
const BURST: usize = 2;
/// Length of what stands before a record.
const HEADER: usize = 2;

/// The half that writes.
///
/// # Invariant
///
/// What is in `sealed` from `sent` on comes before all that is written later: nothing is taken while there is any. After
/// an error nothing more is sealed: the peer would find a record missing.
pub(super) struct RecordTx {
    inner: Box<dyn ByteTx>,
    key: SealKey,
    /// Records, of which the carrier has taken the first `sent` bytes. Empty if it has taken all.
    sealed: Vec<u8>,
    sent: usize,
    /// Most bytes of text in one record.
    text: usize,
    /// Records that are sealed at a time: what can't be overtaken by anything more urgent. One while the carrier is the
    /// slower part.
    burst: usize,
    phase: Phase,
}

/// How far a writer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The end is sealed: nothing more is taken.
    Closing,
    Closed,
    /// The carrier, or the key, has failed.
    Failed,
}

impl RecordTx {
    /// Seals records for `inner`, which suits fragments of `fragment` bytes.
    pub(super) fn new(inner: Box<dyn ByteTx>, key: SealKey, fragment: u32) -> Self {
        let text = usize::try_from(fragment).unwrap_or(TEXT_MOST);
        let text = text.saturating_add(1024).min(TEXT_MOST);
        Self {
            inner,
            key,
            sealed: Vec::new(),
            sent: 0,
            text,
            burst: BURST,
            phase: Phase::Open,
        }
    }

    /// Seals what comes first in `bufs` and says how much that was.
    fn seal(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bufs = Cursor::new(bufs);
        let wanted = bufs.left.min(self.text.saturating_mul(self.burst));
        self.make_room(wanted);
        let mut taken = 0_usize;
        while taken < wanted {
            let len = wanted.saturating_sub(taken).min(self.text);
            self.put_record(len, |into| bufs.copy(len, into))?;
            taken = taken.saturating_add(len);
        }
        Ok(taken)
    }

    /// Appends one record of `len` bytes of text, which `fill` appends.
    fn put_record(&mut self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let header = record_header(len);
        self.sealed.extend_from_slice(&header);
        let at = self.sealed.len();
        fill(&mut self.sealed);
        let text = self.sealed.get_mut(at..).unwrap_or_default();
        let Some(tag) = self.key.seal(&header, text) else {
            self.sealed.clear(); // plain text may be in it
            self.phase = Phase::Failed;
            return Err(RecordError::Exhausted.into());
        };
        self.sealed.extend_from_slice(&tag);
        Ok(())
    }

    /// Room for records of so much text, and not much more for small ones after a torrent.
    fn make_room(&mut self, text: usize) {
        let records = text.div_ceil(self.text.max(1));
        let room = records.saturating_mul(HEADER + TAG).saturating_add(text);
        if self.sealed.is_empty() && self.sealed.capacity() > room.saturating_mul(16).max(IDLE) {
            self.sealed = Vec::new();
        }
        self.sealed.reserve(room);
    }

    /// Offers the carrier what is sealed, once.
    fn push(&mut self) -> io::Result<()> {
        let rest = self.sealed.get(self.sent..).unwrap_or_default();
        match self.inner.try_write(&[IoSlice::new(rest)]) {
            Ok(0) => Err(self.failed(ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.sent = self.sent.saturating_add(count);
                if self.sent >= self.sealed.len() {
                    self.sealed.clear();
                    self.sent = 0;
                }
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Ready when the carrier has all that is sealed.
    fn poll_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            match self.push() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.inner.poll_writable(cx))?;
                }
                pushed => pushed?,
            }
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.sealed.capacity()
    }

    fn failed(&mut self, error: io::Error) -> io::Error {
        if error.kind() != ErrorKind::WouldBlock {
            self.phase = Phase::Failed;
        }
        error
    }
}

impl ByteTx for RecordTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.phase != Phase::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        while !self.sealed.is_empty() {
            self.push()?;
        }
        let taken = self.seal(bufs)?;
        match self.push() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => self.burst = if self.sealed.is_empty() { BURST } else { 1 },
        }
        Ok(taken)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.phase, Phase::Closed | Phase::Failed) {
            return Poll::Ready(Ok(())); // a write tells
        }
        ready!(self.poll_sealed(cx))?;
        self.inner.poll_writable(cx)
    }

    fn is_buffering(&self) -> bool {
        !self.sealed.is_empty() || self.inner.is_buffering()
    }

    fn rest(&mut self) {
        self.sealed.shrink_to_fit();
        self.inner.rest();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Failed {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_sealed(cx))?;
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Open {
            self.put_record(0, |_| {})?;
            self.phase = Phase::Closing;
        }
        if self.phase == Phase::Closing {
            ready!(self.poll_sealed(cx))?;
            self.phase = Phase::Closed;
        }
        self.inner.poll_close(cx)
    }

    /// Writable there is writable here: what is sealed goes first.
    fn descriptor(&self) -> Option<&dyn Descriptor> {
        self.inner.descriptor()
    }
}

impl Drop for RecordTx {
    /// Ends the direction as dropping a carrier's half does, if the carrier takes that much now.
    fn drop(&mut self) {
        if self.phase == Phase::Open && self.put_record(0, |_| {}).is_ok() {
            let _ = self.push();
        }
    }
}

/// Pieces of text, and how far they are copied.
struct Cursor<'a> {
    bufs: std::slice::Iter<'a, IoSlice<'a>>,
    current: &'a [u8],
    left: usize,
}

impl<'a> Cursor<'a> {
    fn new(bufs: &'a [IoSlice<'a>]) -> Self {
        let left = bufs.iter().map(|buf| buf.len()).fold(0, usize::saturating_add);
        Self {
            bufs: bufs.iter(),
            current: &[],
            left,
        }
    }

    /// Appends the next `len` bytes, of which there are enough.
    fn copy(&mut self, mut len: usize, into: &mut Vec<u8>) {
        while len != 0 {
            if self.current.is_empty() {
                let Some(next) = self.bufs.next() else { return };
                self.current = next;
                continue;
            }
            let (now, later) = self.current.split_at(len.min(self.current.len()));
            into.extend_from_slice(now);
            self.current = later;
            len = len.saturating_sub(now.len());
        }
    }
}

/// The half that reads.
///
/// # Invariant
///
/// `buffer` begins with `text` bytes of an opened record that were not read yet, and its tag if that is not 0; then come
/// records as they came. After `over` nothing is opened any more.
pub(super) struct RecordRx {
    inner: Box<dyn ByteRx>,
    key: OpenKey,
    buffer: BytesMut,
    text: usize,
    /// How it ended.
    over: Option<Result<(), RecordError>>,
    /// The most room that was made in `buffer`.
    made: usize,
    /// Spare room for the next read: doubled when a read fills it, halved when one leaves nearly all of it.
    want: usize,
}

impl RecordRx {
    /// Opens the records of `inner`, of which `buffer` came already.
    pub(super) fn new(inner: Box<dyn ByteRx>, key: OpenKey, buffer: BytesMut) -> Self {
        Self {
            inner,
            key,
            buffer,
            text: 0,
            over: None,
            made: 0,
            want: READ_LEAST,
        }
    }

    /// Moves text into the room of `into`, opening records as long as there are any. `None`: more must be read first.
    fn take(&mut self, into: &mut BytesMut) -> Option<io::Result<usize>> {
        let room = into.capacity().saturating_sub(into.len());
        let count = self.move_text(room, |text| into.extend_from_slice(text));
        self.taken(count)
    }

    /// Moves text into `bufs`, as [`take`](Self::take) does.
    fn take_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<usize>> {
        let mut count = 0_usize;
        for buf in bufs {
            let mut rest = &mut buf[..];
            let room = rest.len();
            let moved = self.move_text(room, |text| rest.put_slice(text));
            count = count.saturating_add(moved);
            if moved < room {
                break;
            }
        }
        self.taken(count)
    }

    /// Gives `put` the next text, at most `room` bytes, and says how much that was.
    fn move_text(&mut self, room: usize, mut put: impl FnMut(&[u8])) -> usize {
        let mut moved = 0_usize;
        while moved < room && (self.text != 0 || self.open()) {
            let count = room.saturating_sub(moved).min(self.text);
            put(self.buffer.get(..count).unwrap_or_default());
            self.buffer.advance(count);
            moved = moved.saturating_add(count);
            self.text = self.text.saturating_sub(count);
            if self.text == 0 {
                self.buffer.advance(TAG);
            }
        }
        moved
    }

    /// What has become of a read that moved `count` bytes of text.
    fn taken(&self, count: usize) -> Option<io::Result<usize>> {
        match (count, self.over) {
            (1.., _) => Some(Ok(count)),
            (0, Some(Ok(()))) => Some(Ok(0)),
            (0, Some(Err(error))) => Some(Err(error.into())),
            (0, None) => None,
        }
    }

    /// Opens the next record, if it is there and none has told that it is over.
    fn open(&mut self) -> bool {
        if self.over.is_some() {
            return false;
        }
        let Some(header) = self.buffer.first_chunk().copied() else {
            return false;
        };
        let end = usize::from(u16::from_le_bytes(header)).saturating_add(HEADER);
        if end < HEADER + TAG {
            self.end(Err(if (header, self.key.next()) == ([0, 0], 0) {
                RecordError::Refused
            } else {
                self.unauthentic()
            }));
            return false;
        }
        let Some(sealed) = self.buffer.get_mut(HEADER..end) else {
            return false;
        };
        match self.key.open(&header, sealed) {
            Some(0) => self.end(Ok(())),
            Some(text) => {
                self.buffer.advance(HEADER);
                self.text = text;
                return true;
            }
            None => self.end(Err(self.unauthentic())),
        }
        false
    }

    const fn unauthentic(&self) -> RecordError {
        RecordError::Unauthentic {
            record: self.key.next(),
        }
    }

    /// It is over, and whatever came behind is nothing.
    fn end(&mut self, over: Result<(), RecordError>) {
        self.over = Some(over);
        self.buffer = BytesMut::new();
    }

    /// What `take` takes, for which `read` reads as much more as it wants.
    fn read_with(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Option<io::Result<usize>>,
        mut read: impl FnMut(&mut dyn ByteRx, &mut BytesMut) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(taken) = take(self) {
                return Poll::Ready(taken);
            }
            let spare = self.reserve();
            let count = ready!(read(&mut *self.inner, &mut self.buffer))?;
            self.note(count, spare);
        }
    }

    /// The same with what `read` reads without a promise to wake.
    fn read_now(
        &mut self,
        take: impl FnMut(&mut Self) -> Option<io::Result<usize>>,
        mut read: impl FnMut(&mut dyn ByteRx, &mut BytesMut) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self.read_with(take, |inner, buffer| Poll::Ready(read(inner, buffer))) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Makes room for the next read, and says how much there is. A record's announced length is not looked at: room
    /// grows with what comes.
    fn reserve(&mut self) -> usize {
        if self.buffer.is_empty() && self.made > self.want.saturating_mul(4) {
            self.buffer = BytesMut::new(); // the torrent is over
            self.made = 0;
        }
        let spare = self.buffer.capacity().saturating_sub(self.buffer.len());
        if spare < self.want >> 1 {
            self.buffer.reserve(self.want);
            self.made = self.made.max(self.buffer.capacity());
        }
        self.buffer.capacity().saturating_sub(self.buffer.len())
    }

    /// Learns from a read of `count` bytes into `spare`.
    fn note(&mut self, count: usize, spare: usize) {
        if count >= spare {
            self.want = self.want.saturating_mul(2).min(READ_MOST);
        } else if count < self.want >> 4 {
            self.want = (self.want >> 1).max(READ_LEAST);
        }
        if count == 0 {
            self.end(Err(RecordError::Cut));
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.made
    }

    /// Whether text, or how it ended, is known without a read.
    fn is_ready(&self) -> bool {
        self.text != 0 || self.over.is_some() || self.holds_record()
    }

    fn holds_record(&self) -> bool {
        self.buffer.first_chunk().is_some_and(|header| {
            let len = usize::from(u16::from_le_bytes(*header));
            self.buffer.len() >= len.saturating_add(HEADER)
        })
    }
}

impl ByteRx for RecordRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        self.read_now(|rx| rx.take(into), |inner, buffer| inner.try_read(buffer))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_readable(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        reserve_some(into);
        self.read_with(|rx| rx.take(into), |inner, buffer| inner.poll_read(cx, buffer))
    }

    fn is_read_vectored(&self) -> bool {
        true
    }

    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_now(
            |rx| rx.take_vectored(bufs),
            |inner, buffer| inner.try_read(buffer),
        )
    }

    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.read_with(
            |rx| rx.take_vectored(bufs),
            |inner, buffer| inner.poll_read(cx, buffer),
        )
    }

    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.made = 0;
            self.want = READ_LEAST;
        }
        self.inner.rest();
    }

    /// None while there is something to read that the descriptor does not know of.
    fn descriptor(&self) -> Option<&dyn Descriptor> {
        if self.is_ready() {
            None
        } else {
            self.inner.descriptor()
        }
    }

    fn read_soon(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        self.read_now(|rx| rx.take(into), |inner, buffer| inner.read_soon(buffer))
    }

    fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn Descriptor>>> {
        self.inner.leave_reactor()
    }

    fn join_reactor(&mut self) -> io::Result<()> {
        self.inner.join_reactor()
    }
}

/// Makes room for what a caller of `try_read` should have made room for.
fn reserve_some(into: &mut BytesMut) {
    if into.len() == into.capacity() {
        into.reserve(64);
    }
}

/// Room that an idle writer keeps.
const IDLE: usize = 16 * 1024;
/// Spare room that a read begins with.
const READ_LEAST: usize = 4 * 1024;
