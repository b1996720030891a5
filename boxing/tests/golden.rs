//! The bytes of every shape of value, both ways, in the order of PROTOCOL.md § 9; then the same bytes by both versions of
//! bincode.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bincode::Options;
use bytes::Bytes;
use farref_boxing::{DecodeLimits, EncodedBody, Encoder, decode};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    assert!(
        matches!(encoder.body(), EncodedBody::Slice(_)),
        "small values are contiguous"
    );
    encoder.body().to_bytes()
}

/// Each value is these bytes, and these bytes are that value.
macro_rules! golden {
    ($($type:ty { $($value:expr => $bytes:expr;)* })*) => {$($({
        let (value, bytes): ($type, &[u8]) = ($value, $bytes);
        let body = encoded(&value);
        assert_eq!(&body[..], bytes, "{value:?} of type {}", stringify!($type));
        let again = decode::<$type>(&body, &[], &DecodeLimits::default());
        assert_eq!(again.as_ref(), Ok(&value), "{bytes:?} as {}", stringify!($type));
    })*)*};
}

#[test]
fn bytes_and_booleans_are_one_byte() {
    golden! {
        u8 {
            0 => &[0]; 250 => &[250]; 251 => &[251]; 255 => &[255];
        }
        i8 {
            0 => &[0]; 1 => &[1]; -1 => &[0xff]; -128 => &[0x80]; 127 => &[0x7f];
        }
        bool {
            false => &[0]; true => &[1];
        }
    }
}

#[test]
fn unsigned_integers_take_one_three_five_nine_or_seventeen_bytes() {
    golden! {
        u16 {
            0 => &[0]; 250 => &[250]; 251 => &[251, 251, 0]; 256 => &[251, 0, 1]; 65_535 => &[251, 0xff, 0xff];
        }
        u32 {
            250 => &[250];
            65_535 => &[251, 0xff, 0xff];
            65_536 => &[252, 0, 0, 1, 0];
            u32::MAX => &[252, 0xff, 0xff, 0xff, 0xff];
        }
        u64 {
            251 => &[251, 251, 0];
            0xffff_ffff => &[252, 0xff, 0xff, 0xff, 0xff];
            0x1_0000_0000 => &[253, 0, 0, 0, 0, 1, 0, 0, 0];
            0x0102_0304_0506_0708 => &[253, 8, 7, 6, 5, 4, 3, 2, 1];
            u64::MAX => &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        }
        usize {
            7 => &[7]; 300 => &[251, 44, 1];
        }
        u128 {
            250 => &[250];
            0xffff_ffff_ffff_ffff => &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
            1 << 64 => &[254, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            u128::MAX => &[
                254, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ];
        }
    }
}

#[test]
fn signed_integers_are_zigzagged_first() {
    golden! {
        i16 {
            0 => &[0]; -1 => &[1]; 1 => &[2]; -2 => &[3]; 125 => &[250]; -126 => &[251, 251, 0];
            126 => &[251, 252, 0]; i16::MAX => &[251, 0xfe, 0xff]; i16::MIN => &[251, 0xff, 0xff];
        }
        i32 {
            -32_768 => &[251, 0xff, 0xff];
            32_768 => &[252, 0, 0, 1, 0];
            i32::MAX => &[252, 0xfe, 0xff, 0xff, 0xff];
            i32::MIN => &[252, 0xff, 0xff, 0xff, 0xff];
        }
        i64 {
            1 << 31 => &[253, 0, 0, 0, 0, 1, 0, 0, 0];
            i64::MAX => &[253, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
            i64::MIN => &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        }
        isize {
            -7 => &[13];
        }
        i128 {
            -1 => &[1];
            1 << 63 => &[254, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            i128::MIN => &[
                254, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ];
        }
    }
}

#[test]
fn floats_are_their_bits() {
    golden! {
        f32 {
            1.0 => &[0, 0, 0x80, 0x3f]; -0.0 => &[0, 0, 0, 0x80]; f32::INFINITY => &[0, 0, 0x80, 0x7f];
        }
        f64 {
            1.0 => &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]; f64::MIN_POSITIVE => &[0, 0, 0, 0, 0, 0, 0x10, 0];
        }
    }
    let payload = 0x7ff8_0000_dead_beef_u64;
    let body = encoded(&f64::from_bits(payload));
    assert_eq!(&body[..], payload.to_le_bytes());
    let again = decode::<f64>(&body, &[], &DecodeLimits::default()).unwrap();
    assert_eq!(again.to_bits(), payload, "what is not a number keeps its payload");
}

#[test]
fn characters_are_utf8_and_strings_have_their_length_before_them() {
    golden! {
        char {
            'a' => b"a"; '\0' => &[0]; 'é' => &[0xc3, 0xa9]; '€' => &[0xe2, 0x82, 0xac]; '🦀' => &[0xf0, 0x9f, 0xa6, 0x80];
        }
        String {
            String::new() => &[0]; "hé".into() => &[3, b'h', 0xc3, 0xa9];
        }
    }
    let long = "x".repeat(251);
    assert_eq!(encoded(&long)[..4], [251, 251, 0, b'x']);
    assert_eq!(encoded(&long).len(), 254);
}

#[test]
fn options_have_a_tag_and_nothing_has_no_bytes() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing;
    golden! {
        Option<u16> {
            None => &[0]; Some(0) => &[1, 0]; Some(300) => &[1, 251, 44, 1];
        }
        Option<Option<()>> {
            None => &[0]; Some(None) => &[1, 0]; Some(Some(())) => &[1, 1];
        }
        () {
            () => &[];
        }
        Nothing {
            Nothing => &[];
        }
    }
}

#[test]
fn sequences_and_maps_have_their_count_before_them() {
    golden! {
        Vec<u16> {
            vec![] => &[0]; vec![1, 251, 2] => &[3, 1, 251, 251, 0, 2];
        }
        Vec<Vec<u8>> {
            vec![vec![], vec![255]] => &[2, 0, 1, 255];
        }
        Vec<()> {
            vec![(); 3] => &[3];
        }
        BTreeMap<u8, String> {
            BTreeMap::from([(2, "b".into()), (1, "a".into())]) => &[2, 1, 1, b'a', 2, 1, b'b'];
        }
        HashMap<char, bool> {
            HashMap::from([('k', true)]) => &[1, b'k', 1];
        }
    }
    assert_eq!(encoded(&vec![(); 251])[..], [251, 251, 0]);
}

#[test]
fn tuples_arrays_and_structs_are_their_fields() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Named {
        a: u8,
        b: (u16, i16),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Tuple(u8, Named);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Newtype(Vec<u8>);
    golden! {
        (u8, u16, String) {
            (1, 2, "c".into()) => &[1, 2, 1, b'c'];
        }
        [u16; 3] {
            [1, 2, 300] => &[1, 2, 251, 44, 1];
        }
        [u8; 4] {
            [1, 2, 3, 255] => &[1, 2, 3, 255];
        }
        Named {
            Named { a: 1, b: (2, -2) } => &[1, 2, 3];
        }
        Tuple {
            Tuple(9, Named { a: 1, b: (2, -2) }) => &[9, 1, 2, 3];
        }
        Newtype {
            Newtype(vec![7]) => &[1, 7];
        }
        Box<(u8,)> {
            Box::new((5,)) => &[5];
        }
        Duration {
            Duration::new(1, 500) => &[1, 251, 0xf4, 1];
        }
    }
}

#[test]
fn enums_are_the_index_of_the_variant_and_its_fields() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(u16),
        Tuple(u8, u8),
        Struct { a: i16, b: Option<Box<Shape>> },
    }
    golden! {
        Shape {
            Shape::Unit => &[0];
            Shape::Newtype(251) => &[1, 251, 251, 0];
            Shape::Tuple(1, 2) => &[2, 1, 2];
            Shape::Struct { a: -1, b: Some(Box::new(Shape::Unit)) } => &[3, 1, 1, 0];
        }
        Result<u8, String> {
            Ok(5) => &[0, 5]; Err("e".into()) => &[1, 1, b'e'];
        }
        std::ops::Bound<u8> {
            std::ops::Bound::Unbounded => &[0];
        }
    }
}

#[test]
fn a_longer_form_of_an_integer_is_read_but_never_written() {
    let read =
        |bytes: &'static [u8]| decode::<u64>(&Bytes::from_static(bytes), &[], &DecodeLimits::default());
    assert_eq!(read(&[251, 7, 0]), Ok(7));
    assert_eq!(read(&[253, 7, 0, 0, 0, 0, 0, 0, 0]), Ok(7));
}

/// A value with every shape that serde knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    unsigned: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64, i128),
    floats: (f32, f64),
    flag: bool,
    char: char,
    text: String,
    bytes: Vec<u8>,
    maybe: Option<Box<Everything>>,
    list: Vec<(u16, String)>,
    map: BTreeMap<String, Choice>,
    result: Result<u32, String>,
    array: [i32; 5],
    unit: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(i64),
    Tuple(u8, String),
    Struct { a: Option<u64> },
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Unit),
        any::<i64>().prop_map(Choice::Newtype),
        any::<(u8, String)>().prop_map(|(a, b)| Choice::Tuple(a, b)),
        any::<Option<u64>>().prop_map(|a| Choice::Struct { a }),
    ]
}

/// Integers of all sizes, mostly near the edges where their form changes.
fn edge() -> impl Strategy<Value = u128> {
    (0..128_u32, 0..8_u128, any::<bool>()).prop_map(|(bits, by, up)| {
        let edge = 1_u128 << bits;
        if up {
            edge.wrapping_add(by)
        } else {
            edge.wrapping_sub(by)
        }
    })
}

fn flat() -> impl Strategy<Value = Everything> {
    let parts = (
        (edge(), edge(), edge(), edge(), edge()),
        any::<(f32, f64, bool, char, String, Vec<u8>)>(),
        any::<Vec<(u16, String)>>(),
        proptest::collection::btree_map(any::<String>(), choice(), 0..4),
        any::<(Result<u32, String>, [i32; 5])>(),
    );
    parts.prop_map(
        |((a, b, c, d, e), (single, double, flag, char, text, bytes), list, map, (result, array))| {
            Everything {
                unsigned: (a as u8, b as u16, c as u32, d as u64, e),
                signed: (e as i8, d as i16, c as i32, b as i64, a as i128),
                floats: (single, double),
                flag,
                char,
                text,
                bytes,
                maybe: None,
                list,
                map,
                result,
                array,
                unit: (),
            }
        },
    )
}

fn everything() -> impl Strategy<Value = Everything> {
    (flat(), proptest::option::of(flat())).prop_map(|(outer, inner)| Everything {
        maybe: inner.map(Box::new),
        ..outer
    })
}

#[test]
fn long_texts_and_bytes_are_what_bincode_makes_of_them() {
    struct Raw<'a>(&'a [u8]);
    impl Serialize for Raw<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    for len in [250, 251, 4095, 4096, 65_535, 65_536, 200_000] {
        let text = "x".repeat(len);
        let value = (Raw(text.as_bytes()), &text, Raw(&[]), 7_u8);
        let mut encoder = Encoder::new();
        encoder.encode(&value).unwrap();
        let bytes = bincode::DefaultOptions::new().serialize(&value).unwrap();
        assert!(encoder.body().to_bytes() == bytes, "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(value in everything()) {
        let body = encoded(&value);
        prop_assert_eq!(decode::<Everything>(&body, &[], &DecodeLimits::default()), Ok(value));
    }

    #[test]
    fn bincode_writes_and_reads_the_same_bytes(value in everything()) {
        let body = encoded(&value);
        let options = bincode::DefaultOptions::new;
        prop_assert_eq!(&options().serialize(&value).unwrap()[..], &body[..]);
        let again: Everything = options().deserialize(&body).unwrap();
        prop_assert_eq!(&again, &value);
        let config = bincode2::config::standard();
        prop_assert_eq!(&bincode2::serde::encode_to_vec(&value, config).unwrap()[..], &body[..]);
        let (again, read): (Everything, usize) = bincode2::serde::decode_from_slice(&body, config).unwrap();
        prop_assert_eq!(read, body.len());
        prop_assert_eq!(again, value);
    }

    #[test]
    fn a_cut_value_is_an_error(value in everything(), at in any::<proptest::sample::Index>()) {
        let body = encoded(&value);
        let cut = body.slice(..at.index(body.len()));
        prop_assert!(decode::<Everything>(&cut, &[], &DecodeLimits::default()).is_err());
    }
}
