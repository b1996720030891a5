//! `farref fingerprint`: a key, short enough to be compared by eye or by telephone.

use std::path::PathBuf;

use clap::Args;
use farref::Value;
use farref::keys::Fingerprint;
use farref::transport::address::PeerKey;

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::output::{Out, map};

/// Show the key of this user and its fingerprint, or those of another key.
#[derive(Debug, Args)]
#[command(
    name = "fingerprint",
    after_help = "\
Examples:
  farref fingerprint
  farref fingerprint ed25519.nfzx...         of a key that somebody sent
  farref fingerprint ./device.key.pub        of a key in a file
  farref fingerprint --json | jq -r .key     for `farref authorize` elsewhere"
)]
pub(crate) struct FingerprintOf {
    /// A key, or a file with one [default: the key of this user]
    #[arg(value_name = "KEY|FILE")]
    key: Option<String>,
}

/// A key to be shown.
pub(crate) struct Shown {
    pub(crate) key: PeerKey,
    pub(crate) path: Option<PathBuf>,
    pub(crate) comment: String,
}

impl FingerprintOf {
    pub(crate) fn run(&self, global: &Global) -> Outcome {
        let shown = match &self.key {
            Some(text) => {
                let (key, comment) = read_key(text)?;
                let path = None;
                Shown { key, path, comment }
            }
            None => {
                let store = global.keys()?;
                let identity = store
                    .identity()
                    .map_err(|error| Failure::of("cannot use the key", &error))?;
                Shown {
                    key: identity.public(),
                    path: Some(store.identity_path()),
                    comment: String::new(),
                }
            }
        };
        show(&shown, global)
    }
}

pub(crate) fn show(shown: &Shown, global: &Global) -> Outcome {
    let Shown { key, path, comment } = shown;
    let fingerprint = Fingerprint::of(key).to_string();
    let path = path.as_ref().map(|path| path.display().to_string());
    let mut out = Out::new(global);
    if global.json {
        out.json(&map([
            ("key", key.to_string().into()),
            ("fingerprint", fingerprint.into()),
            ("path", path.map_or(Value::Null, Into::into)),
        ]))?;
        return out.finish();
    }
    out.pair("key", &key.to_string())?;
    out.pair("fingerprint", &fingerprint)?;
    if let Some(path) = path {
        out.pair("kept in", &path)?;
    }
    if !comment.is_empty() {
        out.pair("comment", comment)?;
    }
    out.finish()
}

/// A key as it is written, or in a file; and what stands behind it.
pub(crate) fn read_key(text: &str) -> Outcome<(PeerKey, String)> {
    let of_line = |line: &str| -> Option<(PeerKey, String)> {
        let line = line.trim();
        let (key, comment) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some((key.parse().ok()?, comment.trim().to_owned()))
    };
    if let Some(found) = of_line(text) {
        return Ok(found);
    }
    let no_key = |why: &dyn std::fmt::Display| {
        Failure::usage(format_args!("`{text}` is no key: {why}"))
            .hint("a key looks like ed25519.aaaq...; `farref fingerprint` shows one's own")
    };
    if text.starts_with("ed25519.") {
        return Err(no_key(&"it is damaged"));
    }
    let read = std::fs::read_to_string(text).map_err(|error| no_key(&error))?;
    read.lines()
        .find_map(of_line)
        .ok_or_else(|| no_key(&"there is none in the file"))
}
