//! A file of names, in the manner of `/etc/hosts`: a name, and where it leads.

use std::path::{Path, PathBuf};

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::BoxFuture;
use farref_transport::Address;

use super::{Resolver, is_name};
use crate::trusted_file::{Secrecy, at, lines, read};

/// Names in a file: one to a line, and behind it the addresses at which the peer may be found, the best first. Lines of the
/// same name add to it. A line that begins with `#` is a comment.
///
/// ```text
/// # the rigs of the lab
/// lab7    tcp://10.0.0.7:7000#ed25519.aaaq…  quic://10.0.0.7:7000#ed25519.aaaq…
/// bench   serial:/dev/ttyUSB0?baud=921600
/// ```
///
/// It is read whenever a name is looked up, and only if nobody else can write it.
#[derive(Debug, Clone)]
pub struct HostsFile(Result<PathBuf>);

impl HostsFile {
    /// The file at `path`; names are not known while there is none.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Ok(path.into()))
    }

    /// The file `hosts` of the user, beside the keys: in `FARREF_HOME`, or else `~/.config/farref`.
    #[must_use]
    pub fn of_user() -> Self {
        Self(crate::home::directory().map(|directory| directory.join("hosts")))
    }

    /// All names in it, each with its addresses, in the order of the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if it cannot be used; the message names the line.
    pub fn names(&self) -> Result<Vec<(String, Vec<Address>)>> {
        let path = match &self.0 {
            Ok(path) => path,
            // Without a place for files there are none.
            Err(_) => return Ok(Vec::new()),
        };
        let text = read(path, Secrecy::Public)?.unwrap_or_default();
        let mut names: Vec<(String, Vec<Address>)> = Vec::new();
        for (number, line) in lines(&text) {
            let (name, addresses) = parse(path, number, line)?;
            match names.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.extend(addresses),
                None => names.push((name.to_owned(), addresses)),
            }
        }
        Ok(names)
    }
}

fn parse<'a>(path: &Path, number: usize, line: &'a str) -> Result<(&'a str, Vec<Address>)> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    if !is_name(name) {
        let text = format!("`{name}` is no name: a line is NAME ADDRESS…, as in `lab7 tcp://10.0.0.7:7000`");
        return Err(at(path, number, &text));
    }
    let address = |word: &str| {
        let address = word.parse::<Address>();
        address.map_err(|error| at(path, number, &error.to_string()))
    };
    let addresses: Vec<Address> = words.map(address).collect::<Result<_>>()?;
    if addresses.is_empty() {
        let text =
            format!("`{name}` has no address: a line is NAME ADDRESS…, as in `{name} tcp://10.0.0.7:7000`");
        return Err(at(path, number, &text));
    }
    Ok((name, addresses))
}

impl Resolver for HostsFile {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Address>>> {
        let (this, name) = (self.clone(), name.to_owned());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || {
                let names = this.names()?;
                let found = names.into_iter().find(|(known, _)| *known == name);
                Ok(found.map(|(_, addresses)| addresses).unwrap_or_default())
            });
            found
                .await
                .unwrap_or_else(|error| Err(Error::new(ErrorKind::Panicked, error.to_string())))
        })
    }

    fn place(&self) -> String {
        match &self.0 {
            Ok(path) => path.display().to_string(),
            Err(_) => "the file `hosts` of a user without a home".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, HostsFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        std::fs::write(&path, text).unwrap();
        (directory, HostsFile::at(path))
    }

    #[tokio::test]
    async fn a_name_leads_to_all_its_addresses_in_their_order() {
        let (_directory, hosts) = file("# ours\n\nlab7 mem:a mem:b\nother mem:c\nlab7\tmem:d\n");
        let resolve = async |name| {
            let found = hosts.resolve(name).await.unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(resolve("lab7").await, ["mem:a", "mem:b", "mem:d"]);
        assert_eq!(resolve("other").await, ["mem:c"]);
        assert!(resolve("nobody").await.is_empty());
        let names: Vec<_> = hosts.names().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["lab7", "other"]);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_knows_no_name() {
        let hosts = HostsFile::at("/nowhere/hosts");
        assert!(hosts.resolve("lab7").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_line_is_told_with_its_number() {
        for (text, wrong) in [
            ("lab7\n", "`lab7` has no address"),
            ("lab7 mem:a\nla:b7 mem:a\n", ":2: `la:b7` is no name"),
            ("lab7 tpc://x:1\n", "tcp"),
        ] {
            let (_directory, hosts) = file(text);
            let error = hosts.resolve("lab7").await.unwrap_err();
            assert!(error.message().contains(wrong), "{error}");
        }
    }
}
