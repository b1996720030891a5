//! Processes of the machine over there: started, fed, listened to, signalled and waited for from here.
//!
//! ```text
//!   Command ── spawn ──▶ Started { process, stdout, stderr }        one round trip
//!                           │         └──────┴── ByteStream: what it writes, at the pace of who reads
//!                           └─ wait, signal, resize, close_stdin
//! ```
//!
//! [`run()`] is the short way for a command whose output is wanted as a whole.
//!
//! A process lives as long as somebody holds it: with the last netref of it, or with the connection, its whole group is told
//! to end, unless the command is [detached](Command::detached).

#[cfg(unix)]
mod child;
#[cfg(unix)]
mod feed;
#[cfg(unix)]
mod host;
#[cfg(unix)]
mod ignored;
#[cfg(unix)]
mod output;
mod run;
#[cfg(unix)]
mod signal;
#[cfg(unix)]
mod start;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use farref_netref::{ByteStream, Netref, remote};
use serde::{Deserialize, Serialize};

#[cfg(unix)]
pub use host::{Limits, share};
pub use run::{Captured, Run, run};

use crate::file::Failure;

/// Starts processes.
#[remote(name = "farref.Processes")]
pub trait Processes {
    /// Starts what `command` says. What it reads is `stdin`, up to its end; without one it reads nothing, and on a terminal
    /// waits until it is told so by [`close_stdin`](Process::close_stdin).
    ///
    /// # Errors
    ///
    /// [`NotFound`](std::io::ErrorKind::NotFound) if there is no such program or directory, and
    /// [`PermissionDenied`](std::io::ErrorKind::PermissionDenied) if it may not be run;
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if the command makes no sense;
    /// [`QuotaExceeded`](std::io::ErrorKind::QuotaExceeded) if too many run already.
    async fn spawn(&self, command: Command, stdin: Option<ByteStream>) -> Result<Started, Failure>;

    /// Runs a line of the shell, which reads nothing, to its end: for whoever calls by name. [`run()`] does more. What it leaves
    /// running and writing is waited for, too.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn); [`FileTooLarge`](std::io::ErrorKind::FileTooLarge) if it writes more than 1 MiB.
    async fn output(&self, line: String) -> Result<Captured, Failure>;
}

/// A process that was started.
///
/// Dropping the last netref of it ends it, and the rest of its process group: by SIGHUP if it has a terminal, otherwise by
/// SIGTERM, and by SIGKILL if it has not ended two seconds later. A detached one goes on. What it leaves behind in its group
/// is ended also while it is held, as soon as none of its outputs is read any more.
#[remote(name = "farref.Process")]
pub trait Process {
    /// Its number over there.
    #[property]
    async fn id(&self) -> Result<u32, Failure>;

    /// How it ended; nothing while it runs.
    #[property]
    async fn exit(&self) -> Result<Option<Exit>, Failure>;

    /// Waits for its end, which it also tells later. What it wrote until then is on its way to whoever reads it.
    ///
    /// Where the connection gives calls a timeout, [`Call::timeout`](farref_netref::Call::timeout) allows more.
    #[idempotent]
    async fn wait(&self) -> Result<Exit, Failure>;

    /// Sends a signal to it and its group.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if there is no such signal over there,
    /// [`NotFound`](std::io::ErrorKind::NotFound) if the process has ended.
    async fn signal(&self, signal: Signal) -> Result<(), Failure>;

    /// Gives its terminal another size, of which it is told by SIGWINCH.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](std::io::ErrorKind::Unsupported) if it has no terminal.
    async fn resize(&self, rows: u16, cols: u16) -> Result<(), Failure>;

    /// Ends what it reads, if its stream has not ended by itself. A terminal is sent its end-of-file character.
    async fn close_stdin(&self) -> Result<(), Failure>;
}

/// What [`Processes::spawn`] gives.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Started {
    /// The process, which lives as long as somebody holds it.
    pub process: Netref<dyn Process>,
    /// Its number over there.
    pub id: u32,
    /// What it writes to its standard output, or terminal; nothing if that goes nowhere.
    ///
    /// Nothing is read ahead without bound: a process whose reader is slow waits. A reader that is dropped is a closed pipe.
    pub stdout: Option<ByteStream>,
    /// What it writes to its standard error, if that does not go with the rest.
    pub stderr: Option<ByteStream>,
}

/// What is to be started.
///
/// ```
/// use farref_services::processes::Command;
///
/// let make = Command::new("make").args(["-j", "4"]).cwd("/src").env("CC", "clang");
/// let count = Command::shell("ls | wc -l");
/// let login = Command::login().pty(24, 80, "xterm-256color");
/// # drop((make, count, login));
/// ```
///
/// By name all but `what` may be left out: `{"what": {"Shell": "ls | wc -l"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Command {
    /// What it runs.
    pub what: What,
    /// Variables that it gets, with a value, or does not, in this order.
    #[serde(default)]
    pub env: Vec<(String, Option<String>)>,
    /// Whether it gets no other variables than those.
    #[serde(default)]
    pub clear_env: bool,
    /// The directory it starts in; by default that of the service, for [`What::Login`] the account's home.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Where its standard output goes.
    #[serde(default)]
    pub stdout: Output,
    /// Where its standard error goes.
    #[serde(default)]
    pub stderr: Output,
    /// The terminal it runs on, which then is its input and both its outputs.
    #[serde(default)]
    pub pty: Option<Pty>,
    /// Whether it goes on when nobody holds it any more.
    #[serde(default)]
    pub detached: bool,
}

/// What a [`Command`] runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum What {
    /// A program, by its path or as `PATH` has it, and its arguments.
    Program(String, Vec<String>),
    /// A line for `sh -c`.
    Shell(String),
    /// The login shell of the account.
    Login,
}

/// Where the output of a process goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Output {
    /// To whoever started it.
    #[default]
    Pipe,
    /// Nowhere.
    Null,
    /// With the standard output. For standard error alone.
    Merged,
}

/// A terminal for a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pty {
    /// Lines that it shows.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
    /// Its kind, for the variable `TERM`.
    pub term: String,
}

impl Command {
    /// A program, by its path or as `PATH` has it over there.
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self::of(What::Program(program.into(), Vec::new()))
    }

    /// A line for the shell.
    #[must_use]
    pub fn shell(line: impl Into<String>) -> Self {
        Self::of(What::Shell(line.into()))
    }

    /// The login shell of the account over there.
    #[must_use]
    pub const fn login() -> Self {
        Self::of(What::Login)
    }

    const fn of(what: What) -> Self {
        Self {
            what,
            env: Vec::new(),
            clear_env: false,
            cwd: None,
            stdout: Output::Pipe,
            stderr: Output::Pipe,
            pty: None,
            detached: false,
        }
    }

    /// Adds an argument. A shell line has none.
    #[must_use]
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// Adds arguments. A shell line has none.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        if let What::Program(_, all) = &mut self.what {
            all.extend(args.into_iter().map(Into::into));
        }
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// Takes all variables away but those set here.
    #[must_use]
    pub const fn env_clear(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// Starts in that directory.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// Says where its standard output goes.
    #[must_use]
    pub const fn stdout(mut self, to: Output) -> Self {
        self.stdout = to;
        self
    }

    /// Says where its standard error goes.
    #[must_use]
    pub const fn stderr(mut self, to: Output) -> Self {
        self.stderr = to;
        self
    }

    /// Runs it on a terminal of its own, as the leader of a session.
    #[must_use]
    pub fn pty(mut self, rows: u16, cols: u16, term: impl Into<String>) -> Self {
        let term = term.into();
        self.pty = Some(Pty { rows, cols, term });
        self
    }

    /// Lets it go on when nobody holds it any more. What it writes to a pipe then fails: send it [nowhere](Output::Null).
    #[must_use]
    pub const fn detached(mut self) -> Self {
        self.detached = true;
        self
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Exit {
    /// By itself, with that code.
    Code(i32),
    /// By a signal.
    Signal(Signal),
}

impl Exit {
    /// What a shell calls it: the code, or 128 and the number of the signal.
    #[must_use]
    pub fn shell_code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => 128 + i32::from(signal.usual_number()),
        }
    }

    /// Whether it ended with the code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by SIG{signal}"),
        }
    }
}

/// A signal, by its name as `kill -l` has it, since numbers differ between systems: `TERM`.
///
/// ```
/// use farref_services::processes::Signal;
///
/// let hangup: Signal = "sighup".parse()?;
/// assert_eq!((hangup, Signal::TERM.to_string()), (Signal::HUP, "TERM".to_owned()));
/// # Ok::<(), farref_services::file::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(Cow<'static, str>);

impl Signal {
    /// The terminal is gone.
    pub const HUP: Self = Self(Cow::Borrowed("HUP"));
    /// Interrupt, as by Ctrl-C.
    pub const INT: Self = Self(Cow::Borrowed("INT"));
    /// Quit, as by Ctrl-\.
    pub const QUIT: Self = Self(Cow::Borrowed("QUIT"));
    /// End at once.
    pub const KILL: Self = Self(Cow::Borrowed("KILL"));
    /// End in order.
    pub const TERM: Self = Self(Cow::Borrowed("TERM"));
    /// Stop until told to go on.
    pub const STOP: Self = Self(Cow::Borrowed("STOP"));
    /// Go on.
    pub const CONT: Self = Self(Cow::Borrowed("CONT"));
    /// The terminal has another size.
    pub const WINCH: Self = Self(Cow::Borrowed("WINCH"));
    /// Whatever the program makes of it.
    pub const USR1: Self = Self(Cow::Borrowed("USR1"));
    /// Whatever the program makes of it.
    pub const USR2: Self = Self(Cow::Borrowed("USR2"));

    /// The number that it has on most systems, or 0.
    fn usual_number(&self) -> u8 {
        match self.name() {
            "HUP" => 1,
            "INT" => 2,
            "QUIT" => 3,
            "ILL" => 4,
            "TRAP" => 5,
            "ABRT" => 6,
            "BUS" => 7,
            "FPE" => 8,
            "KILL" => 9,
            "USR1" => 10,
            "SEGV" => 11,
            "USR2" => 12,
            "PIPE" => 13,
            "ALRM" => 14,
            "TERM" => 15,
            "STKFLT" => 16,
            "XCPU" => 24,
            "XFSZ" => 25,
            "VTALRM" => 26,
            "PROF" => 27,
            "IO" => 29,
            "PWR" => 30,
            "SYS" => 31,
            other => other.parse().unwrap_or(0),
        }
    }

    /// Its name, without `SIG`; of those that have none the number over there.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Signal {
    type Err = Failure;

    /// Reads a name, with or without `SIG`, in any case. Whether there is such a signal is known where it is sent.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_name {
            let text = format!("`{text}` is no name of a signal: TERM is one, `kill -l` lists them");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text).into());
        }
        Ok(Self(name.to_owned().into()))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_with_or_without_its_beginning() {
        for text in ["TERM", "SIGTERM", "term", "sigterm"] {
            assert_eq!(text.parse::<Signal>().unwrap(), Signal::TERM);
        }
        for text in ["", "SIG", "9", "TE RM", "-9"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_has_the_code_that_a_shell_gives_it() {
        assert_eq!(Exit::Code(3).shell_code(), 3);
        assert_eq!(Exit::Signal(Signal::KILL).shell_code(), 137);
        assert_eq!(Exit::Signal(Signal::KILL).to_string(), "killed by SIGKILL");
        // As a peer may tell it: this was added up beyond all numbers.
        let most = Signal(i32::MAX.to_string().into());
        assert_eq!(Exit::Signal(most).shell_code(), 128);
        assert_eq!(Exit::Signal(Signal("-200".into())).shell_code(), 128);
    }
}
