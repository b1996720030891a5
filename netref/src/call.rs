//! `Call`: one outstanding call, a future.

mod pipe;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use farref_boxing::{Encoder, Error, ErrorKind};
use serde::Serialize;
use tokio::time::Sleep;

pub use self::pipe::Promise;
use crate::by_name;
use crate::encoders;
use crate::interface::Method;
use crate::lock::lock;
use crate::panics;
use crate::place;
use crate::protocol::{CallOptions, CancelReason};
use crate::remote::{Ask, Conduit, Outcome, Remote};
use crate::result::{Decode, Hop, MethodResult};
use crate::runtime;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One call, near or far: a future of its result that owns its arguments and can be spawned.
///
/// Nothing is sent before the call is *started*: by [`start`](Self::start), by [`pipe`](Call::pipe), by
/// [`wait`](Self::wait), or by being polled. Dropping a call that was not started does nothing; dropping one that
/// was cancels it, wherever it is by then.
///
/// # Cancel safety
///
/// Polling may stop at any time and go on later. Dropping cancels: the method may have run, be running, or never
/// run; references in a result that comes too late are released.
#[must_use = "a call does nothing until it is awaited or started, and is cancelled when dropped"]
pub struct Call<R> {
    state: Mutex<State<R>>,
    decode: Decode<R>,
}

enum State<R> {
    /// Encoded, not sent.
    Unsent(Unsent<R>),
    /// Sent to the peer.
    Sent(Sent<R>),
    /// To an object of this process; not started.
    Local {
        future: BoxFuture<'static, R>,
        patience: Option<Duration>,
    },
    /// To an object of this process; runs by itself.
    Running(Running<R>),
    /// Failed before anything was sent.
    Failed(Error),
    /// The result was given out.
    Done,
}

struct Unsent<R> {
    remote: Arc<dyn Remote>,
    ask: Ask,
    encoder: Box<Encoder>,
    patience: Option<Duration>,
    fallback: Option<Fallback<R>>,
}

struct Sent<R> {
    conduit: Arc<dyn Conduit>,
    number: u64,
    ask: Ask,
    /// The outcome was taken: there is nothing to cancel.
    over: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    fallback: Option<Fallback<R>>,
}

impl<R> Sent<R> {
    fn hop(&self) -> Hop<'_> {
        Hop {
            peer: Some(self.conduit.peer()),
            ask: Some(&self.ask),
        }
    }
}

impl<R> Drop for Sent<R> {
    fn drop(&mut self) {
        if !self.over {
            self.conduit.drop_call(self.number, CancelReason::Dropped);
        }
    }
}

struct Running<R> {
    task: tokio::task::JoinHandle<R>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What pipes wait for: the type is that of the pipe.
    promise: Option<Box<dyn std::any::Any + Send>>,
}

impl<R> Drop for Running<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the default body of a method that the peer lacks.
type Fallback<R> = Box<dyn FnOnce() -> BoxFuture<'static, R> + Send>;

impl<R: MethodResult> Call<R> {
    /// For generated code: a call of a far method, with its arguments encoded here and now.
    #[doc(hidden)]
    pub fn remote(
        remote: &Arc<dyn Remote>,
        method: &'static Method,
        arguments: &impl Serialize,
        decode: Decode<R>,
    ) -> Self {
        Self::ask(remote, by_name::ask(remote, method), arguments, decode)
    }

    /// A call of a far object, with what goes with it encoded here and now.
    pub(crate) fn ask(
        remote: &Arc<dyn Remote>,
        ask: Ask,
        arguments: &impl Serialize,
        decode: Decode<R>,
    ) -> Self {
        let mut encoder = encoders::take();
        let state = match by_name::encode(&mut encoder, &ask, arguments) {
            Ok(()) => State::Unsent(Unsent {
                remote: Arc::clone(remote),
                ask,
                encoder,
                patience: None,
                fallback: None,
            }),
            Err(error) => State::Failed(error),
        };
        Self {
            state: Mutex::new(state),
            decode,
        }
    }

    /// A call that cannot be made.
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            state: Mutex::new(State::Failed(error)),
            decode: |outcome, _| R::from_error(lost(outcome)),
        }
    }

    /// For generated code: what to do where the peer is older and has no such method.
    #[doc(hidden)]
    pub fn or_else(mut self, default: impl FnOnce() -> BoxFuture<'static, R> + Send + 'static) -> Self {
        if let State::Unsent(unsent) = self.get_mut() {
            unsent.fallback = Some(Box::new(default));
        }
        self
    }

    /// For generated code: the result, or `None` if the peer is older and has no such method.
    #[doc(hidden)]
    pub async fn or_missing(mut self) -> Option<R> {
        self.launch(Behind::Nothing);
        let State::Sent(sent) = self.get_mut() else {
            return Some(self.await);
        };
        let (conduit, number) = (Arc::clone(&sent.conduit), sent.number);
        let outcome = Ok(std::future::poll_fn(|context| conduit.poll_outcome(number, context)).await);
        let decode = self.decode;
        let State::Sent(sent) = self.get_mut() else {
            return None;
        };
        sent.over = true;
        if is_unimplemented(&outcome) {
            None
        } else {
            Some(decode(outcome, sent.hop()))
        }
    }

    /// For generated code: a call of an async method of an object in this process.
    #[doc(hidden)]
    pub fn local(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self {
            state: Mutex::new(State::Local {
                future: Box::pin(future),
                patience: None,
            }),
            decode: |outcome, _| R::from_error(lost(outcome)),
        }
    }

    /// For generated code: a call of a blocking method of an object in this process.
    #[doc(hidden)]
    pub fn local_blocking(method: impl FnOnce() -> R + Send + 'static) -> Self {
        Self::local(async move {
            match runtime::spawn_blocking(method).await {
                Ok(result) => result,
                Err(error) => R::from_error(join_error(error)),
            }
        })
    }

    /// Sends the call now. Its place in the order of calls to the object is fixed from here on.
    ///
    /// A call to an object of this process is polled for the first time here, and goes on as a task of the runtime.
    pub fn start(mut self) -> Self {
        self.launch(Behind::Anything);
        let state = self.get_mut();
        *state = run(std::mem::replace(state, State::Done));
        self
    }

    /// Gives the call up after `patience`, counted from when it is started, or from now if it is already.
    ///
    /// The time left travels with the call, and is shortened at each hop. The result is then an error of the kind
    /// [`ErrorKind::Deadline`]. [`Duration::MAX`] is for ever, whatever the default of the connection.
    pub fn timeout(mut self, patience: Duration) -> Self {
        match self.get_mut() {
            State::Unsent(unsent) => unsent.patience = Some(patience),
            State::Local { patience: of, .. } => *of = Some(patience),
            State::Sent(Sent { sleep, .. }) | State::Running(Running { sleep, .. }) => {
                let _in_runtime = runtime::handle().enter();
                *sleep = Some(Box::pin(tokio::time::sleep(patience)));
            }
            State::Failed(_) | State::Done => {}
        }
        self
    }

    /// Lets the call run to its end without waiting for it; its result is dropped.
    pub fn detach(self)
    where
        R: Send + 'static,
    {
        let call = self.start();
        runtime::handle().spawn(async move {
            drop(call.await);
        });
    }

    /// Calls `callback` with the result, on a task of the runtime.
    pub fn on_done(self, callback: impl FnOnce(R) + Send + 'static)
    where
        R: Send + 'static,
    {
        let call = self.start();
        runtime::handle().spawn(async move { callback(call.await) });
    }

    /// Whether the result is there: then waiting for it does not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &*lock(&self.state) {
            State::Unsent(_) | State::Local { .. } => false,
            State::Sent(sent) => sent.conduit.is_ready(sent.number),
            State::Running(running) => running.task.is_finished(),
            State::Failed(_) | State::Done => true,
        }
    }

    /// Waits for the result on this thread. Callbacks of the same chain of calls run here meanwhile.
    ///
    /// On a thread that must not wait the result is an error of the kind [`ErrorKind::WouldBlock`]; see
    /// [`crate::place`] for the table.
    pub fn wait(mut self) -> R {
        let state = std::mem::replace(self.get_mut(), State::Done);
        match state {
            State::Unsent(mut unsent) => {
                let mut how = unsent.ask.options();
                how.deadline = unsent.patience.map(crate::clock::after);
                let conduit = unsent.remote.conduit();
                let outcome = conduit.block(
                    unsent.remote.target(),
                    &unsent.ask.operation(),
                    how,
                    &mut unsent.encoder,
                );
                encoders::put(unsent.encoder);
                match (unsent.fallback, outcome) {
                    (Some(default), outcome) if is_unimplemented(&outcome) => {
                        place::block_on(default()).unwrap_or_else(R::from_error)
                    }
                    (_, outcome) => (self.decode)(
                        outcome,
                        Hop {
                            peer: Some(conduit.peer()),
                            ask: Some(&unsent.ask),
                        },
                    ),
                }
            }
            State::Sent(mut sent) => {
                if sent.fallback.is_some() {
                    *self.get_mut() = State::Sent(sent);
                    return place::block_on(self).unwrap_or_else(R::from_error);
                }
                let patience = sent.sleep.as_ref().map(|sleep| {
                    sleep
                        .deadline()
                        .saturating_duration_since(tokio::time::Instant::now())
                });
                match sent.conduit.wait(sent.number, patience) {
                    Ok(Some(outcome)) => {
                        sent.over = true;
                        (self.decode)(Ok(outcome), sent.hop())
                    }
                    Ok(None) => {
                        sent.over = true;
                        sent.conduit.drop_call(sent.number, CancelReason::Deadline);
                        R::from_error(ErrorKind::Deadline.into())
                    }
                    Err(error) => R::from_error(error),
                }
            }
            State::Failed(error) => R::from_error(error),
            state @ (State::Local { .. } | State::Running(_) | State::Done) => {
                *self.get_mut() = state;
                place::block_on(self).unwrap_or_else(R::from_error)
            }
        }
    }

    fn get_mut(&mut self) -> &mut State<R> {
        self.state
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends the call if it was not sent.
    fn launch(&mut self, behind: Behind) {
        launch(self.get_mut(), behind, None);
    }
}

/// What comes behind a call that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Nothing is called on its result before that is here.
    Nothing,
    /// Something may be.
    Anything,
    /// Something is, in a moment.
    Calls,
}

/// Sends what was not sent. Whether `waker` is known to the conduit from here on: then it need not be asked.
#[inline]
fn launch<R: MethodResult>(state: &mut State<R>, behind: Behind, waker: Option<&Waker>) -> bool {
    matches!(state, State::Unsent(_)) && send(state, behind, waker)
}

fn send<R: MethodResult>(state: &mut State<R>, behind: Behind, waker: Option<&Waker>) -> bool {
    let State::Unsent(mut unsent) = std::mem::replace(state, State::Done) else {
        return false;
    };
    let how = CallOptions {
        no_pipeline: behind == Behind::Nothing,
        followed: behind == Behind::Calls,
        deadline: unsent.patience.map(crate::clock::after),
        ..unsent.ask.options()
    };
    let conduit = Arc::clone(unsent.remote.conduit());
    let (target, operation, encoder) = (
        unsent.remote.target(),
        unsent.ask.operation(),
        &mut unsent.encoder,
    );
    let begun = match waker {
        Some(waker) => conduit.begin_waiting(target, &operation, how, encoder, waker),
        None => conduit
            .begin(target, &operation, how, encoder)
            .map(|number| (number, false)),
    };
    drop(operation);
    encoders::put(unsent.encoder);
    match begun {
        Ok((number, waits)) => {
            *state = State::Sent(Sent {
                conduit,
                number,
                ask: unsent.ask,
                over: false,
                sleep: None,
                fallback: unsent.fallback,
            });
            waits
        }
        Err(error) => {
            *state = State::Failed(error);
            false
        }
    }
}

/// Starts a local call: calls begin in the order in which they are started, and go on side by side.
fn run<R: MethodResult>(state: State<R>) -> State<R> {
    let State::Local { mut future, patience } = state else {
        return state;
    };
    let runtime = runtime::handle();
    let _in_runtime = runtime.enter();
    let sleep = patience.map(|patience| Box::pin(tokio::time::sleep(patience)));
    let first = panics::guard(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    let task = runtime.spawn(async move {
        match first {
            Ok(Poll::Ready(result)) => result,
            Ok(Poll::Pending) => future.await,
            Err(error) => R::from_error(error),
        }
    });
    State::Running(Running {
        task,
        sleep,
        promise: None,
    })
}

impl<R: MethodResult> Future for Call<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        let decode = this.decode;
        let state = this.get_mut();
        if launch(state, Behind::Nothing, Some(context.waker())) {
            return Poll::Pending;
        }
        loop {
            match state {
                State::Sent(sent) => {
                    if let Poll::Ready(outcome) = sent.conduit.poll_outcome(sent.number, context) {
                        sent.over = true;
                        let fallback = sent.fallback.take();
                        let outcome = Ok(outcome);
                        if let Some(default) = fallback
                            && is_unimplemented(&outcome)
                        {
                            *state = State::Local {
                                future: default(),
                                patience: None,
                            };
                            continue;
                        }
                        let result = decode(outcome, sent.hop());
                        *state = State::Done;
                        return Poll::Ready(result);
                    }
                    let Some(sleep) = &mut sent.sleep else {
                        return Poll::Pending;
                    };
                    ready!(sleep.as_mut().poll(context));
                    sent.over = true;
                    sent.conduit.drop_call(sent.number, CancelReason::Deadline);
                }
                State::Running(running) => {
                    if let Poll::Ready(result) = Pin::new(&mut running.task).poll(context) {
                        *state = State::Done;
                        return Poll::Ready(result.unwrap_or_else(|error| R::from_error(join_error(error))));
                    }
                    let Some(sleep) = &mut running.sleep else {
                        return Poll::Pending;
                    };
                    ready!(sleep.as_mut().poll(context));
                }
                State::Local { future, patience } => match patience.take() {
                    None => {
                        let result = ready!(future.as_mut().poll(context));
                        *state = State::Done;
                        return Poll::Ready(result);
                    }
                    Some(patience) => {
                        let limited = std::mem::replace(future, Box::pin(std::future::pending()));
                        *future = Box::pin(async move {
                            tokio::time::timeout(patience, limited)
                                .await
                                .unwrap_or_else(|_| R::from_error(ErrorKind::Deadline.into()))
                        });
                        continue;
                    }
                },
                State::Failed(error) => {
                    let error = error.clone();
                    *state = State::Done;
                    return Poll::Ready(R::from_error(error));
                }
                State::Unsent(_) | State::Done => {
                    return Poll::Ready(R::from_error(Error::new(
                        ErrorKind::Misuse,
                        "the result of a call is given out once",
                    )));
                }
            }
            // Only a deadline comes here.
            *state = State::Done;
            return Poll::Ready(R::from_error(ErrorKind::Deadline.into()));
        }
    }
}

fn is_unimplemented(outcome: &Result<Outcome, Error>) -> bool {
    matches!(outcome, Ok(Outcome::Error(error)) if error.kind() == ErrorKind::Unimplemented)
}

fn lost(outcome: Result<Outcome, Error>) -> Error {
    match outcome {
        Err(error) | Ok(Outcome::Error(error)) => error,
        Ok(Outcome::Value { .. }) => Error::new(ErrorKind::Misuse, "a local call has no encoded result"),
    }
}

pub(crate) fn join_error(error: tokio::task::JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => crate::panics::error(&*panic),
        Err(_) => ErrorKind::Cancelled.into(),
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*lock(&self.state) {
            State::Unsent(_) | State::Local { .. } => "not started",
            State::Sent(_) | State::Running(_) => "on its way",
            State::Failed(_) => "failed",
            State::Done => "done",
        };
        write!(f, "Call({state})")
    }
}
