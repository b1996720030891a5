//! Completion of names from the far side, and what else the line editor asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farref::object::Description;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use super::parse::parse;
use super::session::Session;
use crate::output::{CYAN, paint};

/// What the line editor asks.
pub(crate) struct Assistant {
    session: Arc<AsyncMutex<Session>>,
    runtime: Handle,
    has_colours: bool,
    /// What arguments a method takes is not told.
    is_python: bool,
    /// What is known of paths: it is asked for once.
    known: Mutex<HashMap<String, Description>>,
}

/// So long a far side is waited for while somebody types.
const PATIENCE: Duration = Duration::from_secs(2);

impl Assistant {
    pub(crate) fn new(
        session: Arc<AsyncMutex<Session>>,
        runtime: Handle,
        has_colours: bool,
        is_python: bool,
    ) -> Self {
        Self {
            session,
            runtime,
            has_colours,
            is_python,
            known: Mutex::default(),
        }
    }

    /// Names may stand for something else after a line.
    pub(crate) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn describe(&self, path: &str) -> Option<Description> {
        if let Some(known) = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
        {
            return Some(known.clone());
        }
        let names: Vec<_> = path.split('.').filter(|name| !name.is_empty()).collect();
        let found = self.runtime.block_on(async {
            let asked = async {
                let session = self.session.lock().await;
                session.look_up(&names).await?.describe().await.ok()
            };
            tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
        })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), found.clone());
        Some(found)
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let Some((start, path, word)) = word(before) else {
            return Ok((at, Vec::new()));
        };
        let mut found = Vec::new();
        if path.is_empty() {
            if before.trim_start() == word {
                found.extend(
                    COMMANDS
                        .iter()
                        .map(|name| ((*name).to_owned(), format!("{name} "))),
                );
            }
            if let Ok(session) = self.session.try_lock() {
                found.extend(session.names().map(|name| (name.to_owned(), name.to_owned())));
            }
        }
        if let Some(description) = self.describe(path) {
            for name in description.names() {
                let method = description.method(&name);
                let written = match method {
                    Some(method) if method.property.is_some() => name.clone(),
                    Some(method) if method.arguments.is_empty() && !self.is_python => format!("{name}()"),
                    _ => format!("{name}("),
                };
                found.push((name, written));
            }
        }
        found.retain(|(name, _)| name.starts_with(word));
        found.sort_unstable();
        found.dedup();
        let pairs = found
            .into_iter()
            .map(|(display, replacement)| Pair { display, replacement });
        Ok((start, pairs.collect()))
    }
}

const COMMANDS: [&str; 7] = ["dir", "doc", "iter", "del", "vars", "help", "quit"];

/// The word that is being typed: where it begins, the path before it, and itself. None within a text, or behind what only
/// a call would tell.
fn word(before: &str) -> Option<(usize, &str, &str)> {
    let is_quoted = before
        .chars()
        .fold((false, false), |(quoted, escaped), c| match c {
            _ if escaped => (quoted, false),
            '\\' if quoted => (true, true),
            '"' => (!quoted, false),
            _ => (quoted, false),
        });
    if is_quoted.0 {
        return None;
    }
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    let whole = before.trim_end_matches(|c| is_name(c) || c == '.').len();
    let text = before.get(whole..)?;
    // `f(1).na`: what `f` returns is not known.
    let behind = before.get(..whole)?.chars().next_back();
    let (path, word) = text.rsplit_once('.').unwrap_or(("", text));
    if text.starts_with('.') && matches!(behind, Some(')' | ']')) {
        return None;
    }
    Some((before.len() - word.len(), path, word))
}

impl Hinter for Assistant {
    type Hint = String;

    /// The arguments of the method whose bracket was just opened.
    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        let before = line
            .get(..at)
            .filter(|before| at == line.len() && before.ends_with('('))?;
        let (_, path, name) = word(before.strip_suffix('(')?)?;
        // Only what is known already: nobody waits for a hint.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let method = known.get(path)?.method(name)?.clone();
        let arguments: Vec<_> = method
            .arguments
            .iter()
            .map(|argument| format!("{}: {}", argument.name, argument.of))
            .collect();
        (!arguments.is_empty()).then(|| format!("{})", arguments.join(", ")))
    }
}

impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> std::borrow::Cow<'b, str> {
        paint(self.has_colours, CYAN, prompt).into()
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> std::borrow::Cow<'h, str> {
        paint(self.has_colours, crate::output::DIM, hint).into()
    }
}

impl Validator for Assistant {
    /// A bracket that is open goes on in the next line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let line = context.input();
        let is_open = parse(line).is_err_and(|error| error.is_unfinished) && !line.ends_with('\n');
        let has_bracket = line.contains(['(', '[', '{']);
        Ok(match is_open && has_bracket {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_is_typed_is_found_with_its_path() {
        for (before, expected) in [
            ("", Some((0, "", ""))),
            ("fi", Some((0, "", "fi"))),
            ("root.fi", Some((5, "root", "fi"))),
            ("x = root.files.", Some((15, "root.files", ""))),
            ("f(a.b", Some((4, "a", "b"))),
            ("f(\"a.b", None),
            ("f(\"a\", x.", Some((9, "x", ""))),
            ("f(1).na", None),
        ] {
            assert_eq!(word(before), expected, "{before}");
        }
    }
}
