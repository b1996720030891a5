//! Each MUST of PROTOCOL.md, broken by a peer in turn: one clear error, and nobody else notices.

use std::future::IntoFuture;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use bytes::Bytes;
use farref::message::{Descriptor, Handed, Message, Operation, Return, Target, UnknownOperation, Verdict};
use farref::protocol::{CancelReason, Chain};
use farref::{Certainty, Config, ErrorKind, Fixed, Netref, Server, ServerLimits, connect, transport::Media};
use farref_framing::{CloseReason, Role};
use farref_integration_tests::bench::{Bench, Count, Counter, Named, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::raw_peer::{Heard, RawPeer, answer, call, hello, hello_with, root_of};

/// A server with an honest client and its tight limits.
struct House {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    honest: Netref<dyn Bench>,
    path: PathBuf,
    /// Dropped, it would open.
    _gate: tokio::sync::watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let mut config = Config::default();
        config.max_calls = 20;
        config.max_call_bytes = 1 << 20;
        config.max_objects = 100;
        config.max_depth = 10;
        config.limits.message = 1 << 20;
        config.limits.backlog = 8 << 20;
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = format!("unix:{}", path.display());
        let (rig, _, gate) = Rig::new();
        let root = Fixed::new::<dyn Bench>(rig);
        let server = Server::with(root, config, ServerLimits::default(), Media::standard());
        let honest = runtime.block_on(async {
            within(server.listen(&address)).await.unwrap();
            let client = within(connect(&address).into_future()).await.unwrap();
            within(client.root()).await.unwrap()
        });
        Self {
            runtime,
            server: Some(server),
            honest,
            path,
            _gate: gate,
            _directory: directory,
        }
    }

    fn peer(&self) -> RawPeer {
        RawPeer::dial(&self.path)
    }

    /// Nobody else has noticed anything, and whoever came is gone.
    fn stands(&self) {
        let sum = self.runtime.block_on(within(self.honest.call().add(20, 22)));
        assert_eq!(sum.unwrap(), 42);
        let server = self.server.as_ref().unwrap();
        self.runtime.block_on(within(
            server.wait_for(|stats| stats.connections == 1 && stats.opening == 0),
        ));
    }

    /// The peer did something that ends its connection, and hears why.
    fn refuses(&self, what: &str, says: &str, act: impl FnOnce(&mut RawPeer)) {
        println!("{what}");
        let mut peer = self.peer();
        act(&mut peer);
        let reason = peer.ending();
        assert_eq!(reason.code, CloseReason::BREACH, "{what}: {reason}");
        assert!(reason.text.contains(says), "{what}: {reason}");
        self.stands();
    }
}

fn message(of: farref::message::Call<'static>) -> Message<'static> {
    Message::Call(of)
}

/// A call of a method that takes one reference.
fn keep(number: u64, descriptor: Descriptor) -> Message<'static> {
    let mut keep = call::<dyn Bench>(number, 0, "keep");
    keep.descriptors = [descriptor].into_iter().collect();
    message(keep)
}

const fn mine(export: u64, object: u64) -> Handed {
    Handed {
        export,
        object,
        interface: <dyn Counter as farref::RemoteTrait>::INTERFACE.id,
    }
}

/// The first reference of a message.
const FIRST: &[u8] = &[0];

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
    rich.options.chain = Some(Chain {
        id: u128::MAX,
        depth: 300,
    });
    rich.options.hops = 3;
    rich.priority = Some(1);
    rich.options.trace = Some([7; 25]);
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

/// Makes calls that fail.
struct Failing {
    peer: RawPeer,
    number: u64,
}

impl Failing {
    /// The call fails as `kind`; the text of its error.
    fn fails(&mut self, of: farref::message::Call<'static>, body: &[u8], kind: ErrorKind) -> String {
        self.number += 1;
        let of = farref::message::Call {
            call: self.number,
            ..of
        };
        self.peer.say_with(&message(of), body);
        let (verdict, body) = self.peer.answer_to(self.number);
        assert!(matches!(verdict, Verdict::Fault { .. }), "{verdict:?}");
        let error: farref::Error =
            farref_boxing::decode(&body, &[], &farref_boxing::DecodeLimits::default()).unwrap();
        assert_eq!(error.kind(), kind, "{error:?}");
        error.to_string()
    }
}

/// Operations by name that are not there, or whose arguments are not what they should be.
fn by_name() -> Vec<(farref::protocol::Op, &'static [u8], ErrorKind)> {
    use farref::protocol::Op;
    let named = |name: &str| Op::Named(name.into());
    let huge = &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    vec![
        (Op::Len, b"", ErrorKind::Unimplemented),
        (Op::Enter, b"", ErrorKind::Unimplemented),
        (Op::Get("x".into()), b"", ErrorKind::Unimplemented),
        (Op::Set("x".into()), b"", ErrorKind::Unimplemented),
        (Op::Delete("add".into()), b"", ErrorKind::Unimplemented),
        (named("no"), b"", ErrorKind::Unimplemented),
        (named("Counter.next"), &[0, 0], ErrorKind::Unimplemented),
        // No arguments where two are wanted, numbers that are none, too many, and twice the same.
        (named("add"), &[0, 0], ErrorKind::SchemaMismatch),
        (
            named("add"),
            &[2, 1, 0x91, 0, 2, 0x41, b'a', 0, 0],
            ErrorKind::SchemaMismatch,
        ),
        (
            named("add"),
            &[3, 1, 0x91, 0, 1, 0x91, 0, 1, 0x91, 0, 0],
            ErrorKind::SchemaMismatch,
        ),
        (
            named("add"),
            &[1, 1, 0x91, 0, 1, 1, b'a', 1, 0x91, 0],
            ErrorKind::SchemaMismatch,
        ),
        // What is no list of values: nothing, the arguments of a call by number, counts without end, a broken value,
        // a reference that is not in the table, and more than there should be.
        (named("add"), b"", ErrorKind::Malformed),
        (named("add"), &[1, 2], ErrorKind::Malformed),
        (named("add"), huge, ErrorKind::Malformed),
        (
            named("add"),
            &[0, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ErrorKind::Malformed,
        ),
        (named("add"), &[1, 1, 0x1f, 0, 0], ErrorKind::Malformed),
        (named("add"), &[1, 2, 0x07, 3, 0, 0], ErrorKind::Malformed),
        (named("add"), &[0, 0, 0], ErrorKind::Malformed),
        // Questions without what belongs to them.
        (Op::Index, b"", ErrorKind::Malformed),
        (Op::Compare, &[1], ErrorKind::Malformed),
        (Op::Iterate, &[0], ErrorKind::Malformed),
        (Op::Iterate, &[0, 1, 1], ErrorKind::Malformed),
    ]
}

#[test]
fn what_fails_without_being_a_breach_fails_alone() {
    let house = House::new();
    let mut failing = Failing {
        peer: house.peer(),
        number: 0,
    };
    // Arguments that are none, too few, and too many.
    let add = call::<dyn Bench>(0, 0, "add");
    for body in [&b""[..], &[1], &[1, 2, 3], &[0xff, 0xff], &[0xfd; 40]] {
        failing.fails(add.clone(), body, ErrorKind::Malformed);
    }
    // Arguments that claim to be more than there is memory.
    let bytes = call::<dyn Bench>(0, 0, "bytes");
    failing.fails(
        bytes,
        &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ErrorKind::Malformed,
    );
    // A reference that is not in the table, and a table that nobody reads.
    failing.fails(call::<dyn Bench>(0, 0, "keep"), &[5], ErrorKind::Malformed);
    let mut unread = call::<dyn Bench>(0, 0, "add");
    unread.descriptors = [Descriptor::Owned(mine(1, 1))].into_iter().collect();
    failing.fails(unread, b"", ErrorKind::Malformed);
    assert_eq!(failing.peer.released(1), 1, "it is given back");
    // Methods and operations that are not there, or not allowed.
    let mut other_shape = call::<dyn Bench>(0, 0, "add");
    let Operation::Known(op) = &other_shape.operation else {
        unreachable!()
    };
    let mut op = op.clone().into_owned();
    if let farref::protocol::Op::Method { shape, .. } = &mut op {
        *shape ^= 1;
    }
    other_shape.operation = Operation::Known(std::borrow::Cow::Owned(op));
    let text = failing.fails(other_shape, &[1, 2], ErrorKind::SchemaMismatch);
    assert!(text.contains("a: u64, b: u64"), "it says what is taken: {text}");
    let text = failing.fails(call::<dyn Counter>(0, 0, "next"), b"", ErrorKind::Denied);
    assert!(text.contains("Bench"), "{text}");
    let mut unknown = call::<dyn Bench>(0, 0, "add");
    unknown.operation = Operation::Unknown(UnknownOperation { code: 99 });
    failing.fails(unknown, b"", ErrorKind::Unimplemented);
    for (op, body, kind) in by_name() {
        let mut of = call::<dyn Bench>(0, 0, "add");
        of.operation = Operation::Known(std::borrow::Cow::Owned(op));
        failing.fails(of, body, kind);
    }
    // On its own result, on one that is not kept, and on a slot that is not there.
    let mut own = call::<dyn Counter>(0, 0, "next");
    own.target = Target::Answer {
        call: failing.number + 1,
        slot: 0,
    };
    failing.fails(own, b"", ErrorKind::Loop);
    let mut on_failed = call::<dyn Counter>(0, 0, "next");
    on_failed.target = Target::Answer { call: 1, slot: 0 };
    failing.fails(on_failed, b"", ErrorKind::Broken);
    // Too deep, and around in circles.
    let mut deep = call::<dyn Bench>(0, 0, "add");
    deep.options.chain = Some(Chain { id: 1, depth: 11 });
    failing.fails(deep, &[1, 2], ErrorKind::Loop);
    let mut far = call::<dyn Bench>(0, 0, "add");
    far.options.hops = 33;
    failing.fails(far, &[1, 2], ErrorKind::Loop);
    // A promise as an argument, and streams: places that later versions fill.
    let mut promise = call::<dyn Bench>(0, 0, "keep");
    promise.descriptors = [Descriptor::Answer { call: 1, slot: 0 }].into_iter().collect();
    failing.fails(promise, FIRST, ErrorKind::Unimplemented);
    let mut streams = call::<dyn Bench>(0, 0, "add");
    streams.streams = Bytes::from_static(b"later");
    failing.fails(streams, &[1, 2], ErrorKind::Unimplemented);
    // A reference that is broken or none, where one is wanted.
    for descriptor in [Descriptor::Null, Descriptor::Broken(farref::Error::msg("lost"))] {
        let mut of = call::<dyn Bench>(0, 0, "keep");
        of.descriptors = [descriptor].into_iter().collect();
        failing.fails(of, FIRST, ErrorKind::Malformed);
    }
    // An object of another interface.
    let mut wrong = call::<dyn Bench>(0, 0, "keep");
    let handed = Handed {
        interface: <dyn Named as farref::RemoteTrait>::INTERFACE.id,
        ..mine(2, 2)
    };
    wrong.descriptors = [Descriptor::Owned(handed)].into_iter().collect();
    let text = failing.fails(wrong, FIRST, ErrorKind::Malformed);
    assert!(text.contains("Counter"), "{text}");
    // Kinds of later versions are passed over.
    for kind in [0x10, 0x15, 0x20, 0x25, 0x80, 0xff] {
        failing.peer.say_bytes(&[kind, 1, 2, 3], b"");
        failing.peer.say_bytes(&[kind], &[0; 30_000]);
    }
    failing.peer.say(&Message::GetShape { shape: 7 });
    failing.peer.say(&Message::Revoked {
        export: 1,
        error: farref::Error::msg("gone"),
    });
    failing.peer.say(&Message::CallCredit { calls: 1, bytes: 1 });
    // After all of that an honest call is served.
    failing.number += 1;
    let honest = farref::message::Call {
        call: failing.number,
        ..call::<dyn Bench>(0, 0, "add")
    };
    failing.peer.say_with(&message(honest), &[20, 22]);
    let (verdict, body) = failing.peer.answer_to(failing.number);
    assert_eq!((verdict, &body[..]), (Verdict::Value, &[42][..]));
    failing.peer.close();
    house.stands();
}

#[test]
fn a_peer_that_gives_up_its_arguments_in_the_middle_fails_that_call_alone() {
    let house = House::new();
    let mut peer = house.peer();
    for number in 1..=5 {
        // More than goes out at once: the rest is given up.
        let lane = peer
            .say_with(&message(call::<dyn Bench>(number, 0, "bytes")), &vec![1; 600_000])
            .unwrap();
        peer.reset(lane);
        let (verdict, _) = peer.answer_to(number);
        // It may be all there already.
        assert!(matches!(
            verdict,
            Verdict::Fault { started: false } | Verdict::Fault { started: true } | Verdict::Value
        ));
    }
    peer.say_with(&message(call::<dyn Bench>(6, 0, "add")), &[1, 2]);
    assert_eq!(peer.answer_to(6).1, &[3][..]);
    peer.close();
    house.stands();
}

#[test]
fn a_peer_that_breaks_a_rule_of_the_frames_is_told_which() {
    let house = House::new();
    for (what, bytes) in [
        ("an unknown frame", &[0x0f, 0, 0][..]),
        ("a frame of kind 0", &[0x00, 0, 0]),
        ("a DATA frame that is too long", &[0x01, 0, 0xfc, 0, 0, 2, 0]),
        ("an empty DATA frame", &[0x01, 0, 0]),
        ("a lane number longer than it need be", &[0x01, 0xfb, 1, 0, 1, 0]),
        ("a CREDIT without an offset", &[0x02, 1, 0]),
        (
            "a message that is longer than declared",
            &[0x01, 0, 5, 0xfc, 0, 0, 0x40, 0],
        ),
        (
            "a lane beyond the credit of lanes",
            &[0x01, 0xfb, 0xff, 0xff, 1, 0],
        ),
        (
            "SESSION_NEW in the middle",
            &[&[0x0a, 0, 32][..], &[0; 32]].concat(),
        ),
        ("RESUME in the middle", &[&[0x0b, 0, 32][..], &[0; 32]].concat()),
        ("RESUMED by a dialer", &[&[0x0c, 0, 32][..], &[0; 32]].concat()),
        ("an optional frame that is too long", &[0xa9, 0, 0xfc, 0, 0, 2, 0]),
        ("a byte behind the last", &[0x0e, 0, 1, 0, 0x01]),
    ] {
        println!("{what}");
        let mut peer = house.peer();
        peer.write(bytes);
        let reason = peer.ending();
        assert_eq!(reason.code, CloseReason::BREACH, "{what}: {reason}");
        assert!(!reason.text.is_empty(), "{what}");
        house.stands();
    }
}

/// Nothing is kept for a peer beyond what was declared to it, whatever it announces or asks for.
#[test]
fn a_peer_that_never_ends_is_held_to_its_limits() {
    let house = House::new();
    // A message without an end.
    let mut peer = house.peer();
    let mut frame = vec![0x01, 0, 0xfb, 0x00, 0x40];
    frame.resize(5 + 0x4000, 0);
    for _ in 0..200 {
        peer.write(&frame);
    }
    assert_eq!(peer.ending().code, CloseReason::BREACH);
    house.stands();

    // A body that is announced, and goes on beyond that.
    let mut peer = house.peer();
    peer.say_with(&message(call::<dyn Bench>(1, 0, "bytes")), &vec![1; 300_000]);
    peer.write(&[0x01, 1, 3, 1, 2, 3]);
    assert_eq!(peer.ending().code, CloseReason::BREACH);
    house.stands();

    // Lanes that nobody names.
    let mut peer = house.peer();
    for lane in 1..=250_u8 {
        peer.write(&[0x01, lane, 3, 1, 2, 3]);
    }
    assert_eq!(peer.ending().code, CloseReason::BREACH);
    house.stands();
}

/// Who asks and never listens is not answered without end: what waits for him is bounded.
#[test]
fn a_peer_that_asks_and_never_reads_stops_itself_alone() {
    const ENOUGH: usize = 128 << 20;
    let house = House::new();
    let mut peer = house.peer();
    let ballast = [&[251, 0x80, 0x3e][..], &vec![7; 16_000]].concat();
    let mut asked = 0;
    for number in 1.. {
        // An echo of 16 kB, on lane 0.
        if asked >= ENOUGH || !peer.say_unless_full(&message(call::<dyn Bench>(number, 0, "bytes")), &ballast)
        {
            break;
        }
        asked += ballast.len();
    }
    assert!(
        asked < ENOUGH,
        "it took in {asked} bytes whose answers nobody reads"
    );
    house.runtime.block_on(async {
        for _ in 0..20 {
            assert_eq!(within(house.honest.call().add(1, 1)).await.unwrap(), 2);
        }
    });
    drop(peer);
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

/// A server that misbehaves, met by an honest client.
fn met(
    act: impl FnOnce(RawPeer) + Send + 'static,
    client: impl AsyncFnOnce(Netref<dyn Bench>, farref::Connection),
) {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = RawPeer::new(stream, Role::Listener);
        let Heard::Message(Message::Hello(_), _) = peer.hear() else {
            panic!("no hello")
        };
        peer.say(&hello_with(root_of::<dyn Bench>()));
        act(peer);
    });
    runtime.block_on(async {
        let connection = within(connect(format!("unix:{}", path.display())).into_future())
            .await
            .unwrap();
        let bench = within(connection.root()).await.unwrap();
        client(bench, connection).await;
    });
    server.join().unwrap();
}

/// The number of the next call.
fn next_call(peer: &mut RawPeer) -> u64 {
    loop {
        match peer.hear() {
            Heard::Message(Message::Call(call), _) => return call.call,
            Heard::Message(..) | Heard::Body(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_whose_server_breaks_a_rule_ends_with_one_clear_error() {
    type Act = fn(&mut RawPeer, u64);
    let acts: [(&str, Act); 6] = [
        ("there is no call 9", |peer, _| peer.say(&answer(9, []))),
        ("there is no call", |peer, call| {
            peer.say(&answer(call, [Descriptor::Owned(mine(1, 1))]));
            peer.say(&answer(call, [Descriptor::Owned(mine(1, 1))]));
        }),
        ("lends", |peer, call| {
            peer.say(&answer(call, [Descriptor::Borrowed(mine(1, 1))]))
        }),
        ("there is no export 5", |peer, call| {
            peer.say(&answer(call, [Descriptor::Home { export: 5 }]))
        }),
        ("0x7e", |peer, _| peer.say_bytes(&[0x7e], b"")),
        ("two descriptions of export 1", |peer, call| {
            peer.say(&answer(
                call,
                [Descriptor::Owned(mine(1, 1)), Descriptor::Owned(mine(1, 3))],
            ));
        }),
    ];
    for (says, act) in acts {
        met(
            move |mut peer| {
                let call = next_call(&mut peer);
                next_call(&mut peer);
                act(&mut peer, call);
                let reason = peer.ending();
                assert_eq!(reason.code, CloseReason::BREACH, "{reason}");
                assert!(reason.text.contains(says), "{says}: {reason}");
            },
            async |bench, connection| {
                let (first, second) = (bench.call().no_counter().start(), bench.call().add(1, 1).start());
                let why = within(connection.closed()).await;
                assert_eq!(why.kind(), ErrorKind::Malformed, "{why:?}");
                assert!(why.to_string().contains(says), "{says}: {why}");
                drop(within(first).await);
                let error = within(second).await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Disconnected(Certainty::Unknown),
                    "{error:?}"
                );
                let error = within(bench.call().add(1, 1)).await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Disconnected(Certainty::NotSent),
                    "{error:?}"
                );
            },
        );
    }
}

#[test]
fn answers_that_make_no_sense_fail_their_own_call() {
    met(
        |mut peer| {
            // A value of another type, nothing at all, an unreadable error, an error from the future.
            for (verdict, body) in [
                (Verdict::Value, &b"\xff\xff\xff"[..]),
                (Verdict::Value, b""),
                (Verdict::Value, &[1, 2, 3]),
                (Verdict::Failed, b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f"),
                (Verdict::Fault { started: true }, b"no error"),
                (Verdict::Fault { started: false }, b""),
                (Verdict::Fault { started: true }, &[250, 2, b'h', b'i', 0, 0, 0]),
            ] {
                let call = next_call(&mut peer);
                let returned = Return {
                    call,
                    verdict,
                    shape: 0,
                    descriptors: [].into_iter().collect(),
                    streams: Bytes::new(),
                };
                peer.say_with(&Message::Return(returned), body);
            }
            // References that were not asked for are given back.
            let call = next_call(&mut peer);
            peer.say_with(
                &answer(call, [Descriptor::Owned(mine(1, 1)), Descriptor::Null]),
                &[42],
            );
            assert_eq!(peer.released(1), 1);
            peer.close();
        },
        async |bench, connection| {
            for _ in 0..6 {
                let error = within(bench.call().add(1, 1)).await.unwrap_err();
                assert!(!matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
            }
            let error = within(bench.call().add(1, 1)).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.message().as_ref()),
                (ErrorKind::Remote, "hi")
            );
            assert_eq!(
                within(bench.call().add(1, 1)).await.unwrap(),
                42,
                "what the peer says"
            );
            within(connection.closed()).await;
        },
    );
}

#[test]
fn a_server_that_hangs_up_is_noticed_at_once() {
    met(
        |mut peer| {
            next_call(&mut peer);
            peer.hang_up();
        },
        async |bench, connection| {
            let count: Netref<dyn Counter> = Netref::of(Count::default());
            let call = bench.call().keep(count).start();
            let error = within(call).await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Disconnected(Certainty::Unknown),
                "{error:?}"
            );
            let why = within(connection.closed()).await;
            assert!(why.to_string().contains("ended"), "{why:?}");
        },
    );
}
