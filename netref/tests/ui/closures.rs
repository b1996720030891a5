extern crate farref_netref as farref;

use farref::{Netref, Result, remote};

#[remote(closure)]
trait Two {
    fn one(&self) -> Result<()>;
    fn two(&self) -> Result<()>;
}

#[remote(closure)]
trait WithParent: Parent {
    fn f(&self) -> Result<()>;
}

#[remote]
trait Parent {}

#[remote(closure)]
trait WithDefault {
    fn f(&self) -> Result<()> {
        Ok(())
    }
}

#[remote(closure)]
trait Borrows {
    async fn f(&self, text: &str) -> Result<()>;
}

#[remote(closure)]
trait CannotFail {
    fn f(&self, number: u8);
}

#[remote(closure)]
trait Hears {
    fn f(&self, text: &str) -> Result<()>;
}

fn main() {
    let _: Netref<dyn Hears> = Netref::of(|number: u8| Ok(()));
}
