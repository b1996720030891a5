//! A real ssh server for one test: keys, configuration and port of its own, gone with the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use farref::transport::Address;

/// A server that runs, and lets this account in with one key.
#[derive(Debug)]
pub struct Sshd {
    directory: tempfile::TempDir,
    user: String,
    port: u16,
    server: Child,
    log: Option<JoinHandle<()>>,
}

impl Sshd {
    /// Whether there is one to be started. Under CI (the variable `CI` is set) there must be.
    pub fn is_there() -> bool {
        let is_there = program().is_some();
        assert!(
            is_there || std::env::var_os("CI").is_none(),
            "CI needs sshd: tools/test-needs.sh installs it"
        );
        is_there
    }

    /// Starts a server, with these lines on top of its configuration. `None` where there is none.
    pub fn start(configuration: &[&str]) -> Option<Self> {
        if !Self::is_there() {
            println!("skipped: tools/test-needs.sh installs an ssh server");
            return None;
        }
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        for name in ["host", "other", "client", "stranger"] {
            make_key(&directory.path().join(name));
        }
        let public = fs::read(directory.path().join("client.pub")).unwrap();
        fs::write(directory.path().join("authorized_keys"), public).unwrap();
        if account("-u") == "0" {
            // Where it drops its rights to; its package makes it at boot.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let user = account("-un");
        // It cannot be left to choose a port: somebody may be faster to take the one that was free.
        for _ in 0..20 {
            let port = free_port();
            if let Some((server, log)) = try_start(&program, directory.path(), port, configuration) {
                let sshd = Self {
                    directory,
                    user,
                    port,
                    server,
                    log: Some(log),
                };
                sshd.know("host");
                return Some(sshd);
            }
        }
        panic!("sshd found no port to listen on");
    }

    /// Where to dial to run `command` over there, with all that ssh needs to get in.
    pub fn address(&self, command: &str) -> Address {
        self.address_with(command, "client")
    }

    /// The same, with another of the keys: `stranger` is let in nowhere.
    pub fn address_with(&self, command: &str, key: &str) -> Address {
        self.bare_address(key).with_option("command", command).unwrap()
    }

    /// Where to dial to have this program brought and started with these arguments.
    pub fn bringing(&self, program: &Path, arguments: &[&str]) -> Address {
        let address = self.bare_address("client");
        let address = address.with_option("agent", program.to_str().unwrap()).unwrap();
        arguments.iter().fold(address, |address, argument| {
            address.with_option("arg", argument).unwrap()
        })
    }

    /// Where to dial to reach who listens at this port over there.
    pub fn tunnel(&self, port: u16) -> Address {
        let port = port.to_string();
        self.bare_address("client").with_option("to", &port).unwrap()
    }

    fn bare_address(&self, key: &str) -> Address {
        let address: Address = format!("ssh://{}@127.0.0.1:{}", self.user, self.port)
            .parse()
            .unwrap();
        let known = format!("UserKnownHostsFile={}", self.path("known_hosts").display());
        [
            ("config", "none"),
            ("identity", self.path(key).to_str().unwrap()),
            ("opt", &known),
            ("opt", "GlobalKnownHostsFile=/dev/null"),
            ("opt", "StrictHostKeyChecking=yes"),
        ]
        .into_iter()
        .fold(address, |address, (name, value)| {
            address.with_option(name, value).unwrap()
        })
    }

    /// The account that is let in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Makes `key` (`host` is right, `other` wrong) the one by which the client knows the server.
    pub fn know(&self, key: &str) {
        let public = fs::read_to_string(self.path(key).with_extension("pub")).unwrap();
        let line = format!("[127.0.0.1]:{} {public}", self.port);
        fs::write(self.path("known_hosts"), line).unwrap();
    }

    /// Makes the client forget the server.
    pub fn forget(&self) {
        fs::write(self.path("known_hosts"), "").unwrap();
    }

    /// A file of the server's own directory, which goes away with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // Sessions that are still open hold the log open; they end with their clients.
        drop(self.log.take());
    }
}

/// Starts a server and waits until it listens. `None` if the port was taken.
fn try_start(
    program: &Path,
    directory: &Path,
    port: u16,
    configuration: &[&str],
) -> Option<(Child, JoinHandle<()>)> {
    let file = directory.join("sshd_config");
    let path = |name: &str| directory.join(name).display().to_string();
    let mut lines = vec![
        format!("Port {port}"),
        "ListenAddress 127.0.0.1".to_owned(),
        format!("HostKey {}", path("host")),
        format!("PidFile {}", path("pid")),
        format!("AuthorizedKeysFile {}", path("authorized_keys")),
        "StrictModes no".to_owned(),
        "UsePAM no".to_owned(),
        "PasswordAuthentication no".to_owned(),
        "KbdInteractiveAuthentication no".to_owned(),
        "PrintMotd no".to_owned(),
        "MaxStartups 200".to_owned(),
    ];
    lines.extend(configuration.iter().map(|line| (*line).to_owned()));
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut server = Command::new(program)
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Server listening on") {
        if log.read_line(&mut said).unwrap() == 0 {
            server.wait().unwrap();
            assert!(said.contains("already in use"), "sshd did not start: {said}");
            return None;
        }
    }
    // It must not be held up by what nobody reads.
    let log = std::thread::spawn(move || {
        let _ = std::io::copy(&mut log.by_ref(), &mut std::io::sink());
    });
    Some((server, log))
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    // It starts itself again for every connection, and wants its whole path for that.
    directories
        .iter()
        .map(|directory| directory.join("sshd"))
        .find(|path| {
            path.metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn account(option: &str) -> String {
    let told = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}
