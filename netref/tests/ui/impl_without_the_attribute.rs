extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    async fn reset(&self) -> Result<()>;
}

struct Rig;

impl Bench for Rig {
    async fn reset(&self) -> Result<()> {
        Ok(())
    }
}

fn main() {}
