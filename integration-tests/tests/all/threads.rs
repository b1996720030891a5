//! Where a blocking call may be made, on which thread methods run, and that neither side needs many.

use std::future::IntoFuture;
use std::sync::Arc;
use std::thread::ThreadId;

use farref::{Error, ErrorKind, Netref, Result, Server, blocking, caller, connect, remote};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{on_plain_thread, over_every_medium, pair, runtime, within};

/// Tells where it runs.
#[remote]
trait Where {
    fn block(&self, back: Netref<dyn Back>) -> Result<()>;
    async fn inside(&self, back: Netref<dyn Back>) -> Result<()>;
    /// Blocks after it has waited: on a task of its own, as a rule.
    async fn inside_later(&self, back: Netref<dyn Back>) -> Result<()>;
    #[spawned]
    async fn inside_spawned(&self, back: Netref<dyn Back>) -> Result<()>;
    async fn ok(&self) -> Result<u8>;
    fn ok_blocking(&self) -> Result<u8>;
}

#[remote(closure)]
trait Back {
    fn back(&self) -> Result<()>;
}

struct There;

#[remote]
impl Where for There {
    fn block(&self, back: Netref<dyn Back>) -> Result<()> {
        back.back()
    }

    async fn inside(&self, back: Netref<dyn Back>) -> Result<()> {
        back.back()
    }

    async fn inside_later(&self, back: Netref<dyn Back>) -> Result<()> {
        tokio::task::yield_now().await;
        back.back()
    }

    async fn inside_spawned(&self, back: Netref<dyn Back>) -> Result<()> {
        back.back()
    }

    async fn ok(&self) -> Result<u8> {
        Ok(7)
    }

    fn ok_blocking(&self) -> Result<u8> {
        Ok(8)
    }
}

fn single() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn is_refused(result: Result<u8>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error:?}");
    assert!(
        error.to_string().contains(".call()"),
        "it says what to write instead: {error}"
    );
}

#[test]
fn every_row_of_the_table() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Where>("unix", There));
    let there: Netref<dyn Where> = runtime.block_on(joined.root());
    type Way = fn(&Netref<dyn Where>) -> Result<u8>;
    let ways: [(&str, Way); 5] = [
        ("the trait's own method", |there| there.ok_blocking()),
        ("the blocking companion of an async method", |there| {
            there.blocking().ok()
        }),
        ("a call that waits", |there| there.call().ok().wait()),
        ("a started call that waits", |there| {
            there.call().ok_blocking().start().wait()
        }),
        ("any future", |there| farref::place::block_on(there.call().ok())?),
    ];
    for (way, call) in ways {
        let expected = |result: Result<u8>| assert!(matches!(result, Ok(7 | 8)), "{way}: {result:?}");
        // No runtime.
        let far = there.clone();
        expected(on_plain_thread(move || call(&far)));
        // The thread that drives a multi-thread runtime, and a worker of it.
        expected(runtime.block_on(async { call(&there) }));
        let far = there.clone();
        expected(
            runtime
                .block_on(within(runtime.spawn(async move { call(&far) })))
                .unwrap(),
        );
        // Its pool for blocking work.
        let far = there.clone();
        expected(
            runtime
                .block_on(within(runtime.spawn_blocking(move || call(&far))))
                .unwrap(),
        );
        // A current-thread runtime, and its pool.
        is_refused(single().block_on(async { call(&there) }));
        // A local set, on either runtime.
        let local = tokio::task::LocalSet::new();
        is_refused(local.block_on(&single(), async { call(&there) }));
        is_refused(tokio::task::LocalSet::new().block_on(&runtime, async { call(&there) }));
    }
    assert_eq!(
        single().block_on(async { within(there.call().ok()).await.unwrap() }),
        7,
        "what it says works"
    );
    drop(there);
    runtime.block_on(joined.at_rest());
}

#[test]
fn a_method_may_block_wherever_it_runs_on_a_runtime_with_workers() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Where>(medium, There).await;
        let there: Netref<dyn Where> = joined.root().await;
        // The callback calls the other side once more, so whoever reads there must not be who waits.
        let again = there.clone();
        let back: Netref<dyn Back> = Netref::of(move || again.ok_blocking().map(drop));
        let calls = there.call();
        for _ in 0..10 {
            let all = [
                calls.block(back.clone()).start(),
                calls.inside(back.clone()).start(),
                calls.inside_later(back.clone()).start(),
                calls.inside_spawned(back.clone()).start(),
            ];
            for call in all {
                within(call).await.unwrap();
            }
        }
        drop((calls, back, there));
        joined.at_rest().await;
    });
}

#[test]
fn one_thread_is_enough_for_both_sides_and_what_would_hang_is_an_error() {
    single().block_on(async {
        let joined = pair::<dyn Where>("mem", There).await;
        let there: Netref<dyn Where> = joined.root().await;
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        let back: Netref<dyn Back> = Netref::of(move || {
            let counter: Netref<dyn Counter> = Netref::share(&counted);
            counter.bump().map(drop)
        });
        assert_eq!(within(there.call().ok()).await.unwrap(), 7);
        assert_eq!(within(there.call().ok_blocking()).await.unwrap(), 8);
        // A blocking method has a thread of the pool, and may wait there.
        within(there.call().block(back.clone())).await.unwrap();
        // An async one has only this thread.
        for call in [
            there.call().inside(back.clone()),
            there.call().inside_later(back.clone()),
            there.call().inside_spawned(back.clone()),
        ] {
            let error = within(call).await.unwrap_err();
            assert!(error.to_string().contains(".call()"), "{error:?}");
        }
        assert_eq!(count.seen(), 1);
        assert_eq!(within(there.call().ok()).await.unwrap(), 7, "everything goes on");
        drop((back, there));
        joined.at_rest().await;
    });
}

#[test]
fn a_callback_runs_on_the_thread_that_waits_for_its_chain_and_no_other() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Where>("unix", There));
    let there: Netref<dyn Where> = runtime.block_on(joined.root());
    let seen: Arc<std::sync::Mutex<Vec<ThreadId>>> = Arc::default();
    let note = Arc::clone(&seen);
    let back: Netref<dyn Back> = Netref::of(move || {
        note.lock().unwrap().push(std::thread::current().id());
        Ok(())
    });
    for _ in 0..20 {
        let (far, to) = (there.clone(), back.clone());
        let me = on_plain_thread(move || {
            far.block(to.clone()).unwrap();
            far.call().block(to).wait().unwrap();
            std::thread::current().id()
        });
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [me, me]);
    }
    // Of another chain: not on this thread, although it waits as well.
    let (far, to) = (there.clone(), back.clone());
    let me = on_plain_thread(move || {
        let other = far.call().block(to).start();
        assert_eq!(far.ok_blocking().unwrap(), 8);
        other.wait().unwrap();
        std::thread::current().id()
    });
    assert!(!seen.lock().unwrap().contains(&me));
    drop((back, there));
    runtime.block_on(joined.at_rest());
}

#[test]
fn a_method_knows_its_caller_wherever_it_runs_and_others_know_none() {
    #[remote]
    trait Knows {
        fn block(&self) -> Result<String>;
        async fn at_once(&self) -> Result<String>;
        async fn later(&self) -> Result<String>;
        async fn spawned(&self) -> Result<bool>;
    }
    struct Curious;
    fn peer() -> Result<String> {
        let caller = caller().ok_or_else(|| Error::msg("nobody calls"))?;
        Ok(format!(
            "{} {} {}",
            caller.peer().medium,
            caller.hops(),
            caller.is_cancelled()
        ))
    }
    #[remote]
    impl Knows for Curious {
        fn block(&self) -> Result<String> {
            peer()
        }

        async fn at_once(&self) -> Result<String> {
            peer()
        }

        async fn later(&self) -> Result<String> {
            let before = peer()?;
            tokio::task::yield_now().await;
            assert_eq!(before, peer()?);
            Ok(before)
        }

        async fn spawned(&self) -> Result<bool> {
            Ok(tokio::spawn(async { caller().is_none() }).await?)
        }
    }
    over_every_medium(async |medium| {
        let joined = pair::<dyn Knows>(medium, Curious).await;
        let far: Netref<dyn Knows> = joined.root().await;
        let scheme = match medium {
            // Behind the process in between there is a socket.
            "exec" | "ssh" => "unix",
            _ => medium.split('?').next().unwrap().rsplit('+').next().unwrap(),
        };
        let expected = format!("{scheme} 0 false");
        assert_eq!(within(far.call().block()).await.unwrap(), expected);
        assert_eq!(within(far.call().at_once()).await.unwrap(), expected);
        assert_eq!(within(far.call().later()).await.unwrap(), expected);
        assert!(
            within(far.call().spawned()).await.unwrap(),
            "a task that a method spawns is not the method"
        );
        assert!(caller().is_none());
        let near: Netref<dyn Knows> = Netref::of(Curious);
        assert!(near.blocking().block().is_err(), "nobody calls who is here");
        assert!(within(near.call().later()).await.is_err());
    });
}

#[test]
fn a_program_without_a_runtime_does_everything() {
    let address = "mem:no-runtime";
    let (tell, told) = std::sync::mpsc::channel();
    let server_thread = std::thread::spawn(move || {
        // A server behind the scenes as well.
        let server = Server::of::<dyn Bench>(Rig::new().0);
        farref::place::block_on(server.listen(address)).unwrap().unwrap();
        tell.send(()).unwrap();
        let gone =
            server.wait_for(|stats| stats.accepted == 1 && stats.opening == 0 && stats.connections == 0);
        farref::place::block_on(gone).unwrap();
    });
    told.recv().unwrap();
    on_plain_thread(move || {
        let connection = blocking::connect(address).unwrap();
        let bench: Netref<dyn Bench> = connection.root().unwrap();
        assert_eq!(bench.blocking_add(20, 22).unwrap(), 42);
        assert_eq!(bench.blocking().add(20, 22).unwrap(), 42);
        let count = Arc::new(Count::default());
        assert_eq!(bench.call_back_blocking(Netref::share(&count), 5).unwrap(), 5);
        assert_eq!(bench.blocking().call_back(Netref::share(&count), 5).unwrap(), 10);
        let counter = bench.blocking().counter().unwrap();
        assert_eq!(counter.bump().unwrap(), 1);
        let opening = bench.call().counter();
        assert_eq!(opening.pipe().bump().wait().unwrap(), 1);
        let both = (bench.call().add(1, 1).start(), bench.call().add(2, 2).start());
        assert_eq!((both.0.wait().unwrap(), both.1.wait().unwrap()), (2, 4));
        assert!(connection.ping().unwrap() > std::time::Duration::ZERO);
        connection.close().unwrap();
        assert!(connection.closed().unwrap().to_string().contains("closed"));
        assert!(bench.blocking_add(1, 1).is_err());
    });
    on_plain_thread(move || server_thread.join().unwrap());
    let error = single().block_on(async { blocking::connect(address).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn two_runtimes_share_a_connection() {
    let (one, other) = (runtime(), single());
    let joined = one.block_on(pair::<dyn Bench>("unix", Rig::new().0));
    let bench: Netref<dyn Bench> = one.block_on(joined.root());
    for n in 0..50 {
        assert_eq!(other.block_on(within(bench.call().add(n, 1))).unwrap(), n + 1);
        assert_eq!(one.block_on(within(bench.call().add(n, 2))).unwrap(), n + 2);
    }
    let count = Arc::new(Count::default());
    assert_eq!(
        other
            .block_on(within(bench.call().call_back_blocking(Netref::share(&count), 3)))
            .unwrap(),
        3
    );
    drop(other);
    assert_eq!(one.block_on(within(bench.call().add(1, 1))).unwrap(), 2);
    let address = one
        .block_on(within(joined.server.listen("mem:two-runtimes")))
        .unwrap();
    // A connection lives on the runtime on which it was made.
    let third = runtime();
    let far: Netref<dyn Bench> = third.block_on(async {
        let connection = within(connect(address).into_future()).await.unwrap();
        within(connection.root()).await.unwrap()
    });
    assert_eq!(one.block_on(within(far.call().add(1, 1))).unwrap(), 2);
    third.shutdown_background();
    let error = one.block_on(within(far.call().add(1, 1))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
}
