//! The engine: threads, tasks and a carrier around a [`Protocol`](crate::protocol::Protocol).
//!
//! ```text
//!   caller ──encode──▶ commit (one lock) ──baton──▶ write            a lone caller: no task is woken
//!                            │
//!                            ▼
//!                        Protocol  ◀──bytes── driver ──events──▶ dispatch ──▶ methods, in order
//! ```
//!
//! [`anchor`] is what calls and proxies have of it all. [`mod@core`] commits and completes, under the lock of what is in
//! [`state`]; threads wait in [`waiting`]. [`driver`] reads and writes, as does a thread that waits for a
//! call ([`lead`]; what both do is in [`reading`]) or a task that does ([`looking`]), [`dispatch`] runs the peer's
//! calls, [`down`] goes from one carrier to the next, and [`pace`] tells whether to spin before falling asleep.
//! Under the connection's lock runs no user code, no waker and no system call.

pub(crate) mod anchor;
pub(crate) mod core;
pub(crate) mod dispatch;
pub(crate) mod down;
pub(crate) mod driver;
pub(crate) mod lead;
mod looking;
mod pace;
pub(crate) mod reading;
pub(crate) mod state;
#[cfg(test)]
mod testing;
mod together;
mod waiting;
