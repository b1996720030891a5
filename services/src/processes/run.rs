//! Commands whose output is wanted as a whole.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use farref_netref::{ByteStream, Netref};
use serde::{Deserialize, Serialize};

use super::{Command, Exit, Output, Process, Processes, Started};
use crate::file::Failure;

/// Runs `command` over there.
///
/// ```
/// # #[cfg(not(unix))] fn main() {}
/// # #[cfg(unix)]
/// # #[tokio::main]
/// # async fn main() -> Result<(), farref_services::file::Failure> {
/// # use farref_services::processes::{self, Command};
/// # let machine = processes::share(processes::Limits::default());
/// // `machine` is what a peer gave: a `Netref<dyn Processes>`.
/// let sorted = processes::run(&machine, Command::new("sort").arg("-n"))
///     .input("10\n9\n")
///     .output()
///     .await?;
/// assert!(sorted.exit.is_success());
/// assert_eq!(sorted.stdout, b"9\n10\n");
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs before `output` or `status` is awaited"]
pub fn run(processes: &Netref<dyn Processes>, command: Command) -> Run {
    Run {
        processes: processes.clone(),
        command,
        input: None,
        limit: LIMIT,
    }
}

/// A command to be run: see [`run`].
#[derive(Debug)]
pub struct Run {
    processes: Netref<dyn Processes>,
    command: Command,
    input: Option<ByteStream>,
    limit: usize,
}

/// What [`Run::output`] gives, as `std::process::Output` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to its standard output.
    #[serde(with = "farref_netref::bytes")]
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    #[serde(with = "farref_netref::bytes")]
    pub stderr: Vec<u8>,
}

/// Bytes that are kept of each output, if not said otherwise.
const LIMIT: usize = 64 << 20;

impl Run {
    /// Lets it read `bytes`.
    pub fn input(self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        self.input_from(ByteStream::read(io::Cursor::new(bytes)))
    }

    /// Lets it read a stream.
    pub fn input_from(mut self, bytes: ByteStream) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Takes no more than so many bytes of each of its outputs. Default 64 MiB.
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Runs it to its end, and collects what it writes.
    ///
    /// # Errors
    ///
    /// Those of [`Processes::spawn`] and of the connection; [`FileTooLarge`](io::ErrorKind::FileTooLarge) if it writes more
    /// than the [limit](Self::limit).
    ///
    /// # Cancel safety
    ///
    /// The process is ended.
    pub async fn output(self) -> Result<Captured, Failure> {
        let limit = self.limit;
        let Started {
            process,
            stdout,
            stderr,
            ..
        } = self.processes.call().spawn(self.command, self.input).await?;
        let (stdout, stderr) = tokio::try_join!(collect(stdout, limit), collect(stderr, limit))?;
        let exit = wait(&process).await?;
        Ok(Captured { exit, stdout, stderr })
    }

    /// Runs it to its end, and throws away what it writes.
    ///
    /// # Errors
    ///
    /// Those of [`Processes::spawn`] and of the connection.
    ///
    /// # Cancel safety
    ///
    /// The process is ended.
    pub async fn status(self) -> Result<Exit, Failure> {
        let mut command = self.command;
        if command.pty.is_none() {
            (command.stdout, command.stderr) = (Output::Null, Output::Null);
        }
        let mut started = self.processes.call().spawn(command, self.input).await?;
        let draining = async {
            while let Some(Ok(_)) = next(&mut started.stdout).await {}
            std::future::pending().await
        };
        tokio::select! {
            exit = wait(&started.process) => exit,
            never = draining => never,
        }
    }
}

/// Collects what a process writes up to its end, `limit` bytes of each output.
pub(super) async fn captured(started: Started, limit: usize) -> Result<Captured, Failure> {
    let Started {
        process,
        stdout,
        stderr,
        ..
    } = started;
    let (stdout, stderr) = tokio::try_join!(collect(stdout, limit), collect(stderr, limit))?;
    let exit = wait(&process).await?;
    Ok(Captured { exit, stdout, stderr })
}

/// Waits for its end for as long as that takes.
async fn wait(process: &Netref<dyn Process>) -> Result<Exit, Failure> {
    process.call().wait().timeout(Duration::MAX).await
}

async fn next(stream: &mut Option<ByteStream>) -> Option<farref_netref::Result<Bytes>> {
    match stream {
        Some(stream) => stream.next().await,
        None => None,
    }
}

async fn collect(mut stream: Option<ByteStream>, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut collected = Vec::new();
    while let Some(piece) = next(&mut stream).await {
        let piece = piece?;
        if piece.len() > limit.saturating_sub(collected.len()) {
            let text = format!("the process wrote more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text).into());
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected)
}
