//! Values to bytes: what is handed to serde to be written to. What becomes of the bytes is left to others.

use std::fmt;

use ::bytes::Bytes;
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::CodecError;
use crate::encoder::{KEEP, SHARE_FROM};
use crate::reference;
use crate::spare::SPARE;
use crate::wire::{SINGLE, U16, U32, U64, U128};

/// What was written, or why not: one pointer wide, as it is returned for each part of a value.
pub(crate) type Encoded = Result<(), Box<CodecError>>;

/// Bytes that are being written.
///
/// # Invariant
///
/// They are `parts` and then `scratch`; without `shares` there are no parts.
pub(crate) struct Sink {
    pub(crate) scratch: Vec<u8>,
    pub(crate) parts: Vec<Bytes>,
    shares: bool,
}

impl Sink {
    /// Nothing yet. `shares`: long bytes may be a part of their own, shared with whoever has them.
    pub(crate) const fn new(shares: bool) -> Self {
        Self {
            scratch: Vec::new(),
            parts: Vec::new(),
            shares,
        }
    }

    /// Moves what was written to `scratch` to the end of `parts`.
    pub(crate) fn close(&mut self) {
        if self.scratch.len() >= SHARE_FROM {
            let capacity = self.scratch.capacity();
            let part = Bytes::from(std::mem::take(&mut self.scratch));
            if part.len() > KEEP {
                SPARE.put(&part, capacity);
            }
            self.parts.push(part);
        } else if !self.scratch.is_empty() {
            self.parts.push(Bytes::copy_from_slice(&self.scratch));
            self.scratch.clear();
        }
    }

    /// Makes room for `n` more bytes.
    #[inline]
    fn reserve(&mut self, n: usize) {
        if self.scratch.capacity().saturating_sub(self.scratch.len()) < n {
            self.grow(n);
        }
    }

    #[cold]
    fn grow(&mut self, n: usize) {
        let len = self.scratch.len().saturating_add(n);
        if self.shares
            && len > KEEP
            && let Some(mut memory) = SPARE.take(len)
        {
            memory.extend_from_slice(&self.scratch);
            self.scratch = memory;
        }
        self.scratch.reserve(n);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.reserve(1);
        self.scratch.push(byte);
    }

    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.slice(&bytes);
    }

    #[inline]
    fn slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.scratch.extend_from_slice(bytes);
    }

    /// An unsigned integer of up to 64 bits.
    #[inline]
    fn varint(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(byte @ ..=SINGLE) => self.byte(byte),
            _ => self.long_varint(number),
        }
    }

    fn long_varint(&mut self, number: u64) {
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        match number {
            ..=0xffff => self.array([U16, a, b]),
            0x1_0000..=0xffff_ffff => self.array([U32, a, b, c, d]),
            _ => self.array([U64, a, b, c, d, e, f, g, h]),
        }
    }

    /// A signed integer of up to 64 bits: 0, -1, 1, -2 and so on.
    #[inline]
    fn signed(&mut self, number: i64) {
        self.varint(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// An unsigned integer of 128 bits.
    fn wide(&mut self, number: u128) {
        match u64::try_from(number) {
            Ok(number) => self.varint(number),
            Err(_) => {
                self.byte(U128);
                self.array(number.to_le_bytes());
            }
        }
    }

    /// How many elements or bytes follow.
    #[inline]
    fn count(&mut self, count: usize) {
        self.varint(count as u64);
    }

    /// Bytes, with their number before them.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len @ ..=SINGLE) => {
                self.reserve(bytes.len().saturating_add(1));
                self.scratch.push(len);
                self.scratch.extend_from_slice(bytes);
            }
            _ => self.many_bytes(bytes),
        }
    }

    fn many_bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        if self.shares
            && bytes.len() >= SHARE_FROM
            && let Some(shared) = reference::claim(bytes)
        {
            self.close();
            self.parts.push(shared);
        } else {
            self.slice(bytes);
        }
    }
}

macro_rules! plain {
    ($($name:ident $type:ty: $sink:ident $value:ident $write:expr;)*) => {$(
        #[inline]
        fn $name(self, $value: $type) -> Encoded {
            let $sink = self;
            $write;
            Ok(())
        }
    )*};
}

impl Serializer for &mut Sink {
    type Ok = ();
    type Error = Box<CodecError>;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    plain! {
        serialize_bool bool: sink value sink.byte(value.into());
        serialize_u8 u8: sink value sink.byte(value);
        serialize_u16 u16: sink value sink.varint(value.into());
        serialize_u32 u32: sink value sink.varint(value.into());
        serialize_u64 u64: sink value sink.varint(value);
        serialize_u128 u128: sink value sink.wide(value);
        serialize_i8 i8: sink value sink.byte(value.cast_unsigned());
        serialize_i16 i16: sink value sink.signed(value.into());
        serialize_i32 i32: sink value sink.signed(value.into());
        serialize_i64 i64: sink value sink.signed(value);
        serialize_i128 i128: sink value sink.wide(((value << 1) ^ (value >> 127)).cast_unsigned());
        serialize_f32 f32: sink value sink.array(value.to_le_bytes());
        serialize_f64 f64: sink value sink.array(value.to_le_bytes());
        serialize_char char: sink value sink.slice(value.encode_utf8(&mut [0; 4]).as_bytes());
        serialize_str &str: sink value sink.bytes(value.as_bytes());
        serialize_bytes &[u8]: sink value sink.bytes(value);
    }

    #[inline]
    fn serialize_none(self) -> Encoded {
        self.byte(0);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Encoded {
        self.byte(1);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Encoded {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Encoded {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _name: &'static str, index: u32, _variant: &'static str) -> Encoded {
        self.varint(index.into());
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Encoded {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Encoded {
        self.varint(index.into());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Box<CodecError>> {
        self.count(len.ok_or(CodecError::UnknownLength)?);
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Self, Box<CodecError>> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self, Box<CodecError>> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Self, Box<CodecError>> {
        self.varint(index.into());
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Box<CodecError>> {
        self.serialize_seq(len)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self, Box<CodecError>> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self, Box<CodecError>> {
        self.serialize_tuple_variant(name, index, variant, len)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($trait:ident $part:ident($($name:ident: $type:ty),*);)*) => {$(
        impl $trait for &mut Sink {
            type Ok = ();
            type Error = Box<CodecError>;

            #[inline]
            fn $part<T: Serialize + ?Sized>(&mut self, $($name: $type,)* value: &T) -> Encoded {
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Encoded {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element();
    SerializeTuple serialize_element();
    SerializeTupleStruct serialize_field();
    SerializeTupleVariant serialize_field();
    SerializeStruct serialize_field(_name: &'static str);
    SerializeStructVariant serialize_field(_name: &'static str);
}

impl SerializeMap for &mut Sink {
    type Ok = ();
    type Error = Box<CodecError>;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Encoded {
        key.serialize(&mut **self)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Encoded {
        Ok(())
    }
}

impl Error for Box<CodecError> {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        CodecError::Refused(message.to_string().into()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_handed_over_and_what_is_short_is_copied() {
        for (len, is_copied) in [(SHARE_FROM - 1, true), (SHARE_FROM, false)] {
            let mut sink = Sink::new(true);
            sink.slice(&vec![7; len]);
            let at = sink.scratch.as_ptr();
            sink.close();
            assert_eq!(sink.parts, [vec![7; len]]);
            assert_eq!(sink.parts[0].as_ptr() != at, is_copied, "{len}");
            assert_eq!(sink.scratch.capacity() != 0, is_copied, "its memory is kept");
        }
    }
}
