//! Child processes, over their standard input and output.
//!
//! Knows how to start a program, how to tell why it went away, and how to end it so that nothing of it is left: its
//! input is closed, and what does not end by itself is told to, and then made to, with all that it has started.
//!
//! | option    | default   | meaning                                                                 |
//! |-----------|-----------|-------------------------------------------------------------------------|
//! | `arg=`    | none      | an argument; may be repeated                                            |
//! | `cwd=`    | ours      | its working directory                                                   |
//! | `env=`    | none      | `NAME=value`, for its environment on top of ours; may be repeated       |
//! | `kill=`   | 5 s       | how long it may take to end when its input has                          |
//! | `stderr=` | `inherit` | where its standard error goes: to ours, to `tracing` (`log`), nowhere (`null`) |

use std::io::{self, IoSlice};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, ByteRx, ByteTx, Carrier, CarrierInfo, StreamCarrier};
use crate::error::{Absence, DialError, ListenError};
use crate::io::{IoRx, IoTx};
use crate::medium::{Listener, Transport};

/// How long a program may take to end when its input has, unless `kill=` says otherwise.
const KILL: Duration = Duration::from_secs(5);
/// How long it may take when it was told to end.
const TERM: Duration = Duration::from_secs(2);
/// Longest line of its standard error that is logged whole.
const MAX_LINE: u64 = 4096;

/// The medium `exec`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec(());

impl Exec {
    /// Child processes of this one.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Exec {
    fn schemes(&self) -> &'static [&'static str] {
        &["exec"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let failed = |error| DialError::from_io(address, error);
            let command = command(address).map_err(failed)?;
            let mut info = CarrierInfo::new("exec");
            info.remote = Some(address.clone());
            let kill = address.duration("kill").unwrap_or(KILL);
            spawn(command, info, kill).map(Into::into).map_err(failed)
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

fn command(address: &Address) -> io::Result<Command> {
    let Target::Exec { program } = address.target() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of a program",
        ));
    };
    let mut command = Command::new(program);
    for (name, value) in address.options() {
        match name {
            "arg" => drop(command.arg(value)),
            "env" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                command.env(name, value);
            }
            "cwd" => drop(command.current_dir(value)),
            _ => {}
        }
    }
    command.stderr(match address.option("stderr") {
        Some("log") => Stdio::piped(),
        Some("null") => Stdio::null(),
        _ => Stdio::inherit(),
    });
    Ok(command)
}

/// Starts `command` and makes a carrier of its standard input and output, for a program of your own that is started
/// in a way of your own. If its standard error is piped, it is logged line by line.
///
/// When the carrier is gone, the program may take `kill` to end by itself; then it is told to, and 2 s later it is
/// killed, with everything in its process group.
///
/// # Errors
///
/// It could not be started, or there is no tokio runtime.
pub fn spawn(mut command: Command, info: CarrierInfo, kill: Duration) -> io::Result<StreamCarrier> {
    let mut started = Started::new(&mut command, kill)?;
    if let Some(stderr) = started.stderr.take() {
        tokio::spawn(log(stderr, started.name.clone(), |_| {}));
    }
    Ok(started.into_carrier(info))
}

/// A program that runs.
pub(crate) struct Started {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) name: String,
    pub(crate) child: Arc<Mutex<Child>>,
    pub(crate) guard: Ending,
}

impl Started {
    pub(crate) fn new(command: &mut Command, kill: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: a Ctrl-C at our terminal is ours to pass on, and its children can be ended with it.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                format!("there is no program `{name}`, nor its directory"),
            ),
            _ => error,
        })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let stderr = child.stderr.take();
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let child = Arc::new(Mutex::new(child));
        let group = Group { group };
        let guard = Ending {
            child: Some((Arc::clone(&child), group)),
            kill,
            runtime,
        };
        Ok(Self {
            stdin,
            stdout,
            stderr,
            name,
            child,
            guard,
        })
    }

    pub(crate) fn into_carrier(self, info: CarrierInfo) -> StreamCarrier {
        let tx = ChildTx {
            stdin: IoTx::new(self.stdin),
            name: self.name.clone(),
            child: Arc::clone(&self.child),
            ending: None,
            failure: None,
        };
        let rx = ChildRx {
            stdout: IoRx::new(self.stdout),
            name: self.name,
            child: self.child,
            has_spoken: false,
            ending: None,
            failure: None,
        };
        StreamCarrier::new(rx, tx, info).with_guard(self.guard)
    }
}

/// Logs what a program says on its standard error, line by line.
pub(crate) async fn log(stderr: ChildStderr, name: String, mut line: impl FnMut(&str)) {
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // A line that is too long comes in pieces.
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes);
                tracing::info!(program = name, "{}", text.trim_end().escape_debug());
                line(text.trim_end());
            }
        }
    }
}

/// How a program ended, in words.
pub(crate) fn describe(name: &str, status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("`{name}` exited with status {code}"),
        (None, Some(signal)) => format!("`{name}` was ended by signal {signal}"),
        _ => format!("`{name}` has ended"),
    }
}

/// The standard output of a program. If it ends before a word was said, the reason is told.
struct ChildRx {
    stdout: IoRx<ChildStdout>,
    name: String,
    child: Arc<Mutex<Child>>,
    has_spoken: bool,
    ending: Option<BoxFuture<'static, Option<ExitStatus>>>,
    failure: Option<String>,
}

/// How long a program may take from closing its output to its end, to be asked for its status.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl ChildRx {
    /// Waits for the program to be gone, to say why.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(());
        };
        let status = ready!(ending.as_mut().poll(cx));
        self.ending = None;
        self.failure = Some(match status {
            Some(status) => format!("{} before it said a word", describe(&self.name, status)),
            None => format!("`{}` has closed its output before it said a word", self.name),
        });
        Poll::Ready(())
    }
}

impl ByteRx for ChildRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, failure.clone()));
        }
        if self.ending.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.stdout.try_read(into) {
            Ok(0) if !self.has_spoken => {
                self.ending = Some(status(&self.child));
                Err(io::ErrorKind::WouldBlock.into())
            }
            read => {
                self.has_spoken |= read.is_ok();
                read
            }
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            ready!(self.poll_ending(cx));
        }
        if self.failure.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.stdout.poll_readable(cx)
    }
}

/// The status of a program that seems to be gone, if it is.
fn status(child: &Arc<Mutex<Child>>) -> BoxFuture<'static, Option<ExitStatus>> {
    let child = Arc::clone(child);
    Box::pin(async move {
        let mut child = child.lock().await;
        tokio::time::timeout(LAST_WORDS, child.wait()).await.ok()?.ok()
    })
}

/// The standard input of a program. If nobody reads it any more, the reason is told.
struct ChildTx {
    stdin: IoTx<ChildStdin>,
    name: String,
    child: Arc<Mutex<Child>>,
    ending: Option<BoxFuture<'static, Option<ExitStatus>>>,
    failure: Option<String>,
}

impl ChildTx {
    /// Puts a broken pipe off until its reason is known.
    fn or_ending<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.failure.is_none() => {
                self.ending.get_or_insert_with(|| status(&self.child));
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }

    /// Ready when it is known whether this has failed.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(ending) = &mut self.ending {
            let status = ready!(ending.as_mut().poll(cx));
            self.ending = None;
            self.failure = Some(match status {
                Some(status) => describe(&self.name, status),
                None => format!("`{}` does not read any more", self.name),
            });
        }
        Poll::Ready(self.check())
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(failure) => Err(io::Error::new(io::ErrorKind::BrokenPipe, failure.clone())),
            None => Ok(()),
        }
    }
}

impl ByteTx for ChildTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check()?;
        if self.ending.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = self.stdin.try_write(bufs);
        self.or_ending(written)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ending(cx))?;
        let writable = ready!(self.stdin.poll_writable(cx));
        match self.or_ending(writable) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.poll_ending(cx),
            writable => Poll::Ready(writable),
        }
    }

    fn is_buffering(&self) -> bool {
        self.stdin.is_buffering()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ending(cx))?;
        let flushed = ready!(self.stdin.poll_flush(cx));
        match self.or_ending(flushed) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.poll_ending(cx),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.poll_close(cx)
    }
}

/// A process group, which is killed when this is dropped.
struct Group {
    group: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails if nobody is left: that is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Ends a program when the carrier is gone: with patience, but surely.
pub(crate) struct Ending {
    child: Option<(Arc<Mutex<Child>>, Group)>,
    kill: Duration,
    runtime: tokio::runtime::Handle,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some((child, group)) = self.child.take() else {
            return;
        };
        let kill = self.kill;
        // If the runtime is gone, or goes meanwhile, the group is killed by its drop, and the child by its own.
        self.runtime.spawn(async move {
            let mut child = child.lock().await;
            if tokio::time::timeout(kill, child.wait()).await.is_err() {
                group.signal(Signal::TERM);
                if tokio::time::timeout(TERM, child.wait()).await.is_err() {
                    group.signal(Signal::KILL);
                    let _ = child.wait().await;
                }
            }
            drop(group);
        });
    }
}
