//! The bytes of what does not nest, and how they are read.
//!
//! The format is bincode's, in one configuration for ever: variable-length integers, little endian (PROTOCOL.md § 9). The code
//! is not: `decoder` counts levels and elements, which bincode does not, and what values consist of is written (`sink`) and read
//! in line. The bytes are pinned by `tests/golden.rs` and checked against bincode, so the format outlives the library.

use std::str::Utf8Error;

use crate::CodecError;
use crate::error::Decoded;

/// The largest first byte of an integer that is all of it.
pub(crate) const SINGLE: u8 = 250;

/// The first byte of an integer that follows in 16, 32, 64 or 128 bits.
pub(crate) const U16: u8 = 251;
pub(crate) const U32: u8 = 252;
pub(crate) const U64: u8 = 253;
pub(crate) const U128: u8 = 254;

/// Bytes that are still to be decoded, and how to read from them what does not nest.
pub(crate) struct Source<'de> {
    rest: &'de [u8],
}

impl<'de> Source<'de> {
    pub(crate) const fn new(rest: &'de [u8]) -> Self {
        Self { rest }
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) const fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Decoded<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.truncated(N as u64)),
        }
    }

    /// An unsigned integer of up to 64 bits.
    #[inline]
    pub(crate) fn varint(&mut self) -> Decoded<u64> {
        match self.rest {
            [byte @ ..=SINGLE, rest @ ..] => {
                self.rest = rest;
                Ok((*byte).into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Decoded<u64> {
        match self.byte()? {
            U16 => self.array().map(|bytes| u16::from_le_bytes(bytes).into()),
            U32 => self.array().map(|bytes| u32::from_le_bytes(bytes).into()),
            U64 => self.array().map(u64::from_le_bytes),
            _ => Err(CodecError::InvalidInteger.into()),
        }
    }

    /// An unsigned integer of a type.
    #[inline]
    pub(crate) fn unsigned<T: TryFrom<u64>>(&mut self) -> Decoded<T> {
        T::try_from(self.varint()?).map_err(|_| CodecError::InvalidInteger.into())
    }

    /// A signed integer of a type: 0, -1, 1, -2 and so on.
    #[inline]
    pub(crate) fn signed<T: TryFrom<i64>>(&mut self) -> Decoded<T> {
        let zigzag = self.varint()?;
        let number = (zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg();
        T::try_from(number).map_err(|_| CodecError::InvalidInteger.into())
    }

    /// An unsigned integer of 128 bits.
    pub(crate) fn wide(&mut self) -> Decoded<u128> {
        if let [U128, rest @ ..] = self.rest {
            self.rest = rest;
            return self.array().map(u128::from_le_bytes);
        }
        self.varint().map(u128::from)
    }

    /// A signed integer of 128 bits.
    pub(crate) fn signed_wide(&mut self) -> Decoded<i128> {
        let zigzag = self.wide()?;
        Ok((zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg())
    }

    /// A character, in UTF-8.
    pub(crate) fn char(&mut self) -> Decoded<char> {
        let begun = self.rest;
        let more = match self.byte()? {
            0..=0x7f => 0,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => return Err(CodecError::InvalidChar.into()),
        };
        self.take(more)?;
        let text = begun
            .get(..=more as usize)
            .and_then(|bytes| str::from_utf8(bytes).ok());
        let char = text.and_then(|text| text.chars().next());
        char.ok_or_else(|| CodecError::InvalidChar.into())
    }

    /// Bytes, with their number before them.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Decoded<&'de [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    /// So many bytes.
    #[inline]
    fn take(&mut self, len: u64) -> Decoded<&'de [u8]> {
        match usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
        {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated(len)),
        }
    }

    #[inline]
    pub(crate) fn str(&mut self) -> Decoded<&'de str> {
        str::from_utf8(self.bytes()?).map_err(not_utf8)
    }

    /// Text of its own, checked where it was copied to: memory that is aligned is checked faster. A function of its own, so
    /// that what calls it is small enough to be inlined, and the text need not be moved.
    #[inline(never)]
    pub(crate) fn string(&mut self) -> Decoded<Box<str>> {
        match String::from_utf8(self.bytes()?.to_vec()) {
            Ok(text) => Ok(text.into_boxed_str()),
            Err(error) => Err(not_utf8(error.utf8_error())),
        }
    }

    #[cold]
    fn truncated(&self, needed: u64) -> Box<CodecError> {
        let left = self.left();
        CodecError::Truncated { needed, left }.into()
    }
}

#[cold]
fn not_utf8(error: Utf8Error) -> Box<CodecError> {
    let valid = error.valid_up_to() as u64;
    CodecError::InvalidUtf8 { valid }.into()
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use bincode::{DefaultOptions, Options};
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use crate::DecodeLimits;
    use crate::decoder::Decoder;

    /// What is read of `bytes`, and how many are left then: here, and by bincode.
    fn both<T: DeserializeOwned>(bytes: &[u8]) -> [Option<(T, u64)>; 2] {
        let mut decoder = Decoder::new(bytes, &DecodeLimits::default());
        let here = T::deserialize(&mut decoder).ok();
        let mut rest = bytes;
        // Without a limit it makes room for whatever is announced.
        let options = DefaultOptions::new().with_limit(1 << 16);
        let there = options.deserialize_from(&mut rest).ok();
        [
            here.map(|value| (value, decoder.left())),
            there.map(|value| (value, rest.len() as u64)),
        ]
    }

    fn check<T: DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Result<(), TestCaseError> {
        let [here, there] = both::<T>(bytes);
        prop_assert_eq!(here, there, "{}", std::any::type_name::<T>());
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_as_bincode_reads_it(
            first in prop_oneof![any::<u8>(), 0..=3_u8, 249..=255_u8],
            zeros in 0..8_usize,
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            // Integers that fit small types are found behind few bytes and many zeros.
            let bytes = [&[first][..], &rest[..rest.len().min(2)], &[0, 0, 0, 0, 0, 0, 0, 0][..zeros], &rest].concat();
            for at in 0..=bytes.len() {
                let bytes = &bytes[..at];
                check::<bool>(bytes)?;
                check::<u8>(bytes)?;
                check::<u16>(bytes)?;
                check::<u32>(bytes)?;
                check::<u64>(bytes)?;
                check::<u128>(bytes)?;
                check::<i8>(bytes)?;
                check::<i16>(bytes)?;
                check::<i32>(bytes)?;
                check::<i64>(bytes)?;
                check::<i128>(bytes)?;
                check::<char>(bytes)?;
                check::<String>(bytes)?;
                check::<Option<u16>>(bytes)?;
                check::<Vec<i16>>(bytes)?;
                let [here, there] = both::<(f32, f64)>(bytes);
                let bits = |read: Option<((f32, f64), u64)>| read.map(|((a, b), left)| (a.to_bits(), b.to_bits(), left));
                prop_assert_eq!(bits(here), bits(there));
            }
        }
    }
}
