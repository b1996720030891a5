//! Bytes of a shape, read without any type.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::read::{unreadable, unsound, variant};
use super::{Definition, Fields, Kind, Shape, Type};
use crate::decoder::Decoder;
use crate::error::Decoded;
use crate::value::{self, Names};
use crate::{CodecError, Record, Value, slot};

/// The value whose bytes, which are of the type `of` in `shape`, come next.
///
/// It is what [`to_value`](crate::to_value) makes of the same typed value, but for lists of `u8`, which are bytes, and
/// for types that look different to people.
pub(super) fn value<'de>(decoder: &mut Decoder<'de>, shape: &'de Shape, of: &'de Type) -> Decoded<Value> {
    let mut dynamic = Dynamic {
        decoder,
        shape,
        forms: HashMap::new(),
        // Those of a value, and one for what holds nothing.
        levels: value::MAX_DEPTH.saturating_add(1),
    };
    dynamic.value(of)
}

struct Dynamic<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    shape: &'de Shape,
    /// The names of structs, and of variants of enums, that were met.
    forms: HashMap<(u32, u32), Arc<Names>>,
    /// How many types may be inside each other from here on.
    levels: u32,
}

macro_rules! plain {
    ($self:ident $type:ty) => {
        <$type>::deserialize(&mut *$self.decoder)?.into()
    };
}

impl<'de> Dynamic<'_, 'de> {
    fn value(&mut self, mut of: &'de Type) -> Decoded<Value> {
        while let Type::Named(number) = of
            && let Kind::Struct(Fields::Newtype(held)) = &self.definition(*number)?.kind
        {
            self.decoder.take_type()?;
            of = held;
        }
        let too_deep = CodecError::TooDeep {
            limit: value::MAX_DEPTH,
        };
        self.levels = self.levels.checked_sub(1).ok_or(too_deep)?;
        let result = self.read(of);
        self.levels = self.levels.saturating_add(1);
        result
    }

    #[inline(never)]
    fn read(&mut self, of: &'de Type) -> Decoded<Value> {
        Ok(match of {
            Type::Bool => plain!(self bool),
            Type::U8 => plain!(self u8),
            Type::U16 => plain!(self u16),
            Type::U32 => plain!(self u32),
            Type::U64 => plain!(self u64),
            Type::U128 => plain!(self u128),
            Type::I8 => plain!(self i8),
            Type::I16 => plain!(self i16),
            Type::I32 => plain!(self i32),
            Type::I64 => plain!(self i64),
            Type::I128 => plain!(self i128),
            Type::F32 => plain!(self f32),
            Type::F64 => plain!(self f64),
            Type::Char => plain!(self char),
            Type::Str => plain!(self & str),
            Type::Bytes => Value::bytes(crate::bytes::deserialize::<::bytes::Bytes, _>(
                &mut *self.decoder,
            )?),
            Type::Value => Value::deserialize(&mut *self.decoder)?,
            Type::Reference => {
                let index = u32::deserialize(&mut *self.decoder)?;
                slot(index)
                    .map_err(|error| CodecError::Invalid(error.to_string().into()))?
                    .into()
            }
            Type::Option(of) => match self.decoder.flag()? {
                false => Value::Null,
                true => Value::some(self.inside(|this| this.value(of))?),
            },
            Type::List(of) => {
                let count = self.decoder.count()?;
                Value::List(self.inside(|this| this.values((0..count).map(|_| &**of)))?)
            }
            Type::Array(of, count) => Value::Tuple(self.values((0..*count).map(|_| &**of))?),
            Type::Tuple(types) if types.is_empty() => Value::Null,
            Type::Tuple(types) => Value::Tuple(self.values(types)?),
            Type::Map(key, value) => {
                let count = self.decoder.count()?;
                Value::Map(self.inside(|this| this.entries(count, key, value))?)
            }
            Type::Named(number) => self.named(*number)?,
        })
    }

    fn values(&mut self, types: impl IntoIterator<Item = &'de Type>) -> Decoded<Vec<Value>> {
        let mut values = Vec::new();
        for of in types {
            let before = self.decoder.left();
            self.decoder.take_memory(size_of::<Value>())?;
            values.push(self.value(of)?);
            self.decoder.consumed(before, 1)?;
        }
        Ok(values)
    }

    fn entries(&mut self, count: u64, key: &'de Type, value: &'de Type) -> Decoded<Vec<(Value, Value)>> {
        let mut entries = Vec::new();
        for _ in 0..count {
            let before = self.decoder.left();
            self.decoder.take_memory(size_of::<(Value, Value)>())?;
            entries.push((self.value(key)?, self.value(value)?));
            self.decoder.consumed(before, count)?;
        }
        Ok(entries)
    }

    fn definition(&self, number: u32) -> Decoded<&'de Definition> {
        self.shape.definition(number).ok_or_else(unsound)
    }

    fn named(&mut self, number: u32) -> Decoded<Value> {
        let definition = self.definition(number)?;
        match &definition.kind {
            Kind::Struct(fields) => self.record((number, u32::MAX), &definition.name, None, fields),
            Kind::Enum(variants) => {
                let index = u32::deserialize(&mut *self.decoder)?;
                let found = variant(variants, index)?;
                self.inside(|this| {
                    this.record(
                        (number, index),
                        &definition.name,
                        Some(&found.name),
                        &found.fields,
                    )
                })
            }
            Kind::Opaque(_) | Kind::Own => Err(unreadable(definition)),
        }
    }

    fn record(
        &mut self,
        key: (u32, u32),
        type_name: &str,
        variant: Option<&str>,
        fields: &'de Fields,
    ) -> Decoded<Value> {
        let values = self.values(fields.types())?;
        let form = self.forms.entry(key).or_insert_with(|| {
            let fields = match fields {
                Fields::Unit => value::Fields::Unit,
                Fields::Newtype(_) => value::Fields::Tuple(1),
                Fields::Tuple(types) => value::Fields::Tuple(types.len()),
                Fields::Named(fields) => {
                    value::Fields::Named(fields.iter().map(|(name, _)| name.to_string().into()).collect())
                }
            };
            Arc::new(Names::new(type_name, variant, fields))
        });
        Ok(Record::from_parts(Arc::clone(form), values).into())
    }

    /// Runs `read` a level further in.
    fn inside<R>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<R>) -> Decoded<R> {
        self.decoder.enter()?;
        let result = read(self);
        self.decoder.leave(result)
    }
}
