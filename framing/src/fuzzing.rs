//! Bodies of the fuzz targets: each takes any bytes, and must not panic, hang, or take memory without bound.
//!
//! The same bodies run as property tests here.

mod carriers;
mod session;

use bytes::{Bytes, BytesMut};
use farref_transport::Class;

use crate::event::LinkEvent;
use crate::frame::Header;
use crate::lanes::reader::Reader;
use crate::link::{Body, LaneId, Link, LinkConfig, Nanos, Role, StreamKey};
use crate::preface::Preface;
use crate::session::RejectCode;
use crate::{Batch, Limits, NativeLink, Rejection, StreamLink, varint};

/// The preface of a peer.
pub fn preface(data: &[u8]) {
    if let Ok(Some((preface, len))) = Preface::decode(data) {
        assert!(len <= data.len());
        let mut out = Vec::new();
        preface.encode(&mut out);
        assert_eq!(Preface::decode(&out), Ok(Some((preface, out.len()))));
    }
}

/// Varints, frame headers, and messages cut into frames.
pub fn frames(data: &[u8]) {
    if let Ok(Some((value, len))) = varint::decode(data) {
        let mut out = Vec::new();
        varint::put(&mut out, value);
        assert_eq!(data.get(..len), Some(&out[..]));
    }
    let mut reader = Reader::new(4096);
    let mut rest = data;
    while let Ok(Some((header, at))) = Header::decode(rest, 240) {
        let end = at.saturating_add(header.len);
        let Some(payload) = rest.get(at..end) else { return };
        let mut payload = Bytes::copy_from_slice(payload);
        loop {
            match reader.next(&mut payload) {
                Ok(Some(message)) => assert!(message.bytes.len() <= 4096),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        rest = rest.get(end..).unwrap_or_default();
    }
}

/// A stream of a Python peer. What can be read can be written and read again.
#[expect(clippy::expect_used, reason = "a finding")]
pub fn rpyc(data: &[u8]) {
    use crate::rpyc::{Compress, FrameLimits, put_frame, take_frame};

    let limits = FrameLimits {
        payload: 4096,
        inflated: 16 << 10,
    };
    let mut input = BytesMut::from(data);
    loop {
        let before = input.len();
        let Ok(Some(payload)) = take_frame(&mut input, &limits) else {
            return;
        };
        assert!(input.len() < before && payload.len() <= limits.inflated);
        for compress in [Compress::Never, Compress::Auto, Compress::Always] {
            let mut stream = BytesMut::new();
            put_frame(&payload, compress, &mut stream).expect("what was read can be written");
            let again = take_frame(&mut stream, &FrameLimits::default());
            assert_eq!(again, Ok(Some(payload.clone())));
            assert!(stream.is_empty());
        }
    }
}

/// One end of a lossy line: noise, and frames of a peer that is there and says anything.
#[cfg(feature = "arq")]
pub fn line(data: &[u8]) {
    crate::arq::fuzz(data);
}

/// What comes before and beneath an encrypted link.
#[cfg(feature = "noise")]
pub fn noise(data: &[u8]) {
    crate::noise::fuzzing::noise(data);
}

/// A link that reads what no peer of ours would say: at once, after a preface, or in the middle of a session.
pub fn link(data: &[u8]) {
    let Some(([mode, size], data)) = data.split_first_chunk() else {
        return;
    };
    let role = if mode & 1 == 0 {
        Role::Dialer
    } else {
        Role::Listener
    };
    let other = if mode & 1 == 0 {
        Role::Listener
    } else {
        Role::Dialer
    };
    let config = |role, nonce| {
        let mut config = LinkConfig::new(role, [nonce; 16], [nonce; 32]);
        config.session = mode & 2 != 0;
        config.limits = Limits {
            message: 4096,
            lanes: 4,
            first_credit: 2048,
            ..Limits::default()
        };
        config
    };
    let make = |config| -> Box<dyn Link> {
        if mode & 4 == 0 {
            Box::new(StreamLink::new(config, 0))
        } else {
            Box::new(NativeLink::new(config, 0))
        }
    };
    let (mut link, mut peer) = (make(config(role, 1)), make(config(other, 2)));
    if mode & 8 != 0 {
        greet(&mut *link, &mut *peer);
        let _ = link.submit(b"head", Body::Slice(&[7; 20_000]));
        let _ = link.open_lane(Class::Normal);
    }
    let step = usize::from(*size).max(1);
    for (turn, chunk) in data.chunks(step).enumerate() {
        let now = Nanos::try_from(turn).unwrap_or(0).saturating_mul(1 << 28);
        let stream = if mode & 4 != 0 { turn % 3 } else { 0 };
        let stream = StreamKey::new(u64::try_from(stream).unwrap_or(0));
        let mut input = BytesMut::from(chunk);
        let end = mode & 16 != 0 && chunk.len() < step;
        let handled = link.handle_bytes(stream, &mut input, end, now);
        drain(&mut *link, now);
        if handled.is_err() || link.handle_timeout(now).is_err() {
            break;
        }
        if mode & 32 != 0 {
            let _ = link.accept_lane(LaneId::new(1), 4096);
            link.stop_lane(LaneId::new(2), 1);
        }
    }
    let _ = link.detach(0);
    drain(&mut *link, 0);
}

/// A link with a session, whose peer comes back with any claims, proven or not, over any row of carriers.
pub fn session(data: &[u8]) {
    session::session(data);
}

/// Two honest links in a session, and carriers that bring what was written in any pieces and are lost at any byte.
pub fn carriers(data: &[u8]) {
    carriers::carriers(data);
}

/// Lets two links introduce themselves.
fn greet(link: &mut dyn Link, peer: &mut dyn Link) {
    for _ in 0..3 {
        pass(link, peer);
        pass(peer, link);
    }
}

fn pass(from: &mut dyn Link, to: &mut dyn Link) {
    let mut batch = Batch::new();
    from.poll_transmit(&mut batch, 0);
    let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
    let _ = to.handle_bytes(StreamKey::MAIN, &mut input, false, 0);
}

/// Takes everything that a link wants to say.
fn drain(link: &mut dyn Link, now: Nanos) {
    while let Some(event) = link.poll_event() {
        match event {
            LinkEvent::Message(message) => assert!(message.bytes.len() <= 4096),
            LinkEvent::ResumeRequested(request) => {
                assert!(link.resume(*request, now).is_err());
                link.reject(Rejection::new(RejectCode::Unknown));
            }
            _ => {}
        }
    }
    let mut batch = Batch::new();
    while link.poll_transmit(&mut batch, now) {
        assert!(batch.len() < 1 << 20);
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames that are right in form, so that more than the first byte is reached.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![0_u64..6, 0_u64..5000, any::<u64>()];
        let frame = (
            1_u8..16,
            number.clone(),
            number,
            proptest::collection::vec(any::<u8>(), 0..40),
        )
            .prop_map(|(kind, lane, number, bytes)| {
                let mut payload = Vec::new();
                match kind {
                    2 | 3 | 5 | 6 => varint::put(&mut payload, number),
                    4 | 7 => {}
                    8 | 9 => payload.extend_from_slice(&number.to_le_bytes()),
                    10 => payload.extend_from_slice(&[9; 32]),
                    _ => payload = bytes,
                }
                let mut frame = vec![kind];
                varint::put(&mut frame, if kind < 8 { lane } else { 0 });
                varint::put(&mut frame, payload.len() as u64);
                frame.extend_from_slice(&payload);
                frame
            });
        proptest::collection::vec(frame, 0..30).prop_map(|frames| frames.concat())
    }

    proptest! {
        #[test]
        fn no_preface_harms(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            preface(&data);
        }

        #[test]
        fn no_frames_harm(data in proptest::collection::vec(any::<u8>(), 0..300), plausible in plausible()) {
            frames(&data);
            frames(&plausible);
        }

        #[test]
        fn no_stream_of_python_harms(
            data in proptest::collection::vec(any::<u8>(), 0..300),
            payloads in proptest::collection::vec(
                (0_u8..3, proptest::collection::vec(any::<u8>(), 0..40), 1..200_usize),
                0..4,
            ),
        ) {
            rpyc(&data);
            let mut stream = BytesMut::new();
            for (flag, payload, repeat) in payloads {
                let start = stream.len();
                let compress = if flag == 0 { crate::rpyc::Compress::Never } else { crate::rpyc::Compress::Always };
                crate::rpyc::put_frame(&payload.repeat(repeat), compress, &mut stream).unwrap();
                // Flagged and not compressed, sometimes.
                stream[start + 4] |= flag;
            }
            stream.extend_from_slice(&data);
            rpyc(&stream);
        }

        #[test]
        fn no_bytes_harm_a_link(mode: [u8; 2], data in proptest::collection::vec(any::<u8>(), 0..300)) {
            link(&[&mode[..], &data].concat());
        }

        #[cfg(feature = "arq")]
        #[test]
        fn no_bytes_harm_a_line(data in proptest::collection::vec(any::<u8>(), 0..1000)) {
            line(&data);
        }

        #[cfg(feature = "noise")]
        #[test]
        fn no_bytes_harm_encryption(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            noise(&data);
        }

        #[cfg(feature = "noise")]
        #[test]
        fn no_change_goes_unnoticed(mode: u8, changes in proptest::collection::vec((0_u8..5, 0_u16..250, any::<u8>()), 0..2)) {
            let mut data = vec![mode | 3, 0];
            for (flight, at, bits) in changes {
                data.push(flight);
                data.extend_from_slice(&at.to_le_bytes());
                data.push(bits);
            }
            noise(&data);
        }

        #[test]
        fn no_claims_harm_a_session(
            mode: u8,
            steps in proptest::collection::vec((0_u8..10, proptest::collection::vec(any::<u8>(), 0..12)), 0..60),
        ) {
            let steps = steps.into_iter().flat_map(|(step, choices)| std::iter::once(step).chain(choices));
            session(&std::iter::once(mode).chain(steps).collect::<Vec<_>>());
        }

        #[test]
        fn no_frames_harm_a_link(mode: u8, data in plausible()) {
            link(&[&[mode | 8, 200][..], &data].concat());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_a_carrier_brings_before_it_is_lost_is_heard_once(
            mode: u8,
            steps in proptest::collection::vec((0_u8..12, any::<[u8; 2]>()), 0..120),
        ) {
            let steps = steps.into_iter().flat_map(|(step, [a, b])| [step, a, b]);
            carriers(&std::iter::once(mode).chain(steps).collect::<Vec<_>>());
        }
    }
}
