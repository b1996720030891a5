extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Plot {
    fn point(&self, (x, y): (f64, f64)) -> Result<()> {
        let _ = (x, y);
        Ok(())
    }
    fn nothing(&self, _: u8) -> Result<()>;
    fn marked(&self, #[allow(unused)] value: u8) -> Result<()>;
}

fn main() {}
