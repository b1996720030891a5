//! Lines in simulated time: paced by the baud rate, and as noisy as the test wants them, from a printed seed.

use std::collections::VecDeque;

use bytes::BytesMut;
use proptest::prelude::*;

use super::frame::{self, Frame, Tag};
use super::line::Line;
use super::*;
use crate::link::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// A generator of which the seed is all there is to a run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn is(&mut self, chance: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= chance && chance > 0.0
    }
}

/// What a line does to bytes.
#[derive(Debug, Clone, Copy)]
struct Noise {
    flip: f64,
    drop: f64,
    insert: f64,
}

const CLEAN: Noise = Noise {
    flip: 0.0,
    drop: 0.0,
    insert: 0.0,
};
const BAD: Noise = Noise {
    flip: 1e-4,
    drop: 0.0,
    insert: 0.0,
};

/// One direction.
struct Way {
    /// Bytes that the driver holds and the line has not carried.
    driver: VecDeque<u8>,
    /// When the line is free.
    free_at: Nanos,
    /// Bytes on their way, and when they arrive.
    flying: VecDeque<(Nanos, u8)>,
}

/// Two ends and a line.
struct Sim {
    now: Nanos,
    ends: [Line; 2],
    ways: [Way; 2],
    byte: Nanos,
    latency: Nanos,
    noise: Noise,
    random: Random,
    carried: [u64; 2],
}

impl Sim {
    fn new(bytes_per_second: u64, latency: Nanos, noise: Noise, seed: u64) -> Self {
        println!("seed {seed}");
        let end = |role, nonce| Line::new(Config::new(role, bytes_per_second), [nonce; 8], 0);
        let way = || Way {
            driver: VecDeque::new(),
            free_at: 0,
            flying: VecDeque::new(),
        };
        Self {
            now: 0,
            ends: [end(Role::Dialer, 1), end(Role::Listener, 2)],
            ways: [way(), way()],
            byte: SECOND / bytes_per_second,
            latency,
            noise,
            random: Random(seed),
            carried: [0; 2],
        }
    }

    /// Frames that the driver is given ahead of the line: it is kept short.
    fn has_driver_room(&self, from: usize) -> bool {
        // A second of a slow line, as its driver is filled.
        self.ways[from].driver.len() < usize::try_from(SECOND / self.byte).unwrap().clamp(32, 256)
    }

    /// Goes on to the next moment at which something happens.
    fn step(&mut self) {
        for from in 0..2 {
            let mut out = Vec::new();
            while self.has_driver_room(from) && self.ends[from].poll_transmit(&mut out, self.now) {
                self.ways[from].driver.extend(out.drain(..));
            }
            // The line carries what the driver holds.
            let way = &mut self.ways[from];
            while way.free_at <= self.now
                && let Some(byte) = way.driver.pop_front()
            {
                way.free_at = self.now.max(way.free_at) + self.byte;
                self.carried[from] += 1;
                if self.random.is(self.noise.insert) {
                    way.flying
                        .push_back((way.free_at + self.latency, self.random.next() as u8));
                }
                if self.random.is(self.noise.drop) {
                    continue;
                }
                let mut byte = byte;
                for bit in 0..8 {
                    if self.random.is(self.noise.flip) {
                        byte ^= 1 << bit;
                    }
                }
                way.flying.push_back((way.free_at + self.latency, byte));
            }
        }
        let next = self.next_event();
        self.now = next.max(self.now + 1);
        for from in 0..2 {
            let mut arrived = Vec::new();
            while self.ways[from]
                .flying
                .front()
                .is_some_and(|(at, _)| *at <= self.now)
            {
                arrived.push(self.ways[from].flying.pop_front().unwrap().1);
            }
            if !arrived.is_empty() {
                self.ends[1 - from].handle_bytes(&arrived, self.now);
            }
        }
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
    }

    fn next_event(&self) -> Nanos {
        let mut next = self.now + SECOND;
        for from in 0..2 {
            let way = &self.ways[from];
            if !way.driver.is_empty() {
                next = next.min(way.free_at);
            }
            if let Some((at, _)) = way.flying.front() {
                next = next.min(*at);
            }
            if self.has_driver_room(from)
                && let Some(at) = self.ends[from].poll_timeout()
            {
                next = next.min(at.max(self.now + 100_000));
            }
        }
        next
    }

    fn read(&mut self, at: usize) -> BytesMut {
        let mut into = BytesMut::new();
        self.ends[at].read(&mut into, usize::MAX);
        into
    }

    fn open(&mut self) {
        while self.ends.iter().any(|end| end.role().is_none()) {
            self.step();
            assert!(self.now < 60 * SECOND, "the ends do not find each other");
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    let mut random = Random(len as u64);
    (0..len).map(|_| (random.next() >> 7) as u8 & 0x3f).collect()
}

/// Sends `amount` bytes from the first end to the second: the share of the line's rate that arrives.
fn goodput(mut sim: Sim, amount: usize, both_ways: bool) -> f64 {
    sim.open();
    let says = pattern(amount);
    let (begun, mut written, mut heard) = (sim.now, [0, 0], [Vec::new(), Vec::new()]);
    while heard[1].len() < amount || (both_ways && heard[0].len() < amount) {
        for at in 0..if both_ways { 2 } else { 1 } {
            written[at] += sim.ends[at].write(&says[written[at]..]);
        }
        sim.step();
        for (at, heard) in heard.iter_mut().enumerate() {
            heard.extend_from_slice(&sim.read(at));
            assert_eq!(sim.ends[at].failure(), None);
        }
        assert!(sim.now - begun < 4000 * SECOND, "it takes for ever");
    }
    assert!(heard[1] == says && (!both_ways || heard[0] == says));
    let seconds = (sim.now - begun) as f64 / SECOND as f64;
    let line = SECOND as f64 / sim.byte as f64;
    let stats = sim.ends[0].stats();
    let share = amount as f64 / seconds / line;
    println!(
        "{:.1} % of the line; {} of {} frames again, {:?}",
        share * 100.0,
        stats.frames_again,
        stats.frames_sent,
        stats.round_trip
    );
    share
}

const RATE: u64 = 11_520;
const MIB: usize = 1 << 20;

#[test]
fn a_clean_line_carries_nine_tenths_of_its_rate() {
    for latency in [1_000_000, 8_000_000, 16_000_000] {
        assert!(
            goodput(Sim::new(RATE, latency, CLEAN, 1), MIB / 4, false) >= 0.90,
            "{latency}"
        );
    }
    assert!(goodput(Sim::new(92_160, 8_000_000, CLEAN, 1), MIB / 4, false) >= 0.90);
    assert!(goodput(Sim::new(RATE, 1_000_000, CLEAN, 1), MIB / 4, true) >= 0.85);
}

/// At 300 baud the first frame used to be sent again before it can have come, over and over.
#[test]
fn a_very_slow_line_carries_half_of_its_rate_and_repeats_little() {
    let share = goodput(Sim::new(30, 1_000_000, CLEAN, 1), 2000, false);
    assert!(share >= 0.5, "{share}");
}

/// One bit in ten thousand: every fifth frame is lost.
#[test]
fn a_noisy_line_carries_two_thirds_of_its_rate_and_every_byte() {
    for seed in [7, 8] {
        assert!(goodput(Sim::new(RATE, 1_000_000, BAD, seed), MIB, false) >= 0.68);
    }
    assert!(goodput(Sim::new(RATE, 8_000_000, BAD, 9), MIB / 2, false) >= 0.65);
    assert!(goodput(Sim::new(RATE, 1_000_000, BAD, 10), MIB / 2, true) >= 0.55);
}

/// A call of 100 bytes every 300 ms beside a transfer that takes what is left; the upper layer lets it go first.
#[test]
fn small_calls_beside_a_transfer_on_a_noisy_line_are_answered_soon() {
    let mut sim = Sim::new(RATE, 1_000_000, BAD, 11);
    sim.open();
    let mut asked = VecDeque::new();
    let (mut next, mut times) = (sim.now, Vec::new());
    let (mut urgent, mut answer) = (VecDeque::new(), VecDeque::new());
    let mut heard = [0_usize; 2];
    let mut sent = 0_usize;
    // Offsets behind which a call, or its answer, is there.
    let (mut calls, mut answers) = (VecDeque::new(), VecDeque::new());
    let (mut answered, begun) = (0_usize, sim.now);
    while sim.now - begun < 300 * SECOND {
        if sim.now >= next {
            next += 300_000_000;
            urgent.extend([1_u8; 100]);
            asked.push_back(sim.now);
            calls.push_back(None);
        }
        loop {
            let is_urgent = !urgent.is_empty();
            let piece: Vec<u8> = if is_urgent {
                urgent.iter().copied().collect()
            } else {
                vec![0; 64]
            };
            let took = sim.ends[0].write(&piece);
            sent += took;
            if is_urgent {
                urgent.drain(..took);
                if urgent.is_empty() {
                    for call in calls.iter_mut().filter(|call| call.is_none()) {
                        *call = Some(sent);
                    }
                }
            }
            if took < piece.len() {
                break;
            }
        }
        if !answer.is_empty() {
            let piece: Vec<u8> = answer.iter().copied().collect();
            let took = sim.ends[1].write(&piece);
            answer.drain(..took);
        }
        sim.step();
        heard[1] += sim.read(1).len();
        while calls.front().copied().flatten().is_some_and(|at| at <= heard[1]) {
            calls.pop_front();
            answer.extend([2_u8; 100]);
            answered += 100;
            answers.push_back(answered);
        }
        heard[0] += sim.read(0).len();
        while answers.front().is_some_and(|at| *at <= heard[0]) {
            answers.pop_front();
            times.push(sim.now - asked.pop_front().unwrap());
        }
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100] / 1_000_000;
    let bulk = heard[1] as f64 / 300.0 / RATE as f64;
    println!(
        "{} calls: {} ms, 95 %: {} ms, beside {:.1} %",
        times.len(),
        at(50),
        at(95),
        bulk * 100.0
    );
    assert!(times.len() > 900 && at(50) <= 150 && at(95) <= 500);
}

#[test]
fn the_ends_find_each_other_in_any_order_and_agree_on_their_roles() {
    for (first, second, nonces, expected) in [
        (Role::Dialer, Role::Listener, [1, 2], Role::Dialer),
        (Role::Listener, Role::Dialer, [2, 1], Role::Listener),
        (Role::Dialer, Role::Dialer, [1, 2], Role::Listener),
        (Role::Listener, Role::Listener, [2, 1], Role::Dialer),
    ] {
        for late in [0, 3 * SECOND] {
            let mut sim = Sim::new(RATE, 1_000_000, BAD, 12);
            sim.ends[0] = Line::new(Config::new(first, RATE), [nonces[0]; 8], 0);
            sim.noise.drop = 1.0; // the other is not there yet
            while sim.now < late {
                sim.step();
            }
            sim.noise.drop = 0.0;
            sim.ends[1] = Line::new(Config::new(second, RATE), [nonces[1]; 8], sim.now);
            sim.open();
            assert_eq!(sim.ends[0].role(), Some(expected), "{first:?} {second:?}");
            assert_ne!(sim.ends[0].role(), sim.ends[1].role());
        }
    }
}

#[test]
fn an_end_that_starts_anew_ends_the_stream_and_is_found_again() {
    let mut sim = Sim::new(RATE, 1_000_000, BAD, 13);
    sim.open();
    sim.ends[0].write(&pattern(150));
    for _ in 0..500 {
        sim.step();
    }
    assert!(sim.read(1)[..] == pattern(150));
    sim.ends[0].write(&pattern(300));
    sim.ends[1] = Line::new(Config::new(Role::Listener, RATE), [3; 8], sim.now);
    while sim.ends[0].failure().is_none() {
        sim.step();
        assert!(sim.now < 60 * SECOND);
    }
    assert_eq!(sim.ends[0].failure(), Some(&Failure::Restarted));
    assert!(sim.read(1).is_empty(), "nothing of the time before passes");
    sim.ends[0] = Line::new(Config::new(Role::Dialer, RATE), [4; 8], sim.now);
    sim.open();
    sim.ends[0].write(b"anew");
    let mut heard = BytesMut::new();
    while heard.len() < 4 {
        sim.step();
        heard.extend_from_slice(&sim.read(1));
    }
    assert_eq!(heard, "anew");
}

#[test]
fn an_end_in_order_loses_nothing_either_way() {
    for seed in 0..20 {
        let mut sim = Sim::new(
            RATE,
            1_000_000,
            Noise {
                flip: 5e-4,
                drop: 1e-3,
                insert: 1e-3,
            },
            seed,
        );
        sim.open();
        let says = pattern(1000);
        let (mut written, mut heard) = (0, BytesMut::new());
        while !(sim.ends[1].is_at_end() && sim.ends.iter().all(Line::is_closed)) {
            written += sim.ends[0].write(&says[written..]);
            if written == says.len() {
                sim.ends[0].close();
            }
            if sim.ends[1].is_at_end() {
                sim.ends[1].close();
            }
            sim.step();
            heard.extend_from_slice(&sim.read(1));
            assert!(sim.now < 600 * SECOND);
        }
        assert!(heard == says && sim.ends[0].is_at_end());
    }
}

#[test]
fn what_is_wrong_with_a_line_that_does_not_open_is_told() {
    let config = || Config {
        patience: Some(Duration::from_secs(5)),
        ..Config::new(Role::Dialer, RATE)
    };
    let why = |speaks: &dyn Fn(&mut Line, Nanos)| {
        let mut line = Line::new(config(), [1; 8], 0);
        for step in 0..100 {
            let now = step * SECOND / 10;
            let mut out = Vec::new();
            while line.poll_transmit(&mut out, now) {}
            speaks(&mut line, now);
            line.handle_timeout(now);
        }
        line.failure().cloned()
    };
    assert_eq!(why(&|_, _| {}), Some(Failure::NothingHeard));
    assert_eq!(
        why(&|line, now| line.handle_bytes(b"\x80\xf0\x00login: \x00", now)),
        Some(Failure::Nonsense)
    );
    let echo = |line: &mut Line, now| {
        let mut own = Line::new(config(), [1; 8], 0);
        let mut out = Vec::new();
        own.poll_transmit(&mut out, 0);
        line.handle_bytes(&out, now);
    };
    assert_eq!(why(&echo), Some(Failure::Echo));
    // Heard, but deaf: it asks for ever, and never answers.
    let asks = |line: &mut Line, version, now| {
        let mut out = Vec::new();
        let hello = frame::Hello {
            version,
            wish: 2,
            nonce: [2; 8],
            payload: 240,
            window: 8,
        };
        Frame::Syn(hello).encode(None, &mut out);
        line.handle_bytes(&out, now);
    };
    let deaf = |line: &mut Line, now| asks(line, 1, now);
    assert_eq!(why(&deaf), Some(Failure::NotAnswered));
    let newer = |line: &mut Line, now| asks(line, 2, now);
    assert_eq!(why(&newer), Some(Failure::Version(2)));
}

#[test]
fn an_end_that_falls_silent_is_noticed_and_one_that_has_nothing_to_say_is_not() {
    let mut sim = Sim::new(RATE, 1_000_000, CLEAN, 14);
    sim.open();
    let begun = sim.now;
    while sim.now - begun < 100 * SECOND {
        sim.step();
        assert!(sim.ends.iter().all(|end| end.failure().is_none()));
    }
    let carried = sim.carried[0];
    assert!(carried < 4000, "{carried} bytes in 100 s of silence");
    sim.noise.drop = 1.0;
    let begun = sim.now;
    while sim.ends.iter().any(|end| end.failure().is_none()) {
        sim.step();
        assert!(sim.now - begun < 15 * SECOND);
    }
    assert_eq!(sim.ends[0].failure(), Some(&Failure::Silent));
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_up_and_goes_on_when_it_does() {
    let mut sim = Sim::new(92_160, 1_000_000, BAD, 15);
    sim.open();
    let says = pattern(100_000);
    let mut written = 0;
    let begun = sim.now;
    while sim.now - begun < 20 * SECOND {
        written += sim.ends[0].write(&says[written..]);
        sim.step();
    }
    assert!(
        written < 20_000,
        "{written} bytes are kept for a reader that does not read"
    );
    let mut heard = BytesMut::new();
    while heard.len() < says.len() {
        written += sim.ends[0].write(&says[written..]);
        sim.step();
        heard.extend_from_slice(&sim.read(1));
        assert!(sim.now - begun < 200 * SECOND);
    }
    assert!(heard == says);
}

#[test]
fn a_peer_that_gives_up_is_heard_and_frames_of_before_are_not() {
    let mut sim = Sim::new(RATE, 1_000_000, CLEAN, 16);
    sim.open();
    sim.ends[1].abandon();
    while sim.ends[0].failure().is_none() {
        sim.step();
    }
    assert_eq!(sim.ends[0].failure(), Some(&Failure::Reset));
    assert_eq!(sim.ends[1].failure(), Some(&Failure::Abandoned));
}

/// An end that has opened with a peer which the test speaks for, and the sums of that peer.
fn opened(config: Config) -> (Line, Tag) {
    let mut line = Line::new(config, [1; 8], 0);
    let tag = Tag([2; 8], [1; 8]);
    hears(&mut line, None, &Frame::Syn(HELLO), 0);
    hears(&mut line, Some(tag), &ack(0, 8), 0);
    assert!(line.role().is_some());
    says(&mut line, 0);
    (line, tag)
}

const HELLO: frame::Hello = frame::Hello {
    version: 1,
    wish: 2,
    nonce: [2; 8],
    payload: 100,
    window: 8,
};

fn ack(next: u8, room: u8) -> Frame<'static> {
    Frame::Ack {
        ack: frame::Ack { next, room },
        behind: 0,
    }
}

fn data(seq: u8, payload: &[u8]) -> Frame<'_> {
    let ack = frame::Ack { next: 0, room: 8 };
    Frame::Data { seq, ack, payload }
}

fn hears(line: &mut Line, tag: Option<Tag>, frame: &Frame<'_>, now: Nanos) {
    let mut bytes = Vec::new();
    frame.encode(tag, &mut bytes);
    line.handle_bytes(&bytes, now);
}

/// The contents of all that an end says now.
fn says(line: &mut Line, now: Nanos) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while line.poll_transmit(&mut out, now) {}
    let frames = out.split(|byte| *byte == 0).filter(|stuffed| !stuffed.is_empty());
    let own = Some(Tag([1; 8], [2; 8]));
    frames
        .map(|stuffed| frame::check(cobs::unstuff(stuffed).unwrap(), own).unwrap())
        .collect()
}

fn kinds(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().map(|frame| frame[0]).collect()
}

/// A peer that takes nothing used to be found, and then nothing was ever sent.
#[test]
fn a_peer_that_takes_nothing_is_not_there() {
    for hello in [
        frame::Hello { payload: 15, ..HELLO },
        frame::Hello { window: 0, ..HELLO },
        frame::Hello { wish: 3, ..HELLO },
    ] {
        let mut line = Line::new(Config::new(Role::Dialer, RATE), [1; 8], 0);
        hears(&mut line, None, &Frame::SynAck(hello, [1; 8]), 0);
        assert_eq!(line.role(), None, "{hello:?}");
        // Nor is it answered: this end goes on asking.
        hears(&mut line, None, &Frame::Syn(hello), 0);
        assert_eq!(kinds(&says(&mut line, 0)), [1], "{hello:?}");
    }
}

#[test]
fn a_frame_longer_than_was_agreed_is_not_taken() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    hears(&mut line, Some(tag), &data(0, &[5; 101]), 0);
    assert!(!line.has_input());
    hears(&mut line, Some(tag), &data(0, &[5; 100]), 0);
    assert!(line.has_input());
    line.write(&[6; 160]);
    assert!(says(&mut line, 0).iter().all(|frame| frame.len() <= 4 + 100));
}

/// § 11.4: a receiver must not take a frame behind the room that it has told of.
#[test]
fn a_frame_behind_the_room_is_not_taken() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    // Sixteen frames are kept for a reader that does not read; the last eight take the room away one by one.
    for seq in 0..=16_u8 {
        let room = 8.min(16 - seq);
        let kept = line.kept();
        for behind in [room, room + 1, 31, 128, 255] {
            hears(
                &mut line,
                Some(tag),
                &data(seq.wrapping_add(behind), &[5; 100]),
                0,
            );
            assert_eq!(line.kept(), kept, "{behind} behind {seq}");
            // Whoever sent it learns where the room ends.
            let told = says(&mut line, 0);
            assert_eq!(kinds(&told), [5]);
            assert_eq!(told[0][1..3], [seq, room]);
        }
        if room > 1 {
            // The last for which there is room waits for those before it.
            hears(&mut line, Some(tag), &data(seq + room - 1, &[5; 100]), 0);
            assert_eq!(line.kept(), kept + 100);
            (line, _) = filled(seq);
        }
        hears(&mut line, Some(tag), &data(seq, &[5; 100]), 0);
        says(&mut line, 0);
    }
    assert_eq!(line.kept(), 1600);
}

/// An end that has heard so many full frames, and acknowledged them.
fn filled(frames: u8) -> (Line, Tag) {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    for seq in 0..frames {
        hears(&mut line, Some(tag), &data(seq, &[5; 100]), 0);
        says(&mut line, 0);
    }
    (line, tag)
}

/// § 11.4: a sender must not send a frame for which the receiver has told of no room.
#[test]
fn no_frame_is_sent_behind_the_room_of_the_peer() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    // The numbers of what is sent now, of much that wants to go, and its end.
    let sends = |line: &mut Line| {
        let mut numbers = Vec::new();
        for _ in 0..40 {
            line.write(b"more");
            numbers.extend(says(line, 0).iter().map(|frame| frame[1]));
        }
        numbers
    };
    // Before the peer has told of any, the room is a window.
    assert_eq!(sends(&mut line), [0, 1, 2, 3, 4, 5, 6, 7]);
    for (next, room, expected) in [
        (8, 3, &[8, 9, 10][..]),
        (9, 2, &[]),
        (9, 3, &[11]),
        // An older word does not take room away, nor give any.
        (8, 4, &[]),
        (12, 0, &[]),
        (12, 1, &[12]),
        (13, 8, &[13, 14, 15, 16, 17, 18, 19, 20]),
    ] {
        hears(&mut line, Some(tag), &ack(next, room), 0);
        assert_eq!(sends(&mut line), expected, "{next} {room}");
    }
    // An end has a number, and needs room.
    line.close();
    hears(&mut line, Some(tag), &ack(21, 1), 0);
    assert_eq!(kinds(&says(&mut line, 0)), [3]);
    hears(&mut line, Some(tag), &ack(22, 0), 0);
    assert_eq!(kinds(&says(&mut line, 0)), [0_u8; 0]);
    hears(&mut line, Some(tag), &ack(22, 1), 0);
    assert_eq!(kinds(&says(&mut line, 0)), [4]);
    // Nor is more than the window under way, whatever room there is.
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    hears(&mut line, Some(tag), &ack(0, 255), 0);
    assert_eq!(sends(&mut line), [0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Data numbered behind the end used to be heard behind it.
#[test]
fn nothing_is_heard_behind_the_end() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    hears(&mut line, Some(tag), &data(1, b"behind"), 0);
    let ack = frame::Ack { next: 0, room: 8 };
    hears(&mut line, Some(tag), &Frame::Fin { seq: 0, ack }, 0);
    hears(&mut line, Some(tag), &data(1, b"behind"), 0);
    assert!(line.is_at_end() && line.kept() == 0);
}

/// A peer that is heard and does not hear, and so asks for ever who is there, used to keep the line alive for ever.
#[test]
fn a_peer_that_is_deaf_from_the_start_is_noticed_on_an_open_line() {
    let (mut line, _) = opened(Config::new(Role::Dialer, RATE));
    for step in 0..=100 {
        let now = step * SECOND / 10;
        assert_eq!(line.failure(), None, "{step}");
        hears(&mut line, None, &Frame::Syn(HELLO), now);
        says(&mut line, now);
        line.handle_timeout(now);
    }
    assert_eq!(line.failure(), Some(&Failure::Silent));
}

/// Whoever does not hear any more says so once, in case it is still heard.
#[test]
fn the_peer_is_told_when_it_is_not_heard_any_more() {
    let (mut line, _) = opened(Config::new(Role::Dialer, RATE));
    line.handle_timeout(10 * SECOND);
    assert_eq!(line.failure(), Some(&Failure::Silent));
    assert_eq!(says(&mut line, 10 * SECOND), [[7]]);
    assert_eq!(says(&mut line, 20 * SECOND), [[0; 0]; 0]);
}

/// § 11.6: it used to be answered by what was to be sent again, which is long.
#[test]
fn whoever_asks_is_answered_by_a_short_frame_first() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    line.write(&[5; 200]);
    assert_eq!(kinds(&says(&mut line, 0)), [3]);
    let ack = frame::Ack { next: 0, room: 8 };
    hears(&mut line, Some(tag), &Frame::Poll { ack, behind: 0 }, 2 * SECOND);
    line.handle_timeout(2 * SECOND);
    assert_eq!(kinds(&says(&mut line, 2 * SECOND)), [5, 3]);
}

/// One frame of data in ten comes. They were all the answer that a side got which asked, and it took the other one for silent.
#[test]
fn a_line_on_which_hardly_any_long_frame_comes_stays_open() {
    let noise = Noise {
        flip: 3e-4,
        drop: 5e-3,
        insert: 5e-3,
    };
    for seed in 0..40 {
        let mut sim = Sim::new(RATE, 19_000_000, noise, seed);
        sim.open();
        let says = pattern(1300);
        let (mut written, mut heard) = ([0, 0], [BytesMut::new(), BytesMut::new()]);
        while heard.iter().any(|heard| heard.len() < says.len()) {
            for (written, end) in written.iter_mut().zip(&mut sim.ends) {
                *written += end.write(&says[*written..]);
            }
            sim.step();
            for (at, heard) in heard.iter_mut().enumerate() {
                heard.extend_from_slice(&sim.read(at));
            }
            assert_eq!(sim.ends.each_ref().map(Line::failure), [None, None]);
        }
        assert!(heard.iter().all(|heard| *heard == says));
    }
}

/// An end that waited for room was not among what is asked for.
#[test]
fn whoever_waits_for_room_asks_for_it() {
    for closes in [false, true] {
        let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
        // Eight frames go out, and have come; there is no room for a ninth.
        for _ in 0..8 {
            line.write(b"first");
            assert_eq!(kinds(&says(&mut line, 0)), [3]);
        }
        hears(&mut line, Some(tag), &ack(8, 0), SECOND / 100);
        if closes {
            line.close();
        } else {
            line.write(b"ninth");
        }
        assert_eq!(kinds(&says(&mut line, SECOND)), [0_u8; 0]);
        // Without an answer it asks again, and sooner than one that has nothing to say.
        assert_eq!(kinds(&says(&mut line, 3 * SECOND)), [6]);
        let soon = 3 * SECOND + SECOND / 2;
        assert!(line.poll_timeout().unwrap() <= soon);
        assert_eq!(kinds(&says(&mut line, soon)), [6]);
        hears(&mut line, Some(tag), &ack(8, 1), soon);
        assert_eq!(kinds(&says(&mut line, soon)), [if closes { 4 } else { 3 }]);
    }
}

#[test]
fn what_is_too_long_for_a_frame_is_counted_and_skipped() {
    let (mut line, tag) = opened(Config::new(Role::Dialer, RATE));
    for _ in 0..100 {
        line.handle_bytes(&[0x55; 1000], 0);
        assert!(line.kept() <= frame::MAX_STUFFED);
    }
    line.handle_bytes(&[0], 0);
    assert_eq!(line.stats().bad_frames, 1);
    hears(&mut line, Some(tag), &data(0, b"right"), 0);
    assert!(line.has_input());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever the line does, what is heard is what was said, in order and once.
    #[test]
    fn every_byte_is_heard_once_and_in_order(
        seed: u64,
        flip in 0.0_f64..5e-4,
        drop in 0.0_f64..5e-3,
        insert in 0.0_f64..5e-3,
        latency in 0_u64..30_000_000,
        sizes in prop::collection::vec(1_usize..600, 1..20),
    ) {
        let mut sim = Sim::new(RATE, latency, Noise { flip, drop, insert }, seed);
        sim.open();
        let says = pattern(sizes.iter().sum());
        let (mut ready, mut written, mut heard) = (0, [0, 0], [BytesMut::new(), BytesMut::new()]);
        let mut sizes = sizes.into_iter();
        while heard.iter().any(|heard| heard.len() < says.len()) {
            if written[0] == ready {
                ready += sizes.next().unwrap_or(0);
            }
            for at in 0..2 {
                let upto = if at == 0 { ready } else { says.len() };
                written[at] += sim.ends[at].write(&says[written[at]..upto]);
            }
            sim.step();
            for (at, heard) in heard.iter_mut().enumerate() {
                heard.extend_from_slice(&sim.read(at));
                prop_assert!(says.starts_with(heard));
                prop_assert_eq!(sim.ends[at].failure(), None);
            }
            prop_assert!(sim.now < 2000 * SECOND);
        }
    }

    #[test]
    fn no_bytes_harm_an_end(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20), opens: bool) {
        let mut line = Line::new(Config::new(Role::Dialer, RATE), [1; 8], 0);
        let tag = Tag([2; 8], [1; 8]);
        if opens {
            let mut out = Vec::new();
            let hello = frame::Hello { version: 1, wish: 2, nonce: [2; 8], payload: 240, window: 8 };
            Frame::Syn(hello).encode(None, &mut out);
            Frame::Poll { ack: frame::Ack { next: 0, room: 8 }, behind: 0 }.encode(Some(tag), &mut out);
            line.handle_bytes(&out, 0);
            prop_assert!(line.role().is_some());
        }
        for (number, piece) in pieces.iter().enumerate() {
            let now = number as u64 * SECOND / 10;
            // Noise, and frames that are right and say anything.
            line.handle_bytes(piece, now);
            if let [a, b, c, rest @ ..] = &piece[..] {
                let ack = frame::Ack { next: *b, room: *c };
                let mut out = Vec::new();
                match a % 4 {
                    0 if !rest.is_empty() => Frame::Data { seq: *a, ack, payload: rest }.encode(Some(tag), &mut out),
                    1 => Frame::Fin { seq: *a, ack }.encode(Some(tag), &mut out),
                    2 => Frame::Ack { ack, behind: u32::from(*a) << 13 }.encode(Some(tag), &mut out),
                    _ => Frame::Poll { ack, behind: u32::MAX }.encode(Some(tag), &mut out),
                }
                line.handle_bytes(&out, now);
            }
            line.write(piece);
            let mut out = Vec::new();
            for _ in 0..50 {
                line.poll_transmit(&mut out, now);
            }
            line.handle_timeout(now);
        }
    }
}
