//! Relays: an object of one peer that another one hands to a third works there, in order, and comes home as itself.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref::transport::Media;
use farref::{
    Certainty, Config, Error, ErrorKind, Fixed, Netref, Result, Server, ServerLimits, connect, remote,
};
use farref_integration_tests::bench::{Bench, Count, Counter, Fault, Named, Rig, Trouble};
use farref_integration_tests::media::{Pair, on_plain_thread, pair, pair_of, pair_with, runtime, within};
use tokio::sync::{mpsc, watch};

/// Two far peers, and this test between them.
struct Between {
    left: Pair,
    right: Pair,
    a: Netref<dyn Bench>,
    b: Netref<dyn Bench>,
    a_tells: mpsc::UnboundedReceiver<&'static str>,
}

async fn between() -> Between {
    let ((left, a_tells, _), right) = (Rig::new(), Rig::new().0);
    let (left, right) = (
        pair::<dyn Bench>("unix", left).await,
        pair::<dyn Bench>("mem?mux=1", right).await,
    );
    let (a, b) = (left.root().await, right.root().await);
    Between {
        left,
        right,
        a,
        b,
        a_tells,
    }
}

impl Between {
    async fn at_rest(self) {
        drop((self.a, self.b));
        self.left.at_rest().await;
        self.right.at_rest().await;
    }
}

#[test]
fn a_third_party_calls_through_us_in_every_way() {
    let runtime = runtime();
    let mut between = runtime.block_on(between());
    runtime.block_on(async {
        let Between { a, b, a_tells, .. } = &mut between;
        let counter = within(a.call().counter()).await.unwrap();
        assert_eq!(within(b.call().call_back(counter.clone(), 3)).await.unwrap(), 3);
        assert_eq!(
            within(b.call().call_back_blocking(counter.clone(), 3))
                .await
                .unwrap(),
            6
        );
        assert_eq!(
            within(b.call().call_back_inside(counter.clone())).await.unwrap(),
            7
        );
        // Large arguments and results, both ways.
        let whole = Bytes::from(vec![7; 3 << 20]);
        let relayed: Netref<dyn Relayed> = Netref::of(Middle(a.clone()));
        assert!(within(relayed.call().through(whole.clone())).await.unwrap() == whole);
        // A supertrait alone is handed on as that.
        let named: Netref<dyn Named> = counter.upcast();
        assert!(named.same_object(&counter));
        within(b.call().keep(counter.clone())).await.unwrap();
        let back = within(b.call().kept()).await.unwrap().unwrap();
        assert!(
            back.same_object(&counter) && !back.is_local(),
            "it comes back as what it was here"
        );
        assert!(
            within(a.call().is_local(back.clone())).await.unwrap(),
            "and goes home as itself"
        );
        drop((back, named, counter));
        assert!(a_tells.try_recv().is_err(), "the third party still holds it");
        within(b.call().forget()).await.unwrap();
        assert_eq!(
            within(a_tells.recv()).await,
            Some("dropped"),
            "across both connections"
        );
        // On a thread that waits.
        let (a, b) = (a.clone(), b.clone());
        on_plain_thread(move || {
            let counter = a.blocking().counter().unwrap();
            assert_eq!(b.call_back_blocking(counter, 5).unwrap(), 5);
        });
    });
    runtime.block_on(between.at_rest());
}

/// Passes bytes on.
#[remote]
trait Relayed {
    async fn through(&self, bytes: Bytes) -> Result<Bytes>;
}

struct Middle(Netref<dyn Bench>);

#[remote]
impl Relayed for Middle {
    async fn through(&self, bytes: Bytes) -> Result<Bytes> {
        self.0.call().bytes(bytes).await
    }
}

#[test]
fn a_root_may_be_an_object_of_somebody_else() {
    let runtime = runtime();
    runtime.block_on(async {
        let (rig, mut tells, _gate) = Rig::new();
        let first = pair::<dyn Bench>("unix", rig).await;
        let bench: Netref<dyn Bench> = first.root().await;
        let mut chain = vec![first];
        // Five processes in a row, each showing what it got from the one before.
        let mut shown = bench;
        for _ in 0..4 {
            let next = pair_with("mem", Server::of::<dyn Bench>(shown)).await.unwrap();
            shown = next.root().await;
            chain.push(next);
        }
        assert_eq!(within(shown.call().add(20, 22)).await.unwrap(), 42);
        assert!(
            within(shown.call().bytes(vec![1; 1 << 20].into()))
                .await
                .unwrap()
                .len()
                == 1 << 20
        );
        let mine = Arc::new(Count::default());
        assert_eq!(
            within(shown.call().call_back(Netref::share(&mine), 5))
                .await
                .unwrap(),
            5
        );
        assert_eq!(
            within(shown.call().call_back_blocking(Netref::share(&mine), 5))
                .await
                .unwrap(),
            10
        );
        let fault = within(shown.call().fail(Trouble::Fire)).await.unwrap_err();
        assert_eq!(
            fault,
            Fault::Trouble(Trouble::Fire),
            "the user's own error crosses unread"
        );
        let error = within(shown.call().panic()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked, "{error:?}");
        // Pipes, weak handles and identity, five connections away.
        let opening = shown.call().counter();
        let first_of = opening.pipe().next().start();
        assert_eq!(within(first_of).await.unwrap(), 1);
        let counter = within(opening).await.unwrap();
        assert_eq!(within(counter.call().next()).await.unwrap(), 2);
        assert!(
            within(shown.call().is_local(counter.clone())).await.unwrap(),
            "home is five connections away"
        );
        drop(counter);
        assert_eq!(within(tells.recv()).await, Some("dropped"));
        // Giving up reaches all the way.
        let waiting = shown.call().wait_for_ever(Netref::share(&mine)).start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        drop(waiting);
        assert_eq!(within(tells.recv()).await, Some("cancelled"));
        let blocked = shown.call().wait_blocking().start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        drop(blocked);
        assert_eq!(within(tells.recv()).await, Some("cancelled"));
        let left = within(shown.call().time_left().timeout(Duration::from_secs(60)))
            .await
            .unwrap()
            .unwrap();
        assert!(left < 60_000);
        let late = shown
            .call()
            .wait_for_ever(Netref::share(&mine))
            .timeout(Duration::from_millis(50));
        assert_eq!(within(late).await.unwrap_err().kind(), ErrorKind::Deadline);
        drop(shown);
        for pair in chain.into_iter().rev() {
            pair.at_rest().await;
        }
        assert_eq!(Arc::strong_count(&mine), 1);
    });
}

#[test]
fn a_relay_whose_host_is_gone_says_so() {
    let runtime = runtime();
    runtime.block_on(async {
        let Between {
            left,
            right,
            a,
            b,
            mut a_tells,
        } = between().await;
        let counter = within(a.call().counter()).await.unwrap();
        within(b.call().keep(counter.clone())).await.unwrap();
        // A call is under way on it when its host vanishes, and one is made afterwards.
        let under_way = b.call().wait_through(a.clone()).start();
        assert_eq!(within(a_tells.recv()).await, Some("waiting"));
        drop(left);
        let error = within(under_way).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Remote,
            "what b says, its own call to a is lost: {error:?}"
        );
        let error = within(b.call().call_back(counter, 1)).await.unwrap_err();
        assert!(
            !matches!(error.kind(), ErrorKind::Disconnected(_)),
            "we are still connected to b: {error:?}"
        );
        assert_eq!(within(b.call().add(1, 1)).await.unwrap(), 2);
        within(b.call().forget()).await.unwrap();
        drop((a, b));
        right.at_rest().await;
    });
}

#[test]
fn a_call_on_a_relayed_object_that_was_not_sent_on_was_not_executed() {
    let runtime = runtime();
    runtime.block_on(async {
        let first = pair::<dyn Bench>("unix", Rig::new().0).await;
        let bench: Netref<dyn Bench> = first.root().await;
        let second = pair_with("unix", Server::of::<dyn Bench>(bench)).await.unwrap();
        let shown: Netref<dyn Bench> = second.root().await;
        assert_eq!(within(shown.call().add(1, 1)).await.unwrap(), 2);
        let middle = first.client.clone();
        drop(first.server);
        within(middle.closed()).await;
        let error = within(shown.call().add(1, 1)).await.unwrap_err();
        // The relay proves that it did not run.
        assert_eq!(
            error.kind(),
            ErrorKind::Disconnected(Certainty::NotExecuted),
            "{error:?}"
        );
    });
}

/// Hands out the next one, and asks that one to go on.
#[remote]
trait Ring {
    async fn next(&self) -> Result<Netref<dyn Ring>>;
    async fn go_on(&self) -> Result<u32>;
}

struct Link(watch::Receiver<Option<Netref<dyn Ring>>>);

#[remote]
impl Ring for Link {
    async fn next(&self) -> Result<Netref<dyn Ring>> {
        self.0
            .borrow()
            .clone()
            .ok_or_else(|| Error::msg("the ring is open"))
    }

    async fn go_on(&self) -> Result<u32> {
        let next = self.next().await?;
        next.call().go_on().await
    }
}

/// What is called on a result that leads back to the caller is passed back to it.
struct Around(Netref<dyn Ring>);

#[remote]
impl Ring for Around {
    async fn next(&self) -> Result<Netref<dyn Ring>> {
        self.0.call().next().await
    }

    async fn go_on(&self) -> Result<u32> {
        let next = self.0.call().next();
        let further = next.pipe().go_on();
        further.await
    }
}

#[test]
fn a_call_that_goes_in_circles_ends() {
    let runtime = runtime();
    runtime.block_on(async {
        let (tell, told) = watch::channel(None);
        let joined = pair::<dyn Ring>("unix", Link(told)).await;
        let ring: Netref<dyn Ring> = joined.root().await;
        let around: Netref<dyn Ring> = Netref::of(Around(ring.clone()));
        tell.send_replace(Some(around.clone()));
        for start in [&around, &ring] {
            let error = within(start.call().go_on()).await.unwrap_err();
            assert!(error.to_string().contains("deep"), "{error:?}");
        }
        tell.send_replace(None);
        drop((around, ring));
        joined.at_rest().await;
    });
}

/// Tight limits on every connection of a line of relays, and many calls at once: none waits for ever.
#[test]
fn relays_go_on_at_the_tightest_limits() {
    let runtime = runtime();
    let mut tight = Config::default();
    tight.max_calls = 1;
    tight.max_blocking = 1;
    runtime.block_on(async {
        let first = pair_of::<dyn Bench, dyn Counter>(
            "unix",
            (Rig::new().0, tight.clone()),
            (Count::default(), tight.clone()),
        )
        .await;
        let bench: Netref<dyn Bench> = first.root().await;
        let server = Server::with(
            Fixed::new::<dyn Bench>(bench.clone()),
            tight.clone(),
            ServerLimits::default(),
            Media::standard(),
        );
        let address = within(server.listen("mem:tight-relays")).await.unwrap();
        let client = connect(address)
            .config(tight)
            .serving::<dyn Counter>(Count::default());
        let client = within(client.into_future()).await.unwrap();
        let shown: Netref<dyn Bench> = within(client.root()).await.unwrap();
        let mine = Arc::new(Count::default());
        let tasks: Vec<_> = (0..30)
            .map(|n| {
                let (direct, shown, mine) = (bench.clone(), shown.clone(), Arc::clone(&mine));
                tokio::spawn(async move {
                    let through = if n % 3 == 0 { direct } else { shown };
                    for _ in 0..10 {
                        match n % 2 {
                            0 => drop(through.call().call_back(Netref::share(&mine), 2).await.unwrap()),
                            _ => drop(
                                through
                                    .call()
                                    .call_back_blocking(Netref::share(&mine), 2)
                                    .await
                                    .unwrap(),
                            ),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(mine.seen(), 600);
        drop(shown);
        within(client.close()).await;
        drop((server, bench));
        first.at_rest().await;
    });
}
