//! How fast farref is beside no RPC at all.
//!
//! The program starts itself again for every measurement: a *client* process, which starts a *server* process and
//! drives it. Contenders take turns (A B C A B C …), so that whatever else the machine does meets them all, and each
//! is compared with the reference of the same turn. `README.md` tells how to run it.
//!
//! Reading order: [`job`] (what is measured), [`turns`] (who runs when, and the tables), [`client`] and [`server`]
//! (the two processes), [`meter`] (what is counted), then the [`contenders`].

mod allocator;
mod client;
mod contenders;
mod job;
mod meter;
mod options;
mod server;
mod turns;

/// Whatever goes wrong ends the program with a sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((role, job)) if role == "client" => client::main(&job::Job::from_arguments(job)?),
        Some((role, job)) if role == "server" => server::main(&job::Job::from_arguments(job)?),
        _ => match options::Options::parse(&arguments)? {
            Some(options) => turns::run(&options),
            None => {
                print!("{}", options::HELP);
                Ok(())
            }
        },
    }
}
