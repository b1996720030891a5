//! Who runs when, and the tables.

use std::process::Command;

use crate::Result;
use crate::job::{Contender, Job, Medium, Sizes, Workload};
use crate::meter::Figures;
use crate::options::Options;

/// Everything that one contender found, round by round.
struct Row {
    contender: Contender,
    rounds: Vec<Figures>,
}

/// Runs what is asked for and prints a table for each workload and medium.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!(
        "Medians of {} rounds of {:?}, contenders in turn, pinned: {}. × is the ratio to the reference of the same round, \
         CPU time that of both processes.\n",
        options.rounds, options.duration, options.pin,
    );
    let mut bars = Bars::default();
    for workload in &options.workloads {
        let media = if workload.has_echo() {
            &options.media[..]
        } else {
            &options.media[..1]
        };
        for medium in media {
            let sizes = if workload.has_echo() {
                probe(options, *workload)?
            } else {
                Sizes { request: 1, reply: 1 }
            };
            let rows = take_turns(options, *workload, *medium, sizes)?;
            let over = if *workload == Workload::Local {
                String::new()
            } else {
                format!(", {medium}")
            };
            println!("### {}{over}\n", workload.title());
            match workload {
                Workload::Local => local_table(&rows),
                Workload::Live => live_table(&rows),
                _ => table(&rows, sizes),
            }
            println!();
            bars.note(*workload, *medium, &rows);
        }
    }
    bars.print();
    Ok(())
}

/// The sizes of farref's messages, seen over TCP.
fn probe(options: &Options, workload: Workload) -> Result<Sizes> {
    let job = Job {
        contender: Contender::Farref,
        workload,
        medium: Medium::Tcp,
        pin: options.pin,
        duration: options.duration,
        sizes: Sizes::default(),
    };
    let figures = start(&job)?;
    let size = |name: &str| {
        figures
            .get(name)
            .map(|size| *size as usize)
            .ok_or("the probe found nothing")
    };
    Ok(Sizes {
        request: size("request")?,
        reply: size("reply")?,
    })
}

fn take_turns(options: &Options, workload: Workload, medium: Medium, sizes: Sizes) -> Result<Vec<Row>> {
    let all = workload.contenders();
    let wanted = |at: usize, contender| {
        at == 0 || options.contenders.is_empty() || options.contenders.contains(&contender)
    };
    let mut rows: Vec<Row> = (0..)
        .zip(all)
        .filter(|(at, contender)| wanted(*at, **contender))
        .map(|(_, contender)| Row {
            contender: *contender,
            rounds: Vec::new(),
        })
        .collect();
    for round in 0..options.rounds {
        eprintln!(
            "{workload} over {medium}: round {} of {}",
            round + 1,
            options.rounds
        );
        for row in &mut rows {
            let job = Job {
                contender: row.contender,
                workload,
                medium,
                pin: options.pin,
                duration: options.duration,
                sizes,
            };
            row.rounds.push(start(&job)?);
        }
    }
    Ok(rows)
}

/// Has a process do the job.
fn start(job: &Job) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .arg("client")
        .args(job.to_arguments())
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed at {} over {}", job.contender, job.workload, job.medium).into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (name, value) = line
                .split_once(' ')
                .ok_or_else(|| format!("`{line}` is no figure"))?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn table(rows: &[Row], sizes: Sizes) {
    let Some(reference) = rows.first() else { return };
    let Sizes { request, reply } = sizes;
    println!(
        "| contender | per second | × | p50 µs | p99 µs | CPU µs | × | client + server | allocations | others |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        println!(
            "| {} | {} | {:.2} | {} | {} | {} | {:.2} | {} + {} | {:.1} + {:.1} | {:.0} % |",
            row.contender,
            number(row.median("rate")),
            row.ratio(reference, "rate"),
            number(row.median("p50")),
            number(row.median("p99")),
            number(row.median("cpu")),
            row.ratio(reference, "cpu"),
            number(row.median("cpu-client")),
            number(row.median("cpu-server")),
            row.median("allocations-client"),
            row.median("allocations-server"),
            row.median("others") * 100.0,
        );
    }
    println!("\nA request has {request} bytes on the wire, its reply {reply}.");
}

fn live_table(rows: &[Row]) {
    println!("| bytes each, beyond the object | client | server | both |");
    println!("|---|--:|--:|--:|");
    for row in rows {
        for (name, client, server) in [
            ("allocated", "client", "server"),
            ("resident", "resident-client", "resident-server"),
        ] {
            let (client, server) = (row.median(client), row.median(server));
            println!(
                "| {}, {name} | {client:.0} | {server:.0} | {:.0} |",
                row.contender,
                client + server
            );
        }
        println!(
            "\n{} made and {} freed per second; when all are dropped, {} bytes are left on the client and {} on the server.",
            number(row.median("made")),
            number(row.median("freed")),
            number(row.median("left-client")),
            number(row.median("left-server")),
        );
    }
}

fn local_table(rows: &[Row]) {
    println!("| contender | ns a call |");
    println!("|---|--:|");
    for row in rows {
        println!("| {} | {:.2} |", row.contender, row.median("nanos"));
    }
}

/// What the project holds itself to, beside what was found.
#[derive(Default)]
struct Bars {
    null_tcp: Option<f64>,
    many_tcp: Option<f64>,
    lines: Vec<String>,
}

impl Bars {
    fn note(&mut self, workload: Workload, medium: Medium, rows: &[Row]) {
        let find = |contender| rows.iter().find(|row| row.contender == contender);
        let (Some(reference), farref) = (rows.first(), find(Contender::Farref)) else {
            return;
        };
        match (workload, medium, farref) {
            (Workload::Null, Medium::Tcp, Some(farref)) => {
                self.null_tcp = Some(farref.median("cpu"));
                let ratio = farref.ratio(reference, "cpu");
                self.lines.push(format!(
                    "CPU of a null call over TCP, as a multiple of the echo's | 1.3 | {ratio:.2}"
                ));
                if let Some(unkept) = find(Contender::FarrefUnkept) {
                    let ratio = farref.ratio(unkept, "cpu");
                    self.lines.push(format!(
                        "CPU of a null call over TCP, as a multiple of that without a session | 1.03 | {ratio:.3}"
                    ));
                }
            }
            (Workload::InFlight(256), Medium::Tcp, Some(farref)) => {
                self.many_tcp = Some(farref.median("cpu"))
            }
            (Workload::Live, _, Some(farref)) => {
                let bytes = farref.median("client") + farref.median("server");
                self.lines
                    .push(format!("bytes of a live netref, both sides | 300 | {bytes:.0}"));
            }
            (Workload::Local, ..) => {
                if let Some(netref) = find(Contender::Netref) {
                    let more = netref.median("nanos") - reference.median("nanos");
                    self.lines.push(format!(
                        "ns by which a local call through a netref is slower | a few | {more:.1}"
                    ));
                }
            }
            _ => {}
        }
    }

    fn print(mut self) {
        if let (Some(one), Some(many)) = (self.null_tcp, self.many_tcp) {
            let share = many / one;
            self.lines.push(format!(
                "CPU of a call among 256, as a share of one alone | 0.1 | {share:.3}"
            ));
        }
        if self.lines.is_empty() {
            return;
        }
        println!("### bars\n\n| what | at most | found |\n|---|--:|--:|");
        for line in self.lines {
            println!("| {line} |");
        }
    }
}

impl Row {
    fn median(&self, name: &str) -> f64 {
        median(
            self.rounds
                .iter()
                .filter_map(|figures| figures.get(name).copied())
                .collect(),
        )
    }

    /// The median of the ratios to `reference`, round by round.
    fn ratio(&self, reference: &Self, name: &str) -> f64 {
        let rounds = self.rounds.iter().zip(&reference.rounds);
        median(
            rounds
                .filter_map(|(mine, its)| Some(mine.get(name)? / its.get(name)?))
                .collect(),
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Three digits, and commas between thousands.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value.abs() < 1000.0 {
        let digits = if value.abs() >= 100.0 {
            0
        } else if value.abs() >= 10.0 {
            1
        } else {
            2
        };
        return format!("{value:.digits$}");
    }
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let plain = format!("{:.0}", (value / unit).round() * unit);
    let (sign, figures) = plain.split_at(usize::from(plain.starts_with('-')));
    let mut text = sign.to_owned();
    for (at, figure) in figures.chars().enumerate() {
        if at > 0 && (figures.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(figure);
    }
    text
}
