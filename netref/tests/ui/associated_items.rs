extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Store {
    const LIMIT: usize;
    type Key;
    fn get(&self) -> Result<String>;
}

fn main() {}
