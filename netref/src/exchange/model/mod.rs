//! Random schedules of two or three processes under an oracle that sees them all.
//!
//! A port of the model that the protocol was designed with, to the exchange itself: what there is a state machine
//! is here the real one, under real messages on queues. Calls, pipes, awaits, cancels, deadlines, drops, lent and
//! owned references, relays over a second connection, bodies that come by themselves, and lost connections happen
//! at random; then everything is dropped, and nothing may be left. A schedule is named by its seed, or is made of what
//! a fuzzer says.
//!
//! Each rule of the protocol that can be switched off is: then some schedule must be found to be wrong.

mod application;
mod engine;
mod link;
mod oracle;
mod schedule;
#[cfg(test)]
mod tests;
mod world;

pub(super) use schedule::fuzz;
