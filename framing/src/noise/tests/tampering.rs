//! A hand between the two sides alters, cuts, repeats and forges: nothing ever comes of it.

use proptest::prelude::*;
use snow::Builder;

use super::*;
use crate::noise::error::Breach;
use crate::noise::proof::{prove, static_secret};

/// Sides that end up with a second try, so that its bytes are altered, too.
fn tries() -> Vec<(Config, Config)> {
    let mut tries: Vec<_> = patterns()
        .into_iter()
        .map(|(_, ours, theirs)| (ours, theirs))
        .collect();
    let ordered = |config, suites: [Suite; 2]| Config {
        suites: suites.to_vec(),
        ..config
    };
    tries.push((
        ordered(config(1), [Suite::AesGcm, Suite::ChaChaPoly]),
        ordered(config(2), [Suite::ChaChaPoly, Suite::AesGcm]),
    ));
    tries
}

#[test]
fn no_byte_of_a_handshake_can_be_altered() {
    for (ours, theirs) in tries() {
        for (number, flight) in flights(ours.clone(), theirs.clone()).iter().enumerate() {
            for at in 0..flight.len() {
                let bit = 1 << ((at + number) % 8);
                let (dialer, listener) = talk(ours.clone(), theirs.clone(), |flight, bytes| {
                    if flight == number {
                        bytes[at] ^= bit;
                    }
                });
                assert!(
                    dialer.made().is_none() || listener.made().is_none(),
                    "bit {bit} of byte {at} in flight {number}"
                );
                let last = number + 1 == 3 || number == 4;
                assert!(dialer.made().is_none() || last, "flight {number}, byte {at}");
            }
        }
    }
}

#[test]
fn a_handshake_cut_at_any_byte_waits_and_one_in_single_bytes_completes() {
    for (ours, theirs) in tries() {
        for (number, flight) in flights(ours.clone(), theirs.clone()).iter().enumerate() {
            for cut in 0..flight.len() {
                let (dialer, listener) = talk(ours.clone(), theirs.clone(), |flight, bytes| {
                    if flight == number {
                        bytes.truncate(cut);
                    }
                });
                let hears = if number % 2 == 0 { &listener } else { &dialer };
                assert!(
                    hears.end.is_none(),
                    "flight {number} cut at {cut}: {}",
                    hears.error()
                );
            }
        }
        let mut dialer = Side::new(Role::Dialer, ours);
        let mut listener = Side::new(Role::Listener, theirs);
        for _ in 0..3 {
            for byte in dialer.handshake.take_output() {
                listener.hear(&[byte]);
            }
            for byte in listener.handshake.take_output() {
                dialer.hear(&[byte]);
            }
        }
        assert_agreed(&mut dialer, &mut listener);
    }
}

#[test]
fn what_comes_behind_the_handshake_is_left_alone() {
    for (_, ours, theirs) in patterns() {
        let (mut dialer, mut listener) = talk(ours, theirs, |flight, bytes| {
            if flight == 2 {
                bytes.extend_from_slice(b"records");
            }
        });
        assert_agreed(&mut dialer, &mut listener);
        assert_eq!(&listener.input[..], b"records");
    }
}

#[test]
fn a_flight_of_another_handshake_is_not_taken() {
    for (ours, theirs) in tries() {
        let old = flights(ours.clone(), theirs.clone());
        let has_key = |flight: &&Vec<u8>| flight.len() > 16;
        for (number, _) in old.iter().enumerate().filter(|(_, flight)| has_key(flight)) {
            let (dialer, listener) = talk(ours.clone(), theirs.clone(), |flight, bytes| {
                if flight == number {
                    bytes.clone_from(&old[number]);
                }
            });
            assert!(
                dialer.made().is_none() || listener.made().is_none(),
                "flight {number}"
            );
        }
    }
}

/// What a listener must not believe: whoever repeats the first message of a pattern of two has proved nothing yet.
#[test]
fn a_repeated_dialer_is_not_believed() {
    for (pattern, ours, theirs) in patterns() {
        let old = flights(ours, theirs.clone());
        let mut listener = Side::new(Role::Listener, theirs);
        listener.hear(&old[0]);
        listener.hear(&old[2]);
        assert!(listener.made().is_none() && listener.end.is_some(), "{pattern}");
    }
}

#[test]
fn a_forged_demand_to_begin_again_leads_nowhere() {
    let ordered = Config {
        suites: vec![Suite::AesGcm, Suite::ChaChaPoly],
        ..config(1)
    };
    let mut dialer = Side::new(Role::Dialer, ordered.clone());
    let mut listener = Side::new(Role::Listener, config(2));
    let first = dialer.handshake.take_output();
    let mut forged = Vec::new();
    let again = Hello {
        role: Role::Listener,
        verdict: hello::Verdict::Again,
        pattern: Pattern::Xx.number(),
        suites: vec![2],
    };
    again.encode(&mut forged);
    dialer.hear(&forged);
    let mut second = dialer.handshake.take_output();
    assert_ne!(first, second);
    assert_eq!(second[6], 2, "says that it is the second");
    second[6] = 0;
    listener.hear(&second);
    dialer.hear(&listener.handshake.take_output());
    let unauthentic = Error::Unauthentic {
        message: 2,
        psk: false,
    };
    assert_eq!(dialer.error(), unauthentic.to_string());
    // and not twice
    let mut dialer = Side::new(Role::Dialer, ordered);
    dialer.hear(&forged);
    dialer.hear(&forged);
    assert_eq!(dialer.error(), Error::from(Breach::HelloOutOfPlace).to_string());
}

/// A dialer that is ours but for what it proves, and for its ephemeral key.
fn forged_dialer(payload: &[u8], secret: &[u8; 32], listener: &mut Side) {
    let mut hello = Vec::new();
    let greeting = Hello {
        role: Role::Dialer,
        verdict: hello::Verdict::Go,
        pattern: Pattern::Xx.number(),
        suites: vec![1],
    };
    greeting.encode(&mut hello);
    let mut noise = Builder::new("Noise_XX_25519_AESGCM_SHA256".parse().unwrap())
        .prologue(&hello)
        .unwrap()
        .local_private_key(secret)
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut message = [0; 512];
    let put = |out: &mut Vec<u8>, message: &[u8]| {
        out.extend_from_slice(&u16::try_from(message.len()).unwrap().to_le_bytes());
        out.extend_from_slice(message);
    };
    let len = noise.write_message(&[], &mut message).unwrap();
    put(&mut hello, &message[..len]);
    listener.hear(&hello);
    let answer = listener.handshake.take_output();
    noise.read_message(&answer[15..], &mut message).unwrap();
    let len = noise.write_message(payload, &mut message).unwrap();
    let mut last = Vec::new();
    put(&mut last, &message[..len]);
    listener.hear(&last);
}

#[test]
fn an_identity_is_proved_for_the_static_key_of_this_handshake() {
    let listener = || {
        Side::new(
            Role::Listener,
            Config {
                suites: vec![Suite::AesGcm],
                ..config(2)
            },
        )
    };
    let secret = static_secret(&identity(1)).unwrap();
    let public = static_public(&identity(1)).unwrap();
    let mut heard = listener();
    forged_dialer(&prove(&identity(1), &public), &secret, &mut heard);
    assert_eq!(heard.made().unwrap().peer, Some(identity(1).public()));

    // the proof of somebody else, repeated
    let stolen = prove(&identity(3), &static_public(&identity(3)).unwrap());
    let mut heard = listener();
    forged_dialer(&stolen, &secret, &mut heard);
    assert_eq!(heard.error(), Error::from(Breach::Proof).to_string());
    assert_eq!(heard.handshake.take_output(), ALERT);

    // one's own static key with the name of somebody else
    let mut renamed = prove(&identity(1), &public);
    renamed[..32].copy_from_slice(identity(3).public().as_bytes());
    let mut heard = listener();
    forged_dialer(&renamed, &secret, &mut heard);
    assert_eq!(heard.error(), Error::from(Breach::Proof).to_string());

    // no proof at all
    let mut heard = listener();
    forged_dialer(&[], &secret, &mut heard);
    let short = Breach::MessageLength {
        message: 3,
        len: 48 + 16,
    };
    assert_eq!(heard.error(), Error::from(short).to_string());
}

#[test]
fn weak_keys_are_refused() {
    for flight in [0, 1] {
        let (dialer, listener) = talk(config(1), config(2), |number, bytes| {
            if number == flight {
                let at = if flight == 0 { 16 } else { 15 };
                bytes[at..at + 32].fill(0);
            }
        });
        let side = if flight == 0 { listener } else { dialer };
        let message = u8::try_from(flight + 1).unwrap();
        assert_eq!(side.error(), Error::from(Breach::WeakKey { message }).to_string());
    }
}

#[test]
fn a_message_of_another_length_is_refused_by_its_header() {
    for (pattern, ours, theirs) in patterns() {
        for len in [1, 15, 1024, 65535_u16] {
            let (_, listener) = talk(ours.clone(), theirs.clone(), |flight, bytes| {
                if flight == 0 {
                    bytes.truncate(14);
                    bytes.extend_from_slice(&len.to_le_bytes());
                }
            });
            let len = usize::from(len);
            let breach = Breach::MessageLength { message: 1, len };
            assert_eq!(listener.error(), Error::from(breach).to_string(), "{pattern}");
        }
    }
}

/// A listener used to close without a word where the hello itself was wrong, and a dialer that could not meet a demand:
/// the other side took that for a lost carrier, and dialled again (PROTOCOL.md § 10.5).
#[test]
fn whoever_gives_up_over_a_hello_says_so() {
    let breaches: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[8..10].copy_from_slice(&[0xff, 0xff]), // too long
        |bytes| bytes[10] = 0,                               // no field
        |bytes| bytes[6] = 2,                                // a second hello that nobody asked for
    ];
    for breach in breaches {
        let (dialer, listener) = talk(config(1), config(2), |flight, bytes| {
            if flight == 0 {
                breach(bytes);
            }
        });
        assert!(matches!(listener.end, Some(Err(Error::Misbehaved(_)))));
        assert!(
            matches!(dialer.end, Some(Err(Error::Refused))),
            "{:?}",
            dialer.end
        );
    }

    let mut dialer = Side::new(Role::Dialer, config(1));
    dialer.handshake.take_output();
    dialer.hear(b"\xa9FAN\x01\x01\x01\x01\x02\x00\x80\x00");
    let demand = Error::from(Mismatch::Demand { field: 0x80 });
    assert_eq!(dialer.error(), demand.to_string());
    assert_eq!(dialer.handshake.take_output(), ALERT);
}

#[test]
fn nothing_is_read_after_a_failure() {
    let mut listener = Side::new(Role::Listener, config(2));
    listener.hear(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(
        listener.error(),
        Error::from(Mismatch::Foreign(Foreign::Http)).to_string()
    );
    assert!(listener.handshake.take_output().starts_with(b"HTTP/1.1 400"));
    let mut input = BytesMut::from(&flights(config(1), config(2))[0][..]);
    assert!(matches!(listener.handshake.handle_bytes(&mut input), Ok(None)));
    assert!(listener.handshake.take_output().is_empty());
}

/// They used to be kept by a listener that had them before the dialer's last words, and handed out when it was asked
/// once more.
#[test]
fn keys_are_not_handed_out_after_a_failure() {
    for (pattern, ours, theirs) in patterns() {
        let (_, mut listener) = talk(ours, theirs, |flight, bytes| {
            if flight == 2 {
                bytes[0] ^= 1;
            }
        });
        assert!(matches!(listener.end, Some(Err(_))), "{pattern}");
        let mut input = BytesMut::from(&[0; 100][..]);
        let again = listener.handshake.handle_bytes(&mut input);
        assert!(matches!(again, Ok(None)), "{pattern}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(
        listens: bool,
        which in 0_usize..5,
        flight in 0_usize..3,
        keep in 0_usize..300,
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (ours, theirs) = tries().swap_remove(which);
        let whole = flights(ours.clone(), theirs.clone());
        let mut side = if listens {
            Side::new(Role::Listener, theirs)
        } else {
            Side::new(Role::Dialer, ours)
        };
        let flight = &whole[flight];
        side.hear(&flight[..keep.min(flight.len())]);
        side.hear(&garbage);
        prop_assert!(side.made().is_none());
    }
}
