extern crate farref_netref as farref;

// An error in a trait is the only one: not one more for each use of the trait.

use farref::{Netref, Result, remote};

#[remote]
pub trait Bench {
    fn voltage(&self, (channel, range): (u8, u8)) -> Result<f64>;
    fn name(&self) -> Result<String>;
    async fn reset(&mut self) -> Result<()>;
}

pub struct Rig;

#[remote]
impl Bench for Rig {
    fn voltage(&self, (_channel, _range): (u8, u8)) -> Result<f64> {
        Ok(0.0)
    }

    fn name(&self) -> Result<String> {
        Ok("rig".into())
    }

    async fn reset(&mut self) -> Result<()> {
        Ok(())
    }
}

#[remote]
pub trait Benches {
    fn first(&self) -> Result<Netref<dyn Bench>>;
}

async fn use_it(benches: Netref<dyn Benches>) -> Result<String> {
    let bench = benches.call().first().await?;
    let mine: Netref<dyn Bench> = Netref::of(Rig);
    Ok(bench.name()? + &mine.blocking().name()?)
}

fn main() {
    let _ = use_it;
}
