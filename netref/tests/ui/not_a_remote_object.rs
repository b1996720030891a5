extern crate farref_netref as farref;

use farref::{Netref, Result, remote};

#[remote]
trait Bench {
    fn reset(&self) -> Result<()>;
}

struct Rig;

fn main() {
    let _: Netref<dyn Bench> = Netref::of(Rig);
    let _: Netref<Rig> = Netref::of(Rig);
}
