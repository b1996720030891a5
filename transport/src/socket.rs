//! The halves of a stream socket, TCP or Unix.
//!
//! Knows tokio's sockets and the system calls under them. Tokio's own "try" asks its cached readiness
//! first, which is only as fresh as the reactor; here a half that the reactor has not called ready is
//! asked itself, so that a fresh socket is written to at once, and a thread may read without a reactor.
//!
//! A socket that a thread reads can leave the reactor: else whatever comes would wake that, too.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::net::Shutdown;
use std::pin::Pin;
#[cfg(unix)]
use std::sync::RwLockWriteGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
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
    /// The same socket without a reactor.
    #[cfg(unix)]
    type Std: std::os::fd::AsFd + Send + Sync + 'static;

    fn split(self) -> (Self::Read, Self::Write);
    /// Out of the reactor.
    #[cfg(unix)]
    fn leave(read: Self::Read, write: Self::Write) -> io::Result<Self::Std>;
    /// Into the reactor of this runtime.
    #[cfg(unix)]
    fn join(socket: Self::Std) -> io::Result<Self>;
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
    /// Reads into several buffers if the reactor has seen that it may be read. A read that leaves some room tells the reactor
    /// that nothing is left, as tokio does with one buffer.
    #[cfg(unix)]
    fn read_vectored_if_ready(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    /// Writes if the reactor has seen that it may be written.
    fn write_if_ready(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

macro_rules! socket {
    ($socket:ty, $std:ty, $halves:ident) => {
        impl Socket for $socket {}

        impl Split for $socket {
            type Read = tokio::net::$halves::OwnedReadHalf;
            type Write = tokio::net::$halves::OwnedWriteHalf;
            #[cfg(unix)]
            type Std = $std;

            fn split(self) -> (Self::Read, Self::Write) {
                self.into_split()
            }

            #[cfg(unix)]
            fn leave(read: Self::Read, write: Self::Write) -> io::Result<Self::Std> {
                let socket = read.reunite(write).map_err(io::Error::other)?;
                let socket = socket.into_std()?;
                socket.set_nonblocking(false)?;
                socket.set_read_timeout(Some(MOMENT))?;
                Ok(socket)
            }

            #[cfg(unix)]
            fn join(socket: Self::Std) -> io::Result<Self> {
                socket.set_nonblocking(true)?;
                Self::from_std(socket)
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

            #[cfg(unix)]
            fn read_vectored_if_ready(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let room = bufs
                    .iter()
                    .map(|buf| buf.len())
                    .fold(0, usize::saturating_add);
                let mut part = None;
                let read = self.try_io(tokio::io::Interest::READABLE, || {
                    match read_vectored(self, bufs)? {
                        count if count == 0 || count == room => Ok(count),
                        count => {
                            part = Some(count);
                            Err(io::ErrorKind::WouldBlock.into())
                        }
                    }
                });
                part.map_or(read, Ok)
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
socket!(tokio::net::TcpStream, std::net::TcpStream, tcp);
#[cfg(all(unix, feature = "unix"))]
socket!(tokio::net::UnixStream, std::os::unix::net::UnixStream, unix);

/// Takes a connected socket apart.
pub(crate) fn halves<S: Socket>(socket: S) -> (SocketRx<S>, SocketTx<S>) {
    let (read, write) = socket.split();
    let other = Arc::new(Other {
        half: RwLock::new(Half::Reactor(write)),
        is_owed: AtomicBool::new(false),
    });
    (
        SocketRx {
            half: Half::Reactor(read),
            other: Arc::clone(&other),
            acknowledges: false,
        },
        SocketTx {
            other,
            is_closed: false,
        },
    )
}

/// The writing half, shared: the reading half takes it out of the reactor with itself.
struct Other<S: Socket> {
    half: RwLock<Half<S::Write, S>>,
    /// Something was read since the last write, which would have acknowledged it.
    is_owed: AtomicBool,
}

impl<S: Socket> Other<S> {
    fn read(&self) -> RwLockReadGuard<'_, Half<S::Write, S>> {
        self.half.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something was read since the last write, which the caller is about to acknowledge. Not at one stroke, which takes
    /// longer: if the other half does the same meanwhile, that is acknowledged twice.
    fn take_owed(&self) -> bool {
        let is_owed = self.is_owed.load(Ordering::Relaxed);
        if is_owed {
            self.is_owed.store(false, Ordering::Relaxed);
        }
        is_owed
    }

    #[cfg(unix)]
    fn write(&self) -> RwLockWriteGuard<'_, Half<S::Write, S>> {
        self.half.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A half of a socket, and who tells when it is ready.
enum Half<T, S: Socket> {
    /// The reactor.
    Reactor(T),
    /// A thread waits by itself.
    #[cfg(unix)]
    Thread(Arc<S::Std>),
    /// The system has refused to change that.
    #[cfg_attr(not(unix), expect(dead_code, reason = "no socket leaves the reactor there"))]
    Gone(PhantomData<S>),
}

#[cold]
fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the socket could not be handed to another thread",
    )
}

/// The reading half of a socket.
pub(crate) struct SocketRx<S: Socket> {
    half: Half<S::Read, S>,
    other: Arc<Other<S>>,
    /// What is read is acknowledged at once, rather than with what is sent next or a while later.
    acknowledges: bool,
}

impl<S: Socket> SocketRx<S> {
    /// From now on what is read is acknowledged at once, where the system can: else nothing changes.
    #[cfg(feature = "tcp")]
    pub(crate) const fn acknowledge_at_once(&mut self) {
        self.acknowledges = true;
    }

    /// Notes that something may have been read.
    fn note(&self, read: &io::Result<usize>) {
        if self.acknowledges && matches!(read, Ok(1..)) {
            self.other.is_owed.store(true, Ordering::Relaxed);
        }
    }

    /// Acknowledges what was read, before more is waited for, unless what has been written meanwhile has taken that along. The
    /// system forgets that it was asked to whenever it likes, so it is each time.
    fn acknowledge(&self) {
        if self.acknowledges && self.other.take_owed() {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            match &self.half {
                Half::Reactor(half) => drop(socket2::SockRef::from(half.as_ref()).set_tcp_quickack(true)),
                Half::Thread(socket) => drop(socket2::SockRef::from(&**socket).set_tcp_quickack(true)),
                Half::Gone(_) => {}
            }
        }
    }

    fn read_now(&self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        match &self.half {
            Half::Reactor(half) => retry(|| {
                let socket = half.as_ref();
                if socket.is_readable() {
                    socket.read_if_ready(into)
                } else {
                    read(socket, into)
                }
            }),
            #[cfg(unix)]
            Half::Thread(socket) => retry(|| read(socket, into)),
            Half::Gone(_) => Err(gone()),
        }
    }
}

impl<S: Socket> ByteRx for SocketRx<S> {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let read = self.read_now(into);
        self.note(&read);
        read
    }

    #[cfg(unix)]
    fn read_soon(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.acknowledge();
        let Half::Thread(socket) = &self.half else {
            return self.try_read(into);
        };
        reserve_some(into);
        let read = match unix::read_soon(socket, into) {
            // A signal: to begin anew with every one of them might take for ever.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        };
        self.note(&read);
        read
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        reserve_some(into);
        let read = match &mut self.half {
            // Tokio knows by a read that did not fill the buffer that nothing is left: no second system call to find out.
            Half::Reactor(half) => tokio_util::io::poll_read_buf(Pin::new(half), cx, into),
            #[cfg(unix)]
            Half::Thread(_) => Poll::Pending,
            Half::Gone(_) => Poll::Ready(Err(gone())),
        };
        match &read {
            Poll::Ready(read) => self.note(read),
            Poll::Pending => self.acknowledge(),
        }
        read
    }

    #[cfg(unix)]
    fn is_read_vectored(&self) -> bool {
        true
    }

    #[cfg(unix)]
    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = match &self.half {
            Half::Reactor(half) => retry(|| {
                let socket = half.as_ref();
                if socket.is_readable() {
                    socket.read_vectored_if_ready(bufs)
                } else {
                    read_vectored(socket, bufs)
                }
            }),
            Half::Thread(socket) => retry(|| read_vectored(socket, bufs)),
            Half::Gone(_) => Err(gone()),
        };
        self.note(&read);
        read
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let readable = match &self.half {
            Half::Reactor(half) => half.as_ref().poll_readable(cx),
            #[cfg(unix)]
            Half::Thread(_) => Poll::Pending,
            Half::Gone(_) => Poll::Ready(Err(gone())),
        };
        if readable.is_pending() {
            self.acknowledge();
        }
        readable
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<&dyn crate::descriptor::Descriptor> {
        Some(self)
    }

    #[cfg(unix)]
    fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn crate::descriptor::Descriptor>>> {
        let mut other = self.other.write();
        let socket = match std::mem::replace(&mut self.half, Half::Gone(PhantomData)) {
            Half::Reactor(read) => match std::mem::replace(&mut *other, Half::Gone(PhantomData)) {
                Half::Reactor(write) => Arc::new(S::leave(read, write)?),
                Half::Thread(_) | Half::Gone(_) => return Err(gone()),
            },
            Half::Thread(socket) => socket,
            Half::Gone(_) => return Err(gone()),
        };
        *other = Half::Thread(Arc::clone(&socket));
        self.half = Half::Thread(Arc::clone(&socket));
        Ok(Some(Arc::new(unix::Waited(socket))))
    }

    #[cfg(unix)]
    fn join_reactor(&mut self) -> io::Result<()> {
        let Half::Thread(_) = self.half else {
            return Ok(());
        };
        check_runtime()?;
        let mut other = self.other.write();
        *other = Half::Gone(PhantomData);
        let Half::Thread(socket) = std::mem::replace(&mut self.half, Half::Gone(PhantomData)) else {
            return Err(gone());
        };
        let socket =
            Arc::into_inner(socket).ok_or_else(|| io::Error::other("a thread still waits on the socket"))?;
        let (read, write) = S::join(socket)?.split();
        *other = Half::Reactor(write);
        self.half = Half::Reactor(read);
        Ok(())
    }
}

/// What a thread waits in a read, before it waits by the descriptor.
#[cfg(unix)]
const MOMENT: std::time::Duration = std::time::Duration::from_millis(2);

/// The writing half of a socket.
pub(crate) struct SocketTx<S: Socket> {
    other: Arc<Other<S>>,
    is_closed: bool,
}

impl<S: Socket> SocketTx<S> {
    fn close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        let closed = match &*self.other.read() {
            Half::Reactor(half) => half.as_ref().shutdown(Shutdown::Write),
            #[cfg(unix)]
            Half::Thread(socket) => socket2::SockRef::from(&**socket).shutdown(Shutdown::Write),
            Half::Gone(_) => Ok(()),
        };
        match closed {
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
        // Before it is written: what is read meanwhile may be more than that acknowledges.
        let was_owed = self.other.take_owed();
        let written = match &*self.other.read() {
            Half::Reactor(half) => retry(|| {
                let socket = half.as_ref();
                if socket.is_writable() {
                    socket.write_if_ready(bufs)
                } else {
                    write(socket, bufs)
                }
            }),
            #[cfg(unix)]
            Half::Thread(socket) => retry(|| write(socket, bufs)),
            Half::Gone(_) => Err(gone()),
        };
        if was_owed && written.is_err() {
            self.other.is_owed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.other.read() {
            Half::Reactor(half) => half.as_ref().poll_writable(cx),
            #[cfg(unix)]
            Half::Thread(_) => Poll::Pending,
            Half::Gone(_) => Poll::Ready(Err(gone())),
        }
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
use unix::read_vectored;
#[cfg(unix)]
pub(crate) use unix::{read, write};

#[cfg(unix)]
mod unix {
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::net::{
        RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, send, sendmsg,
    };

    use super::*;
    use crate::descriptor::{Alarm, Descriptor, wait_readable, wait_writable};

    /// Reads, whatever the reactor knows. By way of the stack, which costs a copy of what is mostly an
    /// answer or two; whoever has more to say is seen by the reactor.
    pub(crate) fn read(socket: impl AsFd, into: &mut BytesMut) -> io::Result<usize> {
        read_how(socket, into, RecvFlags::DONTWAIT)
    }

    /// Reads, and waits as long as the socket's own timeout says.
    pub(super) fn read_soon(socket: impl AsFd, into: &mut BytesMut) -> io::Result<usize> {
        read_how(socket, into, RecvFlags::empty())
    }

    fn read_how(socket: impl AsFd, into: &mut BytesMut, how: RecvFlags) -> io::Result<usize> {
        let mut room = [MaybeUninit::uninit(); 16 * 1024];
        let spare = into.capacity() - into.len();
        let room = match room.get_mut(..spare) {
            Some(room) => room,
            None => &mut room,
        };
        let ((bytes, _), _) = recv(socket, room, how)?;
        into.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Reads into several buffers, whatever the reactor knows.
    pub(super) fn read_vectored(socket: impl AsFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let read = recvmsg(
            socket,
            bufs,
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::DONTWAIT,
        )?;
        Ok(read.bytes)
    }

    /// Writes, whatever the reactor knows.
    #[inline(never)]
    pub(crate) fn write(socket: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        // More than that at once is an error on every system.
        const MOST: usize = 1024;
        // Apple has a socket option instead, which tokio and socket2 set.
        #[cfg(not(target_vendor = "apple"))]
        let flags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
        #[cfg(target_vendor = "apple")]
        let flags = SendFlags::DONTWAIT;
        if let [one] = bufs {
            return Ok(send(socket, one, flags)?);
        }
        let bufs = bufs.get(..MOST).unwrap_or(bufs);
        Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), flags)?)
    }

    /// A socket that a thread waits on.
    pub(super) struct Waited<F>(pub(super) Arc<F>);

    impl<F: AsFd + Send + Sync> Descriptor for Waited<F> {
        fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
            wait_readable(&self.0, alarm, timeout)
        }

        fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            wait_writable(&self.0, timeout)
        }
    }

    impl<S: Socket> Descriptor for SocketRx<S> {
        fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
            match &self.half {
                Half::Reactor(half) => wait_readable(half.as_ref(), alarm, timeout),
                Half::Thread(socket) => wait_readable(socket, alarm, timeout),
                Half::Gone(_) => Err(gone()),
            }
        }

        fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            match &self.half {
                Half::Reactor(half) => wait_writable(half.as_ref(), timeout),
                Half::Thread(socket) => wait_writable(socket, timeout),
                Half::Gone(_) => Err(gone()),
            }
        }
    }

    impl<S: Socket> Descriptor for SocketTx<S> {
        fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool> {
            match &*self.other.read() {
                Half::Reactor(half) => wait_readable(half.as_ref(), alarm, timeout),
                Half::Thread(socket) => wait_readable(socket, alarm, timeout),
                Half::Gone(_) => Err(gone()),
            }
        }

        fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool> {
            match &*self.other.read() {
                Half::Reactor(half) => wait_writable(half.as_ref(), timeout),
                Half::Thread(socket) => wait_writable(socket, timeout),
                Half::Gone(_) => Err(gone()),
            }
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
            Err(error) if is_interrupted(&error) => {}
            result => return result,
        }
    }
}

#[cold]
fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
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
