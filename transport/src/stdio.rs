//! Our own standard input and output as a carrier: for a program that is started by its peer.
//!
//! Knows how to take the two over, so that nothing else in the program reads or writes them by mistake.
//! The other side is `exec` or `ssh`, or whatever else started the program.
//!
//! | option   | default | meaning                                                                          |
//! |----------|---------|----------------------------------------------------------------------------------|
//! | `guard=` | 1       | 0 and 1 become `/dev/null` and standard error, so that a stray `println!` goes to the log and not into the protocol. Without, the peer sees our end only when the process has ended |
//! | `in=`    | 0       | the descriptor to read; others than 0 and 1 on Linux only                        |
//! | `out=`   | 1       | the descriptor to write; likewise                                                |
//!
//! It can be taken once in the life of a process, by dialling or listening: they differ only in who is the
//! client. Do so first thing in `main`: what was read or printed before is lost to the peer, or meets it as
//! garbage. A listener hands out its one carrier, and is at its end when that is gone.
//!
//! Any kind of descriptor will do. Where the two are shared with other processes (a shell and its terminal)
//! they are left as they were, except that a socket does not wait until the carrier is dropped. A
//! descriptor given by its number stays open beside the carrier, and with it the peer's view of it.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{AddressFamily, getsockname};
use rustix::stdio::{dup2_stdin, dup2_stdout};
use tokio::sync::oneshot;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, ByteTx, Carrier, CarrierInfo, StreamCarrier};
use crate::error::{AcceptError, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::pipe::{Access, Kind, PipeRx, PipeTx, PutBack, adopt, check_runtime};
use crate::token::Token;

/// The medium `stdio`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdio(());

impl Stdio {
    /// The standard input and output of this process.
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
            let failed = |source| DialError::from_io(address, source);
            let (mut carrier, put_back) = take(address).await.map_err(failed)?;
            carrier.info.remote = Some(address.clone());
            Ok(carrier.with_guard(put_back).into())
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let failed = |source| ListenError::from_io(address, source);
            let (mut carrier, put_back) = take(address).await.map_err(failed)?;
            carrier.info.local = Some(address.clone());
            let (alive, gone) = oneshot::channel();
            Ok(Box::new(Listening {
                carrier: Some(carrier.with_guard((put_back, alive)).into()),
                gone: Some(gone),
                address: address.clone(),
            }) as Box<dyn Listener>)
        })
    }
}

struct Listening {
    carrier: Option<Carrier>,
    /// Ends with the carrier; nothing is ever sent.
    gone: Option<oneshot::Receiver<()>>,
    address: Address,
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe: the carrier is handed out in the first poll, and the wait takes nothing.
        Box::pin(async {
            if let Some(carrier) = self.carrier.take() {
                return Ok(carrier);
            }
            if let Some(gone) = &mut self.gone {
                let _ = gone.await;
                self.gone = None;
            }
            Err(AcceptError::Broken(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "standard input and output serve one connection, which has ended",
            )))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

/// Whether they were taken in this process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the two over, and says the token of the launcher, if there is one.
async fn take(address: &Address) -> io::Result<(StreamCarrier, Vec<PutBack>)> {
    check_runtime()?;
    if *address.target() != Target::Stdio {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not the address of standard input and output",
        ));
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "standard input and output were taken already: a process can do that once",
        ));
    }
    let (mut carrier, put_back) =
        take_over(address).inspect_err(|_| TAKEN.store(false, Ordering::Relaxed))?;
    if let Some(token) = Token::of_environment() {
        say(&mut *carrier.tx, token.line().as_bytes()).await?;
    }
    Ok((carrier, put_back))
}

fn take_over(address: &Address) -> io::Result<(StreamCarrier, Vec<PutBack>)> {
    let number = |name, default| {
        let given = address.number(name).and_then(|number| i32::try_from(number).ok());
        given.unwrap_or(default)
    };
    let (from, to) = (number("in", 0), number("out", 1));
    let (input, output) = (duplicate(from)?, duplicate(to)?);
    let mut info = CarrierInfo::new("stdio");
    info.confidential = is_confidential(&input)? && is_confidential(&output)?;
    info.half_close = Kind::of(&output)? != Kind::Terminal;
    let (input, first) = adopt(input, Access::Read)?;
    let (output, second) = adopt(output, Access::Write)?;
    let carrier = StreamCarrier::new(PipeRx::new(input)?, PipeTx::new(output)?, info);
    if address.option("guard") != Some("0") {
        guard([from, to])?;
    }
    Ok((carrier, first.into_iter().chain(second).collect()))
}

/// The descriptor of that number once more, out of the way of the first three.
fn duplicate(number: i32) -> io::Result<OwnedFd> {
    match number {
        0 => Ok(fcntl_dupfd_cloexec(io::stdin(), LOWEST)?),
        1 => Ok(fcntl_dupfd_cloexec(io::stdout(), LOWEST)?),
        2 => Ok(fcntl_dupfd_cloexec(io::stderr(), LOWEST)?),
        _ => by_number(number),
    }
}

/// A number alone says nothing about who owns the descriptor; the system hands out a duplicate even so.
#[cfg(target_os = "linux")]
fn by_number(number: i32) -> io::Result<OwnedFd> {
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let ourselves = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(ourselves, number, PidfdGetfdFlags::empty()).map_err(|errno| match errno {
        Errno::BADF => {
            let told = format!("descriptor {number} is not open in this process");
            io::Error::new(io::ErrorKind::NotFound, told)
        }
        errno => errno.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn by_number(number: i32) -> io::Result<OwnedFd> {
    let told = format!("descriptor {number} cannot be taken on this system: use 0 and 1");
    Err(io::Error::new(io::ErrorKind::InvalidInput, told))
}

/// Whether nobody else can read or alter what passes.
fn is_confidential(fd: impl AsFd) -> io::Result<bool> {
    Ok(match Kind::of(&fd)? {
        Kind::Pipe => true,
        Kind::Socket => getsockname(&fd)?.address_family() == AddressFamily::UNIX,
        Kind::Terminal | Kind::Other => false,
    })
}

/// Points those that were taken elsewhere.
fn guard(taken: [i32; 2]) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    if taken.contains(&0) {
        dup2_stdin(&null)?;
    }
    if taken.contains(&1) && dup2_stdout(io::stderr()).is_err() {
        dup2_stdout(&null)?;
    }
    Ok(())
}

async fn say(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Descriptors below are those that every program takes for granted.
const LOWEST: i32 = 3;
