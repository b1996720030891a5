//! `farref keygen`: who this side is.

use clap::Args;

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::fingerprint::{Shown, show};

/// Make the key by which peers know this user, and show it.
///
/// The secret stays in the file `identity`, which only this user can read; `identity.pub` beside it is what others may
/// know. Nothing is overwritten: if there is a key already, this fails and shows where it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref keygen
  farref keygen --identity ./device.key     a key for a device
  farref authorize \"$(cat device.key.pub)\"   let it in here")]
pub(crate) struct Keygen {}

impl Keygen {
    pub(crate) fn run(&self, global: &Global) -> Outcome {
        let store = global.keys()?;
        let path = store.identity_path();
        let identity = store.make_identity().map_err(|error| {
            Failure::of("no key was made", &error)
                .hint("farref fingerprint shows the key that is there; --identity FILE makes another")
        })?;
        show(
            &Shown {
                key: identity.public(),
                path: Some(path),
                comment: String::new(),
            },
            global,
        )
    }
}
