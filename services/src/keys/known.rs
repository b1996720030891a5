//! The keys of peers that are dialled.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::Address;
use farref_transport::address::PeerKey;

use super::Fingerprint;
use super::edit::{append, check_comment, lock, take_out};
use crate::trusted_file::{Secrecy, at, denied, lines, misuse, read};

/// What to do about a peer whose key is not known.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Refuse, and say which line would let it pass.
    #[default]
    Strict,
    /// Trust it, and remember its key: from then on no other is taken.
    AcceptNew,
    /// Ask; remember the key if the answer is yes. The question may wait for a person.
    Ask(Arc<dyn Fn(&Question<'_>) -> bool + Send + Sync>),
    /// Trust everybody, and remember nothing. Whoever is on the way can pose as the peer.
    Off,
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "strict" => Ok(Self::Strict),
            "accept-new" => Ok(Self::AcceptNew),
            "off" => Ok(Self::Off),
            _ => {
                let text = format!("`{word}` is no policy: write `strict`, `accept-new` or `off`");
                Err(Error::new(ErrorKind::Misuse, text))
            }
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "Strict",
            Self::AcceptNew => "AcceptNew",
            Self::Ask(_) => "Ask",
            Self::Off => "Off",
        })
    }
}

/// Whether to trust a peer that was never seen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Question<'a> {
    /// What was dialled.
    pub address: &'a Address,
    /// The key that answered.
    pub key: &'a PeerKey,
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, key } = self;
        let fingerprint = Fingerprint::of(key);
        write!(
            f,
            "`{address}` was never dialled before. Its key is {key} ({fingerprint}). Trust it?"
        )
    }
}

/// Which keys belong to which addresses.
#[derive(Debug, Clone)]
pub struct KnownPeers {
    path: Option<PathBuf>,
    policy: Policy,
}

impl KnownPeers {
    /// Those of a file, which need not exist yet.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, policy: Policy) -> Self {
        Self {
            path: Some(path.into()),
            policy,
        }
    }

    /// None at all: every peer must be pinned by its address.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            path: None,
            policy: Policy::Strict,
        }
    }

    /// Everybody, without a look at the key: whoever is on the way can pose as the peer.
    #[must_use]
    pub const fn anyone() -> Self {
        Self {
            path: None,
            policy: Policy::Off,
        }
    }

    /// Whether the peer that answered at `address` with `key` is the right one. May ask, and remember. Where the
    /// address names the key, the file can only revoke it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] if it is not, or nobody can tell: the message shows both keys, or the line that would
    /// make this one known. [`ErrorKind::Misuse`] if the file cannot be used.
    pub fn check(&self, address: &Address, key: &PeerKey) -> Result<()> {
        if self.look(address, key)? {
            self.remember(address, key)?;
        }
        Ok(())
    }

    /// [`check`](Self::check), which leaves the remembering to the caller: whether there is something to remember.
    pub(crate) fn look(&self, address: &Address, key: &PeerKey) -> Result<bool> {
        let name = name_of(address);
        if let Some(pinned) = address.peer_key() {
            if let Some(path) = &self.path {
                let text = read(path, Secrecy::Public)?.unwrap_or_default();
                is_known(path, &text, &name, key, true)?;
            }
            return if pinned == key {
                Ok(false)
            } else {
                Err(denied(format!("`{address}` answered with the key {key}")))
            };
        }
        match &self.path {
            Some(path) => {
                let text = read(path, Secrecy::Public)?.unwrap_or_default();
                if is_known(path, &text, &name, key, matches!(self.policy, Policy::Off))? {
                    return Ok(false);
                }
                match &self.policy {
                    Policy::Off => Ok(false),
                    Policy::Strict => Err(unknown(address, &name, key, Some(path))),
                    Policy::AcceptNew => Ok(true),
                    Policy::Ask(ask) if ask(&Question { address, key }) => Ok(true),
                    Policy::Ask(_) => Err(denied(format!("`{address}` is not trusted: the answer was no"))),
                }
            }
            None if matches!(self.policy, Policy::Off) => Ok(false),
            None => Err(unknown(address, &name, key, None)),
        }
    }

    /// Remembers the key of the peer at `address`.
    pub(crate) fn remember(&self, address: &Address, key: &PeerKey) -> Result<()> {
        match &self.path {
            Some(path) => remember(path, &name_of(address), key),
            None => Ok(()),
        }
    }
}

/// A line of the file: which key belongs to which addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownPeer {
    /// The address, in which `*` stands for any text; `@revoked` where the key is to be believed nowhere.
    pub pattern: String,
    /// The key.
    pub key: PeerKey,
    /// What is written behind the key.
    pub comment: String,
    /// The number of the line, from 1.
    pub line: usize,
}

/// The pattern of lines that revoke keys.
pub(crate) const REVOKED: &str = "@revoked";

impl KnownPeers {
    /// What the file says, in its order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if the file cannot be used, or there is none by design.
    pub fn list(&self) -> Result<Vec<KnownPeer>> {
        let path = self.path()?;
        let text = read(path, Secrecy::Public)?.unwrap_or_default();
        lines(&text)
            .map(|(number, line)| parse(line, number).ok_or_else(|| at(path, number, FORM)))
            .collect()
    }

    /// Adds a line: from now on `key` is believed at `pattern`, an address in which `*` may stand for any text; with
    /// `@revoked`, it is believed nowhere. Whether that is news.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if the pattern is none, or the file cannot be used; [`ErrorKind::Denied`] if another line
    /// has another key for that address: [`forget`](Self::forget) it first, if it was set up anew.
    pub fn add(&self, pattern: &str, key: &PeerKey, comment: &str) -> Result<bool> {
        let path = self.path()?;
        check_comment(comment)?;
        let name = if pattern == REVOKED {
            REVOKED.into()
        } else if pattern.contains(char::is_whitespace) || pattern.starts_with(['@', '#']) {
            return Err(misuse(format!("`{pattern}` is no address")));
        } else {
            pattern_of(pattern).map_err(misuse)?
        };
        let file = lock(path)?;
        let text = read(path, Secrecy::Public)?.unwrap_or_default();
        let is_there = lines(&text)
            .filter_map(|(number, line)| parse(line, number))
            .any(|known| known.key == *key && known.pattern == *name);
        if is_there || (name != REVOKED && is_known(path, &text, &name, key, false)?) {
            return Ok(false);
        }
        let line = format!("{name} {key} {comment}");
        append(path, &file, &text, line.trim_end())?;
        Ok(true)
    }

    /// Takes out the lines that `which` names: by their address, their key, or its fingerprint. What was taken out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if the file cannot be used.
    pub fn forget(&self, which: &str) -> Result<Vec<KnownPeer>> {
        let name = pattern_of(which).unwrap_or(Cow::Borrowed(which));
        let key: Option<PeerKey> = which.parse().ok();
        take_out(self.path()?, |number, line| {
            parse(line, number).filter(|known| {
                let pattern = pattern_of(&known.pattern).unwrap_or(Cow::Borrowed(&known.pattern));
                known.pattern == which
                    || pattern == name
                    || key == Some(known.key)
                    || Fingerprint::of(&known.key).to_string() == which
            })
        })
    }

    fn path(&self) -> Result<&Path> {
        let none = || misuse("peers are not looked up in a file here".to_owned());
        self.path.as_deref().ok_or_else(none)
    }
}

const FORM: &str = "a line is ADDRESS KEY, with a key like ed25519.aaaq...";

fn parse(line: &str, number: usize) -> Option<KnownPeer> {
    let (pattern, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (key, comment) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some(KnownPeer {
        pattern: pattern.to_owned(),
        key: key.parse().ok()?,
        comment: comment.trim().to_owned(),
        line: number,
    })
}

/// Reads `text` as peers that are known, and looks for each of them.
pub(super) fn fuzz(text: &str) {
    let path = Path::new("known_peers");
    for (number, line) in lines(text) {
        let Some(known) = parse(line, number) else {
            continue;
        };
        let KnownPeer {
            pattern,
            key,
            comment,
            ..
        } = &known;
        let written = format!("{pattern} {key} {comment}");
        assert_eq!(parse(written.trim_end(), number).as_ref(), Some(&known));
        let Ok(address) = pattern.parse::<Address>() else {
            continue;
        };
        let is_known = is_known(path, line, &name_of(&address), key, false);
        assert!(
            pattern.contains('*') || is_known.is_ok_and(|is_known| is_known),
            "{line:?} does not stand for its own address"
        );
        _ = self::is_known(path, text, &name_of(&address), key, true);
    }
}

/// What an address is called in the file: without options, key and security. It has no star, which would stand for
/// other addresses too.
fn name_of(address: &Address) -> String {
    address
        .clone()
        .without_options()
        .without_peer_key()
        .with_security(None)
        .to_string()
        .replace('*', "%2A")
}

/// What a line stands for: an address is taken as it is called here, however it is written.
fn pattern_of(word: &str) -> std::result::Result<Cow<'_, str>, String> {
    if word.contains('*') && !word.starts_with('@') {
        if word.contains(['?', '#']) {
            return Err(format!(
                "`{word}` stands for nothing: peers are known without options and keys"
            ));
        }
        let bare = ["noise+", "plain+"]
            .iter()
            .find_map(|prefix| word.strip_prefix(prefix));
        return Ok(Cow::Borrowed(bare.unwrap_or(word)));
    }
    let address = word.parse::<Address>();
    let name = address.map(|address| Cow::Owned(name_of(&address)));
    name.map_err(|error| format!("`{word}` is neither an address nor `@revoked`: {error}"))
}

/// Whether a line of the file names this key for this address.
///
/// # Errors
///
/// The key is revoked; or there are lines for the address, and all name other keys.
fn is_known(path: &Path, text: &str, name: &str, key: &PeerKey, may_change: bool) -> Result<bool> {
    let mut other = None;
    let mut known = false;
    for (number, line) in lines(text) {
        let KnownPeer {
            pattern: word,
            key: named,
            ..
        } = parse(line, number).ok_or_else(|| at(path, number, FORM))?;
        if word == REVOKED {
            if named == *key {
                let text = format!("the key {key} is revoked by {}:{number}", path.display());
                return Err(denied(text));
            }
            continue;
        }
        let pattern = pattern_of(&word).map_err(|what| at(path, number, &what))?;
        if matches(&pattern, name) {
            if named == *key {
                known = true;
            } else if other.is_none() {
                other = Some((number, named));
            }
        }
    }
    match other {
        Some((number, expected)) if !known && !may_change => Err(denied(format!(
            "the key of `{name}` has changed. Somebody else may answer there now, or it was set up anew.\n  \
             known:    {expected} ({}), by {}:{number}\n  \
             answered: {key} ({})\n\
             If it was set up anew, remove that line.",
            Fingerprint::of(&expected),
            path.display(),
            Fingerprint::of(key),
        ))),
        _ => Ok(known),
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some((_, behind)) = rest.split_once(before) else {
                return false;
            };
            rest = behind;
        }
    }
    last.map_or(rest.is_empty(), |last: &str| rest.ends_with(last))
}

/// Adds a line. Processes that do so at once wait for each other.
fn remember(path: &Path, name: &str, key: &PeerKey) -> Result<()> {
    let file = lock(path)?;
    // Somebody may have been faster, with this key or with another.
    let text = read(path, Secrecy::Public)?.unwrap_or_default();
    if is_known(path, &text, name, key, false)? {
        return Ok(());
    }
    append(path, &file, &text, &format!("{name} {key}"))
}

fn unknown(address: &Address, name: &str, key: &PeerKey, path: Option<&Path>) -> Error {
    let pinned = address.clone().with_peer_key(*key);
    let mut text = format!(
        "the key of `{address}` is not known, so nobody can tell who answers there. If {key} is its key, dial \
         `{pinned}`"
    );
    if let Some(path) = path {
        text = format!("{text}, or add this line to {}:\n  {name} {key}", path.display());
    }
    denied(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey::new([number; 32])
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_known_by_its_line_whatever_the_options() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let text = format!(
            "# lab\n\ntcp://rig7:7000 {} the bench\nquic://*.lab:* {}\n",
            key(1),
            key(2)
        );
        fs::write(&path, text).unwrap();
        let known = KnownPeers::file(&path, Policy::Strict);
        known
            .check(&address("tcp://rig7:7000?lowat=4096"), &key(1))
            .unwrap();
        known.check(&address("noise+tcp://rig7:7000"), &key(1)).unwrap();
        known.check(&address("quic://a.lab:1"), &key(2)).unwrap();
        assert!(known.check(&address("quic://a.lab.evil:1"), &key(3)).is_err());
        assert!(known.check(&address("tcp://rig7:7001"), &key(1)).is_err());
    }

    #[test]
    fn an_unknown_peer_is_refused_with_the_line_that_makes_it_known() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let known = KnownPeers::file(&path, Policy::Strict);
        let error = known.check(&address("tcp://rig7:7000"), &key(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let line = error.to_string().lines().last().unwrap().trim().to_owned();
        assert_eq!(line, format!("tcp://rig7:7000 {}", key(1)));
        assert!(
            error
                .to_string()
                .contains(&format!("`tcp://rig7:7000#{}`", key(1)))
        );
        fs::write(&path, line).unwrap();
        known.check(&address("tcp://rig7:7000"), &key(1)).unwrap();
    }

    #[test]
    fn a_changed_key_is_refused_under_every_policy_but_off() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        fs::write(&path, format!("tcp://rig7:7000 {}", key(1))).unwrap();
        let ask = Policy::Ask(Arc::new(|_| true));
        for policy in [Policy::Strict, Policy::AcceptNew, ask] {
            let known = KnownPeers::file(&path, policy);
            let error = known
                .check(&address("tcp://rig7:7000"), &key(2))
                .unwrap_err()
                .to_string();
            for part in [key(1).to_string(), key(2).to_string(), "known_peers:1".to_owned()] {
                assert!(error.contains(&part), "{error}");
            }
            assert!(error.contains(&Fingerprint::of(&key(2)).to_string()), "{error}");
        }
        KnownPeers::file(&path, Policy::Off)
            .check(&address("tcp://rig7:7000"), &key(2))
            .unwrap();
    }

    #[test]
    fn a_new_key_is_remembered_where_the_policy_or_the_answer_says_so() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/known_peers");
        let no = KnownPeers::file(&path, Policy::Ask(Arc::new(|_| false)));
        assert!(no.check(&address("tcp://a:1"), &key(1)).is_err());
        assert!(!path.exists());
        let yes = KnownPeers::file(
            &path,
            Policy::Ask(Arc::new(|question| {
                question.to_string().contains("tcp://a:1") && question.to_string().contains("ed25519.")
            })),
        );
        yes.check(&address("tcp://a:1"), &key(1)).unwrap();
        KnownPeers::file(&path, Policy::AcceptNew)
            .check(&address("tcp://b:1"), &key(2))
            .unwrap();
        let strict = KnownPeers::file(&path, Policy::Strict);
        strict.check(&address("tcp://a:1"), &key(1)).unwrap();
        strict.check(&address("tcp://b:1"), &key(2)).unwrap();
        assert!(strict.check(&address("tcp://b:1"), &key(1)).is_err());
    }

    #[test]
    fn a_revoked_key_is_refused_everywhere() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        fs::write(&path, format!("tcp://a:1 {0}\n@revoked {0} stolen\n", key(1))).unwrap();
        for policy in [Policy::Strict, Policy::AcceptNew, Policy::Off] {
            let error = KnownPeers::file(&path, policy)
                .check(&address("tcp://a:1"), &key(1))
                .unwrap_err();
            assert!(error.to_string().contains("known_peers:2"), "{error}");
        }
    }

    #[test]
    fn a_revoked_key_is_refused_also_where_the_address_names_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let known = KnownPeers::file(&path, Policy::Strict);
        let pinned = address("tcp://a:1").with_peer_key(key(1));
        known.check(&pinned, &key(1)).unwrap();
        assert!(known.check(&pinned, &key(2)).is_err());
        assert!(KnownPeers::anyone().check(&pinned, &key(2)).is_err());
        fs::write(&path, format!("tcp://a:1 {}\n", key(2))).unwrap();
        known.check(&pinned, &key(1)).unwrap();
        fs::write(&path, format!("@revoked {}\n", key(1))).unwrap();
        assert!(known.check(&pinned, &key(1)).is_err());
    }

    /// Such lines were passed over: the key was then taken as a new one.
    #[test]
    fn a_line_that_is_meant_for_an_address_holds_however_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let known = KnownPeers::file(&path, Policy::AcceptNew);
        for line in [
            "tcp://a:1",
            "noise+tcp://a:1",
            "tcp://a:1?lowat=4096",
            "\u{feff}tcp://a:1",
        ] {
            fs::write(&path, format!("{line} {}\r\n", key(1))).unwrap();
            known.check(&address("tcp://a:1"), &key(1)).unwrap();
            let error = known.check(&address("tcp://a:1"), &key(2)).unwrap_err();
            assert!(error.to_string().contains("has changed"), "{line}: {error}");
        }
        // With a star as well: such a line used to stand for nothing, without a word.
        for line in ["noise+tcp://*:1", "plain+tcp://a*"] {
            fs::write(&path, format!("{line} {}\n", key(1))).unwrap();
            let error = known.check(&address("tcp://a:1"), &key(2)).unwrap_err();
            assert!(error.to_string().contains("has changed"), "{line}: {error}");
        }
        for line in [
            "a:1",
            "a",
            "@revokd",
            "@cert-authority",
            "@*",
            "tcp://*:1?lowat=4096",
            "tcp://*#ed25519",
        ] {
            fs::write(&path, format!("{line} {}\n", key(1))).unwrap();
            let error = known.check(&address("tcp://a:1"), &key(2)).unwrap_err();
            assert!(error.to_string().contains("known_peers:1: "), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_remembered_stands_for_that_address_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let known = KnownPeers::file(&path, Policy::AcceptNew);
        for name in ["noise+unix:/run/*", "noise+unix:/my%20run/%23x", "noise+mem:@x"] {
            known.check(&address(name), &key(1)).unwrap();
            known.check(&address(name), &key(1)).unwrap();
            assert!(known.check(&address(name), &key(2)).is_err(), "{name}");
        }
        known.check(&address("noise+unix:/run/other"), &key(2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    }

    #[test]
    fn a_line_that_is_none_is_an_error_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        fs::write(&path, "tcp://a:1 ed25519.tooshort\n").unwrap();
        let known = KnownPeers::file(&path, Policy::AcceptNew);
        let error = known
            .check(&address("tcp://b:1"), &key(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("known_peers:1: "), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "tcp://a:1 ed25519.tooshort\n");
    }

    #[test]
    fn all_that_is_remembered_at_once_is_kept_each_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        fs::write(&path, "# kept, without a line end").unwrap();
        std::thread::scope(|scope| {
            for number in 0..40_u8 {
                let path = &path;
                scope.spawn(move || {
                    let known = KnownPeers::file(path, Policy::AcceptNew);
                    known
                        .check(&address(&format!("tcp://h{}:1", number / 2)), &key(number / 2))
                        .unwrap();
                });
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# kept, without a line end\n"), "{text}");
        assert_eq!(lines(&text).count(), 20, "{text}");
    }

    #[test]
    fn without_a_file_only_pins_or_blind_trust_help() {
        assert!(KnownPeers::none().check(&address("tcp://a:1"), &key(1)).is_err());
        KnownPeers::anyone()
            .check(&address("tcp://a:1"), &key(1))
            .unwrap();
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn peers_are_listed_added_and_forgotten_and_other_lines_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_peers");
        let known = KnownPeers::file(&path, Policy::Strict);
        assert_eq!(known.list().unwrap(), []);
        assert!(known.forget("tcp://a:1").unwrap().is_empty());
        assert!(!path.exists(), "nothing was to be changed");
        fs::write(&path, "# the bench\nodd line\n").unwrap();
        let error = known.list().unwrap_err().to_string();
        assert!(error.contains("known_peers:2: "), "{error}");

        fs::write(&path, "# the bench\n").unwrap();
        assert!(known.add("tcp://a:1", &key(1), "bench").unwrap());
        assert!(
            !known.add("noise+tcp://a:1", &key(1), "").unwrap(),
            "known already"
        );
        let error = known.add("tcp://a:1", &key(2), "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(known.add("quic://*.lab:7", &key(2), "").unwrap());
        assert!(known.add("@revoked", &key(3), "stolen").unwrap());
        assert!(!known.add("@revoked", &key(3), "").unwrap());
        for wrong in ["", "nonsense", "@other", "tcp://a b:1", "#tcp://a:1"] {
            let error = known.add(wrong, &key(1), "").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{wrong}: {error}");
        }
        assert!(known.add("tcp://b:1", &key(1), "two\nlines").is_err());
        let listed: Vec<_> = known
            .list()
            .unwrap()
            .into_iter()
            .map(|known| (known.line, known.pattern, known.key, known.comment))
            .collect();
        assert_eq!(
            listed,
            [
                (2, "tcp://a:1".to_owned(), key(1), "bench".to_owned()),
                (3, "quic://*.lab:7".to_owned(), key(2), String::new()),
                (4, "@revoked".to_owned(), key(3), "stolen".to_owned()),
            ]
        );

        fs::write(&path, fs::read_to_string(&path).unwrap() + "odd line\n").unwrap();
        assert_eq!(known.forget("noise+tcp://a:1").unwrap().len(), 1);
        assert_eq!(known.forget(&key(2).to_string()).unwrap().len(), 1);
        let fingerprint = Fingerprint::of(&key(3)).to_string();
        assert_eq!(known.forget(&fingerprint).unwrap().len(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "# the bench\nodd line\n");
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }
}
