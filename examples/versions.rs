//! An old client against a new server, and the reverse: types have changed, and both understand each other.
//!
//! Run it with `cargo run --example versions`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::{Netref, Result, Server, connect};

/// The program as it was shipped last year.
mod last_year {
    use farref::{Result, remote};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Reading {
        pub(crate) channel: u8,
        pub(crate) volts: f32,
    }

    #[remote]
    pub(crate) trait Bench {
        fn read(&self, channel: u8) -> Result<Reading>;
        fn log(&self, reading: Reading) -> Result<String>;
    }
}

/// The program of today: a reading has got a unit, is more precise, and there are more channels.
mod today {
    use farref::{Result, remote};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Reading {
        #[serde(default)]
        pub(crate) unit: Option<String>,
        pub(crate) channel: u16,
        #[serde(rename = "volts")] // as it has always been called on the wire
        pub(crate) value: f64,
    }

    #[remote]
    pub(crate) trait Bench {
        fn read(&self, channel: u16) -> Result<Reading>;
        fn log(&self, reading: Reading) -> Result<String>;

        /// What an old bench does not have runs here.
        fn mean(&self, channel: u16) -> Result<f64> {
            Ok((self.read(channel)?.value + self.read(channel)?.value) / 2.0)
        }
    }
}

struct Old;

impl last_year::Bench for Old {
    fn read(&self, channel: u8) -> Result<last_year::Reading> {
        let volts = f32::from(channel) * 1.5;
        Ok(last_year::Reading { channel, volts })
    }

    fn log(&self, reading: last_year::Reading) -> Result<String> {
        Ok(format!("{reading:?}"))
    }
}

struct New;

impl today::Bench for New {
    fn read(&self, channel: u16) -> Result<today::Reading> {
        Ok(today::Reading {
            unit: Some("V".into()),
            channel,
            value: f64::from(channel) * 1.5,
        })
    }

    fn log(&self, reading: today::Reading) -> Result<String> {
        Ok(format!("{reading:?}"))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::of::<dyn last_year::Bench>(Old);
    let address = server.listen("plain+tcp://127.0.0.1:0").await?;
    let bench: Netref<dyn today::Bench> = connect(address).await?.root().await?;
    println!(
        "a new client reads an old bench: {:?}",
        bench.call().read(2).await?
    );
    let reading = today::Reading {
        unit: Some("V".into()),
        channel: 2,
        value: 3.0,
    };
    println!("and is understood by it: {}", bench.call().log(reading).await?);
    println!("what the bench lacks runs here: {}", bench.call().mean(2).await?);
    // What cannot be understood is refused: nothing is made up.
    if let Err(error) = bench.call().read(300).await {
        println!("it has no channel 300: {}", error.message());
    }

    let server = Server::of::<dyn today::Bench>(New);
    let address = server.listen("plain+tcp://127.0.0.1:0").await?;
    let bench: Netref<dyn last_year::Bench> = connect(address).await?.root().await?;
    println!(
        "an old client reads a new bench: {:?}",
        bench.call().read(2).await?
    );
    let reading = last_year::Reading {
        channel: 2,
        volts: 3.0,
    };
    println!("and is understood by it: {}", bench.call().log(reading).await?);
    Ok(())
}
