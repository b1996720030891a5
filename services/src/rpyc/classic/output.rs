//! What is printed over there, shown here.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use farref_boxing::{Result, Value};
use farref_netref::{Netref, Object, remote};

use super::Classic;

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

/// A file of text, as Python writes to one.
#[remote]
trait TextFile {
    /// Writes a text; so many characters are written.
    fn write(&self, text: String) -> Result<u64>;
    /// Writes several texts.
    fn writelines(&self, texts: Vec<String>) -> Result<()>;
    /// Sees to it that all is written.
    fn flush(&self) -> Result<()>;
    /// Whether it is a terminal.
    fn isatty(&self) -> Result<bool>;
    /// Whether it can be read.
    fn readable(&self) -> Result<bool>;
    /// Whether it can be written.
    fn writable(&self) -> Result<bool>;
    /// Whether it has positions.
    fn seekable(&self) -> Result<bool>;
    /// How characters become bytes.
    #[property]
    fn encoding(&self) -> Result<String>;
    /// What becomes of characters that cannot be written.
    #[property]
    fn errors(&self) -> Result<String>;
    /// Whether it can be used no longer.
    #[property]
    fn closed(&self) -> Result<bool>;
}

struct Shown(Arc<Mutex<Sink>>);

impl Shown {
    fn with(&self, run: impl FnOnce(&mut Sink) -> io::Result<()>) -> Result<()> {
        Ok(run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

impl TextFile for Shown {
    fn write(&self, text: String) -> Result<u64> {
        self.with(|sink| sink.write(&text))?;
        Ok(u64::try_from(text.chars().count()).unwrap_or(u64::MAX))
    }

    fn writelines(&self, texts: Vec<String>) -> Result<()> {
        self.with(|sink| texts.iter().try_for_each(|text| sink.write(text)))
    }

    fn flush(&self) -> Result<()> {
        self.with(Sink::flush)
    }

    fn isatty(&self) -> Result<bool> {
        Ok(false)
    }

    fn readable(&self) -> Result<bool> {
        Ok(false)
    }

    fn writable(&self) -> Result<bool> {
        Ok(true)
    }

    fn seekable(&self) -> Result<bool> {
        Ok(false)
    }

    fn encoding(&self) -> Result<String> {
        Ok("utf-8".into())
    }

    fn errors(&self) -> Result<String> {
        Ok("strict".into())
    }

    fn closed(&self) -> Result<bool> {
        Ok(false)
    }
}

/// What is printed over there is shown here, until this is dropped: then it is restored in the background, or not at all where
/// the connection is gone.
#[must_use = "dropped, it restores what was there"]
pub struct Redirected {
    sys: Object,
    /// By its name in `sys`: what was there, and what it goes to now.
    parts: Vec<(&'static str, Value, Arc<Mutex<Sink>>)>,
}

pub(super) async fn redirect(python: &Classic, stdout: Output, stderr: Output) -> Result<Redirected> {
    let mut redirected = Redirected {
        sys: python.module("sys").await?,
        parts: Vec::new(),
    };
    for (name, output) in [("stdout", stdout), ("stderr", stderr)] {
        let Some(sink) = output.0 else {
            continue;
        };
        let sink = Arc::new(Mutex::new(sink));
        let before = redirected.sys.get(name).await?;
        let file: Netref<dyn TextFile> = Netref::of(Shown(Arc::clone(&sink)));
        // Noted first: it may be set though the answer is not waited for.
        redirected.parts.push((name, before, sink));
        redirected.sys.set(name, file).await?;
    }
    Ok(redirected)
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
        while let Some((name, before, _)) = self.parts.last() {
            self.sys.set(name, before).await?;
            if let Some((_, _, sink)) = self.parts.pop() {
                sink.lock().unwrap_or_else(PoisonError::into_inner).end()?;
            }
        }
        Ok(())
    }
}

impl Drop for Redirected {
    fn drop(&mut self) {
        for (name, before, sink) in self.parts.drain(..).rev() {
            self.sys.set(name, before).on_done(move |_| {
                // Nobody is left to be told.
                drop(sink.lock().unwrap_or_else(PoisonError::into_inner).end());
            });
        }
    }
}

impl fmt::Debug for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.iter().map(|(name, ..)| name);
        f.debug_list().entries(names).finish()
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
