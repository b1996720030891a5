//! What is printed over there, shown here.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use farref_boxing::{ErrorKind, Result, Value};
use farref_netref::{Call, Netref, Object, remote};

use super::{Classic, object};

/// What becomes of what is printed over there.
pub struct Output(Option<Sink>);

enum Sink {
    Writer(Box<dyn Write + Send>),
    Lines {
        /// The line that has no end yet.
        begun: String,
        take: Box<dyn FnMut(&str) + Send>,
    },
}

impl Output {
    /// It goes where it went.
    #[must_use]
    pub const fn unchanged() -> Self {
        Self(None)
    }

    /// It is written to `writer` as it comes, in UTF-8, and flushed when Python says so. What that fails with is raised over
    /// there.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self(Some(Sink::Writer(Box::new(writer))))
    }

    /// Each line goes to `take`, without its end. What is longer than 64 KiB is several; what is left at the end is the last.
    pub fn lines(take: impl FnMut(&str) + Send + 'static) -> Self {
        Self(Some(Sink::Lines {
            begun: String::new(),
            take: Box::new(take),
        }))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "Output(unchanged)",
            Some(Sink::Writer(_)) => "Output(writer)",
            Some(Sink::Lines { .. }) => "Output(lines)",
        })
    }
}

/// So many bytes of a line are kept until it ends.
const LONGEST_LINE: usize = 64 << 10;

impl Sink {
    fn write(&mut self, text: &str) -> io::Result<()> {
        let (begun, take) = match self {
            Self::Writer(writer) => return writer.write_all(text.as_bytes()),
            Self::Lines { begun, take } => (begun, take),
        };
        for piece in text.split_inclusive('\n') {
            let (mut rest, is_whole) = match piece.strip_suffix('\n') {
                Some(line) => (line, true),
                None => (piece, false),
            };
            loop {
                let (next, behind) = split(rest, LONGEST_LINE.saturating_sub(begun.len()));
                begun.push_str(next);
                if behind.is_empty() {
                    break;
                }
                take(&mem::take(begun));
                rest = behind;
            }
            if is_whole {
                take(&mem::take(begun));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Writer(writer) => writer.flush(),
            Self::Lines { .. } => Ok(()),
        }
    }

    /// Gives what is left of it.
    fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Writer(writer) => writer.flush(),
            Self::Lines { begun, take } => {
                if !begun.is_empty() {
                    take(&mem::take(begun));
                }
                Ok(())
            }
        }
    }
}

/// The longest beginning of at most so many bytes, and what is behind it.
fn split(text: &str, most: usize) -> (&str, &str) {
    let mut ends = (0..=most.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Where Python's end of it writes.
#[remote]
trait Shown {
    /// Shows a text.
    fn write(&self, text: String) -> Result<()>;
    /// Sees to it that all is shown.
    fn flush(&self) -> Result<()>;
}

struct Screen(Arc<Mutex<Sink>>);

impl Screen {
    fn with(&self, run: impl FnOnce(&mut Sink) -> io::Result<()>) -> Result<()> {
        Ok(run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

impl Shown for Screen {
    fn write(&self, text: String) -> Result<()> {
        self.with(|sink| sink.write(&text))
    }

    fn flush(&self) -> Result<()> {
        self.with(Sink::flush)
    }
}

/// What is printed over there is shown here, until this is dropped: then it is restored in the background. If the connection is
/// lost, Python restores it by itself when something is printed next.
#[must_use = "dropped, it restores what was there"]
pub struct Redirected(Vec<(Forwarding, Arc<Mutex<Sink>>)>);

/// Python's end of one.
enum Forwarding {
    /// It is being made: it may be there already.
    Asked(Call<Result<Value>>),
    Made(Object),
}

/// The name of the module that [`FORWARDED`] is the source of.
const MODULE: &str = "farref_output";

/// Python's end: a file that is a file whoever it is given to, and outlives the connection.
const FORWARDED: &str = r#""""Shows what is printed in this process in another one, as long as that is there."""

import io
import sys


def is_lost(shown):
    """Whether its connection is over: what fails then may fail with anything, as another thread closes it meanwhile."""
    if isinstance(sys.exc_info()[1], (EOFError, ReferenceError)):
        return True
    try:
        return object.__getattribute__(shown, "____conn__").closed
    except Exception:
        return False


class Forwarded(io.TextIOBase):
    """Stands for sys.stdout or sys.stderr."""

    encoding = "utf-8"
    errors = "strict"

    def __init__(self, name, shown):
        self._name, self._shown, self._before = name, shown, getattr(sys, name)
        setattr(sys, name, self)

    def writable(self):
        return True

    def write(self, text):
        shown = self._shown
        try:
            if shown is not None:
                shown.write(text)
                return len(text)
        except Exception:
            if not is_lost(shown):
                raise
            self.restore()
        if self._before is not None:
            self._before.write(text)
        return len(text)

    def flush(self):
        shown = self._shown
        try:
            if shown is not None:
                shown.flush()
        except Exception:
            if not is_lost(shown):
                raise
            self.restore()

    def restore(self):
        """Restores what was there before, unless something else is there by now."""
        self._shown = None
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._before)
"#;

pub(super) async fn redirect(python: &Classic, stdout: Output, stderr: Output) -> Result<Redirected> {
    let module = python.define(MODULE, FORWARDED).await?;
    let mut redirected = Redirected(Vec::new());
    for (name, output) in [("stdout", stdout), ("stderr", stderr)] {
        let Some(sink) = output.0 else {
            continue;
        };
        let sink = Arc::new(Mutex::new(sink));
        let shown: Netref<dyn Shown> = Netref::of(Screen(Arc::clone(&sink)));
        let made = module.call("Forwarded", (name, shown)).start();
        redirected.0.push((Forwarding::Asked(made), sink));
        if let Some((forwarding, _)) = redirected.0.last_mut() {
            forwarding.made().await?;
        }
    }
    Ok(redirected)
}

impl Forwarding {
    async fn made(&mut self) -> Result<&Object> {
        if let Self::Asked(call) = self {
            let made = object(call.await?)?;
            *self = Self::Made(made);
        }
        match self {
            Self::Made(made) => Ok(made),
            Self::Asked(_) => Err(ErrorKind::Misuse.into()),
        }
    }
}

impl Redirected {
    /// Restores what was there, and waits for it. What was printed until then has been shown when this returns.
    ///
    /// # Errors
    ///
    /// Those of [`Classic`]; what a writer failed with at its last flush.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rest is restored in the background.
    pub async fn restore(mut self) -> Result<()> {
        while let Some((forwarding, _)) = self.0.last_mut() {
            forwarding.made().await?.call("restore", ()).await?;
            if let Some((_, sink)) = self.0.pop() {
                sink.lock().unwrap_or_else(PoisonError::into_inner).end()?;
            }
        }
        Ok(())
    }
}

impl Drop for Redirected {
    fn drop(&mut self) {
        for (forwarding, sink) in self.0.drain(..).rev() {
            // Nobody is left to be told.
            let end = move || drop(sink.lock().unwrap_or_else(PoisonError::into_inner).end());
            match forwarding {
                Forwarding::Made(made) => made.call("restore", ()).on_done(move |_| end()),
                Forwarding::Asked(call) => call.on_done(move |made| {
                    if let Ok(made) = made.and_then(object) {
                        made.call("restore", ()).on_done(move |_| end());
                    }
                }),
            }
        }
    }
}

impl fmt::Debug for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redirected({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_given_when_it_ends_and_the_last_one_at_the_end() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&seen);
        let mut sink = Output::lines(move |line| lines.lock().unwrap().push(line.to_owned()))
            .0
            .unwrap();
        for text in ["one\ntw", "o", "\n\nla", "st"] {
            sink.write(text).unwrap();
        }
        sink.end().unwrap();
        assert_eq!(*seen.lock().unwrap(), ["one", "two", "", "last"]);
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        for piece in ["x".repeat(1000), "ä".repeat(100_000)] {
            let seen = Arc::new(Mutex::new(String::new()));
            let lines = Arc::clone(&seen);
            let mut sink = Output::lines(move |line| {
                assert!(line.len() <= LONGEST_LINE);
                lines.lock().unwrap().push_str(line);
            })
            .0
            .unwrap();
            for _ in 0..100 {
                sink.write(&piece).unwrap();
            }
            let given = seen.lock().unwrap().len();
            assert!(given + LONGEST_LINE >= 100 * piece.len(), "{given}");
            sink.end().unwrap();
            assert!(*seen.lock().unwrap() == piece.repeat(100));
        }
    }
}
