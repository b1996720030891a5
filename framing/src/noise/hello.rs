//! The only bytes in the clear: who wants which pattern and which suites (PROTOCOL.md § 10.2).
//!
//! Knows the bytes of a hello and how a suite is chosen; what follows from it is the handshake's affair.

use std::fmt;

use crate::link::Role;
use crate::noise::error::{Breach, Error, Mismatch};
use crate::preface::{ENCRYPTED_MAGIC, Foreign, MAGIC as PLAIN_MAGIC};

/// The only version so far.
pub(super) const VERSION: u8 = 1;
/// Longest hello.
pub(super) const MAX_HELLO: usize = 1024;

/// Length of the part before the fields.
const FIXED: usize = 10;

const FLAG_LISTENER: u8 = 1 << 0;
const FLAG_AGAIN: u8 = 1 << 1;
const FLAG_REFUSED: u8 = 1 << 2;

const SUITES: u8 = 0x01;
/// Fields from here on must be understood.
const DEMANDS: u8 = 0x80;

/// A cipher, with the hash that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// AES-256-GCM and SHA-256: the fastest where the processor has instructions for AES.
    AesGcm,
    /// ChaCha20-Poly1305 and BLAKE2s: everywhere else.
    ChaChaPoly,
}

impl Suite {
    /// Both, the better one for this machine first.
    #[must_use]
    pub fn preferred() -> Vec<Self> {
        if has_aes() {
            vec![Self::AesGcm, Self::ChaChaPoly]
        } else {
            vec![Self::ChaChaPoly, Self::AesGcm]
        }
    }

    /// What a listener takes of what a dialer offers; both in order of preference.
    ///
    /// AES without instructions for it is slow, and leaks by its timing: it is taken only if both sides put it first,
    /// or if there is nothing else.
    pub(super) fn choose(ours: &[Self], theirs: &[Self]) -> Option<Self> {
        let common = |suite: &Self| ours.contains(suite) && theirs.contains(suite);
        match (ours.first(), theirs.first()) {
            (Some(our), Some(their)) if our == their => Some(*our),
            _ if common(&Self::ChaChaPoly) => Some(Self::ChaChaPoly),
            _ => theirs.iter().copied().find(common),
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::AesGcm => 1,
            Self::ChaChaPoly => 2,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::AesGcm),
            2 => Some(Self::ChaChaPoly),
            _ => None,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AesGcm => "25519_AESGCM_SHA256",
            Self::ChaChaPoly => "25519_ChaChaPoly_BLAKE2s",
        })
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
const fn has_aes() -> bool {
    false
}

/// Who proves what to whom (Noise rev 34 § 7 and § 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// Both prove an identity that the other need not know.
    Xx,
    /// As [`Xx`](Self::Xx), one message shorter: the dialer knows the listener's static key.
    Ik,
    /// As [`Xx`](Self::Xx), and both prove that they have the pre-shared key.
    XxPsk3,
    /// Both prove that they have the pre-shared key, and nothing else.
    NnPsk0,
}

impl Pattern {
    /// The length of each message of the handshake: payloads have fixed lengths, so these have.
    pub(super) const fn message_len(self, message: u8) -> usize {
        const KEY: usize = 32;
        const TAG: usize = 16;
        const SEALED_KEY: usize = KEY + TAG;
        const HASH: usize = 32;
        const PROOF: usize = 32 + 64;
        match (self, message) {
            (Self::Xx, 1) => KEY,
            (Self::XxPsk3 | Self::NnPsk0, 1) => KEY + TAG,
            (Self::Ik, 1) => KEY + SEALED_KEY + PROOF + TAG,
            (Self::Xx | Self::XxPsk3, 2) => KEY + SEALED_KEY + HASH + PROOF + TAG,
            (Self::Ik, 2) => KEY + HASH + PROOF + TAG,
            (Self::NnPsk0, 2) => KEY + HASH + TAG,
            (Self::Xx | Self::XxPsk3, _) => SEALED_KEY + PROOF + TAG,
            (Self::Ik | Self::NnPsk0, _) => TAG, // an empty record
        }
    }

    /// Whether the dialer proves with its first message what else takes a third.
    pub(super) const fn has_two_messages(self) -> bool {
        matches!(self, Self::Ik | Self::NnPsk0)
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Xx => 1,
            Self::Ik => 2,
            Self::XxPsk3 => 3,
            Self::NnPsk0 => 4,
        }
    }

    pub(super) const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Xx),
            2 => Some(Self::Ik),
            3 => Some(Self::XxPsk3),
            4 => Some(Self::NnPsk0),
            _ => None,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xx => "XX",
            Self::Ik => "IK",
            Self::XxPsk3 => "XXpsk3",
            Self::NnPsk0 => "NNpsk0",
        })
    }
}

/// What one side says in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) role: Role,
    pub(super) verdict: Verdict,
    /// Number of the pattern; 0 from a listener that does not encrypt.
    pub(super) pattern: u8,
    /// Numbers of suites, in the sender's order.
    pub(super) suites: Vec<u8>,
}

/// What a hello says beside what it offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Here is the next message.
    Go,
    /// From a listener: begin again, like this. From a dialer: this is what was asked for.
    Again,
    /// From a listener: it ends here.
    Refused,
}

impl Hello {
    /// The suites that are known here.
    pub(super) fn known_suites(&self) -> Vec<Suite> {
        self.suites
            .iter()
            .filter_map(|number| Suite::of(*number))
            .collect()
    }

    /// The suite that message 1 is made with, or that holds; `None` if it is not known here.
    pub(super) fn first_suite(&self) -> Option<Suite> {
        self.suites.first().and_then(|number| Suite::of(*number))
    }

    /// Appends the hello to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = match self.role {
            Role::Dialer => 0,
            Role::Listener => FLAG_LISTENER,
        };
        flags |= match self.verdict {
            Verdict::Go => 0,
            Verdict::Again => FLAG_AGAIN,
            Verdict::Refused => FLAG_REFUSED,
        };
        let mut fields = Vec::with_capacity(4);
        if let Ok(count @ 1..) = u8::try_from(self.suites.len()) {
            fields.extend_from_slice(&[SUITES, count]);
            fields.extend_from_slice(&self.suites);
        }
        out.extend_from_slice(&ENCRYPTED_MAGIC);
        out.extend_from_slice(&[VERSION, VERSION, flags, self.pattern]);
        out.extend_from_slice(&u16::try_from(fields.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&fields);
    }

    /// Reads the hello at the beginning of `bytes`: what it says and its length, or `None` if more is needed.
    ///
    /// What cannot become a hello is refused at the first byte that tells.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        if !begins_like(bytes, &ENCRYPTED_MAGIC) {
            return Err(if begins_like(bytes, &PLAIN_MAGIC) {
                Mismatch::Plain.into()
            } else {
                Mismatch::Foreign(Foreign::recognise(bytes)).into()
            });
        }
        let Some(fixed) = bytes.first_chunk::<FIXED>() else {
            return Ok(None);
        };
        let [_, _, _, _, min, max, flags, pattern, len_low, len_high] = *fixed;
        if min > max {
            return Err(Breach::HelloField { field: 0 }.into());
        }
        if !(min..=max).contains(&VERSION) {
            return Err(Mismatch::Version {
                theirs: (min, max),
                ours: (VERSION, VERSION),
            }
            .into());
        }
        let len = FIXED.saturating_add(usize::from(u16::from_le_bytes([len_low, len_high])));
        if len > MAX_HELLO {
            return Err(Breach::HelloTooLong { len }.into());
        }
        let Some(fields) = bytes.get(FIXED..len) else {
            return Ok(None);
        };
        let hello = Self {
            role: if flags & FLAG_LISTENER == 0 {
                Role::Dialer
            } else {
                Role::Listener
            },
            verdict: if flags & FLAG_REFUSED != 0 {
                Verdict::Refused
            } else if flags & FLAG_AGAIN != 0 {
                Verdict::Again
            } else {
                Verdict::Go
            },
            pattern,
            suites: suites(fields)?.to_vec(),
        };
        Ok(Some((hello, len)))
    }
}

fn begins_like(bytes: &[u8], magic: &[u8; 4]) -> bool {
    bytes.iter().zip(magic).all(|(came, want)| came == want)
}

/// Reads the fields of a hello; of them only the suites mean anything yet.
fn suites(mut fields: &[u8]) -> Result<&[u8], Error> {
    let mut suites = &[][..];
    let mut last = 0;
    while let [field, len, rest @ ..] = fields {
        let field = *field;
        let (value, rest) = rest
            .split_at_checked(usize::from(*len))
            .ok_or(Breach::HelloField { field })?;
        if field <= last || (field == SUITES && value.is_empty()) {
            return Err(Breach::HelloField { field }.into());
        }
        (last, fields) = (field, rest);
        if field == SUITES {
            suites = value;
        } else if field >= DEMANDS {
            return Err(Mismatch::Demand { field }.into());
        }
    }
    if !fields.is_empty() {
        return Err(Breach::HelloField { field: 0 }.into());
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialer() -> Hello {
        Hello {
            role: Role::Dialer,
            verdict: Verdict::Go,
            pattern: 1,
            suites: vec![1, 2],
        }
    }

    #[rustfmt::skip]
    const DRAWN: &[u8] = &[
        0xa9, b'F', b'A', b'N', // magic
        1, 1,                   // lowest and highest version
        0,                      // flags: none
        1,                      // pattern: XX
        4, 0,                   // length of the fields
        0x01, 2, 1, 2,          // suites: AES-256-GCM, then ChaCha20-Poly1305
    ];

    #[test]
    fn the_hello_has_its_bytes_both_ways() {
        let mut out = Vec::new();
        dialer().encode(&mut out);
        assert_eq!(out, DRAWN);
        assert_eq!(read(DRAWN), Ok(Some((dialer(), DRAWN.len()))));
        for cut in 0..DRAWN.len() {
            assert_eq!(read(&DRAWN[..cut]), Ok(None), "cut at {cut}");
        }
    }

    /// The words of the error, since errors of carriers can't be compared.
    fn read(bytes: &[u8]) -> Result<Option<(Hello, usize)>, String> {
        Hello::decode(bytes).map_err(|error| error.to_string())
    }

    fn refused(bytes: &[u8], error: impl Into<Error>) {
        assert_eq!(read(bytes), Err(error.into().to_string()), "{bytes:?}");
    }

    #[test]
    fn flags_tell_the_role_and_the_verdict() {
        for role in [Role::Dialer, Role::Listener] {
            for verdict in [Verdict::Go, Verdict::Again, Verdict::Refused] {
                let hello = Hello {
                    role,
                    verdict,
                    pattern: 77,
                    suites: vec![],
                };
                let mut out = Vec::new();
                hello.encode(&mut out);
                assert_eq!(read(&out), Ok(Some((hello, FIXED))));
            }
        }
    }

    #[test]
    fn what_a_plain_listener_replies_is_a_hello_that_refuses() {
        let (hello, len) = read(Foreign::Encrypted.reply().unwrap()).unwrap().unwrap();
        assert_eq!(len, FIXED);
        assert_eq!(
            (hello.role, hello.verdict, hello.pattern, hello.suites),
            (Role::Listener, Verdict::Refused, 0, vec![])
        );
    }

    #[test]
    fn unknown_fields_and_suites_are_skipped_and_demands_are_not() {
        let with = |fields: &[u8]| {
            let mut out = DRAWN[..8].to_vec();
            out.extend_from_slice(&u16::try_from(fields.len()).unwrap().to_le_bytes());
            out.extend_from_slice(fields);
            out
        };
        let (hello, _) = read(&with(&[1, 3, 9, 2, 200, 0x7f, 1, 5])).unwrap().unwrap();
        assert_eq!(hello.known_suites(), [Suite::ChaChaPoly]);
        assert_eq!(hello.first_suite(), None);
        refused(&with(&[0x80, 0]), Mismatch::Demand { field: 0x80 });
        refused(&with(&[1, 0]), Breach::HelloField { field: 1 });
        refused(&with(&[1, 3, 1]), Breach::HelloField { field: 1 });
        refused(&with(&[1, 1, 1, 1, 1, 1]), Breach::HelloField { field: 1 });
        refused(&with(&[2, 0, 1, 1, 1]), Breach::HelloField { field: 1 });
        refused(&with(&[1, 1, 1, 7]), Breach::HelloField { field: 0 });
        refused(&with(&[0; 1015]), Breach::HelloTooLong { len: 1025 });
    }

    #[test]
    fn other_protocols_and_versions_are_told() {
        refused(b"\xa9FAR", Mismatch::Plain);
        refused(b"GET / HTTP/1.1\r\n", Mismatch::Foreign(Foreign::Http));
        let mut hello = DRAWN.to_vec();
        (hello[4], hello[5]) = (2, 7);
        let (theirs, ours) = ((2, 7), (1, 1));
        refused(&hello, Mismatch::Version { theirs, ours });
        (hello[4], hello[5]) = (2, 1);
        refused(&hello, Breach::HelloField { field: 0 });
    }

    #[test]
    fn aes_is_taken_where_both_put_it_first_or_have_nothing_else() {
        use Suite::{AesGcm as Aes, ChaChaPoly as ChaCha};
        for (ours, theirs, taken) in [
            (&[Aes, ChaCha][..], &[Aes, ChaCha][..], Some(Aes)),
            (&[ChaCha, Aes], &[ChaCha, Aes], Some(ChaCha)),
            (&[ChaCha, Aes], &[Aes, ChaCha], Some(ChaCha)),
            (&[Aes, ChaCha], &[ChaCha, Aes], Some(ChaCha)),
            (&[Aes], &[ChaCha, Aes], Some(Aes)),
            (&[ChaCha, Aes], &[Aes], Some(Aes)),
            (&[Aes], &[ChaCha], None),
            (&[Aes], &[], None),
        ] {
            assert_eq!(Suite::choose(ours, theirs), taken, "{ours:?} {theirs:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), keep in 0_usize..14) {
            let _ = read(&[&DRAWN[..keep], &bytes].concat());
        }
    }
}
