//! Removing what is in a directory, however deep that is: a peer may make it as deep as it likes.

use std::ffi::OsString;
use std::io;

use cap_fs_ext::DirExt;
use cap_std::fs::{Dir, ReadDir};

use super::walk::DEEPEST;

struct Level {
    name: OsString,
    dir: Dir,
    entries: ReadDir,
}

impl Level {
    fn new(name: OsString, dir: Dir) -> io::Result<Self> {
        let entries = dir.entries()?;
        Ok(Self { name, dir, entries })
    }
}

/// Removes what is in `top`. Each level takes an open file, so what is too deep is moved up first.
pub(super) fn remove_all(top: Dir) -> io::Result<()> {
    let mut levels = vec![Level::new(OsString::new(), top.try_clone()?)?];
    let mut moved_up = Vec::new();
    loop {
        let is_deep = levels.len() >= DEEPEST;
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        let Some(entry) = level.entries.next() else {
            let name = std::mem::take(&mut level.name);
            levels.pop();
            if let Some(above) = levels.last() {
                above.dir.remove_dir(name)?;
            } else if let Some(name) = moved_up.pop() {
                match top.open_dir_nofollow(&name) {
                    Ok(dir) => {
                        levels.push(Level::new(OsString::new(), top.try_clone()?)?);
                        levels.push(Level::new(name, dir)?);
                    }
                    // It came by among the others.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        levels.push(Level::new(OsString::new(), top.try_clone()?)?);
                    }
                    Err(error) => return Err(error),
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() {
            level.dir.remove_file_or_symlink(name)?;
        } else if !is_deep {
            let dir = level.dir.open_dir_nofollow(&name)?;
            levels.push(Level::new(name, dir)?);
        } else {
            let mut number = [0; 8];
            getrandom::fill(&mut number).map_err(io::Error::other)?;
            let above = OsString::from(format!(".farref-{:016x}.part", u64::from_ne_bytes(number)));
            level.dir.rename(name, &top, &above)?;
            moved_up.push(above);
        }
    }
}
