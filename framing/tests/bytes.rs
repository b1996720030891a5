//! Every frame and the first flights, byte by byte, as PROTOCOL.md draws them: written, and read.

#![cfg(test)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use farref_framing::{
    AttachConfig, Body, CloseReason, LaneId, Limits, LinkEvent, RejectCode, Rejection, Role,
};
use farref_transport::Class;
use support::{Form, Pair, config, frame, frames, limits, reads, submit, written};

/// The preface of a side with the default limits; PROTOCOL.md § 2.1.
#[rustfmt::skip]
fn preface(flags: u8, nonce: u8) -> Vec<u8> {
    let mut bytes = vec![
        0xa9, b'F', b'A', b'R', // magic
        1, 1,                   // lowest and highest version
        flags, 0,               // flags, reserved
    ];
    bytes.extend_from_slice(&[nonce; 16]);
    bytes.extend_from_slice(&[
        32, 0,                    // length of the fields
        0x01, 3, 251, 0, 0x40,    // fragment 16 KiB
        0x02, 5, 252, 0, 0, 0, 1, // message 16 MiB
        0x03, 1, 32,              // lanes
        0x04, 3, 251, 0, 4,       // named 1024
        0x05, 5, 252, 0, 0, 8, 0, // first credit 512 KiB
        0x06, 3, 251, 0x60, 0xea, // resume window 60 s
    ]);
    bytes
}

#[test]
fn the_first_flights() {
    let mut dialer = Form::Stream.link(config(Role::Dialer, true, 7));
    let mut listener = Form::Stream.link(config(Role::Listener, true, 8));
    submit(&mut *dialer, b"hi", b"!");

    let mut first = preface(0b0000_0010, 7);
    first.extend_from_slice(&[0x0a, 0, 32]); // SESSION_NEW
    first.extend_from_slice(&[7; 32]);
    first.extend_from_slice(&[0x01, 0, 4, 6, b'h', b'i', b'!']); // DATA: a message of 3 bytes
    assert_eq!(written(&mut *dialer, 0), first);

    assert!(!listener.wants_write(), "a listener speaks second");
    submit(&mut *listener, b"", b"yes");
    assert!(written(&mut *listener, 0).is_empty());
    reads(&mut *listener, &first, 0).unwrap();
    let mut second = preface(0b0000_0011, 8);
    second.extend_from_slice(&[0x0a, 0, 32]);
    second.extend_from_slice(&[8; 32]);
    second.extend_from_slice(&[0x01, 0, 4, 6, b'y', b'e', b's']);
    assert_eq!(written(&mut *listener, 0), second);

    reads(&mut *dialer, &second, 0).unwrap();
    for (link, text) in [(&mut dialer, "yes"), (&mut listener, "hi!")] {
        let Some(LinkEvent::Opened(agreed)) = link.poll_event() else {
            panic!("not opened")
        };
        assert_eq!(
            (agreed.version, agreed.fragment, agreed.message),
            (1, 16 << 10, 16 << 20)
        );
        assert_eq!(agreed.resume_window, Duration::from_secs(60));
        let Some(LinkEvent::Message(message)) = link.poll_event() else {
            panic!("no message")
        };
        assert_eq!(message.bytes, text);
    }
    assert!(dialer.session().is_some() && dialer.session() == listener.session());
}

#[test]
fn messages_and_bodies() {
    let mut pair = Pair::new(false, &limits(|limits| limits.fragment = 240));
    submit(&mut *pair.dialer, b"abc", b"");
    submit(&mut *pair.dialer, b"head", &[5; 300]);
    let told = frames(&written(&mut *pair.dialer, 0));
    let mut lane0 = vec![6, b'a', b'b', b'c']; // length 3
    lane0.extend_from_slice(&[9, 1, 251, 44, 1]); // length 4 and a body: lane 1, 300 bytes
    lane0.extend_from_slice(b"head");
    let want = [
        (0x01, 0, lane0),
        (0x01, 1, vec![5; 240]),
        (0x01, 1, vec![5; 60]),
        (0x04, 1, vec![]), // LANE_END
    ];
    assert_eq!(told, want);
    let bytes: Vec<u8> = told
        .iter()
        .flat_map(|(kind, lane, payload)| frame(*kind, *lane, payload))
        .collect();
    reads(&mut *pair.listener, &bytes, 0).unwrap();
    let mut heard = support::Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(
        heard.whole().unwrap(),
        [b"abc".to_vec(), [&b"head"[..], &[5; 300]].concat()]
    );
    submit(&mut *pair.listener, b"", b"x");
    let told = written(&mut *pair.listener, 0);
    assert_eq!(told, [0x07, 1, 0, 0x01, 0, 2, 2, b'x']); // LANE_DONE rides along
    reads(&mut *pair.dialer, &told, 0).unwrap();
    assert_eq!(pair.dialer.stats().lanes_out, 0);
}

#[test]
fn credit_stop_and_reset() {
    let mut pair = Pair::new(false, &limits(|limits| limits.first_credit = 1024));
    let lane = pair.dialer.open_lane(Class::Interactive).unwrap();
    pair.dialer.write_lane(lane, Bytes::from(vec![1; 2000])).unwrap();
    pair.settle(0);
    assert_eq!(pair.listener.poll_event(), None, "an unnamed lane is held");
    pair.listener.accept_lane(lane, 1500).unwrap();
    let told = written(&mut *pair.listener, 0);
    assert_eq!(told, [0x02, 1, 3, 251, 0xdc, 5]); // CREDIT up to 1500
    let Some(LinkEvent::LaneData {
        bytes, end: false, ..
    }) = pair.listener.poll_event()
    else {
        panic!()
    };
    assert_eq!(bytes, [1; 1024][..]);
    reads(&mut *pair.dialer, &told, 0).unwrap();
    assert_eq!(
        pair.dialer.poll_event(),
        Some(LinkEvent::LaneCredit { lane, upto: 1500 })
    );
    let rest = written(&mut *pair.dialer, 0);
    assert_eq!(rest, frame(0x01, 1, &[1; 476]));
    reads(&mut *pair.listener, &rest, 0).unwrap();

    pair.listener.stop_lane(lane, 9);
    let told = written(&mut *pair.listener, 0);
    assert_eq!(told, [0x06, 1, 1, 9]); // LANE_STOP
    reads(&mut *pair.dialer, &told, 0).unwrap();
    assert_eq!(
        pair.dialer.poll_event(),
        Some(LinkEvent::LaneStopped { lane, code: 9 })
    );
    let told = written(&mut *pair.dialer, 0);
    assert_eq!(told, [0x05, 1, 1, 9]); // LANE_RESET
    reads(&mut *pair.listener, &told, 0).unwrap();
    pair.settle(2_000_000_000);
    pair.listener.handle_timeout(2_000_000_000).unwrap();
    assert_eq!(
        (pair.dialer.stats().lanes_out, pair.listener.stats().lanes_in),
        (1, 0)
    );
}

#[test]
fn pings_and_acknowledgements() {
    let mut pair = Pair::new(true, &Limits::default());
    pair.dialer.ping(258);
    let told = written(&mut *pair.dialer, 300);
    assert_eq!(told, [0x08, 0, 8, 2, 1, 0, 0, 0, 0, 0, 0]);
    reads(&mut *pair.listener, &told, 400).unwrap();
    let told = written(&mut *pair.listener, 500);
    assert_eq!(told, [0x09, 0, 8, 2, 1, 0, 0, 0, 0, 0, 0]);
    reads(&mut *pair.dialer, &told, 600).unwrap();
    assert_eq!(
        pair.dialer.poll_event(),
        Some(LinkEvent::Pong {
            rtt: Duration::from_nanos(600 - 258)
        })
    );

    submit(&mut *pair.dialer, &[1; 5000], b"");
    pair.settle(600);
    submit(&mut *pair.listener, b"", b"x");
    let told = written(&mut *pair.listener, 600);
    assert_eq!(told, [0x03, 0, 3, 251, 0x8b, 0x13, 0x01, 0, 2, 2, b'x']); // ACK of 3 + 5000 bytes rides along
    let position = pair.dialer.position();
    assert!(!pair.dialer.is_acknowledged(position));
    reads(&mut *pair.dialer, &told, 600).unwrap();
    assert!(pair.dialer.is_acknowledged(position));
    assert_eq!(pair.dialer.stats().retained, 0);
}

#[test]
fn close() {
    let mut pair = Pair::new(false, &Limits::default());
    submit(&mut *pair.dialer, b"", b"last");
    pair.dialer.close(CloseReason::new(CloseReason::DONE, "bye"));
    assert!(pair.dialer.submit(b"", Body::Slice(b"too late")).is_err());
    let told = written(&mut *pair.dialer, 0);
    assert_eq!(
        told,
        [
            0x01, 0, 5, 8, b'l', b'a', b's', b't', 0x0e, 0, 4, 0, b'b', b'y', b'e'
        ]
    );
    assert!(pair.dialer.is_finished() && !pair.dialer.wants_write());
    reads(&mut *pair.listener, &told, 0).unwrap();
    assert!(matches!(pair.listener.poll_event(), Some(LinkEvent::Message(_))));
    let reason = CloseReason::new(CloseReason::DONE, "bye");
    assert_eq!(pair.listener.poll_event(), Some(LinkEvent::PeerClosing(reason)));
}

#[test]
fn resume_resumed_and_reject() {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, b"", b"first");
    pair.settle(0);
    let id = pair.dialer.session().unwrap();
    pair.dialer.detach(1_000_000).unwrap();
    pair.dialer
        .attach(AttachConfig::new([9; 16]), 301_000_000)
        .unwrap();
    let told = written(&mut *pair.dialer, 301_000_000);
    let front = preface(0b0000_0110, 9);
    assert_eq!(told[..front.len()], front);
    let resume = frames(&told[front.len()..]).remove(0);
    assert_eq!((resume.0, resume.1), (0x0b, 0));
    let (body, proof) = resume.2.split_at(resume.2.len() - 32);
    let mut want = id.as_bytes().to_vec();
    want.extend_from_slice(&[2, 251, 44, 1]); // epoch 2, down for 300 ms
    want.extend_from_slice(&[0, 0, 0]); // nothing received: lane 0, highest lane, lanes open
    assert_eq!(body, want);
    assert_ne!(proof, [0; 32]);

    let fresh = |salt| Form::Stream.link(config(Role::Listener, true, salt));
    let mut asked = fresh(3);
    reads(&mut *asked, &told, 302_000_000).unwrap();
    assert!(!asked.wants_write(), "the answer is not this link's to give");
    let Some(LinkEvent::ResumeRequested(request)) = asked.poll_event() else {
        panic!("not asked")
    };
    assert_eq!(request.session(), id);
    pair.listener.resume(*request, 302_000_000).unwrap();
    let told = written(&mut *pair.listener, 302_000_000);
    let front = preface(0b0000_0011, 3);
    assert_eq!(told[..front.len()], front);
    let resumed = frames(&told[front.len()..]).remove(0);
    assert_eq!((resumed.0, resumed.1), (0x0c, 0));
    assert_eq!(resumed.2[..resumed.2.len() - 32], [2, 0, 6, 0, 0]); // epoch, down, lane 0 up to 6, no lanes
    reads(&mut *pair.dialer, &told, 302_000_000).unwrap();
    assert_eq!(
        pair.dialer.poll_event(),
        Some(LinkEvent::Resumed { down: Duration::ZERO })
    );

    let mut refusing = fresh(4);
    let mut stranger = Pair::new(true, &Limits::default()).dialer;
    stranger.detach(0).unwrap();
    stranger.attach(AttachConfig::new([5; 16]), 0).unwrap();
    reads(&mut *refusing, &written(&mut *stranger, 0), 0).unwrap();
    assert!(matches!(
        refusing.poll_event(),
        Some(LinkEvent::ResumeRequested(_))
    ));
    refusing.reject(Rejection::new(RejectCode::Unknown));
    let told = written(&mut *refusing, 0);
    assert_eq!(told[preface(0, 0).len()..], [0x0d, 0, 1, 1]);
    assert!(refusing.is_finished());
    let refused = reads(&mut *stranger, &told, 0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the peer refused to resume the session: it does not know the session"
    );
}

#[test]
fn a_lane_on_a_native_stream() {
    use farref_framing::{Batch, StreamKey};
    let mut dialer = Form::Native.link(config(Role::Dialer, false, 1));
    let mut listener = Form::Native.link(config(Role::Listener, false, 2));
    support::pass(&mut *dialer, &mut *listener, 0);
    support::pass(&mut *listener, &mut *dialer, 0);
    let lane = dialer.open_lane(Class::Normal).unwrap();
    dialer.write_lane(lane, Bytes::from_static(b"raw")).unwrap();
    dialer.end_lane(lane);
    let mut batch = Batch::new();
    assert!(dialer.poll_transmit(&mut batch, 0));
    assert_eq!(batch.to_vec(StreamKey::new(1)), [0x01, 1, 0, b'r', b'a', b'w']); // kind, lane, offset, bytes
    assert!(batch.to_vec(StreamKey::MAIN).is_empty());
    let _ = listener.poll_event();
    for (at, byte) in batch.to_vec(StreamKey::new(1)).iter().enumerate() {
        let mut input = bytes::BytesMut::from(&[*byte][..]);
        listener
            .handle_bytes(StreamKey::new(5), &mut input, at == 5, 0)
            .unwrap();
    }
    listener.accept_lane(LaneId::new(1), 0).unwrap();
    let bytes = Bytes::from_static(b"raw");
    assert_eq!(
        listener.poll_event(),
        Some(LinkEvent::LaneData {
            lane,
            bytes,
            end: false
        })
    );
    let end = LinkEvent::LaneData {
        lane,
        bytes: Bytes::new(),
        end: true,
    };
    assert_eq!(listener.poll_event(), Some(end));
}
