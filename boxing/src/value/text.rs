//! The text of a value, for people: what `parse` reads again.

use std::fmt::{self, Display, Formatter, Write as _};

use super::record::Fields;
use super::{Record, Value};

/// Words that are no names.
const RESERVED: [&str; 11] = [
    "null", "true", "false", "None", "True", "False", "Some", "inf", "nan", "inf_f32", "nan_f32",
];

/// Whether people may write `name` as it is.
pub(super) fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(starts_name) && chars.all(continues_name) && !RESERVED.contains(&name)
}

pub(super) fn starts_name(char: char) -> bool {
    char == '_' || char.is_alphabetic()
}

pub(super) fn continues_name(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// The text of a value, on one line; with `{:#}` on many.
///
/// [`str::parse`] makes the same value of it, unless it holds a reference, or is nested more deeply than 128 levels.
///
/// | text                                    | value                                                           |
/// |-----------------------------------------|-----------------------------------------------------------------|
/// | `null` `true` `false`                   | also `None` `True` `False`                                      |
/// | `12` `-3`                               | integers; read also `1_000` and `0xff`                          |
/// | `1.5` `1e3` `inf` `nan`                 | floats of 64 bits                                               |
/// | `1.5f32` `inf_f32` `nan_f32`            | floats of 32 bits                                               |
/// | `"text"`                                | a string, with the escapes of Rust and JSON                     |
/// | `'x'`                                   | a character; read also `'text'`, a string                       |
/// | `b"bytes\xff"`                          | bytes                                                           |
/// | `[1, 2]` `(1, "a")` `(1,)` `()`         | a list; tuples                                                  |
/// | `{"k": 1}`                              | a map                                                           |
/// | `Unit` `Pair(1, 2)` `Point {x: 1}`      | structs                                                         |
/// | `Shape::Circle(3)`                      | an enum variant                                                 |
/// | `` `half-open`(3) ``                    | a name that is not one of Rust                                  |
/// | `Some(null)`                            | an option, where null would mean something else                 |
impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Printer {
            indent: f.alternate().then_some(0),
            out: f,
        }
        .value(self)
    }
}

/// As that of the [`Value`].
impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Printer {
            indent: f.alternate().then_some(0),
            out: f,
        }
        .record(self)
    }
}

struct Printer<'a, 'b> {
    out: &'a mut Formatter<'b>,
    /// How far lines are indented, if there are to be many.
    indent: Option<usize>,
}

impl Printer<'_, '_> {
    fn value(&mut self, value: &Value) -> fmt::Result {
        match value {
            Value::Null => self.out.write_str("null"),
            Value::Bool(value) => write!(self.out, "{value}"),
            Value::Int(number) => write!(self.out, "{number}"),
            Value::UInt(number) => write!(self.out, "{number}"),
            Value::Single(number) if number.is_nan() => {
                self.nan("nan_f32", number.to_bits().into(), f32::NAN.to_bits().into())
            }
            Value::Single(number) if number.is_infinite() => write!(self.out, "{number}_f32"),
            Value::Single(number) => write!(self.out, "{number:?}f32"),
            Value::Float(number) if number.is_nan() => self.nan("nan", number.to_bits(), f64::NAN.to_bits()),
            Value::Float(number) => write!(self.out, "{number:?}"),
            Value::Char(char) => {
                self.out.write_char('\'')?;
                escaped(self.out, *char, '\'')?;
                self.out.write_char('\'')
            }
            Value::Str(text) => self.quoted(text, '"'),
            Value::Bytes(bytes) => write!(self.out, "b\"{}\"", bytes.escape_ascii()),
            Value::Some(value) => {
                self.out.write_str("Some(")?;
                self.value(value)?;
                self.out.write_char(')')
            }
            Value::List(values) => self.many('[', ']', values, Self::value),
            Value::Tuple(values) => match values.as_slice() {
                [only] => {
                    self.out.write_char('(')?;
                    self.value(only)?;
                    self.out.write_str(",)")
                }
                values => self.many('(', ')', values, Self::value),
            },
            Value::Map(entries) => self.many('{', '}', entries, |printer, (key, value)| {
                printer.key(key)?;
                printer.out.write_str(": ")?;
                printer.value(value)
            }),
            Value::Record(record) => self.record(record),
            Value::Reference(_) => self.out.write_str("<reference>"),
        }
    }

    /// A name in the place of a key would be a string.
    fn key(&mut self, key: &Value) -> fmt::Result {
        match key {
            Value::Record(record) if record.variant().is_none() && record.names().fields == Fields::Unit => {
                self.out.write_char('(')?;
                self.record(record)?;
                self.out.write_char(')')
            }
            key => self.value(key),
        }
    }

    fn record(&mut self, record: &Record) -> fmt::Result {
        self.name(record.type_name())?;
        if let Some(variant) = record.variant() {
            self.out.write_str("::")?;
            self.name(variant)?;
        }
        match &record.names().fields {
            Fields::Unit => Ok(()),
            Fields::Tuple(_) => self.many('(', ')', record.values(), Self::value),
            Fields::Named(names) => {
                self.out.write_char(' ')?;
                let fields: Vec<_> = names.iter().zip(record.values()).collect();
                self.many('{', '}', &fields, |printer, (name, value)| {
                    printer.name(name)?;
                    printer.out.write_str(": ")?;
                    printer.value(value)
                })
            }
        }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if is_plain(name) {
            self.out.write_str(name)
        } else {
            self.quoted(name, '`')
        }
    }

    fn quoted(&mut self, text: &str, quote: char) -> fmt::Result {
        self.out.write_char(quote)?;
        for char in text.chars() {
            escaped(self.out, char, quote)?;
        }
        self.out.write_char(quote)
    }

    fn nan(&mut self, name: &str, bits: u64, usual: u64) -> fmt::Result {
        if bits == usual {
            self.out.write_str(name)
        } else {
            write!(self.out, "{name}({bits:#x})")
        }
    }

    fn many<T>(
        &mut self,
        open: char,
        close: char,
        items: &[T],
        mut print: impl FnMut(&mut Self, &T) -> fmt::Result,
    ) -> fmt::Result {
        self.out.write_char(open)?;
        let outer = self.indent;
        self.indent = outer.map(|indent| indent.saturating_add(4));
        for (index, item) in items.iter().enumerate() {
            match self.indent {
                Some(indent) => {
                    write!(self.out, "\n{:indent$}", "")?;
                    print(self, item)?;
                    self.out.write_char(',')?;
                }
                None => {
                    if index > 0 {
                        self.out.write_str(", ")?;
                    }
                    print(self, item)?;
                }
            }
        }
        self.indent = outer;
        if let Some(indent) = outer.filter(|_| !items.is_empty()) {
            write!(self.out, "\n{:indent$}", "")?;
        }
        self.out.write_char(close)
    }
}

/// `char` as it is within quotes.
fn escaped(out: &mut Formatter<'_>, char: char, quote: char) -> fmt::Result {
    match char {
        '"' | '\'' | '`' if char != quote => out.write_char(char),
        '`' => out.write_str("\\`"),
        char => write!(out, "{}", char.escape_debug()),
    }
}
