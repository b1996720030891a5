//! How a peer that speaks RPyC is dialled: nothing on the wire says which generation of RPyC it is of, and TCP has to be
//! told what Python does with it.

use std::sync::atomic::{AtomicU8, Ordering};

use farref_boxing::{Error, ErrorKind};
use farref_netref::rpyc::{Generation, OtherGeneration, Rpyc};
use farref_netref::{Config, Root};
use farref_transport::Address;

/// What is known of the RPyC at one address.
pub(crate) struct Manner {
    /// What the address says: then nothing else is tried.
    said: Option<Generation>,
    /// The number of the generation that the peer spoke last, or 0. It may be started anew with another RPyC.
    found: AtomicU8,
    binds_threads: bool,
}

impl Manner {
    pub(crate) fn of(address: &Address) -> Self {
        let said = address.option("generation").and_then(|text| match text {
            "5" => Some(Generation::Five),
            "6" => Some(Generation::Six),
            _ => None,
        });
        Self {
            said,
            found: AtomicU8::new(0),
            binds_threads: address.is_set("bind-threads"),
        }
    }

    /// The generation that is tried first.
    pub(crate) fn first(&self) -> Generation {
        let found = match self.found.load(Ordering::Relaxed) {
            5 => Generation::Five,
            _ => Generation::Six,
        };
        self.said.unwrap_or(found)
    }

    /// The generation that is to be tried after `tried` has failed, if that is why.
    pub(crate) fn second(&self, tried: Generation, error: &Error) -> Option<Generation> {
        let other = error.downcast_ref::<OtherGeneration>()?;
        let is_new = self.said.is_none() && other.speaks != tried;
        is_new.then_some(other.speaks)
    }

    /// The peer has answered in this generation.
    pub(crate) fn remember(&self, generation: Generation) {
        let number = match generation {
            Generation::Five => 5,
            Generation::Six => 6,
        };
        self.found.store(number, Ordering::Relaxed);
    }

    /// What speaks with the peer.
    pub(crate) fn speak(&self, root: Root, generation: Generation, config: &Config) -> Rpyc {
        let rpyc = Rpyc::dial(root, generation, config);
        if self.binds_threads {
            rpyc.binding_threads()
        } else {
            rpyc
        }
    }
}

/// The address as the medium is to use it, where it does not say otherwise.
///
/// Python sends what it has in small pieces, and the second waits until the first is acknowledged (it sets no
/// `TCP_NODELAY`), some 40 ms unless that is done at once. And nothing in RPyC shows that a silent peer has vanished: the
/// system asks.
pub(crate) fn bare(address: Address) -> Address {
    if !matches!(address.scheme(), "tcp" | "ssl") {
        return address;
    }
    let missing = OF_TCP
        .into_iter()
        .filter(|(name, _)| address.option(name).is_none());
    let missing: Vec<_> = missing.collect();
    missing.into_iter().fold(address, |address, (name, value)| {
        let as_it_is = address.clone();
        address.with_option(name, value).unwrap_or(as_it_is)
    })
}

/// Options of TCP that are meant for peers that speak RPyC.
const OF_TCP: [(&str, &str); 2] = [("quickack", "1"), ("keepalive", "60s")];

/// What there is to say where setting up fails so: neither the peer nor RPyC does.
pub(crate) fn suspicion(address: &Address, kind: ErrorKind) -> Option<&'static str> {
    match (kind, address.scheme()) {
        // With TLS 1.3 this is how it is told.
        (ErrorKind::Disconnected(_), "ssl") => Some(
            "the peer ended the connection before it showed anything: it may want a certificate of this side, by \
             `cert=FILE` and `key=FILE`, or speaks something else than RPyC",
        ),
        (ErrorKind::Disconnected(_), _) => Some(
            "the peer ended the connection before it showed anything: it lets nobody in from here, or speaks something \
             else than RPyC, or RPyC behind TLS (`rpyc+ssl`)",
        ),
        (ErrorKind::Malformed, "ssl") => Some("what answers there speaks something else than RPyC"),
        (ErrorKind::Malformed, _) => {
            Some("what answers there speaks something else than RPyC, or RPyC behind TLS (`rpyc+ssl`)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use farref_boxing::Certainty;

    use super::*;

    fn manner(address: &str) -> Manner {
        Manner::of(&address.parse().unwrap())
    }

    #[test]
    fn six_is_tried_first_and_then_what_was_found() {
        let found = manner("rpyc://h");
        assert_eq!(found.first(), Generation::Six);
        found.remember(Generation::Five);
        assert_eq!(found.first(), Generation::Five);
        found.remember(Generation::Six);
        assert_eq!(found.first(), Generation::Six);
    }

    #[test]
    fn tcp_is_acknowledged_at_once_and_asked_for_a_sign_of_life_unless_the_address_says_otherwise() {
        for (address, used) in [
            ("rpyc://h", "rpyc://h:18812?quickack=1&keepalive=60s"),
            ("rpyc://h?quickack=0", "rpyc://h:18812?quickack=0&keepalive=60s"),
            (
                "rpyc://h?keepalive=5s&quickack",
                "rpyc://h:18812?keepalive=5s&quickack=1",
            ),
            (
                "rpyc+ssl://h?ca=x",
                "rpyc+ssl://h:18821?ca=x&quickack=1&keepalive=60s",
            ),
            ("rpyc+unix:/x", "rpyc+unix:/x"),
        ] {
            assert_eq!(bare(address.parse().unwrap()).to_string(), used);
        }
    }

    #[test]
    fn a_peer_behind_tls_is_not_looked_for_there_but_may_want_a_certificate() {
        let told = |address: &str| {
            suspicion(
                &address.parse().unwrap(),
                ErrorKind::Disconnected(Certainty::Unknown),
            )
        };
        assert!(told("rpyc+ssl://h?ca=x").is_some_and(|told| told.contains("`cert=FILE`")));
        assert!(told("rpyc+ssl://h?ca=x").is_some_and(|told| !told.contains("`rpyc+ssl`")));
        assert!(told("rpyc://h").is_some_and(|told| told.contains("`rpyc+ssl`")));
    }

    #[test]
    fn what_the_address_says_is_all_that_is_tried() {
        let said = manner("rpyc://h?generation=5");
        said.remember(Generation::Six);
        assert_eq!(said.first(), Generation::Five);
        let error = Error::new(ErrorKind::Incompatible, "something else");
        assert_eq!(said.second(Generation::Five, &error), None);
        assert_eq!(manner("rpyc://h").second(Generation::Six, &error), None);
    }
}
