//! A driver that spins rather than falls asleep does all that any driver does, and so does a task that looks for its outcome.
//!
//! A program of its own, and one test after the other: whether a side sleeps is up to who else wants the CPUs.
#![cfg(test)]

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::{Config, Connection, ErrorKind, Netref, Result, Server, remote};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{acquainted, on_plain_thread, pair_of, within};
use farref_integration_tests::relay::Relay;
use tokio::runtime::Runtime;

/// Media whose carriers can leave the reactor.
#[cfg(unix)]
const SOCKETS: [&str; 4] = ["unix", "noise+unix", "plain+tcp", "tcp"];
#[cfg(not(unix))]
const SOCKETS: [&str; 0] = [];

/// So many reads in a row, and both sides spin.
const STREAK: u64 = 200;

/// Long enough for a peer that gets half a CPU now and then.
const SPIN: Duration = Duration::from_millis(20);

/// Taken by whoever wants the CPUs for itself.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CPUS: Mutex<()> = Mutex::new(());
    CPUS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two sides, each on a thread of its own.
struct Apart {
    bench: Netref<dyn Bench>,
    connection: Connection,
    client: Runtime,
    server: Server,
    address: String,
    host: Runtime,
    _directory: tempfile::TempDir,
    _cpus: MutexGuard<'static, ()>,
}

/// A runtime whose only thread goes by that name.
fn alone(name: &str) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

fn spinning() -> Config {
    let mut config = Config::default();
    config.spin = SPIN;
    config.resume = Some(true);
    config
}

impl Apart {
    fn new(medium: &str, names: [&str; 2]) -> Self {
        Self::with(medium, names, Rig::new().0)
    }

    fn with(medium: &str, names: [&str; 2], rig: Rig) -> Self {
        let cpus = one_at_a_time();
        let [client, host] = names.map(alone);
        let (at_server, at_client) = acquainted();
        let server = Server::with(
            farref::Fixed::new::<dyn Bench>(rig),
            spinning(),
            farref::ServerLimits::default(),
            farref::transport::Media::standard(),
        )
        .trust(at_server);
        let directory = tempfile::tempdir().unwrap();
        let address = match medium {
            "unix" | "noise+unix" => format!("{medium}:{}", directory.path().join("socket").display()),
            _ => format!("{medium}://127.0.0.1:0"),
        };
        let address = host.block_on(within(server.listen(address))).unwrap().to_string();
        let (connection, bench) = client.block_on(async {
            let connecting = farref::connect(&*address).trust(at_client).config(spinning());
            let connection = within(connecting.into_future()).await.unwrap();
            let bench = within(connection.root()).await.unwrap();
            (connection, bench)
        });
        Self {
            bench,
            connection,
            client,
            server,
            address,
            host,
            _directory: directory,
            _cpus: cpus,
        }
    }

    /// Runs on the client's thread.
    fn run<F>(&self, run: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.client
            .block_on(async { within(tokio::spawn(run)).await.unwrap() })
    }

    /// Makes calls, each alone, until both sides spin.
    fn streak(&self) {
        let bench = self.bench.clone();
        self.run(async move { calls(&bench, STREAK).await });
    }

    fn at_rest(&self) {
        self.host
            .block_on(within(self.server.wait_for(|stats| stats.connections == 0)));
    }
}

async fn calls(bench: &Netref<dyn Bench>, times: u64) {
    for n in 0..times {
        assert_eq!(bench.call().add(n, 1).await.unwrap(), n + 1);
    }
}

/// How often the threads of that name have gone to sleep.
#[cfg(target_os = "linux")]
fn sleeps(name: &str) -> u64 {
    let mut sleeps = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may end meanwhile.
        let (Ok(comm), Ok(status)) = (
            std::fs::read_to_string(task.join("comm")),
            std::fs::read_to_string(task.join("status")),
        ) else {
            continue;
        };
        if comm.trim() == name {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sleeps += line.unwrap().trim().parse::<u64>().unwrap();
        }
    }
    sleeps
}

#[test]
#[cfg(target_os = "linux")]
fn neither_side_sleeps_while_calls_follow_one_another() {
    const CALLS: u64 = 4000;
    for (medium, names) in SOCKETS.into_iter().zip([
        ["spin-near-0", "spin-far-0"],
        ["spin-near-1", "spin-far-1"],
        ["spin-near-2", "spin-far-2"],
        ["spin-near-3", "spin-far-3"],
    ]) {
        let apart = Apart::new(medium, names);
        apart.streak();
        // On a busy machine a side may wait for its CPU for longer than the other one spins.
        let most_slept_little = (0..20).any(|_| {
            let before = names.map(sleeps);
            let bench = apart.bench.clone();
            apart.run(async move { calls(&bench, CALLS).await });
            let slept = [sleeps(names[0]) - before[0], sleeps(names[1]) - before[1]];
            slept.into_iter().all(|slept| slept < CALLS / 4)
        });
        assert!(most_slept_little, "over {medium} the sides sleep for each other");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_side_that_nobody_calls_sleeps() {
    let names = ["spin-idle-near", "spin-idle-far"];
    let apart = Apart::new("plain+tcp", names);
    apart.streak();
    // They sleep for as long as nothing comes: nothing wakes them in a tenth of a second, sooner or later.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let before = names.map(sleeps);
        std::thread::sleep(Duration::from_millis(100));
        if names
            .map(sleeps)
            .iter()
            .zip(before)
            .all(|(after, before)| after - before < 5)
        {
            break;
        }
        assert!(Instant::now() < until, "they never rest");
    }
    let metrics = apart.client.metrics();
    let (busy, at) = (metrics.worker_total_busy_duration(0), Instant::now());
    std::thread::sleep(Duration::from_millis(100));
    let busy = metrics.worker_total_busy_duration(0) - busy;
    assert!(busy < at.elapsed() / 2, "it spins for nothing");
}

#[test]
fn callbacks_large_values_and_blocking_calls_pass_between_sides_that_spin() {
    for medium in SOCKETS {
        let apart = Apart::new(medium, ["near", "far"]);
        for round in 0..3 {
            apart.streak();
            let bench = apart.bench.clone();
            apart.run(async move {
                let count = Arc::new(Count::default());
                let mine: Netref<dyn Counter> = Netref::share(&count);
                assert_eq!(bench.call().call_back(mine.clone(), 50).await.unwrap(), 50);
                calls(&bench, STREAK).await;
                bench.call().call_back_blocking(mine.clone(), 20).await.unwrap();
                calls(&bench, STREAK).await;
                bench.call().call_back_inside(mine).await.unwrap();
                assert_eq!(count.seen(), 71);
                calls(&bench, STREAK).await;
                // More than a socket takes at once.
                let long = Bytes::from(vec![round; 5_000_000]);
                let (there, more) = (
                    bench.call().bytes(long.clone()).start(),
                    bench.call().bytes(long.clone()).start(),
                );
                calls(&bench, STREAK).await;
                assert_eq!((there.await.unwrap(), more.await.unwrap()), (long.clone(), long));
                assert_eq!(bench.call().blocking_add(1, 2).await.unwrap(), 3);
            });
            apart.streak();
            let bench = apart.bench.clone();
            on_plain_thread(move || {
                for n in 0..STREAK {
                    assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                }
            });
        }
    }
}

/// How often this thread has gone to sleep.
#[cfg(target_os = "linux")]
fn own_sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_task_whose_calls_follow_one_another_looks_for_the_outcomes_itself() {
    const CALLS: u64 = 4000;
    for (medium, name) in SOCKETS.into_iter().zip(["look-0", "look-1", "look-2", "look-3"]) {
        let apart = Apart::new(medium, [name, "far"]);
        let calling = || {
            let bench = apart.bench.clone();
            apart.client.block_on(within(calls(&bench, CALLS)));
        };
        // It used to be woken for each of them, by the driver, which had spun for it.
        let slept_little = (0..20).any(|_| {
            let before = (own_sleeps(), sleeps(name));
            calling();
            let slept = (own_sleeps() - before.0, sleeps(name) - before.1);
            slept.0 < CALLS / 4 && slept.1 < CALLS / 4
        });
        assert!(slept_little, "over {medium} the task is woken for its outcomes");
    }
}

/// What runs a future on a thread that knows nothing of tokio.
fn block_on_without_tokio<R>(future: impl Future<Output = R>) -> R {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return result;
        }
        std::thread::park();
    }
}

/// Used to hang: the task that looked for its outcome counted on its worker to poll it again.
#[test]
fn a_worker_that_another_executor_blocks_hears_of_its_outcomes() {
    for medium in SOCKETS {
        let apart = Apart::new(medium, ["near", "far"]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bench = apart.bench.clone();
        let calling = runtime.spawn(async move {
            block_on_without_tokio(calls(&bench, 2 * STREAK));
        });
        runtime.block_on(within(calling)).unwrap();
    }
}

#[test]
#[expect(clippy::mem_forget, reason = "a task that is never polled again")]
fn a_call_that_is_polled_once_and_then_left_alone_holds_nobody_up() {
    for medium in SOCKETS {
        let apart = Apart::new(medium, ["near", "far"]);
        for round in 0..8 {
            apart.client.block_on(within(calls(&apart.bench, STREAK)));
            let bench = apart.bench.clone();
            apart.client.block_on(async {
                let mut call = Box::pin(bench.call().add(round, 1));
                let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
                match round % 4 {
                    // Whoever reads then, it is not this task.
                    0 => drop(call),
                    1 => std::mem::forget(call),
                    2 => {
                        let host = apart.server.connections().pop().unwrap();
                        within(async move { host.ping().await }).await.unwrap();
                        if polled.is_pending() {
                            assert_eq!(within(call).await.unwrap(), round + 1);
                        }
                    }
                    _ => {
                        let other = bench.clone();
                        let other = tokio::spawn(async move { other.call().add(round, 2).await });
                        assert_eq!(within(other).await.unwrap().unwrap(), round + 2);
                        if polled.is_pending() {
                            assert_eq!(within(tokio::spawn(call)).await.unwrap().unwrap(), round + 1);
                        }
                    }
                }
            });
            let host = apart.server.connections().pop().unwrap();
            apart.host.block_on(within(host.ping())).unwrap();
        }
    }
}

#[test]
fn calls_that_a_task_makes_together_are_together_on_their_way() {
    for medium in SOCKETS {
        let (rig, _told, gate) = Rig::new();
        let apart = Apart::with(medium, ["near", "far"], rig);
        apart.client.block_on(within(calls(&apart.bench, STREAK)));
        apart.client.block_on(within(async {
            // The first of them ends after the second.
            let opened = async {
                let sum = apart.bench.call().add(1, 2).await;
                gate.send_replace(true);
                sum
            };
            let (counter, sum) = tokio::join!(apart.bench.call().slow_counter(), opened);
            assert_eq!((counter.is_ok(), sum.unwrap()), (true, 3));
        }));
    }
}

/// Notes on which thread it is called, and what that thread was in the middle of.
#[farref::remote]
trait Witness {
    async fn see(&self) -> farref::Result<()>;
}

struct Sees(std::sync::mpsc::Sender<std::thread::ThreadId>);

#[farref::remote]
impl Witness for Sees {
    async fn see(&self) -> farref::Result<()> {
        self.0.send(std::thread::current().id()).unwrap();
        Ok(())
    }
}

/// Calls back.
#[farref::remote]
trait Caller {
    async fn nothing(&self) -> farref::Result<()>;
    async fn call(&self, witness: Netref<dyn Witness>) -> farref::Result<()>;
}

struct Calls;

#[farref::remote]
impl Caller for Calls {
    async fn nothing(&self) -> farref::Result<()> {
        Ok(())
    }

    async fn call(&self, witness: Netref<dyn Witness>) -> farref::Result<()> {
        witness.call().see().await
    }
}

#[test]
fn a_task_that_looks_for_its_outcome_runs_no_code_of_others() {
    for medium in SOCKETS {
        let _cpus = one_at_a_time();
        let (client, host) = (alone("near"), alone("far"));
        let pair = host.block_on(pair_of::<dyn Caller, dyn Bench>(
            medium,
            (Calls, spinning()),
            (Rig::new().0, spinning()),
        ));
        let caller: Netref<dyn Caller> = host.block_on(pair.root());
        let (tell, told) = std::sync::mpsc::channel();
        let witness: Netref<dyn Witness> = Netref::of(Sees(tell));
        for _ in 0..20 {
            client.block_on(within(async {
                for _ in 0..STREAK / 4 {
                    caller.call().nothing().await.unwrap();
                }
                caller.call().call(witness.clone()).await.unwrap();
            }));
            assert_ne!(told.recv().unwrap(), std::thread::current().id(), "over {medium}");
        }
    }
}

#[test]
fn calls_of_other_threads_are_not_held_up_by_a_driver_that_spins() {
    for medium in SOCKETS {
        let apart = Apart::new(medium, ["near", "far"]);
        apart.streak();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let bench = apart.bench.clone();
                std::thread::spawn(move || {
                    for n in 0..STREAK {
                        assert_eq!(bench.blocking().add(n, 1).unwrap(), n + 1);
                    }
                })
            })
            .collect();
        apart.streak();
        for thread in threads {
            thread.join().unwrap();
        }
        let host = apart.server.connections().pop().unwrap();
        apart.host.block_on(within(host.ping())).unwrap();
    }
}

#[test]
fn a_deadline_passes_while_the_driver_spins() {
    let apart = Apart::new("plain+tcp", ["near", "far"]);
    for _ in 0..5 {
        apart.streak();
        let bench = apart.bench.clone();
        apart.run(async move {
            let tell = Netref::of(Count::default());
            let call = bench.call().wait_for_ever(tell).timeout(SPIN / 4);
            assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Deadline);
        });
    }
}

#[test]
fn a_carrier_that_is_cut_while_both_sides_spin_is_replaced() {
    let apart = Apart::new("plain+tcp", ["near", "far"]);
    let to = apart.address.trim_start_matches("plain+tcp://").parse().unwrap();
    let between = alone("between");
    let relay = between.block_on(Relay::new(to));
    let connection = apart.client.block_on(async {
        let through = format!("plain+tcp://{}", relay.leads_to());
        let connecting = farref::connect(through).config(spinning());
        within(connecting.into_future()).await.unwrap()
    });
    let bench: Netref<dyn Bench> = apart.client.block_on(within(connection.root())).unwrap();
    for _ in 0..5 {
        let (calling, also) = (bench.clone(), bench.clone());
        apart.run(async move { calls(&calling, STREAK).await });
        relay.cut_now();
        apart.run(async move { calls(&also, STREAK).await });
    }
    assert!(relay.cuts() >= 5);
}

#[test]
fn either_side_closes_while_both_spin() {
    for medium in SOCKETS {
        let apart = Apart::new(medium, ["near", "far"]);
        apart.streak();
        let connection = apart.connection.clone();
        apart.run(async move { connection.close().await });
        apart.at_rest();
        drop(apart);

        let apart = Apart::new(medium, ["near", "far"]);
        apart.streak();
        let (connection, bench) = (apart.connection, apart.bench);
        apart.host.block_on(within(apart.server.shutdown(Duration::ZERO)));
        apart.client.block_on(async {
            within(connection.closed()).await;
            assert!(within(bench.call().add(1, 1)).await.is_err());
        });
        drop(apart._cpus);

        // With its runtime goes the driver, wherever it is.
        let apart = Apart::new(medium, ["near", "far"]);
        apart.streak();
        drop((apart.bench, apart.connection));
        apart.client.shutdown_background();
        apart
            .host
            .block_on(within(apart.server.wait_for(|stats| stats.connections == 0)));
    }
}

/// Calls back, and tells where it goes on then.
#[remote]
trait Host {
    /// Whether that is the task which has begun it. It may call back once more, and block meanwhile.
    async fn stays(&self, guest: Netref<dyn Guest>, blocks: bool) -> Result<bool>;
    /// Lends the guest something whose destructor calls it, and waits.
    async fn lends(&self, guest: Netref<dyn Guest>) -> Result<()>;
}

#[remote]
trait Guest {
    async fn null(&self) -> Result<()>;
    async fn takes(&self, lent: Netref<dyn Lent>) -> Result<()>;
    /// Returns when the call of the host is over in which it was lent something.
    async fn is_over(&self) -> Result<()>;
}

#[remote]
trait Lent {
    fn nothing(&self) -> Result<()>;
}

struct Waits(Netref<dyn Guest>);

#[remote]
impl Lent for Waits {
    fn nothing(&self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        // An error says that the connection is over.
        drop(self.0.blocking().is_over());
    }
}

struct Inn;

#[remote]
impl Host for Inn {
    async fn stays(&self, guest: Netref<dyn Guest>, blocks: bool) -> Result<bool> {
        let begun_by = tokio::task::try_id();
        guest.call().null().await?;
        let stays = begun_by == tokio::task::try_id();
        if blocks {
            guest.blocking().null()?;
        }
        Ok(stays)
    }

    async fn lends(&self, guest: Netref<dyn Guest>) -> Result<()> {
        let lent = Netref::<dyn Lent>::of(Waits(guest.clone()));
        guest.call().takes(lent).await
    }
}

struct Visitor {
    over: Arc<tokio::sync::Semaphore>,
}

#[remote]
impl Guest for Visitor {
    async fn null(&self) -> Result<()> {
        Ok(())
    }

    async fn takes(&self, _lent: Netref<dyn Lent>) -> Result<()> {
        Ok(())
    }

    async fn is_over(&self) -> Result<()> {
        if let Ok(one) = self.over.acquire().await {
            one.forget();
        }
        Ok(())
    }
}

/// A task for each method, and two that were woken for each callback, took a quarter of it.
#[cfg(unix)]
#[test]
fn a_method_that_calls_back_goes_on_where_it_was_begun_and_keeps_nobody_waiting() {
    let _cpus = one_at_a_time();
    let (client, host) = (alone("guest"), alone("host"));
    let root = farref::Fixed::new::<dyn Host>(Inn);
    let media = farref::transport::Media::standard();
    let server = Server::with(root, spinning(), farref::ServerLimits::default(), media);
    let address = host
        .block_on(within(server.listen("plain+tcp://127.0.0.1:0")))
        .unwrap();
    let visit = async move {
        let connection = farref::connect(address).config(spinning()).await.unwrap();
        let host: Netref<dyn Host> = connection.root().await.unwrap();
        let over = Arc::new(tokio::sync::Semaphore::new(0));
        let guest = Netref::<dyn Guest>::of(Visitor {
            over: Arc::clone(&over),
        });
        let stays = async |blocks| {
            // Both sides have to have seen that to spin pays.
            while !host.call().stays(guest.clone(), blocks).await.unwrap() {}
        };
        stays(false).await;
        stays(true).await;
        for _ in 0..20 {
            stays(false).await;
            // What the driver does next blocks until the method has gone on.
            host.call().lends(guest.clone()).await.unwrap();
            over.add_permits(1);
        }
    };
    client.block_on(async { within(tokio::spawn(visit)).await.unwrap() });
    host.block_on(within(server.shutdown(Duration::from_secs(10))));
}
