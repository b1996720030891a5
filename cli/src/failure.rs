//! What the program tells when it fails: what, why, what to do next, and with which code it ends.

use std::fmt;
use std::io;

use farref::{Error, ErrorKind};

/// What the exit codes mean; `--help` shows it too.
pub(crate) const CODES: &str = "\
Exit codes:
  0    done
  1    the far side answered with an error
  2    the command line, or something on this side, is not as it should be
  3    no connection, or it was lost
  4    not trusted, or not allowed
  5    it took too long
  `farref exec` ends with the code of the command, with 128 + n if signal n
  ended it, and with 255 if farref itself failed.";

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Done = 0,
    Remote = 1,
    Usage = 2,
    Connection = 3,
    Denied = 4,
    TimedOut = 5,
}

/// Why the program ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    what: String,
    hint: Option<String>,
    /// Whether nobody is there to be told.
    is_quiet: bool,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, what: impl fmt::Display) -> Self {
        Self {
            code: code as u8,
            what: what.to_string(),
            hint: None,
            is_quiet: false,
        }
    }

    /// The command line is wrong.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Code::Usage, what)
    }

    /// `what` was tried, and `error` came of it.
    pub(crate) fn of(what: impl fmt::Display, error: &Error) -> Self {
        let code = code_of(error);
        Self::new(code, format!("{what}: {error:#}"))
    }

    /// `what` was tried on this side, and `error` came of it.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Code::Usage, format!("{what}: {error}"))
    }

    /// Ends with `code` and says nothing: it was said already, or there is nothing to say.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            code,
            what: String::new(),
            hint: None,
            is_quiet: true,
        }
    }

    /// What to do about it: a command, or a clause.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The same below where it was raised.
    #[must_use]
    pub(crate) fn with_traceback(mut self, traceback: &str) -> Self {
        self.what = format!("{}\n{traceback}", self.what.trim_end());
        self
    }

    /// The same with another code.
    #[must_use]
    pub(crate) const fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    pub(crate) const fn is_quiet(&self) -> bool {
        self.is_quiet
    }
}

/// One line, and one for the hint, as they are shown behind `farref: `.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what.trim_end())?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Writing to standard output failed. Whoever read it has had enough: that is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Code::Done as u8);
        }
        Self::io("cannot write the output", &error)
    }
}

/// The code that stands for an error.
pub(crate) fn code_of(error: &Error) -> Code {
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Revoked => Code::Denied,
        ErrorKind::Deadline => Code::TimedOut,
        ErrorKind::Carrier | ErrorKind::Disconnected(_) | ErrorKind::Malformed | ErrorKind::Incompatible => {
            Code::Connection
        }
        ErrorKind::Address | ErrorKind::Misuse | ErrorKind::Unsupported if !error.is_remote() => Code::Usage,
        _ => Code::Remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_the_code_that_the_help_promises() {
        for (kind, code) in [
            (ErrorKind::Remote, 1),
            (ErrorKind::Unimplemented, 1),
            (ErrorKind::Address, 2),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::Carrier, 3),
            (ErrorKind::Disconnected(farref::Certainty::Unknown), 3),
            (ErrorKind::Denied, 4),
            (ErrorKind::Deadline, 5),
        ] {
            assert_eq!(code_of(&Error::new(kind, "x")) as u8, code, "{kind:?}");
            assert!(CODES.contains(&format!("\n  {code}    ")));
        }
    }

    #[test]
    fn a_broken_pipe_ends_the_program_quietly() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_quiet() && failure.code == 0);
    }
}
