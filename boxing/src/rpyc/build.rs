//! What a value that is read can become: a tree, a [`Value`](crate::Value) (`convert`), or nothing.

use bytes::Bytes;

use super::{BigInt, Brine};

/// Values of which there is one.
pub(super) enum Constant {
    None,
    NotImplemented,
    Ellipsis,
}

/// What a value can become.
pub(super) trait Build<'a>: Sized {
    /// Several of them.
    type Many;

    fn constant(value: Constant) -> Self;
    fn bool(value: bool) -> Self;
    fn int(value: i128) -> Self;
    fn big_int(value: BigInt) -> Self;
    fn float(value: f64) -> Self;
    fn complex(real: f64, imag: f64) -> Self;
    /// `value` is a piece of `payload`.
    fn bytes(payload: &'a Bytes, value: &'a [u8]) -> Self;
    fn text(value: &'a str) -> Self;
    fn many(room: usize) -> Self::Many;
    fn push(items: &mut Self::Many, item: Self);
    fn tuple(items: Self::Many) -> Self;
    fn slice(parts: [Self; 3]) -> Self;
    fn frozenset(items: Self::Many) -> Self;
}

impl<'a> Build<'a> for Brine {
    type Many = Vec<Self>;

    fn constant(value: Constant) -> Self {
        match value {
            Constant::None => Self::None,
            Constant::NotImplemented => Self::NotImplemented,
            Constant::Ellipsis => Self::Ellipsis,
        }
    }

    fn bool(value: bool) -> Self {
        Self::Bool(value)
    }

    fn int(value: i128) -> Self {
        Self::Int(value)
    }

    fn big_int(value: BigInt) -> Self {
        Self::BigInt(value)
    }

    fn float(value: f64) -> Self {
        Self::Float(value)
    }

    fn complex(real: f64, imag: f64) -> Self {
        Self::Complex { real, imag }
    }

    fn bytes(payload: &'a Bytes, value: &'a [u8]) -> Self {
        Self::Bytes(payload.slice_ref(value))
    }

    fn text(value: &'a str) -> Self {
        Self::Str(value.to_owned())
    }

    fn many(room: usize) -> Vec<Self> {
        Vec::with_capacity(room)
    }

    fn push(items: &mut Vec<Self>, item: Self) {
        items.push(item);
    }

    fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(items)
    }

    fn slice(parts: [Self; 3]) -> Self {
        Self::Slice(Box::new(parts))
    }

    fn frozenset(items: Vec<Self>) -> Self {
        Self::FrozenSet(items)
    }
}

/// Nothing is kept.
impl<'a> Build<'a> for () {
    type Many = ();

    fn constant(_: Constant) {}
    fn bool(_: bool) {}
    fn int(_: i128) {}
    fn big_int(_: BigInt) {}
    fn float(_: f64) {}
    fn complex(_: f64, _: f64) {}
    fn bytes(_: &'a Bytes, _: &'a [u8]) {}
    fn text(_: &'a str) {}
    fn many(_: usize) {}
    fn push(_: &mut (), _: ()) {}
    fn tuple(_: ()) {}
    fn slice(_: [(); 3]) {}
    fn frozenset(_: ()) {}
}
