//! The bytes of one outgoing lane: appended at one end, handed out to be written, dropped at the other.
//!
//! Knows offsets and nothing of what the bytes mean. With a session, bytes stay until they are acknowledged.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use farref_transport::Class;

use crate::batch::Batch;
use crate::limits::SHARE_BYTES;
use crate::link::StreamKey;

/// A tail of this size is closed, so that growing it never moves much.
const TAIL: usize = 64 * 1024;

/// What of a lane is still here.
///
/// # Invariant
///
/// The pieces and then the tail are the bytes from `start` to `end`; `start <= sent <= end`. `cursor` is the place of
/// `sent`: a piece (the tail behind the last), and how far into it. Without `retain`, `start == sent`.
#[derive(Debug)]
pub(crate) struct SendBuffer {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    start: u64,
    sent: u64,
    end: u64,
    cursor: Cursor,
    retain: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    piece: usize,
    at: usize,
}

impl SendBuffer {
    pub(crate) fn new(retain: bool) -> Self {
        Self {
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            start: 0,
            sent: 0,
            end: 0,
            cursor: Cursor::default(),
            retain,
        }
    }

    /// Offset behind the last byte appended.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Offset of the next byte to be handed out.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Offset up to which everything was acknowledged, or handed out if nothing is kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes not handed out yet.
    #[inline]
    pub(crate) fn unsent(&self) -> u64 {
        self.end.saturating_sub(self.sent)
    }

    /// Bytes handed out and kept.
    pub(crate) fn kept(&self) -> u64 {
        self.sent.saturating_sub(self.start)
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        self.pieces.shrink_to_fit();
        if self.tail.is_empty() {
            self.tail = BytesMut::new();
        }
    }

    /// Appends `bytes`, copying them.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.append_with(|tail| tail.extend_from_slice(bytes));
    }

    /// Appends what `write` adds behind the bytes that are there.
    #[inline]
    pub(crate) fn append_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.tail.len() >= TAIL {
            self.close_tail();
        }
        let before = self.tail.len();
        write(&mut self.tail);
        let added = self.tail.len().saturating_sub(before);
        self.end = self.end.saturating_add(length(added));
    }

    /// Appends `bytes`, sharing them unless they are short.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES {
            return self.append(&bytes);
        }
        self.close_tail();
        self.end = self.end.saturating_add(length(bytes.len()));
        self.pieces.push_back(bytes);
    }

    /// Appends `pieces`, sharing those that are not short.
    #[inline(never)]
    pub(crate) fn push_all(&mut self, pieces: &[Bytes]) {
        pieces.iter().for_each(|piece| self.push(piece.clone()));
    }

    /// Makes the tail a piece; the cursor stays where it is, for the tail counts as the piece behind the last.
    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Hands out the next `n` bytes, of which there are as many, to `batch`.
    pub(crate) fn transmit(&mut self, n: usize, batch: &mut Batch, stream: StreamKey, class: Class) {
        self.sent = self.sent.saturating_add(length(n));
        if !self.retain {
            self.start = self.sent;
        }
        let n = if self.cursor.piece < self.pieces.len() {
            self.transmit_pieces(n, batch, stream, class)
        } else {
            n
        };
        let end = self.cursor.at.saturating_add(n);
        batch.copy(
            stream,
            class,
            self.tail.get(self.cursor.at..end).unwrap_or_default(),
        );
        if self.retain {
            self.cursor.at = end;
        } else if end >= self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(end);
        }
    }

    /// Hands out what of the next `n` bytes is in pieces, and returns how many are in the tail.
    #[inline(never)]
    fn transmit_pieces(&mut self, mut n: usize, batch: &mut Batch, stream: StreamKey, class: Class) -> usize {
        while n > 0
            && let Some(piece) = self.pieces.get_mut(self.cursor.piece)
        {
            let left = piece.len().saturating_sub(self.cursor.at);
            let take = left.min(n);
            n = n.saturating_sub(take);
            if !self.retain {
                batch.share(stream, class, piece.split_to(take));
                if take == left {
                    self.pieces.pop_front();
                }
                continue;
            }
            let until = self.cursor.at.saturating_add(take);
            batch.share(stream, class, piece.slice(self.cursor.at..until));
            if take == left {
                self.cursor = Cursor {
                    piece: self.cursor.piece.saturating_add(1),
                    at: 0,
                };
            } else {
                self.cursor.at = until;
            }
        }
        n
    }

    /// Drops what lies before `upto`, which is not beyond what was handed out.
    pub(crate) fn acknowledge(&mut self, upto: u64) {
        let upto = upto.min(self.sent);
        let mut n = size(upto.saturating_sub(self.start));
        self.start = self.start.max(upto);
        while n > 0 {
            let first = self.cursor.piece == 0;
            let Some(piece) = self.pieces.front_mut() else {
                let n = n.min(self.tail.len());
                self.tail.advance(n);
                self.cursor.at = self.cursor.at.saturating_sub(n);
                return;
            };
            if piece.len() > n {
                piece.advance(n);
                if first {
                    self.cursor.at = self.cursor.at.saturating_sub(n);
                }
                return;
            }
            n = n.saturating_sub(piece.len());
            self.pieces.pop_front();
            if first {
                self.cursor.at = 0; // it was at the end of this piece
            } else {
                self.cursor.piece = self.cursor.piece.saturating_sub(1);
            }
        }
    }

    /// Goes back (or on) to `offset`, which the peer has received: false if it is not here.
    pub(crate) fn rewind(&mut self, offset: u64) -> bool {
        if offset < self.start || offset > self.sent {
            return false;
        }
        self.acknowledge(offset);
        self.sent = offset;
        self.cursor = Cursor::default();
        true
    }

    /// Drops everything; the offsets stay.
    pub(crate) fn discard(&mut self) {
        self.pieces = VecDeque::new();
        self.tail = BytesMut::new();
        (self.start, self.end) = (self.sent, self.sent);
        self.cursor = Cursor::default();
    }

    /// No bytes are to be kept after all: there will be no session.
    pub(crate) fn stop_retaining(&mut self) {
        self.acknowledge(self.sent);
        self.retain = false;
    }
}

/// A length as an offset.
#[inline]
pub(crate) fn length(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A difference of offsets as a length.
#[inline]
pub(crate) fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(buffer: &mut SendBuffer, n: usize) -> Vec<u8> {
        let mut batch = Batch::new();
        buffer.transmit(n, &mut batch, StreamKey::MAIN, Class::Normal);
        batch.to_vec(StreamKey::MAIN)
    }

    #[test]
    fn short_messages_do_not_allocate_once_the_tail_has_grown() {
        let mut buffer = SendBuffer::new(false);
        buffer.append(&[0; 1000]);
        take(&mut buffer, 1000);
        let before = buffer.tail.capacity();
        for _ in 0..100 {
            buffer.append(&[1; 64]);
            take(&mut buffer, 64);
        }
        assert_eq!(buffer.tail.capacity(), before);
        assert!(buffer.pieces.is_empty());
    }

    #[test]
    fn long_pieces_are_shared_while_they_are_kept() {
        let mut buffer = SendBuffer::new(true);
        let long = Bytes::from(vec![5; 3 * SHARE_BYTES]);
        buffer.append(b"head");
        buffer.push(long.clone());
        let mut batch = Batch::new();
        buffer.transmit(4 + 3 * SHARE_BYTES, &mut batch, StreamKey::MAIN, Class::Normal);
        assert_eq!((buffer.kept(), buffer.unsent()), (4 + 3 * SHARE_BYTES as u64, 0));
        assert!(buffer.pieces[1].as_ptr() == long.as_ptr());
        assert!(buffer.rewind(4 + 10));
        assert_eq!(take(&mut buffer, 3), [5; 3]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        Push(usize),
        Transmit(usize),
        Acknowledge(usize),
        Rewind(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_usize..300).prop_map(Step::Append),
            (0_usize..10_000).prop_map(Step::Push),
            (0_usize..12_000).prop_map(Step::Transmit),
            (0_usize..12_000).prop_map(Step::Acknowledge),
            (0_usize..12_000).prop_map(Step::Rewind),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against a plain vector of all bytes ever appended.
        #[test]
        fn every_offset_keeps_its_byte(steps in steps(), retain: bool) {
            let mut buffer = SendBuffer::new(retain);
            let mut all: Vec<u8> = Vec::new();
            let mut sent = 0_usize;
            let mut start = 0_usize;
            for step in steps {
                match step {
                    Step::Append(n) | Step::Push(n) => {
                        let bytes: Vec<u8> = (all.len()..all.len() + n).map(|at| (at * 7 % 251) as u8).collect();
                        all.extend_from_slice(&bytes);
                        if matches!(step, Step::Append(_)) {
                            buffer.append(&bytes);
                        } else {
                            buffer.push(Bytes::from(bytes));
                        }
                    }
                    Step::Transmit(n) => {
                        let n = n.min(all.len() - sent);
                        prop_assert_eq!(&take(&mut buffer, n)[..], &all[sent..sent + n]);
                        sent += n;
                    }
                    Step::Acknowledge(n) if retain => {
                        start += n.min(sent - start);
                        buffer.acknowledge(start as u64);
                    }
                    Step::Rewind(n) if retain => {
                        start += n.min(sent - start);
                        sent = start;
                        prop_assert!(buffer.rewind(start as u64));
                        prop_assert!(start == 0 || !buffer.rewind(start as u64 - 1));
                        prop_assert!(!buffer.rewind(sent as u64 + 1));
                    }
                    _ => {}
                }
                if !retain {
                    start = sent;
                }
                prop_assert_eq!(buffer.start(), start as u64);
                prop_assert_eq!(buffer.sent(), sent as u64);
                prop_assert_eq!(buffer.end(), all.len() as u64);
                prop_assert_eq!(buffer.kept(), (sent - start) as u64);
            }
        }
    }
}
