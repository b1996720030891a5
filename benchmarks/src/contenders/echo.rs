//! The reference: the bytes of farref's messages, and nothing but bytes. Requests are answered as soon as they are
//! whole, all that one read brought with one write.

use std::io::{Read, Write};
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::sync::mpsc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::Result;
use crate::client::Server;
use crate::job::{Job, Medium};
use crate::meter::{Figures, Operation, one_at_a_time};
use crate::server::socket;

/// Requests on one side, replies on the other: whole ones are counted.
struct Pieces {
    size: usize,
    /// Bytes of a piece that is not whole yet.
    begun: usize,
}

impl Pieces {
    /// How many pieces the next `bytes` complete.
    fn complete(&mut self, bytes: usize) -> usize {
        let all = self.begun + bytes;
        self.begun = all % self.size;
        all / self.size
    }
}

/// A batch of requests, and where its replies go.
struct Batch {
    requests: Vec<u8>,
    replies: Vec<u8>,
    round_trips: usize,
}

impl Batch {
    fn new(job: &Job) -> Self {
        let (number, round_trips) = (job.workload.in_flight(), job.workload.round_trips());
        Self {
            requests: vec![1; job.sizes.request * number],
            replies: vec![0; job.sizes.reply * number],
            round_trips,
        }
    }
}

/// Memory for what a server reads at a time, and for the replies to it.
fn buffers(job: &Job) -> (Vec<u8>, Vec<u8>) {
    let read = job.sizes.request.max(64 << 10);
    (
        vec![0; read],
        vec![2; (read / job.sizes.request + 1) * job.sizes.reply],
    )
}

struct Echo<S> {
    socket: S,
    batch: Batch,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Operation for Echo<S> {
    async fn run(&mut self) -> Result<()> {
        for _ in 0..self.batch.round_trips {
            self.socket.write_all(&self.batch.requests).await?;
            self.socket.read_exact(&mut self.batch.replies).await?;
        }
        Ok(())
    }
}

pub(crate) async fn drive(job: &Job, server: &mut Server) -> Result<Figures> {
    let batch = Batch::new(job);
    match job.medium {
        Medium::Tcp => {
            let socket = TcpStream::connect(&server.address).await?;
            socket.set_nodelay(true)?;
            one_at_a_time(server, job.duration, Batched(Echo { socket, batch }, job)).await
        }
        Medium::Unix => {
            let socket = UnixStream::connect(&server.address).await?;
            one_at_a_time(server, job.duration, Batched(Echo { socket, batch }, job)).await
        }
    }
}

/// Counts every request of a batch.
struct Batched<'a, O>(O, &'a Job);

impl<O: Operation> Operation for Batched<'_, O> {
    async fn run(&mut self) -> Result<()> {
        self.0.run().await
    }

    fn weight(&self) -> u64 {
        self.1.workload.in_flight() as u64
    }
}

pub(crate) async fn serve(job: &Job, ready: mpsc::Sender<String>) -> Result<()> {
    match job.medium {
        Medium::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready.send(listener.local_addr()?.to_string())?;
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            answer(job, socket).await
        }
        Medium::Unix => {
            let listener = UnixListener::bind(socket())?;
            ready.send(socket())?;
            let (socket, _) = listener.accept().await?;
            answer(job, socket).await
        }
    }
}

async fn answer(job: &Job, mut socket: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let (mut input, replies) = buffers(job);
    let mut requests = Pieces {
        size: job.sizes.request,
        begun: 0,
    };
    loop {
        let read = socket.read(&mut input).await?;
        if read == 0 {
            return Ok(());
        }
        let whole = requests.complete(read);
        socket.write_all(&replies[..whole * job.sizes.reply]).await?;
    }
}

/// The same over blocking sockets.
struct StdEcho<S> {
    socket: S,
    batch: Batch,
}

impl<S: Read + Write + Send> Operation for StdEcho<S> {
    async fn run(&mut self) -> Result<()> {
        for _ in 0..self.batch.round_trips {
            self.socket.write_all(&self.batch.requests)?;
            self.socket.read_exact(&mut self.batch.replies)?;
        }
        Ok(())
    }
}

pub(crate) fn drive_blocking(job: &Job, server: &mut Server) -> Result<Figures> {
    let batch = Batch::new(job);
    match job.medium {
        Medium::Tcp => {
            let socket = StdTcpStream::connect(&server.address)?;
            socket.set_nodelay(true)?;
            now(one_at_a_time(
                server,
                job.duration,
                Batched(StdEcho { socket, batch }, job),
            ))
        }
        Medium::Unix => {
            let socket = StdUnixStream::connect(&server.address)?;
            now(one_at_a_time(
                server,
                job.duration,
                Batched(StdEcho { socket, batch }, job),
            ))
        }
    }
}

/// The result of a future that never waits.
pub(crate) fn now<R>(future: impl Future<Output = Result<R>>) -> Result<R> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => Err("a blocking contender waits without blocking".into()),
    }
}

pub(crate) fn serve_blocking(job: &Job, ready: &mpsc::Sender<String>) -> Result<()> {
    match job.medium {
        Medium::Tcp => {
            let listener = StdTcpListener::bind("127.0.0.1:0")?;
            ready.send(listener.local_addr()?.to_string())?;
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            answer_blocking(job, socket)
        }
        Medium::Unix => {
            let listener = StdUnixListener::bind(socket())?;
            ready.send(socket())?;
            let (socket, _) = listener.accept()?;
            answer_blocking(job, socket)
        }
    }
}

fn answer_blocking(job: &Job, mut socket: impl Read + Write) -> Result<()> {
    let (mut input, replies) = buffers(job);
    let mut requests = Pieces {
        size: job.sizes.request,
        begun: 0,
    };
    loop {
        let read = socket.read(&mut input)?;
        if read == 0 {
            return Ok(());
        }
        let whole = requests.complete(read);
        socket.write_all(&replies[..whole * job.sizes.reply])?;
    }
}
