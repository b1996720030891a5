//! Everything at once, from a seed: afterwards the tables are empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farref::{Config, ErrorKind, Netref};
use farref_integration_tests::bench::{Bench, Count, Counter, Everything, Rig, Trouble};
use farref_integration_tests::media::{MEDIA, Pair, pair_of, rough_pair, runtime, within};
use farref_integration_tests::rough::{Random, Rough};
use tokio::sync::watch;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Calls in all. `FARREF_STRESS_CALLS` sets another number.
fn calls() -> u64 {
    setting("FARREF_STRESS_CALLS", 20_000)
}

fn seed() -> u64 {
    setting("FARREF_STRESS_SEED", 42)
}

/// What a run has done so far.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    given_up: AtomicU64,
}

#[test]
fn random_calls_cancels_callbacks_and_references_leave_empty_tables() {
    println!("FARREF_STRESS_SEED={} FARREF_STRESS_CALLS={}", seed(), calls());
    let runtime = runtime();
    // The narrowest is the slowest: it gets a tenth of what the others get.
    let share = calls() * 10 / 41;
    for medium in MEDIA {
        let share = if medium.contains("buffer") {
            share / 10
        } else {
            share
        };
        let begun = std::time::Instant::now();
        let tally = runtime.block_on(async {
            let (there, _told, there_gate) = Rig::new();
            let (here, _told_here, here_gate) = Rig::new();
            let joined = pair_of::<dyn Bench, dyn Bench>(
                medium,
                (there, Config::default()),
                (here, Config::default()),
            )
            .await;
            let host = joined.host().await;
            let (far, near) = (joined.root().await, within(host.root()).await.unwrap());
            wander_all(&joined, [far, near], [there_gate, here_gate], share).await
        });
        println!("over {medium}: {tally} in {:?}", begun.elapsed());
    }
}

#[test]
fn rough_lines_change_nothing() {
    println!("FARREF_STRESS_SEED={} FARREF_STRESS_CALLS={}", seed(), calls());
    let runtime = runtime();
    for round in 0..4 {
        let tally = runtime.block_on(async {
            let rough = Rough::new(1 << 12, Some(seed() + round));
            let (rig, _told, gate) = Rig::new();
            let joined = rough_pair::<dyn Bench>(&rough, rig).await;
            let far: Netref<dyn Bench> = joined.root().await;
            wander_all(&joined, [far.clone(), far], [gate.clone(), gate], calls() / 40).await
        });
        println!("round {round}: {tally}");
    }
}

/// Many tasks call the benches at random, until `share` calls were made; then nothing may be left.
async fn wander_all(
    joined: &Pair,
    benches: [Netref<dyn Bench>; 2],
    gates: [watch::Sender<bool>; 2],
    share: u64,
) -> String {
    let tally = Arc::new(Tally::default());
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let side = task as usize % 2;
            let wanderer = Wanderer {
                random: Random::new(seed() * 1000 + task),
                bench: benches[side].clone(),
                other: benches[1 - side].clone(),
                gate: gates[side].clone(),
                mine: Arc::new(Count::default()),
                held: Vec::new(),
                tally: Arc::clone(&tally),
            };
            tokio::spawn(wanderer.wander(share))
        })
        .collect();
    for task in tasks {
        let patience = Duration::from_secs(60 + share / 1000);
        let ended = tokio::time::timeout(patience, task).await;
        let ended = ended.unwrap_or_else(|_| {
            let host = joined.server.connections().pop().map(|host| host.stats());
            panic!(
                "a task hangs after {} calls: {:?}, {host:?}",
                tally.calls.load(Ordering::Relaxed),
                joined.client.stats()
            )
        });
        ended.unwrap();
    }
    for gate in &gates {
        gate.send_replace(true);
    }
    for bench in &benches {
        within(bench.call().forget()).await.unwrap();
    }
    drop(benches);
    joined.at_rest().await;
    let (calls, given_up) = (
        tally.calls.load(Ordering::Relaxed),
        tally.given_up.load(Ordering::Relaxed),
    );
    format!("{calls} calls, {given_up} of them given up")
}

struct Wanderer {
    random: Random,
    bench: Netref<dyn Bench>,
    /// The bench at the other end, as this end knows it: its own, or that of the other side's caller.
    other: Netref<dyn Bench>,
    gate: watch::Sender<bool>,
    mine: Arc<Count>,
    held: Vec<Netref<dyn Counter>>,
    tally: Arc<Tally>,
}

impl Wanderer {
    async fn wander(mut self, until: u64) {
        loop {
            let calls = self.step().await;
            if self.tally.calls.fetch_add(calls, Ordering::Relaxed) >= until {
                return;
            }
        }
    }

    fn mine(&self) -> Netref<dyn Counter> {
        Netref::share(&self.mine)
    }

    fn any(&mut self) -> Netref<dyn Counter> {
        let at = self.random.below(self.held.len() as u64 + 1) as usize;
        self.held.get(at).cloned().unwrap_or_else(|| self.mine())
    }

    fn hold(&mut self, counter: Netref<dyn Counter>) {
        self.held.push(counter);
        if self.held.len() > 40 {
            let at = self.random.below(40) as usize;
            drop(self.held.swap_remove(at));
        }
    }

    fn give_up<R>(&self, call: R) {
        self.tally.given_up.fetch_add(1, Ordering::Relaxed);
        drop(call);
    }

    /// Does something at random. How many calls that were.
    async fn step(&mut self) -> u64 {
        let bench = self.bench.clone();
        let size = |random: &mut Random| [0, 10, 3_000, 20_000, 100_000][random.below(5) as usize];
        match self.random.below(24) {
            0 => assert_eq!(bench.call().add(20, 22).await.unwrap(), 42),
            1 => assert_eq!(bench.call().blocking_add(20, 22).await.unwrap(), 42),
            2 => {
                let counter = bench.call().counter().await.unwrap();
                self.hold(counter);
            }
            3 => drop(self.held.pop()),
            4 => self.give_up(bench.call().counter().start()),
            5 | 6 => {
                // Pipes, of which some are dropped, and their call before them or behind.
                let opening = bench.call().counter();
                let (first, second) = (opening.pipe().next().start(), opening.pipe().bump().start());
                let keep = self.random.below(4);
                if keep & 1 == 0 {
                    self.give_up(opening);
                } else {
                    let counter = opening.await.unwrap();
                    self.hold(counter);
                }
                if keep & 2 == 0 {
                    self.give_up(second);
                    drop(first.await);
                } else {
                    self.give_up(first);
                    drop(second.await);
                }
                return 3;
            }
            7 => assert!(bench.call().call_back(self.mine(), 2).await.unwrap() > 0),
            8 => assert!(bench.call().call_back_blocking(self.mine(), 2).await.unwrap() > 0),
            9 => assert!(bench.call().call_back_inside(self.mine()).await.unwrap() > 0),
            10 => self.give_up(bench.call().call_back(self.mine(), 3).start()),
            11 => self.give_up(bench.call().call_back_blocking(self.mine(), 3).start()),
            12 => {
                let counter = self.any();
                bench.call().keep(counter).await.unwrap();
            }
            13 => {
                if let Some(kept) = bench.call().kept().await.unwrap() {
                    drop(kept.call().next().await);
                    self.hold(kept);
                }
            }
            14 => {
                // What waits until somebody opens the gate, or is given up before.
                let opening = bench.call().slow_counter();
                let next = opening.pipe().next().start();
                self.gate.send_replace(self.random.below(2) == 0);
                self.give_up((opening, next));
                return 2;
            }
            15 => {
                let counter = self.any();
                let ballast = vec![0; size(&mut self.random)];
                drop(counter.call().note(1, ballast.into()).await);
            }
            16 => {
                let size = size(&mut self.random);
                assert_eq!(
                    bench.call().bytes(vec![1; size].into()).await.unwrap().len(),
                    size
                );
            }
            17 => {
                let ballast = vec![1; size(&mut self.random)];
                self.give_up(bench.call().bytes(ballast.into()).start());
            }
            18 => {
                let many = self.random.below(20) as u32;
                let holder = bench.call().many(many).await.unwrap();
                holder
                    .counters
                    .into_iter()
                    .take(3)
                    .for_each(|counter| self.hold(counter));
            }
            19 => {
                // References to objects here and there, nested in a value, there and back.
                let (one, other) = (self.any(), self.any());
                let sent = Everything {
                    reference: Some(one.clone()),
                    references: [
                        ("one".to_owned(), one.clone()),
                        ("other".to_owned(), other.clone()),
                    ]
                    .into(),
                    result: Some(Ok(other.upcast())),
                    ..Everything::default()
                };
                let back = bench.call().echo(sent).await.unwrap();
                assert!(back.reference.unwrap().same_object(&one));
                assert!(back.references["other"].same_object(&other));
                assert!(back.result.unwrap().unwrap().same_object(&other));
            }
            20 => {
                let depth = self.random.below(6) as u32;
                let (other, me) = (self.other.clone(), bench.clone());
                let climbed = bench.call().ping_pong(other, me, depth).await.unwrap();
                assert_eq!(climbed, depth);
                return u64::from(depth) + 1;
            }
            21 => {
                let soon = Duration::from_micros(self.random.below(300));
                let call = bench.call().call_back(self.mine(), 3).timeout(soon);
                if let Err(error) = call.await {
                    // Its own time, or that of a callback which inherited it.
                    assert!(error.to_string().contains("too long"), "{error:?}");
                    self.tally.given_up.fetch_add(1, Ordering::Relaxed);
                }
            }
            22 => {
                // A thread that waits, and serves its own callbacks meanwhile.
                let mine = self.mine();
                let blocked = tokio::task::spawn_blocking(move || bench.call_back_blocking(mine, 2));
                assert!(blocked.await.unwrap().unwrap() > 0);
            }
            _ => {
                assert!(bench.call().fail(Trouble::Fire).await.is_err());
                let error = bench.call().no_counter().pipe().next().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Broken);
                return 3;
            }
        }
        1
    }
}
