//! What is done to a tree of files, by threads that may block. Nothing here knows of calls.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt, SystemTimeSpec};
use cap_std::fs::{Dir, OpenOptions};
use cap_std::time::SystemTime;

use super::path::{invalid, is_part, leads_out, parse, parse_target, show, show_rooted};
use super::remove::remove_all;
use super::walk::Walk;
use super::{Attributes, Digest, Kind, Metadata, OpenMode, Space, Time};

/// A directory, and all that is below it.
///
/// # Invariant
///
/// Everything is done by way of a [`Dir`], which resolves paths below itself and nowhere else, whatever links and races
/// there are. The whole machine is its own root: there, links are resolved first, as absolute ones lead below the root,
/// too.
#[derive(Debug)]
pub(super) struct Tree {
    place: PathBuf,
    is_whole: bool,
    dir: Mutex<Option<Arc<Dir>>>,
}

/// Whether the last part of a path is followed if it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Stay,
}

impl Tree {
    pub(super) const fn at(place: PathBuf) -> Self {
        Self {
            place,
            is_whole: false,
            dir: Mutex::new(None),
        }
    }

    pub(super) fn whole() -> Self {
        Self {
            place: PathBuf::from("/"),
            is_whole: true,
            dir: Mutex::new(None),
        }
    }

    /// The root, which is opened when it is needed first.
    fn dir(&self) -> io::Result<Arc<Dir>> {
        let mut dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*dir {
            return Ok(Arc::clone(dir));
        }
        let opened = Dir::open_ambient_dir(&self.place, cap_std::ambient_authority())?;
        Ok(Arc::clone(dir.insert(Arc::new(opened))))
    }

    /// Where `path` is, from the root on.
    fn locate(&self, path: &str, links: Links) -> io::Result<PathBuf> {
        let path = parse(path)?;
        if !self.is_whole || cfg!(not(unix)) {
            return Ok(path);
        }
        let full = self.place.join(&path);
        let parent_and_name = || -> io::Result<PathBuf> {
            match (full.parent(), full.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => full.canonicalize(),
            }
        };
        let found = match links {
            Links::Stay => parent_and_name(),
            Links::Follow => match full.canonicalize() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => parent_and_name(),
                other => other,
            },
        }?;
        let below = found.strip_prefix("/").unwrap_or(&found);
        Ok(match below.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => below.to_path_buf(),
        })
    }

    /// The same for what is going to be made, moved or removed, which the root is not.
    fn locate_below(&self, path: &str) -> io::Result<PathBuf> {
        let located = self.locate(path, Links::Stay)?;
        match located.file_name() {
            Some(_) => Ok(located),
            None => Err(invalid(format!("`{path}` is no place for a file: name one"))),
        }
    }

    pub(super) fn stat(&self, path: &str, links: Links) -> io::Result<Metadata> {
        let (dir, path) = (self.dir()?, self.locate(path, links)?);
        let found = match links {
            Links::Follow => dir.metadata(path),
            Links::Stay => dir.symlink_metadata(path),
        };
        found.map(|found| metadata(&found))
    }

    /// Opens a file, and nothing but a file.
    pub(super) fn open(&self, path: &str, mode: OpenMode, links: Links) -> io::Result<File> {
        let (dir, path) = (self.dir()?, self.locate(path, links)?);
        open(&dir, &path, mode, links, None)
    }

    /// Opens a file to be written from `at` on; what was behind that is cut off. It is made only to be written from its
    /// beginning on.
    pub(super) fn open_at(&self, path: &str, at: u64) -> io::Result<File> {
        let (dir, path) = (self.dir()?, self.locate(path, Links::Stay)?);
        let mode = OpenMode {
            write: true,
            create: at == 0,
            ..OpenMode::default()
        };
        // What is not whole yet has not the permissions yet that it will have.
        let permissions = path.file_name().filter(|name| is_part(name)).map(|_| PRIVATE);
        let mut file = open(&dir, &path, mode, Links::Stay, permissions)?;
        alone(&mut file, |file| {
            if file.metadata()?.len() < at {
                return Err(invalid(format!(
                    "the file has less than the {at} bytes that are to stay"
                )));
            }
            file.set_len(at)?;
            go(file, at)
        })?;
        Ok(file)
    }

    /// A file to be written that was not there before, beside `path`.
    fn open_beside(&self, dir: &Dir, path: &Path, permissions: Option<u32>) -> io::Result<(File, PathBuf)> {
        let new = OpenMode {
            write: true,
            create_new: true,
            ..OpenMode::default()
        };
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(io::Error::other)?;
        let name = format!(".farref-{:016x}.part", u64::from_ne_bytes(number));
        let path = path.with_file_name(name);
        Ok((open(dir, &path, new, Links::Stay, permissions)?, path))
    }

    /// Puts what `fill` writes at `path`, at once or not at all.
    fn put<R>(
        &self,
        path: &str,
        attributes: &Attributes,
        fill: impl FnOnce(&mut File) -> io::Result<R>,
    ) -> io::Result<R> {
        let (dir, to) = (self.dir()?, self.locate_below(path)?);
        let there = check_replaceable(&dir, &to)?.filter(cap_std::fs::Metadata::is_file);
        let attributes = Attributes {
            // It stays what it was, only its content is another.
            mode: attributes
                .mode
                .or(there.filter(|_| cfg!(unix)).map(|there| metadata(&there).mode)),
            ..*attributes
        };
        // Who may not read it then may not read it now.
        let permissions = attributes.mode.map(|_| PRIVATE);
        let (mut file, beside) = self.open_beside(&dir, &to, permissions)?;
        let put = fill(&mut file).and_then(|filled| {
            set_attributes(&file, &attributes)?;
            dir.rename(&beside, &dir, &to)?;
            Ok(filled)
        });
        if put.is_err() {
            // Nothing is left behind if that can be helped.
            _ = dir.remove_file(&beside);
        }
        put
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8], attributes: &Attributes) -> io::Result<Digest> {
        self.put(path, attributes, |file| file.write_all(bytes))?;
        Ok(digest(bytes.len() as u64, &blake3::hash(bytes)))
    }

    pub(super) fn copy(&self, from: &str, to: &str) -> io::Result<u64> {
        let mut source = self.open(from, OpenMode::READ, Links::Follow)?;
        let mut attributes = Attributes::default();
        if cfg!(unix) {
            attributes.mode = Some(metadata(&cap_std::fs::Metadata::from_file(&source)?).mode);
        }
        // Without a loop of this process's: the kernel copies, or even shares, the blocks.
        self.put(to, &attributes, |file| io::copy(&mut source, file))
    }

    pub(super) fn replace(&self, from: &str, to: &str, attributes: &Attributes) -> io::Result<()> {
        let dir = self.dir()?;
        let (from, to) = (self.locate_below(from)?, self.locate_below(to)?);
        check_replaceable(&dir, &to)?;
        let writing = OpenMode {
            write: true,
            ..OpenMode::default()
        };
        let file = open(&dir, &from, writing, Links::Stay, None)?;
        set_attributes(&file, attributes)?;
        dir.rename(&from, &dir, &to)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let dir = self.dir()?;
        dir.rename(self.locate_below(from)?, &dir, self.locate_below(to)?)
    }

    pub(super) fn remove(&self, path: &str, is_recursive: bool) -> io::Result<()> {
        let (dir, path) = (self.dir()?, self.locate_below(path)?);
        match dir.symlink_metadata(&path)?.is_dir() {
            true if is_recursive => {
                remove_all(dir.open_dir_nofollow(&path)?)?;
                dir.remove_dir(path)
            }
            true => dir.remove_dir(path),
            false => dir.remove_file_or_symlink(path),
        }
    }

    pub(super) fn make_dir(&self, path: &str, has_parents: bool) -> io::Result<()> {
        let dir = self.dir()?;
        if has_parents {
            // What is missing cannot be resolved first; what is there can be looked for from the top.
            let path = self.locate_missing(path)?;
            return dir.create_dir_all(path);
        }
        dir.create_dir(self.locate_below(path)?)
    }

    /// Where `path` will be once all of it is there.
    fn locate_missing(&self, path: &str) -> io::Result<PathBuf> {
        let mut there = path;
        let mut missing = Vec::new();
        loop {
            match self.locate(there, Links::Follow) {
                Ok(mut found) => {
                    for part in missing.into_iter().rev() {
                        found.push(parse(part)?);
                    }
                    return Ok(found);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let Some((parent, name)) = there.trim_end_matches('/').rsplit_once('/') else {
                        return Err(error);
                    };
                    missing.push(name);
                    there = parent;
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[cfg(unix)]
    pub(super) fn link(&self, target: &str, path: &str) -> io::Result<()> {
        let (dir, path) = (self.dir()?, self.locate_below(path)?);
        let target = parse_target(target)?;
        let is_out = || -> io::Result<bool> {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = dir.canonicalize(parent.unwrap_or_else(|| Path::new(".")))?;
            Ok(leads_out(&directory, &target))
        };
        if !self.is_whole && is_out()? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a link that may lead out of what is shown is not made",
            ));
        }
        dir.symlink_contents(target, path)
    }

    #[cfg(not(unix))]
    pub(super) fn link(&self, target: &str, path: &str) -> io::Result<()> {
        let _ = (parse_target(target)?, leads_out as fn(&Path, &Path) -> bool, path);
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read_link(&self, path: &str) -> io::Result<String> {
        let (dir, path) = (self.dir()?, self.locate(path, Links::Stay)?);
        Ok(show(dir.read_link_contents(path)?.as_os_str()))
    }

    pub(super) fn canonical(&self, path: &str) -> io::Result<String> {
        let (dir, path) = (self.dir()?, self.locate(path, Links::Follow)?);
        Ok(show_rooted(&dir.canonicalize(path)?))
    }

    pub(super) fn set_attributes(&self, path: &str, attributes: &Attributes) -> io::Result<()> {
        let (dir, path) = (self.dir()?, self.locate(path, Links::Follow)?);
        #[cfg(unix)]
        if let Some(mode) = attributes.mode {
            use cap_std::fs::PermissionsExt;
            dir.set_permissions(&path, cap_std::fs::Permissions::from_mode(mode & 0o777))?;
        }
        let spec = |time: Option<Time>| -> io::Result<_> {
            let Some(time) = time else { return Ok(None) };
            Ok(Some(SystemTimeSpec::Absolute(SystemTime::from_std(to_system(
                time,
            )?))))
        };
        if attributes.accessed.is_some() || attributes.modified.is_some() {
            dir.set_times(&path, spec(attributes.accessed)?, spec(attributes.modified)?)?;
        }
        Ok(())
    }

    #[cfg(unix)]
    pub(super) fn space(&self, path: &str) -> io::Result<Space> {
        let (dir, mut path) = (self.dir()?, self.locate(path, Links::Follow)?);
        if !dir.metadata(&path)?.is_dir() {
            path.pop();
            if path.as_os_str().is_empty() {
                path.push(".");
            }
        }
        let there = rustix::fs::fstatvfs(dir.open_dir(path)?)?;
        let bytes = |blocks: u64| blocks.saturating_mul(there.f_frsize);
        Ok(Space {
            total: bytes(there.f_blocks),
            free: bytes(there.f_bfree),
            available: bytes(there.f_bavail),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn space(&self, _path: &str) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What is below a directory, `depth` levels of it.
    pub(super) fn walk(&self, path: &str, depth: u32) -> io::Result<Walk> {
        let (root, path) = (self.dir()?, self.locate(path, Links::Follow)?);
        let dir = root.open_dir(path)?;
        Walk::new(dir, depth)
    }

    /// The directory or file itself, opened to be watched.
    #[cfg(target_os = "linux")]
    pub(super) fn open_to_watch(&self, path: &str) -> io::Result<File> {
        use cap_std::fs::OpenOptionsExt;
        let (dir, path) = (self.dir()?, self.locate(path, Links::Follow)?);
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::PATH.bits().cast_signed();
        options.read(true).custom_flags(flags);
        Ok(dir.open_with(path, &options)?.into_std())
    }
}

/// The permissions of a file that is its owner's alone.
const PRIVATE: u32 = 0o600;

/// Opens a file; one that is made has these permissions, if there are any.
fn open(dir: &Dir, path: &Path, mode: OpenMode, links: Links, permissions: Option<u32>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(mode.read)
        .write(mode.write)
        .append(mode.append)
        .truncate(mode.truncate)
        .create(mode.create)
        .create_new(mode.create_new)
        // A named pipe that is put there in this very moment does not hold this thread up.
        .nonblock(true)
        .follow(match links {
            Links::Follow => FollowSymlinks::Yes,
            Links::Stay => FollowSymlinks::No,
        });
    #[cfg(unix)]
    if let Some(permissions) = permissions {
        cap_std::fs::OpenOptionsExt::mode(&mut options, permissions);
    }
    #[cfg(not(unix))]
    let _ = permissions;
    // To open a device may be to do something with it already.
    if let Ok(found) = dir.metadata(path) {
        check_file(&found)?;
    }
    let file = dir.open_with(path, &options)?.into_std();
    check_file(&cap_std::fs::Metadata::from_file(&file)?)?;
    Ok(file)
}

fn check_file(found: &cap_std::fs::Metadata) -> io::Result<()> {
    match kind(found) {
        Kind::File | Kind::Link => Ok(()),
        Kind::Directory => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")),
        Kind::Other => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is a device, a named pipe or a socket: these are not opened",
        )),
    }
}

/// A directory is not replaced by a file; nor is anything but a file or link. What is there.
fn check_replaceable(dir: &Dir, path: &Path) -> io::Result<Option<cap_std::fs::Metadata>> {
    match dir.symlink_metadata(path) {
        Ok(found) => check_file(&found).map(|()| Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn to_system(time: Time) -> io::Result<std::time::SystemTime> {
    time.to_system().ok_or_else(|| invalid("there is no such time"))
}

fn set_attributes(file: &File, attributes: &Attributes) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = attributes.mode {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
        file.set_permissions(permissions)?;
    }
    if attributes.modified.is_some() || attributes.accessed.is_some() {
        let mut times = std::fs::FileTimes::new();
        if let Some(time) = attributes.modified {
            times = times.set_modified(to_system(time)?);
        }
        if let Some(time) = attributes.accessed {
            times = times.set_accessed(to_system(time)?);
        }
        file.set_times(times)?;
    }
    Ok(())
}

fn kind(found: &cap_std::fs::Metadata) -> Kind {
    if found.is_file() {
        Kind::File
    } else if found.is_dir() {
        Kind::Directory
    } else if found.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

pub(super) fn metadata(found: &cap_std::fs::Metadata) -> Metadata {
    let time = |time: io::Result<SystemTime>| time.ok().map(|time| Time::from(time.into_std()));
    #[cfg(unix)]
    let (mode, owner, identity) = {
        use cap_std::fs::MetadataExt;
        let (owner, identity) = ((found.uid(), found.gid()), (found.dev(), found.ino()));
        (found.mode() & 0o7777, Some(owner), Some(identity))
    };
    #[cfg(not(unix))]
    let (mode, owner, identity) = {
        let mode = if found.permissions().readonly() {
            0o444
        } else {
            0o666
        };
        (mode, None, None)
    };
    Metadata {
        kind: kind(found),
        len: found.len(),
        mode,
        modified: time(found.modified()),
        accessed: time(found.accessed()),
        created: time(found.created()),
        owner,
        identity,
    }
}

/// Reads up to `len` bytes; fewer are the end.
pub(super) fn read_piece(file: &mut File, len: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(len);
    Read::by_ref(file).take(len as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

/// Writes at the end of a file, which is `at` as long as nobody else writes it, too.
pub(super) fn write_on(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    alone(file, |file| match file.metadata()?.len() == at {
        true => file.write_all(bytes),
        false => Err(busy()),
    })
}

/// Does something to a file while nobody else does, also in another process. Where there are no locks it is done without.
fn alone<R>(file: &mut File, job: impl FnOnce(&mut File) -> io::Result<R>) -> io::Result<R> {
    let mut tries = 0;
    while let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
        tries += 1;
        if tries > TRIES {
            return Err(busy());
        }
        std::thread::sleep(BETWEEN);
    }
    let done = job(file);
    _ = file.unlock();
    done
}

/// How often, and how long after the time before, a file is tried that others have to themselves.
const TRIES: u32 = 200;
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(5);

fn busy() -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        "somebody else writes the file as well",
    )
}

pub(super) fn go(file: &mut File, at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at)).map(drop)
}

pub(super) fn digest(len: u64, hash: &blake3::Hash) -> Digest {
    Digest {
        len,
        hash: hash.to_hex().to_string(),
    }
}
