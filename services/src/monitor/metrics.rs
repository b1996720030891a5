//! What is counted, in the words of the `metrics` facade. Their names are told at
//! [`Monitoring::publish`](super::Monitoring::publish).

use std::time::Duration;

use farref_netref::Stats;
use metrics::{SharedString, counter, gauge, histogram};

use super::hosted::Visitor;
use crate::server::ServerStats;

/// The metrics of one server.
#[derive(Debug)]
pub(crate) struct Published {
    server: SharedString,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            server: SharedString::const_str("farref"),
        }
    }
}

impl Published {
    pub(super) fn of(server: String) -> Self {
        let server = SharedString::from_owned(server);
        Self { server }
    }

    /// A call is over.
    pub(super) fn call(&self, method: &str, failed: bool, took: Duration) {
        let (server, method) = (self.server.clone(), SharedString::from_owned(method.to_owned()));
        let outcome = if failed { "failed" } else { "ok" };
        counter!("farref_calls_total", "server" => server.clone(), "method" => method.clone(), "outcome" => outcome)
            .increment(1);
        histogram!("farref_call_duration_seconds", "server" => server, "method" => method).record(took);
    }

    /// How the server stands.
    pub(super) fn server(&self, stats: &ServerStats, connections: &[Visitor]) {
        let server = || self.server.clone();
        counter!("farref_carriers_accepted_total", "server" => server()).absolute(stats.accepted);
        counter!("farref_carriers_refused_total", "server" => server()).absolute(stats.refused);
        gauge!("farref_connections", "server" => server()).set(number(stats.connections));
        gauge!("farref_connections_opening", "server" => server()).set(stats.opening as f64);
        let stats: Vec<Stats> = connections.iter().map(|of| of.connection.stats()).collect();
        let sum = |of: fn(&Stats) -> usize| stats.iter().map(|stats| number(of(stats))).sum::<f64>();
        for (direction, calls, objects) in [
            ("in", sum(|stats| stats.answers), sum(|stats| stats.imports)),
            ("out", sum(|stats| stats.calls), sum(|stats| stats.exports)),
        ] {
            gauge!("farref_calls_under_way", "server" => server(), "direction" => direction).set(calls);
            gauge!("farref_objects", "server" => server(), "direction" => direction).set(objects);
        }
    }
}

/// A gauge holds nothing but floating-point numbers, which are exact up to 2^53.
const fn number(count: usize) -> f64 {
    count as f64
}
