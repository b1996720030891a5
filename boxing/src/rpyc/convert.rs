//! Brine and [`Value`]: what is by value on both sides.
//!
//! | Python                     | [`Value`]                                                                        |
//! |----------------------------|----------------------------------------------------------------------------------|
//! | `None`                     | `null`                                                                           |
//! | `bool`, `int`, `float`     | boolean, integer, float; an `f32` goes as a float                                |
//! | an `int` beyond 128 bits   | `int("123...")`                                                                  |
//! | `str`, `bytes`             | string, bytes; a character goes as text                                          |
//! | `tuple`                    | tuple                                                                            |
//! | `complex`                  | `complex {real: 1.0, imag: 2.0}`                                                 |
//! | `slice`                    | `slice {start: 1, stop: null, step: null}`                                       |
//! | `frozenset`                | `frozenset([1, 2])`                                                              |
//! | `...`, `NotImplemented`    | `Ellipsis`, `NotImplemented`                                                     |
//!
//! `Some(x)` goes as `x`. Lists, maps, references, and structs and variants of other names are not by value in Python.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};

use super::build::{Build, Constant};
use super::{BigInt, Brine, BrineError, Reader, write};
use crate::value::{Fields, Names};
use crate::{Record, Value};

const ELLIPSIS: &str = "Ellipsis";
const NOT_IMPLEMENTED: &str = "NotImplemented";
const COMPLEX: &str = "complex";
const SLICE: &str = "slice";
const FROZENSET: &str = "frozenset";
const REAL_IMAG: [&str; 2] = ["real", "imag"];
const START_STOP_STEP: [&str; 3] = ["start", "stop", "step"];

/// The names of the records, made once.
static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let form = |name, fields| Arc::new(Names::new(name, None, fields));
    let named = |names: &[&'static str]| Fields::Named(names.iter().map(|&name| name.into()).collect());
    Forms {
        ellipsis: form(ELLIPSIS, Fields::Unit),
        not_implemented: form(NOT_IMPLEMENTED, Fields::Unit),
        int: form(BigInt::NAME, Fields::Tuple(1)),
        complex: form(COMPLEX, named(&REAL_IMAG)),
        slice: form(SLICE, named(&START_STOP_STEP)),
        frozenset: form(FROZENSET, Fields::Tuple(1)),
    }
});

struct Forms {
    ellipsis: Arc<Names>,
    not_implemented: Arc<Names>,
    int: Arc<Names>,
    complex: Arc<Names>,
    slice: Arc<Names>,
    frozenset: Arc<Names>,
}

fn record<const N: usize>(form: &Arc<Names>, values: [Value; N]) -> Value {
    Record::from_parts(Arc::clone(form), values).into()
}

impl From<Brine> for Value {
    fn from(value: Brine) -> Self {
        let all = |items: Vec<Brine>| items.into_iter().map(Self::from).collect();
        match value {
            Brine::None => <Self as Build>::constant(Constant::None),
            Brine::NotImplemented => <Self as Build>::constant(Constant::NotImplemented),
            Brine::Ellipsis => <Self as Build>::constant(Constant::Ellipsis),
            Brine::Bool(value) => Self::Bool(value),
            Brine::Int(value) => Self::Int(value),
            Brine::BigInt(value) => <Self as Build>::big_int(value),
            Brine::Float(value) => Self::Float(value),
            Brine::Complex { real, imag } => <Self as Build>::complex(real, imag),
            Brine::Bytes(value) => Self::bytes(value),
            Brine::Str(value) => Self::Str(value),
            Brine::Tuple(items) => Self::Tuple(all(items)),
            Brine::Slice(parts) => <Self as Build>::slice(parts.map(Self::from)),
            Brine::FrozenSet(items) => <Self as Build>::frozenset(all(items)),
        }
    }
}

impl<'a> Build<'a> for Value {
    type Many = Vec<Self>;

    fn constant(value: Constant) -> Self {
        match value {
            Constant::None => Self::Null,
            Constant::NotImplemented => record(&FORMS.not_implemented, []),
            Constant::Ellipsis => record(&FORMS.ellipsis, []),
        }
    }

    fn bool(value: bool) -> Self {
        Self::Bool(value)
    }

    fn int(value: i128) -> Self {
        Self::Int(value)
    }

    fn big_int(value: BigInt) -> Self {
        match value.to_u128() {
            Some(value) => value.into(),
            None => record(&FORMS.int, [value.as_str().into()]),
        }
    }

    fn float(value: f64) -> Self {
        Self::Float(value)
    }

    fn complex(real: f64, imag: f64) -> Self {
        record(&FORMS.complex, [real.into(), imag.into()])
    }

    fn bytes(payload: &'a Bytes, value: &'a [u8]) -> Self {
        Self::bytes(payload.slice_ref(value))
    }

    fn text(value: &'a str) -> Self {
        value.into()
    }

    fn many(room: usize) -> Vec<Self> {
        Vec::with_capacity(room)
    }

    fn push(items: &mut Vec<Self>, item: Self) {
        items.push(item);
    }

    fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(items)
    }

    fn slice(parts: [Self; 3]) -> Self {
        record(&FORMS.slice, parts)
    }

    fn frozenset(items: Vec<Self>) -> Self {
        record(&FORMS.frozenset, [Self::List(items)])
    }
}

impl Reader<'_> {
    /// A value of any type, as a [`Value`]: what [`brine`](Self::brine) reads, and without the step between.
    ///
    /// A frozenset is two levels of a `Value`, a struct and its list, so that this may be nested twice as deep as
    /// [`BrineLimits::depth`](super::BrineLimits::depth).
    ///
    /// # Errors
    ///
    /// It is none, or breaks a limit.
    pub fn value(&mut self) -> Result<Value, BrineError> {
        self.build()
    }
}

/// A record that Python has a type for.
enum Known<'a> {
    Ellipsis,
    NotImplemented,
    Int(BigInt),
    Complex(f64, f64),
    Slice(&'a [Value]),
    FrozenSet(&'a [Value]),
}

impl<'a> Known<'a> {
    fn of(record: &'a Record) -> Option<Self> {
        if record.variant().is_some() {
            return None;
        }
        let named = |names: &[&str]| {
            record
                .field_names()
                .is_some_and(|found| found.eq(names.iter().copied()))
        };
        let is_tuple = record.field_names().is_none();
        Some(match (record.type_name(), record.values()) {
            (ELLIPSIS, []) => Self::Ellipsis,
            (NOT_IMPLEMENTED, []) => Self::NotImplemented,
            (BigInt::NAME, [Value::Str(text)]) if is_tuple => Self::Int(text.parse().ok()?),
            (COMPLEX, [real, imag]) if named(&REAL_IMAG) => Self::Complex(real.as_f64()?, imag.as_f64()?),
            (SLICE, parts) if named(&START_STOP_STEP) => Self::Slice(parts),
            (FROZENSET, [Value::List(members) | Value::Tuple(members)]) if is_tuple => {
                Self::FrozenSet(members)
            }
            _ => return None,
        })
    }
}

/// Whether Python has `value` by value, with all that it holds.
#[must_use]
pub fn is_by_value(value: &Value) -> bool {
    match value {
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Single(_)
        | Value::Float(_)
        | Value::Char(_)
        | Value::Str(_)
        | Value::Bytes(_) => true,
        Value::Some(value) => is_by_value(value),
        Value::Tuple(items) => items.iter().all(is_by_value),
        Value::Record(record) => match Known::of(record) {
            Some(Known::Slice(items) | Known::FrozenSet(items)) => items.iter().all(is_by_value),
            known => known.is_some(),
        },
        Value::List(_) | Value::Map(_) | Value::Reference(_) => false,
    }
}

/// Appends `value` to `out` if Python has it by value, with all that it holds; otherwise nothing, and gives `false`.
#[must_use = "false says that nothing was written"]
pub fn put_value(value: &Value, out: &mut BytesMut) -> bool {
    let start = out.len();
    let written = put(value, out);
    if !written {
        out.truncate(start);
    }
    written
}

fn put(value: &Value, out: &mut BytesMut) -> bool {
    match value {
        Value::Null => write::put_none(out),
        Value::Bool(value) => write::put_bool(*value, out),
        Value::Int(value) => write::put_int(*value, out),
        Value::UInt(value) => write::put_unsigned(*value, out),
        Value::Single(value) => write::put_float((*value).into(), out),
        Value::Float(value) => write::put_float(*value, out),
        Value::Char(value) => write::put_str(value.encode_utf8(&mut [0; 4]), out),
        Value::Str(value) => write::put_str(value, out),
        Value::Bytes(value) => write::put_bytes(value, out),
        Value::Some(value) => return put(value, out),
        Value::Tuple(items) => {
            write::put_tuple(items.len(), out);
            return put_all(items, out);
        }
        Value::Record(record) => match Known::of(record) {
            Some(Known::Ellipsis) => write::put_ellipsis(out),
            Some(Known::NotImplemented) => write::put_not_implemented(out),
            Some(Known::Int(value)) => write::put_big_int(&value, out),
            Some(Known::Complex(real, imag)) => write::put_complex(real, imag, out),
            Some(Known::Slice(parts)) => {
                write::put_slice(out);
                return put_all(parts, out);
            }
            Some(Known::FrozenSet(members)) => {
                write::put_frozenset(members.len(), out);
                return put_all(members, out);
            }
            None => return false,
        },
        Value::List(_) | Value::Map(_) | Value::Reference(_) => return false,
    }
    true
}

fn put_all(items: &[Value], out: &mut BytesMut) -> bool {
    items.iter().all(|item| put(item, out))
}

impl Brine {
    /// `value`, if Python has it by value, with all that it holds.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let all = |items: &[Value]| items.iter().map(Self::from_value).collect::<Option<Vec<_>>>();
        Some(match value {
            Value::Null => Self::None,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::UInt(value) => BigInt::from(*value).into(),
            Value::Single(value) => Self::Float((*value).into()),
            Value::Float(value) => Self::Float(*value),
            Value::Char(value) => Self::Str((*value).into()),
            Value::Str(value) => Self::Str(value.clone()),
            Value::Bytes(value) => Self::Bytes((**value).clone()),
            Value::Some(value) => return Self::from_value(value),
            Value::Tuple(items) => Self::Tuple(all(items)?),
            Value::Record(record) => match Known::of(record)? {
                Known::Ellipsis => Self::Ellipsis,
                Known::NotImplemented => Self::NotImplemented,
                Known::Int(value) => value.into(),
                Known::Complex(real, imag) => Self::Complex { real, imag },
                Known::Slice(parts) => Self::Slice(Box::new(all(parts)?.try_into().ok()?)),
                Known::FrozenSet(members) => Self::FrozenSet(all(members)?),
            },
            Value::List(_) | Value::Map(_) | Value::Reference(_) => return None,
        })
    }
}

/// As [`Brine::Int`] if it fits.
impl From<BigInt> for Brine {
    fn from(value: BigInt) -> Self {
        value.to_i128().map_or(Self::BigInt(value), Self::Int)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BrineLimits, Complex, Ellipsis, FrozenSet, NotImplemented, Slice, decode};
    use super::*;
    use crate::{from_value, to_value};

    /// Each of Python's types, as it is in text.
    const BY_VALUE: [&str; 14] = [
        "null",
        "true",
        "-170141183460469231731687303715884105728",
        "340282366920938463463374607431768211455",
        "int(\"-340282366920938463463374607431768211456\")",
        "1.5",
        "\"text\"",
        "b\"bytes\"",
        "(1, (), (\"a\",))",
        "complex {real: 1.0, imag: -0.0}",
        "slice {start: 1, stop: null, step: null}",
        "frozenset([1, (2, 3)])",
        "Ellipsis",
        "NotImplemented",
    ];

    #[test]
    fn what_is_by_value_on_both_sides_comes_back() {
        for text in BY_VALUE {
            let value: Value = text.parse().unwrap();
            assert!(is_by_value(&value), "{text}");
            let brine = Brine::from_value(&value).unwrap();
            assert_eq!(Value::from(brine.clone()), value);
            let mut out = BytesMut::new();
            assert!(put_value(&value, &mut out));
            let mut tree = BytesMut::new();
            super::super::encode(&brine, &mut tree);
            assert_eq!(out, tree);
            let payload = out.freeze();
            assert_eq!(decode(&payload, &BrineLimits::default()), Ok(brine));
            assert_eq!(Reader::new(&payload, &BrineLimits::default()).value(), Ok(value));
        }
    }

    #[test]
    fn rusts_own_types_go_as_pythons() {
        for (text, brine) in [
            ("1.5f32", Brine::Float(1.5)),
            ("'x'", Brine::Str("x".into())),
            ("Some(Some(null))", Brine::None),
            ("int(\"12\")", Brine::Int(12)),
            (
                "complex {real: 1, imag: 2}",
                Brine::Complex { real: 1.0, imag: 2.0 },
            ),
        ] {
            let value: Value = text.parse().unwrap();
            assert_eq!(Brine::from_value(&value), Some(brine.clone()));
            let mut out = BytesMut::new();
            assert!(put_value(&value, &mut out));
            assert_eq!(decode(&out.freeze(), &BrineLimits::default()), Ok(brine));
        }
    }

    #[test]
    fn what_is_by_reference_in_python_leaves_nothing() {
        for text in [
            "[1]",
            "{\"k\": 1}",
            "(1, (2, [3]))",
            "Point {x: 1}",
            "slice {start: [1], stop: null, step: null}",
            "slice(1, 2, 3)",
            "frozenset(1)",
            "frozenset([[1]])",
            "complex {real: \"1\", imag: 2}",
            "complex {imag: 1, real: 2}",
            "int(\"x\")",
            "int {text: \"1\"}",
            "Python::Ellipsis",
        ] {
            let value: Value = text.parse().unwrap();
            let mut out = BytesMut::from(&b"before"[..]);
            assert!(!put_value(&value, &mut out), "{text}");
            assert_eq!(out, "before");
            assert!(!is_by_value(&value));
            assert_eq!(Brine::from_value(&value), None);
        }
    }

    #[test]
    fn pythons_types_are_these_records() {
        fn both<T: serde::Serialize + for<'de> serde::Deserialize<'de> + PartialEq + std::fmt::Debug>(
            typed: T,
            text: &str,
        ) {
            let value = to_value(&typed).unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(from_value::<T>(&value).unwrap(), typed);
            assert!(is_by_value(&value));
            // What came from Python is the same.
            let again = Value::from(Brine::from_value(&value).unwrap());
            assert_eq!(from_value::<T>(&again).unwrap(), typed);
            // And so between peers of Rust.
            let mut encoder = crate::Encoder::new();
            encoder.encode(&typed).unwrap();
            let body = encoder.body().to_bytes();
            assert_eq!(
                crate::decode::<T>(&body, &[], &Default::default()).unwrap(),
                typed
            );
        }
        both(Complex { real: 1.0, imag: 2.5 }, "complex {real: 1.0, imag: 2.5}");
        both(
            Slice {
                start: None,
                stop: Some(-1),
                step: Some(2),
            },
            "slice {start: null, stop: -1, step: 2}",
        );
        both(FrozenSet(vec![1, 2]), "frozenset([1, 2])");
        both(FrozenSet::<u8>::default(), "frozenset([])");
        both(Ellipsis, "Ellipsis");
        both(NotImplemented, "NotImplemented");
        both(BigInt::from(7_i128), "int(\"7\")");
        let big = "-340282366920938463463374607431768211456";
        both(big.parse::<BigInt>().unwrap(), &format!("int({big:?})"));
    }

    #[test]
    fn pythons_types_have_shapes() {
        use crate::Shape;

        assert_eq!(Shape::told_by::<BigInt>().to_string(), "int where int(String)");
        assert_eq!(
            Shape::of::<FrozenSet<i32>>(),
            Some(Shape::told_by::<FrozenSet<i32>>())
        );
        for shape in [
            Shape::of::<Slice>(),
            Shape::of::<Complex>(),
            Shape::of::<Ellipsis>(),
        ] {
            assert!(shape.is_some());
        }
    }

    #[test]
    fn any_integer_is_a_big_one() {
        for text in [
            "7",
            "-7",
            "340282366920938463463374607431768211455",
            "\"7\"",
            "int(\"7\")",
        ] {
            let value: Value = text.parse().unwrap();
            assert!(from_value::<BigInt>(&value).is_ok(), "{text}");
        }
        assert!(from_value::<BigInt>(&Value::from("x")).is_err());
    }
}
