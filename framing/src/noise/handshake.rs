//! From two hellos to two keys: the handshake, without IO (PROTOCOL.md § 10.3 to § 10.5).
//!
//! Bytes go in, bytes to write come out; the Noise itself is snow's. Knows when to begin again, whose identity is
//! proved, and what to say last when it fails.
//!
//! ```text
//! dialer                                     listener
//!        hello, message 1             ---->
//!                                     <----  hello "again"            at most once
//!        hello, message 1             ---->
//!                                     <----  hello, message 2         proves the listener
//!        message 3, or an empty record  -->                           proves the dialer
//! ```

use bytes::{Buf, BytesMut};
use farref_transport::address::PeerKey;
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::Config;
use super::error::{Breach, Error, Mismatch, Misuse};
use super::hello::{Hello, Pattern, Suite, Verdict};
use super::key::{OpenKey, SealKey, TAG};
use super::proof::{PROOF, is_weak, prove, static_public, static_secret, verify};
use crate::link::Role;
use crate::preface;

/// A message of this length says that the handshake has failed; nothing follows.
pub(super) const ALERT: [u8; 2] = [0, 0];

/// Longest message of any pattern, with room for snow to work in.
const MESSAGE: usize = 512;

/// Longest message 1 that is thrown away: it may be of a later suite, with longer keys.
const THROWN_AWAY: usize = 1536;

/// One side of a handshake.
///
/// # Invariant
///
/// `transcript` holds all bytes of both sides, in order, up to message 2. A Noise begins over what it holds before
/// message 1, and message 2 carries its hash: where the two sides' differ, nothing comes of it. `keys` are handed out
/// once, when the other side has proved all that it must, and never after an error.
pub(super) struct Handshake {
    role: Role,
    config: Config,
    stage: Stage,
    /// This is the second try.
    again: bool,
    pattern: Pattern,
    suite: Suite,
    transcript: Vec<u8>,
    noise: Option<Box<HandshakeState>>,
    peer: Peer,
    keys: Option<Established>,
    /// What is to be written next.
    out: Vec<u8>,
    #[cfg(test)]
    pub(super) ephemeral: Option<[u8; 32]>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The other side's hello.
    Hello,
    /// A message of the handshake, by its number.
    Message(u8),
    /// Nothing more: it is over.
    Done,
}

/// What was learnt of the peer.
#[derive(Clone, Copy, Default)]
struct Peer {
    key: Option<PeerKey>,
    static_key: Option<[u8; 32]>,
}

/// What a handshake has made.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) seal: SealKey,
    pub(super) open: OpenKey,
    pub(super) hash: [u8; 32],
    pub(super) peer: Option<PeerKey>,
    pub(super) peer_static: Option<[u8; 32]>,
    pub(super) pattern: Pattern,
    pub(super) suite: Suite,
}

impl Handshake {
    /// Begins: the dialer has something to write already.
    pub(super) fn new(role: Role, config: Config) -> Result<Self, Error> {
        let mut pattern = config.pattern()?;
        let suite = *config.suites.first().ok_or(Misuse::NoSuite)?;
        if role == Role::Dialer && pattern == Pattern::Xx && config.peer_static.is_some() {
            pattern = Pattern::Ik;
        }
        Ok(Self {
            role,
            config,
            stage: Stage::Hello,
            again: false,
            pattern,
            suite,
            transcript: Vec::new(),
            noise: None,
            peer: Peer::default(),
            keys: None,
            out: Vec::new(),
            #[cfg(test)]
            ephemeral: None,
        })
    }

    /// The dialer's first words. The listener has none.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        match self.role {
            Role::Dialer => self.greet(),
            Role::Listener => Ok(()),
        }
    }

    /// Takes what is to be written; after an error: the last words.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Consumes what came, as far as it is whole and belongs to the handshake, and says what is made once it is.
    pub(super) fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<Option<Established>, Error> {
        let advanced = self.advance(input);
        if let Err(error) = &advanced {
            self.say_last(error);
            self.stage = Stage::Done;
            (self.keys, self.noise) = (None, None);
        }
        advanced
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Established>, Error> {
        while !input.is_empty() {
            match self.stage {
                Stage::Hello => {
                    let Some((hello, len)) = Hello::decode(input)? else {
                        return Ok(None);
                    };
                    let raw = input.split_to(len);
                    match self.role {
                        Role::Dialer => self.answered(&hello, &raw)?,
                        Role::Listener => self.greeted(&hello, &raw)?,
                    }
                }
                Stage::Message(number) => {
                    let Some(mut message) = self.message(number, input)? else {
                        return Ok(None);
                    };
                    self.handle_message(number, &mut message)?;
                }
                Stage::Done => break, // what follows are records
            }
        }
        Ok(match self.stage {
            Stage::Done => self.keys.take(),
            _ => None,
        })
    }

    /// The next message if it is whole. Its length is what its pattern says, or it is none.
    /// One that is thrown away may be of a suite that is unknown here: then only its length is looked at.
    fn message(&self, number: u8, input: &mut BytesMut) -> Result<Option<BytesMut>, Error> {
        let Some(announced) = input.first_chunk() else {
            return Ok(None);
        };
        if *announced == ALERT {
            return Err(Error::Refused);
        }
        let len = usize::from(u16::from_le_bytes(*announced));
        let is_thrown_away = number == 1 && self.noise.is_none();
        if len != self.pattern.message_len(number) && !(is_thrown_away && len <= THROWN_AWAY) {
            return Err(Breach::MessageLength { message: number, len }.into());
        }
        let whole = len.saturating_add(2);
        if input.len() < whole {
            return Ok(None);
        }
        let mut message = input.split_to(whole);
        message.advance(2);
        Ok(Some(message))
    }

    /// The dialer's hello and message 1.
    fn greet(&mut self) -> Result<(), Error> {
        let mut suites = vec![self.suite.number()];
        let others = self.config.suites.iter().filter(|suite| **suite != self.suite);
        suites.extend(others.map(|suite| suite.number()));
        let hello = Hello {
            role: Role::Dialer,
            verdict: if self.again { Verdict::Again } else { Verdict::Go },
            pattern: self.pattern.number(),
            suites,
        };
        hello.encode(&mut self.out);
        hello.encode(&mut self.transcript);
        self.begin()?;
        let before = self.out.len();
        self.write_message()?;
        self.transcript
            .extend_from_slice(self.out.get(before..).unwrap_or_default());
        self.stage = Stage::Hello;
        Ok(())
    }

    /// The listener's first or second hello is there.
    fn answered(&mut self, hello: &Hello, raw: &[u8]) -> Result<(), Error> {
        if hello.role == self.role {
            return Err(Mismatch::SameRole.into());
        }
        let theirs = Pattern::of(hello.pattern);
        match hello.verdict {
            Verdict::Refused if hello.pattern == 0 => Err(Mismatch::Plain.into()),
            Verdict::Refused if theirs != Some(self.config.pattern()?) => {
                let ours = self.pattern;
                Err(Mismatch::Pattern { theirs, ours }.into())
            }
            Verdict::Refused if Suite::choose(&self.config.suites, &hello.known_suites()).is_none() => {
                Err(Mismatch::Suite.into())
            }
            Verdict::Refused => Err(Error::Refused),
            Verdict::Again => self.begin_again(hello, raw),
            Verdict::Go if theirs != Some(self.pattern) || hello.suites != [self.suite.number()] => {
                Err(Breach::HelloOutOfPlace.into())
            }
            Verdict::Go => {
                self.transcript.extend_from_slice(raw);
                self.stage = Stage::Message(2);
                Ok(())
            }
        }
    }

    /// The listener wants another suite, or can't open what was sealed for the static key that we remember.
    fn begin_again(&mut self, hello: &Hello, raw: &[u8]) -> Result<(), Error> {
        let misplaced = Err(Breach::HelloOutOfPlace.into());
        let (Some(suite), [_]) = (hello.first_suite(), hello.suites.as_slice()) else {
            return misplaced;
        };
        let pattern = match self.pattern {
            Pattern::Ik => Pattern::Xx,
            other => other,
        };
        if self.again
            || hello.pattern != pattern.number()
            || !self.config.suites.contains(&suite)
            || (suite, pattern) == (self.suite, self.pattern)
        {
            return misplaced;
        }
        self.transcript.extend_from_slice(raw);
        (self.again, self.pattern, self.suite) = (true, pattern, suite);
        self.greet()
    }

    /// A dialer's hello is there.
    fn greeted(&mut self, hello: &Hello, raw: &[u8]) -> Result<(), Error> {
        if hello.role == self.role {
            return Err(Mismatch::SameRole.into());
        }
        self.transcript.extend_from_slice(raw);
        let ours = self.config.pattern()?;
        let theirs = Pattern::of(hello.pattern);
        let pattern = match theirs {
            Some(pattern) if pattern == ours => pattern,
            Some(Pattern::Ik) if ours == Pattern::Xx => Pattern::Ik,
            _ => return Err(Mismatch::Pattern { theirs, ours }.into()),
        };
        let suite = Suite::choose(&self.config.suites, &hello.known_suites()).ok_or(Mismatch::Suite)?;
        let first = hello.first_suite();
        let in_place = match hello.verdict {
            Verdict::Go => !self.again,
            Verdict::Again => self.again && (pattern, first) == (self.pattern, Some(self.suite)),
            Verdict::Refused => false,
        };
        if !in_place {
            return Err(Breach::HelloOutOfPlace.into());
        }
        self.stage = Stage::Message(1);
        self.pattern = pattern;
        if !self.again {
            self.suite = suite;
        }
        if first == Some(self.suite) {
            return self.begin();
        }
        Ok(()) // another suite is wanted, and message 1 is thrown away
    }

    /// Asks the dialer for another hello and message 1.
    fn ask_again(&mut self) {
        if self.pattern == Pattern::Ik {
            self.pattern = Pattern::Xx;
        }
        self.again = true;
        self.say_hello(Verdict::Again);
        self.noise = None;
        self.stage = Stage::Hello;
    }

    fn handle_message(&mut self, number: u8, message: &mut BytesMut) -> Result<(), Error> {
        match number {
            1 => self.handle_first(message),
            2 => self.handle_second(message),
            _ if self.pattern.has_two_messages() => self.confirmed(message),
            _ => {
                let payload = self.read_message(3, message)?;
                self.trust(3, &payload)?;
                self.split()
            }
        }
    }

    /// The dialer's message 1, at the listener.
    fn handle_first(&mut self, message: &[u8]) -> Result<(), Error> {
        put_message(&mut self.transcript, message);
        if self.noise.is_none() {
            self.ask_again();
            return Ok(());
        }
        let payload = match self.read_message(1, message) {
            // Sealed for a static key that is not ours any more.
            Err(Error::Unauthentic { .. }) if self.pattern == Pattern::Ik => {
                self.ask_again();
                return Ok(());
            }
            read => read?,
        };
        if self.pattern == Pattern::Ik {
            self.trust(1, &payload)?;
        }
        self.say_hello(Verdict::Go);
        self.write_message()?;
        if self.pattern.has_two_messages() {
            self.split()?;
        }
        self.stage = Stage::Message(3);
        Ok(())
    }

    /// The listener's message 2, at the dialer. Nothing that is secret was sent so far.
    fn handle_second(&mut self, message: &[u8]) -> Result<(), Error> {
        let payload = self.read_message(2, message)?;
        let (greeting, proof) = payload.split_at_checked(32).ok_or(Breach::Greeting)?;
        if greeting != self.greeting() {
            return Err(Breach::Greeting.into());
        }
        if self.pattern != Pattern::NnPsk0 {
            self.trust(2, proof)?;
        }
        if !self.pattern.has_two_messages() {
            self.write_message()?;
            return self.split();
        }
        self.split()?;
        let Some(keys) = &mut self.keys else {
            return Err(Misuse::Library.into());
        };
        let header = record_header(0);
        let tag = keys.seal.seal(&header, &mut []).ok_or(Misuse::Library)?;
        self.out.extend_from_slice(&header);
        self.out.extend_from_slice(&tag);
        Ok(())
    }

    /// The dialer's empty record is there: it has the keys, and has not just repeated what it once heard.
    fn confirmed(&mut self, record: &mut [u8]) -> Result<(), Error> {
        let unauthentic = self.unauthentic(3);
        let keys = self.keys.as_mut().ok_or(Misuse::Library)?;
        keys.open.open(&record_header(0), record).ok_or(unauthentic)?;
        self.stage = Stage::Done;
        Ok(())
    }

    /// A state of snow's for this try, over all that was said in the clear.
    fn begin(&mut self) -> Result<(), Error> {
        let name = format!("Noise_{}_{}", self.pattern, self.suite);
        let params = name.parse().map_err(|_| Misuse::Library)?;
        let identity = self.config.identity.as_ref();
        let secret = match identity {
            Some(identity) => Some(static_secret(identity).ok_or(Misuse::Library)?),
            None => None,
        };
        self.noise = None;
        let noise = (|| {
            let mut builder = Builder::new(params).prologue(&self.transcript)?;
            if let Some(secret) = &secret {
                builder = builder.local_private_key(&**secret)?;
            }
            match (self.pattern, &self.config.psk, &self.config.peer_static) {
                (Pattern::XxPsk3, Some(psk), _) => builder = builder.psk(3, &psk.0)?,
                (Pattern::NnPsk0, Some(psk), _) => builder = builder.psk(0, &psk.0)?,
                (Pattern::Ik, _, Some(public)) if self.role == Role::Dialer => {
                    builder = builder.remote_public_key(public)?;
                }
                _ => {}
            }
            #[cfg(test)]
            if let Some(ephemeral) = &self.ephemeral {
                builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
            }
            match self.role {
                Role::Dialer => builder.build_initiator(),
                Role::Listener => builder.build_responder(),
            }
        })();
        self.noise = Some(Box::new(noise.map_err(|_: snow::Error| Misuse::Library)?));
        Ok(())
    }

    /// Writes our next message of the handshake, with what is due in it.
    fn write_message(&mut self) -> Result<(), Error> {
        let mut payload = Vec::with_capacity(32 + PROOF);
        if self.role == Role::Listener {
            payload.extend_from_slice(&self.greeting());
        }
        let first_of_dialer = self.role == Role::Dialer && self.stage == Stage::Hello;
        let proves = match self.pattern {
            Pattern::NnPsk0 => false,
            Pattern::Ik => true,
            Pattern::Xx | Pattern::XxPsk3 => !first_of_dialer,
        };
        if let (true, Some(identity)) = (proves, &self.config.identity) {
            let public = static_public(identity).ok_or(Misuse::Library)?;
            payload.extend_from_slice(&prove(identity, &public));
        }
        let mut message = [0; MESSAGE];
        let noise = self.noise.as_mut().ok_or(Misuse::Library)?;
        let len = noise
            .write_message(&payload, &mut message)
            .map_err(|_| Misuse::Library)?;
        put_message(&mut self.out, message.get(..len).unwrap_or_default());
        Ok(())
    }

    /// Opens message `number`, and returns its payload.
    fn read_message(&mut self, number: u8, message: &[u8]) -> Result<Vec<u8>, Error> {
        if number < 3 && message.first_chunk().is_none_or(is_weak) {
            return Err(Breach::WeakKey { message: number }.into());
        }
        let unauthentic = self.unauthentic(number);
        let noise = self.noise.as_mut().ok_or(Misuse::Library)?;
        let mut payload = vec![0; message.len()];
        let len = noise
            .read_message(message, &mut payload)
            .map_err(|_| unauthentic)?;
        payload.truncate(len);
        Ok(payload)
    }

    /// Learns who the peer is from the proof in message `number`, and whether it is the one that is wanted.
    fn trust(&mut self, number: u8, proof: &[u8]) -> Result<(), Error> {
        let noise = self.noise.as_ref().ok_or(Misuse::Library)?;
        let public: Option<[u8; 32]> = noise.get_remote_static().and_then(|key| key.try_into().ok());
        let public = public.ok_or(Breach::Proof)?;
        if is_weak(&public) {
            return Err(Breach::WeakKey { message: number }.into());
        }
        let proof = proof.try_into().map_err(|_| Breach::Proof)?;
        let proved = verify(proof, &public).ok_or(Breach::Proof)?;
        match self.config.expected {
            Some(expected) if expected != proved => return Err(Error::Untrusted { expected, proved }),
            _ => {}
        }
        self.peer = Peer {
            key: Some(proved),
            static_key: Some(public),
        };
        Ok(())
    }

    /// Takes the keys out of snow, which has no more to do.
    fn split(&mut self) -> Result<(), Error> {
        let mut noise = self.noise.take().ok_or(Misuse::Library)?;
        if !noise.is_handshake_finished() {
            return Err(Misuse::Library.into());
        }
        let (dialer, listener) = noise.dangerously_get_raw_split();
        let (dialer, listener) = (Zeroizing::new(dialer), Zeroizing::new(listener));
        let (ours, theirs) = match self.role {
            Role::Dialer => (dialer, listener),
            Role::Listener => (listener, dialer),
        };
        let hash = noise.get_handshake_hash().try_into();
        self.keys = Some(Established {
            seal: SealKey::new(self.suite, &ours).ok_or(Misuse::Library)?,
            open: OpenKey::new(self.suite, &theirs).ok_or(Misuse::Library)?,
            hash: hash.map_err(|_| Misuse::Library)?,
            peer: self.peer.key,
            peer_static: self.peer.static_key,
            pattern: self.pattern,
            suite: self.suite,
        });
        self.stage = Stage::Done;
        Ok(())
    }

    /// The listener's hello that is not its last word.
    fn say_hello(&mut self, verdict: Verdict) {
        let hello = self.hello(verdict, &[self.suite]);
        hello.encode(&mut self.out);
        hello.encode(&mut self.transcript);
    }

    /// The hash of all that both sides have said up to message 2: they must have seen it alike.
    fn greeting(&self) -> [u8; 32] {
        Sha256::digest(&self.transcript).into()
    }

    fn hello(&self, verdict: Verdict, suites: &[Suite]) -> Hello {
        Hello {
            role: self.role,
            verdict,
            pattern: self.pattern.number(),
            suites: suites.iter().map(|suite| suite.number()).collect(),
        }
    }

    const fn unauthentic(&self, message: u8) -> Error {
        Error::Unauthentic {
            message,
            psk: matches!(self.pattern, Pattern::XxPsk3 | Pattern::NnPsk0),
        }
    }

    /// The last words for the peer: what it needs to mend a mismatch, and of everything else only that it failed.
    fn say_last(&mut self, error: &Error) {
        self.out.clear();
        match (self.role, error) {
            // A demand that is unknown here is ours to refuse; to all else that does not fit, a dialer says nothing.
            (Role::Dialer, Error::Incompatible(Mismatch::Demand { .. })) => {
                self.out.extend_from_slice(&ALERT);
            }
            (_, Error::Refused | Error::Carrier(_)) | (Role::Dialer, Error::Incompatible(_)) => {}
            (Role::Listener, Error::Incompatible(Mismatch::Plain)) => {
                self.out.extend_from_slice(&preface::demand_encryption());
            }
            (Role::Listener, Error::Incompatible(Mismatch::Foreign(foreign))) => {
                self.out.extend_from_slice(foreign.reply().unwrap_or_default());
            }
            (Role::Listener, Error::Incompatible(_)) => {
                let pattern = self.config.pattern().unwrap_or(self.pattern);
                let hello = Hello {
                    pattern: pattern.number(),
                    ..self.hello(Verdict::Refused, &self.config.suites)
                };
                hello.encode(&mut self.out);
            }
            (Role::Listener, _) if matches!(self.stage, Stage::Hello | Stage::Message(1)) => {
                let hello = self.hello(Verdict::Go, &[self.suite]);
                hello.encode(&mut self.out);
                self.out.extend_from_slice(&ALERT);
            }
            _ => self.out.extend_from_slice(&ALERT),
        }
    }
}

/// Appends a message with its length.
fn put_message(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(&u16::try_from(message.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(message);
}

/// What stands before a record with so much text, and is bound to it.
pub(super) fn record_header(text: usize) -> [u8; 2] {
    u16::try_from(text.saturating_add(TAG))
        .unwrap_or(u16::MAX)
        .to_le_bytes()
}
