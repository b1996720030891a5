//! The program as people and scripts use it: run against servers, its output and exit codes read.
#![cfg(test)]

#[path = "all/kit.rs"]
mod kit;

#[path = "all/calls.rs"]
mod calls;
#[path = "all/help.rs"]
mod help;
#[path = "all/keys.rs"]
mod keys;
#[cfg(unix)]
#[path = "all/machine.rs"]
mod machine;
#[cfg(unix)]
#[path = "all/python.rs"]
mod python;
#[path = "all/shell.rs"]
mod shell;
#[cfg(unix)]
#[path = "all/terminal.rs"]
mod terminal;
