//! A server in a process of its own, whose limits are tight and whose memory is read from outside, and the bytes that flood it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use farref::keys::{Authorized, Identity, Trust};
use farref::message::Message;
use farref::transport::Media;
use farref::{ByteStream, Config, Fixed, Netref, Result, Server, ServerLimits, Value, remote};
use farref_framing::{Batch, Link, LinkConfig, Role, StreamKey, StreamLink, varint};

use crate::program::agent;

/// What is besieged: a method for each way to flood it.
#[remote]
pub trait Fort {
    async fn add(&self, a: u64, b: u64) -> Result<u64>;
    fn blocking_add(&self, a: u64, b: u64) -> Result<u64>;
    /// Never returns.
    async fn wait(&self) -> Result<()>;
    /// Blocks as long as the process lives.
    #[concurrent]
    fn block(&self) -> Result<()>;
    async fn echo(&self, bytes: Bytes) -> Result<Bytes>;
    /// So many bytes.
    async fn fill(&self, count: u64) -> Result<Bytes>;
    async fn child(&self) -> Result<Netref<dyn Fort>>;
    async fn take(&self, child: Netref<dyn Fort>) -> Result<()>;
    /// Bytes without an end.
    async fn flow(&self) -> Result<ByteStream>;
    /// Reads to the end.
    async fn swallow(&self, bytes: ByteStream) -> Result<u64>;
    async fn value(&self, value: Value) -> Result<Value>;
    async fn texts(&self, texts: Vec<Option<String>>) -> Result<usize>;
}

struct Walls;

#[remote]
impl Fort for Walls {
    async fn add(&self, a: u64, b: u64) -> Result<u64> {
        Ok(a + b)
    }

    fn blocking_add(&self, a: u64, b: u64) -> Result<u64> {
        Ok(a + b)
    }

    async fn wait(&self) -> Result<()> {
        std::future::pending().await
    }

    fn block(&self) -> Result<()> {
        loop {
            std::thread::park();
        }
    }

    async fn echo(&self, bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }

    async fn fill(&self, count: u64) -> Result<Bytes> {
        Ok(vec![7; count as usize].into())
    }

    async fn child(&self) -> Result<Netref<dyn Fort>> {
        Ok(Netref::of(Self))
    }

    async fn take(&self, child: Netref<dyn Fort>) -> Result<()> {
        drop(child);
        Ok(())
    }

    async fn flow(&self) -> Result<ByteStream> {
        let (mut sender, bytes) = ByteStream::channel(1);
        drop(tokio::spawn(async move {
            while sender.send(Bytes::from_static(&[7; 65_536])).await.is_ok() {}
        }));
        Ok(bytes)
    }

    async fn swallow(&self, mut bytes: ByteStream) -> Result<u64> {
        let mut swallowed = 0;
        while let Some(piece) = bytes.next().await {
            swallowed += piece?.len() as u64;
        }
        Ok(swallowed)
    }

    async fn value(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    async fn texts(&self, texts: Vec<Option<String>>) -> Result<usize> {
        Ok(texts.len())
    }
}

/// Limits that a test meets soon.
pub fn tight() -> (Config, ServerLimits) {
    let mut config = Config::default();
    config.max_calls = 20;
    config.max_call_bytes = 1 << 20;
    config.max_unread = 4 << 20;
    config.max_objects = 100;
    config.max_depth = 10;
    config.max_blocking = 4;
    config.limits.message = 1 << 20;
    config.limits.lanes = 16;
    config.limits.named = 16;
    config.limits.first_credit = 64 << 10;
    config.limits.receive_pool = 2 << 20;
    config.limits.retained = 256 << 10;
    config.limits.reserve = 64 << 10;
    config.limits.backlog = 4 << 20;
    let mut limits = ServerLimits::default();
    limits.connections = 32;
    limits.opening = 128;
    (config, limits)
}

/// Serves a fort in `directory` for ever: `farref`, `noise` and `rpyc` are its sockets. Says when it does.
pub async fn stand(directory: &str) {
    let (config, limits) = tight();
    let trust = Trust::new(Identity::generate().unwrap()).authorizing(Authorized::anyone());
    let server = Server::with(Fixed::new::<dyn Fort>(Walls), config, limits, Media::standard()).trust(trust);
    for (scheme, socket) in [("unix", "farref"), ("noise+unix", "noise"), ("rpyc+unix", "rpyc")] {
        server
            .listen(format!("{scheme}:{directory}/{socket}"))
            .await
            .unwrap();
    }
    println!("ready");
    server.closed().await;
}

/// A fort in a process of its own, which ends with this.
pub struct Siege {
    process: Child,
    directory: tempfile::TempDir,
}

impl Siege {
    pub fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(agent())
            .arg("fort")
            .arg(directory.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.path().join("errors")).unwrap())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the fort does not stand");
        Self { process, directory }
    }

    /// One of its sockets.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Bytes of memory that it has now.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has had since [`forget_peak`](Self::forget_peak).
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        self.number("Threads:")
    }

    fn status(&self, field: &str) -> u64 {
        self.number(field) << 10
    }

    fn number(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// It is still there, and nothing in it has panicked.
    pub fn stands(&mut self) {
        assert_eq!(self.process.try_wait().unwrap(), None, "the fort has fallen");
        let errors = std::fs::read_to_string(self.socket("errors")).unwrap();
        assert!(errors.is_empty(), "{errors}");
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The preface of a dialer, and what a link of farref's says with it.
pub fn preface(session: bool) -> Vec<u8> {
    let mut config = LinkConfig::new(Role::Dialer, [7; 16], [9; 32]);
    config.session = session;
    let mut batch = Batch::new();
    StreamLink::new(config, 0).poll_transmit(&mut batch, 0);
    batch.to_vec(StreamKey::MAIN)
}

/// A frame.
pub fn frame(kind: u8, lane: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    varint::put(&mut bytes, lane);
    varint::put(&mut bytes, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// A message on lane 0, its body behind its head, in frames of 16 KiB.
pub fn message(message: &Message<'_>, body: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    message.encode(&mut head);
    head.extend_from_slice(body);
    let mut lane = Vec::new();
    varint::put(&mut lane, 2 * head.len() as u64);
    lane.extend_from_slice(&head);
    lane.chunks(16 << 10)
        .flat_map(|piece| frame(1, 0, piece))
        .collect()
}

/// A message whose body comes on `lane`, of which nothing is here yet.
pub fn announced(lane: u64, length: u64, head: &Message<'_>) -> Vec<u8> {
    let (mut bytes, mut encoded) = (Vec::new(), Vec::new());
    head.encode(&mut encoded);
    varint::put(&mut bytes, 2 * encoded.len() as u64 + 1);
    varint::put(&mut bytes, lane);
    varint::put(&mut bytes, length);
    bytes.extend_from_slice(&encoded);
    frame(1, 0, &bytes)
}

/// Pours bytes into a socket as fast as they are taken, and dials again whenever it is hung up on.
pub struct Spout {
    path: PathBuf,
    begin: Vec<u8>,
    /// Whether it reads what comes back.
    listens: bool,
    stream: UnixStream,
    waiting: VecDeque<u8>,
    /// How much was made for this carrier.
    made: u64,
}

impl Spout {
    pub fn new(path: &Path, begin: Vec<u8>, listens: bool) -> Self {
        let mut spout = Self {
            path: path.into(),
            begin,
            listens,
            stream: UnixStream::pair().unwrap().0,
            waiting: VecDeque::new(),
            made: 0,
        };
        spout.dial();
        spout
    }

    fn dial(&mut self) {
        self.stream = UnixStream::connect(&self.path).unwrap();
        self.stream.set_nonblocking(true).unwrap();
        self.waiting = self.begin.clone().into();
        self.made = 0;
    }

    /// Writes what `more` makes, as far as it is taken; `more` is told how often it was called since the last dialling.
    pub fn pour(&mut self, more: &mut dyn FnMut(u64) -> Vec<u8>) {
        if self.waiting.is_empty() {
            self.waiting = more(self.made).into();
            self.made += 1;
        }
        let written = self.stream.write(self.waiting.make_contiguous());
        let mut is_over = match written {
            Ok(count) => {
                self.waiting.drain(..count);
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The server has its turn.
                std::thread::sleep(Duration::from_micros(50));
                false
            }
            Err(_) => true,
        };
        while self.listens && !is_over {
            match self.stream.read(&mut [0; 65_536]) {
                Ok(0) => is_over = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => is_over = true,
            }
        }
        if is_over {
            self.dial();
        }
    }
}
