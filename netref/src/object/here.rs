//! Calls by name of objects of this process: through the same dispatch as those of a peer.

use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{DeserializeAs, Encoder, Error, ErrorKind, Reference};
use farref_framing::PeerEvidence;
use serde::Serialize;

use crate::call::{BoxFuture, Call};
use crate::encoders;
use crate::hosted::Exported;
use crate::invocation::{Dispatched, Invocation};
use crate::lock::lock;
use crate::peer::Peer;
use crate::protocol::{CallOptions, CancelReason, Op, Target};
use crate::remote::{Blocked, Conduit, Outcome};
use crate::result::{self, MethodResult};
use crate::runtime;

/// Asks an object of this process.
pub(super) fn call<A, R>(object: &Arc<dyn Exported>, op: Op, arguments: &impl Serialize) -> Call<R>
where
    R: MethodResult,
    A: for<'de> DeserializeAs<'de, R::Value>,
{
    let object = Arc::clone(object);
    let mut encoder = encoders::take();
    let encoded = encoder.encode(arguments);
    let desk = Arc::new(Desk::default());
    let conduit: Arc<dyn Conduit> = Arc::clone(&desk) as _;
    let invocation = encoded.map(|()| Invocation::here(conduit, 0, op, CallOptions::default(), &mut encoder));
    encoders::put(encoder);
    Call::local(async move {
        let answer = async {
            match object.dispatch(invocation?) {
                Dispatched::Async(future, _) => future.await,
                Dispatched::Blocking(job, _) => runtime::spawn_blocking(job)
                    .await
                    .map_err(crate::call::join_error)?,
                Dispatched::Unread(..) | Dispatched::Done => {}
            }
            desk.take()
        };
        let read = |answer: Answer| match answer {
            Answer::Value {
                failed,
                body,
                references,
            } => result::decode_result::<A, R>(failed, &body, &references, None, None),
            Answer::Error(error) => Err(error),
        };
        answer.await.and_then(read).unwrap_or_else(R::from_error)
    })
}

/// Where one call is answered.
#[derive(Default)]
struct Desk(Mutex<Option<Answer>>);

enum Answer {
    Value {
        failed: bool,
        body: Bytes,
        references: Vec<Reference>,
    },
    Error(Error),
}

impl Desk {
    fn take(&self) -> Result<Answer, Error> {
        let answer = lock(&self.0).take();
        answer.ok_or_else(|| Error::new(ErrorKind::Cancelled, "the object gave no answer"))
    }

    /// Keeps the first answer.
    fn put(&self, answer: Answer) {
        lock(&self.0).get_or_insert(answer);
    }
}

/// It is answered to, and nothing is called through it.
impl Conduit for Desk {
    fn answer_value(&self, _answer: u64, failure: Option<Error>, _shape: u32, encoder: &mut Encoder) {
        self.put(Answer::Value {
            failed: failure.is_some(),
            body: encoder.body().to_bytes(),
            references: encoder.take_references().collect(),
        });
    }

    fn answer_error(&self, _answer: u64, error: Error, _started: bool) {
        self.put(Answer::Error(error));
    }

    fn answer_outcome(&self, _answer: u64, _outcome: Outcome) {
        self.put(Answer::Error(nowhere()));
    }

    fn begin(&self, _: Target, _: &Op, _: CallOptions, _: &mut Encoder) -> Result<u64, Error> {
        Err(nowhere())
    }

    fn block(&self, _: Target, _: &Op, _: CallOptions, _: &mut Encoder) -> Result<Outcome, Error> {
        Err(nowhere())
    }

    fn poll_outcome(&self, _call: u64, _context: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(Outcome::Error(nowhere()))
    }

    fn wait(&self, _call: u64, _patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        Err(nowhere())
    }

    fn is_ready(&self, _call: u64) -> bool {
        true
    }

    fn drop_call(&self, _call: u64, _reason: CancelReason) {}

    fn release(&self, _import: u64, _generation: u32) {}

    fn forward(self: Arc<Self>, _target: Target, _options: CallOptions, invocation: Invocation) {
        invocation.fail(nowhere(), false);
    }

    fn wake_on_cancel(&self, _answer: u64, _blocked: Option<Blocked>) {}

    fn drop_on_cancel(&self, _answer: u64, _passed_on: Option<(Arc<dyn Conduit>, u64)>) {}

    fn is_cancelled(&self, _answer: u64) -> bool {
        false
    }

    fn peer(&self) -> &Arc<Peer> {
        static HERE: OnceLock<Arc<Peer>> = OnceLock::new();
        HERE.get_or_init(|| Arc::new(Peer::new("this process", None, PeerEvidence::None)))
    }

    fn lost(&self) -> BoxFuture<'static, Error> {
        Box::pin(std::future::ready(nowhere()))
    }
}

fn nowhere() -> Error {
    Error::new(ErrorKind::Misuse, "this leads to no other process")
}
