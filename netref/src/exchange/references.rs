//! References as messages are written and read: what is counted when (PROTOCOL.md § 6).

use std::borrow::Cow;

use farref_boxing::{Error, ErrorKind};
use smallvec::SmallVec;

use super::answers::Kept;
use super::exports::{Handing, ROOT};
use super::rules::Rule;
use super::wire::Of;
use super::{Breach, Exchange, Happening, Wire, limit};
use crate::message::{Descriptor, Message};
use crate::protocol::{BodyRef, Factory, Handles, Outcome, Outgoing, Received, Refs};

/// Room for releases that is kept when there are none.
const MANY_RELEASES: usize = 1024;

/// References that were counted for a message which is about to be written.
pub(super) struct Described<H: Handles> {
    pub(super) descriptors: Refs<Descriptor>,
    /// Exports that the call lends.
    pub(super) pins: SmallVec<[u64; 1]>,
    /// What calls on the result will be made on.
    pub(super) kept: Refs<Kept<H>>,
}

impl<H: Handles> Default for Described<H> {
    fn default() -> Self {
        Self {
            descriptors: Refs::new(),
            pins: SmallVec::new(),
            kept: Refs::new(),
        }
    }
}

/// Which message the references are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The arguments of a call: some may be lent.
    Arguments,
    /// A result on which calls may be made.
    Result,
    /// A result on which no calls are made.
    LastResult,
}

impl<H: Handles> Exchange<H> {
    /// Counts the references of a message. If that fails, none is counted.
    pub(super) fn describe(
        &mut self,
        refs: Refs<Outgoing<H>>,
        purpose: Purpose,
    ) -> Result<Described<H>, Error> {
        let mut described = Described::default();
        let mut refs = refs.into_iter();
        while let Some(outgoing) = refs.next() {
            if let Err(error) = self.describe_one(outgoing, purpose, &mut described) {
                self.discard_outgoing(refs);
                self.take_back(described);
                return Err(error);
            }
        }
        Ok(described)
    }

    fn describe_one(
        &mut self,
        outgoing: Outgoing<H>,
        purpose: Purpose,
        described: &mut Described<H>,
    ) -> Result<(), Error> {
        let (descriptor, kept) = match outgoing {
            Outgoing::Null => (Descriptor::Null, Kept::Null),
            Outgoing::Broken(error) => (Descriptor::Broken(error.clone()), Kept::Broken(error)),
            Outgoing::Home { proxy, id } => (Descriptor::Home { export: id }, Kept::Import(proxy)),
            Outgoing::Local {
                object,
                interface,
                lent,
            } => {
                let handing = if lent && purpose == Purpose::Arguments {
                    Handing::Lent
                } else {
                    Handing::Owned
                };
                let kept = if purpose == Purpose::Result {
                    Some(object.clone())
                } else {
                    None
                };
                let most = self
                    .peer
                    .map_or(u64::MAX, |peer| peer.objects)
                    .min(self.config.max_objects);
                let handed = match self.exports.hand_out(object, interface, handing, most) {
                    Ok(handed) => handed,
                    Err(object) => {
                        self.discard_object(object);
                        kept.into_iter().for_each(|object| self.discard_object(object));
                        return Err(limit("too many objects of this side are held by the peer", most));
                    }
                };
                self.trace_export(handed.export);
                self.watch_exports();
                let kept = match kept {
                    Some(object) => Kept::Object {
                        object,
                        export: handed.export,
                        interface,
                    },
                    None => Kept::Null,
                };
                match handing {
                    Handing::Owned => (Descriptor::Owned(handed), kept),
                    Handing::Lent => {
                        described.pins.push(handed.export);
                        (Descriptor::Borrowed(handed), kept)
                    }
                }
            }
        };
        described.descriptors.push(descriptor);
        if purpose == Purpose::Result {
            described.kept.push(kept);
        }
        Ok(())
    }

    /// Undoes [`describe`](Self::describe): the message was not written.
    pub(super) fn take_back(&mut self, described: Described<H>) {
        for descriptor in described.descriptors {
            if let Descriptor::Owned(handed) = descriptor
                && let Ok(Some(object)) = self.exports.give_back(handed.export, 1)
            {
                self.discard_object(object);
            }
        }
        self.unpin(described.pins);
        self.discard_kept(described.kept);
    }

    /// A call that lent these is over.
    pub(super) fn unpin(&mut self, pins: SmallVec<[u64; 1]>) {
        for export in pins {
            if let Some(object) = self.exports.unpin(export) {
                self.discard_object(object);
            }
        }
    }

    /// The root has a number that no other object gets, and stays until the session ends.
    pub(super) fn hand_out_root(&mut self, root: Outgoing<H>) -> Descriptor {
        match root {
            Outgoing::Local {
                object, interface, ..
            } => match self.exports.hand_out(object, interface, Handing::Owned, u64::MAX) {
                Ok(handed) => {
                    self.exports.pin(ROOT);
                    Descriptor::Owned(handed)
                }
                Err(object) => {
                    self.discard_object(object);
                    Descriptor::Null
                }
            },
            Outgoing::Broken(error) => {
                self.exports.without_root();
                Descriptor::Broken(error)
            }
            Outgoing::Null | Outgoing::Home { .. } => {
                self.exports.without_root();
                Descriptor::Null
            }
        }
    }

    /// Counts the references of a message that came.
    #[inline]
    pub(super) fn take_in(
        &mut self,
        descriptors: Refs<Descriptor>,
        may_lend: bool,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<Refs<Received<H>>, Breach> {
        if descriptors.is_empty() {
            return Ok(Refs::new());
        }
        self.take_in_all(descriptors, may_lend, factory, wire)
    }

    #[inline(never)]
    fn take_in_all(
        &mut self,
        descriptors: Refs<Descriptor>,
        may_lend: bool,
        factory: &dyn Factory<H>,
        wire: &mut dyn Wire,
    ) -> Result<Refs<Received<H>>, Breach> {
        let mut refs = Refs::new();
        for descriptor in descriptors {
            let received = match descriptor {
                Descriptor::Null => Received::Null,
                Descriptor::Broken(error) => Received::Broken(error),
                Descriptor::Owned(handed) => {
                    let proxy = self.imports.take_in(handed, factory, self.config.max_objects)?;
                    self.trace_import(handed.export);
                    Received::Import(proxy)
                }
                Descriptor::Borrowed(_) if !may_lend => return Err(Breach::LentByReturn),
                Descriptor::Borrowed(handed) => {
                    // Whoever gets it may keep it, so it is kept: before the return, after which it is gone.
                    let proxy = self.imports.take_in(handed, factory, self.config.max_objects)?;
                    self.trace_import(handed.export);
                    if self.rules.hold(Rule::RetainAtOnce) {
                        self.write(
                            wire,
                            &Message::Retain {
                                export: handed.export,
                            },
                        );
                    }
                    Received::Import(proxy)
                }
                Descriptor::Home { export } => match self.exports.get(export) {
                    Some(export) => Received::Home(export.object.clone()),
                    None if self.exports.was_given(export) => Received::Broken(gone()),
                    None => return Err(Breach::UnknownExport { export }),
                },
                Descriptor::Answer { .. } => Received::Broken(promised()),
            };
            refs.push(received);
        }
        Ok(refs)
    }

    /// The last handle on a proxy of `import` is gone: its copies go back with the next message.
    pub fn release(&mut self, import: u64, generation: u32) {
        let generation = if self.rules.hold(Rule::Generation) {
            Some(generation)
        } else {
            None
        };
        if let Some(copies) = self.imports.give_back(import, generation) {
            let copies = if self.rules.hold(Rule::CountOnRelease) {
                copies
            } else {
                1
            };
            self.releases.push((import, copies));
        }
    }

    /// Writes what goes along with any message: which calls are finished, and which references are given back.
    #[inline]
    pub(super) fn write_owed(&mut self, wire: &mut dyn Wire) {
        if !self.finished.is_empty() {
            self.write_finished(wire);
        }
        if !self.releases.is_empty() {
            self.write_releases(wire);
        }
    }

    fn write_finished(&mut self, wire: &mut dyn Wire) {
        let mut finished = std::mem::take(&mut self.finished);
        for call in finished.drain(..) {
            self.encode(&Message::Finish { call });
            self.outbox.write(wire, &self.head, BodyRef::Slice(&[]), Of::None);
        }
        finished.shrink_to(MANY_RELEASES);
        self.finished = finished;
        self.finish_now = false;
    }

    /// Writes the releases that are due, as many to a message as the peer surely takes.
    fn write_releases(&mut self, wire: &mut dyn Wire) {
        /// Two numbers of nine bytes each, and room for kind and count, in [`LEAST_MESSAGE`](super::LEAST_MESSAGE).
        const AT_ONCE: usize = 50;
        let mut releases = std::mem::take(&mut self.releases);
        for exports in releases.chunks(AT_ONCE) {
            let exports = Cow::Borrowed(exports);
            self.encode(&Message::Release { exports });
            self.outbox.write(wire, &self.head, BodyRef::Slice(&[]), Of::None);
        }
        releases.clear();
        releases.shrink_to(MANY_RELEASES);
        self.releases = releases;
    }

    /// Lets an object go, outside the lock.
    pub(super) fn discard_object(&mut self, object: H::Object) {
        self.happenings.push_back(Happening::Unexported(object));
    }

    pub(super) fn discard_outgoing(&mut self, refs: impl IntoIterator<Item = Outgoing<H>>) {
        for outgoing in refs {
            if let Outgoing::Local { object, .. } = outgoing {
                self.discard_object(object);
            }
        }
    }

    pub(super) fn discard_received(&mut self, refs: Refs<Received<H>>) {
        for received in refs {
            match received {
                Received::Home(object) => self.discard_object(object),
                // Dropping a proxy enqueues its release.
                Received::Import(_) | Received::Null | Received::Broken(_) => {}
            }
        }
    }

    pub(super) fn discard_kept(&mut self, kept: Refs<Kept<H>>) {
        for kept in kept {
            if let Kept::Object { object, .. } = kept {
                self.discard_object(object);
            }
        }
    }

    pub(super) fn discard_outcome(&mut self, outcome: Outcome<H>) {
        if let Outcome::Value { refs, .. } = outcome {
            self.discard_received(refs);
        }
    }
}

/// A number that is held no more.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Broken, "the object was released and is gone")
}

/// A result among arguments.
pub(super) fn promised() -> Error {
    Error::new(
        ErrorKind::Unimplemented,
        "results that are not there yet cannot be passed on",
    )
}
