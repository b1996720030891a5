//! The process that ssh starts: finds the keeper, or starts one, and passes bytes on.

use std::env;
use std::fs::{File, TryLockError};
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use farref_boxing::Result;
use farref_transport::unix::Unix;
use farref_transport::{Address, ByteRx, ByteTx, Carrier, DialError, Media, StreamCarrier};

use super::failed;
use super::keeper::{GREETING, READY, check_account};
use super::own::{DEPLOYED, KEEPER, OF_SCRIPT, Start, arguments, program};

/// Joins standard input and output with a keeper, until either is at its end.
///
/// # Errors
///
/// There is no keeper and none can be started, or standard input and output cannot be used.
pub(super) async fn run(start: &Start) -> Result<()> {
    let address = start.place()?.address()?;
    let (keeper, first) = match find(&address).await? {
        Some(found) => found,
        None => start_keeper(&address).await?,
    };
    // It says the token first: from there on the two ends talk to each other.
    let stdio: Address = "stdio:".parse().map_err(|error| failed("stdio", error))?;
    let near = Media::standard().dial(&stdio).await;
    let near = stream(near.map_err(|error| failed("standard input and output", told(&error)))?)?;
    let to_keeper = pass(near.rx, keeper.tx, BytesMut::new());
    let from_keeper = pass(keeper.rx, near.tx, first);
    // Cancel-safe: whatever is not passed on has nobody to hear it.
    tokio::select! {
        // The keeper has said all it had to say.
        _ = from_keeper => {}
        // Ssh is gone: the keeper learns that by the end of what it hears, and hangs up.
        () = async {
            let _ = to_keeper.await;
            tokio::time::sleep(LAST_WORDS).await;
        } => {}
    }
    drop((near.guard, keeper.guard));
    Ok(())
}

/// A keeper that listens, and what it has said beyond the greeting; none if there is none, or it is about to end.
async fn find(address: &Address) -> Result<Option<(StreamCarrier, BytesMut)>> {
    let media = Media::none().with(Unix::new());
    let mut keeper = match media.dial(address).await {
        Ok(carrier) => stream(carrier)?,
        Err(DialError::NotListening { .. }) => return Ok(None),
        Err(error) => return Err(failed("the agent cannot be reached", told(&error))),
    };
    check_account(&keeper.info.peer)?;
    let mut first = BytesMut::with_capacity(4096);
    let greeted = poll_fn(|cx| keeper.rx.poll_read(cx, &mut first));
    let greeted = tokio::time::timeout(PATIENCE, greeted).await;
    let greeted =
        greeted.map_err(|_| failed("the agent", format!("it does not answer within {PATIENCE:?}")))?;
    if greeted.is_err() || !first.starts_with(GREETING) {
        return Ok(None);
    }
    first.advance(GREETING.len());
    Ok(Some((keeper, first)))
}

/// The same, of a keeper that is started if need be. Of many proxies at once one does so.
async fn start_keeper(address: &Address) -> Result<(StreamCarrier, BytesMut)> {
    let _turn = turn().await;
    let mut failure = None;
    for _ in 0..ATTEMPTS {
        if let Some(found) = find(address).await? {
            return Ok(found);
        }
        let started = tokio::task::spawn_blocking(spawn_keeper).await;
        // It may be that somebody else has started one in between.
        failure = started
            .map_err(io::Error::other)
            .and_then(|started| started)
            .err();
    }
    let why = failure.map_or_else(|| "it ends at once".to_owned(), |failure| failure.to_string());
    Err(failed("the agent could not be started", why))
}

/// Starts a keeper, and waits until it listens. It tells on standard error what is in the way.
fn spawn_keeper() -> io::Result<()> {
    let mut command = Command::new(program()?);
    command
        .arg0(env::current_exe()?)
        .args(arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for variable in OF_SCRIPT.into_iter().filter(|name| *name != DEPLOYED) {
        command.env_remove(variable);
    }
    command.env(KEEPER, std::process::id().to_string());
    let mut keeper = command.spawn()?;
    let mut said = String::new();
    if let Some(stdout) = keeper.stdout.take() {
        // To the end, which comes when it has let go of its standard output.
        stdout.take(MOST_SAID).read_to_string(&mut said)?;
    }
    if said.ends_with(READY) {
        return Ok(());
    }
    let ended = keeper.wait()?;
    Err(io::Error::other(format!(
        "it ended with {ended} before it listened"
    )))
}

/// Whoever has the file of the program locked starts keepers. Where that cannot be had things go on without: a keeper that
/// is one too many finds the place taken.
async fn turn() -> Option<File> {
    let file = File::open(program().ok()?).ok()?;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(TryLockError::Error(_)) => break,
        }
    }
    None
}

/// Passes on what comes, and the end; `first` is there already.
async fn pass(mut rx: Box<dyn ByteRx>, mut tx: Box<dyn ByteTx>, first: BytesMut) -> io::Result<()> {
    let mut bytes = first;
    loop {
        while !bytes.is_empty() {
            match tx.try_write(&[IoSlice::new(&bytes)]) {
                Ok(count) => bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| tx.poll_writable(cx)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        if tx.is_buffering() {
            poll_fn(|cx| tx.poll_flush(cx)).await?;
        }
        bytes.reserve(AT_ONCE);
        if poll_fn(|cx| rx.poll_read(cx, &mut bytes)).await? == 0 {
            return poll_fn(|cx| tx.poll_close(cx)).await;
        }
    }
}

fn stream(carrier: Carrier) -> Result<StreamCarrier> {
    match carrier {
        Carrier::Stream(stream) => Ok(stream),
        _ => Err(failed("the agent", "it is no stream")),
    }
}

fn told(error: &DialError) -> String {
    let why = std::error::Error::source(error).map(|why| format!(": {why}"));
    format!("{error}{}", why.unwrap_or_default())
}

/// How long a keeper may take to greet, and others to start one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a keeper may still speak when ssh is gone.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often a keeper is started that is not there afterwards.
const ATTEMPTS: u32 = 3;

/// What a keeper says when it listens is shorter, in bytes.
const MOST_SAID: u64 = 4096;

/// How much is passed on at once, in bytes.
const AT_ONCE: usize = 64 * 1024;
