//! What Python does with a list.

use super::*;

pub(super) fn list(
    items: &mut Vec<Value>,
    name: &str,
    arguments: &mut std::vec::IntoIter<Value>,
    named: &[(String, Value)],
    grow: &mut Grow<'_>,
) -> Told {
    Ok(match name {
        "__getitem__" => match one(name, arguments)? {
            Value::Record(slice) if slice.type_name() == SLICE => {
                let places = places(&slice, items.len())?;
                let chosen = places
                    .into_iter()
                    .filter_map(|place| items.get_mut(place).map(give));
                Value::List(chosen.collect())
            }
            index => {
                let place = place(&index, items.len())?;
                items.get_mut(place).map(give).ok_or_else(out_of_range)?
            }
        },
        "__setitem__" => {
            let place = place(&one(name, arguments)?, items.len())?;
            let value = one(name, arguments)?;
            grow.by(0, room([&value]), items.len(), || room(&*items))?;
            let known = items.get_mut(place).ok_or_else(out_of_range)?;
            grow.less(room([&std::mem::replace(known, value)]));
            Value::Null
        }
        "__delitem__" => {
            let place = place(&one(name, arguments)?, items.len())?;
            grow.less(room([&items.remove(place)]));
            Value::Null
        }
        "__reversed__" => {
            let reversed = items.iter_mut().rev().map(give).collect();
            Link::over(&Data::List(reversed).into_copy(grow.growth)?).into_value()
        }
        "__add__" => {
            let Some(more) = elements(&one(name, arguments)?) else {
                return Ok(Value::Record(Record::unit(NOT_IMPLEMENTED)));
            };
            Value::List(items.iter_mut().map(give).chain(more).collect())
        }
        "append" => {
            let value = one(name, arguments)?;
            grow.by(1, room([&value]), items.len(), || room(&*items))?;
            items.push(value);
            Value::Null
        }
        "extend" | "__iadd__" => {
            let given = one(name, arguments)?;
            let more = elements(&given)
                .ok_or_else(|| type_error(format!("{name}() takes a tuple, or a list of this side")))?;
            grow.by(more.len(), room(&more), items.len(), || room(&*items))?;
            items.extend(more);
            Value::Null
        }
        "insert" => {
            let index = one(name, arguments)?.as_i64().unwrap_or_default();
            let value = one(name, arguments)?;
            grow.by(1, room([&value]), items.len(), || room(&*items))?;
            let place = if index < 0 {
                items
                    .len()
                    .saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
            } else {
                usize::try_from(index).unwrap_or(usize::MAX).min(items.len())
            };
            items.insert(place, value);
            Value::Null
        }
        "pop" => {
            let index = arguments.next().unwrap_or_else(|| Value::from(-1));
            if items.is_empty() {
                return Err(Exception::new("IndexError", ["pop from empty list"]));
            }
            let place = place(&index, items.len())?;
            let value = items.remove(place);
            grow.less(room([&value]));
            share(value)
        }
        "remove" => {
            let wanted = one(name, arguments)?;
            let found = items.iter().position(|item| is_same(item, &wanted));
            let place = found.ok_or_else(not_in_list)?;
            grow.less(room([&items.remove(place)]));
            Value::Null
        }
        "index" => {
            let wanted = one(name, arguments)?;
            let found = items.iter().position(|item| is_same(item, &wanted));
            Value::from(found.ok_or_else(not_in_list)?)
        }
        "count" => {
            let wanted = one(name, arguments)?;
            Value::from(items.iter().filter(|item| is_same(item, &wanted)).count())
        }
        "clear" => {
            grow.less(usize::MAX);
            items.clear();
            Value::Null
        }
        "reverse" => {
            items.reverse();
            Value::Null
        }
        "sort" => {
            sort(items, named)?;
            Value::Null
        }
        "copy" => Value::List(items.iter_mut().map(give).collect()),
        _ => return Err(inaccessible(name)),
    })
}

/// Sorts numbers or texts.
fn sort(items: &mut [Value], named: &[(String, Value)]) -> Result<(), Exception> {
    let mut is_reversed = false;
    for (name, value) in named {
        match (name.as_str(), value) {
            ("reverse", Value::Bool(value)) => is_reversed = *value,
            _ => return Err(type_error(format!("sort() of this side does not know {name}"))),
        }
    }
    let key = |value: &Value| -> Option<(f64, String)> {
        match value {
            Value::Str(text) => Some((0.0, text.clone())),
            value => Some((
                value
                    .as_f64()
                    .or_else(|| value.as_i64().map(|value| value as f64))?,
                String::new(),
            )),
        }
    };
    let is_text = |value: &Value| matches!(value, Value::Str(_));
    let texts = items.iter().filter(|value| is_text(value)).count();
    if items.iter().any(|value| key(value).is_none()) || (texts > 0 && texts < items.len()) {
        return Err(type_error(
            "numbers or texts alone can be sorted on this side".to_owned(),
        ));
    }
    // An order of all there are, also of what is no number: sorting by another may panic.
    let order = |a: &Value, b: &Value| match (key(a), key(b)) {
        (Some((a, text_a)), Some((b, text_b))) => (a + 0.0).total_cmp(&(b + 0.0)).then(text_a.cmp(&text_b)),
        _ => std::cmp::Ordering::Equal,
    };
    if is_reversed {
        items.sort_by(|a, b| order(b, a));
    } else {
        items.sort_by(order);
    }
    Ok(())
}

/// Where an index leads, which counts from the end if it is negative.
fn place(index: &Value, len: usize) -> Result<usize, Exception> {
    let number = match index {
        Value::Bool(value) => i64::from(*value),
        index => {
            let wrong = || {
                type_error(format!(
                    "list indices must be integers or slices, not {}",
                    index.kind()
                ))
            };
            index.as_i64().ok_or_else(wrong)?
        }
    };
    let place = if number < 0 {
        usize::try_from(number.unsigned_abs())
            .ok()
            .and_then(|back| len.checked_sub(back))
    } else {
        usize::try_from(number).ok()
    };
    place.filter(|place| *place < len).ok_or_else(out_of_range)
}

/// The places that a slice chooses.
fn places(slice: &Record, len: usize) -> Result<Vec<usize>, Exception> {
    let part = |name: &str| match slice.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let wrong = || type_error("slice indices must be integers or None".to_owned());
            value.as_i64().map(Some).ok_or_else(wrong)
        }
    };
    let step = part("step")?.unwrap_or(1);
    if step == 0 {
        return Err(Exception::new("ValueError", ["slice step cannot be zero"]));
    }
    let end = i64::try_from(len).unwrap_or(i64::MAX);
    let bound = |given: Option<i64>, default: i64| {
        let (low, high) = if step > 0 {
            (0, end)
        } else {
            (-1, end.saturating_sub(1))
        };
        given.map_or(default, |given| {
            let from_start = if given < 0 {
                given.saturating_add(end)
            } else {
                given
            };
            from_start.clamp(low, high)
        })
    };
    let (first, behind) = if step > 0 {
        (bound(part("start")?, 0), bound(part("stop")?, end))
    } else {
        (
            bound(part("start")?, end.saturating_sub(1)),
            bound(part("stop")?, -1),
        )
    };
    let mut places = Vec::new();
    let mut at = first;
    while if step > 0 { at < behind } else { at > behind } {
        places.extend(usize::try_from(at).ok());
        at = at.saturating_add(step);
    }
    Ok(places)
}

fn out_of_range() -> Exception {
    Exception::new("IndexError", ["list index out of range"])
}

fn not_in_list() -> Exception {
    Exception::new("ValueError", ["it is not in the list"])
}
