extern crate farref_netref as farref;

use std::sync::Arc;

use farref::{Netref, Result, remote};

#[remote]
trait Listener {
    fn hear(&self, word: &str) -> Result<()>;
}

#[remote]
trait Radio {
    fn borrowed(&self, listener: &dyn Listener) -> Result<()>;
    fn boxed(&self, listener: Box<dyn Listener>) -> Result<()>;
    fn several(&self, listeners: Vec<Arc<dyn Listener>>) -> Result<()>;
    fn returned(&self) -> Result<Arc<dyn Listener>>;
    fn right(&self, listener: &Netref<dyn Listener>) -> Result<Vec<Netref<dyn Listener>>>;
}

fn main() {}
