//! Ctrl-C, for commands that end in order or give up a part of what they do.

use crate::failure::Outcome;

/// Ctrl-C, from [`listen`](Self::listen) on: it does not end the program any more, and none is missed between two
/// waits.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
}

impl Interrupts {
    /// Within a runtime.
    #[cfg(unix)]
    pub(crate) fn listen() -> Outcome<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        use crate::failure::Failure;

        let signals = signal(SignalKind::interrupt());
        let signals = signals.map_err(|error| Failure::io("cannot listen for Ctrl-C", &error))?;
        Ok(Self { signals })
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "other systems may refuse")]
    pub(crate) const fn listen() -> Outcome<Self> {
        Ok(Self {})
    }

    /// Cancel safe.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        self.signals.recv().await;
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
