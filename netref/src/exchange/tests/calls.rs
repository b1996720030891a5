//! The life of a call: one outcome, one return, at most one cancel and one finish (PROTOCOL.md § 7).

use std::task::Poll;

use farref_boxing::ErrorKind;

use super::super::stand_in::Thing;
use super::kit::{INTERFACE, OP, Pair, body, home, import, object, piped, plain};
use crate::message::{Message, Return, Verdict};
use crate::protocol::{
    CallOptions, CancelReason, Chain, Event, IncomingTarget, Op, Ordering, Outcome, Target,
};

#[test]
fn a_call_reaches_the_object_and_its_result_the_caller() {
    let mut pair = Pair::new();
    let call = pair.a.call_root(&plain(), []);
    assert!(!pair.a.exchange.is_ready(call));
    assert!(matches!(pair.a.poll(call), Poll::Pending));
    pair.b_reads();
    let incoming = pair.b.one_call();
    assert_eq!(
        (object(&incoming.target), incoming.request.body.as_deref()),
        ((1, 0), Some(&b"args"[..]))
    );
    assert_eq!(incoming.request.op, OP);
    pair.b.answer(incoming.answer, []);
    pair.a_reads();
    assert!(matches!(pair.a.events()[..], [Event::Ready(waiter)] if waiter == call));
    assert!(pair.a.exchange.is_ready(call));
    assert_eq!(body(&pair.a.outcome(call)), "result");
    let again = pair.a.error(call);
    assert_eq!(again.kind(), ErrorKind::Misuse, "an outcome is given out once");
    pair.assert_empty();
}

#[test]
fn either_side_calls_while_it_is_called() {
    let mut pair = Pair::new();
    let (outer, incoming) = pair.call_b(&plain(), []);
    let inner = pair.b.call_root(&plain(), []);
    pair.a_reads();
    let nested = pair.a.one_call();
    pair.a.answer(nested.answer, []);
    pair.b_reads();
    pair.b.events();
    assert_eq!(body(&pair.b.outcome(inner)), "result");
    pair.b.answer(incoming.answer, []);
    pair.a_reads();
    pair.a.events();
    assert_eq!(body(&pair.a.outcome(outer)), "result");
    pair.assert_empty();
}

#[test]
fn how_a_call_is_made_arrives() {
    let mut pair = Pair::new();
    pair.a.now = 1000;
    pair.b.now = 5_000_000;
    let options = CallOptions {
        no_pipeline: true,
        idempotent: true,
        blocking: true,
        deadline: Some(1700),
        chain: Some(Chain::new(99, 3)),
        hops: 2,
        trace: Some(Box::new([5; 25])),
        ..CallOptions::default()
    };
    let (_, incoming) = pair.call_b(&options, []);
    assert_eq!(
        incoming.request.options,
        CallOptions {
            deadline: Some(5_000_700),
            ..options
        }
    );
}

#[test]
fn a_value_of_the_methods_own_error_type_is_no_fault() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    let reply = crate::protocol::Reply::Value {
        failure: Some(farref_boxing::Error::msg("no")),
        shape: 4,
        body: crate::protocol::BodyRef::Slice(b"no"),
        refs: crate::protocol::Refs::new(),
    };
    pair.b.exchange.answer(incoming.answer, reply, &mut pair.b.wire);
    pair.turn();
    pair.a.events();
    let Outcome::Value {
        failed: true,
        shape: 4,
        body,
        ..
    } = pair.a.outcome(call)
    else {
        panic!()
    };
    assert_eq!(body, "no");
    pair.assert_empty();
}

#[test]
fn a_second_answer_is_ignored() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, []);
    pair.b.fail(incoming.answer, ErrorKind::Failed);
    pair.b
        .answer(incoming.answer, [Thing::new(3).handed(INTERFACE, false)]);
    assert_eq!(pair.b.sent().len(), 1);
    pair.turn();
    pair.a.events();
    assert_eq!(body(&pair.a.outcome(call)), "result");
    pair.assert_empty();
}

#[test]
fn a_call_without_pipes_needs_no_finish_and_one_with_them_has_one() {
    let mut pair = Pair::new();
    for (options, finishes) in [(plain(), 0), (piped(), 1)] {
        let (call, incoming) = pair.call_b(&options, []);
        pair.b.answer(incoming.answer, []);
        assert_eq!(pair.b.exchange.stats().answers, finishes);
        pair.a_reads();
        pair.a.events();
        pair.a.outcome(call);
        let finishing = |message: &Message<'_>| matches!(message, Message::Finish { .. });
        assert_eq!(
            pair.a
                .sent_at_last()
                .iter()
                .filter(|message| finishing(message))
                .count(),
            finishes
        );
        pair.assert_empty();
    }
}

#[test]
fn the_result_of_a_one_way_call_is_empty() {
    let mut pair = Pair::new();
    let options = CallOptions {
        one_way: true,
        ..CallOptions::default()
    };
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&options, []);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    pair.turn();
    pair.a.events();
    let Outcome::Value { body, refs, .. } = pair.a.outcome(call) else {
        panic!()
    };
    assert!(body.is_empty() && refs.is_empty());
    pair.assert_empty();
    assert_eq!(std::sync::Arc::strong_count(&thing), 1);
}

#[test]
fn dropping_a_call_cancels_it_and_its_late_result_is_released() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.a.drop_call(call);
    assert!(matches!(
        pair.a.sent()[..],
        [Message::Cancel {
            reason: CancelReason::Dropped,
            ..
        }]
    ));
    // The result was on its way already.
    let thing = Thing::new(5);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    pair.turn();
    assert!(
        pair.b
            .events()
            .iter()
            .all(|event| !matches!(event, Event::Cancelled { .. }))
    );
    pair.assert_empty();
    assert_eq!(std::sync::Arc::strong_count(&thing), 1);
}

#[test]
fn a_cancelled_method_is_told_and_its_answer_ignored() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.a.drop_call(call);
    pair.b_reads();
    assert!(matches!(pair.b.events()[..], [Event::Cancelled { answer, .. }] if answer == incoming.answer));
    pair.b.answer(incoming.answer, []);
    assert_eq!(pair.b.sent().len(), 1, "one return");
    pair.assert_empty();
}

#[test]
fn a_detached_call_goes_on_and_is_answered() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(
        &CallOptions {
            detached: true,
            ..plain()
        },
        [],
    );
    pair.a.drop_call(call);
    pair.b_reads();
    assert!(pair.b.events().is_empty());
    assert!(pair.b.sent().is_empty());
    pair.b.answer(incoming.answer, []);
    pair.assert_empty();
}

#[test]
fn that_a_call_is_finished_goes_along_with_the_next_message_or_when_it_is_time() {
    let mut pair = Pair::new();
    for goes_along in [true, false] {
        let (call, incoming) = pair.call_b(&piped(), []);
        pair.b.answer(incoming.answer, []);
        pair.a_reads();
        pair.a.events();
        pair.a.outcome(call);
        assert!(pair.a.sent().is_empty() && !pair.a.exchange.wants_flush(&pair.a.wire));
        assert!(pair.a.exchange.has_unhurried());
        if goes_along {
            let next = pair.a.call_root(&plain(), []);
            assert!(matches!(
                pair.a.sent()[..],
                [Message::Finish { .. }, Message::Call(_)]
            ));
            pair.a.drop_call(next);
        } else {
            pair.a.exchange.hurry();
            assert!(pair.a.exchange.wants_flush(&pair.a.wire));
            assert!(matches!(pair.a.sent_at_last()[..], [Message::Finish { .. }]));
        }
        assert!(!pair.a.exchange.has_unhurried() && !pair.a.exchange.wants_flush(&pair.a.wire));
        pair.b_reads();
        for incoming in pair.b.calls() {
            pair.b.answer(incoming.answer, []);
        }
        pair.assert_empty();
    }
}

#[test]
fn a_call_that_is_dropped_after_its_return_is_finished_and_its_references_released() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b
        .answer(incoming.answer, [Thing::new(5).handed(INTERFACE, false)]);
    pair.a_reads();
    pair.a.events();
    pair.a.drop_call(call);
    assert!(matches!(pair.a.sent_at_last()[..], [Message::Finish { .. }]));
    pair.assert_empty();
}

#[test]
fn a_call_that_others_are_made_on_is_cancelled_when_they_are_over() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    let child = pair.a.call_result(call, 0);
    pair.a.drop_call(call);
    pair.b_reads();
    assert!(pair.b.events().is_empty(), "the child still needs it");
    pair.a.drop_call(child);
    pair.turn();
    let events = pair.b.events();
    assert!(
        matches!(events[..], [Event::Cancelled { answer, .. }] if answer == incoming.answer),
        "{events:?}"
    );
    pair.assert_empty();
}

#[test]
fn a_queued_call_that_is_cancelled_never_starts() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    let child = pair.a.call_result(call, 0);
    pair.b_reads();
    pair.a.drop_call(child);
    pair.b_reads();
    assert!(pair.b.events().is_empty());
    let [Message::Return(returned)] = &pair.b.sent()[..] else {
        panic!("{:?}", pair.b.sent())
    };
    assert_eq!(returned.verdict, Verdict::Fault { started: false });
    pair.b
        .answer(incoming.answer, [Thing::new(4).handed(INTERFACE, false)]);
    assert!(pair.b.calls().is_empty(), "the child is gone from the queue");
    pair.turn();
    pair.a.events();
    drop(pair.a.refs(call));
    pair.assert_empty();
}

#[test]
fn calls_on_a_result_reach_it_in_order_with_the_return() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    let children = [0, 1, 0].map(|slot| pair.a.call_result(call, slot));
    pair.b_reads();
    assert!(pair.b.calls().is_empty());
    let things = [Thing::new(10), Thing::new(11)];
    pair.b.answer(
        incoming.answer,
        things.each_ref().map(|thing| thing.handed(INTERFACE, false)),
    );
    // One more, after the return and before the finish.
    let late = pair.a.call_result(call, 1);
    pair.b_reads();
    let calls = pair.b.calls();
    let targets: Vec<_> = calls.iter().map(|incoming| object(&incoming.target).0).collect();
    assert_eq!(targets, [10, 11, 10, 11]);
    for incoming in calls {
        pair.b.answer(incoming.answer, []);
    }
    pair.turn();
    pair.a.events();
    for child in children.into_iter().chain([late]) {
        assert_eq!(body(&pair.a.outcome(child)), "result");
    }
    let refs = pair.a.refs(call);
    assert_eq!(import(&refs[0]).imported.interface, INTERFACE);
    drop(refs);
    pair.assert_empty();
}

#[test]
fn calls_on_a_result_that_never_comes_fail_with_its_error_as_their_cause() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    let child = pair
        .a
        .try_call(Target::Answer { call, slot: 0 }, &piped(), b"", [])
        .unwrap();
    let grandchild = pair.a.call_result(child, 0);
    pair.b_reads();
    pair.b.fail(incoming.answer, ErrorKind::Denied);
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Denied);
    for call in [child, grandchild] {
        let error = pair.a.error(call);
        assert_eq!((error.kind(), error.chain().count()), (ErrorKind::Broken, 2));
        assert!(format!("{error:#}").ends_with("not allowed"), "{error:#}");
    }
    pair.assert_empty();
}

#[test]
fn calls_on_what_the_result_does_not_hold_are_broken() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    let children = [0, 1, 2].map(|slot| pair.a.call_result(call, slot));
    pair.b_reads();
    let broken = crate::protocol::Outgoing::Broken(ErrorKind::Revoked.into());
    pair.b
        .answer(incoming.answer, [crate::protocol::Outgoing::Null, broken]);
    pair.turn();
    pair.a.events();
    for child in children {
        assert_eq!(pair.a.error(child).kind(), ErrorKind::Broken);
    }
    let refs = pair.a.refs(call);
    assert!(matches!(&refs[..], [
        crate::protocol::Received::Null,
        crate::protocol::Received::Broken(error),
    ] if error.kind() == ErrorKind::Revoked));
    pair.assert_empty();
}

#[test]
fn a_deep_chain_of_calls_on_results_fails_without_recursion() {
    let mut pair = Pair::new();
    let (first, incoming) = pair.call_b(&piped(), []);
    let mut calls = vec![first];
    for _ in 0..10_000 {
        let call = *calls.last().unwrap();
        calls.push(
            pair.a
                .try_call(Target::Answer { call, slot: 0 }, &piped(), b"", [])
                .unwrap(),
        );
    }
    pair.b_reads();
    pair.b.fail(incoming.answer, ErrorKind::Failed);
    pair.turn();
    pair.a.events();
    for call in calls {
        pair.a.error(call);
    }
    pair.assert_empty();
}

#[test]
fn a_call_on_a_result_that_was_taken_cannot_be_made() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b
        .answer(incoming.answer, [Thing::new(4).handed(INTERFACE, false)]);
    pair.a_reads();
    pair.a.events();
    drop(pair.a.refs(call));
    let error = pair
        .a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), b"", [])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let call = pair.a.call_root(&plain(), []);
    let error = pair
        .a
        .try_call(Target::Answer { call, slot: 0 }, &plain(), b"", [])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "a call without pipes");
}

#[test]
fn a_result_that_lives_with_the_caller_is_passed_on_to_it() {
    let mut pair = Pair::new();
    let thing = Thing::new(20);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    let child = pair.a.call_result(call, 0);
    pair.b_reads();
    let mine = import(&incoming.request.refs[0]);
    pair.b.answer(incoming.answer, [mine.home()]);
    let forwarded = pair.b.one_call();
    let IncomingTarget::Import(proxy) = &forwarded.target else {
        panic!("{forwarded:?}")
    };
    assert!(std::sync::Arc::ptr_eq(proxy, &mine));
    let target = Target::Import(mine.imported.id);
    let passed = pair.b.try_call(target, &plain(), b"passed", []).unwrap();
    pair.turn();
    let calls = pair.a.calls();
    assert_eq!(object(&calls[0].target).0, 20);
    pair.a.answer(calls[0].answer, []);
    pair.turn();
    pair.b.events();
    pair.b.outcome(passed);
    pair.b.answer(forwarded.answer, []);
    drop((mine, incoming, forwarded));
    pair.turn();
    pair.a.events();
    pair.turn();
    pair.a.events();
    pair.a.outcome(child);
    assert!(std::sync::Arc::ptr_eq(&home(&pair.a.refs(call)[0]), &thing));
    pair.assert_empty();
}

#[test]
fn a_deadline_ends_the_call_here_and_the_method_there() {
    let mut pair = Pair::new();
    let options = CallOptions {
        deadline: Some(100),
        ..piped()
    };
    let (call, incoming) = pair.call_b(&options, []);
    assert!(matches!(pair.a.poll(call), Poll::Pending));
    assert_eq!(pair.a.exchange.poll_timeout(), Some(100));
    pair.a.exchange.handle_timeout(99, &mut pair.a.wire);
    assert!(pair.a.events().is_empty());
    pair.a.exchange.handle_timeout(100, &mut pair.a.wire);
    assert!(matches!(pair.a.events()[..], [Event::Ready(_)]));
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Deadline);
    assert!(matches!(
        pair.a.sent()[..],
        [Message::Cancel {
            reason: CancelReason::Deadline,
            ..
        }]
    ));
    pair.b_reads();
    let reason = CancelReason::Deadline;
    let events = pair.b.events();
    assert!(
        matches!(events[..], [Event::Cancelled { answer, reason: why }] if answer == incoming.answer && why == reason)
    );
    pair.assert_empty();
}

#[test]
fn the_deadline_of_a_call_ends_it_over_there_even_if_no_cancel_comes() {
    let mut pair = Pair::new();
    let options = CallOptions {
        deadline: Some(100),
        ..piped()
    };
    let (call, incoming) = pair.call_b(&options, []);
    let child = pair
        .a
        .try_call(Target::Answer { call, slot: 0 }, &options, b"", [])
        .unwrap();
    pair.b_reads();
    pair.b.exchange.handle_timeout(100, &mut pair.b.wire);
    let events = pair.b.events();
    assert!(matches!(events[..], [Event::Cancelled { answer, .. }] if answer == incoming.answer));
    let verdict = |message| match message {
        Message::Return(Return { verdict, .. }) => verdict,
        other => panic!("{other:?}"),
    };
    let started: Vec<_> = pair.b.sent().into_iter().map(verdict).collect();
    assert_eq!(
        started,
        [
            Verdict::Fault { started: true },
            Verdict::Fault { started: false }
        ]
    );
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Deadline);
    pair.a.error(child);
    pair.assert_empty();
}

#[test]
fn a_call_whose_time_is_over_is_not_sent() {
    let mut pair = Pair::new();
    pair.a.now = 100;
    let options = CallOptions {
        deadline: Some(100),
        ..plain()
    };
    let error = pair.a.try_call(Target::Import(0), &options, b"", []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(pair.a.sent().is_empty());
    pair.assert_empty();
}

#[test]
fn a_deadline_that_was_met_leaves_no_timer() {
    let mut pair = Pair::new();
    for at in 0..1000 {
        let options = CallOptions {
            deadline: Some(1_000_000 + at),
            ..plain()
        };
        let (call, incoming) = pair.call_b(&options, []);
        pair.b.answer(incoming.answer, []);
        pair.turn();
        pair.a.events();
        pair.a.outcome(call);
    }
    for side in [&mut pair.a, &mut pair.b] {
        side.exchange.handle_timeout(u64::MAX, &mut side.wire);
        assert!(side.events().is_empty());
        assert_eq!(side.exchange.poll_timeout(), None);
    }
}

#[test]
fn an_operation_of_a_later_version_is_unimplemented() {
    let mut pair = Pair::new();
    let call = crate::message::Call {
        call: 1,
        target: crate::message::Target::Export(0),
        operation: crate::message::Operation::Unknown(crate::message::UnknownOperation { code: 200 }),
        options: plain(),
        time_left: None,
        priority: Some(3),
        descriptors: crate::protocol::Refs::new(),
        streams: bytes::Bytes::new(),
    };
    pair.b.receive_message(&Message::Call(call), b"body").unwrap();
    assert!(pair.b.calls().is_empty());
    assert!(matches!(&pair.b.sent()[..], [Message::Return(_)]));
    assert_eq!(pair.b.exchange.stats().answers, 0);
}

#[test]
fn calls_by_name_and_all_other_operations_arrive() {
    let mut pair = Pair::new();
    let name = || String::from("name");
    for op in [
        Op::Named(name()),
        Op::Get(name()),
        Op::Set(name()),
        Op::Delete(name()),
        Op::Index,
        Op::Len,
        Op::Compare,
        Op::Hash,
        Op::Text,
        Op::Iterate,
        Op::Enter,
        Op::Exit,
        Op::IsInstance(name()),
        Op::Describe,
        Op::Copy,
        Op::Invoke,
        Op::SetIndex,
        Op::DeleteIndex,
        Op::Repr,
        Op::Order(Ordering::Less),
        Op::Order(Ordering::LessEqual),
        Op::Order(Ordering::Greater),
        Op::Order(Ordering::GreaterEqual),
    ] {
        let options = plain();
        let start = crate::protocol::CallStart {
            target: Target::Import(0),
            op: &op,
            options: &options,
            body: crate::protocol::BodyRef::Slice(b""),
            refs: crate::protocol::Refs::new(),
            waiter: &mut None,
        };
        pair.a.exchange.call(start, 0, &mut pair.a.wire).unwrap();
        pair.b_reads();
        assert_eq!(pair.b.one_call().request.op, op);
    }
}

#[test]
fn whoever_waits_from_the_start_is_woken_without_having_asked() {
    let mut pair = Pair::new();
    let mut waiter = Some(77);
    let call = start(&mut pair, b"args", &mut waiter).unwrap();
    assert_eq!(waiter, None, "the exchange has it");
    pair.b_reads();
    let incoming = pair.b.one_call();
    pair.b.answer(incoming.answer, []);
    pair.a_reads();
    let events = pair.a.events();
    assert!(matches!(events[..], [Event::Ready(77)]), "{events:?}");
    pair.a.outcome(call);
    pair.assert_empty();
}

/// It may be the last that holds a task, and that is not dropped under the lock.
#[test]
fn whoever_waits_for_a_call_that_cannot_be_made_comes_back() {
    let mut pair = Pair::new();
    let mut waiter = Some(77);
    let long = vec![0; 1 << 20];
    pair.a.exchange.set_max_message(1024);
    assert!(start(&mut pair, &long, &mut waiter).is_err());
    assert_eq!(waiter, Some(77));
    pair.a
        .exchange
        .sever(&ErrorKind::Cancelled.into(), None, &pair.a.wire);
    assert!(start(&mut pair, b"args", &mut waiter).is_err());
    assert_eq!(waiter, Some(77));
}

fn start(pair: &mut Pair, body: &[u8], waiter: &mut Option<u64>) -> Result<u64, farref_boxing::Error> {
    let options = plain();
    let start = crate::protocol::CallStart {
        target: Target::Import(0),
        op: &Op::Len,
        options: &options,
        body: crate::protocol::BodyRef::Slice(body),
        refs: crate::protocol::Refs::new(),
        waiter,
    };
    pair.a.exchange.call(start, 0, &mut pair.a.wire)
}
