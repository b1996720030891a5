extern crate farref_netref as farref;

use farref::{Result, remote};

trait Local {}

#[remote]
trait Bench: Local {
    fn reset(&self) -> Result<()>;
}

fn main() {}
