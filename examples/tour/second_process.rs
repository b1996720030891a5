//! Starting this program a second time, and seeing to its end.
//!
//! The far side says on its standard output where it can be reached ([`Introduction`]), and ends when its standard
//! input does. So it ends with us, however we end.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use farref::transport::Address;
use farref::transport::address::PeerKey;
use farref::{Context, Error, Result};

/// The argument that makes this program the far side.
pub(crate) const FAR_SIDE: &str = "--far-side";

/// How long the far side may take to come up, and to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the far side says first: one fact a line, then `ready`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Introduction {
    /// Where its files are.
    pub(crate) directory: PathBuf,
    /// Where to dial.
    pub(crate) addresses: Vec<Address>,
    /// Why there is no further address.
    pub(crate) absent: Vec<String>,
}

impl Introduction {
    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "directory {}", self.directory.display())?;
        for address in &self.addresses {
            writeln!(out, "address {address}")?;
        }
        for sentence in &self.absent {
            writeln!(out, "absent {sentence}")?;
        }
        writeln!(out, "ready")?;
        out.flush()
    }

    /// Takes one line in; whether it was the last.
    fn take(&mut self, line: &str) -> Result<bool> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("directory", path) => self.directory = path.into(),
            ("address", address) => self.addresses.push(address.parse()?),
            ("absent", sentence) => self.absent.push(sentence.to_owned()),
            ("ready", "") => return Ok(true),
            _ => return Err(Error::msg(format!("the second process said \"{line}\""))),
        }
        Ok(false)
    }
}

/// The far side's process. Dropping this ends it and removes its files.
pub(crate) struct SecondProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    introduction: Introduction,
}

impl SecondProcess {
    /// Starts the far side, and waits until it has introduced itself; gives also what it writes to its standard
    /// error, line by line. Not for tasks: it waits on this thread.
    pub(crate) fn start(
        near: &PeerKey,
        port: Option<&str>,
    ) -> Result<(Self, tokio::sync::mpsc::UnboundedReceiver<String>)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(FAR_SIDE)
            .arg(near.to_string())
            .args(port)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a second process")?;
        let stdin = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut this = Self {
            child,
            stdin,
            introduction: Introduction::default(),
        };

        let (said, mut errors) = tokio::sync::mpsc::unbounded_channel();
        each_line(err, move |line| said.send(line).is_ok());
        let (say, lines) = mpsc::channel();
        each_line(out, move |line| say.send(line).is_ok());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if this.introduction.take(&line)? => return Ok((this, errors)),
                Ok(_) => {}
                Err(_) => {
                    drop(this);
                    let mut why = String::from("the second process did not come up");
                    while let Some(line) = errors.blocking_recv() {
                        why = format!("{why}\n{line}");
                    }
                    return Err(Error::msg(why));
                }
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) const fn introduction(&self) -> &Introduction {
        &self.introduction
    }
}

impl Drop for SecondProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // It ended by itself as a rule, and tidied up behind it. Whatever went wrong there, nothing is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.introduction.directory.is_absolute() {
            let _ = std::fs::remove_dir_all(&self.introduction.directory);
        }
    }
}

/// Hands each line to `take`, on a thread of its own, until the end or until `take` has heard enough. Reads on
/// to the end even so: whoever writes must not be held up.
fn each_line(from: Option<impl io::Read + Send + 'static>, take: impl Fn(String) -> bool + Send + 'static) {
    let Some(from) = from else { return };
    thread::spawn(move || {
        let mut wanted = true;
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            wanted = wanted && take(line);
        }
    });
}
