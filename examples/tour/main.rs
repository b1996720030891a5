//! A tour of farref: two processes, joined over a Unix socket and over TCP, that do real work together.
//!
//! ```sh
//! cargo run --release --example tour
//! ```
//!
//! The program starts itself a second time, as the *far side*, and shows chapter by chapter what can be done with
//! an object over there. Each chapter checks what it shows. Everything is tidied up behind it, also after an error
//! or Ctrl-C.
//!
//! To read: `workshop.rs` (what both sides know), `far_side.rs` (the objects over there), then `objects.rs`,
//! `flows.rs` and `calls.rs` (the chapters), `directory.rs` (code that knows no connection), `times.rs` (the table at the end).

mod calls;
mod directory;
mod far_side;
mod flows;
mod objects;
mod screen;
mod second_process;
mod signals;
mod slow_line;
mod stage;
mod times;
mod wires;
mod workshop;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use farref::keys::{Identity, Trust};
use farref::transport::PeerEvidence;
use farref::{Error, Result};
use tokio::sync::Mutex;

use crate::screen::Screen;
use crate::second_process::{FAR_SIDE, Introduction, SecondProcess};
use crate::signals::Signals;
use crate::stage::{Said, Stage};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let ended = match arguments.first().map(String::as_str) {
        None => near_side(),
        Some(FAR_SIDE) => far_side::run(arguments.get(1), arguments.get(2)).map(|()| End::Complete),
        Some(wires::ON_STDIO) => far_side::run_on_stdio().map(|()| End::Complete),
        Some(_) => Err(Error::msg("the tour takes no arguments")),
    };
    match ended {
        Ok(End::Complete) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(130),
        Err(error) => {
            // Standard error may be closed as well: then there is nobody to tell.
            let _ = writeln!(io::stderr(), "\nthe tour stopped: {error:?}");
            ExitCode::FAILURE
        }
    }
}

enum End {
    Complete,
    Interrupted,
}

/// Starts the far side, gives the tour, and ends the far side, whatever happened.
fn near_side() -> Result<End> {
    let screen = Screen::standard();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let inside = runtime.enter();
    // Before there is anything to tidy up.
    let mut signals = Signals::catch(true)?;
    let me = Identity::generate()?;
    let cable = wires::cable::lay();
    let far_port = cable.as_ref().ok().map(|[_, far]| far.clone());
    let (far_side, said) = SecondProcess::start(&me.public(), far_port.as_deref())?;
    let said: Said = Arc::new(Mutex::new(said));

    let tour = tour(
        screen.clone(),
        far_side.id(),
        far_side.introduction().clone(),
        Arc::clone(&said),
        Trust::new(me),
        cable,
    );
    let mut tour = runtime.spawn(tour);
    let ended = runtime.block_on(async {
        tokio::select! {
            toured = &mut tour => toured.map_err(Error::from).flatten().map(|()| End::Complete),
            () = signals.any() => Ok(End::Interrupted),
        }
    });
    tour.abort();
    drop(far_side);
    if ended.is_err() {
        while let Some(line) = said.try_lock().ok().and_then(|mut said| said.try_recv().ok()) {
            writeln!(io::stderr(), "the far side said: {line}")?;
        }
    }
    // An interrupted tour may be waiting somewhere: it is not waited for.
    drop(inside);
    runtime.shutdown_background();
    let ended = ended?;
    let sentence = match ended {
        End::Complete => "The far side has ended, and its files are removed.",
        End::Interrupted => "Interrupted: the far side has ended, and its files are removed.",
    };
    screen.lines(format_args!("\n{sentence}"))?;
    Ok(ended)
}

/// The chapters over the first medium, for whoever watches; then over each of the others, in silence.
async fn tour(
    screen: Screen,
    process: u32,
    introduction: Introduction,
    said: Said,
    trust: Trust,
    cable: io::Result<[String; 2]>,
) -> Result<()> {
    let Introduction {
        directory,
        addresses,
        absent,
    } = introduction;
    screen.lines("farref: a tour of two processes that work as if they were one")?;

    screen.chapter("Joined")?;
    screen.fact("this process", std::process::id())?;
    screen.fact(
        "the far side",
        format!("{process}, the same program with {FAR_SIDE}"),
    )?;
    screen.fact("its files", directory.display())?;
    let mut stages: Vec<Stage> = Vec::new();
    for address in &addresses {
        let screen = if stages.is_empty() {
            screen.clone()
        } else {
            Screen::off()
        };
        let far = (address, &addresses[..], directory.as_path());
        stages.push(Stage::enter(far, screen, Arc::clone(&said), trust.clone()).await?);
    }
    for stage in &stages {
        let peer = stage.connection.peer();
        let address = peer.address.as_deref().unwrap_or("-");
        screen.fact(
            &format!("joined over {}", stage.medium()),
            address.split('#').next().unwrap_or(address),
        )?;
        match &peer.evidence {
            PeerEvidence::None => {}
            PeerEvidence::Key(_) => {
                let key: String = peer.evidence.to_string().chars().take(20).collect();
                screen.fact("", format!("where it has proved to have the key {key}..."))?;
            }
            other => screen.fact("", format!("where the system vouches for {other}"))?,
        }
    }
    for sentence in absent {
        screen.fact("not joined", sentence)?;
    }

    for stage in &stages {
        objects::chapters(stage).await?;
        flows::chapters(stage).await?;
        calls::chapters(stage).await?;
    }
    for (index, stage) in stages.iter().skip(1).enumerate() {
        if index == 0 {
            screen.chapter("The same, over another medium")?;
        }
        let all = format!(
            "all {} chapters once more, with the same results",
            stage.screen.chapters()
        );
        screen.fact(&format!("over {}", stage.medium()), all)?;
    }
    let (wires, mut absent) = wires::all(cable.as_ref().ok().map(|[near, _]| near.as_str())).await;
    absent.extend(cable.err().map(|error| wires::no_cable(&error)));
    times::chapter(&screen, &stages, &wires, &absent).await?;
    for wire in wires {
        wire.connection.close().await;
    }
    for stage in stages {
        stage.connection.close().await;
    }
    Ok(())
}
