//! What is measured: a workload, done by a contender, over a medium.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Result;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The reference: tokio, one task per side, the bytes of farref's messages, two workers.
    Echo,
    /// The same on a current-thread runtime.
    EchoSingle,
    /// Blocking sockets and no runtime.
    Std,
    /// `netref.call()`, two workers.
    Farref,
    /// The same without a session: the connection ends with its carrier.
    FarrefUnkept,
    /// The same on a current-thread runtime.
    FarrefSingle,
    /// `netref.blocking()` of an async method, on a plain thread.
    FarrefBlocking,
    /// The same, and a thread of its own drives the connection at the server.
    FarrefThreads,
    /// A blocking method, on a plain thread: it runs on the server's pool.
    FarrefPooled,
    /// A call through `Arc<dyn Trait>`.
    Arc,
    /// A call through a local `Netref<dyn Trait>`.
    Netref,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Empty calls, one at a time.
    Null,
    /// Empty calls, so many at once.
    InFlight(usize),
    /// So many bytes there and back, one call at a time.
    Bytes(usize),
    /// The server calls the client back.
    Callbacks,
    /// An object is made, called once and dropped.
    Objects,
    /// The same with the call made on the promise of the object: one round trip.
    Pipelined,
    /// Very many objects of the server's are held at once.
    Live,
    /// A call of an object in the same process.
    Local,
}

/// What it goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Loopback, without encryption.
    Tcp,
    /// A Unix socket.
    Unix,
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

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) contender: Contender,
    pub(crate) workload: Workload,
    pub(crate) medium: Medium,
    pub(crate) pin: Pin,
    pub(crate) duration: Duration,
    /// Bytes of a request and of its reply; both 0: find out.
    pub(crate) sizes: Sizes,
}

/// What one round trip of farref's costs on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) reply: usize,
}

impl Contender {
    const ALL: [Self; 11] = [
        Self::Echo,
        Self::EchoSingle,
        Self::Std,
        Self::Farref,
        Self::FarrefUnkept,
        Self::FarrefSingle,
        Self::FarrefBlocking,
        Self::FarrefThreads,
        Self::FarrefPooled,
        Self::Arc,
        Self::Netref,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoSingle => "echo-ct",
            Self::Std => "std",
            Self::Farref => "farref",
            Self::FarrefUnkept => "farref-unkept",
            Self::FarrefSingle => "farref-ct",
            Self::FarrefBlocking => "farref-blocking",
            Self::FarrefThreads => "farref-threads",
            Self::FarrefPooled => "farref-pooled",
            Self::Arc => "arc",
            Self::Netref => "netref",
        }
    }

    /// Whether it speaks farref, rather than bytes.
    pub(crate) const fn is_farref(self) -> bool {
        matches!(
            self,
            Self::Farref
                | Self::FarrefUnkept
                | Self::FarrefSingle
                | Self::FarrefBlocking
                | Self::FarrefThreads
                | Self::FarrefPooled
        )
    }

    pub(crate) fn runtime(self) -> Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::EchoSingle | Self::FarrefSingle => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        Ok(builder.worker_threads(2).enable_all().build()?)
    }
}

impl Workload {
    pub(crate) const ALL: [Self; 11] = [
        Self::Null,
        Self::InFlight(16),
        Self::InFlight(256),
        Self::Bytes(1 << 10),
        Self::Bytes(1 << 16),
        Self::Bytes(1 << 20),
        Self::Callbacks,
        Self::Objects,
        Self::Pipelined,
        Self::Live,
        Self::Local,
    ];

    /// Who can do it; the first is the reference.
    pub(crate) const fn contenders(self) -> &'static [Contender] {
        use Contender::{
            Arc, Echo, EchoSingle, Farref, FarrefBlocking, FarrefPooled, FarrefSingle, FarrefThreads,
            FarrefUnkept, Netref, Std,
        };
        match self {
            Self::Null => &[
                Echo,
                EchoSingle,
                Std,
                Farref,
                FarrefUnkept,
                FarrefSingle,
                FarrefBlocking,
                FarrefThreads,
                FarrefPooled,
            ],
            Self::InFlight(_) | Self::Bytes(_) => {
                &[Echo, EchoSingle, Std, Farref, FarrefUnkept, FarrefSingle]
            }
            Self::Callbacks | Self::Objects | Self::Pipelined => &[Echo, Farref, FarrefSingle],
            Self::Live => &[Farref],
            Self::Local => &[Arc, Netref],
        }
    }

    /// Round trips that the reference makes for one operation.
    pub(crate) const fn round_trips(self) -> usize {
        match self {
            Self::Objects | Self::Pipelined => 2,
            _ => 1,
        }
    }

    /// Calls that are under way at a time.
    pub(crate) const fn in_flight(self) -> usize {
        match self {
            Self::InFlight(number) => number,
            _ => 1,
        }
    }

    /// Whether anything is compared with an echo of the same bytes.
    pub(crate) const fn has_echo(self) -> bool {
        !matches!(self, Self::Live | Self::Local)
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Null => "null call, one at a time".into(),
            Self::InFlight(number) => format!("null call, {number} in flight"),
            Self::Bytes(bytes) => format!("echo of {bytes} bytes, one at a time"),
            Self::Callbacks => "callbacks, 100 for each call".into(),
            Self::Objects => "an object made, called and dropped".into(),
            Self::Pipelined => "an object made, called on its promise and dropped".into(),
            Self::Live => "100,000 live netrefs".into(),
            Self::Local => "call of a local object".into(),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Contender {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == text);
        found.ok_or_else(|| {
            format!(
                "no contender is called `{text}`: {}",
                Self::ALL.map(Self::name).join(", ")
            )
            .into()
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::InFlight(number) => write!(f, "in-flight-{number}"),
            Self::Bytes(bytes) => write!(f, "bytes-{bytes}"),
            Self::Callbacks => f.write_str("callbacks"),
            Self::Objects => f.write_str("objects"),
            Self::Pipelined => f.write_str("pipelined"),
            Self::Live => f.write_str("live"),
            Self::Local => f.write_str("local"),
        }
    }
}

impl FromStr for Workload {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(number) = text.strip_prefix("in-flight-") {
            return Ok(Self::InFlight(number.parse::<usize>()?.max(1)));
        }
        if let Some(bytes) = text.strip_prefix("bytes-") {
            return Ok(Self::Bytes(bytes.parse()?));
        }
        let found = Self::ALL
            .into_iter()
            .find(|workload| workload.to_string() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|workload| workload.to_string()).join(", ");
            format!("no workload is called `{text}`: {names}, and these with other numbers").into()
        })
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        })
    }
}

impl FromStr for Medium {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "unix" => Ok(Self::Unix),
            _ => Err(format!("no medium is called `{text}`: tcp, unix").into()),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Same => "same",
            Self::Split => "split",
        })
    }
}

impl FromStr for Pin {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "same" => Ok(Self::Same),
            "split" => Ok(Self::Split),
            _ => Err(format!("no way to pin is called `{text}`: none, same, split").into()),
        }
    }
}

impl Job {
    /// As the arguments of another process of this program.
    pub(crate) fn to_arguments(self) -> [String; 7] {
        let Self {
            contender,
            workload,
            medium,
            pin,
            duration,
            sizes,
        } = self;
        [
            contender.to_string(),
            workload.to_string(),
            medium.to_string(),
            pin.to_string(),
            duration.as_millis().to_string(),
            sizes.request.to_string(),
            sizes.reply.to_string(),
        ]
    }

    pub(crate) fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [contender, workload, medium, pin, duration, request, reply] = arguments else {
            return Err("client and server are started by the program itself: try --help".into());
        };
        Ok(Self {
            contender: contender.parse()?,
            workload: workload.parse()?,
            medium: medium.parse()?,
            pin: pin.parse()?,
            duration: Duration::from_millis(duration.parse()?),
            sizes: Sizes {
                request: request.parse()?,
                reply: reply.parse()?,
            },
        })
    }
}
