//! One whole handshake with fixed keys, byte by byte, as PROTOCOL.md § 10.8 draws it.
//!
//! The bytes were computed by another implementation as well, which shares no code with this one.

use super::*;

/// Sides 1 and 2 with the ephemeral keys 11 and 12, and AES.
fn sides() -> (Side, Side) {
    let side = |role, seed| {
        let config = Config {
            suites: vec![Suite::AesGcm],
            ..config(seed)
        };
        let mut handshake = Handshake::new(role, config).unwrap();
        handshake.ephemeral = Some([seed + 10; 32]);
        handshake.start().unwrap();
        Side {
            handshake,
            input: BytesMut::new(),
            end: None,
        }
    };
    (side(Role::Dialer, 1), side(Role::Listener, 2))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[rustfmt::skip]
const FIRST: &[&str] = &[
    "a946414e", // magic
    "0101", // versions
    "00", // flags: none
    "01", // pattern: XX
    "0300", // length of the fields
    "010101", // suites: AES-256-GCM
    "2000", // length of message 1
    "73b2d8b76aa9b53660032bc8f5d8bee3a3ae4e3b3a7fd49ade81f7347a34aa68", // e: the dialer's ephemeral key
];

#[rustfmt::skip]
const SECOND: &[&str] = &[
    "a946414e0101", // magic, versions
    "01", // flags: listener
    "01", // pattern: XX
    "0300010101", // suites: AES-256-GCM
    "e000", // length of message 2
    "97c3b10b4d6c133a78ea5dcc1cf6421d3f81ae37b1f628ce14ca6fce7730f333", // e: the listener's ephemeral key
    "930f40ba81dc820a7972f40bb5ff62858303b2bbce412f3965989464423752b7", // s: its static key, sealed
    "007d7af0d1fcfbcad87c143e1ab2ba13",
    "469a946d39f39349559e787b046a21581f64a3363347180c68961c2290dfb793", // greeting, identity and signature, sealed
    "8749290a45b1c4d8be25d37ab778b4ec6e586bd3619b5ddd6558828a8f181eb4",
    "b3f2f8876b4fca1a6015fa0cec2f3e33dae5fd640f6b98f980df80fe10727f03",
    "82dae745b6b32d4a386a471bf96564df9d4c3df786f8a47481eb62b5f4d7fdf3",
    "9d0d4bc578b524719351819b13f03dc3",
];

#[rustfmt::skip]
const THIRD: &[&str] = &[
    "a000", // length of message 3
    "569b357849f536c15f3327b23279fdca19cb3ddd37ff22d595ca4f85ad05fe76", // s: the dialer's static key, sealed
    "4f19396ae6edad9e24a4b3545b505e1b",
    "20e937ab10a512c03fbed0ccdf33f2e5a82003fd638f0faeb5873c85bdeb3758", // identity and signature, sealed
    "df930e43d79d6be0e444ef6a189623b24f3f1f90b5b7e793e406b0e77a37d3ad",
    "a41d4cc749d735d19c1f4c282c7a1d0e887a7291f70eec7901f9200658cc5251",
    "eb92d7a932b1f395610cd3929bb78c55",
];

const HASH: &str = "a11691d6efdcc84f4136afc9c16014aed30f874e2f84cd84b5e5fc9e3d985e0c";

#[test]
fn a_handshake_has_its_bytes() {
    let (mut dialer, mut listener) = sides();
    let mut flights = Vec::new();
    converse(&mut dialer, &mut listener, |_, bytes| flights.push(hex(bytes)));
    assert_eq!(flights, [FIRST.concat(), SECOND.concat(), THIRD.concat()]);
    assert_eq!(hex(&dialer.made().unwrap().hash), HASH);
    assert_agreed(&mut dialer, &mut listener);
}

#[test]
fn records_have_their_bytes() {
    let (mut dialer, mut listener) = sides();
    converse(&mut dialer, &mut listener, |_, _| {});
    let wire = |side: Side, text: &[u8]| {
        let (near, far) = memory::pair(1000);
        let Some(Ok(made)) = side.end else {
            panic!("no keys")
        };
        let mut tx = RecordTx::new(near.tx, made.seal, 16 * 1024);
        assert_eq!(tx.try_write(&[IoSlice::new(text)]).unwrap(), text.len());
        drop(tx); // ends it
        let mut rx = far.rx;
        let mut into = BytesMut::with_capacity(1000);
        rx.try_read(&mut into).unwrap();
        hex(&into)
    };
    #[rustfmt::skip]
    let spoken = [
        "1300", "c3f9ae", "010521f43fc3fe15eb8a13d9f0992ea9", // "hi!"
        "1000", "50f5351e3ffe3ce95ca7ab7423f60883",           // the end
    ];
    assert_eq!(wire(dialer, b"hi!"), spoken.concat());
    let silent = ["1000", "3b387cbd85fd78918c2ebf49d4f70e26"]; // the end alone
    assert_eq!(wire(listener, b""), silent.concat());
}

#[test]
fn static_keys_have_their_bytes() {
    for (seed, public) in [
        (
            1,
            "fd40a485fe23b556825713498de3255d289f0c551320df7823fa5a35fa312428",
        ),
        (
            2,
            "ff20c36578fad7add8b9dfb937b27a13e4a1f11afec873d4d4d9595b181f6b31",
        ),
    ] {
        assert_eq!(hex(&static_public(&identity(seed)).unwrap()), public);
    }
}
