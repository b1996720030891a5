//! Peers that break a rule of the exchange.

use farref::message::{Descriptor, Message, Target};
use farref::protocol::{CancelReason, Chain};
use farref_framing::{CloseReason, Role};
use farref_integration_tests::bench::{Bench, Counter};
use farref_integration_tests::raw_peer::{Heard, RawPeer, answer, call, hello, hello_with};

use super::{House, keep, message, mine};

#[test]
fn a_peer_that_breaks_a_rule_of_the_exchange_is_told_which() {
    let house = House::new();
    let counter = |number| message(call::<dyn Bench>(number, 0, "counter"));
    house.refuses("a second hello", "second hello", |peer| peer.say(&hello()));
    house.refuses("an unknown kind", "0x6f", |peer| peer.say_bytes(&[0x6f], b""));
    house.refuses("an empty message", "message", |peer| peer.say_bytes(&[], b""));
    house.refuses("a call out of turn", "call 2 where 1 was due", |peer| {
        peer.say(&counter(2))
    });
    house.refuses("a call twice", "call 1 where 2 was due", |peer| {
        peer.say(&counter(1));
        peer.say(&counter(1));
    });
    house.refuses("a call on an export that never was", "export 77", |peer| {
        peer.say(&message(call::<dyn Bench>(1, 77, "counter")));
    });
    house.refuses(
        "a call on the result of a call that never was",
        "call 9",
        |peer| {
            let mut on = call::<dyn Counter>(1, 0, "next");
            on.target = Target::Answer { call: 9, slot: 0 };
            peer.say(&message(on));
        },
    );
    house.refuses("a return for no call", "call 5", |peer| peer.say(&answer(5, [])));
    house.refuses("a cancel for no call", "call 5", |peer| {
        peer.say(&Message::Cancel {
            call: 5,
            reason: CancelReason::Dropped,
        });
    });
    house.refuses("a finish for no call", "call 5", |peer| {
        peer.say(&Message::Finish { call: 5 })
    });
    house.refuses("a second finish", "call 1", |peer| {
        peer.say(&counter(1));
        peer.answer_to(1);
        peer.say(&Message::Finish { call: 1 });
        peer.say(&Message::Finish { call: 1 });
    });
    house.refuses("a finish before the return", "call 1", |peer| {
        peer.say(&message(call::<dyn Bench>(1, 0, "slow_counter")));
        peer.say(&Message::Finish { call: 1 });
    });
    house.refuses("a release of what was not handed out", "export 3", |peer| {
        peer.say(&Message::Release {
            exports: vec![(3, 1)].into(),
        });
    });
    house.refuses("a release of too many", "2 copies of export 1", |peer| {
        peer.say(&counter(1));
        peer.answer_to(1);
        peer.say(&Message::Release {
            exports: vec![(1, 2)].into(),
        });
    });
    house.refuses("a release of what is gone", "export 1", |peer| {
        peer.say(&counter(1));
        peer.answer_to(1);
        peer.say(&Message::Release {
            exports: vec![(1, 1)].into(),
        });
        peer.say(&Message::Finish { call: 1 });
        peer.say(&Message::Release {
            exports: vec![(1, 1)].into(),
        });
    });
    house.refuses("a retain of what is not lent", "export 1", |peer| {
        peer.say(&counter(1));
        peer.answer_to(1);
        peer.say(&Message::Retain { export: 1 });
    });
    house.refuses("a home that never was", "export 12", |peer| {
        peer.say(&keep(1, Descriptor::Home { export: 12 }))
    });
    house.refuses("an acknowledgement that nobody asked for", "flush 1", |peer| {
        peer.say(&Message::FlushAck { flush: 1 });
    });
    house.refuses("a flush of no call", "call 3", |peer| {
        peer.say(&Message::Flush { flush: 1, call: 3 })
    });
    house.refuses("an export described in two ways", "export 1", |peer| {
        let mut two = call::<dyn Bench>(1, 0, "keep");
        two.descriptors = [Descriptor::Owned(mine(1, 1)), Descriptor::Owned(mine(1, 2))]
            .into_iter()
            .collect();
        peer.say(&message(two));
    });
    house.refuses("a body for a message that has none", "message", |peer| {
        peer.say_bytes(&[0x05, 0x01], &[0; 20_000]);
    });
    house.refuses("bytes behind a message", "message", |peer| {
        peer.say_bytes(&[0x05, 0x01, 0x00], b"")
    });
    house.refuses("a number longer than it need be", "shortest form", |peer| {
        peer.say_bytes(&[0x05, 0xfb, 0x01, 0x00], b"");
    });
    house.refuses("more calls than declared", "more than 20 calls", |peer| {
        for number in 1..=21 {
            peer.say(&message(call::<dyn Bench>(number, 0, "slow_counter")));
        }
    });
    house.refuses("more references than declared", "more than", |peer| {
        let mut many = call::<dyn Bench>(1, 0, "keep");
        many.descriptors = (1..=101)
            .map(|number| Descriptor::Owned(mine(number, number)))
            .collect();
        peer.say(&message(many));
    });
    house.refuses("more results kept than declared", "more than", |peer| {
        for number in 1..=300 {
            peer.say(&counter(number));
            if number <= 100 {
                peer.answer_to(number);
            }
        }
    });
}

#[test]
fn a_message_cut_anywhere_is_a_breach_and_never_a_panic() {
    let house = House::new();
    let mut rich = call::<dyn Bench>(1, 0, "keep");
    rich.descriptors = [
        Descriptor::Owned(mine(300, 70_000)),
        Descriptor::Home { export: 0 },
    ]
    .into_iter()
    .collect();
    rich.time_left = Some(1 << 40);
    rich.options.chain = Some(Chain::new(u128::MAX, 300));
    rich.options.hops = 3;
    rich.priority = Some(1);
    rich.options.trace = Some(Box::new([7; 25]));
    let messages = [
        message(rich),
        hello(),
        Message::Release {
            exports: vec![(1, 300), (70_000, 1)].into(),
        },
        Message::Cancel {
            call: 1,
            reason: CancelReason::Upstream,
        },
        Message::Abort {
            code: 70,
            text: "text".into(),
        },
        answer(300, [Descriptor::Owned(mine(1, 1))]),
    ];
    for whole in messages {
        let mut bytes = Vec::new();
        whole.encode(&mut bytes);
        for cut in 1..bytes.len() {
            let mut peer = house.peer();
            peer.say_bytes(&bytes[..cut], b"");
            let reason = peer.ending();
            assert_eq!(
                reason.code,
                CloseReason::BREACH,
                "{whole:?} cut at {cut}: {reason}"
            );
        }
    }
    house.stands();
}

#[test]
fn a_foreign_hello_is_refused() {
    let house = House::new();
    for (what, root, version) in [
        ("a version that does not exist", Descriptor::Null, 0),
        ("a root that is ours", Descriptor::Home { export: 0 }, 1),
        ("a promise as a root", Descriptor::Answer { call: 1, slot: 0 }, 1),
        ("a lent root", Descriptor::Borrowed(mine(0, 0)), 1),
    ] {
        let stream = std::os::unix::net::UnixStream::connect(&house.path).unwrap();
        let mut peer = RawPeer::new(stream, Role::Dialer);
        let mut message = hello_with(root);
        if let Message::Hello(hello) = &mut message {
            hello.version = version;
        }
        peer.say(&message);
        let reason = peer.ending();
        assert_eq!(reason.code, CloseReason::BREACH, "{what}: {reason}");
        house.stands();
    }
    // A later version is spoken down to.
    let stream = std::os::unix::net::UnixStream::connect(&house.path).unwrap();
    let mut peer = RawPeer::new(stream, Role::Dialer);
    let mut message_of = hello();
    if let Message::Hello(hello) = &mut message_of {
        hello.version = 99;
    }
    peer.say(&message_of);
    peer.say_with(&message(call::<dyn Bench>(1, 0, "add")), &[1, 2]);
    assert_eq!(peer.answer_to(1).1, &[3][..]);
    peer.close();
    house.stands();
}

#[test]
fn nothing_but_the_hello_comes_first() {
    let house = House::new();
    let stream = std::os::unix::net::UnixStream::connect(&house.path).unwrap();
    let mut peer = RawPeer::new(stream, Role::Dialer);
    peer.say(&message(call::<dyn Bench>(1, 0, "add")));
    let reason = peer.ending();
    assert_eq!(reason.code, CloseReason::BREACH);
    assert!(reason.text.contains("before the hello"), "{reason}");
    house.stands();
}

/// PROTOCOL.md § 5.6.
#[test]
fn a_peer_that_asks_for_shapes_without_end_is_told_so() {
    let house = House::new();
    let stream = std::os::unix::net::UnixStream::connect(&house.path).unwrap();
    let mut peer = RawPeer::new(stream, Role::Dialer);
    let mut hello = hello();
    if let Message::Hello(hello) = &mut hello {
        hello.features = 1;
    }
    peer.say(&hello);
    for shape in 0..=1024 {
        peer.say(&Message::GetShape { shape });
    }
    let reason = peer.ending();
    assert_eq!(reason.code, CloseReason::BREACH, "{reason}");
    assert!(reason.text.contains("1024 questions"), "{reason}");
    house.stands();
    let body = Message::Shape { shape: 7 };
    house.refuses("a shape that nobody asked for", "was not asked for", |peer| {
        peer.say(&body)
    });
}

/// PROTOCOL.md § 5.6.
#[test]
fn a_drain_is_answered_with_one() {
    let house = House::new();
    let mut peer = house.peer();
    peer.say(&Message::Drain);
    loop {
        match peer.hear() {
            Heard::Message(Message::Drain, _) => break,
            Heard::Message(..) | Heard::Body(_) => {}
            other => panic!("no drain, but {other:?}"),
        }
    }
    peer.close();
    house.stands();
}

/// Marks and descriptors that do not exist (PROTOCOL.md § 5.2 to § 5.4).
#[test]
fn what_is_not_drawn_is_refused() {
    let house = House::new();
    let mut plain = Vec::new();
    message(call::<dyn Bench>(1, 0, "add")).encode(&mut plain);
    let mut marked = plain.clone();
    marked.splice(2..3, [0xfb, 0, 0x40]); // mark 14
    house.refuses("a mark that is not drawn", "", |peer| {
        peer.say_bytes(&marked, &[1, 2])
    });
    house.refuses("a verdict that is none", "", |peer| {
        peer.say(&message(call::<dyn Bench>(1, 0, "add")));
        peer.say_bytes(&[3, 1, 3], b"");
    });
    for mark in [6, 7] {
        house.refuses("a mark of a return that is not drawn", "", |peer| {
            peer.say_bytes(&[3, 1, 1 << mark], b"");
        });
    }
    house.refuses("a descriptor that is not drawn", "", |peer| {
        let mut with = Vec::new();
        keep(1, Descriptor::Null).encode(&mut with);
        *with.last_mut().unwrap() = 6;
        peer.say_bytes(&with, &[0]);
    });
    house.refuses("a lent reference that was not lent", "not lent", |peer| {
        let mut counter = call::<dyn Bench>(1, 0, "counter");
        counter.options.no_pipeline = true;
        peer.say(&message(counter));
        peer.answer_to(1);
        peer.say(&Message::Retain { export: 1 });
    });
}
