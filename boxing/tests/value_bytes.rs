//! The bytes of a `Value`, in the order of PROTOCOL.md § 9.10 to 9.12, both ways; and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{CodecError, DecodeLimits, Encoder, ErrorKind, Reference, Value, decode, to_value};
use proptest::prelude::*;

/// The head of the value that the text means; it has no long bytes.
fn head(text: &str) -> Vec<u8> {
    let value: Value = text.parse().unwrap();
    let mut encoder = Encoder::new();
    encoder.encode(&value).unwrap();
    let (head, long): (Vec<u8>, Vec<Vec<u8>>) =
        decode(&encoder.body().to_bytes(), &[], &DecodeLimits::default()).unwrap();
    assert!(long.is_empty());
    head
}

fn decoded(head: &[u8], long: &[Vec<u8>]) -> Result<Value, CodecError> {
    decoded_within(head, long, &DecodeLimits::default())
}

fn decoded_within(head: &[u8], long: &[Vec<u8>], limits: &DecodeLimits) -> Result<Value, CodecError> {
    let mut encoder = Encoder::new();
    encoder.encode(&(head, long)).unwrap();
    decode(&encoder.body().to_bytes(), &[], limits)
}

/// Each text is a value of that head, and the head is that value.
macro_rules! golden {
    ($($text:literal => $head:expr;)*) => {$(
        let expected: &[u8] = $head;
        assert_eq!(head($text), expected, "{}", $text);
        assert_eq!(decoded(expected, &[]), Ok($text.parse().unwrap()), "{}", $text);
    )*};
}

#[test]
fn a_value_is_its_head_and_its_long_bytes() {
    let mut encoder = Encoder::new();
    encoder.encode(&(7_u8, Value::from(-1), 9_u8)).unwrap();
    assert_eq!(&encoder.body().to_bytes()[..], [7, 0x01, 0x8f, 0x00, 9]);

    let long = Bytes::from(vec![0xab; 4096]);
    encoder
        .encode(&Value::List(vec![Value::bytes(long.clone())]))
        .unwrap();
    let body = encoder.body().to_bytes();
    let (start, rest) = body.split_at(7);
    assert_eq!(start, [0x02, 0x21, 0x14, 0x01, 0xfb, 0x00, 0x10]);
    assert_eq!(rest, long);
    let value: Value = decode(&body, &[], &DecodeLimits::default()).unwrap();
    assert_eq!(value[0].as_bytes(), Some(&long));
}

#[test]
fn scalars_are_a_tag_and_little_else() {
    golden! {
        "null" => &[0x00];
        "false" => &[0x01];
        "true" => &[0x02];
        "1.5f32" => &[0x03, 0x00, 0x00, 0xc0, 0x3f];
        "-2.0" => &[0x04, 0, 0, 0, 0, 0, 0, 0x00, 0xc0];
        "nan(0x7ff8000000000001)" => &[0x04, 1, 0, 0, 0, 0, 0, 0xf8, 0x7f];
        "'a'" => &[0x05, 0x61];
        "'é'" => &[0x05, 0xc3, 0xa9];
        "'€'" => &[0x05, 0xe2, 0x82, 0xac];
        "'😀'" => &[0x05, 0xf0, 0x9f, 0x98, 0x80];
        "Some(null)" => &[0x06, 0x00];
        "Some(Some(null))" => &[0x06, 0x06, 0x00];
    }
}

#[test]
fn integers_take_no_more_than_they_need() {
    golden! {
        "-16" => &[0x80];
        "-1" => &[0x8f];
        "0" => &[0x90];
        "111" => &[0xff];
        "112" => &[0x08, 0x70];
        "255" => &[0x08, 0xff];
        "256" => &[0x09, 0x00, 0x01];
        "300" => &[0x09, 0x2c, 0x01];
        "65535" => &[0x09, 0xff, 0xff];
        "65536" => &[0x0a, 0x00, 0x00, 0x01, 0x00];
        "0x1_0000_0000" => &[0x0b, 0, 0, 0, 0, 1, 0, 0, 0];
        "0x1_0000_0000_0000_0000" => &[0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        "0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff" => &[
            0x0c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        "-17" => &[0x0d, 0x10];
        "-256" => &[0x0d, 0xff];
        "-257" => &[0x0e, 0x00, 0x01];
        "-65536" => &[0x0e, 0xff, 0xff];
        "-65537" => &[0x0f, 0x00, 0x00, 0x01, 0x00];
        "-0x1_0000_0001" => &[0x10, 0, 0, 0, 0, 1, 0, 0, 0];
        "-0x8000_0000_0000_0000_0000_0000_0000_0000" => &[
            0x11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ];
    }
    let one = |value: Value| {
        let mut encoder = Encoder::new();
        encoder.encode(&value).unwrap();
        encoder.body().to_bytes()
    };
    assert_eq!(one(1_u8.into()), one(1_i128.into()));
    assert_eq!(one(Value::UInt(1)), one(Value::Int(1)));
}

#[test]
fn strings_and_bytes_have_their_length_before_them() {
    golden! {
        "\"\"" => &[0x40];
        "\"hé\"" => &[0x43, 0x68, 0xc3, 0xa9];
        "b\"\"" => &[0x13, 0x00];
        "b\"\\x00\\xff\"" => &[0x13, 0x02, 0x00, 0xff];
    }
    let text = |len| format!("\"{}\"", "x".repeat(len));
    assert_eq!(head(&text(31))[..2], [0x5f, b'x']);
    assert_eq!(head(&text(32))[..3], [0x12, 32, b'x']);
    assert_eq!(head(&text(300))[..5], [0x12, 251, 0x2c, 0x01, b'x']);
}

#[test]
fn what_holds_others_has_their_count_before_them() {
    golden! {
        "[]" => &[0x20];
        "[1, 2]" => &[0x22, 0x91, 0x92];
        "()" => &[0x38];
        "(1, \"a\")" => &[0x3a, 0x91, 0x41, 0x61];
        "{}" => &[0x30];
        "{\"k\": [true, b\"\\xff\"]}" => &[0x31, 0x41, 0x6b, 0x22, 0x02, 0x13, 0x01, 0xff];
        "{1: 2, 1: 3}" => &[0x32, 0x91, 0x92, 0x91, 0x93];
        "(0, 0, 0, 0, 0, 0, 0)" => &[0x3f, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
        "(0, 0, 0, 0, 0, 0, 0, 0)" => &[0x16, 8, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];
    }
    let list = |len| format!("[{}]", "0,".repeat(len));
    assert_eq!(head(&list(15))[..2], [0x2f, 0x90]);
    assert_eq!(head(&list(16))[..3], [0x15, 16, 0x90]);
    let map = |len| format!("{{{}}}", "0: 0,".repeat(len));
    assert_eq!(head(&map(7))[..2], [0x37, 0x90]);
    assert_eq!(head(&map(8))[..3], [0x17, 8, 0x90]);
}

#[test]
fn records_name_their_form_once() {
    golden! {
        "Unit" => b"\x18\x00\x04Unit";
        "Pair(1, 2)" => b"\x18\x01\x04Pair\x02\x91\x92";
        "Point {x: 1, y: 2}" => b"\x18\x02\x05Point\x02\x01x\x01y\x91\x92";
        "Shape::Dot" => b"\x18\x03\x05Shape\x03Dot";
        "Shape::Circle(3)" => b"\x18\x04\x05Shape\x06Circle\x01\x93";
        "Shape::Box {w: 1}" => b"\x18\x05\x05Shape\x03Box\x01\x01w\x91";
        "[Point {x: 1, y: 2}, Point {x: 3, y: 4}]" =>
            b"\x22\x18\x02\x05Point\x02\x01x\x01y\x91\x92\x60\x93\x94";
        // A form has its number before the fields of its first record.
        "[A(B), B, A(A(B))]" => b"\x23\x18\x01\x01A\x01\x18\x00\x01B\x61\x60\x60\x61";
    }
    let forms: Vec<String> = (0..40).map(|number| format!("F{number}")).collect();
    let text = format!("[{}, F31, F32]", forms.join(","));
    let head = head(&text);
    assert_eq!(head[head.len() - 3..], [0x7f, 0x19, 32]);
    assert_eq!(decoded(&head, &[]), Ok(text.parse().unwrap()));
}

#[test]
fn references_are_slots_of_the_messages_table() {
    let [a, b] = [1, 2].map(|number| Value::from(Arc::new(number) as Reference));
    let mut encoder = Encoder::new();
    encoder.encode(&Value::List(vec![a.clone(), b, a])).unwrap();
    assert_eq!(&encoder.body().to_bytes()[..], [7, 0x23, 7, 0, 7, 1, 7, 2, 0]);
    assert_eq!(encoder.references().len(), 3);
}

#[test]
fn what_is_not_in_its_shortest_form_is_refused() {
    for head in [
        &[0x08, 111][..],
        &[0x09, 255, 0],
        &[0x0a, 255, 255, 0, 0],
        &[0x0b, 1, 0, 0, 0, 0, 0, 0, 0],
        &[0x0c, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x0d, 15],
        &[0x0e, 255, 0],
        &[0x12, 1, b'x'],
        &[0x13, 251, 1, 0, 7],
        &[0x15, 1, 0],
        &[0x16, 1, 0],
        &[0x17, 1, 0, 0],
        &[0x22, 0x18, 0, 1, b'A', 0x19, 0],
    ] {
        let error = decoded(head, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            CodecError::NotShortest.to_string(),
            "{head:x?}"
        );
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
    assert!(decoded(&[0x14], &[vec![0; 4095]]).is_err());
    assert!(decoded(&[0x14], &[vec![0; 4096]]).is_ok());
    let short = [&[0x13, 251, 0x00, 0x10][..], &[0; 4096]].concat();
    assert!(decoded(&short, &[]).is_err());
}

#[test]
fn what_is_no_value_is_refused() {
    let refused = |head: &[u8], expected: CodecError| {
        assert_eq!(
            decoded(head, &[]).unwrap_err().to_string(),
            expected.to_string(),
            "{head:x?}"
        );
    };
    for found in 0x1a..0x20 {
        refused(&[found], CodecError::UnknownTag { found });
    }
    refused(&[0x18, 6, 0, 0], CodecError::UnknownTag { found: 6 });
    refused(&[0x60], CodecError::UnknownForm { index: 0 });
    refused(&[0x21, 0x7f], CodecError::UnknownForm { index: 31 });
    refused(&[], CodecError::Truncated { needed: 1, left: 0 });
    refused(&[0x42, b'x'], CodecError::Truncated { needed: 2, left: 1 });
    refused(&[0x04, 0, 0], CodecError::Truncated { needed: 8, left: 2 });
    refused(&[0x14], CodecError::Truncated { needed: 1, left: 0 });
    refused(&[0, 0], CodecError::Trailing { bytes: 1 });
    refused(&[0x41, 0xff], CodecError::InvalidUtf8 { valid: 0 });
    refused(&[0x05, 0xed, 0xa0, 0x80], CodecError::InvalidChar);
    refused(&[0x05, 0xc0, 0x80], CodecError::InvalidChar);
    refused(&[0x05, 0x80, 0x80], CodecError::InvalidChar);
    refused(&[0x12, 254], CodecError::InvalidInteger);
    refused(
        &[0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80],
        CodecError::InvalidInteger,
    );
    // Long bytes that nobody names.
    assert!(decoded(&[0], &[vec![0; 4096]]).is_err());
    assert_eq!(
        decoded(&[7, 0], &[]).unwrap_err().to_string(),
        "the value names the reference 0, and its message has 0"
    );
}

#[test]
fn counts_beyond_the_bytes_that_are_there_are_refused() {
    let huge = [253, 0, 0, 0, 0, 0, 1, 0, 0];
    let too_many = |head: Vec<u8>| {
        let error = decoded(&head, &[]).unwrap_err().to_string();
        assert!(error.contains("more than the body can hold"), "{error}");
    };
    for tag in [0x15, 0x16, 0x17] {
        too_many([&[tag][..], &huge].concat());
    }
    too_many([&[0x18, 1, 0][..], &huge].concat());
    too_many([&[0x18, 2, 0][..], &huge].concat());
    for tag in [0x12, 0x13] {
        assert!(decoded(&[&[tag][..], &huge].concat(), &[]).is_err());
    }
    // Each list alone could be as long as it says; all of them together cannot.
    too_many([0x15, 100].repeat(100));
    // The most that can be: every byte is one element.
    assert!(decoded(&[vec![0x15, 200], vec![0; 200]].concat(), &[]).is_ok());
    too_many([vec![0x15, 201], vec![0; 200]].concat());
}

#[test]
fn nesting_is_limited_on_either_side() {
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(|| {
            let nested = |levels, tag: &[u8]| {
                let mut head = tag.repeat(levels);
                head.push(0);
                head
            };
            for tag in [
                &[0x21][..],
                &[0x39],
                &[0x06],
                &[0x18, 1, 1, b'A', 1],
                &[0x31, 0x00],
            ] {
                assert!(decoded(&nested(128, tag), &[]).is_ok(), "{tag:?}");
                let error = decoded(&nested(129, tag), &[]).unwrap_err();
                assert_eq!(error.to_string(), "more than 128 levels of nesting");
                assert!(decoded(&nested(1 << 20, tag), &[]).is_err());
                let limits = DecodeLimits {
                    depth: 8,
                    ..DecodeLimits::default()
                };
                assert!(decoded_within(&nested(8, tag), &[], &limits).is_ok());
                assert!(decoded_within(&nested(9, tag), &[], &limits).is_err());
            }

            let mut value = Value::Null;
            for _ in 0..128 {
                value = Value::List(vec![value]);
            }
            let mut encoder = Encoder::new();
            encoder.encode(&value).unwrap();
            value = Value::List(vec![value]);
            let error = encoder.encode(&value).unwrap_err();
            assert_eq!(error.to_string(), "more than 128 levels of nesting");
            assert_eq!(error.kind(), ErrorKind::Misuse);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn types_that_nest_too_deeply_are_refused() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Link(Option<Box<Link>>);
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(|| {
            let chain = |links| (0..links).fold(Link(None), |link, _| Link(Some(Box::new(link))));
            assert!(to_value(&chain(128)).is_ok());
            assert!(to_value(&chain(129)).is_err());

            #[derive(Debug, serde::Serialize, serde::Deserialize)]
            enum Tree {
                Leaf,
                Pair(Box<Tree>, ()),
                Named { inner: Box<Tree> },
                New(Box<Tree>),
            }
            let grown: [fn(Box<Tree>) -> Tree; 3] = [
                |tree| Tree::Pair(tree, ()),
                |inner| Tree::Named { inner },
                Tree::New,
            ];
            for grow in grown {
                let tree = |levels| (0..levels).fold(Tree::Leaf, |tree, _| grow(Box::new(tree)));
                let value = to_value(&tree(127)).unwrap();
                farref_boxing::from_value::<Tree>(&value).unwrap();
                assert!(to_value(&tree(129)).is_err());
            }

            let mut value = Value::Null;
            for _ in 0..1000 {
                value = Value::Some(Box::new(value));
            }
            assert!(farref_boxing::from_value::<Link>(&value).is_err());
            assert!(farref_boxing::from_value::<serde::de::IgnoredAny>(&value).is_ok());
        })
        .unwrap()
        .join()
        .unwrap();
}

proptest! {
    /// A head is a value or an error, and what is a value can be written and read again.
    #[test]
    fn any_head_is_a_value_or_an_error(head in prop::collection::vec(
        prop_oneof![any::<u8>(), 0..8_u8, 0x12..0x1a_u8, Just(0x22), Just(0x31), Just(0x60)],
        0..40,
    )) {
        if let Ok(value) = decoded(&head, &[]) {
            let mut encoder = Encoder::new();
            encoder.encode(&value).unwrap();
            let again: Value = decode(&encoder.body().to_bytes(), &[], &DecodeLimits::default()).unwrap();
            prop_assert_eq!(again, value);
        }
    }
}
