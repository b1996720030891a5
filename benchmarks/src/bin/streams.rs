//! Streams and far files beside a raw copy of the same bytes: how fast, for how much CPU time, in how much memory.
//!
//! ```sh
//! cargo run --release --manifest-path benchmarks/Cargo.toml --bin streams
//! cargo run --release --manifest-path benchmarks/Cargo.toml --bin streams -- tcp raw,bytes,bytes-std 9
//! ```
//!
//! Two processes of their own for every turn of every contender, each on tokio's runtime of many threads, over loopback
//! TCP or a Unix socket, without encryption. The raw copy is `tokio::io::copy` at both ends: of as many bytes made in memory
//! into the socket, and out of the socket into nothing. That of a file, `raw-file`, is beside far files, and itself beside
//! `raw`. Contenders take turns; ratios are medians of those within a turn.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use farref::file::{self, File, Handle};
use farref::{ByteStream, Netref, Server, Stream, connect, remote};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ITEMS: u64 = 50_000_000;
const BYTES: u64 = 1 << 30;
const TURNS: usize = 5;

/// Names, and what is measured. All but the last read 1 GiB.
const CONTENDERS: [(&str, &str); 9] = [
    ("raw", "`tokio::io::copy` from memory to a socket, and from there"),
    (
        "raw-file",
        "the same from a file in the page cache, 252 KiB at a time",
    ),
    (
        "bytes",
        "`ByteStream` made of the same memory, by `tokio::io::copy`",
    ),
    ("bytes-buf", "the same, by `tokio::io::copy_buf`"),
    ("bytes-std", "the same, by `std::io::copy` on a thread"),
    ("file", "far file in the page cache, by `tokio::io::copy`"),
    ("file-buf", "the same, by `tokio::io::copy_buf`"),
    ("file-std", "the same, by `std::io::copy` on a thread"),
    ("items", "50 million `u64` through a `Stream`"),
];

#[remote]
trait Source {
    async fn items(&self, count: u64) -> farref::Result<Stream<u64>>;
    async fn bytes(&self, count: u64) -> farref::Result<ByteStream>;
    async fn file(&self) -> farref::Result<Netref<dyn File>>;
}

/// With the path of a file.
struct Served(String);

#[remote]
impl Source for Served {
    async fn items(&self, count: u64) -> farref::Result<Stream<u64>> {
        Ok(Stream::from_iter(0..count))
    }

    async fn bytes(&self, count: u64) -> farref::Result<ByteStream> {
        Ok(ByteStream::read(tokio::io::repeat(7).take(count)))
    }

    async fn file(&self) -> farref::Result<Netref<dyn File>> {
        Ok(file::share(std::fs::File::open(&self.0)?))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["server", medium, path] => return serve(medium, path).await,
        ["client", medium, contender, farref, raw] => return measure(medium, contender, farref, raw).await,
        _ => {}
    }
    if arguments.iter().any(|argument| argument.starts_with('-')) {
        help();
        return Ok(());
    }
    let mut arguments = arguments.into_iter();
    let media: Vec<&str> = arguments.next().unwrap_or("tcp,unix").split(',').collect();
    let chosen = arguments.next().map(|of| of.split(',').collect::<Vec<_>>());
    let turns = arguments.next().map_or(Ok(TURNS), str::parse)?;
    let mut named = chosen.iter().flatten();
    if let Some(unknown) = named.find(|name| CONTENDERS.iter().all(|(known, _)| known != *name)) {
        return Err(format!("no contender is called `{unknown}`: try --help").into());
    }
    if let Some(unknown) = media.iter().find(|medium| !["tcp", "unix"].contains(medium)) {
        return Err(format!("the medium is tcp or unix, and not `{unknown}`: try --help").into());
    }
    let is_named = |name: &str| chosen.as_ref().is_none_or(|chosen| chosen.contains(&name));
    let reads_files = ["file", "file-buf", "file-std"].into_iter().any(is_named);
    let is_chosen = |name: &str| name == "raw" || (name == "raw-file" && reads_files) || is_named(name);
    let file = Removed(in_temp("file"));
    if reads_files || is_named("raw-file") {
        fill(&file.0)?;
    }
    for medium in media {
        let contenders = CONTENDERS.iter().filter(|(name, _)| is_chosen(name));
        let mut found: Vec<_> = contenders.map(|of| (of, Vec::new())).collect();
        for _ in 0..turns {
            for ((name, _), turns) in &mut found {
                turns.push(turn(medium, name, &file.0)?);
            }
        }
        table(medium, &found);
    }
    Ok(())
}

fn help() {
    println!("streams [MEDIA [CONTENDERS [TURNS]]]\n");
    println!("MEDIA       tcp, unix or both (tcp,unix), which is the default");
    println!("CONTENDERS  of these, with commas between them; all by default:");
    for (name, what) in CONTENDERS {
        println!("  {name:9} {what}");
    }
    println!("TURNS       of each contender; {TURNS} by default");
}

/// What one turn took.
struct Turn {
    seconds: f64,
    /// Of both processes.
    cpu: f64,
    /// Most memory of the client and of the server, in KiB.
    peaks: [u64; 2],
}

/// Lets a client and a server do it.
fn turn(medium: &str, contender: &str, path: &str) -> Result<Turn> {
    // The server is killed in the end, and may not get to remove them itself.
    let _sockets = sockets(path).map(Removed);
    let (mut server, mut said) = start(&["server", medium, path])?;
    let (farref, raw) = said_pair(&mut said)?;
    let (_client, mut tells) = start(&["client", medium, contender, &farref, &raw])?;
    let mut line = String::new();
    tells.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut next = move || words.next().ok_or("the client says nothing");
    let (seconds, client): (f64, f64) = (next()?.parse()?, next()?.parse()?);
    let client_peak = next()?.parse()?;
    // Its cue to say what it took.
    drop(server.0.stdin.take());
    let (cpu, peak) = said_pair(&mut said)?;
    Ok(Turn {
        seconds,
        cpu: client + cpu.parse::<f64>()?,
        peaks: [client_peak, peak.parse()?],
    })
}

fn table(medium: &str, found: &[(&(&str, &str), Vec<Turn>)]) {
    println!("\n| {medium} | what | rate | of raw | CPU s | of raw | client MiB | server MiB |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    let turns_of = |name: &str| {
        found
            .iter()
            .find(|((of, _), _)| *of == name)
            .map(|(_, turns)| turns)
    };
    let Some(raw) = turns_of("raw") else { return };
    for ((name, what), turns) in found {
        let rate = |turn: &Turn| match *name {
            "items" => ITEMS as f64 / turn.seconds / 1e6,
            _ => BYTES as f64 / turn.seconds / 1e9,
        };
        // Beside the copy of the same bytes.
        let raw = turns_of("raw-file")
            .filter(|_| name.starts_with("file"))
            .unwrap_or(raw);
        let unit = if *name == "items" { "M/s" } else { "GB/s" };
        let beside = |of: fn(&Turn, &Turn) -> f64| match *name {
            "items" => String::new(),
            _ => format!(
                "{:.2}",
                median(turns.iter().zip(raw).map(|(turn, raw)| of(turn, raw)))
            ),
        };
        let peak =
            |of: usize| turns.iter().map(|turn| turn.peaks[of]).max().unwrap_or_default() as f64 / 1024.0;
        println!(
            "| {name} | {what} | {:.2} {unit} | {} | {:.2} | {} | {:.1} | {:.1} |",
            median(turns.iter().map(rate)),
            beside(|turn, raw| raw.seconds / turn.seconds),
            median(turns.iter().map(|turn| turn.cpu)),
            beside(|turn, raw| turn.cpu / raw.cpu),
            peak(0),
            peak(1),
        );
    }
}

/// The reading process: tells seconds, its CPU seconds, and its most memory.
async fn measure(medium: &str, contender: &str, farref: &str, raw: &str) -> Result<()> {
    let (before, start) = (cpu(), Instant::now());
    if let Some(from) = contender.strip_prefix("raw") {
        let mut stream: Box<dyn Both> = match medium {
            "unix" => Box::new(UnixStream::connect(raw).await?),
            _ => Box::new(TcpStream::connect(raw).await?),
        };
        stream.write_u8(u8::from(from == "-file")).await?;
        assert_eq!(tokio::io::copy(&mut stream, &mut sink()).await?, BYTES);
        return tell(start, before);
    }
    let connection = connect(farref).await?;
    let source: Netref<dyn Source> = connection.root().await?;
    let (before, start) = (cpu(), Instant::now());
    let copied = match contender {
        "bytes" => tokio::io::copy(&mut source.call().bytes(BYTES).await?, &mut sink()).await?,
        "bytes-buf" => tokio::io::copy_buf(&mut source.call().bytes(BYTES).await?, &mut sink()).await?,
        "bytes-std" => on_a_thread(source.call().bytes(BYTES).await?.blocking()).await?,
        "file" => tokio::io::copy(&mut Handle::new(source.call().file().await?), &mut sink()).await?,
        "file-buf" => tokio::io::copy_buf(&mut Handle::new(source.call().file().await?), &mut sink()).await?,
        "file-std" => on_a_thread(Handle::new(source.call().file().await?).blocking()).await?,
        "items" => {
            let mut stream = source.call().items(ITEMS).await?;
            let mut next = 0;
            while let Some(item) = stream.next().await {
                assert_eq!(item?, next);
                next += 1;
            }
            assert_eq!(next, ITEMS);
            BYTES
        }
        _ => return Err(format!("no contender is called `{contender}`").into()),
    };
    assert_eq!(copied, BYTES);
    tell(start, before)
}

async fn on_a_thread(mut reader: impl std::io::Read + Send + 'static) -> Result<u64> {
    let copied = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink()));
    Ok(copied.await??)
}

fn tell(start: Instant, before: Duration) -> Result<()> {
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
    println!("{seconds} {cpu} {}", peak()?);
    // Without a goodbye: what follows is not measured.
    std::process::exit(0)
}

/// The other process: tells its addresses, and in the end its CPU seconds and its most memory.
async fn serve(medium: &str, path: &str) -> Result<()> {
    let server = Server::of::<dyn Source>(Served(path.to_owned()));
    let path = path.to_owned();
    // Whoever has started it may be gone.
    let sockets = sockets(&path).map(Removed);
    let (farref, raw) = if medium == "unix" {
        let listener = UnixListener::bind(&sockets[1].0)?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                send(stream, &path).await?;
            }
            std::io::Result::Ok(())
        });
        (
            server.listen(&format!("unix:{}", sockets[0].0)).await?,
            sockets[1].0.clone(),
        )
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let raw = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                send(stream, &path).await?;
            }
            std::io::Result::Ok(())
        });
        (server.listen("plain+tcp://127.0.0.1:0").await?, raw)
    };
    let before = cpu();
    println!("{farref} {raw}");
    std::io::stdout().flush()?;
    // Until the client is done.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    println!("{} {}", (cpu() - before).as_secs_f64(), peak()?);
    std::io::stdout().flush()?;
    Ok(())
}

/// Either half of a socket.
trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// Sends what the other end asks for: bytes made in memory, or those of the file.
async fn send(mut stream: impl Both, path: &str) -> std::io::Result<()> {
    if stream.read_u8().await? == 0 {
        tokio::io::copy(&mut tokio::io::repeat(7).take(BYTES), &mut stream).await?;
    } else {
        let file = tokio::fs::File::open(path).await?;
        let mut file = tokio::io::BufReader::with_capacity(252 << 10, file);
        tokio::io::copy_buf(&mut file, &mut stream).await?;
    }
    stream.shutdown().await
}

/// Where the server listens, beside the file that it serves.
fn sockets(path: &str) -> [String; 2] {
    ["farref", "raw"].map(|name| format!("{path}-{name}"))
}

/// A process, ended with this.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file, removed with this.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn in_temp(name: &str) -> String {
    let name = format!("farref-streams-{}-{name}", std::process::id());
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}

/// Fills a file, which is in the page cache then.
fn fill(path: &str) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let block = vec![7; 1 << 20];
    for _ in 0..BYTES >> 20 {
        file.write_all(&block)?;
    }
    Ok(())
}

fn start(arguments: &[&str]) -> Result<(Ends, BufReader<ChildStdout>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    Ok((Ends(child), BufReader::new(out)))
}

fn said_pair(said: &mut BufReader<ChildStdout>) -> Result<(String, String)> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    let (one, other) = line.trim().split_once(' ').ok_or("the server says nothing")?;
    Ok((one.to_owned(), other.to_owned()))
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut of: Vec<f64> = of.collect();
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

/// User and system time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Most resident memory of this process so far, in KiB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmHWM")?.parse()?)
}
