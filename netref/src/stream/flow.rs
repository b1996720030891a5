//! What streams of items and of bytes have in common: where they are, being read, and being given away.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use farref_boxing::{Error, ErrorKind, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pull::Puller;
use super::supply::{Ended, Ending, Produce, Supply};
use super::{Batch, Body, End, Form, Source};
use crate::lock::lock;
use crate::netref::Netref;

/// What a stream is of, and how batches of it are made and taken apart.
pub(super) trait Unit: Sized + 'static {
    type Item: Send + 'static;
    /// What was pulled and not read yet.
    type Incoming: Default + Send + 'static;
    /// What is to be pulled next.
    type Outgoing: Default + Send + 'static;

    const FORM: Form;

    /// Takes a batch in, once everything before it was read.
    fn receive(incoming: &mut Self::Incoming, body: Body) -> Result<()>;

    /// The next item of the batch.
    fn next(incoming: &mut Self::Incoming) -> Option<Result<Self::Item>>;

    /// Adds an item to the batch.
    fn push(outgoing: &mut Self::Outgoing, item: Self::Item) -> Result<()>;

    fn is_empty(outgoing: &Self::Outgoing) -> bool;

    /// Whether the batch has `credit` bytes, or more items than are worth a batch.
    fn is_full(outgoing: &Self::Outgoing, credit: usize) -> bool;

    fn take(outgoing: &mut Self::Outgoing) -> Body;
}

/// Items as they are made in this process.
pub(super) type Boxed<T> = Pin<Box<dyn futures_core::Stream<Item = Result<T>> + Send>>;

/// A stream, wherever it is made.
pub(super) struct Flow<U: Unit> {
    /// Serialising gives it away, and borrows it only.
    place: Mutex<Place<U>>,
}

enum Place<U: Unit> {
    /// It is made in this process.
    Here(Boxed<U::Item>, Reader),
    /// It is pulled.
    There(There<U>),
    /// It was given away.
    Gone,
    /// It was read to its end.
    Over,
}

struct There<U: Unit> {
    puller: Puller,
    incoming: U::Incoming,
    /// What the stream fails with behind that.
    failure: Option<Error>,
}

/// Tells whoever makes the stream that its reader is gone.
struct Reader(Option<Arc<Ending>>);

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(ending) = &self.0 {
            ending.set(Ended::Lost);
        }
    }
}

impl<U: Unit> Flow<U> {
    pub(super) fn here(items: Boxed<U::Item>, ending: Option<Arc<Ending>>) -> Self {
        Self::at(Place::Here(items, Reader(ending)))
    }

    pub(super) fn there(source: Netref<dyn Source>) -> Self {
        Self::at(Place::There(There {
            puller: Puller::new(source, U::FORM),
            incoming: U::Incoming::default(),
            failure: None,
        }))
    }

    const fn at(place: Place<U>) -> Self {
        Self {
            place: Mutex::new(place),
        }
    }

    pub(super) fn set_credit(&mut self, bytes: u64) {
        if let Place::There(there) = self.get_mut() {
            there.puller.set_credit(bytes);
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<U::Item>>> {
        let place = self.get_mut();
        let item = match place {
            Place::Here(items, _) => ready!(items.as_mut().poll_next(context)),
            Place::There(there) => ready!(there.poll(context)),
            Place::Gone => Some(Err(is_gone())),
            Place::Over => None,
        };
        if !matches!(item, Some(Ok(_))) {
            if let Place::Here(_, Reader(Some(ending))) = place {
                ending.set(Ended::Received);
            }
            *place = Place::Over;
        }
        Poll::Ready(item)
    }

    fn get_mut(&mut self) -> &mut Place<U> {
        self.place.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the stream away, as something that can be pulled.
    pub(super) fn give_away(&self) -> Result<Netref<dyn Source>> {
        match std::mem::replace(&mut *lock(&self.place), Place::Gone) {
            Place::Here(items, mut reader) => Ok(Making::<U>::supply(items, reader.0.take())),
            Place::There(there) => Ok(match there.puller.untouched() {
                Some(source) => source.clone(),
                // What was taken from it already goes along.
                None => Making::<U>::supply(Box::pin(Rest(Self::at(Place::There(there)))), None),
            }),
            Place::Over => {
                let nothing = Rest::<U>(Self::at(Place::Over));
                Ok(Making::<U>::supply(Box::pin(nothing), None))
            }
            Place::Gone => Err(is_gone()),
        }
    }
}

/// A stream is given away once.
fn is_gone() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "the stream was given away: it is read where it went",
    )
}

impl<U: Unit> There<U> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<U::Item>>> {
        loop {
            if let Some(item) = U::next(&mut self.incoming) {
                return Poll::Ready(Some(item));
            }
            if let Some(error) = self.failure.take() {
                self.puller.acknowledge();
                return Poll::Ready(Some(Err(error)));
            }
            let received = match ready!(self.puller.poll(context)) {
                None => {
                    self.puller.acknowledge();
                    return Poll::Ready(None);
                }
                Some(Ok((body, failure))) => {
                    self.failure = failure;
                    U::receive(&mut self.incoming, body)
                }
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = received {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// What is left of a stream, as one that is made here.
struct Rest<U: Unit>(Flow<U>);

/// Nothing in it is pinned: items are moved out.
impl<U: Unit> Unpin for Rest<U> {}

impl<U: Unit> futures_core::Stream for Rest<U> {
    type Item = Result<U::Item>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<U::Item>>> {
        self.get_mut().0.poll(context)
    }
}

/// A stream that is made here and pulled by others.
struct Making<U: Unit> {
    items: Boxed<U::Item>,
    outgoing: U::Outgoing,
    ending: Option<Arc<Ending>>,
}

impl<U: Unit> Making<U> {
    fn supply(items: Boxed<U::Item>, ending: Option<Arc<Ending>>) -> Netref<dyn Source> {
        Supply::of(Box::new(Self {
            items,
            outgoing: U::Outgoing::default(),
            ending,
        }))
    }
}

impl<U: Unit> Produce for Making<U> {
    fn form(&self) -> Form {
        U::FORM
    }

    fn poll_batch(&mut self, context: &mut Context<'_>, credit: usize) -> Poll<Batch> {
        let end = loop {
            if U::is_full(&self.outgoing, credit) {
                break None;
            }
            match self.items.as_mut().poll_next(context) {
                Poll::Pending if U::is_empty(&self.outgoing) => return Poll::Pending,
                Poll::Pending => break None,
                Poll::Ready(None) => break Some(End::Done),
                Poll::Ready(Some(Err(error))) => break Some(End::Failed(error)),
                Poll::Ready(Some(Ok(item))) => {
                    if let Err(error) = U::push(&mut self.outgoing, item) {
                        break Some(End::Failed(error));
                    }
                }
            }
        };
        let body = U::take(&mut self.outgoing);
        Poll::Ready(Batch { body, end })
    }

    fn ending(&self) -> Option<Arc<Ending>> {
        self.ending.clone()
    }
}

impl<U: Unit> Serialize for Flow<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let source = self.give_away().map_err(S::Error::custom)?;
        source.serialize(serializer)
    }
}

impl<'de, U: Unit> Deserialize<'de> for Flow<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let source = Netref::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self::there(source))
    }
}

impl<U: Unit> fmt::Display for Flow<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*lock(&self.place) {
            Place::Here(..) => "made here",
            Place::There(_) => "pulled from elsewhere",
            Place::Gone => "given away",
            Place::Over => "over",
        })
    }
}
