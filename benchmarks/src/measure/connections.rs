//! What it takes to have a connection: to make one, and to have it back after its carrier was cut.

use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::histogram::Histogram;
use crate::job::Job;
use crate::measure::wire::Relay;
use crate::meter::{Figures, Moment};

/// Makes connections, one after another, each for one call.
pub(super) async fn connect<C: Client>(job: &Job, server: &mut Server) -> Result<Figures> {
    let once = async |address: &str| {
        let mut client = C::connect(job, address).await?;
        client.null().await
    };
    let address = server.address.clone();
    let warm = Instant::now() + job.duration / 5;
    while Instant::now() < warm {
        once(&address).await?;
    }
    let (mut times, mut operations) = (Histogram::new(), 0);
    let begun = Moment::now(server)?;
    let mut last = Instant::now();
    let end = last + job.duration;
    while last < end {
        once(&address).await?;
        let now = Instant::now();
        times.add(now - last);
        last = now;
        operations += 1;
    }
    let ended = Moment::now(server)?;
    let mut figures = Figures::new();
    ended.since(begun, operations, &mut figures);
    times.describe(1, &mut figures);
    Ok(figures)
}

/// Cuts the carrier at both ends, and has a call made at once.
pub(super) async fn resume<C: Client>(job: &Job, server: &mut Server) -> Result<Figures> {
    let relay = Relay::start(&server.address).await?;
    let mut client = C::connect(job, &relay.address).await?;
    client.null().await?;
    let mut times = Histogram::new();
    let begun = Moment::now(server)?;
    let started = Instant::now();
    let mut cuts = 0;
    while cuts < 5 || started.elapsed() < job.duration {
        let cut = Instant::now();
        relay.cut();
        client.recover().await?;
        times.add(cut.elapsed());
        cuts += 1;
        // Whoever redials has its pauses, which grow with every failure in a row.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut figures = Figures::new();
    Moment::now(server)?.since(begun, cuts, &mut figures);
    times.describe(1, &mut figures);
    Ok(figures)
}
