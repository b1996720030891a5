//! What a peer must not do, and that nothing it does is worse than one error (PROTOCOL.md § 8.4).

use bytes::Bytes;
use farref_framing::LaneId;
use proptest::prelude::*;

use super::super::stand_in::{Line, Thing};
use super::super::{Breach, fuzzing};
use super::kit::{INTERFACE, Pair, Side, piped, plain};
use crate::exchange::ExchangeConfig;
use crate::message::{
    Call, Descriptor, Handed, Hello, Message, MessageError, Operation, PeerLimits, Return, Target, Verdict,
};
use crate::protocol::{CancelReason, Chain, Refs};

/// A call by hand.
pub(super) fn call(number: u64, target: Target) -> Call<'static> {
    Call {
        call: number,
        target,
        operation: Operation::Known(std::borrow::Cow::Owned(super::kit::OP)),
        options: piped(),
        time_left: None,
        priority: None,
        descriptors: Refs::new(),
        streams: Bytes::new(),
    }
}

/// A return by hand.
pub(super) fn returned(call: u64) -> Return {
    Return {
        call,
        verdict: Verdict::Value,
        shape: 0,
        descriptors: Refs::new(),
        streams: Bytes::new(),
    }
}

const HANDED: Handed = Handed {
    export: 5,
    object: 5,
    interface: INTERFACE,
};

pub(super) fn hello() -> Hello {
    let limits = PeerLimits {
        calls: 9,
        call_bytes: 999,
        objects: 9,
        depth: 9,
        references: 9,
        streams: 0,
    };
    Hello {
        version: 1,
        limits,
        features: 0,
        root: Descriptor::Null,
        name: "peer".into(),
    }
}

/// What b says to a message.
fn breach(pair: &mut Pair, message: &Message<'_>) -> Breach {
    pair.b.receive_message(message, b"").unwrap_err()
}

#[test]
fn the_hello_comes_first_and_once() {
    let mut side = Side::new(0, ExchangeConfig::default());
    let early = side.receive_message(&Message::Drain, b"");
    assert_eq!(early, Err(Breach::NoHello));
    side.receive_message(&Message::Hello(hello()), b"").unwrap();
    assert_eq!(
        side.receive_message(&Message::Hello(hello()), b""),
        Err(Breach::SecondHello)
    );
}

#[test]
fn a_hello_needs_a_version_and_a_root_of_its_own() {
    for hello in [
        Hello {
            version: 0,
            ..hello()
        },
        Hello {
            root: Descriptor::Home { export: 0 },
            ..hello()
        },
        Hello {
            root: Descriptor::Answer { call: 1, slot: 0 },
            ..hello()
        },
    ] {
        let mut side = Side::new(0, ExchangeConfig::default());
        assert_eq!(
            side.receive_message(&Message::Hello(hello), b""),
            Err(Breach::BadHello)
        );
    }
    let mut side = Side::new(0, ExchangeConfig::default());
    let lent = Hello {
        root: Descriptor::Borrowed(HANDED),
        ..hello()
    };
    assert_eq!(
        side.receive_message(&Message::Hello(lent), b""),
        Err(Breach::LentByReturn)
    );
}

#[test]
fn a_later_version_is_spoken_to_in_this_one() {
    let mut side = Side::new(0, ExchangeConfig::default());
    let later = Hello {
        version: 7,
        features: u64::MAX,
        ..hello()
    };
    side.receive_message(&Message::Hello(later), &[200, 2, 1, 1])
        .unwrap();
}

#[test]
fn calls_are_numbered_without_gaps() {
    let mut pair = Pair::new();
    let due = Breach::CallNumber { call: 2, due: 1 };
    assert_eq!(breach(&mut pair, &Message::Call(call(2, Target::Export(0)))), due);
    pair.b
        .receive_message(&Message::Call(call(1, Target::Export(0))), b"")
        .unwrap();
    let again = Breach::CallNumber { call: 1, due: 2 };
    assert_eq!(
        breach(&mut pair, &Message::Call(call(1, Target::Export(0)))),
        again
    );
}

#[test]
fn what_was_never_given_out_ends_the_session() {
    let mut pair = Pair::new();
    let unknown_call = |call| Breach::UnknownCall { call };
    let unknown_export = Breach::UnknownExport { export: 7 };
    let home = Descriptor::Home { export: 7 };
    let with_home = Call {
        descriptors: Refs::from_iter([home]),
        ..call(2, Target::Export(0))
    };
    for (message, expected) in [
        (Message::Call(call(1, Target::Export(7))), unknown_export),
        (
            Message::Call(call(1, Target::Answer { call: 2, slot: 0 })),
            unknown_call(2),
        ),
        (Message::Call(Call { call: 1, ..with_home }), unknown_export),
        (Message::Return(returned(1)), unknown_call(1)),
        (
            Message::Cancel {
                call: 9,
                reason: CancelReason::Dropped,
            },
            unknown_call(9),
        ),
        (Message::Finish { call: 9 }, unknown_call(9)),
        (Message::Flush { flush: 1, call: 9 }, unknown_call(9)),
        (Message::FlushAck { flush: 1 }, Breach::UnknownFlush { flush: 1 }),
        (Message::Retain { export: 7 }, unknown_export),
        (
            Message::Release {
                exports: vec![(7, 1)].into(),
            },
            unknown_export,
        ),
    ] {
        assert_eq!(breach(&mut pair, &message), expected, "{message:?}");
        pair = Pair::new();
    }
}

#[test]
fn a_call_returns_once() {
    let mut pair = Pair::new();
    pair.b.call_root(&plain(), []);
    pair.b
        .receive_message(&Message::Return(returned(1)), b"")
        .unwrap();
    assert_eq!(
        breach(&mut pair, &Message::Return(returned(1))),
        Breach::UnknownCall { call: 1 }
    );
}

#[test]
fn a_call_is_finished_and_flushed_after_its_return_and_in_that_state_once() {
    let mut pair = Pair::new();
    let (_, incoming) = pair.call_b(&piped(), []);
    let wrong = Breach::WrongTime { call: 1 };
    assert_eq!(breach(&mut pair, &Message::Finish { call: 1 }), wrong);
    assert_eq!(breach(&mut pair, &Message::Flush { flush: 1, call: 1 }), wrong);
    pair.b.answer(incoming.answer, []);
    pair.b
        .receive_message(&Message::Flush { flush: 1, call: 1 }, b"")
        .unwrap();
    assert_eq!(
        breach(&mut pair, &Message::Flush { flush: 2, call: 1 }),
        wrong,
        "two at once"
    );
    assert_eq!(
        breach(&mut pair, &Message::Finish { call: 1 }),
        wrong,
        "before the flush is acknowledged"
    );
    pair.b.events();
    pair.b.receive_message(&Message::Finish { call: 1 }, b"").unwrap();
    assert_eq!(
        breach(&mut pair, &Message::Finish { call: 1 }),
        Breach::UnknownCall { call: 1 }
    );
}

/// Acknowledgements were kept without end for a peer that did not read them.
#[test]
fn a_flush_is_open_until_its_acknowledgement_is_on_the_wire() {
    let mut pair = Pair::new();
    let (_, incoming) = pair.call_b(&piped(), []);
    pair.b.answer(incoming.answer, []);
    let flush = |flush| Message::Flush { flush, call: 1 };
    pair.b.receive_message(&flush(1), b"").unwrap();
    pair.b.events();
    pair.b.wire.full = true;
    pair.b.receive_message(&flush(2), b"").unwrap();
    pair.b.events();
    let wrong = Err(Breach::WrongTime { call: 1 });
    assert_eq!(pair.b.receive_message(&flush(3), b""), wrong);
    assert_eq!(pair.b.receive_message(&Message::Finish { call: 1 }, b""), wrong);
    pair.b.wire.full = false;
    pair.b.exchange.flush(0, &mut pair.b.wire);
    let acks: Vec<_> = pair.b.take_sent();
    assert!(
        matches!(
            acks[..],
            [.., Message::FlushAck { flush: 1 }, Message::FlushAck { flush: 2 }]
        ),
        "{acks:?}"
    );
    pair.b.receive_message(&flush(3), b"").unwrap();
    pair.b.events();
    pair.b.receive_message(&Message::Finish { call: 1 }, b"").unwrap();
}

#[test]
fn no_more_copies_come_back_than_were_handed_out() {
    let mut pair = Pair::new();
    let (_, proxy) = pair.object_of_b(3);
    let export = proxy.imported.id;
    let release = Message::Release {
        exports: vec![(export, 2)].into(),
    };
    assert_eq!(
        breach(&mut pair, &release),
        Breach::TooManyReleased {
            export,
            copies: 2,
            held: 1
        }
    );
    let huge = Message::Release {
        exports: vec![(export, u64::MAX)].into(),
    };
    assert!(matches!(
        breach(&mut pair, &huge),
        Breach::TooManyReleased { held: 1, .. }
    ));
}

#[test]
fn only_what_is_lent_is_retained() {
    let mut pair = Pair::new();
    let (_, proxy) = pair.object_of_b(3);
    let export = proxy.imported.id;
    assert_eq!(
        breach(&mut pair, &Message::Retain { export }),
        Breach::NotLent { export }
    );
}

#[test]
fn the_root_stays_whatever_comes_back() {
    let mut pair = Pair::new();
    pair.b
        .receive_message(
            &Message::Release {
                exports: vec![(0, 1)].into(),
            },
            b"",
        )
        .unwrap();
    pair.call_b(&plain(), []);
    let more = Message::Release {
        exports: vec![(0, 1)].into(),
    };
    assert!(matches!(breach(&mut pair, &more), Breach::TooManyReleased { .. }));
}

#[test]
fn returns_do_not_lend_and_exports_do_not_change() {
    let mut pair = Pair::new();
    pair.b.call_root(&plain(), []);
    let lending = Return {
        descriptors: Refs::from_iter([Descriptor::Borrowed(HANDED)]),
        ..returned(1)
    };
    assert_eq!(breach(&mut pair, &Message::Return(lending)), Breach::LentByReturn);
    let mut pair = Pair::new();
    let first = Descriptor::Owned(HANDED);
    let other = Descriptor::Owned(Handed {
        interface: 8,
        ..HANDED
    });
    let both = Call {
        descriptors: Refs::from_iter([first, other]),
        ..call(1, Target::Export(0))
    };
    assert_eq!(
        breach(&mut pair, &Message::Call(both)),
        Breach::Contradiction { export: 5 }
    );
}

#[test]
fn only_calls_and_returns_have_bodies() {
    let mut pair = Pair::new();
    let mut head = Vec::new();
    Message::Drain.encode(&mut head);
    let line = Line {
        head: head.into(),
        bulk: Some((LaneId::new(1), Bytes::from_static(b"x"))),
    };
    assert_eq!(pair.b.receive_head(&line), Err(Breach::UnexpectedBody));
    let mut head = Vec::new();
    Message::Call(call(1, Target::Export(0))).encode(&mut head);
    head.push(0);
    let line = Line {
        head: head.into(),
        bulk: Some((LaneId::new(1), Bytes::from_static(b"x"))),
    };
    assert_eq!(
        pair.b.receive_head(&line),
        Err(Breach::UnexpectedBody),
        "one body in two places"
    );
}

#[test]
fn reserved_messages_are_ignored_and_their_bodies_refused() {
    let mut pair = Pair::new();
    for kind in (0x10..=0x15).chain(0x20..=0x25).chain(0x80..=0xff) {
        pair.b
            .receive_message(&Message::Reserved { kind }, b"whatever")
            .unwrap();
    }
    let line = Line {
        head: Bytes::from_static(&[0x90]),
        bulk: Some((LaneId::new(1), Bytes::from_static(b"x"))),
    };
    pair.b.receive_head(&line).unwrap();
    assert_eq!(pair.b.wire.stopped, [LaneId::new(1)]);
    for kind in [0x00, 0x0e, 0x16, 0x26, 0x32, 0x7f] {
        let expected = Breach::Message(MessageError::UnknownKind { kind });
        assert_eq!(breach(&mut pair, &Message::Reserved { kind }), expected);
    }
}

#[test]
fn a_result_among_the_arguments_is_unimplemented_and_the_rest_of_them_released() {
    let mut pair = Pair::new();
    let descriptors = Refs::from_iter([Descriptor::Owned(HANDED), Descriptor::Answer { call: 1, slot: 0 }]);
    pair.b
        .receive_message(
            &Message::Call(Call {
                descriptors,
                ..call(1, Target::Export(0))
            }),
            b"",
        )
        .unwrap();
    assert!(pair.b.calls().is_empty());
    pair.b.take_drops();
    let sent = pair.b.take_sent();
    let [Message::Return(answer), Message::Release { exports }] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(answer.verdict, Verdict::Fault { started: false });
    assert_eq!(exports[..], [(5, 1)]);
}

#[test]
fn streams_among_arguments_and_results_are_unimplemented() {
    let mut pair = Pair::new();
    let streams = Bytes::from_static(b"streams");
    let with_streams = Call {
        streams: streams.clone(),
        ..call(1, Target::Export(0))
    };
    pair.b.receive_message(&Message::Call(with_streams), b"").unwrap();
    assert!(pair.b.calls().is_empty());
    let made = pair.b.call_root(&plain(), []);
    pair.b
        .receive_message(
            &Message::Return(Return {
                streams,
                ..returned(1)
            }),
            b"",
        )
        .unwrap();
    pair.b.events();
    assert_eq!(pair.b.error(made).kind(), farref_boxing::ErrorKind::Unimplemented);
}

#[test]
fn a_call_on_its_own_result_is_a_loop() {
    let mut pair = Pair::new();
    let target = Target::Answer { call: 1, slot: 0 };
    pair.b
        .receive_message(&Message::Call(call(1, target)), b"")
        .unwrap();
    assert_eq!(fault(&pair), farref_boxing::ErrorKind::Loop);
}

#[test]
fn a_call_that_has_crossed_too_many_connections_or_is_nested_too_deep_is_a_loop() {
    for (hops, depth) in [(33, 0), (32, 257), (33, 257)] {
        let mut pair = Pair::new();
        let mut call = call(1, Target::Export(0));
        call.options.hops = hops;
        call.options.chain = Some(Chain::new(1, depth));
        pair.b.receive_message(&Message::Call(call), b"").unwrap();
        assert_eq!(fault(&pair), farref_boxing::ErrorKind::Loop);
    }
    let mut pair = Pair::new();
    let mut call = call(1, Target::Export(0));
    call.options.hops = 32;
    call.options.chain = Some(Chain::new(1, 256));
    pair.b.receive_message(&Message::Call(call), b"").unwrap();
    pair.b.one_call();
}

#[test]
fn without_the_hop_limit_a_call_goes_on_for_ever() {
    let mut pair = Pair::new();
    pair.b.exchange.rules.without = Some(super::super::rules::Rule::HopLimit);
    let mut call = call(1, Target::Export(0));
    call.options.hops = 33;
    pair.b.receive_message(&Message::Call(call), b"").unwrap();
    pair.b.one_call();
}

/// What b answers to the only call.
fn fault(pair: &Pair) -> farref_boxing::ErrorKind {
    let line = pair.b.wire.queue.back().unwrap();
    let mut body = line.head.clone();
    let answer = Message::decode(&mut body, 0).unwrap();
    assert!(matches!(
        &answer,
        Message::Return(Return {
            verdict: Verdict::Fault { started: false },
            ..
        })
    ));
    crate::message::read_error(&body).unwrap().kind()
}

#[test]
fn an_unreadable_error_is_the_answer_of_that_call_alone() {
    let mut pair = Pair::new();
    let made = pair.b.call_root(&plain(), []);
    let verdict = Verdict::Fault { started: true };
    pair.b
        .receive_message(
            &Message::Return(Return {
                verdict,
                ..returned(1)
            }),
            b"?",
        )
        .unwrap();
    pair.b.events();
    assert_eq!(pair.b.error(made).kind(), farref_boxing::ErrorKind::Malformed);
}

#[test]
fn a_call_on_an_object_that_is_gone_is_broken() {
    let mut pair = Pair::new();
    let (thing, proxy) = pair.object_of_b(3);
    let export = proxy.imported.id;
    drop(proxy);
    pair.turn();
    assert_eq!(std::sync::Arc::strong_count(&thing), 1 + pair.b.events().len());
    let due = pair.b.exchange.answers.next();
    let home = Refs::from_iter([Descriptor::Home { export }]);
    pair.b
        .receive_message(&Message::Call(call(due, Target::Export(export))), b"")
        .unwrap();
    assert_eq!(fault(&pair), farref_boxing::ErrorKind::Broken);
    let stale = Call {
        descriptors: home,
        ..call(due + 1, Target::Export(0))
    };
    pair.b.receive_message(&Message::Call(stale), b"").unwrap();
    assert!(matches!(
        &pair.b.one_call().request.refs[..],
        [crate::protocol::Received::Broken(_)]
    ));
}

#[test]
fn no_more_is_believed_than_there_are_bytes_for() {
    let mut pair = Pair::new();
    let huge = [0x06, 253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let line = Line {
        head: Bytes::copy_from_slice(&huge),
        bulk: None,
    };
    assert_eq!(
        pair.b.receive(&line),
        Err(Breach::Message(MessageError::Truncated))
    );
    let mut descriptors = Refs::new();
    descriptors.extend(std::iter::repeat_n(Descriptor::Null, (1 << 17) + 1));
    let message = Message::Call(Call {
        descriptors,
        ..call(1, Target::Export(0))
    });
    let expected = Breach::Message(MessageError::TooManyReferences { count: (1 << 17) + 1 });
    assert_eq!(breach(&mut pair, &message), expected);
}

fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let handed = (0..4_u64, 0..3_u64, 0..2_u64).prop_map(|(export, object, interface)| Handed {
        export,
        object,
        interface,
    });
    prop_oneof![
        Just(Descriptor::Null),
        handed.clone().prop_map(Descriptor::Owned),
        handed.prop_map(Descriptor::Borrowed),
        (0..4_u64).prop_map(|export| Descriptor::Home { export }),
        (0..6_u64, 0..2_u32).prop_map(|(call, slot)| Descriptor::Answer { call, slot }),
    ]
}

fn any_message() -> impl Strategy<Value = Message<'static>> {
    let refs = || proptest::collection::vec(any_descriptor(), 0..3).prop_map(Refs::from_vec);
    let target = prop_oneof![
        (0..4_u64).prop_map(Target::Export),
        (0..6_u64, 0..3_u32).prop_map(|(call, slot)| Target::Answer { call, slot }),
    ];
    let any_call = (1..12_u64, target, refs(), any::<(bool, bool)>()).prop_map(
        |(number, target, descriptors, (no_pipeline, one_way))| {
            let mut call = Call {
                descriptors,
                ..call(number, target)
            };
            call.options.no_pipeline = no_pipeline;
            call.options.one_way = one_way && no_pipeline;
            call
        },
    );
    prop_oneof![
        4 => any_call.prop_map(Message::Call),
        3 => (1..8_u64, refs()).prop_map(|(call, descriptors)| {
            Message::Return(Return { descriptors, ..returned(call) })
        }),
        2 => (1..8_u64, any::<u8>()).prop_map(|(call, what)| {
            Message::Return(Return { shape: fuzzing::plain(what).0, ..returned(call) })
        }),
        1 => (1..12_u64).prop_map(|call| Message::Cancel { call, reason: CancelReason::Dropped }),
        1 => (1..12_u64).prop_map(|call| Message::Finish { call }),
        1 => (0..4_u64, 1..3_u64).prop_map(|of| Message::Release { exports: vec![of].into() }),
        1 => (0..4_u64).prop_map(|export| Message::Retain { export }),
        1 => (1..4_u64, 1..12_u64).prop_map(|(flush, call)| Message::Flush { flush, call }),
        1 => (1..4_u64).prop_map(|flush| Message::FlushAck { flush }),
    ]
}

/// A script for the fuzz body in which most messages make sense.
fn any_script() -> impl Strategy<Value = Vec<u8>> {
    let message = (any_message(), any::<bool>()).prop_map(|(message, bulk)| {
        let mut head = Vec::new();
        message.encode(&mut head);
        let mut bytes = vec![if bulk { 12 << 3 | 1 } else { 0 }, head.len() as u8];
        bytes.extend(head);
        if bulk {
            bytes.push(100);
        }
        bytes
    });
    let other = proptest::collection::vec(any::<u8>(), 1..6).prop_map(|mut bytes| {
        bytes[0] |= 0x80;
        bytes
    });
    let shape = any::<u8>().prop_map(|what| vec![14 << 3, what]);
    let steps = proptest::collection::vec(prop_oneof![3 => message, 3 => other, 2 => shape], 0..60);
    steps.prop_map(|steps| std::iter::once(0).chain(steps.concat()).collect())
}

proptest! {
    #[test]
    fn any_bytes_end_in_events_or_one_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::exchange(&bytes);
    }

    #[test]
    fn any_messages_end_in_events_or_one_error(script in any_script()) {
        fuzzing::exchange(&script);
    }
}

#[test]
fn a_thing_that_was_lent_to_a_hostile_peer_is_let_go_with_the_session() {
    let mut pair = Pair::new();
    let thing = Thing::new(3);
    pair.a
        .call_root(&plain(), [thing.handed(INTERFACE, true), thing.handed(8, false)]);
    pair.a
        .exchange
        .sever(&farref_boxing::ErrorKind::Malformed.into(), None, &pair.a.wire);
    drop(pair.a.events());
    assert_eq!(std::sync::Arc::strong_count(&thing), 1);
}
