//! The key of a peer, as an address pins it.

use std::fmt;
use std::str::FromStr;

/// The public Ed25519 key that a peer must prove to have. Displayed as `ed25519.` and 52 digits of
/// base32 (RFC 4648, lower case, no padding).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey([u8; 32]);

impl PeerKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what `Display` writes, and nothing else: one key has one text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let mut bytes = [0; 32];
        let mut out = bytes.iter_mut();
        let (mut pending, mut bits) = (0_u32, 0);
        for digit in digits.chars() {
            pending = pending << 5 | u32::try_from(ALPHABET.find(digit)?).ok()?;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                *out.next()? = u8::try_from(pending >> bits).ok()?;
                pending &= (1 << bits) - 1;
            }
        }
        let is_whole = out.next().is_none() && digits.len() == DIGITS && pending == 0;
        is_whole.then_some(Self(bytes))
    }
}

/// Reads what is displayed.
impl FromStr for PeerKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        Self::parse(text).ok_or(NotAKey(()))
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey(());

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a key: one is `ed25519.` and 52 digits of base32, a to z and 2 to 7")
    }
}

impl std::error::Error for NotAKey {}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        let byte = |index: usize| u16::from(self.0.get(index).copied().unwrap_or(0));
        for digit in 0..DIGITS {
            let (index, offset) = (digit * 5 / 8, digit * 5 % 8);
            let value = usize::from((byte(index) << 8 | byte(index + 1)) >> (11 - offset) & 31);
            f.write_str(ALPHABET.get(value..=value).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

const PREFIX: &str = "ed25519.";
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz234567";
const DIGITS: usize = 52;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_a_key_is_base32_as_others_write_it() {
        let bytes: [u8; 32] = std::array::from_fn(|index| index as u8);
        let text = "ed25519.aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq";
        assert_eq!(PeerKey::new(bytes).to_string(), text);
        assert_eq!(PeerKey::parse(text), Some(PeerKey::new(bytes)));
        assert_eq!(
            PeerKey::new([255; 32]).to_string(),
            format!("ed25519.{}q", "7".repeat(51))
        );
    }

    #[test]
    fn a_key_has_one_text_only() {
        let zero = PeerKey::new([0; 32]).to_string();
        for other in [
            zero.to_uppercase(),
            zero.replace("ed25519.", ""),
            format!("{zero}a"),
            zero[..zero.len() - 1].to_owned(),
            format!("{}b", &zero[..zero.len() - 1]),
            format!("{}1", &zero[..zero.len() - 1]),
        ] {
            assert_eq!(PeerKey::parse(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_key_reads_back(bytes in any::<[u8; 32]>()) {
            let key = PeerKey::new(bytes);
            prop_assert_eq!(PeerKey::parse(&key.to_string()), Some(key));
        }
    }
}
