//! What is to be written next: the hand-over from a link to its carrier.
//!
//! Knows bytes and which stream they go to. Frame headers and short pieces are copied together into one buffer that
//! is used again and again; pieces of [`SHARE_BYTES`] and more are shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use farref_transport::Class;

use crate::limits::{BATCH_BYTES, BULK_BYTES, SHARE_BYTES};
use crate::link::StreamKey;

/// Bytes to be written, in order, each for its stream. Reused from write to write.
///
/// # Invariant
///
/// `len` is the sum of the lengths of all segments. Ranges of copied segments lie within `copied` and are not empty.
/// `urgent` is an index of a segment, or behind the last, or `None` if what is put goes to the end.
#[derive(Debug, Default)]
pub struct Batch {
    segments: VecDeque<Segment>,
    copied: Vec<u8>,
    len: usize,
    urgent: Option<usize>,
    /// The next segment begins a frame that yields to what is urgent.
    yielding: bool,
}

/// A run of bytes for one stream, or an end of one.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) stream: StreamKey,
    /// Class of the stream, should it have to be opened.
    pub(crate) class: Class,
    pub(crate) piece: Piece,
    /// What is urgent may be put before this segment.
    yields: bool,
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A range of the copied bytes.
    Copied { start: usize, end: usize },
    /// Bytes shared with whoever brought them.
    Shared(Bytes),
    /// The stream ends here.
    End,
    /// The stream is given up.
    Reset(u32),
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes left to write.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left to write, not even the end of a stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Forgets everything, as when the carrier is lost.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.len = 0;
        self.recycle();
    }

    /// Gives back the memory of an empty batch.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// The bytes left for `stream`, copied into one piece.
    #[must_use]
    pub fn to_vec(&self, stream: StreamKey) -> Vec<u8> {
        let mut all = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.stream == stream) {
            all.extend_from_slice(self.bytes(segment));
        }
        all
    }

    /// Appends `bytes`, of any protocol, for a byte stream: for protocols that bring their own framing.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.copy(StreamKey::MAIN, Class::Interactive, bytes);
    }

    /// As [`put`](Self::put), sharing rather than copying what is long enough.
    pub fn put_bytes(&mut self, bytes: Bytes) {
        self.share(StreamKey::MAIN, Class::Interactive, bytes);
    }

    /// Puts what follows, until [`end_urgent`](Self::end_urgent), before the first frame that yields and has not
    /// begun.
    pub(crate) fn begin_urgent(&mut self) {
        self.yielding = false;
        self.urgent = if self.segments.is_empty() {
            None
        } else {
            self.first_yielding()
        };
    }

    #[cold]
    fn first_yielding(&self) -> Option<usize> {
        self.segments.iter().position(|segment| segment.yields)
    }

    pub(crate) fn end_urgent(&mut self) {
        self.urgent = None;
    }

    /// Whether more may be put: a batch is kept short, for what is in it can't be overtaken. What is urgent may
    /// come on top of a full batch of what is not.
    pub(crate) fn has_room(&self) -> bool {
        let most = if self.urgent.is_some() {
            BULK_BYTES.saturating_add(BATCH_BYTES)
        } else {
            BATCH_BYTES
        };
        self.len < most && self.copied.len() < BATCH_BYTES.saturating_mul(4)
    }

    /// Whether more of bodies may be put: more than of messages, where next to nothing is copied.
    pub(crate) fn has_room_for_bodies(&self) -> bool {
        let most = if self.copied.len() < BATCH_BYTES / 4 {
            BULK_BYTES
        } else {
            BATCH_BYTES
        };
        self.len < most
    }

    /// The next bytes begin a frame that yields to what is urgent.
    pub(crate) fn begin_yielding(&mut self) {
        self.yielding = true;
    }

    /// Copies `bytes` for `stream`.
    #[inline(never)]
    pub(crate) fn copy(&mut self, stream: StreamKey, class: Class, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.copied.len();
        self.copied.extend_from_slice(bytes);
        let end = self.copied.len();
        self.len = self.len.saturating_add(bytes.len());
        if !self.yielding
            && let Some(last) = self.urgent.unwrap_or(self.segments.len()).checked_sub(1)
            && let Some(Segment {
                stream: same,
                piece: Piece::Copied { end: open, .. },
                ..
            }) = self.segments.get_mut(last)
            && *same == stream
            && *open == start
        {
            *open = end;
            return;
        }
        self.insert(stream, class, Piece::Copied { start, end });
    }

    /// Shares `bytes` with `stream`, or copies them if they are short.
    pub(crate) fn share(&mut self, stream: StreamKey, class: Class, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES {
            return self.copy(stream, class, &bytes);
        }
        self.len = self.len.saturating_add(bytes.len());
        self.insert(stream, class, Piece::Shared(bytes));
    }

    /// Ends `stream`.
    pub(crate) fn end(&mut self, stream: StreamKey, class: Class) {
        self.insert(stream, class, Piece::End);
    }

    /// Gives up `stream`.
    pub(crate) fn reset(&mut self, stream: StreamKey, class: Class, code: u32) {
        self.insert(stream, class, Piece::Reset(code));
    }

    fn insert(&mut self, stream: StreamKey, class: Class, piece: Piece) {
        let yields = std::mem::take(&mut self.yielding);
        let segment = Segment {
            stream,
            class,
            piece,
            yields,
        };
        if let Some(at) = self.urgent {
            return self.insert_at(at, segment);
        }
        if self.segments.capacity() == 0 {
            self.make_room_for_one();
        }
        self.segments.push_back(segment);
    }

    #[cold]
    fn insert_at(&mut self, at: usize, urgent: Segment) {
        self.segments.insert(at, urgent);
        self.urgent = Some(at.saturating_add(1));
    }

    /// Most writes have one.
    #[cold]
    #[inline(never)]
    fn make_room_for_one(&mut self) {
        self.segments.reserve_exact(1);
    }

    /// The bytes of the one piece that there is, as in most batches: room for many slices takes a while to make.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        let only = self.segments.front().filter(|_| self.segments.len() == 1);
        only.map(|segment| self.bytes(segment))
    }

    /// Fills `slices` from the front and returns how many were filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.segments.len());
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(self.bytes(segment));
        }
        filled
    }

    /// Drops the first `n` bytes, which were written to a byte stream.
    pub(crate) fn advance(&mut self, mut n: usize) {
        self.len = self.len.saturating_sub(n);
        while let Some(segment) = self.segments.front_mut() {
            let len = segment.len();
            if len > n {
                segment.skip(n);
                break;
            }
            n = n.saturating_sub(len);
            self.segments.pop_front();
        }
        self.recycle();
    }

    /// The segment at `at`.
    pub(crate) fn segment(&self, at: usize) -> Option<&Segment> {
        self.segments.get(at)
    }

    /// Drops the first `n` bytes of the segment at `at`, which were written, and the segment if that is all of it.
    pub(crate) fn advance_at(&mut self, at: usize, n: usize) {
        self.len = self.len.saturating_sub(n);
        match self.segments.get_mut(at) {
            Some(segment) if segment.len() > n => segment.skip(n),
            _ => drop(self.segments.remove(at)),
        }
        self.recycle();
    }

    /// The bytes of `segment`.
    pub(crate) fn bytes<'a>(&'a self, segment: &'a Segment) -> &'a [u8] {
        match &segment.piece {
            Piece::Copied { start, end } => self.copied.get(*start..*end).unwrap_or_default(),
            Piece::Shared(bytes) => bytes,
            Piece::End | Piece::Reset(_) => &[],
        }
    }

    /// Makes the buffer ready for use again once nothing points into it.
    fn recycle(&mut self) {
        if self.segments.is_empty() {
            self.copied.clear();
            self.copied.shrink_to(BATCH_BYTES.saturating_mul(2));
        }
    }
}

impl Segment {
    fn len(&self) -> usize {
        match &self.piece {
            Piece::Copied { start, end } => end.saturating_sub(*start),
            Piece::Shared(bytes) => bytes.len(),
            Piece::End | Piece::Reset(_) => 0,
        }
    }

    /// Drops the first `n` bytes, fewer than there are.
    fn skip(&mut self, n: usize) {
        match &mut self.piece {
            Piece::Copied { start, .. } => *start = start.saturating_add(n),
            Piece::Shared(bytes) => drop(bytes.split_to(n.min(bytes.len()))),
            Piece::End | Piece::Reset(_) => {}
        }
        self.yields &= n == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: StreamKey = StreamKey::MAIN;

    fn bulk_frame(batch: &mut Batch, byte: u8) {
        batch.begin_yielding();
        batch.put(b"h");
        batch.put_bytes(Bytes::from(vec![byte; SHARE_BYTES]));
    }

    #[test]
    fn short_pieces_are_copied_together_and_long_ones_shared() {
        let mut batch = Batch::new();
        batch.put(b"one");
        batch.put_bytes(Bytes::from_static(b"two"));
        assert_eq!(batch.segments.len(), 1);
        let long = Bytes::from(vec![7; SHARE_BYTES]);
        batch.put_bytes(long.clone());
        assert!(matches!(&batch.segments[1].piece, Piece::Shared(bytes) if bytes.as_ptr() == long.as_ptr()));
        assert_eq!(batch.len(), 6 + SHARE_BYTES);
    }

    #[test]
    fn there_is_room_for_long_pieces_where_there_is_none_for_short_ones() {
        let (mut long, mut short) = (Batch::new(), Batch::new());
        while long.has_room_for_bodies() {
            bulk_frame(&mut long, 1);
        }
        while short.has_room_for_bodies() {
            short.put(&[1; 100]);
        }
        assert!((BULK_BYTES..BULK_BYTES + 2 * SHARE_BYTES).contains(&long.len()) && !long.has_room());
        assert!((BATCH_BYTES..BATCH_BYTES + 100).contains(&short.len()));
    }

    #[test]
    fn written_bytes_go_away_piece_by_piece() {
        let mut batch = Batch::new();
        batch.put(b"head");
        batch.put_bytes(Bytes::from((0..SHARE_BYTES).map(|n| n as u8).collect::<Vec<_>>()));
        batch.put(b"tail");
        let all = batch.to_vec(MAIN);
        for n in 0..all.len() {
            assert_eq!(batch.to_vec(MAIN), &all[n..]);
            assert_eq!(batch.len(), all.len() - n);
            batch.advance(1);
        }
        assert!(batch.is_empty() && batch.copied.is_empty());
    }

    #[test]
    fn what_is_urgent_waits_for_the_frame_that_has_begun_and_for_no_other() {
        let mut batch = Batch::new();
        batch.put(b"first");
        bulk_frame(&mut batch, 1);
        bulk_frame(&mut batch, 2);
        batch.advance(5 + 1 + 10); // inside the first bulk frame
        batch.begin_urgent();
        batch.put(b"now");
        batch.put(b"!");
        batch.end_urgent();
        let all = batch.to_vec(MAIN);
        assert_eq!(&all[SHARE_BYTES - 10..][..5], b"now!h");
        batch.begin_urgent();
        batch.put(b"then");
        batch.end_urgent();
        assert_eq!(&batch.to_vec(MAIN)[SHARE_BYTES - 10..][..9], b"now!thenh");
    }

    #[test]
    fn a_frame_that_has_not_begun_is_overtaken_whole() {
        let mut batch = Batch::new();
        bulk_frame(&mut batch, 1);
        batch.begin_urgent();
        batch.put(b"now");
        batch.end_urgent();
        bulk_frame(&mut batch, 2);
        assert_eq!(&batch.to_vec(MAIN)[..4], b"nowh");
        batch.advance(3 + 1);
        batch.begin_urgent();
        batch.put(b"late");
        batch.end_urgent();
        assert_eq!(&batch.to_vec(MAIN)[SHARE_BYTES..][..5], b"lateh");
    }

    #[test]
    fn segments_of_other_streams_can_be_written_out_of_order() {
        let mut batch = Batch::new();
        batch.put(b"main");
        batch.copy(StreamKey::new(1), Class::Bulk, b"lane");
        batch.end(StreamKey::new(1), Class::Bulk);
        batch.advance_at(1, 3);
        assert_eq!(batch.to_vec(StreamKey::new(1)), b"e");
        batch.advance_at(1, 1);
        assert!(matches!(batch.segment(1).unwrap().piece, Piece::End));
        batch.advance_at(1, 0);
        assert_eq!((batch.len(), batch.is_empty()), (4, false));
        batch.clear();
        assert_eq!((batch.len(), batch.is_empty()), (0, true));
    }
}
