//! Round trips of 64 bytes with a program that echoes, over its standard input and output and over sockets.
//!
//!     cargo build --release -p farref-integration-tests && \
//!         cargo run --release -p farref-integration-tests --example pingpong
//!
//! The media take turns, so that what else the machine does befalls all of them; medians of the turns.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farref::transport::{Address, StreamCarrier};
use farref_integration_tests::program::{dial, exec, read, write_all};

const TURNS: usize = 15;
const ROUNDS: u32 = 5_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut times = BTreeMap::<_, Vec<_>>::new();
    for _ in 0..TURNS {
        for medium in ["stdio", "tcp", "unix"] {
            let (time, bulk) = runtime.block_on(turn(medium));
            let of_medium = times.entry(medium).or_default();
            of_medium.push((time, bulk));
        }
    }
    for (medium, mut turns) in times {
        turns.sort_by_key(|(time, _)| *time);
        let time = turns.get(TURNS / 2).unwrap().0;
        turns.sort_by(|a, b| a.1.total_cmp(&b.1));
        let bulk = turns.get(TURNS / 2).unwrap().1;
        println!("{medium:6} {time:?} per round trip, {bulk:.0} MiB/s there and back");
    }
}

async fn turn(medium: &str) -> (Duration, f64) {
    let start = |manner: &str, at: &str| exec(manner).with_option("arg", at).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (mut carrier, other) = match medium {
        "stdio" => (dial(&start("echo", "stdio:")).await.unwrap(), None),
        medium => {
            let at = match medium {
                "tcp" => "plain+tcp://127.0.0.1:0".to_owned(),
                _ => format!("unix:{}", directory.path().join("socket").display()),
            };
            let mut other = dial(&start("address", &at)).await.unwrap();
            let told = read(&mut *other.rx).await.unwrap();
            let at: Address = std::str::from_utf8(&told).unwrap().trim().parse().unwrap();
            (dial(&at).await.unwrap(), Some(other))
        }
    };
    rounds(&mut carrier, 500, &[7; 64]).await;
    let begun = Instant::now();
    rounds(&mut carrier, ROUNDS, &[7; 64]).await;
    let time = begun.elapsed() / ROUNDS;
    let block = vec![7; 32 * 1024];
    let begun = Instant::now();
    rounds(&mut carrier, 2_000, &block).await;
    let bulk = 2_000.0 * 32.0 / 1024.0 / begun.elapsed().as_secs_f64();
    drop((carrier, other));
    (time, bulk)
}

async fn rounds(carrier: &mut StreamCarrier, count: u32, says: &[u8]) {
    for _ in 0..count {
        write_all(&mut *carrier.tx, says).await.unwrap();
        let mut left = says.len();
        while left > 0 {
            left -= read(&mut *carrier.rx).await.unwrap().len();
        }
    }
}
