//! The far end of `ssh:`: what a program runs that is brought to a host, or lies there.
//!
//! ```text
//!   here            ssh            there
//!   Connect ─────────────── stdio ─ [proxy] ─ socket ─ [keeper] ─ Server ─ Service      as a rule
//!   Connect ─────────────── stdio ───────────────────────────────  Server ─ Service      with `persist=0`
//! ```
//!
//! The process that ssh starts only passes bytes on, to a *keeper*: a process of the same program and the same account
//! that has a session of its own (`setsid`) and outlives ssh. When the connection is lost, a new ssh starts another proxy,
//! which finds the keeper, and the session goes on where it was. A keeper ends when it has had neither a connection nor a
//! session to which somebody may come back for [`Options::linger`]; its socket goes with it. Another version of the
//! program, or the same with other arguments, has a keeper of its own. What a keeper says on its standard error after it
//! has started is heard by nobody.
//!
//! No port is opened: the socket lies in a directory of the account, and both ends make sure that the other is of the same
//! account. Some systems end all processes of an account that has logged out (`KillUserProcesses=` of systemd): there a
//! session ends with its ssh.
//!
//! ```no_run
//! # async fn agent(service: impl farref_services::Service) -> farref_netref::Result<()> {
//! use farref_services::agent::{self, Options};
//!
//! // In `main`, where the arguments are `agent`:
//! agent::run(service, Options::default()).await
//! # }
//! ```

mod keeper;
mod own;
mod proxy;

use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::Config;
use farref_transport::Media;

use crate::server::{Server, ServerLimits};
use crate::service::Service;

use own::{Start, Way};

/// How an agent serves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a keeper waits for the next connection when it has none. Default a minute.
    pub linger: Duration,
    /// The settings of its connections.
    pub config: Config,
    /// The bounds of its server.
    pub limits: ServerLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(60),
            config: Config::default(),
            limits: ServerLimits::default(),
        }
    }
}

impl Options {
    /// Waits that long for the next connection.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }
}

/// Shows `service` to whoever started this program by ssh, until that peer is gone.
///
/// Do so first thing in `main`: standard input and output are the connection. The process may turn out to be one of three,
/// by the variables that it was started with: the service itself, a proxy of it, or its keeper. The proxy starts the
/// keeper as this very program with the same arguments.
///
/// # Errors
///
/// [`ErrorKind::Denied`] if the program is not the one that was brought; [`ErrorKind::Carrier`] if standard input and
/// output cannot be used, or a keeper can neither be found nor started. To be told on standard error: whoever dialled
/// gets to see it.
///
/// # Cancel safety
///
/// Dropping the future ends the connection; a keeper that was started goes on.
pub async fn run(service: impl Service, options: Options) -> Result<()> {
    let start = Start::of_environment();
    own::check(&start).await?;
    match start.way {
        Way::Keeper => keeper::run(service, &options, &start).await,
        Way::Proxy => proxy::run(&start).await,
        Way::Alone => {
            let server = Server::with(service, options.config, options.limits, Media::standard());
            server.listen("stdio:").await?;
            server.closed().await;
            Ok(())
        }
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Carrier, format!("{what}: {why}"))
}
