//! Both ends in Rust: what a server and a dialer make of addresses of peers that speak RPyC. With peers in Python, and
//! those of the other generation, in `integration-tests`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::{Peer, Root, remote};
use farref_transport::{Address, Media};
use tokio::sync::Notify;

use crate::{Server, ServerLimits, Service, connect};

#[remote]
trait Doubler {
    fn double(&self, number: i64) -> Result<i64>;
}

struct Own;

impl Doubler for Own {
    fn double(&self, number: i64) -> Result<i64> {
        Ok(number * 2)
    }
}

async fn double(address: impl crate::IntoAddress, number: i64) -> Result<i64> {
    let connection = connect(address).await?;
    let doubler = connection.root::<dyn Doubler>().await?;
    let doubled = doubler.call().double(number).await;
    connection.close().await;
    doubled
}

#[tokio::test]
async fn both_generations_are_served_at_one_address_and_with_threads_or_without() {
    let server = Server::of::<dyn Doubler>(Own);
    let local = server.listen("rpyc+mem:rpyc-both").await.unwrap();
    assert_eq!(local.to_string(), "rpyc+mem:rpyc-both");
    for options in [
        "",
        "?generation=5",
        "?generation=6",
        "?bind-threads",
        "?generation=5&bind-threads",
    ] {
        let address = format!("rpyc+mem:rpyc-both{options}");
        assert_eq!(double(&address, 21).await.unwrap(), 42, "{address}");
    }
    assert_eq!(server.stats().accepted, 5);
    server.shutdown(Duration::from_secs(60)).await;
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn where_to_dial_is_told_in_the_words_of_the_dialect() {
    let server = Server::of::<dyn Doubler>(Own);
    let local = server.listen("rpyc://127.0.0.1:0").await.unwrap();
    assert!(local.to_string().starts_with("rpyc://127.0.0.1:"), "{local}");
    assert_eq!(double(&local, 4).await.unwrap(), 8);
    drop(server);
    let error = double(&local, 4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Carrier);
    assert!(error.to_string().contains(&format!("`{local}`")), "{error}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_in_and_keeps_nobody_from_anything() {
    let limits = ServerLimits {
        connections: 1,
        ..ServerLimits::default()
    };
    let mut config = farref_netref::Config::default();
    config.setup_timeout = Duration::from_millis(1);
    let service = crate::Fixed::new::<dyn Doubler>(Own);
    let server = Server::with(service, config, limits, Media::standard());
    server.listen("rpyc+mem:rpyc-silent").await.unwrap();
    let address: Address = "mem:rpyc-silent".parse().unwrap();
    let silent = Media::standard().dial(&address).await.unwrap();
    server.wait_for(|stats| stats.connections == 1).await;
    // It takes a place as everybody, so there is none left.
    assert!(double("rpyc+mem:rpyc-silent", 1).await.is_err());
    assert_eq!(server.wait_for(|stats| stats.refused == 1).await.connections, 1);
    drop(silent);
    server
        .wait_for(|stats| stats.connections == 0 && stats.opening == 0)
        .await;
    assert_eq!(double("rpyc+mem:rpyc-silent", 1).await.unwrap(), 2);
    let _silent = Media::standard().dial(&address).await.unwrap();
    server.wait_for(|stats| stats.connections == 1).await;
    server.shutdown(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_disconnected() {
    let server = Server::of::<dyn Doubler>(Own);
    server.listen("rpyc+mem:rpyc-other").await.unwrap();
    let error = double("mem:rpyc-other", 1).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Misuse, "{error}");
    server.wait_for(|stats| stats.connections == 0).await;
}

#[tokio::test]
async fn who_is_not_let_in_by_the_service_gets_no_connection() {
    struct Closed;
    impl Service for Closed {
        fn root(&self, _: &Peer) -> Result<Root> {
            Err(Error::new(ErrorKind::Denied, "closed today"))
        }
    }
    let server = Server::new(Closed);
    server.listen("rpyc+mem:rpyc-closed").await.unwrap();
    assert!(double("rpyc+mem:rpyc-closed", 1).await.is_err());
    assert_eq!(server.wait_for(|stats| stats.refused == 1).await.connections, 0);
}

#[cfg(feature = "noise")]
#[tokio::test]
async fn a_key_that_nobody_can_prove_is_not_passed_over() {
    let key = farref_transport::address::PeerKey::new([7; 32]);
    let address: Address = "rpyc+mem:rpyc-keyed".parse().unwrap();
    let error = connect(address.with_peer_key(key)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
}

#[tokio::test]
async fn a_medium_of_many_streams_is_refused() {
    let server = Server::of::<dyn Doubler>(Own);
    server.listen("rpyc+mem:rpyc-muxed?mux=1").await.unwrap();
    let error = double("rpyc+mem:rpyc-muxed?mux=1", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// Its children speak what is farref's own: Python peers would have waited for ever.
#[cfg(all(unix, feature = "activation"))]
#[tokio::test]
async fn a_process_for_each_connection_is_not_promised_to_python_peers() {
    let command = || tokio::process::Command::new("true");
    let listening =
        crate::isolated::Isolated::listen("rpyc://127.0.0.1:0", ServerLimits::default(), command).await;
    let error = listening.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Address, "{error}");
    assert!(error.to_string().contains("`rpyc://127.0.0.1:0`"), "{error}");
}

/// Answers when it is told to.
#[remote]
trait Slow {
    async fn wait(&self) -> Result<i64>;
}

#[derive(Clone, Default)]
struct Waiting {
    begun: Arc<Notify>,
    end: Arc<Notify>,
}

#[remote]
impl Slow for Waiting {
    async fn wait(&self) -> Result<i64> {
        self.begun.notify_one();
        self.end.notified().await;
        Ok(42)
    }
}

#[tokio::test]
async fn calls_of_python_peers_are_counted_and_those_under_way_end_before_a_shutdown() {
    let limits = ServerLimits {
        calls: Some(1),
        ..ServerLimits::default()
    };
    let waiting = Waiting::default();
    let service = crate::Fixed::new::<dyn Slow>(waiting.clone());
    let server = Server::with(
        service,
        farref_netref::Config::default(),
        limits,
        Media::standard(),
    );
    server.listen("rpyc+mem:rpyc-slow").await.unwrap();
    let first = connect("rpyc+mem:rpyc-slow").await.unwrap();
    let second = connect("rpyc+mem:rpyc-slow").await.unwrap();
    let slow = first.root::<dyn Slow>().await.unwrap();
    let begun = slow.call().wait().start();
    waiting.begun.notified().await;
    let slow = second.root::<dyn Slow>().await.unwrap();
    let error = slow.call().wait().await.unwrap_err();
    assert!(error.to_string().contains("takes no more"), "{error}");
    let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(60)));
    while connect("rpyc+mem:rpyc-slow").await.is_ok() {}
    waiting.end.notify_one();
    assert_eq!(begun.await.unwrap(), 42);
    shutdown.await.unwrap();
    first.closed().await;
}

#[remote]
trait Threads {
    async fn has_own(&self) -> Result<bool>;
}

struct Thread;

#[remote]
impl Threads for Thread {
    async fn has_own(&self) -> Result<bool> {
        Ok(std::thread::current().name() == Some("farref-connection"))
    }
}

#[cfg(unix)]
#[tokio::test]
async fn so_many_peers_in_python_have_a_thread_each_and_no_more() {
    let limits = ServerLimits {
        python_threads: 1,
        ..ServerLimits::default()
    };
    let service = crate::Fixed::new::<dyn Threads>(Thread);
    let server = Server::with(
        service,
        farref_netref::Config::default(),
        limits,
        Media::standard(),
    );
    let directory = tempfile::tempdir().unwrap();
    let address = format!("rpyc+unix:{}/socket", directory.path().display());
    server.listen(address.as_str()).await.unwrap();
    for _ in 0..3 {
        let first = connect(address.as_str()).await.unwrap();
        let own = first.root::<dyn Threads>().await.unwrap();
        // A task serves it as long as that is awake.
        while !own.call().has_own().await.unwrap() {}
        let second = connect(address.as_str()).await.unwrap();
        let shared = second.root::<dyn Threads>().await.unwrap();
        for _ in 0..200 {
            assert!(!shared.call().has_own().await.unwrap());
        }
        first.close().await;
        second.close().await;
        // What is over leaves its thread to the next.
        server.wait_for(|stats| stats.connections == 0).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_service_is_told_what_the_medium_proves_of_a_python_peer() {
    struct Noting(Arc<Mutex<Vec<Peer>>>);
    impl Service for Noting {
        fn root(&self, peer: &Peer) -> Result<Root> {
            self.0.lock().unwrap().push(peer.clone());
            Ok(Root::NONE)
        }
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server::new(Noting(Arc::clone(&seen)));
    let directory = tempfile::tempdir().unwrap();
    let address = format!("rpyc+unix:{}/socket", directory.path().display());
    server.listen(address.as_str()).await.unwrap();
    let connection = connect(address.as_str()).await.unwrap();
    let own = rustix::process::getuid().as_raw();
    let peers = seen.lock().unwrap().clone();
    assert!(
        matches!(&peers[..], [Peer { evidence: farref_framing::PeerEvidence::Unix { uid, .. }, .. }] if *uid == own),
        "{peers:?}"
    );
    connection.close().await;
}

#[tokio::test]
async fn what_python_peers_may_make_a_server_keep_is_its_share_of_the_memory() {
    let limits = ServerLimits {
        connections: 4,
        memory: Some(8 << 20),
        ..ServerLimits::default()
    };
    let service = crate::Fixed::new::<dyn Doubler>(Own);
    let server = Server::with(
        service,
        farref_netref::Config::default(),
        limits,
        Media::standard(),
    );
    server.listen("rpyc+mem:rpyc-share").await.unwrap();
    assert_eq!(double("rpyc+mem:rpyc-share", 1).await.unwrap(), 2);
    let address: Address = "mem:rpyc-share".parse().unwrap();
    let Ok(farref_transport::Carrier::Stream(mut greedy)) = Media::standard().dial(&address).await else {
        panic!("no stream")
    };
    server.wait_for(|stats| stats.connections == 1).await;
    // The head of a frame of 1 MiB: more than twice a sixth of a fourth.
    let head = std::io::IoSlice::new(&[0, 0x10, 0, 0, 0]);
    assert_eq!(greedy.tx.try_write(&[head]).unwrap(), 5);
    server.wait_for(|stats| stats.connections == 0).await;
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn what_speaks_no_rpyc_is_named_with_what_it_may_be() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    for (answer, kind) in [
        // An alert of TLS: the message was none that it expects.
        (&b"\x15\x03\x03\x00\x02\x02\x0a"[..], ErrorKind::Malformed),
        (b"SSH-2.0-OpenSSH_9.9\r\n", ErrorKind::Malformed),
        (b"", ErrorKind::Disconnected(farref_boxing::Certainty::Unknown)),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("rpyc://{}", listener.local_addr().unwrap());
        let other = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            // So that nothing is left unread: that would be another way to end.
            let mut request = [0; 64];
            let _ = peer.read(&mut request).await.unwrap();
            peer.write_all(answer).await.unwrap();
        };
        let (connected, ()) = tokio::join!(connect(address.as_str()), other);
        let error = connected.unwrap_err();
        assert_eq!(error.kind(), kind);
        let told = format!("{error:#}");
        assert!(
            told.starts_with(&address) && told.contains("`rpyc+ssl`"),
            "{told}"
        );
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn what_hinders_listening_is_told_of_the_address_as_it_was_written() {
    let server = Server::of::<dyn Doubler>(Own);
    let error = server.listen("rpyc+ssl://127.0.0.1:0").await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("`rpyc+ssl://127.0.0.1:0`") && told.contains("`cert=FILE`"),
        "{told}"
    );
}
