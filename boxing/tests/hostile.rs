//! Whatever the bytes say, decoding ends in a value or in one clear error: no panic, no overflow, no flood.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bytes::Bytes;
use farref_boxing::{CodecError, DecodeLimits, Encoder, ErrorKind, decode};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A value as interpreters have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Text(String),
    List(Vec<Tree>),
    Record {
        name: String,
        fields: BTreeMap<String, Tree>,
    },
}

/// A list whose every link takes much of the stack.
#[derive(Debug, Serialize, Deserialize)]
struct Heavy {
    texts: [String; 8],
    numbers: [u64; 32],
    more: (String, String, String, Vec<u8>, Option<u64>),
    next: Option<Box<Heavy>>,
}

const HUGE: u64 = 1 << 40;

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    encoder.body().to_bytes()
}

fn decoded<T: DeserializeOwned>(body: impl Into<Bytes>) -> Result<T, CodecError> {
    decode(&body.into(), &[], &DecodeLimits::default())
}

/// `levels` lists inside each other: two bytes for each, and two levels, as an enum value and as a sequence.
fn nested_lists(levels: usize) -> Vec<u8> {
    let mut body = [2, 1].repeat(levels);
    body.push(0);
    body
}

/// A chain of `links` links. The empty sequence in the last one is a level, too.
fn chain(links: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for link in 1..=links {
        body.extend([0; 8 + 32 + 5]);
        body.push(u8::from(link < links));
    }
    body
}

/// Runs `test` on a thread with half of the stack that a tokio worker has.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn nesting_up_to_the_limit_fits_half_of_a_workers_stack() {
    on_a_small_stack(|| {
        decoded::<Tree>(nested_lists(63)).unwrap();
        decoded::<Heavy>(chain(128)).unwrap();
    });
}

#[test]
fn nesting_beyond_the_limit_is_refused_however_deep_it_goes() {
    on_a_small_stack(|| {
        for levels in [64, 65, 1000, 1_000_000] {
            assert_eq!(
                decoded::<Tree>(nested_lists(levels)),
                Err(CodecError::TooDeep { limit: 128 })
            );
        }
        assert_eq!(
            decoded::<Heavy>(chain(129)).unwrap_err(),
            CodecError::TooDeep { limit: 128 }
        );
    });
}

#[test]
fn levels_side_by_side_are_not_deep() {
    let wide = vec![Tree::List(vec![Tree::Leaf; 3]); 1000];
    assert_eq!(decoded::<Vec<Tree>>(encoded(&wide)).unwrap(), wide);
}

#[test]
fn every_way_to_nest_counts() {
    let shallow = DecodeLimits {
        depth: 2,
        ..DecodeLimits::default()
    };
    fn refused<T: Serialize + DeserializeOwned + fmt::Debug>(value: T, limits: &DecodeLimits) {
        let refusal = decode::<T>(&encoded(&value), &[], limits).unwrap_err();
        assert_eq!(refusal, CodecError::TooDeep { limit: limits.depth });
    }
    refused(vec![vec![vec![0]]], &shallow);
    refused(Some(Some(Some(0))), &shallow);
    refused(Some(vec![Ok::<_, ()>(0)]), &shallow);
    refused(HashMap::from([(0, HashMap::from([(0, Some(0))]))]), &shallow);
    refused(
        vec![Tree::Record {
            name: String::new(),
            fields: BTreeMap::new(),
        }],
        &shallow,
    );
    decode::<Vec<Option<((u8, u8), u8)>>>(&encoded(&vec![Some(((1, 2), 3))]), &[], &shallow).unwrap();
}

#[test]
fn a_flood_of_nothing_is_refused_at_once() {
    assert_eq!(
        decoded::<Vec<()>>(encoded(&HUGE)),
        Err(CodecError::TooManyItems { announced: HUGE })
    );
    assert_eq!(
        decoded::<HashMap<(), ()>>(encoded(&HUGE)),
        Err(CodecError::TooManyItems { announced: HUGE })
    );
    assert_eq!(
        decoded::<Vec<[(); 32]>>(encoded(&HUGE)),
        Err(CodecError::TooManyItems { announced: HUGE })
    );
}

#[test]
fn nothing_is_counted_over_the_whole_value() {
    let limit = 1 << 20;
    decoded::<Vec<()>>(encoded(&limit)).unwrap();
    decoded::<(Vec<()>, Vec<()>)>(encoded(&(limit / 2, limit / 2))).unwrap();
    let refusal = decoded::<(Vec<()>, Vec<()>)>(encoded(&(limit / 2, limit / 2 + 1))).unwrap_err();
    assert_eq!(
        refusal,
        CodecError::TooManyItems {
            announced: limit / 2 + 1
        }
    );
    let refusal = decoded::<Vec<Vec<()>>>([&[200][..], &encoded(&limit).repeat(200)].concat()).unwrap_err();
    assert_eq!(refusal, CodecError::TooManyItems { announced: limit });
}

#[test]
fn counts_that_cannot_be_true_are_refused_before_anything_is_reserved() {
    let refusal = CodecError::TooManyItems { announced: HUGE };
    assert_eq!(decoded::<Vec<u64>>(encoded(&HUGE)), Err(refusal.clone()));
    assert_eq!(decoded::<HashMap<u64, u64>>(encoded(&HUGE)), Err(refusal));
    let refusal = CodecError::Truncated {
        needed: HUGE,
        left: 0,
    };
    assert_eq!(decoded::<String>(encoded(&HUGE)), Err(refusal));
    assert!(matches!(
        decoded::<Vec<u64>>(encoded(&1000_u64)),
        Err(CodecError::Truncated { needed: 1, left: 0 })
    ));
}

#[test]
fn a_size_hint_is_never_more_than_the_bytes_that_are_left() {
    struct Hint(usize);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct HintVisitor;
            impl<'de> Visitor<'de> for HintVisitor {
                type Value = Hint;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Hint, A::Error> {
                    let hint = elements.size_hint().unwrap();
                    while elements.next_element::<()>()?.is_some() {}
                    Ok(Hint(hint))
                }
            }
            deserializer.deserialize_seq(HintVisitor)
        }
    }
    assert_eq!(decoded::<Hint>(encoded(&100_000_u64)).unwrap().0, 0);
    assert_eq!(
        decoded::<(Hint, [u8; 3])>(encoded(&(100_000_u64, [0_u8; 3])))
            .unwrap()
            .0
            .0,
        3
    );
}

#[test]
fn a_small_body_cannot_unfold_into_much_memory() {
    type Large = Option<[[u64; 32]; 32]>;
    let body = encoded(&vec![0_u8; 1 << 20]);
    let limit = (16 << 20) + 32 * body.len() as u64;
    assert_eq!(
        decoded::<Vec<Large>>(body),
        Err(CodecError::TooMuchMemory { limit })
    );
    let body = encoded(&(0..=255).map(|key| (key, 0)).collect::<BTreeMap<u8, u8>>());
    let limits = DecodeLimits {
        memory: 1 << 20,
        ..DecodeLimits::default()
    };
    let limit = limits.memory + 32 * body.len() as u64;
    let refusal = decode::<BTreeMap<u8, Large>>(&body, &[], &limits).unwrap_err();
    assert_eq!(refusal, CodecError::TooMuchMemory { limit });
}

#[test]
fn ordinary_values_are_far_from_the_memory_limit() {
    decoded::<Vec<u64>>(encoded(&vec![0_u64; 3 << 20])).unwrap();
    decoded::<Vec<Option<String>>>(encoded(&vec![None::<String>; 3 << 20])).unwrap();
}

#[test]
fn bytes_behind_the_value_are_refused() {
    assert_eq!(
        decoded::<u8>(vec![1, 2, 3]),
        Err(CodecError::Trailing { bytes: 2 })
    );
    assert_eq!(decoded::<()>(vec![0]), Err(CodecError::Trailing { bytes: 1 }));
}

#[test]
fn a_value_cut_at_any_byte_is_an_error() {
    let fields = BTreeMap::from([
        ("a".into(), Tree::Text("b\u{e9}".into())),
        ("c".into(), Tree::Leaf),
    ]);
    let value = (
        Tree::Record {
            name: "r".into(),
            fields,
        },
        Some(-70_000_i64),
        'x',
        1.5_f64,
        vec![300_u16, 1],
    );
    let body = encoded(&value);
    for end in 0..body.len() {
        let result = decoded::<(Tree, Option<i64>, char, f64, Vec<u16>)>(body.slice(..end));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Malformed, "cut at {end}");
    }
    assert_eq!(decoded(body), Ok(value));
}

#[test]
fn wrong_bytes_are_named() {
    assert_eq!(decoded::<bool>(vec![2]), Err(CodecError::InvalidTag { found: 2 }));
    assert_eq!(
        decoded::<Option<u8>>(vec![7, 0]),
        Err(CodecError::InvalidTag { found: 7 })
    );
    assert_eq!(
        decoded::<u16>(vec![252, 0, 0, 1, 0]),
        Err(CodecError::InvalidInteger)
    );
    assert_eq!(
        decoded::<u64>([[254].as_slice(), &[0; 16]].concat()),
        Err(CodecError::InvalidInteger)
    );
    assert_eq!(decoded::<u32>(vec![255]), Err(CodecError::InvalidInteger));
    assert_eq!(decoded::<char>(vec![0xff]), Err(CodecError::InvalidChar));
    assert_eq!(
        decoded::<char>(vec![0xed, 0xa0, 0x80]),
        Err(CodecError::InvalidChar)
    );
    assert_eq!(
        decoded::<String>(vec![3, b'a', b'b', 0xff]),
        Err(CodecError::InvalidUtf8 { valid: 2 })
    );
    let refusal = decoded::<Tree>(vec![9]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "invalid value: integer `9`, expected variant index 0 <= i < 4"
    );
    assert_eq!(refusal.kind(), ErrorKind::Malformed);
}

#[test]
fn types_that_need_to_be_told_what_comes_are_this_programs_mistake() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    let refusal = decoded::<Untagged>(vec![1]).unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal),
        (ErrorKind::Misuse, CodecError::NotSelfDescribing)
    );
}
