//! What comes before what (PROTOCOL.md § 7.2 to 7.4).

use std::task::Poll;

use bytes::Bytes;
use farref_boxing::ErrorKind;

use super::super::ExchangeConfig;
use super::super::stand_in::Thing;
use super::kit::{INTERFACE, Pair, home, import, object, piped, plain};
use crate::message::Message;
use crate::protocol::{CallOptions, Chain, Event, IncomingTarget, Target};

#[test]
fn an_outcome_shows_behind_the_calls_that_came_before_it() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.call_root(&plain(), []);
    pair.b.answer(incoming.answer, []);
    pair.a_reads();
    assert!(
        matches!(pair.a.poll(call), Poll::Pending),
        "a call is to be handed on first"
    );
    let first = pair.a.exchange.poll_event(&mut pair.a.wire);
    assert!(matches!(first, Some(Event::Call(_))));
    assert!(!pair.a.exchange.is_ready(call));
    let second = pair.a.exchange.poll_event(&mut pair.a.wire);
    assert!(matches!(second, Some(Event::Ready(waiter)) if waiter == call));
    assert!(pair.a.exchange.is_ready(call));
}

/// A call of a's whose result is an object of a's own, and on which one call was made meanwhile.
fn comes_home(pair: &mut Pair) -> (u64, u64) {
    let thing = Thing::new(20);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    let child = pair.a.call_result(call, 0);
    pair.b_reads();
    pair.b
        .answer(incoming.answer, [import(&incoming.request.refs[0]).home()]);
    (call, child)
}

/// Passes the next call in b's events back to a.
fn pass_back(pair: &mut Pair) -> u64 {
    let next = pair.b.exchange.poll_event(&mut pair.b.wire);
    let Some(Event::Call(forwarded)) = next else {
        panic!("{next:?}")
    };
    let IncomingTarget::Import(proxy) = &forwarded.target else {
        panic!("{forwarded:?}")
    };
    let target = Target::Import(proxy.imported.id);
    let nested = CallOptions {
        chain: Some(Chain::new(1, 1)),
        ..forwarded.request.options
    };
    pair.b
        .try_call(target, &nested, &forwarded.request.body.unwrap(), [])
        .unwrap()
}

#[test]
fn a_result_that_comes_home_waits_for_the_calls_that_were_made_on_it() {
    let mut pair = Pair::new();
    let (call, _) = comes_home(&mut pair);
    pair.a_reads();
    assert!(matches!(pair.a.poll(call), Poll::Pending));
    pair.a.events();
    assert!(!pair.a.exchange.is_ready(call));
    assert!(matches!(pair.a.sent()[..], [Message::Flush { .. }]));
    pair.b_reads();
    assert!(pair.b.sent().is_empty(), "the call is still to be passed on");
    pass_back(&mut pair);
    pair.b.events();
    let sent = pair.b.sent();
    assert!(
        matches!(&sent[..], [Message::Call(_), Message::FlushAck { .. }]),
        "{sent:?}"
    );
    pair.a_reads();
    assert!(!pair.a.exchange.is_ready(call));
    let events = pair.a.events();
    assert!(matches!(&events[..], [Event::Call(_), Event::Ready(waiter)] if *waiter == call));
    assert_eq!(home(&pair.a.refs(call)[0]).number, 20);
    assert!(matches!(pair.a.sent_at_last()[..], [Message::Finish { .. }]));
}

#[test]
fn calls_on_a_result_after_its_flush_are_flushed_again() {
    let mut pair = Pair::new();
    let (call, _) = comes_home(&mut pair);
    pair.a_reads();
    pair.a.events();
    pair.a.call_result(call, 0);
    pair.b_reads();
    pair.a_reads();
    for _ in 0..2 {
        let forwarded = pair.b.calls();
        for incoming in forwarded {
            let IncomingTarget::Import(proxy) = &incoming.target else {
                panic!()
            };
            pair.b
                .try_call(Target::Import(proxy.imported.id), &plain(), b"", [])
                .unwrap();
        }
        pair.a_reads();
        pair.a.events();
        let ready = pair.a.exchange.is_ready(call);
        let asked = matches!(pair.a.poll(call), Poll::Pending);
        assert_eq!(ready, !asked);
        if asked {
            assert!(
                matches!(pair.a.sent()[..], [Message::Flush { flush: 2, .. }]),
                "{:?}",
                pair.a.sent()
            );
        }
        pair.b_reads();
    }
}

#[test]
fn a_result_of_the_peers_own_or_without_calls_on_it_needs_no_flush() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.a.call_result(call, 0);
    pair.b
        .answer(incoming.answer, [Thing::new(4).handed(INTERFACE, false)]);
    pair.a_reads();
    pair.a.events();
    drop(pair.a.refs(call));
    pair.b_reads();
    pair.b.calls();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    pair.b
        .answer(incoming.answer, [import(&incoming.request.refs[0]).home()]);
    pair.a_reads();
    pair.a.events();
    assert_eq!(home(&pair.a.refs(call)[0]).number, 5);
    assert!(
        pair.a
            .sent()
            .iter()
            .all(|message| !matches!(message, Message::Flush { .. }))
    );
}

#[test]
fn a_call_that_is_dropped_behind_its_flush_is_finished_after_it() {
    let mut pair = Pair::new();
    let (call, child) = comes_home(&mut pair);
    pair.a_reads();
    pair.a.events();
    pair.a.drop_call(call);
    assert!(
        matches!(pair.a.sent()[..], [Message::Flush { .. }]),
        "no finish yet"
    );
    pair.b_reads();
    let passed = pass_back(&mut pair);
    pair.b.events();
    pair.a_reads();
    let incoming = pair.a.one_call();
    assert!(matches!(pair.a.sent_at_last()[..], [Message::Finish { .. }]));
    pair.a.answer(incoming.answer, []);
    pair.turn();
    pair.b.events();
    pair.b.outcome(passed);
    pair.b.exchange.answer(
        2,
        crate::protocol::Reply::Error {
            error: ErrorKind::Failed.into(),
            started: true,
        },
        &mut pair.b.wire,
    );
    pair.turn();
    pair.a.events();
    pair.a.error(child);
    pair.assert_empty();
}

#[test]
fn a_flush_is_acknowledged_behind_passed_on_calls_that_wait_for_limits() {
    let tight = ExchangeConfig {
        max_calls: 1,
        ..ExchangeConfig::default()
    };
    let mut pair = Pair::with(tight, ExchangeConfig::default());
    let (call, _) = comes_home(&mut pair);
    // The only calls of their depths that a admits are under way already.
    let nested = CallOptions {
        chain: Some(Chain::new(1, 1)),
        ..plain()
    };
    pair.b.call_root(&plain(), []);
    let busy = pair.b.call_root(&nested, []);
    pair.a_reads();
    let running = pair.a.calls();
    pair.b_reads();
    pass_back(&mut pair);
    pair.b.call_root(&plain(), []);
    pair.b.events();
    assert!(
        pair.b.sent().is_empty(),
        "neither the call nor the acknowledgement"
    );
    pair.a.answer(running[1].answer, []);
    pair.b_reads();
    let sent = pair.b.sent();
    assert!(
        matches!(&sent[..], [Message::Call(_), Message::FlushAck { .. }]),
        "and not behind the call that is less deep: {sent:?}"
    );
    pair.b.events();
    pair.b.outcome(busy);
    pair.a_reads();
    pair.a.events();
    assert!(pair.a.exchange.is_ready(call));
}

#[test]
fn a_call_is_passed_on_when_its_arguments_are_complete_and_what_is_behind_it_waits() {
    let mut pair = Pair::new();
    let thing = Thing::new(20);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    let long = vec![1; 5000];
    pair.a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), &long, [])
        .unwrap();
    let line = pair.a.wire.queue.pop_front().unwrap();
    pair.b.receive_head(&line).unwrap();
    pair.a.call_result(call, 0);
    pair.b_reads();
    pair.b
        .answer(incoming.answer, [import(&incoming.request.refs[0]).home()]);
    assert!(pair.b.calls().is_empty());
    let (lane, body) = line.bulk.unwrap();
    pair.b.exchange.handle_body(lane, body, &mut pair.b.wire);
    let bodies: Vec<_> = pair
        .b
        .calls()
        .into_iter()
        .map(|incoming| incoming.request.body.unwrap())
        .collect();
    assert_eq!(bodies, [Bytes::from(long), Bytes::from_static(b"piped")]);
}

#[test]
fn a_cancelled_call_lets_those_behind_it_go_on() {
    let mut pair = Pair::new();
    let thing = Thing::new(20);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    let long = vec![1; 5000];
    let stuck = pair
        .a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), &long, [])
        .unwrap();
    let line = pair.a.wire.queue.pop_front().unwrap();
    pair.b.receive_head(&line).unwrap();
    pair.a.call_result(call, 0);
    pair.b_reads();
    pair.b
        .answer(incoming.answer, [import(&incoming.request.refs[0]).home()]);
    pair.a.drop_call(stuck);
    assert_eq!(pair.a.wire.reset.len(), 1);
    pair.b_reads();
    let calls = pair.b.calls();
    assert!(
        matches!(&calls[..], [only] if only.request.body.as_deref() == Some(b"piped")),
        "{calls:?}"
    );
    assert_eq!(pair.b.wire.stopped, [line.bulk.unwrap().0]);
}

#[test]
fn calls_to_one_object_stay_in_order_whether_piped_or_direct() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), b"1", [])
        .unwrap();
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    pair.a_reads();
    pair.a.events();
    pair.a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), b"2", [])
        .unwrap();
    let proxy = import(&pair.a.refs(call)[0]);
    pair.a
        .try_call(Target::Import(proxy.imported.id), &plain(), b"3", [])
        .unwrap();
    pair.b_reads();
    let calls = pair.b.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (object(&call.target), call.request.body.as_deref().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [((5, 1), &b"1"[..]), ((5, 1), b"2"), ((5, 1), b"3")],
        "one object, one export, one order"
    );
}
