//! Who is let in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use farref_boxing::{Error, Result};
use farref_transport::address::PeerKey;

use super::Fingerprint;
use super::edit::{append, check_comment, lock, take_out};
use crate::trusted_file::{Secrecy, Stamp, at, denied, lines, misuse, read};

/// Which peers are let in, by their keys.
#[derive(Clone)]
pub struct Authorized(Arc<Who>);

enum Who {
    Anyone,
    Keys(Vec<PeerKey>),
    File(PathBuf, Mutex<Loaded>),
}

/// What a file said when it was last read.
#[derive(Default)]
struct Loaded {
    /// If that is the same, so is the rest.
    stamp: Option<Stamp>,
    grants: BTreeMap<[u8; 32], Grant>,
}

/// What a peer that is let in may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The services that it may use; all, if there are none here.
    pub services: Vec<String>,
    /// Whether it may only look.
    pub is_read_only: bool,
    /// From where it may come; from anywhere, if there are none here.
    pub from: Vec<Network>,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// What is written behind the key.
    pub comment: String,
}

/// An address, or all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let rest = width - u32::from(self.bits);
        own.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    }
}

impl Authorized {
    /// Everybody: what they may do must be harmless.
    #[must_use]
    pub fn anyone() -> Self {
        Self(Arc::new(Who::Anyone))
    }

    /// Those with one of these keys.
    #[must_use]
    pub fn keys(keys: impl IntoIterator<Item = PeerKey>) -> Self {
        Self(Arc::new(Who::Keys(keys.into_iter().collect())))
    }

    /// Those whom a file names. It is read again when it changes; while it cannot be understood, what it said before
    /// stays in force. Without a file, nobody.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Who::File(path.into(), Mutex::default())))
    }

    /// Whether a check may wait for a file.
    pub(crate) fn is_a_file(&self) -> bool {
        matches!(*self.0, Who::File(..))
    }

    /// What the peer with `key` may do, who comes from `source` if it comes by a network.
    ///
    /// # Errors
    ///
    /// [`Denied`](farref_boxing::ErrorKind::Denied): nothing. The message is for this side; it names the line that would let it in.
    pub fn check(&self, key: &PeerKey, source: Option<IpAddr>, now: SystemTime) -> Result<Grant> {
        match &*self.0 {
            Who::Anyone => Ok(Grant::default()),
            Who::Keys(keys) if keys.contains(key) => Ok(Grant::default()),
            Who::Keys(_) => Err(denied(format!(
                "a peer with the key {key} is not among those to be let in"
            ))),
            Who::File(path, loaded) => {
                let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
                loaded.refresh(path);
                let grant = loaded.grants.get(key.as_bytes()).cloned().ok_or_else(|| {
                    let path = path.display();
                    denied(format!(
                        "a peer with the key {key} was turned away: to let it in, add this line to {path}:\n  {key}"
                    ))
                })?;
                grant.admits(key, source, now)?;
                Ok(grant)
            }
        }
    }
}

/// A line of the file: a peer that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizedPeer {
    /// Its key.
    pub key: PeerKey,
    /// What it may do.
    pub grant: Grant,
    /// The number of the line, from 1.
    pub line: usize,
}

impl Authorized {
    /// What the file says, in its order.
    ///
    /// # Errors
    ///
    /// [`Misuse`](farref_boxing::ErrorKind::Misuse) if the file cannot be used, or there is none by design.
    pub fn list(&self) -> Result<Vec<AuthorizedPeer>> {
        let path = self.path()?;
        let text = read(path, Secrecy::Public)?.unwrap_or_default();
        lines(&text)
            .map(|(line, said)| {
                let (key, grant) = parse(said).map_err(|what| at(path, line, &what))?;
                Ok(AuthorizedPeer { key, grant, line })
            })
            .collect()
    }

    /// Lets the peer with `key` in from now on, with these rights. They expire with a day, in UTC.
    ///
    /// # Errors
    ///
    /// [`Misuse`](farref_boxing::ErrorKind::Misuse) if the key has a line already, the rights cannot be written down, or the file cannot be
    /// used.
    pub fn add(&self, key: &PeerKey, grant: &Grant) -> Result<()> {
        let path = self.path()?;
        check_comment(&grant.comment)?;
        let options = grant.to_string();
        let space = if options.is_empty() { "" } else { " " };
        let line = format!("{options}{space}{key} {}", grant.comment.trim());
        let line = line.trim_end();
        // What would read as something else is not written.
        let (_, read_again) = parse(line).map_err(misuse)?;
        if read_again != *grant {
            return Err(misuse(format!("these rights cannot be written down: {grant:?}")));
        }
        let file = lock(path)?;
        let text = read(path, Secrecy::Public)?.unwrap_or_default();
        for (number, said) in lines(&text) {
            if parse(said).is_ok_and(|(known, _)| known == *key) {
                return Err(at(path, number, "this key has a line already: remove that first"));
            }
        }
        append(path, &file, &text, line)
    }

    /// Takes out the lines that `which` names: by their key, its fingerprint, or their comment. What was taken out.
    ///
    /// # Errors
    ///
    /// [`Misuse`](farref_boxing::ErrorKind::Misuse) if the file cannot be used.
    pub fn remove(&self, which: &str) -> Result<Vec<AuthorizedPeer>> {
        let wanted: Option<PeerKey> = which.parse().ok();
        take_out(self.path()?, |line, said| {
            let (key, grant) = parse(said).ok()?;
            let is_meant = wanted == Some(key)
                || Fingerprint::of(&key).to_string() == which
                || (!which.is_empty() && grant.comment == which);
            is_meant.then_some(AuthorizedPeer { key, grant, line })
        })
    }

    fn path(&self) -> Result<&Path> {
        match &*self.0 {
            Who::File(path, _) => Ok(path),
            Who::Anyone | Who::Keys(_) => Err(misuse("peers are not looked up in a file here".to_owned())),
        }
    }
}

/// The options, as a line of the file has them: `services="files",expires=2027-01-31`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let mut option = |text: fmt::Arguments<'_>| {
            write!(f, "{comma}{text}")?;
            comma = ",";
            Ok(())
        };
        if !self.services.is_empty() {
            option(format_args!("services=\"{}\"", self.services.join(",")))?;
        }
        if !self.from.is_empty() {
            let from: Vec<_> = self.from.iter().map(ToString::to_string).collect();
            option(format_args!("from=\"{}\"", from.join(",")))?;
        }
        if let Some(expires) = self.expires {
            option(format_args!("expires={}", day(expires)))?;
        }
        if self.is_read_only {
            option(format_args!("readonly"))?;
        }
        Ok(())
    }
}

/// The options, as a line of the file has them; none at all if the text is empty.
impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut grant = Self::default();
        let mut rest = text.trim();
        let mut seen = Vec::new();
        while !rest.is_empty() {
            rest = parse_option(rest, &mut grant, &mut seen).map_err(misuse)?;
            rest = match rest.strip_prefix(',') {
                Some(behind) if !behind.is_empty() => behind,
                None if rest.is_empty() => rest,
                _ => return Err(misuse(format!("`{text}` is no list of options"))),
            };
        }
        Ok(grant)
    }
}

/// `10.0.0.0/8`, or an address alone.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        write!(f, "{}", self.address)?;
        if self.bits != most {
            write!(f, "/{}", self.bits)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Authorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Who::Anyone => f.write_str("Authorized::anyone"),
            Who::Keys(keys) => f.debug_tuple("Authorized::keys").field(keys).finish(),
            Who::File(path, _) => f.debug_tuple("Authorized::file").field(path).finish(),
        }
    }
}

impl Loaded {
    fn refresh(&mut self, path: &Path) {
        let stamp = Stamp::of(path);
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        match load(path) {
            Ok(grants) => {
                self.grants = grants;
                self.stamp = stamp;
            }
            Err(error) => tracing::error!(%error, "what was in force before stays in force"),
        }
    }
}

fn load(path: &Path) -> Result<BTreeMap<[u8; 32], Grant>> {
    let text = read(path, Secrecy::Public)?.unwrap_or_default();
    let mut grants = BTreeMap::new();
    for (number, line) in lines(&text) {
        let (key, grant) = parse(line).map_err(|what| at(path, number, &what))?;
        if grants.insert(*key.as_bytes(), grant).is_some() {
            return Err(at(
                path,
                number,
                "this key has a line already: which of them holds?",
            ));
        }
    }
    Ok(grants)
}

impl Grant {
    fn admits(&self, key: &PeerKey, source: Option<IpAddr>, now: SystemTime) -> Result<()> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(denied(format!("what the key {key} was granted has expired")));
        }
        let is_from = |source| self.from.iter().any(|network| network.contains(source));
        if !self.from.is_empty() && !source.is_some_and(is_from) {
            return Err(denied(format!("the key {key} is not let in from {source:?}")));
        }
        Ok(())
    }
}

/// Reads `[option,...] key [comment]`. What is not known is refused: it may be there to keep somebody out.
fn parse(line: &str) -> std::result::Result<(PeerKey, Grant), String> {
    let mut grant = Grant::default();
    let mut rest = line;
    if !rest.starts_with("ed25519.") {
        let mut seen = Vec::new();
        loop {
            rest = parse_option(rest, &mut grant, &mut seen)?;
            match rest.strip_prefix(',') {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        rest = rest.trim_start();
    }
    let (key, comment) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let key = key
        .parse()
        .map_err(|_| format!("`{key}` is no key: one looks like ed25519.aaaq..."))?;
    comment.trim().clone_into(&mut grant.comment);
    Ok((key, grant))
}

/// Reads `text` as peers that are let in. What they are granted is written so that it reads the same.
pub(super) fn fuzz(text: &str) {
    for (_, line) in lines(text) {
        let Ok((key, grant)) = parse(line) else { continue };
        let options = grant.to_string();
        let comma = if options.is_empty() { "" } else { " " };
        let written = format!("{options}{comma}{key} {}", grant.comment);
        assert_eq!(
            parse(written.trim_end()),
            Ok((key, grant)),
            "{line:?} written as {written:?}"
        );
    }
}

/// Reads one option that is none of `seen`, and returns what is behind it.
fn parse_option<'a>(
    text: &'a str,
    grant: &mut Grant,
    seen: &mut Vec<&'a str>,
) -> std::result::Result<&'a str, String> {
    let end = text
        .find(|c: char| c == '=' || c == ',' || c.is_whitespace())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if seen.contains(&name) {
        return Err(format!("`{name}` is there twice: which of them holds?"));
    }
    seen.push(name);
    let (value, rest) = match rest.strip_prefix('=') {
        None => (None, rest),
        Some(rest) => match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"').ok_or("a quote is not closed")?;
                (Some(value), rest)
            }
            None => {
                let end = rest
                    .find(|c: char| c == ',' || c.is_whitespace())
                    .unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
                if value.contains('"') {
                    return Err(format!("`{value}` has a quote within"));
                }
                (Some(value), rest)
            }
        },
    };
    let items = |value: &'a str| value.split(',').map(str::trim).filter(|item| !item.is_empty());
    match (name, value) {
        ("readonly", None) => grant.is_read_only = true,
        ("services", Some(value)) => {
            grant.services = items(value).map(str::to_owned).collect();
            if grant.services.is_empty() {
                return Err("`services` names none".to_owned());
            }
        }
        ("from", Some(value)) => {
            let network = |item| {
                Network::parse(item).ok_or_else(|| format!("`{item}` is no network such as 10.0.0.0/8"))
            };
            grant.from = items(value).map(network).collect::<std::result::Result<_, _>>()?;
            if grant.from.is_empty() {
                return Err("`from` names no network".to_owned());
            }
        }
        ("expires", Some(value)) => {
            let date = date(value).ok_or_else(|| format!("`{value}` is no date such as 2027-01-31"))?;
            grant.expires = Some(date);
        }
        _ => {
            return Err(format!(
                "`{name}` is no option here: there are `services=\"..\"`, `from=\"..\"`, `expires=..` and `readonly`"
            ));
        }
    }
    Ok(rest)
}

/// The first moment of a day, in UTC.
fn date(text: &str) -> Option<SystemTime> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if is_leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || day == 0 || day > *lengths.get(index)? {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = years + lengths.iter().take(index).sum::<u64>() + day - 1;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 24 * 60 * 60))
}

/// The day at whose first moment, in UTC, or just behind which `time` is: `2027-01-31`.
fn day(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Days of a calendar whose years begin in March, in which the odd day comes last (Howard Hinnant's).
    let days = since.as_secs() / (24 * 60 * 60) + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, if month < 10 { month + 3 } else { month - 9 });
    let year = if month <= 2 { year + 1 } else { year };
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use farref_boxing::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey::new([number; 32])
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn who_is_in_the_file_is_let_in_with_what_its_line_says() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        let text = format!(
            "# the lab\n{} ann in the lab\n\nservices=\"files, exec\",from=\"10.0.0.0/8,::1\",expires=2027-01-31,readonly {} bob\n",
            key(1),
            key(2)
        );
        fs::write(&path, text).unwrap();
        let authorized = Authorized::file(&path);
        let ann = authorized.check(&key(1), None, NOW).unwrap();
        assert_eq!(
            ann,
            Grant {
                comment: "ann in the lab".to_owned(),
                ..Grant::default()
            }
        );
        let bob = authorized
            .check(&key(2), Some([10, 1, 2, 3].into()), NOW)
            .unwrap();
        assert_eq!(bob.services, ["files", "exec"]);
        assert!(bob.is_read_only && bob.comment == "bob");
        for from in [None, Some([11, 1, 2, 3].into()), Some("::2".parse().unwrap())] {
            assert!(authorized.check(&key(2), from, NOW).is_err(), "{from:?}");
        }
        assert!(
            authorized
                .check(&key(2), Some("::1".parse().unwrap()), NOW)
                .is_ok()
        );
        let late = date("2027-01-31").unwrap();
        assert!(
            authorized
                .check(&key(2), Some([10, 1, 2, 3].into()), late)
                .is_err()
        );
        let stranger = authorized.check(&key(3), None, NOW).unwrap_err();
        assert_eq!(stranger.kind(), ErrorKind::Denied);
        assert_eq!(
            stranger.to_string().lines().last().unwrap().trim(),
            key(3).to_string()
        );
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        let authorized = Authorized::file(&path);
        assert!(authorized.check(&key(1), None, NOW).is_err());
        fs::write(&path, format!("{}\n", key(1))).unwrap();
        assert!(authorized.check(&key(1), None, NOW).is_ok());
        fs::write(&path, format!("{}\nopensesame {}\n", key(1), key(2))).unwrap();
        assert!(authorized.check(&key(1), None, NOW).is_ok());
        assert!(authorized.check(&key(2), None, NOW).is_err());
        fs::write(
            &path,
            format!("# nobody, any more, for the time being\nreadonly {}\n", key(2)),
        )
        .unwrap();
        assert!(authorized.check(&key(1), None, NOW).is_err());
        assert!(authorized.check(&key(2), None, NOW).unwrap().is_read_only);
    }

    /// A change that left length and time as they were was not seen, and a revoked key was let in for ever.
    #[test]
    fn a_change_at_once_and_of_the_same_length_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        let authorized = Authorized::file(&path);
        for _ in 0..50 {
            for (right, wrong) in [(1, 2), (2, 1)] {
                fs::write(&path, key(right).to_string()).unwrap();
                authorized.check(&key(right), None, NOW).unwrap();
                authorized.check(&key(wrong), None, NOW).unwrap_err();
            }
        }
        // Long ago, and one put in place of the other.
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        for (right, wrong) in [(1, 2), (2, 1)] {
            let new = home.path().join("new");
            fs::write(&new, key(right).to_string()).unwrap();
            let file = fs::File::options().write(true).open(&new).unwrap();
            file.set_modified(long_ago).unwrap();
            fs::rename(&new, &path).unwrap();
            authorized.check(&key(right), None, NOW).unwrap();
            authorized.check(&key(wrong), None, NOW).unwrap_err();
        }
    }

    #[test]
    fn what_is_not_understood_lets_nobody_in() {
        let k = key(1);
        for line in [
            "ed25519.short".to_owned(),
            format!("unknown {k}"),
            format!("readonly=1 {k}"),
            format!("services {k}"),
            format!("services=\"\" {k}"),
            format!("from=\"10.0.0.0/33\" {k}"),
            format!("from=\"host\" {k}"),
            format!("from=\"10.0.0.0/8 {k}"),
            // Used to be a name with a quote in it, which cannot be written so that it reads the same.
            format!("services=a\"b {k}"),
            format!("expires=2027-02-29 {k}"),
            format!("expires=tomorrow {k}"),
            "readonly".to_owned(),
            "readonly, ".to_owned(),
            format!("expires=2000-01-01,expires=2100-01-01 {k}"),
            format!("from=\"10.0.0.0/8\",readonly,from=\"0.0.0.0/0\" {k}"),
        ] {
            assert!(parse(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_key_has_one_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        fs::write(&path, format!("readonly {0}\n{0}\n", key(1))).unwrap();
        assert!(
            load(&path)
                .unwrap_err()
                .to_string()
                .contains("authorized_peers:2: ")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_change_lets_nobody_in() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        fs::write(&path, key(1).to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(Authorized::file(&path).check(&key(1), None, NOW).is_err());
        assert!(load(&path).unwrap_err().to_string().contains("chmod go-w"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let days = |text: &str| date(text).unwrap().duration_since(NOW).unwrap().as_secs() / 86_400;
        assert_eq!(days("1970-01-01"), 0);
        assert_eq!(days("2000-02-29"), 11_016);
        assert_eq!(days("2027-01-31"), 20_849);
        assert_eq!(days("2100-03-01"), 47_541);
    }

    #[test]
    fn networks_contain_what_begins_as_they_do() {
        let contains = |network: &str, address: &str| {
            Network::parse(network)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("127.0.0.1", "::ffff:127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::") && !contains("2001:db8::/32", "2001:db9::"));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,200}") {
            let _ = parse(&line);
        }
    }

    #[test]
    fn peers_are_listed_added_and_removed_and_other_lines_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("authorized_peers");
        let authorized = Authorized::file(&path);
        assert_eq!(authorized.list().unwrap(), []);
        let (ann, bob) = (key(1), key(2));
        let mut grant: Grant =
            "services=\"files,system\",from=\"10.0.0.0/8,::1\",expires=2028-02-29,readonly"
                .parse()
                .unwrap();
        grant.comment = "ann".into();
        authorized.add(&ann, &grant).unwrap();
        authorized.add(&bob, &Grant::default()).unwrap();
        let error = authorized.add(&bob, &grant).unwrap_err().to_string();
        assert!(error.contains("authorized_peers:2: "), "{error}");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!(
                "services=\"files,system\",from=\"10.0.0.0/8,::1\",expires=2028-02-29,readonly {ann} ann\n{bob}\n"
            )
        );
        let listed = authorized.list().unwrap();
        assert_eq!(listed[0].grant, grant);
        assert_eq!((listed[1].key, listed[1].line), (bob, 2));

        fs::write(&path, format!("# ours\n{text}odd line\n")).unwrap();
        assert_eq!(authorized.remove("ann").unwrap().len(), 1);
        assert_eq!(authorized.remove(&bob.to_string()).unwrap().len(), 1);
        assert_eq!(authorized.remove("").unwrap().len(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "# ours\nodd line\n");
    }

    #[test]
    fn rights_that_would_read_as_others_are_not_written() {
        let home = tempfile::tempdir().unwrap();
        let authorized = Authorized::file(home.path().join("authorized_peers"));
        for (service, comment) in [
            ("a\",from=\"::1", ""),
            ("a\" x", ""),
            ("\",readonly=\"", ""),
            ("", "x\ny"),
        ] {
            let grant = Grant {
                services: vec![service.to_owned()],
                comment: comment.to_owned(),
                ..Grant::default()
            };
            assert!(authorized.add(&key(1), &grant).is_err(), "{service} {comment}");
        }
        for wrong in [
            "readonly,",
            "readonly readonly",
            "services",
            "expires=2027-02-29",
            "x",
        ] {
            assert!(wrong.parse::<Grant>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_are_written_as_they_are_read() {
        for text in [
            "1970-01-01",
            "1999-12-31",
            "2000-02-29",
            "2027-03-01",
            "2400-02-29",
            "9999-12-31",
        ] {
            assert_eq!(day(date(text).unwrap()), text);
        }
    }
}
