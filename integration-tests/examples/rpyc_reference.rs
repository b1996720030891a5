//! Serves the reference service to Python until the standard input ends.
//!
//! ```sh
//! cargo run -p farref-integration-tests --example rpyc_reference -- rpyc://127.0.0.1:0
//! ```
#![allow(clippy::print_stdout, reason = "it tells where it listens")]

use farref_integration_tests::rpyc_service::Serving;

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "rpyc://127.0.0.1:0".into());
    let runtime = farref_integration_tests::media::runtime();
    let serving = runtime.block_on(Serving::at(&address));
    println!("{}", serving.address());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
