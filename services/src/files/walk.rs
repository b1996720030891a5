//! Going through a tree, one entry after the other, with one open directory for each level.

use std::ffi::OsStr;
use std::io;

use cap_fs_ext::DirExt;
use cap_std::fs::Dir;

use super::path::show;
use super::tree::metadata;
use super::{Entry, Kind};

/// So many levels are walked at most: each takes an open file.
pub(super) const DEEPEST: usize = 128;

/// A walk through a tree, from one entry to the next.
pub(super) struct Walk {
    levels: Vec<Level>,
    depth: usize,
}

struct Level {
    dir: Dir,
    entries: cap_std::fs::ReadDir,
    /// What the paths of its entries begin with.
    prefix: String,
}

impl Walk {
    /// Begins in `dir`; `depth` levels are shown.
    pub(super) fn new(dir: Dir, depth: u32) -> io::Result<Self> {
        let mut walk = Self {
            levels: Vec::new(),
            depth: usize::try_from(depth).unwrap_or(usize::MAX),
        };
        if depth > 0 {
            walk.enter(dir, String::new())?;
        }
        Ok(walk)
    }

    fn enter(&mut self, dir: Dir, prefix: String) -> io::Result<()> {
        let entries = dir.entries()?;
        self.levels.push(Level { dir, entries, prefix });
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        loop {
            let level = self.levels.last_mut()?;
            let Some(next) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let found = match next.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) {
                Ok(found) => found,
                // It went while it was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if self.levels.len() > 1 && is_of_one_directory(&error) => {
                    self.levels.pop();
                    continue;
                }
                Err(error) => return Some(Err(error)),
            };
            let (name, found) = (found.0, metadata(&found.1));
            let path = format!("{}{}", level.prefix, show(&name));
            let target = match found.kind {
                Kind::Link => level.dir.read_link_contents(&name).ok(),
                _ => None,
            };
            let entry = Entry {
                path,
                metadata: found,
                target: target.map(|target| show(target.as_os_str())),
            };
            if found.kind == Kind::Directory
                && self.levels.len() < self.depth
                && let Err(error) = self.descend(&name, &entry.path)
            {
                return Some(Err(error));
            }
            return Some(Ok(entry));
        }
    }
}

impl Walk {
    fn descend(&mut self, name: &OsStr, path: &str) -> io::Result<()> {
        if self.levels.len() >= DEEPEST {
            return Err(io::Error::other(format!(
                "`{path}` is more than {DEEPEST} levels down: walk from there on"
            )));
        }
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        let opened = level.dir.open_dir_nofollow(name);
        match opened.and_then(|dir| self.enter(dir, format!("{path}/"))) {
            Err(error) if !is_of_one_directory(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a directory is shown without what is in it, which is not for us, or is no more, and the walk goes on.
fn is_of_one_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
