//! Carriers that are cut again and again, at random byte positions, under everything that a session carries: an
//! independent ledger on each side tells that no call was lost, none ran twice, and their order held.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farref::keys::{Authorized, Identity, Trust};
use farref::transport::{Address, Media};
use farref::{Config, Connection, Fixed, Netref, Result, Server, ServerLimits, connect, remote};
use farref_integration_tests::brittle::Brittle;
#[cfg(unix)]
use farref_integration_tests::line::{End, Line, LineConfig};
use farref_integration_tests::media::{acquainted, runtime, within};
use farref_integration_tests::relay::Relay;
use farref_integration_tests::rough::Random;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Calls over each of the fast media. `FARREF_STRESS_CALLS` sets another number.
fn calls() -> u64 {
    setting("FARREF_STRESS_CALLS", 3_000)
}

fn seed() -> u64 {
    setting("FARREF_STRESS_SEED", 42)
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Calls between two cuts, about.
const CALLS_PER_CUT: u64 = 100;

#[test]
fn over_tcp_every_call_is_in_the_ledger_once_and_in_order() {
    runtime().block_on(async {
        let (book, server) = office(Config::default());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&address)).await;
        let address = format!("plain+tcp://{}", relay.address);
        let client = within(connect(address).into_future()).await.unwrap();
        storm("tcp", server, client, book, calls(), Blade::Socket(relay)).await;
    });
}

#[test]
fn over_encrypted_tcp_every_call_is_in_the_ledger_once_and_in_order() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let (book, server) = office(Config::default());
        let server = server.trust(at_server);
        let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&address)).await;
        let address = format!("tcp://{}#{}", relay.address, address.peer_key().unwrap());
        let client = within(connect(address).trust(at_client).into_future())
            .await
            .unwrap();
        storm(
            "encrypted tcp",
            server,
            client,
            book,
            calls() / 4,
            Blade::Socket(relay),
        )
        .await;
    });
}

#[cfg(unix)]
#[test]
fn over_a_unix_socket_every_call_is_in_the_ledger_once_and_in_order() {
    runtime().block_on(async {
        let (book, server) = office(Config::default());
        let directory = tempfile::tempdir().unwrap();
        let (near, far) = (directory.path().join("near"), directory.path().join("far"));
        within(server.listen(format!("unix:{}", far.display())))
            .await
            .unwrap();
        let address = format!("unix:{}", near.display());
        let relay = Relay::unix(near, far).await;
        let mut config = Config::default();
        config.resume = Some(true);
        let client = within(connect(address).config(config).into_future())
            .await
            .unwrap();
        storm("unix", server, client, book, calls(), Blade::Unix(relay)).await;
    });
}

#[test]
fn over_quic_every_call_is_in_the_ledger_once_and_in_order() {
    runtime().block_on(async {
        let (listener, dialer) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let authorized = Authorized::keys([dialer.public()]);
        let brittle = Brittle::default();
        let (book, server) = office_over(Config::default(), brittle.media(listener.clone()));
        let server = server.trust(Trust::new(listener).authorizing(authorized));
        let address = within(server.listen("quic://127.0.0.1:0")).await.unwrap();
        let connecting = connect(address)
            .media(brittle.media(dialer.clone()))
            .trust(Trust::new(dialer));
        let client = within(connecting.into_future()).await.unwrap();
        storm("quic", server, client, book, calls(), Blade::Brittle(brittle)).await;
    });
}

/// Nobody is told of a cut: both sides find out by themselves that they hear nothing.
#[test]
fn over_datagrams_that_stop_every_call_is_in_the_ledger_once_and_in_order() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let mut config = Config::default();
        config.limits.idle = Duration::from_millis(60);
        config.limits.silence = Duration::from_millis(240);
        let (book, server) = office(config.clone());
        let server = server.trust(at_server);
        let address = within(server.listen("quic://127.0.0.1:0")).await.unwrap();
        let relay = Relay::udp(socket(&address)).await;
        let address = format!("quic://{}#{}", relay.address, address.peer_key().unwrap());
        let connecting = connect(address).config(config).trust(at_client);
        let client = within(connecting.into_future()).await.unwrap();
        let calls = (calls() / 6).clamp(300, 20_000);
        storm("datagrams", server, client, book, calls, Blade::Datagrams(relay)).await;
    });
}

#[cfg(unix)]
#[test]
fn over_a_noisy_line_every_call_is_in_the_ledger_once_and_in_order() {
    let line = Line::new(LineConfig {
        baud: 4_000_000,
        bit_error_rate: 1e-6,
        drop_rate: 1e-6,
        insert_rate: 1e-6,
        break_rate: 1e-7,
        seed: seed(),
        ..LineConfig::default()
    });
    runtime().block_on(async {
        let (book, server) = office(Config::default());
        let [left, right] = [line.left(), line.right()]
            .map(|port| format!("serial:{}?baud=4000000&window=32&payload=1000", port.display()));
        within(server.listen(left)).await.unwrap();
        let client = within(connect(right).into_future()).await.unwrap();
        let calls = (calls() / 15).clamp(200, 20_000);
        storm("serial", server, client, book, calls, Blade::Line(line)).await;
    });
}

fn socket(address: &Address) -> SocketAddr {
    let text = address.to_string();
    let (_, authority) = text.split_once("://").unwrap();
    authority.split('#').next().unwrap().parse().unwrap()
}

/// What cuts a carrier.
enum Blade {
    Socket(Relay),
    Datagrams(Relay),
    #[cfg(unix)]
    Unix(Relay<std::path::PathBuf>),
    Brittle(Brittle),
    #[cfg(unix)]
    Line(Line),
}

impl Blade {
    /// Cuts when that many bytes more have passed, and waits for that.
    async fn cut(&self, bytes: u32) {
        match self {
            Self::Socket(relay) => relay.cut(bytes).await,
            // Behind the handshake: a dialer who hears nothing then waits for eight seconds.
            Self::Datagrams(relay) => relay.cut(20_000 + bytes).await,
            #[cfg(unix)]
            Self::Unix(relay) => relay.cut(bytes).await,
            Self::Brittle(brittle) => brittle.cut(bytes).await,
            #[cfg(unix)]
            Self::Line(line) => {
                let passed = || line.sent_by(End::Left).sent + line.sent_by(End::Right).sent;
                let until = passed() + u64::from(bytes);
                while passed() < until {
                    tokio::time::sleep(Duration::from_millis(1)).await; // the line tells nobody
                }
                let end = if bytes.is_multiple_of(2) {
                    End::Left
                } else {
                    End::Right
                };
                line.unplug(end);
                line.replug(end);
            }
        }
    }
}

/// Where calls are written down, outside of all that farref keeps: whose, and which.
#[derive(Default)]
struct Book(Mutex<Vec<(u64, u32)>>);

impl Book {
    fn write(&self, lineage: u64, number: u32) {
        self.0.lock().unwrap().push((lineage, number));
    }

    /// What was written by lineage, in order.
    fn by_lineage(&self) -> BTreeMap<u64, Vec<u32>> {
        let mut all = BTreeMap::<u64, Vec<u32>>::new();
        for (lineage, number) in &*self.0.lock().unwrap() {
            all.entry(*lineage).or_default().push(*number);
        }
        all
    }
}

/// Hands out desks.
#[remote]
trait Office {
    async fn desk(&self, lineage: u64) -> Result<Netref<dyn Desk>>;
}

/// Writes one lineage down.
#[remote]
trait Desk {
    async fn enter(&self, number: u32) -> Result<u32>;
    fn enter_on_a_thread(&self, number: u32) -> Result<u32>;
    async fn take(&self, number: u32, bulk: Bytes) -> Result<u32>;
    async fn bring(&self, number: u32, length: u32) -> Result<Bytes>;
    /// Enters `number` here, and `first` and the next there.
    async fn call_back(&self, number: u32, to: Netref<dyn Desk>, first: u32, count: u32) -> Result<u32>;
    fn call_back_on_a_thread(&self, number: u32, to: Netref<dyn Desk>, first: u32, count: u32)
    -> Result<u32>;
    /// Keeps a desk in place of the one before, which it gives back.
    async fn swap(&self, number: u32, other: Netref<dyn Desk>) -> Result<Option<Netref<dyn Desk>>>;
}

struct Offices(Arc<Book>);

#[remote]
impl Office for Offices {
    async fn desk(&self, lineage: u64) -> Result<Netref<dyn Desk>> {
        Ok(Netref::of(Clerk::new(&self.0, lineage)))
    }
}

struct Clerk {
    book: Arc<Book>,
    lineage: u64,
    kept: Mutex<Option<Netref<dyn Desk>>>,
}

impl Clerk {
    fn new(book: &Arc<Book>, lineage: u64) -> Self {
        Self {
            book: Arc::clone(book),
            lineage,
            kept: Mutex::default(),
        }
    }
}

#[remote]
impl Desk for Clerk {
    async fn enter(&self, number: u32) -> Result<u32> {
        self.book.write(self.lineage, number);
        Ok(number)
    }

    fn enter_on_a_thread(&self, number: u32) -> Result<u32> {
        self.book.write(self.lineage, number);
        Ok(number)
    }

    async fn take(&self, number: u32, bulk: Bytes) -> Result<u32> {
        assert!(bulk == bulk_of(number, bulk.len()), "bulk came to harm");
        self.book.write(self.lineage, number);
        Ok(number)
    }

    async fn bring(&self, number: u32, length: u32) -> Result<Bytes> {
        self.book.write(self.lineage, number);
        Ok(bulk_of(number, length as usize))
    }

    async fn call_back(&self, number: u32, to: Netref<dyn Desk>, first: u32, count: u32) -> Result<u32> {
        self.book.write(self.lineage, number);
        let calls: Vec<_> = (first..first + count)
            .map(|number| to.call().enter(number).start())
            .collect();
        for (call, number) in calls.into_iter().zip(first..) {
            assert_eq!(call.await?, number);
        }
        Ok(number)
    }

    fn call_back_on_a_thread(
        &self,
        number: u32,
        to: Netref<dyn Desk>,
        first: u32,
        count: u32,
    ) -> Result<u32> {
        self.book.write(self.lineage, number);
        for number in first..first + count {
            assert_eq!(to.enter_on_a_thread(number)?, number);
        }
        Ok(number)
    }

    async fn swap(&self, number: u32, other: Netref<dyn Desk>) -> Result<Option<Netref<dyn Desk>>> {
        self.book.write(self.lineage, number);
        Ok(self.kept.lock().unwrap().replace(other))
    }
}

fn bulk_of(number: u32, length: usize) -> Bytes {
    let bytes = (0..length as u32).map(|at| (at / 7 + at * 31 + number) as u8);
    bytes.collect::<Vec<_>>().into()
}

fn office(config: Config) -> (Arc<Book>, Server) {
    office_over(config, Media::standard())
}

fn office_over(config: Config, media: Media) -> (Arc<Book>, Server) {
    let book = Arc::<Book>::default();
    let root = Fixed::new::<dyn Office>(Offices(Arc::clone(&book)));
    (book, Server::with(root, config, ServerLimits::default(), media))
}

/// Callers call, the carrier is cut, and in the end the ledgers are read.
async fn storm(medium: &str, server: Server, client: Connection, there: Arc<Book>, calls: u64, blade: Blade) {
    const CALLERS: u64 = 8;
    let (seed, cuts) = (seed(), calls / CALLS_PER_CUT);
    println!("over {medium}: FARREF_STRESS_SEED={seed}, {calls} calls, {cuts} cuts");
    let begun = std::time::Instant::now();
    let session = client.session().expect("a session was asked for");
    let office: Netref<dyn Office> = within(client.root()).await.unwrap();
    within(server.wait_for(|stats| stats.connections == 1)).await;
    let host = server.connections().pop().unwrap();
    let here = Arc::<Book>::default();
    let done = Arc::new(watch::channel(0_u64).0);
    let (stop, stopped) = watch::channel(false);
    let callers = (0..CALLERS).map(|number| Caller {
        random: Random::new(seed * 1000 + number),
        office: office.clone(),
        here: Arc::clone(&here),
        number,
        lineages: 0,
        bulk: if medium == "serial" { 2_000 } else { 400_000 },
        made: Made::default(),
        done: Arc::clone(&done),
        until: calls,
        stopped: stopped.clone(),
    });
    let mut callers: JoinSet<_> = callers.map(Caller::call).collect();
    let cutting = async {
        let (mut random, mut progress) = (Random::new(seed), done.subscribe());
        for cut in 1..=cuts {
            let due = (cut - 1) * CALLS_PER_CUT + random.below(CALLS_PER_CUT);
            progress.wait_for(|done| *done >= due).await.unwrap();
            // Now and then so soon that the next carrier is not up yet; often behind what an encrypted record holds.
            let most = match random.below(40) {
                0 => 300,
                1..20 if medium != "serial" => 160_000,
                _ => 8_000,
            };
            blade.cut(random.below(most) as u32).await;
            // Mostly behind some that went well: with one cut after the other no session goes on. (QUIC that is closed
            // loses what was written long before: all that a carrier has to say again, if it is cut while it says it.)
            if random.below(8) != 0 {
                let before = *progress.borrow_and_update();
                progress.wait_for(|done| *done > before + CALLERS).await.unwrap();
            }
        }
        stop.send_replace(true);
        Ok(())
    };
    let calling = async {
        let mut made = Made::default();
        while let Some(ended) = callers.join_next().await {
            made.add(ended?);
        }
        Ok::<_, JoinError>(made)
    };
    let mut progress = done.subscribe();
    let stalled = async {
        // Longer than a session waits for a carrier: then it tells why it got none.
        while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(70), progress.changed()).await {}
    };
    let made = tokio::select! {
        made = async { tokio::try_join!(calling, cutting) } => made.ok(),
        () = stalled => None,
    };
    let Some((made, ())) = made else {
        let host = (host.status(), host.stats());
        panic!(
            "it does not go on after {} calls: {:?} {:?}, {host:?}",
            *done.borrow(),
            client.status(),
            client.stats(),
        )
    };
    let (count, took) = (*done.borrow(), begun.elapsed());

    assert_eq!(client.session(), Some(session));
    let carriers = client.stats().traffic.carriers;
    assert!(carriers > cuts / 2, "{carriers} carriers for {cuts} cuts");
    at_rest(&client, &host).await;
    for (book, made) in [(&there, &made.there), (&here, &made.here)] {
        let mut book = book.by_lineage();
        for (lineage, calls) in made {
            let written = book.remove(lineage).unwrap_or_default();
            calls.check(&written, *lineage);
        }
        assert!(book.is_empty(), "calls that nobody made: {book:?}");
    }
    drop((office, client));
    within(server.wait_for(|stats| stats.connections == 0 && stats.opening == 0)).await;
    println!("over {medium}: {count} calls, {cuts} cuts, {carriers} carriers in {took:?}");
}

/// Waits until neither side holds anything of the other but the root, and nothing is under way.
async fn at_rest(client: &Connection, host: &Connection) {
    for (side, connection, imports) in [("client", client, 1), ("server", host, 0)] {
        let rest = async {
            loop {
                let stats = connection.stats();
                if (stats.exports, stats.calls, stats.answers, stats.imports) == (0, 0, 0, imports) {
                    return;
                }
                connection.ping().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), rest).await.is_err() {
            panic!("the {side} still holds {:?}", connection.stats());
        }
    }
}

/// What was called on one lineage.
enum Calls {
    /// All from 1 to this.
    All(u32),
    /// Some from 1 to this: they were given up when they were made.
    Some(u32),
}

impl Calls {
    fn check(&self, written: &[u32], lineage: u64) {
        match self {
            Self::All(last) => assert!(
                written.iter().copied().eq(1..=*last),
                "a call of lineage {lineage} was lost, repeated or overtaken: {last} were made, {written:?} came"
            ),
            Self::Some(last) => assert!(
                written.is_sorted_by(|one, next| one < next) && written.iter().all(|number| number <= last),
                "a call of lineage {lineage} was repeated or overtaken: {written:?}"
            ),
        }
    }
}

/// What was called, by lineage.
#[derive(Default)]
struct Made {
    there: BTreeMap<u64, Calls>,
    here: BTreeMap<u64, Calls>,
}

impl Made {
    fn add(&mut self, other: Self) {
        self.there.extend(other.there);
        self.here.extend(other.here);
    }
}

/// One of those who call at once.
struct Caller {
    random: Random,
    office: Netref<dyn Office>,
    here: Arc<Book>,
    number: u64,
    lineages: u64,
    /// The longest bulk.
    bulk: u64,
    made: Made,
    done: Arc<watch::Sender<u64>>,
    until: u64,
    stopped: watch::Receiver<bool>,
}

/// A desk, and how many calls were made on it.
struct Counted {
    desk: Netref<dyn Desk>,
    lineage: u64,
    last: u32,
}

impl Counted {
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }
}

impl Caller {
    async fn call(mut self) -> Made {
        let mut there = self.open().await;
        let mut given_up = self.open().await;
        // What the other side calls back.
        let lineage = self.lineage();
        let mine = Arc::new(Clerk::new(&self.here, lineage));
        let mut mine = Counted {
            desk: Netref::share(&mine),
            lineage,
            last: 0,
        };
        while *self.done.borrow() < self.until || !*self.stopped.borrow() {
            let calls = self.step(&mut there, &mut mine, &mut given_up).await;
            self.done.send_modify(|done| *done += calls);
        }
        self.close(there).await;
        let end = given_up.next();
        given_up.desk.call().enter(end).await.unwrap();
        self.made.there.insert(given_up.lineage, Calls::Some(end));
        self.made.here.insert(mine.lineage, Calls::All(mine.last));
        self.made
    }

    fn lineage(&mut self) -> u64 {
        self.lineages += 1;
        self.number << 32 | self.lineages
    }

    /// Opens a desk, and calls on it before it is there.
    async fn open(&mut self) -> Counted {
        let lineage = self.lineage();
        let opening = self.office.call().desk(lineage).start();
        let first = opening.pipe().enter(1).start();
        let desk = opening.await.unwrap();
        let second = desk.call().enter(2).start();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
        Counted {
            desk,
            lineage,
            last: 2,
        }
    }

    /// Gives a desk back for which nobody waits any more.
    async fn close(&mut self, mut counted: Counted) {
        // Behind all that nobody waited for.
        let end = counted.next();
        assert_eq!(counted.desk.call().enter(end).await.unwrap(), end);
        self.made.there.insert(counted.lineage, Calls::All(end));
    }

    fn length(&mut self) -> u32 {
        let most = [100, 3_000, 30_000, self.bulk][self.random.below(4) as usize].min(self.bulk);
        self.random.below(most) as u32
    }

    /// Does something at random. How many calls that were.
    async fn step(&mut self, there: &mut Counted, mine: &mut Counted, given_up: &mut Counted) -> u64 {
        let desk = there.desk.clone();
        match self.random.below(40) {
            0..=11 => {
                let number = there.next();
                assert_eq!(desk.call().enter(number).await.unwrap(), number);
            }
            12..=23 => {
                let calls: Vec<_> = (0..1 + self.random.below(12))
                    .map(|_| desk.call().enter(there.next()).start())
                    .collect();
                let count = calls.len() as u64;
                let first = there.last + 1 - count as u32;
                for (call, number) in calls.into_iter().zip(first..) {
                    assert_eq!(call.await.unwrap(), number);
                }
                return count;
            }
            24..=27 => {
                let count = 1 + self.random.below(6);
                (0..count).for_each(|_| desk.call().enter(there.next()).detach());
                return count;
            }
            28 | 29 => {
                let (number, first, count) = (there.next(), mine.last + 1, self.random.below(6) as u32);
                mine.last += count;
                let call = desk.call().call_back(number, mine.desk.clone(), first, count);
                assert_eq!(call.await.unwrap(), number);
                return 1 + u64::from(count);
            }
            30 => {
                let (number, first, count) = (there.next(), mine.last + 1, self.random.below(3) as u32);
                mine.last += count;
                let mine = mine.desk.clone();
                let call = desk.call().call_back_on_a_thread(number, mine, first, count);
                assert_eq!(call.await.unwrap(), number);
                return 1 + u64::from(count);
            }
            31 => {
                // A thread that waits, and serves its callbacks meanwhile.
                let (number, first, count) = (there.next(), mine.last + 1, self.random.below(3) as u32);
                mine.last += count;
                let mine = mine.desk.clone();
                let blocked = move || desk.call_back_on_a_thread(number, mine, first, count);
                let called = tokio::task::spawn_blocking(blocked).await.unwrap();
                assert_eq!(called.unwrap(), number);
                return 1 + u64::from(count);
            }
            32 => {
                let number = there.next();
                let blocked = move || desk.enter_on_a_thread(number);
                let called = tokio::task::spawn_blocking(blocked).await.unwrap();
                assert_eq!(called.unwrap(), number);
            }
            33 => {
                let (number, length) = (there.next(), self.length());
                let call = desk.call().take(number, bulk_of(number, length as usize));
                assert_eq!(call.await.unwrap(), number);
            }
            34 => {
                let (number, length) = (there.next(), self.length());
                let brought = desk.call().bring(number, length).await.unwrap();
                assert!(brought == bulk_of(number, length as usize), "bulk came to harm");
            }
            35 => {
                let closed = std::mem::replace(there, self.open().await);
                self.close(closed).await;
                return 4;
            }
            36 => {
                // Something of this side's, or the desk itself; what comes back is of either kind.
                let other = if self.random.below(2) == 0 {
                    mine.desk.clone()
                } else {
                    desk.clone()
                };
                let given = desk.call().swap(there.next(), other).await.unwrap();
                if let Some(given) = given {
                    let counted = if given.is_local() { mine } else { there };
                    let number = counted.next();
                    assert_eq!(given.call().enter(number).await.unwrap(), number);
                    return 2;
                }
            }
            _ => {
                let count = 1 + self.random.below(6);
                for _ in 0..count {
                    let number = given_up.next();
                    if self.random.below(2) == 0 {
                        drop(given_up.desk.call().enter(number).start());
                    } else {
                        let bulk = bulk_of(number, self.length() as usize);
                        drop(given_up.desk.call().take(number, bulk).start());
                    }
                }
                return count;
            }
        }
        1
    }
}
