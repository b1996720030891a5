//! What is read of bytes, and that no bytes are worse than an error.

use super::*;

fn read(bytes: &[u8]) -> Result<Brine, BrineError> {
    limited(bytes, BrineLimits::default())
}

fn limited(bytes: &[u8], limits: BrineLimits) -> Result<Brine, BrineError> {
    decode(&Bytes::copy_from_slice(bytes), &limits)
}

#[test]
fn longer_forms_are_read_as_well() {
    let one = Brine::Int(1);
    for bytes in [&b"\x51"[..], b"\x16\x011", b"\x17\0\0\0\x011"] {
        assert_eq!(read(bytes).as_ref(), Ok(&one));
    }
    assert_eq!(read(b"\x16\x0500012"), Ok(Brine::Int(12)));
    assert_eq!(read(b"\x16\x02-0"), Ok(Brine::Int(0)));
    assert_eq!(read(b"\x08\x0f\0\0\0\x01a"), Ok(Brine::Str("a".into())));
    assert_eq!(read(b"\x08\x0e\0"), Ok(Brine::Str(String::new())));
    assert_eq!(read(b"\x14\x01\x51"), Ok(Brine::Tuple(vec![one.clone()])));
    assert_eq!(read(b"\x15\0\0\0\x01\x51"), Ok(Brine::Tuple(vec![one.clone()])));
    assert_eq!(read(b"\x15\0\0\0\0"), Ok(Brine::Tuple(vec![])));
    assert_eq!(read(b"\x19\x14\x03\x51\0\0"), read(b"\x19\x12\x51\0\0"));
    // What RPyC 4 wrote on Python 2.
    assert_eq!(read(b"\x09\x51"), Ok(one.clone()));
    assert_eq!(read(b"\x09\x16\x03160"), Ok(Brine::Int(160)));
    // And bytes behind the value.
    assert_eq!(read(b"\x51\xff"), Ok(one));
}

#[test]
fn integers_beyond_128_bits_are_text() {
    let text = |value: &str| [&[0x16, value.len() as u8], value.as_bytes()].concat();
    let max = i128::MAX.to_string();
    let min = i128::MIN.to_string();
    assert_eq!(read(&text(&max)), Ok(Brine::Int(i128::MAX)));
    assert_eq!(read(&text(&min)), Ok(Brine::Int(i128::MIN)));
    assert_eq!(read(&text(&format!("00{max}"))), Ok(Brine::Int(i128::MAX)));
    for beyond in [
        "170141183460469231731687303715884105728",
        "-170141183460469231731687303715884105729",
        "340282366920938463463374607431768211456",
    ] {
        let big = beyond.parse().unwrap();
        assert_eq!(read(&text(beyond)), Ok(Brine::BigInt(big)));
    }
    let payload = Bytes::from(text("340282366920938463463374607431768211456"));
    let int = Reader::new(&payload, &BrineLimits::default()).int();
    assert_eq!(int, Err(BrineError::IntegerRange));
}

#[test]
fn what_is_no_decimal_text_is_refused() {
    for text in [
        "",
        "-",
        "+1",
        "1.",
        " 1",
        "1_0",
        "--1",
        "0x1",
        "1-",
        "12345678901234567890 ",
        "\u{661}",
    ] {
        let bytes = [&[0x16, text.len() as u8], text.as_bytes()].concat();
        assert_eq!(read(&bytes), Err(BrineError::InvalidInteger), "{text:?}");
    }
}

#[test]
fn digits_are_limited_without_their_sign() {
    let text = |digits: usize| {
        let text = format!("-{}", "9".repeat(digits));
        [&[0x17][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
    };
    assert!(read(&text(4300)).is_ok());
    assert_eq!(
        read(&text(4301)),
        Err(BrineError::TooManyDigits {
            digits: 4301,
            limit: 4300
        })
    );
}

#[test]
fn unknown_tags_and_other_types_are_refused() {
    for tag in [0x07, 0x1c, 0x1f, 0xf0, 0xff] {
        assert_eq!(read(&[tag]), Err(BrineError::UnknownTag { found: tag }));
        assert_eq!(read(&[0x08, tag]), Err(BrineError::UnknownTag { found: tag }));
    }
    for bytes in [
        &[0x08, 0x50][..],
        &[0x09, 0x09, 0x51],
        &[0x09, 0x00],
        &[0x19, 0x50],
        &[0x1a, 0x0a],
    ] {
        assert!(
            matches!(read(bytes), Err(BrineError::Unexpected { .. })),
            "{bytes:x?}"
        );
    }
    assert_eq!(
        read(&[0x19, 0x11, 0x50, 0x50]),
        Err(BrineError::WrongCount {
            expected: 3,
            found: 2
        })
    );
}

#[test]
fn text_is_utf8_without_surrogates() {
    assert_eq!(read(b"\x08\x0ba\xff"), Err(BrineError::InvalidUtf8 { valid: 1 }));
    assert_eq!(
        read(b"\x08\x0c\xed\xa0\x80"),
        Err(BrineError::InvalidUtf8 { valid: 0 })
    );
    assert_eq!(
        read(b"\x0b\xff\xff"),
        Ok(Brine::Bytes(Bytes::from_static(b"\xff\xff")))
    );
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| [&vec![0x10; levels][..], &[0x02]].concat();
    assert!(read(&nested(128)).is_ok());
    assert_eq!(read(&nested(129)), Err(BrineError::TooDeep { limit: 128 }));
    let deep = BrineLimits {
        depth: u32::MAX,
        ..BrineLimits::default()
    };
    assert!(limited(&nested(256), deep).is_ok());
    assert_eq!(
        limited(&nested(257), deep),
        Err(BrineError::TooDeep { limit: 256 })
    );
    for unit in [&[0x1a, 0x10][..], &[0x19, 0x12]] {
        assert_eq!(
            limited(&unit.repeat(100_000), deep),
            Err(BrineError::TooDeep { limit: 256 })
        );
    }
    for tag in [0x08, 0x09, 0x19, 0x1a] {
        assert!(limited(&vec![tag; 1_000_000], deep).is_err());
    }
}

#[test]
fn a_count_reserves_nothing() {
    assert_eq!(
        read(&[0x15, 0, 0x10, 0, 0, 0x50]),
        Err(BrineError::Truncated {
            needed: 0x10_0000,
            left: 1
        })
    );
    assert_eq!(
        read(&[0x15, 0xff, 0xff, 0xff, 0xff, 0x50]),
        Err(BrineError::TooManyItems { limit: 1 << 21 })
    );
    assert_eq!(
        read(&[0x0f, 0xff, 0xff, 0xff, 0xff]),
        Err(BrineError::Truncated {
            needed: 0xffff_ffff,
            left: 0
        })
    );
}

#[test]
fn values_are_limited_in_number() {
    let few = BrineLimits {
        items: 4,
        ..BrineLimits::default()
    };
    assert!(limited(&[0x11, 0x10, 0x50, 0x50], few).is_ok());
    let too_many = Err(BrineError::TooManyItems { limit: 4 });
    assert_eq!(limited(&[0x11, 0x11, 0x50, 0x50, 0x50], few), too_many);
    assert_eq!(limited(&[0x14, 5, 0x50, 0x50, 0x50, 0x50, 0x50], few), too_many);
}

#[test]
fn a_value_cut_anywhere_is_none() {
    let whole = b"\x14\x05\x0e\x05hello\x18\0\0\0\0\0\0\0\0\x16\x03160\x1a\x10\x00\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert!(read(whole).is_ok());
    for cut in 0..whole.len() {
        assert!(
            matches!(read(&whole[..cut]), Err(BrineError::Truncated { .. })),
            "{cut}"
        );
    }
}

#[test]
fn the_bytes_of_a_value_are_what_came() {
    let payload = Bytes::from_static(b"\x11\x10\x16\x015\x52rest");
    let mut reader = Reader::new(&payload, &BrineLimits::default());
    reader.tuple_of(2).unwrap();
    assert_eq!(reader.raw(), Ok(&b"\x10\x16\x015"[..]));
    assert_eq!(reader.int(), Ok(2));
    assert_eq!(reader.rest(), b"rest");
}

#[test]
fn an_index_is_an_integer_or_a_truth_and_all_else_is_passed_over() {
    let payload = Bytes::from_static(b"\x14\x08\x51\x03\x04\x16\x03160\x09\x52\x10\x53\x00\x54");
    let mut reader = Reader::new(&payload, &BrineLimits::default());
    reader.tuple_of(8).unwrap();
    let mut next = || reader.index().unwrap();
    assert_eq!([next(), next(), next()], [Some(1), Some(1), Some(0)]);
    assert_eq!([next(), next()], [Some(160), Some(2)]);
    assert_eq!([next(), next(), next()], [None, None, Some(4)]);
    let beyond = "340282366920938463463374607431768211456";
    let payload = Bytes::from([&[0x11, 0x16, beyond.len() as u8], beyond.as_bytes(), &[0x51]].concat());
    let mut reader = Reader::new(&payload, &BrineLimits::default());
    reader.tuple_of(2).unwrap();
    assert_eq!((reader.index(), reader.index()), (Ok(None), Ok(Some(1))));
    assert!(reader.index().is_err());
}

#[test]
fn a_name_is_a_text_or_bytes_that_are_one() {
    let payload = Bytes::from_static(b"\x13\x08\x0aa\x0ab\x0a\xff\x51");
    let mut reader = Reader::new(&payload, &BrineLimits::default());
    reader.tuple_of(4).unwrap();
    assert_eq!((reader.name(), reader.name()), (Ok("a"), Ok("b")));
    assert_eq!(reader.name(), Err(BrineError::InvalidUtf8 { valid: 0 }));
    assert!(matches!(reader.name(), Err(BrineError::Unexpected { .. })));
}

#[test]
fn what_follows_a_value_is_told() {
    let payload = Bytes::from_static(b"\x10\x51rest");
    let (value, rest) = decode_prefix(&payload, &BrineLimits::default()).unwrap();
    assert_eq!(value, Brine::Tuple(vec![Brine::Int(1)]));
    assert_eq!(rest, "rest");
}

#[test]
fn a_reader_reads_what_it_is_told_and_nothing_else() {
    let payload = Bytes::from_static(b"\x14\x06\x00\x03\x51\x0aa\x08\x0ab\x18\x3f\xf8\0\0\0\0\0\0");
    let mut reader = Reader::new(&payload, &BrineLimits::default());
    assert_eq!(
        reader.clone().tuple_of(5),
        Err(BrineError::WrongCount {
            expected: 5,
            found: 6
        })
    );
    assert!(!reader.none());
    assert_eq!(reader.tuple(), Ok(6));
    assert!(reader.none());
    assert!(reader.clone().int().is_err());
    assert_eq!(reader.bool(), Ok(true));
    assert_eq!(reader.int(), Ok(1));
    assert!(reader.clone().text().is_err());
    assert_eq!(reader.bytes(), Ok(&b"a"[..]));
    assert_eq!(reader.text(), Ok("b"));
    assert_eq!(reader.float(), Ok(1.5));
    assert!(!reader.none());
    assert_eq!(reader.int(), Err(BrineError::Truncated { needed: 1, left: 0 }));
}

#[test]
fn a_pair_is_a_tuple_of_two_that_begins_with_an_integer_whatever_the_limits() {
    let payloads: [&'static [u8]; 9] = [
        b"\x11\x51\x52",
        b"\x11\x51\x11\x52\0",
        b"\x11\x51",
        b"\x11",
        b"\x14\x02\x51\0",
        b"\x11\x16\x0142\0",
        b"\x11\x03\0",
        b"\x11\0\0",
        b"\x12\x51\0\0",
    ];
    for payload in payloads.map(Bytes::from_static) {
        for (depth, items) in (0..3).flat_map(|depth| (0..6).map(move |items| (depth, items))) {
            let limits = BrineLimits {
                depth,
                items,
                ..BrineLimits::default()
            };
            let (mut pair, mut apart) = (Reader::new(&payload, &limits), Reader::new(&payload, &limits));
            let begun = apart.tuple_of(2).and_then(|()| apart.enter());
            let expected = begun.and_then(|()| apart.index());
            assert_eq!(pair.pair(), expected, "{payload:?} {depth} {items}");
            if expected.is_ok() {
                assert_eq!(pair.skip(), apart.skip(), "{payload:?} {depth} {items}");
                assert_eq!(pair.rest(), apart.rest());
            }
        }
    }
}
