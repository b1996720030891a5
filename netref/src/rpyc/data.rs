//! Lists, dictionaries and structs that were handed to Python: it uses them by reference, as it does its own.
//!
//! Each is a copy: what Python changes in it, it alone sees. What is inside goes as a reference of its own when it is asked
//! for, and is the same whenever it is asked for again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use farref_boxing::{Record, Value};

use super::exception::Exception;
use super::face::{NAMESPACE, inaccessible};
use super::growth::{Grown, Growth, holds, room};
use super::link::{Link, drop_all, python_repr, share};
use crate::lock::lock;
use crate::object::{CONTAINER, weigh};

/// What was handed out.
pub(super) type Shared = Arc<Mutex<Container>>;

/// A container, and how much the peer has made of it.
#[derive(Debug)]
pub(super) struct Container {
    data: Data,
    grown: Grown,
}

impl Deref for Container {
    type Target = Data;

    fn deref(&self) -> &Data {
        &self.data
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Data {
        &mut self.data
    }
}

/// A container.
#[derive(Debug)]
pub(super) enum Data {
    List(Vec<Value>),
    /// In the order in which keys were put in.
    Dict(Vec<(Value, Value)>),
    Record(Record),
}

/// What a method returns.
type Told = Result<Value, Exception>;

impl Data {
    pub(super) fn into_shared(self) -> Shared {
        Arc::new(Mutex::new(Container {
            data: self,
            grown: Grown::default(),
        }))
    }

    /// The same, made because the peer has asked for a copy.
    fn into_copy(self, growth: &Growth) -> Result<Shared, Exception> {
        let mut grown = Grown::default();
        growth.add(&mut grown, self.room(), || 0)?;
        Ok(Arc::new(Mutex::new(Container { data: self, grown })))
    }

    /// Bytes that it takes, but for what is inside by reference.
    fn room(&self) -> usize {
        match self {
            Self::List(items) => room(items),
            Self::Dict(entries) => room_of(entries),
            Self::Record(record) => room(record.values()),
        }
    }

    /// What Python takes it for.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "builtins.list",
            Self::Dict(_) => "builtins.dict",
            Self::Record(_) => NAMESPACE,
        }
    }

    /// The same for all of a kind.
    pub(super) const fn class(&self) -> u64 {
        match self {
            Self::List(_) => 1,
            Self::Dict(_) => 2,
            Self::Record(_) => RECORD,
        }
    }

    /// The names that it answers.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::List(_) => LIST.to_vec(),
            Self::Dict(_) => DICT.to_vec(),
            Self::Record(record) => record.field_names().map(Iterator::collect).unwrap_or_default(),
        }
    }

    /// Whether it has a method of that name.
    pub(super) fn has_method(&self, name: &str) -> bool {
        !matches!(self, Self::Record(_)) && self.names().contains(&name)
    }

    /// The value that it is, as a method of this side takes it.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::List(items) => Value::List(items.clone()),
            Self::Dict(entries) => Value::Map(entries.clone()),
            Self::Record(record) => Value::Record(record.clone()),
        }
    }

    /// Bytes that it takes, about, but for what is inside by reference.
    pub(super) fn weight(&self) -> usize {
        let all = |values: &[Value]| values.iter().map(weigh).sum::<usize>();
        let held: usize = match self {
            Self::List(items) => all(items),
            Self::Dict(entries) => entries
                .iter()
                .map(|(key, value)| weigh(key).saturating_add(weigh(value)))
                .sum(),
            Self::Record(record) => all(record.values()),
        };
        held.saturating_add(CONTAINER)
    }

    /// All that is in it, which is empty then.
    pub(super) fn take(&mut self) -> Vec<Value> {
        match self {
            Self::List(items) => std::mem::take(items),
            Self::Dict(entries) => {
                let entries = std::mem::take(entries);
                entries
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect()
            }
            // Python puts nothing into it.
            Self::Record(_) => Vec::new(),
        }
    }

    fn items(&self) -> usize {
        match self {
            Self::List(items) => items.len(),
            Self::Dict(entries) => entries.len(),
            Self::Record(record) => record.values().len(),
        }
    }

    /// Some of what an iteration over it gives, from `from` on: elements, or keys.
    pub(super) fn some(&mut self, from: usize, most: usize) -> Vec<Value> {
        match self {
            Self::List(items) => items.iter_mut().skip(from).take(most).map(give).collect(),
            Self::Dict(entries) => entries
                .iter_mut()
                .skip(from)
                .take(most)
                .map(|(key, _)| give(key))
                .collect(),
            Self::Record(_) => Vec::new(),
        }
    }

    /// As Python writes it.
    pub(super) fn repr(&self) -> String {
        python_repr(&self.to_value())
    }

    /// The attribute of a struct.
    pub(super) fn field(&mut self, name: &str) -> Option<Value> {
        let Self::Record(record) = self else {
            return None;
        };
        record.get(name).map(|value| share(value.clone()))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        drop_all(self.take());
    }
}

/// Calls a method of a container.
pub(super) fn call(
    of: &Shared,
    name: &str,
    arguments: Vec<Value>,
    named: &[(String, Value)],
    growth: &Growth,
) -> Told {
    let name = name.strip_prefix("exposed_").unwrap_or(name);
    let takes_names = matches!(name, "update" | "sort");
    if let [(unexpected, _), ..] = named
        && !takes_names
    {
        return Err(type_error(format!(
            "{name}() takes no keyword arguments: {unexpected}"
        )));
    }
    let mut container = lock(of);
    let Container { data, grown } = &mut *container;
    let may_tangle =
        PUTS.contains(&name) && (arguments.iter().any(holds) || named.iter().any(|(_, value)| holds(value)));
    // What was there before may be held for good from now on.
    if may_tangle && growth.tangle(of) {
        growth.add(grown, data.room(), || data.room())?;
    }
    let mut grow = Grow { grown, growth };
    let mut arguments = arguments.into_iter();
    let told = match (name, data) {
        ("__len__", data) => Value::from(data.items()),
        ("__bool__", data) => Value::Bool(data.items() > 0),
        ("__iter__", Data::List(_) | Data::Dict(_)) => Link::over(of).into_value(),
        ("__str__" | "__repr__" | "__format__", data) => Value::Str(data.repr()),
        ("__contains__", Data::List(items)) => {
            let wanted = one(name, &mut arguments)?;
            Value::Bool(items.iter().any(|item| is_same(item, &wanted)))
        }
        ("__contains__", Data::Dict(entries)) => {
            let wanted = one(name, &mut arguments)?;
            Value::Bool(find(entries, &wanted).is_some())
        }
        (_, Data::List(items)) => list(items, name, &mut arguments, named, &mut grow)?,
        (_, Data::Dict(entries)) => dict(entries, name, &mut arguments, named, &mut grow)?,
        (_, Data::Record(_)) => return Err(inaccessible(name)),
    };
    // Nothing but copies is there as it is.
    let told = match told {
        Value::List(items) => Link::Data(Data::List(items).into_copy(growth)?).into_value(),
        Value::Map(entries) => Link::Data(Data::Dict(entries).into_copy(growth)?).into_value(),
        told => told,
    };
    match arguments.next() {
        None => Ok(told),
        Some(_) => Err(type_error(format!("{name}() was given too many arguments"))),
    }
}

fn list(
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

fn dict(
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

/// Gives what is inside: a container inside becomes a reference, and stays one.
fn give(value: &mut Value) -> Value {
    if !matches!(value, Value::Reference(_)) {
        let shared = share(std::mem::take(value));
        *value = shared;
    }
    value.clone()
}

fn at(entries: &mut [(Value, Value)], place: usize) -> Value {
    entries
        .get_mut(place)
        .map(|(_, value)| give(value))
        .unwrap_or_default()
}

fn one(name: &str, arguments: &mut std::vec::IntoIter<Value>) -> Told {
    let missing = || type_error(format!("{name}() was given too few arguments"));
    arguments.next().ok_or_else(missing)
}

/// The elements of what can be read here without asking anybody.
fn elements(of: &Value) -> Option<Vec<Value>> {
    match of {
        Value::Tuple(items) => Some(items.clone()),
        Value::Reference(reference) => match Link::of(reference)? {
            // Not the same one: that is locked.
            Link::Data(data) => match &data.try_lock().ok()?.data {
                Data::List(items) => Some(items.clone()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn find(entries: &[(Value, Value)], key: &Value) -> Option<usize> {
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

fn room_of(entries: &[(Value, Value)]) -> usize {
    room(entries.iter().flat_map(|(key, value)| [key, value]))
}

/// A container that grows.
struct Grow<'a> {
    grown: &'a mut Grown,
    growth: &'a Growth,
}

impl Grow<'_> {
    /// It has lost so much.
    fn less(&mut self, bytes: usize) {
        self.growth.less(self.grown, bytes);
    }

    /// By so many elements of so many bytes, to those that it has. A peer does not make containers of this side as large as it
    /// likes.
    fn by(
        &mut self,
        elements: usize,
        bytes: usize,
        has: usize,
        weight: impl FnOnce() -> usize,
    ) -> Result<(), Exception> {
        if has.saturating_add(elements) > MOST_ELEMENTS {
            let text = format!("a container of this side takes at most {MOST_ELEMENTS} elements");
            return Err(Exception::new("MemoryError", [text]));
        }
        self.growth.add(self.grown, bytes, weight)
    }
}

/// Whether two values are equal to Python, which takes numbers of all types for what they are worth.
fn is_same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => match (a, b) {
            (Value::Tuple(a), Value::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
            }
            (Value::Reference(a), Value::Reference(b)) => Link::is_same(a, b),
            (a, b) => a == b,
        },
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "as Python compares an integer with a float, but for the last digits"
)]
fn number(value: &Value) -> Option<Number> {
    Some(match value {
        Value::Bool(value) => Number::Int(i128::from(*value)),
        Value::Int(value) => Number::Int(*value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within bounds")]
            Number::Int(*value as i128)
        }
        Value::Float(value) => Number::Float(*value),
        Value::UInt(value) => Number::Float(*value as f64),
        _ => return None,
    })
}

#[derive(PartialEq, PartialOrd)]
enum Number {
    Int(i128),
    Float(f64),
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

fn type_error(text: String) -> Exception {
    Exception::new("TypeError", [text])
}

fn out_of_range() -> Exception {
    Exception::new("IndexError", ["list index out of range"])
}

fn not_in_list() -> Exception {
    Exception::new("ValueError", ["it is not in the list"])
}

/// Elements of one container, at most, once a peer changes it.
const MOST_ELEMENTS: usize = 1 << 20;

/// The number of the class of structs.
pub(super) const RECORD: u64 = 3;

/// How a slice is written as a value.
pub(super) const SLICE: &str = "slice";
/// How Python's `NotImplemented` is written as a value.
pub(super) const NOT_IMPLEMENTED: &str = "NotImplemented";

/// Methods that put something in.
const PUTS: [&str; 8] = [
    "__iadd__",
    "__setitem__",
    "append",
    "extend",
    "insert",
    "setdefault",
    "update",
    "__add__",
];

const LIST: [&str; 25] = [
    "__add__",
    "__bool__",
    "__contains__",
    "__delitem__",
    "__doc__",
    "__eq__",
    "__format__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__repr__",
    "__reversed__",
    "__setitem__",
    "__str__",
    "append",
    "clear",
    "copy",
    "count",
    "extend",
    "index",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
];

const DICT: [&str; 22] = [
    "__bool__",
    "__contains__",
    "__delitem__",
    "__doc__",
    "__eq__",
    "__format__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__repr__",
    "__setitem__",
    "__str__",
    "clear",
    "copy",
    "get",
    "items",
    "keys",
    "pop",
    "setdefault",
    "update",
    "values",
    "__reversed__",
];
