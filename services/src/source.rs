//! Where connections come from.

use std::net::IpAddr;

use farref_transport::address::{Host, PeerKey, Target};
use farref_transport::{CarrierInfo, PeerEvidence};

/// The address of a carrier's other end, if it has one on a network.
pub(crate) fn source(info: &CarrierInfo) -> Option<IpAddr> {
    match info.remote.as_ref()?.target() {
        Target::Tcp { host, .. } | Target::Ssl { host, .. } | Target::Quic { host, .. } => match host {
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address, _) => Some(IpAddr::V6(*address).to_canonical()),
            Host::Name(_) => None,
        },
        _ => None,
    }
}

/// The key that the other end of a carrier has proved.
pub(crate) const fn key_of(info: &CarrierInfo) -> Option<PeerKey> {
    match info.peer {
        PeerEvidence::Key(key) => Some(PeerKey::new(key)),
        _ => None,
    }
}

/// Who is at the other end of a carrier, as far as that says whether it is let in.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "noise"),
    expect(dead_code, reason = "without keys nobody asks")
)]
pub(crate) struct Visitor {
    pub(crate) key: Option<PeerKey>,
    pub(crate) source: Option<IpAddr>,
}

impl Visitor {
    pub(crate) fn of(info: &CarrierInfo) -> Self {
        Self {
            key: key_of(info),
            source: source(info),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_by_a_network_has_an_address() {
        let info = |remote: &str| {
            let mut info = CarrierInfo::new("tcp");
            info.remote = Some(remote.parse().unwrap());
            source(&info)
        };
        assert_eq!(
            info("tcp://[2001:db8::1]:5"),
            Some("2001:db8::1".parse().unwrap())
        );
        assert_eq!(info("tcp://[::ffff:10.0.0.1]:5"), Some([10, 0, 0, 1].into()));
        for address in ["quic://10.0.0.1:5", "ssl://10.0.0.1:5", "rpyc+ssl://10.0.0.1:5"] {
            assert_eq!(info(address), Some([10, 0, 0, 1].into()), "{address}");
        }
        assert_eq!(info("unix:/x"), None);
    }
}
