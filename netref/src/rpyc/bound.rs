//! Methods of objects of this side that come back from Python: it takes a method for itself before it calls it, and may pass
//! it on as any other function.

use std::any::Any;
use std::sync::{Arc, Weak};

use super::link::{Method, Owner};
use crate::hosted::Exported;
use crate::interface::Interface;
use crate::invocation::{Dispatched, Invocation};
use crate::object::Description;
use crate::protocol::Op;

/// A method that can be called. It holds the object as anybody else does, and nothing of the protocol's, which may be held
/// for long.
pub(super) struct Bound {
    of: Arc<dyn Exported>,
    name: String,
    doc: String,
    /// What it is the same as: the address is not another's while this is here.
    identity: Weak<Method>,
}

impl Bound {
    /// The method, if it is one of an object: those of containers are the protocol's own.
    pub(super) fn new(method: &Arc<Method>) -> Option<Self> {
        match &method.of {
            Owner::Object(object, _) => Some(Self {
                of: object.object.handle(),
                name: method.name.clone(),
                doc: method.doc.clone(),
                identity: Arc::downgrade(method),
            }),
            Owner::Data(_) | Owner::Iteration(_) | Owner::Service => None,
        }
    }
}

impl Exported for Bound {
    fn interface_id(&self) -> u64 {
        0
    }

    fn interface(&self) -> Option<&'static Interface> {
        None
    }

    fn dispatch(&self, mut invocation: Invocation) -> Dispatched {
        match &invocation.request.op {
            Op::Invoke => {
                invocation.request.op = Op::Named(self.name.clone());
                self.of.dispatch(invocation)
            }
            Op::Describe => {
                if let Some(description) = self.description() {
                    invocation.reply_description(&description);
                }
                Dispatched::Done
            }
            op => {
                let text = format!("`{}` is a method: it can be called, and cannot {op}", self.name);
                let error = farref_boxing::Error::new(farref_boxing::ErrorKind::Unimplemented, text);
                invocation.fail(error, false);
                Dispatched::Done
            }
        }
    }

    fn key(&self) -> usize {
        self.identity.as_ptr().addr()
    }

    fn unbox(&self, _interface: u64) -> Option<Box<dyn Any>> {
        None
    }

    fn guards(&self) -> &[usize] {
        self.of.guards()
    }

    fn description(&self) -> Option<Arc<Description>> {
        let description = Description::by_name(self.name.as_str()).with_operation("call");
        Some(Arc::new(description.with_doc(self.doc.as_str())))
    }
}
