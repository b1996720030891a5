//! The one variable-length integer of the wire: bincode's, in its shortest form only (PROTOCOL.md § 1.2).
//!
//! Knows nothing but bytes and numbers. A value up to 250 is one byte; 251, 252 and 253 announce a little-endian
//! `u16`, `u32` and `u64`. 254 and 255 are refused, and so is a value that would have fitted a shorter form: each
//! number has exactly one encoding.

use std::fmt;

use bytes::BufMut;

/// Longest encoding, in bytes.
pub const MAX_LEN: usize = 9;

const U16: u8 = 251;
const U32: u8 = 252;
const U64: u8 = 253;

/// Why bytes are not a varint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VarintError {
    /// The bytes end inside the number.
    Truncated,
    /// The number would have fitted a shorter form.
    Overlong,
    /// The first byte is 254 or 255.
    Prefix(u8),
}

impl fmt::Display for VarintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end inside a varint"),
            Self::Overlong => f.write_str("a varint is not in its shortest form"),
            Self::Prefix(first) => write!(f, "a varint begins with {first}"),
        }
    }
}

impl std::error::Error for VarintError {}

/// How many bytes [`put`] writes for `value`.
#[must_use]
pub const fn len(value: u64) -> usize {
    match value {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends `value` to `out`.
#[inline]
pub fn put(out: &mut impl BufMut, value: u64) {
    match value {
        0..=250 => out.put_u8(value as u8),
        _ => put_long(out, value),
    }
}

#[inline(never)]
fn put_long(out: &mut impl BufMut, value: u64) {
    match value {
        0..=0xffff => {
            out.put_u8(U16);
            out.put_u16_le(value as u16);
        }
        0x1_0000..=0xffff_ffff => {
            out.put_u8(U32);
            out.put_u32_le(value as u32);
        }
        _ => {
            out.put_u8(U64);
            out.put_u64_le(value);
        }
    }
}

/// Reads the varint at the beginning of `bytes`: its value and its length, or `None` if more bytes are needed.
///
/// # Errors
///
/// [`VarintError::Overlong`] and [`VarintError::Prefix`] as soon as the bytes that tell are there.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    match bytes {
        [] => Ok(None),
        [value @ 0..=250, ..] => Ok(Some((u64::from(*value), 1))),
        [first, rest @ ..] => decode_long(*first, rest),
    }
}

/// One for all who read: their own code stays short.
#[inline(never)]
fn decode_long(first: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    let (value, smallest, len) = match first {
        U16 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u16::from_le_bytes(*bytes)), 251, 3),
            None => return Ok(None),
        },
        U32 => match rest.first_chunk() {
            Some(bytes) => (u64::from(u32::from_le_bytes(*bytes)), 0x1_0000, 5),
            None => return Ok(None),
        },
        U64 => match rest.first_chunk() {
            Some(bytes) => (u64::from_le_bytes(*bytes), 0x1_0000_0000, 9),
            None => return Ok(None),
        },
        _ => return Err(VarintError::Prefix(first)),
    };
    if value < smallest {
        Err(VarintError::Overlong)
    } else {
        Ok(Some((value, len)))
    }
}

/// Takes a varint off the front of `bytes`, which are all there will be.
///
/// # Errors
///
/// As [`decode`], and [`VarintError::Truncated`] where that would ask for more.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    match take_short(bytes) {
        Some(value) => Ok(value),
        None => take_long(bytes),
    }
}

/// Takes a varint of one byte off the front of `bytes`: `None` if it is longer, wrong or not there, and then nothing is taken.
#[inline]
pub fn take_short(bytes: &mut &[u8]) -> Option<u64> {
    match bytes {
        [value @ 0..=250, rest @ ..] => {
            let value = u64::from(*value);
            *bytes = rest;
            Some(value)
        }
        _ => None,
    }
}

#[inline(never)]
fn take_long(bytes: &mut &[u8]) -> Result<u64, VarintError> {
    let (value, len) = decode(bytes)?.ok_or(VarintError::Truncated)?;
    *bytes = bytes.get(len..).unwrap_or_default();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRAWN: &[(u64, &[u8])] = &[
        (0, &[0]),
        (250, &[250]),
        (251, &[251, 251, 0]),
        (0xffff, &[251, 0xff, 0xff]),
        (0x1_0000, &[252, 0, 0, 1, 0]),
        (0xffff_ffff, &[252, 0xff, 0xff, 0xff, 0xff]),
        (0x1_0000_0000, &[253, 0, 0, 0, 0, 1, 0, 0, 0]),
        (u64::MAX, &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];

    #[test]
    fn each_form_has_its_bytes_both_ways() {
        for (value, bytes) in DRAWN {
            let mut out = Vec::new();
            put(&mut out, *value);
            assert_eq!(&out, bytes);
            assert_eq!(len(*value), bytes.len());
            assert_eq!(decode(bytes), Ok(Some((*value, bytes.len()))));
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_refused() {
        for bytes in [
            &[251, 250, 0][..],
            &[252, 0xff, 0xff, 0, 0],
            &[253, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ] {
            assert_eq!(decode(bytes), Err(VarintError::Overlong));
        }
        assert_eq!(decode(&[254, 0]), Err(VarintError::Prefix(254)));
        assert_eq!(decode(&[255]), Err(VarintError::Prefix(255)));
    }

    #[test]
    fn a_cut_varint_asks_for_more() {
        for (_, bytes) in DRAWN {
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None));
                assert_eq!(take(&mut &bytes[..cut]), Err(VarintError::Truncated));
            }
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            let mut bytes = &out[..];
            prop_assert_eq!(take(&mut bytes), Ok(value));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn what_is_read_is_written_alike(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(Some((value, len))) = decode(&bytes) {
                let mut out = Vec::new();
                put(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..len]);
            }
        }
    }
}
