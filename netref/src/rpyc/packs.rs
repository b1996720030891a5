//! How objects are known by on the wire: three parts, of which one names a class.

use bytes::BytesMut;
use farref_boxing::rpyc::{self as brine, Brine};

use super::wire;

/// What an object is known by. Only equality counts, and that an instance is none where the object is a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pack {
    /// Module and class.
    pub(super) name: Box<str>,
    pub(super) class: i128,
    pub(super) instance: i128,
}

impl Pack {
    /// The parts as they came.
    pub(super) fn read(brine: Brine) -> Option<Self> {
        match wire::tuple(brine)?.as_slice() {
            [name, class, instance] => Some(Self {
                name: wire::text(name)?.into(),
                class: wire::int(class)?,
                instance: wire::int(instance)?,
            }),
            _ => None,
        }
    }

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
