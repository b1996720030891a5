//! A server that listens everywhere, and sessions that go from one medium to another whenever they are cut.

use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use farref::keys::{Authorized, Identity, Trust};
use farref::transport::quic::Quic;
use farref::transport::{Address, BoxFuture, Carrier, DialError, ListenError, Listener, Media, Transport};
use farref::{Config, Connection, Fixed, Netref, Server, ServerLimits, connect};
use farref_integration_tests::brittle::Brittle;
use farref_integration_tests::line::{Line, LineConfig};
use farref_integration_tests::media::within;
use farref_integration_tests::rough::Random;
use tokio::sync::watch;

use crate::calls::{Book, Pages};

/// The server, and all that its addresses need.
pub(crate) struct House {
    server: Server,
    dialer: Identity,
    /// What one session can move among: with a peer that comes back must be proved what was proved before.
    plain: Vec<Address>,
    unix: Vec<Address>,
    encrypted: Vec<Address>,
    lines: [Line; 2],
    _directory: tempfile::TempDir,
}

impl House {
    pub(crate) async fn new(book: Book) -> Self {
        let (listener, dialer) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let root = Fixed::new::<dyn Pages>(book);
        let media = Media::standard().with(Quic::new(listener.clone()));
        let trust = Trust::new(listener).authorizing(Authorized::keys([dialer.public()]));
        let server = Server::with(root, Config::default(), ServerLimits::default(), media).trust(trust);
        let directory = tempfile::tempdir().unwrap();
        let socket = |name| directory.path().join(name).display().to_string();
        let line = || {
            Line::new(LineConfig {
                baud: 4_000_000,
                ..LineConfig::default()
            })
        };
        let lines = [line(), line()];
        let listen = async |address: String| within(server.listen(address)).await.unwrap();
        let serial = async |prefix: &str, line: &Line| {
            let port = |port: &Path| {
                format!(
                    "{prefix}serial:{}?baud=4000000&window=32&payload=1000",
                    port.display()
                )
            };
            let listening = listen(port(line.left())).await;
            let dialled: Address = port(line.right()).parse().unwrap();
            match listening.peer_key() {
                Some(key) => dialled.with_peer_key(*key),
                None => dialled,
            }
        };
        let plain = vec![
            listen("plain+tcp://127.0.0.1:0".into()).await,
            listen("mem:soak".into()).await,
            serial("", &lines[0]).await,
        ];
        let unix = vec![listen(format!("unix:{}", socket("plain"))).await];
        let encrypted = vec![
            listen("tcp://127.0.0.1:0".into()).await,
            listen("quic://127.0.0.1:0".into()).await,
            listen(format!("noise+unix:{}", socket("encrypted"))).await,
            listen("noise+mem:soak-encrypted".into()).await,
            serial("noise+", &lines[1]).await,
        ];
        Self {
            server,
            dialer,
            plain,
            unix,
            encrypted,
            lines,
            _directory: directory,
        }
    }

    /// Four sessions: one over each kind of address, and one that is never slowed down by a serial line.
    pub(crate) async fn roamers(&self) -> Vec<Roamer> {
        let fast = &self.encrypted[..4];
        let mut roamers = Vec::new();
        for addresses in [&self.plain, &self.unix, &self.encrypted, fast] {
            roamers.push(Roamer::new(addresses, &self.dialer).await);
        }
        roamers
    }

    /// Everything in the tables of the server's side.
    pub(crate) fn held(&self) -> usize {
        self.server
            .connections()
            .iter()
            .map(|connection| held(connection, 0))
            .sum()
    }

    /// Waits until nothing is held but the roots.
    pub(crate) async fn at_rest(&self, roamers: &[Roamer]) -> Result<(), String> {
        for roamer in roamers {
            at_rest(&roamer.connection, 1).await?;
        }
        for connection in self.server.connections() {
            at_rest(&connection, 0).await?;
        }
        Ok(())
    }

    /// Waits until nobody is connected, nor about to be.
    pub(crate) async fn left(self) -> Result<(), String> {
        // A serial line is always about to be: whoever comes is waited for without end.
        let waiting = self.lines.len() as u64;
        let empty = self
            .server
            .wait_for(|stats| stats.connections == 0 && stats.opening <= waiting);
        let left = tokio::time::timeout(Duration::from_secs(60), empty).await;
        left.map_err(|_| format!("somebody stays: {:?}", self.server.stats()))?;
        within(self.server.shutdown(Duration::ZERO)).await;
        Ok(())
    }
}

/// How much is in the tables of a connection that holds so many roots.
fn held(connection: &Connection, roots: usize) -> usize {
    let stats = connection.stats();
    (stats.exports + stats.imports + stats.calls + stats.answers).saturating_sub(roots)
}

async fn at_rest(connection: &Connection, roots: usize) -> Result<(), String> {
    let rest = async {
        while held(connection, roots) > 0 {
            // A round trip behind everything that was sent: what it set off has been handled over there.
            let lost = |error| format!("a session is lost: {error}");
            connection.ping().await.map_err(lost)?;
        }
        Ok(())
    };
    let rest = tokio::time::timeout(Duration::from_secs(60), rest).await;
    rest.unwrap_or_else(|_| Err(format!("a side still holds {:?}", connection.stats())))
}

/// A session, and what makes it move.
pub(crate) struct Roamer {
    pub(crate) book: Netref<dyn Pages>,
    connection: Connection,
    brittle: Brittle,
    /// Where it may be, and which of them is open.
    addresses: Vec<Address>,
    open: watch::Sender<Address>,
}

impl Roamer {
    async fn new(addresses: &[Address], dialer: &Identity) -> Self {
        let brittle = Brittle::default();
        let (open, is_open) = watch::channel(addresses[0].clone());
        let turnstile = Turnstile {
            media: brittle.media(dialer.clone()),
            open: is_open,
        };
        let mut config = Config::default();
        config.resume = Some(true);
        let mut connecting = connect(&addresses[0]);
        for address in &addresses[1..] {
            connecting = connecting.also_at(address);
        }
        let connecting = connecting
            .config(config)
            .media(Media::none().with(turnstile))
            .trust(Trust::new(dialer.clone()));
        let connection = within(connecting.into_future()).await.unwrap();
        Self {
            book: within(connection.root()).await.unwrap(),
            connection,
            brittle,
            addresses: addresses.to_vec(),
            open,
        }
    }

    /// The carrier breaks soon, and the next one leads over another medium.
    pub(crate) fn cut(&self, random: &mut Random) {
        let next = random.below(self.addresses.len() as u64) as usize;
        self.open.send_replace(self.addresses[next].clone());
        // Often in the middle of a call, and mostly after the session has begun to go on.
        self.brittle.cut_after(random.below(20_000) as u32);
    }

    /// The longest bulk that is carried: a serial line takes a second for 400 kB.
    pub(crate) fn most_bulk(&self) -> u64 {
        let is_slow = self.addresses.iter().any(|address| address.scheme() == "serial");
        if is_slow { 2_000 } else { 100_000 }
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.brittle.cuts()
    }

    pub(crate) fn carriers(&self) -> u64 {
        self.connection.stats().traffic.carriers
    }

    pub(crate) fn held(&self) -> usize {
        held(&self.connection, 1)
    }
}

/// Media of which one address at a time can be dialled.
struct Turnstile {
    media: Media,
    open: watch::Receiver<Address>,
}

impl Transport for Turnstile {
    fn schemes(&self) -> &'static [&'static str] {
        &["mem", "quic", "serial", "tcp", "unix"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let mut open = self.open.clone();
            // It ends with the sender: then nobody dials any more.
            let _ = open.wait_for(|open| open.scheme() == address.scheme()).await;
            self.media.dial(address).await
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(self.media.listen(address))
    }
}
