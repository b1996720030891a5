//! Every bound of a link, with its default, its legal range and its reason.
//!
//! What a side declares in its preface binds the peer; the rest binds this side alone (PROTOCOL.md § 2.4).

use std::time::Duration;

/// Most bytes of payload in one frame, whatever is negotiated.
pub const MAX_FRAGMENT: usize = 64 * 1024;
/// Fewest bytes of payload that a peer may limit frames to: what every peer must take before it is known.
pub const MIN_FRAGMENT: usize = 240;
/// Fewest lanes that a peer may limit naming to: as many bodies may be submitted before it is known.
pub const MIN_NAMED: u32 = 16;
/// Most lanes that are named and not done, whatever is declared.
pub const MAX_NAMED: u32 = 4096;
/// Longest frame header: kind, lane, length.
pub const MAX_HEADER: usize = 1 + 9 + 5;
/// Longest preface.
pub const MAX_PREFACE: usize = 1024;
/// Most lane-0 bytes a dialer sends before it knows the peer's preface.
pub const EARLY_BYTES: u64 = 64 * 1024;
/// About how much of messages [`poll_transmit`](crate::Link::poll_transmit) puts into one batch: 64 KiB, and enough for
/// their frames and the message before them. Bodies are often that long; a second write for their last bytes costs a third more.
pub const BATCH_BYTES: usize = 68 * 1024;
/// About how much of that bodies may be, if their pieces are shared: as many of the default fragments as one write takes. On
/// a fast carrier each write wakes the peer; on a slow one what it does not take can still be overtaken.
pub const BULK_BYTES: usize = 260 * 1024;
/// Pieces at least this long are shared, shorter ones are copied together: below, `writev` costs more than a copy.
pub const SHARE_BYTES: usize = 4 * 1024;
/// A longer body is bulk, and so is one that has to wait for credit.
pub const BULK_FROM: u64 = 256 * 1024;
/// Received bytes at which an acknowledgement is sent even if nothing else is: no more than a peer with the least
/// [`retained`](Limits::retained) and the largest [`reserve`](Limits::reserve) sends of bodies before it waits for one.
pub const ACK_ALONE: u64 = 128 * 1024;
/// Received bytes at which it is sent although a body that needs no more credit is under way and one of its frames has come in
/// part: the rest of that follows whatever is sent, so that the peer does not wait yet.
pub const ACK_ANYWAY: u64 = 1024 * 1024;
/// Received bytes at which an acknowledgement rides along with whatever is sent.
pub const ACK_RIDING: u64 = 4 * 1024;
/// Age at which it does so for fewer.
pub const ACK_RIDING_AGE: Duration = Duration::from_millis(100);
/// Longest text of a close reason, in bytes.
pub const MAX_CLOSE_TEXT: usize = 256;
/// Most pings waiting for their answer, in each direction.
pub const MAX_PINGS: usize = 16;

/// The bounds of one link.
///
/// A value outside its range is moved to the nearest legal one when the link is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of payload in one frame, both ways: the lower of both sides' is used.
    ///
    /// Default 16 KiB, 240 B to 64 KiB. A small message waits for at most one such piece of a large one. Connections take
    /// what suits their medium in place of the default: 64 KiB over a Unix socket, less over a serial line.
    pub fragment: usize,
    /// Largest message accepted from the peer: head and body together, in bytes.
    ///
    /// Default 16 MiB, 1 KiB to 1 GiB. Declared to the peer, which must not send more.
    pub message: u64,
    /// Most lanes of the peer's that may be under way at once, lane 0 aside.
    ///
    /// Default 32, 1 to 1024. Declared. With `first_credit` it bounds what is held unasked: 16 MiB by default.
    pub lanes: u32,
    /// Most lanes of the peer's that may be named and not done, under way or not.
    ///
    /// Default 1024, 16 or `lanes` to 4096. Declared. Each costs a table entry of about 150 bytes.
    pub named: u32,
    /// What the peer may send on a new lane before it is granted more, in bytes.
    ///
    /// Default 512 KiB, 1 KiB to 16 MiB. Declared. A longer body takes one more round trip.
    pub first_credit: u64,
    /// What large bodies may take beyond their first credit, all together, in bytes.
    ///
    /// Default 64 MiB, at least `message`.
    pub receive_pool: u64,
    /// Most bytes that are sent and not acknowledged, in a session.
    ///
    /// Default 8 MiB, 256 KiB to 64 MiB. At the bound sending waits; nothing is dropped.
    pub retained: u64,
    /// Part of `retained` that only lane 0 may use, so that bodies can't hold up returns and releases.
    ///
    /// Default 1 MiB, at most half of `retained`.
    pub reserve: u64,
    /// Most bytes kept for the peer, sent or not. Beyond it [`submit`](crate::Link::submit) refuses.
    ///
    /// Default 256 MiB, at least `retained` and `message`.
    pub backlog: u64,
    /// How long a session outlives its carrier: the lower of both sides'.
    ///
    /// Default 60 s, up to an hour. Declared, in milliseconds.
    pub resume_window: Duration,
    /// How long the peer may take until the link is open.
    ///
    /// Default 10 s, 10 ms to an hour.
    pub handshake: Duration,
    /// Silence after which a ping asks for a sign of life. Zero: never, and no silence is too long.
    ///
    /// Default 15 s.
    pub idle: Duration,
    /// Silence after which the carrier counts as lost.
    ///
    /// Default 45 s, at least twice `idle`.
    pub silence: Duration,
    /// Longest time until received bytes are acknowledged if nothing else is sent.
    ///
    /// Default 1 s, 1 ms to 10 s. Long, because what waits for it is bounded: no system call is spent on it in a
    /// conversation.
    pub ack_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        Self {
            fragment: 16 * 1024,
            message: 16 * MIB,
            lanes: 32,
            named: 1024,
            first_credit: 512 * KIB,
            receive_pool: 64 * MIB,
            retained: 8 * MIB,
            reserve: MIB,
            backlog: 256 * MIB,
            resume_window: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            silence: Duration::from_secs(45),
            ack_delay: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// These limits, each within its range.
    #[must_use]
    pub fn legal(mut self) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        self.fragment = self.fragment.clamp(MIN_FRAGMENT, MAX_FRAGMENT);
        self.message = self.message.clamp(1 << 10, 1 << 30);
        self.lanes = self.lanes.clamp(1, 1024);
        self.named = self.named.clamp(self.lanes.max(MIN_NAMED), MAX_NAMED);
        self.first_credit = self.first_credit.clamp(1 << 10, 16 << 20);
        self.receive_pool = self.receive_pool.max(self.message);
        self.retained = self.retained.clamp(256 << 10, 64 << 20);
        self.reserve = self.reserve.min(self.retained >> 1);
        self.backlog = self.backlog.max(self.retained).max(self.message);
        self.resume_window = self.resume_window.min(HOUR);
        self.handshake = self.handshake.clamp(Duration::from_millis(10), HOUR);
        self.idle = self.idle.min(HOUR);
        self.silence = self.silence.max(self.idle.saturating_mul(2));
        self.ack_delay = self
            .ack_delay
            .clamp(Duration::from_millis(1), HOUR.min(Duration::from_secs(10)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal() {
        assert_eq!(Limits::default().legal(), Limits::default());
    }

    #[test]
    fn an_acknowledgement_comes_before_any_peer_waits_for_it() {
        let least = Limits {
            retained: 0,
            reserve: u64::MAX,
            ..Limits::default()
        }
        .legal();
        assert!(ACK_ALONE <= least.retained - least.reserve);
    }

    #[test]
    fn what_is_out_of_range_is_moved_to_the_nearest_legal_value() {
        let low = Limits {
            fragment: 0,
            message: 0,
            lanes: 0,
            named: 0,
            first_credit: 0,
            ..Limits::default()
        }
        .legal();
        assert_eq!(
            (low.fragment, low.message, low.lanes, low.named, low.first_credit),
            (240, 1024, 1, 16, 1024)
        );
        let high = Limits {
            message: u64::MAX,
            receive_pool: 0,
            reserve: u64::MAX,
            ..Limits::default()
        }
        .legal();
        assert_eq!(
            (high.message, high.receive_pool, high.reserve),
            (1 << 30, 1 << 30, 4 << 20)
        );
    }
}
