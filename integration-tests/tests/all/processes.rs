//! Child processes and programs behind ssh: real ones, and what can be wrong with them.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use farref::{Connection, ErrorKind, Netref, Result, connect};
use farref_integration_tests::bench::{Bench, Count};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::program::agent;
use farref_integration_tests::sshd::Sshd;

fn exec(argument: &str) -> String {
    format!("exec:{}?arg={argument}&stderr=null", agent().display())
}

async fn dialled(address: &str) -> Result<Connection> {
    within(connect(address).into_future()).await
}

/// Calls, callbacks and bulk.
async fn works(connection: &Connection) {
    let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
    assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
    let count = Arc::new(Count::default());
    assert_eq!(
        within(bench.call().call_back(Netref::share(&count), 5))
            .await
            .unwrap(),
        5
    );
    let bytes = vec![7; 2 << 20];
    assert!(within(bench.call().bytes(bytes.clone().into())).await.unwrap() == bytes);
}

#[test]
fn a_child_serves_on_its_standard_input_and_output() {
    runtime().block_on(async {
        let connection = dialled(&exec("serve")).await.unwrap();
        assert_eq!(connection.peer().medium, "exec");
        works(&connection).await;
        within(connection.close()).await;
    });
}

#[test]
fn what_a_child_prints_does_not_fall_into_the_protocol() {
    runtime().block_on(async {
        let connection = dialled(&exec("noisy")).await.unwrap();
        works(&connection).await;
    });
}

#[test]
fn a_child_that_ends_before_it_speaks_says_how() {
    runtime().block_on(async {
        let error = dialled(&exec("exit&arg=3")).await.unwrap_err();
        assert!(error.to_string().contains("exited with status 3"), "{error}");
        let error = dialled("exec:/no/such/program").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Carrier, "{error}");
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    });
}

/// Processes with this word in their command lines.
fn running(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    let lines = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines
        .filter(|line| line.windows(word.len()).any(|part| part == word.as_bytes()))
        .count()
}

async fn gone(word: &str) {
    let gone = async {
        while running(word) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(gone).await;
}

#[test]
fn nothing_is_left_of_a_child_whether_it_ends_by_itself_or_not() {
    runtime().block_on(async {
        let word = format!("word-{}", std::process::id());
        let agent = agent();
        // What it has started itself goes with it.
        let script = format!("sleep 1000 {word} & exec {} serve {word}", agent.display());
        let escaped = script.replace(' ', "%20").replace('&', "%26");
        let willing = format!("exec:/bin/sh?arg=-c&arg={escaped}&kill=100ms&stderr=null");
        let connection = dialled(&exec("serve")).await.unwrap();
        drop(connection);
        drop(dialled(&willing).await);
        gone(&word).await;
        let deaf = format!(
            "exec:{}?arg=deaf&arg={word}&kill=50ms&stderr=null",
            agent.display()
        );
        let connecting = connect(deaf).into_future();
        assert!(
            tokio::time::timeout(Duration::from_millis(200), connecting)
                .await
                .is_err()
        );
        gone(&word).await;
    });
}

#[test]
fn a_program_behind_ssh_serves_and_ends_with_the_connection() {
    let Some(sshd) = Sshd::start(&[]) else { return };
    runtime().block_on(async {
        let connection = dialled(&sshd.address(&format!("{} serve", agent().display())).to_string())
            .await
            .unwrap();
        works(&connection).await;
        assert!(
            connection.peer().to_string().contains("127.0.0.1 by ssh"),
            "{}",
            connection.peer()
        );
        within(connection.close()).await;
    });
}

#[test]
fn what_ssh_cannot_do_is_told_by_whose_turn_it_is() {
    let Some(sshd) = Sshd::start(&["ForceCommand echo this account only does backups; cat > /dev/null"])
    else {
        return;
    };
    let fails = |address: String, kind: ErrorKind, says: &str| {
        let error = runtime().block_on(dialled(&address)).unwrap_err();
        assert!(
            error.kind() == kind && error.to_string().contains(says),
            "{says}: {error}"
        );
    };
    let address = |key: &str| sshd.address_with("true", key).with_option("wait", "2s").unwrap();
    fails(
        address("client").to_string(),
        ErrorKind::Carrier,
        "only does backups",
    );
    fails(
        address("stranger").to_string(),
        ErrorKind::Carrier,
        "takes none of our keys",
    );
    sshd.forget();
    fails(address("client").to_string(), ErrorKind::Denied, "not known here");
    sshd.know("other");
    fails(
        address("client").to_string(),
        ErrorKind::Denied,
        "not the one that is known",
    );
    let both = "ssh://127.0.0.1?command=x&persist=1".to_owned();
    fails(both, ErrorKind::Carrier, "`persist=` one that is brought");
}
