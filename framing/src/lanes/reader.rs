//! Lane 0 as it is read: the bytes of a lane back to messages (PROTOCOL.md § 3.2).
//!
//! Knows the prefix of a message and nothing of what is in it. A message that lies within one frame is a slice of it;
//! one that spans frames is put together in a buffer that grows with what came, not with what was announced.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::buffer::{length, size};
use crate::error::Breach;
use crate::event::Message;
use crate::limits::MAX_FRAGMENT;
use crate::link::LaneId;
use crate::varint::{self, VarintError};

/// Longest prefix: three varints.
const PREFIX: usize = 27;

/// Puts messages together.
///
/// # Invariant
///
/// At most one of `stash` and `partial` holds something. `stash` is the beginning of a prefix, and not the whole of
/// one.
#[derive(Debug)]
pub(crate) struct Reader {
    limit: u64,
    stash: [u8; PREFIX],
    stashed: usize,
    /// Boxed, as few messages span frames.
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    bytes: BytesMut,
    missing: usize,
    bulk: Option<(LaneId, u64)>,
}

/// What stands before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    /// Bytes of head that follow.
    head: usize,
    /// Lane and length of a body that comes elsewhere.
    bulk: Option<(LaneId, u64)>,
    /// Bytes of the prefix itself.
    len: usize,
}

impl Reader {
    /// Reads messages of up to `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            stash: [0; PREFIX],
            stashed: 0,
            partial: None,
        }
    }

    /// The bytes of the next message in `payload`, if it is short and all of it is there, as most are.
    #[inline]
    pub(crate) fn next_short(&mut self, payload: &mut Bytes) -> Option<Bytes> {
        let (prefix, rest) = payload.split_first()?;
        let head = usize::from(prefix >> 1); // messages are never limited to less than that
        let is_whole = *prefix <= 250 && prefix & 1 == 0 && head <= rest.len();
        if !is_whole || self.stashed != 0 || self.partial.is_some() {
            return None;
        }
        payload.advance(1);
        Some(payload.split_to(head))
    }

    /// The next message that is complete with `payload`, of which it takes what it needs. `None`: all was taken.
    pub(crate) fn next(&mut self, payload: &mut Bytes) -> Result<Option<Message>, Breach> {
        if self.stashed != 0 || self.partial.is_some() {
            return self.resume(payload);
        }
        if payload.is_empty() {
            return Ok(None);
        }
        let Some(prefix) = Prefix::decode(payload, self.limit)? else {
            for byte in std::mem::take(payload) {
                self.stash(byte);
            }
            return Ok(None);
        };
        payload.advance(prefix.len);
        Ok(self.begin(prefix, payload))
    }

    /// Goes on with what an earlier frame began.
    fn resume(&mut self, payload: &mut Bytes) -> Result<Option<Message>, Breach> {
        while self.stashed != 0 {
            if payload.is_empty() {
                return Ok(None);
            }
            self.stash(payload.get_u8());
            if let Some(prefix) =
                Prefix::decode(self.stash.get(..self.stashed).unwrap_or_default(), self.limit)?
            {
                self.stashed = 0;
                return Ok(self.begin(prefix, payload));
            }
        }
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        let take = partial.missing.min(payload.len());
        partial.bytes.extend_from_slice(&payload.split_to(take));
        partial.missing = partial.missing.saturating_sub(take);
        Ok(if partial.missing == 0 {
            self.partial.take().map(|partial| partial.finish())
        } else {
            None
        })
    }

    fn begin(&mut self, prefix: Prefix, payload: &mut Bytes) -> Option<Message> {
        if payload.len() >= prefix.head {
            return Some(message(payload.split_to(prefix.head), prefix.bulk));
        }
        let mut bytes = BytesMut::with_capacity(prefix.head.min(MAX_FRAGMENT));
        let missing = prefix.head.saturating_sub(payload.len());
        bytes.extend_from_slice(&std::mem::take(payload));
        self.partial = Some(Box::new(Partial {
            bytes,
            missing,
            bulk: prefix.bulk,
        }));
        None
    }

    fn stash(&mut self, byte: u8) {
        if let Some(slot) = self.stash.get_mut(self.stashed) {
            *slot = byte;
            self.stashed = self.stashed.saturating_add(1);
        }
    }
}

impl Partial {
    fn finish(self) -> Message {
        message(self.bytes.freeze(), self.bulk)
    }
}

#[inline]
fn message(bytes: Bytes, bulk: Option<(LaneId, u64)>) -> Message {
    match bulk {
        None => Message::inline(bytes),
        Some((lane, len)) => Message::with_bulk(bytes, lane, len),
    }
}

impl Prefix {
    /// Reads the prefix at the beginning of `bytes`, or `None` if more is needed. Lengths are checked as they come.
    #[inline]
    fn decode(bytes: &[u8], limit: u64) -> Result<Option<Self>, Breach> {
        let Some((first, at)) = varint::decode(bytes)? else {
            return Ok(None);
        };
        let head = first >> 1;
        if head > limit {
            return Err(Breach::MessageTooLong { len: head, limit });
        }
        if first & 1 == 0 {
            return Ok(Some(Self {
                head: size(head),
                bulk: None,
                len: at,
            }));
        }
        Self::decode_bulk(bytes, at, head, limit)
    }

    fn decode_bulk(bytes: &[u8], at: usize, head: u64, limit: u64) -> Result<Option<Self>, Breach> {
        let mut rest = bytes.get(at..).unwrap_or_default();
        let before = rest.len();
        let numbers = varint::take(&mut rest).and_then(|lane| Ok((lane, varint::take(&mut rest)?)));
        let (lane, body) = match numbers {
            Ok(numbers) => numbers,
            Err(VarintError::Truncated) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = head.saturating_add(body);
        if len > limit {
            return Err(Breach::MessageTooLong { len, limit });
        }
        if lane == 0 || body == 0 {
            return Err(Breach::UnknownLane {
                lane: LaneId::new(lane),
            });
        }
        let used = at.saturating_add(before.saturating_sub(rest.len()));
        Ok(Some(Self {
            head: size(head),
            bulk: Some((LaneId::new(lane), body)),
            len: used,
        }))
    }
}

/// Writes the prefix of a message.
#[inline]
pub(crate) fn put_prefix(out: &mut impl BufMut, head: usize, bulk: Option<(u64, u64)>) {
    varint::put(out, length(head) << 1 | u64::from(bulk.is_some()));
    if let Some((lane, len)) = bulk {
        put_bulk(out, lane, len);
    }
}

#[cold]
fn put_bulk(out: &mut impl BufMut, lane: u64, len: u64) {
    varint::put(out, lane);
    varint::put(out, len);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(reader: &mut Reader, frame: &[u8]) -> Result<Vec<Message>, Breach> {
        let mut payload = Bytes::copy_from_slice(frame);
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut payload)? {
            messages.push(message);
        }
        assert!(payload.is_empty());
        Ok(messages)
    }

    fn drawn() -> (Vec<u8>, Vec<Message>) {
        let mut bytes = vec![10, b'h', b'e', b'l', b'l', b'o'];
        bytes.extend_from_slice(&[5, 9, 251, 0, 1, b'b', b'y']);
        bytes.extend_from_slice(&[0]);
        bytes.extend_from_slice(&[251, 0x58, 0x02]);
        bytes.extend_from_slice(&[7; 300]);
        let messages = vec![
            Message::inline(Bytes::from_static(b"hello")),
            Message::with_bulk(Bytes::from_static(b"by"), LaneId::new(9), 256),
            Message::inline(Bytes::new()),
            Message::inline(Bytes::from_static(&[7; 300])),
        ];
        (bytes, messages)
    }

    #[test]
    fn messages_have_their_bytes_both_ways() {
        let (bytes, messages) = drawn();
        assert_eq!(read(&mut Reader::new(1024), &bytes), Ok(messages));
        let prefix = |head, bulk| {
            let mut out = Vec::new();
            put_prefix(&mut out, head, bulk);
            out
        };
        assert_eq!(prefix(5, None)[..], [10]);
        assert_eq!(prefix(2, Some((9, 256)))[..], [5, 9, 251, 0, 1]);
        assert_eq!(prefix(300, None)[..], [251, 0x58, 0x02]);
    }

    #[test]
    fn messages_cut_anywhere_into_two_frames_are_the_same_messages() {
        let (bytes, messages) = drawn();
        for cut in 0..=bytes.len() {
            let mut reader = Reader::new(1024);
            let mut all = read(&mut reader, &bytes[..cut]).unwrap();
            all.extend(read(&mut reader, &bytes[cut..]).unwrap());
            assert_eq!(all, messages, "cut at {cut}");
        }
    }

    #[test]
    fn a_message_within_one_frame_is_a_slice_of_it() {
        let frame = Bytes::from_static(&[6, 1, 2, 3]);
        let message = Reader::new(1024).next(&mut frame.clone()).unwrap().unwrap();
        assert_eq!(message.bytes.as_ptr(), frame[1..].as_ptr());
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_length_alone() {
        let mut reader = Reader::new(1024);
        let refused = Err(Breach::MessageTooLong {
            len: 1025,
            limit: 1024,
        });
        assert_eq!(read(&mut reader, &[251, 2, 8]), refused);
        // head 24 and body 1001
        assert_eq!(read(&mut Reader::new(1024), &[49, 1, 251, 0xe9, 3]), refused);
        let huge = [253, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            read(&mut Reader::new(1024), &huge),
            Err(Breach::MessageTooLong { .. })
        ));
    }

    #[test]
    fn an_announced_length_reserves_little() {
        let mut reader = Reader::new(1 << 30);
        let mut frame = Vec::new();
        varint::put(&mut frame, 2 << 29);
        frame.push(1);
        assert_eq!(read(&mut reader, &frame), Ok(vec![]));
        assert!(reader.partial.unwrap().bytes.capacity() <= MAX_FRAGMENT);
    }

    #[test]
    fn a_body_is_on_a_lane_and_has_bytes() {
        assert!(read(&mut Reader::new(1024), &[1, 0, 5]).is_err());
        assert!(read(&mut Reader::new(1024), &[1, 5, 0]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_in_frames_never_panics(frames in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..8))
        {
            let mut reader = Reader::new(2000);
            for frame in frames {
                if read(&mut reader, &frame).is_err() {
                    break;
                }
            }
        }
    }
}
