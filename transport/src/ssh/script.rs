//! The script that starts a program on a host which may not have it, as one line.

use super::line::{quoted, quoted_for_sh};
use crate::token::Token;

/// What the script is told.
pub(super) struct Script<'a> {
    pub(super) token: &'a Token,
    /// The directory of the cache that is for this program.
    pub(super) name: &'a str,
    /// The cache directory; otherwise that of the account.
    pub(super) directory: Option<&'a str>,
    pub(super) upload: Upload,
    /// The hash of what is wanted most, and what `uname -s -m` says where it runs.
    pub(super) wanted: Option<(&'a str, &'a str)>,
    /// Whether what runs over there outlives its ssh.
    pub(super) persists: bool,
    pub(super) arguments: &'a [String],
}

/// When a program is brought to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// If it is not there.
    Auto,
    Never,
    Always,
}

impl Script<'_> {
    /// The line for the login shell.
    pub(super) fn line(&self) -> String {
        let mut script = String::new();
        let mut set = |name: &str, value: &str| {
            script.extend([name, "=", value, "; "]);
        };
        set("T", self.token.text());
        set("N", &quoted_for_sh(self.name));
        let directory = match self.directory {
            None => String::new(),
            // Not `~`, which is within quotes here.
            Some(path) => match path.strip_prefix("~/") {
                Some(path) => format!("$HOME/{}", quoted_for_sh(path)),
                None => quoted_for_sh(path),
            },
        };
        set("D", &directory);
        set("U", self.upload.word());
        let (hash, system) = self.wanted.unwrap_or_default();
        set("H", hash);
        set("P", &quoted_for_sh(system));
        set("FARREF_PERSIST", if self.persists { "1" } else { "0" });
        script.push_str("export FARREF_PERSIST; set --");
        for argument in self.arguments {
            script.extend([" ", &quoted_for_sh(argument)]);
        }
        script.push(';');
        for line in BOOTSTRAP.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                script.extend([" ", line]);
            }
        }
        format!("exec sh -c {}", quoted(&script))
    }
}

impl Upload {
    /// By the value of `deploy=`.
    pub(super) fn of(word: Option<&str>) -> Self {
        match word {
            Some("never") => Self::Never,
            Some("always") => Self::Always,
            _ => Self::Auto,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

const BOOTSTRAP: &str = include_str!("bootstrap.sh");

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_shell_takes_the_script_for_one() {
        let token = Token::random().unwrap();
        let arguments = ["agent".to_owned(), "it's".to_owned()];
        let script = Script {
            token: &token,
            name: "farref",
            directory: Some("~/some 'where'"),
            upload: Upload::Auto,
            wanted: Some(("00", "Linux x86_64")),
            persists: true,
            arguments: &arguments,
        };
        let line = script.line();
        assert!(!line.contains('\n') && line.len() < 8000, "{}", line.len());
        let mut shells = 0;
        for (shell, option) in [
            ("sh", None),
            ("bash", None),
            ("dash", None),
            ("ksh", None),
            ("zsh", None),
            ("fish", None),
            ("tcsh", None),
            ("busybox", Some("sh")),
        ] {
            let home = tempfile::tempdir().unwrap();
            let mut command = Command::new(shell);
            let command = command.args(option).arg("-c").arg(&line).env("HOME", home.path());
            let Ok(said) = command.stdin(std::process::Stdio::null()).output() else {
                continue;
            };
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let ready = format!(
                "\n{} ready {}/some 'where'\n",
                token.text(),
                home.path().display()
            );
            assert!(said.ends_with(&ready), "{shell}: {said}");
            shells += 1;
        }
        assert!(shells > 0);
    }
}
