//! The one scenario that runs over every medium: values, objects, callbacks, pipelines, cancels, failures.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref::{ErrorKind, Netref};
use farref_integration_tests::bench::{Bench, Choice, Count, Counter, Everything, Fault, Rig, Trouble};
use farref_integration_tests::media::{Pair, is_slow, over_every_medium, pair, within};

async fn joined(
    medium: &str,
) -> (
    Pair,
    Netref<dyn Bench>,
    tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    tokio::sync::watch::Sender<bool>,
) {
    let (rig, tells, gate) = Rig::new();
    let pair = pair::<dyn Bench>(medium, rig).await;
    let bench = pair.root().await;
    (pair, bench, tells, gate)
}

#[test]
fn values_of_every_shape_and_references_anywhere_in_them_cross_and_come_back() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        let count = Arc::new(Count::default());
        let mine: Netref<dyn Counter> = Netref::share(&count);
        let sent = Everything {
            numbers: (
                u8::MAX,
                i16::MIN,
                70_000,
                i64::MIN,
                u128::MAX,
                0.5,
                f64::MAX,
                true,
                'ß',
            ),
            text: "grüße".repeat(100),
            list: vec![None, Some(String::new())],
            map: [("k".to_owned(), vec![0, 250, 251, 65_536])].into(),
            choice: Choice::Two {
                left: "l".into(),
                right: Box::new(Choice::One(7)),
            },
            blob: (0..=255).collect(),
            reference: Some(mine.clone()),
            references: [
                ("a".to_owned(), mine.clone()),
                ("b".to_owned(), Netref::of(Count::default())),
            ]
            .into(),
            result: Some(Ok(mine.upcast())),
            ..Everything::default()
        };
        let back = within(bench.call().echo(sent.clone())).await.unwrap();
        assert_eq!(
            format!("{:?}", (back.numbers, &back.text, &back.list, &back.choice)),
            format!("{:?}", (sent.numbers, &sent.text, &sent.list, &sent.choice))
        );
        assert_eq!((back.map, &back.blob), (sent.map.clone(), &sent.blob));
        let home = back.reference.unwrap();
        assert!(
            home.is_local() && home.same_object(&mine),
            "what comes home is the very object that left"
        );
        assert!(back.references["a"].same_object(&mine) && !back.references["b"].same_object(&mine));
        assert!(
            back.result.unwrap().unwrap().same_object(&mine),
            "under another interface as well"
        );
        drop((home, back.references, sent));
        pair.at_rest().await;
    });
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    over_every_medium(async |medium| {
        let (_pair, bench, ..) = joined(medium).await;
        let sizes: &[usize] = if medium.contains("buffer") {
            &[0, 1, 16_383, 16_385]
        } else if is_slow(medium) {
            &[0, 1, 159, 16_385, 300_000]
        } else {
            &[0, 1, 16_383, 16_384, 16_385, 65_536, 1 << 20, 15 << 20]
        };
        for size in sizes {
            let bytes: Bytes = (0..*size)
                .map(|n| (n * 7 % 251) as u8)
                .collect::<Vec<u8>>()
                .into();
            let back = within(bench.call().bytes(bytes.clone())).await.unwrap();
            assert!(back == bytes, "{size} bytes changed on the way");
        }
        let error = within(bench.call().bytes(vec![0; 17 << 20].into()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        assert_eq!(
            within(bench.call().add(1, 2)).await.unwrap(),
            3,
            "the connection goes on"
        );
    });
}

#[test]
fn a_long_transfer_goes_on_beside_small_calls_and_many_objects() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        // 64 MiB there and back, or 20 s of what the medium carries.
        let (pieces, size, objects) = match medium {
            "mem?buffer=16" => (4, 16 << 10, 1000),
            medium if is_slow(medium) => (8, 500_000, 1000),
            _ => (4, 8 << 20, 10_000),
        };
        let desk: Netref<dyn Counter> = within(bench.call().counter()).await.unwrap();
        let transfer = async {
            for piece in 0..pieces {
                let bytes: Bytes = vec![piece as u8; size].into();
                assert!(
                    within(bench.call().bytes(bytes.clone())).await.unwrap() == bytes,
                    "{medium}: {piece}"
                );
            }
        };
        let small = async {
            let mut before = 0;
            while before < u64::MAX {
                let now = within(desk.call().bump()).await.unwrap();
                assert_eq!(now, before + 1, "{medium}");
                before = now;
            }
        };
        tokio::select! {
            () = transfer => {}
            () = small => unreachable!("so many calls take years"),
        }
        let mut held = Vec::new();
        for _ in 0..objects / 500 {
            held.push(within(bench.call().many(500)).await.unwrap());
        }
        assert_eq!(pair.client.stats().imports, 2 + objects as usize, "{medium}");
        drop((held, desk));
        drop(bench);
        pair.at_rest().await;
    });
}

#[test]
fn either_side_calls_the_other_async_and_blocking_and_one_within_the_other() {
    over_every_medium(async |medium| {
        let (_pair, bench, ..) = joined(medium).await;
        let count = Arc::new(Count::default());
        let mine: Netref<dyn Counter> = Netref::share(&count);
        assert_eq!(within(bench.call().call_back(mine.clone(), 3)).await.unwrap(), 3);
        assert_eq!(
            within(bench.call().call_back_blocking(mine.clone(), 3))
                .await
                .unwrap(),
            6
        );
        // The driver of the far side polls this one, and must not wait for itself.
        assert_eq!(
            within(bench.call().call_back_inside(mine.clone())).await.unwrap(),
            7
        );
        let (other, own) = (bench.clone(), mine.clone());
        let blocked = tokio::task::spawn_blocking(move || other.call_back_blocking(own, 2));
        assert_eq!(
            within(blocked).await.unwrap().unwrap(),
            9,
            "the callbacks ran on the thread that waited"
        );
        assert_eq!(count.seen(), 9);
    });
}

#[test]
fn nested_blocking_calls_go_a_hundred_deep_in_both_directions() {
    over_every_medium(async |medium| {
        let (_pair, bench, ..) = joined(medium).await;
        let (mine, ..) = Rig::new();
        let mine: Netref<dyn Bench> = Netref::of(mine);
        let deep = std::thread::Builder::new().stack_size(64 << 20);
        let thread = deep
            .spawn(move || bench.ping_pong(mine, bench.clone(), 100))
            .unwrap();
        let joined = tokio::task::spawn_blocking(move || thread.join().unwrap());
        assert_eq!(within(joined).await.unwrap().unwrap(), 100);
    });
}

#[test]
fn what_a_call_will_return_can_be_used_before_it_is_there() {
    over_every_medium(async |medium| {
        let (pair, bench, _tells, gate) = joined(medium).await;
        let opening = bench.call().slow_counter();
        let first = opening.pipe().next().start();
        let second = opening.pipe().next().start();
        assert!(!first.is_ready());
        gate.send_replace(true);
        assert_eq!(within(first).await.unwrap(), 1);
        assert_eq!(within(second).await.unwrap(), 2);
        let counter = within(opening).await.unwrap();
        assert_eq!(
            within(counter.call().next()).await.unwrap(),
            3,
            "after what was piped"
        );
        assert_eq!(
            within(counter.call().name()).await.unwrap(),
            "counter",
            "through a supertrait"
        );
        drop(counter);

        let opening = bench.call().no_counter();
        let error = within(opening.pipe().next()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broken);
        assert!(format!("{error:#}").contains("no counters today"), "{error:?}");
        assert_eq!(within(opening).await.unwrap_err().message(), "no counters today");
        pair.at_rest().await;
    });
}

#[test]
fn the_last_drop_here_frees_the_object_there() {
    over_every_medium(async |medium| {
        let (pair, bench, mut tells, _gate) = joined(medium).await;
        let counter = within(bench.call().counter()).await.unwrap();
        let again = counter.clone();
        let weak = counter.downgrade();
        drop(counter);
        assert_eq!(
            within(again.call().next()).await.unwrap(),
            1,
            "one handle is enough"
        );
        assert!(weak.upgrade().is_some());
        drop(again);
        assert_eq!(within(tells.recv()).await, Some("dropped"));
        assert!(weak.upgrade().is_none());
        pair.at_rest().await;
    });
}

#[test]
fn the_far_side_keeps_an_object_of_ours_alive_as_long_as_it_holds_it() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let mine: Netref<dyn Counter> = Netref::of(Count::telling("mine", told));
        within(bench.call().keep(mine.clone())).await.unwrap();
        drop(mine);
        let kept = within(bench.call().kept()).await.unwrap().unwrap();
        assert!(kept.is_local(), "it came home");
        assert!(tells.try_recv().is_err());
        assert!(!within(bench.call().is_local(kept.clone())).await.unwrap());
        drop(kept);
        within(bench.call().forget()).await.unwrap();
        assert_eq!(within(tells.recv()).await, Some("dropped"));
        pair.at_rest().await;
    });
}

#[test]
fn failures_arrive_as_what_they_are_and_leave_the_connection_alone() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        let fault = within(bench.call().fail(Trouble::Smoke { channel: 3 }))
            .await
            .unwrap_err();
        assert_eq!(
            fault,
            Fault::Trouble(Trouble::Smoke { channel: 3 }),
            "the user's own error value"
        );
        let error = within(bench.call().plain_failure()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Remote);
        assert!(error.to_string().contains("invalid digit"), "{error:?}");
        assert!(
            error.trace().contains("plain_failure"),
            "the trace says where: {:?}",
            error.trace()
        );
        for (error, says) in [
            (
                within(bench.call().panic()).await.unwrap_err(),
                "a blocking method panics",
            ),
            (
                within(bench.call().panic_async()).await.unwrap_err(),
                "an async method panics",
            ),
        ] {
            assert_eq!(
                (error.kind(), error.message().as_ref()),
                (ErrorKind::Panicked, says)
            );
        }
        assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
        assert_eq!(within(bench.call().about()).await.unwrap(), "a bench");
        pair.at_rest().await;
    });
}

#[test]
fn dropping_a_call_reaches_the_method_wherever_it_runs() {
    over_every_medium(async |medium| {
        let (pair, bench, mut tells, _gate) = joined(medium).await;
        let count = Arc::new(Count::default());
        let waiting = bench.call().wait_for_ever(Netref::share(&count)).start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        drop(waiting);
        assert_eq!(
            within(tells.recv()).await,
            Some("cancelled"),
            "the future of an async method is dropped"
        );

        let waiting = bench.call().wait_blocking().start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        drop(waiting);
        assert_eq!(
            within(tells.recv()).await,
            Some("cancelled"),
            "a blocking one is told"
        );

        let mut soon = Duration::from_millis(20);
        while tells.is_empty() {
            let late = bench.call().wait_for_ever(Netref::share(&count)).timeout(soon);
            assert_eq!(within(late).await.unwrap_err().kind(), ErrorKind::Deadline);
            // Calls begin in order: had the late one begun, it would have told by now.
            within(bench.call().add(1, 1)).await.unwrap();
            soon *= 2;
        }
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        assert_eq!(within(tells.recv()).await, Some("cancelled"));
        drop(count);
        pair.at_rest().await;
    });
}

#[test]
fn the_time_left_travels_with_the_call() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        assert_eq!(within(bench.call().time_left()).await.unwrap(), None);
        let left = within(bench.call().time_left().timeout(Duration::from_secs(50)))
            .await
            .unwrap()
            .unwrap();
        assert!((1..=50_000).contains(&left), "{left} ms");
        pair.client.call_timeout(Some(Duration::from_secs(40)));
        let left = within(bench.call().time_left()).await.unwrap().unwrap();
        assert!(left <= 40_000, "{left} ms");
    });
}

#[test]
fn one_object_gets_its_calls_in_order_and_others_do_not_wait_for_its_bulk() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        let counter = within(bench.call().counter()).await.unwrap();
        let size = if medium.contains("buffer") {
            100_000
        } else {
            4 << 20
        };
        let bulk = counter.call().note(0, vec![7; size].into()).start();
        let behind: Vec<_> = (1..50)
            .map(|n| counter.call().note(n, Bytes::new()).start())
            .collect();
        let beside = bench.call().add(20, 22).start();
        assert_eq!(within(beside).await.unwrap(), 42);
        within(bulk).await.unwrap();
        for call in behind {
            within(call).await.unwrap();
        }
        assert_eq!(
            within(counter.call().notes()).await.unwrap(),
            (0..50).collect::<Vec<_>>()
        );
        drop(counter);
        pair.at_rest().await;
    });
}

#[test]
fn ten_thousand_objects_are_freed_when_they_are_dropped() {
    over_every_medium(async |medium| {
        let (pair, bench, ..) = joined(medium).await;
        let count = if medium.contains("buffer") { 500 } else { 10_000 };
        let holder = within(bench.call().many(count)).await.unwrap();
        assert_eq!(pair.host().await.stats().exports, count as usize);
        for counter in holder.counters.iter().step_by(977) {
            assert_eq!(within(counter.call().next()).await.unwrap(), 1);
        }
        drop(holder);
        pair.at_rest().await;
    });
}
