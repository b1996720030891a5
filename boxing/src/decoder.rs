//! Bytes to values, exactly and within limits: everything that nests or repeats.

use std::collections::VecDeque;

use ::bytes::Bytes;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer};

use crate::CodecError;
use crate::error::Decoded;
use crate::limits::DecodeLimits;
use crate::reference::{self, Reference};
use crate::wire::Source;

/// The value that `body` holds, whose references are in `references`.
///
/// The value may borrow strings and bytes from `body`. [`Bytes`] in it that went through an adapter
/// ([`mod@crate::bytes`]) and are long are pieces of `body`, which they keep in memory.
///
/// # Errors
///
/// The bytes are not those of a `T`, go on behind it, or exceed `limits`; or `T` needs a self-describing format.
///
/// ```
/// use bytes::Bytes;
/// use farref_boxing::{DecodeLimits, decode};
///
/// let body = Bytes::from_static(&[3, 5, b'h', b'e', b'l', b'l', b'o']);
/// let (number, text): (u16, &str) = decode(&body, &[], &DecodeLimits::default())?;
/// assert_eq!((number, text), (3, "hello"));
/// # Ok::<(), farref_boxing::CodecError>(())
/// ```
pub fn decode<'a, T: Deserialize<'a>>(
    body: &'a Bytes,
    references: &[Reference],
    limits: &DecodeLimits,
) -> Result<T, CodecError> {
    let _scope = reference::unboxing(references, body, limits.depth);
    let mut decoder = Decoder::new(body, limits);
    let value = T::deserialize(&mut decoder)?;
    match decoder.source.left() {
        0 => Ok(value),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

/// Decodes the first `many` values of one type that `body` holds one behind the other, together within `limits`; where the
/// next one begins.
///
/// # Errors
///
/// As for [`decode`], but for what follows.
pub(crate) fn decode_some<T: DeserializeOwned>(
    body: &Bytes,
    references: &[Reference],
    limits: &DecodeLimits,
    many: u64,
    out: &mut VecDeque<T>,
) -> Result<usize, CodecError> {
    let _scope = reference::unboxing(references, body, limits.depth);
    let mut decoder = Decoder::new(body, limits);
    for _ in 0..many {
        out.push_back(T::deserialize(&mut decoder)?);
    }
    let left = usize::try_from(decoder.source.left()).unwrap_or(usize::MAX);
    Ok(body.len().saturating_sub(left))
}

/// How many types each byte may be in, beyond twice as many as elements may take no bytes.
const TYPES_PER_BYTE: u64 = 16;

/// What is handed to serde.
///
/// # Invariant
///
/// `depth`, `zero_sized`, `memory` and `types` are what is left of each limit; `depth` comes back when a level is left.
pub(crate) struct Decoder<'de> {
    source: Source<'de>,
    depth: u32,
    zero_sized: u64,
    memory: u64,
    /// Types of a shape, which are the peer's.
    types: u64,
    depth_limit: u32,
    memory_limit: u64,
}

impl<'de> Decoder<'de> {
    pub(crate) fn new(body: &'de [u8], limits: &DecodeLimits) -> Self {
        let unfolded = (body.len() as u64).saturating_mul(DecodeLimits::MEMORY_PER_BYTE);
        let memory = limits.memory.saturating_add(unfolded);
        Self {
            source: Source::new(body),
            depth: limits.depth,
            zero_sized: limits.zero_sized,
            memory,
            types: (body.len() as u64)
                .saturating_mul(TYPES_PER_BYTE)
                .saturating_add(limits.zero_sized.saturating_mul(2)),
            depth_limit: limits.depth,
            memory_limit: memory,
        }
    }

    /// How many bytes are left.
    pub(crate) const fn left(&self) -> u64 {
        self.source.left()
    }

    #[inline]
    pub(crate) fn enter(&mut self) -> Decoded<()> {
        match self.depth.checked_sub(1) {
            Some(left) => {
                self.depth = left;
                Ok(())
            }
            None => Err(CodecError::TooDeep {
                limit: self.depth_limit,
            }
            .into()),
        }
    }

    #[inline]
    pub(crate) fn leave<T>(&mut self, result: Decoded<T>) -> Decoded<T> {
        self.depth = self.depth.saturating_add(1);
        result
    }

    /// A boolean, or whether there is what is optional.
    #[inline]
    pub(crate) fn flag(&mut self) -> Decoded<bool> {
        match self.source.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(CodecError::InvalidTag { found }.into()),
        }
    }

    /// The count at the head of a sequence or map, if that many elements can follow.
    pub(crate) fn count(&mut self) -> Decoded<u64> {
        let announced = self.source.varint()?;
        if announced > self.source.left().saturating_add(self.zero_sized) {
            return Err(CodecError::TooManyItems { announced }.into());
        }
        Ok(announced)
    }

    /// One element of a sequence, or a key or value of a map.
    #[inline]
    fn element<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<S::Value> {
        self.take_memory(size_of::<S::Value>())?;
        seed.deserialize(self)
    }

    /// Accounts for an element of that size.
    #[inline]
    pub(crate) fn take_memory(&mut self, size: usize) -> Decoded<()> {
        match self.memory.checked_sub(size as u64) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(CodecError::TooMuchMemory {
                limit: self.memory_limit,
            }
            .into()),
        }
    }

    /// Accounts for a type of a shape by which something is read.
    #[inline]
    pub(crate) fn take_type(&mut self) -> Decoded<()> {
        match self.types.checked_sub(1) {
            Some(left) => {
                self.types = left;
                Ok(())
            }
            None => Err(Box::custom(
                "the shape of the value is out of proportion to its bytes",
            )),
        }
    }

    /// Accounts for an element before which `before` bytes were left, of `announced`.
    #[inline]
    pub(crate) fn consumed(&mut self, before: u64, announced: u64) -> Decoded<()> {
        if self.source.left() == before {
            match self.zero_sized.checked_sub(1) {
                Some(left) => self.zero_sized = left,
                None => return Err(CodecError::TooManyItems { announced }.into()),
            }
        }
        Ok(())
    }
}

macro_rules! plain {
    ($($name:ident $visit:ident $read:expr;)*) => {$(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
            let read: fn(&mut Source<'de>) -> _ = $read;
            visitor.$visit(read(&mut self.source)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Box<CodecError>;

    plain! {
        deserialize_u8 visit_u8 Source::byte;
        deserialize_u16 visit_u16 Source::unsigned;
        deserialize_u32 visit_u32 Source::unsigned;
        deserialize_u64 visit_u64 Source::varint;
        deserialize_u128 visit_u128 Source::wide;
        deserialize_i8 visit_i8 |source| source.byte().map(u8::cast_signed);
        deserialize_i16 visit_i16 Source::signed;
        deserialize_i32 visit_i32 Source::signed;
        deserialize_i64 visit_i64 Source::signed;
        deserialize_i128 visit_i128 Source::signed_wide;
        deserialize_f32 visit_f32 |source| source.array().map(f32::from_le_bytes);
        deserialize_f64 visit_f64 |source| source.array().map(f64::from_le_bytes);
        deserialize_char visit_char Source::char;
        deserialize_str visit_borrowed_str Source::str;
        deserialize_string visit_string |source| source.string().map(String::from);
        deserialize_bytes visit_borrowed_bytes Source::bytes;
        deserialize_byte_buf visit_byte_buf |source| source.bytes().map(<[u8]>::to_vec);
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_bool(self.flag()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        if !self.flag()? {
            return visitor.visit_none();
        }
        self.enter()?;
        let result = visitor.visit_some(&mut *self);
        self.leave(result)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Decoded<V::Value> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Decoded<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let announced = self.count()?;
        self.enter()?;
        let result = visitor.visit_seq(Elements {
            decoder: self,
            left: announced,
            announced,
            before: u64::MAX,
        });
        self.leave(result)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Decoded<V::Value> {
        let announced = self.count()?;
        self.enter()?;
        let result = visitor.visit_map(Entries {
            decoder: self,
            left: announced,
            announced,
            before: 0,
        });
        self.leave(result)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Decoded<V::Value> {
        visitor.visit_seq(Fields {
            decoder: self,
            left: len,
        })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Decoded<V::Value> {
        visitor.visit_seq(Fields {
            decoder: self,
            left: len,
        })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        visitor.visit_seq(Fields {
            decoder: self,
            left: fields.len(),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        self.enter()?;
        let result = visitor.visit_enum(Variant { decoder: &mut *self });
        self.leave(result)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Decoded<V::Value> {
        Err(CodecError::NotSelfDescribing.into())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Decoded<V::Value> {
        Err(CodecError::NotSelfDescribing.into())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Decoded<V::Value> {
        Err(CodecError::NotSelfDescribing.into())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: u64,
    announced: u64,
    /// How many bytes were left before the last element. It is accounted for when the next one is asked for: between its
    /// coming and its going on it would have to be moved.
    before: u64,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Box<CodecError>;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        self.decoder.consumed(self.before, self.announced)?;
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.before = self.decoder.source.left();
        self.decoder.element(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left.min(self.decoder.source.left())).ok()
    }
}

/// The entries of a map.
struct Entries<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: u64,
    announced: u64,
    /// How many bytes were left before the key.
    before: u64,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Box<CodecError>;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.before = self.decoder.source.left();
        self.decoder.element(seed).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<S::Value> {
        let value = self.decoder.element(seed)?;
        self.decoder.consumed(self.before, self.announced)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left.min(self.decoder.source.left())).ok()
    }
}

/// The fields of a tuple or struct: as many as the type says.
struct Fields<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Box<CodecError>;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Decoded<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Which variant of an enum, and what it holds.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Box<CodecError>;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Decoded<(S::Value, Self)> {
        let index: U32Deserializer<Box<CodecError>> =
            self.decoder.source.unsigned::<u32>()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Box<CodecError>;

    fn unit_variant(self) -> Decoded<()> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Decoded<S::Value> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Decoded<V::Value> {
        visitor.visit_seq(Fields {
            decoder: self.decoder,
            left: len,
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Decoded<V::Value> {
        visitor.visit_seq(Fields {
            decoder: self.decoder,
            left: fields.len(),
        })
    }
}
