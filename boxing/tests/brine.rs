//! Values of Python's: whatever is written is read as it was, by itself and as one of ours.
#![cfg(test)]

use bytes::{Bytes, BytesMut};
use farref_boxing::rpyc::{
    BigInt, Brine, BrineError, BrineLimits, Reader, decode, decode_prefix, encode, put_value,
};
use farref_boxing::{Value, from_value, to_value};
use proptest::prelude::*;

/// Any value of up to a few levels.
fn any_brine() -> impl Strategy<Value = Brine> {
    let leaf = prop_oneof![
        Just(Brine::None),
        Just(Brine::NotImplemented),
        Just(Brine::Ellipsis),
        any::<bool>().prop_map(Brine::Bool),
        (-300_i128..300).prop_map(Brine::Int),
        (any::<i128>(), 0..127_u32).prop_map(|(value, shift)| Brine::Int(value >> shift)),
        "-?[1-9][0-9]{37,300}".prop_map(|text| text.parse::<BigInt>().unwrap().into()),
        any::<u64>().prop_map(|bits| Brine::Float(f64::from_bits(bits))),
        any::<(u64, u64)>().prop_map(|(real, imag)| Brine::Complex {
            real: f64::from_bits(real),
            imag: f64::from_bits(imag),
        }),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Brine::Bytes(bytes.into())),
        ".{0,100}".prop_map(Brine::Str),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Brine::Tuple),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Brine::FrozenSet),
            [inner.clone(), inner.clone(), inner].prop_map(|parts| Brine::Slice(Box::new(parts))),
        ]
    })
}

fn written(value: &Brine) -> Bytes {
    let mut out = BytesMut::new();
    encode(value, &mut out);
    out.freeze()
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in any_brine(), behind in prop::collection::vec(any::<u8>(), 0..9)) {
        let limits = BrineLimits::default();
        let payload: Bytes = [&written(&value)[..], &behind].concat().into();
        let (read, rest) = decode_prefix(&payload, &limits).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(rest, &behind);
        let mut reader = Reader::new(&payload, &limits);
        prop_assert_eq!(reader.raw().unwrap(), &written(&value));
    }

    #[test]
    fn a_part_of_what_is_written_is_not_read(value in any_brine(), cut in any::<prop::sample::Index>()) {
        let payload = written(&value);
        let cut = payload.slice(..cut.index(payload.len()));
        prop_assert!(
            matches!(decode(&cut, &BrineLimits::default()), Err(BrineError::Truncated { .. })),
            "{:?}",
            cut
        );
    }

    #[test]
    fn every_value_of_pythons_is_one_of_ours(value in any_brine()) {
        let ours = Value::from(value.clone());
        prop_assert_eq!(Brine::from_value(&ours), Some(value.clone()));
        let mut out = BytesMut::new();
        prop_assert!(put_value(&ours, &mut out));
        prop_assert_eq!(&out, &written(&value));
        // Also in its text, and as what a typed call would take it for.
        prop_assert_eq!(ours.to_string().parse(), Ok(ours.clone()));
        prop_assert_eq!(to_value(&from_value::<Value>(&ours).unwrap()), Ok(ours));
    }
}

/// A thread's stack of 2 MiB is enough for the deepest that is read, also for what is done with it then.
#[test]
fn the_deepest_value_is_no_harm() {
    let limits = BrineLimits {
        depth: u32::MAX,
        ..BrineLimits::default()
    };
    for (level, last) in [
        (&[0x10][..], 0x02),
        (&[0x1a, 0x10], 0x00),
        (&[0x19, 0x12, 0x50, 0x50], 0x00),
    ] {
        let payload: Bytes = [&level.repeat(256)[..], &[last]].concat().into();
        let work = move || {
            let value = decode(&payload, &limits).unwrap();
            assert_eq!(value.clone(), value);
            assert_eq!(written(&value), payload);
            let ours = Value::from(value.clone());
            assert_eq!(Reader::new(&payload, &limits).value().as_ref(), Ok(&ours));
            assert_eq!(ours.clone(), ours);
            assert_eq!(Brine::from_value(&ours), Some(value.clone()));
            _ = format!("{ours} {value:?}");
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread.spawn(work).unwrap().join().unwrap();
    }
}
