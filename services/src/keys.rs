//! Who this process is, whom it trusts, and whom it lets in: files in the manner of ssh.
//!
//! ```text
//! identity            farref-identity-v1 <secret>                     mode 0600; `identity.pub` beside it
//! known_peers         tcp://rig7:7000 ed25519.nfzx... the bench       checked when dialling
//!                     quic://*.lab:7000 ed25519.q5ma...               `*` stands for any text
//!                     @revoked ed25519.aaaq... stolen                 never, nowhere
//! authorized_peers    ed25519.4k2e... ann                             checked when listening
//!                     from="10.0.0.0/8",expires=2027-01-01,readonly ed25519.mz5r... bob
//! ```
//!
//! They are in `$FARREF_HOME`, else in `$XDG_CONFIG_HOME/farref`, else in `~/.config/farref` ([`KeyStore::of_user`]).
//! An empty line and one that begins with `#` say nothing. A line that cannot be understood is an error where it
//! would let somebody in or keep somebody out; no line is ever changed but by who asks for that one. A file that another account could have
//! written, or put in place of the right one, is not used: it belongs to this account or to root, and nobody else can
//! write it or a directory on the way to it.
//!
//! Nothing here opens a connection.

mod authorized;
mod edit;
mod known;
mod store;
mod trust;

use std::fmt;

use farref_transport::address::PeerKey;
use sha2::{Digest, Sha256};

pub use authorized::{Authorized, AuthorizedPeer, Grant, Network};
pub use farref_framing::noise::Psk;
pub use farref_transport::Identity;
pub use known::{KnownPeer, KnownPeers, Policy, Question};
pub use store::KeyStore;
pub use trust::Trust;

/// Reads `text` as each of the files.
pub(crate) fn fuzz(text: &str) {
    store::fuzz(text);
    known::fuzz(text);
    authorized::fuzz(text);
}

/// A short name of a key, to compare by eye or by telephone: 160 bits of its SHA-256 as eight groups of four digits
/// of base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// The fingerprint of `key`.
    #[must_use]
    pub fn of(key: &PeerKey) -> Self {
        let mut bytes = [0; 20];
        for (byte, digest) in bytes.iter_mut().zip(Sha256::digest(key.as_bytes())) {
            *byte = digest;
        }
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a key is base32 already: that of these bytes is its first 32 digits.
        let mut whole = [0; 32];
        for (byte, of) in whole.iter_mut().zip(self.0) {
            *byte = of;
        }
        let text = PeerKey::new(whole).to_string();
        let digits = text.rsplit('.').next().unwrap_or_default();
        for (index, digit) in digits.chars().take(32).enumerate() {
            if index > 0 && index % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fingerprint_is_eight_groups_of_the_digest() {
        let key = PeerKey::new([0; 32]);
        // SHA-256 of 32 zero bytes begins 66 68 7a ad f8 62 bd 77 6c 8f c1 8b 8e 9f 8e 20 08 97 14 85.
        let text = Fingerprint::of(&key).to_string();
        assert_eq!(text, "mzuh-vlpy-mk6x-o3ep-ygfy-5h4o-eaej-ofef");
    }

    proptest! {
        #[test]
        fn any_text_is_peers_or_an_error(text in any::<String>()) {
            fuzz(&text);
        }

        /// Pieces of lines, and keys behind them, so that these go deeper.
        #[test]
        fn text_that_looks_like_peers_is_some_or_an_error(
            lines in proptest::collection::vec(
                ("(services|from|expires|readonly|tcp://a|@revoked|[=\",* /.0-9-]){0,8}", any::<[u8; 32]>(), "[a-z\" ]{0,4}"),
                0..4,
            ),
        ) {
            let lines = lines.into_iter().map(|(before, key, behind)| format!("{before} {} {behind}\n", PeerKey::new(key)));
            fuzz(&lines.collect::<String>());
        }
    }
}
