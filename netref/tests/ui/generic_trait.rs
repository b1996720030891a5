extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Store<K> {
    fn get(&self, key: K) -> Result<String>;
}

#[remote]
trait Cell
where
    Self: Clone,
{
    fn get(&self) -> Result<String>;
}

fn main() {}
