//! Reading a body straight to where it belongs, rather than by way of the buffer of its stream.
//!
//! Knows what the next frames of a body will most likely look like, and what becomes of bytes that turn out to be others.

use std::io::{self, IoSliceMut};
use std::task::Poll;

use bytes::BytesMut;

use super::inlet::{BLOCK_MOST, READ_MOST};
use crate::frame::{HeaderBytes, Kind};
use crate::limits::MAX_HEADER;

/// Frames with less payload are read by way of the buffer.
const FRAME_LEAST: usize = 8 * 1024;
/// A body of which less is to come is read so, too; and after a read of less it is not asked whether one is under way.
pub const PLACE_LEAST: usize = 8 * 1024;
/// Bytes of a body that the first read is made for, and the most that reads grow to while they bring so much: what turns out
/// to be messages is in one block then.
const READ: (usize, usize) = (READ_MOST, BLOCK_MOST);
/// Most headers in one read.
const HEADERS: usize = 16;

/// Where the next bytes of the main stream belong, if they are those of a body: a link lends the half of the carrier that
/// [reads](crate::Inlet) the room for them, and takes it back with what has come.
///
/// Bytes that came to their place come before those in the buffer of the stream.
#[derive(Debug, Default)]
pub struct Placement(Option<Box<Expected>>);

/// A body, and the frames of it that are expected next.
///
/// # Invariant
///
/// `room` begins where what has come of the body ends; its first `filled` bytes have come since. Behind them `left` bytes of
/// the payload of a frame are to come, then frames of `frame` bytes, the last one shorter: `rest` bytes in all.
#[derive(Debug, Default)]
struct Expected {
    lane: u64,
    room: BytesMut,
    filled: usize,
    left: usize,
    frame: usize,
    rest: usize,
    /// Those `filled` bytes, and the headers that came between them.
    read: usize,
    /// Bytes of the body that the next read is made for.
    want: usize,
    /// Headers that the next read is made for: none once another frame has come between, as where bodies take turns.
    ahead: usize,
}

/// What a link gets back.
pub(crate) struct Placed {
    pub(crate) lane: u64,
    /// The room.
    pub(crate) room: BytesMut,
    /// So many bytes of the body came to its beginning.
    pub(crate) came: usize,
    /// Bytes that came, with the headers between them.
    pub(crate) read: usize,
    /// Payload of the frames, and how much of the last one's is to come.
    pub(crate) frame: usize,
    pub(crate) left: usize,
}

impl Placement {
    /// Whether a link has lent room.
    #[inline]
    pub(super) fn is_lent(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|expected| expected.room.capacity() != 0)
    }

    /// Gives up what was lent.
    pub(super) fn rest(&mut self) {
        self.0 = None;
    }

    /// The body whose next frame is to be expected where none has begun, and the payload of its frames.
    pub(crate) fn next(&self) -> Option<(u64, usize)> {
        let expected = self.0.as_ref().filter(|expected| expected.ahead != 0)?;
        Some((expected.lane, expected.frame))
    }

    /// Takes back what was lent.
    pub(crate) fn take(&mut self) -> Option<Placed> {
        let expected = self.0.as_mut()?;
        Some(Placed {
            lane: expected.lane,
            room: std::mem::take(&mut expected.room),
            came: std::mem::take(&mut expected.filled),
            read: std::mem::take(&mut expected.read),
            frame: expected.frame,
            left: expected.left,
        })
    }

    /// Whether frames with such a payload are worth it.
    pub(crate) const fn is_worth(frame: usize) -> bool {
        frame >= FRAME_LEAST
    }

    /// Expects `left` more bytes of a frame of `lane`, then frames of `frame` bytes, until `rest` bytes have come: for `room`.
    pub(crate) fn expect(&mut self, lane: u64, room: BytesMut, left: usize, frame: usize, rest: usize) {
        let expected = self.0.get_or_insert_with(|| {
            Box::new(Expected {
                want: READ.0,
                ahead: HEADERS,
                ..Expected::default()
            })
        });
        if expected.lane == lane {
            expected.ahead = expected.ahead.saturating_mul(2).saturating_add(1).min(HEADERS);
        }
        (expected.lane, expected.room) = (lane, room);
        (expected.left, expected.frame, expected.rest) = (left, frame, rest);
    }

    /// Reads to where it belongs what `read` reads; what does not belong there goes to `buffer`, which is empty. `None` if nothing
    /// is expected.
    #[inline]
    pub(super) fn read(
        &mut self,
        buffer: &mut BytesMut,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Option<Poll<io::Result<usize>>> {
        let expected = self.0.as_mut()?;
        let len = expected.len();
        (len != 0 && expected.filled == 0 && buffer.is_empty()).then(|| expected.read(len, buffer, read))
    }
}

impl Expected {
    /// Bytes of the body that the next read is made for.
    fn len(&self) -> usize {
        let most = self.ahead.saturating_mul(self.frame).saturating_add(self.left);
        self.want.min(most).min(self.rest).min(self.room.capacity())
    }

    #[cold]
    fn read(
        &mut self,
        len: usize,
        buffer: &mut BytesMut,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.room.len() < len {
            self.room.resize(len, 0);
        }
        let mut headers = [[0; MAX_HEADER]; HEADERS];
        let mut bufs: [_; 2 * HEADERS + 1] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut used = 0_usize;
        let mut add = |piece| {
            if let Some(buf) = bufs.get_mut(used) {
                *buf = IoSliceMut::new(piece);
                used = used.saturating_add(1);
            }
        };
        let parts = self.parts(len);
        let room = self.room.get_mut(..len).unwrap_or_default();
        let (first, mut room) = room.split_at_mut(self.left.min(len));
        add(first);
        for (part, header) in parts.zip(&mut headers) {
            let (piece, others) = std::mem::take(&mut room).split_at_mut(part.here);
            add(header.get_mut(..part.header.as_slice().len()).unwrap_or_default());
            add(piece);
            room = others;
        }
        let read = read(bufs.get_mut(..used).unwrap_or_default());
        if let Poll::Ready(Ok(count)) = read {
            self.settle(count, len, &headers, buffer);
            self.learn(len);
        }
        read
    }

    /// What is expected behind the frame that has begun, for `len` bytes of room.
    fn parts(&self, len: usize) -> impl Iterator<Item = Part> + use<> {
        let (lane, frame) = (self.lane, self.frame);
        let mut rest = self.rest.saturating_sub(self.left);
        let mut len = len.saturating_sub(self.left);
        std::iter::from_fn(move || {
            let payload = frame.min(rest);
            let here = payload.min(len);
            rest = rest.saturating_sub(payload);
            len = len.saturating_sub(here);
            (here != 0).then(|| Part {
                header: HeaderBytes::new(Kind::Data, lane, payload),
                payload,
                here,
            })
        })
    }

    /// Sorts the `came` bytes that were read: what follows a header that was not expected goes to `buffer`, with that.
    fn settle(&mut self, mut came: usize, len: usize, headers: &[[u8; MAX_HEADER]], buffer: &mut BytesMut) {
        let mut take = |n: usize| {
            let taken = n.min(came);
            came = came.saturating_sub(taken);
            taken
        };
        let parts = self.parts(len);
        let first = take(self.left.min(len));
        (self.filled, self.read) = (first, first);
        self.left = self.left.saturating_sub(first);
        let (mut at, mut is_expected) = (first, true);
        for (part, header) in parts.zip(headers) {
            let expected = part.header.as_slice();
            let header = header.get(..take(expected.len())).unwrap_or_default();
            let end = at.saturating_add(take(part.here));
            if header.is_empty() {
                break;
            }
            is_expected &= header == expected;
            if is_expected {
                let here = end.saturating_sub(at);
                self.filled = end;
                self.left = part.payload.saturating_sub(here);
                self.read = self.read.saturating_add(header.len()).saturating_add(here);
            } else {
                buffer.extend_from_slice(header);
                buffer.extend_from_slice(self.room.get(at..end).unwrap_or_default());
                if header.len() == expected.len() {
                    self.ahead = 0;
                }
            }
            at = end;
        }
    }

    /// Learns from a read into `len` bytes of room.
    fn learn(&mut self, len: usize) {
        let (least, most) = READ;
        if self.filled >= self.want {
            self.want = self.want.saturating_mul(2).min(most);
        } else if self.filled < len >> 2 {
            self.want = (self.want >> 1).max(least);
        }
    }
}

/// A frame that is expected.
struct Part {
    header: HeaderBytes,
    payload: usize,
    /// So much of the payload the read is made for.
    here: usize,
}
