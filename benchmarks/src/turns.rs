//! Who runs when.

use std::process::{Command, Stdio};

use crate::Result;
use crate::contender::{Contender, is_reference, named, those_who_can};
use crate::job::{Job, Medium, Sizes};
use crate::meter::Figures;
use crate::options::Options;
use crate::results::{Results, Row, Table};
use crate::workload::Workload;

/// Runs what is asked for.
pub(crate) fn run(options: &Options) -> Result<Results> {
    let mut results = Results {
        machine: machine(),
        tables: Vec::new(),
    };
    for workload in &options.workloads {
        for medium in workload
            .media()
            .iter()
            .filter(|medium| options.media.contains(medium))
        {
            let contenders = contenders(options, *workload, *medium);
            if !contenders.is_empty() {
                results
                    .tables
                    .push(take_turns(options, *workload, *medium, &contenders)?);
            }
        }
    }
    Ok(results)
}

fn contenders(options: &Options, workload: Workload, medium: Medium) -> Vec<&'static dyn Contender> {
    let is_wanted = |contender: &dyn Contender| {
        options.contenders.is_empty()
            || options
                .contenders
                .iter()
                .any(|wanted| wanted.name() == contender.name())
    };
    let mut all = those_who_can(workload, medium);
    let wanted: Vec<_> = all.iter().copied().filter(|one| is_wanted(*one)).collect();
    let is_needed = |one: &dyn Contender| {
        let name = one.name();
        let mut either = wanted
            .iter()
            .flat_map(|wanted| [wanted.name(), wanted.reference(medium)]);
        either.any(|needed| needed == name)
    };
    all.retain(|contender| is_needed(*contender));
    all.retain(|contender| match contender.missing() {
        Some(why) => {
            eprintln!("without {}: {why}", contender.name());
            false
        }
        None => true,
    });
    all
}

fn take_turns(
    options: &Options,
    workload: Workload,
    medium: Medium,
    contenders: &[&'static dyn Contender],
) -> Result<Table> {
    let job = |contender, medium, sizes| -> Result<Job> {
        Ok(Job {
            contender,
            workload,
            medium,
            cpus: options.pin.cpus()?,
            duration: options.duration,
            sizes,
        })
    };
    let sizes =
        if is_reference(contenders[0], medium) && !matches!(workload, Workload::Items | Workload::Local) {
            probe(&job(named("farref")?, Medium::Tcp, Sizes::default())?)?
        } else {
            Sizes { request: 1, reply: 1 }
        };
    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|contender| Row {
            contender: contender.name().to_owned(),
            reference: contenders
                .iter()
                .map(|one| one.name())
                .find(|name| *name == contender.reference(medium))
                .map(str::to_owned),
            rounds: Vec::new(),
            failed: None,
        })
        .collect();
    for round in 0..options.rounds {
        eprintln!(
            "{workload} over {medium}: round {} of {}",
            round + 1,
            options.rounds
        );
        for (contender, row) in contenders.iter().zip(&mut rows) {
            if row.failed.is_some() {
                continue;
            }
            match start(&job(*contender, medium, sizes)?) {
                Ok(figures) => row.rounds.push(figures),
                Err(error) => {
                    eprintln!("{error}");
                    row.failed = Some(error.to_string());
                }
            }
        }
    }
    Ok(Table {
        workload: workload.to_string(),
        medium: medium.to_string(),
        pin: options.pin.to_string(),
        seconds: options.duration.as_secs_f64(),
        sizes,
        rows,
    })
}

/// The sizes of farref's messages.
fn probe(job: &Job) -> Result<Sizes> {
    let figures = start(job)?;
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

/// Has a process do the job.
fn start(job: &Job) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?)
        .arg("client")
        .args(job.to_arguments())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let (contender, workload, medium) = (job.contender.name(), job.workload, job.medium);
        return Err(format!("{contender} failed at {workload} over {medium}").into());
    }
    figures(&String::from_utf8(output.stdout)?)
}

/// Lines of `name value`. What is no number was not found.
pub(crate) fn figures(text: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in text.lines() {
        let (name, value) = line
            .split_once(' ')
            .ok_or_else(|| format!("`{line}` is no figure"))?;
        let value: f64 = value.parse()?;
        if value.is_finite() {
            figures.insert(name.to_owned(), value);
        }
    }
    Ok(figures)
}

/// What the figures come from.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cpus} CPUs ({}), Linux {}",
        model.unwrap_or_else(|| "of an unknown model".into()),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
