//! The memory of long bodies, which is the process's: alone in this one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use farref_boxing::{As, Blob, EncodedBody, Encoder, ItemsWriter, SHARE_FROM};

/// The body of ten thousand texts, in one piece.
fn encoded() -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(&vec!["a short text"; 10_000]).unwrap();
    match encoder.body() {
        EncodedBody::Rope([only]) => only.clone(),
        other => panic!("{} bytes", other.len()),
    }
}

/// It grew from nothing for each of them, by copying, in memory that the allocator may give back to the system each time.
#[test]
fn one_long_body_after_another_is_in_the_same_memory() {
    let first = encoded();
    let (at, bytes) = (first.as_ptr(), first.to_vec());
    drop(first);
    for _ in 0..3 {
        let another = encoded();
        assert_eq!((another.as_ptr(), &another[..]), (at, &bytes[..]));
    }
    // One that is held for long takes its memory with it, and nothing else.
    let held = encoded();
    let meanwhile = encoded();
    assert_ne!(meanwhile.as_ptr(), at);
    let at = meanwhile.as_ptr();
    drop(meanwhile);
    assert_eq!(encoded().as_ptr(), at);
    assert_eq!(held, bytes);
    // What is no long body leaves it where it is.
    let mut short = Encoder::new();
    short.encode("a short text").unwrap();
    let mut parts = Encoder::new();
    let shared = Bytes::from(vec![0; SHARE_FROM]);
    parts
        .encode(&(vec!["a short text"; 1000], As::<Blob, _>::new(&shared)))
        .unwrap();
    let mut items = ItemsWriter::new();
    items.push(&vec!["a short text"; 10_000]).unwrap();
    let elsewhere = bytes.clone();
    assert_eq!(encoded().as_ptr(), at);
    drop((short, parts, items, elsewhere));
}
