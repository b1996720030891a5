//! Bytes of a message, taken off the front one field at a time.

use farref_framing::varint::{self, VarintError};

use super::MessageError;

/// The rest of a message.
///
/// Where something is wrong, whatever is read from there on is nothing: zeros and no bytes. So a message is read to its end, and
/// asked once what was wrong with it, by [`finish`](Self::finish).
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// How many descriptors the message may have.
    pub(super) references: u32,
    /// What was wrong first.
    wrong: Option<MessageError>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], references: u32) -> Self {
        Self {
            rest: bytes,
            references,
            wrong: None,
        }
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// How many bytes follow the message, which was read.
    ///
    /// # Errors
    ///
    /// What was wrong first.
    pub(super) const fn finish(self) -> Result<usize, MessageError> {
        match self.wrong {
            None => Ok(self.rest.len()),
            Some(error) => Err(error),
        }
    }

    /// Something is wrong.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, error: MessageError) {
        self.wrong.get_or_insert(error);
        self.rest = &[];
    }

    #[inline]
    pub(super) fn number(&mut self) -> u64 {
        match varint::take_short(&mut self.rest) {
            Some(number) => number,
            None => self.long_number(),
        }
    }

    #[inline(never)]
    fn long_number(&mut self) -> u64 {
        match varint::take(&mut self.rest) {
            Ok(number) => number,
            Err(error) => {
                self.fail(match error {
                    VarintError::Truncated => MessageError::Truncated,
                    error => MessageError::Varint(error),
                });
                0
            }
        }
    }

    /// A number that must fit 32 bits.
    pub(super) fn small(&mut self) -> u32 {
        let number = self.number();
        u32::try_from(number).unwrap_or_else(|_| {
            self.fail(MessageError::TooLarge { number });
            0
        })
    }

    /// How many elements follow, each of at least `least` bytes: never more than there are bytes for.
    pub(super) fn count(&mut self, least: usize) -> usize {
        let count = self.number();
        match usize::try_from(count) {
            Ok(count) if count.saturating_mul(least) <= self.left() => count,
            _ => {
                self.fail(MessageError::Truncated);
                0
            }
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        if let Some((bytes, rest)) = self.rest.split_first_chunk() {
            self.rest = rest;
            *bytes
        } else {
            self.fail(MessageError::Truncated);
            [0; N]
        }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    #[inline]
    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    #[inline]
    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Bytes behind their length, at most `limit` of them.
    pub(super) fn bytes_within(&mut self, limit: usize) -> &'a [u8] {
        let bytes = self.bytes();
        if bytes.len() > limit {
            let number = bytes.len() as u64;
            self.fail(MessageError::TooLarge { number });
            return &[];
        }
        bytes
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = self.count(1);
        let (bytes, rest) = self.rest.split_at_checked(len).unwrap_or_default();
        self.rest = rest;
        bytes
    }

    /// A text behind its length, of at most `limit` bytes.
    pub(super) fn text(&mut self, limit: usize) -> String {
        match std::str::from_utf8(self.bytes_within(limit)) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.fail(MessageError::NotText);
                String::new()
            }
        }
    }
}

/// Writes bytes behind their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a text of a peer's name or reason behind its length, cut to [`MAX_TEXT`](super::MAX_TEXT).
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(super::MAX_TEXT);
    put_bytes(out, text.as_bytes().get(..end).unwrap_or_default());
}
