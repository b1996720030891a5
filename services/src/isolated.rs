//! A process for each connection: what one peer does to the program that serves it, it does to itself alone.
//!
//! ```text
//!   peer ──▶ Isolated: accepts, counts, starts ──▶ child: Server::serve_inherited on its standard input
//! ```
//!
//! The parent reads nothing of what peers send: keys, policy and objects are the child's. Its limits hold for processes. A
//! cut connection is over, as a carrier that comes later meets another child: sessions go on within one process only.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::handover::Sockets;
use farref_transport::{Address, Dialect, PerSource, Security, warn_of_stranger};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::connect::IntoAddress;
use crate::server::ServerLimits;

/// Listens, and starts a process for each connection.
pub struct Isolated {
    sockets: Sockets,
    command: Box<dyn FnMut() -> Command + Send>,
    limits: ServerLimits,
    children: JoinSet<Option<IpAddr>>,
    of: HashMap<IpAddr, usize>,
    started: u64,
}

impl Isolated {
    /// Listens at `address`, of `tcp` or `unix`, for peers of farref's own protocol, and starts what `command` gives for each connection, which is its standard
    /// input, for both ways; its standard output leads nowhere.
    /// [`Server::serve_inherited`](crate::Server::serve_inherited) serves it. Of `limits` those of connections count.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] if the address is none, or none of these; [`ErrorKind::Carrier`] if it cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the address alone.
    pub async fn listen(
        address: impl IntoAddress,
        limits: ServerLimits,
        command: impl FnMut() -> Command + Send + 'static,
    ) -> Result<Self> {
        let address = address.into_address()?;
        if address.dialect() != Dialect::Native {
            let text =
                format!("`{address}`: a process for each connection speaks with peers of farref alone");
            return Err(Error::new(ErrorKind::Address, text));
        }
        let bare = address.with_security(Some(Security::Plain));
        let sockets = Sockets::listen(&bare).await.map_err(|error| {
            let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
            Error::new(ErrorKind::Carrier, format!("{error}{}", why.unwrap_or_default()))
        })?;
        Ok(Self {
            sockets,
            command: Box::new(command),
            limits,
            children: JoinSet::new(),
            of: HashMap::new(),
            started: 0,
        })
    }

    /// Where it listens, bare: what is asked of peers there is the child's affair.
    #[must_use]
    pub const fn address(&self) -> &Address {
        self.sockets.address()
    }

    /// Serves until nobody else may come, or listening fails; then waits for the children that are left.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Carrier`] if it cannot be listened any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the listening; dropping this kills the children.
    pub async fn serve(&mut self) -> Result<()> {
        while self.limits.in_all.is_none_or(|most| self.started < most) {
            // Cancel-safe: neither takes anything before it is ready.
            tokio::select! {
                ended = self.children.join_next(), if !self.children.is_empty() => self.forget(ended),
                accepted = self.sockets.accept() => match accepted {
                    Ok(accepted) => self.start(accepted),
                    Err(error) if error.is_transient() => {
                        tracing::warn!(%error, "could not accept; going on");
                        tokio::time::sleep(error.pause()).await;
                    }
                    Err(error) => return Err(Error::new(ErrorKind::Carrier, error.to_string())),
                },
            }
        }
        self.drain(Duration::MAX).await;
        Ok(())
    }

    /// Waits for the children, for at most that long, and then kills those that are left.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn drain(&mut self, grace: Duration) {
        let all = async {
            while let Some(ended) = self.children.join_next().await {
                drop(ended);
            }
        };
        // Whoever is left then is killed below.
        let _ = tokio::time::timeout(grace, all).await;
        self.children.shutdown().await;
        self.of.clear();
    }

    fn forget(&mut self, ended: Option<std::result::Result<Option<IpAddr>, tokio::task::JoinError>>) {
        if let Some(Ok(Some(source))) = ended
            && let Some(count) = self.of.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of.remove(&source);
            }
        }
    }

    fn start(&mut self, accepted: farref_transport::handover::Accepted) {
        let source = accepted.source.map(PerSource::source_of);
        let own = source
            .and_then(|source| self.of.get(&source))
            .copied()
            .unwrap_or(0);
        if self.children.len() >= self.limits.connections.max(1)
            || own >= self.limits.connections_per_source.max(1)
        {
            warn_of_stranger(|left_out| {
                tracing::warn!(
                    source = source.map(tracing::field::display),
                    left_out,
                    "too many connections: one was turned away"
                );
            });
            return;
        }
        let mut command = (self.command)();
        command
            .stdin(accepted.into_stdin())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        match command.spawn() {
            Ok(child) => {
                self.started = self.started.saturating_add(1);
                if let Some(source) = source {
                    *self.of.entry(source).or_default() += 1;
                }
                tracing::debug!(
                    pid = child.id(),
                    source = source.map(tracing::field::display),
                    "a process for a connection"
                );
                self.children.spawn(ended(child, source));
            }
            Err(error) => tracing::error!(%error, "no process for a connection: it was turned away"),
        }
    }
}

async fn ended(mut child: Child, source: Option<IpAddr>) -> Option<IpAddr> {
    let pid = child.id();
    match child.wait().await {
        Ok(status) if status.success() => tracing::debug!(pid, "the process of a connection has ended"),
        Ok(status) => warn_of_stranger(|left_out| {
            tracing::warn!(pid, %status, left_out, "the process of a connection has failed");
        }),
        Err(error) => tracing::error!(pid, %error, "the process of a connection cannot be waited for"),
    }
    source
}

impl fmt::Debug for Isolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolated")
            .field("address", self.address())
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}
