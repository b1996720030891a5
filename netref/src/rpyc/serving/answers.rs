//! What methods are asked, and what becomes of what they answer.

use super::*;
use crate::invocation::{Plain, is_plain};

impl Rpyc {
    /// Has the engine do something with an object.
    pub(super) fn ask(
        &mut self,
        asker: &Asker,
        object: &Object,
        export: u64,
        op: Op,
        arguments: &impl serde::Serialize,
        how: How,
    ) -> Told {
        let (body, refs) = encoded(arguments).map_err(|error| Exception::of(&error))?;
        self.deliver(asker, how, object, export, op, Came::Encoded(body, refs))?;
        Ok(None)
    }

    /// Has the engine call an object or a method of it. Arguments without references are handed over as the values that they
    /// are: encoded, they would be decoded at once.
    pub(super) fn ask_with(
        &mut self,
        asker: &Asker,
        object: &Object,
        export: u64,
        op: Op,
        positional: Vec<Value>,
        named: Named,
    ) -> Told {
        let arguments = unshare_all(positional, named).map_err(|error| Exception::of(&error))?;
        if !are_plain(&arguments.0, &arguments.1) {
            return self.ask(asker, object, export, op, &arguments, How::Value);
        }
        self.ask_plain(asker, object, export, op, arguments.0, arguments.1)
    }

    /// Has the engine call an object or a method of it with arguments that have no references among them.
    pub(super) fn ask_plain(
        &mut self,
        asker: &Asker,
        object: &Object,
        export: u64,
        op: Op,
        positional: Vec<Value>,
        named: Named,
    ) -> Told {
        let plain = object::Arguments::of_parts(positional, named);
        self.deliver(asker, How::Value, object, export, op, Came::Plain(plain))?;
        Ok(None)
    }

    /// Hands a call to the engine, if there are not too many: its number.
    pub(super) fn deliver(
        &mut self,
        asker: &Asker,
        how: How,
        object: &Object,
        export: u64,
        op: Op,
        came: Came,
    ) -> Result<u64, Exception> {
        let bytes = self.answering.saturating_add(asker.bytes);
        let is_much = bytes > self.limits.call_bytes && self.answering > 0;
        if self.answers.len() >= self.limits.calls || is_much {
            let text = format!(
                "{} calls of {} bytes are under way, and no more are let in: wait for some",
                self.answers.len(),
                self.answering,
            );
            return Err(Exception::new("BlockingIOError", [text]));
        }
        self.answering = bytes;
        self.last_answer = self.last_answer.wrapping_add(1);
        let answer = self.last_answer;
        let chain = self.chain_for(asker.threads);
        self.answers.insert(
            answer,
            Answer {
                asker: asker.clone(),
                chain,
                how,
            },
        );
        let target = IncomingTarget::Object {
            object: object.object.handle(),
            export,
            interface: object.interface,
        };
        let options = CallOptions {
            chain,
            ..CallOptions::default()
        };
        let none = Refs::new();
        let (body, plain, refs) = match came {
            Came::Later => (None, None, none),
            Came::Encoded(body, refs) => (Some(body), None, refs),
            Came::Plain(arguments) => (Some(Bytes::new()), Some(Box::new(Plain::from(arguments))), none),
        };
        self.events.push_back(Event::Call(Incoming {
            answer,
            target,
            request: Box::new(Request {
                op,
                options,
                body,
                plain,
                refs,
            }),
        }));
        Ok(answer)
    }

    /// What is fetched for a call counts as bytes of its arguments.
    ///
    /// # Errors
    ///
    /// Those of all calls that are under way are too many.
    pub(in crate::rpyc) fn weigh_answer(&mut self, answer: u64, bytes: usize) -> Result<()> {
        let Some(Answer { asker, .. }) = self.answers.get_mut(&answer) else {
            return Ok(());
        };
        asker.bytes = asker.bytes.saturating_add(bytes);
        self.answering = self.answering.saturating_add(bytes);
        if self.answering > self.limits.call_bytes && self.answering > asker.bytes {
            let text = format!(
                "the arguments of all calls that are under way take {} bytes: wait for some",
                self.answering
            );
            return Err(Error::new(farref_boxing::ErrorKind::Limit, text));
        }
        Ok(())
    }

    /// The chain of calls that a request is a part of. A peer that binds threads tells; one that does not waits for what
    /// we asked last, if it waits for anything: Python runs what comes meanwhile as a part of that. Nothing of a request that
    /// begins its own, unless the threads of what is asked for its sake follow from that.
    pub(super) fn chain_for(&self, threads: Option<Threads>) -> Option<Chain> {
        let call = match threads {
            Some(Threads { to: 0, .. }) => None,
            Some(Threads { to, .. }) => self.chained.iter().find(|call| own_thread(**call) == to),
            None => self.chained.last(),
        };
        let chain = call.and_then(|call| self.calls.get(call)?.chain);
        chain
            .map(chain::nested)
            .or_else(|| threads.map(|_| chain::fresh()))
    }

    pub(super) fn over(&mut self, answer: u64) -> Option<Answer> {
        let answer = self.answers.remove(&answer)?;
        self.answering = self.answering.saturating_sub(answer.asker.bytes);
        Some(answer)
    }

    /// Nobody asks for that answer any more.
    fn bury(&self, reply: Reply<'_, EngineHandles>) {
        if let Reply::Value { refs, .. } = reply {
            for outgoing in refs {
                drop(reference(outgoing, &self.graves));
            }
        }
    }

    /// A method has answered.
    pub(in crate::rpyc) fn answered(&mut self, answer: u64, reply: Reply<'_, EngineHandles>) {
        let Some(Answer { asker, how, .. }) = self.over(answer) else {
            return self.bury(reply);
        };
        let told = match reply {
            Reply::Value {
                failure: Some(error), ..
            } => Err(Exception::of(&error)),
            Reply::Value { body, refs, .. } => {
                let references: Vec<_> = refs
                    .into_iter()
                    .map(|outgoing| reference(outgoing, &self.graves))
                    .collect();
                let value = decode::<Value>(&flat(body), &references, &references::limits());
                value.map_err(|error| Exception::of(&error.into()))
            }
            Reply::Error { error, .. } => Err(Exception::of(&error)),
        };
        self.conclude_answer(&asker, how, told);
    }

    /// A method has answered with a value that has no references in it.
    pub(in crate::rpyc) fn told(&mut self, answer: u64, value: Value) {
        if let Some(Answer { asker, how, .. }) = self.over(answer) {
            self.conclude_answer(&asker, how, Ok(value));
        }
    }

    fn conclude_answer(&mut self, asker: &Asker, how: How, told: Result<Value, Exception>) {
        if matches!(how, How::Value) {
            return self.respond(asker, told);
        }
        let told = match (how, told) {
            (How::Gather(mut gathering), Ok(value)) => {
                gathering.gathered.push(value);
                self.gather(asker, gathering)
            }
            (How::Gather(gathering), Err(exception)) if exception.is_stop() => {
                Ok(Some(Value::Tuple(gathering.gathered)))
            }
            (How::Next(iteration, from), batch) => {
                return self.arrived(&iteration, from, batch, asker, None);
            }
            (How::Some(iteration, from, many), batch) => {
                return self.arrived(&iteration, from, batch, asker, Some(many));
            }
            (How::Element(class), told) => told.map(Some).map_err(|exception| exception.or_rather(class)),
            (how, told) => told.map(|value| Some(finish(how, value))),
        };
        if let Some(told) = told.transpose() {
            self.respond(asker, told);
        }
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, asker: &Asker, told: Result<Value, Exception>) {
        let threads = asker.threads.map(|threads| Threads {
            from: if threads.to == 0 { OWN_THREAD } else { threads.to },
            to: threads.from,
        });
        let number = |out: &mut BytesMut| out.extend_from_slice(&asker.number);
        let told = told.and_then(|value| {
            // Requests are not taken any more by then: these are answers to what was asked before.
            if self.out.len() > self.limits.unsent.saturating_mul(4) {
                return Err(Exception::new(
                    "MemoryError",
                    ["the answers before this one are not taken"],
                ));
            }
            let mut handed = Vec::new();
            let written = self.write(Kind::Reply, number, threads, |exports, imports, out| {
                exports.put_box(&value, imports, &mut handed, out)
            });
            written.map_err(|error| {
                self.take_back(&handed);
                Exception::of(&error)
            })
        });
        let mut raise = |exception: Exception| {
            self.write(Kind::Exception, number, threads, |_, _, out| {
                exception.put(out);
                Ok(())
            })
        };
        if let Err(exception) = told
            && let Err(error) = raise(exception)
        {
            // A short one: it has no limit to meet.
            drop(raise(Exception::of(&error)));
        }
    }
}

/// Whether there are no references among the arguments of a call.
pub(super) fn are_plain(positional: &[Value], named: &[(String, Value)]) -> bool {
    positional.iter().all(is_plain) && named.iter().all(|(_, value)| is_plain(value))
}

/// What is said when a method has returned `value`.
fn finish(how: How, value: Value) -> Value {
    match how {
        How::Value | How::Element(_) | How::Next(..) | How::Some(..) | How::Gather(..) => value,
        How::Not => match value {
            Value::Bool(value) => Value::Bool(!value),
            other => other,
        },
        #[expect(clippy::cast_possible_wrap, reason = "its bits are what counts")]
        How::Hash => value.as_u64().map_or(value, |hash| (hash as i64).into()),
        How::Or(link) => match value {
            Value::Null => link.into_value(),
            other => other,
        },
        How::Exit => match value {
            Value::Bool(swallows) => Value::Bool(swallows),
            _ => Value::Bool(false),
        },
    }
}
