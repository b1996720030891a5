//! What the project holds itself to, beside what was found.

use super::{Kind, kind, number};
use crate::results::{Results, Row, Table};
use crate::workload::{Workload, thousands};

/// What is asked of a figure.
#[derive(Debug, Clone, Copy)]
enum Asked {
    AtMost(f64),
    AtLeast(f64),
    /// Anything more.
    Above(f64),
}

use Asked::{Above, AtLeast, AtMost};

/// What was found, and whose and how processes were pinned.
struct Found {
    value: f64,
    from: String,
}

struct Bar {
    what: String,
    asked: Asked,
    found: Option<Found>,
}

/// How processes were pinned, first those runs that say most: the work alone is what both on one CPU do.
const WORK: &[&str] = &["same", "split", "none"];
const APART: &[&str] = &["split"];
const TOGETHER: &[&str] = &["same"];
const UNPINNED: &[&str] = &["none"];
const FREE: &[&str] = &["none", "split", "same"];

/// A table of all bars whose figures are there, and how many are not; nothing if none are.
pub(super) fn markdown(results: &Results) -> String {
    let bars = bars(results);
    let all = bars.len();
    let mut text = String::new();
    let mut found = 0;
    for Bar {
        what,
        asked,
        found: of,
    } in bars
    {
        let Some(Found { value, from }) = of.filter(|found| found.value.is_finite()) else {
            continue;
        };
        found += 1;
        let holds = if asked.holds(value) { "yes" } else { "**no**" };
        text += &format!(
            "| {what} | {} | {} | {holds} | {from} |\n",
            asked.text(),
            number(value)
        );
    }
    if found == 0 {
        return text;
    }
    text = format!("\n## Bars\n\n| what | asked | found | holds | from |\n|---|--:|--:|---|---|\n{text}");
    if found < all {
        text += &format!("\nOf {} further bars nothing was measured.\n", all - found);
    }
    text
}

fn bars(results: &Results) -> Vec<Bar> {
    let find = Finder(results);
    let mut bars = Vec::new();
    let mut bar = |what: &str, asked, found| {
        bars.push(Bar {
            what: what.to_owned(),
            asked,
            found,
        });
    };
    let (null, tcp) = (Workload::Null, "tcp");
    let ratio = |workload, contender, figure, pins| find.ratio(workload, tcp, contender, figure, pins);
    let median = |workload, contender, figure, pins| find.median(workload, tcp, contender, figure, pins);

    bar(
        "null call, async: CPU, × echo",
        AtMost(1.15),
        ratio(null, "farref", "cpu", WORK),
    );
    bar(
        "null call, blocking: CPU, × echo",
        AtMost(0.95),
        ratio(null, "farref-threads", "cpu", WORK),
    );
    bar(
        "null call, a CPU for each side: rate, × echo",
        AtLeast(3.0),
        ratio(null, "farref", "rate", APART),
    );
    bar(
        "the same: CPU, × echo",
        AtMost(1.0),
        ratio(null, "farref", "cpu", APART),
    );
    bar(
        "null call, both sides on one CPU: rate, × echo",
        AtLeast(0.9),
        ratio(null, "farref", "rate", TOGETHER),
    );
    for (pins, how) in [
        (APART, "a CPU for each side"),
        (UNPINNED, "as the scheduler likes"),
    ] {
        for (number, most) in [(16, 3.5), (256, 0.9), (4096, 1.1)] {
            let cpu = median(Workload::InFlight(number), "farref", "cpu", pins);
            let number = thousands(number as u64);
            bar(
                &format!("{number} in flight, {how}: CPU per call, µs"),
                AtMost(most),
                cpu,
            );
        }
        let rate = find.beside_peers(Workload::InFlight(256), tcp, pins);
        bar(
            &format!("256 in flight, {how}: rate, × the best peer"),
            AtLeast(8.0),
            rate,
        );
    }
    for workload in Workload::ALL {
        let Workload::Bytes(_) = workload else { continue };
        let title = workload.declaration().title;
        for medium in ["tcp", "unix"] {
            let rate = find.ratio(workload, medium, "farref", "rate", FREE);
            bar(&format!("{title}, {medium}: rate, × echo"), AtLeast(0.8), rate);
            let rate = find.beside_peers(workload, medium, FREE);
            bar(
                &format!("{title}, {medium}: rate, × the best peer"),
                Above(1.0),
                rate,
            );
        }
        if workload != Workload::Bytes(1 << 10) {
            let rate = ratio(workload, "farref-noise", "rate", FREE);
            bar(&format!("{title}, encrypted: rate, × echo"), AtLeast(0.5), rate);
        }
    }
    bar(
        "callback: CPU, × echo",
        AtMost(1.15),
        ratio(Workload::Callbacks, "farref", "cpu", WORK),
    );
    bar(
        "an object made, called and dropped: CPU, × echo",
        AtMost(1.35),
        ratio(Workload::Objects, "farref", "cpu", WORK),
    );
    bar(
        "the same on its promise: CPU, µs",
        AtMost(32.0),
        median(Workload::Pipelined, "farref", "cpu", WORK),
    );
    bar(
        "a live netref: bytes, both sides",
        AtMost(200.0),
        median(Workload::Live, "farref", "both", FREE),
    );
    bar(
        "an idle connection: bytes, server",
        AtMost(4096.0),
        median(Workload::Idle, "farref", "server", FREE),
    );
    bar(
        "the same, encrypted",
        AtMost(8192.0),
        median(Workload::Idle, "farref-noise", "server", FREE),
    );
    let p99 = find.beside(Workload::Beside, tcp, ["farref", "quinn"], "p99", FREE);
    bar(
        "null call beside a transfer: p99, × raw quinn's",
        AtMost(1.0),
        p99,
    );
    bar(
        "that transfer, × its speed alone",
        AtLeast(0.8),
        median(Workload::Beside, "farref", "share", FREE),
    );
    let rate = find.beside_peers(Workload::Structs, tcp, FREE);
    bar("10,000 structs: rate, × the best peer", Above(1.0), rate);
    bar(
        "stream of `u64`: items per second",
        AtLeast(15e6),
        median(Workload::Items, "farref", "rate", FREE),
    );
    bar(
        "a call with 100,000 live objects: CPU, × with 1",
        AtMost(1.2),
        median(Workload::Held, "farref", "flat", FREE),
    );
    bar(
        "10 million calls: bytes that are left allocated",
        AtMost(1024.0),
        median(Workload::Soak, "farref", "left", FREE),
    );
    for (title, workload) in [("alone", null), ("256 in flight", Workload::InFlight(256))] {
        let figures = ["allocations-client", "allocations-server"];
        let most = find.most(workload, tcp, "farref", &figures, FREE);
        bar(
            &format!("null call, {title}: allocations, the side with more"),
            AtMost(2.0),
            most,
        );
    }
    let figures = ["write-client", "read-client", "write-server", "read-server"];
    let most = find.most(Workload::Syscalls, tcp, "farref", &figures, WORK);
    bar(
        "a lone call: system calls of either side to write, or to read",
        AtMost(1.0),
        most,
    );
    let cpu = find.ratio(null, "quic", "farref", "cpu", WORK);
    bar("null call over QUIC: CPU, × raw quinn's", AtMost(1.1), cpu);
    bars
}

impl Asked {
    /// Of the digits that are shown.
    fn holds(self, value: f64) -> bool {
        let value = (value * 100.0).round() / 100.0;
        match self {
            AtMost(most) => value <= most,
            AtLeast(least) => value >= least,
            Above(least) => value > least,
        }
    }

    fn text(self) -> String {
        let (sign, bound) = match self {
            AtMost(most) => ("≤", most),
            AtLeast(least) => ("≥", least),
            Above(least) => (">", least),
        };
        if bound < 1000.0 {
            format!("{sign} {bound}")
        } else {
            format!("{sign} {}", thousands(bound as u64))
        }
    }
}

/// Finds figures in runs that were pinned in one of some ways, the first that was measured.
struct Finder<'a>(&'a Results);

impl Finder<'_> {
    fn found(
        &self,
        workload: Workload,
        medium: &str,
        contender: &str,
        pins: &[&str],
        value: impl Fn(&Table, &Row) -> Option<(f64, String)>,
    ) -> Option<Found> {
        let of = |pin: &&str| {
            let (table, row) = self.0.row_pinned(workload, medium, contender, pin)?;
            let (value, beside) = value(table, row).filter(|(value, _)| value.is_finite())?;
            Some(Found {
                value,
                from: format!("{contender}{beside}, pinned: {pin}"),
            })
        };
        pins.iter().find_map(of)
    }

    fn median(
        &self,
        workload: Workload,
        medium: &str,
        contender: &str,
        figure: &str,
        pins: &[&str],
    ) -> Option<Found> {
        self.most(workload, medium, contender, &[figure], pins)
    }

    /// The largest of some figures.
    fn most(
        &self,
        workload: Workload,
        medium: &str,
        contender: &str,
        figures: &[&str],
        pins: &[&str],
    ) -> Option<Found> {
        self.found(workload, medium, contender, pins, |_, row| {
            let medians = figures.iter().map(|figure| row.median(figure));
            Some((medians.fold(f64::NAN, f64::max), String::new()))
        })
    }

    /// As a multiple of the reference's.
    fn ratio(
        &self,
        workload: Workload,
        medium: &str,
        contender: &str,
        figure: &str,
        pins: &[&str],
    ) -> Option<Found> {
        self.found(workload, medium, contender, pins, |table, row| {
            Some((
                table.ratio(row, figure),
                format!(" by {}", row.reference.as_deref()?),
            ))
        })
    }

    /// The first as a multiple of the second.
    fn beside(
        &self,
        workload: Workload,
        medium: &str,
        [one, other]: [&str; 2],
        figure: &str,
        pins: &[&str],
    ) -> Option<Found> {
        self.found(workload, medium, one, pins, |table, row| {
            Some((row.ratio(table.row(other)?, figure), format!(" by {other}")))
        })
    }

    /// The rate as a multiple of that of the peer which is fastest.
    fn beside_peers(&self, workload: Workload, medium: &str, pins: &[&str]) -> Option<Found> {
        self.found(workload, medium, "farref", pins, |table, row| {
            let peers = table.rows.iter().filter(|row| kind(&row.contender) == Kind::Peer);
            let best = peers
                .filter(|peer| peer.median("rate").is_finite())
                .max_by(|one, other| one.median("rate").total_cmp(&other.median("rate")))?;
            Some((row.ratio(best, "rate"), format!(" by {}", best.contender)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Sizes;
    use crate::meter::Figures;

    fn table(workload: &str, pin: &str, rows: &[(&str, &str, f64)]) -> Table {
        let row = |&(contender, figure, value): &(&str, &str, f64)| Row {
            contender: contender.to_owned(),
            reference: Some("echo".into()),
            rounds: vec![Figures::from_iter([(figure.to_owned(), value)])],
            failed: None,
        };
        Table {
            workload: workload.into(),
            medium: "tcp".into(),
            pin: pin.into(),
            seconds: 1.0,
            sizes: Sizes::default(),
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn each_bar_is_looked_up_in_the_run_that_is_pinned_as_it_asks() {
        let results = Results {
            machine: String::new(),
            tables: vec![
                table("null", "none", &[("echo", "cpu", 10.0), ("farref", "cpu", 20.0)]),
                table("null", "same", &[("echo", "cpu", 10.0), ("farref", "cpu", 11.0)]),
                table(
                    "null",
                    "split",
                    &[("echo", "rate", 10.0), ("farref", "rate", 20.0)],
                ),
                table(
                    "in-flight-256",
                    "none",
                    &[
                        ("farref", "rate", 90.0),
                        ("tonic", "rate", 3.0),
                        ("tarpc", "rate", 10.0),
                    ],
                ),
            ],
        };
        let text = markdown(&results);
        for line in [
            "| null call, async: CPU, × echo | ≤ 1.15 | 1.10 | yes | farref by echo, pinned: same |",
            "| null call, a CPU for each side: rate, × echo | ≥ 3 | 2.00 | **no** | farref by echo, pinned: split |",
            "| 256 in flight: rate, × the best peer | ≥ 8 | 9.00 | yes | farref by tarpc, pinned: none |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.matches("pinned").count(), 3, "{text}");
        assert!(markdown(&Results::default()).is_empty());
    }
}
