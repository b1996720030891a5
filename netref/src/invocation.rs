//! A call of the peer's on its way to the method: decoded, run, answered.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use farref_boxing::{
    As, CodecError, Encoder, Error, ErrorKind, Reference, SerializeAs, Shape, Value, decode, decode_by_shape,
    from_value, to_value,
};
use serde::Serialize;
use serde::de::Deserialize;

use crate::encoders;
use crate::hosted::{self, address};
use crate::interface::{Interface, Method, RemoteTrait};
use crate::lock::lock;
use crate::object::{Arguments, Description, Question, name_error, type_error};
use crate::protocol::{CallOptions, Op, PeerShape, Refs, Request};
use crate::references;
use crate::remote::{Conduit, EngineHandles};
use crate::result::MethodResult;
use crate::served::ServedFuture;
use crate::shapes::Known;

/// A call of the peer's, as the dispatch code of a remote trait sees it.
pub struct Invocation {
    pub(crate) conduit: Arc<dyn Conduit>,
    pub(crate) answer: u64,
    /// Without the references, which are below.
    pub(crate) request: Box<Request<EngineHandles>>,
    pub(crate) references: Vec<Reference>,
    /// What few calls need.
    aside: OnceLock<Box<Aside>>,
}

/// The arguments of a call by name that came as values, with no references among them.
#[derive(Debug)]
pub struct Plain {
    came: Mutex<Option<Arguments>>,
    /// In the order of the method's.
    arranged: OnceLock<Value>,
}

impl From<Arguments> for Plain {
    fn from(arguments: Arguments) -> Self {
        Self {
            came: Mutex::new(Some(arguments)),
            arranged: OnceLock::new(),
        }
    }
}

/// What is found out about the arguments of a call that are not written as the method's.
#[derive(Default)]
struct Aside {
    /// Those of a call by name, in the order of the method's.
    arranged: OnceLock<Value>,
    /// What the peer's argument types look like, if they are others than the method's.
    writer: OnceLock<PeerShape>,
    /// How these are read as the method's.
    by: OnceLock<Arc<Shape>>,
}

/// What is to be done for a call, or that nothing is left to be done.
///
/// Async methods are first polled in the order in which the calls came, by whoever reads the connection, and
/// spawned only if they wait; one that waits for a call of its own may be polled there again. Blocking methods run on a bounded pool. Either answers by itself.
#[non_exhaustive]
pub enum Dispatched {
    /// Polled first in order, then concurrently as a rule.
    Async(ServedFuture, &'static Method),
    /// Run on a thread that may wait.
    Blocking(Box<dyn FnOnce() + Send>, &'static Method),
    /// It cannot be read before the peer has told what its argument types, with this fingerprint, look like.
    Unread(Box<Invocation>, u32),
    /// Answered already.
    Done,
}

impl fmt::Debug for Dispatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async(_, method) => write!(f, "Async({})", method.name),
            Self::Blocking(_, method) => write!(f, "Blocking({})", method.name),
            Self::Unread(_, shape) => write!(f, "Unread({shape:#010x})"),
            Self::Done => f.write_str("Done"),
        }
    }
}

impl Invocation {
    pub(crate) fn new(
        conduit: Arc<dyn Conduit>,
        answer: u64,
        mut request: Box<Request<EngineHandles>>,
    ) -> Self {
        Self {
            conduit,
            answer,
            references: references::received(std::mem::take(&mut request.refs)),
            request,
            aside: OnceLock::new(),
        }
    }

    /// A call of an object of this process, answered to `conduit`.
    pub(crate) fn here(
        conduit: Arc<dyn Conduit>,
        answer: u64,
        op: Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Self {
        let request = Request {
            op,
            options,
            body: Some(encoder.body().to_bytes()),
            plain: None,
            refs: Refs::new(),
        };
        Self {
            conduit,
            answer,
            request: Box::new(request),
            references: encoder.take_references().collect(),
            aside: OnceLock::new(),
        }
    }

    /// For generated code: which of the interface's methods is called, if it is one of these.
    #[doc(hidden)]
    #[must_use]
    pub fn method_of(&self, interface: &'static Interface) -> Option<usize> {
        let position = interface.position_for(&self.request.op)?;
        if let Op::Method { shape, .. } = &self.request.op {
            let method = interface.methods.get(position)?;
            return (is_own(*shape, method) || self.is_readable(*shape)).then_some(position);
        }
        Some(position)
    }

    /// The encoded arguments.
    fn body(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.request.body.as_ref().unwrap_or(&NONE)
    }

    fn aside(&self) -> &Aside {
        self.aside.get_or_init(Box::default)
    }

    /// Asks once more, as the peer has told meanwhile.
    pub(crate) fn ask_again(&mut self) {
        self.aside = OnceLock::new();
    }

    /// Whether it is known of the peer's argument types what they look like, or that it never will be.
    #[cold]
    fn is_readable(&self, shape: u32) -> bool {
        let known = self.aside().writer.get_or_init(|| self.conduit.shape(shape));
        !matches!(known, PeerShape::Asked)
    }

    /// For generated code: whether the called method is one of the interface's, or of one that it extends.
    #[doc(hidden)]
    #[must_use]
    pub fn is_for(&self, interface: &'static Interface) -> bool {
        match &self.request.op {
            Op::Method { interface: id, .. } => interface.find(*id).is_some(),
            // It is called by the name of its method where there is only one: see `resolve`.
            Op::Invoke => false,
            op => interface.find_for(op).is_some(),
        }
    }

    /// For generated code: answers what no method takes, which may be something that every object can be asked.
    #[doc(hidden)]
    #[must_use]
    pub fn operate<T: ?Sized + RemoteTrait>(self, this: Arc<T>) -> Dispatched {
        match &self.request.op {
            Op::Describe => {
                let known = hosted::operations(&*this);
                self.describe(T::INTERFACE, known.names().map(str::to_owned).collect())
            }
            Op::IsInstance(_) => self.refuse(T::INTERFACE),
            Op::Index | Op::Len | Op::Compare | Op::Hash | Op::Text | Op::Repr | Op::Iterate | Op::Copy => {
                Dispatched::Blocking(Box::new(move || self.ask(&this)), &OPERATION)
            }
            _ => self.unknown(T::INTERFACE),
        }
    }

    /// Asks an object what every object can be asked.
    fn ask<T: ?Sized + RemoteTrait>(&self, this: &Arc<T>) {
        let question = match self.question() {
            Ok(question) => question,
            Err(error) => return self.fail(error, false),
        };
        let asked = question.asked(address(this));
        let told = this.manner(&asked).or_else(|| asked.by_default(T::INTERFACE));
        match told {
            Some(Ok(value)) => self.reply_value(&value),
            Some(Err(error)) => self.reply_failure(&error),
            None => {
                let name = T::INTERFACE.name;
                let error = format!("this {name} does not know the operation `{}`", self.request.op);
                self.fail(Error::new(ErrorKind::Unimplemented, error), false);
            }
        }
    }

    /// What an object is asked, with what goes with it.
    fn question(&self) -> Result<Question, Error> {
        Ok(match &self.request.op {
            Op::Text | Op::Repr => Question::Text,
            Op::Len => Question::Len,
            Op::Hash => Question::Hash,
            Op::Copy => Question::Copy,
            Op::Index => Question::Index(self.decode()?),
            Op::Compare => Question::Equal(self.decode()?),
            Op::Iterate => {
                let (from, most) = self.decode()?;
                Question::Iterate { from, most }
            }
            op => {
                return Err(Error::new(
                    ErrorKind::Unimplemented,
                    format!("no such operation: {op}"),
                ));
            }
        })
    }

    /// Answers for an object that is handed out as `interface` what that alone can tell, and refuses the rest.
    pub(crate) fn refuse(self, interface: &'static Interface) -> Dispatched {
        let told = match &self.request.op {
            // It answers nothing else.
            Op::Describe => return self.describe(interface, Vec::new()),
            Op::IsInstance(class) => interface.lineage().iter().any(|known| known.name == class),
            _ => return self.unknown(interface),
        };
        self.reply_value(&Value::Bool(told));
        Dispatched::Done
    }

    /// Answers what an object is that is handed out as `interface`.
    fn describe(self, interface: &'static Interface, operations: Vec<String>) -> Dispatched {
        let description = Description {
            operations,
            ..Description::of(interface)
        };
        self.reply_description(&description);
        Dispatched::Done
    }

    /// Answers what an object can do.
    pub(crate) fn reply_description(&self, description: &Description) {
        match to_value(description) {
            Ok(value) => self.reply_value(&value),
            Err(error) => self.fail(Error::msg(error.to_string()), false),
        }
    }

    /// Names the interface that has the method: where the call is passed on to, another one may have its like.
    pub(crate) fn qualify(&mut self, interface: &'static Interface) {
        self.resolve(interface);
        if let Op::Named(name) | Op::Get(name) | Op::Set(name) = &mut self.request.op
            && !name.contains('.')
        {
            *name = format!("{}.{name}", interface.name);
        }
    }

    /// Names the method that is called when an object which is handed out as `interface` is called itself.
    pub(crate) fn resolve(&mut self, interface: &'static Interface) {
        if self.request.op == Op::Invoke
            && let Some((_, method)) = interface.find_for(&self.request.op)
        {
            self.request.op = Op::Named(method.name.to_owned());
        }
    }

    /// Answers a call that no method takes.
    fn unknown(self, interface: &'static Interface) -> Dispatched {
        let writer = self.aside.get().and_then(|aside| aside.writer.get());
        if let (Op::Method { shape, .. }, Some(PeerShape::Asked)) = (&self.request.op, writer) {
            let shape = *shape;
            return Dispatched::Unread(Box::new(self), shape);
        }
        let name = interface.name;
        let error = match &self.request.op {
            Op::Method { interface: id, .. } if interface.find(*id).is_none() => Error::new(
                ErrorKind::Denied,
                format!("the object was handed out as {name} and as nothing else"),
            ),
            Op::Method { method, .. } => Error::new(
                ErrorKind::Unimplemented,
                format!("{name} has no method with the number {method:#010x} on this side"),
            ),
            op => name_error(interface, op),
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
        let Op::Method { shape, .. } = &self.request.op else {
            return self.arguments_by_name(method);
        };
        if !is_own(*shape, method) {
            let own = &method.told().arguments;
            let writer = self.writer(*shape, own, method)?;
            return decode_by_shape(self.body(), &self.references, writer, &references::limits())
                .map_err(Error::from);
        }
        self.decode()
    }

    /// The arguments of a call that does not know their types (PROTOCOL.md § 13.2).
    fn arguments_by_name<'a, A: Deserialize<'a>>(&'a self, method: &Method) -> Result<A, Error> {
        static NOTHING: Value = Value::Tuple(Vec::new());
        // Streams and channels in the result have to know which types tell their shape by themselves.
        method.told();
        let arguments = match &self.request.op {
            Op::Get(_) => Vec::new(),
            Op::Set(_) => vec![self.decode()?],
            _ if method.arguments.is_empty() && **self.body() == *Arguments::NONE => Vec::new(),
            _ => self.named()?.arrange(method)?,
        };
        let arranged = if arguments.is_empty() {
            &NOTHING
        } else {
            let arranged = match &self.request.plain {
                Some(plain) => &plain.arranged,
                None => &self.aside().arranged,
            };
            arranged.get_or_init(|| Value::Tuple(arguments))
        };
        from_value(arranged).map_err(|error| type_error(method, error))
    }

    /// The arguments of a call by name, once.
    ///
    /// # Errors
    ///
    /// They are broken.
    pub(crate) fn named(&self) -> Result<Arguments, Error> {
        let came = self
            .request
            .plain
            .as_ref()
            .and_then(|plain| lock(&plain.came).take());
        came.map_or_else(|| self.decode(), Ok)
    }

    /// Makes bytes of arguments that came as values: the call is passed on.
    ///
    /// # Errors
    ///
    /// They cannot be encoded.
    pub(crate) fn encode(&mut self) -> Result<(), Error> {
        let came = self
            .request
            .plain
            .take()
            .and_then(|plain| lock(&plain.came).take());
        if let Some(came) = came {
            let mut encoder = encoders::take();
            let encoded: Result<(), CodecError> = encoder.encode(&came);
            self.request.body = Some(encoder.body().to_bytes());
            encoders::put(encoder);
            encoded?;
        }
        Ok(())
    }

    /// What goes with a call by name.
    pub(crate) fn decode<'a, A: Deserialize<'a>>(&'a self) -> Result<A, Error> {
        decode(self.body(), &self.references, &references::limits()).map_err(Error::from)
    }

    /// What the peer has written the arguments with, if they can be read.
    #[cold]
    fn writer(&self, shape: u32, own: &Known, method: &Method) -> Result<&Shape, Error> {
        let what = format!("what `{}` was called with", method.name);
        let written = method.takes();
        let aside = self.aside();
        match aside.writer.get() {
            Some(PeerShape::Known(writer)) => {
                let by = own.reads(writer, &what, &written)?;
                Ok(aside.by.get_or_init(|| by))
            }
            _ => Err(own.mismatch(shape, &what, &written)),
        }
    }

    /// For generated code: answers with what the method returned, the value through the adapter `A`.
    #[doc(hidden)]
    pub fn reply<A, R>(&self, method: &Method, result: &R)
    where
        R: MethodResult,
        A: SerializeAs<R::Value>,
    {
        let by_number = matches!(self.request.op, Op::Method { .. });
        match result.as_result() {
            Ok(value) if by_number => {
                let shape = method.told().value.fingerprint;
                self.send(method.name, None, shape, &As::<A, _>::new(value));
            }
            Err(failure) if by_number => {
                let told = Error::new(ErrorKind::Failed, failure.to_string());
                self.send(
                    method.name,
                    Some(told),
                    method.told().failure.fingerprint,
                    failure,
                );
            }
            Ok(value) => match to_value(&As::<A, _>::new(value)) {
                Ok(value) => self.tell(method.name, value),
                Err(error) => self.unsendable(method.name, &error),
            },
            // Who does not know the type of the error is told in words.
            Err(failure) => match (failure as &dyn Any).downcast_ref::<Error>() {
                Some(error) => self.reply_failure(error),
                None => self.reply_failure(&Error::new(ErrorKind::Failed, failure.to_string())),
            },
        }
    }

    /// Answers with a value that says what it is.
    pub(crate) fn reply_value(&self, value: &Value) {
        self.send(&self.request.op.to_string(), None, 0, value);
    }

    /// Answers with an error of the method's. With it goes the error itself: a protocol may know what it was made of.
    pub(crate) fn reply_failure(&self, error: &Error) {
        self.send(&self.request.op.to_string(), Some(error.clone()), 0, error);
    }

    /// Answers a call by name.
    fn tell(&self, name: &str, value: Value) {
        let untold = if is_plain(&value) {
            self.conduit.answer_plain(self.answer, value)
        } else {
            Err(value)
        };
        if let Err(value) = untold {
            self.send(name, None, 0, &value);
        }
    }

    fn send(&self, name: &str, failure: Option<Error>, shape: u32, value: &(impl Serialize + ?Sized)) {
        let mut encoder = encoders::take();
        let encoded: Result<(), CodecError> = encoder.encode(value);
        match encoded {
            Ok(()) => self
                .conduit
                .answer_value(self.answer, failure, shape, &mut encoder),
            Err(error) => self.unsendable(name, &Error::from(error)),
        }
        encoders::put(encoder);
    }

    fn unsendable(&self, name: &str, error: &dyn fmt::Display) {
        let message = format!("the result of `{name}` cannot be sent: {error}");
        self.fail(Error::new(ErrorKind::Failed, message), true);
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
            .field("op", &self.request.op)
            .finish_non_exhaustive()
    }
}

/// Whether arguments are read as the method's own types: also where nothing is said of theirs (PROTOCOL.md § 7.8).
#[inline]
fn is_own(shape: u32, method: &Method) -> bool {
    shape == method.arguments_shape() || shape == 0
}

/// Whether there are no references in a value, which is not nested deeply.
pub(crate) fn is_plain(value: &Value) -> bool {
    has_no_references(value, LEVELS)
}

fn has_no_references(value: &Value, levels: u32) -> bool {
    let Some(levels) = levels.checked_sub(1) else {
        return false;
    };
    let plain = |value: &Value| has_no_references(value, levels);
    match value {
        Value::Reference(_) => false,
        Value::Some(value) => plain(value),
        Value::List(values) | Value::Tuple(values) => values.iter().all(plain),
        Value::Map(entries) => entries.iter().all(|(key, value)| plain(key) && plain(value)),
        Value::Record(record) => record.values().iter().all(plain),
        _ => true,
    }
}

/// So deeply are values looked into; encoding says what is wrong with others.
const LEVELS: u32 = 64;

/// How what every object can be asked is run: as a blocking method.
pub(crate) static OPERATION: Method = Method::new(
    0,
    "operation",
    false,
    false,
    crate::interface::Manners::NONE,
    &[],
    ["", "", ""],
    "",
    crate::shapes::untold,
    "",
);
