//! Iterations over objects and containers of this side, in batches.

use super::*;

impl Rpyc {
    pub(super) fn next(&mut self, iteration: Arc<Mutex<Iteration>>, asker: &Asker) -> Told {
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
                return self.gather(asker, object, export, Vec::new(), many);
            }
            Target::Object(object, export, face) if face.has_special("__iter__") => {
                let Link::Iteration(iteration) = Link::iteration(Iterated::Object(object, export)) else {
                    return Err(type_error("that cannot be iterated over"));
                };
                iteration
            }
            _ => return Err(type_error("that cannot be iterated over")),
        };
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

    /// Asks an object that is an iterator for its next element, until there are as many as wanted.
    pub(super) fn gather(
        &mut self,
        asker: &Asker,
        object: Object,
        export: u64,
        gathered: Vec<Value>,
        many: usize,
    ) -> Told {
        if gathered.len() >= many {
            return Ok(Some(Value::Tuple(gathered)));
        }
        let op = Op::Named("__next__".to_owned());
        let none = (Vec::<Value>::new(), Named::new());
        let how = How::Gather(object.clone(), export, gathered, many);
        self.ask(asker, &object, export, op, &none, how)
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
    /// A batch has come, from that element on. Whoever asks for elements while others do may get one that has come
    /// already: it is passed over.
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
