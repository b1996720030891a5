//! The last of what a program logs, kept for whoever asks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use farref_boxing::Result;
use farref_netref::stream::Sender;
use farref_netref::{Netref, Stream, remote};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::{Level, LogFilter, LogRecord, Logs};

/// The last records of a program: a layer of its `tracing` subscriber that keeps them, and a service that shows them.
///
/// ```
/// use farref_services::logs::{LogFilter, LogRing};
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::Registry;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), farref_netref::Error> {
/// let ring = LogRing::new(1000);
/// let subscriber = Registry::default().with(ring.clone());
/// tracing::subscriber::with_default(subscriber, || tracing::info!(answer = 42, "hello"));
///
/// let recent = ring.share().recent(LogFilter::default(), 10).await?;
/// assert_eq!((recent[0].message.as_str(), recent[0].fields["answer"].as_str()), ("hello", "42"));
/// # Ok(())
/// # }
/// ```
///
/// Texts are cut off after 4 KiB, and a record has 32 fields at most. Clones are the same ring.
#[derive(Clone)]
pub struct LogRing(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    /// The number of the last record.
    last: watch::Sender<u64>,
    capacity: usize,
    least: Level,
}

/// # Invariant
///
/// The numbers of `records` follow one another, up to `last`.
#[derive(Default)]
struct Kept {
    records: VecDeque<Arc<LogRecord>>,
    last: u64,
}

/// Most bytes of one text of a record.
const LONGEST: usize = 4 << 10;
/// Most fields of one record.
const FIELDS: usize = 32;
/// Records that may wait for one reader, besides those that are kept.
const WAITING: usize = 64;

impl LogRing {
    /// Keeps `capacity` records, at least 1; those at least that are [`Info`](Level::Info).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_level(capacity, Level::Info)
    }

    /// Keeps records that are at least that grave.
    ///
    /// With [`Trace`](Level::Trace), sending a record from here is logged in its turn: whoever follows all of it from afar
    /// has no rest.
    #[must_use]
    pub fn with_level(capacity: usize, least: Level) -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            last: watch::Sender::new(0),
            capacity: capacity.max(1),
            least,
        }))
    }

    /// Shares what it keeps.
    #[must_use]
    pub fn share(&self) -> Netref<dyn Logs> {
        Netref::of(self.clone())
    }

    /// Adds a record by hand: for a program that logs otherwise.
    pub fn record(&self, level: Level, target: &str, message: &str, fields: BTreeMap<String, String>) {
        if level < self.0.least {
            return;
        }
        let fields = fields.into_iter().take(FIELDS);
        let record = LogRecord {
            number: 0,
            time: SystemTime::now().into(),
            level,
            target: cut(target),
            message: cut(message),
            fields: fields.map(|(name, value)| (name, cut(&value))).collect(),
        };
        let last = {
            let mut kept = self.kept();
            kept.last = kept.last.saturating_add(1);
            let number = kept.last;
            if kept.records.len() >= self.0.capacity {
                kept.records.pop_front();
            }
            kept.records.push_back(Arc::new(LogRecord { number, ..record }));
            number
        };
        self.0.last.send_modify(|told| *told = last.max(*told));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next records behind `after` that are wanted, and how far that goes.
    fn next(&self, filter: &LogFilter, after: u64) -> (Vec<Arc<LogRecord>>, u64) {
        let kept = self.kept();
        let first = kept.last.saturating_sub(kept.records.len() as u64);
        let skipped = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
        let (mut records, mut at) = (Vec::new(), after.min(kept.last).max(first));
        for record in kept.records.iter().skip(skipped) {
            if records.len() >= WAITING {
                break;
            }
            at = record.number;
            if filter.matches(record.level, &record.target) {
                records.push(Arc::clone(record));
            }
        }
        (records, at)
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    text.get(..end).unwrap_or_default().to_owned()
}

#[remote]
impl Logs for LogRing {
    async fn recent(&self, filter: LogFilter, most: u32) -> Result<Vec<LogRecord>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut recent: Vec<_> = {
            let kept = self.kept();
            let wanted = kept.records.iter().rev();
            let wanted = wanted.filter(|record| filter.matches(record.level, &record.target));
            // The answer is one message.
            let mut room = 1_usize << 20;
            let fits = |record: &&Arc<LogRecord>| {
                room = room.saturating_sub(size(record));
                room > 0
            };
            wanted.take(most).take_while(fits).map(Arc::clone).collect()
        };
        recent.reverse();
        Ok(recent.iter().map(|record| LogRecord::clone(record)).collect())
    }

    async fn follow(&self, filter: LogFilter, after: Option<u64>) -> Result<Stream<LogRecord>> {
        let (sender, records) = Stream::channel(WAITING);
        let after = after.unwrap_or_else(|| self.kept().last);
        tokio::spawn(send(self.clone(), filter, after, sender));
        Ok(records)
    }
}

fn size(record: &LogRecord) -> usize {
    let fields = record
        .fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 16);
    64 + record.target.len() + record.message.len() + fields.sum::<usize>()
}

async fn send(ring: LogRing, filter: LogFilter, mut at: u64, mut sender: Sender<LogRecord>) {
    let mut last = ring.0.last.subscribe();
    loop {
        last.mark_unchanged();
        let (records, next) = ring.next(&filter, at);
        let went_on = next != at;
        at = next;
        for record in records {
            if sender.send(LogRecord::clone(&record)).await.is_err() {
                return;
            }
        }
        if went_on {
            continue;
        }
        tokio::select! {
            changed = last.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

impl<S: Subscriber> Layer<S> for LogRing {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = Level::from(*event.metadata().level());
        if level < self.0.least {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        self.record(level, event.metadata().target(), &seen.message, seen.fields);
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Seen {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Short(String::new());
        // It ends early if it is long.
        _ = write!(text, "{value:?}");
        self.put(field, text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, cut(value));
    }
}

impl Seen {
    fn put(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else if self.fields.len() < FIELDS {
            self.fields.insert(field.name().to_owned(), text);
        }
    }
}

/// Text that takes no more than a record keeps.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        let end = text.floor_char_boundary(room);
        self.0.push_str(text.get(..end).unwrap_or_default());
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl fmt::Debug for LogRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRing")
            .field("capacity", &self.0.capacity)
            .field("least", &self.0.least)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn say(ring: &LogRing, level: Level, target: &str, message: &str) {
        ring.record(level, target, message, BTreeMap::new());
    }

    fn messages(records: Vec<LogRecord>) -> Vec<String> {
        records.into_iter().map(|record| record.message).collect()
    }

    #[tokio::test]
    async fn the_last_records_are_kept_and_filtered() -> Result<()> {
        let ring = LogRing::new(3);
        for (level, target, message) in [
            (Level::Info, "a", "gone"),
            (Level::Debug, "a", "not grave enough"),
            (Level::Info, "a::b", "one"),
            (Level::Error, "ab", "two"),
            (Level::Warn, "a", "three"),
        ] {
            say(&ring, level, target, message);
        }
        let logs = ring.share();
        let all = logs.recent(LogFilter::default(), 9).await?;
        assert_eq!(
            all.iter().map(|record| record.number).collect::<Vec<_>>(),
            [2, 3, 4]
        );
        let below = LogFilter {
            level: None,
            targets: vec!["a".into()],
        };
        assert_eq!(messages(logs.recent(below, 9).await?), ["one", "three"]);
        let grave = LogFilter {
            level: Some(Level::Warn),
            targets: Vec::new(),
        };
        assert_eq!(messages(logs.recent(grave, 1).await?), ["three"]);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_logged_is_followed() -> Result<()> {
        let ring = LogRing::new(8);
        say(&ring, Level::Info, "a", "before");
        let logs = ring.share();
        let mut all = logs.follow(LogFilter::default(), Some(0)).await?;
        let mut new = logs.follow(LogFilter::default(), None).await?;
        assert_eq!(all.next().await.unwrap()?.message, "before");
        let subscriber = Registry::default().with(ring.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(count = 3, name = "x", "from {}", "tracing");
            tracing::debug!("not kept");
        });
        let record = new.next().await.unwrap()?;
        assert_eq!(
            (record.message.as_str(), record.level),
            ("from tracing", Level::Warn)
        );
        assert_eq!(
            record.fields,
            BTreeMap::from([("count".into(), "3".into()), ("name".into(), "x".into())])
        );
        assert_eq!(all.next().await.unwrap()?, record);
        // Who is too slow misses some, and can tell.
        for number in 0..1000 {
            say(&ring, Level::Info, "a", &number.to_string());
        }
        let mut last = record.number;
        while last < 1002 {
            let record = all.next().await.unwrap()?;
            assert!(record.number > last);
            last = record.number;
        }
        Ok(())
    }

    #[test]
    fn a_record_has_its_bounds() {
        let ring = LogRing::new(1);
        let long = "é".repeat(LONGEST);
        ring.record(
            Level::Info,
            &long,
            &long,
            BTreeMap::from([("x".into(), long.clone())]),
        );
        let subscriber = Registry::default().with(ring.clone());
        let check = || {
            let kept = ring.kept();
            let record = kept.records.back().unwrap();
            assert!(record.message.len() <= LONGEST && record.fields["x"].len() <= LONGEST);
            assert_eq!(kept.records.len(), 1);
        };
        check();
        tracing::subscriber::with_default(subscriber, || tracing::info!(x = ?long, "{long}"));
        check();
    }
}
