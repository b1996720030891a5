//! The reference: the bytes of farref's messages, and nothing but bytes. Requests are answered as soon as they are
//! whole, all that one read brought with one write.

use std::io::{Read, Write};
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::process::Stdio;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::Result;
use crate::contender::{Client, Contender, Record, now, on_runtime};
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[&Echo { threads: 2 }, &Echo { threads: 1 }, &StdEcho];

/// On tokio.
struct Echo {
    threads: usize,
}

impl Contender for Echo {
    fn name(&self) -> &'static str {
        if self.threads == 1 { "echo-ct" } else { "echo" }
    }

    fn about(&self) -> &'static str {
        if self.threads == 1 {
            "the same on a current-thread runtime"
        } else {
            "by hand: tokio with two workers, one task per side, no messages and no calls, only farref's bytes"
        }
    }

    fn media(&self) -> &'static [Medium] {
        match self.threads {
            1 => &[Medium::Tcp, Medium::Unix],
            _ => &[Medium::Tcp, Medium::Unix, Medium::Stdio, Medium::Mem],
        }
    }

    fn can(&self, workload: Workload) -> bool {
        !matches!(
            workload,
            Workload::Live | Workload::Held | Workload::Soak | Workload::Local
        )
    }

    fn reference(&self, _: Medium) -> &'static str {
        self.name()
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(self.threads, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(self.threads, serve(*job, ready))
    }
}

/// One end, over whatever medium.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A batch of requests, and where its replies go.
struct Batch {
    requests: Vec<u8>,
    replies: Vec<u8>,
}

impl Batch {
    fn new(job: &Job) -> Self {
        let number = job.workload.in_flight();
        Self {
            requests: vec![1; job.sizes.request * number],
            replies: vec![0; job.sizes.reply * number],
        }
    }
}

struct Caller {
    job: Job,
    address: String,
    wire: Box<dyn Wire>,
    batch: Batch,
    /// The server, where it is ours.
    _child: Option<Child>,
}

impl Client for Caller {
    type Object = ();
    const IS_BATCHED: bool = true;

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let (wire, child) = dial(job, address).await?;
        Ok(Self {
            job: *job,
            address: address.to_owned(),
            wire,
            batch: Batch::new(job),
            _child: child,
        })
    }

    /// A connection of its own: without calls nothing keeps the bytes of two callers apart.
    async fn another(&mut self) -> Result<Self> {
        Self::connect(&self.job, &self.address).await
    }

    async fn null(&mut self) -> Result<()> {
        self.wire.write_all(&self.batch.requests).await?;
        self.wire.read_exact(&mut self.batch.replies).await?;
        Ok(())
    }

    async fn echo(&mut self, _: Bytes) -> Result<()> {
        self.null().await
    }

    /// The encoded bytes alone.
    async fn structs(&mut self, _: &[Record]) -> Result<()> {
        self.null().await
    }

    async fn call_back(&mut self, times: u32) -> Result<()> {
        for _ in 0..times {
            self.null().await?;
        }
        Ok(())
    }

    async fn make(&mut self) -> Result<()> {
        self.null().await
    }

    async fn call(&mut self, (): &mut ()) -> Result<()> {
        self.null().await
    }

    async fn pipelined(&mut self) -> Result<()> {
        self.null().await?;
        self.null().await
    }

    async fn items(&mut self, count: u64) -> Result<()> {
        self.wire.write_u64(count).await?;
        let (mut buffer, mut next) = (vec![0; STREAMED], 0);
        let mut begun = 0;
        while next < count {
            let read = self.wire.read(&mut buffer[begun..]).await?;
            if read == 0 {
                return Err("the server has ended".into());
            }
            let there = begun + read;
            let (whole, rest) = buffer[..there].as_chunks::<8>();
            for item in whole {
                if u64::from_le_bytes(*item) != next {
                    return Err("an item is lost".into());
                }
                next += 1;
            }
            begun = rest.len();
            buffer.copy_within(there - begun..there, 0);
        }
        Ok(())
    }

    async fn upload(&mut self, bytes: u64) -> Result<()> {
        upload(&mut self.wire, bytes).await
    }

    async fn recover(&mut self) -> Result<()> {
        // Until the end is seen, a request might be lost in a socket that nobody reads.
        while self.wire.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        self.wire = dial(&self.job, &self.address).await?.0;
        self.null().await
    }
}

/// Sends so many bytes to [`beside`].
pub(super) async fn upload(mut wire: impl Wire, bytes: u64) -> Result<()> {
    let piece = vec![7; STREAMED];
    wire.write_u64(bytes).await?;
    let mut left = bytes as usize;
    while left > 0 {
        let piece = &piece[..left.min(STREAMED)];
        wire.write_all(piece).await?;
        left -= piece.len();
    }
    wire.read_u8().await?;
    Ok(())
}

/// Bytes that go out at once in streams.
const STREAMED: usize = 64 << 10;

/// The address that means both ends of [`Medium::Mem`].
static DUPLEX: Mutex<Vec<DuplexStream>> = Mutex::new(Vec::new());

async fn dial(job: &Job, address: &str) -> Result<(Box<dyn Wire>, Option<Child>)> {
    Ok(match job.medium {
        Medium::Tcp => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            (Box::new(socket), None)
        }
        Medium::Unix => (Box::new(UnixStream::connect(address).await?), None),
        Medium::Mem => {
            let end = DUPLEX.lock().ok().and_then(|mut ends| ends.pop());
            (Box::new(end.ok_or("there is one connection only")?), None)
        }
        Medium::Stdio => {
            let mut words = address.split('\n');
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.kill_on_drop(true).spawn()?;
            let tx = child.stdin.take().ok_or("no pipe")?.into_owned_fd()?;
            let rx = child.stdout.take().ok_or("no pipe")?.into_owned_fd()?;
            (Box::new(pipes(rx, tx)?), Some(child))
        }
        Medium::Quic => return Err("that is quinn's".into()),
    })
}

/// Two pipes that tokio waits for as it does for sockets.
fn pipes(rx: OwnedFd, tx: OwnedFd) -> Result<impl Wire> {
    Ok(tokio::io::join(
        pipe::Receiver::from_owned_fd(rx)?,
        pipe::Sender::from_owned_fd(tx)?,
    ))
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    match job.medium {
        Medium::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready.listening(listener.local_addr()?)?;
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                tokio::spawn(answer(job, socket));
            }
        }
        Medium::Unix => {
            let listener = UnixListener::bind(&ready.socket)?;
            ready.listening(&ready.socket)?;
            loop {
                let (socket, _) = listener.accept().await?;
                tokio::spawn(answer(job, socket));
            }
        }
        Medium::Mem => {
            let (near, far) = tokio::io::duplex(64 << 10);
            DUPLEX.lock().map_err(|_| "poisoned")?.push(near);
            ready.listening("mem")?;
            answer(job, far).await
        }
        Medium::Stdio => {
            ready.listening("stdio")?;
            let rx = std::io::stdin().as_fd().try_clone_to_owned()?;
            let tx = std::io::stdout().as_fd().try_clone_to_owned()?;
            answer(job, pipes(rx, tx)?).await
        }
        Medium::Quic => Err("that is quinn's".into()),
    }
}

async fn answer(job: Job, mut wire: impl Wire) -> Result<()> {
    match job.workload {
        Workload::Items => return stream(wire).await,
        Workload::Beside => return beside(&job, wire).await,
        _ => {}
    }
    let (mut input, replies) = buffers(&job);
    let mut requests = Pieces::new(&job);
    loop {
        let read = wire.read(&mut input).await?;
        if read == 0 {
            return Ok(());
        }
        let whole = requests.complete(read);
        wire.write_all(&replies[..whole * job.sizes.reply]).await?;
    }
}

/// As many numbers as were asked for, again and again.
async fn stream(mut wire: impl Wire) -> Result<()> {
    let mut buffer = Vec::with_capacity(STREAMED);
    while let Ok(count) = wire.read_u64().await {
        for item in 0..count {
            buffer.extend(item.to_le_bytes());
            if buffer.len() == STREAMED || item + 1 == count {
                wire.write_all(&buffer).await?;
                buffer.clear();
            }
        }
    }
    Ok(())
}

/// The first byte of what comes tells whether it is a transfer: its length begins with zeros, requests with ones.
pub(super) async fn beside(job: &Job, mut wire: impl Wire) -> Result<()> {
    let (mut input, replies) = (vec![0; STREAMED.max(job.sizes.request)], vec![2; job.sizes.reply]);
    while let Ok(first) = wire.read_u8().await {
        if first == 1 {
            wire.read_exact(&mut input[..job.sizes.request - 1]).await?;
            wire.write_all(&replies).await?;
            continue;
        }
        let mut length = [0; 8];
        wire.read_exact(&mut length[1..]).await?;
        let mut left = u64::from_be_bytes(length) as usize;
        while left > 0 {
            let piece = left.min(STREAMED);
            left -= wire.read(&mut input[..piece]).await?;
        }
        wire.write_u8(1).await?;
    }
    Ok(())
}

/// Memory for what a server reads at a time, and for the replies to it.
fn buffers(job: &Job) -> (Vec<u8>, Vec<u8>) {
    let least = match job.workload {
        Workload::Idle | Workload::Connect => 1 << 10,
        _ => 64 << 10,
    };
    let read = job.sizes.request.max(least);
    (
        vec![0; read],
        vec![2; (read / job.sizes.request + 1) * job.sizes.reply],
    )
}

/// Requests on one side, replies on the other: whole ones are counted.
struct Pieces {
    size: usize,
    /// Bytes of a piece that is not whole yet.
    begun: usize,
}

impl Pieces {
    const fn new(job: &Job) -> Self {
        Self {
            size: job.sizes.request,
            begun: 0,
        }
    }

    /// How many pieces the next `bytes` complete.
    const fn complete(&mut self, bytes: usize) -> usize {
        let all = self.begun + bytes;
        self.begun = all % self.size;
        all / self.size
    }
}

/// On blocking sockets, without a runtime.
struct StdEcho;

impl Contender for StdEcho {
    fn name(&self) -> &'static str {
        "std"
    }

    fn about(&self) -> &'static str {
        "the same on blocking sockets, without a runtime"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp, Medium::Unix]
    }

    fn can(&self, workload: Workload) -> bool {
        matches!(
            workload,
            Workload::Null | Workload::InFlight(_) | Workload::Bytes(_) | Workload::Syscalls
        )
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        now(measure::<StdCaller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        if job.medium == Medium::Tcp {
            let listener = StdTcpListener::bind("127.0.0.1:0")?;
            ready.listening(listener.local_addr()?)?;
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            answer_blocking(job, socket)
        } else {
            let listener = StdUnixListener::bind(&ready.socket)?;
            ready.listening(&ready.socket)?;
            answer_blocking(job, listener.accept()?.0)
        }
    }
}

struct StdCaller {
    wire: Box<dyn StdWire>,
    batch: Batch,
}

trait StdWire: Read + Write + Send {}
impl<T: Read + Write + Send> StdWire for T {}

impl Client for StdCaller {
    type Object = ();
    const IS_BATCHED: bool = true;

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let wire: Box<dyn StdWire> = if job.medium == Medium::Tcp {
            let socket = StdTcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        } else {
            Box::new(StdUnixStream::connect(address)?)
        };
        Ok(Self {
            wire,
            batch: Batch::new(job),
        })
    }

    async fn null(&mut self) -> Result<()> {
        self.wire.write_all(&self.batch.requests)?;
        Ok(self.wire.read_exact(&mut self.batch.replies)?)
    }

    async fn echo(&mut self, _: Bytes) -> Result<()> {
        self.null().await
    }
}

fn answer_blocking(job: &Job, mut socket: impl Read + Write) -> Result<()> {
    let (mut input, replies) = buffers(job);
    let mut requests = Pieces::new(job);
    loop {
        let read = socket.read(&mut input)?;
        if read == 0 {
            return Ok(());
        }
        let whole = requests.complete(read);
        socket.write_all(&replies[..whole * job.sizes.reply])?;
    }
}
