//! How fast a `Value` is beside bincode and JSON on the same tree: `cargo bench -p farref-boxing`.
//!
//! The contenders take turns, so that whatever else the machine does meets them all; each figure is the best of its
//! turns, and the ratio is to bincode. What `Value` holds itself to: 1.5 at most.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bincode::Options;
use farref_boxing::{DecodeLimits, Encoder, Value, decode, from_value, to_value};
use serde::{Deserialize, Serialize};

/// What a program would have if there were no `Value`.
#[derive(Clone, Serialize, Deserialize)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// A tree of so many levels, eight wide.
    fn of(depth: u32, next: &mut u32) -> Self {
        *next += 1;
        let number = *next;
        match (depth, number % 5) {
            (0, 0) => Self::Null,
            (0, 1) => Self::Bool(number.is_multiple_of(2)),
            (0, 2) => Self::Int(i64::from(number) * 7919 % 100_000 - 50),
            (0, 3) => Self::Float(f64::from(number) * 0.37),
            (0, _) => Self::Str(format!("string {number}")),
            _ if number.is_multiple_of(2) => Self::List((0..8).map(|_| Self::of(depth - 1, next)).collect()),
            _ => Self::Map(
                (0..8)
                    .map(|key| (format!("key{key}"), Self::of(depth - 1, next)))
                    .collect(),
            ),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Str(value) => value.as_str().into(),
            Self::List(values) => values.iter().map(Self::value).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.as_str(), value.value()))
                .collect(),
        }
    }
}

/// An ordinary struct.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    on: bool,
    ratio: f64,
    small: Vec<u32>,
    maybe: Option<i32>,
    kind: Kind,
}

#[derive(Clone, Serialize, Deserialize)]
enum Kind {
    A,
    B(u32),
    C { x: f64 },
}

fn records() -> Vec<Record> {
    let record = |number: u32| Record {
        id: u64::from(number) * 977,
        name: format!("name {number}"),
        on: number.is_multiple_of(3),
        ratio: f64::from(number) * 0.5,
        small: (0..number % 4).collect(),
        maybe: number.is_multiple_of(2).then_some(-7),
        kind: match number % 3 {
            0 => Kind::A,
            1 => Kind::B(number),
            _ => Kind::C { x: 1.5 },
        },
    };
    (0..1000).map(record).collect()
}

struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
}

fn contender<'a, R>(name: &'static str, mut run: impl FnMut() -> R + 'a) -> Contender<'a> {
    Contender {
        name,
        run: Box::new(move || {
            black_box(run());
        }),
    }
}

/// The first one is what the others are measured by.
fn race(title: &str, mut contenders: Vec<Contender<'_>>) {
    let mut best = vec![Duration::MAX; contenders.len()];
    for _ in 0..100 {
        for (best, contender) in best.iter_mut().zip(&mut contenders) {
            let start = Instant::now();
            for _ in 0..10 {
                (contender.run)();
            }
            *best = start.elapsed().min(*best);
        }
    }
    println!("\n| {title} | µs | ratio |\n|---|---:|---:|");
    for (time, contender) in best.iter().zip(&contenders) {
        let (time, reference) = (time.as_secs_f64(), best[0].as_secs_f64());
        println!(
            "| {} | {:.1} | {:.2} |",
            contender.name,
            time * 1e5,
            time / reference
        );
    }
}

fn main() {
    let limits = DecodeLimits::default();
    let bincode = bincode::DefaultOptions::new;

    let tree = Tree::of(4, &mut 0);
    let value = tree.value();
    let json: serde_json::Value = from_value(&value).unwrap();
    let (mut typed, mut dynamic) = (Encoder::new(), Encoder::new());
    typed.encode(&tree).unwrap();
    dynamic.encode(&value).unwrap();
    let (typed_body, dynamic_body) = (typed.body().to_bytes(), dynamic.body().to_bytes());
    let text = serde_json::to_vec(&json).unwrap();
    println!(
        "A tree of {} bytes in bincode, {} as a value, {} in JSON.",
        typed_body.len(),
        dynamic_body.len(),
        text.len()
    );
    let (mut plain, mut json_text) = (Vec::new(), Vec::new());
    race(
        "tree, written",
        vec![
            contender("bincode", || {
                plain.clear();
                bincode().serialize_into(&mut plain, black_box(&tree)).unwrap();
            }),
            contender("bincode in `Encoder`", || typed.encode(black_box(&tree)).unwrap()),
            contender("`Value` in `Encoder`", || {
                dynamic.encode(black_box(&value)).unwrap()
            }),
            contender("`serde_json::Value`", || {
                json_text.clear();
                serde_json::to_writer(&mut json_text, black_box(&json)).unwrap();
            }),
        ],
    );
    race(
        "tree, read",
        vec![
            contender("bincode, with a limit", || {
                let bincode = bincode().with_limit(16 << 20);
                bincode.deserialize::<Tree>(black_box(&typed_body)).unwrap()
            }),
            contender("bincode by `decode`", || {
                decode::<Tree>(black_box(&typed_body), &[], &limits).unwrap()
            }),
            contender("`Value` by `decode`", || {
                decode::<Value>(black_box(&dynamic_body), &[], &limits).unwrap()
            }),
            contender("`serde_json::Value`", || {
                serde_json::from_slice::<serde_json::Value>(black_box(&text)).unwrap()
            }),
        ],
    );

    let records = records();
    let value = to_value(&records).unwrap();
    let json = serde_json::to_value(&records).unwrap();
    typed.encode(&records).unwrap();
    dynamic.encode(&value).unwrap();
    let (typed_body, dynamic_body) = (typed.body().to_bytes(), dynamic.body().to_bytes());
    println!(
        "\n1,000 structs of {} bytes in bincode, {} as a value, {} in JSON.",
        typed_body.len(),
        dynamic_body.len(),
        serde_json::to_vec(&json).unwrap().len()
    );
    race(
        "structs, written and read",
        vec![
            contender("bincode by `Encoder` and `decode`", || {
                typed.encode(black_box(&records)).unwrap();
                decode::<Vec<Record>>(black_box(&typed_body), &[], &limits).unwrap()
            }),
            contender("`Value` by `Encoder` and `decode`", || {
                dynamic.encode(black_box(&value)).unwrap();
                decode::<Value>(black_box(&dynamic_body), &[], &limits).unwrap()
            }),
        ],
    );
    race(
        "structs, from a type and to it",
        vec![
            contender("`to_value` and `from_value`", || {
                let value = to_value(black_box(&records)).unwrap();
                from_value::<Vec<Record>>(&value).unwrap()
            }),
            contender("those of `serde_json`", || {
                let value = serde_json::to_value(black_box(&records)).unwrap();
                Vec::<Record>::deserialize(&value).unwrap()
            }),
        ],
    );
}
