//! Where a blocking call may be made, and what becomes of calls when the other side is gone.

use std::future::IntoFuture;
use std::sync::Arc;

use farref::{Certainty, ErrorKind, Netref, blocking};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{pair, runtime, within};

#[test]
fn a_blocking_call_waits_on_a_plain_thread_and_on_a_worker_and_is_refused_where_it_would_hang() {
    let runtime = runtime();
    let (joined, bench) = runtime.block_on(async {
        let joined = pair::<dyn Bench>("unix", Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        (joined, bench)
    });
    let plain = bench.clone();
    assert_eq!(
        std::thread::spawn(move || plain.blocking_add(1, 2))
            .join()
            .unwrap()
            .unwrap(),
        3
    );
    let worker = bench.clone();
    let on_worker = runtime.spawn(async move { worker.blocking_add(3, 4) });
    assert_eq!(runtime.block_on(within(on_worker)).unwrap().unwrap(), 7);
    let waited = bench.clone();
    assert_eq!(
        std::thread::spawn(move || waited.call().add(1, 1).wait())
            .join()
            .unwrap()
            .unwrap(),
        2
    );
    let companion = bench.clone();
    assert_eq!(
        std::thread::spawn(move || companion.blocking().add(1, 1))
            .join()
            .unwrap()
            .unwrap(),
        2
    );

    let single = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = single.block_on(async { bench.blocking_add(1, 2).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.to_string().contains(".call()"), "{error}");
    assert_eq!(
        single.block_on(async { within(bench.call().blocking_add(1, 2)).await.unwrap() }),
        3
    );
    drop((joined, runtime));
}

#[test]
fn a_program_without_a_runtime_serves_and_calls() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", directory.path().join("socket").display());
    let runtime = runtime();
    let server = farref::Server::of::<dyn Bench>(Rig::new().0);
    runtime.block_on(server.listen(&address)).unwrap();

    let connection = blocking::connect(&address).unwrap();
    let bench: Netref<dyn Bench> = connection.root().unwrap();
    assert_eq!(bench.blocking_add(20, 22).unwrap(), 42);
    assert_eq!(bench.blocking().add(20, 22).unwrap(), 42);
    let count = Arc::new(Count::default());
    assert_eq!(bench.call_back_blocking(Netref::share(&count), 5).unwrap(), 5);
    assert!(connection.ping().unwrap() > std::time::Duration::ZERO);
    connection.close().unwrap();
    let error = bench.blocking_add(1, 1).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Disconnected(Certainty::NotSent),
        "{error}"
    );
}

#[test]
fn sixty_four_threads_share_one_connection() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Bench>("plain+tcp", Rig::new().0));
    let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
    let threads: Vec<_> = (0..64_u64)
        .map(|n| {
            let bench = bench.clone();
            std::thread::spawn(move || {
                let count = Arc::new(Count::default());
                for round in 0..20 {
                    assert_eq!(bench.blocking_add(n, round).unwrap(), n + round);
                    bench.call_back_blocking(Netref::share(&count), 1).unwrap();
                }
                count.seen()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 20);
    }
    runtime.block_on(joined.at_rest());
}

#[test]
fn when_the_peer_is_gone_every_call_ends_and_says_how_far_it_got() {
    runtime().block_on(async {
        for medium in ["mem", "unix", "plain+tcp"] {
            let (rig, mut tells, _gate) = Rig::new();
            let joined = pair::<dyn Bench>(medium, rig).await;
            let bench: Netref<dyn Bench> = joined.root().await;
            let count = Arc::new(Count::default());
            let waiting = bench.call().wait_for_ever(Netref::share(&count)).start();
            assert_eq!(within(tells.recv()).await, Some("waiting"));
            drop(joined.server);
            let error = within(waiting).await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Disconnected(Certainty::Unknown),
                "{error:?}"
            );
            let error = within(bench.call().add(1, 1)).await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Disconnected(Certainty::NotSent),
                "{error:?}"
            );
            assert_eq!(
                within(tells.recv()).await,
                Some("cancelled"),
                "over there the method was given up"
            );
            within(joined.client.closed()).await;
            assert_eq!(Arc::strong_count(&count), 1, "what the peer held of ours is free");
        }
    });
}

#[test]
fn a_call_names_the_interface_as_handed_out_and_nothing_else() {
    runtime().block_on(async {
        let joined = pair::<dyn Bench>("mem", Rig::new().0).await;
        let error = within(joined.client.root::<dyn Counter>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("Counter"), "{error}");
    });
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nobody_waiting() {
    let server_runtime = runtime();
    let (rig, mut tells, _gate) = Rig::new();
    let joined = server_runtime.block_on(pair::<dyn Bench>("unix", rig));
    let client_runtime = runtime();
    let address = server_runtime
        .block_on(joined.server.listen("mem:shut-down"))
        .unwrap();
    let bench: Netref<dyn Bench> = client_runtime.block_on(async {
        within(farref::connect(address).into_future())
            .await
            .unwrap()
            .root()
            .await
            .unwrap()
    });
    let waiting = bench.clone();
    let waiting = std::thread::spawn(move || waiting.wait_blocking());
    assert_eq!(server_runtime.block_on(within(tells.recv())), Some("waiting"));
    client_runtime.shutdown_background();
    // A blocked thread used to wait for ever: nobody was left to bring its answer.
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
    assert!(bench.blocking_add(1, 1).is_err());
    assert_eq!(server_runtime.block_on(within(tells.recv())), Some("cancelled"));
}
