//! remoc: remote traits, channels and objects over a multiplexer.
//!
//! As its documentation has it: the default configuration and codec, `Bytes` for bytes, the names of its compact
//! representation, `_call` twins and `#[pipelinable]` for pipelining, a binary channel for a large transfer. Raised to what
//! the workloads need: calls that a server runs at once, ports, and the sizes of requests and replies.

use std::sync::Arc;

use ::remoc::prelude::*;
use ::remoc::rtc::{CallError, Client, ServerShared};
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::Result;
use crate::contender::{self, Contender, Record, all_of, on_runtime};
use crate::contenders::made::Made;
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[&Remoc];

struct Remoc;

impl Contender for Remoc {
    fn name(&self) -> &'static str {
        "remoc"
    }

    fn about(&self) -> &'static str {
        "remoc 0.20: default configuration and codec, compact names, limits raised to the workload"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp, Medium::Unix]
    }

    fn can(&self, workload: Workload) -> bool {
        !matches!(
            workload,
            Workload::Resume | Workload::Soak | Workload::Held | Workload::Local
        )
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(2, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(2, serve(*job, ready))
    }
}

#[rtc::remote]
trait Bench {
    #[serde(rename = "_0")]
    async fn null(&self) -> std::result::Result<(), CallError>;
    #[serde(rename = "_1")]
    async fn echo(&self, #[serde(rename = "_0")] bytes: Bytes) -> std::result::Result<Bytes, CallError>;
    #[serde(rename = "_2")]
    async fn structs(
        &self,
        #[serde(rename = "_0")] records: Vec<Record>,
    ) -> std::result::Result<Vec<Record>, CallError>;
    #[serde(rename = "_3")]
    async fn call_back(
        &self,
        #[serde(rename = "_0")] item: ItemClient,
        #[serde(rename = "_1")] times: u32,
    ) -> std::result::Result<(), CallError>;
    #[serde(rename = "_4")]
    #[pipelinable]
    async fn make(&self) -> std::result::Result<ItemClient, CallError>;
    #[serde(rename = "_5")]
    async fn items(
        &self,
        #[serde(rename = "_0")] count: u64,
    ) -> std::result::Result<rch::mpsc::Receiver<u64>, CallError>;
    #[serde(rename = "_6")]
    async fn upload(
        &self,
        #[serde(rename = "_0")] bytes: rch::bin::Receiver,
    ) -> std::result::Result<u64, CallError>;
}

#[rtc::remote]
trait Item {
    #[serde(rename = "_0")]
    async fn null(&self) -> std::result::Result<(), CallError>;
}

struct Served;

impl Bench for Served {
    async fn null(&self) -> std::result::Result<(), CallError> {
        Ok(())
    }

    async fn echo(&self, bytes: Bytes) -> std::result::Result<Bytes, CallError> {
        Ok(bytes)
    }

    async fn structs(&self, records: Vec<Record>) -> std::result::Result<Vec<Record>, CallError> {
        Ok(records)
    }

    async fn call_back(&self, item: ItemClient, times: u32) -> std::result::Result<(), CallError> {
        for _ in 0..times {
            item.null().await?;
        }
        Ok(())
    }

    async fn make(&self) -> std::result::Result<ItemClient, CallError> {
        Ok(item(Made::new()))
    }

    async fn items(&self, count: u64) -> std::result::Result<rch::mpsc::Receiver<u64>, CallError> {
        let (tx, rx) = rch::mpsc::channel();
        tokio::spawn(async move {
            for item in 0..count {
                if tx.send(item).await.is_err() {
                    return;
                }
            }
        });
        Ok(rx)
    }

    async fn upload(&self, bytes: rch::bin::Receiver) -> std::result::Result<u64, CallError> {
        let mut sum = 0;
        if let Ok(mut bytes) = bytes.into_inner().await {
            while let Ok(Some(piece)) = bytes.recv().await {
                sum += piece.remaining() as u64;
            }
        }
        Ok(sum)
    }
}

impl Item for Made {
    async fn null(&self) -> std::result::Result<(), CallError> {
        Ok(())
    }
}

impl Item for () {
    async fn null(&self) -> std::result::Result<(), CallError> {
        Ok(())
    }
}

/// A client of an object, which is served as long as the client is there.
fn item(target: impl Item + Send + Sync + 'static) -> ItemClient {
    let (server, client) = ItemServerShared::new(Arc::new(target));
    tokio::spawn(server.serve());
    client
}

/// The largest request and reply.
const LARGEST: usize = 64 << 20;
/// Bytes of one piece of a large transfer.
const PIECE: usize = 64 << 10;

fn configuration() -> ::remoc::Cfg {
    ::remoc::Cfg {
        max_ports: 1 << 20,
        ..::remoc::Cfg::default()
    }
}

#[derive(Clone)]
struct Caller {
    bench: BenchClient,
    own: ItemClient,
}

impl contender::Client for Caller {
    type Object = ItemClient;

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let mut bench: BenchClient = if job.medium == Medium::Tcp {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let (rx, tx) = socket.into_split();
            ::remoc::Connect::io(configuration(), rx, tx).consume().await?
        } else {
            let (rx, tx) = UnixStream::connect(address).await?.into_split();
            ::remoc::Connect::io(configuration(), rx, tx).consume().await?
        };
        bench.set_max_request_size(LARGEST);
        bench.set_max_response_size(LARGEST);
        Ok(Self { bench, own: item(()) })
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        Ok(self.bench.null().await?)
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        self.bench.echo(bytes).await?;
        Ok(())
    }

    async fn structs(&mut self, records: &[Record]) -> Result<()> {
        all_of(records, &self.bench.structs(records.to_vec()).await?)
    }

    async fn call_back(&mut self, times: u32) -> Result<()> {
        Ok(self.bench.call_back(self.own.clone(), times).await?)
    }

    async fn make(&mut self) -> Result<ItemClient> {
        Ok(self.bench.make().await?)
    }

    async fn call(&mut self, object: &mut ItemClient) -> Result<()> {
        Ok(object.null().await?)
    }

    async fn pipelined(&mut self) -> Result<()> {
        let (item, requests) = ItemClient::new();
        let made = self.bench.make_pipelined(requests).await;
        let called = item.null_call().await;
        called.await?;
        Ok(made.await?)
    }

    async fn items(&mut self, count: u64) -> Result<()> {
        let mut items = self.bench.items(count).await?;
        let mut next = 0;
        while let Some(item) = items.recv().await? {
            if item != next {
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
        let (tx, rx) = rch::bin::channel();
        let sending = async {
            let mut tx = tx.into_inner().await?;
            let piece = Bytes::from(vec![7; PIECE]);
            for _ in 0..bytes / PIECE as u64 {
                tx.send(piece.clone()).await?;
            }
            Result::Ok(())
        };
        let (sent, received) = tokio::join!(sending, self.bench.upload(rx));
        sent?;
        if received? == bytes {
            return Ok(());
        }
        Err("some bytes are lost".into())
    }
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    if job.medium == Medium::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready.listening(listener.local_addr()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let (rx, tx) = socket.into_split();
            tokio::spawn(answer(rx, tx));
        }
    }
    let listener = UnixListener::bind(&ready.socket)?;
    ready.listening(&ready.socket)?;
    loop {
        let (rx, tx) = listener.accept().await?.0.into_split();
        tokio::spawn(answer(rx, tx));
    }
}

async fn answer(
    rx: impl AsyncRead + Send + Sync + Unpin + 'static,
    tx: impl AsyncWrite + Send + Sync + Unpin + 'static,
) -> Result<()> {
    let (mut server, mut client) = BenchServerShared::<_, ::remoc::codec::Default>::new(Arc::new(Served));
    server.set_parallelism(8192);
    client.set_max_request_size(LARGEST);
    client.set_max_response_size(LARGEST);
    ::remoc::Connect::io(configuration(), rx, tx)
        .provide(client)
        .await?;
    server.serve().await.map_err(|error| error.to_string().into())
}
