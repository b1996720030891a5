//! The charts: for each group a row of panels, in each panel a bar for every contender.
//!
//! A panel whose values differ by more than [`WIDE`] has a logarithmic scale, says so, and has a line for every power of ten.

use std::fmt::Write;

use super::{Kind, kind, number};
use crate::results::{Results, Row, Table};
use crate::workload::{Group, Workload};

/// From what factor on bars would be too short to see.
const WIDE: f64 = 20.0;

/// Titles with more letters than that would be wider than their panel.
const LONG: usize = 44;

const COLUMNS: usize = 3;
const PANEL: f64 = 360.0;
const GAP: f64 = 24.0;
/// Where bars begin and how long the longest is; its value is written behind it.
const LEFT: f64 = 104.0;
const LENGTH: f64 = 196.0;
const LINE: f64 = 17.0;
/// Of a panel, above its bars and below.
const HEAD: f64 = 40.0;
const FOOT: f64 = 22.0;

/// One figure of a workload over a medium.
struct Panel<'a> {
    title: String,
    note: String,
    figure: &'static str,
    rows: Vec<&'a Row>,
}

/// All groups, one below the other.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 82.0;
    for group in Group::ALL {
        let panels = panels(results, group);
        if panels.is_empty() {
            continue;
        }
        let _ = writeln!(
            body,
            r##"<text x="{GAP}" y="{y}" font-size="17" font-weight="bold">{}</text>"##,
            group.title()
        );
        y += 18.0;
        for line in panels.chunks(COLUMNS) {
            let mut x = GAP;
            let mut height = 0.0_f64;
            for panel in line {
                let _ = writeln!(body, r#"<g transform="translate({x} {y})">"#);
                panel.draw(&mut body);
                body.push_str("</g>\n");
                x += PANEL + GAP;
                height = height.max(panel.height());
            }
            y += height + GAP;
        }
        y += 18.0;
    }
    let width = (PANEL + GAP) * COLUMNS as f64 + GAP;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" font-family="sans-serif" fill="#1a1a1a">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{GAP}" y="26" font-size="12">Medians of rounds in turn; thin lines from the least to the most. {}</text>
{}{body}</svg>
"##,
        escaped(&results.machine),
        legend()
    )
}

fn legend() -> String {
    let mut text = String::new();
    let mut x = GAP;
    for (color, what) in [
        (REFERENCE, "by hand, without RPC"),
        (FARREF, "farref"),
        (VARIANT, "farref in other ways"),
        (PEER, "peers"),
    ] {
        let _ = writeln!(
            text,
            r#"<rect x="{x}" y="38" width="11" height="11" fill="{color}"/><text x="{}" y="48" font-size="12">{what}</text>"#,
            x + 16.0
        );
        x += 46.0 + 6.6 * what.len() as f64;
    }
    text
}

const REFERENCE: &str = "#8a8f98";
const FARREF: &str = "#1558b0";
const VARIANT: &str = "#7fa9de";
const PEER: &str = "#d9822b";

const fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Farref => FARREF,
        Kind::Reference => REFERENCE,
        Kind::Variant => VARIANT,
        Kind::Peer => PEER,
    }
}

/// Every workload of a group, in their order, over the first of its media; null calls over all, and pinned in all ways.
fn panels(results: &Results, group: Group) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel> = Vec::new();
    let mut seen: Vec<Workload> = Vec::new();
    let parsed = |table| Some((Table::workload(table)?, table));
    let mut tables: Vec<(Workload, &Table)> = results.tables.iter().filter_map(parsed).collect();
    tables.retain(|(workload, _)| workload.declaration().group == group);
    tables.sort_by_key(|(workload, _)| Workload::ALL.iter().position(|one| one == workload));
    for (workload, table) in tables {
        let is_first = !seen.contains(&workload);
        seen.push(workload);
        if !(is_first || workload == Workload::Null) {
            continue;
        }
        let declaration = workload.declaration();
        let main = declaration.columns.first().map(|column| column.figure);
        let more = declaration.charts.iter().copied().filter(|_| is_first);
        for figure in main.into_iter().chain(more) {
            panels.extend(panel(&declaration.title, declaration.columns, figure, table));
        }
    }
    panels
}

fn panel<'a>(
    title: &str,
    columns: &[crate::workload::Column],
    figure: &'static str,
    table: &'a Table,
) -> Option<Panel<'a>> {
    let rows: Vec<&Row> = table
        .rows
        .iter()
        .filter(|row| row.median(figure).is_finite())
        .collect();
    let unit = columns.iter().find(|column| column.figure == figure)?.title;
    let better = if matches!(figure, "rate" | "transfer") {
        "more is better"
    } else {
        "less is better"
    };
    let panel = Panel {
        title: title.to_owned(),
        note: format!("{}, pinned: {}; {unit}; {better}", table.medium, table.pin),
        figure,
        rows,
    };
    (!panel.rows.is_empty()).then_some(panel)
}

/// From a value to how long its bar is.
struct Scale {
    is_logarithmic: bool,
    least: f64,
    most: f64,
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let most = values.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let least = positive.fold(most, f64::min);
        let is_logarithmic = most / least > WIDE;
        Self {
            is_logarithmic,
            // Half a power of ten, so that the shortest bar can be seen.
            least: if is_logarithmic { least / 3.0 } else { 0.0 },
            most,
        }
    }

    fn length(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.least) / self.least).ln() / (self.most / self.least).ln()
        } else {
            value.max(0.0) / self.most
        };
        share.min(1.0) * LENGTH
    }

    /// The powers of ten within.
    fn tens(&self) -> Vec<f64> {
        if !self.is_logarithmic {
            return Vec::new();
        }
        let (from, to) = (self.least.log10().ceil() as i32, self.most.log10().floor() as i32);
        (from..=to).map(|power| 10_f64.powi(power)).collect()
    }
}

impl Panel<'_> {
    fn height(&self) -> f64 {
        HEAD + LINE * self.rows.len() as f64 + FOOT
    }

    fn draw(&self, svg: &mut String) {
        let ends: Vec<f64> = self.rows.iter().flat_map(|row| row.spread(self.figure)).collect();
        let scale = Scale::of(&ends);
        let note = if scale.is_logarithmic {
            format!("{}; logarithmic", self.note)
        } else {
            self.note.clone()
        };
        let _ = writeln!(
            svg,
            r##"<text y="14" font-size="{}" font-weight="bold">{}</text><text y="30" font-size="11" fill="#555">{}</text>"##,
            if self.title.len() > LONG { 12 } else { 13 },
            escaped(&self.title),
            escaped(&note)
        );
        let bottom = HEAD + LINE * self.rows.len() as f64;
        for ten in scale.tens() {
            let x = LEFT + scale.length(ten);
            let _ = writeln!(
                svg,
                r##"<line x1="{x:.1}" y1="{HEAD}" x2="{x:.1}" y2="{bottom}" stroke="#ddd"/><text x="{x:.1}" y="{:.1}" font-size="9" fill="#777" text-anchor="middle">{}</text>"##,
                bottom + 10.0,
                short(ten)
            );
        }
        for (at, row) in self.rows.iter().enumerate() {
            self.bar(svg, &scale, HEAD + LINE * at as f64, row);
        }
    }

    fn bar(&self, svg: &mut String, scale: &Scale, y: f64, row: &Row) {
        let median = row.median(self.figure);
        let length = scale.length(median);
        let [least, most] = row.spread(self.figure).map(|value| LEFT + scale.length(value));
        let middle = y + LINE / 2.0;
        let _ = writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" font-size="11" text-anchor="end">{}</text><rect x="{LEFT}" y="{:.1}" width="{length:.1}" height="{:.1}" fill="{}"/><line x1="{least:.1}" y1="{middle:.1}" x2="{most:.1}" y2="{middle:.1}" stroke="#1a1a1a"/><text x="{:.1}" y="{:.1}" font-size="11">{}</text>"##,
            LEFT - 6.0,
            y + 12.5,
            row.contender,
            y + 3.0,
            LINE - 6.0,
            color(kind(&row.contender)),
            most.max(LEFT + length) + 5.0,
            y + 12.5,
            number(median)
        );
    }
}

/// A power of ten on little room.
fn short(value: f64) -> String {
    match value {
        1e9.. => format!("{:.0}G", value / 1e9),
        1e6.. => format!("{:.0}M", value / 1e6),
        1e3.. => format!("{:.0}k", value / 1e3),
        _ => format!("{value}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Sizes;
    use crate::meter::Figures;

    #[test]
    fn a_panel_has_a_bar_for_everyone_who_found_something_and_bars_are_in_order() {
        let row = |contender: &str, rate: Option<f64>| Row {
            contender: contender.to_owned(),
            reference: None,
            rounds: vec![Figures::from_iter(rate.map(|rate| ("rate".to_owned(), rate)))],
            failed: None,
        };
        let results = Results {
            machine: "a machine <of 2> & more".into(),
            tables: vec![Table {
                workload: "null".into(),
                medium: "tcp".into(),
                pin: "none".into(),
                seconds: 1.0,
                sizes: Sizes::default(),
                rows: vec![
                    row("echo", Some(1e6)),
                    row("farref", Some(1e3)),
                    row("other", None),
                ],
            }],
        };
        let svg = svg(&results);
        assert!(svg.contains("&lt;of 2&gt; &amp; more"));
        assert!(svg.contains(">echo<") && svg.contains(">farref<") && !svg.contains(">other<"));
        assert!(svg.contains("logarithmic"));
        let scale = Scale::of(&[1e6, 1e3]);
        assert!(0.0 < scale.length(1e3) && scale.length(1e3) < scale.length(1e6));
        assert_eq!(scale.tens(), [1e3, 1e4, 1e5, 1e6]);
    }
}
