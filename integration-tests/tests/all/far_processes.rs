//! Processes of the machine over there: what they read, write and end with, and that none is left behind.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use farref::processes::{self, Command, Exit, Limits, Output, Process, Processes, Signal, Started};
use farref::stream::Sender;
use farref::{ByteStream, Netref, Object, Server, Value};
use farref_integration_tests::media::{Pair, over_every_medium, pair, runtime, within};
use farref_integration_tests::program::{agent, gone, signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

async fn machine(medium: &str) -> (Pair, Netref<dyn Processes>) {
    let pair = pair::<dyn Processes>(medium, processes::share(Limits::default())).await;
    let machine = pair.root().await;
    (pair, machine)
}

fn on_unix<F: Future<Output = ()>>(test: impl FnOnce(Pair, Netref<dyn Processes>) -> F) {
    runtime().block_on(async {
        let (pair, machine) = machine("unix").await;
        test(pair, machine).await;
    });
}

async fn spawn(machine: &Netref<dyn Processes>, command: Command) -> Started {
    within(machine.call().spawn(command, None)).await.unwrap()
}

async fn wait(process: &Netref<dyn Process>) -> Exit {
    within(process.call().wait().timeout(Duration::MAX))
        .await
        .unwrap()
}

async fn text(stream: Option<ByteStream>) -> String {
    let mut text = String::new();
    within(stream.unwrap().read_to_string(&mut text)).await.unwrap();
    text
}

/// Reads up to and including `end`.
async fn until(stream: &mut ByteStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = within(stream.read_u8()).await;
        read.push(
            byte.unwrap_or_else(|error| {
                panic!("no {end:?} in {:?}: {error}", String::from_utf8_lossy(&read))
            }),
        );
    }
    String::from_utf8(read).unwrap()
}

async fn is_gone(id: u32) {
    let gone = tokio::task::spawn_blocking(move || gone(&id.to_string()));
    within(gone).await.unwrap();
}

/// A shell on a terminal that does not echo, and says when it is ready.
async fn on_terminal(machine: &Netref<dyn Processes>, line: &str) -> (Started, ByteStream, Sender<Bytes>) {
    let (sender, input) = ByteStream::channel(4);
    let command = Command::shell(format!("stty -echo; echo ready; {line}")).pty(24, 80, "vt100");
    let mut started = within(machine.call().spawn(command, Some(input))).await.unwrap();
    let mut output = started.stdout.take().unwrap();
    until(&mut output, "ready\r\n").await;
    (started, output, sender)
}

#[test]
fn a_command_tells_its_output_and_its_end() {
    over_every_medium(async |medium| {
        let (pair, machine) = machine(medium).await;
        let command = Command::shell("cat; echo oops >&2; exit 3");
        let captured = within(processes::run(&machine, command).input("what it reads").output()).await;
        let captured = captured.unwrap();
        assert_eq!(captured.exit, Exit::Code(3));
        assert_eq!(
            (&*captured.stdout, &*captured.stderr),
            (&b"what it reads"[..], &b"oops\n"[..])
        );
        drop(machine);
        pair.at_rest().await;
    });
}

#[test]
fn a_command_is_what_it_says() {
    on_unix(async |_pair, machine| {
        let out = async |command| {
            let captured = within(processes::run(&machine, command).output()).await.unwrap();
            assert!(captured.exit.is_success(), "{captured:?}");
            String::from_utf8(captured.stdout).unwrap()
        };
        let echo = Command::new("echo").args(["$HOME", "a  b"]);
        assert_eq!(out(echo).await, "$HOME a  b\n");
        assert_eq!(out(Command::new("pwd").cwd("/usr")).await, "/usr\n");
        let line = Command::shell("echo $GREETING").env("GREETING", "hello");
        assert_eq!(out(line).await, "hello\n");
        let alone = Command::new("/usr/bin/env").env_clear().env("ONLY", "this");
        assert_eq!(out(alone).await, "ONLY=this\n");
        let without = Command::shell("echo ${HOME-none}").env_remove("HOME");
        assert_eq!(out(without).await, "none\n");
        let merged = Command::shell("echo one; echo two >&2; echo three").stderr(Output::Merged);
        assert_eq!(out(merged).await, "one\ntwo\nthree\n");
        assert_eq!(out(Command::new("cat")).await, "", "it reads nothing");
        assert_eq!(out(Command::shell("echo x").stdout(Output::Null)).await, "");
    });
}

#[test]
fn processes_are_run_by_name() {
    on_unix(async |_pair, machine| {
        let machine = machine.dynamic();
        let captured = within(machine.call("output", ("echo hi; exit 3",)))
            .await
            .unwrap();
        assert_eq!(
            captured.to_string(),
            r#"Captured {exit: Exit::Code(3), stdout: b"hi\n", stderr: b""}"#
        );
        let command: Value = r#"{"what": {"Program": ["sleep", ["1000"]]}}"#.parse().unwrap();
        let started = within(machine.call("spawn", (command, Value::Null)))
            .await
            .unwrap();
        let process = Object::try_from(started["process"].clone()).unwrap();
        assert_eq!(within(process.get("id")).await.unwrap(), started["id"]);
        within(process.call("signal", ("TERM",))).await.unwrap();
        let exit = within(process.call("wait", ())).await.unwrap();
        assert!(exit.to_string().contains("TERM"), "{exit}");
        let endless = within(machine.call("output", ("yes",))).await.unwrap_err();
        assert!(endless.to_string().contains("1048576 bytes"), "{endless}");
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    on_unix(async |_pair, machine| {
        let error = async |command| {
            within(machine.call().spawn(command, None))
                .await
                .map(drop)
                .unwrap_err()
        };
        let missing = error(Command::new("no-such-program")).await;
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("`no-such-program`"), "{missing}");
        let nowhere = error(Command::new("true").cwd("/no/such/place")).await;
        assert!(nowhere.to_string().contains("/no/such/place"), "{nowhere}");
        assert_eq!(
            error(Command::new("/etc/passwd")).await.kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(error(Command::new("")).await.kind(), io::ErrorKind::InvalidInput);
        let merged = Command::new("true").stdout(Output::Merged);
        assert_eq!(error(merged).await.kind(), io::ErrorKind::InvalidInput);
        let odd = Command::new("true").env("A=B", "c");
        assert_eq!(error(odd).await.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            error(Command::new("a\0b")).await.kind(),
            io::ErrorKind::InvalidInput
        );
    });
}

#[test]
fn any_number_wait_for_an_end_also_when_it_was_long_ago() {
    on_unix(async |_pair, machine| {
        let started = spawn(&machine, Command::shell("read x; exit 7")).await;
        assert_eq!(wait(&started.process).await, Exit::Code(7));
        let (mut sender, input) = ByteStream::channel(1);
        let command = Command::shell("read x; exit 8");
        let started = within(machine.call().spawn(command, Some(input))).await.unwrap();
        let process = started.process;
        assert_eq!(within(process.call().id()).await.unwrap(), started.id);
        assert_eq!(within(process.call().exit()).await.unwrap(), None);
        let waiting: Vec<_> = (0..5).map(|_| process.call().wait().start()).collect();
        within(sender.send("line\n".into())).await.unwrap();
        for waiting in waiting {
            assert_eq!(within(waiting).await.unwrap(), Exit::Code(8));
        }
        assert_eq!(wait(&process).await, Exit::Code(8));
        assert_eq!(within(process.call().exit()).await.unwrap(), Some(Exit::Code(8)));
    });
}

#[test]
fn signals_reach_the_whole_group_by_name() {
    on_unix(async |_pair, machine| {
        let mut started = spawn(&machine, Command::shell("sleep 1000 & echo $!; wait")).await;
        let child = until(started.stdout.as_mut().unwrap(), "\n").await;
        within(started.process.call().signal("SIGKILL".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(wait(&started.process).await, Exit::Signal(Signal::KILL));
        is_gone(child.trim().parse().unwrap()).await;
        let trap =
            Command::shell("trap 'echo caught; exit 5' USR1; echo ready; while :; do sleep 0.01; done");
        let mut started = spawn(&machine, trap).await;
        until(started.stdout.as_mut().unwrap(), "ready\n").await;
        within(started.process.call().signal(Signal::USR1)).await.unwrap();
        assert_eq!(wait(&started.process).await, Exit::Code(5));
        assert_eq!(text(started.stdout.take()).await, "caught\n");
        let unknown = within(started.process.call().signal("NONSENSE".parse().unwrap())).await;
        assert_eq!(unknown.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn an_end_that_was_told_has_its_output_on_the_way() {
    on_unix(async |_pair, machine| {
        for _ in 0..20 {
            let mut started = spawn(&machine, Command::shell("echo first; echo last; exit 2")).await;
            let mut output = started.stdout.take().unwrap();
            let reading = tokio::spawn(async move {
                let mut text = String::new();
                output.read_to_string(&mut text).await.map(|_| text)
            });
            assert_eq!(wait(&started.process).await, Exit::Code(2));
            assert_eq!(within(reading).await.unwrap().unwrap(), "first\nlast\n");
        }
    });
}

#[test]
fn nobody_has_to_read_the_output_to_hear_of_the_end() {
    on_unix(async |_pair, machine| {
        let mut started = spawn(&machine, Command::shell("echo unread; exit 4")).await;
        assert_eq!(wait(&started.process).await, Exit::Code(4));
        assert_eq!(text(started.stdout.take()).await, "unread\n");
    });
}

#[test]
fn the_end_of_the_input_is_told_by_the_stream_or_by_hand() {
    on_unix(async |_pair, machine| {
        let (mut sender, input) = ByteStream::channel(1);
        let mut started = within(machine.call().spawn(Command::new("cat"), Some(input)))
            .await
            .unwrap();
        within(sender.send("some".into())).await.unwrap();
        until(started.stdout.as_mut().unwrap(), "some").await;
        within(started.process.call().close_stdin()).await.unwrap();
        assert_eq!(wait(&started.process).await, Exit::Code(0));
        // Whoever sends hears that nobody reads any more.
        while within(sender.send("more".into())).await.is_ok() {}
    });
}

#[test]
fn a_hundred_mebibytes_pass_through_a_process_whole() {
    on_unix(async |_pair, machine| {
        let piece = Bytes::from((0..1 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>());
        let (mut sender, input) = ByteStream::channel(1);
        let mut started = within(machine.call().spawn(Command::new("cat"), Some(input)))
            .await
            .unwrap();
        let sent = piece.clone();
        let sending = tokio::spawn(async move {
            for _ in 0..100 {
                sender.send(sent.clone()).await.unwrap();
            }
        });
        let mut output = started.stdout.take().unwrap();
        let before = resident();
        let mut most = 0;
        let mut read = vec![0; piece.len()];
        for _ in 0..100 {
            within(output.read_exact(&mut read)).await.unwrap();
            assert!(read == piece, "what came back is not what was sent");
            most = most.max(resident());
        }
        within(sending).await.unwrap();
        assert_eq!(within(output.read(&mut read)).await.unwrap(), 0);
        assert_eq!(wait(&started.process).await, Exit::Code(0));
        let grown = most.saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more in memory");
    });
}

/// Bytes of memory that this program has; 0 where the system does not tell.
fn resident() -> usize {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = told
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[test]
fn a_process_waits_for_a_slow_reader() {
    on_unix(async |_pair, machine| {
        let mut started = spawn(&machine, Command::new("yes")).await;
        let id = started.id;
        let mut output = started.stdout.take().unwrap().credit(4096);
        // What is on its way, and in pipes, is all that it can have written.
        let written = || {
            let told = std::fs::read_to_string(format!("/proc/{id}/io")).unwrap_or_default();
            let line = told.lines().find_map(|line| line.strip_prefix("wchar: "));
            line.and_then(|count| count.parse::<u64>().ok())
        };
        for _ in 0..100 {
            assert_eq!(until(&mut output, "\n").await, "y\n");
            if let Some(written) = written() {
                assert!(written < 4 << 20, "{written} bytes");
            }
        }
        drop((output, started));
        is_gone(id).await;
    });
}

#[test]
fn a_process_nobody_holds_any_more_is_ended_with_its_group() {
    on_unix(async |pair, machine| {
        let stubborn = "trap '' TERM HUP; sleep 1000 & echo $!; while :; do sleep 1; done";
        for line in ["sleep 1000 & echo $!; wait", stubborn] {
            let mut started = spawn(&machine, Command::shell(line)).await;
            let child = until(started.stdout.as_mut().unwrap(), "\n").await;
            let id = started.id;
            drop(started);
            is_gone(id).await;
            is_gone(child.trim().parse().unwrap()).await;
        }
        // Also one that was stopped.
        let started = spawn(&machine, Command::new("sleep").arg("1000")).await;
        within(started.process.call().signal(Signal::STOP)).await.unwrap();
        let id = started.id;
        drop(started);
        is_gone(id).await;
        drop(machine);
        pair.at_rest().await;
    });
}

#[test]
fn a_call_that_is_given_up_leaves_no_process() {
    on_unix(async |pair, machine| {
        let directory = tempfile::tempdir().unwrap();
        for at in 0..20 {
            let path = directory.path().join(at.to_string());
            let line = format!(
                "echo $$ > {}.new && mv {0}.new {0}; exec sleep 1000",
                path.display()
            );
            let call = machine.call().spawn(Command::shell(line), None).start();
            if at % 2 == 0 {
                while !path.exists() {
                    tokio::task::yield_now().await;
                }
            }
            drop(call);
        }
        drop(machine);
        pair.at_rest().await;
        for at in 0..20 {
            if let Ok(id) = std::fs::read_to_string(directory.path().join(at.to_string())) {
                is_gone(id.trim().parse().unwrap()).await;
            }
        }
    });
}

#[test]
fn an_end_leaves_no_zombie_while_the_process_is_held() {
    on_unix(async |_pair, machine| {
        let mut started = spawn(&machine, Command::shell("echo done")).await;
        assert_eq!(text(started.stdout.take()).await, "done\n");
        assert_eq!(text(started.stderr.take()).await, "");
        assert_eq!(wait(&started.process).await, Exit::Code(0));
        is_gone(started.id).await;
        let late = within(started.process.call().signal(Signal::TERM)).await;
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_detached_process_goes_on() {
    on_unix(async |_pair, machine| {
        let quiet = Command::new("sleep")
            .arg("1000")
            .stdout(Output::Null)
            .stderr(Output::Null);
        let started = spawn(&machine, quiet.clone().detached()).await;
        let id = started.id;
        let other = spawn(&machine, quiet).await;
        let ended = other.id;
        drop((started, other));
        is_gone(ended).await;
        assert!(signal("-0", &id.to_string()), "it was ended with the other");
        assert!(signal("-KILL", &id.to_string()));
        is_gone(id).await;
    });
}

#[test]
fn no_more_run_than_may() {
    runtime().block_on(async {
        let limits = Limits::default().processes(3).may_detach(false);
        let pair = pair::<dyn Processes>("unix", processes::share(limits)).await;
        let machine: Netref<dyn Processes> = pair.root().await;
        let sleep = || Command::new("sleep").arg("1000");
        let (first, second) = (spawn(&machine, sleep()).await, spawn(&machine, sleep()).await);
        let third = within(machine.call().spawn(sleep(), None)).await.map(drop);
        assert_eq!(third.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        let detached = within(machine.call().spawn(sleep().detached(), None))
            .await
            .map(drop);
        assert_eq!(detached.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        drop(first);
        // There is room again as soon as it is gone.
        let started = async {
            loop {
                if let Ok(started) = machine.call().spawn(sleep(), None).await {
                    break started;
                }
                tokio::task::yield_now().await;
            }
        };
        drop((within(started).await, second));
    });
}

#[test]
fn a_client_that_is_killed_leaves_no_process() {
    runtime().block_on(async {
        let server = Server::of::<dyn Processes>(processes::share(Limits::default()));
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("socket").display());
        within(server.listen(&*address)).await.unwrap();
        let mut client = tokio::process::Command::new(agent())
            .args(["start", &address])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = tokio::io::BufReader::new(client.stdout.take().unwrap()).lines();
        let id = within(said.next_line()).await.unwrap().unwrap().parse().unwrap();
        assert!(Path::new(&format!("/proc/{id}")).exists() || cfg!(not(target_os = "linux")));
        within(client.kill()).await.unwrap();
        is_gone(id).await;
    });
}

#[test]
fn a_server_whose_runtime_ends_leaves_no_process() {
    let server = runtime();
    let client = runtime();
    let machine = server.block_on(async {
        let server = Server::of::<dyn Processes>(processes::share(Limits::default()));
        let address = server.listen("mem:a-server-that-ends").await.unwrap();
        tokio::spawn(async move { server.closed().await });
        address
    });
    let (_connection, started) = client.block_on(async {
        let connection = within(farref::connect(machine).into_future()).await.unwrap();
        let machine: Netref<dyn Processes> = within(connection.root()).await.unwrap();
        let stubborn = Command::shell("trap '' TERM; echo ready; while :; do sleep 1; done");
        let mut started = spawn(&machine, stubborn).await;
        until(started.stdout.as_mut().unwrap(), "ready\n").await;
        (connection, started)
    });
    drop(server);
    assert!(
        !signal("-0", &started.id.to_string()),
        "it is there when the runtime is gone"
    );
}

#[test]
fn a_terminal_has_the_size_that_it_is_given() {
    on_unix(async |_pair, machine| {
        let line =
            "trap 'stty size; exit' WINCH; stty size; tty; echo $TERM; echo go; while :; do sleep 0.01; done";
        let (started, mut output, _sender) = on_terminal(&machine, line).await;
        let told = until(&mut output, "go\r\n").await;
        let lines: Vec<_> = told.lines().collect();
        assert_eq!((lines[0], lines[2]), ("24 80", "vt100"), "{told}");
        assert!(lines[1].starts_with("/dev/"), "{told}");
        within(started.process.call().resize(50, 132)).await.unwrap();
        assert_eq!(until(&mut output, "\n").await, "50 132\r\n");
        assert_eq!(wait(&started.process).await, Exit::Code(0));
        assert_eq!(text(Some(output)).await, "", "its end is no error");
        let plain = spawn(&machine, Command::new("true")).await;
        let error = within(plain.process.call().resize(1, 1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    });
}

#[test]
fn control_c_interrupts_what_runs_on_a_terminal() {
    on_unix(async |_pair, machine| {
        let (started, output, mut sender) = on_terminal(&machine, "exec sleep 1000").await;
        within(sender.write_all(b"\x03")).await.unwrap();
        assert_eq!(wait(&started.process).await, Exit::Signal(Signal::INT));
        drop(output);
        is_gone(started.id).await;
    });
}

#[test]
fn a_terminal_passes_bytes_both_ways_and_has_an_end() {
    on_unix(async |_pair, machine| {
        for (says, is_line) in [("a line\n", true), ("half a line", false)] {
            let (started, mut output, mut sender) = on_terminal(&machine, "cat").await;
            within(sender.write_all(says.as_bytes())).await.unwrap();
            if is_line {
                assert_eq!(until(&mut output, "\n").await, "a line\r\n");
            }
            drop(sender);
            let rest = text(Some(output)).await;
            assert_eq!(rest, if is_line { "" } else { says });
            assert_eq!(wait(&started.process).await, Exit::Code(0));
        }
        // Much of it, as it is.
        let (started, mut output, mut sender) =
            on_terminal(&machine, "stty raw; echo go; head -c 300000").await;
        until(&mut output, "go\n").await;
        let says: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = says.clone();
        let sending = tokio::spawn(async move { sender.write_all(&sent).await.map(|()| sender) });
        let mut heard = vec![0; says.len()];
        within(output.read_exact(&mut heard)).await.unwrap();
        assert!(heard == says);
        assert_eq!(wait(&started.process).await, Exit::Code(0));
        drop(within(sending).await.unwrap());
    });
}

/// One that was given no input waited for it, and was not told when there was none.
#[test]
fn a_terminal_without_an_input_is_told_of_its_end() {
    on_unix(async |_pair, machine| {
        let line = "stty -echo; echo ready; cat; echo over";
        let mut started = spawn(&machine, Command::shell(line).pty(24, 80, "vt100")).await;
        let mut output = started.stdout.take().unwrap();
        until(&mut output, "ready\r\n").await;
        within(started.process.call().close_stdin()).await.unwrap();
        until(&mut output, "over\r\n").await;
        assert_eq!(wait(&started.process).await, Exit::Code(0));
    });
}

#[test]
fn a_terminal_that_nobody_holds_any_more_hangs_up() {
    on_unix(async |_pair, machine| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hung-up");
        let line = format!(
            "trap 'echo > {}; exit' HUP; echo go; while :; do sleep 0.01; done",
            path.display()
        );
        let (started, mut output, _sender) = on_terminal(&machine, &line).await;
        until(&mut output, "go\r\n").await;
        let id = started.id;
        drop((started, output));
        is_gone(id).await;
        assert!(path.exists());
    });
}

#[test]
fn the_login_shell_begins_at_home() {
    on_unix(async |_pair, machine| {
        let login = Command::login().env("PS1", "").env("ENV", "");
        let captured = within(
            processes::run(&machine, login)
                .input("echo $0; pwd; echo $HOME\n")
                .output(),
        )
        .await;
        let said = String::from_utf8(captured.unwrap().stdout).unwrap();
        let lines: Vec<_> = said.lines().collect();
        let [.., zeroth, place, home] = lines[..] else {
            panic!("{said}")
        };
        assert!(zeroth.starts_with('-'), "{said}");
        assert_eq!(place, home);
    });
}
