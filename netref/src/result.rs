//! What a remote method may return, and how its result is told apart from a failure of the call.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{DeserializeAs, Error, ErrorKind, FromAs, Reference, Shape, decode, decode_by_shape};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::by_name;
use crate::encoders;
use crate::interface::Method;
use crate::peer::Peer;
use crate::references::{self, limits};
use crate::remote::{Ask, Outcome, Remote};
use crate::shapes::Known;

/// The return type of a remote method: a `Result` whose error has room for a failure of the call.
#[diagnostic::on_unimplemented(
    message = "a remote method cannot return `{Self}`: it has no room for a call that fails",
    label = "return `farref::Result<..>`, or `Result<T, E>` where `E: From<farref::Error>`",
    note = "`E` must also be `Display`, `Serialize` and `Deserialize`, so that it can cross the connection"
)]
pub trait MethodResult: Sized + Send + 'static {
    /// What the method returns when it succeeds.
    type Value: Serialize + DeserializeOwned + 'static;
    /// What it returns when it fails.
    type Failure: Serialize + DeserializeOwned + fmt::Display + 'static;

    /// A result that says that the call itself failed.
    fn from_error(error: Error) -> Self;

    /// The result as the peer's method returned it.
    fn from_result(result: Result<Self::Value, Self::Failure>) -> Self;

    /// The result, to be sent.
    ///
    /// # Errors
    ///
    /// What the method failed with.
    fn as_result(&self) -> Result<&Self::Value, &Self::Failure>;
}

impl<T, E> MethodResult for Result<T, E>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    E: From<Error> + Serialize + DeserializeOwned + fmt::Display + Send + 'static,
{
    type Value = T;
    type Failure = E;

    fn from_error(error: Error) -> Self {
        Err(error.into())
    }

    fn from_result(result: Result<T, E>) -> Self {
        result
    }

    fn as_result(&self) -> Result<&T, &E> {
        self.as_ref()
    }
}

/// Reads the outcome of a call.
#[doc(hidden)]
pub type Decode<R> = fn(Result<Outcome, Error>, Hop<'_>) -> R;

/// Where a call went, for the trace of its error.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Hop<'a> {
    pub(crate) peer: Option<&'a Peer>,
    pub(crate) ask: Option<&'a Ask>,
}

impl fmt::Display for Hop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ask, self.peer) {
            (Some(ask), Some(peer)) => write!(f, "{peer}: {ask}"),
            (Some(ask), None) => ask.fmt(f),
            (None, _) => f.write_str("a call"),
        }
    }
}

/// For generated code: reads the outcome of a call, the value through the adapter `A`.
#[doc(hidden)]
pub fn decode_outcome<A, R>(outcome: Result<Outcome, Error>, hop: Hop<'_>) -> R
where
    R: MethodResult,
    A: for<'de> DeserializeAs<'de, R::Value>,
{
    let read = |outcome| -> Result<R, Error> {
        match outcome? {
            Outcome::Error(error) => Err(along(error, hop)),
            Outcome::Value {
                failed,
                body,
                refs,
                shape,
                writer,
            } => {
                let references = references::received(refs);
                if let Some(Ask::Named(method, _)) = hop.ask {
                    return by_name::read::<A, R>(method, failed, &body, &references, hop);
                }
                let writer = foreign(hop.ask, failed, shape, writer.as_ref())?;
                decode_result::<A, R>(failed, &body, &references, writer.as_deref(), Some(hop))
            }
        }
    };
    read(outcome).unwrap_or_else(R::from_error)
}

/// The failure of a call that went that way.
#[cold]
#[inline(never)]
fn along(error: Error, hop: Hop<'_>) -> Error {
    if error.is_remote() {
        error.with_hop(hop)
    } else {
        error
    }
}

/// What a method returned: its value through the adapter `A`, or its error value if it has `failed`; `writer` is what
/// it was written with, if that is another type.
pub(crate) fn decode_result<A, R>(
    failed: bool,
    body: &Bytes,
    references: &[Reference],
    writer: Option<&Shape>,
    hop: Option<Hop<'_>>,
) -> Result<R, Error>
where
    R: MethodResult,
    A: for<'de> DeserializeAs<'de, R::Value>,
{
    if failed {
        let failure = decode_failure(body, references, writer, hop)?;
        Ok(R::from_result(Err(failure)))
    } else {
        let value = read_by::<FromAs<A, R::Value>>(body, references, writer)?;
        Ok(R::from_result(Ok(value.into_inner())))
    }
}

#[inline(never)]
fn decode_failure<F: DeserializeOwned + 'static>(
    body: &Bytes,
    references: &[Reference],
    writer: Option<&Shape>,
    hop: Option<Hop<'_>>,
) -> Result<F, Error> {
    let mut failure = read_by::<F>(body, references, writer)?;
    // A farref error says where it has been; a type of the user's own is theirs.
    if let Some(hop) = hop
        && let Some(error) = (&mut failure as &mut dyn Any).downcast_mut::<Error>()
    {
        *error = error.clone().with_hop(hop);
    }
    Ok(failure)
}

/// What the result was written with, if that is another type than it is read as and can be read as that.
fn foreign(
    ask: Option<&Ask>,
    failed: bool,
    shape: u32,
    writer: Option<&Arc<Shape>>,
) -> Result<Option<Arc<Shape>>, Error> {
    // What is asked by name is answered by values that say what they are.
    let Some(Ask::Method(method)) = ask else {
        return Ok(None);
    };
    let told = method.told();
    let own = if failed { &told.failure } else { &told.value };
    if shape == own.fingerprint || shape == 0 {
        return Ok(None);
    }
    foreign_to(own, method, shape, writer)
}

#[cold]
#[inline(never)]
fn foreign_to(
    own: &Known,
    method: &Method,
    shape: u32,
    writer: Option<&Arc<Shape>>,
) -> Result<Option<Arc<Shape>>, Error> {
    let what = format!("what `{}` returned", method.name);
    match writer {
        Some(writer) => own.reads(writer, &what, method.result).map(Some),
        None => Err(own.mismatch(shape, &what, method.result)),
    }
}

fn read_by<'a, T: Deserialize<'a>>(
    body: &'a Bytes,
    references: &[Reference],
    writer: Option<&'a Shape>,
) -> Result<T, Error> {
    match writer {
        Some(writer) => read_by_shape(body, references, writer),
        None => decode(body, references, &limits()).map_err(Error::from),
    }
}

#[inline(never)]
fn read_by_shape<'a, T: Deserialize<'a>>(
    body: &'a Bytes,
    references: &[Reference],
    writer: &'a Shape,
) -> Result<T, Error> {
    decode_by_shape(body, references, writer, &limits()).map_err(Error::from)
}

/// For generated code: calls a far method and waits for its result on this thread.
#[doc(hidden)]
pub fn block<R: MethodResult>(
    remote: &Arc<dyn Remote>,
    method: &'static Method,
    arguments: &impl Serialize,
    decode: Decode<R>,
) -> R {
    let ask = by_name::ask(remote, method);
    decode(
        outcome(remote, &ask, arguments),
        Hop {
            peer: Some(remote.conduit().peer()),
            ask: Some(&ask),
        },
    )
}

/// For generated code: [`block`], or `None` if the peer is older and has no such method.
#[doc(hidden)]
pub fn block_or_missing<R: MethodResult>(
    remote: &Arc<dyn Remote>,
    method: &'static Method,
    arguments: &impl Serialize,
    decode: Decode<R>,
) -> Option<R> {
    let ask = by_name::ask(remote, method);
    match outcome(remote, &ask, arguments) {
        Ok(Outcome::Error(error)) if error.kind() == ErrorKind::Unimplemented => None,
        outcome => Some(decode(
            outcome,
            Hop {
                peer: Some(remote.conduit().peer()),
                ask: Some(&ask),
            },
        )),
    }
}

fn outcome(remote: &Arc<dyn Remote>, ask: &Ask, arguments: &impl Serialize) -> Result<Outcome, Error> {
    let mut encoder = encoders::take();
    by_name::encode(&mut encoder, ask, arguments)?;
    let outcome = remote
        .conduit()
        .block(remote.target(), &ask.operation(), ask.options(), &mut encoder);
    encoders::put(encoder);
    outcome
}
