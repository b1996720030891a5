//! A connection: who keeps it open, how it is closed, and what it can be asked.

use std::sync::Arc;
use std::time::Duration;

use farref::{Certainty, Config, ErrorKind, Netref};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{over_every_medium, pair, pair_of, rough_pair_of, runtime, within};
use farref_integration_tests::rough::Rough;

#[test]
fn a_connection_stays_while_anything_of_it_is_held_and_not_longer() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let host = joined.host().await;
        let (server, client) = (joined.server, joined.client);
        drop(client);
        assert_eq!(
            within(bench.call().add(1, 2)).await.unwrap(),
            3,
            "a netref is enough"
        );
        let counter = within(bench.call().counter()).await.unwrap();
        drop(bench);
        assert_eq!(within(counter.call().next()).await.unwrap(), 1, "any netref is");
        let call = counter.call().next().start();
        drop(counter);
        assert_eq!(within(call).await.unwrap(), 2, "and so is a call");
        within(server.wait_for(|stats| stats.connections == 0)).await;
        assert!(host.is_closed());
    });
}

/// Nobody used to look again when the peer gave the last of our objects back.
#[test]
fn a_connection_that_only_the_peer_used_ends_when_the_peer_lets_go() {
    over_every_medium(async |medium| {
        let (rig, _tells, _gate) = Rig::new();
        let rig = Arc::new(rig);
        let root: Netref<dyn Bench> = Netref::share(&rig);
        let joined = pair::<dyn Bench>(medium, root.clone()).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        within(bench.call().keep(Netref::of(Count::default())))
            .await
            .unwrap();
        let (server, client) = (joined.server, joined.client);
        drop((bench, client));
        // Over there the callback is still held, and can be called.
        let kept = within(root.call().kept()).await.unwrap().unwrap();
        assert_eq!(within(kept.call().next()).await.unwrap(), 1);
        assert_eq!(within(kept.call().next()).await.unwrap(), 2);
        drop(kept);
        within(root.call().forget()).await.unwrap();
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}

#[test]
fn a_close_ends_both_sides_and_says_so() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let host = joined.host().await;
        assert!(!joined.client.is_closed() && !host.is_closed());
        within(joined.client.close()).await;
        within(joined.client.close()).await;
        assert!(joined.client.is_closed());
        assert!(
            within(joined.client.closed())
                .await
                .to_string()
                .contains("closed on this side")
        );
        let there = within(host.closed()).await;
        assert!(there.to_string().contains("the peer closed"), "{there}");
        let error = within(bench.call().add(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected(Certainty::NotSent));
        let error = within(joined.client.ping()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
        let error = within(joined.client.root::<dyn Bench>()).await.map(drop);
        let _ = error;
    });
}

#[test]
fn what_was_sent_before_a_close_still_arrives() {
    over_every_medium(async |medium| {
        let (rig, mut tells, _gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let waiting: Vec<_> = (0..20)
            .map(|_| bench.call().wait_for_ever(Netref::of(Count::default())).start())
            .collect();
        within(joined.client.close()).await;
        let mut told = Vec::new();
        for _ in 0..40 {
            told.push(within(tells.recv()).await.unwrap());
        }
        told.sort_unstable();
        assert_eq!(told, [["cancelled"; 20], ["waiting"; 20]].concat());
        for call in waiting {
            let error = within(call).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
        }
    });
}

#[test]
fn a_peer_that_drains_gets_no_new_calls_and_ends_those_under_way() {
    over_every_medium(async |medium| {
        let (rig, _tells, gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let host = joined.host().await;
        let opening = bench.call().slow_counter();
        let first = opening.pipe().next().start();
        within(joined.client.ping()).await.unwrap();
        host.drain();
        let refused = async {
            loop {
                if let Err(error) = bench.call().add(1, 1).await {
                    return error;
                }
            }
        };
        let refused = within(refused).await;
        assert_eq!(
            refused.kind(),
            ErrorKind::Disconnected(Certainty::NotSent),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("shutting down"), "{refused}");
        let second = opening.pipe().next().start();
        gate.send_replace(true);
        assert_eq!(within(first).await.unwrap(), 1, "what was under way goes on");
        assert_eq!(within(second).await.unwrap(), 2, "also what belongs to it");
        let counter = within(opening).await.unwrap();
        within(host.drained()).await;
        drop(counter);
        assert!(
            !joined.client.is_closed(),
            "a drained connection is not a closed one"
        );
    });
}

#[test]
fn callbacks_of_calls_under_way_go_on_while_their_caller_drains() {
    over_every_medium(async |medium| {
        let (rig, _tells, _gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let count = Arc::new(Count::default());
        let calling = bench.call().call_back(Netref::share(&count), 100).start();
        joined.client.drain();
        assert_eq!(within(calling).await.unwrap(), 100);
    });
}

#[test]
fn a_ping_measures_and_the_numbers_show_what_is_held() {
    over_every_medium(async |medium| {
        let (rig, mut tells, gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let host = joined.host().await;
        assert_eq!(joined.client.stats().round_trip, None);
        let trip = within(joined.client.ping()).await.unwrap();
        assert!(trip > Duration::ZERO && trip < Duration::from_secs(60));
        let stats = joined.client.stats();
        assert_eq!(stats.round_trip, Some(trip));
        assert!(
            stats.traffic.bytes_sent > 0 && stats.traffic.messages_received > 0,
            "{stats:?}"
        );
        let counts_itself = matches!(medium, "quic" | "serial");
        assert_eq!(stats.carrier.is_some(), counts_itself, "{stats:?}");
        if let Some(carrier) = stats.carrier {
            assert!(
                carrier.bytes_sent > stats.traffic.bytes_sent,
                "the carrier adds its own: {stats:?}"
            );
            assert!(
                carrier.bytes_received > 0 && carrier.round_trip.is_some(),
                "{stats:?}"
            );
        }

        let holder = within(bench.call().many(5)).await.unwrap();
        within(bench.call().keep(Netref::of(Count::default())))
            .await
            .unwrap();
        let waiting = bench.call().slow_counter().start();
        let blocked = bench.call().wait_for_ever(holder.counters[0].clone()).start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        let (here, there) = (joined.client.stats(), host.stats());
        assert_eq!(
            (here.exports, here.imports, here.calls, here.answers),
            (1, 6, 2, 0),
            "{here:?}"
        );
        assert_eq!((there.exports, there.answers), (5, 2), "{there:?}");
        assert_eq!((there.imports, there.calls), (1, 0), "{there:?}");
        drop(blocked);
        gate.send_replace(true);
        drop(within(waiting).await.unwrap());
        drop(holder);
        within(bench.call().forget()).await.unwrap();
        joined.at_rest().await;
    });
}

#[test]
fn a_default_timeout_holds_for_calls_that_say_nothing_else() {
    let runtime = runtime();
    let mut patient = Config::default();
    patient.call_timeout = Some(Duration::from_secs(1));
    let (rig, _tells, _gate) = Rig::new();
    let (server, client) = ((rig, Config::default()), (Count::default(), patient));
    let joined = runtime.block_on(pair_of::<dyn Bench, dyn Counter>("unix", server, client));
    let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
    runtime.block_on(async {
        let error = within(bench.call().slow_counter()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error:?}");
        let left = bench.call().time_left().timeout(Duration::from_secs(60));
        assert!(within(left).await.unwrap().unwrap() > 1000, "its own word counts");
    });
    let error = bench.blocking().slow_counter().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error:?}");
    joined.client.call_timeout(None);
    assert_eq!(bench.blocking().time_left().unwrap(), None);
    drop(bench);
    runtime.block_on(joined.at_rest());
}

/// Who cannot take what he asked for is not waited for without end, and holds nobody else up.
#[test]
fn a_close_does_not_wait_for_a_peer_that_does_not_read() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 12, None);
        let mut hasty = Config::default();
        hasty.close_timeout = Duration::from_millis(50);
        let joined = rough_pair_of::<dyn Bench>(&rough, Rig::new().0, hasty.clone(), hasty).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        rough.line().there.hold();
        let stuck = bench.call().bytes(vec![0; 1 << 20].into()).start();
        within(joined.client.close()).await;
        let error = within(stuck).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
    });
}

#[test]
fn a_root_of_another_interface_is_refused_and_so_is_one_that_is_not_there() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let error = within(joined.client.root::<dyn Counter>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("Counter"), "{error}");
        let host = joined.host().await;
        let error = within(host.root::<dyn Counter>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains("no root"), "{error}");
    });
}
