//! Who takes part: one file each.

pub(crate) mod echo;
pub(crate) mod farref;
pub(crate) mod local;
pub(crate) mod made;
pub(crate) mod quinn;

#[cfg(feature = "peers")]
mod capnp;
#[cfg(feature = "peers")]
mod remoc;
#[cfg(feature = "peers")]
mod rpyc;
#[cfg(feature = "peers")]
mod tarpc;
#[cfg(feature = "peers")]
mod tonic;

use crate::contender::Contender;

/// In the order of the tables.
pub(crate) fn all() -> Vec<&'static dyn Contender> {
    [
        echo::ALL,
        quinn::ALL,
        farref::ALL,
        local::ALL,
        #[cfg(feature = "peers")]
        tarpc::ALL,
        #[cfg(feature = "peers")]
        remoc::ALL,
        #[cfg(feature = "peers")]
        capnp::ALL,
        #[cfg(feature = "peers")]
        tonic::ALL,
        #[cfg(feature = "peers")]
        rpyc::ALL,
    ]
    .concat()
}
