//! What the engine wants done, in the words of Python.

use super::*;

/// How a reply is read.
#[derive(Debug, Clone, Copy)]
pub(in crate::rpyc) enum How {
    /// As it is; so many levels of containers in it are fetched.
    Value { fetch: u8 },
    /// Whether two are equal; if Python does not know, whether they are the same.
    Equal { same: bool },
    /// How two stand to each other, which Python has to know.
    Order(Ordering),
    /// As a number of 64 bits, whatever its sign.
    Hash,
    /// It does not matter.
    Nothing,
}

/// What is to be done with an object, once it is known.
#[derive(Debug)]
pub(in crate::rpyc) enum Plan {
    /// One request.
    Request {
        handler: i128,
        arguments: Vec<Value>,
        how: How,
    },
    /// A method, or the object itself where that is a function.
    Method {
        name: String,
        positional: Value,
        named: Value,
        fetch: u8,
    },
    Iterate {
        from: u64,
        most: u32,
    },
    Describe,
    Copy,
    Is(String),
    Equal(Value),
}

/// What the engine wants done, in the words of Python.
pub(super) fn plan(op: &Op, body: &Bytes, references: &[Reference], fetch: u8) -> Result<Plan, Error> {
    let how = How::Value { fetch };
    let one = || read::<Value>(body, references);
    Ok(match op {
        Op::Named(name) => {
            let (positional, named) = read::<(Vec<Value>, Vec<(String, Value)>)>(body, references)?;
            // A relay may have put the name of an interface before it.
            let name = name.rsplit('.').next().unwrap_or(name).to_owned();
            Plan::Method {
                name,
                positional: Value::Tuple(positional),
                named: keywords(named),
                fetch,
            }
        }
        Op::Invoke => {
            let (positional, named) = read::<(Vec<Value>, Vec<(String, Value)>)>(body, references)?;
            request(
                handler::CALL,
                vec![Value::Tuple(positional), keywords(named)],
                how,
            )
        }
        Op::Get(name) => request(handler::GETATTR, vec![plain_name(name)], how),
        Op::Set(name) => request(handler::SETATTR, vec![plain_name(name), one()?], How::Nothing),
        Op::Delete(name) => request(handler::DELATTR, vec![plain_name(name)], How::Nothing),
        Op::Index => special("__getitem__", vec![one()?], how),
        Op::SetIndex => {
            let (key, value) = read::<(Value, Value)>(body, references)?;
            special("__setitem__", vec![key, value], How::Nothing)
        }
        Op::DeleteIndex => special("__delitem__", vec![one()?], How::Nothing),
        Op::Len => special("__len__", Vec::new(), how),
        Op::Compare => Plan::Equal(one()?),
        Op::Order(ordering) => {
            let name = match ordering {
                Ordering::Less => "__lt__",
                Ordering::LessEqual => "__le__",
                Ordering::Greater => "__gt__",
                Ordering::GreaterEqual => "__ge__",
            };
            request(handler::CMP, vec![one()?, name.into()], How::Order(*ordering))
        }
        Op::Hash => request(handler::HASH, Vec::new(), How::Hash),
        Op::Text => request(handler::STR, Vec::new(), how),
        Op::Repr => request(handler::REPR, Vec::new(), how),
        Op::Iterate => {
            let (from, most) = read::<(u64, u32)>(body, references)?;
            Plan::Iterate { from, most }
        }
        Op::Enter => special("__enter__", Vec::new(), how),
        // Whatever is told of what went wrong, Python makes a TypeError of it.
        Op::Exit => {
            let because = read::<Option<Error>>(body, references)?;
            let because = because.map_or(Value::Null, |error| Value::Str(error.to_string()));
            request(handler::CTXEXIT, vec![because], how)
        }
        Op::IsInstance(name) => Plan::Is(name.clone()),
        Op::Describe => Plan::Describe,
        Op::Copy => Plan::Copy,
        Op::Method { .. } => {
            let text =
                "a Python object has no interface: it is called by name, or by a netref that was cast here";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    })
}

const fn request(handler: i128, arguments: Vec<Value>, how: How) -> Plan {
    Plan::Request {
        handler,
        arguments,
        how,
    }
}

/// A call of a special method.
fn special(name: &str, arguments: Vec<Value>, how: How) -> Plan {
    let arguments = vec![name.into(), Value::Tuple(arguments), tuple([])];
    request(handler::CALLATTR, arguments, how)
}

fn plain_name(name: &str) -> Value {
    name.rsplit('.').next().unwrap_or(name).into()
}

fn keywords(named: Vec<(String, Value)>) -> Value {
    tuple(named.into_iter().map(|(name, value)| tuple([name.into(), value])))
}

fn read<T: serde::de::DeserializeOwned>(body: &Bytes, references: &[Reference]) -> Result<T, Error> {
    decode(body, references, &references::limits()).map_err(Error::from)
}

/// Whether a class of that full name is meant: with its module, or without.
pub(super) fn is_named(full: &str, name: &str) -> bool {
    full == name || full.rsplit('.').next() == Some(name)
}
