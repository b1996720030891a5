use std::net::SocketAddr;
use std::time::Duration;

use farref_boxing::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{Registry, RegistryClient};
use crate::names::Names;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Longer than any test: what waits for an answer that must come.
const LONG: Duration = Duration::from_secs(120);

/// A registry, and a client for each way to it.
async fn registry(registry: Registry) -> ([super::Serving; 2], [RegistryClient; 2]) {
    let udp = registry.serve_udp(ANY).await.unwrap();
    let tcp = registry.serve_tcp(ANY).await.unwrap();
    let clients = [
        RegistryClient::udp("127.0.0.1", udp.local_address().port()).timeout(LONG),
        RegistryClient::tcp("127.0.0.1", tcp.local_address().port()).timeout(LONG),
    ];
    ([udp, tcp], clients)
}

#[tokio::test]
async fn what_is_registered_one_way_is_found_by_the_other_until_it_is_taken_back() {
    let (_serving, clients) = registry(Registry::new().listing()).await;
    for (registers, asks) in [(0, 1), (1, 0)] {
        let registered = clients[registers].register(["One", "two"], 18861).await.unwrap();
        let found = clients[asks].discover("oNE").await.unwrap();
        assert_eq!(found, ["rpyc://127.0.0.1:18861".parse().unwrap()]);
        assert_eq!(
            clients[asks].list().await.unwrap().unwrap(),
            ["ONE", "TWO"],
            "in upper case"
        );
        let elsewhere = clients[asks].list_at([10, 0, 0, 1].into()).await.unwrap();
        assert_eq!(elsewhere, Some(Vec::new()));
        registered.end().await;
        assert_eq!(clients[asks].discover("one").await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_registry_that_does_not_list_says_so() {
    let (_serving, clients) = registry(Registry::new()).await;
    assert_eq!(clients[0].list().await.unwrap(), None);
    assert_eq!(clients[1].list().await.unwrap(), None);
}

#[tokio::test]
async fn a_registry_is_one_of_those_who_are_asked_for_names() {
    let (_serving, [client, _]) = registry(Registry::new()).await;
    let _registered = client.register(["LAB"], 18861).await.unwrap();
    let found = Names::none().with(client).resolve("lab").await.unwrap();
    assert_eq!(found, ["rpyc://127.0.0.1:18861".parse().unwrap()]);
}

#[tokio::test]
async fn a_server_is_registered_again_and_again_until_that_is_dropped() {
    let registry = UdpSocket::bind(ANY).await.unwrap();
    let client = RegistryClient::udp("127.0.0.1", registry.local_addr().unwrap().port())
        .timeout(LONG)
        .repeat(Duration::from_millis(1));
    let hear = async || {
        let mut request = [0; 64];
        let (length, from) = registry.recv_from(&mut request).await.unwrap();
        registry.send_to(b"\x08\x0bOK", from).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    };
    let (registered, first) = tokio::join!(client.register(["a"], 1), hear());
    assert!(first.contains("REGISTER"));
    let registered = registered.unwrap();
    for _ in 0..5 {
        assert!(!hear().await.contains("UNREGISTER"));
    }
    drop(registered);
    while !hear().await.contains("UNREGISTER") {}
}

#[tokio::test]
async fn what_is_no_request_gets_no_reply_and_holds_nobody_up() {
    let (serving, clients) = registry(Registry::new()).await;
    let [udp, tcp] = serving.each_ref().map(super::Serving::local_address);
    let socket = UdpSocket::bind(ANY).await.unwrap();
    for packet in [&b""[..], b"\xff", &[0; 1500], &[0; 9000], b"\x12\x08\x0d"] {
        socket.send_to(packet, udp).await.unwrap();
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        // It may have been closed meanwhile.
        let _ = stream.write_all(packet).await;
        let _ = stream.shutdown().await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        assert!(reply.is_empty(), "{packet:?}: {reply:?}");
    }
    let _silent = TcpStream::connect(tcp).await.unwrap();
    let registered = clients[0].register(["a"], 1).await.unwrap();
    assert_eq!(clients[1].discover("a").await.unwrap().len(), 1);
    let mut reply = [0; 16];
    let heard = socket.try_recv(&mut reply);
    assert!(heard.is_err(), "{heard:?}");
    registered.end().await;
}

#[tokio::test]
async fn a_request_in_pieces_is_one_request() {
    let registry = Registry::new();
    let tcp = registry.serve_tcp(ANY).await.unwrap();
    let mut stream = TcpStream::connect(tcp.local_address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"\x12\x08\x0d\x52\x50\x59\x43\x08\x0e\x05\x51\x55\x45\x52\x59\x10\x08\x0c\x46\x4f\x4f" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert_eq!(reply, b"\x02");
}

#[tokio::test]
async fn who_is_not_there_or_no_registry_is_told_apart() {
    let other = UdpSocket::bind(ANY).await.unwrap();
    let client = RegistryClient::udp("127.0.0.1", other.local_addr().unwrap().port());
    let replies = async {
        let mut request = [0; 64];
        let (_, from) = other.recv_from(&mut request).await.unwrap();
        other.send_to(b"\x51", from).await.unwrap();
    };
    let patient = client.clone().timeout(LONG);
    let (found, ()) = tokio::join!(patient.discover("a"), replies);
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Incompatible);
    let silent = client.timeout(Duration::from_millis(1)).discover("a").await;
    let error = silent.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Carrier);
    assert!(
        error.to_string().contains("no registry answered at 127.0.0.1"),
        "{error}"
    );
    let misused = RegistryClient::broadcast().register(["n".repeat(1500)], 1).await;
    assert_eq!(misused.unwrap_err().kind(), ErrorKind::Misuse);
}

/// 127.255.255.255 reaches who listens at every address, on systems where the loopback has broadcasts.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_registry_is_found_by_broadcast() {
    let registry = Registry::new();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let serving = registry.serve_udp(everywhere).await.unwrap();
    let to = SocketAddr::new([127, 255, 255, 255].into(), serving.local_address().port());
    let client = RegistryClient::broadcast_to(to).timeout(LONG);
    let _registered = client.register(["a"], 18861).await.unwrap();
    let found = client.discover("a").await.unwrap();
    assert_eq!(found, ["rpyc://127.0.0.1:18861".parse().unwrap()]);
}
