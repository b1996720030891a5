//! Bytes cross at the speed of a copy or without one, and look the same on the wire however they are written.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{
    As, Blob, DecodeLimits, DeserializeAs, Each, EncodedBody, Encoder, FromAs, Maybe, Outcome, Plain,
    SHARE_FROM, SerializeAs, decode,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    encoder.body().to_bytes()
}

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

/// `large` in the memory that it has here: the pieces of `body` share it.
fn shares(body: &EncodedBody<'_>, large: &Bytes) -> bool {
    matches!(body, EncodedBody::Rope(parts) if parts.iter().any(|part| part.as_ptr() == large.as_ptr()))
}

fn large(len: usize) -> Bytes {
    (0..len).map(|at| at as u8).collect::<Vec<_>>().into()
}

#[test]
fn bytes_look_the_same_with_and_without_the_attribute() {
    mod farref {
        pub(crate) use farref_boxing::bytes;
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fast<'a> {
        #[serde(with = "farref::bytes")]
        vec: Vec<u8>,
        #[serde(with = "farref::bytes")]
        bytes: Bytes,
        #[serde(with = "farref::bytes", borrow)]
        slice: &'a [u8],
        #[serde(with = "farref::bytes")]
        boxed: Box<[u8]>,
        #[serde(with = "farref::bytes")]
        shared: Arc<[u8]>,
        #[serde(with = "farref::bytes", borrow)]
        cow: Cow<'a, [u8]>,
        #[serde(with = "farref::bytes")]
        array: [u8; 3],
        #[serde(with = "farref::bytes")]
        maybe: Option<Vec<u8>>,
        #[serde(with = "farref::bytes")]
        never: Option<Bytes>,
    }
    type Plain = (
        Vec<u8>,
        Vec<u8>,
        Vec<u8>,
        Vec<u8>,
        Vec<u8>,
        Vec<u8>,
        [u8; 3],
        Option<Vec<u8>>,
        Option<Vec<u8>>,
    );

    let fast = Fast {
        vec: vec![1, 255],
        bytes: Bytes::from_static(&[2]),
        slice: &[3],
        boxed: [].into(),
        shared: [5, 5].into(),
        cow: Cow::Borrowed(&[6]),
        array: [7, 8, 9],
        maybe: Some(vec![10]),
        never: None,
    };
    let body = encoded(&fast);
    assert_eq!(
        &body[..],
        [2, 1, 255, 1, 2, 1, 3, 0, 2, 5, 5, 1, 6, 7, 8, 9, 1, 1, 10, 0]
    );
    let plain: Plain = decode(&body, &[], &limits()).unwrap();
    assert_eq!(encoded(&plain), body);
    let again: Fast<'_> = decode(&body, &[], &limits()).unwrap();
    assert_eq!(again, fast);
    assert!(matches!(again.cow, Cow::Borrowed(_)));
}

#[test]
fn other_formats_see_a_list_of_numbers() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Chunk {
        #[serde(with = "farref_boxing::bytes")]
        data: Bytes,
    }
    let chunk = Chunk {
        data: Bytes::from_static(&[1, 2]),
    };
    let text = serde_json::to_string(&chunk).unwrap();
    assert_eq!(text, r#"{"data":[1,2]}"#);
    assert_eq!(serde_json::from_str::<Chunk>(&text).unwrap(), chunk);
}

#[test]
fn adapters_of_every_form_write_what_serde_writes() {
    fn same<A, T>(value: T)
    where
        A: SerializeAs<T> + for<'de> DeserializeAs<'de, T>,
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let body = encoded(&value);
        assert_eq!(encoded(&As::<A, _>::new(&value)), body);
        let again: FromAs<A, T> = decode(&body, &[], &limits()).unwrap();
        assert_eq!(again.into_inner(), value);
    }
    let vec = || vec![1_u8, 2, 255];
    same::<Plain, _>((1_u16, "text".to_owned(), Some(false)));
    same::<Blob, _>(vec());
    same::<Blob, _>(Bytes::from_static(&[9, 9]));
    same::<Blob, _>([1_u8, 2, 255]);
    same::<Maybe<Blob>, _>(Some(vec()));
    same::<Maybe<Blob>, _>(None::<Vec<u8>>);
    same::<Outcome<Blob, Plain>, _>(Ok::<_, String>(vec()));
    same::<Outcome<Plain, Blob>, _>(Err::<u8, _>(vec()));
    same::<Each<Blob>, _>(vec![vec(), vec![]]);
    same::<Outcome<Maybe<(Plain, Blob)>, Plain>, _>(Ok::<_, String>(Some((1_u64, vec()))));
    same::<(Blob,), _>((vec(),));
    same::<(Plain, Blob, (Maybe<Blob>, Plain)), _>((7_i32, vec(), (Some(vec()), 'x')));
}

#[test]
fn a_tuple_of_sixteen_is_adapted() {
    type P = Plain;
    type Adapter = (P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, Blob);
    type Value = (
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        Vec<u8>,
    );
    let value: Value = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, vec![16]);
    let body = encoded(&As::<Adapter, _>::new(&value));
    assert_eq!(body, encoded(&value));
    let again: FromAs<Adapter, Value> = decode(&body, &[], &limits()).unwrap();
    assert_eq!(again.into_inner().15, [16]);
}

#[test]
fn borrowed_arguments_are_written_and_read_in_place() {
    let (text, data, owned) = ("text", [1_u8, 2].as_slice(), vec![3_u8]);
    let arguments = (
        As::<Plain, _>::new(text),
        As::<Blob, _>::new(data),
        As::<Blob, _>::new(&owned),
        As::<Blob, _>::new(&data),
    );
    let body = encoded(&arguments);
    assert_eq!(&body[..], [4, b't', b'e', b'x', b't', 2, 1, 2, 1, 3, 2, 1, 2]);

    type Read<'a> = (
        FromAs<Plain, &'a str>,
        FromAs<Blob, &'a [u8]>,
        FromAs<Blob, Vec<u8>>,
        FromAs<Blob, Cow<'a, [u8]>>,
    );
    let (a, b, c, d): Read<'_> = decode(&body, &[], &limits()).unwrap();
    let within = body.as_ptr_range();
    let (a, b) = (a.into_inner(), b.into_inner());
    assert_eq!(
        (a, b, c.into_inner(), &*d.into_inner()),
        (text, data, owned, data)
    );
    assert!(within.contains(&a.as_ptr()) && within.contains(&b.as_ptr()));
}

#[test]
fn long_bytes_are_not_copied_on_the_way_out() {
    let data = large(SHARE_FROM);
    let value = (1_u8, data.clone(), "tail".to_owned());
    type Adapter = (Plain, Blob, Plain);
    let mut encoder = Encoder::new();
    encoder.encode(&As::<Adapter, _>::new(&value)).unwrap();
    let body = encoder.body();
    assert!(shares(&body, &data));
    let EncodedBody::Rope([head, shared, tail]) = body else {
        unreachable!("three parts: {body:?}");
    };
    assert_eq!(
        (&head[..], shared, &tail[..]),
        (&[1, 251, 0, 16][..], &data, &b"\x04tail"[..])
    );
    assert_eq!(body.len(), 4 + SHARE_FROM + 5);
    assert_eq!(
        body.to_bytes(),
        encoded(&(1_u8, data.to_vec(), "tail")),
        "and look the same on the wire"
    );
}

#[test]
fn several_long_bytes_and_what_is_between_keep_their_order() {
    let (one, other) = (large(10_000), large(5_000));
    let copied = vec![7_u8; 20_000];
    let value: Value = (Some(one.clone()), copied, (other.clone(), one.clone()), 9_u8);
    type Adapter = (Maybe<Blob>, Blob, (Blob, Blob), Plain);
    type Value = (Option<Bytes>, Vec<u8>, (Bytes, Bytes), u8);
    let mut encoder = Encoder::new();
    encoder.encode(&As::<Adapter, _>::new(&value)).unwrap();
    assert!(shares(&encoder.body(), &one) && shares(&encoder.body(), &other));
    let body = encoder.body().to_bytes();
    assert_eq!(body, encoded(&value));
    let again: FromAs<Adapter, Value> = decode(&body, &[], &limits()).unwrap();
    assert_eq!(again.into_inner(), value);
}

#[test]
fn short_bytes_and_vectors_stay_in_one_piece() {
    let mut encoder = Encoder::new();
    encoder
        .encode(&As::<Blob, _>::new(&large(SHARE_FROM - 1)))
        .unwrap();
    assert!(matches!(encoder.body(), EncodedBody::Slice(_)));
    // With their number before them, in three bytes: 64 KiB.
    encoder.encode(&As::<Blob, _>::new(&vec![0_u8; 65_533])).unwrap();
    assert!(matches!(encoder.body(), EncodedBody::Slice(_)));
    encoder.encode(&As::<Blob, _>::new(&vec![0_u8; 65_534])).unwrap();
    assert!(matches!(encoder.body(), EncodedBody::Rope([_])));
}

#[test]
fn a_large_body_is_handed_over_rather_than_lent() {
    let mut encoder = Encoder::new();
    encoder.encode(&As::<Blob, _>::new(&vec![1_u8; 1 << 20])).unwrap();
    let EncodedBody::Rope([only]) = encoder.body() else {
        unreachable!("one part: {:?}", encoder.body());
    };
    assert_eq!(only.len(), (1 << 20) + 5);
    assert_eq!(encoder.body().to_bytes().as_ptr(), only.as_ptr());
}

#[test]
fn equal_bytes_elsewhere_in_memory_are_not_mistaken_for_those_offered() {
    /// Offers its bytes to a writer that never writes them, then writes equal ones.
    struct Decoy(Bytes);
    impl Serialize for Decoy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serde_json::to_string(&As::<Blob, _>::new(&self.0)).unwrap();
            let equal = self.0.to_vec();
            serializer.serialize_bytes(&equal)
        }
    }
    let data = large(SHARE_FROM);
    let mut encoder = Encoder::new();
    encoder.encode(&Decoy(data.clone())).unwrap();
    assert!(!shares(&encoder.body(), &data));
    assert_eq!(encoder.body().to_bytes(), encoded(&data.to_vec()));
}

#[test]
fn long_bytes_are_pieces_of_the_body_they_came_in() {
    let data = large(SHARE_FROM);
    let body = encoded(&As::<(Plain, Blob), _>::new(&(1_u8, data.clone())));
    let (_, read) = decode::<FromAs<(Plain, Blob), (u8, Bytes)>>(&body, &[], &limits())
        .unwrap()
        .into_inner();
    assert_eq!(read, data);
    assert!(body.as_ptr_range().contains(&read.as_ptr()));
}

#[test]
fn short_bytes_do_not_keep_a_long_body_in_memory() {
    let body = encoded(&As::<(Blob, Blob), _>::new(&(large(10), large(SHARE_FROM))));
    let (short, _) = decode::<FromAs<(Blob, Blob), (Bytes, Bytes)>>(&body, &[], &limits())
        .unwrap()
        .into_inner();
    assert!(!body.as_ptr_range().contains(&short.as_ptr()));
}

#[test]
fn an_encoder_writes_into_the_memory_that_it_has() {
    let mut encoder = Encoder::new();
    let mut written_at = |len: usize| {
        encoder.encode(&As::<Blob, _>::new(&vec![1_u8; len])).unwrap();
        match encoder.body() {
            EncodedBody::Slice(bytes) => bytes.as_ptr(),
            EncodedBody::Rope(_) => unreachable!("small"),
        }
    };
    let first = written_at(60_000);
    assert!(
        [0, 10, 1000, 60_000]
            .into_iter()
            .all(|len| written_at(len) == first)
    );
}

#[test]
fn what_is_encoded_takes_the_place_of_what_was_handed_over() {
    let mut encoder = Encoder::new();
    encoder.encode(&As::<Blob, _>::new(&large(SHARE_FROM))).unwrap();
    encoder.encode(&7_u8).unwrap();
    assert_eq!(encoder.body().to_bytes(), [7_u8][..]);
}

#[test]
fn an_encoder_keeps_a_little_memory_and_no_value() {
    let watch = Arc::new(());
    struct Owner(Vec<u8>, #[expect(dead_code, reason = "counted")] Arc<()>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let data = Bytes::from_owner(Owner(vec![0; SHARE_FROM], Arc::clone(&watch)));
    let mut encoder = Encoder::new();
    encoder.encode(&As::<Blob, _>::new(&data)).unwrap();
    drop(data);
    assert_eq!(Arc::strong_count(&watch), 2, "the encoder lends the very bytes");
    encoder.clear();
    assert_eq!(Arc::strong_count(&watch), 1);
    assert!(encoder.body().is_empty());
}

/// Not asserted: run it by hand, `cargo test --release -p farref-boxing --test bytes -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn speed() {
    fn best(what: &str, mut run: impl FnMut()) {
        let each = |runs: u32, run: &mut dyn FnMut()| {
            let start = std::time::Instant::now();
            (0..runs).for_each(|_| run());
            start.elapsed() / runs
        };
        let best = (0..50).map(|_| each(20, &mut run)).min().unwrap();
        println!("{what:<44} {best:>10.1?}");
    }
    let vec = vec![7_u8; 1 << 20];
    let bytes = Bytes::from(vec.clone());
    let body = encoded(&vec);
    let mut encoder = Encoder::new();
    best("copy 1 MiB", || drop(std::hint::black_box(vec.to_vec())));
    best("encode Vec<u8>, 1 MiB, plain", || encoder.encode(&vec).unwrap());
    best("encode Vec<u8>, 1 MiB, adapted", || {
        encoder.encode(&As::<Blob, _>::new(&vec)).unwrap()
    });
    best("encode Bytes, 1 MiB, adapted", || {
        encoder.encode(&As::<Blob, _>::new(&bytes)).unwrap()
    });
    best("decode Vec<u8>, 1 MiB, plain", || {
        drop(decode::<Vec<u8>>(&body, &[], &limits()).unwrap())
    });
    best("decode Vec<u8>, 1 MiB, adapted", || {
        drop(decode::<FromAs<Blob, Vec<u8>>>(&body, &[], &limits()).unwrap());
    });
    best("decode Bytes, 1 MiB, adapted", || {
        drop(decode::<FromAs<Blob, Bytes>>(&body, &[], &limits()).unwrap())
    });
    best("decode &[u8], 1 MiB, adapted", || {
        std::hint::black_box(decode::<FromAs<Blob, &[u8]>>(&body, &[], &limits()).unwrap());
    });

    type Call<'a> = (u64, &'a str, Option<u32>, (i32, f64), bool);
    let call: Call<'_> = (300, "a short text", Some(70_000), (-5, 1.5), true);
    best("encode a small tuple, 100 times", || {
        (0..100).for_each(|_| encoder.encode(&call).unwrap())
    });
    let body = encoded(&call);
    best("decode a small tuple, 100 times", || {
        (0..100).for_each(|_| {
            std::hint::black_box(decode::<Call<'_>>(std::hint::black_box(&body), &[], &limits()).unwrap());
        });
    });
    let records: Vec<(u64, String, Option<i32>)> =
        (0..10_000).map(|n| (n, format!("record {n}"), None)).collect();
    best("encode 10,000 records", || encoder.encode(&records).unwrap());
    let body = encoded(&records);
    best("decode 10,000 records", || {
        drop(decode::<Vec<(u64, String, Option<i32>)>>(&body, &[], &limits()).unwrap());
    });
}
