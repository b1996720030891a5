//! Objects hosted here, as exports hold them, and the handle that crosses `boxing`.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use farref_boxing::Reference;

use crate::interface::{Interface, RemoteTrait};
use crate::invocation::{Dispatched, Invocation};
use crate::object::{Answered, Asked, Description, Operations};
use crate::remote::Remote;

/// An object hosted here together with the interface under which it is handed out.
pub trait Exported: Send + Sync + 'static {
    /// Id of the interface as handed out: calls may name it and its supertraits, nothing else.
    fn interface_id(&self) -> u64;

    /// The interface as handed out, where this process has the trait.
    fn interface(&self) -> Option<&'static Interface>;

    /// Runs what the peer asks for.
    fn dispatch(&self, invocation: Invocation) -> Dispatched;

    /// Identity of the object: equal keys are the same object while it lives.
    fn key(&self) -> usize;

    /// The object as an `Arc` of the trait with that id, boxed.
    fn unbox(&self, interface: u64) -> Option<Box<dyn Any>>;

    /// The object as its own type, if it is here.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// What this process calls it through, if it only stands for another one: it relays, or guards.
    fn relayed(&self) -> Option<Arc<dyn Remote>> {
        None
    }

    /// What guards it, each by an address of its own while the object lives. Default nothing.
    fn guards(&self) -> &[usize] {
        &[]
    }

    /// What it can do, where no interface tells. Default nothing is told.
    fn description(&self) -> Option<Arc<Description>> {
        None
    }

    /// What it answers by itself, of what every object can be asked, as far as this process knows. It takes no locks and
    /// runs nothing of the user's: a protocol may ask under the connection's lock. Default nothing.
    fn operations(&self) -> Operations {
        Operations::NONE
    }
}

/// What an object of this process answers by itself.
pub(crate) fn operations<T: ?Sized + RemoteTrait>(of: &T) -> Operations {
    let known = Answered::default();
    // It has no answer but what it adds.
    of.manner(&Asked::Operations(&known));
    known.all()
}

impl fmt::Debug for dyn Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.interface().map(|interface| interface.name);
        f.debug_struct("Exported")
            .field("interface", &name)
            .finish_non_exhaustive()
    }
}

/// An object of this process behind `dyn Trait`.
pub(crate) struct Hosted<T: ?Sized>(pub(crate) Arc<T>);

impl<T: ?Sized + RemoteTrait> Exported for Hosted<T> {
    fn interface_id(&self) -> u64 {
        T::INTERFACE.id
    }

    fn interface(&self) -> Option<&'static Interface> {
        Some(T::INTERFACE)
    }

    fn dispatch(&self, mut invocation: Invocation) -> Dispatched {
        invocation.resolve(T::INTERFACE);
        T::dispatch(Arc::clone(&self.0), invocation)
    }

    fn key(&self) -> usize {
        address(&self.0)
    }

    fn unbox(&self, interface: u64) -> Option<Box<dyn Any>> {
        T::upcast(Arc::clone(&self.0), interface)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(T::as_any(&self.0))
    }

    fn operations(&self) -> Operations {
        operations(&*self.0)
    }
}

/// A far object of another connection, handed on: calls to it are passed on as they are, in order.
pub(crate) struct Relay {
    pub(crate) remote: Arc<dyn Remote>,
    /// What it is handed on as, where this process has the trait.
    pub(crate) interface: Option<&'static Interface>,
}

impl Exported for Relay {
    fn interface_id(&self) -> u64 {
        let known = self.interface.map(|interface| interface.id);
        known
            .or_else(|| self.remote.imported().map(|imported| imported.interface))
            .unwrap_or_default()
    }

    fn interface(&self) -> Option<&'static Interface> {
        self.interface
    }

    fn dispatch(&self, invocation: Invocation) -> Dispatched {
        crate::relay::forward(&self.remote, self.interface, invocation)
    }

    fn key(&self) -> usize {
        address(&self.remote)
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn Any>> {
        None
    }

    fn relayed(&self) -> Option<Arc<dyn Remote>> {
        Some(Arc::clone(&self.remote))
    }

    fn guards(&self) -> &[usize] {
        self.remote.guards()
    }
}

/// Where an `Arc` points, without the metadata of its type.
pub(crate) fn address<T: ?Sized>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).cast::<()>() as usize
}

/// A netref without its type, as `boxing` collects and gives it.
pub(crate) enum Handle {
    /// Hosted here.
    Local(Arc<dyn Exported>),
    /// Hosted elsewhere; the interface is that of the netref, if it had one.
    Remote(Arc<dyn Remote>, Option<&'static Interface>),
    /// Received broken.
    Broken(farref_boxing::Error),
    /// Received without an object.
    Null,
}

impl Handle {
    pub(crate) fn into_reference(self) -> Reference {
        Arc::new(self)
    }

    pub(crate) fn of(reference: &Reference) -> Option<&Self> {
        reference.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Object, Value};

    #[test]
    fn an_object_tells_what_it_answers_by_itself() {
        let told = |value: Value| Object::of(value).exported().operations();
        let one = Operations::STR
            .with(Operations::EQ)
            .with(Operations::HASH)
            .with(Operations::COPY);
        assert_eq!(told(Value::Bool(true)), one);
        let held = Operations::LEN.with(Operations::INDEX).with(Operations::ITER);
        let list = told(Value::List(Vec::new()));
        assert_eq!(list, one.with(held));
        assert!(list.contains(Operations::LEN) && !one.contains(Operations::LEN));
        let names: Vec<_> = list.names().collect();
        assert_eq!(names, ["str", "eq", "hash", "len", "index", "iter", "copy"]);
    }
}
