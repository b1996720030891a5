//! `farref peers`: the keys of those who are dialled, and of those who are let in.

use clap::{Args, Subcommand};
use farref::keys::{Fingerprint, Grant, Policy};

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::fingerprint::read_key;
use crate::output::{Out, map};

/// Show and change which keys are known, and which are let in.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  farref peers list
  farref peers add tcp://rig7:7000 ed25519.nfzx... --comment 'the bench'
  farref peers add 'quic://*.lab:7000' ed25519.q5ma...   `*` stands for any text
  farref peers forget tcp://rig7:7000                    it was set up anew
  farref peers revoke ed25519.aaaq... --comment stolen   never, nowhere
  farref peers remove ann                                is not let in any more"
)]
pub(crate) struct Peers {
    #[command(subcommand)]
    command: Option<PeersCommand>,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List the keys that are known, and those that are let in
    #[command(after_help = "Examples:\n  farref peers list\n  farref peers list --json | jq -r .key")]
    List,
    /// Believe that this key belongs to that address
    #[command(
        after_help = "Examples:\n  farref peers add tcp://rig7:7000 ed25519.nfzx... --comment 'the bench'"
    )]
    Add {
        /// The address, in which `*` stands for any text
        address: String,
        /// Its key, or a file with it
        key: String,
        /// What to write behind it
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
    },
    /// Forget what is known of an address or a key
    #[command(
        after_help = "Examples:\n  farref peers forget tcp://rig7:7000\n  farref peers forget ed25519.nfzx..."
    )]
    Forget {
        /// An address, a key or its fingerprint
        which: String,
    },
    /// Never believe this key again, wherever it shows up
    #[command(after_help = "Examples:\n  farref peers revoke ed25519.aaaq... --comment stolen")]
    Revoke {
        /// The key, or a file with it
        key: String,
        /// What to write behind it
        #[arg(long, default_value = "", hide_default_value = true)]
        comment: String,
    },
    /// Do not let a key in any more
    #[command(after_help = "Examples:\n  farref peers remove ann\n  farref peers remove ed25519.4k2e...")]
    Remove {
        /// A key, its fingerprint, or the comment behind it
        which: String,
    },
}

impl Peers {
    pub(crate) fn run(&self, global: &Global) -> Outcome {
        let store = global.keys()?;
        let known = store.known_peers(Policy::Strict);
        let authorized = store.authorized_peers();
        let failed = |error| Failure::of("nothing was changed", &error);
        let mut out = Out::new(global);
        match self.command.as_ref().unwrap_or(&PeersCommand::List) {
            PeersCommand::List => return list(global),
            PeersCommand::Add {
                address,
                key,
                comment,
            } => {
                let (key, behind) = read_key(key)?;
                let comment = if comment.is_empty() { &behind } else { comment };
                let is_new = known.add(address, &key, comment).map_err(|error| {
                    let is_other = error.kind() == farref::ErrorKind::Denied;
                    let failure = failed(error);
                    match is_other {
                        true => failure.hint(format_args!(
                            "if that peer was set up anew: farref peers forget {address}"
                        )),
                        false => failure,
                    }
                })?;
                let said = if is_new { "known now" } else { "known already" };
                out.note(&format!("{said}: {address} {}", Fingerprint::of(&key)))?;
            }
            PeersCommand::Forget { which } => {
                let forgotten = known.forget(which).map_err(failed)?;
                if forgotten.is_empty() {
                    return Err(nobody(which));
                }
                for peer in forgotten {
                    out.note(&format!(
                        "forgotten: {} {}",
                        peer.pattern,
                        Fingerprint::of(&peer.key)
                    ))?;
                }
            }
            PeersCommand::Revoke { key, comment } => {
                let (key, behind) = read_key(key)?;
                let comment = if comment.is_empty() { &behind } else { comment };
                known.add("@revoked", &key, comment).map_err(failed)?;
                let removed = authorized.remove(&key.to_string()).map_err(failed)?;
                let also = if removed.is_empty() {
                    ""
                } else {
                    ", and not let in any more"
                };
                out.note(&format!("revoked{also}: {}", Fingerprint::of(&key)))?;
            }
            PeersCommand::Remove { which } => {
                let removed = authorized.remove(which).map_err(failed)?;
                if removed.is_empty() {
                    return Err(nobody(which));
                }
                for peer in removed {
                    out.note(&format!(
                        "not let in any more: {} {}",
                        peer.key, peer.grant.comment
                    ))?;
                }
            }
        }
        out.finish()
    }
}

fn nobody(which: &str) -> Failure {
    Failure::usage(format_args!("there is no line for `{which}`")).hint("farref peers list shows them")
}

fn list(global: &Global) -> Outcome {
    let store = global.keys()?;
    let failed = |error| Failure::of("cannot read the keys", &error);
    let known = store.known_peers(Policy::Strict).list().map_err(failed)?;
    let authorized = store.authorized_peers().list().map_err(failed)?;
    let mut out = Out::new(global);
    if global.json {
        for peer in &known {
            out.json(&map([
                ("list", "known".into()),
                ("address", peer.pattern.as_str().into()),
                ("key", peer.key.to_string().into()),
                ("fingerprint", Fingerprint::of(&peer.key).to_string().into()),
                ("comment", peer.comment.as_str().into()),
            ]))?;
        }
        for peer in &authorized {
            out.json(&map([
                ("list", "authorized".into()),
                ("key", peer.key.to_string().into()),
                ("fingerprint", Fingerprint::of(&peer.key).to_string().into()),
                ("options", peer.grant.to_string().into()),
                ("comment", peer.grant.comment.as_str().into()),
            ]))?;
        }
        return out.finish();
    }
    let directory = store.directory().display().to_string();
    out.heading(&format!("dialled: {directory}/known_peers"))?;
    let rows = known.iter().map(|peer| {
        let fingerprint = short(&Fingerprint::of(&peer.key));
        vec![peer.pattern.clone(), fingerprint, peer.comment.clone()]
    });
    out.table(
        &["ADDRESS", "FINGERPRINT", "COMMENT"],
        rows.collect(),
        "nobody yet: farref peers add ADDRESS KEY",
    )?;
    out.line("")?;
    out.heading(&format!("let in: {directory}/authorized_peers"))?;
    let rows = authorized.iter().map(|peer| {
        let fingerprint = short(&Fingerprint::of(&peer.key));
        vec![may(&peer.grant), fingerprint, peer.grant.comment.clone()]
    });
    out.table(
        &["MAY", "FINGERPRINT", "COMMENT"],
        rows.collect(),
        "nobody yet: farref authorize KEY",
    )?;
    out.finish()
}

/// What a peer may do, in words.
pub(crate) fn may(grant: &Grant) -> String {
    let mut words = match grant.services.as_slice() {
        [] => "all that is served".to_owned(),
        services => services.join(", "),
    };
    let more = Grant::clone(grant);
    if more.is_read_only {
        words.push_str(", read-only");
    }
    let from: Vec<_> = more.from.iter().map(ToString::to_string).collect();
    if !from.is_empty() {
        words = format!("{words}, from {}", from.join(" "));
    }
    let options = more.to_string();
    if let Some((_, day)) = options.split_once("expires=") {
        words = format!("{words}, until {}", day.split(',').next().unwrap_or(day));
    }
    words
}

/// Half of a fingerprint, which fits beside the rest of a line.
fn short(of: &Fingerprint) -> String {
    of.to_string().chars().take(19).collect()
}
