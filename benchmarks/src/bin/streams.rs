//! Streams beside a raw copy of the same bytes: items a second, and bytes a second through a stream of
//! bytes and through a far file.
//!
//! ```sh
//! cargo run --release --manifest-path benchmarks/Cargo.toml --bin streams
//! ```
//!
//! Two processes over loopback TCP without encryption; contenders take turns, and every figure is the median of the turns.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use farref::file::{self, File, Handle};
use farref::{ByteStream, Netref, Server, Stream, connect, remote};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ITEMS: u64 = 50_000_000;
const BYTES: u64 = 1 << 30;
const TURNS: usize = 5;

#[remote]
trait Source {
    async fn items(&self, count: u64) -> farref::Result<Stream<u64>>;
    async fn bytes(&self, count: u64) -> farref::Result<ByteStream>;
    async fn file(&self, len: u64) -> farref::Result<Netref<dyn File>>;
}

struct Served;

#[remote]
impl Source for Served {
    async fn items(&self, count: u64) -> farref::Result<Stream<u64>> {
        Ok(Stream::from_iter(0..count))
    }

    async fn bytes(&self, count: u64) -> farref::Result<ByteStream> {
        Ok(ByteStream::read(tokio::io::repeat(7).take(count)))
    }

    async fn file(&self, len: u64) -> farref::Result<Netref<dyn File>> {
        let path = std::env::temp_dir().join(format!("farref-streams-{}", std::process::id()));
        let mut options = std::fs::File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        std::fs::remove_file(path)?;
        file.set_len(len)?;
        Ok(file::share(file))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("server") {
        return serve().await;
    }
    let (_child, farref, raw) = start()?;
    let connection = connect(farref).await?;
    let source: Netref<dyn Source> = connection.root().await?;
    let (mut items, mut bytes, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut files, mut blocking) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let start = Instant::now();
        let mut stream = source.call().items(ITEMS).await?;
        let mut next = 0;
        while let Some(item) = stream.next().await {
            assert_eq!(item?, next);
            next += 1;
        }
        assert_eq!(next, ITEMS);
        items.push(ITEMS as f64 / start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut stream = source.call().bytes(BYTES).await?;
        assert_eq!(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?, BYTES);
        bytes.push(BYTES as f64 / start.elapsed().as_secs_f64());

        let file = source.call().file(BYTES).await?;
        // Once before, so that the other process has it in memory.
        tokio::io::copy_buf(&mut Handle::new(file.clone()), &mut tokio::io::sink()).await?;
        let start = Instant::now();
        let mut reader = Handle::new(file.clone());
        assert_eq!(
            tokio::io::copy_buf(&mut reader, &mut tokio::io::sink()).await?,
            BYTES
        );
        files.push(BYTES as f64 / start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut reader = Handle::new(file).blocking();
        let copied = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink()));
        assert_eq!(copied.await??, BYTES);
        blocking.push(BYTES as f64 / start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut stream = TcpStream::connect(&raw).await?;
        assert_eq!(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?, BYTES);
        copies.push(BYTES as f64 / start.elapsed().as_secs_f64());
    }
    let ratios = bytes
        .iter()
        .zip(&copies)
        .map(|(bytes, copy)| bytes / copy)
        .collect();
    let share = |of: &[f64]| median(of.iter().zip(&copies).map(|(of, copy)| of / copy).collect());
    let (of_files, of_blocking) = (share(&files), share(&blocking));
    println!("| what | at least | found |\n|---|--:|--:|");
    println!(
        "| million u64 a second through a stream | 10 | {:.1} |",
        median(items) / 1e6
    );
    println!(
        "| 1 GiB through a stream of bytes, GB/s | | {:.2} |",
        median(bytes) / 1e9
    );
    println!(
        "| 1 GiB through a raw tokio copy, GB/s | | {:.2} |",
        median(copies) / 1e9
    );
    println!(
        "| the first as a share of the second | 0.8 | {:.2} |",
        median(ratios)
    );
    println!("| 1 GiB of a far file by a task, as a share of the copy | 0.8 | {of_files:.2} |");
    println!("| 1 GiB of a far file by `std::io::Read`, likewise | 0.8 | {of_blocking:.2} |");
    println!("| most memory of this process, MiB | | {} |", peak()?);
    Ok(())
}

async fn serve() -> Result<()> {
    let server = Server::of::<dyn Source>(Served);
    let farref = server.listen("plain+tcp://127.0.0.1:0").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{farref} {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::io::copy(&mut tokio::io::repeat(7).take(BYTES), &mut stream).await?;
            stream.shutdown().await?;
        }
        std::io::Result::Ok(())
    });
    // Until the other process is gone.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// The other process, ended with this.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Result<(Ends, String, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let (farref, raw) = line.trim().split_once(' ').ok_or("the server says nothing")?;
    Ok((Ends(child), farref.to_owned(), raw.to_owned()))
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmHWM")?
        .parse()?;
    Ok(kib / 1024)
}
