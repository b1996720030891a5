//! What a `Netref` costs where there is nothing between caller and object.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use farref::{Netref, remote};

use crate::Result;
use crate::contender::Contender;
use crate::job::{Job, Medium};
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[&Local { is_netref: false }, &Local { is_netref: true }];

struct Local {
    is_netref: bool,
}

impl Contender for Local {
    fn name(&self) -> &'static str {
        if self.is_netref { "netref" } else { "arc" }
    }

    fn about(&self) -> &'static str {
        if self.is_netref {
            "a method called through a `Netref<dyn Trait>` of an object in the same process"
        } else {
            "the same through `Arc<dyn Trait>`"
        }
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Mem]
    }

    fn can(&self, workload: Workload) -> bool {
        workload == Workload::Local
    }

    fn reference(&self, _: Medium) -> &'static str {
        "arc"
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        Ok(measure(self.is_netref, job))
    }

    fn serve(&self, _: &Job, _: Ready) -> Result<()> {
        Err("there is nothing to serve".into())
    }
}

/// Something small to call.
#[remote]
trait Adder {
    /// The sum of `number` and what the object has.
    fn add(&self, number: u64) -> farref::Result<u64>;
}

struct One(u64);

impl Adder for One {
    fn add(&self, number: u64) -> farref::Result<u64> {
        Ok(self.0.wrapping_add(number))
    }
}

/// Nanoseconds per call.
fn measure(is_netref: bool, job: &Job) -> Figures {
    let object: Arc<dyn Adder> = black_box(Arc::new(One(1)));
    let netref: Netref<dyn Adder> = black_box(Netref::of(One(1)));
    let nanos = if is_netref {
        time(job, |number| black_box(&netref).add(number))
    } else {
        time(job, |number| black_box(&object).add(number))
    };
    Figures::from([("nanos".into(), nanos)])
}

/// The least that a batch of calls took, per call.
fn time(job: &Job, call: impl Fn(u64) -> farref::Result<u64>) -> f64 {
    const BATCH: u32 = 100_000;

    let end = Instant::now() + job.duration;
    let mut least = f64::INFINITY;
    while Instant::now() < end {
        let started = Instant::now();
        let mut sum = 0;
        for _ in 0..BATCH {
            sum = black_box(call(sum)).unwrap_or_default();
        }
        black_box(sum);
        least = least.min(started.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
    }
    least
}
