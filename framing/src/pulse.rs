//! Signs of life, and the patience with which acknowledgements wait (PROTOCOL.md § 3.7).
//!
//! Knows times only; the frames are made by others.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Breach, LinkError, Loss};
use crate::limits::{ACK_RIDING_AGE, Limits, MAX_PINGS};
use crate::link::Nanos;

/// When what was heard, asked and left unsaid.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Zero: no pings by ourselves.
    idle: Nanos,
    silence: Nanos,
    ack_delay: Nanos,
    heard: Nanos,
    /// Nothing while there are none: a link that is in use, or has nothing to say, needs no signs of life.
    signs: Option<Box<Signs>>,
    /// Since when there is something to acknowledge.
    owed: Option<Nanos>,
    /// It has waited long enough.
    due: bool,
}

/// Signs of life under way.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    /// First and last ping of ours since the peer was heard.
    asked: Option<(Nanos, Nanos)>,
    /// Pings that are to be sent, by their stamps.
    pub(crate) pings: VecDeque<Nanos>,
    /// Pings that wait for their answer: stamp, and whether somebody wants to know.
    waiting: VecDeque<(Nanos, bool)>,
    /// Answers that are to be sent.
    pub(crate) pongs: VecDeque<[u8; 8]>,
}

impl Signs {
    fn are_to_be_sent(&self) -> bool {
        !self.pings.is_empty() || !self.pongs.is_empty()
    }
}

impl Pulse {
    pub(crate) fn new(limits: &Limits, now: Nanos) -> Self {
        Self {
            idle: nanos(limits.idle),
            silence: nanos(limits.silence),
            ack_delay: nanos(limits.ack_delay),
            heard: now,
            signs: None,
            owed: None,
            due: false,
        }
    }

    /// A new carrier: nothing was heard or asked on it. Whoever wanted a sign of life still does.
    pub(crate) fn restart(&mut self, now: Nanos) {
        let signs = self.signs.take().unwrap_or_default();
        let wanted = signs.waiting.iter().any(|(_, wanted)| *wanted);
        self.heard = now;
        self.acknowledged();
        if wanted {
            self.ping(now);
        }
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        self.signs
            .take_if(|signs| signs.asked.is_none() && signs.waiting.is_empty() && !signs.are_to_be_sent());
    }

    /// Whether there are pings or answers to be sent.
    #[inline]
    pub(crate) fn wants_to_speak(&self) -> bool {
        self.signs.as_ref().is_some_and(|signs| signs.are_to_be_sent())
    }

    /// Whether a ping waits for its answer.
    #[inline]
    pub(crate) fn awaits_pong(&self) -> bool {
        self.signs.as_ref().is_some_and(|signs| !signs.waiting.is_empty())
    }

    /// What there is to be sent.
    pub(crate) fn signs(&mut self) -> Option<&mut Signs> {
        self.signs.as_deref_mut()
    }

    /// Bytes came.
    #[inline]
    pub(crate) fn heard(&mut self, now: Nanos) {
        self.heard = now;
        if let Some(signs) = &mut self.signs {
            signs.asked = None;
        }
    }

    /// Somebody wants a sign of life.
    pub(crate) fn ping(&mut self, now: Nanos) {
        self.ask(now, true);
    }

    fn ask(&mut self, now: Nanos, wanted: bool) -> &mut Signs {
        let signs = self.signs.get_or_insert_default();
        if signs.waiting.len() < MAX_PINGS {
            signs.waiting.push_back((now, wanted));
            signs.pings.push_back(now);
        } else if wanted && let Some(last) = signs.waiting.back_mut() {
            last.1 = true;
        }
        signs
    }

    /// The peer wants one.
    pub(crate) fn pinged(&mut self, stamp: [u8; 8]) -> Result<(), Breach> {
        let signs = self.signs.get_or_insert_default();
        if signs.pongs.len() >= MAX_PINGS {
            return Err(Breach::TooManyPings);
        }
        signs.pongs.push_back(stamp);
        Ok(())
    }

    /// The answer to a ping: the round trip, if somebody wants to know. One that was not asked for is no harm.
    pub(crate) fn ponged(&mut self, stamp: [u8; 8], now: Nanos) -> Option<Duration> {
        let stamp = u64::from_le_bytes(stamp);
        let waiting = &mut self.signs.as_mut()?.waiting;
        let at = waiting.iter().position(|(asked, _)| *asked == stamp)?;
        let (_, wanted) = waiting.remove(at)?;
        wanted.then(|| Duration::from_nanos(now.saturating_sub(stamp)))
    }

    /// There is something to acknowledge.
    #[inline]
    pub(crate) fn owe(&mut self, now: Nanos) {
        self.owed.get_or_insert(now);
    }

    /// There is nothing more to acknowledge.
    pub(crate) fn acknowledged(&mut self) {
        self.owed = None;
        self.due = false;
    }

    /// Whether acknowledgements have to go out even alone.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Whether they have waited long enough to ride along.
    pub(crate) fn is_old(&self, now: Nanos) -> bool {
        let age = nanos(ACK_RIDING_AGE).min(self.ack_delay);
        self.owed.is_some_and(|since| now.saturating_sub(since) >= age)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Nanos) -> Result<(), LinkError> {
        if self
            .owed
            .is_some_and(|since| now >= since.saturating_add(self.ack_delay))
        {
            self.due = true;
        }
        if self.idle == 0 {
            return Ok(());
        }
        // after a sleep of this machine the peer gets a chance to answer first
        if now >= self.heard.saturating_add(self.silence)
            && self
                .asked()
                .is_some_and(|(first, _)| now >= first.saturating_add(self.idle))
        {
            return Err(Loss::Silent.into());
        }
        if now >= self.next_ask() {
            let first = self.asked().map_or(now, |(first, _)| first);
            self.ask(now, false).asked = Some((first, now));
        }
        Ok(())
    }

    fn asked(&self) -> Option<(Nanos, Nanos)> {
        self.signs.as_ref()?.asked
    }

    fn next_ask(&self) -> Nanos {
        self.asked()
            .map_or(self.heard, |(_, last)| last)
            .saturating_add(self.idle)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Nanos> {
        let ack = self
            .owed
            .filter(|_| !self.due)
            .map(|since| since.saturating_add(self.ack_delay));
        earlier(ack, (self.idle != 0).then(|| self.next_ask()))
    }
}

/// The earlier of two times, either of which may be none.
#[inline]
#[must_use]
pub fn earlier(one: Option<Nanos>, other: Option<Nanos>) -> Option<Nanos> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn an_idle_peer_is_asked_and_a_silent_one_given_up() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        assert_eq!(pulse.poll_timeout(), Some(15 * SECOND));
        pulse.handle_timeout(15 * SECOND - 1).unwrap();
        assert!(!pulse.wants_to_speak());
        pulse.handle_timeout(15 * SECOND).unwrap();
        assert_eq!(pulse.signs().unwrap().pings, [15 * SECOND]);
        assert_eq!(pulse.poll_timeout(), Some(30 * SECOND));
        pulse.handle_timeout(30 * SECOND).unwrap();
        assert_eq!(pulse.handle_timeout(45 * SECOND), Err(Loss::Silent.into()));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        pulse.handle_timeout(15 * SECOND).unwrap();
        pulse.heard(44 * SECOND);
        pulse.handle_timeout(45 * SECOND).unwrap();
        assert_eq!(pulse.poll_timeout(), Some(59 * SECOND));
    }

    #[test]
    fn after_a_long_sleep_the_peer_may_answer_first() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        pulse.handle_timeout(3600 * SECOND).unwrap();
        assert_eq!(pulse.signs().unwrap().pings.len(), 1);
        assert_eq!(pulse.handle_timeout(3615 * SECOND), Err(Loss::Silent.into()));
    }

    #[test]
    fn zero_idle_never_asks_and_never_gives_up() {
        let limits = Limits {
            idle: Duration::ZERO,
            ..Limits::default()
        };
        let mut pulse = Pulse::new(&limits, 0);
        assert_eq!(pulse.poll_timeout(), None);
        pulse.handle_timeout(u64::MAX).unwrap();
        assert!(!pulse.wants_to_speak());
    }

    #[test]
    fn a_pong_tells_the_round_trip_of_its_own_ping() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        pulse.ping(5);
        pulse.ping(7);
        assert_eq!(
            pulse.ponged(7_u64.to_le_bytes(), 10),
            Some(Duration::from_nanos(3))
        );
        assert_eq!(pulse.ponged(7_u64.to_le_bytes(), 11), None);
        assert_eq!(
            pulse.ponged(5_u64.to_le_bytes(), 12),
            Some(Duration::from_nanos(7))
        );
    }

    #[test]
    fn pings_are_bounded_both_ways() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        for now in 0..100 {
            pulse.ping(now);
        }
        let signs = pulse.signs().unwrap();
        assert_eq!((signs.pings.len(), signs.waiting.len()), (MAX_PINGS, MAX_PINGS));
        for _ in 0..MAX_PINGS {
            pulse.pinged([0; 8]).unwrap();
        }
        assert_eq!(pulse.pinged([0; 8]), Err(Breach::TooManyPings));
    }

    #[test]
    fn what_is_owed_rides_along_early_and_goes_alone_late() {
        let mut pulse = Pulse::new(&Limits::default(), 0);
        pulse.owe(SECOND);
        pulse.owe(2 * SECOND);
        assert!(!pulse.is_old(SECOND) && pulse.is_old(SECOND + SECOND / 10));
        assert_eq!(pulse.poll_timeout(), Some(2 * SECOND));
        pulse.handle_timeout(2 * SECOND).unwrap();
        assert!(pulse.is_due());
        pulse.acknowledged();
        assert!(!pulse.is_due() && !pulse.is_old(9 * SECOND));
    }
}
