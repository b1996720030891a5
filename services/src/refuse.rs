//! Turning a peer away so that it learns why.

use std::future::poll_fn;
use std::io;

use farref_framing::{Batch, Inlet, Link, Outlet, Written};

/// Writes the last words of `link`, and reads on until the peer is gone.
///
/// # Errors
///
/// The carrier broke first.
///
/// # Cancel safety
///
/// Dropping the future hangs up.
pub(crate) async fn say_last(
    mut link: Box<dyn Link>,
    mut inlet: Inlet,
    mut outlet: Outlet,
) -> io::Result<()> {
    let mut batch = Batch::default();
    while link.poll_transmit(&mut batch, farref_netref::now()) || !batch.is_empty() {
        if outlet.write(&mut batch)? == Written::Blocked {
            poll_fn(|context| outlet.poll_writable(context)).await?;
        }
    }
    poll_fn(|context| outlet.poll_close(context)).await?;
    // A carrier that is dropped with something unread may take back what was written.
    while let Some(from) = poll_fn(|context| inlet.poll_read(context)).await? {
        inlet.buffer(from.stream).clear();
    }
    Ok(())
}
