//! The halves of a stream socket, TCP or Unix.
//!
//! Knows tokio's sockets and the system calls under them. Tokio's own "try" asks its cached readiness
//! first, which is only as fresh as the reactor; here a half that the reactor has not called ready is
//! asked itself, so that a fresh socket is written to at once, and a thread may read without a reactor.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;

use crate::carrier::{ByteRx, ByteTx};
use crate::error::AcceptError;
use crate::io::reserve_some;

/// What tokio's two stream sockets have in common.
#[cfg(unix)]
pub(crate) trait Socket: std::os::fd::AsFd + Ready + Split {}
/// What tokio's stream socket offers.
#[cfg(not(unix))]
pub(crate) trait Socket: Ready + Split {}

/// A socket that comes apart into owned halves.
pub(crate) trait Split: Sized {
    type Read: AsyncRead + AsRef<Self> + Send + Sync + Unpin + 'static;
    type Write: AsRef<Self> + Send + Sync + 'static;

    fn split(self) -> (Self::Read, Self::Write);
}

/// A stream socket whose readiness the reactor caches.
pub(crate) trait Ready: Send + Sync + 'static {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether the reactor has seen that it may be read. No system call.
    fn is_readable(&self) -> bool;
    /// Whether the reactor has seen that it may be written. No system call.
    fn is_writable(&self) -> bool;
    /// Reads if the reactor has seen that it may be read.
    fn read_if_ready(&self, into: &mut BytesMut) -> io::Result<usize>;
    /// Writes if the reactor has seen that it may be written.
    fn write_if_ready(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

macro_rules! socket {
    ($socket:ty, $halves:ident) => {
        impl Socket for $socket {}

        impl Split for $socket {
            type Read = tokio::net::$halves::OwnedReadHalf;
            type Write = tokio::net::$halves::OwnedWriteHalf;

            fn split(self) -> (Self::Read, Self::Write) {
                self.into_split()
            }
        }

        impl Ready for $socket {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn is_readable(&self) -> bool {
                self.try_io(tokio::io::Interest::READABLE, || Ok(()))
                    .is_ok()
            }

            fn is_writable(&self) -> bool {
                self.try_io(tokio::io::Interest::WRITABLE, || Ok(()))
                    .is_ok()
            }

            fn read_if_ready(&self, into: &mut BytesMut) -> io::Result<usize> {
                self.try_read_buf(into)
            }

            fn write_if_ready(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                match bufs {
                    [one] => self.try_write(one),
                    _ => self.try_write_vectored(bufs),
                }
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                socket2::SockRef::from(self).shutdown(how)
            }
        }
    };
}

#[cfg(feature = "tcp")]
socket!(tokio::net::TcpStream, tcp);
#[cfg(all(unix, feature = "unix"))]
socket!(tokio::net::UnixStream, unix);

/// Takes a connected socket apart.
pub(crate) fn halves<S: Socket>(socket: S) -> (SocketRx<S>, SocketTx<S>) {
    let (read, write) = socket.split();
    (
        SocketRx { half: read },
        SocketTx {
            half: write,
            is_closed: false,
        },
    )
}

/// The reading half of a socket.
pub(crate) struct SocketRx<S: Socket> {
    half: S::Read,
}

impl<S: Socket> SocketRx<S> {
    fn socket(&self) -> &S {
        self.half.as_ref()
    }
}

impl<S: Socket> ByteRx for SocketRx<S> {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        let socket = self.socket();
        retry(|| {
            if socket.is_readable() {
                socket.read_if_ready(into)
            } else {
                read(socket, into)
            }
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        reserve_some(into);
        // Tokio knows by a read that did not fill the buffer that nothing is left: no second system call to find out.
        tokio_util::io::poll_read_buf(Pin::new(&mut self.half), cx, into)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_readable(cx)
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<&dyn crate::descriptor::Descriptor> {
        Some(self)
    }
}

/// The writing half of a socket.
pub(crate) struct SocketTx<S: Socket> {
    half: S::Write,
    is_closed: bool,
}

impl<S: Socket> SocketTx<S> {
    fn socket(&self) -> &S {
        self.half.as_ref()
    }

    fn close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        match self.socket().shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

impl<S: Socket> ByteTx for SocketTx<S> {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let socket = self.socket();
        retry(|| {
            if socket.is_writable() {
                socket.write_if_ready(bufs)
            } else {
                write(socket, bufs)
            }
        })
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_writable(cx)
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.close())
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<&dyn crate::descriptor::Descriptor> {
        Some(self)
    }
}

impl<S: Socket> Drop for SocketTx<S> {
    fn drop(&mut self) {
        // The socket itself is closed by whichever half goes last; this direction ends now.
        let _ = self.close();
    }
}

#[cfg(unix)]
pub(crate) use unix::{read, write};

#[cfg(unix)]
mod unix {
    use std::mem::MaybeUninit;
    use std::time::Duration;

    use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

    use super::*;
    use crate::descriptor::{Descriptor, wait_readable, wait_writable};

    /// Reads, whatever the reactor knows. By way of the stack, which costs a copy of what is mostly an
    /// answer or two; whoever has more to say is seen by the reactor.
    pub(crate) fn read(socket: &impl Socket, into: &mut BytesMut) -> io::Result<usize> {
        let mut room = [MaybeUninit::uninit(); 16 * 1024];
        let spare = into.capacity() - into.len();
        let room = match room.get_mut(..spare) {
            Some(room) => room,
            None => &mut room,
        };
        let ((bytes, _), _) = recv(socket, room, RecvFlags::empty())?;
        into.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Writes, whatever the reactor knows.
    pub(crate) fn write(socket: &impl Socket, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // More than that at once is an error on every system.
        const MOST: usize = 1024;
        // Apple has a socket option instead, which tokio and socket2 set.
        #[cfg(not(target_vendor = "apple"))]
        let flags = SendFlags::NOSIGNAL;
        #[cfg(target_vendor = "apple")]
        let flags = SendFlags::empty();
        if let [one] = bufs {
            return Ok(send(socket, one, flags)?);
        }
        let bufs = bufs.get(..MOST).unwrap_or(bufs);
        Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), flags)?)
    }

    impl<S: Socket> Descriptor for SocketRx<S> {
        fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            wait_readable(self.socket(), timeout)
        }

        fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            wait_writable(self.socket(), timeout)
        }
    }

    impl<S: Socket> Descriptor for SocketTx<S> {
        fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            wait_readable(self.socket(), timeout)
        }

        fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            wait_writable(self.socket(), timeout)
        }
    }
}

/// Where readiness can only be had by way of the reactor, it is believed.
#[cfg(not(unix))]
fn read(_: &impl Socket, _: &mut BytesMut) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// As for `read`.
#[cfg(not(unix))]
fn write(_: &impl Socket, _: &[IoSlice<'_>]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Again, when a signal came in between.
fn retry(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sockets belong to the reactor of a runtime; without one tokio panics.
pub(crate) fn check_runtime() -> io::Result<()> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(missing) => Err(io::Error::other(missing)),
    }
}

/// Sorts what `accept` says (accept(2), and its Linux notes) by whether the listener goes on.
pub(crate) fn accept_error(source: io::Error) -> AcceptError {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        #[cfg(target_os = "linux")]
        if Errno::from_io_error(&source) == Some(Errno::NONET) {
            return AcceptError::PeerGone(source);
        }
        match Errno::from_io_error(&source) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                AcceptError::Exhausted(source)
            }
            // What befell the peer, or what a firewall says about it.
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::TIMEDOUT
                | Errno::PROTO
                | Errno::PERM
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP,
            ) => AcceptError::PeerGone(source),
            _ => AcceptError::Broken(source),
        }
    }
    #[cfg(not(unix))]
    {
        // WSAEMFILE and WSAENOBUFS, which the standard library does not name.
        match (source.raw_os_error(), source.kind()) {
            (Some(10024 | 10055), _) => AcceptError::Exhausted(source),
            (_, io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => {
                AcceptError::PeerGone(source)
            }
            _ => AcceptError::Broken(source),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_accept_loop_survives_what_is_not_its_own_fault() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS] {
            let error = accept_error(errno.into());
            assert!(
                matches!(error, AcceptError::Exhausted(_)) && error.is_transient(),
                "{errno}"
            );
        }
        for errno in [
            Errno::CONNABORTED,
            Errno::PROTO,
            Errno::INTR,
            Errno::HOSTUNREACH,
            Errno::PERM,
        ] {
            let error = accept_error(errno.into());
            assert!(
                matches!(error, AcceptError::PeerGone(_)) && error.is_transient(),
                "{errno}"
            );
        }
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert!(!accept_error(errno.into()).is_transient(), "{errno}");
        }
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        assert!(check_runtime().is_err());
        crate::testing::block_on(async { check_runtime().unwrap() });
    }
}
