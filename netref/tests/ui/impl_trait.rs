extern crate farref_netref as farref;

use std::future::Future;

use farref::{Result, remote};

#[remote]
trait Store {
    fn put(&self, key: impl Into<String>) -> Result<()>;
    fn all(&self, keys: Vec<impl Into<String>>) -> Result<()>;
    fn later(&self) -> impl Future<Output = Result<()>> + Send;
}

fn main() {}
