extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Node {
    fn join(&self, other: Self) -> Result<()>;
    fn copy(&self) -> Result<Self>
    where
        Self: Sized;
    fn parent(&self) -> Result<Option<Self>>;
}

fn main() {}
