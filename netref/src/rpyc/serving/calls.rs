//! Calls: of objects, of their methods, of special methods.

use super::answers::are_plain;
use super::attributes::plain;
use super::*;

impl Rpyc {
    pub(super) fn call_it(
        &mut self,
        target: Target,
        positional: Vec<Value>,
        named: Named,
        asker: &Asker,
    ) -> Told {
        match target {
            Target::Object(object, export, face) => match &face.only {
                Some(name) => self.call_method(&object, export, name, positional, named, asker),
                None if face.does("call") || face.is_class => {
                    self.ask_with(asker, &object, export, Op::Invoke, positional, named)
                }
                None => Err(type_error(format!("'{}' object is not callable", face.title))),
            },
            Target::Method(method) => match &method.of {
                Owner::Object(object, export) => {
                    let known = self.exports.object_of(object, *export);
                    if let Some((export, face)) = known
                        && let Some((name, Attribute::Method { .. })) = face.find(&method.name)
                    {
                        return self.call_method(object, export, name, positional, named, asker);
                    }
                    let (export, face) = match known {
                        Some((export, face)) => (export, Arc::clone(face)),
                        // Python may keep a method of what it has given back.
                        None => (*export, self.exports.face(object)),
                    };
                    let target = Target::Object(object.clone(), export, face);
                    self.call_attribute(target, &method.name, positional, named, asker)
                }
                Owner::Data(data) => {
                    data::call(data, &method.name, positional, &named, &self.growth).map(Some)
                }
                Owner::Iteration(iteration) => {
                    let target = Target::Iteration(Arc::clone(iteration));
                    self.call_attribute(target, &method.name, positional, named, asker)
                }
                Owner::Service => Ok(Some(self.tell_service(&method.name))),
            },
            Target::Data(data) => {
                let name = lock(&data).name().to_owned();
                Err(type_error(format!("'{name}' object is not callable")))
            }
            Target::Iteration(_) => Err(type_error("an iteration is not callable")),
        }
    }

    /// What every service of RPyC tells of itself.
    pub(super) fn tell_service(&self, name: &str) -> Value {
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

    pub(super) fn call_attribute(
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
                let mut arguments = Arguments::from(positional);
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
                        let key = plain(arguments.next("key")?)?;
                        // Python iterates by index until there is an IndexError, and by nothing else.
                        let class = if key.as_i128().is_some() {
                            "IndexError"
                        } else {
                            "KeyError"
                        };
                        self.ask(asker, &object, export, Op::Index, &key, How::Element(class))
                    }
                    "__setitem__" => {
                        is_there()?;
                        let entry = (plain(arguments.next("key")?)?, plain(arguments.next("value")?)?);
                        self.ask(asker, &object, export, Op::SetIndex, &entry, How::Value)
                    }
                    "__delitem__" => {
                        is_there()?;
                        let key = plain(arguments.next("key")?)?;
                        self.ask(asker, &object, export, Op::DeleteIndex, &key, How::Value)
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
                        if face.does("enter") {
                            return self.ask(asker, &object, export, Op::Enter, &(), How::Or(itself));
                        }
                        if face.has_method(ENTER) {
                            let op = Op::Named(ENTER.to_owned());
                            let none = (Vec::<Value>::new(), Named::new());
                            return self.ask(asker, &object, export, op, &none, How::Or(itself));
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
                    _ if face.is_open("get", name) => {
                        let positional = arguments.all();
                        self.call_method(&object, export, name, positional, named, asker)
                    }
                    _ => match face.find(name) {
                        // Nothing that a property holds is called in one go.
                        Some(_) => Err(type_error(format!(
                            "'{name}' is a property: read it, and call that"
                        ))),
                        None => Err(face.missing(name)),
                    },
                }
            }
            Target::Data(data) => {
                let called = data::call(&data, name, positional, &named, &self.growth)?;
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
    pub(super) fn call_method(
        &mut self,
        object: &Object,
        export: u64,
        name: &str,
        positional: Vec<Value>,
        named: Named,
        asker: &Asker,
    ) -> Told {
        let op = Op::Named(name.to_owned());
        if positional.is_empty() && named.is_empty() {
            let none = Came::Encoded(Bytes::from_static(object::Arguments::NONE), Refs::new());
            self.deliver(asker, How::Value, object, export, op, none)?;
            return Ok(None);
        }
        if are_plain(&positional, &named) {
            return self.ask_plain(asker, object, export, op, positional, named);
        }
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
        if found.is_empty() {
            return self.ask_with(asker, object, export, op, positional, named);
        }
        let answer = self.deliver(asker, How::Value, object, export, op, Came::Later)?;
        let named = named
            .into_iter()
            .map(|(name, value)| tuple([Value::Str(name), value]));
        let all = tuple([Value::Tuple(positional), tuple(named)]);
        self.fetch_all(all, found, Goal::Answer(answer));
        Ok(None)
    }

    /// What a call takes has been fetched.
    pub(in crate::rpyc) fn take_arguments(&mut self, answer: u64, arguments: Result<Value>) {
        let encoded = arguments.and_then(|arguments| {
            let [positional, named] = <[Value; 2]>::try_from(into_items(arguments)).unwrap_or_default();
            let named: Named = into_items(named)
                .into_iter()
                .filter_map(|pair| {
                    let [name, value] = <[Value; 2]>::try_from(into_items(pair)).ok()?;
                    Some((name.as_str()?.to_owned(), value))
                })
                .collect();
            encoded(&unshare_all(into_items(positional), named)?)
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
    /// A context is left. The class of an exception is all that Python tells of it.
    pub(super) fn leave(&mut self, target: Target, exception: &Value, asker: &Asker) -> Told {
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
        if face.does("exit") {
            let because = what.as_str().map(|class| Error::msg(class.to_owned()));
            return self.ask(asker, &object, export, Op::Exit, &because, How::Exit);
        }
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
}
