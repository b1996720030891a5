//! Shapes: found by reading made-up values, and bytes of one shape read as a value of another type.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use farref_boxing::{
    CodecError, DecodeLimits, Encoder, Shape, Value, decode, decode_by_shape, from_value, slot, to_value,
};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    encoder.body().to_bytes()
}

/// `value` written with its own type, and read as another.
fn read<W: Serialize + DeserializeOwned, R: DeserializeOwned>(value: &W) -> Result<R, CodecError> {
    let shape = Shape::of::<W>().unwrap();
    decode_by_shape(&encoded(value), &[], &shape, &DecodeLimits::default())
}

#[track_caller]
fn looks<T: DeserializeOwned>(text: &str) {
    let shape = Shape::of::<T>().unwrap();
    assert_eq!(shape.to_string(), text);
    assert!(shape.is_sound());
    let again: Shape = decode(&encoded(&shape), &[], &DecodeLimits::default()).unwrap();
    assert_eq!(again, shape);
    assert_eq!(again.fingerprint(), shape.fingerprint());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Meters(u32);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapper<T> {
    inner: T,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Branch { left: Box<Tree>, right: Box<Tree> },
    Both(Box<Tree>, Forest),
    Leaf(Kind),
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Forest {
    trees: Vec<Tree>,
    best: Option<Box<Tree>>,
    named: BTreeMap<String, Tree>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Oak,
    Other(String),
    Pair(u8, i128),
    Deep { kind: Deep },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Deep {
    A,
    B(Unit),
    C(Result<Meters, char>),
}

#[test]
fn plain_types_look_like_themselves() {
    looks::<u8>("u8");
    looks::<(bool, i128, f32, char, String)>("(bool, i128, f32, char, String)");
    looks::<Vec<u8>>("Bytes");
    looks::<Vec<Option<Vec<i64>>>>("Vec<Option<Vec<i64>>>");
    looks::<HashMap<String, [u16; 3]>>("Map<String, [u16; 3]>");
    looks::<()>("()");
    looks::<Value>("Value");
    looks::<Vec<Value>>("Vec<Value>");
}

#[test]
fn types_with_names_look_like_their_declaration() {
    looks::<Meters>("Meters where Meters(u32)");
    looks::<Unit>("Unit where Unit");
    looks::<Wrapper<Wrapper<u8>>>("Wrapper where Wrapper {inner: Wrapper}, Wrapper {inner: u8}");
    looks::<Result<u8, String>>("Result where Result = Ok(u8) | Err(String)");
    looks::<Duration>("Duration where Duration {secs: u64, nanos: u32}");
    looks::<IpAddr>("IpAddr where IpAddr = V4([u8; 4]) | V6([u8; 16])");
    looks::<SystemTime>("SystemTime where SystemTime {secs_since_epoch: u64, nanos_since_epoch: u32}");
    looks::<(std::ops::Range<u8>, std::ops::RangeInclusive<u8>)>(
        "(Range, RangeInclusive) where Range {start: u8, end: u8}, RangeInclusive {start: u8, end: u8}",
    );
    looks::<Deep>(
        "Deep where Deep = A | B(Unit) | C(Result), Unit, Result = Ok(Meters) | Err(char), Meters(u32)",
    );
}

#[test]
fn types_that_hold_themselves_are_told() {
    looks::<Tree>(
        "Tree where Tree = Branch {left: Tree, right: Tree} | Both(Tree, Forest) | Leaf(Kind) | Nothing, \
         Forest {trees: Vec<Tree>, best: Option<Tree>, named: Map<String, Tree>}, \
         Kind = Oak | Other(String) | Pair(u8, i128) | Deep {kind: Deep}, \
         Deep = A | B(Unit) | C(Result), Unit, Result = Ok(Meters) | Err(char), Meters(u32)",
    );
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    struct Link(u8, Option<Box<Link>>);
    looks::<Link>("Link where Link(u8, Option<Link>)");
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    enum Expression {
        Add(Box<[Expression; 2]>),
        Neg(Box<Expression>),
        Call {
            name: String,
            arguments: Vec<Expression>,
        },
        Number(f64),
    }
    looks::<Expression>(
        "Expression where Expression = Add([Expression; 2]) | Neg(Expression) | \
         Call {name: String, arguments: Vec<Expression>} | Number(f64)",
    );
}

#[test]
fn what_cannot_be_told_is_not() {
    /// Which of the names it is written by, nobody says.
    #[derive(Deserialize)]
    enum Aliased {
        #[serde(alias = "B")]
        A,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
    }
    /// No value of it has an end.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    struct Endless(Box<Endless>);
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    enum EndlessEnum {
        A(Box<EndlessEnum>),
        B(Box<EndlessEnum>, u8),
    }
    assert_eq!(Shape::of::<Endless>(), None);
    assert_eq!(Shape::of::<EndlessEnum>(), None);
    assert_eq!(Shape::of::<Aliased>(), None);
    assert_eq!(Shape::of::<Untagged>(), None);
    assert_eq!(Shape::of::<serde_json::Value>(), None);
    assert!(Shape::of::<NonZeroU8>().is_some());
}

#[test]
fn fields_with_several_names_are_told_by_the_one_they_are_written_by() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    struct Aliased {
        #[serde(alias = "z", alias = "a")]
        m: u8,
        #[serde(rename = "b", alias = "c")]
        x: Option<Box<Aliased>>,
        plain: Meters,
        #[serde(skip)]
        skipped: u8,
        #[serde(default, alias = "0")]
        last: Vec<Either>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    #[serde(deny_unknown_fields)]
    enum Either {
        Left {
            #[serde(alias = "b")]
            a: i8,
        },
        Right {
            a: u8,
            #[serde(alias = "a2")]
            b: Kind,
            #[serde(alias = "b3")]
            c: Meters,
        },
    }
    /// The same names, the other way round.
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "its shape is asked for")]
    struct Turned {
        #[serde(alias = "a")]
        b: char,
    }
    looks::<(Aliased, Turned)>(
        "(Aliased, Turned) where Aliased {m: u8, b: Option<Aliased>, plain: Meters, last: Vec<Either>}, \
         Turned {b: char}, Meters(u32), Either = Left {a: i8} | Right {a: u8, b: Kind, c: Meters}, \
         Kind = Oak | Other(String) | Pair(u8, i128) | Deep {kind: Deep}, Deep = A | B(Unit) | C(Result), Unit, \
         Result = Ok(Meters) | Err(char)",
    );
}

/// What a derive would write.
mod told {
    use farref_boxing::{ShapeFields, ShapeType, Shaped, Shapes};

    use super::*;

    impl Shaped for Unit {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.structure::<Self>("Unit", |_| ShapeFields::UNIT)
        }
    }

    impl Shaped for Meters {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.structure::<Self>("Meters", |shapes| ShapeFields::newtype(u32::shape(shapes)))
        }
    }

    impl<T: Shaped> Shaped for Wrapper<T> {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.structure::<Self>("Wrapper", |shapes| {
                ShapeFields::named([("inner", T::shape(shapes))])
            })
        }
    }

    impl Shaped for Tree {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.enumeration::<Self, _>("Tree", |shapes| {
                let tree = <Box<Self>>::shape(shapes);
                [
                    (
                        "Branch",
                        ShapeFields::named([("left", tree.clone()), ("right", tree.clone())]),
                    ),
                    ("Both", ShapeFields::tuple([tree, Forest::shape(shapes)])),
                    ("Leaf", ShapeFields::newtype(Kind::shape(shapes))),
                    ("Nothing", ShapeFields::UNIT),
                ]
            })
        }
    }

    impl Shaped for Forest {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.structure::<Self>("Forest", |shapes| {
                ShapeFields::named([
                    ("trees", <Vec<Tree>>::shape(shapes)),
                    ("best", <Option<Box<Tree>>>::shape(shapes)),
                    ("named", <BTreeMap<String, Tree>>::shape(shapes)),
                ])
            })
        }
    }

    /// This one is asked of serde.
    impl Shaped for Kind {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            shapes.traced::<Self>().unwrap()
        }
    }

    /// With a reference, which serde does not tell.
    impl Shaped for Net {
        fn shape(_shapes: &mut Shapes) -> ShapeType {
            ShapeType::REFERENCE
        }
    }
}

#[test]
fn what_types_tell_is_what_serde_tells() {
    use std::collections::{BTreeSet, HashSet, VecDeque};

    fn agree<T: farref_boxing::Shaped + DeserializeOwned>() {
        let (told, traced) = (Shape::told_by::<T>(), Shape::of::<T>().unwrap());
        assert_eq!(told, traced, "{told} and {traced}");
    }
    macro_rules! agree {
        ($($type:ty;)*) => {$( agree::<$type>(); )*};
    }
    agree! {
        bool; u8; u16; u32; u64; u128; usize; i8; i16; i32; i64; i128; isize; f32; f64; char; String; ();
        Box<str>; Box<[u16]>; std::borrow::Cow<'static, str>; std::path::PathBuf; NonZeroU8; Value;
        std::num::Wrapping<u8>; std::cmp::Reverse<u8>; std::sync::Mutex<u8>; std::cell::Cell<u8>;
        Option<u8>; Vec<u8>; Vec<u16>; VecDeque<u8>; BTreeSet<u8>; HashSet<char>;
        HashMap<String, ()>; BTreeMap<u8, u8>; [u8; 0]; [u8; 1]; [u8; 32]; (u8,); (u8, u8); (u8, i8, Vec<u8>);
        Result<u8, Result<String, ()>>; std::ops::Range<u8>; std::ops::RangeInclusive<i64>;
        std::marker::PhantomData<u8>; Duration; SystemTime; (Duration, SystemTime, Duration);
        IpAddr; std::net::SocketAddr; (IpAddr, std::net::SocketAddr);
        Unit; Meters; Wrapper<Wrapper<Meters>>; Tree; Forest; Kind; (Kind, Tree); (Tree, Kind);
    }
}

/// A netref in miniature.
#[derive(Debug, PartialEq)]
struct Net(std::sync::Arc<u8>);

impl Serialize for Net {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(farref_boxing::lend(self.0.clone()).unwrap())
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slot = farref_boxing::slot(u32::deserialize(deserializer)?);
        let reference = slot.map_err(serde::de::Error::custom)?;
        reference
            .downcast()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("of another kind"))
    }
}

#[test]
fn netrefs_are_read_by_a_shape_like_all_else() {
    assert_eq!(Shape::of::<Net>(), None, "serde does not tell");
    let shape = Shape::told_by::<(u8, Vec<Wrapper<Net>>, Net)>();
    assert_eq!(
        shape.to_string(),
        "(u8, Vec<Wrapper>, Netref) where Wrapper {inner: Netref}"
    );

    let mut encoder = Encoder::new();
    let net = |number| Net(std::sync::Arc::new(number));
    encoder
        .encode(&(
            7_u8,
            vec![Wrapper { inner: net(1) }, Wrapper { inner: net(2) }],
            net(3),
        ))
        .unwrap();
    let references: Vec<_> = encoder.take_references().collect();
    let body = encoder.body().to_bytes();
    let limits = DecodeLimits::default();
    let read: (u64, Vec<Wrapper<Option<Net>>>, Net) =
        decode_by_shape(&body, &references, &shape, &limits).unwrap();
    assert_eq!(read.1[1].inner, Some(net(2)));
    assert_eq!(read.2, net(3));
    let value: Value = decode_by_shape(&body, &references, &shape, &limits).unwrap();
    assert_eq!(
        value.to_string(),
        "(7, [Wrapper {inner: <reference>}, Wrapper {inner: <reference>}], <reference>)"
    );
    let read: (u64, IgnoredAny, Net) = decode_by_shape(&body, &references, &shape, &limits).unwrap();
    assert_eq!(read.2, net(3));
    assert!(
        shape
            .readable_as(&Shape::told_by::<(u8, Vec<Wrapper<Net>>, u32)>())
            .is_err()
    );
}

#[test]
fn a_shape_is_its_root_and_its_types() {
    let shape = |bytes: &[u8]| decode::<Shape>(&Bytes::copy_from_slice(bytes), &[], &DecodeLimits::default());
    for (expected, bytes) in [
        (Shape::of::<u8>(), &[0x01, 0x00][..]),
        (Shape::of::<Vec<u8>>(), &[0x0f, 0x00]),
        (Shape::of::<Option<Vec<char>>>(), &[0x10, 0x11, 0x0d, 0x00]),
        (Shape::of::<HashMap<String, Value>>(), &[0x12, 0x0e, 0x15, 0x00]),
        (Shape::of::<(bool, ())>(), &[0x13, 0x02, 0x00, 0x13, 0x00, 0x00]),
        (Shape::of::<[i64; 3]>(), &[0x14, 0x09, 0x03, 0x00]),
        (Shape::of::<Meters>(), b"\x16\x00\x01\x06Meters\x00\x01\x03"),
        (
            Shape::of::<Result<Wrapper<Unit>, u16>>(),
            b"\x16\x00\x03\x06Result\x01\x02\x02Ok\x01\x16\x01\x03Err\x01\x02\
              \x07Wrapper\x00\x03\x01\x05inner\x16\x02\x04Unit\x00\x00",
        ),
    ] {
        let expected = expected.unwrap();
        assert_eq!(&encoded(&expected)[..], bytes, "{expected}");
        assert_eq!(shape(bytes), Ok(expected));
    }
}

#[test]
fn fingerprints_never_change() {
    assert_eq!(Shape::of::<u8>().unwrap().fingerprint(), 0xbcc7_aec3);
    assert_eq!(Shape::of::<Deep>().unwrap().fingerprint(), 0x06dc_8e62);
    assert_ne!(
        Shape::of::<Wrapper<u8>>().unwrap().fingerprint(),
        Shape::of::<Wrapper<i8>>().unwrap().fingerprint()
    );
    assert_eq!(
        Shape::of::<(Vec<u8>, (u8, u8))>().unwrap().fingerprint(),
        Shape::of::<(Box<[u8]>, [u8; 2])>().unwrap().fingerprint(),
        "the bytes are the same"
    );
}

/// What a type was, in the order in which it grew.
mod versions {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct One {
        pub(super) name: String,
        pub(super) size: u16,
        pub(super) gone: Vec<Tree>,
        pub(super) kind: KindOne,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) enum KindOne {
        A,
        B(u8),
        C { x: f32 },
        D(u8, String),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct Two {
        pub(super) kind: KindTwo,
        #[serde(default)]
        pub(super) added: BTreeMap<String, u8>,
        #[serde(alias = "size")]
        pub(super) length: Option<u64>,
        pub(super) name: Wrapped,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) struct Wrapped(pub(super) String);

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) enum KindTwo {
        New(Vec<u8>),
        #[serde(alias = "D")]
        Other(u32, String),
        C {
            x: f64,
            #[serde(default)]
            y: u8,
        },
        A,
    }
}

#[test]
fn old_bytes_are_read_into_a_new_type() {
    use versions::{KindOne, KindTwo, One, Two, Wrapped};
    let one = |kind| One {
        name: "name".into(),
        size: 300,
        gone: vec![
            Tree::Nothing,
            Tree::Leaf(Kind::Deep {
                kind: Deep::C(Ok(Meters(1))),
            }),
            Tree::Both(
                Box::new(Tree::Leaf(Kind::Pair(1, -1))),
                Forest {
                    trees: vec![],
                    best: Some(Box::new(Tree::Nothing)),
                    named: BTreeMap::from([("x".into(), Tree::Nothing)]),
                },
            ),
        ],
        kind,
    };
    for (old, new) in [
        (KindOne::A, KindTwo::A),
        (KindOne::C { x: 1.5 }, KindTwo::C { x: 1.5, y: 0 }),
        (KindOne::D(7, "d".into()), KindTwo::Other(7, "d".into())),
    ] {
        let expected = Two {
            kind: new,
            added: BTreeMap::new(),
            length: Some(300),
            name: Wrapped("name".into()),
        };
        assert_eq!(read(&one(old)), Ok(expected));
    }
    // A variant that the new type lacks is refused only when it is used.
    let error = read::<One, Two>(&one(KindOne::B(1))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown variant `B`, expected one of `New`, `D`, `Other`, `C`, `A`"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    fn refused<W: Serialize + DeserializeOwned, R: DeserializeOwned + Debug>(value: W, message: &str) {
        assert_eq!(read::<W, R>(&value).unwrap_err().to_string(), message);
    }
    refused::<u16, String>(1, "invalid type: integer `1`, expected a string");
    refused::<u16, u8>(300, "invalid value: integer `300`, expected u8");
    // It used to become infinite.
    refused::<f64, f32>(1e300, "invalid value: float out of range, expected f32");
    assert_eq!(read::<f64, f32>(&0.1), Ok(0.1));
    assert_eq!(read::<f64, f32>(&f64::NEG_INFINITY), Ok(f32::NEG_INFINITY));
    refused::<(u8, u8, u8), (u8, u8)>((1, 2, 3), "1 elements or fields more than the type takes");
    refused::<(u8, u8), (u8, u8, u8)>((1, 2), "invalid length 2, expected a tuple of size 3");
    refused::<Wrapper<u8>, Meters>(Wrapper { inner: 1 }, "invalid type: map, expected u32");
    refused::<Unit, Wrapper<u8>>(Unit, "invalid type: unit value, expected struct Wrapper");
    refused::<Deep, Kind>(
        Deep::A,
        "unknown variant `A`, expected one of `Oak`, `Other`, `Pair`, `Deep`",
    );
    refused::<Value, u8>(
        Value::Null,
        "invalid type: data that says what it is, expected u8",
    );
    assert_eq!(read::<u8, Option<u8>>(&1), Ok(Some(1)));
    assert_eq!(read::<u8, Meters>(&1), Ok(Meters(1)));
    assert_eq!(read::<Value, Value>(&Value::from(7)), Ok(Value::from(7)));
    assert_eq!(
        read::<(Value, u8), (IgnoredAny, u8)>(&(Value::from("x"), 7))
            .unwrap()
            .1,
        7
    );
}

/// Reads each value as each type: what is told to be unreadable is, and what is told to be readable is read.
#[test]
fn what_cannot_be_read_is_told_before() {
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Named {
        a: u8,
        b: String,
    }
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Swapped {
        b: String,
        a: u64,
    }
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Grown {
        a: Option<Meters>,
        b: char,
        #[serde(default)]
        c: u8,
    }
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Pair(u8, String);
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Held(Kind);
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Maybe(Option<u8>);
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct List {
        head: u8,
        tail: Option<Box<List>>,
    }
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct OtherList {
        head: String,
        tail: Option<Box<OtherList>>,
    }

    /// Whether it can be read, and what is told before.
    fn tried<W: Serialize + DeserializeOwned, R: DeserializeOwned>(value: &W) -> (bool, bool) {
        let (writer, reader) = (Shape::of::<W>().unwrap(), Shape::of::<R>().unwrap());
        let told = writer.readable_as(&reader);
        let read = read::<W, R>(value);
        assert!(
            told.is_ok() || read.is_err(),
            "{writer} is read as {reader}: {}",
            told.unwrap_err()
        );
        (read.is_ok(), told.is_ok())
    }
    let mut counts = [[0; 2]; 2];
    macro_rules! pairs {
        ($($value:expr => $type:ty;)*) => {$({
            let value: $type = $value;
            pairs!(with value: u8; u64; f64; String; char; (u8, String); (u8, String, u8); [u8; 2]; Vec<u8>; Vec<u64>;
                Option<u8>; Option<Option<String>>; (); Unit; Named; Swapped; Grown; Pair; Meters; Held; Maybe; Kind;
                Deep; Tree; Value; HashMap<String, u8>; BTreeMap<u8, Unit>; List; OtherList; Wrapper<u8>;
                Wrapper<Named>; Result<u8, String>;);
        })*};
        (with $value:ident: $($type:ty;)*) => {$(
            let (read, told) = tried::<_, $type>(&$value);
            counts[usize::from(read)][usize::from(told)] += 1;
        )*};
    }
    pairs! {
        7 => u8;
        7 => u64;
        1.5 => f64;
        "x".into() => String;
        'x' => char;
        (1, "x".into()) => (u8, String);
        (1, "x".into(), 2) => (u8, String, u8);
        [1, 2] => [u8; 2];
        vec![b'1', b'2'] => Vec<u8>;
        vec![1, 2] => Vec<u64>;
        Some(1) => Option<u8>;
        Some(Some("x".into())) => Option<Option<String>>;
        () => ();
        Unit => Unit;
        Named { a: 1, b: "x".into() } => Named;
        Swapped { a: 1, b: "x".into() } => Swapped;
        Grown { a: Some(Meters(1)), b: 'x', c: 1 } => Grown;
        Pair(1, "x".into()) => Pair;
        Meters(7) => Meters;
        Held(Kind::Oak) => Held;
        Maybe(Some(1)) => Maybe;
        Kind::Oak => Kind;
        Deep::A => Deep;
        Tree::Nothing => Tree;
        Value::from(1) => Value;
        HashMap::from([("x".into(), 1)]) => HashMap<String, u8>;
        BTreeMap::from([(1, Unit)]) => BTreeMap<u8, Unit>;
        List { head: 1, tail: Some(Box::new(List { head: 2, tail: None })) } => List;
        OtherList { head: "x".into(), tail: None } => OtherList;
        Wrapper { inner: 7 } => Wrapper<u8>;
        Wrapper { inner: Named { a: 1, b: "x".into() } } => Wrapper<Named>;
        Ok(1) => Result<u8, String>;
    }
    let [[refused, tried], [_, read]] = counts;
    assert!(refused > 800 && read > 70, "{counts:?}");
    assert!(
        tried < 120,
        "told only when it is read, by the value or by what a shape leaves out: {counts:?}"
    );

    let (writer, reader) = (
        Shape::of::<Wrapper<Vec<List>>>().unwrap(),
        Shape::of::<Wrapper<Vec<OtherList>>>().unwrap(),
    );
    let error = writer.readable_as(&reader).unwrap_err();
    assert_eq!(error.path(), "inner[].head");
    assert_eq!(
        error.to_string(),
        "`Wrapper where Wrapper {inner: Vec<List>}, List {head: u8, tail: Option<List>}` cannot be read as \
         `Wrapper where Wrapper {inner: Vec<OtherList>}, OtherList {head: String, tail: Option<OtherList>}`, \
         for they differ at `inner[].head`"
    );
    assert!(
        Shape::of::<versions::One>()
            .unwrap()
            .readable_as(&Shape::of::<Tree>().unwrap())
            .is_err()
    );
}

#[test]
fn cut_and_long_bodies_are_refused() {
    let value = Forest {
        trees: vec![Tree::Leaf(Kind::Other("x".into())); 3],
        best: None,
        named: BTreeMap::new(),
    };
    let shape = Shape::of::<Forest>().unwrap();
    let body = encoded(&value);
    for cut in 0..body.len() {
        let part = body.slice(..cut);
        assert!(decode_by_shape::<Forest>(&part, &[], &shape, &DecodeLimits::default()).is_err());
        assert!(decode_by_shape::<IgnoredAny>(&part, &[], &shape, &DecodeLimits::default()).is_err());
    }
    let long = Bytes::from([&body[..], &[0]].concat());
    assert_eq!(
        decode_by_shape::<Forest>(&long, &[], &shape, &DecodeLimits::default()),
        Err(CodecError::Trailing { bytes: 1 })
    );
}

/// Shapes, as a peer may write them: they have the form of the real ones, and no sense.
mod hostile {
    use super::*;

    #[derive(Clone, Serialize)]
    pub(super) struct Shape {
        pub(super) root: Type,
        pub(super) types: Vec<(String, Kind)>,
    }

    #[derive(Clone, Serialize)]
    #[expect(dead_code, reason = "the numbers of the variants count")]
    pub(super) enum Type {
        Bool,
        U8,
        U16,
        U32,
        U64,
        U128,
        I8,
        I16,
        I32,
        I64,
        I128,
        F32,
        F64,
        Char,
        Str,
        Bytes,
        Option(Box<Type>),
        List(Box<Type>),
        Map(Box<Type>, Box<Type>),
        Tuple(Vec<Type>),
        Array(Box<Type>, u32),
        Value,
        Named(u32),
    }

    #[derive(Clone, Serialize)]
    #[expect(dead_code, reason = "the numbers of the variants count")]
    pub(super) enum Kind {
        Struct(Fields),
        Enum(Vec<(String, Fields)>),
    }

    #[derive(Clone, Serialize)]
    #[expect(dead_code, reason = "the numbers of the variants count")]
    pub(super) enum Fields {
        Unit,
        Newtype(Type),
        Tuple(Vec<Type>),
        Named(Vec<(String, Type)>),
    }

    pub(super) fn shape(root: Type, types: Vec<Kind>) -> super::Shape {
        let types = types.into_iter().map(|kind| ("T".to_owned(), kind)).collect();
        decode(&encoded(&Shape { root, types }), &[], &DecodeLimits::default()).unwrap()
    }
}

#[test]
fn hostile_shapes_cost_no_more_than_their_bytes() {
    use hostile::{Fields, Kind, Type, shape};
    let named = |number| Type::Named(number);
    let holds = |of| Kind::Struct(Fields::Newtype(of));
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            for unsound in [
                shape(named(0), vec![]),
                shape(Type::Bool, vec![holds(named(1))]),
                shape(named(0), vec![holds(named(0))]),
                shape(
                    named(0),
                    vec![
                        holds(named(1)),
                        holds(Type::Tuple(vec![named(2)])),
                        holds(named(0)),
                    ],
                ),
            ] {
                assert!(!unsound.is_sound());
                let read =
                    decode_by_shape::<IgnoredAny>(&Bytes::new(), &[], &unsound, &DecodeLimits::default());
                assert!(read.is_err());
            }
            assert!(shape(named(0), vec![holds(Type::Option(Box::new(named(0))))]).is_sound());

            // A chain of structs, each in the next, as long as one likes.
            let chain: Vec<Kind> = (1..100_000)
                .map(|number| holds(named(number)))
                .chain([holds(Type::Bool)])
                .collect();
            let chain = shape(named(0), chain);
            assert!(chain.is_sound());
            let body = Bytes::from_static(&[1]);
            assert!(decode_by_shape::<IgnoredAny>(&body, &[], &chain, &DecodeLimits::default()).is_err());
            // A newtype is what it holds, so this is one byte; other structs are as many levels.
            assert_eq!(
                decode_by_shape(&body, &[], &chain, &DecodeLimits::default()),
                Ok(Value::from(true))
            );
            let deep = |levels: u32| {
                let mut chain: Vec<Kind> = (1..levels)
                    .map(|number| Kind::Struct(Fields::Tuple(vec![named(number)])))
                    .collect();
                chain.push(Kind::Struct(Fields::Tuple(vec![Type::Bool])));
                decode_by_shape::<Value>(&body, &[], &shape(named(0), chain), &DecodeLimits::default())
            };
            encoded(&deep(128).unwrap());
            assert_eq!(deep(129), Err(CodecError::TooDeep { limit: 128 }));
            assert!(deep(100_000).is_err());

            // Each struct holds the next twice, and the last one nothing.
            let mut double: Vec<Kind> = (1..60)
                .map(|number| Kind::Struct(Fields::Tuple(vec![named(number), named(number)])))
                .collect();
            double.push(Kind::Struct(Fields::Unit));
            let double = shape(named(0), double);
            let read = decode_by_shape::<IgnoredAny>(&Bytes::new(), &[], &double, &DecodeLimits::default());
            assert!(matches!(read, Err(CodecError::TooManyItems { .. })));

            let read = decode_by_shape::<Value>(&Bytes::new(), &[], &double, &DecodeLimits::default());
            assert!(matches!(read, Err(CodecError::TooMuchMemory { .. })));

            let empty = Type::Array(
                Box::new(Type::Array(Box::new(Type::Tuple(vec![])), u32::MAX)),
                u32::MAX,
            );
            let read = decode_by_shape::<IgnoredAny>(
                &Bytes::new(),
                &[],
                &shape(empty, vec![]),
                &DecodeLimits::default(),
            );
            assert!(matches!(read, Err(CodecError::TooManyItems { .. })));
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn types_around_each_byte_are_limited_by_how_many_bytes_there_are() {
    use hostile::{Fields, Kind, Type, shape};
    let chain = |len: u32, link: fn(Type) -> Fields| {
        let mut types: Vec<Kind> = (1..len)
            .map(|next| Kind::Struct(link(Type::Named(next))))
            .collect();
        types.push(Kind::Struct(link(Type::U8)));
        shape(Type::List(Box::new(Type::Named(0))), types)
    };
    let body = encoded(&vec![1_u8; 50_000]);
    let limits = DecodeLimits::default();
    // Each of these used to be read, one type after the other, for each byte.
    let structs = chain(120, |of| Fields::Tuple(vec![of]));
    assert!(decode_by_shape::<IgnoredAny>(&body, &[], &structs, &limits).is_err());
    let newtypes = chain(300, Fields::Newtype);
    assert!(decode_by_shape::<IgnoredAny>(&body, &[], &newtypes, &limits).is_err());
    assert!(decode_by_shape::<Vec<u8>>(&body, &[], &newtypes, &limits).is_err());
    assert!(decode_by_shape::<Value>(&body, &[], &newtypes, &limits).is_err());
    // Some are nobody's fault.
    let few = chain(5, Fields::Newtype);
    assert_eq!(
        decode_by_shape::<Vec<u8>>(&body, &[], &few, &limits),
        Ok(vec![1; 50_000])
    );
}

#[test]
fn comparing_takes_no_longer_because_types_hold_each_other_in_very_many_ways() {
    use hostile::{Fields, Kind, Type, shape};
    // 2500^4 numbers, in 20 KiB. All of them used to be looked at, one after the other.
    let holds = |of: Type| Kind::Struct(Fields::Tuple(vec![of; 2500]));
    let writer = shape(
        Type::Named(0),
        vec![
            holds(Type::Named(1)),
            holds(Type::Named(2)),
            holds(Type::Named(3)),
            holds(Type::U8),
        ],
    );
    let reader = Shape::of::<Vec<Vec<Vec<Vec<u64>>>>>().unwrap();
    assert_eq!(writer.readable_as(&reader), Ok(()));
    // What is met early is told all the same.
    let reader = Shape::of::<Vec<Vec<Vec<Vec<String>>>>>().unwrap();
    assert_eq!(writer.readable_as(&reader).unwrap_err().path(), "0.0.0.0");
}

fn deep() -> impl Strategy<Value = Deep> {
    prop_oneof![
        Just(Deep::A),
        Just(Deep::B(Unit)),
        any::<u32>().prop_map(|meters| Deep::C(Ok(Meters(meters)))),
        any::<char>().prop_map(|char| Deep::C(Err(char))),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Nothing),
        Just(Tree::Leaf(Kind::Oak)),
        any::<String>().prop_map(|text| Tree::Leaf(Kind::Other(text))),
        any::<(u8, i128)>().prop_map(|(a, b)| Tree::Leaf(Kind::Pair(a, b))),
        deep().prop_map(|kind| Tree::Leaf(Kind::Deep { kind })),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let forest = (
            prop::collection::vec(inner.clone(), 0..3),
            prop::option::of(boxed()),
            prop::collection::btree_map(any::<String>(), inner.clone(), 0..3),
        );
        let forest = forest.prop_map(|(trees, best, named)| Forest { trees, best, named });
        prop_oneof![
            (boxed(), boxed()).prop_map(|(left, right)| Tree::Branch { left, right }),
            (boxed(), forest).prop_map(|(tree, forest)| Tree::Both(tree, forest)),
        ]
    })
}

/// A reference, as netrefs are written.
struct Slot;

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        slot(index).map(|_| Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape is asked for")]
struct Referring {
    number: u32,
    one: Slot,
    other: u32,
    maybe: Option<Slot>,
    many: Vec<(Slot, Slot)>,
    wrapped: Wrapped,
}

#[derive(Deserialize)]
struct Wrapped(Slot);

#[test]
fn references_are_told_from_numbers() {
    assert_eq!(Shape::of::<Referring>(), None);
    let shape = Shape::tell(Some(Arc::new(())), |shapes| shapes.traced::<Referring>());
    assert_eq!(
        shape.unwrap().to_string(),
        "Referring where Referring {number: u32, one: Netref, other: u32, maybe: Option<Netref>, \
         many: Vec<[Netref; 2]>, wrapped: Wrapped}, Wrapped(Netref)",
    );
}

proptest! {
    #[test]
    fn bytes_are_read_by_their_own_shape(tree in tree()) {
        prop_assert_eq!(read::<Tree, Tree>(&tree), Ok(tree.clone()));
        prop_assert!(read::<Tree, IgnoredAny>(&tree).is_ok());
        // And without a type.
        let value = read::<Tree, Value>(&tree).unwrap();
        prop_assert_eq!(&value, &to_value(&tree).unwrap());
        prop_assert_eq!(from_value::<Tree>(&value), Ok(tree));
        // What a type makes of a shape with names is what JSON makes of it.
        let json: serde_json::Value = read::<Wrapper<Vec<u16>>, _>(&Wrapper { inner: vec![1, 2] }).unwrap();
        prop_assert_eq!(json.to_string(), "{\"inner\":[1,2]}");
    }

    #[test]
    fn any_bytes_are_a_shape_or_an_error(bytes in prop::collection::vec(0..24_u8, 0..60), body in prop::collection::vec(0..8_u8, 0..20)) {
        if let Ok(shape) = decode::<Shape>(&bytes.into(), &[], &DecodeLimits::default()) {
            let text = shape.to_string();
            prop_assert!(!text.is_empty());
            let body = body.into();
            _ = decode_by_shape::<IgnoredAny>(&body, &[], &shape, &DecodeLimits::default());
            let value = decode_by_shape::<Value>(&body, &[], &shape, &DecodeLimits::default());
            _ = value.map(|value| value.to_string());
        }
    }
}

#[test]
fn a_shape_tells_how_deep_containers_are_nested() {
    #[track_caller]
    fn levels<T: DeserializeOwned>(expected: u8) {
        assert_eq!(Shape::of::<T>().unwrap().levels(), expected);
    }
    levels::<f64>(0);
    levels::<Option<String>>(0);
    levels::<()>(0);
    levels::<Value>(0);
    levels::<Vec<Value>>(1);
    levels::<Vec<u8>>(1);
    levels::<(u8, Option<Vec<u16>>)>(2);
    levels::<HashMap<String, Vec<[f32; 2]>>>(3);
    levels::<Meters>(0);
    levels::<Wrapper<Meters>>(1);
    levels::<Wrapper<Vec<Wrapper<u8>>>>(3);
    levels::<Result<u8, Vec<u16>>>(2);
    // It has no end.
    levels::<Tree>(u8::MAX);
}
