//! The program to bring to a host: which file is the right one, and where it is looked for.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use super::platform::{Libc, Misfit, Needs, Platform};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Agents {
    /// `NAME` of the files `NAME-OS-ARCH`.
    pub(super) name: String,
    /// This very file and no other, for every host.
    pub(super) only: Option<PathBuf>,
    /// Whether the program that runs here is one of them.
    pub(super) is_own: bool,
    pub(super) directories: Vec<PathBuf>,
}

/// A program that can be brought.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) size: u64,
    /// SHA-256 of its content, in hexadecimal digits.
    pub(super) hash: String,
}

/// There is no program for a host.
#[derive(Debug)]
pub(super) struct Missing {
    platform: Platform,
    libc: Libc,
    file_name: String,
    sought: Vec<PathBuf>,
    /// Files that were there, and why none of them will do.
    unfit: Vec<(PathBuf, Unfit)>,
}

#[derive(Debug)]
enum Unfit {
    Misfit(Misfit),
    Unreadable(io::Error),
}

impl Agents {
    /// The places to look at unless others are given: those of the variable `FARREF_AGENTS`, those of the user, and where
    /// the program that runs here is.
    pub(super) fn places() -> Vec<PathBuf> {
        let mut places = Vec::new();
        if let Some(told) = std::env::var_os("FARREF_AGENTS") {
            places.extend(std::env::split_paths(&told).filter(|path| !path.as_os_str().is_empty()));
        }
        let of_user = std::env::var_os("XDG_DATA_HOME").filter(|path| Path::new(path).is_absolute());
        let of_user = of_user.map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
            Some(Path::new(&home).join(".local/share"))
        });
        places.extend(of_user.map(|data| data.join("farref/agents")));
        let beside = std::env::current_exe().ok();
        places.extend(beside.and_then(|exe| exe.parent().map(Path::to_owned)));
        places
    }

    /// The first program that runs on a host of that kind. Reads all of it: not for a thread of the runtime.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn find(&self, platform: &Platform, libc: Libc) -> Result<Agent, Box<Missing>> {
        let mut missing = Missing {
            platform: platform.clone(),
            libc,
            file_name: platform.file_name(&self.name),
            sought: Vec::new(),
            unfit: Vec::new(),
        };
        let candidates = self.candidates(platform, &mut missing.sought);
        for (index, (path, file)) in candidates.into_iter().enumerate() {
            let is_own = index == 0 && self.is_own && self.only.is_none();
            let agent = file.and_then(|file| {
                let needs = Needs::of(&file)?;
                let needs = if is_own { needs.running_here() } else { needs };
                let fit = needs.fit(platform, libc);
                Ok(match fit {
                    Ok(()) => Ok(Agent::of(path.clone(), file)?),
                    Err(misfit) => Err(misfit),
                })
            });
            match agent {
                Ok(Ok(agent)) => return Ok(agent),
                Ok(Err(misfit)) => missing.unfit.push((path, Unfit::Misfit(misfit))),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.only.is_none() => {}
                Err(error) => missing.unfit.push((path, Unfit::Unreadable(error))),
            }
        }
        Err(Box::new(missing))
    }

    fn candidates(&self, platform: &Platform, sought: &mut Vec<PathBuf>) -> Vec<(PathBuf, io::Result<File>)> {
        if let Some(only) = &self.only {
            return vec![(only.clone(), File::open(only))];
        }
        let mut found = Vec::new();
        if self.is_own {
            found.push(own());
        }
        let name = platform.file_name(&self.name);
        for directory in &self.directories {
            let path = directory.join(&name);
            if !sought.contains(directory) {
                sought.push(directory.clone());
                found.push((path.clone(), File::open(path)));
            }
        }
        if !self.is_own && *platform == Platform::here() {
            let installed = in_path(OsStr::new(&self.name));
            found.extend(installed.map(|path| (path.clone(), File::open(path))));
        }
        found
    }
}

impl Agent {
    fn of(path: PathBuf, mut file: File) -> io::Result<Self> {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut size = 0;
        let mut part = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut part)?;
            let Some(part) = part.get(..count).filter(|part| !part.is_empty()) else {
                break;
            };
            context.update(part);
            size += count as u64;
        }
        file.rewind()?;
        let hash = context.finish();
        let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            path,
            file,
            size,
            hash,
        })
    }
}

/// The program that runs here, also where its file has been replaced since.
fn own() -> (PathBuf, io::Result<File>) {
    let exe = std::env::current_exe();
    let path = exe.as_ref().map_or_else(|_| "this program".into(), Clone::clone);
    let file = if cfg!(target_os = "linux") {
        File::open("/proc/self/exe")
    } else {
        exe.and_then(File::open)
    };
    (path, file)
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&path).map(|directory| directory.join(name));
    all.find(|path| path.is_file())
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            platform, file_name, ..
        } = self;
        write!(f, "there is no program for the host, which is {platform}")?;
        if self.libc != Libc::Unknown {
            write!(f, " with {}", self.libc)?;
        }
        for (path, unfit) in &self.unfit {
            write!(f, "; `{}` ", path.display())?;
            match unfit {
                Unfit::Misfit(misfit) => misfit.fmt(f)?,
                Unfit::Unreadable(error) => write!(f, "cannot be read: {error}")?,
            }
        }
        if self.sought.is_empty() {
            return f.write_str(": name another file by `agent=`");
        }
        write!(f, ": put `{file_name}` into ")?;
        for (index, directory) in self.sought.iter().enumerate() {
            let before = if index == 0 { "" } else { " or " };
            write!(f, "{before}{}", directory.display())?;
        }
        f.write_str(", or name a file by `agent=`")
    }
}

impl std::error::Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(directories: &[&Path]) -> Agents {
        Agents {
            name: "thing".to_owned(),
            only: None,
            is_own: false,
            directories: directories.iter().map(|&path| path.to_owned()).collect(),
        }
    }

    #[test]
    fn a_program_is_found_by_its_platform_in_the_first_directory_that_has_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let here = Platform::here();
        let name = here.file_name("thing");
        let both = agents(&[one.path(), two.path()]);
        std::fs::write(two.path().join(&name), b"abc").unwrap();
        let found = both.find(&here, Libc::Unknown).unwrap();
        assert_eq!((found.path, found.size), (two.path().join(&name), 3));
        assert_eq!(
            found.hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        std::fs::write(one.path().join(&name), b"abcd").unwrap();
        assert_eq!(both.find(&here, Libc::Unknown).unwrap().size, 4);
    }

    #[test]
    fn what_is_missing_is_named_with_the_places_where_it_was_sought() {
        let place = tempfile::tempdir().unwrap();
        let foreign = Platform::of("Linux", "sparc64", "64").unwrap();
        let mut own = agents(&[place.path()]);
        own.is_own = true;
        let told = own.find(&foreign, Libc::Glibc(2, 3)).unwrap_err().to_string();
        let place = place.path().display().to_string();
        for part in [
            "which is linux sparc64 with glibc 2.3",
            "is built for",
            "put `thing-linux-sparc64` into",
            &place,
            "`agent=`",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_file_that_is_named_is_the_only_one() {
        let mut named = agents(&[]);
        named.is_own = true;
        named.only = Some("/no/such/program".into());
        let here = Platform::here();
        let told = named.find(&here, Libc::Unknown).unwrap_err().to_string();
        assert!(
            told.contains("`/no/such/program` cannot be read") && told.contains("`agent=`"),
            "{told}"
        );
    }

    #[test]
    fn the_program_itself_will_do_where_it_runs() {
        let mut own = agents(&[]);
        own.is_own = true;
        let found = own.find(&Platform::here(), Libc::Unknown).unwrap();
        assert_eq!(found.path, std::env::current_exe().unwrap());
        assert_eq!(found.size, found.path.metadata().unwrap().len());
    }
}
