//! The keys of an encrypted carrier, one for each direction: seal and open (PROTOCOL.md § 10.6, § 10.7).
//!
//! Knows nonces and when a key is replaced. Where records begin and end is told by the caller.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::hello::Suite;

/// Bytes that a sealed text is longer than the text.
pub(super) const TAG: usize = 16;

/// Records after which a key is replaced. They hold less than 64 GiB, since each is shorter than 64 KiB.
const RECORDS: u64 = 1 << 20;

/// The key that one direction is sealed with, on the side that writes.
#[derive(Debug)]
pub(super) struct SealKey(Key);

/// The same key on the side that reads.
#[derive(Debug)]
pub(super) struct OpenKey(Key);

/// # Invariant
///
/// No number is used twice: `next` grows with each record that was sealed or opened, also across keys.
struct Key {
    suite: Suite,
    key: LessSafeKey,
    /// Number of the next record.
    next: u64,
    /// Records after which the key is replaced.
    every: u64,
}

impl SealKey {
    pub(super) fn new(suite: Suite, secret: &[u8; 32]) -> Option<Self> {
        Key::new(suite, secret).map(Self)
    }

    /// Seals `text` where it is, under `header`, and returns the tag that goes behind it. `None`: no number is left.
    pub(super) fn seal(&mut self, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = self.0.nonce()?;
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), text)
            .ok()?;
        self.0.used();
        tag.as_ref().try_into().ok()
    }

    /// Seals `text` to `sealed`, which is as long as it and the tag. `None`: no number is left.
    pub(super) fn seal_to(&mut self, header: &[u8], text: &[u8], sealed: &mut [u8]) -> Option<()> {
        let nonce = self.0.nonce()?;
        let (into, tag) = sealed.split_at_mut_checked(text.len())?;
        self.0
            .key
            .seal_out_of_place_scatter(nonce, Aad::from(header), text, into, &[], tag)
            .ok()?;
        self.0.used();
        Some(())
    }
}

impl OpenKey {
    pub(super) fn new(suite: Suite, secret: &[u8; 32]) -> Option<Self> {
        Key::new(suite, secret).map(Self)
    }

    /// Opens `sealed`, text and tag, where it is, and returns the length of the text. `None`: it is not authentic;
    /// then `sealed` holds nothing of use, and the number is not used up.
    pub(super) fn open(&mut self, header: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let nonce = self.0.nonce()?;
        let len = self
            .0
            .key
            .open_in_place(nonce, Aad::from(header), sealed)
            .ok()?
            .len();
        self.0.used();
        Some(len)
    }

    /// Opens `sealed` to `text`, which is as long as it without the tag, and returns that length. `None` as for
    /// [`open`](Self::open); then `text` holds nothing of use.
    pub(super) fn open_to(&mut self, header: &[u8], sealed: &[u8], text: &mut [u8]) -> Option<usize> {
        let nonce = self.0.nonce()?;
        let (sealed, tag) = sealed.split_at_checked(text.len())?;
        self.0
            .key
            .open_separate_gather(nonce, Aad::from(header), sealed, tag, text)
            .ok()?;
        self.0.used();
        Some(text.len())
    }

    /// Number of the next record.
    pub(super) const fn next(&self) -> u64 {
        self.0.next
    }
}

impl Key {
    fn new(suite: Suite, secret: &[u8; 32]) -> Option<Self> {
        Some(Self {
            suite,
            key: key(suite, secret)?,
            next: 0,
            every: RECORDS,
        })
    }

    /// The nonce of the next record, of the key that is due for it.
    fn nonce(&self) -> Option<Nonce> {
        if self.next == REKEY {
            return None;
        }
        Some(nonce(self.suite, self.next))
    }

    /// Goes on to the next record, with a new key if one is due (Noise rev 34 § 10.3).
    fn used(&mut self) {
        self.next = self.next.saturating_add(1);
        if self.next.checked_rem(self.every) == Some(0) {
            self.replace();
        }
    }

    /// REKEY of Noise rev 34 § 4.2: zeros sealed with the last of all numbers are the new key.
    fn replace(&mut self) {
        let mut secret = Zeroizing::new([0; 32]);
        let nonce = nonce(self.suite, REKEY);
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut *secret);
        match sealed.ok().and_then(|_| key(self.suite, &secret)) {
            Some(key) => self.key = key,
            None => self.next = REKEY, // that never fails; if it did, the old key would not be used on
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("suite", &self.suite)
            .field("next", &self.next)
            .finish_non_exhaustive() // the key itself stays out of logs
    }
}

fn key(suite: Suite, secret: &[u8; 32]) -> Option<LessSafeKey> {
    let algorithm = match suite {
        Suite::AesGcm => &AES_256_GCM,
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
    };
    UnboundKey::new(algorithm, secret).ok().map(LessSafeKey::new)
}

/// Noise rev 34 § 12.3 and § 12.4: four zero bytes, then the number, in another order for each cipher.
fn nonce(suite: Suite, number: u64) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(last) = bytes.last_chunk_mut::<8>() {
        *last = match suite {
            Suite::AesGcm => number.to_be_bytes(),
            Suite::ChaChaPoly => number.to_le_bytes(),
        };
    }
    Nonce::assume_unique_for_key(bytes)
}

/// The number that is kept for REKEY.
const REKEY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use snow::{Builder, TransportState};

    use super::*;

    const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

    /// Both sides of a handshake by snow alone: its own state for records, and the secret of the first side's direction.
    fn oracle(suite: Suite) -> (TransportState, TransportState, [u8; 32]) {
        let builder = || Builder::new(format!("Noise_NN_{suite}").parse().unwrap());
        let mut first = builder().build_initiator().unwrap();
        let mut second = builder().build_responder().unwrap();
        let (mut message, mut payload) = ([0; 64], [0; 64]);
        let len = first.write_message(&[], &mut message).unwrap();
        second.read_message(&message[..len], &mut payload).unwrap();
        let len = second.write_message(&[], &mut message).unwrap();
        first.read_message(&message[..len], &mut payload).unwrap();
        let (secret, _) = first.dangerously_get_raw_split();
        (
            first.into_transport_mode().unwrap(),
            second.into_transport_mode().unwrap(),
            secret,
        )
    }

    /// The keys of one direction.
    fn keys(suite: Suite) -> (SealKey, OpenKey) {
        let secret = [7; 32];
        (
            SealKey::new(suite, &secret).unwrap(),
            OpenKey::new(suite, &secret).unwrap(),
        )
    }

    fn text(record: usize) -> Vec<u8> {
        (0..record * 37 % 300).map(|at| (at + record) as u8).collect()
    }

    #[test]
    fn records_are_those_of_snow_also_after_keys_were_replaced() {
        for suite in SUITES {
            let (mut first, mut second, secret) = oracle(suite);
            let [mut seal, mut again] = [(); 2].map(|()| SealKey::new(suite, &secret).unwrap());
            let [mut open, mut reopen] = [(); 2].map(|()| OpenKey::new(suite, &secret).unwrap());
            for key in [&mut seal.0, &mut again.0, &mut open.0, &mut reopen.0] {
                key.every = 5;
            }
            for record in 0..23 {
                if record != 0 && record % 5 == 0 {
                    first.rekey_outgoing();
                    second.rekey_incoming();
                }
                let said = text(record);
                let mut expected = vec![0; said.len() + TAG];
                first.write_message(&said, &mut expected).unwrap();
                let mut sealed = said.clone();
                let tag = seal.seal(&[], &mut sealed).unwrap();
                sealed.extend_from_slice(&tag);
                assert_eq!(sealed, expected, "{suite}, record {record}");
                let mut elsewhere = vec![1; said.len() + TAG];
                again.seal_to(&[], &said, &mut elsewhere).unwrap();
                assert_eq!(
                    elsewhere, expected,
                    "{suite}, record {record}, from where it lies"
                );
                let mut heard = vec![0; said.len()];
                second.read_message(&sealed, &mut heard).unwrap();
                assert_eq!(heard, said);
                let mut elsewhere = vec![1; said.len()];
                assert_eq!(reopen.open_to(&[], &sealed, &mut elsewhere), Some(said.len()));
                assert_eq!(elsewhere, said);
                assert_eq!(open.open(&[], &mut sealed), Some(said.len()));
                assert_eq!(sealed[..said.len()], said);
            }
        }
    }

    #[test]
    fn what_is_not_authentic_uses_no_number_up() {
        for suite in SUITES {
            let (mut seal, mut open) = keys(suite);
            let sealed = |seal: &mut SealKey, header: &[u8]| {
                let mut text = *b"text";
                let tag = seal.seal(header, &mut text).unwrap();
                [&text[..], &tag].concat()
            };
            let record = sealed(&mut seal, &[20, 0]);
            for at in 0..record.len() {
                let mut altered = record.clone();
                altered[at] ^= 0x10;
                assert_eq!(open.open_to(&[20, 0], &altered, &mut [0; 4]), None);
                assert_eq!(open.open(&[20, 0], &mut altered), None);
            }
            for len in [0, 3, 5, 20] {
                assert_eq!(
                    open.open_to(&[20, 0], &record, &mut vec![0; len]),
                    None,
                    "room for {len}"
                );
            }
            assert_eq!(open.open(&[21, 0], &mut record.clone()), None, "another header");
            assert_eq!(open.open(&[20, 0], &mut record[..15].to_vec()), None, "no tag");
            assert_eq!(open.next(), 0);
            assert_eq!(open.open(&[20, 0], &mut record.clone()), Some(4));
            assert_eq!(open.open(&[20, 0], &mut record.clone()), None, "repeated");
            let _left_out = sealed(&mut seal, &[20, 0]);
            assert_eq!(open.open(&[20, 0], &mut sealed(&mut seal, &[20, 0])), None);
        }
    }

    #[test]
    fn the_last_number_is_never_used() {
        let (mut seal, mut open) = keys(Suite::AesGcm);
        (seal.0.next, open.0.next) = (REKEY - 1, REKEY - 1);
        let mut text = *b"text";
        let tag = seal.seal(&[], &mut text).unwrap();
        let mut sealed = [&text[..], &tag].concat();
        assert_eq!(open.open(&[], &mut sealed), Some(4));
        assert_eq!(seal.seal(&[], &mut text), None);
        assert_eq!(open.open(&[], &mut sealed), None);
    }

    #[test]
    fn a_key_lasts_for_a_mebirecord() {
        let (seal, open) = keys(Suite::AesGcm);
        assert_eq!((seal.0.every, open.0.every), (1 << 20, 1 << 20));
        const { assert!(RECORDS * 65_535 < 64 << 30) }
    }
}
