//! The exact bytes of every message, both ways; and that no bytes are worse than an error.

use std::borrow::Cow;

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};
use farref_framing::varint::VarintError;
use proptest::prelude::*;

use super::*;
use crate::protocol::{CallOptions, Chain, Op, Ordering, ResultShapes};

/// Asserts that the message is written as these bytes and read from them, with nothing left.
fn assert_bytes(message: &Message<'_>, bytes: &[u8]) {
    let mut out = Vec::new();
    message.encode(&mut out);
    assert_eq!(hex(&out), hex(bytes), "{message:?}");
    let mut rest = Bytes::from(out);
    let read = Message::decode(&mut rest, u32::MAX).unwrap();
    assert_eq!(&read, message);
    assert!(rest.is_empty(), "{rest:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

fn read(bytes: &[u8]) -> Result<Message<'static>, MessageError> {
    Message::decode(&mut Bytes::copy_from_slice(bytes), 100)
}

const METHOD: Op = Op::Method {
    interface: 0x0807_0605_0403_0201,
    method: 0x0c0b_0a09,
    shape: 0x100f_0e0d,
};

/// A null call: 20 bytes.
fn null_call() -> Call<'static> {
    Call {
        call: 5,
        target: Target::Export(3),
        operation: Operation::Known(Cow::Owned(METHOD)),
        options: CallOptions {
            no_pipeline: true,
            ..CallOptions::default()
        },
        time_left: None,
        priority: None,
        descriptors: Refs::new(),
        streams: Bytes::new(),
    }
}

#[rustfmt::skip]
const NULL_CALL: &[u8] = &[
    0x02,                                           // a call
    5,                                              // its number
    0b0000_0010,                                    // marks: no pipes
    3,                                              // the export
    1, 2, 3, 4, 5, 6, 7, 8,                         // the interface
    9, 10, 11, 12,                                  // the method
    13, 14, 15, 16,                                 // the shape of its arguments
];

#[test]
#[rustfmt::skip]
fn a_hello_has_its_bytes() {
    let limits =
        PeerLimits { calls: 16_384, call_bytes: 1 << 26, objects: 1 << 20, depth: 256, references: 131_072, streams: 0 };
    let root = Descriptor::Owned(Handed { export: 0, object: 0, interface: 0x1122_3344_5566_7788 });
    let hello = Hello { version: 1, limits, features: 0, root, name: "rig7".into() };
    assert_bytes(&Message::Hello(hello), &[
        0x01,                                       // a hello
        1,                                          // version
        251, 0x00, 0x40,                            // calls
        252, 0, 0, 0, 4,                            // bytes of arguments
        252, 0, 0, 0x10, 0,                         // objects
        251, 0, 1,                                  // depth
        252, 0, 0, 2, 0,                            // references in a message
        0,                                          // streams
        0,                                          // features
        2, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // the root: owned, export, object, interface
        4, b'r', b'i', b'g', b'7',                  // the name
    ]);
}

#[test]
fn fields_behind_a_hello_are_skipped() {
    let limits = PeerLimits {
        calls: 1,
        call_bytes: 2,
        objects: 3,
        depth: 4,
        references: 5,
        streams: 6,
    };
    let hello = Hello {
        version: 2,
        limits,
        features: 7,
        root: Descriptor::Null,
        name: String::new(),
    };
    let bytes = [0x01, 2, 1, 2, 3, 4, 5, 6, 7, 0, 0];
    assert_bytes(&Message::Hello(hello.clone()), &bytes);
    let more = [&bytes[..], &[9, 2, 1, 1, 251, 255, 0, 0]].concat();
    assert_eq!(read(&more), Ok(Message::Hello(hello)));
    assert_eq!(
        read(&[&bytes[..], &[9, 3, 1, 1]].concat()),
        Err(MessageError::Truncated)
    );
}

#[test]
fn a_name_is_cut_at_256_bytes() {
    let mut out = Vec::new();
    let limits = PeerLimits {
        calls: 1,
        call_bytes: 1,
        objects: 1,
        depth: 1,
        references: 1,
        streams: 0,
    };
    let root = Descriptor::Null;
    let hello = Hello {
        version: 1,
        limits,
        features: 0,
        root,
        name: "ä".repeat(200),
    };
    Message::Hello(hello).encode(&mut out);
    let Ok(Message::Hello(hello)) = read(&out) else {
        panic!()
    };
    assert_eq!(hello.name, "ä".repeat(128));
}

#[test]
fn a_null_call_has_its_bytes() {
    assert_bytes(&Message::Call(null_call()), NULL_CALL);
}

#[test]
#[rustfmt::skip]
fn a_call_with_everything_has_its_bytes() {
    let options = CallOptions {
        no_pipeline: true,
        one_way: true,
        idempotent: true,
        detached: true,
        blocking: true,
        followed: false,
        deadline: None,
        chain: Some(Chain::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100, 2)),
        hops: 3,
        trace: Some(Box::new([7; 25])),
        results: ResultShapes::default(),
        fetch: 0,
    };
    let call = Call {
        call: 300,
        target: Target::Answer { call: 251, slot: 1 },
        operation: Operation::Known(Cow::Owned(Op::Get("x".into()))),
        options,
        time_left: Some(1_000_000),
        priority: Some(4),
        descriptors: Refs::from_iter([Descriptor::Home { export: 6 }]),
        streams: Bytes::from_static(b"ss"),
    };
    assert_bytes(&Message::Call(call), &[
        0x02,                                       // a call
        251, 0x2c, 1,                               // its number
        251, 0xff, 0x3f,                            // all fourteen marks
        251, 251, 0, 1,                             // the call whose result it is made on, and the slot
        2, 1, b'x',                                 // get, and the name
        252, 0x40, 0x42, 0x0f, 0,                   // the time left: 1 ms
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, // the chain
        2,                                          // its depth
        3,                                          // connections crossed
        4,                                          // the priority
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // the trace
        1, 4, 6,                                    // one descriptor: home, export
        2, b's', b's',                              // the streams
    ]);
}

#[test]
fn each_mark_of_a_call_has_its_bit() {
    let marks = |change: fn(&mut Call<'static>)| {
        let mut call = null_call();
        call.options.no_pipeline = false;
        change(&mut call);
        let mut out = Vec::new();
        Message::Call(call).encode(&mut out);
        let mut rest = &out[2..];
        varint::take(&mut rest).unwrap()
    };
    let marks = [
        marks(|call| call.target = Target::Answer { call: 1, slot: 0 }),
        marks(|call| call.options.no_pipeline = true),
        marks(|call| call.options.blocking = true),
        marks(|call| call.options.chain = Some(Chain::new(1, 0))),
        marks(|call| call.time_left = Some(0)),
        marks(|call| call.descriptors = Refs::from_iter([Descriptor::Null])),
        marks(|call| call.operation = Operation::Known(Cow::Owned(Op::Len))),
        marks(|call| call.options.one_way = true),
        marks(|call| call.options.idempotent = true),
        marks(|call| call.options.detached = true),
        marks(|call| call.options.hops = 1),
        marks(|call| call.priority = Some(0)),
        marks(|call| call.options.trace = Some(Box::new([0; 25]))),
        marks(|call| call.streams = Bytes::from_static(b"s")),
    ];
    assert_eq!(marks, std::array::from_fn(|bit| 1 << bit));
}

#[test]
fn each_operation_has_its_number() {
    let name = || String::from("é");
    let operations = [
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
    ];
    for (op, number) in operations.into_iter().zip(1..) {
        let named: &[u8] = match &op {
            Op::Named(_) | Op::Get(_) | Op::Set(_) | Op::Delete(_) | Op::IsInstance(_) => &[2, 0xc3, 0xa9],
            _ => &[0],
        };
        let operation = Operation::Known(Cow::Owned(op));
        let call = Call {
            operation,
            ..null_call()
        };
        let expected = [&[0x02, 5, 0b0100_0010, 3, number], named].concat();
        assert_bytes(&Message::Call(call), &expected);
    }
    let operation = Operation::Unknown(UnknownOperation { code: 99 });
    let call = Call {
        operation,
        ..null_call()
    };
    assert_bytes(&Message::Call(call), &[0x02, 5, 0b0100_0010, 3, 99, 0]);
}

#[test]
#[rustfmt::skip]
fn each_descriptor_has_its_bytes() {
    let handed = Handed { export: 300, object: 2, interface: 0x0807_0605_0403_0201 };
    let denied = Error::new(ErrorKind::Denied, "no");
    for (descriptor, bytes) in [
        (Descriptor::Null, &[0][..]),
        (Descriptor::Broken(denied), &[1, 7, 6, 2, b'n', b'o', 0, 0, 0]), // behind its length (§ 9.8)
        (Descriptor::Owned(handed), &[2, 251, 0x2c, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8]),
        (Descriptor::Borrowed(handed), &[3, 251, 0x2c, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8]),
        (Descriptor::Home { export: 7 }, &[4, 7]),
        (Descriptor::Answer { call: 8, slot: 9 }, &[5, 8, 9]),
    ] {
        let descriptors = Refs::from_iter([descriptor]);
        let returned = Return { call: 1, verdict: Verdict::Value, shape: 0, descriptors, streams: Bytes::new() };
        assert_bytes(&Message::Return(returned), &[&[0x03, 1, 0b0001_0000, 1], bytes].concat());
    }
}

#[test]
#[rustfmt::skip]
fn a_return_has_its_bytes() {
    let returned = |verdict| Return {
        call: 5, verdict, shape: 0, descriptors: Refs::new(), streams: Bytes::new(),
    };
    for (verdict, marks) in [
        (Verdict::Value, 0),
        (Verdict::Failed, 1),
        (Verdict::Fault { started: false }, 2),
        (Verdict::Fault { started: true }, 6),
    ] {
        assert_bytes(&Message::Return(returned(verdict)), &[0x03, 5, marks]);
    }
    let everything = Return {
        call: 5,
        verdict: Verdict::Failed,
        shape: 0x0403_0201,
        descriptors: Refs::from_iter([Descriptor::Null, Descriptor::Home { export: 1 }]),
        streams: Bytes::from_static(b"s"),
    };
    assert_bytes(&Message::Return(everything), &[
        0x03,                                       // a return
        5,                                          // the call
        0b0011_1001,                                // marks: failed, shape, descriptors, streams
        1, 2, 3, 4,                                 // the shape
        2, 0, 4, 1,                                 // two descriptors: null; home, export
        1, b's',                                    // the streams
    ]);
}

#[test]
fn small_messages_have_their_bytes() {
    for (reason, number) in [
        (CancelReason::Dropped, 0),
        (CancelReason::Deadline, 1),
        (CancelReason::Upstream, 2),
        (CancelReason::Shutdown, 3),
    ] {
        assert_bytes(&Message::Cancel { call: 5, reason }, &[0x04, 5, number]);
    }
    assert_bytes(&Message::Finish { call: 5 }, &[0x05, 5]);
    let exports = vec![(5, 1), (300, 2)].into();
    assert_bytes(&Message::Release { exports }, &[0x06, 2, 5, 1, 251, 0x2c, 1, 2]);
    assert_bytes(&Message::Retain { export: 5 }, &[0x07, 5]);
    let error = Error::new(ErrorKind::Revoked, "no");
    assert_bytes(
        &Message::Revoked { export: 5, error },
        &[0x08, 5, 7, 7, 2, b'n', b'o', 0, 0, 0],
    );
    assert_bytes(&Message::Flush { flush: 1, call: 5 }, &[0x09, 1, 5]);
    assert_bytes(&Message::FlushAck { flush: 1 }, &[0x0a, 1]);
    assert_bytes(
        &Message::CallCredit {
            calls: 250,
            bytes: 251,
        },
        &[0x0b, 250, 251, 251, 0],
    );
    assert_bytes(&Message::GetShape { shape: 0x0403_0201 }, &[0x0c, 1, 2, 3, 4]);
    assert_bytes(&Message::Shape { shape: 0x0403_0201 }, &[0x0d, 1, 2, 3, 4]);
    assert_bytes(&Message::Drain, &[0x30]);
    let abort = Message::Abort {
        code: 3,
        text: "so".into(),
    };
    assert_bytes(&abort, &[0x31, 3, 2, b's', b'o']);
    for kind in [0x10, 0x15, 0x20, 0x25, 0x80, 0xff] {
        assert_bytes(&Message::Reserved { kind }, &[kind]);
    }
}

#[test]
fn a_reason_that_is_not_known_is_read_as_the_first() {
    let dropped = Message::Cancel {
        call: 5,
        reason: CancelReason::Dropped,
    };
    assert_eq!(read(&[0x04, 5, 77]), Ok(dropped));
}

#[test]
fn the_body_is_what_is_left() {
    let mut bytes = Bytes::from([NULL_CALL, b"body"].concat());
    Message::decode(&mut bytes, 0).unwrap();
    assert_eq!(bytes, "body");
    assert_eq!(
        read(&[0x05, 5, 1, 1]),
        Err(MessageError::Trailing { bytes: 2 }),
        "where none may be"
    );
}

#[test]
fn what_does_not_exist_is_refused() {
    for (bytes, error) in [
        (&[][..], MessageError::Truncated),
        (&[0x00], MessageError::UnknownKind { kind: 0 }),
        (&[0x0e], MessageError::UnknownKind { kind: 0x0e }),
        (&[0x7f], MessageError::UnknownKind { kind: 0x7f }),
        (
            &[0x02, 1, 251, 0, 0x40, 0],
            MessageError::UnknownMark { marks: 1 << 14 },
        ),
        (&[0x03, 1, 0b0100_0000], MessageError::UnknownMark { marks: 64 }),
        (&[0x03, 1, 3], MessageError::UnknownMark { marks: 3 }),
        (
            &[0x03, 1, 4],
            MessageError::UnknownMark { marks: 4 }, // a value that was started
        ),
        (
            &[0x03, 1, 0b0001_0010, 0],
            MessageError::UnknownMark { marks: 18 }, // an error with references
        ),
        (&[0x03, 1, 16, 1, 9], MessageError::UnknownDescriptor { kind: 9 }),
        (
            &[0x03, 1, 16, 1, 5, 1, 253, 0, 0, 0, 0, 1, 0, 0, 0],
            MessageError::TooLarge { number: 1 << 32 },
        ),
        (&[0x03, 1, 16, 1, 1, 1, 0], MessageError::BadError),
        (&[0x05, 251, 5, 0], MessageError::Varint(VarintError::Overlong)),
        (&[0x05, 255], MessageError::Varint(VarintError::Prefix(255))),
        (&[0x31, 0, 1, 0xff], MessageError::NotText),
        (
            &[0x03, 1, 16, 101],
            MessageError::Truncated, // more than there are bytes for
        ),
    ] {
        assert_eq!(read(bytes), Err(error), "{bytes:?}");
    }
    let long = [&[0x31, 0, 251, 1, 1][..], &[b'x'; 257]].concat();
    assert_eq!(read(&long), Err(MessageError::TooLarge { number: 257 }));
    let many = [&[0x03, 1, 16, 101][..], &[0; 101]].concat();
    assert_eq!(read(&many), Err(MessageError::TooManyReferences { count: 101 }));
    let deep = [&[0x02, 1, 8, 0][..], &[0; 32], &[252, 0, 0, 1, 0]].concat();
    assert_eq!(read(&deep), Err(MessageError::TooLarge { number: 1 << 16 }));
}

#[test]
fn of_what_is_wrong_with_a_message_the_first_is_told() {
    for (bytes, error) in [
        // And the next descriptor is cut off.
        (
            &[0x03, 1, 16, 2, 9, 5][..],
            MessageError::UnknownDescriptor { kind: 9 },
        ),
        // And the name is no text.
        (
            &[0x02, 1, 64, 255, 2, 1, 0xff],
            MessageError::Varint(VarintError::Prefix(255)),
        ),
        // And the shape is cut off.
        (
            &[0x03, 1, 0b1100_1000],
            MessageError::UnknownMark { marks: 0b1100_1000 },
        ),
        // And there is no time.
        (&[0x02, 1, 0b0101_0000, 0, 2, 1, 0xff], MessageError::NotText),
    ] {
        assert_eq!(read(bytes), Err(error), "{bytes:?}");
    }
}

/// Both could be as long as a message, and were kept as long as the call.
#[test]
fn names_and_errors_in_descriptors_have_a_longest() {
    let named = |len| {
        let mut bytes = vec![0x02, 1, 64, 0, 2]; // get
        varint::put(&mut bytes, len as u64);
        bytes.resize(bytes.len() + len, b'n');
        read(&bytes)
    };
    assert!(named(MAX_NAME).is_ok());
    assert_eq!(named(65_537), Err(MessageError::TooLarge { number: 65_537 }));
    let broken = |text: usize| {
        let error = error_bytes(&Error::new(ErrorKind::Denied, "x".repeat(text)), 1 << 20);
        let mut bytes = vec![0x03, 1, 16, 1, 1];
        reader::put_bytes(&mut bytes, &error);
        (error.len() as u64, read(&bytes))
    };
    let (len, message) = broken(4000);
    let spare = 4096 - len as usize;
    assert!(message.is_ok() && broken(4000 + spare).1.is_ok());
    let too_large = MessageError::TooLarge { number: 4097 };
    assert_eq!(broken(4001 + spare), (4097, Err(too_large)));
}

#[test]
fn a_cut_message_is_no_message() {
    let call = Call {
        descriptors: Refs::from_iter([Descriptor::Home { export: 6 }]),
        time_left: Some(1_000_000),
        ..null_call()
    };
    let mut bytes = Vec::new();
    Message::Call(call).encode(&mut bytes);
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Err(MessageError::Truncated), "{cut}");
    }
}

#[test]
fn a_long_error_in_a_descriptor_is_cut_to_the_beginning_of_its_message() {
    let error = Error::new(ErrorKind::Denied, "é".repeat(3000)).context("outside");
    let bytes = error_bytes(&error.clone().context("x".repeat(5000)), 4096);
    let short = read_error(&bytes).unwrap();
    assert_eq!((short.kind(), short.message().len()), (ErrorKind::Denied, 256));
    assert_eq!(
        read_error(&error_bytes(&error, 1 << 20)).unwrap().chain().count(),
        2
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut rest = Bytes::from(bytes.clone());
        if let Ok(message) = Message::decode(&mut rest, 100) {
            // What was read is written alike, but for what later versions add.
            let mut again = Vec::new();
            message.encode(&mut again);
            let head = &bytes[..bytes.len() - rest.len()];
            let is_open = matches!(&message, Message::Hello(_) | Message::Cancel { .. } | Message::Revoked { .. })
                || matches!(&message, Message::Call(call) if matches!(call.operation, Operation::Unknown(_)))
                || again.len() != head.len();
            prop_assert!(is_open || again == head, "{message:?}");
        }
    }
}
