//! Servers to dial, homes with keys, and runs of the program.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use farref::keys::{KeyStore, Policy, Trust};
use farref::speed::{self, Speed};
use farref::{ByteStream, Error, ErrorKind, Netref, Object, Record, Result, Server, Stream, Value, remote};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A bench of instruments.
#[remote(name = "test.Bench")]
pub(crate) trait Bench {
    /// What to call it.
    #[property]
    fn title(&self) -> Result<String>;
    #[property]
    fn set_title(&self, title: String) -> Result<()>;
    /// The part of that name.
    fn part(&self, name: String) -> Result<Netref<dyn Bench>>;
    /// Measures a channel, in volts.
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
    /// All channels.
    fn table(&self) -> Result<Value>;
    /// Numbers, one after the other.
    async fn count(&self, to: u64) -> Result<Stream<u64>>;
    /// Text in pieces.
    async fn text(&self) -> Result<ByteStream>;
    /// What was sent.
    async fn echo(&self, value: Value) -> Result<Value>;
    /// Never returns.
    async fn hang(&self) -> Result<()>;
    /// Fails as it is told to.
    fn fail(&self, denied: bool) -> Result<()>;
    /// For `farref speed`.
    async fn service(&self, name: &str) -> Result<Object>;
}

pub(crate) struct Rig(std::sync::Mutex<String>);

impl Rig {
    pub(crate) fn new(title: &str) -> Self {
        Self(std::sync::Mutex::new(title.to_owned()))
    }
}

#[remote]
impl Bench for Rig {
    fn title(&self) -> Result<String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn set_title(&self, title: String) -> Result<()> {
        *self.0.lock().unwrap() = title;
        Ok(())
    }

    fn part(&self, name: String) -> Result<Netref<dyn Bench>> {
        Ok(Netref::of(Self::new(&name)))
    }

    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
        Ok(f64::from(channel) * gain.unwrap_or(1.0))
    }

    fn table(&self) -> Result<Value> {
        let row = |name: &str, volts: f64| {
            Record::named("Row", [("name", Value::from(name)), ("volts", volts.into())]).into()
        };
        Ok(Value::List(vec![row("first", 1.5), row("second", 12.25)]))
    }

    async fn count(&self, to: u64) -> Result<Stream<u64>> {
        Ok(Stream::from_iter(0..to))
    }

    async fn text(&self) -> Result<ByteStream> {
        Ok(ByteStream::read(&b"first\nsecond\n"[..]))
    }

    async fn echo(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    async fn hang(&self) -> Result<()> {
        std::future::pending().await
    }

    fn fail(&self, denied: bool) -> Result<()> {
        let kind = if denied {
            ErrorKind::Denied
        } else {
            ErrorKind::Failed
        };
        Err(Error::new(kind, "out of cable"))
    }

    async fn service(&self, _name: &str) -> Result<Object> {
        Ok(speed::share().dynamic())
    }
}

/// A server in this process, and a home for the program that it knows.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) home: TempDir,
    /// Where the bench is, with the key that answers.
    pub(crate) address: String,
    _server: Server,
}

impl World {
    /// A bench over TCP, which lets the program in that runs with `home`.
    pub(crate) fn new() -> Self {
        Self::of(Server::of::<dyn Bench>(Rig::new("rig")))
    }

    pub(crate) fn speed() -> Self {
        Self::of(Server::of::<dyn Speed>(speed::share()))
    }

    fn of(server: Server) -> Self {
        let home = tempfile::tempdir().unwrap();
        let own = KeyStore::open(home.path()).identity().unwrap().public();
        let theirs = KeyStore::open(home.path().join("server"));
        theirs
            .authorized_peers()
            .add(&own, &farref::keys::Grant::default())
            .unwrap();
        let runtime = Runtime::new().unwrap();
        let server = server.trust(Trust::of_store(&theirs, Policy::Strict).unwrap());
        let address = runtime.block_on(server.listen("tcp://127.0.0.1:0")).unwrap();
        Self {
            runtime,
            home,
            address: address.to_string(),
            _server: server,
        }
    }

    /// Runs the program with these arguments; `@` stands for the address.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.feed(arguments, "")
    }

    /// The same with something to read.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| argument.replace('@', &self.address))
            .collect();
        run(self.home.path(), &arguments, input)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _in_runtime = self.runtime.enter();
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it wrote, if it was content.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        &self.out
    }

    /// What it complained of, with that code.
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        &self.err
    }
}

pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farref"));
    command
        .env_clear()
        .env("FARREF_HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(home: &Path, arguments: &[S], input: &str) -> Ran {
    let mut child = command(home)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end without reading, or write before it has read all.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
