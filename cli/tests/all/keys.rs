//! Keys from the command line: made, shown, believed, let in, and taken back.

use crate::kit::{World, run};

#[test]
fn a_key_is_made_once_and_shown() {
    let home = tempfile::tempdir().unwrap();
    let made = run(home.path(), &["keygen", "--json"], "");
    let shown = run(home.path(), &["fingerprint", "--json"], "");
    assert_eq!(made.ok(), shown.ok());
    let again = run(home.path(), &["keygen"], "");
    assert!(again.failed(2).contains("hint: "), "{again:?}");
    let public = home.path().join("identity.pub");
    let of_file = run(home.path(), &["fingerprint", public.to_str().unwrap()], "");
    let fingerprint = of_file
        .ok()
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap();
    assert!(shown.out.contains(fingerprint), "{shown:?} {fingerprint}");
    let other = home.path().join("device.key");
    let made = run(
        home.path(),
        &["keygen", "--identity", other.to_str().unwrap()],
        "",
    );
    assert!(made.ok().contains("device.key"), "{made:?}");
    assert!(home.path().join("device.key.pub").exists());
    let missing = run(
        home.path(),
        &["fingerprint", "--identity", "/nonexistent/key"],
        "",
    );
    missing.failed(2);
}

#[test]
fn who_is_not_let_in_learns_the_command_that_mends_it_and_it_does() {
    let world = World::new();
    let stranger = tempfile::tempdir().unwrap();
    let ping = ["ping", "-c", "1", &world.address];
    let refused = run(stranger.path(), &ping, "");
    assert!(refused.failed(4).contains("does not let in"), "{refused:?}");
    let hint = refused
        .err
        .lines()
        .find(|line| line.starts_with("hint: "))
        .unwrap();
    let (_, mends) = hint.split_once("farref ").unwrap();
    let words: Vec<_> = mends.split_whitespace().collect();
    run(&world.home.path().join("server"), &words, "").ok();
    run(stranger.path(), &ping, "").ok();
    // And taken back.
    run(
        &world.home.path().join("server"),
        &["peers", "remove", words[1]],
        "",
    )
    .ok();
    run(stranger.path(), &ping, "").failed(4);
}

#[test]
fn an_unknown_peer_is_refused_with_the_command_that_makes_it_known() {
    let world = World::new();
    let (bare, _) = world.address.split_once('#').unwrap();
    let ping = ["ping", "-c", "1", bare];
    let refused = world.run(&ping);
    assert!(refused.failed(4).contains("is not known"), "{refused:?}");
    let hint = refused
        .err
        .lines()
        .find(|line| line.starts_with("hint: "))
        .unwrap();
    let (_, mends) = hint.rsplit_once("farref ").unwrap();
    let words: Vec<_> = mends.split_whitespace().collect();
    assert_eq!(words[..2], ["peers", "add"]);
    world.run(&words).ok();
    world.run(&ping).ok();
    assert!(world.run(&["peers"]).ok().contains(bare));
    // Another key there is not believed, whatever the command line says.
    world.run(&["peers", "forget", bare]).ok();
    let other = tempfile::tempdir().unwrap();
    run(other.path(), &["keygen"], "").ok();
    let key = std::fs::read_to_string(other.path().join("identity.pub")).unwrap();
    world.run(&["peers", "add", bare, key.trim()]).ok();
    for policy in ["strict", "accept-new", "ask"] {
        let refused = world.run(&["ping", "-c", "1", bare, "--trust", policy]);
        assert!(refused.failed(4).contains("has changed"), "{refused:?}");
        assert!(
            refused.err.contains(&format!("farref peers forget {bare}")),
            "{refused:?}"
        );
    }
    world.run(&["peers", "forget", bare]).ok();
    world
        .run(&["ping", "-c", "1", bare, "--trust", "accept-new"])
        .ok();
}

#[test]
fn rights_are_written_as_they_were_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    run(other.path(), &["keygen"], "").ok();
    let public = other.path().join("identity.pub");
    let key = std::fs::read_to_string(&public).unwrap();
    let key = key.trim();
    let authorize = [
        "authorize",
        public.to_str().unwrap(),
        "--services",
        "files,system",
        "--read-only",
        "--from",
        "10.0.0.0/8",
        "--expires",
        "2030-01-31",
        "--comment",
        "ann",
    ];
    let ran = run(home.path(), &authorize, "");
    assert!(
        ran.ok()
            .contains("files, system, read-only, from 10.0.0.0/8, until 2030-01-31"),
        "{ran:?}"
    );
    let text = std::fs::read_to_string(home.path().join("authorized_peers")).unwrap();
    let line =
        format!("services=\"files,system\",from=\"10.0.0.0/8\",expires=2030-01-31,readonly {key} ann\n");
    assert_eq!(text, line);
    let again = run(home.path(), &["authorize", key], "");
    assert!(again.failed(2).contains("farref peers remove"), "{again:?}");
    let listed = run(home.path(), &["peers", "list", "--json"], "");
    assert!(listed.ok().contains("\"comment\":\"ann\""), "{listed:?}");
    run(home.path(), &["peers", "remove", "ann"], "").ok();
    for wrong in [
        &["--expires", "2030-02-30"][..],
        &["--expires", "12"],
        &["--from", "10.0.0.0/8\",readonly,services=\"a"],
        &["--services", "a\" b"],
        &["--comment", "a\nb"],
    ] {
        let all = [&["authorize", key], wrong].concat();
        run(home.path(), &all, "").failed(2);
    }
    assert!(
        !std::fs::read_to_string(home.path().join("authorized_peers"))
            .unwrap()
            .contains("ed25519")
    );
    let soon = run(home.path(), &["authorize", key, "--expires", "30d"], "");
    assert!(soon.ok().contains("until "), "{soon:?}");
}

#[test]
fn two_sides_are_paired_by_people_who_compare_both_keys() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::Stdio;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let spawn = |home: &std::path::Path, arguments: &[&str]| {
        crate::kit::command(home)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let listen = [
        "pair",
        "--listen",
        "tcp://127.0.0.1:0",
        "--services",
        "files",
        "--comment",
        "ann",
    ];
    for answer in ["no\n", "yes\n"] {
        let mut listening = spawn(there.path(), &listen);
        let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        let mut dialling = spawn(here.path(), &["pair", &address]);
        // Both show the same before anybody answers.
        let shown = |from: &mut dyn Read| {
            let mut text = String::new();
            let mut byte = [0];
            while !text.ends_with("(yes/no)? ") {
                from.read_exact(&mut byte).unwrap();
                text.push(byte[0].into());
            }
            text.lines()
                .filter(|line| line.starts_with("  "))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (at_dialler, at_listener) = (
            shown(dialling.stderr.as_mut().unwrap()),
            shown(listening.stderr.as_mut().unwrap()),
        );
        assert_eq!((at_dialler.len(), &at_dialler), (2, &at_listener));
        dialling
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        listening
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let codes = [dialling.wait().unwrap().code(), listening.wait().unwrap().code()];
        if answer == "no\n" {
            assert_eq!(codes, [Some(4); 2]);
            assert!(
                !here.path().join("known_peers").exists() && !there.path().join("authorized_peers").exists()
            );
        } else {
            assert_eq!(codes, [Some(0); 2]);
            assert!(run(here.path(), &["peers", "list"], "").ok().contains(&address));
            assert!(run(there.path(), &["peers", "list"], "").ok().contains("files"));
        }
    }
    run(here.path(), &["pair", "unix:/nonexistent"], "").failed(2);
}
