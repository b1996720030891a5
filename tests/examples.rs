//! The examples do what they say: each is run as it was built, and what it prints is read.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use farref_integration_tests::python::Python;

/// How long an example may take: the tour takes 80 seconds in a debug build where the machine is slow and does nothing else.
const PATIENCE: Duration = Duration::from_secs(600);

/// `cargo test` builds the examples beside the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples");
    let program = built.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is not built: `cargo test` builds it, also `cargo build --examples`",
        program.display()
    );
    program
}

/// Runs an example to its end, and gives what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program(name));
    run_command(name, command.args(arguments))
}

/// The same, however it is called.
fn run_command(name: &str, command: &mut Command) -> String {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = end(child.spawn().unwrap());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{name} ended with {}\n{out}\n{err}",
        output.status
    );
    assert_eq!(err, "", "{name} complained");
    out
}

/// Runs an example with each Python that there is.
fn run_with_each_python(name: &str) -> Vec<String> {
    let outputs = Python::all().into_iter().map(|python| {
        let mut command = Command::new(program(name));
        run_command(name, command.env("PYTHON", python.program()))
    });
    outputs.collect()
}

/// Waits for the end, but not for ever.
fn end(mut child: Child) -> Output {
    let mut pipes = [
        child
            .stdout
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child
            .stderr
            .take()
            .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ]
    .map(|pipe| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut all))
                .transpose()
                .unwrap();
            all
        })
    })
    .into_iter();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("an example did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut pipe = || pipes.next().unwrap().join().unwrap();
    Output {
        status,
        stdout: pipe(),
        stderr: pipe(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What stands behind `label` in a line of `out`.
fn fact<'a>(out: &'a str, label: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.trim_start().strip_prefix(label));
    line.unwrap_or_else(|| panic!("no line begins with {label:?}:\n{out}"))
        .trim()
}

#[test]
fn hello_greets() {
    let out = run("hello", &[]);
    assert_eq!(
        out,
        "Netref<dyn Greeter>(remote) at mem:hello\n\
         good day, Ada\ngood day, Grace\ngood day, Alan\n3 were greeted over there\n"
    );
}

#[test]
fn a_lab_in_python_is_driven() {
    for out in run_with_each_python("python_lab") {
        for line in [
            "\"dmm1\": A multimeter with eight channels, simulated.",
            "  channel 3: 6.5 V",
            "  python says: dmm1: channel 5 is done",
            "readings: [(0, 0.5), (3, 6.5), (5, 10.5)]",
            "IndexError: dmm1 has no channel 12",
            "readings.csv: 22 bytes, 3 lines",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
        assert!(out.contains("Summary { count: 3,"), "{out}");
    }
}

#[test]
fn a_client_in_python_gets_its_samples() {
    for out in run_with_each_python("python_client") {
        for line in [
            "scope 1: An oscilloscope with two channels.",
            "channels: A, B",
            "sample 4: 0.04 V",
            "KeyError: no channel Z",
            "latest: 3 in a list: True",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
    }
}

#[test]
fn hello_greets_over_other_media() {
    let out = run("hello", &["plain+tcp://127.0.0.1:0"]);
    assert!(
        out.starts_with("Netref<dyn Greeter>(remote) at plain+tcp://127.0.0.1:"),
        "{out}"
    );
    assert!(out.ends_with("3 were greeted over there\n"), "{out}");
}

#[test]
fn callback_reports_progress() {
    let out = run("callback", &[]);
    assert_eq!(
        out,
        " 25 %  22044 primes so far\n 50 %  41538 primes so far\n 75 %  60238 primes so far\n\
         100 %  78498 primes so far\nthe largest is 999983\n"
    );
}

#[test]
fn an_existing_crate_reads_a_far_file() {
    assert_eq!(
        run("remote_csv", &[]),
        "2026-169 was the warmest day, with 22 degrees\n"
    );
}

#[test]
fn a_far_iterator_is_used_as_far_as_it_is_needed() {
    assert_eq!(
        run("remote_iter", &[]),
        "1000037 and 1000039 are the first twins beyond a million\n"
    );
}

#[test]
fn a_live_stream_is_plotted_and_ends_with_its_reader() {
    let out = run("plot", &[]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 31, "{out}");
    assert_eq!(lines[0], "   0 ms                          *", "{out}");
    assert!(lines[..30].iter().all(|line| line.contains('*')), "{out}");
    assert_eq!(lines[30], "the far side measures no more");
}

#[test]
fn pipeline_saves_a_round_trip() {
    let out = run("pipeline", &[]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(
        lines[0].starts_with("Emma Woodhouse, handsome, clever, and rich ("),
        "{out}"
    );
    assert!(lines[0].ends_with(", two round trips)"), "{out}");
    assert!(lines[1].starts_with("Call me Ishmael. Some years ago ("), "{out}");
    assert!(lines[1].ends_with(", one round trip)"), "{out}");
}

#[test]
fn old_and_new_programs_understand_each_other() {
    let out = run("versions", &[]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 6, "{out}");
    assert_eq!(
        lines[..3],
        [
            "a new client reads an old bench: Reading { unit: None, channel: 2, value: 3.0 }",
            "and is understood by it: Reading { channel: 2, volts: 3.0 }",
            "what the bench lacks runs here: 3",
        ]
    );
    assert!(lines[3].starts_with("it has no channel 300: "), "{out}");
    assert_eq!(
        lines[4..],
        [
            "an old client reads a new bench: Reading { channel: 2, volts: 3.0 }",
            "and is understood by it: Reading { unit: None, channel: 2, value: 3.0 }",
        ]
    );
}

#[test]
fn a_bench_goes_on_when_its_cable_is_pulled() {
    assert_eq!(
        run("pulled_cable", &[]),
        "joined over tcp\n\
         51 measurements heard, a transfer of 8 MiB under way: the cable is pulled\n\
         joined over quic, in the same session\n\
         200 measurements heard, each once and in order\n\
         8 MiB received as they were recorded\n"
    );
}

#[cfg(unix)]
#[test]
fn a_bench_behind_ssh_is_used_as_a_child_as_well() {
    let out = run("behind_ssh", &[]);
    assert!(out.contains("reading 3: 3.303 V\nmean: 3.302 V\n"), "{out}");
    assert!(!out.contains("into the protocol"), "{out}");
}

#[cfg(unix)]
#[test]
fn a_device_behind_a_serial_line_is_found_and_used() {
    use farref_integration_tests::line::{Line, LineConfig};
    let line = Line::new(LineConfig {
        bit_error_rate: 1e-5,
        ..LineConfig::default()
    });
    let address = |port: &Path| format!("serial:{}", port.display());
    let mut device = Command::new(program("serial_device"))
        .args(["device", &address(line.left())])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = run("serial_device", &["host", &address(line.right())]);
    device.kill().unwrap();
    device.wait().unwrap();
    assert_eq!(
        out,
        "it has blinked 3 times\n500 lines of its log, the last: line 500: all is well\n"
    );
}

#[test]
fn two_hosts_meet_by_their_keys_as_the_first_error_says() {
    use std::io::{BufRead, BufReader};
    let home = tempfile::tempdir().unwrap();
    let start = |side: &str, arguments: &[&str]| {
        let mut command = Command::new(program("two_hosts"));
        command.args(arguments).env("FARREF_HOME", home.path().join(side));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut server = start("server", &["serve", "quic://127.0.0.1:0"]);
    let mut address = String::new();
    BufReader::new(server.stdout.as_mut().unwrap())
        .read_line(&mut address)
        .unwrap();
    let address = address.trim();
    let refused = end(start("client", &["call", address]));
    let why = text(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("authorized_peers"),
        "{why}"
    );
    let key = why
        .split_whitespace()
        .find(|word| word.starts_with("ed25519."))
        .unwrap();
    let key = key.trim_end_matches(',');
    std::fs::write(
        home.path().join("server/authorized_peers"),
        format!("{key} the client\n"),
    )
    .unwrap();
    let called = end(start("client", &["call", address]));
    server.kill().unwrap();
    server.wait().unwrap();
    let out = text(&called.stdout);
    assert!(
        out.contains("up for ") && out.contains("10485760 bytes came back"),
        "{out}{}",
        text(&called.stderr)
    );
}

#[test]
fn the_tour_shows_what_it_promises() {
    let out = run("tour", &[]);
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}\n{out}");
    }
    assert!(
        !out.contains('\x1b'),
        "colour, although this is no terminal:\n{out}"
    );
    for heading in [
        "Joined",
        "A directory over there, walked through a trait",
        "Code written for the trait, on an object here and on one over there",
        "An object that comes home is the object that left",
        "The last drop frees the object over there",
        "A file over there, read by code that knows `std::io` alone",
        "A stream without an end, read for as long as it is of use",
        "A callback: the far side reports while it works",
        "Pipelining: two calls, one needs the other, one round trip",
        "The cable is pulled: what is under way goes on over another wire",
        "Giving up: the method over there is dropped",
        "An error tells what happened, and where",
        "A panic over there fails one call, and no more",
        "Times",
    ] {
        assert!(
            out.lines().any(|line| line.ends_with(&format!("  {heading}"))),
            "no chapter {heading:?}:\n{out}"
        );
    }
    assert_eq!(fact(&out, "north.map"), "640.0 KiB");
    assert_eq!(fact(&out, "survey(&disk)?"), fact(&out, "survey(&*netref)?"));
    assert_eq!(fact(&out, "back.is_local()"), "true");
    assert_eq!(
        fact(&out, "both dropped"),
        "the far side: the sheet \"to be torn up\" was freed"
    );
    assert!(
        out.contains("[####################] 6 of 6  tyger.txt\n"),
        "{out}"
    );
    assert_eq!(fact(&out, "what was read"), "\"Tyger Tyger, burning bright,\"");
    assert!(fact(&out, "it goes on").ends_with(", over quic"), "{out}");
    assert_eq!(fact(&out, "seek, read_line"), "\"In the forests of the night\"");
    assert!(fact(&out, "read ") == "100000 numbers, in order", "{out}");
    assert!(out.contains("the far side: nobody reads any more: "), "{out}");
    assert_eq!(fact(&out, "callbacks"), "[1, 2, 3, 4, 5, 6]");
    assert!(
        fact(&out, "dropped ").starts_with("the far side: `wait` was dropped after "),
        "{out}"
    );
    assert!(fact(&out, "out of time").starts_with("Deadline"), "{out}");
    assert_eq!(
        out.matches("the far side: `wait` was dropped after ").count(),
        2,
        "{out}"
    );
    assert!(out.contains("remote trace:"), "{out}");
    assert_eq!(fact(&out, "error.kind()"), "Remote");
    assert!(fact(&out, "its standard error").starts_with("panic at "), "{out}");
    assert!(fact(&out, "divide(84, 2)").starts_with("42;"), "{out}");
    for medium in if cfg!(unix) {
        &["unix", "plain+tcp", "tcp", "quic", "exec", "serial"][..]
    } else {
        &["plain+tcp", "tcp", "quic"]
    } {
        let times = fact(&out, &format!("{medium} "));
        assert_eq!(
            times.matches("µs").count() + times.matches("ms").count(),
            3,
            "{out}"
        );
        assert!(times.contains("MB/s"), "{out}");
    }
    assert!(
        out.lines().any(|line| line.trim_start().starts_with("ssh ")) || out.contains("ssh: there is no"),
        "neither ssh nor why not:\n{out}"
    );
    assert_left_nothing(&out);
}

/// The second process has ended and its files are removed, as far as one can see from what was printed.
fn assert_left_nothing(out: &str) {
    let files = Path::new(fact(out, "its files"));
    assert!(
        files.is_absolute() && !files.exists(),
        "{} is left",
        files.display()
    );
    let (process, _) = fact(out, "the far side").split_once(',').unwrap();
    let process = Path::new("/proc").join(process);
    assert!(!process.exists(), "{} is left", process.display());
}

/// Starts the tour and reads on until it has told about its second process and files.
#[cfg(unix)]
fn begin_tour() -> (Child, String) {
    let mut command = Command::new(program("tour"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.as_mut().unwrap();
    let mut begun = Vec::new();
    while !text(&begun).contains("\n 2  ") {
        let mut byte = [0];
        assert_eq!(
            out.read(&mut byte).unwrap(),
            1,
            "the tour ended early: {}",
            text(&begun)
        );
        begun.extend(byte);
    }
    (child, text(&begun))
}

#[cfg(unix)]
#[test]
fn a_tour_that_is_interrupted_leaves_nothing() {
    for signal in ["-INT", "-TERM"] {
        let (child, begun) = begin_tour();
        let kill = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(kill.success());
        let output = end(child);
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(
            text(&output.stdout).ends_with("its files are removed.\n"),
            "{}",
            text(&output.stdout)
        );
        assert_left_nothing(&begun);
    }
}

#[cfg(unix)]
#[test]
fn a_tour_that_is_killed_leaves_nothing() {
    let (mut child, begun) = begin_tour();
    child.kill().unwrap();
    child.wait().unwrap();
    // Nobody is left to wait for the second process: it ends by itself.
    let files = Path::new(fact(&begun, "its files"));
    let deadline = Instant::now() + PATIENCE;
    while files.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!files.exists(), "{} is left", files.display());
}

#[cfg(unix)]
#[test]
fn a_tour_without_a_reader_leaves_nothing() {
    let (mut child, begun) = begin_tour();
    drop(child.stdout.take());
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("the tour stopped"),
        "{}",
        text(&output.stderr)
    );
    assert_left_nothing(&begun);
}

#[cfg(unix)]
#[test]
fn a_tour_whose_far_side_dies_says_so_and_leaves_nothing() {
    let (child, begun) = begin_tour();
    let (process, _) = fact(&begun, "the far side").split_once(',').unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", process])
            .status()
            .unwrap()
            .success()
    );
    let output = end(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("the tour stopped"),
        "{}",
        text(&output.stderr)
    );
    assert_left_nothing(&begun);
}
