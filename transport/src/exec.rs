//! Programs as peers: `exec:` starts one and talks to its standard input and output.
//!
//! Knows what the address says about the program. The life of the child is in [`process`](crate::process),
//! which also takes a command of your own.
//!
//! | option    | default   | meaning                                                                     |
//! |-----------|-----------|-----------------------------------------------------------------------------|
//! | `arg=`    | none      | an argument; repeated, in order. There is no shell in between               |
//! | `env=`    | inherited | `NAME=value` for the child on top of ours; repeated. `NAME` alone: without  |
//! | `cwd=`    | inherited | where the child works                                                       |
//! | `kill=`   | 5s        | how long it may take to end when we are done, before it is told by SIGTERM  |
//! | `stderr=` | inherit   | where its standard error goes: `inherit`, `log` (line by line), `null`      |
//!
//! A program without a slash is looked for in `PATH`; a relative one starts from where we work, whatever
//! `cwd=` says.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier};
use crate::error::{Absence, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::process::{Process, Stderr};

/// The medium `exec`. It can be dialled only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec(());

impl Exec {
    /// Programs, as the system has them.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Exec {
    fn schemes(&self) -> &'static [&'static str] {
        &["exec"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let failed = |source| DialError::from_io(address, source);
            let carrier = process(address).map_err(failed)?.spawn().map_err(failed);
            carrier.map(|mut carrier| {
                carrier.info.remote = Some(address.clone());
                carrier.into()
            })
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            Err(ListenError::Unsupported {
                address: Box::new(address.clone()),
                absence: Absence::DialOnly,
            })
        })
    }
}

fn process(address: &Address) -> io::Result<Process> {
    let Target::Exec { program } = address.target() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of a program",
        ));
    };
    let mut command = if program.contains('/') {
        Command::new(std::path::absolute(Path::new(program))?)
    } else {
        Command::new(program)
    };
    let mut patience = None;
    let mut stderr = Stderr::Inherit;
    for (name, value) in address.options() {
        match (name, value) {
            ("arg", value) => drop(command.arg(value)),
            ("env", value) => set(&mut command, value)?,
            ("cwd", value) => drop(command.current_dir(value)),
            ("kill", _) => patience = address.duration("kill"),
            ("stderr", "log") => stderr = Stderr::Log,
            ("stderr", "null") => stderr = Stderr::Null,
            _ => {}
        }
    }
    let process = Process::new(command).stderr(stderr);
    Ok(match patience {
        Some(patience) => process.patience(patience),
        None => process,
    })
}

fn set(command: &mut Command, variable: &str) -> io::Result<()> {
    match variable.split_once('=') {
        Some(("", _)) => {
            let told = "a variable of `env=` needs a name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        Some((name, value)) => command.env(name, value),
        None => command.env_remove(variable),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::StreamCarrier;
    use crate::medium::Media;
    use crate::testing::{block_on, read_all, write_all};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    async fn dial(text: &str) -> Result<StreamCarrier, DialError> {
        let Carrier::Stream(carrier) = Media::standard().dial(&address(text)).await? else {
            panic!("a program has one stream")
        };
        Ok(carrier)
    }

    /// What a script says, by `exec:sh`.
    async fn said(script: &str, options: &str) -> String {
        let at = address("exec:sh?arg=-c").with_option("arg", script).unwrap();
        let mut carrier = dial(&format!("{at}{options}")).await.unwrap();
        String::from_utf8(read_all(&mut *carrier.rx).await.unwrap()).unwrap()
    }

    #[test]
    fn a_program_is_talked_to_by_its_standard_input_and_output() {
        block_on(async {
            let at = "exec:cat?arg=-u";
            let mut cat = dial(at).await.unwrap();
            assert_eq!(cat.info.medium, "exec");
            assert_eq!(cat.info.remote, Some(address(at)));
            assert!(cat.info.confidential && !cat.info.may_be_lost);
            write_all(&mut *cat.tx, b"hello").await.unwrap();
            std::future::poll_fn(|cx| cat.tx.poll_close(cx)).await.unwrap();
            assert_eq!(read_all(&mut *cat.rx).await.unwrap(), b"hello");
        });
    }

    #[test]
    fn the_options_say_how_it_is_run() {
        block_on(async {
            assert_eq!(said("pwd", "&cwd=/").await, "/\n");
            assert_eq!(
                said("echo $A,${HOME-none}", "&env=A=b=c&env=HOME").await,
                "b=c,none\n"
            );
            assert_eq!(
                said("for a; do echo \"$a\"; done", "&arg=x&arg=two%20words&arg=$HOME").await,
                "two words\n$HOME\n"
            );
        });
    }

    #[test]
    fn a_program_that_is_not_there_is_said_with_what_was_searched() {
        block_on(async {
            for (text, told) in [
                (
                    "exec:farref-no-such-program?env=PATH=/nowhere:/none",
                    "in /nowhere:/none",
                ),
                ("exec:/no/such/program", "no file `/no/such/program`"),
                ("exec:sh?cwd=/no/such/place", "working directory `/no/such/place`"),
            ] {
                let error = dial(text).await.unwrap_err();
                assert!(
                    matches!(error, DialError::Address { .. }) && !error.is_transient(),
                    "{error}"
                );
                let cause = error.source().unwrap().to_string();
                assert!(cause.contains(told), "{cause}");
            }
        });
    }

    #[test]
    fn a_file_that_cannot_be_run_is_said_to_be_that() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let run = |content: &str, mode: u32| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let at = format!("exec:{}", path.display());
            let error = loop {
                let error = block_on(dial(&at)).unwrap_err();
                // Another test has just forked, and its child has our file open until it is another program.
                if !error.source().unwrap().to_string().contains("busy") {
                    break error;
                }
            };
            (error.source().unwrap().to_string(), error)
        };
        let (cause, error) = run("#!/bin/sh\n", 0o644);
        assert!(
            matches!(error, DialError::NotPermitted { .. }),
            "{error}: {cause}"
        );
        let (cause, error) = run("#!/no/such/interpreter\n", 0o755);
        assert!(
            matches!(error, DialError::Address { .. }) && cause.contains("interpreter"),
            "{cause}"
        );
        let (cause, _) = run("no program", 0o755);
        assert!(cause.contains("no program of this machine"), "{cause}");
    }

    #[test]
    fn nobody_listens_by_starting_a_program() {
        block_on(async {
            let listened = Media::standard()
                .listen(&address("exec:cat"))
                .await
                .err()
                .unwrap();
            assert!(listened.to_string().contains("dialled only"), "{listened}");
        });
    }
}
