//! One port, opened again and again.
//!
//! A line has two ends and no connections: whoever listens at a port has the one carrier that it can be, and
//! the next one when that is gone.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::port::Opened;
use super::{carrier, open};
use crate::address::Address;
use crate::carrier::{BoxFuture, Carrier};
use crate::error::AcceptError;
use crate::medium::Listener;

/// Hands out a carrier of the port whenever there is none.
pub(super) struct Listening {
    address: Address,
    phase: Phase,
    /// How long to wait before the port is opened again.
    pause: Duration,
}

/// What the port is doing.
enum Phase {
    /// Nobody has taken the carrier yet.
    Open(Opened),
    /// Somebody has it since then; the receiver ends with it.
    Lent(oneshot::Receiver<()>, Instant),
    /// It is opened then.
    Closed(Instant),
}

impl Listening {
    pub(super) const fn new(address: Address, opened: Opened) -> Self {
        Self {
            address,
            phase: Phase::Open(opened),
            pause: SHORTEST,
        }
    }

    /// Cancel-safe: whatever was waited for is in `phase` while it is waited for. An attempt to open that is
    /// abandoned closes what it opened.
    async fn next(&mut self) -> Result<Carrier, AcceptError> {
        loop {
            match &mut self.phase {
                Phase::Open(_) => return self.lend(),
                Phase::Lent(closed, since) => {
                    // It ends by being dropped.
                    let _ = closed.await;
                    if since.elapsed() > LONGEST {
                        self.pause = SHORTEST;
                    }
                    self.phase = Phase::Closed(Instant::now() + self.pause);
                    self.pause = (self.pause * 2).min(LONGEST);
                }
                Phase::Closed(until) => {
                    sleep_until(*until).await;
                    self.phase = match open(&self.address).await {
                        Ok(opened) => Phase::Open(opened),
                        // It may be plugged in, be let go of, or get its permissions, at any time.
                        Err(_) => {
                            let until = Instant::now() + self.pause;
                            self.pause = (self.pause * 2).min(LONGEST);
                            Phase::Closed(until)
                        }
                    };
                }
            }
        }
    }

    /// Hands out the port that is open.
    fn lend(&mut self) -> Result<Carrier, AcceptError> {
        let now = Instant::now();
        let Phase::Open(opened) = std::mem::replace(&mut self.phase, Phase::Closed(now)) else {
            return Err(AcceptError::Exhausted(std::io::ErrorKind::WouldBlock.into()));
        };
        let (mut stream, closed) = carrier(opened, &self.address).map_err(AcceptError::Exhausted)?;
        stream.info.local = Some(self.address.clone());
        self.phase = Phase::Lent(closed, now);
        Ok(stream.into())
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        Box::pin(self.next())
    }

    fn local_addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

/// How soon a port is opened again.
const SHORTEST: Duration = Duration::from_millis(200);

/// How seldom a port is looked for that does not come back, and how long a carrier must last for the next
/// one to come soon.
const LONGEST: Duration = Duration::from_secs(5);
