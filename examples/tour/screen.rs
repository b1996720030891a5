//! What the tour shows: 80 columns, short headings, aligned facts.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

const WIDTH: usize = 80;
const INDENT: usize = 4;
/// Columns of a label, with the blanks behind it.
const LABEL: usize = 22;

/// The standard output, or nothing. Clones write to the same one.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<State>>);

struct State {
    /// Whether anything is shown.
    is_on: bool,
    colour: bool,
    chapter: u32,
}

impl Screen {
    /// The standard output; in colour if that is a terminal and `NO_COLOR` is not set.
    pub(crate) fn standard() -> Self {
        let colour =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::with(true, colour)
    }

    /// Shows nothing.
    pub(crate) fn off() -> Self {
        Self::with(false, false)
    }

    fn with(is_on: bool, colour: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            is_on,
            colour,
            chapter: 0,
        })))
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&self, title: &str) -> io::Result<()> {
        self.write(|state, out| {
            state.chapter += 1;
            let heading = format!("{:>2}  {title}", state.chapter);
            writeln!(out, "\n{}", state.styled("1", &heading))
        })
    }

    /// How many chapters there were.
    pub(crate) fn chapters(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).chapter
    }

    /// A line of code that the chapter is about.
    pub(crate) fn code(&self, code: &str) -> io::Result<()> {
        self.write(|state, out| {
            let line = format!("{:INDENT$}{code}", "");
            writeln!(out, "{}", state.styled("36", &line))
        })
    }

    /// Sentences, broken into lines.
    pub(crate) fn say(&self, text: impl Display) -> io::Result<()> {
        self.write(|_, out| wrap(out, INDENT, INDENT, &text.to_string()))
    }

    /// A label and what belongs to it.
    pub(crate) fn fact(&self, label: &str, fact: impl Display) -> io::Result<()> {
        let fact = fact.to_string();
        self.write(|_, out| {
            let mut lines = Vec::new();
            wrap(&mut lines, INDENT + LABEL, INDENT + LABEL, &fact)?;
            write!(out, "{:INDENT$}{label:<LABEL$}", "")?;
            out.write_all(lines.trim_ascii_start())
        })
    }

    /// Lines that keep their own indentation.
    pub(crate) fn block(&self, text: impl Display) -> io::Result<()> {
        self.write(|_, out| {
            for line in text.to_string().lines() {
                if line.chars().count() + INDENT <= WIDTH {
                    writeln!(out, "{}", format!("{:INDENT$}{line}", "").trim_end())?;
                } else {
                    let own = INDENT + line.len() - line.trim_start().len();
                    wrap(out, own, own + INDENT, line)?;
                }
            }
            Ok(())
        })
    }

    /// Lines at the very left.
    pub(crate) fn lines(&self, text: impl Display) -> io::Result<()> {
        self.write(|_, out| writeln!(out, "{text}"))
    }

    fn write(&self, write: impl FnOnce(&mut State, &mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_on {
            let mut out = io::stdout().lock();
            write(&mut state, &mut out)?;
            out.flush()
        } else {
            write(&mut state, &mut io::sink())
        }
    }
}

impl State {
    /// Text in an ANSI style.
    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes words in lines of at most [`WIDTH`] columns; the first begins at column `first`, others at `further`. A
/// longer word has a line of its own.
fn wrap(out: &mut dyn Write, first: usize, further: usize, text: &str) -> io::Result<()> {
    let mut line = " ".repeat(first);
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line = " ".repeat(further);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{}", line.trim_end())
}
