//! The program `farref-test-agent`, and what tests want to know about processes.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use farref::transport::{Address, ByteRx, ByteTx, Carrier, DialError, Media, StreamCarrier};

use crate::media::within;

/// The process at the other end.
#[farref::remote]
pub trait Whereabouts {
    /// Its number.
    fn pid(&self) -> farref::Result<u32>;

    /// How many sockets a child of it has.
    fn sockets_of_a_child(&self) -> farref::Result<usize>;

    /// Ends it as a crash does.
    fn abort(&self) -> farref::Result<()>;
}

/// The process that asks.
pub struct Here;

impl Whereabouts for Here {
    fn pid(&self) -> farref::Result<u32> {
        Ok(std::process::id())
    }

    fn sockets_of_a_child(&self) -> farref::Result<usize> {
        let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
        Ok(String::from_utf8_lossy(&listed.stdout).matches("socket:").count())
    }

    fn abort(&self) -> farref::Result<()> {
        std::process::abort()
    }
}

/// The program that is the far side of tests.
pub fn agent() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    // target/debug/deps/all-0123 -> target/debug
    path.pop();
    if path.ends_with("deps") || path.ends_with("examples") {
        path.pop();
    }
    path.join("farref-test-agent")
}

/// The address of that program as a child, in a manner of its own.
pub fn exec(manner: &str) -> Address {
    let address: Address = format!("exec:{}", agent().display()).parse().unwrap();
    address.with_option("arg", manner).unwrap()
}

/// The same as the command of an address of ssh.
pub fn command(manner: &str) -> String {
    format!("'{}' {manner}", agent().display())
}

/// Dials a medium of streams.
pub async fn dial(address: &Address) -> Result<StreamCarrier, DialError> {
    match within(Media::standard().dial(address)).await? {
        Carrier::Stream(stream) => Ok(stream),
        other => panic!("{other:?} is no stream"),
    }
}

/// Reads once; empty at the end.
pub async fn read(rx: &mut dyn ByteRx) -> io::Result<BytesMut> {
    let mut into = BytesMut::with_capacity(64 * 1024);
    within(poll_fn(|cx| rx.poll_read(cx, &mut into))).await?;
    Ok(into)
}

/// Reads to the end.
pub async fn read_all(rx: &mut dyn ByteRx) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        let some = read(rx).await?;
        if some.is_empty() {
            return Ok(heard);
        }
        heard.extend_from_slice(&some);
    }
}

/// Reads one line, which must be all that is there.
pub async fn read_line(rx: &mut dyn ByteRx) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let some = read(rx).await.unwrap();
        assert!(!some.is_empty(), "the end came before the end of the line");
        line.extend_from_slice(&some);
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

/// Writes all of it.
pub async fn write_all(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                within(poll_fn(|cx| tx.poll_writable(cx))).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says `amount` bytes to a peer that echoes, closes, and expects the same to the end.
pub async fn expect_echo(carrier: StreamCarrier, amount: usize) {
    let StreamCarrier {
        mut rx,
        mut tx,
        guard,
        ..
    } = carrier;
    let says: Vec<u8> = (0..amount).map(|i| (i * 31 + i / 251) as u8).collect();
    let write = async {
        write_all(&mut *tx, &says).await.unwrap();
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
    };
    let ((), heard) = tokio::join!(write, read_all(&mut *rx));
    assert!(heard.unwrap() == says, "what was heard is not what was said");
    drop(guard);
}

/// Waits until there is no process of that id.
pub fn gone(pid: &str) {
    let begun = Instant::now();
    while signal("-0", pid) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "process {pid} is still there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal; whether the process was there.
pub fn signal(signal: &str, pid: &str) -> bool {
    Command::new("kill")
        .args([signal, pid])
        .output()
        .unwrap()
        .status
        .success()
}

/// The ids of all processes whose command line has this word in it.
pub fn processes(word: &str) -> Vec<String> {
    let told = Command::new("ps")
        .args(["-A", "-o", "pid=,args="])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let found = told.lines().filter(|line| line.contains(word));
    found
        .filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned))
        .collect()
}

/// Waits until that holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not come true: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The ids of our children whose command line has this word in it.
pub fn children(word: &str) -> Vec<String> {
    let ours = std::process::id().to_string();
    let told = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,args="])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let mut found = Vec::new();
    for line in told.lines().filter(|line| line.contains(word)) {
        let mut fields = line.split_whitespace();
        if let (Some(pid), Some(parent)) = (fields.next(), fields.next())
            && parent == ours
        {
            found.push(pid.to_owned());
        }
    }
    found
}
