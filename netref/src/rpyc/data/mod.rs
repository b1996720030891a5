//! Lists, dictionaries and structs that were handed to Python: it uses them by reference, as it does its own.
//!
//! Each is a copy: what Python changes in it, it alone sees. What is inside goes as a reference of its own when it is asked
//! for, and is the same whenever it is asked for again.

mod dict;
mod list;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use farref_boxing::{Record, Value};

use super::exception::{Exception, type_error};
use super::face::{NAMESPACE, inaccessible};
use super::growth::{Grown, Growth, holds, room};
use super::link::{Link, drop_all, python_repr, share};
use crate::lock::lock;
use crate::object::{CONTAINER, weigh};

use self::dict::{dict, find};
use self::list::list;

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
