//! The program `farref`: remote objects, files and processes from the command line.
//!
//! One file per command; [`context`] has what they share, [`failure`] how they end, [`output`] what they print,
//! [`interrupts`] Ctrl-C.

mod context;
mod failure;
mod interrupts;
mod output;
mod pair;

#[cfg(unix)]
mod agent;
mod authorize;
mod call;
mod cat;
mod completions;
mod cp;
mod exec;
mod far;
mod fingerprint;
mod forward;
mod keygen;
mod ls;
mod peers;
mod ping;
mod python;
mod results;
mod serve;
mod shell;
mod speed;
mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use farref::logs::LogRing;

use crate::context::Global;
use crate::failure::{CODES, Code, Failure, Outcome};

const ADDRESSES: &str = "\
Addresses:
  tcp://HOST:PORT       encrypted; HOST:PORT#KEY names the key that must answer
  quic://HOST:PORT      encrypted, over UDP
  ssh://USER@HOST       by ssh; farref is brought there if it is missing
  unix:/run/farref      a socket of this machine
  serial:/dev/ttyUSB0?baud=921600
  exec:PROGRAM?arg=..   a child process
  plain+tcp://..        not encrypted, for whoever wants to read along
  rpyc://HOST:PORT      Python that serves RPyC; also rpyc+ssl://, rpyc+unix: ..
  NAME                  as `hosts` beside the keys says: NAME ADDRESS ..

Examples:
  farref keygen                                        who this machine is
  farref serve tcp://0.0.0.0:7000 --files /srv:ro      show files
  farref ls tcp://rig7:7000::/                         list them from elsewhere
  farref shell tcp://rig7:7000                         explore what is there
  farref exec tcp://rig7:7000 -- uname -a              run a command there
  farref exec ssh://rig7 -- uname -a                   where farref is not yet
";

/// Remote objects, files and processes, over any wire.
#[derive(Debug, Parser)]
#[command(name = "farref", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "`farref --help` shows addresses, examples and exit codes.")]
#[command(after_long_help = format!("{ADDRESSES}\n{CODES}"), subcommand_value_name = "COMMAND")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Shell(shell::Shell),
    Call(call::Call),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Cp(cp::Cp),
    Exec(exec::Exec),
    Forward(forward::Forward),
    Top(top::Top),
    Ping(ping::Ping),
    Speed(speed::SpeedOf),
    Keygen(keygen::Keygen),
    Fingerprint(fingerprint::FingerprintOf),
    Peers(peers::Peers),
    Authorize(authorize::Authorize),
    Pair(pair::Pair),
    Completions(completions::Completions),
    #[cfg(unix)]
    #[command(hide = true)]
    Agent(agent::Agent),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_quiet() {
                // There is nobody left to tell if that fails.
                let text = output::harmless(&failure.to_string());
                let _ = writeln!(std::io::stderr(), "farref: {text}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Runs the command; the code to end with.
fn run(Cli { command, global }: &Cli) -> Outcome<u8> {
    let ring = serve::ring();
    // A server has something to tell, and nobody else to tell it to.
    let (least, kept) = match command {
        Command::Serve(_) => (tracing::Level::WARN, Some(ring.clone())),
        #[cfg(unix)]
        Command::Agent(_) => (tracing::Level::ERROR, Some(ring.clone())),
        _ => (tracing::Level::ERROR, None),
    };
    global.start_log(least, kept);
    match command {
        Command::Keygen(command) => command.run(global)?,
        Command::Fingerprint(command) => command.run(global)?,
        Command::Peers(command) => command.run(global)?,
        Command::Authorize(command) => command.run(global)?,
        Command::Completions(command) => command.run::<Cli>()?,
        connected => return attend(connected, global, ring),
    }
    Ok(Code::Done as u8)
}

/// Runs a command that talks to a peer.
fn attend(command: &Command, global: &Global, ring: LogRing) -> Outcome<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))?;
    if let Command::Shell(command) = command {
        let outcome = command.run(&runtime, global);
        runtime.shutdown_background();
        return outcome.map(|()| Code::Done as u8);
    }
    let outcome = runtime.block_on(async {
        match command {
            Command::Call(command) => command.run(global).await?,
            Command::Serve(command) => command.run(global, &ring).await?,
            #[cfg(unix)]
            Command::Agent(command) => command.run(&ring).await?,
            Command::Ls(command) => command.run(global).await?,
            Command::Cat(command) => command.run(global).await?,
            Command::Cp(command) => command.run(global).await?,
            Command::Top(command) => command.run(global).await?,
            Command::Pair(command) => command.run(global).await?,
            Command::Forward(command) => command.run(global).await?,
            Command::Exec(command) => return command.run(global).await,
            Command::Ping(command) => command.run(global).await?,
            Command::Speed(command) => command.run(global).await?,
            _ => {}
        }
        Ok(Code::Done as u8)
    });
    // A thread may still wait for standard input: it is not waited for.
    runtime.shutdown_background();
    outcome
}
