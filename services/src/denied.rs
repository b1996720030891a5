//! Refusals: told to whoever asked, and logged with their name.

use std::borrow::Cow;

use farref_boxing::{Error, ErrorKind};

use crate::file::Failure;

/// The caller may not do that; `what` says what, and what would allow it.
pub(crate) fn denied(what: impl Into<Cow<'static, str>>) -> Failure {
    let what = what.into();
    match farref_netref::caller().map(|caller| caller.peer()) {
        Some(peer) => peer.warn(|left_out| tracing::warn!(%peer, left_out, "denied: {what}")),
        None => tracing::warn!("denied: {what}"),
    }
    let error = Error::new(ErrorKind::Denied, what);
    std::io::Error::from(error).into()
}
