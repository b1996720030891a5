//! Sessions outlive their wire: whatever is cut, every call reaches its object once and in order.

use std::future::IntoFuture;
use std::time::Duration;

use farref::keys::{Authorized, Grant, Identity, Trust};
use farref::transport::{Address, Media};
use farref::{
    Config, Connection, ErrorKind, Fixed, Netref, Peer, Result, Root, Server, ServerLimits, Service, Status,
    connect,
};
use farref_integration_tests::bench::{Bench, Counter, Rig};
use farref_integration_tests::media::{acquainted, runtime, within};
#[cfg(unix)]
use farref_integration_tests::program::{agent, children, signal};
use farref_integration_tests::relay::Relay;
#[cfg(unix)]
use farref_integration_tests::sshd::Sshd;

/// A server behind a wire that breaks, and how to dial it there.
struct House {
    server: Server,
    relay: Relay,
    address: String,
}

impl House {
    async fn new() -> Self {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&address)).await;
        let address = format!("plain+tcp://{}", relay.address);
        Self {
            server,
            relay,
            address,
        }
    }

    async fn client(&self) -> Connection {
        within(connect(&self.address).into_future()).await.unwrap()
    }

    async fn at_rest(self) {
        within(self.server.wait_for(|stats| stats.connections == 0)).await;
    }
}

fn socket(address: &Address) -> std::net::SocketAddr {
    let text = address.to_string();
    let (_, authority) = text.split_once("://").unwrap();
    authority.split('#').next().unwrap().parse().unwrap()
}

async fn desk(client: &Connection) -> Netref<dyn Counter> {
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    within(bench.call().counter()).await.unwrap()
}

#[test]
fn every_call_reaches_its_object_once_and_in_order_wherever_the_wire_is_cut() {
    runtime().block_on(async {
        let house = House::new().await;
        let client = house.client().await;
        let session = client.session().expect("TCP may be lost");
        let desk = desk(&client).await;
        let mut number = 0;
        // From the first byte on, and then far apart.
        for bytes in (0..120).chain((120..4000).step_by(97)) {
            house.relay.cut_after(bytes);
            let cuts = house.relay.cuts();
            while house.relay.cuts() == cuts {
                let calls: Vec<_> = (0..5)
                    .map(|_| {
                        number += 1;
                        desk.call().note(number, vec![7; 30].into()).start()
                    })
                    .collect();
                for call in calls {
                    within(call).await.unwrap();
                }
            }
        }
        let notes = within(desk.call().notes()).await.unwrap();
        assert!(
            notes.iter().copied().eq(1..=number),
            "a call was lost, repeated or overtaken"
        );
        assert_eq!(client.session(), Some(session));
        assert!(client.stats().traffic.carriers > 100, "{:?}", client.stats());
        drop(desk);
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn there_is_a_session_where_carriers_are_lost_and_where_it_is_wanted_by_both() {
    runtime().block_on(async {
        let wish = |resume| {
            let mut config = Config::default();
            config.resume = resume;
            config
        };
        for (at_server, at_client, over_memory, over_tcp) in [
            (None, None, false, true),
            (None, Some(true), true, true),
            (None, Some(false), false, false),
            (Some(false), Some(true), false, false),
        ] {
            let root = Fixed::new::<dyn Bench>(Rig::new().0);
            let server = Server::with(root, wish(at_server), ServerLimits::default(), Media::standard());
            for (address, expected) in [
                ("mem:with-or-without-a-session", over_memory),
                ("plain+tcp://127.0.0.1:0", over_tcp),
            ] {
                let address = within(server.listen(address)).await.unwrap();
                let connect = connect(&address).config(wish(at_client));
                let client = within(connect.into_future()).await.unwrap();
                let has = client.session().is_some();
                assert_eq!(has, expected, "{address}: {at_server:?} {at_client:?}");
            }
            within(server.shutdown(Duration::ZERO)).await;
        }
    });
}

/// It would wait for ever for a peer that says nothing.
#[test]
fn who_is_dialled_has_to_prove_itself_in_time() {
    runtime().block_on(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", silent.local_addr().unwrap());
        let mut config = Config::default();
        config.setup_timeout = Duration::from_millis(50);
        let connect = connect(address).trust(acquainted().1).config(config);
        let error = within(connect.into_future()).await.unwrap_err();
        assert!(error.to_string().contains("did not introduce itself"), "{error}");
    });
}

#[test]
fn bulk_and_callbacks_go_on_where_they_were() {
    runtime().block_on(async {
        let house = House::new().await;
        let client = house.client().await;
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        for after in [10_000, 1_000_000, 3_500_000] {
            house.relay.cut_after(after);
            let echo = bench.call().bytes(bytes.clone().into()).start();
            let mine = Netref::of(farref_integration_tests::bench::Count::default());
            let called = bench.call().call_back(mine, 20).start();
            assert!(within(echo).await.unwrap() == bytes);
            within(called).await.unwrap();
        }
        assert_eq!(house.relay.cuts(), 3);
        drop(bench);
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn a_session_moves_from_tcp_to_quic() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(at_server.clone());
        let tcp = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let quic = within(server.listen("quic://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&tcp)).await;
        let key = tcp.peer_key().unwrap();
        let first: Address = format!("tcp://{}#{key}", relay.address).parse().unwrap();
        let client = within(connect(first).also_at(quic).trust(at_client).into_future())
            .await
            .unwrap();
        let desk = desk(&client).await;
        for number in 1..=3 {
            within(desk.call().note(number, Vec::new().into())).await.unwrap();
        }
        let mut watch = client.watch();
        assert_eq!(within(watch.next()).await, Status::Up);
        relay.cut_after(0);
        drop(relay); // nothing answers there any more
        for number in 4..=6 {
            within(desk.call().note(number, Vec::new().into())).await.unwrap();
        }
        let notes = within(desk.call().notes()).await.unwrap();
        assert_eq!(notes, [1, 2, 3, 4, 5, 6]);
        while within(watch.next()).await != Status::Up {}
        assert!(client.stats().carrier.is_some(), "QUIC has numbers of its own");
        // Bulk goes on streams of QUIC's from here on: both sides have to know it.
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        let bytes = vec![7; 1 << 20];
        assert!(within(bench.call().bytes(bytes.clone().into())).await.unwrap() == bytes);
        drop(bench);
        drop((desk, watch));
        drop(client);
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}

/// The way without keys answered first. The server did not believe who came there, and that was the session's end.
#[test]
fn a_peer_is_not_asked_to_go_on_where_it_proves_less_than_before() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(at_server);
        let tcp = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let plain = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&tcp)).await;
        let key = tcp.peer_key().unwrap();
        let first: Address = format!("tcp://{}#{key}", relay.address).parse().unwrap();
        let client = within(connect(first).also_at(plain).trust(at_client).into_future())
            .await
            .unwrap();
        let desk = desk(&client).await;
        for round in 1..=3 {
            relay.cut_after(0);
            assert_eq!(within(desk.call().bump()).await.unwrap(), round);
        }
        assert_eq!(client.stats().traffic.carriers, 4);
    });
}

/// Shows the bench to whoever has a key, whatever it may do.
struct Benches;

impl Service for Benches {
    fn root(&self, _: &Peer) -> Result<Root> {
        Ok(Root::of(&Netref::<dyn Bench>::of(Rig::new().0)))
    }

    fn granted(&self, peer: &Peer, _: &Grant) -> Result<Root> {
        self.root(peer)
    }
}

/// A peer kept for ever what it had got by rights that it had no more: what it may do was not looked at when it came back.
#[test]
fn a_session_goes_on_with_the_rights_that_it_began_with_or_not_at_all() {
    runtime().block_on(async {
        let (listener, dialer) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let key = dialer.public();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorized_peers");
        let write = |line: String| std::fs::write(&path, line).unwrap();
        write(format!("{key}\n"));
        let pinned = listener.public();
        let trust = Trust::new(listener).authorizing(Authorized::file(&path));
        let server = Server::new(Benches).trust(trust);
        let tcp = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&tcp)).await;
        let address = format!("tcp://{}#{pinned}", relay.address);
        for (line, goes_on) in [
            (format!("{key} a comment\n"), true),
            (format!("readonly {key}\n"), false),
            ("# nobody\n".to_owned(), false),
        ] {
            write(format!("{key}\n"));
            let connect = connect(&address).trust(Trust::new(dialer.clone()));
            let client = within(connect.into_future()).await.unwrap();
            let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
            assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
            write(line.clone());
            relay.cut_after(0);
            let sum = within(bench.call().add(1, 2)).await;
            assert_eq!(sum.is_ok(), goes_on, "{line}: {sum:?}");
            if !goes_on {
                let why = within(client.closed()).await.to_string();
                assert!(why.contains("access was withdrawn"), "{why}");
            }
        }
    });
}

#[test]
fn a_call_that_must_not_wait_fails_while_there_is_no_carrier() {
    runtime().block_on(async {
        let house = House::new().await;
        let mut config = Config::default();
        config.wait_while_down = false;
        let client = within(connect(&house.address).config(config).into_future())
            .await
            .unwrap();
        let desk = desk(&client).await;
        let mut watch = client.watch();
        assert_eq!(within(watch.next()).await, Status::Up);
        let House { server, relay, .. } = house;
        relay.cut_after(0);
        drop(relay);
        drop(desk.call().bump().start()); // finds the cut
        assert!(matches!(within(watch.next()).await, Status::Down(_)));
        let error = within(desk.call().bump()).await.unwrap_err();
        assert_eq!(error.certainty(), Some(farref::Certainty::NotSent), "{error}");
        within(client.close()).await;
        drop(server);
    });
}

/// It failed as not sent, although the call that it was made on goes on.
#[test]
fn a_call_on_one_that_is_under_way_waits_with_it_where_no_other_may() {
    runtime().block_on(async {
        let (rig, _tells, gate) = Rig::new();
        let server = Server::of::<dyn Bench>(rig);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let relay = Relay::new(socket(&address)).await;
        let mut config = Config::default();
        config.wait_while_down = false;
        let connect = connect(format!("plain+tcp://{}", relay.address)).config(config);
        let client = within(connect.into_future()).await.unwrap();
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        let counter = bench.call().slow_counter();
        let before = counter.pipe().bump().start();
        assert_eq!(
            within(bench.call().add(1, 1)).await.unwrap(),
            2,
            "they have arrived"
        );
        let mut watch = client.watch();
        relay.lead_to("127.0.0.1:1".parse().unwrap()); // nothing answers there
        relay.cut_after(0);
        drop(bench.call().add(1, 1).start()); // finds the cut
        while !matches!(within(watch.next()).await, Status::Down(_)) {}
        let after = counter.pipe().bump().start();
        let error = within(bench.call().add(1, 1)).await.unwrap_err();
        assert_eq!(error.certainty(), Some(farref::Certainty::NotSent), "{error}");
        relay.lead_to(socket(&address));
        gate.send_replace(true);
        assert_eq!(within(before).await.unwrap(), 1);
        assert_eq!(within(after).await.unwrap(), 2);
    });
}

#[test]
fn a_peer_that_has_started_anew_ends_the_session_at_once() {
    runtime().block_on(async {
        let house = House::new().await;
        let client = house.client().await;
        let desk = desk(&client).await;
        within(desk.call().bump()).await.unwrap();
        // Another process: it knows nothing of the session.
        let other = Server::of::<dyn Bench>(Rig::new().0);
        let address = within(other.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        house.relay.lead_to(socket(&address));
        house.relay.cut_after(0);
        let error = within(desk.call().bump()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");
        let why = within(client.closed()).await;
        assert!(why.to_string().contains("does not know the session"), "{why}");
    });
}

#[test]
fn a_session_that_nobody_goes_on_with_ends_in_its_time() {
    runtime().block_on(async {
        let house = House::new().await;
        let mut config = Config::default();
        config.limits.resume_window = Duration::from_millis(300);
        let client = within(connect(&house.address).config(config).into_future())
            .await
            .unwrap();
        let desk = desk(&client).await;
        let House { server, relay, .. } = house;
        relay.cut_after(0);
        drop(relay);
        let error = within(desk.call().bump()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");
        let why = within(client.closed()).await.to_string();
        assert!(
            why.contains("lost its carrier") && why.contains("last attempt"),
            "{why}"
        );
        // The other side gives up as well, by the lower of both times.
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}

#[test]
fn a_process_that_ends_takes_its_sessions_with_it_at_once() {
    runtime().block_on(async {
        let mut config = Config::default();
        config.limits.resume_window = Duration::from_secs(3600);
        let (at_server, at_client) = acquainted();
        let server = Server::with(
            Fixed::new::<dyn Bench>(Rig::new().0),
            config.clone(),
            ServerLimits::default(),
            Media::standard(),
        );
        let server = server.trust(at_server);
        for address in ["plain+tcp://127.0.0.1:0", "tcp://127.0.0.1:0"] {
            let address = within(server.listen(address)).await.unwrap();
            let (config, trust) = (config.clone(), at_client.clone());
            // A runtime of its own: that ends as when `main` returns.
            let other = std::thread::spawn(move || {
                let runtime = runtime();
                let client = runtime.block_on(async {
                    let connect = connect(address).config(config).trust(trust);
                    within(connect.into_future()).await.unwrap()
                });
                assert!(client.session().is_some());
                drop(runtime);
            });
            other.join().unwrap();
            within(server.wait_for(|stats| stats.connections == 0)).await;
        }
    });
}

/// The whole grace was spent on a peer that could not come back: nothing listened any more.
#[test]
fn a_shutdown_does_not_wait_for_a_peer_without_a_carrier() {
    runtime().block_on(async {
        let house = House::new().await;
        let client = house.client().await;
        let desk = desk(&client).await;
        within(desk.call().bump()).await.unwrap();
        let House { server, relay, .. } = house;
        let host = server.connections().pop().unwrap();
        let mut watch = host.watch();
        relay.lead_to("127.0.0.1:1".parse().unwrap()); // nothing answers there
        relay.cut_after(0);
        let call = desk.call().bump().start(); // finds the cut
        while !matches!(within(watch.next()).await, Status::Down(_)) {}
        within(server.shutdown(Duration::from_secs(3600))).await;
        within(client.close()).await;
        assert!(within(call).await.is_err());
    });
}

#[test]
fn calls_may_be_given_up_while_there_is_no_carrier_and_their_deadlines_run() {
    let runtime = runtime();
    let house = runtime.block_on(House::new());
    let client = runtime.block_on(house.client());
    let desk = runtime.block_on(desk(&client));
    let to = house.relay.leads_to();
    house.relay.lead_to("127.0.0.1:1".parse().unwrap()); // nothing answers there
    let (given_up, ()) = runtime.block_on(async {
        let mut watch = client.watch();
        house.relay.cut_after(0);
        let given_up = desk.call().note(1, Vec::new().into()).start(); // finds the cut
        while !matches!(within(watch.next()).await, Status::Down(_)) {}
        let late = desk
            .call()
            .note(2, Vec::new().into())
            .timeout(Duration::from_millis(30));
        let error = within(late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        drop(desk.call().note(3, Vec::new().into()).start());
        (given_up, ())
    });
    // A thread waits as a task does.
    let thread = {
        let desk = desk.clone();
        std::thread::spawn(move || desk.bump())
    };
    drop(given_up);
    house.relay.lead_to(to);
    runtime.block_on(async {
        within(desk.call().note(4, Vec::new().into())).await.unwrap();
        let notes = within(desk.call().notes()).await.unwrap();
        // The first counts as sent; whether its cancel reaches it in time is open. The others never were.
        assert!(notes == [4] || notes == [1, 4], "{notes:?}");
        drop(client);
    });
    assert_eq!(thread.join().unwrap().unwrap(), 1);
    drop(desk);
    runtime.block_on(house.at_rest());
}

/// The program that ssh starts only passes on what it hears: the session's process is the one behind it.
#[cfg(unix)]
#[test]
fn a_session_outlives_its_ssh_and_goes_on_over_another_and_over_tcp() {
    let Some(sshd) = Sshd::start(&[]) else { return };
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = format!("unix:{}", directory.path().join("socket").display());
        let (at_server, at_client) = acquainted();
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(at_server);
        within(server.listen(socket.as_str())).await.unwrap();
        let tcp = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let ssh = sshd.address(&format!("{} relay {socket}", agent().display()));
        let connect = connect(ssh).also_at(tcp).trust(at_client);
        let client = within(connect.into_future()).await.unwrap();
        let session = client.session().expect("ssh may be lost");
        let desk = desk(&client).await;
        for number in 1..=30 {
            if number % 10 == 0 {
                for ssh in children(&sshd.path("known_hosts").display().to_string()) {
                    signal("-KILL", &ssh);
                }
            }
            within(desk.call().note(number, vec![7; 3000].into()))
                .await
                .unwrap();
        }
        let ssh = children(&sshd.path("known_hosts").display().to_string());
        drop(sshd);
        for ssh in ssh {
            signal("-KILL", &ssh);
        }
        for number in 31..=40 {
            within(desk.call().note(number, vec![7; 3000].into()))
                .await
                .unwrap();
        }
        let notes = within(desk.call().notes()).await.unwrap();
        assert!(notes.iter().copied().eq(1..=40), "{notes:?}");
        assert_eq!((client.session(), client.peer().medium), (Some(session), "tcp"));
        drop((desk, client));
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}
