//! Objects from and to netrefs and values, and as a part of messages.

use farref_boxing::{Result, ShapeType, Shaped, Shapes, Value, ValueError, from_value, lend, slot};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Object;
use crate::hosted::Handle;
use crate::interface::RemoteTrait;
use crate::netref::{Netref, OUTSIDE};

impl<T: ?Sized + RemoteTrait> From<&Netref<T>> for Object {
    fn from(netref: &Netref<T>) -> Self {
        netref.dynamic()
    }
}

impl<T: ?Sized + RemoteTrait> From<Netref<T>> for Object {
    fn from(netref: Netref<T>) -> Self {
        netref.dynamic()
    }
}

impl<T: ?Sized + RemoteTrait> From<Netref<T>> for Value {
    fn from(netref: Netref<T>) -> Self {
        netref.dynamic().into()
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Reference(object.handle().into_reference())
    }
}

/// The object that a value refers to.
impl TryFrom<&Value> for Object {
    type Error = ValueError;

    fn try_from(value: &Value) -> Result<Self, ValueError> {
        from_value(value)
    }
}

impl TryFrom<Value> for Object {
    type Error = ValueError;

    fn try_from(value: Value) -> Result<Self, ValueError> {
        from_value(&value)
    }
}

impl Serialize for Object {
    /// Puts the reference into the table of the message that is being boxed.
    ///
    /// # Errors
    ///
    /// No message is being boxed: an object cannot be written to a file.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match lend(self.handle().into_reference()) {
            Some(slot) => serializer.serialize_u32(slot),
            None => Err(S::Error::custom(OUTSIDE)),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    /// Takes the reference out of the table of the message that is being unboxed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let reference = slot(index).map_err(D::Error::custom)?;
        let handle = Handle::of(&reference).ok_or_else(|| D::Error::custom("a reference of another kind"))?;
        Self::of_handle(handle).map_err(D::Error::custom)
    }
}

impl Shaped for Object {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        ShapeType::REFERENCE
    }
}
