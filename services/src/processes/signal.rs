//! Signals by name and number of this system.

use rustix::process::Signal as Number;

use super::Signal;

/// Those that have names everywhere, and those of Linux.
const NAMES: &[(&str, Number)] = &[
    ("HUP", Number::HUP),
    ("INT", Number::INT),
    ("QUIT", Number::QUIT),
    ("ILL", Number::ILL),
    ("TRAP", Number::TRAP),
    ("ABRT", Number::ABORT),
    ("BUS", Number::BUS),
    ("FPE", Number::FPE),
    ("KILL", Number::KILL),
    ("USR1", Number::USR1),
    ("SEGV", Number::SEGV),
    ("USR2", Number::USR2),
    ("PIPE", Number::PIPE),
    ("ALRM", Number::ALARM),
    ("TERM", Number::TERM),
    ("CHLD", Number::CHILD),
    ("CONT", Number::CONT),
    ("STOP", Number::STOP),
    ("TSTP", Number::TSTP),
    ("TTIN", Number::TTIN),
    ("TTOU", Number::TTOU),
    ("URG", Number::URG),
    ("XCPU", Number::XCPU),
    ("XFSZ", Number::XFSZ),
    ("VTALRM", Number::VTALARM),
    ("PROF", Number::PROF),
    ("WINCH", Number::WINCH),
    ("IO", Number::IO),
    ("SYS", Number::SYS),
    #[cfg(target_os = "linux")]
    ("PWR", Number::POWER),
];

/// The signal of that name, however it is written.
pub(super) fn number(signal: &Signal) -> Option<Number> {
    let signal: Signal = signal.name().parse().ok()?;
    let known = NAMES.iter().find(|(name, _)| *name == signal.name());
    known.map(|(_, number)| *number)
}

/// The name of a number.
pub(super) fn name(number: i32) -> Signal {
    let known = NAMES.iter().find(|(_, known)| known.as_raw() == number);
    Signal(known.map_or_else(|| number.to_string().into(), |(name, _)| (*name).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_number_and_back() {
        for (text, known) in NAMES {
            let signal: Signal = text.parse().unwrap();
            assert_eq!(number(&signal), Some(*known));
            assert_eq!(name(known.as_raw()), signal);
        }
        assert_eq!(number(&"FOO".parse().unwrap()), None);
        assert_eq!(name(40).name(), "40");
    }
}
