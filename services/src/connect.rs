//! Connecting by address.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::{BoxFuture, Config, Connection, Reconnecting, RemoteTrait, Root};
use farref_transport::{Address, Media};

use crate::dial::{Anew, Dialler, Way};
use crate::names::{self, Names};
use crate::protect::Trust;
use crate::service::Share;

/// Connects to `address`: `unix:PATH`, `plain+tcp://HOST:PORT`, `mem:NAME`, … or a name, which is looked up: `lab7`; see
/// [`names`]. A peer in Python is at `rpyc://HOST`, see [`address`](farref_transport::address).
///
/// Awaiting it gives the [`Connection`]; the methods of [`Connect`] come before.
///
/// ```no_run
/// # extern crate farref_netref as farref;
/// # use farref_services::connect;
/// # use farref::{Netref, Result, remote};
/// # #[remote] trait Bench { fn voltage(&self, channel: u8) -> Result<f64>; }
/// # async fn example() -> Result<()> {
/// let bench: Netref<dyn Bench> = connect("unix:/run/bench.sock").await?.root().await?;
/// println!("{} V", bench.call().voltage(3).await?);
/// # Ok(())
/// # }
/// ```
pub fn connect(address: impl IntoAddress) -> Connect {
    Connect {
        address: address.into_destination(),
        root: Root::NONE,
        config: Config::default(),
        media: None,
        trust: None,
        names: None,
        others: Vec::new(),
    }
}

/// Something that names an address: text, or an [`Address`].
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    ///
    /// The text is none; the error names the position and the nearest valid form.
    fn into_address(self) -> Result<Address>;

    /// The address, or a name that is to be looked up.
    ///
    /// # Errors
    ///
    /// The text is neither; the error names the position and the nearest address.
    fn into_destination(self) -> Result<Destination>
    where
        Self: Sized,
    {
        self.into_address().map(Destination::Address)
    }
}

/// Where a connection is to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "what is no address is looked up as a name"
)]
pub enum Destination {
    /// To an address.
    Address(Address),
    /// To wherever a name leads: see [`names`].
    Name(String),
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address> {
        self.parse().map_err(|error: farref_transport::AddressError| {
            Error::new(ErrorKind::Address, format!("`{self}` is no address: {error}"))
        })
    }

    fn into_destination(self) -> Result<Destination> {
        if names::is_name(self) {
            return Ok(Destination::Name(self.to_owned()));
        }
        self.into_address().map(Destination::Address)
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address> {
        self.as_str().into_address()
    }

    fn into_destination(self) -> Result<Destination> {
        self.as_str().into_destination()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address> {
        self.as_str().into_address()
    }

    fn into_destination(self) -> Result<Destination> {
        self.as_str().into_destination()
    }
}

impl IntoAddress for Address {
    fn into_address(self) -> Result<Address> {
        Ok(self)
    }
}

impl IntoAddress for &Address {
    fn into_address(self) -> Result<Address> {
        Ok(self.clone())
    }
}

/// How long a peer is waited for that is started anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// For how long without a connection. Default for ever.
    pub give_up_after: Option<Duration>,
}

impl Reconnect {
    /// Gives up after that time without a connection.
    #[must_use]
    pub const fn give_up_after(patience: Duration) -> Self {
        Self {
            give_up_after: Some(patience),
        }
    }
}

/// A connection about to be made. Await it.
#[must_use = "nothing is dialled before this is awaited"]
pub struct Connect {
    address: Result<Destination>,
    root: Root,
    config: Config,
    media: Option<Media>,
    trust: Option<Trust>,
    names: Option<Names>,
    others: Vec<Result<Destination>>,
}

impl Connect {
    /// Shows `object` to the peer as the root of this side: both ends may call from the start.
    pub fn serving<T: ?Sized + RemoteTrait>(mut self, object: impl Share<T>) -> Self {
        self.root = Root::of(&object.share());
        self
    }

    /// Sets how long a call may take that does not say otherwise. Default: for ever.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.config.call_timeout = Some(timeout);
        self
    }

    /// Uses these settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Uses these media instead of the standard ones.
    pub fn media(mut self, media: Media) -> Self {
        self.media = Some(media);
        self
    }

    /// Proves and demands this, where the address asks for encryption. Default: by the files of the user, see
    /// [`keys`](crate::keys).
    #[cfg(feature = "noise")]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Asks these for names. Default: [`Names::of_user`].
    pub fn names(mut self, names: Names) -> Self {
        self.names = Some(names);
        self
    }

    /// Another address of the same peer, or a name: tried when the first does not answer or is a name that is not known, and
    /// when a carrier is lost.
    pub fn also_at(mut self, address: impl IntoAddress) -> Self {
        self.others.push(address.into_destination());
        self
    }

    /// Connects, and connects again whenever the connection is over: the peer may be started anew. See
    /// [`Reconnecting`] for what lasts.
    ///
    /// ```no_run
    /// # extern crate farref_netref as farref;
    /// # use farref_services::{Reconnect, connect};
    /// # use farref::{Netref, Result, remote};
    /// # #[remote] trait Bench { fn voltage(&self, channel: u8) -> Result<f64>; }
    /// # async fn example() -> Result<()> {
    /// let peer = connect("tcp://bench.lab").reconnecting(Reconnect::default()).await?;
    /// let bench: Netref<dyn Bench> = peer.root()?;
    /// // Waits while the bench is started anew.
    /// println!("{} V", bench.call().voltage(3).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The first connection cannot be made, or its peer shows no root.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future hangs up.
    pub async fn reconnecting(self, policy: Reconnect) -> Result<Reconnecting> {
        let config = self.config.clone();
        let root = self.root.clone();
        let dialler = self.dialler().await?;
        let connection = dialler.connect(&root).await?;
        let anew = Arc::new(Anew { dialler, root });
        Reconnecting::new(connection, anew, policy.give_up_after, config).await
    }

    async fn dial(self) -> Result<Connection> {
        let root = self.root.clone();
        self.dialler().await?.connect(&root).await
    }

    async fn dialler(self) -> Result<Arc<Dialler>> {
        let mut ways = Vec::new();
        let mut unknown = None;
        for destination in std::iter::once(self.address).chain(self.others) {
            let found = match destination? {
                Destination::Address(address) => Ok(vec![address]),
                Destination::Name(name) => {
                    let names = self.names.clone().unwrap_or_else(Names::of_user);
                    names.resolve(&name).await
                }
            };
            match found {
                Ok(addresses) => {
                    for address in addresses {
                        ways.push(Way::new(address, self.trust.clone(), self.media.clone()).await?);
                    }
                }
                // As an address that does not answer: there may be others.
                Err(error) => {
                    tracing::debug!(%error, "a name leads nowhere");
                    unknown.get_or_insert(error);
                }
            }
        }
        match unknown {
            Some(error) if ways.is_empty() => Err(error),
            _ => Ok(Arc::new(Dialler {
                ways,
                config: self.config,
            })),
        }
    }
}

impl IntoFuture for Connect {
    type Output = Result<Connection>;
    type IntoFuture = BoxFuture<'static, Result<Connection>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.dial())
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("address", &self.address)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "no port at byte 10" did not say of what.
    #[test]
    fn what_is_no_address_is_quoted() {
        let error = "tcp://rig7".into_address().unwrap_err().to_string();
        assert!(
            error.starts_with("`tcp://rig7` is no address: no port at byte 10: "),
            "{error}"
        );
    }
}
