//! Programs that are brought to hosts by ssh: a real ssh, a real sshd, an empty home.

use std::error::Error;
use std::fs::{self, File, FileTimes, Permissions};
use std::future::IntoFuture;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use farref::transport::ssh::{Deploy, Ssh};
use farref::transport::{Address, Carrier, DialError, Media, StreamCarrier};
use farref::{Connection, Netref, connect};
use farref_integration_tests::bench::Bench;
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::program::{agent, children, dial, expect_echo, processes, signal, until};
use farref_integration_tests::sshd::Sshd;

/// An account with an empty home, on a host of its own.
struct Far {
    sshd: Sshd,
    home: PathBuf,
    /// What is brought unless it is another program: it says its token, then what it hears.
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Far {
    /// None where there is no ssh server. `prepare` gets the home; an empty directory `tools` beside it is searched for
    /// programs before all others.
    fn new(configuration: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        Sshd::is_there().then_some(())?;
        let directory = tempfile::tempdir().unwrap();
        let [home, tools] = ["home", "tools"].map(|name| directory.path().join(name));
        for directory in [&home, &tools] {
            fs::create_dir(directory).unwrap();
        }
        prepare(&home);
        let path = std::env::var("PATH").unwrap();
        let place = format!("SetEnv HOME={} PATH={}:{path}", home.display(), tools.display());
        let mut lines = vec![place];
        lines.extend(configuration.iter().map(|line| (*line).to_owned()));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let sshd = Sshd::start(&lines)?;
        let program = directory.path().join("program");
        write_program(&program, "printf '\\n%s\\n' \"$FARREF_TOKEN\"\nexec cat\n");
        Some(Self {
            sshd,
            home,
            program,
            _directory: directory,
        })
    }

    /// The same with tools of its own: scripts that are found before the real ones.
    fn with_tool(configuration: &[&str], tools: &[(&str, &str)]) -> Option<Self> {
        let far = Self::new(configuration, |_| ())?;
        for (name, script) in tools {
            write_program(&far.home.with_file_name("tools").join(name), script);
        }
        Some(far)
    }

    fn address(&self) -> Address {
        self.sshd.bringing(&self.program, &["agent"])
    }

    /// Where programs are kept.
    fn cache(&self) -> PathBuf {
        self.home.join(".cache/farref")
    }

    /// The names of what is there.
    fn kept(&self) -> Vec<String> {
        let found = fs::read_dir(self.cache()).map_or_else(|_| Vec::new(), |entries| entries.collect());
        let names = found
            .into_iter()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Makes the program larger.
    fn pad(&self, bytes: usize) {
        let mut program = fs::read(&self.program).unwrap();
        program.resize(program.len() + bytes, b'#');
        fs::write(&self.program, program).unwrap();
    }

    /// That nothing can be dialled, and why.
    async fn refuses(&self, address: &Address) -> String {
        let error = dial(address).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert!(
            matches!(error, DialError::NotStarted { .. } | DialError::Address { .. }),
            "{error}"
        );
        error.source().unwrap().to_string()
    }
}

async fn joined(address: &Address) -> farref::Result<Connection> {
    within(connect(address).into_future()).await
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Runs a test against a host, if there can be one.
fn with_far<F: Future<Output = ()>>(far: Option<Far>, test: impl FnOnce(Far) -> F) {
    match far {
        Some(far) => runtime().block_on(test(far)),
        None => println!("skipped: tools/test-needs.sh installs what it needs"),
    }
}

/// A file system that is mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    /// None where that is not permitted.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(at)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            println!("skipped: this account may not mount");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_program_is_brought_once() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let brought = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&brought);
        let deploy = Deploy::program("farref").on_progress(move |progress| {
            assert_eq!(progress.host, "127.0.0.1");
            if progress.sent == progress.total {
                seen.fetch_add(progress.total, Ordering::Relaxed);
            }
        });
        let media = Media::none().with(Ssh::new().deploying(deploy));
        let size = far.program.metadata().unwrap().len();
        for _ in 0..3 {
            let Ok(Carrier::Stream(carrier)) = within(media.dial(&far.address())).await else {
                panic!("no carrier")
            };
            expect_echo(carrier, 100_000).await;
            assert_eq!(brought.load(Ordering::Relaxed), size);
        }
        let kept = far.kept();
        assert!(kept.len() == 1 && kept[0].len() == 64, "{kept:?}");
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(far.cache()), 0o700);
        assert_eq!(mode(far.cache().join(&kept[0])), 0o700);
        // Nor is there anything elsewhere.
        assert_eq!(fs::read_dir(&far.home).unwrap().count(), 1);
        let always = far.address().with_option("deploy", "always").unwrap();
        assert!(within(media.dial(&always)).await.is_ok());
        assert_eq!(brought.load(Ordering::Relaxed), 2 * size);
        assert_eq!(far.kept(), kept);
    });
}

#[test]
fn whatever_the_login_shell_is_a_program_is_brought() {
    for shell in ["sh", "bash", "dash", "zsh", "ksh", "fish", "tcsh", "busybox sh"] {
        let program = shell.split(' ').next().unwrap();
        if Command::new(program).arg("--help").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI needs {program}");
            println!("{shell}: skipped, tools/test-needs.sh installs it");
            continue;
        }
        let login = format!("ForceCommand exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"");
        with_far(Far::new(&[&login], |_| ()), async |far| {
            for _ in 0..2 {
                let carrier = dial(&far.address()).await;
                expect_echo(carrier.unwrap_or_else(|error| panic!("{shell}: {error:?}")), 1000).await;
            }
            assert_eq!(far.kept().len(), 1);
        });
    }
}

/// The script itself may be run by whatever `sh` is.
#[test]
fn whatever_sh_is_a_program_is_brought() {
    for shell in ["bash", "dash", "zsh", "ksh", "busybox"] {
        let Ok(found) = Command::new("which").arg(shell).output() else {
            continue;
        };
        let path = String::from_utf8(found.stdout).unwrap();
        if path.is_empty() {
            continue;
        }
        let far = Far::new(&[], |_| ());
        with_far(far, async |far| {
            std::os::unix::fs::symlink(path.trim(), far.home.with_file_name("tools").join("sh")).unwrap();
            for _ in 0..2 {
                let carrier = dial(&far.address()).await;
                expect_echo(carrier.unwrap_or_else(|error| panic!("{shell}: {error:?}")), 1000).await;
            }
            assert_eq!(far.kept().len(), 1, "{shell}");
        });
    }
}

#[test]
fn what_start_up_files_print_is_not_heard() {
    let noisy = "ForceCommand echo Welcome; printf 'no end of line'; eval \"$SSH_ORIGINAL_COMMAND\"";
    let rc = |home: &Path| fs::write(home.join(".bashrc"), "echo noise; echo noise >&2\n").unwrap();
    for configuration in [&[][..], &[noisy]] {
        with_far(Far::new(configuration, rc), async |far| {
            for _ in 0..2 {
                expect_echo(dial(&far.address()).await.unwrap(), 10_000).await;
            }
        });
    }
}

#[test]
fn many_who_bring_the_same_program_at_once_do_not_get_in_each_others_way() {
    with_far(Far::new(&[], |_| ()), async |far| {
        far.pad(1024 * 1024);
        let address = far.address();
        let all = tokio::join!(dial(&address), dial(&address), dial(&address), dial(&address));
        for carrier in [all.0, all.1, all.2, all.3] {
            expect_echo(carrier.unwrap(), 1000).await;
        }
        assert_eq!(far.kept().len(), 1);
    });
}

#[test]
fn an_upload_that_is_cut_leaves_nothing_and_the_next_one_works() {
    with_far(Far::new(&[], |_| ()), async |far| {
        far.pad(16 * 1024 * 1024);
        let half = Arc::new(tokio::sync::Notify::new());
        let tell = Arc::clone(&half);
        let deploy = Deploy::program("farref").on_progress(move |progress| {
            if progress.sent > progress.total / 2 {
                tell.notify_one();
            }
        });
        let media = Media::none().with(Ssh::new().deploying(deploy));
        let address = far.address();
        tokio::select! {
            biased;
            () = within(half.notified()) => {}
            dialled = media.dial(&address) => panic!("{dialled:?}"),
        }
        until("nothing is left", || far.kept().is_empty());
        expect_echo(dial(&far.address()).await.unwrap(), 1000).await;
        assert_eq!(far.kept().len(), 1);
    });
}

#[test]
fn a_program_that_was_tampered_with_is_not_run_but_brought_anew() {
    with_far(Far::new(&[], |_| ()), async |far| {
        expect_echo(dial(&far.address()).await.unwrap(), 1000).await;
        let kept = far.cache().join(&far.kept()[0]);
        let right = fs::read(&kept).unwrap();
        write_program(&kept, "echo $$ >\"$HOME/was-run\"\n");
        let never = far.address().with_option("deploy", "never").unwrap();
        let told = far.refuses(&never).await;
        assert!(told.contains("not what its name says"), "{told}");
        expect_echo(dial(&far.address()).await.unwrap(), 1000).await;
        assert_eq!(fs::read(&kept).unwrap(), right);
        assert!(!far.home.join("was-run").exists());
    });
}

#[test]
fn the_three_programs_that_were_used_last_are_kept() {
    with_far(Far::new(&[], |_| ()), async |far| {
        fs::create_dir_all(far.cache()).unwrap();
        let old = |name: &str, days: u64| {
            let file = File::create(far.cache().join(name)).unwrap();
            let time = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
            file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
                .unwrap();
        };
        for digit in 1..=4 {
            old(&digit.to_string().repeat(64), digit);
        }
        old("somebody's own", 100);
        old(&format!(".{}.1.tmp", "f".repeat(64)), 2);
        expect_echo(dial(&far.address()).await.unwrap(), 1000).await;
        let kept = far.kept();
        assert_eq!(kept.len(), 4, "{kept:?}");
        for name in ["1".repeat(64), "2".repeat(64), "somebody's own".to_owned()] {
            assert!(kept.contains(&name), "{name}: {kept:?}");
        }
    });
}

#[test]
fn a_place_of_ones_own_is_used() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let elsewhere = far.home.with_file_name("it's elsewhere");
        let text = elsewhere.to_str().unwrap();
        for (path, place) in [
            (text, &elsewhere),
            ("~/a b", &far.home.join("a b")),
            ("c", &far.home.join("c")),
        ] {
            let address = far.address().with_option("path", path).unwrap();
            expect_echo(dial(&address).await.unwrap(), 1000).await;
            assert_eq!(fs::read_dir(place).unwrap().count(), 1, "{path}");
        }
        assert!(!far.cache().exists());
    });
}

#[test]
fn where_nothing_computes_hashes_the_program_looks_at_itself() {
    let without = ["sha256sum", "shasum", "openssl", "sha256"];
    with_far(
        Far::new(
            &["ForceCommand PATH=$HOME/../tools; eval \"$SSH_ORIGINAL_COMMAND\""],
            |_| (),
        ),
        async |far| {
            // Everything but those.
            let tools = far.home.with_file_name("tools");
            for name in [
                "sh", "cat", "chmod", "df", "find", "getconf", "head", "id", "ls", "mkdir", "mv", "rm",
                "tail", "uname", "wc",
            ] {
                let found = ["/usr/bin", "/bin"]
                    .iter()
                    .map(|place| Path::new(place).join(name));
                let found = found.into_iter().find(|path| path.exists()).unwrap();
                std::os::unix::fs::symlink(found, tools.join(name)).unwrap();
            }
            assert!(without.iter().all(|name| !tools.join(name).exists()));
            let address = far
                .sshd
                .bringing(&agent(), &["agent"])
                .with_option("persist", "0")
                .unwrap();
            for _ in 0..2 {
                let connection = joined(&address).await.unwrap();
                let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
                assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
            }
            let kept = far.cache().join(&far.kept()[0]);
            let mut wrong = fs::read(&kept).unwrap();
            wrong.push(0);
            fs::write(&kept, wrong).unwrap();
            let told = joined(&address).await.unwrap_err().to_string();
            assert!(told.contains("not what its name says"), "{told}");
        },
    );
}

#[test]
fn what_a_host_cannot_take_in_is_told_in_one_message() {
    let nothing = |_: &Path| ();
    // Where programs may not be run, nothing may be written, or there is no room.
    for (options, told) in [
        ("noexec,size=4m,mode=755", ["`noexec`", "`path=`"]),
        ("ro,size=4m,mode=755", ["Read-only file system", "`path=`"]),
        ("size=64k,mode=755", ["no space left", "it needs 0.2 MiB"]),
    ] {
        let mut mounted = None;
        let far = Far::new(&[], |home| mounted = Mounted::tmpfs(home, options));
        if mounted.is_none() {
            continue;
        }
        with_far(far, async |far| {
            far.pad(200_000);
            let said = far.refuses(&far.address()).await;
            assert!(told.iter().all(|told| said.contains(told)), "{options}: {said}");
            assert!(far.kept().is_empty(), "{options}");
        });
    }
    // The disk becomes full on the way.
    let mut mounted = None;
    let far = Far::new(&[], |home| mounted = Mounted::tmpfs(home, "size=64k,mode=755"));
    if mounted.is_some() {
        with_far(far, async |far| {
            write_program(
                &far.home.with_file_name("tools").join("df"),
                "echo a b c 9999999 d e\n",
            );
            far.pad(16 * 1024 * 1024);
            let said = far.refuses(&far.address()).await;
            assert!(
                said.contains("no space left") && said.contains("No space left on device"),
                "{said}"
            );
            assert!(far.kept().is_empty());
        });
    }
    // Somebody else's directory.
    with_far(Far::new(&[], nothing), async |far| {
        fs::create_dir_all(far.cache()).unwrap();
        if chown(far.cache(), Some(65534), None).is_ok() {
            let said = far.refuses(&far.address()).await;
            assert!(said.contains("no directory of this account alone"), "{said}");
        }
        fs::remove_dir(far.cache()).unwrap();
        fs::write(far.cache(), "").unwrap();
        let said = far.refuses(&far.address()).await;
        assert!(
            said.contains("cannot be made") && said.contains("`path=`"),
            "{said}"
        );
    });
    // A program that is not to be brought.
    with_far(Far::new(&[], nothing), async |far| {
        let never = far.address().with_option("deploy", "never").unwrap();
        let said = far.refuses(&never).await;
        assert!(
            said.contains("is not on the host") && said.contains("`deploy=never`"),
            "{said}"
        );
        assert!(!far.home.join(".cache").exists());
        expect_echo(dial(&far.address()).await.unwrap(), 10).await;
        expect_echo(dial(&never).await.unwrap(), 10).await;
    });
}

#[test]
fn a_host_for_which_there_is_no_program_is_told_which_one_is_missing() {
    let uname = "case $1$2 in -s) echo Linux ;; -m) echo sparc64 ;; *) echo Linux sparc64 ;; esac\n";
    with_far(Far::with_tool(&[], &[("uname", uname)]), async |far| {
        let place = tempfile::tempdir().unwrap();
        let deploy = Deploy::this_program().directory(place.path());
        let media = Media::none().with(Ssh::new().deploying(deploy));
        let address = far.address().to_string();
        let agent = format!("agent={}&", far.program.display());
        let address: Address = address.replace(&agent, "").parse().unwrap();
        assert_eq!(address.option("agent"), None);
        let error = within(media.dial(&address)).await.unwrap_err();
        let said = error.source().unwrap().to_string();
        let name = std::env::current_exe().unwrap().file_stem().unwrap().to_owned();
        let name = name.to_str().unwrap();
        let file = format!("put `{name}-linux-sparc64` into {}", place.path().display());
        assert!(said.contains(&file) && said.contains("is built for"), "{said}");
        // A program for that host is brought, and is none of this one's.
        fs::copy(
            agent_for_sparc(&far),
            place.path().join(format!("{name}-linux-sparc64")),
        )
        .unwrap();
        let error = within(media.dial(&address)).await.unwrap_err();
        let said = error.source().unwrap().to_string();
        assert!(matches!(error, DialError::NotStarted { .. }), "{said}");
        assert!(said.contains("does not run the program"), "{said}");
    });
    let libc = "echo glibc 2.2\n";
    with_far(Far::with_tool(&[], &[("getconf", libc)]), async |far| {
        let said = far.refuses(&far.sshd.bringing(&agent(), &["echo"])).await;
        if cfg!(target_env = "gnu") {
            assert!(
                said.contains("needs glibc 2.") && said.contains("the host has glibc 2.2"),
                "{said}"
            );
        }
    });
    with_far(Far::with_tool(&[], &[("uname", "exit 127\n")]), async |far| {
        let said = far.refuses(&far.address()).await;
        assert!(said.contains("`uname`") && said.contains("`command=`"), "{said}");
    });
    with_far(Far::with_tool(&[], &[("head", "exit 1\n")]), async |far| {
        let said = far.refuses(&far.address()).await;
        assert!(said.contains("`head -c`"), "{said}");
    });
}

/// What a kernel of another kind would run: the beginning of a program for it.
fn agent_for_sparc(far: &Far) -> PathBuf {
    let mut program = fs::read(agent()).unwrap();
    program.truncate(4096);
    program[18..20].copy_from_slice(&43_u16.to_be_bytes());
    program[5] = 2; // the other end first
    let path = far.home.with_file_name("foreign");
    fs::write(&path, program).unwrap();
    path
}

#[test]
fn a_program_that_does_not_start_over_there_is_told_why() {
    for (script, told) in [
        (
            "echo \"$0: libc.so.6: version \\`GLIBC_2.99' not found (required by $0)\" >&2; exit 1\n",
            "built for a newer C library",
        ),
        ("exit 0\n", "when it is started with the arguments it is given"),
        ("echo out of paper >&2; exit 3\n", "out of paper"),
    ] {
        with_far(Far::new(&[], |_| ()), async |far| {
            write_program(&far.program, script);
            let said = far.refuses(&far.address()).await;
            assert!(said.contains(told), "{said}");
        });
    }
    with_far(Far::new(&[], |_| ()), async |far| {
        // As on a host with another C library.
        let mut program = fs::read(agent()).unwrap();
        let Some(at) = program.windows(10).position(|part| part == b"ld-linux-x") else {
            return;
        };
        program[at..at + 10].copy_from_slice(b"ld-nowhere");
        fs::write(&far.program, program).unwrap();
        let said = far.refuses(&far.address()).await;
        assert!(said.contains("not the loader or the C library"), "{said}");
    });
}

#[test]
fn an_account_that_does_not_run_the_script_is_told_so() {
    for (configuration, told) in [
        (
            "ForceCommand echo nothing for you",
            ["`nothing for you`", "ForceCommand"],
        ),
        (
            "ForceCommand true",
            ["without another command in authorized_keys", "`command=`"],
        ),
        (
            "ForceCommand false",
            ["without another command in authorized_keys", "must have a shell"],
        ),
        (
            "ForceCommand exec rbash -c \"$SSH_ORIGINAL_COMMAND\"",
            ["no shell that runs", "restricted"],
        ),
        (
            "ForceCommand /usr/sbin/nologin",
            ["must have a shell", "not available"],
        ),
    ] {
        with_far(Far::new(&[configuration], |_| ()), async |far| {
            let said = far.refuses(&far.address()).await;
            assert!(
                told.iter().all(|told| said.contains(told)),
                "{configuration}: {said}"
            );
            assert!(!far.home.join(".cache").exists());
        });
    }
    with_far(Far::new(&[], |_| ()), async |far| {
        let keys = far.sshd.path("authorized_keys");
        let key = fs::read_to_string(&keys).unwrap();
        fs::write(&keys, format!("command=\"cat\" {key}")).unwrap();
        let address = far.address().with_option("wait", "2s").unwrap();
        let error = dial(&address).await.unwrap_err();
        let said = error.source().unwrap().to_string();
        assert!(
            said.contains("within 2s") && said.contains("authorized_keys"),
            "{error}: {said}"
        );
    });
}

/// The processes of a program that was brought to this host.
fn running(far: &Far) -> Vec<String> {
    processes(far.cache().to_str().unwrap())
}

fn sockets(far: &Far) -> Vec<String> {
    let mut kept = far.kept();
    kept.retain(|name| name.ends_with(".sock"));
    kept
}

/// Ends every ssh that was started here for that host.
fn kill_ssh(far: &Far) {
    let word = far.sshd.path("known_hosts");
    let all = children(word.to_str().unwrap());
    assert!(!all.is_empty());
    for pid in all {
        assert!(signal("-KILL", &pid));
    }
}

#[test]
fn a_session_goes_on_when_its_ssh_dies() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let address = far.sshd.bringing(&agent(), &["agent", "100"]);
        let connection = joined(&address).await.unwrap();
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        let counter = within(bench.call().counter()).await.unwrap();
        assert_eq!(within(counter.call().next()).await.unwrap(), 1);
        for count in 2..5 {
            kill_ssh(&far);
            assert_eq!(within(counter.call().next()).await.unwrap(), count);
        }
        // The keeper and one proxy.
        until("the proxies of the past are gone", || running(&far).len() == 2);
        within(connection.close()).await;
        until("all is over", || running(&far).is_empty());
        let kept = far.kept();
        assert!(kept.len() == 1 && kept[0].len() == 64, "{kept:?}");
    });
}

#[test]
fn a_keeper_serves_all_who_come_and_each_version_has_its_own() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let address = far.sshd.bringing(&agent(), &["agent", "100"]);
        let (one, two) = tokio::join!(joined(&address), joined(&address));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(sockets(&far).len(), 1);
        let mode = far
            .cache()
            .join(&sockets(&far)[0])
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::copy(agent(), &far.program).unwrap();
        far.pad(1);
        let newer = far.sshd.bringing(&far.program, &["agent", "100"]);
        let three = joined(&newer).await.unwrap();
        assert_eq!(sockets(&far).len(), 2);
        for connection in [one, two, three] {
            let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
            assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
            within(connection.close()).await;
        }
        until("all is over", || running(&far).is_empty());
        assert_eq!(sockets(&far), [""; 0]);
    });
}

#[test]
fn a_keeper_that_was_killed_is_in_nobodys_way() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let address = far.sshd.bringing(&agent(), &["agent", "100"]);
        let connection = joined(&address).await.unwrap();
        for pid in running(&far) {
            signal("-KILL", &pid);
        }
        assert_eq!(sockets(&far).len(), 1);
        within(connection.closed()).await;
        let connection = joined(&address).await.unwrap();
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
        within(connection.close()).await;
        until("all is over", || running(&far).is_empty());
        assert_eq!(sockets(&far), [""; 0]);
    });
}

#[test]
fn without_persist_all_ends_with_ssh() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let address = far
            .sshd
            .bringing(&agent(), &["agent"])
            .with_option("persist", "0")
            .unwrap();
        let connection = joined(&address).await.unwrap();
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 2)).await.unwrap(), 3);
        assert_eq!((running(&far).len(), sockets(&far).len()), (1, 0));
        drop((bench, connection));
        until("all is over", || running(&far).is_empty());
    });
}

#[test]
fn ssh_does_not_wait_for_the_keeper() {
    with_far(Far::new(&[], |_| ()), async |far| {
        let address = far.sshd.bringing(&agent(), &["agent", "600000"]);
        let carrier: StreamCarrier = dial(&address).await.unwrap();
        let word = far.sshd.path("known_hosts");
        let word = word.to_str().unwrap();
        assert_eq!(children(word).len(), 1);
        until("a keeper and a proxy run", || running(&far).len() == 2);
        drop(carrier);
        until("ssh is gone", || children(word).is_empty());
        until("the proxy is gone", || running(&far).len() == 1);
        for pid in running(&far) {
            assert!(signal("-KILL", &pid));
        }
    });
}
