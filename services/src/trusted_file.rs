//! Small text files that decide whom to trust: read whole, bounded, and only if nobody else can write them.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use farref_boxing::{Error, ErrorKind, Result};

/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest line, in bytes.
const MAX_LINE: usize = 4096;
/// Longer than the time of a file is off by, on any file system (FAT counts by two seconds).
const SETTLES: Duration = Duration::from_secs(3);
/// What some editors put in front of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Who else may do what with a file for it to be used.
#[derive(Clone, Copy)]
pub(crate) enum Secrecy {
    /// Others may read it.
    Public,
    /// Nobody else may read it.
    Secret,
}

/// The text of a file; `None` if there is none.
pub(crate) fn read(path: &Path, secrecy: Secrecy) -> Result<Option<String>> {
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, &error)),
    };
    let metadata = file.metadata().map_err(|error| failed(path, &error))?;
    if !metadata.is_file() {
        return Err(misuse(format!("{} is no file of text", path.display())));
    }
    check_owner(path, &metadata, secrecy)?;
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
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    for (index, line) in text.lines().enumerate() {
        if line.len() > MAX_LINE {
            let what = format!("the line is longer than {MAX_LINE} bytes");
            return Err(at(path, index + 1, &what));
        }
        // Whoever looks at the file would not see what is behind it.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(at(path, index + 1, "there is a control character in the line"));
        }
    }
    Ok(Some(text))
}

/// How a file is opened: a pipe in its place must not hold anybody up.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    if let Ok(flags) = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()) {
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    options
}

/// Refuses a file that somebody else may have written, or put in its place.
#[cfg(unix)]
fn check_owner(path: &Path, metadata: &Metadata, secrecy: Secrecy) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    /// In such a directory only the owner of a file can replace it.
    const STICKY: u32 = 0o1000;
    let (forbidden, what, right) = match secrecy {
        Secrecy::Public => (0o022, "can be changed", "go-w"),
        Secrecy::Secret => (0o077, "can be read", "600"),
    };
    let shown = path.display();
    if metadata.mode() & forbidden != 0 {
        return Err(misuse(format!(
            "{shown} {what} by others and is not used: run `chmod {right} {shown}`"
        )));
    }
    let own = rustix::process::geteuid().as_raw();
    let foreign = |of: &Path, metadata: &Metadata| match metadata.uid() {
        uid if uid == own || uid == 0 => Ok(()),
        uid => {
            let of = of.display();
            let text = format!("{shown} is not used, since {of} belongs to another account, {uid}");
            Err(misuse(text))
        }
    };
    foreign(path, metadata)?;
    let real = path.canonicalize().map_err(|error| failed(path, &error))?;
    for (index, directory) in real.ancestors().skip(1).enumerate() {
        let metadata = directory.metadata().map_err(|error| failed(directory, &error))?;
        if metadata.mode() & 0o022 != 0 && metadata.mode() & STICKY == 0 {
            let of = directory.display();
            return Err(misuse(format!(
                "{shown} is not used, since others can put another in its place: run `chmod go-w {of}`"
            )));
        }
        if index == 0 {
            foreign(directory, &metadata)?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems have owners to check")]
fn check_owner(_: &Path, _: &Metadata, _: Secrecy) -> Result<()> {
    Ok(())
}

/// What tells a file that has changed from one that has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: SystemTime,
    length: u64,
    /// Its number, and when that was last given another content, owner or mode.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    /// That of the file at `path`. None if there is none, or it was changed so short a time ago that another change
    /// would leave the same stamp.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let modified = metadata.modified().ok()?;
        let is_settled = SystemTime::now()
            .duration_since(modified)
            .is_ok_and(|age| age > SETTLES);
        is_settled.then(|| Self {
            modified,
            length: metadata.len(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (
                    metadata.dev(),
                    metadata.ino(),
                    metadata.ctime(),
                    metadata.ctime_nsec(),
                )
            },
        })
    }
}

/// The lines that say something, with their numbers from 1.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

pub(crate) fn failed(path: &Path, error: &io::Error) -> Error {
    misuse(format!("{}: {error}", path.display()))
}

/// What is wrong with a line.
pub(crate) fn at(path: &Path, line: usize, what: &str) -> Error {
    misuse(format!("{}:{line}: {what}", path.display()))
}

pub(crate) fn misuse(text: String) -> Error {
    Error::new(ErrorKind::Misuse, text)
}

pub(crate) fn denied(text: String) -> Error {
    Error::new(ErrorKind::Denied, text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn text_is_read_whatever_the_editor_and_odd_bytes_are_shown() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "\u{feff}one\r\n\ttwo\t\r\n").unwrap();
        let text = read(&path, Secrecy::Public).unwrap().unwrap();
        assert_eq!(lines(&text).collect::<Vec<_>>(), [(1, "one"), (2, "two")]);
        for (bytes, says) in [
            (&b"one\ntwo\0\n"[..], "file:2: "),
            (b"one\rtwo\n", "file:1: "),
            (b"\xff\xfeo\0n\0e\0", "UTF-8"),
            (&[b'a'; 5000], "file:1: "),
            (&b"abc\n".repeat(1 << 19), "longer"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read(&path, Secrecy::Public).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_a_directory_in_its_place_holds_nobody_up() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for path in [path.as_path(), home.path(), Path::new("/dev/zero")] {
            let error = read(path, Secrecy::Public).unwrap_err().to_string();
            assert!(error.contains("is no file of text"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_replace_is_not_used_also_behind_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        fs::create_dir_all(open.join("own")).unwrap();
        let (path, link) = (open.join("own/file"), home.path().join("link"));
        fs::write(&path, "text").unwrap();
        symlink(&path, &link).unwrap();
        for (mode, is_used) in [(0o755, true), (0o777, false), (0o775, false), (0o1777, true)] {
            for directory in [&open, &open.join("own")] {
                fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
                for path in [&path, &link] {
                    let read = read(path, Secrecy::Public);
                    assert_eq!(read.is_ok(), is_used, "{mode:o} {read:?}");
                    if let Err(error) = read {
                        let mends = format!("chmod go-w {}", directory.canonicalize().unwrap().display());
                        assert!(error.to_string().contains(&mends), "{error}");
                    }
                }
                fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_another_account_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "text").unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            return; // only root can give files away
        }
        let error = read(&path, Secrecy::Public).unwrap_err().to_string();
        assert!(error.contains("12345"), "{error}");
    }
}
