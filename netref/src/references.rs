//! References between the protocol's tables and the values that hold them.

use std::sync::Arc;

use farref_boxing::{DecodeLimits, Reference};

use crate::hosted::{Exported, Handle, Relay};
use crate::interface::Interface;
use crate::protocol::{Outgoing, Received, Refs};
use crate::remote::{Conduit, EngineHandles, Import, Remote};

/// Limits on what a peer's payload may unfold into.
pub(crate) fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

/// What was received, as the values that are unboxed see it.
#[inline]
pub(crate) fn received(refs: Refs<Received<EngineHandles>>) -> Vec<Reference> {
    if refs.is_empty() {
        return Vec::new();
    }
    received_some(refs)
}

#[inline(never)]
fn received_some(refs: Refs<Received<EngineHandles>>) -> Vec<Reference> {
    refs.into_iter()
        .map(|received| handle(received).into_reference())
        .collect()
}

/// One received reference.
pub(crate) fn handle(received: Received<EngineHandles>) -> Handle {
    match received {
        Received::Null => Handle::Null,
        Received::Broken(error) => Handle::Broken(error),
        Received::Import(remote) => Handle::Remote(remote, None),
        // A relay that comes home is what it relays.
        Received::Home(object) => match object.relayed() {
            Some(remote) => Handle::Remote(remote, object.interface()),
            None => Handle::Local(object),
        },
    }
}

/// What is to be sent over `conduit`, as the protocol writes it.
#[inline]
pub(crate) fn outgoing(
    references: &mut Vec<Reference>,
    conduit: &dyn Conduit,
) -> Refs<Outgoing<EngineHandles>> {
    if references.is_empty() {
        return Refs::new();
    }
    outgoing_some(references, conduit)
}

#[inline(never)]
fn outgoing_some(references: &mut Vec<Reference>, conduit: &dyn Conduit) -> Refs<Outgoing<EngineHandles>> {
    references
        .drain(..)
        .map(|reference| one(&reference, conduit))
        .collect()
}

fn one(reference: &Reference, conduit: &dyn Conduit) -> Outgoing<EngineHandles> {
    match Handle::of(reference) {
        // What only stands for an object of the peer's goes home as that.
        Some(Handle::Local(object)) => {
            match object.relayed().and_then(|remote| remote.import_over(conduit)) {
                Some(proxy) => home(proxy),
                None => local(Arc::clone(object)),
            }
        }
        Some(Handle::Remote(remote, interface)) => remote_outgoing(remote, *interface, conduit),
        Some(Handle::Broken(error)) => Outgoing::Broken(error.clone()),
        Some(Handle::Null) | None => Outgoing::Null,
    }
}

/// An object of this process, handed out.
pub(crate) fn local(object: Arc<dyn Exported>) -> Outgoing<EngineHandles> {
    let interface = object.interface_id();
    Outgoing::Local {
        object,
        interface,
        lent: false,
    }
}

/// A far object, handed on: home if it is the peer's own, else through a relay.
fn remote_outgoing(
    remote: &Arc<dyn Remote>,
    interface: Option<&'static Interface>,
    conduit: &dyn Conduit,
) -> Outgoing<EngineHandles> {
    match Arc::clone(remote).import_over(conduit) {
        Some(proxy) => home(proxy),
        None => local(handed_on(remote, interface)),
    }
}

/// An object of the peer's own.
fn home(proxy: Arc<Import>) -> Outgoing<EngineHandles> {
    let id = proxy.id();
    Outgoing::Home { proxy, id }
}

/// What a far object, or one that is guarded here, is handed on as.
pub(crate) fn handed_on(
    remote: &Arc<dyn Remote>,
    interface: Option<&'static Interface>,
) -> Arc<dyn Exported> {
    let is_all = |of: &Arc<dyn Exported>| interface.is_none_or(|interface| interface.id == of.interface_id());
    match Arc::clone(remote).exported() {
        Some(object) if is_all(&object) => object,
        None if let Some(interface) = interface
            && remote.conduit().is_by_name() =>
        {
            (interface.translated)(Arc::clone(remote))
        }
        _ => Arc::new(Relay {
            remote: Arc::clone(remote),
            interface,
        }),
    }
}

/// References that a relay passes on as they came.
pub(crate) fn passed_on(references: &[Reference], conduit: &dyn Conduit) -> Refs<Outgoing<EngineHandles>> {
    references
        .iter()
        .map(|reference| one(reference, conduit))
        .collect()
}
