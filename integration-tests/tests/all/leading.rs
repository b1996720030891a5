//! Threads that wait for a call read the carrier by themselves.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use farref::{Config, Netref, Server};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{
    Pair, acquainted, media_here, on_plain_thread, pair_of, runtime, within,
};
use farref_integration_tests::relay::Relay;
use farref_integration_tests::rough::Random;
use tokio::runtime::Runtime;

/// Media that a thread can wait on.
#[cfg(unix)]
const SOCKETS: [&str; 4] = ["unix", "noise+unix", "plain+tcp", "tcp"];
#[cfg(not(unix))]
const SOCKETS: [&str; 0] = [];

/// A pair, each side of which has a thread of its own if asked for.
async fn joined(medium: &str, at_server: bool, at_client: bool) -> Pair {
    let config = |own_thread| {
        let mut config = Config::default();
        config.own_thread = own_thread;
        config
    };
    pair_of::<dyn Bench, dyn Bench>(
        medium,
        (Rig::new().0, config(at_server)),
        (Rig::new().0, config(at_client)),
    )
    .await
}

/// A bench, the runtime of its user, which has one worker, and what serves it, with a runtime of its own.
fn apart(medium: &str, rig: Rig) -> (Netref<dyn Bench>, Runtime, (Server, tempfile::TempDir, Runtime)) {
    let server = runtime();
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (at_server, at_client) = acquainted();
    let serving = Server::of::<dyn Bench>(rig).trust(at_server);
    let directory = tempfile::tempdir().unwrap();
    let address = match medium {
        "unix" | "noise+unix" => format!("{medium}:{}", directory.path().join("socket").display()),
        _ => format!("{medium}://127.0.0.1:0"),
    };
    let address = server.block_on(within(serving.listen(address))).unwrap();
    let bench = client.block_on(async {
        let connecting = farref::connect(address).trust(at_client);
        let connection = within(connecting.into_future()).await.unwrap();
        within(connection.root()).await.unwrap()
    });
    (bench, client, (serving, directory, server))
}

#[test]
fn a_thread_that_calls_again_and_again_needs_nobody_of_the_runtime() {
    for medium in SOCKETS {
        let (bench, client, _serving) = apart(medium, Rig::new().0);
        let (calls, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (calls, stop) = (Arc::clone(&calls), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = calls.load(Ordering::Relaxed);
                    assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let goes_on = |patience: Duration| {
            let (until, goal) = (Instant::now() + patience, calls.load(Ordering::Relaxed) + 200);
            while calls.load(Ordering::Relaxed) < goal {
                if Instant::now() > until {
                    return false;
                }
                std::thread::yield_now();
            }
            true
        };
        // The driver has a word now and then, as when the peer is to be asked whether it lives: then the thread waits.
        let led = (0..20).any(|_| {
            assert!(goes_on(Duration::from_secs(60)), "over {medium}");
            let (blocked, is_blocked) = mpsc::channel();
            let (unblock, unblocked) = mpsc::channel::<()>();
            client.spawn(async move {
                blocked.send(()).unwrap();
                let _ = unblocked.recv();
            });
            is_blocked.recv().unwrap();
            let led = goes_on(Duration::from_secs(2));
            drop(unblock);
            led
        });
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        assert!(led, "over {medium} each call waited for the runtime");
    }
}

#[test]
fn who_has_waited_by_itself_hears_what_comes_when_it_waits_no_more() {
    let runtime = runtime();
    for medium in SOCKETS {
        let joined = runtime.block_on(joined(medium, false, false));
        let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
        let count = Arc::new(Count::default());
        let mine: Netref<dyn Counter> = Netref::share(&count);
        for round in 0..5 {
            let (bench, mine) = (bench.clone(), mine.clone());
            on_plain_thread(move || {
                for n in 0..50 {
                    assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                }
                bench.blocking().keep(mine).unwrap();
            });
            // Nobody reads for this side any more but the driver.
            runtime.block_on(async {
                let host = joined.host().await;
                within(host.ping()).await.unwrap();
                let far = within(joined.client.ping()).await.unwrap();
                assert!(far > Duration::ZERO, "round {round} over {medium}");
            });
        }
        let forgetting = bench.clone();
        on_plain_thread(move || forgetting.blocking().forget().unwrap());
        drop(mine);
        runtime.block_on(joined.at_rest());
    }
}

#[test]
fn a_connection_with_a_thread_of_its_own_does_what_others_do() {
    let runtime = runtime();
    for medium in media_here() {
        let joined = runtime.block_on(joined(medium, true, true));
        let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
        let threads: Vec<_> = (0..8_u64)
            .map(|n| {
                let bench = bench.clone();
                std::thread::spawn(move || {
                    let count = Arc::new(Count::default());
                    let mine: Netref<dyn Counter> = Netref::share(&count);
                    for round in 0..20 {
                        assert_eq!(bench.blocking_add(n, round).unwrap(), n + round);
                        assert_eq!(bench.blocking().add(n, round).unwrap(), n + round);
                        bench.call_back_blocking(mine.clone(), 2).unwrap();
                        bench.blocking().call_back_inside(mine.clone()).unwrap();
                    }
                    count.seen()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 60);
        }
        runtime.block_on(async {
            let long = bytes::Bytes::from(vec![7; 3_000_000 >> (u32::from(medium == "serial") * 6)]);
            let (there, back) = (
                bench.call().bytes(long.clone()).start(),
                bench.call().bytes(long.clone()),
            );
            assert_eq!(
                (within(there).await.unwrap(), within(back).await.unwrap()),
                (long.clone(), long)
            );
            // Given up while the thread of either side waits.
            let (tell, waiting) = (Netref::of(Count::default()), bench.clone());
            let call = waiting.call().wait_for_ever(tell).start();
            within(bench.call().add(1, 1)).await.unwrap();
            drop(call);
            joined.at_rest().await;
        });
        drop(bench);
        let Pair { server, client, .. } = joined;
        drop(client);
        // Nobody needs it any more, and both threads leave.
        runtime.block_on(within(server.wait_for(|stats| stats.connections == 0)));
    }
}

#[test]
fn a_connection_with_a_thread_of_its_own_is_read_after_others_have_waited() {
    let runtime = runtime();
    for medium in SOCKETS {
        for round in 0..20 {
            let joined = runtime.block_on(joined(medium, false, true));
            let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
            on_plain_thread(move || {
                for n in 0..40 + round {
                    assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                }
            });
            let host = runtime.block_on(joined.host());
            runtime.block_on(within(host.ping())).unwrap();
        }
    }
}

#[test]
fn a_connection_with_a_thread_of_its_own_closes_when_the_peer_needs_nothing_of_it() {
    let runtime = runtime();
    for medium in SOCKETS {
        let directory = tempfile::tempdir().unwrap();
        let (trust, other) = farref_integration_tests::media::acquainted();
        let rig = Arc::new(Rig::new().0);
        let server = farref::Server::of::<dyn Bench>(Netref::<dyn Bench>::share(&rig)).trust(trust);
        let address = match medium {
            "unix" | "noise+unix" => format!("{medium}:{}", directory.path().join("socket").display()),
            _ => format!("{medium}://127.0.0.1:0"),
        };
        runtime.block_on(async {
            let address = within(server.listen(address)).await.unwrap();
            let mut config = Config::default();
            config.own_thread = true;
            let connecting = farref::connect(address).trust(other).config(config);
            let client = within(std::future::IntoFuture::into_future(connecting))
                .await
                .unwrap();
            let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
            within(bench.call().keep(Netref::of(Count::default())))
                .await
                .unwrap();
            drop((bench, client));
            let host = server.connections().pop().unwrap();
            within(host.ping()).await.unwrap();
            within(rig.forget()).await.unwrap();
            within(server.wait_for(|stats| stats.connections == 0)).await;
        });
    }
}

/// Makes a last call when its thread ends.
struct Last(Netref<dyn Bench>, mpsc::Sender<farref::Result<u64>>);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.blocking().add(1, 1));
    }
}

#[test]
fn a_thread_that_has_waited_by_itself_may_call_as_it_ends() {
    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
    let runtime = runtime();
    for medium in SOCKETS {
        let joined = runtime.block_on(joined(medium, false, false));
        let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            assert_eq!(bench.blocking().add(1, 1).unwrap(), 2);
            LAST.set(Some(Last(bench.clone(), tell)));
            for n in 0..50 {
                assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
            }
        });
        let last = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(last.unwrap(), 2);
        thread.join().unwrap();
    }
}

#[test]
fn while_a_thread_waits_for_long_the_runtime_rests() {
    for medium in SOCKETS {
        let (rig, _told, gate) = Rig::new();
        let (bench, client, _serving) = apart(medium, rig);
        let thread = std::thread::spawn(move || {
            for n in 0..50 {
                assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
            }
            bench.blocking().slow_counter().map(drop)
        });
        // A tenth of a second in which hardly anything wakes the only worker comes sooner or later.
        let (metrics, until) = (client.metrics(), Instant::now() + Duration::from_secs(60));
        loop {
            let before = metrics.worker_park_count(0);
            std::thread::sleep(Duration::from_millis(100));
            if metrics.worker_park_count(0) - before < 10 {
                break;
            }
            assert!(Instant::now() < until, "over {medium} the runtime never rests");
        }
        gate.send_replace(true);
        thread.join().unwrap().unwrap();
    }
}

/// Something that is given up soon.
#[farref::remote]
trait Asked {
    async fn nothing(&self) -> farref::Result<()>;
}

/// Tells when it is dropped whether that is a part of a call.
struct Asks(mpsc::Sender<bool>);

impl Drop for Asks {
    fn drop(&mut self) {
        let _ = self.0.send(farref::caller().is_some());
    }
}

#[farref::remote]
impl Asked for Asks {
    async fn nothing(&self) -> farref::Result<()> {
        Ok(())
    }
}

/// Keeps a thing until the next one comes.
#[farref::remote]
trait Taker {
    async fn take(&self, asked: Option<Netref<dyn Asked>>) -> farref::Result<()>;
}

#[derive(Default)]
struct Takes(std::sync::Mutex<Option<Netref<dyn Asked>>>);

#[farref::remote]
impl Taker for Takes {
    async fn take(&self, asked: Option<Netref<dyn Asked>>) -> farref::Result<()> {
        let before = std::mem::replace(&mut *self.0.lock().unwrap(), asked);
        drop(before);
        Ok(())
    }
}

/// Makes calls by a thread that serves one.
#[farref::remote]
trait Giver {
    fn give(&self, times: u64) -> farref::Result<()>;
}

struct Gives(Netref<dyn Taker>, mpsc::Sender<bool>);

#[farref::remote]
impl Giver for Gives {
    fn give(&self, times: u64) -> farref::Result<()> {
        for _ in 0..times {
            let asks = Netref::of(Asks(self.1.clone()));
            self.0.blocking().take(Some(asks))?;
            // Behind what gives it up.
            self.0.blocking().take(None)?;
            self.0.blocking().take(None)?;
        }
        Ok(())
    }
}

#[test]
fn what_a_thread_reads_while_it_serves_a_call_is_no_part_of_that() {
    const TIMES: u64 = 50;
    let runtime = runtime();
    for medium in SOCKETS {
        let (tell, told) = mpsc::channel();
        let far = runtime.block_on(pair_of::<dyn Taker, dyn Bench>(
            medium,
            (Takes::default(), Config::default()),
            (Rig::new().0, Config::default()),
        ));
        let taker: Netref<dyn Taker> = runtime.block_on(far.root());
        // The one calls by a method that the other has called: over a connection on which nothing else is under way.
        let near = runtime.block_on(pair_of::<dyn Giver, dyn Bench>(
            "mem",
            (Gives(taker, tell), Config::default()),
            (Rig::new().0, Config::default()),
        ));
        let giver: Netref<dyn Giver> = runtime.block_on(near.root());
        runtime
            .block_on(async { within(giver.call().give(TIMES)).await })
            .unwrap();
        for _ in 0..TIMES {
            let in_call = told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(!in_call, "over {medium}");
        }
    }
}

/// An object that sleeps as threads do.
#[farref::remote]
trait Sleeper {
    async fn sleep(&self, first: Netref<dyn Counter>) -> farref::Result<()>;
}

/// Tells which thread sleeps, and when that ends.
struct Sleeps {
    tell: mpsc::Sender<std::thread::Thread>,
    ended: mpsc::Sender<()>,
    awake: AtomicBool,
}

#[farref::remote]
impl Sleeper for Sleeps {
    async fn sleep(&self, first: Netref<dyn Counter>) -> farref::Result<()> {
        struct Tell(mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        thread_local!(static AT_END: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) });
        AT_END.set(Some(Tell(self.ended.clone())));
        // Gives the reading away.
        first.bump()?;
        self.tell.send(std::thread::current()).unwrap();
        while !self.awake.load(Ordering::Acquire) {
            std::thread::park();
        }
        Ok(())
    }
}

#[test]
fn a_thread_of_a_connection_ends_with_it_though_a_method_has_slept_on_it() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let runtime = runtime();
    for medium in SOCKETS {
        let ((tell, told), (ended, has_ended)) = (mpsc::channel(), mpsc::channel());
        let object = Arc::new(Sleeps {
            tell,
            ended,
            awake: AtomicBool::new(false),
        });
        let mut config = Config::default();
        config.own_thread = true;
        let joined = runtime.block_on(pair_of::<dyn Sleeper, dyn Bench>(
            medium,
            (Netref::<dyn Sleeper>::share(&object), config),
            (Rig::new().0, Config::default()),
        ));
        let sleeper: Netref<dyn Sleeper> = runtime.block_on(joined.root());
        let (call, thread) = loop {
            let call = {
                let _in_runtime = runtime.enter();
                sleeper.call().sleep(Netref::of(Count::default())).start()
            };
            let thread = told.recv_timeout(PATIENCE).unwrap();
            if thread.name() == Some("farref-connection") {
                break (call, thread);
            }
            // The driver was awake, and has polled it.
            object.awake.store(true, Ordering::Release);
            thread.unpark();
            runtime.block_on(within(call)).unwrap();
            object.awake.store(false, Ordering::Release);
        };
        let Pair { server, client, .. } = joined;
        runtime.block_on(within(client.close()));
        drop((call, sleeper));
        runtime.block_on(within(server.wait_for(|stats| stats.connections == 0)));
        while has_ended.try_recv().is_ok() {}
        object.awake.store(true, Ordering::Release);
        thread.unpark();
        has_ended.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_deadline_ends_a_call_whose_thread_waits_by_itself() {
    let runtime = runtime();
    for medium in SOCKETS {
        for own_thread in [false, true] {
            let joined = runtime.block_on(joined(medium, own_thread, own_thread));
            let bench: Netref<dyn Bench> = runtime.block_on(joined.root());
            on_plain_thread(move || {
                for n in 0..50 {
                    assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                }
                let tell = Netref::of(Count::default());
                let patience = Duration::from_millis(30);
                let error = bench
                    .call()
                    .wait_for_ever(tell)
                    .timeout(patience)
                    .wait()
                    .unwrap_err();
                assert_eq!(error.kind(), farref::ErrorKind::Deadline);
            });
            runtime.block_on(joined.at_rest());
        }
    }
}

#[test]
fn threads_that_wait_by_themselves_outlive_their_carriers() {
    const CALLS: u64 = 2_000;
    for own_thread in [false, true] {
        let runtime = runtime();
        let mut random = Random::new(7);
        let (server, client, relay) = runtime.block_on(async {
            let mut config = Config::default();
            config.own_thread = own_thread;
            let server = farref::Server::with(
                farref::Fixed::new::<dyn Bench>(Rig::new().0),
                config.clone(),
                farref::ServerLimits::default(),
                farref::transport::Media::standard(),
            );
            let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
            let text = address.to_string();
            let to: SocketAddr = text.trim_start_matches("plain+tcp://").parse().unwrap();
            let relay = Relay::new(to).await;
            let address = format!("plain+tcp://{}", relay.address);
            let connecting = farref::connect(address).config(config);
            let client = within(std::future::IntoFuture::into_future(connecting))
                .await
                .unwrap();
            (server, client, relay)
        });
        let bench: Netref<dyn Bench> = runtime.block_on(within(client.root())).unwrap();
        let (tell, mut told) = tokio::sync::watch::channel(0);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let count = Arc::new(Count::default());
            let mine: Netref<dyn Counter> = Netref::share(&count);
            let mut n = 0;
            // A cut waits for bytes to pass: there are some until the last.
            while n < CALLS || !is_over.load(Ordering::Acquire) {
                n += 1;
                match n % 100 {
                    0 => drop(bench.call_back_blocking(mine.clone(), 1).unwrap()),
                    1..50 => assert_eq!(bench.blocking_add(n, 1).unwrap(), n + 1),
                    _ => assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1),
                }
                tell.send_replace(n);
            }
            (count.seen(), n / 100)
        });
        runtime.block_on(async {
            for cut in 1..=CALLS / 100 {
                within(told.wait_for(|done| *done >= cut * 100 - 50))
                    .await
                    .unwrap();
                within(relay.cut(random.below(2_000) as u32)).await;
            }
        });
        over.store(true, Ordering::Release);
        let (seen, made) = thread.join().unwrap();
        assert_eq!(seen, made, "each call ran once");
        drop(client);
        runtime.block_on(within(server.wait_for(|stats| stats.connections == 0)));
    }
}
