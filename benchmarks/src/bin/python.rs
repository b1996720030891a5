//! Python's RPyC beside farref, as client and as server, over TCP: rates, and the CPU time of the server.
//!
//! ```sh
//! tools/python-peers.sh
//! cd benchmarks && cargo run --release --bin python -- ../.python-peers/6.0.2/bin/python
//! ```
//!
//! Each round runs all contenders in turn; what is printed are medians of the rounds. "root.none()" is what people write:
//! Python makes three requests of it. "kept" calls a method that was taken from the object before. "bare" is the least that
//! there is: a server that does nothing but read and write, for a client that does with its socket what RPyC's does, and takes
//! about as long in between.
//!
//! With a CPU for each side, most of what a call costs the server is to wake the other CPU, whatever it does besides: pin them
//! to one (`taskset -c 1`) to see the work alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use farref::{Netref, Object, Result, remote};

/// What is called.
#[remote]
trait Service {
    async fn none(&self) -> Result<()>;
    async fn add(&self, a: i64, b: i64) -> Result<i64>;
}

struct Served;

#[remote]
impl Service for Served {
    async fn none(&self) -> Result<()> {
        Ok(())
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(a + b)
    }
}

/// A service of Python's, in its own threaded server.
const SERVER: &str = r#"
import sys, threading, rpyc
from rpyc.utils.server import ThreadedServer
class S(rpyc.Service):
    def exposed_none(self): return None
    def exposed_add(self, a, b): return a + b
s = ThreadedServer(S, hostname="127.0.0.1", port=0, auto_register=False)
s.listener.listen()
print(s.port, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), s.close()), daemon=True).start()
s.start()
"#;

/// Runs one workload for so many seconds, and tells how many calls it made in how many seconds.
const CLIENT: &str = r#"
import sys, time, rpyc
root = rpyc.connect("127.0.0.1", int(sys.argv[1])).root
none, add = root.none, root.add
work = {"root.none()": lambda: root.none(), "kept none()": lambda: none(), "kept add(1, 2)": lambda: add(1, 2)}
for line in sys.stdin:
    name, seconds = line.rstrip("\n").split("\t")
    f, n, start = work[name], 0, time.perf_counter()
    end = start + float(seconds)
    while time.perf_counter() < end:
        for _ in range(20): f()
        n += 20
    print(n, time.perf_counter() - start, flush=True)
"#;

/// What RPyC's client does with its socket, for as long.
const BARE_CLIENT: &str = r#"
import select, socket, sys, time
s, p = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), select.poll()
p.register(s, select.POLLIN)
def call():
    for _ in range(1900): pass
    s.sendall(b"." * 32)
    p.poll(1000)
    s.recv(5), s.recv(64)
for line in sys.stdin:
    n, start = 0, time.perf_counter()
    end = start + float(line.split("\t")[1])
    while time.perf_counter() < end:
        for _ in range(20): call()
        n += 20
    print(n, time.perf_counter() - start, flush=True)
"#;

const WORK: [&str; 3] = ["root.none()", "kept none()", "kept add(1, 2)"];

/// A process that answers lines.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or_else(|| farref::Error::msg("no pipe"))?);
        let input = child.stdin.take();
        Ok(Self { child, input, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{question}")?;
            input.flush()?;
        }
        self.line()
    }

    /// User and system time of all threads that there are, in seconds. To the nanosecond: what `stat` tells is a tenth of what a
    /// round takes.
    fn cpu(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let told = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let ran = told.split(' ').next().and_then(|ran| ran.parse::<f64>().ok());
            nanoseconds += ran.ok_or_else(|| farref::Error::msg("no time in `schedstat`"))?;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls a second, and the server's CPU time per call in microseconds.
type Figure = (f64, f64);

#[derive(Default)]
struct Figures(BTreeMap<(&'static str, &'static str), Vec<Figure>>);

impl Figures {
    fn add(&mut self, work: &'static str, who: &'static str, calls: f64, seconds: f64, cpu: f64) {
        let figure = (calls / seconds, cpu * 1e6 / calls);
        self.0.entry((work, who)).or_default().push(figure);
    }

    fn median(&self, work: &'static str, who: &'static str) -> Figure {
        let all = self.0.get(&(work, who)).cloned().unwrap_or_default();
        let middle = |pick: fn(&Figure) -> f64| {
            let mut all: Vec<f64> = all.iter().map(pick).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        (middle(|figure| figure.0), middle(|figure| figure.1))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments
        .next()
        .unwrap_or_else(|| "../.python-peers/6.0.2/bin/python".into());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if first == "bare" {
        return serve_bare();
    }
    if first == "serve" {
        return runtime.block_on(serve(arguments.next().is_some()));
    }
    let rounds = arguments
        .next()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(7);
    measure(&first, rounds, &runtime)
}

async fn serve(shares: bool) -> Result<()> {
    let mut limits = farref::ServerLimits::default();
    if shares {
        limits.python_threads = 0;
    }
    let service = farref::Fixed::new::<dyn Service>(Served);
    let server = farref::Server::with(
        service,
        farref::Config::default(),
        limits,
        farref::transport::Media::standard(),
    );
    let at = server.listen("rpyc://127.0.0.1:0").await?;
    let port = at.to_string();
    println!(
        "{}",
        port.rsplit(':')
            .next()
            .unwrap_or_default()
            .split('?')
            .next()
            .unwrap_or_default()
    );
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await
        .map_err(|error| farref::Error::msg(error.to_string()))??;
    Ok(())
}

/// Reads and writes, for one client.
fn serve_bare() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let mut request = [0; 4096];
    while socket.read(&mut request)? > 0 {
        socket.write_all(&[b'.'; 24])?;
    }
    Ok(())
}

fn measure(python: &str, rounds: usize, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let here = std::env::current_exe()?;
    let mut their_server = Peer::start(Command::new(python).args(["-c", SERVER]))?;
    let mut our_server = Peer::start(Command::new(&here).arg("serve"))?;
    let mut our_shared = Peer::start(Command::new(&here).args(["serve", "shared"]))?;
    let mut bare = Peer::start(Command::new(here).arg("bare"))?;
    let (their_port, our_port) = (their_server.line()?, our_server.line()?);
    let (shared_port, bare_port) = (our_shared.line()?, bare.line()?);
    let mut to_theirs = Peer::start(Command::new(python).args(["-c", CLIENT, &their_port]))?;
    let mut to_ours = Peer::start(Command::new(python).args(["-c", CLIENT, &our_port]))?;
    let mut to_shared = Peer::start(Command::new(python).args(["-c", CLIENT, &shared_port]))?;
    let mut to_bare = Peer::start(Command::new(python).args(["-c", BARE_CLIENT, &bare_port]))?;
    let connection =
        runtime.block_on(async { farref::connect(format!("rpyc://127.0.0.1:{their_port}")).await })?;
    let root: Object = runtime.block_on(connection.object())?;
    let typed: Netref<dyn Service> = runtime.block_on(async { root.cast().await })?;
    let none = Object::try_from(runtime.block_on(async { root.get("none").await })?)?;
    let add = Object::try_from(runtime.block_on(async { root.get("add").await })?)?;
    let mut figures = Figures::default();
    for _ in 0..rounds {
        for work in WORK {
            let ask = format!("{work}\t{SECONDS}");
            for (who, client, server) in [
                ("python to python", &mut to_theirs, &their_server),
                ("python to farref", &mut to_ours, &our_server),
                (SHARED, &mut to_shared, &our_shared),
                (BARE, &mut to_bare, &bare),
            ] {
                if who == BARE && work != KEPT {
                    continue;
                }
                let before = server.cpu()?;
                let told = client.ask(&ask)?;
                let cpu = server.cpu()? - before;
                let numbers: Vec<f64> = told.split(' ').filter_map(|number| number.parse().ok()).collect();
                if let [calls, seconds] = numbers[..] {
                    figures.add(work, who, calls, seconds, cpu);
                }
            }
            let before = their_server.cpu()?;
            let (calls, took) = runtime.block_on(async {
                let begin = Instant::now();
                let mut calls = 0.0;
                while begin.elapsed() < Duration::from_secs_f64(SECONDS) {
                    for _ in 0..20 {
                        match work {
                            "root.none()" => typed.call().none().await?,
                            "kept none()" => drop(none.invoke(()).await?),
                            _ => drop(add.invoke((1, 2)).await?),
                        }
                    }
                    calls += 20.0;
                }
                Ok::<_, farref::Error>((calls, begin.elapsed()))
            })?;
            let cpu = their_server.cpu()? - before;
            figures.add(work, "farref to python", calls, took.as_secs_f64(), cpu);
        }
    }
    println!(
        "Medians of {rounds} rounds of {SECONDS} s each, TCP; the server's CPU time includes the system's.\n"
    );
    println!(
        "| work | client and server | calls/s | to RPyC's own | server CPU, µs a call | to RPyC's own |"
    );
    println!("|---|---|--:|--:|--:|--:|");
    for work in WORK {
        let own = figures.median(work, "python to python");
        for who in [
            "python to python",
            "farref to python",
            "python to farref",
            SHARED,
            BARE,
        ] {
            let (rate, cpu) = figures.median(work, who);
            if rate == 0.0 {
                continue;
            }
            println!(
                "| {work} | {who} | {rate:.0} | {:.2} | {cpu:.1} | {:.2} |",
                rate / own.0,
                cpu / own.1
            );
        }
    }
    Ok(())
}

/// On the runtime's threads rather than one of the connection's own.
const SHARED: &str = "python to farref, no threads";

/// With nothing in between.
const BARE: &str = "bare";

/// What that is compared with.
const KEPT: &str = WORK[1];

const SECONDS: f64 = 0.5;
