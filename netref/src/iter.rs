//! Iterators by reference: fetched in batches, no further than they are used.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Error, ErrorKind, Items, ItemsWriter, Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::Call;
use crate::lock::lock;
use crate::netref::Netref;
use crate::parcel::{Unpacker, told};
use crate::stream::Item;
use crate::{place, references, shapes};

/// What an iterator crosses as (PROTOCOL.md § 14).
#[remote(name = "farref.Iterator")]
pub(crate) trait Batches {
    /// The next items, at most so many; fewer if they are long.
    #[reads]
    async fn next(&self, most: u32) -> Result<Batch>;

    /// What the items look like, as a shape is on the wire; nothing if that is not known.
    async fn shape(&self) -> Result<Bytes>;
}

/// The next items of an iterator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// The fingerprint of their type.
    shape: u32,
    items: Items,
    /// How many follow, as [`Iterator::size_hint`] tells.
    left: Left,
    ended: bool,
}

/// An iterator, here or elsewhere, in arguments and results: an `Iterator<Item = Result<T>>`, which waits on its thread, and a
/// `futures::Stream` for tasks.
///
/// One that is elsewhere is lazy: items are made over there as they are used here, in batches that grow, and never more than
/// some three times as many as were used. It may block there. Whoever wants each item as soon as it is made, or as many as
/// the wire takes, uses a [`Stream`](crate::Stream). It is used once: passing it on gives it away. A peer of another version
/// may have another type of item: they are read by the shape of whoever makes them.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::{Netref, RemoteIter, Result, remote};
///
/// #[remote]
/// trait Numbers {
///     fn primes(&self) -> Result<RemoteIter<u64>>;
/// }
///
/// struct Naive;
///
/// impl Numbers for Naive {
///     fn primes(&self) -> Result<RemoteIter<u64>> {
///         Ok(RemoteIter::new((2..).filter(|n| (2..*n).all(|d| n % d != 0))))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let numbers: Netref<dyn Numbers> = Netref::of(Naive);
/// let primes: Vec<u64> = numbers.primes()?.take(5).collect::<Result<_>>()?;
/// assert_eq!(primes, [2, 3, 5, 7, 11]);
/// # Ok(())
/// # }
/// ```
pub struct RemoteIter<T: Item> {
    /// Serialising gives it away, and borrows it only.
    place: Mutex<Place<T>>,
}

enum Place<T: Item> {
    Here(Box<dyn Iterator<Item = T> + Send>),
    There(Box<There<T>>),
    /// It was given away.
    Gone,
    Over,
}

struct There<T> {
    batches: Netref<dyn Batches>,
    items: VecDeque<T>,
    /// Items of the batch that the last came in.
    last: usize,
    under_way: Option<Call<Result<Batch>>>,
    unpacker: Unpacker<T>,
    /// A batch whose items are of another type, and the question what that looks like.
    asking: Option<(Batch, Call<Result<Bytes>>)>,
    left: Left,
    ended: bool,
}

/// How many items are left, at least and at most.
type Left = (u64, Option<u64>);

type Boxed<T> = Box<dyn Iterator<Item = Result<T>> + Send>;

/// Most items of a batch.
const MOST: u32 = 1 << 10;

/// A batch is no longer than this and one item more, in bytes.
const LONG: usize = 256 << 10;

impl<T: Item> RemoteIter<T> {
    /// The items of an iterator, which may block.
    pub fn new<I>(items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Self::at(Place::Here(Box::new(items.into_iter())))
    }

    const fn at(place: Place<T>) -> Self {
        Self {
            place: Mutex::new(place),
        }
    }

    /// The next item, for tasks; `None` after the end.
    ///
    /// # Errors
    ///
    /// The iterator is out of reach, has panicked, or was given away. Nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn next_item(&mut self) -> Option<Result<T>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// How many items are left, at least and at most, as the other side tells if it is elsewhere.
    #[must_use]
    pub fn left(&self) -> (u64, Option<u64>) {
        match &*lock(&self.place) {
            Place::Here(items) => hint(&**items),
            Place::There(there) => {
                let here = there.items.len() as u64;
                let (least, most) = there.left;
                (
                    least.saturating_add(here),
                    most.and_then(|most| most.checked_add(here)),
                )
            }
            Place::Gone | Place::Over => (0, Some(0)),
        }
    }

    fn get_mut(&mut self) -> &mut Place<T> {
        self.place.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let place = self.get_mut();
        let item = match place {
            Place::Here(items) => items.next().map(Ok),
            Place::There(there) => ready!(there.poll(context)),
            Place::Gone => Some(Err(is_gone())),
            Place::Over => None,
        };
        if !matches!(item, Some(Ok(_))) {
            *place = Place::Over;
        }
        Poll::Ready(item)
    }

    /// Gives the iterator away, as something that batches are fetched from.
    fn give_away(&self) -> Result<(Netref<dyn Batches>, Left)> {
        let left = self.left();
        let items: Boxed<T> = match std::mem::replace(&mut *lock(&self.place), Place::Gone) {
            Place::Here(items) => Box::new(items.map(Ok)),
            // Nothing was fetched: whoever gets it fetches from where it is.
            Place::There(there)
                if there.last == 0 && there.under_way.is_none() && there.asking.is_none() && !there.ended =>
            {
                return Ok((there.batches, left));
            }
            // What was fetched already goes along.
            there @ Place::There(_) => Box::new(Self::at(there)),
            Place::Over => Box::new(std::iter::empty()),
            Place::Gone => return Err(is_gone()),
        };
        let hosted = Hosted(Arc::new(tokio::sync::Mutex::new(Some(items))));
        Ok((Netref::of(hosted), left))
    }
}

fn hint<I: Iterator + ?Sized>(items: &I) -> Left {
    let (least, most) = items.size_hint();
    (least as u64, most.map(|most| most as u64))
}

fn is_gone() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "the iterator was given away: it is used where it went",
    )
}

impl<T: Item> There<T> {
    /// Asks for the next batch: the first item, and then twice as many as the last time.
    fn fetch(&mut self) {
        if self.under_way.is_none() && !self.ended {
            let most = u32::try_from(self.last.saturating_mul(2)).unwrap_or(MOST);
            let call = self.batches.call().next(most.clamp(1, MOST));
            // An item may take as long as it likes.
            self.under_way = Some(call.timeout(Duration::MAX).start());
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some((_, asked)) = &mut self.asking {
                let description = ready!(Pin::new(asked).poll(context));
                let Some((batch, _)) = self.asking.take() else {
                    continue;
                };
                let taken = told(description).and_then(|description| self.take_in(batch, &description));
                if let Err(error) = taken {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            // Half of it was used: the next is on its way when the other half is.
            if self.items.len() <= self.last / 2 {
                self.fetch();
            }
            if let Some(item) = self.items.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            let Some(call) = &mut self.under_way else {
                return Poll::Ready(None);
            };
            let fetched = ready!(Pin::new(call).poll(context));
            self.under_way = None;
            let taken = fetched.and_then(|batch| {
                if self.unpacker.lacks(batch.shape) {
                    self.asking = Some((batch, self.batches.call().shape().start()));
                    return Ok(());
                }
                self.take_in(batch, &Bytes::new())
            });
            if let Err(error) = taken {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Takes a batch of items that look as described, if that was not known.
    fn take_in(&mut self, batch: Batch, description: &Bytes) -> Result<()> {
        let Batch {
            shape,
            mut items,
            left,
            ended,
        } = batch;
        let count = items.count();
        let limits = references::limits();
        match self.unpacker.by(shape, description)? {
            Some(by) => items.read_by_shape(count, &by, &limits, &mut self.items)?,
            None => items.read(count, &limits, &mut self.items)?,
        }
        if count == 0 && !ended {
            return Err(Error::new(
                ErrorKind::Malformed,
                "a batch without items that is not the last",
            ));
        }
        (self.last, self.left, self.ended) = (self.items.len(), left, ended);
        Ok(())
    }
}

/// An iterator, for the other side: it runs on a thread that may block, for one at a time.
struct Hosted<T>(Arc<tokio::sync::Mutex<Option<Boxed<T>>>>);

#[remote]
impl<T: Item> Batches for Hosted<T> {
    async fn next(&self, most: u32) -> Result<Batch> {
        let mut place = Arc::clone(&self.0).lock_owned().await;
        let shape = shapes::of_items::<T>().fingerprint;
        let run = move || -> Result<Batch> {
            let mut batch = ItemsWriter::new();
            // Taken out meanwhile: after a panic it is over.
            let Some(mut items) = place.take() else {
                return Ok(Batch::end(shape, batch));
            };
            while batch.count() < most.clamp(1, MOST).into() && batch.len() < LONG {
                match items.next() {
                    Some(Ok(item)) => batch.push(&item)?,
                    Some(Err(error)) if batch.is_empty() => return Err(error),
                    // It is over, and fails again when it is asked again.
                    Some(Err(error)) => {
                        *place = Some(Box::new(std::iter::once(Err(error))));
                        return Ok(Batch {
                            shape,
                            items: batch.take(),
                            left: (0, None),
                            ended: false,
                        });
                    }
                    None => return Ok(Batch::end(shape, batch)),
                }
            }
            let left = hint(&*items);
            *place = Some(items);
            Ok(Batch {
                shape,
                items: batch.take(),
                left,
                ended: false,
            })
        };
        let run = crate::runtime::spawn_blocking(run).await;
        run.map_err(|error| Error::wrap(ErrorKind::Panicked, error))?
    }

    async fn shape(&self) -> Result<Bytes> {
        Ok(shapes::of_items::<T>().description())
    }
}

impl Batch {
    fn end(shape: u32, mut items: ItemsWriter) -> Self {
        Self {
            shape,
            items: items.take(),
            left: (0, Some(0)),
            ended: true,
        }
    }
}

impl<T: Item> Iterator for RemoteIter<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if let Place::Here(items) = self.get_mut() {
            return items.next().map(Ok);
        }
        place::block_on(self.next_item()).unwrap_or_else(|error| Some(Err(error)))
    }

    /// The lower bound is what has come: room is made by it, and the other side may tell anything.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let here = match &*lock(&self.place) {
            Place::Here(items) => return items.size_hint(),
            Place::There(there) => there.items.len(),
            Place::Gone | Place::Over => 0,
        };
        (here, None)
    }
}

/// Nothing in it is pinned: items are moved out.
impl<T: Item> Unpin for RemoteIter<T> {}

impl<T: Item> futures_core::Stream for RemoteIter<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().poll(context)
    }
}

impl<T: Item> Serialize for RemoteIter<T> {
    /// Gives the iterator away.
    ///
    /// # Errors
    ///
    /// It was given away before, or no message is being boxed.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.give_away().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: Item> Deserialize<'de> for RemoteIter<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (batches, left) = Deserialize::deserialize(deserializer)?;
        Ok(Self::at(Place::There(Box::new(There {
            batches,
            items: VecDeque::new(),
            last: 0,
            under_way: None,
            unpacker: Unpacker::new("what an iterator gives"),
            asking: None,
            left,
            ended: false,
        }))))
    }
}

impl<T: Item + Shaped> Shaped for RemoteIter<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        <(Netref<dyn Batches>, Left)>::shape(shapes)
    }
}

impl<T: Item> fmt::Debug for RemoteIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*lock(&self.place) {
            Place::Here(_) => "RemoteIter(local)",
            Place::There(_) => "RemoteIter(remote)",
            Place::Gone => "RemoteIter(given away)",
            Place::Over => "RemoteIter(over)",
        })
    }
}
