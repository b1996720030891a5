//! Three processes: references that are passed on, and chains of calls that come back.

use std::sync::{Arc, Mutex};

use farref::{Config, Fixed, Netref, Result, Server, ServerLimits, remote, transport::Media};
use farref_integration_tests::bench::{Bench, Count, Counter, Rig};
use farref_integration_tests::media::{pair, pair_with, runtime, within};

#[test]
fn an_object_that_is_handed_on_is_called_in_order_and_comes_home_as_itself() {
    runtime().block_on(async {
        let (a_to_b, b_to_c) = (
            pair::<dyn Bench>("unix", Rig::new().0).await,
            pair::<dyn Bench>("plain+tcp", Rig::new().0).await,
        );
        let (b, c): (Netref<dyn Bench>, Netref<dyn Bench>) = (a_to_b.root().await, b_to_c.root().await);
        // This test is in the middle: it has an object from b, and hands it on to c.
        let counter = within(b.call().counter()).await.unwrap();
        assert_eq!(within(c.call().call_back(counter.clone(), 5)).await.unwrap(), 5);
        assert_eq!(
            within(c.call().call_back_blocking(counter.clone(), 5))
                .await
                .unwrap(),
            10
        );
        assert!(!within(c.call().is_local(counter.clone())).await.unwrap());
        within(c.call().keep(counter.clone())).await.unwrap();
        let back = within(c.call().kept()).await.unwrap().unwrap();
        assert!(
            back.same_object(&counter),
            "what was handed on comes back as what it was"
        );
        assert!(
            within(b.call().is_local(back.clone())).await.unwrap(),
            "and goes home from here"
        );
        drop((back, counter));
        within(c.call().forget()).await.unwrap();
        a_to_b.at_rest().await;
        b_to_c.at_rest().await;
    });
}

/// A corner of the triangle: calls the next one.
#[remote]
trait Corner {
    fn round(&self, left: u32) -> Result<u32>;
    fn join(&self, next: Netref<dyn Corner>) -> Result<()>;
}

#[derive(Default)]
struct Node(Mutex<Option<Netref<dyn Corner>>>);

impl Corner for Node {
    fn round(&self, left: u32) -> Result<u32> {
        let next = self.0.lock().unwrap().clone().unwrap();
        if left == 0 {
            Ok(0)
        } else {
            Ok(1 + next.round(left - 1)?)
        }
    }

    fn join(&self, next: Netref<dyn Corner>) -> Result<()> {
        *self.0.lock().unwrap() = Some(next);
        Ok(())
    }
}

#[test]
fn a_chain_of_blocking_calls_around_a_triangle_needs_one_thread_in_each_pool() {
    let runtime = runtime();
    let nodes: Vec<Arc<Node>> = (0..3).map(|_| Arc::default()).collect();
    let pairs = runtime.block_on(async {
        let mut pairs = Vec::new();
        for node in &nodes {
            let mut config = Config::default();
            config.max_blocking = 1;
            let root: Netref<dyn Corner> = Netref::share(node);
            let server = Server::with(
                Fixed::new::<dyn Corner>(root),
                config,
                ServerLimits::default(),
                Media::standard(),
            );
            pairs.push(pair_with("unix", server).await.unwrap());
        }
        pairs
    });
    let far: Vec<Netref<dyn Corner>> = pairs.iter().map(|pair| runtime.block_on(pair.root())).collect();
    // Each node calls the next one over a connection of its own, so a round crosses all three.
    for (node, next) in nodes.iter().zip(far.iter().cycle().skip(1)) {
        node.join(next.clone()).unwrap();
    }
    let start = far[0].clone();
    let round = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || start.round(30))
        .unwrap();
    let joined = runtime.spawn_blocking(move || round.join().unwrap());
    assert_eq!(runtime.block_on(within(joined)).unwrap().unwrap(), 30);
    for node in &nodes {
        node.0.lock().unwrap().take();
    }
}

#[test]
fn both_ends_may_have_a_root() {
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = within(server.listen("mem:both-ends")).await.unwrap();
        let count: Netref<dyn Counter> = Netref::of(Count::default());
        let client = within(
            farref::connect(address)
                .serving::<dyn Counter>(count)
                .into_future(),
        )
        .await
        .unwrap();
        within(server.wait_for(|stats| stats.connections == 1)).await;
        let host = server.connections().pop().unwrap();
        let root: Netref<dyn Counter> = within(host.root()).await.unwrap();
        assert_eq!(
            within(root.call().next()).await.unwrap(),
            1,
            "the side that accepted calls the side that dialled"
        );
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        assert_eq!(within(bench.call().add(1, 1)).await.unwrap(), 2);
    });
}

use std::future::IntoFuture;
