//! The guarded object, and what makes others that come out of it guarded too.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use farref_boxing::{Error, ErrorKind, Reference, Result};
use rustc_hash::FxHashMap;

use super::local::Local;
use super::passing::Passing;
use super::{Access, Guard};
use crate::hosted::{Exported, Handle};
use crate::interface::{Interface, known};
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::object::Operations;
use crate::panics;
use crate::protocol::{Imported, Received, Target};
use crate::references;
use crate::remote::{Conduit, EngineHandles, Import, Remote};

/// Everything that one guard guards.
pub(super) struct Membrane {
    pub(super) guard: Arc<dyn Guard>,
    /// What the first object is handed out as.
    root: Option<&'static Interface>,
    /// By the object's key and interface: an object that comes out twice is the same both times.
    members: Mutex<FxHashMap<(usize, u64), Weak<Guarded>>>,
}

/// An object is behind that many guards at most: peers of many connections may pass it around, and get it guarded once more
/// by that of each.
const MOST_GUARDS: usize = 32;

impl Membrane {
    /// `object` behind `guard`, for calls of this process.
    pub(super) fn around(object: Arc<dyn Exported>, guard: Arc<dyn Guard>) -> Arc<dyn Remote> {
        Self::new(guard, object.interface()).member(object)
    }

    /// `object` behind `guard`, to be handed out.
    pub(super) fn exported(object: Arc<dyn Exported>, guard: Arc<dyn Guard>) -> Arc<dyn Exported> {
        Self::new(guard, object.interface()).member(object)
    }

    fn new(guard: Arc<dyn Guard>, root: Option<&'static Interface>) -> Arc<Self> {
        Arc::new(Self {
            guard,
            root,
            members: Mutex::default(),
        })
    }

    /// `object` behind the guard.
    fn member(self: &Arc<Self>, object: Arc<dyn Exported>) -> Arc<Guarded> {
        let slot = (object.key(), object.interface_id());
        let mut members = lock(&self.members);
        if let Some(known) = members.get(&slot).and_then(Weak::upgrade) {
            return known;
        }
        let guards = object.guards().iter().copied().chain([self.address()]).collect();
        let guarded = Arc::new_cyclic(|this| Guarded {
            inner: object,
            membrane: Arc::clone(self),
            guards,
            slot,
            this: Weak::clone(this),
            conduit: OnceLock::new(),
        });
        members.insert(slot, Arc::downgrade(&guarded));
        guarded
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }

    /// What goes out to the caller in place of `object`, in the result of a call. It is guarded once, also where it has
    /// guards around this one: they would grow with each time that it goes around.
    fn cover(
        self: &Arc<Self>,
        object: Arc<dyn Exported>,
        access: &Access,
    ) -> Result<Arc<dyn Exported>, Error> {
        let covers = || self.guard.covers(access, object.interface());
        // What is guarded for nothing does no harm.
        if object.guards().contains(&self.address()) || !panics::guard(covers).unwrap_or(true) {
            return Ok(object);
        }
        if object.guards().len() >= MOST_GUARDS {
            let text = format!("the object is behind {MOST_GUARDS} guards already");
            return Err(Error::new(ErrorKind::Loop, text));
        }
        Ok(self.member(object))
    }

    /// The same for a reference in a result that was encoded here, which goes `back` to the caller.
    pub(super) fn cover_reference(
        self: &Arc<Self>,
        reference: &mut Reference,
        access: &Access,
        back: &dyn Conduit,
    ) {
        let object = match Handle::of(reference) {
            Some(Handle::Local(object)) => Arc::clone(object),
            Some(Handle::Remote(remote, interface)) if !back.is_home_of(remote) => {
                references::handed_on(remote, *interface)
            }
            _ => return,
        };
        let covered = self.cover(object, access);
        *reference = covered
            .map_or_else(Handle::Broken, Handle::Local)
            .into_reference();
    }

    /// The same for a reference in a result that came from elsewhere.
    pub(super) fn cover_received(
        self: &Arc<Self>,
        received: &mut Received<EngineHandles>,
        access: &Access,
        back: &dyn Conduit,
    ) {
        let object = match received {
            Received::Import(import) => {
                let remote: Arc<dyn Remote> = Arc::clone(import) as _;
                if back.is_home_of(&remote) {
                    return;
                }
                let interface = remote
                    .imported()
                    .and_then(|imported| known::find(imported.interface));
                references::handed_on(&remote, interface)
            }
            Received::Home(object) => {
                if object.relayed().is_some_and(|remote| back.is_home_of(&remote)) {
                    return;
                }
                Arc::clone(object)
            }
            Received::Null | Received::Broken(_) => return,
        };
        let covered = self.cover(object, access);
        *received = covered.map_or_else(Received::Broken, Received::Home);
    }
}

/// An object behind a guard: handed out as such, and called by this process as if it were far.
pub(super) struct Guarded {
    pub(super) inner: Arc<dyn Exported>,
    membrane: Arc<Membrane>,
    /// All that guard it, this membrane the last.
    guards: Box<[usize]>,
    /// Where the membrane knows it.
    slot: (usize, u64),
    this: Weak<Self>,
    /// What calls of this process are made through, once there are any.
    conduit: OnceLock<Arc<dyn Conduit>>,
}

impl Guarded {
    /// Its own address: no two are the same while both live.
    fn identity(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }
}

impl Exported for Guarded {
    fn interface_id(&self) -> u64 {
        self.inner.interface_id()
    }

    fn interface(&self) -> Option<&'static Interface> {
        self.inner.interface()
    }

    fn dispatch(&self, mut invocation: Invocation) -> Dispatched {
        let identity = self.identity();
        // It comes again when what its arguments look like is known.
        if !invocation.conduit.was_admitted_by(identity) {
            let peer = Arc::clone(invocation.conduit.caller());
            let access = Access::new(peer, self.membrane.root, self.interface(), &invocation.request.op);
            let admitted = panics::guard(|| self.membrane.guard.admit(&access)).flatten();
            if let Err(error) = admitted {
                let peer = access.peer();
                peer.warn(|left_out| {
                    tracing::warn!(%peer, call = %access, %error, left_out, "a call was refused");
                });
                invocation.fail(error, false);
                return Dispatched::Done;
            }
            invocation.conduit = Passing::back_from(
                Arc::clone(&invocation.conduit),
                Arc::clone(&self.membrane),
                identity,
                access,
            );
        }
        self.inner.dispatch(invocation)
    }

    fn key(&self) -> usize {
        self.identity()
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn Any>> {
        None
    }

    fn relayed(&self) -> Option<Arc<dyn Remote>> {
        self.this.upgrade().map(|this| this as Arc<dyn Remote>)
    }

    fn guards(&self) -> &[usize] {
        &self.guards
    }

    fn operations(&self) -> Operations {
        self.inner.operations()
    }
}

impl Remote for Guarded {
    fn conduit(&self) -> &Arc<dyn Conduit> {
        self.conduit.get_or_init(|| {
            let beyond = self.inner.relayed().map(|remote| Arc::clone(remote.conduit()));
            Local::leading_to(Weak::clone(&self.this), beyond, self.interface())
        })
    }

    fn target(&self) -> Target {
        Target::Import(0)
    }

    fn imported(&self) -> Option<Imported> {
        Some(Imported {
            id: 0,
            generation: 0,
            object: 0,
            interface: self.inner.interface_id(),
        })
    }

    fn import_over(self: Arc<Self>, _conduit: &dyn Conduit) -> Option<Arc<Import>> {
        None
    }

    fn exported(self: Arc<Self>) -> Option<Arc<dyn Exported>> {
        Some(self)
    }

    fn guards(&self) -> &[usize] {
        &self.guards
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut members = lock(&self.membrane.members);
        let known = members.get(&self.slot);
        // Another one may have taken its place.
        if known.is_some_and(|member| member.strong_count() == 0) {
            members.remove(&self.slot);
        }
    }
}
