use std::future::poll_fn;
use std::io::IoSlice;

use super::*;
use crate::carrier::{ByteTx, Class, Muxed, StreamCarrier, StreamHalves};
use crate::error::{Aborted, aborted};
use crate::testing::{block_on, read_all, read_some, talk, write_all};

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn quic() -> Quic {
    Quic::new(Identity::generate().unwrap())
}

fn muxed(carrier: Carrier) -> Box<dyn Muxed> {
    match carrier {
        Carrier::Muxed(muxed) => muxed,
        Carrier::Stream(_) => panic!("QUIC has streams of its own"),
    }
}

async fn listen(quic: &Quic, at: &str) -> (Box<dyn Listener>, Address) {
    let listener = quic.listen(&address(at)).await.unwrap();
    let local = listener.local_addresses().remove(0);
    (listener, local)
}

/// Both ends of a connection, and the listener it came by.
async fn connected(options: &str) -> (Box<dyn Muxed>, Box<dyn Muxed>, Box<dyn Listener>) {
    let (mut listener, local) = listen(&quic(), &format!("quic://127.0.0.1:0{options}")).await;
    let key = *local.peer_key().unwrap();
    let local = address(&format!("{}{options}", local.without_peer_key())).with_peer_key(key);
    let dialler = quic();
    let (dialled, accepted) = tokio::join!(dialler.dial(&local), listener.accept());
    (muxed(dialled.unwrap()), muxed(accepted.unwrap()), listener)
}

fn carrier((rx, tx): StreamHalves, of: Box<dyn Muxed>) -> StreamCarrier {
    let mut carrier = StreamCarrier::from_io(tokio::io::empty(), of.info().clone());
    (carrier.rx, carrier.tx) = (rx, tx);
    carrier.with_guard(of)
}

/// The first stream, whose opener says a word, as a stream is seen with its first byte.
async fn lane0(near: &dyn Muxed, far: &dyn Muxed) -> (StreamHalves, StreamHalves) {
    let mut opened = near.open().await.unwrap();
    write_all(&mut *opened.1, b"hello").await.unwrap();
    let mut accepted = far.accept().await.unwrap();
    assert_eq!(read_some(&mut *accepted.0).await.unwrap(), "hello");
    (opened, accepted)
}

#[test]
fn both_ends_are_proved_by_their_keys_and_share_a_binding() {
    block_on(async {
        let (server, client) = (quic(), quic());
        let (mut listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        assert_eq!(local.peer_key(), Some(&server.identity.public()));
        let (dialled, accepted) = tokio::join!(client.dial(&local), listener.accept());
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let key = |quic: &Quic| PeerEvidence::Key(*quic.identity.public().as_bytes());
        assert_eq!(dialled.info().peer, key(&server));
        assert_eq!(accepted.info().peer, key(&client));
        assert!(dialled.info().confidential && dialled.info().may_be_lost);
        assert!(dialled.info().channel_binding.is_some());
        assert_eq!(dialled.info().channel_binding, accepted.info().channel_binding);
        assert_eq!(dialled.info().remote.as_ref(), Some(&local));
        let port = |address: &Option<Address>| match address.as_ref().unwrap().target() {
            Target::Quic { port, .. } => *port,
            other => panic!("{other:?}"),
        };
        assert_eq!(port(&accepted.info().remote), port(&dialled.info().local));
        assert_eq!(port(&accepted.info().local), port(&dialled.info().remote));
    });
}

#[test]
fn a_pinned_key_that_is_not_the_peers_ends_the_dial_and_is_shown() {
    block_on(async {
        let server = quic();
        let (_listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        let other = Identity::generate().unwrap().public();
        let error = quic().dial(&local.with_peer_key(other)).await.unwrap_err();
        let found = server.identity.public();
        assert!(
            matches!(&error, DialError::WrongKey { found: shown, .. } if *shown == found),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&found.to_string()) && text.contains(&other.to_string()),
            "{text}"
        );
    });
}

#[test]
fn a_key_that_is_not_pinned_is_taken_and_told() {
    block_on(async {
        let server = quic();
        let (_listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        let dialled = quic().dial(&local.without_peer_key()).await.unwrap();
        assert_eq!(
            dialled.info().peer,
            PeerEvidence::Key(*server.identity.public().as_bytes())
        );
    });
}

#[test]
fn who_shows_no_key_or_speaks_something_else_is_not_let_in() {
    block_on(async {
        let (mut listener, local) = listen(&quic(), "quic://127.0.0.1:0").await;
        let Target::Quic { port, .. } = *local.target() else {
            panic!()
        };
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        // No key.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (with_key, peers) = tls::client(&Identity::generate().unwrap(), None).unwrap();
        drop(with_key);
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(peers)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"farref/1".to_vec()];
        let keyless = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let keyless = quinn::ClientConfig::new(Arc::new(keyless));
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connection = endpoint.connect_with(keyless, to, "x").unwrap().await;
        if let Ok(connection) = connection {
            // The client of TLS 1.3 is done before the server has looked.
            connection.closed().await;
        }
        // Another protocol, another key than it has, and one of another kind.
        let me = Identity::generate().unwrap();
        let mut other_protocol = tls::client_of(&me, &me.public()).unwrap();
        other_protocol.alpn_protocols = vec![b"h3".to_vec()];
        let mut no_protocol = tls::client_of(&me, &me.public()).unwrap();
        no_protocol.alpn_protocols.clear();
        let borrowed = tls::client_of(&me, &quic().identity.public()).unwrap();
        for config in [other_protocol, no_protocol, borrowed] {
            let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(config));
            if let Ok(connection) = endpoint.connect_with(config, to, "x").unwrap().await {
                let why = connection.closed().await;
                assert!(
                    matches!(why, quinn::ConnectionError::ConnectionClosed(_)),
                    "{why}"
                );
            }
        }
        // No QUIC.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [1, 20, 1200] {
            socket.send_to(&vec![0xc3; length], to).unwrap();
        }
        // Who does it right is the next to come in.
        let dialler = quic();
        let (dialled, accepted) = tokio::join!(dialler.dial(&local), listener.accept());
        assert_eq!(
            accepted.unwrap().info().peer,
            PeerEvidence::Key(*dialler.identity.public().as_bytes())
        );
        drop(dialled.unwrap());
    });
}

#[test]
fn four_megabytes_each_way_arrive_whole() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let (opened, accepted) = lane0(&*near, &*far).await;
        talk(carrier(opened, near), carrier(accepted, far), 4 << 20).await;
    });
}

#[test]
fn what_was_written_arrives_although_everything_is_dropped_behind_it() {
    block_on(async {
        let (near, far, listener) = connected("").await;
        let (opened, (mut rx, far_tx)) = lane0(&*near, &*far).await;
        let says = vec![7; 1 << 20];
        let write = async {
            let (rx, mut tx) = opened;
            write_all(&mut *tx, &says).await.unwrap();
            drop((rx, tx, near));
        };
        let ((), heard) = tokio::join!(write, read_all(&mut *rx));
        assert!(heard.unwrap() == says);
        drop((far_tx, listener));
    });
}

#[test]
fn a_hundred_streams_at_once_are_all_heard() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let write = async {
            for number in 0..100_u8 {
                let class = [Class::Interactive, Class::Normal, Class::Bulk][usize::from(number) % 3];
                let mut tx = near.open_uni(class).await.unwrap();
                write_all(&mut *tx, &vec![number; 10_000]).await.unwrap();
                poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
                let late = tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
                assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            }
        };
        let read = async {
            let mut seen = Vec::new();
            for _ in 0..100 {
                let mut rx = far.accept_uni().await.unwrap();
                let heard = read_all(&mut *rx).await.unwrap();
                assert!(heard.len() == 10_000 && heard.iter().all(|byte| *byte == heard[0]));
                seen.push(heard[0]);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..100));
        };
        tokio::join!(write, read);
    });
}

#[test]
fn a_full_stream_refuses_and_tells_when_it_takes_again() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let mut tx = near.open_uni(Class::Bulk).await.unwrap();
        let chunk = vec![7; 64 * 1024];
        let mut written = 0;
        loop {
            match tx.try_write(&[IoSlice::new(&chunk), IoSlice::new(&chunk)]) {
                Ok(count) => written += count,
                // The window is full when it has been sent and nobody reads.
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let mut rx = far.accept_uni().await.unwrap();
        let read = async {
            let mut heard = 0;
            while heard < written {
                heard += read_some(&mut *rx).await.unwrap().len();
            }
        };
        tokio::join!(read, async { poll_fn(|cx| tx.poll_writable(cx)).await.unwrap() });
        assert!(tx.try_write(&[IoSlice::new(&chunk)]).unwrap() > 0);
    });
}

/// What streams take that nobody reads: each as much as it can.
async fn filled(near: &dyn Muxed, streams: usize) -> (usize, Vec<Box<dyn ByteTx>>) {
    let (mut written, mut open) = (0, Vec::new());
    for _ in 0..streams {
        let mut tx = near.open_uni(Class::Bulk).await.unwrap();
        while let Ok(count) = tx.try_write(&[IoSlice::new(&[7; 65_536])]) {
            written += count;
        }
        open.push(tx);
    }
    (written, open)
}

/// A peer with any key of its own could have each of its connections hold 16 MiB before it was let in.
#[test]
fn a_peer_that_is_not_let_in_fills_little_memory() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let (written, mut open) = filled(&*near, 16).await;
        assert_eq!(written, usize::try_from(FIRST_WINDOW).unwrap());
        far.widen();
        for tx in &mut open {
            poll_fn(|cx| tx.poll_writable(cx)).await.unwrap();
        }
        // Enough streams to fill it with what each may have.
        let (more, _open) = filled(&*near, 16).await;
        let all = usize::try_from(WINDOW).unwrap();
        assert!(written + more > all / 2 && written + more <= all, "{more}");
    });
}

#[test]
fn a_try_takes_no_wake_up_away() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let ((mut rx, _tx), (_far_rx, mut far_tx)) = lane0(&*near, &*far).await;
        let mut waiting = tokio::task::JoinSet::new();
        waiting.spawn(async move {
            let mut asked = false;
            poll_fn(|cx| {
                let readable = rx.poll_readable(cx);
                if readable.is_pending() {
                    let nothing = rx.try_read(&mut bytes::BytesMut::new()).unwrap_err();
                    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
                    asked = true;
                }
                readable
            })
            .await
            .unwrap();
            (asked, read_some(&mut *rx).await.unwrap())
        });
        tokio::task::yield_now().await;
        write_all(&mut *far_tx, b"wake up").await.unwrap();
        let (asked, heard) = waiting.join_next().await.unwrap().unwrap();
        assert!(asked);
        assert_eq!(heard, "wake up");
    });
}

#[test]
fn resets_stops_and_closes_are_told_with_their_codes() {
    block_on(async {
        let (near, far, _listener) = connected("").await;
        let mut tx = near.open_uni(Class::Normal).await.unwrap();
        write_all(&mut *tx, b"part").await.unwrap();
        let mut rx = far.accept_uni().await.unwrap();
        assert_eq!(read_some(&mut *rx).await.unwrap(), "part");
        tx.reset(7);
        assert_eq!(
            aborted(&read_some(&mut *rx).await.unwrap_err()),
            Some(Aborted::Reset(7))
        );
        assert_eq!(
            aborted(&read_some(&mut *rx).await.unwrap_err()),
            Some(Aborted::Reset(7)),
            "not an end"
        );

        let mut tx = near.open_uni(Class::Normal).await.unwrap();
        write_all(&mut *tx, b"part").await.unwrap();
        far.accept_uni().await.unwrap().stop(8);
        let refused = loop {
            match write_all(&mut *tx, &[0; 1 << 16]).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(aborted(&refused), Some(Aborted::Stopped(8)));

        let ((mut rx, _tx), _accepted) = lane0(&*near, &*far).await;
        far.close(9, "enough");
        assert_eq!(
            aborted(&read_some(&mut *rx).await.unwrap_err()),
            Some(Aborted::Closed(9))
        );
        assert_eq!(
            aborted(&near.open().await.err().unwrap()),
            Some(Aborted::Closed(9))
        );
        assert_eq!(
            far.open().await.err().unwrap().kind(),
            io::ErrorKind::ConnectionAborted
        );
    });
}

#[test]
fn a_dropped_accept_loses_neither_connection_nor_stream() {
    block_on(async {
        async fn is_pending<T>(future: &mut BoxFuture<'_, T>) -> bool {
            poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
        }
        let server = quic();
        let (mut listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        for _ in 0..3 {
            let mut accept = listener.accept();
            assert!(is_pending(&mut accept).await);
            drop(accept);
            let near = muxed(quic().dial(&local).await.unwrap());
            let far = muxed(listener.accept().await.unwrap());
            let mut accept = far.accept_uni();
            assert!(is_pending(&mut accept).await);
            drop(accept);
            write_all(&mut *near.open_uni(Class::Normal).await.unwrap(), b"x")
                .await
                .unwrap();
            assert_eq!(
                read_all(&mut *far.accept_uni().await.unwrap()).await.unwrap(),
                b"x"
            );
        }
    });
}

#[test]
fn an_idle_connection_is_kept_alive() {
    block_on(async {
        let (near, far, _listener) = connected("?idle=400ms&keepalive=100ms").await;
        let ((mut rx, _tx), (_far_rx, mut far_tx)) = lane0(&*near, &*far).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        write_all(&mut *far_tx, b"still here").await.unwrap();
        assert_eq!(read_some(&mut *rx).await.unwrap(), "still here");
    });
}

/// The peer's address changes in the middle of a transfer, as when a host moves from one network to another.
#[test]
fn a_change_of_address_loses_nothing() {
    block_on(async {
        let (server, client) = (quic(), quic());
        let (mut listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        let Target::Quic { port, .. } = *local.target() else {
            panic!()
        };
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let options = Options::of(&local);
        let connect = client.connect(to, options, None);
        let (connected, accepted) = tokio::join!(connect, listener.accept());
        let Connected::Yes(endpoint, connection) = connected.unwrap() else {
            panic!()
        };
        let near = QuicMuxed::new(connection.clone(), info(&connection).unwrap());
        let far = muxed(accepted.unwrap());
        let mut tx = near.open_uni(Class::Bulk).await.unwrap();
        let says: Vec<u8> = (0..8 << 20).map(|n: u32| (n % 251) as u8).collect();
        let before = endpoint.local_addr().unwrap();
        let write = async {
            for piece in says.chunks(1 << 20) {
                write_all(&mut *tx, piece).await.unwrap();
                endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            }
            poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        };
        let read = async {
            let mut rx = far.accept_uni().await.unwrap();
            read_all(&mut *rx).await.unwrap()
        };
        let ((), heard) = tokio::join!(write, read);
        assert!(heard == says);
        assert_ne!(endpoint.local_addr().unwrap(), before);
    });
}

#[test]
fn half_open_handshakes_of_one_address_keep_no_other_out() {
    block_on(async {
        let (mut listener, local) = listen(&quic(), "quic://127.0.0.1:0").await;
        let Target::Quic { port, .. } = *local.target() else {
            panic!()
        };
        // Handshakes that stop after their first word: each is from an endpoint that is gone at once.
        for _ in 0..300 {
            let (config, _) = tls::client(&Identity::generate().unwrap(), None).unwrap();
            let endpoint = Endpoint::client(([127, 0, 0, 2], 0).into()).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(config));
            let connecting = endpoint
                .connect_with(config, ([127, 0, 0, 1], port).into(), "x")
                .unwrap();
            tokio::task::yield_now().await;
            drop((connecting, endpoint));
        }
        let dialler = quic();
        let accepted = async {
            loop {
                let accepted = listener.accept().await.unwrap();
                if accepted.info().peer == PeerEvidence::Key(*dialler.identity.public().as_bytes()) {
                    return accepted;
                }
            }
        };
        let (dialled, accepted) = tokio::join!(dialler.dial(&local), accepted);
        drop((dialled.unwrap(), accepted));
    });
}

#[test]
fn a_dial_that_nobody_answers_says_what_to_look_at() {
    block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = address(&format!("quic://{}", socket.local_addr().unwrap()));
        let error = quic().dial(&to).await.unwrap_err();
        assert!(
            matches!(error, DialError::Unreachable { .. }) && error.is_transient(),
            "{error}"
        );
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("UDP"), "{why}");
        let zero = quic().dial(&address("quic://127.0.0.1:0")).await.unwrap_err();
        assert!(matches!(zero, DialError::Address { .. }), "{zero}");
        let nameless = quic()
            .dial(&address("quic://no-such-host.invalid:1"))
            .await
            .unwrap_err();
        assert!(matches!(nameless, DialError::Unresolved { .. }), "{nameless}");
    });
}

#[test]
fn every_address_means_both_families_and_a_taken_port_is_in_use() {
    block_on(async {
        let Ok(mut listener) = quic().listen(&address("quic://[::]:0")).await else {
            return; // this host has no IPv6
        };
        let Target::Quic { port, .. } = *listener.local_addresses()[0].target() else {
            panic!()
        };
        let dialler = quic();
        let v4 = address(&format!("quic://127.0.0.1:{port}"));
        let (dialled, accepted) = tokio::join!(dialler.dial(&v4), listener.accept());
        let remote = accepted.unwrap().info().remote.clone().unwrap();
        assert!(
            matches!(
                remote.target(),
                Target::Quic {
                    host: Host::V4(_),
                    ..
                }
            ),
            "{remote}"
        );
        drop(dialled.unwrap());
        let taken = quic()
            .listen(&address(&format!("quic://[::]:{port}")))
            .await
            .err()
            .unwrap();
        assert!(matches!(taken, ListenError::InUse { .. }), "{taken}");
    });
}

/// A path to `to` that holds what goes there back until it is opened, and where to dial to go by it.
async fn gated_path(to: SocketAddr) -> (SocketAddr, tokio::sync::watch::Sender<bool>) {
    let here = (Ipv4Addr::LOCALHOST, 0);
    let front = tokio::net::UdpSocket::bind(here).await.unwrap();
    let back = tokio::net::UdpSocket::bind(here).await.unwrap();
    back.connect(to).await.unwrap();
    let by = front.local_addr().unwrap();
    let (gate, mut is_open) = tokio::sync::watch::channel(true);
    tokio::spawn(async move {
        let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
        let mut dialler = None;
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut out) => {
                    dialler = Some(from);
                    while !*is_open.borrow_and_update() {
                        tokio::select! {
                            changed = is_open.changed() => changed.unwrap(),
                            Ok(length) = back.recv(&mut home) => {
                                front.send_to(&home[..length], from).await.unwrap();
                            }
                        }
                    }
                    back.send(&out[..length]).await.unwrap();
                }
                Ok(length) = back.recv(&mut home) => {
                    if let Some(dialler) = dialler {
                        front.send_to(&home[..length], dialler).await.unwrap();
                    }
                }
            }
        }
    });
    (by, gate)
}

/// What is urgent overtakes what waits already, where the path takes less than there is to send.
#[test]
fn urgent_streams_are_sent_before_others_that_wait() {
    const STREAMS: usize = 1000;
    const EACH: usize = 12_000;
    block_on(async {
        let (server, client) = (quic(), quic());
        let (mut listener, local) = listen(&server, "quic://127.0.0.1:0").await;
        let Target::Quic { port, .. } = *local.target() else {
            panic!()
        };
        let (by, gate) = gated_path(([127, 0, 0, 1], port).into()).await;
        let by = Address::quic(by).with_peer_key(server.identity.public());
        let (dialled, accepted) = tokio::join!(client.dial(&by), listener.accept());
        let (near, far) = (muxed(dialled.unwrap()), muxed(accepted.unwrap()));
        far.widen();
        let _lane0 = lane0(&*near, &*far).await;

        gate.send_replace(false);
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let mut tx = near.open_uni(Class::Bulk).await.unwrap();
            write_all(&mut *tx, &vec![b'.'; EACH]).await.unwrap();
            open.push(tx);
        }
        // The least urgent first.
        for (class, says) in [
            (Class::Bulk, b'b'),
            (Class::Normal, b'n'),
            (Class::Interactive, b'i'),
        ] {
            let mut tx = near.open_uni(class).await.unwrap();
            write_all(&mut *tx, &vec![says; EACH]).await.unwrap();
            poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            open.push(tx);
        }
        gate.send_replace(true);

        let bulk = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let accepting = async {
            loop {
                let mut rx = far.accept_uni().await.unwrap();
                let (bulk, tell) = (Arc::clone(&bulk), tell.clone());
                tokio::spawn(async move {
                    let mut whole = 0;
                    while let Ok(heard) = read_some(&mut *rx).await {
                        whole += heard.len();
                        match heard.first() {
                            Some(b'.') => {
                                bulk.fetch_add(heard.len(), std::sync::atomic::Ordering::Relaxed);
                            }
                            Some(other) if whole == EACH => tell.send(*other).unwrap(),
                            Some(_) => {}
                            None => return,
                        }
                    }
                });
            }
        };
        let mut order = Vec::new();
        let hearing = async {
            let mut bulk_before = None;
            while order.last() != Some(&b'b') {
                order.push(told.recv().await.unwrap());
                bulk_before.get_or_insert(bulk.load(std::sync::atomic::Ordering::Relaxed));
            }
            bulk_before.unwrap()
        };
        let bulk_before = tokio::select! {
            never = accepting => never,
            bulk_before = hearing => bulk_before,
        };
        // In which they were there as a whole.
        assert_eq!(order, b"inb");
        assert!(bulk_before < STREAMS * EACH / 20, "{bulk_before}");
    });
}
