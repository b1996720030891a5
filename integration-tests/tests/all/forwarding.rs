//! Connections made from the machine over there, and to it: data, ends, resets, refusals, and that all is closed again.

use std::io;
use std::sync::{Arc, Mutex};

use farref::network::{self, Network, NetworkRules, Target, Trouble};
use farref::stream::Sender;
use farref::{ByteStream, Netref};
use farref_integration_tests::media::{Pair, is_slow, over_every_medium, pair, runtime, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

fn with_rules<F: Future<Output = ()>>(
    rules: NetworkRules,
    test: impl FnOnce(Pair, Netref<dyn Network>) -> F,
) {
    runtime().block_on(async {
        let pair = pair::<dyn Network>("unix", network::share(rules)).await;
        let far = pair.root().await;
        test(pair, far).await;
    });
}

fn with_everything<F: Future<Output = ()>>(test: impl FnOnce(Pair, Netref<dyn Network>) -> F) {
    with_rules(NetworkRules::everything(), test);
}

async fn listener() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().into();
    (listener, target)
}

/// Says back what it hears, and its end.
async fn echo() -> Target {
    let (listener, target) = listener().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    target
}

/// A target that nobody listens at.
async fn nobody() -> Target {
    listener().await.1
}

async fn dial(target: &Target) -> TcpStream {
    within(TcpStream::connect(target.to_string())).await.unwrap()
}

/// Notes what is reported.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Trouble>>>);

impl Reports {
    fn note(&self) -> impl Fn(Trouble) + Send + Sync + 'static {
        let reports = Arc::clone(&self.0);
        move |trouble| reports.lock().unwrap().push(trouble)
    }

    async fn first(&self) -> Trouble {
        within(async {
            loop {
                if let Some(trouble) = self.0.lock().unwrap().first().cloned() {
                    return trouble;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// Nobody listens there any more.
async fn is_closed(target: &Target) {
    within(async {
        while TcpStream::connect(target.to_string()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn is_reset(read: &io::Result<usize>) -> bool {
    read.as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn a_connection_carries_bytes_both_ways() {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Network>(medium, network::share(NetworkRules::everything())).await;
        let far: Netref<dyn Network> = pair.root().await;
        let (mut sender, bytes) = ByteStream::channel(4);
        let target = echo().await;
        let mut connected = within(far.call().connect(target.clone(), bytes)).await.unwrap();
        assert_eq!(connected.peer, target);
        let says: Vec<u8> = (0..if is_slow(medium) { 1000 } else { 1_000_000_u32 })
            .map(|at| (at % 251) as u8)
            .collect();
        let sent = says.clone();
        let sending = tokio::spawn(async move { sender.write_all(&sent).await });
        let mut heard = Vec::new();
        within(connected.bytes.read_to_end(&mut heard)).await.unwrap();
        assert!(heard == says);
        within(sending).await.unwrap().unwrap();
        drop((connected, far));
        pair.at_rest().await;
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    with_everything(async |_pair, far| {
        let (server, target) = listener().await;
        let (local, at) = listener().await;
        let reports = Reports::default();
        let _forwarding = network::forward_local(local, &far, target, reports.note());
        let mut client = dial(&at).await;
        let (mut server, _) = within(server.accept()).await.unwrap();
        within(client.write_all(b"a question")).await.unwrap();
        within(client.shutdown()).await.unwrap();
        let mut heard = String::new();
        within(server.read_to_string(&mut heard)).await.unwrap();
        assert_eq!(heard, "a question");
        // Only now is it answered.
        within(server.write_all(b"an answer")).await.unwrap();
        drop(server);
        heard.clear();
        within(client.read_to_string(&mut heard)).await.unwrap();
        assert_eq!(heard, "an answer");
        assert!(reports.0.lock().unwrap().is_empty());
    });
}

#[test]
fn a_reset_is_carried_to_the_other_end() {
    with_everything(async |_pair, far| {
        for by_client in [true, false] {
            let (server, target) = listener().await;
            let (local, at) = listener().await;
            let reports = Reports::default();
            let _forwarding = network::forward_local(local, &far, target, reports.note());
            let client = dial(&at).await;
            let (server, _) = within(server.accept()).await.unwrap();
            let (one, mut other) = if by_client {
                (client, server)
            } else {
                (server, client)
            };
            one.set_zero_linger().unwrap();
            drop(one);
            let read = within(other.read(&mut [0])).await;
            assert!(is_reset(&read), "{read:?}");
            assert_eq!(
                reports.first().await.failure.kind(),
                io::ErrorKind::ConnectionReset
            );
        }
    });
}

#[test]
fn what_is_dropped_before_its_end_is_reset() {
    with_everything(async |_pair, far| {
        let (listener, target) = listener().await;
        let connected = async || -> (Sender<bytes::Bytes>, _, _) {
            let (sender, bytes) = ByteStream::channel(1);
            let connected = within(far.call().connect(target.clone(), bytes)).await.unwrap();
            let (server, _) = within(listener.accept()).await.unwrap();
            (sender, connected, server)
        };
        let (sender, connection, mut server) = connected().await;
        drop(connection);
        let read = within(server.read(&mut [0])).await;
        assert!(is_reset(&read), "{read:?}");
        drop(sender);
        let (sender, connection, mut server) = connected().await;
        let failed = farref::Error::msg("it broke");
        within(sender.fail(failed)).await.unwrap();
        let mut bytes = connection.bytes;
        let error = within(bytes.next()).await.unwrap();
        assert!(error.is_err());
        let read = within(server.read(&mut [0])).await;
        assert!(is_reset(&read), "{read:?}");
    });
}

#[test]
fn fifty_connections_are_forwarded_at_once() {
    with_everything(async |pair, far| {
        let (local, at) = listener().await;
        let forwarding = network::forward_local(local, &far, echo().await, |trouble| panic!("{trouble}"));
        assert_eq!(forwarding.address(), Some(&at));
        let clients: Vec<_> = (0..50_u8)
            .map(|number| {
                let at = at.clone();
                tokio::spawn(async move {
                    let (mut read, mut write) = dial(&at).await.into_split();
                    let says = vec![number; 100_000];
                    let sent = says.clone();
                    let sending = tokio::spawn(async move {
                        write.write_all(&sent).await.unwrap();
                        write.shutdown().await.unwrap();
                        write
                    });
                    let mut heard = Vec::new();
                    read.read_to_end(&mut heard).await.unwrap();
                    assert!(heard == says);
                    sending.await.unwrap();
                })
            })
            .collect();
        for client in clients {
            within(client).await.unwrap();
        }
        drop((forwarding, far));
        is_closed(&at).await;
        pair.at_rest().await;
    });
}

#[test]
fn whoever_connects_over_there_reaches_a_target_here() {
    with_everything(async |pair, far| {
        let reports = Reports::default();
        let any = Target::tcp("127.0.0.1", 0);
        let forwarding = within(network::forward_remote(&far, any, echo().await, reports.note()))
            .await
            .unwrap();
        let at = forwarding.address().unwrap().clone();
        let mut clients = Vec::new();
        for number in 0..20_u8 {
            let mut client = dial(&at).await;
            within(client.write_all(&[number; 1000])).await.unwrap();
            clients.push(client);
        }
        for (client, number) in clients.iter_mut().zip(0..) {
            let mut heard = [0; 1000];
            within(client.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, [number; 1000]);
        }
        // One that ends in order, and the others with the forwarding.
        let mut first = clients.remove(0);
        within(first.shutdown()).await.unwrap();
        assert_eq!(within(first.read(&mut [0])).await.unwrap(), 0);
        assert!(reports.0.lock().unwrap().is_empty());
        drop(forwarding);
        is_closed(&at).await;
        for mut client in clients {
            assert!(is_reset(&within(client.read(&mut [0])).await));
        }
        drop(far);
        pair.at_rest().await;
    });
}

#[test]
fn a_listener_is_closed_with_its_stream_or_its_connection() {
    with_everything(async |pair, far| {
        let any = Target::tcp("127.0.0.1", 0);
        let listening = within(far.call().listen(any.clone())).await.unwrap();
        dial(&listening.address).await;
        let at = listening.address.clone();
        drop(listening);
        is_closed(&at).await;
        let listening = within(far.call().listen(any)).await.unwrap();
        let at = listening.address.clone();
        within(pair.client.close()).await;
        is_closed(&at).await;
        drop(listening);
    });
}

/// One that listened here went on for ever.
#[test]
fn a_forwarding_ends_with_the_connection() {
    with_everything(async |pair, far| {
        let target = echo().await;
        let here = || async { listener().await.0 };
        let remote = network::forward_remote(&far, Target::tcp("127.0.0.1", 0), target.clone(), drop);
        let mut forwardings = [
            within(remote).await.unwrap(),
            network::forward_local(here().await, &far, target, drop),
            network::forward_socks(here().await, &far, drop),
        ];
        within(pair.client.close()).await;
        for forwarding in &mut forwardings {
            within(forwarding.ended()).await;
        }
    });
}

#[test]
fn a_target_that_refuses_is_told() {
    with_everything(async |_pair, far| {
        let (_sender, bytes) = ByteStream::channel(1);
        let target = nobody().await;
        let error = within(far.call().connect(target.clone(), bytes))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&target.to_string()), "{error}");
        let (local, at) = listener().await;
        let reports = Reports::default();
        let _forwarding = network::forward_local(local, &far, target.clone(), reports.note());
        let client = TcpSocket::new_v4().unwrap();
        client.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let peer = client.local_addr().unwrap();
        let at = at.to_string().parse().unwrap();
        let read = within(async { client.connect(at).await?.read(&mut [0]).await });
        assert!(
            is_reset(&read.await),
            "it is reset, not ended; maybe while it connects"
        );
        let trouble = reports.first().await;
        assert_eq!(
            trouble.failure.kind(),
            io::ErrorKind::ConnectionRefused,
            "{trouble}"
        );
        assert_eq!(trouble.peer, Some(peer.into()));
        assert_eq!(trouble.target, Some(target));
        let in_use = Target::from(listener().await.0.local_addr().unwrap());
        let _there = TcpListener::bind(in_use.to_string()).await.unwrap();
        let error = within(far.call().listen(in_use)).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn what_the_rules_do_not_allow_is_denied() {
    let (allowed, other) = runtime().block_on(async { (echo().await, nobody().await) });
    let rules = NetworkRules::nothing().connect("127.0.0.1:1-65535").unwrap();
    with_rules(rules, async |_pair, far| {
        let denied = [
            Target::tcp("localhost", 80),
            Target::tcp("127.0.0.2", 80),
            Target::tcp("127.1", 80),
            Target::tcp("0.0.0.0", 80),
            Target::tcp("::1", 80),
            Target::unix("/run/docker.sock"),
        ];
        for target in denied {
            let (_sender, bytes) = ByteStream::channel(1);
            let error = within(far.call().connect(target.clone(), bytes))
                .await
                .map(drop)
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{target}");
            assert!(error.to_string().contains(&target.to_string()), "{error}");
        }
        for at in [
            Target::tcp("127.0.0.1", 0),
            Target::tcp("0.0.0.0", 0),
            Target::unix("/tmp/x"),
        ] {
            let error = within(far.call().listen(at.clone())).await.map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{at}");
        }
        drop((allowed, other));
    });
}

#[test]
fn no_more_are_open_than_may() {
    with_rules(
        NetworkRules::everything().connections(3).listeners(1),
        async |_pair, far| {
            let target = echo().await;
            let connect = async || {
                let (sender, bytes) = ByteStream::channel(1);
                let connected = within(far.call().connect(target.clone(), bytes)).await;
                connected.map(|connected| (sender, connected))
            };
            let (first, _second) = (connect().await.unwrap(), connect().await.unwrap());
            let third = connect().await.map(drop).unwrap_err();
            assert_eq!(third.kind(), io::ErrorKind::QuotaExceeded);
            drop(first);
            let again = within(async {
                loop {
                    if let Ok(connected) = connect().await {
                        return connected;
                    }
                    tokio::task::yield_now().await;
                }
            });
            drop(again.await);
            let any = Target::tcp("127.0.0.1", 0);
            let listening = within(far.call().listen(any.clone())).await.unwrap();
            let second = within(far.call().listen(any)).await.map(drop).unwrap_err();
            assert_eq!(second.kind(), io::ErrorKind::QuotaExceeded);
            drop(listening);
        },
    );
}

/// Whoever listened held a place for the next connection: others could not connect, though none was open.
#[test]
fn to_listen_takes_no_place_of_a_connection() {
    with_rules(NetworkRules::everything().connections(1), async |_pair, far| {
        let any = || Target::tcp("127.0.0.1", 0);
        let mut first = within(far.call().listen(any())).await.unwrap();
        let mut second = within(far.call().listen(any())).await.unwrap();
        // Both wait for somebody.
        for listening in [&mut first, &mut second] {
            let dialled = dial(&listening.address).await;
            let incoming = within(listening.connections.next()).await.unwrap().unwrap();
            drop((dialled, incoming));
        }
        let target = echo().await;
        let connected = within(async {
            loop {
                let (sender, bytes) = ByteStream::channel(1);
                if let Ok(connected) = far.call().connect(target.clone(), bytes).await {
                    return (sender, connected);
                }
                tokio::task::yield_now().await;
            }
        });
        drop(connected.await);
    });
}

#[test]
fn unix_sockets_are_reached_and_made() {
    with_everything(async |pair, far| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name).display().to_string();
        let server = UnixListener::bind(path("server")).unwrap();
        let local = UnixListener::bind(path("local")).unwrap();
        let target = Target::unix(path("server"));
        let _forwarding = network::forward_local(local, &far, target.clone(), |_| ());
        let mut client = within(UnixStream::connect(path("local"))).await.unwrap();
        let (mut server_side, _) = within(server.accept()).await.unwrap();
        within(client.write_all(b"hello")).await.unwrap();
        within(client.shutdown()).await.unwrap();
        let mut heard = String::new();
        within(server_side.read_to_string(&mut heard)).await.unwrap();
        assert_eq!(heard, "hello");
        let remote = Target::unix(path("remote"));
        let forwarding = within(network::forward_remote(&far, remote.clone(), target, |_| ()))
            .await
            .unwrap();
        assert_eq!(forwarding.address(), Some(&remote));
        let mut client = within(UnixStream::connect(path("remote"))).await.unwrap();
        let (mut server_side, _) = within(server.accept()).await.unwrap();
        within(server_side.write_all(b"from here")).await.unwrap();
        let mut heard = [0; 9];
        within(client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"from here");
        drop((forwarding, client));
        within(async {
            while std::fs::exists(path("remote")).unwrap() {
                pair.client.ping().await.unwrap();
            }
        })
        .await;
    });
}

#[test]
fn a_slow_reader_holds_up_whoever_sends() {
    with_everything(async |_pair, far| {
        let (server, target) = listener().await;
        let (_sender, bytes) = ByteStream::channel(1);
        let mut connected = within(far.call().connect(target, bytes)).await.unwrap();
        let (mut server, _) = within(server.accept()).await.unwrap();
        let first = within(async {
            server.write_all(b"x").await.unwrap();
            connected.bytes.next().await
        });
        assert!(first.await.unwrap().is_ok());
        // What fits into what is on its way and what the system keeps is taken, and no more.
        let mut taken = 0_usize;
        while let Ok(written) =
            tokio::time::timeout(std::time::Duration::from_secs(1), server.write(&[0; 1 << 16])).await
        {
            taken += written.unwrap();
            assert!(taken < 64 << 20, "{taken} bytes were taken");
        }
    });
}

#[test]
fn socks_asks_whoever_connects_where_to() {
    with_rules(
        NetworkRules::nothing().connect("localhost:*").unwrap(),
        async |_pair, far| {
            let Target::Tcp { port, .. } = echo().await else {
                unreachable!()
            };
            let Target::Tcp { port: closed, .. } = nobody().await else {
                unreachable!()
            };
            let (local, at) = listener().await;
            let reports = Reports::default();
            let _forwarding = network::forward_socks(local, &far, reports.note());
            let ask = async |host: &str, port: u16| {
                let mut client = dial(&at).await;
                within(client.write_all(&[5, 2, 0, 2])).await.unwrap();
                let mut method = [0; 2];
                within(client.read_exact(&mut method)).await.unwrap();
                assert_eq!(method, [5, 0]);
                let mut request = vec![5, 1, 0, 3, host.len() as u8];
                request.extend_from_slice(host.as_bytes());
                request.extend_from_slice(&port.to_be_bytes());
                within(client.write_all(&request)).await.unwrap();
                let mut answer = [0; 10];
                within(client.read_exact(&mut answer)).await.unwrap();
                assert_eq!((answer[0], answer[2], answer[3]), (5, 0, 1));
                (client, answer[1])
            };
            let (mut client, code) = ask("localhost", port).await;
            assert_eq!(code, 0);
            within(client.write_all(b"hello")).await.unwrap();
            let mut heard = [0; 5];
            within(client.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"hello");
            assert_eq!(ask("localhost", closed).await.1, 5, "refused");
            assert_eq!(ask("127.0.0.1", port).await.1, 2, "not allowed");
            let mut client = dial(&at).await;
            within(client.write_all(b"GET / HTTP/1.1\r\n\r\n")).await.unwrap();
            // The end, or a reset as there is more to read.
            let _ = within(client.read(&mut [0])).await;
            let told = within(async {
                loop {
                    let told = reports.0.lock().unwrap().len();
                    if told == 3 {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
            told.await;
        },
    );
}
