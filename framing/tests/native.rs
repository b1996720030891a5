//! Lanes on native streams, against a raw peer: what comes early, twice, late, or not at all.

#![cfg(test)]

mod support;

use std::future::poll_fn;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use farref_framing::{Breach, LaneId, Limits, Link, LinkError, LinkEvent, Role, StreamKey, open};
use farref_transport::{Carrier, Class, memory};
use support::{End, Form, Heard, Side, config, frame, limits, pattern, reads, run, submit, written};

fn small() -> Limits {
    limits(|limits| {
        limits.fragment = 240;
        limits.lanes = 2;
        limits.first_credit = 1024;
    })
}

/// A listener, and what its dialer says first.
fn listener() -> (Box<dyn Link>, Vec<u8>) {
    let mut listening = config(Role::Listener, false, 2);
    listening.limits = small();
    let hello = written(&mut *Form::Native.link(config(Role::Dialer, false, 1)), 0);
    (Form::Native.link(listening), hello)
}

fn stream(link: &mut dyn Link, key: u64, bytes: &[u8], end: bool) -> Result<(), LinkError> {
    let mut input = BytesMut::from(bytes);
    link.handle_bytes(StreamKey::new(key), &mut input, end, 0)
}

/// A message that names lane 1 as that of its body of 5 bytes.
fn named() -> Vec<u8> {
    frame(0x01, 0, &[1, 1, 5])
}

fn body(link: &mut dyn Link) -> Option<Bytes> {
    let mut heard = Heard::default();
    heard.take(link);
    heard.bodies.pop().map(|(_, body)| body)
}

#[test]
fn a_lane_that_comes_before_the_preface_is_held() {
    let (mut link, hello) = listener();
    stream(&mut *link, 1, &[0x01, 1], false).unwrap();
    stream(&mut *link, 1, b"\x00early", true).unwrap();
    assert_eq!(link.poll_event(), None);
    reads(&mut *link, &[hello, named()].concat(), 0).unwrap();
    assert_eq!(body(&mut *link).unwrap(), "early");
}

#[test]
fn no_more_than_that_is_held() {
    let (mut link, _) = listener();
    stream(&mut *link, 1, &[0; 1024 + 19], false).unwrap();
    assert_eq!(
        stream(&mut *link, 1, &[0], false),
        Err(Breach::Unexpected { kind: 1 }.into())
    );
    let (mut link, _) = listener();
    stream(&mut *link, 1, &[0], false).unwrap();
    stream(&mut *link, 2, &[0], false).unwrap();
    assert_eq!(
        stream(&mut *link, 3, &[0], false),
        Err(Breach::Unexpected { kind: 1 }.into())
    );
}

#[test]
fn bytes_that_are_there_already_are_dropped() {
    let (mut link, hello) = listener();
    reads(&mut *link, &[hello, named()].concat(), 0).unwrap();
    stream(&mut *link, 1, b"\x01\x01\x00abc", false).unwrap();
    let lost = StreamKey::new(1).lost();
    link.handle_bytes(lost, &mut BytesMut::new(), true, 0).unwrap();
    for (at, byte) in b"\x01\x01\x01bcde".iter().enumerate() {
        stream(&mut *link, 2, &[*byte], at == 6).unwrap();
    }
    assert_eq!(body(&mut *link).unwrap(), "abcde");
}

#[test]
fn late_bytes_of_a_lane_that_was_given_up_are_dropped() {
    let (mut link, hello) = listener();
    reads(&mut *link, &[hello, named(), frame(0x05, 1, &[7])].concat(), 0).unwrap();
    stream(&mut *link, 1, b"\x01\x01\x00ab", false).unwrap();
    stream(&mut *link, 1, b"c", true).unwrap();
    let mut heard = Heard::default();
    heard.take(&mut *link);
    assert_eq!(
        heard.others[1..],
        [LinkEvent::LaneReset {
            lane: LaneId::new(1),
            code: 7
        }]
    );
}

#[test]
fn each_breach_on_a_stream_ends_the_link() {
    let lane = LaneId::new(1);
    let cases: [(&[&[u8]], Breach); 5] = [
        (&[b"\x02\x01\x00"], Breach::UnknownFrame { kind: 2 }),
        (&[b"\x01\x01\x05x"], Breach::Offset { lane, offset: 5 }),
        (
            &[b"\x01\x00\x00x"],
            Breach::Offset {
                lane: LaneId::new(0),
                offset: 0,
            },
        ),
        (
            &[b"\x01\x01\x00ab", b"\x01\x01\x02c"],
            Breach::LaneNamedTwice { lane },
        ),
        (
            &[b"\x01\x01\x00abcdef"],
            Breach::BodyLength {
                lane,
                announced: 5,
                received: 6,
            },
        ),
    ];
    for (streams, breach) in cases {
        let (mut link, hello) = listener();
        reads(&mut *link, &[hello, named()].concat(), 0).unwrap();
        let results: Vec<_> = (1..)
            .zip(streams)
            .map(|(key, bytes)| stream(&mut *link, key, bytes, false))
            .collect();
        assert_eq!(results.last(), Some(&Err(breach.into())));
        assert!(link.wants_write(), "the last words");
    }
}

#[test]
fn other_lanes_have_no_frames_on_the_main_stream() {
    for (kind, payload) in [(0x01, &b"x"[..]), (0x04, b"")] {
        let (mut link, hello) = listener();
        let handled = reads(&mut *link, &[hello, named(), frame(kind, 1, payload)].concat(), 0);
        assert_eq!(handled, Err(Breach::Unexpected { kind }.into()));
    }
}

#[test]
fn a_lane_given_up_at_any_moment_is_given_up() {
    for turns in (0..60).step_by(3) {
        let (near, far, _) = Form::Native.carriers(50);
        let mut dialer = Side::new(
            Form::Native.link(config(Role::Dialer, true, 1)),
            End::new(near, Role::Dialer),
        );
        let mut listener = Side::new(
            Form::Native.link(config(Role::Listener, true, 2)),
            End::new(far, Role::Listener),
        );
        run(&mut dialer, &mut listener, 0).unwrap();
        let lane = submit(&mut *dialer.link, b"large", &pattern(0, 80_000)).unwrap();
        let stream = dialer.link.open_lane(Class::Interactive).unwrap();
        dialer
            .link
            .write_lane(stream, Bytes::from(pattern(1, 300)))
            .unwrap();
        for _ in 0..turns {
            dialer.turn(0).unwrap();
            listener.turn(0).unwrap();
        }
        dialer.link.reset_lane(lane, 5);
        dialer.link.reset_lane(stream, 6);
        run(&mut dialer, &mut listener, 0).unwrap();
        listener.link.accept_lane(stream, 0).unwrap();
        listener.heard.take(&mut *listener.link);
        let told = &listener.heard.others;
        assert!(
            told.contains(&LinkEvent::LaneReset {
                lane: stream,
                code: 6
            }),
            "after {turns}"
        );
        let all = listener.heard.bodies.len(); // it may all have been on its way
        let reset = LinkEvent::LaneReset { lane, code: 5 };
        let resets = told.iter().filter(|event| **event == reset).count();
        assert_eq!(all + resets, 1, "after {turns}");
        assert_eq!(listener.link.stats().lanes_in, 0);
        submit(&mut *listener.link, b"and on", b"");
        run(&mut dialer, &mut listener, 0).unwrap();
        assert_eq!(dialer.heard.whole().unwrap(), [b"and on"]);
    }
}

#[tokio::test]
async fn a_stream_that_was_reset_is_reported_as_lost() {
    let (near, far) = memory::muxed_pair(64);
    let (_rx, mut tx) = near.open().await.unwrap();
    tx.try_write(&[IoSlice::new(b"main")]).unwrap();
    let (mut inlet, _outlet, _, _) = open(Carrier::Muxed(far), Role::Listener).await.unwrap();
    let mut lane = near.open_uni(Class::Bulk).await.unwrap();
    lane.try_write(&[IoSlice::new(b"lane")]).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let read = poll_fn(|cx| inlet.poll_read(cx)).await.unwrap().unwrap();
        seen.push((read.stream, inlet.buffer(read.stream).split().freeze(), read.end));
    }
    seen.sort();
    let (main, first) = (StreamKey::MAIN, StreamKey::new(1));
    let want = [
        (main, Bytes::from_static(b"main"), false),
        (first, Bytes::from_static(b"lane"), false),
    ];
    assert_eq!(seen, want);
    lane.reset(5);
    let read = poll_fn(|cx| inlet.poll_read(cx)).await.unwrap().unwrap();
    assert_eq!((read.stream, read.end), (first.lost(), true));
    assert!(inlet.buffer(read.stream).is_empty());
}
