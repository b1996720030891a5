//! What is peculiar to peers in Python: what their names lead to, how their results and exceptions are shown.

use farref::object::Arguments;
use farref::rpyc::Exception;
use farref::rpyc::classic::Classic;
use farref::{Error, ErrorKind, Object, Value};

/// What a name stands for that begins a path: what the root has. On a classic server also what was defined there, what is built
/// in, and modules.
pub(crate) async fn first(root: &Object, name: &str) -> Result<Value, Error> {
    // Asked, and not tried: `rpyc_classic` writes down each exception, with its traceback.
    let names = root.dir().await.unwrap_or_default();
    let has = |wanted: &str| names.iter().any(|known| known == wanted);
    if has(name) || !has("getmodule") {
        return root.get(name).await;
    }
    let python = Classic::new(root.clone());
    let builtins = python.builtins().await?;
    let variables = python.namespace().object().await?;
    if is_true(&variables.call("__contains__", (name,)).await?) {
        return variables.index(name).await;
    }
    if is_true(&builtins.call("hasattr", (&builtins, name)).await?) {
        return builtins.get(name).await;
    }
    match python.module(name).await {
        Err(error) if raised(&error).is_some_and(|raised| raised.is("ModuleNotFoundError")) => {
            let text = format!("Python knows no `{name}`, and has no module of that name");
            Err(Error::new(ErrorKind::Unimplemented, text))
        }
        found => found.map(Value::from),
    }
}

/// What a path of names leads to.
pub(crate) async fn follow(root: &Object, path: &str) -> Result<Value, Error> {
    let mut names = path.split('.').filter(|name| !name.is_empty());
    let mut value = first(root, names.next().unwrap_or_default()).await?;
    let mut way = String::new();
    for name in names {
        let object = Object::try_from(&value)
            .map_err(|_| Error::new(ErrorKind::Unimplemented, format!("{value} has no `{name}`")))?;
        value = match object.get(name).await {
            // `os.path` is known once `os` is; other modules within modules are not.
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                let behind = path.split('.').take(way.split('.').count().saturating_add(1));
                let module: Vec<_> = behind.collect();
                first(root, &module.join(".")).await.map_err(|_| error)?
            }
            found => found?,
        };
        way.push('.');
    }
    Ok(value)
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true)
}

/// What calling `value` gives. Without arguments, what cannot be called is itself.
pub(crate) async fn call(value: Value, arguments: Arguments) -> Result<Value, Error> {
    let is_bare = arguments.positional().is_empty() && arguments.named_ones().next().is_none();
    let Ok(object) = Object::try_from(&value) else {
        if is_bare {
            return Ok(value);
        }
        let text = format!("it is no function, but {value}");
        return Err(Error::new(ErrorKind::Unimplemented, text));
    };
    if is_bare && !can_be_called(&object).await? {
        return Ok(value);
    }
    object.invoke(arguments).await
}

/// Whether an object can be called, as a function can.
pub(crate) async fn can_be_called(object: &Object) -> Result<bool, Error> {
    let description = object.describe().await?;
    Ok(description.operations.iter().any(|name| name == "call"))
}

/// What an object says of itself.
pub(crate) async fn doc(object: &Object) -> Result<String, Error> {
    match object.doc("").await? {
        doc if doc.is_empty() => Ok(format!("{}\nIt has no documentation.", object.repr().await?)),
        doc => Ok(doc),
    }
}

/// A value of Python's as it is typed there, or a value of ours: `True` and `None` are no words.
pub(crate) fn literal(value: Value) -> Value {
    let word = match &value {
        Value::Str(text) => text.as_str(),
        Value::Record(record) if record.values().is_empty() => record.type_name(),
        _ => return value,
    };
    match word {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        _ => value,
    }
}

/// A container by value, where it is one that Python has by itself; any other object as its text.
pub(crate) async fn data(object: &Object) -> Result<Value, Error> {
    let description = object.describe().await?;
    let name = description
        .interfaces
        .first()
        .map(|interface| interface.name.as_str());
    match name {
        Some(
            "builtins.list"
            | "builtins.dict"
            | "builtins.set"
            | "builtins.bytearray"
            | "builtins.tuple"
            | "builtins.range"
            | "builtins.dict_keys"
            | "builtins.dict_values"
            | "builtins.dict_items"
            | "collections.OrderedDict"
            | "collections.defaultdict"
            | "collections.Counter"
            | "collections.deque"
            | "array.array",
        ) => object.fetch().await,
        _ => object.repr().await.map(Value::from),
    }
}

/// The exception in an error.
pub(crate) fn raised(error: &Error) -> Option<&Exception> {
    error.downcast_ref()
}

/// Where an exception was raised, without what RPyC itself does there, and without the line that says what it is.
pub(crate) fn traceback(error: &Error) -> Option<String> {
    let text = raised(error)?.traceback();
    let mut shown = Vec::new();
    let mut is_left_out = false;
    let mut lines = text.trim_end().lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("  File ") {
            is_left_out = line.contains("/rpyc/core/") || line.contains("\\rpyc\\core\\");
        } else if !line.starts_with(' ') {
            is_left_out = lines.peek().is_none();
        }
        if !is_left_out {
            shown.push(line);
        }
    }
    // A head alone says nothing.
    (shown.len() > 1).then(|| shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_python_are_values() {
        for (text, value) in [
            ("True", Value::Bool(true)),
            ("None", Value::Null),
            ("3", 3.into()),
        ] {
            assert_eq!(literal(crate::call::literal(text)), value);
        }
        assert_eq!(literal("Nothing".into()).as_str(), Some("Nothing"));
    }
}
