extern crate farref_netref as farref;

use farref::{Result, remote};

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

#[remote]
trait Bench {
    fn reset(&self);
    async fn start(&self);
    fn voltage(&self, channel: u8) -> f64;
    async fn current(&self, channel: u8) -> f64;
    fn check(&self) -> std::result::Result<u8, Broken>;
    fn text(&self) -> std::result::Result<u8, String>;
    fn right(&self) -> Result<u8>;
}

fn main() {}
