extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    #[cfg(unix)]
    fn reset(&self) -> Result<()>;
}

fn main() {}
