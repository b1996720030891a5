//! Requests on their way out.

use super::*;

impl Rpyc {
    /// Sends a request about an object.
    ///
    /// # Errors
    ///
    /// It cannot be sent: nothing was.
    pub(in crate::rpyc) fn send(
        &mut self,
        handler: i128,
        import: u64,
        arguments: &[Value],
        pending: Pending,
    ) -> Result<(), Error> {
        let pack = self.imports.known(import)?.clone();
        let mut content = BytesMut::with_capacity(128);
        brine::put_tuple(2, &mut content);
        brine::put_int(handler, &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::TUPLE, &mut content);
        brine::put_tuple(arguments.len().saturating_add(1), &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::YOURS, &mut content);
        pack.put(&mut content);
        let mut handed = Vec::new();
        for argument in arguments {
            if let Err(error) = self.put_box(argument, &mut handed, &mut content) {
                self.take_back(&handed);
                return Err(error);
            }
        }
        let sent = self.send_request(&content, pending);
        if sent.is_err() {
            self.take_back(&handed);
        }
        sent
    }

    /// Sends a request whose arguments go by value.
    pub(in crate::rpyc) fn send_plain(&mut self, handler: i128, arguments: &[Value], pending: Pending) {
        let mut content = BytesMut::with_capacity(32);
        brine::put_tuple(2, &mut content);
        brine::put_int(handler, &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::VALUE, &mut content);
        brine::put_tuple(arguments.len(), &mut content);
        for argument in arguments {
            if !brine::put_value(argument, &mut content) {
                brine::put_none(&mut content);
            }
        }
        // It is short: there is no limit that it meets.
        drop(self.send_request(&content, pending));
    }

    pub(in crate::rpyc) fn send_release(&mut self, pack: &crate::rpyc::packs::Pack, copies: u64) {
        let mut content = BytesMut::with_capacity(96);
        brine::put_tuple(2, &mut content);
        brine::put_int(handler::DEL, &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::TUPLE, &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::YOURS, &mut content);
        pack.put(&mut content);
        brine::put_tuple(2, &mut content);
        brine::put_int(label::VALUE, &mut content);
        brine::put_int(copies, &mut content);
        drop(self.send_request(&content, Pending::Nothing));
    }

    fn send_request(&mut self, content: &[u8], pending: Pending) -> Result<(), Error> {
        let threads = self.bound.then(|| self.threads_of(&pending));
        let number = self.last_request;
        let put_number = |out: &mut BytesMut| brine::put_int(number, out);
        self.write(Kind::Request, put_number, threads, |_, _, out| {
            out.extend_from_slice(content);
            Ok(())
        })?;
        self.last_request = self.last_request.wrapping_add(1);
        if let Some(call) = pending.call().and_then(|call| self.calls.get_mut(&call)) {
            call.request = Some(number);
        }
        // One that nobody waits for is kept to hold others back, for which any will do: a peer may answer none.
        if !matches!(pending, Pending::Nothing) || self.pending.is_empty() {
            self.pending.insert(number, pending);
        }
        Ok(())
    }

    /// Which thread asks, and which is asked: the one that waits for the call which this one is a part of.
    fn threads_of(&self, pending: &Pending) -> Threads {
        let Pending::Call { call, .. } = pending else {
            return Threads {
                from: OWN_THREAD,
                to: 0,
            };
        };
        let chain = self.calls.get(call).and_then(|call| call.chain);
        let served = chain.and_then(|chain| {
            self.answers
                .values()
                .filter_map(|answer| Some((answer.chain?, answer.asker.threads)))
                .filter(|(of, _)| of.id() == chain.id())
                // The innermost is what waits.
                .max_by_key(|(of, _)| of.depth)
                .and_then(|(_, threads)| threads)
        });
        let from = own_thread(*call);
        served.map_or(Threads { from, to: 0 }, |served| Threads {
            from,
            to: served.from,
        })
    }

    pub(in crate::rpyc) fn send_ping(&mut self, asked: Nanos) {
        if self.generation.is_none() {
            self.queued.push_back(Queued::Ping(asked));
            return;
        }
        self.is_timed = true;
        self.send_plain(handler::PING, &["farref".into()], Pending::Ping(asked));
    }
}
