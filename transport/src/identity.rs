//! Who a process is: one Ed25519 key pair, for every medium that proves keys.
//!
//! Knows how to make a pair, to sign with it, and to check the signature of a [`PeerKey`]. Where a pair is kept, and
//! which keys are trusted, is for the layers above.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::address::PeerKey;

/// A key pair. Clones share it; the secret half is wiped when the last is dropped, and is in no `Debug` output.
///
/// ```
/// use farref_transport::Identity;
///
/// let me = Identity::generate()?;
/// let signature = me.sign(b"it was me");
/// assert!(me.public().verify(b"it was me", &signature));
/// assert!(!me.public().verify(b"it was you", &signature));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    pair: Ed25519KeyPair,
    secret: Zeroizing<[u8; 32]>,
    public: PeerKey,
}

impl Identity {
    /// A new pair, of the randomness of the system.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(refused)?;
        Self::from_secret(&secret)
    }

    /// The pair of a secret half: 32 bytes that were random once (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    ///
    /// The cryptographic library refuses the key; it refuses none of 32 bytes today.
    pub fn from_secret(secret: &[u8; 32]) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(secret).map_err(refused)?;
        let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref();
        let public = public.try_into().map(PeerKey::new).map_err(io::Error::other)?;
        let secret = Zeroizing::new(*secret);
        Ok(Self(Arc::new(Inner { pair, secret, public })))
    }

    /// The secret half, to be kept where nobody else can read it.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.0.secret
    }

    /// The public half: what others know this process by.
    #[must_use]
    pub fn public(&self) -> PeerKey {
        self.0.public
    }

    /// Signs `message`. Whoever signs for a purpose puts the name of the purpose in front of what is signed.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.0.pair.sign(message);
        let mut bytes = [0; 64];
        for (byte, signed) in bytes.iter_mut().zip(signature.as_ref()) {
            *byte = *signed;
        }
        bytes
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.public)
    }
}

fn refused(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl PeerKey {
    /// Whether `signature` is that of this key's secret half over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.as_bytes())
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let secret = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let identity = Identity::from_secret(&secret.try_into().unwrap()).unwrap();
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(identity.public().as_bytes()[..], public);
        let expected = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert_eq!(identity.sign(&[0x72])[..], expected);
    }

    #[test]
    fn another_key_or_message_does_not_verify() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let signature = one.sign(b"message");
        assert!(one.public().verify(b"message", &signature));
        assert!(!other.public().verify(b"message", &signature));
        assert!(!one.public().verify(b"massage", &signature));
        let again = Identity::from_secret(one.secret()).unwrap();
        assert_eq!(again.public(), one.public());
    }

    #[test]
    fn the_secret_is_not_shown() {
        let identity = Identity::from_secret(&[7; 32]).unwrap();
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.public())
        );
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
