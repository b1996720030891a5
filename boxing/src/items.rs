//! Many values of one type in one body: encoded one behind the other, decoded a few at a time.

use std::collections::VecDeque;
use std::fmt;

use ::bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decoder::decode_some;
use crate::limits::DecodeLimits;
use crate::reference::{self, Reference, lend, slot};
use crate::shape::decode_some_by_shape;
use crate::sink::Sink;
use crate::{CodecError, Shape};

/// Encodes values one behind the other, until they are taken as [`Items`].
pub struct ItemsWriter {
    sink: Sink,
    references: Vec<Reference>,
    count: u64,
}

/// Encoded values of one type, and the references in them.
///
/// It is a value itself: it crosses as their number, their bytes in one piece, and the slots of their references
/// (PROTOCOL.md § 12.3). So whoever passes it on need not know their type.
#[derive(Clone, Default)]
pub struct Items {
    bytes: Bytes,
    references: Vec<Reference>,
    count: u64,
}

impl ItemsWriter {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sink: Sink::new(false),
            references: Vec::new(),
            count: 0,
        }
    }

    /// Adds a value.
    ///
    /// # Errors
    ///
    /// The value refuses, or has a sequence of unknown length. Nothing of it is kept, neither bytes nor references.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let (bytes, references) = (self.len(), self.references.len());
        let scope = reference::boxing(std::mem::take(&mut self.references));
        let result = value.serialize(&mut self.sink);
        self.references = scope.finish();
        if result.is_ok() {
            self.count = self.count.saturating_add(1);
        } else {
            self.sink.scratch.truncate(bytes);
            self.references.truncate(references);
        }
        Ok(result?)
    }

    /// The bytes of the values so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sink.scratch.len()
    }

    /// How many values there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes what there is, and begins anew.
    pub fn take(&mut self) -> Items {
        let Self {
            sink,
            references,
            count,
        } = std::mem::take(self);
        Items {
            bytes: sink.scratch.into(),
            references,
            count,
        }
    }
}

impl Default for ItemsWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl Items {
    /// No values.
    pub const NONE: Self = Self {
        bytes: Bytes::new(),
        references: Vec::new(),
        count: 0,
    };

    /// How many values are left.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the values that are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no value is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Decodes at most `many` of the values that are left, and puts them behind those in `out`. Together they
    /// may unfold as far as `limits` say.
    ///
    /// # Errors
    ///
    /// The bytes are not those of a `T`, or there are more of them than values. Those before stay in `out`, and nothing is left.
    pub fn read<T: DeserializeOwned>(
        &mut self,
        many: u64,
        limits: &DecodeLimits,
        out: &mut VecDeque<T>,
    ) -> Result<(), CodecError> {
        self.read_with(many, |items, many| {
            decode_some(&items.bytes, &items.references, limits, many, out)
        })
    }

    /// The same with values whose bytes are of `shape`, as `T`, which may be of another; see
    /// [`decode_by_shape`](crate::decode_by_shape).
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); the shape is not sound; or the type cannot take what the shape has.
    pub fn read_by_shape<T: DeserializeOwned>(
        &mut self,
        many: u64,
        shape: &Shape,
        limits: &DecodeLimits,
        out: &mut VecDeque<T>,
    ) -> Result<(), CodecError> {
        self.read_with(many, |items, many| {
            decode_some_by_shape(&items.bytes, &items.references, shape, limits, many, out)
        })
    }

    /// Takes those away that `read` has read, which says where the next one begins.
    fn read_with(
        &mut self,
        many: u64,
        read: impl FnOnce(&Self, u64) -> Result<usize, CodecError>,
    ) -> Result<(), CodecError> {
        let many = many.min(self.count);
        let read = read(self, many).and_then(|at| {
            let rest = self.bytes.split_off(at);
            match (self.count.saturating_sub(many), rest.len()) {
                (0, bytes) if bytes > 0 => Err(CodecError::Trailing { bytes: bytes as u64 }),
                (left, _) => {
                    self.bytes = rest;
                    self.count = left;
                    Ok(())
                }
            }
        });
        if read.is_err() || self.count == 0 {
            *self = Self::default();
        }
        read
    }
}

/// As it crosses.
#[derive(Serialize, Deserialize)]
struct Crossing {
    count: u64,
    #[serde(with = "crate::bytes")]
    bytes: Bytes,
    slots: Vec<u32>,
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let slots = self.references.iter().map(|reference| lend(reference.clone()));
        let slots = slots.collect::<Option<Vec<u32>>>();
        let outside = "references can only be serialised as a part of a call or its result";
        let slots = slots.ok_or_else(|| serde::ser::Error::custom(outside))?;
        let crossing = Crossing {
            count: self.count,
            bytes: self.bytes.clone(),
            slots,
        };
        crossing.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Crossing { count, bytes, slots } = Crossing::deserialize(deserializer)?;
        // A value without bytes is worth as much as one with: see `DecodeLimits::zero_sized`.
        let most = (bytes.len() as u64).saturating_add(DecodeLimits::default().zero_sized);
        if count > most {
            return Err(D::Error::custom(CodecError::TooManyItems { announced: count }));
        }
        let references = slots.into_iter().map(slot).collect::<Result<Vec<_>, _>>();
        let references = references.map_err(D::Error::custom)?;
        Ok(Self {
            bytes,
            references,
            count,
        })
    }
}

impl fmt::Debug for ItemsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemsWriter")
            .field("count", &self.count)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("count", &self.count)
            .field("len", &self.bytes.len())
            .field("references", &self.references.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{As, Blob, Encoder, decode};

    fn limits() -> DecodeLimits {
        DecodeLimits::default()
    }

    #[test]
    fn items_come_back_a_few_at_a_time() {
        let mut writer = ItemsWriter::new();
        for number in 0..10_u32 {
            writer.push(&(number, "text")).unwrap();
        }
        let mut items = writer.take();
        assert!(writer.is_empty());
        let mut out = VecDeque::new();
        items.read::<(u32, String)>(3, &limits(), &mut out).unwrap();
        assert_eq!((out.len(), items.count()), (3, 7));
        items
            .read::<(u32, String)>(u64::MAX, &limits(), &mut out)
            .unwrap();
        assert!(items.is_empty());
        assert!(out.iter().map(|(number, _)| *number).eq(0..10));
    }

    #[test]
    fn a_value_that_refuses_leaves_nothing_behind() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                lend(Arc::new(0)).unwrap();
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut writer = ItemsWriter::new();
        writer.push(&7_u8).unwrap();
        assert!(writer.push(&(1_u64 << 40, Refuses)).is_err());
        writer.push(&8_u8).unwrap();
        let (mut items, mut out) = (writer.take(), VecDeque::new());
        assert!(items.references.is_empty());
        items.read::<u8>(9, &limits(), &mut out).unwrap();
        assert_eq!(out, [7, 8]);
    }

    #[test]
    fn long_bytes_are_where_they_belong_among_what_is_written_before_and_behind_them() {
        let long = Bytes::from(vec![9; crate::SHARE_FROM]);
        let mut writer = ItemsWriter::new();
        writer.push(&1_u8).unwrap();
        writer.push(&As::<Blob, _>::new(&long)).unwrap();
        writer.push(&2_u8).unwrap();
        assert_eq!(writer.take().bytes, [&[1, 251, 0, 16][..], &long, &[2]].concat());
    }

    #[test]
    fn a_table_that_is_made_late_is_that_of_its_own_value() {
        /// Encodes something else first, within an encoding, and lends then.
        struct Nested(Reference, bool);
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut inner = ItemsWriter::new();
                inner.push(&1_u8).unwrap();
                if self.1 {
                    inner.push(&Nested(Arc::new(0), false)).unwrap();
                    assert_eq!(inner.references.len(), 1);
                }
                crate::Encoder::new().encode(&2_u8).unwrap();
                lend(Arc::clone(&self.0)).unwrap().serialize(serializer)
            }
        }
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("no");
            }
        }
        let mut writer = ItemsWriter::new();
        writer.push(&7_u8).unwrap();
        let panicked = std::panic::AssertUnwindSafe(|| ItemsWriter::new().push(&Panics));
        assert!(std::panic::catch_unwind(panicked).is_err());
        let outer: Reference = Arc::new(5_i32);
        writer.push(&Nested(Arc::clone(&outer), true)).unwrap();
        writer.push(&Nested(outer, true)).unwrap();
        let items = writer.take();
        assert_eq!((&items.bytes[..], items.references.len()), (&[7, 0, 1][..], 2));
        assert_eq!(items.references[0].downcast_ref(), Some(&5_i32));
        assert!(lend(Arc::new(0)).is_none(), "no message is at hand any more");
    }

    #[test]
    fn items_cross_with_their_references() {
        #[derive(Debug)]
        struct Lent(Reference);
        impl Serialize for Lent {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                lend(Arc::clone(&self.0)).unwrap().serialize(serializer)
            }
        }
        impl<'de> Deserialize<'de> for Lent {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self(slot(u32::deserialize(deserializer)?).unwrap()))
            }
        }
        let mut writer = ItemsWriter::new();
        for number in 0..300_i32 {
            writer.push(&(number, Lent(Arc::new(number)))).unwrap();
        }
        let before: Reference = Arc::new(-1_i32);
        let mut encoder = Encoder::new();
        encoder.encode(&(Lent(before), writer.take())).unwrap();
        let references: Vec<Reference> = encoder.take_references().collect();
        let body = encoder.body().to_bytes();
        let (first, mut items): (Lent, Items) = decode(&body, &references, &limits()).unwrap();
        assert_eq!(first.0.downcast_ref(), Some(&-1_i32));
        let mut out = VecDeque::<(i32, Lent)>::new();
        while !items.is_empty() {
            items.read(7, &limits(), &mut out).unwrap();
        }
        assert_eq!(out.len(), 300);
        for (number, lent) in out {
            assert_eq!(lent.0.downcast_ref(), Some(&number));
        }
    }

    #[test]
    fn items_are_read_by_the_shape_of_their_writer() {
        let mut writer = ItemsWriter::new();
        for number in 0..10_u8 {
            writer.push(&(number, Some("text"))).unwrap();
        }
        let shape = Shape::of::<(u8, Option<String>)>().unwrap();
        let (mut items, mut out) = (writer.take(), VecDeque::new());
        while !items.is_empty() {
            items
                .read_by_shape::<(u64, Option<Option<String>>)>(3, &shape, &limits(), &mut out)
                .unwrap();
        }
        assert!(out.iter().map(|(number, _)| *number).eq(0..10));
        writer.push(&(1_u8, Some("text"))).unwrap();
        let mut items = writer.take();
        let mut out = VecDeque::<(String, String)>::new();
        assert!(items.read_by_shape(1, &shape, &limits(), &mut out).is_err());
        assert!(items.is_empty());
    }

    #[test]
    fn what_a_peer_claims_is_checked() {
        let decoded = |bytes: &[u8]| decode::<Items>(&Bytes::copy_from_slice(bytes), &[], &limits());
        // Very many values without a byte.
        assert!(decoded(&[253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]).is_err());
        // A slot that there is not.
        assert!(decoded(&[1, 1, 5, 1, 0]).is_err());
        let mut out = VecDeque::new();
        // Bytes behind the last value.
        let error = decoded(&[1, 2, 5, 6, 0])
            .unwrap()
            .read::<u8>(9, &limits(), &mut out);
        assert_eq!(error, Err(CodecError::Trailing { bytes: 1 }));
        // Fewer values than said.
        let mut items = decoded(&[2, 1, 5, 0]).unwrap();
        assert!(items.read::<u8>(9, &limits(), &mut out).is_err());
        assert!(items.is_empty());
    }
}
