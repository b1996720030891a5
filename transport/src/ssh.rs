//! Programs on other hosts as peers: `ssh:` has the system's ssh start one, and brings it along if it is not there, or
//! leads to one that listens there at a port of its loopback.
//!
//! Knows the command line of ssh, and how to find the start of the program behind what a login shell prints. How a
//! program is brought is in `ssh/deploy`, what it means when ssh fails in `ssh/failure`. Keys, jump hosts, agents and
//! known hosts are ssh's own business, by the user's configuration; nothing here weakens its checks. The life of the local
//! ssh is in [`process`](crate::process).
//!
//! | option      | default    | meaning                                                                 |
//! |-------------|------------|-------------------------------------------------------------------------|
//! | `command=`  | none       | what to run over there, one line as for `sh`: `agent%20--stdio`. Without, a program is brought ([`Deploy`]) |
//! | `batch=`    | 1          | ask the user nothing; with 0, ssh may ask on the terminal                 |
//! | `config=`   | the user's | another configuration file for ssh; `none` for none                     |
//! | `identity=` | the user's | the file of the only key to offer                                         |
//! | `opt=`      | none       | an option for ssh, `Name=value`; repeated; comes before our own           |
//! | `to=`       | none       | nothing is run: the port of the far host's loopback, 1 to 65535, where a program listens that is to be reached by the tunnel (`ssh -W`) |
//! | `token=`    | 1          | the command says a token first, as every `stdio:` does; with 0 it is any program, and a login shell that prints something is in its way |
//! | `wait=`     | 30s        | how long the start may take; of an upload, how long it may stand still      |
//!
//! Where a program is brought:
//!
//! | option     | default         | meaning                                                              |
//! |------------|-----------------|----------------------------------------------------------------------|
//! | `agent=`   | auto            | the file to bring, here; by itself the one that is right for the host    |
//! | `arg=`     | `agent`         | an argument to start it with; repeated, in order                         |
//! | `deploy=`  | auto            | `auto` if it is not there yet, `always`, or `never`: it must be there      |
//! | `path=`    | `~/.cache/NAME` | where it is kept over there; `~/` is the home of the account               |
//! | `persist=` | 1               | what runs over there outlives its ssh, and waits for the next; with 0 it ends with it |
//!
//! Our own options: no terminal, no forwarding of anything, 10 s to connect, a sign of life every 15 s of
//! silence (the carrier ends after 45 s without), no sharing of connections.
//!
//! A carrier by way of `to=` is handed out before the host has answered, since ssh does not say when the tunnel is there:
//! why it never was is the error of the first read.
//!
//! The command is run by `sh`, whatever the account's login shell. When the carrier is dropped its standard
//! input ends; a program that does not care for that is left alone over there.

mod agents;
mod answers;
mod deploy;
mod failure;
mod line;
mod platform;
mod script;

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
use crate::process::{ChildRx, Explain, Process, Stderr, printable};
use crate::token::{Search, Token};

use agents::{Agent, Agents};
use answers::Answers;
use deploy::{Conversation, too_much_noise};
pub use deploy::{Deploy, Progress};
use failure::{Cause, Failed, NotStarted, Trouble};
use line::wrapped;
use platform::{Libc, Platform};
use script::{Script, Upload};

/// The medium `ssh`. It can be dialled only.
#[derive(Clone, Debug)]
pub struct Ssh {
    program: OsString,
    deploy: Deploy,
}

impl Ssh {
    /// The `ssh` that is found in `PATH`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_program("ssh")
    }

    /// Another program that takes the same arguments.
    #[must_use]
    pub fn with_program(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            deploy: Deploy::program("farref"),
        }
    }

    /// Brings this program to hosts for which the address names no command. Default: the program `farref`, if it is
    /// installed here or lies where [`Deploy`] looks for it.
    #[must_use]
    pub fn deploying(mut self, deploy: Deploy) -> Self {
        self.deploy = deploy;
        self
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
            let plan =
                Plan::of(address, &self.deploy).map_err(|source| DialError::from_io(address, source))?;
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
    start: Start,
}

/// What is to be started over there.
enum Start {
    /// A command, which says this token first if it knows of tokens.
    Command(String, Option<Token>),
    /// Nothing: somebody listens at this port of its loopback.
    Tunnel(u16),
    Brought(Brought),
}

/// A program that is brought, if need be.
struct Brought {
    deploy: Deploy,
    upload: Upload,
    /// Where it is kept over there.
    directory: Option<String>,
    persists: bool,
    token: Token,
}

impl<'a> Plan<'a> {
    fn of(address: &'a Address, deploy: &Deploy) -> io::Result<Self> {
        let Target::Ssh { user, host, port } = address.target() else {
            return Err(misuse("not an address of ssh"));
        };
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
        Ok(Self {
            address,
            user,
            host,
            port: *port,
            start: Start::of(address, deploy)?,
        })
    }

    /// Starts ssh, and waits until the program over there has spoken.
    ///
    /// Cancel-safe: what is started ends with the future.
    async fn dial(&self, program: &OsString) -> Result<Carrier, DialError> {
        let wanted = match &self.start {
            Start::Brought(brought) => brought.wanted().await,
            Start::Command(..) | Start::Tunnel(_) => None,
        };
        let process = self.process(program, self.remote(wanted.as_ref()));
        let (mut rx, mut tx, mut lifeline) = process.start().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.no_ssh(),
            _ => DialError::from_io(self.address, source),
        })?;
        let patience = lifeline.hurry();
        let wait = self.address.duration("wait").unwrap_or(WAIT);
        let start = async {
            match &self.start {
                Start::Command(_, None) | Start::Tunnel(_) => Ok(()),
                Start::Command(_, Some(token)) => find(&mut rx, &mut Search::new(token), wait).await,
                Start::Brought(brought) => {
                    let mut conversation = Conversation {
                        rx: &mut rx,
                        tx: &mut tx,
                        answers: Answers::of(&brought.token),
                        deploy: &brought.deploy,
                        wanted,
                        host: &self.host,
                        wait,
                        has_answered: false,
                    };
                    let held = conversation.hold().await;
                    held.map_err(|failed| NotStarted {
                        failed,
                        noise: printable(&conversation.answers.noise()),
                        wait,
                        script: Some(conversation.has_answered),
                    })
                }
            }
        };
        let account = async { Ok(self.account(program).await) };
        let ((), user) = tokio::try_join!(start, account).map_err(|told| self.not_started(told))?;
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

    /// The line for the login shell over there, if there is to be one; `wanted` is the program that is brought, if the host is like this one.
    fn remote(&self, wanted: Option<&Agent>) -> Option<String> {
        let brought = match &self.start {
            Start::Command(command, None) => return Some(command.clone()),
            Start::Command(command, Some(token)) => return Some(wrapped(command, token)),
            Start::Tunnel(_) => return None,
            Start::Brought(brought) => brought,
        };
        let system = rustix::system::uname();
        let system = [system.sysname(), system.machine()].map(|word| word.to_string_lossy().into_owned());
        let system = system.join(" ");
        let script = Script {
            token: &brought.token,
            name: &brought.deploy.agents.name,
            directory: brought.directory.as_deref(),
            upload: brought.upload,
            wanted: wanted.map(|agent| (agent.hash.as_str(), system.as_str())),
            persists: brought.persists,
            arguments: &brought.deploy.arguments,
        };
        Some(script.line())
    }

    fn process(&self, program: &OsString, remote: Option<String>) -> Process {
        let explain: Explain = match self.start {
            Start::Command(..) => |outcome, words| Cause::of(outcome, words).meaning(),
            Start::Tunnel(_) => |outcome, words| Cause::of(outcome, words).meaning_of_tunnel(),
            Start::Brought(_) => |outcome, words| Cause::of(outcome, words).meaning_of_brought(),
        };
        let mut command = Command::new(program);
        command.args(["-T", "-x", "-a"]);
        self.arguments(&mut command);
        if let Start::Tunnel(port) = self.start {
            command.args(["-W", &format!("127.0.0.1:{port}")]);
        }
        command.args(["--", &self.host]);
        command.args(remote);
        Process::new(command)
            .name(format!("ssh to {}", self.host))
            .stderr(Stderr::Log)
            .own_group(self.is_batch())
            .explain(explain)
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
        let cause = told.failed.cause(told.noise.is_empty());
        let is_brought = told.script.is_some();
        let address = Box::new(self.address.clone());
        let is_ours = matches!(&told.failed, Failed::Trouble(Trouble::Missing(_)));
        let is_theirs = matches!(&told.failed, Failed::Trouble(_));
        let source = io::Error::other(told);
        match cause {
            _ if is_ours => DialError::Address { address, source },
            _ if is_theirs => DialError::NotStarted { address, source },
            Cause::Unresolved => DialError::Unresolved { address, source },
            Cause::Refused | Cause::NoPort => DialError::NotListening { address, source },
            Cause::HostUnknown | Cause::HostChanged => DialError::Untrusted { address, source },
            Cause::KeyRefused | Cause::NoTunnel => DialError::NotPermitted { address, source },
            Cause::Unreachable | Cause::Lost => DialError::Unreachable { address, source },
            Cause::BadOption => DialError::Address { address, source },
            Cause::OldLibrary | Cause::NoShell => DialError::NotStarted { address, source },
            Cause::NoCommand | Cause::NotRunnable | Cause::Failed | Cause::Silent if is_brought => {
                DialError::NotStarted { address, source }
            }
            Cause::NotRunnable => DialError::NotPermitted { address, source },
            Cause::NoCommand | Cause::Failed | Cause::Silent => DialError::Address { address, source },
            Cause::Killed | Cause::SshKilled | Cause::Other => DialError::System { address, source },
        }
    }
}

impl Start {
    fn of(address: &Address, deploy: &Deploy) -> io::Result<Self> {
        for (name, value) in address.options() {
            if value.contains(['\n', '\r', '\0']) {
                return Err(misuse(format!("`{name}=` must be one line")));
            }
        }
        let beside = |name: &&str| address.option(name).is_some();
        if let Some(port) = address.number("to").and_then(|port| u16::try_from(port).ok()) {
            let of_start = OF_BROUGHT.into_iter().chain(["command", "token"]);
            if let Some(name) = { of_start }.find(beside) {
                return Err(misuse(format!(
                    "`to=` leads to a program that runs already, and `{name}=` is about one to be started: leave one of \
                     them out"
                )));
            }
            return Ok(Self::Tunnel(port));
        }
        let Some(command) = address.option("command") else {
            return Brought::of(address, deploy).map(Self::Brought);
        };
        if let Some(name) = OF_BROUGHT.into_iter().find(beside) {
            return Err(misuse(format!(
                "`command=` names a program that is there, and `{name}=` one that is brought: leave one of them out"
            )));
        }
        let token = match address.option("token") {
            Some("0") => None,
            _ => Some(Token::random()?),
        };
        Ok(Self::Command(command.to_owned(), token))
    }
}

impl Brought {
    fn of(address: &Address, deploy: &Deploy) -> io::Result<Self> {
        let mut deploy = deploy.clone();
        if let Some(agent) = address.option("agent").filter(|agent| *agent != "auto") {
            deploy.agents.only = Some(agent.into());
        }
        let arguments = address.options().filter(|(name, _)| *name == "arg");
        let arguments: Vec<_> = arguments.map(|(_, value)| value.to_owned()).collect();
        if !arguments.is_empty() {
            deploy.arguments = arguments;
        }
        Ok(Self {
            deploy,
            upload: Upload::of(address.option("deploy")),
            directory: address.option("path").map(ToOwned::to_owned),
            persists: address.option("persist") != Some("0"),
            token: Token::random()?,
        })
    }

    /// What is wanted if the host is like this one.
    async fn wanted(&self) -> Option<Agent> {
        let agents: Agents = self.deploy.agents.clone();
        let looked = tokio::task::spawn_blocking(move || agents.find(&Platform::here(), Libc::Unknown));
        looked.await.ok()?.ok()
    }
}

/// Reads until behind the token.
///
/// Not cancel-safe: what was read is in `search`.
async fn find(rx: &mut ChildRx, search: &mut Search, wait: Duration) -> Result<(), NotStarted> {
    let found = async {
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
                return Err(too_much_noise());
            }
        }
    };
    let failed = match tokio::time::timeout(wait, found).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => Failed::Carrier(error),
        Err(_) => Failed::Late,
    };
    Err(NotStarted {
        failed,
        noise: printable(search.noise()),
        wait,
        script: None,
    })
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

/// Options of the address that are about a program that is brought.
const OF_BROUGHT: [&str; 5] = ["agent", "arg", "deploy", "path", "persist"];

/// How long a start may take.
const WAIT: Duration = Duration::from_secs(30);

/// How much of ssh's configuration is read to find the account in it, in bytes.
const MOST_CONFIGURED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::Media;
    use crate::testing::block_on;
    use std::error::Error;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn arguments(text: &str) -> Vec<String> {
        let address = address(text);
        let plan = Plan::of(&address, &Deploy::program("farref")).unwrap();
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
    fn a_command_a_port_and_a_program_that_is_brought_exclude_each_other() {
        for (text, told) in [
            ("ssh://rig7?command=a%0Ab", "one line"),
            ("ssh://rig7?path=a%0Ab", "one line"),
            ("ssh://rig7?command=x&deploy=auto", "`deploy=`"),
            ("ssh://rig7?command=x&persist=1", "`persist=`"),
            ("ssh://rig7?to=7000&command=x", "`command=`"),
            ("ssh://rig7?to=7000&path=x", "`path=`"),
            ("rpyc+ssh://rig7?to=7000&token=0", "`token=`"),
        ] {
            let error = block_on(Media::standard().dial(&address(text))).unwrap_err();
            assert!(matches!(error, DialError::Address { .. }) && !error.is_transient());
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(told), "{cause}");
        }
    }

    #[test]
    fn the_options_of_what_is_brought_come_before_those_of_the_program() {
        let text = "ssh://rig7?agent=/x&arg=serve&arg=-v&deploy=never&path=~/y&persist=0";
        let brought = Brought::of(&address(text), &Deploy::this_program()).unwrap();
        let agents = brought.deploy.agents;
        assert_eq!(
            (agents.only.as_deref(), agents.is_own),
            (Some("/x".as_ref()), true)
        );
        assert_eq!(brought.deploy.arguments, ["serve", "-v"]);
        assert_eq!((brought.upload, brought.persists), (Upload::Never, false));
        assert_eq!(brought.directory.as_deref(), Some("~/y"));
        let plain = Brought::of(&address("ssh://rig7"), &Deploy::this_program().arguments(["x"])).unwrap();
        assert_eq!(plain.deploy.arguments, ["x"]);
        assert_eq!((plain.upload, plain.persists), (Upload::Auto, true));
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
