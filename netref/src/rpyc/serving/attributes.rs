//! Attributes, and what else is read of an object.

use super::*;
use crate::protocol::Ordering;

impl Rpyc {
    /// The special methods of an object, which Python looks up on its type.
    pub(super) fn inspect(&self, pack: &Value) -> Result<Value, Exception> {
        let pack = read_pack(pack)?;
        let (_, export) = self.exports.find(pack).ok_or_else(|| unknown(pack))?;
        let method = |name: &str| tuple([name.into(), Value::Null]);
        Ok(match (&export.face, &*export.link) {
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

    /// Whether what a name leads to is an object of a class.
    pub(super) fn is_instance(&self, class: &Value, pack: &Value) -> Result<bool, Exception> {
        let Target::Object(_, class, face) = self.target(class)? else {
            return Ok(false);
        };
        let pack = read_pack(pack)?;
        let of = self.exports.find(pack).and_then(|(number, export)| {
            let face = export.face.as_ref()?;
            (number != class).then_some(face.class)
        });
        Ok(face.is_class && of == Some(face.class))
    }

    pub(super) fn names(&self, target: &Target) -> Value {
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

    pub(super) fn get(&mut self, target: Target, name: &str, asker: &Asker) -> Told {
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
                    None if face.is_open("get", name) => {
                        self.ask(asker, &object, export, Op::Get(name.to_owned()), &(), How::Value)
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
            Target::Iteration(iteration) => match name {
                "__iter__" | "__next__" => {
                    let method = Method {
                        of: Owner::Iteration(iteration),
                        name: name.to_owned(),
                        doc: String::new(),
                    };
                    Ok(Some(Link::Method(Arc::new(method)).into_value()))
                }
                "__doc__" => Ok(Some(Value::Null)),
                _ => Err(inaccessible(name)),
            },
        }
    }

    pub(super) fn set(&mut self, target: &Target, name: &str, value: &Value, asker: &Asker) -> Told {
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
                self.ask(asker, object, *export, op, &plain(value.clone())?, How::Value)
            }
            None if face.is_open("set", name) => {
                let op = Op::Set(name.to_owned());
                self.ask(asker, object, *export, op, &plain(value.clone())?, How::Value)
            }
            Some(_) => Err(Exception::new(
                "AttributeError",
                [format!("'{name}' cannot be set")],
            )),
            None => Err(face.missing(name)),
        }
    }
    pub(super) fn text(&mut self, target: &Target, op: Op, asker: &Asker) -> Told {
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
    pub(super) fn compare(&mut self, target: &Target, other: Value, name: &str, asker: &Asker) -> Told {
        let unknown = || Ok(Some(Value::Record(Record::unit(NOT_IMPLEMENTED))));
        let how = match name {
            "__eq__" => How::Value,
            "__ne__" => How::Not,
            "__lt__" => return self.order(target, &other, Ordering::Less, asker),
            "__gt__" => return self.order(target, &other, Ordering::Greater, asker),
            "__le__" => return self.order(target, &other, Ordering::LessEqual, asker),
            "__ge__" => return self.order(target, &other, Ordering::GreaterEqual, asker),
            _ => return Err(inaccessible(name)),
        };
        match target {
            Target::Object(object, export, face) => {
                // An object with a trait equals none but objects.
                if !face.does("eq") && !matches!(link(&other), Some(Link::Object(_))) {
                    return unknown();
                }
                self.ask(asker, object, *export, Op::Compare, &plain(other)?, how)
            }
            Target::Data(data) => {
                let same = match link(&other) {
                    Some(Link::Data(other)) if Arc::ptr_eq(data, other) => true,
                    Some(Link::Data(_)) => {
                        let own = Link::Data(Arc::clone(data)).into_value();
                        plain(own)? == plain(other)?
                    }
                    _ => return unknown(),
                };
                Ok(Some(Value::Bool(same == matches!(how, How::Value))))
            }
            Target::Iteration(_) | Target::Method(_) => unknown(),
        }
    }

    fn order(&mut self, target: &Target, other: &Value, ordering: Ordering, asker: &Asker) -> Told {
        match target {
            Target::Object(object, export, face) if face.does("order") => {
                let op = Op::Order(ordering);
                self.ask(asker, object, *export, op, &plain(other.clone())?, How::Value)
            }
            _ => Ok(Some(Value::Record(Record::unit(NOT_IMPLEMENTED)))),
        }
    }

    fn number_of(&self, link: &Link) -> Told {
        Ok(Some(self.exports.number(link).unwrap_or_default().into()))
    }

    pub(super) fn hash(&mut self, target: &Target, asker: &Asker) -> Told {
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
                Err(type_error(format!("unhashable type: '{name}'")))
            }
            // Not their addresses, which are nobody's business.
            Target::Iteration(iteration) => self.number_of(&Link::Iteration(Arc::clone(iteration))),
            Target::Method(method) => self.number_of(&Link::Method(Arc::clone(method))),
        }
    }
}

/// A value as methods of this side take it.
pub(super) fn plain(value: Value) -> Result<Value, Exception> {
    unshare(value).map_err(|error| Exception::of(&error))
}

/// The name of an object, which goes by value.
fn read_pack(pack: &Value) -> Result<PackRef<'_>, Exception> {
    match pack.as_slice().unwrap_or_default() {
        [Value::Str(name), class, instance] => Ok(PackRef {
            name: name.as_bytes(),
            class: class.as_i128().unwrap_or_default(),
            instance: instance.as_i128().unwrap_or_default(),
        }),
        _ => Err(type_error("the name of an object is a tuple of three")),
    }
}
