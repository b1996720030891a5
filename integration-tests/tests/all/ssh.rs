//! Programs on other hosts, by a real ssh and a real sshd.

use std::error::Error;
use std::fs;
use std::future::poll_fn;
use std::process::Command;

use farref::transport::address::Target;
use farref::transport::process::{Outcome, ended};
use farref::transport::{Address, Carrier, DialError, Media, PeerEvidence};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::program::{
    children, command, dial, exec, expect_echo, gone, read, read_all, read_line, signal, write_all,
};
use farref_integration_tests::sshd::Sshd;

/// Runs a test against a server, if there can be one.
fn with_sshd<F: Future<Output = ()>>(configuration: &[&str], test: impl FnOnce(Sshd) -> F) {
    if let Some(sshd) = Sshd::start(configuration) {
        runtime().block_on(test(sshd));
    }
}

/// The error of a dial, and its cause in words.
async fn refused(address: &Address) -> (DialError, String) {
    let error = dial(address).await.unwrap_err();
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    (error, cause)
}

#[test]
fn a_program_on_another_host_is_talked_to() {
    with_sshd(&[], async |sshd| {
        let address = sshd.address(&command("echo"));
        let carrier = dial(&address).await.unwrap();
        let info = &carrier.info;
        assert_eq!((info.medium, info.remote.as_ref()), ("ssh", Some(&address)));
        assert!(info.confidential && info.may_be_lost && info.reliable);
        let evidence = PeerEvidence::Ssh {
            user: sshd.user().to_owned(),
            host: "127.0.0.1".to_owned(),
        };
        assert_eq!(info.peer, evidence);
        expect_echo(carrier, 4 * 1024 * 1024).await;
    });
}

#[test]
fn the_account_is_that_of_sshs_configuration_where_the_address_names_none() {
    with_sshd(&[], async |sshd| {
        let config = sshd.path("ssh_config");
        fs::write(&config, format!("User {}\n", sshd.user())).unwrap();
        let text = sshd.address(&command("echo")).to_string();
        let text = text
            .replace(&format!("{}@", sshd.user()), "")
            .replace("config=none", &format!("config={}", config.display()));
        let carrier = dial(&text.parse().unwrap()).await.unwrap();
        let PeerEvidence::Ssh { user, .. } = &carrier.info.peer else {
            panic!("no evidence")
        };
        assert_eq!(user, sshd.user());
        expect_echo(carrier, 10).await;
    });
}

#[test]
fn a_program_that_listens_on_another_host_is_reached_by_a_tunnel() {
    with_sshd(&[], async |sshd| {
        let at: Address = "plain+tcp://127.0.0.1:0".parse().unwrap();
        let mut listener = Media::standard().listen(&at).await.unwrap();
        let Target::Tcp { port, .. } = *listener.local_addresses()[0].target() else {
            panic!("not TCP")
        };
        let dialled = dial(&sshd.tunnel(port)).await.unwrap();
        let Carrier::Stream(accepted) = within(listener.accept()).await.unwrap() else {
            panic!("TCP has one stream")
        };
        let mut ends = [dialled, accepted];
        for (from, to) in [(0, 1), (1, 0)] {
            write_all(&mut *ends[from].tx, b"through").await.unwrap();
            poll_fn(|cx| ends[from].tx.poll_close(cx)).await.unwrap();
            assert_eq!(read_all(&mut *ends[to].rx).await.unwrap(), b"through");
        }
    });
}

#[test]
fn a_tunnel_that_leads_nowhere_says_so_at_the_first_read() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    for (configuration, meaning) in [
        (&[][..], "nobody listens at that port"),
        (&["AllowTcpForwarding no"][..], "opens no tunnels"),
    ] {
        with_sshd(configuration, async |sshd| {
            let mut carrier = dial(&sshd.tunnel(port)).await.unwrap();
            let error = within(read(&mut *carrier.rx)).await.unwrap_err().to_string();
            assert!(error.contains(meaning), "{error}");
        });
    }
}

#[test]
fn what_a_login_shell_prints_first_is_not_heard() {
    let noisy = "ForceCommand echo Welcome; printf 'no end of line'; eval \"$SSH_ORIGINAL_COMMAND\"";
    with_sshd(&[noisy], async |sshd| {
        expect_echo(dial(&sshd.address(&command("echo"))).await.unwrap(), 100_000).await;
    });
}

#[test]
fn whatever_the_login_shell_is_the_command_is_run() {
    for shell in ["sh", "bash", "dash", "zsh", "fish", "tcsh"] {
        if Command::new(shell).args(["-c", "exit"]).output().is_err() {
            continue;
        }
        let login = format!("ForceCommand exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"");
        with_sshd(&[&login], async |sshd| {
            let odd = "X='a\\b!'; test \"$X\" = 'a\\b'\"!\" && cd / && exec ";
            let carrier = dial(&sshd.address(&format!("{odd}{}", command("echo")))).await;
            expect_echo(
                carrier.unwrap_or_else(|error| panic!("{shell}: {:?}", error)),
                1000,
            )
            .await;
        });
    }
}

#[test]
fn noise_without_end_is_given_up() {
    let noisy = "ForceCommand head -c 200000 /dev/zero | tr '\\0' x; eval \"$SSH_ORIGINAL_COMMAND\"";
    with_sshd(&[noisy], async |sshd| {
        let (error, cause) = refused(&sshd.address(&command("echo"))).await;
        assert!(matches!(error, DialError::Address { .. }), "{error}");
        assert!(
            cause.contains("more than 64 KiB") && cause.contains("`xxx"),
            "{cause}"
        );
        assert!(cause.len() < 2000);
    });
}

#[test]
fn a_host_that_runs_another_command_is_found_out() {
    with_sshd(&["ForceCommand echo nothing for you"], async |sshd| {
        let (error, cause) = refused(&sshd.address(&command("echo"))).await;
        assert!(matches!(error, DialError::Address { .. }), "{error}");
        assert!(cause.contains("`nothing for you`"), "{cause}");
        assert!(
            cause.contains("must not run another command for this key"),
            "{cause}"
        );
    });
    with_sshd(&["ForceCommand echo waiting; cat"], async |sshd| {
        // Long enough for ssh to log in, whatever else the machine does.
        let address = sshd.address(&command("echo")).with_option("wait", "8s").unwrap();
        let (error, cause) = refused(&address).await;
        assert!(!error.is_transient(), "{error}");
        assert!(
            cause.contains("within 8s") && cause.contains("`waiting`"),
            "{cause}"
        );
    });
}

#[test]
fn a_program_that_knows_no_token_is_taken_as_it_is() {
    with_sshd(&[], async |sshd| {
        let address = sshd.address("cat").with_option("token", "0").unwrap();
        expect_echo(dial(&address).await.unwrap(), 100_000).await;
    });
}

#[test]
fn a_key_that_is_refused_is_said_to_be() {
    with_sshd(&[], async |sshd| {
        let (error, cause) = refused(&sshd.address_with(&command("echo"), "stranger")).await;
        assert!(
            matches!(error, DialError::NotPermitted { .. }),
            "{error}: {cause}"
        );
        assert!(
            cause.contains("authorized_keys") && cause.contains("Permission denied"),
            "{cause}"
        );
    });
}

#[test]
fn a_host_whose_key_is_not_the_known_one_is_not_trusted() {
    with_sshd(&[], async |sshd| {
        sshd.forget();
        let (error, cause) = refused(&sshd.address(&command("echo"))).await;
        assert!(matches!(error, DialError::Untrusted { .. }), "{error}: {cause}");
        assert!(cause.contains("not known here: log in once by hand"), "{cause}");
        sshd.know("other");
        let (error, cause) = refused(&sshd.address(&command("echo"))).await;
        assert!(matches!(error, DialError::Untrusted { .. }), "{error}: {cause}");
        assert!(cause.contains("not the one that is known"), "{cause}");
    });
}

#[test]
fn a_program_that_is_not_on_the_host_is_said_to_be_missing() {
    with_sshd(&[], async |sshd| {
        let (error, cause) = refused(&sshd.address("/no/such/program --stdio")).await;
        assert!(matches!(error, DialError::Address { .. }), "{error}");
        assert!(
            cause.contains("the command is not there") && cause.contains("/no/such/program"),
            "{cause}"
        );
        let (error, cause) = refused(&sshd.address("/etc/passwd")).await;
        assert!(
            matches!(error, DialError::NotPermitted { .. }),
            "{error}: {cause}"
        );
    });
}

#[test]
fn a_host_that_is_not_there_is_told_from_one_without_a_name() {
    with_sshd(&[], async |sshd| {
        let address = sshd.address("x");
        drop(sshd);
        let (error, cause) = refused(&address).await;
        assert!(
            matches!(error, DialError::NotListening { .. }),
            "{error}: {cause}"
        );
        let nowhere = "ssh://no-such-host.invalid?command=x&config=none"
            .parse()
            .unwrap();
        let (error, cause) = refused(&nowhere).await;
        assert!(matches!(error, DialError::Unresolved { .. }), "{error}: {cause}");
        let misspelt = "ssh://localhost?command=x&config=none&opt=Nonsense=1"
            .parse()
            .unwrap();
        let (error, cause) = refused(&misspelt).await;
        assert!(matches!(error, DialError::Address { .. }), "{error}: {cause}");
    });
}

#[test]
fn a_program_on_the_host_ends_when_its_ssh_is_killed() {
    with_sshd(&[], async |sshd| {
        let address = sshd.address(&command("pid"));
        let mut carrier = dial(&address).await.unwrap();
        let far = read_line(&mut *carrier.rx).await;
        let word = format!("{}/known_hosts", sshd.path("").display()).replace("//", "/");
        let near = children(&word);
        assert_eq!(near.len(), 1, "{near:?}");
        assert!(signal("-KILL", &near[0]));
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert_eq!(ended(&error).unwrap().outcome(), Outcome::Killed(9));
        assert!(error.to_string().contains("ssh itself was ended here"), "{error}");
        gone(&far);
    });
}

#[test]
fn a_program_on_the_host_ends_when_whoever_started_its_ssh_is_killed() {
    with_sshd(&[], async |sshd| {
        let address = sshd.address(&command("pid")).to_string();
        let mut carrier = dial(&exec("relay").with_option("arg", &address).unwrap())
            .await
            .unwrap();
        let far = read_line(&mut *carrier.rx).await;
        let near = children(&address);
        assert_eq!(near.len(), 1, "{near:?}");
        assert!(signal("-KILL", &near[0]));
        gone(&far);
    });
}

#[test]
fn a_program_on_the_host_that_is_killed_is_a_clear_end() {
    with_sshd(&[], async |sshd| {
        let mut carrier = dial(&sshd.address(&command("pid"))).await.unwrap();
        let far = read_line(&mut *carrier.rx).await;
        write_all(&mut *carrier.tx, b"still there?").await.unwrap();
        assert_eq!(&read(&mut *carrier.rx).await.unwrap()[..], b"still there?");
        assert!(signal("-KILL", &far));
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert!(error.to_string().contains("was ended by a signal"), "{error}");
    });
}

#[test]
fn a_program_on_the_host_that_fails_tells_how() {
    with_sshd(&[], async |sshd| {
        let mut carrier = dial(&sshd.address(&command("fail"))).await.unwrap();
        assert_eq!(read_line(&mut *carrier.rx).await, "so far so good");
        let error = read_all(&mut *carrier.rx).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`ssh to 127.0.0.1` exited with status 3: the program on the host failed (it said: out of paper)"
        );
    });
}

#[test]
fn a_dial_that_is_given_up_leaves_no_ssh_behind() {
    with_sshd(&["ForceCommand cat"], async |sshd| {
        let address = sshd.address(&command("echo"));
        let word = format!("{}/known_hosts", sshd.path("").display()).replace("//", "/");
        let media = Media::standard();
        let begun = async {
            while children(&word).is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            dialled = media.dial(&address) => panic!("{dialled:?}"),
            () = within(begun) => {}
        }
        for pid in children(&word) {
            gone(&pid);
        }
    });
}
