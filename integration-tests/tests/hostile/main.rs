//! Each MUST of PROTOCOL.md, broken by a peer in turn: one clear error, and nobody else notices.
#![cfg(test)]
#![cfg(unix)]

mod calls;
mod clients;
mod demands;
mod exchange;
mod floods;
mod frames;
mod log;
mod session;
mod strangers;

use std::future::IntoFuture;
use std::path::PathBuf;

use farref::message::{Descriptor, Handed, Message};
use farref::{Config, Fixed, Netref, Server, ServerLimits, connect, transport::Media};
use farref_framing::CloseReason;
use farref_integration_tests::bench::{Bench, Counter, Rig};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::raw_peer::{RawPeer, call};

/// A server with an honest client and its tight limits.
struct House {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    honest: Netref<dyn Bench>,
    path: PathBuf,
    /// Dropped, it would open.
    _gate: tokio::sync::watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let mut config = Config::default();
        config.max_calls = 20;
        config.max_call_bytes = 1 << 20;
        config.max_objects = 100;
        config.max_depth = 10;
        config.limits.message = 1 << 20;
        config.limits.backlog = 8 << 20;
        let runtime = runtime();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = format!("unix:{}", path.display());
        let (rig, _, gate) = Rig::new();
        let root = Fixed::new::<dyn Bench>(rig);
        let server = Server::with(root, config, ServerLimits::default(), Media::standard());
        let honest = runtime.block_on(async {
            within(server.listen(&address)).await.unwrap();
            let client = within(connect(&address).into_future()).await.unwrap();
            within(client.root()).await.unwrap()
        });
        Self {
            runtime,
            server: Some(server),
            honest,
            path,
            _gate: gate,
            _directory: directory,
        }
    }

    fn peer(&self) -> RawPeer {
        RawPeer::dial(&self.path)
    }

    /// An honest peer is answered.
    fn is_answered(&self) {
        let sum = self.runtime.block_on(within(self.honest.call().add(20, 22)));
        assert_eq!(sum.unwrap(), 42);
    }

    /// Nobody else has noticed anything, and whoever came is gone.
    fn stands(&self) {
        self.is_answered();
        let server = self.server.as_ref().unwrap();
        self.runtime.block_on(within(
            server.wait_for(|stats| stats.connections == 1 && stats.opening == 0),
        ));
    }

    /// The peer did something that ends its connection, and hears why.
    fn refuses(&self, what: &str, says: &str, act: impl FnOnce(&mut RawPeer)) {
        println!("{what}");
        let mut peer = self.peer();
        act(&mut peer);
        let reason = peer.ending();
        assert_eq!(reason.code, CloseReason::BREACH, "{what}: {reason}");
        assert!(reason.text.contains(says), "{what}: {reason}");
        self.stands();
    }
}

fn message(of: farref::message::Call<'static>) -> Message<'static> {
    Message::Call(of)
}

/// A call of a method that takes one reference.
fn keep(number: u64, descriptor: Descriptor) -> Message<'static> {
    let mut keep = call::<dyn Bench>(number, 0, "keep");
    keep.descriptors = [descriptor].into_iter().collect();
    message(keep)
}

const fn mine(export: u64, object: u64) -> Handed {
    Handed {
        export,
        object,
        interface: <dyn Counter as farref::RemoteTrait>::INTERFACE.id,
    }
}
