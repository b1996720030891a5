extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote(nmae = "demo.Bench")]
trait Unknown {
    fn voltage(&self) -> Result<f64>;
}

#[remote(name = "")]
trait Nameless {
    fn voltage(&self) -> Result<f64>;
}

#[remote(version = 70000)]
trait TooNew {
    fn voltage(&self) -> Result<f64>;
}

#[remote(version = "2")]
trait Text {
    fn voltage(&self) -> Result<f64>;
}

#[remote(extends(Text))]
trait NothingToName {
    fn voltage(&self) -> Result<f64>;
}

fn main() {}
