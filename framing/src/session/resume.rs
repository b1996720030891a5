//! RESUME, RESUMED and REJECT, byte by byte, and what is made of them (PROTOCOL.md § 4.5).

use std::fmt;

use super::keys::Purpose;
use super::{Binding, Offsets, Session, SessionId, SessionKey};
use crate::error::Breach;
use crate::frame::Kind;
use crate::varint;

/// What a side says when it goes on with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attach {
    /// Number of this carrier.
    pub(crate) epoch: u64,
    /// How long this side has been without a carrier, in milliseconds.
    pub(crate) down: u64,
    /// How far it has received.
    pub(crate) offsets: Offsets,
}

impl Attach {
    fn body(&self, out: &mut Vec<u8>) {
        varint::put(out, self.epoch);
        varint::put(out, self.down);
        self.offsets.encode(out);
    }

    fn read(mut bytes: &[u8], kind: Kind) -> Result<Self, Breach> {
        let form = Breach::FrameForm { kind: kind as u8 };
        let epoch = varint::take(&mut bytes)?;
        let down = varint::take(&mut bytes)?;
        let offsets = Offsets::decode(&mut bytes, &form)?;
        if bytes.is_empty() {
            Ok(Self { epoch, down, offsets })
        } else {
            Err(form)
        }
    }

    /// The payload of RESUME.
    pub(crate) fn resume(&self, session: &Session, binding: &Binding) -> Vec<u8> {
        let mut out = session.id.as_bytes().to_vec();
        self.body(&mut out);
        sign(session, Purpose::Resume, binding, out)
    }

    /// The payload of RESUMED.
    pub(crate) fn resumed(&self, session: &Session, binding: &Binding) -> Vec<u8> {
        let mut out = Vec::new();
        self.body(&mut out);
        sign(session, Purpose::Resumed, binding, out)
    }

    /// Reads the payload of RESUMED; `None` if the proof does not hold.
    pub(crate) fn read_resumed(
        payload: &[u8],
        session: &Session,
        binding: &Binding,
    ) -> Result<Option<Self>, Breach> {
        let (body, proof) = signed(payload, Kind::Resumed)?;
        let holds = session
            .key
            .verify(Purpose::Resumed, session.id, binding, body, proof);
        if holds {
            Self::read(body, Kind::Resumed).map(Some)
        } else {
            Ok(None)
        }
    }
}

fn sign(session: &Session, purpose: Purpose, binding: &Binding, mut payload: Vec<u8>) -> Vec<u8> {
    let proof = session.key.prove(purpose, session.id, binding, &payload);
    payload.extend_from_slice(&proof);
    payload
}

fn signed(payload: &[u8], kind: Kind) -> Result<(&[u8], &[u8; 32]), Breach> {
    payload
        .split_last_chunk()
        .ok_or(Breach::FrameForm { kind: kind as u8 })
}

/// A dialer's wish to go on with a session over the carrier on which it came.
///
/// Nothing of it is proven yet, not even that the session exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeRequest {
    pub(crate) id: SessionId,
    pub(crate) attach: Attach,
    /// The payload up to the proof.
    pub(crate) body: Vec<u8>,
    pub(crate) proof: [u8; 32],
    pub(crate) carrier: Greeted,
}

/// What the two prefaces of a carrier say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeted {
    pub(crate) binding: Binding,
    /// Our preface, not sent yet.
    pub(crate) preface: Vec<u8>,
    /// Most bytes of payload in one frame, agreed for this carrier.
    pub(crate) fragment: usize,
    /// Most bytes of payload that we take in one frame, as our preface says.
    pub(crate) accepts: usize,
}

impl ResumeRequest {
    pub(crate) fn read(payload: &[u8], carrier: Greeted) -> Result<Self, Breach> {
        let form = Breach::FrameForm {
            kind: Kind::Resume as u8,
        };
        let (body, proof) = signed(payload, Kind::Resume)?;
        let (id, attach) = body.split_first_chunk().ok_or(form)?;
        let attach = Attach::read(attach, Kind::Resume)?;
        Ok(Self {
            id: SessionId::new(*id),
            attach,
            body: body.to_vec(),
            proof: *proof,
            carrier,
        })
    }

    /// The session that the dialer means.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.id
    }

    /// Whether the dialer proves that the session is its own.
    pub(crate) fn is_proven(&self, key: &SessionKey) -> bool {
        key.verify(
            Purpose::Resume,
            self.id,
            &self.carrier.binding,
            &self.body,
            &self.proof,
        )
    }
}

/// Why a session is not resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectCode {
    /// There is no such session: it ended, or the process is another one.
    Unknown,
    /// The session was not resumed in time.
    Expired,
    /// The two sides do not agree on what was received.
    Gap,
    /// A newer carrier was asked for already. Whoever gets this must not try again.
    Stale,
    /// The dialer did not prove that the session is its own.
    NotYours,
    /// This side keeps no sessions.
    Unsupported,
    /// The dialer may not come in any more.
    Denied,
    /// A code of a later version.
    Other(u8),
}

impl RejectCode {
    const fn number(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::Expired => 2,
            Self::Gap => 3,
            Self::Stale => 4,
            Self::NotYours => 5,
            Self::Unsupported => 6,
            Self::Denied => 7,
            Self::Other(code) => code,
        }
    }

    const fn new(number: u8) -> Self {
        match number {
            1 => Self::Unknown,
            2 => Self::Expired,
            3 => Self::Gap,
            4 => Self::Stale,
            5 => Self::NotYours,
            6 => Self::Unsupported,
            7 => Self::Denied,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("it does not know the session"),
            Self::Expired => f.write_str("the session was not resumed in time"),
            Self::Gap => f.write_str("the two sides disagree on what was received"),
            Self::Stale => f.write_str("a newer carrier has taken over"),
            Self::NotYours => f.write_str("the session belongs to somebody else"),
            Self::Unsupported => f.write_str("it keeps no sessions"),
            Self::Denied => f.write_str("access was withdrawn"),
            Self::Other(code) => write!(f, "code {code}"),
        }
    }
}

/// A refusal to resume, ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    code: RejectCode,
    /// What was received of the dialer's lane 0, and the proof of it.
    received: Option<(u64, [u8; 32])>,
}

/// What the dialer reads in a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: RejectCode,
    pub(crate) received: Option<u64>,
}

impl Rejection {
    /// A refusal that says nothing but why.
    #[must_use]
    pub const fn new(code: RejectCode) -> Self {
        Self { code, received: None }
    }

    /// Why.
    #[must_use]
    pub const fn code(&self) -> RejectCode {
        self.code
    }

    /// A refusal that also tells, provably, what was received.
    fn telling(code: RejectCode, received: u64, key: &SessionKey, request: &ResumeRequest) -> Self {
        let mut rejection = Self {
            code,
            received: Some((received, [0; 32])),
        };
        let proof = key.prove(
            Purpose::Reject,
            request.id,
            &request.carrier.binding,
            &rejection.unsigned(),
        );
        rejection.received = Some((received, proof));
        rejection
    }

    fn unsigned(&self) -> Vec<u8> {
        let mut out = vec![self.code.number()];
        if let Some((received, _)) = self.received {
            varint::put(&mut out, received);
        }
        out
    }

    /// The payload of REJECT.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.unsigned();
        if let Some((_, proof)) = self.received {
            out.extend_from_slice(&proof);
        }
        out
    }
}

impl Rejected {
    /// Reads the payload of REJECT. A proof that does not hold makes what it proves unknown.
    pub(crate) fn read(payload: &[u8], session: &Session, binding: &Binding) -> Result<Self, Breach> {
        let form = Breach::FrameForm {
            kind: Kind::Reject as u8,
        };
        let (code, rest) = payload.split_first().ok_or(form.clone())?;
        let code = RejectCode::new(*code);
        if rest.is_empty() {
            return Ok(Self { code, received: None });
        }
        let (body, proof) = signed(payload, Kind::Reject)?;
        let mut number = body.get(1..).unwrap_or_default();
        let received = varint::take(&mut number)?;
        if !number.is_empty() {
            return Err(form);
        }
        let holds = session
            .key
            .verify(Purpose::Reject, session.id, binding, body, proof);
        Ok(Self {
            code,
            received: holds.then_some(received),
        })
    }
}

/// What is left of a session that is over, for a dialer that comes back: what it sent and we never received was
/// certainly not executed.
#[derive(Debug, Clone)]
pub struct Tombstone {
    id: SessionId,
    key: SessionKey,
    received: u64,
}

impl Tombstone {
    pub(crate) fn new(session: &Session, received: u64) -> Self {
        Self {
            id: session.id,
            key: session.key.clone(),
            received,
        }
    }

    /// The session that was.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.id
    }

    /// How to refuse `request`: as [`RejectCode::Expired`], with what was received, if it is that session's own
    /// dialer that asks.
    #[must_use]
    pub fn reject(&self, request: &ResumeRequest) -> Rejection {
        if request.id != self.id {
            Rejection::new(RejectCode::Unknown)
        } else if request.is_proven(&self.key) {
            Rejection::telling(RejectCode::Expired, self.received, &self.key, request)
        } else {
            Rejection::new(RejectCode::NotYours)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::Secrets;
    use super::*;
    use crate::link::Role;

    fn session() -> Session {
        let secrets = Secrets {
            ours: [1; 32],
            theirs: [2; 32],
        };
        let (key, id) = SessionKey::derive(Role::Dialer, &secrets, &Binding::new(b"a", b"b", None));
        Session { id, key, epoch: 1 }
    }

    fn carrier() -> Greeted {
        let binding = Binding::new(b"dialer", b"listener", None);
        Greeted {
            binding,
            preface: Vec::new(),
            fragment: 240,
            accepts: 240,
        }
    }

    fn attach() -> Attach {
        Attach {
            epoch: 2,
            down: 300,
            offsets: Offsets {
                messages: 5,
                highest: 3,
                open: vec![(3, 1)],
            },
        }
    }

    const BODY: &[u8] = &[2, 251, 0x2c, 1, 5, 3, 1, 3, 1];

    #[test]
    fn resume_and_resumed_have_their_bytes_both_ways() {
        let (session, carrier) = (session(), carrier());
        let payload = attach().resume(&session, &carrier.binding);
        assert_eq!(&payload[..16], session.id.as_bytes());
        assert_eq!(&payload[16..payload.len() - 32], BODY);
        let request = ResumeRequest::read(&payload, carrier.clone()).unwrap();
        assert_eq!((request.session(), &request.attach), (session.id, &attach()));
        assert!(request.is_proven(&session.key));

        let payload = attach().resumed(&session, &carrier.binding);
        assert_eq!(&payload[..payload.len() - 32], BODY);
        assert_eq!(
            Attach::read_resumed(&payload, &session, &carrier.binding),
            Ok(Some(attach()))
        );
    }

    #[test]
    fn nothing_comes_behind_the_offsets() {
        let (session, carrier) = (session(), carrier());
        let mut longer = session.id.as_bytes().to_vec();
        attach().body(&mut longer);
        longer.push(0);
        let payload = sign(&session, Purpose::Resume, &carrier.binding, longer.clone());
        let form = |kind: Kind| Breach::FrameForm { kind: kind as u8 };
        assert_eq!(
            ResumeRequest::read(&payload, carrier.clone()),
            Err(form(Kind::Resume))
        );
        let longer = longer.split_off(16);
        let payload = sign(&session, Purpose::Resumed, &carrier.binding, longer);
        assert_eq!(
            Attach::read_resumed(&payload, &session, &carrier.binding),
            Err(form(Kind::Resumed))
        );
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let (session, carrier) = (session(), carrier());
        let payload = attach().resume(&session, &carrier.binding);
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            let request = ResumeRequest::read(&changed, carrier.clone());
            assert!(
                !request.is_ok_and(|request| request.id == session.id && request.is_proven(&session.key))
            );
        }
        let payload = attach().resumed(&session, &carrier.binding);
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert_eq!(
                Attach::read_resumed(&changed, &session, &carrier.binding),
                Ok(None)
            );
        }
    }

    #[test]
    fn a_request_does_not_prove_the_answer() {
        let (session, carrier) = (session(), carrier());
        let payload = attach().resume(&session, &carrier.binding);
        assert_eq!(
            Attach::read_resumed(&payload[16..], &session, &carrier.binding),
            Ok(None)
        );
    }

    #[test]
    fn a_refusal_has_its_bytes_and_tells_what_was_received_only_with_proof() {
        let (session, carrier) = (session(), carrier());
        for number in 0..=255 {
            assert_eq!(RejectCode::new(number).number(), number);
        }
        let plain = Rejection::new(RejectCode::Stale).encode();
        assert_eq!(plain, [4]);
        let read = Rejected::read(&plain, &session, &carrier.binding);
        assert_eq!(
            read,
            Ok(Rejected {
                code: RejectCode::Stale,
                received: None
            })
        );

        let request =
            ResumeRequest::read(&attach().resume(&session, &carrier.binding), carrier.clone()).unwrap();
        let mut payload = Tombstone::new(&session, 251).reject(&request).encode();
        assert_eq!(&payload[..payload.len() - 32], [2, 251, 251, 0]);
        let read = Rejected::read(&payload, &session, &carrier.binding);
        assert_eq!(
            read,
            Ok(Rejected {
                code: RejectCode::Expired,
                received: Some(251)
            })
        );
        payload[2] = 252;
        let read = Rejected::read(&payload, &session, &carrier.binding);
        assert_eq!(
            read,
            Ok(Rejected {
                code: RejectCode::Expired,
                received: None
            })
        );
    }

    #[test]
    fn a_tombstone_tells_nothing_to_a_stranger() {
        let (ours, carrier) = (session(), carrier());
        let mut request = ResumeRequest::read(&attach().resume(&ours, &carrier.binding), carrier).unwrap();
        request.proof[0] ^= 1;
        assert_eq!(
            Tombstone::new(&ours, 9).reject(&request),
            Rejection::new(RejectCode::NotYours)
        );
        request.id = SessionId::new([0; 16]);
        assert_eq!(
            Tombstone::new(&ours, 9).reject(&request),
            Rejection::new(RejectCode::Unknown)
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let (session, carrier) = (session(), carrier());
            let _ = Attach::read_resumed(&bytes, &session, &carrier.binding);
            let _ = Rejected::read(&bytes, &session, &carrier.binding);
            let _ = Attach::read(&bytes, Kind::Resume);
            let _ = ResumeRequest::read(&bytes, carrier);
        }
    }
}
