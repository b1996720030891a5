//! The program as people and scripts use it: run against servers, its output and exit codes read.

mod kit;

mod calls;
mod help;
mod keys;
mod shell;
