//! Turning a peer away so that it learns why.

use std::future::poll_fn;
use std::io;

use farref_framing::{Batch, CloseReason, Inlet, Link, LinkEvent, Outlet, StreamKey, Written};

/// Hears the peer's introduction, answers it with `reason` instead of one, and reads on until the peer is gone.
///
/// # Errors
///
/// The carrier broke first.
///
/// # Cancel safety
///
/// Dropping the future hangs up.
pub(crate) async fn refuse(
    mut link: Box<dyn Link>,
    mut inlet: Inlet,
    mut outlet: Outlet,
    reason: CloseReason,
) -> io::Result<()> {
    if !hears(&mut *link, &mut inlet).await? {
        return Ok(());
    }
    link.close(reason);
    let mut batch = Batch::default();
    while link.poll_transmit(&mut batch, 0) || !batch.is_empty() {
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

/// Reads until the peer has introduced itself; false if it does not.
async fn hears(link: &mut dyn Link, inlet: &mut Inlet) -> io::Result<bool> {
    while let Some(from) = poll_fn(|context| inlet.poll_read(context)).await? {
        let handled = link.handle_bytes(from.stream, inlet.buffer(from.stream), from.end, 0);
        while let Some(event) = link.poll_event() {
            if matches!(event, LinkEvent::Opened(_)) {
                return Ok(true);
            }
        }
        if handled.is_err() || (from.end && from.stream == StreamKey::MAIN) {
            break;
        }
    }
    Ok(false)
}
