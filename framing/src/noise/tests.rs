use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use farref_transport::{ByteRx, ByteTx, memory};
use proptest::prelude::*;

use super::*;
use crate::error::{LinkError, Mismatch};
use crate::{Batch, Link, LinkConfig, StreamKey, StreamLink};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

async fn write_all(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[io::IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::future::poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    std::future::poll_fn(|cx| tx.poll_flush(cx)).await
}

async fn read_some(rx: &mut dyn ByteRx) -> io::Result<BytesMut> {
    let mut into = BytesMut::with_capacity(4096);
    std::future::poll_fn(|cx| rx.poll_read(cx, &mut into)).await?;
    Ok(into)
}

/// Sends `amount` bytes, closes, and returns what is heard meanwhile.
async fn talk(carrier: StreamCarrier, says: Vec<u8>) -> Vec<u8> {
    let StreamCarrier { mut rx, mut tx, .. } = carrier;
    let write = async {
        write_all(&mut *tx, &says).await.unwrap();
        std::future::poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
    };
    let read = async {
        let mut heard = Vec::new();
        loop {
            let some = read_some(&mut *rx).await.unwrap();
            if some.is_empty() {
                return heard;
            }
            heard.extend_from_slice(&some);
        }
    };
    let ((), heard) = tokio::join!(write, read);
    heard
}

type Ends = (Result<Secured, Error>, Result<Secured, Error>);

async fn joined(buffer: usize, dialer: Config, listener: Config) -> Ends {
    let (near, far) = memory::pair(buffer);
    tokio::join!(
        secure(near, Role::Dialer, dialer),
        secure(far, Role::Listener, listener)
    )
}

fn key_of(secured: &Secured) -> Option<PeerKey> {
    match secured.carrier.info.peer {
        PeerEvidence::Key(key) => Some(PeerKey::new(key)),
        _ => None,
    }
}

#[test]
fn either_side_knows_the_others_key_and_both_share_a_binding() {
    block_on(async {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            for psk in [None, Some(Psk::new([9; 32]))] {
                let (one, other) = (identity(), identity());
                let config = |identity: &Identity| Config {
                    psk: psk.clone(),
                    suite,
                    ..Config::of(identity.clone())
                };
                let (dialer, listener) = joined(16, config(&one), config(&other)).await;
                let (dialer, listener) = (dialer.unwrap(), listener.unwrap());
                assert_eq!(key_of(&dialer), Some(other.public()));
                assert_eq!(key_of(&listener), Some(one.public()));
                let binding = dialer.carrier.info.channel_binding;
                assert!(dialer.carrier.info.confidential && binding.is_some());
                assert_eq!(binding, listener.carrier.info.channel_binding);
                let says = |salt: usize| (0..100_000).map(|n| (n * 31 + salt) as u8).collect::<Vec<_>>();
                let (heard, told) =
                    tokio::join!(talk(dialer.carrier, says(1)), talk(listener.carrier, says(2)));
                assert!(heard == says(2) && told == says(1));
            }
        }
    });
}

#[test]
fn devices_without_identity_meet_by_a_shared_secret() {
    block_on(async {
        let config = |byte| Config::of_psk(Psk::new([byte; 32]));
        let (dialer, listener) = joined(1, config(1), config(1)).await;
        let (dialer, listener) = (dialer.unwrap(), listener.unwrap());
        assert_eq!((key_of(&dialer), key_of(&listener)), (None, None));
        let (heard, told) = tokio::join!(
            talk(dialer.carrier, vec![1; 500]),
            talk(listener.carrier, vec![2; 500])
        );
        assert!(heard == [2; 500] && told == [1; 500]);
        let (dialer, listener) = joined(64, config(1), config(2)).await;
        assert!(matches!(listener, Err(Error::Failed)));
        assert!(dialer.is_err());
        let (dialer, listener) = joined(64, Config::of(identity()), config(2)).await;
        assert!(matches!(
            dialer,
            Err(Error::Setup {
                ours: "XX",
                theirs: "NNpsk0"
            })
        ));
        assert!(matches!(
            listener,
            Err(Error::Setup {
                ours: "NNpsk0",
                theirs: "XX"
            })
        ));
    });
}

#[test]
fn another_shared_secret_lets_nobody_in() {
    block_on(async {
        let config = |byte| Config {
            psk: Some(Psk::new([byte; 32])),
            ..Config::of(identity())
        };
        let (_, listener) = joined(64, config(1), config(2)).await;
        assert!(matches!(listener, Err(Error::Failed)));
        assert_eq!(format!("{:?}", Psk::new([1; 32])), "Psk");
    });
}

#[test]
fn a_pinned_key_that_is_not_the_peers_is_told_before_the_dialer_is_known() {
    block_on(async {
        let (other, real) = (identity().public(), identity());
        let config = Config {
            pinned: Some(other),
            ..Config::of(identity())
        };
        let (dialer, listener) = joined(64, config, Config::of(real.clone())).await;
        let error = dialer.unwrap_err();
        assert!(
            matches!(error, Error::WrongKey { expected, found } if expected == other && found == real.public()),
            "{error}"
        );
        assert!(matches!(listener, Err(Error::Carrier(_))));
    });
}

#[test]
fn a_key_that_was_seen_before_saves_a_round_trip_and_an_outdated_one_costs_one() {
    block_on(async {
        let (one, other) = (identity(), identity());
        let pinned = Some(other.public());
        let first = Config {
            pinned,
            ..Config::of(one.clone())
        };
        let (dialer, _listener) = joined(64, first.clone(), Config::of(other.clone())).await;
        let peer_static = dialer.unwrap().peer_static;
        assert!(peer_static.is_some());
        for peer_static in [peer_static, Some([9; 32])] {
            let again = Config {
                peer_static,
                ..first.clone()
            };
            let (dialer, listener) = joined(64, again, Config::of(other.clone())).await;
            let (dialer, listener) = (dialer.unwrap(), listener.unwrap());
            assert_eq!(key_of(&dialer), pinned);
            assert_eq!(key_of(&listener), Some(one.public()));
            let (heard, told) = tokio::join!(
                talk(dialer.carrier, vec![1; 500]),
                talk(listener.carrier, vec![2; 500])
            );
            assert!(heard == [2; 500] && told == [1; 500]);
        }
    });
}

#[test]
fn on_a_slow_medium_little_is_sealed_at_a_time() {
    block_on(async {
        let (mut near, far) = memory::pair(1 << 20);
        near.info.fragment_hint = 160;
        let (dialer, _listener) = tokio::join!(
            secure(near, Role::Dialer, Config::of(identity())),
            secure(far, Role::Listener, Config::of(identity())),
        );
        let mut tx = dialer.unwrap().carrier.tx;
        assert_eq!(tx.try_write(&[io::IoSlice::new(&[0; 10_000])]).unwrap(), 256);
    });
}

#[test]
#[ignore = "prints how long a handshake takes, for whoever wants to know"]
fn how_long_a_handshake_takes() {
    block_on(async {
        let (one, other) = (Config::of(identity()), Config::of(identity()));
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            let (dialer, listener) = joined(4096, one.clone(), other.clone()).await;
            drop((dialer.unwrap(), listener.unwrap()));
        }
        println!("{:?} for both sides of a handshake", begun.elapsed() / 200);
    });
}

/// What a man in the middle does to one byte.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Cut,
}

/// Passes bytes on, and does harm to the byte `at`. Whether there was one.
async fn between(mut rx: Box<dyn ByteRx>, mut tx: Box<dyn ByteTx>, at: Option<usize>, harm: Harm) -> bool {
    let mut passed = 0;
    let mut harmed = false;
    while let Ok(mut some) = read_some(&mut *rx).await
        && !some.is_empty()
    {
        if let Some(at) = at.filter(|at| (passed..passed + some.len()).contains(at)) {
            harmed = true;
            match harm {
                Harm::Flip => some[at - passed] ^= 0x10,
                Harm::Cut => some.truncate(at - passed),
            }
        }
        passed += some.len();
        if write_all(&mut *tx, &some).await.is_err() || (harmed && matches!(harm, Harm::Cut)) {
            break;
        }
    }
    harmed
}

/// A handshake with harm done to one byte of one direction; `None` if it has no such byte.
async fn harmed(config: [Config; 2], from_dialer: bool, at: usize, harm: Harm) -> Option<Ends> {
    let (near, near_end) = memory::pair(256);
    let (far, far_end) = memory::pair(256);
    let there = between(near_end.rx, far_end.tx, from_dialer.then_some(at), harm);
    let back = between(far_end.rx, near_end.tx, (!from_dialer).then_some(at), harm);
    let [dialer, listener] = config;
    let ends = async {
        let dial = async {
            let dialer = secure(near, Role::Dialer, dialer).await;
            // Whoever fails hangs up.
            dialer.map(|mut secured| {
                drop(secured.carrier.tx);
                secured.carrier.tx = Box::new(Nothing);
                secured
            })
        };
        let listen = async {
            let listener = secure(far, Role::Listener, listener).await;
            listener.map(|mut secured| {
                drop(secured.carrier.tx);
                secured.carrier.tx = Box::new(Nothing);
                secured
            })
        };
        tokio::join!(dial, listen)
    };
    // Where a length was changed both sides wait: time passes only when nobody has anything to do.
    let all = async { tokio::join!(ends, there, back) };
    match tokio::time::timeout(Duration::from_secs(10), all).await {
        Ok((ends, there, back)) => (there || back).then_some(ends),
        Err(_) => Some((Err(Error::Malformed), Err(Error::Malformed))),
    }
}

struct Nothing;

impl ByteTx for Nothing {
    fn try_write(&mut self, _: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn poll_writable(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[test]
fn no_byte_of_a_handshake_can_be_changed_or_cut_off() {
    block_on(async {
        tokio::time::pause();
        let (one, other) = (identity(), identity());
        let secret = Psk::new([3; 32]);
        let static_key = {
            let (dialer, _) = joined(64, Config::of(one.clone()), Config::of(other.clone())).await;
            dialer.unwrap().peer_static
        };
        let ik = Config {
            pinned: Some(other.public()),
            peer_static: static_key,
            ..Config::of(one.clone())
        };
        let setups = [
            [Config::of(one.clone()), Config::of(other.clone())],
            [ik, Config::of(other.clone())],
            [Config::of_psk(secret.clone()), Config::of_psk(secret)],
        ];
        for (number, config) in setups.into_iter().enumerate() {
            for harm in [Harm::Flip, Harm::Cut] {
                for from_dialer in [true, false] {
                    let mut at = 0;
                    while let Some((dialer, listener)) = harmed(config.clone(), from_dialer, at, harm).await {
                        let both = dialer.is_ok() && listener.is_ok();
                        // An IK that cannot be read any more may go on as an XX: with the right keys all the same.
                        let is_fallback = number == 1 && matches!(harm, Harm::Flip) && from_dialer;
                        assert!(
                            !both || is_fallback,
                            "setup {number}: {harm:?} {from_dialer} {at}"
                        );
                        if both {
                            assert_eq!(key_of(&dialer.unwrap()), Some(other.public()));
                            assert_eq!(key_of(&listener.unwrap()), Some(one.public()));
                        }
                        at += 1;
                    }
                    assert!(at > 40, "setup {number} has more than {at} bytes");
                }
            }
        }
    });
}

#[test]
fn a_plain_dialer_is_told_to_encrypt() {
    block_on(async {
        let (near, far) = memory::pair(4096);
        let mut link = StreamLink::new(LinkConfig::new(Role::Dialer, [1; 16], [2; 32]), 0);
        let mut batch = Batch::new();
        link.poll_transmit(&mut batch, 0);
        let StreamCarrier { mut rx, mut tx, .. } = near;
        let dial = async {
            write_all(&mut *tx, &batch.to_vec(StreamKey::MAIN)).await.unwrap();
            let mut input = read_some(&mut *rx).await.unwrap();
            link.handle_bytes(StreamKey::MAIN, &mut input, false, 0)
                .unwrap_err()
        };
        let (told, listener) = tokio::join!(dial, secure(far, Role::Listener, Config::of(identity())));
        assert_eq!(told, LinkError::from(Mismatch::Encryption));
        assert!(matches!(listener, Err(Error::PeerIsPlain)));
    });
}

#[test]
fn a_listener_without_encryption_says_so() {
    block_on(async {
        let (near, far) = memory::pair(4096);
        let mut link = StreamLink::new(LinkConfig::new(Role::Listener, [1; 16], [2; 32]), 0);
        let StreamCarrier { mut rx, mut tx, .. } = far;
        let listen = async {
            let mut input = read_some(&mut *rx).await.unwrap();
            let error = link
                .handle_bytes(StreamKey::MAIN, &mut input, false, 0)
                .unwrap_err();
            let mut batch = Batch::new();
            link.poll_transmit(&mut batch, 0);
            write_all(&mut *tx, &batch.to_vec(StreamKey::MAIN)).await.unwrap();
            error
        };
        let (dialer, error) = tokio::join!(secure(near, Role::Dialer, Config::of(identity())), listen);
        assert!(matches!(dialer, Err(Error::NotHere)));
        assert_eq!(error, LinkError::from(Mismatch::Foreign(Foreign::Encrypted)));
    });
}

#[test]
fn a_foreign_protocol_is_answered_in_its_own_words() {
    block_on(async {
        let (near, far) = memory::pair(4096);
        let StreamCarrier { mut rx, mut tx, .. } = near;
        let dial = async {
            write_all(&mut *tx, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            read_some(&mut *rx).await.unwrap()
        };
        let (heard, listener) = tokio::join!(dial, secure(far, Role::Listener, Config::of(identity())));
        assert!(heard.starts_with(b"HTTP/1.1 400"));
        assert!(matches!(listener, Err(Error::Foreign(Foreign::Http))));
    });
}

#[test]
fn a_hello_is_as_the_protocol_draws_it() {
    use super::hello::{Hello, Kind};
    let hello = Hello::message(Pattern::Xx, Suite::AesGcm, 32);
    assert_eq!(hello.encoded(), [0xa9, b'F', b'A', b'N', 1, 1, 1, 1, 32, 0]);
    assert_eq!(Hello::decode(hello.encoded()), Ok(hello));
    let other = Hello {
        kind: Kind::OtherPattern,
        pattern: 4,
        suite: 2,
        len: 0,
    };
    assert_eq!(other.encoded(), [0xa9, b'F', b'A', b'N', 1, 2, 4, 2, 0, 0]);
    for (at, byte, expected) in [(4, 2, Some(2)), (5, 9, None), (8, 0, None), (9, 0x7f, None)] {
        let mut bytes = hello.encoded();
        bytes[at] = byte;
        assert_eq!(Hello::decode(bytes), Err(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn garbage_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..600), keep in 0_usize..=12, dials: bool) {
        let mut bytes = [&[0xa9, b'F', b'A', b'N', 1, 1, 1, 1, 32, 0][..keep.min(10)], &garbage].concat();
        bytes.truncate(600);
        let role = if dials { Role::Dialer } else { Role::Listener };
        let failed = block_on(async {
            let (near, mut far) = memory::pair(4096);
            write_all(&mut *far.tx, &bytes).await.unwrap();
            drop(far.tx);
            secure(near, role, Config::of(identity())).await.is_err()
        });
        prop_assert!(failed);
    }
}
