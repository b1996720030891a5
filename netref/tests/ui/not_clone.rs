extern crate farref_netref as farref;

use farref::{Result, remote};

#[derive(serde::Serialize, serde::Deserialize)]
struct Reading {
    volts: f64,
}

#[remote]
trait Bench {
    fn put(&self, at: u64, reading: &Reading) -> Result<()>;
    fn by_value(&self, reading: Reading) -> Result<()>;
}

fn main() {}
