//! Which pattern, which suite, whose key: what comes of each pair of configurations.

use super::*;
use crate::noise::error::{Breach, Mismatch, Misuse};

#[test]
fn each_pattern_proves_what_it_should() {
    for (pattern, ours, theirs) in patterns() {
        for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
            let only = |config: &Config| Config {
                suites: vec![suite],
                ..config.clone()
            };
            let (mut dialer, mut listener) = talk(only(&ours), only(&theirs), |_, _| {});
            assert_agreed(&mut dialer, &mut listener);
            let (ours, theirs) = (dialer.made().unwrap(), listener.made().unwrap());
            assert_eq!((ours.pattern, ours.suite), (pattern, suite));
            let proved = |seed| (pattern != Pattern::NnPsk0).then(|| identity(seed).public());
            assert_eq!((ours.peer, theirs.peer), (proved(2), proved(1)));
            let known = |seed| proved(seed).and_then(|_| static_public(&identity(seed)));
            assert_eq!((ours.peer_static, theirs.peer_static), (known(2), known(1)));
        }
    }
}

#[test]
fn a_handshake_is_three_flights() {
    for (pattern, ours, theirs) in patterns() {
        let lens: Vec<_> = flights(ours, theirs).iter().map(Vec::len).collect();
        let expected = match pattern {
            Pattern::Xx => [14 + 34, 13 + 226, 162],
            Pattern::Ik => [14 + 194, 13 + 178, 18],
            Pattern::XxPsk3 => [14 + 50, 13 + 226, 162],
            Pattern::NnPsk0 => [14 + 50, 13 + 82, 18],
        };
        assert_eq!(lens, expected, "{pattern}");
    }
}

#[test]
fn two_handshakes_have_nothing_in_common() {
    let run = || {
        let (dialer, _) = talk(config(1), config(2), |_, _| {});
        dialer.made().unwrap().hash
    };
    assert_ne!(run(), run());
}

#[test]
fn the_suite_is_the_one_that_suits_both_and_a_dialer_begins_again_for_it() {
    use Suite::{AesGcm as Aes, ChaChaPoly as ChaCha};
    let orders: [&[Suite]; 4] = [&[Aes, ChaCha], &[ChaCha, Aes], &[Aes], &[ChaCha]];
    for (pattern, ours, theirs) in patterns() {
        for our in orders {
            for their in orders {
                let with = |config: &Config, suites: &[Suite]| Config {
                    suites: suites.to_vec(),
                    ..config.clone()
                };
                let mut count = 0;
                let (mut dialer, mut listener) =
                    talk(with(&ours, our), with(&theirs, their), |_, _| count += 1);
                let Some(chosen) = Suite::choose(their, our) else {
                    let error = Error::from(Mismatch::Suite).to_string();
                    assert_eq!((dialer.error(), listener.error()), (error.clone(), error));
                    continue;
                };
                assert_agreed(&mut dialer, &mut listener);
                let made = dialer.made().unwrap();
                assert_eq!(made.suite, chosen, "{our:?} {their:?}");
                let again = chosen != our[0];
                assert_eq!(count, if again { 5 } else { 3 });
                let expected = if again && pattern == Pattern::Ik {
                    Pattern::Xx
                } else {
                    pattern
                };
                assert_eq!(made.pattern, expected);
            }
        }
    }
}

#[test]
fn a_stale_static_key_costs_a_second_try_and_no_more() {
    let stale = Config {
        peer_static: static_public(&identity(3)),
        expected: Some(identity(2).public()),
        ..config(1)
    };
    let mut count = 0;
    let (mut dialer, mut listener) = talk(stale, config(2), |_, _| count += 1);
    assert_agreed(&mut dialer, &mut listener);
    let made = dialer.made().unwrap();
    assert_eq!((made.pattern, count), (Pattern::Xx, 5));
    assert_eq!(made.peer_static, static_public(&identity(2)));
}

#[test]
fn another_key_than_the_pinned_one_ends_it_before_anything_is_told() {
    let pin = identity(3).public();
    for peer_static in [None, static_public(&identity(2))] {
        let pinned = Config {
            expected: Some(pin),
            peer_static,
            ..config(1)
        };
        let is_ik = peer_static.is_some();
        let mut told = Vec::new();
        let (dialer, listener) = talk(pinned, config(2), |_, bytes| told.push(bytes.clone()));
        let Some(Err(Error::Untrusted { expected, proved })) = dialer.end else {
            panic!("{:?}", dialer.end);
        };
        assert_eq!((expected, proved), (pin, identity(2).public()));
        assert!(dialer.error_text_names(&[pin, identity(2).public()]));
        assert_eq!(told[2], ALERT, "ik: {is_ik}");
        assert!(matches!(listener.end, Some(Err(Error::Refused))));
    }
}

impl Side {
    fn error_text_names(&self, keys: &[PeerKey]) -> bool {
        let Some(Err(error)) = &self.end else { return false };
        keys.iter()
            .all(|key| error.to_string().contains(&key.to_string()))
    }
}

#[test]
fn a_listener_has_pins_too() {
    for (_, ours, theirs) in &patterns()[..3] {
        let pinned = |seed| Config {
            expected: Some(identity(seed).public()),
            ..theirs.clone()
        };
        let (mut dialer, mut listener) = talk(ours.clone(), pinned(1), |_, _| {});
        assert_agreed(&mut dialer, &mut listener);
        let (_, listener) = talk(ours.clone(), pinned(3), |_, _| {});
        assert!(matches!(listener.end, Some(Err(Error::Untrusted { .. }))));
    }
}

#[test]
fn another_pre_shared_key_ends_it() {
    let (dialer, listener) = talk(with_psk(config(1), 9), with_psk(config(2), 8), |_, _| {});
    let unauthentic = |message| Error::Unauthentic { message, psk: true }.to_string();
    assert_eq!(listener.error(), unauthentic(3));
    assert_eq!(&dialer.input[..], ALERT, "instead of a first record");
    let shared = |psk| Config::shared(Psk::new([psk; 32]));
    let (dialer, listener) = talk(shared(9), shared(8), |_, _| {});
    assert_eq!(listener.error(), unauthentic(1));
    assert_eq!(dialer.error(), Error::Refused.to_string());
}

#[test]
fn sides_that_are_set_up_otherwise_say_how() {
    let all = patterns();
    for (ours, dialer, _) in &all {
        for (theirs, _, listener) in &all {
            let can = |pattern: Pattern| match pattern {
                Pattern::Ik => Pattern::Xx,
                other => other,
            };
            let (dialer, listener) = talk(dialer.clone(), listener.clone(), |_, _| {});
            if can(*ours) == can(*theirs) {
                assert!(dialer.made().is_some() && listener.made().is_some());
                continue;
            }
            let mismatch = |theirs: Pattern, ours| {
                Error::from(Mismatch::Pattern {
                    theirs: Some(theirs),
                    ours,
                })
                .to_string()
            };
            assert_eq!(dialer.error(), mismatch(can(*theirs), *ours));
            assert_eq!(listener.error(), mismatch(*ours, can(*theirs)));
        }
    }
}

#[test]
fn a_pattern_of_another_time_is_refused_with_ours() {
    let (dialer, listener) = talk(config(1), config(2), |flight, bytes| {
        if flight == 0 {
            bytes[7] = 99;
        }
    });
    assert!(matches!(
        listener.end,
        Some(Err(Error::Incompatible(Mismatch::Pattern { theirs: None, .. })))
    ));
    assert!(matches!(dialer.end, Some(Err(Error::Refused))));
}

#[test]
fn a_version_of_another_time_is_told() {
    let (dialer, listener) = talk(config(1), config(2), |flight, bytes| {
        if flight == 0 {
            (bytes[4], bytes[5]) = (2, 3);
        } else {
            (bytes[4], bytes[5]) = (3, 3);
        }
    });
    for (side, theirs) in [(listener, (2, 3)), (dialer, (3, 3))] {
        let mismatch = Mismatch::Version { theirs, ours: (1, 1) };
        assert_eq!(side.error(), Error::from(mismatch).to_string());
    }
}

#[test]
fn two_of_the_same_role_are_told() {
    let mut one = Side::new(Role::Dialer, config(1));
    let mut other = Side::new(Role::Dialer, config(2));
    other.hear(&one.handshake.take_output());
    one.hear(&other.handshake.take_output());
    assert_eq!(other.error(), Error::from(Mismatch::SameRole).to_string());
}

#[test]
fn what_cannot_be_is_refused_before_a_byte_is_sent() {
    let refused = |config, misuse: Misuse| {
        let Err(error) = Handshake::new(Role::Dialer, config) else {
            panic!("{misuse:?} was accepted");
        };
        assert_eq!(error.to_string(), Error::from(misuse).to_string());
    };
    let psk = || Config::shared(Psk::new([9; 32]));
    refused(Config { psk: None, ..psk() }, Misuse::NoKey);
    refused(
        Config {
            suites: vec![],
            ..psk()
        },
        Misuse::NoSuite,
    );
    refused(
        Config {
            expected: Some(identity(1).public()),
            ..psk()
        },
        Misuse::PinWithoutIdentity,
    );
}

#[test]
fn secrets_are_not_shown() {
    let secret = with_psk(config(0x5a), 0x5a);
    let shown = format!("{secret:?}");
    assert!(shown.contains("Psk(..)"), "{shown}");
    assert!(!shown.contains("90, 90"), "{shown}");
    let (dialer, _) = talk(config(1), config(2), |_, _| {});
    let shown = format!("{:?}", dialer.made());
    assert!(shown.contains("SealKey(Key { suite:"), "{shown}");
}

#[test]
fn a_suite_of_another_time_is_left_for_one_that_is_known() {
    let mut listener = Side::new(Role::Listener, config(2));
    let mut hello = Vec::new();
    let later = Hello {
        role: Role::Dialer,
        verdict: hello::Verdict::Go,
        pattern: Pattern::Xx.number(),
        suites: vec![200, 2],
    };
    later.encode(&mut hello);
    hello.extend_from_slice(&1216_u16.to_le_bytes());
    hello.resize(hello.len() + 1216, 7);
    listener.hear(&hello);
    let answer = listener.handshake.take_output();
    let (again, len) = Hello::decode(&answer).unwrap().unwrap();
    assert_eq!(len, answer.len());
    assert_eq!(
        (again.verdict, again.pattern, &again.suites[..]),
        (hello::Verdict::Again, 1, &[2][..])
    );
    let mut listener = Side::new(Role::Listener, config(2));
    hello.truncate(14);
    hello.extend_from_slice(&1537_u16.to_le_bytes());
    listener.hear(&hello);
    let breach = Breach::MessageLength {
        message: 1,
        len: 1537,
    };
    assert_eq!(listener.error(), Error::from(breach).to_string());
}
