//! Objects that answer by name alone, without a trait.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use farref_boxing::{Error, ErrorKind, Result, Value};

use super::{Arguments, Description, Object, Operations, Place};
use crate::hosted::{Exported, address};
use crate::interface::{Interface, interface_id};
use crate::invocation::{Dispatched, Invocation, OPERATION};
use crate::panics;
use crate::protocol::Op;

/// An object that answers by name alone: what it can do is known when the program runs, not when it is compiled.
///
/// It is for what stands for something else: a module of another language, a configuration, a device whose commands are in
/// a file. [`Object::dynamic`] shares one; peers use it by name, as any other.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::object::{Arguments, Description, Dynamic, MethodDescription};
/// use farref::protocol::Op;
/// use farref::{Error, Object, Result, Value};
///
/// struct Echo;
///
/// impl Dynamic for Echo {
///     fn describe(&self) -> Description {
///         Description::by_name("Echo").with_method(MethodDescription::by_name("say").with_doc("Says it."))
///     }
///
///     fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
///         match op {
///             Op::Named(name) if name == "say" => Ok(arguments.positional().first().cloned().unwrap_or_default()),
///             op => Err(Error::msg(format!("an echo cannot {op}"))),
///         }
///     }
/// }
///
/// let echo = Object::dynamic(Echo);
/// assert_eq!(echo.dir().wait()?, ["say"]);
/// assert_eq!(echo.call("say", ("hello",)).wait()?.as_str(), Some("hello"));
/// # Ok::<(), Error>(())
/// ```
pub trait Dynamic: Send + Sync + 'static {
    /// What it can do. Asked once, when it is shared.
    ///
    /// Its [`operations`](Description::operations) may name more than those of a trait's objects: `call` (it is called
    /// itself), `get`, `set` and `delete` (it has attributes that its description does not list), `set_index` and
    /// `delete_index`, `order` (it can be compared with `<`), `enter` and `exit`, and `class` (it is a class: calling it
    /// makes objects of its interface).
    fn describe(&self) -> Description;

    /// Does what is asked, on a thread that may wait.
    ///
    /// An operation that takes a value has it as its only argument; [`Op::SetIndex`] has the key and the value,
    /// [`Op::Iterate`] the number of the first element and how many are wanted at most: the answer is a list of them, and
    /// whether they are the last ones, in a tuple. [`Op::Exit`] has what went wrong as a text, or nothing.
    ///
    /// # Errors
    ///
    /// What the caller is told. [`ErrorKind::Unimplemented`] for what it does not know.
    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value>;
}

/// An object that answers by name, as it is handed out.
struct Answering {
    object: Arc<dyn Dynamic>,
    description: Arc<Description>,
}

impl Object {
    /// Shares an object that answers by name alone.
    #[must_use]
    pub fn dynamic(object: impl Dynamic) -> Self {
        let description = Arc::new(object.describe());
        Self::new(Place::Here(Arc::new(Answering {
            object: Arc::new(object),
            description,
        })))
    }
}

impl Answering {
    fn answer(&self, invocation: &Invocation) {
        let performed = arguments(invocation).and_then(|arguments| {
            let perform = || self.object.perform(&invocation.request.op, arguments);
            panics::guard(perform)
                .unwrap_or_else(|panic| Err(Error::new(ErrorKind::Panicked, panic.message().into_owned())))
        });
        match performed {
            Ok(value) => invocation.reply_value(&value),
            // What it lacks is told as of any object.
            Err(error) if error.kind() == ErrorKind::Unimplemented => invocation.fail(error, false),
            Err(error) => invocation.reply_failure(&error),
        }
    }
}

/// What goes with an operation.
fn arguments(invocation: &Invocation) -> Result<Arguments> {
    Ok(match &invocation.request.op {
        Op::Named(_) | Op::Invoke => invocation.named()?,
        Op::Set(_) | Op::Index | Op::DeleteIndex | Op::Compare | Op::Order(_) => {
            vec![invocation.decode::<Value>()?].into()
        }
        Op::SetIndex => {
            let (key, value) = invocation.decode::<(Value, Value)>()?;
            vec![key, value].into()
        }
        Op::Iterate => {
            let (from, most) = invocation.decode::<(u64, u32)>()?;
            vec![from.into(), most.into()].into()
        }
        Op::Exit => {
            let because = invocation.decode::<Option<Error>>()?;
            vec![because.map_or(Value::Null, |error| Value::Str(error.to_string()))].into()
        }
        _ => Arguments::new(),
    })
}

impl Exported for Answering {
    fn interface_id(&self) -> u64 {
        let interface = self.description.interfaces.first();
        interface.map_or(0, |interface| interface_id(&interface.name, interface.version))
    }

    fn interface(&self) -> Option<&'static Interface> {
        None
    }

    fn dispatch(&self, invocation: Invocation) -> Dispatched {
        match &invocation.request.op {
            Op::Describe => {
                invocation.reply_description(&self.description);
                Dispatched::Done
            }
            Op::IsInstance(class) => {
                let is = self
                    .description
                    .interfaces
                    .iter()
                    .any(|known| known.name == *class);
                invocation.reply_value(&Value::Bool(is));
                Dispatched::Done
            }
            Op::Method { .. } => {
                let text = "the object has no trait: it is called by name";
                invocation.fail(Error::new(ErrorKind::Denied, text), false);
                Dispatched::Done
            }
            _ => {
                let this = Self {
                    object: Arc::clone(&self.object),
                    description: Arc::clone(&self.description),
                };
                Dispatched::Blocking(Box::new(move || this.answer(&invocation)), &OPERATION)
            }
        }
    }

    fn key(&self) -> usize {
        address(&self.object)
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn Any>> {
        None
    }

    fn operations(&self) -> Operations {
        let names: Vec<&str> = self.description.operations.iter().map(String::as_str).collect();
        Operations::named(&names)
    }

    fn description(&self) -> Option<Arc<Description>> {
        Some(Arc::clone(&self.description))
    }
}

impl fmt::Debug for dyn Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dynamic")
    }
}
