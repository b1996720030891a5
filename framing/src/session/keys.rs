//! What a session is proven with (PROTOCOL.md § 4.6): HMAC-SHA-256 under a key that both sides have made together.
//!
//! Knows bytes only: what is proven, and when, is told by [`resume`](super::resume).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::SessionId;
use crate::link::Role;

type HmacSha256 = Hmac<Sha256>;

/// What ties a proof to one carrier: the prefaces that were exchanged on it, and its channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    dialer: [u8; 32],
    listener: [u8; 32],
    channel: Option<[u8; 32]>,
}

impl Binding {
    pub(crate) fn new(dialer: &[u8], listener: &[u8], channel: Option<[u8; 32]>) -> Self {
        Self {
            dialer: Sha256::digest(dialer).into(),
            listener: Sha256::digest(listener).into(),
            channel,
        }
    }
}

/// The secret that each side brings to a new session.
pub(crate) struct Secrets {
    pub(crate) ours: [u8; 32],
    pub(crate) theirs: [u8; 32],
}

/// What both sides of a session know, and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionKey([u8; 32]);

/// What a proof is for; the values are on the wire, inside the MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    Resume = 1,
    Resumed = 2,
    Reject = 3,
}

impl SessionKey {
    /// The key and the name of the session that `secrets` were exchanged for.
    pub(crate) fn derive(role: Role, secrets: &Secrets, binding: &Binding) -> (Self, SessionId) {
        let (dialer, listener) = match role {
            Role::Dialer => (secrets.ours, secrets.theirs),
            Role::Listener => (secrets.theirs, secrets.ours),
        };
        let mut mac = keyed(&dialer);
        mac.update(&listener);
        let both: [u8; 32] = mac.finalize().into_bytes().into();
        let mut mac = keyed(&both);
        mac.update(b"farref session key 1");
        absorb(&mut mac, binding);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        let mut mac = keyed(&key);
        mac.update(b"farref session id 1");
        let long: [u8; 32] = mac.finalize().into_bytes().into();
        let (id, _) = long.split_first_chunk().unwrap_or((&[0; 16], &[]));
        (Self(key), SessionId::new(*id))
    }

    /// The proof of `payload`.
    pub(crate) fn prove(
        &self,
        purpose: Purpose,
        id: SessionId,
        binding: &Binding,
        payload: &[u8],
    ) -> [u8; 32] {
        self.mac(purpose, id, binding, payload)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether `proof` is that of `payload`; in constant time.
    pub(crate) fn verify(
        &self,
        purpose: Purpose,
        id: SessionId,
        binding: &Binding,
        payload: &[u8],
        proof: &[u8; 32],
    ) -> bool {
        self.mac(purpose, id, binding, payload)
            .verify(proof.into())
            .is_ok()
    }

    fn mac(&self, purpose: Purpose, id: SessionId, binding: &Binding, payload: &[u8]) -> HmacSha256 {
        let mut mac = keyed(&self.0);
        mac.update(b"farref proof 1");
        mac.update(&[purpose as u8]);
        mac.update(id.as_bytes());
        absorb(
            &mut mac,
            &match purpose {
                // the dialer speaks before it knows the listener's preface
                Purpose::Resume => Binding {
                    listener: [0; 32],
                    ..*binding
                },
                Purpose::Resumed | Purpose::Reject => *binding,
            },
        );
        mac.update(payload);
        mac
    }
}

fn keyed(key: &[u8; 32]) -> HmacSha256 {
    let mut block = [0; 64]; // HMAC fills a key up with zeros to a block
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    HmacSha256::new(&block.into())
}

fn absorb(mac: &mut HmacSha256, binding: &Binding) {
    mac.update(&binding.dialer);
    mac.update(&binding.listener);
    match &binding.channel {
        Some(channel) => {
            mac.update(&[1]);
            mac.update(channel);
        }
        None => mac.update(&[0]),
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding::new(b"dialer", b"listener", None)
    }

    fn key() -> (SessionKey, SessionId) {
        let secrets = Secrets {
            ours: [1; 32],
            theirs: [2; 32],
        };
        SessionKey::derive(Role::Dialer, &secrets, &binding())
    }

    #[test]
    fn both_sides_make_the_same_key_and_name() {
        let theirs = Secrets {
            ours: [2; 32],
            theirs: [1; 32],
        };
        assert_eq!(key(), SessionKey::derive(Role::Listener, &theirs, &binding()));
        assert_ne!(key(), SessionKey::derive(Role::Dialer, &theirs, &binding()));
    }

    /// Against values computed with Python's `hmac`.
    #[test]
    fn key_and_proof_have_their_bytes() {
        let (key, id) = key();
        assert_eq!(
            hex(&key.0),
            "ae93c91b7f7dd66529e7667c57f3efc6a88b681c895f103e1ad489bc61df8ed6"
        );
        assert_eq!(hex(id.as_bytes()), "151723d0bbb73ad4348284de41911e15");
        let proof = key.prove(Purpose::Resume, id, &binding(), b"payload");
        assert_eq!(
            hex(&proof),
            "2c932b57a547d0b58e910888f74abdadf477b883c03dcb292b38ffd16d0148b0"
        );
    }

    /// The same, beneath encryption.
    #[test]
    fn a_channel_is_part_of_key_and_proof() {
        let secrets = Secrets {
            ours: [1; 32],
            theirs: [2; 32],
        };
        let bound = Binding::new(b"dialer", b"listener", Some([3; 32]));
        let (key, id) = SessionKey::derive(Role::Dialer, &secrets, &bound);
        assert_eq!(
            hex(&key.0),
            "a210d0caac5445ff1062e95c17fd4599009e32bfcb4faf6456584586fec90177"
        );
        let proof = key.prove(Purpose::Resume, id, &bound, b"payload");
        assert_eq!(
            hex(&proof),
            "31cd9dc17bcc3bdfa78dd48198dd5931e4ef59fd4591afc2afe91b2e5c24e4ab"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_proof_holds_for_its_purpose_session_carrier_and_payload_alone() {
        let (key, id) = key();
        let proof = key.prove(Purpose::Resumed, id, &binding(), b"payload");
        assert!(key.verify(Purpose::Resumed, id, &binding(), b"payload", &proof));
        let other = SessionId::new([0; 16]);
        let relayed = Binding::new(b"dialer", b"another", None);
        let bound = Binding::new(b"dialer", b"listener", Some([0; 32]));
        assert!(!key.verify(Purpose::Resume, id, &binding(), b"payload", &proof));
        assert!(!key.verify(Purpose::Resumed, other, &binding(), b"payload", &proof));
        assert!(!key.verify(Purpose::Resumed, id, &relayed, b"payload", &proof));
        assert!(!key.verify(Purpose::Resumed, id, &bound, b"payload", &proof));
        assert!(!key.verify(Purpose::Resumed, id, &binding(), b"Payload", &proof));
    }
}
