//! The machine that has the ports.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use farref_boxing::Error;
use farref_netref::{ByteStream, Netref, Result as CallResult, remote};
use farref_transport::serial::Serial;
use farref_transport::{Address, ByteRx, ByteTx, Carrier, DialError, Guard, StreamCarrier, Transport};
use tokio::sync::Notify;

use super::{PortInfo, SerialPorts, Settings, Usb};
use crate::denied::denied;
use crate::file::Failure;

/// Shares all serial ports of this machine, and whatever other terminals the account of this program may open.
#[must_use]
pub fn share() -> Netref<dyn SerialPorts> {
    Netref::of(Machine { names: None })
}

/// Shares the ports of these names alone, which are compared as they are written.
///
/// ```
/// use farref_services::serial_ports;
///
/// let scope_alone = serial_ports::share_only(["/dev/ttyUSB0", "usb(1a86:7523)"]);
/// # drop(scope_alone);
/// ```
#[must_use]
pub fn share_only<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Netref<dyn SerialPorts> {
    let names = names.into_iter().map(Into::into).collect();
    Netref::of(Machine { names: Some(names) })
}

struct Machine {
    /// Those that may be opened, if not all.
    names: Option<Vec<String>>,
}

impl Machine {
    fn may_open(&self, name: &str) -> bool {
        self.names
            .as_ref()
            .is_none_or(|names| names.iter().any(|known| known == name))
    }
}

#[remote]
impl SerialPorts for Machine {
    async fn list(&self) -> Result<Vec<PortInfo>, Failure> {
        let listing = tokio::task::spawn_blocking(farref_transport::serial::ports);
        let mut ports: Vec<_> = listing
            .await
            .map_err(io::Error::from)?
            .into_iter()
            .map(PortInfo::from)
            .collect();
        ports.retain(|port| {
            let usb = port
                .usb
                .as_ref()
                .map(|usb| format!("usb({:04x}:{:04x}", usb.vendor, usb.product));
            let is_named = |names: &Vec<String>| {
                names
                    .iter()
                    .any(|name| usb.as_ref().is_some_and(|usb| name.starts_with(usb)))
            };
            self.may_open(&port.path) || self.names.as_ref().is_some_and(is_named)
        });
        Ok(ports)
    }

    async fn open(&self, name: String, settings: Settings, bytes: ByteStream) -> Result<ByteStream, Failure> {
        if !self.may_open(&name) {
            return Err(denied(format!("the port `{name}` is not exposed to this peer")));
        }
        let address = address(&name, settings)?;
        let carrier = Serial::new().dial(&address).await.map_err(to_io)?;
        let Carrier::Stream(StreamCarrier { rx, tx, guard, .. }) = carrier else {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        };
        let closed = Arc::new(Notify::new());
        let received = Received {
            rx,
            room: BytesMut::new(),
            closed: Arc::clone(&closed),
            _guard: guard,
        };
        // No more is on its way than a line can do with: who is urgent waits behind it.
        drop(tokio::spawn(send(tx, bytes.credit(AHEAD), closed)));
        Ok(ByteStream::pieces(received))
    }
}

/// The address of a port, whose name may have any characters.
fn address(name: &str, settings: Settings) -> Result<Address, Failure> {
    use std::fmt::Write as _;
    let mut text = String::from("serial:");
    for char in name.chars() {
        if char.is_whitespace() || char.is_control() || "%?#!&,".contains(char) {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                // A string takes all.
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(char);
        }
    }
    let _ = write!(text, "?{}", settings.to_options());
    let address = text.parse();
    address.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error).into())
}

/// As an error of the kind that it is.
fn to_io(error: DialError) -> io::Error {
    let source = std::error::Error::source(&error);
    let kind = match &error {
        DialError::InUse { .. } => io::ErrorKind::ResourceBusy,
        _ => source
            .and_then(|source| source.downcast_ref::<io::Error>())
            .map_or(io::ErrorKind::Other, io::Error::kind),
    };
    let why = source.map(|source| format!(": {source}")).unwrap_or_default();
    io::Error::new(kind, format!("{error}{why}"))
}

impl From<farref_transport::serial::PortInfo> for PortInfo {
    fn from(port: farref_transport::serial::PortInfo) -> Self {
        let usb = port.usb.map(|usb| Usb {
            vendor: usb.vendor,
            product: usb.product,
            serial: usb.serial,
            vendor_name: usb.vendor_name,
            product_name: usb.product_name,
        });
        Self { path: port.path, usb }
    }
}

/// What comes in at a port. Whoever drops it closes the port.
struct Received {
    rx: Box<dyn ByteRx>,
    room: BytesMut,
    closed: Arc<Notify>,
    _guard: Guard,
}

impl futures_core::Stream for Received {
    type Item = CallResult<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CallResult<Bytes>>> {
        let this = self.get_mut();
        if this.room.capacity() < LEAST {
            this.room.reserve(PIECE);
        }
        let read = ready!(this.rx.poll_read(context, &mut this.room));
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(_) => Some(Ok(this.room.split().freeze())),
            Err(error) => Some(Err(Error::from(error))),
        })
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Also if that is not waited for yet.
        self.closed.notify_one();
    }
}

/// Writes `bytes` up to their end, or until the port is `closed`.
async fn send(mut tx: Box<dyn ByteTx>, mut bytes: ByteStream, closed: Arc<Notify>) {
    let sending = async {
        while let Some(Ok(piece)) = bytes.next().await {
            if write_all(&mut *tx, &piece).await.is_err() {
                break;
            }
        }
        drop(bytes);
        // A line has no end that the other side could see, and goes on the other way.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => {}
        () = closed.notified() => {}
    }
}

async fn write_all(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| tx.poll_writable(context)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    poll_fn(|context| tx.poll_flush(context)).await
}

/// Bytes that are asked for before they can be written.
const AHEAD: u64 = 4 << 10;

/// Bytes that are read at a time, at most.
const PIECE: usize = 4 << 10;

/// With less room than that, more is made.
const LEAST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial_ports::{FlowControl, Parity};

    #[test]
    fn a_name_and_settings_are_those_of_the_address() {
        let settings = Settings::new(9600)
            .data_bits(7)
            .parity(Parity::Even)
            .stop_bits(2)
            .flow(FlowControl::XonXoff)
            .dtr(false);
        for name in ["/dev/ttyUSB0", "usb(1a86:7523:A B)", "/dev/odd?name#&%,!"] {
            let address = address(name, settings).unwrap();
            assert_eq!(Settings::of(&address), settings);
            let farref_transport::address::Target::Serial { port } = address.target() else {
                panic!("{address}");
            };
            assert_eq!(port, name);
        }
        for (name, settings) in [
            ("", Settings::default()),
            ("/dev/x", Settings::new(0)),
            ("/dev/x", settings.data_bits(9)),
        ] {
            assert_eq!(
                address(name, settings).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }
}
