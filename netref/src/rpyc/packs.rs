//! How objects are known by on the wire: three parts, of which one names a class.

use bytes::BytesMut;
use farref_boxing::rpyc::{self as brine, BrineError, Reader};

/// What an object is known by. Only equality counts, and that an instance is none where the object is a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pack {
    /// Module and class.
    pub(super) name: Box<str>,
    pub(super) class: i128,
    pub(super) instance: i128,
}

/// What an object is known by, as it stands in a message or elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackRef<'a> {
    pub(super) name: &'a str,
    pub(super) class: i128,
    pub(super) instance: i128,
}

impl<'a> PackRef<'a> {
    /// The parts as they came.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, BrineError> {
        reader.tuple_of(3)?;
        Ok(Self {
            name: reader.name()?,
            class: reader.int()?,
            instance: reader.int()?,
        })
    }

    pub(super) fn to_pack(self) -> Pack {
        Pack {
            name: self.name.into(),
            class: self.class,
            instance: self.instance,
        }
    }
}

impl Pack {
    pub(super) fn put(&self, out: &mut BytesMut) {
        put(&self.name, self.class, self.instance, out);
    }
}

pub(super) fn put(name: &str, class: i128, instance: i128, out: &mut BytesMut) {
    brine::put_tuple(3, out);
    brine::put_str(name, out);
    brine::put_int(class, out);
    brine::put_int(instance, out);
}
