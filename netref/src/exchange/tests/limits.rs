//! What may be under way at once, and what happens at the bounds (PROTOCOL.md § 8.1 to 8.3).

use farref_boxing::ErrorKind;

use super::super::stand_in::Thing;
use super::super::{Breach, Exchange, ExchangeConfig};
use super::hostile::{call as by_hand, hello};
use super::kit::{INTERFACE, Pair, Side, import, object, piped, plain};
use crate::message::{Descriptor, Handed, Message, Operation, Target as To};
use crate::protocol::{CallOptions, Chain, Event, Op, Outcome, Outgoing, Target};

fn tight(config: ExchangeConfig) -> Pair {
    Pair::with(ExchangeConfig::default(), config)
}

/// b keeps so many bytes that a does not read.
fn keeping_unread(max_unread: u64) -> Pair {
    tight(ExchangeConfig {
        max_unread,
        ..ExchangeConfig::default()
    })
}

fn of_depth(depth: u16) -> CallOptions {
    CallOptions {
        chain: Some(Chain::new(1, depth)),
        ..plain()
    }
}

/// The arguments of the calls on the way to b.
fn arguments(pair: &Pair) -> Vec<Vec<u8>> {
    let read = |line: &super::super::stand_in::Line| {
        let mut rest = line.head.clone();
        matches!(Message::decode(&mut rest, u32::MAX), Ok(Message::Call(_))).then(|| rest.to_vec())
    };
    pair.a.wire.queue.iter().filter_map(read).collect()
}

#[test]
fn calls_beyond_the_peers_limit_wait_in_order_and_go_out_as_others_return() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 2,
        ..ExchangeConfig::default()
    });
    let calls: Vec<u64> = (0..5_u8)
        .map(|number| {
            pair.a
                .try_call(Target::Import(0), &plain(), &[number], [])
                .unwrap()
        })
        .collect();
    assert_eq!(arguments(&pair), [[0], [1]]);
    let mut seen = Vec::new();
    for call in &calls {
        pair.b_reads();
        let running = pair.b.calls();
        seen.extend(
            running
                .iter()
                .map(|incoming| incoming.request.body.as_ref().unwrap()[0]),
        );
        for incoming in running {
            pair.b.answer(incoming.answer, []);
        }
        pair.a_reads();
        pair.a.events();
        pair.a.outcome(*call);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    pair.assert_empty();
}

#[test]
fn arguments_count_too_and_one_call_is_always_admitted() {
    let mut pair = tight(ExchangeConfig {
        max_call_bytes: 10,
        ..ExchangeConfig::default()
    });
    for len in [50, 1, 9] {
        pair.a
            .try_call(Target::Import(0), &plain(), &vec![len; len.into()], [])
            .unwrap();
    }
    assert_eq!(arguments(&pair), [vec![50; 50]]);
    pair.b_reads();
    let first = pair.b.one_call();
    pair.b.answer(first.answer, []);
    pair.a_reads();
    assert_eq!(arguments(&pair), [vec![1; 1], vec![9; 9]]);
}

/// Any number of references could be under way, lent ones with an answer kept for each.
#[test]
fn references_count_as_arguments() {
    let config = ExchangeConfig {
        max_call_bytes: 100,
        ..ExchangeConfig::default()
    };
    let mut pair = tight(config.clone());
    let nulls = |count| (0..count).map(|_| crate::protocol::Outgoing::Null);
    let calls = [(3, 4), (3, 1), (2, 0)].map(|(references, bytes)| {
        let call = pair
            .a
            .try_call(Target::Import(0), &plain(), &vec![1; bytes], nulls(references));
        call.unwrap()
    });
    assert_eq!(arguments(&pair).len(), 1, "each would be one too many");
    for _ in calls {
        pair.b_reads();
        let incoming = pair.b.one_call();
        pair.b.answer(incoming.answer, []);
        pair.a_reads();
    }
    pair.a.events();
    for call in calls {
        assert!(matches!(pair.a.outcome(call), Outcome::Value { .. }));
    }
    pair.assert_empty();

    let mut pair = tight(config);
    let call = |number, references| {
        let mut call = by_hand(number, To::Export(0));
        call.descriptors = (0..references).map(|_| Descriptor::Null).collect();
        Message::Call(call)
    };
    pair.b.receive_message(&call(1, 2), b"").unwrap();
    let breach = Breach::TooManyCalls {
        calls: 16_384,
        bytes: 100,
    };
    assert_eq!(pair.b.receive_message(&call(2, 1), &[0; 5]), Err(breach));
    pair.b.receive_message(&call(2, 1), &[0; 4]).unwrap();
}

/// What a name or a broken reference took was not counted, and could be as long as a message.
#[test]
fn names_and_broken_references_count_as_arguments() {
    let config = ExchangeConfig {
        max_call_bytes: 5000,
        ..ExchangeConfig::default()
    };
    let name = |len| Op::Get("n".repeat(len));
    let broken = || Outgoing::Broken(ErrorKind::Revoked.into());
    let mut pair = tight(config.clone());
    let calls = [
        (4000, None),
        (1001, None),
        (900, Some(broken())),
        (905, Some(broken())),
    ]
    .map(|(len, refs)| {
        let call = pair.a.try_op(&name(len), Target::Import(0), &plain(), b"", refs);
        call.unwrap()
    });
    for sent in [1, 1, 1, 1] {
        assert_eq!(arguments(&pair).len(), sent, "each would be one too many");
        pair.b_reads();
        let incoming = pair.b.one_call();
        pair.b.answer(incoming.answer, []);
        pair.a_reads();
    }
    pair.a.events();
    for call in calls {
        assert!(matches!(pair.a.outcome(call), Outcome::Value { .. }));
    }
    let long = pair
        .a
        .try_op(&name((64 << 10) + 1), Target::Import(0), &plain(), b"", []);
    assert_eq!(long.unwrap_err().kind(), ErrorKind::Limit);
    pair.assert_empty();

    let call = |number, len, descriptors: &[Descriptor]| {
        let mut call = by_hand(number, To::Export(0));
        call.operation = Operation::Known(std::borrow::Cow::Owned(name(len)));
        call.descriptors = descriptors.iter().cloned().collect();
        Message::Call(call)
    };
    let breach = Err(Breach::TooManyCalls {
        calls: 16_384,
        bytes: 5000,
    });
    let mut pair = tight(config);
    pair.b.receive_message(&call(1, 4000, &[]), b"").unwrap();
    let error = [Descriptor::Broken(ErrorKind::Revoked.into())];
    for beyond in [call(2, 1001, &[]), call(2, 0, &error)] {
        assert_eq!(pair.b.receive_message(&beyond, b""), breach);
    }
    pair.b.receive_message(&call(2, 1000, &[]), b"").unwrap();
}

#[test]
fn a_nested_call_does_not_wait_for_calls_that_are_less_deep() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 1,
        ..ExchangeConfig::default()
    });
    for depth in [0, 0, 1, 1, 5] {
        pair.a
            .try_call(Target::Import(0), &of_depth(depth), &[depth as u8], [])
            .unwrap();
    }
    assert_eq!(arguments(&pair), [[0], [1], [5]]);
    pair.b_reads();
    for incoming in pair.b.calls() {
        pair.b.answer(incoming.answer, []);
        pair.a_reads();
    }
    assert_eq!(
        arguments(&pair),
        [[0], [1]],
        "each as soon as it is alone at its depth"
    );
}

#[test]
fn a_call_on_a_result_waits_behind_the_call_that_brings_it() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 1,
        ..ExchangeConfig::default()
    });
    pair.a
        .try_call(Target::Import(0), &plain(), b"first", [])
        .unwrap();
    let parent = pair
        .a
        .try_call(Target::Import(0), &piped(), b"parent", [])
        .unwrap();
    let target = Target::Answer {
        call: parent,
        slot: 0,
    };
    let child = pair.a.try_call(target, &of_depth(3), b"child", []).unwrap();
    assert_eq!(arguments(&pair), [b"first"]);
    // The handle of the parent goes; the child still needs it.
    pair.a.drop_call(parent);
    pair.b_reads();
    let first = pair.b.one_call();
    pair.b.answer(first.answer, []);
    pair.a_reads();
    assert_eq!(arguments(&pair), [&b"parent"[..], b"child"]);
    pair.b_reads();
    let running = pair.b.one_call();
    pair.b
        .answer(running.answer, [Thing::new(9).handed(INTERFACE, false)]);
    let piped = pair.b.one_call();
    assert_eq!(object(&piped.target).0, 9);
    pair.b.answer(piped.answer, []);
    pair.turn();
    pair.a.events();
    assert!(matches!(pair.a.outcome(child), Outcome::Value { .. }));
    pair.turn();
    pair.b.events();
    assert_eq!(pair.b.tables().3, 0);
}

#[test]
fn a_waiting_call_that_is_dropped_or_expires_is_never_sent() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 1,
        ..ExchangeConfig::default()
    });
    let thing = Thing::new(3);
    let busy = pair.a.call_root(&plain(), []);
    let dropped = pair.a.call_root(&plain(), [thing.handed(INTERFACE, false)]);
    let options = CallOptions {
        deadline: Some(10),
        ..piped()
    };
    let expired = pair.a.call_root(&options, [thing.handed(INTERFACE, true)]);
    let child = pair.a.call_result(expired, 0);
    pair.a.drop_call(dropped);
    pair.a.exchange.handle_timeout(10, &mut pair.a.wire);
    drop(pair.a.events());
    assert_eq!(pair.a.error(expired).kind(), ErrorKind::Deadline);
    assert_eq!(std::sync::Arc::strong_count(&thing), 1);
    pair.b_reads();
    let incoming = pair.b.one_call();
    pair.b.answer(incoming.answer, []);
    pair.turn();
    pair.a.events();
    assert_eq!(
        pair.a.error(child).kind(),
        ErrorKind::Broken,
        "what it was made on was never sent"
    );
    pair.a.outcome(busy);
    pair.assert_empty();
}

#[test]
fn a_call_on_an_expired_call_is_broken() {
    let mut pair = Pair::new();
    let options = CallOptions {
        deadline: Some(10),
        ..piped()
    };
    let (call, _) = pair.call_b(&options, []);
    pair.a.exchange.handle_timeout(10, &mut pair.a.wire);
    let target = Target::Answer { call, slot: 0 };
    let error = pair.a.try_call(target, &plain(), b"", []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broken);
}

#[test]
fn a_peer_that_makes_more_calls_than_declared_is_cut_off() {
    let config = ExchangeConfig {
        max_calls: 2,
        max_call_bytes: 100,
        ..ExchangeConfig::default()
    };
    let breach = Breach::TooManyCalls { calls: 2, bytes: 100 };
    let mut pair = tight(config.clone());
    for number in 1..=2 {
        pair.b
            .receive_message(&Message::Call(by_hand(number, To::Export(0))), b"")
            .unwrap();
    }
    let third = Message::Call(by_hand(3, To::Export(0)));
    assert_eq!(pair.b.receive_message(&third, b""), Err(breach));
    let mut pair = tight(config);
    pair.b
        .receive_message(&Message::Call(by_hand(1, To::Export(0))), &[0; 80])
        .unwrap();
    let second = Message::Call(by_hand(2, To::Export(0)));
    assert_eq!(pair.b.receive_message(&second, &[0; 21]), Err(breach));
}

#[test]
fn nested_calls_with_more_arguments_than_this_side_can_hold_are_refused_one_by_one() {
    let mut pair = tight(ExchangeConfig {
        max_call_bytes: 100,
        ..ExchangeConfig::default()
    });
    for depth in 0..4 {
        let mut call = by_hand(u64::from(depth) + 1, To::Export(0));
        call.options.chain = Some(Chain::new(1, depth));
        pair.b.receive_message(&Message::Call(call), &[0; 90]).unwrap();
    }
    assert_eq!(pair.b.calls().len(), 2, "twice what was declared");
    assert_eq!(pair.b.sent().len(), 2);
}

/// Of each of 65,536 depths one call was admitted beyond all limits.
#[test]
fn calls_that_are_too_deep_are_refused_within_the_limits_and_a_breach_beyond_them() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 2,
        max_depth: 1,
        ..ExchangeConfig::default()
    });
    let call = |pair: &mut Pair, number, depth| {
        let mut call = by_hand(number, To::Export(0));
        call.options.no_pipeline = true;
        call.options.chain = Some(Chain::new(1, depth));
        pair.b.receive_message(&Message::Call(call), b"")
    };
    for (number, depth) in (1..).zip([2, u16::MAX, 0, 0]) {
        call(&mut pair, number, depth).unwrap();
    }
    assert_eq!((pair.b.calls().len(), pair.b.sent().len()), (2, 2));
    let breach = Breach::TooManyCalls {
        calls: 2,
        bytes: ExchangeConfig::default().max_call_bytes,
    };
    assert_eq!(call(&mut pair, 5, 2), Err(breach));
    call(&mut pair, 5, 1).unwrap();
}

/// What was lent by calls that were refused was retained, for a peer that might not read that.
#[test]
fn what_a_refused_call_lends_is_passed_over() {
    let mut pair = Pair::new();
    let (lent, owned) = (Thing::new(3), Thing::new(4));
    let options = CallOptions {
        hops: u8::MAX,
        ..plain()
    };
    let refs = [lent.handed(INTERFACE, true), owned.handed(INTERFACE, false)];
    let call = pair.a.call_root(&options, refs);
    pair.b_reads();
    pair.b.take_drops();
    let sent = pair.b.sent();
    let [Message::Return(_), Message::Release { exports }] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(exports.len(), 1, "of the other");
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Loop);
    for thing in [lent, owned] {
        assert_eq!(std::sync::Arc::strong_count(&thing), 1);
    }
    pair.assert_empty();
}

#[test]
fn calls_that_lend_are_refused_while_too_much_would_wait() {
    let mut pair = keeping_unread(10_000);
    pair.b.wire.full = true;
    for number in 1..=40 {
        let mut call = by_hand(number, To::Export(0));
        call.options.no_pipeline = true;
        let handed = |export| Handed {
            export,
            object: export,
            interface: INTERFACE,
        };
        call.descriptors = (1..=20)
            .map(|export| Descriptor::Borrowed(handed(export)))
            .collect();
        pair.b.receive_message(&Message::Call(call), b"").unwrap();
    }
    assert_eq!(
        pair.b.calls().len(),
        1,
        "two would be more than half of what may wait"
    );
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    let sent = pair.b.sent();
    let retained = sent.iter().filter(|of| matches!(of, Message::Retain { .. }));
    assert_eq!(retained.count(), 20);
}

#[test]
fn a_peer_that_keeps_more_results_than_declared_is_cut_off() {
    let config = ExchangeConfig {
        max_objects: 3,
        max_calls: 1,
        ..ExchangeConfig::default()
    };
    let mut pair = tight(config);
    for number in 1..=4 {
        pair.b
            .receive_message(&Message::Call(by_hand(number, To::Export(0))), b"")
            .unwrap();
        pair.b.answer(number, []);
    }
    let more = Message::Call(by_hand(5, To::Export(0)));
    assert_eq!(
        pair.b.receive_message(&more, b""),
        Err(Breach::TooManyObjects { limit: 3 })
    );
}

#[test]
fn this_side_keeps_no_more_results_than_the_peer_allows() {
    let mut pair = tight(ExchangeConfig {
        max_objects: 3,
        ..ExchangeConfig::default()
    });
    for _ in 0..3 {
        let (call, incoming) = pair.call_b(&piped(), []);
        pair.b.answer(incoming.answer, []);
        pair.a_reads();
        pair.a.events();
        assert!(pair.a.exchange.is_ready(call));
    }
    let error = pair.a.try_call(Target::Import(0), &piped(), b"", []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    pair.a.try_call(Target::Import(0), &plain(), b"", []).unwrap();
}

#[test]
fn handing_out_too_many_objects_fails_the_call_alone() {
    let config = ExchangeConfig {
        max_objects: 4,
        ..ExchangeConfig::default()
    };
    let mut pair = Pair::with(config.clone(), config);
    let things: Vec<_> = (10..14).map(Thing::new).collect();
    let handed = || {
        things
            .iter()
            .map(|thing| thing.handed(INTERFACE, false))
            .collect::<Vec<_>>()
    };
    let error = pair
        .a
        .try_call(Target::Import(0), &plain(), b"", handed())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b.answer(incoming.answer, handed());
    pair.turn();
    drop((pair.a.events(), pair.b.events()));
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Limit);
    assert!(
        things
            .iter()
            .all(|thing| std::sync::Arc::strong_count(thing) == 1)
    );
    pair.assert_empty();
    // As many as are allowed, the root included.
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, handed().into_iter().take(3));
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.refs(call).len(), 3);
}

#[test]
fn a_peer_that_hands_out_more_objects_than_declared_is_cut_off() {
    let mut pair = tight(ExchangeConfig {
        max_objects: 2,
        ..ExchangeConfig::default()
    });
    let things: Vec<_> = (10..12).map(Thing::new).collect();
    pair.a.exchange.peer.as_mut().unwrap().objects = 9;
    pair.a.call_root(
        &plain(),
        things.iter().map(|thing| thing.handed(INTERFACE, false)),
    );
    let line = pair.a.wire.queue.pop_front().unwrap();
    assert_eq!(pair.b.receive(&line), Err(Breach::TooManyObjects { limit: 2 }));
}

#[test]
fn too_many_references_in_one_message_fail_the_call_here() {
    let mut pair = tight(ExchangeConfig {
        max_references: 2,
        ..ExchangeConfig::default()
    });
    let nulls = || [(); 3].map(|()| crate::protocol::Outgoing::Null);
    let error = pair
        .a
        .try_call(Target::Import(0), &plain(), b"", nulls())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let mut pair = Pair::with(
        ExchangeConfig {
            max_references: 2,
            ..ExchangeConfig::default()
        },
        ExchangeConfig::default(),
    );
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, nulls());
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Limit);
}

#[test]
fn calls_nested_deeper_than_the_peer_takes_are_not_sent() {
    let mut pair = tight(ExchangeConfig {
        max_depth: 2,
        ..ExchangeConfig::default()
    });
    pair.a.try_call(Target::Import(0), &of_depth(2), b"", []).unwrap();
    let error = pair
        .a
        .try_call(Target::Import(0), &of_depth(3), b"", [])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loop);
}

#[test]
fn the_peer_may_raise_what_it_takes() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 1,
        ..ExchangeConfig::default()
    });
    for _ in 0..3 {
        pair.a.call_root(&plain(), []);
    }
    assert_eq!(pair.a.wire.queue.len(), 1);
    pair.a
        .receive_message(&Message::CallCredit { calls: 2, bytes: 0 }, b"")
        .unwrap();
    assert_eq!(pair.a.wire.queue.len(), 2);
}

#[test]
fn calls_wait_while_the_wire_is_congested_and_everything_waits_while_it_is_full() {
    let mut pair = Pair::new();
    pair.a.wire.congested = true;
    let root = pair.a.call_root(&plain(), []);
    let nested = pair
        .a
        .try_call(Target::Import(0), &of_depth(1), b"nested", [])
        .unwrap();
    assert_eq!(arguments(&pair), [b"nested"]);
    assert!(!pair.a.exchange.wants_flush(&pair.a.wire));
    pair.a.wire.congested = false;
    assert!(pair.a.exchange.wants_flush(&pair.a.wire));
    pair.a.exchange.flush(0, &mut pair.a.wire);
    assert_eq!(arguments(&pair), [&b"nested"[..], b"args"]);

    pair.b_reads();
    pair.b.wire.full = true;
    let thing = Thing::new(4);
    for incoming in pair.b.calls() {
        pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    }
    let waiting = pair.b.call_root(&plain(), []);
    assert!(pair.b.wire.queue.is_empty() && pair.b.exchange.wants_flush(&pair.b.wire));
    pair.b.exchange.flush(0, &mut pair.b.wire);
    assert!(pair.b.wire.queue.is_empty());
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    let sent = pair.b.sent();
    assert!(
        matches!(
            &sent[..],
            [Message::Return(_), Message::Return(_), Message::Call(_)]
        ),
        "{sent:?}"
    );
    pair.a_reads();
    let incoming = pair.a.one_call();
    pair.a.answer(incoming.answer, []);
    pair.turn();
    pair.b.events();
    pair.b.outcome(waiting);
    for call in [root, nested] {
        assert_eq!(import(&pair.a.refs(call)[0]).imported.id, 1);
    }
    pair.assert_empty();
}

#[test]
fn a_drain_is_passed_on_and_changes_nothing_by_itself() {
    let mut pair = Pair::new();
    pair.a.exchange.drain(&mut pair.a.wire);
    pair.b_reads();
    assert!(matches!(pair.b.events()[..], [Event::Draining]));
    pair.b.call_root(&plain(), []);
    pair.a_reads();
    pair.a.one_call();
}

/// As many results as calls could be kept, each as long as a message may be.
#[test]
fn results_that_nobody_reads_are_kept_up_to_so_many_bytes() {
    let mut pair = keeping_unread(10_000);
    let calls: Vec<u64> = (0..4).map(|_| pair.a.call_root(&plain(), [])).collect();
    pair.b_reads();
    let incoming = pair.b.calls();
    pair.b.wire.full = true;
    let thing = Thing::new(7);
    pair.b
        .answer_with(incoming[0].answer, &[7; 8000], [thing.handed(INTERFACE, false)]);
    pair.b
        .answer_with(incoming[1].answer, &[7; 8000], [thing.handed(INTERFACE, false)]);
    assert_eq!(std::sync::Arc::strong_count(&thing), 2, "handed out once");
    pair.b.fail(incoming[2].answer, ErrorKind::Remote);
    let late = pair.a.call_root(&plain(), []);
    pair.b_reads();
    assert!(pair.b.calls().is_empty(), "no further ones are begun");
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    pair.turn();
    pair.a.events();
    assert_eq!(pair.a.refs(calls[0]).len(), 1);
    assert_eq!(pair.a.error(calls[1]).kind(), ErrorKind::Limit);
    assert_eq!(pair.a.error(calls[2]).kind(), ErrorKind::Remote, "it is short");
    assert_eq!(pair.a.error(late).kind(), ErrorKind::Overloaded);
    // When they were read, all is well again.
    pair.b.answer_with(incoming[3].answer, &[7; 8000], []);
    pair.turn();
    pair.a.events();
    assert!(matches!(pair.a.outcome(calls[3]), Outcome::Value { .. }));
    pair.assert_empty();
}

/// All calls were refused while anything waited.
#[test]
fn calls_are_served_while_little_waits_even_if_nothing_may() {
    let mut pair = keeping_unread(0);
    pair.b.wire.full = true;
    let (first, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, []);
    let (second, incoming) = pair.call_b(&plain(), []);
    pair.b.wire.full = false;
    pair.b.answer(incoming.answer, []);
    pair.b.exchange.flush(0, &mut pair.b.wire);
    pair.turn();
    pair.a.events();
    for call in [first, second] {
        assert!(matches!(pair.a.outcome(call), Outcome::Value { .. }));
    }
}

/// The last was refused if their number was a power of two and there was no root.
#[test]
fn as_many_objects_as_may_be_held_are_held_without_a_root() {
    let config = ExchangeConfig {
        max_objects: 64,
        ..ExchangeConfig::default()
    };
    let mut side = Side::new(0, ExchangeConfig::default());
    side.exchange = Exchange::new(config, Outgoing::Null, &mut side.wire);
    let mut hello = hello();
    (hello.limits.objects, hello.limits.references) = (64, 64);
    hello.limits.call_bytes = 1 << 20;
    side.receive_message(&Message::Hello(hello), b"").unwrap();
    let things = (0..64).map(|number| Thing::new(number).handed(INTERFACE, false));
    side.try_call(Target::Import(0), &plain(), b"", things).unwrap();
    assert_eq!(side.tables().0, 64);
}

/// An error could be as long as a message.
#[test]
fn errors_that_nobody_reads_are_cut_when_much_waits() {
    let mut pair = keeping_unread(2000);
    let calls: Vec<u64> = (0..9).map(|_| pair.a.call_root(&plain(), [])).collect();
    pair.b_reads();
    pair.b.wire.full = true;
    for incoming in pair.b.calls() {
        let reply = crate::protocol::Reply::Error {
            error: farref_boxing::Error::new(ErrorKind::Remote, "long ".repeat(300)),
            started: true,
        };
        pair.b.exchange.answer(incoming.answer, reply, &mut pair.b.wire);
    }
    let kept = pair.b.exchange.outbox.bytes();
    assert!((1500..1500 + 9 * 1024).contains(&kept), "{kept}");
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    pair.turn();
    pair.a.events();
    for call in calls {
        assert!(pair.a.error(call).message().starts_with("long long"));
    }
}

/// A peer that made calls and read nothing had any number of results kept for it.
#[test]
fn a_call_is_under_way_until_its_return_is_on_the_wire() {
    let mut pair = tight(ExchangeConfig {
        max_calls: 2,
        ..ExchangeConfig::default()
    });
    pair.b.wire.full = true;
    let call = |pair: &mut Pair, number| {
        let call = Message::Call(by_hand(number, To::Export(0)));
        pair.b.receive_message(&call, b"")
    };
    for number in 1..=2 {
        call(&mut pair, number).unwrap();
        pair.b.answer(number, []);
    }
    let breach = Breach::TooManyCalls {
        calls: 2,
        bytes: ExchangeConfig::default().max_call_bytes,
    };
    assert_eq!(call(&mut pair, 3), Err(breach));
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    for number in 3..=4 {
        call(&mut pair, number).unwrap();
    }
}
