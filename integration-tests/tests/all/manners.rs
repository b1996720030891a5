//! Attributes of methods: how they are run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use farref::{Netref, Result, remote};
use farref_integration_tests::media::{pair, runtime, within};

#[remote]
trait Manners {
    /// Started calls of a blocking method run one after the other.
    fn plain(&self, n: u32) -> Result<usize>;
    #[concurrent]
    fn together(&self) -> Result<()>;
    #[serial]
    async fn alone(&self, n: u32) -> Result<usize>;
    #[one_way]
    fn tell(&self, n: u32) -> Result<()>;
    #[inline]
    fn quick(&self, n: u32) -> Result<u32>;
    #[spawned]
    async fn apart(&self, n: u32) -> Result<u32>;
    fn seen(&self) -> Result<Vec<u32>>;
}

struct Mannered {
    inside: AtomicUsize,
    seen: Mutex<Vec<u32>>,
    barrier: std::sync::Barrier,
}

impl Mannered {
    /// How many were inside at once, this one included.
    fn enter(&self, n: u32) -> usize {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.lock().unwrap().push(n);
        inside
    }
}

#[remote]
impl Manners for Mannered {
    fn plain(&self, n: u32) -> Result<usize> {
        let inside = self.enter(n);
        std::thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(inside)
    }

    fn together(&self) -> Result<()> {
        self.barrier.wait();
        Ok(())
    }

    async fn alone(&self, n: u32) -> Result<usize> {
        let inside = self.enter(n);
        tokio::task::yield_now().await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(inside)
    }

    fn tell(&self, n: u32) -> Result<()> {
        self.seen.lock().unwrap().push(n);
        Ok(())
    }

    fn quick(&self, n: u32) -> Result<u32> {
        Ok(n + 1)
    }

    async fn apart(&self, n: u32) -> Result<u32> {
        Ok(n + 2)
    }

    fn seen(&self) -> Result<Vec<u32>> {
        Ok(self.seen.lock().unwrap().clone())
    }
}

#[test]
fn methods_are_run_as_their_attributes_say() {
    runtime().block_on(async {
        let object = Mannered {
            inside: AtomicUsize::new(0),
            seen: Mutex::default(),
            barrier: std::sync::Barrier::new(2),
        };
        let joined = pair::<dyn Manners>("unix", object).await;
        let far: Netref<dyn Manners> = joined.root().await;

        let started: Vec<_> = (0..50).map(|n| far.call().plain(n).start()).collect();
        for call in started {
            assert_eq!(
                within(call).await.unwrap(),
                1,
                "started calls of a blocking method are alone"
            );
        }
        let started: Vec<_> = (50..100).map(|n| far.call().alone(n).start()).collect();
        for call in started {
            assert_eq!(within(call).await.unwrap(), 1, "serial ones too");
        }
        assert_eq!(
            within(far.call().seen()).await.unwrap(),
            (0..100).collect::<Vec<_>>(),
            "and in order"
        );

        let (one, other) = (far.call().together().start(), far.call().together().start());
        within(one).await.unwrap();
        within(other).await.unwrap();

        within(far.call().tell(100)).await.unwrap();
        assert_eq!(within(far.call().quick(1)).await.unwrap(), 2);
        assert_eq!(within(far.call().apart(1)).await.unwrap(), 3);
        let seen = within(far.call().seen()).await.unwrap();
        assert_eq!(
            seen.last(),
            Some(&100),
            "a call that nobody waits for has its place in the order"
        );
        joined.at_rest().await;
    });
}
