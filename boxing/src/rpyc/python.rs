//! Types of Python's that Rust has no own for, as serde types: for those who write typed calls.
//!
//! Each is a struct with Python's own name, which is how a [`Value`](crate::Value) holds it, and by which it is known
//! when it is sent.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTupleStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ShapeFields, ShapeType, Shaped, Shapes};

/// A complex number: `complex {real: 1.0, imag: -1.0}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "complex")]
#[expect(clippy::exhaustive_structs, reason = "it has two parts")]
pub struct Complex {
    /// Its real part.
    pub real: f64,
    /// Its imaginary part.
    pub imag: f64,
}

/// A slice, what Python writes `start:stop:step`: `slice {start: 1, stop: null, step: null}`.
///
/// ```
/// use farref_boxing::rpyc::Slice;
/// use farref_boxing::to_value;
///
/// let value = to_value(&Slice { start: Some(1), ..Slice::default() })?;
/// assert_eq!(value.to_string(), "slice {start: 1, stop: null, step: null}");
/// # Ok::<(), farref_boxing::ValueError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename = "slice")]
#[expect(clippy::exhaustive_structs, reason = "it has three parts")]
pub struct Slice<T = i64> {
    /// Where it begins.
    pub start: Option<T>,
    /// Where it ends: the first element that is not in it.
    pub stop: Option<T>,
    /// How far it goes from one element to the next.
    pub step: Option<T>,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Self {
            start: None,
            stop: None,
            step: None,
        }
    }
}

/// A set that does not change: `frozenset([1, 2])`.
///
/// Members are in the order in which they came, and are not compared.
///
/// ```
/// use farref_boxing::rpyc::FrozenSet;
/// use farref_boxing::{from_value, to_value};
///
/// let value = to_value(&FrozenSet::from_iter([1, 2]))?;
/// assert_eq!(value.to_string(), "frozenset([1, 2])");
/// let members: FrozenSet<u8> = from_value(&value)?;
/// assert_eq!(members.0, [1, 2]);
/// # Ok::<(), farref_boxing::ValueError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "it is its members")]
pub struct FrozenSet<T>(pub Vec<T>);

impl<T> FrozenSet<T> {
    const NAME: &'static str = "frozenset";
}

impl<T> Default for FrozenSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for FrozenSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}

impl<T> IntoIterator for FrozenSet<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A derive would write the members alone, without the name.
impl<T: Serialize> Serialize for FrozenSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_tuple_struct(Self::NAME, 1)?;
        fields.serialize_field(&self.0)?;
        fields.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FrozenSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = FrozenSet<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a frozenset")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<FrozenSet<T>, A::Error> {
                let members = fields.next_element()?;
                members
                    .map(FrozenSet)
                    .ok_or_else(|| A::Error::invalid_length(0, &self))
            }
        }
        deserializer.deserialize_tuple_struct(Self::NAME, 1, Read(PhantomData))
    }
}

impl<T: Shaped> Shaped for FrozenSet<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes.structure::<Self>(Self::NAME, |shapes| ShapeFields::tuple([<Vec<T>>::shape(shapes)]))
    }
}

/// `Ellipsis`, which Python also writes `...`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "there is one")]
pub struct Ellipsis;

/// `NotImplemented`, which Python's operators return for what they do not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "there is one")]
pub struct NotImplemented;
