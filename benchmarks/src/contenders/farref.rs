//! farref as a contender: one trait whose methods are the workloads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::transport::Media;
use farref::{Config, Fixed, Netref, Server as FarrefServer, ServerLimits, connect, remote};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::client::Server;
use crate::contenders::echo::now;
use crate::job::{Contender, Job, Medium, Workload};
use crate::meter::{Figures, Moment, Operation, many_at_once, one_at_a_time};
use crate::server::socket;

/// Callbacks for one call.
const CALLBACKS: u32 = 100;

/// Netrefs that are held at once.
pub(crate) const LIVE: usize = 100_000;

/// What a server is asked to do.
#[remote]
trait Bench {
    /// Nothing.
    async fn null(&self) -> farref::Result<()>;
    /// Nothing, on a thread that may block.
    fn pooled(&self) -> farref::Result<()>;
    /// Gives back what it got.
    async fn echo(&self, bytes: Bytes) -> farref::Result<Bytes>;
    /// Calls `item` so many times, one after another.
    async fn call_back(&self, item: Netref<dyn Item>, times: u32) -> farref::Result<()>;
    /// A new object.
    async fn make(&self) -> farref::Result<Netref<dyn Item>>;
}

/// An object made for a client.
#[remote]
trait Item {
    /// Nothing.
    async fn null(&self) -> farref::Result<()>;
}

struct Served;

static OBJECTS: AtomicU64 = AtomicU64::new(0);

/// How many objects there are in this process.
pub(crate) fn objects() -> u64 {
    OBJECTS.load(Ordering::SeqCst)
}

struct Made {
    _state: u64,
}

impl Made {
    fn new() -> Self {
        Self {
            _state: OBJECTS.fetch_add(1, Ordering::SeqCst),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        OBJECTS.fetch_sub(1, Ordering::SeqCst);
    }
}

#[remote]
impl Bench for Served {
    async fn null(&self) -> farref::Result<()> {
        Ok(())
    }

    fn pooled(&self) -> farref::Result<()> {
        Ok(())
    }

    async fn echo(&self, bytes: Bytes) -> farref::Result<Bytes> {
        Ok(bytes)
    }

    async fn call_back(&self, item: Netref<dyn Item>, times: u32) -> farref::Result<()> {
        for _ in 0..times {
            item.call().null().await?;
        }
        Ok(())
    }

    async fn make(&self) -> farref::Result<Netref<dyn Item>> {
        Ok(Netref::of(Made::new()))
    }
}

#[remote]
impl Item for Made {
    async fn null(&self) -> farref::Result<()> {
        Ok(())
    }
}

/// One operation of each workload.
#[derive(Clone)]
enum Work {
    Null(Netref<dyn Bench>),
    Echo(Netref<dyn Bench>, Bytes),
    Callbacks(Netref<dyn Bench>, Netref<dyn Item>),
    Objects(Netref<dyn Bench>),
    Pipelined(Netref<dyn Bench>),
    Blocking(Netref<dyn Bench>),
    Pooled(Netref<dyn Bench>),
}

impl Operation for Work {
    async fn run(&mut self) -> Result<()> {
        match self {
            Self::Null(bench) => bench.call().null().await?,
            Self::Echo(bench, bytes) => {
                let same = bench.call().echo(bytes.clone()).await?;
                debug_assert_eq!(same, *bytes);
            }
            Self::Callbacks(bench, item) => bench.call().call_back(item.clone(), CALLBACKS).await?,
            Self::Objects(bench) => bench.call().make().await?.call().null().await?,
            Self::Pipelined(bench) => {
                let made = bench.call().make();
                let called = made.pipe().null().start();
                called.await?;
                drop(made);
            }
            Self::Blocking(bench) => bench.blocking().null()?,
            Self::Pooled(bench) => bench.pooled()?,
        }
        Ok(())
    }

    fn weight(&self) -> u64 {
        self.steps()
    }

    fn steps(&self) -> u64 {
        match self {
            Self::Callbacks(..) => u64::from(CALLBACKS),
            _ => 1,
        }
    }
}

/// What one caller does over and over.
fn work(workload: Workload, bench: Netref<dyn Bench>) -> Work {
    match workload {
        Workload::Bytes(bytes) => Work::Echo(bench, Bytes::from(vec![1; bytes])),
        Workload::Callbacks => Work::Callbacks(bench, Netref::of(Made::new())),
        Workload::Objects => Work::Objects(bench),
        Workload::Pipelined => Work::Pipelined(bench),
        Workload::Null | Workload::InFlight(_) | Workload::Live | Workload::Local => Work::Null(bench),
    }
}

pub(crate) async fn serve(job: &Job, ready: mpsc::Sender<String>) -> Result<()> {
    let mut config = Config::default();
    config.own_thread = job.contender == Contender::FarrefThreads;
    let root = Fixed::new::<dyn Bench>(Served);
    let server = FarrefServer::with(root, config, ServerLimits::default(), Media::standard());
    let address = match job.medium {
        Medium::Tcp => "plain+tcp://127.0.0.1:0".to_owned(),
        Medium::Unix => format!("unix:{}", socket()),
    };
    ready.send(server.listen(address).await?.to_string())?;
    server.closed().await;
    Ok(())
}

pub(crate) async fn drive(job: &Job, server: &mut Server) -> Result<Figures> {
    let mut config = Config::default();
    if job.contender == Contender::FarrefUnkept {
        config.resume = Some(false);
    }
    let connection = connect(&server.address).config(config).await?;
    let bench: Netref<dyn Bench> = connection.root().await?;
    match job.workload {
        Workload::Live => live(bench, server).await,
        Workload::InFlight(number) => {
            many_at_once(server, job.duration, number, work(job.workload, bench)).await
        }
        workload => one_at_a_time(server, job.duration, work(workload, bench)).await,
    }
}

/// The same on a thread of no runtime.
pub(crate) fn drive_blocking(job: &Job, server: &mut Server) -> Result<Figures> {
    let bench: Netref<dyn Bench> = farref::blocking::connect(&server.address)?.root()?;
    let work = if job.contender == Contender::FarrefPooled {
        Work::Pooled(bench)
    } else {
        Work::Blocking(bench)
    };
    now(one_at_a_time(server, job.duration, work))
}

/// Holds very many netrefs at once, and drops them.
async fn live(bench: Netref<dyn Bench>, server: &mut Server) -> Result<Figures> {
    const CALLERS: usize = 64;

    server.count(true)?;
    // What is allocated once and for all does not count.
    let first = bench.call().make().await?;
    first.call().null().await?;
    let begun = Moment::now(server)?;
    let started = Instant::now();
    let mut callers = Vec::with_capacity(CALLERS);
    for caller in 0..CALLERS {
        let bench = bench.clone();
        let number = (caller + 1) * LIVE / CALLERS - caller * LIVE / CALLERS;
        callers.push(tokio::spawn(async move {
            let mut netrefs = Vec::with_capacity(number);
            for _ in 0..number {
                netrefs.push(bench.call().make().await?);
            }
            Result::Ok(netrefs)
        }));
    }
    let mut netrefs = Vec::with_capacity(CALLERS);
    for caller in callers {
        netrefs.push(caller.await??);
    }
    let made = started.elapsed();
    let held = Moment::now(server)?.grown(begun);
    let objects = server.objects()?;
    if objects != LIVE as u64 + 1 {
        return Err(format!("{} netrefs are held, but {objects} objects live", LIVE + 1).into());
    }

    let started = Instant::now();
    drop(netrefs);
    while server.objects()? > 1 {
        if started.elapsed() > Duration::from_secs(20) {
            return Err(format!("{} objects live on after their netrefs", server.objects()? - 1).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let freed = started.elapsed();
    let left = Moment::now(server)?.grown(begun);
    let each = |bytes: f64| bytes / LIVE as f64;
    // The object, with the two counters of its `Arc`, is not farref's.
    let object = (size_of::<Made>() + 2 * size_of::<AtomicUsize>()) as f64;
    Ok(Figures::from([
        ("client".into(), each(held[0])),
        ("server".into(), each(held[1]) - object),
        ("resident-client".into(), each(held[2])),
        ("resident-server".into(), each(held[3]) - object),
        ("left-client".into(), left[0]),
        ("left-server".into(), left[1]),
        ("made".into(), LIVE as f64 / made.as_secs_f64()),
        ("freed".into(), LIVE as f64 / freed.as_secs_f64()),
    ]))
}

/// How many bytes one round trip of the workload puts on the wire each way, seen by a relay between both.
pub(crate) async fn probe(job: &Job, server: &Server) -> Result<Figures> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let relay = listener.local_addr()?;
    let far = server.address.trim_start_matches("plain+tcp://").to_owned();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let relayed = Arc::clone(&counts);
    let relaying = tokio::spawn(async move {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(far).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_rx, near_tx), (far_rx, far_tx)) = (near.into_split(), far.into_split());
        tokio::try_join!(
            pass(near_rx, far_tx, &relayed[0]),
            pass(far_rx, near_tx, &relayed[1])
        )
    });
    let bench: Netref<dyn Bench> = connect(format!("plain+tcp://{relay}")).await?.root().await?;
    let mut work = work(job.workload, bench);
    for _ in 0..20 {
        work.run().await?;
    }
    let before = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    let runs = if matches!(job.workload, Workload::Bytes(_) | Workload::Callbacks) {
        50
    } else {
        2000
    };
    for _ in 0..runs {
        work.run().await?;
    }
    let after = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    relaying.abort();
    let round_trips = (runs * job.workload.round_trips()) as f64 * work.weight() as f64;
    let mut sizes =
        [0, 1].map(|way: usize| ((after[way] - before[way]) as f64 / round_trips).round().max(1.0));
    if job.workload == Workload::Callbacks {
        // There the server asks and the client replies.
        sizes.reverse();
    }
    Ok(Figures::from([
        ("request".into(), sizes[0]),
        ("reply".into(), sizes[1]),
    ]))
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicUsize) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        count.fetch_add(read, Ordering::SeqCst);
        to.write_all(&buffer[..read]).await?;
    }
}
