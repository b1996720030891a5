//! One value of any type, for interfaces that do not know which.

use std::collections::VecDeque;

use farref_boxing::{Error, ErrorKind, Items, ItemsWriter, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::references;

/// A value that was encoded, with the references in it. Whoever passes it on need not know its type.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Parcel(Items);

impl Parcel {
    pub(crate) fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let mut writer = ItemsWriter::new();
        writer.push(value)?;
        Ok(Self(writer.take()))
    }

    pub(crate) fn unpack<T: DeserializeOwned>(mut self) -> Result<T> {
        let mut values = VecDeque::new();
        if self.0.count() == 1 {
            self.0.read(1, &references::limits(), &mut values)?;
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
