//! Handshakes between two sides that are both ours, with a hand between them; and whole carriers.

use std::future::Future;

use farref_transport::memory;

use super::handshake::ALERT;
use super::hello::Hello;
use super::*;
use crate::preface::Foreign;

mod carriers;
mod golden;
mod negotiation;
mod records;
mod tampering;

fn identity(seed: u8) -> Identity {
    Identity::from_secret(&[seed; 32]).unwrap()
}

/// The side of the identity that `seed` makes.
fn config(seed: u8) -> Config {
    Config::new(identity(seed))
}

fn with_psk(config: Config, psk: u8) -> Config {
    Config {
        psk: Some(Psk::new([psk; 32])),
        ..config
    }
}

/// Both sides, for each pattern.
fn patterns() -> [(Pattern, Config, Config); 4] {
    let known = Config {
        peer_static: static_public(&identity(2)),
        ..config(1)
    };
    let psk = || Psk::new([9; 32]);
    [
        (Pattern::Xx, config(1), config(2)),
        (Pattern::Ik, known, config(2)),
        (Pattern::XxPsk3, with_psk(config(1), 9), with_psk(config(2), 9)),
        (Pattern::NnPsk0, Config::shared(psk()), Config::shared(psk())),
    ]
}

/// How a side ended; `None` if it still waits.
type End = Option<Result<Established, Error>>;

/// One side, its end, and what it was told and has not looked at.
struct Side {
    handshake: Handshake,
    input: BytesMut,
    end: End,
}

impl Side {
    fn new(role: Role, config: Config) -> Self {
        let mut handshake = Handshake::new(role, config).unwrap();
        handshake.start().unwrap();
        Self {
            handshake,
            input: BytesMut::new(),
            end: None,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        if self.end.is_none() {
            self.end = self.handshake.handle_bytes(&mut self.input).transpose();
        }
    }

    fn made(&self) -> Option<&Established> {
        self.end.as_ref()?.as_ref().ok()
    }

    /// The words of its error, or none.
    fn error(&self) -> String {
        match &self.end {
            Some(Err(error)) => error.to_string(),
            _ => String::new(),
        }
    }
}

/// Lets two sides talk until neither has anything to say. `between` gets each flight, by its number, before it arrives.
fn talk(dialer: Config, listener: Config, between: impl FnMut(usize, &mut Vec<u8>)) -> (Side, Side) {
    let mut dialer = Side::new(Role::Dialer, dialer);
    let mut listener = Side::new(Role::Listener, listener);
    converse(&mut dialer, &mut listener, between);
    (dialer, listener)
}

fn converse(dialer: &mut Side, listener: &mut Side, mut between: impl FnMut(usize, &mut Vec<u8>)) {
    let mut flight = 0;
    loop {
        let (from, to) = if flight % 2 == 0 {
            (&mut *dialer, &mut *listener)
        } else {
            (&mut *listener, &mut *dialer)
        };
        let mut bytes = from.handshake.take_output();
        if bytes.is_empty() {
            return;
        }
        between(flight, &mut bytes);
        to.hear(&bytes);
        flight += 1;
    }
}

/// The flights of an undisturbed handshake.
fn flights(dialer: Config, listener: Config) -> Vec<Vec<u8>> {
    let mut flights = Vec::new();
    talk(dialer, listener, |_, bytes| flights.push(bytes.clone()));
    flights
}

/// Both sides have made the same, each for its direction.
fn assert_agreed(dialer: &mut Side, listener: &mut Side) {
    let errors = (dialer.error(), listener.error());
    let (Some(Ok(ours)), Some(Ok(theirs))) = (&mut dialer.end, &mut listener.end) else {
        panic!("no agreement: {errors:?}");
    };
    assert_eq!(ours.hash, theirs.hash);
    assert_eq!(
        (ours.pattern, ours.suite),
        (theirs.pattern, theirs.suite),
        "pattern and suite"
    );
    for (seal, open) in [
        (&mut ours.seal, &mut theirs.open),
        (&mut theirs.seal, &mut ours.open),
    ] {
        let mut text = *b"text";
        let tag = seal.seal(&[20, 0], &mut text).unwrap();
        let mut sealed = [&text[..], &tag].concat();
        assert_eq!(open.open(&[20, 0], &mut sealed), Some(4));
        assert_eq!(&sealed[..4], b"text");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}
