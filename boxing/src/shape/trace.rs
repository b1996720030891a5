//! The shape of a type, found by reading made-up values of it until all of it is known.
//!
//! A type tells a deserialiser what it expects, one thing after the other, and wants values for it. So each pass takes
//! one way through the type: it reads an option that holds something, lists of one element, and of each enum a variant
//! that was not taken yet, or that leads to one. A type that is met inside of itself is read briefly: with nothing in its
//! options and lists, and with variants that come to an end.

use std::any::type_name;
use std::collections::{HashMap, HashSet};

use serde::de::value::{BorrowedStrDeserializer, U32Deserializer, UnitDeserializer};
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer};

use super::{Definition, Fields, Kind, Shape, Type, Variant};
use crate::value::model;
use crate::{CodecError, Reference, Value, reference};

/// Most steps of a pass.
const STEPS: u32 = 1 << 20;
/// Most levels inside each other.
const LEVELS: u32 = 96;

/// The shape of `T`, with `stand_in` for every reference in it.
pub(super) fn trace<'de, T: Deserialize<'de>>(stand_in: Option<&Reference>) -> Option<Shape> {
    let _scope = reference::tracing(stand_in);
    let mut tracer = Tracer::default();
    let mut known = 0;
    loop {
        tracer.steps = STEPS;
        let mut root = None;
        let read = T::deserialize(Probe {
            tracer: &mut tracer,
            found: &mut root,
        });
        settle(&mut root);
        match read {
            Ok(_) => {}
            // The pass was given up for the name of a field, which is known now.
            Err(_) if std::mem::take(&mut tracer.has_learned) => continue,
            Err(_) => return None,
        }
        if tracer.types.iter().all(Draft::is_complete) {
            return tracer.finish(root?);
        }
        let before = std::mem::replace(&mut known, tracer.types.iter().map(Draft::known).sum());
        if known <= before {
            return None;
        }
    }
}

/// A type with a name, as far as it is known.
struct Draft {
    name: &'static str,
    kind: DraftKind,
}

enum DraftKind {
    Struct(Option<Fields>),
    Enum {
        names: &'static [&'static str],
        variants: Vec<Option<Fields>>,
        /// A variant that comes to an end.
        short: Option<u32>,
    },
}

impl Draft {
    fn is_complete(&self) -> bool {
        match &self.kind {
            DraftKind::Struct(fields) => fields.is_some(),
            DraftKind::Enum { variants, .. } => variants.iter().all(Option::is_some),
        }
    }

    /// How much is known: more after each pass, or passes lead nowhere.
    fn known(&self) -> usize {
        match &self.kind {
            DraftKind::Struct(fields) => usize::from(fields.is_some()),
            DraftKind::Enum { variants, .. } => variants.iter().flatten().count(),
        }
    }
}

#[derive(Default)]
struct Tracer {
    types: Vec<Draft>,
    /// Which type is which, by its name in serde and by that in Rust of what is made: the first is shared by types of
    /// different modules and arguments, the second by a few of std.
    numbers: HashMap<(&'static str, &'static str), u32>,
    /// How often each type is met inside of itself just now.
    within: HashMap<u32, u32>,
    /// Within how many types that are read briefly.
    brief: u32,
    levels: u32,
    steps: u32,
    /// Of structs whose fields have several names, as far as they are known, the one of each name's field that it is
    /// written by. A struct is a type, or a variant of one.
    written: HashMap<(&'static str, Option<u32>), Vec<&'static str>>,
    /// This pass was given up for one of these.
    has_learned: bool,
}

impl Tracer {
    /// The number of the type `T`, of that name, which is of this kind if it is new.
    fn number<T>(&mut self, name: &'static str, new: impl FnOnce() -> DraftKind) -> u32 {
        *self.numbers.entry((name, type_name::<T>())).or_insert_with(|| {
            let number = self.types.len() as u32;
            self.types.push(Draft { name, kind: new() });
            number
        })
    }

    fn draft(&mut self, number: u32) -> Result<&mut DraftKind, CodecError> {
        let draft = self.types.get_mut(number as usize).ok_or_else(unclear)?;
        Ok(&mut draft.kind)
    }

    fn step(&mut self) -> Result<(), CodecError> {
        self.steps = self.steps.checked_sub(1).ok_or_else(unclear)?;
        Ok(())
    }

    /// Runs `read` inside of the type of that number, briefly if it is inside of it already.
    fn inside<R>(
        &mut self,
        number: u32,
        read: impl FnOnce(&mut Self, u32) -> Result<R, CodecError>,
    ) -> Result<R, CodecError> {
        if self.levels >= LEVELS {
            return Err(unclear());
        }
        let times = self.within.entry(number).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        let brief = u32::from(times > 1);
        self.levels = self.levels.saturating_add(1);
        self.brief = self.brief.saturating_add(brief);
        let result = read(self, times);
        self.levels = self.levels.saturating_sub(1);
        self.brief = self.brief.saturating_sub(brief);
        if let Some(times) = self.within.get_mut(&number) {
            *times = times.saturating_sub(1);
        }
        result
    }

    /// Whether there is something unknown to be met in `fields`, other than by way of a type that would be read briefly.
    fn leads_on(&self, fields: &Fields) -> bool {
        let mut seen = HashSet::new();
        let mut open = Vec::new();
        fields
            .types()
            .for_each(|of| of.each(&mut |number| open.push(number)));
        while let Some(number) = open.pop() {
            let is_open = self.within.get(&number).is_some_and(|times| *times > 0);
            if is_open || !seen.insert(number) {
                continue;
            }
            let Some(draft) = self.types.get(number as usize) else {
                continue;
            };
            if !draft.is_complete() {
                return true;
            }
            let mut look = |fields: &Fields| {
                fields
                    .types()
                    .for_each(|of| of.each(&mut |number| open.push(number)));
            };
            match &draft.kind {
                DraftKind::Struct(fields) => fields.iter().for_each(&mut look),
                DraftKind::Enum { variants, .. } => variants.iter().flatten().for_each(&mut look),
            }
        }
        false
    }

    /// Which variant to take next, when inside of the enum for the `times`th time.
    fn choose(&self, number: u32, times: u32) -> Option<u32> {
        let DraftKind::Enum { variants, short, .. } = &self.types.get(number as usize)?.kind else {
            return None;
        };
        let count = variants.len() as u32;
        let place = |found: Option<usize>| found.map(|found| found as u32);
        let unknown = || place(variants.iter().position(Option::is_none));
        let on_the_way = || {
            let leads_on =
                |fields: &Option<Fields>| fields.as_ref().is_some_and(|fields| self.leads_on(fields));
            place(variants.iter().position(leads_on))
        };
        let deeper = || times.checked_sub(1)?.checked_rem(count);
        if self.brief == 0 {
            unknown().or_else(on_the_way).or(*short).or_else(deeper)
        } else {
            short.or_else(deeper)
        }
    }

    /// Reads a struct with fields of these names, which are all that they are known by: those of one field together, in
    /// the order of the fields.
    fn structure<'de, V: Visitor<'de>>(
        &mut self,
        variant: Option<u32>,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<(V::Value, Option<Fields>), CodecError> {
        let key = (type_name::<V::Value>(), variant);
        let known = self.written.get(&key).map(Vec::len);
        if let Some(name) = known.and_then(|known| names.get(known)) {
            self.learn(key, name, names, visitor);
            return Err(unclear());
        }
        let mut elements = Elements::new(self, names.len());
        let result = visitor.visit_seq(&mut elements)?;
        let types = elements.types;
        if types.len() < names.len() && known.is_none() {
            // Some have several names.
            self.written.insert(key, Vec::new());
            self.has_learned = true;
            return Err(unclear());
        }
        let mut written = self.written.get(&key).cloned().unwrap_or_else(|| names.to_vec());
        written.dedup();
        if types.len() != written.len() {
            return Err(unclear());
        }
        let fields = types.into_iter().zip(written);
        let fields: Option<Vec<_>> = fields.map(|(of, name)| Some((name.into(), of?))).collect();
        Ok((result, fields.map(Fields::Named)))
    }

    /// Finds out which name a field is written by that is also known as `name`: if it comes twice, the type says so.
    fn learn<'de, V: Visitor<'de>>(
        &mut self,
        key: (&'static str, Option<u32>),
        name: &'static str,
        names: &[&'static str],
        visitor: V,
    ) {
        let told = visitor.visit_map(Twice {
            tracer: &mut *self,
            name,
            left: 2,
        });
        if let Err(CodecError::Invalid(text)) = told
            && let Some(written) = names
                .iter()
                .find(|name| *text == *format!("duplicate field `{name}`"))
            && let Some(known) = self.written.get_mut(&key)
        {
            known.push(written);
            self.has_learned = true;
        }
    }

    /// The shape. Its types have been met in an order that depends on which way was taken when, so they are numbered anew.
    fn finish(self, root: Type) -> Option<Shape> {
        let types = self
            .types
            .into_iter()
            .map(|draft| {
                let kind = match draft.kind {
                    DraftKind::Struct(fields) => Kind::Struct(fields?),
                    DraftKind::Enum { names, variants, .. } => {
                        let variants = names.iter().zip(variants).map(|(name, fields)| {
                            Some(Variant {
                                name: (*name).into(),
                                fields: fields?,
                            })
                        });
                        Kind::Enum(variants.collect::<Option<_>>()?)
                    }
                };
                Some(Definition {
                    name: draft.name.into(),
                    kind,
                })
            })
            .collect::<Option<_>>()?;
        Some(Shape { root, types }.canonical())
    }
}

/// The type cannot be told by reading it.
fn unclear() -> CodecError {
    CodecError::NotSelfDescribing
}

/// A number by which a reference was asked for is one.
fn settle(found: &mut Option<Type>) {
    if reference::was_traced() && *found == Some(Type::U32) {
        *found = Some(Type::Reference);
    }
}

/// What is handed to serde: notes what is asked for, and makes something up.
struct Probe<'a> {
    tracer: &'a mut Tracer,
    found: &'a mut Option<Type>,
}

impl Probe<'_> {
    fn note(self, found: Type) -> Result<(), CodecError> {
        self.tracer.step()?;
        *self.found = Some(found);
        Ok(())
    }
}

macro_rules! scalars {
    ($($name:ident $visit:ident $type:ident $value:expr;)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
            self.note(Type::$type)?;
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = CodecError;

    scalars! {
        deserialize_bool visit_bool Bool false;
        deserialize_u8 visit_u8 U8 1;
        deserialize_u16 visit_u16 U16 1;
        deserialize_u32 visit_u32 U32 1;
        deserialize_u64 visit_u64 U64 1;
        deserialize_u128 visit_u128 U128 1;
        deserialize_i8 visit_i8 I8 1;
        deserialize_i16 visit_i16 I16 1;
        deserialize_i32 visit_i32 I32 1;
        deserialize_i64 visit_i64 I64 1;
        deserialize_i128 visit_i128 I128 1;
        deserialize_f32 visit_f32 F32 1.0;
        deserialize_f64 visit_f64 F64 1.0;
        deserialize_char visit_char Char 'a';
        deserialize_str visit_borrowed_str Str "";
        deserialize_string visit_borrowed_str Str "";
        deserialize_bytes visit_borrowed_bytes Bytes &[];
        deserialize_byte_buf visit_borrowed_bytes Bytes &[];
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.tracer.step()?;
        if self.tracer.brief > 0 {
            // What it would hold is noted where it is not read briefly.
            return visitor.visit_none();
        }
        let mut of = None;
        let result = visitor.visit_some(Probe {
            tracer: &mut *self.tracer,
            found: &mut of,
        })?;
        settle(&mut of);
        self.note(Type::Option(Box::new(of.ok_or_else(unclear)?)))?;
        Ok(result)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.note(Type::Tuple(Vec::new()))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        let number = self
            .tracer
            .number::<V::Value>(name, || DraftKind::Struct(Some(Fields::Unit)));
        self.note(Type::Named(number))?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        if name == model::TOKEN {
            self.note(Type::Value)?;
            return model::give(&Value::Null, || {
                visitor.visit_newtype_struct(UnitDeserializer::<CodecError>::new())
            });
        }
        self.record(name, visitor, |visitor, tracer| {
            let mut of = None;
            let result = visitor.visit_newtype_struct(Probe {
                tracer,
                found: &mut of,
            })?;
            settle(&mut of);
            Ok((result, of.map(Fields::Newtype)))
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let count = usize::from(self.tracer.brief == 0);
        let mut elements = Elements::new(&mut *self.tracer, count);
        let result = visitor.visit_seq(&mut elements)?;
        if let Some(of) = elements.types.pop() {
            self.note(Type::list(of.ok_or_else(unclear)?))?;
        } else if count > 0 {
            return Err(unclear());
        }
        Ok(result)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let count = usize::from(self.tracer.brief == 0);
        let mut entries = Elements::new(&mut *self.tracer, count.saturating_mul(2));
        let result = visitor.visit_map(&mut entries)?;
        let value = entries.types.pop().flatten();
        let key = entries.types.pop().flatten();
        if let (Some(key), Some(value)) = (key, value) {
            self.note(Type::Map(Box::new(key), Box::new(value)))?;
        } else if count > 0 {
            return Err(unclear());
        }
        Ok(result)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        let mut elements = Elements::new(&mut *self.tracer, len);
        let result = visitor.visit_seq(&mut elements)?;
        if let Some(types) = elements.all() {
            self.note(Type::tuple(types))?;
        }
        Ok(result)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.record(name, visitor, |visitor, tracer| {
            let mut elements = Elements::new(tracer, len);
            let result = visitor.visit_seq(&mut elements)?;
            Ok((result, elements.all().map(Fields::Tuple)))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.record(name, visitor, |visitor, tracer| {
            tracer.structure(None, fields, visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        let number = self.tracer.number::<V::Value>(name, || DraftKind::Enum {
            names: variants,
            variants: vec![None; variants.len()],
            short: None,
        });
        let tracer = self.tracer;
        tracer.step()?;
        *self.found = Some(Type::Named(number));
        tracer.inside(number, |tracer, times| {
            let index = tracer.choose(number, times).ok_or_else(unclear)?;
            let mut fields = None;
            let result = visitor.visit_enum(Choice {
                tracer: &mut *tracer,
                index,
                fields: &mut fields,
            })?;
            if let DraftKind::Enum { variants, short, .. } = tracer.draft(number)? {
                short.get_or_insert(index);
                if let Some(known @ None) = variants.get_mut(index as usize) {
                    *known = fields;
                }
            }
            Ok(result)
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, CodecError> {
        Err(unclear())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, CodecError> {
        Err(unclear())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, CodecError> {
        Err(unclear())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Probe<'_> {
    fn record<'de, V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
        read: impl FnOnce(V, &mut Tracer) -> Result<(V::Value, Option<Fields>), CodecError>,
    ) -> Result<V::Value, CodecError> {
        let tracer = self.tracer;
        tracer.step()?;
        let number = tracer.number::<V::Value>(name, || DraftKind::Struct(None));
        *self.found = Some(Type::Named(number));
        tracer.inside(number, |tracer, _| {
            let (result, fields) = read(visitor, tracer)?;
            if let DraftKind::Struct(known @ None) = tracer.draft(number)? {
                *known = fields;
            }
            Ok(result)
        })
    }
}

/// Some elements, whose types are noted.
struct Elements<'a> {
    tracer: &'a mut Tracer,
    left: usize,
    types: Vec<Option<Type>>,
}

impl<'a> Elements<'a> {
    fn new(tracer: &'a mut Tracer, left: usize) -> Self {
        Self {
            tracer,
            left,
            types: Vec::new(),
        }
    }

    /// The types, if all of them are known.
    fn all(self) -> Option<Vec<Type>> {
        self.types.into_iter().collect()
    }

    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let mut found = None;
        let result = seed.deserialize(Probe {
            tracer: &mut *self.tracer,
            found: &mut found,
        })?;
        settle(&mut found);
        self.types.push(found);
        Ok(Some(result))
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_> {
    type Error = CodecError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, CodecError> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_> {
    type Error = CodecError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CodecError> {
        self.next(seed)?.ok_or_else(unclear)
    }
}

/// A field that comes twice.
struct Twice<'a> {
    tracer: &'a mut Tracer,
    name: &'static str,
    left: u32,
}

impl<'de> MapAccess<'de> for Twice<'_> {
    type Error = CodecError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(BorrowedStrDeserializer::new(self.name))
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CodecError> {
        let mut found = None;
        let result = seed.deserialize(Probe {
            tracer: &mut *self.tracer,
            found: &mut found,
        });
        settle(&mut found);
        result
    }
}

/// A variant, whose fields are noted.
struct Choice<'a> {
    tracer: &'a mut Tracer,
    index: u32,
    fields: &'a mut Option<Fields>,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = CodecError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), CodecError> {
        let index: U32Deserializer<CodecError> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<(), CodecError> {
        *self.fields = Some(Fields::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, CodecError> {
        let mut of = None;
        let result = seed.deserialize(Probe {
            tracer: self.tracer,
            found: &mut of,
        })?;
        settle(&mut of);
        *self.fields = of.map(Fields::Newtype);
        Ok(result)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, CodecError> {
        let mut elements = Elements::new(self.tracer, len);
        let result = visitor.visit_seq(&mut elements)?;
        *self.fields = elements.all().map(Fields::Tuple);
        Ok(result)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        let (result, fields) = self.tracer.structure(Some(self.index), fields, visitor)?;
        *self.fields = fields;
        Ok(result)
    }
}
