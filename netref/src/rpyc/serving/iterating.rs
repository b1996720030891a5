//! Iterations over objects and containers of this side, in batches.

use super::*;
use crate::rpyc::link::Waiting;

impl Rpyc {
    pub(super) fn next(&mut self, iteration: Arc<Mutex<Iteration>>, asker: &Asker) -> Told {
        if self.waits(&iteration, asker, None)? {
            return Ok(None);
        }
        if let Some(next) = lock(&iteration).take_next() {
            return next.map(Some);
        }
        // A container is here: nothing is saved by taking more of it than is wanted.
        let most = match lock(&iteration).over {
            Iterated::Data(_) => 1,
            Iterated::Object(..) => ONE_BATCH,
        };
        if !self.fill(&iteration, most, asker, How::Next)? {
            return Ok(None);
        }
        let next = lock(&iteration).take_next();
        next.unwrap_or_else(|| Err(stop())).map(Some)
    }

    pub(super) fn some(&mut self, target: Target, many: usize, asker: &Asker) -> Told {
        let iteration = match target {
            Target::Iteration(iteration) => iteration,
            Target::Data(data) => {
                let Link::Iteration(iteration) = Link::over(&data) else {
                    return Err(type_error("that cannot be iterated over"));
                };
                iteration
            }
            // An iterator has `__iter__` too, and is what that gives.
            Target::Object(object, export, face) if face.has_method("__next__") => {
                let gathering = Gathering {
                    object,
                    export,
                    gathered: Vec::new(),
                    many,
                };
                return self.gather(asker, Box::new(gathering));
            }
            Target::Object(object, export, face) if face.has_special("__iter__") => {
                let Link::Iteration(iteration) = Link::iteration(Iterated::Object(object, export)) else {
                    return Err(type_error("that cannot be iterated over"));
                };
                iteration
            }
            _ => return Err(type_error("that cannot be iterated over")),
        };
        if self.waits(&iteration, asker, Some(many))? {
            return Ok(None);
        }
        if let Some(some) = lock(&iteration).take_some(many) {
            return Ok(Some(Value::Tuple(some)));
        }
        let how = |iteration, from| How::Some(iteration, from, many);
        if !self.fill(&iteration, many, asker, how)? {
            return Ok(None);
        }
        let some = lock(&iteration).take_some(many);
        Ok(Some(Value::Tuple(some.unwrap_or_default())))
    }

    /// Whether elements are on their way already: then whoever asks waits for its turn.
    fn waits(
        &self,
        iteration: &Arc<Mutex<Iteration>>,
        asker: &Asker,
        many: Option<usize>,
    ) -> Result<bool, Exception> {
        let mut iteration = lock(iteration);
        if !iteration.is_asking {
            return Ok(false);
        }
        let parked = Arc::strong_count(&self.parked).saturating_sub(1);
        if parked.saturating_add(self.answers.len()) >= self.limits.calls {
            return Err(Exception::new(
                "BlockingIOError",
                ["too many elements are asked for at once: wait for some"],
            ));
        }
        iteration.waiting.push_back(Waiting {
            asker: asker.clone(),
            many,
            _parked: Arc::clone(&self.parked),
        });
        Ok(true)
    }

    /// A batch has come, or will not: whose turn it was is answered, and then those who wait.
    pub(super) fn arrived(
        &mut self,
        iteration: &Arc<Mutex<Iteration>>,
        from: usize,
        batch: Result<Value, Exception>,
        asker: &Asker,
        many: Option<usize>,
    ) {
        lock(iteration).is_asking = false;
        let mut turn = match batch {
            Ok(batch) => {
                lock(iteration).take_in(batch, from);
                Some((asker.clone(), many))
            }
            Err(exception) => {
                self.respond(asker, Err(exception));
                let next = lock(iteration).waiting.pop_front();
                next.map(|waiting| (waiting.asker, waiting.many))
            }
        };
        // Nobody comes between: requests are looked at after this.
        while let Some((asker, many)) = turn {
            let told = match many {
                None => self.next(Arc::clone(iteration), &asker),
                Some(many) => self.some(Target::Iteration(Arc::clone(iteration)), many, &asker),
            };
            if let Some(told) = told.transpose() {
                self.respond(&asker, told);
            }
            let mut iteration = lock(iteration);
            let next = if iteration.is_asking {
                None
            } else {
                iteration.waiting.pop_front()
            };
            turn = next.map(|waiting| (waiting.asker, waiting.many));
        }
    }

    /// Asks an object that is an iterator for its next element, until there are as many as wanted.
    pub(super) fn gather(&mut self, asker: &Asker, gathering: Box<Gathering>) -> Told {
        if gathering.gathered.len() >= gathering.many {
            return Ok(Some(Value::Tuple(gathering.gathered)));
        }
        let (object, export) = (gathering.object.clone(), gathering.export);
        let op = Op::Named("__next__".to_owned());
        let none = (Vec::<Value>::new(), Named::new());
        self.ask(asker, &object, export, op, &none, How::Gather(gathering))
    }

    /// Asks for a batch of what is iterated over: whether it is there already.
    fn fill(
        &mut self,
        iteration: &Arc<Mutex<Iteration>>,
        most: usize,
        asker: &Asker,
        how: impl FnOnce(Arc<Mutex<Iteration>>, usize) -> How,
    ) -> Result<bool, Exception> {
        let (over, from) = {
            let iteration = lock(iteration);
            (iteration.over.clone(), iteration.from)
        };
        match over {
            Iterated::Object(object, export) => {
                let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
                let arguments = (from as u64, most);
                let how = how(Arc::clone(iteration), from);
                self.ask(asker, &object, export, Op::Iterate, &arguments, how)?;
                lock(iteration).is_asking = true;
                Ok(false)
            }
            Iterated::Data(data) => {
                let batch = lock(&data).some(from, most.max(1));
                let is_end = batch.len() < most.max(1);
                lock(iteration).add(batch, is_end);
                Ok(true)
            }
        }
    }
}

impl Iteration {
    /// A batch has come, from that element on.
    pub(super) fn take_in(&mut self, batch: Value, from: usize) {
        if from != self.from || self.is_end {
            return;
        }
        let [items, is_end] = <[Value; 2]>::try_from(into_items(batch)).unwrap_or_default();
        let is_end = !matches!(is_end, Value::Bool(false));
        self.add(into_items(items), is_end);
    }

    fn add(&mut self, batch: Vec<Value>, is_end: bool) {
        self.from = self.from.saturating_add(batch.len());
        self.is_end = is_end || batch.is_empty();
        self.ready.extend(batch);
    }

    /// The next element, or that there is none; nothing if it has to be asked for.
    pub(super) fn take_next(&mut self) -> Option<Result<Value, Exception>> {
        match self.ready.pop_front() {
            Some(next) => Some(Ok(next)),
            None => self.is_end.then(|| Err(stop())),
        }
    }

    /// Some elements; nothing if they have to be asked for.
    pub(super) fn take_some(&mut self, many: usize) -> Option<Vec<Value>> {
        if self.ready.is_empty() && !self.is_end {
            return None;
        }
        let many = many.min(self.ready.len());
        Some(self.ready.drain(..many).collect())
    }
}
