//! Lanes: ordered runs of bytes in one direction, numbered by offset (PROTOCOL.md § 3.3).
//!
//! [`buffer`] keeps what is sent, [`outgoing`] decides what goes when (with [`schedule`] and [`queue`]), [`incoming`] puts together
//! what comes, lane 0 with the help of [`reader`], bodies by [`filling`] memory that [`spare`] has kept. None of them knows frames or
//! carriers.

pub(crate) mod buffer;
mod filling;
pub(crate) mod incoming;
pub(crate) mod outgoing;
mod queue;
pub(crate) mod reader;
pub(crate) mod schedule;
pub(crate) mod spare;
