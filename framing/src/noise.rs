//! Encryption and proof of keys below the link, for a carrier that is one byte stream (PROTOCOL.md § 10).
//!
//! ```text
//!         link: preface, frames
//!               |      ^
//!   text        v      |
//!   ------  RecordTx  RecordRx  ------   keys of the handshake, one for each direction
//!   records     |      ^
//!               v      |
//!            the carrier as it was
//! ```
//!
//! [`secure`] runs a Noise handshake over a carrier and gives back one that looks the same and is confidential: what
//! the link says, from its preface on, travels within records. Each side proves an Ed25519 [`Identity`], or that it has a
//! [`Psk`], or both; [`CarrierInfo::peer`] tells what was proved, and [`CarrierInfo::channel_binding`] is the hash of the
//! handshake.
//!
//! Whether the peer that proved a key may do anything is for the layers above: this one compares it with a pin, no more.
//! Patience is the caller's as well: nothing here reads a clock. The handshake costs at most 4 KiB of memory, and a few
//! tenths of a millisecond.
//!
//! Read on in `hello` (what is in the clear), `handshake`, `proof`, then `key` and `record`.

mod error;
mod handshake;
mod hello;
mod key;
mod proof;
mod record;
#[cfg(test)]
mod tests;

pub(crate) mod fuzzing;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::task::Poll;

use bytes::BytesMut;
use farref_transport::address::PeerKey;
use farref_transport::{ByteRx, ByteTx, CarrierInfo, Identity, PeerEvidence, StreamCarrier};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use error::{Breach, Error, Mismatch, Misuse, RecordError};
pub use hello::{Pattern, Suite};
pub use proof::static_public;

use crate::link::Role;
use handshake::{Established, Handshake};
use record::{RecordRx, RecordTx};

/// What one side proves, and what it wants proved.
///
/// | identity | psk | pattern  | proved to each other                      |
/// |----------|-----|----------|-------------------------------------------|
/// | yes      |     | `XX`     | identities; `IK` if the dialer has `peer_static` |
/// | yes      | yes | `XXpsk3` | identities, and the pre-shared key        |
/// |          | yes | `NNpsk0` | the pre-shared key                        |
///
/// Both sides must be set up for the same row.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who this side is.
    pub identity: Option<Identity>,
    /// What both sides have known before.
    pub psk: Option<Psk>,
    /// The only key that the peer may prove. Default `None`: any.
    pub expected: Option<PeerKey>,
    /// The peer's [`static_public`], remembered from [`Secured::peer_static`], on the side that dials. Saves half a
    /// round trip, and if the peer has another by now, costs a whole one. Not used with a pre-shared key.
    ///
    /// Default `None`.
    pub peer_static: Option<[u8; 32]>,
    /// The ciphers, best first. Default [`Suite::preferred`].
    pub suites: Vec<Suite>,
}

impl Config {
    /// Proves `identity`, and accepts any from the peer.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            psk: None,
            expected: None,
            peer_static: None,
            suites: Suite::preferred(),
        }
    }

    /// Proves `psk` and nothing else: for devices without an identity.
    #[must_use]
    pub fn shared(psk: Psk) -> Self {
        Self {
            identity: None,
            psk: Some(psk),
            expected: None,
            peer_static: None,
            suites: Suite::preferred(),
        }
    }

    /// The pattern that follows from what this side has, [`Pattern::Ik`] aside.
    fn pattern(&self) -> Result<Pattern, Misuse> {
        match (&self.identity, &self.psk) {
            (Some(_), None) => Ok(Pattern::Xx),
            (Some(_), Some(_)) => Ok(Pattern::XxPsk3),
            (None, Some(_)) if self.expected.is_some() => Err(Misuse::PinWithoutIdentity),
            (None, Some(_)) => Ok(Pattern::NnPsk0),
            (None, None) => Err(Misuse::NoKey),
        }
    }
}

/// A pre-shared key: 32 bytes that were random once. A word that people can remember is none; whoever sees one handshake
/// can try them all.
///
/// Wiped when dropped, and in no `Debug` output.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; 32]);

impl Psk {
    /// The key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

/// A carrier that is encrypted, and what was learnt on the way.
#[derive(Debug)]
#[non_exhaustive]
pub struct Secured {
    /// The carrier: `info.confidential` is set, `info.channel_binding` too, and `info.peer` is
    /// [`PeerEvidence::Key`] if an identity was proved, else as it was.
    pub carrier: StreamCarrier,
    /// The static key that goes with the peer's identity, worth remembering for [`Config::peer_static`].
    pub peer_static: Option<[u8; 32]>,
    /// The pattern that was agreed on.
    pub pattern: Pattern,
    /// The cipher that was agreed on.
    pub suite: Suite,
}

/// Encrypts a carrier, and proves who is at its ends.
///
/// On return the peer has proved all that the [`Config`] demands of it. It may still refuse what the dialer proves last:
/// then the first read fails with [`RecordError::Refused`].
///
/// One proof is still due then: with [`Pattern::XxPsk3`] a dialer knows that the listener has the pre-shared key only
/// when it has read something. Until then it must not remember the key that was proved.
///
/// Waits for the peer as long as it takes: the caller's timeout must cover this. After an error the peer has been
/// told what it may know, and the carrier is closed. A listener that has answered a peer in its own words also waits
/// until that has closed, so that it can read them; any other error is told at once, whatever the peer does.
///
/// # Errors
///
/// [`Incompatible`](Error::Incompatible) if the peer does not encrypt, or speaks something else; it is answered in its own
/// words. [`Untrusted`](Error::Untrusted) if it has another key than the pinned one. The others by whose turn it is.
///
/// # Cancel safety
///
/// Dropping the future drops the carrier.
pub async fn secure(carrier: StreamCarrier, role: Role, config: Config) -> Result<Secured, Error> {
    if !carrier.info.reliable {
        return Err(Misuse::Unreliable.into());
    }
    let StreamCarrier {
        mut rx,
        mut tx,
        mut info,
        guard,
    } = carrier;
    let mut handshake = Handshake::new(role, config)?;
    handshake.start()?;
    let (made, rest) = match run(&mut *rx, &mut *tx, &mut handshake).await {
        Ok(made) => made,
        Err(error) => {
            let words = handshake.take_output();
            match error {
                // Only a listener's last words are worth waiting for: a dialer's say no more than that it failed.
                Error::Incompatible(_) if role == Role::Listener => part(&mut *rx, &mut *tx, &words).await,
                _ => part_at_once(&mut *rx, &mut *tx, &words).await,
            }
            return Err(error);
        }
    };
    describe(&mut info, &made);
    Ok(Secured {
        carrier: StreamCarrier {
            rx: Box::new(RecordRx::new(rx, made.open, rest)),
            tx: Box::new(RecordTx::new(tx, made.seal, info.fragment_hint)),
            info,
            guard,
        },
        peer_static: made.peer_static,
        pattern: made.pattern,
        suite: made.suite,
    })
}

/// What the handshake makes, and what came behind it.
async fn run(
    rx: &mut dyn ByteRx,
    tx: &mut dyn ByteTx,
    handshake: &mut Handshake,
) -> Result<(Established, BytesMut), Error> {
    let mut input = BytesMut::new();
    loop {
        write_all(tx, &handshake.take_output()).await?;
        input.reserve(READ);
        if poll_fn(|cx| rx.poll_read(cx, &mut input)).await? == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        if let Some(made) = handshake.handle_bytes(&mut input)? {
            write_all(tx, &handshake.take_output()).await?;
            return Ok((made, input));
        }
    }
}

fn describe(info: &mut CarrierInfo, made: &Established) {
    info.confidential = true;
    info.channel_binding = Some(made.hash);
    if let Some(key) = made.peer {
        info.peer = PeerEvidence::Key(*key.as_bytes());
    }
}

/// Says the last words without waiting for anything: the peer may be an impostor, who must not hide the error.
async fn part_at_once(rx: &mut dyn ByteRx, tx: &mut dyn ByteTx, words: &[u8]) {
    if words.is_empty() || tx.try_write(&[IoSlice::new(words)]).is_err() {
        return;
    }
    poll_fn(|cx| Poll::Ready(tx.poll_close(cx).is_ready())).await;
    let mut unread = BytesMut::with_capacity(READ);
    let _ = rx.try_read(&mut unread); // as in `part`, but only what is there
}

/// Says the last words and closes, so that they are heard: a socket that is dropped with bytes unread takes them back.
async fn part(rx: &mut dyn ByteRx, tx: &mut dyn ByteTx, words: &[u8]) {
    if words.is_empty() || write_all(tx, words).await.is_err() {
        return;
    }
    if poll_fn(|cx| tx.poll_close(cx)).await.is_err() {
        return;
    }
    let mut unread = BytesMut::new();
    for _ in 0..UNREAD {
        unread.clear();
        unread.reserve(READ);
        if !matches!(poll_fn(|cx| rx.poll_read(cx, &mut unread)).await, Ok(1..)) {
            return;
        }
    }
}

async fn write_all(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    if tx.is_buffering() {
        poll_fn(|cx| tx.poll_flush(cx)).await?;
    }
    Ok(())
}

/// Room for a read during the handshake: as much as one side says at a time.
const READ: usize = 2 * 1024;
/// Reads of what nobody will hear, while the peer closes.
const UNREAD: usize = 64;
