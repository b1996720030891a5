//! A line that does the same in every login shell.

use crate::token::{self, Token};

/// A line that does the same in every login shell: `sh` gets the command and the token.
pub(super) fn wrapped(command: &str, token: &Token) -> String {
    let script = format!("{0}={1}; export {0}; {command}", token::VARIABLE, token.text());
    format!("exec sh -c {}", quoted(&script))
}

/// One word for every shell. Within single quotes fish takes `\` for an escape and tcsh looks up `!`, so
/// both stand outside of them, like the quote itself.
pub(super) fn quoted(text: &str) -> String {
    let mut word = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\\' | '!') {
            word.extend(["'\\", c.encode_utf8(&mut [0; 4]), "'"]);
        } else {
            word.push(c);
        }
    }
    word.push('\'');
    word
}

/// One word for `sh` alone.
pub(super) fn quoted_for_sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_quoted_line_is_the_same_in_every_shell() {
        let odd = "a'b\\c\\\\d!e$HOME`x`\"f\" *~#;&|<>(){}[]^%é\\'!!\\n";
        let script = format!("printf %s {}", quoted(odd));
        let mut shells = 0;
        for shell in ["sh", "bash", "dash", "zsh", "ksh", "fish", "tcsh"] {
            // By way of one shell more, as a command line of ssh goes.
            let line = format!("exec sh -c {}", quoted(&script));
            let Ok(said) = Command::new(shell).arg("-c").arg(&line).output() else {
                continue;
            };
            assert_eq!(String::from_utf8_lossy(&said.stdout), odd, "{shell}: {line}");
            shells += 1;
        }
        assert!(shells > 0);
    }
}
