//! `farref speed`: round trip and throughput of that very link.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use farref::host::Host;
use farref::speed::{Speed, made};
use farref::{Connection, Error, ErrorKind, Netref, Object};

use crate::context::{Global, duration};
use crate::failure::{Failure, Outcome};
use crate::output::{Out, map, size, time};
use crate::ping::micros;

/// Measure round trip and throughput of the link to a peer.
///
/// The peer must show the service `speed`, as every `farref serve` does.
#[derive(Debug, Args)]
#[command(
    name = "speed",
    after_help = "\
Examples:
  farref speed tcp://rig7:7000
  farref speed serial:/dev/ttyUSB0?baud=921600 --for 10s
  farref speed quic://rig7:7000 --json | jq .download_bytes_per_second"
)]
pub(crate) struct SpeedOf {
    /// Where to dial
    address: String,
    /// How long each direction is measured, about
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    span: Duration,
}

/// Calls that are timed.
const CALLS: usize = 200;

/// What was measured.
struct Measured {
    half: Duration,
    most: Duration,
    download: f64,
    upload: f64,
}

impl SpeedOf {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let connection = global.connect(&self.address).await?;
        connection.call_timeout(global.limit());
        let failed = |error: Error| {
            let is_missing = matches!(error.kind(), ErrorKind::Unimplemented | ErrorKind::Incompatible);
            let failure = Failure::of("cannot measure", &error);
            match is_missing {
                true => failure.hint("the far side must show the service `speed`: `farref serve` does"),
                false => failure,
            }
        };
        let far = service(&connection).await.map_err(failed)?;
        let measured = self.measure(&far).await.map_err(failed)?;
        let mut out = Out::new(global);
        let Measured {
            half,
            most,
            download,
            upload,
        } = measured;
        if global.json {
            out.json(&map([
                ("rtt_p50_us", micros(half)),
                ("rtt_p99_us", micros(most)),
                ("download_bytes_per_second", download.round().into()),
                ("upload_bytes_per_second", upload.round().into()),
            ]))?;
        } else {
            out.pair(
                "round trip",
                &format!("{} (99 of 100 within {})", time(half), time(most)),
            )?;
            out.pair("from there", &format!("{}/s", size(download as u64)))?;
            out.pair("to there", &format!("{}/s", size(upload as u64)))?;
        }
        out.finish()?;
        connection.close().await;
        Ok(())
    }

    async fn measure(&self, far: &Netref<dyn Speed>) -> Result<Measured, Error> {
        let mut times = Vec::with_capacity(CALLS);
        let start = Instant::now();
        while times.len() < CALLS && (times.len() < 10 || start.elapsed() < self.span) {
            let start = Instant::now();
            far.call().echo(Bytes::from_static(&[0; 64])).await?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let of_hundred = |rank: usize| times.get(times.len() * rank / 100).copied().unwrap_or_default();
        let (half, most) = (of_hundred(50), of_hundred(99));
        // More and more, until it takes long enough.
        let mut len = 64 << 10;
        let download = loop {
            let start = Instant::now();
            let mut bytes = far.call().source(len).await?.credit(16 << 20);
            while let Some(piece) = bytes.next().await {
                piece?;
            }
            match self.rate(len, start.elapsed()) {
                Ok(rate) => break rate,
                Err(more) => len = more,
            }
        };
        len = 64 << 10;
        let upload = loop {
            let start = Instant::now();
            far.call().sink(made(len)).await?;
            match self.rate(len, start.elapsed()) {
                Ok(rate) => break rate,
                Err(more) => len = more,
            }
        };
        Ok(Measured {
            half,
            most,
            download,
            upload,
        })
    }

    /// Bytes per second; or how many to send next, as these took too short a time.
    fn rate(&self, len: u64, took: Duration) -> Result<f64, u64> {
        let (took, span) = (took.as_secs_f64().max(1e-6), self.span.as_secs_f64());
        if took >= span * 0.5 {
            return Ok(len as f64 / took);
        }
        let wanted = len as f64 / took * span;
        Err((wanted as u64).clamp(len.saturating_mul(2), len.saturating_mul(32)))
    }
}

/// The service, which may be what is shown first.
async fn service(connection: &Connection) -> Result<Netref<dyn Speed>, Error> {
    let root = connection.object().await?;
    if let Ok(speed) = root.cast::<dyn Speed>().await {
        return Ok(speed);
    }
    let host: Netref<dyn Host> = root.cast().await?;
    let object: Object = host.call().service("speed").await?;
    object.cast().await
}
