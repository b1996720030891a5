//! Dialers that come back at odd moments, made by hand: what a server answers to them.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use farref::{
    Config, Connection, Error, ErrorKind, Fixed, Netref, Peer, Result, Root, Server, ServerLimits, Service,
    Status, connect,
};
use farref_framing::{
    AttachConfig, Batch, Link, LinkConfig, LinkError, LinkEvent, RejectCode, Role, SessionEnd, StreamKey,
    StreamLink,
};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::relay::Relay;
use farref_transport::{Address, Media};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A dialer that says what its link says, and nothing of its own.
struct Dialer {
    link: StreamLink,
    address: String,
    stream: Box<dyn Wire>,
    input: BytesMut,
}

impl Dialer {
    async fn new(address: &Address, salt: u8) -> Self {
        let text = address.to_string();
        let address = text.split_once("://").unwrap().1.to_owned();
        let mut config = LinkConfig::new(Role::Dialer, [salt; 16], [salt; 32]);
        config.session = true;
        Self {
            link: StreamLink::new(config, 0),
            stream: Box::new(TcpStream::connect(&address).await.unwrap()),
            address,
            input: BytesMut::new(),
        }
    }

    /// Loses its carrier, and goes on over another.
    async fn again(&mut self, salt: u8) {
        let next = TcpStream::connect(&self.address).await.unwrap();
        self.again_over(next, salt);
    }

    fn again_over(&mut self, next: impl Wire + 'static, salt: u8) {
        self.link.detach(0).unwrap();
        self.input.clear();
        self.stream = Box::new(next);
        self.link.attach(AttachConfig::new([salt; 16]), 0).unwrap();
    }

    /// The first event that is `wanted`.
    async fn hear(
        &mut self,
        wanted: impl Fn(&LinkEvent) -> bool,
    ) -> std::result::Result<LinkEvent, LinkError> {
        loop {
            let mut batch = Batch::new();
            self.link.poll_transmit(&mut batch, 0);
            let bytes = batch.to_vec(StreamKey::MAIN);
            within(self.stream.write_all(&bytes)).await.unwrap();
            while let Some(event) = self.link.poll_event() {
                if wanted(&event) {
                    return Ok(event);
                }
            }
            let read = within(self.stream.read_buf(&mut self.input)).await.unwrap();
            self.link
                .handle_bytes(StreamKey::MAIN, &mut self.input, read == 0, 0)?;
        }
    }

    async fn open(&mut self) {
        let opened = self.hear(|event| matches!(event, LinkEvent::Opened(_)));
        opened.await.unwrap();
    }

    /// Whether the session goes on.
    async fn resumed(&mut self) -> std::result::Result<(), RejectCode> {
        let resumed = self.hear(|event| matches!(event, LinkEvent::Resumed { .. }));
        match resumed.await {
            Ok(_) => Ok(()),
            Err(LinkError::Session(SessionEnd::Rejected { code, .. })) => Err(code),
            Err(error) => panic!("{error}"),
        }
    }
}

fn server(limits: ServerLimits) -> Server {
    let service = Fixed::new::<dyn Bench>(Rig::new().0);
    Server::with(service, Config::default(), limits, Media::standard())
}

/// It used to be unknown until it had introduced itself, and was refused for good.
#[test]
fn a_session_is_known_before_its_dialer_has_said_a_word() {
    runtime().block_on(async {
        let server = server(ServerLimits::default());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let mut dialer = Dialer::new(&address, 1).await;
        dialer.open().await;
        for salt in 2..5 {
            dialer.again(salt).await;
            assert_eq!(dialer.resumed().await, Ok(()));
        }
        assert_eq!(server.stats().connections, 0, "it has not introduced itself");
    });
}

/// Anybody may have heard it: a request to go on is good for one time (PROTOCOL.md § 4.5).
#[test]
fn a_request_that_is_repeated_is_refused_and_takes_nothing_away() {
    runtime().block_on(async {
        let server = server(ServerLimits::default());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let mut dialer = Dialer::new(&address, 1).await;
        dialer.open().await;
        dialer.again(2).await;
        let mut batch = Batch::new();
        dialer.link.poll_transmit(&mut batch, 0);
        let request = batch.to_vec(StreamKey::MAIN);
        within(dialer.stream.write_all(&request)).await.unwrap();
        assert_eq!(dialer.resumed().await, Ok(()));
        let mut other = TcpStream::connect(socket(&address)).await.unwrap();
        within(other.write_all(&request)).await.unwrap();
        let mut answer = Vec::new();
        within(other.read_to_end(&mut answer)).await.unwrap();
        // A newer carrier was asked for.
        assert!(answer.ends_with(&[0x0d, 0, 1, 4]), "{answer:02x?}");
        dialer.again(3).await;
        assert_eq!(dialer.resumed().await, Ok(()));
    });
}

/// Whoever was known by an account has to be known by it again: the key of the session is not enough.
#[cfg(unix)]
#[test]
fn a_dialer_that_proves_less_than_before_is_not_the_same() {
    runtime().block_on(async {
        let server = server(ServerLimits::default());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        within(server.listen(format!("unix:{}", path.display())))
            .await
            .unwrap();
        let tcp = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let unix = || tokio::net::UnixStream::connect(&path);
        let mut dialer = Dialer::new(&tcp, 1).await;
        dialer.stream = Box::new(unix().await.unwrap());
        dialer.open().await;
        dialer.again_over(unix().await.unwrap(), 2);
        assert_eq!(dialer.resumed().await, Ok(()));
        dialer.again(3).await;
        assert_eq!(dialer.resumed().await, Err(RejectCode::NotYours));
    });
}

/// Lets the first peer in, and nobody else.
struct First(AtomicBool);

impl Service for First {
    fn root(&self, _: &Peer) -> Result<Root> {
        if self.0.swap(true, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Denied, "there is somebody already"));
        }
        Ok(Root::of(&Netref::<dyn Bench>::of(Rig::new().0)))
    }
}

fn socket(address: &Address) -> SocketAddr {
    address.to_string().split_once("://").unwrap().1.parse().unwrap()
}

/// The only peer of `server`, which has lost its carrier and finds no other: the relay that it came by, the server's side
/// of its connection, and a ping that waits.
async fn cut_off(server: &Server, address: &Address) -> (Relay, Connection, JoinHandle<Result<Duration>>) {
    let relay = Relay::new(socket(address)).await;
    let client = within(connect(format!("plain+tcp://{}", relay.address)).into_future())
        .await
        .unwrap();
    within(server.wait_for(|stats| stats.connections == 1)).await;
    let host = server.connections().pop().unwrap();
    let mut watch = host.watch();
    relay.lead_to("127.0.0.1:1".parse().unwrap()); // nothing answers there
    relay.cut_after(0);
    let ping = tokio::spawn(async move { client.ping().await });
    while !matches!(within(watch.next()).await, Status::Down(_)) {}
    (relay, host, ping)
}

/// A full server turned everybody away for the sake of a peer that might not come back.
#[test]
fn who_has_lost_its_carrier_makes_room_for_a_peer_that_has_one() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.connections = 1;
        let server = server(limits);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let (relay, host, ping) = cut_off(&server, &address).await;
        let newcomer = within(connect(&address).into_future()).await.unwrap();
        within(newcomer.ping()).await.unwrap();
        within(host.closed()).await;
        relay.lead_to(socket(&address));
        assert!(within(ping).await.unwrap().is_err(), "its session is over");
        within(server.wait_for(|stats| stats.connections == 1)).await;
    });
}

/// Anybody could end the sessions of a full server that had lost their carriers, by being refused.
#[test]
fn a_peer_that_is_not_let_in_takes_nobodys_place() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.connections = 1;
        let service = First(AtomicBool::new(false));
        let server = Server::with(service, Config::default(), limits, Media::standard());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let (relay, host, ping) = cut_off(&server, &address).await;
        let to = socket(&address);
        let refused = within(connect(&address).into_future()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        assert!(matches!(host.status(), Status::Down(_)), "{:?}", host.status());
        relay.lead_to(to);
        assert!(within(ping).await.unwrap().is_ok(), "its session goes on");
    });
}

/// A server that lets one peer in ended its session, for the sake of another that was refused nevertheless.
#[test]
fn a_peer_beyond_those_in_all_takes_nobodys_place() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.connections = 1;
        limits.in_all = Some(1);
        let server = server(limits);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let (relay, host, ping) = cut_off(&server, &address).await;
        let refused = within(connect(&address).into_future()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        assert!(matches!(host.status(), Status::Down(_)), "{:?}", host.status());
        relay.lead_to(socket(&address));
        assert!(within(ping).await.unwrap().is_ok(), "its session goes on");
    });
}
