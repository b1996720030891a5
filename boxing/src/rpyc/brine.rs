//! A value of brine as a tree.

use bytes::Bytes;

use super::BigInt;

/// A value that Python passes by value.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use farref_boxing::rpyc::{Brine, BrineLimits, decode, encode};
///
/// let value = Brine::Tuple(vec![Brine::Int(1), Brine::Str("one".into())]);
/// let mut payload = BytesMut::new();
/// encode(&value, &mut payload);
/// assert_eq!(&payload[..], b"\x11\x51\x08\x0cone");
/// assert_eq!(decode(&payload.freeze(), &BrineLimits::default())?, value);
/// # Ok::<(), farref_boxing::rpyc::BrineError>(())
/// ```
///
/// Floats are equal if their bits are, so a NaN equals itself and `0.0` does not equal `-0.0`. Frozensets are equal if
/// their members are, in the same order.
///
/// A value takes 48 bytes, and what it points to. One that is built by hand with thousands of levels overflows the
/// stack when it is encoded or dropped; bytes make none of more than 256.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::exhaustive_enums,
    reason = "Python has no other type that goes by value"
)]
pub enum Brine {
    /// `None`.
    #[default]
    None,
    /// `NotImplemented`, which methods such as `__eq__` return.
    NotImplemented,
    /// `Ellipsis`, which Python also writes `...`.
    Ellipsis,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// An integer that does not fit into [`Int`](Self::Int): a smaller one here does not equal the same one there,
    /// though it is the same in bytes.
    BigInt(BigInt),
    /// A float.
    Float(f64),
    /// A complex number.
    Complex {
        /// Its real part.
        real: f64,
        /// Its imaginary part.
        imag: f64,
    },
    /// A byte string. Decoded, it is a piece of the payload, which it keeps in memory.
    Bytes(Bytes),
    /// Text.
    Str(String),
    /// A tuple.
    Tuple(Vec<Brine>),
    /// A slice: start, stop and step, each of them mostly an integer or none.
    Slice(Box<[Brine; 3]>),
    /// A frozenset. Members are in the order in which they came; none is refused, also not one that is there.
    FrozenSet(Vec<Brine>),
}

impl PartialEq for Brine {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None)
            | (Self::NotImplemented, Self::NotImplemented)
            | (Self::Ellipsis, Self::Ellipsis) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Complex { real, imag }, Self::Complex { real: r, imag: i }) => {
                real.to_bits() == r.to_bits() && imag.to_bits() == i.to_bits()
            }
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) | (Self::FrozenSet(a), Self::FrozenSet(b)) => a == b,
            (Self::Slice(a), Self::Slice(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Brine {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_48_bytes() {
        assert_eq!(size_of::<Brine>(), 48);
    }

    #[test]
    fn floats_are_equal_by_their_bits() {
        assert_eq!(Brine::Float(f64::NAN), Brine::Float(f64::NAN));
        assert_ne!(Brine::Float(0.0), Brine::Float(-0.0));
        let complex = |imag| Brine::Complex { real: 1.0, imag };
        assert_eq!(complex(f64::NAN), complex(f64::NAN));
        assert_ne!(complex(0.0), complex(-0.0));
    }
}
