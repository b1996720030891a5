//! The bytes of values, with the help of bincode: the only file that names it.
//!
//! Encoding is bincode's own; of decoding, bincode reads what does not nest, and `decoder` whatever does, because
//! bincode counts neither levels nor elements. One configuration for ever: variable-length integers, little endian
//! (PROTOCOL.md § 9). The bytes are pinned by `tests/golden.rs` and checked against a second implementation, so the
//! format outlives the library.

use std::io;

use bincode::{BincodeRead, DefaultOptions, ErrorKind};
use serde::de::{Deserialize, Visitor};
use serde::ser::Serialize;

use crate::CodecError;

/// Writes the bytes of `value` to `sink`, which never fails.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, sink: &mut impl io::Write) -> Result<(), CodecError> {
    value
        .serialize(&mut bincode::Serializer::new(sink, DefaultOptions::new()))
        .map_err(|error| match *error {
            ErrorKind::SequenceMustHaveLength => CodecError::UnknownLength,
            ErrorKind::Custom(text) => CodecError::Refused(text.into()),
            other => CodecError::Refused(other.to_string().into()),
        })
}

/// Bytes that are still to be decoded, and how to read from them what does not nest.
pub(crate) struct Source<'de> {
    rest: &'de [u8],
    /// How many bytes were asked for when there were not enough.
    missed: usize,
}

impl<'de> Source<'de> {
    pub(crate) const fn new(rest: &'de [u8]) -> Self {
        Self { rest, missed: 0 }
    }

    /// How many bytes are left.
    pub(crate) const fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    /// Reads a value of a type that does not nest: a number, a character, a string, bytes.
    #[inline]
    pub(crate) fn read<T: Deserialize<'de>>(&mut self) -> Result<T, CodecError> {
        T::deserialize(&mut bincode::Deserializer::with_bincode_read(
            &mut *self,
            DefaultOptions::new(),
        ))
        .map_err(|error| self.error(*error))
    }

    #[inline]
    fn take(&mut self, count: usize) -> io::Result<&'de [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => {
                self.missed = count;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
    }

    #[cold]
    fn error(&self, error: ErrorKind) -> CodecError {
        match error {
            ErrorKind::Io(_) => CodecError::Truncated {
                needed: self.missed as u64,
                left: self.left(),
            },
            ErrorKind::InvalidUtf8Encoding(error) => CodecError::InvalidUtf8 {
                valid: error.valid_up_to() as u64,
            },
            ErrorKind::InvalidBoolEncoding(found) => CodecError::InvalidTag { found },
            ErrorKind::InvalidCharEncoding => CodecError::InvalidChar,
            // In a value that does not nest, only integers are left to be wrong.
            _ => CodecError::InvalidInteger,
        }
    }
}

impl io::Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_exact(into).map(|()| into.len())
    }

    #[inline]
    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(self.take(into.len())?);
        Ok(())
    }
}

impl<'de> BincodeRead<'de> for &mut Source<'de> {
    fn forward_read_str<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> bincode::Result<V::Value> {
        let text = std::str::from_utf8(self.take(length)?).map_err(ErrorKind::InvalidUtf8Encoding)?;
        visitor.visit_borrowed_str(text)
    }

    fn get_byte_buffer(&mut self, length: usize) -> bincode::Result<Vec<u8>> {
        Ok(self.take(length)?.to_vec())
    }

    fn forward_read_bytes<V: Visitor<'de>>(
        &mut self,
        length: usize,
        visitor: V,
    ) -> bincode::Result<V::Value> {
        visitor.visit_borrowed_bytes(self.take(length)?)
    }
}
