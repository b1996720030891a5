//! How a child ended, or why it did not begin.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

/// How a child process ended, where that was not as it should.
///
/// It sits inside the [`io::Error`] of a read or write, where [`ended()`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    name: String,
    outcome: Outcome,
    has_spoken: bool,
    last_words: String,
    meaning: Option<&'static str>,
}

/// What the system says about the end of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It ended by itself, with this status.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// Something else in this process took note of the end.
    Unknown,
}

impl Ended {
    pub(super) fn new(
        name: &str,
        outcome: Outcome,
        has_spoken: bool,
        last_words: String,
        meaning: Option<&'static str>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            outcome,
            has_spoken,
            last_words,
            meaning,
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the child had said anything at all.
    #[must_use]
    pub const fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// The last lines of its standard error, joined by ` | `, if they went to the log; at most 8 lines of at
    /// most 4 KiB. It is the child's word, with nothing unprintable in it.
    #[must_use]
    pub fn last_words(&self) -> &str {
        &self.last_words
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, .. } = self;
        match self.outcome {
            Outcome::Exited(status) => write!(f, "`{name}` exited with status {status}")?,
            Outcome::Killed(signal) => write!(f, "`{name}` was killed by signal {signal}")?,
            Outcome::Unknown => write!(f, "`{name}` ended")?,
        }
        if !self.has_spoken {
            f.write_str(" before it spoke")?;
        }
        if let Some(meaning) = self.meaning {
            write!(f, ": {meaning}")?;
        }
        if !self.last_words.is_empty() {
            write!(f, " (it said: {})", shortened(&self.last_words))?;
        }
        Ok(())
    }
}

impl Error for Ended {}

/// How the child ended, if that is what `error` tells.
#[must_use]
pub fn ended(error: &io::Error) -> Option<&Ended> {
    error.get_ref()?.downcast_ref()
}

/// The last of a long text: what a program says last tells most.
fn shortened(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MOST_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NotStarted {
    NoProgram { program: String, searched: String },
    NoFile { program: String },
    NoDirectory { directory: String },
    NoInterpreter { program: String },
    NoExecutable { program: String },
    MayNot { program: String },
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram { program, searched } => {
                write!(
                    f,
                    "there is no program `{program}` in {searched}: install it, or give its path"
                )
            }
            Self::NoFile { program } => write!(f, "there is no file `{program}`"),
            Self::NoDirectory { directory } => {
                write!(f, "the working directory `{directory}` does not exist")
            }
            Self::NoInterpreter { program } => write!(
                f,
                "`{program}` is there, but the interpreter or loader that it asks for is not"
            ),
            Self::NoExecutable { program } => write!(f, "`{program}` is no program of this machine"),
            Self::MayNot { program } => write!(f, "this account may not run `{program}`"),
        }
    }
}

impl Error for NotStarted {}

/// What the system said, in words that tell what to mend.
pub(super) fn not_started(command: &Command, error: io::Error) -> io::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let cwd = command.get_current_dir();
    let told = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            if cwd.is_some_and(|directory| !directory.is_dir()) =>
        {
            let directory = cwd.unwrap_or(Path::new("")).display().to_string();
            NotStarted::NoDirectory { directory }
        }
        io::ErrorKind::NotFound if !program.contains('/') => {
            let searched = searched(command);
            NotStarted::NoProgram { program, searched }
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !Path::new(&program).exists() => {
            NotStarted::NoFile { program }
        }
        io::ErrorKind::NotFound => NotStarted::NoInterpreter { program },
        io::ErrorKind::PermissionDenied => NotStarted::MayNot { program },
        _ if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NOEXEC) => {
            let told = NotStarted::NoExecutable { program };
            return io::Error::new(io::ErrorKind::InvalidInput, told);
        }
        _ => return error,
    };
    io::Error::new(error.kind(), told)
}

/// Where a program without a path is looked for: by the `PATH` that the child gets.
fn searched(command: &Command) -> String {
    let own = command.get_envs().find(|(name, _)| *name == "PATH");
    let path = match own {
        Some((_, path)) => path.map(ToOwned::to_owned),
        None => std::env::var_os("PATH"),
    };
    path.map_or("an empty PATH".to_owned(), |path| {
        path.to_string_lossy().into_owned()
    })
}

/// How much of a child's last words an error shows, in bytes.
const MOST_SHOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_as_a_person_would_say_it() {
        let told = |outcome, has_spoken, words: &str, meaning| {
            Ended::new("agent", outcome, has_spoken, words.to_owned(), meaning).to_string()
        };
        assert_eq!(
            told(Outcome::Exited(3), false, "", None),
            "`agent` exited with status 3 before it spoke"
        );
        assert_eq!(
            told(Outcome::Killed(9), true, "", None),
            "`agent` was killed by signal 9"
        );
        assert_eq!(
            told(
                Outcome::Exited(127),
                false,
                "sh: x: not found",
                Some("no such command")
            ),
            "`agent` exited with status 127 before it spoke: no such command (it said: sh: x: not found)"
        );
    }

    #[test]
    fn only_the_last_of_many_words_are_shown() {
        let words = format!("{}é the last", "é".repeat(5000));
        let text = Ended::new("agent", Outcome::Exited(1), true, words, None).to_string();
        assert!(text.len() < 1200 && text.ends_with("é the last)"), "{text}");
    }
}
