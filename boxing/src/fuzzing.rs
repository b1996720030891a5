//! What fuzz targets run, and property tests with them: any bytes, no panic, and what was read is what was meant.

use std::collections::BTreeMap;

use ::bytes::{Bytes, BytesMut};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::rpyc::{self, Brine, BrineLimits};
use crate::{
    As, Blob, DecodeLimits, Encoder, Error, Fault, FromAs, Maybe, Outcome, Plain, Shape as Layout, Value,
    decode, decode_by_shape, from_value, to_value,
};

/// Every shape that serde knows, and recursive ones.
#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Unit,
    Bool(bool),
    Unsigned(u8, u16, u32, u64, u128),
    Signed(i8, i16, i32, i64, i128),
    Float {
        single: f32,
        double: f64,
    },
    Char(char),
    Text(String),
    #[serde(with = "crate::bytes")]
    Bytes(Vec<u8>),
    Maybe(Option<Box<Shape>>),
    List(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
    Outcome(Result<Box<Shape>, String>),
    Nothing(Vec<()>),
    Newtype(Newtype),
    Array([u16; 3]),
}

#[derive(Debug, Serialize, Deserialize)]
struct Newtype((u8, Option<Box<Shape>>));

/// Reads `data` as values of several types. What can be read can be written and read again, with the same bytes.
pub fn payload(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    again::<Shape>(&body);
    again::<Vec<Shape>>(&body);
    again::<(Vec<()>, BTreeMap<u8, ()>, [u8; 4])>(&body);
    again::<(u64, String, Option<i32>)>(&body);
    adapted(&body);
    _ = decode::<(&str, &[u8])>(&body, &[], &DecodeLimits::default());
    _ = decode::<Vec<Option<[[u64; 32]; 32]>>>(&body, &[], &DecodeLimits::default());
}

/// Reads `data` as an error. What can be read can be written and read again.
pub fn error(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    again::<Fault>(&body);
    if let Ok(error) = decode::<Error>(&body, &[], &DecodeLimits::default()) {
        _ = format!("{error} {error:#} {error:?}");
        assert!(error.is_remote() && error.certainty().is_none());
    }
}

/// Reads `data` as a value that says what it is, from bytes and from text. What can be read as a type, too, is that.
pub fn value(data: &[u8]) {
    let head = written(&(data, Vec::<()>::new()));
    if let Ok(value) = decode::<Value>(&head, &[], &DecodeLimits::default()) {
        assert_eq!(read::<Value>(&written(&value)), value);
        typed(&value);
    }
    if let Some(value) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse::<Value>().ok())
    {
        assert_eq!(value.to_string().parse().as_ref(), Ok(&value));
        assert_eq!(read::<Value>(&written(&value)), value);
        typed(&value);
    }
}

/// Reads `data` as a shape and a body of that shape.
pub fn shape(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let limits = DecodeLimits::default();
    if let Ok((shape, body)) = decode::<(Layout, &[u8])>(&body, &[], &limits) {
        assert_eq!(read::<Layout>(&written(&shape)), shape);
        _ = format!("{shape} {} {}", shape.fingerprint(), shape.is_sound());
        let body = Bytes::copy_from_slice(body);
        // What is opaque is the reader's own.
        if let Ok(by) = shape.read_by(&shape) {
            assert!(!shape.is_sound() || by.is_sound());
            _ = decode_by_shape::<IgnoredAny>(&body, &[], &by, &limits);
            _ = decode_by_shape::<Shape>(&body, &[], &by, &limits);
            _ = decode_by_shape::<Value>(&body, &[], &by, &limits);
        }
        _ = decode_by_shape::<IgnoredAny>(&body, &[], &shape, &limits);
        _ = decode_by_shape::<Shape>(&body, &[], &shape, &limits);
        if let Ok(value) = decode_by_shape::<Value>(&body, &[], &shape, &limits) {
            assert_eq!(read::<Value>(&written(&value)), value);
        }
    }
}

/// Reads `data` as a value of Python's. What can be read is the same in each way to read it, and can be written and read
/// again; what is written is canonical.
#[expect(clippy::expect_used, reason = "a finding")]
pub fn brine(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    let limits = BrineLimits::default();
    let read = rpyc::decode_prefix(&payload, &limits);
    let mut skipped = rpyc::Reader::new(&payload, &limits);
    assert_eq!(skipped.skip().err(), read.as_ref().err().copied());
    let mut valued = rpyc::Reader::new(&payload, &limits);
    let valued = valued.value();
    assert_eq!(valued.as_ref().err(), read.as_ref().err());
    let (Ok((value, rest)), Ok(ours)) = (read, valued) else {
        return;
    };
    assert_eq!(rest, skipped.rest());
    assert_eq!(ours, Value::from(value.clone()));
    assert_eq!(Brine::from_value(&ours).as_ref(), Some(&value));
    assert!(rpyc::is_by_value(&ours));

    let mut canonical = BytesMut::new();
    rpyc::encode(&value, &mut canonical);
    assert!(canonical.len() <= payload.len());
    let mut again = BytesMut::new();
    assert!(rpyc::put_value(&ours, &mut again));
    assert_eq!(again, canonical);
    let again = rpyc::decode(&canonical.freeze(), &limits).expect("what was written can be read");
    assert_eq!(again, value);
}

#[expect(clippy::expect_used, reason = "a finding")]
fn typed(value: &Value) {
    if let Ok(shape) = from_value::<Shape>(value)
        && let Ok(value) = to_value(&shape)
    {
        let again: Shape = from_value(&value).expect("what was made of a type is one");
        assert_eq!(to_value(&again), Ok(value));
    }
}

fn again<T: Serialize + for<'de> Deserialize<'de>>(body: &Bytes) {
    if let Ok(value) = decode::<T>(body, &[], &DecodeLimits::default()) {
        let written = written(&value);
        let value: T = read(&written);
        assert_eq!(self::written(&value), written);
    }
}

/// The adapters and serde agree on what the bytes mean.
fn adapted(body: &Bytes) {
    type Plainly = (Option<Vec<u8>>, Result<Bytes, Vec<u8>>, u32);
    type Adapter = (Maybe<Blob>, Outcome<Blob, Blob>, Plain);
    let plain = decode::<Plainly>(body, &[], &DecodeLimits::default());
    let adapted =
        decode::<FromAs<Adapter, Plainly>>(body, &[], &DecodeLimits::default()).map(FromAs::into_inner);
    assert_eq!(plain.is_ok(), adapted.is_ok());
    if let (Ok(plain), Ok(adapted)) = (plain, adapted) {
        assert_eq!(plain, adapted);
        assert_eq!(written(&plain), written(&As::<Adapter, _>::new(&adapted)));
    }
}

#[expect(clippy::expect_used, reason = "a finding")]
fn written<T: Serialize>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).expect("what was read can be written");
    encoder.body().to_bytes()
}

#[expect(clippy::expect_used, reason = "a finding")]
fn read<T: for<'de> Deserialize<'de>>(body: &Bytes) -> T {
    let unlimited = DecodeLimits {
        depth: u32::MAX,
        zero_sized: u64::MAX,
        memory: u64::MAX,
    };
    decode(body, &[], &unlimited).expect("what was written can be read")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::payload(&data);
            super::error(&data);
            super::value(&data);
            super::shape(&data);
        }

        /// Small numbers are variants, counts and tags, so these go deeper.
        #[test]
        fn bytes_that_look_like_values_are_one_or_an_error(data in proptest::collection::vec(0..16_u8, 0..64)) {
            super::payload(&data);
            super::error(&data);
            super::value(&data);
            super::shape(&data);
        }

        #[test]
        fn any_bytes_are_a_value_of_pythons_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::brine(&data);
        }

        /// Tags, so that these go deeper.
        #[test]
        fn bytes_that_look_like_brine_are_a_value_or_an_error(
            data in proptest::collection::vec(prop_oneof![0_u8..0x20, 0x30_u8..0x3a, Just(0x2d)], 0..64),
        ) {
            super::brine(&data);
        }

        #[test]
        fn text_that_looks_like_a_value_is_one_or_an_error(text in "(Unit|Bool|Maybe|List|[-(){}\\[\\]:, 0-9xe.'\"]){0,20}") {
            super::value(text.as_bytes());
        }
    }
}
