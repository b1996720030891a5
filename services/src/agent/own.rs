//! What this process is, and where its keeper is to be found.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::Address;
use sha2::{Digest, Sha256};

use super::failed;

/// What whoever started this process wants of it.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) way: Way,
    /// The hash of the program, if it was brought.
    hash: Option<String>,
    /// Whether nobody could tell over here whether it is the one that was meant.
    is_doubtful: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Alone,
    Proxy,
    Keeper,
}

/// The variable that makes a keeper: the process id of its parent, so that no child of a child takes itself for one.
pub(super) const KEEPER: &str = "FARREF_KEEPER";

/// The variable by which a program that was brought knows the hash of its file.
pub(super) const DEPLOYED: &str = "FARREF_DEPLOYED";

/// The variables of the script that brings programs.
pub(super) const OF_SCRIPT: [&str; 4] = [DEPLOYED, "FARREF_PERSIST", "FARREF_TOKEN", "FARREF_VERIFY"];

impl Start {
    pub(super) fn of_environment() -> Self {
        let is_set = |name: &str| env::var(name).is_ok_and(|value| value == "1");
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
        let way = if parent.is_some() && env::var(KEEPER).ok() == parent {
            Way::Keeper
        } else if is_set("FARREF_PERSIST") {
            Way::Proxy
        } else {
            Way::Alone
        };
        let hash = env::var(DEPLOYED).ok().filter(|hash| {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            hash.len() == 64 && hash.bytes().all(is_digit)
        });
        Self {
            way,
            hash,
            is_doubtful: is_set("FARREF_VERIFY"),
        }
    }

    /// Where the keeper of this program listens, in a directory that is this account's alone.
    ///
    /// # Errors
    ///
    /// There is no such directory.
    pub(super) fn place(&self) -> Result<Place> {
        let exe =
            env::current_exe().map_err(|error| failed("the program does not know its own file", error))?;
        let directory = directory(self.hash.is_some().then_some(&*exe))?;
        let mut name = Sha256::new();
        match &self.hash {
            Some(hash) => name.update(hash),
            None => {
                // A program that is replaced is another one.
                let file = program()
                    .and_then(|file| file.metadata())
                    .map_err(|error| failed("the program's own file", error))?;
                name.update(exe.as_os_str().as_bytes());
                name.update(format!(
                    "\0{}\0{}\0{}",
                    file.ino(),
                    file.size(),
                    file.mtime_nsec()
                ));
            }
        }
        for argument in env::args_os().skip(1) {
            name.update([0]);
            name.update(argument.as_bytes());
        }
        let file = format!("{}{}.sock", host(), hex(&name.finalize(), 8));
        Ok(Place { directory, file })
    }
}

/// A socket, in the directory that it is in.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    file: String,
}

impl Place {
    pub(super) fn address(&self) -> Result<Address> {
        let path = self.directory.join(&self.file);
        let path = path
            .to_str()
            .ok_or_else(|| failed("the directory of the socket", "its name is no text"))?;
        Address::unix(path).map_err(|error| failed("the directory of the socket", error))
    }

    /// Removes what keepers have left that were killed. Those of other hosts that share the directory are left alone.
    pub(super) fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.starts_with(&host()) && name.ends_with(".sock"));
            if is_ours
                && let Err(error) = UnixStream::connect(entry.path())
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Checks that the program is the one that was brought, where nobody could before it was started.
pub(super) async fn check(start: &Start) -> Result<()> {
    let (Some(hash), true) = (&start.hash, start.is_doubtful) else {
        return Ok(());
    };
    let found = tokio::task::spawn_blocking(own_hash)
        .await
        .map_err(io::Error::other);
    let found = found.and_then(|found| found);
    let found = found.map_err(|error| failed("the program cannot read its own file", error))?;
    if found == *hash {
        return Ok(());
    }
    let text = "the program in the cache is not what its name says, so it does not serve: find out who changed it, and \
                remove it";
    Err(Error::new(ErrorKind::Denied, text))
}

fn own_hash() -> io::Result<String> {
    let mut file = File::open(program()?)?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut part)?;
        let Some(part) = part.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(hex(&hash.finalize(), 32));
        };
        hash.update(part);
    }
}

/// The directory for the socket: beside the program if that was brought, as its directory is the account's alone and
/// lasts; the one that the system has for such files goes away with the last login. `exe` is the program that was brought.
fn directory(exe: Option<&Path>) -> Result<PathBuf> {
    let brought = exe.and_then(Path::parent).map(Path::to_owned);
    if let Some(directory) = brought.filter(|directory| is_short(directory) && is_ours(directory)) {
        return Ok(directory);
    }
    let of_system = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && is_short(path))
        .map(|path| path.join("farref"));
    let uid = rustix::process::geteuid().as_raw();
    let of_all = Path::new("/tmp").join(format!("farref-{uid}"));
    for directory in of_system.into_iter().chain([of_all]) {
        let made = DirBuilder::new().mode(0o700).create(&directory);
        if (made.is_ok() || directory.exists()) && is_ours(&directory) {
            return Ok(directory);
        }
    }
    let told =
        format!("there is no directory for it that is this account's alone, such as /tmp/farref-{uid}");
    Err(failed("the socket", told))
}

/// Whether the path of a socket in it has room in its 104 bytes, of which 36 are for its name.
fn is_short(directory: &Path) -> bool {
    directory.as_os_str().len() < 60
}

fn is_ours(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|found| {
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
    })
}

/// A few digits for this host: a directory may be shared with others.
fn host() -> String {
    let name = rustix::system::uname();
    hex(&Sha256::digest(name.nodename().to_bytes()), 4) + "-"
}

fn hex(bytes: &[u8], most: usize) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(most) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The program's own file, also where another has taken its name, as when two bring it at once: the system then calls it
/// deleted, and no file of that name is there.
pub(super) fn program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    env::current_exe()
}

/// The arguments with which this program was started.
pub(super) fn arguments() -> impl Iterator<Item = OsString> {
    env::args_os().skip(1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn start(hash: Option<&str>) -> Start {
        Start {
            way: Way::Proxy,
            hash: hash.map(ToOwned::to_owned),
            is_doubtful: true,
        }
    }

    #[test]
    fn a_directory_is_ours_if_nobody_else_may_enter_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (mode, is) in [(0o700, true), (0o701, false), (0o750, false), (0o770, false)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_ours(path), is, "{mode:o}");
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(path, path.join("link")).unwrap();
        assert!(!is_ours(&path.join("link")) && !is_ours(&path.join("nothing")));
    }

    #[test]
    fn a_socket_lies_beside_the_program_that_was_brought_where_its_path_is_short_enough() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            directory(Some(&place.path().join("program"))).unwrap(),
            place.path()
        );
        let long = place.path().join("x".repeat(60));
        DirBuilder::new().mode(0o700).create(&long).unwrap();
        let elsewhere = directory(Some(&long.join("program"))).unwrap();
        assert!(
            elsewhere != long && is_short(&elsewhere) && is_ours(&elsewhere),
            "{elsewhere:?}"
        );
    }

    #[test]
    fn each_version_of_a_program_has_a_place_of_its_own() {
        let file = |hash: Option<&str>| start(hash).place().unwrap().file;
        let [one, two] = ["1", "2"].map(|digit| file(Some(&digit.repeat(64))));
        assert_eq!(one, file(Some(&"1".repeat(64))));
        assert!(one != two && file(None) != one && one.len() < 36, "{one}");
    }

    #[test]
    fn what_was_left_behind_is_removed_and_what_is_alive_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (dead, foreign, alive) = (
            format!("{}1.sock", host()),
            "00000000-1.sock",
            format!("{}2.sock", host()),
        );
        drop(UnixListener::bind(at(&dead)).unwrap());
        drop(UnixListener::bind(at(foreign)).unwrap());
        let _listener = UnixListener::bind(at(&alive)).unwrap();
        let place = Place {
            directory: directory.path().to_owned(),
            file: alive.clone(),
        };
        place.tidy();
        assert!(!at(&dead).exists() && at(foreign).exists() && at(&alive).exists());
    }

    #[tokio::test]
    async fn a_program_that_is_not_the_one_that_was_brought_does_not_serve() {
        let own = own_hash().unwrap();
        assert!(check(&start(Some(&own))).await.is_ok());
        let error = check(&start(Some(&"0".repeat(64)))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(check(&start(None)).await.is_ok(), "it was not brought");
    }
}
