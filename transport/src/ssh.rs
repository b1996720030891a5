//! Programs on other hosts as peers: `ssh:` has the system's ssh start one.
//!
//! Knows the command line of ssh, how to find the start of the program behind what a login shell prints,
//! and what it means when ssh fails. Keys, jump hosts, agents and known hosts are ssh's own business, by the
//! user's configuration; nothing here weakens its checks. The life of the local ssh is in
//! [`process`](crate::process).
//!
//! | option      | default    | meaning                                                                 |
//! |-------------|------------|-------------------------------------------------------------------------|
//! | `command=`  | none       | what to run over there, one line as for `sh`: `agent%20--stdio`. Required |
//! | `batch=`    | 1          | ask the user nothing; with 0, ssh may ask on the terminal                 |
//! | `config=`   | the user's | another configuration file for ssh; `none` for none                     |
//! | `identity=` | the user's | the file of the only key to offer                                         |
//! | `opt=`      | none       | an option for ssh, `Name=value`; repeated; comes before our own           |
//! | `token=`    | 1          | the command says a token first, as every `stdio:` does; with 0 it is any program, and a login shell that prints something is in its way |
//! | `wait=`     | 30s        | how long the start may take                                               |
//!
//! Our own options: no terminal, no forwarding of anything, 10 s to connect, a sign of life every 15 s of
//! silence (the carrier ends after 45 s without), no sharing of connections.
//!
//! The command is run by `sh`, whatever the account's login shell. When the carrier is dropped its standard
//! input ends; a program that does not care for that is left alone over there.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::process::Command;
use std::time::Duration;

use bytes::BytesMut;

use crate::address::{Address, Host, Target};
use crate::carrier::{BoxFuture, ByteRx, Carrier, CarrierInfo, PeerEvidence, StreamCarrier};
use crate::error::{Absence, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::process::{ChildRx, Outcome, Process, Stderr, ended, printable};
use crate::token::{self, Search, Token};

/// The medium `ssh`. It can be dialled only.
#[derive(Clone, Debug)]
pub struct Ssh {
    program: OsString,
}

impl Ssh {
    /// The `ssh` that is found in `PATH`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            program: "ssh".into(),
        }
    }

    /// Another program that takes the same arguments.
    #[must_use]
    pub fn with_program(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Ssh {
    fn schemes(&self) -> &'static [&'static str] {
        &["ssh"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let plan = Plan::of(address).map_err(|source| DialError::from_io(address, source))?;
            plan.dial(&self.program).await
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            Err(ListenError::Unsupported {
                address: Box::new(address.clone()),
                absence: Absence::DialOnly,
            })
        })
    }
}

/// What an address asks for.
struct Plan<'a> {
    address: &'a Address,
    user: Option<&'a str>,
    host: String,
    port: Option<u16>,
    /// The line for the login shell over there.
    remote: String,
    token: Option<Token>,
}

impl<'a> Plan<'a> {
    fn of(address: &'a Address) -> io::Result<Self> {
        let Target::Ssh { user, host, port } = address.target() else {
            return Err(misuse("not an address of ssh"));
        };
        if let Some(name) = NOT_YET.into_iter().find(|name| address.option(name).is_some()) {
            return Err(misuse(format!(
                "nothing is installed over there yet: leave `{name}=` out"
            )));
        }
        if address.option("deploy").is_some_and(|deploy| deploy != "never") {
            return Err(misuse("nothing is installed over there yet: leave `deploy=` out"));
        }
        let command = address.option("command").ok_or_else(|| {
            misuse("say what to run over there by `command=`, such as `?command=agent%20--stdio`")
        })?;
        if command.contains(['\n', '\r', '\0']) {
            return Err(misuse("the command must be one line"));
        }
        let host = match host {
            Host::Name(name) => name.clone(),
            Host::V4(address) => address.to_string(),
            Host::V6(address, None) => address.to_string(),
            Host::V6(address, Some(zone)) => format!("{address}%{zone}"),
        };
        let user = user.as_deref();
        if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
            return Err(misuse("ssh would take a name that begins with `-` for an option"));
        }
        let token = match address.option("token") {
            Some("0") => None,
            _ => Some(Token::random()?),
        };
        let remote = match &token {
            Some(token) => wrapped(command, token),
            None => command.to_owned(),
        };
        Ok(Self {
            address,
            user,
            host,
            port: *port,
            remote,
            token,
        })
    }

    /// Starts ssh, and waits until the program over there has spoken.
    ///
    /// Cancel-safe: what is started ends with the future.
    async fn dial(&self, program: &OsString) -> Result<Carrier, DialError> {
        let process = self.process(program);
        let (mut rx, tx, mut lifeline) = process.start().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.no_ssh(),
            _ => DialError::from_io(self.address, source),
        })?;
        let patience = lifeline.hurry();
        let wait = self.address.duration("wait").unwrap_or(WAIT);
        let mut search = self.token.as_ref().map(Search::new);
        let started = async {
            let start = async {
                match &mut search {
                    Some(search) => find(&mut rx, search).await,
                    None => Ok(()),
                }
            };
            let account = async { Ok(self.account(program).await) };
            tokio::try_join!(start, account).map(|((), user)| user)
        };
        let user = match tokio::time::timeout(wait, started).await {
            Ok(Ok(user)) => user,
            failed => {
                let noise = search
                    .as_ref()
                    .map_or_else(String::new, |search| printable(search.noise()));
                let error = failed.ok().and_then(Result::err);
                return Err(self.not_started(NotStarted { error, noise, wait }));
            }
        };
        lifeline.take_time(patience);
        let mut info = CarrierInfo::new("ssh");
        info.remote = Some(self.address.clone());
        info.confidential = true;
        info.may_be_lost = true;
        info.peer = PeerEvidence::Ssh {
            user,
            host: self.host.clone(),
        };
        Ok(StreamCarrier::new(rx, tx, info).with_guard(lifeline).into())
    }

    fn process(&self, program: &OsString) -> Process {
        let mut command = Command::new(program);
        command.args(["-T", "-x", "-a"]);
        self.arguments(&mut command);
        command.args(["--", &self.host, &self.remote]);
        Process::new(command)
            .name(format!("ssh to {}", self.host))
            .stderr(Stderr::Log)
            .own_group(self.is_batch())
            .explain(|outcome, words| Cause::of(outcome, words).meaning())
    }

    fn arguments(&self, command: &mut Command) {
        if let Some(config) = self.address.option("config") {
            command.args(["-F", config]);
        }
        if let Some(identity) = self.address.option("identity") {
            command.args(["-i", identity, "-o", "IdentitiesOnly=yes"]);
        }
        // Of an option that is given more than once, ssh takes the first.
        for (_, value) in self.address.options().filter(|(name, _)| *name == "opt") {
            command.args(["-o", value]);
        }
        if self.is_batch() {
            command.args(["-o", "BatchMode=yes"]);
        }
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = self.user {
            command.args(["-l", user]);
        }
    }

    fn is_batch(&self) -> bool {
        self.address.option("batch") != Some("0")
    }

    /// The account over there: as the address says, else as ssh is configured.
    async fn account(&self, program: &OsString) -> String {
        if let Some(user) = self.user {
            return user.to_owned();
        }
        let mut command = Command::new(program);
        command.arg("-G");
        self.arguments(&mut command);
        command.args(["--", &self.host]);
        let configured = Process::new(command)
            .stderr(Stderr::Null)
            .patience(Duration::ZERO)
            .spawn();
        let Ok(mut configured) = configured else {
            return String::new();
        };
        let mut said = BytesMut::new();
        while said.len() < MOST_CONFIGURED {
            said.reserve(4096);
            match poll_fn(|cx| configured.rx.poll_read(cx, &mut said)).await {
                Ok(count) if count > 0 => {}
                _ => break,
            }
        }
        let said = String::from_utf8_lossy(&said);
        let user = said.lines().find_map(|line| line.strip_prefix("user "));
        user.unwrap_or_default().to_owned()
    }

    fn no_ssh(&self) -> DialError {
        DialError::Unsupported {
            address: Box::new(self.address.clone()),
            absence: Absence::Program("ssh"),
        }
    }

    /// Sorts a start that failed by who can act.
    fn not_started(&self, told: NotStarted) -> DialError {
        let cause = match &told.error {
            Some(error) => ended(error).map_or(Cause::Silent, |ended| {
                Cause::of(ended.outcome(), ended.last_words())
            }),
            None if told.noise.is_empty() => Cause::Unreachable,
            None => Cause::Silent,
        };
        let address = Box::new(self.address.clone());
        let source = io::Error::other(told);
        match cause {
            Cause::Unresolved => DialError::Unresolved { address, source },
            Cause::Refused => DialError::NotListening { address, source },
            Cause::KeyRefused | Cause::NotRunnable => DialError::NotPermitted { address, source },
            Cause::HostUnknown | Cause::HostChanged => DialError::Untrusted { address, source },
            Cause::Unreachable | Cause::Lost => DialError::Unreachable { address, source },
            Cause::BadOption | Cause::NoCommand | Cause::Failed | Cause::Silent => {
                DialError::Address { address, source }
            }
            Cause::Killed | Cause::SshKilled | Cause::Other => DialError::System { address, source },
        }
    }
}

/// Reads until behind the token.
///
/// Not cancel-safe: what was read is in `search`.
async fn find(rx: &mut ChildRx, search: &mut Search) -> io::Result<()> {
    let mut into = BytesMut::new();
    loop {
        into.clear();
        into.reserve(4096);
        if poll_fn(|cx| rx.poll_read(cx, &mut into)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(behind) = search.take(&into) {
            rx.put_back(behind);
            return Ok(());
        }
        if search.is_full() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more than 64 KiB came without it",
            ));
        }
    }
}

/// A line that does the same in every login shell: `sh` gets the command and the token.
fn wrapped(command: &str, token: &Token) -> String {
    let script = format!("{0}={1}; export {0}; {command}", token::VARIABLE, token.text());
    format!("exec sh -c {}", quoted(&script))
}

/// One word for every shell. Within single quotes fish takes `\` for an escape and tcsh looks up `!`, so
/// both stand outside of them, like the quote itself.
fn quoted(text: &str) -> String {
    let mut word = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\\' | '!') {
            word.extend(["'\\", c.encode_utf8(&mut [0; 4]), "'"]);
        } else {
            word.push(c);
        }
    }
    word.push('\'');
    word
}

fn misuse(told: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, told.into())
}

/// Why there is no carrier although ssh was started.
#[derive(Debug)]
struct NotStarted {
    /// None if the time was up.
    error: Option<io::Error>,
    /// What came instead of the token.
    noise: String,
    wait: Duration,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => write!(f, "the command did not report within {:?}", self.wait)?,
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the command ended without a report")?;
            }
            Some(error) if error.kind() == io::ErrorKind::InvalidData => {
                write!(f, "the command did not report: {error}")?;
            }
            // It never got as far as the command.
            Some(error) => error.fmt(f)?,
        }
        if !self.noise.is_empty() {
            let most = self
                .noise
                .char_indices()
                .nth(MOST_SHOWN)
                .map_or(self.noise.len(), |(at, _)| at);
            let shown = self.noise.get(..most).unwrap_or_default();
            write!(f, "; this came instead: `{shown}`")?;
        }
        let ended = self.error.as_ref().and_then(ended);
        if ended.is_none_or(|ended| ended.outcome() == Outcome::Exited(0)) {
            f.write_str(
                ": it must speak farref on its standard output, and the host must not run another command for \
                 this key",
            )?;
        }
        Ok(())
    }
}

impl Error for NotStarted {}

/// What the end of ssh means. Its own failures have one status, so there its words must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Unresolved,
    Refused,
    Unreachable,
    KeyRefused,
    HostUnknown,
    HostChanged,
    BadOption,
    /// The connection broke, or the server ended it.
    Lost,
    NoCommand,
    NotRunnable,
    /// The program over there ended with a status of its own.
    Failed,
    /// The program over there was ended by a signal.
    Killed,
    /// The ssh here was ended by a signal.
    SshKilled,
    /// No word, or not the right one.
    Silent,
    Other,
}

impl Cause {
    fn of(outcome: Outcome, words: &str) -> Self {
        match outcome {
            Outcome::Exited(0) => Self::Silent,
            Outcome::Exited(OF_SSH) => Self::of_ssh(words),
            Outcome::Exited(127) => Self::NoCommand,
            Outcome::Exited(126) => Self::NotRunnable,
            Outcome::Exited(status) if status > 128 => Self::Killed,
            Outcome::Exited(_) => Self::Failed,
            Outcome::Killed(_) => Self::SshKilled,
            Outcome::Unknown => Self::Other,
        }
    }

    fn of_ssh(words: &str) -> Self {
        let said = |told: &[&str]| told.iter().any(|told| words.contains(told));
        if said(&[
            "HOST IDENTIFICATION HAS CHANGED",
            "has changed and you have requested",
        ]) {
            Self::HostChanged
        } else if said(&["Host key verification failed", "host key is known for"]) {
            Self::HostUnknown
        } else if said(&["Permission denied (", "Too many authentication failures"]) {
            Self::KeyRefused
        } else if said(&["Could not resolve hostname"]) {
            Self::Unresolved
        } else if said(&["Connection refused"]) {
            Self::Refused
        } else if said(&[
            "Bad configuration option",
            "onfig file",
            "nknown option",
            "unsupported option",
        ]) {
            Self::BadOption
        } else if said(&[
            "timed out",
            "No route to host",
            "etwork is unreachable",
            "banner exchange",
        ]) {
            Self::Unreachable
        } else if said(&[
            "Connection to",
            "Connection closed",
            "Connection reset",
            "Broken pipe",
            "not responding",
        ]) {
            Self::Lost
        } else {
            // A program that a signal ends has no status; ssh ends without a word of its own then.
            Self::Killed
        }
    }

    const fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::Unresolved => "ssh knows no host of that name",
            Self::Refused => "no ssh server listens there",
            Self::Unreachable => "the host did not answer",
            Self::KeyRefused => {
                "the host takes none of our keys for this account: add one to its authorized_keys, or name \
                 another user or `identity=`"
            }
            Self::HostUnknown => "the key of the host is not known here: log in once by hand and check it",
            Self::HostChanged => {
                "the key of the host is not the one that is known: find out why before you trust it"
            }
            Self::BadOption => "ssh does not understand its options",
            Self::Lost => "the connection to the host was lost",
            Self::NoCommand => "the command is not there: install it on the host, or give its path",
            Self::NotRunnable => "the command may not be run on the host",
            Self::Failed => "the program on the host failed",
            Self::Killed => "the program on the host was ended by a signal",
            Self::SshKilled => "ssh itself was ended here",
            Self::Silent | Self::Other => return None,
        })
    }
}

/// The status by which ssh tells its own failures, and those of programs that have no status.
const OF_SSH: i32 = 255;

/// What every ssh is started with, unless the address says otherwise.
const OPTIONS: [&str; 6] = [
    "ClearAllForwardings=yes",
    "ConnectTimeout=10",
    "ControlPath=none",
    "RemoteCommand=none",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=15",
];

/// Options of the address that are about installing the program over there.
const NOT_YET: [&str; 3] = ["agent", "path", "persist"];

/// How long a start may take.
const WAIT: Duration = Duration::from_secs(30);

/// How much of ssh's configuration is read to find the account in it, in bytes.
const MOST_CONFIGURED: usize = 64 * 1024;

/// How much of what came instead is shown, in characters.
const MOST_SHOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::medium::Media;
    use crate::testing::block_on;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn arguments(text: &str) -> Vec<String> {
        let address = address(text);
        let plan = Plan::of(&address).unwrap();
        let mut command = Command::new("ssh");
        plan.arguments(&mut command);
        let arguments = command
            .get_args()
            .map(|argument| argument.to_str().unwrap().to_owned());
        arguments.collect()
    }

    #[test]
    fn what_the_user_says_comes_before_our_own_options() {
        let told =
            arguments("ssh://eva@rig7:2222?command=x&opt=ServerAliveInterval=1&config=none&identity=/k");
        let at = |option: &str| told.iter().position(|told| told == option).unwrap();
        assert!(at("ServerAliveInterval=1") < at("ServerAliveInterval=15"));
        assert!(at("-F") + 1 == at("none") && at("-i") + 1 == at("/k"));
        assert!(at("-p") + 1 == at("2222") && at("-l") + 1 == at("eva"));
        assert!(at("BatchMode=yes") > 0 && at("IdentitiesOnly=yes") > 0);
        assert!(!arguments("ssh://h?command=x&batch=0").contains(&"BatchMode=yes".to_owned()));
    }

    #[test]
    fn an_address_without_a_command_is_told_the_option() {
        for (text, told) in [
            ("ssh://rig7", "`command=`"),
            ("ssh://rig7?command=a%0Ab", "one line"),
            ("ssh://rig7?command=x&deploy=auto", "`deploy=`"),
            ("ssh://rig7?command=x&persist=1", "`persist=`"),
        ] {
            let error = block_on(Media::standard().dial(&address(text))).unwrap_err();
            assert!(matches!(error, DialError::Address { .. }) && !error.is_transient());
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(told), "{cause}");
        }
    }

    #[test]
    fn a_host_without_ssh_is_told_to_install_it() {
        let media = Media::none().with(Ssh::with_program("farref-no-such-ssh"));
        let error = block_on(media.dial(&address("ssh://rig7?command=x"))).unwrap_err();
        assert!(error.to_string().contains("the program `ssh`"), "{error}");
    }

    #[test]
    fn nobody_listens_by_ssh() {
        let listened = block_on(Media::standard().listen(&address("ssh://h")))
            .err()
            .unwrap();
        assert!(listened.to_string().contains("dialled only"), "{listened}");
    }

    #[test]
    fn a_quoted_line_is_the_same_in_every_shell() {
        let odd = "a'b\\c\\\\d!e$HOME`x`\"f\" *~#;&|<>(){}[]^%é\\'!!\\n";
        let script = format!("printf %s {}", quoted(odd));
        let mut shells = 0;
        for shell in ["sh", "bash", "dash", "zsh", "ksh", "fish", "tcsh"] {
            // By way of one shell more, as a command line of ssh goes.
            let line = format!("exec sh -c {}", quoted(&script));
            let Ok(said) = Command::new(shell).arg("-c").arg(&line).output() else {
                continue;
            };
            assert_eq!(String::from_utf8_lossy(&said.stdout), odd, "{shell}: {line}");
            shells += 1;
        }
        assert!(shells > 0);
    }

    #[test]
    fn the_words_of_ssh_are_understood() {
        for (status, words, cause) in [
            (
                255,
                "ssh: Could not resolve hostname x: Name or service not known",
                Cause::Unresolved,
            ),
            (
                255,
                "ssh: connect to host h port 22: Connection refused",
                Cause::Refused,
            ),
            (
                255,
                "ssh: connect to host h port 22: No route to host",
                Cause::Unreachable,
            ),
            (255, "eva@h: Permission denied (publickey).", Cause::KeyRefused),
            (
                255,
                "No ED25519 host key is known for h and you have requested strict checking. | Host key verification failed.",
                Cause::HostUnknown,
            ),
            (
                255,
                "Host key for h has changed and you have requested strict checking. | Host key verification failed.",
                Cause::HostChanged,
            ),
            (
                255,
                "command-line: line 0: Bad configuration option: nonsense",
                Cause::BadOption,
            ),
            (255, "Timeout, server h not responding.", Cause::Lost),
            (255, "", Cause::Killed),
            (127, "sh: 1: agent: not found", Cause::NoCommand),
            (126, "", Cause::NotRunnable),
            (137, "", Cause::Killed),
            (1, "Permission denied (publickey).", Cause::Failed),
            (0, "", Cause::Silent),
        ] {
            assert_eq!(
                Cause::of(Outcome::Exited(status), words),
                cause,
                "{status} {words}"
            );
        }
    }
}
