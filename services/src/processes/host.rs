//! The machine whose processes they are.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use farref_netref::{ByteStream, Netref, caller, remote};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::Notify;

use super::child::Child;
use super::feed::feed;
use super::output::{Output, Progress};
use super::run::captured;
use super::start::{Parts, start};
use super::{Captured, Command, Exit, Process, Processes, Signal, Started, ignored, signal};
use crate::denied::denied;
use crate::file::Failure;
use crate::places::Places;

/// How much may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Processes at a time, those that are detached included; one peer may have half of them. Default 256.
    pub processes: usize,
    /// Whether a process may be detached: go on when whoever started it is gone. Default true.
    pub may_detach: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 256,
            may_detach: true,
        }
    }
}

impl Limits {
    /// So many processes at a time.
    #[must_use]
    pub const fn processes(mut self, count: usize) -> Self {
        self.processes = count;
        self
    }

    /// Whether a process may go on when whoever started it is gone.
    #[must_use]
    pub const fn may_detach(mut self, may: bool) -> Self {
        self.may_detach = may;
        self
    }
}

/// Shares the processes of this machine: whoever has the netref can do whatever the account of this program can.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), farref_services::file::Failure> {
/// use farref_services::processes::{self, Command, Exit, Limits};
///
/// let machine = processes::share(Limits::default().processes(4));
/// // Over there, most often:
/// let started = machine.call().spawn(Command::shell("exit 3"), None).await?;
/// assert_eq!(started.process.call().wait().await?, Exit::Code(3));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn share(limits: Limits) -> Netref<dyn Processes> {
    Netref::of(Machine {
        places: Places::new(limits.processes),
        limits,
    })
}

struct Machine {
    limits: Limits,
    places: Places,
}

#[remote]
impl Processes for Machine {
    async fn spawn(&self, command: Command, stdin: Option<ByteStream>) -> Result<Started, Failure> {
        if command.detached && !self.limits.may_detach {
            let text = "processes are not detached here: this one would be ended with its connection";
            return Err(denied(text));
        }
        ignored::heed();
        let caller = caller().map(|caller| caller.peer());
        let place = self.places.enter(caller.as_deref()).ok_or_else(|| {
            let text = format!(
                "{} processes may run, half of them of one peer: that many do",
                self.limits.processes
            );
            io::Error::new(io::ErrorKind::QuotaExceeded, text)
        })?;
        let has_input = stdin.is_some();
        // Where nobody waits for it any more, the process is dropped by the thread that has started it.
        let started = tokio::task::spawn_blocking(move || {
            let parts = start(&command, has_input)?;
            let outputs = usize::from(parts.stdout.is_some()) + usize::from(parts.stderr.is_some());
            let Parts {
                child,
                stdin,
                stdout,
                stderr,
                terminal,
            } = parts;
            let child = Child::watch(child, terminal.is_some(), command.detached, outputs, place)?;
            let running = Running {
                child,
                terminal,
                outputs: Vec::new(),
                close: Arc::new(Notify::new()),
            };
            io::Result::Ok((running, stdin, stdout, stderr))
        });
        let (mut running, input, stdout, stderr) = started.await.map_err(io::Error::from)??;
        if let Some(pipe) = input {
            feed(pipe, stdin, &running.child, Arc::clone(&running.close))?;
        }
        let stdout = running.output(stdout)?;
        let stderr = running.output(stderr)?;
        Ok(Started {
            id: running.child.id(),
            stdout,
            stderr,
            process: Netref::of(running),
        })
    }

    async fn output(&self, line: String) -> Result<Captured, Failure> {
        let started = self.spawn(Command::shell(line), None).await?;
        captured(started, MOST_CAPTURED).await
    }
}

/// Bytes of each output that [`Processes::output`] gives, at most.
const MOST_CAPTURED: usize = 1 << 20;

/// A process, which ends with this.
struct Running {
    child: Arc<Child>,
    terminal: Option<OwnedFd>,
    outputs: Vec<Arc<Progress>>,
    /// Tells that the child reads no more.
    close: Arc<Notify>,
}

impl Running {
    fn output(&mut self, pipe: Option<OwnedFd>) -> io::Result<Option<ByteStream>> {
        let Some(pipe) = pipe else { return Ok(None) };
        let (output, progress) = Output::new(pipe, &self.child)?;
        self.outputs.push(progress);
        Ok(Some(ByteStream::pieces(output)))
    }
}

#[remote]
impl Process for Running {
    async fn id(&self) -> Result<u32, Failure> {
        Ok(self.child.id())
    }

    async fn exit(&self) -> Result<Option<Exit>, Failure> {
        let ended = self.child.ended().borrow().clone();
        ended.map(|ended| ended.ok_or_else(unknown)).transpose()
    }

    async fn wait(&self) -> Result<Exit, Failure> {
        let mut ended = self.child.ended();
        let told = ended.wait_for(Option::is_some).await;
        let exit = told.ok().and_then(|told| told.clone().flatten());
        for output in &self.outputs {
            output.passed_on().await;
        }
        exit.ok_or_else(unknown)
    }

    async fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let number = signal::number(&signal).ok_or_else(|| {
            let text = format!("there is no signal `{signal}` here");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        if !self.child.signal(number) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended").into());
        }
        Ok(())
    }

    async fn resize(&self, rows: u16, cols: u16) -> Result<(), Failure> {
        let Some(terminal) = &self.terminal else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the process has no terminal").into());
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(terminal, size).map_err(io::Error::from)?)
    }

    async fn close_stdin(&self) -> Result<(), Failure> {
        self.close.notify_one();
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.release();
    }
}

fn unknown() -> Failure {
    io::Error::other("somebody else over there has waited for the process").into()
}
