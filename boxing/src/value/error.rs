//! Why something is no value, or a value not of a type.

use std::fmt;

use super::Value;

/// Why a value could not be made from a type, or a type from a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(Box<Wrong>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    message: Box<str>,
    /// Where in the value, from the inside out.
    path: Vec<Step>,
}

/// A step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Field(Box<str>),
    Key(Box<str>),
    Index(usize),
}

impl Step {
    /// To the value with that key.
    pub(super) fn key(key: &Value) -> Self {
        match key {
            Value::Str(name) => Self::Field(name.as_str().into()),
            key => Self::Key(key.to_string().into()),
        }
    }
}

impl ValueError {
    #[cold]
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self(Box::new(Wrong {
            message: message.to_string().into(),
            path: Vec::new(),
        }))
    }

    pub(super) fn too_deep() -> Self {
        Self::new(format_args!("more than {} levels of nesting", super::MAX_DEPTH))
    }

    /// The error, from one level further out.
    #[cold]
    pub(super) fn inside(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }

    /// Where in the value it is wrong, as one would write it: `points[3].x`. Empty for the value itself.
    #[must_use]
    pub fn path(&self) -> String {
        use std::fmt::Write as _;
        let mut path = String::new();
        for step in self.0.path.iter().rev() {
            _ = match step {
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Key(key) => write!(path, "[{key}]"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        path
    }

    /// Which element of a list or tuple is wrong, and what is wrong with it, seen from there.
    ///
    /// # Errors
    ///
    /// The error itself, if it is about no element.
    ///
    /// ```
    /// use farref_boxing::{Value, from_value};
    ///
    /// let value: Value = "(1, [2, 300])".parse().unwrap();
    /// let error = from_value::<(u8, Vec<u8>)>(&value).unwrap_err();
    /// let (index, error) = error.into_element().unwrap();
    /// assert_eq!((index, error.path().as_str()), (1, "[1]"));
    /// ```
    pub fn into_element(mut self) -> Result<(usize, Self), Self> {
        match self.0.path.pop() {
            Some(Step::Index(index)) => Ok((index, self)),
            step => {
                self.0.path.extend(step);
                Err(self)
            }
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.path.is_empty() {
            f.write_str(&self.0.message)
        } else {
            write!(f, "at {}: {}", self.path(), self.0.message)
        }
    }
}

impl std::error::Error for ValueError {}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

/// Where a text is no [`Value`], and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseValueError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) expected: &'static str,
    pub(super) found: Option<char>,
}

impl ParseValueError {
    /// The line, counted from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, counted from 1.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What would have been right there, in words.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }
}

impl fmt::Display for ParseValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: expected {}, found ",
            self.line, self.column, self.expected
        )?;
        match self.found {
            Some(found) => write!(f, "{found:?}"),
            None => f.write_str("the end"),
        }
    }
}

impl std::error::Error for ParseValueError {}
