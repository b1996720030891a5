//! The server process: serves as the contender does, and answers orders over a socket of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use crate::job::{Job, confine};
use crate::meter::Status;
use crate::{Result, allocator, contenders};

/// Where a server says that it listens.
pub(crate) struct Ready {
    tell: mpsc::Sender<String>,
    /// The Unix socket to listen on.
    pub(crate) socket: String,
}

impl Ready {
    pub(crate) const fn new(tell: mpsc::Sender<String>, socket: String) -> Self {
        Self { tell, socket }
    }

    /// `address` is what the contender's client takes.
    pub(crate) fn listening(&self, address: impl ToString) -> Result<()> {
        Ok(self.tell.send(address.to_string())?)
    }
}

/// Serves until the client closes the control socket.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let [job @ .., control, socket] = arguments else {
        return Err("servers are started by clients: try --help".into());
    };
    let job = Job::from_arguments(job)?;
    confine(job.cpus[1])?;
    let control = UnixStream::connect(control)?;
    let (tell, address) = mpsc::channel();
    let ready = Ready::new(tell, socket.clone());
    let served = std::thread::spawn(move || job.contender.serve(&job, ready));
    match address.recv() {
        Ok(address) => obey(&address, control),
        Err(_) => served
            .join()
            .unwrap_or_else(|_| Err("the serving thread panicked".into())),
    }
}

/// Tells `address`, then answers every order with one line.
fn obey(address: &str, control: UnixStream) -> Result<()> {
    let mut reports = control.try_clone()?;
    writeln!(reports, "{address}")?;
    for order in BufReader::new(control).lines() {
        let report = match order?.as_str() {
            "status" => {
                let Status {
                    cpu,
                    live,
                    allocations,
                    resident,
                } = Status::now();
                format!("{} {live} {allocations} {resident}", cpu.as_nanos())
            }
            "objects" => contenders::made::objects().to_string(),
            "id" => std::process::id().to_string(),
            order => {
                allocator::switch(order == "count");
                "done".into()
            }
        };
        writeln!(reports, "{report}")?;
    }
    Ok(())
}
