//! What is done: each workload with its title, the figures that its table shows, and what the charts compare.

use std::fmt;
use std::str::FromStr;

use crate::Result;
use crate::job::Medium;

/// Callbacks for one call.
pub(crate) const CALLBACKS: u32 = 100;
/// Objects that are held at once.
pub(crate) const LIVE: usize = 100_000;
/// How many objects are held while calls are timed.
pub(crate) const HELD: [usize; 4] = [1, 100, 10_000, LIVE];
/// Connections that do nothing.
pub(crate) const IDLE: usize = 1000;
/// Numbers in one stream.
pub(crate) const ITEMS: u64 = 200_000;
/// Structs in one call.
pub(crate) const RECORDS: usize = 10_000;
/// Bytes of one transfer, beside which calls are timed.
pub(crate) const TRANSFER: u64 = 256 << 20;
/// Calls in the long run, and after how many memory is looked at first.
pub(crate) const SOAK: u64 = 10_000_000;
pub(crate) const SOAK_WARM: u64 = 1_000_000;
/// Calls that are under way at a time in it.
pub(crate) const SOAK_IN_FLIGHT: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Empty calls, one at a time.
    Null,
    /// Empty calls, so many at once.
    InFlight(usize),
    /// So many bytes there and back, one call at a time.
    Bytes(usize),
    /// Small structs with strings there and back.
    Structs,
    /// The server calls the client back.
    Callbacks,
    /// An object is made, called once and dropped.
    Objects,
    /// The same with the call made on the promise of the object: one round trip.
    Pipelined,
    /// Numbers that the client takes one by one, and the server makes no faster.
    Items,
    /// Empty calls beside a transfer over the same connection.
    Beside,
    /// A connection is made, used for one empty call and closed.
    Connect,
    /// The carrier is cut, and a call made.
    Resume,
    /// Very many objects of the server's are held at once.
    Live,
    /// Empty calls of objects, while few or very many are held.
    Held,
    /// Very many connections that do nothing.
    Idle,
    /// Very many calls, and what they leave in memory.
    Soak,
    /// What a lone call asks of the system.
    Syscalls,
    /// A call of an object in the same process.
    Local,
}

/// What belongs together in tables and charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Calls,
    Payloads,
    Objects,
    Streams,
    Connections,
    Memory,
    Other,
}

/// A figure that a table shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// What the measurement calls it.
    pub(crate) figure: &'static str,
    pub(crate) title: &'static str,
    /// Whether its ratio to the reference is shown too.
    pub(crate) has_ratio: bool,
}

/// A workload for people: its tables and charts.
pub(crate) struct Declaration {
    pub(crate) group: Group,
    pub(crate) title: String,
    /// The first is what charts show.
    pub(crate) columns: &'static [Column],
    /// Further figures of which there is a chart.
    pub(crate) charts: &'static [&'static str],
}

const fn column(figure: &'static str, title: &'static str) -> Column {
    Column {
        figure,
        title,
        has_ratio: false,
    }
}

const fn compared(figure: &'static str, title: &'static str) -> Column {
    Column {
        figure,
        title,
        has_ratio: true,
    }
}

const RATES: &[Column] = &[
    compared("rate", "per second"),
    column("p50", "p50 µs"),
    column("p99", "p99 µs"),
    compared("cpu", "CPU µs"),
    column("cpu-client", "client"),
    column("cpu-server", "server"),
    column("allocations-client", "allocations, client"),
    column("allocations-server", "server"),
    column("others", "others %"),
];

const LIVES: &[Column] = &[
    column("both", "bytes each, allocated"),
    column("client", "client"),
    column("server", "server"),
    column("resident-client", "resident, client"),
    column("resident-server", "server"),
    column("made", "made per second"),
    column("freed", "dropped per second"),
];

const HELD_COLUMNS: &[Column] = &[
    column("flat", "CPU with 100,000 as a multiple of that with 1"),
    column("cpu-1", "CPU µs, 1"),
    column("cpu-100", "100"),
    column("cpu-10000", "10,000"),
    column("cpu-100000", "100,000"),
    column("p50-1", "p50 µs, 1"),
    column("p50-100", "100"),
    column("p50-10000", "10,000"),
    column("p50-100000", "100,000"),
];

const IDLES: &[Column] = &[
    compared("resident-server", "bytes each, server, resident"),
    column("server", "allocated"),
    column("resident-client", "client, resident"),
    column("client", "allocated"),
];

const BESIDES: &[Column] = &[
    compared("p99", "p99 µs"),
    column("p50", "p50 µs"),
    column("max", "most µs"),
    compared("transfer", "MB/s"),
    column("alone", "alone"),
    column("share", "share of that"),
    column("others", "others %"),
];

const RESUMES: &[Column] = &[
    compared("p50", "p50 µs"),
    column("p99", "p99 µs"),
    column("others", "others %"),
];

const SOAKS: &[Column] = &[
    column("left", "bytes left, allocated, both"),
    column("grown", "bytes per 1,000 calls, resident, both"),
    column("resident-client", "client, at the end"),
    column("resident-server", "server"),
    column("grown-client", "client, grown"),
    column("grown-server", "server, grown"),
    column("rate", "calls per second"),
];

const SYSCALLS: &[Column] = &[
    compared("all", "system calls per call, both sides"),
    column("write-client", "client: writes"),
    column("read-client", "reads"),
    column("wait-client", "waits"),
    column("other-client", "others"),
    column("write-server", "server: writes"),
    column("read-server", "reads"),
    column("wait-server", "waits"),
    column("other-server", "others"),
];

const NANOS: &[Column] = &[compared("nanos", "ns per call")];

impl Workload {
    pub(crate) const ALL: [Self; 23] = [
        Self::Null,
        Self::InFlight(1),
        Self::InFlight(16),
        Self::InFlight(256),
        Self::InFlight(4096),
        Self::Bytes(1 << 10),
        Self::Bytes(1 << 16),
        Self::Bytes(1 << 20),
        // As much as fits into a message of 16 MiB, which is farref's default.
        Self::Bytes((16 << 20) - 1024),
        Self::Structs,
        Self::Callbacks,
        Self::Objects,
        Self::Pipelined,
        Self::Held,
        Self::Items,
        Self::Beside,
        Self::Connect,
        Self::Resume,
        Self::Live,
        Self::Idle,
        Self::Soak,
        Self::Syscalls,
        Self::Local,
    ];

    pub(crate) fn declaration(self) -> Declaration {
        use Group::{Calls, Connections, Memory, Objects, Other, Payloads, Streams};

        let (group, title, columns) = match self {
            Self::Null => (Calls, "null call, one at a time".into(), RATES),
            Self::InFlight(number) => (
                Calls,
                format!("null call, {} in flight", thousands(number as u64)),
                RATES,
            ),
            Self::Bytes(bytes) => (Payloads, format!("echo of {}", binary(bytes)), RATES),
            Self::Structs => (
                Payloads,
                "10,000 small structs with strings, there and back".into(),
                RATES,
            ),
            Self::Callbacks => (Objects, "callbacks, 100 for each call".into(), RATES),
            Self::Objects => (Objects, "an object made, called and dropped".into(), RATES),
            Self::Pipelined => (
                Objects,
                "an object made, called on its promise and dropped".into(),
                RATES,
            ),
            Self::Held => (
                Objects,
                "a call while 1 to 100,000 objects are held".into(),
                HELD_COLUMNS,
            ),
            Self::Items => (Streams, "stream of `u64` with back-pressure".into(), RATES),
            Self::Beside => (Streams, "null call beside a transfer of 256 MiB".into(), BESIDES),
            Self::Connect => (
                Connections,
                "a connection made, used for one call and closed".into(),
                RATES,
            ),
            Self::Resume => (
                Connections,
                "from a cut carrier to the next answer".into(),
                RESUMES,
            ),
            Self::Live => (Memory, "100,000 live objects".into(), LIVES),
            Self::Idle => (Memory, "1,000 idle connections".into(), IDLES),
            Self::Soak => (Memory, "10 million calls, 256 in flight".into(), SOAKS),
            Self::Syscalls => (Other, "system calls of a lone null call".into(), SYSCALLS),
            Self::Local => (Other, "call of a local object".into(), NANOS),
        };
        Declaration {
            group,
            title,
            columns,
            charts: match self {
                Self::Null => &["p99", "cpu"],
                Self::InFlight(256) => &["cpu"],
                _ => &[],
            },
        }
    }

    /// What it is done over. Only TCP has a [relay](crate::measure) that cuts, and only sockets more than one connection.
    pub(crate) const fn media(self) -> &'static [Medium] {
        use Medium::{Mem, Quic, Tcp, Unix};

        match self {
            Self::Beside | Self::Connect | Self::Idle => &[Tcp, Unix, Quic],
            Self::Syscalls => &[Tcp, Unix],
            Self::Resume | Self::Live | Self::Held | Self::Soak => &[Tcp],
            Self::Local => &[Mem],
            _ => &Medium::ALL,
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
            Self::Soak => SOAK_IN_FLIGHT,
            _ => 1,
        }
    }

    /// As how many operations one run counts.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Self::Callbacks => u64::from(CALLBACKS),
            Self::Items => ITEMS,
            _ => 1,
        }
    }
}

impl Group {
    pub(crate) const ALL: [Self; 7] = [
        Self::Calls,
        Self::Payloads,
        Self::Objects,
        Self::Streams,
        Self::Connections,
        Self::Memory,
        Self::Other,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Calls => "Calls",
            Self::Payloads => "Payloads",
            Self::Objects => "Objects",
            Self::Streams => "Streams",
            Self::Connections => "Connections",
            Self::Memory => "Memory",
            Self::Other => "Other",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::InFlight(number) => write!(f, "in-flight-{number}"),
            Self::Bytes(bytes) => write!(f, "bytes-{bytes}"),
            Self::Structs => f.write_str("structs"),
            Self::Callbacks => f.write_str("callbacks"),
            Self::Objects => f.write_str("objects"),
            Self::Pipelined => f.write_str("pipelined"),
            Self::Items => f.write_str("items"),
            Self::Beside => f.write_str("beside"),
            Self::Connect => f.write_str("connect"),
            Self::Resume => f.write_str("resume"),
            Self::Live => f.write_str("live"),
            Self::Held => f.write_str("held"),
            Self::Idle => f.write_str("idle"),
            Self::Soak => f.write_str("soak"),
            Self::Syscalls => f.write_str("syscalls"),
            Self::Local => f.write_str("local"),
        }
    }
}

impl FromStr for Workload {
    type Err = crate::Error;

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

/// Commas between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn binary(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", thousands(bytes as u64 >> 10))
        }
        _ => format!("{bytes} bytes"),
    }
}
