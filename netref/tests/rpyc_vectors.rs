//! What Python's RPyC sent: every frame and every value in `rpyc/vectors.json` is read, and written again as it was.
//!
//! The bytes were captured between Python peers of RPyC 6.0.2, 5.3.1 and 4.1.5. A value stands in JSON as it is if
//! JSON has it, or as an object with its type as the only key.
#![cfg(test)]

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use farref_boxing::Value;
use farref_boxing::rpyc::{Brine, BrineLimits, Reader, decode, decode_prefix, encode, put_value};
use farref_framing::rpyc::{Compress, FrameLimits, put_frame, take_frame};
use proptest::prelude::*;
use serde_json::Value as Json;

fn vectors() -> Json {
    serde_json::from_str(include_str!("rpyc/vectors.json")).unwrap()
}

fn hex(text: &Json) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The value that its JSON form means.
fn meant(json: &Json) -> Brine {
    let double = |bytes: &[u8]| f64::from_be_bytes(bytes.try_into().unwrap());
    let all = |items: &Json| items.as_array().unwrap().iter().map(meant).collect::<Vec<_>>();
    match json {
        Json::Null => Brine::None,
        Json::Bool(value) => Brine::Bool(*value),
        Json::Number(value) => Brine::Int(value.as_i64().unwrap().into()),
        Json::String(text) => Brine::Str(text.clone()),
        Json::Array(_) => panic!("no value is an array"),
        Json::Object(object) => {
            let (kind, value) = object.iter().next().unwrap();
            match kind.as_str() {
                "int" => {
                    let text = value.as_str().unwrap();
                    text.parse()
                        .map_or_else(|_| Brine::BigInt(text.parse().unwrap()), Brine::Int)
                }
                "float" => Brine::Float(double(&hex(value))),
                "complex" => {
                    let bytes = hex(value);
                    Brine::Complex {
                        real: double(&bytes[..8]),
                        imag: double(&bytes[8..]),
                    }
                }
                "bytes" => Brine::Bytes(hex(value).into()),
                "tuple" => Brine::Tuple(all(value)),
                "frozenset" => Brine::FrozenSet(all(value)),
                "slice" => Brine::Slice(Box::new(all(value).try_into().unwrap())),
                "sym" if value == "Ellipsis" => Brine::Ellipsis,
                "sym" if value == "NotImplemented" => Brine::NotImplemented,
                kind => panic!("{kind} is unknown"),
            }
        }
    }
}

/// The same with the members of frozensets in one order: Python writes them in any.
fn in_order(value: Brine) -> Brine {
    match value {
        Brine::FrozenSet(mut members) => {
            members.sort_by_key(|member| format!("{member:?}"));
            Brine::FrozenSet(members)
        }
        Brine::Tuple(items) => Brine::Tuple(items.into_iter().map(in_order).collect()),
        value => value,
    }
}

/// Reads the one value in `payload` in each way, and writes it in each way.
fn read(payload: &Bytes) -> Brine {
    let limits = BrineLimits::default();
    let (value, rest) = decode_prefix(payload, &limits).unwrap();
    assert!(rest.is_empty());
    assert_eq!(decode(payload, &limits).as_ref(), Ok(&value));
    let mut written = BytesMut::new();
    encode(&value, &mut written);
    assert_eq!(written, payload);

    let mut reader = Reader::new(payload, &limits);
    let ours = reader.value().unwrap();
    assert!(reader.rest().is_empty());
    assert_eq!(ours, Value::from(value.clone()));
    assert_eq!(Brine::from_value(&ours).as_ref(), Some(&value));
    let mut written = BytesMut::new();
    assert!(put_value(&ours, &mut written));
    assert_eq!(written, payload);

    let mut reader = Reader::new(payload, &limits);
    reader.skip().unwrap();
    assert!(reader.rest().is_empty());
    value
}

#[test]
fn each_value_is_what_python_meant() {
    let vectors = vectors();
    let mut count = 0;
    for list in ["brine", "registry"] {
        for vector in vectors[list].as_array().unwrap() {
            let value = read(&hex(&vector["hex"]).into());
            assert_eq!(
                in_order(value),
                in_order(meant(&vector["value"])),
                "{}",
                vector["name"]
            );
            count += 1;
        }
    }
    assert_eq!(count, 55 + 10);
}

#[test]
fn each_frame_is_read_and_written_as_it_was() {
    let limits = FrameLimits::default();
    let (mut count, mut compressed) = (0, 0);
    for scenario in vectors()["scenarios"].as_array().unwrap() {
        for frame in scenario["frames"].as_array().unwrap() {
            let bytes = hex(&frame["hex"]);
            let mut stream = BytesMut::from(&bytes[..]);
            let payload = take_frame(&mut stream, &limits).unwrap().unwrap();
            assert!(stream.is_empty());

            put_frame(&payload, Compress::Always, &mut stream).unwrap();
            if frame["compressed"] == true {
                // Two compressors need not write the same.
                assert_eq!((bytes[4], stream[4]), (1, 1));
                assert_eq!(take_frame(&mut stream, &limits).unwrap().as_ref(), Some(&payload));
                compressed += 1;
            } else {
                assert_eq!(stream, bytes);
            }

            let message = match scenario["thread_prefix"].as_str() {
                Some("8") => payload.slice(16..),
                _ => payload,
            };
            match scenario["dialect"].as_u64() {
                Some(6) => {
                    assert!((1..=3).contains(&message[0]));
                    let Brine::Tuple(parts) = read(&message.slice(1..)) else {
                        panic!("no tuple")
                    };
                    assert_eq!(parts.len(), 2);
                }
                _ => {
                    let Brine::Tuple(parts) = read(&message) else {
                        panic!("no tuple")
                    };
                    assert!(matches!(&parts[..], [Brine::Int(1..=3), Brine::Int(_), _]));
                }
            }
            count += 1;
        }
    }
    assert_eq!((count, compressed), (1620, 9));
}

#[test]
fn a_stream_cut_anyhow_gives_the_same_frames() {
    let limits = FrameLimits::default();
    for scenario in vectors()["scenarios"].as_array().unwrap() {
        let frames: Vec<_> = scenario["frames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|frame| hex(&frame["hex"]))
            .collect();
        let mut input = BytesMut::new();
        let mut count = 0;
        for piece in frames.concat().chunks(97) {
            input.extend_from_slice(piece);
            while take_frame(&mut input, &limits).unwrap().is_some() {
                count += 1;
            }
        }
        assert_eq!(count, frames.len());
        assert!(input.is_empty());
    }
}

proptest! {
    /// What a Python peer would say, with a few bytes changed and the end cut off.
    #[test]
    fn no_damage_harms(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let frames = FRAMES.get_or_init(frames);
        let mut bytes = which.get(frames).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        farref_framing::fuzzing::rpyc(&bytes);
        for payload_at in [5, 6] {
            farref_boxing::fuzzing::brine(bytes.get(payload_at..).unwrap_or_default());
        }
    }
}

static FRAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();

/// All that was captured.
fn frames() -> Vec<Vec<u8>> {
    let vectors = vectors();
    let scenarios = vectors["scenarios"].as_array().unwrap().iter();
    scenarios
        .flat_map(|scenario| scenario["frames"].as_array().unwrap())
        .map(|frame| hex(&frame["hex"]))
        .collect()
}
