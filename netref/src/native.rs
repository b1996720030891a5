//! Farref's own protocol: the exchange over a link.

use std::task::Poll;

use bytes::BytesMut;
use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{
    Batch, Body, CloseReason, LaneId, Link, LinkError, LinkEvent, Nanos, RejectCode, Rejection, SessionEnd,
    StreamKey,
};

use crate::config::Config;
use crate::exchange::{Breach, Exchange, ExchangeConfig, Inbound, Wire};
use crate::protocol::{
    BodyRef, CallStart, CancelReason, Event, Factory, Handles, Outcome, Outgoing, Protocol, Reply, TableStats,
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
        let exchange = Exchange::new(ExchangeConfig::from(config), root, &mut link);
        Self { exchange, link, received: None }
    }

    /// Hands on what the link has to tell.
    fn take_events(&mut self, factory: &dyn Factory<H>, now: Nanos) -> Result<(), Error> {
        while let Some(event) = self.link.poll_event() {
            match event {
                LinkEvent::Message(message) => {
                    let bulk = message.bulk.map(|bulk| (bulk.lane, bulk.len));
                    let inbound = Inbound { bytes: message.bytes, bulk };
                    let handled = self.exchange.handle_message(inbound, factory, now, &mut self.link);
                    handled.map_err(Breach::into_error)?;
                }
                LinkEvent::BulkDone { lane, body } => self.exchange.handle_body(lane, body, &mut self.link),
                LinkEvent::LaneReset { lane, .. } => self.exchange.handle_reset(lane, &mut self.link),
                LinkEvent::Opened(negotiated) => self.exchange.set_max_message(negotiated.message),
                LinkEvent::Pong { rtt } => {
                    let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                    self.exchange.push_event(Event::Pong(nanos));
                }
                LinkEvent::PeerClosing(reason) => self.exchange.push_event(Event::Closed(reason)),
                LinkEvent::ResumeRequested(_) => self.link.reject(Rejection::new(RejectCode::Unknown)),
                // A body of ours that the peer does not want was reset; streams are never accepted here.
                LinkEvent::LaneStopped { .. }
                | LinkEvent::LaneData { .. }
                | LinkEvent::LaneCredit { .. }
                | LinkEvent::Resumed { .. } => {}
                _ => {}
            }
        }
        Ok(())
    }

    /// What follows from a failure of the link or of what it brought.
    fn failed(&mut self, error: Error) -> Error {
        if error.kind() == ErrorKind::Malformed {
            self.link.close(CloseReason::new(CloseReason::BREACH, error.message()));
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
        self.take_events(factory, now).map_err(|error| self.failed(error))?;
        read.map_err(|error| self.link_failed(error))
    }

    fn handle_timeout(&mut self, now: Nanos) -> Result<(), Error> {
        self.exchange.handle_timeout(now, &mut self.link);
        self.link.handle_timeout(now).map_err(|error| self.link_failed(error))
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        self.link.poll_timeout().into_iter().chain(self.exchange.poll_timeout()).min()
    }

    fn poll_transmit(&mut self, batch: &mut Batch, now: Nanos) -> bool {
        self.exchange.flush(now, &mut self.link);
        self.link.poll_transmit(batch, now)
    }

    fn wants_write(&self) -> bool {
        self.link.wants_write() || self.exchange.wants_flush(&self.link)
    }

    fn poll_event(&mut self) -> Option<Event<H>> {
        self.exchange.poll_event(&mut self.link)
    }

    fn call(&mut self, start: CallStart<'_, H>, now: Nanos) -> Result<u64, Error> {
        self.exchange.call(start, now, &mut self.link)
    }

    fn poll_outcome(
        &mut self,
        call: u64,
        _now: Nanos,
        waiter: &mut dyn FnMut() -> H::Waiter,
    ) -> Poll<Outcome<H>> {
        self.exchange.poll_outcome(call, &mut self.link, waiter)
    }

    fn is_ready(&self, call: u64) -> bool {
        self.exchange.is_ready(call)
    }

    fn drop_call(&mut self, call: u64, reason: CancelReason) {
        self.exchange.drop_call(call, reason, &mut self.link);
    }

    fn answer(&mut self, answer: u64, reply: Reply<'_, H>, _now: Nanos) {
        self.exchange.answer(answer, reply, &mut self.link);
    }

    fn release(&mut self, import: u64, generation: u32) {
        self.exchange.release(import, generation);
    }

    fn ping(&mut self, now: Nanos) {
        self.link.ping(now);
    }

    fn drain(&mut self) {
        self.exchange.drain(&mut self.link);
    }

    fn close(&mut self, reason: CloseReason) {
        self.link.close(reason);
    }

    fn sever(&mut self, error: &Error) {
        self.exchange.sever(error, self.received, &self.link);
    }

    fn stats(&self) -> TableStats {
        self.exchange.stats()
    }
}

impl<H: Handles> std::fmt::Debug for Native<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("exchange", &self.exchange).finish_non_exhaustive()
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
        let mut exchange = Self::default();
        exchange.max_calls = config.max_calls.into();
        exchange.max_call_bytes = config.max_call_bytes;
        exchange.max_objects = config.max_objects.into();
        exchange.max_depth = config.max_depth;
        exchange
    }
}
