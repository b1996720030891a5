//! Serial ports: a UART, a USB adapter, a pseudo terminal.
//!
//! Knows how to open a port without waking its board or another program, and how to keep a slow line from
//! holding up the runtime. The bytes may be lost, altered or invented on the way, and the line has no
//! end that the peer could see: the carrier says so ([`reliable`](CarrierInfo::reliable) and
//! [`half_close`](CarrierInfo::half_close) are false), and what makes it good is for the layers above.
//!
//! `serial:/dev/ttyUSB0` names a port by its path, `serial:/dev/serial/by-id/...` by a link that keeps its
//! name, `serial:usb(1a86:7523:SERIAL)` by vendor, product and serial number (which may be left out while
//! there is only one), however the system calls it today.
//!
//! | option       | default  | meaning                                                               |
//! |--------------|----------|-----------------------------------------------------------------------|
//! | `baud=`      | 115200   | bits per second; also paces what is written to adapters that ignore it |
//! | `data=`      | 8        | bits in a character, 5 to 8; the protocol needs 8                     |
//! | `parity=`    | none     | `even`, `odd` or `none`                                               |
//! | `stop=`      | 1        | stop bits, 1 or 2                                                     |
//! | `flow=`      | none     | `rts`: by RTS and CTS; `xon`: by two bytes, which the protocol must then avoid |
//! | `dtr=`       | keep     | `on`, `off`: raised or lowered at the start; `keep`: see below        |
//! | `exclusive=` | 1        | nobody else may open the port meanwhile; with 0, others that say so may |
//! | `payload=`   | 240      | bytes of a fragment                                                   |
//!
//! `arq` and `window` are for the layers above.
//!
//! **DTR.** Many boards take its change for a reset. Linux raises it with every open, and lowers it with the
//! last close; `dtr=keep` turns the lowering off, so that at most the first open after a plug-in resets the
//! board. With `on` and `off` the close lowers it as usual. Ports without that line ignore the wish.
//!
//! **Who listens** has one carrier at a time: the port is opened when listening begins, and again after its
//! carrier was dropped, 0.2 s later; while the port is unplugged, ever less often, up to each 5 s.
//! The same goes if carriers last less than those 5 s.
//!
//! **Writing** never fills the buffers of the driver: at most two frames, or 20 ms of a fast line, are ahead
//! of it, by the clock and by the driver's own count. So what is urgent waits for little, and a close for
//! nearly nothing. What was written before the carrier is dropped is still sent, within a second of when it
//! should be.
//!
//! **What pseudo terminals cannot show**, and tests with them do not: the modem lines, and so `dtr=` and
//! `flow=rts`; speed, parity and stop bits, which mean nothing to them; the count of the driver, which is
//! always 0.

mod error;
mod listen;
mod name;
mod pace;
mod port;
mod settings;
mod stream;

use std::io;
use std::time::Duration;

pub use name::{PortInfo, UsbInfo, ports};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::error::PortError;
use self::listen::Listening;
use self::port::{Opened, Port};
use self::settings::Settings;
use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, StreamCarrier};
use crate::error::{DialError, ListenError};
use crate::medium::{Listener, Transport};

/// The medium `serial`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial(());

impl Serial {
    /// Serial ports, as the system has them.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Serial {
    fn schemes(&self) -> &'static [&'static str] {
        &["serial"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let failed = |error: PortError| error.into_dial(address);
            let opened = open(address).await.map_err(failed)?;
            let (mut stream, _) =
                carrier(opened, address).map_err(|error| failed(PortError::System(error)))?;
            stream.info.remote = Some(address.clone());
            Ok(stream.into())
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let opened = open(address).await.map_err(|error| error.into_listen(address))?;
            Ok(Box::new(Listening::new(address.clone(), opened)) as Box<dyn Listener>)
        })
    }
}

/// Opens the port of an address, without holding up the runtime.
async fn open(address: &Address) -> Result<Opened, PortError> {
    let runtime = Handle::try_current().map_err(|missing| PortError::System(io::Error::other(missing)))?;
    let Target::Serial { port } = address.target() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not an address of a serial port");
        return Err(PortError::System(source));
    };
    let settings = Settings::of(address);
    let mut waited = Duration::ZERO;
    loop {
        let port = port.clone();
        let opened = runtime
            .spawn_blocking(move || port::open(&port, &settings))
            .await
            .map_err(|error| PortError::System(io::Error::other(error)))?;
        match opened {
            // Who let go of it just now may still be closing it.
            Err(PortError::InUse) if waited < SETTLING => {}
            result => return result,
        }
        let pause = Duration::from_millis(50);
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

/// A carrier of an open port, and what ends when the port is closed.
fn carrier(opened: Opened, address: &Address) -> io::Result<(StreamCarrier, oneshot::Receiver<()>)> {
    let settings = Settings::of(address);
    let (port, closed) = Port::new(opened)?;
    let (rx, tx) = stream::halves(port, &settings);
    Ok((StreamCarrier::new(rx, tx, info(&settings)), closed))
}

fn info(settings: &Settings) -> CarrierInfo {
    let mut info = CarrierInfo::new("serial");
    info.reliable = false;
    info.may_be_lost = true;
    info.half_close = false;
    info.fragment_hint = settings.payload;
    info.rate_hint = Some(settings.rate());
    info
}

/// How long a port that is in use is tried again: as long as most need to send what is left.
const SETTLING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
