//! Names: `connect("lab7")` leads to where the name does, to the peer that is expected there.

use std::future::IntoFuture;
use std::net::UdpSocket;
use std::path::Path;

use farref::keys::{Authorized, Identity, KnownPeers, Policy, Trust};
use farref::names::{HostsFile, Mdns, Names};
use farref::transport::Address;
use farref::{Connect, Connection, ErrorKind, Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};

fn hosts(directory: &Path, text: &str) -> Names {
    let path = directory.join("hosts");
    std::fs::write(&path, text).unwrap();
    Names::none().with(HostsFile::at(path))
}

async fn is_the_bench(connection: &Connection) {
    let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
    within(bench.call().counter()).await.unwrap();
}

#[test]
fn a_name_in_the_hosts_file_leads_to_the_first_of_its_addresses_that_answers() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = server.listen("mem:names-lab7").await.unwrap();
        let names = hosts(directory.path(), &format!("lab7 mem:names-nobody {address}\n"));
        let connection = made(connect("lab7").names(names.clone())).await.unwrap();
        is_the_bench(&connection).await;
        // As one more way to a peer.
        let connection = made(connect("mem:names-nobody").also_at("lab7").names(names.clone()));
        is_the_bench(&connection.await.unwrap()).await;
        let connection = made(connect("lab8").also_at("lab7").names(names.clone()));
        is_the_bench(&connection.await.expect("one that nobody knows does not answer")).await;
        let error = made(connect("lab8").names(names.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address);
        let path = directory.path().join("hosts").display().to_string();
        assert!(
            error.message().contains(&path) && error.message().contains("tcp://lab8:7000"),
            "{error}"
        );
        // What is no name is no address either.
        let error = made(connect("lab7:7000").names(names)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address);
    });
}

#[test]
fn a_key_in_the_hosts_file_is_the_only_one_that_is_taken() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (server, address) = secured().await;
        let names = hosts(directory.path(), &format!("lab7 {address}\n"));
        let known = KnownPeers::file(directory.path().join("known_peers"), Policy::Strict);
        let connection = made(connect("lab7").names(names).trust(dialler(known.clone()))).await;
        is_the_bench(&connection.unwrap()).await;
        let other = Identity::generate().unwrap().public();
        let names = hosts(
            directory.path(),
            &format!("lab7 {}\n", address.with_peer_key(other)),
        );
        let error = made(connect("lab7").names(names).trust(dialler(known)))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        drop(server);
    });
}

#[test]
fn an_announced_name_is_found_and_its_key_is_believed_only_if_it_is_known() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (_server, address) = secured().await;
        let known = KnownPeers::file(directory.path().join("known_peers"), Policy::Strict);
        // A network of our own: nobody else speaks on that port.
        let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let network = Mdns::of_user().on_port(port).believing(known.clone());
        let announcement = network.announce("lab7", &address).unwrap();
        let names = Names::none().with(network.clone());
        let dial = |names: &Names| {
            let connect = connect("LAB7").names(names.clone()).trust(dialler(known.clone()));
            made(connect)
        };
        let error = dial(&names).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains("known_peers"), "{error}");
        known
            .add("tcp://elsewhere:7000", address.peer_key().unwrap(), "the lab")
            .unwrap();
        is_the_bench(&dial(&names).await.unwrap()).await;
        // Somebody else by the same name has another key.
        drop(announcement);
        let (_impostor, elsewhere) = secured().await;
        let impostor = network.announce("lab9", &elsewhere).unwrap();
        let connect = connect("lab9").names(names.clone()).trust(dialler(known.clone()));
        let error = made(connect).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        drop(impostor);
        // What anybody could read and forge is not announced.
        for plain in ["plain+tcp://127.0.0.1:7000", "mem:names-plain", "unix:/run/x"] {
            let error = network.announce("lab7", &plain.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        }
        let error = network.announce("two words", &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        let error = within(names.resolve("nobody-is-called-so")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address, "{error}");
    });
}

async fn made(connect: Connect) -> farref::Result<Connection> {
    within(connect.into_future()).await
}

async fn secured() -> (Server, Address) {
    let identity = Identity::generate().unwrap();
    let trust = Trust::new(identity).authorizing(Authorized::anyone());
    let server = Server::of::<dyn Bench>(Rig::new().0).trust(trust);
    let address = server.listen("tcp://127.0.0.1:0").await.unwrap();
    (server, address)
}

fn dialler(known: KnownPeers) -> Trust {
    Trust::new(Identity::generate().unwrap()).knowing(known)
}
