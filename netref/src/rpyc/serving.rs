//! Requests of the peer's: what Python does to what it holds of this side.
//!
//! Requests are unboxed in the order in which they come, before anything else is looked at: releases that follow cannot
//! overtake what they release. Most are answered from the tables at once; those that a method has to answer become events.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::Brine;
use farref_boxing::{Error, Record, Result, Value, decode};
use farref_framing::CloseReason;

use super::calling::{OWN_THREAD, encoded, flat, link, own_thread, reference};
use super::data::{self, Data, NOT_IMPLEMENTED, Shared};
use super::exception::Exception;
use super::exports::unknown;
use super::face::{Attribute, CLOSE, ENTER, EXIT, Face, inaccessible};
use super::fetch::{Goal, containers};
use super::link::{Iterated, Iteration, Link, Method, Object, Owner, unshare};
use super::packs::Pack;
use super::wire::{self, Kind, Message, Threads, broken, handler, label};
use super::{Rpyc, tuple};
use crate::chain;
use crate::lock::lock;
use crate::object::Operations;
use crate::protocol::{
    CallOptions, CancelReason, Chain, Event, Factory, Incoming, IncomingTarget, Op, Refs, Reply,
};
use crate::references;
use crate::remote::EngineHandles;

/// A call of the peer's that a method has to answer.
#[derive(Debug)]
pub(super) struct Answer {
    asker: Asker,
    pub(super) threads: Option<Threads>,
    pub(super) chain: Chain,
    how: How,
}

/// Who asks.
#[derive(Debug)]
struct Asker {
    number: Brine,
    threads: Option<Threads>,
    /// Bytes of the request.
    bytes: usize,
}

/// What is made of what the method returns.
#[derive(Debug)]
enum How {
    /// It is the answer.
    Value,
    /// Its opposite is.
    Not,
    /// Its bits are, as a number.
    Hash,
    /// It is, unless it is nothing: then this is.
    Or(Link),
    /// It is if it is a truth: whether an exception is swallowed.
    Exit,
    /// It is a batch of an iteration, of which the next element is the answer.
    Next(Arc<Mutex<Iteration>>),
    /// It is a batch of an iteration, of which so many elements are the answer.
    Some(Arc<Mutex<Iteration>>, usize),
}

/// What a request is about.
#[derive(Debug)]
enum Target {
    Object(Object, u64, Arc<Face>),
    Data(Shared),
    Iteration(Arc<Mutex<Iteration>>),
    Method(Arc<Method>),
}

/// Arguments by name.
type Named = Vec<(String, Value)>;

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
        boxed: Brine,
        factory: &dyn Factory<EngineHandles>,
    ) -> Result<(Value, Option<Exception>), Error> {
        let mut wrong = None;
        let value = self.unbox_one(boxed, factory, &mut wrong)?;
        Ok((value, wrong))
    }

    fn unbox_one(
        &mut self,
        boxed: Brine,
        factory: &dyn Factory<EngineHandles>,
        wrong: &mut Option<Exception>,
    ) -> Result<Value, Error> {
        let parts = wire::tuple(boxed).and_then(|parts| <[Brine; 2]>::try_from(parts).ok());
        let [of, held] = parts.ok_or_else(|| broken("something else than a box"))?;
        match wire::int(&of) {
            Some(label::VALUE) => Ok(held.into()),
            Some(label::TUPLE) => {
                let boxes = wire::tuple(held).ok_or_else(|| broken("a box of boxes that is no tuple"))?;
                let values: Result<Vec<Value>, Error> = boxes
                    .into_iter()
                    .map(|boxed| self.unbox_one(boxed, factory, wrong))
                    .collect();
                values.map(Value::Tuple)
            }
            Some(label::YOURS) => {
                let pack = Pack::read(held).ok_or_else(|| broken("the name of an object that is none"))?;
                match self.exports.find(&pack) {
                    Some((_, export)) => Ok(export.link.clone().into_value()),
                    None => {
                        wrong.get_or_insert_with(|| unknown(&pack));
                        Ok(Value::Null)
                    }
                }
            }
            Some(label::MINE) => {
                let pack = Pack::read(held).ok_or_else(|| broken("the name of an object that is none"))?;
                let most = self.limits.objects;
                let proxy = self.imports.take_in(pack, most, factory).ok_or_else(|| {
                    let text = format!("the peer has handed out more than {most} objects");
                    Error::new(farref_boxing::ErrorKind::Limit, text)
                })?;
                Ok(Link::Import(proxy).into_value())
            }
            _ => {
                let text = format!("invalid label {:?}", wire::int(&of).unwrap_or_default());
                wrong.get_or_insert_with(|| Exception::new("ValueError", [text]));
                Ok(Value::Null)
            }
        }
    }

    /// A request came.
    pub(super) fn requested(
        &mut self,
        message: Message,
        bytes: usize,
        factory: &dyn Factory<EngineHandles>,
    ) -> Result<(), Error> {
        let parts = wire::tuple(message.content).and_then(|parts| <[Brine; 2]>::try_from(parts).ok());
        let [handler, boxed] = parts.ok_or_else(|| broken("a request that is none"))?;
        let asker = Asker {
            number: message.number,
            threads: message.threads,
            bytes,
        };
        let (arguments, wrong) = self.unbox(boxed, factory)?;
        if wire::int(&handler) == Some(handler::CLOSE) {
            self.is_closing = true;
            self.events.push_back(Event::Closed(CloseReason::done()));
            return Ok(());
        }
        let told = match (wrong, arguments) {
            (Some(exception), _) => Err(exception),
            (None, Value::Tuple(arguments)) => match wire::int(&handler) {
                Some(handler) => self.perform(handler, Arguments::new(arguments), &asker),
                None => Err(Exception::new(
                    "KeyError",
                    ["the number of a request is an integer"],
                )),
            },
            (None, _) => Err(type_error("the arguments of a request are a tuple")),
        };
        match told {
            Ok(Some(value)) => self.respond(&asker, Ok(value)),
            Ok(None) => {}
            Err(exception) => self.respond(&asker, Err(exception)),
        }
        Ok(())
    }

    /// Does what was asked for: what to say, if it is known already.
    fn perform(&mut self, handler: i128, mut arguments: Arguments, asker: &Asker) -> Told {
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
                // No class of this side is ever handed out.
                return Ok(Some(Value::Bool(false)));
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
            handler::DELATTR => Err(inaccessible(&arguments.name()?)),
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
            Some(export) => export.link.clone().into_value(),
            None => Link::Data(Data::Record(Record::unit("VoidService")).into_shared()).into_value(),
        }
    }

    /// What of this side a value refers to.
    fn target(&self, value: &Value) -> Result<Target, Exception> {
        let foreign = || type_error("that is no object of this side");
        match link(value).ok_or_else(foreign)? {
            Link::Object(object) => {
                let (export, face) = self.exports.object(object).ok_or_else(foreign)?;
                Ok(Target::Object(object.clone(), export, face))
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

    /// The special methods of an object, which Python looks up on its type.
    fn inspect(&self, pack: &Value) -> Result<Value, Exception> {
        let parts = pack.as_slice().unwrap_or_default();
        let pack = match parts {
            [Value::Str(name), class, instance] => Pack {
                name: name.as_str().into(),
                class: class.as_i128().unwrap_or_default(),
                instance: instance.as_i128().unwrap_or_default(),
            },
            _ => return Err(type_error("the name of an object is a tuple of three")),
        };
        let (_, export) = self.exports.find(&pack).ok_or_else(|| unknown(&pack))?;
        let method = |name: &str| tuple([name.into(), Value::Null]);
        Ok(match (&export.face, &export.link) {
            (Some(face), _) => tuple(face.specials.iter().map(|name| method(name))),
            (None, Link::Data(data)) => {
                let data = lock(data);
                let names = data.names();
                tuple(
                    names
                        .into_iter()
                        .filter(|name| name.starts_with("__"))
                        .map(method),
                )
            }
            (None, Link::Iteration(_)) => tuple(["__iter__", "__next__"].map(method)),
            (None, _) => tuple(["__call__"].map(method)),
        })
    }

    fn names(&self, target: &Target) -> Value {
        let all = |names: Vec<&str>| tuple(names.into_iter().map(Value::from));
        match target {
            Target::Object(_, export, face) => {
                let mut names = face.names();
                if self.exports.root() == Some(*export) {
                    names.extend(SERVICE);
                }
                all(names)
            }
            Target::Data(data) => all(lock(data).names()),
            Target::Iteration(_) => all(vec!["__iter__", "__next__"]),
            Target::Method(_) => all(vec!["__call__", "__doc__", "__name__"]),
        }
    }

    fn get(&mut self, target: Target, name: &str, asker: &Asker) -> Told {
        match target {
            Target::Object(object, export, face) => {
                let bound = |of, name: &str, doc: &str| {
                    let method = Method {
                        of,
                        name: name.to_owned(),
                        doc: doc.to_owned(),
                    };
                    Ok(Some(Link::Method(Arc::new(method)).into_value()))
                };
                if name == "__doc__" {
                    return Ok(Some(document(&face.doc)));
                }
                match face.find(name) {
                    Some((name, Attribute::Method { doc })) => {
                        bound(Owner::Object(object, export), name, doc)
                    }
                    Some((
                        name,
                        Attribute::Property {
                            can_be_read: true, ..
                        },
                    )) => self.ask(asker, &object, export, Op::Get(name.to_owned()), &(), How::Value),
                    Some((name, Attribute::Property { .. })) => Err(Exception::new(
                        "AttributeError",
                        [format!("'{name}' can be written, and not read")],
                    )),
                    None if face.has_special(name) => bound(Owner::Object(object, export), name, ""),
                    None if self.exports.root() == Some(export) && is_of_service(name) => {
                        bound(Owner::Service, name, "")
                    }
                    None => Err(face.missing(name)),
                }
            }
            Target::Data(data) => {
                let field = lock(&data).field(name);
                if let Some(field) = field {
                    return Ok(Some(field));
                }
                if name == "__doc__" {
                    return Ok(Some(Value::Null));
                }
                let plain = name.strip_prefix("exposed_").unwrap_or(name);
                let is_method = lock(&data).has_method(plain);
                if !is_method {
                    return Err(inaccessible(name));
                }
                let method = Method {
                    of: Owner::Data(data),
                    name: plain.to_owned(),
                    doc: String::new(),
                };
                Ok(Some(Link::Method(Arc::new(method)).into_value()))
            }
            Target::Method(method) => match name {
                "__doc__" => Ok(Some(document(&method.doc))),
                "__name__" | "__qualname__" => Ok(Some(Value::Str(method.name.clone()))),
                _ => Err(inaccessible(name)),
            },
            Target::Iteration(_) => match name {
                "__doc__" => Ok(Some(Value::Null)),
                _ => Err(inaccessible(name)),
            },
        }
    }

    fn set(&mut self, target: &Target, name: &str, value: &Value, asker: &Asker) -> Told {
        let Target::Object(object, export, face) = target else {
            return Err(inaccessible(name));
        };
        match face.find(name) {
            Some((
                name,
                Attribute::Property {
                    can_be_written: true, ..
                },
            )) => {
                let op = Op::Set(name.to_owned());
                self.ask(asker, object, *export, op, &unshare(value.clone()), How::Value)
            }
            Some(_) => Err(Exception::new(
                "AttributeError",
                [format!("'{name}' cannot be set")],
            )),
            None => Err(face.missing(name)),
        }
    }

    fn call_it(&mut self, target: Target, positional: Vec<Value>, named: Named, asker: &Asker) -> Told {
        match target {
            Target::Object(object, export, face) => match &face.only {
                Some(name) => self.call_method(&object, export, name, positional, named, asker),
                None => Err(type_error(&format!("'{}' object is not callable", face.title))),
            },
            Target::Method(method) => match &method.of {
                Owner::Object(object, export) => {
                    let Some((export, face)) = self.exports.object(object).or_else(|| {
                        // Python may keep a method of what it has given back.
                        Some((*export, self.exports.face(object)))
                    }) else {
                        return Err(type_error("the object is gone"));
                    };
                    let target = Target::Object(object.clone(), export, face);
                    self.call_attribute(target, &method.name, positional, named, asker)
                }
                Owner::Data(data) => data::call(data, &method.name, positional, &named).map(Some),
                Owner::Service => Ok(Some(self.tell_service(&method.name))),
            },
            Target::Data(data) => {
                let name = lock(&data).name().to_owned();
                Err(type_error(&format!("'{name}' object is not callable")))
            }
            Target::Iteration(_) => Err(type_error("an iteration is not callable")),
        }
    }

    /// What every service of RPyC tells of itself.
    fn tell_service(&self, name: &str) -> Value {
        let root = self.exports.root().and_then(|root| self.exports.get(root));
        let title = root
            .and_then(|root| root.face.as_ref())
            .map(|face| face.title.clone());
        let title = title.unwrap_or_else(|| "Void".to_owned()).to_uppercase();
        if name == SERVICE[0] {
            tuple([Value::Str(title)])
        } else {
            Value::Str(title)
        }
    }

    fn call_attribute(
        &mut self,
        target: Target,
        name: &str,
        positional: Vec<Value>,
        named: Named,
        asker: &Asker,
    ) -> Told {
        match target {
            Target::Object(object, export, face) => {
                if let Some((name, Attribute::Method { .. })) = face.find(name) {
                    return self.call_method(&object, export, name, positional, named, asker);
                }
                let mut arguments = Arguments::new(positional);
                let is_there = || {
                    if face.has_special(name) {
                        Ok(())
                    } else {
                        Err(face.missing(name))
                    }
                };
                match name {
                    "__call__" => {
                        let positional = arguments.all();
                        let target = Target::Object(object, export, face);
                        self.call_it(target, positional, named, asker)
                    }
                    "__len__" => {
                        is_there()?;
                        self.ask(asker, &object, export, Op::Len, &(), How::Value)
                    }
                    "__getitem__" => {
                        is_there()?;
                        let key = unshare(arguments.next("key")?);
                        self.ask(asker, &object, export, Op::Index, &key, How::Value)
                    }
                    "__iter__" => {
                        is_there()?;
                        Ok(Some(
                            Link::iteration(Iterated::Object(object, export)).into_value(),
                        ))
                    }
                    "__enter__" => {
                        is_there()?;
                        let itself = Link::Object(object.clone());
                        if face.has_method(ENTER) {
                            let op = Op::Named(ENTER.to_owned());
                            return self.ask(asker, &object, export, op, &NO_ARGUMENTS, How::Or(itself));
                        }
                        Ok(Some(itself.into_value()))
                    }
                    "__exit__" => {
                        let exception = arguments.next("exception").unwrap_or_default();
                        self.leave(Target::Object(object, export, face), &exception, asker)
                    }
                    "__format__" if arguments.next("format")?.as_str() == Some("") => {
                        self.ask(asker, &object, export, Op::Text, &(), How::Value)
                    }
                    "__str__" => self.ask(asker, &object, export, Op::Text, &(), How::Value),
                    "__repr__" => self.ask(asker, &object, export, Op::Repr, &(), How::Value),
                    "__hash__" => self.hash(&Target::Object(object, export, face), asker),
                    "__eq__" | "__ne__" | "__lt__" | "__gt__" | "__le__" | "__ge__" => {
                        let other = arguments.next("other")?;
                        self.compare(&Target::Object(object, export, face), other, name, asker)
                    }
                    _ if self.exports.root() == Some(export) && is_of_service(name) => {
                        Ok(Some(self.tell_service(name)))
                    }
                    _ => match face.find(name) {
                        // Nothing that a property holds is called in one go.
                        Some(_) => Err(type_error(&format!(
                            "'{name}' is a property: read it, and call that"
                        ))),
                        None => Err(face.missing(name)),
                    },
                }
            }
            Target::Data(data) => {
                let called = data::call(&data, name, positional, &named)?;
                Ok(Some(called))
            }
            Target::Iteration(iteration) => match name {
                "__iter__" => Ok(Some(Link::Iteration(iteration).into_value())),
                "__next__" => self.next(iteration, asker),
                "__length_hint__" => Ok(Some(Value::from(lock(&iteration).ready.len()))),
                _ => Err(inaccessible(name)),
            },
            Target::Method(method) => match name {
                "__call__" => self.call_it(Target::Method(method), positional, named, asker),
                "__str__" | "__repr__" | "__format__" => {
                    Ok(Some(Value::Str(format!("<method {}>", method.name))))
                }
                _ => Err(inaccessible(name)),
            },
        }
    }

    /// Calls a method. What it takes by value is fetched first; the call keeps its place in the order meanwhile.
    fn call_method(
        &mut self,
        object: &Object,
        export: u64,
        name: &str,
        positional: Vec<Value>,
        named: Named,
        asker: &Asker,
    ) -> Told {
        let interface = object.object.interface();
        let method = interface
            .and_then(|interface| interface.find_named(name))
            .map(|(_, method)| method);
        let mut found = Vec::new();
        let wanted = |place: Option<usize>| match (method, place) {
            (Some(method), Some(place)) => method.levels_of(place),
            _ => 0,
        };
        for (place, value) in positional.iter().enumerate() {
            containers(value, wanted(Some(place)), &self.imports, &mut found);
        }
        for (name, value) in &named {
            let place =
                method.and_then(|method| method.arguments.iter().position(|argument| argument.name == name));
            containers(value, wanted(place), &self.imports, &mut found);
        }
        let op = Op::Named(name.to_owned());
        if found.is_empty() {
            let positional: Vec<Value> = positional.into_iter().map(unshare).collect();
            let named: Named = named
                .into_iter()
                .map(|(name, value)| (name, unshare(value)))
                .collect();
            return self.ask(asker, object, export, op, &(positional, named), How::Value);
        }
        let answer = self.admit(asker, How::Value)?;
        self.deliver(answer, object, export, op, None, Refs::new());
        let named = named
            .into_iter()
            .map(|(name, value)| tuple([Value::Str(name), value]));
        let all = tuple([Value::Tuple(positional), tuple(named)]);
        self.fetch_all(all, found, Goal::Answer(answer));
        Ok(None)
    }

    /// What a call takes has been fetched.
    pub(super) fn take_arguments(&mut self, answer: u64, arguments: Result<Value>) {
        let encoded = arguments.and_then(|arguments| {
            let [positional, named] = <[Value; 2]>::try_from(into_items(arguments)).unwrap_or_default();
            let positional: Vec<Value> = into_items(positional).into_iter().map(unshare).collect();
            let named: Named = into_items(named)
                .into_iter()
                .filter_map(|pair| {
                    let [name, value] = <[Value; 2]>::try_from(into_items(pair)).ok()?;
                    Some((name.as_str()?.to_owned(), unshare(value)))
                })
                .collect();
            encoded(&(positional, named))
        });
        match encoded {
            Ok((body, refs)) => self.events.push_back(Event::Body { answer, body, refs }),
            Err(error) => {
                self.events.push_back(Event::Cancelled {
                    answer,
                    reason: CancelReason::Upstream,
                });
                if let Some(answer) = self.over(answer) {
                    self.respond(&answer.asker, Err(Exception::of(&error)));
                }
            }
        }
    }

    fn text(&mut self, target: &Target, op: Op, asker: &Asker) -> Told {
        let text = match target {
            Target::Object(object, export, _) => {
                return self.ask(asker, object, *export, op, &(), How::Value);
            }
            Target::Data(data) => lock(data).repr(),
            Target::Iteration(_) => "<iteration>".to_owned(),
            Target::Method(method) => format!("<method {}>", method.name),
        };
        Ok(Some(Value::Str(text)))
    }

    /// Only these six can be asked for: a name is never looked up.
    fn compare(&mut self, target: &Target, other: Value, name: &str, asker: &Asker) -> Told {
        let unknown = || Ok(Some(Value::Record(Record::unit(NOT_IMPLEMENTED))));
        let how = match name {
            "__eq__" => How::Value,
            "__ne__" => How::Not,
            "__lt__" | "__gt__" | "__le__" | "__ge__" => return unknown(),
            _ => return Err(inaccessible(name)),
        };
        match target {
            Target::Object(object, export, _) => {
                if !matches!(link(&other), Some(Link::Object(_))) {
                    return unknown();
                }
                self.ask(asker, object, *export, Op::Compare, &other, how)
            }
            Target::Data(data) => {
                let same = match link(&other) {
                    Some(Link::Data(other)) if Arc::ptr_eq(data, other) => true,
                    Some(Link::Data(_)) => {
                        let own = Link::Data(Arc::clone(data)).into_value();
                        unshare(own) == unshare(other)
                    }
                    _ => return unknown(),
                };
                Ok(Some(Value::Bool(same == matches!(how, How::Value))))
            }
            Target::Iteration(_) | Target::Method(_) => unknown(),
        }
    }

    fn hash(&mut self, target: &Target, asker: &Asker) -> Told {
        match target {
            Target::Object(object, export, _) => {
                if object.object.operations().contains(Operations::HASH) {
                    return self.ask(asker, object, *export, Op::Hash, &(), How::Hash);
                }
                Ok(Some((*export).into()))
            }
            Target::Data(data) => {
                let name = lock(data).name();
                let name = name.strip_prefix("builtins.").unwrap_or(name);
                Err(type_error(&format!("unhashable type: '{name}'")))
            }
            Target::Iteration(iteration) => Ok(Some(crate::hosted::address(iteration).into())),
            Target::Method(method) => Ok(Some(crate::hosted::address(method).into())),
        }
    }

    /// A context is left. The class of an exception is all that Python tells of it.
    fn leave(&mut self, target: Target, exception: &Value, asker: &Asker) -> Told {
        let Target::Object(object, export, face) = target else {
            return Ok(Some(Value::Null));
        };
        let what = match link(exception) {
            Some(Link::Import(class)) => {
                let name = self.imports.pack(class.id()).map(|pack| pack.name.to_string());
                name.map_or(Value::Null, |name| {
                    Value::Str(name.trim_start_matches("builtins.").to_owned())
                })
            }
            _ => Value::Null,
        };
        let name = match (face.has_method(EXIT), face.has_method(CLOSE)) {
            (true, _) => EXIT,
            (false, true) => CLOSE,
            (false, false) => return Ok(Some(Value::Null)),
        };
        let interface = object.object.interface();
        let takes = interface
            .and_then(|interface| interface.find_named(name))
            .map_or(0, |(_, method)| method.arguments.len());
        let positional = if takes > 0 { vec![what] } else { Vec::new() };
        let op = Op::Named(name.to_owned());
        let arguments = (positional, Vec::<(String, Value)>::new());
        self.ask(asker, &object, export, op, &arguments, How::Exit)
    }

    // ---- iterating

    fn next(&mut self, iteration: Arc<Mutex<Iteration>>, asker: &Asker) -> Told {
        if let Some(next) = lock(&iteration).take_next() {
            return next.map(Some);
        }
        self.fill(iteration, ONE_BATCH, asker, How::Next)
    }

    fn some(&mut self, target: Target, many: usize, asker: &Asker) -> Told {
        let iteration = match target {
            Target::Iteration(iteration) => iteration,
            Target::Data(data) => {
                let Link::Iteration(iteration) = Link::over(&data) else {
                    return Err(type_error("that cannot be iterated over"));
                };
                iteration
            }
            Target::Object(object, export, face) if face.has_special("__iter__") => {
                let Link::Iteration(iteration) = Link::iteration(Iterated::Object(object, export)) else {
                    return Err(type_error("that cannot be iterated over"));
                };
                iteration
            }
            _ => return Err(type_error("that cannot be iterated over")),
        };
        if let Some(some) = lock(&iteration).take_some(many) {
            return Ok(Some(Value::Tuple(some)));
        }
        self.fill(iteration, many, asker, |iteration| How::Some(iteration, many))
    }

    /// Asks for a batch of what is iterated over.
    fn fill(
        &mut self,
        iteration: Arc<Mutex<Iteration>>,
        most: usize,
        asker: &Asker,
        how: impl FnOnce(Arc<Mutex<Iteration>>) -> How,
    ) -> Told {
        let (over, from) = {
            let iteration = lock(&iteration);
            (iteration.over.clone(), iteration.from)
        };
        match over {
            Iterated::Object(object, export) => {
                let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
                let arguments = (from as u64, most);
                let how = how(iteration);
                self.ask(asker, &object, export, Op::Iterate, &arguments, how)
            }
            Iterated::Data(data) => {
                let batch = lock(&data).some(from, most.max(1));
                let is_end = batch.len() < most.max(1);
                let mut filled = lock(&iteration);
                filled.add(batch, is_end);
                drop(filled);
                give(how(iteration))
            }
        }
    }

    // ---- asking methods

    /// Has the engine do something with an object.
    fn ask(
        &mut self,
        asker: &Asker,
        object: &Object,
        export: u64,
        op: Op,
        arguments: &impl serde::Serialize,
        how: How,
    ) -> Told {
        let (body, refs) = encoded(arguments).map_err(|error| Exception::of(&error))?;
        let answer = self.admit(asker, how)?;
        self.deliver(answer, object, export, op, Some(body), refs);
        Ok(None)
    }

    /// Lets a call in, if there are not too many.
    fn admit(&mut self, asker: &Asker, how: How) -> Result<u64, Exception> {
        let bytes = self.answering.saturating_add(asker.bytes);
        let is_much = bytes > self.limits.call_bytes && self.answering > 0;
        if self.answers.len() >= self.limits.calls || is_much {
            let text = format!(
                "{} calls of {} bytes are under way, and no more are let in: wait for some",
                self.answers.len(),
                self.answering,
            );
            return Err(Exception::new("BlockingIOError", [text]));
        }
        self.answering = bytes;
        self.last_answer = self.last_answer.wrapping_add(1);
        let answer = self.last_answer;
        let chain = self.chain_for(asker.threads);
        let threads = asker.threads.map(|threads| Threads {
            from: threads.from,
            to: threads.to,
        });
        self.answers.insert(
            answer,
            Answer {
                asker: Asker {
                    number: asker.number.clone(),
                    threads: asker.threads,
                    bytes: asker.bytes,
                },
                threads,
                chain,
                how,
            },
        );
        Ok(answer)
    }

    /// The chain of calls that a request is a part of. A peer that binds threads tells; one that does not waits for what
    /// we asked last, if it waits for anything: Python runs what comes meanwhile as a part of that.
    fn chain_for(&self, threads: Option<Threads>) -> Chain {
        let call = match threads {
            Some(Threads { to: 0, .. }) => None,
            Some(Threads { to, .. }) => self.chained.iter().find(|call| own_thread(**call) == to),
            None => self.chained.last(),
        };
        let chain = call.and_then(|call| self.calls.get(call)?.chain);
        chain.map_or_else(chain::fresh, chain::nested)
    }

    fn deliver(
        &mut self,
        answer: u64,
        object: &Object,
        export: u64,
        op: Op,
        body: Option<Bytes>,
        refs: Refs<crate::protocol::Received<EngineHandles>>,
    ) {
        let chain = self.answers.get(&answer).map(|answer| answer.chain);
        let target = IncomingTarget::Object {
            object: Arc::clone(&object.object),
            export,
            interface: object.interface,
        };
        let options = CallOptions {
            chain,
            ..CallOptions::default()
        };
        self.events.push_back(Event::Call(Incoming {
            answer,
            target,
            op,
            options,
            body,
            refs,
        }));
    }

    fn over(&mut self, answer: u64) -> Option<Answer> {
        let answer = self.answers.remove(&answer)?;
        self.answering = self.answering.saturating_sub(answer.asker.bytes);
        Some(answer)
    }

    /// A method has answered.
    pub(super) fn answered(&mut self, answer: u64, reply: Reply<'_, EngineHandles>) {
        let Some(Answer { asker, how, .. }) = self.over(answer) else {
            return;
        };
        let told = match reply {
            Reply::Value {
                failure: Some(error), ..
            } => Err(Exception::of(&error)),
            Reply::Value { body, refs, .. } => {
                let references: Vec<_> = refs.into_iter().map(reference).collect();
                let value = decode::<Value>(&flat(body), &references, &references::limits());
                value
                    .map_err(|error| Exception::of(&error.into()))
                    .and_then(|value| finish(how, value))
            }
            Reply::Error { error, .. } => Err(Exception::of(&error)),
        };
        self.respond(&asker, told);
    }

    /// Answers a request.
    fn respond(&mut self, asker: &Asker, told: Result<Value, Exception>) {
        let threads = asker.threads.map(|threads| Threads {
            from: if threads.to == 0 { OWN_THREAD } else { threads.to },
            to: threads.from,
        });
        let mut content = BytesMut::with_capacity(64);
        let told = told.and_then(|value| {
            let mut handed = Vec::new();
            let boxed = self.put_box(&value, &mut handed, &mut content);
            boxed.map_err(|error| {
                self.take_back(&handed);
                Exception::of(&error)
            })
        });
        let kind = match told {
            Ok(()) => Kind::Reply,
            Err(exception) => {
                content.clear();
                exception.put(&mut content);
                Kind::Exception
            }
        };
        if let Err(error) = self.write(kind, &asker.number, threads, &content) {
            content.clear();
            Exception::of(&error).put(&mut content);
            // A short one: it has no limit to meet.
            drop(self.write(Kind::Exception, &asker.number, threads, &content));
        }
    }
}

/// What is said when a method has returned `value`.
fn finish(how: How, value: Value) -> Result<Value, Exception> {
    match how {
        How::Value => Ok(value),
        How::Not => Ok(match value {
            Value::Bool(value) => Value::Bool(!value),
            other => other,
        }),
        #[expect(clippy::cast_possible_wrap, reason = "its bits are what counts")]
        How::Hash => Ok(value.as_u64().map_or(value, |hash| (hash as i64).into())),
        How::Or(link) => Ok(match value {
            Value::Null => link.into_value(),
            other => other,
        }),
        How::Exit => Ok(match value {
            Value::Bool(swallows) => Value::Bool(swallows),
            _ => Value::Bool(false),
        }),
        How::Next(ref iteration) | How::Some(ref iteration, _) => {
            let [items, is_end] = <[Value; 2]>::try_from(into_items(value)).unwrap_or_default();
            let is_end = !matches!(is_end, Value::Bool(false));
            lock(iteration).add(into_items(items), is_end);
            give(how).map(Option::unwrap_or_default)
        }
    }
}

/// The elements that were asked for, of a batch that has come.
fn give(how: How) -> Told {
    match how {
        How::Next(iteration) => {
            let mut iteration = lock(&iteration);
            iteration.take_next().unwrap_or_else(|| Err(stop())).map(Some)
        }
        How::Some(iteration, many) => {
            let some = lock(&iteration).take_some(many).unwrap_or_default();
            Ok(Some(Value::Tuple(some)))
        }
        _ => Ok(Some(Value::Null)),
    }
}

impl Iteration {
    fn add(&mut self, batch: Vec<Value>, is_end: bool) {
        self.from = self.from.saturating_add(batch.len());
        self.is_end = is_end || batch.is_empty();
        self.ready.extend(batch);
    }

    /// The next element, or that there is none; nothing if it has to be asked for.
    fn take_next(&mut self) -> Option<Result<Value, Exception>> {
        match self.ready.pop_front() {
            Some(next) => Some(Ok(next)),
            None => self.is_end.then(|| Err(stop())),
        }
    }

    /// Some elements; nothing if they have to be asked for.
    fn take_some(&mut self, many: usize) -> Option<Vec<Value>> {
        if self.ready.is_empty() && !self.is_end {
            return None;
        }
        let many = many.min(self.ready.len());
        Some(self.ready.drain(..many).collect())
    }
}

/// The arguments of a request, one behind the other.
struct Arguments(std::vec::IntoIter<Value>);

impl Arguments {
    fn new(arguments: Vec<Value>) -> Self {
        Self(arguments.into_iter())
    }

    fn next(&mut self, name: &str) -> Result<Value, Exception> {
        let missing = || type_error(&format!("missing 1 required positional argument: '{name}'"));
        self.0.next().ok_or_else(missing)
    }

    fn name(&mut self) -> Result<String, Exception> {
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
    fn call(&mut self) -> Result<(Vec<Value>, Named), Exception> {
        let positional = into_items(self.next("args")?);
        let named = into_items(self.next("kwargs").unwrap_or_else(|_| tuple([])));
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

    fn all(&mut self) -> Vec<Value> {
        self.0.by_ref().collect()
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

fn type_error(text: &str) -> Exception {
    Exception::new("TypeError", [text])
}

/// What every root of RPyC answers.
const SERVICE: [&str; 2] = ["get_service_aliases", "get_service_name"];
/// A call without arguments.
const NO_ARGUMENTS: ([Value; 0], [(String, Value); 0]) = ([], []);
/// Elements that are asked for where Python asks for one.
const ONE_BATCH: usize = 64;
/// Elements that Python may ask for at once.
const LARGEST_BATCH: usize = 4096;
