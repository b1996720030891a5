extern crate farref_netref as farref;

use std::cell::Cell;

use farref::{Result, remote};

#[remote]
trait Counter {
    fn add(&self) -> Result<u64>;
}

struct Local(Cell<u64>);

impl Counter for Local {
    fn add(&self) -> Result<u64> {
        Ok(self.0.replace(self.0.get() + 1))
    }
}

fn main() {}
