//! The media for the table of times that need more than an address: a serial line, a child process, ssh.

use std::io;
use std::path::{Path, PathBuf};

use farref::transport::Address;
use farref::{Connection, Context, Error, Netref, Result, connect};

use crate::stage::PATIENCE;
use crate::workshop::Workshop;

/// The argument that makes this program serve a workshop on its standard input and output.
pub(crate) const ON_STDIO: &str = "--on-stdio";

/// One more way to a workshop.
pub(crate) struct Wire {
    pub(crate) medium: &'static str,
    pub(crate) connection: Connection,
    pub(crate) workshop: Netref<dyn Workshop>,
    /// What must stay for as long as it is used.
    _guard: Option<Box<dyn Send + Sync>>,
}

/// Every further way that can be had here, and why others cannot.
pub(crate) async fn all(serial: Option<&str>) -> (Vec<Wire>, Vec<String>) {
    let (mut wires, mut absent) = (Vec::new(), Vec::new());
    let mut keep = |medium: &'static str, wire: Result<Wire>| match wire {
        Ok(wire) => wires.push(wire),
        Err(error) => absent.push(format!("{medium}: {error}")),
    };
    let program = std::env::current_exe().map_err(Error::from);
    let program = program.and_then(|path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path that is not UTF-8")
    });
    match &program {
        Ok(program) => {
            let child = format!("exec:{program}?arg={ON_STDIO}&stderr=null");
            keep("exec", join("exec", &child, None).await);
            keep("ssh", ssh(program).await);
        }
        Err(error) => keep("exec", Err(Error::msg(error.to_string()))),
    }
    if let Some(port) = serial {
        keep(
            "serial",
            join("serial", &format!("serial:{port}?baud=921600"), None).await,
        );
    }
    (wires, absent)
}

async fn join(medium: &'static str, address: &str, guard: Option<Box<dyn Send + Sync>>) -> Result<Wire> {
    let address: Address = address.parse()?;
    let connection = connect(address).call_timeout(PATIENCE).await?;
    let workshop = connection.root().await?;
    Ok(Wire {
        medium,
        connection,
        workshop,
        _guard: guard,
    })
}

/// Through an ssh server of our own, on this machine, with keys of its own.
#[cfg(unix)]
async fn ssh(program: &str) -> Result<Wire> {
    const SSHD: &str = "/usr/sbin/sshd";
    if !Path::new(SSHD).exists() {
        return Err(Error::msg(format!(
            "there is no {SSHD} that could be started: install openssh-server"
        )));
    }
    let directory = tempfile::Builder::new().prefix("farref-tour-ssh-").tempdir()?;
    let server = Server::start(SSHD, directory)?;
    let (port, config) = (server.port, server.directory.path().join("client"));
    let address = format!(
        "ssh://127.0.0.1:{port}?config={}&command={program}%20{ON_STDIO}",
        config.display()
    );
    join("ssh", &address, Some(Box::new(server))).await
}

#[cfg(not(unix))]
async fn ssh(_: &str) -> Result<Wire> {
    Err(Error::msg("only shown on Unix"))
}

/// An ssh server that ends when it is dropped.
struct Server {
    directory: tempfile::TempDir,
    port: u16,
    process: std::process::Child,
}

#[cfg(unix)]
impl Server {
    fn start(program: &str, directory: tempfile::TempDir) -> Result<Self> {
        let at = |name: &str| -> PathBuf { directory.path().join(name) };
        for name in ["host", "key"] {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(name))
                .status()?;
            made.success().then_some(()).context("ssh-keygen failed")?;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at_directory = directory.path().display();
        std::fs::write(
            at("server"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {at_directory}/host\nPidFile none\n\
                 AuthorizedKeysFile {at_directory}/key.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            ),
        )?;
        let host = std::fs::read_to_string(at("host.pub"))?;
        std::fs::write(at("known"), format!("[127.0.0.1]:{port} {host}"))?;
        std::fs::write(
            at("client"),
            format!(
                "IdentityFile {at_directory}/key\nIdentitiesOnly yes\nStrictHostKeyChecking yes\n\
                 UserKnownHostsFile {at_directory}/known\n"
            ),
        )?;
        // A directory of the server's own, which only root can make, and which may be there.
        let _ = std::fs::create_dir("/run/sshd");
        let mut process = std::process::Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(at("server"))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(at("log"))?)
            .spawn()?;
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.try_wait()?.is_some() || std::time::Instant::now() > deadline {
                let why = std::fs::read_to_string(at("log"))?;
                return Err(Error::msg(format!("{program} does not start: {}", why.trim())));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(Self {
            directory,
            port,
            process,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two serial ports with a cable between them, and nothing real about either.
#[cfg(unix)]
pub(crate) mod cable {
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::OwnedFd;
    use std::thread;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// The names of the two ports. The cable is there as long as this process.
    pub(crate) fn lay() -> io::Result<[String; 2]> {
        let (one, one_name) = port()?;
        let (other, other_name) = port()?;
        carry(one.try_clone()?, other.try_clone()?);
        carry(other, one);
        Ok([one_name, other_name])
    }

    fn port() -> io::Result<(File, String)> {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        // Held open: a port that nobody has opened would end the cable.
        let held = File::options()
            .read(true)
            .write(true)
            .open(name.to_string_lossy().as_ref())?;
        let mut modes = rustix::termios::tcgetattr(&held)?;
        modes.make_raw();
        rustix::termios::tcsetattr(&held, rustix::termios::OptionalActions::Now, &modes)?;
        thread::spawn(move || {
            let _held = held;
            loop {
                thread::park();
            }
        });
        Ok((File::from(master), name.to_string_lossy().into_owned()))
    }

    fn carry(mut from: File, mut to: File) {
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = from.read(&mut bytes) {
                if count == 0 || to.write_all(bytes.get(..count).unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
    }
}

#[cfg(not(unix))]
pub(crate) mod cable {
    pub(crate) fn lay() -> std::io::Result<[String; 2]> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Says why there is no cable.
pub(crate) fn no_cable(error: &io::Error) -> String {
    format!("serial: no pseudo terminals here: {error}")
}
