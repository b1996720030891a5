//! Requests of the peer's: what Python does to what it holds of this side.
//!
//! Reading order: here (what is asked), `arguments`, `attributes`, `calls`, `iterating`, `answers` (what methods are asked).
//!
//! Requests are unboxed in the order in which they come, before anything else is looked at: releases that follow cannot
//! overtake what they release. Most are answered from the tables at once; those that a method has to answer become events.

mod answers;
mod arguments;
mod attributes;
mod calls;
mod iterating;

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::Reader;
use farref_boxing::{Error, Record, Result, Value, decode};
use farref_framing::CloseReason;
use smallvec::SmallVec;

use super::calling::{OWN_THREAD, encoded, flat, link, own_thread, reference};
use super::data::{self, Data, NOT_IMPLEMENTED, Shared};
use super::exception::{Exception, type_error};
use super::exports::unknown;
use super::face::{Attribute, CLOSE, ENTER, EXIT, Face, inaccessible};
use super::fetch::{Goal, containers};
use super::link::{Iterated, Iteration, Link, Method, Named, Object, Owner, unshare, unshare_all};
use super::packs::PackRef;
use super::wire::{Kind, Number, Threads, handler, label, malformed};
use super::{Rpyc, tuple};
use crate::chain;
use crate::lock::lock;
use crate::object::{self, Operations};
use crate::protocol::{
    CallOptions, CancelReason, Chain, Event, Factory, Incoming, IncomingTarget, Op, Received, Refs, Reply,
    Request,
};
use crate::references;
use crate::remote::EngineHandles;

use self::arguments::Arguments;

/// A call of the peer's that a method has to answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) asker: Asker,
    /// Nothing where it begins with what the method calls.
    pub(super) chain: Option<Chain>,
    how: How,
}

/// The arguments of a call of the peer's.
pub(super) enum Came {
    /// They are fetched, and follow.
    Later,
    Encoded(Bytes, Refs<Received<EngineHandles>>),
    Plain(object::Arguments),
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) number: Number,
    pub(super) threads: Option<Threads>,
    /// Bytes of the request.
    pub(super) bytes: usize,
}

impl Clone for Asker {
    fn clone(&self) -> Self {
        Self {
            // Several times as fast as its own `clone`.
            number: Number::from_slice(&self.number),
            ..*self
        }
    }
}

/// What is made of what the method returns.
#[derive(Debug)]
enum How {
    /// It is the answer.
    Value,
    /// It is the element with a key; what fails is a look-up of this class.
    Element(&'static str),
    /// Its opposite is.
    Not,
    /// Its bits are, as a number.
    Hash,
    /// It is, unless it is nothing: then this is.
    Or(Link),
    /// It is if it is a truth: whether an exception is swallowed.
    Exit,
    /// It is a batch of an iteration, from that element on; the next element is the answer.
    Next(Arc<Mutex<Iteration>>, usize),
    /// It is a batch of an iteration, from that element on; so many elements are the answer.
    Some(Arc<Mutex<Iteration>>, usize, usize),
    /// It is the next element of an object that is an iterator by itself.
    Gather(Box<Gathering>),
}

/// Elements of an object that is an iterator by itself.
#[derive(Debug)]
struct Gathering {
    object: Object,
    export: u64,
    gathered: Vec<Value>,
    /// How many are wanted.
    many: usize,
}

/// What a request is about.
#[derive(Debug)]
enum Target {
    Object(Object, u64, Arc<Face>),
    Data(Shared),
    Iteration(Arc<Mutex<Iteration>>),
    Method(Arc<Method>),
}

/// What is to be said at once, or nothing, as a method will.
type Told = Result<Option<Value>, Exception>;
impl Rpyc {
    /// Takes a box apart. Objects of this side that it names and that are not there give an exception; everything else in
    /// the box is unboxed all the same, so that the counts stay right.
    ///
    /// # Errors
    ///
    /// It is no box, or more objects came than may be held.
    pub(super) fn unbox(
        &mut self,
        boxed: &mut Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
    ) -> Result<(Value, Option<Exception>), Error> {
        let mut wrong = None;
        let value = self.unbox_one(boxed, factory, &mut wrong)?;
        Ok((value, wrong))
    }

    fn unbox_one(
        &mut self,
        boxed: &mut Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
        wrong: &mut Option<Exception>,
    ) -> Result<Value, Error> {
        let value = match boxed.pair().map_err(malformed)? {
            // As most are.
            Some(label::VALUE) => boxed.value().map_err(malformed)?,
            label => self.unbox_as(label, boxed, factory, wrong)?,
        };
        boxed.leave();
        Ok(value)
    }

    /// What is in a box with this label.
    fn unbox_as(
        &mut self,
        label: Option<i128>,
        boxed: &mut Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
        wrong: &mut Option<Exception>,
    ) -> Result<Value, Error> {
        Ok(match label {
            Some(label::VALUE) => boxed.value().map_err(malformed)?,
            Some(label::TUPLE) => {
                let count = boxed.tuple().map_err(malformed)?;
                let mut values = Vec::with_capacity(count.min(ROOM));
                self.unbox_items(count, boxed, factory, wrong, |value| values.push(value))?;
                Value::Tuple(values)
            }
            Some(label::YOURS) => {
                let pack = PackRef::read(boxed).map_err(malformed)?;
                match self.exports.find(pack) {
                    Some((_, export)) => export.to_value(),
                    None => {
                        wrong.get_or_insert_with(|| unknown(pack));
                        Value::Null
                    }
                }
            }
            Some(label::MINE) => {
                let pack = PackRef::read(boxed).map_err(malformed)?;
                let pack = pack.to_pack().map_err(malformed)?;
                let most = self.limits.objects;
                let proxy = self.imports.take_in(pack, most, factory).ok_or_else(|| {
                    let text = format!("the peer has handed out more than {most} objects");
                    Error::new(farref_boxing::ErrorKind::Limit, text)
                })?;
                Link::Import(proxy).into_value()
            }
            other => {
                boxed.skip().map_err(malformed)?;
                let text = format!("invalid label {:?}", other.unwrap_or_default());
                wrong.get_or_insert_with(|| Exception::new("ValueError", [text]));
                Value::Null
            }
        })
    }

    /// The items of a tuple of boxes, one after the other.
    fn unbox_items(
        &mut self,
        count: usize,
        boxed: &mut Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
        wrong: &mut Option<Exception>,
        mut push: impl FnMut(Value),
    ) -> Result<(), Error> {
        boxed.enter().map_err(malformed)?;
        for _ in 0..count {
            push(self.unbox_one(boxed, factory, wrong)?);
        }
        boxed.leave();
        Ok(())
    }

    /// [`unbox`](Self::unbox) for the arguments of a request; whether they are a tuple.
    fn unbox_arguments(
        &mut self,
        boxed: &mut Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
        wrong: &mut Option<Exception>,
        arguments: &mut Arguments,
    ) -> Result<bool, Error> {
        let label = boxed.pair().map_err(malformed)?;
        if label == Some(label::TUPLE) {
            let count = boxed.tuple().map_err(malformed)?;
            self.unbox_items(count, boxed, factory, wrong, |value| arguments.push(value))?;
        } else {
            match self.unbox_as(label, boxed, factory, wrong)? {
                Value::Tuple(items) => *arguments = Arguments::from(items),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// A request came.
    pub(super) fn requested(
        &mut self,
        asker: &Asker,
        mut content: Reader<'_>,
        factory: &dyn Factory<EngineHandles>,
    ) -> Result<(), Error> {
        let handler = content.pair().map_err(malformed)?;
        let (mut arguments, mut wrong) = (Arguments::default(), None);
        let is_tuple = self.unbox_arguments(&mut content, factory, &mut wrong, &mut arguments)?;
        if handler == Some(handler::CLOSE) {
            self.is_closing = true;
            self.events.push_back(Event::Closed(CloseReason::done()));
            return Ok(());
        }
        let told = match (wrong, handler) {
            (Some(exception), _) => Err(exception),
            (None, _) if !is_tuple => Err(type_error("the arguments of a request are a tuple")),
            (None, Some(handler)) => self.perform(handler, &mut arguments, asker),
            (None, None) => Err(Exception::new(
                "KeyError",
                ["the number of a request is an integer"],
            )),
        };
        match told {
            Ok(Some(value)) => self.respond(asker, Ok(value)),
            Ok(None) => {}
            Err(exception) => self.respond(asker, Err(exception)),
        }
        Ok(())
    }

    /// Does what was asked for: what to say, if it is known already.
    fn perform(&mut self, handler: i128, arguments: &mut Arguments, asker: &Asker) -> Told {
        match handler {
            handler::PING => return arguments.next("data").map(Some),
            handler::GETROOT => return Ok(Some(self.own_root())),
            handler::INSPECT => return self.inspect(&arguments.next("id_pack")?).map(Some),
            handler::DEL => {
                let of = arguments.next("object")?;
                let copies = arguments.next("count").ok();
                return self.released(&of, copies.as_ref()).map(Some);
            }
            handler::INSTANCECHECK => {
                let class = arguments.next("class")?;
                let is = self.is_instance(&class, &arguments.next("id_pack")?)?;
                return Ok(Some(Value::Bool(is)));
            }
            handler::PICKLE => return Err(Exception::new("ValueError", ["pickling is disabled"])),
            _ => {}
        }
        if !(handler::GETATTR..=handler::CTXEXIT).contains(&handler) {
            return Err(Exception::new("KeyError", [Value::Int(handler)]));
        }
        let target = self.target(&arguments.next("object")?)?;
        match handler {
            handler::GETATTR => {
                let name = arguments.name()?;
                self.get(target, &name, asker)
            }
            handler::SETATTR => {
                let (name, value) = (arguments.name()?, arguments.next("value")?);
                self.set(&target, &name, &value, asker)
            }
            handler::DELATTR => {
                let name = arguments.name()?;
                match target {
                    Target::Object(object, export, face) if face.is_open("delete", &name) => {
                        self.ask(asker, &object, export, Op::Delete(name), &(), How::Value)
                    }
                    _ => Err(inaccessible(&name)),
                }
            }
            handler::CALL => {
                let (positional, named) = arguments.call()?;
                self.call_it(target, positional, named, asker)
            }
            handler::CALLATTR => {
                let name = arguments.name()?;
                let (positional, named) = arguments.call()?;
                self.call_attribute(target, &name, positional, named, asker)
            }
            handler::OLDSLICING => {
                let (name, _) = (arguments.name()?, arguments.next("fallback")?);
                let parts = [
                    ("start", arguments.next("start")?),
                    ("stop", arguments.next("stop")?),
                    ("step", Value::Null),
                ];
                let mut positional = vec![Value::Record(Record::named(data::SLICE, parts))];
                if let Ok(Value::Tuple(more)) = arguments.next("arguments") {
                    positional.extend(more);
                }
                self.call_attribute(target, &name, positional, Vec::new(), asker)
            }
            handler::REPR => self.text(&target, Op::Repr, asker),
            handler::STR => self.text(&target, Op::Text, asker),
            handler::CMP => {
                let other = arguments.next("other")?;
                let name = arguments.name().unwrap_or_else(|_| "__cmp__".to_owned());
                self.compare(&target, other, &name, asker)
            }
            handler::HASH => self.hash(&target, asker),
            handler::DIR => Ok(Some(self.names(&target))),
            handler::BUFFITER => {
                let many = arguments.next("count")?.as_u64().unwrap_or_default();
                let many = usize::try_from(many).unwrap_or(usize::MAX).min(LARGEST_BATCH);
                self.some(target, many, asker)
            }
            handler::CTXEXIT => {
                let exception = arguments.next("exception").unwrap_or_default();
                self.leave(target, &exception, asker)
            }
            _ => Err(Exception::new("KeyError", [Value::Int(handler)])),
        }
    }

    fn own_root(&self) -> Value {
        let root = self.exports.root().and_then(|root| self.exports.get(root));
        match root {
            Some(export) => export.to_value(),
            None => Link::Data(Data::Record(Record::unit("VoidService")).into_shared()).into_value(),
        }
    }

    /// What of this side a value refers to.
    fn target(&self, value: &Value) -> Result<Target, Exception> {
        let foreign = || type_error("that is no object of this side");
        match link(value).ok_or_else(foreign)? {
            Link::Object(object) => {
                let (export, face) = self.exports.object(object).ok_or_else(foreign)?;
                Ok(Target::Object(object.clone(), export, Arc::clone(face)))
            }
            Link::Data(data) => Ok(Target::Data(Arc::clone(data))),
            Link::Iteration(iteration) => Ok(Target::Iteration(Arc::clone(iteration))),
            Link::Method(method) => Ok(Target::Method(Arc::clone(method))),
            Link::Import(_) | Link::Broken(_) => Err(foreign()),
        }
    }

    fn released(&mut self, of: &Value, copies: Option<&Value>) -> Result<Value, Exception> {
        let unknown = || Exception::new("KeyError", ["no such object"]);
        let number = link(of)
            .and_then(|link| self.exports.number(link))
            .ok_or_else(unknown)?;
        let copies = copies.and_then(Value::as_u64).unwrap_or(1);
        if let Some(link) = self.exports.give_back(number, copies) {
            self.discard(link);
        }
        Ok(Value::Null)
    }
}

fn into_items(value: Value) -> Vec<Value> {
    match value {
        Value::Tuple(items) | Value::List(items) => items,
        _ => Vec::new(),
    }
}

fn document(doc: &str) -> Value {
    if doc.is_empty() {
        Value::Null
    } else {
        Value::Str(doc.to_owned())
    }
}

fn is_of_service(name: &str) -> bool {
    SERVICE.contains(&name.strip_prefix("exposed_").unwrap_or(name))
}

fn stop() -> Exception {
    Exception::new::<Value>("StopIteration", [])
}

/// What every root of RPyC answers.
const SERVICE: [&str; 2] = ["get_service_aliases", "get_service_name"];
/// How many values in a box have room before the first of them was read.
const ROOM: usize = 64;
/// Elements that are asked for where Python asks for one.
const ONE_BATCH: usize = 64;
/// Elements that Python may ask for at once.
const LARGEST_BATCH: usize = 4096;
