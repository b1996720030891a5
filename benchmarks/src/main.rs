//! How fast farref is beside no RPC at all, and beside its peers.
//!
//! The program starts itself again for every measurement: a *client* process, which starts a *server* process and
//! drives it. Contenders take turns (A B C A B C …), so that whatever else the machine does meets them all, and each
//! is compared with the reference of the same turn. `README.md` tells how to run it.
//!
//! Reading order: [`workload`] and [`contender`] (what is done, and by whom), [`turns`] (who runs when), [`client`] and
//! [`server`] (the two processes), [`measure`] and [`meter`] (how it is measured, what is counted), [`report`]; then
//! the [`contenders`].

mod allocator;
mod client;
mod contender;
mod contenders;
mod histogram;
mod job;
mod measure;
mod meter;
mod options;
mod report;
mod results;
mod server;
mod turns;
mod workload;

use crate::results::Results;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whatever goes wrong ends the program with a sentence.
type Result<T> = std::result::Result<T, Error>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, job)) if role == "client" => return client::main(&job::Job::from_arguments(job)?),
        Some((role, rest)) if role == "server" => return server::main(rest),
        _ => {}
    }
    let Some(options) = options::Options::parse(&arguments)? else {
        print!("{}", options::help());
        return Ok(());
    };
    let results = if options.from.is_empty() {
        turns::run(&options)?
    } else {
        Results::read(&options.from)?
    };
    if let Some(path) = &options.json {
        results.write(path)?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, report::svg(&results))?;
    }
    print!("{}", report::markdown(&results));
    Ok(())
}
