//! `farref pair`: two sides that do not know each other yet, and two people who compare what they see.
//!
//! A short code that is typed would need a handshake which gives nobody a second guess (a PAKE). There is none here, so
//! both sides show both fingerprints, over the very connection that proves them, and each believes what its person says.

use std::io::Write;

use clap::Args;
use farref::keys::{Authorized, Fingerprint, KnownPeers, Policy, Trust};
use farref::speed::{self, Speed};
use farref::transport::PeerEvidence;
use farref::transport::address::PeerKey;
use farref::{Connection, Server, connect};

use crate::authorize::Rights;
use crate::context::{Global, name_of};
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Out, map};

/// Make two sides know each other: one listens, the other dials, and their people compare two lines.
///
/// The side that listens lets the other in from then on, with the rights that are given here; the side that dials
/// remembers its key. Until somebody has said yes on a side, nothing changes there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref pair --listen tcp://0.0.0.0:7000 --services files    on one side
  farref pair tcp://rig7:7000                                 on the other
  farref pair --listen tcp://0.0.0.0:7000 --read-only --expires 30d")]
pub(crate) struct Pair {
    /// Where to dial, or to listen
    address: String,
    /// Wait for the other side, and let it in
    #[arg(long)]
    listen: bool,
    #[command(flatten)]
    rights: Rights,
}

impl Pair {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let address = Global::address(&self.address)?;
        if !crate::context::needs_keys(&address) {
            return Err(
                Failure::usage(format_args!("`{address}` proves no keys")).hint("use tcp:// or quic://")
            );
        }
        let store = global.keys()?;
        let identity = store
            .identity()
            .map_err(|error| Failure::of("cannot use the key", &error))?;
        let own = identity.public();
        if self.listen {
            let grant = self.rights.grant()?;
            let trust = Trust::new(identity).authorizing(Authorized::anyone());
            // Whoever comes before they are known finds nothing but this.
            let server = Server::of::<dyn Speed>(speed::share()).trust(trust);
            let local = server
                .listen(&address)
                .await
                .map_err(|error| Failure::of("cannot listen", &error))?;
            let mut out = Out::new(global);
            out.note(&format!(
                "on the other side: farref pair {}",
                crate::serve::dialled(&local.without_peer_key()).0
            ))?;
            out.flush()?;
            server.wait_for(|stats| stats.connections > 0).await;
            let connection = server
                .connections()
                .pop()
                .ok_or_else(|| Failure::new(Code::Connection, "it is gone"))?;
            let key = key_of(&connection)?;
            ask(&own, &key, &connection).await?;
            store
                .authorized_peers()
                .remove(&key.to_string())
                .and_then(|_| store.authorized_peers().add(&key, &grant))
                .map_err(|error| Failure::of("it is not let in", &error))?;
            done(out, global, "let in", &key)?;
            connection.close().await;
            return Ok(());
        }
        let pinned = address.peer_key().is_some();
        let known = if pinned {
            store.known_peers(Policy::Strict)
        } else {
            KnownPeers::anyone()
        };
        let connecting = connect(&address).trust(Trust::new(identity).knowing(known));
        let connection = connecting.await.map_err(|error| {
            Failure::of(format_args!("cannot connect to `{address}`"), &error)
                .hint("on the other side: farref pair --listen ADDRESS")
        })?;
        let key = key_of(&connection)?;
        ask(&key, &own, &connection).await?;
        let name = address.without_options().without_peer_key().to_string();
        let known = store.known_peers(Policy::Strict);
        known.add(&name, &key, &self.rights.comment).map_err(|error| {
            Failure::of("it is not remembered", &error)
                .hint(format_args!("if it was set up anew: farref peers forget {name}"))
        })?;
        done(Out::new(global), global, "known now", &key)
    }
}

fn done(mut out: Out, global: &Global, what: &str, key: &PeerKey) -> Outcome {
    if global.json {
        out.json(&map([("key", key.to_string().into()), ("done", what.into())]))?;
    } else {
        out.note(&format!("{what}: {}", Fingerprint::of(key)))?;
    }
    out.finish()
}

fn key_of(connection: &Connection) -> Outcome<PeerKey> {
    match connection.peer().evidence {
        PeerEvidence::Key(key) => Ok(PeerKey::new(key)),
        _ => Err(Failure::new(Code::Denied, "the other side proved no key")),
    }
}

/// Shows the fingerprints of both sides, the one that listens first, and asks whether the other side shows the same.
async fn ask(listens: &PeerKey, dials: &PeerKey, connection: &Connection) -> Outcome {
    let text = format!(
        "{} is there. Both sides must show these two lines:\n  listens  {}\n  dials    {}\nDo they (yes/no)? ",
        name_of(&connection.peer()),
        Fingerprint::of(listens),
        Fingerprint::of(dials)
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = std::io::stderr();
        stderr.write_all(text.as_bytes())?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|error| Failure::new(Code::Remote, error))?;
    match answer.map_err(|error| Failure::io("cannot ask", &error))?.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(
            Code::Denied,
            "the answer was not `yes`: nothing was changed",
        )),
    }
}
