//! One value of any type, for interfaces that do not know which, and what that type looks like (PROTOCOL.md § 14.1).

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind, Items, ItemsWriter, Result, Shape};
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::lock::lock;
use crate::references;
use crate::shapes::{self, Known};
use crate::stream::Item;

/// A value that was encoded, with the references in it. Whoever passes it on need not know its type.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// The fingerprint of its type; 0 says nothing.
    shape: u32,
    /// What that looks like, as a shape is on the wire; nothing if whoever reads it has been told, or asks.
    #[serde(with = "farref_boxing::bytes")]
    description: Bytes,
    value: Items,
}

impl Parcel {
    /// For whoever can ask what it looks like.
    pub(crate) fn pack<T: Item>(value: &T) -> Result<Self> {
        Self::of(shapes::of_items::<T>().fingerprint, value)
    }

    /// For whoever has the same type anyway.
    pub(crate) fn pack_plain(value: &impl Serialize) -> Result<Self> {
        Self::of(0, value)
    }

    fn of(shape: u32, value: &impl Serialize) -> Result<Self> {
        let mut writer = ItemsWriter::new();
        writer.push(value)?;
        Ok(Self {
            shape,
            description: Bytes::new(),
            value: writer.take(),
        })
    }

    /// What was packed plainly.
    pub(crate) fn unpack_plain<T: Item>(self) -> Result<T> {
        self.read(None)
    }

    fn read<T: Item>(mut self, by: Option<&Shape>) -> Result<T> {
        let mut values = VecDeque::new();
        if self.value.count() == 1 {
            let limits = references::limits();
            match by {
                Some(by) => self.value.read_by_shape(1, by, &limits, &mut values)?,
                None => self.value.read(1, &limits, &mut values)?,
            }
        }
        let none = || {
            Error::new(
                ErrorKind::Malformed,
                "one value was expected, and another number came",
            )
        };
        values.pop_front().ok_or_else(none)
    }
}

/// Packs values for an object elsewhere, and tells it what they look like until it is known to have heard.
///
/// So it need not ask back, and values stay in the order in which they were sent.
pub(crate) struct Packer<T> {
    /// Asked when it is needed: a type may hold the end of a channel of itself.
    known: OnceLock<Arc<Known>>,
    has_told: AtomicBool,
    of: PhantomData<fn(T)>,
}

impl<T: Item> Packer<T> {
    pub(crate) const fn new() -> Self {
        Self {
            known: OnceLock::new(),
            has_told: AtomicBool::new(false),
            of: PhantomData,
        }
    }

    pub(crate) fn pack(&self, value: &T) -> Result<Parcel> {
        let known = self.known.get_or_init(shapes::of_items::<T>);
        let mut parcel = Parcel::of(known.fingerprint, value)?;
        if !self.has_told.load(Ordering::Relaxed) {
            parcel.description = known.description();
        }
        Ok(parcel)
    }

    /// Something that was packed has been read.
    pub(crate) fn was_read(&self) {
        self.has_told.store(true, Ordering::Relaxed);
    }
}

impl<T> Clone for Packer<T> {
    fn clone(&self) -> Self {
        Self {
            known: self.known.clone(),
            has_told: AtomicBool::new(self.has_told.load(Ordering::Relaxed)),
            of: PhantomData,
        }
    }
}

/// Unpacks values, which whoever packed them may have had in other types.
///
/// # Invariant
///
/// `writers` has at most [`MOST`] types. A fingerprint stays with the shape that it was told with first: what one peer
/// tells decides nothing for another.
pub(crate) struct Unpacker<T> {
    /// What it unpacks, for people.
    what: &'static str,
    own: OnceLock<Arc<Known>>,
    writers: Mutex<Vec<Writer>>,
    of: PhantomData<fn() -> T>,
}

struct Writer {
    fingerprint: u32,
    shape: Arc<Shape>,
    /// How it is read here.
    by: Arc<Shape>,
}

/// So many types of writers are known to one object.
const MOST: usize = 16;

impl<T: Item> Unpacker<T> {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self {
            what,
            own: OnceLock::new(),
            writers: Mutex::new(Vec::new()),
            of: PhantomData,
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// It cannot be read, or nobody has told what it looks like.
    pub(crate) fn unpack(&self, parcel: Parcel) -> Result<T> {
        let by = self.by(parcel.shape, &parcel.description)?;
        parcel.read(by.as_deref())
    }

    /// The value; whoever packed it is asked what it looks like if that is not known.
    ///
    /// # Errors
    ///
    /// It cannot be read, or who packed it is out of reach.
    pub(crate) async fn unpack_asking(
        &self,
        mut parcel: Parcel,
        ask: impl FnOnce() -> Call<Result<Bytes>>,
    ) -> Result<T> {
        if self.lacks(parcel.shape) {
            parcel.description = told(ask().await)?;
        }
        self.unpack(parcel)
    }

    /// Whether it has to be told what the type with this fingerprint looks like.
    pub(crate) fn lacks(&self, fingerprint: u32) -> bool {
        !self.is_own(fingerprint)
            && lock(&self.writers)
                .iter()
                .all(|known| known.fingerprint != fingerprint)
    }

    fn own(&self) -> &Known {
        self.own.get_or_init(shapes::of_items::<T>)
    }

    fn is_own(&self, fingerprint: u32) -> bool {
        fingerprint == 0 || fingerprint == self.own().fingerprint
    }

    /// How values of the type with this fingerprint, which looks as described, are read, if not as they are.
    ///
    /// # Errors
    ///
    /// They cannot be; or nobody has told how.
    pub(crate) fn by(&self, fingerprint: u32, description: &Bytes) -> Result<Option<Arc<Shape>>> {
        if self.is_own(fingerprint) {
            return Ok(None);
        }
        let told = match description.is_empty() {
            true => None,
            false => Some(shapes::of_writer(description.clone())?),
        };
        if told
            .as_ref()
            .is_some_and(|told| told.fingerprint() != fingerprint)
        {
            return Err(other_shape());
        }
        let known = {
            let writers = lock(&self.writers);
            let known = writers.iter().find(|known| known.fingerprint == fingerprint);
            known.map(|known| (Arc::clone(&known.shape), Arc::clone(&known.by)))
        };
        let written = || format!("`{}`", shapes::name_of::<T>());
        match (known, told) {
            (Some((known, _)), Some(told)) if known != told => Err(other_shape()),
            (Some((_, by)), _) => Ok(Some(by)),
            (None, None) => Err(self.own().mismatch(fingerprint, self.what, &written())),
            (None, Some(shape)) => {
                let by = self.own().reads(&shape, self.what, &written())?;
                self.remember(Writer {
                    fingerprint,
                    shape,
                    by: Arc::clone(&by),
                })?;
                Ok(Some(by))
            }
        }
    }

    fn remember(&self, writer: Writer) -> Result<()> {
        let mut writers = lock(&self.writers);
        if writers.len() >= MOST {
            let text = format!("{} was told in {MOST} types already", self.what);
            return Err(Error::new(ErrorKind::Limit, text));
        }
        if writers
            .iter()
            .all(|known| known.fingerprint != writer.fingerprint)
        {
            writers.push(writer);
        }
        Ok(())
    }
}

/// What an object says that its values look like: nothing if it is older and cannot be asked.
pub(crate) fn told(answer: Result<Bytes>) -> Result<Bytes> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(Bytes::new()),
        answer => answer,
    }
}

fn other_shape() -> Error {
    Error::new(
        ErrorKind::Malformed,
        "what a type looks like is told with the fingerprint of another",
    )
}

#[cfg(test)]
mod tests {
    use farref_boxing::{DecodeLimits, Encoder, ShapeFields, decode};
    use serde::Deserializer;

    use super::*;

    fn bytes(parcel: &Parcel) -> Bytes {
        let mut encoder = Encoder::new();
        encoder.encode(parcel).unwrap();
        encoder.body().to_bytes()
    }

    fn crossed(parcel: &Parcel) -> Parcel {
        decode(&bytes(parcel), &[], &DecodeLimits::default()).unwrap()
    }

    #[test]
    fn a_value_is_these_bytes() {
        let shape = Shape::told_by::<u16>().fingerprint().to_le_bytes();
        let packer = Packer::<u16>::new();
        // Its fingerprint; what it looks like, in two bytes; one item of one byte, and no slots.
        let described = [&[0xfc][..], &shape, &[2, 2, 0], &[1, 1, 7, 0]].concat();
        assert_eq!(bytes(&packer.pack(&7).unwrap()), described);
        assert_eq!(bytes(&packer.pack(&7).unwrap()), described);
        packer.was_read();
        let named = [&[0xfc][..], &shape, &[0], &[1, 1, 7, 0]].concat();
        assert_eq!(bytes(&packer.pack(&7).unwrap()), named);
        assert_eq!(bytes(&Parcel::pack(&7_u16).unwrap()), named);
        assert_eq!(
            bytes(&Parcel::pack_plain(&7_u16).unwrap()),
            &[0, 0, 1, 1, 7, 0][..]
        );
    }

    #[test]
    fn what_was_described_once_is_known() {
        let unpacker = Unpacker::<Option<u64>>::new("it");
        let packer = Packer::<u8>::new();
        let first = crossed(&packer.pack(&7).unwrap());
        assert!(unpacker.lacks(first.shape));
        packer.was_read();
        let second = crossed(&packer.pack(&8).unwrap());
        // The second comes first.
        let early = unpacker.unpack(crossed(&second)).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::SchemaMismatch);
        assert!(
            early.message().contains("which the peer does not tell"),
            "{early}"
        );
        assert_eq!(unpacker.unpack(first).unwrap(), Some(7));
        assert!(!unpacker.lacks(second.shape));
        assert_eq!(unpacker.unpack(second).unwrap(), Some(8));
        let error = unpacker.unpack(Packer::new().pack(&String::new()).unwrap());
        assert_eq!(
            error.unwrap_err().message(),
            "it is no `Option<u64>` on this side: `String` cannot be read as `Option<u64>`"
        );
    }

    #[test]
    fn a_fingerprint_stays_with_the_shape_that_it_came_with() {
        let unpacker = Unpacker::<u64>::new("it");
        let mut other = Packer::<u8>::new().pack(&7).unwrap();
        other.description = Packer::<u16>::new().pack(&7).unwrap().description;
        assert_eq!(unpacker.unpack(other).unwrap_err().kind(), ErrorKind::Malformed);
        // Two with one fingerprint are not found in passing: one is put there.
        let honest = Packer::<u8>::new().pack(&7).unwrap();
        let shape = Arc::new(Shape::told_by::<u16>());
        unpacker
            .remember(Writer {
                fingerprint: honest.shape,
                shape: Arc::clone(&shape),
                by: shape,
            })
            .unwrap();
        assert_eq!(unpacker.unpack(honest).unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn so_many_types_are_known_and_no_more() {
        struct Numbered;
        let unpacker = Unpacker::<()>::new("it");
        let shapes = (0..=MOST).map(|number| {
            Shape::tell(None, |shapes| {
                let name = format!("N{number}");
                Some(shapes.structure::<Numbered>(&name, |_| ShapeFields::UNIT))
            })
        });
        for (index, shape) in shapes.flatten().enumerate() {
            let read = unpacker.by(shape.fingerprint(), &shapes::encode(&shape).unwrap());
            match index < MOST {
                true => assert!(read.unwrap().is_some()),
                false => assert_eq!(read.unwrap_err().kind(), ErrorKind::Limit),
            }
        }
    }

    /// It does not tell what it looks like.
    #[derive(Debug, PartialEq, Serialize)]
    struct Silent(u8);

    impl<'de> Deserialize<'de> for Silent {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            match u8::deserialize(deserializer)? {
                7 => Ok(Self(7)),
                _ => Err(serde::de::Error::custom("not 7")),
            }
        }
    }

    #[test]
    fn what_does_not_tell_is_equal_by_its_name() {
        let parcel = || crossed(&Packer::new().pack(&Silent(7)).unwrap());
        assert_eq!(Unpacker::<Silent>::new("it").unpack(parcel()).unwrap(), Silent(7));
        let error = Unpacker::<u8>::new("it").unpack(parcel()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        let error = Unpacker::<Silent>::new("it").unpack(Packer::new().pack(&7_u8).unwrap());
        assert_eq!(
            error.unwrap_err().message(),
            "it is `u8`, and no `Silent` on this side"
        );
    }
}
