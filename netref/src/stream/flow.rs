//! What streams of items and of bytes have in common: where they are, being read, and being given away.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind, Result, Shape};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pull::Puller;
use super::supply::{Ended, Ending, Produce, Supply};
use super::{Batch, Body, End, Form, Source};
use crate::call::Call;
use crate::lock::lock;
use crate::netref::Netref;

/// What a stream is of, and how batches of it are made and taken apart.
pub(super) trait Unit: Sized + 'static {
    type Item: Send + 'static;
    /// What was pulled and not read yet.
    type Incoming: Default + Send + 'static;
    /// What is to be pulled next.
    type Outgoing: Default + Send + 'static;

    fn form() -> Form;

    /// Describes the items, as [`Source::shape`] does.
    fn description() -> Bytes;

    /// The form of a stream whose items are described like that, if they can be read as these by their shape.
    fn form_of(description: Bytes) -> Result<(Form, Writer)>;

    /// Takes a batch in, once everything before it was read; at least one item. It was written by `writer`, if that
    /// has another type.
    fn receive(incoming: &mut Self::Incoming, body: Body, writer: Option<&Writer>) -> Result<()>;

    /// Whether a batch has nothing in it.
    fn is_nothing(incoming: &Self::Incoming) -> bool;

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
    /// Its items are of another type than is read, which looks like this.
    writer: Option<Writer>,
    /// They are: what the pull has failed with, and the question what they look like.
    asking: Option<(Error, Call<Result<Bytes>>)>,
    has_asked: bool,
}

/// The shape of whoever writes items.
pub(super) type Writer = Arc<Shape>;

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
            puller: Puller::new(source),
            incoming: U::Incoming::default(),
            failure: None,
            writer: None,
            asking: None,
            has_asked: false,
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
            if let Some((_, asked)) = &mut self.asking {
                let description = ready!(Pin::new(asked).poll(context));
                if let Err(error) = self.read_by(description) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let received = match ready!(self.puller.poll(U::form, context)) {
                None => {
                    self.puller.acknowledge();
                    return Poll::Ready(None);
                }
                Some(Ok((body, failure))) => {
                    self.has_asked = true;
                    self.failure = failure;
                    self.receive(body)
                }
                // Nothing was taken: whoever makes the stream may have another version of the type.
                Some(Err(error)) if error.kind() == ErrorKind::SchemaMismatch && !self.has_asked => {
                    self.has_asked = true;
                    self.asking = Some((error, self.puller.ask_shape()));
                    Ok(())
                }
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = received {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn receive(&mut self, body: Body) -> Result<()> {
        U::receive(&mut self.incoming, body, self.writer.as_ref())?;
        if U::is_nothing(&self.incoming) && !self.puller.has_ended() {
            let text = "a batch of a stream that has nothing in it and is not the last";
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        Ok(())
    }

    /// Reads the stream by what its maker says of its items.
    fn read_by(&mut self, description: Result<Bytes>) -> Result<()> {
        let Some((mismatch, _)) = self.asking.take() else {
            return Ok(());
        };
        // Older peers cannot be asked, and some types do not tell.
        let Some(description) = description.ok().filter(|description| !description.is_empty()) else {
            return Err(mismatch);
        };
        let (form, writer) = U::form_of(description)?;
        if form == U::form() {
            return Err(mismatch);
        }
        self.puller.pull_as(form);
        self.writer = Some(writer);
        Ok(())
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
        U::form()
    }

    fn description(&self) -> fn() -> Bytes {
        U::description
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
                        // It was sent, and will not be received, whatever the reader says of the end.
                        if let Some(ending) = &self.ending {
                            ending.set(Ended::Lost);
                        }
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
