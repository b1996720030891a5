//! Why there is no carrier although ssh was started.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use super::agents::{Agent, Missing};
use crate::process::{Outcome, ended, printable};

/// Why there is no carrier although ssh was started.
#[derive(Debug)]
pub(super) struct NotStarted {
    pub(super) failed: Failed,
    /// What came beside what should have come.
    pub(super) noise: String,
    pub(super) wait: Duration,
    /// Whether a program was to be brought, and then whether the script that does it said anything.
    pub(super) script: Option<HasAnswered>,
}

/// Whether the script has said anything.
pub(super) type HasAnswered = bool;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Failed {
    /// What ssh says was over, or broke.
    Carrier(io::Error),
    /// The time was up.
    Late,
    /// The host was found, and has no use for a program of ours.
    Trouble(Trouble),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Carrier(error)
    }
}

impl Failed {
    /// What the end of ssh means.
    pub(super) fn cause(&self, is_silent: bool) -> Cause {
        match self {
            Self::Carrier(error) => ended(error).map_or(Cause::Silent, |ended| {
                Cause::of(ended.outcome(), ended.last_words())
            }),
            Self::Late if is_silent => Cause::Unreachable,
            Self::Late => Cause::Silent,
            Self::Trouble(_) => Cause::Other,
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.script {
            None => "the command",
            Some(false) => "the script that starts the program",
            Some(true) => "the program",
        };
        match &self.failed {
            // All is said with that.
            Failed::Trouble(trouble) => return trouble.fmt(f),
            Failed::Late => write!(f, "{what} did not report within {:?}", self.wait)?,
            Failed::Carrier(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "{what} ended without a report")?;
            }
            Failed::Carrier(error) if error.kind() == io::ErrorKind::InvalidData => {
                write!(f, "{what} did not report: {error}")?;
            }
            // It never got as far as the command.
            Failed::Carrier(error) => error.fmt(f)?,
        }
        if !self.noise.is_empty() {
            let most = self
                .noise
                .char_indices()
                .nth(MOST_SHOWN)
                .map_or(self.noise.len(), |(at, _)| at);
            let shown = self.noise.get(..most).unwrap_or_default();
            write!(f, "; this came instead: `{shown}`")?;
        }
        let ended = match &self.failed {
            Failed::Carrier(error) => ended(error),
            _ => None,
        };
        let is_vague = ended.is_none_or(|ended| ended.outcome() == Outcome::Exited(0));
        // A shell that is no shell may end like any program.
        let is_unheard = ended.is_some_and(|ended| {
            matches!(ended.outcome(), Outcome::Exited(1..=127))
                && Cause::of(ended.outcome(), ended.last_words()) == Cause::Failed
        });
        match self.script {
            None if is_vague => f.write_str(
                ": it must speak farref on its standard output, and the host must not run another command for \
                 this key",
            ),
            Some(false) if is_vague || is_unheard => f.write_str(
                ": the host must let this key run what it is asked to, without another command in authorized_keys or \
                 ForceCommand, and the account must have a shell; otherwise name what to run there by `command=`",
            ),
            Some(true) if is_vague => f.write_str(
                ": it must speak farref on its standard output when it is started with the arguments it is given",
            ),
            _ => Ok(()),
        }
    }
}

impl Error for NotStarted {}

/// Why a host has no use for a program of ours.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It does not say what it is.
    UnknownHost,
    Missing(Box<Missing>),
    Refused(Box<Refusal>),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str(
                "the host does not say what it is, as it has no `uname`: copy the program there by hand, and name it by \
                 `command=`",
            ),
            Self::Missing(missing) => missing.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// What the script has against a program.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    /// What a tool over there said.
    told: String,
    directory: String,
    hash: String,
    size: u64,
}

/// The words of the script for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Absent,
    Owner,
    Tampered,
    Directory,
    Write,
    NoExec,
    Head,
    Space,
    Short,
    Hash,
    /// One that is not known here.
    Other,
}

impl Refusal {
    /// What the script said behind `failed`.
    pub(super) fn of(said: &str, directory: String, agent: Option<&Agent>) -> Self {
        let (word, told) = said.split_once(' ').unwrap_or((said, ""));
        let reason = match word {
            "absent" => Reason::Absent,
            "owner" => Reason::Owner,
            "tampered" => Reason::Tampered,
            "directory" => Reason::Directory,
            "write" => Reason::Write,
            "noexec" => Reason::NoExec,
            "head" => Reason::Head,
            "space" => Reason::Space,
            "short" => Reason::Short,
            "hash" => Reason::Hash,
            _ => Reason::Other,
        };
        Self {
            reason,
            told: printable(
                if reason == Reason::Other { said } else { told }
                    .trim()
                    .as_bytes(),
            ),
            directory: printable(directory.as_bytes()),
            hash: agent.map_or_else(String::new, |agent| agent.hash.clone()),
            size: agent.map_or(0, |agent| agent.size),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            told,
            directory,
            hash,
            size,
            ..
        } = self;
        let size = mebibytes(*size);
        let (count, complaint) = told.split_once(' ').unwrap_or((told, ""));
        let is_full = [
            "No space left",
            "uota exceeded",
            "File too large",
            "ile size limit",
        ]
        .iter()
        .any(|full| told.contains(full));
        match self.reason {
            Reason::Absent => write!(
                f,
                "`{directory}/{hash}` is not on the host, and `deploy=never` says not to bring it: leave that out, or \
                 bring it by hand"
            ),
            Reason::Owner => write!(
                f,
                "`{directory}` on the host is no directory of this account alone: remove it, or name another place by \
                 `path=`"
            ),
            Reason::Tampered => write!(
                f,
                "`{directory}/{hash}` on the host is not what its name says, so it is not run: find out who changed it, \
                 and remove it"
            ),
            Reason::Space => {
                let free = told.parse().map_or(0, |free: u64| free.saturating_mul(1024));
                write!(
                    f,
                    "there is no space left for the program at `{directory}` on the host: it needs {size}, and there is \
                     {}; make room, or name another place by `path=`",
                    mebibytes(free)
                )
            }
            Reason::Directory | Reason::Write | Reason::Short if is_full => {
                let told = if self.reason == Reason::Short { complaint } else { told };
                write!(
                    f,
                    "there is no space left for the program at `{directory}` on the host: it needs {size} ({told}); \
                     make room, or name another place by `path=`"
                )
            }
            Reason::Directory => write!(
                f,
                "the directory `{directory}` cannot be made on the host ({told}): name a place where the account may \
                 write by `path=`"
            ),
            Reason::Write => write!(
                f,
                "the account may not write to `{directory}` on the host ({told}): name another place by `path=`"
            ),
            Reason::NoExec => write!(
                f,
                "no program may be run from `{directory}` on the host, as its file system is mounted with `noexec`: name \
                 another place by `path=`"
            ),
            Reason::Head => f.write_str(
                "the host has no `head -c` to take a program in with: copy it there by hand, and name it by `command=`",
            ),
            Reason::Short => {
                write!(f, "the program was cut on its way to the host, after {count} bytes")?;
                if !complaint.is_empty() {
                    write!(f, " ({complaint})")?;
                }
                f.write_str(": try again")
            }
            Reason::Hash => f.write_str("the program came to the host other than it was sent: try again"),
            Reason::Other => write!(f, "the host could not take the program in: {told}"),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// What the end of ssh means. Its own failures have one status, so there its words must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unresolved,
    Refused,
    Unreachable,
    KeyRefused,
    /// Nobody listens at the port over there to which a tunnel was to lead.
    NoPort,
    /// The ssh server opens no tunnels for this account.
    NoTunnel,
    HostUnknown,
    HostChanged,
    BadOption,
    /// The connection broke, or the server ended it.
    Lost,
    NoCommand,
    NotRunnable,
    /// The program over there needs a newer C library.
    OldLibrary,
    /// The account may not run what it likes, or nothing at all.
    NoShell,
    /// The program over there ended with a status of its own.
    Failed,
    /// The program over there was ended by a signal.
    Killed,
    /// The ssh here was ended by a signal.
    SshKilled,
    /// No word, or not the right one.
    Silent,
    Other,
}

impl Cause {
    pub(super) fn of(outcome: Outcome, words: &str) -> Self {
        match outcome {
            Outcome::Exited(0) => Self::Silent,
            Outcome::Exited(OF_SSH) => Self::of_ssh(words),
            Outcome::Exited(_) if words.contains("version `GLIBC_") => Self::OldLibrary,
            Outcome::Exited(_) if is_no_shell(words) => Self::NoShell,
            Outcome::Exited(127) => Self::NoCommand,
            Outcome::Exited(126) => Self::NotRunnable,
            Outcome::Exited(status) if status > 128 => Self::Killed,
            Outcome::Exited(_) => Self::Failed,
            Outcome::Killed(_) => Self::SshKilled,
            Outcome::Unknown => Self::Other,
        }
    }

    fn of_ssh(words: &str) -> Self {
        let said = |told: &[&str]| told.iter().any(|told| words.contains(told));
        if said(&[
            "HOST IDENTIFICATION HAS CHANGED",
            "has changed and you have requested",
        ]) {
            Self::HostChanged
        } else if said(&["Host key verification failed", "host key is known for"]) {
            Self::HostUnknown
        } else if said(&["Permission denied (", "Too many authentication failures"]) {
            Self::KeyRefused
        } else if said(&["Could not resolve hostname"]) {
            Self::Unresolved
        } else if said(&["open failed: administratively prohibited"]) {
            Self::NoTunnel
        } else if said(&["open failed: connect failed"]) {
            Self::NoPort
        } else if said(&["Connection refused"]) {
            Self::Refused
        } else if said(&[
            "Bad configuration option",
            "onfig file",
            "nknown option",
            "unsupported option",
        ]) {
            Self::BadOption
        } else if said(&[
            "timed out",
            "No route to host",
            "etwork is unreachable",
            "banner exchange",
        ]) {
            Self::Unreachable
        } else if said(&[
            "Connection to",
            "Connection closed",
            "Connection reset",
            "Broken pipe",
            "not responding",
        ]) {
            Self::Lost
        } else {
            // A program that a signal ends has no status; ssh ends without a word of its own then.
            Self::Killed
        }
    }

    /// The same where the program was brought along.
    pub(super) const fn meaning_of_brought(self) -> Option<&'static str> {
        match self {
            Self::NoCommand => Some(
                "the program is there, but not the loader or the C library that it is built for: bring one that is \
                 built statically",
            ),
            Self::NotRunnable => Some("the host does not run the program"),
            // It may as well have been the shell.
            Self::Failed => None,
            other => other.meaning(),
        }
    }

    /// The same where nothing was to be run over there.
    pub(super) const fn meaning_of_tunnel(self) -> Option<&'static str> {
        match self {
            // Its last words are all there is.
            Self::Failed | Self::Killed => None,
            other => other.meaning(),
        }
    }

    pub(super) const fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::NoPort => "nobody listens at that port of the host's loopback: start the program there",
            Self::NoTunnel => {
                "the ssh server opens no tunnels for this account: allow them by AllowTcpForwarding and PermitOpen"
            }
            Self::Unresolved => "ssh knows no host of that name",
            Self::Refused => "no ssh server listens there",
            Self::Unreachable => "the host did not answer",
            Self::KeyRefused => {
                "the host takes none of our keys for this account: add one to its authorized_keys, or name \
                 another user or `identity=`"
            }
            Self::HostUnknown => "the key of the host is not known here: log in once by hand and check it",
            Self::HostChanged => {
                "the key of the host is not the one that is known: find out why before you trust it"
            }
            Self::BadOption => "ssh does not understand its options",
            Self::Lost => "the connection to the host was lost",
            Self::NoCommand => "the command is not there: install it on the host, or give its path",
            Self::NotRunnable => "the command may not be run on the host",
            Self::OldLibrary => {
                "the program is built for a newer C library than the host has: bring one that is built statically, or \
                 on an older system"
            }
            Self::NoShell => {
                "the account over there has no shell that runs what it is asked to: give it one, such as /bin/sh"
            }
            Self::Failed => "the program on the host failed",
            Self::Killed => "the program on the host was ended by a signal",
            Self::SshKilled => "ssh itself was ended here",
            Self::Silent | Self::Other => return None,
        })
    }
}

/// What restricted shells say, those that only refuse, and those of another system.
fn is_no_shell(words: &str) -> bool {
    ["restricted", "not available", "not recognized as"]
        .iter()
        .any(|told| words.contains(told))
}

/// The status by which ssh tells its own failures, and those of programs that have no status.
const OF_SSH: i32 = 255;

/// How much of what came instead is shown, in characters.
const MOST_SHOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_disk_makes_of_an_upload_is_told_from_one_that_was_cut() {
        let told = |said: &str| Refusal::of(said, "/home/eva/x".to_owned(), None).to_string();
        let full = told("short 65536 head: write error: No space left on device");
        assert!(
            full.starts_with("there is no space left for the program at `/home/eva/x`"),
            "{full}"
        );
        assert!(
            full.contains("(head: write error: No space left on device)"),
            "{full}"
        );
        assert_eq!(
            told("short 7"),
            "the program was cut on its way to the host, after 7 bytes: try again"
        );
        assert!(told("space 2048").contains("there is 2.0 MiB"));
        assert!(told("rust all of it").ends_with("could not take the program in: rust all of it"));
    }

    #[test]
    fn the_words_of_ssh_are_understood() {
        for (status, words, cause) in [
            (
                255,
                "ssh: Could not resolve hostname x: Name or service not known",
                Cause::Unresolved,
            ),
            (
                255,
                "ssh: connect to host h port 22: Connection refused",
                Cause::Refused,
            ),
            (
                255,
                "ssh: connect to host h port 22: No route to host",
                Cause::Unreachable,
            ),
            (255, "eva@h: Permission denied (publickey).", Cause::KeyRefused),
            (
                255,
                "channel 0: open failed: connect failed: Connection refused | stdio forwarding failed",
                Cause::NoPort,
            ),
            (
                255,
                "channel 0: open failed: administratively prohibited: open failed | stdio forwarding failed",
                Cause::NoTunnel,
            ),
            (
                255,
                "No ED25519 host key is known for h and you have requested strict checking. | Host key verification failed.",
                Cause::HostUnknown,
            ),
            (
                255,
                "Host key for h has changed and you have requested strict checking. | Host key verification failed.",
                Cause::HostChanged,
            ),
            (
                255,
                "command-line: line 0: Bad configuration option: nonsense",
                Cause::BadOption,
            ),
            (255, "Timeout, server h not responding.", Cause::Lost),
            (255, "", Cause::Killed),
            (127, "sh: 1: agent: not found", Cause::NoCommand),
            (126, "", Cause::NotRunnable),
            (137, "", Cause::Killed),
            (1, "Permission denied (publickey).", Cause::Failed),
            (
                1,
                "farref: libc.so.6: version `GLIBC_2.39' not found (required by farref)",
                Cause::OldLibrary,
            ),
            (1, "rbash: line 1: exec: restricted", Cause::NoShell),
            (1, "This account is currently not available.", Cause::NoShell),
            (0, "", Cause::Silent),
        ] {
            assert_eq!(
                Cause::of(Outcome::Exited(status), words),
                cause,
                "{status} {words}"
            );
        }
    }
}
