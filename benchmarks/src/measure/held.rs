//! What a call costs while few or very many objects are held.

use std::time::Instant;

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::histogram::Histogram;
use crate::job::Job;
use crate::meter::{Figures, Moment};
use crate::workload::HELD;

/// How often each number of objects has its turn.
const SLICES: u32 = 10;

/// A connection and what is held over it.
struct Holder<C: Client> {
    client: C,
    objects: Vec<C::Object>,
    times: Histogram,
    cpu: f64,
    calls: u64,
}

/// A connection for each of [`HELD`], with so many objects, which are called one at a time, no two neighbours in
/// succession. They take turns, so whatever else happens meets them all.
pub(super) async fn held<C: Client>(job: &Job, server: &mut Server) -> Result<Figures> {
    let mut holders = Vec::new();
    for number in HELD {
        let mut client = C::connect(job, &server.address).await?;
        let mut objects = Vec::with_capacity(number);
        for _ in 0..number {
            objects.push(client.make().await?);
        }
        holders.push(Holder {
            client,
            objects,
            times: Histogram::new(),
            cpu: 0.0,
            calls: 0,
        });
    }
    let slice = job.duration / SLICES;
    for turn in 0..=SLICES {
        for holder in &mut holders {
            let begun = Moment::now(server)?;
            let (mut last, end) = (Instant::now(), Instant::now() + slice);
            let (mut calls, mut times) = (0, Histogram::new());
            while last < end {
                // A large prime: all are called, in an order that no cache foresees.
                let at = (calls as usize).wrapping_mul(7_368_787) % holder.objects.len();
                holder.client.call(&mut holder.objects[at]).await?;
                let now = Instant::now();
                times.add(now - last);
                last = now;
                calls += 1;
            }
            let mut figures = Figures::new();
            Moment::now(server)?.since(begun, 1, &mut figures);
            // The first turn warms up.
            if turn > 0 {
                holder.times.merge(&times);
                holder.cpu += figures.get("cpu").copied().unwrap_or_default();
                holder.calls += calls;
            }
        }
    }
    let mut figures = Figures::new();
    for (number, holder) in HELD.into_iter().zip(&holders) {
        figures.insert(format!("cpu-{number}"), holder.cpu / holder.calls as f64);
        figures.insert(format!("p50-{number}"), holder.times.quantile(0.5));
    }
    let cpu = |number: usize| figures.get(&format!("cpu-{number}")).copied().unwrap_or(f64::NAN);
    let flat = cpu(HELD[HELD.len() - 1]) / cpu(HELD[0]);
    figures.insert("flat".into(), flat);
    Ok(figures)
}
