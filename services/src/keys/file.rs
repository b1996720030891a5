//! Small text files that decide whom to trust: read whole, bounded, and only if nobody else can write them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use farref_boxing::{Error, ErrorKind, Result};

/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest line, in bytes.
const MAX_LINE: usize = 4096;

/// Who else may do what with a file for it to be used.
#[derive(Clone, Copy)]
pub(super) enum Secrecy {
    /// Others may read it.
    Public,
    /// Nobody else may read it.
    Secret,
}

/// The text of a file; `None` if there is none.
pub(super) fn read(path: &Path, secrecy: Secrecy) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    check_mode(path, &file, secrecy)?;
    let mut text = String::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(path, &error))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(misuse(format!(
            "{} is longer than {MAX_FILE} bytes",
            path.display()
        )));
    }
    if let Some(line) = text.lines().position(|line| line.len() > MAX_LINE) {
        return Err(at(
            path,
            line + 1,
            &format!("the line is longer than {MAX_LINE} bytes"),
        ));
    }
    Ok(Some(text))
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File, secrecy: Secrecy) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|error| failed(path, &error))?;
    let mode = metadata.permissions().mode();
    let (forbidden, what, right) = match secrecy {
        Secrecy::Public => (0o022, "can be changed", "go-w"),
        Secrecy::Secret => (0o077, "can be read", "600"),
    };
    if mode & forbidden == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(misuse(format!(
        "{path} {what} by others and is not used: run `chmod {right} {path}`"
    )))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems have modes to check")]
fn check_mode(_: &Path, _: &File, _: Secrecy) -> Result<()> {
    Ok(())
}

/// The lines that say something, with their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

pub(super) fn failed(path: &Path, error: &io::Error) -> Error {
    misuse(format!("{}: {error}", path.display()))
}

/// What is wrong with a line.
pub(super) fn at(path: &Path, line: usize, what: &str) -> Error {
    misuse(format!("{}:{line}: {what}", path.display()))
}

pub(super) fn misuse(text: String) -> Error {
    Error::new(ErrorKind::Misuse, text)
}
