//! Help that helps: every command shows how it is used.

use std::path::Path;

use crate::kit::run;

fn commands() -> Vec<String> {
    let help = run(Path::new("/nonexistent"), &["--help"], "");
    let listed = help
        .ok()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        // Longer descriptions go on below, further to the right.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect::<Vec<_>>();
    assert!(listed.len() > 5, "{}", help.out);
    listed
}

#[test]
fn the_help_of_every_command_has_an_example_of_it() {
    for command in commands() {
        let help = run(Path::new("/nonexistent"), &[&command, "--help"], "");
        let (_, examples) = help.ok().split_once("Examples:").unwrap_or_default();
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
        assert!(
            examples.contains(&format!("farref {command}")),
            "{command}: {}",
            help.out
        );
    }
}

#[test]
fn the_help_fits_a_terminal_and_tells_the_exit_codes() {
    let help = run(Path::new("/nonexistent"), &["--help"], "");
    assert!(help.ok().contains("Exit codes:"), "{}", help.out);
    let (_, written) = help.out.split_once("Addresses:").unwrap();
    for line in written.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for command in commands() {
        let help = run(Path::new("/nonexistent"), &[&command, "-h"], "");
        for line in help.ok().lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_2_and_names_what_may_have_been_meant() {
    let ran = run(Path::new("/nonexistent"), &["pin", "tcp://a:1"], "");
    assert!(ran.failed(2).contains("ping"), "{ran:?}");
    let ran = run(Path::new("/nonexistent"), &["ping", "a:1"], "");
    assert!(
        ran.failed(2).starts_with("farref: `a:1` is no address: "),
        "{ran:?}"
    );
    let ran = run(Path::new("/nonexistent"), &["serve", "ssh://a", "--system"], "");
    assert!(ran.failed(2).contains("dialled only"), "{ran:?}");
}

#[test]
fn what_can_be_typed_in_the_shell_is_a_column() {
    let help = run(Path::new("/nonexistent"), &["shell", "--help"], "");
    let (_, typed) = help.ok().split_once("In the shell:\n").unwrap_or_default();
    assert!(typed.lines().count() > 5, "{}", help.out);
    for line in typed.lines() {
        assert!(line.starts_with("  "), "{line}");
    }
}

#[test]
fn who_forwards_nothing_is_told_all_ways_to() {
    let ran = run(Path::new("/nonexistent"), &["forward", "tcp://a:1"], "");
    for way in ["--local", "--remote", "--socks"] {
        assert!(ran.failed(2).contains(way), "{ran:?}");
    }
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(Path::new("/nonexistent"), &["completions", shell], "");
        assert!(ran.ok().contains("fingerprint"), "{shell}");
    }
}
