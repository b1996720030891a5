//! The memory of long bodies, which is the process's: alone in this one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use farref_boxing::{EncodedBody, Encoder};

/// The body of ten thousand texts, in one piece.
fn encoded(encoder: &mut Encoder) -> Bytes {
    encoder.encode(&vec!["a short text"; 10_000]).unwrap();
    match encoder.body() {
        EncodedBody::Rope([only]) => only.clone(),
        other => panic!("{} bytes", other.len()),
    }
}

/// It grew from nothing for each of them, by copying, in memory that the allocator may give back to the system each time.
#[test]
fn one_long_body_after_another_is_in_the_same_memory() {
    let mut encoder = Encoder::new();
    let first = encoded(&mut encoder);
    let at = first.as_ptr();
    let meanwhile = encoded(&mut Encoder::new());
    assert_ne!(meanwhile.as_ptr(), at, "the first one is in use");
    assert_eq!(meanwhile, first);
    encoder.clear();
    drop(first);
    for _ in 0..3 {
        let mut another = Encoder::new();
        let body = encoded(&mut another);
        assert_eq!((body.as_ptr(), &body), (at, &meanwhile));
    }
}
