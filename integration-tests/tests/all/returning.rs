//! Dialers that come back at odd moments, made by hand: what a server answers to them.

use bytes::BytesMut;
use farref::{Config, Fixed, Server, ServerLimits};
use farref_framing::{
    AttachConfig, Batch, Link, LinkConfig, LinkError, LinkEvent, RejectCode, Role, SessionEnd, StreamKey,
    StreamLink,
};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_transport::{Address, Media};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A dialer that says what its link says, and nothing of its own.
struct Dialer {
    link: StreamLink,
    address: String,
    stream: TcpStream,
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
            stream: TcpStream::connect(&address).await.unwrap(),
            address,
            input: BytesMut::new(),
        }
    }

    /// Loses its carrier, and goes on over another.
    async fn again(&mut self, salt: u8) {
        self.link.detach(0).unwrap();
        self.input.clear();
        self.stream = TcpStream::connect(&self.address).await.unwrap();
        self.link.attach(AttachConfig::new([salt; 16]), 0).unwrap();
    }

    /// The first event that is `wanted`.
    async fn hear(&mut self, wanted: impl Fn(&LinkEvent) -> bool) -> Result<LinkEvent, LinkError> {
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
    async fn resumed(&mut self) -> Result<(), RejectCode> {
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
