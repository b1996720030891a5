//! `farref cat`: files of another machine, as they are.

use std::io::Write;

use clap::Args;

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::far::{Far, broken, failed, split};
use crate::output::harmless;

/// Write files of another machine to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref cat tcp://rig7:7000::/etc/hostname
  farref cat tcp://rig7:7000::a tcp://rig7:7000::b > both
  farref cat -f tcp://rig7:7000::/var/log/syslog | grep usb
  farref cat --from 1000000 tcp://rig7:7000::big | head -c 100")]
pub(crate) struct Cat {
    /// The files: ADDRESS::PATH
    #[arg(value_name = "ADDRESS::PATH", required = true)]
    places: Vec<String>,
    /// Show the last lines, and go on with what is written
    #[arg(short, long)]
    follow: bool,
    /// With --follow, so many lines
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        default_value_t = 10,
        requires = "follow"
    )]
    lines: u32,
    /// Begin at that byte
    #[arg(long, value_name = "BYTE", default_value_t = 0, conflicts_with = "follow")]
    from: u64,
}

impl Cat {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let mut connected: Option<(&str, Far)> = None;
        let mut stdout = std::io::stdout().lock();
        for place in &self.places {
            let (address, path) = split(place).ok_or_else(|| {
                Failure::usage(format_args!("`{place}` is no file of another machine"))
                    .hint("write ADDRESS::PATH")
            })?;
            // Files of one machine come over one connection.
            let far = match connected.take() {
                Some((before, far)) if before == address => far,
                _ => Far::connect(address, global).await?,
            };
            far.connection.call_timeout(global.limit());
            let files = far.files().await?;
            let bytes = match self.follow {
                true => files.call().follow(path, self.lines).await,
                false => files
                    .call()
                    .read_from(path, self.from)
                    .await
                    .map(|content| content.bytes),
            };
            // What a failure is about it says itself; what ends a stream does not.
            let mut bytes = bytes.map_err(|error| failed("cannot read", error))?;
            while let Some(piece) = bytes.next().await {
                let piece = piece
                    .map_err(|error| broken(format_args!("cannot read `{}`", harmless(path)), &error))?;
                stdout.write_all(&piece)?;
                if self.follow {
                    stdout.flush()?;
                }
            }
            connected = Some((address, far));
        }
        stdout.flush()?;
        if let Some((_, far)) = connected {
            far.connection.close().await;
        }
        Ok(())
    }
}
