//! What the netrefs of a root that is found again see of it: their calls are made, waited for and given up here.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use farref_boxing::{Certainty, Encoder, Error, ErrorKind};

use super::Calls;
use super::table::{Entry, Place, Request, Stage};
use crate::chain;
use crate::context;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{CallOptions, CancelReason, Op, Target};
use crate::remote::{Blocked, Conduit, Outcome};
use crate::runtime;
use crate::until::until;

impl Conduit for Calls {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.start(target, self.request(op, options, encoder))
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        options.blocking = true;
        options.no_pipeline = true;
        let chain = chain::next();
        options.chain = Some(chain);
        place::wait_in(Some(chain), |thread| {
            let call = self.begin(target, op, options, encoder)?;
            let outcome = self.wait_on(call, thread, None);
            Ok(outcome.unwrap_or_else(|| Outcome::Error(ErrorKind::Deadline.into())))
        })?
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        let (before, sent) = {
            let mut table = lock(&self.table);
            let Some(entry) = table.calls.get_mut(&call).filter(|entry| !entry.is_unwanted) else {
                return Poll::Ready(Outcome::Error(ErrorKind::Cancelled.into()));
            };
            let before = entry.waker.replace(context.waker().clone());
            let sent = match &entry.place {
                Place::Sent(sent) => Some(sent.clone()),
                Place::Queued | Place::Busy(_) | Place::Over(_) => None,
            };
            if let Some(sent) = &sent {
                entry.place = Place::Busy(Some(sent.clone()));
            }
            (before, sent)
        };
        drop(before);
        if let Some(sent) = sent {
            let outcome = sent.conduit.poll_outcome(sent.number, context);
            drop(self.looked(call, sent, outcome));
        }
        let taken = {
            let mut table = lock(&self.table);
            let is_over = matches!(
                table.calls.get(&call),
                Some(Entry {
                    place: Place::Over(_),
                    ..
                })
            );
            if is_over { table.calls.remove(&call) } else { None }
        };
        match taken {
            Some(Entry {
                place: Place::Over(outcome),
                ..
            }) => Poll::Ready(outcome),
            _ => Poll::Pending,
        }
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        place::wait_in(context::chain(), |thread| self.wait_on(call, thread, patience))
    }

    fn is_ready(&self, call: u64) -> bool {
        let sent = match lock(&self.table).calls.get(&call).map(|entry| &entry.place) {
            Some(Place::Sent(sent) | Place::Busy(Some(sent))) => sent.clone(),
            Some(Place::Queued | Place::Busy(None)) => return false,
            Some(Place::Over(_)) | None => return true,
        };
        sent.conduit.is_ready(sent.number)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        let (dropped, waker) = {
            let mut table = lock(&self.table);
            let is_depended_on = table.is_depended_on(call);
            let waker = table.calls.get_mut(&call).and_then(|entry| {
                entry.is_unwanted = true;
                entry.waker.take()
            });
            let dropped = (!is_depended_on).then(|| table.calls.remove(&call)).flatten();
            (dropped, waker)
        };
        // Somebody else may wait for it: a thread, or the task that passes it on.
        waker.into_iter().for_each(Waker::wake);
        if let Some(Entry {
            place: Place::Sent(sent),
            ..
        }) = &dropped
        {
            sent.conduit.drop_call(sent.number, reason);
        }
        let was_on_another = matches!(
            &dropped,
            Some(Entry {
                target: Target::Answer { .. },
                ..
            })
        );
        drop(dropped);
        if was_on_another {
            self.drop_unwanted();
        }
    }

    fn forward(self: Arc<Self>, target: Target, options: CallOptions, invocation: Invocation) {
        let Invocation {
            conduit: back,
            answer,
            request,
            references,
            ..
        } = invocation;
        let request = Box::new(Request {
            op: request.op,
            options: CallOptions {
                no_pipeline: false,
                ..options
            },
            encoder: Encoder::of(request.body.unwrap_or_default()),
            references,
            back: Some(Arc::clone(&back)),
        });
        match self.start(target, request) {
            Ok(call) => {
                back.drop_on_cancel(answer, Some((Arc::clone(&self) as Arc<dyn Conduit>, call)));
                runtime::handle().spawn(async move {
                    let outcome = std::future::poll_fn(|context| self.poll_outcome(call, context)).await;
                    back.drop_on_cancel(answer, None);
                    back.answer_outcome(answer, outcome);
                });
            }
            Err(error) => back.answer_error(answer, error, false),
        }
    }

    // Nothing is held, and nobody calls, by way of this: each connection has a conduit of its own for that.

    fn release(&self, _import: u64, _generation: u32) {}

    fn answer_value(&self, _answer: u64, _failure: Option<Error>, _shape: u32, _encoder: &mut Encoder) {}

    fn answer_error(&self, _answer: u64, _error: Error, _started: bool) {}

    fn answer_outcome(&self, _answer: u64, _outcome: Outcome) {}

    fn wake_on_cancel(&self, _answer: u64, _blocked: Option<Blocked>) {}

    fn drop_on_cancel(&self, _answer: u64, _passed_on: Option<(Arc<dyn Conduit>, u64)>) {}

    fn is_cancelled(&self, _answer: u64) -> bool {
        false
    }

    fn is_by_name(&self) -> bool {
        self.is_by_name
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    fn lost(&self) -> crate::call::BoxFuture<'static, Error> {
        let (this, changes) = (Weak::clone(&self.this), Arc::clone(&self.changed));
        let look = move || {
            let Some(calls) = this.upgrade() else {
                let kind = ErrorKind::Disconnected(Certainty::NotSent);
                return Some(Error::new(kind, "nobody uses the connection any more"));
            };
            match &lock(&calls.table).stage {
                Stage::Over(error) => Some(error.clone()),
                Stage::Through | Stage::Without => None,
            }
        };
        Box::pin(async move { until(&changes, look).await })
    }
}
