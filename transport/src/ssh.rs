//! Programs on other hosts, started by the system's `ssh` and spoken to over its standard input and output.
//!
//! Knows how to have a command run there, how to find its first word behind what the login prints, and how to tell
//! why that did not work. Keys, agents, jump hosts and known hosts are ssh's own affair, as its configuration says.
//!
//! | option     | default | meaning                                                                  |
//! |------------|---------|--------------------------------------------------------------------------|
//! | `command=` |         | what to run there: a program that serves on `stdio:`                     |
//! | `batch=`   | 1       | whether ssh may ask nobody for anything                                  |
//! | `config=`  | ssh's   | another configuration file                                               |
//! | `opt=`     | none    | an option of ssh, as `ServerAliveInterval=5`; may be repeated            |
//!
//! The program over there says the word it finds in [`TOKEN`] first, as
//! [`stdio`](crate::stdio) does.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, PeerEvidence, StreamCarrier};
use crate::error::{Absence, DialError, ListenError};
use crate::exec::{Started, describe, log};
use crate::io::{IoRx, IoTx};
use crate::medium::{Listener, Transport};
use crate::stdio::TOKEN;

/// How long it may take until the program over there says its first word.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much a login may print before.
const MAX_NOISE: usize = 64 * 1024;
/// What is kept of ssh's own words.
const MAX_WORDS: usize = 2048;
/// How long ssh may take to end when its input has.
const KILL: Duration = Duration::from_secs(5);

/// The medium `ssh`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ssh(());

impl Ssh {
    /// The `ssh` of the system.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Ssh {
    fn schemes(&self) -> &'static [&'static str] {
        &["ssh"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let token = token().map_err(|error| DialError::from_io(address, error))?;
            let mut command = command(address, &token).map_err(|error| DialError::from_io(address, error))?;
            let mut started =
                Started::new(&mut command, KILL).map_err(|error| DialError::from_io(address, error))?;
            let words = Arc::new(Mutex::new(String::new()));
            if let Some(stderr) = started.stderr.take() {
                let words = Arc::clone(&words);
                let keep = move |line: &str| {
                    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                    if words.len() < MAX_WORDS {
                        words.push_str(line);
                        words.push('\n');
                    }
                };
                tokio::spawn(log(stderr, started.name.clone(), keep));
            }
            let mut stdout = BufReader::new(started.stdout);
            let mut seen = Vec::new();
            let finding = find(&mut stdout, &token, &mut seen);
            let is_found = match tokio::time::timeout(PATIENCE, finding).await {
                Ok(found) => found.map_err(|error| DialError::from_io(address, error))?,
                Err(_) => false,
            };
            if !is_found {
                let noise = String::from_utf8_lossy(&seen).trim().to_owned();
                let status = {
                    let mut child = started.child.lock().await;
                    tokio::time::timeout(Duration::from_millis(500), child.wait()).await
                };
                // Its last words may still be on their way.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let status = status.ok().and_then(Result::ok);
                return Err(why(address, status, words.trim(), &noise));
            }
            let mut info = CarrierInfo::new("ssh");
            info.remote = Some(address.clone());
            info.confidential = true;
            info.may_be_lost = true;
            if let Target::Ssh { user, host, .. } = address.target() {
                let user = user
                    .clone()
                    .or_else(|| std::env::var("USER").ok())
                    .unwrap_or_default();
                info.peer = PeerEvidence::Ssh {
                    user,
                    host: host.to_string(),
                };
            }
            let carrier = StreamCarrier::new(IoRx::new(stdout), IoTx::new(started.stdin), info);
            Ok(carrier.with_guard(started.guard).into())
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            Err(ListenError::Unsupported {
                address: Box::new(address.clone()),
                absence: Absence::DialOnly,
            })
        })
    }
}

/// A word that no login prints by chance.
fn token() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn command(address: &Address, token: &str) -> io::Result<Command> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let Target::Ssh { user, host, port } = address.target() else {
        return Err(wrong("not an address of ssh"));
    };
    let run = address.option("command").ok_or_else(|| {
        wrong("say what to run over there: `?command=PROGRAM`, with a program that serves on `stdio:`")
    })?;
    let host = host.to_string();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .replace("%25", "%");
    if host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-')) {
        return Err(wrong(
            "a host or user that begins with `-` would be an option to ssh",
        ));
    }
    let mut command = Command::new("ssh");
    command.args(["-T", "-x", "-a"]);
    let is_batch = address.option("batch").is_none() || address.is_set("batch");
    let options = [
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
        "ClearAllForwardings=yes",
    ];
    // What is said first counts with ssh: the user's words come before these.
    for option in address.options().filter(|(name, _)| *name == "opt") {
        command.args(["-o", option.1]);
    }
    if is_batch {
        command.args(["-o", "BatchMode=yes"]);
    }
    for option in options {
        command.args(["-o", option]);
    }
    if let Some(config) = address.option("config") {
        command.args(["-F", config]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    // The login shell over there, whichever it is, reads one quoted string; a plain shell reads what is in it.
    let inner = format!("exec env {TOKEN}={token} {run}");
    command.args(["--", &host, &format!("exec sh -c {}", quoted(&inner))]);
    command.stderr(std::process::Stdio::piped());
    Ok(command)
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads up to the line with the token. False if that does not come; `seen` is what came.
async fn find(stdout: &mut (impl AsyncReadExt + Unpin), token: &str, seen: &mut Vec<u8>) -> io::Result<bool> {
    let line = format!("\n{token}\n");
    // The line may be the very first: a login that prints nothing ends with no line end.
    seen.push(b'\n');
    while seen.len() <= MAX_NOISE {
        // Byte by byte out of a buffer: what is behind the line belongs to the protocol.
        match stdout.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        if seen.ends_with(line.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why ssh did not get there, by whose turn it is. ssh itself exits with 255; other codes are the command's.
fn why(address: &Address, status: Option<std::process::ExitStatus>, words: &str, noise: &str) -> DialError {
    let says = |text: &str| words.contains(text);
    let code = status.and_then(|status| status.code());
    let boxed = || Box::new(address.clone());
    let shown = if words.is_empty() {
        String::new()
    } else {
        format!("; ssh says: {}", words.escape_debug())
    };
    let error = |kind, text: String| io::Error::new(kind, format!("{text}{shown}"));
    if code == Some(255) {
        if says("Host key verification failed") || says("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let text = if says("HAS CHANGED") {
                "the host has another key than it had: find out why before you go on"
            } else {
                "the host is not known to ssh: log in by hand once, and look at its key"
            };
            return DialError::NotPermitted {
                address: boxed(),
                source: error(io::ErrorKind::PermissionDenied, text.to_owned()),
            };
        }
        if says("Permission denied") {
            let text = "the host lets in none of the keys that ssh has offered";
            return DialError::NotPermitted {
                address: boxed(),
                source: error(io::ErrorKind::PermissionDenied, text.to_owned()),
            };
        }
        if says("Could not resolve") {
            return DialError::Unresolved {
                address: boxed(),
                source: error(io::ErrorKind::NotFound, "the host has no address".to_owned()),
            };
        }
        if says("Connection refused") {
            return DialError::NotListening {
                address: boxed(),
                source: error(
                    io::ErrorKind::ConnectionRefused,
                    "no ssh server listens there".to_owned(),
                ),
            };
        }
        let source = error(io::ErrorKind::TimedOut, "ssh has failed".to_owned());
        return DialError::Unreachable {
            address: boxed(),
            source,
        };
    }
    let printed = if noise.is_empty() {
        String::new()
    } else {
        let head: String = noise.chars().take(200).collect();
        format!("; instead came: {}", head.escape_debug())
    };
    let text = match code {
        Some(127) => "the host has no such program".to_owned(),
        Some(126) => "the host cannot run that program".to_owned(),
        Some(_) => {
            let ended = status
                .map(|status| describe("the command", status))
                .unwrap_or_default();
            format!("{ended} before it said a word: does it serve on `stdio:`?")
        }
        None => {
            "the command does not answer: is another one forced over there, or does it not serve on `stdio:`?"
                .to_owned()
        }
    };
    DialError::Address {
        address: boxed(),
        source: error(io::ErrorKind::NotFound, format!("{text}{printed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_quoted_once_and_guards_against_options() {
        let address: Address = "ssh://ann@rig7:2222?command=/opt/my%20agent%20--stdio&opt=User%3Dx"
            .parse()
            .unwrap();
        let command = command(&address, "t0").unwrap();
        let words: Vec<_> = command
            .as_std()
            .get_args()
            .map(|word| word.to_str().unwrap())
            .collect();
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end + 1], "rig7");
        assert_eq!(
            words[end + 2],
            "exec sh -c 'exec env FARREF_TOKEN=t0 /opt/my agent --stdio'"
        );
        assert!(words[..end].windows(2).any(|pair| pair == ["-p", "2222"]));
        assert!(words[..end].windows(2).any(|pair| pair == ["-l", "ann"]));
        assert!(words[..end].windows(2).any(|pair| pair == ["-o", "User=x"]));
        assert_eq!(quoted("it's"), r"'it'\''s'");
        for text in ["ssh://rig7", "ssh://-oProxyCommand=x@rig7?command=x"] {
            if let Ok(address) = text.parse() {
                assert!(super::command(&address, "t0").is_err(), "{text}");
            }
        }
    }

    #[test]
    fn the_first_word_is_found_behind_a_login_that_talks() {
        let find = |bytes: &'static [u8]| {
            crate::testing::block_on(async move {
                let mut reader = BufReader::new(bytes);
                let mut seen = Vec::new();
                let is_found = find(&mut reader, "t0", &mut seen).await.unwrap();
                let found = (!is_found).then(|| String::from_utf8_lossy(&seen).trim().to_owned());
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).await.unwrap();
                (found, rest)
            })
        };
        assert_eq!(find(b"\nt0\nrest"), (None, b"rest".to_vec()));
        assert_eq!(find(b"Welcome!\n\nt0 \n\nt0\nrest"), (None, b"rest".to_vec()));
        assert_eq!(find(b"t0\n"), (None, Vec::new()));
        assert_eq!(find(b"Welcome!\nxt0\n").0.as_deref(), Some("Welcome!\nxt0"));
    }
}
