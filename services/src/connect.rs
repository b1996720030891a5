//! Connecting by address.

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::Role;
use farref_netref::{BoxFuture, Config, Connection, RemoteTrait, Root};
use farref_transport::{Address, Media};

use crate::dependable::dependable;
use crate::establish::{KeepOpen, establish};
use crate::protect::{Protection, Trust};
use crate::service::Share;

/// Connects to `address`: `unix:PATH`, `plain+tcp://HOST:PORT`, `mem:NAME`, …
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
        address: address.into_address(),
        root: Root::NONE,
        config: Config::default(),
        media: None,
        trust: None,
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
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address> {
        self.parse().map_err(|error: farref_transport::AddressError| {
            Error::new(ErrorKind::Address, error.to_string())
        })
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address> {
        self.as_str().into_address()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address> {
        self.as_str().into_address()
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

/// A connection about to be made. Await it.
#[must_use = "nothing is dialled before this is awaited"]
pub struct Connect {
    address: Result<Address>,
    root: Root,
    config: Config,
    media: Option<Media>,
    trust: Option<Trust>,
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

    async fn dial(self) -> Result<Connection> {
        let address = self.address?;
        let protection = Protection::of(&address, self.trust).await?;
        let media = protection.media(self.media.unwrap_or_else(Media::standard));
        let bare = protection.bare(&address);
        let carrier = media.dial(&bare).await.map_err(|error| {
            // In the words of the one who dialled.
            let why = std::error::Error::source(&error)
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            let text = format!("{error}{why}").replace(&bare.to_string(), &address.to_string());
            Error::new(dial_error_kind(&error), text)
        })?;
        let setup = self.config.setup_timeout;
        let connecting = async {
            // A little less than the setup may take: what is wrong with a line is told then.
            let (carrier, role) = dependable(carrier, Role::Dialer, Some(setup.mul_f32(0.8))).await?;
            let carrier = protection.apply(carrier, role, Some(&address)).await?;
            let newcomer = protection.check_answer(carrier.info(), &address).await?;
            let root = |_: &_| Ok(self.root);
            let connection = establish(carrier, (role, KeepOpen::No), root, self.config).await?;
            connection.established().await?;
            if let Some(newcomer) = newcomer {
                newcomer.remember().await?;
            }
            Ok(connection)
        };
        tokio::time::timeout(setup, connecting).await.unwrap_or_else(|_| {
            let text = format!("{address} did not introduce itself within {setup:?}");
            Err(Error::new(ErrorKind::Incompatible, text))
        })
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

fn dial_error_kind(error: &farref_transport::DialError) -> ErrorKind {
    use farref_transport::DialError as E;
    match error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::NotEncrypted { .. } => ErrorKind::Address,
        E::WrongKey { .. } | E::Untrusted { .. } => ErrorKind::Denied,
        _ => ErrorKind::Carrier,
    }
}
