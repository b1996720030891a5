//! References: in any position of any value, the same object wherever they come back, freed with the last of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farref::{Netref, Result, remote};
use farref_integration_tests::bench::{Bench, Count, Counter, Named, Rig};
use farref_integration_tests::media::{MEDIA, on_plain_thread, over_every_medium, pair, runtime, within};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

type Ref = Netref<dyn Counter>;

/// References wherever serde lets a value be.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Everywhere {
    field: Ref,
    option: Option<Ref>,
    nothing: Option<Ref>,
    list: Vec<Ref>,
    map: HashMap<String, Ref>,
    tree: BTreeMap<u8, Vec<Option<Ref>>>,
    result: std::result::Result<Ref, String>,
    failure: std::result::Result<String, Ref>,
    tuple: (u8, Ref, String),
    array: [Ref; 2],
    boxed: Box<Ref>,
    newtype: Newtype,
    choice: Choice,
    generic: Generic<Ref>,
    parent: Netref<dyn Named>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Newtype(Ref);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Generic<T> {
    inside: Vec<(T, Option<T>)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Choice {
    Deep { of: Box<Choice>, with: Ref },
    Flat(Ref, Ref),
    End,
}

impl Everywhere {
    fn of(one: &Ref, other: &Ref) -> Self {
        let (a, b) = (|| one.clone(), || other.clone());
        Self {
            field: a(),
            option: Some(b()),
            nothing: None,
            list: vec![a(), b(), a()],
            map: [("a".to_owned(), a()), ("b".to_owned(), b())].into(),
            tree: [(1, vec![None, Some(a())]), (2, vec![])].into(),
            result: Ok(b()),
            failure: Err(a()),
            tuple: (7, b(), "t".into()),
            array: [a(), b()],
            boxed: Box::new(a()),
            newtype: Newtype(b()),
            choice: Choice::Deep {
                of: Box::new(Choice::Flat(b(), a())),
                with: a(),
            },
            generic: Generic {
                inside: vec![(a(), Some(b())), (b(), None)],
            },
            parent: one.upcast(),
        }
    }

    fn is_of(&self, one: &Ref, other: &Ref) {
        let (a, b) = (
            |of: &Ref| assert!(of.same_object(one)),
            |of: &Ref| assert!(of.same_object(other)),
        );
        a(&self.field);
        b(self.option.as_ref().unwrap());
        assert!(self.nothing.is_none());
        a(&self.list[0]);
        b(&self.list[1]);
        a(&self.list[2]);
        a(&self.map["a"]);
        b(&self.map["b"]);
        assert!(self.tree[&1][0].is_none() && self.tree[&2].is_empty());
        a(self.tree[&1][1].as_ref().unwrap());
        b(self.result.as_ref().unwrap());
        a(self.failure.as_ref().unwrap_err());
        b(&self.tuple.1);
        a(&self.array[0]);
        b(&self.array[1]);
        a(&self.boxed);
        b(&self.newtype.0);
        match &self.choice {
            Choice::Deep { of, with } => {
                a(with);
                match &**of {
                    Choice::Flat(first, second) => {
                        b(first);
                        a(second);
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        a(&self.generic.inside[0].0);
        b(self.generic.inside[0].1.as_ref().unwrap());
        b(&self.generic.inside[1].0);
        assert!(self.parent.same_object(one) && !one.same_object(other));
    }
}

#[remote]
trait Post {
    async fn echo(&self, everywhere: Everywhere) -> Result<Everywhere>;
    /// Two objects of this side, everywhere.
    async fn two(&self) -> Result<Everywhere>;
    /// Whether the references are what they are said to be, seen from here.
    async fn check(&self, everywhere: Everywhere, one: Ref, other: Ref, local: bool) -> Result<()>;
    async fn keep(&self, what: Vec<Ref>) -> Result<u64>;
    async fn forget(&self) -> Result<()>;
    /// An object whose destructor does something.
    async fn dropping(&self, how: Dropping) -> Result<Netref<dyn Named>>;
    fn count_blocking(&self, of: Ref) -> Result<u64>;
}

/// What a destructor does.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Dropping {
    Panic,
    Call(Ref),
    CallBlocking(Ref),
}

#[derive(Default)]
struct Office {
    kept: std::sync::Mutex<Vec<Ref>>,
}

struct Dropped(Dropping);

impl Named for Dropped {
    fn name(&self) -> Result<String> {
        Ok("short-lived".into())
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        match &self.0 {
            Dropping::Panic => panic!("a destructor panics"),
            Dropping::Call(of) => of.call().next().detach(),
            Dropping::CallBlocking(of) => drop(of.bump()),
        }
    }
}

#[remote]
impl Post for Office {
    async fn echo(&self, everywhere: Everywhere) -> Result<Everywhere> {
        Ok(everywhere)
    }

    async fn two(&self) -> Result<Everywhere> {
        let (one, other): (Ref, Ref) = (Netref::of(Count::default()), Netref::of(Count::default()));
        Ok(Everywhere::of(&one, &other))
    }

    async fn check(&self, everywhere: Everywhere, one: Ref, other: Ref, local: bool) -> Result<()> {
        everywhere.is_of(&one, &other);
        assert_eq!(one.is_local(), local);
        assert_eq!(everywhere.parent.is_local(), local);
        Ok(())
    }

    async fn keep(&self, what: Vec<Ref>) -> Result<u64> {
        let mut kept = self.kept.lock().unwrap();
        kept.extend(what);
        Ok(kept.len() as u64)
    }

    async fn forget(&self) -> Result<()> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        drop(kept);
        Ok(())
    }

    async fn dropping(&self, how: Dropping) -> Result<Netref<dyn Named>> {
        Ok(Netref::of(Dropped(how)))
    }

    fn count_blocking(&self, of: Ref) -> Result<u64> {
        of.bump()
    }
}

#[test]
fn references_cross_in_every_position_and_are_the_same_object_on_either_side() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Post>(medium, Office::default()).await;
        let post: Netref<dyn Post> = joined.root().await;
        // Ours, there and back.
        let (one, other): (Ref, Ref) = (Netref::of(Count::default()), Netref::of(Count::default()));
        let mine = Everywhere::of(&one, &other);
        within(post.call().check(mine.clone(), one.clone(), other.clone(), false))
            .await
            .unwrap();
        let back = within(post.call().echo(mine)).await.unwrap();
        back.is_of(&one, &other);
        assert!(back.field.is_local() && back.parent.is_local());
        assert!(
            Arc::ptr_eq(back.field.as_arc(), one.as_arc()),
            "the very object that left"
        );
        // Theirs, here and back.
        let theirs = within(post.call().two()).await.unwrap();
        let (one, other) = (theirs.field.clone(), theirs.option.clone().unwrap());
        theirs.is_of(&one, &other);
        assert!(!one.is_local() && !theirs.parent.is_local());
        within(
            post.call()
                .check(theirs.clone(), one.clone(), other.clone(), true),
        )
        .await
        .unwrap();
        let again = within(post.call().echo(theirs.clone())).await.unwrap();
        again.is_of(&one, &other);
        // Both at once.
        let mixed = Everywhere::of(&Netref::of(Count::default()), &one);
        within(
            post.call()
                .check(mixed.clone(), mixed.field.clone(), one.clone(), false),
        )
        .await
        .unwrap();
        assert_eq!(within(one.call().next()).await.unwrap(), 1);
        assert_eq!(
            within(theirs.list[2].call().next()).await.unwrap(),
            2,
            "one object under many handles"
        );
        assert_eq!(within(again.parent.call().name()).await.unwrap(), "");
        drop((back, theirs, again, mixed, one, other));
        drop(post);
        joined.at_rest().await;
    });
}

#[test]
fn a_reference_is_one_object_under_each_of_its_interfaces() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let counter = within(bench.call().counter()).await.unwrap();
        let named: Netref<dyn Named> = counter.upcast();
        assert!(named.same_object(&counter) && counter.same_object(&named));
        assert_eq!(within(named.call().name()).await.unwrap(), "counter");
        assert_eq!(within(counter.call().name()).await.unwrap(), "counter");
        let other = within(bench.call().counter()).await.unwrap();
        assert!(!other.same_object(&counter) && !other.same_object(&named));
        let local: Ref = Netref::of(Count::default());
        let up: Netref<dyn Named> = local.upcast();
        assert!(up.same_object(&local) && !up.same_object(&named));
        let up_again: Netref<dyn Named> = up.upcast();
        assert!(up_again.same_object(&up));
        // The parent alone keeps it alive.
        drop(counter);
        assert_eq!(within(named.call().name()).await.unwrap(), "counter");
    });
}

#[test]
fn a_weak_reference_keeps_nothing_alive() {
    over_every_medium(async |medium| {
        let (rig, mut told, _gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let counter = within(bench.call().counter()).await.unwrap();
        let weak = counter.downgrade();
        let upgraded = weak.upgrade().unwrap();
        assert!(upgraded.same_object(&counter) && !upgraded.is_local());
        drop(counter);
        assert_eq!(within(upgraded.call().next()).await.unwrap(), 1);
        let up: Netref<dyn Named> = upgraded.upcast();
        drop(upgraded);
        assert!(weak.upgrade().is_some(), "somebody on this side still holds it");
        drop(up);
        assert!(weak.upgrade().is_none());
        assert_eq!(within(told.recv()).await, Some("dropped"));

        let local: Ref = Netref::of(Count::default());
        let weak = local.downgrade();
        within(bench.call().keep(local.clone())).await.unwrap();
        drop(local);
        assert!(
            weak.upgrade().is_some_and(|of| of.is_local()),
            "the peer holds it"
        );
        within(bench.call().forget()).await.unwrap();
        let freed = async {
            while weak.upgrade().is_some() {
                joined.client.ping().await.unwrap();
            }
        };
        within(freed).await;
        drop(bench);
        joined.at_rest().await;
    });
}

#[test]
fn an_argument_lives_until_its_call_is_over_and_not_longer() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let (tell, mut told) = mpsc::unbounded_channel();
        for _ in 0..3 {
            let call = bench
                .call()
                .call_back(Netref::of(Count::telling("argument", tell.clone())), 10)
                .start();
            // Nobody on this side holds it any more.
            assert_eq!(within(call).await.unwrap(), 10);
            assert_eq!(within(told.recv()).await, Some("dropped"));
        }
        // Neither is it kept by a call that fails or is never made.
        drop(
            bench
                .call()
                .call_back(Netref::of(Count::telling("argument", tell.clone())), 1),
        );
        assert_eq!(told.try_recv(), Ok("dropped"));
        within(joined.client.close()).await;
        let call = bench
            .call()
            .call_back(Netref::of(Count::telling("argument", tell)), 1);
        assert!(within(call).await.is_err());
        assert_eq!(within(told.recv()).await, Some("dropped"));
    });
}

#[test]
fn a_reference_that_crosses_its_own_release_on_the_wire_stays_good() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Post>(medium, Office::default()).await;
        let post: Netref<dyn Post> = joined.root().await;
        let (tell, mut told) = mpsc::unbounded_channel();
        let mine: Ref = Netref::of(Count::telling("mine", tell));
        for round in 0..100 {
            // Kept and forgotten over and over: releases of old copies cross fresh ones.
            let kept = post.call().keep(vec![mine.clone(), mine.clone()]).start();
            let forgotten = post.call().forget().start();
            let used = post.call().count_blocking(mine.clone()).start();
            within(kept).await.unwrap();
            within(forgotten).await.unwrap();
            assert_eq!(within(used).await.unwrap(), round + 1);
        }
        assert!(told.try_recv().is_err());
        drop((mine, post));
        assert_eq!(within(told.recv()).await, Some("dropped"));
        joined.at_rest().await;
    });
}

#[test]
fn the_end_of_a_connection_frees_what_was_held_across_it() {
    over_every_medium(async |medium| {
        let (rig, mut told, _gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let counter = within(bench.call().counter()).await.unwrap();
        let (tell, mut mine_told) = mpsc::unbounded_channel();
        within(bench.call().keep(Netref::of(Count::telling("mine", tell))))
            .await
            .unwrap();
        within(joined.client.close()).await;
        assert_eq!(within(told.recv()).await, Some("dropped"));
        assert_eq!(within(mine_told.recv()).await, Some("dropped"));
        assert!(within(counter.call().next()).await.is_err());
        drop((counter, bench));
    });
}

#[test]
fn destructors_may_panic_and_may_call_the_peer() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Post>(medium, Office::default()).await;
        let post: Netref<dyn Post> = joined.root().await;
        let count = Arc::new(Count::default());
        let mine: Ref = Netref::share(&count);
        for how in [
            Dropping::Panic,
            Dropping::Call(mine.clone()),
            Dropping::CallBlocking(mine.clone()),
        ] {
            let short_lived = within(post.call().dropping(how)).await.unwrap();
            assert_eq!(within(short_lived.call().name()).await.unwrap(), "short-lived");
            drop(short_lived);
        }
        let called = async {
            while count.seen() < 2 {
                joined.client.ping().await.unwrap();
            }
        };
        within(called).await;
        assert_eq!(within(post.call().count_blocking(mine.clone())).await.unwrap(), 3);
        drop((mine, post));
        joined.at_rest().await;
    });
}

#[test]
fn clones_are_dropped_on_any_thread_at_any_time() {
    let runtime = runtime();
    let (rig, mut told, _gate) = Rig::new();
    let joined = runtime.block_on(pair::<dyn Bench>("unix", rig));
    let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..20 {
        let counter = runtime.block_on(within(bench.call().counter())).unwrap();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (counter, calls) = (counter.clone(), Arc::clone(&calls));
                std::thread::spawn(move || {
                    let weak = counter.downgrade();
                    calls.fetch_add(counter.bump().unwrap().min(1), Ordering::SeqCst);
                    drop(counter);
                    drop(weak.upgrade());
                })
            })
            .collect();
        drop(counter);
        on_plain_thread(move || threads.into_iter().for_each(|thread| thread.join().unwrap()));
        assert_eq!(runtime.block_on(within(told.recv())), Some("dropped"));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 160);
    drop(bench);
    runtime.block_on(joined.at_rest());
}

#[test]
fn a_hundred_thousand_objects_are_freed_when_they_are_dropped() {
    let runtime = runtime();
    runtime.block_on(async {
        for medium in MEDIA.iter().filter(|medium| !medium.contains("buffer")) {
            let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
            let bench: Netref<dyn Bench> = joined.root().await;
            let holder = within(bench.call().many(100_000)).await.unwrap();
            let host = joined.host().await;
            assert_eq!(
                (host.stats().exports, joined.client.stats().imports),
                (100_000, 100_001)
            );
            assert_eq!(within(holder.counters[77_777].call().next()).await.unwrap(), 1);
            drop(holder);
            joined.at_rest().await;
            assert_eq!(joined.client.stats().imports, 1, "the root alone");
        }
    });
}
