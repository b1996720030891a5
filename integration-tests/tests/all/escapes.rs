//! Ways around a guard, each of which was open once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farref::channel::watch;
use farref::guard::{Access, Guard};
use farref::object::Arguments;
use farref::policy::{Policy, Record};
use farref::trace::TraceContext;
use farref::{Error, ErrorKind, Netref, RemoteIter, Result, Stream, remote};
use farref_integration_tests::media::{on_plain_thread, pair, runtime, within};
use tokio::sync::Notify;

#[remote]
trait House {
    #[reads]
    async fn name(&self) -> Result<String>;
    async fn burn(&self) -> Result<u32>;
    #[reads]
    async fn room(&self) -> Result<Netref<dyn Room>>;
    #[reads]
    async fn echo(&self, house: Netref<dyn House>) -> Result<Netref<dyn House>>;
    #[reads]
    async fn wait(&self) -> Result<()>;
    #[reads]
    async fn trace(&self) -> Result<Option<u128>>;
    #[reads]
    async fn street(&self) -> Result<Street>;
}

type Houses = Netref<dyn House>;

/// What houses come out of.
type Street = (Stream<Houses>, RemoteIter<Houses>, watch::Receiver<Houses>);

#[remote]
trait Room {
    #[reads]
    async fn house(&self) -> Result<Netref<dyn House>>;
}

#[derive(Clone, Default)]
struct Home(Arc<State>);

#[derive(Default)]
struct State {
    burnt: AtomicU32,
    given_up: Notify,
}

/// Tells when it is dropped.
struct Leaving(Arc<State>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.given_up.notify_one();
    }
}

#[remote]
impl House for Home {
    async fn name(&self) -> Result<String> {
        Ok("home".into())
    }

    async fn burn(&self) -> Result<u32> {
        Ok(self.0.burnt.fetch_add(1, Ordering::SeqCst))
    }

    async fn room(&self) -> Result<Netref<dyn Room>> {
        Ok(Netref::of(self.clone()))
    }

    async fn echo(&self, house: Netref<dyn House>) -> Result<Netref<dyn House>> {
        Ok(house)
    }

    async fn wait(&self) -> Result<()> {
        let _leaving = Leaving(Arc::clone(&self.0));
        std::future::pending().await
    }

    async fn trace(&self) -> Result<Option<u128>> {
        Ok(TraceContext::current().map(TraceContext::trace_id))
    }

    async fn street(&self) -> Result<Street> {
        let house = || -> Houses { Netref::of(self.clone()) };
        Ok((
            Stream::from_iter([house()]),
            RemoteIter::new(std::iter::once(house())),
            watch::channel(house()).1,
        ))
    }
}

#[remote]
impl Room for Home {
    async fn house(&self) -> Result<Netref<dyn House>> {
        Ok(Netref::of(self.clone()))
    }
}

fn home() -> Netref<dyn House> {
    Netref::of(Home::default())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error
}

/// What no list named was handed out bare, and gave the bare object back.
#[test]
fn lists_of_names_hold_behind_objects_that_they_do_not_name() {
    runtime().block_on(async {
        for policy in [Policy::new().deny(["burn"]), Policy::new().allow(["room"])] {
            let pair = pair::<dyn House>("unix", home().guarded(policy)).await;
            let seen: Netref<dyn House> = pair.root().await;
            let room = within(seen.call().room()).await.unwrap();
            let again = within(room.call().house()).await.unwrap();
            refused(within(again.call().burn()).await, ErrorKind::Denied);
            let promised = room.call().house();
            refused(within(promised.pipe().burn().start()).await, ErrorKind::Denied);
        }
    });
}

/// A name was logged as it came, with its line breaks, and as long as a message may be.
#[test]
fn a_name_that_a_peer_makes_up_is_shown_as_one_short_word() {
    runtime().block_on(async {
        let records = Arc::<Mutex<Vec<Record>>>::default();
        let kept = Arc::clone(&records);
        let policy = Policy::new()
            .read_only()
            .audited(move |record| kept.lock().unwrap().push(record.clone()));
        let pair = pair::<dyn House>("unix", home().guarded(policy)).await;
        let seen = within(pair.client.object()).await.unwrap();
        let forged = format!(
            "name\r\n2026-01-01 root: House.burn: done\u{1b}[2J{}",
            "x".repeat(10_000)
        );
        let error = refused(
            within(seen.call(&forged, Arguments::from(()))).await,
            ErrorKind::Denied,
        );
        let record = records.lock().unwrap().pop().unwrap();
        for text in [
            error.message().into_owned(),
            record.call.clone(),
            record.to_string(),
        ] {
            assert!(!text.contains(char::is_control) && text.len() < 400, "{text:?}");
        }
    });
}

mod old {
    use farref::{Result, remote};

    #[remote(name = "farref.tests.Grown")]
    pub(super) trait Plant {
        async fn size(&self) -> Result<u32>;
    }
}

mod new {
    use farref::{Result, remote};

    #[remote(name = "farref.tests.Grown")]
    pub(super) trait Plant {
        async fn size(&self) -> Result<u32>;
        async fn cut(&self) -> Result<u32>;
    }
}

struct Tree;

#[remote]
impl new::Plant for Tree {
    async fn size(&self) -> Result<u32> {
        Ok(1)
    }

    async fn cut(&self) -> Result<u32> {
        Ok(0)
    }
}

/// By its number, a method that this process did not have was none of those that are denied by name.
#[test]
fn a_method_that_only_the_far_side_has_is_denied_by_its_name() {
    runtime().block_on(async {
        let far = pair::<dyn new::Plant>("mem", Tree).await;
        let known: Netref<dyn old::Plant> = far.root().await;
        let near = pair::<dyn old::Plant>("unix", known.guarded(Policy::new().deny(["cut"]))).await;
        let seen: Netref<dyn new::Plant> = near.root().await;
        assert_eq!(within(seen.call().size()).await.unwrap(), 1);
        refused(within(seen.call().cut()).await, ErrorKind::Denied);
        refused(within(seen.dynamic().call("cut", ())).await, ErrorKind::Denied);
    });
}

/// Each guard put another layer around what was behind it already, below that of another one.
#[test]
fn what_goes_around_is_guarded_once_by_each() {
    struct Counts(Arc<AtomicU32>);

    impl Guard for Counts {
        fn admit(&self, _access: &Access) -> Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    runtime().block_on(async {
        let counts = [Arc::<AtomicU32>::default(), Arc::default()];
        let [inner, outer] = counts.clone().map(Counts);
        let pair = pair::<dyn House>("unix", home().guarded(inner).guarded(outer)).await;
        let seen: Netref<dyn House> = pair.root().await;
        let mut house = within(seen.call().echo(seen.clone())).await.unwrap();
        for _ in 0..20 {
            house = within(seen.call().echo(house)).await.unwrap();
        }
        let before = counts.clone().map(|count| count.load(Ordering::SeqCst));
        within(house.call().name()).await.unwrap();
        for (count, before) in counts.iter().zip(before) {
            assert_eq!(count.load(Ordering::SeqCst), before + 1);
        }
    });
}

/// A panic of a guard ended the task that reads the connection.
#[test]
fn a_guard_that_panics_fails_that_call() {
    struct Shaky;

    impl Guard for Shaky {
        fn admit(&self, access: &Access) -> Result<()> {
            assert!(!access.is("burn"), "a guard is frightened");
            Ok(())
        }

        fn ended(&self, access: &Access, _outcome: Result<(), &Error>, _took: Duration) {
            assert!(!access.is("room"), "a guard is sorry");
        }
    }

    runtime().block_on(async {
        let shaky = home().guarded(Shaky);
        let pair = pair::<dyn House>("unix", shaky.clone()).await;
        for seen in [pair.root().await, shaky] {
            refused(within(seen.call().burn()).await, ErrorKind::Panicked);
            let room = within(seen.call().room()).await.unwrap();
            within(room.call().house()).await.unwrap();
            assert_eq!(within(seen.call().name()).await.unwrap(), "home");
        }
    });
}

/// A call made here of a far object was told as one of the far side.
#[test]
fn who_calls_from_this_process_is_this_process() {
    runtime().block_on(async {
        let records = Arc::<Mutex<Vec<Record>>>::default();
        let kept = Arc::clone(&records);
        let policy = Policy::new().audited(move |record| kept.lock().unwrap().push(record.clone()));
        let pair = pair::<dyn House>("unix", home()).await;
        let seen = pair.root::<dyn House>().await.guarded(policy);
        within(seen.call().name()).await.unwrap();
        let record = records.lock().unwrap().pop().unwrap();
        assert_eq!(record.peer.medium, "this process", "{record}");
    });
}

/// A method that was called here went on behind its deadline, and a thread that waited for it went on waiting.
#[test]
fn a_deadline_ends_a_call_of_this_process() {
    let object = Home::default();
    let state = Arc::clone(&object.0);
    let real: Netref<dyn House> = Netref::of(object);
    let seen = real.guarded(Policy::new());
    let late = seen.clone();
    let waited = on_plain_thread(move || late.call().wait().timeout(Duration::from_millis(1)).wait());
    refused(waited, ErrorKind::Deadline);
    runtime().block_on(async {
        within(state.given_up.notified()).await;
        let late = within(seen.call().wait().timeout(Duration::from_millis(1))).await;
        refused(late, ErrorKind::Deadline);
        within(state.given_up.notified()).await;
    });
}

/// The trace of a call ended at a guard in this process.
#[test]
fn a_trace_leads_on_through_a_guard() {
    runtime().block_on(async {
        let pair = pair::<dyn House>("unix", home()).await;
        let seen = pair.root::<dyn House>().await.guarded(Policy::new());
        let context = TraceContext::new();
        let traced = within(context.within(async { seen.call().trace().await }))
            .await
            .unwrap();
        assert_eq!(traced, Some(context.trace_id()));
    });
}

#[test]
fn what_comes_out_of_streams_and_channels_is_guarded() {
    runtime().block_on(async {
        let pair = pair::<dyn House>("unix", home().guarded(Policy::new().deny(["burn"]))).await;
        let seen: Netref<dyn House> = pair.root().await;
        let (mut stream, mut iter, mut watched) = within(seen.call().street()).await.unwrap();
        let houses = [
            within(stream.next()).await.unwrap().unwrap(),
            within(iter.next_item()).await.unwrap().unwrap(),
            within(watched.latest()).await.unwrap(),
        ];
        for house in houses {
            refused(within(house.call().burn()).await, ErrorKind::Denied);
        }
    });
}

/// Counts what is under way of it.
struct UnderWay(Arc<AtomicU32>);

impl Guard for UnderWay {
    fn admit(&self, _access: &Access) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn ended(&self, _access: &Access, _outcome: Result<(), &Error>, _took: Duration) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn every_call_that_was_let_in_is_told_as_over() {
    runtime().block_on(async {
        let count = Arc::<AtomicU32>::default();
        let guarded = home().guarded(UnderWay(Arc::clone(&count)));
        let pair = pair::<dyn House>("unix", guarded.clone()).await;
        let far: Netref<dyn House> = pair.root().await;
        for seen in [&far, &guarded] {
            within(seen.call().burn()).await.unwrap();
            drop(seen.call().wait().start());
            drop(seen.call().wait());
            let late = seen.call().wait().timeout(Duration::from_millis(1));
            refused(within(late).await, ErrorKind::Deadline);
            let promised = seen.call().room();
            let house = promised.pipe().house();
            let burnt = house.pipe().burn().start();
            drop((promised, house));
            within(burnt).await.unwrap();
            within(seen.dynamic().call("nothing", ())).await.unwrap_err();
        }
        let waiting = far.call().wait().start();
        within(pair.client.ping()).await.unwrap();
        within(pair.client.close()).await;
        within(waiting).await.unwrap_err();
        within(async {
            while count.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

/// A nested guard for each connection that an object was passed over would be as deep as a peer likes.
#[test]
fn guards_around_an_object_come_to_an_end() {
    #[derive(Clone, Default)]
    struct Board(Arc<Mutex<Option<Netref<dyn House>>>>);

    #[remote]
    trait Notice {
        async fn pin(&self, house: Netref<dyn House>) -> Result<()>;
        async fn look(&self) -> Result<Option<Netref<dyn House>>>;
    }

    #[remote]
    impl Notice for Board {
        async fn pin(&self, house: Netref<dyn House>) -> Result<()> {
            *self.0.lock().unwrap() = Some(house);
            Ok(())
        }

        async fn look(&self) -> Result<Option<Netref<dyn House>>> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    runtime().block_on(async {
        let board = Board::default();
        *board.0.lock().unwrap() = Some(home());
        let mut went = 0;
        let error = loop {
            let shown: Netref<dyn Notice> = Netref::of(board.clone());
            let guarded = shown.guarded(UnderWay(Arc::default()));
            let seen = match within(guarded.call().look()).await {
                Ok(seen) => seen.unwrap(),
                Err(error) => break error,
            };
            within(seen.call().name()).await.unwrap();
            within(shown.call().pin(seen)).await.unwrap();
            went += 1;
        };
        assert_eq!(went, 32);
        assert!(error.message().contains("guards"), "{error}");
    });
}
