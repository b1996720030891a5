//! Calls whose arguments cannot be read before the peer tells what they look like; and telling it what ours do.

use std::sync::{Arc, Weak};

use farref_boxing::Shape;

use super::{Dispatch, Next, Slot};
use crate::context::Serving;
use crate::engine::core::Core;
use crate::hosted::Exported;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::protocol::{PeerShape, Protocol};
use crate::remote::{Conduit, EngineHandles, TellShape};
use crate::shapes;

/// A call whose arguments cannot be read yet. Its mailbox is busy, and waits for it.
pub(super) struct Unread {
    /// The fingerprint of what it waits for.
    pub(super) shape: u32,
    pub(super) object: Arc<dyn Exported>,
    pub(super) invocation: Invocation,
    pub(super) serving: Serving,
    pub(super) awaited: bool,
    pub(super) own: Slot,
}

/// Of so many types that are passed on it is known where they came from: as many as a peer may ask for.
const MOST_SOURCES: usize = 1024;

impl Dispatch {
    /// Notes where something came from that is passed on to the peer.
    pub(crate) fn passes(&self, fingerprint: u32, source: &Arc<dyn Conduit>) {
        let mut state = lock(&self.state);
        let known = state.sources.get(&fingerprint);
        if fingerprint == 0 || known.is_some_and(|source| source.strong_count() > 0) {
            return;
        }
        if state.sources.len() >= MOST_SOURCES {
            state.sources.clear();
        }
        state.sources.insert(fingerprint, Arc::downgrade(source));
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Keeps a call until the peer has told what its arguments look like, and its mailbox with it.
    pub(super) fn put_by(self: &Arc<Self>, unread: Unread) -> Next {
        let (answer, shape, own) = (unread.invocation.answer, unread.shape, unread.own);
        {
            let mut state = lock(&self.dispatch.state);
            let mailbox = self.dispatch.mailbox(&mut state, own);
            mailbox.busy = true;
            mailbox.unread = true;
            // Until it is begun it is given up here.
            drop(state.calls.remove(&answer));
            state.unread.insert(answer, unread);
        }
        // Somebody else may read: what it waits for may have come meanwhile.
        if !self.is_driven_here() && self.update(|protocol| protocol.shape(shape)) != PeerShape::Asked {
            self.shape_came(shape);
        }
        Next::Wait(own)
    }

    /// The peer has told what a type of its own looks like, or never will: calls go on that waited for that.
    pub(crate) fn shape_came(self: &Arc<Self>, shape: u32) {
        let curious;
        let mut come: Vec<Unread> = {
            let mut state = lock(&self.dispatch.state);
            curious = state.curious.remove(&shape).unwrap_or_default();
            state
                .unread
                .map()
                .extract_if(|_, unread| unread.shape == shape)
                .map(|(_, unread)| unread)
                .collect()
        };
        if !curious.is_empty() {
            let known = self.known(shape);
            for tell in curious {
                tell(known.clone());
            }
        }
        come.sort_unstable_by_key(|unread| unread.invocation.answer);
        for unread in come {
            let Unread {
                object,
                mut invocation,
                serving,
                awaited,
                own,
                ..
            } = unread;
            invocation.ask_again();
            match self.begin(object, invocation, serving, awaited, own, None) {
                Next::Wait(slot) if slot == own => self.free_nested(slot),
                next => {
                    if let Next::Freed(slot) = next
                        && slot != own
                    {
                        self.not_busy(slot);
                        self.drain(slot);
                    }
                    self.not_busy(own);
                    self.drain(own);
                }
            }
        }
    }

    /// The peer asks what a type of ours looks like.
    pub(crate) fn shape_wanted(self: &Arc<Self>, shape: u32) {
        let description = shapes::describe(shape);
        let source = if description.is_none() {
            let state = lock(&self.dispatch.state);
            state.sources.get(&shape).and_then(Weak::upgrade)
        } else {
            None
        };
        let Some(source) = source else {
            return self.tell_shape(shape, description.as_deref());
        };
        // What was passed on is asked for where it came from.
        let this = Arc::downgrade(self);
        source.when_shape(
            shape,
            Box::new(move |known| {
                if let Some(this) = this.upgrade() {
                    let description = known.and_then(|known| shapes::encode(&known));
                    this.tell_shape(shape, description.as_deref());
                }
            }),
        );
    }

    fn tell_shape(&self, shape: u32, description: Option<&[u8]>) {
        self.update(|protocol| protocol.tell_shape(shape, description));
    }

    /// Tells what the peer's type looks like, now or when it has told.
    pub(crate) fn when_shape(self: &Arc<Self>, shape: u32, tell: TellShape) {
        if self.update(|protocol| protocol.shape(shape)) != PeerShape::Asked {
            return tell(self.known(shape));
        }
        lock(&self.dispatch.state)
            .curious
            .map()
            .entry(shape)
            .or_default()
            .push(tell);
        // Somebody else reads: the answer may have come meanwhile.
        if self.update(|protocol| protocol.shape(shape)) != PeerShape::Asked {
            self.shape_came(shape);
        }
    }

    fn known(&self, shape: u32) -> Option<Arc<Shape>> {
        match self.update(|protocol| protocol.shape(shape)) {
            PeerShape::Known(known) => Some(known),
            PeerShape::Asked | PeerShape::Unknown => None,
        }
    }
}
