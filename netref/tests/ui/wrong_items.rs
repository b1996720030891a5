extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
struct Rig;

#[remote]
impl Rig {
    async fn reset(&self) -> Result<()> {
        Ok(())
    }
}

#[remote]
fn reset() {}

fn main() {}
