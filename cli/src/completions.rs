//! `farref completions`: for the shell that one types in.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Outcome;

/// Print what makes a shell complete the commands and options of farref.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref completions bash > ~/.local/share/bash-completion/completions/farref
  farref completions zsh > ~/.zfunc/_farref
  farref completions fish > ~/.config/fish/completions/farref.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run<C: CommandFactory>(&self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), "farref", &mut script);
        let mut stdout = std::io::stdout();
        stdout.write_all(&script)?;
        stdout.flush()?;
        Ok(())
    }
}
