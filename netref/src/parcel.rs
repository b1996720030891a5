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
