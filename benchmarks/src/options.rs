//! What the command line asks for.

use std::str::FromStr;
use std::time::Duration;

use crate::Result;
use crate::job::{Contender, Medium, Pin, Workload};

pub(crate) const HELP: &str = "\
farref beside an echo of the same bytes: medians of processes that take turns, as Markdown

  --workload LIST    null, in-flight-16, in-flight-256, bytes-1024, bytes-65536, bytes-1048576, callbacks, objects,
                     pipelined, live, local; other numbers work as well (default: all)
  --medium LIST      tcp, unix (default: both)
  --contender LIST   echo, echo-ct, std, farref, farref-unkept, farref-ct,
                     farref-blocking, farref-threads, farref-pooled, arc, netref
                     (default: all that can do the workload; the reference always runs)
  --rounds NUMBER    how often each contender has its turn (default: 5)
  --seconds NUMBER   how long a turn is measured, after a fifth of that to warm up (default: 1)
  --pin HOW          none, same (both processes on one CPU), split (each on its own) (default: none)
";

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) media: Vec<Medium>,
    /// Empty: all.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) pin: Pin,
}

impl Options {
    /// `None`: tell how it is used.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            workloads: Workload::ALL.to_vec(),
            media: vec![Medium::Tcp, Medium::Unix],
            contenders: Vec::new(),
            rounds: 5,
            duration: Duration::from_secs(1),
            pin: Pin::None,
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
                "--contender" => options.contenders = list(value)?,
                "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
                "--seconds" => options.duration = Duration::try_from_secs_f64(value.parse()?)?,
                "--pin" => options.pin = value.parse()?,
                _ => return Err(format!("there is no option {name}: try --help").into()),
            }
        }
        Ok(Some(options))
    }
}

fn list<T: FromStr<Err = Box<dyn std::error::Error + Send + Sync>>>(text: &str) -> Result<Vec<T>> {
    text.split(',').map(str::parse).collect()
}
