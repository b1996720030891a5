//! Calls on what a call will return: of the peer's objects by its number, of those of this process by a [`Promise`].

use std::fmt;
use std::sync::{Arc, OnceLock};

use farref_boxing::{Error, ErrorKind};
use tokio::sync::Notify;

use super::{Behind, BoxFuture, Call, Running, State, join_error, launch};
use crate::caller::{Caller, Place};
use crate::interface::{Extends, RemoteTrait};
use crate::lock::lock;
use crate::netref::Netref;
use crate::remote::{Conduit, Remote};
use crate::result::MethodResult;
use crate::runtime;
use crate::until::until;

impl<T: ?Sized + RemoteTrait, E> Call<Result<Netref<T>, E>>
where
    Result<Netref<T>, E>: MethodResult,
    E: fmt::Display + Send + 'static,
{
    /// Starts the call, and lends what it will return: calls can be made on that before it is there.
    ///
    /// They reach the object in the order in which they were started, and before any that are made on the netref
    /// which awaiting this call gives. If this call fails, they fail with its error as their cause. Awaiting
    /// consumes the call, so no pipe outlives it:
    ///
    /// ```compile_fail,E0505
    /// # extern crate farref_netref as farref;
    /// # use farref::{Call, Netref, Result, remote};
    /// # #[remote] trait Recording { fn name(&self) -> Result<String>; }
    /// # async fn example(recording: Call<Result<Netref<dyn Recording>>>) {
    /// let pipe = recording.pipe();
    /// let recording = recording.await;
    /// let name = pipe.name(); // the pipe ended where the call was awaited
    /// # }
    /// ```
    pub fn pipe(&self) -> T::Calls<'_> {
        let mut state = lock(&self.state);
        launch(&mut state, Behind::Calls, None);
        if let State::Local { .. } | State::Running(Running { promise: None, .. }) = &*state {
            let taken = std::mem::replace(&mut *state, State::Done);
            *state = promise(taken);
        }
        let place = match &*state {
            State::Sent(sent) => Place::Remote(Arc::new(Pipe {
                conduit: Arc::clone(&sent.conduit),
                number: sent.number,
            }) as Arc<dyn Remote>),
            State::Running(running) => {
                match running
                    .promise
                    .as_ref()
                    .and_then(|promise| promise.downcast_ref::<Promise<T>>())
                {
                    Some(promise) => Place::Promised(promise.clone()),
                    None => Place::Promised(Promise::broken(not_piped())),
                }
            }
            State::Failed(error) => Place::Promised(Promise::broken(broken(error))),
            State::Unsent(_) | State::Local { .. } | State::Done => {
                Place::Promised(Promise::broken(not_piped()))
            }
        };
        Caller::at(place).into()
    }
}

/// Starts a local call on a task of the runtime, if it was not yet, and promises what it will return.
fn promise<T, E>(state: State<Result<Netref<T>, E>>) -> State<Result<Netref<T>, E>>
where
    Result<Netref<T>, E>: MethodResult,
    T: ?Sized + RemoteTrait,
    E: fmt::Display + Send + 'static,
{
    let (future, sleep) = match state {
        State::Local { future, patience } => {
            let _in_runtime = runtime::handle().enter();
            (
                future,
                patience.map(|patience| Box::pin(tokio::time::sleep(patience))),
            )
        }
        State::Running(mut running) => {
            let sleep = running.sleep.take();
            let result = async move {
                let joined = (&mut running.task).await;
                joined.unwrap_or_else(|error| MethodResult::from_error(join_error(error)))
            };
            (Box::pin(result) as BoxFuture<'static, _>, sleep)
        }
        state => return state,
    };
    let promise = Promise::<T>::new();
    let kept = promise.clone();
    let task = runtime::handle().spawn(async move {
        let unkept = Unkept(&kept);
        let result = future.await;
        unkept.0.keep(match &result {
            Ok(netref) => Ok(netref.clone()),
            Err(error) => Err(Error::new(
                ErrorKind::Broken,
                format!("the call before it failed: {error}"),
            )),
        });
        result
    });
    State::Running(Running {
        task,
        sleep,
        promise: Some(Box::new(promise)),
    })
}

/// Breaks the promise of a call that is dropped before its end.
struct Unkept<'a, T: ?Sized>(&'a Promise<T>);

impl<T: ?Sized> Drop for Unkept<'_, T> {
    fn drop(&mut self) {
        self.0.keep(Err(Error::new(
            ErrorKind::Broken,
            "the call before it was cancelled",
        )));
    }
}

fn not_piped() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "nothing can be called on a call whose result was already given out",
    )
}

fn broken(cause: &Error) -> Error {
    Error::new(ErrorKind::Broken, format!("the call before it failed: {cause}"))
}

/// What a call of ours will return, as the target of calls.
struct Pipe {
    conduit: Arc<dyn Conduit>,
    number: u64,
}

impl Remote for Pipe {
    fn conduit(&self) -> &Arc<dyn Conduit> {
        &self.conduit
    }

    fn target(&self) -> crate::protocol::Target {
        crate::protocol::Target::Answer {
            call: self.number,
            slot: 0,
        }
    }

    fn imported(&self) -> Option<crate::protocol::Imported> {
        None
    }

    fn import_over(self: Arc<Self>, _conduit: &dyn Conduit) -> Option<Arc<crate::remote::Import>> {
        None
    }
}

/// What a call to an object of this process will return.
#[doc(hidden)]
pub struct Promise<T: ?Sized> {
    state: Arc<Promised<T>>,
}

struct Promised<T: ?Sized> {
    kept: OnceLock<Result<Netref<T>, Error>>,
    /// Woken when it is kept.
    changed: Notify,
}

impl<T: ?Sized> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<T: ?Sized> Promise<T> {
    fn new() -> Self {
        Self {
            state: Arc::new(Promised {
                kept: OnceLock::new(),
                changed: Notify::new(),
            }),
        }
    }

    fn broken(error: Error) -> Self {
        Self {
            state: Arc::new(Promised {
                kept: Err(error).into(),
                changed: Notify::new(),
            }),
        }
    }

    /// Settles the promise; a second time changes nothing.
    fn keep(&self, result: Result<Netref<T>, Error>) {
        if self.state.kept.set(result).is_ok() {
            self.state.changed.notify_waiters();
        }
    }
}

impl<T: ?Sized + RemoteTrait> Promise<T> {
    /// For generated code: what was promised.
    ///
    /// # Errors
    ///
    /// The call that promised it failed.
    pub async fn get(&self) -> Result<Netref<T>, Error> {
        until(&self.state.changed, || self.state.kept.get().cloned()).await
    }

    pub(crate) fn upcast<U: ?Sized + RemoteTrait>(&self) -> Promise<U>
    where
        T: Extends<U>,
    {
        let (from, to) = (self.clone(), Promise::new());
        let kept = to.clone();
        runtime::handle().spawn(async move { kept.keep(from.get().await.map(|netref| netref.upcast())) });
        to
    }
}
