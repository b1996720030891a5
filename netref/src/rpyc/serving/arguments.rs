//! The arguments of a request, one behind the other.

use super::*;

/// The arguments of a request, one behind the other.
#[derive(Default)]
pub(super) struct Arguments {
    values: SmallVec<[Value; MANY]>,
    /// So many were taken.
    taken: usize,
}

/// Most requests have no more arguments.
const MANY: usize = 3;

impl From<Vec<Value>> for Arguments {
    fn from(values: Vec<Value>) -> Self {
        Self {
            values: values.into(),
            taken: 0,
        }
    }
}

impl Arguments {
    pub(super) fn push(&mut self, value: Value) {
        self.values.push(value);
    }

    /// The next one, if there is any.
    fn take(&mut self) -> Option<Value> {
        let value = self.values.get_mut(self.taken)?;
        self.taken = self.taken.saturating_add(1);
        Some(std::mem::take(value))
    }

    pub(super) fn next(&mut self, name: &str) -> Result<Value, Exception> {
        let missing = || type_error(format!("missing 1 required positional argument: '{name}'"));
        self.take().ok_or_else(missing)
    }

    pub(super) fn name(&mut self) -> Result<String, Exception> {
        match self.next("name")? {
            Value::Str(name) => Ok(name),
            Value::Bytes(name) => match std::str::from_utf8(&name) {
                Ok(name) => Ok(name.to_owned()),
                Err(_) => Err(type_error("the name of an attribute is a text")),
            },
            _ => Err(type_error("the name of an attribute is a text")),
        }
    }

    /// Those of a call: by place, and by name.
    pub(super) fn call(&mut self) -> Result<(Vec<Value>, Named), Exception> {
        let positional = into_items(self.next("args")?);
        let named = self.take().map_or_else(Vec::new, into_items);
        if named.is_empty() {
            return Ok((positional, Named::new()));
        }
        let pair = |pair: Value| {
            let wrong = || type_error("a named argument is a name and a value");
            let [name, value] = <[Value; 2]>::try_from(into_items(pair)).map_err(|_| wrong())?;
            let name = match name {
                Value::Str(name) => name,
                _ => return Err(wrong()),
            };
            Ok((name, value))
        };
        let named: Result<Named, Exception> = named.into_iter().map(pair).collect();
        Ok((positional, named?))
    }

    pub(super) fn all(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.take()).collect()
    }
}
