//! `farref authorize`: who is let in, and to do what.

use std::time::{Duration, SystemTime};

use clap::Args;
use farref::Value;
use farref::keys::{Fingerprint, Grant};

use crate::context::{Global, duration};
use crate::failure::{Failure, Outcome};
use crate::fingerprint::read_key;
use crate::output::{Out, map};
use crate::peers::may;

/// Let a key in when it dials this user's servers.
///
/// Servers that run see it at once. What it may do is at most what a server shows: `--services` and `--read-only`
/// narrow that down.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref authorize ed25519.4k2e... --comment ann
  farref authorize ./device.key.pub --services files,system --read-only
  farref authorize ed25519.mz5r... --from 10.0.0.0/8 --expires 30d
  farref authorize ed25519.mz5r... --expires 2027-01-31
  farref peers remove ann                       takes it back")]
pub(crate) struct Authorize {
    /// The key, or a file with it
    #[arg(value_name = "KEY|FILE")]
    key: String,
    #[command(flatten)]
    rights: Rights,
}

/// What a key may do.
#[derive(Debug, Args)]
pub(crate) struct Rights {
    /// The services that it may use: files, processes, system, network, serial, logs, and the server's own
    /// [default: all that a server shows]
    #[arg(long, value_name = "NAMES")]
    services: Option<String>,
    /// It may only look
    #[arg(long)]
    read_only: bool,
    /// From where it may come: addresses, or networks such as 10.0.0.0/8
    #[arg(long, value_name = "NETWORKS")]
    from: Option<String>,
    /// When it ends: a day such as 2027-01-31 (UTC), or a time from now such as 12h or 30d
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// What to write behind the key
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) comment: String,
}

impl Authorize {
    pub(crate) fn run(&self, global: &Global) -> Outcome {
        let (key, behind) = read_key(&self.key)?;
        let mut grant = self.rights.grant()?;
        if grant.comment.is_empty() {
            grant.comment = behind;
        }
        let authorized = global.keys()?.authorized_peers();
        authorized.add(&key, &grant).map_err(|error| {
            let is_there = error.to_string().contains("has a line already");
            let failure = Failure::of("nothing was changed", &error);
            match is_there {
                true => failure.hint(format_args!("farref peers remove {key}")),
                false => failure,
            }
        })?;
        let mut out = Out::new(global);
        if global.json {
            out.json(&map([
                ("key", key.to_string().into()),
                ("options", grant.to_string().into()),
                ("comment", Value::from(grant.comment.as_str())),
            ]))?;
        } else {
            out.note(&format!("let in: {} ({})", Fingerprint::of(&key), may(&grant)))?;
        }
        out.finish()
    }
}

impl Rights {
    /// What the options say.
    pub(crate) fn grant(&self) -> Outcome<Grant> {
        let mut options = Vec::new();
        if let Some(services) = &self.services {
            options.push(format!("services=\"{services}\""));
        }
        if let Some(from) = &self.from {
            options.push(format!("from=\"{from}\""));
        }
        let from_now = match &self.expires {
            None => None,
            Some(when) => match duration(when) {
                // A number alone would be seconds, or a year that was cut off.
                Ok(time) if !when.ends_with(|c: char| c.is_ascii_digit()) => Some(time),
                _ => {
                    options.push(format!("expires={when}"));
                    None
                }
            },
        };
        if self.read_only {
            options.push("readonly".to_owned());
        }
        let grant: Grant = options
            .join(",")
            .parse()
            .map_err(|error| Failure::of("the options are not as they should be", &error))?;
        // An option that holds another one would say more than was asked for.
        let is_as_asked = grant.is_read_only == self.read_only
            && grant.from.is_empty() == self.from.is_none()
            && grant.services.is_empty() == self.services.is_none();
        if !is_as_asked {
            return Err(Failure::usage("a quote in an option is not understood"));
        }
        let mut grant = grant;
        grant.comment.clone_from(&self.comment);
        if let Some(time) = from_now {
            grant.expires = Some(end_of_day(time)?);
        }
        Ok(grant)
    }
}

/// The end of the day, in UTC, in which the time from now ends: rights end with a day.
fn end_of_day(from_now: Duration) -> Outcome<SystemTime> {
    const DAY: u64 = 24 * 60 * 60;
    let then = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|now| now.checked_add(from_now))
        .map(|then| then.as_secs().div_ceil(DAY).saturating_mul(DAY));
    then.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .ok_or_else(|| Failure::usage("that is too long a time"))
}
