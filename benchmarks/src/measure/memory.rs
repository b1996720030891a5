//! What stays in memory: objects that are held, connections that do nothing, and calls that are over.

use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::contenders::made;
use crate::job::Job;
use crate::meter::{Figures, Moment};
use crate::workload::{IDLE, LIVE, SOAK, SOAK_IN_FLIGHT, SOAK_WARM};

/// Holds very many objects at once, and drops them.
pub(super) async fn live<C: Client>(mut client: C, server: &mut Server) -> Result<Figures> {
    const CALLERS: usize = 64;

    server.count(true)?;
    // What is allocated once and for all does not count.
    let mut first = client.make().await?;
    client.call(&mut first).await?;
    let begun = Moment::now(server)?;
    let started = Instant::now();
    let mut callers = Vec::with_capacity(CALLERS);
    for caller in 0..CALLERS {
        let mut client = client.another().await?;
        let number = (caller + 1) * LIVE / CALLERS - caller * LIVE / CALLERS;
        callers.push(tokio::spawn(async move {
            let mut objects = Vec::with_capacity(number);
            for _ in 0..number {
                objects.push(client.make().await?);
            }
            Result::Ok(objects)
        }));
    }
    let mut objects = Vec::with_capacity(CALLERS);
    for caller in callers {
        objects.push(caller.await??);
    }
    let made = started.elapsed();
    let mut figures = Figures::new();
    Moment::now(server)?.grown(begun, LIVE, &mut figures);
    let there = server.objects()?;
    if there != LIVE as u64 + 1 {
        return Err(format!("{} objects are held, but {there} live", LIVE + 1).into());
    }
    // The object itself is the program's.
    for name in ["server", "resident-server"] {
        figures
            .entry(name.into())
            .and_modify(|bytes| *bytes -= made::SIZE as f64);
    }
    let both = figures.get("client").unwrap_or(&f64::NAN) + figures.get("server").unwrap_or(&f64::NAN);
    figures.insert("both".into(), both);

    let started = Instant::now();
    drop(objects);
    while server.objects()? > 1 {
        if started.elapsed() > Duration::from_secs(60) {
            return Err(format!(
                "{} objects live on after they were dropped",
                server.objects()? - 1
            )
            .into());
        }
        // Some notice in their next call what was dropped.
        client.call(&mut first).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let freed = started.elapsed();
    figures.insert("made".into(), LIVE as f64 / made.as_secs_f64());
    figures.insert("freed".into(), LIVE as f64 / freed.as_secs_f64());
    Ok(figures)
}

/// Keeps very many connections that have made one call each.
pub(super) async fn idle<C: Client>(job: &Job, server: &mut Server) -> Result<Figures> {
    server.count(true)?;
    let connect = async |address: &str| {
        let mut client = C::connect(job, address).await?;
        client.null().await?;
        Result::Ok(client)
    };
    let address = server.address.clone();
    let _first = connect(&address).await?;
    let begun = Moment::now(server)?;
    let mut clients = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        clients.push(connect(&address).await?);
    }
    // Timers of the first moments are over then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut figures = Figures::new();
    Moment::now(server)?.grown(begun, IDLE, &mut figures);
    Ok(figures)
}

/// Makes very many calls, and looks whether anything is left of them.
pub(super) async fn soak<C: Client>(mut client: C, server: &mut Server) -> Result<Figures> {
    let mut run = async |calls: u64| {
        let mut callers = Vec::with_capacity(SOAK_IN_FLIGHT);
        for _ in 0..SOAK_IN_FLIGHT {
            let mut client = client.another().await?;
            callers.push(tokio::spawn(async move {
                for _ in 0..calls / SOAK_IN_FLIGHT as u64 {
                    client.null().await?;
                }
                Result::Ok(())
            }));
        }
        for caller in callers {
            caller.await??;
        }
        Result::Ok(())
    };
    /// Connections that were busy and have nothing to do have given memory back by then.
    const REST: Duration = Duration::from_secs(5);

    server.count(true)?;
    run(SOAK_WARM).await?;
    tokio::time::sleep(REST).await;
    let begun = Moment::now(server)?;
    run(SOAK - SOAK_WARM).await?;
    let mut figures = Figures::new();
    Moment::now(server)?.since(begun, SOAK - SOAK_WARM, &mut figures);
    tokio::time::sleep(REST).await;
    let ended = Moment::now(server)?;
    let left = (ended.here.live - begun.here.live) + (ended.there.live - begun.there.live);
    figures.insert("left".into(), left as f64);
    let grown = |before: u64, after: u64| after as f64 - before as f64;
    let client = grown(begun.here.resident, ended.here.resident);
    let server = grown(begun.there.resident, ended.there.resident);
    figures.insert("grown-client".into(), client);
    figures.insert("grown-server".into(), server);
    figures.insert(
        "grown".into(),
        (client + server) / (SOAK - SOAK_WARM) as f64 * 1000.0,
    );
    figures.insert("resident-client".into(), ended.here.resident as f64);
    figures.insert("resident-server".into(), ended.there.resident as f64);
    Ok(figures)
}
