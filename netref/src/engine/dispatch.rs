//! The peer's calls on their way to the methods: in order where order was promised, at once where not.
//!
//! An export has a *mailbox* only while something in it waits: for arguments that are still coming, or for a
//! method that runs alone. Otherwise a call goes straight to its method, and nothing is looked up.
//!
//! Calls made by methods do not wait for a method that runs alone, but go into mailboxes of their own, one for each
//! chain and depth: what a running method waits for must not wait for that method. Only a `#[serial]` one is waited
//! for by all, and refuses its own chain.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind, Shape};

use crate::body;
use crate::chain;
use crate::context::{self, Serving};
use crate::engine::anchor::Anchor;
use crate::engine::core::Core;
use crate::hosted::Exported;
use crate::interface::Method;
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::panics;
use crate::place;
use crate::protocol::{
    CallOptions, CancelReason, Chain, Incoming, IncomingTarget, PeerShape, Protocol, Received, Refs,
};
use crate::remote::{Blocked, Conduit, EngineHandles, Remote, TellShape};
use crate::served::{self, ServedFuture};
use crate::shapes;
use crate::sparse::{SparseMap, SparseQueue};
use crate::trace::Traced;
use crate::waiter::{Job, ThreadWaiter};

/// What runs and what waits on the serving side of one connection.
#[derive(Default)]
pub(crate) struct Dispatch {
    state: Mutex<Running>,
    /// There is a mailbox. Where whoever reads finds none, none was made before what it has read.
    has_mailboxes: AtomicBool,
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

/// A call whose arguments cannot be read yet. Its mailbox is busy, and waits for it.
struct Unread {
    /// The fingerprint of what it waits for.
    shape: u32,
    object: Arc<dyn Exported>,
    invocation: Invocation,
    serving: Serving,
    awaited: bool,
    own: Slot,
}

/// A blocking method whose turn has not come.
struct Turn {
    /// Its call, if it can be given up.
    call: Option<u64>,
    chain: Option<Chain>,
    job: Job,
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

/// How a running call is given up.
#[derive(Default)]
pub(crate) struct Cancel {
    given_up: AtomicBool,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    task: Option<Waker>,
    blocked: Option<Blocked>,
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
}

impl Cancel {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Tells whoever serves the call. Whether it was passed on: then nobody here will end it.
    fn give_up(&self) -> bool {
        self.given_up.store(true, Ordering::Release);
        let Watchers {
            task,
            blocked,
            passed_on,
        } = std::mem::take(&mut *lock(&self.watchers));
        let was_passed_on = passed_on.is_some();
        if let Some(task) = task {
            task.wake();
        }
        if let Some((thread, conduit, number)) = blocked {
            thread.notify();
            conduit.drop_call(number, CancelReason::Upstream);
        }
        if let Some((conduit, number)) = passed_on {
            conduit.drop_call(number, CancelReason::Upstream);
        }
        was_passed_on
    }
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

    pub(crate) fn is_cancelled(&self, answer: u64) -> bool {
        lock(&self.state)
            .calls
            .get(&answer)
            .is_some_and(|cancel| cancel.is_given_up())
    }

    pub(crate) fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        let cancel = lock(&self.state).calls.get(&answer).cloned();
        if let Some(cancel) = cancel {
            let replaced = std::mem::replace(&mut lock(&cancel.watchers).blocked, blocked);
            drop(replaced);
        }
    }

    pub(crate) fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        let mut state = lock(&self.state);
        if passed_on.is_none() {
            drop(state.calls.remove(&answer));
            return;
        }
        let cancel = Arc::clone(state.calls.map().entry(answer).or_default());
        drop(state);
        lock(&cancel.watchers).passed_on = passed_on;
    }

    /// Gives a thread that waits in `chain` the methods of that chain whose turn has not come.
    pub(crate) fn hand_over(&self, chain: Chain, thread: &crate::sync::Arc<ThreadWaiter>) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            return;
        }
        let is_of_chain = |turn: &Turn| turn.chain.is_some_and(|of| of.id() == chain.id());
        let queue = std::mem::take(state.queue.queue());
        let (handed, left): (VecDeque<Turn>, _) = queue.into_iter().partition(is_of_chain);
        *state.queue.queue() = left;
        for turn in handed {
            thread.push(turn.job);
        }
    }

    /// Notes that the method of `answer` is about to run, or that its first poll goes on beside the reading: from
    /// here on it can be given up.
    pub(crate) fn enter(&self, answer: u64) -> Arc<Cancel> {
        Arc::clone(lock(&self.state).calls.map().entry(answer).or_default())
    }

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

    fn leave(&self, answer: u64) {
        let ended = lock(&self.state).calls.remove(&answer);
        drop(ended);
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// A call came. `anchor` is asked for the anchor if it is run now.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        incoming: Incoming<EngineHandles>,
        anchor: impl FnOnce() -> Arc<Anchor<P>>,
    ) {
        let export = match &incoming.target {
            IncomingTarget::Object { export, .. } => *export,
            IncomingTarget::Import(_) | IncomingTarget::Broken(_) => {
                self.run(incoming, anchor());
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
        if let Next::Freed(slot) = self.run(incoming, anchor()) {
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
            self.deliver(incoming, || self.anchor());
        }
    }

    /// A call was given up.
    pub(crate) fn give_up(self: &Arc<Self>, answer: u64) {
        let (cancel, waiting, queued, slot) = {
            let mut state = lock(&self.dispatch.state);
            let cancel = state.calls.get(&answer).cloned();
            let slot = state.bodies.remove(&answer);
            let mut waiting = None;
            for mailbox in state.mailboxes.values_mut() {
                if let Some(at) = mailbox
                    .queue
                    .iter()
                    .position(|incoming| incoming.answer == answer)
                {
                    waiting = mailbox.queue.remove(at);
                }
            }
            let queued = state.queue.take(|turn| turn.call == Some(answer));
            let unread = state.unread.remove(&answer);
            (cancel, (waiting, unread), queued, slot)
        };
        let (waiting, unread) = waiting;
        self.discard(waiting);
        if let Some(unread) = unread {
            let own = unread.own;
            self.dispatch.leave(answer);
            self.discard(unread);
            self.not_busy(own);
            self.drain(own);
        }
        if let Some(cancel) = cancel
            && cancel.give_up()
        {
            self.dispatch.leave(answer);
        }
        // Out of the queue at once, so that calls which are given up cannot pile up in it: it sees that it was
        // given up, and does not run.
        if let Some(turn) = queued {
            (turn.job)();
        }
        // What waited behind the arguments that will never come goes on.
        if let Some(slot) = slot {
            self.drain(slot);
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
                && self.run(incoming, self.anchor()) == Next::Wait(slot)
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
    fn run(self: &Arc<Self>, incoming: Incoming<EngineHandles>, conduit: Arc<dyn Conduit>) -> Next {
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
            IncomingTarget::Object { object, .. } => self.begin(object, invocation, serving, awaited, own),
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
            Dispatched::Async(future, method) => self.run_async(future, method, serving, how(method)),
            Dispatched::Blocking(job, method) => self.run_blocking(job, method, serving, how(method)),
            Dispatched::Unread(..) | Dispatched::Done => Next::Go,
        }
    }

    /// Keeps a call until the peer has told what its arguments look like, and its mailbox with it.
    fn put_by(self: &Arc<Self>, unread: Unread) -> Next {
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
            match self.begin(object, invocation, serving, awaited, own) {
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

    /// Polls an async method for the first time, in order, and spawns it if it waits.
    fn run_async(
        self: &Arc<Self>,
        mut future: ServedFuture,
        method: &'static Method,
        mut serving: Serving,
        how: How,
    ) -> Next {
        let alone = method.manners.serial;
        if alone {
            // Before the first poll: it may block, and then somebody else reads the calls that come meanwhile.
            self.occupy(how.slot, &mut serving, true);
        }
        let answer = serving.answer;
        let mut serving = Some(serving);
        let is_over = !method.manners.spawned && {
            let context = &mut Context::from_waker(Waker::noop());
            self.poll_method(&mut future, &mut serving, answer, context)
                .is_ready()
        };
        if is_over {
            served::put(future);
            self.left(answer);
            return if alone { Next::Freed(how.slot) } else { Next::Go };
        }
        // The task polls it again at once, with a waker of its own.
        self.runtime.spawn(Served {
            core: Arc::clone(self),
            future: Some(future),
            serving,
            cancel: self.dispatch.enter(answer),
            answer,
            alone_on: alone.then_some(how.slot),
        });
        if alone { Next::Wait(how.slot) } else { Next::Go }
    }

    /// Polls an async method as the call that is being served. One that panics is answered, and over.
    fn poll_method(
        self: &Arc<Self>,
        future: &mut ServedFuture,
        serving: &mut Option<Serving>,
        answer: u64,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let polled = context::serve(serving, || panics::guard(|| future.poll(context)));
        polled.unwrap_or_else(|error| {
            self.answer_panic(answer, error);
            Poll::Ready(())
        })
    }

    /// Runs a blocking method on a thread that may wait.
    fn run_blocking(
        self: &Arc<Self>,
        job: Job,
        method: &'static Method,
        mut serving: Serving,
        how: How,
    ) -> Next {
        let How { awaited, slot } = how;
        let answer = serving.answer;
        if method.manners.inline {
            let mut serving = Some(serving);
            if let Err(error) = context::serve(&mut serving, || panics::guard(job)) {
                self.answer_panic(answer, error);
            }
            self.left(answer);
            return Next::Go;
        }
        let chain = serving.chain;
        let alone = method.manners.serial || !(awaited || method.manners.concurrent);
        if alone {
            self.occupy(slot, &mut serving, method.manners.serial);
        }
        drop(self.dispatch.enter(answer));
        let core = Arc::clone(self);
        let run: Job = Box::new(move || {
            if core.dispatch.is_cancelled(answer) {
                // Given up before its turn came: it never runs, and was answered already.
                core.discard(job);
            } else {
                let mut serving = Some(serving);
                let ran = context::serve(&mut serving, || place::on_pool(|| panics::guard(job)));
                if let Err(error) = ran {
                    core.answer_panic(answer, error);
                }
            }
            core.dispatch.leave(answer);
            if alone {
                core.not_busy(slot);
                core.drain(slot);
            }
        });
        let run = match chain {
            // Back on the thread that waits for this very chain, if it is here.
            Some(chain) if awaited => chain::hand_to_waiting_thread(chain, run).err(),
            _ => Some(run),
        };
        if let Some(run) = run {
            self.run_on_pool(Some(answer), chain, run);
        }
        if alone { Next::Wait(slot) } else { Next::Go }
    }

    /// Makes a mailbox busy: what comes waits until the call is over. Calls that the method makes are known by its
    /// chain, which it gets here if it has none.
    fn occupy(&self, slot: Slot, serving: &mut Serving, serial: bool) {
        let chain = serving.chain.get_or_insert_with(chain::fresh).id();
        let mut state = lock(&self.dispatch.state);
        let mailbox = self.dispatch.mailbox(&mut state, slot);
        mailbox.busy = true;
        mailbox.alone = Some((chain, serial));
    }

    /// A method is over that was run by whoever reads, or would have: it can be given up no more, if it could at all.
    fn left(&self, answer: u64) {
        if !self.is_driven_here() {
            self.dispatch.leave(answer);
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

    fn answer_panic(self: &Arc<Self>, answer: u64, error: Error) {
        let conduit = self.anchor();
        let peer = &self.peer;
        peer.warn(|left_out| tracing::warn!(%peer, panic = %error, left_out, "a method panicked"));
        conduit.answer_error(answer, error, true);
    }

    /// Runs `job` on a thread of the pool. If all of this peer's are taken: on the thread that waits for its chain,
    /// as that may be one of them; else when one is free.
    pub(crate) fn run_on_pool(self: &Arc<Self>, call: Option<u64>, chain: Option<Chain>, job: Job) {
        {
            let mut state = lock(&self.dispatch.state);
            if state.blocking as usize >= self.config.max_blocking.max(1) {
                // Under the lock: a thread that begins to wait looks at the queue afterwards.
                let stranded = match chain {
                    Some(chain) => chain::hand_to_waiting_thread(chain, job).err(),
                    None => Some(job),
                };
                if let Some(job) = stranded {
                    state.queue.queue().push_back(Turn { call, chain, job });
                }
                return;
            }
            state.blocking = state.blocking.saturating_add(1);
        }
        let core = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let mut next = Some(job);
            while let Some(job) = next {
                job();
                let mut state = lock(&core.dispatch.state);
                next = state.queue.pop_front().map(|turn| turn.job);
                if next.is_none() {
                    state.blocking = state.blocking.saturating_sub(1);
                }
            }
        });
    }
}

/// Of so many types that are passed on it is known where they came from: as many as a peer may ask for.
const MOST_SOURCES: usize = 1024;

/// How a call is to be run.
struct How {
    /// The caller is blocked until it returns.
    awaited: bool,
    /// The mailbox that is busy meanwhile if it runs alone.
    slot: Slot,
}

/// An async method that was polled and waits, or is to run by itself.
struct Served<P: Protocol<EngineHandles>> {
    core: Arc<Core<P>>,
    future: Option<ServedFuture>,
    serving: Option<Serving>,
    /// It can be given up.
    cancel: Arc<Cancel>,
    answer: u64,
    /// The mailbox that waits for the end.
    alone_on: Option<Slot>,
}

impl<P: Protocol<EngineHandles>> Future for Served<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut watchers = lock(&this.cancel.watchers);
        if !watchers
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(context.waker()))
        {
            watchers.task = Some(context.waker().clone());
        }
        drop(watchers);
        if this.cancel.is_given_up() {
            // Dropping the method's future is how it is cancelled; its own calls are cancelled with it.
            let dropped = this.future.take();
            // What its destructors still have to tell others is not cut short by a deadline that has passed.
            if let Some(serving) = &mut this.serving {
                serving.deadline = None;
            }
            let ended = context::serve(&mut this.serving, || panics::guard(|| drop(dropped)));
            if let Err(error) = ended {
                let peer = &this.core.peer;
                peer.warn(|left_out| {
                    tracing::warn!(%peer, panic = %error, left_out, "a cancelled method panicked");
                });
            }
            return Poll::Ready(());
        }
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        let polled = this
            .core
            .poll_method(future, &mut this.serving, this.answer, context);
        if polled.is_ready() {
            this.future = None;
        }
        polled
    }
}

impl<P: Protocol<EngineHandles>> Drop for Served<P> {
    fn drop(&mut self) {
        self.core.dispatch.leave(self.answer);
        // A runtime that is shut down drops its tasks: whoever waits for them should hear of it. What is behind it is not
        // run, as it would be dropped at once; the connection ends, and gives it up.
        if self.future.is_some() {
            self.alone_on = None;
            let conduit = self.core.anchor();
            conduit.answer_error(
                self.answer,
                Error::new(ErrorKind::Cancelled, "the serving side is shutting down"),
                true,
            );
        }
        if let Some(slot) = self.alone_on {
            self.core.not_busy(slot);
            self.core.drain(slot);
        }
    }
}
