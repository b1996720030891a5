//! One measurement: a workload, done by a contender, over a medium; and how it is told to another process.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;
use crate::contender::{self, Contender};
use crate::workload::Workload;

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) contender: &'static dyn Contender,
    pub(crate) workload: Workload,
    pub(crate) medium: Medium,
    /// Where the client and the server run; `None`: as the scheduler likes.
    pub(crate) cpus: [Option<usize>; 2],
    pub(crate) duration: Duration,
    /// What the reference moves.
    pub(crate) sizes: Sizes,
}

/// What it goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Loopback, without encryption.
    Tcp,
    /// A Unix socket.
    Unix,
    /// UDP over loopback, with QUIC's encryption.
    Quic,
    /// Standard input and output of a child.
    Stdio,
    /// Both ends in one process, on a runtime each.
    Mem,
}

/// On which CPUs the two processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// As the scheduler likes.
    None,
    /// Both on one: a wake-up is a switch, what remains is the work.
    Same,
    /// Each on its own: a wake-up crosses CPUs.
    Split,
}

/// Bytes that one round trip of farref's puts on the wire each way; both 0: find out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) reply: usize,
}

impl Medium {
    pub(crate) const ALL: [Self; 5] = [Self::Tcp, Self::Unix, Self::Quic, Self::Stdio, Self::Mem];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Quic => "quic",
            Self::Stdio => "stdio",
            Self::Mem => "mem",
        }
    }
}

impl Pin {
    const ALL: [Self; 3] = [Self::None, Self::Same, Self::Split];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Same => "same",
            Self::Split => "split",
        }
    }

    /// Of the CPUs that this process may use, those for the client and the server.
    pub(crate) fn cpus(self) -> Result<[Option<usize>; 2]> {
        let allowed = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let first = cpus.next();
        let last = cpus.next_back().or(first);
        Ok(match self {
            Self::None => [None; 2],
            Self::Same => [last; 2],
            Self::Split => [first, last],
        })
    }
}

/// Confines this thread, and what it starts, to one CPU.
pub(crate) fn confine(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

impl Job {
    /// As the arguments of another process of this program.
    pub(crate) fn to_arguments(self) -> [String; 8] {
        let cpu = |cpu: Option<usize>| cpu.map_or_else(|| "any".into(), |cpu| cpu.to_string());
        [
            self.contender.name().to_owned(),
            self.workload.to_string(),
            self.medium.to_string(),
            cpu(self.cpus[0]),
            cpu(self.cpus[1]),
            self.duration.as_millis().to_string(),
            self.sizes.request.to_string(),
            self.sizes.reply.to_string(),
        ]
    }

    pub(crate) fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [contender, workload, medium, near, far, duration, request, reply] = arguments else {
            return Err("client and server are started by the program itself: try --help".into());
        };
        let cpu = |cpu: &str| {
            if cpu == "any" {
                return Result::Ok(None);
            }
            Ok(Some(cpu.parse()?))
        };
        Ok(Self {
            contender: contender::named(contender)?,
            workload: workload.parse()?,
            medium: medium.parse()?,
            cpus: [cpu(near)?, cpu(far)?],
            duration: Duration::from_millis(duration.parse()?),
            sizes: Sizes {
                request: request.parse()?,
                reply: reply.parse()?,
            },
        })
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Medium {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|medium| medium.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no medium is called `{text}`: {names}").into()
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pin {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|pin| pin.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no way to pin is called `{text}`: {names}").into()
        })
    }
}
