//! `farref shell`: to look around, and to try things.
//!
//! [`parse`] reads a line, [`session`] does what it says, [`complete`] helps to type it.

mod complete;
mod parse;
mod session;

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use farref::Connection;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use self::complete::Assistant;
use self::session::{HELP, Session, Style, Then, Trouble};
use crate::context::{Global, name_of};
use crate::failure::{Code, Failure, Outcome, code_of};
use crate::interrupts::Interrupts;
use crate::output::{DIM, RED, paint};

/// Explore what a peer shows: call methods, keep results, read documentation.
///
/// Names are completed by Tab, from the far side. Lines may also come by a pipe: then the first that fails ends it.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  farref shell tcp://rig7:7000
  farref shell unix:/run/bench
  farref shell rpyc://labpc                            an interpreter of Python
  echo 'system.facts().host_name' | farref shell tcp://rig7:7000
  farref shell tcp://rig7:7000 -c 'system.usage()' --json | jq .load

In the shell:
{HELP}"))]
pub(crate) struct Shell {
    /// Where to dial
    address: String,
    /// Run this line instead of asking for some; may be given several times
    #[arg(short, long = "command", value_name = "LINE")]
    commands: Vec<String>,
}

/// Lines that are remembered.
const HISTORY: usize = 10_000;

impl Shell {
    pub(crate) fn run(&self, runtime: &Runtime, global: &Global) -> Outcome {
        let (connection, root, dialect) = runtime.block_on(global.root(&self.address))?;
        connection.call_timeout(global.limit());
        let is_interactive = self.commands.is_empty() && std::io::stdin().is_terminal();
        let style = Style {
            json: global.json,
            colours: global.colours(),
            lines: None,
        };
        let session = Session::new(root, style, dialect);
        let ended = if is_interactive {
            self.converse(runtime, global, &connection, session)
        } else {
            self.follow(runtime, session)
        };
        runtime.block_on(connection.close());
        ended
    }

    /// Lines from a pipe, or from the command line.
    fn follow(&self, runtime: &Runtime, mut session: Session) -> Outcome {
        if !self.commands.is_empty() {
            for (index, line) in self.commands.iter().enumerate() {
                if follow_one(runtime, &mut session, line, index)? == Then::Quit {
                    break;
                }
            }
            return Ok(());
        }
        for (index, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| Failure::io("cannot read the lines", &error))?;
            if follow_one(runtime, &mut session, &line, index)? == Then::Quit {
                break;
            }
        }
        Ok(())
    }

    /// Lines that are typed.
    fn converse(
        &self,
        runtime: &Runtime,
        global: &Global,
        connection: &Connection,
        mut session: Session,
    ) -> Outcome {
        let prompt = format!("{}> ", name_of(&connection.peer()));
        session.set_lines(height());
        let colours = global.colours();
        let is_python = session.is_python();
        let session = Arc::new(Mutex::new(session));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(cannot_edit)?
            .history_ignore_space(true)
            .build();
        let mut editor = Editor::<Assistant, FileHistory>::with_config(config).map_err(cannot_edit)?;
        let assistant = Assistant::new(Arc::clone(&session), runtime.handle().clone(), colours, is_python);
        editor.set_helper(Some(assistant));
        let history = history();
        if let Some(history) = &history {
            // There is none the first time.
            let _ = editor.load_history(history);
        }
        // While a call is under way; at the prompt it is a key like others.
        let mut interrupts = {
            let _in_runtime = runtime.enter();
            Interrupts::listen()?
        };
        let mut stdout = std::io::stdout();
        if !global.quiet {
            let text = format!(
                "Connected to {}.\n`help` shows what can be typed, Tab completes names.",
                name_of(&connection.peer())
            );
            writeln!(stdout, "{}", paint(colours, DIM, &text))?;
        }
        let outcome = loop {
            let line = match editor.readline(&prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break Ok(()),
                Err(error) => break Err(cannot_edit(error)),
            };
            let _ = editor.add_history_entry(line.as_str());
            let done = runtime.block_on(async {
                let mut session = session.lock().await;
                session.set_lines(height());
                let mut say = |text: &str| {
                    // Who closed the terminal is told by the next line that is read.
                    let _ = writeln!(std::io::stdout(), "{text}");
                };
                tokio::select! {
                    done = session.run(&line, &mut say) => Some(done),
                    // Gives up the call that is under way, and nothing else.
                    () = interrupts.next() => None,
                }
            });
            if let Some(assistant) = editor.helper() {
                assistant.forget();
            }
            match done {
                Some(Ok(Then::Go)) => {}
                Some(Ok(Then::Quit)) => break Ok(()),
                Some(Err(trouble)) => {
                    if let Some(traceback) = trouble.traceback() {
                        writeln!(stdout, "{}", paint(colours, DIM, &traceback))?;
                    }
                    writeln!(stdout, "{}", paint(colours, RED, &trouble.to_string()))?;
                    if connection.is_closed() {
                        break Err(Failure::new(Code::Connection, "the connection is over")
                            .hint(format_args!("farref shell {}", self.address)));
                    }
                }
                None => writeln!(stdout, "{}", paint(colours, DIM, "given up"))?,
            }
        };
        if let Some(history) = &history {
            // What was typed is lost then, and nothing else.
            let _ = editor.save_history(history);
        }
        outcome
    }
}

fn follow_one(runtime: &Runtime, session: &mut Session, line: &str, index: usize) -> Outcome<Then> {
    let mut written = Ok(());
    let done = {
        let mut say = |text: &str| {
            let mut stdout = std::io::stdout();
            if written.is_ok() {
                written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
            }
        };
        runtime.block_on(session.run(line, &mut say))
    };
    written?;
    done.map_err(|trouble| {
        let code = match &trouble {
            Trouble::Syntax(_) => Code::Usage,
            Trouble::Call(error) => code_of(error),
            Trouble::Sense(_) => Code::Remote,
        };
        Failure::new(code, format_args!("line {}: {trouble}", index + 1))
    })
}

fn cannot_edit(error: ReadlineError) -> Failure {
    Failure::new(Code::Remote, format_args!("cannot read what is typed: {error}"))
}

/// Lines of the terminal that a result may fill.
fn height() -> Option<usize> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        Some(usize::from(size.ws_row).saturating_sub(2)).filter(|rows| *rows > 4)
    }
    #[cfg(not(unix))]
    None
}

/// Where lines are remembered.
fn history() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let directory = set("FARREF_HOME")
        .or_else(|| set("XDG_STATE_HOME").map(|home| home.join("farref")))
        .or_else(|| set("HOME").map(|home| home.join(".local/state/farref")))?;
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("shell_history"))
}
