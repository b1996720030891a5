//! Where what is held came from, since when, and when it was last used: kept only where somebody asked for it.

use farref_framing::Nanos;
use rustc_hash::FxHashMap;

use super::Exchange;
use super::exports::ROOT;
use crate::message;
use crate::protocol::{Event, Handles, Held, MethodId, Op, Tables, Target, Underway};

/// What is known of references and calls beyond what the tables need.
///
/// # Invariant
///
/// Marks of what is gone may be left: each of the four maps holds at most twice as many as its table, and some.
#[derive(Default)]
pub(super) struct Trace {
    /// When the exchange was last told the time.
    now: Nanos,
    /// The method for whose arguments or result references are counted, and the export that they are passed to.
    origin: Option<MethodId>,
    with: Option<u64>,
    exports: FxHashMap<u64, Mark>,
    imports: FxHashMap<u64, Mark>,
    calls: FxHashMap<u64, Underway>,
    answers: FxHashMap<u64, Underway>,
}

#[derive(Clone, Copy)]
struct Mark {
    since: Nanos,
    used: Nanos,
    origin: Option<MethodId>,
    with: Option<u64>,
}

/// Marks of so many things that are gone are kept in any case.
const SOME: usize = 64;

fn prune<T>(marks: &mut FxHashMap<u64, T>, len: usize, is_there: impl Fn(u64) -> bool) {
    if marks.len() > len.saturating_mul(2).saturating_add(SOME) {
        marks.retain(|number, _| is_there(*number));
    }
}

impl Trace {
    fn mark(&self) -> Mark {
        Mark {
            since: self.now,
            used: self.now,
            origin: self.origin,
            with: self.with,
        }
    }
}

impl<H: Handles> Exchange<H> {
    /// Begins to note where references come from, and when they are used.
    pub fn track(&mut self) {
        self.trace.get_or_insert_default();
    }

    #[inline]
    pub(super) fn tell_time(&mut self, now: Nanos) {
        if let Some(trace) = &mut self.trace {
            trace.now = now;
        }
    }

    /// References are about to be counted for this method, and passed to that export.
    ///
    /// Called, as those below, only where there is a trace: so nothing of it is among what runs for every call.
    #[cold]
    pub(super) fn trace_origin(&mut self, op: &Op, with: Option<u64>) {
        if let Some(trace) = &mut self.trace {
            trace.origin = method(op);
            trace.with = with.filter(|export| *export != ROOT);
        }
    }

    /// References are about to be counted for what a call of ours returned.
    #[cold]
    pub(super) fn trace_returned(&mut self, question: u64) {
        if let Some(trace) = &mut self.trace {
            trace.origin = trace.calls.get(&question).and_then(|call| call.method);
            trace.with = None;
        }
    }

    /// References are about to be counted for what a call of the peer's returns.
    #[cold]
    pub(super) fn trace_result(&mut self, answer: u64) {
        if let Some(trace) = &mut self.trace {
            trace.origin = trace.answers.get(&answer).and_then(|call| call.method);
            trace.with = None;
        }
    }

    pub(super) fn trace_export(&mut self, export: u64) {
        if let Some(trace) = &mut self.trace {
            let mark = trace.mark();
            prune(&mut trace.exports, self.exports.len(), |export| {
                self.exports.get(export).is_some()
            });
            let marked = trace.exports.entry(export).or_insert(mark);
            marked.used = mark.used;
        }
    }

    pub(super) fn trace_import(&mut self, import: u64) {
        if let Some(trace) = &mut self.trace {
            let mark = trace.mark();
            prune(&mut trace.imports, self.imports.len(), |import| {
                self.imports.is_held(import)
            });
            let marked = trace.imports.entry(import).or_insert(mark);
            marked.used = mark.used;
            marked.with = mark.with.or(marked.with);
        }
    }

    /// A call of ours begins.
    #[cold]
    pub(super) fn trace_call(&mut self, number: u64, op: &Op, target: Target) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        let target = match target {
            Target::Import(import) => Some(import),
            Target::Answer { .. } => None,
        };
        let now = trace.now;
        if let Some(mark) = target.and_then(|import| trace.imports.get_mut(&import)) {
            mark.used = now;
        }
        let table = &self.questions.table;
        prune(&mut trace.calls, table.len(), |call| table.get(call).is_some());
        trace.calls.insert(number, underway(number, op, target, now));
    }

    /// A call of the peer's has come, and its references are about to be counted.
    #[cold]
    pub(super) fn trace_answer(&mut self, number: u64, op: &Op, target: message::Target) {
        let target = match target {
            message::Target::Export(export) => Some(export),
            message::Target::Answer { .. } => None,
        };
        self.trace_origin(op, target);
        let Some(trace) = &mut self.trace else {
            return;
        };
        let now = trace.now;
        if let Some(mark) = target.and_then(|export| trace.exports.get_mut(&export)) {
            mark.used = now;
        }
        let answers = &self.answers;
        prune(&mut trace.answers, answers.len(), |call| {
            answers.get(call).is_some()
        });
        trace.answers.insert(number, underway(number, op, target, now));
    }

    /// Tells once that the peer holds more than it should.
    pub(super) fn watch_exports(&mut self) {
        let exports = self.exports.len() as u64;
        if exports > self.config.warn_at_exports {
            self.config.warn_at_exports = u64::MAX;
            self.push_event(Event::Crowded { exports });
        }
    }

    /// How many marks there are: of exports, imports, calls and answers.
    #[cfg(test)]
    pub(super) fn marks(&self) -> [usize; 4] {
        self.trace.as_ref().map_or([0; 4], |trace| {
            let (exports, imports) = (trace.exports.len(), trace.imports.len());
            [exports, imports, trace.calls.len(), trace.answers.len()]
        })
    }

    /// What is in the tables, at most so many rows of each.
    #[must_use]
    pub fn tables(&self, most: usize) -> Tables<H> {
        let known = |marks: Option<&FxHashMap<u64, Mark>>, held: Held<H>| match marks
            .and_then(|marks| marks.get(&held.number))
        {
            None => held,
            Some(mark) => Held {
                since: Some(mark.since),
                used: Some(mark.used),
                origin: mark.origin,
                with: mark.with,
                ..held
            },
        };
        let trace = self.trace.as_deref();
        let exports = self.exports.all().take(most);
        let exports = exports.map(|held| known(trace.map(|trace| &trace.exports), held));
        let imports = self.imports.all().take(most);
        let imports = imports.map(|held| known(trace.map(|trace| &trace.imports), held));
        let calls = trace.into_iter().flat_map(|trace| trace.calls.values());
        let calls = calls.filter(|call| self.questions.table.get(call.number).is_some());
        let answers = trace.into_iter().flat_map(|trace| trace.answers.values());
        let answers = answers.filter(|call| {
            let answer = self.answers.get(call.number);
            answer.is_some_and(|answer| !answer.is_over())
        });
        Tables {
            exports: exports.collect(),
            imports: imports.collect(),
            calls: calls.take(most).copied().collect(),
            answers: answers.take(most).copied().collect(),
        }
    }
}

const fn underway(number: u64, op: &Op, target: Option<u64>, since: Nanos) -> Underway {
    Underway {
        number,
        method: method(op),
        target,
        since,
    }
}

const fn method(op: &Op) -> Option<MethodId> {
    match op {
        Op::Method {
            interface, method, ..
        } => Some(MethodId {
            interface: *interface,
            method: *method,
        }),
        _ => None,
    }
}
