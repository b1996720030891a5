//! Where the servers of a name are: RPyC's registry, both its ends.
//!
//! ```text
//!   server ── REGISTER names, port, every 60 s ──►  Registry  ◄── QUERY name ── client
//!             UNREGISTER port ──────────────────►             ──► (host, port) ..
//! ```
//!
//! A request is one value of brine in one packet of UDP, or one connection of TCP, of at most 1,500 bytes, to port 18811
//! (`rpyc/utils/registry.py`, which is the same in 4.1 to 6.0):
//!
//! | request                                | reply                                                      |
//! |----------------------------------------|------------------------------------------------------------|
//! | `("RPYC", "QUERY", (name,))`           | a tuple of `(host, port)`                                  |
//! | `("RPYC", "REGISTER", (names, port))`  | `"OK"`                                                     |
//! | `("RPYC", "UNREGISTER", (port,))`      | `"OK"`                                                     |
//! | `("RPYC", "LIST", ((host or None,),))` | a tuple of names; `None` where that is not told            |
//!
//! Names are compared in upper case. The host of a server is the one that its packet came from. What is registered is
//! forgotten after 240 s, unless it is registered again. Whatever is not understood gets no reply.
//!
//! **Nobody proves anything here**: whoever reaches a registry can register any name, and over UDP in the name of any
//! address. What a registry says is where to dial, and never whom to believe.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> farref_netref::Result<()> {
//! use farref_services::rpyc::registry::{Registry, RegistryClient};
//!
//! let registry = Registry::new();
//! let serving = registry.serve_udp("127.0.0.1:0".parse().unwrap()).await?;
//! let client = RegistryClient::udp("127.0.0.1", serving.local_address().port());
//! let registered = client.register(["CALCULATOR"], 18861).await?;
//! let found = client.discover("Calculator").await?;
//! assert_eq!(found[0].to_string(), "rpyc://127.0.0.1:18861");
//! registered.end().await;
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: `packet` (what is said), `table` (what is known, without IO), [`Registry`], [`RegistryClient`].

mod client;
mod packet;
mod server;
mod table;

pub use client::{Registered, RegistryClient};
pub(crate) use packet::fuzz;
pub use server::{Registry, RegistryLimits, Serving};

/// The port of registries.
pub const PORT: u16 = 18811;

#[cfg(test)]
mod tests;
