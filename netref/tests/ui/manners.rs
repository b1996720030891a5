extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    #[serial]
    #[concurrent]
    fn both(&self) -> Result<()>;

    #[inline]
    async fn never_waits(&self) -> Result<()>;

    #[spawned]
    fn waits(&self) -> Result<()>;

    #[one_way]
    fn answers(&self) -> Result<u8>;

    #[idempotent(always)]
    fn odd(&self) -> Result<()>;

    #[detached]
    #[detached]
    fn twice(&self) -> Result<()>;

    #[serial]
    fn local(&self) -> Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }
}

struct Rig;

impl Bench for Rig {
    fn both(&self) -> Result<()> {
        Ok(())
    }
}

fn main() {}
