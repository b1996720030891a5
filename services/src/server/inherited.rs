//! Listeners that somebody else has opened: systemd, or inetd for one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::handover::{self, OnlyOne};
use farref_transport::{Address, Dialect, Listener};

use super::coming::{Entrance, accept};
use super::{Server, Stop, lock};
use crate::protect::Protection;

impl Server {
    /// Listens by the sockets that whoever started this process has opened for it, as systemd does by `LISTEN_FDS`; where
    /// to dial to get here. TCP is encrypted as by [`listen`](Self::listen), unless `plain`. Call it first thing in `main`:
    /// see [`handover::inherited`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if there are none, or the server was shut down; otherwise as for [`listen`](Self::listen).
    ///
    /// # Cancel safety
    ///
    /// Sockets that were taken until then are closed.
    pub async fn listen_inherited(&self, plain: bool) -> Result<Vec<Address>> {
        let listeners = handover::inherited().map_err(|error| failed(&error))?;
        if listeners.is_empty() {
            let text = "no socket was handed over: systemd does so for a service that has a socket unit";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        let mut addresses = Vec::new();
        for listener in listeners {
            addresses.extend(self.listen_by(listener, plain).await?);
        }
        Ok(addresses)
    }

    /// Begins to serve the one connection that is the standard input of this process, as inetd hands it over. When that is over, the
    /// server is at its end; its peer cannot come back to a session, as it would meet another process. TCP is encrypted as by [`listen`](Self::listen), unless `plain`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`] if standard input is no connection; [`ErrorKind::Misuse`] if the server was shut down, or keys
    /// cannot be used.
    ///
    /// # Cancel safety
    ///
    /// The connection is closed.
    pub async fn serve_inherited(&self, plain: bool) -> Result<()> {
        let carrier = handover::inherited_connection().map_err(|error| failed(&error))?;
        self.shared.is_once.store(true, Ordering::Relaxed);
        self.listen_by(Box::new(OnlyOne::new(carrier)), plain).await?;
        Ok(())
    }

    async fn listen_by(&self, listener: Box<dyn Listener>, plain: bool) -> Result<Option<Address>> {
        if *self.stop.borrow() != Stop::No {
            return Err(Error::new(ErrorKind::Misuse, "the server was shut down"));
        }
        let local = listener.local_addresses().into_iter().next();
        let protection = match &local {
            Some(address) if !plain => {
                let trust = lock(&self.shared.trust).clone();
                Protection::of(&address.clone().with_security(None), trust).await?
            }
            _ => Protection::none(),
        };
        let local = local.map(|bare| protection.full(bare));
        self.shared.listeners.fetch_add(1, Ordering::Relaxed);
        let accept = accept(
            Arc::clone(&self.shared),
            listener,
            Arc::new(Entrance {
                dialect: Dialect::Native,
                protection,
            }),
            self.stop.subscribe(),
        );
        lock(&self.accepting).spawn(accept);
        Ok(local)
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Carrier, error.to_string())
}
