//! Who is being let in: limits that hostile peers meet, and a server that stops meanwhile.

use std::future::IntoFuture;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farref::keys::{Identity, KnownPeers, Psk, Trust};
use farref::transport::Media;
use farref::{Config, Fixed, Netref, Result, Server, ServerLimits, connect, remote};
use farref_framing::Role;
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::raw_peer::{RawPeer, hello};

const LONG: Duration = Duration::from_secs(60 * 60);

/// A server at a socket that waits long for peers, and its runtime.
struct Patient {
    runtime: tokio::runtime::Runtime,
    server: Server,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Patient {
    fn new(limits: impl FnOnce(&mut ServerLimits)) -> Self {
        let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
        let path = directory.path().join("socket");
        let (mut config, mut with) = (Config::default(), ServerLimits::default());
        config.setup_timeout = LONG;
        limits(&mut with);
        let root = Fixed::new::<dyn Bench>(Rig::new().0);
        let server = Server::with(root, config, with, Media::standard());
        runtime
            .block_on(within(server.listen(format!("unix:{}", path.display()))))
            .unwrap();
        Self {
            runtime,
            server,
            path,
            _directory: directory,
        }
    }

    fn silent(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn until(&self, met: impl FnMut(&farref::ServerStats) -> bool) {
        self.runtime.block_on(within(self.server.wait_for(met)));
    }
}

/// Connections that were set up at once were all let in, up to `opening` more than there may be.
#[test]
fn no_more_connections_are_open_than_may_be_however_they_come() {
    let patient = Patient::new(|limits| limits.connections = 2);
    let mut peers: Vec<_> = (0..6)
        .map(|_| RawPeer::new(patient.silent(), Role::Dialer))
        .collect();
    patient.until(|stats| stats.opening == 6);
    for peer in &mut peers {
        peer.say(&hello());
    }
    patient.until(|stats| stats.opening == 0);
    let stats = patient.server.stats();
    assert_eq!((stats.connections, stats.refused), (2, 4));
    // A place that is free is free.
    drop(peers);
    patient.until(|stats| stats.connections == 0);
    RawPeer::dial(&patient.path);
}

#[test]
fn a_peer_beyond_the_limit_of_those_being_set_up_is_hung_up_on() {
    let patient = Patient::new(|limits| limits.opening = 3);
    let silent: Vec<_> = (0..3).map(|_| patient.silent()).collect();
    patient.until(|stats| stats.opening == 3);
    for _ in 0..10 {
        assert_eq!(patient.silent().read(&mut [0]).unwrap(), 0);
    }
    patient.until(|stats| stats.refused == 10 && stats.opening == 3);
    drop(silent);
    patient.until(|stats| stats.opening == 0);
    RawPeer::dial(&patient.path);
}

/// A peer that was being set up was waited for by nobody, and went on being set up after the end.
#[test]
fn a_shutdown_turns_back_who_has_not_introduced_itself() {
    let patient = Patient::new(|_| {});
    let mut silent: Vec<_> = (0..5).map(|_| patient.silent()).collect();
    patient.until(|stats| stats.opening == 5);
    patient.runtime.block_on(within(patient.server.shutdown(LONG)));
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

/// The listener was closed some time after the shutdown.
#[test]
fn an_address_is_free_when_the_shutdown_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("socket").display());
    runtime().block_on(async {
        let mut tcp = "plain+tcp://127.0.0.1:0".parse().unwrap();
        for _ in 0..50 {
            let server = Server::of::<dyn Bench>(Rig::new().0);
            within(server.listen("mem:free-again")).await.unwrap();
            within(server.listen(&unix)).await.unwrap();
            tcp = within(server.listen(&tcp)).await.unwrap();
            within(server.shutdown(LONG)).await;
        }
    });
}

#[remote]
trait Till {
    async fn pay(&self) -> Result<()>;
}

#[derive(Default)]
struct Drawer(AtomicU64);

#[remote]
impl Till for Drawer {
    async fn pay(&self) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// A connection that opened while the server stopped was cut off with its first calls under way.
#[test]
fn a_call_that_ran_is_answered_also_if_its_connection_was_new() {
    for round in 0..40_usize {
        runtime().block_on(async {
            let drawer = Arc::new(Drawer::default());
            let root: Netref<dyn Till> = Netref::share(&drawer);
            let server = Server::of::<dyn Till>(root);
            let medium = ["mem:till", "plain+tcp://127.0.0.1:0"][round % 2];
            let address = within(server.listen(medium)).await.unwrap();
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    let address = address.clone();
                    tokio::spawn(async move {
                        let mut paid = 0;
                        while let Ok(connection) = connect(&address).await {
                            let Ok(till) = connection.root::<dyn Till>().await else {
                                break;
                            };
                            let calls: Vec<_> = (0..4).map(|_| till.call().pay().start()).collect();
                            for call in calls {
                                paid += u64::from(call.await.is_ok());
                            }
                        }
                        paid
                    })
                })
                .collect();
            within(server.wait_for(|stats| stats.accepted > round as u64)).await;
            within(server.shutdown(LONG)).await;
            let mut paid = 0;
            for client in clients {
                paid += within(client).await.unwrap();
            }
            assert_eq!(drawer.0.load(Ordering::SeqCst), paid, "round {round}");
        });
    }
}

/// A shared secret shows no key.
#[test]
fn a_key_in_the_address_is_asked_for_also_where_a_secret_would_do() {
    runtime().block_on(async {
        let secret = || Trust::of_psk(Psk::new([7; 32]));
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(secret());
        let address = within(server.listen("noise+mem:keyless")).await.unwrap();
        within(connect(&address).trust(secret()).into_future())
            .await
            .unwrap();
        let pinned = address.with_peer_key(Identity::generate().unwrap().public());
        for trust in [secret(), secret().knowing(KnownPeers::anyone())] {
            assert!(within(connect(&pinned).trust(trust).into_future()).await.is_err());
        }
    });
}

/// What peers over QUIC do who mean no good: with any key, or with one that is let in.
#[test]
fn hostile_quic_peers_harm_nobody_else() {
    use farref::transport::quic::Quic;
    use farref::transport::{Carrier, Class, Muxed, Transport};
    use std::future::poll_fn;
    use std::io::IoSlice;

    /// Opens streams of its own, each with these bytes, and keeps, resets or ends them.
    async fn streams(peer: &dyn Muxed, count: usize, says: &[u8], end: &str) -> Vec<Box<dyn std::any::Any>> {
        let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
        for _ in 0..count {
            let Ok(mut tx) = peer.open_uni(Class::Bulk).await else {
                break;
            };
            let _ = tx.try_write(&[IoSlice::new(says)]);
            match end {
                "reset" => tx.reset(7),
                "end" => drop(tx),
                _ => kept.push(Box::new(tx)),
            }
        }
        kept
    }

    /// Opens lane 0 with these bytes.
    async fn lane0(peer: &dyn Muxed, says: &[u8], end: &str) -> Vec<Box<dyn std::any::Any>> {
        let Ok((rx, mut tx)) = peer.open().await else {
            return Vec::new();
        };
        let _ = tx.try_write(&[IoSlice::new(says)]);
        match end {
            "reset" => tx.reset(7),
            "end" => drop(poll_fn(|context| tx.poll_close(context)).await),
            _ => {}
        }
        vec![Box::new(rx), Box::new(tx)]
    }

    runtime().block_on(async {
        let (at_server, at_client) = farref_integration_tests::media::acquainted();
        let known = at_client.identity().unwrap().clone();
        let mut config = Config::default();
        config.setup_timeout = Duration::from_millis(300);
        let root = Fixed::new::<dyn Bench>(Rig::new().0);
        let server = Server::with(root, config, ServerLimits::default(), Media::standard()).trust(at_server);
        let address = within(server.listen("quic://127.0.0.1:0")).await.unwrap();
        let honest = within(connect(&address).trust(at_client).into_future())
            .await
            .unwrap();
        let bench: Netref<dyn Bench> = within(honest.root()).await.unwrap();
        for identity in [known, Identity::generate().unwrap()] {
            let quic = Quic::new(identity);
            for number in 0..11 {
                let Carrier::Muxed(peer) = within(quic.dial(&address)).await.unwrap() else {
                    panic!("QUIC has streams");
                };
                let peer = &*peer;
                let kept = match number {
                    0 => Vec::new(),
                    1 => lane0(peer, b"", "end").await,
                    2 => lane0(peer, b"x", "keep").await,
                    3 => lane0(peer, b"x", "reset").await,
                    4 => lane0(peer, b"GET / HTTP/1.1\r\n\r\n", "keep").await,
                    5 => lane0(peer, &[0xa9; 2000], "keep").await,
                    6 => streams(peer, 1000, b"x", "keep").await,
                    7 => streams(peer, 3000, b"", "end").await,
                    8 => streams(peer, 3000, b"x", "reset").await,
                    9 => streams(peer, 10, &[7; 1 << 20], "keep").await,
                    _ => {
                        peer.close(9, "enough");
                        Vec::new()
                    }
                };
                // It is hung up on, whether or not it goes by itself.
                while within(peer.accept_uni()).await.is_ok() {}
                drop(kept);
            }
        }
        assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
        within(server.wait_for(|stats| stats.connections == 1 && stats.opening == 0)).await;
    });
}

/// A medium whose listener fails now and then, and sometimes for good.
struct Flaky(&'static [&'static str]);

mod flaky {
    use std::io;

    use farref::transport::{
        AcceptError, Address, BoxFuture, Carrier, DialError, ListenError, Listener, Media, Transport,
    };

    impl Transport for super::Flaky {
        fn schemes(&self) -> &'static [&'static str] {
            &["x-flaky"]
        }

        fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
            unreachable!("nobody dials it")
        }

        fn listen<'a>(
            &'a self,
            address: &'a Address,
        ) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
            Box::pin(async move {
                let behind = format!("mem:{}", address.to_string().replace(':', "-"));
                Ok(Box::new(FlakyListener {
                    script: self.0,
                    behind: Media::standard().listen(&behind.parse().unwrap()).await?,
                }) as Box<dyn Listener>)
            })
        }
    }

    struct FlakyListener {
        script: &'static [&'static str],
        behind: Box<dyn Listener>,
    }

    impl Listener for FlakyListener {
        fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
            Box::pin(async {
                let next = self.script.split_first();
                let error = match next {
                    Some((&"gone", _)) => {
                        AcceptError::PeerGone(io::Error::from(io::ErrorKind::ConnectionAborted))
                    }
                    // Too many open files.
                    Some((&"exhausted", _)) => AcceptError::Exhausted(io::Error::from_raw_os_error(24)),
                    Some((&"always exhausted", _)) => {
                        return Err(AcceptError::Exhausted(io::Error::from_raw_os_error(24)));
                    }
                    Some(_) => AcceptError::Broken(io::Error::from(io::ErrorKind::Other)),
                    None => return self.behind.accept().await,
                };
                self.script = next.unwrap().1;
                Err(error)
            })
        }

        fn local_addresses(&self) -> Vec<Address> {
            self.behind.local_addresses()
        }
    }
}

fn flaky(script: &'static [&'static str]) -> Server {
    let root = Fixed::new::<dyn Bench>(Rig::new().0);
    let media = Media::standard().with(Flaky(script));
    Server::with(root, Config::default(), ServerLimits::default(), media)
}

#[test]
fn a_listener_that_fails_now_and_then_goes_on_and_one_that_is_broken_ends_alone() {
    runtime().block_on(async {
        let server = flaky(&["gone", "exhausted", "gone", "exhausted", "gone"]);
        let address = within(server.listen("x-flaky:some")).await.unwrap();
        let client = within(connect(&address).into_future()).await.unwrap();
        within(client.ping()).await.unwrap();
        within(server.shutdown(LONG)).await;

        let server = flaky(&["gone", "broken"]);
        within(server.listen("x-flaky:broken")).await.unwrap();
        within(server.closed()).await;
        // Whoever listens elsewhere is not concerned.
        let server = flaky(&["broken"]);
        let other = within(server.listen("mem:not-broken")).await.unwrap();
        within(server.listen("x-flaky:also-broken")).await.unwrap();
        let client = within(connect(&other).into_future()).await.unwrap();
        within(client.ping()).await.unwrap();
    });
}

#[test]
fn a_server_that_has_no_files_left_can_still_be_shut_down() {
    runtime().block_on(async {
        let server = flaky(&["always exhausted"]);
        within(server.listen("x-flaky:never")).await.unwrap();
        within(server.shutdown(LONG)).await;
    });
}
