//! For programs without a runtime: one runs behind the scenes, and every function here waits.
//!
//! ```no_run
//! # extern crate farref_netref as farref;
//! # use farref_services::blocking;
//! # use farref::{Netref, Result, remote};
//! # #[remote] trait Bench { fn voltage(&self, channel: u8) -> Result<f64>; }
//! # fn main() -> Result<()> {
//! let bench: Netref<dyn Bench> = blocking::connect("unix:/run/bench.sock")?.root()?;
//! println!("{} V", bench.voltage(3)?);
//! # Ok(())
//! # }
//! ```
//!
//! From within a runtime these functions do what [`place`](farref_netref::place) says: they wait where that harms
//! nobody, and are an error at once where it would.

use std::time::Duration;

use farref_boxing::{Error, Result};
use farref_netref::place::block_on;
use farref_netref::{Netref, Object, Reconnecting, RemoteTrait};

use crate::connect::{Connect, IntoAddress, Reconnect};
use crate::service::Share;

/// Connects to `address`, with default settings; see [`connect`](crate::connect()) for others.
///
/// # Errors
///
/// As for [`connect`](crate::connect()); [`WouldBlock`](farref_boxing::ErrorKind::WouldBlock) where this thread must
/// not wait.
pub fn connect(address: impl IntoAddress) -> Result<Connection> {
    wait_for(crate::connect(address))
}

/// Makes the connection that `connect` describes.
///
/// # Errors
///
/// As for [`connect`].
pub fn wait_for(connect: Connect) -> Result<Connection> {
    block_on(connect.into_future())?.map(Connection)
}

/// Makes the connection that `connect` describes, and makes it again whenever it is over.
///
/// # Errors
///
/// As for [`Connect::reconnecting`]; [`WouldBlock`](farref_boxing::ErrorKind::WouldBlock) where this thread must not wait.
pub fn reconnecting(connect: Connect, policy: Reconnect) -> Result<Reconnecting> {
    block_on(connect.reconnecting(policy))?
}

/// Shows `object` to everybody who connects to `address`, until the server is shut down elsewhere.
///
/// # Errors
///
/// As for [`serve`](crate::serve).
pub fn serve<T: ?Sized + RemoteTrait>(address: impl IntoAddress, object: impl Share<T>) -> Result<()> {
    block_on(crate::serve(address, object))?
}

/// A connection whose methods wait.
#[derive(Debug, Clone)]
pub struct Connection(farref_netref::Connection);

impl Connection {
    /// The object that the peer shows first.
    ///
    /// # Errors
    ///
    /// As for [`farref_netref::Connection::root`].
    pub fn root<T: ?Sized + RemoteTrait>(&self) -> Result<Netref<T>> {
        block_on(self.0.root())?
    }

    /// The object that the peer shows first, by name.
    ///
    /// # Errors
    ///
    /// As for [`farref_netref::Connection::object`].
    pub fn object(&self) -> Result<Object> {
        block_on(self.0.object())?
    }

    /// Asks the peer for a sign of life; the round trip.
    ///
    /// # Errors
    ///
    /// As for [`farref_netref::Connection::ping`].
    pub fn ping(&self) -> Result<Duration> {
        block_on(self.0.ping())?
    }

    /// Closes in order, and waits for it.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](farref_boxing::ErrorKind::WouldBlock) where this thread must not wait.
    pub fn close(&self) -> Result<()> {
        block_on(self.0.close())
    }

    /// Waits until the connection is over, and says why.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](farref_boxing::ErrorKind::WouldBlock) where this thread must not wait.
    pub fn closed(&self) -> Result<Error> {
        block_on(self.0.closed())
    }

    /// The same connection, for tasks.
    #[must_use]
    pub const fn as_async(&self) -> &farref_netref::Connection {
        &self.0
    }
}
