//! Serial ports of the machine over there: listed, read and written, used as a medium from here, or by programs of this
//! machine.
//!
//! ```text
//!   connect("serial:/dev/ttyUSB0").media(media(&ports)) ──┐
//!   any program ◀── pty ── Bridge ────────────────────────┼── open ──▶ /dev/ttyUSB0 over there
//!   ByteStream each way ──────────────────────────────────┘
//! ```
//!
//! As on every serial line, what comes while nobody reads is lost in the end, and so is what noise makes of it.

#[cfg(all(unix, feature = "serial"))]
mod bridge;
#[cfg(all(unix, feature = "serial"))]
mod host;
#[cfg(feature = "serial")]
mod medium;

use farref_netref::{ByteStream, remote};
use serde::{Deserialize, Serialize};

#[cfg(all(unix, feature = "serial"))]
pub use bridge::{Bridge, bridge};
#[cfg(all(unix, feature = "serial"))]
pub use host::{share, share_only};
#[cfg(feature = "serial")]
pub use medium::{carrier, media};

use crate::file::Failure;

/// The serial ports of a machine.
#[remote(name = "farref.SerialPorts")]
pub trait SerialPorts {
    /// The ports that the system knows of, by path.
    async fn list(&self) -> Result<Vec<PortInfo>, Failure>;

    /// Opens the port `name`, and sends it `bytes`. It is closed when nobody reads it any more.
    ///
    /// `name` is a path, or `usb(1a86:7523:SERIAL)`, which finds the device whatever it is called today.
    ///
    /// # Errors
    ///
    /// [`NotFound`](std::io::ErrorKind::NotFound) if there is no such port,
    /// [`ResourceBusy`](std::io::ErrorKind::ResourceBusy) if somebody has it, otherwise what opening failed with over there.
    async fn open(&self, name: String, settings: Settings, bytes: ByteStream) -> Result<ByteStream, Failure>;
}

/// What is known about a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortInfo {
    /// Its path.
    pub path: String,
    /// The device behind it, if that is on USB.
    pub usb: Option<Usb>,
}

/// What a USB device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usb {
    /// The number of its vendor.
    pub vendor: u16,
    /// The vendor's number for it.
    pub product: u16,
    /// Its serial number.
    pub serial: Option<String>,
    /// The vendor in words.
    pub vendor_name: Option<String>,
    /// The product in words.
    pub product_name: Option<String>,
}

/// How a line is driven; by default 115200 8N1 without flow control.
///
/// ```
/// use farref_services::serial_ports::{Parity, Settings};
///
/// let slow = Settings::new(9600).parity(Parity::Even);
/// # drop(slow);
/// ```
///
/// By name whatever is left out is as by default: `{"baud": 9600}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// Bits per second.
    pub baud: u32,
    /// Bits in a character, 5 to 8.
    pub data_bits: u8,
    /// The check of a character.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// Who may send when.
    pub flow: FlowControl,
    /// The line DTR, which resets some boards: raised or lowered at the start; nothing leaves it as it is.
    pub dtr: Option<bool>,
}

/// The check of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "as many as ports have")]
pub enum Parity {
    /// None.
    None,
    /// An even number of ones.
    Even,
    /// An odd number of ones.
    Odd,
}

/// Who may send when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "as many as ports have")]
pub enum FlowControl {
    /// Anybody at any time.
    None,
    /// By the lines RTS and CTS.
    RtsCts,
    /// By the characters XON and XOFF, which then are no data.
    XonXoff,
}

impl Settings {
    /// So many bits per second, 8N1.
    #[must_use]
    pub const fn new(baud: u32) -> Self {
        Self {
            baud,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            flow: FlowControl::None,
            dtr: None,
        }
    }

    /// Sets the bits in a character, 5 to 8.
    #[must_use]
    pub const fn data_bits(mut self, bits: u8) -> Self {
        self.data_bits = bits;
        self
    }

    /// Sets the check of a character.
    #[must_use]
    pub const fn parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// Sets the stop bits, 1 or 2.
    #[must_use]
    pub const fn stop_bits(mut self, bits: u8) -> Self {
        self.stop_bits = bits;
        self
    }

    /// Sets who may send when.
    #[must_use]
    pub const fn flow(mut self, flow: FlowControl) -> Self {
        self.flow = flow;
        self
    }

    /// Raises or lowers the line DTR at the start.
    #[must_use]
    pub const fn dtr(mut self, is_on: bool) -> Self {
        self.dtr = Some(is_on);
        self
    }
}

impl Settings {
    /// As options of an address: `baud=9600&parity=even`.
    #[cfg(feature = "serial")]
    fn to_options(self) -> String {
        let parity = match self.parity {
            Parity::None => "none",
            Parity::Even => "even",
            Parity::Odd => "odd",
        };
        let flow = match self.flow {
            FlowControl::None => "none",
            FlowControl::RtsCts => "rts",
            FlowControl::XonXoff => "xon",
        };
        let dtr = match self.dtr {
            None => "keep",
            Some(true) => "on",
            Some(false) => "off",
        };
        let Self {
            baud,
            data_bits,
            stop_bits,
            ..
        } = self;
        format!("baud={baud}&data={data_bits}&parity={parity}&stop={stop_bits}&flow={flow}&dtr={dtr}")
    }

    /// From the options of an address, which has checked them.
    #[cfg(feature = "serial")]
    fn of(address: &farref_transport::Address) -> Self {
        let small = |name| address.number(name).and_then(|number| u8::try_from(number).ok());
        let baud = address.number("baud").and_then(|baud| u32::try_from(baud).ok());
        let default = Self::default();
        Self {
            baud: baud.unwrap_or(default.baud),
            data_bits: small("data").unwrap_or(default.data_bits),
            parity: match address.option("parity") {
                Some("even") => Parity::Even,
                Some("odd") => Parity::Odd,
                _ => Parity::None,
            },
            stop_bits: small("stop").unwrap_or(default.stop_bits),
            flow: match address.option("flow") {
                Some("rts") => FlowControl::RtsCts,
                Some("xon") => FlowControl::XonXoff,
                _ => FlowControl::None,
            },
            dtr: match address.option("dtr") {
                Some("on") => Some(true),
                Some("off") => Some(false),
                _ => None,
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(115_200)
    }
}
