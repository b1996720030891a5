//! What an address says about a port: speed, characters, lines, and who may share it.

use std::time::Duration;

use tokio_serial::{DataBits, FlowControl, Parity, StopBits};

use crate::address::Address;

/// The options of a serial address, with their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Bits per second on the wire.
    pub(super) baud: u32,
    pub(super) data: DataBits,
    pub(super) parity: Parity,
    pub(super) stop: StopBits,
    pub(super) flow: FlowControl,
    /// Whether DTR is raised or lowered at the start; `None` leaves it to the system.
    pub(super) dtr: Option<bool>,
    /// Whether nobody else may open the port meanwhile.
    pub(super) exclusive: bool,
    /// The bytes of a fragment.
    pub(super) payload: u32,
}

impl Settings {
    /// The address was parsed: values that it cannot have do not come up.
    pub(super) fn of(address: &Address) -> Self {
        let number = |name| {
            let number = address.number(name)?;
            u32::try_from(number).ok()
        };
        Self {
            baud: number("baud").unwrap_or(115_200),
            data: match address.option("data") {
                Some("5") => DataBits::Five,
                Some("6") => DataBits::Six,
                Some("7") => DataBits::Seven,
                _ => DataBits::Eight,
            },
            parity: match address.option("parity") {
                Some("even") => Parity::Even,
                Some("odd") => Parity::Odd,
                _ => Parity::None,
            },
            stop: match address.option("stop") {
                Some("2") => StopBits::Two,
                _ => StopBits::One,
            },
            flow: match address.option("flow") {
                Some("rts") => FlowControl::Hardware,
                Some("xon") => FlowControl::Software,
                _ => FlowControl::None,
            },
            dtr: match address.option("dtr") {
                Some("on") => Some(true),
                Some("off") => Some(false),
                _ => None,
            },
            exclusive: address.option("exclusive") != Some("0"),
            payload: number("payload").unwrap_or(PAYLOAD),
        }
    }

    /// How many bytes the line carries in a second, at least one.
    pub(super) fn rate(&self) -> u64 {
        let data = match self.data {
            DataBits::Five => 5,
            DataBits::Six => 6,
            DataBits::Seven => 7,
            DataBits::Eight => 8,
        };
        let parity = match self.parity {
            Parity::None => 0,
            Parity::Odd | Parity::Even => 1,
        };
        let stop = match self.stop {
            StopBits::One => 1,
            StopBits::Two => 2,
        };
        let start = 1;
        (u64::from(self.baud) / (start + data + parity + stop)).max(1)
    }

    /// How many bytes may wait in the driver: two frames, or 20 ms of a fast line.
    ///
    /// What waits there can neither be overtaken by something urgent nor be taken back.
    pub(super) fn most_queued(&self) -> usize {
        let frames = u64::from(2 * (self.payload + FRAME));
        let time = self.rate() * AHEAD.as_millis() as u64 / 1000;
        usize::try_from(frames.max(time)).unwrap_or(usize::MAX)
    }
}

/// The bytes of a fragment, unless the address says otherwise: two blocks of byte stuffing, and at 115200
/// baud 21 ms, which is the longest that something urgent waits behind something that is not.
const PAYLOAD: u32 = 240;

/// What a frame adds to its payload, generously.
const FRAME: u32 = 16;

/// How far a fast line is filled ahead: longer than a timer is late.
const AHEAD: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::of(&text.parse().unwrap())
    }

    #[test]
    fn an_address_without_options_is_115200_8n1_and_alone() {
        let plain = settings("serial:/dev/ttyUSB0");
        let expected = Settings {
            baud: 115_200,
            data: DataBits::Eight,
            parity: Parity::None,
            stop: StopBits::One,
            flow: FlowControl::None,
            dtr: None,
            exclusive: true,
            payload: 240,
        };
        assert_eq!(plain, expected);
        assert_eq!(plain.rate(), 11_520);
    }

    #[test]
    fn every_option_of_a_port_is_heard() {
        let all = settings(
            "serial:/dev/ttyUSB0?baud=1234567&data=7&parity=odd&stop=2&flow=rts&dtr=off&exclusive=0&payload=64",
        );
        let expected = Settings {
            baud: 1_234_567,
            data: DataBits::Seven,
            parity: Parity::Odd,
            stop: StopBits::Two,
            flow: FlowControl::Hardware,
            dtr: Some(false),
            exclusive: false,
            payload: 64,
        };
        assert_eq!(all, expected);
        let others = settings("serial:x?data=5&parity=even&flow=xon&dtr=on&exclusive=1");
        assert_eq!((others.data, others.parity), (DataBits::Five, Parity::Even));
        assert_eq!((others.flow, others.dtr), (FlowControl::Software, Some(true)));
        assert!(others.exclusive);
        assert_eq!(
            settings("serial:x?data=6&dtr=keep&parity=none&flow=none&stop=1").dtr,
            None
        );
    }

    #[test]
    fn the_rate_counts_every_bit_of_a_character() {
        assert_eq!(settings("serial:x?baud=9600").rate(), 960);
        assert_eq!(settings("serial:x?baud=9600&parity=even&stop=2").rate(), 800);
        assert_eq!(settings("serial:x?baud=9600&data=5").rate(), 1371);
        assert_eq!(settings("serial:x?baud=1").rate(), 1);
    }

    #[test]
    fn two_frames_wait_in_the_driver_of_a_slow_line_and_20_ms_in_that_of_a_fast_one() {
        assert_eq!(settings("serial:x?baud=9600").most_queued(), 512);
        assert_eq!(settings("serial:x?baud=9600&payload=64").most_queued(), 160);
        assert_eq!(settings("serial:x?baud=3000000").most_queued(), 6000);
        let largest = settings("serial:x?baud=4294967295&payload=65536");
        assert!(largest.most_queued() < 10_000_000);
    }
}
