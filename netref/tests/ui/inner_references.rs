extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Store {
    fn texts(&self, texts: &[&str]) -> Result<()>;
    fn pair(&self, pair: (&str, &[u8])) -> Result<()>;
    fn list(&self, list: Vec<&u64>) -> Result<()>;
    fn double(&self, value: &&u64) -> Result<()>;
    fn right(&self, text: Option<&str>, texts: &[String]) -> Result<()>;
}

fn main() {}
