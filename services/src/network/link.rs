//! One connection of this machine as two streams of bytes, whose ends and failures are those of the connection.
//!
//! | here                              | on the socket          |
//! |-----------------------------------|------------------------|
//! | what is sent ends                 | no more is sent        |
//! | what is sent fails                | reset                  |
//! | what is received is dropped early | reset                  |
//! | what is received ends             | the other end sent all |
//! | what is received fails            | reset by the other end |

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use farref_netref::{ByteStream, Result};
use socket2::SockRef;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::Target;
use crate::places::Place;

/// A socket that is connected.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The same call on whichever it is.
macro_rules! on {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($inner) => $call,
            #[cfg(unix)]
            Socket::Unix($inner) => $call,
        }
    };
}

impl Socket {
    /// Connects to `target`; the first of its addresses that answers.
    pub(super) async fn connect(target: &Target) -> io::Result<(Self, Target)> {
        match target {
            Target::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                let peer = stream.peer_addr()?.into();
                Ok((Self::from(stream), peer))
            }
            #[cfg(unix)]
            Target::Unix { path } => {
                let stream = UnixStream::connect(path).await?;
                Ok((Self::Unix(stream), target.clone()))
            }
            #[cfg(not(unix))]
            Target::Unix { .. } => Err(no_unix()),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        // Whoever gathers bytes has done so before. A socket that cannot is as good.
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

#[cfg(not(unix))]
pub(super) fn no_unix() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "there are no Unix sockets on this system",
    )
}

/// A connection that is passed on.
pub(super) struct Link {
    socket: Socket,
    is_reset: AtomicBool,
    reset: Notify,
    /// Whether what is received has ended, one way or the other.
    is_received: AtomicBool,
    received: Notify,
    /// Its place among those that may be open.
    _place: Option<Place>,
}

impl Link {
    pub(super) fn new(socket: Socket, place: Option<Place>) -> Arc<Self> {
        Arc::new(Self {
            socket,
            is_reset: AtomicBool::new(false),
            reset: Notify::new(),
            is_received: AtomicBool::new(false),
            received: Notify::new(),
            _place: place,
        })
    }

    /// What comes from the other end; once.
    pub(super) fn received(self: &Arc<Self>) -> ByteStream {
        let link = Arc::clone(self);
        let mut reset = Box::pin(async move { link.reset.notified().await });
        // From now on it hears, and holds the socket as long as it may still be read.
        let _ = reset
            .as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()));
        ByteStream::pieces(Received {
            link: Some(Arc::clone(self)),
            reset,
            room: BytesMut::new(),
        })
    }

    /// Sends `bytes`, and their end, to the other end.
    pub(super) async fn send(self: Arc<Self>, bytes: ByteStream) -> io::Result<()> {
        let sending = Sending(Some(Arc::clone(&self)));
        let reset = self.reset.notified();
        if self.is_reset() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let sent = tokio::select! {
            sent = self.send_all(bytes) => sent,
            () = reset => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if sent.is_ok() {
            sending.done();
        }
        sent
    }

    /// Sends `bytes` to the other end, and waits for the end of what is received: of the whole connection.
    pub(super) async fn join(self: Arc<Self>, bytes: ByteStream) -> io::Result<()> {
        let joined = Sending(Some(Arc::clone(&self)));
        Arc::clone(&self).send(bytes).await?;
        loop {
            let received = self.received.notified();
            if self.is_received.load(Ordering::Acquire) {
                break;
            }
            received.await;
        }
        if self.is_reset() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        joined.done();
        Ok(())
    }

    fn end_received(&self) {
        self.is_received.store(true, Ordering::Release);
        self.received.notify_waiters();
    }

    async fn send_all(&self, mut bytes: ByteStream) -> io::Result<()> {
        while let Some(piece) = bytes.next().await {
            // The other end did not send all: that is a reset, whatever it was over there.
            let piece = piece.map_err(|error| {
                let error = io::Error::from(error);
                io::Error::new(io::ErrorKind::ConnectionReset, error)
            })?;
            self.write_all(&piece).await?;
        }
        // A peer that was faster is no error.
        let _ = on!(&self.socket, socket => SockRef::from(socket).shutdown(Shutdown::Write));
        Ok(())
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match on!(&self.socket, socket => socket.try_write(bytes)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    on!(&self.socket, socket => socket.writable().await)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Breaks the connection off: whoever has a part of it lets go of it, and with the last one the peer is told.
    fn reset(&self) {
        if self.is_reset.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Socket::Tcp(stream) = &self.socket {
            let _ = stream.set_zero_linger();
        }
        self.reset.notify_waiters();
    }

    fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire)
    }
}

/// Resets what was not sent to its end.
struct Sending(Option<Arc<Link>>);

impl Sending {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.reset();
        }
    }
}

/// What comes from the other end of a connection.
struct Received {
    /// Nothing once that has ended.
    link: Option<Arc<Link>>,
    reset: Pin<Box<dyn Future<Output = ()> + Send>>,
    room: BytesMut,
}

impl Received {
    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(link) = &self.link else {
            return Poll::Ready(Ok(Bytes::new()));
        };
        if link.is_reset() || self.reset.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        loop {
            ready!(on!(&link.socket, socket => socket.poll_read_ready(context)))?;
            if self.room.capacity() < LEAST {
                self.room.reserve(PIECE);
            }
            match on!(&link.socket, socket => socket.try_read_buf(&mut self.room)) {
                Ok(_) => return Poll::Ready(Ok(self.room.split().freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn fail(&mut self) {
        if let Some(link) = &self.link {
            link.reset();
        }
        self.end();
    }

    fn end(&mut self) {
        if let Some(link) = self.link.take() {
            link.end_received();
        }
        // It holds the socket as well.
        self.reset = Box::pin(std::future::pending());
    }
}

impl futures_core::Stream for Received {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll_socket(context)) {
            Ok(piece) if !piece.is_empty() => Some(Ok(piece)),
            Ok(_) => {
                this.end();
                None
            }
            Err(error) => {
                this.fail();
                Some(Err(error.into()))
            }
        })
    }
}

/// Nobody wants the rest.
impl Drop for Received {
    fn drop(&mut self) {
        self.fail();
    }
}

/// Bytes that are read at a time, at most.
const PIECE: usize = 64 << 10;

/// With less room than that, more is made.
const LEAST: usize = 8 << 10;
