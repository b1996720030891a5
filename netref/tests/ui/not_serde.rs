extern crate farref_netref as farref;

use farref::{Result, remote};

pub struct Reading {
    pub volts: f64,
}

#[derive(serde::Serialize)]
pub struct OneWay;

#[remote]
trait Bench {
    fn put(&self, at: u64, reading: Reading) -> Result<()>;
    async fn get(&self) -> Result<Reading>;
    fn lent(&self, reading: Option<&OneWay>) -> Result<()>;
}

fn main() {}
