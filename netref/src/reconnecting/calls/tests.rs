//! What becomes of each call, by hand-made conduits: they note what is made over them, and let the test step in while a
//! call is made or looked at.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink};
use farref_transport::{StreamCarrier, memory};

use super::*;
use crate::call::BoxFuture;
use crate::connection::{Parts, Root};
use crate::context::Serving;
use crate::invocation::Invocation;
use crate::origin::Origin;
use crate::protocol::Imported;
use crate::remote::Blocked;
use crate::runtime;

/// The conduit of a connection of the test's.
struct Wire {
    noted: Mutex<Noted>,
    peer: Arc<Peer>,
}

#[derive(Default)]
struct Noted {
    /// The calls that were made, by name, and on what.
    made: Vec<(String, Target)>,
    options: Vec<CallOptions>,
    /// Why calls cannot be made any more.
    refuses: Option<ErrorKind>,
    /// How calls have ended that have.
    ended: BTreeMap<u64, ErrorKind>,
    given_up: Vec<u64>,
    /// What is done once in the midst of making a call, or of looking at it.
    midst: Option<Box<dyn FnOnce() + Send>>,
    /// Whether the call of the peer's that is served was given up already.
    is_cancelled: bool,
    /// What it was passed on as.
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
}

impl Wire {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            noted: Mutex::default(),
            peer: Arc::new(Peer::new("mem", None, PeerEvidence::None)),
        })
    }

    fn made(&self) -> Vec<String> {
        let noted = lock(&self.noted);
        noted.made.iter().map(|(name, _)| name.clone()).collect()
    }

    fn end(&self, call: u64, how: ErrorKind) {
        lock(&self.noted).ended.insert(call, how);
    }

    fn in_the_midst(&self, act: impl FnOnce() + Send + 'static) {
        lock(&self.noted).midst = Some(Box::new(act));
    }

    fn step_in(&self) {
        let midst = lock(&self.noted).midst.take();
        midst.into_iter().for_each(|act| act());
    }
}

impl Conduit for Wire {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        _encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        let number = {
            let mut noted = lock(&self.noted);
            if let Some(why) = noted.refuses {
                return Err(why.into());
            }
            let Op::Named(name) = op else { panic!("{op:?}") };
            noted.made.push((name.clone(), target));
            noted.options.push(options);
            noted.made.len() as u64 - 1
        };
        self.step_in();
        Ok(number)
    }

    fn poll_outcome(&self, call: u64, _: &mut Context<'_>) -> Poll<Outcome> {
        self.step_in();
        match lock(&self.noted).ended.remove(&call) {
            Some(how) => Poll::Ready(Outcome::Error(how.into())),
            None => Poll::Pending,
        }
    }

    fn drop_call(&self, call: u64, _reason: CancelReason) {
        lock(&self.noted).given_up.push(call);
    }

    /// The call that is served is given up at once, if it was not before.
    fn wake_on_cancel(&self, _answer: u64, blocked: Option<Blocked>) {
        let was_before = lock(&self.noted).is_cancelled;
        if let Some((thread, conduit, call)) = blocked.filter(|_| !was_before) {
            thread.notify();
            conduit.drop_call(call, CancelReason::Upstream);
        }
    }

    fn drop_on_cancel(&self, _answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        if passed_on.is_some() {
            lock(&self.noted).passed_on = passed_on;
        }
    }

    fn block(&self, _: Target, _: &Op, _: CallOptions, _: &mut Encoder) -> Result<Outcome, Error> {
        unreachable!("threads wait above this")
    }

    fn wait(&self, _: u64, _: Option<Duration>) -> Result<Option<Outcome>, Error> {
        unreachable!("threads wait above this")
    }

    fn is_ready(&self, call: u64) -> bool {
        lock(&self.noted).ended.contains_key(&call)
    }

    fn release(&self, _import: u64, _generation: u32) {}

    fn answer_value(&self, _: u64, _: Option<Error>, _: u32, _: &mut Encoder) {}

    fn answer_error(&self, _answer: u64, _error: Error, _started: bool) {}

    fn answer_outcome(&self, _answer: u64, _outcome: Outcome) {}

    fn forward(self: Arc<Self>, _: Target, _: CallOptions, _: Invocation) {}

    fn is_cancelled(&self, _answer: u64) -> bool {
        lock(&self.noted).is_cancelled
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    fn lost(&self) -> BoxFuture<'static, Error> {
        Box::pin(std::future::pending())
    }
}

const ROOT: Target = Target::Import(0);
const NOT_SENT: ErrorKind = ErrorKind::Disconnected(Certainty::NotSent);
const NOT_EXECUTED: ErrorKind = ErrorKind::Disconnected(Certainty::NotExecuted);
const UNKNOWN: ErrorKind = ErrorKind::Disconnected(Certainty::Unknown);

/// The calls of a root, the wire that they are made over now, and the other end of its carrier.
struct Subject {
    calls: Arc<Calls>,
    wire: Arc<Wire>,
    far: Option<StreamCarrier>,
    no_longer: oneshot::Receiver<()>,
}

impl Subject {
    fn new(config: Config) -> Self {
        let (wire, root, connection, far) = line();
        let (in_use, no_longer) = oneshot::channel();
        Self {
            calls: Calls::new(root, connection, config, in_use),
            wire,
            far: Some(far),
            no_longer,
        }
    }

    fn begin(&self, name: &str, target: Target, options: CallOptions) -> Result<u64, Error> {
        let op = Op::Named(name.to_owned());
        self.calls.begin(target, &op, options, &mut Encoder::new())
    }

    fn call(&self, name: &str) -> u64 {
        self.begin(name, ROOT, CallOptions::default()).unwrap()
    }

    /// How a call has ended, if it has.
    fn look(&self, call: u64) -> Option<ErrorKind> {
        match self
            .calls
            .poll_outcome(call, &mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Outcome::Error(error)) => Some(error.kind()),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => None,
        }
    }

    /// The connection ends.
    fn cut(&mut self) {
        drop(self.far.take());
        let connection = self.calls.connection().0;
        runtime::background().block_on(connection.closed());
    }

    /// The connection ends, and whoever looks after it has seen that.
    fn lose(&mut self) {
        self.cut();
        self.calls.set_status(Status::Down(ErrorKind::Carrier.into()));
        assert!(is_ready(&mut pin!(self.calls.lost()), Waker::noop()));
    }

    /// There is another connection, whose wire does first what `prepare` says.
    fn restore(&mut self, prepare: impl FnOnce(&Arc<Wire>)) {
        let (wire, root, connection, far) = line();
        prepare(&wire);
        (self.wire, self.far) = (wire, Some(far));
        self.calls.restored(root, connection);
    }
}

/// A connection with its root, and the other end of its carrier.
fn line() -> (Arc<Wire>, Arc<Import>, Connection, StreamCarrier) {
    let wire = Wire::new();
    let imported = Imported {
        id: 0,
        generation: 0,
        object: 0,
        interface: 0,
    };
    let origin = Origin::new(Arc::clone(&wire) as Arc<dyn Conduit>, imported);
    let root = Arc::new(Import::new(origin, imported));
    let (near, far) = memory::pair(1 << 10);
    let connection = runtime::background().block_on(side(near, Role::Dialer, Root::NONE));
    (wire, root, connection, far)
}

/// One side of a connection.
async fn side(carrier: StreamCarrier, role: Role, root: Root) -> Connection {
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.keep_open = role == Role::Listener;
    parts.guard = guard;
    let config = Config {
        setup_timeout: Duration::from_secs(3600),
        ..Config::default()
    };
    let link = LinkConfig::new(role, [role as u8; 16], [role as u8; 32]);
    Connection::native(|now| Box::new(StreamLink::new(link, now)), parts, root, config)
}

/// A connection that has told its root, and is over.
pub(in crate::reconnecting) async fn shows_a_root() -> Connection {
    let (near, far) = memory::pair(1 << 14);
    let root = Root::of::<dyn Nothing>(&crate::Netref::of(Shown));
    let (shows, sees) = tokio::join!(
        side(far, Role::Listener, root),
        side(near, Role::Dialer, Root::NONE)
    );
    let _root = sees.import().await.unwrap();
    shows.close().await;
    sees.closed().await;
    sees
}

struct Shown;

#[crate::remote]
trait Nothing {}

#[crate::remote]
impl Nothing for Shown {}

fn is_ready<F: Future + Unpin>(future: &mut F, waker: &Waker) -> bool {
    let future = std::pin::Pin::new(future);
    future.poll(&mut Context::from_waker(waker)).is_ready()
}

fn idempotent() -> CallOptions {
    CallOptions {
        idempotent: true,
        ..CallOptions::default()
    }
}

fn end() -> Error {
    Error::new(ErrorKind::Carrier, "given up")
}

#[test]
fn a_call_that_is_cut_off_again_and_again_is_as_uncertain_as_it_was_at_worst() {
    let mut subject = Subject::new(Config::default());
    let begin = |name, options| subject.begin(name, ROOT, options).unwrap();
    let unsent = begin("unsent", CallOptions::default());
    let unread = begin("unread", CallOptions::default());
    let looked = begin("looked", idempotent());
    let failed = begin("failed", idempotent());
    let took = begin("took", CallOptions::default());
    for (call, how) in [NOT_SENT, NOT_EXECUTED, UNKNOWN, UNKNOWN, UNKNOWN]
        .iter()
        .enumerate()
    {
        subject.wire.end(call as u64, *how);
    }
    subject.lose();
    assert_eq!(subject.look(took), Some(UNKNOWN));
    subject.restore(|_| ());
    assert_eq!(subject.wire.made(), ["unsent", "unread", "looked", "failed"]);
    for (call, how) in [NOT_SENT, NOT_SENT, NOT_EXECUTED, ErrorKind::Failed]
        .iter()
        .enumerate()
    {
        subject.wire.end(call as u64, *how);
    }
    subject.lose();
    let ends = [unsent, unread, looked, failed].map(|call| subject.look(call));
    assert_eq!(ends, [None, None, None, Some(ErrorKind::Failed)]);
    subject.calls.end(&end());
    let ends = [unsent, unread, looked].map(|call| subject.look(call));
    assert_eq!(ends, [Some(NOT_SENT), Some(NOT_EXECUTED), Some(UNKNOWN)]);
}

#[test]
fn a_connection_is_up_when_all_that_has_waited_is_made_in_its_order() {
    let mut subject = Subject::new(Config::default());
    subject.lose();
    let on = subject.call("first");
    let piped = Target::Answer { call: on, slot: 3 };
    subject.begin("piped", piped, CallOptions::default()).unwrap();
    subject.call("last");
    subject.restore(|wire| lock(&wire.noted).refuses = Some(NOT_SENT)); // it is about to end
    subject.calls.set_status(Status::Up); // as it says itself
    assert!(matches!(subject.calls.status().0, Status::Down(_)), "calls wait");
    subject.lose();
    let calls = Arc::clone(&subject.calls);
    subject.restore(|wire| {
        wire.in_the_midst(move || {
            let late = Op::Named("late".to_owned());
            let options = CallOptions::default();
            calls.begin(ROOT, &late, options, &mut Encoder::new()).unwrap();
        });
    });
    assert_eq!(subject.calls.status().0, Status::Up);
    assert_eq!(subject.wire.made(), ["first", "piped", "last", "late"]);
    let piped = lock(&subject.wire.noted).made[1].1;
    assert_eq!(piped, Target::Answer { call: 0, slot: 3 });
}

/// Tells whether it was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_a_connection_waits_for_whoever_makes_a_call_or_looks_at_it() {
    for looks in [false, true] {
        let mut subject = Subject::new(Config::default());
        let before = looks.then(|| subject.call("look"));
        subject.cut();
        subject.wire.end(0, NOT_SENT);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let calls = Arc::clone(&subject.calls);
        let lost: BoxFuture<'static, ()> = Box::pin(async move { calls.lost().await });
        let lost = Arc::new(Mutex::new(lost));
        let (waits, waker) = (Arc::clone(&lost), Waker::from(Arc::clone(&woken)));
        subject.wire.in_the_midst(move || {
            assert!(!is_ready(&mut *lock(&waits), &waker), "somebody is at a call");
        });
        match before {
            Some(call) => assert_eq!(subject.look(call), None, "it is made again"),
            None => drop(subject.call("make")),
        }
        assert!(woken.0.load(Ordering::SeqCst), "nobody told that it is done");
        assert!(is_ready(&mut *lock(&lost), Waker::noop()));
        assert!(lock(&subject.calls.table).has_queued());
    }
}

#[test]
fn a_call_that_is_dropped_is_given_up_whoever_is_at_it() {
    let mut subject = Subject::new(Config::default());
    let drop_it = |subject: &Subject, call| {
        let calls = Arc::clone(&subject.calls);
        move || calls.drop_call(call, CancelReason::Dropped)
    };
    subject.wire.in_the_midst(drop_it(&subject, 0));
    let made = subject.call("dropped while it is made");
    let looked = subject.call("dropped while it is looked at");
    subject.wire.in_the_midst(drop_it(&subject, looked));
    assert_eq!(subject.look(looked), None);
    assert_eq!(subject.look(looked), Some(ErrorKind::Cancelled));
    let sent = subject.call("dropped after that");
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let looked = subject.calls.poll_outcome(sent, &mut Context::from_waker(&waker));
    assert!(looked.is_pending());
    drop_it(&subject, sent)();
    assert!(woken.0.load(Ordering::SeqCst), "somebody else may wait for it");
    assert_eq!(
        (made, lock(&subject.wire.noted).given_up.clone()),
        (0, vec![0, 1, 2])
    );
    subject.lose();
    // What was kept for a call that waited goes with that.
    let on = subject.call("called on");
    let piped = Target::Answer { call: on, slot: 0 };
    let piped = subject.begin("piped", piped, CallOptions::default()).unwrap();
    drop_it(&subject, on)();
    assert_eq!(subject.look(on), Some(ErrorKind::Cancelled));
    assert_eq!(lock(&subject.calls.table).calls.len(), 2);
    drop_it(&subject, piped)();
    assert!(lock(&subject.calls.table).calls.is_empty());
}

/// The far method called on, and that call was cut off: nothing is wrong with this connection.
#[test]
fn only_the_end_of_its_connection_is_a_reason_to_make_a_call_again() {
    let subject = Subject::new(Config::default());
    let call = subject.call("calls on");
    subject.wire.end(0, NOT_SENT);
    assert_eq!(subject.look(call), Some(NOT_SENT));
    lock(&subject.wire.noted).refuses = Some(ErrorKind::Overloaded);
    let call = subject.call("one too many");
    assert_eq!(subject.look(call), Some(ErrorKind::Overloaded));
}

#[test]
fn where_calls_must_not_wait_none_does() {
    let config = Config {
        wait_while_down: false,
        ..Config::default()
    };
    let mut subject = Subject::new(config);
    let sent = subject.call("sent");
    subject.wire.end(0, NOT_SENT);
    subject.cut();
    lock(&subject.wire.noted).refuses = Some(NOT_SENT);
    let not_sent = subject.call("not sent");
    subject.lose();
    let late = subject.begin("late", ROOT, CallOptions::default()).unwrap_err();
    assert_eq!(late.kind(), NOT_SENT);
    let ends = [sent, not_sent].map(|call| subject.look(call));
    assert_eq!(ends, [Some(NOT_SENT); 2]);
}

#[test]
fn nothing_waits_after_the_end_and_whoever_waits_for_that_is_told() {
    let mut subject = Subject::new(Config::default());
    let call = subject.call("under way");
    let mut lost = Conduit::lost(&*subject.calls);
    assert!(!is_ready(&mut lost, Waker::noop()), "it is not over");
    subject.calls.end(&end());
    assert!(is_ready(&mut lost, Waker::noop()));
    subject.wire.end(0, NOT_SENT);
    subject.cut();
    assert_eq!(subject.look(call), Some(NOT_SENT));
    // A connection that was found just then is none of it.
    subject.restore(|_| ());
    subject.calls.set_status(Status::Down(end()));
    assert!(matches!(subject.calls.status().0, Status::Over(_)));
    assert_eq!(subject.calls.connection().1, 1);
    let late = subject.begin("late", ROOT, CallOptions::default()).unwrap_err();
    assert_eq!(late.kind(), NOT_SENT);
}

/// A call that waits is made by somebody else later on, who serves no call.
#[test]
fn a_call_that_waits_has_the_deadline_and_the_chain_of_the_call_it_is_made_for() {
    let config = Config {
        call_timeout: Some(Duration::from_secs(3600)),
        ..Config::default()
    };
    let mut subject = Subject::new(config);
    subject.lose();
    let served = (clock::after(Duration::from_secs(60)), chain::fresh());
    let mut serving = Some(serving(&subject, Some(served.0), Some(served.1)));
    context::serve(&mut serving, || subject.call("nested"));
    subject.call("by itself");
    let deadline = Some(Nanos::MAX);
    let waits = CallOptions {
        deadline,
        ..CallOptions::default()
    };
    subject.begin("without any", ROOT, waits).unwrap();
    subject.restore(|_| ());
    let options = lock(&subject.wire.noted).options.clone();
    assert_eq!(options[0].deadline, Some(served.0));
    assert_eq!(options[0].chain, Some(chain::nested(served.1)));
    let by_default = options[1].deadline.unwrap();
    assert!(by_default > served.0 && by_default < Nanos::MAX);
    assert_eq!(
        options[2].deadline, deadline,
        "or it would have the default in the end"
    );
}

fn serving(subject: &Subject, deadline: Option<Nanos>, chain: Option<crate::protocol::Chain>) -> Serving {
    Serving {
        conduit: Arc::clone(&subject.wire) as Arc<dyn Conduit>,
        answer: 7,
        chain,
        deadline,
        hops: 0,
        traced: None,
    }
}

#[test]
fn a_thread_waits_no_longer_when_the_call_that_it_serves_is_given_up() {
    for is_given_up_already in [false, true] {
        let subject = Subject::new(Config::default());
        lock(&subject.wire.noted).is_cancelled = is_given_up_already;
        let call = subject.call("nested");
        let mut serving = Some(serving(&subject, None, None));
        let waited = context::serve(&mut serving, || subject.calls.wait(call, Some(Duration::ZERO)));
        match waited.unwrap() {
            Some(Outcome::Error(error)) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            other => panic!("{other:?}"),
        }
        assert_eq!(lock(&subject.wire.noted).given_up, [0]);
    }
}

#[test]
fn a_call_that_is_passed_on_is_given_up_with_its_caller() {
    let subject = Subject::new(Config::default());
    let back = Wire::new();
    let invocation = Invocation::here(
        Arc::clone(&back) as Arc<dyn Conduit>,
        0,
        Op::Named("passed on".to_owned()),
        CallOptions::default(),
        &mut Encoder::new(),
    );
    Arc::clone(&subject.calls).forward(ROOT, CallOptions::default(), invocation);
    let (conduit, call) = lock(&back.noted).passed_on.take().unwrap();
    conduit.drop_call(call, CancelReason::Upstream);
    assert!(lock(&subject.calls.table).calls.is_empty());
    let Subject { calls, no_longer, .. } = subject;
    drop((calls, conduit));
    runtime::background().block_on(async {
        let no_longer = tokio::time::timeout(Duration::from_secs(30), no_longer).await;
        assert!(no_longer.expect("what passed it on lets go of the root").is_err());
    });
}
