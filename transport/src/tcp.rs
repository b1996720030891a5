//! TCP, bare: whoever is on the way can read and alter the bytes, so it is dialled as `plain+tcp://`.
//!
//! Knows how to reach a host by all its addresses, how to listen on all of them, and which socket
//! options a carrier of calls needs: no Nagle delay, and little unsent data in the kernel, so that what
//! is urgent overtakes what is bulky before it is too late.
//!
//! | option       | default | meaning                                                            |
//! |--------------|---------|--------------------------------------------------------------------|
//! | `bind=`      | any     | the local IP address to dial from                                  |
//! | `keepalive=` | none    | silence after which the system asks whether the peer is there      |
//! | `lowat=`     | 131072  | unsent bytes in the kernel above which writing waits (Linux, Android) |
//! | `quickack=`  | 0       | acknowledges what is read before more is waited for, as some peers send no more before that (Linux, Android) |

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::address::{Address, Host, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, StreamCarrier};
use crate::error::{AcceptError, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::resolve::{bind_all, first_to_answer, interleaved, resolve};
use crate::socket::{accept_error, check_runtime, halves};

/// The medium `tcp`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp(());

impl Tcp {
    /// TCP, as the system has it.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Tcp {
    fn schemes(&self) -> &'static [&'static str] {
        &["tcp"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let (stream, local) = open(address).await?;
            let mut info = info();
            info.local = local.map(Address::tcp);
            info.remote = Some(address.clone());
            Ok(carrier(stream, info, Options::of(address)))
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            check_runtime().map_err(|source| ListenError::System {
                address: Box::new(address.clone()),
                source,
            })?;
            Ok(Box::new(bind_at(address).await?) as Box<dyn Listener>)
        })
    }
}

/// A connection to the first address of a host that answers, with the options that `address` says, and our end of it.
pub(crate) async fn open(address: &Address) -> Result<(TcpStream, Option<SocketAddr>), DialError> {
    check_runtime().map_err(|source| DialError::System {
        address: Box::new(address.clone()),
        source,
    })?;
    let failed = |source| DialError::from_io(address, source);
    let (host, port) = host_and_port(address).map_err(failed)?;
    if port == 0 {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "port 0 cannot be dialled",
        )));
    }
    let options = Options::of(address);
    let unresolved = |source| DialError::Unresolved {
        address: Box::new(address.clone()),
        source,
    };
    let addresses = resolve(host, port).await.map_err(unresolved)?;
    let addresses = interleaved(addresses, options.bind);
    let stream = first_to_answer(addresses, |to| Box::pin(connect(to, options.bind)))
        .await
        .map_err(failed)?;
    options.set(&stream).map_err(failed)?;
    let local = stream.local_addr().ok().map(canonical);
    Ok((stream, local))
}

/// Listens at every address that a host has.
pub(crate) async fn bind_at(address: &Address) -> Result<Listening, ListenError> {
    let failed = |source| ListenError::from_io(address, source);
    let (host, port) = host_and_port(address).map_err(failed)?;
    let wrong = |source| ListenError::Address {
        address: Box::new(address.clone()),
        source,
    };
    let addresses = resolve(host, port).await.map_err(wrong)?;
    let sockets = bind_all(&addresses, bind).map_err(failed)?;
    Ok(Listening {
        sockets,
        turn: 0,
        options: Options::of(address),
    })
}

/// Listens by a socket that somebody else has opened.
#[cfg(all(unix, feature = "activation"))]
pub(crate) fn adopt(socket: std::net::TcpListener) -> io::Result<Box<dyn Listener>> {
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from_std(socket)?;
    let options = Options::of(&Address::tcp(socket.local_addr()?));
    Ok(Box::new(Listening {
        sockets: vec![socket],
        turn: 0,
        options,
    }))
}

/// A connection that somebody else has accepted.
#[cfg(all(unix, feature = "activation"))]
pub(crate) fn accepted(stream: TcpStream) -> io::Result<Carrier> {
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let options = Options::of(&Address::tcp(local));
    options.set(&stream)?;
    let mut info = info();
    info.local = Some(Address::tcp(canonical(local)));
    info.remote = Some(Address::tcp(canonical(remote)));
    Ok(carrier(stream, info, options))
}

/// What the options of an address say.
#[derive(Clone, Copy, Debug)]
struct Options {
    bind: Option<IpAddr>,
    keepalive: Option<Duration>,
    lowat: u32,
    quickack: bool,
}

impl Options {
    fn of(address: &Address) -> Self {
        Self {
            bind: address.option("bind").and_then(|bind| bind.parse().ok()),
            keepalive: address.duration("keepalive"),
            lowat: address
                .number("lowat")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(LOWAT),
            quickack: address.is_set("quickack"),
        }
    }

    fn set(self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(keepalive))?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_notsent_lowat(self.lowat)?;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = self.lowat; // nothing to set it with
        Ok(())
    }
}

/// One listener on every address that a host has.
pub(crate) struct Listening {
    sockets: Vec<TcpListener>,
    /// The socket that is asked first, so that none of them starves.
    turn: usize,
    options: Options,
}

impl Listening {
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let count = self.sockets.len();
        for step in 0..count {
            let turn = (self.turn + step) % count;
            let Some(socket) = self.sockets.get(turn) else {
                continue;
            };
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                self.turn = turn + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Gives a connection that was accepted the options of the address.
    pub(crate) fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        self.options.set(stream)
    }

    /// Whether what its connections read is to be acknowledged at once.
    #[cfg(feature = "tls")]
    pub(crate) const fn acknowledges(&self) -> bool {
        self.options.quickack
    }

    /// Where it listens.
    pub(crate) fn bound(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok())
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe: the only wait is that of `poll_accept`, and a socket leaves it in the poll in which
        // this future is ready.
        Box::pin(async {
            let (stream, remote) = poll_fn(|cx| self.poll_accept(cx)).await.map_err(accept_error)?;
            // It fails only if the connection has ended meanwhile.
            self.set_options(&stream).map_err(AcceptError::PeerGone)?;
            let mut info = info();
            let local = stream.local_addr().ok().map(canonical);
            info.local = local.map(Address::tcp);
            info.remote = Some(Address::tcp(canonical(remote)));
            Ok(carrier(stream, info, self.options))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.bound().map(Address::tcp).collect()
    }
}

fn carrier(stream: TcpStream, info: CarrierInfo, options: Options) -> Carrier {
    let (mut rx, tx) = halves(stream);
    if options.quickack {
        rx.acknowledge_at_once();
    }
    StreamCarrier::new(rx, tx, info).into()
}

fn info() -> CarrierInfo {
    let mut info = CarrierInfo::new("tcp");
    info.may_be_lost = true;
    info
}

/// A peer that came by IPv4 to a socket of both families is shown as one that came by IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

fn host_and_port(address: &Address) -> io::Result<(&Host, u16)> {
    match address.target() {
        Target::Tcp { host, port } | Target::Ssl { host, port } => Ok((host, *port)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of TCP",
        )),
    }
}

async fn connect(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(bind) = bind {
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    socket.connect(address).await
}

/// A listener, and its port.
fn bind(address: SocketAddr) -> io::Result<(TcpListener, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere this would let others listen at the same port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` is every address, of both families, on every system.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Unsent bytes in the kernel unless `lowat=` says otherwise: two flushes of the engine.
const LOWAT: u32 = 128 * 1024;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::BytesMut;

    use super::*;
    use crate::medium::Media;
    use crate::testing::{block_on, read_all, read_some, talk, write_all};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    async fn listen(text: &str) -> (Box<dyn Listener>, Address) {
        let listener = Media::standard().listen(&address(text)).await.unwrap();
        let local = listener.local_addresses().remove(0);
        (listener, local)
    }

    fn stream(carrier: Carrier) -> StreamCarrier {
        match carrier {
            Carrier::Stream(stream) => stream,
            Carrier::Muxed(_) => panic!("TCP has one stream"),
        }
    }

    /// Both ends of a connection, and the listener it came by.
    async fn connected() -> (StreamCarrier, StreamCarrier, Box<dyn Listener>) {
        let (mut listener, local) = listen("plain+tcp://127.0.0.1:0").await;
        let media = Media::standard();
        let (dialled, accepted) = tokio::join!(media.dial(&local), listener.accept());
        (stream(dialled.unwrap()), stream(accepted.unwrap()), listener)
    }

    fn port(address: &Address) -> u16 {
        match address.target() {
            Target::Tcp { port, .. } => *port,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_left_to_the_system_is_the_real_one_afterwards() {
        block_on(async {
            let (mut listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            assert_ne!(port(&local), 0);
            let media = Media::standard();
            let (dialled, accepted) = tokio::join!(media.dial(&local), listener.accept());
            let (dialled, accepted) = (stream(dialled.unwrap()), stream(accepted.unwrap()));
            assert_eq!(dialled.info.remote.as_ref(), Some(&local));
            assert_eq!(accepted.info.local.as_ref(), Some(&local));
            assert_eq!(accepted.info.remote, dialled.info.local);
            assert!(dialled.info.may_be_lost && !dialled.info.confidential && dialled.info.half_close);
            talk(dialled, accepted, 4 * 1024 * 1024).await;
        });
    }

    #[test]
    fn a_name_is_listened_at_and_dialled_by_all_its_addresses() {
        block_on(async {
            let mut listener = Media::standard()
                .listen(&address("plain+tcp://localhost:0"))
                .await
                .unwrap();
            let locals = listener.local_addresses();
            let ports: Vec<_> = locals.iter().map(port).collect();
            assert!(
                !ports.is_empty() && ports.iter().all(|port| *port == ports[0]),
                "{locals:?}"
            );
            let media = Media::standard();
            for local in locals
                .into_iter()
                .chain([address(&format!("plain+tcp://localhost:{}", ports[0]))])
            {
                let (dialled, accepted) = tokio::join!(media.dial(&local), listener.accept());
                talk(stream(dialled.unwrap()), stream(accepted.unwrap()), 1000).await;
            }
        });
    }

    #[test]
    fn every_address_means_both_families() {
        block_on(async {
            let Ok(mut listener) = Media::standard().listen(&address("plain+tcp://[::]:0")).await else {
                return; // this host has no IPv6
            };
            let port = port(&listener.local_addresses()[0]);
            let v4 = address(&format!("plain+tcp://127.0.0.1:{port}"));
            let media = Media::standard();
            let (dialled, accepted) = tokio::join!(media.dial(&v4), listener.accept());
            let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
            assert_eq!(accepted.info().local.as_ref(), Some(&v4));
            assert_eq!(accepted.info().remote, dialled.info().local);
        });
    }

    #[test]
    fn the_sockets_have_the_options_of_the_address() {
        block_on(async {
            let (listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            let options = Options::of(&address(
                "plain+tcp://h:1?lowat=4096&keepalive=30s&bind=127.0.0.1",
            ));
            let to = resolve(&Host::V4([127, 0, 0, 1].into()), port(&local))
                .await
                .unwrap();
            let stream = first_to_answer(to, |to| Box::pin(connect(to, options.bind)))
                .await
                .unwrap();
            options.set(&stream).unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 4096);
            drop(listener);
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_fresh_connection_is_written_to_without_waiting_for_the_reactor() {
        block_on(async {
            let (_dialled, mut accepted, _listener) = connected().await;
            assert_eq!(
                accepted
                    .tx
                    .try_write(&[IoSlice::new(b"at "), IoSlice::new(b"once")])
                    .unwrap(),
                7
            );
            assert_eq!(accepted.tx.try_write(&[]).unwrap(), 0);
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_thread_reads_and_writes_without_the_runtime() {
        use std::io::{Read, Write};

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (listener, local) = runtime.block_on(listen("plain+tcp://127.0.0.1:0"));
        let mut peer = None;
        std::thread::scope(|scope| {
            let listener = std::sync::Mutex::new(listener);
            let accepted = scope.spawn(|| std::net::TcpStream::connect(("127.0.0.1", port(&local))).unwrap());
            peer = Some(stream(
                runtime.block_on(listener.lock().unwrap().accept()).unwrap(),
            ));
            let mut far = accepted.join().unwrap();
            // From here on nobody drives the runtime.
            let mut near = peer.take().unwrap();
            let mut into = BytesMut::with_capacity(64);
            for round in 0..3 {
                assert_eq!(
                    near.rx.try_read(&mut into).unwrap_err().kind(),
                    io::ErrorKind::WouldBlock
                );
                far.write_all(b"question").unwrap();
                assert!(near.rx.descriptor().unwrap().wait_readable(None, None).unwrap());
                assert_eq!(near.rx.try_read(&mut into).unwrap(), 8, "round {round}");
                into.clear();
                assert!(near.tx.descriptor().unwrap().wait_writable(None).unwrap());
                assert_eq!(near.tx.try_write(&[IoSlice::new(b"answer")]).unwrap(), 6);
                let mut answer = [0; 6];
                far.read_exact(&mut answer).unwrap();
            }
            drop(far);
            assert!(near.rx.descriptor().unwrap().wait_readable(None, None).unwrap());
            assert_eq!(near.rx.try_read(&mut into).unwrap(), 0);
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_reads_into_several_buffers() {
        block_on(async {
            let (dialled, accepted, _listener) = connected().await;
            crate::testing::read_into_several(dialled, accepted).await;
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_leaves_the_reactor_and_comes_back() {
        block_on(async {
            let (dialled, accepted, _listener) = connected().await;
            crate::testing::leave_and_come_back(dialled, accepted).await;
        });
    }

    #[test]
    fn a_read_takes_no_more_than_there_is_room_for() {
        block_on(async {
            let (mut dialled, mut accepted, _listener) = connected().await;
            write_all(&mut *dialled.tx, b"hello").await.unwrap();
            poll_fn(|cx| accepted.rx.poll_readable(cx)).await.unwrap();
            let mut into = BytesMut::with_capacity(2);
            assert_eq!(accepted.rx.try_read(&mut into).unwrap(), 2);
            assert_eq!(into, "he");
            assert_eq!(read_some(&mut *accepted.rx).await.unwrap(), "llo");
        });
    }

    #[test]
    fn one_direction_may_end_before_the_other() {
        block_on(async {
            let (mut dialled, mut accepted, _listener) = connected().await;
            write_all(&mut *dialled.tx, b"question").await.unwrap();
            poll_fn(|cx| dialled.tx.poll_close(cx)).await.unwrap();
            poll_fn(|cx| dialled.tx.poll_close(cx)).await.unwrap();
            let late = dialled.tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(read_all(&mut *accepted.rx).await.unwrap(), b"question");
            write_all(&mut *accepted.tx, b"answer").await.unwrap();
            drop(accepted);
            assert_eq!(read_all(&mut *dialled.rx).await.unwrap(), b"answer");
        });
    }

    #[test]
    fn a_full_socket_refuses_and_tells_when_it_takes_again() {
        block_on(async {
            let (mut dialled, mut accepted, _listener) = connected().await;
            let chunk = vec![7; 64 * 1024];
            let mut written = 0;
            let refused = loop {
                match dialled
                    .tx
                    .try_write(&[IoSlice::new(&chunk), IoSlice::new(&chunk)])
                {
                    Ok(count) => written += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
            let read = async {
                let mut heard = 0;
                while heard < written {
                    heard += read_some(&mut *accepted.rx).await.unwrap().len();
                }
            };
            tokio::join!(read, async {
                poll_fn(|cx| dialled.tx.poll_writable(cx)).await.unwrap()
            });
            assert!(dialled.tx.try_write(&[IoSlice::new(&chunk)]).unwrap() > 0);
        });
    }

    #[test]
    fn a_failed_dial_says_who_can_act() {
        block_on(async {
            let media = Media::standard();
            let (listener, free) = listen("plain+tcp://127.0.0.1:0").await;
            drop(listener);
            let refused = media.dial(&free).await.unwrap_err();
            assert!(
                matches!(refused, DialError::NotListening { .. }) && refused.is_transient(),
                "{refused}"
            );
            let zero = media.dial(&address("plain+tcp://127.0.0.1:0")).await.unwrap_err();
            assert!(
                matches!(zero, DialError::Address { .. }) && !zero.is_transient(),
                "{zero}"
            );
            let family = media
                .dial(&address("plain+tcp://127.0.0.1:9?bind=::1"))
                .await
                .unwrap_err();
            assert!(matches!(family, DialError::Address { .. }), "{family}");
            let nameless = media
                .dial(&address("plain+tcp://no-such-host.invalid:1"))
                .await
                .unwrap_err();
            assert!(matches!(nameless, DialError::Unresolved { .. }), "{nameless}");
        });
    }

    #[test]
    fn a_failed_listen_says_who_can_act() {
        block_on(async {
            let media = Media::standard();
            let (_listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            let taken = media.listen(&local).await.err().unwrap();
            assert!(matches!(taken, ListenError::InUse { .. }), "{taken}");
            let foreign = media
                .listen(&address("plain+tcp://203.0.113.1:0"))
                .await
                .err()
                .unwrap();
            assert!(matches!(foreign, ListenError::Address { .. }), "{foreign}");
        });
    }

    #[test]
    fn an_address_that_refuses_is_passed_over_at_once() {
        block_on(async {
            let (free, (_listener, local)) = (
                listen("plain+tcp://127.0.0.1:0").await.1,
                listen("plain+tcp://127.0.0.1:0").await,
            );
            let at = |address| SocketAddr::from(([127, 0, 0, 1], port(address)));
            let stream = first_to_answer(vec![at(&free), at(&local)], |to| Box::pin(connect(to, None)))
                .await
                .unwrap();
            assert_eq!(stream.peer_addr().unwrap(), at(&local));
        });
    }

    /// A listener with a full backlog does not even refuse (on Linux).
    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_says_nothing_is_overtaken() {
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        silent.listen(0).unwrap();
        let at = silent.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(one) = std::net::TcpStream::connect_timeout(&at, Duration::from_millis(100)) {
            filling.push(one);
        }
        block_on(async {
            let (_listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            let answering = SocketAddr::from(([127, 0, 0, 1], port(&local)));
            let stream = first_to_answer(vec![at, answering], |to| Box::pin(connect(to, None)))
                .await
                .unwrap();
            assert_eq!(stream.peer_addr().unwrap(), answering);
        });
    }

    #[test]
    fn families_take_turns() {
        let v4 = |host| SocketAddr::from(([10, 0, 0, host], 1));
        let v6 = |host| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, host], 1));
        let found = vec![v6(1), v6(2), v6(3), v4(1)];
        assert_eq!(interleaved(found.clone(), None), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(interleaved(found, Some([10, 0, 0, 9].into())), [v4(1)]);
    }

    #[test]
    fn a_dropped_accept_loses_no_connection() {
        block_on(async {
            let (mut listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            let media = Media::standard();
            for _ in 0..5 {
                let mut accept = listener.accept();
                assert!(poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending())).await);
                drop(accept);
                let dialled = media.dial(&local).await.unwrap();
                let accepted = listener.accept().await.unwrap();
                assert_eq!(accepted.info().remote, dialled.info().local);
            }
        });
    }

    /// With no descriptor left an accept fails, and works again when one is free. The limit is that of
    /// a whole process, so the test runs itself again in one of its own.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_accept_without_descriptors_left_fails_for_now_only() {
        const IS_STARVED: &str = "FARREF_TEST_IS_STARVED";
        if std::env::var_os(IS_STARVED).is_none() {
            let status = std::process::Command::new("sh")
                .args([
                    "-c",
                    "ulimit -n 40 && exec \"$0\" --exact --test-threads=1 \"$1\"",
                ])
                .arg(std::env::current_exe().unwrap())
                .arg("tcp::tests::an_accept_without_descriptors_left_fails_for_now_only")
                .env(IS_STARVED, "1")
                .stdout(std::process::Stdio::null())
                .status();
            assert!(status.unwrap().success());
            return;
        }
        block_on(async {
            let (mut listener, local) = listen("plain+tcp://127.0.0.1:0").await;
            let dialled = std::net::TcpStream::connect(("127.0.0.1", port(&local))).unwrap();
            let mut taken = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                taken.push(file);
            }
            let exhausted = listener.accept().await.unwrap_err();
            assert!(matches!(exhausted, AcceptError::Exhausted(_)) && exhausted.is_transient());
            assert!(!exhausted.pause().is_zero());
            taken.clear();
            listener.accept().await.unwrap();
            drop(dialled);
        });
    }
}
