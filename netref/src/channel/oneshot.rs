//! One value, once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use farref_boxing::{Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use super::{Inbox, Outlet, SENT, is_gone, receiver_gone, sender_gone};
use crate::lock::lock;
use crate::netref::Netref;
use crate::parcel::{Parcel, Unpacker};
use crate::shapes;
use crate::stream::{Item, Stream};

/// A channel for one value.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::channel::oneshot;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Job {
///     async fn start(&self) -> Result<oneshot::Receiver<u64>>;
/// }
///
/// struct Sum;
///
/// #[remote]
/// impl Job for Sum {
///     async fn start(&self) -> Result<oneshot::Receiver<u64>> {
///         let (done, result) = oneshot::channel();
///         tokio::spawn(async move { done.send((1..=100).sum()).await });
///         Ok(result)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let job: Netref<dyn Job> = Netref::of(Sum);
/// assert_eq!(job.call().start().await?.await?, 5050);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn channel<T: Item>() -> (Sender<T>, Receiver<T>) {
    let (sender, value) = oneshot::channel();
    let sender = Sender(Mutex::new(Some(Way::Here(sender))));
    (sender, Receiver(Stream::new(Value(Some(value)))))
}

/// Where the value goes in. Passing it on gives it away.
pub struct Sender<T: Item>(Mutex<Option<Way<T>>>);

enum Way<T: Item> {
    Here(oneshot::Sender<T>),
    There(Outlet<T>),
}

impl<T: Item> Sender<T> {
    /// Sends the value.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): nobody waits for it any more, or the channel is out of
    /// reach. [`Misuse`](farref_boxing::ErrorKind::Misuse): the sender was given away.
    ///
    /// # Cancel safety
    ///
    /// The value may have been sent or not.
    pub async fn send(self, value: T) -> Result<()> {
        let way = lock(&self.0).take().ok_or_else(is_gone)?;
        match way {
            Way::Here(sender) => sender.send(value).map_err(|_| receiver_gone()),
            Way::There(outlet) => outlet.send(&value).await,
        }
    }

    /// Waits until nobody waits for the value any more, or the channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&mut self) {
        let outlet = match &*lock(&self.0) {
            Some(Way::There(outlet)) => Some(outlet.clone()),
            Some(Way::Here(_)) | None => None,
        };
        match outlet {
            Some(outlet) => outlet.closed().await,
            None => {
                std::future::poll_fn(|context| match &mut *lock(&self.0) {
                    Some(Way::Here(sender)) => sender.poll_closed(context),
                    Some(Way::There(_)) | None => Poll::Ready(()),
                })
                .await;
            }
        }
    }
}

/// Where the value comes out: a future. Passing it on gives it away.
///
/// It fails as [`Disconnected`](farref_boxing::ErrorKind::Disconnected) if the sender is dropped, wherever that is, or the
/// channel is out of reach.
pub struct Receiver<T: Item>(Stream<T>);

impl<T: Item> Future for Receiver<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let value = ready!(futures_core::Stream::poll_next(Pin::new(&mut self.0), context));
        Poll::Ready(value.unwrap_or_else(|| Err(sender_gone())))
    }
}

/// What comes out of the channel where it was made.
struct Value<T>(Option<oneshot::Receiver<T>>);

impl<T> futures_core::Stream for Value<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(receiver) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let value = ready!(Pin::new(receiver).poll(context));
        self.0 = None;
        Poll::Ready(value.ok())
    }
}

/// The sender, for the other side.
struct Entry<T>(Mutex<Option<oneshot::Sender<T>>>, Unpacker<T>);

#[remote]
impl<T: Item> Inbox for Entry<T> {
    async fn send(&self, value: Parcel) -> Result<bool> {
        let value = self.1.unpack(value)?;
        let sender = lock(&self.0).take().ok_or_else(is_gone)?;
        Ok(sender.send(value).is_ok())
    }

    async fn closed(&self) -> Result<()> {
        std::future::poll_fn(|context| match &mut *lock(&self.0) {
            Some(sender) => sender.poll_closed(context),
            None => Poll::Ready(()),
        })
        .await;
        Ok(())
    }
}

impl<T: Item> Serialize for Sender<T> {
    /// Gives the sender away.
    ///
    /// # Errors
    ///
    /// It was given away before, or no message is being boxed.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let way = lock(&self.0).take();
        match way.ok_or_else(|| S::Error::custom(is_gone()))? {
            Way::Here(sender) => {
                let entry = Entry(Mutex::new(Some(sender)), Unpacker::new(SENT));
                Netref::<dyn Inbox>::of(entry).serialize(serializer)
            }
            Way::There(outlet) => outlet.inbox.serialize(serializer),
        }
    }
}

impl<'de, T: Item> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let inbox = Netref::deserialize(deserializer)?;
        Ok(Self(Mutex::new(Some(Way::There(Outlet::new(inbox))))))
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

impl<T: Item> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*lock(&self.0) {
            Some(Way::Here(_)) => "Sender(local)",
            Some(Way::There(_)) => "Sender(remote)",
            None => "Sender(given away)",
        })
    }
}

impl<T: Item> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}
