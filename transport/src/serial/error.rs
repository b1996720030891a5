//! Why a port could not be opened, or is no more, said to whoever can act.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::address::Address;
use crate::error::{DialError, ListenError};

/// Why a port could not be opened. It is found as the source of a [`DialError`] or [`ListenError`].
#[derive(Debug)]
pub(super) enum PortError {
    /// `usb(...)` with something else in it.
    BadUsbName,
    /// There is no such port now.
    Missing {
        there: Vec<String>,
    },
    /// Several ports belong to the device.
    Ambiguous {
        there: Vec<String>,
    },
    /// The file is something else.
    NoPort,
    /// Somebody has it, or wants it for himself alone.
    InUse,
    /// This account may not; members of the group may.
    NotPermitted {
        group: Option<String>,
    },
    /// The hardware took another speed instead.
    OtherSpeed {
        asked: u32,
        taken: u32,
    },
    System(io::Error),
}

impl PortError {
    pub(super) fn into_dial(self, address: &Address) -> DialError {
        let boxed = Box::new(address.clone());
        match self {
            Self::InUse => DialError::InUse { address: boxed },
            Self::Missing { .. } => DialError::Missing {
                address: boxed,
                source: io::Error::new(io::ErrorKind::NotFound, self),
            },
            Self::System(source) => DialError::from_io(address, source),
            other => DialError::from_io(address, other.into()),
        }
    }

    pub(super) fn into_listen(self, address: &Address) -> ListenError {
        match self {
            Self::InUse => ListenError::InUse {
                address: Box::new(address.clone()),
            },
            other => ListenError::from_io(address, other.into()),
        }
    }
}

impl From<PortError> for io::Error {
    fn from(error: PortError) -> Self {
        let kind = match error {
            PortError::System(source) => return source,
            PortError::Missing { .. } => io::ErrorKind::NotFound,
            PortError::NotPermitted { .. } => io::ErrorKind::PermissionDenied,
            PortError::InUse => io::ErrorKind::ResourceBusy,
            PortError::BadUsbName
            | PortError::Ambiguous { .. }
            | PortError::NoPort
            | PortError::OtherSpeed { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<tokio_serial::Error> for PortError {
    fn from(error: tokio_serial::Error) -> Self {
        match error.kind {
            // What the crate says of a port that somebody else has locked.
            tokio_serial::ErrorKind::NoDevice => Self::InUse,
            tokio_serial::ErrorKind::Io(kind) => Self::System(io::Error::new(kind, error)),
            tokio_serial::ErrorKind::InvalidInput => {
                Self::System(io::Error::new(io::ErrorKind::InvalidInput, error))
            }
            tokio_serial::ErrorKind::Unknown => Self::System(io::Error::other(error)),
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUsbName => f.write_str(
                "a USB device is written `usb(1a86:7523:SERIAL)`: vendor and product in hexadecimal, and its serial number",
            ),
            Self::Missing { there } if there.is_empty() => {
                f.write_str("there is no such port, and no other: plug it in")
            }
            Self::Missing { there } => {
                write!(f, "there is no such port: plug it in, or name one of {}", there.join(", "))
            }
            Self::Ambiguous { there } => {
                write!(f, "the device has several ports: name one of {}", there.join(", "))
            }
            Self::NoPort => f.write_str("the file is no serial port"),
            Self::InUse => f.write_str("somebody else has the port open"),
            Self::NotPermitted { group: Some(group) } => {
                write!(f, "join the group `{group}`, to whom the port belongs, and log in again")
            }
            Self::NotPermitted { group: None } => {
                f.write_str("only another account may open the port: look at its owner and mode")
            }
            Self::OtherSpeed { asked, taken } => {
                write!(f, "the port cannot do {asked} baud: it took {taken} instead")
            }
            Self::System(source) => source.fmt(f),
        }
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(source) => source.source(),
            _ => None,
        }
    }
}

/// The port was there, and is no more.
#[derive(Debug)]
struct HungUp;

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the adapter was unplugged, or the other end went away")
    }
}

impl Error for HungUp {}

/// How the carrier of a port ends.
pub(super) fn hung_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, HungUp)
}

/// Whether a read or write failed because the port is no more.
pub(super) fn is_hang_up(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::NODEV | Errno::NXIO | Errno::PIPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_who_can_act() {
        let address: Address = "serial:/dev/ttyUSB0".parse().unwrap();
        let there = || vec!["/dev/ttyS0".to_owned()];
        let missing = PortError::Missing { there: there() }.into_dial(&address);
        assert!(matches!(missing, DialError::Missing { .. }) && missing.is_transient());
        let in_use = PortError::InUse.into_dial(&address);
        assert!(matches!(in_use, DialError::InUse { .. }) && in_use.is_transient());
        let group = || Some("dialout".to_owned());
        let forbidden = PortError::NotPermitted { group: group() }.into_dial(&address);
        assert!(matches!(forbidden, DialError::NotPermitted { .. }) && !forbidden.is_transient());
        for wrong in [
            PortError::BadUsbName,
            PortError::NoPort,
            PortError::Ambiguous { there: there() },
            PortError::OtherSpeed {
                asked: 9601,
                taken: 9600,
            },
        ] {
            assert!(matches!(wrong.into_dial(&address), DialError::Address { .. }));
        }
        let listen = |error: PortError| error.into_listen(&address);
        assert!(matches!(listen(PortError::InUse), ListenError::InUse { .. }));
        assert!(matches!(
            listen(PortError::Missing { there: there() }),
            ListenError::Address { .. }
        ));
        assert!(matches!(
            listen(PortError::NotPermitted { group: None }),
            ListenError::NotPermitted { .. }
        ));
    }

    #[test]
    fn an_error_says_what_to_do() {
        let address: Address = "serial:/dev/ttyUSB0".parse().unwrap();
        let group = Some("dialout".to_owned());
        let error = PortError::NotPermitted { group }.into_dial(&address);
        let source = error.source().unwrap().to_string();
        assert!(source.contains("join the group `dialout`"), "{source}");
        let error = PortError::InUse.into_dial(&address).to_string();
        assert!(error.contains("`serial:/dev/ttyUSB0`"), "{error}");
    }
}
