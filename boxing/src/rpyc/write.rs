//! Values to bytes: a whole one, or piece by piece without building it.
//!
//! All of it is canonical: byte for byte what Python writes for the same value.

use bytes::BytesMut;

use super::{BigInt, Brine};

/// The tag of the smallest and of the largest integer that is a tag and nothing else.
const IMMEDIATE: std::ops::RangeInclusive<i64> = -48..=159;
/// The tag of 0.
const ZERO: u8 = 0x50;
/// Longest decimal text of an integer of 128 bits, with its sign.
const LONGEST: usize = 40;

/// Appends `value` to `out`.
pub fn encode(value: &Brine, out: &mut BytesMut) {
    match value {
        Brine::None => put_none(out),
        Brine::NotImplemented => put_not_implemented(out),
        Brine::Ellipsis => put_ellipsis(out),
        Brine::Bool(value) => put_bool(*value, out),
        Brine::Int(value) => put_int(*value, out),
        Brine::BigInt(value) => put_big_int(value, out),
        Brine::Float(value) => put_float(*value, out),
        Brine::Complex { real, imag } => put_complex(*real, *imag, out),
        Brine::Bytes(value) => put_bytes(value, out),
        Brine::Str(value) => put_str(value, out),
        Brine::Tuple(items) => {
            put_tuple(items.len(), out);
            encode_all(items, out);
        }
        Brine::Slice(parts) => {
            put_slice(out);
            encode_all(&**parts, out);
        }
        Brine::FrozenSet(items) => {
            put_frozenset(items.len(), out);
            encode_all(items, out);
        }
    }
}

fn encode_all(items: &[Brine], out: &mut BytesMut) {
    for item in items {
        encode(item, out);
    }
}

/// Appends `None`.
#[inline]
pub fn put_none(out: &mut BytesMut) {
    out.extend_from_slice(&[0x00]);
}

/// Appends `NotImplemented`.
#[inline]
pub fn put_not_implemented(out: &mut BytesMut) {
    out.extend_from_slice(&[0x05]);
}

/// Appends `Ellipsis`.
#[inline]
pub fn put_ellipsis(out: &mut BytesMut) {
    out.extend_from_slice(&[0x06]);
}

/// Appends a boolean.
#[inline]
pub fn put_bool(value: bool, out: &mut BytesMut) {
    out.extend_from_slice(&[if value { 0x03 } else { 0x04 }]);
}

/// Appends an integer.
#[inline]
pub fn put_int(value: impl Into<i128>, out: &mut BytesMut) {
    let value = value.into();
    match i64::try_from(value) {
        // Within the range the sum is from 0x20 to 0xef.
        Ok(value) if IMMEDIATE.contains(&value) => {
            out.extend_from_slice(&[(value as u8).wrapping_add(ZERO)]);
        }
        _ => put_decimal(value < 0, value.unsigned_abs(), out),
    }
}

/// Appends an integer of any size.
pub fn put_big_int(value: &BigInt, out: &mut BytesMut) {
    match value.to_i128() {
        Some(value) => put_int(value, out),
        None => put_decimal_text(value.as_str().as_bytes(), out),
    }
}

/// Appends an integer that is not negative and may be beyond [`i128::MAX`].
pub(super) fn put_unsigned(value: u128, out: &mut BytesMut) {
    match i128::try_from(value) {
        Ok(value) => put_int(value, out),
        Err(_) => put_decimal(false, value, out),
    }
}

fn put_decimal(negative: bool, magnitude: u128, out: &mut BytesMut) {
    let mut buffer = [0; LONGEST];
    let mut at = LONGEST;
    let mut push = |byte: u8| {
        at = at.saturating_sub(1);
        if let Some(place) = buffer.get_mut(at) {
            *place = byte;
        }
    };
    let mut high = magnitude;
    // The lower digits, 18 at a time, which divisions of 64 bits can do.
    let mut low = loop {
        match u64::try_from(high) {
            Ok(low) => break low,
            Err(_) => {
                let mut group = (high % 1_000_000_000_000_000_000) as u64;
                high /= 1_000_000_000_000_000_000;
                for _ in 0..18 {
                    push(b'0'.wrapping_add((group % 10) as u8));
                    group /= 10;
                }
            }
        }
    };
    while {
        push(b'0'.wrapping_add((low % 10) as u8));
        low /= 10;
        low != 0
    } {}
    if negative {
        push(b'-');
    }
    put_decimal_text(buffer.get(at..).unwrap_or_default(), out);
}

fn put_decimal_text(text: &[u8], out: &mut BytesMut) {
    match u8::try_from(text.len()) {
        Ok(len) => out.extend_from_slice(&[0x16, len]),
        Err(_) => put_long_count(0x17, text.len(), out),
    }
    out.extend_from_slice(text);
}

/// Appends a float.
#[inline]
pub fn put_float(value: f64, out: &mut BytesMut) {
    out.extend_from_slice(&[0x18]);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a complex number.
pub fn put_complex(real: f64, imag: f64, out: &mut BytesMut) {
    out.extend_from_slice(&[0x1b]);
    out.extend_from_slice(&real.to_be_bytes());
    out.extend_from_slice(&imag.to_be_bytes());
}

/// Appends a byte string.
///
/// No frame can hold one of 4 GiB or more, whose length is not written as it is.
#[inline]
pub fn put_bytes(value: &[u8], out: &mut BytesMut) {
    match value.len() {
        0 => out.extend_from_slice(&[0x01]),
        len @ 1..=4 => out.extend_from_slice(&[(len as u8).wrapping_add(0x09)]),
        len @ 5..=0xff => out.extend_from_slice(&[0x0e, len as u8]),
        len => put_long_count(0x0f, len, out),
    }
    out.extend_from_slice(value);
}

/// Appends text.
///
/// No frame can hold one of 4 GiB or more, whose length is not written as it is.
#[inline]
pub fn put_str(value: &str, out: &mut BytesMut) {
    out.extend_from_slice(&[0x08]);
    put_bytes(value.as_bytes(), out);
}

/// Appends the beginning of a tuple, which its `count` items have to follow.
#[inline]
pub fn put_tuple(count: usize, out: &mut BytesMut) {
    match count {
        0 => out.extend_from_slice(&[0x02]),
        1..=4 => out.extend_from_slice(&[(count as u8).wrapping_add(0x0f)]),
        5..=0xff => out.extend_from_slice(&[0x14, count as u8]),
        _ => put_long_count(0x15, count, out),
    }
}

/// Appends the beginning of a slice, which start, stop and step have to follow.
pub fn put_slice(out: &mut BytesMut) {
    out.extend_from_slice(&[0x19, 0x12]);
}

/// Appends the beginning of a frozenset, which its `count` members have to follow, none of them twice.
pub fn put_frozenset(count: usize, out: &mut BytesMut) {
    out.extend_from_slice(&[0x1a]);
    put_tuple(count, out);
}

/// Appends a count that takes 4 bytes. One that takes more is cut off: as many bytes do not fit into a frame.
fn put_long_count(tag: u8, count: usize, out: &mut BytesMut) {
    out.extend_from_slice(&[tag]);
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    fn int(value: i128) -> Vec<u8> {
        written(|out| put_int(value, out))
    }

    #[test]
    fn small_integers_are_their_tag() {
        assert_eq!(int(-48), [0x20]);
        assert_eq!(int(0), [0x50]);
        assert_eq!(int(159), [0xef]);
    }

    #[test]
    fn other_integers_are_decimal_text() {
        assert_eq!(int(-49), b"\x16\x03-49");
        assert_eq!(int(160), b"\x16\x03160");
        for value in [
            i128::from(i64::MIN),
            i64::MAX.into(),
            u64::MAX.into(),
            i128::from(u64::MAX) + 1,
            1_000_000_000_000_000_000_000_000_000_000_000_000,
            i128::MIN,
            i128::MAX,
        ] {
            let text = value.to_string();
            assert_eq!(int(value), [&[0x16, text.len() as u8], text.as_bytes()].concat());
        }
        let text = u128::MAX.to_string();
        let bytes = written(|out| put_unsigned(u128::MAX, out));
        assert_eq!(bytes, [&[0x16, 39], text.as_bytes()].concat());
    }

    #[test]
    fn long_integers_have_a_long_count() {
        for (digits, head) in [(255, &[0x16, 0xff][..]), (256, &[0x17, 0, 0, 1, 0])] {
            let text = "9".repeat(digits);
            let bytes = written(|out| put_big_int(&text.parse().unwrap(), out));
            assert_eq!(bytes, [head, text.as_bytes()].concat());
        }
    }

    #[test]
    fn counts_take_no_more_than_they_must() {
        let text = |len| written(|out| put_str(&"a".repeat(len), out))[..2].to_vec();
        assert_eq!(written(|out| put_str("", out)), [0x08, 0x01]);
        assert_eq!(text(1), [0x08, 0x0a]);
        assert_eq!(text(4), [0x08, 0x0d]);
        assert_eq!(text(5), [0x08, 0x0e]);
        assert_eq!(text(255), [0x08, 0x0e]);
        assert_eq!(text(256), [0x08, 0x0f]);
        let tuple = |count| written(|out| put_tuple(count, out));
        assert_eq!(tuple(0), [0x02]);
        assert_eq!(tuple(1), [0x10]);
        assert_eq!(tuple(4), [0x13]);
        assert_eq!(tuple(5), [0x14, 5]);
        assert_eq!(tuple(255), [0x14, 255]);
        assert_eq!(tuple(256), [0x15, 0, 0, 1, 0]);
    }
}
