//! What Python does with a dictionary.

use super::*;

pub(super) fn dict(
    entries: &mut Vec<(Value, Value)>,
    name: &str,
    arguments: &mut std::vec::IntoIter<Value>,
    named: &[(String, Value)],
    grow: &mut Grow<'_>,
) -> Told {
    let missing = |key: Value| Exception::new("KeyError", [key]);
    Ok(match name {
        "__getitem__" => {
            let key = one(name, arguments)?;
            match find(entries, &key) {
                Some(place) => at(entries, place),
                None => return Err(missing(key)),
            }
        }
        "__setitem__" => {
            let (key, value) = (one(name, arguments)?, one(name, arguments)?);
            put(entries, key, value, grow)?;
            Value::Null
        }
        "__delitem__" => {
            let key = one(name, arguments)?;
            match find(entries, &key) {
                Some(place) => {
                    let (key, value) = entries.remove(place);
                    grow.less(room([&key, &value]));
                }
                None => return Err(missing(key)),
            }
            Value::Null
        }
        "keys" => Value::List(entries.iter_mut().map(|(key, _)| give(key)).collect()),
        "values" => Value::List(entries.iter_mut().map(|(_, value)| give(value)).collect()),
        "items" => {
            let pair = |(key, value): &mut (Value, Value)| Value::Tuple(vec![give(key), give(value)]);
            Value::List(entries.iter_mut().map(pair).collect())
        }
        "get" => {
            let key = one(name, arguments)?;
            let default = arguments.next().unwrap_or_default();
            find(entries, &key).map_or(default, |place| at(entries, place))
        }
        "pop" => {
            let key = one(name, arguments)?;
            match (find(entries, &key), arguments.next()) {
                (Some(place), _) => {
                    let (key, value) = entries.remove(place);
                    grow.less(room([&key, &value]));
                    share(value)
                }
                (None, Some(default)) => default,
                (None, None) => return Err(missing(key)),
            }
        }
        "setdefault" => {
            let key = one(name, arguments)?;
            let default = arguments.next().unwrap_or_default();
            match find(entries, &key) {
                Some(place) => at(entries, place),
                None => {
                    put(entries, key, default.clone(), grow)?;
                    default
                }
            }
        }
        "update" => {
            for (name, value) in named {
                put(entries, Value::Str(name.clone()), value.clone(), grow)?;
            }
            Value::Null
        }
        "clear" => {
            grow.less(usize::MAX);
            entries.clear();
            Value::Null
        }
        "copy" => Value::Map(entries.clone()),
        _ => return Err(inaccessible(name)),
    })
}

pub(super) fn find(entries: &[(Value, Value)], key: &Value) -> Option<usize> {
    entries.iter().position(|(known, _)| is_same(known, key))
}

fn put(
    entries: &mut Vec<(Value, Value)>,
    key: Value,
    value: Value,
    grow: &mut Grow<'_>,
) -> Result<(), Exception> {
    let bytes = room([&key, &value]);
    match find(entries, &key) {
        Some(place) => {
            grow.by(0, bytes, entries.len(), || room_of(&*entries))?;
            if let Some((_, known)) = entries.get_mut(place) {
                grow.less(room([&key, &std::mem::replace(known, value)]));
            }
        }
        None => {
            grow.by(1, bytes, entries.len(), || room_of(&*entries))?;
            entries.push((key, value));
        }
    }
    Ok(())
}
