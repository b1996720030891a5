//! Losing one carrier and going on over another, by the steps of an engine that nobody drives.

use std::task::{Context, Poll};

use bytes::BytesMut;
use farref_framing::{
    AttachConfig, Batch, Body, CloseReason, Link, LinkConfig, LinkError, LinkEvent, PeerEvidence, Role,
    SessionEnd, StreamKey, StreamLink,
};
use farref_transport::{ByteTx, CarrierStats, Gauge, StreamCarrier, memory};
use tokio::sync::mpsc;

use super::*;
use crate::call::BoxFuture;
use crate::config::Config;
use crate::engine::anchor::Proxies;
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
    parts_of(near, role).await
}

async fn parts_of(carrier: StreamCarrier, role: Role) -> Parts {
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.guard = guard;
    parts
}

/// A connection that nobody drives, and the link of its peer: they have a session.
async fn subject(role: Role) -> (Subject, StreamLink) {
    subject_with(role, None).await
}

async fn subject_with(role: Role, redial: Option<Arc<dyn Redial>>) -> (Subject, StreamLink) {
    subject_of(role, redial, Config::default()).await
}

async fn subject_of(role: Role, redial: Option<Arc<dyn Redial>>, config: Config) -> (Subject, StreamLink) {
    let other = match role {
        Role::Dialer => Role::Listener,
        Role::Listener => Role::Dialer,
    };
    let native = Native::new(Box::new(link(role, 1)), &config, Outgoing::Null, clock::now());
    let mut parts = halves(role).await;
    parts.redial = redial;
    let core = Core::new(native, parts, false, config.into());
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
    let next = halves(Role::Listener).await;
    core.resume(request(&mut peer, 20), next, false).unwrap();
    assert_eq!(core.status().0, Status::Up);
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

/// A request that came late, over a carrier of before, took the present one away.
#[tokio::test]
async fn a_request_that_is_refused_changes_nothing_and_gives_its_carrier_back() {
    let (core, mut peer) = subject(Role::Listener).await;
    let late = request(&mut peer, 10);
    let next = halves(Role::Listener).await;
    core.resume(request(&mut peer, 20), next, false).unwrap();
    let before = number(&core);
    let mut next = halves(Role::Listener).await;
    next.peer = Peer::new("mem", Some("late".to_owned()), PeerEvidence::None);
    let refused = core.resume(late, next, false).unwrap_err();
    assert_eq!(refused.0.code(), RejectCode::Stale);
    assert_eq!(refused.1.peer.address.as_deref(), Some("late"));
    assert_eq!(number(&core), before);
}

/// It got no answer.
#[tokio::test]
async fn a_session_is_not_gone_on_with_on_a_connection_of_its_own() {
    let (_, mut peer) = subject(Role::Listener).await;
    peer.detach(clock::now()).unwrap();
    peer.attach(AttachConfig::new([10; 16]), clock::now()).unwrap();
    let mut batch = Batch::new();
    peer.poll_transmit(&mut batch, clock::now());
    let config = Config::default();
    let native = Native::new(
        Box::new(link(Role::Listener, 20)),
        &config,
        Outgoing::Null,
        clock::now(),
    );
    let other = Core::new(native, halves(Role::Listener).await, false, config.into());
    hear(&other, &batch);
    batch.clear();
    lock(&other.state)
        .protocol
        .poll_transmit(&mut batch, clock::now());
    let mut input = BytesMut::from(&batch.to_vec(StreamKey::MAIN)[..]);
    let error = peer.handle_bytes(StreamKey::MAIN, &mut input, false, clock::now());
    assert!(
        matches!(
            &error,
            Err(LinkError::Session(SessionEnd::Rejected {
                code: RejectCode::Unknown,
                ..
            }))
        ),
        "{error:?}"
    );
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

/// Tells of each attempt. The first ones give a carrier at once; of the others none comes to an end, and it is told when
/// it is given up.
struct Dials {
    tell: mpsc::UnboundedSender<Option<u32>>,
    at_once: u32,
}

impl Dials {
    fn new(at_once: u32) -> (Arc<Self>, mpsc::UnboundedReceiver<Option<u32>>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Arc::new(Self { tell, at_once }), told)
    }
}

impl Redial for Dials {
    fn redial(&self, attempt: u32) -> BoxFuture<'static, Result<NextCarrier, Error>> {
        struct GivenUp(mpsc::UnboundedSender<Option<u32>>);
        impl Drop for GivenUp {
            fn drop(&mut self) {
                let _ = self.0.send(None);
            }
        }
        let _ = self.tell.send(Some(attempt));
        if attempt < self.at_once {
            return Box::pin(async {
                tokio::task::yield_now().await; // one that is asked again and again holds up no test
                let next = halves(Role::Dialer).await;
                Ok(NextCarrier::new(next, AttachConfig::new([10; 16]), false))
            });
        }
        let given_up = GivenUp(self.tell.clone());
        Box::pin(async move {
            let _given_up = given_up;
            std::future::pending().await
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
    let (dials, mut told) = Dials::new(u32::MAX);
    let (core, mut peer) = subject_with(Role::Dialer, Some(dials)).await;
    let mut attempts = Vec::new();
    for round in 0..12 {
        let number = lock(&core.state).carrier;
        core.lose(number, cut());
        attempts.push(within(told.recv()).await.unwrap());
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
    // The first one had brought nothing either; the eighth is lost after a message, those after it bring nothing again.
    assert_eq!(attempts, [0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 1].map(Some));
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
    core.write_here(old);
    let state = &mut *lock(&core.state);
    let writer = state.baton.flush().unwrap();
    assert!(writer.is_of(state));
    assert!(
        state.write_error.is_none(),
        "that it failed is not the next one's fault"
    );
}

/// A writer that takes nothing, and does something when it is asked whether it would.
struct Full(Option<Box<dyn FnOnce() + Send>>);

impl ByteTx for Full {
    fn try_write(&mut self, _: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }

    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if let Some(then) = self.0.take() {
            then();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// It took the place of the next one's, which was then asked for nothing: the dialer waited for an answer.
#[tokio::test]
async fn a_full_writer_whose_carrier_is_changed_meanwhile_is_not_given_back() {
    let (core, mut peer) = subject(Role::Listener).await;
    let (near, mut far) = memory::pair(1 << 12);
    let next = parts_of(near, Role::Listener).await;
    let request = request(&mut peer, 20);
    let then = {
        let core = Arc::clone(&core);
        move || core.resume(request, next, false).unwrap()
    };
    let (mut full, _far) = memory::pair(64);
    full.tx = Box::new(Full(Some(Box::new(then))));
    {
        // As if it had come with this carrier.
        let parts = parts_of(full, Role::Listener).await;
        let mut slot = lock(&core.inlet);
        let mut state = lock(&core.state);
        let _old = state.change_carrier(&mut slot, Some(parts));
        state.protocol.ping(clock::now());
    }
    let _held = core.anchor(); // one that nobody holds is closed
    crate::engine::driver::start(&core);
    within(async {
        let mut input = BytesMut::with_capacity(1 << 10);
        loop {
            while let Some(event) = peer.poll_event() {
                if matches!(event, LinkEvent::Resumed { .. }) {
                    return;
                }
            }
            std::future::poll_fn(|context| far.rx.poll_readable(context))
                .await
                .unwrap();
            input.reserve(64);
            if let Ok(read) = far.rx.try_read(&mut input) {
                assert_ne!(read, 0, "it is there to the end");
                peer.handle_bytes(StreamKey::MAIN, &mut input, false, clock::now())
                    .unwrap();
            }
        }
    })
    .await;
}

/// Everything that a carrier came with goes with it.
#[tokio::test]
async fn a_connection_is_what_its_present_carrier_says() {
    struct Told(mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (core, mut peer) = subject(Role::Listener).await;
    let (tell, mut told) = mpsc::unbounded_channel();
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

/// It waited for a writer that was gone, and for an answer that could not come, as long as an orderly close may take.
#[tokio::test]
async fn a_close_while_there_is_no_carrier_is_done_at_once() {
    let config = Config {
        close_timeout: Duration::from_secs(3600),
        setup_timeout: Duration::from_secs(3600),
        ..Config::default()
    };
    let (core, _peer) = subject_of(Role::Dialer, None, config).await;
    crate::engine::driver::start(&core);
    core.lose(number(&core), cut());
    core.close();
    when(&core, |state| state.ended).await;
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

#[tokio::test]
async fn nobody_dials_for_a_session_that_is_over() {
    let (dials, mut told) = Dials::new(0);
    let (core, _peer) = subject_with(Role::Dialer, Some(dials)).await;
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
    let (dials, mut told) = Dials::new(2);
    let (core, _peer) = subject_with(Role::Dialer, Some(dials)).await;
    for attempt in 0..3 {
        core.lose(number(&core), cut());
        assert_eq!(within(told.recv()).await, Some(Some(attempt)));
        settle().await;
        assert_eq!(lock(&core.state).wants_carrier(), attempt == 2);
        assert!(told.try_recv().is_err(), "nobody else dials");
    }
}
