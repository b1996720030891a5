//! A raw peer that speaks bytes: it breaks each MUST in turn, and a link stays within its bounds.

#![cfg(test)]

mod support;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref_framing::{
    AttachConfig, Batch, Body, Breach, CloseReason, Foreign, LaneId, Limits, Link, LinkError, LinkEvent,
    Loss, Mismatch, Misuse, Role, StreamKey, varint,
};
use farref_transport::Class;
use support::{Form, Heard, Pair, config, frame, frames, limits, pattern, reads, submit, written};

const SECOND: u64 = 1_000_000_000;

fn small() -> Limits {
    limits(|limits| {
        limits.fragment = 240;
        limits.message = 4096;
        limits.lanes = 2;
        limits.named = 16;
        limits.first_credit = 1024;
        limits.receive_pool = 8192;
    })
}

/// A message that names `lane` as that of its body.
fn named(lane: u64, len: u64) -> Vec<u8> {
    let mut payload = vec![1];
    varint::put(&mut payload, lane);
    varint::put(&mut payload, len);
    frame(0x01, 0, &payload)
}

/// It was told to wait, and all behind it with it, until there was room for it: never.
#[test]
fn a_message_that_is_longer_than_what_is_kept_for_the_peer_is_refused() {
    let mut dialer = config(Role::Dialer, false, 1);
    dialer.limits = limits(|limits| {
        limits.message = 1 << 10;
        limits.retained = 256 << 10;
        limits.backlog = 300 << 10;
    });
    let mut dialer = Form::Stream.link(dialer);
    let mut listener = Form::Stream.link(config(Role::Listener, false, 2));
    while support::pass(&mut *dialer, &mut *listener, 0) | support::pass(&mut *listener, &mut *dialer, 0) {}
    let mut submitted = |len: usize| dialer.submit(b"head", Body::Slice(&vec![0; len]));
    let limit = 300 << 10;
    assert_eq!(
        submitted(300 << 10),
        Err(Misuse::MessageTooLong {
            len: limit + 4,
            limit
        }
        .into())
    );
    assert!(submitted((300 << 10) - 4).is_ok());
}

#[test]
fn each_breach_ends_the_link_with_a_word_to_the_peer() {
    let lane = LaneId::new;
    let data = |n, len| frame(0x01, n, &vec![0; len]);
    let cases: Vec<(Vec<u8>, Breach)> = vec![
        (vec![0x00, 0, 0], Breach::UnknownFrame { kind: 0 }),
        (
            vec![0x01, 0, 251, 241, 0],
            Breach::Varint(varint::VarintError::Overlong),
        ),
        (
            vec![0x01, 0, 251, 0, 1],
            Breach::FrameTooLong {
                kind: 1,
                len: 256,
                limit: 240,
            },
        ),
        (vec![0x01, 0, 0], Breach::FrameForm { kind: 1 }),
        (vec![0x0a, 0, 32], Breach::Unexpected { kind: 0x0a }),
        (vec![0x08, 1, 8], Breach::FrameForm { kind: 8 }),
        (
            vec![0x01, 0, 3, 251, 2, 0x20],
            Breach::MessageTooLong {
                len: 4097,
                limit: 4096,
            },
        ),
        (named(0, 5), Breach::UnknownLane { lane: lane(0) }),
        (
            named(17, 5),
            Breach::TooManyLanes {
                lane: lane(17),
                limit: 16,
            },
        ),
        (
            [named(1, 5), named(1, 5)].concat(),
            Breach::LaneNamedTwice { lane: lane(1) },
        ),
        (
            [data(1, 9), data(2, 9), data(3, 9)].concat(),
            Breach::TooManyLanes {
                lane: lane(3),
                limit: 2,
            },
        ),
        (
            [
                data(1, 240),
                data(1, 240),
                data(1, 240),
                data(1, 240),
                data(1, 65),
            ]
            .concat(),
            Breach::CreditExceeded {
                lane: lane(1),
                upto: 1025,
                granted: 1024,
            },
        ),
        (
            [named(1, 5), data(1, 6)].concat(),
            Breach::BodyLength {
                lane: lane(1),
                announced: 5,
                received: 6,
            },
        ),
        (
            [named(1, 5), data(1, 4), frame(4, 1, &[])].concat(),
            Breach::BodyLength {
                lane: lane(1),
                announced: 5,
                received: 4,
            },
        ),
        (
            [named(1, 5), data(1, 5), frame(4, 1, &[]), data(1, 1)].concat(),
            Breach::UnknownLane { lane: lane(1) },
        ),
        (
            [data(1, 5), frame(4, 1, &[]), data(1, 1)].concat(),
            Breach::UnknownLane { lane: lane(1) },
        ),
        (frame(0x02, 1, &[5]), Breach::UnknownLane { lane: lane(1) }),
        (frame(0x02, 0, &[5]), Breach::UnknownLane { lane: lane(0) }),
        (frame(0x02, 1, &[5, 5]), Breach::FrameForm { kind: 2 }),
        (
            frame(0x03, 0, &[250]),
            Breach::Offset {
                lane: lane(0),
                offset: 250,
            },
        ),
        (frame(0x03, 9, &[1]), Breach::UnknownLane { lane: lane(9) }),
        (frame(0x04, 0, &[]), Breach::UnknownLane { lane: lane(0) }),
        (frame(0x05, 0, &[1]), Breach::UnknownLane { lane: lane(0) }),
        (frame(0x06, 4, &[1]), Breach::UnknownLane { lane: lane(4) }),
        (frame(0x07, 4, &[]), Breach::UnknownLane { lane: lane(4) }),
        (frame(0x0b, 0, &[0; 60]), Breach::Unexpected { kind: 0x0b }),
        (frame(0x0c, 0, &[0; 60]), Breach::Unexpected { kind: 0x0c }),
        (frame(0x0d, 0, &[1]), Breach::Unexpected { kind: 0x0d }),
        (frame(0x0e, 0, &[0, 0xff]), Breach::FrameForm { kind: 0x0e }),
        ([frame(0x0e, 0, &[0]), vec![1]].concat(), Breach::AfterClose),
        (
            [frame(0x08, 0, &[0; 8])].concat().repeat(17),
            Breach::TooManyPings,
        ),
    ];
    for (bytes, breach) in cases {
        let mut pair = Pair::new(true, &small());
        let mut bytes = BytesMut::from(&bytes[..]);
        if bytes[0] == 0x0a {
            bytes.extend_from_slice(&[0; 32]);
        }
        if bytes[..3] == [0x08, 1, 8] {
            bytes.extend_from_slice(&[0; 8]);
        }
        let error = pair
            .listener
            .handle_bytes(StreamKey::MAIN, &mut bytes, false, 0)
            .unwrap_err();
        assert_eq!(error, LinkError::Misbehaved(breach.clone()));
        let told = written(&mut *pair.listener, 0);
        let last = frames(&told).pop().unwrap();
        assert_eq!((last.0, last.2[0]), (0x0e, 1), "{breach}");
        assert_eq!(last.2[1..], *breach.to_string().as_bytes());
        assert!(pair.listener.is_finished() && !pair.listener.wants_write());
        let again = pair
            .listener
            .handle_bytes(StreamKey::MAIN, &mut BytesMut::new(), false, 0);
        assert_eq!(again, Err(Misuse::Closed.into()));
        assert_eq!(
            pair.listener.submit(b"x", Body::EMPTY),
            Err(Misuse::Closed.into())
        );
        assert!(pair.listener.detach(0).is_err());
    }
}

#[test]
fn a_done_that_comes_too_early_is_a_breach() {
    let mut pair = Pair::new(false, &small());
    submit(&mut *pair.listener, b"", &[0; 2000]);
    written(&mut *pair.listener, 0);
    let early = reads(&mut *pair.listener, &frame(0x07, 1, &[]), 0);
    assert_eq!(early, Err(Breach::UnknownLane { lane: LaneId::new(1) }.into()));
}

#[test]
fn frames_of_later_versions_are_skipped() {
    let mut pair = Pair::new(true, &small());
    reads(&mut *pair.listener, &frame(0x80, 77, &[1; 300]), 0).unwrap();
    reads(&mut *pair.listener, &frame(0x01, 0, &[4, 1, 2]), 0).unwrap();
    assert!(matches!(pair.listener.poll_event(), Some(LinkEvent::Message(_))));
}

/// Both flights of a dialer that says all kinds of things.
fn a_conversation() -> Vec<u8> {
    let mut dialer = {
        let mut config = config(Role::Dialer, true, 1);
        config.limits = small();
        Form::Stream.link(config)
    };
    let mut listener = {
        let mut config = config(Role::Listener, true, 2);
        config.limits = small();
        Form::Stream.link(config)
    };
    submit(&mut *dialer, b"early ", &pattern(0, 200));
    let mut all = written(&mut *dialer, 0);
    reads(&mut *listener, &all, 0).unwrap();
    reads(&mut *dialer, &written(&mut *listener, 0), 0).unwrap();
    submit(&mut *dialer, b"small", b"");
    submit(&mut *dialer, b"large ", &pattern(1, 900));
    submit(&mut *dialer, &pattern(2, 700), b"");
    dialer.ping(1);
    all.extend(written(&mut *dialer, 0));
    dialer.close(CloseReason::done());
    all.extend(written(&mut *dialer, 0));
    all
}

fn listen(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, usize) {
    let mut config = config(Role::Listener, true, 2);
    config.limits = small();
    let mut listener = Form::Stream.link(config);
    let mut heard = Heard::default();
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        listener
            .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
            .unwrap();
        heard.take(&mut *listener);
    }
    assert!(input.is_empty());
    (heard.whole().unwrap(), heard.others.len())
}

#[test]
fn a_flight_cut_at_every_byte_is_the_same_flight() {
    let all = a_conversation();
    let want = listen(&[&all]);
    assert_eq!(want.0.len(), 4);
    for cut in 0..=all.len() {
        assert_eq!(listen(&[&all[..cut], &all[cut..]]), want, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(listen(&bytes), want);
}

#[test]
fn a_carrier_that_ends_anywhere_before_the_close_is_lost() {
    let all = a_conversation();
    for cut in 0..all.len() {
        let mut config = config(Role::Listener, true, 2);
        config.limits = small();
        let mut listener = Form::Stream.link(config);
        let mut input = BytesMut::from(&all[..cut]);
        let ended = listener.handle_bytes(StreamKey::MAIN, &mut input, true, 0);
        assert_eq!(ended, Err(Loss::Ended.into()), "cut at {cut}");
    }
}

#[test]
fn foreign_protocols_get_an_answer_in_their_own_words() {
    for (bytes, foreign) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], Foreign::Http),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Foreign::Ssh),
        (b"\x16\x03\x01\x02\x00", Foreign::Tls),
        (b"HELO x\r\n", Foreign::Text),
    ] {
        let mut listener = Form::Stream.link(config(Role::Listener, true, 1));
        assert_eq!(
            reads(&mut *listener, bytes, 0),
            Err(Mismatch::Foreign(foreign).into())
        );
        assert_eq!(written(&mut *listener, 0), foreign.reply().unwrap());
        assert!(listener.is_finished());
        let mut dialer = Form::Stream.link(config(Role::Dialer, true, 1));
        let first = written(&mut *dialer, 0);
        assert!(!first.is_empty());
        assert_eq!(
            reads(&mut *dialer, bytes, 0),
            Err(Mismatch::Foreign(foreign).into())
        );
        assert!(written(&mut *dialer, 0).is_empty());
    }
}

#[test]
fn mismatched_peers_are_told_so() {
    let preface = |role, salt| {
        let mut link = Form::Stream.link(config(role, false, salt));
        written(&mut *link, 0)
    };
    let mut other_version = preface(Role::Dialer, 2);
    (other_version[4], other_version[5]) = (7, 9);
    for (bytes, salt, mismatch) in [
        (
            other_version,
            1,
            Mismatch::Version {
                theirs: (7, 9),
                ours: (1, 1),
            },
        ),
        (preface(Role::Dialer, 1), 1, Mismatch::Oneself),
    ] {
        let mut listener = Form::Stream.link(config(Role::Listener, false, salt));
        assert_eq!(reads(&mut *listener, &bytes, 0), Err(mismatch.into()));
        let told = written(&mut *listener, 0);
        assert_eq!(
            told[..4],
            [0xa9, b'F', b'A', b'R'],
            "the preface comes first, so that the peer can tell, too"
        );
        assert!(told.ends_with(mismatch.to_string().as_bytes()));
    }
    let mut dialer = Form::Stream.link(config(Role::Dialer, false, 3));
    assert_eq!(
        reads(&mut *dialer, &preface(Role::Dialer, 1), 0),
        Err(Mismatch::SameRole.into())
    );
}

#[test]
fn a_session_needs_both_sides() {
    for (dialer, listener) in [(true, false), (false, true), (false, false)] {
        let mut dialer = Form::Stream.link(config(Role::Dialer, dialer, 1));
        let mut listener = Form::Stream.link(config(Role::Listener, listener, 2));
        submit(&mut *dialer, b"hello", b"");
        support::pass(&mut *dialer, &mut *listener, 0);
        support::pass(&mut *listener, &mut *dialer, 0);
        for link in [&mut dialer, &mut listener] {
            let Some(LinkEvent::Opened(agreed)) = link.poll_event() else {
                panic!("not opened")
            };
            assert_eq!((agreed.session, link.session()), (None, None));
            assert_eq!(link.stats().retained, 0);
            assert!(!link.is_acknowledged(0) || link.position() == 0);
            assert_eq!(link.detach(0), Err(Misuse::NoSession.into()));
        }
    }
}

#[test]
fn nothing_comes_between_the_preface_and_the_session() {
    let mut hello = written(&mut *Form::Stream.link(config(Role::Dialer, true, 1)), 0);
    hello.truncate(58);
    hello.extend_from_slice(&frame(0x01, 0, &[2, 1]));
    let mut listener = Form::Stream.link(config(Role::Listener, true, 2));
    assert_eq!(
        reads(&mut *listener, &hello, 0),
        Err(Breach::Unexpected { kind: 1 }.into())
    );
}

#[test]
fn a_dialer_says_little_until_it_knows_the_peer() {
    let mut dialer = Form::Stream.link(config(Role::Dialer, false, 1));
    for n in 0..20 {
        submit(&mut *dialer, &pattern(n, 10_000), b"");
    }
    submit(&mut *dialer, b"large", &pattern(1, 20_000));
    let mut batch = Batch::new();
    let mut early = 0;
    while dialer.poll_transmit(&mut batch, 0) {
        let told = batch.to_vec(StreamKey::MAIN);
        let skip = if told[0] == 0xa9 { 58 } else { 0 };
        for (kind, lane, payload) in frames(&told[skip..]) {
            assert!(kind == 1 && lane == 0 && payload.len() <= 240);
            early += payload.len();
        }
        batch.clear();
    }
    assert_eq!(early, 64 * 1024);
    assert!(!dialer.wants_write());
}

#[test]
fn an_early_message_over_the_limit_of_the_peer_is_a_mismatch() {
    let mut dialer = Form::Stream.link(config(Role::Dialer, false, 1));
    submit(&mut *dialer, &[0; 5000], b"");
    let mut config = config(Role::Listener, false, 2);
    config.limits = small();
    let mut listener = Form::Stream.link(config);
    let hello = written(&mut *dialer, 0);
    assert!(reads(&mut *listener, &hello, 0).is_err());
    let told = written(&mut *listener, 0);
    let error = reads(&mut *dialer, &told, 0).unwrap_err();
    assert_eq!(
        error,
        Mismatch::EarlyMessage {
            len: 5000,
            limit: 4096
        }
        .into()
    );
}

#[test]
fn an_oversized_frame_is_refused_by_its_header_alone() {
    let mut pair = Pair::new(false, &small());
    let mut input = BytesMut::from(&[0x01, 0, 252, 0, 0, 0, 0x10][..]);
    let before = input.capacity();
    assert!(
        pair.listener
            .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
            .is_err()
    );
    assert!(input.capacity() <= before);
}

/// What is kept until the rest of a frame has come is moved for the next read.
#[test]
fn of_a_large_body_nothing_is_left_in_the_buffer() {
    let mut pair = Pair::new(true, &Limits::default());
    let body = pattern(0, 300_000);
    submit(&mut *pair.dialer, b"large", &body);
    let mut batch = Batch::new();
    assert!(pair.dialer.poll_transmit(&mut batch, 0));
    let mut told = batch.to_vec(StreamKey::MAIN);
    let mut input = BytesMut::new();
    // Until what is left is a header, or a part of one.
    for (from, upto) in [(0, 20_000), (20_000, 20_001), (20_001, 100_000)] {
        input.extend_from_slice(&told[from..upto]);
        pair.listener
            .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
            .unwrap();
        assert!(input.is_empty(), "{} at {upto}", input.len());
    }
    reads(&mut *pair.listener, &told.split_off(100_000), 0).unwrap();
    batch.clear();
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.whole().unwrap(), [[&b"large"[..], &body].concat()]);
}

/// It is handed on where it came.
#[test]
fn a_body_of_one_frame_is_not_taken_in_parts() {
    let mut pair = Pair::new(true, &Limits::default());
    let body = pattern(0, Limits::default().fragment);
    submit(&mut *pair.dialer, b"head", &body);
    let told = written(&mut *pair.dialer, 0);
    let (part, rest) = told.split_at(1000);
    let mut input = BytesMut::with_capacity(told.len());
    let mut handle = |bytes: &[u8]| {
        input.extend_from_slice(bytes);
        let came_in = input.as_ptr_range();
        pair.listener
            .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
            .unwrap();
        came_in
    };
    handle(part);
    let came_in = handle(rest);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.bodies[0].1, body);
    assert!(came_in.contains(&heard.bodies[0].1.as_ptr()));
}

#[test]
fn a_small_message_waits_for_at_most_one_fragment_of_a_large_one() {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, b"large", &pattern(0, 300_000));
    let mut batch = Batch::new();
    assert!(pair.dialer.poll_transmit(&mut batch, 0));
    assert!(batch.len() <= 260 * 1024 + 16 * 1024 + 100);
    let all = batch.to_vec(StreamKey::MAIN);
    assert!(
        !pair.dialer.poll_transmit(&mut batch, 0),
        "nothing that can wait is added to a batch"
    );
    // wherever the carrier stops in the batch, the next message comes within a fragment
    for written in [0, 1, 10, 20_000, 40_000, 200_000, all.len() - 1] {
        let mut pair = Pair::new(true, &Limits::default());
        submit(&mut *pair.dialer, b"large", &pattern(0, 300_000));
        let mut batch = Batch::new();
        pair.dialer.poll_transmit(&mut batch, 0);
        let mut told = partly(&mut batch, written);
        submit(&mut *pair.dialer, b"small", b"message");
        pair.dialer.poll_transmit(&mut batch, 0);
        told.extend(batch.to_vec(StreamKey::MAIN));
        let at = told
            .windows(12)
            .position(|bytes| bytes == b"smallmessage")
            .unwrap();
        assert!(at <= written + 16 * 1024 + 32, "{at} after {written}");
        reads(&mut *pair.listener, &told, 0).unwrap();
        batch.clear();
        pair.settle(0);
        let mut heard = Heard::default();
        heard.take(&mut *pair.listener);
        let body = [&b"large"[..], &pattern(0, 300_000)].concat();
        assert_eq!(heard.whole().unwrap(), [body, b"smallmessage".to_vec()]);
    }
}

/// Takes the first `n` bytes out of a batch, as a carrier with that much room would.
fn partly(batch: &mut Batch, n: usize) -> Vec<u8> {
    let (near, far) = farref_transport::memory::pair(n.max(1));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok((_, mut outlet, _, _))) =
        Box::pin(farref_framing::open(near.into(), Role::Dialer))
            .as_mut()
            .poll(&mut cx)
    else {
        panic!("a byte stream does not wait")
    };
    if n == 0 {
        return Vec::new();
    }
    outlet.write(batch).unwrap();
    let mut got = BytesMut::with_capacity(n);
    let mut rx = far.rx;
    assert_eq!(rx.try_read(&mut got).unwrap(), n);
    got.to_vec()
}

use std::future::Future;

#[test]
fn a_body_of_more_than_256_kib_or_the_first_credit_lets_shorter_ones_go_first() {
    let little = limits(|limits| {
        limits.fragment = 240;
        limits.first_credit = 10_000;
    });
    for (limits, most) in [(Limits::default(), 256 << 10), (little, 10_000)] {
        let mut pair = Pair::new(false, &limits);
        submit(&mut *pair.dialer, b"long", &vec![1; most + 1]);
        let short = submit(&mut *pair.dialer, b"short", &vec![2; most]).unwrap();
        let told = frames(&written(&mut *pair.dialer, 0));
        let first = told.iter().find(|(_, lane, _)| *lane != 0);
        assert_eq!(first.map(|(_, lane, _)| *lane), Some(short.number()), "{most}");
    }
}

#[test]
fn a_large_body_is_granted_whole_while_there_is_room() {
    let mut pair = Pair::new(false, &Limits::default());
    let body = pattern(3, 5 << 20);
    submit(&mut *pair.dialer, b"", &body);
    assert!(support::pass(&mut *pair.dialer, &mut *pair.listener, 0));
    let told = frames(&written(&mut *pair.listener, 0));
    let mut credit = Vec::new();
    varint::put(&mut credit, 5 << 20);
    assert_eq!(told, [(0x02, 1, credit.clone())]);
    reads(&mut *pair.dialer, &frame(0x02, 1, &credit), 0).unwrap();
    let mut batches = 1;
    while support::pass(&mut *pair.dialer, &mut *pair.listener, 0) {
        batches += 1;
    }
    let most = (260 + 16) << 10; // full but for a byte, and a fragment
    assert!(batches >= body.len() / most, "{batches} batches");
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert!(heard.whole().unwrap()[0] == body);
}

#[test]
fn more_bodies_than_lanes_take_their_turns() {
    let mut pair = Pair::new(false, &small());
    let bodies: Vec<Vec<u8>> = (0..10).map(|n| pattern(n, 300 + n * 100)).collect();
    for body in &bodies {
        submit(&mut *pair.dialer, b"", body);
    }
    assert_eq!(pair.dialer.submit(b"", Body::Slice(&[0; 5000])), {
        Err(Misuse::MessageTooLong {
            len: 5000,
            limit: 4096,
        }
        .into())
    });
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.whole().unwrap(), bodies);
    assert_eq!(
        (pair.dialer.stats().lanes_out, pair.listener.stats().lanes_in),
        (0, 0)
    );
}

#[test]
fn a_body_that_waits_for_a_lane_can_be_given_up() {
    let mut pair = Pair::new(false, &small());
    let lanes: Vec<LaneId> = (0..5)
        .map(|n| submit(&mut *pair.dialer, b"", &pattern(n, 2000)).unwrap())
        .collect();
    support::pass(&mut *pair.dialer, &mut *pair.listener, 0);
    pair.dialer.reset_lane(lanes[2], 1);
    pair.dialer.reset_lane(lanes[4], 2);
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.bodies.len(), 3);
    let reset = |lane, code| LinkEvent::LaneReset { lane, code };
    assert_eq!(heard.others, [reset(lanes[2], 1), reset(lanes[4], 2)]);
}

#[test]
fn the_place_of_a_body_that_was_given_up_goes_to_the_next() {
    let mut pair = Pair::new(false, &small());
    let stream = pair.dialer.open_lane(Class::Normal).unwrap();
    pair.dialer
        .write_lane(stream, Bytes::from_static(b"never ends"))
        .unwrap();
    let bodies: Vec<LaneId> = (0..3)
        .map(|n| submit(&mut *pair.dialer, b"", &pattern(n, 300)).unwrap())
        .collect();
    support::pass(&mut *pair.dialer, &mut *pair.listener, 0);
    support::pass(&mut *pair.listener, &mut *pair.dialer, 0); // the first body is done
    pair.dialer.reset_lane(bodies[1], 0);
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    let done: Vec<LaneId> = heard.bodies.iter().map(|(lane, _)| *lane).collect();
    assert_eq!(done, [bodies[0], bodies[2]]);
}

#[test]
fn a_stop_that_crosses_the_end_is_not_answered_with_a_reset() {
    let mut pair = Pair::new(false, &small());
    let lane = submit(&mut *pair.dialer, b"head", &pattern(0, 300)).unwrap();
    let all = written(&mut *pair.dialer, 0);
    let first = 3 + usize::from(all[2]);
    reads(&mut *pair.listener, &all[..first], 0).unwrap();
    pair.listener.stop_lane(lane, 4);
    support::pass(&mut *pair.listener, &mut *pair.dialer, 0);
    assert_eq!(
        pair.dialer.poll_event(),
        Some(LinkEvent::LaneStopped { lane, code: 4 })
    );
    assert!(!pair.dialer.wants_write());
    reads(&mut *pair.listener, &all[first..], 0).unwrap();
    submit(&mut *pair.listener, b"x", b"");
    pair.settle(0);
    assert_eq!(
        (pair.dialer.stats().lanes_out, pair.listener.stats().lanes_in),
        (0, 0)
    );
}

#[test]
fn as_many_bodies_as_named_and_no_more() {
    let mut pair = Pair::new(false, &small());
    for _ in 0..16 {
        submit(&mut *pair.dialer, b"", &[1; 300]);
    }
    assert_eq!(
        pair.dialer.submit(b"", Body::Slice(&[1; 300])),
        Err(Misuse::Lanes.into())
    );
    assert_eq!(pair.dialer.open_lane(Class::Normal), Err(Misuse::Lanes.into()));
    assert_eq!(submit(&mut *pair.dialer, b"", b"a small one still goes"), None);
    pair.settle(0);
    submit(&mut *pair.dialer, b"", &[1; 300]);
}

#[test]
fn given_up_bodies_are_forgotten_on_both_sides() {
    for stop in [true, false] {
        let mut pair = Pair::new(true, &small());
        let lane = submit(&mut *pair.dialer, b"large", &[1; 3000]).unwrap();
        support::pass(&mut *pair.dialer, &mut *pair.listener, 0);
        if stop {
            pair.listener.stop_lane(lane, 5);
        } else {
            pair.dialer.reset_lane(lane, 5);
        }
        pair.settle(0);
        pair.listener.handle_timeout(SECOND).unwrap();
        pair.settle(SECOND);
        let (mut from, mut to) = (Heard::default(), Heard::default());
        from.take(&mut *pair.dialer);
        to.take(&mut *pair.listener);
        if stop {
            assert_eq!(from.others, [LinkEvent::LaneStopped { lane, code: 5 }]);
            assert_eq!(to.others, []);
        } else {
            assert_eq!(from.others, []);
            assert_eq!(to.others, [LinkEvent::LaneReset { lane, code: 5 }]);
        }
        for link in [&pair.dialer, &pair.listener] {
            let stats = link.stats();
            assert_eq!((stats.lanes_in, stats.lanes_out, stats.unsent), (0, 0, 0));
        }
    }
}

#[test]
fn a_stream_lane_flows_within_its_credit() {
    let mut pair = Pair::new(true, &small());
    let lane = pair.dialer.open_lane(Class::Interactive).unwrap();
    assert_eq!(pair.dialer.lane_room(lane), 1024);
    let bytes = pattern(1, 3000);
    pair.dialer
        .write_lane(lane, Bytes::copy_from_slice(&bytes))
        .unwrap();
    pair.dialer.end_lane(lane);
    assert_eq!(pair.dialer.lane_room(lane), 0);
    assert_eq!(
        pair.dialer.write_lane(lane, Bytes::new()),
        Err(Misuse::UnknownLane(lane).into())
    );
    pair.settle(0);
    pair.listener.accept_lane(lane, 0).unwrap();
    let mut got = Vec::new();
    let mut ended = false;
    for _ in 0..20 {
        while let Some(event) = pair.listener.poll_event() {
            let LinkEvent::LaneData { bytes, end, .. } = event else {
                panic!("{event:?}")
            };
            got.extend_from_slice(&bytes);
            ended |= end;
        }
        pair.listener.grant(lane, got.len() as u64 + 500);
        pair.settle(0);
    }
    assert!(ended && got == bytes);
}

#[test]
fn after_a_conversation_a_link_says_what_else_there_is_to_say() {
    type Act = fn(&mut Pair, [LaneId; 2]);
    let acts: [(&str, Act); 14] = [
        ("write", |pair, [lane, _]| {
            pair.dialer.write_lane(lane, Bytes::from_static(b"more")).unwrap();
        }),
        ("end", |pair, [lane, _]| pair.dialer.end_lane(lane)),
        ("reset", |pair, [lane, _]| pair.dialer.reset_lane(lane, 1)),
        ("accept", |pair, [_, held]| {
            pair.listener.accept_lane(held, 2000).unwrap();
        }),
        ("grant", |pair, [lane, _]| pair.listener.grant(lane, 2000)),
        ("stop", |pair, [lane, _]| pair.listener.stop_lane(lane, 1)),
        ("ping", |pair, _| pair.dialer.ping(1)),
        ("pong", |pair, _| {
            reads(&mut *pair.dialer, &frame(0x08, 0, &[0; 8]), 0).unwrap();
        }),
        ("be patient no longer", |pair, _| {
            pair.dialer.handle_timeout(15 * SECOND).unwrap();
        }),
        ("close", |pair, _| pair.dialer.close(CloseReason::done())),
        ("abandon, and close", |pair, _| {
            pair.dialer.abandon();
            assert!(!pair.dialer.wants_write());
            pair.dialer.close(CloseReason::done());
        }),
        ("lose the carrier, and go on over another", |pair, _| {
            pair.dialer.detach(0).unwrap();
            assert!(!pair.dialer.wants_write());
            pair.dialer.attach(AttachConfig::new([3; 16]), 0).unwrap();
        }),
        ("fail", |pair, _| {
            reads(&mut *pair.dialer, &[0x00, 0, 0], 0).unwrap_err();
        }),
        ("be done with a body", |pair, _| {
            submit(&mut *pair.dialer, b"", &pattern(1, 300));
            assert!(support::pass(&mut *pair.dialer, &mut *pair.listener, 0));
        }),
    ];
    let mut limits = small();
    limits.lanes = 4;
    for (name, act) in acts {
        let mut pair = Pair::new(true, &limits);
        let lanes = [0, 1].map(|_| {
            let lane = pair.dialer.open_lane(Class::Normal).unwrap();
            pair.dialer
                .write_lane(lane, Bytes::from_static(b"first"))
                .unwrap();
            lane
        });
        pair.settle(0);
        pair.listener.accept_lane(lanes[0], 1500).unwrap();
        pair.settle(0);
        submit(&mut *pair.dialer, b"question", b"");
        submit(&mut *pair.listener, b"answer", b"");
        pair.settle(0);
        assert!(!pair.dialer.wants_write() && !pair.listener.wants_write());
        act(&mut pair, lanes);
        let side = if pair.dialer.wants_write() {
            &mut pair.dialer
        } else {
            &mut pair.listener
        };
        assert!(
            side.wants_write() && !written(&mut **side, 0).is_empty(),
            "{name}"
        );
    }
}

#[test]
fn a_conversation_costs_no_write_for_acknowledgements() {
    let mut pair = Pair::new(true, &Limits::default());
    let mut now = 0;
    for _ in 0..1000 {
        for (from, to) in [(0, 1), (1, 0)] {
            let links = [&mut pair.dialer, &mut pair.listener];
            let [a, b] = links;
            let (from, to) = if from < to { (a, b) } else { (b, a) };
            submit(&mut **from, &[1; 60], b"");
            assert!(support::pass(&mut **from, &mut **to, now));
            assert!(!from.wants_write());
            assert!(!to.wants_write());
            now += 1000;
        }
    }
    assert!(pair.dialer.stats().retained < 8 * 1024);
    // the rest is acknowledged late, once
    let due = pair.dialer.poll_timeout().unwrap();
    assert!(due > now && due <= now + SECOND);
    pair.dialer.handle_timeout(due).unwrap();
    assert_eq!(frames(&written(&mut *pair.dialer, due)).len(), 1);
    assert!(!pair.dialer.wants_write());
    assert!(pair.dialer.poll_timeout().unwrap() > due + SECOND);
}

#[test]
fn a_one_sided_stream_is_acknowledged_every_128_kib() {
    let mut pair = Pair::new(true, &Limits::default());
    for n in 0..20 {
        submit(&mut *pair.dialer, &[1; 10_000], b"");
        support::pass(&mut *pair.dialer, &mut *pair.listener, 0);
        assert_eq!(pair.listener.wants_write(), n >= 13);
    }
    let told = frames(&written(&mut *pair.listener, 0));
    assert!(matches!(&told[..], [(0x03, 0, _)]));
}

/// Each took a write of its own, and woke a peer that had nothing more to write than the rest of a body.
#[test]
fn an_acknowledgement_alone_waits_for_the_rest_of_a_body_that_needs_no_more_credit() {
    for (len, waits) in [(400_000, true), (900_000, false)] {
        let mut pair = Pair::new(true, &Limits::default());
        submit(&mut *pair.dialer, b"head", &vec![1; len]);
        let mut sent = &written(&mut *pair.dialer, 0)[..];
        let mut input = BytesMut::new();
        let mut come = |many: usize| {
            input.extend_from_slice(sent.split_off(..many).unwrap());
            let listener = &mut pair.listener;
            listener
                .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
                .unwrap();
            let speaks = listener.wants_write();
            if speaks {
                written(&mut **listener, 0);
            }
            speaks
        };
        // Each time within a frame.
        assert_eq!(come(50_000), !waits, "more credit for {len}");
        assert!(!come(50_000), "{len}");
        assert_eq!(come(100_000), !waits, "{len}");
    }
}

#[test]
fn an_acknowledgement_alone_waits_no_longer_than_a_frame_or_a_mebibyte() {
    let limits = limits(|limits| limits.first_credit = 4 << 20);
    let mut pair = Pair::new(true, &limits);
    submit(&mut *pair.dialer, b"head", &vec![1; 2 << 20]);
    let (mut input, mut came) = (BytesMut::new(), 0);
    while !pair.listener.wants_write() {
        let bytes = written(&mut *pair.dialer, 0);
        assert!(!bytes.is_empty());
        came += bytes.len();
        // The last byte of a frame comes with the next one.
        let last = input.len() + bytes.len() - 1;
        input.extend_from_slice(&bytes);
        let rest = input.split_off(last);
        pair.listener
            .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
            .unwrap();
        input.unsplit(rest);
    }
    assert!((1 << 20..(1 << 20) + (300 << 10)).contains(&came), "{came}");
    written(&mut *pair.listener, 0);
    let bytes = written(&mut *pair.dialer, 0);
    assert!(bytes.len() > 128 << 10);
    input.extend_from_slice(&bytes);
    pair.listener
        .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
        .unwrap();
    assert!(
        input.is_empty() && pair.listener.wants_write(),
        "the peer may wait"
    );
}

#[test]
fn sending_waits_at_the_bound_of_what_is_kept() {
    let limits = limits(|limits| {
        limits.retained = 256 << 10;
        limits.reserve = 64 << 10;
    });
    let mut pair = Pair::new(true, &limits);
    submit(&mut *pair.dialer, b"", &pattern(0, 250_000));
    let mut batch = Batch::new();
    let mut sent = 0;
    while pair.dialer.poll_transmit(&mut batch, 0) {
        sent += batch.len();
        batch.clear();
    }
    assert!(
        (192 << 10..(192 + 17) << 10).contains(&sent),
        "bodies leave the reserve: {sent}"
    );
    for _ in 0..20 {
        submit(&mut *pair.dialer, &[0; 10_000], b"");
    }
    while pair.dialer.poll_transmit(&mut batch, 0) {
        sent += batch.len();
        batch.clear();
    }
    assert!(
        (256 << 10..(256 + 17) << 10).contains(&sent),
        "messages have it to themselves: {sent}"
    );
    assert!(!pair.dialer.wants_write());
    let mut upto = Vec::new();
    varint::put(&mut upto, 20_000);
    reads(&mut *pair.dialer, &frame(0x03, 0, &upto), 0).unwrap();
    assert!(pair.dialer.wants_write());
}

#[test]
fn what_waits_is_bounded() {
    let limits = limits(|limits| {
        limits.retained = 256 << 10;
        limits.backlog = 300 << 10;
        limits.message = 64 << 10;
    });
    let mut pair = Pair::new(true, &limits);
    assert!(!pair.dialer.is_congested());
    let mut taken = 0;
    while pair.dialer.submit(&[0; 1000], Body::EMPTY).is_ok() {
        taken += 1003;
    }
    assert!((299 << 10..=301 << 10).contains(&taken), "{taken}");
    assert_eq!(
        pair.dialer.submit(&[0; 1000], Body::EMPTY),
        Err(Misuse::Backlog.into())
    );
    let lane = pair.dialer.open_lane(Class::Bulk).unwrap();
    assert_eq!(
        pair.dialer.write_lane(lane, Bytes::from(vec![0; 9000])),
        Err(Misuse::Backlog.into())
    );
    assert!(pair.dialer.is_congested());
    pair.settle(0);
    assert!(!pair.dialer.is_congested());
}

#[test]
fn positions_tell_what_was_transmitted() {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, b"one", b"");
    let first = pair.dialer.position();
    assert!(!pair.dialer.is_transmitted(first));
    written(&mut *pair.dialer, 0);
    submit(&mut *pair.dialer, b"two", b"");
    let second = pair.dialer.position();
    assert!(pair.dialer.is_transmitted(first) && !pair.dialer.is_transmitted(second));
    assert!(!pair.dialer.is_acknowledged(first));
}

#[test]
fn an_abort_goes_out_at_once_and_instead_of_everything() {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, b"queued", &[0; 100_000]);
    pair.dialer.close(CloseReason::done());
    pair.dialer
        .close(CloseReason::new(CloseReason::FAILED, "disk full"));
    assert_eq!(
        frames(&written(&mut *pair.dialer, 0)),
        [(0x0e, 0, b"\x03disk full".to_vec())]
    );
    assert!(pair.dialer.is_finished());
}

#[test]
fn an_orderly_end_waits_for_bodies() {
    let mut pair = Pair::new(true, &small());
    submit(&mut *pair.dialer, b"", &pattern(0, 3000));
    pair.dialer.close(CloseReason::done());
    written_into(&mut *pair.dialer, &mut *pair.listener);
    assert!(!pair.dialer.is_finished(), "the body waits for credit");
    pair.settle(0);
    assert!(pair.dialer.is_finished());
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.whole().unwrap(), [pattern(0, 3000)]);
    assert_eq!(heard.others, [LinkEvent::PeerClosing(CloseReason::done())]);
    // whoever has closed, or been closed, is not surprised by the end
    for link in [&mut pair.dialer, &mut pair.listener] {
        let ended = link.handle_bytes(StreamKey::MAIN, &mut BytesMut::new(), true, 0);
        assert_eq!(ended, Ok(()));
    }
}

fn written_into(from: &mut dyn Link, to: &mut dyn Link) {
    support::pass(from, to, 0);
}

#[test]
fn a_silent_peer_is_asked_and_then_lost() {
    let mut pair = Pair::new(false, &Limits::default());
    let due = pair.dialer.poll_timeout().unwrap();
    assert_eq!(due, 15 * SECOND);
    pair.dialer.handle_timeout(due).unwrap();
    assert_eq!(frames(&written(&mut *pair.dialer, due))[0].0, 0x08);
    pair.dialer.handle_timeout(30 * SECOND).unwrap();
    assert_eq!(pair.dialer.handle_timeout(45 * SECOND), Err(Loss::Silent.into()));
}

#[test]
fn a_peer_that_does_not_introduce_itself_is_lost() {
    for role in [Role::Dialer, Role::Listener] {
        let mut link = Form::Stream.link(config(role, true, 1));
        assert_eq!(link.poll_timeout(), Some(10 * SECOND));
        link.handle_timeout(10 * SECOND - 1).unwrap();
        assert_eq!(link.handle_timeout(10 * SECOND), Err(Loss::Handshake.into()));
    }
}

#[test]
fn pongs_come_back_while_bulk_flows() {
    let limits = limits(|limits| limits.idle = Duration::ZERO);
    let mut pair = Pair::new(false, &limits);
    assert_eq!(pair.dialer.poll_timeout(), None);
    submit(&mut *pair.dialer, b"", &pattern(0, 400_000));
    pair.dialer.ping(5);
    let told = frames(&written(&mut *pair.dialer, 6));
    assert_eq!(told[0].0, 0x08);
}
