//! Losing one carrier and going on over another, by the steps of an engine that nobody drives.

use bytes::BytesMut;
use farref_framing::{
    AttachConfig, Batch, Body, Link, LinkConfig, LinkEvent, PeerEvidence, Role, StreamKey, StreamLink,
};
use farref_transport::memory;

use super::*;
use crate::call::BoxFuture;
use crate::config::Config;
use crate::connection::Redial;
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
        attempts.push(told.recv().await);
        while lock(&core.state).wants_carrier() {
            tokio::task::yield_now().await;
        }
        let mut batch = Batch::new();
        lock(&core.state).protocol.poll_transmit(&mut batch, clock::now());
        let (_, request) = heard(&batch, 20 + round);
        peer.resume(request, clock::now()).unwrap();
        pass(&core, &mut peer);
        core.is_up_again();
        core.changed.notify_waiters();
        while lock(&core.state).redialling {
            tokio::task::yield_now().await;
        }
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
