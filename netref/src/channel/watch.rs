//! The latest value, for whoever wants to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;

use super::{Inbox, Outlet, SENT, Shareable, receiver_gone, sender_gone};
use crate::netref::Netref;
use crate::parcel::{Parcel, Unpacker};
use crate::shapes;

/// Where receivers that went elsewhere look.
#[remote(name = "farref.Watched")]
pub(crate) trait Watched {
    /// The value and its number.
    #[reads]
    async fn latest(&self) -> Result<(u64, Parcel)>;

    /// The same, once the number is another than `seen`; nothing if it stays, as nobody sends any more.
    #[reads]
    async fn changed(&self, seen: u64) -> Result<Option<(u64, Parcel)>>;

    /// What the value looks like, as a shape is on the wire; nothing if that is not known.
    async fn shape(&self) -> Result<Bytes>;
}

/// A channel that holds `value` until another is sent.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::channel::watch;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Oven {
///     async fn temperature(&self) -> Result<watch::Receiver<f64>>;
/// }
///
/// struct Kiln(watch::Receiver<f64>);
///
/// #[remote]
/// impl Oven for Kiln {
///     async fn temperature(&self) -> Result<watch::Receiver<f64>> {
///         Ok(self.0.clone())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let (sender, receiver) = watch::channel(20.0);
/// let oven: Netref<dyn Oven> = Netref::of(Kiln(receiver));
/// let mut temperature = oven.call().temperature().await?;
/// assert_eq!(temperature.latest().await?, 20.0);
/// sender.send(900.0).await?;
/// assert_eq!(temperature.changed().await?, 900.0);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn channel<T: Shareable>(value: T) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = watch::channel(Numbered { number: 0, value });
    let receiver = Receiver {
        way: Way::Here(receiver),
        seen: 0,
    };
    (Sender(Inward::Here(sender)), receiver)
}

/// A value, and how many were sent before it.
struct Numbered<T> {
    number: u64,
    value: T,
}

/// Where values go in. It is cloned and passed on at will.
pub struct Sender<T: Shareable>(Inward<T>);

enum Inward<T: Shareable> {
    Here(watch::Sender<Numbered<T>>),
    There(Outlet<T>),
}

impl<T: Shareable> Sender<T> {
    /// Puts `value` in the place of the one before.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): nobody receives any more, or the channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// The value may be in the channel or not.
    pub async fn send(&self, value: T) -> Result<()> {
        match &self.0 {
            Inward::Here(sender) => put(sender, value).then_some(()).ok_or_else(receiver_gone),
            Inward::There(outlet) => outlet.send(&value).await,
        }
    }

    /// Waits until nobody receives any more, or the channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        match &self.0 {
            Inward::Here(sender) => sender.closed().await,
            Inward::There(outlet) => outlet.closed().await,
        }
    }
}

/// Whether there is anybody to receive it.
fn put<T>(sender: &watch::Sender<Numbered<T>>, value: T) -> bool {
    if sender.is_closed() {
        return false;
    }
    let mut value = value;
    sender.send_modify(|latest| {
        latest.number = latest.number.wrapping_add(1);
        std::mem::swap(&mut latest.value, &mut value);
    });
    // The one before goes outside of the channel's lock.
    drop(value);
    true
}

/// Where the latest value is read. It is cloned and passed on at will; each remembers which value it has seen.
pub struct Receiver<T: Shareable> {
    way: Way<T>,
    /// The number of the value that was seen last.
    seen: u64,
}

enum Way<T: Shareable> {
    Here(watch::Receiver<Numbered<T>>),
    /// What comes from there is of its type.
    There(Netref<dyn Watched>, Arc<Unpacker<T>>),
}

impl<T: Shareable> Receiver<T> {
    /// The value that is there now; it counts as seen.
    ///
    /// # Errors
    ///
    /// The channel is out of reach. While it can be reached there is always a value, also when nobody sends any more.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn latest(&mut self) -> Result<T> {
        let (number, value) = match &self.way {
            Way::Here(receiver) => here(&receiver.borrow()),
            Way::There(watched, unpacker) => there(watched, unpacker, watched.call().latest().await?).await?,
        };
        self.seen = number;
        Ok(value)
    }

    /// The value, once it is another than the one that was seen last. Those in between are passed over.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): nobody sends any more, or the channel is out of reach.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn changed(&mut self) -> Result<T> {
        let (number, value) = match &mut self.way {
            Way::Here(receiver) => {
                let seen = self.seen;
                let other = receiver.wait_for(|latest| latest.number != seen).await;
                here(&*other.map_err(|_| sender_gone())?)
            }
            Way::There(watched, unpacker) => {
                let changed = watched.call().changed(self.seen).timeout(Duration::MAX);
                there(watched, unpacker, changed.await?.ok_or_else(sender_gone)?).await?
            }
        };
        self.seen = number;
        Ok(value)
    }
}

fn here<T: Clone>(latest: &Numbered<T>) -> (u64, T) {
    (latest.number, latest.value.clone())
}

async fn there<T: Shareable>(
    watched: &Netref<dyn Watched>,
    unpacker: &Unpacker<T>,
    (number, value): (u64, Parcel),
) -> Result<(u64, T)> {
    let ask = || watched.call().shape();
    Ok((number, unpacker.unpack_asking(value, ask).await?))
}

/// The sender, for the other side.
struct Entry<T: Shareable>(watch::Sender<Numbered<T>>, Unpacker<T>);

#[remote]
impl<T: Shareable> Inbox for Entry<T> {
    async fn send(&self, value: Parcel) -> Result<bool> {
        Ok(put(&self.0, self.1.unpack(value)?))
    }

    async fn closed(&self) -> Result<()> {
        self.0.closed().await;
        Ok(())
    }
}

/// A receiver, for the other side.
struct Window<T: Shareable>(watch::Receiver<Numbered<T>>);

#[remote]
impl<T: Shareable> Watched for Window<T> {
    async fn latest(&self) -> Result<(u64, Parcel)> {
        // Encoded outside of the channel's lock.
        let (number, value) = here(&self.0.borrow());
        Ok((number, Parcel::pack(&value)?))
    }

    async fn changed(&self, seen: u64) -> Result<Option<(u64, Parcel)>> {
        let mut receiver = self.0.clone();
        let changed = receiver.wait_for(|latest| latest.number != seen).await;
        let changed = changed.ok().map(|latest| here(&*latest));
        let packed = |(number, value)| Ok((number, Parcel::pack(&value)?));
        changed.map(packed).transpose()
    }

    async fn shape(&self) -> Result<Bytes> {
        Ok(shapes::of_items::<T>().description())
    }
}

impl<T: Shareable> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Inward::Here(sender) => Inward::Here(sender.clone()),
            Inward::There(outlet) => Inward::There(outlet.clone()),
        })
    }
}

impl<T: Shareable> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let way = match &self.way {
            Way::Here(receiver) => Way::Here(receiver.clone()),
            Way::There(watched, unpacker) => Way::There(watched.clone(), Arc::clone(unpacker)),
        };
        Self { way, seen: self.seen }
    }
}

impl<T: Shareable> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.0 {
            Inward::Here(sender) => {
                let entry = Entry(sender.clone(), Unpacker::new(SENT));
                Netref::<dyn Inbox>::of(entry).serialize(serializer)
            }
            Inward::There(outlet) => outlet.inbox.serialize(serializer),
        }
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Netref::deserialize(deserializer).map(|inbox| Self(Inward::There(Outlet::new(inbox))))
    }
}

impl<T: Shareable + Shaped> Shaped for Sender<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Shareable> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.way {
            Way::Here(receiver) => {
                let window = Netref::<dyn Watched>::of(Window(receiver.clone()));
                (window, self.seen).serialize(serializer)
            }
            Way::There(watched, _) => (watched, self.seen).serialize(serializer),
        }
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (watched, seen) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            way: Way::There(watched, Arc::new(Unpacker::new("what is watched"))),
            seen,
        })
    }
}

impl<T: Shareable + Shaped> Shaped for Receiver<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        <(Netref<dyn Watched>, u64)>::shape(shapes)
    }
}

impl<T: Shareable> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Inward::Here(_) => "Sender(local)",
            Inward::There(_) => "Sender(remote)",
        })
    }
}

impl<T: Shareable> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.way {
            Way::Here(_) => "local",
            Way::There(..) => "remote",
        };
        write!(f, "Receiver({place}, seen {})", self.seen)
    }
}
