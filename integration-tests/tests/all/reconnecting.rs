//! Roots that come back: what a netref of such a root does when the process at its other end is started anew.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farref::{
    Certainty, Config, Error, ErrorKind, Netref, Reconnect, Reconnecting, Result, Server, Status, connect,
    remote,
};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::relay::Relay;
use tokio::sync::mpsc;

/// A post office, which is started anew now and then.
#[remote]
trait Post {
    async fn deliver(&self, letter: u64) -> Result<u64>;
    fn deliver_blocking(&self, letter: u64) -> Result<u64>;
    /// Takes the letter, and never says so while the office is `slow`.
    async fn take(&self, letter: u64) -> Result<u64>;
    #[idempotent]
    async fn look(&self, letter: u64) -> Result<u64>;
    async fn counter(&self) -> Result<Netref<dyn Desk>>;
    fn call_back(&self, to: Netref<dyn Desk>, letter: u64) -> Result<u64>;
    async fn keep(&self, post: Netref<dyn Post>) -> Result<()>;
    async fn through_kept(&self, letter: u64) -> Result<u64>;
}

#[remote]
trait Desk {
    async fn hand_in(&self, letter: u64) -> Result<u64>;
    fn stamp(&self, letter: u64) -> Result<u64>;
}

struct Office {
    number: u64,
    is_slow: bool,
    letters: Arc<Mutex<Vec<u64>>>,
    took: mpsc::UnboundedSender<u64>,
    kept: Mutex<Option<Netref<dyn Post>>>,
}

impl Office {
    fn note(&self, letter: u64) -> Result<u64> {
        self.letters.lock().unwrap().push(letter);
        let _ = self.took.send(letter);
        Ok(self.number * 1000 + letter)
    }

    async fn slowly(&self, letter: u64) -> Result<u64> {
        let done = self.note(letter);
        if self.is_slow {
            std::future::pending::<()>().await;
        }
        done
    }
}

#[remote]
impl Post for Office {
    async fn deliver(&self, letter: u64) -> Result<u64> {
        self.note(letter)
    }

    fn deliver_blocking(&self, letter: u64) -> Result<u64> {
        self.note(letter)
    }

    async fn take(&self, letter: u64) -> Result<u64> {
        self.slowly(letter).await
    }

    async fn look(&self, letter: u64) -> Result<u64> {
        self.slowly(letter).await
    }

    async fn counter(&self) -> Result<Netref<dyn Desk>> {
        Ok(Netref::of(Counters(Arc::clone(&self.letters))))
    }

    fn call_back(&self, to: Netref<dyn Desk>, letter: u64) -> Result<u64> {
        to.stamp(letter)
    }

    async fn keep(&self, post: Netref<dyn Post>) -> Result<()> {
        *self.kept.lock().unwrap() = Some(post);
        Ok(())
    }

    async fn through_kept(&self, letter: u64) -> Result<u64> {
        let post = self.kept.lock().unwrap().clone();
        post.ok_or_else(|| Error::msg("none is kept"))?
            .call()
            .deliver(letter)
            .await
    }
}

struct Counters(Arc<Mutex<Vec<u64>>>);

#[remote]
impl Desk for Counters {
    async fn hand_in(&self, letter: u64) -> Result<u64> {
        self.0.lock().unwrap().push(letter);
        Ok(letter)
    }

    fn stamp(&self, letter: u64) -> Result<u64> {
        self.0.lock().unwrap().push(letter);
        Ok(letter + 1)
    }
}

/// A town with a post office, of which there is one after the other.
struct Town {
    address: String,
    letters: Vec<Arc<Mutex<Vec<u64>>>>,
    took: mpsc::UnboundedReceiver<u64>,
    tell: mpsc::UnboundedSender<u64>,
    server: Option<Server>,
}

impl Town {
    fn new() -> Self {
        static TOWNS: AtomicU64 = AtomicU64::new(0);
        let (tell, took) = mpsc::unbounded_channel();
        Self {
            address: format!("mem:reconnecting-{}", TOWNS.fetch_add(1, Ordering::Relaxed)),
            letters: Vec::new(),
            took,
            tell,
            server: None,
        }
    }

    async fn open(&mut self, is_slow: bool) {
        let letters = Arc::<Mutex<Vec<u64>>>::default();
        let office = Office {
            number: self.letters.len() as u64,
            is_slow,
            letters: Arc::clone(&letters),
            took: self.tell.clone(),
            kept: Mutex::default(),
        };
        self.letters.push(letters);
        let server = Server::of::<dyn Post>(office);
        server.listen(self.address.as_str()).await.unwrap();
        self.server = Some(server);
    }

    /// Nobody is let in any more, and whoever is in is put out.
    async fn close(&mut self) {
        self.server.take().unwrap().shutdown(Duration::ZERO).await;
    }

    fn delivered(&self, office: usize) -> Vec<u64> {
        self.letters[office].lock().unwrap().clone()
    }
}

/// A town with its first office, somebody who has dialled to it, and the root that was found there.
async fn joined() -> (Town, Reconnecting, Netref<dyn Post>) {
    joined_with(false, Reconnect::default(), Config::default()).await
}

async fn joined_with(
    is_slow: bool,
    policy: Reconnect,
    config: Config,
) -> (Town, Reconnecting, Netref<dyn Post>) {
    let mut town = Town::new();
    town.open(is_slow).await;
    let connect = connect(town.address.as_str()).config(config);
    let peer = within(connect.reconnecting(policy)).await.unwrap();
    let post = peer.root().unwrap();
    (town, peer, post)
}

async fn until_down(peer: &Reconnecting) {
    let mut watch = peer.watch();
    while !matches!(within(watch.next()).await, Status::Down(_)) {}
}

#[test]
fn a_root_comes_back_and_what_else_was_held_does_not() {
    runtime().block_on(async {
        let (mut town, peer, post) = joined().await;
        assert_eq!(within(post.call().deliver(1)).await.unwrap(), 1);
        let counter = within(post.call().counter()).await.unwrap();
        town.close().await;
        town.open(false).await;
        assert_eq!(within(post.call().deliver(2)).await.unwrap(), 1002);
        assert_eq!(peer.connections(), 2);
        let error = within(counter.call().hand_in(3)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::NotSent), "{error}");
        assert_eq!((town.delivered(0), town.delivered(1)), (vec![1], vec![2]));
    });
}

#[test]
fn a_carrier_that_is_lost_is_told_of_and_is_no_new_connection() {
    runtime().block_on(async {
        let (town, _, _) = joined().await;
        let server = town.server.as_ref().unwrap();
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let to: std::net::SocketAddr = address.to_string().split_once("://").unwrap().1.parse().unwrap();
        let relay = Relay::new(to).await;
        let connect = connect(format!("plain+tcp://{}", relay.address));
        let peer = within(connect.reconnecting(Reconnect::default())).await.unwrap();
        let post: Netref<dyn Post> = peer.root().unwrap();
        relay.lead_to("127.0.0.1:1".parse().unwrap()); // nothing answers there
        relay.cut_after(0);
        let delivered = post.call().deliver(1).start(); // finds the cut
        until_down(&peer).await;
        relay.lead_to(to);
        assert_eq!(within(delivered).await.unwrap(), 1);
        let mut watch = peer.watch();
        while within(watch.next()).await != Status::Up {}
        assert_eq!(peer.connections(), 1);
    });
}

#[test]
fn calls_wait_for_the_peer_and_come_in_their_order_each_once() {
    runtime().block_on(async {
        let (mut town, peer, post) = joined().await;
        town.close().await;
        until_down(&peer).await;
        let mut calls = Vec::new();
        for letter in (0..30).step_by(3) {
            calls.push(post.call().deliver(letter).start());
            let counter = post.call().counter();
            calls.push(counter.pipe().hand_in(letter + 1).start());
            drop(counter); // what it returns is still called on
            let given_up = post.call().deliver(99).start();
            calls.push(post.call().deliver(letter + 2).start());
            drop(given_up);
        }
        town.open(false).await;
        for call in calls {
            within(call).await.unwrap();
        }
        // Each object gets its own in order; between the office and its counters there is none.
        let (counters, office): (Vec<u64>, Vec<u64>) = town.delivered(1).iter().partition(|n| **n % 3 == 1);
        assert!(counters.iter().copied().eq((1..30).step_by(3)), "{counters:?}");
        assert!(
            office.iter().copied().eq((0..30).filter(|n| n % 3 != 1)),
            "{office:?}"
        );
        assert_eq!(peer.connections(), 2);
    });
}

#[test]
fn a_call_that_may_have_run_is_made_again_only_if_that_does_no_harm() {
    runtime().block_on(async {
        let (mut town, _peer, post) = joined_with(true, Reconnect::default(), Config::default()).await;
        let took = post.call().take(1).start();
        let looked = post.call().look(2).start();
        assert_eq!(within(town.took.recv()).await, Some(1));
        assert_eq!(within(town.took.recv()).await, Some(2));
        town.close().await;
        town.open(false).await;
        let error = within(took).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Unknown), "{error}");
        assert_eq!(within(looked).await.unwrap(), 1002);
        assert_eq!((town.delivered(0), town.delivered(1)), (vec![1, 2], vec![2]));
    });
}

#[test]
fn a_call_is_not_said_to_be_unsent_that_an_earlier_attempt_may_have_run() {
    runtime().block_on(async {
        let policy = Reconnect::give_up_after(Duration::from_millis(50));
        let (mut town, _peer, post) = joined_with(true, policy, Config::default()).await;
        let looked = post.call().look(1).start();
        assert_eq!(within(town.took.recv()).await, Some(1));
        town.close().await;
        let error = within(looked).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::Unknown), "{error}");
    });
}

#[test]
fn deadlines_run_while_there_is_no_connection() {
    runtime().block_on(async {
        let (mut town, peer, post) = joined().await;
        town.close().await;
        until_down(&peer).await;
        let late = post.call().deliver(1).timeout(Duration::from_millis(30));
        let error = within(late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        town.open(false).await;
        assert_eq!(within(post.call().deliver(2)).await.unwrap(), 1002);
        assert_eq!(town.delivered(1), [2]);
    });
}

#[test]
fn what_waits_is_bounded_in_time_and_number() {
    runtime().block_on(async {
        let mut config = Config::default();
        config.call_timeout = Some(Duration::from_millis(30));
        config.max_calls = 2;
        let (mut town, peer, post) = joined_with(false, Reconnect::default(), config).await;
        town.close().await;
        until_down(&peer).await;
        let error = within(post.call().deliver(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        let hour = Duration::from_secs(3600);
        let waiting = [2, 3].map(|letter| post.call().deliver(letter).timeout(hour).start());
        let error = within(post.call().deliver(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        town.open(false).await;
        for call in waiting {
            within(call).await.unwrap();
        }
        assert_eq!(town.delivered(1), [2, 3]);
    });
}

#[test]
fn it_gives_up_in_its_time_and_says_why() {
    runtime().block_on(async {
        let policy = Reconnect::give_up_after(Duration::from_secs(1));
        let (mut town, peer, post) = joined_with(false, policy, Config::default()).await;
        town.close().await;
        let error = within(post.call().deliver(1)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::NotSent), "{error}");
        let mut watch = peer.watch();
        let why = loop {
            if let Status::Over(why) = within(watch.next()).await {
                break why.to_string();
            }
        };
        assert!(
            why.contains("no connection for 1s") && why.contains("the last attempt"),
            "{why}"
        );
        let error = within(post.call().deliver(2)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::NotSent), "{error}");
    });
}

#[test]
fn calls_that_must_not_wait_fail_while_there_is_no_connection() {
    runtime().block_on(async {
        let mut config = Config::default();
        config.wait_while_down = false;
        let (mut town, peer, post) = joined_with(false, Reconnect::default(), config).await;
        town.close().await;
        until_down(&peer).await;
        let error = within(post.call().deliver(1)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::NotSent), "{error}");
        town.open(false).await;
        let mut watch = peer.watch();
        while within(watch.next()).await != Status::Up {}
        assert_eq!(within(post.call().deliver(2)).await.unwrap(), 1002);
    });
}

#[test]
fn threads_wait_too_and_run_the_callbacks_of_their_calls() {
    let runtime = runtime();
    let (mut town, peer, post) = runtime.block_on(joined());
    runtime.block_on(async {
        town.close().await;
        until_down(&peer).await;
    });
    let stamps = Arc::<Mutex<Vec<u64>>>::default();
    let waiting = {
        let (post, stamps) = (post.clone(), Arc::clone(&stamps));
        std::thread::spawn(move || {
            assert_eq!(post.deliver_blocking(1)?, 1001);
            assert_eq!(post.call().deliver(2).start().wait()?, 1002);
            post.call_back(Netref::of(Counters(stamps)), 3)
        })
    };
    runtime.block_on(town.open(false));
    assert_eq!(waiting.join().unwrap().unwrap(), 4);
    assert_eq!(*stamps.lock().unwrap(), [3]);
    assert_eq!(town.delivered(1), [1, 2]);
}

#[test]
fn it_is_closed_when_nobody_holds_anything_of_it() {
    runtime().block_on(async {
        let (town, peer, post) = joined().await;
        drop(peer);
        assert_eq!(within(post.call().deliver(1)).await.unwrap(), 1);
        drop(post);
        let server = town.server.as_ref().unwrap();
        within(server.wait_for(|stats| stats.connections == 0)).await;
        assert_eq!(server.stats().accepted, 1, "nobody came back");
    });
}

/// It would wait for ever: nothing happens to a root any more that nobody holds.
#[test]
fn whoever_waits_for_its_loss_is_told_when_nobody_holds_it() {
    runtime().block_on(async {
        let (_town, peer, post) = joined().await;
        let mut lost = std::pin::pin!(post.lost());
        tokio::select! {
            biased;
            why = &mut lost => panic!("lost already: {why}"),
            () = std::future::ready(()) => {}
        }
        drop((peer, post));
        let why = within(lost).await;
        assert_eq!(why.certainty(), Some(Certainty::NotSent), "{why}");
    });
}

#[test]
fn a_close_is_for_good() {
    runtime().block_on(async {
        let (town, peer, post) = joined().await;
        within(peer.close()).await;
        let error = within(post.call().deliver(1)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(Certainty::NotSent), "{error}");
        assert!(matches!(peer.status(), Status::Over(_)));
        let server = town.server.as_ref().unwrap();
        within(server.wait_for(|stats| stats.connections == 0)).await;
        assert_eq!(server.stats().accepted, 1, "nobody came back");
    });
}

#[test]
fn it_goes_home_as_the_root_that_it_is_now_and_to_others_as_a_relay_that_lasts() {
    runtime().block_on(async {
        let (mut town, peer, post) = joined().await;
        let (_other, _, elsewhere) = joined().await;
        within(elsewhere.call().keep(post.clone())).await.unwrap();
        for office in 0..2 {
            within(post.call().keep(post.clone())).await.unwrap();
            let stats = peer.connection().stats();
            assert_eq!(stats.exports, 0, "it went as a relay to its own home: {stats:?}");
            assert_eq!(
                within(post.call().through_kept(1)).await.unwrap(),
                office * 1000 + 1
            );
            assert_eq!(
                within(elsewhere.call().through_kept(2)).await.unwrap(),
                office * 1000 + 2
            );
            if office == 0 {
                town.close().await;
                town.open(false).await;
            }
        }
    });
}

#[test]
fn a_peer_with_another_root_is_not_taken_for_it() {
    runtime().block_on(async {
        let policy = Reconnect::give_up_after(Duration::from_secs(1));
        let (mut town, peer, post) = joined_with(false, policy, Config::default()).await;
        assert_eq!(
            peer.root::<dyn Bench>().unwrap_err().kind(),
            ErrorKind::Incompatible
        );
        town.close().await;
        let bench = Server::of::<dyn Bench>(Rig::new().0);
        within(bench.listen(town.address.as_str())).await.unwrap();
        let error = within(post.call().deliver(1)).await.unwrap_err();
        assert!(error.to_string().contains("another interface"), "{error}");
    });
}

#[test]
fn callers_from_many_tasks_lose_nothing_while_the_peer_is_started_anew_again_and_again() {
    runtime().block_on(async {
        let (mut town, _peer, post) = joined().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..8_u64 {
            let (post, is_over) = (post.clone(), Arc::clone(&is_over));
            callers.spawn(async move {
                let (mut letter, mut unknown) = (caller << 32, Vec::new());
                loop {
                    match post.call().deliver(letter).await {
                        Ok(_) => {}
                        Err(error) if error.certainty() == Some(Certainty::Unknown) => unknown.push(letter),
                        Err(error) => panic!("{error}"),
                    }
                    letter += 1;
                    if is_over.load(Ordering::SeqCst) {
                        return (caller << 32, letter, unknown);
                    }
                }
            });
        }
        for _ in 0..4 {
            for _ in 0..200 {
                within(town.took.recv()).await.unwrap();
            }
            town.close().await;
            while town.took.try_recv().is_ok() {}
            town.open(false).await;
        }
        is_over.store(true, Ordering::SeqCst);
        while let Some(done) = within(callers.join_next()).await {
            let (first, end, unknown) = done.unwrap();
            let all: Vec<u64> = (0..town.letters.len())
                .flat_map(|office| town.delivered(office))
                .filter(|letter| (first..end).contains(letter))
                .collect();
            let places: Vec<(usize, u64)> = (0..town.letters.len())
                .flat_map(|office| {
                    town.delivered(office)
                        .into_iter()
                        .map(move |letter| (office, letter))
                })
                .filter(|(_, letter)| (first..end).contains(letter))
                .collect();
            let wrong = places.windows(2).find(|pair| pair[0].1 >= pair[1].1);
            assert!(
                wrong.is_none(),
                "repeated or overtaken: {wrong:?}, unknown {unknown:?}"
            );
            let missing = (first..end).filter(|letter| all.binary_search(letter).is_err());
            for letter in missing {
                assert!(unknown.contains(&letter), "{letter} was lost");
            }
        }
    });
}
