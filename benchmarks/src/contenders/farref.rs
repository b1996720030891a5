//! farref as a contender: one trait whose methods are the workloads, called in each of the ways there are.

use bytes::Bytes;
use farref::keys::{Authorized, Identity, Trust};
use farref::object::Arguments;
use farref::transport::Media;
use farref::{
    ByteStream, Config, Connect, Connection, Fixed, Netref, Object, Server as FarrefServer, ServerLimits,
    Stream, connect, remote,
};
use tokio::io::{AsyncReadExt, sink};

use crate::Result;
use crate::contender::{Client, Contender, Record, all_of, now, on_runtime};
use crate::contenders::made::Made;
use crate::job::{Job, Medium};
use crate::measure::{measure, sizes};
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[
    &Farref::Typed,
    &Farref::Noise,
    &Farref::Dynamic,
    &Farref::Unkept,
    &Farref::Single,
    &Farref::Blocking,
    &Farref::Threads,
    &Farref::Pooled,
];

/// The ways to use farref.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farref {
    Typed,
    Noise,
    Dynamic,
    Unkept,
    Single,
    Blocking,
    Threads,
    Pooled,
}

impl Farref {
    const fn threads(self) -> usize {
        if matches!(self, Self::Single) { 1 } else { 2 }
    }
}

impl Contender for Farref {
    fn name(&self) -> &'static str {
        match self {
            Self::Typed => "farref",
            Self::Noise => "farref-noise",
            Self::Dynamic => "farref-dynamic",
            Self::Unkept => "farref-unkept",
            Self::Single => "farref-ct",
            Self::Blocking => "farref-blocking",
            Self::Threads => "farref-threads",
            Self::Pooled => "farref-pooled",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Typed => "`netref.call()`, tokio with two workers, all defaults",
            Self::Noise => {
                "the same, encrypted, both sides known by their keys: `tcp://` instead of `plain+tcp://`"
            }
            Self::Dynamic => "the same by name, with values that say what they are: `netref.dynamic()`",
            Self::Unkept => "the same in a connection that ends with its carrier",
            Self::Single => "the same on a current-thread runtime",
            Self::Blocking => "`netref.blocking()` on a plain thread; the server's method is async",
            Self::Threads => "the same, and a thread of its own drives the connection at the server",
            Self::Pooled => "a method that blocks, called from a plain thread: it runs on the server's pool",
        }
    }

    fn media(&self) -> &'static [Medium] {
        match self {
            Self::Typed => &Medium::ALL,
            Self::Noise => &[Medium::Tcp],
            _ => &[Medium::Tcp, Medium::Unix],
        }
    }

    fn reference(&self, medium: Medium) -> &'static str {
        match (self, medium) {
            (Self::Single, _) => "echo-ct",
            (_, Medium::Quic) => "quinn",
            _ => "echo",
        }
    }

    fn can(&self, workload: Workload) -> bool {
        match (self, workload) {
            (_, Workload::Local) => false,
            (_, Workload::Null) | (Self::Typed, _) => true,
            (Self::Noise, Workload::Held | Workload::Soak | Workload::Syscalls | Workload::Live) => false,
            (Self::Noise, _) | (Self::Unkept | Self::Single, Workload::Bytes(_)) => true,
            (Self::Dynamic | Self::Unkept | Self::Single, Workload::InFlight(_)) => true,
            (Self::Single, Workload::Callbacks | Workload::Objects | Workload::Pipelined) => true,
            (Self::Blocking, Workload::Syscalls | Workload::Bytes(_)) => true,
            _ => false,
        }
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        let job = *job;
        match self {
            Self::Dynamic => on_runtime(self.threads(), measure::<ByName>(job)),
            Self::Blocking | Self::Threads => now(measure::<Waiting>(job)),
            Self::Pooled => now(measure::<Pooled>(job)),
            _ if job.sizes.request == 0 => on_runtime(self.threads(), sizes::<Typed>(job)),
            _ => on_runtime(self.threads(), measure::<Typed>(job)),
        }
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        let mut config = Config::default();
        config.own_thread = *self == Self::Threads;
        let address = match (job.medium, self) {
            (Medium::Tcp, Self::Noise) => "tcp://127.0.0.1:0".to_owned(),
            (Medium::Tcp, _) => "plain+tcp://127.0.0.1:0".to_owned(),
            (Medium::Unix, _) => format!("unix:{}", ready.socket),
            (Medium::Quic, _) => "quic://127.0.0.1:0".to_owned(),
            (Medium::Stdio, _) => "stdio:".to_owned(),
            (Medium::Mem, _) => "mem:benchmark".to_owned(),
        };
        let is_encrypted = *self == Self::Noise || job.medium == Medium::Quic;
        on_runtime(self.threads(), async move {
            let root = Fixed::new::<dyn Bench>(Served);
            let mut server = FarrefServer::with(root, config, ServerLimits::default(), Media::standard());
            if is_encrypted {
                server = server.trust(Trust::new(Identity::generate()?).authorizing(Authorized::anyone()));
            }
            ready.listening(server.listen(address).await?)?;
            server.closed().await;
            Ok(())
        })
    }
}

/// What a server is asked to do.
#[remote]
trait Bench {
    /// Nothing.
    async fn null(&self) -> farref::Result<()>;
    /// Nothing, on a thread that may block.
    fn pooled(&self) -> farref::Result<()>;
    /// Gives back what it got.
    async fn echo(&self, bytes: Bytes) -> farref::Result<Bytes>;
    /// Gives back what it got.
    async fn structs(&self, records: Vec<Record>) -> farref::Result<Vec<Record>>;
    /// Calls `item` so many times, one after another.
    async fn call_back(&self, item: Netref<dyn Item>, times: u32) -> farref::Result<()>;
    /// A new object.
    async fn make(&self) -> farref::Result<Netref<dyn Item>>;
    /// The numbers up to `count`.
    async fn items(&self, count: u64) -> farref::Result<Stream<u64>>;
    /// Takes bytes, and says how many there were.
    async fn upload(&self, bytes: ByteStream) -> farref::Result<u64>;
}

/// An object made for a client.
#[remote]
trait Item {
    /// Nothing.
    async fn null(&self) -> farref::Result<()>;
}

struct Served;

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

    async fn structs(&self, records: Vec<Record>) -> farref::Result<Vec<Record>> {
        Ok(records)
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

    async fn items(&self, count: u64) -> farref::Result<Stream<u64>> {
        Ok(Stream::from_iter(0..count))
    }

    async fn upload(&self, mut bytes: ByteStream) -> farref::Result<u64> {
        Ok(tokio::io::copy_buf(&mut bytes, &mut sink()).await?)
    }
}

#[remote]
impl Item for Made {
    async fn null(&self) -> farref::Result<()> {
        Ok(())
    }
}

/// An object of the client's.
struct Own;

#[remote]
impl Item for Own {
    async fn null(&self) -> farref::Result<()> {
        Ok(())
    }
}

/// How the job has its server dialled.
fn dialling(job: &Job, address: &str) -> Result<Connect> {
    let name = job.contender.name();
    let connect = if job.medium == Medium::Stdio {
        let [program, arguments @ ..] = &address.split('\n').collect::<Vec<_>>()[..] else {
            return Err("there is no program".into());
        };
        connect(format!("exec:{program}?arg={}", arguments.join("&arg=")))
    } else {
        connect(address)
    };
    let mut config = Config::default();
    if name == Farref::Unkept.name() {
        config.resume = Some(false);
    }
    let connect = connect.config(config);
    Ok(if name == Farref::Noise.name() || job.medium == Medium::Quic {
        connect.trust(Trust::new(Identity::generate()?))
    } else {
        connect
    })
}

#[derive(Clone)]
struct Typed {
    bench: Netref<dyn Bench>,
    own: Netref<dyn Item>,
    _connection: Connection,
}

impl Client for Typed {
    type Object = Netref<dyn Item>;

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let connection = dialling(job, address)?.await?;
        Ok(Self {
            bench: connection.root().await?,
            own: Netref::of(Own),
            _connection: connection,
        })
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        Ok(self.bench.call().null().await?)
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        let same = self.bench.call().echo(bytes.clone()).await?;
        debug_assert_eq!(same, bytes);
        Ok(())
    }

    async fn structs(&mut self, records: &[Record]) -> Result<()> {
        all_of(records, &self.bench.call().structs(records.to_vec()).await?)
    }

    async fn call_back(&mut self, times: u32) -> Result<()> {
        Ok(self.bench.call().call_back(self.own.clone(), times).await?)
    }

    async fn make(&mut self) -> Result<Self::Object> {
        Ok(self.bench.call().make().await?)
    }

    async fn call(&mut self, object: &mut Self::Object) -> Result<()> {
        Ok(object.call().null().await?)
    }

    async fn pipelined(&mut self) -> Result<()> {
        let made = self.bench.call().make();
        let called = made.pipe().null().start();
        called.await?;
        drop(made);
        Ok(())
    }

    async fn items(&mut self, count: u64) -> Result<()> {
        let mut items = self.bench.call().items(count).await?;
        let mut next = 0;
        while let Some(item) = items.next().await {
            if item? != next {
                return Err("an item is lost".into());
            }
            next += 1;
        }
        if next == count {
            return Ok(());
        }
        Err("the stream ended early".into())
    }

    async fn upload(&mut self, bytes: u64) -> Result<()> {
        let stream = ByteStream::read(tokio::io::repeat(7).take(bytes));
        if self.bench.call().upload(stream).await? == bytes {
            return Ok(());
        }
        Err("some bytes are lost".into())
    }
}

/// By name.
#[derive(Clone)]
struct ByName {
    bench: Object,
    _connection: Connection,
}

impl Client for ByName {
    type Object = ();

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let connection = dialling(job, address)?.await?;
        Ok(Self {
            bench: connection.object().await?,
            _connection: connection,
        })
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        self.bench.call("null", Arguments::new()).await?;
        Ok(())
    }
}

/// From a thread that waits.
struct Waiting(Netref<dyn Bench>);

impl Client for Waiting {
    type Object = ();

    async fn connect(_: &Job, address: &str) -> Result<Self> {
        Ok(Self(farref::blocking::connect(address)?.root()?))
    }

    async fn null(&mut self) -> Result<()> {
        Ok(self.0.blocking().null()?)
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        self.0.blocking().echo(bytes)?;
        Ok(())
    }
}

/// The same, to a method that may block.
struct Pooled(Netref<dyn Bench>);

impl Client for Pooled {
    type Object = ();

    async fn connect(_: &Job, address: &str) -> Result<Self> {
        Ok(Self(farref::blocking::connect(address)?.root()?))
    }

    async fn null(&mut self) -> Result<()> {
        Ok(self.0.pooled()?)
    }
}
