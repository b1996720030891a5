//! The standard input and output of this process, as the carrier to whoever started it.
//!
//! Knows what kinds of descriptors they may be, and keeps them apart from the rest of the program: once taken, what
//! the program prints goes to standard error, and what it reads is empty, so that a stray `println!` cannot fall
//! into the protocol.
//!
//! | option   | default | meaning                                                                |
//! |----------|---------|------------------------------------------------------------------------|
//! | `guard=` | 1       | whether descriptors 0 and 1 are moved away first                       |
//!
//! A process has one standard input: it can be taken once, by dialling or by listening. A listener hands out that one
//! carrier, and ends when it is gone. If the environment has [`TOKEN`], a line with it comes before everything else:
//! whoever started the process through a login finds the beginning by it, behind what the login has printed.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use rustix::io::fcntl_dupfd_cloexec;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, StreamCarrier};
use crate::error::{AcceptError, DialError, ListenError};
use crate::io::{IoRx, IoTx};
use crate::medium::{Listener, Transport};

/// The variable of the environment with the word that is said first.
pub const TOKEN: &str = "FARREF_TOKEN";

/// Whether they were taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The medium `stdio`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdio(());

impl Stdio {
    /// Standard input and output of this process.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Stdio {
    fn schemes(&self) -> &'static [&'static str] {
        &["stdio"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            take(address)
                .await
                .map(Into::into)
                .map_err(|error| DialError::from_io(address, error))
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let carrier = take(address)
                .await
                .map_err(|error| ListenError::from_io(address, error))?;
            let (held, gone) = oneshot::channel::<()>();
            let carrier = Some(carrier.with_guard(held));
            Ok(Box::new(Once {
                carrier,
                gone,
                address: address.clone(),
            }) as Box<dyn Listener>)
        })
    }
}

/// Hands out the one carrier.
struct Once {
    carrier: Option<StreamCarrier>,
    /// Ends when that is gone.
    gone: oneshot::Receiver<()>,
    address: Address,
}

impl Listener for Once {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        Box::pin(async {
            if let Some(carrier) = self.carrier.take() {
                return Ok(carrier.into());
            }
            // Cancel-safe: it is asked again as often as one likes, and nothing is sent on it.
            let _ = (&mut self.gone).await;
            let text = "a process has one standard input, and that is over";
            Err(AcceptError::Broken(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                text,
            )))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

/// Takes standard input and output.
async fn take(address: &Address) -> io::Result<StreamCarrier> {
    if !matches!(address.target(), Target::Stdio) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of stdio",
        ));
    }
    if address.option("in").is_some() || address.option("out").is_some() {
        let text = "other descriptors than 0 and 1 cannot be taken safely: have them passed as those";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    if TAKEN.swap(true, Ordering::AcqRel) {
        let text = "standard input and output are taken already";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let is_guarded = address.option("guard").is_none() || address.is_set("guard");
    let input = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    if is_guarded {
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    }
    let mut info = CarrierInfo::new("stdio");
    info.local = Some(address.clone());
    let mut carrier = StreamCarrier::new(IoRx::new(reader(input)?), IoTx::new(writer(output)?), info);
    if let Some(token) = std::env::var_os(TOKEN) {
        let line = [b"\n", token.as_encoded_bytes(), b"\n"].concat();
        // The first bytes on a fresh pipe: they fit. They go out now: whoever waits for them says nothing before.
        carrier.tx.try_write(&[IoSlice::new(&line)])?;
        poll_fn(|cx| carrier.tx.poll_flush(cx)).await?;
    }
    Ok(carrier)
}

/// Reads a descriptor of any kind without a thread where that can be.
fn reader(fd: OwnedFd) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    Ok(match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::Fifo => Box::new(pipe::Receiver::from_owned_fd(fd)?),
        FileType::Socket => Box::new(socket(fd)?),
        // Terminals and files: the reactor cannot wait for all of them.
        _ => Box::new(tokio::fs::File::from_std(File::from(fd))),
    })
}

/// The same for writing.
fn writer(fd: OwnedFd) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    Ok(match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(fd)?),
        FileType::Socket => Box::new(socket(fd)?),
        _ => Box::new(tokio::fs::File::from_std(File::from(fd))),
    })
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
