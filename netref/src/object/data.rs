//! A value that stays here, and is looked at from afar piece by piece.

use farref_boxing::{Error, ErrorKind, Result, Value};

use super::asked::{self, Asked};
use crate::netref::Netref;
use crate::remote;

/// Data that is kept where it is: its elements, and the whole, can be asked for.
#[remote(name = "farref.Data")]
pub(crate) trait Data {}

impl Data for Value {
    fn __manner(&self, asked: &Asked<'_>) -> Option<Result<Self>> {
        match asked {
            Asked::Text => asked::text(self),
            Asked::Hash => asked::hash(self),
            Asked::Copy => Some(Ok(self.clone())),
            Asked::Equal(other) => match other.by_value() {
                Some(value) => Some(Ok((self == value).into())),
                None => asked::equal(self, other),
            },
            Asked::Len => asked::len(self.len()),
            Asked::Index(key) => Some(element(self, key)),
            Asked::Iterate(batch) => match self {
                Self::List(values) | Self::Tuple(values) => asked::iterate(values, batch),
                Self::Map(entries) => asked::iterate(entries, batch),
                Self::Record(record) => asked::iterate(record.iter(), batch),
                _ => None,
            },
            Asked::Operations(known) => {
                let held: &[&str] = match self {
                    Self::List(_) | Self::Tuple(_) | Self::Map(_) | Self::Record(_) => {
                        &["len", "index", "iter"]
                    }
                    _ => &[],
                };
                known.add(&["str", "eq", "hash", "copy"]);
                known.add(held)
            }
        }
    }
}

pub(super) fn share(value: Value) -> Netref<dyn Data> {
    Netref::of(value)
}

/// The element of a list by its place, of a map by its key, of a record by either.
fn element(of: &Value, key: &Value) -> Result<Value> {
    let place = || key.as_u64().and_then(|place| usize::try_from(place).ok());
    let found = match of {
        Value::Map(_) => of.get_key(key),
        Value::Record(record) => match key.as_str() {
            Some(name) => record.get(name),
            None => place().and_then(|place| record.values().get(place)),
        },
        _ => place().and_then(|place| of.at(place)),
    };
    let missing = || Error::new(ErrorKind::Failed, format!("there is no element {key}"));
    found.cloned().ok_or_else(missing)
}
