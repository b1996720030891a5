//! What must be true, as somebody sees it who sees both sides (I1 to I7 and I10 of the design).

use std::collections::HashMap;

use farref_boxing::{Certainty, Error, ErrorKind};

/// Why a schedule is wrong: the invariant, and what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str, pub(super) String);

pub(super) type Checked<T = ()> = Result<T, Violation>;

/// Fails with a violation unless the condition holds.
pub(super) fn need(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Violation(invariant, what()))
    }
}

/// One logical reference, as the programmer sees it: a netref, or what a pipe becomes when its call is awaited.
#[derive(Debug, Default, Clone)]
pub(super) struct Lineage {
    /// Calls started through it.
    started: u64,
    /// Calls before this one were delivered, or never will be.
    delivered: u64,
    /// Calls before this one must not be delivered any more, as somebody to whom the reference was passed on has
    /// been heard.
    barred: u64,
    /// Where it was passed on from: those calls come before any of this lineage.
    pub(super) after: Vec<(usize, u64)>,
    /// The object, once it is known.
    pub(super) object: Option<usize>,
}

/// One call, whatever legs it takes.
#[derive(Debug, Clone)]
pub(super) struct Made {
    lineage: usize,
    place: u64,
    delivered: bool,
    /// Delivered, with its arguments.
    ran: bool,
    /// Somebody was told that it did not run.
    denied: bool,
    /// What its result will be known as, by slot.
    pub(super) fields: [usize; 2],
}

/// A reference in a message.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    /// Where it was passed on from: calls before those were started ahead of it.
    pub(super) after: Vec<(usize, u64)>,
    pub(super) object: usize,
}

/// Everything that was done and seen.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) lineages: Vec<Lineage>,
    pub(super) calls: Vec<Made>,
    /// References in messages, by call, direction and slot.
    passed: HashMap<(usize, bool, usize), Passed>,
    /// Whether calls may wait for limits: then one that waits is not sent yet, and may be overtaken by a return.
    limited: bool,
}

impl Oracle {
    pub(super) fn new(limited: bool) -> Self {
        Self {
            limited,
            ..Self::default()
        }
    }

    pub(super) fn lineage(&mut self, object: Option<usize>) -> usize {
        self.lineages.push(Lineage {
            object,
            ..Lineage::default()
        });
        self.lineages.len() - 1
    }

    /// A call is started through a lineage.
    pub(super) fn start(&mut self, lineage: usize) -> usize {
        let fields = [self.lineage(None), self.lineage(None)];
        let place = self.lineages[lineage].started;
        self.lineages[lineage].started += 1;
        self.calls.push(Made {
            lineage,
            place,
            delivered: false,
            ran: false,
            denied: false,
            fields,
        });
        self.calls.len() - 1
    }

    /// A reference is put into a message of a call.
    pub(super) fn pass(&mut self, call: usize, returns: bool, slot: usize, lineage: usize) {
        let of = &self.lineages[lineage];
        let open = |(other, upto): &(usize, u64)| self.lineages[*other].delivered < *upto;
        let mut after: Vec<_> = of.after.iter().copied().filter(open).collect();
        after.push((lineage, of.started));
        let object = of.object.expect("a reference that is held is known");
        self.passed
            .insert((call, returns, slot), Passed { after, object });
    }

    /// The reference comes out of the message: where it was passed on from, and the object.
    pub(super) fn passed(&self, call: usize, returns: bool, slot: usize) -> Option<&Passed> {
        self.passed.get(&(call, returns, slot))
    }

    /// A call is handed to an object.
    pub(super) fn deliver(&mut self, call: usize, object: usize) -> Checked {
        let Made {
            lineage,
            place,
            delivered,
            ..
        } = self.calls[call];
        need(!delivered, "I4", || format!("call {call} is delivered twice"))?;
        self.calls[call].delivered = true;
        let of = &mut self.lineages[lineage];
        let known = *of.object.get_or_insert(object);
        need(known == object, "I7", || {
            format!("call {call} of object {known} reaches object {object}")
        })?;
        need(place >= of.delivered, "I3", || {
            format!("call {place} of lineage {lineage} after a later one")
        })?;
        of.delivered = place + 1;
        need(place >= of.barred || self.limited, "I10", || {
            format!("call {place} of lineage {lineage} after one of whom it was passed on to")
        })?;
        for (other, upto) in of.after.clone() {
            let other = &mut self.lineages[other];
            other.barred = other.barred.max(upto);
        }
        Ok(())
    }

    /// A call that was delivered has its arguments.
    pub(super) fn run(&mut self, call: usize) -> Checked {
        let made = &mut self.calls[call];
        made.ran = true;
        need(!made.denied, "I6", || {
            format!("call {call} runs after it was said not to")
        })
    }

    /// A call failed, as its caller sees it.
    pub(super) fn failed(&mut self, call: usize, error: &Error) -> Checked {
        match error.kind() {
            kind @ ErrorKind::Disconnected(Certainty::NotSent | Certainty::NotExecuted) => {
                self.not_run(call, &format!("{kind:?}"))
            }
            // Nobody cancels what this one is made on while it is wanted.
            ErrorKind::Broken => {
                let cancelled = Error::from(ErrorKind::Cancelled).to_string();
                let is_cancelled = error.chain().any(|cause| cause.to_string() == cancelled);
                need(!is_cancelled, "I5", || {
                    format!("what call {call} is made on was cancelled")
                })
            }
            _ => Ok(()),
        }
    }

    /// Somebody is told that a call did not run.
    pub(super) fn not_run(&mut self, call: usize, why: &str) -> Checked {
        let made = &mut self.calls[call];
        need(!made.ran, "I6", || {
            format!("call {call} ran, and failed with {why}")
        })?;
        made.denied = true;
        Ok(())
    }

    /// A call returned a value.
    pub(super) fn succeeded(&self, call: usize) -> Checked {
        need(self.calls[call].ran, "I5", || {
            format!("call {call} succeeded and never ran")
        })
    }
}
