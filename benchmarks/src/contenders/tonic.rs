//! tonic: gRPC over HTTP/2, without anything by reference.
//!
//! As its documentation has it: one `Channel` that callers clone, `Bytes` for bytes, message limits and HTTP/2 windows raised to
//! what is sent, as many concurrent streams as calls. A large transfer is a stream of pieces, and so are callbacks: what the server
//! sends is a call, what the client sends a reply.

use std::pin::Pin;

use ::tonic::transport::server::TcpIncoming;
use ::tonic::transport::{Channel, Endpoint, Server};
use ::tonic::{Request, Response, Status, Streaming};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt, stream};
use tokio::net::{TcpListener, UnixListener};

use self::generated::bench_client::BenchClient;
use self::generated::bench_server::{Bench, BenchServer};
use self::generated::{Blob, Count, Empty, Number, Records, Reply};
use crate::Result;
use crate::contender::{Client, Contender, Record, all_of, on_runtime};
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

#[path = "tonic/bench.rs"]
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    reason = "made by schemas/generate.rs"
)]
mod generated;

pub(crate) const ALL: &[&dyn Contender] = &[&Tonic];

struct Tonic;

impl Contender for Tonic {
    fn name(&self) -> &'static str {
        "tonic"
    }

    fn about(&self) -> &'static str {
        "tonic 0.14, prost: one channel, windows of 4 MiB, limits raised to the workload; callbacks on a stream"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp, Medium::Unix]
    }

    fn can(&self, workload: Workload) -> bool {
        !matches!(
            workload,
            Workload::Objects
                | Workload::Pipelined
                | Workload::Live
                | Workload::Held
                | Workload::Resume
                | Workload::Soak
                | Workload::Local
        )
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(2, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(2, serve(*job, ready))
    }
}

/// The largest message.
const LARGEST: usize = 64 << 20;
/// What may be under way before it is acknowledged.
const WINDOW: u32 = 4 << 20;
/// Bytes of one piece of a large transfer.
const PIECE: usize = 64 << 10;

type Answer<T> = std::result::Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

struct Served;

#[::tonic::async_trait]
impl Bench for Served {
    type ItemsStream = Answers<Number>;
    type CallBackStream = Answers<Empty>;

    async fn null(&self, _: Request<Empty>) -> Answer<Empty> {
        Ok(Response::new(Empty {}))
    }

    async fn echo(&self, request: Request<Blob>) -> Answer<Blob> {
        Ok(Response::new(request.into_inner()))
    }

    async fn structs(&self, request: Request<Records>) -> Answer<Records> {
        Ok(Response::new(request.into_inner()))
    }

    async fn items(&self, request: Request<Count>) -> Answer<Self::ItemsStream> {
        let numbers = stream::iter(0..request.into_inner().count);
        Ok(Response::new(Box::pin(
            numbers.map(|number| Ok(Number { number })),
        )))
    }

    async fn upload(&self, request: Request<Streaming<Blob>>) -> Answer<Count> {
        let mut pieces = request.into_inner();
        let mut count = 0;
        while let Some(piece) = pieces.message().await? {
            count += piece.bytes.len() as u64;
        }
        Ok(Response::new(Count { count }))
    }

    async fn call_back(&self, request: Request<Streaming<Reply>>) -> Answer<Self::CallBackStream> {
        let mut replies = request.into_inner();
        let times = replies.message().await?.map_or(0, |first| first.times);
        // A call, and the next one when the reply to it is there.
        let calls = stream::try_unfold((replies, 0), move |(mut replies, made)| async move {
            if made > 0 {
                replies.message().await?;
            }
            Ok((made < times).then_some((Empty {}, (replies, made + 1))))
        });
        Ok(Response::new(Box::pin(calls)))
    }
}

#[derive(Clone)]
struct Caller(BenchClient<Channel>);

impl Client for Caller {
    type Object = ();

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let scheme = if job.medium == Medium::Tcp {
            "http://"
        } else {
            "unix:"
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}{address}"))?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let client = BenchClient::new(endpoint.connect().await?);
        Ok(Self(
            client
                .max_decoding_message_size(LARGEST)
                .max_encoding_message_size(LARGEST),
        ))
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        self.0.null(Empty {}).await?;
        Ok(())
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        self.0.echo(Blob { bytes }).await?;
        Ok(())
    }

    async fn structs(&mut self, records: &[Record]) -> Result<()> {
        let sent = records.iter().cloned().map(Into::into).collect();
        let response = self.0.structs(Records { records: sent }).await?;
        let same = response.into_inner().records.into_iter().map(Into::into);
        all_of(records, &same.collect::<Vec<_>>())
    }

    async fn call_back(&mut self, times: u32) -> Result<()> {
        let (mut replies, sent) = mpsc::channel(8);
        replies.send(Reply { times }).await?;
        let mut calls = self.0.call_back(sent).await?.into_inner();
        while calls.message().await?.is_some() {
            replies.send(Reply { times: 0 }).await?;
        }
        Ok(())
    }

    async fn items(&mut self, count: u64) -> Result<()> {
        let mut items = self.0.items(Count { count }).await?.into_inner();
        let mut next = 0;
        while let Some(item) = items.message().await? {
            if item.number != next {
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
        let piece = Blob {
            bytes: vec![7; PIECE].into(),
        };
        let pieces = stream::iter((0..bytes / PIECE as u64).map(move |_| piece.clone()));
        if self.0.upload(pieces).await?.into_inner().count == bytes {
            return Ok(());
        }
        Err("some bytes are lost".into())
    }
}

impl From<Record> for generated::Record {
    fn from(record: Record) -> Self {
        let Record {
            id,
            name,
            place,
            value,
        } = record;
        Self {
            id,
            name,
            place,
            value,
        }
    }
}

impl From<generated::Record> for Record {
    fn from(record: generated::Record) -> Self {
        let generated::Record {
            id,
            name,
            place,
            value,
        } = record;
        Self {
            id,
            name,
            place,
            value,
        }
    }
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    let served = BenchServer::new(Served)
        .max_decoding_message_size(LARGEST)
        .max_encoding_message_size(LARGEST);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(8192)
        .add_service(served);
    if job.medium == Medium::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready.listening(listener.local_addr()?)?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        return Ok(server.serve_with_incoming(incoming).await?);
    }
    let listener = UnixListener::bind(&ready.socket)?;
    ready.listening(&ready.socket)?;
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(socket, _)| socket);
        Some((accepted, listener))
    });
    Ok(server.serve_with_incoming(incoming).await?)
}
