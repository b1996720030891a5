extern crate farref_netref as farref;

use std::rc::Rc;

use farref::{Result, remote};

#[remote]
trait Bench {
    async fn reset(&self) -> Result<()>;
}

struct Rig;

#[remote]
impl Bench for Rig {
    async fn reset(&self) -> Result<()> {
        let local = Rc::new(1);
        std::future::ready(()).await;
        drop(local);
        Ok(())
    }
}

fn main() {}
