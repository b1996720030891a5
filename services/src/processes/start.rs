//! From a [`Command`] to a child of this process. Blocks.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child as StdChild, Command as StdCommand, Stdio};
use std::sync::{Mutex, PoisonError};

use super::{Command, Output, What};

/// A child that was started, and our ends of what it reads and writes.
pub(super) struct Parts {
    pub(super) child: StdChild,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// To change its size.
    pub(super) terminal: Option<OwnedFd>,
}

/// Starts what `command` says. It reads something if `has_input`.
pub(super) fn start(command: &Command, has_input: bool) -> io::Result<Parts> {
    check(command)?;
    let mut std = to_std(command);
    let started = match &command.pty {
        Some(pty) => {
            std.env("TERM", &pty.term);
            on_terminal(std, pty.rows, pty.cols)
        }
        None => on_pipes(std, command, has_input),
    };
    started.map_err(|error| explain(command, error))
}

fn check(command: &Command) -> io::Result<()> {
    let wrong = |text: &'static str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if command.stdout == Output::Merged {
        return wrong("only standard error can go with the standard output");
    }
    if matches!(&command.what, What::Program(program, _) if program.is_empty()) {
        return wrong("a command without a program");
    }
    if command
        .env
        .iter()
        .any(|(name, _)| name.is_empty() || name.contains('='))
    {
        return wrong("the name of a variable is empty, or has `=` in it");
    }
    Ok(())
}

fn to_std(command: &Command) -> StdCommand {
    let mut std = match &command.what {
        What::Program(program, args) => {
            let mut std = StdCommand::new(program);
            std.args(args);
            std
        }
        What::Shell(line) => {
            let mut std = StdCommand::new("/bin/sh");
            std.arg("-c").arg(line);
            std
        }
        What::Login => return login(command),
    };
    if command.clear_env {
        std.env_clear();
    }
    change_environment(&mut std, command);
    if let Some(directory) = &command.cwd {
        std.current_dir(directory);
    }
    std
}

/// The login shell of the account that this process runs as, in its home.
fn login(command: &Command) -> StdCommand {
    let account = Account::own();
    let mut std = StdCommand::new(&account.shell);
    let name = account.shell.file_name().unwrap_or(account.shell.as_os_str());
    let mut zeroth = OsString::from("-");
    zeroth.push(name);
    std.arg0(zeroth);
    if command.clear_env {
        std.env_clear();
    }
    std.env("SHELL", &account.shell).env("HOME", &account.home);
    if let Some(name) = &account.name {
        std.env("USER", name).env("LOGNAME", name);
    }
    change_environment(&mut std, command);
    match &command.cwd {
        Some(directory) => std.current_dir(directory),
        None if account.home.is_dir() => std.current_dir(&account.home),
        None => std.current_dir("/"),
    };
    std
}

/// The variables by which this process was started, if it was: nobody else's business.
const OF_LAUNCH: [&str; 5] = [
    "FARREF_DEPLOYED",
    "FARREF_KEEPER",
    "FARREF_PERSIST",
    "FARREF_TOKEN",
    "FARREF_VERIFY",
];

fn change_environment(std: &mut StdCommand, command: &Command) {
    for name in OF_LAUNCH {
        std.env_remove(name);
    }
    for (name, value) in &command.env {
        match value {
            Some(value) => std.env(name, value),
            None => std.env_remove(name),
        };
    }
}

/// What the list of accounts says of the one that this process runs as.
struct Account {
    name: Option<String>,
    home: PathBuf,
    shell: PathBuf,
}

impl Account {
    fn own() -> Self {
        let uid = rustix::process::getuid().as_raw().to_string();
        let listed = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut fields = listed
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&uid.as_str()))
            .unwrap_or_default()
            .into_iter();
        // Accounts that are listed elsewhere are known by the environment.
        let or_variable = |field: Option<&str>, name: &str| {
            let field = field.filter(|field| !field.is_empty()).map(str::to_owned);
            field.or_else(|| std::env::var(name).ok())
        };
        let name = or_variable(fields.next(), "USER");
        let home = or_variable(fields.nth(4), "HOME");
        let shell = or_variable(fields.next(), "SHELL");
        Self {
            name,
            home: home.unwrap_or_else(|| "/".to_owned()).into(),
            shell: shell.unwrap_or_else(|| "/bin/sh".to_owned()).into(),
        }
    }
}

fn on_pipes(mut std: StdCommand, command: &Command, has_input: bool) -> io::Result<Parts> {
    let piped = |is_piped: bool| if is_piped { Stdio::piped() } else { Stdio::null() };
    std.stdin(piped(has_input));
    let merged = (command.stderr == Output::Merged && command.stdout == Output::Pipe)
        .then(io::pipe)
        .transpose()?;
    let ours = if let Some((ours, theirs)) = merged {
        std.stdout(theirs.try_clone()?).stderr(theirs);
        Some(ours)
    } else {
        std.stdout(piped(command.stdout == Output::Pipe));
        std.stderr(piped(command.stderr == Output::Pipe));
        None
    };
    std.process_group(0);
    let mut child = {
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        std.spawn()?
    };
    let stdout = child.stdout.take().map(OwnedFd::from);
    Ok(Parts {
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: ours.map(OwnedFd::from).or(stdout),
        stderr: child.stderr.take().map(OwnedFd::from),
        terminal: None,
        child,
    })
}

fn on_terminal(std: StdCommand, rows: u16, cols: u16) -> io::Result<Parts> {
    let to_io = |error| match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
    };
    let (terminal, child) = {
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = pty_process::blocking::open().map_err(to_io)?;
        ours.resize(pty_process::Size::new(rows, cols)).map_err(to_io)?;
        let child = pty_process::blocking::Command::from(std)
            .spawn(theirs)
            .map_err(to_io)?;
        (OwnedFd::from(ours), child)
    };
    let copies = || -> io::Result<_> { Ok((terminal.try_clone()?, terminal.try_clone()?)) };
    match copies() {
        Ok((stdin, stdout)) => Ok(Parts {
            child,
            // Also where it is given nothing to read: to be told that there is no more.
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: None,
            terminal: Some(terminal),
        }),
        Err(error) => {
            let mut child = child;
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// A terminal is told not to be inherited only after it was opened: a child that is started in between would keep it open.
static STARTING: Mutex<()> = Mutex::new(());

/// Names what was not found.
fn explain(command: &Command, error: io::Error) -> io::Error {
    let what = match &command.what {
        What::Program(program, _) => program,
        What::Shell(_) => "/bin/sh",
        What::Login => "the login shell",
    };
    let text = match (&command.cwd, error.kind()) {
        (Some(directory), _) if !std::path::Path::new(directory).is_dir() => {
            format!("cannot start `{what}` in `{directory}`, which is no directory: {error}")
        }
        _ => format!("cannot start `{what}`: {error}"),
    };
    io::Error::new(error.kind(), text)
}
