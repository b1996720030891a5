//! Giving up: a call that nobody waits for any more is cancelled wherever it is, and so is what it has set off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farref::{Config, ErrorKind, Netref, Result, remote};
use farref_integration_tests::bench::{Bench, Count, Rig};
use farref_integration_tests::media::{on_plain_thread, over_every_medium, pair, pair_of, runtime, within};
use farref_integration_tests::rough::Rough;
use tokio::sync::mpsc;

/// Something that takes for ever, and tells when it begins and when it is given up.
#[remote]
trait Endless {
    async fn wait(&self) -> Result<()>;
    fn block(&self) -> Result<()>;
    /// Waits for another one.
    async fn pass_on(&self, to: Netref<dyn Endless>, how: How) -> Result<()>;
    fn pass_on_blocking(&self, to: Netref<dyn Endless>, how: How) -> Result<()>;
    #[detached]
    async fn to_the_end(&self) -> Result<()>;
    #[detached]
    fn to_the_end_blocking(&self) -> Result<()>;
    async fn time_left(&self, to: Option<Netref<dyn Endless>>) -> Result<Option<u64>>;
    fn time_left_blocking(&self, to: Option<Netref<dyn Endless>>) -> Result<Option<u64>>;
}

#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
enum How {
    Async,
    Blocking,
    /// Over a method that passes it on to the given one: back and forth.
    Through,
}

struct Waiting {
    name: &'static str,
    tell: mpsc::UnboundedSender<String>,
    go_on: tokio::sync::watch::Receiver<bool>,
}

impl Waiting {
    fn tell(&self, what: &str) {
        let _ = self.tell.send(format!("{} {what}", self.name));
    }
}

/// Tells when it is dropped.
struct GivenUp<'a>(&'a Waiting, bool);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.tell(if self.1 { "ends" } else { "is given up" });
    }
}

#[remote]
impl Endless for Waiting {
    async fn wait(&self) -> Result<()> {
        let _told = GivenUp(self, false);
        self.tell("waits");
        std::future::pending().await
    }

    fn block(&self) -> Result<()> {
        let _told = GivenUp(self, false);
        self.tell("waits");
        let caller = farref::caller().unwrap();
        while !caller.is_cancelled() {
            std::thread::yield_now();
        }
        Ok(())
    }

    async fn pass_on(&self, to: Netref<dyn Endless>, how: How) -> Result<()> {
        let _told = GivenUp(self, false);
        match how {
            How::Async | How::Through => to.call().wait().await,
            How::Blocking => to.call().block().await,
        }
    }

    fn pass_on_blocking(&self, to: Netref<dyn Endless>, how: How) -> Result<()> {
        let _told = GivenUp(self, false);
        match how {
            How::Async => to.blocking().wait(),
            How::Blocking => to.block(),
            How::Through => to.pass_on_blocking(to.clone(), How::Async),
        }
    }

    async fn to_the_end(&self) -> Result<()> {
        let mut told = GivenUp(self, false);
        self.tell("waits");
        self.go_on.clone().wait_for(|open| *open).await?;
        told.1 = true;
        Ok(())
    }

    fn to_the_end_blocking(&self) -> Result<()> {
        let mut told = GivenUp(self, false);
        self.tell("waits");
        while !*self.go_on.borrow() {
            std::thread::yield_now();
        }
        told.1 = true;
        Ok(())
    }

    async fn time_left(&self, to: Option<Netref<dyn Endless>>) -> Result<Option<u64>> {
        match to {
            Some(to) => to.call().time_left(None).await,
            None => Ok(farref::caller()
                .unwrap()
                .time_left()
                .map(|left| left.as_nanos() as u64)),
        }
    }

    fn time_left_blocking(&self, to: Option<Netref<dyn Endless>>) -> Result<Option<u64>> {
        match to {
            Some(to) => to.time_left_blocking(None),
            None => Ok(farref::caller()
                .unwrap()
                .time_left()
                .map(|left| left.as_nanos() as u64)),
        }
    }
}

/// What two sides told, and what opens their gate.
struct Told {
    tells: mpsc::UnboundedReceiver<String>,
    go_on: tokio::sync::watch::Sender<bool>,
}

impl Told {
    async fn hear(&mut self, what: &str) {
        assert_eq!(within(self.tells.recv()).await.unwrap(), what);
    }
}

fn two() -> (Waiting, Waiting, Told) {
    let (tell, tells) = mpsc::unbounded_channel();
    let (open, go_on) = tokio::sync::watch::channel(false);
    let waiting = |name| Waiting {
        name,
        tell: tell.clone(),
        go_on: go_on.clone(),
    };
    (waiting("there"), waiting("here"), Told { tells, go_on: open })
}

#[test]
fn what_a_cancelled_method_waits_for_is_cancelled_too() {
    over_every_medium(async |medium| {
        let (there, here, mut told) = two();
        let joined = pair::<dyn Endless>(medium, there).await;
        let far: Netref<dyn Endless> = joined.root().await;
        let near: Netref<dyn Endless> = Netref::of(here);
        for how in [How::Async, How::Blocking] {
            for blocking in [false, true] {
                let call = if blocking {
                    far.call().pass_on_blocking(near.clone(), how)
                } else {
                    far.call().pass_on(near.clone(), how)
                };
                let call = call.start();
                told.hear("here waits").await;
                drop(call);
                let mut both = [
                    within(told.tells.recv()).await.unwrap(),
                    within(told.tells.recv()).await.unwrap(),
                ];
                both.sort();
                assert_eq!(
                    both,
                    ["here is given up", "there is given up"],
                    "{how:?} {blocking}"
                );
            }
        }
        drop((far, near));
        joined.at_rest().await;
    });
}

/// A blocked thread that was serving a callback used to hear of its cancel only when the callback was over, and the
/// callback was waiting for ever.
#[test]
fn a_cancel_reaches_through_callbacks_that_run_on_blocked_threads() {
    let runtime = runtime();
    runtime.block_on(async {
        let (there, here, mut told) = two();
        let joined = pair::<dyn Endless>("unix", there).await;
        let far: Netref<dyn Endless> = joined.root().await;
        // There, a thread blocks in `pass_on_blocking`; here, one blocks in a callback of that, which is a call to
        // there again, served by the first.
        let near: Netref<dyn Endless> = Netref::of(Back {
            far: far.clone(),
            own: here,
        });
        let call = far.call().pass_on_blocking(near.clone(), How::Through).start();
        told.hear("there waits").await;
        drop(call);
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(within(told.tells.recv()).await.unwrap());
        }
        all.sort();
        assert_eq!(
            all,
            ["here is given up", "there is given up", "there is given up"]
        );
        drop((far, near));
        joined.at_rest().await;
    });
}

/// Calls the other side in turn.
struct Back {
    far: Netref<dyn Endless>,
    own: Waiting,
}

#[remote]
impl Endless for Back {
    async fn wait(&self) -> Result<()> {
        unreachable!()
    }

    fn block(&self) -> Result<()> {
        unreachable!()
    }

    async fn pass_on(&self, _to: Netref<dyn Endless>, _how: How) -> Result<()> {
        unreachable!()
    }

    fn pass_on_blocking(&self, _to: Netref<dyn Endless>, _how: How) -> Result<()> {
        let _told = GivenUp(&self.own, false);
        self.far.block()
    }

    async fn to_the_end(&self) -> Result<()> {
        unreachable!()
    }

    fn to_the_end_blocking(&self) -> Result<()> {
        unreachable!()
    }

    async fn time_left(&self, _to: Option<Netref<dyn Endless>>) -> Result<Option<u64>> {
        unreachable!()
    }

    fn time_left_blocking(&self, _to: Option<Netref<dyn Endless>>) -> Result<Option<u64>> {
        unreachable!()
    }
}

#[test]
fn a_call_that_is_queued_when_it_is_given_up_never_runs() {
    let runtime = runtime();
    runtime.block_on(async {
        let (there, here, mut told) = two();
        let mut one = Config::default();
        one.max_blocking = 1;
        let joined =
            pair_of::<dyn Endless, dyn Endless>("unix", (there, one), (here, Config::default())).await;
        let far: Netref<dyn Endless> = joined.root().await;
        let first = far.call().block().start();
        told.hear("there waits").await;
        // Behind the first: one in the object's mailbox, started; one in the pool, by a blocked caller.
        let second = far.call().block().start();
        let blocked = far.clone();
        let (tell, third) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            tell.send(blocked.call().block().timeout(Duration::from_millis(50)).wait())
        });
        let error = within(third).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        drop(second);
        within(joined.client.ping()).await.unwrap();
        drop(first);
        told.hear("there is given up").await;
        let last = far.call().time_left_blocking(None);
        assert_eq!(within(last).await.unwrap(), None);
        assert!(told.tells.try_recv().is_err(), "neither of the others has run");
        drop(far);
        joined.at_rest().await;
    });
}

#[test]
fn a_detached_method_runs_to_its_end() {
    over_every_medium(async |medium| {
        let (there, _here, mut told) = two();
        let joined = pair::<dyn Endless>(medium, there).await;
        let far: Netref<dyn Endless> = joined.root().await;
        drop(far.call().to_the_end().start());
        told.hear("there waits").await;
        drop(far.call().to_the_end_blocking().start());
        told.hear("there waits").await;
        within(joined.client.ping()).await.unwrap();
        assert!(told.tells.try_recv().is_err(), "neither was given up");
        told.go_on.send_replace(true);
        told.hear("there ends").await;
        told.hear("there ends").await;

        // Nor does the end of the connection reach it.
        told.go_on.send_replace(false);
        let call = far.call().to_the_end().start();
        told.hear("there waits").await;
        within(joined.client.close()).await;
        drop(call);
        within(joined.server.wait_for(|stats| stats.connections == 0)).await;
        told.go_on.send_replace(true);
        told.hear("there ends").await;
    });
}

#[test]
fn the_time_left_is_inherited_and_shrinks() {
    over_every_medium(async |medium| {
        let (there, here, _told) = two();
        let joined = pair::<dyn Endless>(medium, there).await;
        let far: Netref<dyn Endless> = joined.root().await;
        let near: Netref<dyn Endless> = Netref::of(here);
        let minute = Duration::from_secs(60);
        for to in [None, Some(near)] {
            let first = far.call().time_left(to.clone()).timeout(minute);
            let second = far.call().time_left_blocking(to.clone()).timeout(minute);
            for left in [within(first).await, within(second).await] {
                let left = left.unwrap().unwrap();
                assert!((1..60_000_000_000).contains(&left), "{left} ns");
            }
            assert_eq!(within(far.call().time_left(to.clone())).await.unwrap(), None);
            assert_eq!(within(far.call().time_left_blocking(to)).await.unwrap(), None);
        }
    });
}

#[test]
fn a_call_that_is_too_late_says_so_and_is_cancelled_on_either_side() {
    over_every_medium(async |medium| {
        let (there, _here, mut told) = two();
        let joined = pair::<dyn Endless>(medium, there).await;
        let far: Netref<dyn Endless> = joined.root().await;
        let mut soon = Duration::from_millis(20);
        let mut round = 0;
        while round < 6 {
            let (called, blocked) = (far.call(), far.clone());
            let ended = match round {
                0 => within(called.wait().timeout(soon)).await,
                1 => within(called.block().timeout(soon)).await,
                2 => within(called.wait().start().timeout(soon)).await,
                3 => within(called.block().start().timeout(soon)).await,
                _ => {
                    let on_thread = move || match round {
                        4 => blocked.call().wait().timeout(soon).wait(),
                        _ => blocked.call().block().start().timeout(soon).wait(),
                    };
                    within(tokio::task::spawn_blocking(on_thread)).await.unwrap()
                }
            };
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::Deadline, "{round}");
            // The object takes one call after the other: had the late one begun, it would have told by now.
            within(far.call().time_left(None)).await.unwrap();
            if told.tells.is_empty() {
                soon *= 2; // it did not begin in time
                continue;
            }
            told.hear("there waits").await;
            told.hear("there is given up").await;
            round += 1;
        }
        drop(far);
        joined.at_rest().await;
    });
}

/// A call waits for the limits of the peer until a place is free; who is given up while he waits was not sent.
#[test]
fn a_call_that_waits_for_the_peers_limits_can_be_given_up() {
    let runtime = runtime();
    runtime.block_on(async {
        let (there, here, mut told) = two();
        let mut one = Config::default();
        one.max_calls = 1;
        let joined =
            pair_of::<dyn Endless, dyn Endless>("mem", (there, one), (here, Config::default())).await;
        let far: Netref<dyn Endless> = joined.root().await;
        let first = far.call().wait().start();
        told.hear("there waits").await;
        let second = far.call().wait().start();
        let third = far.call().time_left(None).start();
        drop(second);
        let late = far.call().wait().timeout(Duration::from_millis(20));
        assert_eq!(within(late).await.unwrap_err().kind(), ErrorKind::Deadline);
        drop(first);
        told.hear("there is given up").await;
        assert_eq!(within(third).await.unwrap(), None);
        assert!(told.tells.try_recv().is_err(), "what was given up was not sent");
        drop(far);
        joined.at_rest().await;
    });
}

#[test]
fn references_in_a_result_that_comes_too_late_are_released() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 16, None);
        let joined = farref_integration_tests::media::rough_pair::<dyn Bench>(&rough, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        within(bench.call().add(1, 1)).await.unwrap();
        let line = rough.line();
        line.back.hold();
        let before = line.back.written();
        let call = bench.call().many(100).start();
        within(line.back.written_beyond(before)).await;
        // The result is on its way, and nobody wants it any more.
        drop(call);
        assert_eq!(joined.host().await.stats().exports, 100);
        line.back.release();
        joined.at_rest().await;
    });
}

#[test]
fn a_bulk_body_that_nobody_wants_any_more_is_given_up() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let size = if medium.contains("buffer") {
            200_000
        } else {
            8 << 20
        };
        for round in 0..5_u64 {
            let call = bench.call().bytes(vec![1; size].into()).start();
            // At another place each time.
            for _ in 0..round {
                within(joined.client.ping()).await.unwrap();
            }
            drop(call);
        }
        assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
        drop(bench);
        joined.at_rest().await;
    });
}

#[test]
fn a_call_that_was_never_started_leaves_no_trace() {
    let runtime = runtime();
    runtime.block_on(async {
        let joined = pair::<dyn Bench>("mem", Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let count = Arc::new(Count::default());
        drop(bench.call().call_back(Netref::share(&count), 1));
        let unstarted = bench.call().call_back(Netref::share(&count), 1);
        within(joined.client.ping()).await.unwrap();
        assert_eq!(count.seen(), 0);
        assert_eq!(within(unstarted).await.unwrap(), 1);
    });
}

#[test]
fn who_waits_for_a_result_by_callback_gets_it_and_who_detaches_does_not_cancel() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Bench>("unix", Rig::new().0));
    let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
    let count = Arc::new(Count::default());
    let done = Arc::new(AtomicU64::new(0));
    // From a thread without a runtime as well.
    let (far, mine, seen) = (bench.clone(), Arc::clone(&count), Arc::clone(&done));
    on_plain_thread(move || {
        let (tell, told) = std::sync::mpsc::channel();
        far.call().add(20, 22).on_done(move |sum| {
            seen.store(sum.unwrap(), Ordering::SeqCst);
            tell.send(()).unwrap();
        });
        told.recv().unwrap();
        far.call().call_back(Netref::share(&mine), 5).detach();
    });
    assert_eq!(done.load(Ordering::SeqCst), 42);
    runtime.block_on(async {
        drop(bench);
        joined.at_rest().await;
    });
    assert_eq!(count.seen(), 5);
}
