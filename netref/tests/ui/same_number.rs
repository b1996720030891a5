extern crate farref_netref as farref;

use farref::{Result, remote};

#[remote]
trait Unlucky {
    fn lock_chart_group(&self) -> Result<()>;
    fn send_name_curve(&self) -> Result<()>;
}

fn main() {}
