//! How the macro sends bytes at full speed without an attribute: adapters chosen by the look of a type.
//!
//! Where a `Vec<u8>` is written out at the top level of an argument or result, or inside an `Option`, a `Result`,
//! a `Vec` or a tuple there, the macro names an adapter of the same form: [`Blob`] in the place of the bytes,
//! [`Plain`] for everything else.
//!
//! | type                              | adapter                  |
//! |-----------------------------------|--------------------------|
//! | `Vec<u8>`, `Bytes`, `&[u8]`, ...  | [`Blob`]                 |
//! | `Option<X>`                       | [`Maybe`]`<A>`           |
//! | `Result<X, Y>`                    | [`Outcome`]`<A, B>`      |
//! | `Vec<X>`                          | [`Each`]`<A>`            |
//! | `(X, Y, ..)`, up to 16            | `(A, B, ..)`             |
//! | any other                         | [`Plain`]                |
//!
//! An adapter changes how fast a value is written and read, never its bytes: each goes through serde's own
//! implementation for the type of that form.
//!
//! ```
//! use bytes::Bytes;
//! use farref_boxing::{As, Blob, DecodeLimits, Encoder, FromAs, Maybe, Plain, decode};
//!
//! type Value = (Option<Vec<u8>>, u32);
//! type Adapter = (Maybe<Blob>, Plain);
//!
//! let value: Value = (Some(vec![1, 2, 3]), 7);
//! let mut encoder = Encoder::new();
//! encoder.encode(&As::<Adapter, _>::new(&value))?;
//! let body = encoder.body().to_bytes();
//! let again: FromAs<Adapter, Value> = decode(&body, &[], &DecodeLimits::default())?;
//! assert_eq!(again.into_inner(), value);
//! # Ok::<(), farref_boxing::CodecError>(())
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes::{DeserializeBytes, SerializeBytes};

/// An adapter that can write a `T`.
pub trait SerializeAs<T: ?Sized> {
    /// Serialises `value`.
    ///
    /// # Errors
    ///
    /// Those of the serialiser and of the value.
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;
}

/// An adapter that can read a `T`.
pub trait DeserializeAs<'de, T>: Sized {
    /// Deserialises a value.
    ///
    /// # Errors
    ///
    /// Those of the deserialiser and of the value.
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>;
}

/// A borrowed value that is serialised through the adapter `A`.
pub struct As<'a, A, T: ?Sized> {
    value: &'a T,
    adapter: PhantomData<fn() -> A>,
}

impl<'a, A, T: ?Sized> As<'a, A, T> {
    /// Wraps `value`.
    #[must_use]
    pub const fn new(value: &'a T) -> Self {
        Self {
            value,
            adapter: PhantomData,
        }
    }
}

impl<A: SerializeAs<T>, T: ?Sized> Serialize for As<'_, A, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        A::serialize_as(self.value, serializer)
    }
}

impl<A, T: fmt::Debug + ?Sized> fmt::Debug for As<'_, A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("As").field(&self.value).finish()
    }
}

/// A value that was deserialised through the adapter `A`.
pub struct FromAs<A, T> {
    value: T,
    adapter: PhantomData<fn() -> A>,
}

impl<A, T> FromAs<A, T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<'de, A: DeserializeAs<'de, T>, T> Deserialize<'de> for FromAs<A, T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            value: A::deserialize_as(deserializer)?,
            adapter: PhantomData,
        })
    }
}

impl<A, T: fmt::Debug> fmt::Debug for FromAs<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromAs").field(&self.value).finish()
    }
}

/// As serde does it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Plain;

impl<T: Serialize + ?Sized> SerializeAs<T> for Plain {
    #[inline]
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeAs<'de, T> for Plain {
    #[inline]
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// Bytes, in one go: see [`mod@crate::bytes`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Blob;

impl<T: SerializeBytes + ?Sized> SerializeAs<T> for Blob {
    #[inline]
    fn serialize_as<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize_bytes(serializer)
    }
}

impl<'de, T: DeserializeBytes<'de>> DeserializeAs<'de, T> for Blob {
    #[inline]
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize_bytes(deserializer)
    }
}

/// An `Option` of what `A` adapts.
#[derive(Debug)]
pub struct Maybe<A>(PhantomData<fn() -> A>);

impl<A: SerializeAs<T>, T> SerializeAs<Option<T>> for Maybe<A> {
    fn serialize_as<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&As::<A, T>::new(value)),
            None => serializer.serialize_none(),
        }
    }
}

impl<'de, A: DeserializeAs<'de, T>, T> DeserializeAs<'de, Option<T>> for Maybe<A> {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Option::<FromAs<A, T>>::deserialize(deserializer).map(|value| value.map(FromAs::into_inner))
    }
}

/// A `Result` of what `A` and `B` adapt.
#[derive(Debug)]
pub struct Outcome<A, B>(PhantomData<fn() -> (A, B)>);

impl<A: SerializeAs<T>, B: SerializeAs<E>, T, E> SerializeAs<Result<T, E>> for Outcome<A, B> {
    fn serialize_as<S: Serializer>(value: &Result<T, E>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Ok(value) => Ok::<_, ()>(As::<A, T>::new(value)).serialize(serializer),
            Err(error) => Err::<(), _>(As::<B, E>::new(error)).serialize(serializer),
        }
    }
}

impl<'de, A, B, T, E> DeserializeAs<'de, Result<T, E>> for Outcome<A, B>
where
    A: DeserializeAs<'de, T>,
    B: DeserializeAs<'de, E>,
{
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<Result<T, E>, D::Error> {
        let result = Result::<FromAs<A, T>, FromAs<B, E>>::deserialize(deserializer)?;
        Ok(result.map(FromAs::into_inner).map_err(FromAs::into_inner))
    }
}

/// A `Vec` of what `A` adapts.
#[derive(Debug)]
pub struct Each<A>(PhantomData<fn() -> A>);

impl<A: SerializeAs<T>, T> SerializeAs<Vec<T>> for Each<A> {
    fn serialize_as<S: Serializer>(value: &Vec<T>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(As::<A, T>::new))
    }
}

impl<'de, A: DeserializeAs<'de, T>, T> DeserializeAs<'de, Vec<T>> for Each<A> {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        let values = Vec::<FromAs<A, T>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(FromAs::into_inner).collect())
    }
}

macro_rules! tuples {
    ($(($($adapter:ident $type:ident $index:tt)+))*) => {$(
        impl<$($adapter: SerializeAs<$type>, $type),+> SerializeAs<($($type,)+)> for ($($adapter,)+) {
            fn serialize_as<S: Serializer>(value: &($($type,)+), serializer: S) -> Result<S::Ok, S::Error> {
                ($(As::<$adapter, $type>::new(&value.$index),)+).serialize(serializer)
            }
        }

        impl<'de, $($adapter: DeserializeAs<'de, $type>, $type),+> DeserializeAs<'de, ($($type,)+)>
            for ($($adapter,)+)
        {
            fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<($($type,)+), D::Error> {
                let tuple = <($(FromAs<$adapter, $type>,)+)>::deserialize(deserializer)?;
                Ok(($(tuple.$index.into_inner(),)+))
            }
        }
    )*};
}

tuples! {
    (A0 T0 0)
    (A0 T0 0 A1 T1 1)
    (A0 T0 0 A1 T1 1 A2 T2 2)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10 A11 T11 11)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10 A11 T11 11 A12 T12 12)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10 A11 T11 11 A12 T12 12 A13 T13 13)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10 A11 T11 11 A12 T12 12 A13 T13 13 A14 T14 14)
    (A0 T0 0 A1 T1 1 A2 T2 2 A3 T3 3 A4 T4 4 A5 T5 5 A6 T6 6 A7 T7 7 A8 T8 8 A9 T9 9 A10 T10 10 A11 T11 11 A12 T12 12 A13 T13 13 A14 T14 14 A15 T15 15)
}
