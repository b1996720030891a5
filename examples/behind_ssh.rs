//! A bench behind ssh: nothing listens over there; the program is started by ssh, and ends with the connection.
//!
//! ```sh
//! cargo run --example behind_ssh                                          # as a child of this process
//! cargo run --example behind_ssh 'ssh://rig7?command=/opt/behind_ssh%20--serve'
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::{Context, Netref, Result, connect, remote};

/// A bench with a meter.
#[remote]
trait Bench {
    /// The host that it hangs on.
    fn host(&self) -> Result<String>;
    /// Measures a few times, and tells as it goes.
    fn measure(&self, times: u32, report: Netref<dyn Report>) -> Result<f64>;
}

/// A callback.
#[remote]
trait Report {
    fn reading(&self, number: u32, volts: f64) -> Result<()>;
}

struct Rig;

impl Bench for Rig {
    fn host(&self) -> Result<String> {
        Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned())
    }

    fn measure(&self, times: u32, report: Netref<dyn Report>) -> Result<f64> {
        println!("what is printed here goes to standard error, and not into the protocol");
        let readings = (1..=times).map(|number| (number, 3.3 + f64::from(number) / 1000.0));
        readings
            .clone()
            .try_for_each(|(number, volts)| report.reading(number, volts))?;
        Ok(readings.map(|(_, volts)| volts).sum::<f64>() / f64::from(times))
    }
}

struct Screen;

impl Report for Screen {
    fn reading(&self, number: u32, volts: f64) -> Result<()> {
        println!("reading {number}: {volts:.3} V");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--serve") {
        return farref::serve::<dyn Bench>("stdio:", Rig).await;
    }
    let this = std::env::current_exe()?;
    let child = format!(
        "exec:{}?arg=--serve&stderr=null",
        this.to_str().context("not UTF-8")?
    );
    let bench: Netref<dyn Bench> = connect(argument.unwrap_or(child)).await?.root().await?;
    println!("the bench hangs on {}", bench.host()?);
    println!("mean: {:.3} V", bench.measure(3, Netref::of(Screen))?);
    Ok(())
}
