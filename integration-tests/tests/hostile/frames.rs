//! Peers that break a rule of the frames, or never end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use farref::message::Message;
use farref_framing::CloseReason;
use farref_integration_tests::bench::Bench;
use farref_integration_tests::media::within;
use farref_integration_tests::raw_peer::{call, hello};
use farref_integration_tests::siege::{self, announced, frame, preface};

use super::{House, message};

/// A call whose arguments are bytes.
fn bytes(number: u64) -> Message<'static> {
    message(call::<dyn Bench>(number, 0, "bytes"))
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
        ("more than an offset", &[0x02, 1, 2, 5, 5]),
        ("credit for a lane that is not there", &[0x02, 1, 1, 5]),
        ("the end of lane 0", &[0x04, 0, 0]),
        ("an end with something in it", &[0x04, 1, 1, 5]),
        ("a reset without a code", &[0x05, 1, 0]),
        ("a stop of a lane that is not there", &[0x06, 4, 1, 1]),
        ("a lane done that is not there", &[0x07, 4, 0]),
        ("a ping on a lane", &[&[0x08, 1, 8][..], &[0; 8]].concat()),
        ("a ping that is too short", &[&[0x08, 0, 7][..], &[0; 7]].concat()),
        ("a refusal by a dialer", &[0x0d, 0, 1, 1]),
        ("a close without a code", &[0x0e, 0, 0]),
        ("a close in no letters", &[0x0e, 0, 2, 0, 0xff]),
        (
            "a close that is too long",
            &[&[0x0e, 0, 0xfb, 10, 1][..], &[b'a'; 266]].concat(),
        ),
        (
            "a lane named twice",
            &[announced(1, 9, &bytes(1)), announced(1, 9, &bytes(2))].concat(),
        ),
        (
            "a body that ends too early",
            &[announced(1, 9, &bytes(1)), frame(1, 1, &[8; 8]), frame(4, 1, &[])].concat(),
        ),
        (
            "a body that ends too late",
            &[announced(1, 9, &bytes(1)), frame(1, 1, &[8; 10])].concat(),
        ),
        (
            "a lane that goes on behind its end",
            &[frame(1, 1, &[8; 9]), frame(4, 1, &[]), frame(1, 1, &[8])].concat(),
        ),
        (
            "a lane that goes on behind its reset",
            &[frame(1, 1, &[8; 9]), frame(5, 1, &[1]), frame(1, 1, &[8])].concat(),
        ),
        ("a body on lane 0", &announced(0, 9, &bytes(1))),
        ("an empty body", &announced(1, 0, &bytes(1))),
        (
            "a body that is longer than declared",
            &announced(1, 1 << 20, &bytes(1)),
        ),
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

/// PROTOCOL.md § 3.7.
#[test]
fn a_ping_is_answered_with_its_stamp() {
    let house = House::new();
    let mut stream = UnixStream::connect(&house.path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hello = siege::message(&hello(), b"");
    for bytes in [preface(false), hello, frame(8, 0, b"a stamp.")] {
        stream.write_all(&bytes).unwrap();
    }
    let (pong, mut heard) = (frame(9, 0, b"a stamp."), Vec::new());
    while !heard.windows(pong.len()).any(|piece| piece == pong) {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "it hung up: {heard:x?}");
        heard.extend_from_slice(&piece[..read]);
    }
    drop(stream);
    house.stands();
}
