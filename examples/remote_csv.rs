//! A far file read by code that was written for local ones: the `csv` crate sums up a table that it does not know to be far.
//!
//! Run it with `cargo run --example remote_csv`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::io::{Cursor, Read};

use farref::file::{self, File, Handle};
use farref::{Netref, Result, Server, blocking, remote, runtime};

/// Keeps measurements in files.
#[remote]
trait Archive {
    /// What was measured in that year, as comma-separated values.
    fn year(&self, year: u32) -> Result<Netref<dyn File>>;
}

struct Disk;

impl Archive for Disk {
    fn year(&self, year: u32) -> Result<Netref<dyn File>> {
        // Here from memory, so that the example needs no file: `file::share(std::fs::File::open(path)?)` is the same.
        let mut table = "day,degrees\n".to_owned();
        for day in 1..=365 {
            let degrees = 10.0 - 12.0 * (f64::from(day + 9) / 365.0 * std::f64::consts::TAU).cos();
            table += &format!("{year}-{day:03},{degrees:.1}\n");
        }
        Ok(file::read_only(Cursor::new(table)))
    }
}

/// The warmest day in a table. Any reader will do.
fn warmest(table: impl Read) -> Result<(String, f64)> {
    let mut warmest = (String::new(), f64::MIN);
    for row in csv::Reader::from_reader(table).deserialize() {
        let (day, degrees): (String, f64) = row?;
        if degrees > warmest.1 {
            warmest = (day, degrees);
        }
    }
    Ok(warmest)
}

fn main() -> Result<()> {
    let server = Server::of::<dyn Archive>(Disk);
    let address = runtime::background().block_on(server.listen("mem:archive"))?;

    let archive: Netref<dyn Archive> = blocking::connect(address)?.root()?;
    let table = archive.year(2026)?;
    let (day, degrees) = warmest(Handle::new(table).blocking())?;
    println!("{day} was the warmest day, with {degrees} degrees");
    Ok(())
}
