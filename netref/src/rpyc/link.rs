//! What a reference in a value stands for while it is with the protocol; and what goes by reference to Python.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use farref_boxing::rpyc as brine;
use farref_boxing::{Error, Record, Reference, Value};

use super::bound::Bound;
use super::data::{Data, Shared};
use super::serving::Asker;
use crate::hosted::{Exported, address};
use crate::lock::lock;
use crate::protocol::{Outgoing, Received};
use crate::remote::{EngineHandles, Import};

/// What a reference stands for.
#[derive(Debug, Clone)]
pub(super) enum Link {
    /// An object of this side.
    Object(Object),
    /// An object of the peer's.
    Import(Arc<Import>),
    /// A container of this side that Python uses by reference.
    Data(Shared),
    /// An iteration over something of this side.
    Iteration(Arc<Mutex<Iteration>>),
    /// A method of something of this side, as Python takes it for itself before it calls it.
    Method(Arc<Method>),
    /// A reference that came broken.
    Broken(Error),
}

/// An object of this side.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) object: Arc<Mortal>,
    /// Its identity.
    pub(super) key: usize,
    pub(super) interface: u64,
}

/// An object of this side, as long as the protocol holds it.
///
/// # Invariant
///
/// Whoever lets go of it last may do so under the connection's lock: the object itself goes to the graves then, and its
/// destructor, which is the user's, runs outside.
pub(super) struct Mortal {
    object: Arc<dyn Exported>,
    graves: Graves,
}

/// Objects that the protocol does not hold any more, for the engine to drop.
#[derive(Debug, Clone, Default)]
pub(super) struct Graves(Arc<Buried>);

#[derive(Debug, Default)]
struct Buried {
    objects: Mutex<Vec<Arc<dyn Exported>>>,
    /// There are some. It is asked several times for each call.
    is_any: AtomicBool,
}

impl Graves {
    fn bury(&self, object: Arc<dyn Exported>) {
        let mut objects = lock(&self.0.objects);
        objects.push(object);
        self.0.is_any.store(true, Ordering::Release);
    }

    /// The next one to be dropped.
    pub(super) fn next(&self) -> Option<Arc<dyn Exported>> {
        if self.is_empty() {
            return None;
        }
        let mut objects = lock(&self.0.objects);
        let next = objects.pop();
        self.0.is_any.store(!objects.is_empty(), Ordering::Release);
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.0.is_any.load(Ordering::Acquire)
    }
}

impl Mortal {
    pub(super) fn handle(&self) -> Arc<dyn Exported> {
        Arc::clone(&self.object)
    }
}

impl Deref for Mortal {
    type Target = dyn Exported;

    fn deref(&self) -> &Self::Target {
        &*self.object
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.graves.bury(Arc::clone(&self.object));
    }
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

/// A method, and what it is a method of.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) of: Owner,
    pub(super) name: String,
    pub(super) doc: String,
}

/// What a method belongs to.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    Object(Object, u64),
    Data(Shared),
    Iteration(Arc<Mutex<Iteration>>),
    /// The root itself, as a service: what every service of RPyC answers.
    Service,
}

/// An iteration: what it is over, and how far it is.
#[derive(Debug)]
pub(super) struct Iteration {
    pub(super) over: Iterated,
    /// Where the next batch begins.
    pub(super) from: usize,
    /// What was fetched and not asked for.
    pub(super) ready: VecDeque<Value>,
    pub(super) is_end: bool,
    /// A batch is on its way.
    pub(super) is_asking: bool,
    /// Who waits for what comes behind it, in the order in which they asked.
    pub(super) waiting: VecDeque<Waiting>,
}

/// What is iterated over.
#[derive(Debug, Clone)]
pub(super) enum Iterated {
    Data(Shared),
    /// An object, and its export.
    Object(Object, u64),
}

/// Who waits for elements.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asker: Asker,
    /// How many are wanted; none is the next one.
    pub(super) many: Option<usize>,
    /// What counts it.
    pub(super) _parked: Arc<()>,
}

impl Object {
    pub(super) fn of(object: Arc<dyn Exported>, graves: &Graves) -> Self {
        let interface = object.interface_id();
        Self::known(object, interface, graves)
    }

    fn known(object: Arc<dyn Exported>, interface: u64, graves: &Graves) -> Self {
        let (key, graves) = (object.key(), graves.clone());
        Self {
            object: Arc::new(Mortal { object, graves }),
            key,
            interface,
        }
    }
}

impl Link {
    /// An iteration over a container.
    pub(super) fn over(data: &Shared) -> Self {
        Self::iteration(Iterated::Data(Arc::clone(data)))
    }

    pub(super) fn iteration(over: Iterated) -> Self {
        Self::Iteration(Arc::new(Mutex::new(Iteration {
            over,
            from: 0,
            ready: VecDeque::new(),
            is_end: false,
            is_asking: false,
            waiting: VecDeque::new(),
        })))
    }

    pub(super) fn into_value(self) -> Value {
        Value::Reference(Arc::new(self))
    }

    pub(super) fn of(reference: &Reference) -> Option<&Self> {
        reference.downcast_ref()
    }

    /// Whether both stand for the same.
    pub(super) fn is_same(a: &Reference, b: &Reference) -> bool {
        match (Self::of(a), Self::of(b)) {
            (Some(Self::Object(a)), Some(Self::Object(b))) => a.key == b.key,
            (Some(Self::Import(a)), Some(Self::Import(b))) => Arc::ptr_eq(a, b),
            (Some(Self::Data(a)), Some(Self::Data(b))) => Arc::ptr_eq(a, b),
            _ => Arc::ptr_eq(a, b),
        }
    }

    /// What the engine wants to have sent. Nothing is none.
    pub(super) fn outgoing(outgoing: Outgoing<EngineHandles>, graves: &Graves) -> Option<Self> {
        match outgoing {
            Outgoing::Null => None,
            Outgoing::Broken(error) => Some(Self::Broken(error)),
            Outgoing::Local {
                object, interface, ..
            } => Some(Self::Object(Object::known(object, interface, graves))),
            Outgoing::Home { proxy, .. } => Some(Self::Import(proxy)),
        }
    }

    /// What the engine gets of it.
    pub(super) fn received(&self) -> Received<EngineHandles> {
        match self {
            Self::Object(object) => Received::Home(object.object.handle()),
            Self::Import(proxy) => Received::Import(Arc::clone(proxy)),
            Self::Broken(error) => Received::Broken(error.clone()),
            Self::Method(method) if let Some(bound) = Bound::new(method) => {
                let bound: Arc<dyn Exported> = Arc::new(bound);
                Received::Home(bound)
            }
            Self::Data(_) | Self::Iteration(_) | Self::Method(_) => {
                let text =
                    "an iteration of this side, or a method of a container, is nothing that can be used here";
                Received::Broken(Error::new(farref_boxing::ErrorKind::Unsupported, text))
            }
        }
    }

    /// What this link alone holds, if it is to something of this side that holds values.
    fn into_held(self) -> Vec<Value> {
        match self {
            Self::Data(data) => Arc::into_inner(data).map_or_else(Vec::new, |data| {
                let mut data = data.into_inner().unwrap_or_else(PoisonError::into_inner);
                data.take()
            }),
            Self::Iteration(iteration) => Arc::into_inner(iteration).map_or_else(Vec::new, |iteration| {
                let iteration = iteration.into_inner().unwrap_or_else(PoisonError::into_inner);
                let over = match iteration.over {
                    Iterated::Data(data) => Some(Self::Data(data).into_value()),
                    Iterated::Object(..) => None,
                };
                iteration.ready.into_iter().chain(over).collect()
            }),
            Self::Method(method) => match Arc::into_inner(method).map(|method| method.of) {
                Some(Owner::Data(data)) => vec![Self::Data(data).into_value()],
                Some(Owner::Iteration(iteration)) => vec![Self::Iteration(iteration).into_value()],
                Some(Owner::Object(..) | Owner::Service) | None => Vec::new(),
            },
            Self::Object(_) | Self::Import(_) | Self::Broken(_) => Vec::new(),
        }
    }

    /// Identity, as far as objects that can be exported have one.
    pub(super) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Object(object) => Key::Object(object.key, object.interface),
            Self::Data(data) => Key::Held(address(data)),
            Self::Iteration(iteration) => Key::Held(address(iteration)),
            Self::Method(method) => match &method.of {
                Owner::Object(_, export) => Key::Method(*export, method.name.clone()),
                Owner::Data(data) => Key::Method(address(data) as u64, method.name.clone()),
                Owner::Iteration(iteration) => Key::Method(address(iteration) as u64, method.name.clone()),
                Owner::Service => Key::Method(0, method.name.clone()),
            },
            Self::Import(_) | Self::Broken(_) => return None,
        })
    }
}

/// Drops values one after the other, and what they alone hold. Python may have put containers into each other deeper than a
/// stack is: none of them is dropped within another.
pub(super) fn drop_all(mut left: Vec<Value>) {
    while let Some(value) = left.pop() {
        match value {
            Value::List(items) | Value::Tuple(items) => left.extend(items),
            Value::Map(entries) => left.extend(entries.into_iter().flat_map(|(key, value)| [key, value])),
            Value::Some(value) => left.push(*value),
            Value::Reference(reference) => {
                let link = reference.downcast::<Link>().ok().and_then(Arc::into_inner);
                left.extend(link.into_iter().flat_map(Link::into_held));
            }
            _ => {}
        }
    }
}

/// What is the same while it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Object(usize, u64),
    Held(usize),
    Method(u64, String),
}

/// The value as it goes to Python: containers become references, so do structs; enum variants without fields become
/// texts, options what they hold.
pub(super) fn share(value: Value) -> Value {
    match value {
        Value::List(items) => Link::Data(Data::List(items).into_shared()).into_value(),
        Value::Map(entries) => Link::Data(Data::Dict(entries).into_shared()).into_value(),
        Value::Tuple(items) => Value::Tuple(items.into_iter().map(share).collect()),
        Value::Some(value) => share(*value),
        Value::Record(record) => share_record(record),
        plain => plain,
    }
}

fn share_record(record: Record) -> Value {
    let value = Value::Record(record);
    if brine::is_by_value(&value) {
        return value;
    }
    let Value::Record(record) = value else {
        return value;
    };
    let has_names = record.field_names().is_some();
    // A struct has its fields as attributes, and so has a variant.
    if has_names {
        return Link::Data(Data::Record(record).into_shared()).into_value();
    }
    match record.variant() {
        Some(variant) if record.values().is_empty() => Value::Str(variant.to_owned()),
        Some(variant) => {
            let mut parts = vec![Value::Str(variant.to_owned())];
            parts.extend(record.values().iter().cloned().map(share));
            Value::Tuple(parts)
        }
        None => Value::Tuple(record.values().iter().cloned().map(share).collect()),
    }
}

/// A value as methods of this side take it: containers of this side that come back are values again.
///
/// # Errors
///
/// They take too much, as each is there as often as it is inside another; or Python has put one into itself.
pub(super) fn unshare(value: Value) -> Result<Value, Error> {
    deep(value, MOST_LEVELS, &mut { MOST_UNSHARED })
}

/// Arguments by name.
pub(super) type Named = Vec<(String, Value)>;

/// The arguments of a call as methods of this side take them.
///
/// # Errors
///
/// As [`unshare`]; all of them count.
pub(super) fn unshare_all(positional: Vec<Value>, named: Named) -> Result<(Vec<Value>, Named), Error> {
    let mut room = MOST_UNSHARED;
    let mut one = |value| deep(value, MOST_LEVELS, &mut room);
    let positional: Result<_, Error> = positional.into_iter().map(&mut one).collect();
    let named = named.into_iter().map(|(name, value)| Ok((name, one(value)?)));
    Ok((positional?, named.collect::<Result<_, Error>>()?))
}

/// A value, with what is inside unshared too.
fn deep(value: Value, levels: u32, room: &mut usize) -> Result<Value, Error> {
    let all = |items: Vec<Value>, levels: u32, room: &mut usize| {
        items
            .into_iter()
            .map(|item| deep(item, levels, room))
            .collect::<Result<Vec<_>, Error>>()
    };
    Ok(match value {
        Value::List(items) => Value::List(all(items, levels, room)?),
        // As deep as they came over the wire.
        Value::Tuple(items) => Value::Tuple(all(items, levels, room)?),
        Value::Map(entries) => {
            let entry = |(key, value)| Ok((deep(key, levels, room)?, deep(value, levels, room)?));
            let entries: Result<_, Error> = entries.into_iter().map(entry).collect();
            Value::Map(entries?)
        }
        Value::Reference(reference) => match Link::of(&reference) {
            Some(Link::Data(data)) => {
                let levels = levels.checked_sub(1).ok_or_else(|| {
                    let text = "the containers are inside each other too deeply, or in themselves";
                    Error::new(farref_boxing::ErrorKind::Limit, text)
                })?;
                let held = {
                    let data = lock(data);
                    *room = room.checked_sub(data.weight()).ok_or_else(|| {
                        let text = format!("the containers take more than {} MiB", MOST_UNSHARED >> 20);
                        Error::new(farref_boxing::ErrorKind::Limit, text)
                    })?;
                    data.to_value()
                };
                deep(held, levels, room)?
            }
            _ => Value::Reference(reference),
        },
        plain => plain,
    })
}

/// Containers inside each other, at most.
const MOST_LEVELS: u32 = 32;
/// Bytes that containers of this side may take as a value.
const MOST_UNSHARED: usize = 64 << 20;

/// A value as Python writes it.
pub(super) fn python_repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, MOST_LEVELS, &mut out);
    out
}

fn write_repr(value: &Value, levels: u32, out: &mut String) {
    let Some(levels) = levels.checked_sub(1) else {
        out.push_str("...");
        return;
    };
    if out.len() > LONGEST_TEXT {
        out.push_str("...");
        return;
    }
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Float(number) => write_float(*number, out),
        Value::Single(number) => write_float(f64::from(*number), out),
        Value::Str(text) => write_text(text, out),
        Value::Char(char) => write_text(char.encode_utf8(&mut [0; 4]), out),
        Value::Bytes(bytes) => write_bytes(bytes, out),
        Value::Some(value) => write_repr(value, levels, out),
        Value::List(items) => {
            out.push('[');
            write_all(items, levels, out);
            out.push(']');
        }
        Value::Tuple(items) => {
            out.push('(');
            write_all(items, levels, out);
            out.push_str(if items.len() == 1 { ",)" } else { ")" });
        }
        Value::Map(entries) => {
            out.push('{');
            let mut comma = "";
            for (key, value) in entries {
                if out.len() > LONGEST_TEXT {
                    out.push_str(", ...");
                    break;
                }
                out.push_str(comma);
                write_repr(key, levels, out);
                out.push_str(": ");
                write_repr(value, levels, out);
                comma = ", ";
            }
            out.push('}');
        }
        Value::Record(record) => {
            out.push_str(record.variant().unwrap_or_else(|| record.type_name()));
            out.push('(');
            let mut comma = "";
            for (name, value) in record.iter() {
                out.push_str(comma);
                if let Some(name) = name {
                    _ = write!(out, "{name}=");
                }
                write_repr(value, levels, out);
                comma = ", ";
            }
            out.push(')');
        }
        Value::Reference(reference) => match Link::of(reference) {
            Some(Link::Data(data)) => match data.try_lock() {
                Ok(data) => write_repr(&data.to_value(), levels, out),
                // It is in itself.
                Err(_) => out.push_str("[...]"),
            },
            _ => out.push_str("<object>"),
        },
        other => _ = write!(out, "{other}"),
    }
}

fn write_all(items: &[Value], levels: u32, out: &mut String) {
    let mut comma = "";
    for item in items {
        if out.len() > LONGEST_TEXT {
            return out.push_str(", ...");
        }
        out.push_str(comma);
        write_repr(item, levels, out);
        comma = ", ";
    }
}

fn write_float(number: f64, out: &mut String) {
    if number.is_nan() {
        return out.push_str("nan");
    }
    let text = format!("{number:?}");
    match text.split_once('e') {
        // Python writes the sign of an exponent, and two digits of it.
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            _ = write!(out, "{digits}e{sign}{exponent:0>2}");
        }
        None => out.push_str(&text),
    }
}

fn write_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char == quote => {
                out.push('\\');
                out.push(char);
            }
            char if char.is_ascii_control() => _ = write!(out, "\\x{:02x}", u32::from(char)),
            char => out.push(char),
        }
    }
    out.push(quote);
}

fn write_bytes(bytes: &[u8], out: &mut String) {
    out.push_str("b'");
    for byte in bytes {
        match byte {
            b'\\' | b'\'' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(char::from(*byte)),
            byte => _ = write!(out, "\\x{byte:02x}"),
        }
    }
    out.push('\'');
}

/// A text that is made of a container is cut from here on.
const LONGEST_TEXT: usize = 1 << 20;
