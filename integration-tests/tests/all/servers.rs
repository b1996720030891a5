//! Services and servers: who is let in, how many, and how it ends.

use std::future::IntoFuture;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farref::{
    Config, Connection, Error, ErrorKind, Fixed, Netref, Peer, Result, Root, Server, ServerLimits, Service,
    connect,
    transport::{Media, PeerEvidence, address::Target},
};
use farref_integration_tests::bench::{Bench, Count, Rig};
use farref_integration_tests::media::{acquainted, over_every_medium, pair, pair_with, runtime, within};
use tokio::sync::mpsc;

/// Shows a bench to the first two peers, and nothing to others.
struct Doorkeeper {
    let_in: AtomicUsize,
    told: Mutex<mpsc::UnboundedSender<String>>,
}

impl Service for Doorkeeper {
    fn root(&self, peer: &Peer) -> Result<Root> {
        assert!(
            matches!(peer.evidence, PeerEvidence::Unix { .. }),
            "the system says who it is: {peer}"
        );
        if self.let_in.fetch_add(1, Ordering::SeqCst) >= 2 {
            return Err(Error::new(ErrorKind::Denied, "the house is full"));
        }
        Ok(Root::of::<dyn Bench>(&Netref::of(Rig::new().0)))
    }

    fn connected(&self, connection: &Connection) {
        let _ = self
            .told
            .lock()
            .unwrap()
            .send(format!("connected over {}", connection.peer().medium));
    }

    fn disconnected(&self, _peer: &Peer, reason: &Error) {
        let _ = self.told.lock().unwrap().send(format!("disconnected: {reason}"));
    }
}

#[test]
fn a_service_decides_per_peer_and_hears_of_their_coming_and_going() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("socket").display());
        let (told, mut tells) = mpsc::unbounded_channel();
        let server = Server::new(Doorkeeper {
            let_in: AtomicUsize::new(0),
            told: Mutex::new(told),
        });
        within(server.listen(&address)).await.unwrap();
        let first = within(connect(&address).into_future()).await.unwrap();
        assert_eq!(within(tells.recv()).await.unwrap(), "connected over unix");
        let _second = within(connect(&address).into_future()).await.unwrap();
        assert!(within(tells.recv()).await.is_some());
        let refused = within(connect(&address).into_future()).await;
        assert!(refused.is_err(), "the third is not let in");
        within(first.close()).await;
        assert!(within(tells.recv()).await.unwrap().starts_with("disconnected: "));
        let stats = within(server.wait_for(|stats| stats.refused == 1 && stats.connections == 1)).await;
        assert_eq!(stats.accepted, 3);
    });
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.connections = 1;
        let root = farref::Fixed::new::<dyn Bench>(Rig::new().0);
        let server = Server::with(root, Config::default(), limits, Media::standard());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let first = within(connect(&address).into_future()).await.unwrap();
        within(server.wait_for(|stats| stats.connections == 1)).await;
        assert!(within(connect(&address).into_future()).await.is_err());
        within(first.close()).await;
        within(server.wait_for(|stats| stats.connections == 0)).await;
        let again = within(connect(&address).into_future()).await.unwrap();
        assert!(within(again.ping()).await.is_ok(), "a place that is free is free");
    });
}

#[test]
fn a_shutdown_lets_calls_end_that_are_under_way() {
    runtime().block_on(async {
        let (rig, _tells, gate) = Rig::new();
        let joined = pair::<dyn Bench>("unix", rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let under_way = bench.call().slow_counter().start();
        assert_eq!(
            within(bench.call().add(1, 1)).await.unwrap(),
            2,
            "the call before it has arrived"
        );
        let server = joined.server;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(50)));
        let refused = async {
            loop {
                if let Err(error) = bench.call().add(1, 1).await {
                    return error;
                }
            }
        };
        let refused = within(refused).await;
        assert!(
            matches!(refused.kind(), ErrorKind::Disconnected(_)),
            "{refused:?}"
        );
        gate.send_replace(true);
        let ended = within(under_way).await;
        assert!(
            ended.is_ok(),
            "what was under way has not ended as it should: {ended:?}, {refused:?}"
        );
        within(shutdown).await.unwrap();
        within(joined.client.closed()).await;
    });
}

#[test]
fn addresses_that_cannot_be_used_say_what_to_write_instead() {
    runtime().block_on(async {
        let error = within(connect("unx:/run/x").into_future()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address);
        assert!(error.to_string().contains("unix:"), "{error}");
        let error = within(connect("x-own:anything").into_future()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let error = within(connect("unix:/nowhere/at/all").into_future())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Carrier, "{error}");
    });
}

#[test]
fn one_server_listens_at_many_addresses_at_once() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let unix = format!("unix:{}", directory.path().join("socket").display());
        let mut addresses = Vec::new();
        for address in [
            "mem:many",
            "mem:many-muxed?mux=1",
            &unix,
            "plain+tcp://127.0.0.1:0",
            "plain+tcp://127.0.0.1:0",
        ] {
            addresses.push(within(server.listen(address)).await.unwrap());
        }
        assert!(
            addresses[3].to_string().starts_with("plain+tcp://127.0.0.1:"),
            "{}",
            addresses[3]
        );
        assert_ne!(addresses[3], addresses[4], "the system chose two ports");
        let mut open = Vec::new();
        for address in &addresses {
            let connection = within(connect(address).into_future()).await.unwrap();
            let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
            assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
            open.push(connection);
        }
        within(server.wait_for(|stats| stats.connections == 5)).await;
        let error = within(server.listen(&unix)).await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Carrier,
            "somebody listens there: {error}"
        );
        within(server.shutdown(Duration::from_secs(50))).await;
        for connection in open {
            within(connection.closed()).await;
        }
        // The addresses are free again.
        let server = Server::of::<dyn Bench>(Rig::new().0);
        for address in ["mem:many", &unix] {
            within(server.listen(address)).await.unwrap();
        }
    });
}

/// Whatever the moment: a call that was answered ran once, and one that was not sent did not run.
#[test]
fn a_shutdown_under_load_loses_nothing() {
    use farref::{Certainty, remote};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[remote]
    trait Till {
        async fn pay(&self) -> Result<()>;
        fn pay_blocking(&self) -> Result<()>;
    }
    #[derive(Default)]
    struct Drawer(AtomicU64);
    #[remote]
    impl Till for Drawer {
        async fn pay(&self) -> Result<()> {
            tokio::task::yield_now().await;
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn pay_blocking(&self) -> Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    for round in 0..10 {
        let runtime = runtime();
        runtime.block_on(async {
            let drawer = Arc::new(Drawer::default());
            let root: Netref<dyn Till> = Netref::share(&drawer);
            let joined = pair::<dyn Till>(["mem", "unix", "plain+tcp"][round % 3], root).await;
            let till: Netref<dyn Till> = joined.root().await;
            let payers: Vec<_> = (0..8)
                .map(|payer| {
                    let till = till.clone();
                    tokio::spawn(async move {
                        let mut paid = 0_u64;
                        loop {
                            let calls = [
                                till.call().pay().start(),
                                if payer % 2 == 0 {
                                    till.call().pay_blocking()
                                } else {
                                    till.call().pay()
                                },
                            ];
                            let mut over = false;
                            for call in calls {
                                match call.await {
                                    Ok(()) => paid += 1,
                                    Err(error) => {
                                        let certainty = error.certainty();
                                        assert_eq!(certainty, Some(Certainty::NotSent), "{error:?}");
                                        over = true;
                                    }
                                }
                            }
                            if over {
                                return paid;
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..round * 3 {
                within(joined.client.ping()).await.unwrap();
            }
            within(joined.server.shutdown(Duration::from_secs(50))).await;
            let mut paid = 0;
            for payer in payers {
                paid += within(payer).await.unwrap();
            }
            assert_eq!(drawer.0.load(Ordering::SeqCst), paid, "round {round}");
        });
    }
}

#[test]
fn a_shutdown_waits_no_longer_than_its_grace() {
    runtime().block_on(async {
        for medium in ["mem", "unix"] {
            let (rig, mut tells, _gate) = Rig::new();
            let joined = pair::<dyn Bench>(medium, rig).await;
            let bench: Netref<dyn Bench> = joined.root().await;
            let under_way = bench.call().wait_for_ever(Netref::of(Count::default())).start();
            assert_eq!(within(tells.recv()).await, Some("waiting"));
            within(joined.server.shutdown(Duration::from_millis(20))).await;
            let error = within(under_way).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
            assert_eq!(within(tells.recv()).await, Some("cancelled"));
        }
    });
}

#[test]
fn a_server_that_is_dropped_ends_its_connections_and_frees_its_address() {
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = within(server.listen("mem:dropped")).await.unwrap();
        let clients: Vec<_> = {
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(within(connect(&address).into_future()).await.unwrap());
            }
            clients
        };
        drop(server);
        for client in clients {
            let why = within(client.closed()).await;
            assert!(why.to_string().contains("the peer closed"), "{why}");
        }
        let again = async {
            loop {
                let server = Server::of::<dyn Bench>(Rig::new().0);
                match server.listen("mem:dropped").await {
                    Ok(_) => return server,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        within(again).await;
        let error = within(connect("mem:nobody").into_future()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Carrier, "{error}");
    });
}

#[test]
fn serving_ends_with_the_future_that_serves() {
    runtime().block_on(async {
        let serving = tokio::spawn(farref::serve::<dyn Bench>("mem:serving", Rig::new().0));
        let connection = async {
            loop {
                if let Ok(connection) = connect("mem:serving").await {
                    return connection;
                }
                tokio::task::yield_now().await;
            }
        };
        let connection = within(connection).await;
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
        serving.abort();
        within(connection.closed()).await;
        let error = within(farref::serve::<dyn Bench>("nowhere:x", Rig::new().0))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address, "{error}");
    });
}

/// Whoever connects and says nothing holds a place for a while, and only so many may.
#[cfg(unix)]
#[test]
fn silent_peers_hold_up_nobody_and_are_turned_away() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let mut config = Config::default();
    config.setup_timeout = Duration::from_secs(1);
    let mut limits = ServerLimits::default();
    limits.opening = 4;
    let server = Server::with(
        Fixed::new::<dyn Bench>(Rig::new().0),
        config,
        limits,
        Media::standard(),
    );
    runtime.block_on(within(server.listen(&address))).unwrap();
    let silent: Vec<_> = (0..10)
        .map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap())
        .collect();
    runtime.block_on(async {
        let stats = within(server.wait_for(|stats| stats.refused >= 6)).await;
        assert!(stats.opening <= 4, "{stats:?}");
        // The others are turned away when their time is over; then there is room again.
        within(server.wait_for(|stats| stats.refused == 10 && stats.opening == 0)).await;
        let client = within(connect(&address).into_future()).await.unwrap();
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
    });
    drop(silent);
}

/// Lets nobody in, and says why, or does not.
struct Closed(bool);

impl Service for Closed {
    fn root(&self, _peer: &Peer) -> Result<Root> {
        if self.0 {
            return Err(farref::Error::new(ErrorKind::Denied, "come back tomorrow"));
        }
        Err(farref::Error::msg("the database at 10.0.0.7 is down"))
    }
}

#[test]
fn who_is_not_let_in_learns_what_was_meant_for_it() {
    over_every_medium(async |medium| {
        let told = pair_with(medium, Server::new(Closed(true))).await.err().unwrap();
        assert_eq!(told.kind(), ErrorKind::Denied, "{medium}: {told}");
        assert_eq!(told.to_string(), "come back tomorrow");
        let untold = pair_with(medium, Server::new(Closed(false))).await.err().unwrap();
        assert_eq!(untold.kind(), ErrorKind::Denied, "{medium}: {untold}");
        assert_eq!(untold.to_string(), "the peer does not let this side in");
    });
}

#[test]
fn one_address_cannot_take_all_places_before_it_is_known() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.opening_per_source = 2;
        let server = Server::with(
            Fixed::new::<dyn Bench>(Rig::new().0),
            Config::default(),
            limits,
            Media::standard(),
        );
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let port = address
            .to_string()
            .rsplit_once(':')
            .unwrap()
            .1
            .parse::<u16>()
            .unwrap();
        let mut silent = Vec::new();
        for _ in 0..5 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(
                within(socket.connect(([127, 0, 0, 1], port).into()))
                    .await
                    .unwrap(),
            );
        }
        let stats = within(server.wait_for(|stats| stats.accepted == 5)).await;
        assert_eq!((stats.opening, stats.refused), (2, 3));
        let client = within(connect(&address).into_future()).await.unwrap();
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
        drop(silent);
        within(server.wait_for(|stats| stats.opening == 0)).await;
    });
}

/// The addresses of 127.0.0.0/8 are one host's on Linux.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_half_open_connections_of_one_address_keep_no_other_out() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(at_server);
        let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let Target::Tcp { port, .. } = *address.target() else {
            panic!("{address}")
        };
        // No more descriptors than a test may have: those that the server has closed are given back.
        let mut silent = std::collections::VecDeque::new();
        for number in 0..10_000 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push_back(
                within(socket.connect(([127, 0, 0, 1], port).into()))
                    .await
                    .unwrap(),
            );
            if silent.len() > 300 {
                silent.pop_front();
            }
            if number % 2500 == 2499 {
                let begun = std::time::Instant::now();
                let client = within(connect(&address).trust(at_client.clone()).into_future())
                    .await
                    .unwrap();
                let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
                assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
                println!("served beside {} of them after {:?}", number + 1, begun.elapsed());
            }
        }
        // The last client was served, and may count as one that is being set up for a moment longer.
        within(server.wait_for(|stats| stats.opening <= 128 && stats.accepted > 10_000)).await;
    });
}

/// Panics where it is asked to.
struct Moody(AtomicUsize);

impl Service for Moody {
    fn root(&self, _peer: &Peer) -> Result<Root> {
        assert!(
            self.0.fetch_add(1, Ordering::SeqCst) != 0,
            "the service does not like the first peer"
        );
        Ok(Root::of::<dyn Bench>(&Netref::of(Rig::new().0)))
    }

    fn connected(&self, _connection: &Connection) {
        assert!(self.0.load(Ordering::SeqCst) != 2, "nor to hear of the second");
    }
}

#[test]
fn a_service_that_panics_harms_nobody_else() {
    runtime().block_on(async {
        let server = Server::new(Moody(AtomicUsize::new(0)));
        let address = within(server.listen("mem:moody")).await.unwrap();
        assert!(within(connect(&address).into_future()).await.is_err());
        let second = within(connect(&address).into_future()).await;
        let third = within(connect(&address).into_future()).await.unwrap();
        let bench: Netref<dyn Bench> = within(third.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
        drop(second);
        let stats = within(server.wait_for(|stats| stats.opening == 0)).await;
        assert!(stats.connections <= 2, "{stats:?}");
        drop(bench);
        within(third.close()).await;
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}

#[test]
fn a_hundred_clients_come_and_go() {
    runtime().block_on(async {
        let (told, mut tells) = mpsc::unbounded_channel();
        let limits = ServerLimits::default();
        let server = Server::with(
            Guests(Mutex::new(told)),
            Config::default(),
            limits,
            Media::standard(),
        );
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let clients: Vec<_> = (0..100_u64)
            .map(|n| {
                let address = address.clone();
                tokio::spawn(async move {
                    let client = connect(address).await.unwrap();
                    let bench: Netref<dyn Bench> = client.root().await.unwrap();
                    assert_eq!(bench.call().add(n, 1).await.unwrap(), n + 1);
                    if n % 2 == 0 {
                        client.close().await;
                    }
                })
            })
            .collect();
        for client in clients {
            within(client).await.unwrap();
        }
        let stats = within(server.wait_for(|stats| stats.connections == 0 && stats.opening == 0)).await;
        assert_eq!((stats.accepted, stats.refused), (100, 0));
        let mut balance = 0;
        for _ in 0..200 {
            balance += within(tells.recv()).await.unwrap();
        }
        assert_eq!(balance, 0, "each was announced once, and its end once");
    });
}

/// Counts guests.
struct Guests(Mutex<mpsc::UnboundedSender<i32>>);

impl Service for Guests {
    fn root(&self, _peer: &Peer) -> Result<Root> {
        Ok(Root::of::<dyn Bench>(&Netref::of(Rig::new().0)))
    }

    fn connected(&self, _connection: &Connection) {
        let _ = self.0.lock().unwrap().send(1);
    }

    fn disconnected(&self, _peer: &Peer, _reason: &Error) {
        let _ = self.0.lock().unwrap().send(-1);
    }
}
