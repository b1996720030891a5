//! What a failed call looks like, here and from afar.
//!
//! An [`Error`] holds any error of the standard library's kind, or a text; says whose turn it is ([`ErrorKind`]);
//! and crosses connections by value: kind, message, chain of causes and trace arrive as text (PROTOCOL.md § 9.8).

use std::any::Any;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::CodecError;
use crate::kind::{Certainty, ErrorKind};

/// What remote methods return, and what calls fail with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: of a method, of a call, or of a connection.
///
/// One pointer wide and cheap to clone. `?` makes one of every error of the standard library's kind; that value
/// stays within reach ([`downcast_ref`](Self::downcast_ref)) until the error crosses a connection.
///
/// ```
/// use farref_boxing::{Context, ErrorKind, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     text.parse().context("the port is not a number")
/// }
///
/// let error = port("http").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// assert_eq!(format!("{error:#}"), "the port is not a number: invalid digit found in string");
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// ```
///
/// `Error` is no [`std::error::Error`] itself, as `?` could not convert into it otherwise, but it dereferences to
/// one and converts into a box of one.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    is_remote: bool,
    /// One line per hop, innermost first.
    trace: String,
    head: Node,
}

/// One link of the chain of causes.
#[derive(Clone)]
enum Node {
    /// A text, and what it is the context of.
    Text(Cow<'static, str>, Option<Arc<Node>>),
    /// The value itself, which knows its causes.
    Original(Arc<dyn StdError + Send + Sync>),
}

impl Error {
    /// An error of that kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_head(kind, Node::Text(message.into(), None))
    }

    /// A method's own failure, of the kind [`ErrorKind::Failed`].
    #[must_use]
    pub fn msg(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// An error of that kind, which speaks and is caused as `source` is.
    #[must_use]
    pub fn wrap(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::with_head(kind, Node::Original(Arc::new(source)))
    }

    /// An error of that kind that a peer has told of in a form of its own, which speaks and is caused as `source` is: it
    /// [came over a connection](Self::is_remote), and what came stays [within reach](Self::downcast_ref).
    #[must_use]
    pub fn remote(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        let mut error = Self::wrap(kind, source);
        Arc::make_mut(&mut error.0).is_remote = true;
        error
    }

    /// What is in the box: the very `Error` if it is one, otherwise one of the kind [`ErrorKind::Failed`].
    #[must_use]
    pub fn from_boxed(source: Box<dyn StdError + Send + Sync>) -> Self {
        match source.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(source) => Self::with_head(ErrorKind::Failed, Node::Original(source.into())),
        }
    }

    fn with_head(kind: ErrorKind, head: Node) -> Self {
        Self(Arc::new(Inner {
            kind,
            is_remote: false,
            trace: String::new(),
            head,
        }))
    }

    /// What came over a connection.
    pub(crate) fn arrived(
        kind: ErrorKind,
        message: String,
        causes: impl DoubleEndedIterator<Item = String>,
        trace: String,
    ) -> Self {
        let cause = causes
            .rev()
            .fold(None, |cause, text| Some(Arc::new(Node::Text(text.into(), cause))));
        Self(Arc::new(Inner {
            kind,
            is_remote: true,
            trace,
            head: Node::Text(message.into(), cause),
        }))
    }

    /// Whose turn it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the method ran, if the connection was lost.
    #[must_use]
    pub fn certainty(&self) -> Option<Certainty> {
        match self.0.kind {
            ErrorKind::Disconnected(certainty) => Some(certainty),
            _ => None,
        }
    }

    /// What went wrong, without its causes.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        match &self.0.head {
            Node::Text(text, _) => Cow::Borrowed(text),
            Node::Original(error) => Cow::Owned(error.to_string()),
        }
    }

    /// The error itself, its cause, the cause of that, and so on.
    #[must_use]
    pub fn chain(&self) -> Chain<'_> {
        Chain(Some(self.0.head.as_dyn()))
    }

    /// Where it happened far away: one line for each connection crossed, `peer: interface.method`, innermost first.
    ///
    /// Empty for an error of this side.
    #[must_use]
    pub fn trace(&self) -> &str {
        &self.0.trace
    }

    /// Whether the error came over a connection.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.0.is_remote
    }

    /// The value that became this error, or that context was given to; `None` once it has crossed a connection.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        let mut node = &self.0.head;
        loop {
            match node {
                Node::Original(error) => return error.downcast_ref(),
                Node::Text(_, cause) => node = cause.as_deref()?,
            }
        }
    }

    /// The same failure, told from one level further up: `message`, caused by what was said before.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        let before = std::mem::replace(&mut inner.head, Node::Text(Cow::Borrowed(""), None));
        inner.head = Node::Text(message.to_string().into(), Some(Arc::new(before)));
        self
    }

    /// The same failure with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        Arc::make_mut(&mut self.0).kind = kind;
        self
    }

    /// The same failure, one connection further away: adds a line to [`trace`](Self::trace).
    #[must_use]
    pub fn with_hop(mut self, hop: impl fmt::Display) -> Self {
        use fmt::Write as _;
        let inner = Arc::make_mut(&mut self.0);
        if !inner.trace.is_empty() {
            inner.trace.push('\n');
        }
        // Writing to a string fails only if `hop` says so, and then what it wrote is as good as it gets.
        _ = write!(inner.trace, "{hop}");
        self
    }
}

/// An error is changed only by whoever owns it, so a panic leaves none half-changed.
impl UnwindSafe for Error {}
impl RefUnwindSafe for Error {}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    /// An error of the kind [`ErrorKind::Failed`]; a [`CodecError`] keeps its own.
    fn from(source: E) -> Self {
        let any: &dyn Any = &source;
        let kind = any.downcast_ref().map_or(ErrorKind::Failed, CodecError::kind);
        Self::wrap(kind, source)
    }
}

impl From<ErrorKind> for Error {
    /// An error that says no more than its kind.
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, kind.text())
    }
}

impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<Error> for Box<dyn StdError> {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<Error> for std::io::Error {
    /// With the nearest kind there is; the error is inside.
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::Cancelled => Io::Interrupted,
            ErrorKind::Deadline => Io::TimedOut,
            ErrorKind::Denied | ErrorKind::Revoked => Io::PermissionDenied,
            ErrorKind::Unimplemented | ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::Broken | ErrorKind::Disconnected(_) => Io::BrokenPipe,
            ErrorKind::Malformed | ErrorKind::SchemaMismatch | ErrorKind::Incompatible => Io::InvalidData,
            ErrorKind::Address => Io::InvalidInput,
            _ => error.downcast_ref::<Self>().map_or(Io::Other, Self::kind),
        };
        Self::new(kind, Boxed(error))
    }
}

impl Deref for Error {
    type Target = dyn StdError + Send + Sync;

    fn deref(&self) -> &Self::Target {
        match &self.0.head {
            Node::Original(error) => &**error,
            text @ Node::Text(..) => text,
        }
    }
}

impl fmt::Display for Error {
    /// The message; `{:#}` adds the causes behind it, each after a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.head.as_dyn(), &mut *f)?;
        if f.alternate() {
            for cause in self.chain().skip(1) {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// For a person: the message, its causes and the trace, on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut causes = self.chain().skip(1).peekable();
        if causes.peek().is_some() {
            write!(f, "\n\ncaused by:")?;
        }
        for cause in causes {
            write!(f, "\n    {cause}")?;
        }
        if !self.0.trace.is_empty() {
            write!(f, "\n\nremote trace:")?;
        }
        for hop in self.0.trace.lines() {
            write!(f, "\n    {hop}")?;
        }
        Ok(())
    }
}

/// Equal if kind and message are.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.message() == other.message()
    }
}

impl Eq for Error {}

impl Node {
    fn as_dyn(&self) -> &(dyn StdError + 'static) {
        match self {
            Self::Text(..) => self,
            Self::Original(error) => &**error,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text, _) => f.write_str(text),
            Self::Original(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text, _) => fmt::Debug::fmt(text, f),
            Self::Original(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl StdError for Node {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Text(_, cause) => cause.as_deref().map(Self::as_dyn),
            Self::Original(error) => error.source(),
        }
    }
}

/// An [`Error`] as an error of the standard library's kind.
struct Boxed(Error);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Boxed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// An error and its causes: see [`Error::chain`].
#[derive(Debug, Clone)]
pub struct Chain<'a>(Option<&'a (dyn StdError + 'static)>);

impl<'a> Iterator for Chain<'a> {
    type Item = &'a (dyn StdError + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        self.0 = error.source();
        Some(error)
    }
}

/// Tells a failure from one level further up.
///
/// ```
/// use farref_boxing::{Context, Result};
///
/// fn config(path: &str) -> Result<String> {
///     std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
/// }
/// assert_eq!(config("/does/not/exist").unwrap_err().to_string(), "cannot read /does/not/exist");
/// ```
pub trait Context<T> {
    /// Says `message`, caused by the failure at hand.
    ///
    /// # Errors
    ///
    /// Whenever there was one before.
    fn context(self, message: impl fmt::Display) -> Result<T>;

    /// Says what `message` returns, caused by the failure at hand; it is not called if there is none.
    ///
    /// # Errors
    ///
    /// Whenever there was one before.
    fn with_context<C: fmt::Display>(self, message: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(message))
    }

    fn with_context<C: fmt::Display>(self, message: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, message: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::msg(message.to_string()))
    }

    fn with_context<C: fmt::Display>(self, message: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::msg(message().to_string()))
    }
}
