//! What a driver takes of memory: each idle connection has one.

use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink};
use farref_transport::memory;

use super::*;
use crate::config::Config;
use crate::connection::Parts;
use crate::native::Native;
use crate::peer::Peer;
use crate::protocol::Outgoing;

#[tokio::test]
async fn the_task_of_a_driver_is_small() {
    let (near, _far) = memory::pair(64);
    let (inlet, outlet, _, guard) = farref_framing::open(near.into(), Role::Listener).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.guard = guard;
    let (config, now) = (Config::default(), clock::now());
    let link = StreamLink::new(LinkConfig::new(Role::Listener, [0; 16], [0; 32]), now);
    let native = Native::<EngineHandles>::new(Box::new(link), &config, Outgoing::Null, now);
    let mut driver = Driver::new(Core::new(native, parts, false, Arc::new(config)), 0);
    let own = size_of_val(&driver);
    let task = own + size_of_val(&driver.drive());
    // An async function in it that awaits another takes 32 more, and the allocator four times that.
    assert!(task <= 264, "{task} bytes, {own} of them its own");
}
