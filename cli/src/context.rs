//! What all commands share: the settings of the command line, the keys, and the way to a peer.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use farref::keys::{Fingerprint, KeyStore, Policy, Question, Trust};
use farref::logs::LogRing;
use farref::names::{Names, is_name};
#[cfg(unix)]
use farref::rpyc::OtherGeneration;
use farref::transport::Media;
use farref::transport::address::PeerKey;
#[cfg(unix)]
use farref::transport::ssh::{Deploy, Ssh};
use farref::transport::{Address, Dialect, Security};
use farref::{Config, Connection, Error, ErrorKind, Object, Peer, connect};
#[cfg(unix)]
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::{Code, Failure, Outcome};

/// Settings that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings of every command")]
pub(crate) struct Global {
    /// The key to prove who this is [default: `identity` in $FARREF_HOME or ~/.config/farref]
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// How long connecting, and each call, may take: `500ms`, `30s`, `5m`; 0 is for ever
    #[arg(long, global = true, hide_short_help = true, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// What to do about a peer whose key is not known [default: ask on a terminal, strict otherwise]
    #[arg(long, global = true, hide_short_help = true, value_name = "POLICY")]
    trust: Option<TrustPolicy>,

    /// Write data as JSON, one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colours
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "WHEN",
        default_value = "auto"
    )]
    color: When,

    /// Say more about what happens, and where Python raised what it did; twice for even more
    #[arg(short, long, global = true, hide_short_help = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Say nothing but errors, and show no progress
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) quiet: bool,
}

/// What to do about a peer whose key is not known. A key that has changed is always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrustPolicy {
    /// Refuse
    Strict,
    /// Ask, and remember
    Ask,
    /// Trust it, and remember
    AcceptNew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

impl Global {
    /// Whether what goes to standard output may have colours.
    pub(crate) fn colours(&self) -> bool {
        self.coloured(std::io::stdout().is_terminal())
    }

    /// Whether what goes to standard error may have colours.
    pub(crate) fn error_colours(&self) -> bool {
        self.coloured(std::io::stderr().is_terminal())
    }

    fn coloured(&self, is_terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }

    /// Whether progress may be shown.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// The time that a call may take; none is for ever.
    pub(crate) fn limit(&self) -> Option<Duration> {
        Some(self.timeout).filter(|timeout| !timeout.is_zero())
    }

    /// The keys of the user.
    pub(crate) fn keys(&self) -> Outcome<KeyStore> {
        let store = KeyStore::of_user().map_err(|error| Failure::of("cannot find the keys", &error))?;
        Ok(match &self.identity {
            Some(path) => store.with_identity(path),
            None => store,
        })
    }

    /// Shows what the layers below tell, on standard error, and keeps it.
    pub(crate) fn start_log(&self, at_least: tracing::Level, kept: Option<LogRing>) {
        use tracing::Level;
        use tracing_subscriber::filter::{LevelFilter, Targets};
        use tracing_subscriber::prelude::*;
        let level = match self.verbose {
            _ if self.quiet => Level::ERROR,
            0 => at_least,
            1 => Level::INFO.max(at_least),
            2 => Level::DEBUG,
            _ => Level::TRACE,
        };
        let others = LevelFilter::from_level(level.min(Level::INFO));
        let targets = Targets::new()
            .with_default(others)
            .with_target("farref", LevelFilter::from_level(level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(self.error_colours())
            .with_target(self.verbose > 1)
            .compact();
        // A second one is a bug, and no reason to fail.
        let _ = tracing_subscriber::registry()
            .with(lines.with_filter(targets))
            .with(kept)
            .try_init();
    }

    /// Reads an address.
    pub(crate) fn address(text: &str) -> Outcome<Address> {
        text.parse().map_err(|error| {
            Failure::usage(format_args!("`{text}` is no address: {error}"))
                .hint("`farref --help` shows how addresses look")
        })
    }

    /// Connects to `text`.
    pub(crate) async fn connect(&self, text: &str) -> Outcome<Connection> {
        self.connect_with(text, Config::default()).await
    }

    /// Connects to `text` with these settings.
    pub(crate) async fn connect_with(&self, text: &str, config: Config) -> Outcome<Connection> {
        let (address, others) = self.look_up(text).await?;
        self.connect_at(address, others, config).await
    }

    async fn connect_at(
        &self,
        address: Address,
        others: Vec<Address>,
        mut config: Config,
    ) -> Outcome<Connection> {
        if let Some(limit) = self.limit() {
            config.setup_timeout = config.setup_timeout.min(limit);
        }
        let met = Arc::new(Mutex::new(None));
        let mut connecting = connect(&address).config(config);
        let is_encrypted = needs_keys(&address) || others.iter().any(needs_keys);
        for other in others {
            connecting = connecting.also_at(other);
        }
        #[cfg(unix)]
        if address.scheme() == "ssh" {
            connecting = connecting.media(self.bringing());
        }
        let mut own = None;
        if is_encrypted {
            let trust = self.trust(&met)?;
            own = trust.identity().map(farref::keys::Identity::public);
            connecting = connecting.trust(trust);
        }
        // What is brought by ssh may take long; ssh itself minds that something happens.
        let limit = self.limit().filter(|_| address.scheme() != "ssh");
        let connected = match limit {
            Some(limit) => tokio::time::timeout(limit, connecting.into_future())
                .await
                .unwrap_or_else(|_| {
                    let text = format!("nobody answered within {limit:?}");
                    Err(Error::new(ErrorKind::Deadline, text))
                }),
            None => connecting.await,
        };
        connected.map_err(|error| {
            let unknown = *met.lock().unwrap_or_else(PoisonError::into_inner);
            self.not_connected(&address, &error, unknown, own)
        })
    }

    /// Where `text` leads: an address, or what a name stands for, the best first.
    async fn look_up(&self, text: &str) -> Outcome<(Address, Vec<Address>)> {
        if !is_name(text) {
            return Ok((Self::address(text)?, Vec::new()));
        }
        let names = Names::of_user();
        let asking = names.resolve(text);
        let found = match self.limit() {
            Some(limit) => tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
                let what = format!("nobody told where it leads within {limit:?}");
                Err(Error::new(ErrorKind::Deadline, what))
            }),
            None => asking.await,
        };
        let mut found = found
            .map_err(|error| Failure::of(format_args!("cannot look up `{text}`"), &error))?
            .into_iter();
        let first = found.next();
        let first = first.ok_or_else(|| Failure::usage(format_args!("`{text}` leads nowhere")))?;
        Ok((first, found.collect()))
    }

    /// The usual media, of which ssh brings this program along, and shows how far it is.
    #[cfg(unix)]
    fn bringing(&self) -> Media {
        let deploy = Deploy::this_program();
        let deploy = if self.shows_progress() {
            let bar = ProgressBar::hidden();
            deploy.on_progress(move |progress| {
                if progress.sent == 0 {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.set_length(progress.total);
                    bar.set_style(bringing_style());
                    bar.set_message(progress.host.clone());
                }
                bar.set_position(progress.sent);
                if progress.sent == progress.total {
                    bar.finish_and_clear();
                }
            })
        } else {
            deploy
        };
        Media::standard().with(Ssh::new().deploying(deploy))
    }

    /// Connects to `text`, and gets what is shown there first, and how the peer speaks.
    pub(crate) async fn root(&self, text: &str) -> Outcome<(Connection, Object, Dialect)> {
        let (address, others) = self.look_up(text).await?;
        let dialect = address.dialect();
        let connection = self.connect_at(address, others, Config::default()).await?;
        let root = connection
            .object()
            .await
            .map_err(|error| Failure::of(format_args!("cannot use `{text}`"), &error))?;
        Ok((connection, root, dialect))
    }

    fn trust(&self, met: &Arc<Mutex<Option<PeerKey>>>) -> Outcome<Trust> {
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let policy = match self.trust {
            Some(TrustPolicy::AcceptNew) => Policy::AcceptNew,
            Some(TrustPolicy::Strict) => remember_and(met, false),
            Some(TrustPolicy::Ask) => remember_and(met, true),
            None => remember_and(met, can_ask),
        };
        Trust::of_store(&self.keys()?, policy).map_err(|error| Failure::of("cannot use the keys", &error))
    }

    fn not_connected(
        &self,
        address: &Address,
        error: &Error,
        unknown: Option<PeerKey>,
        own: Option<PeerKey>,
    ) -> Failure {
        let shown = address.clone().without_options();
        let what = format!("cannot connect to `{shown}`");
        if let (ErrorKind::Denied, Some(key)) = (error.kind(), unknown) {
            let fingerprint = Fingerprint::of(&key);
            return Failure::new(
                Code::Denied,
                format_args!("{what}: its key is not known: {key} ({fingerprint})"),
            )
            .hint(format_args!(
                "if `farref fingerprint` shows the same there: farref peers add {} {key}",
                shown.without_peer_key()
            ));
        }
        let failure = match error.message().contains(&format!("`{address}`")) {
            true => Failure::of("cannot connect", error),
            false => Failure::of(&what, error),
        };
        match error.kind() {
            ErrorKind::Denied if error.to_string().contains("has changed") => failure.hint(format_args!(
                "if it was set up anew, and `farref fingerprint` shows the new one there: farref peers forget {}",
                shown.without_peer_key()
            )),
            ErrorKind::Denied if error.to_string().contains("does not let in") => match own {
                Some(own) => failure.hint(format_args!("on the machine that listens: farref authorize {own}")),
                None => failure,
            },
            // Ssh has said what to do.
            ErrorKind::Carrier if address.scheme() == "ssh" => failure,
            _ if error.downcast_ref::<OtherGeneration>().is_some() => failure.hint("leave `generation=` out: it is found out"),
            ErrorKind::Carrier
            | ErrorKind::Deadline
            | ErrorKind::Disconnected(_)
            | ErrorKind::Incompatible
            | ErrorKind::Malformed
                if address.dialect() == Dialect::Rpyc =>
            {
                failure.hint("does a server of RPyC listen there? For an interpreter: rpyc_classic --host 127.0.0.1")
            }
            ErrorKind::Carrier if error.message().contains("nobody listens") => {
                failure.hint("`farref serve --help` shows how to start it there")
            }
            ErrorKind::Disconnected(_) | ErrorKind::Malformed if address.scheme() == "exec" => {
                failure.hint("what runs there speaks over its standard input and output, as `farref serve --stdio` does")
            }
            ErrorKind::Deadline => failure.hint("is it running there, and is the way open?"),
            ErrorKind::Incompatible if error.message().contains("does not speak farref") => {
                failure.hint("is it the right port? `farref serve` says where it can be dialled")
            }
            _ => failure,
        }
    }
}

#[cfg(unix)]
fn bringing_style() -> ProgressStyle {
    let template = "brings farref to {msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Remembers the key that was met, and asks about it if there is somebody to ask.
fn remember_and(met: &Arc<Mutex<Option<PeerKey>>>, asks: bool) -> Policy {
    let met = Arc::clone(met);
    Policy::Ask(Arc::new(move |question: &Question<'_>| {
        if asks && is_answered_with_yes(question) {
            return true;
        }
        if !asks {
            *met.lock().unwrap_or_else(PoisonError::into_inner) = Some(*question.key);
        }
        false
    }))
}

fn is_answered_with_yes(question: &Question<'_>) -> bool {
    let mut stderr = std::io::stderr();
    let address = question.address.clone().without_options();
    let asked = writeln!(
        stderr,
        "`{address}` was never dialled before. Its key is\n  {}\n  {}",
        question.key,
        Fingerprint::of(question.key)
    )
    .and_then(|()| {
        write!(
            stderr,
            "Is that what `farref fingerprint` shows there? Trust it (yes/no)? "
        )
    })
    .and_then(|()| stderr.flush());
    let mut answer = String::new();
    asked.is_ok() && std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// Whether dialling there takes keys.
pub(crate) fn needs_keys(address: &Address) -> bool {
    address.scheme() == "quic"
        || address.peer_key().is_some()
        || address.security() == Some(Security::Noise)
        || (address.scheme() == "tcp" && address.security().is_none() && address.dialect() == Dialect::Native)
}

/// A short name of a peer, for prompts and titles.
pub(crate) fn name_of(peer: &Peer) -> String {
    let Some(address) = &peer.address else {
        return peer.medium.to_owned();
    };
    let rest = address
        .split_once("://")
        .map_or(address.as_str(), |(_, rest)| rest);
    let rest = rest.split(['#', '?']).next().unwrap_or(rest);
    rest.to_owned()
}

/// Reads a time: a number with `ms`, `s`, `m` or `h`; without, seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 500ms, 30s, 5m or 1h");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("30", 30_000),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text).map(|time| time.as_millis()), Ok(millis), "{text}");
        }
        for wrong in ["", "s", "-1s", "1x", "1e3", "s1", "1 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn peers_are_named_by_where_they_are() {
        let peer = |address: &str| {
            let address = Some(address.to_owned());
            name_of(&Peer::new("tcp", address, farref::transport::PeerEvidence::None))
        };
        assert_eq!(peer("tcp://rig:7000#ed25519.aaaq"), "rig:7000");
        assert_eq!(peer("unix:/run/bench?x=1"), "unix:/run/bench");
    }
}
