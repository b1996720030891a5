//! Bytes of one shape, read as a value of another type (PROTOCOL.md § 9.14).

use std::collections::VecDeque;

use ::bytes::Bytes;
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer};

use super::{Definition, Fields, Kind, Shape, Type, Variant, dynamic};
use crate::decoder::Decoder;
use crate::error::Decoded;
use crate::value::{TOO_LARGE, fits_f32, model};
use crate::{CodecError, DecodeLimits, Reference, reference};

/// The value that `body` holds, whose bytes are of `shape`, as a `T`, which may be of another.
///
/// It is read by the names of fields and variants. So the type may have more fields with a default, fewer, in another
/// order, and with `#[serde(alias)]` others; its enums may lack variants that the value does not use. What was a value
/// may have become an option of it, a number a wider one, and a type a newtype around it. What is read as a
/// [`Value`](crate::Value) may be anything. What is opaque is read where [`Shape::read_by`] has found the same on both
/// sides, and refused otherwise.
///
/// # Errors
///
/// Those of [`decode`](crate::decode); the shape is not sound; or the type cannot take what the shape has.
///
/// ```
/// use farref_boxing::{DecodeLimits, Encoder, Shape, decode_by_shape};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Old {
///     name: String,
///     size: u16,
///     gone: bool,
/// }
/// #[derive(Debug, PartialEq, Deserialize)]
/// struct New {
///     #[serde(alias = "size")]
///     length: u64,
///     #[serde(default)]
///     tags: Vec<String>,
///     name: String,
/// }
/// let mut encoder = Encoder::new();
/// encoder.encode(&Old { name: "a".into(), size: 7, gone: true })?;
/// let shape = Shape::of::<Old>().unwrap();
///
/// let new: New = decode_by_shape(&encoder.body().to_bytes(), &[], &shape, &DecodeLimits::default())?;
/// assert_eq!(new, New { length: 7, tags: vec![], name: "a".into() });
/// # Ok::<(), farref_boxing::CodecError>(())
/// ```
pub fn decode_by_shape<'a, T: Deserialize<'a>>(
    body: &'a Bytes,
    references: &[Reference],
    shape: &'a Shape,
    limits: &DecodeLimits,
) -> Result<T, CodecError> {
    if !shape.is_sound() {
        return Err(*unsound());
    }
    let _scope = reference::unboxing(references, body, limits.depth);
    let mut decoder = Decoder::new(body, limits);
    let value = T::deserialize(Shaped {
        decoder: &mut decoder,
        shape,
        of: &shape.root,
        levels: limits.depth.saturating_mul(LEVELS),
    })?;
    match decoder.left() {
        0 => Ok(value),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

/// Decodes the first `many` values of one type that `body` holds one behind the other, together within `limits`; where the
/// next one begins.
///
/// # Errors
///
/// As for [`decode_by_shape`], but for what follows.
pub(crate) fn decode_some_by_shape<T: DeserializeOwned>(
    body: &Bytes,
    references: &[Reference],
    shape: &Shape,
    limits: &DecodeLimits,
    many: u64,
    out: &mut VecDeque<T>,
) -> Result<usize, CodecError> {
    if !shape.is_sound() {
        return Err(*unsound());
    }
    let _scope = reference::unboxing(references, body, limits.depth);
    let mut decoder = Decoder::new(body, limits);
    for _ in 0..many {
        out.push_back(T::deserialize(Shaped {
            decoder: &mut decoder,
            shape,
            of: &shape.root,
            levels: limits.depth.saturating_mul(LEVELS),
        })?);
    }
    let left = usize::try_from(decoder.left()).unwrap_or(usize::MAX);
    Ok(body.len().saturating_sub(left))
}

/// How many types may be inside each other for each level that counts (PROTOCOL.md § 9.9).
const LEVELS: u32 = 4;

pub(super) fn unsound() -> Box<CodecError> {
    Box::custom("the shape of the value is not one of a type")
}

/// What is handed to serde: bytes that the shape makes self-describing.
struct Shaped<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    shape: &'de Shape,
    of: &'de Type,
    /// How many types may be inside each other from here on, structs and tuples among them: the shape is the peer's.
    levels: u32,
}

/// What a type is, with its name resolved.
enum Look<'de> {
    Plain(&'de Type),
    Struct(&'de Fields),
    Enum(&'de [Variant]),
    /// Nobody here can read it.
    Opaque,
    /// The type that reads knows what it is.
    Own,
}

impl<'a, 'de> Shaped<'a, 'de> {
    fn held_or_own(self) -> Decoded<Held<'a, 'de>> {
        let this = self.held()?;
        Ok(match this.look()? {
            Look::Own => Held::Own(this.decoder),
            _ => Held::Other(this),
        })
    }

    fn look(&self) -> Decoded<Look<'de>> {
        Ok(match self.of {
            Type::Named(number) => match &self.shape.definition(*number).ok_or_else(unsound)?.kind {
                Kind::Struct(fields) => Look::Struct(fields),
                Kind::Enum(variants) => Look::Enum(variants),
                Kind::Opaque(_) => Look::Opaque,
                Kind::Own => Look::Own,
            },
            of => Look::Plain(of),
        })
    }

    fn with<'b>(&'b mut self, of: &'de Type) -> Decoded<Shaped<'b, 'de>> {
        self.decoder.take_type()?;
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Shaped {
                decoder: &mut *self.decoder,
                shape: self.shape,
                of,
                levels,
            }),
            None => Err(unsound()),
        }
    }

    #[cold]
    fn unreadable(&self) -> Box<CodecError> {
        let found = match self.of {
            Type::Named(number) => self.shape.definition(*number),
            _ => None,
        };
        found.map_or_else(unsound, unreadable)
    }

    /// The same without newtypes around it, which are what they hold.
    fn held(mut self) -> Decoded<Self> {
        while let Look::Struct(Fields::Newtype(of)) = self.look()? {
            self.decoder.take_type()?;
            self.of = of;
            self.levels = self.levels.checked_sub(1).ok_or_else(unsound)?;
        }
        Ok(self)
    }

    fn elements<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match self.of {
            Type::Bytes => self.list(&Type::U8, visitor),
            Type::Tuple(types) => self.tuple(types, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    /// Runs `read` a level further in.
    fn inside<R>(mut self, read: impl FnOnce(&mut Self) -> Decoded<R>) -> Decoded<R> {
        self.decoder.enter()?;
        let result = read(&mut self);
        self.decoder.leave(result)
    }

    fn list<V: Visitor<'de>>(self, of: &'de Type, visitor: V) -> Decoded<V::Value> {
        let count = self.decoder.count()?;
        self.inside(|this| {
            let mut elements = Elements {
                types: Types::Repeated(of, count),
                announced: count,
                reader: this.with(of)?,
            };
            let result = visitor.visit_seq(&mut elements)?;
            elements.end(result)
        })
    }

    fn map<V: Visitor<'de>>(self, key: &'de Type, value: &'de Type, visitor: V) -> Decoded<V::Value> {
        let announced = self.decoder.count()?;
        self.inside(|this| {
            let mut entries = Entries {
                key,
                value,
                left: announced,
                announced,
                before: 0,
                reader: this.with(value)?,
            };
            let result = visitor.visit_map(&mut entries)?;
            match entries.left {
                0 => Ok(result),
                left => Err(unread(left)),
            }
        })
    }

    /// Fields, as those of a struct or of a variant.
    fn fields<V: Visitor<'de>>(mut self, fields: &'de Fields, visitor: V) -> Decoded<V::Value> {
        match fields {
            Fields::Unit => visitor.visit_unit(),
            Fields::Newtype(of) => visitor.visit_newtype_struct(self.with(of)?),
            Fields::Tuple(types) => self.tuple(types, visitor),
            Fields::Named(fields) => {
                let mut left = Named {
                    fields: fields.iter(),
                    of: None,
                    reader: self,
                };
                let result = visitor.visit_map(&mut left)?;
                match left.fields.len() {
                    0 => Ok(result),
                    left => Err(unread(left as u64)),
                }
            }
        }
    }

    fn tuple<V: Visitor<'de>>(self, types: &'de [Type], visitor: V) -> Decoded<V::Value> {
        let mut elements = Elements {
            types: Types::Each(types.iter()),
            announced: types.len() as u64,
            reader: self,
        };
        let result = visitor.visit_seq(&mut elements)?;
        elements.end(result)
    }

    fn array<V: Visitor<'de>>(self, of: &'de Type, count: u32, visitor: V) -> Decoded<V::Value> {
        let mut elements = Elements {
            types: Types::Repeated(of, count.into()),
            announced: count.into(),
            reader: self,
        };
        let result = visitor.visit_seq(&mut elements)?;
        elements.end(result)
    }

    /// Reads the value, and makes nothing of it.
    fn skip(mut self) -> Decoded<()> {
        match self.look()? {
            Look::Struct(fields) => self.skip_fields(fields),
            Look::Enum(variants) => {
                let fields = &variant(variants, self.index()?)?.fields;
                self.inside(|this| this.skip_fields(fields))
            }
            Look::Plain(Type::Option(of)) => match self.decoder.flag()? {
                false => Ok(()),
                true => self.inside(|this| this.with(of)?.skip()),
            },
            Look::Plain(Type::List(of)) => {
                let count = self.decoder.count()?;
                self.inside(|this| this.skip_many(of, count))
            }
            Look::Plain(Type::Map(key, value)) => {
                let count = self.decoder.count()?;
                self.inside(|this| {
                    for _ in 0..count {
                        let before = this.decoder.left();
                        this.with(key)?.skip()?;
                        this.with(value)?.skip()?;
                        this.decoder.consumed(before, count)?;
                    }
                    Ok(())
                })
            }
            Look::Plain(Type::Tuple(types)) => types.iter().try_for_each(|of| self.skip_one(of)),
            Look::Plain(Type::Array(of, count)) => self.skip_many(of, (*count).into()),
            Look::Plain(Type::Value) => {
                <(&[u8], Vec<&[u8]>)>::deserialize(&mut *self.decoder)?;
                Ok(())
            }
            Look::Opaque | Look::Own => Err(self.unreadable()),
            Look::Plain(_) => {
                self.deserialize_any(serde::de::IgnoredAny)?;
                Ok(())
            }
        }
    }

    fn skip_many(&mut self, of: &'de Type, count: u64) -> Decoded<()> {
        for _ in 0..count {
            self.skip_one(of)?;
        }
        Ok(())
    }

    fn skip_fields(&mut self, fields: &'de Fields) -> Decoded<()> {
        fields.types().try_for_each(|of| self.skip_one(of))
    }

    fn skip_one(&mut self, of: &'de Type) -> Decoded<()> {
        let before = self.decoder.left();
        self.with(of)?.skip()?;
        self.decoder.consumed(before, 1)
    }

    fn index(&mut self) -> Decoded<u32> {
        u32::deserialize(&mut *self.decoder)
    }
}

pub(super) fn variant(variants: &[Variant], index: u32) -> Decoded<&Variant> {
    let found = usize::try_from(index).ok().and_then(|index| variants.get(index));
    found.ok_or_else(|| {
        let expected = format!("variant index 0 <= i < {}", variants.len());
        Box::invalid_value(Unexpected::Unsigned(index.into()), &expected.as_str())
    })
}

/// What is opaque came to a type that is not the same.
#[cold]
pub(super) fn unreadable(of: &Definition) -> Box<CodecError> {
    let version = match of.kind {
        Kind::Opaque(version) => format!(" version {version}"),
        _ => String::new(),
    };
    Box::custom(format_args!(
        "only the type itself can read `{}{version}`, which is opaque",
        of.name
    ))
}

#[cold]
fn unread(left: u64) -> Box<CodecError> {
    Box::custom(format_args!("{left} elements or fields more than the type takes"))
}

macro_rules! plain {
    ($self:ident $visitor:ident $of:ident: $($type:ident $name:ident)*) => {
        match $of {
            $(Type::$type => (&mut *$self.decoder).$name($visitor),)*
            Type::Option(of) => match $self.decoder.flag()? {
                false => $visitor.visit_none(),
                true => $self.inside(|this| $visitor.visit_some(this.with(of)?)),
            },
            Type::List(of) => $self.list(of, $visitor),
            Type::Map(key, value) => $self.map(key, value, $visitor),
            Type::Tuple(types) if types.is_empty() => $visitor.visit_unit(),
            Type::Tuple(types) => $self.tuple(types, $visitor),
            Type::Array(of, count) => $self.array(of, *count, $visitor),
            Type::Value => Err(Box::invalid_type(Unexpected::Other("data that says what it is"), &$visitor)),
            Type::Named(_) => Err(unsound()),
        }
    };
}

/// What is read by itself where the reader's type is the writer's, and by the shape where not.
macro_rules! own {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
            match self.held_or_own()? {
                Held::Own(decoder) => decoder.$name(visitor),
                Held::Other(this) => this.deserialize_any(visitor),
            }
        }
    )*};
}

/// What there is without newtypes around it.
enum Held<'a, 'de> {
    Own(&'a mut Decoder<'de>),
    Other(Shaped<'a, 'de>),
}

impl<'de> Deserializer<'de> for Shaped<'_, 'de> {
    type Error = Box<CodecError>;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let mut this = self.held()?;
        match this.look()? {
            Look::Plain(of) => plain! {
                this visitor of:
                Bool deserialize_bool U8 deserialize_u8 U16 deserialize_u16 U32 deserialize_u32
                U64 deserialize_u64 U128 deserialize_u128 I8 deserialize_i8 I16 deserialize_i16
                I32 deserialize_i32 I64 deserialize_i64 I128 deserialize_i128 F32 deserialize_f32
                F64 deserialize_f64 Char deserialize_char Str deserialize_str Bytes deserialize_bytes
                Reference deserialize_u32
            },
            Look::Struct(fields) => this.fields(fields, visitor),
            Look::Enum(variants) => {
                let variant = variant(variants, this.index()?)?;
                this.inside(|this| {
                    visitor.visit_enum(Chosen {
                        variant,
                        reader: this.with(this.of)?,
                    })
                })
            }
            Look::Opaque | Look::Own => Err(this.unreadable()),
        }
    }

    own! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_unit deserialize_map deserialize_identifier
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_unit_struct(name, visitor),
            Held::Other(this) => this.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_struct(name, fields, visitor),
            Held::Other(this) => this.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_enum(name, variants, visitor),
            Held::Other(this) => this.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let this = match self.held_or_own()? {
            Held::Own(decoder) => return decoder.deserialize_f32(visitor),
            Held::Other(this) => this,
        };
        match this.of {
            Type::F64 => match f64::deserialize(&mut *this.decoder)? {
                number if fits_f32(number) => visitor.visit_f64(number),
                // Serde would make it infinite.
                _ => Err(Box::invalid_value(TOO_LARGE, &visitor)),
            },
            _ => this.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        // Around what is the reader's own, something that is held says that it has become an option.
        if let Look::Own = self.look()? {
            return self.decoder.deserialize_option(visitor);
        }
        let this = self.held()?;
        match this.of {
            Type::Option(_) => this.deserialize_any(visitor),
            // What was there always has become an option.
            _ => this.inside(|this| visitor.visit_some(this.with(this.of)?)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Decoded<V::Value> {
        match self.look()? {
            Look::Own => self.decoder.deserialize_newtype_struct(name, visitor),
            Look::Plain(Type::Value) if name == model::TOKEN => {
                (&mut *self.decoder).deserialize_newtype_struct(name, visitor)
            }
            _ if name == model::TOKEN => {
                let value = dynamic::value(self.decoder, self.shape, self.of)?;
                model::give(&value, || visitor.visit_newtype_struct(self))
            }
            Look::Struct(Fields::Newtype(of)) => visitor.visit_newtype_struct(self.with(of)?),
            // What was not a newtype has become one.
            _ => self.inside(|this| visitor.visit_newtype_struct(this.with(this.of)?)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_seq(visitor),
            Held::Other(this) => this.elements(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_tuple(len, visitor),
            Held::Other(this) => this.elements(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Decoded<V::Value> {
        match self.held_or_own()? {
            Held::Own(decoder) => decoder.deserialize_tuple_struct(name, len, visitor),
            Held::Other(this) => this.elements(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

enum Types<'de> {
    Repeated(&'de Type, u64),
    Each(std::slice::Iter<'de, Type>),
}

/// What is left of a list, a tuple or an array.
struct Elements<'a, 'de> {
    types: Types<'de>,
    /// How many there were.
    announced: u64,
    reader: Shaped<'a, 'de>,
}

impl<'de> Elements<'_, 'de> {
    fn end<T>(&self, result: T) -> Decoded<T> {
        match self.left() {
            0 => Ok(result),
            left => Err(unread(left)),
        }
    }

    fn left(&self) -> u64 {
        match &self.types {
            Types::Repeated(_, left) => *left,
            Types::Each(types) => types.len() as u64,
        }
    }

    fn next(&mut self) -> Option<&'de Type> {
        match &mut self.types {
            Types::Repeated(of, left) => {
                *left = left.checked_sub(1)?;
                Some(of)
            }
            Types::Each(types) => types.next(),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Box<CodecError>;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some(of) = self.next() else {
            return Ok(None);
        };
        let before = self.reader.decoder.left();
        let value = self.reader.element(of, seed)?;
        // Also those of tuples: a shape may hold any number of what takes no bytes.
        self.reader.decoder.consumed(before, self.announced)?;
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left().min(self.reader.decoder.left())).ok()
    }
}

impl<'de> Shaped<'_, 'de> {
    fn element<S: DeserializeSeed<'de>>(&mut self, of: &'de Type, seed: S) -> Decoded<S::Value> {
        self.decoder.take_memory(size_of::<S::Value>())?;
        seed.deserialize(self.with(of)?)
    }
}

/// What is left of a map.
struct Entries<'a, 'de> {
    key: &'de Type,
    value: &'de Type,
    left: u64,
    announced: u64,
    /// How many bytes were left before the key.
    before: u64,
    reader: Shaped<'a, 'de>,
}

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de> {
    type Error = Box<CodecError>;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.before = self.reader.decoder.left();
        self.reader.element(self.key, seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<S::Value> {
        let value = self.reader.element(self.value, seed)?;
        self.reader.decoder.consumed(self.before, self.announced)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left.min(self.reader.decoder.left())).ok()
    }
}

/// What is left of fields with names.
struct Named<'a, 'de> {
    fields: std::slice::Iter<'de, (Box<str>, Type)>,
    /// The type of the field whose name was read last.
    of: Option<&'de Type>,
    reader: Shaped<'a, 'de>,
}

impl<'de> MapAccess<'de> for &mut Named<'_, 'de> {
    type Error = Box<CodecError>;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some((name, of)) = self.fields.next() else {
            return Ok(None);
        };
        self.of = Some(of);
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<S::Value> {
        let of = self.of.take().ok_or_else(unsound)?;
        let before = self.reader.decoder.left();
        let value = seed.deserialize(self.reader.with(of)?)?;
        self.reader.decoder.consumed(before, 1)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// A variant that was read, and what it holds, which was not.
struct Chosen<'a, 'de> {
    variant: &'de Variant,
    reader: Shaped<'a, 'de>,
}

impl<'de> EnumAccess<'de> for Chosen<'_, 'de> {
    type Error = Box<CodecError>;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Decoded<(S::Value, Self)> {
        let name: StrDeserializer<'_, Box<CodecError>> = StrDeserializer::new(&self.variant.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> Chosen<'_, 'de> {
    fn holds(&self, expected: &str) -> Box<CodecError> {
        let found = match self.variant.fields {
            Fields::Unit => Unexpected::UnitVariant,
            Fields::Newtype(_) => Unexpected::NewtypeVariant,
            Fields::Tuple(_) => Unexpected::TupleVariant,
            Fields::Named(_) => Unexpected::StructVariant,
        };
        Box::invalid_type(found, &expected)
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_, 'de> {
    type Error = Box<CodecError>;

    fn unit_variant(self) -> Decoded<()> {
        match self.variant.fields {
            Fields::Unit => Ok(()),
            _ => Err(self.holds("a unit variant")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Decoded<S::Value> {
        match &self.variant.fields {
            Fields::Newtype(of) => seed.deserialize(self.reader.with(of)?),
            _ => Err(self.holds("a newtype variant")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Decoded<V::Value> {
        match &self.variant.fields {
            Fields::Tuple(types) => self.reader.tuple(types, visitor),
            _ => Err(self.holds("a tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        match &self.variant.fields {
            fields @ Fields::Named(_) => self.reader.fields(fields, visitor),
            _ => Err(self.holds("a struct variant")),
        }
    }
}
