//! The chapters about calls: back, ahead of time, given up, and failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::{ErrorKind, Netref, Result, Status, connect};
use tokio::sync::oneshot;

use crate::directory::{Directory, Disk};
use crate::slow_line;
use crate::stage::{PATIENCE, Stage, check};
use crate::workshop::Workshop;

pub(crate) async fn chapters(stage: &Stage) -> Result<()> {
    callbacks(stage)?;
    pipelining(stage).await?;
    pulled_cable(stage).await?;
    giving_up(stage).await?;
    errors(stage)?;
    panics(stage).await
}

/// The far side calls us while we wait for it.
fn callbacks(stage: &Stage) -> Result<()> {
    let Stage { screen, workshop, .. } = stage;
    screen.chapter("A callback: the far side reports while it works")?;
    screen.code("workshop.checksum(library, Netref::of(|name, done, of| ..))?")?;
    let waiting = thread::current().id();
    let progress = {
        let screen = screen.clone();
        move |name: &str, done: u64, of: u64| -> Result<()> {
            let bar = "#".repeat(usize::try_from(done * 20 / of.max(1))?);
            screen.block(format!("[{bar:<20}] {done} of {of}  {name}"))?;
            check(
                thread::current().id() == waiting,
                "callbacks run on the thread that waits",
            )
        }
    };
    let checksum = workshop.checksum(workshop.library()?, Netref::of(progress))?;
    screen.fact("checksum", format!("{checksum:016x}"))?;
    screen.say("The callbacks ran on this side, on the very thread that waited for the checksum.")?;
    Ok(())
}

/// Calls on results that are not there yet.
async fn pipelining(stage: &Stage) -> Result<()> {
    let Stage { screen, tcp, .. } = stage;
    screen.chapter("Pipelining: two calls, one needs the other, one round trip")?;
    let Some(tcp) = tcp else {
        screen.say("To see it a line of TCP is made slow, and this program was built without TCP.")?;
        return Ok(());
    };
    let line = slow_line::start(tcp, Duration::from_millis(20)).await?;
    let connection = connect(line.address()).call_timeout(PATIENCE).await?;
    let workshop: Netref<dyn Workshop> = connection.root().await?;
    let library = workshop.call().library().await?;
    let round_trip = connection.ping().await?;

    screen.code("let poems = library.call().directory(\"poems\");  // a call, not its result")?;
    screen.code("let tyger = poems.pipe().read(\"tyger.txt\");     // already used")?;
    screen.fact(
        "the line",
        format!("slowed down: {round_trip:.0?} there and back"),
    )?;
    let (mut sequential, mut pipelined) = (Duration::MAX, Duration::MAX);
    let mut first_line = String::new();
    // The best of three, in case the machine is busy with something else.
    for _ in 0..3 {
        let start = Instant::now();
        let poems = library.call().directory("poems").await?;
        let one = poems.call().read("tyger.txt").await?;
        sequential = sequential.min(start.elapsed());

        let start = Instant::now();
        let poems = library.call().directory("poems");
        let tyger = poems.pipe().read("tyger.txt");
        let two = tyger.await?;
        pipelined = pipelined.min(start.elapsed());
        check(one == two, "both ways read the same")?;
        first_line = String::from_utf8_lossy(&one)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
    }
    let trips = |time: Duration| (time.as_secs_f64() / round_trip.as_secs_f64()).round();
    screen.fact(
        "one after the other",
        format!("{sequential:.0?}, round trips: {}", trips(sequential)),
    )?;
    screen.fact(
        "pipelined",
        format!("{pipelined:.0?}, round trips: {}", trips(pipelined)),
    )?;
    screen.fact("what was read", format!("\"{first_line}\""))?;
    connection.close().await;
    Ok(())
}

/// A transfer and callbacks go on while the cable is pulled, over another medium.
async fn pulled_cable(stage: &Stage) -> Result<()> {
    let Stage { screen, .. } = stage;
    screen.chapter("The cable is pulled: what is under way goes on over another wire")?;
    let (Some(tcp), Some(quic)) = (&stage.tcp, &stage.quic) else {
        screen.say("It goes from TCP to QUIC, and this program was built without one of them.")?;
        return Ok(());
    };
    let line = slow_line::start(tcp, Duration::from_millis(1)).await?;
    screen.code("let connection = connect(tcp).also_at(quic).await?;")?;
    let connection = connect(line.address())
        .also_at(quic)
        .trust(stage.trust.clone())
        .call_timeout(PATIENCE)
        .await?;
    let workshop: Netref<dyn Workshop> = connection.root().await?;
    let body = Bytes::from(vec![0x5a; 4 << 20]);
    let transfer = workshop.call().echo(body.clone()).start();
    let heard = Arc::new(Mutex::new((Vec::new(), Some(line))));
    let (pull, pulled) = oneshot::channel();
    let pull = Mutex::new(Some(pull));
    let progress = {
        let heard = Arc::clone(&heard);
        move |_: &str, done: u64, _: u64| -> Result<()> {
            let mut heard = lock(&heard);
            heard.0.push(done);
            if done == 3
                && let Some(pull) = lock(&pull).take()
            {
                heard.1 = None;
                let _ = pull.send(Instant::now());
            }
            Ok(())
        }
    };
    let library = workshop.call().library().await?;
    let checksum = workshop.call().checksum(library, Netref::of(progress)).start();
    let pulled = pulled.await?;
    screen.fact(
        "after 3 callbacks",
        format!("{} is cut off", connection.peer().medium),
    )?;
    let mut watch = connection.watch();
    while watch.next().await != Status::Up || connection.peer().medium != "quic" {}
    screen.fact("it goes on", format!("after {:.1?}, over quic", pulled.elapsed()))?;
    checksum.await?;
    let heard = std::mem::take(&mut lock(&heard).0);
    check(
        heard.iter().copied().eq(1..=6),
        "each callback came once, in order",
    )?;
    screen.fact("callbacks", format!("{heard:?}"))?;
    check(transfer.await? == body, "the transfer is whole")?;
    screen.fact("4 MiB, sent meanwhile", "came back as they were")?;
    connection.close().await;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that is given up ends over there as well.
async fn giving_up(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        journal,
        ..
    } = stage;
    screen.chapter("Giving up: the method over there is dropped")?;
    let hour = Duration::from_secs(3600);

    screen.code("let call = workshop.call().wait(hour, journal).start(); drop(call);")?;
    let call = workshop.call().wait(hour, journal.clone()).start();
    tokio::time::sleep(Duration::from_millis(50)).await;
    check(!call.is_ready(), "the hour is not over")?;
    drop(call);
    screen.fact("dropped", format!("the far side: {}", stage.note().await?))?;

    screen.code("workshop.call().wait(hour, journal).timeout(50 ms).await")?;
    let call = workshop
        .call()
        .wait(hour, journal.clone())
        .timeout(Duration::from_millis(50));
    let Err(error) = call.await else {
        return check(false, "an hour takes longer");
    };
    check(error.kind() == ErrorKind::Deadline, "the time was up")?;
    screen.fact("out of time", format!("{:?}: {error}", error.kind()))?;
    screen.fact("", format!("the far side: {}", stage.note().await?))?;
    Ok(())
}

/// Errors tell what happened, and where.
fn errors(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        library,
        ..
    } = stage;
    screen.chapter("An error tells what happened, and where")?;
    screen.code("workshop.fetch(ours, \"missing.txt\")  // which reads from our directory")?;
    let ours: Netref<dyn Directory> = Netref::of(Disk::at(library));
    let Err(error) = workshop.fetch(ours, "missing.txt") else {
        return check(false, "there is no such file");
    };
    check(error.kind() == ErrorKind::Remote, "the method ran and failed")?;
    check(error.trace().lines().count() == 2, "the error crossed twice")?;
    screen.fact("error.kind()", format!("{:?}", error.kind()))?;
    screen.block(format!("{error:?}\n\n"))?;

    screen.code("workshop.library()?.read(\"../socket\")")?;
    let Err(error) = workshop.library()?.read("../socket") else {
        return check(false, "names lead nowhere else");
    };
    check(
        error.kind() == ErrorKind::Denied,
        "the far side does not allow it",
    )?;
    screen.fact("error.kind()", format!("{:?}: {error}", error.kind()))?;
    Ok(())
}

/// A panic is one call's failure.
async fn panics(stage: &Stage) -> Result<()> {
    let Stage {
        screen,
        workshop,
        connection,
        ..
    } = stage;
    screen.chapter("A panic over there fails one call, and no more")?;
    screen.code("workshop.call().divide(1, 0).await")?;
    let Err(error) = workshop.call().divide(1, 0).await else {
        return check(false, "nothing is divided by 0");
    };
    check(error.kind() == ErrorKind::Panicked, "the method panicked")?;
    screen.fact("error.kind()", format!("{:?}: {error}", error.kind()))?;
    screen.fact("its standard error", stage.said().await?)?;
    let quotient = workshop.call().divide(84, 2).await?;
    screen.fact(
        "divide(84, 2)",
        format!("{quotient}; a ping takes {:.0?}", connection.ping().await?),
    )?;
    Ok(())
}
