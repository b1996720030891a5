//! Types that only one side has: asked for once, and whatever the answer, nothing else waits (PROTOCOL.md § 7.8).

use std::task::Poll;

use bytes::Bytes;
use farref_boxing::{Certainty, Encoder, Error, ErrorKind, Shape};

use super::super::shapes::LONGEST;
use super::super::{Breach, ExchangeConfig};
use super::kit::{Pair, plain};
use crate::message::Message;
use crate::protocol::{
    BodyRef, CallOptions, CancelReason, Event, Outcome, PeerShape, Refs, Reply, ResultShapes,
};

fn shape() -> Shape {
    Shape::of::<(u16, String)>().unwrap()
}

fn description(of: &Shape) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(of).unwrap();
    encoder.body().to_bytes()
}

/// Options of a call whose result is read as another type.
fn reading() -> CallOptions {
    CallOptions {
        results: ResultShapes { value: 1, failure: 2 },
        ..plain()
    }
}

/// A call of a's that b has answered with a type of its own.
fn unread(pair: &mut Pair, options: &CallOptions) -> u64 {
    let call = pair.a.call_root(options, []);
    pair.turn();
    let answer = pair.b.one_call().answer;
    let reply = Reply::Value {
        failure: None,
        shape: shape().fingerprint(),
        body: BodyRef::Slice(b"result"),
        refs: Refs::new(),
    };
    pair.b.exchange.answer(answer, reply, &mut pair.b.wire);
    pair.a_reads();
    call
}

/// What a is told when it has asked.
fn tell(pair: &mut Pair, description: &[u8]) -> Result<(), Breach> {
    let shape = shape().fingerprint();
    pair.a.receive_message(&Message::Shape { shape }, description)
}

fn writer(outcome: Outcome<super::super::stand_in::Numbers>) -> Option<Shape> {
    match outcome {
        Outcome::Value { writer, .. } => writer.map(|writer| (*writer).clone()),
        Outcome::Error(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_result_waits_for_its_shape_and_nothing_else_does() {
    let mut pair = Pair::new();
    let call = unread(&mut pair, &reading());
    assert!(pair.a.events().is_empty());
    assert!(pair.a.poll(call).is_pending() && !pair.a.exchange.is_ready(call));
    let fingerprint = shape().fingerprint();
    assert_eq!(pair.a.sent(), [Message::GetShape { shape: fingerprint }]);
    pair.b_reads();
    assert!(matches!(pair.b.events()[..], [Event::ShapeWanted(asked)] if asked == fingerprint));
    // Another one of that type waits, too, and nobody is asked twice.
    let second = unread(&mut pair, &reading());
    assert_eq!(pair.a.sent(), []);
    // Whoever takes what it gets, does not wait.
    let other = unread(&mut pair, &plain());
    pair.a.events();
    assert_eq!(writer(pair.a.outcome(other)), None);

    let described = description(&shape());
    pair.b
        .exchange
        .tell_shape(fingerprint, Some(&described), &mut pair.b.wire);
    pair.turn();
    let events = pair.a.events();
    assert!(
        matches!(&events[..], [Event::Ready(waiter), Event::ShapeCame(came)] if *waiter == call && *came == fingerprint),
        "{events:?}"
    );
    assert_eq!(writer(pair.a.outcome(call)), Some(shape()));
    assert_eq!(writer(pair.a.outcome(second)), Some(shape()));
    // From now on it is known.
    let third = unread(&mut pair, &reading());
    pair.a.events();
    assert_eq!(writer(pair.a.outcome(third)), Some(shape()));
    assert_eq!(pair.a.sent(), []);
}

#[test]
fn what_is_no_description_of_the_type_is_as_good_as_none() {
    let other = description(&Shape::of::<u8>().unwrap());
    let holds_itself = [0x16, 0, 1, 1, b'T', 0, 1, 0x16, 0];
    let too_long = vec![0; LONGEST + 1];
    let deep = [vec![0x10; 10_000], vec![0, 0]].concat();
    for nonsense in [&b""[..], b"\xff", &other, &holds_itself, &too_long, &deep] {
        let mut pair = Pair::new();
        let call = unread(&mut pair, &reading());
        tell(&mut pair, nonsense).unwrap();
        pair.a.events();
        assert_eq!(writer(pair.a.outcome(call)), None);
        // The answer stands.
        pair.a.take_sent();
        assert_eq!(
            pair.a.exchange.shape(shape().fingerprint(), &mut pair.a.wire),
            PeerShape::Unknown
        );
        assert_eq!(pair.a.sent(), []);
    }
}

#[test]
fn a_description_that_nobody_asked_for_is_a_breach() {
    let mut pair = Pair::new();
    let described = description(&shape());
    let unasked = Err(Breach::UnknownShape {
        shape: shape().fingerprint(),
    });
    assert_eq!(tell(&mut pair, &described), unasked);
    unread(&mut pair, &reading());
    tell(&mut pair, &described).unwrap();
    assert_eq!(tell(&mut pair, &described), unasked);
}

#[test]
fn a_call_that_waits_for_a_shape_can_be_given_up() {
    // By its deadline.
    let mut pair = Pair::new();
    let options = CallOptions {
        deadline: Some(5),
        ..reading()
    };
    let call = unread(&mut pair, &options);
    pair.a.exchange.handle_timeout(5, &mut pair.a.wire);
    pair.a.events();
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Deadline);
    // By its caller. Another call may have its number when the answer comes.
    let call = unread(&mut pair, &reading());
    pair.a
        .exchange
        .drop_call(call, CancelReason::Dropped, &mut pair.a.wire);
    assert_eq!(pair.a.tables().2, 0);
    let next = pair.a.call_root(&reading(), []);
    tell(&mut pair, &description(&shape())).unwrap();
    assert!(pair.a.poll(next).is_pending());
    // By the end of the session.
    let mut pair = Pair::new();
    let call = unread(&mut pair, &reading());
    let lost = Error::new(ErrorKind::Carrier, "gone");
    pair.a.exchange.sever(&lost, None, &pair.a.wire);
    let events = pair.a.events();
    assert!(
        events.iter().any(|event| matches!(event, Event::ShapeCame(_))),
        "{events:?}"
    );
    assert_eq!(pair.a.error(call).certainty(), Some(Certainty::Unknown));
    assert!(matches!(pair.a.poll(call), Poll::Ready(Outcome::Error(_))));
}

#[test]
fn a_peer_that_does_not_tell_is_not_asked() {
    let silent = ExchangeConfig {
        tells_shapes: false,
        ..ExchangeConfig::default()
    };
    for (a, b) in [
        (ExchangeConfig::default(), silent.clone()),
        (silent, ExchangeConfig::default()),
    ] {
        let mut pair = Pair::with(a, b);
        let call = unread(&mut pair, &reading());
        assert_eq!(pair.a.sent(), []);
        pair.a.events();
        assert_eq!(writer(pair.a.outcome(call)), None);
    }
}

#[test]
fn questions_are_counted_on_both_sides() {
    let mut pair = Pair::new();
    for fingerprint in 1..=1024 {
        assert_eq!(
            pair.a.exchange.shape(fingerprint, &mut pair.a.wire),
            PeerShape::Asked
        );
    }
    assert_eq!(pair.a.exchange.shape(1025, &mut pair.a.wire), PeerShape::Unknown);
    pair.turn();
    assert_eq!(pair.b.events().len(), 1024);
    assert_eq!(
        pair.b.receive_message(&Message::GetShape { shape: 1025 }, b""),
        Err(Breach::TooManyQuestions { limit: 1024 })
    );
}
