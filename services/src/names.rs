//! From a name to addresses: `connect("lab7")`.
//!
//! ```text
//!   "lab7" ── Names ──┬── HostsFile    ~/.config/farref/hosts: `lab7 tcp://10.0.0.7:7000#ed25519.… quic://…`
//!                     ├── Mdns         what programs announce on this network (feature `mdns`)
//!                     └── Resolver     a broker, a registry, a table of your own
//!                     ▼
//!            addresses, each with the key that is expected there where that is known; tried in turn
//! ```
//!
//! A name is what could be none of the addresses: letters, digits, `-`, `_` and dots between them, without a colon. It is
//! looked up when the connection is made; the first resolver that knows it decides.

mod hosts;
#[cfg(feature = "mdns")]
mod mdns;

use std::fmt;
use std::sync::Arc;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::BoxFuture;
use farref_transport::Address;

pub use hosts::HostsFile;
#[cfg(feature = "mdns")]
pub use mdns::{Announcement, Mdns, announce};

/// Longest name, in bytes: that of a DNS name.
const LONGEST: usize = 253;

/// Tells where a name leads.
pub trait Resolver: Send + Sync + 'static {
    /// Where to dial for `name`, the best first; nothing if it is not known here.
    ///
    /// An address with a key is dialled for that key alone, whatever `known_peers` says: only a source that can be trusted
    /// gives one.
    ///
    /// # Errors
    ///
    /// It cannot be told, as the source is broken: nobody else is asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Address>>>;

    /// Where it looks, for whoever asks about a name that is not known: `~/.config/farref/hosts`.
    fn place(&self) -> String;
}

/// Who is asked for names, in turn.
#[derive(Clone, Default)]
pub struct Names(Vec<Arc<dyn Resolver>>);

impl Names {
    /// Nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The file `hosts` of the user, and then the network, in a build with the feature `mdns`.
    #[must_use]
    pub fn of_user() -> Self {
        let names = Self::none().with(HostsFile::of_user());
        #[cfg(feature = "mdns")]
        let names = names.with(Mdns::of_user());
        names
    }

    /// These and then `resolver`.
    #[must_use]
    pub fn with(mut self, resolver: impl Resolver) -> Self {
        self.0.push(Arc::new(resolver));
        self
    }

    /// Where to dial for `name`: at least one address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] if nobody knows it; otherwise what a resolver says.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn resolve(&self, name: &str) -> Result<Vec<Address>> {
        for resolver in &self.0 {
            let found = resolver.resolve(name).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let places: Vec<String> = self.0.iter().map(|resolver| resolver.place()).collect();
        let looked = match &places[..] {
            [] => "there is nowhere to look it up".to_owned(),
            places => format!("it was looked for in {}", places.join(", and ")),
        };
        let text =
            format!("nobody knows the name `{name}`: {looked}. An address has a scheme: `tcp://{name}:7000`");
        Err(Error::new(ErrorKind::Address, text))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.0.iter().map(|resolver| resolver.place());
        f.debug_list().entries(places).finish()
    }
}

/// Whether `text` is a name, and not an address.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= LONGEST && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(&'static str);

    impl Resolver for Table {
        fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Address>>> {
            let found = match name {
                "both" => Ok(vec![Address::memory(self.0).unwrap()]),
                "broken" => Err(Error::msg("the table is broken")),
                name if name == self.0 => Ok(vec![Address::memory("own").unwrap()]),
                _ => Ok(Vec::new()),
            };
            Box::pin(std::future::ready(found))
        }

        fn place(&self) -> String {
            format!("the table {}", self.0)
        }
    }

    #[test]
    fn a_name_is_no_address() {
        for name in ["lab7", "Bench-2", "a.b.example", "x_y", "7"] {
            assert!(is_name(name), "{name}");
            assert!(name.parse::<Address>().is_err(), "{name}");
        }
        let long = "a".repeat(254);
        for other in [
            "", "a:b", "mem:x", "a/b", ".", "a..b", "a.", "-a", "a b", "ä", "*", &long,
        ] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[tokio::test]
    async fn the_first_who_knows_a_name_decides() {
        let names = Names::none().with(Table("first")).with(Table("second"));
        let resolve = async |name| {
            let found = names.resolve(name).await?;
            Ok::<_, Error>(found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(resolve("both").await.unwrap(), ["mem:first"]);
        assert_eq!(resolve("second").await.unwrap(), ["mem:own"]);
        assert_eq!(
            resolve("broken").await.unwrap_err().message(),
            "the table is broken"
        );
        let error = resolve("third").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address);
        assert!(
            error.message().contains("the table first, and the table second"),
            "{error}"
        );
    }
}
