//! Carriers that lose bytes, made dependable.

use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::Role;
use farref_transport::Carrier;

/// The carrier, dependable, and which side this is: on a line without a dialer that is agreed on.
///
/// # Errors
///
/// The other side was not found within `patience`, or this build cannot make it dependable.
pub(crate) async fn dependable(
    carrier: Carrier,
    role: Role,
    patience: Option<Duration>,
) -> Result<(Carrier, Role)> {
    if carrier.info().reliable {
        return Ok((carrier, role));
    }
    #[cfg(feature = "serial")]
    if let Carrier::Stream(stream) = carrier {
        use farref_framing::arq;
        let rate = stream.info.rate_hint.unwrap_or(DEFAULT_RATE);
        let mut config = arq::Config::new(role, rate);
        config.patience = patience;
        let at = stream.info.local.as_ref().or(stream.info.remote.as_ref());
        if let Some(payload) = at.and_then(|at| at.number("payload")) {
            config.payload = usize::try_from(payload).unwrap_or(usize::MAX);
        }
        if let Some(window) = at.and_then(|at| at.number("window")) {
            config.window = u8::try_from(window).unwrap_or(u8::MAX);
        }
        if at.is_some_and(|at| at.option("arq").is_some() && !at.is_set("arq")) {
            return Ok((stream.into(), role));
        }
        return match arq::reliable(stream, config).await {
            Ok(reliable) => Ok((reliable.carrier.into(), reliable.role)),
            Err(failure) => Err(Error::new(ErrorKind::Carrier, failure.to_string())),
        };
    }
    let _ = (role, patience);
    let text = "the medium loses bytes, and this build cannot make up for that: turn on the feature `serial`";
    Err(Error::new(ErrorKind::Unsupported, text))
}

/// 115,200 baud.
#[cfg(feature = "serial")]
const DEFAULT_RATE: u64 = 11_520;
