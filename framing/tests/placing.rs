//! Bodies are read straight to where they belong, and arrive whole whatever comes between.

#![cfg(test)]

mod support;

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use farref_framing::{Body, LinkEvent, Role, open};
use farref_transport::{ByteRx, StreamCarrier, memory};
use proptest::prelude::*;
use support::{End, Form, Side, config, frame, hand_over, limits, pattern, run, written};

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
    /// The listener gives back memory, as if nothing had come for a while.
    Rest,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => (0_usize..600).prop_map(Said::Message),
        4 => (9_000_usize..400_000).prop_map(Said::Message),
        3 => (1_usize..30).prop_map(Said::Turns),
        1 => Just(Said::Reset),
        1 => Just(Said::Rest),
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
                Said::Rest => {
                    if let Some(End::Open(halves)) = &mut listener.end {
                        halves.0.rest();
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

/// A carrier that brings these bytes, so many at a time.
struct Script {
    bytes: Vec<u8>,
    at: usize,
    pieces: Vec<usize>,
    turn: usize,
    is_vectored: bool,
}

impl Script {
    /// The next bytes, at most so many.
    fn next(&mut self, room: usize) -> io::Result<&[u8]> {
        let from = self.at;
        if from == self.bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        assert!(room > 0, "there was room for nothing: that looks like the end");
        self.turn += 1;
        let piece = self.pieces[self.turn % self.pieces.len()];
        self.at = (from + piece.min(room)).min(self.bytes.len());
        Ok(&self.bytes[from..self.at])
    }
}

impl ByteRx for Script {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let next = self.next(into.capacity() - into.len())?;
        into.extend_from_slice(next);
        Ok(next.len())
    }

    fn is_read_vectored(&self) -> bool {
        self.is_vectored
    }

    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let next = self.next(bufs.iter().map(|buf| buf.len()).sum())?;
        let mut rest = next;
        for buf in bufs {
            let (here, later) = rest.split_at(buf.len().min(rest.len()));
            buf[..here.len()].copy_from_slice(here);
            rest = later;
        }
        Ok(next.len())
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a listener makes of `bytes` that come in such pieces: its events, whether it was satisfied, and how many it counts.
fn heard(
    bytes: &[u8],
    pieces: &[usize],
    is_vectored: bool,
    first_credit: u64,
) -> (Vec<LinkEvent>, bool, u64) {
    let (_, carrier) = memory::pair(1);
    let script = Script {
        bytes: bytes.to_vec(),
        at: 0,
        pieces: pieces.to_vec(),
        turn: 0,
        is_vectored,
    };
    let carrier = StreamCarrier {
        rx: Box::new(script),
        ..carrier
    };
    let opened = pin!(open(carrier.into(), Role::Listener)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok((mut inlet, _outlet, _, _guard))) = opened else {
        panic!("a byte stream is open at once");
    };
    let mut config = config(Role::Listener, true, 2);
    config.limits = limits(|limits| (limits.fragment, limits.first_credit) = (64 * 1024, first_credit));
    let mut link = Form::Stream.link(config);
    let mut events = Vec::new();
    let mut handled = Ok(());
    while handled.is_ok()
        && let Ok(Some(read)) = inlet.try_read()
    {
        handled = hand_over(&mut *link, &mut inlet, read, 0);
        events.extend(std::iter::from_fn(|| link.poll_event()));
    }
    (events, handled.is_ok(), link.stats().bytes_received)
}

/// Frames of a peer, good or bad.
fn frames_of_a_peer() -> impl Strategy<Value = Vec<u8>> {
    let lane = || 1_u64..4;
    let run = (
        lane(),
        prop::sample::select(vec![8192_usize, 8193, 16384, 65536]),
        1_usize..20,
    )
        .prop_map(|(lane, len, times)| frame(1, lane, &pattern(len, len)).repeat(times));
    let odd = (lane(), 1_usize..65536).prop_map(|(lane, len)| frame(1, lane, &pattern(len, len)));
    let message =
        (0_usize..120).prop_map(|len| frame(1, 0, &[vec![(len as u8) << 1], pattern(1, len)].concat()));
    let skipped = (0_usize..60_000).prop_map(|len| frame(0x99, 2, &pattern(2, len)));
    prop_oneof![
        8 => run,
        3 => odd,
        3 => message,
        1 => skipped,
        2 => Just(frame(8, 0, &[7; 8])),
        1 => lane().prop_map(|lane| frame(5, lane, &[3])),
        1 => lane().prop_map(|lane| frame(4, lane, &[])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_a_peer_sends_is_the_same_read_to_its_place_or_not(
        lens in prop::collection::vec(10_000_u64..900_000, 3),
        frames in prop::collection::vec(frames_of_a_peer(), 1..25),
        pieces in prop::collection::vec(prop_oneof![1_usize..12, 8180_usize..8210, 1000_usize..400_000], 1..12),
        first_credit in prop::sample::select(vec![100_000, 1 << 20]),
    ) {
        let mut bytes = written(&mut *Form::Stream.link(config(Role::Dialer, true, 1)), 0);
        for (lane, len) in (1..).zip(lens) {
            let named = [&[1, lane, 252][..], &u32::try_from(len).unwrap().to_le_bytes()].concat();
            bytes.extend(frame(1, 0, &named));
        }
        bytes.extend(frames.concat());
        let (events, is_satisfied, received) = heard(&bytes, &[usize::MAX], false, first_credit);
        let (placed, also, counted) = heard(&bytes, &pieces, true, first_credit);
        prop_assert!(events == placed);
        prop_assert_eq!(is_satisfied, also);
        if is_satisfied {
            prop_assert_eq!(received, counted);
        }
    }
}

/// All pairs of cuts around the headers of a body whose last frame is shorter.
#[test]
fn frames_may_be_cut_anywhere() {
    let mut bytes = written(&mut *Form::Stream.link(config(Role::Dialer, true, 1)), 0);
    let lens = [8192_usize, 8192, 8192, 100];
    let total = u16::try_from(lens.iter().sum::<usize>()).unwrap().to_le_bytes();
    bytes.extend(frame(1, 0, &[&[1, 1, 251][..], &total].concat()));
    let mut cuts = Vec::new();
    for len in lens {
        cuts.extend(bytes.len() - 2..bytes.len() + 8);
        bytes.extend(frame(1, 1, &pattern(len, len)));
    }
    cuts.extend(bytes.len() - 2..bytes.len() + 3);
    bytes.extend(frame(4, 1, &[]));
    let whole = heard(&bytes, &[usize::MAX], false, 1 << 20);
    assert!(whole.1 && whole.0.len() == 3, "{whole:?}");
    for (at, first) in cuts.iter().enumerate() {
        for second in &cuts[at + 1..] {
            let pieces = [
                usize::MAX,
                *first,
                second - first,
                usize::MAX,
                usize::MAX,
                usize::MAX,
            ];
            assert!(
                heard(&bytes, &pieces, true, 1 << 20) == whole,
                "{first}, {second}"
            );
        }
    }
}
