//! Bytes at the speed of a copy, or without one: for `#[serde(with = "farref::bytes")]`.
//!
//! serde writes a `Vec<u8>` element by element. A field with this attribute is written in one go; the bytes on the
//! wire are the same either way (PROTOCOL.md § 9.6), so the two sides need not agree on the attribute. [`Bytes`]
//! of 4 KiB and more are not copied at all, neither when they are encoded nor when they are decoded.
//!
//! For `Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>`, `Cow<[u8]>`, `&[u8]`, [`Bytes`], `[u8; N]`, and options of those.
//! Arguments and results of remote methods need no attribute at the top level: see [`adapt`](crate::adapt).
//!
//! ```
//! use bytes::Bytes;
//! use serde::{Deserialize, Serialize};
//! # mod farref { pub(crate) use farref_boxing::bytes; }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Chunk {
//!     at: u64,
//!     #[serde(with = "farref::bytes")]
//!     data: Bytes,
//!     #[serde(with = "farref::bytes")]
//!     checksum: Option<Vec<u8>>,
//! }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ::bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

use crate::encoder::SHARE_FROM;
use crate::reference;

/// Serialises bytes in one go. For `#[serde(with = "farref::bytes")]`.
///
/// # Errors
///
/// Those of the serialiser.
pub fn serialize<T: SerializeBytes + ?Sized, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.serialize_bytes(serializer)
}

/// Deserialises bytes in one go. For `#[serde(with = "farref::bytes")]`.
///
/// # Errors
///
/// Those of the deserialiser; or the type borrows, and the deserialiser has nothing to borrow from.
pub fn deserialize<'de, T: DeserializeBytes<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::deserialize_bytes(deserializer)
}

/// A type of bytes that can be written in one go.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type of bytes",
    note = "`farref::bytes` is for `Vec<u8>`, `Bytes`, `Box<[u8]>`, `Arc<[u8]>`, `Cow<[u8]>`, `&[u8]`, `[u8; N]` and options of those"
)]
pub trait SerializeBytes {
    /// Serialises the bytes.
    ///
    /// # Errors
    ///
    /// Those of the serialiser.
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// A type of bytes that can be read in one go.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type of bytes",
    note = "`farref::bytes` is for `Vec<u8>`, `Bytes`, `Box<[u8]>`, `Arc<[u8]>`, `Cow<[u8]>`, `&[u8]`, `[u8; N]` and options of those"
)]
pub trait DeserializeBytes<'de>: Sized {
    /// Deserialises the bytes.
    ///
    /// # Errors
    ///
    /// Those of the deserialiser.
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl SerializeBytes for [u8] {
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl SerializeBytes for Bytes {
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.len() >= SHARE_FROM {
            reference::offer(self);
        }
        serializer.serialize_bytes(self)
    }
}

impl<const N: usize> SerializeBytes for [u8; N] {
    /// As serde does: both sides know the length, so it is not written.
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in self {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<T: SerializeBytes> SerializeBytes for Option<T> {
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Inner<'a, T>(&'a T);
        impl<T: SerializeBytes> serde::Serialize for Inner<'_, T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize_bytes(serializer)
            }
        }
        match self {
            Some(value) => serializer.serialize_some(&Inner(value)),
            None => serializer.serialize_none(),
        }
    }
}

impl<T: SerializeBytes + ?Sized> SerializeBytes for &T {
    fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize_bytes(serializer)
    }
}

macro_rules! by_slice {
    ($($type:ty)*) => {$(
        impl SerializeBytes for $type {
            fn serialize_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self)
            }
        }
    )*};
}

by_slice! { Vec<u8> Box<[u8]> Arc<[u8]> Cow<'_, [u8]> }

impl<'de> DeserializeBytes<'de> for Cow<'de, [u8]> {
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

impl<'de> DeserializeBytes<'de> for &'de [u8] {
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Cow::deserialize_bytes(deserializer)? {
            Cow::Borrowed(bytes) => Ok(bytes),
            Cow::Owned(_) => Err(D::Error::custom(
                "these bytes cannot be borrowed from what is decoded",
            )),
        }
    }
}

impl<'de> DeserializeBytes<'de> for Bytes {
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Cow::deserialize_bytes(deserializer)? {
            Cow::Borrowed(bytes) => reference::share(bytes).unwrap_or_else(|| Self::copy_from_slice(bytes)),
            Cow::Owned(bytes) => bytes.into(),
        })
    }
}

impl<'de, const N: usize> DeserializeBytes<'de> for [u8; N] {
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(N, ArrayVisitor)
    }
}

impl<'de, T: DeserializeBytes<'de>> DeserializeBytes<'de> for Option<T> {
    fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inner<T>(T);
        impl<'de, T: DeserializeBytes<'de>> serde::Deserialize<'de> for Inner<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                T::deserialize_bytes(deserializer).map(Self)
            }
        }
        let inner: Option<Inner<T>> = serde::Deserialize::deserialize(deserializer)?;
        Ok(inner.map(|Inner(value)| value))
    }
}

macro_rules! by_cow {
    ($($type:ty)*) => {$(
        impl<'de> DeserializeBytes<'de> for $type {
            fn deserialize_bytes<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::deserialize_bytes(deserializer).map(|bytes| bytes.into_owned().into())
            }
        }
    )*};
}

by_cow! { Vec<u8> Box<[u8]> Arc<[u8]> }

/// Bytes in one go, borrowed if they can be; or a sequence of integers, which some other formats have instead.
struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::with_capacity(elements.size_hint().unwrap_or(0).min(SHARE_FROM));
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(Cow::Owned(bytes))
    }
}

/// As many bytes as the type says.
struct ArrayVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for ArrayVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[u8; N], A::Error> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = elements
                .next_element()?
                .ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(bytes)
    }
}
