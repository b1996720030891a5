//! What is noted of references and calls, where somebody asked for it.

use super::super::ExchangeConfig;
use super::super::stand_in::Thing;
use super::kit::{INTERFACE, Pair, import, plain};
use crate::protocol::Event;

#[test]
fn nothing_is_noted_unless_somebody_asked() {
    let mut pair = Pair::new();
    let (_thing, proxy) = pair.object_of_b(5);
    let tables = pair.b.exchange.tables(10);
    assert_eq!(tables.exports.len(), 2);
    assert!(
        tables
            .exports
            .iter()
            .all(|held| held.since.is_none() && held.origin.is_none())
    );
    assert!(tables.calls.is_empty() && tables.answers.is_empty());
    drop(proxy);
    pair.assert_empty();
}

#[test]
fn since_when_by_which_method_and_when_last_used() {
    let mut pair = Pair::new();
    for side in [&mut pair.a, &mut pair.b] {
        side.exchange.track();
        side.now = 100;
    }
    let (thing, proxy) = pair.object_of_b(5);
    for side in [&mut pair.a, &mut pair.b] {
        side.now = 200;
    }
    // Once more by another call: first and last are told apart.
    let (call, incoming) = pair.call_b(&plain(), []);
    assert_eq!(pair.a.exchange.tables(10).calls.len(), 1);
    assert_eq!(pair.b.exchange.tables(10).answers[0].since, 200);
    pair.b.answer(incoming.answer, [thing.handed(INTERFACE, false)]);
    pair.a_reads();
    pair.a.events();
    drop(pair.a.refs(call));
    let (a, b) = (pair.a.exchange.tables(10), pair.b.exchange.tables(10));
    for held in [
        a.imports.iter().find(|held| held.number != 0).unwrap(),
        b.exports.iter().find(|held| held.number != 0).unwrap(),
    ] {
        assert_eq!((held.copies, held.since, held.used), (2, Some(100), Some(200)));
        assert!(held.origin.is_some());
    }
    assert!(a.calls.is_empty() && b.answers.is_empty());
    assert_eq!(
        pair.b.exchange.tables(1).exports.len(),
        1,
        "no more rows than were asked for"
    );
    drop(proxy);
    pair.assert_empty();
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut pair = Pair::new();
    for side in [&mut pair.a, &mut pair.b] {
        side.exchange.track();
    }
    for number in 10..1000 {
        drop(pair.object_of_b(number));
        pair.turn();
        pair.b.events();
    }
    for side in [&pair.a, &pair.b] {
        let marks = side.exchange.marks();
        assert!(marks.iter().all(|marks| *marks <= 70), "{marks:?}");
    }
    pair.assert_empty();
}

#[test]
fn a_peer_that_holds_much_is_told_of_once() {
    let config = ExchangeConfig {
        warn_at_exports: 3,
        ..ExchangeConfig::default()
    };
    let mut pair = Pair::with(ExchangeConfig::default(), config);
    let mut proxies = Vec::new();
    let mut told = Vec::new();
    for number in 10..20 {
        let (call, incoming) = pair.call_b(&plain(), []);
        pair.b
            .answer(incoming.answer, [Thing::new(number).handed(INTERFACE, false)]);
        pair.a_reads();
        pair.a.events();
        proxies.push(import(&pair.a.refs(call)[0]));
        for event in pair.b.events() {
            if let Event::Crowded { exports } = event {
                told.push(exports);
            }
        }
    }
    assert_eq!(told, [4]);
    proxies.clear();
    pair.assert_empty();
}
