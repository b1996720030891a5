//! Who holds what: the tables of a connection, for people.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farref_framing::Nanos;

use crate::clock;
use crate::interface::known;
use crate::peer::Peer;
use crate::protocol::{Held, MethodId, Tables, Underway};
use crate::remote::EngineHandles;

/// What either side of a connection holds of the other, and what is under way: see
/// [`Connection::holdings`](crate::Connection::holdings).
///
/// Printed, it is a table with a line for each type and origin, those with the most first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Holdings {
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// Objects of ours that the peer holds, the root included. Streams that it reads are among them.
    pub exports: Vec<Holding>,
    /// Objects of the peer's that this side holds. Streams that are read here are among them.
    pub imports: Vec<Holding>,
    /// Calls to the peer that are not over, if they are tracked.
    pub calls: Vec<Pending>,
    /// Calls of the peer's that are not over, if they are tracked.
    pub answers: Vec<Pending>,
    /// What may keep itself alive.
    pub cycles: Vec<Cycle>,
}

/// An object that one side holds of the other's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding {
    /// Its number on the connection.
    pub number: u64,
    /// The name of the interface under which it was handed out, if this process has the trait.
    pub interface: Option<&'static str>,
    /// How often it was sent and not given back, and how many calls lend it.
    pub count: u64,
    /// Since when it is held, if that was tracked.
    pub age: Option<Duration>,
    /// How long ago it was called or sent, if that was tracked.
    pub idle: Option<Duration>,
    /// The method in whose arguments or result it was sent first, if that was tracked.
    pub origin: Option<Origin>,
}

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// Its number on this side.
    pub number: u64,
    /// What is called.
    pub method: Option<Origin>,
    /// The number of the object that it is made on, unless that is the result of another call.
    pub target: Option<u64>,
    /// How long ago it began.
    pub age: Duration,
}

/// A method, by its name where this process has the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Origin {
    /// The interface that declares it.
    pub interface: Option<&'static str>,
    /// Its name.
    pub method: Option<&'static str>,
}

/// A candidate for a cycle over the connection: an object of ours, which the peer holds, got an object of the peer's as an
/// argument, and this side still holds that.
///
/// If the one keeps the other over here, and the other the one over there, neither is ever freed before the connection is
/// over: one of the two should hold a [`WeakNetref`](crate::WeakNetref). Whether they do cannot be told from the tables. What
/// came as a result, or in the arguments of a call to the root, or goes through a third process, is not found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cycle {
    /// The object of ours.
    pub export: Holding,
    /// The object of the peer's.
    pub import: Holding,
}

/// The interface of streams.
const STREAM: &str = "farref.Source";

impl Holding {
    /// Whether it is a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.interface == Some(STREAM)
    }

    fn of(held: &Held<EngineHandles>, now: Nanos) -> Self {
        let interface = match &held.object {
            Some(object) => object.interface(),
            None => known::find(held.interface),
        };
        let before = |at: Nanos| Duration::from_nanos(now.saturating_sub(at));
        Self {
            number: held.number,
            interface: interface.map(|interface| interface.name),
            count: held.copies,
            age: held.since.map(before),
            idle: held.used.map(before),
            origin: held.origin.map(Origin::of),
        }
    }
}

impl Pending {
    fn of(call: &Underway, now: Nanos) -> Self {
        Self {
            number: call.number,
            method: call.method.map(Origin::of),
            target: call.target,
            age: Duration::from_nanos(now.saturating_sub(call.since)),
        }
    }
}

impl Origin {
    fn of(id: MethodId) -> Self {
        Self {
            interface: known::find(id.interface).map(|interface| interface.name),
            method: known::find_method(id.interface, id.method).map(|method| method.name),
        }
    }
}

impl Holdings {
    pub(crate) fn new(peer: Arc<Peer>, tables: &Tables<EngineHandles>) -> Self {
        let now = clock::now();
        let all =
            |held: &[Held<EngineHandles>]| Vec::from_iter(held.iter().map(|held| Holding::of(held, now)));
        let calls = |calls: &[Underway]| Vec::from_iter(calls.iter().map(|call| Pending::of(call, now)));
        // Both tables may be long, and the peer decides what came with what.
        let exports: HashMap<u64, &Held<EngineHandles>> = tables
            .exports
            .iter()
            .map(|export| (export.number, export))
            .collect();
        let cycles = tables.imports.iter().filter_map(|import| {
            Some(Cycle {
                export: Holding::of(exports.get(&import.with?)?, now),
                import: Holding::of(import, now),
            })
        });
        Self {
            peer,
            cycles: cycles.take(MANY_CYCLES).collect(),
            exports: all(&tables.exports),
            imports: all(&tables.imports),
            calls: calls(&tables.calls),
            answers: calls(&tables.answers),
        }
    }
}

/// So many candidates are named at most.
const MANY_CYCLES: usize = 100;

/// How many there are of each type and origin, the most first.
fn by_type(of: &[Holding]) -> Vec<(Option<&'static str>, Option<Origin>, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for held in of {
        *counts.entry((held.interface, held.origin)).or_insert(0) += 1;
    }
    let mut counts = Vec::from_iter(
        counts
            .into_iter()
            .map(|((name, origin), count)| (name, origin, count)),
    );
    counts.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    counts
}

/// The types of which the peer holds the most, in words.
pub(crate) fn top_types(tables: &Tables<EngineHandles>) -> String {
    let held = Vec::from_iter(tables.exports.iter().map(|held| Holding::of(held, 0)));
    let words = by_type(&held).into_iter().take(5).map(|(name, origin, count)| {
        let origin = origin.map(|origin| format!(" from {origin}")).unwrap_or_default();
        format!("{count} {}{origin}", name.unwrap_or(UNKNOWN))
    });
    Vec::from_iter(words).join(", ")
}

const UNKNOWN: &str = "(unknown)";

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interface, method) = (self.interface.unwrap_or(UNKNOWN), self.method.unwrap_or(UNKNOWN));
        write!(f, "{interface}::{method}")
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.peer)?;
        for (title, all) in [("held there", &self.exports), ("held here", &self.imports)] {
            for (name, origin, count) in by_type(all) {
                write!(f, "  {title} {count:>7} {}", name.unwrap_or(UNKNOWN))?;
                if let Some(origin) = origin {
                    write!(f, " from {origin}")?;
                }
                writeln!(f)?;
            }
        }
        for (title, calls) in [("called there", &self.calls), ("called here", &self.answers)] {
            for Pending { method, age, .. } in calls {
                let method = method.map_or_else(|| UNKNOWN.to_owned(), |method| method.to_string());
                writeln!(f, "  {title} {method} for {age:.1?}")?;
            }
        }
        for Cycle { export, import } in &self.cycles {
            let (export, import) = (
                export.interface.unwrap_or(UNKNOWN),
                import.interface.unwrap_or(UNKNOWN),
            );
            writeln!(f, "  perhaps a cycle: {export} here and {import} there")?;
        }
        Ok(())
    }
}
