//! What is counted when: exports, imports, lent references, identity (PROTOCOL.md § 6).

use std::sync::Arc;

use farref_boxing::ErrorKind;

use super::super::stand_in::Thing;
use super::kit::{INTERFACE, Pair, home, import, object, piped, plain};
use crate::message::Message;
use crate::protocol::{Event, Outgoing, Received, Target};

#[test]
fn the_roots_are_shown_and_stay() {
    let mut pair = Pair::new();
    let root = pair.a.peer.take().unwrap();
    assert_eq!(
        (root.imported.id, root.imported.object, root.imported.interface),
        (0, 0, INTERFACE)
    );
    drop(root);
    pair.turn();
    assert_eq!((pair.a.tables(), pair.b.tables()), ((1, 0, 0, 0), (1, 1, 0, 0)));
    let (_, incoming) = pair.call_b(&plain(), []);
    assert_eq!(
        object(&incoming.target),
        (1, 0),
        "the root can be called without being held"
    );
}

#[test]
fn the_root_can_be_handed_out_like_any_object_and_keeps_its_number() {
    let mut pair = Pair::new();
    let root = Arc::clone(&pair.b.root);
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, [root.handed(INTERFACE, false)]);
    pair.turn();
    pair.a.events();
    let proxy = import(&pair.a.refs(call)[0]);
    assert!(
        Arc::ptr_eq(&proxy, pair.a.peer.as_ref().unwrap()),
        "one proxy for each import"
    );
    drop(proxy);
    pair.assert_empty();
}

#[test]
fn an_object_is_freed_when_its_last_copy_comes_back() {
    let mut pair = Pair::new();
    let (thing, proxy) = pair.object_of_b(5);
    assert_eq!((pair.b.tables().0, pair.a.tables().1), (2, 2));
    assert_eq!(Arc::strong_count(&thing), 2);
    drop(proxy);
    pair.a.take_drops();
    let exports = vec![(1, 1)].into();
    assert_eq!(pair.a.sent(), [Message::Release { exports }]);
    pair.b_reads();
    let events = pair.b.events();
    assert!(matches!(&events[..], [Event::Unexported(object)] if Arc::ptr_eq(object, &thing)));
    drop(events);
    assert_eq!(Arc::strong_count(&thing), 1);
    pair.assert_empty();
}

#[test]
fn a_release_gives_all_copies_back_at_once() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let mut proxies = Vec::new();
    for _ in 0..3 {
        let (call, incoming) = pair.call_b(&plain(), []);
        pair.b.answer(
            incoming.answer,
            [thing.handed(INTERFACE, false), thing.handed(INTERFACE, false)],
        );
        pair.a_reads();
        pair.a.events();
        proxies.extend(pair.a.refs(call).iter().map(import));
    }
    assert!(proxies.iter().all(|proxy| Arc::ptr_eq(proxy, &proxies[0])));
    drop(proxies);
    pair.a.take_drops();
    assert_eq!(
        pair.a.sent(),
        [Message::Release {
            exports: vec![(1, 6)].into()
        }]
    );
    pair.assert_empty();
}

#[test]
fn a_release_that_crosses_a_fresh_copy_does_not_free_the_object() {
    let mut pair = Pair::new();
    let (thing, proxy) = pair.object_of_b(5);
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    drop(proxy);
    pair.a.take_drops();
    pair.b_reads();
    assert!(pair.b.events().is_empty(), "one copy is on its way");
    pair.a_reads();
    pair.a.events();
    let proxy = import(&pair.a.refs(call)[0]);
    pair.a
        .try_call(Target::Import(proxy.imported.id), &plain(), b"", [])
        .unwrap();
    pair.b_reads();
    assert_eq!(object(&pair.b.one_call().target).0, 5);
}

#[test]
fn the_release_of_an_older_proxy_gives_nothing_back() {
    let mut pair = Pair::new();
    let (thing, old) = pair.object_of_b(5);
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    // The last handle dies, and its release waits while the object comes again.
    drop(old);
    pair.a_reads();
    pair.a.events();
    let young = import(&pair.a.refs(call)[0]);
    assert_eq!(young.imported.generation, 3, "the root was the first");
    pair.a.take_drops();
    assert!(pair.a.sent().is_empty());
    drop(young);
    pair.a.take_drops();
    assert_eq!(
        pair.a.sent(),
        [Message::Release {
            exports: vec![(1, 2)].into()
        }],
        "the younger holds both"
    );
    pair.assert_empty();
}

#[test]
fn a_release_that_comes_late_never_meets_an_entry_that_was_made_anew() {
    let mut pair = Pair::new();
    let (thing, first) = pair.object_of_b(5);
    let late = (first.imported.id, first.imported.generation);
    let again = |pair: &mut Pair| {
        let (call, incoming) = pair.call_b(&plain(), []);
        pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
        pair.a_reads();
        pair.a.events();
        import(&pair.a.refs(call)[0])
    };
    drop(first);
    // Two threads: one that dropped `first` is slow to say so.
    pair.a.marks.dropped.lock().unwrap().clear();
    drop(again(&mut pair));
    pair.turn();
    pair.b.events();
    let third = again(&mut pair);
    pair.a.exchange.release(late.0, late.1);
    pair.a.take_drops();
    assert!(pair.a.sent().is_empty());
    drop(third);
    pair.assert_empty();
}

#[test]
fn releases_ride_ahead_of_the_next_message_in_one_batch() {
    let mut pair = Pair::new();
    let (_first, a) = pair.object_of_b(5);
    let (_second, b) = pair.object_of_b(6);
    drop((a, b));
    for (import, generation) in std::mem::take(&mut *pair.a.marks.dropped.lock().unwrap()) {
        pair.a.exchange.release(import, generation);
    }
    assert!(pair.a.sent().is_empty() && pair.a.exchange.wants_flush(&pair.a.wire));
    pair.a.call_root(&plain(), []);
    let sent = pair.a.sent();
    assert!(matches!(&sent[..], [Message::Release { exports }, Message::Call(_)] if exports.len() == 2));
}

#[test]
fn many_releases_go_in_messages_that_every_peer_takes() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(
        incoming.answer,
        (0..500).map(|number| Thing::new(100 + number).handed(INTERFACE, false)),
    );
    pair.turn();
    pair.a.events();
    drop(pair.a.refs(call));
    pair.a.take_drops();
    assert!(pair.a.wire.queue.iter().all(|line| line.head.len() <= 1024));
    pair.assert_empty();
}

#[test]
fn a_reference_that_comes_home_is_the_object_itself() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&plain(), [thing.handed(INTERFACE, false)]);
    let proxy = import(&incoming.request.refs[0]);
    pair.b.answer(incoming.answer, [proxy.home(), proxy.home()]);
    pair.turn();
    pair.a.events();
    let refs = pair.a.refs(call);
    assert!(refs.iter().all(|received| Arc::ptr_eq(&home(received), &thing)));
    drop((refs, proxy, incoming));
    pair.assert_empty();
}

#[test]
fn one_object_under_two_interfaces_is_two_exports_with_one_object_number() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&plain(), []);
    let handed = [7, 8, 7, 9].map(|interface| thing.handed(interface, false));
    pair.b.answer(incoming.answer, handed);
    pair.turn();
    pair.a.events();
    let refs = pair.a.refs(call);
    let known = |received| {
        let imported = import(received).imported;
        (imported.id, imported.object, imported.interface)
    };
    let known: Vec<_> = refs.iter().map(known).collect();
    assert_eq!(known, [(1, 1, 7), (2, 1, 8), (1, 1, 7), (3, 1, 9)]);
    // The first goes; the object keeps its number as long as any of them is there.
    let Received::Import(kept) = refs[1].clone() else {
        panic!()
    };
    drop(refs);
    pair.turn();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, [thing.handed(7, false)]);
    pair.turn();
    pair.a.events();
    let again = import(&pair.a.refs(call)[0]);
    assert_eq!(again.imported.object, 1);
    assert!(
        !(1..=3).contains(&again.imported.id),
        "export numbers are not used again"
    );
    let before = again.imported.id;
    drop((kept, again));
    pair.assert_empty();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b.answer(incoming.answer, [thing.handed(7, false)]);
    pair.turn();
    pair.a.events();
    let last = import(&pair.a.refs(call)[0]).imported.object;
    assert!(
        !(1..=3).contains(&last) && last != before,
        "and neither are those of objects"
    );
}

#[test]
fn what_is_lent_stays_until_the_call_returns() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&piped(), [thing.handed(INTERFACE, true)]);
    // The callee keeps it at once, and lets it go before the call is over.
    assert!(matches!(pair.b.sent()[..], [Message::Retain { export: 1 }]));
    drop(incoming.request.refs);
    pair.b.take_drops();
    pair.a.drop_call(call);
    pair.a_reads();
    assert_eq!(
        pair.a.tables().0,
        2,
        "the call still lends it, though it is cancelled"
    );
    pair.turn();
    drop((pair.a.events(), pair.b.events()));
    assert_eq!(Arc::strong_count(&thing), 1);
    pair.assert_empty();
}

#[test]
fn what_was_lent_and_kept_outlives_the_call() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&plain(), [thing.handed(INTERFACE, true)]);
    let kept = import(&incoming.request.refs[0]);
    pair.b.answer(incoming.answer, []);
    drop(incoming.request.refs);
    pair.turn();
    pair.a.events();
    pair.a.outcome(call);
    assert_eq!(pair.a.tables().0, 2);
    drop(kept);
    pair.turn();
    drop(pair.a.events());
    assert_eq!(Arc::strong_count(&thing), 1);
    pair.assert_empty();
}

#[test]
fn a_result_is_never_lent() {
    let mut pair = Pair::new();
    let (call, incoming) = pair.call_b(&plain(), []);
    pair.b
        .answer(incoming.answer, [Thing::new(5).handed(INTERFACE, true)]);
    pair.turn();
    pair.a.events();
    drop(pair.a.refs(call));
    pair.assert_empty();
}

#[test]
fn no_reference_is_counted_for_a_message_that_is_not_sent() {
    let mut pair = Pair::new();
    let (thing, lent) = (Thing::new(5), Thing::new(6));
    let refs = || [thing.handed(INTERFACE, false), lent.handed(INTERFACE, true)];
    let long = vec![0; 1 << 20];
    let error = pair
        .a
        .try_call(Target::Import(0), &plain(), &long, refs())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    pair.a.wire.closed = true;
    let error = pair
        .a
        .try_call(Target::Import(0), &plain(), b"", refs())
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Disconnected(farref_boxing::Certainty::NotSent)
    );
    pair.a.wire.closed = false;
    drop(pair.a.events());
    assert_eq!((Arc::strong_count(&thing), Arc::strong_count(&lent)), (1, 1));
    pair.assert_empty();
}

#[test]
fn a_result_that_is_too_long_fails_the_call_and_hands_nothing_out() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b.answer_with(
        incoming.answer,
        &vec![0; 1 << 20],
        [thing.handed(INTERFACE, false), Outgoing::Null],
    );
    pair.turn();
    drop((pair.a.events(), pair.b.events()));
    assert_eq!(pair.a.error(call).kind(), ErrorKind::Limit);
    assert_eq!(Arc::strong_count(&thing), 1);
    pair.assert_empty();
}

#[test]
fn results_that_are_kept_for_calls_on_them_are_let_go_with_the_finish() {
    let mut pair = Pair::new();
    let thing = Thing::new(5);
    let (call, incoming) = pair.call_b(&piped(), []);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    assert_eq!(
        Arc::strong_count(&thing),
        3,
        "the test, the export, and the result that is kept"
    );
    pair.turn();
    pair.a.events();
    let proxy = import(&pair.a.refs(call)[0]);
    pair.turn();
    drop(pair.b.events());
    assert_eq!(Arc::strong_count(&thing), 2);
    drop(proxy);
    pair.assert_empty();
}

#[test]
fn what_is_held_takes_little_memory() {
    use super::super::{exports, imports};
    const { assert!(exports::ENTRY <= 36 && imports::ENTRY <= 24) }
}
