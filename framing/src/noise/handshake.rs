//! The handshake, message by message.

use std::future::poll_fn;
use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use farref_transport::address::PeerKey;
use farref_transport::{ByteRx, ByteTx, Identity};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::limits::MAX_PREFACE;
use crate::noise::hello::{Hello, Kind, LEN, MAGIC, MAX_MESSAGE};
use crate::noise::{Config, Error, Parts, Pattern, Suite};
use crate::preface::{self, Foreign};

/// Begins every prologue.
const PROLOGUE: &[u8] = b"farref-noise-v1";
/// What an identity signs to vouch for an X25519 key.
const VOUCH: &[u8] = b"farref-noise-static-v1:";
/// What the X25519 key of an identity is derived by.
const STATIC: &[u8] = b"farref-noise-x25519-v1";
/// An Ed25519 key and its signature of the X25519 key.
const PROOF: usize = 32 + 64;
/// The hash of what was said in the clear.
const HASH: usize = 32;

/// What a handshake agrees on.
pub(super) struct Agreed {
    pub(super) suite: Suite,
    /// Of what this side writes, and of what it reads.
    pub(super) keys: (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>),
    pub(super) binding: [u8; 32],
    pub(super) peer: Option<PeerKey>,
    pub(super) peer_static: Option<[u8; 32]>,
}

/// A carrier in the handshake.
pub(super) struct Exchange {
    rx: Box<dyn ByteRx>,
    tx: Box<dyn ByteTx>,
    input: BytesMut,
    /// Everything that was said in the clear, in order.
    transcript: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(rx: Box<dyn ByteRx>, tx: Box<dyn ByteTx>) -> Self {
        Self {
            rx,
            tx,
            input: BytesMut::new(),
            transcript: PROLOGUE.to_vec(),
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        (self.rx, self.tx, self.input)
    }

    /// The side that dials.
    pub(super) async fn dial(&mut self, config: &Config) -> Result<Agreed, Error> {
        let assumed = match (&config.identity, &config.psk, config.pinned, config.peer_static) {
            (Some(_), None, Some(_), Some(key)) => Some(key),
            _ => None,
        };
        if let Some(peer) = assumed
            && let Some(agreed) = self.dial_as(config, Pattern::Ik, Some(peer)).await?
        {
            return Ok(agreed);
        }
        self.dial_as(config, config.pattern()?, None)
            .await?
            .ok_or(Error::Malformed)
    }

    /// One attempt; `None` if the listener has another key by now.
    async fn dial_as(
        &mut self,
        config: &Config,
        pattern: Pattern,
        peer: Option<[u8; 32]>,
    ) -> Result<Option<Agreed>, Error> {
        let suite = config.suite;
        // The length is not known yet; it is bound by the message that it is the length of.
        self.transcript
            .extend_from_slice(&Hello::message(pattern, suite, 0).encoded());
        let secret = config.identity.as_ref().map(static_key);
        let mut noise = builder(config, secret.as_deref(), pattern, suite, &self.transcript)?;
        if let Some(key) = &peer {
            noise = noise.remote_public_key(key)?;
        }
        let mut noise = noise.build_initiator()?;
        let first = if pattern == Pattern::Ik {
            proof(config)?
        } else {
            Vec::new()
        };
        self.say(pattern, suite, &mut noise, &first).await?;

        let hello = self.hear_hello().await?;
        match hello.kind {
            Kind::Message if hello.pattern == pattern as u8 && hello.suite == suite as u8 => {}
            Kind::Message => return Err(Error::Malformed),
            Kind::Again if pattern == Pattern::Ik => return Ok(None),
            Kind::OtherPattern => {
                let theirs = Pattern::of(hello.pattern).map_or("something else", Pattern::word);
                return Err(Error::Setup {
                    ours: pattern.word(),
                    theirs,
                });
            }
            Kind::NotHere => return Err(Error::NotHere),
            Kind::Again => return Err(Error::Malformed),
        }
        let payload = self.hear(&mut noise, hello.len).await?;
        let has_proof = pattern != Pattern::NnPsk0;
        let (shown, hash) = split(&payload, has_proof)?;
        if *hash != *self.hash() {
            return Err(Error::Failed);
        }
        let peer = if has_proof {
            Some(check_proof(shown, &noise)?)
        } else {
            None
        };
        if let (Some(expected), Some(found)) = (config.pinned, peer)
            && expected != found
        {
            return Err(Error::WrongKey { expected, found });
        }
        if !noise.is_handshake_finished() {
            self.say(pattern, suite, &mut noise, &proof(config)?).await?;
        }
        agreed(noise, suite, peer, true).map(Some)
    }

    /// The side that listens.
    pub(super) async fn listen(&mut self, config: &Config) -> Result<Agreed, Error> {
        let own = config.pattern()?;
        let secret = config.identity.as_ref().map(static_key);
        let mut may_begin_again = true;
        loop {
            let hello = self.hear_hello().await?;
            let pattern = Pattern::of(hello.pattern).ok_or(Error::Malformed)?;
            let suite = Suite::of(hello.suite).ok_or(Error::Malformed)?;
            if hello.kind != Kind::Message {
                return Err(Error::Malformed);
            }
            let is_ik = pattern == Pattern::Ik && own == Pattern::Xx;
            if pattern != own && !is_ik {
                let other = Hello {
                    kind: Kind::OtherPattern,
                    pattern: own as u8,
                    suite: suite as u8,
                    len: 0,
                };
                self.write(&other.encoded()).await?;
                return Err(Error::Setup {
                    ours: own.word(),
                    theirs: pattern.word(),
                });
            }
            let noise = builder(config, secret.as_deref(), pattern, suite, &self.transcript)?;
            let mut noise = noise.build_responder()?;
            let first = match self.hear(&mut noise, hello.len).await {
                // It was meant for a key that this side does not have, or no longer.
                Err(Error::Failed) if is_ik && may_begin_again => {
                    may_begin_again = false;
                    let again = Hello {
                        kind: Kind::Again,
                        pattern: own as u8,
                        suite: suite as u8,
                        len: 0,
                    };
                    self.transcript.extend_from_slice(&again.encoded());
                    self.write(&again.encoded()).await?;
                    continue;
                }
                first => first?,
            };
            return self.answer(config, pattern, suite, noise, &first).await;
        }
    }

    async fn answer(
        &mut self,
        config: &Config,
        pattern: Pattern,
        suite: Suite,
        mut noise: HandshakeState,
        first: &[u8],
    ) -> Result<Agreed, Error> {
        let mut peer = None;
        if pattern == Pattern::Ik {
            peer = Some(check_proof(first, &noise)?);
        }
        self.transcript
            .extend_from_slice(&Hello::message(pattern, suite, 0).encoded());
        let mut payload = if pattern == Pattern::NnPsk0 {
            Vec::new()
        } else {
            proof(config)?
        };
        payload.extend_from_slice(&*self.hash());
        self.say(pattern, suite, &mut noise, &payload).await?;
        if !noise.is_handshake_finished() {
            let hello = self.hear_hello().await?;
            if (hello.kind, hello.pattern, hello.suite) != (Kind::Message, pattern as u8, suite as u8) {
                return Err(Error::Malformed);
            }
            let last = self.hear(&mut noise, hello.len).await?;
            peer = Some(check_proof(&last, &noise)?);
        }
        if let (Some(expected), Some(found)) = (config.pinned, peer)
            && expected != found
        {
            return Err(Error::WrongKey { expected, found });
        }
        agreed(noise, suite, peer, false)
    }

    /// The hash of all that was said in the clear up to message 2.
    fn hash(&self) -> Zeroizing<[u8; HASH]> {
        Zeroizing::new(Sha256::digest(&self.transcript).into())
    }

    /// Writes a message of the handshake behind its hello.
    async fn say(
        &mut self,
        pattern: Pattern,
        suite: Suite,
        noise: &mut HandshakeState,
        payload: &[u8],
    ) -> Result<(), Error> {
        let mut message = [0; MAX_MESSAGE];
        let len = noise.write_message(payload, &mut message)?;
        let short = u16::try_from(len).map_err(|_| Error::Malformed)?;
        let mut out = Hello::message(pattern, suite, short).encoded().to_vec();
        out.extend_from_slice(message.get(..len).unwrap_or_default());
        self.write(&out).await
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.tx.try_write(&[IoSlice::new(bytes)]) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.tx.poll_writable(cx)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.tx.is_buffering() {
            poll_fn(|cx| self.tx.poll_flush(cx)).await?;
        }
        Ok(())
    }

    /// Reads until `len` bytes are there.
    async fn fill(&mut self, len: usize) -> Result<(), Error> {
        while self.input.len() < len {
            // No more than this is read before the peer has proved something.
            self.input.reserve(MAX_PREFACE);
            if poll_fn(|cx| self.rx.poll_read(cx, &mut self.input)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }

    /// Reads a hello. Whoever says something else is answered in its own words.
    async fn hear_hello(&mut self) -> Result<Hello, Error> {
        self.fill(1).await?;
        loop {
            let is_ours = self.input.iter().zip(&MAGIC).all(|(came, want)| came == want);
            if !is_ours {
                return Err(self.not_ours().await);
            }
            if self.input.len() >= MAGIC.len() {
                break;
            }
            self.fill(self.input.len().saturating_add(1)).await?;
        }
        self.fill(LEN).await?;
        let bytes = *self.input.first_chunk::<LEN>().ok_or(Error::Malformed)?;
        self.input.advance(LEN);
        let hello = Hello::decode(bytes).map_err(|version| version.map_or(Error::Malformed, Error::Version));
        if let Err(Error::Version(_)) = hello {
            // Its version tells the peer what this side speaks.
            let other = Hello {
                kind: Kind::OtherPattern,
                pattern: 0,
                suite: 0,
                len: 0,
            };
            let _ = self.write(&other.encoded()).await;
        }
        let hello = hello?;
        // The length is left out: it is bound by the message.
        let bound = Hello { len: 0, ..hello };
        self.transcript.extend_from_slice(&bound.encoded());
        Ok(hello)
    }

    /// What the first bytes are if they are no hello. Says what there is to be said.
    async fn not_ours(&mut self) -> Error {
        if self.fill(preface::MAGIC.len()).await.is_ok() && self.input.starts_with(&preface::MAGIC) {
            let _ = self.write(&preface::must_encrypt()).await;
            return Error::PeerIsPlain;
        }
        let foreign = Foreign::recognise(&self.input);
        if let Some(reply) = foreign.reply() {
            let _ = self.write(reply).await;
        }
        Error::Foreign(foreign)
    }

    /// Reads a message of the handshake: its payload.
    async fn hear(&mut self, noise: &mut HandshakeState, len: u16) -> Result<Vec<u8>, Error> {
        let len = usize::from(len);
        self.fill(len).await?;
        let message = self.input.split_to(len);
        let mut payload = vec![0; MAX_MESSAGE];
        let read = noise.read_message(&message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }
}

/// A handshake that is about to begin.
fn builder<'a>(
    config: &'a Config,
    secret: Option<&'a [u8; 32]>,
    pattern: Pattern,
    suite: Suite,
    prologue: &'a [u8],
) -> Result<Builder<'a>, Error> {
    let name = format!("Noise_{}_25519_{}", pattern.word(), suite.words());
    let mut builder = Builder::new(name.parse()?).prologue(prologue)?;
    if let (Some(secret), true) = (secret, pattern != Pattern::NnPsk0) {
        builder = builder.local_private_key(secret)?;
    }
    if let Some(psk) = &config.psk {
        let location = if pattern == Pattern::NnPsk0 { 0 } else { 3 };
        builder = builder.psk(location, &psk.0)?;
    }
    Ok(builder)
}

/// The X25519 key of an identity. Noise wants a key that is used for nothing else; this one is derived, so that there
/// is one secret to keep.
fn static_key(identity: &Identity) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // An HMAC takes keys of every length.
    if let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(identity.secret()) {
        hmac.update(STATIC);
        key.copy_from_slice(&hmac.finalize().into_bytes());
    }
    key
}

/// What proves that the identity of this side vouches for the X25519 key that it uses.
fn proof(config: &Config) -> Result<Vec<u8>, Error> {
    let identity = config.identity.as_ref().ok_or(Error::Unready)?;
    let public = x25519_public(&static_key(identity));
    let signature = identity.sign(&[VOUCH, &public].concat());
    Ok([&identity.public().as_bytes()[..], &signature[..]].concat())
}

/// The public half of an X25519 key.
fn x25519_public(secret: &[u8; 32]) -> [u8; 32] {
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    let mut public = [0; 32];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519) {
        dh.set(secret);
        for (byte, of) in public.iter_mut().zip(dh.pubkey()) {
            *byte = *of;
        }
    }
    public
}

/// The key of the peer, if it vouches for the X25519 key that the peer uses.
fn check_proof(payload: &[u8], noise: &HandshakeState) -> Result<PeerKey, Error> {
    let (key, signature) = payload.split_first_chunk::<32>().ok_or(Error::Failed)?;
    let signature: &[u8; 64] = signature.try_into().map_err(|_| Error::Failed)?;
    let used = noise.get_remote_static().ok_or(Error::Failed)?;
    let key = PeerKey::new(*key);
    key.verify(&[VOUCH, used].concat(), signature)
        .then_some(key)
        .ok_or(Error::Failed)
}

/// The two parts of the payload of message 2.
fn split(payload: &[u8], has_proof: bool) -> Result<(&[u8], &[u8; HASH]), Error> {
    let proof = if has_proof { PROOF } else { 0 };
    let (proof, hash) = payload.split_at_checked(proof).ok_or(Error::Failed)?;
    Ok((proof, hash.try_into().map_err(|_| Error::Failed)?))
}

fn agreed(
    mut noise: HandshakeState,
    suite: Suite,
    peer: Option<PeerKey>,
    is_dialer: bool,
) -> Result<Agreed, Error> {
    let mut binding = [0; 32];
    for (byte, of) in binding.iter_mut().zip(noise.get_handshake_hash()) {
        *byte = *of;
    }
    let peer_static = noise.get_remote_static().and_then(|key| key.try_into().ok());
    let (from_dialer, from_listener) = noise.dangerously_get_raw_split();
    let (from_dialer, from_listener) = (Zeroizing::new(from_dialer), Zeroizing::new(from_listener));
    let keys = if is_dialer {
        (from_dialer, from_listener)
    } else {
        (from_listener, from_dialer)
    };
    Ok(Agreed {
        suite,
        keys,
        binding,
        peer,
        peer_static,
    })
}
