//! Where connections come from, to count them by.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use farref_transport::CarrierInfo;
use farref_transport::address::{Host, Target};

/// The address of a carrier's other end, if it has one on a network. Of IPv6 the first 64 bits: the rest is the
/// peer's to choose.
pub(crate) fn source(info: &CarrierInfo) -> Option<IpAddr> {
    Some(match source_exactly(info)? {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    })
}

/// The address of a carrier's other end, if it has one on a network.
pub(crate) fn source_exactly(info: &CarrierInfo) -> Option<IpAddr> {
    match info.remote.as_ref()?.target() {
        Target::Tcp { host, .. } | Target::Quic { host, .. } => match host {
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address, _) => Some(IpAddr::V6(*address).to_canonical()),
            Host::Name(_) => None,
        },
        _ => None,
    }
}

/// How many of something each source has.
#[derive(Debug, Default)]
pub(crate) struct PerSource(Arc<Mutex<HashMap<IpAddr, u64>>>);

/// One of them, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Counted {
    of: Arc<Mutex<HashMap<IpAddr, u64>>>,
    source: IpAddr,
}

impl PerSource {
    /// One more of `source`, unless it has `most` already.
    pub(crate) fn count(&self, source: IpAddr, most: u64) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= most.max(1) {
            return None;
        }
        *count += 1;
        Some(Counted {
            of: Arc::clone(&self.0),
            source,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_no_more_than_it_may_and_leaves_nothing_behind() {
        let per_source = PerSource::default();
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let counted: Vec<_> = (0..3).map(|_| per_source.count(one, 3).unwrap()).collect();
        assert!(per_source.count(one, 3).is_none());
        assert!(per_source.count(other, 3).is_some());
        drop(counted);
        assert!(per_source.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let info = |remote: &str| {
            let mut info = CarrierInfo::new("tcp");
            info.remote = Some(remote.parse().unwrap());
            source(&info)
        };
        assert_eq!(
            info("tcp://[2001:db8::1:2:3:4]:5"),
            Some("2001:db8::".parse().unwrap())
        );
        assert_eq!(info("tcp://[::ffff:10.0.0.1]:5"), Some([10, 0, 0, 1].into()));
        assert_eq!(info("tcp://10.0.0.1:5"), Some([10, 0, 0, 1].into()));
        assert_eq!(info("unix:/x"), None);
    }
}
