//! Which port an address means: a path, or a USB device by what it says of itself.
//!
//! A path may be a link, such as those of `/dev/serial/by-id`. `usb(VVVV:PPPP:SERIAL)` finds the port
//! whatever it is called today: the vendor and the product in hexadecimal, and the serial number, which may
//! be left out while only one such device is there.

use std::path::{Path, PathBuf};

use tokio_serial::{SerialPortInfo, SerialPortType, UsbPortInfo};

use super::error::PortError;

/// The path of the port that is called `port` now.
pub(super) fn resolve(port: &str) -> Result<PathBuf, PortError> {
    match port.strip_prefix("usb(") {
        None => Ok(PathBuf::from(port)),
        Some(rest) => {
            let device = UsbName::parse(rest).ok_or(PortError::BadUsbName)?;
            device.find(&available()).map(PathBuf::from)
        }
    }
}

/// The paths of the ports that are there, in order.
pub(super) fn paths() -> Vec<String> {
    let mut paths: Vec<_> = available().into_iter().map(|port| port.port_name).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The ports that the system knows of. None where it does not tell.
fn available() -> Vec<SerialPortInfo> {
    // Without this directory, as in some containers, the listing panics.
    if cfg!(target_os = "linux") && !Path::new("/sys/class/tty").is_dir() {
        return Vec::new();
    }
    tokio_serial::available_ports().unwrap_or_default()
}

/// A serial port that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// Its path.
    pub path: String,
    /// What the device behind it says of itself, if that is on USB.
    pub usb: Option<UsbInfo>,
}

/// What a USB device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsbInfo {
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

/// The serial ports that the system knows of, by path; none where it does not tell. Blocks for a moment.
#[must_use]
pub fn ports() -> Vec<PortInfo> {
    let mut ports: Vec<_> = available().into_iter().map(PortInfo::from).collect();
    ports.sort_by(|a, b| a.path.cmp(&b.path));
    ports.dedup_by(|a, b| a.path == b.path);
    ports
}

impl From<SerialPortInfo> for PortInfo {
    fn from(port: SerialPortInfo) -> Self {
        let usb = match port.port_type {
            SerialPortType::UsbPort(usb) => Some(UsbInfo {
                vendor: usb.vid,
                product: usb.pid,
                serial: usb.serial_number,
                vendor_name: usb.manufacturer,
                product_name: usb.product,
            }),
            _ => None,
        };
        Self {
            path: port.port_name,
            usb,
        }
    }
}

/// A USB device, as an address names it.
#[derive(Debug, PartialEq, Eq)]
struct UsbName<'a> {
    vendor: u16,
    product: u16,
    serial: Option<&'a str>,
}

impl<'a> UsbName<'a> {
    /// Reads `1a86:7523:SERIAL)`. The serial number may have colons and brackets of its own.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_suffix(')')?.splitn(3, ':');
        let mut id = || {
            let digits = parts.next()?;
            let is_id = digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u16::from_str_radix(digits, 16).ok().filter(|_| is_id)
        };
        let (vendor, product) = (id()?, id()?);
        let serial = parts.next();
        (serial != Some("")).then_some(Self {
            vendor,
            product,
            serial,
        })
    }

    /// The one port of `ports` that belongs to the device.
    fn find(&self, ports: &[SerialPortInfo]) -> Result<String, PortError> {
        let mut found: Vec<_> = ports
            .iter()
            .filter(|port| match &port.port_type {
                SerialPortType::UsbPort(device) => self.is(device),
                _ => false,
            })
            .map(|port| port.port_name.clone())
            .collect();
        found.sort();
        found.dedup();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(PortError::Missing {
                there: ports.iter().map(described).collect(),
            }),
            (Some(path), true) => Ok(path),
            (Some(path), false) => {
                found.push(path);
                Err(PortError::Ambiguous { there: found })
            }
        }
    }

    fn is(&self, device: &UsbPortInfo) -> bool {
        let serial = device.serial_number.as_deref();
        (self.vendor, self.product) == (device.vid, device.pid)
            && self.serial.is_none_or(|wanted| serial == Some(wanted))
    }
}

/// A port as it could be named in an address.
fn described(port: &SerialPortInfo) -> String {
    let path = &port.port_name;
    match &port.port_type {
        SerialPortType::UsbPort(UsbPortInfo {
            vid,
            pid,
            serial_number: Some(serial),
            ..
        }) => format!("{path} or usb({vid:04x}:{pid:04x}:{serial})"),
        SerialPortType::UsbPort(UsbPortInfo { vid, pid, .. }) => {
            format!("{path} or usb({vid:04x}:{pid:04x})")
        }
        _ => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usb(path: &str, vid: u16, pid: u16, serial: Option<&str>) -> SerialPortInfo {
        SerialPortInfo {
            port_name: path.to_owned(),
            port_type: SerialPortType::UsbPort(UsbPortInfo {
                vid,
                pid,
                serial_number: serial.map(str::to_owned),
                manufacturer: None,
                product: None,
            }),
        }
    }

    fn ports() -> Vec<SerialPortInfo> {
        vec![
            SerialPortInfo {
                port_name: "/dev/ttyS0".to_owned(),
                port_type: SerialPortType::Unknown,
            },
            usb("/dev/ttyUSB0", 0x1a86, 0x7523, None),
            usb("/dev/ttyUSB1", 0x0403, 0x6010, Some("FT1")),
            usb("/dev/ttyUSB2", 0x0403, 0x6010, Some("FT1")),
            usb("/dev/ttyUSB3", 0x0403, 0x6010, Some("FT2")),
            usb("/dev/ttyACM0", 0x303a, 0x1001, Some("34:85:18:AB:CD:EF")),
        ]
    }

    fn find(name: &str) -> Result<String, PortError> {
        UsbName::parse(name.strip_prefix("usb(").unwrap())
            .unwrap()
            .find(&ports())
    }

    #[test]
    fn a_device_is_found_by_what_it_says_of_itself() {
        assert_eq!(find("usb(1a86:7523)").unwrap(), "/dev/ttyUSB0");
        assert_eq!(find("usb(1A86:7523)").unwrap(), "/dev/ttyUSB0");
        assert_eq!(find("usb(403:6010:FT2)").unwrap(), "/dev/ttyUSB3");
        assert_eq!(find("usb(303a:1001:34:85:18:AB:CD:EF)").unwrap(), "/dev/ttyACM0");
    }

    #[test]
    fn two_ports_that_fit_are_both_named() {
        let error = find("usb(0403:6010:FT1)").unwrap_err().to_string();
        assert!(
            error.contains("/dev/ttyUSB1") && error.contains("/dev/ttyUSB2"),
            "{error}"
        );
        assert!(!error.contains("/dev/ttyUSB3"), "{error}");
        assert!(matches!(
            find("usb(0403:6010)"),
            Err(PortError::Ambiguous { there }) if there.len() == 3
        ));
    }

    #[test]
    fn a_device_that_is_not_there_is_told_which_are() {
        for name in ["usb(1a86:7523:SERIAL)", "usb(ffff:7523)", "usb(303a:1001:34)"] {
            let error = find(name).unwrap_err().to_string();
            for there in ["/dev/ttyS0", "usb(1a86:7523)", "usb(303a:1001:34:85:18:AB:CD:EF)"] {
                assert!(error.contains(there), "{name}: {error}");
            }
        }
    }

    #[test]
    fn what_is_not_the_name_of_a_device_is_refused() {
        for name in [
            "usb()",
            "usb(",
            "usb(1a86:7523",
            "usb(1a86)",
            "usb(1a86:)",
            "usb(:7523)",
            "usb(1a86:7523:)",
            "usb(11a86:7523)",
            "usb(+1a8:7523)",
            "usb(1a8g:7523)",
            "usb(1a86:7523:S)x",
        ] {
            assert!(matches!(resolve(name), Err(PortError::BadUsbName)), "{name}");
        }
    }

    #[test]
    fn a_path_is_itself() {
        assert_eq!(
            resolve("/dev/serial/by-id/x").unwrap(),
            Path::new("/dev/serial/by-id/x")
        );
        assert_eq!(resolve("usb").unwrap(), Path::new("usb"));
    }

    #[test]
    fn the_ports_of_this_machine_are_listed_without_a_panic() {
        assert!(paths().is_sorted());
    }
}
