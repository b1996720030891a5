//! Values: what serde knows crosses and comes back as it was, in every size, or fails its call alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use farref::{ErrorKind, Netref, Result, remote};
use farref_integration_tests::media::{is_slow, on_plain_thread, over_every_medium, pair, runtime, within};
use serde::{Deserialize, Serialize};

/// Every shape of serde's data model, and what programs put into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shapes {
    signed: (i8, i16, i32, i64, i128, isize),
    unsigned: (u8, u16, u32, u64, u128, usize),
    floats: [f64; 6],
    single: f32,
    truth: (bool, bool),
    letters: Vec<char>,
    text: String,
    slice: Box<str>,
    cow: Cow<'static, str>,
    nothing: (),
    unit: Unit,
    newtype: Meters,
    pair: Pair,
    options: Vec<Option<Option<u8>>>,
    sequence: VecDeque<u16>,
    set: BTreeSet<String>,
    hashed: HashSet<u64>,
    map: HashMap<(u8, bool), Vec<Choice>>,
    tree: BTreeMap<String, BTreeMap<u8, ()>>,
    choices: Vec<Choice>,
    results: Vec<std::result::Result<u8, String>>,
    array: [u8; 32],
    nested: [[i16; 2]; 3],
    span: Duration,
    moment: SystemTime,
    path: PathBuf,
    address: (IpAddr, SocketAddr),
    range: std::ops::Range<u32>,
    positive: Option<NonZeroU32>,
    boxed: Box<Tree>,
    #[serde(with = "farref::bytes")]
    blob: Vec<u8>,
    plain_blob: Vec<u8>,
    #[serde(skip)]
    skipped: u8,
    #[serde(default)]
    defaulted: Option<u8>,
    #[serde(rename = "other-name")]
    renamed: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(i32, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(String),
    Tuple(u8, i64),
    Struct { a: Option<Box<Choice>>, b: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    value: u32,
    children: Vec<Tree>,
}

fn shapes() -> Shapes {
    Shapes {
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN),
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX),
        floats: [
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::EPSILON,
        ],
        single: f32::MAX,
        truth: (true, false),
        letters: vec!['a', 'ß', '€', '𝄞', '\0'],
        text: "grüße \u{0} 𝄞".repeat(50),
        slice: "slice".into(),
        cow: Cow::Owned("cow".into()),
        nothing: (),
        unit: Unit,
        newtype: Meters(1.5),
        pair: Pair(-1, String::new()),
        options: vec![None, Some(None), Some(Some(0))],
        sequence: [0, 250, 251, u16::MAX].into(),
        set: ["b".to_owned(), "a".to_owned()].into(),
        hashed: [0, 250, 251, 65_535, 65_536, u64::from(u32::MAX), u64::MAX].into(),
        map: [
            ((1, true), vec![Choice::Unit, Choice::Tuple(1, -1)]),
            ((2, false), vec![]),
        ]
        .into(),
        tree: [
            ("x".to_owned(), [(1, ())].into()),
            (String::new(), BTreeMap::new()),
        ]
        .into(),
        choices: vec![
            Choice::Newtype("n".into()),
            Choice::Struct {
                a: Some(Box::new(Choice::Struct { a: None, b: vec![] })),
                b: vec![0; 300],
            },
        ],
        results: vec![Ok(1), Err("no".into())],
        array: [7; 32],
        nested: [[1, -1], [2, -2], [3, -3]],
        span: Duration::new(u64::MAX, 999_999_999),
        moment: SystemTime::UNIX_EPOCH + Duration::new(1, 5),
        path: "/a/b c".into(),
        address: ("::1".parse().unwrap(), "127.0.0.1:80".parse().unwrap()),
        range: 3..9,
        positive: NonZeroU32::new(1),
        boxed: Box::new(Tree {
            value: 1,
            children: vec![
                Tree {
                    value: 2,
                    children: vec![]
                };
                3
            ],
        }),
        blob: (0..=255).collect(),
        plain_blob: (0..=255).rev().collect(),
        skipped: 0,
        defaulted: Some(1),
        renamed: -5,
    }
}

#[remote]
trait Mirror {
    async fn shapes(&self, shapes: Shapes) -> Result<Shapes>;
    fn shapes_blocking(&self, shapes: Shapes) -> Result<Shapes>;
    async fn borrowed(
        &self,
        text: &str,
        bytes: &[u8],
        shapes: &Shapes,
        list: &[Option<u32>],
    ) -> Result<(usize, u64)>;
    fn borrowed_blocking(&self, text: &str, bytes: &[u8], pair: &Pair) -> Result<usize>;
    async fn bytes(&self, bytes: Bytes) -> Result<Bytes>;
    async fn vector(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
    async fn maybe(&self, bytes: Option<Vec<u8>>) -> Result<Option<Bytes>>;
    async fn several(&self, one: Vec<u8>, other: Bytes, number: u8) -> Result<(Bytes, u8, Vec<u8>)>;
    async fn either(&self, ok: bool, bytes: Vec<u8>) -> Result<std::result::Result<Vec<u8>, Bytes>>;
    async fn nothing(&self) -> Result<()>;
    #[expect(clippy::too_many_arguments, reason = "more than a small tuple holds")]
    async fn many(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: String,
        f: bool,
        g: char,
        h: Option<f64>,
    ) -> Result<String>;
    async fn deep(&self, depth: u32) -> Result<Line>;
    async fn take_deep(&self, line: Line) -> Result<u32>;
    async fn numbers(&self, count: u32) -> Result<Vec<u64>>;
    async fn nan(&self, bits: u64) -> Result<f64>;
}

/// A value as deep as one likes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line(Option<Box<Line>>);

impl Line {
    fn of(depth: u32) -> Self {
        (0..depth).fold(Self(None), |line, _| Self(Some(Box::new(line))))
    }

    fn depth(&self) -> u32 {
        let mut depth = 0;
        let mut at = self;
        while let Some(next) = &at.0 {
            depth += 1;
            at = next;
        }
        depth
    }
}

struct Glass;

#[remote]
impl Mirror for Glass {
    async fn shapes(&self, shapes: Shapes) -> Result<Shapes> {
        Ok(shapes)
    }

    fn shapes_blocking(&self, shapes: Shapes) -> Result<Shapes> {
        Ok(shapes)
    }

    async fn borrowed(
        &self,
        text: &str,
        bytes: &[u8],
        shapes: &Shapes,
        list: &[Option<u32>],
    ) -> Result<(usize, u64)> {
        let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            + list
                .iter()
                .flatten()
                .map(|number| u64::from(*number))
                .sum::<u64>();
        Ok((text.len() + shapes.text.len(), sum))
    }

    fn borrowed_blocking(&self, text: &str, bytes: &[u8], pair: &Pair) -> Result<usize> {
        Ok(text.len() + bytes.len() + pair.1.len())
    }

    async fn bytes(&self, bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }

    async fn vector(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }

    async fn maybe(&self, bytes: Option<Vec<u8>>) -> Result<Option<Bytes>> {
        Ok(bytes.map(Bytes::from))
    }

    async fn several(&self, one: Vec<u8>, other: Bytes, number: u8) -> Result<(Bytes, u8, Vec<u8>)> {
        Ok((one.into(), number, other.into()))
    }

    async fn either(&self, ok: bool, bytes: Vec<u8>) -> Result<std::result::Result<Vec<u8>, Bytes>> {
        Ok(if ok { Ok(bytes) } else { Err(bytes.into()) })
    }

    async fn nothing(&self) -> Result<()> {
        Ok(())
    }

    async fn many(
        &self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: String,
        f: bool,
        g: char,
        h: Option<f64>,
    ) -> Result<String> {
        Ok(format!("{a} {b} {c} {d} {e} {f} {g} {h:?}"))
    }

    async fn deep(&self, depth: u32) -> Result<Line> {
        Ok(Line::of(depth))
    }

    async fn take_deep(&self, line: Line) -> Result<u32> {
        Ok(line.depth())
    }

    async fn numbers(&self, count: u32) -> Result<Vec<u64>> {
        Ok((0..u64::from(count)).collect())
    }

    async fn nan(&self, bits: u64) -> Result<f64> {
        Ok(f64::from_bits(bits))
    }
}

#[test]
fn every_shape_that_serde_knows_comes_back_as_it_was() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Mirror>(medium, Glass).await;
        let mirror: Netref<dyn Mirror> = joined.root().await;
        let sent = shapes();
        assert_eq!(within(mirror.call().shapes(sent.clone())).await.unwrap(), sent);
        assert_eq!(
            within(mirror.call().shapes_blocking(sent.clone())).await.unwrap(),
            sent
        );
        let skipped = Shapes {
            skipped: 5,
            ..sent.clone()
        };
        assert_eq!(
            within(mirror.call().shapes(skipped)).await.unwrap(),
            sent,
            "what serde skips stays here"
        );
        within(mirror.call().nothing()).await.unwrap();
        let text = within(mirror.call().many(1, 2, 3, 4, "e".into(), true, 'ß', Some(0.5)))
            .await
            .unwrap();
        assert_eq!(text, "1 2 3 4 e true ß Some(0.5)");
        let nan = 0x7ff8_dead_beef_0001;
        assert_eq!(
            within(mirror.call().nan(nan)).await.unwrap().to_bits(),
            nan,
            "not a number, but this one"
        );
        let numbers = within(mirror.call().numbers(100_000)).await.unwrap();
        assert!(numbers.iter().copied().eq(0..100_000));
    });
}

#[test]
fn borrowed_arguments_are_read_where_they_are() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Mirror>("unix", Glass));
    let mirror: Netref<dyn Mirror> = runtime.block_on(joined.root());
    let shapes = shapes();
    let list = [Some(1), None, Some(300)];
    let expected = (4 + shapes.text.len(), 3 + 301);
    runtime.block_on(async {
        let called = within(mirror.call().borrowed("text", &[1, 2], &shapes, &list)).await;
        assert_eq!(called.unwrap(), expected);
        let called = within(mirror.borrowed("text", &[1, 2], &shapes, &list)).await;
        assert_eq!(called.unwrap(), expected, "through the trait itself");
        let started = {
            let text = String::from("text");
            mirror.call().borrowed(&text, &[1, 2], &shapes, &list).start()
        };
        assert_eq!(
            within(started).await.unwrap(),
            expected,
            "the call owns what it was given"
        );
    });
    let big = vec![1; 3 << 20];
    let far = mirror.clone();
    let length = on_plain_thread(move || far.borrowed_blocking("abc", &big, &Pair(0, "de".into())).unwrap());
    assert_eq!(length, 5 + (3 << 20));
}

#[test]
fn bytes_of_every_size_come_back_in_every_form() {
    over_every_medium(async |medium| {
        if is_slow(medium) {
            return;
        }
        let joined = pair::<dyn Mirror>(medium, Glass).await;
        let mirror: Netref<dyn Mirror> = joined.root().await;
        let sizes: &[usize] = if medium.contains("buffer") {
            &[0, 1, 250, 16_384, 40_000]
        } else {
            &[
                0,
                1,
                250,
                251,
                16_383,
                16_384,
                16_385,
                65_535,
                65_536,
                1 << 20,
                5 << 20,
            ]
        };
        for size in sizes {
            let bytes: Vec<u8> = (0..*size).map(|n| (n * 31 % 253) as u8).collect();
            let shared = Bytes::from(bytes.clone());
            assert!(
                within(mirror.call().bytes(shared.clone())).await.unwrap() == shared,
                "{size}"
            );
            assert!(
                within(mirror.call().vector(bytes.clone())).await.unwrap() == bytes,
                "{size}"
            );
            assert!(
                within(mirror.call().maybe(Some(bytes.clone())))
                    .await
                    .unwrap()
                    .unwrap()
                    == shared,
                "{size}"
            );
            assert_eq!(within(mirror.call().maybe(None)).await.unwrap(), None);
            let (one, number, other) = within(mirror.call().several(bytes.clone(), shared.clone(), 9))
                .await
                .unwrap();
            assert!(one == shared && other == bytes && number == 9, "{size}");
            assert!(
                within(mirror.call().either(true, bytes.clone()))
                    .await
                    .unwrap()
                    .unwrap()
                    == bytes,
                "{size}"
            );
            assert!(
                within(mirror.call().either(false, bytes))
                    .await
                    .unwrap()
                    .unwrap_err()
                    == shared,
                "{size}"
            );
        }
    });
}

#[test]
fn the_longest_message_passes_and_a_longer_one_is_refused_here() {
    let runtime = runtime();
    runtime.block_on(async {
        let joined = pair::<dyn Mirror>("unix", Glass).await;
        let mirror: Netref<dyn Mirror> = joined.root().await;
        // 16 MiB less the head and the length of the bytes.
        let mut length = 16 << 20;
        let mut refused = 0;
        let longest = loop {
            match within(mirror.call().bytes(vec![0; length].into())).await {
                Ok(_) => break length,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
                    assert!(
                        error.to_string().contains("16777216"),
                        "it says how much is accepted: {error}"
                    );
                    refused += 1;
                    length -= 8;
                }
            }
        };
        assert!((1..=10).contains(&refused), "{refused}");
        assert!(longest > (16 << 20) - 100);
        assert_eq!(within(mirror.call().bytes(Bytes::new())).await.unwrap(), "");
        drop(mirror);
        joined.at_rest().await;
    });
}

#[test]
fn a_value_that_is_too_deep_is_an_error_and_never_a_crash() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Mirror>(medium, Glass).await;
        let mirror: Netref<dyn Mirror> = joined.root().await;
        assert_eq!(within(mirror.call().deep(100)).await.unwrap().depth(), 100);
        assert_eq!(within(mirror.call().take_deep(Line::of(100))).await.unwrap(), 100);
        for depth in [150, 1000, 5000] {
            let error = within(mirror.call().take_deep(Line::of(depth)))
                .await
                .unwrap_err();
            assert!(error.to_string().contains("levels of nesting"), "{error:?}");
            let error = within(mirror.call().deep(depth)).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("levels of nesting"), "{error:?}");
        }
        assert_eq!(within(mirror.call().deep(1)).await.unwrap().depth(), 1);
        drop(mirror);
        joined.at_rest().await;
    });
}

#[test]
fn many_large_values_at_once_share_the_line() {
    over_every_medium(async |medium| {
        if is_slow(medium) {
            return;
        }
        let joined = pair::<dyn Mirror>(medium, Glass).await;
        let mirror: Arc<Netref<dyn Mirror>> = Arc::new(joined.root().await);
        let size = if medium.contains("buffer") {
            20_000
        } else {
            1 << 20
        };
        // More of them than lanes may be under way.
        let calls: Vec<_> = (0..100_u8)
            .map(|n| mirror.call().bytes(vec![n; size].into()).start())
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            let back = within(call).await.unwrap();
            assert!(
                back.len() == size && back.iter().all(|byte| usize::from(*byte) == n),
                "{n}"
            );
        }
    });
}
