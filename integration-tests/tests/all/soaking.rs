//! The soak program, for a few seconds: it finds that it has lost nothing and kept nothing.

use std::process::Command;

#[test]
fn a_short_soak_loses_nothing_and_leaves_nothing() {
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--seconds", "4", "--rate", "100000", "--between-cuts", "400"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&soak.stdout);
    assert!(
        soak.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&soak.stderr)
    );
    for promise in ["each was executed once", "all tables are empty"] {
        assert!(said.contains(promise), "{said}");
    }
}
