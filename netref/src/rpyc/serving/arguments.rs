//! The arguments of a request, one behind the other.

use super::*;

/// The arguments of a request, one behind the other.
pub(super) struct Arguments(smallvec::IntoIter<[Value; MANY]>);

/// Most requests have no more arguments.
const MANY: usize = 3;

impl Arguments {
    pub(super) fn new(arguments: SmallVec<[Value; MANY]>) -> Self {
        Self(arguments.into_iter())
    }

    pub(super) fn next(&mut self, name: &str) -> Result<Value, Exception> {
        let missing = || type_error(format!("missing 1 required positional argument: '{name}'"));
        self.0.next().ok_or_else(missing)
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
        let named = self.0.next().map_or_else(Vec::new, into_items);
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
        self.0.by_ref().collect()
    }
}
