//! From an open carrier to a connection.

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{CloseReason, Limits as LinkLimits, Link, LinkConfig, NativeLink, Role, StreamLink};
use farref_netref::{Config, Connection, Parts, Peer, Root};
use farref_transport::{Carrier, CarrierInfo};

use crate::refuse::refuse;

/// Whether a connection stays when neither side uses it any more: whoever listens leaves that to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepOpen {
    Yes,
    No,
}

/// Makes a connection of an open carrier; `root` decides what the peer is shown.
///
/// # Errors
///
/// The carrier broke; or what `root` says, of which the peer is told.
pub(crate) async fn establish(
    carrier: Carrier,
    (role, keep_open): (Role, KeepOpen),
    root: impl FnOnce(&Peer) -> Result<Root>,
    config: Config,
) -> Result<Connection> {
    let native = matches!(carrier, Carrier::Muxed(_));
    let info: CarrierInfo = carrier.info().clone();
    let peer = Peer::new(
        info.medium,
        info.remote.as_ref().map(ToString::to_string),
        info.peer.clone(),
    );
    let root = root(&peer);
    if let (Carrier::Muxed(muxed), Ok(_)) = (&carrier, &root) {
        muxed.widen();
    }
    let (inlet, outlet, _, guard) = farref_framing::open(carrier, role).await.map_err(|error| {
        Error::new(
            ErrorKind::Carrier,
            format!("the carrier broke before it could be used: {error}"),
        )
    })?;
    let with = link_config(role, &info, &config)?;
    let link = |now| -> Box<dyn Link> {
        if native {
            Box::new(NativeLink::new(with, now))
        } else {
            Box::new(StreamLink::new(with, now))
        }
    };
    match root {
        Ok(root) => {
            let keep_open = keep_open == KeepOpen::Yes;
            let mut parts = Parts::new(inlet, outlet, peer);
            parts.keep_open = keep_open;
            parts.guard = guard;
            parts.gauge = info.gauge;
            Ok(Connection::native(link, parts, root, config))
        }
        Err(error) => {
            let refusing = refuse(link(0), inlet, outlet, reason(&error));
            // Nothing is lost if the peer does not listen.
            let _ = tokio::time::timeout(config.close_timeout, refusing).await;
            drop(guard);
            Err(error)
        }
    }
}

/// What a peer that is not let in is told. Only what was meant for it: other errors are this side's own business.
fn reason(error: &Error) -> CloseReason {
    let is_meant_for_it = error.kind() == ErrorKind::Denied;
    let text = if is_meant_for_it {
        error.to_string()
    } else {
        String::new()
    };
    CloseReason::new(CloseReason::DENIED, text)
}

/// How the link of a carrier is made, with fresh randomness.
fn link_config(role: Role, info: &CarrierInfo, config: &Config) -> Result<LinkConfig> {
    let (mut nonce, mut secret) = ([0; 16], [0; 32]);
    for random in [&mut nonce[..], &mut secret[..]] {
        getrandom::fill(random).map_err(|error| {
            Error::new(
                ErrorKind::Unsupported,
                format!("the system gives no random bytes: {error}"),
            )
        })?;
    }
    let mut with = LinkConfig::new(role, nonce, secret);
    with.limits = config.limits.clone();
    if let Ok(suited) = usize::try_from(info.fragment_hint)
        && suited < LinkLimits::default().fragment
    {
        // A slow medium: a small message would wait long for a large fragment.
        with.limits.fragment = with.limits.fragment.min(suited);
    }
    with.channel_binding = info.channel_binding;
    Ok(with)
}
