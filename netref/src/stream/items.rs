//! Streams of items.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farref_boxing::{CodecError, Items, ItemsWriter, Result, ShapeType, Shaped, Shapes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::channel::{self, Sender};
use super::flow::{Flow, Unit, Writer};
use super::{Body, Form};
use crate::place;
use crate::references;
use crate::shapes;

/// What a stream can be of: whatever serde can write and read, with netrefs anywhere in it.
pub trait Item: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Item for T {}

/// A stream of items, made here or elsewhere: a `futures::Stream<Item = Result<T>>` in arguments and results.
///
/// It is read once, by whoever holds it: passing it on gives it away. Items come in order, each once; an error is the
/// last. The reader's pace is that of the maker: no more than the [`credit`](Self::credit) is on its way. Dropping it
/// ends it at its origin.
///
/// A peer of another version may have another type of item: they are read as arguments and results are, by the shape of
/// whoever makes the stream. Types that do not tell what they look like have to have the same name on both sides.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::{Netref, Result, Stream, remote};
///
/// #[remote]
/// trait Bench {
///     async fn samples(&self, count: u32) -> Result<Stream<f64>>;
///     async fn sum(&self, of: Stream<f64>) -> Result<f64>;
/// }
///
/// struct Rig;
///
/// #[remote]
/// impl Bench for Rig {
///     async fn samples(&self, count: u32) -> Result<Stream<f64>> {
///         Ok(Stream::from_iter((0..count).map(f64::from)))
///     }
///
///     async fn sum(&self, mut of: Stream<f64>) -> Result<f64> {
///         let mut sum = 0.0;
///         while let Some(item) = of.next().await {
///             sum += item?;
///         }
///         Ok(sum)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let bench: Netref<dyn Bench> = Netref::of(Rig);
/// let samples = bench.call().samples(4).await?;
/// assert_eq!(bench.call().sum(samples).await?, 6.0);
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Waiting for the next item may be given up at any time; nothing is lost.
pub struct Stream<T: Item>(pub(super) Flow<Coded<T>>);

impl<T: Item> Stream<T> {
    /// The items of `items`.
    #[must_use]
    pub fn new(items: impl futures_core::Stream<Item = T> + Send + 'static) -> Self {
        Self::fallible(Sure(Box::pin(items)))
    }

    /// The items of `items`, up to the first error.
    #[must_use]
    pub fn fallible(items: impl futures_core::Stream<Item = Result<T>> + Send + 'static) -> Self {
        Self(Flow::here(Box::pin(items), None))
    }

    /// The items of an iterator, which must not block.
    #[expect(
        clippy::should_implement_trait,
        reason = "that knows no bound on the iterator"
    )]
    pub fn from_iter<I>(items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self::new(Iterated(Box::new(items.into_iter())))
    }

    /// A stream, and where its items are sent from; `capacity` of them may wait, at least 1.
    #[must_use]
    pub fn channel(capacity: usize) -> (Sender<T>, Self) {
        let (sender, items, ending) = channel::new(capacity);
        (sender, Self(Flow::here(Box::pin(items), Some(ending))))
    }

    /// Lets so many bytes be on their way, if the stream comes from elsewhere. Default 1 MiB; a quarter of it is asked for
    /// at a time, and the size of one item comes on top. Has an effect on what is asked for from now on.
    #[must_use]
    pub fn credit(mut self, bytes: u64) -> Self {
        self.0.set_credit(bytes);
        self
    }

    /// The next item; `None` after the end.
    ///
    /// # Errors
    ///
    /// What the stream ends with: its maker's error, or that of the connection. Nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn next(&mut self) -> Option<Result<T>> {
        std::future::poll_fn(|context| self.0.poll(context)).await
    }

    /// The items for a thread, which waits for each; see [`crate::place`] for where it may.
    #[must_use]
    pub const fn blocking(self) -> Iter<T> {
        Iter(self)
    }
}

/// Nothing in it is pinned: items are moved out.
impl<T: Item> Unpin for Stream<T> {}

impl<T: Item> futures_core::Stream for Stream<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().0.poll(context)
    }
}

impl<T: Item> Serialize for Stream<T> {
    /// Gives the stream away: the reference of its source goes into the message that is being boxed.
    ///
    /// # Errors
    ///
    /// It was given away before, or no message is being boxed.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Item> Deserialize<'de> for Stream<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Flow::deserialize(deserializer).map(Self)
    }
}

/// What its items look like is told where they are pulled.
impl<T: Item + Shaped> Shaped for Stream<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Item> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.0)
    }
}

/// Items that are encoded one by one.
pub(super) struct Coded<T>(PhantomData<fn() -> T>);

/// So many items are decoded at a time.
const RUN: u64 = 256;

/// So many items are in a batch at most, however small they are.
const MANY: u64 = 1 << 16;

/// A batch that is being read.
pub(super) struct Read<T> {
    batch: Items,
    decoded: VecDeque<T>,
    /// What the item behind those that are decoded cannot be read for.
    failed: Option<CodecError>,
    /// What the items look like, if their type is another than `T`.
    writer: Option<Writer>,
}

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self {
            batch: Items::NONE,
            decoded: VecDeque::new(),
            failed: None,
            writer: None,
        }
    }
}

impl<T: Item> Unit for Coded<T> {
    type Item = T;
    type Incoming = Read<T>;
    type Outgoing = ItemsWriter;

    fn form() -> Form {
        Form::Items(shapes::of_items::<T>().fingerprint)
    }

    fn description() -> Bytes {
        shapes::of_items::<T>().description()
    }

    fn form_of(description: Bytes) -> Result<(Form, Writer)> {
        let writer = shapes::of_writer(description)?;
        let written = format!("`{}`", shapes::name_of::<T>());
        let by = shapes::of_items::<T>().reads(&writer, "what comes in a stream", &written)?;
        Ok((Form::Items(writer.fingerprint()), by))
    }

    fn receive(incoming: &mut Read<T>, body: Body, writer: Option<&Writer>) -> Result<()> {
        match body {
            Body::Items(items) => {
                incoming.batch = items;
                incoming.writer = writer.cloned();
                Ok(())
            }
            Body::Bytes(_) => Err(Form::Bytes.mismatch(Self::form())),
        }
    }

    fn is_nothing(incoming: &Read<T>) -> bool {
        incoming.batch.is_empty()
    }

    fn next(incoming: &mut Read<T>) -> Option<Result<T>> {
        let Read {
            batch,
            decoded,
            failed,
            writer,
        } = incoming;
        if decoded.is_empty() && !batch.is_empty() {
            let limits = references::limits();
            let read = match writer {
                Some(writer) => batch.read_by_shape(RUN, writer, &limits, decoded),
                None => batch.read(RUN, &limits, decoded),
            };
            *failed = read.err();
        }
        let item = decoded.pop_front().map(Ok);
        // It comes behind those before it, and nothing follows.
        item.or_else(|| failed.take().map(|error| Err(error.into())))
    }

    fn push(outgoing: &mut ItemsWriter, item: T) -> Result<()> {
        Ok(outgoing.push(&item)?)
    }

    fn is_empty(outgoing: &ItemsWriter) -> bool {
        outgoing.is_empty()
    }

    fn is_full(outgoing: &ItemsWriter, credit: usize) -> bool {
        outgoing.len() >= credit || outgoing.count() >= MANY
    }

    fn take(outgoing: &mut ItemsWriter) -> Body {
        Body::Items(outgoing.take())
    }
}
/// The items of a stream, one after the other, on a thread that waits for them.
#[derive(Debug)]
pub struct Iter<T: Item>(Stream<T>);

impl<T: Item> Iterator for Iter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        place::block_on(self.0.next()).unwrap_or_else(|error| Some(Err(error)))
    }
}

/// Items that do not fail.
struct Sure<S>(Pin<Box<S>>);

impl<S: futures_core::Stream> futures_core::Stream for Sure<S> {
    type Item = Result<S::Item>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<S::Item>>> {
        self.0.as_mut().poll_next(context).map(|item| item.map(Ok))
    }
}

/// The items of an iterator.
struct Iterated<I>(Box<I>);

impl<I: Iterator> futures_core::Stream for Iterated<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}
