//! Exceptions of Python, as errors and back.

use std::fmt::{self, Write as _};
use std::io;

use bytes::BytesMut;
use farref_boxing::rpyc as brine;
use farref_boxing::{Error, ErrorKind, Value};

/// An exception of Python's: one that was raised over there, or one that a method raises here for a caller in Python.
///
/// It is within an [`Error`]: [`Error::downcast_ref`] finds it in one that came from a peer, and a method that returns one
/// raises that class over there, where it can be caught by its name.
///
/// ```
/// use farref_boxing::Error;
/// use farref_netref::rpyc::Exception;
///
/// fn channel(number: u8) -> Result<(), Error> {
///     if number > 7 {
///         return Err(Exception::new("IndexError", [format!("no channel {number}")]).into());
///     }
///     Ok(())
/// }
///
/// let error = channel(9).unwrap_err();
/// assert_eq!(error.to_string(), "IndexError: no channel 9");
/// assert_eq!(error.downcast_ref::<Exception>().unwrap().class(), "IndexError");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Exception {
    module: String,
    class: String,
    arguments: Vec<Value>,
    attributes: Vec<(String, Value)>,
    traceback: String,
}

impl Exception {
    /// An exception of a class that Python has by itself, such as `ValueError`.
    #[must_use]
    pub fn new<V: Into<Value>>(class: impl Into<String>, arguments: impl IntoIterator<Item = V>) -> Self {
        Self {
            module: BUILTINS.to_owned(),
            class: class.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            attributes: Vec::new(),
            traceback: String::new(),
        }
    }

    /// The same exception of a class of that module: over there it is one that is made up for the purpose, unless the peer
    /// imports it.
    #[must_use]
    pub fn of_module(mut self, module: impl Into<String>) -> Self {
        self.module = module.into();
        self
    }

    /// The same exception with one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The module of its class: `builtins` for what Python has by itself.
    #[must_use]
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The name of its class.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Whether its class is that one of Python's own: `is("KeyError")`. Classes that are derived from it are others.
    #[must_use]
    pub fn is(&self, class: &str) -> bool {
        self.module == BUILTINS && self.class == class
    }

    /// What it was raised with. What could not go by value is there as its `repr`.
    #[must_use]
    pub fn arguments(&self) -> &[Value] {
        &self.arguments
    }

    /// An attribute of it, by name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// All its attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Where it was raised over there, as Python writes it; empty or `<traceback denied>` if the peer does not tell.
    #[must_use]
    pub fn traceback(&self) -> &str {
        &self.traceback
    }

    /// The same of that class of Python's own, if it says no more than that something failed.
    pub(super) fn or_rather(mut self, class: &str) -> Self {
        if self.is("RuntimeError") {
            class.clone_into(&mut self.class);
        }
        self
    }

    /// Whether it is the end of an iteration.
    pub(super) fn is_stop(&self) -> bool {
        self.is(STOP)
    }

    /// What is in an exception message (RPyC's "vinegar"): the number 1 for the end of an iteration, else four parts.
    pub(super) fn read(content: Value) -> Self {
        let tuple = |value: Value| match value {
            Value::Tuple(items) => Some(items),
            _ => None,
        };
        let text = |value: &Value| match value {
            Value::Str(text) => text.clone(),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        let parts = match content {
            Value::Int(1) | Value::Bool(true) => return Self::new::<Value>(STOP, []),
            Value::Tuple(parts) => parts,
            // As Python 2 did.
            other => return Self::new("Exception", [text(&other)]),
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        let class = tuple(next()).unwrap_or_default();
        let arguments = tuple(next()).unwrap_or_default();
        let attributes = tuple(next()).unwrap_or_default();
        let traceback = text(&next());
        let attributes = attributes.into_iter().filter_map(|pair| {
            let mut pair = tuple(pair)?.into_iter();
            let name = text(&pair.next()?);
            Some((name, pair.next()?))
        });
        Self {
            module: class.first().map(text).unwrap_or_default(),
            class: class.get(1).map(text).unwrap_or_default(),
            arguments,
            attributes: attributes.collect(),
            traceback,
        }
    }

    /// As the error of a call of ours.
    pub(super) fn into_error(self) -> Error {
        let kind = if self.module == BUILTINS {
            match self.class.as_str() {
                "AttributeError" | "NotImplementedError" => ErrorKind::Unimplemented,
                "TimeoutError" => ErrorKind::Deadline,
                "RecursionError" | "MemoryError" => ErrorKind::Limit,
                _ => ErrorKind::Remote,
            }
        } else {
            ErrorKind::Remote
        };
        Error::remote(kind, self)
    }

    /// What a caller in Python is told of the failure of a call: the exception that it is, or the nearest that Python has.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(exception) = error.downcast_ref::<Self>() {
            let mut exception = exception.clone();
            if exception.traceback.is_empty() {
                exception.traceback = traceback(error);
            }
            return exception;
        }
        let mut exception = match error.downcast_ref::<io::Error>() {
            Some(failure) if error.kind() == ErrorKind::Failed => of_io(failure, error),
            _ => Self::new(class_for(error.kind()), [format!("{error:#}")]),
        };
        exception.traceback = traceback(error);
        exception
    }

    /// Writes what is in an exception message.
    pub(super) fn put(&self, out: &mut BytesMut) {
        if self.is_stop() {
            return brine::put_int(1, out);
        }
        brine::put_tuple(4, out);
        brine::put_tuple(2, out);
        brine::put_str(&self.module, out);
        brine::put_str(&self.class, out);
        brine::put_tuple(self.arguments.len(), out);
        for argument in &self.arguments {
            put_plain(argument, out);
        }
        let attributes = self.attributes.iter().filter(|(name, _)| name != VERSION);
        brine::put_tuple(attributes.clone().count().saturating_add(1), out);
        for (name, value) in attributes {
            brine::put_tuple(2, out);
            brine::put_str(name, out);
            put_plain(value, out);
        }
        brine::put_tuple(2, out);
        brine::put_str(VERSION, out);
        // Any version but its own makes Python add a warning to the traceback.
        brine::put_str("<version denied>", out);
        brine::put_str(&self.traceback, out);
    }
}

/// Nothing but plain values is in an exception: anything else goes as its text.
fn put_plain(value: &Value, out: &mut BytesMut) {
    if !brine::put_value(value, out) {
        brine::put_str(&value.to_string(), out);
    }
}

/// The traceback of an error of ours: Python shows it under the line `Remote Traceback`.
fn traceback(error: &Error) -> String {
    let mut text = String::from("Traceback (most recent call last):\n");
    for line in error.trace().lines().rev() {
        _ = writeln!(text, "  {line}");
    }
    _ = write!(text, "{:?}: {error:#}", error.kind());
    text
}

/// Failures of the system are known in Python by classes of their own, and by a number.
fn of_io(failure: &io::Error, error: &Error) -> Exception {
    use io::ErrorKind as Io;
    let class = match failure.kind() {
        Io::NotFound => "FileNotFoundError",
        Io::PermissionDenied => "PermissionError",
        Io::AlreadyExists => "FileExistsError",
        Io::NotADirectory => "NotADirectoryError",
        Io::IsADirectory => "IsADirectoryError",
        Io::ConnectionRefused => "ConnectionRefusedError",
        Io::ConnectionReset => "ConnectionResetError",
        Io::ConnectionAborted => "ConnectionAbortedError",
        Io::BrokenPipe => "BrokenPipeError",
        Io::TimedOut => "TimeoutError",
        Io::WouldBlock => "BlockingIOError",
        Io::Interrupted => "InterruptedError",
        Io::UnexpectedEof => "EOFError",
        Io::InvalidInput | Io::InvalidData => "ValueError",
        Io::OutOfMemory => "MemoryError",
        _ => "OSError",
    };
    let text = format!("{error:#}");
    match failure.raw_os_error() {
        // The constructor is not called over there: what it would set is set here.
        Some(number) => {
            let arguments = [Value::from(number), Value::from(text.as_str())];
            Exception::new(class, arguments)
                .with_attribute("errno", number)
                .with_attribute("strerror", text.as_str())
        }
        None => Exception::new(class, [text]),
    }
}

/// The class of Python's that is nearest.
const fn class_for(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unimplemented => "AttributeError",
        ErrorKind::SchemaMismatch => "TypeError",
        ErrorKind::Denied | ErrorKind::Revoked => "PermissionError",
        ErrorKind::Deadline => "TimeoutError",
        ErrorKind::Limit | ErrorKind::Overloaded => "MemoryError",
        ErrorKind::Loop | ErrorKind::Reentrant => "RecursionError",
        ErrorKind::Unsupported => "NotImplementedError",
        ErrorKind::Broken | ErrorKind::Disconnected(_) | ErrorKind::Carrier => "ConnectionError",
        ErrorKind::Malformed | ErrorKind::Address => "ValueError",
        _ => "RuntimeError",
    }
}

/// `ValueError: what it was raised with`, as Python has it.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.module != BUILTINS {
            write!(f, "{}.", self.module)?;
        }
        f.write_str(&self.class)?;
        let attribute = |name| self.attribute(name);
        if let (Some(Value::Int(number)), Some(Value::Str(text))) =
            (attribute("errno"), attribute("strerror"))
        {
            write!(f, ": [Errno {number}] {text}")?;
            return match attribute("filename") {
                Some(Value::Str(path)) => write!(f, ": '{path}'"),
                _ => Ok(()),
            };
        }
        match self.arguments.as_slice() {
            [] => Ok(()),
            [Value::Str(text)] => write!(f, ": {text}"),
            [one] => write!(f, ": {one}"),
            all => {
                let mut mark = ": ";
                for argument in all {
                    write!(f, "{mark}{argument}")?;
                    mark = ", ";
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Exception {}

/// What is raised where something of another type is wanted.
pub(super) fn type_error(text: impl Into<String>) -> Exception {
    Exception::new("TypeError", [text.into()])
}

const BUILTINS: &str = "builtins";
const STOP: &str = "StopIteration";
const VERSION: &str = "_remote_version";

#[cfg(test)]
mod tests {
    use super::*;

    /// The path that was missing was not said, as it is no argument of the exception.
    #[test]
    fn a_failure_of_the_system_reads_as_in_python() {
        let missing = Exception::new(
            "FileNotFoundError",
            [Value::from(2), "No such file or directory".into()],
        )
        .with_attribute("errno", 2)
        .with_attribute("strerror", "No such file or directory");
        assert_eq!(
            missing.to_string(),
            "FileNotFoundError: [Errno 2] No such file or directory"
        );
        assert_eq!(
            missing.with_attribute("filename", "/data").to_string(),
            "FileNotFoundError: [Errno 2] No such file or directory: '/data'"
        );
        let other = Exception::new("ValueError", [Value::from(1), "b".into()]);
        assert_eq!(other.to_string(), "ValueError: 1, \"b\"");
    }
}
