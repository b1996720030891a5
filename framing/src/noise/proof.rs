//! How an Ed25519 identity vouches for the X25519 key of the handshake (PROTOCOL.md § 10.3).
//!
//! Two keys, since Noise forbids other uses of its static key (Noise rev 34 § 14), and the identity has many. The
//! static key follows from the identity, so that a peer may remember it.

use farref_transport::Identity;
use farref_transport::address::PeerKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::Zeroizing;

/// Length of a proof: identity and signature.
pub(super) const PROOF: usize = 32 + 64;

const DERIVED: &[u8] = b"farref-noise-static-key-v1";
const SIGNED: &[u8; 23] = b"farref-noise-static-v1:";

/// The static key that `identity` uses in handshakes; a dialer that remembers it saves a round trip
/// ([`Config::peer_static`](super::Config::peer_static)).
///
/// `None` if the cryptographic library does not know the curve; it does today.
#[must_use]
pub fn static_public(identity: &Identity) -> Option<[u8; 32]> {
    let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
    dh.set(&*static_secret(identity)?);
    dh.pubkey().try_into().ok()
}

/// The secret half of [`static_public`].
pub(super) fn static_secret(identity: &Identity) -> Option<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(identity.secret()).ok()?;
    mac.update(DERIVED);
    Some(Zeroizing::new(mac.finalize().into_bytes().into()))
}

/// The proof that `identity` vouches for `public`, a static key.
pub(super) fn prove(identity: &Identity, public: &[u8; 32]) -> [u8; PROOF] {
    let mut proof = [0; PROOF];
    let signature = identity.sign(&signed(public));
    let (key, rest) = proof.split_at_mut(32);
    key.copy_from_slice(identity.public().as_bytes());
    rest.copy_from_slice(&signature);
    proof
}

/// The identity that `proof` vouches for `public` with, if it does.
pub(super) fn verify(proof: &[u8; PROOF], public: &[u8; 32]) -> Option<PeerKey> {
    let (key, signature) = proof.split_first_chunk()?;
    let key = PeerKey::new(*key);
    key.verify(&signed(public), signature.try_into().ok()?)
        .then_some(key)
}

fn signed(public: &[u8; 32]) -> Vec<u8> {
    [&SIGNED[..], public].concat()
}

/// Whether everybody knows the secret that `public` makes with any other key: the points of small order, which snow
/// does not refuse (RFC 7748 § 7).
pub(super) fn is_weak(public: &[u8; 32]) -> bool {
    let mut point = *public;
    if let Some(last) = point.last_mut() {
        *last &= 0x7f; // the curve does not look at the highest bit
    }
    SMALL.contains(&point)
}

/// All u of small order in 255 bits: 0 and 1, the two of order 8, and p - 1, p, p + 1.
const SMALL: [[u8; 32]; 7] = [
    [0; 32],
    near(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near(0xec, 0xff, 0x7f),
    near(0xed, 0xff, 0x7f),
    near(0xee, 0xff, 0x7f),
];

const fn near(first: u8, between: u8, last: u8) -> [u8; 32] {
    let b = between;
    [
        first, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, last,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_secret(&[7; 32]).unwrap()
    }

    #[test]
    fn the_static_key_follows_from_the_identity() {
        let public = static_public(&identity()).unwrap();
        assert_eq!(static_public(&identity()), Some(public));
        assert_ne!(public, *identity().public().as_bytes());
        let other = Identity::from_secret(&[8; 32]).unwrap();
        assert_ne!(static_public(&other), Some(public));
    }

    #[test]
    fn a_proof_is_for_one_key_and_by_one_identity() {
        let public = static_public(&identity()).unwrap();
        let proof = prove(&identity(), &public);
        assert_eq!(verify(&proof, &public), Some(identity().public()));
        assert_eq!(verify(&proof, &[9; 32]), None);
        for at in 0..PROOF {
            let mut altered = proof;
            altered[at] ^= 1;
            assert_eq!(verify(&altered, &public), None, "byte {at}");
        }
    }

    #[test]
    fn weak_keys_are_those_that_make_no_secret() {
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        dh.set(&*static_secret(&identity()).unwrap());
        for point in SMALL {
            let mut high = point;
            high[31] |= 0x80;
            for public in [point, high] {
                let mut secret = [1; 32];
                dh.dh(&public, &mut secret).unwrap();
                assert_eq!(secret, [0; 32]);
                assert!(is_weak(&public));
            }
        }
        assert!(!is_weak(&static_public(&identity()).unwrap()));
        assert!(!is_weak(&[9; 32]));
    }
}
