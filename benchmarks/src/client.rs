//! The client process: starts the server, has its contender measure, and prints what was found.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;
use crate::job::{Job, Medium, confine};
use crate::meter::Status;
use crate::server::Ready;

/// Does the job and prints its figures, one `name value` on a line.
pub(crate) fn main(job: &Job) -> Result<()> {
    confine(job.cpus[0])?;
    allow_files()?;
    for (name, value) in job.contender.measure(job)? {
        println!("{name} {value}");
    }
    Ok(())
}

/// As many open files as this process may have: servers inherit that.
fn allow_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, all)?)
}

/// The server, from the client's side: a process of its own, but for [`Medium::Mem`].
pub(crate) struct Server {
    /// What the server said of where it listens. Over stdio, whose servers are started by those who dial: the program and
    /// its arguments, one on a line.
    pub(crate) address: String,
    process: Option<Child>,
    control: Control,
    directory: PathBuf,
}

/// The way to the server besides the one that is measured.
enum Control {
    /// The server is in this process.
    None,
    /// The server has not come yet.
    Expected(UnixListener),
    There(BufReader<UnixStream>),
}

impl Server {
    /// Starts the server and waits until it listens.
    pub(crate) fn start(job: &Job) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("farref-benchmarks-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let mut command = vec![
            std::env::current_exe()?.to_string_lossy().into_owned(),
            "server".into(),
        ];
        command.extend(job.to_arguments());
        command.extend([path("control"), path("socket")]);
        let mut server = Self {
            address: command.join("\n"),
            process: None,
            control: Control::None,
            directory,
        };
        if job.medium == Medium::Mem {
            let (ready, address) = mpsc::channel();
            let job = *job;
            std::thread::spawn(move || {
                let ready = Ready::new(ready, String::new());
                let served = confine(job.cpus[1]).and_then(|()| job.contender.serve(&job, ready));
                if let Err(error) = served {
                    eprintln!("{error}");
                }
            });
            server.address = address.recv()?;
            return Ok(server);
        }
        let listener = UnixListener::bind(server.directory.join("control"))?;
        listener.set_nonblocking(true)?;
        server.control = Control::Expected(listener);
        if job.medium != Medium::Stdio {
            let mut process = Command::new(&command[0]);
            process
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            server.process = Some(process.spawn()?);
            server.await_control()?;
        }
        Ok(server)
    }

    /// The way to the server, which is on its way if it is not there.
    fn await_control(&mut self) -> Result<Option<&mut BufReader<UnixStream>>> {
        const PATIENCE: Duration = Duration::from_secs(20);

        if let Control::Expected(listener) = &self.control {
            let started = Instant::now();
            let stream = loop {
                match listener.accept() {
                    Ok((stream, _)) => break stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
                if let Some(process) = &mut self.process
                    && let Some(status) = process.try_wait()?
                {
                    return Err(format!("the server has ended: {status}").into());
                }
                if started.elapsed() > PATIENCE {
                    return Err("the server does not come".into());
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            stream.set_nonblocking(false)?;
            let mut control = BufReader::new(stream);
            self.address = report(&mut control)?;
            self.control = Control::There(control);
        }
        Ok(match &mut self.control {
            Control::There(control) => Some(control),
            _ => None,
        })
    }

    /// `None`: the server is in this process.
    fn order(&mut self, order: &str) -> Result<Option<String>> {
        let Some(control) = self.await_control()? else {
            return Ok(None);
        };
        writeln!(control.get_mut(), "{order}")?;
        Ok(Some(report(control)?))
    }

    /// What the server's process has used up; nothing if it is this one, whose own status has it.
    pub(crate) fn status(&mut self) -> Result<Status> {
        let Some(report) = self.order("status")? else {
            return Ok(Status::default());
        };
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
        match self.order("objects")? {
            Some(objects) => Ok(objects.parse()?),
            None => Ok(crate::contenders::made::objects()),
        }
    }

    pub(crate) fn id(&mut self) -> Result<Option<u32>> {
        self.order("id")?.map(|id| Ok(id.parse()?)).transpose()
    }

    /// Counts allocations from now on, or no more, in both processes.
    pub(crate) fn count(&mut self, on: bool) -> Result<()> {
        crate::allocator::switch(on);
        self.order(if on { "count" } else { "stop counting" })?;
        Ok(())
    }
}

fn report(control: &mut BufReader<UnixStream>) -> Result<String> {
    let mut line = String::new();
    control.read_line(&mut line)?;
    if line.is_empty() {
        return Err("the server has ended".into());
    }
    Ok(line.trim_end().to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its orders is the server's end.
        self.control = Control::None;
        if let Some(process) = &mut self.process {
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
