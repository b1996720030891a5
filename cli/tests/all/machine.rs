//! `serve`, and what is done with a machine that it shows: `ls`, `cat`, `cp`, `exec`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use farref_integration_tests::line::{Line, LineConfig};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::kit::{Ran, command, run};

/// A `farref serve` in a process of its own, and a client that it lets in.
pub(crate) struct Machine {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// What is shown is in `shown`; `client` and `server` are homes with keys.
    pub(crate) home: TempDir,
}

impl Machine {
    /// Serves the directory `shown` by these options; `@` stands for the directory.
    pub(crate) fn serving(options: &[&str]) -> Self {
        Self::at("tcp://127.0.0.1:0", options, "")
    }

    fn at(address: &str, options: &[&str], rights: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().join("shown");
        fs::create_dir(&shown).unwrap();
        fs::create_dir_all(home.path().join("client")).unwrap();
        run(&home.path().join("client"), &["keygen"], "").ok();
        let key = fs::read_to_string(home.path().join("client/identity.pub")).unwrap();
        let mut authorize = vec!["authorize", key.trim()];
        authorize.extend(rights.split_whitespace());
        run(&home.path().join("server"), &authorize, "").ok();
        let options: Vec<_> = options
            .iter()
            .map(|option| option.replace('@', shown.to_str().unwrap()))
            .collect();
        let mut child = command(&home.path().join("server"))
            .args(["serve", "--json", address])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.split('"').nth(3).unwrap().to_owned();
        Self { child, address, home }
    }

    pub(crate) fn shown(&self, path: &str) -> std::path::PathBuf {
        self.home.path().join("shown").join(path)
    }

    pub(crate) fn client(&self) -> std::path::PathBuf {
        self.home.path().join("client")
    }

    /// Runs the program; `@` stands for the address.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.feed(arguments, "")
    }

    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| argument.replace('@', &self.address))
            .collect();
        run(&self.client(), &arguments, input)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(of: &Path) -> &str {
    of.to_str().unwrap()
}

#[test]
fn nothing_is_shown_that_was_not_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let ran = run(home.path(), &["serve", "tcp://127.0.0.1:0"], "");
    assert!(ran.failed(2).contains("--everything"), "{ran:?}");
    run(home.path(), &["serve", "--system"], "").failed(2);
    // The second tells strangers the environment, which may have secrets. The address is of no machine: nothing is served.
    for harmful in ["--processes", "--system"] {
        let ran = run(home.path(), &["serve", "plain+tcp://192.0.2.1:0", harmful], "");
        assert!(ran.failed(2).contains("--anyone"), "{ran:?}");
    }
    run(
        home.path(),
        &["serve", "tcp://127.0.0.1:0", "--files", "/nonexistent"],
        "",
    )
    .failed(2);

    let machine = Machine::serving(&["--system"]);
    assert_eq!(
        machine.run(&["call", "@", "services", "--json"]).ok(),
        "[\"speed\",\"system\"]\n"
    );
    let denied = machine.run(&["ls", "@::/"]);
    assert!(denied.failed(4).contains("`files` is not exposed"), "{denied:?}");
    let denied = machine.run(&["exec", "@", "--", "true"]);
    assert!(
        denied.failed(255).contains("`processes` is not exposed"),
        "{denied:?}"
    );
    let denied = machine.run(&["call", "@", "files.stat", "/"]);
    assert!(
        denied.failed(4).contains("hint: ") || denied.err.contains("not exposed"),
        "{denied:?}"
    );
    machine.run(&["speed", "@", "--for", "20ms"]).ok();
}

/// Whoever printed its address into a pipe that was closed by then had a server that ended, without a word.
#[test]
fn a_server_serves_though_nobody_reads_where() {
    let home = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", path(&home.path().join("socket")));
    let (_, nobody) = std::io::pipe().unwrap();
    let child = command(home.path())
        .args(["serve", &address, "--system"])
        .stdin(Stdio::null())
        .stdout(nobody)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut machine = Machine { child, address, home };
    while run(
        machine.home.path(),
        &["call", &machine.address, "system.time"],
        "",
    )
    .code
        != 0
    {
        assert!(machine.child.try_wait().unwrap().is_none());
    }
}

#[test]
fn what_is_not_there_leads_to_the_command_that_shows_what_is() {
    let machine = Machine::serving(&["--system"]);
    let missing = machine.run(&["call", "@", "system.hostname"]);
    let (_, hint) = missing.failed(1).split_once("hint: farref shell ").unwrap();
    assert!(hint.contains(" -c 'dir system' "), "{missing:?}");
    assert!(
        machine
            .run(&["shell", "@", "-c", "dir system"])
            .ok()
            .contains("facts()")
    );
}

#[test]
fn a_key_narrows_down_what_is_shown() {
    let machine = Machine::at(
        "tcp://127.0.0.1:0",
        &["--files", "@", "--processes"],
        "--read-only --services files",
    );
    fs::write(machine.shown("a"), "a").unwrap();
    assert_eq!(machine.run(&["cat", "@::a"]).ok(), "a");
    let refused = machine.run(&["cp", path(&machine.shown("a")), "@::b"]);
    refused.failed(4);
    machine.run(&["exec", "@", "--", "true"]).failed(255);
    assert!(!machine.shown("b").exists());
}

#[test]
fn files_are_listed_and_read() {
    let machine = Machine::serving(&["--files", "@:ro"]);
    fs::create_dir(machine.shown("dir")).unwrap();
    fs::write(machine.shown("dir/inner"), "inner\n").unwrap();
    fs::write(machine.shown("file"), "one\ntwo\n").unwrap();
    fs::write(machine.shown(".hidden"), "").unwrap();
    std::os::unix::fs::symlink("file", machine.shown("link")).unwrap();
    assert_eq!(machine.run(&["ls", "@::/"]).ok(), "dir/\nfile\nlink -> file\n");
    assert_eq!(machine.run(&["ls", "@"]).out, machine.run(&["ls", "@::"]).out);
    for command in ["ls", "cat"] {
        let missing = machine.run(&[command, "@::/nothing"]);
        let text = missing.failed(1);
        assert_eq!(text.matches("/nothing").count(), 1, "{text}");
    }
    assert!(machine.run(&["ls", "-a", "@::/"]).ok().starts_with(".hidden\n"));
    assert_eq!(
        machine.run(&["ls", "-R", "@::/"]).ok(),
        "dir/\ndir/inner\nfile\nlink -> file\n"
    );
    let long = machine.run(&["ls", "-l", "@::/"]);
    assert!(long.ok().lines().nth(1).unwrap().starts_with("-rw"), "{long:?}");
    let json = machine.run(&["ls", "--json", "@::file"]);
    assert!(json.ok().contains("\"len\":8"), "{json:?}");
    assert_eq!(
        machine.run(&["cat", "@::file", "@::dir/inner"]).ok(),
        "one\ntwo\ninner\n"
    );
    assert_eq!(machine.run(&["cat", "--from", "4", "@::file"]).ok(), "two\n");
    let missing = machine.run(&["cat", "@::nothing"]);
    assert!(missing.failed(1).contains("nothing"), "{missing:?}");
    machine.run(&["cat", "file"]).failed(2);
    // Out of what is shown.
    let out = machine.run(&["cat", "@::../client/identity"]);
    assert_ne!(out.code, 0, "{out:?}");
}

#[test]
fn a_file_is_followed_as_it_grows() {
    let machine = Machine::serving(&["--files", "@:ro"]);
    fs::write(machine.shown("log"), "1\n2\n3\n").unwrap();
    let mut child = command(&machine.client())
        .args(["cat", "-f", "-n", "2", &format!("{}::log", machine.address)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!((next(), next()), ("2".to_owned(), "3".to_owned()));
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(machine.shown("log"))
        .unwrap();
    log.write_all(b"4\n").unwrap();
    assert_eq!(next(), "4");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn files_and_trees_are_copied_both_ways() {
    let machine = Machine::serving(&["--files", "@"]);
    let here = machine.home.path().join("here");
    fs::create_dir_all(here.join("tree/deep")).unwrap();
    fs::write(here.join("tree/deep/small"), "small").unwrap();
    fs::write(here.join("tree/with \\ and space"), "odd").unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(here.join("tree/large"), &large).unwrap();
    std::os::unix::fs::symlink("large", here.join("tree/link")).unwrap();
    let tree = path(&here.join("tree")).to_owned();
    machine.run(&["cp", &tree, "@::/"]).failed(2);
    let there = machine.run(&["cp", "-r", &tree, "@::/", "--json"]);
    assert!(there.ok().contains("\"files\":3"), "{there:?}");
    assert_eq!(fs::read(machine.shown("tree/large")).unwrap(), large);
    assert_eq!(
        fs::read_to_string(machine.shown("tree/with \\ and space")).unwrap(),
        "odd"
    );
    assert_eq!(
        fs::read_link(machine.shown("tree/link")).unwrap(),
        Path::new("large")
    );
    let again = machine.run(&["cp", "-r", &tree, "@::/", "--json"]);
    assert!(
        again.ok().contains("\"files\":0") && again.out.contains("\"skipped\":3"),
        "{again:?}"
    );
    // Back, under another name.
    machine
        .run(&["cp", "-r", "@::tree", path(&here.join("back"))])
        .ok();
    assert_eq!(fs::read(here.join("back/large")).unwrap(), large);
    // Several into a directory; one to a name.
    machine
        .run(&["cp", "@::tree/large", "@::tree/deep/small", path(&here)])
        .ok();
    assert_eq!(fs::read_to_string(here.join("small")).unwrap(), "small");
    machine
        .run(&["cp", "@::tree/deep/small", path(&here.join("other"))])
        .ok();
    assert_eq!(fs::read_to_string(here.join("other")).unwrap(), "small");
    machine
        .run(&[
            "cp",
            "@::tree/large",
            "@::tree/deep/small",
            path(&here.join("other")),
        ])
        .failed(2);
    machine.run(&["cp", "@::nothing", path(&here)]).failed(1);
    machine.run(&["cp", "a", "b"]).failed(2);
}

#[test]
fn a_copy_that_was_cut_off_goes_on_where_it_was() {
    let machine = Machine::serving(&["--files", "@"]);
    let here = machine.home.path().join("here");
    fs::create_dir(&here).unwrap();
    let large: Vec<u8> = (0..8_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    fs::write(machine.shown("large"), &large).unwrap();
    fs::write(here.join(".large.farref-part"), &large[..5_000_000]).unwrap();
    let ran = machine.run(&["cp", "@::large", path(&here), "--json"]);
    assert!(ran.ok().contains("\"resumed_bytes\":5000000"), "{ran:?}");
    assert_eq!(fs::read(here.join("large")).unwrap(), large);
    assert!(!here.join(".large.farref-part").exists());
}

#[test]
fn a_command_has_its_input_its_output_and_its_code() {
    let machine = Machine::serving(&["--processes"]);
    let ran = machine.run(&["exec", "@", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(
        machine
            .feed(&["exec", "@", "--", "tr", "a-z", "A-Z"], "fed\n")
            .ok(),
        "FED\n"
    );
    let long = "x".repeat(3_000_000);
    assert_eq!(
        machine.feed(&["exec", "@", "--", "cat"], &long).ok().len(),
        long.len()
    );
    assert_eq!(machine.run(&["exec", "@", "-s", "kill -9 $$"]).code, 137);
    let ran = machine.run(&["exec", "@", "--cwd", "/", "-e", "A=b c", "-s", "pwd; echo $A"]);
    assert_eq!(ran.ok(), "/\nb c\n");
    assert_eq!(machine.run(&["exec", "-n", "@", "--", "cat"]).ok(), "");
    let missing = machine.run(&["exec", "@", "--", "no-such-program"]);
    assert!(missing.failed(255).contains("no-such-program"), "{missing:?}");
    let nobody = run(
        &machine.client(),
        &["exec", "unix:/nonexistent", "--", "true"],
        "",
    );
    nobody.failed(255);
    // A reader that has enough.
    let mut child = command(&machine.client())
        .args(["exec", &machine.address, "--", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 2]).unwrap();
    drop(out);
    // SIGPIPE, or what the program makes of the error.
    assert!(!child.wait().unwrap().success());
}

#[test]
fn signals_are_passed_on_to_the_command() {
    let machine = Machine::serving(&["--processes"]);
    let mut child = command(&machine.client())
        .args([
            "exec",
            &machine.address,
            "-s",
            "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got it");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_server_ends_in_order_and_turns_away_who_is_not_authorized_any_more() {
    let mut machine = Machine::serving(&["--processes"]);
    let mut child = command(&machine.client())
        .args(["exec", &machine.address, "-s", "echo ready; sleep 100"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    fs::write(machine.home.path().join("server/authorized_peers"), "").unwrap();
    machine.signal(Signal::HUP);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        ended.status.code(),
        Some(255),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    machine.run(&["ping", "-c", "1", "@"]).failed(4);
    machine.signal(Signal::TERM);
    assert!(machine.child.wait().unwrap().success());
}

#[test]
fn a_server_behind_a_command_talks_over_its_standard_input_and_output() {
    let home = tempfile::tempdir().unwrap();
    let address = format!(
        "exec:{}?arg=serve&arg=--stdio&arg=--system&arg=--processes",
        env!("CARGO_BIN_EXE_farref")
    );
    let ran = run(home.path(), &["call", &address, "services", "--json"], "");
    assert_eq!(ran.ok(), "[\"processes\",\"speed\",\"system\"]\n");
    assert_eq!(
        run(home.path(), &["exec", &address, "--", "echo", "hello"], "").ok(),
        "hello\n"
    );
}

/// What somebody gets who connects there and is told something.
fn told(address: &str) -> String {
    let mut text = String::new();
    std::net::TcpStream::connect(address)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Tells everybody who connects the same, and where it is.
fn teller(what: &'static str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(what.as_bytes());
        }
    });
    address
}

#[test]
fn connections_are_forwarded_both_ways() {
    let machine = Machine::serving(&["--network", "connect=127.0.0.1:*,listen=127.0.0.1:*"]);
    let (there, here) = (teller("there"), teller("here"));
    let mut child = command(&machine.client())
        .args([
            "forward",
            &machine.address,
            "-L",
            &format!("0:{there}"),
            "-R",
            &format!("0:{here}"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let (local, remote) = (next(), next());
    assert_eq!(told(local.split(' ').next().unwrap()), "there");
    assert_eq!(told(remote.split(' ').next().unwrap()), "here");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    machine.run(&["forward", "@"]).failed(2);
    machine.run(&["forward", "@", "-L", "x"]).failed(2);
    let denied = machine.run(&["forward", "@", "-R", "0.0.0.0:0:127.0.0.1:1"]);
    assert!(denied.failed(4).contains("0.0.0.0:0"), "{denied:?}");
}

#[test]
fn who_is_connected_is_shown_as_data_where_there_is_no_terminal() {
    let machine = Machine::serving(&["--monitor"]);
    let ran = machine.run(&["top", "@", "--json"]);
    assert_eq!(ran.ok().lines().count(), 1);
    assert!(ran.out.contains("\"connections\":["), "{ran:?}");
    machine.run(&["top", "@"]).ok();
    let without = Machine::serving(&["--system"]);
    assert!(without.run(&["top", "@"]).failed(4).contains("--monitor"));
}

#[test]
fn each_connection_has_a_process_of_its_own_where_that_is_wanted() {
    let mut machine = Machine::serving(&["--isolate", "--processes"]);
    let parent = |machine: &Machine| {
        let ran = machine.run(&["exec", "@", "--", "sh", "-c", "echo $PPID"]);
        ran.ok().trim().parse::<u32>().unwrap()
    };
    let (first, second) = (parent(&machine), parent(&machine));
    assert!(first != second && first != machine.child.id(), "{first} {second}");
    machine.run(&["ls", "@::/"]).failed(4);
    machine.signal(Signal::TERM);
    assert!(machine.child.wait().unwrap().success());
}

#[test]
fn a_server_for_one_connection_ends_with_it() {
    let mut machine = Machine::serving(&["--once", "--system"]);
    machine.run(&["call", "@", "system.time"]).ok();
    assert!(machine.child.wait().unwrap().success());
    machine.run(&["call", "@", "system.time"]).failed(3);
}

#[test]
fn limits_are_kept_to_and_those_that_are_none_are_refused() {
    let machine = Machine::serving(&["--system", "--per-source", "1", "--memory", "64M", "--calls", "1"]);
    machine.run(&["call", "@", "system.time"]).ok();
    machine
        .run(&["serve", "tcp://127.0.0.1:0", "--system", "--memory", "much"])
        .failed(2);
    machine
        .run(&["serve", "--inetd", "--plain", "--processes"])
        .failed(2);
    let socket = format!("unix:{}", machine.shown("socket").display());
    machine
        .run(&["serve", &socket, "--system", "--isolate", "--once"])
        .failed(2);
    machine
        .run(&["serve", &socket, "--system", "--announce", "x"])
        .failed(2);
}

#[test]
fn a_board_serves_its_serial_line_and_the_desk_uses_it() {
    let line = Line::new(LineConfig::default());
    let port = |path: &Path| format!("serial:{}?baud=115200", path.display());
    let board = Machine::at(&port(line.left()), &["--system", "--files", "@:ro"], "");
    fs::write(board.shown("notes"), "from the board\n").unwrap();
    let desk = |arguments: &[&str], input: &str| {
        let at = port(line.right());
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| argument.replace('@', &at))
            .collect();
        run(&board.client(), &arguments, input)
    };
    assert_eq!(desk(&["cat", "@::notes"], "").ok(), "from the board\n");
    let shell = desk(&["shell", "@"], "x = system\nx.facts().os\n");
    assert!(shell.ok().contains(std::env::consts::OS), "{shell:?}");
}

#[test]
fn what_a_server_ignores_is_not_ignored_by_what_it_runs() {
    let home = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", home.path().join("socket").display());
    // As in the background of a script, and behind nohup.
    let mut child = std::process::Command::new("sh")
        .args([
            "-c",
            "trap '' INT QUIT USR1; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_farref"),
        ])
        .args(["serve", "--json", &socket, "--processes"])
        .env("FARREF_HOME", home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    // A shell cannot trap what it was started to ignore.
    let script = "trap 'echo caught' INT QUIT USR1; kill -INT $$; kill -QUIT $$; kill -USR1 $$; echo end";
    let ran = run(
        home.path(),
        &["exec", socket.as_str(), "--", "sh", "-c", script],
        "",
    );
    assert_eq!(ran.ok(), "caught\ncaught\ncaught\nend\n");
    // And to itself they are what they were.
    kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
    run(home.path(), &["exec", socket.as_str(), "--", "true"], "").ok();
    child.kill().unwrap();
    child.wait().unwrap();
}
