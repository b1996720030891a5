extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    async fn reset(&self) -> Result<()>;
    async fn label(&self, text: &str) -> Result<()>;
}

struct Rig;

#[remote(name = "rig")]
impl Bench for Rig {
    #[serial]
    async fn reset(&self) -> Result<()> {
        Ok(())
    }

    async fn label<'a>(&self, _text: &'a str) -> Result<()> {
        Ok(())
    }
}

fn main() {}
