//! Signals that this process ignores, and what it starts must not.
//!
//! A program that a script starts in the background ignores SIGINT and SIGQUIT, and one behind `nohup` SIGHUP. Children
//! inherit that: no Ctrl-C would reach what runs on their terminals, and no end of these. What is handled is not inherited, so
//! each signal that is ignored gets a handler, which does nothing: to this process it is ignored as before.

use std::sync::Once;

use tokio::signal::unix::{SignalKind, signal};

/// Those that people and terminals send.
const MINDED: [SignalKind; 6] = [
    SignalKind::hangup(),
    SignalKind::interrupt(),
    SignalKind::quit(),
    SignalKind::terminate(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// Sees to it that children do not ignore what this process does. In a runtime; the first time counts.
pub(super) fn heed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ignored = ignored();
        for kind in MINDED {
            let bit = u32::try_from(kind.as_raw_value() - 1)
                .ok()
                .and_then(|bit| 1_u64.checked_shl(bit));
            if bit.is_some_and(|bit| ignored & bit == 0) {
                continue;
            }
            // The handler stays when what hears of the signal is dropped.
            if let Err(error) = signal(kind) {
                tracing::debug!(signal = kind.as_raw_value(), %error, "children will ignore it as well");
            }
        }
    });
}

/// The signals that this process ignores, the first in the lowest bit; none where that cannot be told.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
