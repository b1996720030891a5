//! Callbacks: either side calls the other while it is being called, to any depth, on few threads.

use std::sync::Arc;

use farref::{Config, ErrorKind, Netref, Result, remote};
use farref_integration_tests::media::{on_plain_thread, pair, pair_of, runtime, within};
use serde::{Deserialize, Serialize};

/// How a callback is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    /// A blocking method, waited for.
    Step,
    /// An async method, awaited or waited for.
    Walk,
    /// A blocking method, started and then awaited or waited for.
    Started,
}

/// Calls back in every way there is.
#[remote]
trait Nest {
    fn run(&self, to: Netref<dyn Step>, how: How) -> Result<u64>;
    async fn run_async(&self, to: Netref<dyn Step>, how: How) -> Result<u64>;
    #[serial]
    fn run_alone(&self, to: Netref<dyn Step>, how: How) -> Result<u64>;
    #[serial]
    async fn run_alone_async(&self, to: Netref<dyn Step>, how: How) -> Result<u64>;
    fn quick(&self, ballast: Vec<u8>) -> Result<u64>;
    async fn quick_async(&self, ballast: Vec<u8>) -> Result<u64>;
}

/// What is called back.
#[remote]
trait Step {
    fn step(&self) -> Result<u64>;
    async fn walk(&self) -> Result<u64>;
}

struct Tree;

fn call_back(to: &Netref<dyn Step>, how: How) -> Result<u64> {
    match how {
        How::Step => to.step(),
        How::Walk => to.blocking().walk(),
        How::Started => to.call().step().start().wait(),
    }
}

async fn call_back_async(to: Netref<dyn Step>, how: How) -> Result<u64> {
    match how {
        How::Step => to.step(),
        How::Walk => to.call().walk().await,
        How::Started => to.call().step().start().await,
    }
}

#[remote]
impl Nest for Tree {
    fn run(&self, to: Netref<dyn Step>, how: How) -> Result<u64> {
        call_back(&to, how)
    }

    async fn run_async(&self, to: Netref<dyn Step>, how: How) -> Result<u64> {
        call_back_async(to, how).await
    }

    fn run_alone(&self, to: Netref<dyn Step>, how: How) -> Result<u64> {
        call_back(&to, how)
    }

    async fn run_alone_async(&self, to: Netref<dyn Step>, how: How) -> Result<u64> {
        call_back_async(to, how).await
    }

    fn quick(&self, ballast: Vec<u8>) -> Result<u64> {
        Ok(ballast.len() as u64)
    }

    async fn quick_async(&self, ballast: Vec<u8>) -> Result<u64> {
        Ok(ballast.len() as u64)
    }
}

/// Calls the object that is calling it.
struct Back {
    nest: Netref<dyn Nest>,
    /// Whether an async method of it is called.
    is_async: bool,
    ballast: usize,
}

#[remote]
impl Step for Back {
    fn step(&self) -> Result<u64> {
        let ballast = vec![0; self.ballast];
        if self.is_async {
            self.nest.blocking().quick_async(ballast)
        } else {
            self.nest.quick(ballast)
        }
    }

    async fn walk(&self) -> Result<u64> {
        let ballast = vec![0; self.ballast];
        if self.is_async {
            self.nest.call().quick_async(ballast).await
        } else {
            self.nest.call().quick(ballast).await
        }
    }
}

/// It used to wait for itself: a started blocking method holds its object's mailbox until it is over, and what it
/// waited for stood in that mailbox.
#[test]
fn a_callback_may_call_the_very_object_that_calls_it() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Nest>("unix", Tree));
    let nest: Netref<dyn Nest> = runtime.block_on(joined.root());
    for how in [How::Step, How::Walk, How::Started] {
        for (is_async, ballast) in [(true, 3), (false, 3), (true, 100_000), (false, 100_000)] {
            let back: Netref<dyn Step> = Netref::of(Back {
                nest: nest.clone(),
                is_async,
                ballast,
            });
            for (method, expected) in [
                ("run", None),
                ("run_async", None),
                ("run_alone", Some(ErrorKind::Reentrant)),
                ("run_alone_async", Some(ErrorKind::Reentrant)),
            ] {
                let (near, to) = (nest.clone(), back.clone());
                let blocked = on_plain_thread(move || match method {
                    "run" => near.run(to, how),
                    "run_async" => near.blocking().run_async(to, how),
                    "run_alone" => near.run_alone(to, how),
                    _ => near.blocking().run_alone_async(to, how),
                });
                let calls = nest.call();
                let awaited = runtime.block_on(within(match method {
                    "run" => calls.run(back.clone(), how),
                    "run_async" => calls.run_async(back.clone(), how),
                    "run_alone" => calls.run_alone(back.clone(), how),
                    _ => calls.run_alone_async(back.clone(), how),
                }));
                for (result, from) in [(blocked, "a thread"), (awaited, "a task")] {
                    let what = format!(
                        "{method}, {how:?}, async {is_async}, {ballast} bytes, from {from}: {result:?}"
                    );
                    match (result, expected) {
                        (Ok(length), None) => assert_eq!(length, ballast as u64, "{what}"),
                        (Err(error), Some(_)) => assert!(error.to_string().contains("at a time"), "{what}"),
                        _ => panic!("{what}"),
                    }
                }
            }
        }
    }
    drop(nest);
    runtime.block_on(joined.at_rest());
}

/// Calls something else when it is called.
struct Through(Netref<dyn Nest>, usize);

#[remote]
impl Step for Through {
    fn step(&self) -> Result<u64> {
        self.0.quick(vec![0; self.1])
    }

    async fn walk(&self) -> Result<u64> {
        self.0.call().quick(vec![0; self.1]).await
    }
}

/// Two calls that run on one object each, and call the other's object back, used to wait for each other.
#[test]
fn two_calls_that_cross_do_not_wait_for_each_other() {
    #[remote]
    trait Pairs {
        async fn nest(&self) -> Result<Netref<dyn Nest>>;
    }
    struct Forest;
    #[remote]
    impl Pairs for Forest {
        async fn nest(&self) -> Result<Netref<dyn Nest>> {
            Ok(Netref::of(Tree))
        }
    }
    let runtime = runtime();
    runtime.block_on(async {
        let joined = pair::<dyn Pairs>("unix", Forest).await;
        let root: Netref<dyn Pairs> = joined.root().await;
        let (one, other) = (
            within(root.call().nest()).await.unwrap(),
            within(root.call().nest()).await.unwrap(),
        );
        for round in 0..50 {
            let how = if round % 2 == 0 { How::Step } else { How::Walk };
            let barrier = Arc::new(std::sync::Barrier::new(2));
            let meeting = |to: &Netref<dyn Nest>| {
                Netref::<dyn Step>::of(Meeting(Arc::clone(&barrier), Through(to.clone(), round)))
            };
            let first = one.call().run(meeting(&other), how).start();
            let second = other.call().run(meeting(&one), how).start();
            assert_eq!(within(first).await.unwrap(), round as u64);
            assert_eq!(within(second).await.unwrap(), round as u64);
        }
        drop((one, other, root));
        joined.at_rest().await;
    });
}

/// Waits for another of its kind before it goes on.
struct Meeting(Arc<std::sync::Barrier>, Through);

#[remote]
impl Step for Meeting {
    fn step(&self) -> Result<u64> {
        self.0.wait();
        self.1.step()
    }

    async fn walk(&self) -> Result<u64> {
        let barrier = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || barrier.wait()).await?;
        self.1.walk().await
    }
}

/// A peer that is called and calls on, until nothing is left.
#[remote]
trait Ladder {
    fn climb(&self, other: Netref<dyn Ladder>, left: u32, how: How) -> Result<u32>;
    async fn climb_async(&self, other: Netref<dyn Ladder>, left: u32, how: How) -> Result<u32>;
}

#[derive(Clone)]
struct Rungs;

#[remote]
impl Ladder for Rungs {
    fn climb(&self, other: Netref<dyn Ladder>, left: u32, how: How) -> Result<u32> {
        let me: Netref<dyn Ladder> = Netref::of(self.clone());
        match (left, how) {
            (0, _) => Ok(0),
            (_, How::Step) => Ok(1 + other.climb(me, left - 1, how)?),
            (_, How::Walk) => Ok(1 + other.blocking().climb_async(me, left - 1, how)?),
            (_, How::Started) => Ok(1 + other.call().climb(me, left - 1, how).start().wait()?),
        }
    }

    async fn climb_async(&self, other: Netref<dyn Ladder>, left: u32, how: How) -> Result<u32> {
        let me: Netref<dyn Ladder> = Netref::of(self.clone());
        match (left, how) {
            (0, _) => Ok(0),
            (_, How::Step) => Ok(1 + other.call().climb(me, left - 1, how).await?),
            (_, How::Walk) => Ok(1 + other.call().climb_async(me, left - 1, how).await?),
            (_, How::Started) => Ok(1 + other.call().climb(me, left - 1, how).start().await?),
        }
    }
}

fn tight() -> Config {
    let mut config = Config::default();
    config.max_blocking = 1;
    config
}

#[test]
fn calls_nest_a_hundred_deep_with_one_thread_on_either_side() {
    let runtime = runtime();
    let joined = runtime.block_on(pair_of::<dyn Ladder, dyn Ladder>(
        "unix",
        (Rungs, tight()),
        (Rungs, tight()),
    ));
    let far: Netref<dyn Ladder> = runtime.block_on(joined.root());
    for how in [How::Step, How::Walk, How::Started] {
        println!("{how:?}");
        let (there, here) = (far.clone(), Netref::of(Rungs));
        assert_eq!(
            on_plain_thread(move || there.climb(here, 100, how)).unwrap(),
            100,
            "{how:?}"
        );
        println!("{how:?}");
        let (there, here) = (far.clone(), Netref::of(Rungs));
        assert_eq!(
            on_plain_thread(move || there.blocking().climb_async(here, 100, how)).unwrap(),
            100,
            "{how:?}"
        );
        for depth in [1, 2, 100] {
            let climbed = far.call().climb(Netref::of(Rungs), depth, how);
            assert_eq!(runtime.block_on(within(climbed)).unwrap(), depth, "{how:?}");
            let climbed = far.call().climb_async(Netref::of(Rungs), depth, how);
            assert_eq!(runtime.block_on(within(climbed)).unwrap(), depth, "{how:?}");
        }
    }
    drop(far);
    runtime.block_on(joined.at_rest());
}

#[test]
fn calls_deeper_than_declared_are_refused_and_the_rest_goes_on() {
    let runtime = runtime();
    let mut shallow = Config::default();
    shallow.max_depth = 10;
    let joined = runtime.block_on(pair_of::<dyn Ladder, dyn Ladder>(
        "mem",
        (Rungs, shallow.clone()),
        (Rungs, shallow),
    ));
    let far: Netref<dyn Ladder> = runtime.block_on(joined.root());
    for how in [How::Step, How::Walk, How::Started] {
        let error = runtime
            .block_on(within(far.call().climb(Netref::of(Rungs), 50, how)))
            .unwrap_err();
        assert!(error.to_string().contains("deep"), "{how:?}: {error:?}");
        let climbed = far.call().climb(Netref::of(Rungs), 5, how);
        assert_eq!(runtime.block_on(within(climbed)).unwrap(), 5, "{how:?}");
    }
    drop(far);
    runtime.block_on(joined.at_rest());
}

/// With one call at a time each way, calls made by methods used to count as if nobody had made them: two that
/// cross could wait for each other.
#[test]
fn nested_calls_from_both_sides_go_on_at_the_tightest_limits() {
    let runtime = runtime();
    let mut tightest = tight();
    tightest.max_calls = 1;
    let joined = runtime.block_on(pair_of::<dyn Ladder, dyn Ladder>(
        "unix",
        (Rungs, tightest.clone()),
        (Rungs, tightest),
    ));
    let there: Netref<dyn Ladder> = runtime.block_on(joined.root());
    let host = runtime.block_on(joined.host());
    let here: Netref<dyn Ladder> = runtime.block_on(host.root()).unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let far = if n % 2 == 0 { there.clone() } else { here.clone() };
            let how = [How::Step, How::Walk, How::Started][n % 3];
            runtime.spawn(async move {
                for depth in [3, 0, 8, 1] {
                    let climbed = if n % 4 < 2 {
                        far.call().climb_async(Netref::of(Rungs), depth, how).await
                    } else {
                        far.call().climb(Netref::of(Rungs), depth, how).await
                    };
                    assert_eq!(climbed.unwrap(), depth, "{how:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(within(task)).unwrap();
    }
    drop((there, here, host));
    runtime.block_on(joined.at_rest());
}
