//! When a session ends for good, every call that was under way is told the truth: what is said not to have run is not
//! in the ledger of the serving side.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farref::transport::{Address, Media};
use farref::{
    Call, Certainty, Config, Connection, Fixed, Netref, Result, Server, ServerLimits, Status, connect, remote,
};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::relay::Relay;
use farref_integration_tests::rough::Random;
use tokio::sync::watch;

/// Writes numbers down.
#[remote]
trait Ledger {
    async fn enter(&self, number: u32, ballast: Bytes) -> Result<()>;
    /// Enters the number, and never returns.
    async fn enter_for_ever(&self, number: u32) -> Result<()>;
}

/// What was written: outlives the server, as a file does.
#[derive(Clone, Default)]
struct Book {
    entries: Arc<Mutex<Vec<u32>>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Book {
    fn write(&self, number: u32) {
        let mut entries = self.entries.lock().unwrap();
        entries.push(number);
        self.count.send_replace(entries.len());
    }

    async fn holds(&self, count: usize) {
        let mut changes = self.count.subscribe();
        within(changes.wait_for(|entries| *entries >= count))
            .await
            .unwrap();
    }

    fn times(&self, number: u32) -> usize {
        let entries = self.entries.lock().unwrap();
        entries.iter().filter(|entry| **entry == number).count()
    }
}

#[remote]
impl Ledger for Book {
    async fn enter(&self, number: u32, _ballast: Bytes) -> Result<()> {
        self.write(number);
        Ok(())
    }

    async fn enter_for_ever(&self, number: u32) -> Result<()> {
        self.write(number);
        std::future::pending().await
    }
}

/// A server behind a wire that breaks.
struct House {
    book: Book,
    server: Server,
    address: SocketAddr,
    relay: Relay,
}

impl House {
    /// `window` is how long the server keeps a session without a carrier.
    async fn new(window: Duration) -> Self {
        let book = Book::default();
        let (server, address) = serve(&book, window).await;
        Self {
            relay: Relay::new(address).await,
            book,
            server,
            address,
        }
    }

    async fn client(&self) -> (Connection, Netref<dyn Ledger>) {
        let address = format!("plain+tcp://{}", self.relay.address);
        let client = within(connect(address).into_future()).await.unwrap();
        let ledger = within(client.root()).await.unwrap();
        (client, ledger)
    }
}

async fn serve(book: &Book, window: Duration) -> (Server, SocketAddr) {
    let mut config = Config::default();
    config.limits.resume_window = window;
    let root = Fixed::new::<dyn Ledger>(book.clone());
    let server = Server::with(root, config, ServerLimits::default(), Media::standard());
    let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
    (server, socket(&address))
}

fn socket(address: &Address) -> SocketAddr {
    let text = address.to_string();
    text.split_once("://").unwrap().1.parse().unwrap()
}

/// What a call says of itself when the session is over: none, if it has returned.
async fn certainty(call: Call<Result<()>>) -> Option<Certainty> {
    let error = within(call).await.err()?;
    Some(error.certainty().unwrap_or_else(|| panic!("{error}")))
}

/// Calls with these numbers, of which the client has written every byte.
async fn written(
    client: &Connection,
    ledger: &Netref<dyn Ledger>,
    numbers: std::ops::RangeInclusive<u32>,
) -> Vec<Call<Result<()>>> {
    const BALLAST: usize = 1000;
    let sent = || client.stats().traffic.bytes_sent;
    let before = sent();
    let enter = |number| ledger.call().enter(number, vec![0; BALLAST].into()).start();
    let calls: Vec<_> = numbers.map(enter).collect();
    let all = (calls.len() * BALLAST) as u64;
    let going = async {
        while sent() < before + all {
            tokio::task::yield_now().await;
        }
    };
    within(going).await;
    calls
}

/// The server's side of the only connection.
async fn host(server: &Server) -> Connection {
    within(server.wait_for(|stats| stats.connections > 0)).await;
    server.connections().pop().unwrap()
}

/// A port at which nobody listens, and nobody else will.
fn nobody() -> tokio::net::TcpSocket {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

async fn lost(client: &Connection) {
    let mut watch = client.watch();
    while within(watch.next()).await == Status::Up {}
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn calls_that_came_after_the_time_of_the_session_are_known_not_to_have_run() {
    runtime().block_on(async {
        let house = House::new(Duration::from_millis(100)).await;
        let (client, ledger) = house.client().await;
        within(ledger.call().enter(1, Bytes::new())).await.unwrap();
        let running = ledger.call().enter_for_ever(2).start();
        house.book.holds(2).await;
        host(&house.server).await;
        // The server alone notices that the carrier is gone, and waits in vain.
        house.relay.cut_far();
        within(house.server.wait_for(|stats| stats.connections == 0)).await;
        let calls = written(&client, &ledger, 3..=6).await;
        house.relay.cut_now();
        assert_eq!(certainty(running).await, Some(Certainty::Unknown));
        for call in calls {
            assert_eq!(certainty(call).await, Some(Certainty::NotExecuted));
        }
        let why = within(client.closed()).await.to_string();
        assert!(why.contains("not resumed in time"), "{why}");
        let late = ledger.call().enter(7, Bytes::new()).start();
        assert_eq!(certainty(late).await, Some(Certainty::NotSent));
        assert_eq!(*house.book.entries.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn calls_that_came_after_the_other_side_had_closed_are_known_not_to_have_run() {
    runtime().block_on(async {
        let house = House::new(LONG).await;
        let (client, ledger) = house.client().await;
        let running = ledger.call().enter_for_ever(1).start();
        house.book.holds(1).await;
        house.relay.cut_far();
        let host = host(&house.server).await;
        lost(&host).await;
        let calls = written(&client, &ledger, 2..=5).await;
        // There is nobody to tell, until the dialer comes back.
        within(host.close()).await;
        within(house.server.wait_for(|stats| stats.connections == 0)).await;
        house.relay.cut_now();
        assert_eq!(certainty(running).await, Some(Certainty::Unknown));
        for call in calls {
            assert_eq!(certainty(call).await, Some(Certainty::NotExecuted));
        }
        assert_eq!(*house.book.entries.lock().unwrap(), [1]);
    });
}

#[test]
fn a_close_on_the_other_side_tells_which_calls_were_never_sent() {
    runtime().block_on(async {
        let house = House::new(LONG).await;
        let (client, ledger) = house.client().await;
        let running = ledger.call().enter_for_ever(1).start();
        house.book.holds(1).await;
        let host = host(&house.server).await;
        within(host.close()).await;
        assert_eq!(certainty(running).await, Some(Certainty::Unknown));
        within(client.closed()).await;
        let late = ledger.call().enter(2, Bytes::new()).start();
        assert_eq!(certainty(late).await, Some(Certainty::NotSent));
        assert_eq!(*house.book.entries.lock().unwrap(), [1]);
    });
}

#[test]
fn a_peer_that_started_anew_leaves_unknown_what_was_sent_and_nothing_else() {
    runtime().block_on(async {
        let house = House::new(LONG).await;
        let (client, ledger) = house.client().await;
        let running = ledger.call().enter_for_ever(1).start();
        house.book.holds(1).await;
        let House {
            book, server, relay, ..
        } = house;
        host(&server).await;
        // Nobody is there for now.
        let nobody = nobody();
        relay.lead_to(nobody.local_addr().unwrap());
        relay.cut_far();
        let sent = written(&client, &ledger, 2..=3).await;
        relay.cut_now();
        lost(&client).await;
        let waiting: Vec<_> = (4..=6)
            .map(|number| ledger.call().enter(number, Bytes::new()).start())
            .collect();
        drop(server);
        let (_server, address) = serve(&book, LONG).await;
        relay.lead_to(address);
        assert_eq!(certainty(running).await, Some(Certainty::Unknown));
        for call in sent {
            assert_eq!(certainty(call).await, Some(Certainty::Unknown));
        }
        for call in waiting {
            assert_eq!(certainty(call).await, Some(Certainty::NotSent));
        }
        let why = within(client.closed()).await.to_string();
        assert!(why.contains("does not know the session"), "{why}");
        assert_eq!(*book.entries.lock().unwrap(), [1]);
    });
}

#[test]
fn at_whatever_byte_a_session_ends_what_is_said_not_to_have_run_has_not() {
    let value = std::env::var("FARREF_STRESS_SEED").ok();
    let seed = value.and_then(|value| value.parse().ok()).unwrap_or(42);
    println!("FARREF_STRESS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut told = [0_usize; 4];
    for round in 0..60 {
        let bytes = random.below(40_000) as u32;
        for (told, count) in told.iter_mut().zip(runtime().block_on(one_end(round, bytes))) {
            *told += count;
        }
    }
    let [returned, not_sent, not_executed, unknown] = told;
    println!("{returned} returned; {not_sent} not sent, {not_executed} not executed, {unknown} unknown");
    assert!(told.iter().all(|count| *count > 0), "{told:?}");
}

/// Calls, of which some have come when the session ends at that byte; how many returned, were not sent, were not
/// executed, and do not know.
async fn one_end(round: u32, bytes: u32) -> [usize; 4] {
    const CALLS: u32 = 150;
    let House {
        book,
        server,
        address: there,
        relay,
    } = House::new(Duration::from_millis(20)).await;
    let address = format!("plain+tcp://{}", relay.address);
    let client = within(connect(address).into_future()).await.unwrap();
    let ledger: Netref<dyn Ledger> = within(client.root()).await.unwrap();
    let (nobody, host) = (nobody(), host(&server).await);
    relay.lead_to(nobody.local_addr().unwrap());
    relay.cut_after(bytes);
    let cutting = async {
        lost(&host).await;
        match round % 3 {
            // Its time is over before the dialer is there.
            0 => drop(within(host.closed()).await),
            // It was closed while there was no carrier, or just before.
            1 => within(host.close()).await,
            _ => return Some(serve(&book, LONG).await),
        }
        None
    };
    let calling = async {
        let mut calls = Vec::new();
        for number in 1..=CALLS {
            let ballast = vec![0; if number % 7 == 0 { 2_000 } else { 40 }];
            calls.push(ledger.call().enter(number, ballast.into()).start());
            if number % 5 == 0 {
                tokio::task::yield_now().await;
            }
        }
        calls
    };
    let (another, calls) = tokio::join!(within(cutting), calling);
    match another {
        Some((other, address)) => {
            relay.lead_to(address);
            drop(server);
            within(client.closed()).await;
            drop(other);
        }
        None => {
            within(server.wait_for(|stats| stats.connections == 0)).await;
            relay.lead_to(there);
            within(client.closed()).await;
        }
    }
    let late = ledger.call().enter(CALLS + 1, Bytes::new()).start();
    let mut told = [0; 4];
    for (call, number) in calls.into_iter().chain([late]).zip(1..) {
        let certainty = certainty(call).await;
        let times = book.times(number);
        let (place, may) = match certainty {
            None => (0, times == 1),
            Some(Certainty::NotSent) => (1, times == 0),
            Some(Certainty::NotExecuted) => (2, times == 0),
            Some(_) => (3, times <= 1),
        };
        assert!(may, "call {number} says {certainty:?}, and has run {times} times");
        told[place] += 1;
    }
    told
}
