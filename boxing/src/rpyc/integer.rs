//! Integers of any size, in decimal: as Python writes them on the wire.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTupleStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BrineError, BrineLimits};
use crate::{ShapeFields, ShapeType, Shaped, Shapes};

/// An integer of Python's, of any size.
///
/// Integers of up to 128 bits are better off as such. This type is for those that are larger, or may be: in a typed
/// call it reads any integer. It is kept as text and does no arithmetic; libraries that do read and write the same text.
///
/// ```
/// use farref_boxing::rpyc::BigInt;
///
/// let power: BigInt = "340282366920938463463374607431768211456".parse()?; // 2^128
/// assert_eq!(power.to_i128(), None);
/// assert_eq!("-007".parse::<BigInt>()?.as_str(), "-7");
/// assert!("1e3".parse::<BigInt>().is_err());
/// # Ok::<(), farref_boxing::rpyc::BrineError>(())
/// ```
///
/// To serde it is a struct `int` of its text, and so it is in a [`Value`](crate::Value): `int("123")`.
///
/// # Invariant
///
/// Digits without a zero in front, behind a `-` if it is negative; zero is `0`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInt(Box<str>);

impl BigInt {
    /// The name of its struct.
    pub(super) const NAME: &'static str = "int";

    /// Its digits, behind a `-` if it is negative.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn to_i128(&self) -> Option<i128> {
        self.0.parse().ok()
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn to_u128(&self) -> Option<u128> {
        self.0.parse().ok()
    }
}

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (positive, digits) = match self.0.strip_prefix('-') {
            Some(digits) => (false, digits),
            None => (true, &*self.0),
        };
        f.pad_integral(positive, "", digits)
    }
}

/// The same as `Display`.
impl fmt::Debug for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i128> for BigInt {
    fn from(value: i128) -> Self {
        Self(value.to_string().into())
    }
}

impl From<u128> for BigInt {
    fn from(value: u128) -> Self {
        Self(value.to_string().into())
    }
}

/// Digits, behind a `-` if it is negative; with zeros in front or not.
///
/// Gives [`BrineError::InvalidInteger`] for anything else, and [`BrineError::TooManyDigits`] for more than the 4300
/// digits that Python takes.
impl FromStr for BigInt {
    type Err = BrineError;

    fn from_str(text: &str) -> Result<Self, BrineError> {
        match parse(text.as_bytes(), BrineLimits::default().digits)? {
            Integer::Small(value) => Ok(value.into()),
            Integer::Big(value) => Ok(value),
        }
    }
}

/// An integer in its smallest type.
pub(super) enum Integer {
    Small(i128),
    Big(BigInt),
}

/// The integer that `text` is in decimal.
#[inline]
pub(super) fn parse(text: &[u8], max_digits: usize) -> Result<Integer, BrineError> {
    /// Longest text that cannot overflow 64 bits, with its sign or without.
    const SHORT: usize = 18;
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > max_digits {
        return Err(BrineError::TooManyDigits {
            digits: digits.len(),
            limit: max_digits,
        });
    }
    if digits.is_empty() || digits.len() > SHORT {
        return parse_long(negative, digits);
    }
    let mut number = 0_u64;
    let mut rest = digits;
    while let Some((eight, after)) = rest.split_first_chunk() {
        number = number
            .wrapping_mul(100_000_000)
            .wrapping_add(parse_eight(*eight)?);
        rest = after;
    }
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(BrineError::InvalidInteger);
        }
        number = number.wrapping_mul(10).wrapping_add(digit.into());
    }
    let number = i128::from(number);
    Ok(Integer::Small(if negative {
        number.wrapping_neg()
    } else {
        number
    }))
}

/// Eight digits at once: pairs of neighbours become numbers of two digits, and so on.
#[inline]
fn parse_eight(digits: [u8; 8]) -> Result<u64, BrineError> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    const BYTES: u64 = 0x0000_00ff_0000_00ff;
    let text = u64::from_le_bytes(digits);
    // 0x3a and above leave the row of 0x30 if 6 is added; no byte that passes the first test overflows in the second.
    if text & HIGH != ZEROS || text.wrapping_add(SIXES) & HIGH != ZEROS {
        return Err(BrineError::InvalidInteger);
    }
    let ones = text.wrapping_sub(ZEROS);
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    let outer = (pairs & BYTES).wrapping_mul(100 + (1_000_000 << 32));
    let inner = ((pairs >> 16) & BYTES).wrapping_mul(1 + (10_000 << 32));
    Ok(outer.wrapping_add(inner) >> 32)
}

fn parse_long(negative: bool, digits: &[u8]) -> Result<Integer, BrineError> {
    let text = std::str::from_utf8(digits).map_err(|_| BrineError::InvalidInteger)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BrineError::InvalidInteger);
    }
    let significant = match text.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    // Digits alone fail for their number alone.
    let small = match significant.parse::<u128>() {
        Ok(number) if negative => 0_i128.checked_sub_unsigned(number),
        Ok(number) => number.try_into().ok(),
        Err(_) => None,
    };
    Ok(match small {
        Some(number) => Integer::Small(number),
        None if negative => Integer::Big(BigInt(format!("-{significant}").into())),
        None => Integer::Big(BigInt(significant.into())),
    })
}

/// As `int("123")`.
impl Serialize for BigInt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_tuple_struct(Self::NAME, 1)?;
        fields.serialize_field(self.as_str())?;
        fields.end()
    }
}

/// From `int("123")`, and from an integer or its text where the format says what it holds.
impl<'de> Deserialize<'de> for BigInt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = BigInt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E>(self, value: i64) -> Result<BigInt, E> {
                Ok(i128::from(value).into())
            }

            fn visit_i128<E>(self, value: i128) -> Result<BigInt, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<BigInt, E> {
                Ok(u128::from(value).into())
            }

            fn visit_u128<E>(self, value: u128) -> Result<BigInt, E> {
                Ok(value.into())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BigInt, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<BigInt, A::Error> {
                let text: String = fields
                    .next_element()?
                    .ok_or_else(|| A::Error::invalid_length(0, &self))?;
                self.visit_str(&text)
            }
        }
        deserializer.deserialize_tuple_struct(Self::NAME, 1, Read)
    }
}

/// It refuses most texts, so that it cannot be asked for its shape.
impl Shaped for BigInt {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes.structure::<Self>(Self::NAME, |shapes| ShapeFields::tuple([String::shape(shapes)]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<i128, BrineError> {
        match parse(text.as_bytes(), 4300)? {
            Integer::Small(value) => Ok(value),
            Integer::Big(_) => Err(BrineError::IntegerRange),
        }
    }

    #[test]
    fn every_byte_but_a_digit_is_refused_in_every_place() {
        for len in 1..25 {
            for place in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'7'; len];
                    text[place] = byte;
                    let refused = parse(&text, 4300).is_err();
                    let digit = byte.is_ascii_digit() || place == 0 && byte == b'-' && len > 1;
                    assert_eq!(refused, !digit, "{text:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn text_of_any_length_is_its_number(value: i128, shift in 0..127_u32) {
            let value = value >> shift;
            prop_assert_eq!(parsed(&value.to_string()), Ok(value));
        }
    }
}
