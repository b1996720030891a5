//! The side that is pulled.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use farref_boxing::{Certainty, Error, ErrorKind, Result};
use tokio::sync::Notify;

use super::{Batch, End, Form, Source};
use crate::lock::lock;
use crate::netref::Netref;
use crate::until::until;

/// What makes the batches of a stream.
pub(super) trait Produce: Send {
    fn form(&self) -> Form;

    /// Describes the items, as [`Source::shape`] does.
    fn description(&self) -> fn() -> Bytes;

    /// What is there, in about `credit` bytes: at least one item, or the end.
    fn poll_batch(&mut self, context: &mut Context<'_>, credit: usize) -> Poll<Batch>;

    /// Who wants to know when the end was received.
    fn ending(&self) -> Option<Arc<Ending>>;
}

/// A stream as it is handed out.
pub(super) struct Supply {
    form: Form,
    description: fn() -> Bytes,
    /// Its lock is fair: pulls take turns in the order in which they came. Nothing once the end was given.
    producer: tokio::sync::Mutex<Option<Box<dyn Produce>>>,
    ending: Option<Arc<Ending>>,
}

impl Supply {
    pub(super) fn of(producer: Box<dyn Produce>) -> Netref<dyn Source> {
        Netref::of(Self {
            form: producer.form(),
            description: producer.description(),
            ending: producer.ending(),
            producer: tokio::sync::Mutex::new(Some(producer)),
        })
    }
}

#[farref_macros::remote]
impl Source for Supply {
    async fn pull(&self, form: Form, credit: u64) -> Result<Batch> {
        if !self.form.is(form) {
            return Err(self.form.mismatch(form));
        }
        let credit = usize::try_from(credit).unwrap_or(usize::MAX).clamp(1, MOST);
        let mut producer = self.producer.lock().await;
        let Some(producing) = &mut *producer else {
            return Ok(Batch {
                body: form.nothing(),
                end: Some(End::Done),
            });
        };
        let batch = std::future::poll_fn(|context| producing.poll_batch(context, credit)).await;
        if batch.end.is_some() {
            *producer = None;
        }
        Ok(batch)
    }

    async fn received(&self) -> Result<()> {
        if let Some(ending) = &self.ending {
            ending.set(Ended::Received);
        }
        Ok(())
    }

    async fn shape(&self) -> Result<Bytes> {
        Ok((self.description)())
    }
}

/// Most bytes of a batch, whatever the peer asks for.
const MOST: usize = 4 << 20;

/// Nobody will pull any more.
impl Drop for Supply {
    fn drop(&mut self) {
        if let Some(ending) = &self.ending {
            ending.set(Ended::Lost);
        }
    }
}

/// Whether the end of a stream was received.
#[derive(Default)]
pub(super) struct Ending {
    ended: Mutex<Ended>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ended {
    #[default]
    NotYet,
    /// Whoever reads has got all, and the end.
    Received,
    /// Whoever reads is gone.
    Lost,
}

impl Ending {
    /// The first end counts.
    pub(super) fn set(&self, ended: Ended) {
        {
            let mut before = lock(&self.ended);
            if *before != Ended::NotYet {
                return;
            }
            *before = ended;
        }
        self.changed.notify_waiters();
    }

    /// Waits for the end to be received.
    pub(super) async fn received(&self) -> Result<()> {
        let ended = until(&self.changed, || match self.get() {
            Ended::NotYet => None,
            Ended::Received => Some(Ok(())),
            Ended::Lost => Some(Err(reader_gone())),
        });
        ended.await
    }

    pub(super) fn get(&self) -> Ended {
        *lock(&self.ended)
    }
}

pub(super) fn reader_gone() -> Error {
    let kind = ErrorKind::Disconnected(Certainty::Unknown);
    Error::new(kind, "whoever reads the stream has gone before its end")
}
