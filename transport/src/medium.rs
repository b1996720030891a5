//! Dialling and listening by scheme.
//!
//! Knows which medium serves which address scheme, and asks it. What an address means is the
//! medium's own business.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::address::{Address, Dialect, Security};
use crate::carrier::{BoxFuture, Carrier};
use crate::error::{Absence, AcceptError, DialError, ListenError};
use crate::memory::Memory;

/// A medium: dials and listens at the addresses of its schemes.
///
/// The addresses it gets have one of its schemes, and no security prefix but `plain`. What is spoken over its carriers
/// ([`Address::dialect`]) is not its affair.
pub trait Transport: Send + Sync + 'static {
    /// The schemes it serves, in lower case. Schemes of your own start with `x-`.
    fn schemes(&self) -> &'static [&'static str];

    /// Opens a carrier to `address`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt; nothing stays open.
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>>;

    /// Starts to listen at `address`. Carriers may come in from the moment this is done.
    ///
    /// # Cancel safety
    ///
    /// As for [`dial`](Self::dial).
    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>>;
}

/// Takes in carriers at one address, until it is dropped.
pub trait Listener: Send + 'static {
    /// Waits for the next carrier. Handed out before a byte has passed: a silent peer holds nobody up.
    ///
    /// After an error that [is transient](AcceptError::is_transient) the listener goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no carrier: the next call gets it.
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>>;

    /// Where to dial to reach this listener. A port that was left to the system is the real one here;
    /// "every address of this host" is handed out as it is.
    fn local_addresses(&self) -> Vec<Address>;
}

/// The media that a program can use, by scheme.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use farref_transport::{Address, Media};
///
/// let media = Media::standard();
/// let address: Address = "mem:bench".parse()?;
/// let mut listener = media.listen(&address).await?;
/// let dialled = media.dial(&address).await?;
/// let accepted = listener.accept().await?;
/// # drop((dialled, accepted));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Media {
    by_scheme: BTreeMap<&'static str, Arc<dyn Transport>>,
}

impl Media {
    /// No media at all, to be added by [`with`](Self::with).
    #[must_use]
    pub const fn none() -> Self {
        Self {
            by_scheme: BTreeMap::new(),
        }
    }

    /// Every medium of this build that needs no key: `mem`, and the others by the features of their names.
    #[must_use]
    pub fn standard() -> Self {
        let media = Self::none().with(Memory::of_process());
        #[cfg(feature = "tcp")]
        let media = media.with(crate::tcp::Tcp::new());
        #[cfg(feature = "tls")]
        let media = media.with(crate::tls::Tls::new());
        #[cfg(all(unix, feature = "stdio"))]
        let media = media.with(crate::stdio::Stdio::new());
        #[cfg(all(unix, feature = "exec"))]
        let media = media.with(crate::exec::Exec::new());
        #[cfg(all(unix, feature = "ssh"))]
        let media = media.with(crate::ssh::Ssh::new());
        #[cfg(all(unix, feature = "unix"))]
        let media = media.with(crate::unix::Unix::new());
        #[cfg(all(unix, feature = "serial"))]
        let media = media.with(crate::serial::Serial::new());
        media
    }

    /// These media and `transport`, which replaces what served its schemes before.
    #[must_use]
    pub fn with(mut self, transport: impl Transport) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(transport);
        for scheme in transport.schemes() {
            self.by_scheme.insert(scheme, Arc::clone(&transport));
        }
        self
    }

    /// The schemes that can be dialled, in order.
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> {
        self.by_scheme.keys().copied()
    }

    /// Opens a carrier to `address`.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](DialError::Unsupported) if no medium serves the scheme,
    /// [`NotEncrypted`](DialError::NotEncrypted) if the address asks for encryption; otherwise what
    /// the medium says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn dial(&self, address: &Address) -> Result<Carrier, DialError> {
        match self.serving(address) {
            Ok(transport) => transport.dial(address).await,
            Err(Refusal::Absent(absence)) => Err(DialError::Unsupported {
                address: Box::new(address.clone()),
                absence,
            }),
            Err(Refusal::NotEncrypted) => Err(DialError::NotEncrypted {
                address: Box::new(address.clone()),
            }),
        }
    }

    /// Starts to listen at `address`.
    ///
    /// # Errors
    ///
    /// As for [`dial`](Self::dial).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn listen(&self, address: &Address) -> Result<Box<dyn Listener>, ListenError> {
        match self.serving(address) {
            Ok(transport) => transport.listen(address).await,
            Err(Refusal::Absent(absence)) => Err(ListenError::Unsupported {
                address: Box::new(address.clone()),
                absence,
            }),
            Err(Refusal::NotEncrypted) => Err(ListenError::NotEncrypted {
                address: Box::new(address.clone()),
            }),
        }
    }

    /// The medium for `address`. Encryption sits above the carrier, so whatever asks for it is refused
    /// here, for every medium at once: whoever encrypts asks for the bare address.
    fn serving(&self, address: &Address) -> Result<&dyn Transport, Refusal> {
        let scheme = address.scheme();
        let transport = self
            .by_scheme
            .get(scheme)
            .ok_or(Refusal::Absent(Absence::of(scheme)))?;
        let is_keyed = address.peer_key().is_some() && scheme != "quic";
        let asked = address.security() == Some(Security::Noise) || is_keyed;
        let is_native = address.dialect() == Dialect::Native;
        let implied = is_native && address.security().is_none() && scheme == "tcp";
        if asked || implied {
            Err(Refusal::NotEncrypted)
        } else {
            Ok(&**transport)
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Self::standard()
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.schemes()).finish()
    }
}

/// Why no medium may be asked.
enum Refusal {
    Absent(Absence),
    NotEncrypted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_asks_for_encryption_is_told_how_to_go_on() {
        let media = Media::standard();
        let key = "ed25519.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let keyed = format!("mem:x#{key}");
        let mut asking = vec!["noise+mem:x", keyed.as_str()];
        if cfg!(feature = "tcp") {
            asking.extend(["tcp://rig7:7000", "noise+tcp://rig7:7000"]);
        }
        for text in asking {
            let address = address(text);
            let dialled = block_on(media.dial(&address)).unwrap_err();
            assert!(
                matches!(dialled, DialError::NotEncrypted { .. }),
                "{text}: {dialled}"
            );
            let listened = block_on(media.listen(&address)).err().unwrap();
            assert!(
                matches!(listened, ListenError::NotEncrypted { .. }),
                "{text}: {listened}"
            );
        }
    }

    #[cfg(feature = "tcp")]
    #[test]
    fn tcp_without_plain_names_both_ways_out() {
        let error = block_on(Media::standard().dial(&address("tcp://rig7:7000?lowat=4096"))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`plain+tcp://rig7:7000?lowat=4096`"), "{text}");
        assert!(
            text.contains("`plain+tcp://HOST:PORT`") && text.contains("`unix:PATH`"),
            "{text}"
        );
    }

    #[test]
    fn a_medium_that_is_not_there_is_named() {
        let media = Media::none();
        let all = [
            "quic://h:1",
            "serial:COM3",
            "stdio:",
            "exec:/bin/cat",
            "ssh://h",
            "unix:/x",
            "mem:x",
            "x-own:1",
        ];
        for text in all {
            let address = address(text);
            let scheme = format!("`{}`", address.scheme());
            let dialled = block_on(media.dial(&address)).unwrap_err();
            assert!(
                matches!(dialled, DialError::Unsupported { .. }) && dialled.to_string().contains(&scheme)
            );
            let listened = block_on(media.listen(&address)).err().unwrap();
            assert!(
                matches!(listened, ListenError::Unsupported { .. }) && listened.to_string().contains(&scheme)
            );
        }
    }

    #[test]
    fn the_standard_media_are_those_of_the_build() {
        let built = [
            ("exec", cfg!(all(unix, feature = "exec"))),
            ("mem", true),
            ("serial", cfg!(all(unix, feature = "serial"))),
            ("ssh", cfg!(all(unix, feature = "ssh"))),
            ("ssl", cfg!(feature = "tls")),
            ("stdio", cfg!(all(unix, feature = "stdio"))),
            ("tcp", cfg!(feature = "tcp")),
            ("unix", cfg!(all(unix, feature = "unix"))),
        ];
        let expected: Vec<_> = built
            .into_iter()
            .filter_map(|(scheme, built)| built.then_some(scheme))
            .collect();
        assert_eq!(Media::standard().schemes().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_medium_of_ones_own_is_dialled_by_its_scheme() {
        struct Loop;
        impl Transport for Loop {
            fn schemes(&self) -> &'static [&'static str] {
                &["x-loop"]
            }
            fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
                Box::pin(async { Ok(crate::memory::pair(16).0.into()) })
            }
            fn listen<'a>(
                &'a self,
                at: &'a Address,
            ) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
                Box::pin(async {
                    Err(ListenError::Unsupported {
                        address: Box::new(at.clone()),
                        absence: Absence::DialOnly,
                    })
                })
            }
        }
        let media = Media::none().with(Loop);
        assert_eq!(
            block_on(media.dial(&address("x-loop:anything")))
                .unwrap()
                .info()
                .medium,
            "mem"
        );
        assert!(block_on(media.listen(&address("x-loop:anything"))).is_err());
    }
}
