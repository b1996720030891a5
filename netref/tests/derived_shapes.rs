//! `#[derive(Shape)]` tells what serde's derives do.
#![allow(missing_docs, dead_code, reason = "types for their shape")]

// The macros name the crate by the name that its users give it.
extern crate farref_netref as farref;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use bytes::Bytes;
use farref_netref::channel::{broadcast, mpsc, oneshot, watch};
use farref_netref::mutex::Mutex;
use farref_netref::stream::Sink;
use farref_netref::{
    ByteStream, Error, Netref, Object, RemoteIter, Result, Shape, Shaped, Stream, Value, remote,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Asserts that a type tells the shape that is found by reading it.
#[track_caller]
fn agrees<T: Shaped + DeserializeOwned>() {
    assert_eq!(Some(Shape::told_by::<T>()), Shape::of::<T>());
}

fn told<T: Shaped>() -> String {
    Shape::told_by::<T>().to_string()
}

#[derive(Serialize, Deserialize, Shape)]
struct Unit;

#[derive(Serialize, Deserialize, Shape)]
struct Meters(u32);

#[derive(Serialize, Deserialize, Shape)]
struct Pair(u32, String);

#[derive(Serialize, Deserialize, Shape)]
#[serde(rename = "settings", rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    max_volts: f64,
    #[serde(rename = "n")]
    count: usize,
    #[serde(default)]
    r#type: Option<Box<Settings>>,
    #[serde(skip)]
    cached: Option<std::rc::Rc<str>>,
    #[serde(with = "farref::bytes")]
    raw: Vec<u8>,
    unit: Unit,
    length: Meters,
}

#[derive(Serialize, Deserialize, Shape)]
#[serde(rename_all = "snake_case", rename_all_fields = "SCREAMING-KEBAB-CASE")]
enum Event {
    PowerOn,
    Moved(Meters),
    Both(u8, Pair),
    #[serde(rename = "SET")]
    Set {
        the_value: Value,
        #[serde(rename = "b")]
        bytes: Bytes,
    },
    #[serde(rename_all = "camelCase")]
    Nested {
        inner_event: Vec<Event>,
    },
    #[serde(skip)]
    Internal,
}

#[derive(Serialize, Deserialize, Shape)]
struct Tree<T, K: Ord> {
    value: T,
    children: BTreeMap<K, Tree<T, K>>,
    of: PhantomData<T>,
}

#[derive(Serialize, Deserialize, Shape)]
#[serde(transparent)]
struct Seconds {
    #[serde(skip)]
    unused: (),
    seconds: u64,
}

#[derive(Serialize, Deserialize, Shape, Clone)]
#[serde(from = "u64", into = "u64")]
struct Even(u64);

impl From<u64> for Even {
    fn from(half: u64) -> Self {
        Self(half * 2)
    }
}

impl From<Even> for u64 {
    fn from(even: Even) -> Self {
        even.0 / 2
    }
}

#[test]
fn a_derived_shape_is_that_of_the_derived_deserialize() {
    agrees::<Unit>();
    agrees::<Meters>();
    agrees::<Pair>();
    agrees::<Settings>();
    agrees::<Event>();
    agrees::<Tree<Option<u8>, String>>();
    agrees::<Seconds>();
    agrees::<Even>();
    agrees::<Error>();
    agrees::<Result<Vec<Event>, Error>>();
}

#[derive(Serialize, Deserialize, Shape)]
struct Renamed {
    #[serde(alias = "size", alias = "len")]
    length: u64,
}

#[remote]
trait Nothing {}

#[derive(Serialize, Deserialize, Shape)]
#[serde(bound = "")]
struct Holder {
    object: Netref<dyn Nothing>,
    #[serde(default)]
    stream: Option<Stream<u8>>,
    bytes: ByteStream,
}

#[derive(Serialize, Deserialize, Shape)]
#[serde(bound = "")]
struct ReadyMade {
    object: Object,
    sink: Sink<Stream<u8>>,
    iter: RemoteIter<u8>,
    many: (mpsc::Sender<u8>, mpsc::Receiver<u8>),
    one: (oneshot::Sender<u8>, oneshot::Receiver<u8>),
    last: (watch::Sender<u8>, watch::Receiver<u8>),
    all: (broadcast::Sender<u8>, broadcast::Receiver<u8>),
    lock: Mutex<u8>,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        format!("{number:x}").serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        u8::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize, Shape)]
struct Colour {
    #[serde(with = "hex")]
    #[shape(as = "String")]
    red: u8,
}

#[test]
fn what_serde_cannot_tell_is_told() {
    assert_eq!(told::<Renamed>(), "Renamed where Renamed {length: u64}");
    assert_eq!(
        told::<Holder>(),
        "Holder where Holder {object: Netref, stream: Option<Netref>, bytes: Netref}"
    );
    assert_eq!(
        told::<ReadyMade>(),
        "ReadyMade where ReadyMade {object: Netref, sink: Netref, iter: (Netref, (u64, Option<u64>)), many: [Netref; 2], \
         one: [Netref; 2], last: (Netref, (Netref, u64)), all: [Netref; 2], lock: Netref}"
    );
    assert_eq!(told::<Colour>(), "Colour where Colour {red: String}");
}

/// Takes only some of what its bytes can be, and does not tell.
#[derive(Debug, Clone, Serialize)]
struct Odd(u8);

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            7 => Ok(Self(7)),
            _ => Err(serde::de::Error::custom("not 7")),
        }
    }
}

mod old {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(super) struct Changed(u8);

    #[remote]
    pub(super) trait Takes {
        fn both(&self, odd: Odd, changed: Changed) -> Result<()>;
        fn odd(&self, odd: Odd) -> Result<Odd>;
        fn changed(&self, changed: &Changed, other: Option<&str>) -> Result<Changed>;
        fn nothing(&self) -> Result<()>;
    }
}

mod new {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(super) struct Changed(u16);

    #[remote]
    pub(super) trait Takes {
        fn both(&self, odd: Odd, changed: Changed) -> Result<()>;
        fn odd(&self, odd: Odd) -> farref::Result<Odd>;
        fn changed(&self, changed: &Changed, other: Option<&str>) -> Result<Changed>;
        fn nothing(&self) -> Result<()>;
    }
}

#[test]
fn a_change_is_seen_also_beside_a_type_that_does_not_tell() {
    let [old, new] = [
        <dyn old::Takes as farref::RemoteTrait>::INTERFACE,
        <dyn new::Takes as farref::RemoteTrait>::INTERFACE,
    ];
    let same = |index: usize| {
        let (old, new) = (&old.methods[index], &new.methods[index]);
        (
            old.arguments_shape() == new.arguments_shape(),
            old.result_shape() == new.result_shape(),
        )
    };
    assert_eq!(
        [0, 1, 2, 3].map(same),
        [(false, true), (true, true), (false, false), (true, true)]
    );
}
