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

mod failure;
mod line;

use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::process::Command;
use std::time::Duration;

use bytes::BytesMut;

use crate::address::{Address, Host, Target};
use crate::carrier::{BoxFuture, ByteRx, Carrier, CarrierInfo, PeerEvidence, StreamCarrier};
use crate::error::{Absence, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::process::{ChildRx, Process, Stderr, ended, printable};
use crate::token::{Search, Token};

use failure::{Cause, NotStarted};
use line::wrapped;

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

fn misuse(told: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, told.into())
}

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

#[cfg(test)]
mod tests {
    use std::error::Error;
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
}
