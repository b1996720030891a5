extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    unsafe fn reset(&self) -> Result<()>;
    extern "C" fn start(&self) -> Result<()>;
    async fn local(&self) -> Result<()>
    where
        Self: Sized;
}

#[remote]
unsafe trait Trusted {}

fn main() {}
