//! A value to any serde type.

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::error::Step;
use super::record::{Fields, Name};
use super::{MAX_DEPTH, Record, Value, ValueError, model};
use crate::encoder::SHARE_FROM;
use crate::reference;

/// `value` as a `T`.
///
/// The value need not come from a `T`. What people write for one will do: a map, a list or a tuple for a struct; the
/// name of a variant in quotes or on its own, or a map with it as the only key, for an enum; a value for an option
/// of it; integers for floats; a character for a string. Names of structs and enums do not count, those of fields and
/// variants do.
///
/// Strings and bytes can be borrowed from the value. References in it become netrefs.
///
/// # Errors
///
/// The value is not one of a `T`; the error says what is wrong, and where.
///
/// ```
/// use farref_boxing::{Value, from_value};
/// use serde::Deserialize;
///
/// #[derive(Debug, PartialEq, Deserialize)]
/// enum Shape {
///     Circle { radius: f64 },
///     Dot,
/// }
/// let value: Value = "[Circle {radius: 1}, \"Dot\", {\"Circle\": {\"radius\": 2.5}}]".parse()?;
/// let shapes: Vec<Shape> = from_value(&value)?;
/// assert_eq!(shapes, [Shape::Circle { radius: 1.0 }, Shape::Dot, Shape::Circle { radius: 2.5 }]);
///
/// let error = from_value::<Vec<u8>>(&"[1, 2, 300]".parse()?).unwrap_err();
/// assert_eq!(error.to_string(), "at [2]: invalid value: integer `300`, expected u8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_value<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, ValueError> {
    let scope = reference::reading();
    let result = T::deserialize(Reader {
        node: Node::Whole(value),
        depth: MAX_DEPTH,
    })?;
    if scope.finish_reading() {
        Ok(result)
    } else {
        Err(ValueError::custom("a reference where a number is expected"))
    }
}

/// What is handed to serde.
#[derive(Clone, Copy)]
struct Reader<'de> {
    node: Node<'de>,
    /// How many levels are left.
    depth: u32,
}

#[derive(Clone, Copy)]
enum Node<'de> {
    Whole(&'de Value),
    /// The fields of a record, without its being a variant.
    Fields(&'de Record),
}

/// How a value looks to serde.
enum View<'de> {
    Scalar(&'de Value),
    Unit,
    Sequence(&'de [Value]),
    Map(&'de [(Value, Value)]),
    Struct(&'de [Name], &'de [Value]),
    Variant(&'de Record, &'de str),
}

impl<'de> Reader<'de> {
    fn view(self) -> View<'de> {
        match self.node {
            Node::Whole(Value::List(values) | Value::Tuple(values)) => View::Sequence(values),
            Node::Whole(Value::Map(entries)) => View::Map(entries),
            Node::Whole(Value::Record(record)) => match record.variant() {
                Some(variant) => View::Variant(record, variant),
                None => View::of_fields(record),
            },
            Node::Whole(value) => View::Scalar(value),
            Node::Fields(record) => View::of_fields(record),
        }
    }

    /// A level further in.
    fn inner(self) -> Result<u32, ValueError> {
        self.depth.checked_sub(1).ok_or_else(ValueError::too_deep)
    }

    fn child(node: Node<'de>, depth: u32) -> Self {
        Self { node, depth }
    }

    fn sequence<V: Visitor<'de>>(self, values: &'de [Value], visitor: V) -> Result<V::Value, ValueError> {
        let mut elements = Elements {
            values: values.iter(),
            index: 0,
            depth: self.inner()?,
        };
        let result = visitor.visit_seq(&mut elements)?;
        match elements.values.len() {
            0 => Ok(result),
            _ => Err(ValueError::invalid_length(
                values.len(),
                &format!("{} elements", elements.index).as_str(),
            )),
        }
    }

    fn map<V: Visitor<'de>>(self, map: Entries<'de>, visitor: V) -> Result<V::Value, ValueError> {
        let mut map = map;
        map.depth = self.inner()?;
        visitor.visit_map(map)
    }

    fn scalar<V: Visitor<'de>>(self, value: &'de Value, visitor: V) -> Result<V::Value, ValueError> {
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_i128(*number),
            },
            Value::UInt(number) => visitor.visit_u128(*number),
            Value::Single(value) => visitor.visit_f32(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Char(value) => visitor.visit_char(*value),
            Value::Str(value) => visitor.visit_borrowed_str(value),
            Value::Bytes(value) => {
                if value.len() >= SHARE_FROM {
                    reference::hold_bytes(value);
                }
                visitor.visit_borrowed_bytes(value)
            }
            Value::Some(value) => visitor.visit_some(Self::child(Node::Whole(value), self.inner()?)),
            Value::Reference(reference) => visitor.visit_u32(held(reference, false)?),
            // Those that hold others look otherwise.
            other => Err(ValueError::invalid_type(
                Unexpected::Other(other.kind()),
                &visitor,
            )),
        }
    }

    /// The variant and what it holds, if it can be taken for one of an enum.
    fn variant(self) -> Option<(&'de str, Option<Node<'de>>)> {
        match self.node {
            Node::Whole(Value::Str(name)) => Some((name, None)),
            Node::Whole(Value::Map(entries)) => match entries.as_slice() {
                [(Value::Str(name), value)] => Some((name, Some(Node::Whole(value)))),
                _ => None,
            },
            Node::Whole(Value::Record(record)) => {
                let name = record.variant().unwrap_or_else(|| record.type_name());
                Some((name, held_by(record)))
            }
            _ => None,
        }
    }
}

/// A float that is only an `f64`.
pub(crate) const TOO_LARGE: Unexpected<'static> = Unexpected::Other("float out of range");

/// Whether it is not infinite only as an `f32`. Digits it may lose.
pub(crate) const fn fits_f32(number: f64) -> bool {
    !number.is_finite() || (number as f32).is_finite()
}

/// What a variant holds, if anything.
fn held_by(record: &Record) -> Option<Node<'_>> {
    match (&record.names().fields, record.values()) {
        (Fields::Unit, _) => None,
        (Fields::Tuple(_), [only]) => Some(Node::Whole(only)),
        _ => Some(Node::Fields(record)),
    }
}

fn held(reference: &crate::Reference, wanted: bool) -> Result<u32, ValueError> {
    reference::hold(reference, wanted).ok_or_else(|| ValueError::custom("too many references"))
}

impl<'de> View<'de> {
    fn of_fields(record: &'de Record) -> Self {
        match &record.names().fields {
            Fields::Unit => Self::Unit,
            Fields::Tuple(_) => Self::Sequence(record.values()),
            Fields::Named(names) => Self::Struct(names, record.values()),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.view() {
            View::Scalar(value) => self.scalar(value, visitor),
            View::Unit => visitor.visit_unit(),
            View::Sequence(values) => self.sequence(values, visitor),
            View::Map(entries) => self.map(Entries::of_map(entries), visitor),
            View::Struct(names, values) => self.map(Entries::of_struct(names, values), visitor),
            View::Variant(record, variant) => match held_by(record) {
                None => visitor.visit_borrowed_str(variant),
                Some(node) => self.map(Entries::of_variant(variant, node), visitor),
            },
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.node {
            Node::Whole(Value::Reference(reference)) => visitor.visit_u32(held(reference, true)?),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.node {
            // Serde would make it infinite.
            Node::Whole(Value::Float(number)) if !fits_f32(*number) => {
                Err(ValueError::invalid_value(TOO_LARGE, &visitor))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.node {
            Node::Whole(Value::Null) => visitor.visit_none(),
            Node::Whole(Value::Some(value)) => {
                visitor.visit_some(Self::child(Node::Whole(value), self.inner()?))
            }
            node => visitor.visit_some(Self::child(node, self.inner()?)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.view() {
            View::Sequence([]) => visitor.visit_unit(),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.node {
            Node::Whole(value) if name == model::TOKEN => {
                model::give(value, || visitor.visit_newtype_struct(self))
            }
            // As people write it.
            Node::Whole(Value::Record(record))
                if record.variant().is_none() && record.type_name() == name =>
            {
                match (&record.names().fields, record.values()) {
                    (Fields::Tuple(_), [only]) => {
                        visitor.visit_newtype_struct(Self::child(Node::Whole(only), self.inner()?))
                    }
                    _ => visitor.visit_newtype_struct(self),
                }
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.node {
            Node::Whole(Value::Bytes(bytes)) => {
                let mut elements = SeqDeserializer::new(bytes.iter().copied());
                let result = visitor.visit_seq(&mut elements)?;
                elements.end()?;
                Ok(result)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.view() {
            View::Unit => self.map(Entries::of_map(&[]), visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.variant() {
            Some((name, node)) => visitor.visit_enum(Variant {
                name,
                node,
                depth: match node {
                    // One level, which is counted where they are read.
                    Some(Node::Fields(_)) => self.depth,
                    _ => self.inner()?,
                },
            }),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        true
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f64 char str string bytes byte_buf map identifier
    }
}

/// What is left of a sequence.
struct Elements<'de> {
    values: std::slice::Iter<'de, Value>,
    index: usize,
    depth: u32,
}

impl<'de> SeqAccess<'de> for &mut Elements<'de> {
    type Error = ValueError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ValueError> {
        let Some(value) = self.values.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index = index.saturating_add(1);
        seed.deserialize(Reader::child(Node::Whole(value), self.depth))
            .map(Some)
            .map_err(|error| error.inside(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

/// What is left of a map, or of what looks like one.
struct Entries<'de> {
    rest: Rest<'de>,
    /// The value of the key that was read last, and the step to it.
    value: Option<(Node<'de>, Key<'de>)>,
    depth: u32,
}

enum Rest<'de> {
    Map(std::slice::Iter<'de, (Value, Value)>),
    Struct(std::slice::Iter<'de, Name>, std::slice::Iter<'de, Value>),
    Variant(Option<(&'de str, Node<'de>)>),
}

#[derive(Clone, Copy)]
enum Key<'de> {
    Value(&'de Value),
    Name(&'de str),
}

impl<'de> Entries<'de> {
    fn new(rest: Rest<'de>) -> Self {
        Self {
            rest,
            value: None,
            depth: 0,
        }
    }

    fn of_map(entries: &'de [(Value, Value)]) -> Self {
        Self::new(Rest::Map(entries.iter()))
    }

    fn of_struct(names: &'de [Name], values: &'de [Value]) -> Self {
        Self::new(Rest::Struct(names.iter(), values.iter()))
    }

    fn of_variant(name: &'de str, node: Node<'de>) -> Self {
        Self::new(Rest::Variant(Some((name, node))))
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ValueError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ValueError> {
        let (key, node) = match &mut self.rest {
            Rest::Map(entries) => match entries.next() {
                Some((key, value)) => (Key::Value(key), Node::Whole(value)),
                None => return Ok(None),
            },
            Rest::Struct(names, values) => match (names.next(), values.next()) {
                (Some(name), Some(value)) => (Key::Name(name), Node::Whole(value)),
                _ => return Ok(None),
            },
            Rest::Variant(entry) => match entry.take() {
                Some((name, node)) => (Key::Name(name), node),
                None => return Ok(None),
            },
        };
        self.value = Some((node, key));
        match key {
            Key::Value(key) => seed.deserialize(Reader::child(Node::Whole(key), self.depth)),
            Key::Name(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
        }
        .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ValueError> {
        let (node, key) = self
            .value
            .take()
            .ok_or_else(|| ValueError::custom("a value without a key"))?;
        seed.deserialize(Reader::child(node, self.depth))
            .map_err(|error| match key {
                Key::Value(key) => error.inside(Step::key(key)),
                Key::Name(name) => error.inside(Step::Field(name.into())),
            })
    }

    fn size_hint(&self) -> Option<usize> {
        match &self.rest {
            Rest::Map(entries) => Some(entries.len()),
            Rest::Struct(names, _) => Some(names.len()),
            Rest::Variant(entry) => Some(entry.iter().len()),
        }
    }
}

/// A variant, and what it holds.
struct Variant<'de> {
    name: &'de str,
    node: Option<Node<'de>>,
    depth: u32,
}

impl<'de> Variant<'de> {
    fn reader(self, expected: &str) -> Result<Reader<'de>, ValueError> {
        match self.node {
            Some(node) => Ok(Reader::child(node, self.depth)),
            None => Err(ValueError::invalid_type(Unexpected::UnitVariant, &expected)),
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ValueError> {
        let name = seed.deserialize(BorrowedStrDeserializer::<ValueError>::new(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.node {
            Some(node) => Deserialize::deserialize(Reader::child(node, self.depth)),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ValueError> {
        let name = self.name;
        let reader = self.reader("a newtype variant")?;
        seed.deserialize(reader)
            .map_err(|error| error.inside(Step::Field(name.into())))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, ValueError> {
        let name = self.name;
        self.reader("a tuple variant")?
            .deserialize_tuple(len, visitor)
            .map_err(|error| error.inside(Step::Field(name.into())))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let name = self.name;
        self.reader("a struct variant")?
            .deserialize_struct("", fields, visitor)
            .map_err(|error| error.inside(Step::Field(name.into())))
    }
}
