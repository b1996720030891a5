//! One port, opened again and again.
//!
//! A line has two ends and no connections: whoever listens at a port has the one carrier that it can be, and
//! the next one when that is gone.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::error::PortError;
use super::port::Opened;
use super::{carrier, open};
use crate::address::Address;
use crate::carrier::{BoxFuture, Carrier};
use crate::error::AcceptError;
use crate::medium::Listener;

/// Hands out a carrier of the port whenever there is none.
pub(super) struct Listening {
    address: Address,
    /// The port that was opened when listening began, until somebody takes it.
    opened: Option<Opened>,
    /// What happens to the port since.
    phase: Phase,
    /// How long to wait before the port is opened again.
    pause: Duration,
}

/// What happens to a port once it was taken.
enum Phase {
    /// Somebody has it since then; the receiver ends with it.
    Lent(oneshot::Receiver<()>, Instant),
    /// It is opened then.
    Closed(Instant),
    /// It is being opened.
    Opening(BoxFuture<'static, Result<Opened, PortError>>),
}

impl Listening {
    pub(super) fn new(address: Address, opened: Opened) -> Self {
        Self {
            address,
            opened: Some(opened),
            phase: Phase::Closed(Instant::now()),
            pause: SHORTEST,
        }
    }

    /// Cancel-safe: whatever is waited for is in `self`, and the next call goes on waiting for it.
    async fn next(&mut self) -> Result<Carrier, AcceptError> {
        loop {
            if let Some(opened) = self.opened.take() {
                return self.lend(opened);
            }
            match &mut self.phase {
                Phase::Lent(closed, since) => {
                    // It ends by being dropped.
                    let _ = closed.await;
                    if since.elapsed() > LONGEST {
                        self.pause = SHORTEST;
                    }
                    self.open_later();
                }
                Phase::Closed(until) => {
                    sleep_until(*until).await;
                    let address = self.address.clone();
                    self.phase = Phase::Opening(Box::pin(async move { open(&address).await }));
                }
                Phase::Opening(opening) => match opening.await {
                    Ok(opened) => return self.lend(opened),
                    // It may be plugged in, be let go of, or get its permissions, at any time.
                    Err(_) => self.open_later(),
                },
            }
        }
    }

    fn lend(&mut self, opened: Opened) -> Result<Carrier, AcceptError> {
        match carrier(opened, &self.address) {
            Ok((mut stream, closed)) => {
                stream.info.local = Some(self.address.clone());
                self.phase = Phase::Lent(closed, Instant::now());
                Ok(stream.into())
            }
            Err(source) => {
                self.open_later();
                Err(AcceptError::Exhausted(source))
            }
        }
    }

    fn open_later(&mut self) {
        self.phase = Phase::Closed(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
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
