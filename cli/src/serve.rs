//! `farref serve`: shows what it is told to show, and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use farref::files::FilesRoot;
use farref::host::Exposed;
#[cfg(unix)]
use farref::isolated::Isolated;
use farref::keys::Trust;
use farref::logs::LogRing;
use farref::monitor::Monitoring;
use farref::names::Announcement;
use farref::network::{self, NetworkRules};
use farref::transport::{Address, Dialect, Media, Security};
use farref::{Config, Server, ServerLimits, speed};

use crate::context::{Global, duration};
use crate::failure::{Failure, Outcome};
use crate::output::{Out, map};

/// Show files, processes and other services of this machine to peers.
///
/// Nothing is shown that is not asked for here, and nobody is let in whose key is not authorized (`farref authorize`).
/// What a key may do can be narrowed down there. A service called `speed` is always shown: it measures the link.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref serve tcp://0.0.0.0:7000 --files /srv:ro --system
  farref serve quic://0.0.0.0:7000 tcp://0.0.0.0:7000 --files /srv --processes
  farref serve tcp://0.0.0.0:7000 \\
      --network 'connect=*.lab:443,connect=10.0.0.0/8:22,listen=127.0.0.1:*'
  farref serve unix:/run/farref --everything
  farref serve rpyc+unix:/run/lab --files /data:ro     for Python
  farref serve serial:/dev/ttyUSB0?baud=921600 --system --logs
  farref serve tcp://0.0.0.0:7000 --processes --isolate --announce rig7
  farref serve --activated --files /srv:ro      by a socket unit of systemd
  farref ls 'ssh://host?command=farref%20serve%20--stdio%20--files%20/srv::/'

Signals: TERM and INT let calls end that are under way, a second one does not;
HUP turns away peers whose key is not authorized any more.")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Serve {
    /// Where to listen; port 0 is any free one
    #[arg(value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Talk over standard input and output: for a farref that starts this one, as by ssh
    #[arg(long)]
    stdio: bool,
    /// Listen by the sockets that systemd has opened for this program
    #[arg(long, conflicts_with_all = ["stdio", "addresses"])]
    activated: bool,
    /// Serve the one connection that is standard input, as inetd hands it over
    #[arg(long, conflicts_with_all = ["stdio", "addresses", "activated"])]
    inetd: bool,
    /// What comes by --activated or --inetd over TCP is not encrypted, and nobody proves who they are
    #[arg(long)]
    plain: bool,
    /// A process for each connection: what one peer breaks is nothing to others
    #[arg(long, conflicts_with_all = ["stdio", "activated", "inetd", "once"])]
    isolate: bool,
    /// Serve one connection, and end with it
    #[arg(long)]
    once: bool,
    /// Tell the local network that this is NAME, so that `farref shell NAME` finds it
    #[arg(long, value_name = "NAME")]
    announce: Option<String>,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Limits")]
    connections: usize,
    /// Connections at once from one address of a network
    #[arg(long, value_name = "N", help_heading = "Limits")]
    per_source: Option<usize>,
    /// Calls under way at once, of all peers
    #[arg(long, value_name = "N", help_heading = "Limits")]
    calls: Option<usize>,
    /// What all peers together may make this program keep for their calls: 512M, 2G
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Limits")]
    memory: Option<u64>,
    /// A directory with all that is in it; `:ro` lets nothing be changed
    #[arg(long, value_name = "DIRECTORY[:ro]", help_heading = "What to show")]
    files: Option<String>,
    /// Run programs: whoever may do that can do whatever this process can
    #[arg(long, help_heading = "What to show")]
    processes: bool,
    /// What this machine is, how busy, who its users are, and the environment of this program
    #[arg(long, help_heading = "What to show")]
    system: bool,
    /// Connections from here and to here: `connect=PATTERN`, `listen=PATTERN`, `all`; several with commas between
    #[arg(long, value_name = "RULES", help_heading = "What to show")]
    network: Option<String>,
    /// The serial ports
    #[arg(long, help_heading = "What to show")]
    serial: bool,
    /// What this program logs
    #[arg(long, help_heading = "What to show")]
    logs: bool,
    /// Who is connected, what they call and hold, for `farref top`, which can also turn them away
    #[arg(long, help_heading = "What to show")]
    monitor: bool,
    /// All of it: every file, every program, every connection. For who has full trust
    #[arg(long, help_heading = "What to show")]
    everything: bool,
    /// What can do harm also at addresses where nobody proves who they are, such as `plain+tcp` and `rpyc`
    #[arg(long)]
    anyone: bool,
    /// How long calls may go on that are under way at the end
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    grace: Duration,
}

/// Records that are kept for `--logs`.
const RECORDS: usize = 10_000;

impl Serve {
    pub(crate) async fn run(&self, global: &Global, ring: &LogRing) -> Outcome {
        self.check()?;
        let mut addresses: Vec<Address> = Vec::new();
        for text in &self.addresses {
            let address = Global::address(text)?;
            self.check_strangers(&address)?;
            addresses.push(address);
        }
        if self.stdio {
            addresses.push(Global::address("stdio:")?);
        }
        let exposed = self.exposed(ring)?;
        #[cfg(unix)]
        if self.isolate {
            return self.isolated(&addresses, global).await;
        }
        let served = |exposed| Server::with(exposed, Config::default(), self.limits(), Media::standard());
        let mut server = if self.monitor || self.everything {
            let monitoring = Monitoring::new();
            served(exposed.with("monitor", &monitoring.monitor())).with_monitoring(&monitoring)
        } else {
            served(exposed)
        };
        let mut trust = None;
        let is_handed_over = (self.activated || self.inetd) && !self.plain;
        if is_handed_over || addresses.iter().any(crate::context::needs_keys) {
            let keys = Trust::of_store(&global.keys()?, farref::keys::Policy::Strict)
                .map_err(|error| Failure::of("cannot use the keys", &error))?;
            server = server.trust(keys.clone());
            trust = Some(keys);
        }
        let mut terminate = signals()?;
        let mut locals = Vec::new();
        for address in &addresses {
            let local = server.listen(address).await.map_err(|error| {
                let shown = address.clone().without_options();
                Failure::of(format_args!("cannot listen at `{shown}`"), &error)
            })?;
            locals.push(local);
        }
        #[cfg(unix)]
        if self.inetd {
            let failed = |error| Failure::of("cannot serve standard input", &error);
            server.serve_inherited(self.plain).await.map_err(failed)?;
        } else if self.activated {
            let failed = |error| Failure::of("cannot listen by what was handed over", &error);
            locals = server.listen_inherited(self.plain).await.map_err(failed)?;
        }
        let _announced = self.on_network(&locals)?;
        if !self.stdio && !self.inetd {
            self.announce(global, &locals, trust.is_some())?;
        }
        loop {
            tokio::select! {
                () = server.closed() => break,
                signal = terminate.next() => match signal {
                    Signal::Again => {
                        let closed = server.reload().await;
                        tracing::info!("looked up again who is let in: {closed} connections were closed");
                    }
                    Signal::End => {
                        tracing::info!("ending: calls that are under way may go on for {:?}", self.grace);
                        tokio::select! {
                            () = server.shutdown(self.grace) => {}
                            () = terminate.end() => {}
                        }
                        return Ok(());
                    }
                },
            }
        }
        // The one carrier of standard input and output may go on.
        for connection in server.connections() {
            connection.closed().await;
        }
        Ok(())
    }

    /// Something must be shown, somewhere.
    fn check(&self) -> Outcome {
        let is_handed_over = self.stdio || self.activated || self.inetd;
        if self.addresses.is_empty() && !is_handed_over {
            return Err(Failure::usage("there is no address to listen at")
                .hint("farref serve tcp://0.0.0.0:7000 .., or --stdio"));
        }
        if self.stdio && !self.addresses.is_empty() {
            return Err(Failure::usage(
                "--stdio is for one peer: give no addresses with it",
            ));
        }
        let is_open = (self.activated || self.inetd) && self.plain && !self.anyone;
        if is_open && !self.is_for_everybody() {
            return Err(Failure::usage(
                "what is to be shown is not for everybody, and nobody proves who they are",
            )
            .hint("leave --plain out, show less, or say --anyone"));
        }
        let shows = self.files.is_some() || self.system || self.logs || self.acts();
        if !shows {
            return Err(Failure::usage("what is to be shown?")
                .hint("say --files DIRECTORY[:ro], --processes, --system, --network RULES, --serial, --logs, --monitor, or --everything if you trust them fully"));
        }
        Ok(())
    }

    /// Whether it lets more be done than to look, apart from files.
    const fn acts(&self) -> bool {
        // Whoever sees the monitor can turn others away.
        self.processes || self.network.is_some() || self.serial || self.monitor || self.everything
    }

    /// Whether it lets files be written.
    fn writes(&self) -> bool {
        self.files.as_deref().is_some_and(|files| !files.ends_with(":ro"))
    }

    /// Whether strangers may see what is shown: they change nothing by it, and the environment, which is a part of
    /// `system`, may have secrets.
    fn is_for_everybody(&self) -> bool {
        !self.acts() && !self.writes() && !self.system
    }

    /// Who proves nothing gets nothing that does harm, unless that is said.
    fn check_strangers(&self, address: &Address) -> Outcome {
        let proves_nothing =
            address.security() == Some(Security::Plain) || address.dialect() == Dialect::Rpyc;
        let is_open = match address.scheme() {
            "tcp" => proves_nothing,
            "ssl" => address.option("ca").is_none(),
            _ => false,
        };
        if !is_open || self.anyone || self.is_for_everybody() {
            return Ok(());
        }
        Err(Failure::usage(format_args!(
            "what is to be shown is not for everybody, and nobody proves who they are at `{address}`"
        ))
        .hint(match address.dialect() {
            Dialect::Rpyc => "use rpyc+ssl:// with ca=, or rpyc+unix:, show less, or say --anyone",
            _ => "use tcp:// without plain+, show less, or say --anyone",
        }))
    }

    fn exposed(&self, ring: &LogRing) -> Outcome<Exposed> {
        let mut exposed = Exposed::nothing().with("speed", &speed::share());
        match &self.files {
            Some(text) => exposed = exposed.files(files(text)?),
            None if self.everything => exposed = exposed.files(FilesRoot::machine()),
            None => {}
        }
        #[cfg(unix)]
        if self.processes || self.everything {
            exposed = exposed.processes(farref::processes::share(farref::processes::Limits::default()));
        }
        if self.system || self.everything {
            exposed = exposed.system();
        }
        match &self.network {
            Some(text) => exposed = exposed.network(network::share(rules(text)?)),
            None if self.everything => exposed = exposed.network(network::share(NetworkRules::everything())),
            None => {}
        }
        #[cfg(unix)]
        if self.serial || self.everything {
            exposed = exposed.serial(farref::serial_ports::share());
        }
        if self.logs || self.everything {
            exposed = exposed.logs(ring.share());
        }
        Ok(exposed)
    }

    /// Says where to dial. That nobody reads it is no reason not to serve.
    fn announce(&self, global: &Global, locals: &[Address], has_keys: bool) -> Outcome {
        match self.tell(global, locals, has_keys) {
            Err(failure) if failure.is_quiet() => Ok(()),
            told => told,
        }
    }

    fn tell(&self, global: &Global, locals: &[Address], has_keys: bool) -> Outcome {
        let mut out = Out::new(global);
        for local in locals {
            let (shown, is_any) = dialled(local);
            if global.json {
                out.json(&map([("address", shown.into())]))?;
            } else {
                let from = if is_any { "dial from elsewhere" } else { "dial" };
                out.note(&format!("{from}: {shown}"))?;
            }
        }
        if self.everything {
            out.note("full trust: whoever is let in can do whatever this account can")?;
        }
        if has_keys
            && global
                .keys()?
                .authorized_peers()
                .list()
                .is_ok_and(|peers| peers.is_empty())
        {
            out.note("nobody is let in yet: farref authorize KEY, with the key that `farref fingerprint` shows there")?;
        }
        out.finish()
    }

    fn limits(&self) -> ServerLimits {
        let mut limits = ServerLimits::default();
        limits.connections = self.connections;
        limits.connections_per_source = self.per_source.unwrap_or(limits.connections_per_source);
        limits.calls = self.calls;
        limits.memory = self.memory;
        limits.in_all = self.once.then_some(1);
        limits
    }

    /// Tells the network the name, if that is wanted.
    fn on_network(&self, locals: &[Address]) -> Outcome<Vec<Announcement>> {
        // Who starts this program for each connection announces it.
        let Some(name) = self.announce.as_ref().filter(|_| !self.inetd) else {
            return Ok(Vec::new());
        };
        let announced = locals
            .iter()
            .filter(|local| matches!(local.scheme(), "tcp" | "quic") && local.dialect() == Dialect::Native);
        let announced: Result<Vec<_>, _> = announced
            .map(|local| farref::names::announce(name, local))
            .collect();
        let announced =
            announced.map_err(|error| Failure::of(format_args!("cannot announce `{name}`"), &error))?;
        if announced.is_empty() {
            return Err(Failure::usage(format_args!("`{name}` cannot be announced"))
                .hint("listen at tcp:// or quic://: other addresses lead nowhere from elsewhere"));
        }
        Ok(announced)
    }

    /// Starts this program once more for each connection.
    #[cfg(unix)]
    async fn isolated(&self, addresses: &[Address], global: &Global) -> Outcome {
        let [address] = addresses else {
            return Err(Failure::usage("--isolate listens at one address, of tcp or unix"));
        };
        let program =
            std::env::current_exe().map_err(|error| Failure::io("cannot find this program", &error))?;
        let (mut arguments, given) = (vec!["serve".into()], std::env::args_os().skip(1));
        let text = self.addresses.first().cloned().unwrap_or_default();
        arguments.extend(given.filter(|argument| {
            !["serve", "--isolate", text.as_str()]
                .iter()
                .any(|not| argument == *not)
        }));
        arguments.push("--inetd".into());
        if !crate::context::needs_keys(address) {
            arguments.push("--plain".into());
            // Whether strangers may come was looked at here.
            arguments.push("--anyone".into());
        }
        let command = move || {
            let mut command = tokio::process::Command::new(&program);
            command.args(&arguments);
            command
        };
        let failed = |error| Failure::of(format_args!("cannot listen at `{text}`"), &error);
        let mut isolated = Isolated::listen(address, self.limits(), command)
            .await
            .map_err(failed)?;
        let mut local = isolated.address().clone();
        if crate::context::needs_keys(address) {
            let identity = global.keys()?.identity();
            let identity = identity.map_err(|error| Failure::of("cannot use the keys", &error))?;
            local = local
                .with_security(address.security())
                .with_peer_key(identity.public());
        }
        let _announced = self.on_network(std::slice::from_ref(&local))?;
        self.announce(global, std::slice::from_ref(&local), true)?;
        let mut terminate = signals()?;
        loop {
            // Cancel-safe: serving goes on where it was.
            tokio::select! {
                served = isolated.serve() => return served.map_err(failed),
                signal = terminate.next() => if matches!(signal, Signal::End) { break },
            }
        }
        tokio::select! {
            () = isolated.drain(self.grace) => {}
            () = terminate.end() => {}
        }
        Ok(())
    }
}

/// A number of bytes, with `K`, `M` or `G` for the powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes such as 512M or 2G");
    let (digits, power) = match text.to_ascii_uppercase().strip_suffix(['K', 'M', 'G']) {
        Some(digits) => {
            let power = match text.chars().last() {
                Some('K' | 'k') => 10,
                Some('M' | 'm') => 20,
                _ => 30,
            };
            (digits.to_owned(), power)
        }
        None => (text.to_owned(), 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << power)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

/// All there is, for who has full trust.
#[cfg(unix)]
pub(crate) fn everything(ring: &LogRing) -> Exposed {
    Exposed::nothing()
        .with("speed", &speed::share())
        .files(FilesRoot::machine())
        .processes(farref::processes::share(farref::processes::Limits::default()))
        .system()
        .network(network::share(NetworkRules::everything()))
        .serial(farref::serial_ports::share())
        .logs(ring.share())
}

/// What is logged, for `--logs`.
pub(crate) fn ring() -> LogRing {
    LogRing::new(RECORDS)
}

/// `DIRECTORY`, or `DIRECTORY:ro`.
fn files(text: &str) -> Outcome<FilesRoot> {
    let (path, is_read_only) = match text.strip_suffix(":ro") {
        Some(path) => (path, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let path: PathBuf = path.into();
    if !Path::is_dir(&path) {
        return Err(Failure::usage(format_args!(
            "`{}` is no directory to show",
            path.display()
        )));
    }
    let root = FilesRoot::at(path);
    Ok(if is_read_only { root.read_only() } else { root })
}

/// What connections may be made, by `connect=PATTERN,listen=PATTERN`, or `all`.
fn rules(text: &str) -> Outcome<NetworkRules> {
    let mut rules = NetworkRules::nothing();
    for rule in text.split(',').map(str::trim) {
        let added = match rule.split_once('=') {
            Some(("connect", pattern)) => rules.connect(pattern),
            Some(("listen", pattern)) => rules.listen(pattern),
            None if rule == "all" => Ok(NetworkRules::everything()),
            _ => {
                return Err(Failure::usage(format_args!("`{rule}` is no rule for the network"))
                    .hint("write connect=HOST:PORT, listen=HOST:PORT or all; * stands for any, 10.0.0.0/8 for a network"));
            }
        };
        rules = added.map_err(|error| Failure::usage(format_args!("`{rule}`: {error}")))?;
    }
    Ok(rules)
}

/// An address as others dial it: where it listens at all addresses of the machine, by its name; and whether it does.
pub(crate) fn dialled(local: &Address) -> (String, bool) {
    let text = local.to_string();
    for any in ["://0.0.0.0:", "://[::]:"] {
        if text.contains(any) {
            return (text.replace(any, &format!("://{}:", host_name())), true);
        }
    }
    (text, false)
}

fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
    };
    if is_name(&name) { name } else { "HOST".to_owned() }
}

/// What a signal asks for.
enum Signal {
    End,
    /// To look at the keys again.
    Again,
}

#[cfg(unix)]
struct Signals {
    end: [tokio::signal::unix::Signal; 2],
    again: tokio::signal::unix::Signal,
}

#[cfg(unix)]
fn signals() -> Outcome<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Failure::io("cannot listen for signals", &error));
    Ok(Signals {
        end: [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?],
        again: listen(SignalKind::hangup())?,
    })
}

#[cfg(unix)]
impl Signals {
    async fn next(&mut self) -> Signal {
        let Self {
            end: [first, second],
            again,
        } = self;
        tokio::select! {
            _ = first.recv() => Signal::End,
            _ = second.recv() => Signal::End,
            _ = again.recv() => Signal::Again,
        }
    }

    async fn end(&mut self) {
        while !matches!(self.next().await, Signal::End) {}
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems may refuse")]
fn signals() -> Outcome<Signals> {
    Ok(Signals)
}

#[cfg(not(unix))]
impl Signals {
    async fn next(&mut self) -> Signal {
        // Without it, the program is ended by the system.
        let _ = tokio::signal::ctrl_c().await;
        Signal::End
    }

    async fn end(&mut self) {
        self.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_interfaces_is_shown_by_the_name_of_the_machine() {
        let shown = |text: &str| dialled(&text.parse().unwrap());
        assert_eq!(
            shown("tcp://127.0.0.1:7"),
            ("tcp://127.0.0.1:7".to_owned(), false)
        );
        let (any, is_any) = shown("tcp://0.0.0.0:7");
        assert!(is_any && !any.contains("0.0.0.0") && any.ends_with(":7"), "{any}");
    }

    #[test]
    fn rules_for_the_network_are_read_one_by_one() {
        let allowed = rules("connect=*.lab:443, listen=127.0.0.1:8000-8099").ok();
        let allows = |target: &str| {
            let target = target.parse().unwrap();
            allowed
                .as_ref()
                .map(|rules| (rules.may_connect(&target), rules.may_listen(&target)))
        };
        assert_eq!(allows("a.lab:443"), Some((true, false)));
        assert_eq!(allows("127.0.0.1:8001"), Some((false, true)));
        for wrong in ["", "connect", "connect=", "all=1", "x=*:1", "connect=*:1,"] {
            assert!(rules(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_bytes_have_units() {
        let all = ["7", "3k", "512M", "2G"].map(|text| bytes(text).unwrap());
        assert_eq!(all, [7, 3 << 10, 512 << 20, 2 << 30]);
        for wrong in ["", "0", "M", "1.5G", "-1", "5T", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
