//! Records: sealed by the half that writes, opened by the half that reads, each in place (PROTOCOL.md § 10.5).

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use farref_transport::{ByteRx, ByteTx};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::noise::Suite;

/// Bytes before a record: its length.
const PREFIX: usize = 2;
/// Bytes behind a record: the proof that nobody changed it.
const TAG: usize = 16;
/// Bytes of plaintext in one record that is written: short enough to stay in the cache, and to be opened soon.
const PIECE: usize = 16 * 1024;
/// What one write takes at most: a batch of a link, and then some.
const MAX_TAKEN: usize = 128 * 1024;
/// The same on slow media: a record has 18 bytes beside its own.
const LEAST_TAKEN: usize = 256;
/// What is read at once, while there is much to read.
const READ: usize = 64 * 1024;
/// What is read at once otherwise: an idle connection keeps a buffer of that.
const READ_LITTLE: usize = 4 * 1024;
/// Records after which a direction goes on with a new key.
const REKEY_RECORDS: u64 = 1 << 20;

/// A key, and how often it was used.
pub(super) struct Cipher {
    suite: Suite,
    key: LessSafeKey,
    /// What the next key is made of.
    secret: Zeroizing<[u8; 32]>,
    /// Number of the next record.
    number: u64,
    /// Records between one key and the next.
    rekey_every: u64,
}

impl Cipher {
    pub(super) fn new(suite: Suite, secret: [u8; 32]) -> io::Result<Self> {
        Ok(Self {
            suite,
            key: key(suite, &secret)?,
            secret: Zeroizing::new(secret),
            number: 0,
            rekey_every: REKEY_RECORDS,
        })
    }

    fn nonce(&self, number: u64) -> Nonce {
        let mut bytes = [0; 12];
        let number = match self.suite {
            Suite::AesGcm => number.to_be_bytes(),
            Suite::ChaChaPoly => number.to_le_bytes(),
        };
        for (byte, of) in bytes.iter_mut().skip(4).zip(number) {
            *byte = of;
        }
        Nonce::assume_unique_for_key(bytes)
    }

    /// Counts a record, and changes the key where it is due: as `REKEY` of the Noise specification, section 4.2.
    fn count(&mut self) -> io::Result<()> {
        self.number = self
            .number
            .checked_add(1)
            .filter(|next| *next < u64::MAX)
            .ok_or_else(worn_out)?;
        if !self.number.is_multiple_of(self.rekey_every) {
            return Ok(());
        }
        let mut next = Zeroizing::new([0; 32]);
        let nonce = self.nonce(u64::MAX);
        // The specification leaves the tag out of the new key.
        let _tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut *next)
            .map_err(|_| worn_out())?;
        self.key = key(self.suite, &next)?;
        self.secret = next;
        Ok(())
    }

    /// Appends `plain` to `out` as one record.
    fn seal<'a>(
        &mut self,
        plain: impl Iterator<Item = &'a [u8]> + Clone,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        let len: usize = plain.clone().map(<[u8]>::len).sum();
        let prefix = u16::try_from(len.saturating_add(TAG))
            .map_err(|_| worn_out())?
            .to_le_bytes();
        out.extend_from_slice(&prefix);
        let at = out.len();
        plain.for_each(|piece| out.extend_from_slice(piece));
        let sealed = out.get_mut(at..).unwrap_or_default();
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(self.number), Aad::from(prefix), sealed);
        out.extend_from_slice(tag.map_err(|_| worn_out())?.as_ref());
        self.count()
    }

    /// Opens the record in `sealed`, whose length was told by `prefix`: what it holds.
    fn open(&mut self, prefix: [u8; PREFIX], mut sealed: BytesMut) -> io::Result<BytesMut> {
        let opened = self
            .key
            .open_in_place(self.nonce(self.number), Aad::from(prefix), &mut sealed);
        let len = opened.map_err(|_| forged())?.len();
        sealed.truncate(len);
        self.count()?;
        Ok(sealed)
    }
}

fn key(suite: Suite, secret: &[u8; 32]) -> io::Result<LessSafeKey> {
    let algorithm: &'static Algorithm = match suite {
        Suite::AesGcm => &AES_256_GCM,
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
    };
    UnboundKey::new(algorithm, secret)
        .map(LessSafeKey::new)
        .map_err(|_| worn_out())
}

fn worn_out() -> io::Error {
    io::Error::other("the key of the connection cannot be used any longer: connect anew")
}

fn forged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a record is not what the peer has sent: somebody or something changed it",
    )
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "cut off: the peer did not say that this is the end",
    )
}

/// The reading half over that of a carrier.
pub(super) struct NoiseRx {
    inner: Box<dyn ByteRx>,
    cipher: Cipher,
    /// What came and was not opened yet: less than a record, but for what was read with it.
    sealed: BytesMut,
    /// What was opened and not handed out yet.
    plain: BytesMut,
    phase: Phase,
    /// Whether the last read filled its buffer.
    is_busy: bool,
}

/// How far a half is.
enum Phase {
    Open,
    /// In order.
    Ended,
    /// For good.
    Failed(io::ErrorKind, String),
}

impl NoiseRx {
    /// `rest` is what came behind the handshake.
    pub(super) fn new(inner: Box<dyn ByteRx>, cipher: Cipher, rest: BytesMut) -> Self {
        Self {
            inner,
            cipher,
            sealed: rest,
            plain: BytesMut::new(),
            phase: Phase::Open,
            is_busy: false,
        }
    }

    /// Opens the next record if it is there whole.
    fn open_next(&mut self) -> io::Result<bool> {
        let Some(prefix) = self.sealed.first_chunk::<PREFIX>().copied() else {
            return Ok(false);
        };
        let len = usize::from(u16::from_le_bytes(prefix));
        if len < TAG {
            return Err(forged());
        }
        let whole = PREFIX.saturating_add(len);
        if self.sealed.len() < whole {
            // The buffer grows with what comes, and to one record at most.
            return Ok(false);
        }
        self.sealed.advance(PREFIX);
        let record = self.sealed.split_to(len);
        self.plain = self.cipher.open(prefix, record)?;
        if self.plain.is_empty() {
            // An empty record is the end.
            self.phase = Phase::Ended;
        }
        Ok(true)
    }

    /// Hands out what is there, opening records until there is no more of them or of room.
    fn hand_out(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let before = into.len();
        loop {
            if self.plain.is_empty() && (!matches!(self.phase, Phase::Open) || !self.open_next()?) {
                break;
            }
            let room = into.capacity().saturating_sub(into.len());
            if room == 0 {
                break;
            }
            let count = self.plain.len().min(room);
            into.extend_from_slice(&self.plain.split_to(count));
        }
        Ok(into.len().saturating_sub(before))
    }

    /// What can be said without reading: bytes, the end, or the failure.
    fn known(&mut self, into: &mut BytesMut) -> Option<io::Result<usize>> {
        if into.capacity() == into.len() {
            into.reserve(PIECE);
        }
        if let Phase::Failed(kind, text) = &self.phase {
            return Some(Err(io::Error::new(*kind, text.clone())));
        }
        match self.hand_out(into) {
            Ok(0) if matches!(self.phase, Phase::Ended) => Some(Ok(0)),
            Ok(0) => None,
            Ok(count) => Some(Ok(count)),
            Err(error) => Some(Err(self.fail(error))),
        }
    }

    /// Makes room for the next read.
    fn make_room(&mut self) {
        if self.sealed.is_empty() && !self.is_busy && self.sealed.capacity() > READ_LITTLE {
            self.sealed = BytesMut::new();
        }
        self.sealed.reserve(if self.is_busy { READ } else { READ_LITTLE });
    }

    /// Takes in what the carrier read.
    fn took(&mut self, read: io::Result<usize>) -> io::Result<()> {
        match read {
            Ok(0) => Err(self.fail(cut_off())),
            Ok(count) => {
                self.is_busy = count >= READ_LITTLE;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.phase = Phase::Failed(error.kind(), error.to_string());
        self.sealed = BytesMut::new();
        error
    }
}

impl ByteRx for NoiseRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        loop {
            if let Some(known) = self.known(into) {
                return known;
            }
            self.make_room();
            let read = self.inner.try_read(&mut self.sealed);
            self.took(read)?;
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.plain.is_empty() || !matches!(self.phase, Phase::Open) {
            return Poll::Ready(Ok(()));
        }
        match self.open_next() {
            Ok(false) => self.inner.poll_readable(cx),
            Ok(true) => Poll::Ready(Ok(())),
            Err(error) => {
                // The next read tells.
                drop(self.fail(error));
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            if let Some(known) = self.known(into) {
                return Poll::Ready(known);
            }
            self.make_room();
            let read = ready!(self.inner.poll_read(cx, &mut self.sealed));
            self.took(read)?;
        }
    }
}

/// The writing half over that of a carrier.
pub(super) struct NoiseTx {
    inner: Box<dyn ByteTx>,
    cipher: Cipher,
    /// Sealed, and not taken by the carrier yet.
    pending: BytesMut,
    /// What one write takes at most.
    most: usize,
    is_closed: bool,
}

impl NoiseTx {
    /// On a medium that wants fragments of `suited` bytes little is sealed at a time: what is sealed cannot be overtaken.
    pub(super) fn new(inner: Box<dyn ByteTx>, cipher: Cipher, suited: usize) -> Self {
        let most = if suited < PIECE {
            suited.max(LEAST_TAKEN)
        } else {
            MAX_TAKEN
        };
        Self {
            inner,
            cipher,
            pending: BytesMut::new(),
            most,
            is_closed: false,
        }
    }

    /// Hands the carrier what it takes now.
    fn push(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let count = self.inner.try_write(&[IoSlice::new(&self.pending)])?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pending.advance(count.min(self.pending.len()));
        }
        Ok(())
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.push() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                pushed => return Poll::Ready(pushed),
            }
            ready!(self.inner.poll_writable(cx))?;
        }
    }

    /// Seals the front of `bufs`, and says how much that was.
    fn seal(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0_usize;
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(bufs.len());
        let mut filled = 0_usize;
        'all: for buf in bufs {
            let mut rest: &[u8] = buf;
            while !rest.is_empty() {
                if taken == self.most {
                    break 'all;
                }
                let room = PIECE.saturating_sub(filled).min(self.most.saturating_sub(taken));
                let (piece, behind) = rest.split_at(room.min(rest.len()));
                rest = behind;
                filled = filled.saturating_add(piece.len());
                taken = taken.saturating_add(piece.len());
                pieces.push(piece);
                if filled == PIECE {
                    self.cipher.seal(pieces.iter().copied(), &mut self.pending)?;
                    pieces.clear();
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            self.cipher.seal(pieces.iter().copied(), &mut self.pending)?;
        }
        Ok(taken)
    }
}

impl ByteTx for NoiseTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What is sealed has its place: only when it is gone is more taken.
        self.push()?;
        let taken = self.seal(bufs)?;
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        self.inner.poll_writable(cx)
    }

    fn is_buffering(&self) -> bool {
        !self.pending.is_empty() || self.inner.is_buffering()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closed {
            self.is_closed = true;
            self.cipher.seal(std::iter::empty(), &mut self.pending)?;
        }
        match ready!(self.poll_push(cx)) {
            // A connection that is gone counts as closed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            pushed => pushed?,
        }
        self.inner.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use farref_transport::memory;
    use proptest::prelude::*;
    use snow::params::CipherChoice;
    use snow::resolvers::{CryptoResolver, DefaultResolver};

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

    fn cipher(suite: Suite, rekey_every: u64) -> Cipher {
        let mut cipher = Cipher::new(suite, KEY).unwrap();
        cipher.rekey_every = rekey_every;
        cipher
    }

    fn sealed(cipher: &mut Cipher, plain: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        cipher.seal(std::iter::once(plain), &mut out).unwrap();
        out
    }

    /// snow is the oracle: the same bytes for the same key, number and text, also behind a new key.
    #[test]
    fn records_are_those_of_noise() {
        for (suite, choice) in [
            (Suite::AesGcm, CipherChoice::AESGCM),
            (Suite::ChaChaPoly, CipherChoice::ChaChaPoly),
        ] {
            let mut ours = cipher(suite, 3);
            let mut theirs = DefaultResolver.resolve_cipher(&choice).unwrap();
            theirs.set(&KEY);
            for number in 0..10_u64 {
                let plain = vec![number as u8; 100 + number as usize];
                let record = sealed(&mut ours, &plain);
                let (prefix, body) = record.split_at(PREFIX);
                assert_eq!(
                    usize::from(u16::from_le_bytes([prefix[0], prefix[1]])),
                    body.len()
                );
                let mut expected = vec![0; plain.len() + TAG];
                theirs.encrypt(number, prefix, &plain, &mut expected);
                assert_eq!(body, expected, "{suite:?} {number}");
                if (number + 1) % 3 == 0 {
                    theirs.rekey();
                }
            }
        }
    }

    /// A reading half before which `bytes` have come, and then the end.
    fn reader(suite: Suite, bytes: &[u8]) -> NoiseRx {
        let (near, far) = memory::pair(1);
        drop(far);
        NoiseRx::new(near.rx, cipher(suite, 3), BytesMut::from(bytes))
    }

    fn read_all(rx: &mut NoiseRx) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut heard = Vec::new();
        loop {
            let mut into = BytesMut::with_capacity(5);
            match rx.try_read(&mut into) {
                Ok(0) => return (heard, None),
                Ok(count) => heard.extend_from_slice(&into[..count]),
                Err(error) => return (heard, Some(error.kind())),
            }
        }
    }

    fn three_records(suite: Suite) -> Vec<BytesMut> {
        let mut writer = cipher(suite, 3);
        [&b"one"[..], b"two", b"three", b""]
            .map(|plain| sealed(&mut writer, plain))
            .into()
    }

    #[test]
    fn what_is_sealed_is_opened_across_new_keys_up_to_the_end() {
        for suite in SUITES {
            let all = three_records(suite).concat();
            let mut rx = reader(suite, &all);
            assert_eq!(read_all(&mut rx), (b"onetwothree".to_vec(), None));
            assert_eq!(read_all(&mut rx), (Vec::new(), None));
        }
    }

    #[test]
    fn records_that_are_repeated_left_out_or_out_of_turn_end_it_for_good() {
        for suite in SUITES {
            let records = three_records(suite);
            for order in [[0, 0, 1], [0, 2, 3], [1, 0, 2], [0, 2, 1]] {
                let bytes = order.map(|at: usize| records[at].to_vec()).concat();
                let mut rx = reader(suite, &bytes);
                let (_, failure) = read_all(&mut rx);
                assert_eq!(failure, Some(io::ErrorKind::InvalidData), "{order:?}");
                assert_eq!(read_all(&mut rx), (Vec::new(), Some(io::ErrorKind::InvalidData)));
            }
        }
    }

    #[test]
    fn an_end_that_nobody_sealed_is_an_error() {
        for suite in SUITES {
            let all = three_records(suite).concat();
            for len in 0..all.len() {
                let (heard, failure) = read_all(&mut reader(suite, &all[..len]));
                assert!(b"onetwothree".starts_with(&heard));
                assert_eq!(failure, Some(io::ErrorKind::UnexpectedEof), "{len}");
            }
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed_before_it_is_heard() {
        for suite in SUITES {
            let all = three_records(suite).concat();
            for at in 0..all.len() {
                let mut changed = all.clone();
                changed[at] ^= 1;
                let (heard, failure) = read_all(&mut reader(suite, &changed));
                assert!(failure.is_some() && b"onetwothree".starts_with(&heard), "{at}");
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let (heard, failure) = read_all(&mut reader(Suite::AesGcm, &bytes));
            prop_assert!(heard.is_empty() && failure.is_some());
        }
    }
}
