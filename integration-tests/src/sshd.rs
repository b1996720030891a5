//! A real ssh server on this machine, with keys and a configuration of its own, for as long as it is kept.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian and its kin have it.
const SSHD: &str = "/usr/sbin/sshd";

/// A server that lets in one key.
#[derive(Debug)]
pub struct Sshd {
    directory: tempfile::TempDir,
    port: u16,
    server: Child,
}

impl Sshd {
    /// Whether there is one to be started. Under CI there must be.
    pub fn is_there() -> bool {
        let is_there = Path::new(SSHD).exists();
        assert!(
            is_there || std::env::var_os("CI").is_none(),
            "CI needs {SSHD}: tools/test-needs.sh installs it"
        );
        is_there
    }

    /// Starts one.
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts one with these lines in its configuration as well.
    pub fn with(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["host_key", "client_key", "stranger_key"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(name)));
        }
        fs::copy(at("client_key.pub"), at("authorized_keys")).unwrap();
        // The server's own directory, which a package without a running service may lack.
        let _ = fs::create_dir_all("/run/sshd");
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nPidFile none\n\
                 AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 MaxStartups 200\n{lines}\n",
                directory.path().display()
            );
            fs::write(at("sshd_config"), config).unwrap();
            let log = fs::File::create(at("sshd.log")).unwrap();
            let mut server = Command::new(SSHD)
                .args(["-D", "-e", "-f"])
                .arg(at("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            if answers(port, &mut server) {
                let sshd = Self {
                    directory,
                    port,
                    server,
                };
                sshd.write_client_config("client_key", true);
                return sshd;
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        panic!("no ssh server: {}", fs::read_to_string(at("sshd.log")).unwrap());
    }

    /// What ssh is to use from now on.
    pub fn write_client_config(&self, key: &str, knows_host: bool) {
        let directory = self.directory.path();
        let host = fs::read_to_string(directory.join(if key == "changed" {
            "stranger_key.pub"
        } else {
            "host_key.pub"
        }));
        let known = if knows_host {
            format!("[127.0.0.1]:{} {}", self.port, host.unwrap())
        } else {
            String::new()
        };
        fs::write(directory.join("known_hosts"), known).unwrap();
        let key = directory.join(if key == "changed" { "client_key" } else { key });
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nStrictHostKeyChecking yes\nUserKnownHostsFile {}/known_hosts\n",
            key.display(),
            directory.display()
        );
        fs::write(directory.join("ssh_config"), config).unwrap();
    }

    /// The address at which `command` runs.
    pub fn address(&self, command: &str) -> String {
        let config = self.directory.path().join("ssh_config");
        let command = command
            .replace('%', "%25")
            .replace(' ', "%20")
            .replace('&', "%26");
        format!(
            "ssh://127.0.0.1:{}?config={}&command={command}",
            self.port,
            config.display()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn answers(port: u16, server: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        if server.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The program that is the far side of tests.
pub fn agent() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    // target/debug/deps/all-0123 -> target/debug
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("farref-test-agent")
}
