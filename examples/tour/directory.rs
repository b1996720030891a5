//! A directory as a trait, a directory on disk, and code that works on any: nothing here knows a connection.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use farref::{Context, Error, ErrorKind, Netref, Result, remote};
use serde::{Deserialize, Serialize};

/// A directory, wherever it is.
#[remote]
pub(crate) trait Directory {
    /// Its name.
    fn name(&self) -> Result<String>;
    /// What is in it, by name.
    fn entries(&self) -> Result<Vec<Entry>>;
    /// A directory in it.
    fn directory(&self, name: &str) -> Result<Netref<dyn Directory>>;
    /// The content of a file in it.
    fn read(&self, name: &str) -> Result<Vec<u8>>;
}

/// An entry travels by value, but a directory in it by reference.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// A file, and how many bytes are in it.
    File(u64),
    Directory(Netref<dyn Directory>),
}

/// A directory on the disk of this process.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of an entry. Names lead to what is in here, and nowhere else.
    fn entry(&self, name: &str) -> Result<PathBuf> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(only)), None) if only == name => Ok(self.0.join(name)),
            _ => Err(Error::new(
                ErrorKind::Denied,
                format!("`{name}` is not the name of an entry"),
            )),
        }
    }
}

impl Directory for Disk {
    fn name(&self) -> Result<String> {
        Ok(self
            .0
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned())
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let what = if metadata.is_dir() {
                What::Directory(Netref::of(Self(entry.path())))
            } else {
                What::File(metadata.len())
            };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                what,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn directory(&self, name: &str) -> Result<Netref<dyn Directory>> {
        let path = self.entry(name)?;
        let metadata = path
            .symlink_metadata()
            .with_context(|| format!("there is no directory `{name}`"))?;
        if !metadata.is_dir() {
            return Err(Error::msg(format!("`{name}` is no directory")));
        }
        Ok(Netref::of(Self(path)))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.entry(name)?).with_context(|| format!("cannot read `{name}`"))
    }
}

/// Calls `visit` with each entry below `directory` and how deep it is.
pub(crate) fn walk(
    directory: &dyn Directory,
    depth: usize,
    visit: &mut dyn FnMut(usize, &Entry) -> Result<()>,
) -> Result<()> {
    for entry in directory.entries()? {
        visit(depth, &entry)?;
        if let What::Directory(inner) = &entry.what {
            walk(&**inner, depth + 1, visit)?;
        }
    }
    Ok(())
}

/// What is below a directory, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    files: u64,
    directories: u64,
    bytes: u64,
    largest: Option<(u64, String)>,
}

/// Counts what is below `directory`.
pub(crate) fn survey(directory: &dyn Directory) -> Result<Survey> {
    let mut survey = Survey::default();
    walk(directory, 0, &mut |_, entry| {
        match entry.what {
            What::Directory(_) => survey.directories += 1,
            What::File(len) => {
                survey.files += 1;
                survey.bytes += len;
                survey.largest = survey.largest.take().max(Some((len, entry.name.clone())));
            }
        }
        Ok(())
    })?;
    Ok(survey)
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            directories,
            bytes,
            largest,
        } = self;
        write!(f, "{files} files in {directories} directories, {}", size(*bytes))?;
        largest
            .as_ref()
            .map_or(Ok(()), |(_, name)| write!(f, ", largest {name}"))
    }
}

/// Bytes for a person.
#[expect(clippy::cast_precision_loss, reason = "for a person")]
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
