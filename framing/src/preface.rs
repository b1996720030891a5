//! Who speaks what, agreed without a round trip (PROTOCOL.md § 2).
//!
//! Each side sends one preface and never a second; what is agreed is a function of the two. Knows the bytes of the
//! preface and the looks of a few foreign protocols; when to send and what to do about it is the link's affair.

use std::fmt;
use std::time::Duration;

use crate::Limits;
use crate::error::{Breach, LinkError, Mismatch};
#[cfg(feature = "noise")]
use crate::event::CloseReason;
#[cfg(feature = "noise")]
use crate::frame::{HeaderBytes, Kind};
use crate::limits::{MAX_FRAGMENT, MAX_NAMED, MAX_PREFACE, MIN_FRAGMENT, MIN_NAMED};
use crate::link::Role;
use crate::varint;

/// First bytes of every preface: no letter, no TLS record, no varint of ours.
pub(crate) const MAGIC: [u8; 4] = [0xa9, b'F', b'A', b'R'];
/// The only version so far.
pub(crate) const VERSION: u8 = 1;

/// First bytes of a dialer that wants the carrier encrypted (§ 10.2).
pub(crate) const ENCRYPTED_MAGIC: [u8; 4] = [0xa9, b'F', b'A', b'N'];
/// What a listener without encryption answers to such: a hello that refuses (§ 10.5).
const NOT_HERE: [u8; 10] = [0xa9, b'F', b'A', b'N', 1, 1, 0b101, 0, 0, 0];

/// Length of the part before the fields.
const FIXED: usize = 26;

const FLAG_LISTENER: u8 = 1 << 0;
const FLAG_SESSION: u8 = 1 << 1;
const FLAG_RESUMING: u8 = 1 << 2;
const FLAG_MUST_ENCRYPT: u8 = 1 << 4;

const FRAGMENT: u8 = 0x01;
const MESSAGE: u8 = 0x02;
const LANES: u8 = 0x03;
const NAMED: u8 = 0x04;
const FIRST_CREDIT: u8 = 0x05;
const RESUME_WINDOW: u8 = 0x06;
/// Fields from here on must be understood.
const DEMANDS: u8 = 0x80;

/// What one side says about itself.
///
/// # Invariant
///
/// The declared limits are within their ranges (PROTOCOL.md § 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preface {
    pub(crate) role: Role,
    /// Bytes are to be numbered, kept and resumed.
    pub(crate) session: bool,
    /// The dialer's session frame is a RESUME.
    pub(crate) resuming: bool,
    pub(crate) nonce: [u8; 16],
    pub(crate) declared: Declared,
}

/// The limits that bind the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) fragment: usize,
    pub(crate) message: u64,
    pub(crate) lanes: u32,
    pub(crate) named: u32,
    pub(crate) first_credit: u64,
    pub(crate) resume_window: Duration,
}

impl From<&Limits> for Declared {
    fn from(limits: &Limits) -> Self {
        Self {
            fragment: limits.fragment,
            message: limits.message,
            lanes: limits.lanes,
            named: limits.named,
            first_credit: limits.first_credit,
            resume_window: limits.resume_window,
        }
    }
}

impl Preface {
    /// Appends the preface to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (set, flag) in [
            (self.role == Role::Listener, FLAG_LISTENER),
            (self.session, FLAG_SESSION),
            (self.resuming, FLAG_RESUMING),
        ] {
            if set {
                flags |= flag;
            }
        }
        let window = u64::try_from(self.declared.resume_window.as_millis()).unwrap_or(u64::MAX);
        let mut fields = Vec::with_capacity(64);
        for (field, value) in [
            (
                FRAGMENT,
                u64::try_from(self.declared.fragment).unwrap_or(u64::MAX),
            ),
            (MESSAGE, self.declared.message),
            (LANES, u64::from(self.declared.lanes)),
            (NAMED, u64::from(self.declared.named)),
            (FIRST_CREDIT, self.declared.first_credit),
            (RESUME_WINDOW, window),
        ] {
            fields.push(field);
            fields.push(u8::try_from(varint::len(value)).unwrap_or(u8::MAX));
            varint::put(&mut fields, value);
        }
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, VERSION, flags, 0]);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&u16::try_from(fields.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&fields);
    }

    /// Reads the preface at the beginning of `bytes`: what it says and its length, or `None` if more is needed.
    ///
    /// What cannot become a preface is refused at the first byte that tells.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, LinkError> {
        if !bytes.iter().zip(&MAGIC).all(|(came, want)| came == want) {
            return Err(Mismatch::Foreign(Foreign::recognise(bytes)).into());
        }
        let Some(fixed) = bytes.first_chunk::<FIXED>() else {
            return Ok(None);
        };
        let [_, _, _, _, min, max, flags, _, nonce @ .., len_low, len_high] = fixed;
        if min > max {
            return Err(Breach::PrefaceField { field: 0 }.into());
        }
        if !(*min..=*max).contains(&VERSION) {
            return Err(Mismatch::Version {
                theirs: (*min, *max),
                ours: (VERSION, VERSION),
            }
            .into());
        }
        let len = FIXED.saturating_add(usize::from(u16::from_le_bytes([*len_low, *len_high])));
        if len > MAX_PREFACE {
            return Err(Breach::PrefaceTooLong { len }.into());
        }
        let Some(fields) = bytes.get(FIXED..len) else {
            return Ok(None);
        };
        if flags & FLAG_MUST_ENCRYPT != 0 {
            return Err(Mismatch::Encryption.into());
        }
        let preface = Self {
            role: if flags & FLAG_LISTENER == 0 {
                Role::Dialer
            } else {
                Role::Listener
            },
            session: flags & FLAG_SESSION != 0,
            resuming: flags & FLAG_RESUMING != 0,
            nonce: *nonce,
            declared: Declared::decode(fields)?,
        };
        Ok(Some((preface, len)))
    }
}

/// What a listener answers that encrypts and meets a dialer that does not: a preface that demands encryption, and
/// CLOSE (§ 2.6).
#[cfg(feature = "noise")]
pub(crate) fn demand_encryption() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[VERSION, VERSION, FLAG_LISTENER | FLAG_MUST_ENCRYPT, 0]);
    out.resize(FIXED, 0); // the nonce is not looked at, and there are no fields
    let reason = Mismatch::Encryption.to_string();
    let header = HeaderBytes::new(Kind::Close, 0, reason.len().saturating_add(1));
    out.extend_from_slice(header.as_slice());
    varint::put(&mut out, CloseReason::MISMATCH);
    out.extend_from_slice(reason.as_bytes());
    out
}

impl Declared {
    /// The limits of a side that says nothing of them. These are settled: our own defaults may change.
    const UNSAID: Self = Self {
        fragment: 16 << 10,
        message: 16 << 20,
        lanes: 64,
        named: 1024,
        first_credit: 256 << 10,
        resume_window: Duration::from_secs(60),
    };

    /// Reads the fields of a preface.
    fn decode(mut fields: &[u8]) -> Result<Self, LinkError> {
        let mut declared = Self::UNSAID;
        let mut last = 0;
        while let [field, len, rest @ ..] = fields {
            let field = *field;
            let bad = Breach::PrefaceField { field };
            let (mut value, rest) = rest.split_at_checked(usize::from(*len)).ok_or(bad.clone())?;
            if field <= last {
                return Err(bad.into());
            }
            (last, fields) = (field, rest);
            if !(FRAGMENT..=RESUME_WINDOW).contains(&field) {
                if field >= DEMANDS {
                    return Err(Mismatch::Demand { field }.into());
                }
                continue;
            }
            let number = varint::take(&mut value).map_err(Breach::from)?;
            if !value.is_empty() || !declared.set(field, number) {
                return Err(bad.into());
            }
        }
        if !fields.is_empty() {
            return Err(Breach::PrefaceField { field: 0 }.into());
        }
        Ok(declared)
    }

    /// Takes the value of a field; false if it is out of range.
    fn set(&mut self, field: u8, number: u64) -> bool {
        let small = u32::try_from(number).unwrap_or(u32::MAX);
        let size = usize::try_from(number).unwrap_or(usize::MAX);
        match field {
            FRAGMENT => self.fragment = size.min(MAX_FRAGMENT),
            MESSAGE => self.message = number,
            LANES => self.lanes = small,
            NAMED => self.named = small.min(MAX_NAMED),
            FIRST_CREDIT => self.first_credit = number,
            _ => self.resume_window = Duration::from_millis(u64::from(small)),
        }
        self.fragment >= MIN_FRAGMENT
            && self.message >= 1024
            && self.lanes >= 1
            && self.named >= MIN_NAMED
            && self.first_credit >= 1024
    }
}

/// What a peer speaks that does not speak farref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// HTTP, any version.
    Http,
    /// TLS.
    Tls,
    /// SSH.
    Ssh,
    /// farref, encrypted: to a listener that does not encrypt.
    Encrypted,
    /// Something made of text.
    Text,
    /// Something else.
    Binary,
}

impl Foreign {
    /// What `bytes`, the first of a carrier, look like.
    #[must_use]
    pub fn recognise(bytes: &[u8]) -> Self {
        const HTTP: [&[u8]; 10] = [
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"CONNECT ",
            b"PATCH ",
            b"PRI * HTTP/",
            b"HTTP/",
        ];
        let begins = |with: &[u8]| bytes.starts_with(with);
        if begins(&ENCRYPTED_MAGIC) {
            Self::Encrypted
        } else if HTTP.iter().any(|with| begins(with)) {
            Self::Http
        } else if begins(&[0x16, 0x03]) || begins(&[0x15, 0x03]) {
            Self::Tls
        } else if begins(b"SSH-") {
            Self::Ssh
        } else if bytes
            .iter()
            .take(16)
            .all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t'))
        {
            Self::Text
        } else {
            Self::Binary
        }
    }

    /// What a listener answers, in the words of that protocol, before it closes.
    #[must_use]
    pub const fn reply(self) -> Option<&'static [u8]> {
        match self {
            Self::Encrypted => Some(&NOT_HERE),
            Self::Http => Some(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 47\r\n\
                  Connection: close\r\n\r\nthis is farref, not HTTP: use a farref program\n",
            ),
            Self::Tls => Some(&[0x15, 3, 1, 0, 2, 2, 70]), // fatal alert: protocol version
            Self::Ssh => Some(b"this is farref, not SSH: use a farref program\r\n"),
            Self::Text => Some(b"this is farref: use a farref program\r\n"),
            Self::Binary => None,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Ssh => "SSH",
            Self::Encrypted => "farref with encryption, which this side does without",
            Self::Text => "a protocol made of text",
            Self::Binary => "an unknown protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialer() -> Preface {
        Preface {
            role: Role::Dialer,
            session: true,
            resuming: false,
            nonce: *b"0123456789abcdef",
            declared: Declared::from(&Limits::default()),
        }
    }

    #[rustfmt::skip]
    const DRAWN: &[u8] = &[
        0xa9, b'F', b'A', b'R',                  // magic
        1, 1,                                    // lowest and highest version
        0b0000_0010, 0,                          // flags: session; reserved
        b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'a', b'b', b'c', b'd', b'e', b'f', // nonce
        34, 0,                                   // length of the fields
        0x01, 3, 251, 0, 0x40,                   // fragment 16 KiB
        0x02, 5, 252, 0, 0, 0, 1,                // message 16 MiB
        0x03, 1, 32,                             // lanes
        0x04, 3, 251, 0, 4,                      // named
        0x05, 5, 252, 0, 0, 8, 0,                // first credit 512 KiB
        0x06, 5, 251, 0x60, 0xea,                // resume window 60000 ms
    ];

    #[test]
    fn the_preface_has_its_bytes_both_ways() {
        let mut drawn = DRAWN.to_vec();
        let last = drawn.len() - 4;
        drawn[last] = 3; // the window is a varint of three bytes
        drawn[24] = u8::try_from(drawn.len() - FIXED).unwrap();
        let mut out = Vec::new();
        dialer().encode(&mut out);
        assert_eq!(out, drawn);
        assert_eq!(Preface::decode(&drawn), Ok(Some((dialer(), drawn.len()))));
    }

    #[test]
    fn a_preface_cut_anywhere_asks_for_more() {
        let mut out = Vec::new();
        dialer().encode(&mut out);
        for cut in 0..out.len() {
            assert_eq!(Preface::decode(&out[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn flags_tell_role_session_and_resumption() {
        for (role, session, resuming) in [
            (Role::Dialer, false, false),
            (Role::Listener, true, false),
            (Role::Dialer, true, true),
        ] {
            let preface = Preface {
                role,
                session,
                resuming,
                ..dialer()
            };
            let mut out = Vec::new();
            preface.encode(&mut out);
            assert_eq!(Preface::decode(&out).unwrap().unwrap().0, preface);
        }
    }

    fn with_fields(fields: &[u8]) -> Result<Option<(Preface, usize)>, LinkError> {
        let mut out = DRAWN[..24].to_vec();
        out.extend_from_slice(&u16::try_from(fields.len()).unwrap().to_le_bytes());
        out.extend_from_slice(fields);
        Preface::decode(&out)
    }

    #[test]
    fn unknown_fields_are_skipped_and_unknown_demands_are_not() {
        let mut silent = dialer();
        silent.declared.lanes = 64;
        silent.declared.first_credit = 256 << 10;
        assert_eq!(with_fields(&[]).unwrap().unwrap().0, silent);
        assert_eq!(with_fields(&[0x07, 2, 1, 2, 0x7f, 0]).unwrap().unwrap().0, silent);
        assert_eq!(
            with_fields(&[0x80, 0]),
            Err(Mismatch::Demand { field: 0x80 }.into())
        );
    }

    #[test]
    fn fields_are_ascending_exact_and_in_range() {
        let refused = |fields: &[u8], field| {
            assert_eq!(
                with_fields(fields),
                Err(Breach::PrefaceField { field }.into()),
                "{fields:?}"
            );
        };
        refused(&[3, 1, 64, 3, 1, 64], 3); // twice
        refused(&[3, 1, 64, 2, 1, 250], 2); // descending
        refused(&[3, 2, 64, 0], 3); // longer than its number
        refused(&[3, 2, 64], 3); // cut
        refused(&[1, 1, 239], 1); // below the smallest fragment
        refused(&[2, 1, 250], 2); // below the smallest message
        refused(&[3, 1, 0], 3); // no lane at all
        refused(&[4, 1, 15], 4); // fewer than may be named early
        refused(&[5, 1, 250], 5); // below the smallest first credit
        refused(&[3], 0); // no length
    }

    /// Each is remembered until the peer says that it is done, which one that means no good never does.
    #[test]
    fn no_more_lanes_are_named_than_can_be_remembered_whatever_the_peer_takes() {
        let named = |fields: &[u8]| with_fields(fields).unwrap().unwrap().0.declared.named;
        assert_eq!(named(&[4, 5, 252, 255, 255, 255, 255]), MAX_NAMED);
        assert_eq!(named(&[4, 3, 251, 0, 15]), 3840);
    }

    #[test]
    fn other_versions_and_demanded_encryption_are_told() {
        let mut preface = DRAWN.to_vec();
        (preface[4], preface[5]) = (2, 7);
        assert_eq!(
            Preface::decode(&preface),
            Err(Mismatch::Version {
                theirs: (2, 7),
                ours: (1, 1)
            }
            .into())
        );
        (preface[4], preface[5]) = (1, 7);
        preface[24..].fill(0);
        assert!(Preface::decode(&preface[..26]).is_ok_and(|read| read.is_some()));
        preface[6] |= FLAG_MUST_ENCRYPT;
        assert_eq!(Preface::decode(&preface[..26]), Err(Mismatch::Encryption.into()));
        (preface[4], preface[5]) = (2, 1);
        assert_eq!(
            Preface::decode(&preface),
            Err(Breach::PrefaceField { field: 0 }.into())
        );
    }

    #[test]
    fn a_preface_over_a_kibibyte_is_refused_before_it_is_there() {
        let mut preface = DRAWN[..26].to_vec();
        (preface[24], preface[25]) = (0xff, 0xff);
        assert_eq!(
            Preface::decode(&preface),
            Err(Breach::PrefaceTooLong { len: 26 + 0xffff }.into())
        );
    }

    #[test]
    fn foreign_protocols_are_recognised_and_answered() {
        for (bytes, foreign) in [
            (&b"GET / HTTP/1.1\r\n"[..], Foreign::Http),
            (b"PRI * HTTP/2.0\r\n", Foreign::Http),
            (b"HTTP/1.1 400 Bad Request", Foreign::Http),
            (b"\x16\x03\x01\x02\x00\x01", Foreign::Tls),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Foreign::Ssh),
            (b"EHLO there\r\n", Foreign::Text),
            (b"G", Foreign::Text),
            (b"\x00\x00\x00\x01", Foreign::Binary),
        ] {
            assert_eq!(Preface::decode(bytes), Err(Mismatch::Foreign(foreign).into()));
        }
        let reply = Foreign::Http.reply().unwrap();
        let text = std::str::from_utf8(reply).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert_eq!(Foreign::Binary.reply(), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), keep in 0_usize..30) {
            let mut preface = DRAWN[..keep.min(26)].to_vec();
            preface.extend_from_slice(&bytes);
            let _ = Preface::decode(&preface);
        }
    }
}
