//! Paths as they cross, and as the system has them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most bytes of a path, as it crosses; the system's own limit for one call is 4096.
const LONGEST: usize = 16 << 10;

/// A path from the root on, for the system; `.` for the root itself.
pub(super) fn parse(path: &str) -> io::Result<PathBuf> {
    if path.len() > LONGEST {
        return Err(invalid("the path is too long"));
    }
    let mut parsed = PathBuf::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let name = parse_name(part)?;
        let mut components = Path::new(&name).components();
        match (components.next(), components.next()) {
            // On some systems a name can lead somewhere else altogether: `C:`.
            (Some(Component::Normal(_) | Component::ParentDir), None) => parsed.push(name),
            _ => return Err(invalid(format!("`{part}` is no name of a file"))),
        }
    }
    if parsed.as_os_str().is_empty() {
        parsed.push(".");
    }
    Ok(parsed)
}

/// What a link leads to, for the system: any path at all.
pub(super) fn parse_target(target: &str) -> io::Result<PathBuf> {
    if target.len() > LONGEST || target.is_empty() {
        return Err(invalid("a link leads to a path that is empty or too long"));
    }
    parse_name(target).map(PathBuf::from)
}

fn parse_name(name: &str) -> io::Result<OsString> {
    if name.contains('\0') {
        return Err(invalid("a path has no zero in it"));
    }
    if !name.contains('\\') {
        return Ok(name.into());
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, behind)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = if let Some(behind) = behind.strip_prefix('\\') {
            bytes.push(b'\\');
            behind
        } else {
            let escaped = behind
                .strip_prefix('x')
                .and_then(|behind| behind.split_at_checked(2));
            let byte = escaped.and_then(|(digits, behind)| Some((byte(digits)?, behind)));
            let Some((byte, behind)) = byte else {
                return Err(invalid(format!(
                    "a backslash in `{name}` is neither `\\\\` nor `\\x80` to `\\xff`"
                )));
            };
            bytes.push(byte);
            behind
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    from_bytes(bytes).ok_or_else(|| invalid(format!("`{name}` is no name on this system")))
}

/// A byte that is no ASCII character: those are written as they are.
fn byte(digits: &str) -> Option<u8> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16)
        .ok()
        .filter(|byte| !byte.is_ascii())
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "as on other systems")]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

/// A path or name of the system's, as it crosses.
pub(super) fn show(path: &OsStr) -> String {
    use std::fmt::Write as _;
    let mut shown = String::new();
    for chunk in path.as_encoded_bytes().utf8_chunks() {
        match chunk.valid().contains('\\') && cfg!(unix) {
            true => shown.push_str(&chunk.valid().replace('\\', "\\\\")),
            false => shown.push_str(chunk.valid()),
        }
        for byte in chunk.invalid() {
            _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A path from the root on, as it crosses.
pub(super) fn show_rooted(path: &Path) -> String {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = path.strip_prefix(".").unwrap_or(path);
    format!("/{}", show(path.as_os_str()))
}

/// Whether a link in `directory`, a path without links, may lead out of the root.
///
/// What is above a name is known where that name is no link, now and later: so `..` is at the beginning of a target only.
pub(super) fn leads_out(directory: &Path, target: &Path) -> bool {
    let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_));
    let depth = directory.components().filter(is_name).count();
    let mut target = target
        .components()
        .filter(|component| *component != Component::CurDir)
        .peekable();
    let mut above = 0_usize;
    while target.next_if_eq(&Component::ParentDir).is_some() {
        above = above.saturating_add(1);
    }
    above > depth || !target.all(|component| is_name(&component))
}

/// Whether a name is that of a file that is not whole yet.
pub(super) fn is_part(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".farref-part")
}

pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<String> {
        parse(path).ok().map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn the_root_is_where_paths_begin() {
        for root in ["", "/", ".", "//", "/./"] {
            assert_eq!(parsed(root).as_deref(), Some("."), "{root}");
        }
        assert_eq!(parsed("/a//b/./c/").as_deref(), Some("a/b/c"));
        assert_eq!(parsed("a/../b").as_deref(), Some("a/../b"));
        assert_eq!(show_rooted(Path::new(".")), "/");
        assert_eq!(show_rooted(Path::new("a/b")), "/a/b");
    }

    #[cfg(unix)]
    #[test]
    fn every_name_can_be_shown_and_given_back() {
        use std::os::unix::ffi::OsStrExt;
        for name in [
            &b"plain"[..],
            b"\xff\xfe",
            b"a\\b",
            b"\\x41",
            b"\\",
            b"caf\xc3\xa9\xc3",
            b"\xe2\x82",
            b"new\nline",
        ] {
            let name = OsStr::from_bytes(name);
            let shown = show(name);
            assert_eq!(parse(&shown).unwrap().as_os_str(), name, "{shown}");
        }
        assert_eq!(show(OsStr::from_bytes(b"a\xffb")), "a\\xffb");
        assert_eq!(show(OsStr::from_bytes(b"a\\b")), "a\\\\b");
    }

    #[test]
    fn nothing_but_bytes_beyond_ascii_is_written_as_a_number() {
        for path in [
            "\\x2f",
            "\\x2e\\x2e",
            "\\x00",
            "a\\",
            "a\\x8",
            "a\\x+8",
            "a\\n",
            "\\xé",
            "a\0b",
        ] {
            assert_eq!(parsed(path), None, "{path}");
        }
        assert_eq!(parsed(&"a/".repeat(9000)), None);
    }

    #[test]
    fn a_link_that_may_lead_out_is_told_by_what_it_says() {
        let out = |path: &str, target: &str| leads_out(Path::new(path), Path::new(target));
        assert!(out(".", ".."));
        assert!(out(".", "/etc"));
        assert!(out("a", "../../x"));
        assert!(!out("a", "../x"));
        assert!(!out(".", "a/b/./c"));
        assert!(!out("a/b", "./.././../c/d"));
        // Whether they do is for the links to say that may be there.
        assert!(out("a", "b/../../../x"));
        assert!(out("a/b", "c/../d"));
    }
}
