//! What threads share, under every interleaving that loom finds:
//! `RUSTFLAGS="--cfg farref_loom" cargo test -p farref-netref --test loom --release interleavings`.
//!
//! Baton, bell, releases, waiting threads and reading role are the real ones. Around them stands the least of a shell, in the
//! steps of `engine::core` and `engine::driver`: commit under the lock, write without it, look again. A wake-up that
//! is lost shows as a deadlock, which loom reports.

#![cfg(farref_loom)]
#![expect(dead_code, reason = "their other users are not compiled")]

mod interleavings;

#[path = "../../src/baton.rs"]
mod baton;
#[path = "../../src/releases.rs"]
mod releases;
#[path = "../../src/role.rs"]
mod role;
#[path = "../../src/signal.rs"]
mod signal;
mod sync;
#[path = "../../src/waiter.rs"]
mod waiter;
