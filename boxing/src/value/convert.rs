//! Values from the types of std, and back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use ::bytes::Bytes;

use super::{Record, Value, ValueError};
use crate::Reference;

macro_rules! from_as_int {
    ($($type:ty)*) => {$(
        impl From<$type> for Value {
            #[inline]
            fn from(value: $type) -> Self {
                Self::Int(value.into())
            }
        }
    )*};
}

from_as_int! { i8 i16 i32 i64 i128 u8 u16 u32 u64 }

impl From<u128> for Value {
    fn from(value: u128) -> Self {
        i128::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Int(value as i128)
    }
}

impl From<isize> for Value {
    fn from(value: isize) -> Self {
        Self::Int(value as i128)
    }
}

macro_rules! from_as_is {
    ($($type:ty => $variant:ident;)*) => {$(
        impl From<$type> for Value {
            #[inline]
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from_as_is! {
    bool => Bool;
    f32 => Single;
    f64 => Float;
    char => Char;
    &str => Str;
    String => Str;
    Box<str> => Str;
    Cow<'_, str> => Str;
    Bytes => Bytes;
    Record => Record;
    Reference => Reference;
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

/// As serde's options: `Some` is written out only where null would mean something else.
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, |value| Self::some(value.into()))
    }
}

impl Value {
    /// `value` as an option that is not empty.
    #[inline]
    pub(crate) fn some(value: Self) -> Self {
        match value {
            Self::Null | Self::Some(_) => Self::Some(Box::new(value)),
            value => value,
        }
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Into<Self>, const N: usize> From<[T; N]> for Value {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<K: Into<Self>, V: Into<Self>> From<BTreeMap<K, V>> for Value {
    fn from(map: BTreeMap<K, V>) -> Self {
        map.into_iter().collect()
    }
}

impl<K: Into<Self>, V: Into<Self>, S> From<HashMap<K, V, S>> for Value {
    fn from(map: HashMap<K, V, S>) -> Self {
        map.into_iter().collect()
    }
}

/// A list.
impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// A map.
impl<K: Into<Self>, V: Into<Self>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Self::Map(entries.map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Value {
    fn is_not(&self, expected: &str) -> ValueError {
        ValueError::new(format_args!("expected {expected}, found {}", self.kind()))
    }
}

macro_rules! try_into_integer {
    ($($type:ty)*) => {$(
        /// An integer that fits.
        impl TryFrom<&Value> for $type {
            type Error = ValueError;

            fn try_from(value: &Value) -> Result<Self, ValueError> {
                let signed = value.as_i128().and_then(|value| value.try_into().ok());
                signed
                    .or_else(|| value.as_u128()?.try_into().ok())
                    .ok_or_else(|| value.is_not(concat!("an integer that fits ", stringify!($type))))
            }
        }

        /// An integer that fits.
        impl TryFrom<Value> for $type {
            type Error = ValueError;

            fn try_from(value: Value) -> Result<Self, ValueError> {
                (&value).try_into()
            }
        }
    )*};
}

try_into_integer! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

macro_rules! try_into {
    ($($pattern:pat => $type:ty: $expected:literal, $result:expr;)*) => {$(
        impl TryFrom<Value> for $type {
            type Error = ValueError;

            fn try_from(value: Value) -> Result<Self, ValueError> {
                match value {
                    $pattern => Ok($result),
                    value => Err(value.is_not($expected)),
                }
            }
        }
    )*};
}

try_into! {
    Value::Null => (): "null", ();
    Value::Bool(value) => bool: "a boolean", value;
    Value::Single(value) => f32: "a float of 32 bits", value;
    Value::Char(value) => char: "a character", value;
    Value::Str(value) => String: "a string", value;
    Value::Bytes(value) => Bytes: "bytes", *value;
    Value::Record(value) => Record: "a struct or enum variant", value;
    Value::Reference(value) => Reference: "a reference", value;
    Value::List(values) | Value::Tuple(values) => Vec<Value>: "a list", values;
}

/// What [`Value::as_f64`] gives.
impl TryFrom<Value> for f64 {
    type Error = ValueError;

    fn try_from(value: Value) -> Result<Self, ValueError> {
        value.as_f64().ok_or_else(|| value.is_not("a float"))
    }
}
