//! Sockets that come from another process, and sockets that go to one: a supervisor that listens for us (systemd), one that
//! starts us for each connection (inetd), and ourselves doing that for a child.
//!
//! Knows how descriptors are handed over, and makes carriers of them; TCP and Unix sockets alike.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::SystemTime;

use listenfd::ListenFd;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::net::{AddressFamily, SocketType, getpeername, getsockname, sockopt::socket_type};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier};
use crate::error::{AcceptError, ListenError};
use crate::medium::Listener;
use crate::{tcp, unix};

/// The listeners that whoever started this process has opened for it, as systemd does (`LISTEN_FDS`), in their order; none
/// if it has not. They are taken once in the life of a process. Do so first thing in `main`, before there are other threads:
/// the variables are removed from the environment, so that no child takes them for its own.
///
/// # Errors
///
/// One of them is no listening TCP or Unix socket.
pub fn inherited() -> io::Result<Vec<Box<dyn Listener>>> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..sockets.len() {
        let listener = match sockets.take_unix_listener(index) {
            Ok(Some(socket)) => unix::adopt(socket)?,
            Ok(None) => continue,
            Err(_) => match sockets.take_tcp_listener(index)? {
                Some(socket) => tcp::adopt(socket)?,
                None => continue,
            },
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The one connection that is the standard input of this process, as inetd hands it over, and systemd with
/// `Accept=yes` and `StandardInput=socket`. Standard input and output lead to nowhere afterwards, and standard error does if it
/// was the connection as well.
///
/// # Errors
///
/// Standard input is no connected TCP or Unix socket.
pub fn inherited_connection() -> io::Result<Carrier> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let not_one = |_| {
        let text = "standard input is no connection: inetd, or whatever starts this program for each, hands it over as that";
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    getpeername(&socket).map_err(not_one)?;
    let carrier = carrier(socket.try_clone()?)?;
    let nowhere = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let which = |fd: std::os::fd::BorrowedFd<'_>| fstat(fd).map(|found| (found.st_dev, found.st_ino));
    if which(io::stderr().as_fd()).is_ok_and(|stderr| which(socket.as_fd()) == Ok(stderr)) {
        dup2_stderr(&nowhere)?;
    }
    dup2_stdin(&nowhere)?;
    dup2_stdout(&nowhere)?;
    Ok(carrier)
}

fn carrier(socket: OwnedFd) -> io::Result<Carrier> {
    if socket_type(&socket)? != SocketType::STREAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if getsockname(&socket)?.address_family() == AddressFamily::UNIX {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(unix::accepted(UnixStream::from_std(stream)?))
    } else {
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        tcp::accepted(TcpStream::from_std(stream)?)
    }
}

/// A listener for the one connection that [`inherited_connection`] gives.
#[derive(Debug)]
pub struct OnlyOne {
    carrier: Option<Carrier>,
    /// Ends with the carrier; nothing is ever sent.
    gone: Option<oneshot::Receiver<()>>,
    address: Option<Address>,
}

impl OnlyOne {
    /// Hands that one out, and is at its end when that is gone.
    #[must_use]
    pub fn new(carrier: Carrier) -> Self {
        let address = carrier.info().local.clone();
        let (alive, gone) = oneshot::channel();
        let carrier = match carrier {
            Carrier::Stream(stream) => stream.with_guard(alive).into(),
            other => other,
        };
        Self {
            carrier: Some(carrier),
            gone: Some(gone),
            address,
        }
    }
}

impl Listener for OnlyOne {
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
            let text = "the one connection that was handed over has ended";
            Err(AcceptError::Broken(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                text,
            )))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.address.iter().cloned().collect()
    }
}

/// Sockets that are accepted here and served by others: one process for each connection.
pub struct Sockets {
    listener: Listening,
    address: Address,
}

enum Listening {
    Tcp(tcp::Listening),
    Unix(unix::Listening),
}

/// A connection that was accepted, to be handed to a child as its standard input.
#[derive(Debug)]
pub struct Accepted {
    socket: OwnedFd,
    /// Where it comes from, if by a network.
    pub source: Option<IpAddr>,
    /// When it was accepted.
    pub at: SystemTime,
}

impl Accepted {
    fn new(socket: OwnedFd, source: Option<IpAddr>) -> Self {
        Self {
            socket,
            source,
            at: SystemTime::now(),
        }
    }

    /// The socket, as the standard input of a child.
    #[must_use]
    pub fn into_stdin(self) -> Stdio {
        self.socket.into()
    }
}

impl Sockets {
    /// Listens at `address`, which is one of `tcp` or `unix`.
    ///
    /// # Errors
    ///
    /// It is another one, or cannot be listened at.
    ///
    /// # Cancel safety
    ///
    /// Nothing listens when the future is dropped.
    pub async fn listen(address: &Address) -> Result<Self, ListenError> {
        let listener = match address.target() {
            Target::Tcp { .. } => Listening::Tcp(tcp::bind_at(address).await?),
            Target::Unix(_) => Listening::Unix(unix::bind_at(address).await?),
            _ => {
                let text = "only connections of tcp and unix can be handed to another process";
                let source = io::Error::new(io::ErrorKind::InvalidInput, text);
                return Err(ListenError::from_io(address, source));
            }
        };
        let local = match &listener {
            Listening::Tcp(listener) => listener.local_addresses(),
            Listening::Unix(listener) => listener.local_addresses(),
        };
        let address = local.into_iter().next().unwrap_or_else(|| address.clone());
        Ok(Self { listener, address })
    }

    /// Where to dial to get here, bare.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As for [`Listener::accept`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&mut self) -> Result<Accepted, AcceptError> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let accepted = match &mut self.listener {
            Listening::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, from)| {
                let socket = stream.into_std()?;
                socket.set_nonblocking(false)?;
                Ok(Accepted::new(socket.into(), Some(ip(from))))
            }),
            Listening::Unix(listener) => listener.poll_accept(cx).map_ok(|stream| {
                let socket = stream.into_std()?;
                socket.set_nonblocking(false)?;
                Ok(Accepted::new(socket.into(), None))
            }),
        };
        accepted.map(|accepted| {
            let accepted = accepted.map_err(crate::socket::accept_error)?;
            accepted.map_err(AcceptError::PeerGone)
        })
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sockets").field(&self.address).finish()
    }
}

fn ip(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}
