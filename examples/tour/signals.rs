//! What asks a program to end: Ctrl-C, and on Unix also a closed terminal and a polite kill.

use std::io;

/// Signals that no longer end the program by themselves, from when this is made until the program ends.
pub(crate) struct Signals {
    #[cfg(unix)]
    caught: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Catches what a terminal sends, and, if `polite_kill`, what `kill` sends. Needs a runtime around it.
    #[cfg(unix)]
    pub(crate) fn catch(polite_kill: bool) -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut caught = vec![signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
        if polite_kill {
            caught.push(signal(SignalKind::terminate())?);
        }
        Ok(Self { caught })
    }

    /// Catches Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) fn catch(_polite_kill: bool) -> io::Result<Self> {
        tokio::spawn(tokio::signal::ctrl_c());
        Ok(Self {})
    }

    /// Waits for the first of them.
    #[cfg(unix)]
    pub(crate) async fn any(&mut self) {
        std::future::poll_fn(|context| {
            let came = self
                .caught
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// Waits for Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) async fn any(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
