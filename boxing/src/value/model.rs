//! A value as a serde type: as it is in a value, as its bytes in a message, as plain data in JSON and the like.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use ::bytes::Bytes;
use serde::de::{EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::Fields;
use super::{Value, ValueError, codec};
use crate::bytes::SerializeBytes;

/// The name under which a `Value` makes itself known to [`to_value`](crate::to_value) and
/// [`from_value`](crate::from_value). To other formats it is a newtype struct like any other, so nothing.
pub(crate) const TOKEN: &str = "$farref::Value";

/// How much room is made for elements by the count that a format announces.
const ROOM: usize = 128;

/// A value on its way between a `Value` and the serialiser that builds one: serde has no way for it.
///
/// # Invariant
///
/// It is not `Empty` only while one function here calls another.
enum Hand {
    Empty,
    Wanted,
    Holds(Value),
}

thread_local! {
    static HAND: RefCell<Hand> = const { RefCell::new(Hand::Empty) };
}

fn hand(new: Hand) -> Hand {
    // Where the thread is about to end, nothing is handed over, and the value goes as plain data.
    HAND.try_with(|hand| hand.replace(new)).unwrap_or(Hand::Empty)
}

/// The value that `serialize` hands over, which serialises a `Value` under [`TOKEN`].
pub(super) fn receive(serialize: impl FnOnce() -> Result<Value, ValueError>) -> Result<Value, ValueError> {
    drop(hand(Hand::Wanted));
    let plain = serialize();
    match hand(Hand::Empty) {
        Hand::Holds(value) => Ok(value),
        _ => plain,
    }
}

/// Calls `visit`, which visits a `Value` under [`TOKEN`], with `value` ready for it.
pub(crate) fn give<T>(value: &Value, visit: impl FnOnce() -> T) -> T {
    drop(hand(Hand::Holds(value.clone())));
    let result = visit();
    drop(hand(Hand::Empty));
    result
}

/// In [`to_value`](crate::to_value) a value is itself; in a message, and any other format that is not for people,
/// its bytes (PROTOCOL.md § 9.10); in a format for people plain data, whose structs are maps, and whose enum variants
/// are those that serde knows as externally tagged.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(TOKEN, &Handed(self))
    }
}

struct Handed<'a>(&'a Value);

impl Serialize for Handed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if matches!(hand(Hand::Empty), Hand::Wanted) {
            drop(hand(Hand::Holds(self.0.clone())));
            serializer.serialize_unit()
        } else if serializer.is_human_readable() {
            Plain(self.0).serialize(serializer)
        } else {
            codec::with_encoded(self.0, |head, long| {
                let mut parts = serializer.serialize_tuple(2)?;
                parts.serialize_element(&Blob(head))?;
                parts.serialize_element(&Blobs(long))?;
                parts.end()
            })
            .map_err(S::Error::custom)?
        }
    }
}

struct Blob<'a, T: ?Sized>(&'a T);

impl<T: SerializeBytes + ?Sized> Serialize for Blob<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_bytes(serializer)
    }
}

struct Blobs<'a>(&'a [Bytes]);

impl Serialize for Blobs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Blob))
    }
}

/// A value as data that any format has.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_i128(*value),
            },
            Value::UInt(value) => serializer.serialize_u128(*value),
            Value::Single(value) => serializer.serialize_f32(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Char(value) => serializer.serialize_char(*value),
            Value::Str(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.serialize_bytes(value),
            Value::Some(value) => serializer.serialize_some(&Plain(value)),
            Value::List(values) => serializer.collect_seq(values.iter().map(Plain)),
            Value::Tuple(values) => tuple(values, serializer),
            Value::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (Plain(key), Plain(value))))
            }
            Value::Record(record) => match record.variant() {
                None => Body(record).serialize(serializer),
                Some(variant) if matches!(record.names().fields, Fields::Unit) => {
                    serializer.serialize_str(variant)
                }
                Some(variant) => serializer.collect_map([(variant, Body(record))]),
            },
            Value::Reference(_) => Err(S::Error::custom(OUTSIDE)),
        }
    }
}

pub(super) const OUTSIDE: &str =
    "a reference can only be serialised as a part of a call's arguments or result";

/// The fields of a struct or variant.
struct Body<'a>(&'a super::Record);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.0.names().fields, self.0.values()) {
            (Fields::Unit, _) => serializer.serialize_unit(),
            (Fields::Tuple(_), [only]) if self.0.variant().is_some() => Plain(only).serialize(serializer),
            (Fields::Tuple(_), values) => tuple(values, serializer),
            (Fields::Named(names), values) => {
                serializer.collect_map(names.iter().zip(values.iter().map(Plain)))
            }
        }
    }
}

fn tuple<S: Serializer>(values: &[Value], serializer: S) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(values.len())?;
    for value in values {
        tuple.serialize_element(&Plain(value))?;
    }
    tuple.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TOKEN, Whole)
    }
}

/// A value that was handed over, or is about to be read.
struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if let Hand::Holds(value) = hand(Hand::Empty) {
            Ok(value)
        } else if deserializer.is_human_readable() {
            deserializer.deserialize_any(Natural)
        } else {
            deserializer.deserialize_tuple(2, Encoded)
        }
    }
}

/// The bytes of a value.
struct Encoded;

impl<'de> Visitor<'de> for Encoded {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        struct Head<'de>(Cow<'de, [u8]>);
        impl<'de> Deserialize<'de> for Head<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::bytes::deserialize(deserializer).map(Self)
            }
        }
        struct Long(Bytes);
        impl<'de> Deserialize<'de> for Long {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::bytes::deserialize(deserializer).map(Self)
            }
        }
        let missing = |count| A::Error::invalid_length(count, &self);
        let head: Head<'de> = parts.next_element()?.ok_or_else(|| missing(0))?;
        let long: Vec<Long> = parts.next_element()?.ok_or_else(|| missing(1))?;
        codec::decode(&head.0, long.into_iter().map(|Long(bytes)| bytes)).map_err(A::Error::custom)
    }
}

/// Data of a format that says what it holds.
struct Natural;

macro_rules! visit {
    ($($name:ident $type:ty;)*) => {$(
        fn $name<E>(self, value: $type) -> Result<Value, E> {
            Ok(value.into())
        }
    )*};
}

impl<'de> Visitor<'de> for Natural {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit! {
        visit_bool bool;
        visit_i64 i64;
        visit_i128 i128;
        visit_u64 u64;
        visit_u128 u128;
        visit_f32 f32;
        visit_f64 f64;
        visit_char char;
        visit_str &str;
        visit_string String;
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer).map(Value::some)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::bytes(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(elements.size_hint().unwrap_or(0).min(ROOM));
        while let Some(value) = elements.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(ROOM));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        // What a variant holds cannot be asked for; only that it holds nothing can be tried.
        let (name, variant): (String, A::Variant) = data.variant()?;
        serde::de::VariantAccess::unit_variant(variant)?;
        Ok(name.into())
    }
}
