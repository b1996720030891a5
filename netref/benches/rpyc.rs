//! What it takes to write and to read messages of Python's RPyC: `cargo bench -p farref-netref --bench rpyc`.
//!
//! A CALL of `f(3, 4)`, of dialect 6, and its reply `7`; each figure is the best of many rounds, in nanoseconds.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use farref_boxing::Value;
use farref_boxing::rpyc::{
    Brine, BrineError, BrineLimits, Reader, decode, encode, put_int, put_str, put_tuple, put_value,
};
use farref_framing::rpyc::{Compress, FrameLimits, begin_frame, finish_frame, put_frame, take_frame};

const NAME: &str = "builtins.method";
const CLASS: i64 = 140_226_672_759_488;
const INSTANCE: i64 = 140_226_653_414_528;

fn write_call(seq: u32, arguments: &[Value], out: &mut BytesMut) {
    let frame = begin_frame(out);
    out.extend_from_slice(&[1]);
    put_tuple(2, out);
    put_int(seq, out);
    put_tuple(2, out);
    put_int(7, out);
    put_tuple(2, out);
    put_int(2, out);
    put_tuple(3, out);
    {
        put_tuple(2, out);
        put_int(3, out);
        put_tuple(3, out);
        put_str(NAME, out);
        put_int(CLASS, out);
        put_int(INSTANCE, out);
    }
    {
        put_tuple(2, out);
        put_int(1, out);
        put_tuple(arguments.len(), out);
        for argument in arguments {
            assert!(put_value(argument, out));
        }
    }
    {
        put_tuple(2, out);
        put_int(1, out);
        put_tuple(0, out);
    }
    finish_frame(frame, Compress::Auto, out).unwrap();
}

fn read_call(payload: &Bytes) -> Result<(i128, i128, Value), BrineError> {
    let mut reader = Reader::new(payload, &BrineLimits::default());
    reader.tuple_of(2)?;
    let seq = reader.int()?;
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 7);
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 2);
    reader.tuple_of(3)?;
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 3);
    reader.tuple_of(3)?;
    assert_eq!(reader.text()?, NAME);
    assert_eq!(reader.int()?, i128::from(CLASS));
    let instance = reader.int()?;
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 1);
    let arguments = reader.value()?;
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 1);
    assert_eq!(reader.tuple()?, 0);
    Ok((seq, instance, arguments))
}

fn write_reply(seq: u32, result: &Value, out: &mut BytesMut) {
    let frame = begin_frame(out);
    out.extend_from_slice(&[2]);
    put_tuple(2, out);
    put_int(seq, out);
    put_tuple(2, out);
    put_int(1, out);
    assert!(put_value(result, out));
    finish_frame(frame, Compress::Auto, out).unwrap();
}

fn read_reply(payload: &Bytes) -> Result<(i128, Value), BrineError> {
    let mut reader = Reader::new(payload, &BrineLimits::default());
    reader.tuple_of(2)?;
    let seq = reader.int()?;
    reader.tuple_of(2)?;
    assert_eq!(reader.int()?, 1);
    Ok((seq, reader.value()?))
}

/// The best of many rounds of `count` each, by one.
fn measure(what: &str, count: u32, mut round: impl FnMut(u32)) {
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        round(count);
        best = best.min(start.elapsed());
    }
    println!("{what:<44}{:>12.1} ns", best.as_nanos() as f64 / f64::from(count));
}

fn main() {
    const COUNT: u32 = 2000;
    let limits = FrameLimits::default();
    let next = |input: &mut BytesMut| {
        let mut payload = take_frame(input, &limits).unwrap().unwrap();
        payload.advance(1);
        payload
    };
    let arguments = [Value::from(3), Value::from(4)];
    let mut out = BytesMut::with_capacity(1 << 20);
    measure("write a CALL", COUNT, |count| {
        out.clear();
        for seq in 0..count {
            write_call(seq, black_box(&arguments), &mut out);
        }
    });
    let calls = out.clone();
    measure("take its frame", COUNT, |count| {
        let mut input = calls.clone();
        for _ in 0..count {
            black_box(next(&mut input));
        }
    });
    measure("take its frame and read it", COUNT, |count| {
        let mut input = calls.clone();
        for _ in 0..count {
            black_box(read_call(&next(&mut input)).unwrap());
        }
    });
    measure("take its frame and read it as a tree", COUNT, |count| {
        let mut input = calls.clone();
        for _ in 0..count {
            black_box(decode(&next(&mut input), &BrineLimits::default()).unwrap());
        }
    });
    let tree: Brine = decode(&next(&mut calls.clone()), &BrineLimits::default()).unwrap();
    let mut tree_out = BytesMut::with_capacity(1 << 20);
    measure("write it from a tree", COUNT, |count| {
        tree_out.clear();
        for _ in 0..count {
            let frame = begin_frame(&mut tree_out);
            tree_out.extend_from_slice(&[1]);
            encode(black_box(&tree), &mut tree_out);
            finish_frame(frame, Compress::Auto, &mut tree_out).unwrap();
        }
    });
    measure("write a reply", COUNT, |count| {
        out.clear();
        for seq in 0..count {
            write_reply(seq, black_box(&Value::Int(7)), &mut out);
        }
    });
    let replies = out.clone();
    measure("take its frame and read it", COUNT, |count| {
        let mut input = replies.clone();
        for _ in 0..count {
            black_box(read_reply(&next(&mut input)).unwrap());
        }
    });

    println!();
    let text = "The quick brown fox, number 12, jumps over a lazy dog. ".repeat(1200);
    let random: Vec<u8> = (0..64 << 10_u32)
        .scan(1_u32, |state, _| {
            *state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            Some((*state >> 24) as u8)
        })
        .collect();
    for (what, payload) in [
        ("4 KiB of text", text.as_bytes().get(..4096).unwrap_or_default()),
        (
            "64 KiB of text",
            text.as_bytes().get(..64 << 10).unwrap_or_default(),
        ),
        ("64 KiB of noise", &random[..]),
    ] {
        for compress in [Compress::Never, Compress::Auto, Compress::Always] {
            measure(&format!("write {what}, {compress:?}"), 5, |count| {
                for _ in 0..count {
                    out.clear();
                    put_frame(payload, compress, &mut out).unwrap();
                }
            });
            let frame = out.clone();
            measure("  and take its frame", 5, |count| {
                for _ in 0..count {
                    black_box(take_frame(&mut frame.clone(), &limits).unwrap().unwrap());
                }
            });
        }
    }
}
