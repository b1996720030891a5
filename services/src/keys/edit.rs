//! Changing the files that decide whom to trust: under a lock, whole or not at all, line by line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use farref_boxing::Result;

use super::store::make_directory;
use crate::trusted_file::{Secrecy, failed, misuse, options, read};

/// Opens the file to be changed, makes it if it is not there, and keeps other processes from changing it meanwhile.
pub(super) fn lock(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    let failed = |error| failed(path, &error);
    let mut options = options();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    while !is_at(&file, path) {
        // Somebody has put another file in its place.
        file = options.open(path).map_err(failed)?;
        file.lock().map_err(failed)?;
    }
    Ok(file)
}

/// Adds `line` to the locked file, whose text is `text`.
pub(super) fn append(path: &Path, mut file: &File, text: &str, line: &str) -> Result<()> {
    let before = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    file.write_all(format!("{before}{line}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(path, &error))
}

/// Takes out the lines for which `is_wanted` has something to say; what it said, in their order. All other lines stay as
/// they are, also those that cannot be understood.
pub(super) fn take_out<T>(path: &Path, is_wanted: impl Fn(usize, &str) -> Option<T>) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let _locked = lock(path)?;
    let text = read(path, Secrecy::Public)?.unwrap_or_default();
    let (mut left, mut taken) = (String::with_capacity(text.len()), Vec::new());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let said = line.trim();
        match is_wanted(index + 1, said).filter(|_| !said.is_empty() && !said.starts_with('#')) {
            Some(said) => taken.push(said),
            None => left.push_str(line),
        }
    }
    if !taken.is_empty() {
        // A link stays one.
        let real = path.canonicalize().map_err(|error| failed(path, &error))?;
        replace(&real, &left).map_err(|error| failed(path, &error))?;
    }
    Ok(taken)
}

/// What is written behind a key: one line, without anything that a terminal would obey.
pub(super) fn check_comment(comment: &str) -> Result<()> {
    if comment.contains(|c: char| c.is_control()) {
        return Err(misuse(
            "a comment is one line, without control characters".to_owned(),
        ));
    }
    Ok(())
}

/// Puts another file in the place of that at `path`, with the same mode: whoever reads sees the one or the other.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mode = path.metadata()?.permissions();
    let (temporary, mut file) = temporary(path)?;
    let written = (|| {
        file.write_all(text.as_bytes())?;
        file.set_permissions(mode)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The new name is on the disk as well; not every system can promise that.
    if let Some(directory) = path.parent().and_then(|directory| File::open(directory).ok()) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// A file beside `path` that nobody else has, for its owner alone.
pub(super) fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    loop {
        // A process that died may have left its own behind, and the next may have its number.
        let mut unique = [0; 8];
        getrandom::fill(&mut unique).map_err(|error| io::Error::other(error.to_string()))?;
        let temporary = path.with_file_name(format!("{name}.{:016x}.tmp", u64::from_ne_bytes(unique)));
        match options.open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an open file is still the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number =
        |metadata: io::Result<fs::Metadata>| metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()));
    number(file.metadata()) == number(path.metadata())
}

#[cfg(not(unix))]
const fn is_at(_: &File, _: &Path) -> bool {
    true
}
