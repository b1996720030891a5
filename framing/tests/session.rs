//! A session outlives its carriers: whatever is cut, and whoever attaches late, twice or without right, what was
//! submitted arrives once and in order.

#![cfg(test)]

mod support;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref_framing::{
    AttachConfig, Batch, Body, CloseReason, LaneId, Limits, Link, LinkError, LinkEvent, Loss, Misuse, Nanos,
    RejectCode, Rejection, ResumeRequest, Role, SessionEnd, StreamKey,
};
use farref_transport::Class;
use farref_transport::memory::Cutter;
use proptest::prelude::*;
use support::{
    End, Form, Heard, Pair, Side, Trouble, config, frame, frames, limits, pass, pattern, reads, run, submit,
    written,
};

fn link(form: Form, role: Role, salt: u8) -> Box<dyn Link> {
    let mut config = config(role, true, salt);
    config.limits = limits(|limits| {
        limits.fragment = 240;
        limits.first_credit = 1024;
    });
    form.link(config)
}

/// One whose bodies are read straight to where they belong.
fn large_link(form: Form, role: Role, salt: u8) -> Box<dyn Link> {
    let mut config = config(role, true, salt);
    config.limits = limits(|limits| {
        limits.fragment = 8 * 1024 + 5;
        limits.first_credit = 200_000;
    });
    form.link(config)
}

/// Two sides of a session and the carriers they go through.
struct World {
    form: Form,
    link: fn(Form, Role, u8) -> Box<dyn Link>,
    dialer: Side,
    listener: Side,
    cutter: Cutter,
    /// Carriers so far.
    carriers: u8,
    buffer: usize,
    now: Nanos,
}

impl World {
    fn new(form: Form, buffer: usize, link: fn(Form, Role, u8) -> Box<dyn Link>) -> Self {
        let (near, far, cutter) = form.carriers(buffer);
        Self {
            form,
            link,
            dialer: Side::new(link(form, Role::Dialer, 1), End::new(near, Role::Dialer)),
            listener: Side::new(link(form, Role::Listener, 2), End::new(far, Role::Listener)),
            cutter,
            carriers: 1,
            buffer,
            now: 0,
        }
    }

    /// Runs until nothing moves, or the carrier breaks: true then.
    fn run(&mut self) -> bool {
        match run(&mut self.dialer, &mut self.listener, self.now) {
            Ok(()) => false,
            Err(Trouble::Carrier(_) | Trouble::Link(LinkError::Carrier(Loss::Ended))) => true,
            Err(Trouble::Link(error)) => panic!("{error}"),
        }
    }

    /// The dialer notices, and dials again.
    fn redial(&mut self) -> (Side, Cutter) {
        let (near, far, cutter) = self.form.carriers(self.buffer);
        self.carriers += 1;
        self.now += 1_000_000;
        self.dialer.detach(self.now).unwrap();
        self.dialer
            .link
            .attach(AttachConfig::new([self.carriers; 16]), self.now)
            .unwrap();
        self.dialer.end = Some(End::new(near, Role::Dialer));
        let fresh = (self.link)(self.form, Role::Listener, 100 + self.carriers);
        (Side::new(fresh, End::new(far, Role::Listener)), cutter)
    }

    /// Goes on over a new carrier, which `cut` may plan to break. True if the session did go on.
    fn resume(&mut self, cut: impl FnOnce(&Cutter)) -> bool {
        let (mut fresh, cutter) = self.redial();
        cut(&cutter);
        self.cutter = cutter;
        loop {
            let mut moved = match self.dialer.turn(self.now) {
                Ok(moved) => moved,
                Err(Trouble::Carrier(_) | Trouble::Link(LinkError::Carrier(_))) => return false,
                Err(Trouble::Link(error)) => panic!("{error}"),
            };
            moved |= match fresh.turn(self.now) {
                Ok(moved) => moved,
                Err(Trouble::Carrier(_) | Trouble::Link(LinkError::Carrier(_))) => return false,
                Err(Trouble::Link(error)) => panic!("{error}"),
            };
            if let Some(LinkEvent::ResumeRequested(request)) = fresh.heard.others.pop() {
                self.listener.batch.clear();
                self.listener.link.resume(*request, self.now).unwrap();
                self.listener.end = fresh.end.take();
                return true;
            }
            assert!(moved, "neither resumed nor cut");
        }
    }
}

/// What each side says, in small and large pieces.
fn speech(salt: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    [0, 3, 200, 270, 10, 1100, 1]
        .into_iter()
        .enumerate()
        .map(|(n, len)| (format!("{salt}.{n} ").into_bytes(), pattern(salt + n, len)))
        .collect()
}

fn said(salt: usize) -> Vec<Vec<u8>> {
    speech(salt)
        .into_iter()
        .map(|(head, body)| [head, body].concat())
        .collect()
}

fn say(world: &mut World) {
    for (head, body) in speech(1) {
        submit(&mut *world.dialer.link, &head, &body);
    }
    for (head, body) in speech(2) {
        submit(&mut *world.listener.link, &head, &body);
    }
}

fn check(world: &World) {
    assert_eq!(world.listener.heard.whole().expect("all bodies"), said(1));
    assert_eq!(world.dialer.heard.whole().expect("all bodies"), said(2));
    for side in [&world.dialer, &world.listener] {
        let stats = side.link.stats();
        assert_eq!((stats.unsent, stats.lanes_in), (0, 0));
    }
}

/// Opens a session, and tells how many bytes that took.
fn opened(form: Form, buffer: usize) -> World {
    opened_with(form, buffer, link)
}

/// The same with these links.
fn opened_with(form: Form, buffer: usize, link: fn(Form, Role, u8) -> Box<dyn Link>) -> World {
    let mut world = World::new(form, buffer, link);
    assert!(!world.run());
    assert!(world.dialer.link.session().is_some());
    assert_eq!(world.dialer.link.session(), world.listener.link.session());
    world
}

#[test]
fn a_session_cut_at_every_byte_loses_nothing_and_repeats_nothing() {
    for form in support::FORMS {
        let total = {
            let mut world = opened(form, 100);
            let before = world.cutter.passed();
            say(&mut world);
            assert!(!world.run());
            check(&world);
            world.cutter.passed() - before
        };
        for losing in [false, true] {
            for at in 0..total {
                let mut world = opened(form, 100);
                if losing {
                    world.cutter.cut_after_losing(at);
                } else {
                    world.cutter.cut_after(at);
                }
                say(&mut world);
                assert!(world.run(), "cut at {at}");
                // the listener has not noticed yet: the resume fences the old carrier
                assert!(world.resume(|_| {}));
                assert!(!world.run());
                check(&world);
                assert_eq!(world.listener.link.stats().carriers, 2);
                let resumed = |event: &LinkEvent| matches!(event, LinkEvent::Resumed { .. });
                assert_eq!(
                    world
                        .dialer
                        .heard
                        .others
                        .iter()
                        .filter(|event| resumed(event))
                        .count(),
                    1
                );
            }
        }
    }
}

#[test]
fn a_resume_cut_at_every_byte_is_tried_again() {
    for form in support::FORMS {
        for at in 0..420 {
            let mut world = opened(form, 64);
            world.cutter.cut_after(900);
            say(&mut world);
            assert!(world.run());
            world.listener.detach(world.now).unwrap();
            if !world.resume(|cutter| cutter.cut_after(at)) || world.run() {
                assert!(world.resume(|_| {}));
                assert!(!world.run());
            }
            check(&world);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Any number of carriers, each cut somewhere, losing what is under way or not; more is said meanwhile.
    #[test]
    fn any_row_of_cuts_is_survived(
        native: bool,
        buffer in 1_usize..300,
        cuts in proptest::collection::vec((0_u64..2500, any::<bool>(), any::<bool>()), 0..8),
    ) {
        let form = if native { Form::Native } else { Form::Stream };
        survive(opened(form, buffer), cuts, |n| n * 150)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The same with bodies that are read straight to where they belong.
    #[test]
    fn any_row_of_cuts_is_survived_by_large_bodies(
        buffer in 1000_usize..200_000,
        cuts in proptest::collection::vec((0_u64..300_000, any::<bool>(), any::<bool>()), 0..6),
    ) {
        survive(opened_with(Form::Stream, buffer, large_link), cuts, |n| 9_000 + n * 90_000)?;
    }
}

/// After each carrier a body of such a length is said by both sides; a cut comes after so many bytes, loses what is under way, and is
/// noticed by the listener, or not.
fn survive(
    mut world: World,
    cuts: Vec<(u64, bool, bool)>,
    length: impl Fn(usize) -> usize,
) -> Result<(), TestCaseError> {
    say(&mut world);
    let (mut spoken, mut heard) = (said(1), said(2));
    for (n, (at, losing, notices)) in cuts.into_iter().enumerate() {
        world.cutter.cut_after(at);
        if losing {
            world.cutter.cut_after_losing(at);
        }
        if !world.run() {
            world.cutter.cut_losing();
            prop_assert!(world.run());
        }
        if notices {
            world.listener.detach(world.now).unwrap();
        }
        let body = pattern(n, length(n));
        submit(&mut *world.dialer.link, b"more ", &body);
        submit(&mut *world.listener.link, b"more ", &body);
        let more = [b"more ", &body[..]].concat();
        spoken.push(more.clone());
        heard.push(more);
        while !world.resume(|_| {}) {}
    }
    prop_assert!(!world.run());
    prop_assert!(world.listener.heard.whole() == Some(spoken));
    prop_assert!(world.dialer.heard.whole() == Some(heard));
    Ok(())
}

#[test]
fn a_body_goes_on_where_it_was() {
    for form in support::FORMS {
        let mut world = opened(form, 64 * 1024);
        let body = pattern(1, 1_000_000);
        submit(&mut *world.dialer.link, b"large", &body);
        world.cutter.cut_after(600_000);
        assert!(world.run());
        assert!(world.resume(|_| {}));
        assert!(!world.run());
        assert!(world.listener.heard.whole().unwrap() == [[&b"large"[..], &body].concat()]);
        let again = world.cutter.passed();
        assert!(again < 500_000, "{again} bytes over the second carrier");
    }
}

#[test]
fn a_session_goes_on_in_the_other_form() {
    let mut world = opened(Form::Stream, 500);
    say(&mut world);
    for form in [Form::Native, Form::Stream, Form::Native] {
        world.cutter.cut_after_losing(700);
        assert!(world.run());
        world.listener.detach(world.now).unwrap();
        world.dialer.detach(world.now).unwrap();
        world.form = form;
        for side in [&mut world.dialer, &mut world.listener] {
            let old = std::mem::replace(&mut side.link, form.link(config(Role::Dialer, false, 0)));
            side.link = form.over(old.into_core());
        }
        assert!(world.resume(|_| {}));
    }
    assert!(!world.run());
    check(&world);
}

#[test]
fn streams_go_on_with_credit_and_stop() {
    let mut world = opened(Form::Stream, 10_000);
    let lanes: Vec<LaneId> = (0..3)
        .map(|_| world.dialer.link.open_lane(Class::Normal).unwrap())
        .collect();
    for lane in &lanes {
        world
            .dialer
            .link
            .write_lane(*lane, Bytes::from(pattern(0, 3000)))
            .unwrap();
    }
    assert!(!world.run());
    world.listener.link.accept_lane(lanes[0], 2500).unwrap();
    world.listener.link.accept_lane(lanes[1], 1024).unwrap();
    world.listener.link.stop_lane(lanes[1], 7);
    world.dialer.link.reset_lane(lanes[2], 8);
    world.cutter.cut_losing(); // credit, stop and reset are lost
    assert!(world.run());
    assert!(world.resume(|_| {}));
    assert!(!world.run());
    assert!(world.dialer.heard.others.contains(&LinkEvent::LaneStopped {
        lane: lanes[1],
        code: 7
    }));
    assert!(world.dialer.heard.others.contains(&LinkEvent::LaneCredit {
        lane: lanes[0],
        upto: 2500
    }));
    let mut got = Vec::new();
    for event in &world.listener.heard.others {
        if let LinkEvent::LaneData { lane, bytes, .. } = event
            && *lane == lanes[0]
        {
            got.extend_from_slice(bytes);
        }
    }
    assert_eq!(got, pattern(0, 3000)[..2500]);
    world.listener.link.accept_lane(lanes[2], 0).unwrap();
    world.listener.heard.take(&mut *world.listener.link);
    assert!(world.listener.heard.others.contains(&LinkEvent::LaneReset {
        lane: lanes[2],
        code: 8
    }));
}

/// Streams overtake each other: what the listener goes on with may be here before its word that it does. The dialer took
/// it for more than may come unasked.
#[test]
fn a_body_that_overtakes_the_answer_to_a_resume_is_kept() {
    let mut dialer = link(Form::Native, Role::Dialer, 1);
    let mut listener = link(Form::Native, Role::Listener, 2);
    let body = pattern(3, 50_000);
    let lane = submit(&mut *listener, b"large", &body).unwrap();
    let stream = StreamKey::new(lane.number());
    let give = |bytes: &[u8], stream, to: &mut dyn Link| {
        let mut input = BytesMut::from(bytes);
        to.handle_bytes(stream, &mut input, false, 0)
    };
    let (mut from, mut to) = (&mut dialer, &mut listener);
    for _ in 0..8 {
        let mut batch = Batch::new();
        from.poll_transmit(&mut batch, 0);
        give(&batch.to_vec(StreamKey::MAIN), StreamKey::MAIN, &mut **to).unwrap();
        let bytes = batch.to_vec(stream);
        if bytes.len() < 2000 {
            give(&bytes, stream, &mut **to).unwrap(); // within the first credit; what was granted then is lost
        }
        std::mem::swap(&mut from, &mut to);
    }
    dialer.detach(0).unwrap();
    dialer.attach(AttachConfig::new([11; 16]), 0).unwrap();
    let (_, request) = request(&written(&mut *dialer, 0), None, 21);
    listener.resume(request, 0).unwrap();
    let main = written(&mut *listener, 0);
    let mut batch = Batch::new();
    listener.poll_transmit(&mut batch, 0);
    let early = batch.to_vec(stream);
    assert!(early.len() > 40_000, "{}", early.len());
    give(&early, stream, &mut *dialer).unwrap();
    give(&main, StreamKey::MAIN, &mut *dialer).unwrap();
    dialer
        .handle_bytes(stream, &mut BytesMut::new(), true, 0)
        .unwrap();
    let mut heard = Heard::default();
    heard.take(&mut *dialer);
    assert_eq!(heard.whole().unwrap(), [[&b"large"[..], &body].concat()]);

    // but no more than may come of a lane that was granted nothing, and on one stream only
    dialer.detach(0).unwrap();
    dialer.attach(AttachConfig::new([12; 16]), 0).unwrap();
    written(&mut *dialer, 0);
    let second = [&[1, 2, 0][..], &pattern(0, 1024)].concat();
    give(&second, StreamKey::new(2), &mut *dialer).unwrap();
    give(&[0; 16], StreamKey::new(2), &mut *dialer).unwrap(); // a long header would have been that long
    let twice = give(&second, StreamKey::new(3), &mut *dialer);
    assert!(matches!(twice, Err(LinkError::Misbehaved(_))), "{twice:?}");
}

#[test]
fn what_comes_of_a_lane_before_the_answer_to_a_resume_is_bounded() {
    let mut dialer = link(Form::Native, Role::Dialer, 1);
    let mut listener = link(Form::Native, Role::Listener, 2);
    for _ in 0..2 {
        pass(&mut *dialer, &mut *listener, 0);
        pass(&mut *listener, &mut *dialer, 0);
    }
    dialer.detach(0).unwrap();
    dialer.attach(AttachConfig::new([12; 16]), 0).unwrap();
    written(&mut *dialer, 0);
    let mut beyond = BytesMut::from(&[&[1, 1, 0][..], &pattern(0, 1024 + 20)].concat()[..]);
    assert!(matches!(
        dialer.handle_bytes(StreamKey::new(1), &mut beyond, false, 0),
        Err(LinkError::Misbehaved(_))
    ));
}

/// A dialer's first flight on a new carrier, and what the listener's fresh link makes of it.
fn request(flight: &[u8], channel: Option<[u8; 32]>, salt: u8) -> (Box<dyn Link>, ResumeRequest) {
    let mut config = config(Role::Listener, true, salt);
    config.channel_binding = channel;
    let mut fresh = Form::Stream.link(config);
    reads(&mut *fresh, flight, 0).unwrap();
    match fresh.poll_event() {
        Some(LinkEvent::ResumeRequested(request)) => (fresh, *request),
        other => panic!("{other:?}"),
    }
}

fn attach(dialer: &mut dyn Link, nonce: u8) -> Vec<u8> {
    dialer.detach(0).unwrap();
    dialer.attach(AttachConfig::new([nonce; 16]), 0).unwrap();
    written(dialer, 0)
}

fn refused(listener: &mut dyn Link, request: ResumeRequest) -> Rejection {
    listener.resume(request, 0).unwrap_err()
}

#[test]
fn late_and_repeated_attaches_are_stale() {
    let mut pair = Pair::new(true, &Limits::default());
    let first = attach(&mut *pair.dialer, 11);
    let second = attach(&mut *pair.dialer, 12);
    let (_, late) = request(&first, None, 21);
    let (_, early) = request(&second, None, 22);
    let (mut again, repeated) = request(&second, None, 23);
    pair.listener.resume(early, 0).unwrap();
    assert_eq!(pair.listener.epoch(), 3);
    assert_eq!(refused(&mut *pair.listener, late).code(), RejectCode::Stale);
    let rejection = refused(&mut *pair.listener, repeated);
    assert_eq!(rejection.code(), RejectCode::Stale);
    again.reject(rejection);
    assert_eq!(frames(&written(&mut *again, 0)[58..])[0], (0x0d, 0, vec![4]));
    // the session is unharmed
    let answer = written(&mut *pair.listener, 0);
    reads(&mut *pair.dialer, &answer, 0).unwrap();
    submit(&mut *pair.dialer, b"on", b"");
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.whole().unwrap(), [b"on"]);
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut pair = Pair::new(true, &Limits::default());
    let (_, first) = request(&attach(&mut *pair.dialer, 11), None, 21);
    pair.listener.resume(first, 0).unwrap();
    let (_, second) = request(&attach(&mut *pair.dialer, 12), None, 22);
    pair.listener.resume(second, 0).unwrap();
    let answer = written(&mut *pair.listener, 0);
    reads(&mut *pair.dialer, &answer, 0).unwrap();
    assert!(matches!(
        pair.dialer.poll_event(),
        Some(LinkEvent::Resumed { .. })
    ));
}

#[test]
fn others_cannot_take_a_session_over() {
    let mut pair = Pair::new(true, &Limits::default());
    let flight = attach(&mut *pair.dialer, 11);

    let mut stranger = {
        // the same nonces and other secrets: other sessions
        let mut config = config(Role::Dialer, true, 1);
        config.secret = [99; 32];
        let mut dialer = Form::Stream.link(config);
        let mut listener = link(Form::Stream, Role::Listener, 2);
        support::pass(&mut *dialer, &mut *listener, 0);
        support::pass(&mut *listener, &mut *dialer, 0);
        dialer
    };
    assert_ne!(stranger.session(), pair.listener.session());
    let (_, theirs) = request(&attach(&mut *stranger, 11), None, 21);
    assert_eq!(refused(&mut *pair.listener, theirs).code(), RejectCode::Unknown);

    let (_, relayed) = request(&flight, Some([1; 32]), 21);
    assert_eq!(refused(&mut *pair.listener, relayed).code(), RejectCode::NotYours);

    for at in 58 + 3..flight.len() {
        let mut changed = flight.clone();
        changed[at] ^= 1;
        let mut fresh = link(Form::Stream, Role::Listener, 21);
        if reads(&mut *fresh, &changed, 0).is_ok()
            && let Some(LinkEvent::ResumeRequested(request)) = fresh.poll_event()
        {
            let code = refused(&mut *pair.listener, *request).code();
            assert!(
                matches!(code, RejectCode::NotYours | RejectCode::Unknown),
                "{code} at {at}"
            );
        }
    }
    assert_eq!(pair.listener.epoch(), 1, "nothing has changed");
    let (_, honest) = request(&flight, None, 21);
    pair.listener.resume(honest, 0).unwrap();
}

/// A pair with a session; all of these have the same one. The dialer has said `dialer` and the listener `listener`.
fn twin(dialer: &[u8], listener: &[u8]) -> Pair {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, dialer, b"");
    submit(&mut *pair.listener, listener, b"");
    pair.settle(0);
    pair
}

#[test]
fn offsets_that_do_not_fit_are_refused_by_either_side() {
    let (mut short, mut long) = (twin(b"", b""), twin(b"more", b"more"));
    // the dialer has got more than was ever sent, by a proof that holds
    let (_, ahead) = request(&attach(&mut *long.dialer, 11), None, 21);
    assert_eq!(
        refused(&mut *short.listener, ahead.clone()).code(),
        RejectCode::Gap
    );
    assert_eq!(short.listener.epoch(), 1, "nothing has changed");
    // the listener has
    let flight = attach(&mut *short.dialer, 12);
    let (_, honest) = request(&flight, None, 22);
    let mut other = twin(b"more", b"");
    other.listener.resume(honest.clone(), 0).unwrap();
    let answer = written(&mut *other.listener, 0);
    let gap = reads(&mut *short.dialer, &answer, 0);
    assert!(matches!(gap, Err(LinkError::Misbehaved(_))), "{gap:?}");
    assert!(short.dialer.detach(0).is_err(), "that is the end");
    // one that comes too late is told so before its offsets are looked at
    short.listener.resume(honest, 0).unwrap();
    assert_eq!(refused(&mut *short.listener, ahead).code(), RejectCode::Stale);
}

#[test]
fn a_lane_that_was_never_allotted_does_not_fit() {
    let mut with_lane = Pair::new(true, &Limits::default());
    submit(&mut *with_lane.listener, b"head", &pattern(0, 20_000)).unwrap();
    with_lane.settle(0);
    let mut without = twin(b"", &pattern(0, 100));
    let (_, ahead) = request(&attach(&mut *with_lane.dialer, 11), None, 21);
    assert_eq!(
        refused(&mut *without.listener, ahead.clone()).code(),
        RejectCode::Gap
    );
    with_lane.listener.resume(ahead, 0).unwrap();
}

#[test]
fn a_stranger_is_not_told_that_it_comes_too_late() {
    let mut pair = Pair::new(true, &Limits::default());
    let mut flight = attach(&mut *pair.dialer, 11);
    let (_, first) = request(&flight, None, 21);
    pair.listener.resume(first, 0).unwrap();
    *flight.last_mut().unwrap() ^= 1;
    let (_, forged) = request(&flight, None, 22);
    assert_eq!(refused(&mut *pair.listener, forged).code(), RejectCode::NotYours);
}

#[test]
fn a_resume_is_bound_to_the_channel_of_its_carrier() {
    let mut pair = Pair::new(true, &Limits::default());
    pair.dialer.detach(0).unwrap();
    let mut config = AttachConfig::new([11; 16]);
    config.channel_binding = Some([7; 32]);
    pair.dialer.attach(config, 0).unwrap();
    let flight = written(&mut *pair.dialer, 0);
    for channel in [None, Some([8; 32])] {
        let (_, elsewhere) = request(&flight, channel, 21);
        assert_eq!(
            refused(&mut *pair.listener, elsewhere).code(),
            RejectCode::NotYours
        );
    }
    let (_, here) = request(&flight, Some([7; 32]), 21);
    pair.listener.resume(here, 0).unwrap();
    pair.settle(0);
    assert!(matches!(
        pair.dialer.poll_event(),
        Some(LinkEvent::Resumed { .. })
    ));
}

#[test]
fn a_dialer_is_not_gone_on_with() {
    let mut pair = Pair::new(true, &Limits::default());
    let (_, request) = request(&attach(&mut *twin(b"", b"").dialer, 11), None, 21);
    assert_eq!(refused(&mut *pair.dialer, request).code(), RejectCode::Unknown);
    assert_eq!((pair.dialer.epoch(), pair.dialer.wants_write()), (1, false));
}

#[test]
fn an_answer_to_an_earlier_attempt_is_none_to_this_one() {
    let mut pair = Pair::new(true, &Limits::default());
    // the same nonces, so that the proof holds
    let (_, first) = request(&attach(&mut *pair.dialer, 11), None, 21);
    attach(&mut *pair.dialer, 11);
    pair.listener.resume(first, 0).unwrap();
    let answer = written(&mut *pair.listener, 0);
    let other = reads(&mut *pair.dialer, &answer, 0);
    assert!(matches!(other, Err(LinkError::Misbehaved(_))), "{other:?}");
}

#[test]
fn each_side_hears_how_long_the_other_was_without_a_carrier() {
    const SECOND: u64 = 1_000_000_000;
    for noticed in [true, false] {
        let mut pair = Pair::new(true, &Limits::default());
        pair.dialer.detach(SECOND).unwrap();
        if noticed {
            pair.listener.detach(2 * SECOND).unwrap();
        }
        pair.dialer
            .attach(AttachConfig::new([11; 16]), 4 * SECOND)
            .unwrap();
        let flight = written(&mut *pair.dialer, 4 * SECOND);
        let (_, request) = request(&flight, None, 21);
        pair.listener.resume(request, 5 * SECOND).unwrap();
        pair.settle(5 * SECOND);
        let seconds = |down| {
            Some(LinkEvent::Resumed {
                down: Duration::from_secs(down),
            })
        };
        assert_eq!(pair.listener.poll_event(), seconds(3));
        assert_eq!(pair.dialer.poll_event(), seconds(if noticed { 3 } else { 0 }));
    }
}

#[test]
fn a_session_that_has_gone_on_neither_expires_nor_is_closed_in_silence() {
    let mut pair = Pair::new(true, &Limits::default());
    let (_, request) = request(&attach(&mut *pair.dialer, 11), None, 21);
    pair.listener.resume(request, 0).unwrap();
    pair.settle(0);
    for minute in 1..4_u64 {
        let now = minute * 60_000_000_000;
        for link in [&mut pair.dialer, &mut pair.listener] {
            link.ping(now);
        }
        pair.settle(now);
        for link in [&mut pair.dialer, &mut pair.listener] {
            link.handle_timeout(now).unwrap();
        }
    }
    pair.dialer.close(farref_framing::CloseReason::done());
    assert!(pair.dialer.wants_write());
    pair.settle(0);
    assert!(pair.dialer.is_finished());
}

#[test]
fn a_wider_carrier_gets_larger_fragments() {
    let mut pair = Pair::new(true, &Limits::default());
    resume_over(&mut pair, 64 * 1024);
    for n in 0..3 {
        submit(&mut *pair.dialer, &pattern(n, 16_000), b""); // together more than a fragment was
    }
    let told = written(&mut *pair.dialer, 0);
    assert!(frames(&told).iter().any(|(_, _, payload)| payload.len() > 40_000));
    reads(&mut *pair.listener, &told, 0).unwrap();
}

/// On lane 0 nothing would overtake it.
#[test]
fn what_one_carrier_takes_at_once_goes_on_a_lane_of_its_own_over_the_next() {
    let mut pair = Pair::new(true, &limits(|limits| limits.fragment = 64 * 1024));
    let is_alone = |pair: &mut Pair| submit(&mut *pair.dialer, b"head", &pattern(0, 60_000)).is_some();
    assert!(!is_alone(&mut pair));
    pair.settle(0);
    resume_over(&mut pair, 240);
    assert!(is_alone(&mut pair));
    pair.settle(0);
    resume_over(&mut pair, 64 * 1024);
    assert!(!is_alone(&mut pair));
}

/// Takes the session to a carrier of fragments of that size.
fn resume_over(pair: &mut Pair, fragment: usize) {
    pair.listener.detach(0).unwrap();
    pair.dialer.detach(0).unwrap();
    let mut attach = AttachConfig::new([11; 16]);
    attach.fragment = Some(fragment);
    pair.dialer.attach(attach, 0).unwrap();
    let mut config = config(Role::Listener, true, 21);
    config.limits.fragment = fragment;
    let mut fresh = Form::Stream.link(config);
    reads(&mut *fresh, &written(&mut *pair.dialer, 0), 0).unwrap();
    let Some(LinkEvent::ResumeRequested(request)) = fresh.poll_event() else {
        panic!("RESUME")
    };
    pair.listener.resume(*request, 0).unwrap();
    pair.settle(0);
}

/// PROTOCOL.md § 4.7: which of the session's frames may come in which phase.
/// A dialer that had asked wrongly heard a CLOSE without a preface, and took it for another protocol.
#[test]
fn what_is_wrong_with_a_request_is_told_behind_a_preface() {
    let mut pair = Pair::new(true, &Limits::default());
    let flight = attach(&mut *pair.dialer, 11);
    let mut fresh = link(Form::Stream, Role::Listener, 21);
    let broken = [&flight[..58], &[0x0a, 0, 1, 0]].concat();
    reads(&mut *fresh, &broken, 0).unwrap_err();
    let said = written(&mut *fresh, 0);
    assert!(said.starts_with(&[0xa9, 0x46, 0x41, 0x52]), "{said:x?}");
    let close = support::frame(0x0e, 0, b"\x01a malformed frame of kind 0x0a");
    assert!(said.ends_with(&close), "{said:x?}");
}

#[test]
fn each_frame_of_the_session_has_its_phase() {
    let new = |role| {
        let mut link = Form::Stream.link(config(role, true, 1));
        let other = match role {
            Role::Dialer => Role::Listener,
            Role::Listener => Role::Dialer,
        };
        let mut peer = Form::Stream.link(config(other, true, 7));
        if other == Role::Listener {
            pass(&mut *link, &mut *peer, 0);
        }
        let preface = &written(&mut *peer, 0)[..58];
        reads(&mut *link, preface, 0).unwrap();
        link
    };
    let open = |dialer: bool| {
        let pair = Pair::new(true, &Limits::default());
        if dialer { pair.dialer } else { pair.listener }
    };
    let resuming = |dialer: bool| {
        let mut pair = Pair::new(true, &Limits::default());
        let flight = attach(&mut *pair.dialer, 11);
        let (mut fresh, _) = request(&flight, None, 21);
        if dialer {
            fresh.reject(Rejection::new(RejectCode::Unknown));
            reads(&mut *pair.dialer, &written(&mut *fresh, 0)[..58], 0).unwrap();
            return pair.dialer;
        }
        let mut fresh = link(Form::Stream, Role::Listener, 21);
        reads(&mut *fresh, &flight[..58], 0).unwrap();
        fresh
    };
    type Make<'a> = &'a dyn Fn() -> Box<dyn Link>;
    let phases: [(&str, Make<'_>, &[u8]); 6] = [
        ("a new dialer", &|| new(Role::Dialer), &[0x0a]),
        ("a new listener", &|| new(Role::Listener), &[0x0a]),
        ("a dialer that comes back", &|| resuming(true), &[0x0c, 0x0d]),
        ("a listener to which one does", &|| resuming(false), &[0x0b]),
        ("an open dialer", &|| open(true), &[]),
        ("an open listener", &|| open(false), &[]),
    ];
    for (phase, make, may_come) in phases {
        let frames = [
            (0x0a, vec![9; 32]),
            (0x0b, vec![0; 53]),
            (0x0c, vec![0; 37]),
            (0x0d, vec![1]),
        ];
        for (kind, payload) in frames {
            let read = reads(&mut *make(), &support::frame(kind, 0, &payload), 0);
            let is_breach = matches!(read, Err(LinkError::Misbehaved(_)));
            assert_eq!(
                !is_breach,
                may_come.contains(&kind),
                "{kind:#x} to {phase}: {read:?}"
            );
        }
    }
}

#[test]
fn what_follows_a_request_is_not_for_the_link_that_took_it() {
    let mut pair = Pair::new(true, &Limits::default());
    let mut input = BytesMut::from(&attach(&mut *pair.dialer, 11)[..]);
    let behind = support::frame(0x08, 0, &[0; 8]);
    input.extend_from_slice(&behind);
    let mut fresh = link(Form::Stream, Role::Listener, 21);
    fresh.handle_bytes(StreamKey::MAIN, &mut input, false, 0).unwrap();
    assert!(matches!(fresh.poll_event(), Some(LinkEvent::ResumeRequested(_))));
    assert_eq!(input, behind);
}

#[test]
fn without_a_session_nothing_is_acknowledged_and_no_acknowledgement_matters() {
    let mut pair = Pair::new(false, &Limits::default());
    for n in 0..14 {
        submit(&mut *pair.dialer, &pattern(n, 10_000), b""); // more than is acknowledged by itself
    }
    while pass(&mut *pair.dialer, &mut *pair.listener, 0) {}
    assert!(!pair.listener.wants_write());
    assert_eq!(pair.dialer.stats().retained, 0);
    let beyond = support::frame(0x03, 0, &[252, 255, 255, 255, 255]);
    reads(&mut *pair.dialer, &beyond, 0).unwrap();
}

#[test]
fn what_was_not_sent_is_not_acknowledged_on_any_lane() {
    for on_lane_0 in [true, false] {
        let mut pair = Pair::new(true, &Limits::default());
        let lane = submit(&mut *pair.dialer, b"head", &pattern(0, 1_000_000)).unwrap();
        let number = if on_lane_0 { 0 } else { lane.number() };
        let beyond = support::frame(0x03, number, &[252, 0, 0, 1, 0]); // 64 KiB
        let read = reads(&mut *pair.dialer, &beyond, 0);
        assert!(matches!(read, Err(LinkError::Misbehaved(_))), "{read:?}");
    }
}

/// Both go on over another carrier; what was on its way is lost.
fn resume(pair: &mut Pair, salt: u8) {
    let flight = attach(&mut *pair.dialer, salt);
    let (_, request) = request(&flight, None, salt + 100);
    pair.listener.resume(request, 0).unwrap();
    let answer = written(&mut *pair.listener, 0);
    reads(&mut *pair.dialer, &answer, 0).unwrap();
}

/// What comes in an encrypted record comes whole or not at all: behind 64 KiB of other bytes the answer would be cut off with
/// a carrier that does not live as long as those take.
#[test]
fn the_answer_to_a_resume_goes_by_itself() {
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.listener, b"large", &pattern(1, 100_000));
    let flight = attach(&mut *pair.dialer, 11);
    let (_, request) = request(&flight, None, 111);
    pair.listener.resume(request, 0).unwrap();
    let answer = frames(&written(&mut *pair.listener, 0)[58..]);
    assert_eq!(answer.iter().map(|frame| frame.0).collect::<Vec<_>>(), [0x0c]);
    assert!(pair.listener.wants_write());
    assert!(written(&mut *pair.listener, 0).len() > 10_000);
}

#[test]
fn what_a_resume_leaves_of_lanes_is_what_the_other_side_has_of_them() {
    let mut pair = Pair::new(true, &Limits::default());
    // one of which nothing arrived, and which was given up since then
    let lane = pair.dialer.open_lane(Class::Normal).unwrap();
    pair.dialer
        .write_lane(lane, Bytes::from(pattern(0, 3000)))
        .unwrap();
    written(&mut *pair.dialer, 0);
    pair.dialer.reset_lane(lane, 8);
    // one of which nothing arrived, and which goes on
    submit(&mut *pair.dialer, b"large", &pattern(1, 200_000)).unwrap();
    let mut sent = 0;
    while sent < 200_000 {
        sent += written(&mut *pair.dialer, 0).len();
    }
    assert!(pair.dialer.stats().retained >= 200_000);
    resume(&mut pair, 11);
    assert_eq!(pair.dialer.stats().retained, 0, "all of it is unsent again");
    pair.settle(0);
    pair.listener.accept_lane(lane, 0).unwrap();
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert!(heard.others.contains(&LinkEvent::LaneReset { lane, code: 8 }));
    assert_eq!(
        heard.whole().unwrap(),
        [[&b"large"[..], &pattern(1, 200_000)].concat()]
    );
    // both are done, which was not told yet
    pair.settle(0);
    assert_eq!(pair.dialer.stats().lanes_out, 2);
    resume(&mut pair, 12);
    assert_eq!(pair.dialer.stats().lanes_out, 0);
}

/// The page of a portal on the way was the end of the session.
#[test]
fn an_answer_of_something_else_is_no_more_than_a_lost_carrier() {
    let mut pair = Pair::new(true, &Limits::default());
    attach(&mut *pair.dialer, 11);
    let page = b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n";
    let read = reads(&mut *pair.dialer, page, 0);
    assert!(
        matches!(read, Err(LinkError::Carrier(Loss::Foreign(_)))),
        "{read:?}"
    );
    assert!(!pair.dialer.wants_write(), "and nothing is said to it");
    resume(&mut pair, 12);
    submit(&mut *pair.dialer, b"on", b"");
    pair.settle(0);
    let mut heard = Heard::default();
    heard.take(&mut *pair.listener);
    assert_eq!(heard.whole().unwrap(), [b"on"]);
}

#[test]
fn a_forged_answer_ends_the_session() {
    let mut pair = Pair::new(true, &Limits::default());
    let (_, request) = request(&attach(&mut *pair.dialer, 11), None, 21);
    pair.listener.resume(request, 0).unwrap();
    let mut answer = written(&mut *pair.listener, 0);
    let last = answer.len() - 1;
    answer[last] ^= 1;
    let forged = reads(&mut *pair.dialer, &answer, 0);
    assert_eq!(forged, Err(SessionEnd::Forged.into()));
    assert_eq!(pair.dialer.detach(0), Err(Misuse::NoSession.into()));
}

#[test]
fn nothing_is_believed_before_the_answer() {
    let mut pair = Pair::new(true, &Limits::default());
    attach(&mut *pair.dialer, 11);
    submit(&mut *pair.dialer, b"waits", b"");
    assert!(!pair.dialer.wants_write());
    let hello = [preface_of_another(), frame(0x01, 0, &[2, b'x'])].concat();
    assert!(matches!(
        reads(&mut *pair.dialer, &hello, 0),
        Err(LinkError::Misbehaved(_))
    ));
    assert_eq!(pair.dialer.poll_event(), None);
}

/// What comes of a body is taken in parts, but not from whoever has proved nothing.
#[test]
fn no_part_of_a_body_is_taken_before_the_answer() {
    let mut pair = Pair::new(true, &Limits::default());
    let lane = submit(&mut *pair.listener, b"large", &pattern(0, 300_000)).unwrap();
    pass(&mut *pair.listener, &mut *pair.dialer, 0);
    attach(&mut *pair.dialer, 11);
    let mut input = BytesMut::from(&preface_of_another()[..]);
    let forged = frame(0x01, lane.number(), &[7; 4096]);
    let (part, rest) = forged.split_at(1000);
    for (bytes, expected) in [(part, true), (rest, false)] {
        input.extend_from_slice(bytes);
        let handled = pair.dialer.handle_bytes(StreamKey::MAIN, &mut input, false, 0);
        assert_eq!(handled.is_ok(), expected, "{handled:?}");
    }
}

/// The preface of a listener that knows nothing of the session.
fn preface_of_another() -> Vec<u8> {
    let mut other = Form::Stream.link(config(Role::Listener, true, 50));
    let hello = written(&mut *Form::Stream.link(config(Role::Dialer, true, 51)), 0);
    reads(&mut *other, &hello, 0).unwrap();
    let mut answer = written(&mut *other, 0);
    answer.truncate(58);
    answer
}

#[test]
fn a_session_that_nobody_resumes_expires_and_leaves_a_tombstone() {
    const SECOND: u64 = 1_000_000_000;
    let mut pair = Pair::new(true, &Limits::default());
    submit(&mut *pair.dialer, b"received", b"");
    pair.settle(0);
    let received = pair.dialer.position();
    submit(&mut *pair.dialer, b"lost", b"");
    written(&mut *pair.dialer, 0);
    pair.listener.detach(SECOND).unwrap();
    assert_eq!(pair.listener.poll_timeout(), Some(61 * SECOND));
    pair.listener.handle_timeout(61 * SECOND - 1).unwrap();
    assert_eq!(
        pair.listener.handle_timeout(61 * SECOND),
        Err(SessionEnd::Expired.into())
    );
    assert!(!pair.listener.wants_write(), "there is nobody to tell");
    assert_eq!(
        pair.listener.submit(b"x", Body::EMPTY),
        Err(Misuse::Closed.into())
    );
    let tombstone = pair.listener.tombstone().unwrap();
    assert_eq!(Some(tombstone.session()), pair.dialer.session());

    let (mut fresh, request) = request(&attach(&mut *pair.dialer, 11), None, 21);
    let rejection = refused(&mut *pair.listener, request.clone());
    assert_eq!(
        rejection,
        tombstone.reject(&request),
        "the link itself tells the same"
    );
    fresh.reject(rejection);
    let end = reads(&mut *pair.dialer, &written(&mut *fresh, 0), 0);
    let rejected = SessionEnd::Rejected {
        code: RejectCode::Expired,
        received: Some(received),
    };
    assert_eq!(end, Err(rejected.into()));
}

#[test]
fn trying_again_and_again_does_not_outlast_the_window() {
    let mut pair = Pair::new(true, &Limits::default());
    let second = 1_000_000_000;
    pair.dialer.detach(0).unwrap();
    for n in 1..6 {
        let now = n * 10 * second;
        pair.dialer.attach(AttachConfig::new([n as u8; 16]), now).unwrap();
        assert!(pair.dialer.poll_timeout().unwrap() <= 60 * second);
        pair.dialer.detach(now + second).unwrap();
    }
    assert_eq!(
        pair.dialer.handle_timeout(60 * second),
        Err(SessionEnd::Expired.into())
    );
}

#[test]
fn an_attempt_that_is_under_way_ends_with_the_window() {
    let mut pair = Pair::new(true, &Limits::default());
    let second = 1_000_000_000;
    pair.dialer.detach(0).unwrap();
    pair.dialer
        .attach(AttachConfig::new([11; 16]), 55 * second)
        .unwrap();
    assert_eq!(pair.dialer.poll_timeout(), Some(60 * second));
    assert_eq!(
        pair.dialer.handle_timeout(60 * second),
        Err(SessionEnd::Expired.into())
    );
}

#[test]
fn a_greeting_that_was_not_written_goes_with_its_carrier() {
    let mut pair = Pair::new(true, &Limits::default());
    pair.dialer.detach(0).unwrap();
    pair.dialer.attach(AttachConfig::new([7; 16]), 0).unwrap();
    assert!(pair.dialer.wants_write());
    pair.dialer.detach(0).unwrap();
    assert!(!pair.dialer.wants_write());
}

#[test]
fn a_side_without_sessions_says_so() {
    let mut pair = Pair::new(true, &Limits::default());
    let flight = attach(&mut *pair.dialer, 11);
    let mut fresh = Form::Stream.link(config(Role::Listener, false, 21));
    reads(&mut *fresh, &flight, 0).unwrap();
    assert_eq!(fresh.poll_event(), None);
    let end = reads(&mut *pair.dialer, &written(&mut *fresh, 0), 0);
    let rejected = SessionEnd::Rejected {
        code: RejectCode::Unsupported,
        received: None,
    };
    assert_eq!(end, Err(rejected.into()));
}

#[test]
fn only_a_detached_dialer_with_a_session_attaches() {
    let mut pair = Pair::new(true, &Limits::default());
    let new = || AttachConfig::new([7; 16]);
    assert_eq!(pair.dialer.attach(new(), 0), Err(Misuse::Attached.into()));
    pair.listener.detach(0).unwrap();
    assert_eq!(pair.listener.attach(new(), 0), Err(Misuse::NoSession.into()));
    let mut fresh = Form::Stream.link(config(Role::Dialer, true, 1));
    assert_eq!(fresh.attach(new(), 0), Err(Misuse::NoSession.into()));
    let mut input = BytesMut::from(&[1_u8][..]);
    assert_eq!(
        pair.listener.handle_bytes(StreamKey::MAIN, &mut input, false, 0),
        Err(Misuse::Closed.into())
    );
}

/// Calls that were said not to have been sent were still written when the peer had closed, and ran over there.
#[test]
fn what_is_abandoned_is_not_sent_but_a_close_is() {
    for session in [true, false] {
        let mut pair = Pair::new(session, &Limits::default());
        submit(&mut *pair.dialer, b"message", b"");
        submit(&mut *pair.dialer, b"large", &pattern(1, 100_000));
        let lane = pair.dialer.open_lane(Class::Normal).unwrap();
        let stream = Bytes::from(pattern(2, 100_000));
        pair.dialer.write_lane(lane, stream.clone()).unwrap();
        pair.dialer.abandon();
        // What could not be sent was kept until the peer had taken the close.
        assert!(stream.is_unique(), "nothing of it is kept");
        assert!(!pair.dialer.wants_write() && written(&mut *pair.dialer, 0).is_empty());
        pair.dialer.close(CloseReason::done());
        assert!(pair.dialer.wants_write());
        let kinds: Vec<u8> = frames(&written(&mut *pair.dialer, 0))
            .iter()
            .map(|frame| frame.0)
            .collect();
        assert_eq!(kinds, [0x0e]);
        assert!(pair.dialer.is_finished());
    }
}

#[test]
fn a_closed_session_is_not_resumed() {
    let mut pair = Pair::new(true, &Limits::default());
    pair.dialer.close(farref_framing::CloseReason::done());
    pair.settle(0);
    assert!(pair.dialer.detach(0).is_err());
    assert!(pair.listener.detach(0).is_err());
    // nor is one that is closed while there is no carrier, or none yet
    let mut pair = Pair::new(true, &Limits::default());
    pair.listener.detach(0).unwrap();
    attach(&mut *pair.dialer, 11);
    for link in [&mut pair.dialer, &mut pair.listener] {
        link.close(farref_framing::CloseReason::done());
        assert!(link.is_finished() && !link.wants_write() && link.poll_timeout().is_none());
        assert!(link.detach(0).is_err());
    }
}

/// The link used to accept the dialer, and then to say nothing: its last bytes had gone to the old carrier.
#[test]
fn a_session_that_is_being_closed_is_not_resumed_over_another_carrier() {
    for close_is_written in [false, true] {
        let mut pair = Pair::new(true, &Limits::default());
        pair.listener.close(farref_framing::CloseReason::done());
        if close_is_written {
            written(&mut *pair.listener, 0); // and lost
        }
        let (mut fresh, request) = request(&attach(&mut *pair.dialer, 11), None, 21);
        let rejection = refused(&mut *pair.listener, request);
        assert_eq!(rejection.code(), RejectCode::Unknown);
        fresh.reject(rejection);
        let end = reads(&mut *pair.dialer, &written(&mut *fresh, 0), 0);
        assert!(matches!(end, Err(LinkError::Session(_))), "{end:?}");
    }
    // nor does whoever has said goodbye come back
    let mut pair = Pair::new(true, &Limits::default());
    let (_, request) = {
        let mut pair = Pair::new(true, &Limits::default());
        request(&attach(&mut *pair.dialer, 11), None, 21)
    };
    pair.dialer.close(farref_framing::CloseReason::done());
    pass(&mut *pair.dialer, &mut *pair.listener, 0);
    assert_eq!(refused(&mut *pair.listener, request).code(), RejectCode::Unknown);
}

#[test]
fn nobody_comes_back_after_the_window_even_if_the_clock_was_not_looked_at() {
    const SECOND: u64 = 1_000_000_000;
    let mut pair = Pair::new(true, &Limits::default());
    pair.listener.detach(0).unwrap();
    let (_, request) = request(&attach(&mut *pair.dialer, 11), None, 21);
    let mut late = |now| pair.listener.resume(request.clone(), now);
    assert_eq!(late(60 * SECOND).unwrap_err().code(), RejectCode::Expired);
    late(60 * SECOND - 1).unwrap();
}

/// Whoever had asked for a sign of life waited for ever when the carrier was lost before it came.
#[test]
fn a_sign_of_life_that_somebody_wants_is_asked_for_again() {
    for asked_without_carrier in [false, true] {
        let mut pair = Pair::new(true, &Limits::default());
        if !asked_without_carrier {
            pair.dialer.ping(0);
            written(&mut *pair.dialer, 0); // and lost
        }
        pair.dialer.detach(0).unwrap();
        if asked_without_carrier {
            pair.dialer.ping(0);
        }
        pair.dialer.attach(AttachConfig::new([11; 16]), 5).unwrap();
        let (_, request) = request(&written(&mut *pair.dialer, 5), None, 21);
        pair.listener.resume(request, 5).unwrap();
        let answer = written(&mut *pair.listener, 5);
        reads(&mut *pair.dialer, &answer, 5).unwrap();
        assert!(matches!(
            pair.dialer.poll_event(),
            Some(LinkEvent::Resumed { .. })
        ));
        pair.settle(7);
        let rtt = Duration::from_nanos(2);
        assert_eq!(pair.dialer.poll_event(), Some(LinkEvent::Pong { rtt }));
        assert_eq!(pair.dialer.poll_event(), None);
    }
}

#[test]
fn the_window_is_the_lower_of_both() {
    let mut dialer = {
        let mut config = config(Role::Dialer, true, 1);
        config.limits.resume_window = Duration::from_secs(5);
        Form::Stream.link(config)
    };
    let mut listener = Form::Stream.link(config(Role::Listener, true, 2));
    support::pass(&mut *dialer, &mut *listener, 0);
    support::pass(&mut *listener, &mut *dialer, 0);
    listener.detach(0).unwrap();
    assert_eq!(listener.poll_timeout(), Some(5_000_000_000));
}

#[test]
fn a_narrower_carrier_gets_smaller_fragments() {
    let mut pair = Pair::new(true, &Limits::default());
    pair.dialer.detach(0).unwrap();
    let mut narrow = AttachConfig::new([11; 16]);
    narrow.fragment = Some(240);
    pair.dialer.attach(narrow, 0).unwrap();
    let (_, request) = request(&written(&mut *pair.dialer, 0), None, 21);
    pair.listener.resume(request, 0).unwrap();
    submit(&mut *pair.listener, &pattern(0, 1000), b"");
    let answer = written(&mut *pair.listener, 0);
    reads(&mut *pair.dialer, &answer, 0).unwrap();
    let told = written(&mut *pair.listener, 0);
    reads(&mut *pair.dialer, &told, 0).unwrap();
    for (kind, _, payload) in frames(&told) {
        assert!(kind != 1 || payload.len() <= 240);
    }
    let mut heard = Heard::default();
    heard.take(&mut *pair.dialer);
    assert_eq!(heard.whole().unwrap(), [pattern(0, 1000)]);
}
