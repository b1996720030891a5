//! Where the files of the user are that this process runs as.

use std::path::PathBuf;

use farref_boxing::{Error, ErrorKind, Result};

/// The directory: `FARREF_HOME`, or else `farref` in `XDG_CONFIG_HOME` or in `~/.config`.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`]: none of them is set.
pub(crate) fn directory() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("FARREF_HOME")
        .or_else(|| set("XDG_CONFIG_HOME").map(|home| home.join("farref")))
        .or_else(|| set("HOME").map(|home| home.join(".config").join("farref")))
        .ok_or_else(|| {
            let text = "there is no place for keys and names: set FARREF_HOME to a directory";
            Error::new(ErrorKind::Unsupported, text)
        })
}
