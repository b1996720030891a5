//! Strangers that speak something else, or nonsense.

use std::future::IntoFuture;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use farref::{Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::siege::preface;

use super::House;

/// A preface as `farref-framing` writes it, followed by `rest`.
fn flight(rest: &[u8]) -> Vec<u8> {
    [&preface(false), rest].concat()
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

/// What the other side says to these bytes, until it hangs up.
fn said_to(house: &House, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(&house.path).unwrap();
    stream.write_all(bytes).unwrap();
    let mut said = Vec::new();
    // It may hang up with something unread.
    let _ = stream.read_to_end(&mut said);
    said
}

/// A preface with these versions, flags and fields.
fn of(versions: [u8; 2], flags: u8, fields: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xa9, 0x46, 0x41, 0x52];
    bytes.extend_from_slice(&versions);
    bytes.extend_from_slice(&[flags, 0]);
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&(fields.len() as u16).to_le_bytes());
    bytes.extend_from_slice(fields);
    bytes
}

/// PROTOCOL.md § 2.1 to § 2.6.
#[test]
fn a_preface_that_breaks_a_rule_is_refused() {
    let house = House::new();
    let mut long = of([1, 1], 0, &[]);
    long[24..].copy_from_slice(&999_u16.to_le_bytes());
    for (what, bytes) in [
        ("longer than it may be, of which the rest never comes", long),
        ("no version that this side speaks", of([2, 9], 0, &[])),
        ("versions in the wrong order", of([1, 0], 0, &[])),
        ("another listener", of([1, 1], 1, &[])),
        ("encryption, where there is none", of([1, 1], 1 << 4, &[])),
        ("a field twice", of([1, 1], 0, &[1, 1, 240, 1, 1, 240])),
        ("fields out of order", of([1, 1], 0, &[4, 1, 99, 3, 1, 9])),
        ("a fragment that is too short", of([1, 1], 0, &[1, 1, 239])),
        ("no lanes", of([1, 1], 0, &[3, 1, 0])),
        ("a value in a longer form", of([1, 1], 0, &[3, 3, 0xfb, 9, 0])),
        ("more than a value", of([1, 1], 0, &[3, 2, 9, 9])),
        ("less than a value", of([1, 1], 0, &[3, 0])),
        ("a field beyond the end", of([1, 1], 0, &[3, 9, 9])),
        ("a demand that nobody knows", of([1, 1], 0, &[0x81, 0])),
    ] {
        let said = said_to(&house, &bytes);
        assert!(said.starts_with(&[0xa9, 0x46, 0x41, 0x52]), "{what}: {said:x?}");
        let fields = usize::from(u16::from_le_bytes([said[24], said[25]]));
        let [0x0e, 0, length, code, text @ ..] = &said[26 + fields..] else {
            panic!("{what}: {said:x?}")
        };
        assert!(
            matches!(code, 1 | 2) && text.len() + 1 == usize::from(*length),
            "{what}: {said:x?}"
        );
        assert!(text.len() > 10, "{what}: it says why");
        house.stands();
    }
}

/// PROTOCOL.md § 2.1.
#[test]
fn a_listener_says_nothing_before_it_has_heard_a_preface() {
    let house = House::new();
    let mut stream = UnixStream::connect(&house.path).unwrap();
    let preface = flight(&[]);
    let (all_but_the_last, last) = preface.split_at(preface.len() - 1);
    stream.write_all(all_but_the_last).unwrap();
    house.is_answered();
    stream.set_nonblocking(true).unwrap();
    let early = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
    stream.set_nonblocking(false).unwrap();
    stream.write_all(last).unwrap();
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).unwrap();
    assert_eq!(magic, [0xa9, 0x46, 0x41, 0x52]);
    drop(stream);
    house.stands();
}
