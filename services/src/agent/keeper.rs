//! The process that outlives ssh.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use farref_boxing::{Error, ErrorKind, Result};
use farref_transport::unix::Unix;
use farref_transport::{
    AcceptError, Address, BoxFuture, ByteTx, Carrier, DialError, ListenError, Listener, Media, PeerEvidence,
    Transport, warn_of_stranger,
};

use super::own::Start;
use super::{Options, failed};
use crate::server::Server;
use crate::service::Service;

/// What a keeper says on its standard output when it listens.
pub(super) const READY: &str = "ready";

/// What each proxy is greeted with: one that is not, has come to a keeper that is about to end.
pub(super) const GREETING: &[u8] = b"\n";

/// Serves until nobody has been there for long enough.
///
/// # Errors
///
/// It cannot listen, as when another keeper of the same program does.
pub(super) async fn run(service: impl Service, options: &Options, start: &Start) -> Result<()> {
    // It is not the leader of a group: it was started by a process of ours that made none for it.
    rustix::process::setsid().map_err(|error| failed("the agent cannot leave the session of ssh", error))?;
    let place = start.place()?;
    let address = place.address()?;
    let media = Media::none().with(Door(Unix::new()));
    let server = Server::with(service, options.config.clone(), options.limits, media);
    place.tidy();
    server.listen(address).await?;
    report().map_err(|error| failed("the agent cannot leave ssh", error))?;
    loop {
        let idle = server
            .wait_for(|stats| stats.connections == 0 && stats.opening == 0)
            .await;
        let next = server.wait_for(|stats| stats.accepted != idle.accepted);
        if tokio::time::timeout(options.linger, next).await.is_err() {
            // Whoever comes from here on is not greeted, and starts another keeper.
            return Ok(());
        }
    }
}

/// Tells whoever started this process that it listens, and lets go of all that would keep ssh waiting.
fn report() -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Unix sockets for this account alone, where everybody is greeted.
struct Door(Unix);

impl Transport for Door {
    fn schemes(&self) -> &'static [&'static str] {
        self.0.schemes()
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, core::result::Result<Carrier, DialError>> {
        self.0.dial(address)
    }

    fn listen<'a>(
        &'a self,
        address: &'a Address,
    ) -> BoxFuture<'a, core::result::Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async {
            let listener = self.0.listen(address).await?;
            Ok(Box::new(Porter(listener)) as Box<dyn Listener>)
        })
    }
}

struct Porter(Box<dyn Listener>);

impl Listener for Porter {
    fn accept(&mut self) -> BoxFuture<'_, core::result::Result<Carrier, AcceptError>> {
        // Cancel-safe: the only wait is that for the next carrier.
        Box::pin(async {
            loop {
                let Carrier::Stream(mut carrier) = self.0.accept().await? else {
                    continue;
                };
                if let Err(error) = check_account(&carrier.info.peer) {
                    warn_of_stranger(|left_out| tracing::warn!(%error, left_out, "somebody was turned away"));
                    continue;
                }
                // A socket that is new has room for it.
                if greet(&mut *carrier.tx) {
                    return Ok(carrier.into());
                }
            }
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.0.local_addresses()
    }
}

fn greet(tx: &mut dyn ByteTx) -> bool {
    tx.try_write(&[IoSlice::new(GREETING)])
        .is_ok_and(|count| count == GREETING.len())
}

/// Makes sure that the other end of a socket is of this account.
///
/// # Errors
///
/// [`ErrorKind::Denied`]: it is not.
pub(super) fn check_account(peer: &PeerEvidence) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    match peer {
        PeerEvidence::Unix { uid, .. } if *uid == own => Ok(()),
        other => {
            let text = format!("the other end of the socket is not of this account, {own}, but: {other:?}");
            Err(Error::new(ErrorKind::Denied, text))
        }
    }
}
