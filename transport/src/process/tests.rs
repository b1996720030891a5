use std::future::poll_fn;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, test_kill_process};

use super::*;
use crate::testing::{block_on, read_all, read_some, write_all};

/// A child that runs a script.
fn script(text: &str) -> Process {
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(text);
    Process::new(sh)
}

/// Reads one line.
async fn line(carrier: &mut StreamCarrier) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let some = read_some(&mut *carrier.rx).await.unwrap();
        assert!(!some.is_empty());
        line.extend_from_slice(&some);
    }
    String::from_utf8(line).unwrap()
}

/// Reads one line, which is the id of a process.
async fn pid(carrier: &mut StreamCarrier) -> Pid {
    Pid::from_raw(line(carrier).await.trim().parse().unwrap()).unwrap()
}

/// Waits until there is no such process, not even as a zombie.
fn gone(pid: Pid) {
    let begun = Instant::now();
    while test_kill_process(pid).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{pid:?} is still there"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process that is no child of ours runs no more; who reaps it is the system's matter.
fn dead(pid: Pid) {
    let begun = Instant::now();
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    while test_kill_process(pid).is_ok() && !is_zombie() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{pid:?} still runs");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What the end of a script is told as.
fn end_of(process: Process) -> io::Result<Vec<u8>> {
    block_on(async { read_all(&mut *process.spawn().unwrap().rx).await })
}

#[test]
fn a_child_that_ends_well_is_an_end_of_the_stream() {
    assert_eq!(end_of(script("echo bye")).unwrap(), b"bye\n");
}

#[test]
fn a_child_that_fails_is_an_error_that_tells_its_status() {
    let error = end_of(script("exit 3").name("agent")).unwrap_err();
    assert_eq!(error.to_string(), "`agent` exited with status 3 before it spoke");
    let error = end_of(script("echo x; kill -9 $$")).unwrap_err();
    let ended = ended(&error).unwrap();
    assert_eq!((ended.outcome(), ended.has_spoken()), (Outcome::Killed(9), true));
    let error = end_of(script("exit 0")).unwrap_err();
    assert_eq!(error.to_string(), "`sh` exited with status 0 before it spoke");
}

#[test]
fn a_child_that_was_told_all_it_needs_may_end_in_silence() {
    block_on(async {
        let mut carrier = script("cat > /dev/null").spawn().unwrap();
        write_all(&mut *carrier.tx, b"x").await.unwrap();
        poll_fn(|cx| carrier.tx.poll_close(cx)).await.unwrap();
        assert_eq!(read_all(&mut *carrier.rx).await.unwrap(), b"");
    });
}

#[test]
fn all_that_a_child_said_comes_before_its_end() {
    for _ in 0..20 {
        block_on(async {
            let mut carrier = script("head -c 300000 /dev/zero; exit 3").spawn().unwrap();
            let mut heard = 0;
            let error = loop {
                match read_some(&mut *carrier.rx).await {
                    Ok(some) => heard += some.len(),
                    Err(error) => break error,
                }
            };
            assert_eq!(
                (heard, ended(&error).unwrap().outcome()),
                (300_000, Outcome::Exited(3))
            );
        });
    }
}

#[test]
fn a_child_that_only_closes_its_output_is_an_end() {
    block_on(async {
        let mut carrier = script("echo $$; exec >&-; cat > /dev/null").spawn().unwrap();
        let child = pid(&mut carrier).await;
        assert_eq!(read_all(&mut *carrier.rx).await.unwrap(), b"");
        write_all(&mut *carrier.tx, b"still heard").await.unwrap();
        drop(carrier);
        gone(child);
    });
}

#[test]
fn a_process_left_behind_with_the_pipe_does_not_hold_up_the_end() {
    block_on(async {
        let mut carrier = script("sleep 1000 & echo $!; exit 3").spawn().unwrap();
        let left = pid(&mut carrier).await;
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
        drop(carrier);
        dead(left);
    });
}

#[test]
fn a_thread_that_waits_without_the_runtime_hears_of_the_end() {
    block_on(async {
        let mut carrier = script("sleep 1000 & echo $!; exit 3").spawn().unwrap();
        let left = pid(&mut carrier).await;
        let StreamCarrier { mut rx, guard, .. } = carrier;
        let waiting = thread::spawn(move || {
            let mut into = BytesMut::with_capacity(64);
            loop {
                match rx.try_read(&mut into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        rx.descriptor().unwrap().wait_readable(None, None).unwrap();
                    }
                    read => return read.unwrap_err(),
                }
            }
        });
        let error = waiting.join().unwrap();
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
        drop(guard);
        dead(left);
    });
}

#[test]
fn a_program_can_wait_for_the_end_of_all_its_children() {
    block_on(async {
        let mut carrier = script("trap '' TERM; echo $$; while :; do sleep 0.01; done")
            .patience(Duration::from_millis(10))
            .spawn()
            .unwrap();
        let child = pid(&mut carrier).await;
        drop(carrier);
        assert!(!all_ended(Duration::ZERO));
        assert!(all_ended(Duration::from_secs(60)));
        assert!(test_kill_process(child).is_err());
    });
}

#[test]
fn what_a_child_said_last_is_told_with_its_end() {
    let error =
        end_of(script("for i in 1 2 3 4 5 6 7 8 9; do echo e$i >&2; done; exit 1").stderr(Stderr::Log))
            .unwrap_err();
    let said = ended(&error).unwrap().last_words();
    assert_eq!(said, "e2 | e3 | e4 | e5 | e6 | e7 | e8 | e9");
    assert!(
        error
            .to_string()
            .ends_with("(it said: e2 | e3 | e4 | e5 | e6 | e7 | e8 | e9)")
    );
}

/// Takes note of what is logged, field by field.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                self.0.lock().unwrap().push(format!("{field}={value:?}"));
            },
        );
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn what_a_child_says_on_its_standard_error_is_logged_under_its_name() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let text = "echo one >&2; printf 'tw\\033o' >&2; echo said";
    let process = script(text).name("agent").stderr(Stderr::Log);
    assert_eq!(end_of(process).unwrap(), b"said\n");
    let logged = log.0.lock().unwrap();
    let expected = [
        "message=one",
        "child=\"agent\"",
        "message=tw\\u{1b}o",
        "child=\"agent\"",
    ];
    assert_eq!(*logged, expected);
}

#[test]
fn who_writes_to_a_child_that_failed_hears_how() {
    block_on(async {
        let mut carrier = script("exit 3").spawn().unwrap();
        let _ = read_all(&mut *carrier.rx).await;
        let error = write_all(&mut *carrier.tx, b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
    });
}

#[test]
fn who_writes_hears_how_the_child_ended_even_if_it_notices_first() {
    // The pipe used to break before the end of the child was known, and then nobody was told the status.
    block_on(async {
        let mut carrier = script("exec <&-; sleep 0.1; exit 3").spawn().unwrap();
        let error = loop {
            if let Err(error) = write_all(&mut *carrier.tx, &[0; 1000]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
    });
}

#[test]
fn a_child_that_only_stops_reading_can_still_be_heard() {
    block_on(async {
        let mut carrier = script("exec <&-; read -r go < \"$0\"; echo bye; exit 3");
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        carrier.command.arg(&fifo);
        let mut carrier = carrier.spawn().unwrap();
        let error = loop {
            if let Err(error) = write_all(&mut *carrier.tx, &[0; 1000]).await {
                break error;
            }
        };
        assert!(error.kind() == io::ErrorKind::BrokenPipe && ended(&error).is_none());
        std::fs::write(&fifo, "go\n").unwrap();
        assert_eq!(&read_some(&mut *carrier.rx).await.unwrap()[..], b"bye\n");
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Exited(3));
    });
}

#[test]
fn a_child_ends_with_its_input_and_leaves_no_zombie() {
    block_on(async {
        let mut carrier = script("echo $$; exec cat")
            .patience(Duration::from_secs(1000))
            .spawn()
            .unwrap();
        let child = pid(&mut carrier).await;
        drop(carrier);
        gone(child);
    });
}

#[test]
fn a_child_that_does_not_care_is_told_by_a_signal() {
    block_on(async {
        let text = "trap 'echo told > \"$0\"; exit 0' TERM; echo $$; while :; do sleep 0.01; done";
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("note");
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(text).arg(&note);
        let mut carrier = Process::new(sh)
            .patience(Duration::from_millis(10))
            .spawn()
            .unwrap();
        let child = pid(&mut carrier).await;
        drop(carrier);
        gone(child);
        assert_eq!(std::fs::read(&note).unwrap(), b"told\n");
    });
}

#[test]
fn a_child_that_does_not_hear_signals_is_killed_with_its_whole_group() {
    block_on(async {
        let text = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done";
        let mut carrier = script(text).patience(Duration::from_millis(10)).spawn().unwrap();
        let grandchild = pid(&mut carrier).await;
        drop(carrier);
        dead(grandchild);
    });
}

#[test]
fn a_runtime_that_is_shut_down_takes_its_children_along() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (carrier, child) = runtime.block_on(async {
        let mut carrier = script("echo $$; exec sleep 1000")
            .patience(Duration::from_millis(10))
            .spawn()
            .unwrap();
        let child = pid(&mut carrier).await;
        (carrier, child)
    });
    runtime.spawn(async move {
        let _carrier = carrier;
        std::future::pending::<()>().await;
    });
    runtime.shutdown_background();
    gone(child);
}

/// What a runtime leaves of a child whose carrier a task of its own holds, or was dropped just before.
fn after_runtime(mut builder: tokio::runtime::Builder, process: Process, is_held: bool) -> Pid {
    let runtime = builder.enable_all().build().unwrap();
    let (carrier, child) = runtime.block_on(async {
        let mut carrier = process.spawn().unwrap();
        let child = pid(&mut carrier).await;
        (carrier, child)
    });
    if is_held {
        runtime.spawn(async move {
            let _carrier = carrier;
            std::future::pending::<()>().await;
        });
    } else {
        runtime.block_on(async move { drop(carrier) });
    }
    drop(runtime);
    child
}

#[test]
fn a_program_that_ends_leaves_no_child_behind() {
    use tokio::runtime::Builder;
    thread::scope(|scope| {
        for is_held in [true, false] {
            for builder in [Builder::new_current_thread, Builder::new_multi_thread] {
                // One that hears nothing used to outlive a `main` that had just dropped its carrier.
                scope.spawn(move || {
                    let deaf = script("trap '' TERM; echo $$; while :; do sleep 0.01; done");
                    let deaf = deaf.patience(Duration::from_millis(10));
                    let child = after_runtime(builder(), deaf, is_held);
                    assert!(test_kill_process(child).is_err(), "held: {is_held}");
                });
                // And one that ends in order has the time for it.
                scope.spawn(move || {
                    let directory = tempfile::tempdir().unwrap();
                    let note = directory.path().join("note");
                    let willing = script("echo $$; cat > /dev/null; sleep 0.1; echo done > \"$0\"");
                    let mut willing = willing.patience(Duration::from_secs(1000));
                    willing.command.arg(&note);
                    let child = after_runtime(builder(), willing, is_held);
                    assert!(test_kill_process(child).is_err(), "held: {is_held}");
                    assert_eq!(std::fs::read(&note).unwrap(), b"done\n");
                });
            }
        }
    });
}

#[test]
fn a_child_is_out_of_reach_of_the_terminals_ctrl_c_unless_it_is_to_be() {
    block_on(async {
        for own_group in [true, false] {
            let text = "echo $$ $(ps -o pgid= -p $$); exec cat";
            let mut carrier = script(text).own_group(own_group).spawn().unwrap();
            let told = line(&mut carrier).await;
            let (child, group) = told.trim().split_once(' ').unwrap();
            assert_eq!(group == child, own_group, "{told}");
        }
    });
}

#[test]
fn a_child_without_a_group_of_its_own_is_ended_too() {
    block_on(async {
        let text = "echo $$; exec sleep 1000";
        let process = script(text).own_group(false).patience(Duration::from_millis(10));
        let mut carrier = process.spawn().unwrap();
        let child = pid(&mut carrier).await;
        drop(carrier);
        gone(child);
    });
}

#[test]
fn a_token_that_was_meant_for_the_child_reaches_it() {
    // That ours does not is tried by the program that the tests of ssh start.
    let mut sh = Command::new("sh");
    sh.arg("-c")
        .arg("echo ${FARREF_TOKEN-none}")
        .env(token::VARIABLE, "asked");
    assert_eq!(end_of(Process::new(sh)).unwrap(), b"asked\n");
}

#[test]
fn both_directions_are_heard_at_once() {
    block_on(async {
        let StreamCarrier {
            mut rx,
            mut tx,
            guard,
            ..
        } = script("exec cat").spawn().unwrap();
        let says: Vec<u8> = (0..2_000_000_u32).map(|i| (i * 31) as u8).collect();
        let write = async {
            write_all(&mut *tx, &says).await.unwrap();
            poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        };
        let ((), heard) = tokio::join!(write, read_all(&mut *rx));
        assert!(heard.unwrap() == says, "what was heard is not what was said");
        drop(guard);
    });
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_child() {
    assert!(script("echo").spawn().is_err());
}
