//! Calls that fail without being a breach, and nothing else with them.

use bytes::Bytes;
use farref::ErrorKind;
use farref::message::{Descriptor, Handed, Message, Operation, Target, UnknownOperation, Verdict};
use farref::protocol::Chain;
use farref_integration_tests::bench::{Bench, Counter, Named};
use farref_integration_tests::raw_peer::{RawPeer, call};

use super::{House, message, mine};

/// The first reference of a message.
const FIRST: &[u8] = &[0];

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
    deep.options.chain = Some(Chain::new(1, 11));
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
