//! Python's RPyC, client and server, over TCP: two processes of Python's, of which `rpyc.py` has both halves.
//!
//! As it ships: `ThreadedServer`, no options. As its documentation advises: methods are taken from the root once and kept,
//! `async_` for calls at the same time, `buffiter` for streams, tuples for what is to go by value.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::contender::Contender;
use crate::job::{Job, Medium};
use crate::meter::Figures;
use crate::server::Ready;
use crate::turns::figures;
use crate::workload::{CALLBACKS, ITEMS, RECORDS, Workload};

pub(crate) const ALL: &[&dyn Contender] = &[&Rpyc];

const HALVES: &str = include_str!("rpyc.py");

struct Rpyc;

impl Contender for Rpyc {
    fn name(&self) -> &'static str {
        "rpyc"
    }

    fn about(&self) -> &'static str {
        "Python's RPyC 6.0: ThreadedServer, kept methods, async_ and buffiter; needs tools/python-peers.sh"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp]
    }

    fn can(&self, workload: Workload) -> bool {
        matches!(
            workload,
            Workload::Null
                | Workload::InFlight(_)
                | Workload::Bytes(_)
                | Workload::Structs
                | Workload::Callbacks
                | Workload::Objects
                | Workload::Items
                | Workload::Connect
        )
    }

    fn missing(&self) -> Option<String> {
        let python = python();
        (!python.exists())
            .then(|| format!("there is no {}: tools/python-peers.sh makes it", python.display()))
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        let (name, count) = match job.workload {
            Workload::InFlight(number) => ("in-flight", number as u64),
            Workload::Bytes(bytes) => ("bytes", bytes as u64),
            Workload::Structs => ("structs", RECORDS as u64),
            Workload::Callbacks => ("callbacks", CALLBACKS.into()),
            Workload::Items => ("items", ITEMS),
            Workload::Objects => ("objects", 1),
            Workload::Connect => ("connect", 1),
            _ => ("null", 1),
        };
        let cpu = job.cpus[1].map_or_else(|| "any".to_owned(), |cpu| cpu.to_string());
        let output = Command::new(python())
            .args(["-c", HALVES, "client", name])
            .args([count.to_string(), job.duration.as_secs_f64().to_string(), cpu])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err("Python failed".into());
        }
        figures(&String::from_utf8(output.stdout)?)
    }

    fn serve(&self, _: &Job, _: Ready) -> Result<()> {
        Err("its server is Python's".into())
    }
}

/// That of the tests.
fn python() -> PathBuf {
    let peers = std::env::var_os("FARREF_PYTHON_PEERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.python-peers"),
        PathBuf::from,
    );
    peers.join("6.0.2/bin/python")
}
