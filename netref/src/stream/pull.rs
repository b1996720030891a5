//! The side that pulls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Error, Result};

use super::{Batch, Body, End, Form, Source};
use crate::call::Call;
use crate::netref::Netref;

/// So many pulls are under way at once: the answer to one is on the wire while another is made and a third is read.
const PULLS: u64 = 4;

/// How many bytes may be on their way to a reader that does not say otherwise.
pub(super) const CREDIT: u64 = 1 << 20;

/// What is pulled at a time by default, and so what is read at a time where the stream is made.
pub(super) const SHARE: u64 = share(CREDIT);

/// Bytes of one pull: a little less than its part, so that with what is around them those of the default fit what may be
/// sent without asking (PROTOCOL.md § 3.4), and no answer waits for a grant.
const fn share(credit: u64) -> u64 {
    let part = credit / PULLS;
    let share = part - part / 64;
    if share == 0 { 1 } else { share }
}

/// Pulls a stream from wherever it is.
pub(super) struct Puller {
    source: Netref<dyn Source>,
    /// What it is pulled as, once it is.
    form: Option<Form>,
    calls: VecDeque<Call<Result<Batch>>>,
    /// Bytes of credit of one pull.
    share: u64,
    /// It was pulled at all.
    has_begun: bool,
    ended: bool,
    /// The end was received, and whoever makes the stream does not know that it was read.
    unacknowledged: bool,
}

/// What was pulled, and what the stream failed with behind it.
pub(super) type Pulled = (Body, Option<Error>);

impl Puller {
    pub(super) fn new(source: Netref<dyn Source>) -> Self {
        let mut puller = Self {
            source,
            form: None,
            calls: VecDeque::new(),
            share: 0,
            has_begun: false,
            ended: false,
            unacknowledged: false,
        };
        puller.set_credit(CREDIT);
        puller
    }

    /// Allows so many bytes to be on their way.
    pub(super) fn set_credit(&mut self, credit: u64) {
        self.share = share(credit);
    }

    /// Begins anew with another form, as pulls with this one have failed, which take nothing.
    pub(super) fn pull_as(&mut self, form: Form) {
        self.calls.clear();
        (self.form, self.ended) = (Some(form), false);
    }

    /// Asks what the items look like.
    pub(super) fn ask_shape(&self) -> Call<Result<Bytes>> {
        self.source.call().shape().start()
    }

    /// The source, to be handed on, if nothing was taken from it.
    pub(super) fn untouched(&self) -> Option<&Netref<dyn Source>> {
        (!self.has_begun).then_some(&self.source)
    }

    /// The next batch; `None` after the end. It is pulled as what `as_what` says, which is asked once.
    pub(super) fn poll(
        &mut self,
        as_what: impl FnOnce() -> Form,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Pulled>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let form = *self.form.get_or_insert_with(as_what);
        self.has_begun = true;
        while (self.calls.len() as u64) < PULLS {
            // A stream may be silent for as long as it likes.
            let pull = self.source.call().pull(form, self.share);
            self.calls.push_back(pull.timeout(Duration::MAX).start());
        }
        let Some(first) = self.calls.front_mut() else {
            return Poll::Ready(None);
        };
        let pulled = ready!(Pin::new(first).poll(context));
        self.calls.pop_front();
        Poll::Ready(Some(match pulled {
            Ok(Batch { body, end: None }) => Ok((body, None)),
            Ok(Batch { body, end: Some(end) }) => {
                self.ended = true;
                self.unacknowledged = true;
                match end {
                    End::Done => Ok((body, None)),
                    End::Failed(error) => Ok((body, Some(error))),
                }
            }
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }))
    }

    /// Whether the end was received.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Everything up to the end was read.
    pub(super) fn acknowledge(&mut self) {
        if std::mem::take(&mut self.unacknowledged) {
            self.source.call().received().detach();
        }
    }
}
