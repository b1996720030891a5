//! Bringing a program to a host that does not have it.
//!
//! Knows the conversation with the script (`bootstrap.sh`): it answers what kind of host it is on, hears which program is
//! wanted, takes that in if it is not there yet, and becomes that program. Nothing is sent to it that it has not asked
//! for, as what a tool reads too much of would be lost to the next.
//!
//! ```text
//!    here                             there
//!     │ ── ssh, script, hash ──────────►│  is it in the cache, and is it what its name says?
//!     │ ◄──────────────── the program ──│  yes: it starts, nothing was asked
//!     │                                 │
//!     │ ◄─────── system, library, .. ───│  no
//!     │ ── hash, size ─────────────────►│  room, right to run?
//!     │ ◄──────────────────────── send ─│
//!     │ ── the file ───────────────────►│  is it what its name says? then it stays
//!     │ ◄──────────────── the program ──│
//! ```

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::agents::{Agent, Agents};
use super::answers::{Answers, Heard};
use super::failure::{Failed, Refusal, Trouble};
use super::platform::{Libc, Needs, Platform};
use crate::carrier::{ByteRx, ByteTx};
use crate::process::{ChildRx, ChildTx};

/// A program that is brought to hosts that do not have it, and started there.
///
/// It is kept there in a directory of the account, `~/.cache/NAME` unless the address says otherwise, under the hash of its
/// content: the next start brings nothing, and another version has another name. The three that were used last are kept.
///
/// ```no_run
/// use farref_transport::Media;
/// use farref_transport::ssh::{Deploy, Ssh};
///
/// // This very program, which is `ours agent` over there.
/// let deploy = Deploy::this_program().on_progress(|progress| {
///     eprintln!("{}: {} of {} bytes", progress.host, progress.sent, progress.total);
/// });
/// let media = Media::standard().with(Ssh::new().deploying(deploy));
/// ```
#[derive(Clone)]
pub struct Deploy {
    pub(super) agents: Agents,
    pub(super) arguments: Vec<String>,
    pub(super) progress: Option<OnProgress>,
}

type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// How far a program is on its way to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The host, as in the address.
    pub host: String,
    /// What was sent, in bytes.
    pub sent: u64,
    /// What there is to send, in bytes.
    pub total: u64,
}

impl Deploy {
    /// The program that runs here, for hosts on which it runs as well; for others files that are called after it and after
    /// the host, `NAME-linux-aarch64`. See [`directory`](Self::directory) for where they are.
    #[must_use]
    pub fn this_program() -> Self {
        let exe = std::env::current_exe().unwrap_or_default();
        let name = exe.file_stem().unwrap_or("farref".as_ref());
        let mut deploy = Self::program(name.to_string_lossy());
        deploy.agents.is_own = true;
        deploy
    }

    /// The program of that name, in files that are called after it and after the host, `NAME-linux-aarch64`; for hosts
    /// like this one also the one that is installed here.
    #[must_use]
    pub fn program(name: impl Into<String>) -> Self {
        Self {
            agents: Agents {
                name: name.into(),
                only: None,
                is_own: false,
                directories: Agents::places(),
            },
            arguments: vec!["agent".to_owned()],
            progress: None,
        }
    }

    /// Starts it with these arguments. Default: `agent`.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// Looks for files in this directory first. Default: in those of the variable `FARREF_AGENTS`, then in
    /// `~/.local/share/farref/agents`, then beside the program that runs here.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.agents.directories.insert(0, directory.into());
        self
    }

    /// Tells how far an upload is: at its start, again and again, and at its end. It is called on a thread of the
    /// runtime, and must not wait.
    #[must_use]
    pub fn on_progress(mut self, told: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told));
        self
    }
}

impl fmt::Debug for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deploy")
            .field("agents", &self.agents)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// The way to a program that runs over there.
pub(super) struct Conversation<'a> {
    pub(super) rx: &'a mut ChildRx,
    pub(super) tx: &'a mut ChildTx,
    pub(super) answers: Answers,
    pub(super) deploy: &'a Deploy,
    /// What is wanted if the host is like this one.
    pub(super) wanted: Option<Agent>,
    pub(super) host: &'a str,
    /// How long nothing may happen.
    pub(super) wait: Duration,
    /// Whether the script has said anything.
    pub(super) has_answered: bool,
}

/// What the host said about itself.
#[derive(Default)]
struct Facts {
    system: String,
    machine: String,
    bits: String,
    libc: String,
    directory: String,
}

impl Conversation<'_> {
    /// Goes on until the program has started; what it said is put back.
    pub(super) async fn hold(&mut self) -> Result<(), Failed> {
        let mut facts = Facts::default();
        let mut chosen = None;
        let mut heard_early = None;
        loop {
            let heard = match heard_early.take() {
                Some(heard) => heard,
                None => self.hear_in_time().await?,
            };
            let answer = match heard {
                Heard::Answer(answer) => answer,
                Heard::Started(behind) => {
                    self.rx.put_back(behind);
                    return Ok(());
                }
            };
            self.has_answered = true;
            let (word, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
            let rest = rest.trim();
            match word {
                "system" => rest.clone_into(&mut facts.system),
                "machine" => rest.clone_into(&mut facts.machine),
                "bits" => rest.clone_into(&mut facts.bits),
                "libc" => rest.clone_into(&mut facts.libc),
                "ready" => {
                    rest.clone_into(&mut facts.directory);
                    let agent = self.choose(&facts).await?;
                    self.say(format!("{} {}\n", agent.hash, agent.size).as_bytes())
                        .await?;
                    chosen = Some(agent);
                }
                "tampered" => tracing::warn!(
                    host = self.host,
                    directory = facts.directory,
                    "the program in the cache of the host is not what its name says: it is brought anew"
                ),
                "send" => {
                    if let Some(agent) = &mut chosen {
                        heard_early = self.upload(agent).await?;
                    }
                }
                "failed" => {
                    let refusal = Refusal::of(rest, facts.directory, chosen.as_ref());
                    return Err(Failed::Trouble(Trouble::Refused(Box::new(refusal))));
                }
                // A word more than is needed does no harm.
                _ => {}
            }
        }
    }

    /// The program for that host.
    async fn choose(&mut self, facts: &Facts) -> Result<Agent, Failed> {
        let Some(platform) = Platform::of(&facts.system, &facts.machine, &facts.bits) else {
            return Err(Failed::Trouble(Trouble::UnknownHost));
        };
        let libc = Libc::of(&facts.libc);
        let (agents, wanted) = (self.deploy.agents.clone(), self.wanted.take());
        let looked = move || {
            let fits = |agent: &Agent| {
                let needs = Needs::of(&agent.file);
                platform == Platform::here() && needs.is_ok_and(|needs| needs.fit(&platform, libc).is_ok())
            };
            match wanted.filter(fits) {
                Some(agent) => Ok(agent),
                None => agents.find(&platform, libc),
            }
        };
        let found = tokio::task::spawn_blocking(looked)
            .await
            .map_err(io::Error::other)?;
        found.map_err(|missing| Failed::Trouble(Trouble::Missing(missing)))
    }

    /// Sends the file; hands out what was heard before that was done, which ends it.
    async fn upload(&mut self, agent: &mut Agent) -> Result<Option<Heard>, Failed> {
        let mut progress = Progress {
            host: self.host.to_owned(),
            sent: 0,
            total: agent.size,
        };
        tracing::info!(
            host = self.host,
            program = %agent.path.display(),
            size = agent.size,
            "brings the program to the host"
        );
        let tell = |progress: &Progress| {
            if let Some(told) = &self.deploy.progress {
                told(progress);
            }
        };
        tell(&progress);
        let mut part = BytesMut::new();
        while progress.sent < progress.total {
            if part.is_empty() {
                part.resize(PART, 0);
                // It was read a moment ago: no disk is waited for.
                let count = agent.file.read(&mut part)?;
                part.truncate(count);
                if count == 0 {
                    // It has become shorter; the host finds that out.
                    break;
                }
            }
            let step = async {
                // Cancel-safe: either leaves what it has in place.
                tokio::select! {
                    biased;
                    heard = hear(self.rx, &mut self.answers) => Err(heard),
                    written = write_some(self.tx, &part) => Ok(written),
                }
            };
            match tokio::time::timeout(self.wait, step)
                .await
                .map_err(|_| Failed::Late)?
            {
                Ok(Ok(count)) => {
                    part.advance(count);
                    progress.sent += count as u64;
                    tell(&progress);
                }
                // The host has hung up, and says why, or ssh does.
                Ok(Err(_)) => return Ok(None),
                Err(heard) => return Ok(Some(heard?)),
            }
        }
        Ok(None)
    }

    async fn say(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            match write_some(self.tx, bytes).await {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                // What is heard next tells why.
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn hear_in_time(&mut self) -> Result<Heard, Failed> {
        let heard = hear(self.rx, &mut self.answers);
        Ok(tokio::time::timeout(self.wait, heard)
            .await
            .map_err(|_| Failed::Late)??)
    }
}

/// The next thing that the host says.
///
/// Cancel-safe: what was read is in `answers`.
async fn hear(rx: &mut ChildRx, answers: &mut Answers) -> io::Result<Heard> {
    loop {
        if let Some(heard) = answers.next() {
            return Ok(heard);
        }
        if answers.is_full() {
            return Err(too_much_noise());
        }
        let mut into = BytesMut::with_capacity(4096);
        if poll_fn(|cx| rx.poll_read(cx, &mut into)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answers.take(&into);
    }
}

/// What there is instead of an answer when too much came.
pub(super) fn too_much_noise() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "more than 64 KiB came without it")
}

/// Writes what goes at once.
///
/// Cancel-safe: nothing is written before the last wait.
async fn write_some(tx: &mut ChildTx, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            written => return written,
        }
    }
}

/// How much of the file is read at once, in bytes.
const PART: usize = 256 * 1024;
