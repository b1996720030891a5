//! The peer's calls on their way to the methods: in order where order was promised, at once where not.
//!
//! An export has a *mailbox* only while something in it waits: for arguments that are still coming, or for a
//! method that runs alone. Otherwise a call goes straight to its method, and nothing is looked up.
//!
//! Calls made by methods do not wait for a method that runs alone, but go into mailboxes of their own, one for each
//! chain and depth: what a running method waits for must not wait for that method. Only a `#[serial]` one is waited
//! for by all, and refuses its own chain.
//!
//! Here is the order. Methods run in [`methods`], calls are given up in [`cancel`], and [`shapes`] keeps those that cannot be
//! read yet.

mod cancel;
mod kept;
mod methods;
mod shapes;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind};

use self::cancel::Cancel;
pub(super) use self::kept::{Kept, WentOn};
use self::methods::{How, Turn};
use self::shapes::Unread;
use crate::body;
use crate::context::Serving;
use crate::engine::anchor::Anchor;
use crate::engine::core::Core;
use crate::hosted::Exported;
use crate::interface::Method;
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::panics;
use crate::protocol::{CallOptions, Chain, Incoming, IncomingTarget, Protocol, Received, Refs};
use crate::remote::{Conduit, EngineHandles, Remote, TellShape};
use crate::sparse::{SparseMap, SparseQueue};
use crate::trace::Traced;

/// What runs and what waits on the serving side of one connection.
#[derive(Default)]
pub(crate) struct Dispatch {
    state: Mutex<Running>,
    /// There is a mailbox. Where whoever reads finds none, none was made before what it has read.
    has_mailboxes: AtomicBool,
    /// The method that the driver keeps was woken.
    goes_on: AtomicBool,
}

#[derive(Default)]
struct Running {
    /// Calls whose method runs or waits for its turn, and can be given up.
    calls: SparseMap<u64, Arc<Cancel>>,
    /// Those with something that waits.
    mailboxes: SparseMap<Slot, Mailbox>,
    /// Calls whose arguments are still coming, and the mailbox they wait in.
    bodies: SparseMap<u64, Slot>,
    /// Calls whose arguments cannot be read before the peer tells what they look like.
    unread: SparseMap<u64, Unread>,
    /// Who else waits to be told what a type of the peer's looks like.
    curious: SparseMap<u32, Vec<TellShape>>,
    /// Where that came from whose shape the peer may ask for, but for what was made here.
    sources: SparseMap<u32, Weak<dyn Conduit>>,
    /// Blocking methods that run.
    blocking: u32,
    /// Blocking methods whose turn has not come.
    queue: SparseQueue<Turn>,
}

/// Which mailbox of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    export: u64,
    /// That of calls made by methods at one depth of one chain; `None` is that of all others.
    nested: Option<Chain>,
}

impl Slot {
    /// The mailbox of calls that no method makes.
    const fn of_all(export: u64) -> Self {
        Self { export, nested: None }
    }

    /// The mailbox of a call that does not wait for others than its own kind.
    fn own(export: u64, options: &CallOptions) -> Self {
        // Whoever passes a call on makes it one deeper.
        let is_made_by_method = |chain: &Chain| chain.depth > u16::from(options.hops);
        Self {
            export,
            nested: options.chain.filter(is_made_by_method),
        }
    }
}

/// Calls to one export, in order.
///
/// # Invariant
///
/// While `busy`, somebody runs the call before the first of the queue, and will look at the queue afterwards.
#[derive(Default)]
struct Mailbox {
    busy: bool,
    /// It is busy with a call that cannot be read yet: all that come wait behind that.
    unread: bool,
    /// The method that runs alone: its chain, and whether it is `#[serial]`.
    alone: Option<(u128, bool)>,
    queue: VecDeque<Incoming<EngineHandles>>,
}

/// Whether the next call of the mailbox may go on.
#[derive(PartialEq, Eq)]
enum Next {
    /// At once.
    Go,
    /// At once; this one had the mailbox for itself meanwhile.
    Freed(Slot),
    /// When this one is over: it will see to that.
    Wait(Slot),
}

/// Where a call goes that has come.
enum Way {
    /// To its method.
    On,
    /// Into a mailbox.
    Queue(Slot),
    /// Nowhere: it would wait for a call that it is a part of.
    Reentrant,
}

impl Running {
    /// Where a call of `export` goes.
    fn way(&self, export: u64, incoming: &Incoming<EngineHandles>) -> Way {
        let own = Slot::own(export, &incoming.request.options);
        let slot = if let Some(chain) = own.nested {
            let (all, serial) = (Slot::of_all(export), is_serial(incoming));
            let of_all = self.mailboxes.get(&all);
            match of_all.and_then(|mailbox| mailbox.alone) {
                Some((of, busy_with_serial)) if busy_with_serial || serial => {
                    if of == chain.id() {
                        return Way::Reentrant;
                    }
                    all
                }
                _ if serial => all,
                // What waits there waits for arguments alone, or to be read: it keeps its place behind that.
                _ if of_all.is_some_and(|mailbox| !mailbox.busy || mailbox.unread)
                    && !self.mailboxes.contains_key(&own) =>
                {
                    all
                }
                _ => own,
            }
        } else {
            own
        };
        if incoming.request.body.is_some() && !self.mailboxes.contains_key(&slot) {
            return Way::On;
        }
        Way::Queue(slot)
    }

    /// Calls that need not wait for a method which has begun to run alone, and now would.
    fn take_nested(&mut self, slot: Slot) -> Vec<Incoming<EngineHandles>> {
        let Some(mailbox) = self.mailboxes.get_mut(&slot) else {
            return Vec::new();
        };
        if slot.nested.is_some() || !matches!(mailbox.alone, Some((_, false))) {
            return Vec::new();
        }
        let is_free = |incoming: &Incoming<EngineHandles>| {
            incoming.request.body.is_some()
                && Slot::own(slot.export, &incoming.request.options).nested.is_some()
                && !is_serial(incoming)
        };
        let queue = std::mem::take(&mut mailbox.queue);
        let (free, left): (VecDeque<_>, _) = queue.into_iter().partition(is_free);
        mailbox.queue = left;
        free.into()
    }
}

/// Whether the method that is called runs alone by its own wish.
fn is_serial(incoming: &Incoming<EngineHandles>) -> bool {
    let IncomingTarget::Object { object, .. } = &incoming.target else {
        return false;
    };
    let Some(interface) = object.interface() else {
        return false;
    };
    let method = interface.find_for(&incoming.request.op);
    method.is_some_and(|(_, method)| method.manners.serial)
}

impl Dispatch {
    /// Gives back memory that is of use only while something runs or waits.
    pub(crate) fn rest(&self) {
        let mut state = lock(&self.state);
        state.calls.rest();
        state.mailboxes.rest();
        state.bodies.rest();
        state.unread.rest();
        state.curious.rest();
        state.queue.rest();
    }

    /// A mailbox, made if there is none.
    fn mailbox<'a>(&self, state: &'a mut Running, slot: Slot) -> &'a mut Mailbox {
        self.has_mailboxes.store(true, Ordering::Release);
        state.mailboxes.map().entry(slot).or_default()
    }

    /// Puts a call into a mailbox.
    fn queue(&self, state: &mut Running, slot: Slot, mut incoming: Incoming<EngineHandles>) {
        let body = &mut incoming.request.body;
        *body = body.take().map(body::apart);
        if body.is_none() {
            state.bodies.insert(incoming.answer, slot);
        }
        self.mailbox(state, slot).queue.push_back(incoming);
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// A call came. `anchor` is asked for the anchor if it is run now; where it waits then, it may be kept.
    pub(super) fn deliver(
        self: &Arc<Self>,
        incoming: Incoming<EngineHandles>,
        anchor: impl FnOnce() -> Arc<Anchor<P>>,
        kept: Option<&mut Kept<P>>,
    ) {
        let export = match &incoming.target {
            IncomingTarget::Object { export, .. } => *export,
            IncomingTarget::Import(_) | IncomingTarget::Broken(_) => {
                self.run(incoming, anchor(), None);
                return;
            }
        };
        let dispatch = &self.dispatch;
        let is_alone = incoming.request.body.is_some() && !dispatch.has_mailboxes.load(Ordering::Acquire);
        let is_reentrant = !is_alone && {
            let mut state = lock(&dispatch.state);
            match state.way(export, &incoming) {
                Way::On => false,
                Way::Queue(slot) => return dispatch.queue(&mut state, slot, incoming),
                Way::Reentrant => true,
            }
        };
        if is_reentrant {
            return self.refuse(&incoming);
        }
        // A method that runs alone makes the mailbox busy by itself.
        if let Next::Freed(slot) = self.run(incoming, anchor(), kept) {
            self.not_busy(slot);
            self.drain(slot);
        }
    }

    /// Answers a call that would wait for the method that it is a part of.
    fn refuse(self: &Arc<Self>, incoming: &Incoming<EngineHandles>) {
        let error = Error::new(
            ErrorKind::Reentrant,
            "the object is busy with the call that this one is a part of, and runs one at a time",
        );
        self.anchor().answer_error(incoming.answer, error, false);
    }

    /// The arguments of a call are there.
    pub(crate) fn body_arrived(
        self: &Arc<Self>,
        answer: u64,
        body: Bytes,
        mut refs: Refs<Received<EngineHandles>>,
    ) {
        let slot = {
            let mut state = lock(&self.dispatch.state);
            let slot = state.bodies.remove(&answer);
            let mailbox = slot.and_then(|slot| state.mailboxes.get_mut(&slot));
            let waiting = mailbox.and_then(|mailbox| {
                let mut queue = mailbox.queue.iter_mut();
                queue.find(|incoming| incoming.answer == answer)
            });
            if let Some(waiting) = waiting {
                waiting.request.body = Some(body);
                waiting.request.refs.append(&mut refs);
            }
            slot
        };
        // Nobody waits for them any more.
        if !refs.is_empty() {
            self.discard(refs);
        }
        if let Some(slot) = slot {
            self.drain(slot);
            self.free_nested(slot);
        }
    }

    /// Lets calls go on that need not wait for the method that runs alone in their mailbox.
    fn free_nested(self: &Arc<Self>, slot: Slot) {
        let free = lock(&self.dispatch.state).take_nested(slot);
        for incoming in free {
            self.deliver(incoming, || self.anchor(), None);
        }
    }

    /// Runs what can be run of a mailbox, in order; one thread at a time does.
    fn drain(self: &Arc<Self>, slot: Slot) {
        loop {
            let incoming = {
                let mut state = lock(&self.dispatch.state);
                let Some(mailbox) = state.mailboxes.get_mut(&slot) else {
                    return;
                };
                if mailbox.busy {
                    return;
                }
                match mailbox.queue.front() {
                    None => {
                        state.mailboxes.remove(&slot);
                        let is_any_left = !state.mailboxes.is_empty();
                        self.dispatch.has_mailboxes.store(is_any_left, Ordering::Release);
                        return;
                    }
                    Some(first) if first.request.body.is_none() => return,
                    Some(first) => {
                        let answer = first.answer;
                        mailbox.busy = true;
                        let first = mailbox.queue.pop_front();
                        // Somebody else reads: a cancel may come before the method has begun.
                        if !self.is_driven_here() {
                            state.calls.map().entry(answer).or_default();
                        }
                        first
                    }
                }
            };
            if let Some(incoming) = incoming
                && self.run(incoming, self.anchor(), None) == Next::Wait(slot)
            {
                return self.free_nested(slot);
            }
            self.not_busy(slot);
        }
    }

    fn not_busy(&self, slot: Slot) {
        if let Some(mailbox) = lock(&self.dispatch.state).mailboxes.get_mut(&slot) {
            mailbox.busy = false;
            mailbox.unread = false;
            mailbox.alone = None;
        }
    }

    /// Hands a call to its method. `conduit` is the anchor.
    fn run(
        self: &Arc<Self>,
        incoming: Incoming<EngineHandles>,
        conduit: Arc<dyn Conduit>,
        kept: Option<&mut Kept<P>>,
    ) -> Next {
        let Incoming {
            answer,
            target,
            request,
        } = incoming;
        let options = &request.options;
        let serving = Serving {
            conduit: Arc::clone(&conduit),
            answer,
            chain: options.chain,
            deadline: options.deadline,
            hops: options.hops,
            traced: Traced::of(options.trace.as_deref()),
        };
        let awaited = options.blocking;
        let mut own = Slot::of_all(0);
        if let IncomingTarget::Object { export, .. } = &target {
            own = Slot::own(*export, options);
        }
        let invocation = Invocation::new(conduit, answer, request);
        match target {
            IncomingTarget::Broken(error) => {
                invocation.fail(error, false);
                Next::Go
            }
            IncomingTarget::Import(remote) => {
                let remote: Arc<dyn Remote> = remote;
                drop(crate::relay::forward(&remote, None, invocation));
                Next::Go
            }
            IncomingTarget::Object { object, .. } => {
                self.begin(object, invocation, serving, awaited, own, kept)
            }
        }
    }

    /// Hands a call to the method of an object.
    fn begin(
        self: &Arc<Self>,
        object: Arc<dyn Exported>,
        invocation: Invocation,
        mut serving: Serving,
        awaited: bool,
        own: Slot,
        kept: Option<&mut Kept<P>>,
    ) -> Next {
        let dispatched = object.dispatch(invocation);
        if let Dispatched::Unread(invocation, shape) = dispatched {
            let invocation = *invocation;
            let unread = Unread {
                shape,
                object,
                invocation,
                serving,
                awaited,
                own,
            };
            return self.put_by(unread);
        }
        self.discard(object);
        let all = Slot::of_all(own.export);
        let how = |method: &Method| How {
            awaited,
            slot: if method.manners.serial { all } else { own },
        };
        if let (Dispatched::Async(_, method) | Dispatched::Blocking(_, method), Some(traced)) =
            (&dispatched, &mut serving.traced)
        {
            traced.begin(method, &self.peer);
        }
        match dispatched {
            Dispatched::Async(future, method) => self.run_async(future, method, serving, how(method), kept),
            Dispatched::Blocking(job, method) => self.run_blocking(job, method, serving, how(method)),
            Dispatched::Unread(..) | Dispatched::Done => Next::Go,
        }
    }

    /// Drops what may be the last to hold an object of the user's.
    pub(crate) fn discard<T>(&self, held: T) {
        if let Err(error) = panics::guard(|| drop(held)) {
            let peer = &self.peer;
            peer.warn(|left_out| {
                tracing::warn!(%peer, panic = %error, left_out, "the destructor of an object panicked");
            });
        }
    }
}
