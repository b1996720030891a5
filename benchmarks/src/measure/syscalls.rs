//! What a lone call asks of the system, on each side, as `strace -c` counts it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::meter::Figures;

/// So many that what is asked for now and then, as ever rarer looks whether to spin pays, does not count.
const CALLS: u32 = 20_000;

/// One process, watched.
struct Strace(Child);

impl Strace {
    /// Returns when the process, with all its threads, is watched.
    fn attach(id: u32) -> Result<Self> {
        let mut strace = Command::new("strace");
        strace.args(["-c", "-f", "-p", &id.to_string()]);
        let mut child = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut told = child.stderr.take().ok_or("no pipe")?;
        // `strace: Process 17 attached with 4 threads`, byte by byte, so that nothing else is taken away.
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            told.read_exact(&mut byte)
                .map_err(|_| "strace cannot attach here")?;
            line.extend(byte);
        }
        let line = String::from_utf8_lossy(&line);
        if !line.contains("attached") {
            return Err(line.trim().into());
        }
        child.stderr = Some(told);
        Ok(Self(child))
    }

    /// How many system calls there were, by name.
    fn counts(mut self) -> Result<BTreeMap<String, f64>> {
        let id = i32::try_from(self.0.id())?;
        kill_process(Pid::from_raw(id).ok_or("no process")?, Signal::INT)?;
        let told = self.0.stderr.take().ok_or("no pipe")?;
        let mut counts = BTreeMap::new();
        for line in BufReader::new(told).lines() {
            let line = line?;
            // `% time`, seconds, µs per call, calls, perhaps errors, name.
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [share, _, _, calls, .., name] = fields[..]
                && share.parse::<f64>().is_ok()
                && name != "total"
            {
                counts.insert(name.to_owned(), calls.parse()?);
            }
        }
        self.0.wait()?;
        Ok(counts)
    }
}

/// Makes calls under strace, which makes them slow: only the counts mean something.
pub(super) async fn syscalls<C: Client>(mut client: C, server: &mut Server) -> Result<Figures> {
    for _ in 0..CALLS {
        client.null().await?;
    }
    let far = server.id()?.ok_or("both sides are one process")?;
    // Children of a watched process are watched, and cannot watch others.
    let there = Strace::attach(far)?;
    let here = Strace::attach(std::process::id())?;
    for _ in 0..CALLS {
        client.null().await?;
    }
    let mut figures = Figures::new();
    for (side, strace) in [("client", here), ("server", there)] {
        for (name, calls) in strace.counts()? {
            let kind = match name.as_str() {
                "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" => "write",
                "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" => "read",
                "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" | "futex" => "wait",
                _ => "other",
            };
            let each = calls / f64::from(CALLS);
            *figures.entry(format!("{kind}-{side}")).or_default() += each;
            *figures.entry("all".into()).or_default() += each;
        }
    }
    Ok(figures)
}
