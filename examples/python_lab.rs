//! A lab in Python, driven from Rust: instrument code is brought there, imported, used by name and by a trait, called back from,
//! and what it measured comes home as values of Rust, and as a file.
//!
//! The Python needs nothing but `rpyc` (`pip install rpyc`, 4.1 to 6.0); `PYTHON` names it, if it is not `python3`.
//!
//! ```sh
//! cargo run --example python_lab                       # with an interpreter that is a child of this process
//! cargo run --example python_lab rpyc+ssh://user@labpc # where `rpyc_classic --host 127.0.0.1` runs
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::rpyc::Exception;
use farref::rpyc::classic::{Classic, Output};
use farref::transport::Address;
use farref::{Error, Netref, Object, Result, connect, remote};
use serde::{Deserialize, Serialize};

/// The multimeter of `python_lab.py`, as far as it is used here: Python's names, and the types that are expected.
#[remote]
trait Multimeter {
    fn measure(&self, channel: u8) -> Result<f64>;
    fn sweep(&self, channels: Vec<u8>, on_reading: Netref<dyn OnReading>) -> Result<Vec<(u8, f64)>>;
    fn summary(&self) -> Result<Summary>;
}

/// What Python calls meanwhile.
#[remote(closure)]
trait OnReading {
    fn reading(&self, channel: u8, volts: f64) -> Result<()>;
}

/// A dictionary over there.
#[derive(Debug, Serialize, Deserialize)]
struct Summary {
    count: u32,
    mean: f64,
    largest: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let connection = match std::env::args().nth(1) {
        Some(address) => connect(address).await?,
        None => connect(own_interpreter().await?).await?,
    };
    let python = Classic::of(&connection).await?;
    println!("connected to Python {}", version(&python).await?);

    // Nothing is installed over there: the module is made of its source.
    let lab = python.define("python_lab", include_str!("python_lab.py")).await?;

    // By name: what there is, and what it is like, is known when the program runs.
    let meter = Object::try_from(lab.call("Multimeter", ("dmm1",)).await?)?;
    println!("{}: {}", meter.get("name").await?, meter.doc("").await?);
    meter.set("gain", 2.0).await?;

    // With a trait: Python's lists and dictionaries are values of Rust by the time they are here. What Python prints is shown.
    let printed = Output::lines(|line| println!("  python says: {line}"));
    let printing = python.redirect_output(printed, Output::unchanged()).await?;
    let typed: Netref<dyn Multimeter> = meter.cast().await?;
    let on_reading = |channel: u8, volts: f64| -> Result<()> {
        println!("  channel {channel}: {volts} V");
        Ok(())
    };
    let readings = typed.call().sweep(vec![0, 3, 5], Netref::of(on_reading)).await?;
    printing.restore().await?;
    println!("readings: {readings:?}");
    println!("{:?}", typed.call().summary().await?);

    // What is raised there is an error here, with the exception in it.
    let error = typed.call().measure(12).await.err();
    if let Some(raised) = error.as_ref().and_then(|error| error.downcast_ref::<Exception>()) {
        println!("{raised}");
    }

    // Files go both ways.
    let there = python.module("tempfile").await?.call("mkdtemp", ()).await?;
    let there = format!("{}/readings.csv", there.as_str().unwrap_or_default());
    meter.call("save", (&there,)).await?;
    let here = std::env::temp_dir().join(format!("readings-{}.csv", std::process::id()));
    let bytes = python.download(there.as_str(), &here).await?;
    println!(
        "readings.csv: {bytes} bytes, {} lines",
        std::fs::read_to_string(&here)?.lines().count()
    );
    std::fs::remove_file(&here)?;
    python
        .module("shutil")
        .await?
        .call("rmtree", (there.trim_end_matches("/readings.csv"),))
        .await?;

    connection.close().await;
    Ok(())
}

async fn version(python: &Classic) -> Result<String> {
    let version = python
        .eval("'.'.join(map(str, __import__('sys').version_info[:2]))")
        .await?;
    Ok(version.as_str().unwrap_or_default().to_owned())
}

/// A classic server on the standard streams of a child.
async fn own_interpreter() -> Result<Address> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    // What it speaks would be found out; a child that is spoken to in the other way dies of that with many words.
    let version = tokio::process::Command::new(&python)
        .args(["-c", "import rpyc; print(rpyc.version.version[0])"])
        .output()
        .await?;
    let generation = match version.stdout.first() {
        Some(b'6'..) => "6",
        Some(_) => "5",
        None => return Err(Error::msg(format!("{python} has no rpyc: pip install rpyc"))),
    };
    let server = "import os
from rpyc import SlaveService
from rpyc.utils.factory import connect_stdpipes
connect_stdpipes(SlaveService).serve_all()
os._exit(0)";
    let address: Address = format!("rpyc+exec:{python}?generation={generation}").parse()?;
    Ok(address.with_option("arg", "-c")?.with_option("arg", server)?)
}
