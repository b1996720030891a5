//! What the project holds itself to, beside what was found.

use super::number;
use crate::results::Results;
use crate::workload::Workload;

/// A table of all bars whose figures are there; nothing if none are.
pub(super) fn markdown(results: &Results) -> String {
    let row = |workload, medium, contender| results.row(workload, medium, contender);
    let ratio = |workload, medium, contender, figure| {
        row(workload, medium, contender).map(|(table, row)| table.ratio(row, figure))
    };
    let median = |workload, figure| row(workload, "tcp", "farref").map(|(_, row)| row.median(figure));
    let unkept = || {
        let (_, kept) = row(Workload::Null, "tcp", "farref")?;
        let (_, unkept) = row(Workload::Null, "tcp", "farref-unkept")?;
        Some(kept.ratio(unkept, "cpu"))
    };
    let share = || Some(median(Workload::InFlight(256), "cpu")? / median(Workload::Null, "cpu")?);
    let local = || {
        let (_, netref) = row(Workload::Local, "mem", "netref")?;
        let (_, arc) = row(Workload::Local, "mem", "arc")?;
        Some(netref.median("nanos") - arc.median("nanos"))
    };
    let bars = [
        (
            "CPU of a null call over TCP, as a multiple of the echo's",
            "1.3",
            ratio(Workload::Null, "tcp", "farref", "cpu"),
        ),
        (
            "the same, as a multiple of that without a session",
            "1.03",
            unkept(),
        ),
        (
            "CPU of a null call over QUIC, as a multiple of a raw quinn stream's",
            "1.5",
            ratio(Workload::Null, "quic", "farref", "cpu"),
        ),
        ("CPU of a call among 256, as a share of one alone", "0.1", share()),
        (
            "CPU of a call with 100,000 live objects, as a multiple of that with 1",
            "1.2",
            median(Workload::Held, "flat"),
        ),
        (
            "bytes of a live netref, both sides",
            "200",
            median(Workload::Live, "both"),
        ),
        (
            "bytes of an idle connection, server",
            "4,096",
            median(Workload::Idle, "server"),
        ),
        (
            "the same, encrypted",
            "8,192",
            row(Workload::Idle, "tcp", "farref-noise").map(|(_, row)| row.median("server")),
        ),
        (
            "bytes that 1,000 calls leave in memory",
            "0",
            median(Workload::Soak, "grown"),
        ),
        (
            "ns by which a local call through a netref is slower",
            "a few",
            local(),
        ),
    ];
    let mut text = String::new();
    for (what, most, found) in bars {
        if let Some(found) = found {
            text += &format!("| {what} | {most} | {} |\n", number(found));
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\n## Bars\n\n| what | at most | found |\n|---|--:|--:|\n{text}")
}
