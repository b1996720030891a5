//! A far object that is nowhere: what netrefs refer to in values that are made up to ask a type for its shape.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use farref_boxing::{Encoder, Error, ErrorKind, Reference};
use farref_framing::PeerEvidence;

use crate::call::BoxFuture;
use crate::hosted::Handle;
use crate::invocation::Invocation;
use crate::peer::Peer;
use crate::protocol::{CallOptions, CancelReason, Imported, Op, Target};
use crate::remote::{Blocked, Conduit, Import, Outcome, Remote};

/// A reference that every netref type takes, whatever its trait.
pub(crate) fn reference() -> Reference {
    Handle::Remote(Arc::new(Object(Arc::new(Nowhere))), None).into_reference()
}

struct Object(Arc<dyn Conduit>);

impl Remote for Object {
    fn conduit(&self) -> &Arc<dyn Conduit> {
        &self.0
    }

    fn target(&self) -> Target {
        Target::Import(0)
    }

    fn imported(&self) -> Option<Imported> {
        None
    }

    fn import_over(self: Arc<Self>, _conduit: &dyn Conduit) -> Option<Arc<Import>> {
        None
    }
}

/// The connection that leads there: every call fails.
pub(crate) struct Nowhere;

impl Conduit for Nowhere {
    fn begin(&self, _: Target, _: &Op, _: CallOptions, _: &mut Encoder) -> Result<u64, Error> {
        Err(is_nowhere())
    }

    fn block(&self, _: Target, _: &Op, _: CallOptions, _: &mut Encoder) -> Result<Outcome, Error> {
        Err(is_nowhere())
    }

    fn poll_outcome(&self, _: u64, _: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(Outcome::Error(is_nowhere()))
    }

    fn wait(&self, _: u64, _: Option<Duration>) -> Result<Option<Outcome>, Error> {
        Err(is_nowhere())
    }

    fn is_ready(&self, _: u64) -> bool {
        true
    }

    fn drop_call(&self, _: u64, _: CancelReason) {}

    fn release(&self, _: u64, _: u32) {}

    fn answer_value(&self, _: u64, _: Option<Error>, _: u32, _: &mut Encoder) {}

    fn answer_error(&self, _: u64, _: Error, _: bool) {}

    fn answer_outcome(&self, _: u64, _: Outcome) {}

    fn forward(self: Arc<Self>, _: Target, _: CallOptions, invocation: Invocation) {
        invocation.fail(is_nowhere(), false);
    }

    fn wake_on_cancel(&self, _: u64, _: Option<Blocked>) {}

    fn drop_on_cancel(&self, _: u64, _: Option<(Arc<dyn Conduit>, u64)>) {}

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }

    fn peer(&self) -> &Arc<Peer> {
        static NOBODY: OnceLock<Arc<Peer>> = OnceLock::new();
        NOBODY.get_or_init(|| Arc::new(Peer::new("nowhere", None, PeerEvidence::None)))
    }

    fn lost(&self) -> BoxFuture<'static, Error> {
        Box::pin(std::future::ready(is_nowhere()))
    }
}

fn is_nowhere() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "the netref was made up to find the shape of its type",
    )
}
