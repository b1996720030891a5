//! Bytes of a message, taken off the front one field at a time.

use farref_framing::varint::{self, VarintError};

use super::MessageError;

/// The rest of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// How many descriptors the message may have.
    pub(super) references: u32,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], references: u32) -> Self {
        Self {
            rest: bytes,
            references,
        }
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, MessageError> {
        match varint::take(&mut self.rest) {
            Ok(number) => Ok(number),
            Err(VarintError::Truncated) => Err(MessageError::Truncated),
            Err(error) => Err(MessageError::Varint(error)),
        }
    }

    /// A number that must fit 32 bits.
    pub(super) fn small(&mut self) -> Result<u32, MessageError> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| MessageError::TooLarge { number })
    }

    /// How many elements follow, each of at least `least` bytes: never more than there are bytes for.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, MessageError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count.saturating_mul(least) <= self.left() => Ok(count),
            _ => Err(MessageError::Truncated),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(MessageError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, MessageError> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes behind their length, at most `limit` of them.
    pub(super) fn bytes_within(&mut self, limit: usize) -> Result<&'a [u8], MessageError> {
        let bytes = self.bytes()?;
        if bytes.len() > limit {
            return Err(MessageError::TooLarge {
                number: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], MessageError> {
        let len = self.count(1)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(MessageError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A text behind its length, of at most `limit` bytes.
    pub(super) fn text(&mut self, limit: usize) -> Result<String, MessageError> {
        std::str::from_utf8(self.bytes_within(limit)?)
            .map(Into::into)
            .map_err(|_| MessageError::NotText)
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
