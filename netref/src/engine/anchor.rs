//! What calls and proxies have of a connection: the [`Conduit`] that they go through, which keeps it in use.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Encoder, Error, ErrorKind, Value, decode};
use farref_framing::Nanos;

use crate::chain;
use crate::clock;
use crate::context;
use crate::engine::core::Core;
use crate::engine::together::put_off;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{
    BodyRef, CallOptions, CancelReason, Factory, Imported, Op, PeerShape, Protocol, Reply, Request, Target,
};
use crate::references;
use crate::remote::{Blocked, Conduit, EngineHandles, Import, Outcome, Remote, TellShape};
use crate::signal::Wishes;
use crate::trace;
use crate::until::until;
use crate::waiter::{Callback, Waiter};

/// Makes the proxies of one connection.
pub(crate) struct Proxies<'a, P: Protocol<EngineHandles>>(pub(crate) &'a Arc<Core<P>>);

impl<P: Protocol<EngineHandles>> Factory<EngineHandles> for Proxies<'_, P> {
    fn proxy(&self, imported: Imported) -> Arc<Import> {
        let origin = self.0.origins.of(imported, || self.0.anchor());
        Arc::new(Import::new(origin, imported))
    }

    fn exactly(&self, _told: Nanos) -> Nanos {
        clock::now()
    }
}

/// What keeps a connection in use: handles, calls and proxies hold it, the driver does not.
pub(crate) struct Anchor<P: Protocol<EngineHandles>> {
    pub(crate) core: Arc<Core<P>>,
}

impl<P: Protocol<EngineHandles>> Drop for Anchor<P> {
    fn drop(&mut self) {
        self.core.anchors.fetch_sub(1, Ordering::Release);
        self.core.signal.wish(Wishes::LOOK);
    }
}

impl<P: Protocol<EngineHandles>> Conduit for Anchor<P> {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.commit(target, op, options, encoder, &mut None)
    }

    fn begin_waiting(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
        waker: &Waker,
    ) -> Result<(u64, bool), Error> {
        let mut waiter = Some(Waiter::Task(waker.clone()));
        let number = self.commit(target, op, options, encoder, &mut waiter)?;
        let is_kept = waiter.is_none();
        if !is_kept || !self.core.lead.is_looked_for(number) {
            return Ok((number, is_kept));
        }
        let gives_way = self.core.lead.gives_way();
        if gives_way {
            put_off(waker);
        }
        // If it does not, it asks at once, and looks.
        Ok((number, gives_way))
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        place::check()?;
        let refs = references::outgoing(encoder.references(), self);
        options.deadline = self.core.deadline(options.deadline);
        options.blocking = true;
        options.no_pipeline = true;
        let chain = chain::next();
        options.chain = Some(chain);
        options.trace = options.trace.or_else(trace::on_wire);
        place::sleep(|| {
            // Before the call is sent: a callback may be here before this thread sleeps.
            self.core.waiting_in(Some(chain), |thread| {
                let leader = self.core.lead();
                let number = self
                    .core
                    .commit(target, op, &options, body(encoder), refs, &mut None)?;
                let outcome = self.core.wait_watched(number, thread, None, leader);
                Ok(outcome.unwrap_or_else(|| Outcome::Error(ErrorKind::Deadline.into())))
            })
        })?
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.core.look_for(call, context.waker()) {
            return Poll::Ready(outcome);
        }
        self.core
            .poll_outcome(call, &mut || Waiter::Task(context.waker().clone()))
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        let chain = context::chain();
        place::sleep(|| {
            self.core.waiting_in(chain, |thread| {
                self.core.wait_watched(call, thread, patience, None)
            })
        })
    }

    fn is_ready(&self, call: u64) -> bool {
        lock(&self.core.state).protocol.is_ready(call)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        self.core.drop_call(call, reason);
    }

    fn release(&self, import: u64, generation: u32) {
        let core = &self.core;
        core.releases.push((import, generation));
        if core.releases.asks(&core.role) {
            core.signal.wish(Wishes::RELEASES);
        }
    }

    fn answer_value(&self, answer: u64, failure: Option<Error>, shape: u32, encoder: &mut Encoder) {
        let refs = references::outgoing(encoder.references(), self);
        let reply = Reply::Value {
            failure: failure.map(P::failure),
            shape,
            body: body(encoder),
            refs,
        };
        self.core.update(|protocol| protocol.answer(answer, reply));
    }

    fn answer_plain(&self, answer: u64, value: Value) -> Result<(), Value> {
        if !self.core.is_by_name {
            return Err(value);
        }
        self.core.update(|protocol| protocol.answer_plain(answer, value))
    }

    fn answer_error(&self, answer: u64, error: Error, started: bool) {
        let error = P::failure(error);
        let reply = Reply::Error { error, started };
        self.core.update(|protocol| protocol.answer(answer, reply));
    }

    fn answer_outcome(&self, answer: u64, outcome: Outcome) {
        match outcome {
            Outcome::Value {
                failed,
                shape,
                body,
                refs,
                writer: _,
            } => {
                let references = references::received(refs);
                let refs = references::passed_on(&references, self);
                let failure = failed.then(|| {
                    let told = Error::new(ErrorKind::Remote, "the method returned an error");
                    if !self.core.is_by_name {
                        return told;
                    }
                    // Calls by name are answered by an error value (PROTOCOL.md § 13.1).
                    P::failure(decode(&body, &references, &references::limits()).unwrap_or(told))
                });
                let pieces = [body];
                let reply = Reply::Value {
                    failure,
                    shape,
                    body: BodyRef::Rope(&pieces),
                    refs,
                };
                self.core.update(|protocol| protocol.answer(answer, reply));
            }
            Outcome::Error(error) => self.answer_error(answer, error, true),
        }
    }

    fn forward(self: Arc<Self>, target: Target, mut options: CallOptions, invocation: Invocation) {
        let Invocation {
            conduit: back,
            answer,
            request,
            references,
            ..
        } = invocation;
        let Request { op, body, .. } = *request;
        let refs = references::passed_on(&references, &*self);
        drop(references);
        options.no_pipeline = false;
        if let Op::Method { shape, .. } = op {
            self.passes(shape, &back);
        }
        let pieces: [Bytes; 1] = [body.unwrap_or_default()];
        match self
            .core
            .commit(target, &op, &options, BodyRef::Rope(&pieces), refs, &mut None)
        {
            Ok(number) => {
                back.drop_on_cancel(answer, Some((Arc::clone(&self) as Arc<dyn Conduit>, number)));
                self.pass_back(number, back, answer);
            }
            Err(error) => back.answer_error(answer, error, false),
        }
    }

    fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        self.core.dispatch.wake_on_cancel(answer, blocked);
    }

    fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        self.core.dispatch.drop_on_cancel(answer, passed_on);
    }

    fn is_cancelled(&self, answer: u64) -> bool {
        self.core.dispatch.is_cancelled(answer)
    }

    fn shape(&self, fingerprint: u32) -> PeerShape {
        self.core.update(|protocol| protocol.shape(fingerprint))
    }

    fn when_shape(&self, fingerprint: u32, tell: TellShape) {
        self.core.when_shape(fingerprint, tell);
    }

    fn passes(&self, fingerprint: u32, source: &Arc<dyn Conduit>) {
        self.core.dispatch.passes(fingerprint, source);
    }

    fn is_home_of(&self, remote: &Arc<dyn Remote>) -> bool {
        Arc::clone(remote).import_over(self).is_some()
    }

    fn is_by_name(&self) -> bool {
        self.core.is_by_name
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.core.peer
    }

    fn lost(&self) -> crate::call::BoxFuture<'static, Error> {
        // Of the core alone: who waits does not keep the connection in use.
        let core = Arc::clone(&self.core);
        Box::pin(async move { until(&core.changed, || lock(&core.state).over.clone()).await })
    }
}

impl<P: Protocol<EngineHandles>> Anchor<P> {
    /// Commits a call that is not waited for on this thread.
    fn commit(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
        waiter: &mut Option<Waiter>,
    ) -> Result<u64, Error> {
        let refs = references::outgoing(encoder.references(), self);
        options.deadline = self.core.deadline(options.deadline);
        options.chain = options.chain.or_else(|| context::chain().map(chain::nested));
        options.trace = options.trace.or_else(trace::on_wire);
        self.core.lead.is_not_next();
        self.core
            .commit(target, op, &options, body(encoder), refs, waiter)
    }

    /// Answers a call with the outcome of the call `number`, as soon as that is there.
    fn pass_back(self: Arc<Self>, number: u64, back: Arc<dyn Conduit>, answer: u64) {
        let mut waiter = || {
            let (this, back) = (Arc::clone(&self), Arc::clone(&back));
            Waiter::Callback(Callback(Box::new(move || this.pass_back(number, back, answer))))
        };
        if let Poll::Ready(outcome) = self.core.poll_outcome(number, &mut waiter) {
            back.drop_on_cancel(answer, None);
            if let Outcome::Value { shape, .. } = outcome {
                back.passes(shape, &(Arc::clone(&self) as Arc<dyn Conduit>));
            }
            back.answer_outcome(answer, outcome);
        }
    }
}

/// What was encoded, as the protocol takes it.
fn body(encoder: &Encoder) -> BodyRef<'_> {
    match encoder.body() {
        farref_boxing::EncodedBody::Slice(slice) => BodyRef::Slice(slice),
        farref_boxing::EncodedBody::Rope(rope) => BodyRef::Rope(rope),
    }
}
