//! Everything at once, from a seed: afterwards the tables are empty.

use std::sync::Arc;

use farref::Netref;
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{over_every_medium, pair, within};

/// A small generator, so that a seed is all there is to a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Calls in all, per medium. `FARREF_STRESS_CALLS` sets another number.
fn calls() -> u64 {
    std::env::var("FARREF_STRESS_CALLS")
        .ok()
        .and_then(|calls| calls.parse().ok())
        .unwrap_or(4_000)
}

#[test]
fn random_calls_cancels_callbacks_and_references_leave_empty_tables() {
    let seed = std::env::var("FARREF_STRESS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(42);
    println!("FARREF_STRESS_SEED={seed} FARREF_STRESS_CALLS={}", calls());
    over_every_medium(async |medium| {
        let calls = if medium.contains("buffer") {
            calls() / 10
        } else {
            calls()
        };
        let (rig, _tells, gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (bench, gate) = (bench.clone(), gate.clone());
                tokio::spawn(async move { wander(Random(seed + task), bench, gate, calls / 16).await })
            })
            .collect();
        for task in tasks {
            within_long(task).await.unwrap();
        }
        gate.send_replace(true);
        within(bench.call().forget()).await.unwrap();
        drop(bench);
        joined.at_rest().await;
    });
}

async fn within_long<F: Future>(future: F) -> F::Output {
    let patience = std::time::Duration::from_secs(1800);
    tokio::time::timeout(patience, future)
        .await
        .unwrap_or_else(|_| panic!("the stress test hangs"))
}

async fn wander(
    mut random: Random,
    bench: Netref<dyn Bench>,
    gate: tokio::sync::watch::Sender<bool>,
    steps: u64,
) {
    let mine = Arc::new(Count::default());
    let mut held: Vec<Netref<dyn Counter>> = Vec::new();
    for step in 0..steps {
        match random.below(14) {
            0 => assert_eq!(bench.call().add(step, 1).await.unwrap(), step + 1),
            1 => held.push(bench.call().counter().await.unwrap()),
            2 => drop(held.pop()),
            3 => drop(bench.call().counter().start()),
            4 => {
                let opening = bench.call().counter();
                let next = opening.pipe().next().start();
                if random.below(2) == 0 {
                    drop(opening);
                } else {
                    held.push(opening.await.unwrap());
                }
                if random.below(2) == 0 {
                    let _ = next.await;
                }
            }
            5 => {
                bench.call().call_back(Netref::share(&mine), 2).await.unwrap();
            }
            6 => drop(bench.call().call_back(Netref::share(&mine), 3).start()),
            7 => {
                let counter = held.last().cloned().unwrap_or_else(|| Netref::share(&mine));
                bench.call().keep(counter).await.unwrap();
            }
            8 => drop(bench.call().kept().await.unwrap()),
            9 => {
                let opening = bench.call().slow_counter();
                let _next = opening.pipe().next().start();
                gate.send_replace(random.below(2) == 0);
            }
            10 => {
                bench
                    .call()
                    .call_back_blocking(Netref::share(&mine), 1)
                    .await
                    .unwrap();
            }
            11 => {
                if let Some(counter) = held.last() {
                    counter
                        .call()
                        .note(step, vec![0; random.below(40_000) as usize].into())
                        .await
                        .unwrap();
                }
            }
            12 => drop(
                bench
                    .call()
                    .bytes(vec![1; random.below(200_000) as usize].into())
                    .start(),
            ),
            _ => {
                let holder = bench.call().many(random.below(20) as u32).await.unwrap();
                held.extend(holder.counters.into_iter().take(3));
                held.truncate(50);
            }
        }
    }
}
