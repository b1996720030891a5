//! Any serde type to a value.

use std::sync::Arc;

use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use super::error::Step;
use super::record::{Fields, Name, Names};
use super::{MAX_DEPTH, Record, Value, ValueError, model};
use crate::encoder::SHARE_FROM;
use crate::reference;

/// How many forms of records are remembered, so that records of one form share their names.
const FORMS: usize = 64;

/// How much room is made for elements by the count that a type announces.
const ROOM: usize = 1024;

/// What `value` is, without its type.
///
/// Netrefs in it become [`Value::Reference`]. A `Value` in it stays as it is. [`Bytes`](bytes::Bytes) of 4 KiB and
/// more, of fields with [`#[serde(with = "farref::bytes")]`](mod@crate::bytes), are shared, not copied. Types that
/// look different to people and machines, such as addresses and dates, look as they do to people.
///
/// # Errors
///
/// The value refuses to be serialised, or is nested more deeply than 128 levels.
///
/// ```
/// use farref_boxing::to_value;
///
/// let value = to_value(&(1, "a", [Some(2.5), None]))?;
/// assert_eq!(value.to_string(), "(1, \"a\", (2.5, null))");
/// # Ok::<(), farref_boxing::ValueError>(())
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    let _scope = reference::boxing(Vec::new());
    value.serialize(&mut Builder {
        depth: MAX_DEPTH,
        slots: 0,
        forms: Vec::new(),
        recent: 0,
    })
}

/// What is handed to serde.
struct Builder {
    /// How many levels are left.
    depth: u32,
    /// How many slots of the table were found in the value. A slot that is lent and not found yet is the next `u32`
    /// of that number: reference types write it right after they lent it.
    slots: u32,
    forms: Vec<Arc<Names>>,
    /// Which form was met last: the next record often has the same.
    recent: usize,
}

impl Builder {
    fn enter(&mut self) -> Result<(), ValueError> {
        self.depth = self.depth.checked_sub(1).ok_or_else(ValueError::too_deep)?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    /// The form with these names and with fields that `suit`.
    fn form(
        &mut self,
        type_name: &'static str,
        variant: Option<&'static str>,
        suit: impl Fn(&Fields) -> bool,
    ) -> Option<Arc<Names>> {
        let fits = |form: &Arc<Names>| {
            same(&form.type_name, type_name)
                && match (&form.variant, variant) {
                    (Some(a), Some(b)) => same(a, b),
                    (None, None) => true,
                    _ => false,
                }
                && suit(&form.fields)
        };
        if let Some(form) = self.forms.get(self.recent).filter(|form| fits(form)) {
            return Some(Arc::clone(form));
        }
        self.recent = self.forms.iter().position(fits)?;
        self.forms.get(self.recent).cloned()
    }

    /// The form with these names, remembered if it is new.
    fn form_of(
        &mut self,
        type_name: &'static str,
        variant: Option<&'static str>,
        fields: Fields,
    ) -> Arc<Names> {
        self.form(type_name, variant, |found| *found == fields)
            .unwrap_or_else(|| {
                let form = Arc::new(Names {
                    type_name: type_name.into(),
                    variant: variant.map(Into::into),
                    fields,
                });
                if self.forms.len() < FORMS {
                    self.recent = self.forms.len();
                    self.forms.push(Arc::clone(&form));
                }
                form
            })
    }

    fn elements(&mut self, len: Option<usize>, kind: Kind) -> Result<Elements<'_>, ValueError> {
        self.enter()?;
        Ok(Elements {
            builder: self,
            values: Vec::with_capacity(len.unwrap_or(0).min(ROOM)),
            kind,
        })
    }

    fn named(
        &mut self,
        type_name: &'static str,
        variant: Option<&'static str>,
        len: usize,
    ) -> Result<Named<'_>, ValueError> {
        self.enter()?;
        let form = self.form(type_name, variant, |fields| matches!(fields, Fields::Named(_)));
        Ok(Named {
            builder: self,
            type_name,
            variant,
            form,
            names: Vec::new(),
            values: Vec::with_capacity(len.min(ROOM)),
        })
    }
}

/// Whether two names are the same. They mostly are in the same place.
#[inline]
fn same(a: &Name, b: &str) -> bool {
    std::ptr::eq::<str>(&**a, b) || a == b
}

macro_rules! from {
    ($($name:ident $type:ty;)*) => {$(
        #[inline]
        fn $name(self, value: $type) -> Result<Value, ValueError> {
            Ok(value.into())
        }
    )*};
}

impl<'a> Serializer for &'a mut Builder {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Named<'a>;
    type SerializeStructVariant = Named<'a>;

    from! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
        serialize_str &str;
    }

    fn serialize_u32(self, value: u32) -> Result<Value, ValueError> {
        Ok(match reference::lent(self.slots, value) {
            Some(reference) => {
                self.slots = value.saturating_add(1);
                Value::Reference(reference)
            }
            None => value.into(),
        })
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, ValueError> {
        let shared = (bytes.len() >= SHARE_FROM)
            .then(|| reference::claim(bytes))
            .flatten();
        Ok(Value::bytes(
            shared.unwrap_or_else(|| ::bytes::Bytes::copy_from_slice(bytes)),
        ))
    }

    fn serialize_none(self) -> Result<Value, ValueError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, ValueError> {
        self.enter()?;
        let value = value.serialize(&mut *self)?;
        self.leave();
        Ok(Value::some(value))
    }

    fn serialize_unit(self) -> Result<Value, ValueError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Value, ValueError> {
        let form = self.form_of(name, None, Fields::Unit);
        Ok(Record::from_parts(form, []).into())
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, ValueError> {
        let form = self.form_of(name, Some(variant), Fields::Unit);
        Ok(Record::from_parts(form, []).into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        if name == model::TOKEN {
            return model::receive(|| value.serialize(self));
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        self.enter()?;
        let value = value
            .serialize(&mut *self)
            .map_err(|error| error.inside(Step::Index(0)))?;
        self.leave();
        let form = self.form_of(name, Some(variant), Fields::Tuple(1));
        Ok(Record::from_parts(form, [value]).into())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Elements<'a>, ValueError> {
        self.elements(len, Kind::List)
    }

    fn serialize_tuple(self, len: usize) -> Result<Elements<'a>, ValueError> {
        self.elements(Some(len), Kind::Tuple)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Elements<'a>, ValueError> {
        self.elements(Some(len), Kind::Record(name, None))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Elements<'a>, ValueError> {
        self.elements(Some(len), Kind::Record(name, Some(variant)))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a>, ValueError> {
        self.enter()?;
        Ok(Entries {
            builder: self,
            entries: Vec::with_capacity(len.unwrap_or(0).min(ROOM)),
            key: None,
        })
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Named<'a>, ValueError> {
        self.named(name, None, len)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Named<'a>, ValueError> {
        self.named(name, Some(variant), len)
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}

enum Kind {
    List,
    Tuple,
    Record(&'static str, Option<&'static str>),
}

/// What has elements without names, so far.
struct Elements<'a> {
    builder: &'a mut Builder,
    values: Vec<Value>,
    kind: Kind,
}

impl Elements<'_> {
    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let value = value
            .serialize(&mut *self.builder)
            .map_err(|error| error.inside(Step::Index(self.values.len())))?;
        self.values.push(value);
        Ok(())
    }

    fn finish(self) -> Value {
        self.builder.leave();
        match self.kind {
            Kind::List => Value::List(self.values),
            Kind::Tuple => Value::Tuple(self.values),
            Kind::Record(name, variant) => {
                let fields = Fields::Tuple(self.values.len());
                Record::from_parts(self.builder.form_of(name, variant, fields), self.values).into()
            }
        }
    }
}

macro_rules! elements {
    ($($trait:ident $push:ident;)*) => {$(
        impl $trait for Elements<'_> {
            type Ok = Value;
            type Error = ValueError;

            #[inline]
            fn $push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
                self.push(value)
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// A map, so far.
struct Entries<'a> {
    builder: &'a mut Builder,
    entries: Vec<(Value, Value)>,
    key: Option<Value>,
}

impl SerializeMap for Entries<'_> {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = Some(key.serialize(&mut *self.builder)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let key = self
            .key
            .take()
            .ok_or_else(|| ValueError::custom("a value without a key"))?;
        match value.serialize(&mut *self.builder) {
            Ok(value) => self.entries.push((key, value)),
            Err(error) => return Err(error.inside(Step::key(&key))),
        }
        Ok(())
    }

    fn end(self) -> Result<Value, ValueError> {
        self.builder.leave();
        Ok(Value::Map(self.entries))
    }
}

/// What has fields with names, so far.
///
/// # Invariant
///
/// The names of the fields so far are the first ones of `form`, or else `names`.
struct Named<'a> {
    builder: &'a mut Builder,
    type_name: &'static str,
    variant: Option<&'static str>,
    form: Option<Arc<Names>>,
    names: Vec<Name>,
    values: Vec<Value>,
}

impl Named<'_> {
    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), ValueError> {
        let value = value
            .serialize(&mut *self.builder)
            .map_err(|error| error.inside(Step::Field(name.into())))?;
        let expected = self.form.as_ref().and_then(|form| match &form.fields {
            Fields::Named(names) => names.get(self.values.len()),
            _ => None,
        });
        if !expected.is_some_and(|expected| same(expected, name)) {
            self.forget_form();
            self.names.push(name.into());
        }
        self.values.push(value);
        Ok(())
    }

    fn forget_form(&mut self) {
        if let Some(form) = self.form.take()
            && let Fields::Named(names) = &form.fields
        {
            self.names.extend(names.iter().take(self.values.len()).cloned());
        }
    }

    fn finish(mut self) -> Value {
        self.builder.leave();
        let form = match self.form.take_if(|form| form.len() == self.values.len()) {
            Some(form) => form,
            None => {
                self.forget_form();
                let fields = Fields::Named(self.names.into());
                self.builder.form_of(self.type_name, self.variant, fields)
            }
        };
        Record::from_parts(form, self.values).into()
    }
}

macro_rules! named {
    ($($trait:ident)*) => {$(
        impl $trait for Named<'_> {
            type Ok = Value;
            type Error = ValueError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), ValueError> {
                self.push(name, value)
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }
