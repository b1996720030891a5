//! Programs that are started, and talk on their standard input and output.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use farref::transport::process::{Outcome, Process, Stderr, ended};
use farref_integration_tests::media::runtime;
use farref_integration_tests::program::{
    agent, children, dial, exec, expect_echo, gone, read_all, read_line, signal,
};

#[test]
fn a_program_that_is_started_talks_on_its_standard_input_and_output() {
    runtime().block_on(async {
        for manner in ["echo", "dial"] {
            let carrier = dial(&exec(manner)).await.unwrap();
            expect_echo(carrier, 4 * 1024 * 1024).await;
        }
    });
}

#[test]
fn a_stray_print_does_not_reach_the_peer() {
    runtime().block_on(async {
        let carrier = dial(&exec("stray").with_option("stderr", "null").unwrap())
            .await
            .unwrap();
        expect_echo(carrier, 1000).await;
    });
}

#[test]
fn standard_input_and_output_are_taken_once() {
    runtime().block_on(async {
        let mut carrier = dial(&exec("twice")).await.unwrap();
        drop(carrier.tx);
        let told = String::from_utf8(read_all(&mut *carrier.rx).await.unwrap()).unwrap();
        assert!(
            told.contains("taken already: a process can do that once"),
            "{told}"
        );
    });
}

#[test]
fn a_token_is_said_first_and_not_passed_on() {
    runtime().block_on(async {
        let token = "0123456789abcdef0123456789abcdef";
        let at = exec("token")
            .with_option("env", &format!("FARREF_TOKEN={token}"))
            .unwrap();
        let mut carrier = dial(&at).await.unwrap();
        drop(carrier.tx);
        let told = String::from_utf8(read_all(&mut *carrier.rx).await.unwrap()).unwrap();
        assert_eq!(told, format!("\n{token}\nnone\n"));
    });
}

#[test]
fn something_else_in_the_place_of_a_token_is_not_said() {
    runtime().block_on(async {
        let at = exec("echo").with_option("env", "FARREF_TOKEN=rm -rf").unwrap();
        expect_echo(dial(&at).await.unwrap(), 100).await;
    });
}

#[test]
fn a_program_ends_when_its_peer_is_gone() {
    runtime().block_on(async {
        let mut carrier = dial(&exec("pid")).await.unwrap();
        let pid = read_line(&mut *carrier.rx).await;
        drop(carrier);
        gone(&pid);
    });
}

#[test]
fn a_program_that_fails_in_the_middle_tells_how() {
    runtime().block_on(async {
        let mut carrier = dial(&exec("fail").with_option("stderr", "log").unwrap())
            .await
            .unwrap();
        assert_eq!(read_line(&mut *carrier.rx).await, "so far so good");
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
        assert_eq!(
            error.to_string(),
            "`farref-test-agent` exited with status 3 (it said: out of paper)"
        );
    });
}

#[test]
fn a_program_ends_when_its_parent_is_ended_by_whatever_signal() {
    runtime().block_on(async {
        for by in ["-INT", "-TERM", "-KILL"] {
            let parent = exec("relay")
                .with_option("arg", &exec("pid").to_string())
                .unwrap();
            let parent = parent.with_option("stderr", "null").unwrap();
            let mut carrier = dial(&parent).await.unwrap();
            let child = read_line(&mut *carrier.rx).await;
            let parents: Vec<_> = children(&exec("pid").to_string());
            let [parent] = &parents[..] else {
                panic!("{parents:?}")
            };
            assert!(signal(by, parent) && signal("-0", &child));
            gone(&child);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_will_do_until_it_hangs_up() {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let shown = openpt(flags).unwrap();
    grantpt(&shown).unwrap();
    unlockpt(&shown).unwrap();
    let inside = ioctl_tiocgptpeer(&shown, flags).unwrap();
    let mut settings = tcgetattr(&inside).unwrap();
    settings.make_raw();
    tcsetattr(&inside, OptionalActions::Now, &settings).unwrap();
    let mut child = Command::new(agent())
        .arg("echo")
        .stdin(inside.try_clone().unwrap())
        .stdout(inside)
        .spawn()
        .unwrap();
    let mut shown = File::from(shown);
    let mut writer = shown.try_clone().unwrap();
    let says: Vec<u8> = (0..100_000_u32).map(|i| (i * 31) as u8).collect();
    let mut heard = vec![0; says.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&says).unwrap());
        shown.read_exact(&mut heard).unwrap();
    });
    assert!(heard == says, "what was heard is not what was said");
    drop((shown, writer));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_socket_will_do_for_both() {
    let (near, far) = UnixStream::pair().unwrap();
    let far: OwnedFd = far.into();
    let mut child = Command::new(agent())
        .arg("echo")
        .stdin(far.try_clone().unwrap())
        .stdout(far)
        .spawn()
        .unwrap();
    let mut writer = near.try_clone().unwrap();
    let says: Vec<u8> = (0..1_000_000_u32).map(|i| (i * 31) as u8).collect();
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&says).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        (&near).read_to_end(&mut heard).unwrap();
    });
    assert!(heard == says && child.wait().unwrap().success());
}

#[test]
fn files_will_do_and_so_will_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let says: Vec<u8> = (0..300_000_u32).map(|i| (i * 31) as u8).collect();
    fs::write(&from, &says).unwrap();
    let run = |input: Stdio, output: Stdio| {
        let status = Command::new(agent())
            .arg("echo")
            .stdin(input)
            .stdout(output)
            .status();
        assert!(status.unwrap().success());
    };
    run(
        File::open(&from).unwrap().into(),
        File::create(&to).unwrap().into(),
    );
    assert!(fs::read(&to).unwrap() == says);
    run(Stdio::null(), Stdio::null());
}

#[cfg(target_os = "linux")]
#[test]
fn other_descriptors_are_taken_by_their_numbers() {
    runtime().block_on(async {
        let script = "exec \"$0\" echo 'stdio:?in=5&out=6' 5<&0 6>&1 0</dev/null 1>/dev/null";
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(script).arg(agent());
        expect_echo(Process::new(sh).spawn().unwrap(), 1_000_000).await;

        let mut missing = Command::new(agent());
        missing.arg("echo").arg("stdio:?in=77").env("RUST_BACKTRACE", "0");
        let mut carrier = Process::new(missing).stderr(Stderr::Log).spawn().unwrap();
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert!(error.to_string().contains("descriptor 77 is not open"), "{error}");
    });
}
