//! How long it takes to copy a large file over loopback TCP with Noise, and with scp for comparison.
//!
//! `cargo run --release -p farref-integration-tests --example copying [MEBIBYTES [ROUNDS]]`
#![allow(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use farref::files::{Files, FilesRoot, Transfer};
use farref::host::{Exposed, Host};
use farref::keys::{Authorized, Identity, Trust};
use farref::{Netref, Server, connect};
use farref_integration_tests::sshd::Sshd;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve(Path::new(&arguments[1]))),
        first => {
            let mebibytes = first.map_or(Ok(1024), str::parse)?;
            let rounds = arguments.get(1).map_or(Ok(5), |text| text.parse())?;
            runtime.block_on(compare(mebibytes, rounds))
        }
    }
}

async fn serve(directory: &Path) -> Outcome<()> {
    let exposed = Exposed::nothing().files(FilesRoot::at(directory));
    let trust = Trust::new(Identity::generate()?).authorizing(Authorized::anyone());
    let server = Server::new(exposed).trust(trust);
    writeln!(std::io::stdout(), "{}", server.listen("tcp://127.0.0.1:0").await?)?;
    server.closed().await;
    Ok(())
}

async fn compare(mebibytes: usize, rounds: usize) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("far"))?;
    std::fs::create_dir(path("here"))?;
    let mut random = std::fs::File::open("/dev/urandom")?;
    let mut whole = std::fs::File::create(path("far/file"))?;
    std::io::copy(
        &mut std::io::Read::take(&mut random, (mebibytes as u64) << 20),
        &mut whole,
    )?;
    std::fs::copy(path("far/file"), path("here/file"))?;

    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(path("far"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let connection = connect(address.trim())
        .trust(Trust::new(Identity::generate()?))
        .await?;
    let far: Netref<dyn Files> = connection.root::<dyn Host>().await?.files().await?;
    let here = FilesRoot::at(path("here")).share();
    let (down, up) = (
        Transfer::new(far.clone(), here.clone()).anew(),
        Transfer::new(here, far).anew(),
    );

    let sshd = Sshd::start(&["Subsystem sftp internal-sftp"]);
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..rounds {
        let begun = Instant::now();
        down.file("file", "down").await?;
        times[0].push(begun.elapsed());
        if let Some(sshd) = &sshd {
            times[1].push(scp(sshd, Some(&path("far/file")), &path("here/down"))?);
        }
        let begun = Instant::now();
        up.file("file", "up").await?;
        times[2].push(begun.elapsed());
        if let Some(sshd) = &sshd {
            times[3].push(scp(sshd, None, &path("here/file"))?);
        }
    }
    for (what, times) in ["download", "scp download", "upload", "scp upload"]
        .iter()
        .zip(&mut times)
    {
        times.sort();
        if let (Some(best), Some(middle)) = (times.first(), times.get(times.len() / 2)) {
            let speed = mebibytes as f64 / middle.as_secs_f64();
            println!("{what:>13}: best {best:.2?}, median {middle:.2?}, {speed:.0} MiB/s");
        }
    }
    println!(
        "peak of memory: {} here, {} over there",
        peak("self"),
        peak(&server.id().to_string())
    );
    server.kill()?;
    server.wait()?;
    Ok(())
}

/// Copies `from` the server to a path, or the file at that path to where `up` would be.
fn scp(sshd: &Sshd, from: Option<&Path>, here: &Path) -> Outcome<Duration> {
    let address = sshd.address("true").to_string();
    let place = address.strip_prefix("ssh://").ok_or("no address of ssh")?;
    let place = place.split('?').next().unwrap_or(place);
    let (host, port) = place.rsplit_once(':').ok_or("no port")?;
    let far = |path: &Path| format!("{host}:{}", path.display());
    let mut command = Command::new("scp");
    command
        .args(["-q", "-p", "-F", "none", "-P", port])
        .arg("-i")
        .arg(sshd.path("client"))
        .arg("-o")
        .arg(format!(
            "UserKnownHostsFile={}",
            sshd.path("known_hosts").display()
        ));
    match from {
        Some(from) => command.arg(far(from)).arg(here),
        None => command.arg(here).arg(far(&here.with_file_name("up"))),
    };
    let begun = Instant::now();
    if !command.status()?.success() {
        return Err("scp failed".into());
    }
    Ok(begun.elapsed())
}

fn peak(process: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap_or("?").trim().to_owned()
}
