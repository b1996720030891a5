//! Typed calls over connections to peers that know no interfaces: each goes by the name of its method, and arguments and
//! results are values that say what they are.
//!
//! So a trait can be put over any object of such a peer: what the object has not, or what does not fit, shows when it is
//! called.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{
    CodecError, DeserializeAs, Encoder, Error, ErrorKind, FromAs, Reference, Value, decode, from_value,
    to_value,
};
use serde::Serialize;

use crate::hosted::{self, Exported, address};
use crate::interface::{Interface, Method, RemoteTrait};
use crate::invocation::{Dispatched, Invocation};
use crate::object::{Arguments, Operations, is_optional};
use crate::protocol::Op;
use crate::references;
use crate::relay;
use crate::remote::{Ask, Remote};
use crate::result::{Hop, MethodResult};

/// How `method` is asked of `remote`: by its number, or by its name if that is all that the peer knows.
pub(crate) fn ask(remote: &Arc<dyn Remote>, method: &'static Method) -> Ask {
    if !remote.conduit().is_by_name() {
        return Ask::Method(method);
    }
    let op = match (method.getter(), method.setter()) {
        (Some(property), _) => Op::Get(property.to_owned()),
        (None, Some(property)) => Op::Set(property.to_owned()),
        (None, None) => Op::Named(method.name.to_owned()),
    };
    Ask::Named(method, Box::new(op))
}

/// Writes the arguments of a call, which are a tuple, as they go with `ask`. The last ones that are `None` are left out: the
/// peer may have defaults of its own.
pub(crate) fn encode(encoder: &mut Encoder, ask: &Ask, arguments: &impl Serialize) -> Result<(), Error> {
    let Ask::Named(method, op) = ask else {
        return encoder.encode(arguments).map_err(Error::from);
    };
    let written = to_value(arguments).map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))?;
    let mut values = match written {
        Value::Tuple(values) => values,
        _ => Vec::new(),
    };
    let encoded: Result<(), CodecError> = match &**op {
        Op::Get(_) => encoder.encode(&()),
        Op::Set(_) => encoder.encode(&values.pop().unwrap_or_default()),
        _ => {
            while matches!(values.last(), Some(Value::Null))
                && method
                    .arguments
                    .get(values.len().saturating_sub(1))
                    .is_some_and(is_optional)
            {
                values.pop();
            }
            encoder.encode(&Arguments::from(values))
        }
    };
    encoded.map_err(Error::from)
}

/// What `method` has returned, which says what it is; its value is read through the adapter `A`.
///
/// # Errors
///
/// [`ErrorKind::SchemaMismatch`]: it is no value of the method's type.
#[inline(never)]
pub(crate) fn read<A, R>(
    method: &Method,
    failed: bool,
    body: &Bytes,
    references: &[Reference],
    hop: Hop<'_>,
) -> Result<R, Error>
where
    R: MethodResult,
    A: for<'de> DeserializeAs<'de, R::Value>,
{
    let limits = references::limits();
    if failed {
        let failure: Error = decode(body, references, &limits)?;
        return Err(failure.with_hop(hop));
    }
    let value: Value = decode(body, references, &limits)?;
    match from_value::<FromAs<A, R::Value>>(&value) {
        Ok(value) => Ok(R::from_result(Ok(value.into_inner()))),
        Err(error) => {
            let (name, result) = (method.name, method.result);
            let text = format!("what `{name}` returned is no {result} on this side: {error}");
            Err(Error::new(ErrorKind::SchemaMismatch, text))
        }
    }
}

/// A far object of a peer that knows no interfaces, handed on as `dyn Trait` to one that does: what that calls by number is
/// called by name. A [`Relay`](crate::hosted::Relay) would pass the numbers on.
struct Translated<T: ?Sized> {
    remote: Arc<dyn Remote>,
    of: PhantomData<fn() -> Box<T>>,
}

/// For generated code: `remote`, handed on as `dyn Trait`.
pub(crate) fn translated<T: ?Sized + RemoteTrait>(remote: Arc<dyn Remote>) -> Arc<dyn Exported> {
    Arc::new(Translated::<T> {
        remote,
        of: PhantomData,
    })
}

impl<T: ?Sized + RemoteTrait> Translated<T> {
    fn proxy(&self) -> Arc<T> {
        T::proxy(Arc::clone(&self.remote))
    }
}

impl<T: ?Sized + RemoteTrait> Exported for Translated<T> {
    fn interface_id(&self) -> u64 {
        T::INTERFACE.id
    }

    fn interface(&self) -> Option<&'static Interface> {
        Some(T::INTERFACE)
    }

    fn dispatch(&self, mut invocation: Invocation) -> Dispatched {
        match &invocation.request.op {
            // Only its host can tell, and that needs no interface.
            Op::Text | Op::Repr | Op::Hash | Op::Compare => relay::forward(&self.remote, None, invocation),
            _ => {
                invocation.resolve(T::INTERFACE);
                T::dispatch(self.proxy(), invocation)
            }
        }
    }

    fn key(&self) -> usize {
        address(&self.remote)
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn Any>> {
        None
    }

    fn relayed(&self) -> Option<Arc<dyn Remote>> {
        Some(Arc::clone(&self.remote))
    }

    fn guards(&self) -> &[usize] {
        self.remote.guards()
    }

    fn operations(&self) -> Operations {
        hosted::operations(&*self.proxy())
    }
}
