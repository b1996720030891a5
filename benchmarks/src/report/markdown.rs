//! The tables.

use super::{bars, number};
use crate::job::Sizes;
use crate::results::{Results, Row, Table};
use crate::workload::{Group, Workload};

/// A table for each workload and medium, by groups, and what the project holds itself to.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = format!(
        "Medians, in brackets the least and the most of all rounds; contenders in turn. × is the median of the ratios to the \
         reference of the same round, which is the first row unless the contender's name says which; CPU time is that of both processes.\n\nOn {}.\n",
        results.machine
    );
    for group in Group::ALL {
        let mut is_first = true;
        for table in &results.tables {
            let Some(workload) = table.workload() else {
                continue;
            };
            if workload.declaration().group != group {
                continue;
            }
            if std::mem::take(&mut is_first) {
                text += &format!("\n## {}\n", group.title());
            }
            text += &one(workload, table);
        }
    }
    text + &bars::markdown(results)
}

fn one(workload: Workload, table: &Table) -> String {
    let declaration = workload.declaration();
    let has_reference = table.rows.iter().any(|row| row.reference.is_some());
    let seen: Vec<_> = declaration
        .columns
        .iter()
        .filter(|column| table.rows.iter().any(|row| row.median(column.figure).is_finite()))
        .collect();
    let rounds = table.rows.iter().map(|row| row.rounds.len()).max();
    let mut text = format!(
        "\n### {}, {}\n\n{} rounds of {} s, pinned: {}.{}\n\n| contender |",
        declaration.title,
        table.medium,
        rounds.unwrap_or_default(),
        table.seconds,
        table.pin,
        match table.sizes {
            Sizes { request, reply } if has_reference && (request, reply) != (1, 1) =>
                format!(" A request has {request} bytes on the wire, its reply {reply}."),
            _ => String::new(),
        }
    );
    let mut line = String::from("\n|---|");
    for column in &seen {
        text += &format!(" {} |", column.title);
        line += "--:|";
        if column.has_ratio && has_reference {
            text += " × |";
            line += "--:|";
        }
    }
    text += &line;
    text.push('\n');
    for row in &table.rows {
        if let Some(why) = &row.failed {
            text += &format!("| {} | {why} |\n", row.contender);
            continue;
        }
        text += &match &row.reference {
            // The first is what all others are compared with.
            Some(other) if *other != row.contender && *other != table.rows[0].contender => {
                format!("| {} (× {other}) |", row.contender)
            }
            _ => format!("| {} |", row.contender),
        };
        for (at, column) in seen.iter().enumerate() {
            text += &format!(" {} |", cell(row, column.figure, at == 0));
            if column.has_ratio && has_reference {
                text += &format!(" {} |", number(table.ratio(row, column.figure)));
            }
        }
        text.push('\n');
    }
    text
}

fn cell(row: &Row, figure: &str, with_spread: bool) -> String {
    let median = number(row.median(figure));
    let [least, most] = row.spread(figure);
    if with_spread && row.rounds.len() > 1 {
        format!("{median} ({}–{})", number(least), number(most))
    } else {
        median
    }
}
