//! What the types of the peer's look like: asked once, kept for the session (PROTOCOL.md § 5.6, 7.8).

use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use farref_boxing::{DecodeLimits, Shape, decode};

use super::questions::Slot;
use super::{Breach, Exchange, Wire};
use crate::message::Message;
use crate::protocol::{Event, Handles, Outcome, PeerShape};
use crate::sparse::SparseMap;

/// How often each side may ask the other in a session. More is a breach: each question may be answered by many bytes.
const MOST_ASKED: u32 = 1024;

/// Longest description of a type that is told or taken, in bytes.
pub(crate) const LONGEST: usize = 16 << 10;

/// Bytes of descriptions that are kept of one peer.
const MOST_KEPT: usize = 256 << 10;

/// Nesting of types in each other in one description: nobody writes more.
const DEEPEST: u32 = 64;

/// Shapes of the peer's types, and of ours that it asks for.
///
/// # Invariant
///
/// `asked` is how often this side has asked, at most [`MOST_ASKED`]; each question is in `known` as
/// [`Asking`](Peers::Asking) until its answer comes, and never asked again.
#[derive(Default)]
pub(super) struct ShapeTable {
    /// The peer answers questions.
    pub(super) peer_tells: bool,
    known: SparseMap<u32, Peers>,
    asked: u32,
    /// How often the peer has asked.
    wanted: u32,
    kept: usize,
}

/// What is known of one type of the peer's.
enum Peers {
    /// Nothing yet; these calls of ours have results that wait for it.
    Asking(Vec<u64>),
    Known(Arc<Shape>),
    /// The peer does not know it, or has told nonsense.
    Unknown,
}

impl<H: Handles> Exchange<H> {
    /// What the peer's type of that fingerprint looks like. If nobody knows and the peer can be asked, it is, and
    /// [`Event::ShapeCame`] says that there is an answer.
    pub fn shape(&mut self, fingerprint: u32, wire: &mut dyn Wire) -> PeerShape {
        let can_ask = !self.over && self.shapes.peer_tells && self.shapes.asked < MOST_ASKED;
        match self.shapes.known.map().entry(fingerprint) {
            Entry::Occupied(known) => match known.get() {
                Peers::Known(shape) => PeerShape::Known(Arc::clone(shape)),
                Peers::Asking(_) => PeerShape::Asked,
                Peers::Unknown => PeerShape::Unknown,
            },
            Entry::Vacant(_) if !can_ask => PeerShape::Unknown,
            Entry::Vacant(new) => {
                new.insert(Peers::Asking(Vec::new()));
                self.shapes.asked = self.shapes.asked.saturating_add(1);
                self.write(wire, &Message::GetShape { shape: fingerprint });
                PeerShape::Asked
            }
        }
    }

    /// Answers a question of the peer's: what its type looks like, or that nobody here knows.
    pub fn tell_shape(&mut self, fingerprint: u32, description: Option<&[u8]>, wire: &mut dyn Wire) {
        if self.over {
            return;
        }
        self.write_owed(wire);
        self.encode(&Message::Shape { shape: fingerprint });
        // In the head, so that it never goes by itself.
        let room = usize::try_from(self.max_message)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.head.len())
            .min(LONGEST);
        let description = description.filter(|description| description.len() <= room);
        self.head.extend_from_slice(description.unwrap_or_default());
        self.outbox.write(
            wire,
            &self.head,
            crate::protocol::BodyRef::Slice(&[]),
            super::wire::Of::None,
        );
    }

    /// The peer asks.
    pub(super) fn handle_get_shape(&mut self, fingerprint: u32) -> Result<(), Breach> {
        if !self.config.tells_shapes {
            return Ok(());
        }
        self.shapes.wanted = self.shapes.wanted.saturating_add(1);
        if self.shapes.wanted > MOST_ASKED {
            return Err(Breach::TooManyQuestions { limit: MOST_ASKED });
        }
        self.push_event(Event::ShapeWanted(fingerprint));
        Ok(())
    }

    /// The peer answers.
    pub(super) fn handle_shape(&mut self, fingerprint: u32, description: Bytes) -> Result<(), Breach> {
        if !self.config.tells_shapes {
            return Ok(());
        }
        let Some(known @ Peers::Asking(_)) = self.shapes.known.get_mut(&fingerprint) else {
            return Err(Breach::UnknownShape { shape: fingerprint });
        };
        let len = description.len();
        let read =
            read(description, fingerprint).filter(|_| self.shapes.kept.saturating_add(len) <= MOST_KEPT);
        let now = match &read {
            Some(shape) => Peers::Known(Arc::clone(shape)),
            None => Peers::Unknown,
        };
        if read.is_some() {
            self.shapes.kept = self.shapes.kept.saturating_add(len);
        }
        let waiting = match std::mem::replace(known, now) {
            Peers::Asking(waiting) => waiting,
            Peers::Known(_) | Peers::Unknown => Vec::new(),
        };
        for number in waiting {
            if let Some(outcome) = self.take_unread_of(number, fingerprint) {
                self.complete(number, with_shape(outcome, read.as_ref()));
                self.end_if_done(number);
            }
        }
        self.push_event(Event::ShapeCame(fingerprint));
        Ok(())
    }

    /// The outcome of a call of ours has come. It is there, unless it has to wait for what it looks like.
    pub(super) fn came(&mut self, number: u64, outcome: Outcome<H>, wire: &mut dyn Wire) {
        if let Outcome::Value { failed, shape, .. } = outcome
            && let Some(question) = self.questions.table.get(number)
        {
            let results = question.results;
            let own = if failed { results.failure } else { results.value };
            if own != shape && own != 0 && shape != 0 && matches!(question.outcome, Slot::Empty) {
                return self.came_foreign(number, outcome, shape, wire);
            }
        }
        self.complete(number, outcome);
    }

    /// The same of one that was written with another type.
    #[cold]
    #[inline(never)]
    fn came_foreign(&mut self, number: u64, outcome: Outcome<H>, shape: u32, wire: &mut dyn Wire) {
        match self.shape(shape, wire) {
            PeerShape::Known(known) => self.complete(number, with_shape(outcome, Some(&known))),
            PeerShape::Unknown => self.complete(number, outcome),
            PeerShape::Asked => {
                if let Some(Peers::Asking(waiting)) = self.shapes.known.get_mut(&shape)
                    && let Some(question) = self.questions.table.get_mut(number)
                {
                    waiting.push(number);
                    question.outcome = Slot::Unread(Box::new(outcome));
                }
            }
        }
    }

    /// Takes an outcome that waits for that shape: not that of a later call which was given the same number.
    fn take_unread_of(&mut self, number: u64, fingerprint: u32) -> Option<Outcome<H>> {
        let question = self.questions.table.get(number)?;
        let Slot::Unread(outcome) = &question.outcome else {
            return None;
        };
        match **outcome {
            Outcome::Value { shape, .. } if shape == fingerprint => self.take_unread(number),
            _ => None,
        }
    }

    /// Takes an outcome that waits for its shape.
    pub(super) fn take_unread(&mut self, number: u64) -> Option<Outcome<H>> {
        let question = self.questions.table.get_mut(number)?;
        match std::mem::replace(&mut question.outcome, Slot::Empty) {
            Slot::Unread(outcome) => Some(*outcome),
            other => {
                question.outcome = other;
                None
            }
        }
    }

    /// Nothing will be answered any more.
    pub(super) fn end_shapes(&mut self) {
        let mut unanswered = Vec::new();
        for (fingerprint, known) in self.shapes.known.iter_mut() {
            if matches!(known, Peers::Asking(_)) {
                *known = Peers::Unknown;
                unanswered.push(*fingerprint);
            }
        }
        unanswered.sort_unstable();
        for fingerprint in unanswered {
            self.push_event(Event::ShapeCame(fingerprint));
        }
    }
}

fn with_shape<H: Handles>(mut outcome: Outcome<H>, known: Option<&Arc<Shape>>) -> Outcome<H> {
    if let Outcome::Value { writer, .. } = &mut outcome {
        *writer = known.cloned();
    }
    outcome
}

/// What the peer has told, if it is the description of a type, and of the one that was asked for.
fn read(description: Bytes, fingerprint: u32) -> Option<Arc<Shape>> {
    let shape = described(description)?;
    (shape.fingerprint() == fingerprint).then(|| Arc::new(shape))
}

/// What a peer has told, if it is the description of a type.
pub(crate) fn described(description: Bytes) -> Option<Shape> {
    if description.is_empty() || description.len() > LONGEST {
        return None;
    }
    let limits = DecodeLimits {
        depth: DEEPEST,
        zero_sized: 0,
        memory: 0,
    };
    let shape: Shape = decode(&description, &[], &limits).ok()?;
    shape.is_sound().then_some(shape)
}
