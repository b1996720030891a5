extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Store {
    fn get<K: AsRef<str>>(&self, key: K) -> Result<String>;
    fn count<const N: usize>(&self) -> Result<u64>;
    fn sum(&self) -> Result<u64>
    where
        u64: Copy;
}

fn main() {}
