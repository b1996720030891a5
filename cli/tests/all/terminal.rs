//! What is typed on a terminal: the shell, and commands that want one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::kit::{World, command};
use crate::machine::Machine;

/// The program on a terminal of 80 by 24, and what it has shown.
struct Terminal {
    child: Child,
    screen: File,
    shown: String,
}

impl Terminal {
    fn run(mut command: std::process::Command) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap();
        let open = || -> OwnedFd {
            use rustix::fs::{Mode, OFlags, open};
            open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap()
        };
        let size = |rows, cols| Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let side = open();
        tcsetwinsize(&side, size(24, 80)).unwrap();
        let child = command
            .env("TERM", "xterm")
            .stdin(Stdio::from(side))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .unwrap();
        // Only the program holds its side now: it ends with it.
        drop(command);
        Self {
            child,
            screen: main.into(),
            shown: String::new(),
        }
    }

    /// Reads until `text` is shown behind what was read before; what there was.
    fn see(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let mut piece = [0; 4096];
            let count = self.screen.read(&mut piece).unwrap_or(0);
            assert!(count > 0, "the end came before `{text}`: {:?}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    fn code(mut self) -> Option<i32> {
        // What is still written is taken, so that nobody waits for that.
        let mut rest = Vec::new();
        let _ = self.screen.read_to_end(&mut rest);
        self.child.wait().unwrap().code()
    }
}

/// The end of the prompt: keys are read from here on.
const PROMPT: &str = "> \u{1b}[0m";
/// A line was typed, and the terminal is as programs find it.
const ENTERED: &str = "\u{1b}[?2004l";

fn shell(world: &World) -> Terminal {
    let mut command = command(world.home.path());
    command.args(["shell", &world.address]);
    Terminal::run(command)
}

#[test]
fn names_are_completed_from_the_far_side() {
    let world = World::new();
    let mut terminal = shell(&world);
    terminal.see("Connected to 127.0.0.1");
    terminal.see(PROMPT);
    terminal.type_in("vol\t");
    terminal.see("voltage(");
    terminal.type_in("3)\r");
    terminal.see("\n3.0");
    terminal.see(PROMPT);
    terminal.type_in("x = part(\"lamp\")\r");
    terminal.see(ENTERED);
    terminal.see(PROMPT);
    terminal.type_in("x.ti\t\r");
    terminal.see("\n\"lamp\"");
    terminal.see(PROMPT);
    terminal.type_in("\u{4}");
    assert_eq!(terminal.code(), Some(0));
    // And what was typed is remembered.
    let mut terminal = shell(&world);
    terminal.see(PROMPT);
    terminal.type_in("\u{1b}[A");
    terminal.see("x.title");
    terminal.type_in("\r");
    terminal.see("no property `x`");
    terminal.see(PROMPT);
    terminal.type_in("quit\r");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn ctrl_c_gives_up_a_call_and_not_the_shell() {
    let world = World::new();
    let mut terminal = shell(&world);
    terminal.see(PROMPT);
    terminal.type_in("hang()\r");
    terminal.see(ENTERED);
    kill(&terminal.child);
    terminal.see("given up");
    for (typed, shown) in [
        ("voltage(2)\r", "\n2.0"),
        ("voltag(2)\r", "has no method"),
        // A bracket that is open goes on in the next line.
        ("voltage(4,\rgain = 2)\r", "\n8.0"),
    ] {
        terminal.see(PROMPT);
        terminal.type_in(typed);
        terminal.see(shown);
    }
    terminal.see(PROMPT);
    terminal.type_in("quit\r");
    assert_eq!(terminal.code(), Some(0));
}

fn kill(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn a_command_on_a_terminal_has_its_size_and_its_keys() {
    let machine = Machine::serving(&["--processes"]);
    let mut command = command(&machine.client());
    command.args([
        "exec",
        "-t",
        &machine.address,
        "-s",
        "stty size; read line; echo got $line; sleep 60",
    ]);
    let mut terminal = Terminal::run(command);
    terminal.see("24 80");
    terminal.type_in("some words\r");
    terminal.see("got some words");
    // Over there, it is a key that ends what runs.
    terminal.type_in("\u{3}");
    assert_eq!(terminal.code(), Some(130));
}

#[test]
fn an_escape_ends_a_command_that_nothing_else_ends() {
    let machine = Machine::serving(&["--processes"]);
    let mut command = command(&machine.client());
    command.args([
        "exec",
        "-t",
        &machine.address,
        "-s",
        "trap '' INT TERM HUP; stty raw -echo; echo ready; sleep 60",
    ]);
    let mut terminal = Terminal::run(command);
    terminal.see("ready");
    terminal.type_in("\r~.");
    assert_eq!(terminal.code(), Some(255));
}
