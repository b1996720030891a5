//! Order: calls through one lineage reach their object in the order in which they were started.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use farref::{Call, Netref, Result, remote};
use farref_integration_tests::media::{over_every_medium, pair, rough_pair, runtime, within};
use farref_integration_tests::rough::{Random, Rough};

/// Writes down what it is told.
#[remote]
trait Log {
    async fn write(&self, number: u64, ballast: Bytes) -> Result<()>;
    fn write_blocking(&self, number: u64, ballast: Bytes) -> Result<()>;
    #[one_way]
    async fn post(&self, number: u64, ballast: Bytes) -> Result<()>;
    #[one_way]
    fn post_blocking(&self, number: u64, ballast: Bytes) -> Result<()>;
    #[serial]
    async fn write_slowly(&self, number: u64, ballast: Bytes) -> Result<()>;
    async fn all(&self) -> Result<Vec<u64>>;
}

/// Hands out logs, and writes to them itself.
#[remote]
trait Office {
    async fn log(&self) -> Result<Netref<dyn Log>>;
    async fn two_logs(&self) -> Result<(Netref<dyn Log>, Netref<dyn Log>)>;
    async fn write_to(&self, log: Netref<dyn Log>, from: u64, count: u64) -> Result<()>;
    fn write_to_blocking(&self, log: Netref<dyn Log>, from: u64, count: u64) -> Result<()>;
}

#[derive(Default)]
struct Pages(Arc<Mutex<Vec<u64>>>);

impl Pages {
    fn note(&self, number: u64) {
        self.0.lock().unwrap().push(number);
    }
}

#[remote]
impl Log for Pages {
    async fn write(&self, number: u64, _ballast: Bytes) -> Result<()> {
        self.note(number);
        Ok(())
    }

    fn write_blocking(&self, number: u64, _ballast: Bytes) -> Result<()> {
        self.note(number);
        Ok(())
    }

    async fn post(&self, number: u64, _ballast: Bytes) -> Result<()> {
        self.note(number);
        Ok(())
    }

    fn post_blocking(&self, number: u64, _ballast: Bytes) -> Result<()> {
        self.note(number);
        Ok(())
    }

    async fn write_slowly(&self, number: u64, _ballast: Bytes) -> Result<()> {
        tokio::task::yield_now().await;
        self.note(number);
        Ok(())
    }

    async fn all(&self) -> Result<Vec<u64>> {
        Ok(self.0.lock().unwrap().clone())
    }
}

struct Clerk;

#[remote]
impl Office for Clerk {
    async fn log(&self) -> Result<Netref<dyn Log>> {
        Ok(Netref::of(Pages::default()))
    }

    async fn two_logs(&self) -> Result<(Netref<dyn Log>, Netref<dyn Log>)> {
        let pages = Pages::default();
        Ok((Netref::of(Pages(Arc::clone(&pages.0))), Netref::of(pages)))
    }

    async fn write_to(&self, log: Netref<dyn Log>, from: u64, count: u64) -> Result<()> {
        for n in from..from + count {
            log.call().write(n, Bytes::new()).await?;
        }
        Ok(())
    }

    fn write_to_blocking(&self, log: Netref<dyn Log>, from: u64, count: u64) -> Result<()> {
        (from..from + count).try_for_each(|n| log.write_blocking(n, Bytes::new()))
    }
}

/// Starts the call number `n` in one of all the ways there are.
fn start(log: &LogCalls<'_>, random: &mut Random, n: u64) -> Call<Result<()>> {
    let length = [0, 0, 100, 17_000, 60_000][random.below(5) as usize];
    let ballast = Bytes::from(vec![1; length]);
    match random.below(5) {
        0 => log.write(n, ballast).start(),
        1 => log.write_blocking(n, ballast).start(),
        2 => log.post(n, ballast).start(),
        3 => log.post_blocking(n, ballast).start(),
        _ => log.write_slowly(n, ballast).start(),
    }
}

#[test]
fn started_calls_run_in_order_whatever_their_kind_and_size_over_rough_lines() {
    let seed = 11;
    println!("seed {seed}");
    let runtime = runtime();
    for round in 0..25 {
        runtime.block_on(async {
            let rough = Rough::new(1 << 14, Some(seed + round));
            let mut random = Random::new(seed + round);
            let joined = rough_pair::<dyn Office>(&rough, Clerk).await;
            let office: Netref<dyn Office> = joined.root().await;
            let opening = office.call().log();
            let mut calls: Vec<_> = (0..20).map(|n| start(&opening.pipe(), &mut random, n)).collect();
            let log = within(opening).await.unwrap();
            calls.extend((20..40).map(|n| start(&log.call(), &mut random, n)));
            let clone = log.clone();
            calls.extend((40..60).map(|n| start(&clone.call(), &mut random, n)));
            for call in calls {
                within(call).await.unwrap();
            }
            let all = within(log.call().all()).await.unwrap();
            assert_eq!(all, (0..60).collect::<Vec<_>>(), "round {round}");
            drop((log, clone, office));
            joined.at_rest().await;
        });
    }
}

#[test]
fn started_calls_run_in_order_over_every_medium() {
    over_every_medium(async |medium| {
        let mut random = Random::new(5);
        let joined = pair::<dyn Office>(medium, Clerk).await;
        let office: Netref<dyn Office> = joined.root().await;
        let log = within(office.call().log()).await.unwrap();
        let calls: Vec<_> = (0..60).map(|n| start(&log.call(), &mut random, n)).collect();
        for call in calls {
            within(call).await.unwrap();
        }
        assert_eq!(
            within(log.call().all()).await.unwrap(),
            (0..60).collect::<Vec<_>>()
        );
        drop((log, office));
        joined.at_rest().await;
    });
}

#[test]
fn a_blocked_caller_comes_after_what_was_started_before_it() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Office>("unix", Clerk));
    let office: Netref<dyn Office> = runtime.block_on(joined.root());
    let log = office.blocking().log().unwrap();
    for round in 0..20 {
        for n in 0..10 {
            log.call()
                .write_blocking(round * 100 + n, Bytes::from(vec![0; 20_000]))
                .detach();
        }
        log.write_blocking(round * 100 + 10, Bytes::new()).unwrap();
        log.blocking().write(round * 100 + 11, Bytes::new()).unwrap();
    }
    let all = log.blocking().all().unwrap();
    assert_eq!(all.len(), 240);
    assert!(all.is_sorted(), "{all:?}");
    drop((log, office));
    runtime.block_on(joined.at_rest());
}

#[test]
fn what_was_sent_before_a_reference_was_passed_on_comes_first() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Office>(medium, Clerk).await;
        let office: Netref<dyn Office> = joined.root().await;
        let log = within(office.call().log()).await.unwrap();
        for round in 0..10 {
            let at = round * 100;
            let calls: Vec<_> = (0..20)
                .map(|n| log.call().write(at + n, Bytes::new()).start())
                .collect();
            // The log lives there: whoever gets it back calls it directly.
            within(office.call().write_to(log.clone(), at + 20, 5))
                .await
                .unwrap();
            for call in calls {
                within(call).await.unwrap();
            }
        }
        let all = within(log.call().all()).await.unwrap();
        assert_eq!(all.len(), 250);
        assert!(all.is_sorted(), "{all:?}");
        drop((log, office));
        joined.at_rest().await;
    });
}

#[test]
fn order_holds_across_a_relay() {
    let runtime = runtime();
    runtime.block_on(async {
        let (first, second) = (
            pair::<dyn Office>("unix", Clerk).await,
            pair::<dyn Office>("mem", Clerk).await,
        );
        let (near, far): (Netref<dyn Office>, Netref<dyn Office>) = (first.root().await, second.root().await);
        let log = within(near.call().log()).await.unwrap();
        for round in 0..20 {
            let at = round * 100;
            let calls: Vec<_> = (0..20)
                .map(|n| {
                    let ballast = Bytes::from(vec![0; if n % 5 == 0 { 20_000 } else { 0 }]);
                    log.call().write(at + n, ballast).start()
                })
                .collect();
            // The third party calls through us, behind what we have sent.
            let there = far.call().write_to(log.clone(), at + 20, 5).start();
            for call in calls {
                within(call).await.unwrap();
            }
            within(there).await.unwrap();
            within(far.call().write_to_blocking(log.clone(), at + 30, 5))
                .await
                .unwrap();
        }
        let all = within(log.call().all()).await.unwrap();
        assert_eq!(all.len(), 600);
        assert!(all.is_sorted(), "{all:?}");
        drop((log, near, far));
        first.at_rest().await;
        second.at_rest().await;
    });
}

#[test]
fn a_long_body_holds_up_nobody_but_its_own_object() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 16, None);
        let joined = rough_pair::<dyn Office>(&rough, Clerk).await;
        let office: Netref<dyn Office> = joined.root().await;
        // Two objects with one book.
        let (one, other) = within(office.call().two_logs()).await.unwrap();
        // All of it is started before any of it is written.
        rough.line().there.stop();
        let bulk = one.call().write(0, vec![0; 8 << 20].into()).start();
        let behind = one.call().write(1, Bytes::new()).start();
        let beside: Vec<_> = (2..50)
            .map(|n| other.call().write(n, Bytes::new()).start())
            .collect();
        rough.line().there.release();
        for call in beside.into_iter().chain([behind, bulk]) {
            within(call).await.unwrap();
        }
        let all = within(one.call().all()).await.unwrap();
        let expected: Vec<_> = (2..50).chain([0, 1]).collect();
        assert_eq!(
            all, expected,
            "small calls pass what is long, and keep their place behind it on its own object"
        );
        drop((one, other, office));
        joined.at_rest().await;
    });
}

#[test]
fn many_tasks_on_one_reference_each_keep_their_own_order() {
    over_every_medium(async |medium| {
        let pages = Arc::new(Pages::default());
        let joined = pair::<dyn Log>(medium, Netref::<dyn Log>::share(&pages)).await;
        let log: Netref<dyn Log> = joined.root().await;
        let tasks: Vec<_> = (0..8_u64)
            .map(|task| {
                let log = log.clone();
                tokio::spawn(async move {
                    let mut random = Random::new(task);
                    let calls: Vec<_> = (0..30)
                        .map(|n| start(&log.call(), &mut random, task * 1000 + n))
                        .collect();
                    for call in calls {
                        call.await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        let all = within(log.call().all()).await.unwrap();
        assert_eq!(all.len(), 240);
        for task in 0..8 {
            let own: Vec<_> = all.iter().filter(|n| **n / 1000 == task).collect();
            assert!(own.is_sorted(), "task {task}: {own:?}");
        }
    });
}
