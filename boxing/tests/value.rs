//! `Value`: from and to every serde type, as bytes, as text, as JSON, and as what people write.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{
    CodecError, DecodeLimits, EncodedBody, Encoder, Record, Reference, Value, decode, from_value, lend, slot,
    to_value,
};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn encoded(value: &Value) -> (Bytes, Vec<Reference>) {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    let references = encoder.take_references().collect();
    (encoder.body().to_bytes(), references)
}

fn decoded((body, references): &(Bytes, Vec<Reference>)) -> Result<Value, CodecError> {
    decode(body, references, &DecodeLimits::default())
}

fn parsed(text: &str) -> Value {
    text.parse().unwrap()
}

/// A value goes to a `Value` and back, and so it does by way of bytes and of text.
#[track_caller]
fn goes_round<T: Serialize + DeserializeOwned + PartialEq + Debug>(original: &T) {
    let value = to_value(original).unwrap();
    assert_eq!(&from_value::<T>(&value).unwrap(), original, "{value}");
    assert_eq!(to_value(&value).unwrap(), value);
    assert_eq!(from_value::<Value>(&value).unwrap(), value);
    assert_eq!(decoded(&encoded(&value)).as_ref(), Ok(&value));
    assert_eq!(parsed(&value.to_string()), value, "{value}");
    assert_eq!(parsed(&format!("{value:#}")), value, "{value:#}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Newtype(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(i8, Option<Box<Everything>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Unit,
    Number(i32),
    #[serde(rename = "half-open")]
    Range(u8, u8),
    Named {
        name: char,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Everything {
    Unit,
    Nothing(()),
    Marker(Unit),
    Empty(Empty),
    Bool(bool),
    Unsigned(u8, u16, u32, u64, u128),
    Signed(i8, i16, i32, i64, i128),
    Float {
        single: f32,
        double: f64,
    },
    Char(char),
    Text(String),
    Newtype(Newtype),
    Pair(Pair),
    #[serde(with = "farref_boxing::bytes")]
    Bytes(Bytes),
    Plain(Vec<u8>),
    Maybe(Option<Option<Option<u8>>>),
    MaybeUnit(Option<()>),
    MaybeMarker(Option<Unit>),
    List(Vec<Everything>),
    Map(BTreeMap<String, Everything>),
    Keys(BTreeMap<Key, Newtype>),
    MoreKeys(BTreeMap<Option<(i64, bool)>, Vec<()>>),
    NewKeys(BTreeMap<Newtype, u8>),
    Set(BTreeSet<char>),
    Outcome(Result<Box<Everything>, String>),
    Array([u16; 3]),
    Tuple((u8,), (i8, String)),
    Std(Duration, IpAddr, std::ops::Range<i16>),
    Skips(Skips),
    Tagged(Tagged),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Flat(Flat),
    Value(Value),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<u8>,
    #[serde(rename = "b c")]
    b: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<u8>,
    #[serde(skip)]
    d: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tagged {
    Nothing,
    SomeFields {
        x: i64,
        key: Key,
        more: Option<Vec<f32>>,
    },
    Held(Skips),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "held")]
enum Adjacent {
    Nothing,
    One(Key),
    Two(u8, char),
    Named { x: Option<Option<u8>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f64),
    Key { key: Key },
    Text(String),
    List(Vec<Untagged>),
    Pair { a: Unit, b: Option<Newtype> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    inner: Skips,
    #[serde(flatten)]
    kind: Adjacent,
    #[serde(flatten)]
    rest: BTreeMap<String, i32>,
}

fn float() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("equal to itself", |float| !float.is_nan())
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        Just(Key::Unit),
        any::<i32>().prop_map(Key::Number),
        any::<(u8, u8)>().prop_map(|(a, b)| Key::Range(a, b)),
        any::<char>().prop_map(|name| Key::Named { name }),
    ]
}

fn skips() -> impl Strategy<Value = Skips> {
    any::<(Option<u8>, u8, Option<u8>)>().prop_map(|(a, b, c)| Skips { a, b, c, d: 0 })
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    prop_oneof![
        Just(Adjacent::Nothing),
        key().prop_map(Adjacent::One),
        any::<(u8, char)>().prop_map(|(a, b)| Adjacent::Two(a, b)),
        // `Some(None)` inside of a tag is lost by serde itself.
        any::<Option<u8>>().prop_map(|x| Adjacent::Named { x: x.map(Some) }),
    ]
}

fn untagged() -> impl Strategy<Value = Untagged> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Untagged::Number),
        float().prop_map(Untagged::Float),
        key().prop_map(|key| Untagged::Key { key }),
        ".*".prop_map(Untagged::Text),
        any::<Option<String>>().prop_map(|b| Untagged::Pair {
            a: Unit,
            b: b.map(Newtype)
        }),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(Untagged::List)
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let leaf = prop_oneof![
        Just(Everything::Unit),
        Just(Everything::Nothing(())),
        Just(Everything::Marker(Unit)),
        Just(Everything::Empty(Empty {})),
        any::<bool>().prop_map(Everything::Bool),
        any::<(u8, u16, u32, u64, u128)>().prop_map(|(a, b, c, d, e)| Everything::Unsigned(a, b, c, d, e)),
        any::<(i8, i16, i32, i64, i128)>().prop_map(|(a, b, c, d, e)| Everything::Signed(a, b, c, d, e)),
        (float(), float()).prop_map(|(single, double)| Everything::Float {
            single: single as f32,
            double
        }),
        any::<char>().prop_map(Everything::Char),
        any::<String>().prop_map(Everything::Text),
        any::<String>().prop_map(|text| Everything::Newtype(Newtype(text))),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Everything::Bytes(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Everything::Plain),
        any::<Option<Option<Option<u8>>>>().prop_map(Everything::Maybe),
        any::<Option<()>>().prop_map(Everything::MaybeUnit),
        any::<bool>().prop_map(|some| Everything::MaybeMarker(some.then_some(Unit))),
        prop::collection::btree_map(key(), any::<String>().prop_map(Newtype), 0..4)
            .prop_map(Everything::Keys),
        prop::collection::btree_map(
            any::<Option<(i64, bool)>>(),
            prop::collection::vec(Just(()), 0..3),
            0..4
        )
        .prop_map(Everything::MoreKeys),
        prop::collection::btree_map(any::<String>().prop_map(Newtype), any::<u8>(), 0..4)
            .prop_map(Everything::NewKeys),
        any::<BTreeSet<char>>().prop_map(Everything::Set),
        any::<[u16; 3]>().prop_map(Everything::Array),
        any::<(u8, i8, String)>().prop_map(|(a, b, c)| Everything::Tuple((a,), (b, c))),
        any::<(Duration, IpAddr, i16, i16)>().prop_map(|(a, b, c, d)| Everything::Std(a, b, c..d)),
        skips().prop_map(Everything::Skips),
        prop_oneof![
            Just(Tagged::Nothing),
            (any::<i64>(), key(), any::<Option<i16>>()).prop_map(|(x, key, more)| Tagged::SomeFields {
                x,
                key,
                more: more.map(|more| vec![f32::from(more)])
            }),
            skips().prop_map(Tagged::Held),
        ]
        .prop_map(Everything::Tagged),
        adjacent().prop_map(Everything::Adjacent),
        untagged().prop_map(Everything::Untagged),
        (any::<u64>(), skips(), adjacent(), any::<BTreeMap<i8, i32>>()).prop_map(
            |(id, inner, kind, rest)| {
                let rest = rest.into_iter().map(|(key, value)| (format!("k{key}"), value));
                Everything::Flat(Flat {
                    id,
                    inner,
                    kind,
                    rest: rest.collect(),
                })
            }
        ),
        value().prop_map(Everything::Value),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Everything::List),
            prop::collection::btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Everything::Map),
            (any::<i8>(), prop::option::of(inner.clone()))
                .prop_map(|(a, b)| Everything::Pair(Pair(a, b.map(Box::new)))),
            prop::result::maybe_ok(inner.prop_map(Box::new), any::<String>()).prop_map(Everything::Outcome),
        ]
    })
}

/// Any value but for references.
fn value() -> impl Strategy<Value = Value> {
    let name = || {
        prop_oneof![
            "[a-z]{1,3}",
            any::<String>(),
            Just("null".to_owned()),
            Just("Some".to_owned())
        ]
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<u128>().prop_map(Value::from),
        any::<u32>().prop_map(|bits| Value::Single(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        Just(Value::Float(f64::NAN)),
        Just(Value::Single(f32::NEG_INFINITY)),
        any::<char>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::bytes),
        name().prop_map(|name| Record::unit(name).into()),
        (name(), name()).prop_map(|(name, variant)| Record::unit(variant).variant_of(name).into()),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let values = || prop::collection::vec(inner.clone(), 0..5);
        let entries = prop::collection::vec((inner.clone(), inner.clone()), 0..5);
        let fields = prop::collection::vec((name(), inner.clone()), 0..5);
        prop_oneof![
            inner.clone().prop_map(|value| Value::Some(Box::new(value))),
            values().prop_map(Value::List),
            values().prop_map(Value::Tuple),
            entries.prop_map(Value::Map),
            (name(), values()).prop_map(|(name, values)| Record::tuple(name, values).into()),
            (name(), name(), values())
                .prop_map(|(name, variant, values)| Record::tuple(variant, values).variant_of(name).into()),
            (name(), fields).prop_map(|(name, fields)| Record::named(name, fields).into()),
        ]
    })
}

proptest! {
    #[test]
    fn every_serde_type_goes_round(original in everything()) {
        goes_round(&original);
    }

    #[test]
    fn every_value_goes_round(value in value()) {
        goes_round(&value);
    }

    /// Whatever is typed is a value or an error, and a value is what it prints.
    #[test]
    fn any_text_is_a_value_or_an_error(text in "[-+(){}\\[\\]:,\"'`\\\\ \nbxu0-9a-fnNS.e_]{0,24}") {
        if let Ok(value) = text.parse::<Value>() {
            prop_assert_eq!(parsed(&value.to_string()), value);
        }
    }
}

#[test]
fn a_value_takes_32_bytes() {
    assert_eq!(size_of::<Value>(), 32);
}

#[test]
fn options_are_written_out_only_where_null_means_something_else() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node(Option<Box<Node>>);
    type Deep = Option<Option<Option<u8>>>;
    for (option, text) in [
        (None, "null"),
        (Some(None), "Some(null)"),
        (Some(Some(None)), "Some(Some(null))"),
        (Some(Some(Some(1))), "1"),
    ] {
        let value = to_value::<Deep>(&option).unwrap();
        assert_eq!(value.to_string(), text);
        assert_eq!(value, Value::from(option));
        goes_round::<Deep>(&option);
    }
    goes_round::<Option<()>>(&None);
    goes_round::<Option<()>>(&Some(()));
    goes_round(&Node(Some(Box::new(Node(Some(Box::new(Node(None))))))));
    // A value for an option of options of it, without end.
    assert!(from_value::<Node>(&Value::from(1)).is_err());
}

#[test]
fn what_people_write_will_do() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: f64,
        y: f64,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Meters(u32);
    #[derive(Debug, PartialEq, Deserialize)]
    enum Shape {
        Dot,
        Circle(u32),
        Line(u8, u8),
        Box { w: u8, h: Option<u8> },
    }
    fn reads<T: DeserializeOwned + PartialEq + Debug>(expected: T, texts: &[&str]) {
        for text in texts {
            let value = parsed(text);
            assert_eq!(from_value::<T>(&value).as_ref(), Ok(&expected), "{text}");
        }
    }
    reads(
        Point { x: 1.0, y: -2.0 },
        &[
            "Point {x: 1, y: -2}",
            "Other{y: -2.0, x: 1.0f32,}",
            "{x: 1, y: -2}",
            "{\"x\": 1, 'y': -2}",
            "(1, -2)",
            "Point(1, -2)",
            "[1,\n-2.0]",
        ],
    );
    reads(Meters(3), &["3", "Meters(3)"]);
    reads(
        Shape::Dot,
        &["Shape::Dot", "Dot", "\"Dot\"", "'Dot'", "{Dot: null}", "Dot()"],
    );
    reads(
        Shape::Circle(3),
        &["Shape::Circle(3)", "Circle(3)", "{Circle: 3}"],
    );
    reads(
        Shape::Line(1, 2),
        &["Shape::Line(1, 2)", "Line(1, 2)", "{Line: [1, 2]}"],
    );
    reads(
        Shape::Box { w: 1, h: Some(2) },
        &[
            "Shape::Box {w: 1, h: 2}",
            "Box {h: Some(2), w: 1}",
            "{\"Box\": {\"w\": 1, \"h\": 2}}",
        ],
    );
    reads(Some(3), &["3", "Some(3)"]);
    reads(
        "a".to_owned(),
        &["\"a\"", "'a'", r#""\x61""#, r#""\u0061""#, r#""\u{61}""#],
    );
    reads(
        vec![1, 2, 255_u8],
        &["[1, 2, 255]", r#"b"\x01\x02\xff""#, "(1, 2, 0xff)"],
    );
    reads((), &["null", "()", "None"]);
    reads(true, &["true", "True"]);
    reads(1_000_000, &["1_000_000", "0xf_4240", "+1000000", "(1000000)"]);
    reads("😀".to_owned(), &[r#""\ud83d\ude00""#]);
}

#[test]
fn errors_say_where_and_what() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "never read")]
    struct Outer {
        points: BTreeMap<String, Vec<(u8, Kind)>>,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "never read")]
    enum Kind {
        A { size: u8 },
        B(u8, u8),
    }
    let wrong = |text: &str| from_value::<Outer>(&parsed(text)).unwrap_err().to_string();
    assert_eq!(
        wrong("{points: {a: [(1, B(2, 3)), (1, A {size: 300})]}}"),
        "at points.a[1][1].A.size: invalid value: integer `300`, expected u8"
    );
    assert_eq!(
        wrong("{points: {'b c': [(1, B(2, 3, 4))]}}"),
        "at points.b c[0][1].B: invalid length 3, expected 2 elements"
    );
    assert_eq!(
        wrong("{points: {b: [(1, C)]}}"),
        "at points.b[0][1]: unknown variant `C`, expected `A` or `B`"
    );
    assert_eq!(wrong("{}"), "missing field `points`");
    assert_eq!(wrong("Outer"), "missing field `points`");
}

#[test]
fn errors_in_text_say_where_and_what() {
    for (text, message) in [
        ("", "line 1, column 1: expected a value, found the end"),
        ("[1, 2", "line 1, column 6: expected `,` or `]`, found the end"),
        ("{\n \"k\" 1}", "line 2, column 6: expected `:`, found '1'"),
        ("Point {x: 1, 2}", "line 1, column 14: expected a name, found '2'"),
        ("1 2", "line 1, column 3: expected the end, found '2'"),
        ("[\"é\", 12e]", "line 1, column 7: expected a number, found '1'"),
        (
            "\"a",
            "line 1, column 3: expected the closing quote, found the end",
        ),
        ("\"\\q\"", "line 1, column 3: expected an escape, found 'q'"),
        (
            "b\"é\"",
            "line 1, column 3: expected an ASCII character or an escape, found 'é'",
        ),
        ("A::(1)", "line 1, column 4: expected a name, found '('"),
        ("<reference>", "line 1, column 1: expected a value, found '<'"),
        ("-x", "line 1, column 1: expected a number, found '-'"),
        ("1.5f16", "line 1, column 1: expected a number, found '1'"),
        (
            "340282366920938463463374607431768211456",
            "line 1, column 1: expected a number, found '3'",
        ),
    ] {
        assert_eq!(text.parse::<Value>().unwrap_err().to_string(), message, "{text}");
    }
    let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
    parsed(&nested(128));
    let error = nested(129).parse::<Value>().unwrap_err();
    assert_eq!((error.line(), error.column()), (1, 129));
    assert_eq!(error.expected(), "at most 128 levels of nesting");
    assert!("(".repeat(1 << 20).parse::<Value>().is_err());
    assert!("Some(".repeat(1 << 20).parse::<Value>().is_err());
    assert!("a{a:".repeat(1 << 20).parse::<Value>().is_err());
}

#[test]
fn text_is_as_people_write_it() {
    for text in [
        "null",
        "-1",
        "340282366920938463463374607431768211455",
        "1.0",
        "1e100",
        "-0.0",
        "1.5f32",
        "nan",
        "-inf",
        "-inf_f32",
        "nan(0x7ff8000000000001)",
        "\"it's \\\"é\\\" \\n\\u{7}\"",
        "'\\''",
        "b\"a\\x00\\xff\\\"\"",
        "[1, (2,), (), [], {}]",
        "{\"k\": 1, 2: [3], (Unit): A::B}",
        "Point {x: 1, y: Some(null)}",
        "Shape::Circle(3)",
        "`not a name` {`null`: 1}",
        "Empty {}",
    ] {
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(
        format!("{:#}", parsed("P {x: [1, 2], y: (), z: {}}")),
        "P {\n    x: [\n        1,\n        2,\n    ],\n    y: (),\n    z: {},\n}"
    );
}

#[test]
fn json_is_a_value_and_a_value_is_json() {
    let text = r#"{"a":[1,-2,18446744073709551615,1.5,null,true,"x",{"b":{}}]}"#;
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(value["a"].len(), 8);
    assert_eq!(value["a"][7]["b"], Value::Map(vec![]));
    assert_eq!(serde_json::to_string(&value).unwrap(), text);

    let record =
        parsed("Point {x: 'c', shape: [Shape::Dot, S::Circle(3), S::Line(1, 2), S::Box {w: 1}], u: Unit}");
    let json = r#"{"x":"c","shape":["Dot",{"Circle":3},{"Line":[1,2]},{"Box":{"w":1}}],"u":null}"#;
    assert_eq!(serde_json::to_string(&record).unwrap(), json);

    let reference: Reference = Arc::new(());
    assert!(serde_json::to_string(&Value::from(reference)).is_err());
}

/// A value that JSON can hold.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            // JSON keeps one of two equal keys.
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn values_go_round_by_json(value in json_value()) {
        let json = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Value>(&json).unwrap(), &value);
        let json = serde_json::to_value(&value).unwrap();
        prop_assert_eq!(&serde_json::from_value::<Value>(json.clone()).unwrap().len(), &value.len());
        prop_assert_eq!(from_value::<serde_json::Value>(&value).unwrap(), json.clone());
        prop_assert_eq!(serde_json::from_value::<Value>(json.clone()).unwrap(), to_value(&json).unwrap());
    }
}

#[test]
fn values_are_equal_if_they_hold_the_same() {
    use std::collections::HashSet;
    assert_eq!(Value::UInt(5), Value::Int(5));
    assert_ne!(Value::from(0.0), Value::from(-0.0));
    assert_eq!(Value::from(f64::NAN), Value::from(f64::NAN));
    assert_ne!(Value::from(1.0_f32), Value::from(1.0));
    assert_ne!(Value::from(1), Value::from(1.0));
    assert_ne!(parsed("[1]"), parsed("(1,)"));
    assert_ne!(parsed("{a: 1, b: 2}"), parsed("{b: 2, a: 1}"));
    assert_ne!(parsed("A {x: 1}"), parsed("B {x: 1}"));
    let a: Reference = Arc::new(1);
    assert_eq!(Value::from(Arc::clone(&a)), Value::from(Arc::clone(&a)));
    assert_ne!(Value::from(a), Value::from(Arc::new(1) as Reference));
    let set = HashSet::from([
        Value::UInt(5),
        Value::Int(5),
        parsed("A {x: 1}"),
        parsed("A {x: 1}"),
    ]);
    assert_eq!(set.len(), 2);
}

#[test]
fn values_are_read_without_their_type() {
    let value =
        parsed("P {list: [1, 2.5, 'c'], map: {\"k\": b\"x\", 3: \"three\"}, pair: Pair(1, 2), on: true}");
    assert_eq!(value.kind(), "struct");
    assert_eq!(value["list"][1].as_f64(), Some(2.5));
    assert_eq!(value["list"][0].as_f64(), Some(1.0));
    assert_eq!(value["list"][2].as_char(), Some('c'));
    assert_eq!(value["map"].get("k").unwrap().as_bytes().unwrap(), "x");
    assert_eq!(value["map"].get_key(&3.into()).unwrap().as_str(), Some("three"));
    assert_eq!(value.at(2).unwrap()[1], Value::from(2));
    assert_eq!(value["on"].as_bool(), Some(true));
    assert!(value["no"]["such"][7].is_null());
    let record = value.as_record().unwrap();
    assert_eq!(record.type_name(), "P");
    assert_eq!(
        record.field_names().unwrap().collect::<Vec<_>>(),
        ["list", "map", "pair", "on"]
    );
    assert_eq!(record.iter().nth(3), Some((Some("on"), &Value::from(true))));
    assert_eq!(
        record.get("pair").unwrap().as_record().unwrap().iter().next(),
        Some((None, &Value::from(1)))
    );

    assert_eq!(u8::try_from(&Value::from(255)), Ok(255));
    assert_eq!(
        u8::try_from(Value::from(256)).unwrap_err().to_string(),
        "expected an integer that fits u8, found integer"
    );
    assert_eq!(u128::try_from(Value::from(u128::MAX)), Ok(u128::MAX));
    assert_eq!(i64::try_from(Value::from(-1_i8)), Ok(-1));
    assert_eq!(Value::from(u128::MAX).as_i128(), None);
    assert_eq!(Value::from((1_u64 << 53) + 1).as_f64(), None);
    assert_eq!(String::try_from(Value::from("a")).unwrap(), "a");
    assert!(bool::try_from(Value::Null).is_err());
    assert_eq!(
        Value::from([("a", 1), ("b", 2)].map(|(key, value)| Value::Tuple(vec![key.into(), value.into()])))
            .len(),
        2
    );
    assert_eq!(
        HashMap::from([("a", vec![Some(1), None])])
            .into_iter()
            .collect::<Value>(),
        parsed("{a: [1, null]}")
    );
}

/// A netref in miniature.
#[derive(Debug, Clone)]
struct Net(Arc<String>);

impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Serialize for Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match lend(self.0.clone()) {
            Some(slot) => serializer.serialize_u32(slot),
            None => Err(S::Error::custom("outside of a message")),
        }
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reference = slot(u32::deserialize(deserializer)?).map_err(D::Error::custom)?;
        reference
            .downcast()
            .map(Self)
            .map_err(|_| D::Error::custom("a reference of another kind"))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Holder {
    number: u32,
    net: Net,
    more: Vec<(u32, Net)>,
    maybe: Option<Net>,
    #[serde(flatten)]
    flat: BTreeMap<String, Net>,
}

fn holder() -> (Holder, [Net; 3]) {
    let nets = ["a", "b", "c"].map(|name| Net(Arc::new(name.to_owned())));
    let [a, b, c] = nets.clone();
    let holder = Holder {
        number: 0,
        net: a.clone(),
        more: vec![(1, b), (2, a)],
        maybe: Some(c.clone()),
        flat: BTreeMap::from([("flat".to_owned(), c)]),
    };
    (holder, nets)
}

#[test]
fn netrefs_become_references_and_netrefs_again() {
    let (holder, [a, ..]) = holder();
    let value = to_value(&holder).unwrap();
    assert_eq!(
        value.to_string(),
        r#"{"number": 0, "net": <reference>, "more": [(1, <reference>), (2, <reference>)], "maybe": <reference>, "flat": <reference>}"#
    );
    let reference = value["net"].as_reference().unwrap();
    assert!(Arc::ptr_eq(&reference.clone().downcast().unwrap(), &a.0));
    assert_eq!(from_value::<Holder>(&value), Ok(holder));
    assert_eq!(from_value::<Value>(&value), Ok(value.clone()));
}

#[test]
fn references_in_a_value_travel_in_the_table_of_the_message() {
    let (holder, [a, b, c]) = holder();
    let value = to_value(&holder).unwrap();
    let mut encoder = Encoder::new();
    encoder.encode(&(a.clone(), &value, b.clone())).unwrap();
    let references: Vec<Reference> = encoder.take_references().collect();
    let names = references
        .iter()
        .map(|reference| reference.downcast_ref::<String>().unwrap().as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "a", "b", "a", "c", "c", "b"]);
    let body = encoder.body().to_bytes();
    let (first, again, last): (Net, Value, Net) =
        decode(&body, &references, &DecodeLimits::default()).unwrap();
    assert_eq!((first, &again, last), (a.clone(), &value, b));
    assert_eq!(from_value::<Holder>(&again), Ok(holder));

    let error = decode::<(Net, Value, Net)>(&body, &references[..3], &DecodeLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value names the reference 3, and its message has 3"
    );
    assert_eq!(Value::from(c.0 as Reference).to_string(), "<reference>");
}

#[test]
fn a_reference_is_no_number_and_no_number_is_a_reference() {
    let reference = Value::from(Arc::new(1) as Reference);
    let error = from_value::<u32>(&reference).unwrap_err();
    assert_eq!(error.to_string(), "a reference where a number is expected");
    assert!(from_value::<String>(&reference).is_err());
    assert!(from_value::<Net>(&Value::from(0)).is_err());
    // What is not read is not missed.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Little {
        number: u32,
    }
    let value = to_value(&holder().0).unwrap();
    assert_eq!(from_value(&value), Ok(Little { number: 0 }));
}

#[test]
fn long_bytes_are_never_copied() {
    #[derive(Serialize, Deserialize)]
    struct Chunk {
        #[serde(with = "farref_boxing::bytes")]
        data: Bytes,
        #[serde(with = "farref_boxing::bytes")]
        small: Bytes,
    }
    let chunk = Chunk {
        data: vec![7; 5000].into(),
        small: Bytes::from_static(b"small"),
    };
    let value = to_value(&chunk).unwrap();
    let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
    assert!(same(value["data"].as_bytes().unwrap(), &chunk.data));

    let mut encoder = Encoder::new();
    encoder.encode(&value).unwrap();
    let EncodedBody::Rope(parts) = encoder.body() else {
        panic!("long bytes are a part of their own");
    };
    assert!(parts.iter().any(|part| same(part, &chunk.data)));

    let body = encoder.body().to_bytes();
    let again: Value = decode(&body, &[], &DecodeLimits::default()).unwrap();
    assert_eq!(again, value);
    let data = again["data"].as_bytes().unwrap();
    assert!(body.as_ptr_range().contains(&data.as_ptr()));
    let chunk: Chunk = from_value(&again).unwrap();
    assert!(same(&chunk.data, data));
}

#[test]
fn a_thousand_structs_name_their_fields_once() {
    #[derive(Serialize)]
    struct LongNamed {
        identification: u32,
        description_of_it: &'static str,
    }
    let list: Vec<LongNamed> = (0..1000)
        .map(|identification| LongNamed {
            identification,
            description_of_it: "x",
        })
        .collect();
    let (body, _) = encoded(&to_value(&list).unwrap());
    assert!(body.len() < 1000 * 7 + 100, "{}", body.len());

    // Also where each has names of its own.
    let list: Value = (0..1000)
        .map(|number| Record::named("LongNamed", [("identification", Value::from(number))]))
        .collect();
    let (body, _) = encoded(&list);
    assert!(body.len() < 1000 * 4 + 100, "{}", body.len());
}
