//! Services: what a peer gets to see, decided by who it is.

use farref_boxing::{Error, Result};
use farref_netref::{Connection, Netref, Peer, RemoteTrait, Root, Wrap};

/// Decides what each peer gets to see.
///
/// A service hands out roots; what can be reached from a root is what its methods return. Nothing else of the
/// process is exposed.
pub trait Service: Send + Sync + 'static {
    /// The root object for `peer`, before anything of it was read.
    ///
    /// # Errors
    ///
    /// The peer is not let in: it is disconnected.
    fn root(&self, peer: &Peer) -> Result<Root>;

    /// The root object for `peer`, whose key is authorised with these options.
    ///
    /// By default [`root`](Self::root) where there are no options that a service must mind; with some, nobody is let in:
    /// a service that does not know them would grant too much.
    ///
    /// # Errors
    ///
    /// The peer is not let in: it is disconnected.
    #[cfg(feature = "noise")]
    fn granted(&self, peer: &Peer, grant: &crate::keys::Grant) -> Result<Root> {
        if grant.is_read_only || !grant.services.is_empty() {
            let text = "the options of this peer's key are not known to the service";
            return Err(Error::new(farref_boxing::ErrorKind::Denied, text));
        }
        self.root(peer)
    }

    /// A peer was let in and has introduced itself.
    fn connected(&self, connection: &Connection) {
        let _ = connection;
    }

    /// A peer that was let in is gone, and why.
    fn disconnected(&self, peer: &Peer, reason: &Error) {
        let _ = (peer, reason);
    }
}

/// The service that shows one object to everybody.
#[derive(Debug, Clone)]
pub struct Fixed(Root);

impl Fixed {
    /// Shows `object` to everybody, under the interface `T`.
    #[must_use]
    pub fn new<T: ?Sized + RemoteTrait>(object: impl Share<T>) -> Self {
        Self(Root::of(&object.share()))
    }
}

impl Service for Fixed {
    fn root(&self, _peer: &Peer) -> Result<Root> {
        Ok(self.0.clone())
    }
}

/// Anything that can be shared as `dyn T`: an object that implements the trait, or a netref of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be shared as `{T}`",
    label = "this does not implement the remote trait"
)]
pub trait Share<T: ?Sized> {
    /// A handle on the object.
    fn share(self) -> Netref<T>;
}

impl<S: 'static, T: ?Sized + RemoteTrait + Wrap<S>> Share<T> for S {
    fn share(self) -> Netref<T> {
        Netref::of(self)
    }
}
