//! tarpc: bincode over length-delimited frames, without anything by reference.
//!
//! As its documentation has it: `serde_transport` with `TCP_NODELAY`, bincode, and the frame raised to what is sent.
//! `max_in_flight_requests` and `pending_request_buffer` are raised so that 4,096 callers are not held up. It has no streams: a
//! large transfer goes as calls of 1 MiB, four at a time.

use ::tarpc::serde_transport::new as transport;
use ::tarpc::server::{BaseChannel, Channel, Config};
use ::tarpc::tokio_serde::formats::Bincode;
use ::tarpc::tokio_util::codec::LengthDelimitedCodec;
use ::tarpc::{client, context};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::Result;
use crate::contender::{Client, Contender, Record, all_of, on_runtime};
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[&Tarpc { threads: 2 }, &Tarpc { threads: 1 }];

struct Tarpc {
    threads: usize,
}

impl Contender for Tarpc {
    fn name(&self) -> &'static str {
        if self.threads == 1 { "tarpc-ct" } else { "tarpc" }
    }

    fn about(&self) -> &'static str {
        if self.threads == 1 {
            "the same on a current-thread runtime"
        } else {
            "tarpc 0.38: bincode, TCP_NODELAY, limits raised to the workload; large transfers in calls of 1 MiB"
        }
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp, Medium::Unix]
    }

    fn reference(&self, _: Medium) -> &'static str {
        if self.threads == 1 { "echo-ct" } else { "echo" }
    }

    fn can(&self, workload: Workload) -> bool {
        match workload {
            Workload::Null | Workload::InFlight(_) | Workload::Bytes(_) => true,
            Workload::Structs
            | Workload::Beside
            | Workload::Connect
            | Workload::Idle
            | Workload::Syscalls => self.threads > 1,
            _ => false,
        }
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(self.threads, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(self.threads, serve(*job, ready))
    }
}

#[::tarpc::service]
trait Bench {
    async fn null();
    async fn echo(bytes: ByteBuf) -> ByteBuf;
    async fn structs(records: Vec<Record>) -> Vec<Record>;
    async fn upload(bytes: ByteBuf);
}

#[derive(Clone)]
struct Served;

impl Bench for Served {
    async fn null(self, _: context::Context) {}

    async fn echo(self, _: context::Context, bytes: ByteBuf) -> ByteBuf {
        bytes
    }

    async fn structs(self, _: context::Context, records: Vec<Record>) -> Vec<Record> {
        records
    }

    async fn upload(self, _: context::Context, _: ByteBuf) {}
}

/// Bytes of one piece of a large transfer, and how many are under way.
const PIECE: usize = 1 << 20;
const PIECES: usize = 4;

#[derive(Clone)]
struct Caller(BenchClient);

impl Client for Caller {
    type Object = ();

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let mut config = client::Config::default();
        config.max_in_flight_requests = 8192;
        config.pending_request_buffer = 8192;
        let client = if job.medium == Medium::Tcp {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            BenchClient::new(config, transport(codec().new_framed(socket), Bincode::default())).spawn()
        } else {
            let socket = UnixStream::connect(address).await?;
            BenchClient::new(config, transport(codec().new_framed(socket), Bincode::default())).spawn()
        };
        Ok(Self(client))
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        Ok(self.0.null(context::current()).await?)
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        self.0.echo(context::current(), ByteBuf::from(bytes)).await?;
        Ok(())
    }

    async fn structs(&mut self, records: &[Record]) -> Result<()> {
        all_of(
            records,
            &self.0.structs(context::current(), records.to_vec()).await?,
        )
    }

    async fn upload(&mut self, bytes: u64) -> Result<()> {
        let pieces = (0..bytes / PIECE as u64).map(|_| async {
            let piece = ByteBuf::from(vec![7; PIECE]);
            self.0.upload(context::current(), piece).await
        });
        let mut pieces = stream::iter(pieces).buffer_unordered(PIECES);
        while pieces.try_next().await?.is_some() {}
        Ok(())
    }
}

/// Frames as large as the largest workload.
fn codec() -> ::tarpc::tokio_util::codec::length_delimited::Builder {
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(64 << 20);
    codec
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    if job.medium == Medium::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready.listening(listener.local_addr()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(answer(socket));
        }
    }
    let listener = UnixListener::bind(&ready.socket)?;
    ready.listening(&ready.socket)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(answer(socket));
    }
}

async fn answer(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let config = Config {
        pending_response_buffer: 8192,
    };
    let transport = transport(codec().new_framed(socket), Bincode::default());
    let channel = BaseChannel::new(config, transport);
    let requests = channel.execute(Served.serve());
    requests
        .for_each(|response| async {
            tokio::spawn(response);
        })
        .await;
}
