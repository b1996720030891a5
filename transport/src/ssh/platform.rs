//! Which programs run where: system, processor, C library.
//!
//! Knows the words of `uname` and `getconf`, and as much of ELF as says what a program needs.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A system and a processor, as Rust calls them: `linux`, `x86_64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// The operating system.
    os: String,
    /// The processor, of which one word may be a whole family: `arm`.
    arch: String,
}

impl Platform {
    /// The one that this program was built for.
    pub(super) fn here() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        }
    }

    /// By what `uname -s`, `uname -m` and `getconf LONG_BIT` say; none if that is nothing.
    pub(super) fn of(system: &str, machine: &str, bits: &str) -> Option<Self> {
        let (system, machine) = (system.trim(), machine.trim());
        if system.is_empty() || machine.is_empty() {
            return None;
        }
        let os = match system {
            "Darwin" => "macos".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        let is_narrow = bits.trim() == "32";
        let arch = match machine {
            // A kernel of 64 bits may have programs of 32.
            "x86_64" | "amd64" if is_narrow => "x86",
            "aarch64" | "arm64" if is_narrow => "arm",
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            "ppc64" | "ppc64le" => "powerpc64",
            "i386" | "i486" | "i586" | "i686" => "x86",
            other if other.starts_with("arm") => "arm",
            other => other,
        };
        Some(Self {
            os,
            arch: arch.to_owned(),
        })
    }

    /// What a program for it is called: `farref-linux-x86_64`.
    pub(super) fn file_name(&self, name: &str) -> String {
        format!("{name}-{}-{}", self.os, self.arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.os, self.arch)
    }
}

/// A C library, and how new it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Libc {
    Glibc(u32, u32),
    Musl,
    /// Nobody said.
    Unknown,
}

impl Libc {
    /// By what `getconf GNU_LIBC_VERSION` or the first line of `ldd --version` says.
    pub(super) fn of(told: &str) -> Self {
        if told.contains("musl") {
            return Self::Musl;
        }
        if !told.to_ascii_lowercase().contains("glibc") && !told.contains("GNU libc") {
            return Self::Unknown;
        }
        let version = told.split_whitespace().next_back().and_then(version);
        version.map_or(Self::Unknown, |(major, minor)| Self::Glibc(major, minor))
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(major, minor) => write!(f, "glibc {major}.{minor}"),
            Self::Musl => f.write_str("musl"),
            Self::Unknown => f.write_str("an unknown C library"),
        }
    }
}

/// `2.36`, also of `2.36.9000`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// What a program needs of the host that it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// None if it does not say.
    platform: Option<Platform>,
    /// None if it is linked statically.
    libc: Option<Libc>,
}

/// Why a program does not run somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Platform(Platform),
    Libc { needs: Libc, has: Libc },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(platform) => write!(f, "is built for {platform}"),
            Self::Libc { needs, has } => write!(f, "needs {needs}, and the host has {has}"),
        }
    }
}

impl Needs {
    /// What the program in `file` needs. One that is not ELF does not say.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is a torn ELF file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        match Elf::of(file)? {
            Some(elf) => elf.needs(),
            None => Ok(Self {
                platform: None,
                libc: None,
            }),
        }
    }

    /// The same of a program that runs here, whatever it says.
    pub(super) fn running_here(mut self) -> Self {
        self.platform = Some(Platform::here());
        self
    }

    /// Whether it runs on a host of that kind, as far as can be told.
    pub(super) fn fit(&self, platform: &Platform, libc: Libc) -> Result<(), Misfit> {
        if let Some(own) = self.platform.as_ref().filter(|own| *own != platform) {
            return Err(Misfit::Platform(own.clone()));
        }
        let Some(needs) = self.libc else {
            return Ok(());
        };
        let fits = match (needs, libc) {
            (Libc::Glibc(major, minor), Libc::Glibc(has, so_new)) => (has, so_new) >= (major, minor),
            (Libc::Glibc(..), Libc::Musl) | (Libc::Musl, Libc::Glibc(..)) => false,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(Misfit::Libc { needs, has: libc })
    }
}

/// As much of an ELF file as is of use here (System V ABI, chapters 4 and 5). Little-endian only: others are rare, and
/// are believed to run where their name says.
struct Elf<'a> {
    file: &'a File,
    is_wide: bool,
    machine: u64,
}

impl<'a> Elf<'a> {
    fn of(file: &'a File) -> io::Result<Option<Self>> {
        let mut ident = [0; 20];
        match file.read_exact_at(&mut ident, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [0x7f, b'E', b'L', b'F', class, 1, ..] = ident else {
            return Ok(None);
        };
        let mut elf = Self {
            file,
            is_wide: class == 2,
            machine: 0,
        };
        elf.machine = elf.number(18, 2)?;
        Ok(Some(elf))
    }

    fn needs(&self) -> io::Result<Needs> {
        let arch = match self.machine {
            3 => "x86",
            21 => "powerpc64",
            22 => "s390x",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 if self.is_wide => "riscv64",
            258 => "loongarch64",
            _ => "an unknown processor",
        };
        let os = match self.number(7, 1)? {
            // What Linux programs have in that field says nothing; neither do those of most others.
            0 | 3 => match std::env::consts::OS {
                "macos" => "linux",
                own => own,
            },
            9 => "freebsd",
            _ => "an unknown system",
        };
        let platform = Platform {
            os: os.to_owned(),
            arch: arch.to_owned(),
        };
        let libc = self.interpreter()?.map(|interpreter| {
            if interpreter.contains("musl") {
                return Ok(Libc::Musl);
            }
            let newest = self.newest_glibc()?;
            Ok::<_, io::Error>(newest.map_or(Libc::Unknown, |(major, minor)| Libc::Glibc(major, minor)))
        });
        Ok(Needs {
            platform: Some(platform),
            libc: libc.transpose()?,
        })
    }

    /// The loader that it asks for; none if it is static.
    fn interpreter(&self) -> io::Result<Option<String>> {
        const PT_INTERP: u64 = 3;
        let table = if self.is_wide {
            self.number(32, 8)?
        } else {
            self.number(28, 4)?
        };
        let (size, count) = if self.is_wide {
            (self.number(54, 2)?, self.number(56, 2)?)
        } else {
            (self.number(42, 2)?, self.number(44, 2)?)
        };
        for index in 0..count {
            let header = table.saturating_add(index * size);
            if self.number(header, 4)? == PT_INTERP {
                let at = if self.is_wide {
                    self.number(header.saturating_add(8), 8)?
                } else {
                    self.number(header.saturating_add(4), 4)?
                };
                return self.text(at).map(Some);
            }
        }
        Ok(None)
    }

    /// The newest version of glibc of which it needs something.
    fn newest_glibc(&self) -> io::Result<Option<(u32, u32)>> {
        const SHT_GNU_VERNEED: u64 = 0x6fff_fffe;
        let (table, size, count) = if self.is_wide {
            (self.number(40, 8)?, self.number(58, 2)?, self.number(60, 2)?)
        } else {
            (self.number(32, 4)?, self.number(46, 2)?, self.number(48, 2)?)
        };
        let section = |index: u64| table.saturating_add(index.saturating_mul(size));
        let place = |section: u64| {
            if self.is_wide {
                self.number(section.saturating_add(24), 8)
            } else {
                self.number(section.saturating_add(16), 4)
            }
        };
        let link = if self.is_wide { 40 } else { 24 };
        for header in (0..count).map(section) {
            if self.number(header.saturating_add(4), 4)? != SHT_GNU_VERNEED {
                continue;
            }
            let strings = place(section(self.number(header.saturating_add(link), 4)?))?;
            return self.newest_of(place(header)?, strings);
        }
        Ok(None)
    }

    /// Goes through the libraries of a version table, and the versions of each.
    fn newest_of(&self, table: u64, strings: u64) -> io::Result<Option<(u32, u32)>> {
        let mut newest = None;
        let mut library = table;
        for _ in 0..MOST_VERSIONS {
            let mut needed = library.saturating_add(self.number(library.saturating_add(8), 4)?);
            for _ in 0..self.number(library.saturating_add(2), 2)? {
                let name = self.number(needed.saturating_add(8), 4)?;
                let name = self.text(strings.saturating_add(name))?;
                newest = newest.max(name.strip_prefix("GLIBC_").and_then(version));
                needed = needed.saturating_add(self.number(needed.saturating_add(12), 4)?);
            }
            match self.number(library.saturating_add(12), 4)? {
                0 => break,
                next => library = library.saturating_add(next),
            }
        }
        Ok(newest)
    }

    /// A number of `size` bytes.
    fn number(&self, at: u64, size: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        if let Some(bytes) = bytes.get_mut(..size) {
            self.file.read_exact_at(bytes, at)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// A text that ends with a zero.
    fn text(&self, at: u64) -> io::Result<String> {
        let mut bytes = [0; 256];
        let count = self.file.read_at(&mut bytes, at)?;
        let bytes = bytes.get(..count).unwrap_or_default();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(count);
        Ok(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
    }
}

/// More libraries are in no program that is right.
const MOST_VERSIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn platform(system: &str, machine: &str, bits: &str) -> Option<String> {
        Platform::of(system, machine, bits).map(|platform| platform.to_string())
    }

    #[test]
    fn the_words_of_uname_are_understood() {
        for (system, machine, bits, told) in [
            ("Linux", "x86_64", "64", "linux x86_64"),
            ("Linux", "x86_64", "32", "linux x86"),
            ("Linux", "aarch64", "32", "linux arm"),
            ("Linux", "armv7l", "", "linux arm"),
            ("Linux", "i686", "32", "linux x86"),
            ("Linux", "ppc64le", "64", "linux powerpc64"),
            ("Linux", "riscv64", "64", "linux riscv64"),
            ("Darwin", "arm64", "64", "macos aarch64"),
            ("FreeBSD", "amd64", "64", "freebsd x86_64"),
        ] {
            assert_eq!(platform(system, machine, bits).as_deref(), Some(told));
        }
        assert_eq!(platform("", "x86_64", "64"), None);
        assert_eq!(platform("Linux", " ", ""), None);
    }

    #[test]
    fn the_words_about_the_library_are_understood() {
        for (told, libc) in [
            ("glibc 2.36", Libc::Glibc(2, 36)),
            ("ldd (Debian GLIBC 2.31-13+deb11u7) 2.31", Libc::Glibc(2, 31)),
            ("ldd (GNU libc) 2.17", Libc::Glibc(2, 17)),
            ("musl libc (x86_64)", Libc::Musl),
            ("ldd: not found", Libc::Unknown),
            ("", Libc::Unknown),
        ] {
            assert_eq!(Libc::of(told), libc, "{told}");
        }
    }

    #[test]
    fn a_program_runs_where_the_library_is_new_enough() {
        let here = Platform::here();
        let needs = |libc| Needs {
            platform: Some(here.clone()),
            libc,
        };
        let old = needs(Some(Libc::Glibc(2, 30)));
        assert_eq!(old.fit(&here, Libc::Glibc(2, 30)), Ok(()));
        assert_eq!(old.fit(&here, Libc::Glibc(3, 0)), Ok(()));
        assert_eq!(old.fit(&here, Libc::Unknown), Ok(()));
        let misfit = old.fit(&here, Libc::Glibc(2, 9)).unwrap_err();
        assert_eq!(misfit.to_string(), "needs glibc 2.30, and the host has glibc 2.9");
        assert!(old.fit(&here, Libc::Musl).is_err());
        assert!(needs(Some(Libc::Musl)).fit(&here, Libc::Glibc(2, 40)).is_err());
        assert_eq!(needs(None).fit(&here, Libc::Musl), Ok(()));
        let foreign = Platform::of("Linux", "sparc64", "").unwrap();
        let misfit = old.fit(&foreign, Libc::Glibc(2, 40)).unwrap_err();
        assert_eq!(misfit, Misfit::Platform(here.clone()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_tells_what_it_needs() {
        let own = File::open("/proc/self/exe").unwrap();
        let needs = Needs::of(&own).unwrap();
        assert_eq!(needs.platform, Some(Platform::here()));
        if cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))) {
            let Some(Libc::Glibc(2, minor)) = needs.libc else {
                panic!("{needs:?}")
            };
            assert!((17..100).contains(&minor), "{needs:?}");
        }
    }

    #[test]
    fn a_torn_program_is_an_error_and_a_script_is_none() {
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        };
        let script = Needs::of(&file(b"#!/bin/sh\nexit 0\n")).unwrap();
        let foreign = Platform::of("Linux", "sparc64", "").unwrap();
        assert_eq!(script.fit(&foreign, Libc::Unknown), Ok(()));
        assert!(script.running_here().fit(&foreign, Libc::Unknown).is_err());
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        if own.starts_with(b"\x7fELF") {
            assert!(Needs::of(&file(&own[..40])).is_err());
            // Offsets from nowhere.
            let mut wild = own[..64].to_vec();
            wild[32..48].fill(0xff);
            assert!(Needs::of(&file(&wild)).is_err());
        }
    }
}
