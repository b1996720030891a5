extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Buffer {
    fn fill(&self, into: &mut Vec<u8>) -> Result<()>;
    fn maybe(&self, into: Option<&mut u8>) -> Result<()>;
}

fn main() {}
