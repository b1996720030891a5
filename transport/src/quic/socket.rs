//! The UDP socket of an endpoint.
//!
//! Knows when the reactor must hear of it: of datagrams that come, and of room for more only while there is none. A
//! socket that waits for both, as quinn's own does, is woken once more for each datagram that it has sent, as soon as
//! that has left.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(super) struct Udp {
    read: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// Whether a datagram was refused since somebody heard of room.
    is_full: AtomicBool,
}

impl Udp {
    /// Must be called on a runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        // This makes it non-blocking, too.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            read: register(socket, Interest::READABLE)?,
            state,
            is_full: AtomicBool::new(false),
        })
    }
}

impl AsyncUdpSocket for Udp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(UdpSockRef::from(self.read.get_ref()), transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut errors = 0;
        loop {
            let mut readable = ready!(self.read.poll_read_ready(cx))?;
            let socket = UdpSockRef::from(self.read.get_ref());
            match self.state.recv(socket, bufs, meta) {
                Ok(count) => {
                    // There was no more, and what comes from now on is news to the reactor.
                    if READS_MANY && count < bufs.len() {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                // It is of what was sent earlier, or of the network, and reading has taken it off the socket: an endpoint that
                // has many connections does not end with that.
                Err(_) if errors < ERRORS => errors += 1,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.read.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Who asks for room.
struct Room {
    socket: Arc<Udp>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = &mut *self;
        if waiting.is_none() && !socket.is_full.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let room = waiting.get_or_insert_with(|| Box::pin(wait_for_room(Arc::clone(socket))));
        let room = ready!(room.as_mut().poll(cx));
        *waiting = None;
        socket.is_full.store(false, Ordering::Release);
        Poll::Ready(room)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}

/// Ends when there may be room. The reactor knows the socket by another descriptor meanwhile.
async fn wait_for_room(socket: Arc<Udp>) -> io::Result<()> {
    let another = socket.read.get_ref().try_clone();
    match another.and_then(|socket| register(socket, Interest::WRITABLE)) {
        Ok(another) => another.writable().await.map(drop),
        Err(_) => {
            // The process has no descriptor left.
            tokio::time::sleep(MOMENT).await;
            Ok(())
        }
    }
}

#[expect(
    deprecated,
    reason = "what replaced it is unsafe, for types that change their descriptor; an `UdpSocket` never does"
)]
fn register(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// Whether one read takes all datagrams that there is room for. Elsewhere it takes one.
const READS_MANY: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd"
));

/// So many errors in a row, and the socket is of no use any more.
const ERRORS: u32 = 16;

/// How long who cannot be told of room waits for it.
const MOMENT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::task::Waker;

    use quinn::udp::EcnCodepoint;

    use super::*;
    use crate::testing::block_on;

    fn socket() -> Arc<Udp> {
        Arc::new(Udp::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap())
    }

    fn send(from: &Udp, to: &Udp, contents: &[u8]) {
        let transmit = Transmit {
            destination: to.local_addr().unwrap(),
            ecn: Some(EcnCodepoint::Ect0),
            contents,
            segment_size: None,
            src_ip: None,
        };
        from.try_send(&transmit).unwrap();
    }

    /// What has come, at most `bufs` datagrams of it.
    fn poll_recv(socket: &Udp, cx: &mut Context<'_>, bufs: usize) -> Poll<Vec<Vec<u8>>> {
        let mut room = vec![[0; 100]; bufs];
        let mut slices: Vec<_> = room.iter_mut().map(|room| IoSliceMut::new(room)).collect();
        let mut metas = vec![RecvMeta::default(); bufs];
        socket.poll_recv(cx, &mut slices, &mut metas).map(|count| {
            let received = room.iter().zip(&metas).take(count.unwrap());
            received.map(|(room, meta)| room[..meta.len].to_vec()).collect()
        })
    }

    #[test]
    fn a_read_that_leaves_room_is_the_last_until_more_comes() {
        block_on(async {
            let (near, far) = (socket(), socket());
            for round in 0..3 {
                send(&near, &far, &[round]);
                let received = poll_fn(|cx| poll_recv(&far, cx, 4)).await;
                assert_eq!(received, [[round]]);
                assert!(!is_readable(&far));
            }
        });
    }

    #[test]
    fn a_read_without_room_left_is_followed_by_another() {
        block_on(async {
            let (near, far) = (socket(), socket());
            for round in 0..5 {
                send(&near, &far, &[round]);
            }
            let mut received = Vec::new();
            while received.len() < 5 {
                received.extend(poll_fn(|cx| poll_recv(&far, cx, 2)).await);
            }
            assert_eq!(received, [[0], [1], [2], [3], [4]]);
            send(&near, &far, b"more");
            assert_eq!(poll_fn(|cx| poll_recv(&far, cx, 2)).await, [b"more"]);
        });
    }

    #[test]
    fn an_error_that_a_datagram_brings_back_is_not_the_end_of_the_socket() {
        block_on(async {
            let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            near.connect(far.local_addr().unwrap()).unwrap();
            far.send_to(b"data", near.local_addr().unwrap()).unwrap();
            drop(far);
            // Nobody is there: the socket has to tell that before what it has received.
            near.send(b"lost").unwrap();
            let near = Udp::new(near).unwrap();
            assert_eq!(poll_fn(|cx| poll_recv(&near, cx, 4)).await, [b"data"]);
        });
    }

    /// Whether the reactor has told of more than was read.
    fn is_readable(socket: &Udp) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        socket.read.poll_read_ready(&mut cx).is_ready()
    }

    #[test]
    fn who_was_refused_hears_of_room_and_nobody_waits_before() {
        block_on(async {
            let socket = socket();
            let mut room = Arc::clone(&socket).create_io_poller();
            let mut other = Arc::clone(&socket).create_io_poller();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(room.as_mut().poll_writable(&mut cx).is_ready());
            // Of loopback no socket is ever full, so this stands for a send that was refused.
            socket.is_full.store(true, Ordering::Release);
            assert!(room.as_mut().poll_writable(&mut cx).is_pending());
            assert!(other.as_mut().poll_writable(&mut cx).is_pending());
            poll_fn(|cx| room.as_mut().poll_writable(cx)).await.unwrap();
            poll_fn(|cx| other.as_mut().poll_writable(cx)).await.unwrap();
            assert!(room.as_mut().poll_writable(&mut cx).is_ready());
            assert!(other.as_mut().poll_writable(&mut cx).is_ready());
        });
    }
}
