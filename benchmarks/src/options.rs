//! What the command line asks for.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::contender::{Contender, named};
use crate::job::{Medium, Pin};
use crate::workload::Workload;
use crate::{Error, Result, contenders};

/// How the program is used, with everything that it knows.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "\
farref beside an echo of the same bytes and beside its peers: medians of processes that take turns, as Markdown

  --workload LIST    which of the workloads below (default: all); other numbers work as well
  --medium LIST      tcp, unix, quic, stdio, mem (default: all that a workload is done over)
  --contender LIST   which of the contenders below (default: all that can; the reference always runs)
  --rounds NUMBER    how often each contender has its turn (default: 5)
  --seconds NUMBER   how long a turn is measured, after a fifth of that to warm up (default: 1)
  --pin HOW          none, same (both processes on one CPU), split (each on its own) (default: none)
  --json FILE        writes all that was found there
  --svg FILE         draws it there
  --from LIST        measures nothing: takes what --json wrote

Workloads:
",
    );
    for workload in Workload::ALL {
        text += &format!("  {:16} {}\n", workload.to_string(), workload.declaration().title);
    }
    text += "\nContenders:\n";
    for contender in contenders::all() {
        text += &format!("  {:16} {}\n", contender.name(), contender.about());
    }
    text
}

/// What is to be run.
pub(crate) struct Options {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) media: Vec<Medium>,
    /// Empty: all.
    pub(crate) contenders: Vec<&'static dyn Contender>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) pin: Pin,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
    /// Not empty: nothing is run.
    pub(crate) from: Vec<PathBuf>,
}

impl Options {
    /// `None`: tell how it is used.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            workloads: Workload::ALL.to_vec(),
            media: Medium::ALL.to_vec(),
            contenders: Vec::new(),
            rounds: 5,
            duration: Duration::from_secs(1),
            pin: Pin::None,
            json: None,
            svg: None,
            from: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} wants a value: try --help"))?;
            match name.as_str() {
                "--workload" => options.workloads = list(value)?,
                "--medium" => options.media = list(value)?,
                "--contender" => options.contenders = value.split(',').map(named).collect::<Result<_>>()?,
                "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
                "--seconds" => options.duration = Duration::try_from_secs_f64(value.parse()?)?,
                "--pin" => options.pin = value.parse()?,
                "--json" => options.json = Some(value.into()),
                "--svg" => options.svg = Some(value.into()),
                "--from" => options.from = value.split(',').map(PathBuf::from).collect(),
                _ => return Err(format!("there is no option {name}: try --help").into()),
            }
        }
        Ok(Some(options))
    }
}

fn list<T: FromStr<Err = Error>>(text: &str) -> Result<Vec<T>> {
    text.split(',').map(str::parse).collect()
}
