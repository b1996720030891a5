//! The arguments of a call by name, and how they find their places.

use std::fmt::Write as _;

use farref_boxing::{Error, ErrorKind, Value, ValueError, to_value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::near;
use crate::interface::{Argument, Interface, Method};
use crate::protocol::Op;

/// The arguments of a call by name: some by their places, then others by their names.
///
/// Made from a tuple or array of whatever serde can write, netrefs and [`Object`](super::Object)s included, or piece
/// by piece. An argument of the type `Option<..>` may be left out.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::object::Arguments;
///
/// let arguments = Arguments::from((3, "V")).named("gain", 1.5);
/// assert_eq!(arguments.to_string(), "(3, \"V\", gain = 1.5)");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    positional: Vec<Value>,
    named: Vec<(String, Value)>,
    /// What could not become a value: the call will fail with it.
    wrong: Option<ValueError>,
}

impl Arguments {
    /// The bytes of no arguments (PROTOCOL.md § 13.2).
    pub(crate) const NONE: &[u8] = &[0, 0];

    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more by its place, behind those that are there.
    #[must_use]
    pub fn with(mut self, value: impl Serialize) -> Self {
        match to_value(&value) {
            Ok(value) => self.positional.push(value),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    /// One more by its name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        match to_value(&value) {
            Ok(value) => self.named.push((name.into(), value)),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    pub(crate) const fn of_parts(positional: Vec<Value>, named: Vec<(String, Value)>) -> Self {
        Self {
            positional,
            named,
            wrong: None,
        }
    }

    /// Those that were given by their places.
    #[must_use]
    pub fn positional(&self) -> &[Value] {
        &self.positional
    }

    /// Those that were given by their names.
    pub fn named_ones(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.named.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Those that were given by their places, and those that were given by their names.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Value>, Vec<(String, Value)>) {
        (self.positional, self.named)
    }

    /// Why they cannot be sent, if so.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.wrong {
            None => Ok(()),
            Some(error) => Err(Error::new(ErrorKind::Misuse, error.to_string())),
        }
    }

    /// One value for each argument of `method`, in their order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SchemaMismatch`]: there are too many, an unknown one, one twice, or one is missing.
    pub(crate) fn arrange(self, method: &Method) -> Result<Vec<Value>, Error> {
        let takes = method.arguments;
        if self.positional.len() > takes.len() {
            let (most, given) = (takes.len(), self.positional.len());
            return Err(mismatch(
                method,
                format_args!("{given} arguments given, where it takes {most}"),
            ));
        }
        if self.named.is_empty() && self.positional.len() == takes.len() {
            let given = self.positional.into_iter().zip(takes);
            return Ok(given.map(|(value, argument)| suited(value, argument)).collect());
        }
        let mut places: Vec<Option<Value>> = self.positional.into_iter().map(Some).collect();
        places.resize_with(takes.len(), || None);
        for (name, value) in self.named {
            let index = takes.iter().position(|argument| argument.name == name);
            let Some(place) = index.and_then(|index| places.get_mut(index)) else {
                let near = near::hint(&name, takes.iter().map(|argument| argument.name));
                return Err(mismatch(
                    method,
                    format_args!("no argument is named `{}`{near}", near::cut(&name)),
                ));
            };
            if place.replace(value).is_some() {
                return Err(mismatch(method, format_args!("argument `{name}` is given twice")));
            }
        }
        let given = places.into_iter().zip(takes);
        given
            .map(|(value, argument)| match value {
                Some(value) => Ok(suited(value, argument)),
                None if is_optional(argument) => Ok(Value::Null),
                None => Err(mismatch(
                    method,
                    format_args!("argument `{}` is missing", argument.name),
                )),
            })
            .collect()
    }
}

/// Numbers as bytes, where the method borrows bytes: it could not borrow them from a list.
fn suited(value: Value, argument: &Argument) -> Value {
    let borrows = || matches!(argument.of, "&[u8]" | "Option<&[u8]>");
    let bytes = match &value {
        Value::List(numbers) | Value::Tuple(numbers) if borrows() => {
            let bytes = numbers.iter().map(|number| u8::try_from(number.as_u64()?).ok());
            bytes.collect::<Option<Vec<u8>>>()
        }
        _ => None,
    };
    bytes.map_or(value, Value::bytes)
}

/// Whether the type of an argument looks like an option: then it may be left out.
pub(crate) fn is_optional(argument: &Argument) -> bool {
    let name = argument.of.split('<').next().unwrap_or_default();
    name == "Option" || name.ends_with("::Option")
}

/// Why an argument cannot be of its type.
pub(crate) fn type_error(method: &Method, error: ValueError) -> Error {
    match error.into_element() {
        Ok((index, error)) => match method.arguments.get(index) {
            Some(argument) => mismatch(method, format_args!("argument `{argument}`: {error}")),
            None => mismatch(method, error),
        },
        Err(error) => mismatch(method, error),
    }
}

fn mismatch(method: &Method, what: impl std::fmt::Display) -> Error {
    let (name, takes) = (method.name, method.takes());
    Error::new(ErrorKind::SchemaMismatch, format!("`{name}{takes}`: {what}"))
}

/// Why an object that is handed out as `interface` cannot do `op`.
pub(crate) fn name_error(interface: &'static Interface, op: &Op) -> Error {
    let of = interface.name;
    let lineage = interface.lineage();
    let methods = || lineage.iter().flat_map(|interface| interface.methods);
    let message = match op {
        Op::Named(name) => {
            let near = near::hint(name, methods().map(|method| method.name));
            format!("{of} has no method `{}`{near}", near::cut(name))
        }
        Op::Get(name) | Op::Set(name) | Op::Delete(name) => {
            let verb = match op {
                Op::Get(_) => "read",
                Op::Set(_) => "written",
                _ => "deleted",
            };
            let properties = || methods().filter_map(|method| method.getter().or_else(|| method.setter()));
            let shown = near::cut(name);
            if properties().any(|property| property == name) {
                format!("the property `{shown}` of {of} cannot be {verb}")
            } else if methods().any(|method| method.name == name) {
                format!("`{shown}` is a method of {of} and no property: call it")
            } else {
                format!("{of} has no property `{shown}`{}", near::hint(name, properties()))
            }
        }
        Op::Invoke => {
            let names: Vec<_> = methods().map(|method| format!("`{}`", method.name)).collect();
            match &*names {
                [] => format!("{of} has no method, and cannot be called"),
                names => format!(
                    "{of} has several methods, and is called by one of them: {}",
                    names.join(", ")
                ),
            }
        }
        op => format!("{of} does not know the operation `{op}`"),
    };
    Error::new(ErrorKind::Unimplemented, message)
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.positional, &self.named).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (positional, named) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            positional,
            named,
            wrong: None,
        })
    }
}

/// As they would be written in a program.
impl std::fmt::Display for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('(')?;
        let mut comma = "";
        for value in &self.positional {
            write!(f, "{comma}{value}")?;
            comma = ", ";
        }
        for (name, value) in &self.named {
            write!(f, "{comma}{name} = {value}")?;
            comma = ", ";
        }
        f.write_char(')')
    }
}

impl From<()> for Arguments {
    fn from((): ()) -> Self {
        Self::new()
    }
}

/// By their places.
impl From<Vec<Value>> for Arguments {
    fn from(positional: Vec<Value>) -> Self {
        Self {
            positional,
            ..Self::default()
        }
    }
}

impl<T: Serialize, const N: usize> From<[T; N]> for Arguments {
    fn from(values: [T; N]) -> Self {
        values.into_iter().fold(Self::new(), Self::with)
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)*) => {$(
        impl<$($name: Serialize),+> From<($($name,)+)> for Arguments {
            #[expect(non_snake_case, reason = "values are named as their types")]
            fn from(($($name,)+): ($($name,)+)) -> Self {
                Self::new()$(.with($name))+
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

#[cfg(test)]
mod tests {
    use farref_boxing::{DecodeLimits, Encoder, decode};
    use proptest::prelude::*;

    use super::*;
    use crate::interface::Manners;

    static VOLTAGE: Method = Method::new(
        1,
        "voltage",
        false,
        false,
        Manners::NONE,
        &[
            Argument::new("channel", "u8"),
            Argument::new("gain", "std::option::Option<f64>"),
        ],
        ["", "", ""],
        "",
        crate::shapes::untold,
        "",
    );

    fn encoded(arguments: &Arguments) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.encode(arguments).unwrap();
        encoder.body().to_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Result<Arguments, Error> {
        let body = bytes::Bytes::copy_from_slice(bytes);
        decode(&body, &[], &DecodeLimits::default()).map_err(Error::from)
    }

    #[test]
    #[rustfmt::skip]
    fn arguments_have_their_bytes() {
        let golden: [(Arguments, &[u8]); 2] = [
            (().into(), &[0x00, 0x00]),
            (
                Arguments::from((2,)).named("gain", 1.5),
                &[
                    0x01, 0x01, 0x92, 0x00,
                    0x01, 0x04, 0x67, 0x61, 0x69, 0x6e, 0x09, 0x04, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x00,
                ],
            ),
        ];
        assert_eq!(encoded(&Arguments::new()), Arguments::NONE);
        for (arguments, bytes) in golden {
            assert_eq!(encoded(&arguments), bytes);
            let again = read(bytes).unwrap();
            assert_eq!(again.to_string(), arguments.to_string());
            for end in 0..bytes.len() {
                assert!(read(&bytes[..end]).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn each_value_finds_its_place() {
        let places = |arguments: Arguments| {
            arguments
                .arrange(&VOLTAGE)
                .map(|values| Value::Tuple(values).to_string())
        };
        assert_eq!(places((2,).into()).unwrap(), "(2, null)");
        let named = Arguments::new().named("gain", 1.5).named("channel", 2);
        assert_eq!(places(named).unwrap(), "(2, 1.5)");
        let wrong = [
            (().into(), "argument `channel` is missing"),
            ((1, 2, 3).into(), "3 arguments given, where it takes 2"),
            (
                Arguments::from((1,)).named("channel", 1),
                "argument `channel` is given twice",
            ),
            (
                Arguments::new().named("gian", 1),
                "no argument is named `gian`: did you mean `gain`?",
            ),
        ];
        for (arguments, what) in wrong {
            let error = places(arguments).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
            let message = format!("`voltage(channel: u8, gain: std::option::Option<f64>)`: {what}");
            assert_eq!(error.message(), message);
        }
    }

    #[test]
    fn what_is_no_value_fails_the_call() {
        struct Odd;
        impl Serialize for Odd {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("odd"))
            }
        }
        let arguments = Arguments::from((1, Odd)).named("gain", Odd);
        assert_eq!(arguments.check().unwrap_err().message(), "odd");
    }

    #[test]
    fn counts_and_lengths_reserve_no_memory() {
        for bytes in [
            &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0x00, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x01, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x01, 0x03, 0x15, 0xfc, 0xff, 0xff, 0xff, 0xff],
            &[0x01, 0x02, 0x07, 0x00, 0x00, 0x00],
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
        let nested = [&[0x01, 200][..], &[0x21; 200], &[0x00, 0x00]].concat();
        assert!(read(&nested).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_what_they_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(arguments) = read(&bytes) {
                let again = read(&encoded(&arguments)).unwrap();
                prop_assert_eq!(again.to_string(), arguments.to_string());
                drop(arguments.arrange(&VOLTAGE));
            }
        }
    }
}
