//! The halves of a carrier as a link's driver wants them: batches out, bytes of named streams in. Nothing waits.
//!
//! Knows carriers of both forms and which native stream is which; what the bytes mean is the link's affair.

mod inlet;
mod outlet;
mod placement;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use farref_transport::{Carrier, CarrierInfo, Guard, Muxed};

pub use inlet::{BLOCK_MOST, Inlet, READ_MOST, ReadFrom};
pub use outlet::{Outlet, Written};
pub use placement::{PLACE_LEAST, Placement};

use crate::link::Role;

/// Takes a carrier apart for a link: the half that reads, the half that writes, the facts, and what must be dropped
/// last. Opens or accepts the stream of lane 0 if the carrier has streams of its own; otherwise it does not wait.
///
/// # Errors
///
/// Those of the carrier.
///
/// # Cancel safety
///
/// Dropping the future drops the carrier.
pub async fn open(carrier: Carrier, role: Role) -> io::Result<(Inlet, Outlet, CarrierInfo, Guard)> {
    match carrier {
        Carrier::Stream(stream) => Ok((
            Inlet::new(stream.rx, None),
            Outlet::new(stream.tx, None),
            stream.info,
            stream.guard,
        )),
        Carrier::Muxed(muxed) => {
            let muxed: Arc<dyn Muxed> = Arc::from(muxed);
            let (rx, tx) = match role {
                Role::Dialer => muxed.open().await?,
                Role::Listener => muxed.accept().await?,
            };
            let info = muxed.info().clone();
            let inlet = Inlet::new(rx, Some(Arc::clone(&muxed)));
            Ok((inlet, Outlet::new(tx, Some(muxed)), info, Guard::none()))
        }
        _ => Err(ErrorKind::Unsupported.into()),
    }
}
