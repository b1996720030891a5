//! Arguments and results that come by themselves (PROTOCOL.md § 5.5).

use farref_boxing::ErrorKind;

use super::super::stand_in::{Line, Thing};
use super::kit::{INTERFACE, Pair, body, piped, plain};
use crate::message::{Message, Return, Verdict};
use crate::protocol::{Event, Target};

/// A call with long arguments of which only the head has come.
fn half_a_call(pair: &mut Pair) -> (u64, Line) {
    let call = pair
        .a
        .try_call(Target::Import(0), &plain(), &[3; 5000], [])
        .unwrap();
    let line = pair.a.wire.queue.pop_front().unwrap();
    pair.b.receive_head(&line).unwrap();
    (call, line)
}

#[test]
fn a_call_comes_in_its_place_and_its_arguments_when_they_are_complete() {
    let mut pair = Pair::new();
    let (call, line) = half_a_call(&mut pair);
    let incoming = pair.b.one_call();
    assert_eq!(incoming.request.body, None);
    let (lane, arguments) = line.bulk.unwrap();
    pair.b
        .exchange
        .handle_body(lane, arguments.clone(), &mut pair.b.wire);
    let events = pair.b.events();
    assert!(matches!(&events[..], [Event::Body { answer, body, .. }]
        if *answer == incoming.answer && *body == arguments));
    pair.b.answer(incoming.answer, []);
    pair.turn();
    pair.a.events();
    pair.a.outcome(call);
    pair.assert_empty();
}

#[test]
fn a_result_is_there_when_its_body_is() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer_with(
        incoming.answer,
        &[4; 5000],
        [Thing::new(2).handed(INTERFACE, false)],
    );
    let line = pair.b.wire.queue.pop_front().unwrap();
    pair.a.receive_head(&line).unwrap();
    pair.a.events();
    assert!(!pair.a.exchange.is_ready(call));
    let (lane, result) = line.bulk.unwrap();
    pair.a.exchange.handle_body(lane, result, &mut pair.a.wire);
    pair.a.events();
    assert_eq!(body(&pair.a.outcome(call))[..], [4; 5000]);
    pair.assert_empty();
}

#[test]
fn dropping_a_call_stops_its_arguments_here() {
    let mut pair = Pair::new();
    let (call, line) = half_a_call(&mut pair);
    let incoming = pair.b.one_call();
    pair.a.drop_call(call);
    let (lane, _) = line.bulk.unwrap();
    assert_eq!(pair.a.wire.reset, [lane]);
    // The reset and the cancel come on different lanes, in either order.
    pair.b.exchange.handle_reset(lane, &mut pair.b.wire);
    let events = pair.b.events();
    assert!(matches!(&events[..], [Event::Cancelled { answer, .. }] if *answer == incoming.answer));
    let sent = pair.b.sent();
    let [
        Message::Return(Return {
            verdict: Verdict::Fault { started: false },
            ..
        }),
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    pair.assert_empty();
}

#[test]
fn dropping_a_call_stops_its_result_over_there() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer_with(
        incoming.answer,
        &[4; 5000],
        [Thing::new(2).handed(INTERFACE, false)],
    );
    let line = pair.b.wire.queue.pop_front().unwrap();
    pair.a.receive_head(&line).unwrap();
    pair.a.drop_call(call);
    assert_eq!(pair.a.wire.stopped, [line.bulk.unwrap().0]);
    pair.assert_empty();
}

#[test]
fn a_result_that_comes_too_late_is_stopped() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.a.drop_call(call);
    pair.b.answer_with(incoming.answer, &[4; 5000], []);
    let line = pair.b.wire.queue.pop_front().unwrap();
    pair.a.receive_head(&line).unwrap();
    assert_eq!(pair.a.wire.stopped, [line.bulk.unwrap().0]);
    pair.assert_empty();
}

#[test]
fn arguments_of_a_call_that_fails_at_once_are_stopped() {
    let mut pair = Pair::new();
    let (first, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, []);
    let (call, line) = {
        let target = Target::Import(0);
        let options = crate::protocol::CallOptions { hops: 200, ..plain() };
        let call = pair.a.try_call(target, &options, &[3; 5000], []).unwrap();
        (call, pair.a.wire.queue.pop_front().unwrap())
    };
    pair.b.receive_head(&line).unwrap();
    assert_eq!(pair.b.wire.stopped, [line.bulk.unwrap().0]);
    pair.turn();
    pair.a.events();
    pair.a.outcome(first);
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Loop);
    pair.assert_empty();
}

#[test]
fn a_result_whose_body_is_given_up_is_broken() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b.answer_with(
        incoming.answer,
        &[4; 5000],
        [Thing::new(2).handed(INTERFACE, false)],
    );
    let line = pair.b.wire.queue.pop_front().unwrap();
    pair.a.receive_head(&line).unwrap();
    pair.a
        .exchange
        .handle_reset(line.bulk.unwrap().0, &mut pair.a.wire);
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Broken);
    pair.assert_empty();
}

#[test]
fn a_deadline_stops_what_is_coming_in() {
    let mut pair = Pair::new();
    let options = crate::protocol::CallOptions {
        deadline: Some(10),
        ..plain()
    };
    let (call, incoming) = pair.call_b(&options, []);
    pair.b.answer_with(incoming.answer, &[4; 5000], []);
    let line = pair.b.wire.queue.pop_front().unwrap();
    pair.a.receive_head(&line).unwrap();
    pair.a.exchange.handle_timeout(10, &mut pair.a.wire);
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Deadline);
    assert_eq!(pair.a.wire.stopped, [line.bulk.unwrap().0]);
    pair.assert_empty();
}
