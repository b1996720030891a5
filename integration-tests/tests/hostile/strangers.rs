//! Strangers that speak something else, or nonsense.

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use farref::{Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};

/// A preface as `farref-framing` writes it, followed by `rest`.
fn flight(rest: &[u8]) -> Vec<u8> {
    use farref_framing::{Batch, Link, LinkConfig, Role, StreamKey, StreamLink};
    let mut link = StreamLink::new(LinkConfig::new(Role::Dialer, [7; 16], [9; 32]), 0);
    let mut batch = Batch::new();
    link.poll_transmit(&mut batch, 0);
    let mut bytes = batch.to_vec(StreamKey::MAIN);
    bytes.extend_from_slice(rest);
    bytes
}

/// A DATA frame on lane 0 with one message.
fn message(bytes: &[u8]) -> Vec<u8> {
    use farref_framing::{Batch, Body, Link, LinkConfig, Role, StreamKey, StreamLink};
    let mut link = StreamLink::new(LinkConfig::new(Role::Dialer, [7; 16], [9; 32]), 0);
    link.submit(bytes, Body::EMPTY).unwrap();
    let mut batch = Batch::new();
    link.poll_transmit(&mut batch, 0);
    batch.to_vec(StreamKey::MAIN)
}

#[test]
fn a_server_outlives_every_kind_of_nonsense() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let server = Server::of::<dyn Bench>(Rig::new().0);
    runtime.block_on(server.listen(&address)).unwrap();
    let honest = runtime.block_on(within(connect(&address).into_future())).unwrap();
    let bench: Netref<dyn Bench> = runtime.block_on(honest.root()).unwrap();

    let mut nonsense: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", Vec::new()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("zeros", vec![0; 4096]),
        ("half a preface", flight(&[])[..10].to_vec()),
        ("a frame of an unknown kind", flight(&[0x7f, 0, 0])),
        (
            "a frame longer than allowed",
            flight(&[0x01, 0x00, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        ("no introduction", message(&[0x02, 1, 0, 0])),
        ("an unknown message", message(&[0x6f])),
        ("an empty message", message(&[])),
    ];
    // Noise behind a good beginning, from a seed.
    let mut seed = 0x5eed_u64;
    for _ in 0..200 {
        let noise: Vec<u8> = (0..64)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            })
            .collect();
        nonsense.push(("noise", flight(&noise)));
        nonsense.push(("noise in a message", message(&noise)));
    }
    for (what, bytes) in nonsense {
        let mut stream = UnixStream::connect(&path).unwrap();
        // The server may hang up in the middle: that is an answer.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        let ended = stream.read_to_end(&mut answer);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "{what}: the server neither answered nor hung up");
        if what == "HTTP" {
            assert!(
                answer.starts_with(b"HTTP/1.1 "),
                "{:?}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    assert_eq!(
        runtime.block_on(within(bench.call().add(20, 22))).unwrap(),
        42,
        "nobody else noticed"
    );
    runtime.block_on(within(
        server.wait_for(|stats| stats.connections == 1 && stats.opening == 0),
    ));
}

#[test]
fn a_client_says_what_it_met_when_that_is_no_farref() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let address = format!("unix:{}", path.display());
    let error = runtime
        .block_on(within(connect(&address).into_future()))
        .unwrap_err();
    assert!(error.to_string().to_lowercase().contains("ssh"), "{error}");
    other.join().unwrap();
}
