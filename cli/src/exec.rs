//! `farref exec`: a command on another machine, as if it ran here.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use farref::processes::{Command, Exit, Process, Signal, Started};
use farref::stream::Sender;
use farref::{ByteStream, Netref};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::far::{Far, failed};

/// Run a command on another machine: with its input and output here, its exit code, its signals and its terminal.
///
/// Without a command, this is a login shell. On a terminal, `~.` behind Enter ends it when nothing else does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref exec tcp://rig7:7000 -- uname -a
  farref exec tcp://rig7:7000 -s 'cd /src && make 2>&1 | tail'
  tar c . | farref exec tcp://rig7:7000 --cwd /srv -- tar x
  farref exec -t tcp://rig7:7000 -- top
  farref exec tcp://rig7:7000                      a login shell

It ends with the code of the command, with 128 + n if signal n ended it, and
with 255 if farref itself failed.")]
pub(crate) struct Exec {
    /// Where to dial
    address: String,
    /// The command, behind `--`
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
    /// Let a shell over there read this line, instead
    #[arg(short, long, value_name = "LINE", conflicts_with = "command")]
    shell: Option<String>,
    /// Run it on a terminal [default: only for a login shell]
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// Run it without a terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// Read nothing: for commands in the background
    #[arg(short = 'n', long)]
    no_input: bool,
    /// The directory to run it in
    #[arg(long, value_name = "DIRECTORY")]
    cwd: Option<String>,
    /// Set a variable; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Let it go on when this ends; it has no input and no output then
    #[arg(long, conflicts_with_all = ["tty"])]
    detach: bool,
}

/// The code for failures of farref itself.
pub(crate) const OWN_FAILURE: u8 = 255;

impl Exec {
    /// Runs the command; the code to end with.
    pub(crate) async fn run(&self, global: &Global) -> Outcome<u8> {
        self.attend(global)
            .await
            .map_err(|failure| failure.code(OWN_FAILURE))
    }

    async fn attend(&self, global: &Global) -> Outcome<u8> {
        let is_terminal = std::io::stdin().is_terminal();
        let is_login = self.command.is_empty() && self.shell.is_none();
        let on_terminal = !self.no_tty && !self.detach && (self.tty || (is_login && is_terminal));
        let command = self.command(on_terminal)?;
        let far = Far::connect(&self.address, global).await?;
        let (sender, stdin) = match self.no_input || self.detach {
            true => (None, None),
            false => {
                let (sender, stdin) = ByteStream::channel(4);
                (Some(sender), Some(stdin))
            }
        };
        // All in one round trip.
        let asking = far.host.call().processes();
        let processes = asking.pipe();
        let spawning = processes.spawn(command, stdin);
        let started = match global.limit() {
            Some(limit) => spawning.timeout(limit).await,
            None => spawning.await,
        };
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                let what = "the command was not started";
                // Why there are no processes to be used says more than that a call of them failed.
                return Err(match far.host.call().processes().await {
                    Err(denied) => far.failed(what, &denied),
                    Ok(_) => failed(what, error),
                });
            }
        };
        if self.detach {
            let mut out = crate::output::Out::new(global);
            out.note(&format!("runs there as process {}", started.id))?;
            out.finish()?;
            far.connection.close().await;
            return Ok(0);
        }
        // Before the terminal is changed, and anything of the command is shown: whoever has seen a word of it may send signals
        // to it, and one that ended this program would leave the terminal as it is then.
        let signals = Heard::listen(on_terminal);
        let raw = match on_terminal && is_terminal {
            true => Some(Raw::enter()?),
            false => None,
        };
        let outcome = attach(started, sender, raw.is_some(), signals).await;
        drop(raw);
        let exit = outcome?;
        // It is over: nothing is waited for.
        far.connection.start_close();
        Ok(code(&exit))
    }

    fn command(&self, on_terminal: bool) -> Outcome<Command> {
        let mut command = match (&self.shell, self.command.split_first()) {
            (Some(line), _) => Command::shell(line),
            (None, Some((program, arguments))) => Command::new(program).args(arguments),
            (None, None) => Command::login(),
        };
        for variable in &self.env {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| Failure::usage(format_args!("`{variable}` is no NAME=VALUE")))?;
            command = command.env(name, value);
        }
        if let Some(directory) = &self.cwd {
            command = command.cwd(directory);
        }
        if on_terminal {
            let (rows, cols) = terminal_size().unwrap_or((24, 80));
            let term = std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".to_owned());
            command = command.pty(rows, cols, term);
        }
        if self.detach {
            use farref::processes::Output;
            command = command.detached().stdout(Output::Null).stderr(Output::Null);
        }
        Ok(command)
    }
}

/// Joins the process with the input and output of this one, until it ends.
async fn attach(
    started: Started,
    stdin: Option<Sender<bytes::Bytes>>,
    is_raw: bool,
    signals: Heard,
) -> Outcome<Exit> {
    let Started {
        process,
        stdout,
        stderr,
        ..
    } = started;
    let signals = tokio::spawn(signals.pass_on(process.clone()));
    let hung_up = Arc::new(tokio::sync::Notify::new());
    if let Some(sender) = stdin {
        tokio::spawn(feed(sender, is_raw, Arc::clone(&hung_up)));
    }
    let out = tokio::spawn(drain(stdout, tokio::io::stdout()));
    let err = tokio::spawn(drain(stderr, tokio::io::stderr()));
    let over = async {
        // What it wrote comes first; it may leave others behind that hold its output, and they are not waited for.
        let exit = process
            .call()
            .wait()
            .await
            .map_err(|error| failed("the command", error))?;
        let (out, err) = tokio::join!(out, err);
        for drained in [out, err].into_iter().flatten() {
            drained?;
        }
        Ok(exit)
    };
    let outcome = tokio::select! {
        exit = over => exit,
        () = hung_up.notified() => Err(Failure::silent(OWN_FAILURE)),
    };
    signals.abort();
    outcome
}

/// Writes what the process writes.
async fn drain(from: Option<ByteStream>, mut to: impl AsyncWrite + Unpin) -> Outcome {
    let Some(mut from) = from else {
        return Ok(());
    };
    while let Some(piece) = from.next().await {
        let piece = piece.map_err(|error| crate::far::broken("the output of the command", &error))?;
        let written = async {
            to.write_all(&piece).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            // The process is told by a pipe that breaks: `from` is dropped.
            return match error.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(Failure::io("cannot write the output", &error)),
            };
        }
    }
    Ok(())
}

/// Sends what is read here, up to its end.
async fn feed(mut to: Sender<bytes::Bytes>, is_raw: bool, hung_up: Arc<tokio::sync::Notify>) {
    let mut stdin = tokio::io::stdin();
    let mut escape = Escape::default();
    let mut buffer = bytes::BytesMut::with_capacity(64 << 10);
    loop {
        buffer.reserve(64 << 10);
        match stdin.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let piece = buffer.split().freeze();
        if is_raw && escape.is_in(&piece) {
            hung_up.notify_one();
            return;
        }
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

/// Finds `~.` at the beginning of a line.
#[derive(Debug, Default)]
struct Escape {
    seen: u8,
}

impl Escape {
    fn is_in(&mut self, piece: &[u8]) -> bool {
        // 0: at the beginning of a line, also of the first; 1: within one; 2: behind `~`.
        for byte in piece {
            self.seen = match (self.seen, byte) {
                (2, b'.') => return true,
                (_, b'\r' | b'\n') => 0,
                (0, b'~') => 2,
                _ => 1,
            };
        }
        false
    }
}

/// The signals to this process, which are the command's from [`listen`](Self::listen) on.
#[cfg(unix)]
struct Heard {
    signals: Vec<(Signal, tokio::signal::unix::Signal)>,
    /// The terminal has another size.
    resized: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Heard {
    fn listen(on_terminal: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
        ];
        // One that cannot be heard does here what it does to every program.
        Self {
            signals: kinds
                .into_iter()
                .filter_map(|(kind, name)| Some((name, signal(kind).ok()?)))
                .collect(),
            resized: on_terminal
                .then(|| signal(SignalKind::window_change()).ok())
                .flatten(),
        }
    }

    async fn pass_on(self, process: Netref<dyn Process>) {
        let mut passing = tokio::task::JoinSet::new();
        for (name, mut heard) in self.signals {
            let process = process.clone();
            passing.spawn(async move {
                while heard.recv().await.is_some() {
                    // If it has just ended, so will this.
                    let _ = process.call().signal(name.clone()).await;
                }
            });
        }
        if let Some(mut resized) = self.resized {
            passing.spawn(async move {
                while resized.recv().await.is_some() {
                    if let Some((rows, cols)) = terminal_size() {
                        let _ = process.call().resize(rows, cols).await;
                    }
                }
            });
        }
        while passing.join_next().await.is_some() {}
    }
}

#[cfg(not(unix))]
struct Heard;

#[cfg(not(unix))]
impl Heard {
    const fn listen(_on_terminal: bool) -> Self {
        Self
    }

    async fn pass_on(self, process: Netref<dyn Process>) {
        while tokio::signal::ctrl_c().await.is_ok() {
            let _ = process.call().signal(Signal::INT).await;
        }
    }
}

/// Rows and columns.
fn terminal_size() -> Option<(u16, u16)> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(std::io::stdin())
            .or_else(|_| rustix::termios::tcgetwinsize(std::io::stdout()))
            .ok()?;
        Some((size.ws_row, size.ws_col)).filter(|(rows, cols)| *rows > 0 && *cols > 0)
    }
    #[cfg(not(unix))]
    None
}

/// The terminal, as a program over there wants it: every key as it is. Dropping it puts things back.
#[cfg(unix)]
struct Raw(rustix::termios::Termios);

#[cfg(unix)]
impl Raw {
    fn enter() -> Outcome<Self> {
        use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
        let failed = |error: rustix::io::Errno| Failure::io("cannot use the terminal", &error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

#[cfg(unix)]
impl Drop for Raw {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        // There is nothing else to be done about it.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(not(unix))]
struct Raw;

#[cfg(not(unix))]
impl Raw {
    #[expect(clippy::unnecessary_wraps, reason = "other systems may refuse")]
    const fn enter() -> Outcome<Self> {
        Ok(Self)
    }
}

/// The code that stands for how a command ended. What does not fit is cut off, as the system itself does.
fn code(exit: &Exit) -> u8 {
    exit.shell_code()
        .to_le_bytes()
        .first()
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ends_has_its_code_and_one_that_is_killed_128_more() {
        assert_eq!(code(&Exit::Code(0)), 0);
        assert_eq!(code(&Exit::Code(3)), 3);
        assert_eq!(code(&Exit::Code(256 + 7)), 7);
        assert_eq!(code(&Exit::Signal(Signal::KILL)), 137);
        assert_eq!(code(&Exit::Signal(Signal::TERM)), 143);
    }

    #[test]
    fn the_escape_is_found_at_the_beginning_of_a_line_alone() {
        let find = |pieces: &[&str]| {
            let mut escape = Escape::default();
            pieces.iter().any(|piece| escape.is_in(piece.as_bytes()))
        };
        assert!(find(&["~."]) && find(&["ls\r~."]) && find(&["ls\r", "~", "."]));
        assert!(!find(&["ls ~."]) && !find(&["\r~x."]) && !find(&["~~."]));
    }
}
