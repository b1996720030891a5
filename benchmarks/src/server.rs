//! The server process: serves as the contender does, and answers orders on its standard input.

use std::io::{BufRead, Write};
use std::sync::mpsc;

use crate::client::confine;
use crate::contenders::{echo, farref};
use crate::job::{Contender, Job};
use crate::meter::Status;
use crate::{Result, allocator};

/// The environment variable that names the Unix socket to listen on.
pub(crate) const SOCKET: &str = "FARREF_BENCHMARKS_SOCKET";

/// The environment variable that names the CPU to run on; empty: any.
pub(crate) const CPU: &str = "FARREF_BENCHMARKS_CPU";

/// Serves until the client closes this process's standard input.
pub(crate) fn main(job: &Job) -> Result<()> {
    if let Some(cpu) = std::env::var(CPU).ok().filter(|cpu| !cpu.is_empty()) {
        confine(cpu.parse()?)?;
    }
    let (ready, address) = mpsc::channel();
    let control = std::thread::spawn(move || {
        let address: String = address.recv().map_err(|_| "the server cannot listen")?;
        obey(&address)
    });
    let job = *job;
    let served = std::thread::spawn(move || serve(&job, ready));
    let obeyed = control
        .join()
        .unwrap_or_else(|_| Err("the control thread panicked".into()));
    if obeyed.is_err() && served.is_finished() {
        return served
            .join()
            .unwrap_or_else(|_| Err("the serving thread panicked".into()));
    }
    obeyed
}

fn serve(job: &Job, ready: mpsc::Sender<String>) -> Result<()> {
    let job = *job;
    match job.contender {
        Contender::Std => echo::serve_blocking(&job, &ready),
        contender => contender.runtime()?.block_on(async move {
            tokio::spawn(async move {
                if contender.is_farref() {
                    farref::serve(&job, ready).await
                } else {
                    echo::serve(&job, ready).await
                }
            })
            .await?
        }),
    }
}

/// Tells `address`, then answers every order with one line.
fn obey(address: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{address}")?;
    for order in std::io::stdin().lock().lines() {
        match order?.as_str() {
            "status" => {
                let Status {
                    cpu,
                    live,
                    allocations,
                    resident,
                } = Status::now();
                writeln!(output, "{} {live} {allocations} {resident}", cpu.as_nanos())?;
            }
            "objects" => writeln!(output, "{}", farref::objects())?,
            "count" => {
                allocator::switch(true);
                writeln!(output)?;
            }
            _ => {
                allocator::switch(false);
                writeln!(output)?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// Where to listen, for servers that take a path.
pub(crate) fn socket() -> String {
    std::env::var(SOCKET).unwrap_or_default()
}
