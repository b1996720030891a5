//! The end of a session: every call has one truthful outcome, and nothing is held any more (PROTOCOL.md § 8.5).

use std::sync::Arc;

use farref_boxing::{Certainty, Error, ErrorKind};

use super::super::ExchangeConfig;
use super::super::stand_in::Thing;
use super::kit::{INTERFACE, Pair, Side, body, import, piped, plain};
use crate::message::Message;
use crate::protocol::{CallOptions, Event, Target};

fn sever(side: &mut Side, received: Option<u64>) {
    let error = Error::new(ErrorKind::Carrier, "the cable was pulled");
    side.exchange.sever(&error, received, &side.wire);
    side.wire.closed = true;
}

fn certainty(side: &mut Side, call: u64) -> Certainty {
    let error = side.error(call);
    assert_eq!(error.message(), "the cable was pulled");
    error.certainty().unwrap()
}

#[test]
fn calls_that_are_cut_off_are_told_whether_they_were_sent() {
    let mut pair = Pair::with(
        ExchangeConfig::default(),
        ExchangeConfig {
            max_calls: 4,
            ..ExchangeConfig::default()
        },
    );
    let calls: Vec<u64> = (0..6).map(|_| pair.a.call_root(&plain(), [])).collect();
    // Four were taken by the wire, two of them written, one of those read by the peer.
    pair.a.wire.written += 2;
    let line = pair.a.wire.queue.pop_front().unwrap();
    pair.b.receive(&line).unwrap();
    let read = pair.a.wire.written - 1;
    sever(&mut pair.a, Some(read));
    pair.a.events();
    let told = calls.map_certainty(&mut pair.a);
    use Certainty::{NotExecuted, NotSent, Unknown};
    assert_eq!(told, [Unknown, NotExecuted, NotSent, NotSent, NotSent, NotSent]);
    assert_eq!(pair.a.tables(), (0, 0, 0, 0));
}

trait MapCertainty {
    fn map_certainty(self, side: &mut Side) -> Vec<Certainty>;
}

impl MapCertainty for Vec<u64> {
    fn map_certainty(self, side: &mut Side) -> Vec<Certainty> {
        self.into_iter().map(|call| certainty(side, call)).collect()
    }
}

#[test]
fn an_outcome_that_is_here_can_still_be_taken() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, []);
    pair.a_reads();
    sever(&mut pair.a, None);
    assert!(
        pair.a
            .events()
            .iter()
            .any(|event| matches!(event, Event::Unexported(_)))
    );
    assert_eq!(body(&pair.a.outcome(call)), "result");
    assert_eq!(pair.a.tables(), (0, 0, 0, 0));
}

#[test]
fn whoever_waits_is_woken_and_whoever_does_not_is_not() {
    let mut pair = Pair::new();
    let (waiting, _) = pair.call_b(&plain(), []);
    let (idle, _) = pair.call_b(&piped(), []);
    let (dropped, _) = pair.call_b(&plain(), []);
    let _ = pair.a.poll(waiting);
    pair.a.drop_call(dropped);
    sever(&mut pair.a, None);
    let ready: Vec<_> = pair
        .a
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::Ready(_)))
        .collect();
    assert!(matches!(ready[..], [Event::Ready(waiter)] if waiter == waiting));
    assert_eq!(certainty(&mut pair.a, waiting), Certainty::Unknown);
    pair.a.drop_call(idle);
    assert_eq!(pair.a.tables(), (0, 0, 0, 0));
}

#[test]
fn methods_of_a_lost_caller_are_given_up_unless_they_are_detached() {
    let mut pair = Pair::new();
    let (_, first) = pair.call_b(&piped(), []);
    let (_, _detached) = pair.call_b(
        &CallOptions {
            detached: true,
            ..plain()
        },
        [],
    );
    let (parent, _) = pair.call_b(&piped(), []);
    pair.a.call_result(parent, 0);
    pair.b_reads();
    sever(&mut pair.b, None);
    let cancelled: Vec<u64> = pair
        .b
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Cancelled { answer, .. } => Some(answer),
            _ => None,
        })
        .collect();
    assert_eq!(cancelled, [first.answer, 3], "the call on a result never started");
    pair.b
        .answer(first.answer, [Thing::new(3).handed(INTERFACE, false)]);
    assert_eq!(pair.b.tables(), (0, 0, 0, 0));
}

#[test]
fn everything_that_was_held_for_the_peer_is_let_go() {
    let mut pair = Pair::new();
    let (thing, proxy) = pair.object_of_b(4);
    let (_, incoming) = pair.call_b(&piped(), []);
    pair.b.answer(incoming.answer, [thing.handed(8, false)]);
    drop(incoming);
    let lent = Thing::new(6);
    pair.b.call_root(&plain(), [lent.handed(INTERFACE, true)]);
    sever(&mut pair.b, None);
    drop(pair.b.events());
    assert_eq!((Arc::strong_count(&thing), Arc::strong_count(&lent)), (1, 1));
    assert_eq!(Arc::strong_count(&pair.b.root), 1);
    drop(proxy);
}

#[test]
fn nothing_goes_on_after_the_end() {
    let mut pair = Pair::new();
    let (_, incoming) = pair.call_b(&plain(), []);
    let proxy = pair.b.peer.take().unwrap();
    sever(&mut pair.b, None);
    sever(&mut pair.b, None);
    drop(pair.b.events());
    let error = pair.b.try_call(Target::Import(0), &plain(), b"", []).unwrap_err();
    assert_eq!(error.certainty(), Some(Certainty::NotSent));
    pair.b.answer(incoming.answer, []);
    drop(proxy);
    pair.b.take_drops();
    pair.b.exchange.drain(&mut pair.b.wire);
    pair.b.exchange.handle_timeout(u64::MAX, &mut pair.b.wire);
    pair.b
        .receive_message(&Message::Finish { call: 77 }, b"")
        .unwrap();
    assert!(pair.b.events().is_empty() && pair.b.wire.queue.is_empty());
}

#[test]
fn a_result_that_waits_for_its_flush_is_lost_with_the_calls_it_waits_for() {
    let mut pair = Pair::new();
    let thing = Thing::new(20);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, false)]);
    let child = pair.a.call_result(call, 0);
    pair.b_reads();
    pair.b
        .answer(incoming.answer, [import(&incoming.request.refs[0]).home()]);
    pair.a_reads();
    pair.a.events();
    sever(&mut pair.a, None);
    drop(pair.a.events());
    assert_eq!(certainty(&mut pair.a, call), Certainty::Unknown);
    assert_eq!(certainty(&mut pair.a, child), Certainty::Unknown);
    assert_eq!(Arc::strong_count(&thing), 1);
    assert_eq!(pair.a.tables(), (0, 0, 0, 0));
}

#[test]
fn a_call_that_was_lost_further_on_before_it_started_was_not_executed() {
    let mut pair = Pair::new();
    for (started, expected) in [(false, Certainty::NotExecuted), (true, Certainty::Unknown)] {
        let (call, incoming) = pair.call_b(&plain(), []);
        let error = Error::from(ErrorKind::Disconnected(Certainty::Unknown));
        let reply = crate::protocol::Reply::Error { error, started };
        pair.b.exchange.answer(incoming.answer, reply, &mut pair.b.wire);
        pair.a_reads();
        pair.a.events();
        assert_eq!(pair.a.error(call).certainty(), Some(expected));
    }
}
