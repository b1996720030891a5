//! What stands in for `protect` in a build without keys: nothing is encrypted, and what asks for it is refused by
//! the media.

use farref_boxing::Result;
use farref_framing::Role;
use farref_netref::{Peer, Root};
use farref_transport::{Address, Carrier, CarrierInfo, Media};

use crate::service::Service;
use crate::source::Visitor;

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Trust {}

/// Nothing is asked of a peer.
#[derive(Clone)]
pub(crate) struct Admitted;

/// There are no rights to be withdrawn.
pub(crate) const fn may_keep(_: &Admitted, _: &Admitted) -> bool {
    true
}

/// No carrier is protected.
#[derive(Debug, Clone)]
pub(crate) struct Protection;

/// A build without keys remembers nobody.
pub(crate) enum Newcomer {}

impl Newcomer {
    pub(crate) async fn remember(self) -> Result<()> {
        match self {}
    }
}

#[allow(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    clippy::unused_async,
    reason = "as in `protect`, whichever of them the compiler minds"
)]
impl Protection {
    pub(crate) async fn of(_: &Address, _: Option<Trust>) -> Result<Self> {
        Ok(Self)
    }

    #[cfg(all(unix, feature = "activation"))]
    pub(crate) const fn none() -> Self {
        Self
    }

    pub(crate) fn bare(&self, address: &Address) -> Address {
        address.clone()
    }

    pub(crate) fn full(&self, bare: Address) -> Address {
        bare
    }

    pub(crate) fn media(&self, media: Media) -> Media {
        media
    }

    pub(crate) async fn apply(&self, carrier: Carrier, _: Role, _: Option<&Address>) -> Result<Carrier> {
        Ok(carrier)
    }

    pub(crate) async fn check_answer(&self, _: &CarrierInfo, _: &Address) -> Result<Option<Newcomer>> {
        Ok(None)
    }

    pub(crate) async fn admit(&self, _: &Visitor) -> Result<Admitted> {
        Ok(Admitted)
    }

    pub(crate) fn root(&self, service: &dyn Service, peer: &Peer, _: &Admitted) -> Result<Root> {
        service.root(peer)
    }
}
