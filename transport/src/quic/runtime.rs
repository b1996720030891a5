//! What quinn runs on: tokio, which has less to do for a lone datagram than by quinn's own adapter.
//!
//! Knows timers, and which of quinn's futures share a task. The socket is [`socket`](super::socket)'s.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::time::{Sleep, sleep_until};

use super::together::{Job, Together};

/// Tokio, for one endpoint.
#[derive(Debug)]
pub(super) struct OnTokio {
    together: Option<Together>,
}

impl OnTokio {
    /// For an endpoint that listens: it and each of its connections have tasks of their own, so that connections are served
    /// on all threads.
    pub(super) const fn listening() -> Self {
        Self { together: None }
    }

    /// For an endpoint that dials: it and its one connection share a task, as each datagram is for both. Must be called on
    /// a runtime.
    pub(super) fn dialling() -> Self {
        Self {
            together: Some(Together::start()),
        }
    }
}

impl Runtime for OnTokio {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer::new(due))
    }

    fn spawn(&self, job: Job) {
        match &self.together {
            Some(together) => together.run(job),
            None => drop(tokio::spawn(job)),
        }
    }

    #[cfg(unix)]
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(super::socket::Udp::new(socket)?))
    }

    #[cfg(not(unix))]
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        quinn::TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A timer that goes off at `due`.
///
/// Each datagram moves the time that is due, mostly to a later one. To tell tokio costs its lock, and where the new time
/// is earlier than what the reactor sleeps until, a system call that wakes it. So tokio is told of earlier times alone.
///
/// # Invariant
///
/// `sleep` ends at `due` or before.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    due: tokio::time::Instant,
}

impl Timer {
    fn new(due: Instant) -> Self {
        let due = due.into();
        Self {
            sleep: Box::pin(sleep_until(due)),
            due,
        }
    }
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, due: Instant) {
        self.due = due.into();
        if self.due < self.sleep.deadline() {
            let due = self.due;
            self.sleep.as_mut().reset(due);
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Future::poll(self.sleep.as_mut(), cx));
            if self.sleep.deadline() == self.due {
                return Poll::Ready(());
            }
            let due = self.due;
            self.sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn expires(timer: &mut Pin<Box<dyn AsyncTimer>>) {
        poll_fn(|cx| timer.as_mut().poll(cx)).await;
    }

    async fn is_pending(timer: &mut Pin<Box<dyn AsyncTimer>>) -> bool {
        tokio::time::timeout(Duration::ZERO, expires(timer))
            .await
            .is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_goes_off_when_it_was_last_told_to() {
        let runtime = OnTokio::listening();
        let begin = runtime.now();
        let mut timer = runtime.new_timer(begin + 5 * SECOND);
        // Later, earlier than that, and earlier than at first; whether or not it is polled in between.
        for (told, goes_off) in [(&[9, 7][..], 7), (&[20, 30, 10], 10), (&[40, 12, 11], 11)] {
            for seconds in told {
                timer.as_mut().reset(begin + *seconds * SECOND);
                assert!(is_pending(&mut timer).await);
            }
            expires(&mut timer).await;
            assert_eq!((runtime.now() - begin).as_secs(), goes_off);
        }
        timer.as_mut().reset(begin + 15 * SECOND);
        timer.as_mut().reset(begin + 13 * SECOND);
        expires(&mut timer).await;
        assert_eq!((runtime.now() - begin).as_secs(), 13);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_moves_on_all_the_time_never_goes_off() {
        let runtime = OnTokio::listening();
        let mut timer = runtime.new_timer(runtime.now() + 2 * SECOND);
        for _ in 0..10 {
            timer.as_mut().reset(runtime.now() + 2 * SECOND);
            let expired = tokio::time::timeout(SECOND, expires(&mut timer)).await;
            assert!(expired.is_err());
        }
    }
}
