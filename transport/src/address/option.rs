//! The options of each scheme: their names, their values, and whether they may be repeated.
//!
//! What an option does is documented with its medium.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One option of a scheme.
pub(super) struct Rule {
    pub(super) name: &'static str,
    values: Values,
    /// A value to show to whoever has none.
    pub(super) example: &'static str,
    pub(super) may_repeat: bool,
}

pub(super) enum Values {
    Switch,
    Number(RangeInclusive<u64>),
    /// `250ms`, `30s`, `5m`, `1h`; not zero.
    Duration,
    /// Permissions, octal, up to 0777.
    Mode,
    Word(&'static [&'static str]),
    Ip,
    Text,
}

impl Rule {
    pub(super) const fn new(name: &'static str, values: Values, example: &'static str) -> Self {
        Self {
            name,
            values,
            example,
            may_repeat: false,
        }
    }

    const fn repeated(name: &'static str, example: &'static str) -> Self {
        Self {
            name,
            values: Values::Text,
            example,
            may_repeat: true,
        }
    }

    pub(super) const fn is_switch(&self) -> bool {
        matches!(self.values, Values::Switch)
    }

    /// Whether `value` is one that the option can have.
    pub(super) fn takes(&self, value: &str) -> bool {
        match &self.values {
            Values::Switch => matches!(value, "0" | "1"),
            Values::Number(range) => number(value).is_some_and(|number| range.contains(&number)),
            Values::Duration => duration(value).is_some_and(|duration| !duration.is_zero()),
            Values::Mode => {
                let is_octal = value.len() <= 4 && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
                is_octal && u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o777)
            }
            Values::Word(words) => words.contains(&value),
            Values::Ip => value.parse::<IpAddr>().is_ok(),
            Values::Text => !value.is_empty(),
        }
    }
}

/// The options of `scheme`; none for one that is not known.
pub(super) const fn rules(scheme: &str) -> &'static [Rule] {
    match scheme.as_bytes() {
        b"tcp" => TCP,
        b"ssl" => SSL,
        b"quic" => QUIC,
        b"unix" => UNIX,
        b"serial" => SERIAL,
        b"stdio" => STDIO,
        b"exec" => EXEC,
        b"ssh" => SSH,
        b"mem" => MEMORY,
        _ => &[],
    }
}

/// A number, of digits alone.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// A time with its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(unit)?;
    let count = number(count)?;
    match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(count.checked_mul(60 * 60)?)),
        _ => None,
    }
}

const TCP: &[Rule] = &[
    Rule::new("bind", Values::Ip, "127.0.0.1"),
    Rule::new("keepalive", Values::Duration, "30s"),
    Rule::new("lowat", Values::Number(1..=1 << 30), "131072"),
    Rule::new("quickack", Values::Switch, "1"),
];

const SSL: &[Rule] = &[
    Rule::new("bind", Values::Ip, "127.0.0.1"),
    Rule::new("ca", Values::Text, "ca.pem"),
    Rule::new("cert", Values::Text, "cert.pem"),
    Rule::new("insecure", Values::Switch, "1"),
    Rule::new("keepalive", Values::Duration, "30s"),
    Rule::new("key", Values::Text, "key.pem"),
    Rule::new("lowat", Values::Number(1..=1 << 30), "131072"),
    Rule::new("name", Values::Text, "localhost"),
    Rule::new("quickack", Values::Switch, "1"),
];

const QUIC: &[Rule] = &[
    Rule::new("bind", Values::Ip, "127.0.0.1"),
    Rule::new("idle", Values::Duration, "30s"),
    Rule::new("keepalive", Values::Duration, "10s"),
    Rule::new("migrate", Values::Switch, "1"),
];

const UNIX: &[Rule] = &[Rule::new("mode", Values::Mode, "0600")];

const SERIAL: &[Rule] = &[
    Rule::new("arq", Values::Switch, "1"),
    Rule::new("baud", Values::Number(1..=u32::MAX as u64), "115200"),
    Rule::new("data", Values::Word(&["5", "6", "7", "8"]), "8"),
    Rule::new("dtr", Values::Word(&["keep", "on", "off"]), "keep"),
    Rule::new("exclusive", Values::Switch, "1"),
    Rule::new("flow", Values::Word(&["none", "rts", "xon"]), "none"),
    Rule::new("parity", Values::Word(&["none", "even", "odd"]), "none"),
    Rule::new("payload", Values::Number(1..=65536), "240"),
    Rule::new("stop", Values::Word(&["1", "2"]), "1"),
    Rule::new("window", Values::Number(1..=128), "16"),
];

const STDIO: &[Rule] = &[
    Rule::new("guard", Values::Switch, "1"),
    Rule::new("in", Values::Number(0..=i32::MAX as u64), "0"),
    Rule::new("out", Values::Number(0..=i32::MAX as u64), "1"),
];

const EXEC: &[Rule] = &[
    Rule::repeated("arg", "--stdio"),
    Rule::new("cwd", Values::Text, "/"),
    Rule::repeated("env", "NAME=value"),
    Rule::new("kill", Values::Duration, "5s"),
    Rule::new("stderr", Values::Word(&["inherit", "log", "null"]), "inherit"),
];

const SSH: &[Rule] = &[
    Rule::new("agent", Values::Text, "auto"),
    Rule::repeated("arg", "agent"),
    Rule::new("batch", Values::Switch, "1"),
    Rule::new("command", Values::Text, "farref"),
    Rule::new("config", Values::Text, "none"),
    Rule::new("deploy", Values::Word(&["auto", "never", "always"]), "auto"),
    Rule::new("identity", Values::Text, "key"),
    Rule::repeated("opt", "ServerAliveInterval=15"),
    Rule::new("path", Values::Text, "farref"),
    Rule::new("persist", Values::Switch, "1"),
    Rule::new("to", Values::Number(1..=65535), "7000"),
    Rule::new("token", Values::Switch, "1"),
    Rule::new("wait", Values::Duration, "30s"),
];

const MEMORY: &[Rule] = &[
    Rule::new("buffer", Values::Number(1..=16 * 1024 * 1024), "262144"),
    Rule::new("mux", Values::Switch, "1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [&str; 9] = [
        "tcp", "ssl", "quic", "unix", "serial", "stdio", "exec", "ssh", "mem",
    ];

    #[test]
    fn every_example_is_a_value_of_its_option() {
        for scheme in SCHEMES {
            assert!(!rules(scheme).is_empty(), "{scheme}");
            for rule in rules(scheme) {
                assert!(
                    rule.takes(rule.example),
                    "{scheme}: {}={}",
                    rule.name,
                    rule.example
                );
            }
        }
    }

    #[test]
    fn the_options_of_a_scheme_are_in_order_and_few() {
        for scheme in SCHEMES {
            assert!(rules(scheme).is_sorted_by(|a, b| a.name < b.name), "{scheme}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "30 s",
            "30S",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(duration(&format!("{}h", u64::MAX)), None);
    }
}
