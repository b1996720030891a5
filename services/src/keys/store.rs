//! The directory that the files are in, and the identity in it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use farref_boxing::Result;
use farref_transport::Identity;
use farref_transport::address::PeerKey;
use zeroize::Zeroizing;

use super::edit::temporary;
use super::{Authorized, KnownPeers, Policy};
use crate::trusted_file::{Secrecy, at, failed, lines, misuse, read};

const HEADER: &str = "farref-identity-v1";

/// The directory with this process's keys.
#[derive(Debug, Clone)]
pub struct KeyStore {
    directory: PathBuf,
    /// Where the identity is, if not in the directory.
    identity: Option<PathBuf>,
}

impl KeyStore {
    /// The keys in `directory`, which is made when the first is written.
    #[must_use]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            identity: None,
        }
    }

    /// The identity is in another file, which is not made if it is not there.
    #[must_use]
    pub fn with_identity(mut self, path: impl Into<PathBuf>) -> Self {
        self.identity = Some(path.into());
        self
    }

    /// Where the identity is.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.identity
            .clone()
            .unwrap_or_else(|| self.directory.join("identity"))
    }

    /// The keys of the user that this process runs as.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](farref_boxing::ErrorKind::Unsupported): neither `FARREF_HOME`, `XDG_CONFIG_HOME` nor `HOME` is set.
    pub fn of_user() -> Result<Self> {
        crate::home::directory().map(Self::open)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Who this process is. The first time, a new key pair is made and kept in `identity`.
    ///
    /// # Errors
    ///
    /// The file cannot be read or made, is none of ours, or can be read by others.
    pub fn identity(&self) -> Result<Identity> {
        let path = self.identity_path();
        match read(&path, Secrecy::Secret)? {
            Some(text) => parse(&path, &Zeroizing::new(text)),
            None if self.identity.is_some() => {
                Err(misuse(format!("there is no identity at {}", path.display())))
            }
            None => create(&path),
        }
    }

    /// Where peers' keys are looked up when dialling.
    #[must_use]
    pub fn known_peers(&self, policy: Policy) -> KnownPeers {
        KnownPeers::file(self.directory.join("known_peers"), policy)
    }

    /// Who is let in when listening.
    #[must_use]
    pub fn authorized_peers(&self) -> Authorized {
        Authorized::file(self.directory.join("authorized_peers"))
    }

    /// Makes a new identity at [`identity_path`](Self::identity_path), and `.pub` beside it.
    ///
    /// # Errors
    ///
    /// [`Misuse`](farref_boxing::ErrorKind::Misuse) if there is one: nothing is ever overwritten. Whoever wants another moves that away.
    pub fn make_identity(&self) -> Result<Identity> {
        let path = self.identity_path();
        if path.exists() {
            return Err(misuse(format!(
                "there is an identity at {} already: move it away first",
                path.display()
            )));
        }
        create(&path)
    }
}

/// Makes an identity, unless another process was faster.
fn create(path: &Path) -> Result<Identity> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        make_directory(directory)?;
    }
    let identity = Identity::generate().map_err(|error| failed(path, &error))?;
    let line = line_of(&identity);
    match write_new(path, line.as_bytes()) {
        Ok(()) => {
            let public = format!("{}\n", identity.public());
            // For people to look at: nothing depends on it.
            let _ = fs::write(beside(path), public);
            Ok(identity)
        }
        // Another process was faster: what it made counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let text = read(path, Secrecy::Secret)?.unwrap_or_default();
            parse(path, &Zeroizing::new(text))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// Where others find what they may know: `device.key.pub` for `device.key`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// What the file says.
fn line_of(identity: &Identity) -> Zeroizing<String> {
    let secret = Zeroizing::new(PeerKey::new(*identity.secret()).to_string());
    let digits = secret.rsplit('.').next().unwrap_or_default();
    Zeroizing::new(format!("{HEADER} {digits}\n"))
}

fn parse(path: &Path, text: &str) -> Result<Identity> {
    let wrong = |line| at(path, line, "this is no identity of farref; nothing was changed");
    let (number, line) = lines(text).next().ok_or_else(|| wrong(1))?;
    let digits = line
        .strip_prefix(HEADER)
        .and_then(|rest| rest.split_whitespace().next());
    let key = format!("ed25519.{}", digits.ok_or_else(|| wrong(number))?);
    let secret: PeerKey = Zeroizing::new(key).parse().map_err(|_| wrong(number))?;
    Identity::from_secret(secret.as_bytes()).map_err(|error| failed(path, &error))
}

/// Reads `text` as an identity: the digits alone count.
#[expect(clippy::expect_used, reason = "a finding")]
pub(super) fn fuzz(text: &str) {
    let path = Path::new("identity");
    if let Ok(identity) = parse(path, text) {
        let again = parse(path, &line_of(&identity)).expect("what was written can be read");
        assert_eq!(again.public(), identity.public());
    }
}

/// Makes the directory, for its owner alone.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(|error| failed(directory, &error))
}

/// Writes a file that is not there yet: whole, or not at all. Nobody sees a part of it.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = temporary(path)?;
    let written = (|| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link does not replace what is there.
        fs::hard_link(&temporary, path)
    })();
    let _ = fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_found_again() {
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::open(home.path().join("keys"));
        let made = store.identity().unwrap();
        assert_eq!(store.identity().unwrap().public(), made.public());
        let public = fs::read_to_string(home.path().join("keys/identity.pub")).unwrap();
        assert_eq!(public.trim(), made.public().to_string());
        assert_eq!(fs::read_dir(home.path().join("keys")).unwrap().count(), 2);
    }

    /// The public half of `device.key` was `device.pub`: not where the help says, and in place of whatever had that name.
    #[test]
    fn the_public_half_has_the_name_of_the_identity_and_pub() {
        let home = tempfile::tempdir().unwrap();
        let of_somebody_else = home.path().join("device.pub");
        fs::write(&of_somebody_else, "ssh-ed25519 ..").unwrap();
        let store = KeyStore::open(home.path()).with_identity(home.path().join("device.key"));
        let made = store.make_identity().unwrap();
        let public = fs::read_to_string(home.path().join("device.key.pub")).unwrap();
        assert_eq!(public.trim(), made.public().to_string());
        assert_eq!(fs::read_to_string(of_somebody_else).unwrap(), "ssh-ed25519 ..");
    }

    /// A process that died in the middle kept the next one with its number, in a container each, from ever starting.
    #[test]
    fn what_a_process_that_died_left_behind_is_in_nobodys_way() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            let left = format!("identity.{}.{number}.tmp", std::process::id());
            fs::write(home.path().join(left), "farref-iden").unwrap();
        }
        KeyStore::open(home.path()).identity().unwrap();
    }

    #[test]
    fn many_processes_at_once_agree_on_one_identity() {
        let home = tempfile::tempdir().unwrap();
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| KeyStore::open(home.path()).identity()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let there = KeyStore::open(home.path()).identity().unwrap().public();
        for made in made {
            assert_eq!(made.unwrap().public(), there);
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_identity_that_others_can_read_is_not_used_and_the_error_mends_it() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let store = KeyStore::open(home.path());
        store.identity().unwrap();
        let path = home.path().join("identity");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = store.identity().unwrap_err().to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_broken_identity_is_shown_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity");
        for text in [
            "",
            "\n",
            "ssh-ed25519 AAAA",
            "farref-identity-v1",
            "farref-identity-v1 abc",
            "farref-identity-v2 x",
        ] {
            let _ = fs::remove_file(&path);
            write_new(&path, text.as_bytes()).unwrap();
            let error = KeyStore::open(home.path()).identity().unwrap_err().to_string();
            assert!(error.contains("identity:1: "), "{text}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
