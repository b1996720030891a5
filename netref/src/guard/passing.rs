//! The way back of a call that was let through: its outcome is told to the guard, and what comes out is guarded.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use farref_boxing::{Encoder, Error, ErrorKind};

use super::Access;
use super::membrane::Membrane;
use crate::call::BoxFuture;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::panics;
use crate::peer::Peer;
use crate::protocol::{CallOptions, CancelReason, Op, PeerShape, Target};
use crate::remote::{Blocked, Conduit, Outcome, Remote, TellShape};

/// Answers one call.
pub(super) struct Passing {
    back: Arc<dyn Conduit>,
    membrane: Arc<Membrane>,
    /// The guarded object that let it through.
    guarded: usize,
    access: Access,
    began: Instant,
    told: Mutex<bool>,
}

impl Passing {
    pub(super) fn back_from(
        back: Arc<dyn Conduit>,
        membrane: Arc<Membrane>,
        guarded: usize,
        access: Access,
    ) -> Arc<dyn Conduit> {
        Arc::new(Self {
            back,
            membrane,
            guarded,
            access,
            began: Instant::now(),
            told: Mutex::new(false),
        })
    }

    /// Tells the guard, once.
    fn tell(&self, outcome: Result<(), &Error>) {
        if !std::mem::replace(&mut *lock(&self.told), true) {
            let took = self.began.elapsed();
            let ended = || self.membrane.guard.ended(&self.access, outcome, took);
            if let Err(error) = panics::guard(ended) {
                tracing::error!(call = %self.access, %error, "a guard panicked when a call was over");
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.tell(Err(&ErrorKind::Cancelled.into()));
    }
}

impl Conduit for Passing {
    fn answer_value(&self, answer: u64, failure: Option<Error>, shape: u32, encoder: &mut Encoder) {
        self.tell(failure.as_ref().map_or(Ok(()), Err));
        for reference in encoder.references() {
            self.membrane
                .cover_reference(reference, &self.access, &*self.back);
        }
        self.back.answer_value(answer, failure, shape, encoder);
    }

    fn answer_error(&self, answer: u64, error: Error, started: bool) {
        self.tell(Err(&error));
        self.back.answer_error(answer, error, started);
    }

    fn answer_outcome(&self, answer: u64, mut outcome: Outcome) {
        match &mut outcome {
            Outcome::Value { failed, refs, .. } => {
                let failure = failed.then(|| Error::new(ErrorKind::Remote, "the method returned an error"));
                self.tell(failure.as_ref().map_or(Ok(()), Err));
                for received in refs {
                    self.membrane.cover_received(received, &self.access, &*self.back);
                }
            }
            Outcome::Error(error) => self.tell(Err(error)),
        }
        self.back.answer_outcome(answer, outcome);
    }

    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.back.begin(target, op, options, encoder)
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        self.back.block(target, op, options, encoder)
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        self.back.poll_outcome(call, context)
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        self.back.wait(call, patience)
    }

    fn is_ready(&self, call: u64) -> bool {
        self.back.is_ready(call)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        self.back.drop_call(call, reason);
    }

    fn release(&self, import: u64, generation: u32) {
        self.back.release(import, generation);
    }

    fn forward(self: Arc<Self>, target: Target, options: CallOptions, invocation: Invocation) {
        Arc::clone(&self.back).forward(target, options, invocation);
    }

    fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        self.back.wake_on_cancel(answer, blocked);
    }

    fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        self.back.drop_on_cancel(answer, passed_on);
    }

    fn is_cancelled(&self, answer: u64) -> bool {
        self.back.is_cancelled(answer)
    }

    fn shape(&self, fingerprint: u32) -> PeerShape {
        self.back.shape(fingerprint)
    }

    fn when_shape(&self, fingerprint: u32, tell: TellShape) {
        self.back.when_shape(fingerprint, tell);
    }

    fn passes(&self, fingerprint: u32, source: &Arc<dyn Conduit>) {
        self.back.passes(fingerprint, source);
    }

    fn is_home_of(&self, remote: &Arc<dyn Remote>) -> bool {
        self.back.is_home_of(remote)
    }

    fn was_admitted_by(&self, guarded: usize) -> bool {
        self.guarded == guarded || self.back.was_admitted_by(guarded)
    }

    fn is_by_name(&self) -> bool {
        self.back.is_by_name()
    }

    fn peer(&self) -> &Arc<Peer> {
        self.back.peer()
    }

    fn caller(&self) -> &Arc<Peer> {
        self.back.caller()
    }

    fn lost(&self) -> BoxFuture<'static, Error> {
        self.back.lost()
    }
}
