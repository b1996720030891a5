//! Data that says what it is: any serde type, read and built without its type.
//!
//! ```text
//!   any T: Serialize ── to_value ──►  Value  ── from_value ──► any T: Deserialize
//!   "Point {x: 1}"   ── parse    ──►         ── to_string  ──► "Point {x: 1}"
//!   bytes (§ 9.10)   ── decode   ──►         ── encode     ──► bytes
//! ```
//!
//! Reading order: [`Value`] here, `record` (structs and enum variants), `convert` (from and to the types of std),
//! `ser` and `de` (from and to serde types), `model` (a `Value` as a serde type itself), `codec` (its bytes),
//! `text` and `parse` (its text).

mod convert;
mod de;
mod error;
mod parse;
mod record;
mod ser;
mod text;

pub(crate) mod codec;
pub(crate) mod model;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Index;
use std::sync::Arc;

use ::bytes::Bytes;

use crate::Reference;

pub use de::from_value;
pub(crate) use de::{TOO_LARGE, fits_f32};
pub use error::{ParseValueError, ValueError};
pub use record::Record;
pub(crate) use record::{Fields, Names};
pub use ser::to_value;

/// How many values may sit inside each other in bytes, in text, and on the way from and to other types.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Data that says what it is.
///
/// Whatever serde can write becomes a `Value` by [`to_value`], and what it was again by [`from_value`]. People type
/// and read one as text, with [`str::parse`] and `Display`. As an argument or result of a remote method it goes as
/// bytes that say what they are (PROTOCOL.md § 9.10), and may hold references.
///
/// ```
/// use farref_boxing::{Value, from_value, to_value};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Point {
///     x: i32,
///     label: Option<String>,
/// }
///
/// let value = to_value(&Point { x: 1, label: None })?;
/// assert_eq!(value.to_string(), "Point {x: 1, label: null}");
/// assert_eq!(value.get("x").and_then(Value::as_i64), Some(1));
///
/// let typed: Value = "{\"x\": 2, \"label\": \"here\"}".parse()?;
/// let point: Point = from_value(&typed)?;
/// assert_eq!(point, Point { x: 2, label: Some("here".into()) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What becomes what
///
/// | serde                                    | value                                                           |
/// |------------------------------------------|-----------------------------------------------------------------|
/// | `()`, `None`                             | [`Null`](Self::Null)                                            |
/// | `Some(x)`                                | `x`, and [`Some`](Self::Some) only around null and another `Some` |
/// | integers of any width                    | [`Int`](Self::Int), beyond `i128` [`UInt`](Self::UInt)          |
/// | sequences and sets; tuples and arrays    | [`List`](Self::List); [`Tuple`](Self::Tuple)                    |
/// | newtype structs                          | what they hold                                                  |
/// | other structs, enums                     | [`Record`](Self::Record), with the names                        |
/// | a netref                                 | [`Reference`](Self::Reference)                                  |
///
/// # Equality
///
/// Values are equal if they are of one kind and hold the same. Integers are numbers, whatever their variant. Floats
/// are equal if their bits are, so a NaN equals itself and `0.0` does not equal `-0.0`; `f32` and `f64` are two
/// kinds. Entries of maps have an order. References are equal if they are one.
///
/// A value takes 32 bytes, and what it points to. One that is built by hand with thousands of levels overflows the
/// stack when it is dropped; bytes, text and other types make none of more than 128.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: unit, or an option that is empty.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// An integer greater than [`i128::MAX`]. A smaller one here is the same as in [`Int`](Self::Int).
    UInt(u128),
    /// A float of 32 bits.
    Single(f32),
    /// A float.
    Float(f64),
    /// A character.
    Char(char),
    /// A string.
    Str(String),
    /// Bytes, boxed so that other values are not as large as the handle.
    Bytes(Box<Bytes>),
    /// An option that is not empty, where it is needed: around null, and around another option.
    Some(Box<Value>),
    /// A sequence.
    List(Vec<Value>),
    /// A tuple or an array.
    Tuple(Vec<Value>),
    /// Keys and values in an order, which counts. No key is refused, also not one that is there.
    Map(Vec<(Value, Value)>),
    /// A struct or an enum variant, with its names.
    Record(Record),
    /// A reference, which only a message carries.
    Reference(Reference),
}

/// What is not there, for [`Index`].
static NULL: Value = Value::Null;

impl Value {
    /// Bytes, shared and not copied.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes(Box::new(bytes.into()))
    }

    /// What kind of value it is, in one or two words for messages: `"null"`, `"integer"`, `"struct"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) | Self::UInt(_) => "integer",
            Self::Single(_) => "f32",
            Self::Float(_) => "float",
            Self::Char(_) => "character",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Some(_) => "option",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Map(_) => "map",
            Self::Record(record) if record.variant().is_some() => "enum variant",
            Self::Record(_) => "struct",
            Self::Reference(_) => "reference",
        }
    }

    /// Whether it is null.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The boolean.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_i128()?.try_into().ok()
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_u128()?.try_into().ok()
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn as_i128(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => (*value).try_into().ok(),
            _ => None,
        }
    }

    /// The integer, if it fits.
    #[must_use]
    pub fn as_u128(&self) -> Option<u128> {
        match self {
            Self::Int(value) => (*value).try_into().ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The float, of either width; or the integer, if a float is exactly that.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        /// All integers up to here are floats: 2^53.
        const EXACT: u64 = 1 << 53;
        match self {
            Self::Float(value) => Some(*value),
            Self::Single(value) => Some(f64::from(*value)),
            _ => self
                .as_i64()
                .filter(|value| value.unsigned_abs() <= EXACT)
                .map(|value| value as f64),
        }
    }

    /// The character.
    #[must_use]
    pub const fn as_char(&self) -> Option<char> {
        match self {
            Self::Char(value) => Some(*value),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The elements of a list or a tuple, or the fields of a struct or variant.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) | Self::Tuple(values) => Some(values),
            Self::Record(record) => Some(record.values()),
            _ => None,
        }
    }

    /// The entries of a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The struct or enum variant.
    #[must_use]
    pub const fn as_record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }

    /// The reference.
    #[must_use]
    pub const fn as_reference(&self) -> Option<&Reference> {
        match self {
            Self::Reference(reference) => Some(reference),
            _ => None,
        }
    }

    /// The field of that name, or the value of the first entry with that string as its key.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Record(record) => record.get(name),
            Self::Map(entries) => entries
                .iter()
                .find_map(|(key, value)| (key.as_str() == Some(name)).then_some(value)),
            _ => None,
        }
    }

    /// The value of the first entry of a map with that key.
    #[must_use]
    pub fn get_key(&self, key: &Self) -> Option<&Self> {
        let mut entries = self.as_map()?.iter();
        entries.find_map(|(found, value)| (found == key).then_some(value))
    }

    /// The element of a list or tuple, or the field of a struct or variant, counted from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Self> {
        self.as_slice()?.get(index)
    }

    /// How many elements, entries or fields there are; 0 if it has none by its kind.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Map(entries) => entries.len(),
            _ => self.as_slice().map_or(0, <[Self]>::len),
        }
    }

    /// Whether there are no elements, entries or fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An integer as its sign and what is left: `n`, or `-1 - n` if negative. `None` for everything else.
    const fn integer(&self) -> Option<(bool, u128)> {
        match *self {
            Self::Int(value) if value < 0 => Some((true, !value.cast_unsigned())),
            Self::Int(value) => Some((false, value.cast_unsigned())),
            Self::UInt(value) => Some((false, value)),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(_) | Self::UInt(_), _) => self.integer() == other.integer(),
            (Self::Single(a), Self::Single(b)) => a.to_bits() == b.to_bits(),
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Char(a), Self::Char(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Some(a), Self::Some(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Record(a), Self::Record(b)) => a == b,
            (Self::Reference(a), Self::Reference(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Self::Null => {}
            Self::Bool(value) => value.hash(state),
            Self::Int(_) | Self::UInt(_) => self.integer().hash(state),
            Self::Single(value) => value.to_bits().hash(state),
            Self::Float(value) => value.to_bits().hash(state),
            Self::Char(value) => value.hash(state),
            Self::Str(value) => value.hash(state),
            Self::Bytes(value) => value.hash(state),
            Self::Some(value) => value.hash(state),
            Self::List(values) | Self::Tuple(values) => values.hash(state),
            Self::Map(entries) => entries.hash(state),
            Self::Record(record) => record.hash(state),
            Self::Reference(reference) => Arc::as_ptr(reference).hash(state),
        }
    }
}

/// [`Value::get`], with null for what is not there.
impl Index<&str> for Value {
    type Output = Self;

    fn index(&self, name: &str) -> &Self {
        self.get(name).unwrap_or(&NULL)
    }
}

/// [`Value::at`], with null for what is not there.
impl Index<usize> for Value {
    type Output = Self;

    fn index(&self, index: usize) -> &Self {
        self.at(index).unwrap_or(&NULL)
    }
}

/// The same as `Display`.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
