//! The halves of an encrypted carrier: plain bytes on one side, records on the other (PROTOCOL.md § 10.6).
//!
//! Knows where records begin and end, what is on the way, and how a direction ends. One write becomes one record if it
//! is not long; a long piece of it is sealed from where it lies, as a record by itself, and opened where the reader wants
//! it. Other text is copied once on each side.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use farref_transport::{ByteRx, ByteTx, Descriptor};

use super::error::RecordError;
use super::handshake::record_header;
use super::key::{OpenKey, SealKey, TAG};
use crate::io::{PLACE_LEAST, READ_MOST};

/// Most bytes of text that are sealed as one record: a fragment of the default size, its header, and a little.
///
/// A whole record must be there before it is opened, so that longer ones come later; and a cipher gains little by them.
const TEXT_MOST: usize = 17 * 1024;
/// As much text as so many of the longest records have is sealed at a time while the carrier takes all. Two: over a socket, one
/// costs a sixth of the throughput, and more gain nothing.
const BURST: usize = 2;
/// A piece of so many bytes is a record by itself: less is not [placed](crate::io::Placement) by the other side.
pub(super) const PIECE_LEAST: usize = PLACE_LEAST;
/// Length of what stands before a record.
const HEADER: usize = 2;

/// The half that writes.
///
/// # Invariant
///
/// What is in `sealed` comes before all that is written later: nothing is taken while there is any. After an error nothing
/// more is sealed: the peer would find a record missing.
pub(super) struct RecordTx {
    inner: Box<dyn ByteTx>,
    key: SealKey,
    sealed: Sealed,
    /// Most bytes of text in one record.
    text: usize,
    /// So many times that is sealed at a time: what can't be overtaken by anything more urgent. Once while the carrier is the
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
            sealed: Sealed::default(),
            text,
            burst: BURST,
            phase: Phase::Open,
        }
    }

    /// Seals what comes first in `bufs` and says how much that was.
    fn seal(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pieces = Pieces::new(bufs);
        let most = self.text.saturating_mul(self.burst);
        let offered = bufs.iter().map(|buf| buf.len()).fold(0, usize::saturating_add);
        self.sealed.reserve(most.min(offered));
        let mut taken = 0_usize;
        loop {
            let len = pieces.record(self.text);
            let then = taken.saturating_add(len);
            if len == 0 || taken != 0 && then > most {
                return Ok(taken);
            }
            match pieces.take(len) {
                Some(piece) => {
                    self.put_record(len, |key, header, sealed| key.seal_to(header, piece, sealed))?
                }
                None => self.put_record(len, |key, header, sealed| {
                    let (text, tag) = sealed.split_at_mut(len);
                    pieces.copy(text);
                    tag.copy_from_slice(&key.seal(header, text)?);
                    Some(())
                })?,
            }
            taken = then;
        }
    }

    /// Appends one record of `len` bytes of text, which `seal` puts into the room for them and the tag. `None` from that: no
    /// number is left.
    fn put_record(
        &mut self,
        len: usize,
        seal: impl FnOnce(&mut SealKey, &[u8], &mut [u8]) -> Option<()>,
    ) -> io::Result<()> {
        let header = record_header(len);
        self.sealed.extend(HEADER).copy_from_slice(&header);
        let sealed = self.sealed.extend(len.saturating_add(TAG));
        if seal(&mut self.key, &header, sealed).is_none() {
            self.sealed = Sealed::default(); // plain text may be in it
            self.phase = Phase::Failed;
            return Err(RecordError::Exhausted.into());
        }
        Ok(())
    }

    /// Appends the record that ends the direction.
    fn put_end(&mut self) -> io::Result<()> {
        self.put_record(0, |key, header, sealed| key.seal_to(header, &[], sealed))
    }

    /// Offers the carrier what is sealed, once.
    fn push(&mut self) -> io::Result<()> {
        match self.inner.try_write(&[IoSlice::new(self.sealed.left())]) {
            Ok(0) => Err(self.failed(ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.sealed.advance(count);
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
        self.sealed.memory.capacity()
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
        self.sealed.rest();
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
            self.put_end()?;
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
        if self.phase == Phase::Open && self.put_end().is_ok() {
            let _ = self.push();
        }
    }
}

/// Records on their way to the carrier.
///
/// # Invariant
///
/// They are the first `end` bytes of `memory`, of which the carrier has taken the first `sent`; if it has taken all, both
/// are 0. What is behind them means nothing: room that need not be cleared before it is sealed into.
#[derive(Default)]
struct Sealed {
    memory: Vec<u8>,
    end: usize,
    sent: usize,
}

impl Sealed {
    fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// What the carrier has not taken.
    fn left(&self) -> &[u8] {
        self.memory.get(self.sent..self.end).unwrap_or_default()
    }

    /// The carrier has taken `count` bytes more.
    fn advance(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
        if self.sent >= self.end {
            (self.sent, self.end) = (0, 0);
        }
    }

    /// Makes room for records of so much text, and does not keep much more for small ones after a torrent.
    fn reserve(&mut self, text: usize) {
        let room = text.saturating_add(ROOM_FOR_TAGS);
        if self.is_empty() && self.memory.capacity() > room.saturating_mul(16).max(IDLE) {
            self.memory = Vec::new();
        }
        let needed = self.end.saturating_add(room).saturating_sub(self.memory.len());
        self.memory.reserve_exact(needed);
    }

    /// Appends `len` bytes, for the caller to write.
    fn extend(&mut self, len: usize) -> &mut [u8] {
        let at = self.end;
        self.end = at.saturating_add(len);
        if self.memory.len() < self.end {
            self.memory.resize(self.end, 0);
        }
        self.memory.get_mut(at..self.end).unwrap_or_default()
    }

    /// Keeps no more memory than there are records.
    fn rest(&mut self) {
        self.memory.truncate(self.end);
        self.memory.shrink_to_fit();
    }
}

/// Pieces of text, and how far they are sealed.
struct Pieces<'a> {
    bufs: &'a [IoSlice<'a>],
    current: &'a [u8],
}

impl<'a> Pieces<'a> {
    fn new(bufs: &'a [IoSlice<'a>]) -> Self {
        let mut pieces = Self { bufs, current: &[] };
        pieces.turn();
        pieces
    }

    /// Goes on to the next piece that is not empty, if the current one is.
    fn turn(&mut self) {
        while let (true, Some((next, bufs))) = (self.current.is_empty(), self.bufs.split_first()) {
            (self.current, self.bufs) = (next, bufs);
        }
    }

    /// How many of the next bytes belong in one record, which has at most `most`: a long piece by itself, or what comes before
    /// the next one.
    fn record(&self, most: usize) -> usize {
        if self.current.len() >= PIECE_LEAST {
            return self.current.len().min(most);
        }
        let behind = self.bufs.iter().map(|buf| buf.len());
        let short = behind.take_while(|len| *len < PIECE_LEAST);
        short.fold(self.current.len(), usize::saturating_add).min(most)
    }

    /// Takes the next `len` bytes, if they are of one piece.
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, current) = self.current.split_at_checked(len)?;
        self.current = current;
        self.turn();
        Some(taken)
    }

    /// Copies the next bytes to `room`, of which there are enough.
    fn copy(&mut self, mut room: &mut [u8]) {
        while !room.is_empty() {
            match self.take(room.len().min(self.current.len())) {
                Some(piece @ [_, ..]) => room.put_slice(piece),
                _ => return,
            }
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
        let mut count = 0_usize;
        loop {
            let room = into.capacity().saturating_sub(into.len());
            match self.give(room, |text| into.extend_from_slice(text)) {
                0 => return self.taken(count),
                moved => count = count.saturating_add(moved),
            }
        }
    }

    /// Moves text into `bufs`, as [`take`](Self::take) does.
    fn take_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<usize>> {
        let mut count = 0_usize;
        for buf in bufs {
            let mut room = &mut buf[..];
            while !room.is_empty() {
                let moved = self.put(room);
                if moved == 0 {
                    return self.taken(count);
                }
                count = count.saturating_add(moved);
                room = room.get_mut(moved..).unwrap_or_default();
            }
        }
        self.taken(count)
    }

    /// Puts the next text to the beginning of `room`, as [`give`](Self::give) would; a record that fits is opened there.
    fn put(&mut self, room: &mut [u8]) -> usize {
        if self.text == 0
            && let Some(count) = self.open_to(room)
        {
            return count;
        }
        self.give(room.len(), |text| {
            if let Some(room) = room.get_mut(..text.len()) {
                room.copy_from_slice(text);
            }
        })
    }

    /// Gives `put` the next text, at most `room` bytes and of one record, and says how much that was. 0: there is none, or no
    /// room.
    fn give(&mut self, room: usize, put: impl FnOnce(&[u8])) -> usize {
        if room == 0 || self.text == 0 && !self.open() {
            return 0;
        }
        let count = room.min(self.text);
        put(self.buffer.get(..count).unwrap_or_default());
        self.buffer.advance(count);
        self.text = self.text.saturating_sub(count);
        if self.text == 0 {
            self.buffer.advance(TAG);
        }
        count
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

    /// Opens the next record where it lies, if it is there.
    fn open(&mut self) -> bool {
        let Some((header, end)) = self.next_record() else {
            return false;
        };
        let opened = self.buffer.get_mut(HEADER..end);
        let opened = opened.and_then(|sealed| self.key.open(&header, sealed));
        let Some(text) = self.opened(opened) else {
            return false;
        };
        self.buffer.advance(HEADER);
        self.text = text;
        true
    }

    /// Opens the next record to the beginning of `room` and says how long it is, if it is there and fits.
    fn open_to(&mut self, room: &mut [u8]) -> Option<usize> {
        let (header, end) = self.next_record()?;
        let sealed = self.buffer.get(HEADER..end)?;
        let room = room.get_mut(..sealed.len().saturating_sub(TAG))?;
        let opened = self.key.open_to(&header, sealed, room);
        let text = self.opened(opened)?;
        self.buffer.advance(end);
        Some(text)
    }

    /// The next record's header, and where it ends in `buffer`, if all of it is there and none has told that it is over.
    fn next_record(&mut self) -> Option<([u8; HEADER], usize)> {
        if self.over.is_some() {
            return None;
        }
        let header = self.buffer.first_chunk().copied()?;
        let end = usize::from(u16::from_le_bytes(header)).saturating_add(HEADER);
        if end < HEADER + TAG {
            self.end(Err(if (header, self.key.next()) == ([0, 0], 0) {
                RecordError::Refused
            } else {
                self.unauthentic()
            }));
            return None;
        }
        (self.buffer.len() >= end).then_some((header, end))
    }

    /// The length of a text that was opened; `None` if it is over by what was found.
    fn opened(&mut self, text: Option<usize>) -> Option<usize> {
        match text {
            Some(0) => self.end(Ok(())),
            Some(text) => return Some(text),
            None => self.end(Err(self.unauthentic())),
        }
        None
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
        if self.made > self.buffer.len() {
            self.buffer = BytesMut::from(&self.buffer[..]); // part of a record may be there
            self.made = self.buffer.len();
        }
        self.want = READ_LEAST;
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

/// Room for what is around the texts of records that are sealed at a time: long pieces, and what stands before and behind them.
const ROOM_FOR_TAGS: usize = (2 * (BURST * TEXT_MOST / PIECE_LEAST) + 1) * (HEADER + TAG);
/// Room that an idle writer keeps.
const IDLE: usize = 16 * 1024;
/// Spare room that a read begins with.
const READ_LEAST: usize = 4 * 1024;
