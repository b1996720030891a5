extern crate farref_netref as farref;

use std::borrow::Cow;

use farref::{Result, remote};

#[remote]
trait Store {
    async fn get<'a>(&self, key: &'a str) -> Result<String>;
    fn put(&self, text: Cow<'_, str>) -> Result<()>;
    fn fixed(&self, text: &'static str) -> Result<()>;
    fn right(&self, text: Cow<'static, str>) -> Result<Cow<'static, str>>;
}

fn main() {}
