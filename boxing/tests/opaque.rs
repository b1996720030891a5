//! Opaque types: read by themselves where both sides have the same, and by nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use farref_boxing::{
    DecodeLimits, Encoder, Shape, ShapeFields, ShapeType, Shaped, Shapes, Value, decode, decode_by_shape,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    encoder.body().to_bytes()
}

/// `value` written with its own type, and read as another: why not, if it is refused.
fn read<W: Serialize + Shaped, R: DeserializeOwned + Shaped>(value: &W) -> Result<R, String> {
    let writer = Shape::told_by::<W>();
    let by = writer
        .read_by(&Shape::told_by::<R>())
        .map_err(|error| error.to_string())?;
    decode_by_shape(&encoded(value), &[], &by, &DecodeLimits::default()).map_err(|error| error.to_string())
}

macro_rules! opaque {
    ($($type:ident $name:literal $version:literal;)*) => {$(
        impl Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                shapes.opaque($name, $version)
            }
        }
    )*};
}

macro_rules! structs {
    ($($type:ident {$($field:ident: $of:ty),*})*) => {$(
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct $type {
            $($field: $of),*
        }

        impl Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                shapes.structure::<Self>(stringify!($type), |shapes| {
                    ShapeFields::named([$((stringify!($field), <$of>::shape(shapes))),*])
                })
            }
        }
    )*};
}

/// Takes only some of what its bytes can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Odd(u8);

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            odd if odd % 2 == 1 => Ok(Self(odd)),
            even => Err(serde::de::Error::custom(format!("{even} is not odd"))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Next(u8);

/// Is read as an option, a struct and an enum is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Perhaps(Option<u8>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wave {
    points: Vec<(u8, f32)>,
    kind: Result<String, char>,
    by_name: BTreeMap<String, Option<i64>>,
}

opaque! {
    Odd "test.Odd" 1;
    Next "test.Odd" 2;
    Perhaps "test.Perhaps" 1;
    Wave "test.Wave" 7;
}

fn wave() -> Wave {
    Wave {
        points: vec![(3, 0.5), (4, -1.0)],
        kind: Err('x'),
        by_name: BTreeMap::from([("a".into(), Some(-5)), ("b".into(), None)]),
    }
}

#[test]
fn an_opaque_shape_is_these_bytes() {
    let shape = Shape::told_by::<Odd>();
    // A type with a name; one definition: its name, that it is opaque, its version.
    let bytes = b"\x16\x00\x01\x08test.Odd\x02\x01";
    assert_eq!(encoded(&shape), &bytes[..]);
    let again: Shape = decode(&Bytes::from_static(bytes), &[], &DecodeLimits::default()).unwrap();
    assert!(again == shape && again.is_sound());
    assert_eq!(shape.to_string(), "test.Odd where test.Odd version 1");
    // Equal ones are one.
    let both = Shape::told_by::<(Odd, Vec<Odd>, Next)>();
    assert_eq!(
        both.to_string(),
        "(test.Odd, Vec<test.Odd>, test.Odd) where test.Odd version 1, test.Odd version 2"
    );
    assert_ne!(shape.fingerprint(), Shape::told_by::<Next>().fingerprint());
    // What the reader has agreed to is of this process alone.
    assert!(
        decode::<Shape>(
            &Bytes::from_static(b"\x16\x00\x01\x01a\x03"),
            &[],
            &DecodeLimits::default()
        )
        .is_err()
    );
}

structs! {
    Old { gone: u16, odd: Odd, waves: Vec<Option<Wave>>, perhaps: Perhaps, pair: (Odd, Odd), map: BTreeMap<Odd, Wave> }
    New { map: BTreeMap<Odd, Wave>, perhaps: Option<Perhaps>, added: Option<u8>, odd: Option<Odd>, pair: (Odd, Odd),
        waves: Vec<Option<Wave>> }
    First { odd: Odd, x: u8 }
    Second { odd: Next, x: u8 }
    Without { x: u8 }
    Number { odd: u8, x: u8 }
    Dynamic { odd: Value, x: u8 }
    Wider { odd: Odd, x: u16 }
}

#[test]
fn around_what_is_opaque_everything_may_change() {
    let old = Old {
        gone: 7,
        odd: Odd(3),
        waves: vec![None, Some(wave())],
        perhaps: Perhaps(Some(9)),
        pair: (Odd(5), Odd(7)),
        map: BTreeMap::from([(Odd(1), wave())]),
    };
    let new = New {
        map: BTreeMap::from([(Odd(1), wave())]),
        perhaps: Some(Perhaps(Some(9))),
        added: None,
        odd: Some(Odd(3)),
        pair: (Odd(5), Odd(7)),
        waves: vec![None, Some(wave())],
    };
    assert_eq!(read::<_, New>(&old), Ok(new));
    // It checks what it reads, as ever.
    #[derive(Serialize)]
    struct Even(u8, u8);
    impl Shaped for Even {
        fn shape(shapes: &mut Shapes) -> ShapeType {
            First::shape(shapes)
        }
    }
    assert_eq!(read::<_, Wider>(&Even(4, 0)), Err("4 is not odd".into()));
}

#[test]
fn another_version_and_another_name_are_refused_before_anything_is_read() {
    let first = First { odd: Odd(1), x: 2 };
    assert_eq!(
        read::<_, Second>(&first).unwrap_err(),
        "`First where First {odd: test.Odd, x: u8}, test.Odd version 1` cannot be read as `Second where Second {odd: \
         test.Odd, x: u8}, test.Odd version 2`, for they differ at `odd`"
    );
    for refused in [
        read::<_, Without>(&first).map(drop),
        read::<_, Number>(&first).map(drop),
        read::<_, Dynamic>(&first).map(drop),
        read::<_, First>(&Number { odd: 1, x: 2 }).map(drop),
    ] {
        assert!(refused.unwrap_err().ends_with("for they differ at `odd`"));
    }
    assert!(read::<_, Wave>(&Odd(1)).is_err());
    // Whoever reads it without asking is told when it comes to that.
    let error = decode_by_shape::<Number>(
        &encoded(&first),
        &[],
        &Shape::told_by::<First>(),
        &DecodeLimits::default(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "only the type itself can read `test.Odd version 1`, which is opaque"
    );
}

macro_rules! enums {
    ($($type:ident {$($(#[$meta:meta])* $variant:ident($of:ty)),*})*) => {$(
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum $type {
            $($(#[$meta])* $variant($of)),*
        }

        impl Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                shapes.enumeration::<Self, _>(stringify!($type), |shapes| {
                    [$((stringify!($variant), ShapeFields::newtype(<$of>::shape(shapes)))),*]
                })
            }
        }
    )*};
}

enums! {
    Sends { Text(String), Odd(Odd), Inner(First), Same(First), Later(Wave) }
    // It knows the same type at one place, and takes something else for it at others.
    Takes { Same(First), Text(String), Odd(Next), #[serde(alias = "Inner")] Other(Number) }
}

#[test]
fn a_variant_with_another_is_refused_only_if_it_is_used() {
    assert_eq!(
        read::<_, Takes>(&Sends::Text("a".into())),
        Ok(Takes::Text("a".into()))
    );
    let first = || First { odd: Odd(3), x: 2 };
    assert_eq!(read::<_, Takes>(&Sends::Same(first())), Ok(Takes::Same(first())));
    assert_eq!(
        read::<_, Takes>(&Sends::Odd(Odd(3))).unwrap_err(),
        "only the type itself can read `test.Odd version 1`, which is opaque"
    );
    // By another name, nobody knows that what reads it is the same.
    assert_eq!(
        read::<_, Takes>(&Sends::Inner(first())).unwrap_err(),
        "only the type itself can read `test.Odd version 1`, which is opaque"
    );
    let error = read::<_, Takes>(&Sends::Later(wave())).unwrap_err();
    assert!(error.starts_with("unknown variant `Later`"), "{error}");
}

#[test]
fn very_many_types_around_it_are_no_harm() {
    // `struct (1)`, `struct (2)`, .., the last of which is opaque: each definition holds the next one.
    let varint = |number: u16| match number {
        0..251 => vec![number as u8],
        _ => [vec![0xfb], number.to_le_bytes().to_vec()].concat(),
    };
    for kind in [1, 2] {
        let count = 5000;
        let mut bytes = [vec![0x16, 0], varint(count)].concat();
        for next in 1..count {
            // No name, a struct, a newtype or a tuple of one.
            bytes.extend([0, 0, kind]);
            bytes.extend(vec![1; usize::from(kind) - 1]);
            bytes.push(0x16);
            bytes.extend(varint(next));
        }
        bytes.extend([0, 2, 1]);
        let shape: Shape = decode(&Bytes::from(bytes), &[], &DecodeLimits::default()).unwrap();
        assert!(shape.is_sound());
        assert!(shape.read_by(&Shape::told_by::<u8>()).is_err() || kind == 1);
        // Too deep to be compared, and refused when it is read.
        let by = shape.read_by(&shape).unwrap();
        assert!(decode_by_shape::<Odd>(&encoded(&Odd(1)), &[], &by, &DecodeLimits::default()).is_err());
    }
}
