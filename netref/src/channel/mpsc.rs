//! Many senders, one receiver: each value once, in order.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use farref_boxing::{Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::mpsc;

use super::{Inbox, Outlet, SENT, receiver_gone};
use crate::netref::Netref;
use crate::parcel::{Parcel, Unpacker};
use crate::shapes;
use crate::stream::{Item, Stream};

/// A channel in which at most `capacity` values wait, at least 1.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::channel::mpsc;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Scanner {
///     async fn scan(&self, found: mpsc::Sender<String>) -> Result<()>;
/// }
///
/// struct Ports;
///
/// #[remote]
/// impl Scanner for Ports {
///     async fn scan(&self, found: mpsc::Sender<String>) -> Result<()> {
///         found.send("ttyUSB0".to_owned()).await?;
///         found.send("ttyUSB1".to_owned()).await
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let scanner: Netref<dyn Scanner> = Netref::of(Ports);
/// let (found, mut ports) = mpsc::channel(16);
/// scanner.call().scan(found).await?;
/// assert_eq!(ports.recv().await.transpose()?.as_deref(), Some("ttyUSB0"));
/// assert_eq!(ports.recv().await.transpose()?.as_deref(), Some("ttyUSB1"));
/// assert!(ports.recv().await.is_none()); // nobody has the sender any more
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn channel<T: Item>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, values) = mpsc::channel(capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
    (Sender(Way::Here(sender)), Receiver(Stream::new(Values(values))))
}

/// Where values go in. It is cloned and passed on at will; the channel ends for its receiver when the last one is dropped,
/// wherever that is.
pub struct Sender<T: Item>(Way<T>);

enum Way<T: Item> {
    Here(mpsc::Sender<T>),
    There(Outlet<T>),
}

impl<T: Item> Sender<T> {
    /// Sends a value, and returns when it is in the channel, which may have to be waited for.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): nobody receives any more, or the channel is out of reach;
    /// the certainty tells whether the value is in.
    ///
    /// # Cancel safety
    ///
    /// The value may be in the channel or not; if the channel was made in this process, it is not.
    pub async fn send(&self, value: T) -> Result<()> {
        match &self.0 {
            Way::Here(sender) => sender.send(value).await.map_err(|_| receiver_gone()),
            Way::There(outlet) => outlet.send(&value).await,
        }
    }

    /// Waits until nobody receives any more, or the channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        match &self.0 {
            Way::Here(sender) => sender.closed().await,
            Way::There(outlet) => outlet.closed().await,
        }
    }
}

/// Where values come out: a `futures::Stream`, too.
///
/// There is one. Passing it on gives it away, with what waits in the channel. One that has gone elsewhere fetches ahead: up
/// to its [`credit`](Stream::credit) of values that have left the channel may be on their way to it, and are lost if its
/// connection is.
pub struct Receiver<T: Item>(Stream<T>);

impl<T: Item> Receiver<T> {
    /// The next value; `None` when the channel is empty and nobody can send any more.
    ///
    /// # Errors
    ///
    /// The connection to the channel is lost. Nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn recv(&mut self) -> Option<Result<T>> {
        self.0.next().await
    }

    /// The values as a stream.
    #[must_use]
    pub fn into_stream(self) -> Stream<T> {
        self.0
    }
}

/// What comes out of the channel where it was made.
struct Values<T>(mpsc::Receiver<T>);

impl<T> futures_core::Stream for Values<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

/// The sender, for the other side.
struct Entry<T: Item>(mpsc::Sender<T>, Unpacker<T>);

#[remote]
impl<T: Item> Inbox for Entry<T> {
    async fn send(&self, value: Parcel) -> Result<bool> {
        Ok(self.0.send(self.1.unpack(value)?).await.is_ok())
    }

    async fn closed(&self) -> Result<()> {
        self.0.closed().await;
        Ok(())
    }
}

impl<T: Item> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Way::Here(sender) => Way::Here(sender.clone()),
            Way::There(outlet) => Way::There(outlet.clone()),
        })
    }
}

impl<T: Item> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.0 {
            Way::Here(sender) => {
                let entry = Entry(sender.clone(), Unpacker::new(SENT));
                Netref::<dyn Inbox>::of(entry).serialize(serializer)
            }
            Way::There(outlet) => outlet.inbox.serialize(serializer),
        }
    }
}

impl<'de, T: Item> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Netref::deserialize(deserializer).map(|inbox| Self(Way::There(Outlet::new(inbox))))
    }
}

impl<T: Item + Shaped> Shaped for Sender<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Item> Serialize for Receiver<T> {
    /// Gives the receiver away.
    ///
    /// # Errors
    ///
    /// It was given away before, or no message is being boxed.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Item> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Stream::deserialize(deserializer).map(Self)
    }
}

impl<T: Item + Shaped> Shaped for Receiver<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Item> futures_core::Stream for Receiver<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        Pin::new(&mut self.0).poll_next(context)
    }
}

impl<T: Item> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Way::Here(_) => "Sender(local)",
            Way::There(_) => "Sender(remote)",
        })
    }
}

impl<T: Item> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}
