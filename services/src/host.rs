//! What a program shows of a machine: one root, from which everything else is reached.
//!
//! ```no_run
//! use farref_services::Server;
//! use farref_services::files::FilesRoot;
//! use farref_services::host::Exposed;
//!
//! # async fn example() -> Result<(), farref_netref::Error> {
//! let exposed = Exposed::nothing()
//!     .files(FilesRoot::at("/srv/data").read_only())
//!     .system();
//! Server::new(exposed).listen("tcp://0.0.0.0:7171").await?;
//! # Ok(())
//! # }
//! ```

mod exposed;

use farref_netref::{Netref, Object, Result, remote};

use crate::files::Files;
use crate::logs::Logs;
use crate::network::Network;
use crate::processes::Processes;
use crate::serial_ports::SerialPorts;
use crate::system::System;

pub use exposed::Exposed;

/// A machine, as far as a peer may use it.
///
/// Each property is a service. One that the peer may not use is [`Denied`](farref_netref::ErrorKind::Denied), and the
/// message names it. `host.call().files().pipe().stat("/tmp")` takes one round trip; by name, it is `files.stat("/tmp")`.
#[remote(name = "farref.Host")]
pub trait Host {
    /// Its files.
    #[property]
    async fn files(&self) -> Result<Netref<dyn Files>>;

    /// What it runs.
    #[property]
    async fn processes(&self) -> Result<Netref<dyn Processes>>;

    /// What it is and how busy it is.
    #[property]
    async fn system(&self) -> Result<Netref<dyn System>>;

    /// Whom it can reach, and where it can be reached.
    #[property]
    async fn network(&self) -> Result<Netref<dyn Network>>;

    /// Its serial ports.
    #[property]
    async fn serial(&self) -> Result<Netref<dyn SerialPorts>>;

    /// What the program logs.
    #[property]
    async fn logs(&self) -> Result<Netref<dyn Logs>>;

    /// The names of the services that this peer may use.
    async fn services(&self) -> Result<Vec<String>>;

    /// A service by its name: one of the properties, or one that the program adds.
    async fn service(&self, name: &str) -> Result<Object>;
}
