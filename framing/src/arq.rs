//! A dependable byte stream over a line that loses, changes and invents bytes (PROTOCOL.md chapter 11).
//!
//! ```text
//!   StreamCarrier, dependable        bytes in order, each once, or a clear end
//!          |            ^
//!     Line: frames, numbers, sums, acknowledgements, timers       (no IO)
//!          v            |
//!   StreamCarrier, lossy             a serial line
//! ```
//!
//! Neither side is first: each asks until it is answered, so it does not matter which is switched on when. A side that
//! starts anew is told apart from what it was before, and ends the stream.
//!
//! Knows frames and their repetition; ports, baud rates and plugs are the carrier's affair.

mod cobs;
mod frame;
mod line;
mod shell;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::link::Role;

pub use shell::{Reliable, reliable};

/// How a side keeps a line dependable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// What this side would like to be. If both would like to be the same, chance decides.
    pub role: Role,
    /// Most bytes of the stream in one frame; the lower of both sides' is used.
    ///
    /// Default 160, 16 to 1024, and no more than a second of the line. Longer ones are lost more often and hold up longer what is urgent; shorter ones carry
    /// less beside their 12 bytes.
    pub payload: usize,
    /// Frames that may be under way; the lower of both sides' is used.
    ///
    /// Default 8 up to 230,400 baud and 16 above, 1 to 32.
    pub window: u8,
    /// Speed of the line, for the first timers. Default 11,520: 115,200 baud, 8N1.
    pub bytes_per_second: u64,
    /// How long the other side may take to be there. Default: for ever.
    pub patience: Option<Duration>,
    /// Silence after which the other side counts as gone. Default 10 s, at least 3 s.
    pub silence: Duration,
}

impl Config {
    /// The defaults for a line of that speed.
    #[must_use]
    pub fn new(role: Role, bytes_per_second: u64) -> Self {
        Self {
            role,
            payload: 160,
            window: if bytes_per_second > 23_040 { 16 } else { 8 },
            bytes_per_second,
            patience: None,
            silence: Duration::from_secs(10),
        }
    }

    fn within_limits(mut self) -> Self {
        self.payload = self.payload.clamp(frame::MIN_PAYLOAD, frame::MAX_PAYLOAD);
        self.window = self.window.clamp(1, 32);
        self.bytes_per_second = self.bytes_per_second.max(1);
        // No frame is on the line for much more than a second: timers, and whatever is urgent, wait for it.
        let second = usize::try_from(self.bytes_per_second).unwrap_or(usize::MAX);
        self.payload = self.payload.min(second.max(frame::MIN_PAYLOAD));
        self.silence = self.silence.max(Duration::from_secs(3));
        self
    }
}

/// Numbers of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes that were sent on the line.
    pub bytes_sent: u64,
    /// Bytes that came on the line, noise included.
    pub bytes_heard: u64,
    /// Frames that were sent, repeated ones included.
    pub frames_sent: u64,
    /// Frames that were sent again.
    pub frames_again: u64,
    /// Frames that came as they were sent.
    pub frames_heard: u64,
    /// What came and was no frame: noise, or frames that noise has changed.
    pub bad_frames: u64,
    /// The smoothed time from sending to hearing that it has come.
    pub round_trip: Option<Duration>,
}

/// Why a line is over, or was never there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// What this side sends comes back.
    Echo,
    /// The other side speaks another version.
    Version(u8),
    /// The other side has started anew.
    Restarted,
    /// The other side has given up.
    Reset,
    /// This side has given up.
    Abandoned,
    /// The other side was there, and says nothing any more.
    Silent,
    /// Not a byte came.
    NothingHeard,
    /// Bytes came, and not one frame.
    Nonsense,
    /// The other side was heard, but never answered.
    NotAnswered,
    /// The carrier below broke.
    Carrier(io::ErrorKind, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("what is sent on the line comes back: is there a loop plug, or echo switched on?"),
            Self::Version(version) => write!(f, "the other side of the line speaks version {version}, and this one 1"),
            Self::Restarted => f.write_str("the other side of the line has started anew: connect again"),
            Self::Reset => f.write_str("the other side of the line has given up"),
            Self::Abandoned => f.write_str("this side of the line has given up"),
            Self::Silent => f.write_str("the other side of the line says nothing any more: is the cable in its place?"),
            Self::NothingHeard => f.write_str(
                "nothing was heard on the line: is the other side switched on, and the cable in its place?",
            ),
            Self::Nonsense => f.write_str(
                "bytes come on the line, but none makes sense: is the baud rate the same on both sides, and does \
                 farref run on the other?",
            ),
            Self::NotAnswered => f.write_str(
                "the other side of the line is heard, but does not hear this one: look at the line that leads there",
            ),
            Self::Carrier(_, text) => write!(f, "the line broke: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

/// The body of the fuzz target: the first byte says whether the line is open, the rest comes on it.
pub(crate) fn fuzz(data: &[u8]) {
    use frame::{Ack, Frame, Hello, Tag};

    let Some((first, data)) = data.split_first() else {
        return;
    };
    let mut line = line::Line::new(Config::new(Role::Dialer, 11_520), [1; 8], 0);
    let tag = Tag([2; 8], [1; 8]);
    let mut said = Vec::new();
    if first & 1 == 1 {
        let hello = Hello {
            version: frame::VERSION,
            wish: 2,
            nonce: [2; 8],
            payload: 240,
            window: 8,
        };
        Frame::Syn(hello).encode(None, &mut said);
        Frame::Poll {
            ack: Ack { next: 0, room: 8 },
            behind: 0,
        }
        .encode(Some(tag), &mut said);
        line.handle_bytes(&said, 0);
    }
    let mut now: crate::Nanos = 0;
    for piece in data.chunks(64) {
        now = now.saturating_add(10_000_000);
        line.handle_bytes(piece, now);
        said.clear();
        // The same bytes once more, as a frame that is right.
        if let [kind, seq, next, room, payload @ ..] = piece {
            let ack = Ack {
                next: *next,
                room: *room,
            };
            match kind % 4 {
                0 if !payload.is_empty() => Frame::Data {
                    seq: *seq,
                    ack,
                    payload,
                }
                .encode(Some(tag), &mut said),
                1 => Frame::Fin { seq: *seq, ack }.encode(Some(tag), &mut said),
                2 => Frame::Ack {
                    ack,
                    behind: u32::from(*seq) << 7,
                }
                .encode(Some(tag), &mut said),
                _ => Frame::Poll {
                    ack,
                    behind: u32::MAX,
                }
                .encode(Some(tag), &mut said),
            }
        }
        line.handle_bytes(&said, now);
        line.write(piece);
        said.clear();
        while said.len() < 4096 && line.poll_transmit(&mut said, now) {}
        line.handle_timeout(now);
        assert!(line.kept() < 100_000);
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match &failure {
            Failure::Restarted | Failure::Reset => io::ErrorKind::ConnectionReset,
            Failure::Silent | Failure::NothingHeard | Failure::NotAnswered => io::ErrorKind::TimedOut,
            Failure::Carrier(kind, _) => *kind,
            Failure::Abandoned => io::ErrorKind::BrokenPipe,
            Failure::Echo | Failure::Version(_) | Failure::Nonsense => io::ErrorKind::InvalidData,
        };
        Self::new(kind, failure)
    }
}

#[cfg(test)]
mod tests;
