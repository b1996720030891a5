//! Ports over there as a medium of this side.

use std::io;

use farref_netref::{ByteStream, Netref};
use farref_transport::address::Target;
use farref_transport::{
    Address, BoxFuture, Carrier, CarrierInfo, DialError, ListenError, Listener, Media, StreamCarrier,
    Transport,
};

use super::{SerialPorts, Settings};
use crate::file::Failure;

/// Media whose `serial:` addresses are ports over there, for [`Connect::media`](crate::Connect::media).
///
/// The connection is made good as on a port of this machine: lost and damaged bytes are sent again, and it can be encrypted
/// (`noise+serial:`) so that the machine in between does not read it.
///
/// ```no_run
/// # use farref_netref::{Netref, Result};
/// # use farref_services::serial_ports::{self, SerialPorts};
/// # async fn example(ports: Netref<dyn SerialPorts>) -> Result<()> {
/// let board = farref_services::connect("serial:/dev/ttyUSB0?baud=115200")
///     .media(serial_ports::media(&ports))
///     .await?;
/// # drop(board);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn media(ports: &Netref<dyn SerialPorts>) -> Media {
    Media::none().with(FarSerial(ports.clone()))
}

/// A port over there as a carrier, which loses what the line loses.
///
/// # Errors
///
/// Those of [`SerialPorts::open`].
///
/// # Cancel safety
///
/// The port is closed.
pub async fn carrier(
    ports: &Netref<dyn SerialPorts>,
    name: &str,
    settings: Settings,
) -> Result<Carrier, Failure> {
    let (sender, bytes) = ByteStream::channel(1);
    let received = ports.call().open(name.to_owned(), settings, bytes).await?;
    let mut info = CarrierInfo::new("serial");
    info.reliable = false;
    info.may_be_lost = true;
    info.half_close = false;
    info.fragment_hint = FRAGMENT;
    info.rate_hint = Some((u64::from(settings.baud) / BITS).max(1));
    let received = received.credit(AHEAD);
    Ok(StreamCarrier::from_halves(received, sender, info).into())
}

/// Bytes of a fragment, as on a port of this machine.
const FRAGMENT: u32 = 240;

/// Bits of a byte on the line.
const BITS: u64 = 10;

/// Bytes that are asked for before they are read.
const AHEAD: u64 = 16 << 10;

struct FarSerial(Netref<dyn SerialPorts>);

impl Transport for FarSerial {
    fn schemes(&self) -> &'static [&'static str] {
        &["serial"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let Target::Serial { port } = address.target() else {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "not an address of a serial port");
                return Err(DialError::from_io(address, source));
            };
            let opened = carrier(&self.0, port, Settings::of(address)).await;
            let mut carrier = opened.map_err(|failure| DialError::from_io(address, failure.into()))?;
            if let Carrier::Stream(stream) = &mut carrier {
                stream.info.remote = Some(address.clone());
            }
            Ok(carrier)
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let text = "a port of another machine is dialled only: serve there, or dial from here";
            let source = io::Error::new(io::ErrorKind::Unsupported, text);
            Err(ListenError::from_io(address, source))
        })
    }
}
