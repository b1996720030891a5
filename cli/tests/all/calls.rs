//! `ping`, `call` and `speed`: what they print, and how they end.

use crate::kit::{World, run};

#[test]
fn a_ping_counts_and_sums_up() {
    let world = World::new();
    let ran = world.run(&["ping", "-c", "3", "-i", "1ms", "@"]);
    assert!(ran.ok().contains("3 asked, 3 answered"), "{ran:?}");
    let json = world.run(&["ping", "-c", "3", "-i", "1ms", "--json", "@"]);
    assert_eq!(
        json.ok()
            .lines()
            .filter(|line| line.contains("\"rtt_us\":"))
            .count(),
        3
    );
    assert_eq!(world.run(&["ping", "-q", "-c", "1", "@"]).ok(), "");
}

#[test]
fn nobody_there_is_3_and_too_slow_is_5() {
    let home = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = run(home.path(), &["ping", &format!("plain+tcp://{free}")], "");
    assert!(refused.failed(3).contains("hint: "), "{refused:?}");
    assert_eq!(refused.err.matches(&free.to_string()).count(), 1, "{refused:?}");
    let world = World::new();
    let slow = world.run(&["call", "@", "hang", "--timeout", "50ms"]);
    slow.failed(5);
    // Somebody who takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("plain+tcp://{}", silent.local_addr().unwrap());
    let silent = run(home.path(), &["ping", &address, "--timeout", "50ms"], "");
    assert!(matches!(silent.code, 3 | 5), "{silent:?}");
}

#[test]
fn a_call_takes_literals_and_prints_what_comes_back() {
    let world = World::new();
    let call = |arguments: &[&str]| {
        let all = [&["call", "@"], arguments].concat();
        world.run(&all).ok().to_owned()
    };
    assert_eq!(call(&["voltage", "3"]), "3.0\n");
    assert_eq!(call(&["voltage", "3", "gain=2.5"]), "7.5\n");
    assert_eq!(call(&["title"]), "rig\n");
    assert_eq!(call(&["root.title"]), "rig\n");
    assert_eq!(call(&["echo", "-1"]), "-1\n");
    assert_eq!(
        call(&["echo", "{k: [1, \"a\"]}", "--json"]),
        "{\"k\":[1,\"a\"]}\n"
    );
    assert_eq!(call(&["echo", "null"]), "");
    assert_eq!(call(&["echo", "some word"]), "some word\n");
    assert_eq!(call(&["echo", "b\"\\xff\""]).len(), "\u{fffd}".len());
    assert_eq!(call(&["table"]), "NAME    VOLTS\nfirst     1.5\nsecond  12.25\n");
    assert_eq!(call(&["part", "lamp"]), "<test.Bench>\n");
    assert!(call(&[]).contains("fn voltage(channel: u8, gain: Option<f64>) -> Result<f64>"));
}

#[test]
fn streams_are_printed_as_they_come() {
    let world = World::new();
    assert_eq!(
        world.run(&["call", "@", "count", "3", "--json"]).ok(),
        "0\n1\n2\n"
    );
    assert_eq!(world.run(&["call", "@", "count", "3"]).ok(), "0\n1\n2\n");
    assert_eq!(world.run(&["call", "@", "count", "0"]).ok(), "");
    assert_eq!(world.run(&["call", "@", "text"]).ok(), "first\nsecond\n");
}

#[test]
fn failures_of_a_call_have_codes_and_hints() {
    let world = World::new();
    let unknown = world.run(&["call", "@", "voltag", "3"]);
    assert!(
        unknown.failed(1).contains("did you mean `voltage`"),
        "{unknown:?}"
    );
    let mismatch = world.run(&["call", "@", "voltage", "three"]);
    assert!(mismatch.failed(1).contains("channel: u8"), "{mismatch:?}");
    world.run(&["call", "@", "fail", "false"]).failed(1);
    world.run(&["call", "@", "fail", "true"]).failed(4);
    let order = world.run(&["call", "@", "voltage", "gain=1", "3"]);
    assert!(order.failed(2).contains("by place come first"), "{order:?}");
    let nothing = world.run(&["call", "@", "title.length"]);
    assert!(nothing.failed(1).contains("no object"), "{nothing:?}");
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    use std::io::Read;
    use std::process::Stdio;
    let world = World::new();
    let mut child = crate::kit::command(world.home.path())
        .args(["call", &world.address, "count", "1000000", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 4]).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn the_speed_of_a_link_is_measured_over_it() {
    let world = World::speed();
    let ran = world.run(&["speed", "@", "--for", "50ms", "--json"]);
    for name in [
        "rtt_p50_us",
        "rtt_p99_us",
        "download_bytes_per_second",
        "upload_bytes_per_second",
    ] {
        assert!(ran.ok().contains(name), "{ran:?}");
    }
    assert!(
        world
            .run(&["speed", "@", "--for", "20ms"])
            .ok()
            .contains("from there")
    );
    let without = World::new();
    assert!(without.run(&["speed", "@"]).err.contains("hint: "));
}

#[test]
fn a_name_stands_for_the_addresses_that_the_hosts_file_gives_it() {
    let world = World::new();
    // Nobody listens at the first.
    let hosts = format!("bench unix:/nonexistent {}\n", world.address);
    std::fs::write(world.home.path().join("hosts"), hosts).unwrap();
    assert_eq!(world.run(&["call", "bench", "title"]).ok(), "rig\n");
    let unknown = world.run(&["call", "nobody", "title"]);
    assert!(
        unknown.failed(2).contains("nobody knows the name `nobody`"),
        "{unknown:?}"
    );
}
