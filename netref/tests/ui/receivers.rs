extern crate farref_netref as farref;

use std::sync::Arc;

use farref::{Result, remote};

#[remote]
trait Counter {
    fn add(&mut self) -> Result<()>;
    fn finish(self) -> Result<u64>;
    fn shared(self: Arc<Self>) -> Result<u64>;
    fn borrowed<'a>(&'a self) -> Result<u64>;
    fn new() -> Result<u64>;
}

fn main() {}
