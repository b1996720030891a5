//! The end of a session: every call gets its outcome, every reference breaks (PROTOCOL.md § 8.5).

use farref_boxing::{Certainty, Error, ErrorKind};

use super::answers::Stage;
use super::questions::{Progress, Slot};
use super::rules::Rule;
use super::{Exchange, Wire};
use crate::protocol::{CancelReason, Event, Handles, Outcome};

impl<H: Handles> Exchange<H> {
    /// The connection is lost for good, or was closed. `received` is how much of what we sent the peer certainly
    /// got, if it was able to say.
    ///
    /// Outcomes that are here can still be taken; all other calls of ours fail. Calls of the peer's are given up,
    /// unless they are detached.
    pub fn sever(&mut self, error: &Error, received: Option<u64>, wire: &dyn Wire) {
        if self.over {
            return;
        }
        self.over = true;
        self.end_answers();
        self.end_questions(error, received, wire);
        self.end_shapes();
        for object in self.exports.drain() {
            self.discard_object(object);
        }
        self.imports.clear();
        self.bodies.clear();
        self.flushes.clear();
        self.acks.clear();
        self.releases.clear();
        self.finished = Vec::new();
        self.finish_now = false;
        self.settling.clear();
        self.deadlines.clear();
        self.outbox.clear();
    }

    fn end_answers(&mut self) {
        let mut answers: Vec<_> = self.answers.drain().collect();
        answers.sort_unstable_by_key(|(number, _)| *number);
        for (number, answer) in answers {
            match answer.stage {
                Stage::Queued(queued) => self.discard_received(queued.request.refs),
                Stage::Running if answer.detached && answer.lane.is_none() => {}
                Stage::Running => {
                    self.push_event(Event::Cancelled {
                        answer: number,
                        reason: CancelReason::Dropped,
                    });
                }
                Stage::Returned(Ok(kept)) => self.discard_kept(kept),
                Stage::Returned(Err(_)) => {}
            }
        }
    }

    fn end_questions(&mut self, error: &Error, received: Option<u64>, wire: &dyn Wire) {
        for number in self.questions.table.numbers() {
            let Some(question) = self.questions.table.get_mut(number) else {
                continue;
            };
            let is_behind_flush =
                (question.flushing || question.needs_flush()) && self.rules.hold(Rule::SeverDropsFlushing);
            let is_certain = self.rules.hold(Rule::Certainty);
            let progress = std::mem::replace(&mut question.progress, Progress::Returned);
            let certainty = match &progress {
                Progress::Waiting(_) => Certainty::NotSent,
                Progress::Sent if question.position.is_none_or(|at| !wire.is_transmitted(at)) => {
                    Certainty::NotSent
                }
                Progress::Sent if !is_certain => Certainty::NotSent,
                Progress::Sent if received.is_some_and(|upto| question.position > Some(upto)) => {
                    Certainty::NotExecuted
                }
                Progress::Sent | Progress::Returned => Certainty::Unknown,
            };
            question.flushing = false;
            question.unsent = 0;
            question.children = 0;
            question.deadline = None;
            let outcome = match std::mem::replace(&mut question.outcome, Slot::Empty) {
                Slot::Taken => {
                    self.questions.table.forget(number);
                    None
                }
                Slot::Full(outcome) if !is_behind_flush => {
                    question.outcome = Slot::Full(outcome);
                    None
                }
                // The calls that the flush was to wait for will never come.
                Slot::Full(outcome) => {
                    question.piped.clear();
                    self.discard_outcome(outcome);
                    Some(cut_off(certainty, error))
                }
                Slot::Incoming(parts) => {
                    self.discard_received(parts.refs);
                    Some(cut_off(certainty, error))
                }
                // It came, but will never be understood.
                Slot::Unread(outcome) => {
                    self.discard_outcome(*outcome);
                    Some(cut_off(certainty, error))
                }
                Slot::Empty => Some(cut_off(certainty, error)),
            };
            if let Some(error) = outcome {
                self.complete(number, Outcome::Error(error));
            }
            if let Progress::Waiting(waiting) = progress {
                self.discard_outgoing(waiting.refs);
            }
        }
        drop(self.questions.sent.drain());
        self.questions.waiting.clear();
        self.questions.credit = super::credit::Credit::default();
        self.questions.kept = 0;
    }
}

/// The failure of a call that was cut off.
fn cut_off(certainty: Certainty, cause: &Error) -> Error {
    Error::new(ErrorKind::Disconnected(certainty), cause.message().into_owned())
}
