//! Bodies are read straight to where they belong, and arrive whole whatever comes between.

#![cfg(test)]

mod support;

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::BytesMut;
use farref_framing::{Body, LinkEvent, Role};
use farref_transport::{ByteRx, StreamCarrier, memory};
use proptest::prelude::*;
use support::{End, Form, Side, config, limits, pattern, run};

/// Bytes that went to their place, and those that went by way of the buffer.
#[derive(Default)]
struct Ways {
    placed: AtomicUsize,
    buffered: AtomicUsize,
}

/// A reading half that gives less at once than it could, by a row of numbers.
struct Told {
    rx: Box<dyn ByteRx>,
    ways: Arc<Ways>,
    pieces: Vec<usize>,
    turn: usize,
}

impl Told {
    fn wrap(carrier: StreamCarrier, ways: &Arc<Ways>, pieces: &[usize]) -> StreamCarrier {
        let told = Self {
            rx: carrier.rx,
            ways: Arc::clone(ways),
            pieces: pieces.to_vec(),
            turn: 0,
        };
        StreamCarrier {
            rx: Box::new(told),
            ..carrier
        }
    }

    /// Most bytes of the next read.
    fn piece(&mut self) -> usize {
        self.turn += 1;
        self.pieces[self.turn % self.pieces.len()]
    }
}

impl ByteRx for Told {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let most = self.piece().min(into.capacity() - into.len()).max(1);
        let mut room = BytesMut::with_capacity(most);
        let count = self.rx.try_read(&mut room)?;
        into.extend_from_slice(&room);
        self.ways.buffered.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    fn is_read_vectored(&self) -> bool {
        true
    }

    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut left = self.piece();
        let mut some = Vec::new();
        for buf in bufs.iter_mut().filter(|buf| !buf.is_empty()) {
            let n = buf.len().min(left);
            left -= n;
            some.push(IoSliceMut::new(&mut buf[..n]));
        }
        assert!(
            !some.is_empty(),
            "there was room for nothing: that looks like the end"
        );
        let count = self.rx.try_read_vectored(&mut some)?;
        self.ways.placed.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rx.poll_readable(cx)
    }
}

/// Two sides with fragments of `fragment` bytes and `buffer` bytes between them, of which the listener reads some `pieces`.
fn sides(fragment: usize, buffer: usize, session: bool, pieces: &[usize]) -> (Side, Side, Arc<Ways>) {
    let ways = Arc::default();
    let (near, far) = memory::pair(buffer);
    let side = |carrier: StreamCarrier, role, salt| {
        let mut config = config(role, session, salt);
        config.limits = limits(|limits| limits.fragment = fragment);
        Side::new(Form::Stream.link(config), End::new(carrier.into(), role))
    };
    let listener = side(Told::wrap(far, &ways, pieces), Role::Listener, 2);
    (side(near, Role::Dialer, 1), listener, ways)
}

#[test]
fn most_of_a_large_body_is_read_to_its_place() {
    for fragment in [8 * 1024, 16 * 1024, 64 * 1024] {
        let (mut dialer, mut listener, ways) = sides(fragment, 300_000, true, &[usize::MAX]);
        let body = pattern(fragment, 4_000_000);
        dialer.link.submit(b"large", Body::Slice(&body)).unwrap();
        run(&mut dialer, &mut listener, 0).unwrap();
        assert!(listener.heard.bodies[0].1 == body);
        let buffered = ways.buffered.load(Ordering::Relaxed);
        assert!(buffered < 200_000, "{buffered} bytes of it were copied");
        let stats = (dialer.link.stats(), listener.link.stats());
        assert_eq!(stats.0.bytes_sent, stats.1.bytes_received);
    }
}

/// Their frames take turns, so that none is followed by another of the same body.
#[test]
fn bodies_that_take_turns_are_read_to_their_places_frame_by_frame() {
    let (mut dialer, mut listener, ways) = sides(64 * 1024, 50_000, false, &[usize::MAX]);
    let bodies: Vec<Vec<u8>> = (0..3).map(|n| pattern(n, 1_000_000)).collect();
    for body in &bodies {
        dialer.link.submit(b"", Body::Slice(body)).unwrap();
    }
    run(&mut dialer, &mut listener, 0).unwrap();
    assert!(listener.heard.whole().unwrap() == bodies);
    let placed = ways.placed.load(Ordering::Relaxed);
    assert!(placed > 500_000, "{placed} bytes of them were not copied");
}

#[test]
fn a_body_that_is_given_up_leaves_the_next_one_whole() {
    for by_the_listener in [true, false] {
        let (mut dialer, mut listener, _) = sides(16 * 1024, 100_000, true, &[usize::MAX]);
        let body = pattern(1, 3_000_000);
        let lane = dialer.link.submit(b"", Body::Slice(&body)).unwrap().unwrap();
        for _ in 0..20 {
            dialer.turn(0).unwrap();
            listener.turn(0).unwrap();
        }
        assert!(listener.heard.messages.len() == 1 && listener.heard.bodies.is_empty());
        if by_the_listener {
            listener.link.stop_lane(lane, 7);
        } else {
            dialer.link.reset_lane(lane, 7);
        }
        let next = dialer.link.submit(b"", Body::Slice(&body[1..])).unwrap().unwrap();
        run(&mut dialer, &mut listener, 0).unwrap();
        assert!(listener.heard.bodies == [(next, body[1..].to_vec().into())]);
        let reset = |event: &LinkEvent| matches!(event, LinkEvent::LaneReset { code: 7, .. });
        assert_eq!(listener.heard.others.iter().any(reset), !by_the_listener);
        assert_eq!(listener.link.stats().lanes_in, 0);
    }
}

/// What a side says, and in which order.
#[derive(Debug, Clone)]
enum Said {
    Message(usize),
    /// Some turns pass.
    Turns(usize),
    /// The oldest body that is under way is given up.
    Reset,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => (0_usize..600).prop_map(Said::Message),
        4 => (9_000_usize..400_000).prop_map(Said::Message),
        3 => (1_usize..30).prop_map(Said::Turns),
        1 => Just(Said::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bodies_arrive_whole_however_they_are_read(
        fragment in prop::sample::select(vec![1024, 8 * 1024, 8 * 1024 + 1, 16 * 1024, 64 * 1024]),
        buffer in prop_oneof![1_usize..100, 1000_usize..500_000],
        session: bool,
        pieces in prop::collection::vec(prop_oneof![1_usize..20, 1000_usize..300_000], 1..8),
        speech in prop::collection::vec(said(), 1..12),
    ) {
        let buffer = if fragment == 1024 { buffer } else { buffer.max(200) };
        let (mut dialer, mut listener, _) = sides(fragment, buffer, session, &pieces);
        let (mut bodies, mut resets) = (Vec::new(), 0);
        for (n, said) in speech.into_iter().enumerate() {
            match said {
                Said::Message(len) => {
                    let body = pattern(n, len);
                    let lane = dialer.link.submit(b"", Body::Slice(&body)).unwrap();
                    listener.link.submit(b"and back", Body::EMPTY).unwrap();
                    bodies.push((lane, body));
                }
                Said::Turns(turns) => {
                    for _ in 0..turns {
                        dialer.turn(0).unwrap();
                        listener.turn(0).unwrap();
                    }
                }
                Said::Reset => {
                    let arrived = |lane| listener.heard.bodies.iter().any(|(done, _)| *done == lane);
                    let under_way = bodies.iter().position(|(lane, _)| lane.is_some_and(|lane| !arrived(lane)));
                    if let Some(at) = under_way {
                        dialer.link.reset_lane(bodies[at].0.unwrap(), 1);
                        bodies[at].1.clear();
                        resets += 1;
                    }
                }
            }
        }
        run(&mut dialer, &mut listener, 0).unwrap();
        prop_assert_eq!(listener.heard.messages.len(), bodies.len());
        let mut missing = 0;
        for (message, (lane, body)) in listener.heard.messages.iter().zip(&bodies) {
            match lane {
                None => prop_assert!(message.bytes == body),
                Some(lane) => match listener.heard.bodies.iter().find(|(done, _)| done == lane) {
                    // All of it may have gone out before it was given up.
                    Some((_, arrived)) => prop_assert!(body.is_empty() || arrived == body),
                    None => missing += 1,
                },
            }
        }
        prop_assert!(missing <= resets);
        let stats = (dialer.link.stats(), listener.link.stats());
        prop_assert_eq!((stats.0.bytes_sent, stats.1.lanes_in), (stats.1.bytes_received, 0));
    }
}
