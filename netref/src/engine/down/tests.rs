//! Losing one carrier and going on over another, by the steps of an engine that nobody drives.

use bytes::BytesMut;
use farref_framing::{
    AttachConfig, Batch, Body, CloseReason, Link, LinkConfig, LinkEvent, PeerEvidence, Role, StreamKey,
    StreamLink,
};
use farref_transport::{CarrierStats, Gauge, memory};

use super::*;
use crate::call::BoxFuture;
use crate::config::Config;
use crate::engine::core::Proxies;
use crate::message::{Descriptor, Hello, Message, PeerLimits};
use crate::native::Native;
use crate::peer::Peer;
use crate::protocol::Outgoing;

type Subject = Arc<Core<Native<EngineHandles>>>;

fn link(role: Role, salt: u8) -> StreamLink {
    let mut config = LinkConfig::new(role, [salt; 16], [salt; 32]);
    config.session = true;
    StreamLink::new(config, clock::now())
}

/// What is waited for comes soon, or the test fails.
async fn within<F: Future>(future: F) -> F::Output {
    let within = tokio::time::timeout(Duration::from_secs(30), future);
    within.await.expect("it comes within 30 s")
}

/// Waits until `met` holds.
async fn when(core: &Subject, mut met: impl FnMut(&mut State<Native<EngineHandles>>) -> bool) {
    within(async {
        while !met(&mut lock(&core.state)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Other tasks do what they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// The halves of a carrier that leads nowhere.
async fn halves(role: Role) -> Parts {
    let (near, _) = memory::pair(64);
    let (inlet, outlet, _, guard) = farref_framing::open(near.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.guard = guard;
    parts
}

/// A connection that nobody drives, and the link of its peer: they have a session.
async fn subject(role: Role) -> (Subject, StreamLink) {
    subject_with(role, None).await
}

async fn subject_with(role: Role, redial: Option<Arc<dyn Redial>>) -> (Subject, StreamLink) {
    let other = match role {
        Role::Dialer => Role::Listener,
        Role::Listener => Role::Dialer,
    };
    let config = Config::default();
    let native = Native::new(Box::new(link(role, 1)), &config, Outgoing::Null, clock::now());
    let mut parts = halves(role).await;
    parts.redial = redial;
    let core = Core::new(native, parts, false, config);
    let mut peer = link(other, 2);
    pass(&core, &mut peer);
    assert!(peer.session().is_some());
    (core, peer)
}

/// Hands on what either has to say.
fn pass(core: &Subject, peer: &mut StreamLink) {
    for _ in 0..3 {
        let mut batch = Batch::new();
        peer.poll_transmit(&mut batch, clock::now());
        hear(core, &batch);
        batch.clear();
        lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
        let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
        peer.handle_bytes(StreamKey::MAIN, &mut input, false, clock::now())
            .unwrap();
    }
}

fn hear(core: &Subject, batch: &Batch) {
    let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
    lock(&core.state)
        .protocol
        .handle_bytes(StreamKey::MAIN, &mut input, false, &Proxies(core), clock::now())
        .unwrap();
}

/// What the peer asks for that has lost its carrier.
fn request(peer: &mut StreamLink, salt: u8) -> ResumeRequest {
    peer.detach(clock::now()).unwrap();
    peer.attach(AttachConfig::new([salt; 16]), clock::now()).unwrap();
    let mut batch = Batch::new();
    peer.poll_transmit(&mut batch, clock::now());
    heard(&batch, salt + 1).1
}

fn heard(batch: &Batch, salt: u8) -> (StreamLink, ResumeRequest) {
    let mut fresh = link(Role::Listener, salt);
    let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
    fresh
        .handle_bytes(StreamKey::MAIN, &mut input, false, clock::now())
        .unwrap();
    match fresh.poll_event() {
        Some(LinkEvent::ResumeRequested(request)) => (fresh, *request),
        other => panic!("{other:?}"),
    }
}

fn cut() -> Error {
    Error::new(ErrorKind::Carrier, "cut")
}

/// The task that dials counted by itself, and went on counting where it had not seen that the session was up
/// between two losses: the pauses grew although every attempt had succeeded.
#[test]
fn attempts_are_counted_from_the_last_carrier_that_both_agreed_on() {
    let next = |down: Down, agreed| Down::after(Some(down).filter(|down| !down.is_mended(agreed)), 0, cut());
    let mut down = Down::after(None, 0, cut());
    assert_eq!((down.count_attempt(), down.count_attempt()), (0, 1));
    down.attached = Some(1);
    down = next(down, 1);
    assert!(down.attached.is_none() && down.failed.is_some());
    assert_eq!(down.count_attempt(), 2, "it was lost before both had agreed");
    down.attached = Some(1);
    down = next(down, 2);
    assert_eq!(
        down.count_attempt(),
        0,
        "both had agreed, and nobody had looked yet"
    );
}

/// The driver had found the old carrier broken, and gave up the new one for it.
#[tokio::test]
async fn the_loss_of_a_carrier_is_no_loss_of_the_next() {
    let (core, mut peer) = subject(Role::Listener).await;
    let old = lock(&core.state).carrier;
    let next = halves(Role::Listener).await;
    core.resume(request(&mut peer, 10), next, false).unwrap();
    core.lose(old, cut());
    assert_eq!(core.status().0, Status::Up);
    pass(&core, &mut peer);
    let new = lock(&core.state).carrier;
    core.lose(new, cut());
    assert_eq!(core.status().0, Status::Down(cut()));
}

/// The dialer was taken up, and never heard a word: nobody wrote any more.
#[tokio::test]
async fn a_connection_that_is_over_is_not_gone_on_with() {
    let (core, mut peer) = subject(Role::Listener).await;
    core.sever(cut());
    let next = halves(Role::Listener).await;
    let refused = core.resume(request(&mut peer, 10), next, false).unwrap_err();
    assert_eq!(refused.0.code(), RejectCode::Expired, "with what was received");
    assert!(lock(&core.inlet).is_some(), "the carrier is the one that it was");
}

/// The dialer called itself up on the carrier after the one that this was about.
#[tokio::test]
async fn the_word_that_a_carrier_is_up_holds_for_that_one_alone() {
    let (core, mut peer) = subject(Role::Dialer).await;
    let attach = async |salt| {
        let number = lock(&core.state).carrier;
        core.lose(number, cut());
        let next = halves(Role::Dialer).await;
        core.attach(NextCarrier::new(next, AttachConfig::new([salt; 16]), false))
            .unwrap();
        assert!(matches!(core.status().0, Status::Down(_)));
        let mut batch = Batch::new();
        lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
        heard(&batch, salt + 1).1
    };
    let request = attach(10).await;
    peer.resume(request, clock::now()).unwrap();
    pass(&core, &mut peer);
    let request = attach(20).await; // before anybody has looked at the events
    core.is_up_again();
    assert!(matches!(core.status().0, Status::Down(_)));
    peer.resume(request, clock::now()).unwrap();
    pass(&core, &mut peer);
    core.is_up_again();
    assert_eq!(core.status().0, Status::Up);
}

/// Gives a carrier at once, and tells which attempt it was.
struct AtOnce(tokio::sync::mpsc::UnboundedSender<u32>);

impl Redial for AtOnce {
    fn redial(&self, attempt: u32) -> BoxFuture<'static, Result<NextCarrier, Error>> {
        let _ = self.0.send(attempt);
        Box::pin(async {
            let next = halves(Role::Dialer).await;
            Ok(NextCarrier::new(next, AttachConfig::new([10; 16]), false))
        })
    }
}

fn hello() -> Message<'static> {
    Message::Hello(Hello {
        version: 1,
        limits: PeerLimits {
            calls: 16,
            call_bytes: 1 << 16,
            objects: 16,
            depth: 16,
            references: 16,
            streams: 0,
        },
        features: 0,
        root: Descriptor::Null,
        name: "peer".into(),
    })
}

/// A carrier that was cut off for what went over it was dialled again and again without a pause.
#[tokio::test]
async fn carriers_that_bring_nothing_are_dialled_with_pauses() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (core, mut peer) = subject_with(Role::Dialer, Some(Arc::new(AtOnce(tell)))).await;
    let mut attempts = Vec::new();
    for round in 0..9 {
        let number = lock(&core.state).carrier;
        core.lose(number, cut());
        attempts.push(within(told.recv()).await);
        when(&core, |state| !state.wants_carrier()).await;
        let mut batch = Batch::new();
        lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
        let (_, request) = heard(&batch, 20 + round);
        peer.resume(request, clock::now()).unwrap();
        pass(&core, &mut peer);
        core.is_up_again();
        core.changed.notify_waiters();
        when(&core, |state| !state.redialling).await;
        if round == 6 {
            let mut head = Vec::new();
            hello().encode(&mut head);
            peer.submit(&head, Body::EMPTY).unwrap();
            pass(&core, &mut peer);
        }
    }
    // The first one had brought nothing either; the eighth is lost after a message.
    assert_eq!(attempts, [0, 0, 0, 1, 2, 3, 4, 0, 0].map(Some));
}

/// The number of the present carrier.
fn number(core: &Subject) -> u64 {
    lock(&core.state).carrier
}

/// The next carrier was given up for what had become of the one before.
#[tokio::test]
async fn what_was_wrong_with_a_carrier_is_forgotten_with_it() {
    let (core, mut peer) = subject(Role::Listener).await;
    {
        let mut state = lock(&core.state);
        state.lost = Some(cut());
        state.write_error = Some(std::io::ErrorKind::BrokenPipe.into());
    }
    let next = halves(Role::Listener).await;
    core.resume(request(&mut peer, 10), next, false).unwrap();
    let state = lock(&core.state);
    assert!(state.lost.is_none() && state.write_error.is_none());
}

/// Whoever was writing gave it back, and what was said from then on went to a carrier that nobody read.
#[tokio::test]
async fn the_writer_of_an_old_carrier_is_not_given_back() {
    let (core, mut peer) = subject(Role::Listener).await;
    let old = lock(&core.state).baton.flush().unwrap();
    let next = halves(Role::Listener).await;
    core.resume(request(&mut peer, 10), next, false).unwrap();
    core.write(old);
    let state = &mut *lock(&core.state);
    let writer = state.baton.flush().unwrap();
    assert!(writer.is_of(state));
}

/// Everything that a carrier came with goes with it.
#[tokio::test]
async fn a_connection_is_what_its_present_carrier_says() {
    struct Told(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (core, mut peer) = subject(Role::Listener).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for (salt, from) in [(10, "first"), (20, "second")] {
        let mut next = halves(Role::Listener).await;
        next.peer = Peer::new("mem", Some(from.to_owned()), PeerEvidence::None);
        let guarded = (next.guard, Told(tell.clone()));
        next.guard = Guard::new(guarded);
        next.gauge = Some(Gauge::new(move || {
            let mut stats = CarrierStats::default();
            stats.repeated = salt.into();
            stats
        }));
        core.resume(request(&mut peer, salt), next, false).unwrap();
        pass(&core, &mut peer);
        let state = lock(&core.state);
        assert_eq!(state.peer.address.as_deref(), Some(from));
        let repeated = state.gauge.as_ref().map(|gauge| gauge.read().repeated);
        assert_eq!(repeated, Some(salt.into()));
        drop(state);
        assert_eq!(
            told.try_recv().is_ok(),
            salt == 20,
            "the first is let go of when the second is there"
        );
    }
    core.lose(number(&core), cut());
    assert!(told.try_recv().is_ok() && lock(&core.inlet).is_none());
    assert!(lock(&core.state).gauge.is_none());
}

#[tokio::test]
async fn a_connection_that_is_over_loses_no_carrier() {
    let (core, _peer) = subject(Role::Listener).await;
    core.sever(cut());
    core.lose(number(&core), cut());
    assert!(
        lock(&core.inlet).is_some(),
        "what was said last may still be written"
    );
    assert_eq!(core.status().0, Status::Over(cut()));
}

/// Whichever side has closed: nobody comes back to it.
#[tokio::test]
async fn after_a_goodbye_the_loss_of_the_carrier_is_the_end() {
    for closed_here in [true, false] {
        let (core, mut peer) = subject(Role::Listener).await;
        if closed_here {
            core.close();
        } else {
            peer.close(CloseReason::new(CloseReason::DONE, ""));
            pass(&core, &mut peer); // and before anybody has looked at the events
        }
        core.lose(number(&core), cut());
        assert_eq!(core.status().0, Status::Over(cut()), "closed here: {closed_here}");
    }
}

#[tokio::test]
async fn a_carrier_is_taken_only_where_one_is_missing() {
    let (core, _peer) = subject(Role::Dialer).await;
    let next =
        async |salt| NextCarrier::new(halves(Role::Dialer).await, AttachConfig::new([salt; 16]), false);
    let before = number(&core);
    let error = core.attach(next(10).await).unwrap_err();
    assert_eq!(
        (error.kind(), number(&core)),
        (ErrorKind::Misuse, before),
        "{error}"
    );
    core.lose(before, cut());
    core.attach(next(20).await).unwrap();
    let before = number(&core);
    let error = core.attach(next(30).await).unwrap_err();
    assert_eq!(
        (error.kind(), number(&core)),
        (ErrorKind::Misuse, before),
        "{error}"
    );
    core.lose(before, cut());
    core.sever(cut());
    let error = core.attach(next(40).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
}

#[tokio::test]
async fn whoever_watches_is_told_of_each_change() {
    let (core, mut peer) = subject(Role::Dialer).await;
    let tells = |what, step: &mut dyn FnMut()| {
        let mut changed = std::pin::pin!(core.changed.notified());
        changed.as_mut().enable();
        let (_, before) = core.status();
        step();
        assert!(changed.as_mut().enable(), "{what}: nobody is woken");
        assert_ne!(core.status().1, before, "{what}: it looks like no change");
    };
    tells("lost", &mut || core.lose(number(&core), cut()));
    let mut next = Some(NextCarrier::new(
        halves(Role::Dialer).await,
        AttachConfig::new([10; 16]),
        false,
    ));
    tells("another", &mut || core.attach(next.take().unwrap()).unwrap());
    let mut batch = Batch::new();
    lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
    peer.resume(heard(&batch, 20).1, clock::now()).unwrap();
    pass(&core, &mut peer);
    tells("agreed on", &mut || core.is_up_again());
    assert_eq!(core.status().0, Status::Up);
}

/// The calls that had waited were not written before somebody made another.
#[tokio::test]
async fn the_driver_is_woken_by_a_carrier_and_when_both_have_agreed() {
    let (core, mut peer) = subject(Role::Dialer).await;
    let wishes = || std::iter::from_fn(|| core.signal.poll(std::task::Waker::noop())).collect::<Vec<_>>();
    core.lose(number(&core), cut());
    wishes();
    let next = halves(Role::Dialer).await;
    core.attach(NextCarrier::new(next, AttachConfig::new([10; 16]), false))
        .unwrap();
    let woken = wishes();
    assert!(
        woken
            .iter()
            .any(|wishes| wishes.flush && wishes.events && wishes.times)
    );
    let mut batch = Batch::new();
    lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
    peer.resume(heard(&batch, 20).1, clock::now()).unwrap();
    pass(&core, &mut peer);
    wishes();
    core.is_up_again();
    assert!(wishes().iter().any(|wishes| wishes.flush));
}

#[test]
fn a_carrier_is_in_vain_that_is_lost_at_once_and_brings_nothing() {
    let lasting = clock::nanos(LASTING);
    let mut gain = Gain::new(0);
    let mut vain = |begin, end, received| {
        gain.begin(begin, 5);
        gain.end(end, received);
        gain.vain
    };
    assert_eq!(vain(0, lasting - 1, 5), 1);
    assert_eq!(vain(7, 7, 5), 2);
    assert_eq!(vain(7, 7 + lasting, 5), 0, "it lasted");
    assert_eq!(vain(7, 8, 5), 1);
    assert_eq!(vain(7, 8, 6), 0, "it brought something");
}

/// Each carrier that was lost before both had agreed on it counted as one in vain, whose number grew twice as fast.
#[tokio::test]
async fn only_carriers_that_both_agreed_on_are_in_vain() {
    let (core, _peer) = subject(Role::Dialer).await;
    for salt in [10, 20, 30] {
        core.lose(number(&core), cut());
        let next = halves(Role::Dialer).await;
        core.attach(NextCarrier::new(next, AttachConfig::new([salt; 16]), false))
            .unwrap();
    }
    assert_eq!(lock(&core.state).gain.vain, 1);
}

/// Tells of each attempt, and when it is given up; none comes to an end.
struct Never(tokio::sync::mpsc::UnboundedSender<Option<u32>>);

impl Redial for Never {
    fn redial(&self, attempt: u32) -> BoxFuture<'static, Result<NextCarrier, Error>> {
        struct GivenUp(tokio::sync::mpsc::UnboundedSender<Option<u32>>);
        impl Drop for GivenUp {
            fn drop(&mut self) {
                let _ = self.0.send(None);
            }
        }
        let _ = self.0.send(Some(attempt));
        let given_up = GivenUp(self.0.clone());
        Box::pin(async move {
            let _given_up = given_up;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn nobody_dials_for_a_session_that_is_over() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (core, _peer) = subject_with(Role::Dialer, Some(Arc::new(Never(tell)))).await;
    core.lose(number(&core), cut());
    assert_eq!(within(told.recv()).await, Some(Some(0)));
    core.sever(cut());
    core.changed.notify_waiters();
    assert_eq!(within(told.recv()).await, Some(None), "the attempt is given up");
    when(&core, |state| !state.redialling).await;
    settle().await;
    assert!(told.try_recv().is_err(), "and none is made after it");
}

/// Two that dialled took each other's carriers away.
#[tokio::test]
async fn one_task_dials_and_not_while_a_carrier_is_there() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (core, _peer) = subject_with(Role::Dialer, Some(Arc::new(AtOnce(tell)))).await;
    core.lose(number(&core), cut());
    for attempt in 0..3 {
        assert_eq!(within(told.recv()).await, Some(attempt));
        when(&core, |state| !state.wants_carrier()).await;
        settle().await;
        assert!(told.try_recv().is_err(), "there is a carrier");
        core.lose(number(&core), cut());
    }
}
