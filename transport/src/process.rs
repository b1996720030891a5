//! A child process as a carrier: what it reads is what we write, and the other way round.
//!
//! Knows the life of the child, from its start to the last process of its group: it ends with its
//! carrier, in order if it can, and leaves neither orphans nor zombies. What it says on its standard error
//! is in `process/stderr`. Which program to run is for [`exec`](crate::exec) and you.
//!
//! ```text
//! carrier dropped: its standard input ends -- patience (5 s) --> SIGTERM -- 2 s --> SIGKILL
//! child gone:      the rest of its group gets SIGTERM -- 2 s --> SIGKILL
//! ```
//!
//! Two threads see to that, not the runtime, so a runtime that is shut down takes no child's end with it; and it waits
//! for them when it is dropped, so a program that ends leaves no child behind. Where this *process* ends without
//! that (it is killed, or calls `exit`), its children see their standard input end, and one that does not care for
//! that lives on. [`all_ended`] waits where there is no runtime.

mod ended;
mod life;
mod stderr;

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

pub use ended::{Ended, Outcome, ended};
pub use life::all_ended;
use life::{Life, Lifeline};
#[cfg(feature = "ssh")]
pub(crate) use stderr::printable;

use crate::carrier::{ByteRx, ByteTx, CarrierInfo, StreamCarrier};
use crate::descriptor::{Alarm, Descriptor};
use crate::io::reserve_some;
use crate::pipe::{PipeRx, PipeTx, check_runtime, set_nonblocking};
use crate::token;

/// A child process to come, whose standard input and output will be a carrier.
///
/// ```no_run
/// use std::process::Command;
/// use farref_transport::process::{Process, Stderr};
///
/// # async fn start() -> std::io::Result<()> {
/// let mut agent = Command::new("/usr/bin/agent");
/// agent.arg("--stdio").env("LANG", "C");
/// let carrier = Process::new(agent).stderr(Stderr::Log).spawn()?;
/// # drop(carrier);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Process {
    command: Command,
    name: String,
    patience: Duration,
    stderr: Stderr,
    own_group: bool,
    explain: Explain,
}

/// Where a child's standard error goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stderr {
    /// Where ours goes.
    #[default]
    Inherit,
    /// To `tracing`, line by line, at level info, with the name of the child. Lines are cut at 4 KiB; the
    /// last ones are told with the child's end.
    Log,
    /// Nowhere.
    Null,
}

/// A word on what the end of a child means, by how it ended and what it said last.
pub(crate) type Explain = fn(Outcome, &str) -> Option<&'static str>;

impl Process {
    /// The child that `command` describes; a command of tokio's comes by its `into_std`.
    ///
    /// Standard input, output and error, and the process group, are set here. The child does not inherit the
    /// token by which *this* process was started, if it was.
    #[must_use]
    pub fn new(command: Command) -> Self {
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            command,
            patience: PATIENCE,
            stderr: Stderr::default(),
            own_group: true,
            explain: |_, _| None,
        }
    }

    /// What the child is called in logs and errors. Default: the file name of the program.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long the child may take to end after its standard input did, before it is told by SIGTERM.
    /// Default 5 s; two seconds later comes SIGKILL.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where the child's standard error goes. Default [`Stderr::Inherit`].
    #[must_use]
    pub const fn stderr(mut self, stderr: Stderr) -> Self {
        self.stderr = stderr;
        self
    }

    /// Whether the child leads a process group of its own, which ends with it and does not get the terminal's
    /// Ctrl-C. Default true. A child that asks its user something on the terminal needs false; then only
    /// the child itself is ended.
    #[must_use]
    pub const fn own_group(mut self, own_group: bool) -> Self {
        self.own_group = own_group;
        self
    }

    #[cfg(feature = "ssh")]
    pub(crate) const fn explain(mut self, explain: Explain) -> Self {
        self.explain = explain;
        self
    }

    /// Starts the child.
    ///
    /// The carrier's medium is `exec`. Reading it after the child failed is an error that [`ended()`] tells more
    /// about.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the program or its working directory does not exist, naming
    /// what was searched; [`PermissionDenied`](io::ErrorKind::PermissionDenied) if it may not be run;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no program; otherwise what the system says.
    pub fn spawn(self) -> io::Result<StreamCarrier> {
        let (rx, tx, lifeline) = self.start()?;
        let mut info = CarrierInfo::new("exec");
        info.confidential = true;
        Ok(StreamCarrier::new(rx, tx, info).with_guard(lifeline))
    }

    /// Starts the child, and leaves the parts apart.
    pub(crate) fn start(mut self) -> io::Result<(ChildRx, ChildTx, Lifeline)> {
        check_runtime()?;
        let command = &mut self.command;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(match self.stderr {
            Stderr::Inherit => Stdio::inherit(),
            Stderr::Log => Stdio::piped(),
            Stderr::Null => Stdio::null(),
        });
        if !command.get_envs().any(|(name, _)| name == token::VARIABLE) {
            command.env_remove(token::VARIABLE);
        }
        if self.own_group {
            std::os::unix::process::CommandExt::process_group(command, 0);
        }
        let mut child = command
            .spawn()
            .map_err(|error| ended::not_started(&self.command, error))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let is_logged = pipes.2.is_some();
        let life = Arc::new(Life::new(self.name, self.explain, self.own_group, is_logged));
        // From here on the child ends with `lifeline`, also where the rest fails.
        let lifeline = Lifeline::of(child, &life, self.patience)?;
        let (Some(stdin), Some(stdout), stderr) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if let Some(stderr) = stderr {
            let pipe = PipeRx::new(ours(stderr)?)?;
            tokio::spawn(stderr::forward(pipe, Arc::clone(&life)));
        }
        let rx = ChildRx {
            pipe: PipeRx::new(ours(stdout)?)?,
            life: Arc::clone(&life),
            ahead: BytesMut::new(),
            has_spoken: false,
            is_at_end: false,
        };
        let tx = ChildTx {
            pipe: PipeTx::new(ours(stdin)?)?,
            life,
            is_broken: false,
        };
        Ok((rx, tx, lifeline))
    }
}

/// Our end of a pipe to the child, whose flags nobody else sees.
fn ours(pipe: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    let fd = pipe.into();
    set_nonblocking(&fd)?;
    Ok(fd)
}

/// What the child says.
///
/// The end of its output and the end of the child are told as one, in whatever order they come: after the
/// first of the two the other has a second.
pub(crate) struct ChildRx {
    pipe: PipeRx,
    life: Arc<Life>,
    /// Read already, by who looked for the start of what matters.
    ahead: BytesMut,
    /// Whether anything was read.
    has_spoken: bool,
    /// Whether the pipe has ended.
    is_at_end: bool,
}

impl ChildRx {
    /// Puts back what was read too far.
    #[cfg(feature = "ssh")]
    pub(crate) fn put_back(&mut self, ahead: BytesMut) {
        self.ahead = ahead;
    }

    /// Takes note of what a read of the pipe came to.
    fn noted(&mut self, count: usize) {
        if count == 0 {
            self.is_at_end = true;
            self.life.output_ended();
        } else if !std::mem::replace(&mut self.has_spoken, true) {
            self.life.heard();
        }
    }

    /// Reads the pipe; `Ok(0)` once that is over, whether or not it has ended.
    fn read_pipe(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut read = self.pipe.try_read(into);
        if read
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            && self.life.is_over()
        {
            // What was said last may have come since. Beyond that, a process that the child left behind may
            // hold the pipe open for ever.
            read = match self.pipe.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                read => read,
            };
        }
        if let Ok(count) = read {
            self.noted(count);
        }
        read
    }
}

impl ByteRx for ChildRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(into.capacity() - into.len());
            into.extend_from_slice(&self.ahead.split_to(count));
            return Ok(count);
        }
        if !self.is_at_end {
            let count = self.read_pipe(into)?;
            if count > 0 {
                return Ok(count);
            }
        }
        if !self.life.is_told() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.life.verdict()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.is_at_end {
            return self.life.poll_told(cx).map(Ok);
        }
        let readable = self.pipe.poll_readable(cx);
        if readable.is_pending() {
            return self.life.poll_over(cx).map(Ok);
        }
        readable
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        if self.ahead.is_empty() && !self.is_at_end {
            match self.pipe.poll_read(cx, into) {
                Poll::Ready(Ok(count)) => {
                    self.noted(count);
                    if count > 0 {
                        return Poll::Ready(Ok(count));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.life.poll_over(cx).is_pending() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        loop {
            match self.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            std::task::ready!(self.poll_readable(cx))?;
        }
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        Some(self)
    }
}

impl Descriptor for ChildRx {
    fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
        if !self.ahead.is_empty() {
            return Ok(true);
        }
        if self.is_at_end {
            return Ok(self.life.wait_told(timeout));
        }
        let until = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
        loop {
            let left = until.map(|until| until.saturating_duration_since(std::time::Instant::now()));
            let slice = left.map_or(LINGER, |left| left.min(LINGER));
            let begun = std::time::Instant::now();
            if self.pipe.wait_readable(alarm, Some(slice))? || self.life.is_over() {
                return Ok(true);
            }
            let rung = alarm.is_some() && begun.elapsed() < slice;
            if rung || left.is_some_and(|left| left <= slice) {
                return Ok(false);
            }
        }
    }

    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.pipe.wait_writable(timeout)
    }
}

/// What the child hears.
///
/// A pipe that nobody reads any more is told with the end of the child, for which it waits up to a second.
pub(crate) struct ChildTx {
    pipe: PipeTx,
    life: Arc<Life>,
    /// Whether nobody reads the pipe any more.
    is_broken: bool,
}

impl ByteTx for ChildTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.is_broken {
            match self.pipe.try_write(bufs) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.is_broken = true;
                    self.life.input_broke();
                }
                written => return written,
            }
        }
        if !self.life.is_told_to_writer() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Err(self.life.broken_pipe())
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken {
            return self.life.poll_told_to_writer(cx).map(Ok);
        }
        self.pipe.poll_writable(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.life.input_closed();
        self.pipe.poll_close(cx)
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        Some(self)
    }
}

impl Descriptor for ChildTx {
    fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
        self.pipe.wait_readable(alarm, timeout)
    }

    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
        if self.is_broken {
            return Ok(self.life.wait_told_to_writer(timeout));
        }
        self.pipe.wait_writable(timeout)
    }
}

impl Drop for ChildTx {
    fn drop(&mut self) {
        self.life.input_closed();
    }
}

/// How long a child may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after SIGTERM comes SIGKILL.
const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// How long the end of a child's output waits for the end of the child, or the other way round.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
