//! Each value for each receiver.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use farref_boxing::{Error, Result, ShapeFields, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use super::{SENT, Shareable, receiver_gone};
use crate::netref::Netref;
use crate::parcel::{Packer, Parcel, Unpacker};
use crate::shapes;
use crate::stream::Stream;

/// The sending end, for the other side.
#[remote(name = "farref.Broadcast")]
pub(crate) trait Hub {
    /// Sends a value; to how many receivers, which may be none.
    async fn send(&self, value: Parcel) -> Result<u64>;

    /// A receiver of what is sent from now on.
    #[reads]
    async fn subscribe(&self) -> Result<Parcel>;
}

/// A channel that keeps the latest `capacity` values for each receiver, at least 1.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::channel::broadcast;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Radio {
///     async fn tune_in(&self) -> Result<broadcast::Receiver<String>>;
/// }
///
/// struct Station(broadcast::Sender<String>);
///
/// #[remote]
/// impl Radio for Station {
///     async fn tune_in(&self) -> Result<broadcast::Receiver<String>> {
///         self.0.subscribe().await
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, _) = broadcast::channel(16);
/// let radio: Netref<dyn Radio> = Netref::of(Station(sender.clone()));
/// let mut listener = radio.call().tune_in().await?;
/// sender.send("the news".to_owned()).await?;
/// assert_eq!(listener.recv().await?, "the news");
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn channel<T: Shareable>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = broadcast::channel(capacity.clamp(1, usize::MAX >> 2));
    (Sender(Way::Here(sender)), Receiver::of(receiver))
}

/// Where values go in. It is cloned and passed on at will.
pub struct Sender<T: Shareable>(Way<T>);

enum Way<T: Shareable> {
    Here(broadcast::Sender<T>),
    There(Netref<dyn Hub>, Packer<T>),
}

impl<T: Shareable> Sender<T> {
    /// Sends a value to all receivers; how many there are. It never waits for them.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): there is no receiver just now, or the channel is out of
    /// reach.
    ///
    /// # Cancel safety
    ///
    /// The value may have been sent or not.
    pub async fn send(&self, value: T) -> Result<u64> {
        let receivers = match &self.0 {
            Way::Here(sender) => put(sender, value),
            Way::There(hub, packer) => {
                let receivers = hub.call().send(packer.pack(&value)?).await?;
                packer.was_read();
                receivers
            }
        };
        if receivers > 0 {
            Ok(receivers)
        } else {
            Err(receiver_gone())
        }
    }

    /// A receiver of what is sent from now on.
    ///
    /// # Errors
    ///
    /// The channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn subscribe(&self) -> Result<Receiver<T>> {
        match &self.0 {
            Way::Here(sender) => Ok(Receiver::of(sender.subscribe())),
            Way::There(hub, _) => hub.call().subscribe().await?.unpack_plain(),
        }
    }
}

fn put<T>(sender: &broadcast::Sender<T>, value: T) -> u64 {
    sender.send(value).map_or(0, |receivers| receivers as u64)
}

/// Where values come out. Passing it on gives it away.
///
/// One that is too slow loses the oldest values, and is told how many. One that has gone elsewhere fetches ahead: up to 1
/// MiB of values that have left the channel may be on their way to it, and only behind that it counts as slow.
pub struct Receiver<T: Shareable>(Stream<Heard<T>>);

/// What a receiver gets.
#[derive(Serialize, Deserialize)]
enum Heard<T> {
    Value(T),
    Missed(u64),
}

impl<T: Shareable> Receiver<T> {
    fn of(receiver: broadcast::Receiver<T>) -> Self {
        Self(Stream::new(Values(ReusableBoxFuture::new(next(receiver)))))
    }

    /// The next value.
    ///
    /// # Errors
    ///
    /// What a [`RecvError`] says; after [`Lagged`](RecvError::Lagged) come the values that are still there.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn recv(&mut self) -> Result<T, RecvError> {
        match self.0.next().await {
            Some(Ok(Heard::Value(value))) => Ok(value),
            Some(Ok(Heard::Missed(count))) => Err(RecvError::Lagged(count)),
            Some(Err(error)) => Err(RecvError::Lost(error)),
            None => Err(RecvError::Closed),
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RecvError {
    /// Nobody sends any more, and everything was received.
    Closed,
    /// The receiver was too slow: so many values were sent and are gone.
    Lagged(u64),
    /// The channel is out of reach.
    Lost(Error),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("nobody sends any more"),
            Self::Lagged(count) => write!(f, "{count} values were missed"),
            Self::Lost(error) => write!(f, "the channel is out of reach: {error}"),
        }
    }
}

impl std::error::Error for RecvError {}

type Next<T> = (Result<T, broadcast::error::RecvError>, broadcast::Receiver<T>);

async fn next<T: Clone>(mut receiver: broadcast::Receiver<T>) -> Next<T> {
    (receiver.recv().await, receiver)
}

/// What comes out of the channel where it was made.
struct Values<T>(ReusableBoxFuture<'static, Next<T>>);

impl<T: Shareable> futures_core::Stream for Values<T> {
    type Item = Heard<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Heard<T>>> {
        let (heard, receiver) = ready!(self.0.poll(context));
        self.0.set(next(receiver));
        Poll::Ready(match heard {
            Ok(value) => Some(Heard::Value(value)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

/// The sender, for the other side.
struct Entry<T: Shareable>(broadcast::Sender<T>, Unpacker<T>);

#[remote]
impl<T: Shareable> Hub for Entry<T> {
    async fn send(&self, value: Parcel) -> Result<u64> {
        Ok(put(&self.0, self.1.unpack(value)?))
    }

    async fn subscribe(&self) -> Result<Parcel> {
        Parcel::pack_plain(&Receiver::of(self.0.subscribe()))
    }
}

impl<T: Shareable> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Way::Here(sender) => Way::Here(sender.clone()),
            Way::There(hub, packer) => Way::There(hub.clone(), packer.clone()),
        })
    }
}

impl<T: Shareable> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.0 {
            Way::Here(sender) => {
                let entry = Entry(sender.clone(), Unpacker::new(SENT));
                Netref::<dyn Hub>::of(entry).serialize(serializer)
            }
            Way::There(hub, _) => hub.serialize(serializer),
        }
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Netref::deserialize(deserializer).map(|hub| Self(Way::There(hub, Packer::new())))
    }
}

impl<T: Shareable + Shaped> Shaped for Sender<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Shareable> Serialize for Receiver<T> {
    /// Gives the receiver away.
    ///
    /// # Errors
    ///
    /// It was given away before, or no message is being boxed.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        shapes::tells_by::<Heard<T>>(heard::<T>);
        self.0.serialize(serializer)
    }
}

/// What comes to a receiver looks like that, as far as its values tell.
fn heard<T: Shareable>(shapes: &mut Shapes) -> Option<ShapeType> {
    let value = shapes::tell::<T>(shapes)?;
    Some(shapes.enumeration::<Heard<T>, _>("Heard", |shapes| {
        [
            ("Value", ShapeFields::newtype(value)),
            ("Missed", ShapeFields::newtype(u64::shape(shapes))),
        ]
    }))
}

impl<'de, T: Shareable> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        shapes::tells_by::<Heard<T>>(heard::<T>);
        Stream::deserialize(deserializer).map(Self)
    }
}

impl<T: Shareable + Shaped> Shaped for Receiver<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Shareable> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Way::Here(_) => "Sender(local)",
            Way::There(..) => "Sender(remote)",
        })
    }
}

impl<T: Shareable> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}
