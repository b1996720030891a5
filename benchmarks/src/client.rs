//! The client process: starts the server, drives it, and prints what it found.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::contenders::{echo, farref, local};
use crate::job::{Contender, Job, Medium, Pin, Workload};
use crate::meter::{Figures, Status};
use crate::{Result, server};

/// Does the job and prints its figures, one `name value` on a line.
pub(crate) fn main(job: &Job) -> Result<()> {
    let cpu = pin(job.pin)?;
    for (name, value) in measure(job, cpu)? {
        println!("{name} {value}");
    }
    Ok(())
}

/// `cpu`: where the server is to run.
fn measure(job: &Job, cpu: Option<usize>) -> Result<Figures> {
    if job.workload == Workload::Local {
        return Ok(local::measure(job));
    }
    let mut server = Server::start(job, cpu)?;
    let probing = job.sizes.request == 0;
    match job.contender {
        Contender::Std => echo::drive_blocking(job, &mut server),
        Contender::Echo | Contender::EchoSingle => {
            let (job, runtime) = (*job, job.contender.runtime()?);
            runtime
                .block_on(async { tokio::spawn(async move { echo::drive(&job, &mut server).await }).await? })
        }
        Contender::FarrefBlocking | Contender::FarrefThreads | Contender::FarrefPooled if !probing => {
            farref::drive_blocking(job, &mut server)
        }
        _ => {
            let (job, runtime) = (*job, job.contender.runtime()?);
            runtime.block_on(async {
                tokio::spawn(async move {
                    if probing {
                        farref::probe(&job, &server).await
                    } else {
                        farref::drive(&job, &mut server).await
                    }
                })
                .await?
            })
        }
    }
}

/// The server process, from the client's side.
pub(crate) struct Server {
    process: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    /// Where it listens: an address of farref's, or what `connect` takes.
    pub(crate) address: String,
    socket: Option<PathBuf>,
}

impl Server {
    fn start(job: &Job, cpu: Option<usize>) -> Result<Self> {
        let socket = (job.medium == Medium::Unix)
            .then(|| std::env::temp_dir().join(format!("farref-benchmarks-{}.sock", std::process::id())));
        let mut process = Command::new(std::env::current_exe()?)
            .arg("server")
            .args(job.to_arguments())
            .env(server::SOCKET, socket.clone().unwrap_or_default())
            .env(server::CPU, cpu.map_or_else(String::new, |cpu| cpu.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        let reports = BufReader::new(process.stdout.take().ok_or("the server has no output")?);
        let mut server = Self {
            process,
            orders,
            reports,
            address: String::new(),
            socket,
        };
        server.address = server.report()?;
        Ok(server)
    }

    fn order(&mut self, order: &str) -> Result<String> {
        let orders = self.orders.as_mut().ok_or("the server is gone")?;
        orders.write_all(order.as_bytes())?;
        orders.write_all(b"\n")?;
        self.report()
    }

    fn report(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("the server has ended: {:?}", self.process.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn status(&mut self) -> Result<Status> {
        let report = self.order("status")?;
        let numbers: Vec<i64> = report
            .split(' ')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [cpu, live, allocations, resident] = numbers[..] else {
            return Err("a report of another kind".into());
        };
        Ok(Status {
            cpu: Duration::from_nanos(cpu.unsigned_abs()),
            live,
            allocations: allocations.unsigned_abs(),
            resident: resident.unsigned_abs(),
        })
    }

    /// How many objects it has that were made for clients.
    pub(crate) fn objects(&mut self) -> Result<u64> {
        Ok(self.order("objects")?.parse()?)
    }

    /// Counts allocations from now on, or no more, in both processes.
    pub(crate) fn count(&mut self, on: bool) -> Result<()> {
        crate::allocator::switch(on);
        self.order(if on { "count" } else { "stop counting" })?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is the server's end.
        drop(self.orders.take());
        let _ = self.process.wait();
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Confines this process to the CPU that the job says; the CPU for the server, which would inherit this one.
fn pin(how: Pin) -> Result<Option<usize>> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (Some(first), last) = (cpus.next(), cpus.next_back()) else {
        return Ok(None);
    };
    let last = last.unwrap_or(first);
    let (client, server) = match how {
        Pin::None => return Ok(None),
        Pin::Split => (first, last),
        Pin::Same => (last, last),
    };
    confine(client)?;
    Ok(Some(server))
}

/// Confines this process, and what it starts, to one CPU.
pub(crate) fn confine(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
