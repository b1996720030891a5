//! Real Python peers: RPyC of three ages, served and run with the scripts of `integration-tests/python`.
//!
//! `tools/python-peers.sh` makes them. Without them their tests are skipped, under CI they fail.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use farref::transport::Address;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a script may take. The longest takes a few seconds where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A version of RPyC that stands for all that speak like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.1.5: the older dialect, without thread binding.
    Four,
    /// 5.3.1: the older dialect.
    Five,
    /// 6.0.2: the newer dialect.
    Six,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Four, Self::Five, Self::Six];

    /// The number in full.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Four => "4.1.5",
            Self::Five => "5.3.1",
            Self::Six => "6.0.2",
        }
    }
}

/// What a Python server offers, by the names of `serve.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The reference service, under the policy that is RPyC's default.
    Ref,
    /// The same; public attributes may be read, set and deleted.
    Public,
    /// The same; pickling is allowed.
    Pickle,
    /// The same; requests are bound to threads.
    Bound,
    /// An interpreter.
    Classic,
}

impl Offer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ref, Self::Public, Self::Pickle, Self::Bound, Self::Classic];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ref => "ref",
            Self::Public => "public",
            Self::Pickle => "pickle",
            Self::Bound => "bound",
            Self::Classic => "classic",
        }
    }
}

/// Where a Python server listens.
#[derive(Debug, Clone, Copy)]
pub enum Medium<'a> {
    /// On a port of loopback that the system chooses.
    Tcp,
    /// On a socket in a directory of its own.
    Unix,
    /// The same as over tcp, behind TLS with this certificate and its key, both files of PEM.
    Tls { certificate: &'a Path, key: &'a Path },
}

/// A Python with one version of RPyC.
#[derive(Debug, Clone)]
pub struct Python {
    version: Version,
    program: PathBuf,
}

impl Python {
    /// The one with that version. `None` where it was not made; under CI (the variable `CI` is set) it must be there.
    pub fn of(version: Version) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let peers = std::env::var_os("FARREF_PYTHON_PEERS").unwrap_or_else(|| ".python-peers".into());
        let program = root.join(peers).join(version.number()).join("bin/python");
        if program.is_file() {
            return Some(Self { version, program });
        }
        let number = version.number();
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs a Python with RPyC {number}: tools/test-needs.sh makes it"
        );
        println!("skipped with RPyC {number}: tools/test-needs.sh makes a Python that has it");
        None
    }

    /// Those of all versions that are there.
    pub fn all() -> Vec<Self> {
        Version::ALL.into_iter().filter_map(Self::of).collect()
    }

    /// The version of its RPyC.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Its interpreter.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a server and waits until it listens.
    pub fn serve(&self, offer: Offer, medium: Medium<'_>) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let mut command = self.command("serve.py");
        command.arg(offer.name());
        match medium {
            Medium::Tcp => command.arg("tcp"),
            Medium::Unix => command.arg("unix").arg(directory.path().join("socket")),
            Medium::Tls { certificate, key } => command.arg("tls").arg(certificate).arg(key),
        };
        let mut server = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It must not be held up by what nobody reads.
        let mut errors = server.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            let _ = errors.read_to_string(&mut log);
            log
        });
        let mut said = String::new();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let place = said.trim();
        if place.is_empty() {
            let _ = server.wait();
            panic!("a Python server did not start: {}", log.join().unwrap());
        }
        let address = match medium {
            Medium::Tcp => format!("rpyc://127.0.0.1:{place}"),
            Medium::Unix => format!("rpyc+unix:{place}"),
            Medium::Tls { .. } => format!("rpyc+ssl://127.0.0.1:{place}"),
        };
        Served {
            address: address.parse().unwrap(),
            server,
            log: Some(log),
            _directory: directory,
        }
    }

    /// Where to dial for a server on the standard streams of a child, one for each connection.
    pub fn stdio(&self, offer: Offer) -> Address {
        let address: Address = format!("rpyc+exec:{}", self.program.display()).parse().unwrap();
        ["-B", script("serve.py").to_str().unwrap(), offer.name(), "stdio"]
            .into_iter()
            .fold(address, |address, argument| {
                address.with_option("arg", argument).unwrap()
            })
    }

    /// Runs a script to its end; what it wrote.
    ///
    /// # Errors
    ///
    /// What it wrote and what it complained of, if it failed or did not end within a minute.
    pub async fn run(&self, name: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::from(self.command(name));
        let mut script = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = tokio::spawn(all(script.stdout.take().unwrap()));
        let complaints = tokio::spawn(all(script.stderr.take().unwrap()));
        let ended = match tokio::time::timeout(PATIENCE, script.wait()).await {
            Ok(ended) => ended.unwrap().to_string(),
            Err(_) => {
                script.kill().await.unwrap();
                format!("it did not end within {PATIENCE:?}")
            }
        };
        let (output, complaints) = (output.await.unwrap(), complaints.await.unwrap());
        if script.wait().await.unwrap().success() {
            return Ok(output);
        }
        let number = self.version.number();
        Err(format!(
            "{name} {arguments:?} with RPyC {number}: {ended}\n{output}{complaints}"
        ))
    }

    /// Runs what a Python program does with such a service against the server at this address; what came out,
    /// a line for each scenario.
    ///
    /// # Errors
    ///
    /// The same with those that failed, and why.
    pub async fn scenarios(
        &self,
        address: &Address,
        offer: Offer,
        options: &[&str],
    ) -> Result<String, String> {
        let address = address.to_string();
        let arguments = [&[&*address, "--server", offer.name()], options].concat();
        self.run("scenarios.py", &arguments).await
    }

    /// A command that runs a script, to be given its arguments.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        // Nothing is to be left in the checkout.
        command.arg("-B").arg(script(name));
        command
    }
}

async fn all(mut from: impl AsyncRead + Unpin) -> String {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// A Python server that runs, until this is dropped.
#[derive(Debug)]
pub struct Served {
    address: Address,
    server: Child,
    log: Option<JoinHandle<String>>,
    _directory: tempfile::TempDir,
}

impl Served {
    /// Where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if let Some(Ok(log)) = self.log.take().map(JoinHandle::join)
            && std::thread::panicking()
        {
            println!("the Python server complained:\n{log}");
        }
    }
}
