//! Why there is no carrier although ssh was started.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::process::{Outcome, ended};

/// Why there is no carrier although ssh was started.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// None if the time was up.
    pub(super) error: Option<io::Error>,
    /// What came instead of the token.
    pub(super) noise: String,
    pub(super) wait: Duration,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => write!(f, "the command did not report within {:?}", self.wait)?,
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the command ended without a report")?;
            }
            Some(error) if error.kind() == io::ErrorKind::InvalidData => {
                write!(f, "the command did not report: {error}")?;
            }
            // It never got as far as the command.
            Some(error) => error.fmt(f)?,
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
        let ended = self.error.as_ref().and_then(ended);
        if ended.is_none_or(|ended| ended.outcome() == Outcome::Exited(0)) {
            f.write_str(
                ": it must speak farref on its standard output, and the host must not run another command for \
                 this key",
            )?;
        }
        Ok(())
    }
}

impl Error for NotStarted {}

/// What the end of ssh means. Its own failures have one status, so there its words must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unresolved,
    Refused,
    Unreachable,
    KeyRefused,
    HostUnknown,
    HostChanged,
    BadOption,
    /// The connection broke, or the server ended it.
    Lost,
    NoCommand,
    NotRunnable,
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

    pub(super) const fn meaning(self) -> Option<&'static str> {
        Some(match self {
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
            Self::Failed => "the program on the host failed",
            Self::Killed => "the program on the host was ended by a signal",
            Self::SshKilled => "ssh itself was ended here",
            Self::Silent | Self::Other => return None,
        })
    }
}

/// The status by which ssh tells its own failures, and those of programs that have no status.
const OF_SSH: i32 = 255;

/// How much of what came instead is shown, in characters.
const MOST_SHOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
