//! Guards: what was handed out with less than it can do stays so, whichever way it is called, and so does what comes out
//! of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use farref::guard::{Access, Guard};
use farref::object::Arguments;
use farref::policy::{Policy, Record};
use farref::{Error, ErrorKind, Fixed, Netref, Object, Result, Stream, connect, remote};
use farref_integration_tests::media::{Pair, on_plain_thread, pair, runtime, within};
use tokio::sync::Notify;

#[remote]
trait Named {
    #[reads]
    async fn name(&self) -> Result<String>;
}

/// Something with parts, some of which can be changed.
#[remote]
trait Vault: Named {
    #[property]
    fn level(&self) -> Result<u32>;
    #[property]
    fn set_level(&self, level: u32) -> Result<()>;
    fn fill(&self, by: u32) -> Result<u32>;
    #[reads]
    async fn drawer(&self) -> Result<Netref<dyn Drawer>>;
    #[reads]
    async fn itself(&self) -> Result<Netref<dyn Vault>>;
    #[reads]
    async fn levels(&self) -> Result<Stream<u32>>;
    #[reads]
    async fn echo(&self, drawer: Netref<dyn Drawer>) -> Result<Netref<dyn Drawer>>;
    #[reads]
    async fn all(&self) -> Result<Vec<Option<Object>>>;
    #[reads]
    async fn keep(&self, vault: Netref<dyn Vault>) -> Result<Option<Netref<dyn Vault>>>;
    #[reads]
    async fn wait(&self) -> Result<()>;
    #[reads]
    fn fail(&self) -> Result<()>;
}

#[remote]
trait Drawer {
    #[reads]
    fn look(&self) -> Result<u32>;
    fn put(&self, value: u32) -> Result<()>;
    #[reads]
    async fn vault(&self) -> Result<Netref<dyn Vault>>;
}

#[derive(Default)]
struct Real {
    level: Arc<AtomicU32>,
    started: Notify,
    kept: Mutex<Option<Netref<dyn Vault>>>,
}

struct Box(Arc<AtomicU32>);

impl std::fmt::Display for Real {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a vault")
    }
}

#[remote]
impl Named for Real {
    async fn name(&self) -> Result<String> {
        Ok("the vault".into())
    }
}

#[remote(str)]
impl Vault for Real {
    fn level(&self) -> Result<u32> {
        Ok(self.level.load(Ordering::SeqCst))
    }

    fn set_level(&self, level: u32) -> Result<()> {
        self.level.store(level, Ordering::SeqCst);
        Ok(())
    }

    fn fill(&self, by: u32) -> Result<u32> {
        Ok(self.level.fetch_add(by, Ordering::SeqCst) + by)
    }

    async fn drawer(&self) -> Result<Netref<dyn Drawer>> {
        Ok(Netref::of(Box(Arc::clone(&self.level))))
    }

    async fn itself(&self) -> Result<Netref<dyn Vault>> {
        Ok(Netref::of(Real {
            level: Arc::clone(&self.level),
            ..Real::default()
        }))
    }

    async fn levels(&self) -> Result<Stream<u32>> {
        let (mut levels, stream) = Stream::channel(4);
        tokio::spawn(async move {
            for level in 0..100 {
                levels.send(level).await?;
            }
            levels.finish().await
        });
        Ok(stream)
    }

    async fn echo(&self, drawer: Netref<dyn Drawer>) -> Result<Netref<dyn Drawer>> {
        Ok(drawer)
    }

    async fn all(&self) -> Result<Vec<Option<Object>>> {
        let drawer: Netref<dyn Drawer> = Netref::of(Box(Arc::clone(&self.level)));
        Ok(vec![None, Some(drawer.dynamic()), Some(drawer.dynamic())])
    }

    async fn keep(&self, vault: Netref<dyn Vault>) -> Result<Option<Netref<dyn Vault>>> {
        Ok(self.kept.lock().unwrap().replace(vault))
    }

    async fn wait(&self) -> Result<()> {
        self.started.notify_one();
        std::future::pending().await
    }

    fn fail(&self) -> Result<()> {
        Err(Error::msg("it is stuck"))
    }
}

#[remote]
impl Drawer for Box {
    fn look(&self) -> Result<u32> {
        Ok(self.0.load(Ordering::SeqCst))
    }

    fn put(&self, value: u32) -> Result<()> {
        self.0.store(value, Ordering::SeqCst);
        Ok(())
    }

    async fn vault(&self) -> Result<Netref<dyn Vault>> {
        Ok(Netref::of(Real {
            level: Arc::clone(&self.0),
            ..Real::default()
        }))
    }
}

fn real() -> Netref<dyn Vault> {
    Netref::of(Real::default())
}

async fn shown(policy: Policy) -> (Pair, Netref<dyn Vault>, Netref<dyn Vault>) {
    let real = real();
    let pair = pair::<dyn Vault>("unix", real.guarded(policy)).await;
    let seen = pair.root().await;
    (pair, seen, real)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.message().into_owned()
}

#[test]
fn read_only_is_read_only_by_whatever_name_and_to_any_depth() {
    runtime().block_on(async {
        let (pair, seen, real) = shown(Policy::new().read_only()).await;
        assert_eq!(within(seen.call().level()).await.unwrap(), 0);
        assert_eq!(within(seen.call().name()).await.unwrap(), "the vault");
        let text = refused(within(seen.call().fill(1)).await, ErrorKind::Denied);
        assert_eq!(
            text,
            "`fill` of Vault is not for this peer: it was handed out to be read only"
        );
        refused(within(seen.call().set_level(1)).await, ErrorKind::Denied);
        // By name.
        let object = seen.dynamic();
        refused(within(object.call("fill", (1,))).await, ErrorKind::Denied);
        refused(within(object.call("Vault.fill", (1,))).await, ErrorKind::Denied);
        refused(within(object.call("set_level", (1,))).await, ErrorKind::Denied);
        refused(within(object.set("level", 1)).await, ErrorKind::Denied);
        refused(within(object.call("nothing", ())).await, ErrorKind::Denied);
        assert_eq!(within(object.get("level")).await.unwrap().as_u64(), Some(0));
        assert_eq!(within(object.str()).await.unwrap(), "a vault");
        within(object.hash()).await.unwrap_err();
        assert!(within(object.dir()).await.unwrap().contains(&"fill".to_owned()));
        // What comes out of it, and out of that.
        let drawer = within(seen.call().drawer()).await.unwrap();
        assert_eq!(within(drawer.call().look()).await.unwrap(), 0);
        refused(within(drawer.call().put(1)).await, ErrorKind::Denied);
        let again = within(drawer.call().vault()).await.unwrap();
        refused(within(again.call().fill(1)).await, ErrorKind::Denied);
        let all = within(seen.call().all()).await.unwrap();
        let [None, Some(first), Some(second)] = &all[..] else {
            panic!("{all:?}");
        };
        assert!(
            first.same_object(second),
            "what comes out twice is the same both times"
        );
        refused(within(first.call("put", (1,))).await, ErrorKind::Denied);
        // Through a pipe.
        let promised = seen.call().drawer();
        let put = promised.pipe().put(1).start();
        refused(within(put).await, ErrorKind::Denied);
        drop(promised);
        // A stream is read, to its end.
        let mut levels = within(seen.call().levels()).await.unwrap();
        let mut sum = 0;
        while let Some(level) = within(levels.next()).await {
            sum += level.unwrap();
        }
        assert_eq!(sum, 4950);
        // Under a supertrait.
        let named: Netref<dyn Named> = seen.upcast();
        assert_eq!(within(named.call().name()).await.unwrap(), "the vault");
        assert_eq!(real.level().unwrap(), 0, "nothing has changed");
        drop((drawer, again, object, levels, named, seen));
        drop(all);
        pair.at_rest().await;
    });
}

#[test]
fn what_the_caller_passes_in_comes_back_to_it_as_itself() {
    runtime().block_on(async {
        let (pair, seen, _) = shown(Policy::new().read_only()).await;
        let own: Netref<dyn Drawer> = Netref::of(Box(Arc::default()));
        let back = within(seen.call().echo(own.clone())).await.unwrap();
        assert!(back.same_object(&own) && back.is_local());
        back.put(5).unwrap();
        drop(back);
        drop(seen);
        pair.at_rest().await;
    });
}

#[test]
fn lists_of_names_go_for_the_object_and_what_they_name() {
    runtime().block_on(async {
        let (_pair, seen, _) = shown(Policy::new().allow(["level", "drawer", "itself"])).await;
        assert_eq!(within(seen.call().level()).await.unwrap(), 0);
        let text = refused(within(seen.call().fill(1)).await, ErrorKind::Denied);
        assert!(text.contains("for other methods alone"), "{text}");
        refused(within(seen.call().set_level(1)).await, ErrorKind::Denied);
        refused(within(seen.dynamic().set("level", 1)).await, ErrorKind::Denied);
        refused(within(seen.dynamic().str()).await, ErrorKind::Denied);
        within(seen.dynamic().describe()).await.unwrap();
        // An allowed method gives what it gives ..
        let drawer = within(seen.call().drawer()).await.unwrap();
        within(drawer.call().put(7)).await.unwrap();
        // .. but for another of the same kind.
        let another = within(seen.call().itself()).await.unwrap();
        assert_eq!(within(another.call().level()).await.unwrap(), 7);
        refused(within(another.call().fill(1)).await, ErrorKind::Denied);

        let denied = ["fill", "set_level", "str", "Drawer.put"];
        let (_pair, seen, real) = shown(Policy::new().deny(denied)).await;
        assert_eq!(within(seen.call().level()).await.unwrap(), 0);
        refused(within(seen.call().fill(1)).await, ErrorKind::Denied);
        refused(
            within(seen.dynamic().call("Vault.fill", (1,))).await,
            ErrorKind::Denied,
        );
        refused(within(seen.dynamic().set("level", 1)).await, ErrorKind::Denied);
        refused(within(seen.dynamic().str()).await, ErrorKind::Denied);
        assert!(within(seen.dynamic().is("Named")).await.unwrap());
        let drawer = within(seen.call().drawer()).await.unwrap();
        refused(within(drawer.call().put(7)).await, ErrorKind::Denied);
        assert_eq!(within(drawer.call().look()).await.unwrap(), 0);
        // One that comes out of what is not guarded itself is beyond the list.
        let names = ["Vault.*"];
        let (_pair, all, _) = shown(Policy::new().allow(names)).await;
        within(all.call().fill(1)).await.unwrap();
        refused(within(all.call().name()).await, ErrorKind::Denied);
        assert_eq!(real.level().unwrap(), 0);
    });
}

#[test]
fn what_was_taken_back_or_is_over_is_so_to_any_depth() {
    runtime().block_on(async {
        let (policy, revoker) = Policy::new().revocable();
        let (_pair, seen, _) = shown(policy).await;
        let drawer = within(seen.call().drawer()).await.unwrap();
        let mut levels = within(seen.call().levels()).await.unwrap();
        within(seen.call().fill(1)).await.unwrap();
        assert_eq!(within(drawer.call().look()).await.unwrap(), 1);
        revoker.revoke("the visit is over");
        assert!(revoker.is_revoked());
        let text = refused(within(seen.call().level()).await, ErrorKind::Revoked);
        assert_eq!(text, "it was taken back: the visit is over");
        refused(within(drawer.call().look()).await, ErrorKind::Revoked);
        refused(within(seen.dynamic().describe()).await, ErrorKind::Revoked);
        let end = loop {
            match within(levels.next()).await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        refused(end.unwrap(), ErrorKind::Revoked);

        let (_pair, seen, _) = shown(Policy::new().expires_in(Duration::from_secs(3600))).await;
        within(seen.call().fill(1)).await.unwrap();
        let (_pair, seen, _) = shown(Policy::new().expires_at(SystemTime::now())).await;
        let text = refused(within(seen.call().level()).await, ErrorKind::Revoked);
        assert!(text.contains("ask for it again"), "{text}");

        let (_pair, seen, _) = shown(Policy::new().at_most(3, Duration::from_secs(3600))).await;
        for _ in 0..3 {
            within(seen.call().level()).await.unwrap();
        }
        let text = refused(within(seen.call().level()).await, ErrorKind::Overloaded);
        assert!(text.contains("try again in"), "{text}");
    });
}

#[test]
fn an_audit_tells_who_called_what_and_how_it_went() {
    runtime().block_on(async {
        let records = Arc::<Mutex<Vec<Record>>>::default();
        let kept = Arc::clone(&records);
        let recorded = Arc::new(Notify::new());
        let told = Arc::clone(&recorded);
        let policy = Policy::new().deny(["fill"]).audited(move |record| {
            kept.lock().unwrap().push(record.clone());
            told.notify_one();
        });
        let object = Arc::new(Real::default());
        let real: Netref<dyn Vault> = Netref::share(&object);
        let pair = pair::<dyn Vault>("unix", real.guarded(policy)).await;
        let seen: Netref<dyn Vault> = pair.root().await;
        within(seen.call().level()).await.unwrap();
        refused(within(seen.call().fill(1)).await, ErrorKind::Denied);
        within(seen.call().fail()).await.unwrap_err();
        within(seen.dynamic().call("Named.name", Arguments::from(())))
            .await
            .unwrap();
        let drawer = within(seen.call().drawer()).await.unwrap();
        within(drawer.call().put(1)).await.unwrap();
        let waiting = seen.call().wait().start();
        within(object.started.notified()).await;
        drop(waiting);
        while records.lock().unwrap().len() < 7 {
            within(recorded.notified()).await;
        }
        let records = records.lock().unwrap();
        let told: Vec<_> = records
            .iter()
            .map(|record| {
                (
                    record.call.as_str(),
                    record.outcome.as_ref().err().map(Error::kind),
                )
            })
            .collect();
        let expected = [
            ("Vault.level", None),
            ("Vault.fill", Some(ErrorKind::Denied)),
            ("Vault.fail", Some(ErrorKind::Failed)),
            ("Named.name", None),
            ("Vault.drawer", None),
            ("Drawer.put", None),
            ("Vault.wait", Some(ErrorKind::Cancelled)),
        ];
        assert_eq!(told, expected);
        assert!(records.iter().all(|record| record.peer.medium == "unix"));
        assert!(records[2].to_string().contains("Vault.fail: "), "{}", records[2]);
    });
}

#[test]
fn what_is_guarded_is_guarded_here_as_well() {
    let runtime = runtime();
    let real = real();
    let seen = real.guarded(Policy::new().read_only());
    assert!(!seen.is_local(), "it is called as if it were far");
    runtime.block_on(async {
        assert_eq!(seen.call().name().await.unwrap(), "the vault");
        refused(seen.call().fill(1).await, ErrorKind::Denied);
        refused(seen.fill(1), ErrorKind::Denied);
        let promised = seen.call().drawer();
        let (look, put) = (promised.pipe().look().start(), promised.pipe().put(1).start());
        assert_eq!(look.await.unwrap(), 0);
        refused(put.await, ErrorKind::Denied);
        let drawer = promised.await.unwrap();
        refused(drawer.call().put(1).await, ErrorKind::Denied);
        let mut levels = seen.call().levels().await.unwrap();
        let mut count = 0;
        while let Some(level) = levels.next().await {
            level.unwrap();
            count += 1;
        }
        assert_eq!(count, 100);
        let late = seen.call().wait().timeout(Duration::from_millis(1)).await;
        refused(late, ErrorKind::Deadline);
        drop(seen.call().wait().start());
    });
    let (seen, look) = on_plain_thread(move || {
        assert_eq!(seen.blocking().name().unwrap(), "the vault");
        refused(seen.fill(1), ErrorKind::Denied);
        let look = seen.blocking().drawer().unwrap().look();
        (seen, look)
    });
    assert_eq!(look.unwrap(), 0);
    drop(seen);
    assert_eq!(real.level().unwrap(), 0);
}

#[test]
fn what_is_guarded_comes_home_guarded_and_goes_on_to_others_guarded() {
    runtime().block_on(async {
        let keeper = pair::<dyn Vault>("unix", real()).await;
        let other = pair::<dyn Vault>("mem", real()).await;
        let (seen, far) = (keeper.root::<dyn Vault>().await, other.root::<dyn Vault>().await);
        // One of our own.
        let real = real();
        let lent = real.guarded(Policy::new().read_only());
        assert!(within(seen.call().keep(lent.clone())).await.unwrap().is_none());
        // A far one, which is handed on by us.
        let lent_far = far.guarded(Policy::new().read_only());
        let home = within(seen.call().keep(lent_far.clone())).await.unwrap().unwrap();
        assert!(home.same_object(&lent));
        refused(within(home.call().fill(1)).await, ErrorKind::Denied);
        assert_eq!(within(home.call().level()).await.unwrap(), 0);
        let home_far = within(seen.call().keep(lent.clone())).await.unwrap().unwrap();
        refused(within(home_far.call().fill(1)).await, ErrorKind::Denied);
        let drawer = within(home_far.call().drawer()).await.unwrap();
        assert_eq!(within(drawer.call().look()).await.unwrap(), 0);
        refused(within(drawer.call().put(1)).await, ErrorKind::Denied);
        let promised = home_far.call().drawer();
        refused(within(promised.pipe().put(1)).await, ErrorKind::Denied);
        drop(promised);
        within(far.call().fill(1)).await.unwrap();
        // Under less of an interface.
        let named: Netref<dyn Named> = lent.upcast();
        assert_eq!(within(named.call().name()).await.unwrap(), "the vault");
        drop((home, home_far, drawer, lent_far, lent, named));
        within(seen.call().keep(real.clone())).await.unwrap();
        drop((seen, far));
        other.at_rest().await;
    });
}

#[test]
fn guards_stand_one_behind_the_other() {
    runtime().block_on(async {
        let inner = real().guarded(Policy::new().deny(["drawer"]));
        let pair = pair::<dyn Vault>("unix", inner.guarded(Policy::new().read_only())).await;
        let seen: Netref<dyn Vault> = pair.root().await;
        assert_eq!(within(seen.call().level()).await.unwrap(), 0);
        refused(within(seen.call().fill(1)).await, ErrorKind::Denied);
        let text = refused(within(seen.call().drawer()).await, ErrorKind::Denied);
        assert!(text.contains("without that"), "{text}");
    });
}

/// Lets through what this process does not know the trait of, but for a name.
struct Blind;

impl Guard for Blind {
    fn admit(&self, access: &Access) -> Result<()> {
        if access.may_be("Vault.fill") || access.may_be("set_level") {
            return Err(Error::new(ErrorKind::Denied, "not that"));
        }
        Ok(())
    }
}

#[test]
fn an_object_by_name_is_guarded_like_any_other() {
    runtime().block_on(async {
        let far = pair::<dyn Vault>("mem", real()).await;
        let object = far.client.object().await.unwrap().guarded(Blind);
        assert_eq!(within(object.get("level")).await.unwrap().as_u64(), Some(0));
        refused(within(object.call("fill", (1,))).await, ErrorKind::Denied);
        refused(within(object.set("level", 1)).await, ErrorKind::Denied);
        // A trait of this side's makes calls by number: they are told by that.
        let cast: Netref<dyn Vault> = within(object.cast()).await.unwrap();
        refused(within(cast.call().fill(1)).await, ErrorKind::Denied);
        refused(within(cast.call().set_level(1)).await, ErrorKind::Denied);
        assert_eq!(within(cast.call().level()).await.unwrap(), 0);
    });
}

#[test]
fn calls_after_the_end_of_a_connection_say_so() {
    runtime().block_on(async {
        let server = farref::Server::new(Fixed::new::<dyn Vault>(real().guarded(Policy::new().read_only())));
        let address = server.listen("mem:guards-after-the-end").await.unwrap();
        let seen: Netref<dyn Vault> = connect(address).await.unwrap().root().await.unwrap();
        within(seen.call().level()).await.unwrap();
        server.shutdown(Duration::ZERO).await;
        let error = within(seen.call().level()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");
    });
}
