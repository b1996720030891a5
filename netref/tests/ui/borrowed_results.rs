extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Store {
    fn name(&self) -> Result<&str>;
    fn parts(&self) -> Result<Vec<&[u8]>>;
    async fn first(&self) -> &u64;
    fn fails(&self) -> std::result::Result<(), Box<dyn std::error::Error>>;
}

fn main() {}
