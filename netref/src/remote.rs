//! What a proxy calls through, and what the engine offers to calls.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use farref_boxing::{Encoder, Error, Shape, Value};

use crate::hosted::Exported;
use crate::interface::Method;
use crate::invocation::Invocation;
use crate::origin::Origin;
use crate::peer::Peer;
use crate::protocol::{
    self, CallOptions, CancelReason, Handles, Imported, Op, PeerShape, ResultShapes, Target,
};
use crate::waiter::{ThreadWaiter, Waiter};

/// The engine's handles, as the protocol keeps them.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a name for a set of types, never a value"
)]
pub struct EngineHandles;

impl Handles for EngineHandles {
    type Object = Arc<dyn crate::hosted::Exported>;
    type Proxy = Arc<Import>;
    type WeakProxy = std::sync::Weak<Import>;
    type Waiter = Waiter;

    fn downgrade(proxy: &Self::Proxy) -> Self::WeakProxy {
        Arc::downgrade(proxy)
    }

    fn upgrade(weak: &Self::WeakProxy) -> Option<Self::Proxy> {
        weak.upgrade()
    }

    fn key(object: &Self::Object) -> usize {
        object.key()
    }

    fn imported(proxy: &Self::Proxy) -> Imported {
        proxy.known()
    }
}

/// How a call of ours ended, with the engine's handles.
pub(crate) type Outcome = protocol::Outcome<EngineHandles>;

/// A far object, or the promise of one: what a proxy makes its calls through.
///
/// The seam between the typed proxies and the engine: [`Netref`](crate::Netref) and the companions of
/// [`#[remote]`](macro@crate::remote) need nothing else.
pub trait Remote: Send + Sync + 'static {
    /// The connection that leads to the object.
    fn conduit(&self) -> &Arc<dyn Conduit>;

    /// Where on that connection calls go.
    fn target(&self) -> Target;

    /// What the object is known by, unless it is a promise.
    fn imported(&self) -> Option<Imported>;

    /// The import that it is over `conduit`: `None` if it lives elsewhere, or is a promise.
    fn import_over(self: Arc<Self>, conduit: &dyn Conduit) -> Option<Arc<Import>>;

    /// The object of this process that it is to be handed on as, rather than relayed: a guarded one. Default none.
    fn exported(self: Arc<Self>) -> Option<Arc<dyn Exported>> {
        None
    }

    /// What it is guarded by here, by address: see [`Exported::guards`]. Default nothing.
    fn guards(&self) -> &[usize] {
        &[]
    }
}

impl fmt::Debug for dyn Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("target", &self.target())
            .finish_non_exhaustive()
    }
}

/// An object of the peer's, held here.
pub struct Import {
    origin: Arc<Origin>,
    id: u64,
    generation: u32,
}

impl Import {
    /// One of `origin`, which is that of `imported`.
    pub(crate) const fn new(origin: Arc<Origin>, imported: Imported) -> Self {
        Self {
            origin,
            id: imported.id,
            generation: imported.generation,
        }
    }

    /// The peer's number for it.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// What it is known by.
    fn known(&self) -> Imported {
        Imported {
            id: self.id,
            generation: self.generation,
            object: self.origin.object.unwrap_or(self.id),
            interface: self.origin.interface,
        }
    }
}

impl Remote for Import {
    fn conduit(&self) -> &Arc<dyn Conduit> {
        &self.origin.conduit
    }

    fn target(&self) -> Target {
        Target::Import(self.id)
    }

    fn imported(&self) -> Option<Imported> {
        Some(self.known())
    }

    fn import_over(self: Arc<Self>, conduit: &dyn Conduit) -> Option<Arc<Import>> {
        std::ptr::addr_eq(Arc::as_ptr(&self.origin.conduit), conduit).then_some(self)
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.origin.conduit.release(self.id, self.generation);
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known().fmt(f)
    }
}

/// A thread that waits, and the call that it waits for.
pub type Blocked = (Arc<ThreadWaiter>, Arc<dyn Conduit>, u64);

/// Takes what a type looks like, or that nobody tells.
pub type TellShape = Box<dyn FnOnce(Option<Arc<Shape>>) + Send>;

/// A connection, as calls and proxies see it.
pub trait Conduit: Send + Sync + 'static {
    /// Sends a call with the arguments in `encoder`, and returns its number.
    ///
    /// # Errors
    ///
    /// Nothing was sent.
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error>;

    /// [`begin`](Self::begin) by a task that waits for the outcome from then on. Whether its waker is kept: otherwise the
    /// outcome may be there, and is to be asked for. Default: it is to be asked for.
    ///
    /// # Errors
    ///
    /// Nothing was sent.
    fn begin_waiting(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
        waker: &Waker,
    ) -> Result<(u64, bool), Error> {
        let _ = waker;
        Ok((self.begin(target, op, options, encoder)?, false))
    }

    /// Sends a call and waits for its outcome on this thread, which runs the callbacks of its own chain meanwhile.
    ///
    /// # Errors
    ///
    /// Nothing was sent; [`ErrorKind::WouldBlock`](farref_boxing::ErrorKind::WouldBlock) where this thread must
    /// not wait.
    fn block(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error>;

    /// The outcome of a call, once.
    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome>;

    /// Waits for the outcome of a call that was sent, on this thread.
    ///
    /// # Errors
    ///
    /// This thread must not wait; the call goes on.
    fn wait(&self, call: u64, patience: Option<std::time::Duration>) -> Result<Option<Outcome>, Error>;

    /// Whether the outcome of a call is there.
    fn is_ready(&self, call: u64) -> bool;

    /// Gives a call up.
    fn drop_call(&self, call: u64, reason: CancelReason);

    /// The last handle on a proxy is gone.
    fn release(&self, import: u64, generation: u32);

    /// Answers a call of the peer's with a value encoded in `encoder`; `failure` if that is the method's error value.
    fn answer_value(&self, answer: u64, failure: Option<Error>, shape: u32, encoder: &mut Encoder);

    /// Answers a call by name of the peer's with a value that has no references in it, without encoding it first. Default: the
    /// value comes back, and is to be encoded.
    ///
    /// # Errors
    ///
    /// The value, which was not taken.
    fn answer_plain(&self, answer: u64, value: Value) -> Result<(), Value> {
        let _ = answer;
        Err(value)
    }

    /// Answers a call of the peer's with an error.
    fn answer_error(&self, answer: u64, error: Error, started: bool);

    /// Answers a call of the peer's with the outcome of the call that it was passed on as.
    fn answer_outcome(&self, answer: u64, outcome: Outcome);

    /// Sends a call of another connection's peer on to `target`, and its outcome back.
    fn forward(self: Arc<Self>, target: Target, options: CallOptions, invocation: Invocation);

    /// Wakes a thread and drops the call that it waits for when the call of the peer's that it serves is given up;
    /// `None` ends that.
    fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>);

    /// Drops the call that a call of the peer's was passed on as when that is given up; `None` ends that.
    fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>);

    /// Whether a call of the peer's was given up.
    fn is_cancelled(&self, answer: u64) -> bool;

    /// What the peer's type of that fingerprint looks like; asks the peer if need be. Default: nobody knows.
    fn shape(&self, fingerprint: u32) -> PeerShape {
        let _ = fingerprint;
        PeerShape::Unknown
    }

    /// Tells `tell` what the peer's type of that fingerprint looks like, as soon as that is known. Default: nobody knows.
    fn when_shape(&self, fingerprint: u32, tell: TellShape) {
        let _ = fingerprint;
        tell(None);
    }

    /// Something with that fingerprint is passed on to the peer, which may ask what it looks like; `source` is where it
    /// came from. Default: the peer does not ask.
    fn passes(&self, fingerprint: u32, source: &Arc<dyn Conduit>) {
        let _ = (fingerprint, source);
    }

    /// Whether that is an object of the peer's at the other end. Default: nothing is.
    fn is_home_of(&self, remote: &Arc<dyn Remote>) -> bool {
        let _ = remote;
        false
    }

    /// Whether the call that is answered here was let through by that guarded object already. Default: by none.
    fn was_admitted_by(&self, guarded: usize) -> bool {
        let _ = guarded;
        false
    }

    /// Whether the peer knows no interfaces, and is called by name. Default: it knows them.
    fn is_by_name(&self) -> bool {
        false
    }

    /// Who is at the other end.
    fn peer(&self) -> &Arc<Peer>;

    /// Who makes the calls that are answered here. Default: whoever is at the other end.
    fn caller(&self) -> &Arc<Peer> {
        self.peer()
    }

    /// Waits until every reference over it is broken, and says why. It is not kept in use by this.
    fn lost(&self) -> crate::call::BoxFuture<'static, Error>;
}

/// What a call asks of an object.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A method, by its number.
    Method(&'static Method),
    /// A method of a peer that knows no numbers, and how it is asked there.
    Named(&'static Method, Box<Op>),
    /// Anything else.
    Operation(Box<Op>),
}

impl Ask {
    /// How it is asked.
    pub(crate) fn options(&self) -> CallOptions {
        let (Self::Method(method) | Self::Named(method, _)) = self else {
            let is_copy = matches!(self, Self::Operation(op) if **op == Op::Copy);
            return CallOptions {
                fetch: if is_copy { u8::MAX } else { 0 },
                ..CallOptions::default()
            };
        };
        let told = method.told();
        let (mut results, mut fetch) = (ResultShapes::default(), 0);
        if matches!(self, Self::Method(_)) {
            (results.value, results.failure) = (told.value.fingerprint, told.failure.fingerprint);
        } else {
            fetch = told.value.levels;
        }
        CallOptions {
            results,
            fetch,
            one_way: method.manners.one_way,
            idempotent: method.manners.idempotent,
            detached: method.manners.detached,
            ..CallOptions::default()
        }
    }

    /// The operation that goes with the call.
    pub(crate) fn operation(&self) -> Cow<'_, Op> {
        match self {
            Self::Method(method) => Cow::Owned(Op::Method {
                interface: method.interface,
                method: method.number,
                shape: method.arguments_shape(),
            }),
            Self::Named(_, op) | Self::Operation(op) => Cow::Borrowed(op),
        }
    }
}

/// Its name, for traces.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) | Self::Named(method, _) => f.write_str(method.name),
            Self::Operation(op) => op.fmt(f),
        }
    }
}
