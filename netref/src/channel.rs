//! Channels whose ends are values that cross: give one end away, and the two sides are joined.
//!
//! | module | who sends | what a receiver gets |
//! |---|---|---|
//! | [`mpsc`] | many | each value, in order, once |
//! | [`oneshot`] | one, once | the value |
//! | [`watch`] | many | the latest value |
//! | [`broadcast`] | many | each value; a receiver that is too slow is told how many it has missed |
//!
//! They are tokio's channels, and mean the same. The channel lives in the process that made it. An end that crosses is a
//! reference to it, so the other ends notice when it is dropped over there, and when the connection of whoever holds it is
//! over. A session that goes on over another carrier is not noticed. Values may be whatever serde can write and read, with
//! netrefs, streams and further ends of channels in them (PROTOCOL.md § 14). A peer of another version may have another
//! type of value: it is read by the shape of whoever sends it, as arguments, results and items of streams are.
//!
//! One call is made for each value that is sent from afar: it returns when the value is in the channel. For many small
//! values one after the other a [`Stream`](crate::Stream) is faster, as its items travel in batches.

pub mod broadcast;
pub mod mpsc;
pub mod oneshot;
pub mod watch;

use std::future::Future;
use std::time::Duration;

use farref_boxing::{Certainty, Error, ErrorKind, Result};
use farref_macros::remote;

use crate::netref::Netref;
use crate::parcel::{Packer, Parcel};
use crate::stream::Item;

/// What several receivers can get.
pub trait Shareable: Item + Clone + Sync {}

impl<T: Item + Clone + Sync> Shareable for T {}

/// The end of a channel where values go in.
#[remote(name = "farref.Inbox")]
pub(crate) trait Inbox {
    /// Puts a value in, once there is room; whether there was anybody to receive it.
    async fn send(&self, value: Parcel) -> Result<bool>;

    /// Waits until nobody receives any more.
    async fn closed(&self) -> Result<()>;
}

/// The sending end of a channel elsewhere.
struct Outlet<T: Item> {
    inbox: Netref<dyn Inbox>,
    packer: Packer<T>,
}

impl<T: Item> Outlet<T> {
    const fn new(inbox: Netref<dyn Inbox>) -> Self {
        Self {
            inbox,
            packer: Packer::new(),
        }
    }

    /// Sends a value. Waiting for room takes as long as it takes.
    fn send(&self, value: &T) -> impl Future<Output = Result<()>> + Send + use<'_, T> {
        let packed = self.packer.pack(value);
        let sent = packed.map(|value| self.inbox.call().send(value).timeout(Duration::MAX));
        async {
            let has_receiver = sent?.await?;
            self.packer.was_read();
            if has_receiver {
                Ok(())
            } else {
                Err(receiver_gone())
            }
        }
    }

    /// Waits until nobody receives any more, or the channel is out of reach.
    async fn closed(&self) {
        // An error says that it is out of reach.
        let _ = self.inbox.call().closed().timeout(Duration::MAX).await;
    }
}

impl<T: Item> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self {
            inbox: self.inbox.clone(),
            packer: self.packer.clone(),
        }
    }
}

/// What comes in by an inbox.
const SENT: &str = "what was sent to a channel";

/// Nobody receives any more: what was sent went nowhere.
fn receiver_gone() -> Error {
    let kind = ErrorKind::Disconnected(Certainty::NotExecuted);
    Error::new(kind, "nobody receives from this channel any more")
}

/// Nobody sends any more.
fn sender_gone() -> Error {
    let kind = ErrorKind::Disconnected(Certainty::Unknown);
    Error::new(kind, "whoever could send to this channel is gone")
}

/// An end that there is only one of is given away once.
fn is_gone() -> Error {
    Error::new(
        ErrorKind::Misuse,
        "this end of the channel was used or given away",
    )
}
