//! References in values: collected where they are met, in any position, and given out by slot.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use farref_boxing::{CodecError, DecodeLimits, Encoder, ErrorKind, Reference, SlotError, decode, lend, slot};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A netref in miniature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Net(Arc<String>);

fn net(name: &str) -> Net {
    Net(Arc::new(name.to_owned()))
}

impl Serialize for Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reference: Reference = self.0.clone();
        lend(reference)
            .ok_or_else(|| S::Error::custom("outside of a message"))?
            .serialize(serializer)
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

fn boxed<T: Serialize>(value: &T) -> (Bytes, Vec<Reference>) {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    let references = encoder.take_references().collect();
    assert!(encoder.references().is_empty());
    (encoder.body().to_bytes(), references)
}

fn unboxed<T: DeserializeOwned>((body, references): &(Bytes, Vec<Reference>)) -> Result<T, CodecError> {
    decode(body, references, &DecodeLimits::default())
}

fn name(reference: &Reference) -> &str {
    reference.downcast_ref::<String>().unwrap()
}

#[test]
fn a_reference_is_the_number_of_its_slot() {
    let message = boxed(&(7_u8, net("a"), net("b")));
    assert_eq!(&message.0[..], [7, 0, 1]);
    assert_eq!(message.1.iter().map(name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn references_cross_in_any_position() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Listing<T> {
        name: String,
        files: Vec<T>,
        parent: Option<Box<Listing<T>>>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Place {
        Here(Net),
        There { at: Net, by: (Net, u8) },
        Nowhere,
    }
    fn crosses<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, references: usize) {
        let message = boxed(&value);
        assert_eq!(message.1.len(), references);
        assert_eq!(unboxed::<T>(&message), Ok(value));
    }
    crosses(net("a"), 1);
    crosses((Some(net("a")), None::<Net>), 1);
    crosses(vec![net("a"), net("b")], 2);
    crosses(
        HashMap::from([("x".to_owned(), net("a")), ("y".to_owned(), net("b"))]),
        2,
    );
    crosses(BTreeMap::from([(1, vec![Some(net("a"))]), (2, vec![])]), 1);
    crosses((Ok::<Net, String>(net("a")), Err::<u8, Net>(net("b"))), 2);
    crosses(
        vec![
            Place::Here(net("a")),
            Place::There {
                at: net("b"),
                by: (net("c"), 1),
            },
            Place::Nowhere,
        ],
        3,
    );
    let parent = Listing {
        name: "up".into(),
        files: vec![],
        parent: None,
    };
    crosses(
        Listing {
            name: "here".into(),
            files: vec![net("a")],
            parent: Some(Box::new(parent)),
        },
        1,
    );
    crosses([(net("a"), [net("b"), net("c")])], 3);
}

#[test]
fn a_reference_that_is_met_twice_has_two_slots() {
    let twice = net("a");
    let message = boxed(&(twice.clone(), twice.clone()));
    assert_eq!(&message.0[..], [0, 1]);
    assert!(Arc::ptr_eq(&message.1[0], &message.1[1]));
}

#[test]
fn a_slot_may_be_asked_for_twice() {
    let (_, references) = boxed(&net("a"));
    let (one, other) = unboxed::<(Net, Net)>(&(Bytes::from_static(&[0, 0]), references)).unwrap();
    assert!(Arc::ptr_eq(&one.0, &other.0));
}

#[test]
fn a_slot_that_is_not_there_is_the_peers_mistake() {
    let (_, references) = boxed(&net("a"));
    let refusal = unboxed::<Net>(&(Bytes::from_static(&[1]), references)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the value names the reference 1, and its message has 1"
    );
    assert_eq!(refusal.kind(), ErrorKind::Malformed);
}

#[test]
fn outside_of_a_message_there_are_no_references() {
    assert!(lend(Arc::new(1)).is_none());
    assert_eq!(slot(0).unwrap_err(), SlotError::Outside);
    let refusal = serde_json::to_string(&net("a")).unwrap_err();
    assert_eq!(refusal.to_string(), "outside of a message");
    let refusal = serde_json::from_str::<Net>("0").unwrap_err();
    assert!(
        refusal
            .to_string()
            .starts_with("references can be decoded only as a part of a call or its result")
    );
}

#[test]
fn nothing_can_be_lent_while_a_message_is_read_nor_taken_while_one_is_written() {
    #[derive(Debug)]
    struct Contrary;
    impl Serialize for Contrary {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert_eq!(slot(0).unwrap_err(), SlotError::Outside);
            serializer.serialize_unit()
        }
    }
    impl<'de> Deserialize<'de> for Contrary {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            assert!(lend(Arc::new(1)).is_none());
            Ok(Self)
        }
    }
    let (body, _) = boxed(&Contrary);
    unboxed::<Contrary>(&(body, vec![Arc::new(1)])).unwrap();
}

/// Lends a reference, and then fails or panics as it is told.
struct Fails {
    net: Net,
    panics: bool,
}

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        _ = self.net.serialize(serializer)?;
        assert!(!self.panics, "as told");
        Err(S::Error::custom("as told"))
    }
}

#[test]
fn a_value_that_refuses_releases_what_it_lent() {
    let mut encoder = Encoder::new();
    let (value, watch) = fails(false);
    let refusal = encoder.encode(&vec![value]).unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal),
        (ErrorKind::Misuse, CodecError::Refused("as told".into()))
    );
    assert!(watch.upgrade().is_none());
    assert!(encoder.body().is_empty() && encoder.references().is_empty());
}

#[test]
fn a_value_that_panics_releases_what_it_lent_and_leaves_no_message_behind() {
    let mut encoder = Encoder::new();
    let (value, watch) = fails(true);
    catch_unwind(AssertUnwindSafe(|| encoder.encode(&vec![value]))).unwrap_err();
    assert!(watch.upgrade().is_none());
    assert!(lend(Arc::new(1)).is_none());
    encoder.encode(&net("after")).unwrap();
    assert_eq!(encoder.take_references().collect::<Vec<_>>().len(), 1);
}

fn fails(panics: bool) -> (Fails, Weak<String>) {
    let net = net("a");
    let watch = Arc::downgrade(&net.0);
    (Fails { net, panics }, watch)
}

#[test]
fn a_sequence_that_does_not_know_its_length_is_refused() {
    struct Unknown;
    impl Serialize for Unknown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq([1, 2, 3].iter().filter(|number| **number > 1))
        }
    }
    assert_eq!(Encoder::new().encode(&Unknown), Err(CodecError::UnknownLength));
}

#[test]
fn a_message_within_a_message_has_references_of_its_own() {
    /// Crosses as the bytes of a message, with an encoder of the thread's; its references stay behind.
    #[derive(Debug)]
    struct Nested(Net);
    thread_local! {
        static INNER: RefCell<Vec<Vec<Reference>>> = const { RefCell::new(Vec::new()) };
    }
    impl Serialize for Nested {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let (body, references) = boxed(&(net("inner"), self.0.clone()));
            INNER.with_borrow_mut(|inner| inner.push(references));
            (&body[..], &self.0).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (body, net) = <(Vec<u8>, Net)>::deserialize(deserializer)?;
            let references = INNER.with_borrow_mut(|inner| inner.remove(0));
            let (name, again) =
                unboxed::<(Net, Net)>(&(body.into(), references)).map_err(D::Error::custom)?;
            assert_eq!((name.0.as_str(), again), ("inner", net.clone()));
            Ok(Self(net))
        }
    }
    let message = boxed(&(net("before"), Nested(net("outer")), net("after")));
    assert_eq!(
        message.1.iter().map(name).collect::<Vec<_>>(),
        ["before", "outer", "after"]
    );
    let (before, nested, after) = unboxed::<(Net, Nested, Net)>(&message).unwrap();
    assert_eq!(
        [before, nested.0, after],
        [net("before"), net("outer"), net("after")]
    );
}

#[test]
fn a_failed_reading_releases_what_it_was_given() {
    let (_, references) = boxed(&net("a"));
    let watch = Arc::downgrade(&references[0]);
    let message = (Bytes::from_static(&[0, 255]), references);
    unboxed::<(Net, bool)>(&message).unwrap_err();
    drop(message);
    assert!(watch.upgrade().is_none());
}

#[test]
fn dropping_a_reference_may_encode_another_message() {
    struct Encodes;
    impl Drop for Encodes {
        fn drop(&mut self) {
            boxed(&net("last words"));
        }
    }
    struct Lends(bool);
    impl Serialize for Lends {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            lend(Arc::new(Encodes)).unwrap();
            if self.0 {
                serializer.serialize_unit()
            } else {
                Err(S::Error::custom("as told"))
            }
        }
    }
    let mut encoder = Encoder::new();
    encoder.encode(&Lends(false)).unwrap_err();
    encoder.encode(&Lends(true)).unwrap();
    encoder.encode(&Lends(true)).unwrap();
    let references: Vec<_> = encoder.take_references().collect();
    assert_eq!(references.len(), 1, "those of the last value");
    let body = Bytes::new();
    decode::<()>(&body, &references, &DecodeLimits::default()).unwrap();
}

#[test]
fn threads_do_not_share_a_message() {
    struct Elsewhere;
    impl Serialize for Elsewhere {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(std::thread::spawn(|| lend(Arc::new(1)).is_none()).join().unwrap());
            serializer.serialize_unit()
        }
    }
    boxed(&Elsewhere);
}
