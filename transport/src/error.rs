//! What can go wrong before there is a carrier, arranged by who can act.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::{Address, PeerKey, Security};

/// Why an address could not be dialled.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The address asks for encryption, which this build does not have: say `plain+` if the network
    /// may be trusted.
    NotEncrypted {
        /// What was dialled.
        address: Box<Address>,
    },
    /// No medium here serves this address: another build, system or medium is needed.
    Unsupported {
        /// What was dialled.
        address: Box<Address>,
        /// Why the medium is not there.
        absence: Absence,
    },
    /// The address is well formed but cannot be right: no such directory, port 0, a path too long, an
    /// option that the listener contradicts. Whoever wrote it must change it.
    Address {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// The host has no address: look at its name, or at the name server.
    Unresolved {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// The host is there, but nobody listens: start the other side, or look at port, path or name.
    NotListening {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// This account may not: file mode, firewall, sandbox.
    NotPermitted {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// The host is there, but no program of ours runs on it: the cause says what to change there, or in the address.
    NotStarted {
        /// What was dialled.
        address: Box<Address>,
        /// What is in the way.
        source: io::Error,
    },
    /// The peer is not the one that is known by this name: find out why before you trust it.
    Untrusted {
        /// What was dialled.
        address: Box<Address>,
        /// What there is instead.
        source: io::Error,
    },
    /// The network does not lead there now, or nothing answered in time: look at the network.
    Unreachable {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// The peer has another key than it must have: somebody else answers there, or it was set up anew.
    WrongKey {
        /// What was dialled.
        address: Box<Address>,
        /// The key that it has.
        found: PeerKey,
    },
    /// The listener has as many waiting as it can take: dial again later.
    Busy {
        /// What was dialled.
        address: Box<Address>,
    },
    /// The device is not there now: plug it in, or look at its name.
    Missing {
        /// What was dialled.
        address: Box<Address>,
        /// What is there instead.
        source: io::Error,
    },
    /// Another program has the device: close it there.
    InUse {
        /// What was dialled.
        address: Box<Address>,
    },
    /// The system refused for a reason of its own, such as no descriptors left.
    System {
        /// What was dialled.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
}

impl DialError {
    /// Sorts an error of the operating system that came of dialling `address` by who can act.
    #[must_use]
    pub fn from_io(address: &Address, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let address = Box::new(address.clone());
        match source.kind() {
            Kind::NotFound | Kind::InvalidInput | Kind::AddrNotAvailable | Kind::NotADirectory => {
                Self::Address { address, source }
            }
            Kind::ConnectionRefused => Self::NotListening { address, source },
            Kind::PermissionDenied => Self::NotPermitted { address, source },
            Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
            | Kind::ConnectionReset
            | Kind::ConnectionAborted => Self::Unreachable { address, source },
            _ => Self::System { address, source },
        }
    }

    /// What was dialled.
    #[must_use]
    pub const fn address(&self) -> &Address {
        match self {
            Self::NotEncrypted { address }
            | Self::Unsupported { address, .. }
            | Self::Address { address, .. }
            | Self::Unresolved { address, .. }
            | Self::NotListening { address, .. }
            | Self::NotPermitted { address, .. }
            | Self::NotStarted { address, .. }
            | Self::Untrusted { address, .. }
            | Self::Unreachable { address, .. }
            | Self::WrongKey { address, .. }
            | Self::Busy { address }
            | Self::Missing { address, .. }
            | Self::InUse { address }
            | Self::System { address, .. } => address,
        }
    }

    /// Whether the same address may well be dialled with success later, without anyone changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unresolved { .. }
                | Self::NotListening { .. }
                | Self::Unreachable { .. }
                | Self::Busy { .. }
                | Self::Missing { .. }
                | Self::InUse { .. }
                | Self::System { .. }
        )
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEncrypted { address } => not_encrypted(f, address),
            Self::Unsupported { address, absence } => unsupported(f, address, *absence),
            Self::Address { address, .. } => write!(f, "`{address}` leads nowhere: check it"),
            Self::Unresolved { address, .. } => write!(f, "the host of `{address}` has no address"),
            Self::NotListening { address, .. } => {
                write!(
                    f,
                    "nobody listens at `{address}`: start the other side, or check the address"
                )
            }
            Self::NotPermitted { address, .. } => write!(f, "this account may not dial `{address}`"),
            Self::NotStarted { address, .. } => write!(f, "no program could be started at `{address}`"),
            Self::Untrusted { address, .. } => {
                write!(
                    f,
                    "whoever answers at `{address}` is not known, or not by that key"
                )
            }
            Self::Unreachable { address, .. } => {
                write!(f, "`{address}` cannot be reached: check the network")
            }
            Self::WrongKey { address, found } => write!(
                f,
                "whoever answers at `{address}` has another key, {found}: do not go on before you know why"
            ),
            Self::Busy { address } => write!(f, "`{address}` has too many waiting: dial again later"),
            Self::Missing { address, .. } => {
                write!(f, "`{address}` is not there: plug it in, or check the address")
            }
            Self::InUse { address } => {
                write!(
                    f,
                    "another program has `{address}` open: close it there, and dial again"
                )
            }
            Self::System { address, .. } => write!(f, "the system could not dial `{address}`"),
        }
    }
}

impl Error for DialError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotEncrypted { .. }
            | Self::Unsupported { .. }
            | Self::WrongKey { .. }
            | Self::InUse { .. }
            | Self::Busy { .. } => None,
            Self::Address { source, .. }
            | Self::Unresolved { source, .. }
            | Self::NotListening { source, .. }
            | Self::NotPermitted { source, .. }
            | Self::NotStarted { source, .. }
            | Self::Untrusted { source, .. }
            | Self::Unreachable { source, .. }
            | Self::Missing { source, .. }
            | Self::System { source, .. } => Some(source),
        }
    }
}

/// Why nobody can listen at an address.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The address asks for encryption, which this build does not have: say `plain+` if the network
    /// may be trusted.
    NotEncrypted {
        /// Where to listen.
        address: Box<Address>,
    },
    /// No medium here serves this address: another build, system or medium is needed.
    Unsupported {
        /// Where to listen.
        address: Box<Address>,
        /// Why the medium is not there.
        absence: Absence,
    },
    /// The address is well formed but cannot be right: no such host or directory, not an address of
    /// this host, a path too long, a file that is no socket in its place.
    Address {
        /// Where to listen.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens there already, or has the device open: stop it, or take another port, path or name.
    InUse {
        /// Where to listen.
        address: Box<Address>,
    },
    /// This account may not: a port below 1024, the mode of a directory, a sandbox.
    NotPermitted {
        /// Where to listen.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused for a reason of its own, such as no descriptors left.
    System {
        /// Where to listen.
        address: Box<Address>,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    /// Sorts an error of the operating system that came of listening at `address` by who can act.
    #[must_use]
    pub fn from_io(address: &Address, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let address = Box::new(address.clone());
        match source.kind() {
            Kind::NotFound
            | Kind::InvalidInput
            | Kind::AddrNotAvailable
            | Kind::NotADirectory
            | Kind::AlreadyExists => Self::Address { address, source },
            Kind::AddrInUse => Self::InUse { address },
            Kind::PermissionDenied => Self::NotPermitted { address, source },
            _ => Self::System { address, source },
        }
    }

    /// Where to listen.
    #[must_use]
    pub const fn address(&self) -> &Address {
        match self {
            Self::NotEncrypted { address }
            | Self::Unsupported { address, .. }
            | Self::Address { address, .. }
            | Self::InUse { address }
            | Self::NotPermitted { address, .. }
            | Self::System { address, .. } => address,
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEncrypted { address } => not_encrypted(f, address),
            Self::Unsupported { address, absence } => unsupported(f, address, *absence),
            Self::Address { address, .. } => write!(f, "`{address}` is no place to listen: check it"),
            Self::InUse { address } => write!(f, "somebody has `{address}` already"),
            Self::NotPermitted { address, .. } => write!(f, "this account may not listen at `{address}`"),
            Self::System { address, .. } => write!(f, "the system could not listen at `{address}`"),
        }
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotEncrypted { .. } | Self::Unsupported { .. } | Self::InUse { .. } => None,
            Self::Address { source, .. }
            | Self::NotPermitted { source, .. }
            | Self::System { source, .. } => Some(source),
        }
    }
}

/// Why a listener handed out no carrier.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// The peer was gone before it was taken in. Accept again.
    PeerGone(io::Error),
    /// This process or host has no descriptors or memory left. Accept again after
    /// [`pause`](Self::pause): the peer is still waiting.
    Exhausted(io::Error),
    /// The listener does not work any more.
    Broken(io::Error),
}

impl AcceptError {
    /// Whether the listener goes on: an accept loop must survive this.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }

    /// How long to wait before the next accept, so that the loop does not spin.
    #[must_use]
    pub const fn pause(&self) -> Duration {
        match self {
            Self::PeerGone(_) => Duration::ZERO,
            Self::Exhausted(_) | Self::Broken(_) => Duration::from_millis(100),
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerGone(_) => "the peer went away before it was accepted",
            Self::Exhausted(_) => "no resources left to accept a peer",
            Self::Broken(_) => "the listener is broken",
        })
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::PeerGone(source) | Self::Exhausted(source) | Self::Broken(source) => Some(source),
        }
    }
}

/// Why a medium is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Absence {
    /// It was left out of this build: the cargo feature of this name brings it.
    Feature(&'static str),
    /// This operating system does not have it.
    System,
    /// This version does not have it yet.
    NotYet,
    /// The program must bring it: [`Media::with`](crate::Media::with).
    Foreign,
    /// It can be dialled, but not listened at.
    DialOnly,
    /// It needs the program of this name, which is not in `PATH`.
    Program(&'static str),
}

impl Absence {
    /// Why nothing serves `scheme`.
    pub(crate) fn of(scheme: &str) -> Self {
        match scheme {
            "tcp" if !cfg!(feature = "tcp") => Self::Feature("tcp"),
            "unix" if !cfg!(unix) => Self::System,
            "unix" if !cfg!(feature = "unix") => Self::Feature("unix"),
            "ssl" if !cfg!(feature = "tls") => Self::Feature("tls"),
            "quic" if !cfg!(feature = "quic") => Self::Feature("quic"),
            "serial" if !cfg!(unix) => Self::System,
            "serial" if !cfg!(feature = "serial") => Self::Feature("serial"),
            "stdio" | "exec" | "ssh" if !cfg!(unix) => Self::System,
            "stdio" if !cfg!(feature = "stdio") => Self::Feature("stdio"),
            "exec" if !cfg!(feature = "exec") => Self::Feature("exec"),
            "ssh" if !cfg!(feature = "ssh") => Self::Feature("ssh"),
            _ => Self::Foreign,
        }
    }
}

/// How a native stream, or a whole carrier of them, was given up by the peer.
///
/// It sits inside the [`io::Error`] of a read or write, where [`aborted`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aborted {
    /// The peer abandoned the stream that we read ([`ByteTx::reset`](crate::ByteTx::reset)).
    Reset(u32),
    /// The peer does not want the rest of what we write ([`ByteRx::stop`](crate::ByteRx::stop)).
    Stopped(u32),
    /// The carrier was closed ([`Muxed::close`](crate::Muxed::close)).
    Closed(u32),
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer abandoned the stream with code {code}"),
            Self::Stopped(code) => write!(f, "the peer stopped the stream with code {code}"),
            Self::Closed(code) => write!(f, "the carrier was closed with code {code}"),
        }
    }
}

impl Error for Aborted {}

impl From<Aborted> for io::Error {
    fn from(aborted: Aborted) -> Self {
        let kind = match aborted {
            Aborted::Reset(_) => io::ErrorKind::ConnectionReset,
            Aborted::Stopped(_) => io::ErrorKind::BrokenPipe,
            Aborted::Closed(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, aborted)
    }
}

/// What the peer said when it gave up a native stream, if that is what `error` is.
#[must_use]
pub fn aborted(error: &io::Error) -> Option<Aborted> {
    error.get_ref()?.downcast_ref().copied()
}

/// The error that meets a newcomer: it names the word that mends it.
fn not_encrypted(f: &mut fmt::Formatter<'_>, address: &Address) -> fmt::Result {
    let plain = address
        .clone()
        .without_peer_key()
        .with_security(Some(Security::Plain));
    write!(
        f,
        "`{address}` asks for encryption, which this build is without: turn on the cargo feature `noise`, or say `{plain}` to go without"
    )?;
    if address.scheme() == "tcp" {
        f.write_str(" (`plain+tcp://HOST:PORT` on a network that you trust, `unix:PATH` on one machine)")?;
    }
    Ok(())
}

fn unsupported(f: &mut fmt::Formatter<'_>, address: &Address, absence: Absence) -> fmt::Result {
    let scheme = address.scheme();
    match absence {
        Absence::Feature(feature) => {
            write!(
                f,
                "`{scheme}` is not in this build: turn on the cargo feature `{feature}`"
            )
        }
        Absence::System => write!(f, "`{scheme}` does not exist on this operating system"),
        Absence::NotYet => write!(f, "`{scheme}` is not supported yet"),
        Absence::Foreign => write!(f, "`{scheme}` is served by no medium of this program"),
        Absence::DialOnly => write!(f, "`{scheme}` can be dialled only, not listened at"),
        Absence::Program(program) => {
            write!(
                f,
                "`{scheme}` needs the program `{program}`, which is not in PATH: install it"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dial_errors_are_sorted_by_who_can_act() {
        let address: Address = "plain+tcp://rig7:7000".parse().unwrap();
        let sorted = |kind: io::ErrorKind| DialError::from_io(&address, kind.into());
        assert!(matches!(
            sorted(io::ErrorKind::NotFound),
            DialError::Address { .. }
        ));
        assert!(matches!(
            sorted(io::ErrorKind::ConnectionRefused),
            DialError::NotListening { .. }
        ));
        assert!(matches!(
            sorted(io::ErrorKind::PermissionDenied),
            DialError::NotPermitted { .. }
        ));
        assert!(matches!(
            sorted(io::ErrorKind::TimedOut),
            DialError::Unreachable { .. }
        ));
        assert!(matches!(
            sorted(io::ErrorKind::OutOfMemory),
            DialError::System { .. }
        ));
        assert!(sorted(io::ErrorKind::ConnectionRefused).is_transient());
        assert!(!sorted(io::ErrorKind::NotFound).is_transient());
        assert_eq!(sorted(io::ErrorKind::NotFound).address(), &address);
    }

    #[test]
    fn every_message_is_one_line_and_names_the_address() {
        let address: Address = "plain+tcp://rig7:7000".parse().unwrap();
        for kind in [
            io::ErrorKind::NotFound,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::TimedOut,
            io::ErrorKind::AddrInUse,
            io::ErrorKind::Other,
        ] {
            for text in [
                DialError::from_io(&address, kind.into()).to_string(),
                ListenError::from_io(&address, kind.into()).to_string(),
            ] {
                assert!(
                    text.contains("`plain+tcp://rig7:7000`") && !text.contains('\n'),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn the_code_of_an_aborted_stream_is_found_again() {
        for told in [Aborted::Reset(1), Aborted::Stopped(2), Aborted::Closed(u32::MAX)] {
            assert_eq!(aborted(&told.into()), Some(told));
        }
        assert_eq!(aborted(&io::ErrorKind::ConnectionReset.into()), None);
    }

    #[test]
    fn only_a_broken_listener_ends_an_accept_loop() {
        let source = || io::Error::from(io::ErrorKind::Other);
        assert!(AcceptError::PeerGone(source()).is_transient());
        assert!(AcceptError::Exhausted(source()).is_transient());
        assert!(!AcceptError::Exhausted(source()).pause().is_zero());
        assert!(!AcceptError::Broken(source()).is_transient());
    }
}
