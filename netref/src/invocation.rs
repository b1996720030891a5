//! A call of the peer's on its way to the method: decoded, run, answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{As, Error, ErrorKind, Reference, SerializeAs, decode};
use serde::de::Deserialize;

use crate::call::BoxFuture;
use crate::encoders;
use crate::interface::{Interface, Method};
use crate::protocol::{Op, Received, Refs};
use crate::references;
use crate::remote::{Conduit, EngineHandles};
use crate::result::MethodResult;

/// A call of the peer's, as the dispatch code of a remote trait sees it.
pub struct Invocation {
    pub(crate) conduit: Arc<dyn Conduit>,
    pub(crate) answer: u64,
    pub(crate) op: Op,
    pub(crate) options: crate::protocol::CallOptions,
    pub(crate) body: Bytes,
    pub(crate) references: Vec<Reference>,
}

/// What is to be done for a call, or that nothing is left to be done.
///
/// Async methods are first polled in the order in which the calls came, by whoever reads the connection, and
/// spawned only if they wait. Blocking methods run on a bounded pool. Either answers by itself.
#[non_exhaustive]
pub enum Dispatched {
    /// Polled first in order, then concurrently.
    Async(BoxFuture<'static, ()>, &'static Method),
    /// Run on a thread that may wait.
    Blocking(Box<dyn FnOnce() + Send>, &'static Method),
    /// Answered already.
    Done,
}

impl fmt::Debug for Dispatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async(_, method) => write!(f, "Async({})", method.name),
            Self::Blocking(_, method) => write!(f, "Blocking({})", method.name),
            Self::Done => f.write_str("Done"),
        }
    }
}

impl Invocation {
    pub(crate) fn new(
        conduit: Arc<dyn Conduit>,
        answer: u64,
        op: Op,
        options: crate::protocol::CallOptions,
        body: Bytes,
        refs: Refs<Received<EngineHandles>>,
    ) -> Self {
        Self {
            conduit,
            answer,
            op,
            options,
            body,
            references: references::received(refs),
        }
    }

    /// For generated code: which of the interface's methods is called, if it is one of these.
    #[doc(hidden)]
    #[must_use]
    pub fn method_of(&self, interface: &'static Interface) -> Option<usize> {
        match &self.op {
            Op::Method {
                interface: id,
                method,
                ..
            } => {
                if *id != interface.id {
                    return None;
                }
                interface.methods.iter().position(|known| known.number == *method)
            }
            Op::Named(name) => interface.methods.iter().position(|method| method.name == name),
            _ => None,
        }
    }

    /// For generated code: whether the called method is one of the interface's, or of one that it extends.
    #[doc(hidden)]
    #[must_use]
    pub fn is_for(&self, interface: &'static Interface) -> bool {
        match &self.op {
            Op::Method { interface: id, .. } => interface.find(*id).is_some(),
            Op::Named(name) => interface.find_named(name).is_some(),
            _ => false,
        }
    }

    /// For generated code: answers a call that no method takes.
    #[doc(hidden)]
    #[must_use]
    pub fn unknown(self, interface: &'static Interface) -> Dispatched {
        let name = interface.name;
        let error = match &self.op {
            Op::Method { interface: id, .. } if interface.find(*id).is_none() => Error::new(
                ErrorKind::Denied,
                format!("the object was handed out as {name} and as nothing else"),
            ),
            Op::Method { method, .. } => Error::new(
                ErrorKind::Unimplemented,
                format!("{name} has no method with the number {method:#010x} on this side"),
            ),
            Op::Named(method) => Error::new(
                ErrorKind::Unimplemented,
                format!("{name} has no method `{method}` on this side"),
            ),
            op => Error::new(
                ErrorKind::Unimplemented,
                format!("{name} does not know the operation {op:?}"),
            ),
        };
        self.fail(error, false);
        Dispatched::Done
    }

    /// For generated code: reads the arguments.
    ///
    /// # Errors
    ///
    /// They were written from other types, or are broken: nothing of the method has run.
    #[doc(hidden)]
    pub fn arguments<'a, A: Deserialize<'a>>(&'a self, method: &Method) -> Result<A, Error> {
        if let Op::Method { shape, .. } = &self.op
            && *shape != method.arguments_shape
        {
            return Err(Error::new(
                ErrorKind::SchemaMismatch,
                format!(
                    "`{}` was called with arguments of the shape {shape:#010x}, and takes {} ({:#010x}) on this side",
                    method.name,
                    Arguments(method.arguments),
                    method.arguments_shape
                ),
            ));
        }
        decode(&self.body, &self.references, &references::limits()).map_err(Error::from)
    }

    /// For generated code: answers with what the method returned, the value through the adapter `A`.
    #[doc(hidden)]
    pub fn reply<A, R>(&self, method: &Method, result: &R)
    where
        R: MethodResult,
        A: SerializeAs<R::Value>,
    {
        let mut encoder = encoders::take();
        let encoded = match result.as_result() {
            Ok(value) => encoder.encode(&As::<A, _>::new(value)).map(|()| None),
            Err(failure) => encoder
                .encode(failure)
                .map(|()| Some(Error::new(ErrorKind::Failed, failure.to_string()))),
        };
        match encoded {
            Ok(failure) => self
                .conduit
                .answer_value(self.answer, failure, method.result_shape, &mut encoder),
            Err(error) => {
                let error = Error::from(error);
                let message = format!("the result of `{}` cannot be sent: {error}", method.name);
                self.fail(Error::new(ErrorKind::Failed, message), true);
            }
        }
        encoders::put(encoder);
    }

    /// For generated code: answers with a failure of the call.
    #[doc(hidden)]
    pub fn fail(&self, error: Error, started: bool) {
        self.conduit.answer_error(self.answer, error, started);
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("answer", &self.answer)
            .field("op", &self.op)
            .finish_non_exhaustive()
    }
}

/// Argument types as a person would write them.
struct Arguments(&'static [crate::interface::Argument]);

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, argument) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", argument.name, argument.of)?;
        }
        f.write_str(")")
    }
}
