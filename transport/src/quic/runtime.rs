//! What quinn runs on: tokio, which has less to do for a lone datagram than by quinn's own adapter.
//!
//! The socket is [`socket`](super::socket)'s.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::time::sleep_until;

/// Tokio.
#[derive(Debug)]
pub(super) struct OnTokio;

impl Runtime for OnTokio {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(sleep_until(due.into()))
    }

    fn spawn(&self, job: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(job);
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
