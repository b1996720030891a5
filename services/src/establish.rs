//! From an open carrier to a connection, or back to the one whose session it goes on with.

use std::future::poll_fn;
use std::sync::Arc;

use farref_boxing::{Error, ErrorKind, Result};
use farref_framing::{
    AttachConfig, CloseReason, Inlet, Limits as LinkLimits, Link, LinkConfig, LinkEvent, NativeLink,
    Negotiated, Outlet, Rejection, ResumeRequest, Role, StreamKey, StreamLink,
};
use farref_netref::rpyc::Rpyc;
use farref_netref::{Config, Connection, NextCarrier, Parts, Peer, Redial, Root};
use farref_transport::{Carrier, CarrierInfo};

use crate::refuse::say_last;

/// A carrier that is open and protected, taken apart for a link.
pub(crate) struct Opened {
    pub(crate) info: CarrierInfo,
    pub(crate) peer: Peer,
    inlet: Inlet,
    outlet: Outlet,
    guard: farref_framing::Guard,
    role: Role,
    native: bool,
}

impl Opened {
    /// Takes `carrier` apart; `is_trusted`: its peer may come in.
    ///
    /// # Errors
    ///
    /// The carrier broke.
    pub(crate) async fn new(carrier: Carrier, role: Role, is_trusted: bool) -> Result<Self> {
        let native = matches!(carrier, Carrier::Muxed(_));
        if let (Carrier::Muxed(muxed), true) = (&carrier, is_trusted) {
            muxed.widen();
        }
        let info: CarrierInfo = carrier.info().clone();
        let peer = Peer::new(
            info.medium,
            info.remote.as_ref().map(ToString::to_string),
            info.peer.clone(),
        );
        let (inlet, outlet, _, guard) = farref_framing::open(carrier, role).await.map_err(|error| {
            let text = format!("the carrier broke before it could be used: {error}");
            Error::new(ErrorKind::Carrier, text)
        })?;
        Ok(Self {
            info,
            peer,
            inlet,
            outlet,
            guard,
            role,
            native,
        })
    }

    /// Dials into a connection that shows `root`; `redial` finds other carriers.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub(crate) fn dial(self, root: Root, redial: Arc<dyn Redial>, config: Config) -> Result<Connection> {
        let wants_session = config.resume.unwrap_or(self.info.may_be_lost);
        let with = self.link_config(wants_session, &config)?;
        let native = self.native;
        let mut parts = self.into_parts();
        parts.redial = Some(redial); // of use if there is a session
        Ok(Connection::native(
            |now| link(native, with, now),
            parts,
            root,
            config,
        ))
    }

    /// Speaks RPyC, which has no links and no sessions; `shows_root`: there is one on this side.
    ///
    /// # Errors
    ///
    /// The medium has many streams, of which RPyC knows nothing.
    pub(crate) fn speak(self, rpyc: Rpyc, shows_root: bool, config: Config) -> Result<Connection> {
        if self.native {
            let text = "RPyC is spoken over one stream, and this medium has many";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let serves = self.role == Role::Listener;
        let mut parts = self.into_parts();
        parts.keep_open = serves;
        Ok(Connection::over(rpyc, parts, shows_root, config))
    }

    /// A carrier for the session of a connection that was dialled.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub(crate) fn next(self, config: &Config) -> Result<NextCarrier> {
        let with = self.link_config(true, config)?;
        let mut attach = AttachConfig::new(with.nonce);
        attach.channel_binding = with.channel_binding;
        attach.fragment = Some(with.limits.fragment);
        let native = self.native;
        Ok(NextCarrier::new(self.into_parts(), attach, native))
    }

    /// Hears what the dialer wants: a connection of its own, or to go on with a session.
    ///
    /// # Errors
    ///
    /// It wants nothing that this side knows; it has been told.
    pub(crate) async fn hear(mut self, config: &Config) -> Result<Wanted> {
        let with = self.link_config(config.resume != Some(false), config)?;
        let mut link = link(self.native, with, farref_netref::now());
        let heard = loop {
            match link.poll_event() {
                Some(LinkEvent::Opened(negotiated)) => break Ok(First::Opened(negotiated)),
                Some(LinkEvent::ResumeRequested(request)) => break Ok(First::Resume(request)),
                _ => {}
            }
            let read = poll_fn(|context| self.inlet.poll_read(context)).await;
            let from = match read {
                Ok(Some(from)) => from,
                Ok(None) => break Err(gone("it ended")),
                Err(error) => break Err(gone(error)),
            };
            let now = farref_netref::now();
            let input = self.inlet.buffer(from.stream);
            if let Err(error) = link.handle_bytes(from.stream, input, from.end, now) {
                break Err(Error::wrap(ErrorKind::Incompatible, error));
            }
            if from.end && from.stream == StreamKey::MAIN {
                break Err(gone("the peer ended it"));
            }
        };
        match heard {
            Ok(First::Opened(negotiated)) => Ok(Wanted::Connection(Heard {
                opened: self,
                link,
                negotiated,
            })),
            Ok(First::Resume(request)) => Ok(Wanted::Session(Returning {
                request,
                opened: self,
                link,
            })),
            Err(error) => {
                self.say_last(link, config).await;
                Err(error)
            }
        }
    }

    fn link_config(&self, session: bool, config: &Config) -> Result<LinkConfig> {
        let (mut nonce, mut secret) = ([0; 16], [0; 32]);
        for random in [&mut nonce[..], &mut secret[..]] {
            getrandom::fill(random).map_err(|error| {
                let text = format!("the system gives no random bytes: {error}");
                Error::new(ErrorKind::Unsupported, text)
            })?;
        }
        let mut with = LinkConfig::new(self.role, nonce, secret);
        with.session = session;
        with.limits = config.limits.clone();
        if let Ok(suited) = usize::try_from(self.info.fragment_hint) {
            let (chosen, default) = (with.limits.fragment, LinkLimits::default().fragment);
            if chosen == default {
                with.limits.fragment = suited;
            } else if suited < default {
                // A slow medium: a small message would wait long for a large fragment.
                with.limits.fragment = chosen.min(suited);
            }
        }
        with.channel_binding = self.info.channel_binding;
        Ok(with)
    }

    fn into_parts(self) -> Parts {
        let mut parts = Parts::new(self.inlet, self.outlet, self.peer);
        parts.guard = self.guard;
        parts.gauge = self.info.gauge;
        parts
    }

    /// Says what the link has still to say, and waits a little until it is heard.
    async fn say_last(self, link: Box<dyn Link>, config: &Config) {
        // Nothing is lost if the peer does not listen.
        let _ = tokio::time::timeout(config.close_timeout, say_last(link, self.inlet, self.outlet)).await;
        drop(self.guard);
    }
}

/// What a link tells first.
enum First {
    Opened(Negotiated),
    Resume(Box<ResumeRequest>),
}

/// What a dialer wants.
pub(crate) enum Wanted {
    Connection(Heard),
    Session(Returning),
}

/// A dialer that has introduced itself.
pub(crate) struct Heard {
    opened: Opened,
    link: Box<dyn Link>,
    negotiated: Negotiated,
}

impl Heard {
    /// Who it is.
    pub(crate) const fn peer(&self) -> &Peer {
        &self.opened.peer
    }

    /// Lets the dialer in, and shows it `root`.
    pub(crate) fn accept(self, root: Root, config: Arc<Config>) -> Connection {
        let mut parts = self.opened.into_parts();
        parts.keep_open = true;
        parts.opened = Some(self.negotiated);
        Connection::native(|_| self.link, parts, root, config)
    }

    /// Turns the dialer away, and tells it why as far as `error` was meant for it.
    pub(crate) async fn refuse(mut self, error: &Error, config: &Config) {
        self.link.close(reason(error));
        self.opened.say_last(self.link, config).await;
    }
}

/// A dialer that wants to go on with a session.
pub(crate) struct Returning {
    pub(crate) request: Box<ResumeRequest>,
    pub(crate) opened: Opened,
    link: Box<dyn Link>,
}

impl Returning {
    /// Goes on with the session of `connection` over this carrier.
    ///
    /// # Errors
    ///
    /// The session says no; the dialer has been told.
    pub(crate) async fn go_on(self, connection: &Connection, config: &Config) -> Result<()> {
        let Opened {
            info,
            peer,
            role,
            native,
            ..
        } = &self.opened;
        let (info, peer, role, native) = (info.clone(), peer.clone(), *role, *native);
        let parts = self.opened.into_parts();
        let Err(refused) = connection.resume(*self.request, parts, native) else {
            return Ok(());
        };
        let (rejection, parts) = *refused;
        let opened = Opened {
            info,
            peer,
            inlet: parts.inlet,
            outlet: parts.outlet,
            guard: parts.guard,
            role,
            native,
        };
        Err(reject(opened, self.link, rejection, config).await)
    }

    /// Says no.
    pub(crate) async fn reject(self, rejection: Rejection, config: &Config) -> Error {
        reject(self.opened, self.link, rejection, config).await
    }
}

async fn reject(opened: Opened, mut link: Box<dyn Link>, rejection: Rejection, config: &Config) -> Error {
    let text = format!("a session was not resumed: {}", rejection.code());
    link.reject(rejection);
    opened.say_last(link, config).await;
    Error::new(ErrorKind::Denied, text)
}

fn link(native: bool, with: LinkConfig, now: farref_framing::Nanos) -> Box<dyn Link> {
    if native {
        Box::new(NativeLink::new(with, now))
    } else {
        Box::new(StreamLink::new(with, now))
    }
}

fn gone(why: impl std::fmt::Display) -> Error {
    let text = format!("the carrier was gone before the peer had introduced itself: {why}");
    Error::new(ErrorKind::Carrier, text)
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

#[cfg(test)]
mod tests {
    use farref_transport::memory;

    use super::*;

    /// A program at the other end of a pipe, say, ends with its guard.
    #[tokio::test]
    async fn what_a_carrier_needs_lasts_as_long_as_its_halves() {
        let needed = Arc::new(());
        let still_there = Arc::downgrade(&needed);
        let (near, _far) = memory::pair(1 << 10);
        let carrier = near.with_guard(needed).into();
        let opened = Opened::new(carrier, Role::Dialer, true).await.unwrap();
        let next = opened.next(&Config::default()).unwrap();
        assert!(still_there.upgrade().is_some());
        drop(next);
        assert!(still_there.upgrade().is_none());
    }

    /// The keys of a session, and the proofs of its carriers, hold for this encryption alone (PROTOCOL.md § 4.2, 4.6).
    #[tokio::test]
    async fn a_link_knows_what_its_carrier_tells_of_itself_and_so_does_each_carrier_after_it() {
        const KIB: usize = 1024;
        for (hint, chosen, fragment) in [
            (240, 16 * KIB, 240),
            (240, 32 * KIB, 240),
            (64 << 10, 16 * KIB, 64 * KIB),
            (64 << 10, 8 * KIB, 8 * KIB),
            (16 << 10, 32 * KIB, 32 * KIB),
        ] {
            let mut config = Config::default();
            config.limits.fragment = chosen;
            let (mut near, _far) = memory::pair(1 << 10);
            near.info.channel_binding = Some([7; 32]);
            near.info.fragment_hint = hint;
            let opened = Opened::new(near.into(), Role::Dialer, true).await.unwrap();
            let first = opened.link_config(true, &config).unwrap();
            assert_eq!(
                (first.channel_binding, first.limits.fragment),
                (Some([7; 32]), fragment)
            );
            let next = opened.next(&config).unwrap().attach;
            assert_eq!(
                (next.channel_binding, next.fragment),
                (Some([7; 32]), Some(fragment))
            );
            assert_ne!(first.nonce, next.nonce);
        }
    }
}
