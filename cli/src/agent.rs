//! `farref agent`: what `ssh:` starts over there. Nobody types it.

use clap::Args;
use farref::agent::{self, Options};
use farref::logs::LogRing;

use crate::failure::{Failure, Outcome};
use crate::serve;

/// Show everything to whoever started this by ssh, over standard input and output.
///
/// The account over there decides what may be done, as with ssh itself.
#[derive(Debug, Args)]
pub(crate) struct Agent {}

impl Agent {
    pub(crate) async fn run(&self, ring: &LogRing) -> Outcome {
        let served = agent::run(serve::everything(ring), Options::default()).await;
        served.map_err(|error| Failure::of("the agent cannot serve", &error))
    }
}
