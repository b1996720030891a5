//! Who is believed, and who is let in: over every medium that proves keys.

use std::future::IntoFuture;

use farref::keys::{Authorized, Identity, KeyStore, KnownPeers, Policy, Psk, Trust};
use farref::transport::{Address, PeerEvidence};
use farref::{Connection, ErrorKind, Netref, Result, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{acquainted, runtime, within};

const MEDIA: [&str; 2] = ["tcp", "quic"];

fn identity() -> Identity {
    Identity::generate().unwrap()
}

/// A server at a port of its own, and where it is.
async fn served(medium: &str, trust: Trust) -> (Server, Address) {
    let server = Server::of::<dyn Bench>(Rig::new().0).trust(trust);
    let address = within(server.listen(format!("{medium}://127.0.0.1:0")))
        .await
        .unwrap();
    (server, address)
}

async fn dialled(address: &Address, trust: Trust) -> Result<Connection> {
    within(connect(address).trust(trust).into_future()).await
}

async fn works(connection: &Connection) {
    let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
    assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
}

#[test]
fn an_address_that_a_server_gives_out_can_be_dialled_as_it_is() {
    runtime().block_on(async {
        for medium in MEDIA {
            let (at_server, at_client) = acquainted();
            let (key, mine) = (
                at_server.identity().unwrap().public(),
                at_client.identity().unwrap().public(),
            );
            let (server, address) = served(medium, at_server).await;
            assert_eq!(address.peer_key(), Some(&key));
            let client = dialled(&address, at_client).await.unwrap();
            works(&client).await;
            assert_eq!(client.peer().evidence, PeerEvidence::Key(*key.as_bytes()));
            assert_eq!(
                client.peer().address.as_deref(),
                Some(address.to_string().as_str())
            );
            within(server.wait_for(|stats| stats.connections == 1)).await;
            let host = server.connections().pop().unwrap();
            assert_eq!(host.peer().evidence, PeerEvidence::Key(*mine.as_bytes()));
        }
    });
}

#[test]
fn a_stranger_is_not_let_in_and_learns_which_key_to_hand_in() {
    runtime().block_on(async {
        for medium in MEDIA {
            let (at_server, _) = acquainted();
            let (_server, address) = served(medium, at_server).await;
            let stranger = identity();
            let error = dialled(&address, Trust::new(stranger.clone())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{medium}: {error}");
            assert!(
                error.to_string().contains(&stranger.public().to_string()),
                "{medium}: {error}"
            );
            assert!(
                error.to_string().contains("authorized_peers"),
                "{medium}: {error}"
            );
        }
    });
}

#[test]
fn a_key_other_than_the_pinned_one_is_refused_with_both() {
    runtime().block_on(async {
        for medium in MEDIA {
            let (at_server, at_client) = acquainted();
            let (_server, address) = served(medium, at_server).await;
            let (found, expected) = (*address.peer_key().unwrap(), identity().public());
            let error = dialled(&address.with_peer_key(expected), at_client)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{medium}: {error}");
            for key in [found, expected] {
                assert!(error.to_string().contains(&key.to_string()), "{medium}: {error}");
            }
        }
    });
}

#[test]
fn an_unknown_listener_is_believed_as_the_policy_says_and_remembered() {
    runtime().block_on(async {
        for medium in MEDIA {
            let home = tempfile::tempdir().unwrap();
            let store = KeyStore::open(home.path().join("client"));
            let mine = Trust::of_store(&store, Policy::Strict).unwrap();
            let authorized = Authorized::keys([mine.identity().unwrap().public()]);
            let (_server, address) =
                served(medium, Trust::new(identity()).authorizing(authorized.clone())).await;
            let unpinned = address.clone().without_peer_key();

            let error = dialled(&unpinned, mine.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{medium}: {error}");
            assert!(
                error.to_string().contains(&address.to_string()),
                "what would do is not said: {error}"
            );

            let accepting = Trust::of_store(&store, Policy::AcceptNew).unwrap();
            works(&dialled(&unpinned, accepting.clone()).await.unwrap()).await;
            works(&dialled(&unpinned, mine.clone()).await.unwrap()).await;

            // Somebody else at the same address.
            let text = std::fs::read_to_string(home.path().join("client/known_peers")).unwrap();
            let other = format!("{unpinned} {}", identity().public());
            std::fs::write(home.path().join("client/known_peers"), other).unwrap();
            for trust in [mine, accepting] {
                let error = dialled(&unpinned, trust).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Denied, "{medium}: {error}");
                assert!(error.to_string().contains("has changed"), "{medium}: {error}");
            }
            assert!(text.contains(&unpinned.to_string()), "{text}");
        }
    });
}

#[test]
fn who_is_added_to_the_file_is_let_in_without_a_restart() {
    runtime().block_on(async {
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::open(home.path().join("server"));
        let (_server, address) = served("tcp", Trust::of_store(&store, Policy::Strict).unwrap()).await;
        let guest = identity();
        assert!(dialled(&address, Trust::new(guest.clone())).await.is_err());
        let file = home.path().join("server/authorized_peers");
        std::fs::write(
            &file,
            format!("from=\"127.0.0.0/8\" {} a guest\n", guest.public()),
        )
        .unwrap();
        works(&dialled(&address, Trust::new(guest.clone())).await.unwrap()).await;
        std::fs::write(
            &file,
            format!("from=\"10.0.0.0/8\" {} elsewhere\n", guest.public()),
        )
        .unwrap();
        assert_eq!(
            dialled(&address, Trust::new(guest.clone()))
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Denied
        );
        // A service that does not know what is meant lets nobody in.
        std::fs::write(
            &file,
            format!("readonly {} a guest who may only look\n", guest.public()),
        )
        .unwrap();
        assert_eq!(
            dialled(&address, Trust::new(guest)).await.unwrap_err().kind(),
            ErrorKind::Denied
        );
    });
}

#[test]
fn devices_without_keys_meet_by_a_shared_secret() {
    runtime().block_on(async {
        let secret = |byte| Trust::of_psk(Psk::new([byte; 32]));
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(secret(1));
        let address = within(server.listen("noise+mem:devices")).await.unwrap();
        assert_eq!(address.to_string(), "noise+mem:devices");
        works(&dialled(&address, secret(1)).await.unwrap()).await;
        assert!(dialled(&address, secret(2)).await.is_err());
        let error = dialled(&address, Trust::new(identity())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    });
}

/// The key of whoever answered was remembered before it was known whether he has the secret: the right peer was refused
/// from then on.
#[test]
fn whoever_lacks_the_secret_is_not_remembered() {
    runtime().block_on(async {
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::open(home.path().join("client"));
        let remembered =
            || std::fs::read_to_string(home.path().join("client/known_peers")).unwrap_or_default();
        let secret = |byte| Psk::new([byte; 32]);
        let mine = Trust::of_store(&store, Policy::AcceptNew)
            .unwrap()
            .sharing(secret(1));
        let authorized = Authorized::keys([mine.identity().unwrap().public()]);
        for (byte, is_right) in [(2, false), (1, true)] {
            let theirs = Trust::new(identity()).authorizing(authorized.clone());
            let (_server, address) = served("tcp", theirs.sharing(secret(byte))).await;
            let dialled = dialled(&address.without_peer_key(), mine.clone()).await;
            assert_eq!(dialled.is_ok(), is_right, "{dialled:?}");
            assert_eq!(!remembered().is_empty(), is_right, "{}", remembered());
        }
    });
}

/// The secret was left out without a word.
#[test]
fn a_shared_secret_is_not_passed_over_where_the_medium_has_none() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let secret = || Psk::new([1; 32]);
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(at_server.sharing(secret()));
        let error = within(server.listen("quic://127.0.0.1:0")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        for trust in [at_client.sharing(secret()), Trust::of_psk(secret())] {
            let error = dialled(&"quic://127.0.0.1:1".parse().unwrap(), trust)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        }
    });
}

/// Whoever speaks something else to an encrypted listener is answered or hung up on at once, without an end of its
/// own, and without waiting for the setup to time out.
#[test]
fn a_foreign_protocol_is_turned_away_by_an_encrypted_listener() {
    use std::io::{Read, Write};
    let runtime = runtime();
    let (at_server, at_client) = acquainted();
    let mut config = farref::Config::default();
    config.setup_timeout = std::time::Duration::from_secs(60 * 60);
    let root = farref::Fixed::new::<dyn Bench>(Rig::new().0);
    let limits = farref::ServerLimits::default();
    let server = Server::with(root, config, limits, farref::transport::Media::standard()).trust(at_server);
    let address = runtime
        .block_on(within(server.listen("tcp://127.0.0.1:0")))
        .unwrap();
    let farref::transport::address::Target::Tcp { port, .. } = *address.target() else {
        panic!("{address}")
    };
    let mut tls = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    tls.resize(0x205, 7);
    for (what, says, answer) in [
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            &b"HTTP/1.1 400"[..],
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), b""),
        ("TLS", tls, &[0x15, 3]),
        ("zeros", vec![0; 4096], b""),
        (
            "a hello of another version",
            b"\xa9FAN\x07\x01\x01\x01\x01\x00".to_vec(),
            b"",
        ),
        (
            "a hello that is longer than any",
            b"\xa9FAN\x01\x01\x01\x01\xff\xff".to_vec(),
            b"",
        ),
        (
            "a message of zeros",
            [b"\xa9FAN\x01\x01\x01\x01\x20\x00".as_slice(), &[0; 32]].concat(),
            b"",
        ),
    ] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        stream.write_all(&says).unwrap();
        let mut heard = Vec::new();
        if let Err(error) = stream.read_to_end(&mut heard) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset,
                "{what}: {error}"
            );
        }
        assert!(heard.starts_with(answer), "{what}: {heard:x?}");
    }
    runtime.block_on(async {
        within(server.wait_for(|stats| stats.opening == 0)).await;
        works(&dialled(&address, at_client).await.unwrap()).await;
    });
}

#[test]
fn a_mix_of_plain_and_encrypted_is_told_on_both_sides() {
    runtime().block_on(async {
        let (at_server, at_client) = acquainted();
        let (_server, address) = served("tcp", at_server).await;
        let plain = format!("plain+{}", address.clone().without_peer_key());
        let error = within(connect(plain).into_future()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains("encrypt"), "{error}");

        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let encrypted: Address = address.to_string().trim_start_matches("plain+").parse().unwrap();
        let error = dialled(&encrypted, at_client.knowing(KnownPeers::anyone()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains("`plain+`"), "{error}");
    });
}

#[test]
fn a_dial_that_fails_speaks_of_the_address_that_was_dialled() {
    runtime().block_on(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = dialled(&format!("tcp://{free}").parse().unwrap(), acquainted().1)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Carrier, "{error}");
        assert!(error.to_string().contains(&format!("`tcp://{free}`")), "{error}");
    });
}
