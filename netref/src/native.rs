//! Farref's own protocol: the exchange over a link.

use std::task::Poll;

use bytes::BytesMut;
use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{
    AttachConfig, Batch, Body, CloseReason, LaneId, Link, LinkConfig, LinkError, LinkEvent, Nanos,
    NativeLink, Negotiated, Placement, RejectCode, Rejection, ResumeRequest, Role, SessionEnd, SessionId,
    StreamKey, StreamLink, Tombstone, earlier,
};

use crate::config::Config;
use crate::exchange::{Breach, Exchange, ExchangeConfig, Inbound, Wire};
use crate::protocol::{
    BodyRef, CallStart, CancelReason, Event, Factory, Handles, Outcome, Outgoing, PeerShape, Protocol, Reply,
    TableStats, Tables, Timing, Traffic,
};

/// Code with which a body is given up or refused: nobody wants it any more.
const UNWANTED: u64 = 1;

/// Farref's own protocol over any link.
pub struct Native<H: Handles> {
    exchange: Exchange<H>,
    link: Box<dyn Link>,
    /// How much of our messages the peer has got, as it said when it refused to go on with the session.
    received: Option<u64>,
}

impl<H: Handles> Native<H> {
    /// Speaks over `link`, shows `root`, and introduces itself at once.
    #[must_use]
    pub fn new(mut link: Box<dyn Link>, config: &Config, root: Outgoing<H>, _now: Nanos) -> Self {
        let mut exchange = Exchange::new(ExchangeConfig::from(config), root, &mut link);
        if config.track_holdings {
            exchange.track();
        }
        Self {
            exchange,
            link,
            received: None,
        }
    }

    /// The link has told already what was agreed with the peer.
    pub(crate) fn opened(&mut self, negotiated: &Negotiated) {
        self.exchange.set_max_message(negotiated.message);
    }

    /// Goes on in the form that fits the carrier.
    fn take_form(&mut self, native: bool, now: Nanos) {
        // Never used: a link is taken apart whole.
        let none = StreamLink::new(LinkConfig::new(Role::Listener, [0; 16], [0; 32]), now);
        let core = std::mem::replace(&mut self.link, Box::new(none)).into_core();
        self.link = if native {
            Box::new(NativeLink::over(core))
        } else {
            Box::new(StreamLink::over(core))
        };
    }

    /// Hands on what the link has to tell.
    fn take_events(&mut self, factory: &dyn Factory<H>, now: Nanos) -> Result<(), Error> {
        while let Some(event) = self.link.poll_event() {
            match event {
                LinkEvent::Message(message) => {
                    let bulk = message.bulk.map(|bulk| (bulk.lane, bulk.len));
                    let inbound = Inbound {
                        bytes: message.bytes,
                        bulk,
                    };
                    let handled = self
                        .exchange
                        .handle_message(inbound, factory, now, &mut self.link);
                    handled.map_err(Breach::into_error)?;
                }
                LinkEvent::BulkDone { lane, body } => self.exchange.handle_body(lane, body, &mut self.link),
                LinkEvent::LaneReset { lane, .. } => self.exchange.handle_reset(lane, &mut self.link),
                LinkEvent::Opened(negotiated) => self.opened(&negotiated),
                LinkEvent::Resumed { .. } => self.exchange.push_event(Event::Resumed),
                LinkEvent::Pong { rtt } => {
                    let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                    self.exchange.push_event(Event::Pong(nanos));
                }
                LinkEvent::PeerClosing(reason) => self.exchange.push_event(Event::Closed(reason)),
                LinkEvent::ResumeRequested(_) => self.link.reject(Rejection::new(RejectCode::Unknown)),
                // A body of ours that the peer does not want was reset; streams are never accepted here.
                LinkEvent::LaneStopped { .. } | LinkEvent::LaneData { .. } | LinkEvent::LaneCredit { .. } => {
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What follows from a failure of the link or of what it brought.
    fn failed(&mut self, error: Error) -> Error {
        if error.kind() == ErrorKind::Malformed {
            self.link
                .close(CloseReason::new(CloseReason::BREACH, error.message()));
        }
        error
    }

    fn link_failed(&mut self, error: LinkError) -> Error {
        if let LinkError::Session(SessionEnd::Rejected { received, .. }) = &error {
            self.received = *received;
        }
        let kind = match &error {
            LinkError::Misbehaved(_) => ErrorKind::Malformed,
            LinkError::Incompatible(_) => ErrorKind::Incompatible,
            LinkError::Carrier(_) | LinkError::Session(_) => ErrorKind::Disconnected(Certainty::Unknown),
            _ => ErrorKind::Misuse,
        };
        Error::wrap(kind, error)
    }
}

impl<H: Handles> Protocol<H> for Native<H> {
    /// Rough is enough for signs of life and acknowledgements. Calls of ours that wait are told how much time is left for them
    /// when they go; where the peer's are told that, the time is asked for.
    #[inline]
    fn timing(&self) -> Timing {
        if self.link.awaits_pong() || self.exchange.has_waiting() {
            Timing::Exact
        } else {
            Timing::Rough
        }
    }

    fn handle_bytes(
        &mut self,
        stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        factory: &dyn Factory<H>,
        now: Nanos,
    ) -> Result<(), Error> {
        let read = self.link.handle_bytes(stream, input, end, now);
        // What came whole before the failure counts.
        self.take_events(factory, now)
            .map_err(|error| self.failed(error))?;
        read.map_err(|error| self.link_failed(error))
    }

    fn handle_placed(&mut self, placement: &mut Placement, now: Nanos) -> Result<(), Error> {
        self.link
            .handle_placed(placement, now)
            .map_err(|error| self.link_failed(error))
    }

    fn place(&mut self, placement: &mut Placement) {
        self.link.place(placement);
    }

    fn handle_timeout(&mut self, now: Nanos) -> Result<(), Error> {
        self.exchange.handle_timeout(now, &mut self.link);
        self.link
            .handle_timeout(now)
            .map_err(|error| self.link_failed(error))
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        earlier(self.link.poll_timeout(), self.exchange.poll_timeout())
    }

    fn poll_transmit(&mut self, batch: &mut Batch, now: Nanos) -> bool {
        self.exchange.flush(now, &mut self.link);
        self.link.poll_transmit(batch, now)
    }

    fn wants_write(&self) -> bool {
        self.link.wants_write() || self.exchange.wants_flush(&self.link)
    }

    fn has_unhurried(&self) -> bool {
        self.exchange.has_unhurried()
    }

    fn hurry(&mut self) {
        self.exchange.hurry();
    }

    fn poll_event(&mut self) -> Option<Event<H>> {
        self.exchange.poll_event(&mut self.link)
    }

    fn has_events(&self) -> bool {
        self.exchange.has_events()
    }

    fn call(&mut self, start: CallStart<'_, H>, now: Nanos) -> Result<u64, Error> {
        self.exchange.call(start, now, &mut self.link)
    }

    fn poll_outcome(
        &mut self,
        call: u64,
        waiter: &mut dyn FnMut(Option<H::Waiter>) -> H::Waiter,
    ) -> Poll<Outcome<H>> {
        self.exchange.poll_outcome(call, &mut self.link, waiter)
    }

    fn is_ready(&self, call: u64) -> bool {
        self.exchange.is_ready(call)
    }

    fn drop_call(&mut self, call: u64, reason: CancelReason) -> Option<H::Waiter> {
        self.exchange.drop_call(call, reason, &mut self.link)
    }

    fn answer(&mut self, answer: u64, reply: Reply<'_, H>) {
        self.exchange.answer(answer, reply, &mut self.link);
    }

    fn release(&mut self, import: u64, generation: u32) {
        self.exchange.release(import, generation);
    }

    fn shape(&mut self, fingerprint: u32) -> PeerShape {
        self.exchange.shape(fingerprint, &mut self.link)
    }

    fn tell_shape(&mut self, fingerprint: u32, description: Option<&[u8]>) {
        self.exchange.tell_shape(fingerprint, description, &mut self.link);
    }

    fn rest(&mut self) {
        self.exchange.rest();
        self.link.rest();
    }

    fn ping(&mut self, now: Nanos) {
        self.link.ping(now);
    }

    fn drain(&mut self) {
        self.exchange.drain(&mut self.link);
    }

    fn close(&mut self, reason: CloseReason) {
        self.exchange.write_out(&mut self.link);
        self.link.close(reason);
    }

    fn sever(&mut self, error: &Error) {
        self.exchange.sever(error, self.received, &self.link);
        // What was said not to be sent must not be.
        self.link.abandon();
    }

    fn detach(&mut self, now: Nanos) -> bool {
        self.link.detach(now).is_ok()
    }

    fn attach(&mut self, config: AttachConfig, native: bool, now: Nanos) -> Result<(), Error> {
        self.take_form(native, now);
        self.link
            .attach(config, now)
            .map_err(|error| Error::wrap(ErrorKind::Misuse, error))
    }

    fn resume(&mut self, request: ResumeRequest, native: bool, now: Nanos) -> Result<(), Rejection> {
        self.link.resume(request, now)?;
        self.take_form(native, now);
        Ok(())
    }

    fn session(&self) -> Option<SessionId> {
        self.link.session()
    }

    fn tombstone(&self) -> Option<Tombstone> {
        self.link.tombstone()
    }

    fn track(&mut self) {
        self.exchange.track();
    }

    fn tables(&self, most: usize) -> Tables<H> {
        self.exchange.tables(most)
    }

    fn stats(&self) -> TableStats {
        self.exchange.stats()
    }

    fn traffic(&self) -> Traffic {
        let link = self.link.stats();
        Traffic {
            bytes_sent: link.bytes_sent,
            bytes_received: link.bytes_received,
            messages_sent: link.messages_sent,
            messages_received: link.messages_received,
            carriers: link.carriers,
        }
    }
}

impl<H: Handles> std::fmt::Debug for Native<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

impl Wire for Box<dyn Link> {
    fn submit(&mut self, head: &[u8], body: BodyRef<'_>) -> Result<Option<LaneId>, LinkError> {
        let body = match body {
            BodyRef::Slice(bytes) => Body::Slice(bytes),
            BodyRef::Rope(pieces) => Body::Rope(pieces),
        };
        (**self).submit(head, body)
    }

    fn reset_lane(&mut self, lane: LaneId) {
        (**self).reset_lane(lane, UNWANTED);
    }

    fn stop_lane(&mut self, lane: LaneId) {
        (**self).stop_lane(lane, UNWANTED);
    }

    fn position(&self) -> u64 {
        (**self).position()
    }

    fn is_transmitted(&self, position: u64) -> bool {
        (**self).is_transmitted(position)
    }

    fn is_congested(&self) -> bool {
        (**self).is_congested()
    }
}

impl From<&Config> for ExchangeConfig {
    fn from(config: &Config) -> Self {
        Self {
            max_calls: config.max_calls.into(),
            max_call_bytes: config.max_call_bytes,
            max_objects: config.max_objects.into(),
            max_depth: config.max_depth,
            max_unread: config.max_unread,
            warn_at_exports: config.warn_at_exports.map_or(u64::MAX, u64::from),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use farref_framing::{LinkConfig, Role, StreamLink};

    use super::*;
    use crate::exchange::stand_in::{Marks, Numbers, Thing};
    use crate::protocol::{CallOptions, Incoming, Op, Received, Refs, Target};

    /// One side, over a real link.
    struct Side {
        native: Native<Numbers>,
        marks: Marks,
        batch: Batch,
    }

    impl Side {
        fn new(role: Role) -> Self {
            let mut config = LinkConfig::new(role, [role as u8; 16], [role as u8; 32]);
            config.limits.message = 100_000;
            let link = Box::new(StreamLink::new(config, 0));
            let root = Thing::new(role as usize).handed(1, false);
            let native = Native::new(link, &Config::default(), root, 0);
            Self {
                native,
                marks: Marks::default(),
                batch: Batch::new(),
            }
        }

        fn events(&mut self) -> Vec<Event<Numbers>> {
            std::iter::from_fn(|| self.native.poll_event()).collect()
        }

        fn one_call(&mut self) -> Incoming<Numbers> {
            match self.events().pop() {
                Some(Event::Call(incoming)) => incoming,
                other => panic!("{other:?}"),
            }
        }

        fn call(&mut self, body: &[u8]) -> Result<u64, Error> {
            let start = CallStart {
                target: Target::Import(0),
                op: &Op::Len,
                options: &CallOptions::default(),
                body: BodyRef::Slice(body),
                refs: Refs::new(),
                waiter: &mut None,
            };
            self.native.call(start, 0)
        }

        fn answer(&mut self, answer: u64, body: &[u8]) {
            let body = BodyRef::Slice(body);
            let reply = Reply::Value {
                failure: None,
                shape: 0,
                body,
                refs: Refs::new(),
            };
            self.native.answer(answer, reply);
        }
    }

    /// Moves bytes from one side to the other until there are no more. Whether there were any.
    fn carry(from: &mut Side, to: &mut Side) -> Result<bool, Error> {
        let mut moved = false;
        while from.native.poll_transmit(&mut from.batch, 0) {
            let mut input = BytesMut::from(&from.batch.to_vec(StreamKey::MAIN)[..]);
            from.batch.clear();
            to.native
                .handle_bytes(StreamKey::MAIN, &mut input, false, &to.marks, 0)?;
            moved = true;
        }
        Ok(moved)
    }

    fn pair() -> (Side, Side) {
        let (mut a, mut b) = (Side::new(Role::Dialer), Side::new(Role::Listener));
        turn(&mut a, &mut b);
        for side in [&mut a, &mut b] {
            assert!(matches!(side.events()[..], [Event::Opened(Received::Import(_))]));
        }
        turn(&mut a, &mut b);
        (a, b)
    }

    fn turn(a: &mut Side, b: &mut Side) {
        while carry(a, b).unwrap() | carry(b, a).unwrap() {}
    }

    #[test]
    fn a_call_with_long_arguments_and_a_long_result_goes_there_and_back() {
        let (mut a, mut b) = pair();
        for len in [3, 50_000] {
            let call = a.call(&vec![1; len]).unwrap();
            turn(&mut a, &mut b);
            let mut events = b.events();
            let Event::Call(incoming) = events.remove(0) else {
                panic!("{events:?}")
            };
            match (incoming.request.body, &events[..]) {
                (Some(body), []) => assert_eq!(body, vec![1; len]),
                (None, [Event::Body { answer, body, .. }]) => {
                    assert_eq!((*answer, &body[..]), (incoming.answer, &vec![1; len][..]));
                }
                other => panic!("{other:?}"),
            }
            b.answer(incoming.answer, &vec![2; len]);
            turn(&mut a, &mut b);
            a.events();
            match a.native.poll_outcome(call, &mut |_| 0) {
                Poll::Ready(Outcome::Value { body, .. }) => assert_eq!(body, vec![2; len]),
                other => panic!("{other:?}"),
            }
            turn(&mut a, &mut b);
        }
        assert_eq!((a.native.stats().calls, b.native.stats().answers), (0, 0));
        assert!(!a.native.wants_write() && !b.native.wants_write());
    }

    #[test]
    fn sides_that_have_rested_go_on_where_they_were() {
        let (mut a, mut b) = pair();
        for len in [3, 50_000, 3] {
            let call = a.call(&vec![1; len]).unwrap();
            turn(&mut a, &mut b);
            a.native.rest();
            b.native.rest();
            let events = b.events();
            let Some(Event::Call(incoming)) = events.first() else {
                panic!("{events:?}")
            };
            b.answer(incoming.answer, b"answer");
            drop(events);
            turn(&mut a, &mut b);
            a.native.rest();
            a.events();
            let outcome = a.native.poll_outcome(call, &mut |_| 0);
            assert!(matches!(outcome, Poll::Ready(Outcome::Value { body, .. }) if body == "answer"));
            turn(&mut a, &mut b);
        }
        assert_eq!((a.native.stats().calls, b.native.stats().answers), (0, 0));
    }

    #[test]
    fn what_is_longer_than_the_peer_accepts_fails_alone() {
        let (mut a, mut b) = pair();
        assert_eq!(a.call(&vec![1; 100_000]).unwrap_err().kind(), ErrorKind::Limit);
        let call = a.call(b"").unwrap();
        turn(&mut a, &mut b);
        let incoming = b.one_call();
        b.answer(incoming.answer, &vec![1; 100_000]);
        turn(&mut a, &mut b);
        a.events();
        let outcome = a.native.poll_outcome(call, &mut |_| 0);
        assert!(matches!(outcome, Poll::Ready(Outcome::Error(error)) if error.kind() == ErrorKind::Limit));
    }

    #[test]
    fn a_ping_comes_back_and_a_close_arrives_behind_what_was_sent() {
        let (mut a, mut b) = pair();
        a.native.ping(0);
        turn(&mut a, &mut b);
        assert!(matches!(a.events()[..], [Event::Pong(_)]));
        a.call(b"last").unwrap();
        a.native.drain();
        a.native.close(CloseReason::done());
        turn(&mut a, &mut b);
        let events = b.events();
        assert!(
            matches!(&events[..], [Event::Call(_), Event::Draining, Event::Closed(reason)] if reason.is_done()),
            "{events:?}"
        );
        assert!(a.call(b"too late").is_err());
    }

    #[test]
    fn a_breach_is_told_to_the_peer() {
        let (mut a, mut b) = pair();
        a.native.link.submit(b"\x7f", BodyRef::Slice(b"")).unwrap();
        let error = carry(&mut a, &mut b).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        carry(&mut b, &mut a).unwrap();
        let events = a.events();
        let [Event::Closed(reason)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(reason.code, CloseReason::BREACH);
        assert!(reason.text.contains("0x7f"), "{reason}");
    }

    #[test]
    fn a_call_that_was_cut_off_knows_whether_it_was_written() {
        let (mut a, mut b) = pair();
        let (written, waiting) = (a.call(b"1").unwrap(), a.call(b"2"));
        a.native.poll_transmit(&mut a.batch, 0);
        let later = a.call(b"3").unwrap();
        let error = Error::new(ErrorKind::Carrier, "gone");
        a.native.sever(&error);
        a.events();
        let certainty = |side: &mut Side, call| match side.native.poll_outcome(call, &mut |_| 0) {
            Poll::Ready(Outcome::Error(error)) => error.certainty(),
            other => panic!("{other:?}"),
        };
        assert_eq!(certainty(&mut a, written), Some(Certainty::Unknown));
        assert_eq!(certainty(&mut a, waiting.unwrap()), Some(Certainty::Unknown));
        assert_eq!(certainty(&mut a, later), Some(Certainty::NotSent));
        assert!(b.events().is_empty());
    }

    #[test]
    fn another_protocol_is_a_clear_error() {
        let mut side = Side::new(Role::Listener);
        let mut input = BytesMut::from(&b"GET / HTTP/1.1\r\n\r\n"[..]);
        let handled = side
            .native
            .handle_bytes(StreamKey::MAIN, &mut input, false, &side.marks, 0);
        assert_eq!(handled.unwrap_err().kind(), ErrorKind::Incompatible);
    }

    /// It was said not to have been sent.
    #[test]
    fn what_was_not_sent_before_the_end_is_not_sent_after_it() {
        let (mut a, mut b) = pair();
        a.call(b"late").unwrap();
        a.native
            .sever(&ErrorKind::Disconnected(Certainty::Unknown).into());
        while carry(&mut a, &mut b).unwrap() {}
        let events = b.events();
        assert!(
            !events.iter().any(|event| matches!(event, Event::Call(_))),
            "{events:?}"
        );
    }
}
