//! Files and directories to and from a classic server, as `rpyc.utils.classic` copies them: by Python's own `open` and `os`.
//!
//! One piece is under way at a time: a peer that binds threads may take several in any order.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use farref_boxing::{Context, Error, ErrorKind, Result, Value};
use farref_netref::Object;
use farref_netref::object::Arguments;

use super::{Classic, object};

/// Bytes of one piece (`rpyc/utils/classic.py`).
const PIECE: usize = 64_000;

/// Directories in directories, at most: links over there may go round in a circle.
const DEEPEST: usize = 64;

/// Bytes that the paths of what is still to be downloaded may take: the names are the peer's, and so is their number.
const MOST_KEPT: usize = 256 << 20;

/// What is needed of the far machine.
struct Machine {
    builtins: Object,
    os: Object,
    path: Object,
    /// What stands between the parts of a path.
    separator: String,
}

impl Machine {
    async fn of(python: &Classic) -> Result<Self> {
        let [builtins, os, path] = python.modules(["builtins", "os", "os.path"]).await?;
        let separator = text(&os.get("sep").await?)?;
        Ok(Self {
            builtins,
            os,
            path,
            separator,
        })
    }

    fn join(&self, directory: &str, name: &str) -> String {
        if directory.is_empty() || directory.ends_with(&self.separator) {
            return format!("{directory}{name}");
        }
        format!("{directory}{}{name}", self.separator)
    }

    async fn is(&self, what: &str, path: &str) -> Result<bool> {
        Ok(self.path.call(what, (path,)).await?.as_bool() == Some(true))
    }

    async fn open(&self, path: &str, mode: &str) -> Result<Object> {
        let opened = self.builtins.call("open", (path, mode)).await;
        object(opened.with_context(|| path.to_owned())?)
    }

    async fn make_directory(&self, path: &str) -> Result<()> {
        let arguments = Arguments::from((path,)).named("exist_ok", true);
        let made = self.os.call("makedirs", arguments).await;
        made.map(drop).with_context(|| path.to_owned())
    }
}

pub(super) async fn upload(python: Classic, from: PathBuf, to: String) -> Result<u64> {
    let machine = Machine::of(&python).await?;
    let kind = here(&from, |from| Ok(Kind::of(&fs::metadata(from)?))).await?;
    let mut copied: u64 = 0;
    let mut rest = vec![(from, to, kind, 0)];
    while let Some((from, to, kind, depth)) = rest.pop() {
        match kind {
            Kind::File => copied = copied.saturating_add(send(&machine, from, &to).await?),
            Kind::Directory => {
                machine.make_directory(&to).await?;
                let depth = deeper(depth)?;
                for (name, kind) in here(&from, list).await? {
                    rest.push((from.join(&name), machine.join(&to, &name), kind, depth));
                }
            }
            Kind::Other => return Err(neither(&from.display().to_string())),
        }
    }
    Ok(copied)
}

async fn send(machine: &Machine, from: PathBuf, to: &str) -> Result<u64> {
    let shown = from.display().to_string();
    let (mut file, mut piece) = here(&from, |from| read_next(File::open(from)?)).await?;
    let far = machine.open(to, "wb").await?;
    let mut copied = 0_u64;
    while !piece.is_empty() {
        copied = copied.saturating_add(piece.len() as u64);
        let written = far.call("write", (Value::bytes(piece),)).start();
        // Meanwhile.
        (file, piece) = beside(move || read_next(file))
            .await
            .with_context(|| shown.clone())?;
        written.await.with_context(|| to.to_owned())?;
    }
    far.call("close", ()).await.with_context(|| to.to_owned())?;
    Ok(copied)
}

pub(super) async fn download(python: Classic, from: String, to: PathBuf) -> Result<u64> {
    let machine = Machine::of(&python).await?;
    let kind = match (
        machine.is("isfile", &from).await?,
        machine.is("isdir", &from).await?,
    ) {
        (true, _) => Kind::File,
        (_, true) => Kind::Directory,
        _ => Kind::Other,
    };
    let mut copied: u64 = 0;
    let mut kept = 0_usize;
    let mut rest = vec![(from, to, kind, 0)];
    while let Some((from, to, kind, depth)) = rest.pop() {
        kept = kept.saturating_sub(size(&from, &to));
        match kind {
            Kind::File => copied = copied.saturating_add(receive(&machine, &from, &to).await?),
            Kind::Directory => {
                here(&to, |to| fs::create_dir_all(to)).await?;
                let depth = deeper(depth)?;
                for name in names(&machine, &from).await? {
                    let far = machine.join(&from, &name);
                    let kind = far_kind(&machine, &far).await?;
                    if kind == Kind::Other {
                        continue;
                    }
                    let near = to.join(name);
                    kept = kept.saturating_add(size(&far, &near));
                    if kept > MOST_KEPT {
                        let text = "the directories of the peer's have more in them than can be kept in mind";
                        return Err(Error::new(ErrorKind::Limit, text));
                    }
                    rest.push((far, near, kind, depth));
                }
            }
            // It may not be there at all: then opening it tells so.
            Kind::Other => {
                machine.open(&from, "rb").await?;
                return Err(neither(&from));
            }
        }
    }
    Ok(copied)
}

/// Bytes that something takes as long as it is still to be copied.
fn size(from: &str, to: &Path) -> usize {
    let paths = from.len().saturating_add(to.as_os_str().len());
    paths.saturating_add(size_of::<(String, PathBuf, Kind, usize)>())
}

async fn receive(machine: &Machine, from: &str, to: &Path) -> Result<u64> {
    let far = machine.open(from, "rb").await?;
    let mut file = here(to, |to| File::create(to)).await?;
    let mut copied = 0_u64;
    let read = || far.call("read", (PIECE,)).start();
    let mut next = read();
    loop {
        let piece = bytes(&next.await.with_context(|| from.to_owned())?)?;
        if piece.is_empty() {
            break;
        }
        copied = copied.saturating_add(piece.len() as u64);
        next = read();
        // Meanwhile.
        file = beside(move || {
            file.write_all(&piece)?;
            Ok(file)
        })
        .await
        .with_context(|| to.display().to_string())?;
    }
    far.call("close", ()).await?;
    Ok(copied)
}

/// What is in a directory over there. No name leads anywhere else, neither there nor here.
async fn names(machine: &Machine, directory: &str) -> Result<Vec<String>> {
    // As bytes: RPyC ends a connection over which it is to send a text that is no UTF-8.
    let encoded = machine.os.call("fsencode", (directory,)).await?;
    let listed = machine.os.call("listdir", (encoded,)).await;
    let listed = object(listed.with_context(|| directory.to_owned())?)?;
    let listed = listed.fetch().await?;
    let mut names = Vec::new();
    for name in listed.as_slice().unwrap_or_default() {
        let name = match name.as_bytes() {
            Some(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| no_text(&String::from_utf8_lossy(bytes)))?
            }
            None => name.as_str().ok_or_else(|| unexpected("a name", name))?,
        };
        if !is_plain(name) {
            let shown: String = name.chars().take(100).flat_map(char::escape_debug).collect();
            let text = format!("a directory of the peer's has a file with the name {shown}");
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn no_text(name: &str) -> io::Error {
    let shown: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the name {shown} is no text"))
}

/// Whether it is the name of something in a directory, and nothing else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains('\0')
}

async fn far_kind(machine: &Machine, path: &str) -> Result<Kind> {
    if machine.is("isfile", path).await? {
        return Ok(Kind::File);
    }
    if machine.is("isdir", path).await? && !machine.is("islink", path).await? {
        return Ok(Kind::Directory);
    }
    Ok(Kind::Other)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Other,
}

impl Kind {
    fn of(metadata: &fs::Metadata) -> Self {
        match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => Self::File,
            (_, true) => Self::Directory,
            _ => Self::Other,
        }
    }
}

/// What is to be copied of a directory here.
fn list(directory: &Path) -> io::Result<Vec<(String, Kind)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_link = entry.file_type()?.is_symlink();
        let kind = match fs::metadata(entry.path()) {
            Ok(metadata) => Kind::of(&metadata),
            Err(_) if is_link => continue,
            Err(error) => return Err(error),
        };
        if kind == Kind::Other || (is_link && kind == Kind::Directory) {
            continue;
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| no_text(&name.to_string_lossy()))?;
        found.push((name, kind));
    }
    Ok(found)
}

/// A piece, shorter than the others only at the end.
fn read_next(mut file: File) -> io::Result<(File, Bytes)> {
    let mut piece = Vec::with_capacity(PIECE);
    Read::by_ref(&mut file)
        .take(PIECE as u64)
        .read_to_end(&mut piece)?;
    Ok((file, piece.into()))
}

/// Does something with a path of this machine, beside the tasks.
async fn here<R: Send + 'static>(
    path: &Path,
    run: impl FnOnce(&Path) -> io::Result<R> + Send + 'static,
) -> Result<R> {
    let path_there = path.to_owned();
    beside(move || run(&path_there))
        .await
        .with_context(|| path.display().to_string())
}

async fn beside<R: Send + 'static>(run: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<R> {
    tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
}

fn deeper(depth: usize) -> Result<usize> {
    if depth >= DEEPEST {
        let text = format!("directories are more than {DEEPEST} deep");
        return Err(Error::new(ErrorKind::Limit, text));
    }
    Ok(depth.saturating_add(1))
}

fn neither(path: &str) -> Error {
    let text = format!("{path} is neither a file nor a directory");
    io::Error::new(io::ErrorKind::InvalidInput, text).into()
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().map(ToOwned::to_owned);
    text.ok_or_else(|| unexpected("a text", value))
}

fn bytes(value: &Value) -> Result<Bytes> {
    value
        .as_bytes()
        .cloned()
        .ok_or_else(|| unexpected("bytes", value))
}

fn unexpected(wanted: &str, value: &Value) -> Error {
    let text = format!("expected {wanted} of Python, got {}", value.kind());
    Error::new(ErrorKind::Malformed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_peers_leads_nowhere_else() {
        for name in ["a", "a b", ".hidden", "...", "ä"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "/", "/etc", "../a", "a/", "a\0"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
