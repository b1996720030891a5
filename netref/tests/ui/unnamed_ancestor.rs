extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Root {}

#[remote]
trait Left: Root {}

#[remote]
trait Right {}

#[remote]
trait Both: Left + Right {
    fn reset(&self) -> Result<()>;
}

fn main() {}
