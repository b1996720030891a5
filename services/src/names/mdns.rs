//! Names that programs announce on the local network: multicast DNS (RFC 6762) and service discovery (RFC 6763).
//!
//! | | |
//! |---|---|
//! | service type | `_farref._tcp.local.` for `tcp`, `_farref._udp.local.` for `quic` |
//! | instance | the name |
//! | `key=` in the text record | the key of the announcer, as in an address |
//!
//! Anybody on the network can announce anything. So a name tells where to dial and never whom to believe: an announced key is
//! expected only if `known_peers` has it already, and otherwise the address is dialled as one that was typed in. What is not
//! encrypted is neither announced nor found.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::BoxFuture;
use farref_transport::address::{Host, Target};
use farref_transport::{Address, Dialect};
use mdns_sd::{ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, timeout_at};

use super::{Resolver, is_name};

/// How long a name is looked for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long others are waited for when one address was found.
const GRACE: Duration = Duration::from_millis(150);

/// Most addresses that a name leads to: as many as a machine has, with some to spare. Anybody can announce any number.
const MOST: usize = 16;

/// The port of multicast DNS.
const PORT: u16 = 5353;

/// The schemes that are announced, and the service type of each.
const TYPES: [(&str, &str); 2] = [("tcp", "_farref._tcp.local."), ("quic", "_farref._udp.local.")];

/// Looks names up on the local network.
#[derive(Clone)]
pub struct Mdns {
    port: u16,
    #[cfg(feature = "noise")]
    known: Option<crate::keys::KnownPeers>,
}

impl Mdns {
    /// Believes the keys that the user's `known_peers` has.
    #[must_use]
    pub fn of_user() -> Self {
        Self {
            port: PORT,
            #[cfg(feature = "noise")]
            known: crate::keys::KeyStore::of_user()
                .ok()
                .map(|store| store.known_peers(crate::keys::Policy::Strict)),
        }
    }

    /// Believes the keys that are known there.
    #[cfg(feature = "noise")]
    #[must_use]
    pub fn believing(mut self, known: crate::keys::KnownPeers) -> Self {
        self.known = Some(known);
        self
    }

    /// Uses another port than 5353: for a network of one's own, and for tests.
    #[must_use]
    pub const fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Announces that the listener at `address` goes by `name`, for as long as what comes back is kept: see [`announce`].
    ///
    /// # Errors
    ///
    /// As for [`announce`].
    pub fn announce(&self, name: &str, address: &Address) -> Result<Announcement> {
        let misuse = |text: String| Err(Error::new(ErrorKind::Misuse, text));
        if !is_name(name) || name.contains('.') {
            return misuse(format!(
                "`{name}` cannot be announced: letters, digits, `-` and `_` make a name"
            ));
        }
        let ty = TYPES.iter().find(|(scheme, _)| *scheme == address.scheme());
        let (Some((_, ty)), None, Dialect::Native) = (ty, address.security(), address.dialect()) else {
            return misuse(format!(
                "`{address}` cannot be announced: only tcp:// and quic:// are, which are encrypted and prove keys"
            ));
        };
        let (Target::Tcp { host, port } | Target::Quic { host, port }) = address.target() else {
            return misuse(format!("`{address}` cannot be announced: it has no port"));
        };
        let key = address.peer_key().map(|key| ("key", key.to_string()));
        let properties: Vec<_> = key.into_iter().collect();
        let is_everywhere = match host {
            Host::V4(address) => address.is_unspecified(),
            Host::V6(address, _) => address.is_unspecified(),
            Host::Name(_) => true,
        };
        let at = match host {
            _ if is_everywhere => String::new(),
            Host::V4(address) => address.to_string(),
            Host::V6(address, _) => address.to_string(),
            Host::Name(_) => String::new(),
        };
        let info = ServiceInfo::new(
            ty,
            name,
            &format!("{name}.local."),
            at.as_str(),
            *port,
            &properties[..],
        );
        let info = info.map_err(broken)?;
        let info = if is_everywhere {
            info.enable_addr_auto()
        } else {
            info
        };
        let fullname = info.get_fullname().to_owned();
        let daemon = daemon(self.port)?;
        daemon.register(info).map_err(broken)?;
        Ok(Announcement { daemon, fullname })
    }

    async fn find(&self, name: &str) -> Result<Vec<Address>> {
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        // Who stops looking for a type of services stops all who do.
        let _turn = TURN.lock().await;
        let daemon = daemon(self.port)?;
        let mut found = Found::default();
        let mut until = Instant::now() + PATIENCE;
        let browsing = Browsing::new(&daemon)?;
        // Cancel-safe: browsing ends when it is dropped.
        while let Ok(Some((scheme, service))) = timeout_at(until, browsing.next()).await {
            if !is_called(&service, name) {
                continue;
            }
            for address in self.addresses(scheme, &service) {
                if found.0.is_empty() {
                    until = until.min(Instant::now() + GRACE);
                }
                found.insert(address);
            }
        }
        Ok(found.0.into_values().collect())
    }

    /// Where a service is, as far as that can be dialled.
    fn addresses(&self, scheme: &str, service: &ResolvedService) -> Vec<Address> {
        let announced = service.txt_properties.get_property_val_str("key");
        let key = announced
            .and_then(|key| key.parse().ok())
            .filter(|key| self.is_known(key));
        let address = |ip: &ScopedIp| {
            let host = match ip.to_ip_addr() {
                IpAddr::V4(ip) => ip.to_string(),
                // Without the interface it leads nowhere.
                IpAddr::V6(ip) if ip.is_unicast_link_local() => return None,
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let address: Address = format!("{scheme}://{host}:{}", service.port).parse().ok()?;
            Some(match key {
                Some(key) => address.with_peer_key(key),
                None => address,
            })
        };
        service.addresses.iter().filter_map(address).collect()
    }

    #[cfg(feature = "noise")]
    fn is_known(&self, key: &farref_transport::address::PeerKey) -> bool {
        let listed = self.known.as_ref().and_then(|known| known.list().ok());
        let listed = listed.unwrap_or_default();
        let mut lines = listed.iter().filter(|line| line.key == *key).peekable();
        lines.peek().is_some() && lines.all(|line| !line.pattern.starts_with('@'))
    }

    #[cfg(not(feature = "noise"))]
    #[expect(clippy::unused_self, reason = "with keys, it looks them up")]
    const fn is_known(&self, _key: &farref_transport::address::PeerKey) -> bool {
        false
    }
}

/// Where a name leads, as far as was announced: [`MOST`] addresses at most. Those whose key is known push the others out.
#[derive(Default)]
struct Found(BTreeMap<String, Address>);

impl Found {
    fn insert(&mut self, address: Address) {
        let text = address.to_string();
        if self.0.len() >= MOST && !self.0.contains_key(&text) {
            let is_unknown = |address: &Address| address.peer_key().is_none();
            let unknown = self.0.iter().find(|(_, address)| is_unknown(address));
            let Some((unknown, false)) = unknown.map(|(text, _)| (text.clone(), is_unknown(&address))) else {
                return;
            };
            self.0.remove(&unknown);
        }
        self.0.insert(text, address);
    }
}

impl Resolver for Mdns {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Address>>> {
        if name.contains('.') {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        Box::pin(async move {
            // A machine without a network has no names on it: no reason to fail otherwise than by not finding.
            self.find(name).await.or_else(|error| {
                tracing::debug!(%error, "no names on the local network");
                Ok(Vec::new())
            })
        })
    }

    fn place(&self) -> String {
        "the announcements on the local network".to_owned()
    }
}

impl fmt::Debug for Mdns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mdns")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Announces on the local network that the listener at `address` goes by `name`, for as long as what comes back is kept.
/// `address` is what [`Server::listen`](crate::Server::listen) gives.
///
/// # Errors
///
/// [`ErrorKind::Misuse`] if it is no name, or the address is not one of an encrypted network medium;
/// [`ErrorKind::Carrier`] if the network does not let it.
pub fn announce(name: &str, address: &Address) -> Result<Announcement> {
    Mdns::of_user().announce(name, address)
}

/// A name that is announced until this is dropped.
#[must_use = "it is announced for as long as this is kept"]
pub struct Announcement {
    daemon: ServiceDaemon,
    fullname: String,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Whoever asks is told by the daemon, which goes on without us; nobody waits for that here.
        let _ = self.daemon.unregister(&self.fullname);
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Announcement").field(&self.fullname).finish()
    }
}

/// Both types being looked for.
struct Browsing {
    daemon: ServiceDaemon,
    events: Vec<(&'static str, mdns_sd::Receiver<ServiceEvent>)>,
}

impl Browsing {
    fn new(daemon: &ServiceDaemon) -> Result<Self> {
        let mut events = Vec::new();
        for (scheme, ty) in TYPES {
            events.push((scheme, daemon.browse(ty).map_err(broken)?));
        }
        let daemon = daemon.clone();
        Ok(Self { daemon, events })
    }

    /// The next service that is known with all that belongs to it; `None` if nothing can come any more.
    async fn next(&self) -> Option<(&'static str, Box<ResolvedService>)> {
        let [(tcp, of_tcp), (quic, of_quic)] = &self.events[..] else {
            return None;
        };
        loop {
            // Cancel-safe: an event is taken when it is there.
            let (scheme, event) = tokio::select! {
                event = of_tcp.recv_async() => (*tcp, event),
                event = of_quic.recv_async() => (*quic, event),
            };
            match event {
                Ok(ServiceEvent::ServiceResolved(service)) if service.is_valid() => {
                    return Some((scheme, service));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Browsing {
    fn drop(&mut self) {
        for (_, ty) in TYPES {
            // It has ended by itself if this fails.
            let _ = self.daemon.stop_browse(ty);
        }
    }
}

/// Whether a service has that name. In DNS, letters in either case are the same.
fn is_called(service: &ResolvedService, name: &str) -> bool {
    let instance = service.fullname.strip_suffix(&service.ty_domain);
    let instance = instance.and_then(|instance| instance.strip_suffix('.'));
    instance.is_some_and(|instance| instance.eq_ignore_ascii_case(name))
}

/// The thread that speaks with the network on that port: one for the process, started when it is first needed.
fn daemon(port: u16) -> Result<ServiceDaemon> {
    static DAEMONS: OnceLock<Mutex<BTreeMap<u16, ServiceDaemon>>> = OnceLock::new();
    let mut daemons = DAEMONS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(daemon) = daemons.get(&port) {
        return Ok(daemon.clone());
    }
    let daemon = ServiceDaemon::new_with_port(port).map_err(broken)?;
    daemons.insert(port, daemon.clone());
    Ok(daemon)
}

fn broken(error: mdns_sd::Error) -> Error {
    Error::new(ErrorKind::Carrier, format!("names on the local network: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as were announced were kept, and dialled all at once.
    #[test]
    fn a_name_that_is_announced_everywhere_leads_to_a_few_addresses_and_to_those_that_are_known() {
        let mut found = Found::default();
        let announced = |number: usize| -> Address { format!("tcp://10.0.0.{number}:7000").parse().unwrap() };
        for number in 0..100 {
            found.insert(announced(number));
            found.insert(announced(0));
        }
        assert_eq!(found.0.len(), MOST);
        let key = |number: u8| -> farref_transport::address::PeerKey {
            farref_transport::address::PeerKey::new([number; 32])
        };
        for number in 100..200 {
            found.insert(announced(number).with_peer_key(key(7)));
            found.insert(announced(0));
        }
        assert_eq!(found.0.len(), MOST);
        assert!(found.0.values().all(|address| address.peer_key().is_some()));
    }
}
