//! Two hosts over QUIC: encrypted, and each proved by its key.
//!
//! ```sh
//! cargo run --example two_hosts serve quic://0.0.0.0:7000      # prints where to dial, with its key
//! cargo run --example two_hosts call 'quic://host:7000#ed25519....'
//! ```
//!
//! The first call is turned away with the line that lets its key in; put it where it says, and call again.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::io::Write;

use farref::keys::KeyStore;
use farref::{Error, Netref, Result, Server, connect, remote};

/// A host that says how it is.
#[remote]
trait Host {
    async fn uptime(&self) -> Result<f64>;
    async fn echo(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
}

struct This;

#[remote]
impl Host for This {
    async fn uptime(&self) -> Result<f64> {
        let text = std::fs::read_to_string("/proc/uptime")?;
        Ok(text.split_whitespace().next().unwrap_or("0").parse()?)
    }

    async fn echo(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let server = Server::of::<dyn Host>(This);
            println!("{}", server.listen(address).await?);
            println!(
                "lets in who is in {}/authorized_peers",
                KeyStore::of_user()?.directory().display()
            );
            std::io::stdout().flush()?;
            server.closed().await;
            Ok(())
        }
        ["call", address] => {
            let host: Netref<dyn Host> = connect(address).await?.root().await?;
            println!("up for {:.0} s", host.call().uptime().await?);
            let bytes = host.call().echo(vec![7; 10 << 20]).await?;
            println!("{} bytes came back", bytes.len());
            Ok(())
        }
        _ => Err(Error::msg("usage: two_hosts serve|call ADDRESS")),
    }
}
