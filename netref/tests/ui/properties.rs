extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Bench {
    #[property]
    fn title(&self) -> Result<String>;

    #[property]
    fn set_title(&self, title: String) -> Result<()>;

    #[property]
    fn set_colour(&self, colour: u8) -> Result<u8>;

    #[property]
    fn rename(&self, title: String) -> Result<()>;

    #[property]
    fn set_both(&self, title: String, colour: u8) -> Result<()>;

    #[property(title)]
    fn name(&self) -> Result<String>;
}

fn main() {}
